//! `smtpctl` and `mailq`: show and steer the queue.
//!
//! What: words to a request, replies to text. The daemon is asked over its control socket; where
//! that makes sense the store is read instead when there is no daemon.
//! Promises: never hangs, changes the store only where `store` says so, says on stderr why something failed. Exit
//! status 0 for done, 1 for an error, 255 if the words are not a command.
//! Absent on purpose: authority; who may do what is decided by the daemon.

mod client;
mod commands;
mod completions;
mod console;
mod encrypt;
mod escape;
mod help;
mod offline;
mod options;
mod pages;
mod parse;
mod render;
mod rights;
mod run;
mod sendmail;
mod spf;
mod store;
mod tables;
mod transfer;

pub use pages::{mailq as mailq_page, smtpctl as smtpctl_page};
pub use run::run;
