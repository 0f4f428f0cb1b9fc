//! The numbers of a log store.

use super::control::Controls;
use std::time::Duration;

/// How a [`LogStore`](super::LogStore) works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Octets of a segment. A recycled one syncs in half the time of a growing file; much smaller
    /// ones change too often, much larger ones hold disk that nothing needs.
    pub segment: u32,
    /// Octets of log after which a checkpoint is made.
    pub checkpoint_octets: u64,
    /// Time after which a checkpoint is made if anything has changed.
    pub checkpoint_interval: Duration,
    /// Octets of log since the last checkpoint at which commits wait for the one that runs, so
    /// that a restart never has to replay more.
    pub tail: u64,
    /// Octets of content from which on it is written to an extent by its own session.
    pub large: usize,
    /// Deferred messages that are moved to cold segments together.
    pub cool: usize,
    /// Background work is done when it is asked for, on the same thread: for tests.
    pub inline: bool,
    /// Planted bugs: for tests.
    pub controls: Controls,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment: 64 << 20,
            checkpoint_octets: 64 << 20,
            checkpoint_interval: Duration::from_secs(5),
            tail: 256 << 20,
            large: 256 << 10,
            cool: 512,
            inline: false,
            controls: Controls::default(),
        }
    }
}

impl Options {
    /// A store in which everything happens soon, and in the same order each time.
    pub fn small() -> Self {
        Self {
            segment: 32 << 10,
            checkpoint_octets: 12 << 10,
            checkpoint_interval: Duration::MAX,
            tail: 64 << 10,
            large: 8 << 10,
            cool: 2,
            inline: true,
            controls: Controls::default(),
        }
    }
}
