//! The way of an attempt: loaded, handed to its agent, ended, and what that leaves behind.

use super::bounces::{Verdict, verdict};
use super::settling::Counted;
use super::{Action, Engine, Loaded, Note};
use crate::envelope::{Agent, Attempts, Bounce, Delivery, Envelope};
use crate::id::EnvelopeId;
use crate::mda::UserId;
use crate::mta::{Content, Finished, RelayId, Via};
use crate::queue::{Change, Failure, Outcome, Settlement};
use crate::reply::{Class, Status};
use crate::scheduler::{HoldKey, Purpose};
use crate::time::{Now, Timestamp};
use std::net::IpAddr;
use std::time::Duration;

impl Engine {
    /// An envelope was read from the store, or could not be. One that is gone leaves the schedule,
    /// asked for or not: its message may have been set aside as damaged.
    pub(super) fn loaded(&mut self, now: Now, id: EnvelopeId, loaded: Loaded) {
        let purpose = self.scheduler.inflight(id).map(|inflight| inflight.purpose);
        match (loaded, purpose) {
            (Loaded::Gone, _) => {
                if self.drop_envelope(now, id) {
                    self.count_removed();
                }
                self.at_rest(now, id);
            }
            (_, None) => self.at_rest(now, id),
            (Loaded::Unavailable(_), Some(_)) => self.scheduler.postpone(id),
            (Loaded::Envelope(envelope, _), Some(Purpose::Expire)) => self.expire(now, envelope),
            (Loaded::Envelope(envelope, _), Some(Purpose::Warn)) => self.warn(now, &envelope),
            (Loaded::Envelope(envelope, content), Some(Purpose::Attempt)) => {
                self.start(now, envelope, content);
            }
        }
    }

    /// Relaying an envelope has ended.
    pub(super) fn finished(&mut self, now: Now, finished: Finished) {
        let note = Note::Delivery {
            envelope: finished.envelope.clone(),
            via: finished.via.clone(),
            delay: now.wall.since(finished.envelope.ctime),
            outcome: finished.outcome.clone(),
        };
        self.actions.push_back(Action::Log(note));
        self.settle(now, &finished.envelope, finished.via, finished.outcome);
    }

    /// A local delivery has ended.
    pub(super) fn ran(&mut self, now: Now, id: EnvelopeId, outcome: Outcome) {
        let Some(envelope) = self.mda.ran(now, id) else {
            return;
        };
        let finished = Finished {
            envelope,
            via: None,
            outcome,
        };
        self.finished(now, finished);
    }

    /// A notice was made, or could not be.
    pub(super) fn notified(
        &mut self,
        now: Now,
        reported: &[EnvelopeId],
        result: &Result<(), Failure>,
    ) {
        for envelope in self.bounces.finished(reported) {
            match result {
                Ok(()) => {
                    if self.scheduler.forget(envelope.id) {
                        self.count(Counted::Delivered);
                        self.left_queue();
                    }
                    self.at_rest(now, envelope.id);
                }
                Err(failure) if is_permanent(failure) => {
                    let outcome = Outcome::PermFail(failure.clone());
                    self.settle(now, &envelope, None, outcome);
                }
                Err(failure) => {
                    let outcome = Outcome::TempFail(failure.clone());
                    self.settle(now, &envelope, None, outcome);
                }
            }
        }
    }

    fn start(&mut self, now: Now, envelope: Box<Envelope>, content: Content) {
        let id = envelope.id;
        let agent = envelope.agent();
        let paused = match agent {
            Agent::Mta => self.paused.mta,
            Agent::Mda => self.paused.mda,
            Agent::Bounce => false,
        };
        if paused || !self.may_start() || !self.scheduler.may_go(id) {
            self.scheduler.give_back(id);
            return;
        }
        let held_for = match agent {
            Agent::Mta => {
                let held = self.mta.accept(now, envelope, content);
                held.map_err(RelayId::get)
            }
            Agent::Mda => self.mda.accept(now, envelope).map_err(UserId::get),
            Agent::Bounce => {
                self.bounces.accept(now, *envelope);
                Ok(())
            }
        };
        if let Err(number) = held_for {
            self.scheduler.hold(now, id, HoldKey { agent, number });
        }
    }

    /// What the end of an attempt leaves behind; nothing if the envelope was removed meanwhile.
    fn settle(&mut self, now: Now, envelope: &Envelope, via: Option<Via>, outcome: Outcome) {
        let id = envelope.id;
        if self.scheduler.inflight(id).is_none() && !self.came_back(now, id, &outcome) {
            return;
        }
        let Some(inflight) = self.scheduler.inflight(id) else {
            return;
        };
        if self.settling.contains(id) {
            return;
        }
        let (counted, change, bounce) = match outcome {
            Outcome::Delivered { text, notifies } => {
                let relayed = matches!(envelope.delivery, Delivery::Mta(_));
                let kind = Bounce::Delivered { relayed };
                let cause = Cause {
                    status: Some(Status::success(0, 0)),
                    text: &text,
                    via: via.as_ref(),
                };
                let tell = !(relayed && notifies);
                let bounce = tell.then(|| self.notice(now, envelope, kind, cause));
                (Counted::Delivered, Change::Done, bounce.flatten())
            }
            Outcome::TempFail(failure) => {
                let status = failure.status;
                let bounce = self.delay_notice(now, envelope, Cause::of(&failure, via.as_ref()));
                let change = Change::Retry {
                    retry: envelope.retry.saturating_add(1),
                    last_try: inflight.since,
                    status,
                    errorline: errorline(&failure.text),
                    via: via.map(Box::new),
                    warned: bounce.as_ref().map(|_| now.wall),
                };
                (Counted::TempFail, change, bounce)
            }
            Outcome::PermFail(failure) => {
                let cause = Cause::of(&failure, via.as_ref());
                let bounce = self.failure_notice(now, envelope, cause);
                (Counted::PermFail, Change::Done, bounce)
            }
            Outcome::Loop => {
                let cause = Cause::own(Status::permanent(4, 6), "Loop detected");
                let bounce = self.failure_notice(now, envelope, cause);
                (Counted::Loop, Change::Done, bounce)
            }
        };
        let settlement = Settlement {
            envelope: id,
            change,
            bounce,
        };
        self.settling.add(settlement, counted);
    }

    /// An envelope's life is over.
    fn expire(&mut self, now: Now, envelope: Box<Envelope>) {
        let cause = Cause::own(Status::permanent(4, 7), "Envelope expired");
        let bounce = self.failure_notice(now, &envelope, cause);
        let settlement = Settlement {
            envelope: envelope.id,
            change: Change::Done,
            bounce,
        };
        self.settling.add(settlement, Counted::Expired);
        self.actions.push_back(Action::Log(Note::Expired(envelope)));
    }

    /// A delay has passed that senders are told of.
    fn warn(&mut self, now: Now, envelope: &Envelope) {
        let via = envelope.tried().pop().and_then(|attempt| attempt.via);
        let cause = Cause {
            status: envelope.status,
            text: &envelope.errorline,
            via: via.as_ref(),
        };
        let bounce = self.delay_notice(now, envelope, cause);
        if bounce.is_none() {
            self.scheduler.warned(now, envelope.id);
            return;
        }
        let change = Change::Retry {
            retry: envelope.retry,
            last_try: envelope.last_try,
            status: envelope.status,
            errorline: envelope.errorline.clone(),
            via: None,
            warned: Some(now.wall),
        };
        let settlement = Settlement {
            envelope: envelope.id,
            change,
            bounce,
        };
        self.settling.add(settlement, Counted::Warned);
    }

    fn failure_notice(
        &mut self,
        now: Now,
        envelope: &Envelope,
        cause: Cause<'_>,
    ) -> Option<Box<Envelope>> {
        if verdict(envelope, Bounce::Failed) == Verdict::Double {
            let envelope = Box::new(envelope.clone());
            self.actions
                .push_back(Action::Log(Note::DoubleBounce(envelope)));
            return None;
        }
        self.notice(now, envelope, Bounce::Failed, cause)
    }

    /// A notice about the longest delay that has passed and was not reported.
    fn delay_notice(
        &mut self,
        now: Now,
        envelope: &Envelope,
        cause: Cause<'_>,
    ) -> Option<Box<Envelope>> {
        let passed = |delay: &&Duration| {
            let at = envelope.ctime.after(**delay);
            at <= now.wall && envelope.last_bounce < at
        };
        let delay = *self.delays.iter().filter(passed).max()?;
        let ttl = envelope.ttl;
        self.notice(now, envelope, Bounce::Delayed { delay, ttl }, cause)
    }

    /// A report to the sender, if it is wanted.
    fn notice(
        &mut self,
        now: Now,
        envelope: &Envelope,
        kind: Bounce,
        cause: Cause<'_>,
    ) -> Option<Box<Envelope>> {
        if verdict(envelope, kind) != Verdict::Tell {
            return None;
        }
        let mut notice = envelope.clone();
        while self.scheduler.contains(notice.id) {
            notice.id = envelope.id.message().draw_envelope(&mut self.rng);
        }
        notice.delivery = Delivery::Bounce(kind);
        notice.ctime = now.wall;
        notice.ttl = self.limits.bounce_ttl;
        notice.last_try = Timestamp::EPOCH;
        notice.last_bounce = Timestamp::EPOCH;
        notice.retry = 0;
        notice.flags.suspended = false;
        notice.status = cause.status;
        notice.errorline = errorline(cause.text);
        notice.remote = cause.via.map(remote).unwrap_or_default();
        notice.attempts = Attempts::default();
        Some(Box::new(notice))
    }
}

/// What a notice tells, and of which host.
#[derive(Clone, Copy)]
struct Cause<'a> {
    status: Option<Status>,
    text: &'a str,
    via: Option<&'a Via>,
}

impl<'a> Cause<'a> {
    fn of(failure: &'a Failure, via: Option<&'a Via>) -> Self {
        Self {
            status: failure.status,
            text: &failure.text,
            via,
        }
    }

    /// In our own words.
    fn own(status: Status, text: &'a str) -> Self {
        Self {
            status: Some(status),
            text,
            via: None,
        }
    }
}

/// The host as RFC 3464 section 2.3.5 wants it: its name, or its address as a literal.
fn remote(via: &Via) -> Box<str> {
    if !via.name.is_empty() && via.name.parse::<IpAddr>().is_err() {
        return via.name.clone();
    }
    match via.target {
        IpAddr::V4(address) => format!("[{address}]").into(),
        IpAddr::V6(address) => format!("[IPv6:{address}]").into(),
    }
}

fn is_permanent(failure: &Failure) -> bool {
    failure.status.is_some_and(|s| s.class == Class::Permanent)
}

/// A text of bounded length; a longer one ends in `...`.
fn errorline(text: &str) -> Box<str> {
    const MARK: &str = "...";
    if text.len() <= Envelope::ERRORLINE_MAX {
        return text.into();
    }
    let end = text.floor_char_boundary(Envelope::ERRORLINE_MAX - MARK.len());
    let kept = text.get(..end).unwrap_or_default();
    [kept, MARK].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let line = errorline(&"\u{e9}".repeat(2000));
        assert!(line.len() <= Envelope::ERRORLINE_MAX && line.ends_with("\u{e9}..."));
        assert_eq!(&*errorline("451 later"), "451 later");
    }
}
