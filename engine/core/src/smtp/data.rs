//! A message on its way in: from the reply to DATA to the final dot, or chunk by chunk.
//!
//! What: finds the end of data, removes dot-stuffing, looks through the header section, and
//! gathers the content behind our trace field in one buffer, which is handed on without a copy.
//! Chunks (RFC 3030) have neither dots nor an end to be found; all else is the same for them.
//! Promises: the same stream gives the same message or the same flaw however it is cut; data end
//! at CR LF dot CR LF only; memory is bounded by the limits; a message with a flaw is read to
//! its end and not kept.
//! Absent on purpose: replies, and the temporary file, which the driver keeps.
//!
//! The end of data is found by smtp-proto. It has to be primed with one CR LF, and it also stops
//! at CR LF dot CR CR LF: so whatever passes through is checked for bare CR and LF as well,
//! in messages that are thrown away too.

use super::header::{Header, HeaderFlaw};
use crate::limits::Limits;
use crate::reply::Reply;
use bytes::{Buf, Bytes};
use smtp_proto::request::receiver::DataReceiver;

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// Octets handed to the temporary file at a time: enough for a write to be worth its call.
const PIECE: usize = 64 << 10;

/// Why a message is refused after its final dot; the gravest comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A CR or LF alone: what a line is would be a matter of opinion from here on.
    BareLineEnd,
    /// A NUL octet.
    Nul,
    /// A line beyond `Limits::text_line`.
    LongLine,
    /// More octets than `Limits::message_size`.
    TooBig,
    /// The temporary file could not be written; what to say.
    Spool(Reply),
    /// See there.
    Header(HeaderFlaw),
}

/// The receiving end of one message.
pub(super) struct Data {
    receiver: DataReceiver,
    stream: Stream,
    header: Header,
    /// Trace field and content, as far as it is not in the temporary file.
    buffer: Vec<u8>,
    /// Octets of content so far, whatever became of them.
    content: u64,
    /// Octets that went to the temporary file.
    spooled: u64,
    flaw: Option<Flaw>,
}

/// A message that has arrived whole.
pub(super) struct Arrived {
    /// What is not in the temporary file.
    pub(super) rest: Bytes,
    /// Octets of all of it, trace field included.
    pub(super) size: u64,
    /// Whether there are octets above 127.
    pub(super) eight_bit: bool,
    /// Whether there are any in the header section.
    pub(super) utf8_header: bool,
    /// Whether the beginning is in the temporary file.
    pub(super) spooled: bool,
}

impl Data {
    /// Starts a message with `buffer`, which holds the trace field; `header` knows what else is
    /// to be done to the header section.
    pub(super) fn new(mut buffer: Vec<u8>, header: Header) -> Self {
        let trace = buffer.len();
        let mut receiver = DataReceiver::new();
        // The receiver knows a dot only behind a line end, and a message may begin with one.
        receiver.ingest(&mut b"\r\n".iter(), &mut buffer);
        buffer.truncate(trace);
        Self {
            receiver,
            stream: Stream::default(),
            header: header.starting_at(trace),
            buffer,
            content: 0,
            spooled: 0,
            flaw: None,
        }
    }

    /// Takes octets off the input; says whether that was the end of data.
    pub(super) fn ingest(&mut self, input: &mut Bytes, limits: &Limits) -> bool {
        let before = self.settled();
        let mut octets = input.iter();
        let ended = self.receiver.ingest(&mut octets, &mut self.buffer);
        let taken = input.len().saturating_sub(octets.len());
        self.stream
            .check(input.get(..taken).unwrap_or_default(), limits.text_line);
        input.advance(taken);
        self.examine(before, limits);
        ended
    }

    /// Hears how many octets the next chunk has: what cannot fit need not be kept until then.
    pub(super) fn expect(&mut self, octets: u64, limits: &Limits) {
        if self.content.saturating_add(octets) > limits.message_size {
            self.note(Flaw::TooBig);
            self.take();
        }
    }

    /// Takes octets of a chunk.
    pub(super) fn chunk(&mut self, octets: &[u8], limits: &Limits) {
        let before = self.settled();
        self.buffer.extend_from_slice(octets);
        self.stream.check(octets, limits.text_line);
        self.examine(before, limits);
    }

    /// Ends the last line, if the chunks have not: every other way in and out ends it.
    pub(super) fn end_line(&mut self, limits: &Limits) {
        if !matches!(self.stream.last, 0 | LF) {
            self.chunk(b"\r\n", limits);
        }
    }

    /// What is known to be wrong with the message so far.
    pub(super) fn flaw(&self) -> Option<&Flaw> {
        self.flaw.as_ref()
    }

    /// A piece for the temporary file, if there is more in memory than there should be.
    pub(super) fn piece(&mut self, limits: &Limits) -> Option<Bytes> {
        let most = match self.spooled {
            0 => limits.message_in_memory,
            _ => PIECE.min(limits.message_in_memory),
        };
        if self.header.is_open() || self.flaw.is_some() || self.settled() <= most {
            return None;
        }
        let piece = self.take();
        self.spooled = self.spooled.saturating_add(len(piece.len()));
        Some(Bytes::from(piece))
    }

    /// The temporary file could not be written; the message is lost.
    pub(super) fn spool_failed(&mut self, reply: Reply) {
        self.note(Flaw::Spool(reply));
        self.take();
    }

    /// Ends the message. Called once, after the end of data.
    pub(super) fn finish(mut self) -> Result<Arrived, Flaw> {
        if let Some(flaw) = self.flaw {
            return Err(flaw);
        }
        self.header.finish(&mut self.buffer);
        Ok(Arrived {
            size: self.spooled.saturating_add(len(self.buffer.len())),
            rest: Bytes::from(self.buffer),
            eight_bit: self.stream.eight_bit,
            utf8_header: self.header.is_eight_bit(),
            spooled: self.spooled > 0,
        })
    }

    /// Looks at what was added to the first `before` octets of the buffer.
    fn examine(&mut self, before: usize, limits: &Limits) {
        let settled = self.settled();
        let content = settled.saturating_sub(before);
        self.content = self.content.saturating_add(len(content));

        if self.content > limits.message_size {
            self.note(Flaw::TooBig);
        }
        if let Some(flaw) = self.stream.flaw() {
            self.note(flaw);
        }
        if self.flaw.is_none()
            && let Err(flaw) = self.header.read(&mut self.buffer, settled, limits)
        {
            self.note(Flaw::Header(flaw));
        }
        if self.flaw.is_some() {
            self.take();
        }
    }

    /// Records a flaw, unless a graver one is known.
    fn note(&mut self, flaw: Flaw) {
        let graver = self
            .flaw
            .as_ref()
            .is_none_or(|known| flaw.rank() < known.rank());
        if graver {
            self.flaw = Some(flaw);
        }
    }

    /// Octets of the buffer that are there to stay: a CR at the end may belong to the end of data,
    /// and is taken back then.
    fn settled(&self) -> usize {
        let pending = usize::from(self.buffer.last() == Some(&CR));
        self.buffer.len().saturating_sub(pending)
    }

    /// Empties the buffer, but for what is not settled.
    fn take(&mut self) -> Vec<u8> {
        let rest = self.buffer.split_off(self.settled());
        std::mem::replace(&mut self.buffer, rest)
    }
}

impl Flaw {
    /// Place in the order of gravity, which does not depend on what was seen first: the input may
    /// be cut anywhere.
    fn rank(&self) -> u8 {
        match self {
            Self::BareLineEnd => 0,
            Self::Nul => 1,
            Self::LongLine => 2,
            Self::TooBig => 3,
            Self::Spool(_) => 4,
            Self::Header(_) => 5,
        }
    }
}

/// What is to be said about the octets themselves, before anything is made of them.
#[derive(Default)]
struct Stream {
    /// The last octet; none is as good as any that is not CR.
    last: u8,
    bare: bool,
    nul: bool,
    eight_bit: bool,
    long_line: bool,
    /// Octets since the last LF.
    line: usize,
}

impl Stream {
    /// Looks at octets as they come. The loop has no branch, so that it can be vectorised.
    fn check(&mut self, octets: &[u8], line_limit: usize) {
        let (Some((first, tail)), Some((last, head))) = (octets.split_first(), octets.split_last())
        else {
            return;
        };
        // A CR is followed by LF, and an LF preceded by CR: both or neither.
        let mut bare = u8::from(self.last == CR) ^ u8::from(*first == LF);
        let mut nul = u8::from(*last == 0);
        let mut high = *last;
        for (this, next) in head.iter().zip(tail) {
            bare |= u8::from(*this == CR) ^ u8::from(*next == LF);
            nul |= u8::from(*this == 0);
            high |= *this;
        }
        self.bare |= bare != 0;
        self.nul |= nul != 0;
        self.eight_bit |= high > 127;
        self.last = *last;
        self.measure(octets, line_limit);
    }

    /// Looks for a line of more than `limit` octets, from behind: most lines are never looked at.
    fn measure(&mut self, octets: &[u8], limit: usize) {
        let whole = limit.saturating_add(2);
        let mut rest = octets;
        while !self.long_line {
            let window = rest.len().min(whole.saturating_sub(self.line));
            let (inside, beyond) = rest.split_at_checked(window).unwrap_or((rest, &[]));
            if let Some(end) = inside.iter().rposition(|&octet| octet == LF) {
                rest = rest.get(end + 1..).unwrap_or_default();
                self.line = 0;
            } else {
                self.line = self.line.saturating_add(inside.len());
                self.long_line = self.line >= whole;
                if beyond.is_empty() {
                    return;
                }
                rest = beyond;
            }
        }
    }

    fn flaw(&self) -> Option<Flaw> {
        match self {
            Self { bare: true, .. } => Some(Flaw::BareLineEnd),
            Self { nul: true, .. } => Some(Flaw::Nul),
            Self {
                long_line: true, ..
            } => Some(Flaw::LongLine),
            _ => None,
        }
    }
}

/// A length as a count of octets.
pub(super) fn len(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
