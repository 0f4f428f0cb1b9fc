//! Threads that work like the processes of a mail server: one for each client that waits.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

type Job = Box<dyn FnOnce() + Send>;

/// The threads. Dropping them finishes what was handed in.
pub(super) struct Pool {
    jobs: Option<Sender<Job>>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        let mut workers = Vec::new();
        for _ in 0..count {
            let jobs = Arc::clone(&jobs);
            let run = move || {
                while let Some(job) = next(&jobs) {
                    job();
                }
            };
            workers.push(thread::Builder::new().name("rival".into()).spawn(run)?);
        }
        Ok(Self {
            jobs: Some(sender),
            workers,
        })
    }

    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let jobs = self.jobs.as_ref().expect("taken by drop only");
        jobs.send(Box::new(job)).expect("workers end after jobs");
    }
}

fn next(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock().expect("no holder panics").recv().ok()
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for worker in self.workers.drain(..) {
            worker.join().expect("a worker does not panic");
        }
    }
}
