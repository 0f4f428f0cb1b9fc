//! The schedule, the relays, the local deliveries and the bounces as one machine.
//!
//! What: decides which envelope is tried when, by whom, over which connection, and what becomes
//! of it.
//! Promises: at most one attempt per envelope at a time; nothing before it is due but by
//! `schedule`; every envelope handed to an agent comes back as a settlement; no new attempt while
//! settlements cannot be recorded.
//! Absent on purpose: sockets, DNS, processes, the store. They are actions, answered by events.

mod attempts;
mod bounces;
mod departing;
mod explain;
mod listing;
mod run;
mod settling;
#[cfg(test)]
pub(crate) mod tests;
mod trash;

pub use crate::mta::{
    Content, Exchange, Flag, HostRow, HostStat, Lookup, QueryId, RelayRow, Resolution, Route,
    RouteId, SessionId, Sources, Unresolved, Via,
};
pub use crate::scheduler::{Phase, Runstate, Step};
pub use run::Engine;

use crate::envelope::{Envelope, Relay};
use crate::id::EnvelopeId;
use crate::queue::{Failure, Outcome, Scheduled, Settlement, TrashState};
use crate::smtp::Transaction;
use crate::time::Timestamp;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Envelopes are durable and queued: after a submission, or found at start.
    Queued(Vec<Scheduled>),
    /// The envelopes asked for with [`Action::Load`].
    Loaded(Vec<(EnvelopeId, Loaded)>),
    /// The settlements of these envelopes are durable.
    Settled(Vec<EnvelopeId>),
    /// The store cannot record anything now: start no attempt.
    StoreFailed,
    /// The store records again.
    StoreRecovered,
    /// The answer to [`Action::Resolve`].
    Resolved {
        /// Which question.
        query: QueryId,
        /// Where to deliver.
        answer: Result<Resolution, Unresolved>,
    },
    /// An outgoing session is connected; comes before anything else of it, and again if it had to
    /// connect anew.
    Connected {
        /// Which session.
        session: SessionId,
        /// The local address that is used.
        source: IpAddr,
    },
    /// An outgoing session has TLS; comes before it is ready.
    Secured {
        /// Which session.
        session: SessionId,
        /// Version, cipher suite, bits, and whether the certificate is valid, joined by colons.
        tls: Box<str>,
    },
    /// An outgoing session can take a transaction: after the greeting, or after another one.
    Ready(SessionId),
    /// An outgoing session has finished a transaction, or gave up with these recipients undone.
    Attempted {
        /// Which session.
        session: SessionId,
        /// How it ended, for every recipient of the transaction.
        outcomes: Vec<(EnvelopeId, Outcome)>,
    },
    /// The host of an outgoing session wants no mail for now: it refused MAIL. Comes before the
    /// outcomes of that transaction.
    Troubled {
        /// Which session.
        session: SessionId,
        /// What it said.
        failure: Failure,
    },
    /// An outgoing session is over. Comes once per [`Action::Connect`], after all `Attempted`.
    Disconnected {
        /// Which session.
        session: SessionId,
        /// Why, unless it was by our own QUIT.
        failure: Option<Failure>,
    },
    /// A local delivery is over.
    Ran {
        /// Which envelope.
        envelope: EnvelopeId,
        /// How it ended.
        outcome: Outcome,
    },
    /// A notice was made, or could not be.
    Notified {
        /// The bounce envelopes it reported.
        reported: Vec<EnvelopeId>,
        /// On success the envelopes are gone already; else they are tried again later.
        result: Result<(), Failure>,
    },
    /// The trash was looked at, or has changed; `None` if it could not be read or changed.
    Trash(Option<Weighed>),
    /// The daemon is stopping: start no attempt, let the running ones end.
    Stopping,
    /// The deadline has passed.
    TimedOut,
}

/// The trash and the room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weighed {
    /// What it holds.
    pub state: TrashState,
    /// Octets of the file system of the spool, used ones included.
    pub disk: u64,
    /// Whether space is so short that new mail waits.
    pub short: bool,
}

/// An envelope read back for delivery.
#[derive(Debug)]
pub enum Loaded {
    /// Here it is.
    Envelope(Box<Envelope>, Content),
    /// It was removed meanwhile, or set aside with its damaged message.
    Gone,
    /// It could not be read now.
    Unavailable(Failure),
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Read these envelopes; answered with [`Event::Loaded`].
    Load(Vec<EnvelopeId>),
    /// Record these results in one transition; answered with [`Event::Settled`].
    Settle(Vec<Settlement>),
    /// Ask the DNS.
    Resolve {
        /// Number for the answer.
        query: QueryId,
        /// Domain or host name.
        name: Box<str>,
        /// What is wanted.
        lookup: Lookup,
    },
    /// Open an outgoing session.
    Connect {
        /// Number for the events.
        session: SessionId,
        /// Local address; `None` if the system chooses.
        source: Option<IpAddr>,
        /// Where to.
        target: SocketAddr,
        /// Name of the host, for the log.
        host: Box<str>,
        /// Whose limits hold: the domain, or the smart host's name.
        domain: Box<str>,
        /// Protocol and names to use.
        relay: Arc<Relay>,
    },
    /// Send a message over a session that is ready.
    Transfer {
        /// Which session.
        session: SessionId,
        /// What to send.
        transaction: Transaction,
    },
    /// End a session that is ready.
    Quit(SessionId),
    /// Run the local delivery of an envelope; answered with [`Event::Ran`].
    Deliver(Box<Envelope>),
    /// Tell the sender of these bounce envelopes, which are all of one message and kind, in one
    /// notice; answered with [`Event::Notified`].
    Notify(Vec<Envelope>),
    /// Look at the trash; answered with [`Event::Trash`].
    Weigh,
    /// Drop a step of what was removed then or before for good, and look at the trash; answered with
    /// [`Event::Trash`].
    Purge {
        /// When.
        until: Timestamp,
    },
    /// Write a log line.
    Log(Note),
}

/// Something worth a line in the log.
#[derive(Debug)]
pub enum Note {
    /// An attempt ended (spec/smtpd.md Appendix C, `mta delivery` and `mda delivery`).
    Delivery {
        /// The envelope as it was tried.
        envelope: Box<Envelope>,
        /// What it was sent over, for relayed mail that came to a session.
        via: Option<Via>,
        /// Time since it was accepted.
        delay: Duration,
        /// How it ended.
        outcome: Outcome,
    },
    /// An envelope expired.
    Expired(Box<Envelope>),
    /// A notice about a notice was dropped.
    DoubleBounce(Box<Envelope>),
    /// The wall clock was set.
    ClockSet(Step),
}
