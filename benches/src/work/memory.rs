//! Memory per queued envelope, of the store and of the schedule, each in a process of its own.
//!
//! What: resident anonymous memory before and after, so the slack of the allocator counts.
//! Absent on purpose: files that are mapped, and the page cache of the kernel.

use crate::rivals::{Purpose, Rival};
use crate::usage::memory;
use redspool_core::envelope::{Agent, Flags};
use redspool_core::id::{Epoch, MessageIds};
use redspool_core::limits::Limits;
use redspool_core::queue::{Paused, Scheduled};
use redspool_core::rng::Rng;
use redspool_core::scheduler::Scheduler;
use redspool_core::time::{Now, Timestamp};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Octets that an open queue takes, and those it takes when all its heads have been read: the
/// difference is cache.
pub fn of_store(rival: &Rival, spool: &Path) -> io::Result<(u64, u64)> {
    let before = memory()?;
    let queue = rival.open(spool, Purpose::Measure)?;
    let open = memory()?.saturating_sub(before);
    if let Some(listing) = queue.listing() {
        listing.walk(&mut |_| ())?;
    }
    Ok((open, memory()?.saturating_sub(before)))
}

/// Octets that a schedule of so many envelopes takes: all wait for their next attempt, or, if
/// `due`, all wait for their turn.
pub fn of_schedule(envelopes: u64, due: bool) -> io::Result<u64> {
    let ctime = Timestamp::from_secs(1_700_000_000);
    let now = Now {
        mono: Instant::now(),
        wall: ctime.after(Duration::from_hours(1)),
    };
    let (mut ids, mut rng) = (MessageIds::new(Epoch::new(1)), Rng::new(1));
    let before = memory()?;
    let limits = Arc::new(Limits::default());
    let mut schedule = Scheduler::new(limits, Vec::new(), 1, Paused::default());
    schedule.advance(now);
    let mut left = envelopes;
    while left > 0 {
        let Some(message) = ids.draw(&mut rng) else {
            ids.advance();
            continue;
        };
        left -= 1;
        schedule.insert(
            now,
            &Scheduled {
                id: message.draw_envelope(&mut rng),
                agent: Agent::Mta,
                ctime,
                ttl: Duration::from_hours(96),
                last_bounce: Timestamp::EPOCH,
                retry: if due { 0 } else { 10 },
                flags: Flags::default(),
            },
        );
    }
    if due {
        schedule.batch(now);
    }
    let used = memory()?.saturating_sub(before);
    // Still in use until here.
    drop(schedule);
    Ok(used)
}
