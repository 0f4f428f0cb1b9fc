//! Back-pressure of one relay or user: when to hold envelopes, and when to ask for them again.
//!
//! Promises: from `hiwat` waiting on more are held until there are `lowat`; as long as any may be
//! held and few wait, more are asked for, but never before those asked for have come, so that what
//! is asked for finds room.

use std::time::{Duration, Instant};

/// The three numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    /// From so many waiting on, more are held.
    pub(crate) hiwat: usize,
    /// At so many waiting, held ones are asked for.
    pub(crate) lowat: usize,
    /// So many at a time.
    pub(crate) release: usize,
}

/// How long we wait for those asked for. They come within milliseconds; some may never, because
/// they were removed meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// The state of one relay or user.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    on_hold: bool,
    /// Whether there may be held ones.
    held: bool,
    /// Those asked for that have not come, and until when we believe in them.
    expected: usize,
    until: Option<Instant>,
}

impl Pressure {
    /// Another one wants to join the `waiting`; says whether it may. If not, it is held.
    pub(crate) fn admits(&mut self, waiting: usize, marks: Marks) -> bool {
        self.expected = self.expected.saturating_sub(1);
        if waiting >= marks.hiwat {
            self.on_hold = true;
        }
        self.held |= self.on_hold;
        !self.on_hold
    }

    /// There are only so many `waiting` now: how many held ones to ask for.
    pub(crate) fn wants(&mut self, now: Instant, waiting: usize, marks: Marks) -> usize {
        if waiting > marks.lowat && waiting > 0 {
            return 0;
        }
        self.on_hold = false;
        if !self.held || self.expects_until(now).is_some() {
            return 0;
        }
        self.expected = 0;
        if waiting == 0 {
            marks.hiwat
        } else {
            marks.release
        }
    }

    /// Of the `asked` for, so many are coming.
    pub(crate) fn released(&mut self, now: Instant, asked: usize, coming: usize) {
        self.held = coming >= asked;
        self.expected = coming;
        self.until = now.checked_add(PATIENCE);
    }

    /// All are held from now on, until some are wanted.
    pub(crate) fn park(&mut self) {
        self.on_hold = true;
        self.held = true;
    }

    /// Until when those asked for are waited for, if they have not come.
    pub(crate) fn expects_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| self.expected > 0 && now < *until)
    }

    /// Whether more are held.
    pub(crate) fn is_on_hold(&self) -> bool {
        self.on_hold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::start;

    const MARKS: Marks = Marks {
        hiwat: 50,
        lowat: 30,
        release: 10,
    };

    #[test]
    fn held_ones_are_asked_for_once() {
        let now = start().mono;
        let mut pressure = Pressure::default();
        assert!(pressure.admits(49, MARKS));
        assert_eq!(pressure.wants(now, 30, MARKS), 0, "nothing is held");
        assert!(!pressure.admits(50, MARKS));
        assert!(!pressure.admits(40, MARKS), "until there are few");
        assert_eq!(pressure.wants(now, 31, MARKS), 0);
        assert_eq!(pressure.wants(now, 30, MARKS), 10);
        pressure.released(now, 10, 10);
        assert!(pressure.admits(29, MARKS));
        assert_eq!(pressure.wants(now, 29, MARKS), 0, "nine are still coming");
        for _ in 0..9 {
            assert!(pressure.admits(29, MARKS));
        }
        assert_eq!(pressure.wants(now, 0, MARKS), 50);
        pressure.released(now, 50, 3);
        let later = now + PATIENCE;
        assert_eq!(pressure.wants(later, 0, MARKS), 0, "those were the last");
    }

    #[test]
    fn those_that_never_come_are_not_waited_for() {
        let now = start().mono;
        let mut pressure = Pressure::default();
        assert!(!pressure.admits(50, MARKS));
        assert_eq!(pressure.wants(now, 30, MARKS), 10);
        pressure.released(now, 10, 10);
        assert_eq!(pressure.wants(now, 0, MARKS), 0);
        assert_eq!(pressure.wants(now + PATIENCE, 0, MARKS), 50);
    }
}
