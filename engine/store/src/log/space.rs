//! When the disk is short of space: before it is full.
//!
//! Promises: from the soft limit on new mail is put off, so that what is left goes to deliveries and
//! their settlements. No segment is kept for them alone: on a disk that others fill to the end
//! they may fail, too, and are made again when there is space.
//! Absent on purpose: asking the file system; the caller does, now and then.

use crate::media::Space;

/// Octets free below which new mail waits, on any file system that is large enough.
const FREE_MIN: u64 = 64 << 20;

/// The same as a part of a small file system: one in twenty.
const PART: u64 = 20;

/// Files that can still be made below which new mail waits: a few segments and the database.
const FILES_MIN: u64 = 64;

/// Whether space is short, given whether it was: it takes twice the limit to be well again, so
/// that the answer does not change with every message.
pub(super) fn short(space: Space, was: bool) -> bool {
    let factor = if was { 2 } else { 1 };
    let limit = FREE_MIN.min(space.total / PART);
    space.free < limit.saturating_mul(factor) || space.files < FILES_MIN.saturating_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(free: u64, total: u64, files: u64) -> Space {
        Space { free, total, files }
    }

    #[test]
    fn space_is_short_below_the_limit_and_well_again_above_twice_of_it() {
        let large = 100 << 30;
        assert!(!short(space(64 << 20, large, 1000), false));
        assert!(short(space((64 << 20) - 1, large, 1000), false));
        assert!(short(space(100 << 20, large, 1000), true));
        assert!(!short(space(128 << 20, large, 1000), true));
        // Of a small file system a twentieth.
        assert!(!short(space(2 << 20, 40 << 20, 1000), false));
        assert!(short(space(1 << 20, 40 << 20, 1000), false));
        assert!(short(space(large, large, 63), false));
    }
}
