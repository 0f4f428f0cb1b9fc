//! When the disk is short of space: before it is full.
//!
//! Promises: new mail waits from the soft limit on, so that what is left goes to deliveries and
//! what they leave behind. Mail that is on its way counts as if it had arrived.
//! Absent on purpose: asking the file system; the caller does, now and then.

use crate::limits::SpaceLimits;

/// What is left of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Octets free for unprivileged users.
    pub free: u64,
    /// Octets in all.
    pub total: u64,
    /// Files (inodes) that can still be made; `u64::MAX` where there is no such number.
    pub files: u64,
}

impl SpaceLimits {
    /// Octets that have to stay free on a file system of so many: the lesser of both limits.
    pub fn reserve(self, total: u64) -> u64 {
        let part = u128::from(total) * u128::from(self.percent) / 100;
        self.octets.min(u64::try_from(part).unwrap_or(u64::MAX))
    }
}

impl Space {
    /// Whether space is short, given whether it was: it takes twice the limit to be well again, so
    /// that the answer does not change with every message. `promised` octets are on their way.
    pub fn short(self, limits: SpaceLimits, promised: u64, was: bool) -> bool {
        let factor = if was { 2 } else { 1 };
        let reserve = limits.reserve(self.total).saturating_mul(factor);
        let files = limits.files.saturating_mul(factor);
        self.free < reserve.saturating_add(promised) || self.files < files
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn space(free: u64, total: u64, files: u64) -> Space {
        Space { free, total, files }
    }

    #[test]
    fn space_is_short_below_the_limit_and_well_again_above_twice_of_it() {
        let limits = Limits::default().space;
        let large = 100 << 30;
        let short = |space: Space, was| space.short(limits, 0, was);
        assert!(!short(space(64 << 20, large, 1000), false));
        assert!(short(space((64 << 20) - 1, large, 1000), false));
        assert!(short(space(100 << 20, large, 1000), true));
        assert!(!short(space(128 << 20, large, 1000), true));
        // Of a small file system a twentieth.
        assert!(!short(space(2 << 20, 40 << 20, 1000), false));
        assert!(short(space(1 << 20, 40 << 20, 1000), false));
        assert!(short(space(large, large, 63), false));
    }

    #[test]
    fn mail_on_its_way_counts() {
        let limits = Limits::default().space;
        let now = space(100 << 20, 100 << 30, 1000);
        assert!(!now.short(limits, 36 << 20, false));
        assert!(now.short(limits, (36 << 20) + 1, false));
        assert!(now.short(limits, u64::MAX, false));
    }

    #[test]
    fn limits_of_nothing_are_never_reached() {
        let limits = SpaceLimits {
            octets: 0,
            percent: 5,
            files: 0,
        };
        assert!(!space(0, 100 << 30, 0).short(limits, 0, true));
    }
}
