//! The database behind the log: the queue as of the last checkpoint.
//!
//! What: three tables of one redb database, see DESIGN.md. The daemon reads the last commit there
//! is; whoever looks at a stopped daemon's queue keeps to the commit it opened.
//! Promises: a checkpoint is one two-phase transaction; after one that failed the old handle goes
//! on serving reads until the database is opened anew.
//! Absent on purpose: the log.
//! Fails: with `StoreError`; `Unreadable` is what a rebuild is for.

use super::index::{Change, Frozen};
use super::place::{Location, Place, Position};
use super::slots::Marks;
use crate::media::Media;
use crate::record::{self, Damage, Kind, Meta, row_key};
use crate::redb::{Shared as Handle, fault, guarded};
use ::redb::{
    Builder, ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition,
    WriteTransaction,
};
use parking_lot::RwLock;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{CorruptMessage, Paused, Scheduled, StoreError};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type Definition<K> = TableDefinition<'static, K, &'static [u8]>;

/// Envelope-id to envelope record; message-id with a lower half of zero to location record.
const QUEUE: Definition<u64> = TableDefinition::new("queue");
/// Message-id to corrupt bucket record. The rows of these messages stay in `QUEUE`.
const BUCKET: Definition<u32> = TableDefinition::new("corrupt");
/// `record::Meta` to its record, and under `POSITION` how far the log is in here.
const META: Definition<u32> = TableDefinition::new("meta");

/// Key of the position in `META`.
const POSITION: u32 = 0x100;

/// Newest format this program knows.
pub(super) const FORMAT: u32 = 2;

/// The rows of the queue.
pub(super) type Rows = ReadOnlyTable<u64, &'static [u8]>;

/// An open database.
pub(super) struct Database {
    now: RwLock<Now>,
    /// The last generation that was written through this handle, or opened.
    generation: AtomicU64,
}

enum Now {
    Open(Arc<Handle>),
    /// One commit, whatever comes after it.
    Fixed(Arc<Handle>, ReadTransaction),
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

/// What the database knows beside its rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// `None` if it is new.
    pub(super) position: Option<Position>,
    pub(super) generation: u64,
    pub(super) paused: Paused,
    pub(super) epoch: Option<u16>,
}

/// Opens the file `name` for writing; an empty one becomes a database.
pub(super) fn handle(media: &dyn Media, name: &str, cache: usize) -> Result<Handle, StoreError> {
    guarded(|| {
        let mut builder = Builder::new();
        builder.set_cache_size(cache);
        let database = media.database(name, &mut builder).map_err(fault)?;
        Ok(Handle::writable(database))
    })
}

/// Gives the free pages of a database back to the file system.
pub(super) fn compact(media: &dyn Media, name: &str, cache: usize) -> Result<(), StoreError> {
    guarded(|| {
        let mut builder = Builder::new();
        builder.set_cache_size(cache);
        let mut database = media.database(name, &mut builder).map_err(fault)?;
        database.compact().map_err(fault)?;
        Ok(())
    })
}

/// Creates the tables in an empty database.
pub(super) fn initialise(handle: &Handle) -> Result<(), StoreError> {
    let work = |transaction: &WriteTransaction| {
        transaction.open_table(QUEUE).map_err(fault)?;
        transaction.open_table(BUCKET).map_err(fault)?;
        let mut meta = transaction.open_table(META).map_err(fault)?;
        put_meta(&mut meta, Meta::Format, FORMAT.into())?;
        Ok((Some(()), ()))
    };
    handle.write(work).map(|_| ())
}

fn put_meta(
    meta: &mut Table<'_, u32, &'static [u8]>,
    what: Meta,
    number: u64,
) -> Result<(), StoreError> {
    let record = what.seal(number);
    meta.insert(what.key(), record.as_slice()).map_err(fault)?;
    Ok(())
}

impl Database {
    /// The database as it goes on.
    pub(super) fn open(handle: Handle) -> Self {
        Self {
            now: RwLock::new(Now::Open(Arc::new(handle))),
            generation: AtomicU64::new(0),
        }
    }

    /// The database as it is now, for good.
    pub(super) fn fixed(handle: Handle) -> Result<Self, StoreError> {
        let snapshot = guarded(|| handle.snapshot())?;
        Ok(Self {
            now: RwLock::new(Now::Fixed(Arc::new(handle), snapshot)),
            generation: AtomicU64::new(0),
        })
    }

    /// Goes on with another handle; the old one is closed.
    pub(super) fn replace(&self, handle: Handle) {
        let before = std::mem::replace(&mut *self.now.write(), Now::Open(Arc::new(handle)));
        if let Now::Open(before) = before {
            before.close();
        }
    }

    /// Closes the database; readers get `Closed`.
    pub(super) fn close(&self) {
        match &*self.now.read() {
            Now::Open(handle) | Now::Fixed(handle, _) => handle.close(),
        }
    }

    /// Whether a daemon has made a checkpoint since this was opened.
    pub(super) fn overtaken(&self) -> bool {
        let now = self.now.read();
        let Now::Fixed(handle, _) = &*now else {
            return false;
        };
        let fresh = guarded(|| known(&handle.snapshot()?));
        fresh.map_or(true, |known| {
            known.generation != self.generation.load(Ordering::Relaxed)
        })
    }

    /// Runs `work` on one commit.
    fn on<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let handle = match &*self.now.read() {
            Now::Fixed(_, snapshot) => return guarded(|| work(snapshot)),
            Now::Open(handle) => Arc::clone(handle),
        };
        guarded(|| work(&handle.snapshot()?))
    }

    /// Runs `work` on the rows of one commit.
    pub(super) fn rows<T>(
        &self,
        work: impl FnOnce(&Rows) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.on(|snapshot| work(&snapshot.open_table(QUEUE).map_err(fault)?))
    }

    /// One row of the queue, unproven.
    pub(super) fn row(&self, key: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows(|rows| {
            let row = rows.get(key).map_err(fault)?;
            Ok(row.map(|row| row.value().to_vec()))
        })
    }

    /// Format, position, pauses and epoch; checks the format.
    pub(super) fn known(&self) -> Result<Known, StoreError> {
        let known = self.on(known)?;
        self.generation.store(known.generation, Ordering::Relaxed);
        Ok(known)
    }

    /// Shows every row of the queue in key order: a location with its message, or an envelope.
    pub(super) fn load(
        &self,
        visit: &mut dyn FnMut(Row),
    ) -> Result<Vec<CorruptMessage>, StoreError> {
        self.on(|snapshot| {
            let queue = snapshot.open_table(QUEUE).map_err(fault)?;
            for entry in queue.range::<u64>(..).map_err(fault)? {
                let (key, value) = entry.map_err(fault)?;
                visit(Row::of(key.value(), value.value())?);
            }
            let bucket = snapshot.open_table(BUCKET).map_err(fault)?;
            let mut corrupt = Vec::new();
            for entry in bucket.iter().map_err(fault)? {
                let (key, value) = entry.map_err(fault)?;
                let Some(id) = MessageId::new(key.value()) else {
                    continue;
                };
                let found = record::open_corrupt(id, value.value());
                corrupt.push(found.unwrap_or_else(|damage| CorruptMessage {
                    message: id,
                    reason: damage.0.into(),
                    at: redspool_core::time::Timestamp::EPOCH,
                    envelopes: 0,
                }));
            }
            Ok(corrupt)
        })
    }

    /// Writes a checkpoint: one durable transaction, in key order.
    pub(super) fn checkpoint(
        &self,
        frozen: &Frozen,
        position: Position,
        generation: u64,
        logged: &dyn Fn(Place) -> Result<Result<Vec<u8>, Damage>, StoreError>,
    ) -> Result<(), StoreError> {
        let handle = match &*self.now.read() {
            Now::Open(handle) => Arc::clone(handle),
            Now::Fixed(..) => return Err(StoreError::Closed),
        };
        guarded(|| {
            handle.write(|transaction| {
                rows(transaction, frozen, logged)?;
                let mut bucket = transaction.open_table(BUCKET).map_err(fault)?;
                for (id, found) in &frozen.buckets {
                    match found {
                        Some(found) => {
                            let record = record::seal_corrupt(found);
                            bucket.insert(id.get(), record.as_slice()).map_err(fault)?;
                        }
                        None => {
                            bucket.remove(id.get()).map_err(fault)?;
                        }
                    }
                }
                let mut meta = transaction.open_table(META).map_err(fault)?;
                put_meta(&mut meta, Meta::Paused, record::paused_bits(frozen.paused))?;
                if let Some(epoch) = frozen.epoch {
                    put_meta(&mut meta, Meta::Epoch, epoch.into())?;
                }
                let record = position.seal(generation);
                meta.insert(POSITION, record.as_slice()).map_err(fault)?;
                Ok((Some(()), ()))
            })
        })?;
        self.generation.store(generation, Ordering::Relaxed);
        Ok(())
    }
}

/// A row that was read.
pub(super) enum Row {
    Message(MessageId, Result<Location, Damage>),
    Envelope(EnvelopeId, Result<Scheduled, Damage>),
}

impl Row {
    fn of(key: u64, record: &[u8]) -> Result<Self, StoreError> {
        if let Some(id) = EnvelopeId::new(key) {
            return Ok(Self::Envelope(id, record::open_scheduled(id, record)));
        }
        let message = u32::try_from(key >> 32).ok().and_then(MessageId::new);
        let message = message
            .filter(|message| row_key(*message) == key)
            .ok_or_else(|| {
                StoreError::Unreadable(format!("nothing in a queue can have the key {key:016x}"))
            })?;
        let location = Location::open(Kind::Location, message, record);
        Ok(Self::Message(message, location))
    }
}

/// What a checkpoint does to one row.
enum Write {
    Location(MessageId, Option<Location>),
    Envelope(EnvelopeId, Change),
}

fn rows(
    transaction: &WriteTransaction,
    frozen: &Frozen,
    logged: &dyn Fn(Place) -> Result<Result<Vec<u8>, Damage>, StoreError>,
) -> Result<(), StoreError> {
    let messages = frozen.messages.iter();
    let messages = messages.map(|(id, location)| (row_key(*id), Write::Location(*id, *location)));
    let envelopes = frozen.changes.envelopes.iter();
    let envelopes = envelopes.map(|(id, change)| (id.get(), Write::Envelope(*id, *change)));
    let mut writes: Vec<_> = messages.chain(envelopes).collect();
    writes.sort_unstable_by_key(|(key, _)| *key);
    let mut queue = transaction.open_table(QUEUE).map_err(fault)?;
    for (key, write) in writes {
        match write {
            Write::Location(id, Some(location)) => {
                let record = location.seal(Kind::Location, id);
                queue.insert(key, record.as_slice()).map_err(fault)?;
            }
            Write::Location(_, None) | Write::Envelope(_, Change::Gone) => {
                queue.remove(key).map_err(fault)?;
            }
            Write::Envelope(id, Change::At { place, marks, .. }) => {
                // What cannot be read is written as it is: its reader will notice, and set the
                // message aside.
                if let Ok(record) = logged(place)? {
                    let record = with_marks(id, record, marks);
                    queue.insert(key, record.as_slice()).map_err(fault)?;
                }
            }
            Write::Envelope(id, Change::Marked(marks)) => {
                let found = queue
                    .get(key)
                    .map_err(fault)?
                    .map(|row| row.value().to_vec());
                if let Some(record) = found {
                    let record = with_marks(id, record, marks);
                    queue.insert(key, record.as_slice()).map_err(fault)?;
                }
            }
        }
    }
    Ok(())
}

/// An envelope's record with these marks in it.
fn with_marks(id: EnvelopeId, record: Vec<u8>, marks: Marks) -> Vec<u8> {
    let same = |flags: redspool_core::envelope::Flags| {
        flags.suspended == marks.suspended && (flags.maybe_duplicated || !marks.duplicated)
    };
    match record::open_scheduled(id, &record) {
        Ok(scheduled) if !same(scheduled.flags) => match record::open_envelope(id, &record) {
            Ok(envelope) => record::seal_envelope(&super::shared::marked(envelope, marks)),
            Err(_) => record,
        },
        _ => record,
    }
}

fn known(snapshot: &ReadTransaction) -> Result<Known, StoreError> {
    if snapshot.list_tables().map_err(fault)?.next().is_none() {
        return Err(StoreError::Unreadable("the database is empty".into()));
    }
    let table = snapshot.open_table(META).map_err(fault)?;
    let number = |what: Meta| -> Result<Option<u64>, StoreError> {
        let Some(row) = table.get(what.key()).map_err(fault)? else {
            return Ok(None);
        };
        let number = what.open(row.value());
        number
            .map(Some)
            .map_err(|damage| StoreError::Unreadable(damage.0))
    };
    match number(Meta::Format)?.and_then(|found| u32::try_from(found).ok()) {
        Some(FORMAT) => {}
        Some(found) => {
            return Err(StoreError::Version {
                found,
                known: FORMAT,
            });
        }
        None => {
            return Err(StoreError::Unreadable(
                "it is a database, but not a queue".into(),
            ));
        }
    }
    let position = table.get(POSITION).map_err(fault)?;
    let position = position.map(|row| Position::open(row.value())).transpose();
    let position = position.map_err(|damage| StoreError::Unreadable(damage.0))?;
    Ok(Known {
        position: position.map(|(position, _)| position),
        generation: position.map_or(0, |(_, generation)| generation),
        paused: record::paused_from(number(Meta::Paused)?.unwrap_or(0)),
        epoch: number(Meta::Epoch)?.and_then(|epoch| u16::try_from(epoch).ok()),
    })
}
