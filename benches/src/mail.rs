//! Mail to submit, and how its delivery ends.
//!
//! Promises: ids as the daemon draws them, never one twice; the content is shared, not copied, so
//! making mail costs every rival the same little.
//! Absent on purpose: variety. All mail of a bag is alike but for its ids.

use bytes::Bytes;
use redspool_core::addr::Source;
use redspool_core::envelope::{Attempts, Delivery, Dsn, Envelope, Flags, Relay};
use redspool_core::id::{EnvelopeId, Epoch, MessageId, MessageIds};
use redspool_core::queue::{Body, Change, Message, Settlement, Submission};
use redspool_core::reply::Status;
use redspool_core::rng::Rng;
use redspool_core::time::Timestamp;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Duration;

/// When all mail of the benches was accepted.
const CTIME: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Content that is repeated to the size wanted.
const LINE: &[u8] = b"The quick brown fox jumps over the lazy dog and thinks nothing of it.\r\n";

/// A queued message, as far as the benches need to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Its number.
    pub id: MessageId,
    /// Its envelopes: their lower halves count from 1.
    pub recipients: u32,
}

/// How an attempt ends, for all envelopes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Delivered: they leave the queue.
    Delivered,
    /// Failed for now: they stay, with the failure noted.
    Deferred,
}

impl End {
    /// The word in tables and benchmark names.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Delivered => "deliver",
            Self::Deferred => "defer",
        }
    }
}

impl Mail {
    /// The ids of its envelopes, in order.
    pub fn envelopes(self) -> impl Iterator<Item = EnvelopeId> {
        let halves = (1..=self.recipients).filter_map(NonZeroU32::new);
        halves.map(move |low| self.id.envelope(low))
    }

    /// What an attempt leaves behind for each of them.
    pub fn settlements(self, end: End) -> Vec<Settlement> {
        let settlement = |envelope| Settlement {
            envelope,
            change: match end {
                End::Delivered => Change::Done,
                End::Deferred => failure(),
            },
            bounce: None,
        };
        self.envelopes().map(settlement).collect()
    }
}

fn failure() -> Change {
    Change::Retry {
        retry: 1,
        last_try: CTIME.after(Duration::from_mins(1)),
        status: Some(Status::transient(4, 1)),
        errorline: "421 4.4.1 come back later".into(),
        via: None,
        warned: None,
    }
}

/// Notes a failure in an envelope, as a store does.
pub(crate) fn defer(envelope: &mut Envelope) {
    if let Change::Retry {
        retry,
        last_try,
        status,
        errorline,
        via,
        ..
    } = failure()
    {
        let before = (envelope.last_try, &*envelope.errorline);
        envelope.attempts.add(via.as_deref(), &errorline, before);
        envelope.retry = retry;
        envelope.last_try = last_try;
        envelope.status = status;
        envelope.errorline = errorline;
    }
}

/// Mail to submit: so many recipients each, a body of so many octets.
#[derive(Debug)]
pub struct Mailbag {
    ids: Mutex<(MessageIds, Rng)>,
    body: Bytes,
    recipients: u32,
    /// Cloned for every envelope: parsing addresses is not what is measured.
    model: Envelope,
}

impl Mailbag {
    /// Mail with bodies of `size` octets, the first ids from `epoch`.
    pub fn new(size: usize, recipients: u32, epoch: Epoch) -> Self {
        Self {
            ids: Mutex::new((MessageIds::new(epoch), Rng::new(epoch.number().into()))),
            body: LINE.iter().copied().cycle().take(size).collect(),
            recipients,
            model: envelope(MessageId::MIN.envelope(NonZeroU32::MIN)),
        }
    }

    /// Octets of the content of one message.
    pub fn size(&self) -> u64 {
        self.body.len() as u64
    }

    /// Leaves the rest of this epoch's ids to somebody else and gives the next epoch.
    pub fn next_epoch(&self) -> Epoch {
        let (ids, _) = &mut *self.ids.lock().expect("no holder panics");
        ids.advance();
        ids.epoch()
    }

    /// The next message and its submission.
    pub fn next(&self) -> (Mail, Submission) {
        let mail = Mail {
            id: self.id(),
            recipients: self.recipients,
        };
        let submission = Submission {
            message: Message {
                id: mail.id,
                size: self.size(),
                ctime: CTIME,
                eight_bit: false,
                utf8: false,
            },
            body: Body::Whole(self.body.clone()),
            envelopes: mail
                .envelopes()
                .map(|id| Envelope {
                    id,
                    ..self.model.clone()
                })
                .collect(),
        };
        (mail, submission)
    }

    fn id(&self) -> MessageId {
        let (ids, rng) = &mut *self.ids.lock().expect("no holder panics");
        loop {
            match ids.draw(rng) {
                Some(id) => return id,
                None => ids.advance(),
            }
        }
    }
}

/// An envelope of the bag.
fn envelope(id: EnvelopeId) -> Envelope {
    let rcpt: redspool_core::addr::Address =
        "recipient@example.org".parse().expect("a valid address");
    Envelope {
        id,
        action: "outbound".into(),
        tag: "".into(),
        delivery: Delivery::Mta(Relay::to(None)),
        smtpname: "mx.example.com".into(),
        helo: "client.example.net".into(),
        hostname: "client.example.net".into(),
        username: "".into(),
        source: Source::Inet4([192, 0, 2, 1].into()),
        sender: "sender@example.net".parse().expect("a valid address"),
        dest: rcpt.clone(),
        rcpt,
        ctime: CTIME,
        last_try: Timestamp::EPOCH,
        last_bounce: Timestamp::EPOCH,
        ttl: Duration::from_hours(96),
        retry: 0,
        flags: Flags::default(),
        dsn: Dsn::default(),
        status: None,
        errorline: "".into(),
        remote: "".into(),
        attempts: Attempts::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_id_comes_twice_and_envelopes_are_of_their_message() {
        let bag = Mailbag::new(100, 3, Epoch::new(7));
        let mut seen = BTreeSet::new();
        for _ in 0..20_000 {
            let (mail, submission) = bag.next();
            assert!(seen.insert(mail.id));
            let ids = submission.envelopes.iter().map(|envelope| envelope.id);
            assert!(ids.eq(mail.envelopes()));
            assert_eq!(mail.envelopes().count(), 3);
        }
        let epoch = bag.next_epoch();
        assert_eq!(Epoch::of(bag.next().0.id), epoch);
    }
}
