//! What a session is told, and what it asks for: its settings, its events and its actions.

use super::security::{Auth, AuthResult};
use crate::addr::{Address, Source};
use crate::envelope::{Delivery, Envelope};
use crate::id::{EnvelopeId, MessageId};
use crate::limits::Limits;
use crate::queue::Message;
use crate::reply::Reply;
use crate::smtp::{Credentials, Tls};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// What all sessions of a listener have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Every bound.
    pub limits: Arc<Limits>,
    /// Our name: in the banner, in trace fields, and for addresses without a domain.
    pub hostname: Box<str>,
    /// Name of the software: in the banner and in trace fields.
    pub software: Box<str>,
    /// Whether DSN (RFC 3461) is offered; `no-dsn` turns it off.
    pub dsn: bool,
    /// Whether trace fields keep the client to themselves; `mask-src`.
    pub mask_source: bool,
    /// Whether TLS can be begun with STARTTLS.
    pub starttls: Starttls,
    /// Whether clients can authenticate; they can over TLS alone.
    pub auth: Auth,
    /// Whether trace fields of TLS sessions say who has authenticated; `received-auth`.
    pub received_auth: bool,
}

/// Whether a listener has STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starttls {
    /// No: it has no TLS, or had it from the first octet.
    Absent,
    /// Clients may use it; `tls`.
    Offered,
    /// They must, before MAIL; `tls-require`.
    Required,
}

/// What is known of a connection when it begins.
#[derive(Clone, Debug)]
pub struct Params {
    /// What the listener says.
    pub settings: Arc<Settings>,
    /// Tag of the listener, or empty.
    pub tag: Box<str>,
    /// The client's address.
    pub source: Source,
    /// The client's name from reverse DNS; anything that is no host name becomes `<unknown>`.
    pub rdns: Box<str>,
    /// Whether it came through a loopback address or the control socket: messages are completed.
    pub local: bool,
    /// What TLS there is, if it was there before the first octet; `smtps`.
    pub tls: Option<Tls>,
    /// Whether the client is known to us, as on the control socket.
    pub authenticated: bool,
    /// Who it is, or empty.
    pub username: Box<str>,
    /// Number of the session, as the log shows it.
    pub number: u64,
    /// Seed of everything random.
    pub seed: u64,
}

/// One delivery a recipient leads to.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// Where to, after expansion.
    pub dest: Address,
    /// Name of the action that was chosen.
    pub action: Box<str>,
    /// Who delivers, and how.
    pub delivery: Delivery,
    /// Lifetime of the envelope.
    pub ttl: Duration,
    /// Whether `dest` came from expansion.
    pub internal: bool,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Octets from the client; any number.
    Received(Bytes),
    /// The answer to [`Action::Reserve`].
    Reserved(MessageId),
    /// There is no message-id to be had; 421 ends the session.
    ReserveFailed(Reply),
    /// The answer to [`Action::Expand`]: where the recipient leads, or why it is refused. A
    /// refusal with 421 ends the session.
    Expanded(Result<Vec<Recipient>, Reply>),
    /// One [`Action::Spool`] is written.
    Spooled,
    /// One [`Action::Spool`] could not be written.
    SpoolFailed(Reply),
    /// The answer to [`Action::StartTls`]; where the handshake fails, the connection is
    /// [`Event::Closed`].
    Secured(Tls),
    /// The answer to [`Action::Authenticate`].
    Authenticated(Verdict),
    /// The message of [`Action::Commit`] is durable.
    Committed,
    /// It is not, and will not be; 421 ends the session.
    CommitFailed(Reply),
    /// The client is gone.
    Closed,
    /// The deadline has passed.
    TimedOut,
    /// The daemon is stopping: no more transactions. A message that is arriving may finish.
    Stopping,
}

/// What came of [`Action::Authenticate`].
#[derive(Debug)]
pub enum Verdict {
    /// The credentials are right.
    Known,
    /// They are not, or there is no such user; the reply is held back for the time given.
    Unknown {
        /// How long.
        wait: Duration,
    },
    /// It cannot be said now.
    Failed(Reply),
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Send to the client.
    Send(Bytes),
    /// When all is sent, begin TLS as the server. Nothing that arrived in clear may be offered
    /// afterwards.
    StartTls,
    /// Find out whether a user and a password belong together.
    Authenticate(Credentials),
    /// Find a message-id nobody uses, and room for a message.
    Reserve {
        /// Octets it will have, as far as the client says (SIZE, RFC 1870); else 0.
        octets: u64,
    },
    /// Find out where a recipient leads.
    Expand {
        /// Return path.
        sender: Address,
        /// Recipient; not null.
        rcpt: Address,
    },
    /// Append to the temporary file of the transaction; answered, in order, with
    /// [`Event::Spooled`] or [`Event::SpoolFailed`].
    Spool(Bytes),
    /// Make a message durable. The temporary file goes along.
    Commit(Box<Incoming>),
    /// The transaction is over without a message: drop its temporary file and its id.
    Discard(MessageId),
    /// Write a log line.
    Log(Note),
    /// Close the connection, when all is sent.
    Close(Ending),
}

/// A message that was taken.
#[derive(Debug)]
pub struct Incoming {
    /// Facts about it.
    pub message: Message,
    /// At least one.
    pub envelopes: Vec<Envelope>,
    /// Its content.
    pub content: Content,
}

/// Content of an [`Incoming`] message, trace field included.
#[derive(Debug)]
pub enum Content {
    /// All of it.
    Whole(Bytes),
    /// It is the temporary file, from its beginning to its end.
    Spooled,
}

/// Something worth a line in the log (spec/smtpd.md Appendix C).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// `smtp message`: a message is durable.
    Message {
        /// Its number.
        message: MessageId,
        /// Octets.
        size: u64,
        /// Recipients accepted.
        recipients: usize,
        /// Whether the client said EHLO.
        extended: bool,
    },
    /// `smtp envelope`: one of its envelopes.
    Envelope {
        /// Its number.
        envelope: EnvelopeId,
        /// Return path.
        sender: Address,
        /// Destination.
        dest: Address,
    },
    /// `smtp tls`: TLS is up.
    Tls(Tls),
    /// `smtp authentication`: a client has said who it is.
    Authentication {
        /// The name it gave; without control characters.
        username: Box<str>,
        /// What came of it.
        result: AuthResult,
    },
    /// `smtp failed-command`: a command was refused.
    FailedCommand {
        /// The line as received, without credentials; any octets. Without what may be a
        /// password.
        command: Bytes,
        /// What we said.
        reply: Reply,
    },
}

/// Why a session ended; the `reason` of `smtp disconnected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// QUIT.
    Quit,
    /// The client went away.
    Disconnected,
    /// The client was too slow.
    Timeout,
    /// We are stopping.
    Stopping,
    /// We refused to go on.
    Error,
}

impl Ending {
    /// The word of the log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::Disconnected => "disconnected",
            Self::Timeout => "timeout",
            Self::Stopping => "stopping",
            Self::Error => "error",
        }
    }
}
