//! Attempts on one side, deliveries on the other, and what does not match.

use crate::rig::Delivery;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

/// How long after the remote 250 a daemon may still lose the note of it in a kill. Results ride in
/// the next group commit, at the latest after 100 ms; the rest is room for a loaded machine.
const UNSETTLED: Duration = Duration::from_secs(3);

/// The first header of every message: what finds it again.
const MARK: &str = "X-Ledger: ";

/// One message handed to the daemon, once.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// Its number, different from that of any other attempt.
    pub number: u64,
    /// Its recipients.
    pub rcpts: Vec<String>,
    /// Its content.
    pub content: Vec<u8>,
    /// Whether 250 was read for it.
    pub acknowledged: bool,
}

impl Attempt {
    /// The header that names an attempt.
    pub(super) fn header(number: u64) -> String {
        format!("{MARK}{number}\r\n")
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Acknowledged, but never arrived for this recipient.
    Lost {
        /// The number of the attempt.
        attempt: u64,
        /// The recipient.
        rcpt: String,
    },
    /// Arrived with other octets, or for somebody it was not for.
    Altered {
        /// The number of the attempt; 0 if it cannot be told any more.
        attempt: u64,
        /// What is different.
        what: String,
    },
    /// Arrived more than once without a kill at the time of the delivery before.
    Unexplained {
        /// The number of the attempt.
        attempt: u64,
        /// The recipient.
        rcpt: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { attempt, rcpt } => {
                write!(
                    f,
                    "lost: message {attempt} was acknowledged, never arrived for {rcpt}"
                )
            }
            Self::Altered { attempt, what } => write!(f, "altered: message {attempt}: {what}"),
            Self::Unexplained { attempt, rcpt } => {
                write!(f, "unexplained duplicate: message {attempt} for {rcpt}")
            }
        }
    }
}

/// The books.
#[derive(Debug, Default)]
pub struct Books {
    /// Messages handed over, acknowledged or not.
    pub attempts: usize,
    /// Messages acknowledged.
    pub acknowledged: usize,
    /// Deliveries, by recipient.
    pub deliveries: usize,
    /// Deliveries beyond the first, by recipient.
    pub duplicates: usize,
    /// What must not be.
    pub faults: Vec<Fault>,
    sent: BTreeMap<u64, Attempt>,
    arrived: BTreeMap<(u64, String), Vec<Instant>>,
}

impl Books {
    pub(super) fn attempt(&mut self, attempt: Attempt) {
        self.attempts += 1;
        self.acknowledged += usize::from(attempt.acknowledged);
        self.sent.insert(attempt.number, attempt);
    }

    /// Enters a delivery. All attempts must have been entered before.
    pub(super) fn delivery(&mut self, delivery: &Delivery) {
        let number = number(&delivery.content).unwrap_or_default();
        let Some(attempt) = self.sent.get(&number) else {
            let what = "arrived, but nobody sent it".into();
            self.faults.push(Fault::Altered {
                attempt: number,
                what,
            });
            return;
        };
        if let Some(what) = difference(&attempt.content, &delivery.content) {
            self.faults.push(Fault::Altered {
                attempt: number,
                what,
            });
        }
        for rcpt in &delivery.rcpts {
            if !attempt.rcpts.contains(rcpt) {
                let what = format!("arrived for {rcpt}, who is no recipient");
                self.faults.push(Fault::Altered {
                    attempt: number,
                    what,
                });
            }
            self.deliveries += 1;
            self.arrived
                .entry((number, rcpt.clone()))
                .or_default()
                .push(delivery.at);
        }
    }

    /// Compares both sides, given when the daemon was killed.
    pub(super) fn close(&mut self, kills: &[Instant]) {
        for attempt in self.sent.values().filter(|attempt| attempt.acknowledged) {
            for rcpt in attempt.rcpts.iter().collect::<BTreeSet<_>>() {
                if !self.arrived.contains_key(&(attempt.number, rcpt.clone())) {
                    let (attempt, rcpt) = (attempt.number, rcpt.clone());
                    self.faults.push(Fault::Lost { attempt, rcpt });
                }
            }
        }
        for ((attempt, rcpt), times) in &mut self.arrived {
            times.sort_unstable();
            self.duplicates += times.len() - 1;
            for pair in times.windows(2) {
                let explained = |kill: &&Instant| {
                    pair[0] <= **kill && **kill <= pair[1] && **kill - pair[0] <= UNSETTLED
                };
                if !kills.iter().any(|kill| explained(&kill)) {
                    let (attempt, rcpt) = (*attempt, rcpt.clone());
                    self.faults.push(Fault::Unexplained { attempt, rcpt });
                }
            }
        }
    }
}

/// The number in the mark of a message that arrived.
fn number(content: &[u8]) -> Option<u64> {
    let mut lines = content.split(|octet| *octet == b'\n');
    let text = lines.find_map(|line| line.strip_prefix(MARK.as_bytes()))?;
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// What is different, other than trace headers in front (RFC 5321 section 4.4).
fn difference(sent: &[u8], arrived: &[u8]) -> Option<String> {
    let Some(trace) = arrived.strip_suffix(sent) else {
        let same = sent
            .iter()
            .rev()
            .zip(arrived.iter().rev())
            .take_while(|(a, b)| a == b)
            .count();
        let (sent, arrived) = (sent.len(), arrived.len());
        return Some(format!(
            "{sent} octets sent, {arrived} arrived, {same} at the end the same"
        ));
    };
    let mut lines = trace.split_inclusive(|octet| *octet == b'\n');
    let known = ["Received:", "Return-Path:", "Delivered-To:"];
    let fits = |line: &[u8]| {
        line.ends_with(b"\r\n")
            && (line.starts_with(b"\t")
                || line.starts_with(b" ")
                || known.iter().any(|name| line.starts_with(name.as_bytes())))
    };
    lines
        .find(|line| !fits(line))
        .map(|line| format!("in front: {}", line.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RCPT: &str = "r@d.example";

    fn attempt(number: u64, acknowledged: bool) -> Attempt {
        let content = format!("{}\r\nbody {number}\r\n", Attempt::header(number)).into_bytes();
        Attempt {
            number,
            rcpts: vec![RCPT.into()],
            content,
            acknowledged,
        }
    }

    fn delivery(content: &[u8], at: Instant) -> Delivery {
        let content = [b"Received: from x\r\n\tby y; now\r\n", content].concat();
        Delivery {
            sender: String::new(),
            rcpts: vec![RCPT.into()],
            content,
            at,
            client: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            hello: String::new(),
        }
    }

    #[test]
    fn what_was_acknowledged_and_did_not_arrive_is_lost() {
        let mut books = Books::default();
        books.attempt(attempt(1, true));
        books.attempt(attempt(2, true));
        books.attempt(attempt(3, false));
        books.delivery(&delivery(&attempt(1, true).content, Instant::now()));
        books.close(&[]);
        assert_eq!(
            books.faults,
            [Fault::Lost {
                attempt: 2,
                rcpt: RCPT.into()
            }]
        );
    }

    #[test]
    fn one_other_octet_is_found() {
        let mut books = Books::default();
        books.attempt(attempt(1, true));
        let mut content = attempt(1, true).content;
        *content.last_mut().unwrap() = b'\r';
        books.delivery(&delivery(&content, Instant::now()));
        books.close(&[]);
        assert!(matches!(
            books.faults.as_slice(),
            [Fault::Altered { attempt: 1, .. }]
        ));
    }

    #[test]
    fn a_body_that_moved_in_front_of_the_headers_is_altered() {
        let sent = attempt(1, true).content;
        assert_eq!(
            difference(&sent, &[b"Received: x\r\n", &sent[..]].concat()),
            None
        );
        assert!(difference(&sent, &[b"Subject: x\r\n", &sent[..]].concat()).is_some());
    }

    #[test]
    fn a_duplicate_needs_a_kill_right_after_the_delivery_before() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let faults = |kill: Instant| {
            let mut books = Books::default();
            books.attempt(attempt(1, true));
            books.delivery(&delivery(&attempt(1, true).content, start + 10 * second));
            books.delivery(&delivery(&attempt(1, true).content, start + 60 * second));
            books.close(&[kill]);
            assert_eq!(books.duplicates, 1);
            books.faults.len()
        };
        assert_eq!(faults(start + 11 * second), 0);
        assert_eq!(faults(start + 9 * second), 1);
        assert_eq!(faults(start + 30 * second), 1);
        assert_eq!(faults(start + 61 * second), 1);
    }
}
