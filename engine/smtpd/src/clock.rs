//! The only place where the daemon reads the clocks.

use redspool_core::time::{Now, Timestamp};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks. A wall clock before 1970 reads as 1970.
pub fn now() -> Now {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs());
    Now {
        mono: Instant::now(),
        wall: Timestamp::from_secs(wall),
    }
}
