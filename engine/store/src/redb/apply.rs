//! The transitions, carried out on the tables of one redb transaction.
//!
//! Promises: a transition that is refused has changed nothing; a message is in the tables whole or
//! not at all; the last envelope takes its message along. A record that fails its proof moves its
//! message to the corrupt bucket, and the transition goes on without it.
//! Absent on purpose: the commit itself.
//! Fails: with `StoreError` when the database does; then the whole transaction is dropped.

use super::database::fault;
use super::prepare::{Parts, Prepared, Settled, Step};
use super::read::{Key, all_of, keys, prove_body};
use super::{BLOCKS, BODIES, CORRUPT, CORRUPT_QUEUE, META, QUEUE, TRASH};
use crate::blocks::{self, Block};
use crate::mem::retried;
use crate::record::{self, Damage, Kind, Meta, Row};
use ::redb::{ReadableTable, Table, WriteTransaction};
use redspool_core::id::{EnvelopeId, Epoch, MessageId};
use redspool_core::queue::{
    Change, CorruptMessage, Paused, Receipt, Refusal, Selector, StoreError,
};
use redspool_core::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeInclusive};
use std::time::SystemTime;

pub(super) type Rows<'t, K> = Table<'t, K, &'static [u8]>;

/// Envelopes rewritten at a time when many are suspended.
const BATCH: usize = 1024;

/// One transaction's tables.
pub(super) struct Apply<'t> {
    pub(super) queue: Rows<'t, u64>,
    pub(super) trash: Rows<'t, u64>,
    bodies: Rows<'t, u64>,
    pub(super) corrupt: Rows<'t, u32>,
    corrupt_queue: Rows<'t, u64>,
    meta: Rows<'t, u32>,
    /// Where the next content goes: behind the last one.
    place: Option<u64>,
    epoch: Option<Epoch>,
    pub(super) changed: bool,
}

/// Messages that are about to enter, in key order.
type Entering = BTreeMap<MessageId, Parts>;

/// Envelopes a message has gained or lost in a transition.
pub(super) type Balance = BTreeMap<MessageId, i64>;

impl<'t> Apply<'t> {
    pub(super) fn new(
        transaction: &'t WriteTransaction,
        epoch: Option<Epoch>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            queue: transaction.open_table(QUEUE).map_err(fault)?,
            trash: transaction.open_table(TRASH).map_err(fault)?,
            bodies: transaction.open_table(BODIES).map_err(fault)?,
            corrupt: transaction.open_table(CORRUPT).map_err(fault)?,
            corrupt_queue: transaction.open_table(CORRUPT_QUEUE).map_err(fault)?,
            meta: transaction.open_table(META).map_err(fault)?,
            place: None,
            epoch,
            changed: false,
        })
    }

    /// Whether there is anything to commit.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    /// The last id epoch, with this group's messages.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Writes what is kept about the store itself.
    pub(super) fn close(
        mut self,
        before: Option<Epoch>,
        generation: u64,
    ) -> Result<(), StoreError> {
        if let Some(epoch) = self.epoch
            && self.epoch != before
        {
            self.put_meta(Meta::Epoch, epoch.number().into())?;
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
            Step::Block(block) => self.block(block),
            Step::Corrupt {
                message,
                reason,
                at,
            } => match self.set_aside(message, &reason, at)? {
                Some(envelopes) => Ok(Receipt::Affected(envelopes)),
                None => Ok(Receipt::Refused(Refusal::Unknown)),
            },
            Step::Uncorrupt(message) => self.uncorrupt(message),
            Step::Discard { span, at } => self.discard(span, at),
            Step::Restore { span, at } => self.restore(span, at),
            Step::Purge { span, until } => self.purge(span, until),
        }
    }

    /// Lets a message enter beside those that are about to, unless an id of it is in use.
    fn admit(&self, parts: Parts, entering: &mut Entering) -> Result<Receipt, StoreError> {
        let id = parts.id;
        let clash = parts.clash
            || entering.contains_key(&id)
            || self.has(record::row_key(id))?
            || self.corrupt.get(id.get()).map_err(fault)?.is_some();
        if clash {
            return Ok(Receipt::Refused(Refusal::Exists));
        }
        entering.insert(parts.id, parts);
        Ok(Receipt::Done)
    }

    fn enter(&mut self, entering: Entering) -> Result<(), StoreError> {
        if entering.is_empty() {
            return Ok(());
        }
        self.changed = true;
        let mut place = self.next_place()?;
        let mut end = self
            .bodies
            .upper_bound_mut(Bound::<u64>::Unbounded)
            .map_err(fault)?;
        for parts in entering.into_values() {
            self.epoch = Some(Epoch::later(self.epoch, Epoch::of(parts.id)));
            let first = place;
            for record in &parts.body {
                end.insert_before(place, record.as_slice()).map_err(fault)?;
                place += 1;
            }
            let row = Row { first, ..parts.row };
            self.queue
                .insert(record::row_key(parts.id), row.seal().as_slice())
                .map_err(fault)?;
            for (id, record) in &parts.envelopes {
                self.queue
                    .insert(id.get(), record.as_slice())
                    .map_err(fault)?;
            }
        }
        end.close().map_err(fault)?;
        self.place = Some(place);
        Ok(())
    }

    fn next_place(&mut self) -> Result<u64, StoreError> {
        if let Some(place) = self.place {
            return Ok(place);
        }
        let last = self.bodies.last().map_err(fault)?;
        let Some((place, _)) = last else {
            return Ok(0);
        };
        let next = place.value().checked_add(1);
        next.ok_or_else(|| StoreError::Unreadable("there is no place behind the last".into()))
    }

    pub(super) fn put(&mut self, key: u64, record: &[u8]) -> Result<(), StoreError> {
        self.queue.insert(key, record).map_err(fault)?;
        self.changed = true;
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
                        let left = i64::from(self.take_trashed(envelope)?);
                        *balance.entry(message).or_default() -= left;
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
                // A settlement of this batch may have made the same one before.
                if !self.has(id.get())? {
                    *balance.entry(message).or_default() += 1;
                }
                self.put(id.get(), &record)?;
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
            if self.has(settlement.envelope.get())?
                && (!new.insert(*bounce) || self.has(bounce.get())? || self.in_trash(*bounce)?)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has(&self, key: u64) -> Result<bool, StoreError> {
        Ok(self.queue.get(key).map_err(fault)?.is_some())
    }

    /// Removes an envelope's record; whether there was one.
    pub(super) fn take(&mut self, id: EnvelopeId) -> Result<bool, StoreError> {
        let taken = self.queue.remove(id.get()).map_err(fault)?.is_some();
        self.changed |= taken;
        Ok(taken)
    }

    /// Rewrites an envelope after a temporary failure, if it is still there.
    fn retry(
        &mut self,
        id: EnvelopeId,
        retry: Change,
    ) -> Result<Option<Result<(), Damage>>, StoreError> {
        let Some(guard) = self.queue.get(id.get()).map_err(fault)? else {
            return Ok(None);
        };
        let mut envelope = match record::open_envelope(id, guard.value()) {
            Ok(envelope) => envelope,
            Err(damage) => return Ok(Some(Err(damage))),
        };
        drop(guard);
        retried(&mut envelope, retry);
        self.put(id.get(), &record::seal_envelope(&envelope))?;
        Ok(Some(Ok(())))
    }

    /// Brings the messages' own counts up to date. A message that comes to none is gone; one whose
    /// count cannot be right is set aside. Gives the envelopes that went with those.
    pub(super) fn balance(&mut self, balance: Balance) -> Result<Vec<EnvelopeId>, StoreError> {
        let mut dropped = Vec::new();
        for (message, change) in balance {
            if change == 0 {
                continue;
            }
            let row = match self.queue.get(record::row_key(message)).map_err(fault)? {
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
                Ok(row) => self.put(record::row_key(message), &row.seal())?,
                Err(damage) => dropped.extend(self.damaged(message, &damage)?),
            }
        }
        Ok(dropped)
    }

    /// Removes the record and content of a message that has no envelopes left.
    fn drop_message(&mut self, row: &Row) -> Result<(), StoreError> {
        let key = record::row_key(row.message.id);
        self.queue.remove(key).map_err(fault)?;
        self.drop_content(row.message.id, Some(row))
    }

    /// Removes the content of a message. If its record does not say where it is, all contents are
    /// looked through; that is slow and rare.
    fn drop_content(&mut self, id: MessageId, row: Option<&Row>) -> Result<(), StoreError> {
        let Some(Ok(places)) = row.map(Row::places) else {
            let other = |_, record: &[u8]| !record::names(record, id);
            return self.bodies.retain(other).map_err(fault);
        };
        for place in places {
            self.bodies.remove(place).map_err(fault)?;
        }
        Ok(())
    }

    fn notify(
        &mut self,
        notice: Option<Parts>,
        reported: &[EnvelopeId],
    ) -> Result<Receipt, StoreError> {
        let mut left = Vec::with_capacity(reported.len());
        for id in reported {
            if self.has(id.get())? {
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
        if !self.take(id)? && !self.take_trashed(id)? {
            return Ok(Receipt::Affected(Vec::new()));
        }
        let mut gone = self.balance(Balance::from([(id.message(), -1)]))?;
        gone.push(id);
        gone.sort_unstable();
        Ok(Receipt::Affected(gone))
    }

    /// Removes a message, queued or corrupt, without looking into its envelopes.
    pub(super) fn remove_message(&mut self, id: MessageId) -> Result<Receipt, StoreError> {
        let mut records = raw(&self.queue, all_of(id))?;
        records.extend(raw(&self.trash, all_of(id))?);
        records.extend(raw(&self.corrupt_queue, all_of(id))?);
        let corrupt = self.corrupt.remove(id.get()).map_err(fault)?.is_some();
        if records.is_empty() && !corrupt {
            return Ok(Receipt::Affected(Vec::new()));
        }
        self.changed = true;
        for table in [&mut self.queue, &mut self.corrupt_queue, &mut self.trash] {
            table.retain_in(all_of(id), |_, _| false).map_err(fault)?;
        }
        let row = row_among(id, &records);
        self.drop_content(id, row.ok().as_ref())?;
        Ok(Receipt::Affected(envelopes_among(&records)))
    }

    /// Empties the queue; the corrupt bucket stays.
    fn remove_all(&mut self) -> Result<Receipt, StoreError> {
        let mut gone = Vec::new();
        let mut contents = Vec::new();
        for entry in self.queue.iter().map_err(fault)? {
            let (key, value) = entry.map_err(fault)?;
            match Key::of(key.value())? {
                Key::Envelope(id) => gone.push(id),
                Key::Message(id) => contents.push((id, Row::open(id, value.value()).ok())),
            }
        }
        self.changed |= !gone.is_empty() || !contents.is_empty();
        self.queue.retain(|_, _| false).map_err(fault)?;
        for (id, row) in contents {
            let live = u32::try_from(raw(&self.trash, all_of(id))?.len()).unwrap_or(u32::MAX);
            match row {
                // What is in the trash keeps its message.
                Some(row) if live > 0 => {
                    self.put(record::row_key(id), &Row { live, ..row }.seal())?;
                }
                row => self.drop_content(id, row.as_ref())?,
            }
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
                let range = self.queue.range(keys(selector, after)).map_err(fault)?;
                for entry in range {
                    if seen == BATCH {
                        break;
                    }
                    let (key, value) = entry.map_err(fault)?;
                    let Key::Envelope(id) = Key::of(key.value())? else {
                        continue;
                    };
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
                self.put(id.get(), &record)?;
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

    fn block(&mut self, block: Block) -> Result<Receipt, StoreError> {
        let row = self.meta.get(BLOCKS).map_err(fault)?;
        let blocks = row.map(|row| blocks::open(row.value())).transpose();
        let mut blocks = blocks
            .map_err(|damage| StoreError::Unreadable(damage.0))?
            .unwrap_or_default();
        block.apply(&mut blocks);
        let record = blocks::seal(&blocks);
        self.meta.insert(BLOCKS, record.as_slice()).map_err(fault)?;
        self.changed = true;
        Ok(Receipt::Done)
    }

    /// Sets a message aside that turned out damaged while it was worked on.
    pub(super) fn damaged(
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
        let mut records = raw(&self.queue, all_of(message))?;
        if records.is_empty() {
            return Ok(None);
        }
        records.extend(raw(&self.trash, all_of(message))?);
        self.changed = true;
        for table in [&mut self.queue, &mut self.trash] {
            let range = all_of(message);
            table.retain_in(range, |_, _| false).map_err(fault)?;
        }
        for (key, record) in &records {
            self.corrupt_queue
                .insert(*key, record.as_slice())
                .map_err(fault)?;
        }
        let envelopes = envelopes_among(&records);
        let entry = CorruptMessage {
            message,
            reason: reason.into(),
            at,
            envelopes: u32::try_from(envelopes.len()).unwrap_or(u32::MAX),
        };
        self.corrupt
            .insert(message.get(), record::seal_corrupt(&entry).as_slice())
            .map_err(fault)?;
        Ok(Some(envelopes))
    }

    fn uncorrupt(&mut self, message: MessageId) -> Result<Receipt, StoreError> {
        if self.corrupt.get(message.get()).map_err(fault)?.is_none() {
            return Ok(Receipt::Refused(Refusal::Unknown));
        }
        let records = raw(&self.corrupt_queue, all_of(message))?;
        if let Err(Damage(reason)) = self.sound(message, &records)? {
            let reason = reason.into();
            return Ok(Receipt::Refused(Refusal::StillCorrupt { reason }));
        }
        self.corrupt.remove(message.get()).map_err(fault)?;
        self.corrupt_queue
            .retain_in(all_of(message), |_, _| false)
            .map_err(fault)?;
        self.changed = true;
        for (key, record) in &records {
            let table = if record::claims(record, Kind::Discarded) {
                &mut self.trash
            } else {
                &mut self.queue
            };
            table.insert(*key, record.as_slice()).map_err(fault)?;
        }
        Ok(Receipt::Done)
    }

    /// Whether all records of a message and its content prove themselves and agree.
    fn sound(
        &self,
        message: MessageId,
        records: &[Record],
    ) -> Result<Result<(), Damage>, StoreError> {
        let row = match row_among(message, records) {
            Ok(row) => row,
            Err(damage) => return Ok(Err(damage)),
        };
        let envelopes = records
            .iter()
            .filter_map(|(key, record)| Some((EnvelopeId::new(*key)?, record)));
        let mut live = 0u32;
        for (id, record) in envelopes {
            let opened = if record::claims(record, Kind::Discarded) {
                record::open_discarded(id, record).map(drop)
            } else {
                record::open_envelope(id, record).map(drop)
            };
            if let Err(Damage(reason)) = opened {
                return Ok(Err(Damage(format!("envelope {id}: {reason}"))));
            }
            live += 1;
        }
        if live == 0 || live != row.live {
            let why = format!("it has {live} envelopes, its record says {}", row.live);
            return Ok(Err(Damage(why)));
        }
        prove_body(&self.bodies, &row)
    }
}

/// A key of the queue with its record as it is stored.
type Record = (u64, Vec<u8>);

/// The stored records of a range of keys, unproven.
fn raw(table: &Rows<'_, u64>, range: RangeInclusive<u64>) -> Result<Vec<Record>, StoreError> {
    let mut records = Vec::new();
    for entry in table.range(range).map_err(fault)? {
        let (key, value) = entry.map_err(fault)?;
        records.push((key.value(), value.value().to_vec()));
    }
    Ok(records)
}

fn row_among(message: MessageId, records: &[Record]) -> Result<Row, Damage> {
    let key = record::row_key(message);
    match records.iter().find(|(other, _)| *other == key) {
        Some((_, record)) => Row::open(message, record),
        None => Err(Damage::new("message record is missing")),
    }
}

fn envelopes_among(records: &[Record]) -> Vec<EnvelopeId> {
    let ids = records.iter().filter_map(|(key, _)| EnvelopeId::new(*key));
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids
}

/// The receipt of a settlement or notice that met damaged messages.
fn done_but(mut dropped: Vec<EnvelopeId>) -> Receipt {
    if dropped.is_empty() {
        return Receipt::Done;
    }
    dropped.sort_unstable();
    Receipt::Affected(dropped)
}
