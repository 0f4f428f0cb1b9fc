//! Reading: snapshots of the database, every record proven.
//!
//! Promises: each call is one short snapshot; no writer is delayed. The walk at start-up also
//! compares the envelopes found with the number each message should have and with the table's own
//! count, so that a row that silently went missing is noticed.
//! Absent on purpose: caches of our own.
//! Fails: with `Corrupt` for one record, with `Unreadable` when the database itself is damaged.

use super::database::{Shared, fault, guarded};
use super::{BODIES, CORRUPT, CORRUPT_ENVELOPES, ENVELOPES, MESSAGES, META};
use crate::record::{self, Bucket, Damage, Meta, Row};
use ::redb::{ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata};
use bytes::Bytes;
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{
    CorruptMessage, Message, Paused, Reader, Scheduled, Selector, StoreError, Walked,
};
use redspool_core::time::Timestamp;
use std::hash::Hasher as _;
use std::ops::Bound;
use std::sync::Arc;
use twox_hash::xxhash3_64::Hasher;

/// The reading side of a [`RedbStore`](super::RedbStore); cloning it is cheap.
#[derive(Clone, Debug)]
pub struct RedbReader {
    shared: Arc<Shared>,
}

impl RedbReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn snapshot<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        guarded(|| work(&self.shared.snapshot()?))
    }

    /// The commit generation: how many groups this store has taken.
    pub fn generation(&self) -> Result<u64, StoreError> {
        self.snapshot(|snapshot| Ok(meta(snapshot, Meta::Generation)?.unwrap_or(0)))
    }
}

/// A number kept about the store itself.
fn meta(snapshot: &ReadTransaction, what: Meta) -> Result<Option<u64>, StoreError> {
    let table = snapshot.open_table(META).map_err(fault)?;
    let Some(guard) = table.get(what.key()).map_err(fault)? else {
        return Ok(None);
    };
    let number = what.open(guard.value());
    number
        .map(Some)
        .map_err(|damage| StoreError::Unreadable(damage.0))
}

/// The format of an open database; zero if nothing was ever written to it.
pub(crate) fn format(shared: &Shared) -> Result<u32, StoreError> {
    let snapshot = shared.snapshot()?;
    if snapshot.list_tables().map_err(fault)?.next().is_none() {
        return Ok(0);
    }
    let found = meta(&snapshot, Meta::Format)?;
    let found = found.and_then(|found| u32::try_from(found).ok());
    found.ok_or_else(|| StoreError::Unreadable("it is a database, but not a queue".into()))
}

/// The last id epoch stored.
fn epoch(snapshot: &ReadTransaction) -> Result<Option<u16>, StoreError> {
    let found = meta(snapshot, Meta::Epoch)?;
    Ok(found.and_then(|epoch| u16::try_from(epoch).ok()))
}

fn row(
    table: &impl ReadableTable<u32, &'static [u8]>,
    id: MessageId,
) -> Result<Option<Row>, StoreError> {
    let guard = table.get(id.get()).map_err(fault)?;
    let row = guard.map(|guard| Row::open(id, guard.value()));
    row.transpose().map_err(|damage| damage.of(id))
}

/// Reads a whole content and compares it with the digest of its message.
pub(super) fn prove_body(
    bodies: &impl ReadableTable<u64, &'static [u8]>,
    row: &Row,
) -> Result<Result<(), Damage>, StoreError> {
    let pieces = match row.pieces() {
        Ok(pieces) => pieces,
        Err(damage) => return Ok(Err(damage)),
    };
    let mut digest = Hasher::new();
    for index in 0..pieces {
        let key = record::body_key(row.message.id, index);
        let Some(guard) = bodies.get(key).map_err(fault)? else {
            return Ok(Err(missing(index)));
        };
        match record::open_body(row, index, guard.value()) {
            Ok(piece) => digest.write(piece),
            Err(damage) => return Ok(Err(damage)),
        }
    }
    if digest.finish() == row.digest {
        Ok(Ok(()))
    } else {
        Ok(Err(Damage::new("content does not match its digest")))
    }
}

fn missing(index: u32) -> Damage {
    Damage(format!("piece {index} of the content is missing"))
}

impl Reader for RedbReader {
    fn exists(&self, message: MessageId) -> Result<bool, StoreError> {
        self.snapshot(|snapshot| {
            for table in [MESSAGES, CORRUPT] {
                let table = snapshot.open_table(table).map_err(fault)?;
                if table.get(message.get()).map_err(fault)?.is_some() {
                    return Ok(true);
                }
            }
            let envelopes = snapshot.open_table(ENVELOPES).map_err(fault)?;
            let mut range = envelopes
                .range(keys(Selector::Message(message), None))
                .map_err(fault)?;
            Ok(range.next().transpose().map_err(fault)?.is_some())
        })
    }

    fn envelope(&self, id: EnvelopeId) -> Result<Option<Envelope>, StoreError> {
        self.snapshot(|snapshot| {
            let table = snapshot.open_table(ENVELOPES).map_err(fault)?;
            let guard = table.get(id.get()).map_err(fault)?;
            let envelope = guard.map(|guard| record::open_envelope(id, guard.value()));
            envelope
                .transpose()
                .map_err(|damage| damage.of(id.message()))
        })
    }

    fn message(&self, id: MessageId) -> Result<Option<Message>, StoreError> {
        self.snapshot(|snapshot| {
            let table = snapshot.open_table(MESSAGES).map_err(fault)?;
            Ok(row(&table, id)?.map(|row| row.message))
        })
    }

    fn body(&self, id: MessageId, index: u32) -> Result<Option<Bytes>, StoreError> {
        self.snapshot(|snapshot| {
            let messages = snapshot.open_table(MESSAGES).map_err(fault)?;
            let Some(row) = row(&messages, id)? else {
                return Ok(None);
            };
            let pieces = row.pieces().map_err(|damage| damage.of(id))?;
            if index >= pieces || row.message.size == 0 {
                return Ok(None);
            }
            let bodies = snapshot.open_table(BODIES).map_err(fault)?;
            let guard = bodies.get(record::body_key(id, index)).map_err(fault)?;
            let guard = guard.ok_or_else(|| missing(index).of(id))?;
            let piece = record::open_body(&row, index, guard.value());
            let piece = piece.map_err(|damage| damage.of(id))?;
            if index + 1 == pieces {
                prove_body(&bodies, &row)?.map_err(|damage| damage.of(id))?;
            }
            Ok(Some(Bytes::copy_from_slice(piece)))
        })
    }

    fn page(
        &self,
        selector: Selector,
        after: Option<EnvelopeId>,
        limit: usize,
    ) -> Result<Vec<Walked<Envelope>>, StoreError> {
        if after.is_some_and(|after| after >= *selector.range().end()) {
            return Ok(Vec::new());
        }
        self.snapshot(|snapshot| {
            let table = snapshot.open_table(ENVELOPES).map_err(fault)?;
            let range = table.range(keys(selector, after)).map_err(fault)?;
            let mut page = Vec::new();
            for entry in range.take(limit) {
                let (key, value) = entry.map_err(fault)?;
                let id = envelope_id(key.value())?;
                let envelope = record::open_envelope(id, value.value());
                page.push(envelope.map_err(|damage| damage.of(id.message())));
            }
            Ok(page)
        })
    }

    fn walk(&self, visit: &mut dyn FnMut(Walked<Scheduled>)) -> Result<(), StoreError> {
        let snapshot = self.shared.snapshot()?;
        guarded(|| Walk::new(&snapshot, visit)?.run())
    }

    fn live(&self, epoch: u16) -> Result<Vec<MessageId>, StoreError> {
        self.snapshot(|snapshot| {
            let first = u32::from(epoch) << 16;
            let mut live = Vec::new();
            for table in [MESSAGES, CORRUPT] {
                let table = snapshot.open_table(table).map_err(fault)?;
                for entry in table.range(first..=first | 0xffff).map_err(fault)? {
                    let (key, _) = entry.map_err(fault)?;
                    live.extend(MessageId::new(key.value()));
                }
            }
            live.sort_unstable();
            Ok(live)
        })
    }

    fn epoch(&self) -> Result<Option<u16>, StoreError> {
        self.snapshot(epoch)
    }

    fn paused(&self) -> Result<Paused, StoreError> {
        let bits = self.snapshot(|snapshot| meta(snapshot, Meta::Paused))?;
        Ok(record::paused_from(bits.unwrap_or(0)))
    }

    fn corrupt(&self) -> Result<Vec<CorruptMessage>, StoreError> {
        self.snapshot(|snapshot| {
            let table = snapshot.open_table(CORRUPT).map_err(fault)?;
            let envelopes = snapshot.open_table(CORRUPT_ENVELOPES).map_err(fault)?;
            let mut bucket = Vec::new();
            for entry in table.iter().map_err(fault)? {
                let (key, value) = entry.map_err(fault)?;
                let Some(id) = MessageId::new(key.value()) else {
                    continue;
                };
                bucket.push(match Bucket::open(id, value.value()) {
                    Ok(bucket) => bucket.entry,
                    Err(damage) => unlabelled(id, damage, &envelopes)?,
                });
            }
            Ok(bucket)
        })
    }
}

/// A corrupt bucket entry whose own record is damaged.
fn unlabelled(
    id: MessageId,
    damage: Damage,
    envelopes: &ReadOnlyTable<u64, &'static [u8]>,
) -> Result<CorruptMessage, StoreError> {
    let range = envelopes
        .range(keys(Selector::Message(id), None))
        .map_err(fault)?;
    Ok(CorruptMessage {
        message: id,
        reason: damage.0.into(),
        at: Timestamp::EPOCH,
        envelopes: u32::try_from(range.count()).unwrap_or(u32::MAX),
    })
}

/// The keys a selector means, from behind `after` on.
pub(super) fn keys(selector: Selector, after: Option<EnvelopeId>) -> (Bound<u64>, Bound<u64>) {
    let (first, last) = selector.range().into_inner();
    let start = match after {
        Some(after) if after >= first => Bound::Excluded(after.get()),
        _ => Bound::Included(first.get()),
    };
    (start, Bound::Included(last.get()))
}

/// A key as an id. A key that is none cannot have been written by us.
pub(super) fn envelope_id(key: u64) -> Result<EnvelopeId, StoreError> {
    EnvelopeId::new(key)
        .ok_or_else(|| StoreError::Unreadable(format!("no envelope can have the key {key:016x}")))
}

/// A message's key and how many envelopes its record says it has.
type Count = (u32, Result<u32, Damage>);

/// The walk over all envelopes, with the messages beside them, both in key order.
struct Walk<'a> {
    envelopes: ReadOnlyTable<u64, &'static [u8]>,
    messages: ReadOnlyTable<u32, &'static [u8]>,
    visit: &'a mut dyn FnMut(Walked<Scheduled>),
}

impl<'a> Walk<'a> {
    fn new(
        snapshot: &ReadTransaction,
        visit: &'a mut dyn FnMut(Walked<Scheduled>),
    ) -> Result<Self, StoreError> {
        Ok(Self {
            envelopes: snapshot.open_table(ENVELOPES).map_err(fault)?,
            messages: snapshot.open_table(MESSAGES).map_err(fault)?,
            visit,
        })
    }

    fn run(self) -> Result<(), StoreError> {
        let Self {
            envelopes,
            messages,
            visit,
        } = self;
        let mut rows = messages.range::<u32>(..).map_err(fault)?;
        let mut next_row = || -> Result<Option<Count>, StoreError> {
            let Some(entry) = rows.next() else {
                return Ok(None);
            };
            let (key, value) = entry.map_err(fault)?;
            let key = key.value();
            let id = MessageId::new(key).ok_or_else(no_message)?;
            Ok(Some((
                key,
                Row::open(id, value.value()).map(|row| row.live),
            )))
        };
        let mut row = next_row()?;
        // Compares what was found of a message with what its record says, and reports the
        // messages before it that have a record only.
        let mut check = |message: Option<MessageId>,
                         found: u32,
                         visit: &mut dyn FnMut(Walked<Scheduled>)|
         -> Result<(), StoreError> {
            let current = message.map(MessageId::get);
            while let Some((key, _)) = row
                && current.is_none_or(|current| key < current)
            {
                let id = MessageId::new(key).ok_or_else(no_message)?;
                visit(Err(Damage::new("it has no envelopes").of(id)));
                row = next_row()?;
            }
            let Some(message) = message else {
                return Ok(());
            };
            let damage = match row.take() {
                Some((key, live)) if Some(key) == current => {
                    row = next_row()?;
                    match live {
                        Ok(live) if live == found => return Ok(()),
                        Ok(live) => Damage(format!("{found} of {live} envelopes found")),
                        Err(damage) => damage,
                    }
                }
                later => {
                    row = later;
                    Damage::new("message record is missing")
                }
            };
            visit(Err(damage.of(message)));
            Ok(())
        };
        let mut total = 0;
        let mut current: Option<(MessageId, u32)> = None;
        for entry in envelopes.range::<u64>(..).map_err(fault)? {
            let (key, value) = entry.map_err(fault)?;
            let id = envelope_id(key.value())?;
            match &mut current {
                Some((message, found)) if *message == id.message() => *found += 1,
                _ => {
                    if let Some((message, found)) = current.replace((id.message(), 1)) {
                        check(Some(message), found, visit)?;
                    }
                }
            }
            let scheduled = record::open_scheduled(id, value.value());
            visit(scheduled.map_err(|damage| damage.of(id.message())));
            total += 1;
        }
        if let Some((message, found)) = current {
            check(Some(message), found, visit)?;
        }
        check(None, 0, visit)?;
        let expected = envelopes.len().map_err(fault)?;
        if total == expected {
            Ok(())
        } else {
            Err(StoreError::Unreadable(format!(
                "{expected} envelopes expected, {total} found"
            )))
        }
    }
}

fn no_message() -> StoreError {
    StoreError::Unreadable("a message has the key 0".into())
}
