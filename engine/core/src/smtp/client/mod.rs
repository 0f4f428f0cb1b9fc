//! An outgoing SMTP or LMTP session: one connection, many transactions.
//!
//! Promises: every assigned transaction comes back as exactly one outcome per recipient; only a
//! 2xx reply to the final dot, or to the last chunk, is success; the connection ends with exactly one `Close`; no line
//! break of a peer or of an address ever ends up in a command.
//! Absent on purpose: sockets, DNS, the store, the choice of what to send next, the handshake of
//! TLS and what certificates prove.
//! Fails: never. What the peer does wrong is a temporary failure, with the connection closed.

mod attempt;
mod auth;
mod chunks;
mod command;
mod extensions;
mod opening;
mod pump;
mod reply;

pub use self::auth::Hidden;

use self::attempt::{Attempt, Step};
use self::auth::Exchange;
use self::extensions::Extensions;
use self::reply::{Replies, ServerReply, clip};
use super::Transaction;
use super::transcript::Transcript;
use crate::config::table::Secret;
use crate::envelope::TlsPolicy;
use crate::id::{EnvelopeId, MessageId};
use crate::limits::MtaLimits;
use crate::machine::Machine;
use crate::queue::{Failure, Outcome};
use crate::reply::Status;
use crate::time::Now;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an outgoing session needs to know from the start.
#[derive(Clone, Debug)]
pub struct Params {
    /// Our name for EHLO. Only its visible ASCII characters are used, so that it cannot end the
    /// command early.
    pub helo: Box<str>,
    /// Whether the peer speaks LMTP (RFC 2033) instead of SMTP.
    pub lmtp: bool,
    /// What the connection must be.
    pub tls: TlsPolicy,
    /// What to authenticate with, if the relay does; needs TLS.
    pub credentials: Option<Secret>,
    /// Bounds and waits.
    pub limits: Arc<MtaLimits>,
    /// The peer as our own failure texts name it, such as `192.0.2.1 (mx.example.net)`.
    pub peer: Box<str>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The connection is open.
    Connected,
    /// The peer sent something. How it is cut makes no difference.
    Received(Bytes),
    /// The answer to [`Action::StartTls`]: the handshake has succeeded, and with it what the policy
    /// asks of the certificate.
    Secured,
    /// The answer to [`Action::StartTls`]: the handshake has failed for this reason.
    Unsecured(Box<str>),
    /// The next message to send; only after [`Action::Ready`], else it fails for now.
    Assigned(Transaction),
    /// The answer to [`Action::ReadBody`]: content in CR LF form without dot-stuffing, cut
    /// anywhere.
    Body {
        /// The piece; may be empty.
        bytes: Bytes,
        /// Whether it is the last one. The index asked for next is one higher otherwise.
        last: bool,
    },
    /// The content could not be read.
    BodyFailed(Failure),
    /// The peer closed the connection, or the socket failed with this text.
    Closed(Option<Box<str>>),
    /// End the session after the transaction at hand, if there is one.
    QuitRequested,
    /// The deadline has passed.
    TimedOut,
}

/// What to do, in order. A piece is asked for only behind the `Send` of the one before, so a
/// driver that carries out one action after the other holds one piece at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write to the peer.
    Send(Bytes),
    /// Write something secret to the peer.
    SendHidden(Hidden),
    /// Shake hands for TLS, dropping what was received and not handed over yet; answered with
    /// [`Event::Secured`] or [`Event::Unsecured`].
    StartTls,
    /// Close the connection and make a new one to the same peer; answered with
    /// [`Event::Connected`] or [`Event::Closed`].
    Reconnect,
    /// Read a piece of a message's content, counted from 0; answered with [`Event::Body`] or
    /// [`Event::BodyFailed`].
    ReadBody(MessageId, u32),
    /// The session can take a transaction.
    Ready,
    /// The server refused MAIL for now: it wants no mail, whoever the recipients are.
    Troubled(Failure),
    /// A transaction has ended, like this for each of its recipients.
    Attempted(Vec<(EnvelopeId, Outcome)>),
    /// The session is over: close the connection. The failure says why, unless it was our QUIT.
    Close(Option<Failure>),
}

/// An outgoing SMTP or LMTP session; see the [module](self).
#[derive(Debug)]
pub struct Client {
    params: Params,
    state: State,
    replies: Replies,
    extensions: Extensions,
    actions: VecDeque<Action>,
    deadline: Option<Instant>,
    /// The connection has TLS.
    secured: bool,
    /// TLS was tried and does not work with this peer.
    clear: bool,
    /// QUIT as soon as no transaction is at hand.
    quitting: bool,
    /// Messages sent.
    messages: usize,
    /// Transactions since one had success.
    fruitless: usize,
    /// Recipients refused in a row.
    refused: usize,
    transcript: Transcript,
}

/// Said of octets that can be no reply to anything.
const UNEXPECTED: &str = "unexpected input";

#[derive(Debug)]
enum State {
    /// The driver is connecting.
    Connecting,
    /// Waiting for the peer's first words.
    Greeting,
    /// Waiting for the reply to EHLO or LHLO, or to HELO.
    Hello { fallback: bool },
    /// Waiting for the reply to STARTTLS.
    StartTls,
    /// The driver is shaking hands.
    Securing,
    /// Waiting for the reply to a step of AUTH.
    Authenticating(Box<Exchange>),
    /// Between transactions.
    Ready,
    /// In a transaction.
    Transaction(Box<Attempt>),
    /// Waiting for the reply to RSET.
    Resetting,
    /// Waiting for the reply to QUIT.
    Quitting,
    /// Over.
    Closed,
}

impl Client {
    /// A session whose connection is being made.
    pub fn new(params: Params) -> Self {
        Self {
            params,
            state: State::Connecting,
            replies: Replies::default(),
            extensions: Extensions::default(),
            actions: VecDeque::new(),
            deadline: None,
            secured: false,
            clear: false,
            quitting: false,
            messages: 0,
            fruitless: 0,
            refused: 0,
            transcript: Transcript::default(),
        }
    }

    /// What was said, for whoever traces it.
    pub fn transcript(&mut self) -> &mut Transcript {
        &mut self.transcript
    }

    fn received(&mut self, now: Now, mut bytes: &[u8]) {
        while !bytes.is_empty() && !matches!(self.state, State::Closed | State::Securing) {
            let outstanding = self.outstanding();
            match self.replies.receive(&mut bytes, &self.params.limits) {
                Ok(Some(reply)) => {
                    self.transcript.server(reply.code(), || reply.octets());
                    if outstanding == 0 {
                        return self.unsolicited(&reply);
                    }
                    self.replied(now, &reply);
                }
                Ok(None) => {
                    if outstanding == 0 {
                        // Nobody asked, but what has begun must end.
                        self.wait(now, self.params.limits.reply_timeout);
                    }
                    return;
                }
                Err(malformed) => {
                    return self.lose(Status::transient(5, 0), &malformed.to_string());
                }
            }
            // This came before the peer can have seen what was sent just now: no reply to it.
            if outstanding == 1 && !bytes.is_empty() && self.outstanding() > 0 {
                return self.lose(Status::transient(5, 0), UNEXPECTED);
            }
        }
    }

    /// Replies the peer owes us.
    fn outstanding(&self) -> usize {
        match &self.state {
            State::Connecting | State::Securing | State::Ready | State::Closed => 0,
            State::Transaction(attempt) => attempt.outstanding(),
            State::Greeting
            | State::Hello { .. }
            | State::StartTls
            | State::Authenticating(_)
            | State::Resetting
            | State::Quitting => 1,
        }
    }

    /// A server may say 421 at any time; whatever else nobody asked for is a fault.
    fn unsolicited(&mut self, reply: &ServerReply) {
        if reply.code() == 421 {
            return self.abandon(reply.failure());
        }
        let text = format!("unexpected reply: {}", reply.text());
        self.lose(Status::transient(5, 0), &text);
    }

    fn replied(&mut self, now: Now, reply: &ServerReply) {
        let fall_back = self.may_fall_back();
        let farewell = reply.code() == 421 && !matches!(self.state, State::Quitting);
        match &mut self.state {
            _ if farewell => self.abandon(reply.failure()),
            State::Greeting if reply.is_positive() => self.hello(now, false),
            State::Hello { fallback } if reply.is_positive() => {
                if !*fallback {
                    self.extensions = Extensions::read(reply);
                }
                self.opened(now);
            }
            State::Hello { fallback: false } if fall_back => self.hello(now, true),
            State::StartTls => self.start_tls_replied(now, reply),
            State::Authenticating(_) => self.auth_replied(now, reply),
            State::Transaction(attempt) => {
                if attempt.is_turned_away(reply) {
                    self.actions.push_back(Action::Troubled(reply.failure()));
                }
                let step = attempt.replied(reply);
                self.advance(now, step);
            }
            State::Resetting if reply.is_positive() => self.idle(now),
            State::Quitting => self.close(None),
            State::Greeting | State::Hello { .. } | State::Resetting => {
                self.abandon(reply.failure());
            }
            State::Connecting | State::Securing | State::Ready | State::Closed => {}
        }
    }

    fn hello(&mut self, now: Now, fallback: bool) {
        let verb = match (self.params.lmtp, fallback) {
            (true, _) => "LHLO",
            (false, false) => "EHLO",
            (false, true) => "HELO",
        };
        self.send(command::hello(verb, &self.params.helo));
        self.state = State::Hello { fallback };
        self.wait(now, self.params.limits.reply_timeout);
    }

    /// Nothing is at hand: take a transaction, or leave.
    fn idle(&mut self, now: Now) {
        let limits = &self.params.limits;
        if self.quitting
            || self.messages >= limits.mails_per_session
            || self.fruitless >= limits.tries_per_session
            || self.refused >= limits.failures_per_session
        {
            return self.quit(now);
        }
        self.state = State::Ready;
        self.deadline = None;
        self.actions.push_back(Action::Ready);
    }

    fn quit(&mut self, now: Now) {
        self.send(Bytes::from_static(b"QUIT\r\n"));
        self.state = State::Quitting;
        self.wait(now, self.params.limits.quit_timeout);
    }

    fn assigned(&mut self, now: Now, transaction: Transaction) {
        if !matches!(self.state, State::Ready) {
            let failure = self.failure(Status::transient(3, 0), "session takes no message now");
            let mut attempt = self.attempt(transaction);
            attempt.decide_open(&Outcome::TempFail(failure));
            return self
                .actions
                .push_back(Action::Attempted(attempt.into_outcomes()));
        }
        let mut attempt = self.attempt(transaction);
        let step = attempt.begin();
        self.state = State::Transaction(Box::new(attempt));
        if self.replies.is_begun() {
            return self.lose(Status::transient(5, 0), UNEXPECTED);
        }
        self.advance(now, step);
    }

    fn attempt(&self, transaction: Transaction) -> Attempt {
        Attempt::new(
            transaction,
            &self.extensions,
            self.params.lmtp,
            self.refused,
            Arc::clone(&self.params.limits),
        )
    }

    /// Does what the transaction at hand needs next.
    fn advance(&mut self, now: Now, step: Step) {
        let State::Transaction(attempt) = &mut self.state else {
            return;
        };
        let mut wait = self.params.limits.reply_timeout;
        match step {
            Step::Wait if attempt.is_sent() => wait = self.params.limits.dot_timeout,
            Step::Wait => {}
            Step::Commands(commands) => self.send(commands),
            Step::Content(message, index) => {
                self.actions.push_back(Action::ReadBody(message, index));
            }
            Step::Held => {
                if let Some((bytes, last)) = attempt.take_held() {
                    self.body(now, bytes, last);
                }
                return;
            }
            Step::Violation(what) => return self.lose(Status::transient(5, 0), what),
            Step::Unused => {
                self.finish();
                return self.idle(now);
            }
            Step::Sent => {
                self.tally();
                self.messages = self.messages.saturating_add(1);
                self.finish();
                return self.idle(now);
            }
            Step::Refused => {
                self.tally();
                self.finish();
                return self.reset(now);
            }
        }
        self.wait(now, wait);
    }

    /// Carries the transaction's count of refusals and success over to the session.
    fn tally(&mut self) {
        if let State::Transaction(attempt) = &self.state {
            self.refused = attempt.refused();
            self.fruitless = if attempt.has_success() {
                0
            } else {
                self.fruitless.saturating_add(1)
            };
        }
    }

    /// Hands the outcomes of the transaction at hand out.
    fn finish(&mut self) {
        if let State::Transaction(attempt) = std::mem::replace(&mut self.state, State::Ready) {
            self.extensions.chunking = attempt.knows_chunks();
            self.actions
                .push_back(Action::Attempted(attempt.into_outcomes()));
        }
    }

    /// Clears the refused transaction at the server, unless we leave anyway.
    fn reset(&mut self, now: Now) {
        let limits = &self.params.limits;
        if self.quitting
            || self.fruitless >= limits.tries_per_session
            || self.refused >= limits.failures_per_session
        {
            return self.quit(now);
        }
        self.send(Bytes::from_static(b"RSET\r\n"));
        self.state = State::Resetting;
        self.wait(now, self.params.limits.reply_timeout);
    }

    fn body(&mut self, now: Now, bytes: Bytes, last: bool) {
        let State::Transaction(attempt) = &mut self.state else {
            return;
        };
        if !attempt.is_reading() {
            return;
        }
        if attempt.outstanding() == 0 && self.replies.is_begun() {
            return self.lose(Status::transient(5, 0), UNEXPECTED);
        }
        let chunks = attempt.writes_chunks();
        if !chunks && !attempt.is_undecided() {
            self.transcript.content(bytes.len());
        }
        match attempt.content(bytes, last) {
            Ok((pieces, step)) => {
                for piece in pieces {
                    if chunks {
                        self.note_chunk(&piece);
                    }
                    self.actions.push_back(Action::Send(piece));
                }
                self.advance(now, step);
            }
            Err(unclean) => {
                let failure = Failure::new(Status::permanent(6, 0), unclean.to_string());
                attempt.decide_open(&Outcome::PermFail(failure.clone()));
                self.abandon(failure);
            }
        }
    }

    fn note_chunk(&mut self, chunk: &[u8]) {
        let mut parts = chunk.splitn(2, |octet| *octet == b'\n');
        let (command, content) = (parts.next(), parts.next());
        self.transcript
            .client(command.unwrap_or_default().trim_ascii_end());
        self.transcript.content(content.map_or(0, <[u8]>::len));
    }

    fn body_failed(&mut self, failure: Failure) {
        if let State::Transaction(attempt) = &self.state
            && attempt.is_reading()
        {
            // There is no way to take DATA back but to leave before the final dot; after chunks it
            // is the simplest one.
            self.abandon(failure);
        }
    }

    /// Ends the session because of something that is not a reply; says so if the message may have
    /// arrived all the same (rule D2).
    fn lose(&mut self, status: Status, what: &str) {
        let mut text = String::from(what);
        if let Some(awaited) = self.awaited() {
            text = format!("{text} while waiting for {awaited}");
        }
        if let State::Transaction(attempt) = &self.state
            && attempt.is_sent()
        {
            text.push_str(": the message may have been delivered");
        }
        self.abandon(self.failure(status, &text));
    }

    /// What the peer owes us next.
    fn awaited(&self) -> Option<&'static str> {
        match &self.state {
            State::Connecting | State::Securing | State::Ready | State::Closed => None,
            State::Greeting => Some("the greeting"),
            State::Hello { fallback: true } => Some("the reply to HELO"),
            State::Hello { .. } if self.params.lmtp => Some("the reply to LHLO"),
            State::Hello { .. } => Some("the reply to EHLO"),
            State::StartTls => Some("the reply to STARTTLS"),
            State::Authenticating(_) => Some("the reply to AUTH"),
            State::Transaction(attempt) => attempt.awaited(),
            State::Resetting => Some("the reply to RSET"),
            State::Quitting => Some("the reply to QUIT"),
        }
    }

    /// A failure in our own words.
    fn failure(&self, status: Status, what: &str) -> Failure {
        Failure::new(status, clip(&format!("{}: {what}", self.params.peer)))
    }

    /// Ends the session; what is undecided failed for now.
    fn abandon(&mut self, failure: Failure) {
        if let State::Transaction(attempt) = &mut self.state {
            attempt.decide_open(&Outcome::TempFail(failure.clone()));
            self.finish();
        }
        self.close(Some(failure));
    }

    fn close(&mut self, failure: Option<Failure>) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.deadline = None;
            self.actions.push_back(Action::Close(failure));
        }
    }

    fn closed(&mut self, why: Option<&str>) {
        if matches!(self.state, State::Quitting) {
            return self.close(None);
        }
        let text = why.unwrap_or("connection closed by the peer");
        if matches!(self.state, State::Securing) {
            return self.unsecured(text);
        }
        self.lose(Status::transient(4, 2), text);
    }

    fn timed_out(&mut self, now: Now) {
        if self.deadline.is_none_or(|deadline| now.mono < deadline) {
            return;
        }
        if matches!(self.state, State::Quitting) {
            return self.close(None);
        }
        if matches!(self.state, State::Securing) {
            return self.unsecured("timed out");
        }
        self.lose(Status::transient(4, 2), "timed out");
    }

    fn quit_requested(&mut self, now: Now) {
        self.quitting = true;
        match self.state {
            State::Ready => self.quit(now),
            State::Connecting => self.close(None),
            _ => {}
        }
    }

    /// Sends what a trace must not show.
    fn send_hidden(&mut self, hidden: Hidden) {
        self.transcript.client(hidden.reveal().trim_ascii_end());
        self.actions.push_back(Action::SendHidden(hidden));
    }

    fn send(&mut self, bytes: Bytes) {
        for line in bytes.split_inclusive(|octet| *octet == b'\n') {
            if line.ends_with(b"\n") {
                self.transcript.client(line.trim_ascii_end());
            } else {
                // What follows on the last command is content.
                self.transcript.content(line.len());
            }
        }
        self.actions.push_back(Action::Send(bytes));
    }

    fn wait(&mut self, now: Now, wait: Duration) {
        self.deadline = now.mono.checked_add(wait);
    }
}

impl Machine for Client {
    type Event = Event;
    type Action = Action;

    fn handle(&mut self, now: Now, event: Event) {
        match event {
            Event::Connected if matches!(self.state, State::Connecting) => self.connected(now),
            Event::Connected => {}
            Event::Secured => self.secured(now),
            Event::Unsecured(why) => self.unsecured(&why),
            Event::Received(bytes) => self.received(now, &bytes),
            Event::Assigned(transaction) => self.assigned(now, transaction),
            Event::Body { bytes, last } => self.body(now, bytes, last),
            Event::BodyFailed(failure) => self.body_failed(failure),
            Event::Closed(why) => self.closed(why.as_deref()),
            Event::QuitRequested => self.quit_requested(now),
            Event::TimedOut => self.timed_out(now),
        }
    }

    fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}
