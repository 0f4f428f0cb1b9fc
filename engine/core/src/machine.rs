//! The contract of everything that decides.
//!
//! A machine is a value: a driver hands it events, drains its actions, and waits for I/O or the
//! deadline. Same seed and same events give the same actions.

use crate::time::Now;
use std::time::Instant;

/// A pure state machine that a thin driver connects to the world.
///
/// The driver calls [`handle`](Machine::handle), drains [`poll`](Machine::poll) until it gives
/// `None`, then waits for I/O or for [`deadline`](Machine::deadline), which it reports with the
/// machine's own time-out event.
pub trait Machine {
    /// What happened, in the past tense: `Received`, `Committed`, `TimedOut`.
    type Event;
    /// What to do, in the imperative: `Send`, `Commit`, `Close`.
    type Action;

    /// Takes note of an event. Total: never fails, blocks or panics, in any state.
    fn handle(&mut self, now: Now, event: Self::Event);

    /// The next thing to do, in order; `None` when there is nothing left.
    fn poll(&mut self) -> Option<Self::Action>;

    /// When the driver must report a time-out if nothing else happens before; `None` for never.
    fn deadline(&self) -> Option<Instant>;
}
