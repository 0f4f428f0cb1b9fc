//! What every rival must be able to do: take mail, and take the end of an attempt.
//!
//! Promises: [`Queue::submit`] answers after the message is durable, whatever the rival is made of;
//! the end of an attempt is noted as its model notes it, see there.
//! Absent on purpose: stores and files; `rivals` has them. All envelopes of a message are settled
//! together, because the layouts of others would else need bookkeeping that is not measured.
//! Fails: with the rival's error as an `io::Error`.

use crate::mail::{End, Mail};
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{Scheduled, Submission};
use std::io;

/// Called once with the result, on whatever thread has it; must be quick.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A queue that is measured. Dropping it finishes what was handed in and closes it.
pub trait Queue: Send + Sync {
    /// Hands in a message; answered when it is durable.
    fn submit(&self, submission: Submission, done: Done);

    /// Hands in the end of an attempt for all envelopes of a message; answered when it is noted.
    fn settle(&self, mail: Mail, end: End, done: Done);

    /// Reads what an attempt needs, envelopes and content; gives the octets of the content.
    fn load(&self, mail: Mail) -> io::Result<u64>;

    /// The reading side, for those that can list.
    fn listing(&self) -> Option<&dyn Listing> {
        None
    }
}

/// Reading all of a queue.
pub trait Listing {
    /// Up to `limit` envelopes in order of ids, the first one after `after`.
    fn page(&self, after: Option<EnvelopeId>, limit: usize) -> io::Result<Vec<Envelope>>;

    /// Shows every envelope to `visit`, as for the schedule at start-up.
    fn walk(&self, visit: &mut dyn FnMut(Scheduled)) -> io::Result<()>;

    /// Whether a message is queued.
    fn exists(&self, message: MessageId) -> io::Result<bool>;
}
