//! A day of relay traffic in fast motion: what the disk holds while mail comes and goes.
//!
//! What: mail comes evenly. Most of it leaves at its first attempt; a share is deferred and tried
//! again in the slots of the schedule, `400 s * n^2` after it came, each time with the same chance.
//! Promises: it is the store that is asked: every message is durable before its first attempt and
//! read before each one. The clock is counted, so a day takes as long as the disk needs.
//! Fails: with the first error of the queue.

use crate::mail::{End, Mail, Mailbag};
use crate::queue::{Done, Queue};
use crate::spool;
use redspool_core::rng::Rng;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};

const MINUTES: u64 = 24 * 60;

/// Messages that wait for their receipts at a time.
const WAITING: usize = 256;

/// What comes, and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Messages in the day.
    pub mails: u64,
    /// Of a hundred first attempts, those that fail for now.
    pub deferred: u64,
    /// Of a hundred later attempts, those that fail again.
    pub again: u64,
}

/// How it stands at the end of an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hour {
    /// Hours since the start.
    pub hour: u64,
    /// Messages queued.
    pub queued: u64,
    /// Octets on the disk.
    pub held: u64,
}

/// Lets a day pass; gives how it stood at the end of each hour.
pub fn day(
    queue: &dyn Queue,
    spool: &Path,
    bag: &Mailbag,
    traffic: Traffic,
) -> io::Result<Vec<Hour>> {
    let mut hours = Vec::new();
    let mut rng = Rng::new(1);
    let mut attempts = Attempts::new(queue);
    // By minute, with the number of the next slot.
    let mut due: BTreeMap<u64, Vec<(Mail, u64)>> = BTreeMap::new();
    let (mut come, mut queued) = (0, 0);
    for minute in 0..MINUTES {
        let until = traffic.mails * (minute + 1) / MINUTES;
        let retried = due.remove(&minute).unwrap_or_default();
        let new = submitted(queue, bag, until - come)?;
        (come, queued) = (until, queued + until - come);
        let new = new.into_iter().map(|mail| (mail, 1));
        for (mail, slot) in new.chain(retried) {
            let share = if slot == 1 {
                traffic.deferred
            } else {
                traffic.again
            };
            let failed = rng.below(100) < share;
            if failed {
                let next = minute + slot_minutes(slot) - slot_minutes(slot - 1);
                due.entry(next).or_default().push((mail, slot + 1));
            } else {
                queued -= 1;
            }
            attempts.end(
                mail,
                if failed {
                    End::Deferred
                } else {
                    End::Delivered
                },
            )?;
        }
        if (minute + 1) % 60 == 0 {
            attempts.noted()?;
            hours.push(Hour {
                hour: (minute + 1) / 60,
                queued,
                held: spool::held(spool)?,
            });
        }
    }
    Ok(hours)
}

/// Minutes from when a message came to its slot.
fn slot_minutes(slot: u64) -> u64 {
    400 * slot * slot / 60
}

/// Hands in new messages and waits until all are durable.
fn submitted(queue: &dyn Queue, bag: &Mailbag, count: u64) -> io::Result<Vec<Mail>> {
    let (receipt, receipts) = mpsc::channel();
    let mut mails = Vec::new();
    let mut waiting = 0;
    for _ in 0..count {
        if waiting == WAITING {
            receipts.recv().map_err(io::Error::other)??;
            waiting -= 1;
        }
        let (mail, submission) = bag.next();
        queue.submit(submission, answer(&receipt));
        mails.push(mail);
        waiting += 1;
    }
    drop(receipt);
    receipts.iter().collect::<io::Result<()>>()?;
    Ok(mails)
}

fn answer(to: &Sender<io::Result<()>>) -> Done {
    let to = to.clone();
    Box::new(move |result| {
        // Nobody listens any more after an error.
        let _ = to.send(result);
    })
}

/// Attempts whose ends are handed in.
struct Attempts<'a> {
    queue: &'a dyn Queue,
    answer: Sender<io::Result<()>>,
    answers: Receiver<io::Result<()>>,
}

impl<'a> Attempts<'a> {
    fn new(queue: &'a dyn Queue) -> Self {
        let (answer, answers) = mpsc::channel();
        Self {
            queue,
            answer,
            answers,
        }
    }

    fn end(&self, mail: Mail, end: End) -> io::Result<()> {
        self.queue.load(mail)?;
        self.queue.settle(mail, end, answer(&self.answer));
        self.answers.try_iter().collect()
    }

    /// Waits until all ends are noted.
    fn noted(&mut self) -> io::Result<()> {
        let fresh = Self::new(self.queue);
        let Self {
            answer, answers, ..
        } = std::mem::replace(self, fresh);
        drop(answer);
        answers.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rivals::{Purpose, named};
    use redspool_core::id::Epoch;

    #[test]
    fn what_is_queued_at_the_end_is_what_the_store_has() {
        let place = spool::scratch(None).unwrap();
        let rival = named("log").unwrap();
        let queue = rival.open(place.path(), Purpose::Measure).unwrap();
        let bag = Mailbag::new(100, 1, Epoch::new(1));
        let traffic = Traffic {
            mails: 2000,
            deferred: 20,
            again: 75,
        };
        let hours = day(&*queue, place.path(), &bag, traffic).unwrap();
        assert_eq!(hours.len(), 24);
        let last = hours.last().unwrap();
        let mut listed = 0;
        let listing = queue.listing().unwrap();
        listing.walk(&mut |_| listed += 1).unwrap();
        assert_eq!(last.queued, listed);
        assert!((1..400).contains(&listed), "{listed}");
    }
}
