//! The executable specification: what the transitions mean, on plain maps.
//!
//! Promises: the meaning of every transition in the fewest words; other stores are compared with
//! it. Nothing in it is ever damaged, so `Corrupt` and `Uncorrupt` just move messages.
//! Absent on purpose: durability.
//! Fails: never, but for an error of a content's own pieces.

use crate::record::CHUNK;
use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, Epoch, MessageId};
use redspool_core::queue::{
    Blocks, Body, Change, CorruptMessage, Discarded, Message, Paused, Prepare, Reader, Receipt,
    Refusal, Scheduled, Selector, Settlement, Span, Store, StoreError, Submission, Transition,
    TrashState, Walked,
};
use redspool_core::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemStore {
    state: Arc<RwLock<Maps>>,
}

/// The reading side of a [`MemStore`].
#[derive(Clone, Debug)]
pub struct MemReader {
    state: Arc<RwLock<Maps>>,
}

#[derive(Clone, Debug, Default)]
struct Maps {
    envelopes: BTreeMap<EnvelopeId, Envelope>,
    trash: BTreeMap<EnvelopeId, Discarded>,
    messages: BTreeMap<MessageId, (Message, Bytes)>,
    corrupt: BTreeMap<MessageId, Corrupt>,
    paused: Paused,
    blocks: Blocks,
    epoch: Option<Epoch>,
}

#[derive(Clone, Debug)]
struct Corrupt {
    reason: Box<str>,
    at: Timestamp,
    message: (Message, Bytes),
    envelopes: Vec<Envelope>,
    trash: Vec<Discarded>,
}

impl Corrupt {
    fn ids(&self) -> Vec<EnvelopeId> {
        let queued = self.envelopes.iter().map(|envelope| envelope.id);
        let trash = self.trash.iter().map(|discarded| discarded.envelope.id);
        let mut ids: Vec<_> = queued.chain(trash).collect();
        ids.sort_unstable();
        ids
    }
}

impl MemStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Clone for MemStore {
    /// A copy of its own, which does not follow the original.
    fn clone(&self) -> Self {
        let maps = self.state.read().clone();
        Self {
            state: Arc::new(RwLock::new(maps)),
        }
    }
}

/// Gathers contents that come in pieces.
#[derive(Clone, Copy, Debug)]
pub struct MemPreparer;

impl Prepare for MemPreparer {
    type Prepared = Transition;

    fn prepare(&self, transition: Transition) -> Result<Transition, StoreError> {
        Ok(match transition {
            Transition::Submit(submission) => Transition::Submit(gathered(submission)?),
            Transition::Notify { notice, reported } => Transition::Notify {
                notice: notice.map(gathered).transpose()?,
                reported,
            },
            other => other,
        })
    }
}

impl Store for MemStore {
    type Reader = MemReader;
    type Prepared = Transition;
    type Preparer = MemPreparer;

    fn preparer(&self) -> MemPreparer {
        MemPreparer
    }

    fn weight(prepared: &Transition) -> usize {
        match prepared {
            Transition::Submit(Submission {
                body: Body::Whole(body),
                ..
            }) => body.len(),
            _ => 0,
        }
    }

    fn commit(&mut self, group: Vec<Transition>) -> Result<Vec<Receipt>, StoreError> {
        let mut maps = self.state.write();
        let receipts = group.into_iter().map(|step| maps.apply(step));
        Ok(receipts.collect())
    }

    fn reader(&self) -> MemReader {
        MemReader {
            state: Arc::clone(&self.state),
        }
    }
}

/// Reads all pieces of a content and counts it.
fn gathered(mut submission: Submission) -> Result<Submission, StoreError> {
    let body = match submission.body {
        Body::Whole(body) => body,
        Body::Pieces(mut pieces) => {
            let mut body = BytesMut::new();
            while let Some(piece) = pieces.next()? {
                body.extend_from_slice(&piece);
            }
            body.freeze()
        }
    };
    submission.message.size = body.len() as u64;
    submission.body = Body::Whole(body);
    Ok(submission)
}

impl Maps {
    fn apply(&mut self, transition: Transition) -> Receipt {
        match transition {
            Transition::Submit(submission) => self.submit(submission),
            Transition::Settle(settlements) => self.settle(settlements),
            Transition::Notify { notice, reported } => self.notify(notice, &reported),
            Transition::Remove(selector) => self.remove(selector),
            Transition::Suspend {
                selector,
                suspended,
            } => self.suspend(selector, suspended),
            Transition::Pause(paused) => {
                self.paused = paused;
                Receipt::Done
            }
            Transition::Block {
                source,
                domain,
                blocked,
            } => {
                if blocked {
                    self.blocks.insert((source, domain));
                } else {
                    self.blocks.remove(&(source, domain));
                }
                Receipt::Done
            }
            Transition::Corrupt {
                message,
                reason,
                at,
            } => self.corrupt(message, reason, at),
            Transition::Uncorrupt(message) => self.uncorrupt(message),
            Transition::Discard { span, at } => self.discard(span, at),
            Transition::Restore { span, at } => self.restore(span, at),
            Transition::Purge { span, until } => self.purge(span, until),
        }
    }

    fn submit(&mut self, submission: Submission) -> Receipt {
        let Submission {
            message,
            body,
            mut envelopes,
        } = submission;
        let Body::Whole(body) = body else {
            unreachable!("a prepared body is whole");
        };
        envelopes.sort_by_key(|envelope| envelope.id);
        let twice = envelopes.windows(2).any(|pair| pair[0].id == pair[1].id);
        if twice || self.exists(message.id) {
            return Receipt::Refused(Refusal::Exists);
        }
        self.epoch = Some(Epoch::later(self.epoch, Epoch::of(message.id)));
        self.messages.insert(message.id, (message, body));
        self.envelopes.extend(
            envelopes
                .into_iter()
                .map(|envelope| (envelope.id, envelope)),
        );
        Receipt::Done
    }

    fn settle(&mut self, settlements: Vec<Settlement>) -> Receipt {
        let mut bounces: Vec<_> = settlements
            .iter()
            .filter(|settlement| self.envelopes.contains_key(&settlement.envelope))
            .filter_map(|settlement| settlement.bounce.as_ref().map(|bounce| bounce.id))
            .collect();
        bounces.sort_unstable();
        let twice = bounces.windows(2).any(|pair| pair[0] == pair[1]);
        let taken =
            |id: &EnvelopeId| self.envelopes.contains_key(id) || self.trash.contains_key(id);
        if twice || bounces.iter().any(taken) {
            return Receipt::Refused(Refusal::Exists);
        }
        let messages = messages_of(settlements.iter().map(|settlement| settlement.envelope));
        for settlement in settlements {
            let Some(envelope) = self.envelopes.get_mut(&settlement.envelope) else {
                if let Change::Done = settlement.change {
                    self.trash.remove(&settlement.envelope);
                }
                continue;
            };
            match settlement.change {
                Change::Done => {
                    self.envelopes.remove(&settlement.envelope);
                }
                retry @ Change::Retry { .. } => retried(envelope, retry),
            }
            if let Some(bounce) = settlement.bounce {
                self.envelopes.insert(bounce.id, *bounce);
            }
        }
        self.drop_finished(&messages);
        Receipt::Done
    }

    fn notify(&mut self, notice: Option<Submission>, reported: &[EnvelopeId]) -> Receipt {
        // Only what was there before: the notice's own envelopes stay, whatever is reported.
        let queued = |id: &&EnvelopeId| self.envelopes.contains_key(*id);
        let left: Vec<_> = reported.iter().filter(queued).copied().collect();
        if left.is_empty() {
            return Receipt::Done;
        }
        if let Some(notice) = notice
            && let refused @ Receipt::Refused(_) = self.submit(notice)
        {
            return refused;
        }
        for id in &left {
            self.envelopes.remove(id);
        }
        self.drop_finished(&messages_of(left.into_iter()));
        Receipt::Done
    }

    fn remove(&mut self, selector: Selector) -> Receipt {
        let mut gone: Vec<_> = self.selected(selector).collect();
        if selector != Selector::All {
            gone.extend(self.trash.range(selector.range()).map(|(id, _)| *id));
        }
        for id in &gone {
            self.envelopes.remove(id);
            self.trash.remove(id);
        }
        self.drop_finished(&messages_of(gone.iter().copied()));
        if let Selector::Message(message) = selector
            && let Some(corrupt) = self.corrupt.remove(&message)
        {
            gone.extend(corrupt.ids());
        }
        gone.sort_unstable();
        Receipt::Affected(gone)
    }

    fn discard(&mut self, span: Span, at: Timestamp) -> Receipt {
        if let Selector::Message(message) = span.selector
            && self.corrupt.contains_key(&message)
        {
            return self.remove(span.selector);
        }
        let ids = span.range().into_iter().flat_map(|range| {
            let queued = self.envelopes.range(range);
            queued.map(|(id, _)| *id).take(span.most)
        });
        let ids: Vec<_> = ids.collect();
        for id in &ids {
            if let Some(envelope) = self.envelopes.remove(id) {
                self.trash.insert(*id, Discarded { envelope, at });
            }
        }
        Receipt::Affected(ids)
    }

    fn restore(&mut self, span: Span, at: Option<Timestamp>) -> Receipt {
        let ids = self.swept(span, |when| at.is_none_or(|at| when == at));
        for id in &ids {
            if let Some(Discarded { envelope, .. }) = self.trash.remove(id) {
                self.envelopes.insert(*id, envelope);
            }
        }
        Receipt::Affected(ids)
    }

    fn purge(&mut self, span: Span, until: Timestamp) -> Receipt {
        let ids = self.swept(span, |when| when <= until);
        for id in &ids {
            self.trash.remove(id);
        }
        self.drop_finished(&messages_of(ids.iter().copied()));
        Receipt::Affected(ids)
    }

    /// The envelopes of the trash in a span that were discarded at a fitting time.
    fn swept(&self, span: Span, fits: impl Fn(Timestamp) -> bool) -> Vec<EnvelopeId> {
        let Some(range) = span.range() else {
            return Vec::new();
        };
        let found = self.trash.range(range);
        let found = found.filter(|(_, discarded)| fits(discarded.at));
        found.map(|(id, _)| *id).take(span.most).collect()
    }

    fn suspend(&mut self, selector: Selector, suspended: bool) -> Receipt {
        let mut changed: Vec<_> = self.selected(selector).collect();
        changed.retain(|id| {
            self.envelopes.get_mut(id).is_some_and(|envelope| {
                std::mem::replace(&mut envelope.flags.suspended, suspended) != suspended
            })
        });
        Receipt::Affected(changed)
    }

    fn corrupt(&mut self, id: MessageId, reason: Box<str>, at: Timestamp) -> Receipt {
        let Some(message) = self.messages.remove(&id) else {
            return Receipt::Refused(Refusal::Unknown);
        };
        let ids: Vec<_> = self.selected(Selector::Message(id)).collect();
        let envelopes = ids.iter().filter_map(|id| self.envelopes.remove(id));
        let envelopes = envelopes.collect();
        let discarded = self.trash.extract_if(id.envelopes(), |_, _| true);
        let trash = discarded.map(|(_, discarded)| discarded).collect();
        let corrupt = Corrupt {
            reason,
            at,
            message,
            envelopes,
            trash,
        };
        let ids = corrupt.ids();
        self.corrupt.insert(id, corrupt);
        Receipt::Affected(ids)
    }

    fn uncorrupt(&mut self, id: MessageId) -> Receipt {
        let Some(corrupt) = self.corrupt.remove(&id) else {
            return Receipt::Refused(Refusal::Unknown);
        };
        self.messages.insert(id, corrupt.message);
        let envelopes = corrupt.envelopes.into_iter();
        self.envelopes
            .extend(envelopes.map(|envelope| (envelope.id, envelope)));
        let trash = corrupt.trash.into_iter();
        self.trash
            .extend(trash.map(|discarded| (discarded.envelope.id, discarded)));
        Receipt::Done
    }

    fn exists(&self, message: MessageId) -> bool {
        self.messages.contains_key(&message) || self.corrupt.contains_key(&message)
    }

    fn selected(&self, selector: Selector) -> impl Iterator<Item = EnvelopeId> {
        self.envelopes.range(selector.range()).map(|(id, _)| *id)
    }

    /// A message without envelopes is gone.
    fn drop_finished(&mut self, messages: &BTreeSet<MessageId>) {
        for id in messages {
            let queued = self.envelopes.range(id.envelopes()).next().is_some();
            if !queued && self.trash.range(id.envelopes()).next().is_none() {
                self.messages.remove(id);
            }
        }
    }
}

fn messages_of(envelopes: impl Iterator<Item = EnvelopeId>) -> BTreeSet<MessageId> {
    envelopes.map(EnvelopeId::message).collect()
}

/// What a temporary failure leaves in an envelope.
pub(crate) fn retried(envelope: &mut Envelope, change: Change) {
    let Change::Retry {
        retry,
        last_try,
        status,
        errorline,
        via,
        warned,
    } = change
    else {
        return;
    };
    if retry > envelope.retry {
        let before = (envelope.last_try, &*envelope.errorline);
        envelope.attempts.add(via.as_deref(), &errorline, before);
        envelope.retry = retry;
        envelope.last_try = last_try;
        envelope.status = status;
        envelope.errorline = errorline;
    }
    if let Some(warned) = warned {
        envelope.last_bounce = warned;
    }
}

impl Reader for MemReader {
    fn exists(&self, message: MessageId) -> Result<bool, StoreError> {
        Ok(self.state.read().exists(message))
    }

    fn envelope(&self, id: EnvelopeId) -> Result<Option<Envelope>, StoreError> {
        Ok(self.state.read().envelopes.get(&id).cloned())
    }

    fn message(&self, id: MessageId) -> Result<Option<Message>, StoreError> {
        Ok(self.state.read().messages.get(&id).map(|row| row.0))
    }

    fn body(&self, id: MessageId, index: u32) -> Result<Option<Bytes>, StoreError> {
        let state = self.state.read();
        let Some((_, body)) = state.messages.get(&id) else {
            return Ok(None);
        };
        let piece = usize::try_from(index)
            .ok()
            .and_then(|index| body.chunks(CHUNK).nth(index));
        Ok(piece.map(|piece| body.slice_ref(piece)))
    }

    fn page(
        &self,
        selector: Selector,
        after: Option<EnvelopeId>,
        limit: usize,
    ) -> Result<Vec<Walked<Envelope>>, StoreError> {
        let state = self.state.read();
        let (start, end) = selector.range().into_inner();
        if after.is_some_and(|after| after >= end) {
            return Ok(Vec::new());
        }
        let start = match after {
            Some(after) if after >= start => Bound::Excluded(after),
            _ => Bound::Included(start),
        };
        let envelopes = state.envelopes.range((start, Bound::Included(end)));
        Ok(envelopes
            .map(|(_, envelope)| Ok(envelope.clone()))
            .take(limit)
            .collect())
    }

    fn walk(&self, visit: &mut dyn FnMut(Walked<Scheduled>)) -> Result<(), StoreError> {
        let envelopes: Vec<Scheduled> = {
            let state = self.state.read();
            state.envelopes.values().map(Scheduled::from).collect()
        };
        for envelope in envelopes {
            visit(Ok(envelope));
        }
        Ok(())
    }

    fn live(&self, epoch: Epoch) -> Result<Vec<MessageId>, StoreError> {
        let state = self.state.read();
        let ids = state.messages.keys().chain(state.corrupt.keys()).copied();
        let mut live: Vec<_> = ids.filter(|id| Epoch::of(*id) == epoch).collect();
        live.sort_unstable();
        Ok(live)
    }

    fn epoch(&self) -> Result<Option<Epoch>, StoreError> {
        Ok(self.state.read().epoch)
    }

    fn paused(&self) -> Result<Paused, StoreError> {
        Ok(self.state.read().paused)
    }

    fn blocks(&self) -> Result<Blocks, StoreError> {
        Ok(self.state.read().blocks.clone())
    }

    fn corrupt(&self) -> Result<Vec<CorruptMessage>, StoreError> {
        let state = self.state.read();
        let entry = |(id, corrupt): (&MessageId, &Corrupt)| CorruptMessage {
            message: *id,
            reason: corrupt.reason.clone(),
            at: corrupt.at,
            envelopes: corrupt.ids().len().try_into().unwrap_or(u32::MAX),
        };
        Ok(state.corrupt.iter().map(entry).collect())
    }

    fn discarded(
        &self,
        selector: Selector,
        after: Option<EnvelopeId>,
        limit: usize,
    ) -> Result<Vec<Walked<Discarded>>, StoreError> {
        let span = Span {
            selector,
            after,
            most: limit,
        };
        let Some(range) = span.range() else {
            return Ok(Vec::new());
        };
        let state = self.state.read();
        let discarded = state.trash.range(range).take(limit);
        Ok(discarded.map(|(_, one)| Ok(one.clone())).collect())
    }

    fn trash(&self) -> Result<TrashState, StoreError> {
        let state = self.state.read();
        let messages = messages_of(state.trash.keys().copied());
        let alone = messages
            .iter()
            .filter(|id| state.envelopes.range(id.envelopes()).next().is_none());
        let sizes = alone.filter_map(|id| state.messages.get(id));
        let times = || state.trash.values().map(|discarded| discarded.at);
        Ok(TrashState {
            envelopes: state.trash.len() as u64,
            octets: sizes.map(|(message, _)| message.size).sum(),
            oldest: times().min(),
            latest: times().max(),
        })
    }
}
