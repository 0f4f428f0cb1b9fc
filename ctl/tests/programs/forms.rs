//! Selection, summaries and forms for programs, with a daemon and without one, and pipes.

use crate::offline::filled;
use crate::place::{Place, program, shown};
use expect_test::expect;
use redspool_core::control::{
    Agent, Census, DigestRow, EnvelopeRow, Family, Reply, Request, RowFlags, Runstate, Selection,
    Selector, Verb,
};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn row(number: u64, dest: &str) -> EnvelopeRow {
    EnvelopeRow {
        id: number << 32 | 1,
        family: Family::Inet4,
        agent: Agent::Mta,
        flags: RowFlags::default(),
        sender: "sender@example.org".into(),
        rcpt: dest.into(),
        dest: dest.into(),
        ctime: 1_795_335_353,
        expiry: 1_795_680_953,
        last_try: 1_795_335_360,
        retry: 1,
        runstate: Runstate::Offline,
        errorline: "451 4.7.1 Greylisted".into(),
        status: None,
        tag: String::new(),
    }
}

/// A daemon with three envelopes, the last one accepted just now.
fn three(place: &Place) {
    let _told = place.daemon(|request| {
        assert_eq!(request, Request::ShowQueue(Selector::All));
        let last = EnvelopeRow {
            sender: String::new(),
            ctime: now(),
            agent: Agent::Bounce,
            errorline: String::new(),
            ..row(3, "c@two.example")
        };
        vec![
            Reply::EnvelopeRows(vec![row(1, "a@one.example"), row(2, "b@two.example")]),
            Reply::EnvelopeRows(vec![last]),
            Reply::End,
        ]
    });
}

/// The ids of what is listed.
fn ids(place: &Place, args: &[&str]) -> String {
    let mut words = vec!["show", "queue"];
    words.extend(args);
    let shown = place.smtpctl(&words);
    let lines = shown.strip_suffix("[exit 0]\n").expect(&shown);
    let ids = lines.lines().map(|line| line[7..8].to_owned());
    ids.collect::<Vec<_>>().join(" ")
}

#[test]
fn options_select_and_combine() {
    let place = Place::new();
    three(&place);
    for (args, want) in [
        (&[][..], "1 2 3"),
        (&["--sender", "@example.org"], "1 2"),
        (&["--sender", "@"], "3"),
        (&["--rcpt=b@two.example", "--rcpt", "a"], "1 2"),
        (&["--domain", "two.example"], "2 3"),
        (&["--domain", "*.example", "--error", "451"], "1 2"),
        (&["--error", "greylisted", "--domain", "two.example"], "2"),
        (&["--older", "1h"], "1 2"),
        (&["--newer", "1h"], "3"),
        (&["--state", "offline,pending"], "1 2 3"),
        (&["--state", "hold"], ""),
        (&["--type", "bounce"], "3"),
        (&["--type=mta", "--type=bounce", "--limit", "2"], "1 2"),
        (&["--limit", "0"], ""),
        (&["--tag", "SUBM"], ""),
    ] {
        assert_eq!(ids(&place, args), want, "{args:?}");
    }
}

#[test]
fn patterns_of_nothing_and_forms_that_exclude_each_other_are_refused() {
    let place = Place::new();
    for (args, want) in [
        (
            &["--sender", ""][..],
            "invalid value '' for '--sender <ADDRESS>': expected user@domain, @domain or user, \
             * for any part, or @ for the null sender; try --help",
        ),
        (
            &["--domain="],
            "invalid value '' for '--domain <NAME>': expected a name; * stands for any part; try \
             --help",
        ),
        (
            &["--older", "5"],
            "invalid value '5' for '--older <AGE>': expected numbers with units, such as 30m, \
             2h, 4d or 1d12h; try --help",
        ),
        (
            &["--state", "deferred"],
            "invalid value 'deferred' for '--state <STATE>'; try --help",
        ),
        (
            &["--json", "--csv"],
            "the argument '--json' cannot be used with '--csv'; try --help",
        ),
    ] {
        let mut words = vec!["show", "queue"];
        words.extend(args);
        let want = format!("[stderr]\nsmtpctl: {want}\n[exit 255]\n");
        assert_eq!(place.smtpctl(&words), want);
    }
    expect![[r"
        [stderr]
        smtpctl: show status: --dry-run is not for this command, but for pause envelope, resume envelope, remove, schedule, undo, store import; try --help
        [exit 255]
    "]].assert_eq(&place.smtpctl(&["show", "status", "--dry-run"]));
    expect![[r"
        [stderr]
        smtpctl: show status: --csv is not for this command, but for show mta paused, show hoststats, show queue, show hosts, show relays, show routes, show stats, show trash, monitor; try --help
        [exit 255]
    "]].assert_eq(&place.smtpctl(&["show", "status", "--csv"]));
}

#[test]
fn a_queue_is_shown_in_every_form() {
    let place = Place::new();
    three(&place);
    let queue = |args: &[&str]| {
        let mut words = vec!["show", "queue", "--older", "1h"];
        words.extend(args);
        place.smtpctl(&words)
    };
    expect![[r#"
        {"id":"0000000100000001","message":"00000001","family":"inet4","type":"mta","flags":[],"sender":"sender@example.org","rcpt":"a@one.example","dest":"a@one.example","ctime":1795335353,"expiry":1795680953,"last_try":1795335360,"retry":1,"state":"offline","due":null,"since":null,"error":"451 4.7.1 Greylisted","status":null,"tag":null}
        {"id":"0000000200000001","message":"00000002","family":"inet4","type":"mta","flags":[],"sender":"sender@example.org","rcpt":"b@two.example","dest":"b@two.example","ctime":1795335353,"expiry":1795680953,"last_try":1795335360,"retry":1,"state":"offline","due":null,"since":null,"error":"451 4.7.1 Greylisted","status":null,"tag":null}
        [exit 0]
    "#]].assert_eq(&queue(&["--json"]));
    expect![[r"
        id,message,family,type,flags,sender,rcpt,dest,ctime,expiry,last_try,retry,state,due,since,error,status,tag
        0000000100000001,00000001,inet4,mta,,sender@example.org,a@one.example,a@one.example,1795335353,1795680953,1795335360,1,offline,,,451 4.7.1 Greylisted,,
        0000000200000001,00000002,inet4,mta,,sender@example.org,b@two.example,b@two.example,1795335353,1795680953,1795335360,1,offline,,,451 4.7.1 Greylisted,,
        [exit 0]
    "]].assert_eq(&queue(&["--csv"]));
    let summary = queue(&["--summary", "--csv"]);
    let domains: Vec<_> = summary
        .lines()
        .filter_map(|line| line.split_once(','))
        .collect();
    let heads: Vec<_> = domains.iter().map(|(domain, _)| *domain).collect();
    assert_eq!(heads, ["domain", "", "one.example", "two.example"]);
    let mut mailq = program("mailq");
    let named = mailq.env("REDSPOOL_SPOOL", place.path());
    let named = named.args(["-v", "--older=1h", "--nonsense", "--json", "--limit", "1"]);
    expect![[r#"
        {"id":"0000000100000001","message":"00000001","family":"inet4","type":"mta","flags":[],"sender":"sender@example.org","rcpt":"a@one.example","dest":"a@one.example","ctime":1795335353,"expiry":1795680953,"last_try":1795335360,"retry":1,"state":"offline","due":null,"since":null,"error":"451 4.7.1 Greylisted","status":null,"tag":null}
        [exit 0]
    "#]].assert_eq(&place.shown(named));
}

#[test]
fn the_store_of_a_stopped_daemon_is_shown_in_every_form() {
    let place = Place::new();
    drop(filled(place.path()));
    let queue = |args: &[&str]| {
        let mut words = vec!["show", "queue"];
        words.extend(args);
        place.smtpctl(&words)
    };
    expect![[r"
        id,message,family,type,flags,sender,rcpt,dest,ctime,expiry,last_try,retry,state,due,since,error,status,tag
        0253f95600000001,0253f956,inet4,mta,,sender@example.org,a@dead.example,a@dead.example,1795335656,1795681256,,0,offline,,,,,TAG0253f956
        7c84c73000000001,7c84c730,inet4,mta,,sender@example.org,a@dead.example,a@dead.example,1795335656,1795681256,,0,offline,,,,,TAG7c84c730
        7c84c73000000002,7c84c730,inet4,mta,,sender@example.org,a@dead.example,a@dead.example,1795335656,1795681256,,0,offline,,,,,TAG7c84c730
        [exit 0]
    "]].assert_eq(&queue(&["--csv"]));
    expect![[r#"
        {"id":"0253f95600000001","message":"0253f956","family":"inet4","type":"mta","flags":[],"sender":"sender@example.org","rcpt":"a@dead.example","dest":"a@dead.example","ctime":1795335656,"expiry":1795681256,"last_try":null,"retry":0,"state":"offline","due":null,"since":null,"error":null,"status":null,"tag":"TAG0253f956"}
        [exit 0]
    "#]].assert_eq(&queue(&["--json", "--tag", "TAG0253f956", "--limit", "1"]));
    expect![[r"
              T 5 10 20 40 80 160 320 640 1280 1280+
        TOTAL 0 0  0  0  0  0   0   0   0    0     0
        [exit 0]
    "]]
    .assert_eq(&queue(&[
        "--summary",
        "--older",
        "0s",
        "--sender",
        "nobody",
    ]));
    expect![[r"
        [stderr]
        smtpctl: no such message 33333333
        [exit 1]
    "]]
    .assert_eq(&queue(&["33333333", "--json"]));
}

#[test]
fn verbs_send_what_is_selected() {
    let place = Place::new();
    let told = place.daemon(|request| match request {
        Request::Select { dry_run: false, .. } => vec![
            Reply::Working,
            Reply::Affected {
                count: 2,
                inflight: 0,
            },
        ],
        _ => vec![Reply::Census(Box::new(Census {
            envelopes: 3,
            inflight: 1,
            messages: 2,
            octets: 4321,
            senders: vec![("a@b.example".into(), 2), (String::new(), 1)],
            domains: vec![("one.example".into(), 3)],
            errors: vec![("451 \u{1b}[2J".into(), 1)],
        }))],
    });
    let all = Selector::All;
    let message = Selector::Message(0x8d3f_01aa);
    for (line, verb, selector, done) in [
        ("schedule all", Verb::Schedule, all, "scheduled"),
        ("remove 8d3f01aa", Verb::Remove, message, "removed"),
        ("pause envelope all", Verb::Suspend, all, "paused"),
        ("res env all", Verb::Resume, all, "resumed"),
    ] {
        let mut words: Vec<_> = line.split(' ').collect();
        words.extend(["--type", "mda,mta", "--limit=7"]);
        let want = format!("2 envelopes {done}\n[exit 0]\n");
        assert_eq!(place.smtpctl(&words), want, "{line}");
        let selection = Box::new(Selection {
            agents: vec![Agent::Mda, Agent::Mta],
            limit: Some(7),
            ..Selection::default()
        });
        let request = Request::Select {
            verb,
            selector,
            selection,
            dry_run: false,
        };
        assert_eq!(told.try_recv(), Ok(request), "{line}");
    }
    expect![[r"
        3 envelopes would be removed
        messages: 2
        octets: 4321
        in flight: 1
        senders:
               2 a@b.example
               1 @
        domains:
               3 one.example
        errors:
               1 451 \^[[2J
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["remove", "all", "--dry-run"]));
}

#[test]
fn a_listing_without_end_ends_with_its_reader() {
    let place = Place::new();
    let page: Vec<_> = (1..=1000).map(|at| row(at, "a@one.example")).collect();
    place.listen(move |mut stream| {
        stream.read_exact(&mut [0; 6]).unwrap();
        let reply = Reply::EnvelopeRows(page.clone());
        let frame = redspool_core::control::frame::encode(&reply, crate::place::FRAME_MAX);
        let frame = frame.unwrap();
        // Until the other side hangs up.
        while std::io::Write::write_all(&mut stream, &frame).is_ok() {}
    });
    let mut mailq = program("mailq");
    mailq.env("REDSPOOL_SPOOL", place.path());
    let mut child = mailq
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let head = Command::new("head")
        .stdin(Stdio::from(child.stdout.take().unwrap()))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(head.stdout).unwrap().lines().count(), 10);
    assert_eq!(shown(&child.wait_with_output().unwrap()), "[exit 141]\n");
    // The limit hangs up as well.
    let limited = place.smtpctl(&["show", "queue", "--limit", "3"]);
    assert_eq!(limited.lines().count(), 4);
    assert!(limited.ends_with("[exit 0]\n"), "{limited}");
}

#[test]
fn monitor_writes_records_when_they_are_made() {
    let place = Place::new();
    let _told = place.daemon(|_| vec![Reply::Digest(DigestRow::default())]);
    let spool = format!("--spool={}", place.path().display());
    let mut child = program("smtpctl")
        .args([&spool, "monitor", "--json", "--interval", "300"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.starts_with("{\"clients\":0,"), "{line}");
}
