//! From a directory or other media to an open store.
//!
//! Promises: the lock comes first, then everything that opening promises (`open.rs`); a database
//! built anew is complete and durable before anybody is let in.
//! Absent on purpose: what opening does.
//! Fails: with `Locked`, `Version`, `Full` or `Io`.

use super::database::{self, Database};
use super::heads::Heads;
use super::imports;
use super::open::{self, AHEAD, CACHE, DATABASE, Loaded, Segments, Verdict};
use super::options::Options;
use super::rebuild;
use super::segment;
use super::shared::{Shared, io_fault};
use super::store::{LogStore, Start};
use super::suspect;
use crate::lock::Lock;
use crate::media::{Directory, Media, MediaFile};
use crate::overlay::Overlay;
use crate::redb::CACHE_OFFLINE;
use crate::{LOCK_NAME, directory};
use parking_lot::{Mutex, RwLock};
use redspool_core::queue::StoreError;
use std::path::Path;
use std::sync::Arc;

/// A file system has room for at least so many segments.
const SEGMENTS_MIN: u64 = 32;

/// Octets of a segment, at least, however small the file system is.
const SEGMENT_MIN: u32 = 1 << 20;

impl LogStore {
    /// Opens the store in the directory `spool`, or creates it and the directory.
    pub fn open(spool: &Path) -> Result<Self, StoreError> {
        Self::open_with(spool, Options::default())
    }

    /// The same with other numbers.
    pub fn open_with(spool: &Path, options: Options) -> Result<Self, StoreError> {
        directory::create(spool)
            .map_err(|why| StoreError::Io(format!("{}: {why}", spool.display())))?;
        let lock = Lock::take(&spool.join(LOCK_NAME))?;
        let media: Arc<dyn Media> = Arc::new(Directory::new(spool));
        Self::begin(&media, options, Some(lock), None)
    }

    /// The same with a lock that is held already, and maybe a reason to build the database anew.
    pub(super) fn open_locked(
        spool: &Path,
        lock: Lock,
        anew: Option<&str>,
    ) -> Result<Self, StoreError> {
        let media: Arc<dyn Media> = Arc::new(Directory::new(spool));
        Self::begin(&media, Options::default(), Some(lock), anew)
    }

    /// Opens a store on media of the caller's, or makes one there. There is no lock: for tests.
    pub fn open_on(media: &Arc<dyn Media>, options: Options) -> Result<Self, StoreError> {
        Self::begin(media, options, None, None)
    }

    /// Opens the store; `anew` is a reason to build the database from the log whatever it is like.
    fn begin(
        media: &Arc<dyn Media>,
        options: Options,
        lock: Option<Lock>,
        anew: Option<&str>,
    ) -> Result<Self, StoreError> {
        let options = fitting(&**media, options)?;
        // A file found here may be one whose maker failed before its name was durable.
        media.sync_names().map_err(|why| io_fault(&why))?;
        let controls = options.controls;
        let prepare = |file: &dyn MediaFile| open::settle(file, controls);
        let suspect = suspect::marked(&**media)?;
        let anew = anew.or(suspect.then_some("redb panicked over it"));
        let segments = || Segments::read(media, options.segment, &prepare);
        let sound = if let Some(why) = anew {
            Err(why.to_owned())
        } else {
            sound(media, &options, segments()?)?
        };
        let (database, mut loaded) = match sound {
            Ok(sound) => sound,
            Err(why) => {
                let loaded = rebuild::rebuild(segments()?, &why, controls)?;
                if loaded.last.is_none() {
                    // Without a log there is nothing to build it from: it may be somebody else's.
                    return Err(StoreError::Unreadable(format!(
                        "{why}, and there is no log"
                    )));
                }
                rebuild::put_away(&**media)?;
                open::create(&**media)?;
                let handle = database::handle(&**media, DATABASE, CACHE)?;
                (Database::open(handle), loaded)
            }
        };
        // Before anything can leave the store again.
        let exists = |message| loaded.index.exists(message);
        if let Some(why) = imports::settle(&**media, &exists)? {
            loaded.findings.note(why, []);
        }
        let rebuilt = loaded.known.position.is_none() && !loaded.index.changes.is_empty();
        let mut store = Self::assembled(database, loaded, options, lock)?;
        if rebuilt {
            store.bring_up_to_date()?;
        }
        store.warm();
        if suspect {
            suspect::clear(&**media)?;
        }
        Ok(store)
    }

    fn assembled(
        database: Database,
        loaded: Loaded,
        options: Options,
        lock: Option<Lock>,
    ) -> Result<Self, StoreError> {
        let Loaded {
            index,
            table,
            known,
            findings,
            last,
            number,
            tail,
        } = loaded;
        let shared = Arc::new(Shared {
            index: RwLock::new(index),
            table: Mutex::new(table),
            database,
            controls: options.controls,
            beside: false,
        });
        Self::start(Start {
            shared,
            options,
            findings,
            last,
            number,
            generation: known.generation,
            position: known.position.map_or(0, |position| position.sequence),
            tail,
            lock,
        })
    }
}

/// Database and log, if they go together; else why the database has to be built anew.
fn sound(
    media: &Arc<dyn Media>,
    options: &Options,
    segments: Segments,
) -> Result<Result<(Database, Loaded), String>, StoreError> {
    let database = match opened(media, options, &segments.heads)? {
        Ok(database) => database,
        Err(why) => return Ok(Err(why)),
    };
    match open::load(&**media, &database, segments, options.controls)? {
        Verdict::Sound(loaded) => Ok(Ok((database, *loaded))),
        Verdict::Rebuild(why) => {
            database.close();
            Ok(Err(why))
        }
    }
}

/// The same options with segments that a small file system has room for.
fn fitting(media: &dyn Media, mut options: Options) -> Result<Options, StoreError> {
    let space = media.space().map_err(|why| io_fault(&why))?;
    let share = u32::try_from(space.total / SEGMENTS_MIN).unwrap_or(u32::MAX);
    options.segment = options.segment.min(share.max(SEGMENT_MIN));
    Ok(options)
}

/// Opens the database, or makes one; or says why it has to be built anew.
fn opened(
    media: &Arc<dyn Media>,
    options: &Options,
    heads: &Heads,
) -> Result<Result<Database, String>, StoreError> {
    let failed = |why: std::io::Error| io_fault(&why);
    match media.open(DATABASE).map_err(failed)? {
        None => {
            // Segments are made when there is a database, so it has been lost.
            let names = media.names().map_err(failed)?;
            if names.iter().any(|name| segment::slot_of(name).is_some()) {
                return Ok(Err("it is missing".into()));
            }
            open::create(&**media)?;
        }
        Some(file) => {
            open::settle(&*file, options.controls).map_err(failed)?;
            let length = file.length().map_err(failed)?;
            if length <= AHEAD {
                // Its pages lie in no order that the kernel would see.
                file.expect(0..length);
            }
            // A segment of our format says that the database has it, too. Opening one for writing
            // marks it as open, and after a crash repairs it. So without a segment the format is
            // looked up on a view that keeps all writes in memory.
            if heads.segments.is_empty() {
                match format_of(file) {
                    Ok(()) => {}
                    Err(StoreError::Unreadable(why)) => return Ok(Err(why)),
                    Err(why) => return Err(why),
                }
            }
        }
    }
    match database::handle(&**media, DATABASE, CACHE) {
        Ok(handle) => Ok(Ok(Database::open(handle))),
        Err(StoreError::Unreadable(why)) => Ok(Err(why)),
        Err(why) => Err(why),
    }
}

/// Fails unless the database is one of ours; changes nothing.
fn format_of(file: Arc<dyn MediaFile>) -> Result<(), StoreError> {
    let view = Overlay::new(file)?.open(CACHE_OFFLINE)?;
    Database::fixed(view)?.known().map(|_| ())
}
