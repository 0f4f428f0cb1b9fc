//! Notices: who is to be told what, and the envelopes that wait to be told together.
//!
//! Promises: a notice is only made when RFC 3461 and RFC 5321 section 6.1 want it: never about a
//! notice, never to the null sender, and for NOTIFY exactly as given (failure and delay if not
//! given). Reports of one message and kind wait for each other a moment and share one notice.
//! Absent on purpose: the text of a notice.

use crate::bounce::{self, GroupKey};
use crate::envelope::{Bounce, Delivery, Envelope};
use crate::id::EnvelopeId;
use crate::limits::Limits;
use crate::time::Now;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Whether the sender of an envelope is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Yes.
    Tell,
    /// No: NOTIFY does not ask for it.
    Silent,
    /// No: it is itself a notice, or nobody sent it.
    Double,
}

/// Whether the sender of an envelope is to be told about this.
pub(super) fn verdict(envelope: &Envelope, kind: Bounce) -> Verdict {
    let notice = matches!(envelope.delivery, Delivery::Bounce(_)) || envelope.flags.bounce;
    if notice || envelope.sender.is_null() {
        Verdict::Double
    } else if bounce::wanted(envelope, kind) {
        Verdict::Tell
    } else {
        Verdict::Silent
    }
}

/// Bounce envelopes that wait for each other, or are being reported.
#[derive(Debug)]
struct Group {
    envelopes: Vec<Envelope>,
    due: Instant,
}

/// The bounce agent.
#[derive(Debug)]
pub(super) struct Bounces {
    limits: Arc<Limits>,
    groups: BTreeMap<GroupKey, Group>,
    /// Groups that are complete, in order.
    ready: VecDeque<Vec<Envelope>>,
    running: BTreeMap<EnvelopeId, Vec<Envelope>>,
    envelopes: usize,
}

impl Bounces {
    pub(super) fn new(limits: Arc<Limits>) -> Self {
        Self {
            limits,
            groups: BTreeMap::new(),
            ready: VecDeque::new(),
            running: BTreeMap::new(),
            envelopes: 0,
        }
    }

    pub(super) fn configure(&mut self, limits: Arc<Limits>) {
        self.limits = limits;
    }

    /// Takes a bounce envelope to be reported.
    pub(super) fn accept(&mut self, now: Now, envelope: Envelope) {
        let Some(key) = bounce::group_key(&envelope) else {
            return;
        };
        let due = now.mono + self.limits.bounce_wait;
        let group = self.groups.entry(key.clone()).or_insert_with(|| Group {
            envelopes: Vec::new(),
            due,
        });
        group.due = due;
        group.envelopes.push(envelope);
        self.envelopes += 1;
        if group.envelopes.len() >= self.limits.recipients
            && let Some(group) = self.groups.remove(&key)
        {
            self.ready.push_back(group.envelopes);
        }
    }

    /// The next group to report, if there is one and few enough are being reported.
    pub(super) fn start(&mut self, now: Now) -> Option<Vec<Envelope>> {
        if self.running.len() >= self.limits.bounce_sessions {
            return None;
        }
        let due = |(_, group): &(&GroupKey, &Group)| group.due <= now.mono;
        while let Some(key) = self.groups.iter().find(due).map(|(key, _)| key.clone()) {
            let group = self.groups.remove(&key);
            self.ready.extend(group.map(|group| group.envelopes));
        }
        let group = self.ready.pop_front()?;
        let notice = group.clone();
        if let Some(first) = group.first() {
            self.running.insert(first.id, group);
        }
        Some(notice)
    }

    /// A group has been reported, or not: gives its envelopes back.
    pub(super) fn finished(&mut self, reported: &[EnvelopeId]) -> Vec<Envelope> {
        let groups = reported.iter().filter_map(|id| self.running.remove(id));
        let envelopes: Vec<_> = groups.flatten().collect();
        self.envelopes -= envelopes.len();
        envelopes
    }

    /// Takes an envelope back that is not being reported; says whether there was one.
    pub(super) fn withdraw(&mut self, id: EnvelopeId) -> bool {
        let before = self.envelopes;
        let waiting = self.groups.values_mut().map(|group| &mut group.envelopes);
        for envelopes in waiting.chain(&mut self.ready) {
            let len = envelopes.len();
            envelopes.retain(|envelope| envelope.id != id);
            self.envelopes -= len - envelopes.len();
        }
        self.groups.retain(|_, group| !group.envelopes.is_empty());
        self.ready.retain(|envelopes| !envelopes.is_empty());
        self.envelopes < before
    }

    /// Takes everything back that is not being reported.
    pub(super) fn retract(&mut self) -> Vec<EnvelopeId> {
        let groups = std::mem::take(&mut self.groups).into_values();
        let waiting = groups.map(|group| group.envelopes);
        let all = waiting.chain(std::mem::take(&mut self.ready)).flatten();
        let ids: Vec<_> = all.map(|envelope| envelope.id).collect();
        self.envelopes -= ids.len();
        ids
    }

    /// When the next group is complete, if it could be reported then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.running.len() >= self.limits.bounce_sessions {
            return None;
        }
        self.groups.values().map(|group| group.due).min()
    }

    /// Groups waiting.
    pub(super) fn groups(&self) -> usize {
        self.groups.len() + self.ready.len()
    }

    /// Envelopes waiting or being reported.
    pub(super) fn envelopes(&self) -> usize {
        self.envelopes
    }

    /// Notices being made.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::envelope;
    use crate::envelope::Notify;
    use std::time::Duration;

    const DELAYED: Bounce = Bounce::Delayed {
        delay: Duration::from_hours(4),
        ttl: Duration::from_hours(96),
    };
    const DELIVERED: Bounce = Bounce::Delivered { relayed: false };

    #[test]
    fn notify_is_honoured_exactly() {
        let all = [Bounce::Failed, DELAYED, DELIVERED];
        let check = |notify: Option<[bool; 3]>, want: [bool; 3]| {
            let mut envelope = envelope(1, 1);
            envelope.dsn.notify = notify.map(|[failure, delay, success]| Notify {
                success,
                failure,
                delay,
            });
            let told = all.map(|kind| verdict(&envelope, kind) == Verdict::Tell);
            assert_eq!(told, want, "{notify:?}");
        };
        check(None, [true, true, false]);
        check(Some([false, false, false]), [false, false, false]);
        check(Some([true, false, false]), [true, false, false]);
        check(Some([false, true, false]), [false, true, false]);
        check(Some([false, false, true]), [false, false, true]);
    }

    #[test]
    fn notices_and_the_null_sender_are_never_answered() {
        let mut null = envelope(1, 1);
        null.sender = crate::addr::Address::null();
        let mut notice = envelope(1, 1);
        notice.flags.bounce = true;
        let mut bounce = envelope(1, 1);
        bounce.delivery = Delivery::Bounce(Bounce::Failed);
        for envelope in [null, notice, bounce] {
            assert_eq!(verdict(&envelope, Bounce::Failed), Verdict::Double);
        }
    }
}
