//! The books of a daemon that is killed again and again: what it acknowledged against what arrived.
//!
//! Promises: an attempt is booked, on disk, before its 250 counts; no two attempts are alike, so a
//! client that repeats itself is never taken for a daemon that does; the same seed gives the same
//! messages and the same moments to kill, as far as the machine allows.
//! Absent on purpose: looking into the queue. Only what came back at the other end counts.

mod books;
mod load;

pub use books::{Books, Fault};

use crate::rig::{Answer, Daemon, Fault as SinkFault, Rig, Sink, Stage};
use load::{Clients, Whereabouts};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Messages that have to be acknowledged before the end.
    pub messages: usize,
    /// Clients at once.
    pub sessions: usize,
    /// Times the daemon is killed.
    pub kills: usize,
    /// Where all randomness comes from.
    pub seed: u64,
    /// The sink puts off one recipient in this many; 0 for none.
    pub put_off: usize,
    /// How long the whole may take.
    pub limit: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Summary {
    plan: Plan,
    books: Books,
    queued: usize,
    unfinished: bool,
    took: Duration,
    load: Duration,
}

impl Summary {
    /// Whether every promise was kept.
    pub fn is_good(&self) -> bool {
        self.books.faults.is_empty()
            && self.queued == 0
            && !self.unfinished
            && self.books.acknowledged >= self.plan.messages
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in self.books.faults.iter().take(20) {
            writeln!(f, "crash: {fault}")?;
        }
        let (plan, books) = (&self.plan, &self.books);
        let count = |wanted: fn(&Fault) -> bool| books.faults.iter().filter(|f| wanted(f)).count();
        write!(
            f,
            "crash: {} seed={} messages={} sessions={} kills={} attempts={} acknowledged={} \
             deliveries={} duplicates={} lost={} altered={} unexplained={} queued={} \
             load={:.1}s total={:.1}s{}",
            if self.is_good() { "good" } else { "BAD" },
            plan.seed,
            plan.messages,
            plan.sessions,
            plan.kills,
            books.attempts,
            books.acknowledged,
            books.deliveries,
            books.duplicates,
            count(|fault| matches!(fault, Fault::Lost { .. })),
            count(|fault| matches!(fault, Fault::Altered { .. })),
            count(|fault| matches!(fault, Fault::Unexplained { .. })),
            self.queued,
            self.load.as_secs_f64(),
            self.took.as_secs_f64(),
            if self.unfinished {
                " (ran out of time)"
            } else {
                ""
            },
        )
    }
}

/// Runs a plan. Panics where the daemon does not come up again.
pub fn run(plan: &Plan) -> Summary {
    let begun = Instant::now();
    let sink = Sink::start();
    if plan.put_off > 0 {
        let answer = Answer::Reply("451 4.2.1 Put off for the sake of the test");
        sink.fail(Some(SinkFault {
            stage: Stage::Rcpt,
            answer,
            every: plan.put_off,
        }));
    }
    let rig = Rig::new(&format!(
        "listen on 127.0.0.1 port 0\naction \"out\" relay host {}\nmatch from any for any action \"out\"\n",
        sink.url()
    ));
    let mut daemon = rig.start();
    let whereabouts = Arc::new(Whereabouts::default());
    whereabouts.set(Some(daemon.address()));
    let clients = Clients::start(plan, rig.path(), &whereabouts);

    let mut rng = StdRng::seed_from_u64(plan.seed);
    let mut kills = Vec::new();
    let mut books = Books::default();
    for kill in 0..plan.kills {
        let span = plan.messages / (plan.kills + 1);
        let mark = kill * span + rng.random_range(1..=span.max(1));
        if !clients.reach(mark, begun + plan.limit) {
            break;
        }
        std::thread::park_timeout(Duration::from_micros(rng.random_range(0..20_000)));
        whereabouts.set(None);
        daemon.kill();
        kills.push(Instant::now());
        daemon = rig.start();
        whereabouts.set(Some(daemon.address()));
    }
    let acknowledged = clients.reach(plan.messages, begun + plan.limit);
    whereabouts.close();
    let load = begun.elapsed();
    sink.fail(None);
    for attempt in clients.join() {
        books.attempt(attempt);
    }
    let drained = acknowledged && drain(&rig, begun + plan.limit);
    let queued = rig.queue().len();
    stop(daemon);
    while let Some(delivery) = sink.next_within(Duration::ZERO) {
        books.delivery(&delivery);
    }
    books.close(&kills);
    let (unfinished, took) = (!drained, begun.elapsed());
    Summary {
        plan: plan.clone(),
        books,
        queued,
        unfinished,
        took,
        load,
    }
}

/// Has the queue delivered at once, and waits until it is empty.
fn drain(rig: &Rig, deadline: Instant) -> bool {
    while Instant::now() < deadline {
        if rig.queue().is_empty() {
            return true;
        }
        // Who is in hand at three kills in a row is paused.
        rig.show(&["resume", "envelope", "all"]);
        rig.show(&["schedule", "all"]);
        std::thread::park_timeout(Duration::from_millis(200));
    }
    false
}

fn stop(daemon: Daemon) {
    daemon.signal(Signal::SIGTERM);
    let status = daemon.reap();
    assert!(status.success(), "smtpd did not stop cleanly: {status}");
}
