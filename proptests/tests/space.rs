//! A full disk: what is queued can be delivered and taken note of to the last message, new mail is
//! refused, and comes in again with the space.

use redspool_core::queue::{
    Body, Change, Reader as _, Receipt, Settlement, Store as _, StoreError, Transition,
};
use redspool_core::space::Space;
use redspool_core::time::Timestamp;
use redspool_proptests::mail;
use redspool_store::{Directory, LogStore, Media, MediaFile, Options};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Result};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tempfile::TempDir;

/// Blocks of the file system.
const BLOCKS: usize = 8192;

/// Octets of a block.
const BLOCK: u64 = 4096;

/// A directory on a small file system, which has a block for what was written and what was set
/// apart, and none for holes.
#[derive(Clone, Debug)]
struct Small {
    directory: Directory,
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug)]
struct Disk {
    /// In blocks.
    size: usize,
    /// Blocks of each file.
    files: BTreeMap<String, BTreeSet<u64>>,
}

impl Disk {
    fn used(&self) -> usize {
        self.files.values().map(BTreeSet::len).sum()
    }

    fn take(&mut self, name: &str, octets: Range<u64>) -> Result<()> {
        let wanted: Vec<_> = (octets.start / BLOCK..octets.end.div_ceil(BLOCK)).collect();
        let has = self.files.entry(name.to_owned()).or_default();
        let new = wanted.iter().filter(|block| !has.contains(block)).count();
        if new > 0 && self.used() + new > self.size {
            return Err(ErrorKind::StorageFull.into());
        }
        self.files
            .entry(name.to_owned())
            .or_default()
            .extend(wanted);
        Ok(())
    }

    fn cut(&mut self, name: &str, length: u64) {
        let blocks = self.files.entry(name.to_owned()).or_default();
        blocks.retain(|block| *block < length.div_ceil(BLOCK));
    }
}

impl Small {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("nobody panics with it")
    }

    fn file(&self, name: &str, file: Arc<dyn MediaFile>) -> Arc<dyn MediaFile> {
        Arc::new(Counted {
            file,
            name: name.to_owned(),
            small: self.clone(),
        })
    }
}

impl Media for Small {
    fn names(&self) -> Result<Vec<String>> {
        self.directory.names()
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn MediaFile>>> {
        let file = self.directory.open(name)?;
        Ok(file.map(|file| self.file(name, file)))
    }

    fn create(&self, name: &str) -> Result<Arc<dyn MediaFile>> {
        let file = self.directory.create(name)?;
        self.disk().cut(name, 0);
        Ok(self.file(name, file))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.directory.rename(from, to)?;
        let mut disk = self.disk();
        let blocks = disk.files.remove(from).unwrap_or_default();
        disk.files.insert(to.to_owned(), blocks);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.directory.remove(name)?;
        self.disk().files.remove(name);
        Ok(())
    }

    fn sync_names(&self) -> Result<()> {
        self.directory.sync_names()
    }

    fn space(&self) -> Result<Space> {
        let disk = self.disk();
        let octets = |blocks: usize| blocks as u64 * BLOCK;
        Ok(Space {
            free: octets(disk.size.saturating_sub(disk.used())),
            total: octets(disk.size),
            files: u64::MAX,
        })
    }
}

#[derive(Debug)]
struct Counted {
    file: Arc<dyn MediaFile>,
    name: String,
    small: Small,
}

impl MediaFile for Counted {
    fn length(&self) -> Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length: u64) -> Result<()> {
        self.small.disk().cut(&self.name, length);
        self.file.set_length(length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        self.file.read(offset, out)
    }

    fn write(&self, offset: u64, parts: &[&[u8]]) -> Result<()> {
        let octets: usize = parts.iter().map(|part| part.len()).sum();
        let range = offset..offset + octets as u64;
        self.small.disk().take(&self.name, range)?;
        self.file.write(offset, parts)
    }

    fn reserve(&self, length: u64) -> Result<()> {
        self.small.disk().take(&self.name, 0..length)
    }

    /// The files last as long as the test.
    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn forget(&self) -> Result<()> {
        Ok(())
    }
}

/// A store on a file system that others can fill.
struct Rig {
    small: Small,
    store: LogStore,
    queued: Vec<u32>,
    next: u32,
    _place: TempDir,
}

impl Rig {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory can be made");
        let small = Small {
            directory: Directory::new(place.path()),
            disk: Arc::new(Mutex::new(Disk {
                size: BLOCKS,
                files: BTreeMap::new(),
            })),
        };
        let media: Arc<dyn Media> = Arc::new(small.clone());
        let options = Options {
            segment: 1 << 20,
            checkpoint_octets: 384 << 10,
            // One that failed is tried again.
            checkpoint_interval: Duration::ZERO,
            tail: 2 << 20,
            large: 64 << 10,
            ..Options::small()
        };
        let store = LogStore::open_on(&media, options).expect("there is room");
        Self {
            small,
            store,
            queued: Vec::new(),
            next: 0,
            _place: place,
        }
    }

    /// The whole disk is taken by others, or not.
    fn others(&self, take: bool) {
        let mut disk = self.small.disk();
        disk.size = if take { disk.used() } else { BLOCKS };
    }

    fn commit(&mut self, transition: Transition) -> std::result::Result<Receipt, StoreError> {
        let prepared = self.store.prepare(transition)?;
        let receipts = self.store.commit(vec![prepared])?;
        self.store.tick()?;
        Ok(receipts.into_iter().next().expect("one receipt each"))
    }

    fn submit(&mut self) -> std::result::Result<(), StoreError> {
        self.next += 1;
        let message = mail::message(self.next);
        let body = Body::Whole(mail::content(message, 20_000));
        let receipt = self.commit(Transition::Submit(mail::submission(message, 1, body)))?;
        assert_eq!(receipt, Receipt::Done);
        self.queued.push(self.next);
        Ok(())
    }

    fn submit_until_full(&mut self) {
        loop {
            match self.submit() {
                Ok(()) => {}
                Err(StoreError::Full) => break,
                Err(why) => panic!("message {}: {why}", self.next),
            }
        }
        assert!(self.store.survived(), "no space is no reason to stop");
    }

    fn settle(&mut self, number: u32, change: Change) {
        let settlement = Settlement {
            envelope: mail::envelope_id(mail::message(number), 1),
            change,
            bounce: None,
        };
        let receipt = self.commit(Transition::Settle(vec![settlement]));
        assert_eq!(receipt, Ok(Receipt::Done), "settling message {number}");
    }

    fn deliver_all(&mut self) {
        let queued = std::mem::take(&mut self.queued);
        for number in &queued {
            self.settle(
                *number,
                Change::Retry {
                    retry: 1,
                    last_try: Timestamp::from_secs(1_700_000_100),
                    status: None,
                    errorline: "try again".into(),
                    via: None,
                    warned: None,
                },
            );
        }
        for number in queued {
            self.settle(number, Change::Done);
        }
    }

    fn listed(&self) -> Vec<u32> {
        let mut listed = Vec::new();
        let reader = self.store.reader();
        let walked = reader.walk(&mut |walked| {
            let message = walked.expect("nothing is damaged").id.message();
            listed.push((message.get() - mail::message(0).get()) / 0x8000);
        });
        walked.expect("the queue can be read");
        listed
    }
}

#[test]
fn what_is_queued_is_settled_on_a_full_disk() {
    for round in 0..3 {
        let mut rig = Rig::new();
        for _ in 0..20 * (1 + round) {
            rig.submit().expect("there is room");
        }
        rig.others(true);
        rig.submit_until_full();
        assert_eq!(rig.listed(), rig.queued);
        rig.deliver_all();
        assert_eq!(rig.listed(), []);
        rig.others(false);
        for _ in 0..100 {
            rig.submit().expect("there is room again");
        }
        assert_eq!(rig.listed(), rig.queued);
    }
}

#[test]
fn mail_fills_a_disk_and_what_is_queued_can_still_be_settled() {
    let mut rig = Rig::new();
    rig.submit_until_full();
    let full = rig.queued.len();
    assert!(full > 500, "{full}");
    assert_eq!(rig.listed(), rig.queued);
    rig.deliver_all();
    assert_eq!(rig.listed(), []);
    // What was delivered gives its room back.
    rig.submit_until_full();
    assert!(
        rig.queued.len() > full / 2,
        "{} of {full}",
        rig.queued.len()
    );
}
