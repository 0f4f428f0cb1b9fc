//! Threads that do what others hand in, like the delivery agents of a mail server.
//!
//! Promises: a job wakes one thread; dropping the pool finishes what was handed in.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

type Job = Box<dyn FnOnce() + Send>;

/// The threads.
pub(super) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Pool {
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let mut pool = Self {
            shared: Arc::default(),
            workers: Vec::new(),
        };
        for _ in 0..count {
            let shared = Arc::clone(&pool.shared);
            let run = move || {
                while let Some(job) = shared.next() {
                    job();
                }
            };
            let worker = thread::Builder::new().name("rival".into()).spawn(run)?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        self.shared.state().jobs.push_back(Box::new(job));
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// The next job; `None` when there is none and none can come.
    fn next(&self) -> Option<Job> {
        let idle = |state: &mut State| state.jobs.is_empty() && !state.closed;
        let state = self.changed.wait_while(self.state(), idle);
        state.expect("no holder panics").jobs.pop_front()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            worker.join().expect("a worker does not panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn so_many_work_at_a_time_and_all_is_done_in_the_end() {
        let pool = Pool::start(3).unwrap();
        let (barrier, done) = (Arc::new(Barrier::new(3)), Arc::new(AtomicU32::new(0)));
        for _ in 0..300 {
            let (barrier, done) = (Arc::clone(&barrier), Arc::clone(&done));
            pool.run(move || {
                // With fewer threads nobody would get past it.
                barrier.wait();
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        drop(pool);
        assert_eq!(done.load(Ordering::Relaxed), 300);
    }
}
