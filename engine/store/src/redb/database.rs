//! The database handle that the writer and all readers share, and the meaning of redb's errors.
//!
//! Promises: when the handle is closed, readers get `Closed` and none keeps the file open, so a
//! store can be opened anew while sessions still hold readers.
//! Absent on purpose: tables and records.
//! Fails: with `StoreError`. redb may panic on a page altered outside it; for a reader that is
//! `Unreadable`.

use ::redb::{
    CommitError, Database, Durability, Error, ReadOnlyDatabase, ReadTransaction, ReadableDatabase,
    WriteTransaction,
};
use parking_lot::RwLock;
use redspool_core::queue::StoreError;
use std::fmt;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Octets of redb's page cache in a daemon.
pub(super) const CACHE: usize = 128 << 20;

/// Octets of redb's page cache for reading a stopped daemon's store.
pub(crate) const CACHE_OFFLINE: usize = 32 << 20;

/// An open database, until it is closed.
pub(crate) struct Shared(RwLock<Option<Handle>>);

enum Handle {
    Writable(Database),
    ReadOnly(ReadOnlyDatabase),
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    pub(crate) fn writable(database: Database) -> Self {
        Self(RwLock::new(Some(Handle::Writable(database))))
    }

    pub(crate) fn read_only(database: ReadOnlyDatabase) -> Self {
        Self(RwLock::new(Some(Handle::ReadOnly(database))))
    }

    /// Closes the database. Transactions of readers that still run fail with `Closed`.
    pub(crate) fn close(&self) {
        let handle = self.0.write().take();
        drop(handle);
    }

    /// Closes the database without the last commit that redb makes when it is closed. That could
    /// meet damage, and would be for nothing: this is a view in memory.
    pub(crate) fn abandon(&self) {
        let handle = self.0.write().take();
        // To redb it looks as if we panicked, and then it writes nothing.
        let unwinding = catch_unwind(AssertUnwindSafe(move || {
            let _handle = handle;
            resume_unwind(Box::new(()));
        }));
        drop(unwinding);
    }

    /// Begins a snapshot; the handle is free again when this returns.
    pub(crate) fn snapshot(&self) -> Result<ReadTransaction, StoreError> {
        let begun = match &*self.0.read() {
            Some(Handle::Writable(database)) => database.begin_read(),
            Some(Handle::ReadOnly(database)) => database.begin_read(),
            None => return Err(StoreError::Closed),
        };
        begun.map_err(fault)
    }

    /// Runs `work` in one durable transaction. If it gives no epoch it changed nothing, and the
    /// transaction is dropped without touching the disk.
    pub(crate) fn write<C, T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(Option<C>, T), StoreError>,
    ) -> Result<(Option<C>, T), StoreError> {
        let guard = self.0.read();
        let Some(Handle::Writable(database)) = &*guard else {
            return Err(StoreError::Closed);
        };
        let mut transaction = database.begin_write().map_err(fault)?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(fault)?;
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        let (changed, value) = work(&transaction)?;
        if changed.is_some() {
            transaction
                .commit()
                .map_err(|why: CommitError| fault(why))?;
        } else {
            transaction.abort().map_err(fault)?;
        }
        Ok((changed, value))
    }
}

/// What an error of redb means to us.
pub(crate) fn fault(why: impl Into<Error>) -> StoreError {
    match why.into() {
        Error::Io(why) => match why.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                StoreError::Full
            }
            // What it refers to lies behind its end.
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => damaged(&why.to_string()),
            _ => StoreError::Io(why.to_string()),
        },
        Error::PreviousIo => StoreError::Poisoned,
        Error::DatabaseClosed => StoreError::Closed,
        Error::DatabaseAlreadyOpen => StoreError::Locked { holder: None },
        Error::Corrupted(why) => damaged(&why),
        why @ (Error::TableDoesNotExist(_)
        | Error::TableTypeMismatch { .. }
        | Error::TableIsMultimap(_)
        | Error::TypeDefinitionChanged { .. }
        | Error::LockPoisoned(_)
        | Error::UpgradeRequired(_)) => damaged(&why.to_string()),
        why => StoreError::Io(why.to_string()),
    }
}

fn damaged(why: &str) -> StoreError {
    StoreError::Unreadable(format!(
        "{why}; stop the daemon, keep a copy of the file, and restore the spool from a backup or \
         move the file away to start with an empty queue"
    ))
}

/// Runs a reading operation; a panic of redb on a damaged page is an error like any other.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(damaged("a page is damaged")))
}
