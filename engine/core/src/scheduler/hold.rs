//! Hold queues: envelopes parked for a relay or user that has enough to do.
//!
//! Promises: first in, first out per key; no queue longer than its limit; 8 octets per envelope.
//! One that leaves for another reason than release stays listed until its turn comes, and is then
//! passed over: whether an envelope is held is decided by its record.

use super::HoldKey;
use crate::hash::Fixed;
use crate::id::EnvelopeId;
use std::collections::{HashMap, VecDeque};

#[derive(Debug, Default)]
pub(super) struct Holds {
    queues: HashMap<HoldKey, VecDeque<EnvelopeId>, Fixed>,
}

impl Holds {
    /// Parks an envelope, unless the queue holds `most` already.
    pub(super) fn park(&mut self, key: HoldKey, id: EnvelopeId, most: usize) -> bool {
        let queue = self.queues.entry(key).or_default();
        let room = queue.len() < most;
        if room {
            queue.push_back(id);
        }
        room
    }

    /// Takes the one that has waited longest for `key`.
    pub(super) fn release(&mut self, key: HoldKey) -> Option<EnvelopeId> {
        let queue = self.queues.get_mut(&key)?;
        let id = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&key);
        }
        id
    }

    /// Queues in use.
    pub(super) fn len(&self) -> usize {
        self.queues.len()
    }
}
