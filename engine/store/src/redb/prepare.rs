//! Transitions in the form the writer stores: encoded, checksummed and in key order.
//!
//! Promises: whatever can be done outside the one writer is done here, on the caller's thread.
//! Absent on purpose: looking at the store.
//! Fails: with the error of a content's own pieces. A submission without envelopes, or with one of
//! another message, is our bug and panics.

use crate::blocks::Block;
use crate::record;
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{
    Body, Change, Message, Paused, Selector, Settlement, Span, StoreError, Submission, Transition,
};
use redspool_core::time::Timestamp;
use std::hash::Hasher as _;
use twox_hash::XxHash3_64;
use twox_hash::xxhash3_64::Hasher;

/// A transition ready to be written.
#[derive(Debug)]
pub struct Prepared {
    pub(super) step: Step,
    weight: usize,
}

#[derive(Debug)]
pub(super) enum Step {
    Submit(Parts),
    Settle(Vec<Settled>),
    Notify {
        notice: Option<Parts>,
        reported: Vec<EnvelopeId>,
    },
    Remove(Selector),
    Suspend {
        selector: Selector,
        suspended: bool,
    },
    Pause(Paused),
    Block(Block),
    Corrupt {
        message: MessageId,
        reason: Box<str>,
        at: Timestamp,
    },
    Uncorrupt(MessageId),
    Discard {
        span: Span,
        at: Timestamp,
    },
    Restore {
        span: Span,
        at: Option<Timestamp>,
    },
    Purge {
        span: Span,
        until: Timestamp,
    },
}

/// The records of a message.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) id: MessageId,
    /// Its place is given by the writer.
    pub(super) row: record::Row,
    /// In key order.
    pub(super) envelopes: Vec<(EnvelopeId, Vec<u8>)>,
    pub(super) body: Vec<Vec<u8>>,
    /// Two envelopes have the same id.
    pub(super) clash: bool,
}

/// A settlement with its bounce as a record.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) envelope: EnvelopeId,
    pub(super) change: Change,
    pub(super) bounce: Option<(EnvelopeId, Vec<u8>)>,
}

impl Prepared {
    pub(super) fn new(transition: Transition) -> Result<Self, StoreError> {
        let step = match transition {
            Transition::Submit(submission) => Step::Submit(Parts::new(submission)?),
            Transition::Settle(settlements) => {
                Step::Settle(settlements.into_iter().map(settled).collect())
            }
            Transition::Notify { notice, reported } => Step::Notify {
                notice: notice.map(Parts::new).transpose()?,
                reported,
            },
            Transition::Remove(selector) => Step::Remove(selector),
            Transition::Suspend {
                selector,
                suspended,
            } => Step::Suspend {
                selector,
                suspended,
            },
            Transition::Pause(paused) => Step::Pause(paused),
            Transition::Block {
                source,
                domain,
                blocked,
            } => Step::Block(Block {
                source,
                domain,
                blocked,
            }),
            Transition::Corrupt {
                message,
                reason,
                at,
            } => Step::Corrupt {
                message,
                reason,
                at,
            },
            Transition::Uncorrupt(message) => Step::Uncorrupt(message),
            Transition::Discard { span, at } => Step::Discard { span, at },
            Transition::Restore { span, at } => Step::Restore { span, at },
            Transition::Purge { span, until } => Step::Purge { span, until },
        };
        let weight = match &step {
            Step::Submit(parts)
            | Step::Notify {
                notice: Some(parts),
                ..
            } => parts.weight(),
            // Each rewrites about one record.
            Step::Settle(settlements) => settlements.len() * 512,
            _ => 0,
        };
        Ok(Self { step, weight })
    }

    pub(super) fn weight(&self) -> usize {
        self.weight
    }
}

fn settled(settlement: Settlement) -> Settled {
    let message = settlement.envelope.message();
    Settled {
        envelope: settlement.envelope,
        change: settlement.change,
        bounce: settlement.bounce.map(|bounce| sealed(message, &bounce)),
    }
}

fn sealed(message: MessageId, envelope: &Envelope) -> (EnvelopeId, Vec<u8>) {
    assert!(
        envelope.id.message() == message,
        "an envelope belongs to the message it comes with"
    );
    (envelope.id, record::seal_envelope(envelope))
}

impl Parts {
    fn new(submission: Submission) -> Result<Self, StoreError> {
        let Submission {
            message,
            body,
            envelopes,
        } = submission;
        assert!(!envelopes.is_empty(), "a message has an envelope");
        let mut envelopes: Vec<_> = envelopes
            .iter()
            .map(|envelope| sealed(message.id, envelope))
            .collect();
        envelopes.sort_unstable_by_key(|(id, _)| *id);
        let clash = envelopes.windows(2).any(|pair| pair[0].0 == pair[1].0);
        let content = Content::read(message.id, body)?;
        let row = record::Row {
            message: Message {
                size: content.size,
                ..message
            },
            live: u32::try_from(envelopes.len()).expect("recipients are limited"),
            digest: content.digest,
            first: 0,
        };
        Ok(Self {
            id: message.id,
            row,
            envelopes,
            body: content.records,
            clash,
        })
    }

    fn weight(&self) -> usize {
        let envelopes = self.envelopes.iter().map(|(_, record)| record.len());
        let body = self.body.iter().map(Vec::len);
        envelopes.sum::<usize>() + body.sum::<usize>()
    }
}

/// A content as body records.
struct Content {
    records: Vec<Vec<u8>>,
    size: u64,
    digest: u64,
}

impl Content {
    fn read(message: MessageId, body: Body) -> Result<Self, StoreError> {
        match body {
            Body::Whole(body) => {
                let mut cutter = Cutter::new(message, body.len());
                cutter.add(&body);
                Ok(cutter.finish(XxHash3_64::oneshot(&body)))
            }
            Body::Pieces(mut pieces) => {
                let mut cutter = Cutter::new(message, record::CHUNK);
                let mut digest = Hasher::new();
                while let Some(piece) = pieces.next()? {
                    digest.write(&piece);
                    cutter.add(&piece);
                }
                Ok(cutter.finish(digest.finish()))
            }
        }
    }
}

/// Cuts a content into body records, copying each octet once.
struct Cutter {
    message: MessageId,
    records: Vec<Vec<u8>>,
    open: Vec<u8>,
    /// Octets of content that still fit the open record.
    room: usize,
    size: u64,
}

impl Cutter {
    fn new(message: MessageId, expected: usize) -> Self {
        Self {
            message,
            records: Vec::new(),
            // The last record has a trailer of 16 octets.
            open: record::begin(expected.min(record::CHUNK) + 16),
            room: record::CHUNK,
            size: 0,
        }
    }

    fn key(&self) -> u64 {
        let index = u32::try_from(self.records.len()).expect("message size is limited");
        record::body_key(self.message, index)
    }

    fn add(&mut self, mut piece: &[u8]) {
        self.size += piece.len() as u64;
        while !piece.is_empty() {
            if self.room == 0 {
                let next = record::begin(piece.len().min(record::CHUNK) + 16);
                let mut full = std::mem::replace(&mut self.open, next);
                record::finish(&mut full, record::Kind::Body, self.key(), false);
                self.records.push(full);
                self.room = record::CHUNK;
            }
            let (fits, rest) = piece.split_at(self.room.min(piece.len()));
            self.open.extend_from_slice(fits);
            self.room -= fits.len();
            piece = rest;
        }
    }

    fn finish(mut self, digest: u64) -> Content {
        let key = self.key();
        record::finish_body(&mut self.open, key, self.size, digest);
        self.records.push(self.open);
        Content {
            records: self.records,
            size: self.size,
            digest,
        }
    }
}
