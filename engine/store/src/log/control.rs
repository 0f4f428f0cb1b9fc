//! Planted bugs: each takes one safety out, so that a test can show that the proof notices.
//!
//! Promises: all of them are off unless a test switches one on; no configuration reaches them.

/// Which safeties are out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// Receipts are handed out although the sync has not been done.
    pub answer_before_sync: bool,
    /// What the cache holds when a store is opened is believed.
    pub keep_cache: bool,
    /// The sequence number of the segment is not part of a frame's CRC.
    pub sequence_not_proven: bool,
    /// The proof of a record is not compared when it is read.
    pub proof_not_compared: bool,
    /// The envelopes of a message are in a frame of their own.
    pub envelopes_apart: bool,
}
