//! Clients that send until they are told to stop, and book what they were told.

use super::Plan;
use super::books::Attempt;
use crate::rig::{Dialog, PATIENCE};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// Where the daemon listens, if it does.
#[derive(Default)]
pub(super) struct Whereabouts {
    place: Mutex<Place>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Place {
    address: Option<SocketAddr>,
    closed: bool,
}

impl Whereabouts {
    pub(super) fn set(&self, address: Option<SocketAddr>) {
        self.place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .address = address;
        self.changed.notify_all();
    }

    /// Sends the clients home.
    pub(super) fn close(&self) {
        self.place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
        self.changed.notify_all();
    }

    /// Waits for the daemon; `None` when it is time to go.
    fn wait(&self) -> Option<SocketAddr> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *place {
                Place { closed: true, .. } => return None,
                Place {
                    address: Some(address),
                    ..
                } => return Some(address),
                Place { .. } => {}
            }
            let waited = self.changed.wait_timeout(place, PATIENCE);
            place = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_open(&self) -> bool {
        !self
            .place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed
    }
}

/// Clients at work.
pub(super) struct Clients {
    threads: Vec<JoinHandle<Vec<Attempt>>>,
    acknowledged: Arc<AtomicUsize>,
    progress: Receiver<()>,
}

impl Clients {
    /// Starts the plan's sessions; their books are files in `directory`.
    pub(super) fn start(plan: &Plan, directory: &Path, whereabouts: &Arc<Whereabouts>) -> Self {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let (sender, progress) = channel();
        let mut threads = Vec::new();
        for session in 0..plan.sessions {
            let book = directory.join(format!("acknowledged.{session}"));
            let client = Client {
                number: (session as u64) << 32,
                rng: StdRng::seed_from_u64(plan.seed ^ ((session as u64 + 1) << 40)),
                book: File::create(book).expect("the books can be written"),
                attempts: Vec::new(),
                acknowledged: Arc::clone(&acknowledged),
                progress: sender.clone(),
                whereabouts: Arc::clone(whereabouts),
            };
            threads.push(std::thread::spawn(move || client.run()));
        }
        Self {
            threads,
            acknowledged,
            progress,
        }
    }

    /// Waits until this many messages are acknowledged; `false` if that takes too long.
    pub(super) fn reach(&self, count: usize, deadline: Instant) -> bool {
        while self.acknowledged.load(Ordering::SeqCst) < count {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            match self.progress.recv_timeout(left) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }

    /// Waits for the clients to end and takes their books.
    pub(super) fn join(self) -> Vec<Attempt> {
        let ended = self
            .threads
            .into_iter()
            .map(|thread| thread.join().expect("a client ends"));
        ended.flatten().collect()
    }
}

struct Client {
    number: u64,
    rng: StdRng,
    book: File,
    attempts: Vec<Attempt>,
    acknowledged: Arc<AtomicUsize>,
    progress: Sender<()>,
    whereabouts: Arc<Whereabouts>,
}

impl Client {
    fn run(mut self) -> Vec<Attempt> {
        while let Some(server) = self.whereabouts.wait() {
            // A connection that breaks is what this is about; the next one goes on.
            let _ = self.converse(server);
        }
        self.attempts
    }

    /// A few messages over one connection.
    fn converse(&mut self, server: SocketAddr) -> io::Result<()> {
        let mut dialog = Dialog::hello(server)?;
        for _ in 0..self.rng.random_range(1..20) {
            if !self.whereabouts.is_open() {
                break;
            }
            self.number += 1;
            let attempt = compose(self.number, &mut self.rng);
            self.attempts.push(attempt.clone());
            let rcpts: Vec<&str> = attempt.rcpts.iter().map(String::as_str).collect();
            let reply = dialog.submit("sender@example.org", &rcpts, &attempt.content)?;
            if reply.code == 250 {
                writeln!(self.book, "{}", attempt.number)?;
                self.book.sync_data()?;
                if let Some(last) = self.attempts.last_mut() {
                    last.acknowledged = true;
                }
                self.acknowledged.fetch_add(1, Ordering::SeqCst);
                // The plan's owner may have given up waiting.
                let _ = self.progress.send(());
            }
        }
        dialog.ask("QUIT").map(drop)
    }
}

/// A message no other is like: mostly small, sometimes large, with dots at line starts, octets
/// beyond ASCII, and one or a few recipients.
fn compose(number: u64, rng: &mut StdRng) -> Attempt {
    let size = match rng.random_range(0..100) {
        0..2 => rng.random_range(200_000..600_000),
        2..20 => rng.random_range(8_000..40_000),
        _ => rng.random_range(1..2_000),
    };
    let mut content = Attempt::header(number).into_bytes();
    content.extend_from_slice(
        format!(
            "Message-ID: <{number}@ledger.example>\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n\
             From: sender@example.org\r\nTo: undisclosed-recipients:;\r\n\r\n"
        )
        .as_bytes(),
    );
    while content.len() < size {
        let mut line = vec![0; rng.random_range(0..200)];
        rng.fill_bytes(&mut line);
        for octet in &mut line {
            *octet = if *octet < 0x20 || *octet == 0x7f {
                b'.'
            } else {
                *octet
            };
        }
        if rng.random_range(0..8) == 0 {
            line.insert(0, b'.');
        }
        content.extend_from_slice(&line);
        content.extend_from_slice(b"\r\n");
    }
    let many = if rng.random_range(0..5) == 0 {
        rng.random_range(2..6)
    } else {
        1
    };
    let rcpts = (0..many)
        .map(|rcpt| format!("r{number}.{rcpt}@d{rcpt}.example"))
        .collect();
    Attempt {
        number,
        rcpts,
        content,
        acknowledged: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_composes_the_same_messages() {
        let [mut one, mut two] = [7, 7].map(StdRng::seed_from_u64);
        for number in 1..50 {
            let (one, two) = (compose(number, &mut one), compose(number, &mut two));
            assert_eq!((one.content, one.rcpts), (two.content, two.rcpts));
        }
    }
}
