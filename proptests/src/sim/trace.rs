//! What happened in a simulated world: one number over all of it, and the lines about one message.

use redspool_core::id::{EnvelopeId, MessageId};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

/// Lines kept; the first ones and the last ones of a long story are enough to follow it.
const LINES: usize = 2000;

/// The record of a run.
#[derive(Debug)]
pub(super) struct Trace {
    hash: DefaultHasher,
    watched: Option<MessageId>,
    lines: Vec<String>,
    notes: u64,
}

impl Trace {
    /// A record that keeps the lines about one message, if any.
    pub(super) fn new(watched: Option<MessageId>) -> Self {
        Self {
            hash: DefaultHasher::new(),
            watched,
            lines: Vec::new(),
            notes: 0,
        }
    }

    /// Something happened to an envelope.
    pub(super) fn envelope(
        &mut self,
        at: Duration,
        id: EnvelopeId,
        word: &str,
        line: impl FnOnce() -> String,
    ) {
        self.count(at, word, id.get());
        if self.watched == Some(id.message()) && self.lines.len() < LINES {
            let seconds = at.as_secs_f64();
            self.lines
                .push(format!("{seconds:>14.3} {id} {word} {}", line()));
        }
    }

    /// Something else happened, told apart by a number.
    pub(super) fn count(&mut self, at: Duration, word: &str, number: u64) {
        self.notes += 1;
        (at, word, number).hash(&mut self.hash);
    }

    /// Something that matters to every envelope.
    pub(super) fn all(&mut self, at: Duration, word: &str) {
        self.count(at, word, 0);
        if self.watched.is_some() && self.lines.len() < LINES {
            self.lines
                .push(format!("{:>14.3} -- {word}", at.as_secs_f64()));
        }
    }

    /// A number that differs if anything that was noted does.
    pub(super) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// How much was noted.
    pub(super) fn notes(&self) -> u64 {
        self.notes
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines
    }
}
