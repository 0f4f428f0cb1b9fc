//! What the log store keeps, refuses and survives, from inside.

use super::*;
use crate::{Directory, FILE_NAME};
use bytes::Bytes;
use redspool_core::addr::Source;
use redspool_core::envelope::{Attempts, Delivery, Dsn, Envelope, Flags, Relay};
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{
    Body, Change, Message, Reader, Receipt, Selector, Settlement, Span, Store, StoreError,
    Submission, Transition,
};
use redspool_core::time::Timestamp;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

fn message(number: u32) -> MessageId {
    MessageId::new(number).unwrap()
}

fn id(number: u32, low: u32) -> EnvelopeId {
    message(number).envelope(NonZeroU32::new(low).unwrap())
}

fn envelope(id: EnvelopeId) -> Envelope {
    Envelope {
        id,
        action: "out".into(),
        tag: "".into(),
        delivery: Delivery::Mta(Relay::to(None)),
        smtpname: "mx.example.org".into(),
        helo: "client.example.net".into(),
        hostname: "<unknown>".into(),
        username: "".into(),
        source: Source::Local,
        sender: "sender@example.org".parse().unwrap(),
        rcpt: "rcpt@example.net".parse().unwrap(),
        dest: "rcpt@example.net".parse().unwrap(),
        ctime: Timestamp::from_secs(1_795_000_000),
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
    }
}

fn submit(number: u32, recipients: u32, octets: usize) -> Transition {
    Transition::Submit(Submission {
        message: Message {
            id: message(number),
            size: octets as u64,
            ctime: Timestamp::from_secs(1_795_000_000),
            eight_bit: false,
            utf8: false,
        },
        body: Body::Whole(Bytes::from(vec![b'x'; octets])),
        envelopes: (1..=recipients)
            .map(|low| envelope(id(number, low)))
            .collect(),
    })
}

fn settle(envelope: EnvelopeId, change: Change) -> Transition {
    Transition::Settle(vec![Settlement {
        envelope,
        change,
        bounce: None,
    }])
}

fn retry() -> Change {
    Change::Retry {
        retry: 1,
        last_try: Timestamp::from_secs(1_795_000_100),
        status: None,
        errorline: "later".into(),
        via: None,
        warned: None,
    }
}

fn commit(store: &mut LogStore, transition: Transition) -> Receipt {
    let prepared = store.prepare(transition).unwrap();
    let receipt = store.commit(vec![prepared]).unwrap().remove(0);
    store.tick().unwrap();
    receipt
}

fn small(spool: &Path) -> LogStore {
    LogStore::open_with(spool, Options::small()).unwrap()
}

/// All files of a directory.
fn files(spool: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(spool)
        .unwrap()
        .map(|entry| entry.unwrap());
    let named = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    });
    named.collect()
}

/// A copy of a spool, as a crash leaves it.
fn crashed(spool: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (name, octets) in files(spool) {
        std::fs::write(copy.path().join(name), octets).unwrap();
    }
    copy
}

fn queued(reader: &impl Reader) -> Vec<EnvelopeId> {
    let page = reader.page(Selector::All, None, 10_000).unwrap();
    page.into_iter().map(|entry| entry.unwrap().id).collect()
}

#[test]
fn a_store_is_read_beside_its_writer_after_it_and_after_a_crash() {
    let spool = tempfile::tempdir().unwrap();
    let mut store = small(spool.path());
    commit(&mut store, submit(7, 1, 3));
    let beside = Offline::open(spool.path()).unwrap().reader();
    assert_eq!(queued(&beside), [id(7, 1)]);
    commit(&mut store, submit(8, 1, 3));
    assert_eq!(queued(&beside), [id(7, 1)], "it is as of some moment");

    let copy = crashed(spool.path());
    let before = files(copy.path());
    let offline = Offline::open(copy.path()).unwrap();
    assert_eq!(queued(&offline.reader()), [id(7, 1), id(8, 1)]);
    let body = offline.reader().body(message(8), 0).unwrap().unwrap();
    assert_eq!(body, Bytes::from_static(b"xxx"));
    assert!(offline.findings().all().is_empty());
    assert_eq!(files(copy.path()), before);

    drop(store);
    let before = files(spool.path());
    let stopped = Offline::open(spool.path()).unwrap().reader();
    assert_eq!(queued(&stopped), [id(7, 1), id(8, 1)]);
    assert_eq!(files(spool.path()), before);
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(Offline::open(empty.path()).unwrap_err(), StoreError::Absent);
}

#[test]
fn the_disk_holds_in_proportion_to_what_is_queued() {
    let spool = tempfile::tempdir().unwrap();
    let mut store = small(spool.path());
    let mut deferred = 0;
    for number in 1..700 {
        commit(&mut store, submit(number, 1, 1_000));
        if number % 20 == 0 {
            // One in twenty stays for a while.
            commit(&mut store, settle(id(number, 1), retry()));
            deferred += 1;
        } else {
            commit(&mut store, settle(id(number, 1), Change::Done));
        }
        if number % 20 == 0 && number > 200 {
            commit(&mut store, settle(id(number - 200, 1), Change::Done));
            deferred -= 1;
        }
    }
    assert_eq!(queued(&store.reader()).len(), deferred);
    let held = store.held();
    let segment = u64::from(Options::small().segment);
    // Twice what is queued, what is in the making, and what may be used again.
    let bound = 2 * held.live + 10 * segment;
    assert!(held.files <= bound, "{held:?}, {bound} at most");
    let on_disk = files(spool.path());
    let on_disk = on_disk.iter().filter(|(name, _)| name.starts_with("log."));
    let on_disk: usize = on_disk.map(|(_, octets)| octets.len()).sum();
    assert_eq!(
        on_disk as u64, held.files,
        "files that are not needed are gone"
    );
}

#[test]
fn segments_that_a_start_finds_empty_are_used_again() {
    let spool = tempfile::tempdir().unwrap();
    let mut store = small(spool.path());
    for number in 1..200 {
        commit(&mut store, submit(number, 1, 1_000));
    }
    // All of it leaves in one group, and then the machine stops.
    let done = (1..200).map(|number| Settlement {
        envelope: id(number, 1),
        change: Change::Done,
        bounce: None,
    });
    let done = store.prepare(Transition::Settle(done.collect())).unwrap();
    store.commit(vec![done]).unwrap();
    let copy = crashed(spool.path());

    let mut store = small(copy.path());
    assert!(queued(&store.reader()).is_empty());
    let found = store.held();
    assert_eq!(found.live, 0);
    for number in 200..400 {
        commit(&mut store, submit(number, 1, 1_000));
        commit(&mut store, settle(id(number, 1), Change::Done));
    }
    let held = store.held();
    assert!(
        held.files <= found.files,
        "{held:?}, {found:?} at the start"
    );
}

#[test]
fn a_lost_database_is_built_anew_and_says_so() {
    let spool = tempfile::tempdir().unwrap();
    let mut store = small(spool.path());
    for number in 1..40 {
        commit(&mut store, submit(number, 2, 900));
        commit(&mut store, settle(id(number, 1), retry()));
        if number > 5 {
            commit(
                &mut store,
                Transition::Remove(Selector::Message(message(number - 5))),
            );
        }
    }
    let want = queued(&store.reader());
    drop(store);
    for content in [None, Some(&b"this is no database"[..])] {
        let copy = crashed(spool.path());
        let path = copy.path().join(FILE_NAME);
        std::fs::remove_file(&path).unwrap();
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let mut store = small(copy.path());
        assert!(store.findings().damage(), "{}", store.findings());
        let found = queued(&store.reader());
        assert!(
            want.iter().all(|id| found.contains(id)),
            "{want:?} {found:?}"
        );
        let marked = store.reader().envelope(want[0]).unwrap().unwrap();
        assert!(marked.flags.maybe_duplicated);
        assert_eq!(marked.errorline, envelope_error(want[0]));
        commit(&mut store, submit(99, 1, 10));
        drop(store);
        let store = small(copy.path());
        assert!(store.findings().all().is_empty(), "{}", store.findings());
        assert!(store.reader().exists(message(99)).unwrap());
        let kept = copy.path().join(format!("{FILE_NAME}.damaged-1"));
        assert_eq!(kept.exists(), content.is_some());
    }
}

/// Takes rows out of a closed store's database: of these messages their summaries and, if `whole`,
/// their envelopes, as a damaged page would hide them.
fn hide(spool: &Path, messages: std::ops::Range<u32>, whole: bool) {
    use ::redb::TableDefinition;
    let summaries = TableDefinition::<u32, &[u8]>::new("messages");
    let envelopes = TableDefinition::<u64, &[u8]>::new("envelopes");
    let database = ::redb::Database::open(spool.join(FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    for number in messages {
        let mut summaries = transaction.open_table(summaries).unwrap();
        assert!(summaries.remove(number).unwrap().is_some());
        let mut envelopes = transaction.open_table(envelopes).unwrap();
        let range = id(number, 1).get()..=id(number, u32::MAX).get();
        envelopes.retain_in(range, |_, _| !whole).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn messages_that_a_database_hides_are_named_or_come_from_the_log() {
    let spool = tempfile::tempdir().unwrap();
    let mut store = small(spool.path());
    let want: Vec<_> = (1..20).map(|number| id(number, 1)).collect();
    for number in 1..20 {
        commit(&mut store, submit(number, 1, 300));
    }
    drop(store);

    // Where names are left, it costs nobody else anything.
    let copy = crashed(spool.path());
    hide(copy.path(), 7..9, false);
    let store = small(copy.path());
    let bucket = store.reader().corrupt().unwrap();
    let bucket: Vec<_> = bucket.iter().map(|one| one.message).collect();
    assert_eq!(bucket, [message(7), message(8)]);
    assert_eq!(queued(&store.reader()).len(), want.len() - 2);
    let other = store.reader().envelope(id(9, 1)).unwrap().unwrap();
    assert!(!other.flags.maybe_duplicated);

    // Where none is, the log is asked for all.
    let copy = crashed(spool.path());
    hide(copy.path(), 7..9, true);
    let offline = Offline::open(copy.path()).unwrap();
    assert_eq!(queued(&offline.reader()), want);
    let store = small(copy.path());
    let findings = store.findings().to_string();
    assert!(findings.contains("17 messages instead of 19"), "{findings}");
    assert_eq!(queued(&store.reader()), want);
    let found = store.reader().envelope(id(7, 1)).unwrap().unwrap();
    assert!(found.flags.maybe_duplicated);
}

#[test]
fn the_trash_lasts_over_checkpoints_moves_and_a_lost_database() {
    let spool = tempfile::tempdir().unwrap();
    let mut store = small(spool.path());
    let at = Timestamp::from_secs(1_795_000_200);
    for number in 1..200 {
        commit(&mut store, submit(number, 2, 900));
        if number % 3 == 0 {
            let span = Span::all(Selector::Envelope(id(number, 2)));
            commit(&mut store, Transition::Discard { span, at });
        }
        if number % 6 == 0 {
            let span = Span::all(Selector::Message(message(number)));
            commit(&mut store, Transition::Restore { span, at: None });
        }
        // A deferred message leaves the hot log, what is in the trash of it, too.
        commit(&mut store, settle(id(number, 1), retry()));
    }
    let kept = |number: &u32| number.is_multiple_of(3) && !number.is_multiple_of(6);
    let trash: Vec<_> = (1..200).filter(kept).map(|number| id(number, 2)).collect();
    let all = |number| [id(number, 1), id(number, 2)];
    let mut want: Vec<_> = (1..200).flat_map(all).collect();
    want.retain(|id| !trash.contains(id));
    let shown = |reader: &LogReader, now: bool| {
        assert_eq!(queued(reader), want);
        let page = reader.discarded(Selector::All, None, 1_000).unwrap();
        let page: Vec<_> = page.into_iter().map(Result::unwrap).collect();
        let ids: Vec<_> = page.iter().map(|one| one.envelope.id).collect();
        assert_eq!(ids, trash);
        assert!(page.iter().all(|one| (one.at > at) == now), "{page:?}");
        assert_eq!(reader.trash().unwrap().envelopes, trash.len() as u64);
    };
    shown(&store.reader(), false);
    drop(store);
    shown(&Offline::open(spool.path()).unwrap().reader(), false);
    shown(&small(spool.path()).reader(), false);
    let report = check(spool.path(), &mut |_, _| {}).unwrap();
    assert!(report.sound());
    let counts = (report.envelopes, report.trashed);
    assert_eq!(counts, (want.len() as u64, trash.len() as u64));
    // When it was discarded is a matter of the old database: it stays its time from now on.
    std::fs::remove_file(spool.path().join(FILE_NAME)).unwrap();
    drop(small(spool.path()));
    shown(&small(spool.path()).reader(), true);
}

/// The error of an envelope in the test above: the first of each message was deferred.
fn envelope_error(id: EnvelopeId) -> Box<str> {
    match id.get() & 0xffff_ffff {
        1 => "later".into(),
        _ => "".into(),
    }
}

#[test]
fn a_database_over_which_redb_panicked_is_built_anew_once() {
    let spool = tempfile::tempdir().unwrap();
    let mut store = small(spool.path());
    commit(&mut store, submit(5, 2, 300));
    drop(store);
    let mark = spool.path().join("queue.suspect");
    std::fs::write(&mark, b"").unwrap();
    let store = small(spool.path());
    assert!(store.findings().to_string().contains("redb panicked"));
    assert!(store.reader().exists(message(5)).unwrap());
    drop(store);
    assert!(!mark.exists());
    assert!(small(spool.path()).findings().all().is_empty());
}

#[test]
fn another_format_is_refused_and_left_alone() {
    let spool = tempfile::tempdir().unwrap();
    drop(crate::RedbStore::open(spool.path()).unwrap());
    let before = files(spool.path());
    let want = StoreError::Version { found: 1, known: 3 };
    assert_eq!(LogStore::open(spool.path()).unwrap_err(), want);
    assert_eq!(Offline::open(spool.path()).unwrap_err(), want);
    assert_eq!(files(spool.path()), before);
}

#[test]
fn what_is_no_store_is_unreadable_and_left_alone() {
    let zeros = vec![0; 100_000];
    for content in [&b""[..], b"queue", &zeros, &[0xa5; 9_999]] {
        let spool = tempfile::tempdir().unwrap();
        std::fs::write(spool.path().join(FILE_NAME), content).unwrap();
        for why in [
            LogStore::open(spool.path()).unwrap_err(),
            Offline::open(spool.path()).unwrap_err(),
        ] {
            assert!(matches!(why, StoreError::Unreadable(_)), "{why:?}");
        }
        assert_eq!(
            std::fs::read(spool.path().join(FILE_NAME)).unwrap(),
            content
        );
    }
}

#[test]
fn a_damaged_content_is_told_set_aside_and_not_taken_back() {
    let spool = tempfile::tempdir().unwrap();
    let mut store = small(spool.path());
    commit(&mut store, submit(7, 1, 900));
    commit(&mut store, submit(8, 1, 900));
    let reader = store.reader();
    let place = reader.shared.index.read().messages[&message(7)].at;
    let (file, _) = reader.shared.table.lock().file(place.slot).unwrap();
    file.write(u64::from(place.offset) + 200, &[b"y"]).unwrap();
    let why = reader.body(message(7), 0).unwrap_err();
    assert!(matches!(why, StoreError::Corrupt { message: hit, .. } if hit == message(7)));
    let corrupt = Transition::Corrupt {
        message: message(7),
        reason: "content record does not match its checksum".into(),
        at: Timestamp::from_secs(5),
    };
    assert_eq!(
        commit(&mut store, corrupt),
        Receipt::Affected(vec![id(7, 1)])
    );
    assert_eq!(queued(&reader), [id(8, 1)]);
    let still = Receipt::Refused(redspool_core::queue::Refusal::StillCorrupt {
        reason: "content record does not match its checksum".into(),
    });
    assert_eq!(commit(&mut store, Transition::Uncorrupt(message(7))), still);
    file.write(u64::from(place.offset) + 200, &[b"x"]).unwrap();
    assert_eq!(
        commit(&mut store, Transition::Uncorrupt(message(7))),
        Receipt::Done
    );
    assert_eq!(queued(&reader), [id(7, 1), id(8, 1)]);
}

/// Background threads make and remove segments while the log rolls on.
#[test]
fn segments_made_and_removed_in_the_background_are_not_mixed_up() {
    let spool = tempfile::tempdir().unwrap();
    let options = || Options {
        inline: false,
        ..Options::small()
    };
    let mut store = LogStore::open_with(spool.path(), options()).unwrap();
    for round in 0..12 {
        // The queue grows and shrinks, so that segments come and go.
        let first = round * 100 + 1;
        for number in first..first + 100 {
            commit(&mut store, submit(number, 1, 1_500));
        }
        for number in first..first + 90 {
            commit(&mut store, settle(id(number, 1), Change::Done));
        }
        if round % 4 == 3 {
            drop(store);
            store = LogStore::open_with(spool.path(), options()).unwrap();
            assert!(store.findings().all().is_empty(), "{}", store.findings());
        }
        let reader = store.reader();
        let queued = queued(&reader);
        assert_eq!(queued.len(), (usize::try_from(round).unwrap() + 1) * 10);
        for id in queued {
            reader.body(id.message(), 0).unwrap().unwrap();
        }
    }
}

#[test]
fn a_message_takes_few_octets_of_memory() {
    assert_eq!(size_of::<index::Entry>(), 32);
}

#[test]
fn read_only_media_are_enough_to_look() {
    let spool = tempfile::tempdir().unwrap();
    let mut store = small(spool.path());
    commit(&mut store, submit(7, 1, 20_000));
    drop(store);
    let media: std::sync::Arc<dyn crate::Media> =
        std::sync::Arc::new(Directory::read_only(spool.path()));
    let offline = Offline::open_on(&media).unwrap();
    assert_eq!(
        offline.reader().message(message(7)).unwrap().unwrap().size,
        20_000
    );
}
