//! What records mean: the queue brought forward by what the log holds.
//!
//! What: frames, or the records that are left of a damaged stretch, end in the verbs of a draft,
//! just as transitions do when they are planned.
//! Promises: replaying the same frames gives the same queue. Of a damaged stretch everything that
//! proves itself counts; a message that is not whole goes to the corrupt bucket, whole.
//! Absent on purpose: which frames there are (`scan.rs`).
//! Fails: never; what cannot be tied to a message is a finding.

use super::draft::Draft;
use super::form::{self, Marked, Swept};
use super::frame::{Frame, Kind as FrameKind};
use super::index::{Delta, Index};
use super::place::{Location, Place};
use super::slots::Marks;
use crate::blocks;
use crate::record::{self, Damage, Kind, Meta, Opened};
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::CorruptMessage;
use redspool_core::time::Timestamp;
use std::collections::BTreeSet;

/// A message whose records are being read.
struct Current {
    id: MessageId,
    at: Place,
    octets: u32,
    envelopes: Vec<(EnvelopeId, Place, Marks)>,
}

/// The effect of a frame on the queue. `at` is where its first record lies.
pub(super) fn frame(index: &Index, frame: &Frame<'_>, at: Place) -> Delta {
    let mut replay = Replay::new(index, frame.kind);
    let mut rest = frame.records;
    let mut at = at;
    // The frame has proven itself, so every record of it does.
    while let Ok(found) = record::first(rest) {
        replay.record(&found, at);
        let length = found.record.len();
        at = at.plus(length);
        rest = rest.get(length..).unwrap_or_default();
    }
    replay.finish()
}

/// The effect of what still proves itself in a damaged stretch that begins at `at`, and the
/// messages it names: they are set aside.
pub(super) fn stretch(
    index: &Index,
    octets: &[u8],
    at: Place,
    when: Timestamp,
) -> (Delta, BTreeSet<MessageId>) {
    let mut replay = Replay::new(index, FrameKind::Transition);
    let mut named = BTreeSet::new();
    let mut offset = 0;
    while let Some(rest) = octets
        .get(offset..)
        .filter(|rest| rest.len() >= record::HEAD)
    {
        let Ok(found) = record::first(rest) else {
            offset += 1;
            continue;
        };
        if let Kind::Message | Kind::Body | Kind::Envelope | Kind::Extent = found.kind {
            named.extend(message_of(found.key));
        }
        replay.record(&found, at.plus(offset));
        offset += found.record.len();
    }
    replay.complete();
    for id in &named {
        replay.draft.set_aside(&CorruptMessage {
            message: *id,
            reason: "part of its records in the log is damaged".into(),
            at: when,
            envelopes: 0,
        });
    }
    (replay.finish(), named)
}

fn message_of(key: u64) -> Option<MessageId> {
    u32::try_from(key >> 32).ok().and_then(MessageId::new)
}

struct Replay<'a> {
    draft: Draft<'a>,
    kind: FrameKind,
    current: Option<Current>,
    touched: BTreeSet<MessageId>,
}

impl<'a> Replay<'a> {
    fn new(index: &'a Index, kind: FrameKind) -> Self {
        Self {
            draft: Draft::new(index),
            kind,
            current: None,
            touched: BTreeSet::new(),
        }
    }

    fn finish(mut self) -> Delta {
        self.complete();
        for message in self.touched {
            self.draft.settle(message);
        }
        self.draft.finish()
    }

    /// The records of a message have all been read.
    fn complete(&mut self) {
        let Some(Current {
            id,
            at,
            octets,
            envelopes,
        }) = self.current.take()
        else {
            return;
        };
        // A copy of a message that is there already says where it lies now, which of its envelopes
        // are in the trash (in the records behind it), and no more.
        if self.kind == FrameKind::Copy && self.draft.entry(id).is_some() {
            self.draft.relocate(id, at, octets);
            for (id, ..) in envelopes {
                self.draft.recover(id..=id, 1, None);
            }
            return;
        }
        self.draft.enter(id, at, octets);
        self.draft.fill(id, &envelopes);
        self.touched.insert(id);
    }

    fn record(&mut self, found: &Opened<'_>, at: Place) {
        let length = u32::try_from(found.record.len()).unwrap_or(u32::MAX);
        match found.kind {
            Kind::Body => {
                if let Some(current) = &mut self.current {
                    current.octets = current.octets.saturating_add(length);
                }
                return;
            }
            Kind::Envelope => return self.envelope(found, at),
            _ => self.complete(),
        }
        // A record that proves itself and makes no sense was never written by us.
        let _: Result<(), Damage> = self.change(found, at, length);
    }

    fn change(&mut self, found: &Opened<'_>, at: Place, length: u32) -> Result<(), Damage> {
        match found.kind {
            Kind::Message => self.begin(found.key, at, length),
            Kind::Extent => {
                let location = Location::from_value(found.value)?;
                self.begin(found.key, location.at, location.octets);
            }
            Kind::Gone => {
                for id in form::open_gone(found.value)? {
                    self.draft.take(id);
                    self.touched.insert(id.message());
                }
            }
            Kind::Marked => {
                let Marked {
                    selector,
                    suspended,
                } = Marked::open(found.value)?;
                self.draft.suspend(selector, suspended);
            }
            Kind::Removed => {
                self.draft.remove(form::open_removed(found.value)?);
            }
            Kind::Discard => {
                let Swept { first, last, at } = Swept::open(found.value)?;
                let at = at.unwrap_or(Timestamp::EPOCH);
                self.draft.discard(first..=last, usize::MAX, at);
            }
            Kind::Restore => {
                let Swept { first, last, at } = Swept::open(found.value)?;
                self.draft.recover(first..=last, usize::MAX, at);
            }
            Kind::Purge => {
                let Swept { first, last, at } = Swept::open(found.value)?;
                let until = at.unwrap_or(Timestamp::EPOCH);
                self.draft.purge(first..=last, usize::MAX, until);
            }
            Kind::Corrupt => {
                if let Some(message) = message_of(found.key) {
                    let entry = record::open_corrupt(message, found.record)?;
                    self.draft.set_aside(&entry);
                }
            }
            Kind::Uncorrupt => {
                if let Some(message) = message_of(found.key) {
                    self.draft.restore(message);
                }
            }
            Kind::Meta => {
                let bits = Meta::Paused.open(found.record)?;
                self.draft.pause(record::paused_from(bits));
            }
            Kind::Blocks => {
                for block in blocks::entries(found.value)? {
                    self.draft.block(block);
                }
            }
            Kind::Envelope
            | Kind::Body
            | Kind::Summary
            | Kind::Segment
            | Kind::Position
            | Kind::Import
            | Kind::Trashed
            | Kind::Discarded => {}
        }
        Ok(())
    }

    fn begin(&mut self, key: u64, at: Place, octets: u32) {
        self.current = message_of(key).map(|id| Current {
            id,
            at,
            octets,
            envelopes: Vec::new(),
        });
    }

    fn envelope(&mut self, found: &Opened<'_>, at: Place) {
        let Some(id) = EnvelopeId::new(found.key) else {
            return;
        };
        let Ok(scheduled) = record::open_scheduled(id, found.record) else {
            return;
        };
        let suspended = scheduled.flags.suspended;
        match &mut self.current {
            Some(current) if current.id == id.message() => {
                let marks = Marks {
                    suspended,
                    ..Marks::default()
                };
                current.envelopes.push((id, at, marks));
            }
            _ => {
                self.complete();
                let before = self.draft.stored(id).unwrap_or_default();
                self.draft.put(
                    id,
                    at,
                    Marks {
                        suspended,
                        ..before
                    },
                );
            }
        }
    }
}
