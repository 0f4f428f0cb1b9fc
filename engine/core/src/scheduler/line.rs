//! Those whose turn comes, first in, first out.
//!
//! Promises: 8 octets each, however many there are: it grows and shrinks by a page, where a
//! `VecDeque` has room for twice as many, and for both while it grows.
//! Absent on purpose: a bound; it has those that are queued.

use crate::id::EnvelopeId;
use std::collections::VecDeque;

/// Envelopes of a part: one of 4 KiB.
const PART: usize = 512;

/// A line of envelopes.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// All are full but the first and the last; none is empty.
    parts: VecDeque<VecDeque<EnvelopeId>>,
}

impl Line {
    /// Puts one at the end.
    pub(super) fn push_back(&mut self, id: EnvelopeId) {
        match self.parts.back_mut() {
            Some(part) if part.len() < PART => part.push_back(id),
            _ => self.parts.push_back(part_of(id)),
        }
    }

    /// Puts one before all others.
    pub(super) fn push_front(&mut self, id: EnvelopeId) {
        match self.parts.front_mut() {
            Some(part) if part.len() < PART => part.push_front(id),
            _ => self.parts.push_front(part_of(id)),
        }
    }

    /// Takes the first.
    pub(super) fn pop_front(&mut self) -> Option<EnvelopeId> {
        let part = self.parts.front_mut()?;
        let id = part.pop_front();
        if part.is_empty() {
            self.parts.pop_front();
        }
        id
    }
}

fn part_of(id: EnvelopeId) -> VecDeque<EnvelopeId> {
    let mut part = VecDeque::with_capacity(PART);
    part.push_back(id);
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_queue_with_two_ends_whatever_its_length() {
        let id = |number: u64| EnvelopeId::new(1 << 32 | (number + 1)).unwrap();
        let (mut line, mut model) = (Line::default(), VecDeque::new());
        let mut next = 0;
        for (come, go) in [
            (3, 1),
            (PART, 2),
            (1, PART),
            (3 * PART, 3 * PART + 5),
            (2, 2),
        ] {
            for _ in 0..come {
                line.push_back(id(next));
                model.push_back(id(next));
                next += 1;
            }
            for _ in 0..come / 2 {
                line.push_front(id(next));
                model.push_front(id(next));
                next += 1;
            }
            for _ in 0..go {
                assert_eq!(line.pop_front(), model.pop_front());
            }
        }
        while let Some(want) = model.pop_front() {
            assert_eq!(line.pop_front(), Some(want));
        }
        assert_eq!(line.pop_front(), None);
        assert!(line.parts.is_empty());
    }
}
