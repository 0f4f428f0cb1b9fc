//! What is still to happen in a simulated world, in order of time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Steps by time; those of one time in the order they were added.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    heap: BinaryHeap<Item<T>>,
    added: u64,
}

#[derive(Debug)]
struct Item<T> {
    at: Duration,
    number: u64,
    step: T,
}

impl<T> Item<T> {
    fn key(&self) -> (Duration, u64) {
        (self.at, self.number)
    }
}

impl<T> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Item<T> {}

impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Item<T> {
    /// The heap gives the greatest first; we want the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl<T> Agenda<T> {
    pub(super) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            added: 0,
        }
    }

    pub(super) fn add(&mut self, at: Duration, step: T) {
        self.added += 1;
        let number = self.added;
        self.heap.push(Item { at, number, step });
    }

    /// When the next step is.
    pub(super) fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|item| item.at)
    }

    pub(super) fn take(&mut self) -> Option<T> {
        self.heap.pop().map(|item| item.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_by_time_then_as_they_were_added() {
        let mut agenda = Agenda::new();
        for (at, step) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            agenda.add(Duration::from_secs(at), step);
        }
        assert_eq!(agenda.next(), Some(Duration::from_secs(1)));
        let steps: String = std::iter::from_fn(|| agenda.take()).collect();
        assert_eq!(steps, "abcd");
    }
}
