//! What `smtpd` and `smtpctl` say to each other over the control socket.
//!
//! What: requests, replies, their rows and their frames; and where socket and spool lie.
//! Promises: these types are written for the wire alone, so a change of a domain type cannot
//! change what is spoken; ids are numbers, dates are seconds since the epoch. Every request gets
//! its replies in order, on one connection, before the next request is looked at.
//! Absent on purpose: sockets, the peer's authority (the daemon asks the kernel), and text for
//! people (smtpctl renders).
//! Fails: ids that cannot exist are refused when they are turned into domain ids.

mod census;
mod explain;
pub mod frame;
mod listing;
pub mod paths;
mod record;
mod relaying;
mod rights;
mod row;
mod selection;
mod status;
pub mod submission;
mod topic;
mod uncorrupt;

pub use census::{Census, Tally};
pub use explain::{AttemptRow, BarredRow, Explanation, Limit, LimitRow, Place, ViaRow};
pub use listing::Listing;
pub use record::{BounceKind, DeliveryRecord, EnvelopeRecord, NotifyRow};
pub use relaying::{
    ConnectorFlag, ConnectorRow, HostRow, HostStatRow, MtaListing, MtaRow, RelayRow, RelayWait,
    RouteRow, SecurityRow,
};
pub use rights::{Right, Standing};
pub use row::{Agent, EnvelopeRow, Family, Row, RowFlags, Runstate, StatusCode, chunks};
pub use selection::{
    AddressPattern, Age, ErrorPattern, InvalidPattern, NamePattern, Selection, State,
};
pub use status::{OpeningRow, QueueState, SpaceRow, StatusRow};
pub use topic::{ProfileTopic, TraceTopic};
pub use uncorrupt::uncorrupted;

use crate::id::{EnvelopeId, InvalidId, MessageId};
use crate::queue;
use crate::stats;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What smtpctl wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The listing. [`Reply::EnvelopeRows`] in order of ids and [`Reply::Damaged`] among them, then
    /// [`Reply::End`]; or [`Reply::Unknown`].
    ShowQueue(Selector),
    /// One envelope, by its number. [`Reply::EnvelopeRecord`] or [`Reply::Unknown`].
    ShowEnvelope(u64),
    /// The content of a message, by its number. [`Reply::Piece`]s, then [`Reply::End`]; or
    /// [`Reply::Unknown`].
    ShowMessage(u32),
    /// Which subsystems are paused. [`Reply::Status`].
    ShowStatus,
    /// The counters. [`Reply::Stats`].
    ShowStats,
    /// Make envelopes due now. [`Reply::Working`] while it takes, then
    /// [`Reply::Affected`] or [`Reply::Unknown`].
    Schedule(Selector),
    /// Take envelopes out of the queue. [`Reply::Working`] while it takes, then
    /// [`Reply::Affected`] or [`Reply::Unknown`].
    /// Take envelopes out of the queue and into the trash, if there is one; a message named by its
    /// number leaves the corrupt bucket for good. [`Reply::Working`] while it takes, then
    /// [`Reply::Affected`]; or [`Reply::Unknown`].
    Remove(Selector),
    /// Pause or resume envelopes; those already so do not count. [`Reply::Working`] while it takes,
    /// then [`Reply::Affected`] or [`Reply::Unknown`].
    Suspend {
        /// Which envelopes.
        selector: Selector,
        /// Pause or resume.
        suspended: bool,
    },
    /// Pause or resume a subsystem. [`Reply::Done`], or [`Reply::Fail`] if it is so already.
    Pause {
        /// Which subsystem.
        subsystem: Subsystem,
        /// Pause or resume.
        paused: bool,
    },
    /// The numbers of `monitor`, once; smtpctl asks again for every line. [`Reply::Digest`].
    Monitor,
    /// Set how much is logged. [`Reply::Done`].
    Log {
        /// Verbose or brief.
        verbose: bool,
    },
    /// The verb for those envelopes of the selector that fit. [`Reply::Working`] while it takes,
    /// then [`Reply::Affected`], or [`Reply::Census`] if nothing is to be done; or
    /// [`Reply::Unknown`].
    Select {
        /// What to do.
        verb: Verb,
        /// Among which envelopes.
        selector: Selector,
        /// With which of them.
        selection: Box<Selection>,
        /// Say what would be hit, and do nothing.
        dry_run: bool,
    },
    /// A listing of the relaying agent. [`Reply::MtaRows`], then [`Reply::End`].
    ShowMta(MtaListing),
    /// Forget the penalties of a route, by its number. [`Reply::Done`], or [`Reply::Fail`] if there
    /// is none.
    ResumeRoute(u64),
    /// Send no more mail from a local address to a domain, or do so again. [`Reply::Done`], or
    /// [`Reply::Fail`] if it is so already.
    Block {
        /// Local address; the unspecified one is the system's choice.
        source: IpAddr,
        /// Domain, or the name of a smart host; `*` is any.
        domain: String,
        /// Pause or resume.
        blocked: bool,
    },
    /// Where an envelope is, by its number, and what it waits for. [`Reply::Explanation`] or
    /// [`Reply::Unknown`].
    Explain(u64),
    /// Make the schedule notice envelopes of the store it does not know; for all, parked messages
    /// are picked up, too. [`Reply::Working`] while it takes, then [`Reply::Affected`] or
    /// [`Reply::Unknown`].
    Discover(Selector),
    /// Anybody's: hand the connection over to an SMTP session. [`Reply::Done`], behind which SMTP
    /// is spoken.
    Submit,
    /// Log what a subsystem does, or stop that. [`Reply::Done`].
    Trace {
        /// Which subsystem.
        topic: TraceTopic,
        /// Begin or stop.
        on: bool,
    },
    /// Log how long things take, or stop that. [`Reply::Done`].
    Profile {
        /// Which things.
        topic: ProfileTopic,
        /// Begin or stop.
        on: bool,
    },
    /// Read a table of smtpd.conf(5) again, by its name. [`Reply::Done`], or [`Reply::Fail`] with
    /// file, line and reason; the old contents stay then.
    UpdateTable(String),
    /// Bring a message back from the corrupt bucket, by its number, if it proves sound.
    /// [`Reply::Done`], or [`Reply::Fail`]; see [`uncorrupted`].
    Uncorrupt(u32),
    /// Take envelopes out of the queue, the trash and, by a message's number, the corrupt bucket, for
    /// good. [`Reply::Affected`] or [`Reply::Unknown`].
    RemoveNow(Selector),
    /// The trash, as [`ShowQueue`](Self::ShowQueue) gives the queue.
    ShowTrash(Selector),
    /// Bring envelopes back from the trash. [`Reply::Working`] while it takes, then
    /// [`Reply::Affected`], or [`Reply::Census`] if nothing is to be done; or [`Reply::Unknown`].
    Undo {
        /// Which envelopes.
        selector: Selector,
        /// Only those that were removed last, at one time.
        last: bool,
        /// Say what would come back, and do nothing.
        dry_run: bool,
    },
}

/// What can be done to envelopes that are selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// As [`Request::Schedule`].
    Schedule,
    /// As [`Request::Remove`].
    Remove,
    /// Pause, as [`Request::Suspend`].
    Suspend,
    /// Resume, as [`Request::Suspend`].
    Resume,
    /// As [`Request::RemoveNow`].
    RemoveNow,
}

/// What smtpd answers. Any request may also get [`Denied`](Reply::Denied) or
/// [`Fail`](Reply::Fail), which end the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Part of a listing, in order of ids; see [`chunks`].
    EnvelopeRows(Vec<EnvelopeRow>),
    /// A message of a listing that could not be read; the listing goes on.
    Damaged {
        /// The message's number.
        message: u32,
        /// What was found.
        reason: String,
    },
    /// A whole envelope.
    EnvelopeRecord(Box<EnvelopeRecord>),
    /// Part of a message's content, in CR LF form.
    Piece(Vec<u8>),
    /// The end of a listing or content.
    End,
    /// Which subsystems are paused.
    Status(StatusRow),
    /// The counters that have changed since the start.
    Stats {
        /// Seconds since the start.
        uptime: u64,
        /// Keys and values, in order of the keys.
        rows: Vec<(String, i64)>,
    },
    /// The numbers of `monitor`: totals since the start.
    Digest(DigestRow),
    /// So many envelopes were changed.
    Affected {
        /// How many, those in flight included.
        count: u64,
        /// How many of them are being delivered right now, so that the running attempt still
        /// counts.
        inflight: u64,
    },
    /// It is done.
    Done,
    /// The id in the request names nothing that is queued.
    Unknown,
    /// The peer's user may not do this.
    Denied(Lack),
    /// It could not be done.
    Fail {
        /// Why, for people: lower case, no full stop.
        reason: String,
    },
    /// What would be hit.
    Census(Box<Census>),
    /// It takes a while; the answer is still to come.
    Working,
    /// Part of a listing of the relaying agent; see [`chunks`].
    MtaRows(Vec<MtaRow>),
    /// Where an envelope is, and what it waits for.
    Explanation(Box<Explanation>),
}

/// The right that a user lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// Whose request it was, as the kernel says.
    pub uid: u32,
    /// What the request needs.
    pub right: Right,
    /// The user besides root who has it, if that is another one.
    pub owner: Option<u32>,
    /// The group whose members may look, if one is configured.
    pub operators: Option<String>,
}

impl Reply {
    /// Whether the answer to a request ends with this reply.
    pub const fn is_last(&self) -> bool {
        !matches!(
            self,
            Self::EnvelopeRows(_)
                | Self::Damaged { .. }
                | Self::Piece(_)
                | Self::Working
                | Self::MtaRows(_)
        )
    }
}

/// What a verb applies to, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selector {
    /// Everything queued.
    All,
    /// The envelopes of one message.
    Message(u32),
    /// One envelope.
    Envelope(u64),
}

impl TryFrom<Selector> for queue::Selector {
    type Error = InvalidId;

    fn try_from(selector: Selector) -> Result<Self, InvalidId> {
        match selector {
            Selector::All => Ok(Self::All),
            Selector::Message(id) => MessageId::new(id).map(Self::Message).ok_or(InvalidId),
            Selector::Envelope(id) => EnvelopeId::new(id).map(Self::Envelope).ok_or(InvalidId),
        }
    }
}

impl From<queue::Selector> for Selector {
    fn from(selector: queue::Selector) -> Self {
        match selector {
            queue::Selector::All => Self::All,
            queue::Selector::Message(id) => Self::Message(id.get()),
            queue::Selector::Envelope(id) => Self::Envelope(id.get()),
        }
    }
}

/// What can be paused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subsystem {
    /// Local delivery.
    Mda,
    /// Relaying.
    Mta,
    /// Taking mail over SMTP.
    Smtp,
}

impl Subsystem {
    /// The word of the command line and of `show status`, in lower case.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mda => "mda",
            Self::Mta => "mta",
            Self::Smtp => "smtp",
        }
    }
}

/// The numbers of `monitor`: totals since the start of the daemon (see [`stats::Digest`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of stats::Digest")]
pub struct DigestRow {
    pub clients_connected: u64,
    pub clients_disconnected: u64,
    pub enqueued: u64,
    pub dequeued: u64,
    pub ok: u64,
    pub tempfail: u64,
    pub permfail: u64,
    pub loops: u64,
    pub expired: u64,
    pub removed: u64,
    pub bounce: u64,
}

impl From<stats::Digest> for DigestRow {
    fn from(digest: stats::Digest) -> Self {
        Self {
            clients_connected: digest.clients_connected,
            clients_disconnected: digest.clients_disconnected,
            enqueued: digest.enqueued,
            dequeued: digest.dequeued,
            ok: digest.ok,
            tempfail: digest.tempfail,
            permfail: digest.permfail,
            loops: digest.loops,
            expired: digest.expired,
            removed: digest.removed,
            bounce: digest.bounce,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_cannot_exist_are_refused() {
        for bad in [
            Selector::Message(0),
            Selector::Envelope(0),
            Selector::Envelope(0x1dc5_3ae5),
            Selector::Envelope(0x1dc5_3ae5_0000_0000),
        ] {
            assert_eq!(queue::Selector::try_from(bad), Err(InvalidId), "{bad:?}");
        }
    }

    #[test]
    fn selectors_survive_the_way_there() {
        for selector in [
            queue::Selector::All,
            queue::Selector::Message("8d3f01aa".parse().unwrap()),
            queue::Selector::Envelope("8d3f01aa00000001".parse().unwrap()),
        ] {
            let wire = Selector::from(selector);
            assert_eq!(queue::Selector::try_from(wire), Ok(selector));
        }
    }
}
