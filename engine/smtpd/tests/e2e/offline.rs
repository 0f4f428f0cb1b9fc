//! smtpctl with no daemon to ask: stopped, killed, or never there.

use super::setup::{field, fields, queued, started};
use redspool_tools::rig::Rig;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Every file below a directory, with its content and when it was changed.
fn state(directory: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(state(&path));
        } else if metadata.is_file() {
            let changed = metadata.modified().unwrap();
            found.insert(path.clone(), (changed, fs::read(&path).unwrap()));
        } else {
            found.insert(path, (metadata.modified().unwrap(), Vec::new()));
        }
    }
    found
}

/// Shows queue, envelope and message, which must not touch the store, and gives what was shown.
fn look(rig: &Rig) -> [String; 3] {
    let before = state(rig.spool());
    assert!(!before.is_empty());
    let queue = rig.show(&["show", "queue"]);
    assert_eq!(rig.mailq().stdout, queue);
    let evpid = field(queue.lines().next().unwrap(), fields::EVPID);
    let envelope = rig.show(&["show", "envelope", evpid]);
    let message = rig.show(&["show", "message", evpid]);
    let after = state(rig.spool());
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>()
    );
    for (path, was) in before {
        assert!(after[&path] == was, "{} was changed", path.display());
    }
    [queue, envelope, message]
}

/// What does not change when a daemon ends: all but run state, waiting time and error.
fn lasting(queue: &str) -> Vec<Vec<String>> {
    let part = |line: &str| line.split('|').take(9).map(str::to_owned).collect();
    queue.lines().map(part).collect()
}

#[test]
fn a_stopped_and_a_killed_daemon_leave_a_queue_that_can_be_read() {
    let (_sink, rig, daemon) = started();
    rig.show(&["pause", "mta"]);
    for number in 0..5 {
        queued(
            &daemon,
            &format!("r{number}@far.example"),
            &format!("n{number}"),
        );
    }
    let online = rig.show(&["show", "queue"]);
    let evpid = field(online.lines().next().unwrap(), fields::EVPID).to_owned();
    let envelope = rig.show(&["show", "envelope", &evpid]);
    let message = rig.show(&["show", "message", &evpid]);

    daemon.kill();
    let killed = look(&rig);
    let daemon = rig.start();
    assert!(daemon.stop().success());
    let stopped = look(&rig);
    for [queue, offline_envelope, offline_message] in [killed, stopped] {
        assert_eq!(lasting(&queue), lasting(&online));
        assert!(
            queue
                .lines()
                .all(|line| field(line, fields::RUNSTATE) == "offline"),
            "{queue}"
        );
        assert_eq!(offline_envelope, envelope);
        assert_eq!(offline_message, message);
    }
}

#[test]
fn commands_that_need_the_daemon_say_that_it_is_not_running() {
    let (_sink, rig, daemon) = started();
    assert!(daemon.stop().success());
    for words in [
        &["show", "stats"][..],
        &["schedule", "all"],
        &["pause", "mta"],
        &["monitor"],
    ] {
        let output = rig.smtpctl(words);
        assert_eq!(output.status, Some(1), "{words:?}: {output:?}");
        assert!(
            output.stderr.contains("smtpd doesn't seem to be running"),
            "{output:?}"
        );
        assert!(output.stderr.contains("smtpd.sock"), "{output:?}");
    }
}

#[test]
fn an_unknown_id_fails_without_a_daemon_too() {
    let (_sink, rig, daemon) = started();
    drop(daemon);
    let output = rig.smtpctl(&["show", "envelope", "1122334455667788"]);
    assert_eq!(output.status, Some(1), "{output:?}");
    assert!(output.stderr.contains("no such envelope"), "{output:?}");
}

#[test]
fn without_daemon_and_store_both_are_named() {
    let rig = Rig::new("");
    let output = rig.smtpctl(&["show", "queue"]);
    assert_eq!(output.status, Some(1), "{output:?}");
    assert!(
        output.stderr.contains("smtpd doesn't seem to be running"),
        "{output:?}"
    );
    assert!(
        output.stderr.contains(&*rig.spool().to_string_lossy()),
        "{output:?}"
    );
}
