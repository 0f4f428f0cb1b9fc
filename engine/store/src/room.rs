//! Space for mail on its way: promised before it comes, so that many clients together cannot fill
//! the disk between two looks at it.
//!
//! Promises: what was promised, or taken since the last look, counts as used. Once the disk was
//! full, new mail waits until there is twice the soft limit.
//! Absent on purpose: the decision itself (`redspool_core::space`), and asking the file system.

use crate::group::Health;
use parking_lot::Mutex;
use redspool_core::limits::{Limits, SpaceLimits};
use redspool_core::queue::StoreError;
use redspool_core::space::Space;
use std::sync::Arc;
use std::time::Instant;

/// What is known of the space, and what is promised of it.
#[derive(Debug)]
pub(crate) struct Books {
    books: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: SpaceLimits,
    /// As of the last look; `None` if it could not be found out: the commit will say.
    space: Option<Space>,
    short: bool,
    /// Since when.
    since: Instant,
    /// Octets of mail on its way.
    promised: u64,
    /// Octets of mail that was queued since the last look.
    spent: u64,
}

impl Books {
    pub(crate) fn new(space: Option<Space>) -> Self {
        let limits = Limits::default().space;
        Self {
            books: Mutex::new(Inner {
                limits,
                space,
                short: space.is_some_and(|space| space.short(limits, 0, false)),
                since: Instant::now(),
                promised: 0,
                spent: 0,
            }),
        }
    }

    pub(crate) fn limit(&self, limits: SpaceLimits) {
        self.books.lock().limits = limits;
    }

    pub(crate) fn short(&self) -> bool {
        self.books.lock().short
    }

    pub(crate) fn health(&self) -> Health {
        let books = self.books.lock();
        if books.short {
            Health::Short {
                since: books.since,
                space: books.space,
                limits: books.limits,
            }
        } else {
            Health::Sound
        }
    }

    /// A look at the space.
    pub(crate) fn look(&self, look: impl FnOnce() -> Option<Space>) {
        let before = self.books.lock().spent;
        let space = look();
        let mut books = self.books.lock();
        books.spent -= before;
        books.space = space;
        let (limits, promised, was) = (books.limits, books.promised, books.short);
        books.turn(space.is_some_and(|space| space.short(limits, promised, was)));
    }

    /// The disk was found full.
    pub(crate) fn full(&self) {
        self.books.lock().turn(true);
    }

    /// Promises space for mail of so many octets.
    pub(crate) fn room(self: &Arc<Self>, octets: u64) -> Result<Room, StoreError> {
        let mut books = self.books.lock();
        let taken = books.promised.saturating_add(books.spent);
        let wanted = taken.saturating_add(octets);
        let fits = books
            .space
            .is_none_or(|space| !space.short(books.limits, wanted, false));
        if books.short || !fits {
            return Err(StoreError::Full);
        }
        books.promised += octets;
        Ok(Room {
            books: Arc::clone(self),
            octets,
            came: 0,
        })
    }
}

impl Inner {
    fn turn(&mut self, short: bool) {
        if self.short != short {
            (self.short, self.since) = (short, Instant::now());
        }
    }
}

/// Space that is promised to one message, until this is dropped: the message came to nothing.
#[derive(Debug)]
pub struct Room {
    books: Arc<Books>,
    octets: u64,
    came: u64,
}

impl Room {
    /// So many more octets have come: in all more than was announced, perhaps.
    pub fn fill(&mut self, octets: u64) {
        self.came += octets;
        let more = self.came.saturating_sub(self.octets);
        if more > 0 {
            self.books.books.lock().promised += more;
            self.octets += more;
        }
    }

    /// The message is queued: what it takes shows at the next look.
    pub fn spend(self) {
        self.books.books.lock().spent += self.octets;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.books.books.lock().promised -= self.octets;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn free(octets: u64) -> Space {
        Space {
            free: octets,
            total: 100 << 30,
            files: 1000,
        }
    }

    #[test]
    fn mail_on_its_way_takes_its_room_until_the_next_look() {
        // The soft limit is 64 MiB.
        let books = Arc::new(Books::new(Some(free(100 * MIB))));
        let first = books.room(20 * MIB).unwrap();
        let mut second = books.room(10 * MIB).unwrap();
        assert_eq!(books.room(10 * MIB).unwrap_err(), StoreError::Full);
        second.fill(8 * MIB);
        second.fill(6 * MIB);
        assert_eq!(books.room(3 * MIB).unwrap_err(), StoreError::Full);
        books.room(2 * MIB).unwrap();
        first.spend();
        drop(second);
        // It may be on the disk by now; only a look tells.
        assert_eq!(books.room(17 * MIB).unwrap_err(), StoreError::Full);
        books.room(16 * MIB).unwrap();
        books.look(|| Some(free(90 * MIB)));
        books.room(26 * MIB).unwrap();
    }

    #[test]
    fn what_comes_during_a_look_counts_until_the_next() {
        let books = Arc::new(Books::new(Some(free(100 * MIB))));
        let during = Arc::clone(&books);
        books.look(|| {
            during.room(30 * MIB).unwrap().spend();
            Some(free(100 * MIB))
        });
        assert!(books.room(7 * MIB).is_err());
        books.look(|| Some(free(100 * MIB)));
        assert!(books.room(7 * MIB).is_ok());
    }

    #[test]
    fn a_full_disk_takes_mail_again_at_twice_the_limit() {
        let books = Arc::new(Books::new(None));
        assert!(books.room(u64::MAX / 2).is_ok());
        books.full();
        assert!(books.short());
        assert!(books.room(0).is_err());
        books.look(|| Some(free(127 * MIB)));
        assert!(books.room(0).is_err());
        books.look(|| Some(free(128 * MIB)));
        assert!(books.room(0).is_ok());
        books.look(|| Some(free(63 * MIB)));
        assert!(matches!(books.health(), Health::Short { .. }));
        books.limit(SpaceLimits {
            octets: 0,
            ..Limits::default().space
        });
        books.look(|| Some(free(0)));
        assert_eq!(books.health(), Health::Sound);
    }
}
