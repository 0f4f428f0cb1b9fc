//! How long things take (`smtpctl profile imsg`).
//!
//! Promises: the clock is read only while somebody wants to know. Lines have the reference's form:
//! `process peer message octets seconds`.
//! Absent on purpose: the store's work, which the store times itself.

use std::time::Instant;

/// A measurement that runs, if anybody wants it.
pub(crate) struct Stopwatch(Option<Instant>);

impl Stopwatch {
    /// Begins to measure a message.
    pub(crate) fn imsg() -> Self {
        let wanted = tracing::enabled!(target: "profile::imsg", tracing::Level::TRACE);
        Self(wanted.then(Instant::now))
    }

    /// The message is dealt with; `octets` is its size on the way, if it came from outside.
    pub(crate) fn imsg_done(self, process: &str, peer: &str, message: &str, octets: usize) {
        if let Some(took) = self.0.map(|begun| begun.elapsed()) {
            let (seconds, nanos) = (took.as_secs(), took.subsec_nanos());
            tracing::trace!(
                target: "profile::imsg",
                "{process} {peer} {message} {octets} {seconds}.{nanos:09}"
            );
        }
    }
}
