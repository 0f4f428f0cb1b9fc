//! Opening: lock, sync, forget the page cache, check the version, and only then redb.
//!
//! Promises: a new store appears under its name complete and durable or not at all; a store of a
//! newer format is not modified; what is read afterwards comes from the disk, not from pages that
//! a failed sync left in the cache.
//! Absent on purpose: repair beyond redb's own.
//! Fails: with `Locked`, `Version`, `Unreadable`, `Full` or `Io`.

use super::apply::Apply;
use super::database::{CACHE, Shared, fault, guarded};
use super::read::{RedbReader, format};
use super::{FORMAT, RedbStore};
use crate::lock::Lock;
use crate::overlay::Overlay;
use crate::record::Meta;
use crate::{FILE_NAME, LOCK_NAME, directory};
use ::redb::backends::FileBackend;
use ::redb::{Builder, ConcurrencyMode, Database, StorageBackend};
use redspool_core::queue::{Reader, StoreError};
use rustix::fs::{Advice, fadvise};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

impl RedbStore {
    /// Opens the store in the directory `spool`, or creates it and the directory.
    pub fn open(spool: &Path) -> Result<Self, StoreError> {
        let at = |path: &Path, why: io::Error| io_at(path, &why);
        directory::create(spool).map_err(|why| at(spool, why))?;
        let lock = Lock::take(&spool.join(LOCK_NAME))?;
        let path = spool.join(FILE_NAME);
        let file = match open_file(&path) {
            Err(why) if why.kind() == ErrorKind::NotFound => {
                create(spool, &path)?;
                open_file(&path)
            }
            opened => opened,
        };
        let file = file.map_err(|why| at(&path, why))?;
        settle_cache(&file).map_err(|why| at(&path, why))?;
        check_version(&file)?;
        let database = database(file)?;
        Self::from_database(database, Some(lock))
    }

    /// Opens a store on a backend of the caller's, or makes one on an empty backend. There is no
    /// lock and no protection of newer formats: for tests.
    pub fn open_on(backend: impl StorageBackend) -> Result<Self, StoreError> {
        let database = guarded(|| {
            let mut builder = Builder::new();
            builder.set_cache_size(CACHE);
            builder.create_with_backend(backend).map_err(fault)
        })?;
        Self::from_database(database, None)
    }

    fn from_database(database: Database, lock: Option<Lock>) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::writable(database));
        match guarded(|| format(&shared))? {
            0 => initialise(&shared)?,
            FORMAT => {}
            found => return Err(version(found)),
        }
        let reader = RedbReader::new(Arc::clone(&shared));
        Ok(Self {
            dead: false,
            epoch: reader.epoch()?,
            generation: reader.generation()?,
            shared,
            _lock: lock,
        })
    }
}

pub(crate) fn version(found: u32) -> StoreError {
    StoreError::Version {
        found,
        known: FORMAT,
    }
}

fn io_at(path: &Path, why: &io::Error) -> StoreError {
    match fault(::redb::Error::Io(io::Error::from(why.kind()))) {
        StoreError::Full => StoreError::Full,
        _ => StoreError::Io(format!("{}: {why}", path.display())),
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Makes an empty store under another name and gives it its own when it is complete.
fn create(spool: &Path, path: &Path) -> Result<(), StoreError> {
    let new = spool.join("queue.redb.new");
    let failed = |why: io::Error| io_at(&new, &why);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(failed)?;
    let durable = file.try_clone().map_err(failed)?;
    let shared = Shared::writable(database(file)?);
    initialise(&shared)?;
    shared.close();
    durable.sync_all().map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)?;
    File::open(spool)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}

/// Creates the tables.
fn initialise(shared: &Shared) -> Result<(), StoreError> {
    let work = |transaction: &_| {
        let mut apply = Apply::new(transaction, None)?;
        apply.put_meta(Meta::Format, FORMAT.into())?;
        apply.close(None, 0)?;
        Ok((Some(()), ()))
    };
    shared.write(work).map(|_| ())
}

/// After a failed sync the page cache may show what the disk does not have. So: sync, which fails
/// if the file cannot be trusted, then drop the pages and read the disk.
fn settle_cache(file: &File) -> io::Result<()> {
    file.sync_all()?;
    fadvise(file, 0, None, Advice::DontNeed)?;
    Ok(())
}

/// Opening a database for writing marks it as open, and after a crash repairs it. So the format is
/// looked up on a view that keeps all writes in memory.
fn check_version(file: &File) -> Result<(), StoreError> {
    let file = file.try_clone();
    let file = file.map_err(|why| fault(::redb::Error::Io(why)))?;
    let view = Overlay::new(Arc::new(file))?;
    let shared = view.open(CACHE)?;
    match guarded(|| format(&shared))? {
        found if found > FORMAT => Err(version(found)),
        _ => Ok(()),
    }
}

fn database(file: File) -> Result<Database, StoreError> {
    guarded(|| {
        let backend = FileBackend::new(file).map_err(fault)?;
        let mut builder = Builder::new();
        builder
            .set_cache_size(CACHE)
            .set_concurrency_mode(ConcurrencyMode::SingleWriter);
        builder.create_with_backend(backend).map_err(fault)
    })
}
