//! Envelopes that were removed while an attempt was running.
//!
//! Promises: as long as the attempt runs there is no second one, though the envelope is brought back
//! meanwhile; one that the attempt has ended for good does not stay in the trash.
//! Absent on purpose: counting and logging, which are for what is queued.

use super::settling::Counted;
use super::{Engine, Scheduled};
use crate::id::EnvelopeId;
use crate::queue::{Change, Outcome, Settlement};
use crate::time::{Now, Timestamp};
use std::collections::BTreeMap;

/// An envelope that is not queued, or was not when its attempt was last heard of.
#[derive(Debug)]
pub(super) struct Departing {
    /// When it was handed out.
    since: Timestamp,
    /// As it came back.
    returned: Option<Scheduled>,
}

/// Those of which something still runs; bounded by the envelopes in flight.
pub(super) type All = BTreeMap<EnvelopeId, Departing>;

impl Engine {
    /// It is removed while something of it runs.
    pub(super) fn depart(&mut self, id: EnvelopeId, since: Timestamp) {
        let returned = None;
        self.departing.insert(id, Departing { since, returned });
    }

    /// It is queued again; says whether it has to wait for what still runs.
    pub(super) fn waits(&mut self, envelope: &Scheduled) -> bool {
        let departing = self.departing.get_mut(&envelope.id);
        let waits = departing.is_some();
        if let Some(departing) = departing {
            departing.returned = Some(*envelope);
        }
        waits
    }

    /// Nothing of it runs any more. If it came back, it is scheduled.
    pub(super) fn at_rest(&mut self, now: Now, id: EnvelopeId) {
        if let Some(Departing {
            returned: Some(envelope),
            ..
        }) = self.departing.remove(&id)
        {
            self.entered_queue(now, &envelope);
        }
    }

    /// Its attempt has ended. Says whether the outcome counts, for it came back meanwhile; if not,
    /// one that was final takes it out of the trash.
    pub(super) fn came_back(&mut self, now: Now, id: EnvelopeId, outcome: &Outcome) -> bool {
        let Some(Departing { since, returned }) = self.departing.remove(&id) else {
            return false;
        };
        if let Some(envelope) = returned {
            self.entered_queue(now, &envelope);
            self.scheduler.resume(id, since);
            return true;
        }
        if !matches!(outcome, Outcome::TempFail(_)) {
            let settlement = Settlement {
                envelope: id,
                change: Change::Done,
                bounce: None,
            };
            self.settling.add(settlement, Counted::Removed);
        }
        false
    }
}
