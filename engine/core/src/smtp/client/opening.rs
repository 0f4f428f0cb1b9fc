//! The way of a session from EHLO to the first message: STARTTLS, TLS, EHLO again, AUTH.
//!
//! Promises: nothing that came in clear text before TLS counts afterwards; a relay that requires TLS
//! sends no mail and no password without it; a password is never sent in clear text.

use super::auth::Exchange;
use super::extensions::Extensions;
use super::reply::{Replies, ServerReply};
use super::{Action, Client, State};
use crate::envelope::TlsPolicy;
use crate::reply::Status;
use crate::time::Now;
use bytes::Bytes;

impl Client {
    /// The connection is open: greetings come in clear text, or TLS first.
    pub(super) fn connected(&mut self, now: Now) {
        if matches!(self.params.tls, TlsPolicy::Immediate { .. }) {
            self.secure(now);
        } else {
            self.await_greeting(now);
        }
    }

    fn await_greeting(&mut self, now: Now) {
        self.state = State::Greeting;
        self.wait(now, self.params.limits.reply_timeout);
    }

    /// Whether HELO may follow on a refused EHLO: not where more is needed than it can offer.
    pub(super) fn may_fall_back(&self) -> bool {
        !self.params.lmtp && !self.params.tls.is_required() && self.params.credentials.is_none()
    }

    /// The server has said what it offers.
    pub(super) fn opened(&mut self, now: Now) {
        let policy = self.params.tls;
        let wanted = policy.is_required() || (policy == TlsPolicy::Opportunistic && !self.clear);
        if self.secured || !wanted {
            return self.authenticate(now);
        }
        if self.extensions.start_tls {
            self.send(Bytes::from_static(b"STARTTLS\r\n"));
            self.state = State::StartTls;
            return self.wait(now, self.params.limits.reply_timeout);
        }
        if policy.is_required() {
            let what = "TLS is required, and the server does not offer STARTTLS";
            return self.abandon(self.failure(Status::transient(7, 4), what));
        }
        self.authenticate(now);
    }

    /// The server has answered STARTTLS.
    pub(super) fn start_tls_replied(&mut self, now: Now, reply: &ServerReply) {
        if reply.is_positive() {
            return self.secure(now);
        }
        if self.params.tls.is_required() {
            return self.abandon(reply.failure());
        }
        self.clear = true;
        self.authenticate(now);
    }

    /// Has the driver shake hands. Whatever came behind the go-ahead was not protected and could
    /// be anybody's (RFC 3207 section 6): it is dropped.
    fn secure(&mut self, now: Now) {
        self.replies = Replies::default();
        self.state = State::Securing;
        self.actions.push_back(Action::StartTls);
        self.wait(now, self.params.limits.handshake_timeout);
    }

    /// The handshake has succeeded: what was offered before does not count (RFC 3207 section 4.2).
    pub(super) fn secured(&mut self, now: Now) {
        if !matches!(self.state, State::Securing) {
            return;
        }
        self.secured = true;
        self.replies = Replies::default();
        self.extensions = Extensions::default();
        if matches!(self.params.tls, TlsPolicy::Immediate { .. }) {
            self.await_greeting(now);
        } else {
            self.hello(now, false);
        }
    }

    /// The handshake has failed. Where TLS is a courtesy, mail goes over a new connection in clear
    /// text; the old one is in an unknown state.
    pub(super) fn unsecured(&mut self, why: &str) {
        if !matches!(self.state, State::Securing) {
            return;
        }
        if self.params.tls.is_required() {
            let text = format!("TLS handshake failed: {why}");
            return self.abandon(self.failure(Status::transient(7, 5), &text));
        }
        self.clear = true;
        self.replies = Replies::default();
        self.extensions = Extensions::default();
        self.state = State::Connecting;
        self.deadline = None;
        self.actions.push_back(Action::Reconnect);
    }

    fn authenticate(&mut self, now: Now) {
        let Some(secret) = &self.params.credentials else {
            return self.idle(now);
        };
        if !self.secured {
            let what = "no password is sent without TLS";
            return self.abandon(self.failure(Status::transient(7, 4), what));
        }
        let Some((exchange, command)) = Exchange::begin(secret, &self.extensions) else {
            let what = "the server offers neither AUTH PLAIN nor AUTH LOGIN";
            return self.abandon(self.failure(Status::transient(7, 4), what));
        };
        self.send_hidden(command);
        self.state = State::Authenticating(Box::new(exchange));
        self.wait(now, self.params.limits.reply_timeout);
    }

    /// The server has answered a step of the authentication.
    pub(super) fn auth_replied(&mut self, now: Now, reply: &ServerReply) {
        if reply.is_positive() {
            return self.idle(now);
        }
        if !reply.is_intermediate() {
            return self.abandon(reply.failure());
        }
        let State::Authenticating(exchange) = &mut self.state else {
            return;
        };
        let challenge = reply.lines().next().unwrap_or_default();
        let Some(response) = exchange.respond(challenge) else {
            let what = "authentication: the server asks for more than there is to say";
            return self.abandon(self.failure(Status::transient(5, 0), what));
        };
        self.send_hidden(response);
        self.wait(now, self.params.limits.reply_timeout);
    }
}
