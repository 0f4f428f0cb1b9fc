//! Care for the store of a stopped daemon: checking, rebuilding and compacting it.
//!
//! What: what `smtpctl store` does. Checking only reads, also beside a daemon; the others take the
//! lock.
//! Promises: a check reads and proves every record of every message and all contents. What is built
//! anew keeps the old database under another name.
//! Absent on purpose: text for people, beyond a reason.
//! Fails: with `StoreError`; `Locked` while a daemon runs.

use super::database;
use super::findings::Findings;
use super::index::Entry;
use super::offline::Offline;
use super::open::{CACHE, DATABASE};
use super::shared::io_fault;
use super::store::LogStore;
use super::table::Held;
use crate::LOCK_NAME;
use crate::lock::Lock;
use crate::media::{Directory, Media as _};
use redspool_core::id::MessageId;
use redspool_core::queue::{CorruptMessage, Reader as _, StoreError};
use std::ops::Bound;
use std::path::Path;

/// Messages looked up at a time.
const PAGE: usize = 1024;

/// What a check has found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Messages queued or in the trash.
    pub messages: u64,
    /// Their envelopes.
    pub envelopes: u64,
    /// Envelopes of theirs that are in the trash.
    pub trashed: u64,
    /// Octets of their records and contents.
    pub octets: u64,
    /// Messages that are damaged, with the reason.
    pub damaged: Vec<(MessageId, String)>,
    /// The corrupt bucket.
    pub corrupt: Vec<CorruptMessage>,
    /// What opening found.
    pub findings: Findings,
    /// What the segments hold.
    pub held: Held,
}

impl Report {
    /// Whether nothing is damaged. What is in the bucket was known before.
    pub fn sound(&self) -> bool {
        self.damaged.is_empty() && !self.findings.damage()
    }
}

/// What compacting has saved.
#[derive(Clone, Copy, Debug)]
pub struct Compacted {
    /// Octets of segment files before, and after.
    pub segments: (u64, u64),
    /// Octets of the database before, and after.
    pub database: (u64, u64),
}

/// Reads everything in the store at `spool` and proves it. `progress` is told how many messages of
/// how many are done.
pub fn check(spool: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, StoreError> {
    let offline = Offline::open(spool)?;
    let shared = &offline.shared;
    let total = shared.index.read().messages.len() as u64;
    let mut report = Report {
        findings: offline.findings().clone(),
        corrupt: offline.reader().corrupt()?,
        held: shared.table.lock().held(),
        ..Report::default()
    };
    let mut after = Bound::Unbounded;
    loop {
        let page: Vec<(MessageId, Entry)> = {
            let index = shared.index.read();
            let range = index.messages.range((after, Bound::Unbounded));
            range
                .map(|(id, entry)| (*id, entry.clone()))
                .take(PAGE)
                .collect()
        };
        let Some((last, _)) = page.last() else {
            return Ok(report);
        };
        after = Bound::Excluded(*last);
        for (id, entry) in page {
            report.messages += 1;
            let trashed = entry.slots.trashed().len() as u64;
            report.envelopes += entry.slots.len() as u64 - trashed;
            report.trashed += trashed;
            report.octets += u64::from(entry.octets);
            let reason = match shared.prove(id, entry.at)? {
                Err(damage) => Some(damage.0),
                Ok(()) => unreadable(&offline, id, &entry)?,
            };
            report.damaged.extend(reason.map(|reason| (id, reason)));
        }
        progress(report.messages, total);
    }
}

/// Why an envelope of a message cannot be read, if one cannot.
fn unreadable(
    offline: &Offline,
    id: MessageId,
    entry: &Entry,
) -> Result<Option<String>, StoreError> {
    for (envelope, _) in entry.slots.ids(id) {
        match offline.shared.stored(envelope) {
            Ok(_) => {}
            Err(StoreError::Corrupt { reason, .. }) => return Ok(Some(reason)),
            Err(why) => return Err(why),
        }
    }
    Ok(None)
}

/// Builds the database anew from the segments, without opening the old one. Gives what that found.
/// Without a log it is `Unreadable`, and nothing is touched.
pub fn rebuild(spool: &Path) -> Result<Findings, StoreError> {
    let lock = locked(spool)?;
    let store = LogStore::open_locked(spool, lock, Some("it was asked for"))?;
    Ok(store.findings().clone())
}

/// The store of a stopped daemon, to be changed.
pub fn stopped(spool: &Path) -> Result<LogStore, StoreError> {
    LogStore::open_locked(spool, locked(spool)?, None)
}

/// Moves messages together and gives back the disk that nothing needs.
pub fn compact(spool: &Path) -> Result<Compacted, StoreError> {
    let lock = locked(spool)?;
    let mut store = LogStore::open_locked(spool, lock, None)?;
    let (before, after) = store.tighten()?;
    drop(store);
    let _lock = Lock::take(&spool.join(LOCK_NAME))?;
    let media = Directory::new(spool);
    let length = || {
        let file = media.open(DATABASE).map_err(|why| io_fault(&why))?;
        let file = file.ok_or(StoreError::Absent)?;
        file.length().map_err(|why| io_fault(&why))
    };
    let long = length()?;
    database::compact(&media, DATABASE, CACHE)?;
    Ok(Compacted {
        segments: (before.files, after.files),
        database: (long, length()?),
    })
}

/// The lock of a store that exists.
fn locked(spool: &Path) -> Result<Lock, StoreError> {
    let media = Directory::read_only(spool);
    let names = media.names().map_err(|_| StoreError::Absent)?;
    let segment = |name: &String| super::segment::slot_of(name).is_some();
    if !names.iter().any(|name| name == DATABASE || segment(name)) {
        return Err(StoreError::Absent);
    }
    Lock::take(&spool.join(LOCK_NAME))
}
