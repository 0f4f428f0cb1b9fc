//! The conformance suite on every store, and on one that answers too early.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use redspool_core::queue::{Receipt, Store, StoreError, Transition};
use redspool_proptests::conformance::{Place, conformance};
use redspool_store::{LogStore, MemPreparer, MemReader, MemStore, Options, RedbStore};
use tempfile::TempDir;

struct Memory;

impl Place for Memory {
    type Store = MemStore;

    fn fresh() -> (Self, MemStore) {
        (Self, MemStore::new())
    }

    fn reopen(&mut self, store: MemStore) -> MemStore {
        store
    }
}

struct Spool(TempDir);

impl Place for Spool {
    type Store = RedbStore;

    fn fresh() -> (Self, RedbStore) {
        let spool = tempfile::tempdir().unwrap();
        let store = RedbStore::open(spool.path()).unwrap();
        (Self(spool), store)
    }

    fn reopen(&mut self, store: RedbStore) -> RedbStore {
        drop(store);
        RedbStore::open(self.0.path()).unwrap()
    }
}

/// A log store of which everything happens at once, in order.
struct Inline(TempDir);

impl Place for Inline {
    type Store = LogStore;

    fn fresh() -> (Self, LogStore) {
        let spool = tempfile::tempdir().unwrap();
        let store = LogStore::open_with(spool.path(), Options::small()).unwrap();
        (Self(spool), store)
    }

    fn reopen(&mut self, mut store: LogStore) -> LogStore {
        store.tick().unwrap();
        drop(store);
        LogStore::open_with(self.0.path(), Options::small()).unwrap()
    }
}

/// A log store with threads of its own.
struct Threaded(TempDir);

fn threaded() -> Options {
    Options {
        inline: false,
        ..Options::small()
    }
}

impl Place for Threaded {
    type Store = LogStore;

    fn fresh() -> (Self, LogStore) {
        let spool = tempfile::tempdir().unwrap();
        let store = LogStore::open_with(spool.path(), threaded()).unwrap();
        (Self(spool), store)
    }

    fn reopen(&mut self, mut store: LogStore) -> LogStore {
        store.tick().unwrap();
        drop(store);
        LogStore::open_with(self.0.path(), threaded()).unwrap()
    }
}

#[test]
fn the_log_store_conforms() {
    conformance::<Inline>();
}

#[test]
fn the_log_store_with_threads_conforms() {
    conformance::<Threaded>();
}

#[test]
fn the_memory_store_conforms() {
    conformance::<Memory>();
}

#[test]
fn the_redb_store_conforms() {
    conformance::<Spool>();
}

/// Hands out its receipts before the group is committed: with the next group.
struct Hasty {
    inner: MemStore,
    late: Vec<Transition>,
}

impl Store for Hasty {
    type Reader = MemReader;
    type Prepared = Transition;
    type Preparer = MemPreparer;

    fn preparer(&self) -> MemPreparer {
        MemPreparer
    }

    fn weight(prepared: &Transition) -> usize {
        MemStore::weight(prepared)
    }

    fn commit(&mut self, group: Vec<Transition>) -> Result<Vec<Receipt>, StoreError> {
        let receipts = vec![Receipt::Done; group.len()];
        let late = std::mem::replace(&mut self.late, group);
        self.inner.commit(late)?;
        Ok(receipts)
    }

    fn reader(&self) -> MemReader {
        self.inner.reader()
    }
}

struct Hurry;

impl Place for Hurry {
    type Store = Hasty;

    fn fresh() -> (Self, Hasty) {
        let inner = MemStore::new();
        let late = Vec::new();
        (Self, Hasty { inner, late })
    }

    fn reopen(&mut self, store: Hasty) -> Hasty {
        store
    }
}

#[test]
fn a_store_that_answers_before_the_commit_does_not_conform() {
    let verdict = std::panic::catch_unwind(conformance::<Hurry>);
    assert!(verdict.is_err());
}
