//! Group commit for rivals that are not stores of ours: the same rules, on one writer thread.
//!
//! Promises: what waits is committed together, up to as much as our writer takes; no linger, but
//! the end of an attempt waits for company as long as it does there.
//! Fails: a failed group answers every member with the error; the next group is tried anew.

use crate::queue::Done;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Orders that may wait for the writer.
const WAITING: usize = 4096;
/// Orders of one group.
const GROUP: usize = 1024;
/// Octets of one group.
const GROUP_OCTETS: usize = 4 << 20;
/// How long the end of an attempt waits for something urgent to ride with.
const RIDE: Duration = Duration::from_millis(100);

/// What the writer writes to.
pub(super) trait Sink: Send + 'static {
    /// One order, encoded by whoever hands it in.
    type Work: Send + 'static;

    /// Makes the group durable.
    fn commit(&mut self, group: &[Self::Work]) -> io::Result<()>;
}

struct Order<W> {
    work: W,
    octets: usize,
    due: Instant,
    done: Done,
}

/// The writer thread. Dropping it finishes what was handed in.
pub(super) struct Batch<W> {
    orders: Option<SyncSender<Order<W>>>,
    writer: Option<JoinHandle<()>>,
}

impl<W: Send + 'static> Batch<W> {
    pub(super) fn start(mut sink: impl Sink<Work = W>) -> io::Result<Self> {
        let (sender, orders) = mpsc::sync_channel(WAITING);
        let run = move || {
            while let Some((group, done)) = gather(&orders) {
                let result = sink.commit(&group);
                for done in done {
                    done(match &result {
                        Ok(()) => Ok(()),
                        Err(why) => Err(io::Error::new(why.kind(), why.to_string())),
                    });
                }
            }
        };
        Ok(Self {
            orders: Some(sender),
            writer: Some(thread::Builder::new().name("rival".into()).spawn(run)?),
        })
    }

    pub(super) fn order(&self, work: W, octets: usize, urgent: bool, done: Done) {
        let wait = if urgent { Duration::ZERO } else { RIDE };
        let order = Order {
            work,
            octets,
            due: Instant::now() + wait,
            done,
        };
        let unsent = self.orders.as_ref().and_then(|o| o.send(order).err());
        if let Some(unsent) = unsent {
            (unsent.0.done)(Err(io::ErrorKind::BrokenPipe.into()));
        }
    }
}

impl<W> Drop for Batch<W> {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(writer) = self.writer.take() {
            writer.join().expect("the writer does not panic");
        }
    }
}

/// What is committed next; `None` when no more can come.
fn gather<W>(orders: &Receiver<Order<W>>) -> Option<(Vec<W>, Vec<Done>)> {
    let mut next = Some(orders.recv().ok()?);
    let (mut group, mut done) = (Vec::new(), Vec::new());
    let (mut octets, mut due) = (0, None::<Instant>);
    while let Some(order) = next.take() {
        octets += order.octets;
        let earliest = due.map_or(order.due, |due| due.min(order.due));
        due = Some(earliest);
        group.push(order.work);
        done.push(order.done);
        if group.len() >= GROUP || octets >= GROUP_OCTETS {
            break;
        }
        next = match orders.try_recv() {
            Ok(order) => Some(order),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                let wait = earliest.saturating_duration_since(Instant::now());
                if wait.is_zero() {
                    // Whoever was just answered may be about to come back, as with our writer.
                    thread::yield_now();
                    orders.try_recv().ok()
                } else {
                    orders.recv_timeout(wait).ok()
                }
            }
        };
    }
    Some((group, done))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sizes(mpsc::Sender<usize>, Receiver<()>);

    impl Sink for Sizes {
        type Work = u32;

        fn commit(&mut self, group: &[u32]) -> io::Result<()> {
            self.0.send(group.len()).unwrap();
            self.1.recv().unwrap();
            if group.contains(&0) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
    }

    #[test]
    fn what_waits_is_one_group_and_shares_its_fate() {
        let (sizes_in, sizes) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let batch = Batch::start(Sizes(sizes_in, gate)).unwrap();
        let (answers_in, answers) = mpsc::channel();
        let order = |work| {
            let answers = answers_in.clone();
            let done = Box::new(move |r: io::Result<()>| answers.send((work, r.is_ok())).unwrap());
            batch.order(work, 100, true, done);
        };
        order(1);
        assert_eq!(sizes.recv(), Ok(1));
        [2, 0, 3].into_iter().for_each(order);
        go.send(()).unwrap();
        assert_eq!(sizes.recv(), Ok(3));
        go.send(()).unwrap();
        drop(batch);
        let answers: Vec<_> = answers.try_iter().collect();
        assert_eq!(answers, [(1, true), (2, false), (0, false), (3, false)]);
    }
}
