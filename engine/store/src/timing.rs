//! How long the store takes (`smtpctl profile queue`).
//!
//! Promises: the clock is read only while somebody wants to know. Lines have the reference's form,
//! `operation seconds`.

use std::fmt;
use std::time::Instant;

/// Does a piece of work, and tells whoever profiles the queue how long it took.
pub(crate) fn timed<T>(operation: impl fmt::Display, work: impl FnOnce() -> T) -> T {
    let wanted = tracing::enabled!(target: "profile::queue", tracing::Level::TRACE);
    let begun = wanted.then(Instant::now);
    let done = work();
    if let Some(took) = begun.map(|begun| begun.elapsed()) {
        let (seconds, nanos) = (took.as_secs(), took.subsec_nanos());
        tracing::trace!(target: "profile::queue", "{operation} {seconds}.{nanos:09}");
    }
    done
}
