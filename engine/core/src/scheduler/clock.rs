//! The schedule's own time: ticks of a tenth of a second since the schedule was made.
//!
//! Promises: ticks never go back and follow the monotonic clock; a date has the same tick until
//! the wall clock is found to have been set, and then [`Clock::advance`] says so once.

use crate::time::{Now, Timestamp};
use std::time::{Duration, Instant};

/// A point of time: tenths of a second since the start; 13 years fit.
pub(super) type Tick = u32;

/// After everything else, and never reached.
pub(super) const NEVER: Tick = Tick::MAX;

const TICK: Duration = Duration::from_millis(100);

/// By how many seconds both clocks may drift apart before we call it a step.
const TOLERANCE: u64 = 60;

/// The wall clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whether it was set forward.
    pub forward: bool,
    /// By how much.
    pub by: Duration,
}

/// Both clocks, with their common origin.
#[derive(Debug, Default)]
pub(super) struct Clock {
    origin: Option<Instant>,
    /// The wall clock at the origin, as it is set now.
    date: u64,
    elapsed: Duration,
}

impl Clock {
    /// Takes a reading; the first one makes the origin. Tells of a step of the wall clock.
    pub(super) fn advance(&mut self, now: Now) -> Option<Step> {
        let Some(origin) = self.origin else {
            self.origin = Some(now.mono);
            self.date = now.wall.as_secs();
            return None;
        };
        let elapsed = now.mono.saturating_duration_since(origin);
        self.elapsed = self.elapsed.max(elapsed);
        let expected = self.date.saturating_add(elapsed.as_secs());
        let actual = now.wall.as_secs();
        if actual.abs_diff(expected) <= TOLERANCE {
            return None;
        }
        self.date = actual.saturating_sub(elapsed.as_secs());
        Some(Step {
            forward: actual > expected,
            by: Duration::from_secs(actual.abs_diff(expected)),
        })
    }

    /// The tick we are in.
    pub(super) fn now(&self) -> Tick {
        whole_ticks(self.elapsed)
    }

    /// The first tick at which `wait` is over.
    pub(super) fn after(&self, wait: Duration) -> Tick {
        let end = self.elapsed.saturating_add(wait);
        let started = u32::from(!end.subsec_nanos().is_multiple_of(100_000_000));
        whole_ticks(end).saturating_add(started).min(NEVER - 1)
    }

    /// The tick of a date.
    pub(super) fn tick_of(&self, date: Timestamp) -> Tick {
        let seconds = date.as_secs().saturating_sub(self.date);
        whole_ticks(Duration::from_secs(seconds)).min(NEVER - 1)
    }

    /// When a tick begins.
    pub(super) fn instant_of(&self, tick: Tick) -> Option<Instant> {
        self.origin?.checked_add(TICK.checked_mul(tick)?)
    }

    /// Seconds from now to a tick, negative if it is over.
    pub(super) fn seconds_to(&self, tick: Tick) -> i64 {
        let tenths = i64::from(tick) - i64::from(self.now());
        tenths.div_euclid(10) + i64::from(tenths.rem_euclid(10) > 0)
    }
}

fn whole_ticks(duration: Duration) -> Tick {
    Tick::try_from(duration.as_millis() / TICK.as_millis()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::start;

    #[test]
    fn waits_are_never_cut_short() {
        let mut clock = Clock::default();
        let start = start().mono;
        let at = |millis| Now {
            mono: start + Duration::from_millis(millis),
            wall: Timestamp::from_secs(1000 + millis / 1000),
        };
        clock.advance(at(0));
        clock.advance(at(90));
        let tick = clock.after(Duration::from_millis(250));
        clock.advance(at(399));
        assert!(clock.now() < tick);
        assert_eq!(clock.instant_of(tick), Some(at(400).mono));
        clock.advance(at(400));
        assert!(clock.now() >= tick);
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_once() {
        let mut clock = Clock::default();
        let mono = start().mono;
        let at = |seconds| Now {
            mono,
            wall: Timestamp::from_secs(seconds),
        };
        assert_eq!(clock.advance(at(10_000)), None);
        assert_eq!(clock.advance(at(10_030)), None);
        let step = clock.advance(at(20_000));
        assert!(step.is_some_and(|step| step.forward && step.by == Duration::from_secs(10_000)));
        assert_eq!(clock.advance(at(20_000)), None);
        assert!(clock.advance(at(9000)).is_some_and(|step| !step.forward));
        assert_eq!(clock.tick_of(Timestamp::from_secs(9001)), 10);
    }
}
