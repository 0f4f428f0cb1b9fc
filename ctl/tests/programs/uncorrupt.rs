//! `uncorrupt`: with a daemon, and on the store of a stopped one.

use super::online::LACK;
use crate::offline::filled;
use crate::place::Place;
use expect_test::expect;
use nix::unistd::{Gid, Uid, chown, geteuid};
use redspool_core::control::{Reply, Request};
use redspool_core::queue::{Store as _, Transition};
use redspool_core::time::Timestamp;
use redspool_store::LogStore;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A store with two messages, one of them in the corrupt bucket; open until it is dropped.
fn set_aside(spool: &Path) -> LogStore {
    let mut store = filled(spool);
    let corrupt = Transition::Corrupt {
        message: "7c84c730".parse().unwrap(),
        reason: "content record does not match its checksum".into(),
        at: Timestamp::from_secs(1_795_335_700),
    };
    let prepared = store.prepare(corrupt).unwrap();
    store.commit(vec![prepared]).unwrap();
    store
}

/// The segment files of a spool.
fn segments(spool: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(spool).unwrap().map(Result::unwrap);
    files
        .filter(|file| file.file_name().to_string_lossy().starts_with("log."))
        .map(|file| file.path())
        .collect()
}

/// Turns a bit in the content of the first message of the log.
fn flip(spool: &Path) {
    for path in segments(spool) {
        let mut octets = fs::read(&path).unwrap();
        octets[4096 + 32 + 64 + 24] ^= 1;
        fs::write(&path, octets).unwrap();
    }
}

#[test]
fn the_daemon_says_what_became_of_it() {
    let place = Place::new();
    let mut replies = [
        Reply::Done,
        Reply::Fail {
            reason: "no message 8d3f01ab in the corrupt bucket".into(),
        },
        Reply::Denied(LACK),
    ]
    .into_iter();
    let told = place.daemon(move |_| replies.next().into_iter().collect());
    expect![[r"
        command succeeded
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["uncorrupt", "8d3f01aa"]));
    expect![[r"
        command failed
        [stderr]
        smtpctl: no message 8d3f01ab in the corrupt bucket
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["unc", "8D3F01AB"]));
    expect![[r"
        [stderr]
        smtpctl: need root privileges
        smtpctl: uid 1000 may not do this, but root may
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["uncorrupt", "8d3f01aa"]));
    let asked: Vec<_> = told.try_iter().collect();
    assert_eq!(
        asked,
        [0x8d3f_01aa, 0x8d3f_01ab, 0x8d3f_01aa].map(Request::Uncorrupt)
    );
}

#[test]
fn a_message_comes_back_without_a_daemon() {
    let place = Place::new();
    drop(set_aside(place.path()));
    expect![[r"
        [stderr]
        smtpctl: message 7c84c730 is in the corrupt bucket: content record does not match its checksum
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["show", "queue", "7c84c730"]));
    expect![[r"
        command succeeded
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["uncorrupt", "7c84c730"]));
    let queue = place.smtpctl(&["show", "queue", "7c84c730"]);
    assert_eq!(queue.lines().count(), 3, "{queue}");
    expect![[r"
        command failed
        [stderr]
        smtpctl: message 7c84c730 is not in the corrupt bucket, but queued
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["uncorrupt", "7c84c730"]));
    expect![[r"
        command failed
        [stderr]
        smtpctl: no message 11111111 in the corrupt bucket
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["uncorrupt", "11111111"]));
}

#[test]
fn a_message_that_is_still_damaged_stays_where_it_is() {
    let place = Place::new();
    drop(set_aside(place.path()));
    flip(place.path());
    let still = expect![[r"
        command failed
        [stderr]
        smtpctl: message 7c84c730 is still damaged: content record does not match its checksum
        [exit 1]
    "]];
    still.assert_eq(&place.smtpctl(&["uncorrupt", "7c84c730"]));
    still.assert_eq(&place.smtpctl(&["uncorrupt", "7c84c730"]));
    flip(place.path());
    expect![[r"
        command succeeded
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["uncorrupt", "7c84c730"]));
}

#[test]
fn a_store_that_is_in_use_or_missing_is_told() {
    let place = Place::new();
    let store = set_aside(place.path());
    let pid = std::process::id();
    assert_eq!(
        place.smtpctl(&["uncorrupt", "7c84c730"]),
        format!(
            "[stderr]\nsmtpctl: smtpd doesn't seem to be running: DIR/smtpd.sock: No such file or \
             directory (os error 2); nor can its store be changed: DIR: in use by process {pid}; \
             stop that first, or name its socket with --socket\n[exit 1]\n"
        )
    );
    drop(store);
    let empty = Place::new();
    expect![[r"
        [stderr]
        smtpctl: smtpd doesn't seem to be running: DIR/smtpd.sock: No such file or directory (os error 2); nor can its store be changed: DIR: there is no store here; name it with --spool
        [exit 1]
    "]]
    .assert_eq(&empty.smtpctl(&["uncorrupt", "7c84c730"]));
}

#[test]
fn files_belong_to_the_owner_of_the_spool_whoever_makes_them() {
    let place = Place::new();
    drop(set_aside(place.path()));
    if geteuid().is_root() {
        let nobody = (Some(Uid::from_raw(65_534)), Some(Gid::from_raw(65_534)));
        for file in fs::read_dir(place.path()).unwrap() {
            chown(&file.unwrap().path(), nobody.0, nobody.1).unwrap();
        }
        chown(place.path(), nobody.0, nobody.1).unwrap();
    }
    let before = segments(place.path()).len();
    let owner = fs::metadata(place.path()).unwrap().uid();
    assert_eq!(
        place.smtpctl(&["uncorrupt", "7c84c730"]),
        "command succeeded\n[exit 0]\n"
    );
    let shown = place.smtpctl(&["store", "rebuild"]);
    assert!(shown.ends_with("[exit 0]\n"), "{shown}");
    assert!(segments(place.path()).len() > before, "one was made");
    for file in fs::read_dir(place.path()).unwrap() {
        let file = file.unwrap();
        let uid = file.metadata().unwrap().uid();
        assert_eq!(uid, owner, "{}", file.path().display());
    }
}
