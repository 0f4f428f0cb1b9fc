//! One turned bit anywhere in a queue, in the log, in the database or beside them, stopped,
//! crashed or open: no wrong octet is served, nothing panics, one message is touched at most, and
//! what is missing is named.
//!
//! A database is written to in processes of their own: redb ends the process that meets a damaged
//! page of its own records. `REDSPOOL_SEED=n` chooses other bits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use redspool_core::rng::Rng;
use redspool_proptests::flips::Sample;
use redspool_proptests::judge::{Breach, Promise};
use redspool_proptests::media::Disk;
use redspool_proptests::replay::seed;
use redspool_store::{FILE_NAME, Options};
use std::process::Command;

/// Octets at the start of each file of which every bit is turned.
const HEAD: usize = 80;

/// Bits that are turned one at a time in a process of its own.
const TURNS: usize = 40;

/// Zeros in a row of which only some are turned.
const RUN: usize = 64;

/// File, octet and bit.
type Turn = (String, usize, u8);

/// All octets of the files that are wanted, but few of long runs of zeros, with a bit each.
fn every(disk: &Disk, wanted: fn(&str) -> bool) -> Vec<Turn> {
    let rng = &mut Rng::new(seed());
    let mut turns = Vec::new();
    for (name, content) in disk.files().filter(|(name, _)| wanted(name)) {
        let octets = content.octets();
        for offset in 0..octets.len() {
            let around = offset.saturating_sub(RUN)..octets.len().min(offset + RUN);
            let blank = octets[around].iter().all(|octet| *octet == 0);
            let bits = match (offset, blank) {
                (0..HEAD, _) => 0..8,
                (_, true) if rng.below(64) > 0 => 0..0,
                _ => one(rng),
            };
            turns.extend(bits.map(|bit| (name.to_owned(), offset, bit)));
        }
    }
    turns
}

/// Some bits anywhere in the files that are wanted.
fn some(disk: &Disk, count: usize, wanted: fn(&str) -> bool) -> Vec<Turn> {
    let rng = &mut Rng::new(seed());
    let files: Vec<_> = disk.files().filter(|(name, _)| wanted(name)).collect();
    let turn = |_| {
        let (name, content) = files[index(rng, files.len())];
        let offset = index(rng, content.len());
        (name.to_owned(), offset, one(rng).start)
    };
    (0..count).map(turn).collect()
}

fn index(rng: &mut Rng, below: usize) -> usize {
    usize::try_from(rng.below(below as u64)).unwrap()
}

fn one(rng: &mut Rng) -> std::ops::Range<u8> {
    let bit = u8::try_from(rng.below(8)).unwrap();
    bit..bit + 1
}

/// Turns the bits, one at a time; `tried` gives how many messages it touches, at most `most`.
/// Gives how many turns had an effect.
fn turned(turns: &[Turn], most: usize, tried: impl Fn(&Turn) -> Result<usize, Breach>) -> usize {
    let hit = turns.iter().filter(|turn| {
        let touched = tried(turn).unwrap_or_else(|why| panic!("{turn:?}: {why}"));
        assert!(touched <= most, "{turn:?} touches {touched} messages");
        touched > 0
    });
    hit.count()
}

fn damaged(disk: &Disk, (name, offset, bit): &Turn) -> Disk {
    let mut damaged = disk.clone();
    damaged.flip(name, *offset, *bit);
    damaged
}

fn log(name: &str) -> bool {
    name != FILE_NAME
}

fn database(name: &str) -> bool {
    name == FILE_NAME
}

fn small() -> Options {
    Options {
        segment: 8 << 10,
        ..Options::small()
    }
}

#[test]
fn a_bit_of_a_stopped_log() {
    let sample = Sample::new(small(), 8).unwrap();
    let turns = every(&sample.stopped, log);
    let hit = turned(&turns, 1, |turn| {
        sample.offline(damaged(&sample.stopped, turn))?;
        sample.reopened(damaged(&sample.stopped, turn))
    });
    assert!(hit > turns.len() / 50, "{hit} of {}", turns.len());
}

#[test]
fn a_bit_of_a_crashed_log() {
    let sample = Sample::new(small(), 6).unwrap();
    let turns = every(&sample.crashed, log);
    let hit = turned(&turns, 1, |turn| {
        sample.offline(damaged(&sample.crashed, turn))?;
        sample.reopened(damaged(&sample.crashed, turn))
    });
    assert!(hit > turns.len() / 50, "{hit} of {}", turns.len());
}

/// What redb cannot read is built anew from the log, but for a few pages whose damage shows too
/// late. One bit of a page's own index hits all of the page.
#[test]
fn a_bit_of_a_stopped_database() {
    let sample = Sample::new(small(), 8).unwrap();
    let turns = every(&sample.stopped, database);
    let mut refused = std::cell::Cell::new(0);
    let hit = turned(&turns, usize::MAX, |turn| {
        match sample.offline(damaged(&sample.stopped, turn)) {
            Err(Breach {
                promise: Promise::S7,
                ..
            }) => {
                refused.set(refused.get() + 1);
                Ok(0)
            }
            verdict => verdict,
        }
    });
    assert!(
        *refused.get_mut() < turns.len() / 100,
        "{refused:?} refused"
    );
    assert!(hit > turns.len() / 100, "{hit} of {}", turns.len());
}

/// Whatever redb does about a damaged page, ending the process included: a daemon that is started
/// again goes on, at the third start at the latest.
#[test]
fn a_bit_of_a_database_that_is_written() {
    let sample = Sample::new(small(), 8).unwrap();
    for turn in some(&sample.stopped, TURNS, database) {
        let spool = tempfile::tempdir().unwrap();
        for (name, content) in damaged(&sample.stopped, &turn).files() {
            std::fs::write(spool.path().join(name), content.octets()).unwrap();
        }
        let mut said = String::new();
        let mut start = || {
            let starter = env!("CARGO_BIN_EXE_starter");
            let output = Command::new(starter).arg(spool.path()).output().unwrap();
            said = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success()
        };
        let started = (0..3).any(|_| start());
        assert!(started, "{turn:?}: {said}");
        if let Err(why) = sample.stored(spool.path()) {
            panic!("{turn:?}: {why}; {said}");
        }
    }
}

#[test]
fn bits_of_a_large_queue() {
    let sample = Sample::new(Options::small(), 120).unwrap();
    for disk in [&sample.stopped, &sample.crashed] {
        let turns = some(disk, 400, log);
        let hit = turned(&turns, 1, |turn| sample.reopened(damaged(disk, turn)));
        assert!(hit > 10, "{hit} of {}", turns.len());
    }
}

#[test]
fn bits_under_an_open_store() {
    let sample = Sample::new(small(), 8).unwrap();
    let turns = some(&sample.stopped, 4_000, log);
    let hit = turned(&turns, 1, |(name, offset, bit)| {
        sample.open(name, *offset, *bit)
    });
    assert!(hit > turns.len() / 50, "{hit} of {}", turns.len());
}
