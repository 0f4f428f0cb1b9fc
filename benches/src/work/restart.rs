//! A queue whose process is killed, and how long it takes to accept mail again.
//!
//! Promises: the end is a real SIGKILL, in a process of its own, right after so many octets were
//! acknowledged: what a checkpoint has not taken yet has to be found again.

use super::submit::{Clients, Until, run};
use crate::mail::Mailbag;
use crate::queue::Queue;
use crate::rivals::{Purpose, Rival};
use nix::sys::signal::{Signal, raise};
use redspool_core::id::Epoch;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Content of one message of the tail.
const TAIL_SIZE: u64 = 10 << 10;

/// Messages of the tail that wait at a time.
const WAITING: usize = 64;

/// Times of a restart, each from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    /// Until the queue is open.
    pub open: Duration,
    /// Until the first message is durable.
    pub accepted: Duration,
}

/// Takes mail of so many octets with the first ids from `epoch`, and kills this process.
pub fn die_after(rival: &Rival, spool: &Path, octets: u64, epoch: Epoch) -> io::Result<()> {
    let bag = Mailbag::new(usize::try_from(TAIL_SIZE).expect("10 KiB"), 1, epoch);
    let queue = rival.open(spool, Purpose::Measure)?;
    let clients = Clients {
        waiting: WAITING,
        threads: rival.players(WAITING, 2),
        until: Until::Count(octets / TAIL_SIZE),
        deliver: false,
    };
    run(&*queue, &bag, clients)?;
    raise(Signal::SIGKILL)?;
    Ok(())
}

/// Opens a queue and has a message accepted.
pub fn restart(
    rival: &Rival,
    spool: &Path,
    bag: &Mailbag,
) -> io::Result<(Restart, Box<dyn Queue>)> {
    let start = Instant::now();
    let queue = rival.open(spool, Purpose::Measure)?;
    let open = start.elapsed();
    let (taken, receipt) = mpsc::channel();
    let done = move |result| {
        // The receiver is below, waiting.
        let _ = taken.send(result);
    };
    queue.submit(bag.next().1, Box::new(done));
    receipt.recv().map_err(io::Error::other)??;
    let accepted = start.elapsed();
    Ok((Restart { open, accepted }, queue))
}
