//! STARTTLS (RFC 3207) and AUTH (RFC 4954): who may go on, and over what.
//!
//! Promises: nothing that was said in clear counts once TLS is up, and what came behind STARTTLS
//! ends the session; credentials are taken over TLS only, reach no log, and are checked one pair
//! at a time; a session ends after a few wrong ones.

use super::{Action, Ending, Note, Phase, Session, Settings, Starttls, Verdict, replies};
use crate::reply::Reply;
use crate::smtp::Tls;
use crate::smtp::sasl::{Exchange, Fault, Step};
use crate::time::Now;
use bytes::Bytes;
use std::time::Duration;

/// What the client has to have done before MAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Authenticate: there is no way.
    Absent,
    /// It may authenticate; `auth-optional`.
    Optional,
    /// It must; `auth`.
    Required,
}

/// What is offered to a client, which depends on what it has done so far.
#[derive(Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) starttls: bool,
    /// Whether AUTH can be had: its parameter of MAIL is understood.
    pub(crate) auth: bool,
    /// Whether AUTH still makes sense.
    pub(crate) auth_open: bool,
}

/// How the log names what came of AUTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthResult {
    /// The credentials were right.
    Ok,
    /// They were not.
    Refused,
    /// They could not be checked.
    Failed,
}

impl AuthResult {
    /// The word of the log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "permfail",
            Self::Failed => "tempfail",
        }
    }
}

impl Session {
    /// What may be said now.
    pub(super) fn offer(&self) -> Offer<'_> {
        let settings = &*self.params.settings;
        let secure = self.params.tls.is_some();
        let auth = secure && settings.auth != Auth::Absent;
        Offer {
            settings,
            starttls: !secure && settings.starttls != Starttls::Absent,
            auth,
            auth_open: auth && !self.params.authenticated,
        }
    }

    /// Says why MAIL must wait, if it must.
    pub(super) fn admits(&self) -> Result<(), Reply> {
        let settings = &self.params.settings;
        if settings.starttls == Starttls::Required && self.params.tls.is_none() {
            return Err(replies::tls_required());
        }
        if settings.auth == Auth::Required && !self.params.authenticated {
            return Err(replies::auth_required());
        }
        Ok(())
    }

    pub(super) fn starttls(&mut self, argument: &str) -> Result<(), Reply> {
        if self.params.tls.is_some() {
            return Err(replies::already_secure());
        }
        if self.params.settings.starttls == Starttls::Absent {
            return Err(replies::not_offered());
        }
        if self.greeting.is_none() || !matches!(self.phase, Phase::Idle) {
            return Err(replies::not_now());
        }
        if !argument.is_empty() {
            return Err(replies::no_argument());
        }
        if !self.input.is_empty() {
            // Somebody on the way may have put it there (RFC 3207 section 6).
            self.refuse(replies::behind_starttls());
            self.close(Ending::Error);
            return Ok(());
        }
        self.say("220 2.0.0 Ready to start TLS");
        self.flush();
        self.phase = Phase::Handshake;
        self.actions.push_back(Action::StartTls);
        Ok(())
    }

    /// TLS is up: all that was said before is forgotten (RFC 3207 section 4.2).
    pub(super) fn secured(&mut self, now: Now, tls: Tls) {
        self.phase = Phase::Idle;
        self.greeting = None;
        self.input = Bytes::new();
        self.waiting_since = now.mono;
        self.line_since = None;
        self.actions.push_back(Action::Log(Note::Tls(tls.clone())));
        self.params.tls = Some(tls);
    }

    pub(super) fn auth(&mut self, argument: &str) -> Result<(), Reply> {
        let settings = &self.params.settings;
        if settings.auth == Auth::Absent {
            return Err(replies::not_offered());
        }
        if self.greeting.is_none() || !matches!(self.phase, Phase::Idle) {
            return Err(replies::not_now());
        }
        if self.params.authenticated {
            return Err(replies::already_authenticated());
        }
        if self.params.tls.is_none() {
            return Err(replies::auth_needs_tls());
        }
        let (mechanism, initial) = match argument.split_once(' ') {
            Some((mechanism, initial)) => (mechanism, Some(initial.trim_matches(' '))),
            None if argument.is_empty() => return Err(replies::argument_needed()),
            None => (argument, None),
        };
        let mut exchange = Exchange::new(mechanism).ok_or_else(replies::unknown_mechanism)?;
        let limits = settings.limits.clone();
        let step = exchange.start(initial, &limits);
        self.proceed(exchange, step)
    }

    /// A line that answers a challenge.
    pub(super) fn respond(&mut self, mut exchange: Exchange, line: &[u8]) {
        self.command = Bytes::from_static(b"AUTH");
        let result = if line == b"*" {
            Err(replies::auth_cancelled())
        } else {
            let limits = self.params.settings.limits.clone();
            let step = exchange.respond(line, &limits);
            self.proceed(exchange, step)
        };
        if let Err(reply) = result {
            self.refuse(reply);
        }
    }

    fn proceed(&mut self, exchange: Exchange, step: Result<Step, Fault>) -> Result<(), Reply> {
        match step {
            Ok(Step::Challenge(text)) => {
                self.phase = Phase::Exchange(Box::new(exchange));
                self.say(&format!("334 {text}"));
                Ok(())
            }
            Ok(Step::Complete(credentials)) => {
                self.phase = Phase::Checking(credentials.username.clone());
                self.actions.push_back(Action::Authenticate(credentials));
                Ok(())
            }
            Err(Fault::Encoding) => Err(replies::not_base64()),
            Err(Fault::Message) => Err(replies::auth_syntax()),
            Err(Fault::Proxy) => Err(replies::auth_failed()),
        }
    }

    /// The credentials have been checked; the phase is idle by then.
    pub(super) fn checked(&mut self, now: Now, username: Box<str>, verdict: Verdict) {
        self.command = Bytes::from_static(b"AUTH");
        self.waiting_since = now.mono;
        match verdict {
            Verdict::Known => {
                self.note_auth(&username, AuthResult::Ok);
                self.params.authenticated = true;
                self.params.username = username;
                self.say("235 2.7.0 Authentication succeeded");
            }
            Verdict::Unknown { wait } => {
                self.note_auth(&username, AuthResult::Refused);
                self.hold_back(now, wait);
            }
            Verdict::Failed(reply) => {
                self.note_auth(&username, AuthResult::Failed);
                self.refuse(reply);
            }
        }
    }

    fn note_auth(&mut self, username: &str, result: AuthResult) {
        self.actions.push_back(Action::Log(Note::Authentication {
            username: username.into(),
            result,
        }));
    }

    /// Keeps a refusal back for a while: whoever guesses is to wait.
    fn hold_back(&mut self, now: Now, wait: Duration) {
        match now.mono.checked_add(wait) {
            Some(until) if !wait.is_zero() => self.phase = Phase::HoldingBack(until),
            _ => self.turn_away(),
        }
    }

    /// Says that the credentials were wrong. The phase is idle by then.
    pub(super) fn turn_away(&mut self) {
        self.command = Bytes::from_static(b"AUTH");
        self.auth_failures += 1;
        self.refuse(replies::auth_failed());
        if self.auth_failures >= self.limits().auth_failures {
            self.close(Ending::Error);
        }
    }

    /// Whether the client is known, and as whom: by AUTH, or because it came through the socket.
    pub fn user(&self) -> Option<&str> {
        self.params.authenticated.then_some(&*self.params.username)
    }

    /// Whether the client speaks TLS with us.
    pub fn is_secure(&self) -> bool {
        self.params.tls.is_some()
    }
}
