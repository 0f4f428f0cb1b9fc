//! What every store must do, and the ways to try it.
//!
//! What: sample mail and random mail ([`mail`]), random transitions on few ids ([`step`]), all that
//! can be read from a store as one value ([`books`]), the conformance suite ([`conformance`]), and
//! the proof: media that record every write and fail on demand ([`media`]), the stores opened on
//! them ([`kind`]), a store at work beside its specification ([`driver`]), crash replay
//! ([`replay`]), failing disks ([`faults`]), and the judge of it all ([`judge`]).
//! Promises: everything random follows from a seed, which a failure prints.
//! Absent on purpose: redb itself, which only the store names.

pub mod books;
pub mod conformance;
pub mod driver;
pub mod faults;
pub mod flips;
pub mod judge;
pub mod kind;
pub mod mail;
pub mod media;
pub mod replay;
pub mod sim;
pub mod step;
