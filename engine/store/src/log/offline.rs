//! Reading the store of a daemon that is stopped, has crashed or still runs.
//!
//! Promises: never writes an octet, needs no right to, works on read-only media, and takes no lock
//! that would delay a daemon's start. After a crash redb's repair and the replay of the log happen
//! in memory. Beside a daemon it shows the queue as of some moment.
//! Absent on purpose: changing anything.
//! Fails: with `Absent` if there is no store, `Version` if it is newer than this program,
//! `Unreadable` if the media do.

use super::control::Controls;
use super::database::Database;
use super::findings::Findings;
use super::open::{self, DATABASE, Loaded, Segments, Verdict};
use super::read::LogReader;
use super::rebuild;
use super::shared::{Shared, io_fault};
use crate::media::{Directory, Media};
use crate::overlay::Overlay;
use crate::redb::{CACHE_OFFLINE, Shared as Handle, fault, guarded};
use ::redb::Builder;
use parking_lot::{Mutex, RwLock};
use redspool_core::queue::StoreError;
use std::path::Path;
use std::sync::Arc;

/// How often a queue that changes while it is opened is opened again.
const TRIES: usize = 5;

/// Octets of a segment; nothing is made here.
const SIZE: u32 = 0;

/// A store opened for reading only.
#[derive(Debug)]
pub struct Offline {
    pub(super) shared: Arc<Shared>,
    findings: Findings,
}

impl Offline {
    /// Opens the store in the directory `spool`.
    pub fn open(spool: &Path) -> Result<Self, StoreError> {
        let media: Arc<dyn Media> = Arc::new(Directory::read_only(spool));
        Self::open_on(&media)
    }

    /// Opens a store on media of the caller's.
    pub fn open_on(media: &Arc<dyn Media>) -> Result<Self, StoreError> {
        let segments = || Segments::read(media, SIZE, &|_| Ok(()));
        let controls = Controls::default();
        let mut last = String::new();
        for left in (0..TRIES).rev() {
            let database = match database(&**media) {
                Ok(database) => database,
                Err(StoreError::Unreadable(why)) => {
                    let loaded = rebuild::rebuild(segments()?, &why, controls)?;
                    return Self::without(StoreError::Unreadable(why), loaded);
                }
                Err(why) => return Err(why),
            };
            match open::load(&**media, &database, segments()?, controls)? {
                Verdict::Sound(loaded) => {
                    if !database.overtaken() {
                        return Ok(Self::assembled(database, *loaded));
                    }
                    last = "it changes faster than it can be read".into();
                }
                Verdict::Rebuild(why) => {
                    // A damaged database looks overtaken, too; it does not change any more.
                    if left > 0 && database.overtaken() {
                        last = why;
                        continue;
                    }
                    let loaded = rebuild::rebuild(segments()?, &why, controls)?;
                    return Ok(Self::assembled(database, loaded));
                }
            }
        }
        Err(StoreError::Io(format!(
            "{last}: a daemon is writing to it, ask it instead"
        )))
    }

    /// What is left when the database cannot be read: everything is in the log.
    fn without(why: StoreError, loaded: Loaded) -> Result<Self, StoreError> {
        if loaded.index.messages.is_empty() && loaded.index.corrupt.is_empty() {
            return Err(why);
        }
        let empty = guarded(|| {
            let memory = ::redb::backends::InMemoryBackend::new();
            let database = Builder::new().create_with_backend(memory).map_err(fault)?;
            Ok(Handle::writable(database))
        })?;
        super::database::initialise(&empty)?;
        Ok(Self::assembled(Database::fixed(empty)?, loaded))
    }

    fn assembled(database: Database, loaded: Loaded) -> Self {
        let shared = Shared {
            index: RwLock::new(loaded.index),
            table: Mutex::new(loaded.table),
            database,
            controls: Controls::default(),
            beside: true,
        };
        Self {
            shared: Arc::new(shared),
            findings: loaded.findings,
        }
    }

    /// A handle for reading.
    pub fn reader(&self) -> LogReader {
        LogReader {
            shared: Arc::clone(&self.shared),
        }
    }

    /// What opening found that was not as it should be.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }
}

/// One commit of the database, read side by side with a daemon if there is one.
fn database(media: &dyn Media) -> Result<Database, StoreError> {
    let file = media.open(DATABASE).map_err(|why| io_fault(&why))?;
    let file = file.ok_or(StoreError::Absent)?;
    let beside = guarded(|| {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_OFFLINE);
        let database = media.read_database(DATABASE, &mut builder).map_err(fault)?;
        Database::fixed(Handle::read_only(database))
    });
    // A file that needs repair, or a filesystem without locks, is read through the overlay.
    match beside {
        Err(
            why @ (StoreError::Locked { .. }
            | StoreError::Unreadable(_)
            | StoreError::Version { .. }),
        ) => Err(why),
        Err(_) => Database::fixed(Overlay::new(file)?.open(CACHE_OFFLINE)?),
        found => found,
    }
}
