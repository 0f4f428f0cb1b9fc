//! The mail server: every effect of redspool, around the machines of `redspool_core`.
//!
//! What: listeners and sessions, relaying, local delivery through a small helper process, the DNS,
//! the control socket, and the start and stop of it all.
//! Promises: decides nothing about mail; waits for nothing without a deadline; 250 follows the
//! commit.
//! Absent on purpose: rules of mail (core), bytes on disk (store), text for people (smtpctl).

pub mod access;
pub mod accounts;
pub mod addresses;
pub mod clock;
pub mod configuration;
pub mod control;
pub mod counters;
pub mod daemon;
pub mod detach;
pub mod dnssec;
pub mod helper;
pub mod ids;
pub mod inflight;
pub mod launch;
pub mod listener;
pub mod listening;
pub mod local;
pub mod log;
pub mod mda;
pub mod options;
pub mod passwords;
pub mod privileges;
pub mod profile;
pub mod resolver;
pub mod store;
pub mod sts;
pub mod tls;
pub mod users;

mod client;
mod deliver;
mod discover;
mod drivers;
mod engine;
mod notes;
mod notices;
mod offline;
mod peer;
mod recipients;
mod relaying;
mod renewal;
mod replies;
mod selected;
mod session;
mod settle;
mod spoolfile;
mod suspects;
mod timing;
mod trace;
mod trash;
