//! What the schedule keeps per envelope: 16 octets and the id.

use super::clock::{Clock, NEVER, Tick};
use super::shelf::Keyed;
use crate::envelope::Agent;
use crate::id::EnvelopeId;
use crate::time::Timestamp;
use std::time::Duration;

/// Where the schedule has an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Waits for its time.
    Pending,
    /// Its time has come; waits for its turn.
    Scheduled,
    /// Handed to an agent.
    Inflight,
    /// Parked by an agent that has too much to do.
    Held,
    /// Its life is over; waits for its turn to be reported.
    Expiring,
    /// Its sender is due a delay notice; waits for its turn.
    Warning,
}

/// One envelope.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) id: EnvelopeId,
    pub(super) record: Record,
}

impl Keyed for Entry {
    type Key = EnvelopeId;

    fn key(&self) -> EnvelopeId {
        self.id
    }
}

/// Seconds since 1970 in 32 bits: enough until 2106.
type Seconds = u32;

/// An envelope's place in the schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// When the next attempt is due.
    pub(super) due: Tick,
    ctime: Seconds,
    expiry: Seconds,
    pub(super) state: State,
    marks: u8,
    agent_and_warnings: u8,
    // One octet is free.
}

/// Paused by the administrator.
pub(super) const SUSPENDED: u8 = 1;
/// Its id is in a list of those whose turn comes; it must not be put there twice.
pub(super) const LISTED: u8 = 2;
/// The wall clock jumped forward: it gets one more attempt before it may expire.
pub(super) const PARDONED: u8 = 4;
/// It could not be read: leave it alone until it is due, whatever else is.
pub(super) const POSTPONED: u8 = 8;

/// As many delay notices have been made as there will ever be.
pub(super) const NO_WARNINGS: u8 = 63;

impl Record {
    pub(super) fn new(agent: Agent, ctime: Timestamp, ttl: Duration, due: Tick) -> Self {
        Self {
            due,
            ctime: seconds(ctime),
            expiry: seconds(ctime.after(ttl)),
            state: State::Pending,
            marks: 0,
            agent_and_warnings: agent as u8,
        }
    }

    pub(super) fn agent(&self) -> Agent {
        match self.agent_and_warnings & 3 {
            0 => Agent::Mta,
            1 => Agent::Mda,
            _ => Agent::Bounce,
        }
    }

    pub(super) fn ctime(&self) -> Timestamp {
        Timestamp::from_secs(u64::from(self.ctime))
    }

    pub(super) fn expiry(&self) -> Timestamp {
        Timestamp::from_secs(u64::from(self.expiry))
    }

    pub(super) fn is(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    pub(super) fn mark(&mut self, mark: u8, on: bool) {
        if on {
            self.marks |= mark;
        } else {
            self.marks &= !mark;
        }
    }

    /// How many of the configured delays have been reported.
    pub(super) fn warnings(&self) -> u8 {
        self.agent_and_warnings >> 2
    }

    pub(super) fn set_warnings(&mut self, warnings: u8) {
        self.agent_and_warnings = self.agent_and_warnings & 3 | warnings.min(NO_WARNINGS) << 2;
    }

    /// When the next delay notice is due.
    pub(super) fn warning(&self, delays: &[Duration]) -> Option<Timestamp> {
        let delay = delays.get(usize::from(self.warnings()))?;
        Some(self.ctime().after(*delay))
    }

    /// When the schedule must look at it next.
    pub(super) fn wake(&self, clock: &Clock, delays: &[Duration]) -> Tick {
        if self.is(POSTPONED) && self.state == State::Pending {
            return self.due;
        }
        let end = if self.is(PARDONED) {
            NEVER
        } else {
            let warning = self.warning(delays).map_or(NEVER, |at| clock.tick_of(at));
            clock.tick_of(self.expiry()).min(warning)
        };
        match self.state {
            State::Pending if !self.is(SUSPENDED) => end.min(self.due),
            State::Pending | State::Scheduled | State::Held => end,
            State::Inflight | State::Expiring | State::Warning => NEVER,
        }
    }
}

fn seconds(date: Timestamp) -> Seconds {
    Seconds::try_from(date.as_secs()).unwrap_or(Seconds::MAX)
}

/// An entry of the time order: 12 octets, because the id is kept as octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wake {
    pub(super) tick: Tick,
    id: [u8; 8],
}

impl Wake {
    pub(super) fn new(tick: Tick, id: EnvelopeId) -> Self {
        Self {
            tick,
            id: id.get().to_be_bytes(),
        }
    }

    pub(super) fn id(&self) -> EnvelopeId {
        EnvelopeId::new(u64::from_be_bytes(self.id)).expect("it was made from an id")
    }
}

impl Keyed for Wake {
    type Key = Self;

    fn key(&self) -> Self {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_costs_36_octets_before_slack() {
        assert_eq!((size_of::<Entry>(), size_of::<Wake>()), (24, 12));
    }
}
