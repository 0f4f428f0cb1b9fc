//! The built programs against a daemon that says what it is told to.

use crate::place::{FRAME_MAX, Place, program};
use expect_test::expect;
use nix::sys::socket::{Backlog, listen};
use redspool_core::control::{
    Agent, DeliveryRecord, DigestRow, EnvelopeRecord, EnvelopeRow, Family, Lack, Reply, Request,
    Right, RowFlags, Runstate, SecurityRow, Selector, StatusRow, Subsystem, frame,
};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

const MESSAGE: u32 = 0x8d3f_01aa;
const ENVELOPE: u64 = 0x8d3f_01aa_0000_0001;
pub(super) const LACK: Lack = Lack {
    uid: 1000,
    right: Right::Control,
    owner: None,
    operators: None,
};

fn row(id: u64) -> EnvelopeRow {
    EnvelopeRow {
        id,
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
        runstate: Runstate::Offline,
        errorline: "Network error on destination MXs".into(),
        status: None,
        tag: String::new(),
    }
}

#[test]
fn show_queue_lists_what_the_daemon_sends() {
    let place = Place::new();
    let told = place.daemon(|request| match request {
        Request::ShowQueue(Selector::All) => vec![
            Reply::EnvelopeRows(vec![row(ENVELOPE), row(ENVELOPE + 1)]),
            Reply::EnvelopeRows(vec![row(ENVELOPE + 2)]),
            Reply::End,
        ],
        _ => vec![Reply::Unknown],
    });
    let all = expect![[r"
        8d3f01aa00000001|inet4|mta||sender@example.org|x@dead.example|x@dead.example|1795335353|1795680953|1795335360|1|offline||Network error on destination MXs
        8d3f01aa00000002|inet4|mta||sender@example.org|x@dead.example|x@dead.example|1795335353|1795680953|1795335360|1|offline||Network error on destination MXs
        8d3f01aa00000003|inet4|mta||sender@example.org|x@dead.example|x@dead.example|1795335353|1795680953|1795335360|1|offline||Network error on destination MXs
        [exit 0]
    "]];
    all.assert_eq(&place.smtpctl(&["show", "queue"]));
    all.assert_eq(&place.smtpctl(&["sh", "q"]));
    expect![[r"
        [stderr]
        smtpctl: no such message 8d3f01ab
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["show", "queue", "8D3F01AB"]));
    expect![[r"
        [stderr]
        smtpctl: no such envelope 8d3f01ab00000001
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["show", "queue", "8d3f01ab00000001"]));
    let asked: Vec<_> = told.try_iter().collect();
    assert_eq!(
        asked[2..],
        [
            Request::ShowQueue(Selector::Message(0x8d3f_01ab)),
            Request::ShowQueue(Selector::Envelope(0x8d3f_01ab_0000_0001)),
        ]
    );
}

#[test]
fn mailq_lists_the_queue_whatever_it_is_told() {
    let place = Place::new();
    let told = place.daemon(|_| vec![Reply::EnvelopeRows(vec![row(ENVELOPE)]), Reply::End]);
    let want = place.smtpctl(&["show", "queue"]);
    let spool = place.path().as_os_str();
    for args in [
        &[][..],
        &["-v"],
        &["foo", "bar"],
        &["-q", "-Ac", "--unknown", "remove"],
    ] {
        let mut mailq = program("mailq");
        mailq.args(args).env("REDSPOOL_SPOOL", spool);
        assert_eq!(place.shown(&mut mailq), want, "{args:?}");
    }
    let mut mailq = program("mailq");
    mailq
        .arg("--spool")
        .arg(spool)
        .env("REDSPOOL_SPOOL", "/elsewhere");
    assert_eq!(place.shown(&mut mailq), want);
    assert!(
        told.try_iter()
            .all(|request| request == Request::ShowQueue(Selector::All))
    );
}

#[test]
fn the_name_it_is_called_by_decides() {
    let place = Place::new();
    let _told = place.daemon(|_| vec![Reply::Denied(LACK)]);
    let called = |name: &str| {
        let link = place.path().join(name);
        symlink(env!("CARGO_BIN_EXE_smtpctl"), &link).unwrap();
        let mut command = std::process::Command::new(link);
        command.env_clear().env("REDSPOOL_SPOOL", place.path());
        place.shown(&mut command)
    };
    assert_eq!(
        called("mailq"),
        "[stderr]\nmailq: need root privileges\n\
         mailq: uid 1000 may not do this, but root may\n[exit 1]\n"
    );
    assert_eq!(called("foo"), "[stderr]\nfoo: unsupported mode\n[exit 1]\n");
}

#[test]
fn show_envelope_and_message_print_what_is_stored() {
    let place = Place::new();
    let told = place.daemon(|request| match request {
        Request::ShowEnvelope(id) => vec![Reply::EnvelopeRecord(Box::new(EnvelopeRecord {
            id,
            action: "outbound".into(),
            tag: "T1".into(),
            agent: Agent::Mta,
            delivery: DeliveryRecord::Mta {
                relay: None,
                helo: String::new(),
                src: String::new(),
                helo_src: String::new(),
                backup: String::new(),
                security: SecurityRow::default(),
            },
            smtpname: "mx.example.org".into(),
            helo: "client.example".into(),
            hostname: "localhost".into(),
            username: String::new(),
            sockaddr: "127.0.0.1".into(),
            sender: "sender@example.org".into(),
            rcpt: "x@dead.example".into(),
            dest: "x@dead.example".into(),
            ctime: 1_795_335_353,
            last_try: 1_795_335_360,
            last_bounce: 0,
            ttl: 345_600,
            retry: 1,
            authenticated: false,
            bounce: false,
            internal: false,
            suspended: false,
            maybe_duplicated: false,
            dsn_notify: None,
            dsn_ret_full: None,
            dsn_envid: String::new(),
            dsn_orcpt: String::new(),
            status: None,
            errorline: "\u{1b}[31mred".into(),
            remote: String::new(),
        }))],
        Request::ShowMessage(_) => vec![
            Reply::Piece(b"Subject: x\r".to_vec()),
            Reply::Piece(b"\n\r\nhello\r\n".to_vec()),
            Reply::End,
        ],
        _ => vec![Reply::Unknown],
    });
    expect![[r"
        version: 3
        dispatcher: outbound
        tag: T1
        type: mta
        smtpname: mx.example.org
        helo: client.example
        hostname: localhost
        errorline: \^[[31mred
        sockaddr: 127.0.0.1
        sender: sender@example.org
        rcpt: x@dead.example
        dest: x@dead.example
        ctime: 1795335353
        last-try: 1795335360
        last-bounce: 0
        ttl: 345600
        retry: 1
        dsn-notify: 0
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["show", "envelope", "8d3f01aa00000001"]));
    let message = expect![[r"
        Subject: x

        hello
        [exit 0]
    "]];
    message.assert_eq(&place.smtpctl(&["show", "message", "8d3f01aa"]));
    message.assert_eq(&place.smtpctl(&["show", "message", "8d3f01aa00000001"]));
    let asked: Vec<_> = told.try_iter().collect();
    assert_eq!(
        asked,
        [
            Request::ShowEnvelope(ENVELOPE),
            Request::ShowMessage(MESSAGE),
            Request::ShowMessage(MESSAGE),
        ]
    );
}

#[test]
fn status_and_stats_are_shown() {
    let place = Place::new();
    let _told = place.daemon(|request| match request {
        Request::ShowStatus => vec![Reply::Status(StatusRow {
            mta_paused: true,
            ..StatusRow::default()
        })],
        _ => vec![Reply::Stats {
            uptime: 2,
            rows: vec![("control.session".into(), 1)],
        }],
    });
    expect![[r"
        MDA running
        MTA paused
        SMTP running
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["show", "status"]));
    expect![[r"
        control.session=1
        uptime=2
        uptime.human=2s
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["show", "stats"]));
}

#[test]
fn every_verb_is_one_request() {
    let place = Place::new();
    let told = place.daemon(|request| match request {
        Request::Pause { .. } | Request::Log { .. } => vec![Reply::Done],
        _ => vec![Reply::Affected {
            count: 3,
            inflight: 1,
        }],
    });
    let one = Selector::Envelope(ENVELOPE);
    let many = Selector::Message(MESSAGE);
    let suspend = |selector, suspended| Request::Suspend {
        selector,
        suspended,
    };
    let pause = |subsystem, paused| Request::Pause { subsystem, paused };
    let cases = [
        (
            "schedule all",
            Request::Schedule(Selector::All),
            "3 envelopes scheduled\n",
        ),
        (
            "schedule 8d3f01aa",
            Request::Schedule(many),
            "3 envelopes scheduled\n",
        ),
        (
            "remove 8d3f01aa00000001",
            Request::Remove(one),
            "3 envelopes removed\n[stderr]\n\
             smtpctl: 1 of these in flight: the running attempt may still deliver\n",
        ),
        (
            "pause envelope all",
            suspend(Selector::All, true),
            "3 envelopes paused\n",
        ),
        (
            "pau env 8d3f01aa",
            suspend(many, true),
            "3 envelopes paused\n",
        ),
        (
            "resume envelope 8d3f01aa00000001",
            suspend(one, false),
            "3 envelopes resumed\n",
        ),
        (
            "pause mda",
            pause(Subsystem::Mda, true),
            "command succeeded\n",
        ),
        (
            "pause mta",
            pause(Subsystem::Mta, true),
            "command succeeded\n",
        ),
        (
            "pause smtp",
            pause(Subsystem::Smtp, true),
            "command succeeded\n",
        ),
        (
            "resume mda",
            pause(Subsystem::Mda, false),
            "command succeeded\n",
        ),
        (
            "resume mta",
            pause(Subsystem::Mta, false),
            "command succeeded\n",
        ),
        (
            "resume smtp",
            pause(Subsystem::Smtp, false),
            "command succeeded\n",
        ),
        (
            "log brief",
            Request::Log { verbose: false },
            "command succeeded\n",
        ),
        (
            "log verbose",
            Request::Log { verbose: true },
            "command succeeded\n",
        ),
    ];
    for (line, request, want) in cases {
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(place.smtpctl(&words), format!("{want}[exit 0]\n"), "{line}");
        assert_eq!(told.try_recv(), Ok(request), "{line}");
    }
}

#[test]
fn failures_say_why_on_stderr() {
    let place = Place::new();
    let _told = place.daemon(|request| match request {
        Request::Pause { .. } => vec![Reply::Fail {
            reason: "mta is paused already".into(),
        }],
        Request::Remove(_) => vec![Reply::Unknown],
        Request::ShowQueue(_) => vec![
            Reply::EnvelopeRows(vec![row(ENVELOPE)]),
            Reply::Damaged {
                message: 0x8d3f_01ab,
                reason: "checksum".into(),
            },
            Reply::EnvelopeRows(vec![row(ENVELOPE + (2 << 32))]),
            Reply::End,
        ],
        _ => vec![Reply::Denied(LACK)],
    });
    expect![[r"
        command failed
        [stderr]
        smtpctl: mta is paused already
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["pause", "mta"]));
    expect![[r"
        0 envelope removed
        [stderr]
        smtpctl: no such envelope 8d3f01aa00000001
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["remove", "8d3f01aa00000001"]));
    expect![[r"
        8d3f01aa00000001|inet4|mta||sender@example.org|x@dead.example|x@dead.example|1795335353|1795680953|1795335360|1|offline||Network error on destination MXs
        8d3f01ac00000001|inet4|mta||sender@example.org|x@dead.example|x@dead.example|1795335353|1795680953|1795335360|1|offline||Network error on destination MXs
        [stderr]
        smtpctl: message 8d3f01ab is damaged: checksum
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["show", "queue"]));
    expect![[r"
        [stderr]
        smtpctl: need root privileges
        smtpctl: uid 1000 may not do this, but root may
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["schedule", "all"]));
}

#[test]
fn monitor_writes_every_line_when_it_is_made() {
    let place = Place::new();
    let _told = place.daemon(|_| vec![Reply::Digest(DigestRow::default())]);
    let spool = format!("--spool={}", place.path().display());
    let mut child = program("smtpctl")
        .args([&spool, "monitor", "--interval", "300"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(3);
    let lines: Vec<_> = lines.map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let want = "   0    0    0     0    0    0    0       0       0    0      0      0      0";
    assert_eq!(lines[2], want);
}

#[test]
fn monitor_ends_after_its_count_and_when_the_daemon_goes() {
    let place = Place::new();
    let mut left = 2;
    let _told = place.daemon(move |_| {
        left -= 1;
        let digest = DigestRow {
            enqueued: 7,
            ..DigestRow::default()
        };
        if left >= 0 {
            vec![Reply::Digest(digest)]
        } else {
            Vec::new()
        }
    });
    expect![[r"
        --- client ---  -- envelope --   ---- relay/delivery --- ------- misc -------
        curr conn disc  curr  enq  deq   ok tmpfail prmfail loop expire remove bounce
           0    0    0     7    7    0    0       0       0    0      0      0      0
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["monitor", "--count=1"]));
    let place = Place::new();
    place.listen(|mut stream| {
        stream.read_exact(&mut [0; 6]).unwrap();
        let digest = Reply::Digest(DigestRow::default());
        stream
            .write_all(&frame::encode(&digest, FRAME_MAX).unwrap())
            .unwrap();
    });
    expect![[r"
        --- client ---  -- envelope --   ---- relay/delivery --- ------- misc -------
        curr conn disc  curr  enq  deq   ok tmpfail prmfail loop expire remove bounce
           0    0    0     0    0    0    0       0       0    0      0      0      0
        [stderr]
        smtpctl: pipe closed
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["monitor", "--interval=1"]));
}

#[test]
fn a_silent_daemon_does_not_hang_us() {
    let want = expect![[r"
        [stderr]
        smtpctl: smtpd does not answer: DIR/smtpd.sock: nothing within 1 s (ETIMEDOUT); look into its log, or wait longer with --timeout
        [exit 1]
    "]];
    let place = Place::new();
    let mut held = Vec::new();
    place.listen(move |stream| held.push(stream));
    want.assert_eq(&place.smtpctl(&["show", "status", "--timeout=1"]));

    // Nobody accepts, and the backlog is full.
    let place = Place::new();
    let listener = UnixListener::bind(place.socket()).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let _waiting = UnixStream::connect(place.socket()).unwrap();
    want.assert_eq(&place.smtpctl(&["show", "status", "--timeout=1"]));
}

#[test]
fn another_protocol_is_refused_naming_both_versions() {
    let place = Place::new();
    place.listen(|mut stream| {
        let mut frame = frame::encode(&Reply::Done, FRAME_MAX).unwrap();
        frame[4] = 9;
        stream.write_all(&frame).unwrap();
    });
    expect![[r"
        [stderr]
        smtpctl: incompatible smtpctl and smtpd: the other side speaks version 9 of the control protocol, this one version 6
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["pause", "mta"]));
}

#[test]
fn a_daemon_that_talks_nonsense_is_not_believed() {
    let check = |octets: &'static [u8], want: &str| {
        let place = Place::new();
        place.listen(move |mut stream| {
            stream.read_exact(&mut [0; 6]).unwrap();
            stream.write_all(octets).unwrap();
        });
        let want = format!("[stderr]\nsmtpctl: {want}\n[exit 1]\n");
        assert_eq!(place.smtpctl(&["show", "status"]), want);
    };
    check(b"", "pipe closed");
    check(&[1, 0, 0, 0, frame::VERSION], "malformed control message");
    check(
        b"220 mx.",
        "control message of 540029490 octets, the limit is 1048576",
    );
}

#[test]
fn what_a_daemon_says_before_it_hangs_up_is_heard() {
    let place = Place::new();
    place.listen(|mut stream| {
        let reply = Reply::Fail {
            reason: "too many control connections of your user".into(),
        };
        stream
            .write_all(&frame::encode(&reply, FRAME_MAX).unwrap())
            .unwrap();
    });
    expect![[r"
        [stderr]
        smtpctl: too many control connections of your user
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["show", "status"]));
}

#[test]
fn a_closed_pipe_ends_a_listing_quietly() {
    let place = Place::new();
    let (go, gone) = std::sync::mpsc::channel();
    let _told = place.daemon(move |_| {
        gone.recv().unwrap();
        vec![Reply::EnvelopeRows(vec![row(ENVELOPE)]), Reply::End]
    });
    let spool = format!("--spool={}", place.path().display());
    let mut child = program("smtpctl")
        .args([&spool, "show", "queue"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    go.send(()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr),
        (Some(141), Vec::new())
    );
}
