//! The n-th write, length change or sync fails, for every n: the group gets the error, the handle
//! is dead, and the store that is opened afterwards has all that was acknowledged before.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use redspool_core::queue::{Paused, Store, StoreError, Transition};
use redspool_proptests::books::Books;
use redspool_proptests::crash::Disk;
use redspool_proptests::step::{Step, script};
use redspool_store::{MemStore, RedbStore};
use std::io::ErrorKind;

fn prepared<S: Store>(store: &S, group: &[Step]) -> Vec<S::Prepared> {
    let prepared = group.iter().map(|step| store.prepare(step.transition()));
    prepared.collect::<Result<_, _>>().unwrap()
}

/// Runs until the disk fails; whether it did.
fn run(fault: usize, kind: ErrorKind, want: &StoreError) -> bool {
    let disk = Disk::default();
    let mut store = RedbStore::open_on(disk.clone()).unwrap();
    let mut model = MemStore::new();
    disk.fail_after(fault, kind);
    for group in script(7, 6) {
        let before = Books::read(&model.reader()).unwrap();
        model.commit(prepared(&model, &group)).unwrap();
        let Err(why) = store.commit(prepared(&store, &group)) else {
            continue;
        };
        assert_eq!(why, *want, "operation {fault}");
        let again = store.prepare(Transition::Pause(Paused::default())).unwrap();
        assert_eq!(store.commit(vec![again]), Err(StoreError::Poisoned));
        drop(store);
        let after = Books::read(&model.reader()).unwrap();
        let opened = RedbStore::open_on(Disk::new(disk.octets())).unwrap();
        let books = Books::read(&opened.reader()).unwrap();
        assert!(books == before || books == after, "operation {fault}");
        return true;
    }
    drop(store);
    // The disk may yet fail when the store is closed; nobody waits for an answer then.
    disk.has_failed()
}

#[test]
fn a_full_disk_is_full_and_loses_nothing() {
    let mut fault = 0;
    while run(fault, ErrorKind::StorageFull, &StoreError::Full) {
        fault += 1;
    }
    assert!(fault > 20, "{fault} operations");
}

#[test]
fn a_failing_disk_loses_nothing_acknowledged() {
    let want = StoreError::Io(ErrorKind::ConnectionAborted.to_string());
    let mut fault = 0;
    while run(fault, ErrorKind::ConnectionAborted, &want) {
        fault += 1;
    }
    assert!(fault > 20, "{fault} operations");
}
