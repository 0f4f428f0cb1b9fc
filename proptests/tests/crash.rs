//! After a crash at any point the store opens, everything acknowledged is there, and what was
//! under way is there as far as the store promises: each transition whole or not at all.
//!
//! `REDSPOOL_SEED=n` chooses another run; a failure prints the seed it belongs to.

use redspool_proptests::kind::{Kind, Logs, Redbs};
use redspool_proptests::media::Amount;
use redspool_proptests::replay::{Replay, seed};
use redspool_store::Options;

/// Replays some runs; gives the number of images.
fn replayed<K: Kind>(kind: &K, seeds: std::ops::Range<u64>, groups: usize) -> usize {
    let images = seeds.map(|number| {
        let replay = Replay {
            seed: seed().wrapping_add(number),
            groups,
            amount: Amount { random: 6, each: 6 },
            again: 120,
        };
        let images = replay.run(kind, &mut Err);
        images.unwrap_or_else(|why| panic!("{why}"))
    });
    let images: usize = images.sum();
    eprintln!("{images} images");
    images
}

#[test]
fn the_log_store_survives_any_crash() {
    let images = replayed(&Logs(Options::small()), 0..3, 30);
    assert!(images > 10_000, "{images} images");
}

#[test]
fn the_log_store_survives_any_other_crash() {
    let images = replayed(&Logs(Options::small()), 3..6, 30);
    assert!(images > 10_000, "{images} images");
}

#[test]
fn the_redb_store_survives_any_crash() {
    let images = replayed(&Redbs, 0..1, 12);
    assert!(images > 1_000, "{images} images");
}

#[test]
fn a_seed_gives_the_same_run() {
    let run = || replayed(&Logs(Options::small()), 9..10, 3);
    assert_eq!(run(), run());
}
