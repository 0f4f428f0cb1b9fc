//! `store import` and `store export`: mail out of a store, and into one, from here or elsewhere.
//!
//! Promises: what is read is never changed; an import that was stopped, however, goes on where it
//! was and brings nothing twice; an export has its name only when all of it is on the disk. Memory
//! is bounded, whatever the queue holds. Status 0 if everything went over, 1 if something was left
//! behind, each told with its path and the reason, 2 if nothing could be done.
//! Absent on purpose: changing the mail.

mod content;
mod export;
mod import;
mod json;
mod object;
mod package;
mod report;
mod spool;

pub(crate) use export::serve as export;
pub(crate) use import::serve as import;

/// The list of envelopes in an export.
const LIST: &str = "envelopes.jsonl";
/// The list while the export is not complete.
const UNFINISHED: &str = "envelopes.jsonl.part";
/// The directory of contents in an export.
const MESSAGES: &str = "messages";
