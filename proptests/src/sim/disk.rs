//! The simulated disk: a store that takes its time, refuses for a while, and outlives the daemon.
//!
//! Promises: what was confirmed is there after a crash; of what was not, some is and some is not,
//! each group whole or not at all.

use super::bug::Bug;
use super::ledger::End;
use super::plan::Fate;
use super::world::{Step, World, ids_of, scheduled, temporary};
use redspool_core::engine::Event;
use redspool_core::envelope::Envelope;
use redspool_core::id::EnvelopeId;
use redspool_core::queue::{
    Body, Reader as _, Receipt, Refusal, Settlement, Store as _, Submission, Transition,
};
use redspool_store::{MemReader, MemStore};
use std::collections::VecDeque;
use std::time::Duration;

/// What is on its way to the disk.
#[derive(Debug)]
pub(super) enum Write {
    /// A message from a client.
    Submit(Submission),
    /// Results of attempts.
    Settle(Vec<Settlement>),
    /// A notice in the place of what it reports.
    Notify {
        notice: Submission,
        reported: Vec<EnvelopeId>,
    },
}

/// The disk, and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Disk {
    store: MemStore,
    failing: bool,
    /// Results that were refused; the engine knows that results are not recorded.
    backlog: VecDeque<Vec<Settlement>>,
    /// Writes on their way.
    writing: usize,
    /// When the last one of them will be done.
    busy: Duration,
}

impl Disk {
    pub(super) fn reader(&self) -> MemReader {
        self.store.reader()
    }

    /// Whether it refuses to write.
    pub(super) fn failing(&self) -> bool {
        self.failing
    }

    /// Whether the engine knows that results are not recorded.
    pub(super) fn told(&self) -> bool {
        !self.backlog.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.writing == 0 && self.backlog.is_empty()
    }

    /// It refuses from now on.
    pub(super) fn fail(&mut self) {
        self.failing = true;
    }

    /// It writes again.
    pub(super) fn mend(&mut self) {
        self.failing = false;
    }

    /// The daemon is gone, and with it what it meant to write again.
    pub(super) fn crash(&mut self) {
        self.backlog.clear();
    }

    /// All envelopes there are.
    pub(super) fn stored(&self) -> Vec<EnvelopeId> {
        let mut ids = Vec::new();
        let walked = self.reader().walk(&mut |entry| {
            ids.extend(entry.ok().map(|scheduled| scheduled.id));
        });
        walked.expect("a store in memory can be read");
        ids
    }

    /// An administrator's command, which is not refused.
    pub(super) fn command(&mut self, transition: Transition) -> Receipt {
        let prepared = self.store.prepare(transition);
        let receipts = prepared.and_then(|prepared| self.store.commit(vec![prepared]));
        let first = receipts
            .ok()
            .and_then(|receipts| receipts.into_iter().next());
        first.expect("a store in memory does not fail")
    }
}

impl World {
    /// Something goes to the disk, behind what is on its way already.
    pub(super) fn write(&mut self, write: Write) {
        let wait = Duration::from_micros(500 + self.rng.below(20_000));
        self.disk.busy = self.disk.busy.max(self.elapsed + wait);
        self.disk.writing += 1;
        self.agenda
            .add(self.disk.busy, Step::Written(self.life, write));
    }

    pub(super) fn settle(&mut self, mut settlements: Vec<Settlement>) {
        if self.disk.told() {
            let told = ids_of(&settlements);
            self.check(
                told.first().copied(),
                Err("settled while results cannot be recorded".into()),
            );
        }
        let dropped = self.bug(Bug::SettlementDropped, 50);
        if dropped {
            return self.tell_settled(&settlements);
        }
        if self.bug(Bug::NoticeDropped, 20) {
            for settlement in &mut settlements {
                settlement.bounce = None;
            }
        }
        self.write(Write::Settle(settlements));
    }

    /// A write is done, or comes to nothing.
    pub(super) fn written(&mut self, life: u32, write: Write) {
        self.disk.writing -= 1;
        let alive = life == self.life;
        // The daemon was killed while it was on its way: it is there or it is not.
        if !alive && self.rng.below(2) == 0 {
            return;
        }
        let failing = self.disk.failing();
        match write {
            Write::Submit(submission) if !failing => {
                self.submit(submission, alive);
            }
            // The client is told so.
            Write::Submit(_) => {}
            Write::Settle(settlements) => {
                // Sometimes it is there although the disk says that it is not.
                let there = !failing || self.rng.below(4) == 0;
                if there {
                    self.apply(&settlements);
                }
                if alive && failing {
                    self.refused(settlements);
                } else if alive {
                    self.tell_settled(&settlements);
                }
            }
            Write::Notify { notice, reported } if !failing => self.notify(notice, reported, alive),
            Write::Notify { reported, .. } => {
                if alive {
                    self.report_failed(reported);
                }
            }
        }
    }

    fn submit(&mut self, submission: Submission, alive: bool) {
        let envelopes = submission.envelopes.clone();
        let digest = digest_of(&submission);
        let message = submission.message.id;
        if self.disk.command(Transition::Submit(submission)) != Receipt::Done {
            return self.check(
                None,
                Err(format!("message {message}: its number is in use")),
            );
        }
        self.ledger.content(digest, message);
        self.accept(&envelopes, true);
        if alive && !self.bug(Bug::MailForgotten, 200) {
            self.tell(Event::Queued(scheduled(&envelopes)));
        }
    }

    fn accept(&mut self, envelopes: &[Envelope], from_client: bool) {
        for envelope in envelopes {
            let fate = self.fate(&envelope.dest);
            let fate = match envelope.delivery {
                // It is reported, whatever its destination is.
                redspool_core::envelope::Delivery::Bounce(_) => Fate::Partly,
                _ => fate,
            };
            self.trace
                .envelope(self.elapsed, envelope.id, "accepted", || {
                    format!("{:?} for {:?} {fate:?}", envelope.agent(), envelope.dest)
                });
            let accepted = self
                .ledger
                .accept(self.elapsed, envelope, fate, from_client);
            self.check(Some(envelope.id), accepted);
        }
    }

    fn apply(&mut self, settlements: &[Settlement]) {
        let receipt = self.disk.command(Transition::Settle(settlements.to_vec()));
        if receipt == Receipt::Refused(Refusal::Exists) {
            // All of it is there: the id of one of its reports is.
            return;
        }
        let wall = self.now().wall;
        for settlement in settlements {
            let id = settlement.envelope;
            let known = self.ledger.get(id).is_some_and(|entry| entry.end.is_none());
            self.trace.envelope(self.elapsed, id, "settled", || {
                format!("{:?}", settlement.change)
            });
            let settled = self.ledger.settle(self.elapsed, wall, settlement);
            self.check(Some(id), settled);
            if let Some(bounce) = settlement.bounce.as_deref().filter(|_| known) {
                self.accept(std::slice::from_ref(bounce), false);
            }
        }
    }

    fn tell_settled(&mut self, settlements: &[Settlement]) {
        self.tell(Event::Settled(ids_of(settlements)));
    }

    /// Results could not be recorded: they are kept and tried again.
    fn refused(&mut self, settlements: Vec<Settlement>) {
        let first = !self.disk.told();
        self.disk.backlog.push_back(settlements);
        if first {
            self.trace.all(self.elapsed, "results are not recorded");
            self.agenda.add(
                self.elapsed + Duration::from_secs(1),
                Step::Retry(self.life),
            );
            self.tell(Event::StoreFailed);
        }
    }

    /// What was refused is tried again.
    pub(super) fn retry(&mut self) {
        if self.disk.failing() {
            let next = self.elapsed + Duration::from_secs(1);
            return self.agenda.add(next, Step::Retry(self.life));
        }
        while let Some(settlements) = self.disk.backlog.front().cloned() {
            self.apply(&settlements);
            self.tell_settled(&settlements);
            self.disk.backlog.pop_front();
        }
        self.trace.all(self.elapsed, "results are recorded again");
        self.ledger.freed(self.elapsed);
        self.tell(Event::StoreRecovered);
    }

    fn notify(&mut self, notice: Submission, reported: Vec<EnvelopeId>, alive: bool) {
        let envelopes = notice.envelopes.clone();
        let (digest, message) = (digest_of(&notice), notice.message.id);
        let transition = Transition::Notify {
            notice: Some(notice),
            reported: reported.clone(),
        };
        if let Receipt::Refused(why) = self.disk.command(transition) {
            return self.check(None, Err(format!("notice {message}: {why:?}")));
        }
        if self.disk.reader().exists(message) == Ok(true) {
            self.ledger.content(digest, message);
            self.accept(&envelopes, false);
        }
        let wall = self.now().wall;
        for id in &reported {
            if self
                .ledger
                .get(*id)
                .is_some_and(|entry| entry.end.is_none())
            {
                self.trace
                    .envelope(self.elapsed, *id, "reported", || message.to_string());
                let ended = self.ledger.end(self.elapsed, wall, *id, End::Reported);
                self.check(Some(*id), ended);
            }
        }
        if alive {
            self.tell(Event::Queued(scheduled(&envelopes)));
            let result = Ok(());
            self.tell(Event::Notified { reported, result });
        }
    }

    fn report_failed(&mut self, reported: Vec<EnvelopeId>) {
        for id in &reported {
            let tried = self.ledger.tried(*id, None, false);
            self.check(Some(*id), tried);
            let (now, wall) = (self.elapsed, self.now().wall);
            let later = super::ledger::Verdict::Later;
            let judged = self.ledger.judged(now, wall, *id, later);
            self.check(Some(*id), judged);
        }
        let result = Err(temporary("the disk does not write"));
        self.tell(Event::Notified { reported, result });
    }
}

fn digest_of(submission: &Submission) -> u64 {
    match &submission.body {
        Body::Whole(content) => super::peer::digest(content),
        Body::Pieces(_) => unreachable!("contents of simulated mail are whole"),
    }
}
