//! The queue as transitions: what a store must do, whatever it is made of.
//!
//! Promises every store gives: a [`Transition`] is atomic; once its receipt is handed out it
//! survives a crash; no read gives data whose proof fails. An envelope exists if and only if its
//! message does, and the message's body with it; the last envelope takes the message along.
//! Absent on purpose: rows, files and transactions (those are the store's own affair), clocks
//! (dates come with the transitions), and the assumption of being the only process.
//! Fails: with [`StoreError`]; after one, a store refuses writes until it is reopened.

use crate::envelope::codec::Fixed;
use crate::envelope::{Agent, DecodeError, Envelope, Flags, Via};
use crate::id::{EnvelopeId, Epoch, MessageId};
use crate::reply::Status;
use crate::space::Space;
use crate::time::Timestamp;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What enters the queue: a message, its content, and one envelope per recipient.
#[derive(Debug)]
pub struct Submission {
    /// Facts about the message.
    pub message: Message,
    /// Content in CR LF form, without dot-stuffing, trace fields included.
    pub body: Body,
    /// At least one; all of this message.
    pub envelopes: Vec<Envelope>,
}

/// Facts about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number.
    pub id: MessageId,
    /// Octets of its content; what is stored is counted by the store.
    pub size: u64,
    /// When it was accepted.
    pub ctime: Timestamp,
    /// Whether the content holds octets above 127 (BODY=8BITMIME, RFC 6152).
    pub eight_bit: bool,
    /// Whether its header section needs SMTPUTF8 (RFC 6531): it came with that word, and holds
    /// octets above 127. What addresses need is seen from the envelopes; header fields inside of
    /// the body are not looked for.
    pub utf8: bool,
}

/// Content on its way into the store.
pub enum Body {
    /// All of it, in memory.
    Whole(Bytes),
    /// Too large for memory: read in pieces, once, from the start.
    Pieces(Box<dyn Pieces>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole({} octets)", bytes.len()),
            Self::Pieces(_) => f.write_str("Pieces"),
        }
    }
}

/// Content that is read in pieces.
pub trait Pieces: Send {
    /// The next piece, not empty; `None` at the end. An error abandons the submission.
    fn next(&mut self) -> Result<Option<Bytes>, StoreError>;

    /// Octets of the pieces still to come, at least: so much space is set apart for them.
    fn length(&self) -> u64;
}

/// What a delivery attempt leaves behind for one envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which envelope.
    pub envelope: EnvelopeId,
    /// What happens to it.
    pub change: Change,
    /// A report to the sender, created in the same transaction: an envelope with a
    /// [`Bounce`](crate::envelope::Bounce) delivery and a new id of the same message.
    pub bounce: Option<Box<Envelope>>,
}

/// What happens to a settled envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is done: delivered, failed or expired. The last one takes the message along.
    Done,
    /// It failed for now and stays. If it has failed as often before, this is recorded already, or
    /// no more than a notice: then only `warned` counts.
    Retry {
        /// Temporary failures so far, this one included.
        retry: u16,
        /// When the attempt began.
        last_try: Timestamp,
        /// Status of the failure, if known.
        status: Option<Status>,
        /// Text of the failure.
        errorline: Box<str>,
        /// What the attempt went over, if it came to a session.
        via: Option<Box<Via>>,
        /// When the last delay notice was made, if one is made now.
        warned: Option<Timestamp>,
    },
}

/// What an administrator's verb applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// One envelope.
    Envelope(EnvelopeId),
    /// All envelopes of one message.
    Message(MessageId),
    /// Everything queued.
    All,
}

impl Selector {
    /// Whether an envelope is meant.
    pub fn matches(self, envelope: EnvelopeId) -> bool {
        match self {
            Self::Envelope(id) => id == envelope,
            Self::Message(message) => message == envelope.message(),
            Self::All => true,
        }
    }

    /// The envelope-ids meant, as one range of keys.
    pub fn range(self) -> RangeInclusive<EnvelopeId> {
        match self {
            Self::Envelope(id) => id..=id,
            Self::Message(message) => message.envelopes(),
            Self::All => {
                let first = MessageId::MIN.envelopes();
                *first.start()..=*MessageId::MAX.envelopes().end()
            }
        }
    }
}

/// The first so many envelopes of a selection, in order of ids: a large selection is changed step by
/// step, each behind the last one of the step before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Of these envelopes.
    pub selector: Selector,
    /// Only those behind this one.
    pub after: Option<EnvelopeId>,
    /// No more than this.
    pub most: usize,
}

impl Span {
    /// All envelopes of a selection.
    pub fn all(selector: Selector) -> Self {
        Self {
            selector,
            after: None,
            most: usize::MAX,
        }
    }

    /// The envelope-ids meant, from the first to the last; `None` if there can be none.
    pub fn range(&self) -> Option<RangeInclusive<EnvelopeId>> {
        let (start, end) = self.selector.range().into_inner();
        let start = match self.after {
            Some(after) if after >= start => after.next()?,
            _ => start,
        };
        (start <= end).then_some(start..=end)
    }
}

/// Which subsystems the administrator has paused. Durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paused {
    /// No local delivery is started.
    pub mda: bool,
    /// No relaying is started.
    pub mta: bool,
    /// No SMTP connection is accepted.
    pub smtp: bool,
}

/// The sources from which no mail goes to a domain, by the administrator's word. Durable.
pub type Blocks = BTreeSet<(IpAddr, Box<str>)>;

/// An atomic change of the queue.
#[derive(Debug)]
pub enum Transition {
    /// A message enters. Refused with [`Refusal::Exists`] if one of its ids is in use.
    Submit(Submission),
    /// Attempts end. Settlements of envelopes that are gone meanwhile change nothing, and their
    /// bounce is not created. Refused with [`Refusal::Exists`] if the id of a bounce is in use.
    Settle(Vec<Settlement>),
    /// A notice enters and the bounce envelopes it reports leave, in one step. Without a notice
    /// they just leave (nobody to tell). If none of them is left, nothing happens: the notice was
    /// made before, or the administrator was quicker. Refused as a submission is.
    Notify {
        /// The notice.
        notice: Option<Submission>,
        /// The bounce envelopes it replaces.
        reported: Vec<EnvelopeId>,
    },
    /// The administrator takes envelopes out of the queue for good, without a notice. Those named by
    /// their id or that of their message leave the trash, a message so named the corrupt bucket, too.
    Remove(Selector),
    /// The administrator pauses or resumes envelopes; those already so are left alone.
    Suspend {
        /// Which envelopes.
        selector: Selector,
        /// Pause or resume.
        suspended: bool,
    },
    /// The administrator pauses or resumes subsystems.
    Pause(Paused),
    /// The administrator pauses or resumes relaying from a source to a domain; what is so already
    /// stays so.
    Block {
        /// The local address; the unspecified one stands for the system's choice.
        source: IpAddr,
        /// In lower case; `*` stands for any.
        domain: Box<str>,
        /// Pause or resume.
        blocked: bool,
    },
    /// A message whose record or content failed its proof is set aside, whole. Refused with
    /// [`Refusal::Unknown`] if it is not queued.
    Corrupt {
        /// Which message.
        message: MessageId,
        /// What was found.
        reason: Box<str>,
        /// When.
        at: Timestamp,
    },
    /// A message comes back from the corrupt bucket, if all of it proves sound now.
    Uncorrupt(MessageId),
    /// The administrator takes envelopes out of the queue and into the trash, without a notice. In
    /// the trash an envelope keeps all it had, its message keeps its content and its id, and nothing
    /// happens to it but by [`Restore`](Self::Restore), [`Purge`](Self::Purge), a removal that
    /// names it, and a settlement: one that is done leaves the trash, without its bounce; a retry
    /// changes nothing. A message named by its id leaves the corrupt bucket for good.
    Discard {
        /// Which envelopes of the queue.
        span: Span,
        /// When.
        at: Timestamp,
    },
    /// Envelopes come back from the trash, as they were.
    Restore {
        /// Which envelopes of the trash.
        span: Span,
        /// Only those that were discarded at this time.
        at: Option<Timestamp>,
    },
    /// Envelopes leave the trash for good; the last one takes its message along.
    Purge {
        /// Which envelopes of the trash.
        span: Span,
        /// Only those that were discarded then or before.
        until: Timestamp,
    },
}

/// What a transition did, handed out once it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It is done.
    Done,
    /// These envelopes were affected, in order: removed, discarded, restored, purged, suspended,
    /// resumed, or dropped along with a corrupt message. Any transition may meet a damaged record; the message concerned is
    /// then set aside within the transition, and a settlement, too, names what was dropped.
    Affected(Vec<EnvelopeId>),
    /// It was refused and changed nothing.
    Refused(Refusal),
}

/// Why a transition changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An id is in use already; draw another.
    Exists,
    /// There is no such message in the queue, or in the corrupt bucket.
    Unknown,
    /// It is still damaged.
    StillCorrupt {
        /// What was found, for people: lower case, no full stop.
        reason: Box<str>,
    },
}

/// A message in the corrupt bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptMessage {
    /// Which message.
    pub message: MessageId,
    /// What was found.
    pub reason: Box<str>,
    /// When.
    pub at: Timestamp,
    /// Envelopes that went along.
    pub envelopes: u32,
}

/// An envelope in the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// As it was.
    pub envelope: Envelope,
    /// When it was discarded.
    pub at: Timestamp,
}

/// What the trash holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrashState {
    /// Envelopes.
    pub envelopes: u64,
    /// Octets of messages of which nothing else is queued, as this store counts them.
    pub octets: u64,
    /// When the first of them was discarded.
    pub oldest: Option<Timestamp>,
    /// When the last of them was discarded.
    pub latest: Option<Timestamp>,
}

/// What the schedule needs to know of an envelope; small, and read without decoding the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Which envelope.
    pub id: EnvelopeId,
    /// Who delivers it.
    pub agent: Agent,
    /// When it was accepted.
    pub ctime: Timestamp,
    /// Lifetime from `ctime` on.
    pub ttl: Duration,
    /// When the last delay notice was made.
    pub last_bounce: Timestamp,
    /// Temporary failures so far.
    pub retry: u16,
    /// Persistent marks.
    pub flags: Flags,
}

impl From<&Envelope> for Scheduled {
    fn from(envelope: &Envelope) -> Self {
        Self {
            id: envelope.id,
            agent: envelope.agent(),
            ctime: envelope.ctime,
            ttl: envelope.ttl,
            last_bounce: envelope.last_bounce,
            retry: envelope.retry,
            flags: envelope.flags,
        }
    }
}

impl Scheduled {
    /// Octets of the start of a stored envelope that hold it.
    pub const LENGTH: usize = Fixed::LENGTH;

    /// Appends the start of the stored form of the envelope, [`Self::LENGTH`] octets.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fixed = Fixed {
            agent: self.agent,
            flags: self.flags,
            retry: self.retry,
            ctime: self.ctime,
            ttl: self.ttl,
            last_bounce: self.last_bounce,
        };
        fixed.write(out);
    }

    /// Reads what the schedule needs from the stored form of envelope `id`
    /// ([`Envelope::encode`]), without looking at the rest.
    pub fn decode(id: EnvelopeId, octets: &[u8]) -> Result<Self, DecodeError> {
        let fixed = Fixed::decode(octets)?;
        Ok(Self {
            id,
            agent: fixed.agent,
            ctime: fixed.ctime,
            ttl: fixed.ttl,
            last_bounce: fixed.last_bounce,
            retry: fixed.retry,
            flags: fixed.flags,
        })
    }
}

/// One entry of a walk: an envelope, or the message that could not be read.
pub type Walked<T> = Result<T, StoreError>;

/// The writing side of a store. One owner; see [`Reader`] for everybody else.
pub trait Store: Send + 'static {
    /// The reading side.
    type Reader: Reader + Clone;

    /// A transition in the form this store writes: encoded and checksummed.
    type Prepared: Send;

    /// Makes that form of transitions, for callers on any thread.
    type Preparer: Prepare<Prepared = Self::Prepared>;

    /// A handle for preparing transitions. What it has prepared is for this store alone, and dies
    /// with it.
    fn preparer(&self) -> Self::Preparer;

    /// Encodes a transition, see [`Prepare::prepare`].
    fn prepare(&self, transition: Transition) -> Result<Self::Prepared, StoreError> {
        self.preparer().prepare(transition)
    }

    /// Octets a prepared transition will write, for the bound on a group.
    fn weight(prepared: &Self::Prepared) -> usize;

    /// Carries out a group of transitions, in order, and makes all of them durable together.
    /// Gives one receipt each. A group without new mail may use what is kept for that when there is
    /// no other space left. An error concerns the whole group. It ends this store, unless
    /// [`survived`](Store::survived) says otherwise: when the last sync fails, only reopening shows
    /// whether all of the group is there, or nothing of it.
    fn commit(&mut self, group: Vec<Self::Prepared>) -> Result<Vec<Receipt>, StoreError>;

    /// Whether the store goes on after a commit that failed. Then nothing of that group is there,
    /// nor will be.
    fn survived(&self) -> bool {
        false
    }

    /// Housekeeping: takes over what was done in the background and begins what is due. Called
    /// now and then, also when nothing is committed. An error ends this store.
    fn tick(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Looks at the space that is left where the store lies; `None` if it cannot tell.
    fn space(&self) -> Option<Space> {
        None
    }

    /// A handle for reading. Reads see everything whose receipt has been handed out.
    fn reader(&self) -> Self::Reader;
}

/// Encodes transitions for one store.
pub trait Prepare: Send + Sync + 'static {
    /// What it makes of a transition.
    type Prepared: Send;

    /// Encodes a transition. Runs on the thread of whoever asks for it, so that the one writer
    /// only has to write; reads pieces of a large body, if there are any.
    fn prepare(&self, transition: Transition) -> Result<Self::Prepared, StoreError>;
}

/// The reading side of a store: any number of threads, never delayed by the writer.
///
/// Every read verifies the record's proof and gives [`StoreError::Corrupt`] if it fails.
pub trait Reader: Send + Sync + 'static {
    /// Whether any envelope of the message is queued or in the trash, or the message is in the
    /// corrupt bucket.
    fn exists(&self, message: MessageId) -> Result<bool, StoreError>;

    /// One envelope.
    fn envelope(&self, id: EnvelopeId) -> Result<Option<Envelope>, StoreError>;

    /// Facts about a message that is queued or has envelopes in the trash.
    fn message(&self, id: MessageId) -> Result<Option<Message>, StoreError>;

    /// Piece `index` (from 0) of a message's content; `None` after the last one. Pieces are at
    /// most 64 KiB; the last one is checked against the digest of the whole.
    fn body(&self, id: MessageId, index: u32) -> Result<Option<Bytes>, StoreError>;

    /// Up to `limit` envelopes in order of their ids, the first one after `after`. A damaged
    /// record gives its error in place and the listing goes on behind it.
    fn page(
        &self,
        selector: Selector,
        after: Option<EnvelopeId>,
        limit: usize,
    ) -> Result<Vec<Walked<Envelope>>, StoreError>;

    /// Shows every queued envelope to `visit`, in order of ids, for the schedule at start-up.
    fn walk(&self, visit: &mut dyn FnMut(Walked<Scheduled>)) -> Result<(), StoreError>;

    /// The messages of an id epoch that are queued, in the trash or corrupt
    /// (see [`MessageIds`](crate::id::MessageIds)).
    fn live(&self, epoch: Epoch) -> Result<Vec<MessageId>, StoreError>;

    /// The last id epoch used, if any message was ever stored.
    fn epoch(&self) -> Result<Option<Epoch>, StoreError>;

    /// What the administrator has paused.
    fn paused(&self) -> Result<Paused, StoreError>;

    /// Which sources and domains the administrator keeps apart.
    fn blocks(&self) -> Result<Blocks, StoreError>;

    /// The corrupt bucket, in order of ids.
    fn corrupt(&self) -> Result<Vec<CorruptMessage>, StoreError>;

    /// Up to `limit` envelopes of the trash, as [`page`](Self::page) gives those of the queue.
    fn discarded(
        &self,
        selector: Selector,
        after: Option<EnvelopeId>,
        limit: usize,
    ) -> Result<Vec<Walked<Discarded>>, StoreError>;

    /// What the trash holds, messages of the corrupt bucket apart.
    fn trash(&self) -> Result<TrashState, StoreError>;
}

/// Why the store could not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk or the operating system refused.
    Io(String),
    /// There is no space left.
    Full,
    /// A record or body failed its proof.
    Corrupt {
        /// The message it belongs to.
        message: MessageId,
        /// What was found.
        reason: String,
    },
    /// An earlier error closed the store for writing; it must be reopened.
    Poisoned,
    /// The store was closed because the program is stopping.
    Closed,
    /// Another process has it open.
    Locked {
        /// Its process id, if it could be found out.
        holder: Option<u32>,
    },
    /// Its format is not one this program knows.
    Version {
        /// The format found.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// It is not a store, or so damaged that it cannot be opened.
    Unreadable(String),
    /// There is no store at this place.
    Absent,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(cause) => write!(f, "i/o error: {cause}"),
            Self::Full => f.write_str("no space left on the device"),
            Self::Corrupt { message, reason } => {
                write!(f, "message {message} is damaged: {reason}")
            }
            Self::Poisoned => f.write_str("closed for writing after an earlier i/o error"),
            Self::Closed => f.write_str("closed, the program is stopping"),
            Self::Locked { holder: Some(pid) } => write!(f, "in use by process {pid}"),
            Self::Locked { holder: None } => f.write_str("in use by another process"),
            Self::Version { found, known } if found < known => {
                write!(
                    f,
                    "format {found} is older than this program reads, which is {known}"
                )
            }
            Self::Version { found, known } => write!(
                f,
                "format {found} is newer than this program, which knows formats up to {known}"
            ),
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
            Self::Absent => f.write_str("there is no store here"),
        }
    }
}

impl std::error::Error for StoreError {}

/// How one delivery attempt ended for one envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The next hop, or the delivery program, has taken it.
    Delivered {
        /// What it said.
        text: Box<str>,
        /// Whether the next hop sends success notices itself (it announced DSN, RFC 3461).
        notifies: bool,
    },
    /// It failed for now.
    TempFail(Failure),
    /// It failed for good.
    PermFail(Failure),
    /// It has been here before.
    Loop,
}

/// What is known of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The enhanced status, if there was one or if we know better.
    pub status: Option<Status>,
    /// What was said, control characters included; at most `Envelope::ERRORLINE_MAX` octets.
    pub text: Box<str>,
}

impl Failure {
    /// A failure with a status and a text of our own.
    pub fn new(status: Status, text: impl Into<Box<str>>) -> Self {
        Self {
            status: Some(status),
            text: text.into(),
        }
    }
}
