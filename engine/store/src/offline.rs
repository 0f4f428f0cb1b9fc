//! Reading the store of a daemon that is stopped, has crashed or still runs.
//!
//! Promises: never writes an octet, needs no right to, works on read-only media, and takes no lock
//! that would delay a daemon's start. After a crash redb's repair happens in memory.
//! Absent on purpose: changing anything.
//! Fails: with `Absent` if there is no store, `Version` if it is newer than this program,
//! `Unreadable` if it is damaged.

use crate::FILE_NAME;
use crate::overlay::Overlay;
use crate::redb::{CACHE_OFFLINE, FORMAT, RedbReader, Shared, fault, format, guarded, version};
use ::redb::backends::FileBackend;
use ::redb::{Builder, ConcurrencyMode};
use redspool_core::queue::StoreError;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

/// A store opened for reading only.
#[derive(Debug)]
pub struct Offline {
    shared: Arc<Shared>,
}

impl Offline {
    /// Opens the store in the directory `spool`.
    pub fn open(spool: &Path) -> Result<Self, StoreError> {
        let path = spool.join(FILE_NAME);
        let open = || {
            File::open(&path).map_err(|why| match why.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => StoreError::Absent,
                _ => StoreError::Io(format!("{}: {why}", path.display())),
            })
        };
        // Side by side with a daemon, or after a clean stop, redb reads the file as it is. A file
        // that needs repair, or a filesystem without locks, is read through the overlay.
        let shared = match beside(open()?) {
            Ok(shared) => shared,
            Err(why @ (StoreError::Locked { .. } | StoreError::Unreadable(_))) => return Err(why),
            Err(_) => Overlay::new(open()?)?.open(CACHE_OFFLINE)?,
        };
        match guarded(|| format(&shared))? {
            0 => Err(StoreError::Absent),
            found if found > FORMAT => Err(version(found)),
            _ => Ok(Self {
                shared: Arc::new(shared),
            }),
        }
    }

    /// A handle for reading.
    pub fn reader(&self) -> RedbReader {
        RedbReader::new(Arc::clone(&self.shared))
    }
}

/// Opens the file as one of the readers beside a single writer.
fn beside(file: File) -> Result<Shared, StoreError> {
    guarded(|| {
        let backend = FileBackend::new(file).map_err(fault)?;
        let mut builder = Builder::new();
        builder
            .set_cache_size(CACHE_OFFLINE)
            .set_concurrency_mode(ConcurrencyMode::SingleWriter);
        let database = builder.open_read_only_with_backend(backend);
        Ok(Shared::read_only(database.map_err(fault)?))
    })
}
