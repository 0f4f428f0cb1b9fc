//! What drives the built programs from outside, as a mail client, a mail server and an
//! administrator would.
//!
//! [`rig`] starts a daemon in a directory of its own and talks to it; [`ledger`] keeps the books of
//! what was acknowledged and what arrived while a daemon is killed again and again.
//! Absent on purpose: any knowledge of the daemon's inside. Programs, sockets and files are all
//! there is, so that what is shown here is what a user gets.
//! Fails: a step that does not happen within its time panics and names the step and the log.

pub mod ledger;
pub mod rig;
