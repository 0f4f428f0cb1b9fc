//! The effect of a group before it is durable: changes laid over the index.
//!
//! What: each verb changes the draft as the transition of that name changes the queue. Transitions
//! that come in and records that are replayed end in the same verbs.
//! Promises: the index is not touched; later members of a group see the earlier ones; a message
//! without envelopes is gone.
//! Absent on purpose: whether a transition is allowed (`plan.rs`), how it is written down.

use super::index::{Bucket, Change, Delta, Entry, Index, State, Whereabouts};
use super::place::Place;
use super::slots::{Marks, Slot, Slots, low};
use crate::blocks::Block;
use redspool_core::id::{EnvelopeId, Epoch, MessageId};
use redspool_core::queue::{CorruptMessage, Paused, Selector};
use redspool_core::time::Timestamp;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// A draft.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    index: &'a Index,
    delta: Delta,
}

impl<'a> Draft<'a> {
    pub(super) fn new(index: &'a Index) -> Self {
        Self {
            index,
            delta: Delta::default(),
        }
    }

    pub(super) fn finish(self) -> Delta {
        self.delta
    }

    pub(super) fn exists(&self, message: MessageId) -> bool {
        match self.delta.messages.get(&message) {
            Some(state) => *state != State::Absent,
            None => self.index.exists(message),
        }
    }

    /// A queued message.
    pub(super) fn entry(&self, message: MessageId) -> Option<&Entry> {
        match self.delta.messages.get(&message) {
            Some(State::Queued(entry)) => Some(entry),
            Some(_) => None,
            None => self.index.messages.get(&message),
        }
    }

    /// A message in the corrupt bucket.
    pub(super) fn bucket(&self, message: MessageId) -> Option<&Bucket> {
        match self.delta.messages.get(&message) {
            Some(State::Corrupt(bucket)) => Some(bucket),
            Some(_) => None,
            None => self.index.corrupt.get(&message),
        }
    }

    /// Whether an envelope is queued.
    pub(super) fn has(&self, id: EnvelopeId) -> bool {
        self.marks(id).is_some()
    }

    /// The marks of a queued envelope.
    pub(super) fn marks(&self, id: EnvelopeId) -> Option<Marks> {
        self.stored(id).filter(|marks| !marks.trashed)
    }

    /// The marks of an envelope that is queued or in the trash.
    pub(super) fn stored(&self, id: EnvelopeId) -> Option<Marks> {
        let entry = self.entry(id.message())?;
        Some(entry.slots.find(low(id))?.marks)
    }

    /// Where an envelope's record is.
    pub(super) fn whereabouts(&self, id: EnvelopeId) -> Whereabouts {
        match self.delta.envelopes.get(&id) {
            Some(Change::At { place, .. }) => Whereabouts::Log(*place),
            _ => self.index.whereabouts(id),
        }
    }

    /// A message enters, without envelopes so far.
    pub(super) fn enter(&mut self, message: MessageId, at: Place, octets: u32) {
        let entry = Entry {
            at,
            octets,
            stored: false,
            slots: Slots::none(),
        };
        self.delta.messages.insert(message, State::Queued(entry));
        self.delta.epoch = Some(match self.delta.epoch {
            None => Epoch::of(message),
            before => Epoch::later(before, Epoch::of(message)),
        });
    }

    /// A message's record and content lie elsewhere from now on.
    pub(super) fn relocate(&mut self, message: MessageId, at: Place, octets: u32) {
        if let Some(entry) = self.touch(message) {
            (entry.at, entry.octets) = (at, octets);
        }
    }

    /// All envelopes of a message that has just entered.
    pub(super) fn fill(&mut self, message: MessageId, envelopes: &[(EnvelopeId, Place, Marks)]) {
        let slots = envelopes.iter().map(|(id, _, marks)| Slot {
            low: low(*id),
            marks: *marks,
        });
        let slots = Slots::new(slots.collect());
        if let Some(entry) = self.touch(message) {
            entry.slots = slots;
        }
        for (id, place, marks) in envelopes {
            self.delta.envelopes.insert(*id, at(*place, *marks));
        }
    }

    /// An envelope has this record from now on; a new one joins its message.
    pub(super) fn put(&mut self, id: EnvelopeId, place: Place, marks: Marks) {
        let slot = Slot {
            low: low(id),
            marks,
        };
        if let Some(entry) = self.touch(id.message()) {
            entry.slots.put(slot);
            self.delta.envelopes.insert(id, at(place, marks));
        }
    }

    /// An envelope leaves the queue, or the trash; whether it was there.
    pub(super) fn take(&mut self, id: EnvelopeId) -> bool {
        if self.stored(id).is_none() {
            return false;
        }
        if let Some(entry) = self.touch(id.message()) {
            entry.slots.take(low(id));
        }
        self.delta.envelopes.insert(id, Change::Gone);
        true
    }

    /// A message without envelopes is gone.
    pub(super) fn settle(&mut self, message: MessageId) {
        if self
            .entry(message)
            .is_some_and(|entry| entry.slots.is_empty())
        {
            self.delta.messages.insert(message, State::Absent);
        }
    }

    /// Removes what is selected of the queue; what is named by its id leaves the trash, a message the
    /// corrupt bucket, too.
    pub(super) fn remove(&mut self, selector: Selector) -> Vec<EnvelopeId> {
        let mut gone = Vec::new();
        match selector {
            Selector::Envelope(id) => {
                if self.take(id) {
                    gone.push(id);
                    self.settle(id.message());
                }
            }
            Selector::Message(message) => {
                let slots = match (self.entry(message), self.bucket(message)) {
                    (Some(entry), _) => &entry.slots,
                    (None, Some(bucket)) => &bucket.entry.slots,
                    (None, None) => return gone,
                };
                gone.extend(slots.ids(message).map(|(id, _)| id));
                self.delta.messages.insert(message, State::Absent);
            }
            Selector::All => {
                for message in self.queued() {
                    let Some(entry) = self.entry(message) else {
                        continue;
                    };
                    let queued = entry.slots.ids(message).filter(|(_, marks)| !marks.trashed);
                    gone.extend(queued.map(|(id, _)| id));
                    let slots = entry.slots.trashed();
                    let state = if slots.is_empty() {
                        State::Absent
                    } else {
                        State::Queued(Entry {
                            slots,
                            ..entry.clone()
                        })
                    };
                    self.delta.messages.insert(message, state);
                }
            }
        }
        let changes = gone.iter().map(|id| (*id, Change::Gone));
        self.delta.envelopes.extend(changes);
        gone
    }

    /// Pauses or resumes what is selected; gives what was not so before.
    pub(super) fn suspend(&mut self, selector: Selector, suspended: bool) -> Vec<EnvelopeId> {
        let messages = match selector {
            Selector::Envelope(id) => BTreeSet::from([id.message()]),
            Selector::Message(message) => BTreeSet::from([message]),
            Selector::All => self.queued(),
        };
        let mut changed = Vec::new();
        for message in messages {
            let Some(entry) = self.entry(message) else {
                continue;
            };
            let other = entry.slots.ids(message);
            let other = other.filter(|(id, marks)| {
                selector.matches(*id) && !marks.trashed && marks.suspended != suspended
            });
            let other: Vec<_> = other.collect();
            for (id, marks) in &other {
                self.mark(
                    *id,
                    Marks {
                        suspended,
                        ..*marks
                    },
                );
            }
            changed.extend(other.into_iter().map(|(id, _)| id));
        }
        changed
    }

    /// Queued envelopes go to the trash.
    pub(super) fn discard(
        &mut self,
        range: RangeInclusive<EnvelopeId>,
        most: usize,
        at: Timestamp,
    ) -> Vec<EnvelopeId> {
        let ids = self.within(range, most, |_, marks| !marks.trashed);
        for id in &ids {
            self.set_trashed(*id, true);
            self.delta.discarded.insert(*id, at);
        }
        ids
    }

    /// Envelopes come back from the trash, all or those that were discarded at a time.
    pub(super) fn recover(
        &mut self,
        range: RangeInclusive<EnvelopeId>,
        most: usize,
        at: Option<Timestamp>,
    ) -> Vec<EnvelopeId> {
        let fits = |id, marks: Marks| {
            marks.trashed && at.is_none_or(|at| self.discarded_at(id) == Some(at))
        };
        let ids = self.within(range, most, fits);
        for id in &ids {
            self.set_trashed(*id, false);
            self.delta.discarded.remove(id);
        }
        ids
    }

    /// Envelopes that were discarded at a time or before leave the trash for good.
    pub(super) fn purge(
        &mut self,
        range: RangeInclusive<EnvelopeId>,
        most: usize,
        until: Timestamp,
    ) -> Vec<EnvelopeId> {
        let fits =
            |id, marks: Marks| marks.trashed && self.discarded_at(id).is_none_or(|at| at <= until);
        let ids = self.within(range, most, fits);
        for id in &ids {
            self.take(*id);
            self.delta.discarded.remove(id);
        }
        for message in ids.iter().map(|id| id.message()).collect::<BTreeSet<_>>() {
            self.settle(message);
        }
        ids
    }

    /// When an envelope in the trash was discarded.
    fn discarded_at(&self, id: EnvelopeId) -> Option<Timestamp> {
        let now = self.delta.discarded.get(&id).copied();
        now.or_else(|| self.index.trash.at(id))
    }

    fn set_trashed(&mut self, id: EnvelopeId, trashed: bool) {
        if let Some(marks) = self.stored(id) {
            self.mark(id, Marks { trashed, ..marks });
        }
    }

    /// The first of the envelopes in a range that fit, queued or in the trash.
    fn within(
        &self,
        range: RangeInclusive<EnvelopeId>,
        most: usize,
        fits: impl Fn(EnvelopeId, Marks) -> bool,
    ) -> Vec<EnvelopeId> {
        let messages = range.start().message()..=range.end().message();
        let mut changed: Vec<_> = self.delta.messages.keys().copied().collect();
        changed.retain(|message| messages.contains(message));
        changed.sort_unstable();
        let mut changed = changed.into_iter().peekable();
        let mut stored = self.index.messages.range(messages).peekable();
        let mut found = Vec::new();
        while found.len() < most {
            let next = match (stored.peek(), changed.peek()) {
                (None, None) => break,
                (Some((stored, _)), Some(changed)) => **stored.min(&changed),
                (Some((stored, _)), None) => **stored,
                (None, Some(changed)) => *changed,
            };
            stored.next_if(|(message, _)| **message == next);
            changed.next_if_eq(&next);
            let Some(entry) = self.entry(next) else {
                continue;
            };
            let fitting = entry.slots.ids(next);
            let fitting = fitting.filter(|(id, marks)| range.contains(id) && fits(*id, *marks));
            let left = most - found.len();
            found.extend(fitting.map(|(id, _)| id).take(left));
        }
        found
    }

    /// Changes the marks of an envelope that is queued or in the trash.
    pub(super) fn mark(&mut self, id: EnvelopeId, marks: Marks) {
        let change = match self.delta.envelopes.get(&id) {
            Some(Change::At { place, .. }) => at(*place, marks),
            _ => Change::Marked(marks),
        };
        let slot = Slot {
            low: low(id),
            marks,
        };
        if let Some(entry) = self.touch(id.message()) {
            entry.slots.put(slot);
            self.delta.envelopes.insert(id, change);
        }
    }

    /// Sets a message aside; `None` if it is not queued.
    pub(super) fn set_aside(&mut self, found: &CorruptMessage) -> Option<Vec<EnvelopeId>> {
        let entry = self.entry(found.message)?.clone();
        let envelopes = entry.slots.ids(found.message).map(|(id, _)| id).collect();
        let bucket = Bucket {
            entry,
            reason: found.reason.clone(),
            at: found.at,
        };
        self.delta
            .messages
            .insert(found.message, State::Corrupt(bucket));
        Some(envelopes)
    }

    /// A message comes back from the corrupt bucket.
    pub(super) fn restore(&mut self, message: MessageId) {
        if let Some(bucket) = self.bucket(message) {
            let entry = bucket.entry.clone();
            self.delta.messages.insert(message, State::Queued(entry));
        }
    }

    pub(super) fn pause(&mut self, paused: Paused) {
        self.delta.paused = Some(paused);
    }

    pub(super) fn block(&mut self, block: Block) {
        self.delta.blocks.push(block);
    }

    /// Every queued message.
    fn queued(&self) -> BTreeSet<MessageId> {
        let mut queued: BTreeSet<_> = self.index.messages.keys().copied().collect();
        for (message, state) in &self.delta.messages {
            match state {
                State::Queued(_) => queued.insert(*message),
                State::Absent | State::Corrupt(_) => queued.remove(message),
            };
        }
        queued
    }

    /// A queued message, to be changed.
    fn touch(&mut self, message: MessageId) -> Option<&mut Entry> {
        let state = self.delta.messages.entry(message);
        match state.or_insert_with(|| self.index.state(message)) {
            State::Queued(entry) => Some(entry),
            State::Absent | State::Corrupt(_) => None,
        }
    }
}

fn at(place: Place, marks: Marks) -> Change {
    // Whether it is fresh is found out when it is merged.
    Change::At {
        place,
        marks,
        fresh: false,
    }
}
