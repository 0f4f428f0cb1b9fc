//! What every store must do, and the ways to try it.
//!
//! What: sample mail and random mail ([`mail`]), random transitions on few ids ([`step`]), all that
//! can be read from a store as one value ([`books`]), the conformance suite ([`conformance`]), and
//! a backend that records every write for crash replay ([`crash`]).
//! Promises: everything random follows from a seed, which a failure prints.
//! Absent on purpose: redb itself, which only the store names.

pub mod books;
pub mod conformance;
pub mod crash;
pub mod mail;
pub mod step;
