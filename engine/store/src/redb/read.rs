//! Reading: snapshots of the database, every record proven.
//!
//! Promises: each call is one short snapshot; no writer is delayed. The walk at start-up also
//! compares the envelopes found with the number each message should have and with the table's own
//! count, so that a row that silently went missing is noticed.
//! Absent on purpose: caches of our own.
//! Fails: with `Corrupt` for one record, with `Unreadable` when the database itself is damaged.

use super::database::{Shared, fault, guarded};
use super::{BLOCKS, BODIES, CORRUPT, CORRUPT_QUEUE, META, QUEUE, TRASH};
use crate::blocks;
use crate::record::{self, Damage, Meta, Row};
use ::redb::{ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, TableError};
use bytes::Bytes;
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, Epoch, MessageId};
use redspool_core::queue::{
    Blocks, CorruptMessage, Discarded, Message, Paused, Reader, Scheduled, Selector, StoreError,
    TrashState, Walked,
};
use redspool_core::time::Timestamp;
use std::hash::Hasher as _;
use std::ops::{Bound, RangeInclusive};
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

/// The trash; a store that never had one has no such table.
fn trash(
    snapshot: &ReadTransaction,
) -> Result<Option<ReadOnlyTable<u64, &'static [u8]>>, StoreError> {
    match snapshot.open_table(TRASH) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(why) => Err(fault(why)),
    }
}

/// The last id epoch stored.
fn epoch(snapshot: &ReadTransaction) -> Result<Option<Epoch>, StoreError> {
    let found = meta(snapshot, Meta::Epoch)?;
    Ok(found.and_then(Epoch::from_number))
}

fn row(
    queue: &impl ReadableTable<u64, &'static [u8]>,
    id: MessageId,
) -> Result<Option<Row>, StoreError> {
    let guard = queue.get(record::row_key(id)).map_err(fault)?;
    let row = guard.map(|guard| Row::open(id, guard.value()));
    row.transpose().map_err(|damage| damage.of(id))
}

/// Reads a whole content and compares it with the digest of its message.
pub(super) fn prove_body(
    bodies: &impl ReadableTable<u64, &'static [u8]>,
    row: &Row,
) -> Result<Result<(), Damage>, StoreError> {
    let places = match row.places() {
        Ok(places) => places,
        Err(damage) => return Ok(Err(damage)),
    };
    let mut digest = Hasher::new();
    for (index, place) in (0..).zip(places) {
        let Some(guard) = bodies.get(place).map_err(fault)? else {
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
            let corrupt = snapshot.open_table(CORRUPT).map_err(fault)?;
            if corrupt.get(message.get()).map_err(fault)?.is_some() {
                return Ok(true);
            }
            let queue = snapshot.open_table(QUEUE).map_err(fault)?;
            let mut range = queue.range(all_of(message)).map_err(fault)?;
            Ok(range.next().transpose().map_err(fault)?.is_some())
        })
    }

    fn envelope(&self, id: EnvelopeId) -> Result<Option<Envelope>, StoreError> {
        self.snapshot(|snapshot| {
            let table = snapshot.open_table(QUEUE).map_err(fault)?;
            let guard = table.get(id.get()).map_err(fault)?;
            let envelope = guard.map(|guard| record::open_envelope(id, guard.value()));
            envelope
                .transpose()
                .map_err(|damage| damage.of(id.message()))
        })
    }

    fn message(&self, id: MessageId) -> Result<Option<Message>, StoreError> {
        self.snapshot(|snapshot| {
            let table = snapshot.open_table(QUEUE).map_err(fault)?;
            Ok(row(&table, id)?.map(|row| row.message))
        })
    }

    fn body(&self, id: MessageId, index: u32) -> Result<Option<Bytes>, StoreError> {
        self.snapshot(|snapshot| {
            let queue = snapshot.open_table(QUEUE).map_err(fault)?;
            let Some(row) = row(&queue, id)? else {
                return Ok(None);
            };
            let mut places = row.places().map_err(|damage| damage.of(id))?;
            let place = places.nth(usize::try_from(index).unwrap_or(usize::MAX));
            let (Some(place), 1..) = (place, row.message.size) else {
                return Ok(None);
            };
            let bodies = snapshot.open_table(BODIES).map_err(fault)?;
            let guard = bodies.get(place).map_err(fault)?;
            let guard = guard.ok_or_else(|| missing(index).of(id))?;
            let piece = record::open_body(&row, index, guard.value());
            let piece = piece.map_err(|damage| damage.of(id))?;
            if places.is_empty() {
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
            let table = snapshot.open_table(QUEUE).map_err(fault)?;
            let range = table.range(keys(selector, after)).map_err(fault)?;
            let mut page = Vec::new();
            for entry in range {
                if page.len() == limit {
                    break;
                }
                let (key, value) = entry.map_err(fault)?;
                if let Key::Envelope(id) = Key::of(key.value())? {
                    let envelope = record::open_envelope(id, value.value());
                    page.push(envelope.map_err(|damage| damage.of(id.message())));
                }
            }
            Ok(page)
        })
    }

    fn walk(&self, visit: &mut dyn FnMut(Walked<Scheduled>)) -> Result<(), StoreError> {
        let snapshot = self.shared.snapshot()?;
        guarded(|| Walk::new(&snapshot, visit)?.run())
    }

    fn live(&self, epoch: Epoch) -> Result<Vec<MessageId>, StoreError> {
        self.snapshot(|snapshot| {
            let (first, last) = epoch.range().into_inner();
            let (first, last) = (first.get(), last.get());
            let mut live = Vec::new();
            let queue = snapshot.open_table(QUEUE).map_err(fault)?;
            let keys = u64::from(first) << 32..=u64::from(last) << 32 | u64::from(u32::MAX);
            for entry in queue.range(keys).map_err(fault)? {
                let (key, _) = entry.map_err(fault)?;
                live.push(Key::of(key.value())?.message());
            }
            let corrupt = snapshot.open_table(CORRUPT).map_err(fault)?;
            for entry in corrupt.range(first..=last).map_err(fault)? {
                let (key, _) = entry.map_err(fault)?;
                live.extend(MessageId::new(key.value()));
            }
            live.retain(|id| Epoch::of(*id) == epoch);
            live.sort_unstable();
            live.dedup();
            Ok(live)
        })
    }

    fn epoch(&self) -> Result<Option<Epoch>, StoreError> {
        self.snapshot(epoch)
    }

    fn paused(&self) -> Result<Paused, StoreError> {
        let bits = self.snapshot(|snapshot| meta(snapshot, Meta::Paused))?;
        Ok(record::paused_from(bits.unwrap_or(0)))
    }

    fn blocks(&self) -> Result<Blocks, StoreError> {
        self.snapshot(|snapshot| {
            let table = snapshot.open_table(META).map_err(fault)?;
            let row = table.get(BLOCKS).map_err(fault)?;
            let blocks = row.map(|row| blocks::open(row.value())).transpose();
            let blocks = blocks.map_err(|damage| StoreError::Unreadable(damage.0))?;
            Ok(blocks.unwrap_or_default())
        })
    }

    fn corrupt(&self) -> Result<Vec<CorruptMessage>, StoreError> {
        self.snapshot(|snapshot| {
            let table = snapshot.open_table(CORRUPT).map_err(fault)?;
            let queue = snapshot.open_table(CORRUPT_QUEUE).map_err(fault)?;
            let mut bucket = Vec::new();
            for entry in table.iter().map_err(fault)? {
                let (key, value) = entry.map_err(fault)?;
                let Some(id) = MessageId::new(key.value()) else {
                    continue;
                };
                bucket.push(match record::open_corrupt(id, value.value()) {
                    Ok(entry) => entry,
                    Err(damage) => unlabelled(id, damage, &queue)?,
                });
            }
            Ok(bucket)
        })
    }

    fn discarded(
        &self,
        selector: Selector,
        after: Option<EnvelopeId>,
        limit: usize,
    ) -> Result<Vec<Walked<Discarded>>, StoreError> {
        if after.is_some_and(|after| after >= *selector.range().end()) {
            return Ok(Vec::new());
        }
        self.snapshot(|snapshot| {
            let mut page = Vec::new();
            let Some(table) = trash(snapshot)? else {
                return Ok(page);
            };
            let rows = table.range(keys(selector, after)).map_err(fault)?;
            for entry in rows.take(limit) {
                let (key, value) = entry.map_err(fault)?;
                if let Some(id) = EnvelopeId::new(key.value()) {
                    let discarded = record::open_discarded(id, value.value());
                    page.push(discarded.map_err(|damage| damage.of(id.message())));
                }
            }
            Ok(page)
        })
    }

    fn trash(&self) -> Result<TrashState, StoreError> {
        self.snapshot(|snapshot| {
            let mut state = TrashState::default();
            let Some(table) = trash(snapshot)? else {
                return Ok(state);
            };
            let queue = snapshot.open_table(QUEUE).map_err(fault)?;
            let mut last = None;
            for entry in table.iter().map_err(fault)? {
                let (key, value) = entry.map_err(fault)?;
                let Some(id) = EnvelopeId::new(key.value()) else {
                    continue;
                };
                state.envelopes += 1;
                if let Ok(Discarded { at, .. }) = record::open_discarded(id, value.value()) {
                    state.oldest = Some(state.oldest.map_or(at, |oldest| oldest.min(at)));
                    state.latest = state.latest.max(Some(at));
                }
                let message = id.message();
                if last.replace(message) == Some(message) {
                    continue;
                }
                let queued = queue.range(keys(Selector::Message(message), None));
                if queued.map_err(fault)?.next().is_none() {
                    let row = row(&queue, message).ok().flatten();
                    state.octets += row.map_or(0, |row| row.message.size);
                }
            }
            Ok(state)
        })
    }
}

/// A corrupt bucket entry whose own record is damaged.
fn unlabelled(
    id: MessageId,
    damage: Damage,
    queue: &ReadOnlyTable<u64, &'static [u8]>,
) -> Result<CorruptMessage, StoreError> {
    let range = queue
        .range(keys(Selector::Message(id), None))
        .map_err(fault)?;
    Ok(CorruptMessage {
        message: id,
        reason: damage.0.into(),
        at: Timestamp::EPOCH,
        envelopes: u32::try_from(range.count()).unwrap_or(u32::MAX),
    })
}

/// The keys of the envelopes a selector means, from behind `after` on. Where the selector is `All`
/// the records of messages lie between them.
pub(super) fn keys(selector: Selector, after: Option<EnvelopeId>) -> (Bound<u64>, Bound<u64>) {
    let (first, last) = selector.range().into_inner();
    let start = match after {
        Some(after) if after >= first => Bound::Excluded(after.get()),
        _ => Bound::Included(first.get()),
    };
    (start, Bound::Included(last.get()))
}

/// The keys of a message's own record and all its envelopes.
pub(super) fn all_of(message: MessageId) -> RangeInclusive<u64> {
    record::row_key(message)..=message.envelopes().end().get()
}

/// What a key of the queue stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Message(MessageId),
    Envelope(EnvelopeId),
}

impl Key {
    /// A key that is neither cannot have been written by us.
    pub(super) fn of(key: u64) -> Result<Self, StoreError> {
        if let Some(id) = EnvelopeId::new(key) {
            return Ok(Self::Envelope(id));
        }
        let message = u32::try_from(key >> 32).ok().and_then(MessageId::new);
        match message {
            Some(message) => Ok(Self::Message(message)),
            None => Err(StoreError::Unreadable(format!(
                "nothing in a queue can have the key {key:016x}"
            ))),
        }
    }

    pub(super) fn message(self) -> MessageId {
        match self {
            Self::Message(message) => message,
            Self::Envelope(id) => id.message(),
        }
    }
}

/// The walk over all records, message by message.
struct Walk<'a> {
    queue: ReadOnlyTable<u64, &'static [u8]>,
    trash: Option<ReadOnlyTable<u64, &'static [u8]>>,
    visit: &'a mut dyn FnMut(Walked<Scheduled>),
    /// The message whose records are being read.
    current: Option<Count>,
}

/// Envelopes of a message: how many its record says it has, and how many were found in queue and
/// trash.
struct Count {
    message: MessageId,
    live: Result<u32, Damage>,
    found: u32,
}

impl<'a> Walk<'a> {
    fn new(
        snapshot: &ReadTransaction,
        visit: &'a mut dyn FnMut(Walked<Scheduled>),
    ) -> Result<Self, StoreError> {
        Ok(Self {
            queue: snapshot.open_table(QUEUE).map_err(fault)?,
            trash: trash(snapshot)?,
            visit,
            current: None,
        })
    }

    fn run(mut self) -> Result<(), StoreError> {
        let mut found = 0;
        for entry in self.queue.range::<u64>(..).map_err(fault)? {
            let (key, value) = entry.map_err(fault)?;
            found += 1;
            match Key::of(key.value())? {
                Key::Message(id) => {
                    let live = Row::open(id, value.value()).map(|row| row.live);
                    self.begin(id, live);
                    let trashed = match &self.trash {
                        Some(trash) => trash.range(all_of(id)).map_err(fault)?.count(),
                        None => 0,
                    };
                    if let Some(count) = &mut self.current {
                        count.found = u32::try_from(trashed).unwrap_or(u32::MAX);
                    }
                }
                Key::Envelope(id) => self.envelope(id, value.value()),
            }
        }
        self.compare();
        let expected = self.queue.len().map_err(fault)?;
        if found == expected {
            return Ok(());
        }
        Err(StoreError::Unreadable(format!(
            "{expected} records expected, {found} found"
        )))
    }

    fn begin(&mut self, message: MessageId, live: Result<u32, Damage>) {
        self.compare();
        self.current = Some(Count {
            message,
            live,
            found: 0,
        });
    }

    fn envelope(&mut self, id: EnvelopeId, record: &[u8]) {
        let message = id.message();
        if self.current.as_ref().map(|count| count.message) != Some(message) {
            self.begin(message, Err(Damage::new("message record is missing")));
        }
        if let Some(count) = &mut self.current {
            count.found += 1;
        }
        let scheduled = record::open_scheduled(id, record);
        (self.visit)(scheduled.map_err(|damage| damage.of(message)));
    }

    /// Compares the message that ends here with its record, and reports what does not agree.
    fn compare(&mut self) {
        let Some(Count {
            message,
            live,
            found,
        }) = self.current.take()
        else {
            return;
        };
        let damage = match live {
            Ok(live) if live == found && found > 0 => return,
            Ok(live) => Damage(format!("{found} of {live} envelopes found")),
            Err(damage) => damage,
        };
        (self.visit)(Err(damage.of(message)));
    }
}
