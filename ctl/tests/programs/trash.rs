//! `show trash`, `undo` and `remove --now`: with a daemon, and on the store of a stopped one.

use crate::offline::filled;
use crate::place::Place;
use expect_test::expect;
use redspool_core::control::{
    Agent, Census, EnvelopeRow, Family, Reply, Request, RowFlags, Runstate, Selector, Verb,
};
use redspool_core::queue::{self, Span, Store as _, Transition};
use redspool_core::time::Timestamp;
use redspool_store::LogStore;

const ENVELOPE: u64 = 0x8d3f_01aa_0000_0001;

fn row() -> EnvelopeRow {
    EnvelopeRow {
        id: ENVELOPE,
        family: Family::Inet4,
        agent: Agent::Mta,
        flags: RowFlags::default(),
        sender: "sender@example.org".into(),
        rcpt: "x@dead.example".into(),
        dest: "x@dead.example".into(),
        ctime: 1_795_335_353,
        expiry: 1_795_680_953,
        last_try: 1_795_335_360,
        retry: 1,
        runstate: Runstate::Trash {
            since: 1_795_335_400,
            until: None,
        },
        errorline: "Network error on destination MXs".into(),
        status: None,
        tag: String::new(),
    }
}

#[test]
fn the_daemon_lists_the_trash_in_every_form() {
    let place = Place::new();
    let told = place.daemon(|request| match request {
        Request::ShowTrash(Selector::All) => vec![Reply::EnvelopeRows(vec![row()]), Reply::End],
        _ => vec![Reply::Unknown],
    });
    expect![[r"
        8d3f01aa00000001|inet4|mta||sender@example.org|x@dead.example|x@dead.example|1795335353|1795680953|1795335360|1|trash||Network error on destination MXs
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["show", "trash"]));
    expect![[r#"
        {"id":"8d3f01aa00000001","message":"8d3f01aa","family":"inet4","type":"mta","flags":[],"sender":"sender@example.org","rcpt":"x@dead.example","dest":"x@dead.example","ctime":1795335353,"expiry":1795680953,"last_try":1795335360,"retry":1,"state":"trash","due":null,"since":1795335400,"error":"Network error on destination MXs","status":null,"tag":null}
        [exit 0]
    "#]]
    .assert_eq(&place.smtpctl(&["show", "trash", "--json"]));
    expect![[r"
        id,message,family,type,flags,sender,rcpt,dest,ctime,expiry,last_try,retry,state,due,since,error,status,tag
        8d3f01aa00000001,8d3f01aa,inet4,mta,,sender@example.org,x@dead.example,x@dead.example,1795335353,1795680953,1795335360,1,trash,,1795335400,Network error on destination MXs,,
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["show", "trash", "--csv"]));
    assert_eq!(
        place.smtpctl(&["show", "trash", "--limit", "0"]),
        "[exit 0]\n"
    );
    expect![[r"
        [stderr]
        smtpctl: no such message 8d3f01ab
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["show", "trash", "8d3f01ab"]));
    assert_eq!(
        told.try_iter().last(),
        Some(Request::ShowTrash(Selector::Message(0x8d3f_01ab)))
    );
}

#[test]
fn undo_and_final_removal_are_one_request_each() {
    let place = Place::new();
    let told = place.daemon(|request| match request {
        Request::Undo { dry_run: true, .. } => vec![
            Reply::Working,
            Reply::Census(Box::new(Census {
                envelopes: 2,
                messages: 1,
                octets: 700,
                ..Census::default()
            })),
        ],
        _ => vec![
            Reply::Working,
            Reply::Affected {
                count: 2,
                inflight: 0,
            },
        ],
    });
    let undo = |selector, last, dry_run| Request::Undo {
        selector,
        last,
        dry_run,
    };
    let message = Selector::Message(0x8d3f_01aa);
    let envelope = Selector::Envelope(ENVELOPE);
    let restored = "2 envelopes restored\n";
    let planned = "2 envelopes would be restored\nmessages: 1\noctets: 700\nin flight: 0\n";
    let removed = "2 envelopes removed\n";
    for (line, request, want) in [
        ("undo", undo(Selector::All, true, false), restored),
        ("undo last", undo(Selector::All, true, false), restored),
        ("und --dry-run", undo(Selector::All, true, true), planned),
        ("undo all", undo(Selector::All, false, false), restored),
        ("undo 8d3f01aa", undo(message, false, false), restored),
        (
            "undo 8d3f01aa --dry-run",
            undo(message, false, true),
            planned,
        ),
        (
            "undo 8d3f01aa00000001",
            undo(envelope, false, false),
            restored,
        ),
        (
            "remove all --now",
            Request::RemoveNow(Selector::All),
            removed,
        ),
        (
            "remove 8d3f01aa --now",
            Request::RemoveNow(message),
            removed,
        ),
    ] {
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(place.smtpctl(&words), format!("{want}[exit 0]\n"), "{line}");
        assert_eq!(told.try_recv(), Ok(request), "{line}");
    }
    place.smtpctl(&["remove", "all", "--now", "--domain", "dead.example"]);
    let selected = told.try_recv().unwrap();
    assert!(
        matches!(
            &selected,
            Request::Select {
                verb: Verb::RemoveNow,
                ..
            }
        ),
        "{selected:?}"
    );
    let shown = place.smtpctl(&["schedule", "all", "--now"]);
    assert!(
        shown.contains("--now is not for this command, but for remove"),
        "{shown}"
    );
}

/// Puts something of a store into the trash, at this time.
fn discard(store: &mut LogStore, selector: queue::Selector, at: u64) {
    let span = Span::all(selector);
    let at = Timestamp::from_secs(at);
    let prepared = store.prepare(Transition::Discard { span, at }).unwrap();
    store.commit(vec![prepared]).unwrap();
}

#[test]
fn the_trash_of_a_stopped_daemon_is_shown_and_given_back() {
    let place = Place::new();
    let mut store = filled(place.path());
    let message = queue::Selector::Message("7c84c730".parse().unwrap());
    discard(&mut store, message, 1_795_335_700);
    discard(&mut store, queue::Selector::All, 1_795_335_800);
    drop(store);
    let trash = place.smtpctl(&["show", "trash"]);
    assert_eq!(trash.matches("|trash||").count(), 3, "{trash}");
    assert_eq!(place.smtpctl(&["show", "queue"]), "[exit 0]\n");
    let check = place.smtpctl(&["store", "check"]);
    assert!(
        check.starts_with("2 messages, 0 envelopes, ")
            && check.contains("3 envelopes in the trash\n"),
        "{check}"
    );
    expect![[r"
        1 envelope restored
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["undo"]));
    expect![[r"
        0 envelope restored
        [stderr]
        smtpctl: no such message 0253f956
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["undo", "0253f956"]));
    expect![[r"
        2 envelopes restored
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["undo", "all"]));
    expect![[r"
        0 envelope restored
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["undo", "last"]));
    let queue = place.smtpctl(&["show", "queue"]);
    assert_eq!(queue.matches("|offline||").count(), 3, "{queue}");
}
