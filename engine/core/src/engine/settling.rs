//! Outcomes on their way into the store.
//!
//! Promises: an outcome is kept until the store has it, and given to it again if it failed
//! meanwhile; counters change when it is recorded, so that they always add up.

use super::Engine;
use crate::id::EnvelopeId;
use crate::queue::{Change, Scheduled, Settlement};
use crate::stats::Counter;
use crate::time::Now;
use std::collections::{BTreeMap, BTreeSet};

/// What a settlement counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Delivered,
    TempFail,
    PermFail,
    Loop,
    Expired,
    /// Not an outcome: only a notice that it is late.
    Warned,
    /// It was removed before.
    Removed,
}

/// Settlements of one transition: as many as the store's writer takes in one go.
const BATCH: usize = 1024;

/// The outcomes the store does not have yet.
#[derive(Debug, Default)]
pub(super) struct Settling {
    entries: BTreeMap<EnvelopeId, (Settlement, Counted)>,
    /// Those it has not been given.
    fresh: BTreeSet<EnvelopeId>,
}

impl Settling {
    pub(super) fn add(&mut self, settlement: Settlement, counted: Counted) {
        let id = settlement.envelope;
        self.entries.insert(id, (settlement, counted));
        self.fresh.insert(id);
    }

    pub(super) fn contains(&self, id: EnvelopeId) -> bool {
        self.entries.contains_key(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What to give to the store next.
    pub(super) fn batch(&mut self) -> Option<Vec<Settlement>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            let Some(id) = self.fresh.pop_first() else {
                break;
            };
            let entry = self.entries.get(&id);
            batch.extend(entry.map(|(settlement, _)| settlement.clone()));
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// The store may have lost what it was given.
    pub(super) fn again(&mut self) {
        self.fresh = self.entries.keys().copied().collect();
    }
}

impl Engine {
    /// An outcome is recorded.
    pub(super) fn settled(&mut self, now: Now, id: EnvelopeId) {
        let Some((settlement, counted)) = self.settling.entries.remove(&id) else {
            return;
        };
        self.settling.fresh.remove(&id);
        let known = self.scheduler.contains(id);
        if known {
            self.count(counted);
        }
        let stays = matches!(settlement.change, Change::Retry { .. });
        match settlement.change {
            Change::Done => {
                if self.scheduler.forget(id) {
                    self.left_queue();
                }
            }
            Change::Retry { retry, warned, .. } => {
                if counted != Counted::Warned {
                    self.scheduler.retry(now, id, retry);
                }
                if warned.is_some() {
                    self.scheduler.warned(now, id);
                }
            }
        }
        // One that was removed before it could be settled has no bounce; whether it was before is
        // only certain if it was to leave. A bounce that does not exist is found out when loaded.
        if let Some(bounce) = settlement.bounce
            && (known || stays)
            && self.entered_queue(now, &Scheduled::from(&*bounce))
        {
            self.digest.bounce += 1;
            self.counters.add(Counter::QueueBounce, 1);
        }
        if stays {
            self.at_rest(now, id);
        } else {
            // Whether it came back before or not: it is gone now.
            self.departing.remove(&id);
        }
    }

    /// Counts an outcome.
    pub(super) fn count(&mut self, counted: Counted) {
        let (counter, total) = match counted {
            Counted::Delivered => (Counter::SchedulerDeliveryOk, &mut self.digest.ok),
            Counted::TempFail => (
                Counter::SchedulerDeliveryTempfail,
                &mut self.digest.tempfail,
            ),
            Counted::PermFail => (
                Counter::SchedulerDeliveryPermfail,
                &mut self.digest.permfail,
            ),
            Counted::Loop => (Counter::SchedulerDeliveryLoop, &mut self.digest.loops),
            Counted::Expired => (Counter::SchedulerEnvelopeExpired, &mut self.digest.expired),
            Counted::Warned | Counted::Removed => return,
        };
        *total += 1;
        self.counters.add(counter, 1);
    }
}
