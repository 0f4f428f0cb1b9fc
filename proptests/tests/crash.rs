//! After a crash at any point the store opens, everything acknowledged is there, and what was
//! under way is there whole or not at all.
//!
//! `REDSPOOL_SEED=n` chooses another run; a failure prints the seed it belongs to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use redspool_core::queue::{Store, StoreError};
use redspool_core::rng::Rng;
use redspool_proptests::books::Books;
use redspool_proptests::crash::{Disk, Image};
use redspool_proptests::step::{Step, script};
use redspool_store::{MemStore, RedbStore};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn seed() -> u64 {
    let seed = std::env::var("REDSPOOL_SEED").ok();
    seed.and_then(|seed| seed.parse().ok())
        .unwrap_or(20_261_123)
}

fn commit<S: Store>(store: &mut S, group: &[Step]) {
    let prepared = group.iter().map(|step| store.prepare(step.transition()));
    let prepared = prepared.collect::<Result<_, _>>().unwrap();
    store.commit(prepared).unwrap();
}

/// A run on record: the books after each group, and the position at which it was acknowledged.
struct Run {
    disk: Disk,
    states: Vec<(usize, Books)>,
}

/// When a group counts as acknowledged.
#[derive(Clone, Copy, PartialEq)]
enum Acknowledged {
    AfterCommit,
    BeforeCommit,
}

fn run(seed: u64, groups: usize, acknowledged: Acknowledged) -> Run {
    let disk = Disk::default();
    drop(RedbStore::open_on(disk.clone()).unwrap());
    let disk = Disk::new(disk.octets());
    let mut store = RedbStore::open_on(disk.clone()).unwrap();
    let mut model = MemStore::new();
    let mut states = vec![(0, Books::default())];
    for group in script(seed, groups) {
        let before = disk.position();
        commit(&mut store, &group);
        commit(&mut model, &group);
        let position = match acknowledged {
            Acknowledged::AfterCommit => disk.position(),
            Acknowledged::BeforeCommit => before,
        };
        states.push((position, Books::read(&model.reader()).unwrap()));
    }
    drop(store);
    Run { disk, states }
}

impl Run {
    /// Opens an image and compares it with what it may hold. Says what is wrong.
    fn verify(&self, image: &Image) -> Result<(), String> {
        let disk = Disk::new(image.octets.clone());
        let read = || -> Result<Books, StoreError> {
            let store = RedbStore::open_on(disk.clone())?;
            Books::read(&store.reader())
        };
        let books = catch_unwind(AssertUnwindSafe(read)).map_err(|_| "it panicked".to_owned())?;
        let books = books.map_err(|why| why.to_string())?;
        let done = self
            .states
            .iter()
            .rposition(|(position, _)| *position <= image.synced)
            .unwrap_or(0);
        let lawful = self.states.iter().skip(done).take(2);
        if lawful.clone().any(|(_, state)| *state == books) {
            return Ok(());
        }
        Err(format!("after group {done} it holds something else"))
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_any_crash() {
    let seed = seed();
    let run = run(seed, 45, Acknowledged::AfterCommit);
    let mut rng = Rng::new(seed);
    let mut recovery = Rng::new(seed);
    let mut images = 0;
    run.disk.images(&mut rng, 12, &mut |image| {
        images += 1;
        if let Err(why) = run.verify(&image) {
            panic!("seed {seed}, image {images}, {}: {why}", image.how);
        }
        // Sometimes the machine stops again while the store is opened.
        if images % 40 == 0 {
            let disk = Disk::new(image.octets);
            drop(RedbStore::open_on(disk.clone()).unwrap());
            disk.images(&mut recovery, 4, &mut |again| {
                images += 1;
                let again = Image {
                    synced: image.synced,
                    ..again
                };
                if let Err(why) = run.verify(&again) {
                    let how = (&image.how, &again.how);
                    panic!("seed {seed}, image {images}, {how:?} in recovery: {why}");
                }
            });
        }
    });
    assert!(images > 3_000, "{images} images");
}

/// The control: if groups counted as acknowledged before they are committed, the replay would see
/// mail lost.
#[test]
fn answering_before_the_commit_is_found_out() {
    let seed = seed();
    let run = run(seed, 5, Acknowledged::BeforeCommit);
    let mut rng = Rng::new(seed);
    let mut lost = 0;
    run.disk.images(&mut rng, 0, &mut |image| {
        lost += usize::from(run.verify(&image).is_err());
    });
    assert!(lost > 0);
}
