//! The built programs on a real store, its daemon stopped, killed or stuck.

use crate::place::{Place, program};
use bytes::Bytes;
use expect_test::expect;
use redspool_core::addr::Source;
use redspool_core::envelope::{Attempts, Delivery, Dsn, Envelope, Flags, Relay};
use redspool_core::id::MessageId;
use redspool_core::queue::{Body, Message, Store as _, Submission, Transition};
use redspool_core::time::Timestamp;
use redspool_store::{FILE_NAME, LogStore};
use std::fs;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

fn submission(message: &str, recipients: u32) -> Transition {
    let id: MessageId = message.parse().unwrap();
    let envelope = |low| Envelope {
        id: id.envelope(NonZeroU32::new(low).unwrap()),
        action: "out".into(),
        tag: format!("TAG{message}").into(),
        delivery: Delivery::Mta(Relay::to(None)),
        smtpname: "mx.example.org".into(),
        helo: "client.example.net".into(),
        hostname: "<unknown>".into(),
        username: "".into(),
        source: Source::Inet4(Ipv4Addr::LOCALHOST),
        sender: "sender@example.org".parse().unwrap(),
        rcpt: "a@dead.example".parse().unwrap(),
        dest: "a@dead.example".parse().unwrap(),
        ctime: Timestamp::from_secs(1_795_335_656),
        last_try: Timestamp::EPOCH,
        last_bounce: Timestamp::EPOCH,
        ttl: Duration::from_hours(96),
        retry: 0,
        flags: Flags::default(),
        dsn: Dsn::default(),
        status: None,
        errorline: "".into(),
        remote: "".into(),
        attempts: Attempts::default(),
    };
    Transition::Submit(Submission {
        message: Message {
            id,
            size: 0,
            ctime: Timestamp::from_secs(1_795_335_656),
            eight_bit: false,
            utf8: false,
        },
        body: Body::Whole(Bytes::from_static(b"Subject: test\r\n\r\nhello\r\n")),
        envelopes: (1..=recipients).map(envelope).collect(),
    })
}

/// A store with two messages; open until it is dropped.
pub(crate) fn filled(spool: &Path) -> LogStore {
    let mut store = LogStore::open(spool).unwrap();
    let group = [submission("7c84c730", 2), submission("0253f956", 1)];
    let group = group.map(|transition| store.prepare(transition).unwrap());
    store.commit(group.into()).unwrap();
    store
}

/// Every file of a directory, with its content and the date of its last change.
fn files(dir: &Path) -> Vec<(std::ffi::OsString, Vec<u8>, std::time::SystemTime)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| {
            let content = fs::read(entry.path()).unwrap();
            let changed = entry.metadata().unwrap().modified().unwrap();
            (entry.file_name(), content, changed)
        })
        .collect();
    files.sort();
    files
}

/// What is to be seen of [`filled`] without a daemon.
fn check(place: &Place) {
    let before = files(place.path());
    let listing = expect![[r"
        0253f95600000001|inet4|mta||sender@example.org|a@dead.example|a@dead.example|1795335656|1795681256|0|0|offline||
        7c84c73000000001|inet4|mta||sender@example.org|a@dead.example|a@dead.example|1795335656|1795681256|0|0|offline||
        7c84c73000000002|inet4|mta||sender@example.org|a@dead.example|a@dead.example|1795335656|1795681256|0|0|offline||
        [exit 0]
    "]];
    listing.assert_eq(&place.smtpctl(&["show", "queue"]));
    let mut mailq = program("mailq");
    listing.assert_eq(&place.shown(mailq.env("REDSPOOL_SPOOL", place.path())));
    expect![[r"
        0253f95600000001|inet4|mta||sender@example.org|a@dead.example|a@dead.example|1795335656|1795681256|0|0|offline||
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["show", "queue", "0253f956"]));
    expect![[r"
        7c84c73000000002|inet4|mta||sender@example.org|a@dead.example|a@dead.example|1795335656|1795681256|0|0|offline||
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["show", "queue", "7c84c73000000002"]));
    expect![[r"
        version: 3
        dispatcher: out
        tag: TAG0253f956
        type: mta
        smtpname: mx.example.org
        helo: client.example.net
        hostname: <unknown>
        sockaddr: 127.0.0.1
        sender: sender@example.org
        rcpt: a@dead.example
        dest: a@dead.example
        ctime: 1795335656
        last-try: 0
        last-bounce: 0
        ttl: 345600
        retry: 0
        dsn-notify: 0
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["show", "envelope", "0253f95600000001"]));
    expect![[r"
        Subject: test

        hello
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["show", "message", "7c84c730"]));
    expect![[r"
        [stderr]
        smtpctl: no such message 11111111
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["show", "queue", "11111111"]));
    expect![[r"
        [stderr]
        smtpctl: no such envelope 1111111122222222
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["show", "envelope", "1111111122222222"]));
    expect![[r"
        [stderr]
        smtpctl: no such message 11111111
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["show", "message", "11111111"]));
    assert!(before == files(place.path()), "reading changes no octet");
}

#[test]
fn the_store_of_a_stopped_daemon_is_shown() {
    let place = Place::new();
    drop(filled(place.path()));
    check(&place);
}

#[test]
fn the_store_of_a_killed_daemon_is_shown() {
    let (place, running) = (Place::new(), Place::new());
    let store = filled(running.path());
    for file in fs::read_dir(running.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), place.path().join(file.file_name())).unwrap();
    }
    drop(store);
    check(&place);
}

#[test]
fn the_store_of_a_stuck_daemon_is_shown() {
    let place = Place::new();
    let _store = filled(place.path());
    let mut held = Vec::new();
    place.listen(move |stream| held.push(stream));
    expect![[r"
        0253f95600000001|inet4|mta||sender@example.org|a@dead.example|a@dead.example|1795335656|1795681256|0|0|offline||
        [stderr]
        smtpctl: smtpd does not answer: DIR/smtpd.sock: nothing within 1 s (ETIMEDOUT); look into its log, or wait longer with --timeout; this is what its store holds
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["--timeout=1", "show", "queue", "0253f956"]));
}

#[test]
fn a_damaged_envelope_is_told_and_the_others_are_shown() {
    let place = Place::new();
    drop(filled(place.path()));
    let path = place.path().join(FILE_NAME);
    let mut image = fs::read(&path).unwrap();
    let mark = b"TAG0253f956";
    let places: Vec<_> = (0..image.len())
        .filter(|&at| image[at..].starts_with(mark))
        .collect();
    for at in places {
        image[at] ^= 1;
    }
    fs::write(&path, image).unwrap();
    let shown = place.smtpctl(&["show", "queue"]);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].starts_with("7c84c73000000001|") && lines[1].starts_with("7c84c73000000002|"));
    assert!(
        lines[3].starts_with("smtpctl: message 0253f956 is damaged: "),
        "{shown}"
    );
    assert_eq!((lines.len(), lines[4]), (5, "[exit 1]"), "{shown}");
    let shown = place.smtpctl(&["show", "envelope", "0253f95600000001"]);
    assert!(
        shown.starts_with("[stderr]\nsmtpctl: DIR: message 0253f956 is damaged: "),
        "{shown}"
    );
}

#[test]
fn an_empty_store_is_an_empty_listing() {
    let place = Place::new();
    drop(LogStore::open(place.path()).unwrap());
    assert_eq!(place.smtpctl(&["show", "queue"]), "[exit 0]\n");
}
