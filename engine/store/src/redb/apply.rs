//! The transitions, carried out on the tables of one redb transaction.
//!
//! Promises: a transition that is refused has changed nothing; a message is in the tables whole or
//! not at all; the last envelope takes its message along. A record that fails its proof moves its
//! message to the corrupt bucket, and the transition goes on without it.
//! Absent on purpose: the commit itself.
//! Fails: with `StoreError` when the database does; then the whole transaction is dropped.

use super::database::fault;
use super::prepare::{Parts, Prepared, Settled, Step};
use super::read::{envelope_id, keys, prove_body};
use super::{BODIES, CORRUPT, CORRUPT_ENVELOPES, ENVELOPES, MESSAGES, META};
use crate::epoch;
use crate::mem::retried;
use crate::record::{self, Bucket, Damage, Meta, Row};
use ::redb::{ReadableTable, Table, WriteTransaction};
use redspool_core::id::{EnvelopeId, MessageId, MessageIds};
use redspool_core::queue::{
    Change, CorruptMessage, Paused, Receipt, Refusal, Selector, StoreError,
};
use redspool_core::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

type Rows<'t, K> = Table<'t, K, &'static [u8]>;

/// Envelopes rewritten at a time when many are suspended.
const BATCH: usize = 1024;

/// One transaction's tables.
pub(super) struct Apply<'t> {
    envelopes: Rows<'t, u64>,
    messages: Rows<'t, u32>,
    bodies: Rows<'t, u64>,
    corrupt: Rows<'t, u32>,
    corrupt_envelopes: Rows<'t, u64>,
    meta: Rows<'t, u32>,
    epoch: Option<u16>,
    changed: bool,
}

/// Messages that are about to enter, in key order.
type Entering = BTreeMap<MessageId, Parts>;

/// Envelopes a message has gained or lost in a transition.
type Balance = BTreeMap<MessageId, i64>;

impl<'t> Apply<'t> {
    pub(super) fn new(
        transaction: &'t WriteTransaction,
        epoch: Option<u16>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            envelopes: transaction.open_table(ENVELOPES).map_err(fault)?,
            messages: transaction.open_table(MESSAGES).map_err(fault)?,
            bodies: transaction.open_table(BODIES).map_err(fault)?,
            corrupt: transaction.open_table(CORRUPT).map_err(fault)?,
            corrupt_envelopes: transaction.open_table(CORRUPT_ENVELOPES).map_err(fault)?,
            meta: transaction.open_table(META).map_err(fault)?,
            epoch,
            changed: false,
        })
    }

    /// Whether there is anything to commit.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    /// The last id epoch, with this group's messages.
    pub(super) fn epoch(&self) -> Option<u16> {
        self.epoch
    }

    /// Writes what is kept about the store itself.
    pub(super) fn close(mut self, before: Option<u16>, generation: u64) -> Result<(), StoreError> {
        if let Some(epoch) = self.epoch
            && self.epoch != before
        {
            self.put_meta(Meta::Epoch, epoch.into())?;
        }
        self.put_meta(Meta::Generation, generation)
    }

    pub(super) fn put_meta(&mut self, what: Meta, number: u64) -> Result<(), StoreError> {
        let record = what.seal(number);
        self.meta
            .insert(what.key(), record.as_slice())
            .map_err(fault)?;
        Ok(())
    }

    /// Carries out a group in order. Submissions next to each other are independent, so their
    /// records go in together in key order, which a B-tree takes best.
    pub(super) fn group(&mut self, group: Vec<Prepared>) -> Result<Vec<Receipt>, StoreError> {
        let mut receipts = Vec::with_capacity(group.len());
        let mut entering = Entering::new();
        for prepared in group {
            if let Step::Submit(parts) = prepared.step {
                receipts.push(self.admit(parts, &mut entering)?);
            } else {
                self.enter(std::mem::take(&mut entering))?;
                receipts.push(self.step(prepared.step)?);
            }
        }
        self.enter(entering)?;
        Ok(receipts)
    }

    fn step(&mut self, step: Step) -> Result<Receipt, StoreError> {
        match step {
            Step::Submit(parts) => {
                let mut entering = Entering::new();
                let receipt = self.admit(parts, &mut entering)?;
                self.enter(entering)?;
                Ok(receipt)
            }
            Step::Settle(settlements) => self.settle(settlements),
            Step::Notify { notice, reported } => self.notify(notice, &reported),
            Step::Remove(Selector::Envelope(id)) => self.remove_envelope(id),
            Step::Remove(Selector::Message(id)) => self.remove_message(id),
            Step::Remove(Selector::All) => self.remove_all(),
            Step::Suspend {
                selector,
                suspended,
            } => self.suspend(selector, suspended),
            Step::Pause(paused) => self.pause(paused),
            Step::Corrupt {
                message,
                reason,
                at,
            } => match self.set_aside(message, &reason, at)? {
                Some(envelopes) => Ok(Receipt::Affected(envelopes)),
                None => Ok(Receipt::Refused(Refusal::Unknown)),
            },
            Step::Uncorrupt(message) => self.uncorrupt(message),
        }
    }

    /// Lets a message enter beside those that are about to, unless an id of it is in use.
    fn admit(&self, parts: Parts, entering: &mut Entering) -> Result<Receipt, StoreError> {
        let id = parts.id.get();
        let clash = parts.clash
            || entering.contains_key(&parts.id)
            || self.messages.get(id).map_err(fault)?.is_some()
            || self.corrupt.get(id).map_err(fault)?.is_some();
        if clash {
            return Ok(Receipt::Refused(Refusal::Exists));
        }
        entering.insert(parts.id, parts);
        Ok(Receipt::Done)
    }

    fn enter(&mut self, entering: Entering) -> Result<(), StoreError> {
        self.changed |= !entering.is_empty();
        for parts in entering.into_values() {
            self.epoch = Some(epoch::later(self.epoch, MessageIds::epoch_of(parts.id)));
            self.messages
                .insert(parts.id.get(), parts.row.as_slice())
                .map_err(fault)?;
            for (id, record) in &parts.envelopes {
                self.envelopes
                    .insert(id.get(), record.as_slice())
                    .map_err(fault)?;
            }
            for (index, record) in (0..).zip(&parts.body) {
                self.bodies
                    .insert(record::body_key(parts.id, index), record.as_slice())
                    .map_err(fault)?;
            }
        }
        Ok(())
    }

    fn settle(&mut self, settlements: Vec<Settled>) -> Result<Receipt, StoreError> {
        if self.bounces_clash(&settlements)? {
            return Ok(Receipt::Refused(Refusal::Exists));
        }
        let mut balance = Balance::new();
        let mut dropped = Vec::new();
        for Settled {
            envelope,
            change,
            bounce,
        } in settlements
        {
            let message = envelope.message();
            match change {
                Change::Done => {
                    if !self.take(envelope)? {
                        continue;
                    }
                    *balance.entry(message).or_default() -= 1;
                }
                retry @ Change::Retry { .. } => match self.retry(envelope, retry)? {
                    Some(Ok(())) => {}
                    Some(Err(damage)) => {
                        dropped.extend(self.damaged(message, &damage)?);
                        balance.remove(&message);
                        continue;
                    }
                    None => continue,
                },
            }
            if let Some((id, record)) = bounce {
                self.envelopes
                    .insert(id.get(), record.as_slice())
                    .map_err(fault)?;
                *balance.entry(message).or_default() += 1;
            }
        }
        dropped.extend(self.balance(balance)?);
        Ok(done_but(dropped))
    }

    /// Whether a bounce that would be created has an id in use.
    fn bounces_clash(&self, settlements: &[Settled]) -> Result<bool, StoreError> {
        let mut new = BTreeSet::new();
        for settlement in settlements {
            let Some((bounce, _)) = &settlement.bounce else {
                continue;
            };
            if self.has(settlement.envelope)? && (!new.insert(*bounce) || self.has(*bounce)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has(&self, id: EnvelopeId) -> Result<bool, StoreError> {
        Ok(self.envelopes.get(id.get()).map_err(fault)?.is_some())
    }

    /// Removes an envelope's record; whether there was one.
    fn take(&mut self, id: EnvelopeId) -> Result<bool, StoreError> {
        let taken = self.envelopes.remove(id.get()).map_err(fault)?.is_some();
        self.changed |= taken;
        Ok(taken)
    }

    /// Rewrites an envelope after a temporary failure, if it is still there.
    fn retry(
        &mut self,
        id: EnvelopeId,
        retry: Change,
    ) -> Result<Option<Result<(), Damage>>, StoreError> {
        let Some(guard) = self.envelopes.get(id.get()).map_err(fault)? else {
            return Ok(None);
        };
        let mut envelope = match record::open_envelope(id, guard.value()) {
            Ok(envelope) => envelope,
            Err(damage) => return Ok(Some(Err(damage))),
        };
        drop(guard);
        retried(&mut envelope, retry);
        let record = record::seal_envelope(&envelope);
        self.envelopes
            .insert(id.get(), record.as_slice())
            .map_err(fault)?;
        self.changed = true;
        Ok(Some(Ok(())))
    }

    /// Brings the messages' own counts up to date. A message that comes to none is gone; one whose
    /// count cannot be right is set aside. Gives the envelopes that went with those.
    fn balance(&mut self, balance: Balance) -> Result<Vec<EnvelopeId>, StoreError> {
        let mut dropped = Vec::new();
        for (message, change) in balance {
            if change == 0 {
                continue;
            }
            let row = match self.messages.get(message.get()).map_err(fault)? {
                Some(guard) => Row::open(message, guard.value()),
                None => Err(Damage::new("message record is missing")),
            };
            let counted = row.and_then(|row| {
                let live = i64::from(row.live) + change;
                let live = u32::try_from(live)
                    .map_err(|_| Damage::new("it had more envelopes than its record says"))?;
                Ok(Row { live, ..row })
            });
            match counted {
                Ok(row) if row.live == 0 => self.drop_message(&row)?,
                Ok(row) => {
                    self.messages
                        .insert(message.get(), row.seal().as_slice())
                        .map_err(fault)?;
                }
                Err(damage) => dropped.extend(self.damaged(message, &damage)?),
            }
        }
        Ok(dropped)
    }

    /// Removes the record and content of a message that has no envelopes left.
    fn drop_message(&mut self, row: &Row) -> Result<(), StoreError> {
        let id = row.message.id;
        match row.pieces() {
            Ok(pieces) => {
                for index in 0..pieces {
                    self.bodies
                        .remove(record::body_key(id, index))
                        .map_err(fault)?;
                }
            }
            Err(_) => self.drop_body(id)?,
        }
        self.messages.remove(id.get()).map_err(fault)?;
        Ok(())
    }

    /// Removes the content of a message whose record does not say how large it is.
    fn drop_body(&mut self, id: MessageId) -> Result<(), StoreError> {
        let range = record::body_key(id, 0)..=record::body_key(id, u32::MAX);
        self.bodies.retain_in(range, |_, _| false).map_err(fault)
    }

    fn notify(
        &mut self,
        notice: Option<Parts>,
        reported: &[EnvelopeId],
    ) -> Result<Receipt, StoreError> {
        let mut left = Vec::with_capacity(reported.len());
        for id in reported {
            if self.has(*id)? {
                left.push(*id);
            }
        }
        if left.is_empty() {
            return Ok(Receipt::Done);
        }
        if let Some(parts) = notice {
            let refused @ Receipt::Refused(_) = self.step(Step::Submit(parts))? else {
                return self.leave(&left);
            };
            return Ok(refused);
        }
        self.leave(&left)
    }

    fn leave(&mut self, envelopes: &[EnvelopeId]) -> Result<Receipt, StoreError> {
        let mut balance = Balance::new();
        for id in envelopes {
            if self.take(*id)? {
                *balance.entry(id.message()).or_default() -= 1;
            }
        }
        self.balance(balance).map(done_but)
    }

    fn remove_envelope(&mut self, id: EnvelopeId) -> Result<Receipt, StoreError> {
        if !self.take(id)? {
            return Ok(Receipt::Affected(Vec::new()));
        }
        let mut gone = self.balance(Balance::from([(id.message(), -1)]))?;
        gone.push(id);
        gone.sort_unstable();
        Ok(Receipt::Affected(gone))
    }

    /// Removes a message, queued or corrupt, without looking into its records.
    fn remove_message(&mut self, id: MessageId) -> Result<Receipt, StoreError> {
        let range = keys(Selector::Message(id), None);
        let mut gone = ids(&self.envelopes, range)?;
        self.envelopes
            .retain_in(range, |_, _| false)
            .map_err(fault)?;
        gone.extend(ids(&self.corrupt_envelopes, range)?);
        self.corrupt_envelopes
            .retain_in(range, |_, _| false)
            .map_err(fault)?;
        let queued = self.messages.remove(id.get()).map_err(fault)?.is_some();
        let corrupt = self.corrupt.remove(id.get()).map_err(fault)?.is_some();
        if queued || corrupt || !gone.is_empty() {
            self.changed = true;
            self.drop_body(id)?;
        }
        Ok(Receipt::Affected(gone))
    }

    /// Empties the queue; the corrupt bucket stays.
    fn remove_all(&mut self) -> Result<Receipt, StoreError> {
        let gone = ids(&self.envelopes, keys(Selector::All, None))?;
        let mut messages = Vec::new();
        for entry in self.messages.iter().map_err(fault)? {
            let (key, _) = entry.map_err(fault)?;
            messages.extend(MessageId::new(key.value()));
        }
        self.changed |= !gone.is_empty() || !messages.is_empty();
        self.envelopes.retain(|_, _| false).map_err(fault)?;
        self.messages.retain(|_, _| false).map_err(fault)?;
        for id in messages {
            self.drop_body(id)?;
        }
        Ok(Receipt::Affected(gone))
    }

    fn suspend(&mut self, selector: Selector, suspended: bool) -> Result<Receipt, StoreError> {
        let mut affected = Vec::new();
        let mut damaged = BTreeMap::new();
        let mut after = None;
        loop {
            let mut changed = Vec::new();
            let mut seen = 0;
            if after.is_none_or(|after| after < *selector.range().end()) {
                let range = self.envelopes.range(keys(selector, after)).map_err(fault)?;
                for entry in range.take(BATCH) {
                    let (key, value) = entry.map_err(fault)?;
                    let id = envelope_id(key.value())?;
                    (seen, after) = (seen + 1, Some(id));
                    match record::open_envelope(id, value.value()) {
                        Ok(mut envelope) if envelope.flags.suspended != suspended => {
                            envelope.flags.suspended = suspended;
                            changed.push((id, record::seal_envelope(&envelope)));
                        }
                        Ok(_) => {}
                        Err(damage) => {
                            damaged.entry(id.message()).or_insert(damage);
                        }
                    }
                }
            }
            for (id, record) in changed {
                self.envelopes
                    .insert(id.get(), record.as_slice())
                    .map_err(fault)?;
                self.changed = true;
                affected.push(id);
            }
            if seen < BATCH {
                break;
            }
        }
        for (message, damage) in damaged {
            affected.extend(self.damaged(message, &damage)?);
        }
        affected.sort_unstable();
        affected.dedup();
        Ok(Receipt::Affected(affected))
    }

    fn pause(&mut self, paused: Paused) -> Result<Receipt, StoreError> {
        self.put_meta(Meta::Paused, record::paused_bits(paused))?;
        self.changed = true;
        Ok(Receipt::Done)
    }

    /// Sets a message aside that turned out damaged while it was worked on.
    fn damaged(
        &mut self,
        message: MessageId,
        damage: &Damage,
    ) -> Result<Vec<EnvelopeId>, StoreError> {
        // The one date that no caller can give.
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let at = Timestamp::from_secs(now.as_secs());
        Ok(self.set_aside(message, &damage.0, at)?.unwrap_or_default())
    }

    /// Moves a message to the corrupt bucket, its records as they are. Its content stays where it
    /// is. `None` if there is no such message.
    fn set_aside(
        &mut self,
        message: MessageId,
        reason: &str,
        at: Timestamp,
    ) -> Result<Option<Vec<EnvelopeId>>, StoreError> {
        let row = self.messages.remove(message.get()).map_err(fault)?;
        let row = row.map(|guard| guard.value().to_vec());
        let range = keys(Selector::Message(message), None);
        let envelopes = raw(&self.envelopes, range)?;
        if row.is_none() && envelopes.is_empty() {
            return Ok(None);
        }
        self.changed = true;
        self.envelopes
            .retain_in(range, |_, _| false)
            .map_err(fault)?;
        for (id, record) in &envelopes {
            self.corrupt_envelopes
                .insert(id.get(), record.as_slice())
                .map_err(fault)?;
        }
        let bucket = Bucket {
            entry: CorruptMessage {
                message,
                reason: reason.into(),
                at,
                envelopes: u32::try_from(envelopes.len()).unwrap_or(u32::MAX),
            },
            row: row.unwrap_or_default(),
        };
        self.corrupt
            .insert(message.get(), bucket.seal().as_slice())
            .map_err(fault)?;
        Ok(Some(envelopes.into_iter().map(|(id, _)| id).collect()))
    }

    fn uncorrupt(&mut self, message: MessageId) -> Result<Receipt, StoreError> {
        let refused = |why| Ok(Receipt::Refused(why));
        let bucket = match self.corrupt.get(message.get()).map_err(fault)? {
            Some(guard) => Bucket::open(message, guard.value()),
            None => return refused(Refusal::Unknown),
        };
        let row = bucket.and_then(|bucket| Ok((Row::open(message, &bucket.row)?, bucket.row)));
        let Ok((row, raw_row)) = row else {
            return refused(Refusal::StillCorrupt);
        };
        let range = keys(Selector::Message(message), None);
        let envelopes = raw(&self.corrupt_envelopes, range)?;
        let sound = envelopes.len() as u64 == u64::from(row.live)
            && envelopes
                .iter()
                .all(|(id, raw)| record::open_envelope(*id, raw).is_ok())
            && prove_body(&self.bodies, &row)?.is_ok();
        if !sound || envelopes.is_empty() {
            return refused(Refusal::StillCorrupt);
        }
        self.changed = true;
        self.corrupt.remove(message.get()).map_err(fault)?;
        self.corrupt_envelopes
            .retain_in(range, |_, _| false)
            .map_err(fault)?;
        self.messages
            .insert(message.get(), raw_row.as_slice())
            .map_err(fault)?;
        for (id, record) in &envelopes {
            self.envelopes
                .insert(id.get(), record.as_slice())
                .map_err(fault)?;
        }
        Ok(Receipt::Done)
    }
}

type Keys = (std::ops::Bound<u64>, std::ops::Bound<u64>);

fn ids(table: &Rows<'_, u64>, range: Keys) -> Result<Vec<EnvelopeId>, StoreError> {
    let range = table.range(range).map_err(fault)?;
    range
        .map(|entry| envelope_id(entry.map_err(fault)?.0.value()))
        .collect()
}

fn raw(table: &Rows<'_, u64>, range: Keys) -> Result<Vec<(EnvelopeId, Vec<u8>)>, StoreError> {
    let range = table.range(range).map_err(fault)?;
    let entry = |entry: Result<_, _>| {
        let (key, value): (::redb::AccessGuard<u64>, ::redb::AccessGuard<&[u8]>) =
            entry.map_err(fault)?;
        Ok((envelope_id(key.value())?, value.value().to_vec()))
    };
    range.map(entry).collect()
}

/// The receipt of a settlement or notice that met damaged messages.
fn done_but(mut dropped: Vec<EnvelopeId>) -> Receipt {
    if dropped.is_empty() {
        return Receipt::Done;
    }
    dropped.sort_unstable();
    Receipt::Affected(dropped)
}
