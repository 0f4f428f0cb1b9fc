//! The bytes of every form, from typed replies.

use super::*;
use expect_test::{Expect, expect};
use redspool_core::control::{
    Agent, BounceKind, DeliveryRecord, EnvelopeRecord, EnvelopeRow, Family, NotifyRow, OpeningRow,
    QueueState, RowFlags, Runstate, SecurityRow, SpaceRow, StatusCode, StatusRow,
};

/// The date all tests run at.
const NOW: u64 = 1_795_335_400;

fn written(render: Render, replies: Vec<Reply>) -> String {
    let mut renderer = Renderer::new(render, "message 8d3f01aa".into(), NOW, false);
    let mut text = String::new();
    for reply in replies {
        let written = renderer.reply(reply);
        text.push_str(&String::from_utf8(written.out).unwrap());
        for remark in written.remarks {
            text.extend(["[", &remark, "]\n"]);
        }
        if written.failed {
            text.push_str("[failed]\n");
        }
    }
    text
}

fn check(render: Render, replies: Vec<Reply>, want: &Expect) {
    want.assert_eq(&written(render, replies));
}

fn lacking(right: Right, owner: Option<u32>, operators: Option<&str>) -> Reply {
    Reply::Denied(Lack {
        uid: 1000,
        right,
        owner,
        operators: operators.map(str::to_owned),
    })
}

fn row() -> EnvelopeRow {
    EnvelopeRow {
        id: 0xa565_0942_d977_af13,
        family: Family::Inet6,
        agent: Agent::Mta,
        flags: RowFlags::default(),
        sender: "sender@example.org".into(),
        rcpt: "y@tmp.example".into(),
        dest: "y@tmp.example".into(),
        ctime: 1_795_335_353,
        expiry: 1_795_680_953,
        last_try: 1_795_335_360,
        retry: 1,
        runstate: Runstate::Pending {
            due: 1_795_335_798,
            held: false,
        },
        errorline: "451 4.7.1 <x@y>: Greylisted | try\\later \u{1} caf\u{e9}".into(),
        status: None,
        tag: String::new(),
    }
}

#[test]
fn listings_have_fourteen_fields() {
    let inflight = EnvelopeRow {
        family: Family::Inet4,
        flags: RowFlags {
            suspend: true,
            ..RowFlags::default()
        },
        runstate: Runstate::Inflight {
            since: 1_795_335_395,
        },
        errorline: String::new(),
        retry: 0,
        ..row()
    };
    let overdue = EnvelopeRow {
        family: Family::Local,
        agent: Agent::Bounce,
        flags: RowFlags {
            bounce: true,
            auth: true,
            internal: true,
            suspend: true,
            hold: true,
        },
        sender: String::new(),
        runstate: Runstate::Pending {
            due: NOW - 3,
            held: true,
        },
        last_try: 0,
        errorline: String::new(),
        ..row()
    };
    let offline = EnvelopeRow {
        agent: Agent::Mda,
        rcpt: "a|b@dead.example".into(),
        runstate: Runstate::Offline,
        errorline: "two\nlines".into(),
        ..row()
    };
    let rows = Reply::EnvelopeRows(vec![row(), inflight, overdue, offline]);
    check(
        Render::Listing,
        vec![rows, Reply::End],
        &expect![[r"
            a5650942d977af13|inet6|mta||sender@example.org|y@tmp.example|y@tmp.example|1795335353|1795680953|1795335360|1|pending|398|451 4.7.1 <x@y>: Greylisted | try\\later \^A caf\M-C\M-)
            a5650942d977af13|inet4|mta|suspend|sender@example.org|y@tmp.example|y@tmp.example|1795335353|1795680953|1795335395|0|inflight|5|
            a5650942d977af13|local|bounce|bounce,auth,internal,suspend,hold|@|y@tmp.example|y@tmp.example|1795335353|1795680953|0|1|pending|-3|
            a5650942d977af13|inet6|mda||sender@example.org|a\174b@dead.example|y@tmp.example|1795335353|1795680953|1795335360|1|offline||two\^Jlines
        "]],
    );
}

#[test]
fn an_empty_listing_is_empty() {
    check(Render::Listing, vec![Reply::End], &expect![""]);
}

#[test]
fn damage_is_told_and_the_listing_goes_on() {
    let damaged = Reply::Damaged {
        message: 0x8d3f_01aa,
        reason: "checksum \u{1b}[2J".into(),
    };
    let end = vec![damaged, Reply::EnvelopeRows(vec![]), Reply::End];
    check(
        Render::Listing,
        end,
        &expect![[r"
            [message 8d3f01aa is damaged: checksum \^[[2J]
            [failed]
        "]],
    );
}

#[test]
fn unknown_ids_are_named() {
    let want = expect![[r"
        [no such message 8d3f01aa]
        [failed]
    "]];
    check(Render::Listing, vec![Reply::Unknown], &want);
    check(Render::Record, vec![Reply::Unknown], &want);
    check(Render::Content, vec![Reply::Unknown], &want);
    check(
        Render::Affected("removed"),
        vec![Reply::Unknown],
        &expect![[r"
            0 envelope removed
            [no such message 8d3f01aa]
            [failed]
        "]],
    );
}

#[test]
fn none_counts_as_one() {
    let affected = |count, inflight| Reply::Affected { count, inflight };
    check(
        Render::Affected("removed"),
        vec![affected(0, 0), affected(1, 0), affected(60, 2)],
        &expect![[r"
            0 envelope removed
            1 envelope removed
            60 envelopes removed
            [2 of these in flight: the running attempt may still deliver]
        "]],
    );
    check(
        Render::Affected("paused"),
        vec![affected(11, 3)],
        &expect![[r"
            11 envelopes paused
        "]],
    );
}

#[test]
fn commands_succeed_or_fail_on_stdout_and_say_why_on_stderr() {
    check(
        Render::Done,
        vec![Reply::Done],
        &expect![[r"
            command succeeded
        "]],
    );
    let fail = Reply::Fail {
        reason: "mta is paused already".into(),
    };
    check(
        Render::Done,
        vec![fail.clone()],
        &expect![[r"
            command failed
            [mta is paused already]
            [failed]
        "]],
    );
    check(
        Render::Listing,
        vec![fail],
        &expect![[r"
            [mta is paused already]
            [failed]
        "]],
    );
    check(
        Render::Done,
        vec![lacking(Right::Control, None, None)],
        &expect![[r"
            [need root privileges]
            [uid 1000 may not do this, but root may]
            [failed]
        "]],
    );
    check(
        Render::Listing,
        vec![lacking(Right::Look, Some(990), Some("operator"))],
        &expect![[r"
            [need root privileges]
            [uid 1000 may not see this, but root and uid 990 and members of the group operator may]
            [failed]
        "]],
    );
    check(
        Render::Status,
        vec![Reply::Done],
        &expect![[r"
            [bad message type]
            [failed]
        "]],
    );
}

#[test]
fn a_queue_that_is_not_well_has_lines_of_its_own() {
    let short = StatusRow {
        queue: QueueState::Short {
            seconds: 125,
            space: Some(SpaceRow {
                free: 13 << 20,
                reserve: 64 << 20,
                files: 4711,
                files_reserve: 64,
            }),
        },
        corrupt: 1,
        ..StatusRow::default()
    };
    check(
        Render::Status,
        vec![Reply::Status(short)],
        &expect![[r"
        MDA running
        MTA running
        SMTP running
        QUEUE short of space for 2m5s, new mail is put off: 13 MiB and 4711 files free, 64 MiB and 64 files are kept
        QUEUE 1 message in the corrupt bucket
    "]],
    );
    let down = StatusRow {
        queue: QueueState::Down {
            seconds: 3,
            reason: "i/o error:\nbad".into(),
        },
        corrupt: 12,
        opening: OpeningRow {
            damage: 2,
            back_in_time: true,
        },
        ..StatusRow::default()
    };
    check(
        Render::Status,
        vec![Reply::Status(down)],
        &expect![[r"
        MDA running
        MTA running
        SMTP running
        QUEUE down for 3s, everything is put off: i/o error:\^Jbad
        QUEUE went back in time when it was opened, see the log
        QUEUE damaged in 2 places when it was opened, see the log
        QUEUE 12 messages in the corrupt bucket
    "]],
    );
}

#[test]
fn status_is_three_lines() {
    let row = StatusRow {
        mta_paused: true,
        ..StatusRow::default()
    };
    check(
        Render::Status,
        vec![Reply::Status(row)],
        &expect![[r"
            MDA running
            MTA paused
            SMTP running
        "]],
    );
}

#[test]
fn stats_are_in_order_of_octets() {
    let rows = [
        ("smtp.session", 0),
        ("uptime.zone", 1),
        ("control.session", 1),
        ("a.b-c", -2),
    ];
    let rows = rows.map(|(key, value)| (key.to_owned(), value)).to_vec();
    check(
        Render::Stats,
        vec![Reply::Stats { uptime: 101, rows }],
        &expect![[r"
            a.b-c=-2
            control.session=1
            smtp.session=0
            uptime=101
            uptime.human=1m41s
            uptime.zone=1
        "]],
    );
}

#[test]
fn monitor_counts_from_line_to_line() {
    let first = DigestRow {
        clients_connected: 59,
        clients_disconnected: 59,
        enqueued: 83,
        dequeued: 59,
        ok: 46,
        tempfail: 23,
        permfail: 13,
        bounce: 13,
        ..DigestRow::default()
    };
    let second = DigestRow {
        clients_connected: 62,
        clients_disconnected: 62,
        enqueued: 87,
        dequeued: 61,
        ok: 47,
        tempfail: 24,
        permfail: 14,
        bounce: 14,
        loops: 123_456,
        expired: 1,
        removed: 26,
    };
    check(
        Render::Digests,
        [first, first, second].map(Reply::Digest).to_vec(),
        &expect![[r"
            --- client ---  -- envelope --   ---- relay/delivery --- ------- misc -------
            curr conn disc  curr  enq  deq   ok tmpfail prmfail loop expire remove bounce
               0   59   59    24   83   59   46      23      13    0      0      0     13
               0    0    0    24    0    0    0       0       0    0      0      0      0
               0    3    3    26    4    2    1       1       1 123456      1     26      1
        "]],
    );
}

#[test]
fn monitor_repeats_its_header_every_25_lines() {
    let text = written(
        Render::Digests,
        vec![Reply::Digest(DigestRow::default()); 26],
    );
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2 + 25 + 1 + 2 + 1);
    assert_eq!(lines[27], "");
    assert_eq!(lines[28..30], lines[..2]);
}

fn envelope(delivery: DeliveryRecord, agent: Agent) -> EnvelopeRecord {
    EnvelopeRecord {
        id: 1,
        action: "outbound".into(),
        tag: String::new(),
        agent,
        delivery,
        smtpname: "mx.example.org".into(),
        helo: "client.example".into(),
        hostname: "<unknown>".into(),
        username: String::new(),
        sockaddr: "[::1]".into(),
        sender: String::new(),
        rcpt: "x@dead.example".into(),
        dest: "x@dead.example".into(),
        ctime: 1_795_335_353,
        last_try: 0,
        last_bounce: 0,
        ttl: 345_600,
        retry: 0,
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
        errorline: String::new(),
        remote: String::new(),
    }
}

fn record(envelope: EnvelopeRecord) -> Vec<Reply> {
    vec![Reply::EnvelopeRecord(Box::new(envelope))]
}

#[test]
fn envelopes_have_their_keys_in_the_order_of_the_reference() {
    let relay = DeliveryRecord::Mta {
        relay: Some("smtp://[::1]:2525".into()),
        helo: "helo.example.org".into(),
        src: String::new(),
        helo_src: String::new(),
        backup: String::new(),
        security: SecurityRow::default(),
    };
    let full = EnvelopeRecord {
        tag: "SUBM".into(),
        username: "submit".into(),
        sender: "sender@example.org".into(),
        retry: 1,
        authenticated: true,
        bounce: true,
        internal: true,
        suspended: true,
        maybe_duplicated: true,
        dsn_notify: Some(NotifyRow {
            success: true,
            failure: true,
            delay: true,
        }),
        dsn_ret_full: Some(false),
        dsn_envid: "QQ314159".into(),
        dsn_orcpt: "rfc822;Orig@dead.example".into(),
        status: Some(StatusCode {
            class: 4,
            subject: 4,
            detail: 7,
        }),
        errorline: "451 try\\later \u{1}".into(),
        remote: "mx.example.net".into(),
        ..envelope(relay, Agent::Mta)
    };
    check(
        Render::Record,
        record(full),
        &expect![[r"
            version: 3
            dispatcher: outbound
            tag: SUBM
            type: mta
            smtpname: mx.example.org
            helo: client.example
            hostname: <unknown>
            username: submit
            errorline: 451 try\\later \^A
            remote: mx.example.net
            sockaddr: [::1]
            sender: sender@example.org
            rcpt: x@dead.example
            dest: x@dead.example
            ctime: 1795335353
            last-try: 0
            last-bounce: 0
            ttl: 345600
            retry: 1
            flags: authenticated bounce internal
            dsn-notify: 7
            dsn-ret: HDRS
            dsn-envid: QQ314159
            dsn-orcpt: rfc822;Orig@dead.example
            esc-class: 4
            esc-code: 47
            mta-relay: smtp://[::1]:2525
            mta-relay-heloname: helo.example.org
            suspended: yes
            maybe-duplicated: yes
        "]],
    );
}

#[test]
fn an_envelope_shows_only_keys_that_are_set() {
    let mx = DeliveryRecord::Mta {
        relay: None,
        helo: String::new(),
        src: String::new(),
        helo_src: String::new(),
        backup: String::new(),
        security: SecurityRow::default(),
    };
    let never = EnvelopeRecord {
        dsn_notify: Some(NotifyRow {
            success: false,
            failure: false,
            delay: false,
        }),
        ..envelope(mx, Agent::Mta)
    };
    check(
        Render::Record,
        record(never),
        &expect![[r"
            version: 3
            dispatcher: outbound
            type: mta
            smtpname: mx.example.org
            helo: client.example
            hostname: <unknown>
            sockaddr: [::1]
            sender: @
            rcpt: x@dead.example
            dest: x@dead.example
            ctime: 1795335353
            last-try: 0
            last-bounce: 0
            ttl: 345600
            retry: 0
            dsn-notify: 8
        "]],
    );
}

#[test]
fn an_envelope_says_how_it_is_delivered() {
    let tail = |delivery, agent| {
        let text = written(Render::Record, record(envelope(delivery, agent)));
        let (_, tail) = text.split_once("dsn-notify: 0\n").unwrap();
        tail.to_owned()
    };
    let mda = |method: &str, argument: &str, rcpt_to| DeliveryRecord::Mda {
        method: method.into(),
        argument: argument.into(),
        rcpt_to,
        user: "alice".into(),
        userbase: "people".into(),
        delivery_user: "vmail".into(),
        subaddress: "tag".into(),
    };
    expect![[r"
        mda-subaddress: tag
        mda-user: alice
        mda-method: lmtp
        mda-buffer: localhost:24
        mda-usertable: people
        mda-delivery-user: vmail
        mda-rcpt-to: yes
    "]]
    .assert_eq(&tail(mda("lmtp", "localhost:24", true), Agent::Mda));
    expect![[r"
        mda-exec: exit 75
        mda-subaddress: tag
        mda-user: alice
        mda-method: mda
        mda-usertable: people
        mda-delivery-user: vmail
    "]]
    .assert_eq(&tail(mda("mda", "exit 75", false), Agent::Mda));
    let bounce = |kind| tail(DeliveryRecord::Bounce(kind), Agent::Bounce);
    let delayed = BounceKind::Delayed {
        delay: 4,
        ttl: 345_600,
    };
    assert_eq!(bounce(BounceKind::Failed), "bounce-type: failed\n");
    assert_eq!(
        bounce(delayed),
        "bounce-ttl: 345600\nbounce-delay: 4\nbounce-type: delayed\n"
    );
    assert_eq!(
        bounce(BounceKind::Delivered { relayed: true }),
        "bounce-type: delivered\nbounce-relayed: yes\n"
    );
}

/// What becomes of a message that comes in pieces cut everywhere.
fn message(content: &[u8], terminal: bool) -> Vec<u8> {
    let whole = pieces(&[content], terminal);
    for at in 0..=content.len() {
        let (a, b) = content.split_at(at);
        assert_eq!(pieces(&[a, b], terminal), whole, "cut at {at}");
    }
    let single: Vec<_> = content.chunks(1).collect();
    assert_eq!(pieces(&single, terminal), whole);
    whole
}

fn pieces(pieces: &[&[u8]], terminal: bool) -> Vec<u8> {
    let mut renderer = Renderer::new(Render::Content, String::new(), NOW, terminal);
    let pieces = pieces.iter().map(|piece| Reply::Piece(piece.to_vec()));
    let out = pieces
        .chain([Reply::End])
        .map(|reply| renderer.reply(reply).out);
    out.collect::<Vec<_>>().concat()
}

#[test]
fn messages_have_bare_line_feeds() {
    let content = "Subject: x\r\n\r\n caf\u{e9}\r\r\nend\r".as_bytes();
    let want = "Subject: x\n\n caf\u{e9}\r\nend\r".as_bytes();
    assert_eq!(message(content, false), want);
}

#[test]
fn messages_do_not_command_a_terminal() {
    let content = b"a\tb\r\n\x1b[2J \xff caf\xc3\xa9 \xc3\r\n\x9b\xe2\x80\xae end \xe2\x80";
    let want = "a\tb\n\\^[[2J \\M^? caf\u{e9} \\M-C\n\\M^[\\M-b\\M^@\\M-. end \\M-b\\M^@";
    assert_eq!(String::from_utf8(message(content, true)).unwrap(), want);
    let content = b"\xff\x1b\r\n";
    assert_eq!(message(content, false), b"\xff\x1b\n");
}

/// What a listing in some other form is.
fn listed(form: impl FnOnce(Renderer) -> Renderer, replies: Vec<Reply>) -> String {
    let renderer = Renderer::new(Render::Listing, "envelope".into(), NOW, false);
    let mut renderer = form(renderer);
    let mut text = String::new();
    for reply in replies {
        let written = renderer.reply(reply);
        text.push_str(&String::from_utf8(written.out).unwrap());
        if written.enough {
            text.push_str("[enough]\n");
            break;
        }
    }
    text
}

/// Three envelopes at three run states, in two replies, and the end.
fn three() -> Vec<Reply> {
    let inflight = EnvelopeRow {
        id: 0xa565_0942_d977_af14,
        flags: RowFlags {
            auth: true,
            suspend: true,
            ..RowFlags::default()
        },
        sender: String::new(),
        dest: "b@Other.example".into(),
        ctime: NOW - 86_400,
        last_try: 0,
        retry: 0,
        runstate: Runstate::Inflight { since: NOW - 5 },
        errorline: String::new(),
        tag: "SUBM".into(),
        ..row()
    };
    let offline = EnvelopeRow {
        id: 0xa565_0942_d977_af15,
        agent: Agent::Mda,
        dest: "c@other.example".into(),
        runstate: Runstate::Offline,
        errorline: "one, \"two\"\nthree".into(),
        status: Some(StatusCode {
            class: 4,
            subject: 7,
            detail: 1,
        }),
        ..row()
    };
    let pending = EnvelopeRow {
        errorline: "try\\later \u{1}".into(),
        ..row()
    };
    vec![
        Reply::EnvelopeRows(vec![pending, inflight]),
        Reply::EnvelopeRows(vec![offline]),
        Reply::End,
    ]
}

#[test]
fn listings_for_programs_have_named_fields() {
    let json = |renderer: Renderer| renderer.with_format(Some(Format::Json));
    expect![[r#"
        {"id":"a5650942d977af13","message":"a5650942","family":"inet6","type":"mta","flags":[],"sender":"sender@example.org","rcpt":"y@tmp.example","dest":"y@tmp.example","ctime":1795335353,"expiry":1795680953,"last_try":1795335360,"retry":1,"state":"pending","due":1795335798,"since":null,"error":"try\\later \u0001","status":null,"tag":null}
        {"id":"a5650942d977af14","message":"a5650942","family":"inet6","type":"mta","flags":["auth","suspend"],"sender":"","rcpt":"y@tmp.example","dest":"b@Other.example","ctime":1795249000,"expiry":1795680953,"last_try":null,"retry":0,"state":"inflight","due":null,"since":1795335395,"error":null,"status":null,"tag":"SUBM"}
        {"id":"a5650942d977af15","message":"a5650942","family":"inet6","type":"mda","flags":[],"sender":"sender@example.org","rcpt":"y@tmp.example","dest":"c@other.example","ctime":1795335353,"expiry":1795680953,"last_try":1795335360,"retry":1,"state":"offline","due":null,"since":null,"error":"one, \"two\"\nthree","status":"4.7.1","tag":null}
    "#]].assert_eq(&listed(json, three()));
    let csv = |renderer: Renderer| renderer.with_format(Some(Format::Csv));
    expect![[r#"
        id,message,family,type,flags,sender,rcpt,dest,ctime,expiry,last_try,retry,state,due,since,error,status,tag
        a5650942d977af13,a5650942,inet6,mta,,sender@example.org,y@tmp.example,y@tmp.example,1795335353,1795680953,1795335360,1,pending,1795335798,,try\\later \^A,,
        a5650942d977af14,a5650942,inet6,mta,auth suspend,,y@tmp.example,b@Other.example,1795249000,1795680953,,0,inflight,,1795335395,,,SUBM
        a5650942d977af15,a5650942,inet6,mda,,sender@example.org,y@tmp.example,c@other.example,1795335353,1795680953,1795335360,1,offline,,,"one, ""two""\^Jthree",4.7.1,
    "#]].assert_eq(&listed(csv, three()));
    expect![[r""]].assert_eq(&listed(json, vec![Reply::End]));
    expect![[r"
        id,message,family,type,flags,sender,rcpt,dest,ctime,expiry,last_try,retry,state,due,since,error,status,tag
    "]].assert_eq(&listed(csv, vec![Reply::End]));
}

#[test]
fn summaries_count_by_domain_and_age() {
    let summary = |renderer: Renderer| renderer.with_summary(10);
    expect![[r"
                      T 5 10 20 40 80 160 320 640 1280 1280+
                TOTAL 3 2  0  0  0  0   0   0   0    0     1
        other.example 2 1  0  0  0  0   0   0   0    0     1
          tmp.example 1 1  0  0  0  0   0   0   0    0     0
    "]]
    .assert_eq(&listed(summary, three()));
    expect![[r"
              T 5 10 20 40 80 160 320 640 1280 1280+
        TOTAL 0 0  0  0  0  0   0   0   0    0     0
    "]]
    .assert_eq(&listed(summary, vec![Reply::End]));
    // Only the first domain is told apart.
    let bounded = |renderer: Renderer| renderer.with_summary(1).with_format(Some(Format::Csv));
    expect![[r"
        domain,total,age_5,age_10,age_20,age_40,age_80,age_160,age_320,age_640,age_1280,age_more
        ,3,2,0,0,0,0,0,0,0,0,1
        tmp.example,1,1,0,0,0,0,0,0,0,0,0
        *,2,1,0,0,0,0,0,0,0,0,1
    "]]
    .assert_eq(&listed(bounded, three()));
    let json = |renderer: Renderer| summary(renderer).with_format(Some(Format::Json));
    expect![[r#"
        {"domain":null,"total":3,"age_5":2,"age_10":0,"age_20":0,"age_40":0,"age_80":0,"age_160":0,"age_320":0,"age_640":0,"age_1280":0,"age_more":1}
        {"domain":"other.example","total":2,"age_5":1,"age_10":0,"age_20":0,"age_40":0,"age_80":0,"age_160":0,"age_320":0,"age_640":0,"age_1280":0,"age_more":1}
        {"domain":"tmp.example","total":1,"age_5":1,"age_10":0,"age_20":0,"age_40":0,"age_80":0,"age_160":0,"age_320":0,"age_640":0,"age_1280":0,"age_more":0}
    "#]].assert_eq(&listed(json, three()));
}

#[test]
fn every_age_has_its_column() {
    let ages = [
        0, 299, 300, 599, 600, 1200, 2400, 4800, 9600, 19_200, 38_400, 76_800, NOW,
    ];
    let rows = ages.map(|age| EnvelopeRow {
        ctime: NOW - age,
        ..row()
    });
    let summary = |renderer: Renderer| renderer.with_summary(10);
    expect![[r"
                     T 5 10 20 40 80 160 320 640 1280 1280+
              TOTAL 13 2  2  1  1  1   1   1   1    1     2
        tmp.example 13 2  2  1  1  1   1   1   1    1     2
    "]]
    .assert_eq(&listed(
        summary,
        vec![Reply::EnvelopeRows(rows.into()), Reply::End],
    ));
}

#[test]
fn selected_rows_are_listed_until_there_are_enough() {
    let selection = Selection {
        agents: vec![Agent::Mta],
        limit: Some(2),
        ..Selection::default()
    };
    let limited = |renderer: Renderer| renderer.with_selection(selection.clone());
    expect![[r"
        a5650942d977af13|inet6|mta||sender@example.org|y@tmp.example|y@tmp.example|1795335353|1795680953|1795335360|1|pending|398|try\\later \^A
        a5650942d977af14|inet6|mta|auth,suspend|@|y@tmp.example|b@Other.example|1795249000|1795680953|1795335395|0|inflight|5|
        [enough]
    "]].assert_eq(&listed(limited, three()));
    let none = Selection {
        limit: Some(0),
        ..Selection::default()
    };
    let csv = |renderer: Renderer| renderer.with_selection(none).with_summary(10);
    expect![[r"
              T 5 10 20 40 80 160 320 640 1280 1280+
        TOTAL 0 0  0  0  0  0   0   0   0    0     0
        [enough]
    "]]
    .assert_eq(&listed(csv, three()));
    let other = Selection {
        domains: vec!["other.example".parse().unwrap()],
        limit: Some(2),
        ..Selection::default()
    };
    let summary = |renderer: Renderer| renderer.with_selection(other).with_summary(10);
    expect![[r"
                      T 5 10 20 40 80 160 320 640 1280 1280+
                TOTAL 2 1  0  0  0  0   0   0   0    0     1
        other.example 2 1  0  0  0  0   0   0   0    0     1
        [enough]
    "]]
    .assert_eq(&listed(summary, three()));
}

#[test]
fn numbers_for_programs_have_names() {
    let form = |render, format, replies: Vec<Reply>| {
        let renderer = Renderer::new(render, String::new(), NOW, false);
        let mut renderer = renderer.with_format(Some(format));
        let out = replies.into_iter().map(|reply| renderer.reply(reply).out);
        String::from_utf8(out.collect::<Vec<_>>().concat()).unwrap()
    };
    let stats = || {
        vec![Reply::Stats {
            uptime: 66,
            rows: vec![("control.session".into(), 1), ("smtp.session".into(), -2)],
        }]
    };
    expect![[r#"
        {"control.session":1,"smtp.session":-2,"uptime":66}
    "#]]
    .assert_eq(&form(Render::Stats, Format::Json, stats()));
    expect![[r"
        key,value
        control.session,1
        smtp.session,-2
        uptime,66
    "]]
    .assert_eq(&form(Render::Stats, Format::Csv, stats()));
    let status = Reply::Status(StatusRow {
        mta_paused: true,
        ..StatusRow::default()
    });
    expect![[r#"
        {"mda":"running","mta":"paused","smtp":"running","queue":"sound","queue_seconds":null,"queue_error":null,"space_free":null,"space_reserve":null,"files_free":null,"files_reserve":null,"corrupt":0,"damage":0,"back_in_time":false}
    "#]]
    .assert_eq(&form(Render::Status, Format::Json, vec![status]));
    let digest = |enqueued| {
        Reply::Digest(DigestRow {
            enqueued,
            ..DigestRow::default()
        })
    };
    let digests = || vec![digest(7), digest(9)];
    expect![[r#"
        {"clients":0,"connected":0,"disconnected":0,"envelopes":7,"enqueued":7,"dequeued":0,"ok":0,"tempfail":0,"permfail":0,"loop":0,"expire":0,"remove":0,"bounce":0}
        {"clients":0,"connected":0,"disconnected":0,"envelopes":9,"enqueued":2,"dequeued":0,"ok":0,"tempfail":0,"permfail":0,"loop":0,"expire":0,"remove":0,"bounce":0}
    "#]].assert_eq(&form(Render::Digests, Format::Json, digests()));
    expect![[r"
        clients,connected,disconnected,envelopes,enqueued,dequeued,ok,tempfail,permfail,loop,expire,remove,bounce
        0,0,0,7,7,0,0,0,0,0,0,0,0
        0,0,0,9,2,0,0,0,0,0,0,0,0
    "]].assert_eq(&form(Render::Digests, Format::Csv, digests()));
    let mda = DeliveryRecord::Mda {
        method: "maildir".into(),
        argument: "~/Maildir".into(),
        rcpt_to: false,
        user: "al\"ice".into(),
        userbase: String::new(),
        delivery_user: String::new(),
        subaddress: String::new(),
    };
    let envelope = record(envelope(mda, Agent::Mda));
    expect![[r#"
        {"version":"3","dispatcher":"outbound","type":"mda","smtpname":"mx.example.org","helo":"client.example","hostname":"<unknown>","sockaddr":"[::1]","sender":"@","rcpt":"x@dead.example","dest":"x@dead.example","ctime":1795335353,"last-try":0,"last-bounce":0,"ttl":345600,"retry":0,"dsn-notify":0,"mda-user":"al\"ice","mda-method":"maildir","mda-buffer":"~/Maildir"}
    "#]].assert_eq(&form(Render::Record, Format::Json, envelope));
}

mod mta {
    use super::*;
    use redspool_core::control::{
        AttemptRow, BarredRow, ConnectorFlag, ConnectorRow, Explanation, HostRow, HostStatRow,
        Limit, LimitRow, MtaRow, Place, RelayRow, RelayWait, RouteRow, SecurityRow, ViaRow,
    };
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn relay() -> RelayRow {
        RelayRow {
            id: 1,
            domain: "slow.example".into(),
            port: None,
            scheme: "smtp".into(),
            as_host: false,
            backup: String::new(),
            label: String::new(),
            security: SecurityRow::default(),
            src: String::new(),
            helo_src: String::new(),
            helo: String::new(),
            refcount: 2,
            tasks: 1,
            sessions: 1,
            last_connect: Some(NOW - 6),
            until: Some(NOW + 5),
            waits: vec![RelayWait::Connector],
            on_hold: false,
            connectors: vec![ConnectorRow {
                source: None,
                sessions: 1,
                last_connect: Some(NOW - 6),
                until: Some(NOW + 1),
                flags: vec![ConnectorFlag::Wait, ConnectorFlag::LimitHost],
            }],
        }
    }

    fn smart() -> RelayRow {
        RelayRow {
            id: 2,
            domain: "127.0.0.20".into(),
            port: Some(2526),
            as_host: true,
            backup: "mx2.example.org".into(),
            label: "lbl".into(),
            security: SecurityRow {
                tls: "tls no-verify".into(),
                auth: "secrets".into(),
                pki: "mx.example.org".into(),
                ca: "private".into(),
                ciphers: "HIGH".into(),
                protocols: "tlsv1.3".into(),
                dane: "required".into(),
                mta_sts: "none".into(),
            },
            src: "srcs".into(),
            helo_src: "names".into(),
            helo: "x.example.org".into(),
            tasks: 50,
            sessions: 0,
            last_connect: None,
            until: None,
            waits: vec![RelayWait::Mx, RelayWait::Connector],
            on_hold: true,
            connectors: vec![
                ConnectorRow {
                    source: Some(Ipv4Addr::LOCALHOST.into()),
                    sessions: 0,
                    last_connect: Some(NOW - 137),
                    until: None,
                    flags: vec![ConnectorFlag::ErrorRouteNet],
                },
                ConnectorRow {
                    source: Some(Ipv6Addr::LOCALHOST.into()),
                    sessions: 0,
                    last_connect: None,
                    until: None,
                    flags: vec![ConnectorFlag::New],
                },
            ],
            ..relay()
        }
    }

    fn route() -> RouteRow {
        RouteRow {
            id: 5,
            source: None,
            target: (Ipv4Addr::new(127, 0, 0, 13), 25).into(),
            name: "mx.ok.example".into(),
            fresh: false,
            disabled: false,
            sessions: 1,
            penalty: 0,
            until: None,
            failure: String::new(),
            tls: "TLSv1.3:TLS_AES_256_GCM_SHA384:256:valid".into(),
        }
    }

    fn rows() -> Vec<MtaRow> {
        let disabled = RouteRow {
            id: 1,
            source: Some(Ipv6Addr::LOCALHOST.into()),
            target: (Ipv6Addr::LOCALHOST, 25).into(),
            name: "mx.dead.example\u{1b}[2J".into(),
            fresh: true,
            disabled: true,
            sessions: 0,
            penalty: 2,
            until: Some(NOW + 59),
            failure: "connection refused".into(),
            tls: String::new(),
        };
        let kept = RouteRow {
            id: 16,
            name: String::new(),
            sessions: 0,
            until: Some(NOW + 2),
            ..route()
        };
        let host = |address: &str, name: &str, last_connect| {
            MtaRow::Host(HostRow {
                address: address.parse().unwrap(),
                name: name.into(),
                refcount: 2,
                sessions: 0,
                last_connect,
            })
        };
        let mut rows = vec![
            MtaRow::Relay(Box::new(relay())),
            MtaRow::Relay(Box::new(smart())),
            MtaRow::Route(Box::new(route())),
            MtaRow::Route(Box::new(disabled)),
            MtaRow::Route(Box::new(kept)),
            host("127.0.0.9", "mx.dead.example", Some(NOW - 6)),
            host("127.0.0.13", "", None),
            host("::1", "localhost", Some(NOW + 1)),
        ];
        rows.push(MtaRow::HostStat(HostStatRow {
            domain: "a|b.example".into(),
            at: 1_795_335_353,
            text: "550 5.1.1 No such \u{1b}[2J user".into(),
        }));
        for source in ["0.0.0.0", "::1"] {
            rows.push(MtaRow::Blocked {
                source: source.parse().unwrap(),
                domain: "ok.example".into(),
            });
        }
        rows
    }

    #[test]
    fn the_state_of_relaying_has_the_form_of_the_reference() {
        check(
            Render::Mta(MtaListing::Relays),
            vec![Reply::MtaRows(rows()), Reply::End],
            &expect![[r"
                [relay:slow.example,smtp] refcount=2 ntask=1 nconn=1 lastconn=6s timeout=5s wait=connector
                  connector [] refcount=1 nconn=1 lastconn=6s timeout=1s flags=WAIT,LIMIT_HOST
                [relay:127.0.0.20,port=2526,smtp,auth=secrets:lbl,pki_name=mx.example.org,mx,backup=mx2.example.org,sourcetable=srcs,helotable=names,heloname=x.example.org,tls=no-verify,ca=private,ciphers=HIGH,protocols=tlsv1.3,dane=required,mta-sts=none] refcount=2 ntask=50 nconn=0 lastconn=- timeout=- wait=MX,connector,ONHOLD
                  connector 127.0.0.1 refcount=0 nconn=0 lastconn=2m17s timeout=- flags=ERROR_ROUTE_NET
                  connector [::1] refcount=0 nconn=0 lastconn=- timeout=- flags=NEW
                5. [] <-> 127.0.0.13 (mx.ok.example) ---- nconn=1 nerror=0 penalty=0 timeout=-
                1. [::1] <-> [::1] (mx.dead.example\^[[2J) ND-- nconn=0 nerror=0 penalty=2 timeout=59s
                16. [] <-> 127.0.0.13 --Q- nconn=0 nerror=0 penalty=0 timeout=2s
                127.0.0.9 mx.dead.example refcount=2 nconn=0 lastconn=6s
                127.0.0.13 127.0.0.13 refcount=2 nconn=0 lastconn=-
                ::1 localhost refcount=2 nconn=0 lastconn=0s
                a\174b.example|1795335353|550 5.1.1 No such \^[[2J user
                0.0.0.0 -> ok.example
                [::1] -> ok.example
            "]],
        );
    }

    fn explanation() -> Explanation {
        let disabled = RouteRow {
            disabled: true,
            sessions: 0,
            penalty: 2,
            until: Some(NOW + 59),
            failure: "Network error: 127.0.0.13:25: connection refused".into(),
            tls: String::new(),
            ..route()
        };
        Explanation {
            envelope: EnvelopeRow {
                errorline: "connection \u{1b}[2J refused".into(),
                ..row()
            },
            action: "out".into(),
            place: Place::Schedule,
            agent_paused: false,
            store_down: false,
            relay: Some(Box::new(RelayRow {
                tasks: 0,
                sessions: 0,
                waits: vec![],
                ..relay()
            })),
            routes: vec![disabled],
            barred: vec![],
            limits: vec![],
            attempts: vec![attempt(40)],
        }
    }

    fn attempt(ago: u64) -> AttemptRow {
        AttemptRow {
            at: NOW - ago,
            via: Some(ViaRow {
                session: 0xab,
                source: Some([127, 0, 0, 2].into()),
                target: [127, 0, 0, 13].into(),
                name: "mx.ok.example".into(),
                tls: "TLSv1.3:TLS_AES_256_GCM_SHA384:256:unverified".into(),
            }),
            text: "451 \u{1b}[2J later".into(),
        }
    }

    #[test]
    fn an_explanation_tells_of_limits_and_of_the_last_attempts() {
        let full = |limit, used, most| LimitRow { limit, used, most };
        let mut attempts: Vec<_> = (1..=7).rev().map(|n| attempt(n * 600)).collect();
        attempts[5].via = None;
        let clear = attempts[6].via.as_mut().unwrap();
        clear.tls.clear();
        clear.source = None;
        let explanation = Explanation {
            envelope: EnvelopeRow {
                retry: 9,
                errorline: "451 later".into(),
                ..row()
            },
            place: Place::Agent,
            routes: vec![],
            limits: vec![
                full(
                    Limit::Route {
                        source: None,
                        target: [127, 0, 0, 13].into(),
                    },
                    5,
                    5,
                ),
                full(Limit::Domain("slow.example".into()), 100, 100),
            ],
            attempts,
            ..explanation()
        };
        check(
            Render::Explanation,
            vec![Reply::Explanation(Box::new(explanation.clone()))],
            &expect![[r"
                envelope a5650942d977af13
                why: its relay cannot open another connection from []: max-conn-per-route 5 of 5 ([] <-> 127.0.0.13), max-conn-per-domain 100 of 100 (slow.example)
                from: sender@example.org
                to: y@tmp.example
                action: out (mta)
                state: pending, due in 6m38s
                attempts: 9 failed for now, the last begun 40s ago: 451 later
                attempt: 3 earlier ones; --json has those that are kept
                attempt: 1h ago 127.0.0.2 <-> 127.0.0.13 (mx.ok.example) TLSv1.3:TLS_AES_256_GCM_SHA384:256:unverified: 451 \^[[2J later
                attempt: 50m ago 127.0.0.2 <-> 127.0.0.13 (mx.ok.example) TLSv1.3:TLS_AES_256_GCM_SHA384:256:unverified: 451 \^[[2J later
                attempt: 40m ago 127.0.0.2 <-> 127.0.0.13 (mx.ok.example) TLSv1.3:TLS_AES_256_GCM_SHA384:256:unverified: 451 \^[[2J later
                attempt: 30m ago 127.0.0.2 <-> 127.0.0.13 (mx.ok.example) TLSv1.3:TLS_AES_256_GCM_SHA384:256:unverified: 451 \^[[2J later
                attempt: 20m ago without a connection: 451 \^[[2J later
                attempt: 10m ago [] <-> 127.0.0.13 (mx.ok.example) in clear text: 451 \^[[2J later
                expires: in 3d23h59m13s
                relay: [relay:slow.example,smtp] refcount=2 ntask=0 nconn=0 lastconn=6s timeout=5s wait=
                  connector [] refcount=1 nconn=1 lastconn=6s timeout=1s flags=WAIT,LIMIT_HOST
                limit: max-conn-per-route 5 of 5 ([] <-> 127.0.0.13)
                limit: max-conn-per-domain 100 of 100 (slow.example)
            "]],
        );
        let mut renderer = Renderer::new(Render::Explanation, String::new(), NOW, false)
            .with_format(Some(Format::Json));
        let written = renderer.reply(Reply::Explanation(Box::new(explanation)));
        let json: serde_json::Value = serde_json::from_slice(&written.out).unwrap();
        let limit = &json["limits"][0];
        assert_eq!(limit["limit"], "max-conn-per-route");
        assert_eq!(limit["used"], 5);
        assert_eq!(limit["most"], 5);
        assert_eq!(limit["target"], "127.0.0.13");
        assert_eq!(json["limits"][1]["of"], "slow.example");
        let attempts = json["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 7, "all of them");
        assert_eq!(attempts[0]["session"], "00000000000000ab");
        assert_eq!(attempts[0]["source"], "127.0.0.2");
        assert_eq!(
            attempts[0]["tls"],
            "TLSv1.3:TLS_AES_256_GCM_SHA384:256:unverified"
        );
        assert_eq!(attempts[5]["target"], serde_json::Value::Null);
        assert_eq!(attempts[6]["tls"], serde_json::Value::Null);
    }

    fn barred(address: [u8; 4], name: &str) -> BarredRow {
        BarredRow {
            address: address.into(),
            name: name.into(),
            until: NOW + 15,
            failure: "the certificate \u{1b}[2J is not valid for name".into(),
        }
    }

    #[test]
    fn an_explanation_has_hosts_without_proof_among_the_routes() {
        let explanation = Explanation {
            routes: vec![route()],
            barred: vec![
                barred([127, 0, 0, 13], "mx.ok.example"),
                barred([127, 0, 0, 14], ""),
            ],
            relay: None,
            attempts: vec![],
            ..explanation()
        };
        check(
            Render::Explanation,
            vec![Reply::Explanation(Box::new(explanation.clone()))],
            &expect![[r"
                envelope a5650942d977af13
                why: its next attempt is due in 6m38s; all routes to its destination are disabled, the first for 15s
                from: sender@example.org
                to: y@tmp.example
                action: out (mta)
                state: pending, due in 6m38s
                attempts: 1 failed for now, the last begun 40s ago: connection \^[[2J refused
                expires: in 3d23h59m13s
                route: 5. [] <-> 127.0.0.13 (mx.ok.example) works, 1 connections, TLSv1.3:TLS_AES_256_GCM_SHA384:256:valid
                route: 127.0.0.13 (mx.ok.example) is not used by this relay for 15s more, for want of proof: the certificate \^[[2J is not valid for name
                route: 127.0.0.14 is not used by this relay for 15s more, for want of proof: the certificate \^[[2J is not valid for name
            "]],
        );
        let mut renderer = Renderer::new(Render::Explanation, String::new(), NOW, false)
            .with_format(Some(Format::Json));
        let written = renderer.reply(Reply::Explanation(Box::new(explanation)));
        let json: serde_json::Value = serde_json::from_slice(&written.out).unwrap();
        expect![[r#"[{"address":"127.0.0.13","error":"the certificate \u001b[2J is not valid for name","name":"mx.ok.example","until":1795335415},{"address":"127.0.0.14","error":"the certificate \u001b[2J is not valid for name","name":null,"until":1795335415}]"#]].assert_eq(&json["barred"].to_string());
    }

    #[test]
    fn an_explanation_without_a_daemon_says_what_the_store_knows() {
        let explanation = Explanation {
            place: Place::Offline,
            routes: vec![],
            relay: Some(Box::new(RelayRow {
                id: 0,
                refcount: 0,
                tasks: 0,
                sessions: 0,
                last_connect: None,
                until: None,
                waits: vec![],
                connectors: vec![],
                ..relay()
            })),
            ..explanation()
        };
        check(
            Render::Explanation,
            vec![Reply::Explanation(Box::new(explanation.clone()))],
            &expect![[r"
                envelope a5650942d977af13
                why: smtpd does not answer; its next attempt is due in 6m38s
                from: sender@example.org
                to: y@tmp.example
                action: out (mta)
                state: offline, due in 6m38s
                attempts: 1 failed for now, the last begun 40s ago: connection \^[[2J refused
                attempt: 40s ago 127.0.0.2 <-> 127.0.0.13 (mx.ok.example) TLSv1.3:TLS_AES_256_GCM_SHA384:256:unverified: 451 \^[[2J later
                expires: in 3d23h59m13s
                relay: [relay:slow.example,smtp]
                routes: known to a running smtpd alone, as are limits
            "]],
        );
        let mut renderer = Renderer::new(Render::Explanation, String::new(), NOW, false)
            .with_format(Some(Format::Json));
        let written = renderer.reply(Reply::Explanation(Box::new(explanation)));
        expect![[r#"
            {"id":"a5650942d977af13","why":"smtpd does not answer; its next attempt is due in 6m38s","sender":"sender@example.org","dest":"y@tmp.example","action":"out","type":"mta","place":"offline","session":null,"suspended":false,"held":false,"agent_paused":false,"store_down":false,"due":1795335798,"since":null,"retry":1,"expiry":1795680953,"error":"connection \u001b[2J refused","relay":[{"id":null,"domain":"slow.example","port":null,"scheme":"smtp","mx":false,"backup":null,"sourcetable":null,"helotable":null,"heloname":null,"auth":null,"pki":null,"ca":null,"tls":null,"ciphers":null,"protocols":null,"dane":null,"mta-sts":null,"refcount":null,"ntask":null,"nconn":null,"lastconn":null,"until":null,"wait":null,"connectors":null}],"routes":[],"barred":[],"limits":[],"attempts":[{"at":1795335360,"session":"00000000000000ab","source":"127.0.0.2","target":"127.0.0.13","name":"mx.ok.example","tls":"TLSv1.3:TLS_AES_256_GCM_SHA384:256:unverified","text":"451 \u001b[2J later"}]}
        "#]].assert_eq(&String::from_utf8(written.out).unwrap());
    }

    #[test]
    fn an_explanation_fits_a_screen() {
        check(
            Render::Explanation,
            vec![Reply::Explanation(Box::new(explanation()))],
            &expect![[r"
                envelope a5650942d977af13
                why: its next attempt is due in 6m38s; all routes to its destination are disabled, the first for 59s
                from: sender@example.org
                to: y@tmp.example
                action: out (mta)
                state: pending, due in 6m38s
                attempts: 1 failed for now, the last begun 40s ago: connection \^[[2J refused
                attempt: 40s ago 127.0.0.2 <-> 127.0.0.13 (mx.ok.example) TLSv1.3:TLS_AES_256_GCM_SHA384:256:unverified: 451 \^[[2J later
                expires: in 3d23h59m13s
                relay: [relay:slow.example,smtp] refcount=2 ntask=0 nconn=0 lastconn=6s timeout=5s wait=
                  connector [] refcount=1 nconn=1 lastconn=6s timeout=1s flags=WAIT,LIMIT_HOST
                route: 5. [] <-> 127.0.0.13 (mx.ok.example) disabled for 59s more, penalty 2: Network error: 127.0.0.13:25: connection refused
            "]],
        );
        let mut renderer = Renderer::new(Render::Explanation, String::new(), NOW, false)
            .with_format(Some(Format::Json));
        let written = renderer.reply(Reply::Explanation(Box::new(explanation())));
        let json: serde_json::Value = serde_json::from_slice(&written.out).unwrap();
        assert_eq!(json["place"], "schedule");
        assert_eq!(json["routes"][0]["penalty"], 2);
        assert_eq!(json["relay"][0]["connectors"][0]["flags"][1], "LIMIT_HOST");
    }

    #[test]
    fn an_explanation_names_the_cause_that_counts() {
        let first = |explanation: Explanation| {
            let text = written(
                Render::Explanation,
                vec![Reply::Explanation(Box::new(explanation))],
            );
            let why = text.lines().nth(1).unwrap_or_default().to_owned();
            why.strip_prefix("why: ").unwrap_or(&why).to_owned()
        };
        let with = |flags: RowFlags| Explanation {
            envelope: EnvelopeRow { flags, ..row() },
            ..explanation()
        };
        let at = |place| Explanation {
            place,
            relay: Some(Box::new(relay())),
            ..explanation()
        };
        let mut seen = vec![
            first(explanation()),
            first(with(RowFlags {
                suspend: true,
                ..RowFlags::default()
            })),
            first(with(RowFlags {
                hold: true,
                ..RowFlags::default()
            })),
            first(Explanation {
                agent_paused: true,
                ..explanation()
            }),
            first(Explanation {
                store_down: true,
                ..explanation()
            }),
            first(Explanation {
                routes: vec![],
                ..explanation()
            }),
        ];
        seen.push(first(Explanation {
            barred: vec![barred([127, 0, 0, 13], "")],
            ..explanation()
        }));
        for place in [
            Place::Offline,
            Place::Agent,
            Place::Loading,
            Place::Session(0xab),
            Place::Settling,
        ] {
            seen.push(first(at(place)));
        }
        expect![[r"
            its next attempt is due in 6m38s; all routes to its destination are disabled, the first for 59s
            it is paused; smtpctl resume envelope a5650942d977af13 lets it go
            it is held until its agent has less to do
            mta is paused; smtpctl resume mta lets it go
            the queue cannot record results now, so nothing is tried
            its next attempt is due in 6m38s
            its next attempt is due in 6m38s; all routes to its destination are disabled, the first for 15s
            smtpd does not answer; its next attempt is due in 6m38s
            its relay cannot open another connection from []: WAIT,LIMIT_HOST
            it is due and on its way to its agent
            it is being sent over session 00000000000000ab
            its attempt is over, and the result is being recorded"]].assert_eq(&seen.join("\n"));
    }

    fn mta(listing: MtaListing) -> Renderer {
        Renderer::new(Render::Mta(listing), String::new(), NOW, false)
    }

    #[test]
    fn the_state_of_relaying_can_be_read_as_a_table() {
        let mut text = String::new();
        for listing in [
            MtaListing::Relays,
            MtaListing::Routes,
            MtaListing::Hosts,
            MtaListing::HostStats,
            MtaListing::Blocked,
        ] {
            let of = |row: &MtaRow| match row {
                MtaRow::Relay(_) => MtaListing::Relays,
                MtaRow::Route(_) => MtaListing::Routes,
                MtaRow::Host(_) => MtaListing::Hosts,
                MtaRow::HostStat(_) => MtaListing::HostStats,
                MtaRow::Blocked { .. } => MtaListing::Blocked,
            };
            let mut renderer = mta(listing).with_format(Some(Format::Csv));
            let rows = rows()
                .into_iter()
                .filter(|row| of(row) == listing)
                .collect();
            for reply in [Reply::MtaRows(rows), Reply::End] {
                text += std::str::from_utf8(&renderer.reply(reply).out).unwrap();
            }
            // The names come first, and if there is nothing else.
            let mut renderer = mta(listing).with_format(Some(Format::Csv));
            let empty = renderer.reply(Reply::End).out;
            assert!(text.contains(std::str::from_utf8(&empty).unwrap()));
        }
        expect![[r#"
            id,domain,port,scheme,mx,backup,sourcetable,helotable,heloname,auth,pki,ca,tls,ciphers,protocols,dane,mta-sts,refcount,ntask,nconn,lastconn,until,wait,connectors
            1,slow.example,,smtp,false,,,,,,,,,,,,,2,1,1,1795335394,1795335405,connector,"[{""source"":null,""nconn"":1,""lastconn"":1795335394,""until"":1795335401,""flags"":[""WAIT"",""LIMIT_HOST""]}]"
            2,127.0.0.20,2526,smtp,true,mx2.example.org,srcs,names,x.example.org,secrets:lbl,mx.example.org,private,tls no-verify,HIGH,tlsv1.3,required,none,2,50,0,,,MX connector ONHOLD,"[{""source"":""127.0.0.1"",""nconn"":0,""lastconn"":1795335263,""until"":null,""flags"":[""ERROR_ROUTE_NET""]},{""source"":""::1"",""nconn"":0,""lastconn"":null,""until"":null,""flags"":[""NEW""]}]"
            id,source,address,port,name,flags,nconn,penalty,until,error,tls
            5,,127.0.0.13,25,mx.ok.example,,1,0,,,TLSv1.3:TLS_AES_256_GCM_SHA384:256:valid
            1,::1,::1,25,mx.dead.example\^[[2J,N D,0,2,1795335459,connection refused,
            16,,127.0.0.13,25,,Q,0,0,1795335402,,TLSv1.3:TLS_AES_256_GCM_SHA384:256:valid
            address,name,refcount,nconn,lastconn
            127.0.0.9,mx.dead.example,2,0,1795335394
            127.0.0.13,,2,0,
            ::1,localhost,2,0,1795335401
            domain,at,text
            a|b.example,1795335353,550 5.1.1 No such \^[[2J user
            source,domain
            0.0.0.0,ok.example
            ::1,ok.example
        "#]].assert_eq(&text);
    }

    #[test]
    fn the_state_of_relaying_can_be_read_by_programs() {
        let mut renderer = mta(MtaListing::Relays).with_format(Some(Format::Json));
        let written = renderer.reply(Reply::MtaRows(rows()));
        expect![[r#"
            {"id":1,"domain":"slow.example","port":null,"scheme":"smtp","mx":false,"backup":null,"sourcetable":null,"helotable":null,"heloname":null,"auth":null,"pki":null,"ca":null,"tls":null,"ciphers":null,"protocols":null,"dane":null,"mta-sts":null,"refcount":2,"ntask":1,"nconn":1,"lastconn":1795335394,"until":1795335405,"wait":["connector"],"connectors":[{"source":null,"nconn":1,"lastconn":1795335394,"until":1795335401,"flags":["WAIT","LIMIT_HOST"]}]}
            {"id":2,"domain":"127.0.0.20","port":2526,"scheme":"smtp","mx":true,"backup":"mx2.example.org","sourcetable":"srcs","helotable":"names","heloname":"x.example.org","auth":"secrets:lbl","pki":"mx.example.org","ca":"private","tls":"tls no-verify","ciphers":"HIGH","protocols":"tlsv1.3","dane":"required","mta-sts":"none","refcount":2,"ntask":50,"nconn":0,"lastconn":null,"until":null,"wait":["MX","connector","ONHOLD"],"connectors":[{"source":"127.0.0.1","nconn":0,"lastconn":1795335263,"until":null,"flags":["ERROR_ROUTE_NET"]},{"source":"::1","nconn":0,"lastconn":null,"until":null,"flags":["NEW"]}]}
            {"id":5,"source":null,"address":"127.0.0.13","port":25,"name":"mx.ok.example","flags":[],"nconn":1,"penalty":0,"until":null,"error":null,"tls":"TLSv1.3:TLS_AES_256_GCM_SHA384:256:valid"}
            {"id":1,"source":"::1","address":"::1","port":25,"name":"mx.dead.example\u001b[2J","flags":["N","D"],"nconn":0,"penalty":2,"until":1795335459,"error":"connection refused","tls":null}
            {"id":16,"source":null,"address":"127.0.0.13","port":25,"name":null,"flags":["Q"],"nconn":0,"penalty":0,"until":1795335402,"error":null,"tls":"TLSv1.3:TLS_AES_256_GCM_SHA384:256:valid"}
            {"address":"127.0.0.9","name":"mx.dead.example","refcount":2,"nconn":0,"lastconn":1795335394}
            {"address":"127.0.0.13","name":null,"refcount":2,"nconn":0,"lastconn":null}
            {"address":"::1","name":"localhost","refcount":2,"nconn":0,"lastconn":1795335401}
            {"domain":"a|b.example","at":1795335353,"text":"550 5.1.1 No such \u001b[2J user"}
            {"source":"0.0.0.0","domain":"ok.example"}
            {"source":"::1","domain":"ok.example"}
        "#]].assert_eq(&String::from_utf8(written.out).unwrap());
    }
}
