//! Clients that hand in a message, wait for its receipt, and hand in the next one.
//!
//! Promises: so many messages wait at any time; the wait is from handing in to the receipt. A few
//! threads play all clients, so that it is the store that has the processor.
//! Fails: with the first error of the queue.

use crate::mail::{End, Mail, Mailbag};
use crate::queue::Queue;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// How long clients go on.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So many messages.
    Count(u64),
    /// So long, then the last receipts are awaited.
    Passed(Duration),
}

/// The clients.
#[derive(Clone, Copy, Debug)]
pub struct Clients {
    /// Messages that wait at a time.
    pub waiting: usize,
    /// Threads that play the clients.
    pub threads: usize,
    /// How long they go on.
    pub until: Until,
    /// Whether each message is read and delivered once it is queued, beside the clients.
    pub deliver: bool,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Run {
    /// From the first message handed in to the last receipt.
    pub elapsed: Duration,
    /// The wait of each message.
    pub waits: Vec<Duration>,
    /// The messages.
    pub mails: Vec<Mail>,
}

/// Lets clients work on a queue.
pub fn run(queue: &dyn Queue, bag: &Mailbag, clients: Clients) -> io::Result<Run> {
    let left = AtomicU64::new(match clients.until {
        Until::Count(count) => count,
        Until::Passed(_) => u64::MAX,
    });
    let start = Instant::now();
    let go_on = || match clients.until {
        Until::Count(_) => {
            let take = |left: u64| left.checked_sub(1);
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok()
        }
        Until::Passed(time) => start.elapsed() < time,
    };
    let threads = clients.threads.clamp(1, clients.waiting.max(1));
    let runs = thread::scope(|scope| {
        let mut players = Vec::new();
        for thread in 0..threads {
            // The first threads take what does not divide.
            let share = (clients.waiting + threads - 1 - thread) / threads;
            players.push(scope.spawn(move || play(queue, bag, share, clients.deliver, go_on)));
        }
        let joined = players.into_iter().map(ScopedJoinHandle::join);
        let runs = joined.map(|run| run.expect("a client does not panic"));
        runs.collect::<io::Result<Vec<_>>>()
    })?;
    let mut all = Run::default();
    for (ended, mut run) in runs {
        all.elapsed = all.elapsed.max(ended.saturating_duration_since(start));
        all.waits.append(&mut run.waits);
        all.mails.append(&mut run.mails);
    }
    Ok(all)
}

/// One thread that plays `share` clients; gives when the last receipt came.
fn play(
    queue: &dyn Queue,
    bag: &Mailbag,
    share: usize,
    deliver: bool,
    go_on: impl Fn() -> bool,
) -> io::Result<(Instant, Run)> {
    let (receipt, receipts) = mpsc::channel();
    let (settled, all_settled) = mpsc::channel();
    let hand_in = || {
        let (mail, submission) = bag.next();
        let receipt = receipt.clone();
        let handed_in = Instant::now();
        let done = move |result: io::Result<()>| {
            let now = Instant::now();
            // Nobody listens any more after an error.
            let _ = receipt.send((mail, now, now.duration_since(handed_in), result));
        };
        queue.submit(submission, Box::new(done));
    };
    let mut run = Run::default();
    let mut waiting = 0;
    let mut ended = Instant::now();
    while waiting < share && go_on() {
        hand_in();
        waiting += 1;
    }
    while waiting > 0 {
        let (mail, at, wait, result) = receipts.recv().map_err(io::Error::other)?;
        result?;
        ended = at;
        run.mails.push(mail);
        run.waits.push(wait);
        waiting -= 1;
        if deliver {
            queue.load(mail)?;
            let settled = settled.clone();
            let done = move |result| {
                // As above.
                let _ = settled.send(result);
            };
            queue.settle(mail, End::Delivered, Box::new(done));
        }
        if go_on() {
            hand_in();
            waiting += 1;
        }
    }
    drop(settled);
    all_settled.iter().collect::<io::Result<()>>()?;
    Ok((ended, run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Done;
    use redspool_core::id::Epoch;
    use redspool_core::queue::Submission;
    use std::sync::Mutex;

    /// Answers when so many wait, all of them at once.
    struct Crowd {
        size: usize,
        waiting: Mutex<Vec<Done>>,
        settled: AtomicU64,
    }

    impl Queue for Crowd {
        fn submit(&self, _: Submission, done: Done) {
            let mut waiting = self.waiting.lock().unwrap();
            waiting.push(done);
            if waiting.len() == self.size {
                waiting.drain(..).for_each(|done| done(Ok(())));
            }
        }

        fn settle(&self, _: Mail, _: End, done: Done) {
            self.settled.fetch_add(1, Ordering::Relaxed);
            done(Ok(()));
        }

        fn load(&self, _: Mail) -> io::Result<u64> {
            Ok(0)
        }
    }

    #[test]
    fn exactly_so_many_wait_at_a_time_and_all_is_delivered() {
        // With one more or one fewer waiting, the crowd would not come to an end.
        let crowd = Crowd {
            size: 25,
            waiting: Mutex::default(),
            settled: AtomicU64::new(0),
        };
        let clients = Clients {
            waiting: 25,
            threads: 3,
            until: Until::Count(200),
            deliver: true,
        };
        let run = run(&crowd, &Mailbag::new(10, 1, Epoch::new(1)), clients).unwrap();
        assert_eq!((run.mails.len(), run.waits.len()), (200, 200));
        assert_eq!(crowd.settled.into_inner(), 200);
    }

    struct Broken;

    impl Queue for Broken {
        fn submit(&self, _: Submission, done: Done) {
            done(Err(io::ErrorKind::StorageFull.into()));
        }

        fn settle(&self, _: Mail, _: End, done: Done) {
            done(Err(io::ErrorKind::StorageFull.into()));
        }

        fn load(&self, _: Mail) -> io::Result<u64> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    #[test]
    fn an_error_ends_the_run() {
        let clients = Clients {
            waiting: 4,
            threads: 2,
            until: Until::Passed(Duration::from_hours(1)),
            deliver: false,
        };
        let result = run(&Broken, &Mailbag::new(10, 1, Epoch::new(1)), clients);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
