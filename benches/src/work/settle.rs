//! Attempts that end: each message is read, as for a delivery, and its end is handed in.
//!
//! Promises: timed until the last end is noted. The last ones would wait for something urgent to
//! ride with; a submission takes them along, as it would where mail keeps coming.

use crate::mail::{End, Mail, Mailbag};
use crate::queue::Queue;
use std::io;
use std::sync::mpsc;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// Settles the messages with so many threads; gives the time it took, and the message submitted
/// at the end.
pub fn settle(
    queue: &dyn Queue,
    bag: &Mailbag,
    mails: &[Mail],
    end: End,
    threads: usize,
) -> io::Result<(Duration, Mail)> {
    let (answer, answers) = mpsc::channel();
    let hand_in = |mails: &[Mail]| -> io::Result<()> {
        for mail in mails {
            queue.load(*mail)?;
            let answer = answer.clone();
            let done = move |result| {
                // Nobody listens any more after an error.
                let _ = answer.send(result);
            };
            queue.settle(*mail, end, Box::new(done));
        }
        Ok(())
    };
    let start = Instant::now();
    let share = mails.len().div_ceil(threads.max(1)).max(1);
    thread::scope(|scope| {
        let hand_in = &hand_in;
        let shares = mails.chunks(share);
        let threads: Vec<_> = shares.map(|mails| scope.spawn(|| hand_in(mails))).collect();
        let joined = threads.into_iter().map(ScopedJoinHandle::join);
        let results = joined.map(|result| result.expect("a thread does not panic"));
        results.collect::<io::Result<()>>()
    })?;
    let (last, submission) = bag.next();
    let (taken, receipt) = mpsc::channel();
    let done = move |result| {
        // As above.
        let _ = taken.send(result);
    };
    queue.submit(submission, Box::new(done));
    drop(answer);
    answers.iter().collect::<io::Result<()>>()?;
    let elapsed = start.elapsed();
    receipt.recv().map_err(io::Error::other)??;
    Ok((elapsed, last))
}
