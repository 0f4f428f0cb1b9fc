//! `smtpctl store`: care for the store of a stopped daemon.

use crate::offline::filled;
use crate::place::Place;
use expect_test::expect;
use redspool_store::FILE_NAME;
use std::fs;

#[test]
fn a_sound_store_is_sound() {
    let place = Place::new();
    drop(filled(place.path()));
    let shown = place.smtpctl(&["store", "check"]);
    assert!(shown.starts_with("2 messages, 3 envelopes, "), "{shown}");
    assert!(shown.ends_with("sound\n[exit 0]\n"), "{shown}");
    let shown = place.smtpctl(&["store", "check", "--json"]);
    assert!(
        shown.contains("\"sound\":true") && shown.contains("\"messages\":2"),
        "{shown}"
    );
}

#[test]
fn damage_is_told_by_message() {
    let place = Place::new();
    drop(filled(place.path()));
    let log = fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let log = log.filter(|path| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("log.")
    });
    for path in log {
        let mut octets = fs::read(&path).unwrap();
        // In the content of the first message of the log.
        octets[4096 + 32 + 64 + 24] ^= 1;
        fs::write(&path, octets).unwrap();
    }
    let shown = place.smtpctl(&["store", "check"]);
    assert!(
        shown.starts_with("damage: message 7c84c730: content record does not match its checksum\n"),
        "{shown}"
    );
    assert!(shown.ends_with("damaged\n[exit 1]\n"), "{shown}");
}

#[test]
fn a_database_is_built_anew_and_messages_move_together() {
    let place = Place::new();
    drop(filled(place.path()));
    fs::write(place.path().join(FILE_NAME), b"no database").unwrap();
    let shown = place.smtpctl(&["store", "rebuild"]);
    assert!(
        shown.ends_with("database built anew\n[exit 0]\n"),
        "{shown}"
    );
    assert!(place.path().join(format!("{FILE_NAME}.damaged-1")).exists());
    let shown = place.smtpctl(&["store", "compact"]);
    assert!(
        shown.contains(" octets before, ") && shown.ends_with("[exit 0]\n"),
        "{shown}"
    );
    let shown = place.smtpctl(&["store", "check"]);
    assert!(shown.starts_with("2 messages, 3 envelopes, "), "{shown}");
    assert!(shown.ends_with("sound\n[exit 0]\n"), "{shown}");
}

#[test]
fn without_a_log_nothing_is_built_and_nothing_touched() {
    let place = Place::new();
    let foreign = b"somebody else's file";
    fs::write(place.path().join(FILE_NAME), foreign).unwrap();
    let log = place.path().join("log.00000001");
    // No segment at all, then one that holds nothing.
    for segment in [None, Some(vec![0; 8192])] {
        if let Some(octets) = segment {
            fs::write(&log, octets).unwrap();
        }
        let shown = place.smtpctl(&["store", "rebuild"]);
        assert!(shown.contains("cannot be read: "), "{shown}");
        assert!(shown.ends_with("[exit 2]\n"), "{shown}");
        assert_eq!(fs::read(place.path().join(FILE_NAME)).unwrap(), foreign);
        assert!(!place.path().join(format!("{FILE_NAME}.damaged-1")).exists());
    }
}

#[test]
fn nothing_is_changed_beside_a_daemon() {
    let place = Place::new();
    let store = filled(place.path());
    let pid = std::process::id();
    for verb in ["rebuild", "compact"] {
        let shown = place.smtpctl(&["store", verb]);
        let want = format!("smtpctl: DIR: in use by process {pid}; stop the daemon first\n");
        assert!(
            shown.contains(&want) && shown.ends_with("[exit 2]\n"),
            "{shown}"
        );
    }
    let shown = place.smtpctl(&["store", "check"]);
    assert!(
        shown.ends_with("sound\n[exit 0]\n"),
        "a daemon may run: {shown}"
    );
    drop(store);
}

#[test]
fn no_store_is_told() {
    let place = Place::new();
    for verb in ["check", "rebuild", "compact"] {
        expect![[r"
            [stderr]
            smtpctl: DIR: there is no store here; name it with --spool
            [exit 2]
        "]]
        .assert_eq(&place.smtpctl(&["store", verb]));
    }
}
