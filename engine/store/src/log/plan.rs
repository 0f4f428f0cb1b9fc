//! What a group of transitions does, worked out before any of it is written.
//!
//! What: each transition becomes a receipt and at most one frame; the effects go to a draft.
//! Promises: a refused transition leaves neither frame nor effect. A record that fails its proof
//! moves its message to the corrupt bucket, and the transition goes on without it.
//! Absent on purpose: writing, and changing the index.
//! Fails: with `StoreError` when something cannot be read; then nothing has happened.

use super::draft::Draft;
use super::extent::Reservation;
use super::form::{self, Marked, Swept};
use super::frame::Builder;
use super::index::{Delta, Index, Whereabouts};
use super::place::Place;
use super::prepare::{Prepared, Ready, Settled, Step};
use super::segment::Use;
use super::shared::{Shared, marked};
use crate::blocks::Block;
use crate::mem::retried;
use crate::record::{self, Damage, Kind, Meta, row_key};
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{
    Change, CorruptMessage, Paused, Receipt, Refusal, Selector, Span, StoreError, Transition,
};
use redspool_core::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

/// A group that has been worked out.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) receipts: Vec<Receipt>,
    pub(super) frames: Vec<Builder>,
    /// Octets of all frames.
    pub(super) length: usize,
    /// Ranges that have to be synced first.
    pub(super) extents: Vec<Reservation>,
    /// Messages that were deferred and still lie in hot segments.
    pub(super) cooled: Vec<MessageId>,
    pub(super) delta: Delta,
}

/// A group that is being worked out.
pub(super) struct Plan<'a> {
    shared: &'a Shared,
    draft: Draft<'a>,
    frames: Vec<Builder>,
    /// Where each frame starts in the group.
    starts: Vec<usize>,
    length: usize,
    extents: Vec<Reservation>,
    cooled: Vec<MessageId>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(shared: &'a Shared, index: &'a Index) -> Self {
        Self {
            shared,
            draft: Draft::new(index),
            frames: Vec::new(),
            starts: Vec::new(),
            length: 0,
            extents: Vec::new(),
            cooled: Vec::new(),
        }
    }

    pub(super) fn group(mut self, group: Vec<Prepared>) -> Result<Planned, StoreError> {
        let mut receipts = Vec::with_capacity(group.len());
        for prepared in group {
            receipts.push(match prepared.step {
                Step::Submit(ready) => self.submit(*ready, &[]),
                Step::Settle(settlements) => self.settle(settlements)?,
                Step::Notify { notice, reported } => self.notify(notice, &reported),
                Step::Other(transition) => self.other(transition)?,
            });
        }
        Ok(Planned {
            receipts,
            frames: self.frames,
            length: self.length,
            extents: self.extents,
            cooled: self.cooled,
            delta: self.draft.finish(),
        })
    }

    fn other(&mut self, transition: Transition) -> Result<Receipt, StoreError> {
        Ok(match transition {
            Transition::Remove(selector) => self.remove(selector),
            Transition::Suspend {
                selector,
                suspended,
            } => self.suspend(selector, suspended),
            Transition::Pause(paused) => self.pause(paused),
            Transition::Block {
                source,
                domain,
                blocked,
            } => self.block(Block {
                source,
                domain,
                blocked,
            }),
            Transition::Corrupt {
                message,
                reason,
                at,
            } => self.corrupt(message, reason, at),
            Transition::Uncorrupt(message) => self.uncorrupt(message)?,
            Transition::Discard { span, at } => self.discard(span, at),
            Transition::Restore { span, at } => self.restore(span, at),
            Transition::Purge { span, until } => self.purge(span, until),
            Transition::Submit(_) | Transition::Settle(_) | Transition::Notify { .. } => {
                unreachable!("these are prepared as steps of their own")
            }
        })
    }

    /// Where a record of a frame will be that is not in the group yet.
    fn staged(&self, place: usize) -> Place {
        Place::staged(self.length + place)
    }

    fn add(&mut self, frame: Builder) {
        if !frame.is_empty() {
            self.starts.push(self.length);
            self.length += frame.len();
            self.frames.push(frame);
        }
    }

    /// A message enters, and those it reports on leave.
    fn submit(&mut self, ready: Ready, left: &[EnvelopeId]) -> Receipt {
        if ready.clash || self.draft.exists(ready.id) {
            return Receipt::Refused(Refusal::Exists);
        }
        let at = match &ready.extent {
            Some(extent) => extent.at,
            None => self.staged(super::frame::HEAD),
        };
        self.draft.enter(ready.id, at, ready.octets);
        let apart = self.length + ready.frame.len();
        let place = |index: usize, place: usize| match &ready.apart {
            Some(_) if index > 0 => Place::staged(apart + place),
            _ => self.staged(place),
        };
        let envelopes = ready.envelopes.iter().enumerate();
        let envelopes = envelopes.map(|(index, (id, at, marks))| (*id, place(index, *at), *marks));
        let envelopes: Vec<_> = envelopes.collect();
        self.draft.fill(ready.id, &envelopes);
        let mut frame = ready.frame;
        self.leave(left, &mut frame);
        self.add(frame);
        if let Some(apart) = ready.apart {
            self.add(apart);
        }
        self.extents.extend(ready.extent);
        Receipt::Done
    }

    /// Envelopes leave.
    fn leave(&mut self, envelopes: &[EnvelopeId], frame: &mut Builder) {
        let mut gone = Vec::with_capacity(envelopes.len());
        for id in envelopes {
            if self.draft.take(*id) {
                gone.push(*id);
            }
        }
        for message in messages(&gone) {
            self.draft.settle(message);
        }
        if !gone.is_empty() {
            frame.push(&form::gone(&gone));
        }
    }

    fn notify(&mut self, notice: Option<Box<Ready>>, reported: &[EnvelopeId]) -> Receipt {
        let left = reported.iter().filter(|id| self.draft.has(**id));
        let left: Vec<_> = left.copied().collect();
        if left.is_empty() {
            return Receipt::Done;
        }
        if let Some(notice) = notice {
            return self.submit(*notice, &left);
        }
        let mut frame = Builder::new(64);
        self.leave(&left, &mut frame);
        self.add(frame);
        Receipt::Done
    }

    fn settle(&mut self, settlements: Vec<Settled>) -> Result<Receipt, StoreError> {
        if self.bounces_clash(&settlements) {
            return Ok(Receipt::Refused(Refusal::Exists));
        }
        let mut frame = Builder::new(64 + settlements.len() * 8);
        let mut gone = Vec::with_capacity(settlements.len());
        let mut touched = BTreeSet::new();
        let mut damaged = BTreeMap::new();
        for Settled {
            envelope,
            change,
            bounce,
        } in settlements
        {
            let message = envelope.message();
            let Some(marks) = self.draft.stored(envelope) else {
                continue;
            };
            touched.insert(message);
            if marks.trashed {
                if let Change::Done = change {
                    self.draft.take(envelope);
                    gone.push(envelope);
                }
                continue;
            }
            if let Change::Done = change {
                self.draft.take(envelope);
                gone.push(envelope);
            } else {
                let record = self.record(envelope, &frame)?;
                match record.and_then(|record| record::open_envelope(envelope, &record)) {
                    Ok(found) => {
                        let mut found = marked(found, marks);
                        retried(&mut found, change);
                        let place = frame.push_with(|out| record::append_envelope(out, &found));
                        self.draft.put(envelope, self.staged(place), marks);
                        self.cool(message);
                    }
                    Err(damage) => {
                        damaged.entry(message).or_insert(damage);
                        continue;
                    }
                }
            }
            if let Some((id, record, marks)) = bounce {
                let place = frame.push(&record);
                self.draft.put(id, self.staged(place), marks);
            }
        }
        if !frame.is_empty() {
            // What came, left and came again in this very call is there: read again, those that left
            // do so behind all that came.
            gone.retain(|id| self.draft.stored(*id).is_none());
        }
        if !gone.is_empty() {
            frame.push(&form::gone(&gone));
        }
        let mut dropped = Vec::new();
        for message in touched {
            match damaged.remove(&message) {
                // Without it, all that is left of the message may be gone by now.
                Some(damage) => dropped.extend(self.set_aside(message, &damage, &mut frame)),
                None => self.draft.settle(message),
            }
        }
        self.add(frame);
        dropped.sort_unstable();
        Ok(if dropped.is_empty() {
            Receipt::Done
        } else {
            Receipt::Affected(dropped)
        })
    }

    /// Whether a bounce that would be created has an id in use.
    fn bounces_clash(&self, settlements: &[Settled]) -> bool {
        let mut new = BTreeSet::new();
        settlements.iter().any(|settlement| {
            settlement.bounce.as_ref().is_some_and(|(bounce, _, _)| {
                self.draft.has(settlement.envelope)
                    && (!new.insert(*bounce) || self.draft.stored(*bounce).is_some())
            })
        })
    }

    /// A deferred message stays for a while: it had better leave the hot log.
    fn cool(&mut self, message: MessageId) {
        let Some(entry) = self.draft.entry(message) else {
            return;
        };
        let slot = entry.at.slot;
        if slot != Place::STAGED && self.shared.table.lock().usage(slot) == Some(Use::Hot) {
            self.cooled.push(message);
        }
    }

    /// The record of an envelope, which may be in this very group, or in the `frame` that comes
    /// next in it.
    fn record(
        &self,
        id: EnvelopeId,
        frame: &Builder,
    ) -> Result<Result<Vec<u8>, Damage>, StoreError> {
        match self.draft.whereabouts(id) {
            Whereabouts::Log(place) if place.slot == Place::STAGED => {
                Ok(self.in_group(place, frame))
            }
            whereabouts => self.shared.envelope_record(id, whereabouts),
        }
    }

    fn in_group(&self, place: Place, frame: &Builder) -> Result<Vec<u8>, Damage> {
        let missing = || Damage::new("record is missing in its group");
        let offset = usize::try_from(place.offset).map_err(|_| missing())?;
        let (start, frame) = if offset >= self.length {
            (self.length, frame)
        } else {
            let after = self.starts.partition_point(|start| *start <= offset);
            let number = after.checked_sub(1).ok_or_else(missing)?;
            let start = *self.starts.get(number).ok_or_else(missing)?;
            (start, self.frames.get(number).ok_or_else(missing)?)
        };
        let octets = frame.octets().get(offset - start..).unwrap_or_default();
        record::first(octets).map(|found| found.record.to_vec())
    }

    /// Sets a message aside that turned out damaged while it was worked on.
    fn set_aside(
        &mut self,
        message: MessageId,
        damage: &Damage,
        frame: &mut Builder,
    ) -> Vec<EnvelopeId> {
        // The one date that no caller can give.
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let found = CorruptMessage {
            message,
            reason: damage.0.as_str().into(),
            at: Timestamp::from_secs(now.as_secs()),
            envelopes: 0,
        };
        let Some(envelopes) = self.draft.set_aside(&found) else {
            return Vec::new();
        };
        frame.push(&record::seal_corrupt(&found));
        envelopes
    }

    fn remove(&mut self, selector: Selector) -> Receipt {
        let known = match selector {
            Selector::Message(message) => self.draft.exists(message),
            Selector::Envelope(id) => self.draft.stored(id).is_some(),
            Selector::All => true,
        };
        let gone = self.draft.remove(selector);
        if known && !(gone.is_empty() && selector == Selector::All) {
            let mut frame = Builder::new(64);
            frame.push(&match selector {
                Selector::Envelope(id) => form::gone(&[id]),
                _ => form::removed(selector),
            });
            self.add(frame);
        }
        Receipt::Affected(gone)
    }

    fn discard(&mut self, span: Span, at: Timestamp) -> Receipt {
        if let Selector::Message(message) = span.selector
            && self.draft.bucket(message).is_some()
        {
            return self.remove(span.selector);
        }
        let ids = span
            .range()
            .map(|range| self.draft.discard(range, span.most, at));
        self.swept(Kind::Discard, ids.unwrap_or_default(), Some(at))
    }

    fn restore(&mut self, span: Span, at: Option<Timestamp>) -> Receipt {
        let ids = span
            .range()
            .map(|range| self.draft.recover(range, span.most, at));
        self.swept(Kind::Restore, ids.unwrap_or_default(), at)
    }

    fn purge(&mut self, span: Span, until: Timestamp) -> Receipt {
        let ids = span
            .range()
            .map(|range| self.draft.purge(range, span.most, until));
        self.swept(Kind::Purge, ids.unwrap_or_default(), Some(until))
    }

    /// A step of the trash: between the first and the last it took all that fits.
    fn swept(&mut self, kind: Kind, ids: Vec<EnvelopeId>, at: Option<Timestamp>) -> Receipt {
        if let (Some(&first), Some(&last)) = (ids.first(), ids.last()) {
            let mut frame = Builder::new(64);
            frame.push(&Swept { first, last, at }.seal(kind));
            self.add(frame);
        }
        Receipt::Affected(ids)
    }

    fn suspend(&mut self, selector: Selector, suspended: bool) -> Receipt {
        let changed = self.draft.suspend(selector, suspended);
        if !changed.is_empty() {
            let mut frame = Builder::new(64);
            frame.push(
                &Marked {
                    selector,
                    suspended,
                }
                .seal(),
            );
            self.add(frame);
        }
        Receipt::Affected(changed)
    }

    fn pause(&mut self, paused: Paused) -> Receipt {
        self.draft.pause(paused);
        let mut frame = Builder::new(64);
        frame.push(&Meta::Paused.seal(record::paused_bits(paused)));
        self.add(frame);
        Receipt::Done
    }

    fn block(&mut self, block: Block) -> Receipt {
        let mut frame = Builder::new(64);
        frame.push(&block.seal());
        self.add(frame);
        self.draft.block(block);
        Receipt::Done
    }

    fn corrupt(&mut self, message: MessageId, reason: Box<str>, at: Timestamp) -> Receipt {
        let found = CorruptMessage {
            message,
            reason,
            at,
            envelopes: 0,
        };
        let Some(envelopes) = self.draft.set_aside(&found) else {
            return Receipt::Refused(Refusal::Unknown);
        };
        let mut frame = Builder::new(64);
        frame.push(&record::seal_corrupt(&found));
        self.add(frame);
        Receipt::Affected(envelopes)
    }

    fn uncorrupt(&mut self, message: MessageId) -> Result<Receipt, StoreError> {
        if self.draft.bucket(message).is_none() {
            return Ok(Receipt::Refused(Refusal::Unknown));
        }
        if let Err(Damage(reason)) = self.sound(message)? {
            let reason = reason.into();
            return Ok(Receipt::Refused(Refusal::StillCorrupt { reason }));
        }
        self.draft.restore(message);
        let mut frame = Builder::new(64);
        frame.push(&record::seal(Kind::Uncorrupt, row_key(message), &[]));
        self.add(frame);
        Ok(Receipt::Done)
    }

    /// Whether all records of a corrupt message and its content prove themselves.
    fn sound(&self, message: MessageId) -> Result<Result<(), Damage>, StoreError> {
        let Some(bucket) = self.draft.bucket(message) else {
            return Ok(Err(Damage::new("it is not in the corrupt bucket")));
        };
        let slots = &bucket.entry.slots;
        if slots.is_empty() {
            return Ok(Err(Damage::new("none of its envelopes is left")));
        }
        let frame = Builder::new(0);
        for (id, _) in slots.ids(message) {
            let record = self.record(id, &frame)?;
            let envelope = record.and_then(|record| record::open_envelope(id, &record));
            if let Err(Damage(reason)) = envelope {
                return Ok(Err(Damage(format!("envelope {id}: {reason}"))));
            }
        }
        // A content of this very group has just been made.
        let at = bucket.entry.at;
        if at.slot == Place::STAGED {
            return Ok(Ok(()));
        }
        self.shared.prove(message, at)
    }
}

fn messages(envelopes: &[EnvelopeId]) -> BTreeSet<MessageId> {
    envelopes.iter().map(|id| id.message()).collect()
}
