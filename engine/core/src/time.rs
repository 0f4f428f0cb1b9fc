//! Time as a value: dates are [`Timestamp`]s, waits are `Instant`s and `Duration`s.
//!
//! The two never mix but in [`Now`], which carries one reading of both clocks: delays are
//! measured on the monotonic clock, dates shown and stored come from the wall clock.

use std::fmt;
use std::time::{Duration, Instant};

/// A date on the wall clock, in whole seconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01 00:00:00 UTC; stored and shown as 0, which means "never" in listings.
    pub const EPOCH: Self = Self(0);

    /// The date `seconds` after the epoch.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since the epoch.
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// The date `wait` later; stays at the last representable date instead of wrapping.
    #[must_use]
    pub const fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait.as_secs()))
    }

    /// How long ago `earlier` was; zero if it is in the future.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// Seconds since the epoch, in decimal, as listings print dates.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One reading of both clocks, taken by the driver just before it hands over an event.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The monotonic clock: for waits and time-outs.
    pub mono: Instant,
    /// The wall clock: for dates that are stored or shown.
    pub wall: Timestamp,
}

impl Now {
    /// The instant at which the wall clock will show `date`, if nobody sets it meanwhile; now if
    /// the date has passed.
    pub fn instant_of(&self, date: Timestamp) -> Instant {
        let wait = date.since(self.wall);
        self.mono.checked_add(wait).unwrap_or(self.mono)
    }
}

/// Prints a duration as the reference does: `1d2h3m4s`, zero parts left out, `0s` for zero.
pub fn short(duration: Duration) -> impl fmt::Display {
    struct Short(u64);
    impl fmt::Display for Short {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let parts = [
                (self.0 / 86_400, 'd'),
                (self.0 / 3600 % 24, 'h'),
                (self.0 / 60 % 60, 'm'),
                (self.0 % 60, 's'),
            ];
            if self.0 == 0 {
                return f.write_str("0s");
            }
            for (count, unit) in parts {
                if count > 0 {
                    write!(f, "{count}{unit}")?;
                }
            }
            Ok(())
        }
    }
    Short(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_leaves_zero_parts_out() {
        let check = |seconds, want: &str| {
            assert_eq!(short(Duration::from_secs(seconds)).to_string(), want);
        };
        check(0, "0s");
        check(45, "45s");
        check(137, "2m17s");
        check(86_400 + 4 * 3600, "1d4h");
        check(93_784, "1d2h3m4s");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn dates_in_the_past_are_due_now() {
        let now = Now {
            mono: Instant::now(),
            wall: Timestamp::from_secs(100),
        };
        assert_eq!(now.instant_of(Timestamp::from_secs(50)), now.mono);
        assert_eq!(
            now.instant_of(Timestamp::from_secs(160)),
            now.mono + Duration::from_mins(1)
        );
    }
}
