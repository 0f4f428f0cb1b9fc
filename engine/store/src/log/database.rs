//! The database behind the log: the queue as of the last checkpoint.
//!
//! What: four tables of one redb database, see DESIGN.md. The daemon reads the last commit there
//! is; whoever looks at a stopped daemon's queue keeps to the commit it opened.
//! Promises: a checkpoint is one two-phase transaction; after one that failed the old handle goes
//! on serving reads until the database is opened anew.
//! Absent on purpose: the log.
//! Fails: with `StoreError`; `Unreadable` is what a rebuild is for.

use super::index::{Change, Filed, Frozen};
use super::place::{Place, Position};
use super::segment::FORMAT;
use super::summary::{Head, Summary};
use crate::blocks;
use crate::media::Media;
use crate::record::{self, Damage, Meta};
use crate::redb::{Shared as Handle, fault, guarded};
use ::redb::{
    Builder, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, WriteTransaction,
};
use parking_lot::RwLock;
use redspool_core::id::{EnvelopeId, Epoch, MessageId};
use redspool_core::queue::{Blocks, CorruptMessage, Paused, Scheduled, StoreError};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type Definition<K> = TableDefinition<'static, K, &'static [u8]>;

/// Message-id to summary record: all that a start reads of what is queued.
const MESSAGES: Definition<u32> = TableDefinition::new("messages");
/// Envelope-id to envelope record. Its marks are those of its head in the summary.
const ENVELOPES: Definition<u64> = TableDefinition::new("envelopes");
/// Message-id to corrupt bucket record. The rows of these messages stay in the other tables.
const BUCKET: Definition<u32> = TableDefinition::new("corrupt");
/// `record::Meta` to its record, under `POSITION` how far the log is in here, and under `BLOCKS`
/// which sources and domains are kept apart.
const META: Definition<u32> = TableDefinition::new("meta");

/// Key of the position in `META`.
const POSITION: u32 = 0x100;
const BLOCKS: u32 = 0x101;

/// Rows of a table, by their keys.
pub(super) type Rows<K> = ReadOnlyTable<K, &'static [u8]>;

/// An open database.
pub(super) struct Database {
    now: RwLock<Now>,
    /// The last commit, as soon as somebody has read it. To begin a transaction costs more than to
    /// find a row, and all who do it wait for each other.
    last: RwLock<Option<Arc<Commit>>>,
    /// The last generation that was written through this handle, or opened.
    generation: AtomicU64,
}

enum Now {
    Open(Arc<Handle>),
    /// One commit, whatever comes after it.
    Fixed(Arc<Handle>, ReadTransaction),
}

/// The rows of one commit.
struct Commit {
    envelopes: Rows<u64>,
    summaries: Rows<u32>,
}

impl Commit {
    fn open(snapshot: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            envelopes: snapshot.open_table(ENVELOPES).map_err(fault)?,
            summaries: snapshot.open_table(MESSAGES).map_err(fault)?,
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

/// What the database knows beside its rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// `None` if it is new.
    pub(super) position: Option<Position>,
    pub(super) generation: u64,
    pub(super) paused: Paused,
    pub(super) blocks: Arc<Blocks>,
    pub(super) epoch: Option<Epoch>,
    /// Messages that should have a summary.
    pub(super) messages: u64,
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
        transaction.open_table(MESSAGES).map_err(fault)?;
        transaction.open_table(ENVELOPES).map_err(fault)?;
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
            last: RwLock::default(),
            generation: AtomicU64::new(0),
        }
    }

    /// The database as it is now, for good.
    pub(super) fn fixed(handle: Handle) -> Result<Self, StoreError> {
        let snapshot = guarded(|| handle.snapshot())?;
        Ok(Self {
            now: RwLock::new(Now::Fixed(Arc::new(handle), snapshot)),
            last: RwLock::default(),
            generation: AtomicU64::new(0),
        })
    }

    /// Goes on with another handle; the old one is closed.
    pub(super) fn replace(&self, handle: Handle) {
        let before = std::mem::replace(&mut *self.now.write(), Now::Open(Arc::new(handle)));
        if let Now::Open(before) = before {
            before.close();
        }
        self.forget();
    }

    /// Closes the database; readers get `Closed`.
    pub(super) fn close(&self) {
        match &*self.now.read() {
            Now::Open(handle) => handle.close(),
            Now::Fixed(handle, _) => handle.abandon(),
        }
        self.forget();
    }

    /// Has readers look for the last commit again. After what makes it another one: who has begun to
    /// look before then is waited for, so nothing older is kept.
    fn forget(&self) {
        let before = self.last.write().take();
        drop(before);
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

    /// The last commit.
    fn last(&self) -> Result<Arc<Commit>, StoreError> {
        if let Some(last) = &*self.last.read() {
            return Ok(Arc::clone(last));
        }
        let mut last = self.last.write();
        if let Some(last) = &*last {
            return Ok(Arc::clone(last));
        }
        let found = Arc::new(self.on(Commit::open)?);
        *last = Some(Arc::clone(&found));
        Ok(found)
    }

    /// Runs `work` on the envelopes of one commit.
    pub(super) fn envelopes<T>(
        &self,
        work: impl FnOnce(&Rows<u64>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let last = self.last()?;
        guarded(|| work(&last.envelopes))
    }

    /// Runs `work` on the summaries of one commit.
    pub(super) fn summaries<T>(
        &self,
        work: impl FnOnce(&Rows<u32>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let last = self.last()?;
        guarded(|| work(&last.summaries))
    }

    /// The record of an envelope, unproven.
    pub(super) fn envelope(&self, id: EnvelopeId) -> Result<Option<Vec<u8>>, StoreError> {
        self.envelopes(|rows| {
            let row = rows.get(id.get()).map_err(fault)?;
            Ok(row.map(|row| row.value().to_vec()))
        })
    }

    /// The ids of all envelopes that have a row, in order, whatever the rows are like.
    pub(super) fn ids(&self, visit: &mut dyn FnMut(EnvelopeId)) -> Result<(), StoreError> {
        self.envelopes(|rows| {
            for entry in rows.iter().map_err(fault)? {
                let (key, _) = entry.map_err(fault)?;
                if let Some(id) = EnvelopeId::new(key.value()) {
                    visit(id);
                }
            }
            Ok(())
        })
    }

    /// Format, position, pauses and epoch; checks the format.
    pub(super) fn known(&self) -> Result<Known, StoreError> {
        let known = self.on(known)?;
        self.generation.store(known.generation, Ordering::Relaxed);
        Ok(known)
    }

    /// Shows every summary in the order of ids, and gives the corrupt bucket.
    pub(super) fn load(
        &self,
        visit: &mut dyn FnMut(MessageId, Result<Summary<'_>, Damage>),
    ) -> Result<Vec<CorruptMessage>, StoreError> {
        self.on(|snapshot| {
            let messages = snapshot.open_table(MESSAGES).map_err(fault)?;
            for entry in messages.iter().map_err(fault)? {
                let (key, value) = entry.map_err(fault)?;
                let message = MessageId::new(key.value()).ok_or_else(|| {
                    StoreError::Unreadable("nothing in a queue can have the key 0".into())
                })?;
                visit(message, Summary::open(message, value.value()));
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
        logged: Logged<'_>,
    ) -> Result<(), StoreError> {
        let handle = match &*self.now.read() {
            Now::Open(handle) => Arc::clone(handle),
            Now::Fixed(..) => return Err(StoreError::Closed),
        };
        guarded(|| {
            handle.write(|transaction| {
                let messages = Writer::new(transaction, logged)?.all(frozen)?;
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
                put_meta(&mut meta, Meta::Messages, messages)?;
                if let Some(epoch) = frozen.epoch {
                    put_meta(&mut meta, Meta::Epoch, epoch.number().into())?;
                }
                if frozen.changes.blocks {
                    let record = blocks::seal(&frozen.blocks);
                    meta.insert(BLOCKS, record.as_slice()).map_err(fault)?;
                }
                let record = position.seal(generation);
                meta.insert(POSITION, record.as_slice()).map_err(fault)?;
                Ok((Some(()), ()))
            })
        })?;
        self.forget();
        self.generation.store(generation, Ordering::Relaxed);
        Ok(())
    }
}

/// Reads a record of the log, unproven.
type Logged<'a> = &'a mut dyn FnMut(Place) -> Result<Result<Vec<u8>, Damage>, StoreError>;

/// What a checkpoint does to the rows of messages and envelopes.
struct Writer<'t> {
    messages: Table<'t, u32, &'static [u8]>,
    envelopes: Table<'t, u64, &'static [u8]>,
    logged: Logged<'t>,
}

impl<'t> Writer<'t> {
    fn new(transaction: &'t WriteTransaction, logged: Logged<'t>) -> Result<Self, StoreError> {
        Ok(Self {
            messages: transaction.open_table(MESSAGES).map_err(fault)?,
            envelopes: transaction.open_table(ENVELOPES).map_err(fault)?,
            logged,
        })
    }

    /// Writes all that has changed, in key order; gives how many messages have a summary then. One
    /// table after the other: so pages that a start reads lie together, and not each between those
    /// it does not read.
    fn all(mut self, frozen: &Frozen) -> Result<u64, StoreError> {
        let changes = frozen.changes.envelopes.iter();
        let mut changes: Vec<_> = changes.map(|(id, change)| (*id, *change)).collect();
        changes.sort_unstable_by_key(|(id, _)| *id);
        let heads = self.envelopes(&changes)?;
        let (mut changes, mut heads) = (&*changes, &*heads);
        for (message, filed) in &frozen.messages {
            let changes = own(&mut changes, *message, |(id, _)| id.message());
            let heads = own(&mut heads, *message, |head| head.id.message());
            self.message(*message, filed.as_ref(), changes, heads)?;
        }
        self.messages.len().map_err(fault)
    }

    /// Writes envelopes; gives what the schedule needs of those that have changed, in order.
    fn envelopes(
        &mut self,
        changes: &[(EnvelopeId, Change)],
    ) -> Result<Vec<Scheduled>, StoreError> {
        let mut heads = Vec::new();
        for (id, change) in changes {
            match change {
                Change::Gone => {
                    self.envelopes.remove(id.get()).map_err(fault)?;
                }
                // What cannot be read is written as it is: its reader will notice, and set the
                // message aside.
                Change::At { place, .. } => {
                    if let Ok(record) = (self.logged)(*place)? {
                        let row = record.as_slice();
                        self.envelopes.insert(id.get(), row).map_err(fault)?;
                        heads.extend(record::open_scheduled(*id, &record));
                    }
                }
                Change::Marked(_) => {}
            }
        }
        Ok(heads)
    }

    /// Writes or removes a summary. `heads` are those of its envelopes that have changed.
    fn message(
        &mut self,
        message: MessageId,
        filed: Option<&Filed>,
        changes: &[(EnvelopeId, Change)],
        heads: &[Scheduled],
    ) -> Result<(), StoreError> {
        let Some(Filed {
            location,
            slots,
            discarded,
        }) = filed
        else {
            self.messages.remove(message.get()).map_err(fault)?;
            return Ok(());
        };
        let mut sealed = Vec::with_capacity(slots.len());
        let before = if heads.len() < slots.len() {
            let row = self.messages.get(message.get()).map_err(fault)?;
            row.map(|row| row.value().to_vec())
        } else {
            None
        };
        let before = before.as_deref();
        let before = before.and_then(|record| Summary::open(message, record).ok());
        for slot in slots.all() {
            let id = message.envelope(slot.low);
            let changed = heads.binary_search_by_key(&id, |head| head.id);
            let scheduled = match changed {
                Ok(place) => heads.get(place).copied(),
                // One that has changed, but could not be read, is not as it was before.
                Err(_) if at(changes, id) => None,
                Err(_) => {
                    let head = before.and_then(|before| before.head(slot.low));
                    head.and_then(|head| head.scheduled(message).ok())
                }
            };
            sealed.push(match scheduled {
                Some(scheduled) => Head::new(scheduled, slot.low, slot.marks),
                None => Head::unknown(slot.low),
            });
        }
        let record = Summary::seal(message, *location, &sealed, discarded);
        self.messages
            .insert(message.get(), record.as_slice())
            .map_err(fault)?;
        Ok(())
    }
}

/// Takes what is of a message, or of one before it, off the front of an ordered list.
fn own<'l, T>(
    rest: &mut &'l [T],
    message: MessageId,
    message_of: impl Fn(&T) -> MessageId,
) -> &'l [T] {
    let own = rest.iter().take_while(|one| message_of(one) <= message);
    let end = own.count();
    let (own, behind) = rest.split_at(end);
    *rest = behind;
    own
}

/// Whether the record of an envelope has changed.
fn at(changes: &[(EnvelopeId, Change)], id: EnvelopeId) -> bool {
    let found = changes.binary_search_by_key(&id, |(id, _)| *id);
    let found = found.ok().and_then(|place| changes.get(place));
    matches!(found, Some((_, Change::At { .. })))
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
    let blocks = table.get(BLOCKS).map_err(fault)?;
    let blocks = blocks.map(|row| blocks::open(row.value())).transpose();
    let blocks = blocks.map_err(|damage| StoreError::Unreadable(damage.0))?;
    Ok(Known {
        position: position.map(|(position, _)| position),
        generation: position.map_or(0, |(_, generation)| generation),
        paused: record::paused_from(number(Meta::Paused)?.unwrap_or(0)),
        blocks: Arc::new(blocks.unwrap_or_default()),
        epoch: number(Meta::Epoch)?.and_then(Epoch::from_number),
        messages: number(Meta::Messages)?.unwrap_or(0),
    })
}
