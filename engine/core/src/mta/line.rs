//! Relays that wait for one place.
//!
//! Promises: each is there once, in order of arrival; joining and leaving cost the same however
//! many wait.

use super::RelayId;
use std::collections::{BTreeSet, VecDeque};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Line {
    order: VecDeque<RelayId>,
    members: BTreeSet<RelayId>,
}

impl Line {
    /// One more waits, unless it does already; says whether it did not.
    pub(super) fn join(&mut self, id: RelayId) -> bool {
        let new = self.members.insert(id);
        if new {
            self.order.push_back(id);
        }
        new
    }

    /// The first one leaves.
    pub(super) fn pop(&mut self) -> Option<RelayId> {
        let first = self.order.pop_front()?;
        self.members.remove(&first);
        Some(first)
    }

    /// One that has just come back to the end is the first again; whether it had.
    pub(super) fn keep_turn(&mut self, id: RelayId) -> bool {
        let back = self.order.back() == Some(&id);
        if back {
            self.order.rotate_right(1);
        }
        back
    }

    /// Whether it waits.
    pub(super) fn has(&self, id: RelayId) -> bool {
        self.members.contains(&id)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_there_once_and_can_keep_the_turn() {
        let [a, b, c] = [1, 2, 3].map(RelayId::new);
        let mut line = Line::default();
        for id in [a, b, a, c] {
            line.join(id);
        }
        assert_eq!(line.len(), 3);
        assert_eq!(line.pop(), Some(a));
        assert!(!line.has(a) && !line.keep_turn(a));
        line.join(a);
        assert!(line.keep_turn(a));
        assert_eq!(
            [line.pop(), line.pop(), line.pop()],
            [Some(a), Some(b), Some(c)]
        );
        assert!(line.is_empty());
    }
}
