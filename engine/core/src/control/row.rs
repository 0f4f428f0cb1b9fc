//! One line of a listing, typed.
//!
//! A row holds dates, not waits: smtpctl takes the time once and shows every line against it.

use super::relaying::MtaRow;
use crate::addr::Source;
use crate::envelope::{self, Envelope};
use crate::reply::Status;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One line of `show queue`: its fourteen fields, and what later forms of the listing add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeRow {
    /// The envelope's number.
    pub id: u64,
    /// How the client came.
    pub family: Family,
    /// Who delivers.
    pub agent: Agent,
    /// Marks.
    pub flags: RowFlags,
    /// Return path; empty for the null sender.
    pub sender: String,
    /// Recipient as given.
    pub rcpt: String,
    /// Recipient after expansion.
    pub dest: String,
    /// When it was accepted, in seconds since the epoch.
    pub ctime: u64,
    /// When it expires, in seconds since the epoch.
    pub expiry: u64,
    /// Start of the last attempt that ended, in seconds since the epoch; 0 for never.
    pub last_try: u64,
    /// Temporary failures so far.
    pub retry: u16,
    /// Where the schedule has it.
    pub runstate: Runstate,
    /// Text of the last failure, as received.
    pub errorline: String,
    /// Status of the last failure.
    pub status: Option<StatusCode>,
    /// Tag of the listener, or empty.
    pub tag: String,
}

/// How the client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// Through the daemon itself.
    Local,
    /// Over IPv4.
    Inet4,
    /// Over IPv6.
    Inet6,
}

/// Who delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Agent {
    /// The relaying agent.
    Mta,
    /// The local delivery agent.
    Mda,
    /// The bounce agent.
    Bounce,
}

/// Marks of a row, in the order they are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowFlags {
    /// It is a notice of our bounce agent.
    pub bounce: bool,
    /// The client had authenticated, or submitted locally.
    pub auth: bool,
    /// The destination came from expansion.
    pub internal: bool,
    /// Paused by the administrator.
    pub suspend: bool,
    /// Parked by an agent's limit.
    pub hold: bool,
}

/// Where the schedule has an envelope, as shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runstate {
    /// Waiting.
    Pending {
        /// When it is due, in seconds since the epoch; a date in the past is overdue.
        due: u64,
        /// Whether it is parked by an agent's limit.
        held: bool,
    },
    /// Being delivered.
    Inflight {
        /// When the attempt began, in seconds since the epoch.
        since: u64,
    },
    /// There is no schedule: the daemon is not running.
    Offline,
    /// In the trash.
    Trash {
        /// When it was removed, in seconds since the epoch.
        since: u64,
        /// When it leaves at the latest, in seconds since the epoch; `None` if no daemon is there
        /// to know.
        until: Option<u64>,
    },
}

/// An enhanced status (RFC 3463) as three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCode {
    /// 2, 4 or 5.
    pub class: u8,
    /// What it is about.
    pub subject: u16,
    /// What exactly.
    pub detail: u16,
}

impl EnvelopeRow {
    /// The row of an envelope that is at `runstate`.
    pub fn new(envelope: &Envelope, runstate: Runstate) -> Self {
        let flags = envelope.flags;
        Self {
            id: envelope.id.get(),
            family: envelope.source.into(),
            agent: envelope.agent().into(),
            flags: RowFlags {
                bounce: flags.bounce,
                auth: flags.authenticated || envelope.source == Source::Local,
                internal: flags.internal,
                suspend: flags.suspended,
                hold: matches!(runstate, Runstate::Pending { held: true, .. }),
            },
            sender: envelope.sender.as_str().into(),
            rcpt: envelope.rcpt.as_str().into(),
            dest: envelope.dest.as_str().into(),
            ctime: envelope.ctime.as_secs(),
            expiry: envelope.expiry().as_secs(),
            last_try: envelope.last_try.as_secs(),
            retry: envelope.retry,
            runstate,
            errorline: envelope.errorline.clone().into(),
            status: envelope.status.map(Into::into),
            tag: envelope.tag.clone().into(),
        }
    }

    /// The domain of the recipient after expansion; empty if it has none.
    pub fn domain(&self) -> &str {
        self.dest.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// Octets it may take on the wire, at most.
    fn weight(&self) -> usize {
        // Numbers, enums, flags and the lengths of the texts, each at its longest.
        const FIXED: usize = 128;
        [
            &self.sender,
            &self.rcpt,
            &self.dest,
            &self.errorline,
            &self.tag,
        ]
        .iter()
        .fold(FIXED, |sum, text| sum.saturating_add(text.len()))
    }
}

impl Runstate {
    /// Waiting until `due`.
    pub const fn pending(due: Timestamp) -> Self {
        Self::Pending {
            due: due.as_secs(),
            held: false,
        }
    }

    /// Due at `due` and parked by an agent's limit.
    pub const fn held(due: Timestamp) -> Self {
        Self::Pending {
            due: due.as_secs(),
            held: true,
        }
    }

    /// Being delivered since `since`.
    pub const fn inflight(since: Timestamp) -> Self {
        Self::Inflight {
            since: since.as_secs(),
        }
    }
}

impl From<Source> for Family {
    fn from(source: Source) -> Self {
        match source {
            Source::Local => Self::Local,
            Source::Inet4(_) => Self::Inet4,
            Source::Inet6(_) => Self::Inet6,
        }
    }
}

impl From<envelope::Agent> for Agent {
    fn from(agent: envelope::Agent) -> Self {
        match agent {
            envelope::Agent::Mta => Self::Mta,
            envelope::Agent::Mda => Self::Mda,
            envelope::Agent::Bounce => Self::Bounce,
        }
    }
}

impl From<Status> for StatusCode {
    fn from(status: Status) -> Self {
        Self {
            class: status.class.digit(),
            subject: status.subject,
            detail: status.detail,
        }
    }
}

/// A row that knows how much room it takes.
pub trait Row {
    /// Octets it may take on the wire, at most.
    fn weight(&self) -> usize;
}

impl Row for EnvelopeRow {
    fn weight(&self) -> usize {
        Self::weight(self)
    }
}

impl Row for MtaRow {
    fn weight(&self) -> usize {
        Self::weight(self)
    }
}

/// Cuts a page of rows so that each part fits a frame of `limit` octets as
/// [`Reply::EnvelopeRows`](super::Reply::EnvelopeRows) or
/// [`Reply::MtaRows`](super::Reply::MtaRows).
pub fn chunks<R: Row>(rows: Vec<R>, limit: usize) -> impl Iterator<Item = Vec<R>> {
    // The frame's version, the reply's name and the number of rows.
    const FRAME: usize = 16;
    let mut rows = rows.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut chunk = vec![rows.next()?];
        let mut octets = chunk.iter().map(Row::weight).sum::<usize>();
        octets = octets.saturating_add(FRAME);
        while let Some(row) = rows.next_if(|row| octets.saturating_add(row.weight()) <= limit) {
            octets = octets.saturating_add(row.weight());
            chunk.push(row);
        }
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Reply, frame};

    fn row(id: u64, errorline: usize) -> EnvelopeRow {
        EnvelopeRow {
            id,
            family: Family::Inet4,
            agent: Agent::Mta,
            flags: RowFlags::default(),
            sender: "sender@example.org".into(),
            rcpt: "rcpt@example.org".into(),
            dest: "rcpt@example.org".into(),
            ctime: u64::MAX,
            expiry: u64::MAX,
            last_try: u64::MAX,
            retry: u16::MAX,
            runstate: Runstate::Inflight { since: u64::MAX },
            errorline: "x".repeat(errorline),
            status: Some(StatusCode {
                class: u8::MAX,
                subject: u16::MAX,
                detail: u16::MAX,
            }),
            tag: "tag".into(),
        }
    }

    #[test]
    fn every_chunk_fits_a_frame_and_no_row_is_lost() {
        let limit = 4096;
        for size in [0, 100, 1000, 2047] {
            let rows: Vec<_> = (u64::MAX - 200..u64::MAX).map(|id| row(id, size)).collect();
            let mut seen = Vec::new();
            for chunk in chunks(rows.clone(), limit) {
                let frame = frame::encode(&Reply::EnvelopeRows(chunk.clone()), limit).unwrap();
                assert!(frame.len() * 4 > limit || seen.len() + chunk.len() == rows.len());
                seen.extend(chunk);
            }
            assert!(seen == rows);
        }
        assert_eq!(chunks(Vec::<EnvelopeRow>::new(), limit).count(), 0);
    }
}
