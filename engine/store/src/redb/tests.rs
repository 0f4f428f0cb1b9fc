//! What the store keeps, refuses and survives: the redb side, from inside.

use super::*;
use crate::FILE_NAME;
use bytes::Bytes;
use redspool_core::addr::{Address, Source};
use redspool_core::envelope::{Attempts, Delivery, Dsn, Envelope, Flags, Relay};
use redspool_core::id::MessageId;
use redspool_core::queue::{Body, Message, Reader, Refusal, Selector, Submission};
use redspool_core::time::Timestamp;
use std::num::NonZeroU32;
use std::time::Duration;

fn message(number: u32) -> MessageId {
    MessageId::new(number).unwrap()
}

fn envelope(message: MessageId, low: u32) -> Envelope {
    Envelope {
        id: message.envelope(NonZeroU32::new(low).unwrap()),
        action: "out".into(),
        tag: "".into(),
        delivery: Delivery::Mta(Relay::to(None)),
        smtpname: "mx.example.org".into(),
        helo: "client.example.net".into(),
        hostname: "<unknown>".into(),
        username: "".into(),
        source: Source::Local,
        sender: Address::null(),
        rcpt: "a@example.org".parse().unwrap(),
        dest: "a@example.org".parse().unwrap(),
        ctime: Timestamp::from_secs(1_000),
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

fn submit(number: u32, recipients: u32, body: &[u8]) -> Transition {
    let id = message(number);
    Transition::Submit(Submission {
        message: Message {
            id,
            size: 0,
            ctime: Timestamp::from_secs(1_000),
            eight_bit: false,
            utf8: false,
        },
        body: Body::Whole(Bytes::copy_from_slice(body)),
        envelopes: (1..=recipients).map(|low| envelope(id, low)).collect(),
    })
}

fn commit(store: &mut RedbStore, transition: Transition) -> Receipt {
    let prepared = RedbPreparer.prepare(transition).unwrap();
    store.commit(vec![prepared]).unwrap().remove(0)
}

/// Replaces octets of a stored record, as a failing disk would.
fn damage<K: ::redb::Key + 'static>(
    store: &RedbStore,
    table: Definition<K>,
    key: &impl for<'a> std::borrow::Borrow<K::SelfType<'a>>,
) {
    let work = |transaction: &::redb::WriteTransaction| {
        let mut table = transaction.open_table(table).unwrap();
        let mut record = {
            use ::redb::ReadableTable as _;
            table.get(key.borrow()).unwrap().unwrap().value().to_vec()
        };
        *record.last_mut().unwrap() ^= 1;
        table.insert(key.borrow(), record.as_slice()).unwrap();
        Ok((Some(()), ()))
    };
    store.shared.write(work).unwrap();
}

#[test]
fn a_second_opener_learns_who_has_it() {
    let spool = tempfile::tempdir().unwrap();
    let _first = RedbStore::open(spool.path()).unwrap();
    let holder = Some(std::process::id());
    let why = RedbStore::open(spool.path()).unwrap_err();
    assert_eq!(why, StoreError::Locked { holder });
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let spool = tempfile::tempdir().unwrap();
    let store = RedbStore::open(spool.path()).unwrap();
    let work = |transaction: &_| {
        let mut apply = Apply::new(transaction, None)?;
        apply.put_meta(crate::record::Meta::Format, 9)?;
        apply.close(None, 7)?;
        Ok((Some(()), ()))
    };
    store.shared.write(work).unwrap();
    drop(store);
    let path = spool.path().join(FILE_NAME);
    let before = std::fs::read(&path).unwrap();
    let want = StoreError::Version { found: 9, known: 1 };
    assert_eq!(RedbStore::open(spool.path()).unwrap_err(), want);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn what_is_no_database_is_unreadable() {
    let spool = tempfile::tempdir().unwrap();
    let path = spool.path().join(FILE_NAME);
    for content in [
        vec![],
        b"queue".to_vec(),
        vec![0; 100_000],
        vec![0xa5; 9_999],
    ] {
        std::fs::write(&path, &content).unwrap();
        let why = RedbStore::open(spool.path()).unwrap_err();
        assert!(matches!(why, StoreError::Unreadable(_)), "{why:?}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_damaged_envelope_gives_its_error_in_place() {
    let spool = tempfile::tempdir().unwrap();
    let mut store = RedbStore::open(spool.path()).unwrap();
    commit(&mut store, submit(7, 3, b"body"));
    let hit = envelope(message(7), 2).id;
    damage(&store, QUEUE, &hit.get());
    let page = store.reader().page(Selector::All, None, 10).unwrap();
    assert_eq!(page.len(), 3);
    assert!(page[0].is_ok() && page[2].is_ok());
    let reason = "envelope record does not match its checksum".to_owned();
    let want = StoreError::Corrupt {
        message: message(7),
        reason,
    };
    assert_eq!(page[1], Err(want.clone()));
    assert_eq!(store.reader().envelope(hit), Err(want.clone()));
    let mut walked = Vec::new();
    store
        .reader()
        .walk(&mut |entry| walked.push(entry))
        .unwrap();
    assert_eq!(walked[1], Err(want));
}

#[test]
fn a_damaged_record_costs_its_message_and_not_the_group() {
    let spool = tempfile::tempdir().unwrap();
    let mut store = RedbStore::open(spool.path()).unwrap();
    commit(&mut store, submit(7, 3, b"body"));
    commit(&mut store, submit(8, 1, b"other"));
    damage(&store, QUEUE, &envelope(message(7), 2).id.get());
    let retry = |number, low| redspool_core::queue::Settlement {
        envelope: envelope(message(number), low).id,
        change: redspool_core::queue::Change::Retry {
            retry: 1,
            last_try: Timestamp::from_secs(2_000),
            status: None,
            errorline: "later".into(),
            via: None,
            warned: None,
        },
        bounce: None,
    };
    let settle = Transition::Settle(vec![retry(7, 1), retry(7, 2), retry(8, 1)]);
    let all: Vec<_> = (1..=3).map(|low| envelope(message(7), low).id).collect();
    assert_eq!(commit(&mut store, settle), Receipt::Affected(all));
    let reader = store.reader();
    let bucket = reader.corrupt().unwrap();
    assert_eq!((bucket.len(), bucket[0].envelopes), (1, 3));
    assert!(bucket[0].at > Timestamp::EPOCH);
    let other = reader.envelope(envelope(message(8), 1).id).unwrap();
    assert_eq!(other.unwrap().retry, 1);
    let back = commit(&mut store, Transition::Uncorrupt(message(7)));
    let still = Refusal::StillCorrupt {
        reason: format!(
            "envelope {}: envelope record does not match its checksum",
            envelope(message(7), 2).id
        )
        .into(),
    };
    assert_eq!(back, Receipt::Refused(still));
    let gone = commit(
        &mut store,
        Transition::Remove(Selector::Message(message(7))),
    );
    assert!(matches!(gone, Receipt::Affected(ids) if ids.len() == 3));
    assert!(!reader.exists(message(7)).unwrap());
}

#[test]
fn a_damaged_message_record_sets_the_message_aside() {
    let spool = tempfile::tempdir().unwrap();
    let mut store = RedbStore::open(spool.path()).unwrap();
    commit(&mut store, submit(7, 2, b"body"));
    damage(&store, QUEUE, &crate::record::row_key(message(7)));
    let mut damages = 0;
    let count =
        &mut |entry: redspool_core::queue::Walked<_>| damages += usize::from(entry.is_err());
    store.reader().walk(count).unwrap();
    assert_eq!(damages, 1);
    let done = Transition::Settle(vec![redspool_core::queue::Settlement {
        envelope: envelope(message(7), 1).id,
        change: redspool_core::queue::Change::Done,
        bounce: None,
    }]);
    let left = envelope(message(7), 2).id;
    assert_eq!(commit(&mut store, done), Receipt::Affected(vec![left]));
    assert_eq!(store.reader().corrupt().unwrap().len(), 1);
}

#[test]
fn a_damaged_content_is_never_served() {
    let spool = tempfile::tempdir().unwrap();
    let mut store = RedbStore::open(spool.path()).unwrap();
    commit(&mut store, submit(7, 1, &vec![b'x'; 150_000]));
    let reader = store.reader();
    let pieces: Vec<_> = (0..4)
        .map(|i| reader.body(message(7), i).unwrap())
        .collect();
    let lengths: Vec<_> = pieces.iter().flatten().map(Bytes::len).collect();
    assert_eq!(lengths, [65_280, 65_280, 19_440]);
    damage(&store, BODIES, &1);
    assert!(reader.body(message(7), 0).is_ok());
    assert!(matches!(
        reader.body(message(7), 1),
        Err(StoreError::Corrupt { .. })
    ));
    assert!(matches!(
        reader.body(message(7), 2),
        Err(StoreError::Corrupt { .. })
    ));
}

#[test]
fn readers_of_a_closed_store_say_so_and_do_not_hold_it() {
    let spool = tempfile::tempdir().unwrap();
    let store = RedbStore::open(spool.path()).unwrap();
    let reader = store.reader();
    drop(store);
    assert_eq!(reader.exists(message(7)), Err(StoreError::Closed));
    assert!(RedbStore::open(spool.path()).is_ok());
}
