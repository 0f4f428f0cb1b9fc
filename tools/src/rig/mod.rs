//! A daemon in a temporary directory, and everything to test it with from outside.
//!
//! Promises: processes end with the value that stands for them, by their own id; nothing is
//! written outside the directory; waiting is for an event, with a deadline.

mod daemon;
mod dialog;
mod mailbox;
mod peer;
mod sink;
mod wait;

pub use daemon::{Daemon, Output, Rig, program};
pub use dialog::{Dialog, Reply};
pub use mailbox::Mailbox;
pub use peer::{Peer, missing, tool};
pub use sink::{Answer, Delivery, Fault, Sink, Stage};
pub use wait::{PATIENCE, until};
