//! Opens the store, at the start and again after an error.
//!
//! Promises: what is found on the way is in the log, and counted for `show status`.

use parking_lot::Mutex;
use redspool_core::control::OpeningRow;
use redspool_core::queue::StoreError;
use redspool_store::{GroupCommit, LogStore};
use std::path::Path;
use std::sync::Arc;

/// What the last opening found.
#[derive(Clone, Debug, Default)]
pub struct Opening(Arc<Mutex<OpeningRow>>);

impl Opening {
    /// As it is shown.
    pub fn row(&self) -> OpeningRow {
        *self.0.lock()
    }

    /// Opens the store and tells what is found.
    fn open(&self, spool: &Path) -> Result<LogStore, StoreError> {
        let store = LogStore::open(spool)?;
        let found = store.findings().all();
        for finding in found {
            let damage = finding.damage;
            if damage {
                tracing::warn!("queue damage={damage} finding=\"{finding}\"");
            } else {
                tracing::info!("queue damage={damage} finding=\"{finding}\"");
            }
        }
        let damage = found.iter().filter(|finding| finding.damage).count();
        *self.0.lock() = OpeningRow {
            damage: u32::try_from(damage).unwrap_or(u32::MAX),
            back_in_time: store.findings().back_in_time(),
        };
        Ok(store)
    }
}

/// Opens the store in `spool`, and whenever it fails again.
pub fn open(spool: &Path) -> Result<(GroupCommit, Opening), StoreError> {
    redspool_store::watch(spool);
    let opening = Opening::default();
    let store = opening.open(spool)?;
    let (again, spool) = (opening.clone(), spool.to_path_buf());
    let queue = GroupCommit::start(store, move || again.open(&spool))?;
    Ok((queue, opening))
}

/// What to do about a store that does not open.
pub fn unopened(spool: &Path, error: &StoreError) -> String {
    let hint = match error {
        StoreError::Locked { .. } => "stop that one first, or name another --spool",
        StoreError::Version { .. } => "start the newer program again; nothing was changed",
        StoreError::Io(_) => "check that the directory exists, is writable and has space",
        StoreError::Full => "make space on its file system",
        _ => "keep the directory as it is and look at it with `smtpctl --spool DIR show queue`",
    };
    format!("queue in {}: {error}; {hint}", spool.display())
}
