//! The store on one redb database.
//!
//! What: every transition is applied to five tables; a group is one redb transaction.
//! Promises: two-phase commits with quick-repair, nothing acknowledged before the last sync; a
//! record that fails its proof inside a group moves its message to the corrupt bucket within the
//! same group; an error ends the handle.
//! Absent on purpose: retries on the same handle, a table of due times.
//! Fails: with `StoreError`; then every commit gives `Poisoned` until the store is opened anew.

mod apply;
mod database;
mod open;
mod prepare;
mod read;
mod trash;

use self::apply::Apply;
pub(crate) use self::database::{CACHE_OFFLINE, Shared, fault, guarded};
pub use self::prepare::Prepared;
pub use self::read::RedbReader;
use crate::lock::Lock;
use ::redb::TableDefinition;
use redspool_core::id::Epoch;
use redspool_core::queue::{Prepare, Receipt, Store, StoreError, Transition};
use std::sync::Arc;

/// Newest format this program knows; kept in the store, see DESIGN.md.
pub(crate) const FORMAT: u32 = 1;

type Definition<K> = TableDefinition<'static, K, &'static [u8]>;

/// Envelope-id to envelope record; message-id with a lower half of zero to message record. So all
/// of a message is one range, and a submission touches one page where two tables would cost two.
const QUEUE: Definition<u64> = TableDefinition::new("queue");
/// Place to body record, of queued and of corrupt messages. Places count up, so contents that
/// arrive together lie together, whatever their ids.
const BODIES: Definition<u64> = TableDefinition::new("bodies");
/// Message-id to corrupt bucket record.
const CORRUPT: Definition<u32> = TableDefinition::new("corrupt");
/// Keys and records of `QUEUE` as they were found, of corrupt messages.
const CORRUPT_QUEUE: Definition<u64> = TableDefinition::new("corrupt_queue");
/// Envelope-id to the record of an envelope in the trash; its message is in `QUEUE`.
const TRASH: Definition<u64> = TableDefinition::new("trash");
/// `record::Meta` to its record, and `BLOCKS` to that of sources and domains kept apart.
const META: Definition<u32> = TableDefinition::new("meta");
const BLOCKS: u32 = 0x101;

/// A queue store on one redb database.
#[derive(Debug)]
pub struct RedbStore {
    shared: Arc<Shared>,
    /// An earlier commit failed.
    dead: bool,
    epoch: Option<Epoch>,
    generation: u64,
    /// Held while the database is open; none for a backend of the caller's.
    _lock: Option<Lock>,
}

/// Encodes transitions for a [`RedbStore`].
#[derive(Clone, Copy, Debug)]
pub struct RedbPreparer;

impl Prepare for RedbPreparer {
    type Prepared = Prepared;

    fn prepare(&self, transition: Transition) -> Result<Prepared, StoreError> {
        Prepared::new(transition)
    }
}

impl Store for RedbStore {
    type Reader = RedbReader;
    type Prepared = Prepared;
    type Preparer = RedbPreparer;

    fn preparer(&self) -> RedbPreparer {
        RedbPreparer
    }

    fn weight(prepared: &Prepared) -> usize {
        prepared.weight()
    }

    fn commit(&mut self, group: Vec<Prepared>) -> Result<Vec<Receipt>, StoreError> {
        if self.dead {
            return Err(StoreError::Poisoned);
        }
        let result = self.shared.write(|transaction| {
            let mut apply = Apply::new(transaction, self.epoch)?;
            let receipts = apply.group(group)?;
            if !apply.changed() {
                return Ok((None, receipts));
            }
            let epoch = apply.epoch();
            apply.close(self.epoch, self.generation + 1)?;
            Ok((Some(epoch), receipts))
        });
        match result {
            Ok((epoch, receipts)) => {
                if let Some(epoch) = epoch {
                    self.epoch = epoch;
                    self.generation += 1;
                }
                Ok(receipts)
            }
            Err(why) => {
                self.dead = true;
                Err(why)
            }
        }
    }

    fn reader(&self) -> RedbReader {
        RedbReader::new(Arc::clone(&self.shared))
    }
}

impl Drop for RedbStore {
    /// Readers that are left get `Closed`; the database is gone before the lock is.
    fn drop(&mut self) {
        self.shared.close();
    }
}

#[cfg(test)]
mod tests;
