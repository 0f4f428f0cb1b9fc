//! Messages that wait for a relay.

use super::Content;
use crate::envelope::Envelope;
use crate::id::{EnvelopeId, MessageId};
use crate::smtp::{Transaction, TransactionRecipient};
use std::collections::{BTreeMap, VecDeque};

/// One message for one relay: what becomes one transaction.
#[derive(Debug)]
pub(super) struct Task {
    #[expect(clippy::vec_box, reason = "they come and go in their boxes")]
    pub(super) envelopes: Vec<Box<Envelope>>,
    content: Content,
}

impl Task {
    /// What to send; `None` if nobody is left to send it to.
    pub(super) fn transaction(&self) -> Option<Transaction> {
        let first = self.envelopes.first()?;
        let recipients = self.envelopes.iter().map(|envelope| TransactionRecipient {
            envelope: envelope.id,
            dest: envelope.dest.clone(),
            notify: envelope.dsn.notify,
            orcpt: envelope.dsn.orcpt.clone(),
        });
        Some(Transaction {
            message: first.id.message(),
            size: self.content.size,
            eight_bit: self.content.eight_bit,
            utf8: self.content.utf8,
            sender: first.sender.clone(),
            ret: first.dsn.ret,
            envid: first.dsn.envid.clone(),
            recipients: recipients.collect(),
        })
    }

    /// Whether an envelope can go in the same transaction.
    fn agrees(&self, envelope: &Envelope) -> bool {
        self.envelopes.first().is_some_and(|first| {
            first.sender == envelope.sender
                && first.dsn.ret == envelope.dsn.ret
                && first.dsn.envid == envelope.dsn.envid
        })
    }
}

/// The tasks of a relay, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// In order of their numbers.
    queue: VecDeque<(u64, Task)>,
    /// The last task of a message: the one more recipients may join.
    joinable: BTreeMap<MessageId, u64>,
    places: BTreeMap<EnvelopeId, u64>,
    last: u64,
}

impl Tasks {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether the oldest task has failed before.
    pub(super) fn has_failed(&self) -> bool {
        let first = self.queue.front();
        first.is_some_and(|(_, task)| task.envelopes.iter().any(|envelope| envelope.retry > 0))
    }

    /// Whether an envelope would join a task that is there already.
    pub(super) fn fits(&self, envelope: &Envelope, most: usize) -> bool {
        let task = self.joinable.get(&envelope.id.message());
        let task = task.and_then(|place| self.queue.get(self.index(*place)?));
        task.is_some_and(|(_, task)| task.envelopes.len() < most && task.agrees(envelope))
    }

    /// Adds an envelope; says whether that made another task.
    pub(super) fn add(&mut self, envelope: Box<Envelope>, content: Content, most: usize) -> bool {
        let (id, message) = (envelope.id, envelope.id.message());
        let another = !self.fits(&envelope, most);
        if another {
            self.last += 1;
            self.joinable.insert(message, self.last);
        }
        let place = self.joinable.get(&message).copied().unwrap_or(self.last);
        self.places.insert(id, place);
        if let Some((_, task)) = self.index(place).and_then(|at| self.queue.get_mut(at)) {
            task.envelopes.push(envelope);
        } else {
            let envelopes = vec![envelope];
            let task = Task { envelopes, content };
            self.queue.push_back((place, task));
        }
        another
    }

    /// Takes the oldest task.
    pub(super) fn pop(&mut self) -> Option<Task> {
        let (place, task) = self.queue.pop_front()?;
        for envelope in &task.envelopes {
            self.places.remove(&envelope.id);
        }
        self.forget_joinable(&task, place);
        Some(task)
    }

    /// Takes an envelope out; says whether that ended its task.
    pub(super) fn remove(&mut self, id: EnvelopeId) -> bool {
        let Some(place) = self.places.remove(&id) else {
            return false;
        };
        let Some(at) = self.index(place) else {
            return false;
        };
        let Some((_, task)) = self.queue.get_mut(at) else {
            return false;
        };
        task.envelopes.retain(|envelope| envelope.id != id);
        if !task.envelopes.is_empty() {
            return false;
        }
        self.queue.remove(at);
        if self.joinable.get(&id.message()) == Some(&place) {
            self.joinable.remove(&id.message());
        }
        true
    }

    /// Where a task is.
    fn index(&self, place: u64) -> Option<usize> {
        self.queue
            .binary_search_by_key(&place, |(place, _)| *place)
            .ok()
    }

    fn forget_joinable(&mut self, task: &Task, place: u64) {
        let message = task.envelopes.first().map(|first| first.id.message());
        if let Some(message) = message
            && self.joinable.get(&message) == Some(&place)
        {
            self.joinable.remove(&message);
        }
    }
}
