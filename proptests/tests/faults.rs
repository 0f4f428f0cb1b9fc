//! The n-th operation on the disk fails, for every n, and the store goes on or is opened again:
//! nothing acknowledged is lost, nothing refused is queued, and no crash later changes that.
//!
//! `REDSPOOL_SEED=n` chooses another run; a failure prints the seed and the fault it belongs to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use redspool_proptests::faults::sweep;
use redspool_proptests::kind::{Kind, Logs, Redbs};
use redspool_proptests::media::Fault;
use redspool_proptests::replay::seed;
use redspool_store::Options;

fn swept<K: Kind>(kind: &K, errno: i32, sticky: bool, stride: usize) {
    let fault = Fault {
        left: 0,
        errno,
        sticky,
    };
    let operations = sweep(kind, seed(), fault, stride, &mut Err);
    let operations = operations.map_err(|why| why.to_string()).unwrap();
    eprintln!("{operations} operations");
    assert!(operations > 150, "{operations} operations");
}

#[test]
fn the_log_store_survives_one_error() {
    swept(&Logs(Options::small()), Fault::EIO, false, 1);
}

#[test]
fn the_log_store_survives_a_disk_that_is_gone_for_a_while() {
    swept(&Logs(Options::small()), Fault::EIO, true, 1);
}

#[test]
fn the_log_store_survives_a_full_disk() {
    swept(&Logs(Options::small()), Fault::ENOSPC, true, 1);
}

#[test]
fn the_log_store_survives_a_disk_that_is_full_once() {
    swept(&Logs(Options::small()), Fault::ENOSPC, false, 3);
}

#[test]
fn the_redb_store_survives_one_error() {
    swept(&Redbs, Fault::EIO, false, 7);
}

#[test]
fn the_redb_store_survives_a_full_disk() {
    swept(&Redbs, Fault::ENOSPC, true, 7);
}
