//! Transitions in the form the log takes: one frame, encoded and checksummed.
//!
//! Promises: whatever can be done outside the one writer is done here, on the caller's thread. A
//! large content goes to its extent piece by piece.
//! Absent on purpose: looking at the queue.
//! Fails: with the error of a content's own pieces, or of the disk. A submission without envelopes,
//! or with one of another message, is our bug and panics.

use super::control::Controls;
use super::extent::{Extents, Reservation};
use super::frame::Builder;
use super::place::Location;
use super::slots::Marks;
use crate::record::{self, CHUNK, HEAD, MESSAGE};
use bytes::Bytes;
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{
    Body, Change, Message, Pieces, Prepare, Settlement, StoreError, Submission, Transition,
};
use std::collections::VecDeque;
use std::hash::Hasher as _;
use std::sync::Arc;
use twox_hash::XxHash3_64;
use twox_hash::xxhash3_64::Hasher;

/// A transition ready to be logged.
#[derive(Debug)]
pub struct Prepared {
    pub(super) step: Step,
    weight: usize,
    /// It brings new mail, which must leave alone what is kept for the rest.
    pub(super) mail: bool,
}

#[derive(Debug)]
pub(super) enum Step {
    Submit(Box<Ready>),
    Settle(Vec<Settled>),
    Notify {
        notice: Option<Box<Ready>>,
        reported: Vec<EnvelopeId>,
    },
    /// Nothing of it needs to be encoded.
    Other(Transition),
}

/// A message as a frame.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) id: MessageId,
    pub(super) frame: Builder,
    /// Where its record and content are, if not in the frame.
    pub(super) extent: Option<Reservation>,
    /// Octets of its record and content.
    pub(super) octets: u32,
    /// In order of ids, with their places in the frame.
    pub(super) envelopes: Vec<(EnvelopeId, usize, Marks)>,
    /// Two envelopes have the same id.
    pub(super) clash: bool,
    /// A planted bug: all envelopes but the first, in a frame of their own.
    pub(super) apart: Option<Builder>,
}

/// A settlement with its bounce as a record.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) envelope: EnvelopeId,
    pub(super) change: Change,
    pub(super) bounce: Option<(EnvelopeId, Vec<u8>, Marks)>,
}

/// Prepares transitions for one [`LogStore`](super::LogStore).
#[derive(Clone, Debug)]
pub struct LogPreparer {
    pub(super) extents: Arc<Extents>,
    /// Octets of content from which on it does not go through the log itself.
    pub(super) large: usize,
    pub(super) controls: Controls,
}

impl Prepare for LogPreparer {
    type Prepared = Prepared;

    fn prepare(&self, transition: Transition) -> Result<Prepared, StoreError> {
        let step = match transition {
            Transition::Submit(submission) => Step::Submit(self.ready(submission)?.into()),
            Transition::Settle(settlements) => {
                Step::Settle(settlements.into_iter().map(settled).collect())
            }
            Transition::Notify { notice, reported } => Step::Notify {
                notice: notice
                    .map(|notice| self.ready(notice))
                    .transpose()?
                    .map(Box::new),
                reported,
            },
            other => Step::Other(other),
        };
        let weight = match &step {
            Step::Submit(ready)
            | Step::Notify {
                notice: Some(ready),
                ..
            } => ready.frame.len(),
            // Each rewrites about one record.
            Step::Settle(settlements) => settlements.len() * 64,
            Step::Notify { .. } | Step::Other(_) => 0,
        };
        let mail = matches!(
            step,
            Step::Submit(_)
                | Step::Notify {
                    notice: Some(_),
                    ..
                }
        );
        Ok(Prepared { step, weight, mail })
    }
}

impl Prepared {
    pub(super) fn weight(&self) -> usize {
        self.weight
    }
}

fn marks(envelope: &Envelope) -> Marks {
    Marks {
        suspended: envelope.flags.suspended,
        ..Marks::default()
    }
}

fn settled(settlement: Settlement) -> Settled {
    let message = settlement.envelope.message();
    Settled {
        envelope: settlement.envelope,
        change: settlement.change,
        bounce: settlement.bounce.map(|bounce| {
            belongs(message, &bounce);
            (bounce.id, record::seal_envelope(&bounce), marks(&bounce))
        }),
    }
}

fn belongs(message: MessageId, envelope: &Envelope) {
    assert!(
        envelope.id.message() == message,
        "an envelope belongs to the message it comes with"
    );
}

impl LogPreparer {
    fn ready(&self, submission: Submission) -> Result<Ready, StoreError> {
        let Submission {
            message,
            body,
            mut envelopes,
        } = submission;
        assert!(!envelopes.is_empty(), "a message has an envelope");
        envelopes.sort_unstable_by_key(|envelope| envelope.id);
        let clash = envelopes.windows(2).any(|pair| pair[0].id == pair[1].id);
        let live = u32::try_from(envelopes.len()).expect("recipients are limited");
        let (mut frame, extent, octets) = match body {
            Body::Whole(body) if body.len() <= self.large => {
                let expected = body.len() + 2 * HEAD + MESSAGE + envelopes.len() * 512;
                let mut frame = Builder::new(expected);
                let octets = whole(&mut frame, message, live, &body);
                (frame, None, octets)
            }
            Body::Whole(body) => self.large(message, live, One(body))?,
            Body::Pieces(mut pieces) => match gathered(&mut *pieces, self.large)? {
                Ok(body) => {
                    let mut frame = Builder::new(body.len() + envelopes.len() * 512);
                    let octets = whole(&mut frame, message, live, &body);
                    (frame, None, octets)
                }
                Err(begun) => self.large(message, live, Chained(begun.into(), pieces))?,
            },
        };
        let mut apart = None;
        let mut places = Vec::with_capacity(envelopes.len());
        for (index, envelope) in envelopes.iter().enumerate() {
            belongs(message.id, envelope);
            let frame = match &mut apart {
                Some(apart) => apart,
                None if self.controls.envelopes_apart && index > 0 => {
                    apart.insert(Builder::new(512))
                }
                None => &mut frame,
            };
            let place = frame.push_with(|out| record::append_envelope(out, envelope));
            places.push((envelope.id, place, marks(envelope)));
        }
        Ok(Ready {
            id: message.id,
            frame,
            extent,
            octets,
            envelopes: places,
            clash,
            apart,
        })
    }

    /// Writes message record and content to an extent; the frame says where.
    fn large(
        &self,
        message: Message,
        live: u32,
        mut pieces: impl Pieces,
    ) -> Result<(Builder, Option<Reservation>, u32), StoreError> {
        let size = pieces.length();
        let chunks = size.div_ceil(CHUNK as u64).max(1);
        let need = MESSAGE as u64 + chunks * HEAD as u64 + size + record::TRAILER as u64;
        let extent = self.extents.reserve(need)?;
        let mut digest = Hasher::new();
        let (mut place, mut stored, mut index) = (MESSAGE as u64, 0u64, 0u32);
        let mut open: Vec<u8> = Vec::with_capacity(CHUNK);
        let mut out = Vec::with_capacity(HEAD + CHUNK + record::TRAILER);
        while let Some(piece) = pieces.next()? {
            digest.write(&piece);
            stored += piece.len() as u64;
            let mut rest = &piece[..];
            while !rest.is_empty() {
                if open.len() == CHUNK {
                    out.clear();
                    record::append_body(&mut out, record::body_key(message.id, index), &open, None);
                    extent.write(place, &out)?;
                    place += out.len() as u64;
                    index += 1;
                    open.clear();
                }
                let (fits, behind) = rest.split_at(rest.len().min(CHUNK - open.len()));
                open.extend_from_slice(fits);
                rest = behind;
            }
        }
        let digest = digest.finish();
        out.clear();
        let key = record::body_key(message.id, index);
        record::append_body(&mut out, key, &open, Some((stored, digest)));
        extent.write(place, &out)?;
        place += out.len() as u64;
        let row = row(message, live, stored, digest);
        extent.write(0, &row.seal())?;
        let octets = u32::try_from(place).map_err(|_| StoreError::Full)?;
        let location = Location {
            at: extent.at,
            octets,
            sequence: extent.sequence,
            live,
        };
        let mut frame = Builder::new(1024);
        frame.push(&location.seal(message.id));
        Ok((frame, Some(extent), octets))
    }
}

fn row(message: Message, live: u32, size: u64, digest: u64) -> record::Row {
    record::Row {
        message: Message { size, ..message },
        live,
        digest,
        first: 0,
    }
}

/// Puts message record and content into the frame; gives their octets.
fn whole(frame: &mut Builder, message: Message, live: u32, body: &Bytes) -> u32 {
    let digest = XxHash3_64::oneshot(body);
    let start = frame.len();
    frame.push(&row(message, live, body.len() as u64, digest).seal());
    let mut chunks = body.chunks(CHUNK);
    let last = chunks.next_back().unwrap_or_default();
    let mut index = 0;
    for chunk in chunks {
        let key = record::body_key(message.id, index);
        frame.push_with(|out| record::append_body(out, key, chunk, None));
        index += 1;
    }
    let key = record::body_key(message.id, index);
    let trailer = Some((body.len() as u64, digest));
    frame.push_with(|out| record::append_body(out, key, last, trailer));
    u32::try_from(frame.len() - start).expect("a content in memory is small")
}

/// All of a content, if it is no longer than `limit`; else what was read so far.
fn gathered(
    pieces: &mut dyn Pieces,
    limit: usize,
) -> Result<Result<Bytes, Vec<Bytes>>, StoreError> {
    let mut begun = Vec::new();
    let mut length = 0;
    while let Some(piece) = pieces.next()? {
        length += piece.len();
        begun.push(piece);
        if length > limit {
            return Ok(Err(begun));
        }
    }
    Ok(Ok(match begun.len() {
        1 => begun.remove(0),
        _ => begun.concat().into(),
    }))
}

/// A content in memory, as one piece.
struct One(Bytes);

impl Pieces for One {
    fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let all = std::mem::take(&mut self.0);
        Ok(Some(all).filter(|all| !all.is_empty()))
    }

    fn length(&self) -> u64 {
        self.0.len() as u64
    }
}

/// Pieces that were read already, then the others.
struct Chained(VecDeque<Bytes>, Box<dyn Pieces>);

impl Pieces for Chained {
    fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        match self.0.pop_front() {
            Some(piece) => Ok(Some(piece)),
            None => self.1.next(),
        }
    }

    fn length(&self) -> u64 {
        let begun: usize = self.0.iter().map(Bytes::len).sum();
        begun as u64 + self.1.length()
    }
}
