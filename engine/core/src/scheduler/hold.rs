//! Hold queues: envelopes parked for a relay or user that has enough to do.
//!
//! Promises: first in, first out per key; no queue longer than its limit; an envelope is in at most
//! one queue.

use super::HoldKey;
use crate::id::EnvelopeId;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Holds {
    queues: BTreeMap<HoldKey, BTreeMap<u64, EnvelopeId>>,
    places: BTreeMap<EnvelopeId, (HoldKey, u64)>,
    next: u64,
}

impl Holds {
    /// Parks an envelope, unless the queue holds `most` already.
    pub(super) fn park(&mut self, key: HoldKey, id: EnvelopeId, most: usize) -> bool {
        let queue = self.queues.entry(key).or_default();
        if queue.len() >= most {
            return false;
        }
        self.next += 1;
        queue.insert(self.next, id);
        self.places.insert(id, (key, self.next));
        true
    }

    /// Takes an envelope off hold, wherever it is.
    pub(super) fn take(&mut self, id: EnvelopeId) {
        let Some((key, place)) = self.places.remove(&id) else {
            return;
        };
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.remove(&place);
            if queue.is_empty() {
                self.queues.remove(&key);
            }
        }
    }

    /// Takes the one that has waited longest for `key`.
    pub(super) fn release(&mut self, key: HoldKey) -> Option<EnvelopeId> {
        let (_, id) = self.queues.get(&key)?.first_key_value()?;
        let id = *id;
        self.take(id);
        Some(id)
    }

    /// Envelopes parked.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Queues in use.
    pub(super) fn queues(&self) -> usize {
        self.queues.len()
    }
}
