//! After a crash at any point the store opens, everything acknowledged is there, and what was
//! under way is there as far as the store promises: each transition whole or not at all.
//!
//! `REDSPOOL_SEED=n` chooses another run; a failure prints the seed it belongs to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use redspool_proptests::kind::{Kind, Logs, Redbs};
use redspool_proptests::media::Amount;
use redspool_proptests::replay::{Replay, seed};
use redspool_store::Options;

/// Replays one run; gives the number of images.
fn replay<K: Kind>(kind: &K, seed: u64, groups: usize) -> usize {
    let amount = Amount { random: 6, each: 6 };
    let replay = Replay {
        seed,
        groups,
        amount,
        again: 150,
    };
    let images = replay.run(kind, &mut Err).map_err(|why| why.to_string());
    println!("seed {seed}: {images:?}");
    images.unwrap()
}

#[test]
fn the_log_store_survives_any_crash_1() {
    assert!(replay(&Logs(Options::small()), seed(), 30) > 3_000);
}

#[test]
fn the_redb_store_survives_any_crash() {
    assert!(replay(&Redbs, seed(), 20) > 1_000);
}
