//! The built smtpd and smtpctl from outside: real sockets on loopback, a queue on disk, other ends
//! that misbehave on demand. Few tests; what can be shown on a machine is shown on the machine.

#![expect(
    clippy::unwrap_used,
    reason = "the configuration spares tests, not their helpers"
)]

mod chunks;
mod control;
mod counters;
mod delivery;
mod disk;
mod faults;
mod offline;
mod profile;
mod relaying;
mod security;
mod selection;
mod setup;
mod signals;
mod strangers;
mod submission;
mod suspects;
mod tables;
mod tls;
mod traces;
mod trash;
mod utf8;
