//! When the trash is looked at, and what has to leave it.
//!
//! Promises: the oldest leave first, and no more than is needed: what is too old; then, step by step
//! with a look in between, what is beyond the bounds, or all of it while the disk is short of space.
//! Absent on purpose: the store; a step that fails is tried again at the next look.

use super::{Action, Weighed};
use crate::limits::Limits;
use crate::time::{Now, Timestamp};
use std::time::Instant;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Trash {
    /// When to look next; `None` while nothing is in it.
    next: Option<Instant>,
    /// What has to leave.
    purge: Option<Timestamp>,
    /// An action is not answered yet.
    waiting: bool,
}

impl Trash {
    /// It was looked at, or could not be.
    pub(super) fn weighed(&mut self, now: Now, weighed: Option<Weighed>, limits: &Limits) {
        self.waiting = false;
        self.purge = weighed.and_then(|weighed| overdue(now.wall, &weighed, limits));
        let filled = weighed.is_none_or(|weighed| weighed.state.envelopes > 0);
        let soon = now.mono + limits.trash_interval;
        let oldest = weighed.and_then(|weighed| weighed.state.oldest);
        let expiry = oldest.map(|oldest| now.instant_of(oldest.after(limits.trash_ttl)));
        // One that has passed is purged now.
        let expiry = expiry.filter(|expiry| *expiry > now.mono);
        self.next = filled.then(|| expiry.map_or(soon, |expiry| expiry.min(soon)));
    }

    /// What to do now.
    pub(super) fn poll(&mut self, now: Now) -> Option<Action> {
        if self.waiting {
            return None;
        }
        let action = match self.purge.take() {
            Some(until) => Action::Purge { until },
            None if self.next? <= now.mono => Action::Weigh,
            None => return None,
        };
        self.waiting = true;
        Some(action)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next.filter(|_| !self.waiting)
    }
}

/// Up to when what was removed has to leave, if anything has.
fn overdue(now: Timestamp, weighed: &Weighed, limits: &Limits) -> Option<Timestamp> {
    let oldest = weighed.state.oldest?;
    if oldest.after(limits.trash_ttl) <= now {
        let past = now.as_secs().saturating_sub(limits.trash_ttl.as_secs());
        return Some(Timestamp::from_secs(past));
    }
    let share = u128::from(weighed.disk) * u128::from(limits.trash_share) / 100;
    let most = share.min(limits.trash_size.into());
    (weighed.short || u128::from(weighed.state.octets) > most).then_some(oldest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::TrashState;
    use std::time::Duration;

    const OLDEST: u64 = 1_000_000;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn now(seconds: u64) -> Now {
        Now {
            mono: Instant::now(),
            wall: Timestamp::from_secs(OLDEST + seconds),
        }
    }

    fn weighed(octets: u64, short: bool) -> Weighed {
        let oldest = Some(Timestamp::from_secs(OLDEST));
        let state = TrashState {
            envelopes: 9,
            octets,
            oldest,
            latest: oldest,
        };
        let disk = 10_000;
        Weighed { state, disk, short }
    }

    fn limits() -> Limits {
        Limits {
            trash_ttl: Duration::from_secs(100),
            trash_size: 500,
            trash_share: 10,
            trash_interval: Duration::from_secs(5),
            ..Limits::default()
        }
    }

    fn purged(now: Now, weighed: Weighed, limits: &Limits) -> Option<u64> {
        let mut trash = Trash::default();
        trash.weighed(now, Some(weighed), limits);
        match trash.poll(now) {
            Some(Action::Purge { until }) => Some(until.as_secs() - OLDEST),
            _ => None,
        }
    }

    #[test]
    fn what_is_too_old_too_large_or_in_the_way_has_to_leave() {
        let limits = limits();
        assert_eq!(purged(now(99), weighed(500, false), &limits), None);
        assert_eq!(purged(now(100), weighed(0, false), &limits), Some(0));
        assert_eq!(purged(now(130), weighed(0, false), &limits), Some(30));
        assert_eq!(purged(now(1), weighed(501, false), &limits), Some(0));
        assert_eq!(purged(now(1), weighed(0, true), &limits), Some(0));
        let share = Limits {
            trash_share: 1,
            ..limits
        };
        assert_eq!(purged(now(1), weighed(100, false), &share), None);
        assert_eq!(purged(now(1), weighed(101, false), &share), Some(0));
    }

    #[test]
    fn it_is_looked_at_while_something_is_in_it_and_one_thing_is_done_at_a_time() {
        let (limits, start) = (limits(), now(1));
        let mut trash = Trash::default();
        assert!(trash.deadline().is_none() && trash.poll(start).is_none());
        trash.weighed(start, Some(weighed(1, false)), &limits);
        assert!(trash.poll(start).is_none());
        let later = Now {
            mono: trash.deadline().unwrap(),
            ..start
        };
        assert!(matches!(trash.poll(later), Some(Action::Weigh)));
        assert!(trash.poll(later).is_none() && trash.deadline().is_none());
        // It could not be read: that is tried again, too.
        trash.weighed(later, None, &limits);
        assert!(trash.poll(later).is_none() && trash.deadline().is_some());
        let empty = Weighed {
            state: TrashState::default(),
            disk: 10_000,
            short: true,
        };
        trash.weighed(later, Some(empty), &limits);
        assert!(trash.poll(later).is_none() && trash.deadline().is_none());
    }
}
