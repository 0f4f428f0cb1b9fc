//! The built programs: every command, every way it can end.

#![expect(
    clippy::unwrap_used,
    reason = "the configuration spares test functions, not their helpers"
)]

mod completions;
mod down;
mod encrypt;
mod export;
mod forms;
mod import;
mod offline;
mod online;
mod place;
mod script;
mod spf;
mod store;
mod trash;
mod uncorrupt;
