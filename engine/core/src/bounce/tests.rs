//! Notices as their readers see them: a person, a parser, and an attacker.

use super::*;
use crate::addr::Source;
use crate::envelope::{Attempts, Dsn, Flags};
use crate::id::EnvelopeId;
use crate::reply::Status;
use crate::rng::Rng;
use expect_test::{Expect, expect};
use mail_parser::{MessageParser, MimeHeaders};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::time::Duration;

const ORIGINAL: &[u8] = b"Received: from client.example\r\n\
    \tby mx.example.org with ESMTP\r\n\
    Subject: hi\r\n\
    \r\n\
    hello\r\n";

const DELAYED: Bounce = Bounce::Delayed {
    delay: Duration::from_hours(4),
    ttl: Duration::from_hours(96),
};

fn envelope(low: u64, kind: Bounce, dest: &str, errorline: &str) -> Envelope {
    Envelope {
        id: EnvelopeId::new(0x8d3f_01aa << 32 | low).unwrap(),
        action: "out".into(),
        tag: "".into(),
        delivery: Delivery::Bounce(kind),
        smtpname: "mx.example.org".into(),
        helo: "client.example".into(),
        hostname: "client.example".into(),
        username: "".into(),
        source: Source::Local,
        sender: "alice@example.org".parse().unwrap(),
        rcpt: dest.parse().unwrap(),
        dest: dest.parse().unwrap(),
        ctime: Timestamp::from_secs(1_795_336_408),
        last_try: Timestamp::EPOCH,
        last_bounce: Timestamp::EPOCH,
        ttl: Duration::from_hours(168),
        retry: 0,
        flags: Flags::default(),
        dsn: Dsn::default(),
        status: None,
        errorline: errorline.into(),
        remote: "".into(),
        attempts: Attempts::default(),
    }
}

fn report<'a>(envelopes: &'a [Envelope], original: &'a [u8]) -> Report<'a> {
    Report {
        envelopes,
        arrived: Timestamp::from_secs(1_795_336_321),
        original,
        complete: true,
        utf8: false,
        now: Timestamp::from_secs(1_795_336_410),
    }
}

fn make(envelopes: &[Envelope], original: &[u8]) -> Vec<u8> {
    let report = report(envelopes, original);
    notice(&report, &Limits::default(), &mut Rng::new(1)).unwrap()
}

fn check(envelopes: &[Envelope], original: &[u8], want: &Expect) {
    let notice = String::from_utf8(make(envelopes, original)).unwrap();
    want.assert_eq(&notice.replace("\r\n", "\n"));
}

#[test]
fn a_failure_returns_the_headers() {
    let mut first = envelope(
        1,
        Bounce::Failed,
        "bob@example.net",
        "550 5.1.1 No such user",
    );
    first.status = Some(Status::permanent(1, 1));
    first.rcpt = "alias@example.net".parse().unwrap();
    let mut second = envelope(
        2,
        Bounce::Failed,
        "carol@example.net",
        "delivery time expired",
    );
    second.status = Some(Status::permanent(4, 7));
    check(
        &[first, second],
        ORIGINAL,
        &expect![[r#"
        From: "Mailer Daemon" <MAILER-DAEMON@mx.example.org>
        To: <alice@example.org>
        Subject: Delivery status notification: failed
        Date: Sun, 22 Nov 2026 08:33:30 +0000
        Message-ID: <6d8fc15a3248c9da.8d3f01aa@mx.example.org>
        Auto-Submitted: auto-replied
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type="delivery-status";
         boundary="f9681a64d3301861b0f4d125cc0d694a"


        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: text/plain; charset="utf-8"
        Content-Transfer-Encoding: 7bit
        Content-Description: Notification

        Hello,

        this is the mail server at mx.example.org. Please do not reply to this message:
        it was made by a program, and nobody reads the answer.

        Your message could not be delivered to the following recipients, and
        it will not be tried again:

            bob@example.net: 550 5.1.1 No such user
            carol@example.net: delivery time expired

        The headers of your message are attached.

        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: message/delivery-status
        Content-Transfer-Encoding: 7bit
        Content-Description: Delivery report

        Reporting-MTA: dns; mx.example.org
        Arrival-Date: Sun, 22 Nov 2026 08:32:01 +0000

        Original-Recipient: rfc822; alias@example.net
        Final-Recipient: rfc822; bob@example.net
        Action: failed
        Status: 5.1.1
        Diagnostic-Code: smtp; 550 5.1.1 No such user
        Last-Attempt-Date: Sun, 22 Nov 2026 08:33:28 +0000

        Final-Recipient: rfc822; carol@example.net
        Action: failed
        Status: 5.4.7
        Diagnostic-Code: x-local; delivery time expired

        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: text/rfc822-headers
        Content-Transfer-Encoding: 7bit
        Content-Description: Message headers

        Received: from client.example
        	by mx.example.org with ESMTP
        Subject: hi

        --f9681a64d3301861b0f4d125cc0d694a--
    "#]],
    );
}

#[test]
fn a_failure_returns_the_message_if_asked_to() {
    let mut failed = envelope(1, Bounce::Failed, "bob@example.net", "550 No such user");
    failed.dsn.ret = Some(Ret::Full);
    failed.remote = "mx.example.net".into();
    failed.dsn.envid = "job+2042".into();
    failed.dsn.orcpt = "rfc822;b+2Bob@example.net".into();
    failed.last_try = Timestamp::from_secs(1_795_336_400);
    check(
        &[failed],
        ORIGINAL,
        &expect![[r#"
        From: "Mailer Daemon" <MAILER-DAEMON@mx.example.org>
        To: <alice@example.org>
        Subject: Delivery status notification: failed
        Date: Sun, 22 Nov 2026 08:33:30 +0000
        Message-ID: <6d8fc15a3248c9da.8d3f01aa@mx.example.org>
        Auto-Submitted: auto-replied
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type="delivery-status";
         boundary="f9681a64d3301861b0f4d125cc0d694a"


        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: text/plain; charset="utf-8"
        Content-Transfer-Encoding: 7bit
        Content-Description: Notification

        Hello,

        this is the mail server at mx.example.org. Please do not reply to this message:
        it was made by a program, and nobody reads the answer.

        Your message could not be delivered to the following recipients, and
        it will not be tried again:

            bob@example.net: 550 No such user

        A copy of your message is attached.

        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: message/delivery-status
        Content-Transfer-Encoding: 7bit
        Content-Description: Delivery report

        Reporting-MTA: dns; mx.example.org
        Original-Envelope-Id: job 42
        Arrival-Date: Sun, 22 Nov 2026 08:32:01 +0000

        Original-Recipient: rfc822;b+ob@example.net
        Final-Recipient: rfc822; bob@example.net
        Action: failed
        Status: 5.0.0
        Remote-MTA: dns; mx.example.net
        Diagnostic-Code: smtp; 550 No such user
        Last-Attempt-Date: Sun, 22 Nov 2026 08:33:20 +0000

        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: message/rfc822
        Content-Transfer-Encoding: 7bit
        Content-Description: Message

        Received: from client.example
        	by mx.example.org with ESMTP
        Subject: hi

        hello

        --f9681a64d3301861b0f4d125cc0d694a--
    "#]],
    );
}

#[test]
fn a_delay_says_how_long() {
    let mut delayed = envelope(1, DELAYED, "bob@example.net", "connection refused");
    // What we say ourselves is not that host's word.
    delayed.remote = "mx.example.net".into();
    delayed.status = Some(Status::transient(4, 1));
    delayed.dsn.ret = Some(Ret::Full);
    check(
        &[delayed],
        ORIGINAL,
        &expect![[r#"
        From: "Mailer Daemon" <MAILER-DAEMON@mx.example.org>
        To: <alice@example.org>
        Subject: Delivery status notification: delayed
        Date: Sun, 22 Nov 2026 08:33:30 +0000
        Message-ID: <6d8fc15a3248c9da.8d3f01aa@mx.example.org>
        Auto-Submitted: auto-replied
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type="delivery-status";
         boundary="f9681a64d3301861b0f4d125cc0d694a"


        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: text/plain; charset="utf-8"
        Content-Transfer-Encoding: 7bit
        Content-Description: Notification

        Hello,

        this is the mail server at mx.example.org. Please do not reply to this message:
        it was made by a program, and nobody reads the answer.

        Your message has not yet been delivered to the following recipients:

            bob@example.net: connection refused

        It has been waiting for 4 hours. Delivery is tried for 4 days in all.
        You need not send the message again.

        The headers of your message are attached.

        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: message/delivery-status
        Content-Transfer-Encoding: 7bit
        Content-Description: Delivery report

        Reporting-MTA: dns; mx.example.org
        Arrival-Date: Sun, 22 Nov 2026 08:32:01 +0000

        Final-Recipient: rfc822; bob@example.net
        Action: delayed
        Status: 4.4.1
        Diagnostic-Code: x-local; connection refused
        Last-Attempt-Date: Sun, 22 Nov 2026 08:33:28 +0000
        Will-Retry-Until: Thu, 26 Nov 2026 08:32:01 +0000

        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: text/rfc822-headers
        Content-Transfer-Encoding: 7bit
        Content-Description: Message headers

        Received: from client.example
        	by mx.example.org with ESMTP
        Subject: hi

        --f9681a64d3301861b0f4d125cc0d694a--
    "#]],
    );
}

#[test]
fn a_delivery_is_good_news() {
    let kind = Bounce::Delivered { relayed: false };
    check(
        &[envelope(1, kind, "bob@example.org", "")],
        ORIGINAL,
        &expect![[r#"
            From: "Mailer Daemon" <MAILER-DAEMON@mx.example.org>
            To: <alice@example.org>
            Subject: Delivery status notification: delivered
            Date: Sun, 22 Nov 2026 08:33:30 +0000
            Message-ID: <6d8fc15a3248c9da.8d3f01aa@mx.example.org>
            Auto-Submitted: auto-replied
            MIME-Version: 1.0
            Content-Type: multipart/report; report-type="delivery-status";
             boundary="f9681a64d3301861b0f4d125cc0d694a"


            --f9681a64d3301861b0f4d125cc0d694a
            Content-Type: text/plain; charset="utf-8"
            Content-Transfer-Encoding: 7bit
            Content-Description: Notification

            Hello,

            this is the mail server at mx.example.org. Please do not reply to this message:
            it was made by a program, and nobody reads the answer.

            Your message was delivered to the following recipients:

                bob@example.org

            The headers of your message are attached.

            --f9681a64d3301861b0f4d125cc0d694a
            Content-Type: message/delivery-status
            Content-Transfer-Encoding: 7bit
            Content-Description: Delivery report

            Reporting-MTA: dns; mx.example.org
            Arrival-Date: Sun, 22 Nov 2026 08:32:01 +0000

            Final-Recipient: rfc822; bob@example.org
            Action: delivered
            Status: 2.0.0
            Last-Attempt-Date: Sun, 22 Nov 2026 08:33:28 +0000

            --f9681a64d3301861b0f4d125cc0d694a
            Content-Type: text/rfc822-headers
            Content-Transfer-Encoding: 7bit
            Content-Description: Message headers

            Received: from client.example
            	by mx.example.org with ESMTP
            Subject: hi

            --f9681a64d3301861b0f4d125cc0d694a--
        "#]],
    );
}

#[test]
fn a_relayed_message_may_still_fail() {
    let kind = Bounce::Delivered { relayed: true };
    let relayed = envelope(1, kind, "bob@example.net", "250 2.0.0 Ok: queued as 1");
    check(
        &[relayed],
        ORIGINAL,
        &expect![[r#"
        From: "Mailer Daemon" <MAILER-DAEMON@mx.example.org>
        To: <alice@example.org>
        Subject: Delivery status notification: relayed
        Date: Sun, 22 Nov 2026 08:33:30 +0000
        Message-ID: <6d8fc15a3248c9da.8d3f01aa@mx.example.org>
        Auto-Submitted: auto-replied
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type="delivery-status";
         boundary="f9681a64d3301861b0f4d125cc0d694a"


        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: text/plain; charset="utf-8"
        Content-Transfer-Encoding: 7bit
        Content-Description: Notification

        Hello,

        this is the mail server at mx.example.org. Please do not reply to this message:
        it was made by a program, and nobody reads the answer.

        Your message was handed to the servers of the following recipients.
        These may not report what becomes of it:

            bob@example.net: 250 2.0.0 Ok: queued as 1

        The headers of your message are attached.

        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: message/delivery-status
        Content-Transfer-Encoding: 7bit
        Content-Description: Delivery report

        Reporting-MTA: dns; mx.example.org
        Arrival-Date: Sun, 22 Nov 2026 08:32:01 +0000

        Final-Recipient: rfc822; bob@example.net
        Action: relayed
        Status: 2.0.0
        Diagnostic-Code: smtp; 250 2.0.0 Ok: queued as 1
        Last-Attempt-Date: Sun, 22 Nov 2026 08:33:28 +0000

        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: text/rfc822-headers
        Content-Transfer-Encoding: 7bit
        Content-Description: Message headers

        Received: from client.example
        	by mx.example.org with ESMTP
        Subject: hi

        --f9681a64d3301861b0f4d125cc0d694a--
    "#]],
    );
}

#[test]
fn addresses_and_texts_beyond_ascii_stay_within_their_types() {
    let text = "550 5.1.1 pas trouv\u{e9}: b\u{f6}b";
    let failed = envelope(1, Bounce::Failed, "b\u{f6}b@example.net", text);
    let original = "Subject: gr\u{fc}\u{df}e\r\n\r\n".as_bytes();
    check(
        &[failed],
        original,
        &expect![[r#"
        From: "Mailer Daemon" <MAILER-DAEMON@mx.example.org>
        To: <alice@example.org>
        Subject: Delivery status notification: failed
        Date: Sun, 22 Nov 2026 08:33:30 +0000
        Message-ID: <6d8fc15a3248c9da.8d3f01aa@mx.example.org>
        Auto-Submitted: auto-replied
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type="delivery-status";
         boundary="f9681a64d3301861b0f4d125cc0d694a"


        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: text/plain; charset="utf-8"
        Content-Description: Notification
        Content-Transfer-Encoding: quoted-printable

        Hello,

        this is the mail server at mx.example.org. Please do not reply to this mess=
        age:
        it was made by a program, and nobody reads the answer.

        Your message could not be delivered to the following recipients, and
        it will not be tried again:

            b=C3=B6b@example.net: 550 5.1.1 pas trouv=C3=A9: b=C3=B6b

        The headers of your message are attached.

        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: message/delivery-status
        Content-Transfer-Encoding: 7bit
        Content-Description: Delivery report

        Reporting-MTA: dns; mx.example.org
        Arrival-Date: Sun, 22 Nov 2026 08:32:01 +0000

        Final-Recipient: utf-8; b\x{F6}b@example.net
        Action: failed
        Status: 5.0.0
        Diagnostic-Code: smtp; 550 5.1.1 pas trouv\xC3\xA9: b\xC3\xB6b
        Last-Attempt-Date: Sun, 22 Nov 2026 08:33:28 +0000

        --f9681a64d3301861b0f4d125cc0d694a
        Content-Type: text/rfc822-headers
        Content-Description: Message headers
        Content-Transfer-Encoding: base64

        U3ViamVjdDogZ3LDvMOfZQ0K

        --f9681a64d3301861b0f4d125cc0d694a--
    "#]],
    );
}

/// Octets of the parts, decoded: what a reader gets.
fn parts(notice: &[u8]) -> Vec<(String, Vec<u8>)> {
    let message = MessageParser::new().parse(notice).unwrap();
    let outer = message.parts.first().unwrap().content_type().unwrap();
    assert_eq!(outer.ctype(), "multipart");
    assert_eq!(outer.subtype(), Some("report"));
    assert_eq!(outer.attribute("report-type"), Some("delivery-status"));
    let parts = message.parts.iter().skip(1).map(|part| {
        let kind = part.content_type().unwrap();
        let kind = format!("{}/{}", kind.ctype(), kind.subtype().unwrap());
        let octets = match &part.body {
            mail_parser::PartType::Message(inner) => inner.raw_message().to_vec(),
            _ => part.contents().to_vec(),
        };
        (kind, octets)
    });
    parts.collect()
}

/// What every notice must be on the wire.
fn assert_sound(notice: &[u8]) {
    assert!(
        is_plain(notice),
        "line ends or lengths: {}",
        notice.escape_ascii()
    );
    assert!(notice.ends_with(b"\r\n"));
}

#[test]
fn a_copy_beyond_the_limit_becomes_headers() {
    let limits = Limits {
        bounce_copy: 64,
        ..Limits::default()
    };
    let mut failed = envelope(1, Bounce::Failed, "bob@example.net", "no");
    failed.dsn.ret = Some(Ret::Full);
    let failed = [failed];
    let check = |original: &[u8], complete, kind: &str, copy: &[u8]| {
        let report = Report {
            complete,
            ..report(&failed, original)
        };
        let notice = notice(&report, &limits, &mut Rng::new(1)).unwrap();
        let last = parts(&notice).pop().unwrap();
        assert_eq!((last.0.as_str(), last.1.as_slice()), (kind, copy));
    };
    let small = b"Subject: a\r\n\r\nsmall\r\n";
    check(small, true, "message/rfc822", small);
    check(small, false, "text/rfc822-headers", b"Subject: a\r\n");
    let body = [b"Subject: a\r\n\r\n".as_slice(), &[b'x'; 100]].concat();
    check(&body, true, "text/rfc822-headers", b"Subject: a\r\n");
    let headers = [b"Subject: a\r\nX: ".as_slice(), &[b'x'; 100], b"\r\n\r\n"].concat();
    check(&headers, true, "text/rfc822-headers", b"Subject: a\r\n");
    let long = [b"Subject: a\r\n\r\n".as_slice(), &[b'x'; 20], b"\ry\r\n"].concat();
    check(&long, true, "text/rfc822-headers", b"Subject: a\r\n");
}

#[test]
fn a_header_section_in_utf8_returns_as_such() {
    let mut failed = envelope(1, Bounce::Failed, "\u{fc}+x@example.net", "no");
    let original = "Subject: gr\u{fc}n\r\n\r\nhi\r\n".as_bytes();
    let mut check = |ret, kind: &str, copy: &[u8]| {
        failed.dsn.ret = ret;
        let envelopes = [failed.clone()];
        let report = Report {
            utf8: true,
            ..report(&envelopes, original)
        };
        let notice = notice(&report, &Limits::default(), &mut Rng::new(1)).unwrap();
        assert_sound(&notice);
        let parts = parts(&notice);
        let status = str::from_utf8(&parts[1].1).unwrap();
        let rcpt = "Final-Recipient: utf-8; \\x{FC}\\x{2B}x@example.net\r\n";
        assert!(status.contains(rcpt), "{status}");
        let (last, octets) = parts.last().unwrap();
        assert_eq!((last.as_str(), octets.as_slice()), (kind, copy));
    };
    let headers = "Subject: gr\u{fc}n\r\n".as_bytes();
    check(None, "message/global-headers", headers);
    check(Some(Ret::Full), "message/global", original);
}

#[test]
fn a_notice_to_an_address_in_utf8_names_it_as_it_is() {
    let mut failed = envelope(1, Bounce::Failed, "bob@example.net", "no");
    for local in ["\u{e9}".into(), "\u{e9}".repeat(30)] {
        let sender = format!("{local}@\u{fc}.example");
        failed.sender = sender.parse().unwrap();
        let notice = String::from_utf8(make(&[failed.clone()], ORIGINAL)).unwrap();
        let unfolded = notice.replace("\r\n ", " ");
        assert!(
            unfolded.contains(&format!("To: <{sender}>\r\n")),
            "{notice}"
        );
    }
}

#[test]
fn a_report_about_nothing_makes_no_notice() {
    let limits = Limits::default();
    assert_eq!(
        notice(&report(&[], ORIGINAL), &limits, &mut Rng::new(1)),
        None
    );
    let mut other = envelope(1, Bounce::Failed, "bob@example.net", "");
    other.delivery = Delivery::Mta(crate::envelope::Relay::to(None));
    assert_eq!(group_key(&other), None);
    assert_eq!(
        notice(&report(&[other], ORIGINAL), &limits, &mut Rng::new(1)),
        None
    );
}

#[test]
fn the_boundary_is_in_no_part() {
    let mut twin = Rng::new(1);
    let first = boundary(&mut twin, &[]);
    let second = boundary(&mut twin, &[]);
    let original = format!("Subject: x\r\n\r\n--{first}--\r\n");
    assert_ne!(first, second);
    assert_eq!(boundary(&mut Rng::new(1), &[original.as_bytes()]), second);
}

#[test]
fn failures_of_one_message_go_together() {
    let key = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = envelope(1, Bounce::Failed, "bob@example.net", "550 no");
        change(&mut envelope);
        group_key(&envelope).unwrap()
    };
    let same = key(&|_| {});
    assert_eq!(
        same,
        key(&|e| e.dest = "carol@example.net".parse().unwrap())
    );
    assert_eq!(
        same,
        key(&|e| e.id = e.id.message().envelope(7.try_into().unwrap()))
    );
    assert_eq!(same, key(&|e| e.errorline = "other".into()));
    assert_eq!(same, key(&|e| e.dsn.ret = Some(Ret::Headers)));
    let others: [&dyn Fn(&mut Envelope); 7] = [
        &|e| e.id = EnvelopeId::new(0x8d3f_01ab << 32 | 1).unwrap(),
        &|e| e.delivery = Delivery::Bounce(DELAYED),
        &|e| e.delivery = Delivery::Bounce(Bounce::Delivered { relayed: false }),
        &|e| e.delivery = Delivery::Bounce(Bounce::Delivered { relayed: true }),
        &|e| e.smtpname = "other.example.org".into(),
        &|e| e.sender = "carol@example.org".parse().unwrap(),
        &|e| e.dsn.ret = Some(Ret::Full),
    ];
    let mut keys: Vec<_> = others.iter().map(|change| key(*change)).collect();
    keys.push(same);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 8);
}

#[test]
fn notify_is_honoured_to_the_letter() {
    let kinds = [
        Bounce::Failed,
        DELAYED,
        Bounce::Delivered { relayed: false },
        Bounce::Delivered { relayed: true },
    ];
    let check = |notify: Option<Notify>, want: [bool; 4]| {
        let mut envelope = envelope(1, Bounce::Failed, "bob@example.net", "");
        envelope.dsn.notify = notify;
        assert_eq!(
            kinds.map(|kind| wanted(&envelope, kind)),
            want,
            "{notify:?}"
        );
        envelope.flags.bounce = true;
        assert_eq!(kinds.map(|kind| wanted(&envelope, kind)), [false; 4]);
        envelope.flags.bounce = false;
        envelope.sender = Address::null();
        assert_eq!(kinds.map(|kind| wanted(&envelope, kind)), [false; 4]);
    };
    let notify = |success, failure, delay| {
        Some(Notify {
            success,
            failure,
            delay,
        })
    };
    check(None, [true, true, false, false]);
    check(notify(false, false, false), [false; 4]);
    check(notify(true, false, false), [false, false, true, true]);
    check(notify(false, true, false), [true, false, false, false]);
    check(notify(false, false, true), [false, true, false, false]);
    check(notify(true, true, true), [true; 4]);
}

/// Texts made of what could do harm in a notice.
fn hostile() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "\r\n",
        "\n",
        "\r",
        "\0",
        ".",
        "--",
        "\u{e9}",
        "\u{2028}",
        "\x1b[2J",
        "Status: 2.0.0",
        "Action: delivered",
        "Final-Recipient: rfc822; x@y",
        "Content-Type: text/html",
        " ",
        "\t",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "                                                                                ",
        "550 5.1.1 ",
        "=?utf-8?Q?=0D=0A?=",
        ";",
        ":",
        "\\",
        "+0D+0A",
    ]);
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn field_count(status: &str, name: &str) -> usize {
    status
        .split("\r\n")
        .filter(|line| line.starts_with(name))
        .count()
}

proptest! {
    #[test]
    fn nothing_from_outside_starts_a_field_or_a_part(
        texts in vec(hostile(), 1..4),
        envid in hostile(),
        orcpt in hostile(),
        smtpname in hostile(),
        kind in select(vec![Bounce::Failed, DELAYED, Bounce::Delivered { relayed: true }]),
        full in any::<bool>(),
        original in prop_oneof![hostile().prop_map(String::into_bytes), vec(any::<u8>(), 0..300)],
        complete in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let envelopes: Vec<_> = texts.iter().zip(1..).map(|(text, low)| {
            let mut envelope = envelope(low, kind, "bob@example.net", text);
            envelope.dsn.ret = full.then_some(Ret::Full);
            envelope.dsn.envid = envid.clone().into();
            envelope.dsn.orcpt = orcpt.clone().into();
            envelope.smtpname = smtpname.clone().into();
            envelope
        }).collect();
        let report = Report { complete, ..report(&envelopes, &original) };
        let notice = notice(&report, &Limits::default(), &mut Rng::new(seed)).unwrap();
        assert_sound(&notice);

        let parts = parts(&notice);
        let kinds: Vec<_> = parts.iter().map(|(kind, _)| kind.as_str()).collect();
        prop_assert!(matches!(
            kinds.as_slice(),
            ["text/plain", "message/delivery-status", "text/rfc822-headers" | "message/rfc822"]
        ), "{:?}", kinds);
        let text = str::from_utf8(&parts[0].1).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("    bob@example.net"));
        prop_assert_eq!(lines.count(), texts.len());
        // Greeting, reason and announcement have their lines, and nobody else has any.
        let others = if kind == DELAYED { 12 } else { 10 };
        prop_assert_eq!(text.lines().count(), others + texts.len());

        prop_assert!(parts[1].1.is_ascii());
        let status = str::from_utf8(&parts[1].1).unwrap();
        prop_assert_eq!(status.split("\r\n\r\n").count(), 1 + texts.len());
        for name in ["Final-Recipient:", "Action:", "Status:", "Last-Attempt-Date:"] {
            prop_assert_eq!(field_count(status, name), texts.len(), "{}", name);
        }
        prop_assert_eq!(field_count(status, "Reporting-MTA:"), 1);
        for line in status.split("\r\n") {
            let known = ["Reporting-MTA:", "Original-Envelope-Id:", "Arrival-Date:",
                "Original-Recipient:", "Final-Recipient:", "Action:", "Status:",
                "Diagnostic-Code:", "Last-Attempt-Date:", "Will-Retry-Until:", " "];
            let lawful = line.is_empty() || known.iter().any(|name| line.starts_with(name));
            prop_assert!(lawful, "{:?}", line);
        }
    }
}
