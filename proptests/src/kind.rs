//! The stores under test, each opened on recording media.

use crate::judge::{Breach, Promise};
use crate::media::{Backend, Recorder};
use redspool_core::queue::{Store, StoreError};
use redspool_store::{LogStore, Media, Options, RedbStore};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A kind of store.
pub trait Kind {
    /// The store.
    type Store: Store;

    /// Whether a crash leaves all of a group or nothing of it; else any beginning of it.
    fn whole_groups(&self) -> bool;

    /// Opens the store on `media`, or makes one there.
    fn open(&self, media: &Recorder) -> Result<Self::Store, StoreError>;

    /// Damage that opening has found.
    fn damage(store: &Self::Store) -> Option<String>;
}

/// Log stores with these options.
#[derive(Clone, Debug)]
pub struct Logs(pub Options);

impl Kind for Logs {
    type Store = LogStore;

    fn whole_groups(&self) -> bool {
        false
    }

    fn open(&self, media: &Recorder) -> Result<LogStore, StoreError> {
        let media: Arc<dyn Media> = Arc::new(media.clone());
        LogStore::open_on(&media, self.0.clone())
    }

    fn damage(store: &LogStore) -> Option<String> {
        let findings = store.findings();
        findings.damage().then(|| findings.to_string())
    }
}

const NAME: &str = "queue";
const NEW: &str = "queue.new";

/// Stores of redb alone.
#[derive(Clone, Copy, Debug)]
pub struct Redbs;

impl Kind for Redbs {
    type Store = RedbStore;

    fn whole_groups(&self) -> bool {
        true
    }

    fn open(&self, media: &Recorder) -> Result<RedbStore, StoreError> {
        let failed = |why: io::Error| StoreError::Io(why.to_string());
        if media.open(NAME).map_err(failed)?.is_none() {
            // It appears under its name complete, as in a directory.
            let file = media.create(NEW).map_err(failed)?;
            drop(RedbStore::open_on(Backend(Arc::clone(&file)))?);
            let named = file.sync().and_then(|()| media.rename(NEW, NAME));
            named.and_then(|()| media.sync_names()).map_err(failed)?;
        }
        let file = media.open(NAME).map_err(failed)?;
        let file = file.ok_or(StoreError::Absent)?;
        let settled = file.sync().and_then(|()| file.forget());
        settled.map_err(failed)?;
        RedbStore::open_on(Backend(file))
    }

    fn damage(_: &RedbStore) -> Option<String> {
        None
    }
}

/// Runs what touches a store; a panic in it is a breach.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, Breach>) -> Result<T, Breach> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|why| {
        let text = why.downcast_ref::<String>().cloned();
        let text = text.or_else(|| why.downcast_ref::<&str>().map(|&text| text.to_owned()));
        let what = format!("it panicked: {}", text.unwrap_or_default());
        Err(Breach::new(Promise::P1, what))
    })
}
