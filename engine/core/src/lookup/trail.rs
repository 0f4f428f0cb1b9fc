//! The way a recipient took through rules, tables and aliases, for whoever traces it.
//!
//! Promises: steps are in the order they were made, and no more of them than asked for.
//! Absent on purpose: text. Whoever reads the steps prints them.

use crate::addr::Address;
use crate::config::Place;
use std::cell::RefCell;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A node of the expansion was visited.
    Visited {
        /// Steps from the recipient.
        depth: usize,
        /// What it is: an address, a user, a file, a command.
        item: Box<str>,
    },
    /// A table was asked.
    Asked {
        /// What for, such as `domain` or `alias`.
        service: &'static str,
        /// Its name; empty for one that was written in place.
        table: Box<str>,
        /// The key.
        key: Box<str>,
        /// The value; empty for a list, `None` if the key is not there.
        value: Option<Box<str>>,
    },
    /// The rules have decided.
    Ruled {
        /// About this recipient.
        dest: Address,
        /// By this line; `None` if no line takes it, so that it is refused.
        place: Option<Place>,
        /// Name of the action; empty for `reject`.
        action: Box<str>,
    },
}

/// Collects steps.
#[derive(Debug)]
pub struct Trail {
    steps: RefCell<Vec<Step>>,
    most: usize,
}

impl Trail {
    /// Collects the first `most` steps.
    pub fn new(most: usize) -> Self {
        Self {
            steps: RefCell::new(Vec::new()),
            most,
        }
    }

    /// The steps in order, and whether there were more.
    pub fn into_steps(self) -> (Vec<Step>, bool) {
        let mut steps = self.steps.into_inner();
        let more = steps.len() > self.most;
        steps.truncate(self.most);
        (steps, more)
    }

    /// Forgets all steps.
    pub(super) fn clear(&self) {
        self.steps.borrow_mut().clear();
    }

    /// Adds a step. One more than wanted is kept, to know that there are more.
    pub(super) fn add(&self, step: Step) {
        let mut steps = self.steps.borrow_mut();
        if steps.len() <= self.most {
            steps.push(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_beyond_the_bound_are_told_and_not_kept() {
        let trail = Trail::new(2);
        for depth in 0..9 {
            let item = "user u".into();
            trail.add(Step::Visited { depth, item });
        }
        let (steps, more) = trail.into_steps();
        assert_eq!((steps.len(), more), (2, true));
    }
}
