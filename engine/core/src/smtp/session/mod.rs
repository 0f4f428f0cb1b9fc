//! The server side of an SMTP connection (RFC 5321) as a machine.
//!
//! What: octets in, replies and transactions out. Commands and their answers are in `commands`,
//! BDAT in `chunks`, STARTTLS and AUTH in `security`, the text of refusals in `replies`.
//! Promises: however the stream is cut, the outcome is the same; a message is acknowledged after
//! [`Event::Committed`] and never before; a refused command leaves everything as it was; after
//! [`Action::Close`] nothing follows; what is held in memory is bounded by the limits.
//! Absent on purpose: sockets, DNS, rules, the store, the handshake of TLS, who knows which
//! password. They are actions, answered by events. Filters are not part of it.
//! Fails: never. A peer's mistake is a reply; a failure of ours arrives as one.
//!
//! A driver should offer [`Event::Received`] only while [`Session::wants_input`] says so.

mod chunks;
mod commands;
mod interface;
mod replies;
mod security;
mod trace;
mod transaction;

use super::data::Data;
use super::lines::{self, Cut};
use super::sasl::Exchange;
use super::transcript::Transcript;
use crate::addr::Address;
use crate::id::EnvelopeId;
use crate::limits::Limits;
use crate::machine::Machine;
use crate::queue::Message;
use crate::reply::Reply;
use crate::rng::Rng;
use crate::time::Now;
use bytes::{Bytes, BytesMut};
use chunks::{Chunk, Stray};
pub use interface::{
    Action, Content, Ending, Event, Incoming, Note, Params, Recipient, Settings, Starttls, Verdict,
};
pub(super) use security::Offer;
pub use security::{Auth, AuthResult};
use std::collections::VecDeque;
use std::mem;
use std::time::Instant;
use trace::Greeting;
use transaction::{Mail, Rcpt, Transaction};

/// The server side of one connection.
pub struct Session {
    params: Params,
    rng: Rng,
    phase: Phase,
    greeting: Option<Greeting>,
    /// Octets nothing has been made of yet.
    input: Bytes,
    /// Replies not handed out yet.
    output: BytesMut,
    actions: VecDeque<Action>,
    /// The line that is being answered.
    command: Bytes,
    errors: usize,
    auth_failures: usize,
    mails: usize,
    /// Pieces handed to the temporary file and not acknowledged.
    spooling: usize,
    /// A chunk was refused, and only chunks have followed.
    spoiled: bool,
    stopping: bool,
    /// When the wait for the client began.
    waiting_since: Instant,
    /// When the line began whose end is missing.
    line_since: Option<Instant>,
    transcript: Transcript,
}

/// Where a session is.
enum Phase {
    /// Between transactions.
    Idle,
    /// MAIL waits for a message-id.
    Reserving(Mail),
    /// A transaction is open.
    Open(Transaction),
    /// RCPT waits for its expansion.
    Expanding(Transaction, Rcpt),
    /// STARTTLS waits for the handshake.
    Handshake,
    /// AUTH waits for the client's answer to a challenge.
    Exchange(Box<Exchange>),
    /// AUTH of this user waits for a verdict.
    Checking(Box<str>),
    /// It was wrong, which the client learns at this time.
    HoldingBack(Instant),
    /// The message is arriving, by DATA.
    Data(Box<Arriving>),
    /// A chunk of it is arriving, by BDAT.
    Chunk(Box<Arriving>, Chunk),
    /// More chunks of it are to come.
    Chunks(Box<Arriving>),
    /// A chunk is arriving that belongs to no message.
    Stray(Box<Stray>),
    /// It is here, and the temporary file is being written.
    Spooling(Transaction, Message),
    /// It is being made durable.
    Committing(Box<Pending>),
    /// It is over.
    Closed,
}

/// A message that is arriving.
struct Arriving {
    transaction: Transaction,
    data: Data,
    since: Instant,
}

/// What there will be to say when a message is durable.
struct Pending {
    message: Message,
    recipients: usize,
    sender: Address,
    envelopes: Vec<(EnvelopeId, Address)>,
    /// The client went away meanwhile.
    alone: bool,
}

impl Session {
    /// A session that begins with our banner.
    pub fn new(mut params: Params, now: Now) -> Self {
        if !lines::is_hostname(&params.rdns) {
            params.rdns = "<unknown>".into();
        }
        let mut session = Self {
            rng: Rng::new(params.seed),
            phase: Phase::Idle,
            greeting: None,
            input: Bytes::new(),
            output: BytesMut::new(),
            actions: VecDeque::new(),
            command: Bytes::new(),
            errors: 0,
            auth_failures: 0,
            mails: 0,
            spooling: 0,
            spoiled: false,
            stopping: false,
            waiting_since: now.mono,
            line_since: None,
            transcript: Transcript::default(),
            params,
        };
        let settings = &session.params.settings;
        let banner = format!("220 {} ESMTP {}\r\n", settings.hostname, settings.software);
        session.output.extend_from_slice(banner.as_bytes());
        if let Some(tls) = session.params.tls.clone() {
            session.actions.push_back(Action::Log(Note::Tls(tls)));
        }
        session.flush();
        session
    }

    /// The number it was given.
    pub fn number(&self) -> u64 {
        self.params.number
    }

    /// What the client calls itself; empty before HELO or EHLO.
    pub fn helo(&self) -> &str {
        self.greeting.as_ref().map_or("", |greeting| &greeting.helo)
    }

    /// What was said, for whoever traces it. Our replies are in [`Action::Send`].
    pub fn transcript(&mut self) -> &mut Transcript {
        &mut self.transcript
    }

    /// Whether the driver should read from the client. While an answer is awaited, one command
    /// buffer worth of pipelined input is enough; while a message arrives, the temporary file
    /// must keep up.
    pub fn wants_input(&self) -> bool {
        match self.phase {
            Phase::Idle | Phase::Open(_) | Phase::Exchange(_) | Phase::Stray(_) => true,
            Phase::Data(_) | Phase::Chunk(..) | Phase::Chunks(_) => self.spooling < 2,
            // What comes now is for the handshake.
            Phase::Handshake | Phase::Closed => false,
            _ => self.input.len() < self.limits().command_line,
        }
    }

    fn limits(&self) -> &Limits {
        &self.params.settings.limits
    }

    /// Appends octets to the input.
    fn receive(&mut self, octets: Bytes) {
        if self.input.is_empty() {
            self.input = octets;
        } else {
            let mut joined = BytesMut::with_capacity(self.input.len() + octets.len());
            joined.extend_from_slice(&self.input);
            joined.extend_from_slice(&octets);
            self.input = joined.freeze();
        }
    }

    /// Makes what can be made of the input, until it is used up or an answer is needed.
    fn run(&mut self, now: Now) {
        loop {
            match &self.phase {
                Phase::Idle | Phase::Open(_) | Phase::Exchange(_) if self.stopping => {
                    self.end(&replies::stopping(), Ending::Stopping);
                }
                Phase::Idle | Phase::Open(_) | Phase::Exchange(_) | Phase::Chunks(_) => {
                    if !self.read_line(now) {
                        break;
                    }
                }
                Phase::Data(_) if !self.input.is_empty() => self.arrive(now),
                Phase::Chunk(..) | Phase::Stray(_) => {
                    if !self.read_chunk(now) {
                        break;
                    }
                }
                _ => break,
            }
        }
        if matches!(
            self.phase,
            Phase::Idle
                | Phase::Open(_)
                | Phase::Exchange(_)
                | Phase::Data(_)
                | Phase::Chunk(..)
                | Phase::Chunks(_)
                | Phase::Stray(_)
        ) {
            self.flush();
        }
    }

    /// Takes a line off the input, if there is a whole one, and acts upon it.
    fn read_line(&mut self, now: Now) -> bool {
        let exchange = matches!(self.phase, Phase::Exchange(_));
        let limits = self.limits();
        let limit = if exchange {
            limits.auth_line
        } else {
            limits.command_line
        };
        match lines::cut(&mut self.input, limit) {
            Cut::Line(line) => {
                self.line_since = None;
                self.waiting_since = now.mono;
                self.transcript.client(&line);
                match mem::replace(&mut self.phase, Phase::Idle) {
                    Phase::Exchange(exchange) => self.respond(*exchange, &line),
                    phase => {
                        self.phase = phase;
                        self.command = line;
                        self.obey(now);
                    }
                }
            }
            Cut::Bare(line) => {
                self.transcript.client(&line);
                if exchange {
                    self.phase = Phase::Idle;
                } else {
                    self.command = lines::loggable(line.clone(), self.offer().auth);
                }
                self.refuse(replies::bare_lf());
                if !exchange {
                    self.beware_of_chunk(&line);
                }
            }
            Cut::TooLong => {
                self.refuse(replies::line_too_long());
                self.close(Ending::Error);
            }
            Cut::Partial => {
                let begun = !self.input.is_empty();
                self.line_since = begun.then(|| self.line_since.unwrap_or(now.mono));
                return false;
            }
        }
        true
    }

    /// Takes content off the input.
    fn arrive(&mut self, now: Now) {
        let Phase::Data(arriving) = &mut self.phase else {
            return;
        };
        let limits = &self.params.settings.limits;
        let before = self.input.len();
        let ended = arriving.data.ingest(&mut self.input, limits);
        self.transcript
            .content(before.saturating_sub(self.input.len()));
        if let Some(piece) = arriving.data.piece(limits) {
            self.spooling += 1;
            self.actions.push_back(Action::Spool(piece));
        }
        self.waiting_since = now.mono;
        if ended && let Phase::Data(arriving) = mem::replace(&mut self.phase, Phase::Idle) {
            self.dot(now, *arriving);
        }
    }

    /// Sends what there is to send.
    fn flush(&mut self) {
        if !self.output.is_empty() {
            let replies = self.output.split().freeze();
            self.actions.push_back(Action::Send(replies));
        }
    }

    /// Gives a positive reply.
    fn say(&mut self, line: &str) {
        self.transcript.judged(&self.command, true);
        if line.starts_with("334") {
            self.transcript.answered(334);
        }
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        self.command = Bytes::new();
    }

    /// Gives a reply that is not positive, which may end the session.
    fn refuse(&mut self, reply: Reply) {
        let mut reply = reply;
        self.errors += usize::from(reply.is_permanent());
        if self.errors > self.limits().errors_per_session {
            reply = replies::too_many_errors();
        }
        let ends = reply.code() == 421;
        self.transcript.judged(&self.command, false);
        self.write(&reply);
        let command = mem::take(&mut self.command);
        let command = self.transcript.loggable(command);
        self.actions
            .push_back(Action::Log(Note::FailedCommand { command, reply }));
        if ends {
            self.close(Ending::Error);
        }
    }

    fn write(&mut self, reply: &Reply) {
        let mut line = Vec::with_capacity(128);
        reply.write(&mut line);
        self.transcript.answered(reply.code());
        self.output.extend_from_slice(&line);
    }

    /// Says that the session is over, and ends it.
    fn end(&mut self, reply: &Reply, ending: Ending) {
        self.write(reply);
        self.close(ending);
    }

    /// Ends the session, once.
    fn close(&mut self, ending: Ending) {
        let transaction = match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Open(transaction)
            | Phase::Expanding(transaction, _)
            | Phase::Spooling(transaction, _) => Some(transaction),
            Phase::Data(arriving) | Phase::Chunk(arriving, _) | Phase::Chunks(arriving) => {
                Some(arriving.transaction)
            }
            Phase::Closed => return,
            Phase::Idle
            | Phase::Stray(_)
            | Phase::Handshake
            | Phase::Exchange(_)
            | Phase::Checking(_)
            | Phase::HoldingBack(_)
            | Phase::Reserving(_)
            | Phase::Committing(_) => None,
        };
        if let Some(transaction) = transaction {
            self.actions.push_back(Action::Discard(transaction.message));
        }
        self.flush();
        self.input = Bytes::new();
        self.command = Bytes::new();
        self.actions.push_back(Action::Close(ending));
    }
}

impl Machine for Session {
    type Event = Event;
    type Action = Action;

    fn handle(&mut self, now: Now, event: Event) {
        match (mem::replace(&mut self.phase, Phase::Closed), event) {
            (Phase::Closed, _) => return,
            (Phase::Reserving(mail), Event::Reserved(message)) => self.open(message, mail),
            (Phase::Reserving(_), Event::ReserveFailed(reply)) => {
                self.phase = Phase::Idle;
                self.refuse(reply);
            }
            (Phase::Expanding(transaction, rcpt), Event::Expanded(result)) => {
                self.expanded(transaction, rcpt, result);
            }
            (Phase::Handshake, Event::Secured(tls)) => self.secured(now, tls),
            // In clear, behind STARTTLS: whoever reads it here would take it for TLS later.
            (Phase::Handshake, Event::Received(_)) => {
                self.phase = Phase::Handshake;
                self.close(Ending::Error);
            }
            (Phase::Checking(username), Event::Authenticated(verdict)) => {
                self.phase = Phase::Idle;
                self.checked(now, username, verdict);
            }
            (Phase::HoldingBack(until), Event::TimedOut) if until <= now.mono => {
                self.phase = Phase::Idle;
                self.waiting_since = now.mono;
                self.turn_away();
            }
            (Phase::Committing(pending), Event::Committed) => self.committed(*pending),
            (Phase::Committing(pending), Event::CommitFailed(reply)) => {
                self.commit_failed(&pending, reply);
            }
            (Phase::Committing(mut pending), Event::Closed) => {
                pending.alone = true;
                self.phase = Phase::Committing(pending);
            }
            (phase, Event::Received(octets)) => {
                self.phase = phase;
                self.receive(octets);
            }
            (phase, Event::Spooled) => {
                self.phase = phase;
                self.spooled(None);
            }
            (phase, Event::SpoolFailed(reply)) => {
                self.phase = phase;
                self.spooled(Some(reply));
            }
            (phase, Event::Closed) => {
                self.phase = phase;
                self.output.clear();
                self.close(Ending::Disconnected);
            }
            (phase, Event::TimedOut) => {
                self.phase = phase;
                if self.deadline().is_some_and(|deadline| deadline <= now.mono) {
                    self.end(&replies::timeout(), Ending::Timeout);
                }
            }
            (phase, Event::Stopping) => {
                self.phase = phase;
                self.stopping = true;
            }
            // An answer nobody waits for.
            (phase, _) => self.phase = phase,
        }
        self.run(now);
    }

    fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        let limits = self.limits();
        let idle = self.waiting_since.checked_add(limits.session_timeout);
        let step = self
            .line_since
            .map_or(idle, |since| since.checked_add(limits.command_timeout));
        let whole = |begun: Instant, step: Option<Instant>| {
            let whole = begun.checked_add(limits.data_timeout);
            whole.into_iter().chain(step).min()
        };
        match &self.phase {
            Phase::Idle | Phase::Open(_) | Phase::Exchange(_) => step,
            Phase::HoldingBack(until) => Some(*until),
            Phase::Data(arriving) | Phase::Chunk(arriving, _) => whole(arriving.since, idle),
            Phase::Chunks(arriving) => whole(arriving.since, step),
            Phase::Stray(stray) => whole(stray.since, idle),
            _ => None,
        }
    }
}
