//! Who is measured: our stores, and the layouts and databases they are compared with.
//!
//! Promises: each rival makes durable what its model's promise would need, and no more, and is
//! written as well as its model: nobody is slowed to make us look fast.
//! Absent on purpose: RocksDB. Its crate compiles the whole C++ library, for which two cores need
//! more than ten minutes, and needs libclang besides. SQLite comes with the feature `rivals`.

mod batch;
mod envelope_files;
mod files;
mod frame;
mod log;
mod message_files;
mod pool;
#[cfg(feature = "rivals")]
mod sqlite;
mod stores;

use crate::queue::Queue;
use redspool_store::{LogStore, RedbStore};
use std::io;
use std::path::Path;

/// What a rival is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is measured: all that is answered is durable.
    Measure,
    /// It is filled before it is measured: files are not synced one by one.
    Fill,
}

/// What can be asked of a rival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Takes mail and cannot find it again: the limit of the disk.
    Log,
    /// A queue of files: no listing of millions.
    Files,
    /// A store or database: everything.
    Store,
}

/// One row of every table.
#[derive(Clone, Copy, Debug)]
pub struct Rival {
    /// Its name in tables and options.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// What can be asked of it.
    pub kind: Kind,
    open: fn(&Path, Purpose) -> io::Result<Box<dyn Queue>>,
}

impl Rival {
    /// Opens its queue in the directory `spool`, made anew if there is none.
    pub fn open(&self, spool: &Path, purpose: Purpose) -> io::Result<Box<dyn Queue>> {
        (self.open)(spool, purpose)
    }

    /// Threads that play so many clients: a few, but one for each where a mail server has a process
    /// for each, which writes its files itself.
    pub fn players(&self, waiting: usize, few: usize) -> usize {
        if self.kind == Kind::Files {
            waiting
        } else {
            few
        }
    }
}

/// All that are built in; a store of ours is one row.
pub const RIVALS: &[Rival] = &[
    Rival {
        name: "log",
        about: "LogStore: a commit log in front, redb behind; the store of the daemon",
        kind: Kind::Store,
        open: |spool, _| stores::open(spool, LogStore::open),
    },
    Rival {
        name: "redb",
        about: "RedbStore: redb alone, group commit",
        kind: Kind::Store,
        open: |spool, _| stores::open(spool, RedbStore::open),
    },
    Rival {
        name: "bare-log",
        about: "one recycled file, one pwrite and one fdatasync per group, nothing else",
        kind: Kind::Log,
        open: |spool, _| log::open(spool),
    },
    Rival {
        name: "message-file",
        about: "a file per message as Postfix keeps it: write, fsync, rename",
        kind: Kind::Files,
        open: message_files::open,
    },
    Rival {
        name: "envelope-files",
        about: "a directory per message, a file per envelope as OpenSMTPD keeps it, with fsync",
        kind: Kind::Files,
        open: envelope_files::open,
    },
    #[cfg(feature = "rivals")]
    Rival {
        name: "sqlite",
        about: "SQLite, WAL, synchronous=FULL, group commit",
        kind: Kind::Store,
        open: |spool, _| sqlite::open(spool),
    },
];

/// Rivals of this list that are not built in, with the reason; the table says so.
pub const LEFT_OUT: &[(&str, &str)] = &[
    #[cfg(not(feature = "rivals"))]
    ("sqlite", "built with `--features rivals` only"),
    (
        "rocksdb",
        "its crate compiles for more than ten minutes on two cores",
    ),
];

/// The rival of this name.
pub fn named(name: &str) -> Option<&'static Rival> {
    RIVALS.iter().find(|rival| rival.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{End, Mailbag};
    use crate::spool::scratch;
    use crate::work::settle;
    use redspool_core::id::Epoch;
    use std::sync::mpsc;

    #[test]
    fn every_rival_keeps_defers_and_forgets_mail() {
        for rival in RIVALS {
            let spool = scratch(None).unwrap();
            let bag = Mailbag::new(70_000, 3, Epoch::new(1));
            let queue = rival.open(spool.path(), Purpose::Measure).unwrap();
            let (mail, submission) = bag.next();
            let (done, result) = mpsc::channel();
            queue.submit(submission, Box::new(move |r| done.send(r).unwrap()));
            result.recv().unwrap().unwrap();
            settle::settle(&*queue, &bag, &[mail], End::Deferred, 1).unwrap();
            drop(queue);
            // It is still there after a restart, and not after its delivery.
            let queue = rival.open(spool.path(), Purpose::Measure).unwrap();
            if rival.kind > Kind::Log {
                assert_eq!(queue.load(mail).unwrap(), bag.size(), "{}", rival.name);
            }
            settle::settle(&*queue, &bag, &[mail], End::Delivered, 1).unwrap();
            if rival.kind > Kind::Log {
                assert!(queue.load(mail).is_err(), "{}", rival.name);
            }
        }
    }

    #[test]
    fn listings_are_complete_and_in_order() {
        for rival in RIVALS.iter().filter(|rival| rival.kind == Kind::Store) {
            let spool = scratch(None).unwrap();
            let bag = Mailbag::new(100, 2, Epoch::new(1));
            let queue = rival.open(spool.path(), Purpose::Measure).unwrap();
            let mut ids = Vec::new();
            for _ in 0..10 {
                let (mail, submission) = bag.next();
                let (done, result) = mpsc::channel();
                queue.submit(submission, Box::new(move |r| done.send(r).unwrap()));
                result.recv().unwrap().unwrap();
                ids.extend(mail.envelopes());
            }
            ids.sort_unstable();
            let listing = queue.listing().unwrap();
            let first = listing.page(None, 7).unwrap();
            let rest = listing.page(first.last().map(|e| e.id), 100).unwrap();
            let listed: Vec<_> = first.iter().chain(&rest).map(|e| e.id).collect();
            assert_eq!(listed, ids, "{}", rival.name);
            let mut walked = Vec::new();
            listing.walk(&mut |s| walked.push(s.id)).unwrap();
            assert_eq!(walked, listed, "{}", rival.name);
            assert!(listing.exists(ids[0].message()).unwrap());
        }
    }
}
