//! The trash in memory: when each envelope that is in it was discarded.
//!
//! What: that an envelope is in the trash is a mark in its slot; here are the times, and the sums
//! over all messages that are queued, which those of the corrupt bucket are not.
//! Promises: kept in step by the index, message by message.
//! Absent on purpose: envelopes and contents, which stay where they were.

use super::index::Entry;
use super::slots::low;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::TrashState;
use redspool_core::time::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Trash {
    times: BTreeMap<EnvelopeId, Timestamp>,
    /// How many envelopes were discarded when.
    ages: BTreeMap<Timestamp, u64>,
    envelopes: u64,
    octets: u64,
}

impl Trash {
    /// When an envelope was discarded.
    pub(super) fn at(&self, id: EnvelopeId) -> Option<Timestamp> {
        self.times.get(&id).copied()
    }

    /// Takes over a time, whatever becomes of the sums.
    pub(super) fn note(&mut self, id: EnvelopeId, at: Timestamp) {
        self.times.insert(id, at);
    }

    pub(super) fn state(&self) -> TrashState {
        TrashState {
            envelopes: self.envelopes,
            octets: self.octets,
            oldest: self.ages.first_key_value().map(|(at, _)| *at),
            latest: self.ages.last_key_value().map(|(at, _)| *at),
        }
    }

    /// The times of a message's envelopes, in order; none if none of them is in the trash.
    pub(super) fn times(&self, message: MessageId, entry: &Entry) -> Vec<Option<Timestamp>> {
        if !entry.slots.any_trashed() {
            return Vec::new();
        }
        let slots = entry.slots.ids(message);
        let at = |(id, marks): (EnvelopeId, super::slots::Marks)| {
            // One that is marked has a time; if not, it is taken to be old.
            let at = self.at(id).unwrap_or(Timestamp::EPOCH);
            marks.trashed.then_some(at)
        };
        slots.map(at).collect()
    }

    /// The message is counted from now on.
    pub(super) fn add(&mut self, message: MessageId, entry: &Entry) {
        for at in self.times(message, entry).into_iter().flatten() {
            *self.ages.entry(at).or_default() += 1;
            self.envelopes += 1;
        }
        self.octets += alone(entry);
    }

    /// The message is counted no longer.
    pub(super) fn subtract(&mut self, message: MessageId, entry: &Entry) {
        for at in self.times(message, entry).into_iter().flatten() {
            if let Some(count) = self.ages.get_mut(&at) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.ages.remove(&at);
                }
            }
            self.envelopes = self.envelopes.saturating_sub(1);
        }
        self.octets = self.octets.saturating_sub(alone(entry));
    }

    /// A message has changed: times of what was discarded come, of what is back or gone go.
    pub(super) fn follow(
        &mut self,
        message: MessageId,
        before: Option<&Entry>,
        after: Option<&Entry>,
        discarded: &HashMap<EnvelopeId, Timestamp>,
    ) {
        let trashed = |entry: Option<&Entry>, id: EnvelopeId| {
            let slot = entry.and_then(|entry| entry.slots.find(low(id)));
            slot.is_some_and(|slot| slot.marks.trashed)
        };
        let before = before.filter(|entry| entry.slots.any_trashed());
        for (id, _) in before
            .into_iter()
            .flat_map(|entry| entry.slots.ids(message))
        {
            if !trashed(after, id) {
                self.times.remove(&id);
            }
        }
        let after = after.filter(|entry| entry.slots.any_trashed());
        for (id, marks) in after.into_iter().flat_map(|entry| entry.slots.ids(message)) {
            if marks.trashed
                && let Some(at) = discarded.get(&id)
            {
                self.times.insert(id, *at);
            }
        }
    }

    /// Counts everything anew.
    pub(super) fn recount<'e>(
        &mut self,
        messages: impl Iterator<Item = (&'e MessageId, &'e Entry)>,
    ) {
        self.ages.clear();
        (self.envelopes, self.octets) = (0, 0);
        for (message, entry) in messages {
            self.add(*message, entry);
        }
    }
}

/// Octets of a message of which everything is in the trash.
fn alone(entry: &Entry) -> u64 {
    let mut slots = entry.slots.all().iter();
    if entry.slots.is_empty() || !slots.all(|slot| slot.marks.trashed) {
        return 0;
    }
    u64::from(entry.octets)
}
