//! What became of the attempts of envelopes that are still queued, for `smtpctl explain`.
//!
//! Promises: bounded by `Limits::attempts` in all and `Limits::attempts_per_envelope`; the oldest
//! leave first, and those of an envelope when it leaves the queue.
//! Absent on purpose: lasting longer than the daemon; the last failure is part of the envelope.

use crate::id::EnvelopeId;
use crate::limits::Limits;
use crate::mta::Via;
use crate::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// An attempt that failed for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// When it began.
    pub(super) began: Timestamp,
    /// What it went over, if it came to a session.
    pub(super) via: Option<Via>,
    /// What was said.
    pub(super) text: Box<str>,
}

/// The attempts that are remembered.
#[derive(Debug, Default)]
pub(super) struct History {
    /// In the order of their numbers.
    attempts: BTreeMap<EnvelopeId, VecDeque<(u64, Attempt)>>,
    /// Whose attempt a number is.
    order: BTreeMap<u64, EnvelopeId>,
    last: u64,
}

impl History {
    /// One more.
    pub(super) fn add(&mut self, id: EnvelopeId, attempt: Attempt, limits: &Limits) {
        self.last += 1;
        self.order.insert(self.last, id);
        let own = self.attempts.entry(id).or_default();
        own.push_back((self.last, attempt));
        let over = own.len() > limits.attempts_per_envelope;
        let first = own.front().map(|(number, _)| *number).filter(|_| over);
        if let Some(first) = first {
            self.drop(first);
        }
        while self.order.len() > limits.attempts
            && let Some((first, _)) = self.order.first_key_value()
        {
            self.drop(*first);
        }
    }

    /// Those of an envelope, the first one first.
    pub(super) fn of(&self, id: EnvelopeId) -> impl DoubleEndedIterator<Item = &Attempt> {
        let own = self.attempts.get(&id).into_iter().flatten();
        own.map(|(_, attempt)| attempt)
    }

    /// An envelope is queued no longer.
    pub(super) fn forget(&mut self, id: EnvelopeId) {
        for (number, _) in self.attempts.remove(&id).into_iter().flatten() {
            self.order.remove(&number);
        }
    }

    /// Drops the attempt with this number, the first of its envelope.
    fn drop(&mut self, number: u64) {
        let Some(id) = self.order.remove(&number) else {
            return;
        };
        if let Some(own) = self.attempts.get_mut(&id) {
            own.pop_front();
            if own.is_empty() {
                self.attempts.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> EnvelopeId {
        EnvelopeId::new(1 << 32 | number).unwrap()
    }

    fn attempt(at: u64) -> Attempt {
        Attempt {
            began: Timestamp::from_secs(at),
            via: None,
            text: "451 later".into(),
        }
    }

    fn limits(attempts: usize, attempts_per_envelope: usize) -> Limits {
        Limits {
            attempts,
            attempts_per_envelope,
            ..Limits::default()
        }
    }

    fn dates(history: &History, number: u64) -> Vec<u64> {
        let own = history.of(id(number));
        own.map(|attempt| attempt.began.as_secs()).collect()
    }

    #[test]
    fn an_envelope_keeps_its_last_attempts() {
        let mut history = History::default();
        for at in 1..=5 {
            history.add(id(1), attempt(at), &limits(100, 3));
        }
        assert_eq!(dates(&history, 1), [3, 4, 5]);
        assert_eq!(history.order.len(), 3);
    }

    #[test]
    fn the_oldest_of_all_leave_first() {
        let mut history = History::default();
        for at in 1..=6 {
            history.add(id(1 + at % 2), attempt(at), &limits(4, 100));
        }
        assert_eq!(dates(&history, 1), [4, 6]);
        assert_eq!(dates(&history, 2), [3, 5]);
        history.add(id(3), attempt(7), &limits(1, 100));
        assert_eq!(dates(&history, 3), [7]);
        assert_eq!(history.attempts.len(), 1);
    }

    #[test]
    fn what_leaves_the_queue_is_forgotten() {
        let mut history = History::default();
        for at in 1..=4 {
            history.add(id(1 + at % 2), attempt(at), &limits(100, 100));
        }
        history.forget(id(1));
        assert_eq!(dates(&history, 1), [] as [u64; 0]);
        assert_eq!(dates(&history, 2), [1, 3]);
        assert_eq!(history.order.len(), 2);
    }
}
