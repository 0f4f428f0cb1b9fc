//! Mail comes in by SMTP and goes out: to Maildirs, mboxes, commands and other servers.

use super::setup::{configuration, field, fields, mailbox, message, queued, send, started};
use redspool_tools::rig::{Answer, Dialog, Rig, Sink, Stage, until};
use std::fs;

#[test]
fn a_message_for_a_local_user_lies_in_the_maildir() {
    let (_sink, rig, daemon) = started();
    let alice = mailbox(&rig, "alice");
    let id = queued(&daemon, "alice@local.example", "hello");
    let text = alice.one();
    let sent = String::from_utf8(message("hello")).unwrap();
    // A Maildir holds lines as the system has them.
    assert!(
        text.replace("\r\n", "\n")
            .ends_with(&sent.replace("\r\n", "\n")),
        "{text}"
    );
    assert!(text.contains("Received: from client.example"), "{text}");
    assert!(text.contains(&id), "the trace names the message-id: {text}");
    until("the queue is empty", || {
        rig.queue().is_empty().then_some(())
    });
}

#[test]
fn a_message_for_elsewhere_arrives_there_octet_by_octet() {
    let (sink, rig, daemon) = started();
    let mut content = message("octets");
    content.extend_from_slice(b".\r\n..\r\n.dot\r\n\xff\xfe\r\n\r\n");
    content.extend_from_slice(&[b'x'; 998]);
    content.extend_from_slice(b"\r\n");
    let reply = send(&daemon, "b@far.example", &content);
    assert_eq!(reply.code, 250, "{reply:?}");
    let delivery = sink.next();
    assert_eq!(delivery.sender, "sender@example.org");
    assert_eq!(delivery.rcpts, ["b@far.example"]);
    assert!(
        delivery.content.ends_with(&content),
        "{}",
        delivery.content.escape_ascii()
    );
    assert!(delivery.content.starts_with(b"Received: "));
    until("the queue is empty", || {
        rig.queue().is_empty().then_some(())
    });
}

#[test]
fn a_large_message_goes_over_the_disk_and_arrives_whole() {
    let (sink, _rig, daemon) = started();
    let mut content = message("large");
    while content.len() < 3_000_000 {
        content.extend_from_slice(b".0123456789 0123456789 0123456789 0123456789\r\n");
    }
    assert_eq!(send(&daemon, "b@far.example", &content).code, 250);
    assert!(sink.next().content.ends_with(&content));
}

#[test]
fn one_message_for_many_arrives_for_each_once() {
    let (sink, rig, daemon) = started();
    let alice = mailbox(&rig, "alice");
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    let rcpts = [
        "alice@local.example",
        "a@far.example",
        "b@far.example",
        "c@other.example",
    ];
    let reply = dialog
        .submit("sender@example.org", &rcpts, &message("many"))
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    let mut arrived = Vec::new();
    while arrived.len() < 3 {
        arrived.extend(sink.next().rcpts);
    }
    arrived.sort();
    assert_eq!(
        arrived,
        ["a@far.example", "b@far.example", "c@other.example"]
    );
    alice.one();
}

#[test]
fn messages_to_one_host_share_a_connection() {
    let (sink, rig, daemon) = started();
    rig.show(&["pause", "mta"]);
    for number in 0..20 {
        queued(
            &daemon,
            &format!("r{number}@far.example"),
            &format!("n{number}"),
        );
    }
    rig.show(&["resume", "mta"]);
    for _ in 0..20 {
        sink.next();
    }
    let connections = sink.connections();
    assert!(
        connections <= 10,
        "{connections} connections for 20 messages"
    );
}

#[test]
fn a_temporary_refusal_waits_and_schedule_tries_again() {
    let (sink, rig, daemon) = started();
    sink.answer(Stage::Rcpt, Answer::Reply("450 4.2.0 Greylisted"));
    let id = queued(&daemon, "b@far.example", "later");
    let line = until("the attempt has failed", || {
        let line = rig.queue().pop()?;
        (!field(&line, fields::ERROR).is_empty()).then_some(line)
    });
    assert!(
        field(&line, fields::ERROR).contains("450 4.2.0 Greylisted"),
        "{line}"
    );
    assert_eq!(field(&line, fields::RUNSTATE), "pending");
    assert_eq!(field(&line, fields::ATTEMPTS), "1");
    sink.fail(None);
    assert_eq!(rig.show(&["schedule", &id]), "1 envelope scheduled\n");
    assert!(sink.next().content.ends_with(&message("later")));
}

#[test]
fn a_permanent_refusal_comes_back_to_the_sender_as_a_report() {
    let (sink, rig, daemon) = started();
    let bob = mailbox(&rig, "bob");
    sink.answer(Stage::Rcpt, Answer::Reply("550 5.1.1 No such user here"));
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    let content = message("unwanted");
    let reply = dialog
        .submit("bob@local.example", &["nobody@far.example"], &content)
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    let report = bob.one();
    assert!(report.contains("multipart/report"), "{report}");
    assert!(report.contains("report-type=delivery-status") || report.contains("delivery-status"));
    assert!(report.contains("550 5.1.1 No such user here"), "{report}");
    assert!(report.contains("Final-Recipient: rfc822"), "{report}");
    assert!(
        report.contains("Subject: unwanted"),
        "the original's headers come along: {report}"
    );
    until("the queue is empty", || {
        rig.queue().is_empty().then_some(())
    });
}

#[test]
fn a_connection_lost_after_the_dot_is_an_attempt_that_failed() {
    let (sink, rig, daemon) = started();
    sink.answer(Stage::Dot, Answer::HangUp);
    queued(&daemon, "b@far.example", "twice");
    sink.next();
    until("the attempt has failed", || {
        let line = rig.queue().pop()?;
        (field(&line, fields::RUNSTATE) == "pending").then_some(())
    });
    sink.fail(None);
    until("it is delivered again", || {
        // Its route would be left alone for a quarter of a minute; once forgiven, it may be unknown.
        rig.smtpctl(&["resume", "route", "1"]);
        rig.show(&["schedule", "all"]);
        sink.next_within(std::time::Duration::from_millis(200))
    });
}

#[test]
fn a_command_takes_mail() {
    let rig = Rig::new(
        "table users { alice = \"@UID@:@GID@:@DIR@\" }\n\
         listen on 127.0.0.1 port 0\n\
         action \"command\" mda \"cat > @DIR@/taken.tmp && mv @DIR@/taken.tmp @DIR@/taken\" userbase <users>\n\
         match from any for domain \"command.example\" action \"command\"\n",
    );
    let daemon = rig.start();
    queued(&daemon, "alice@command.example", "to a command");
    let text = until("the command has run", || {
        fs::read_to_string(rig.path().join("taken")).ok()
    });
    assert!(text.contains("Subject: to a command"), "{text}");
}

#[test]
fn a_command_that_fails_leaves_the_mail_in_the_queue_with_its_words() {
    let rig = Rig::new(
        "table users { alice = \"@UID@:@GID@:@DIR@\" }\n\
         listen on 127.0.0.1 port 0\n\
         action \"command\" mda \"echo the disk is full >&2; exit 75\" userbase <users>\n\
         match from any for domain \"command.example\" action \"command\"\n",
    );
    let daemon = rig.start();
    queued(&daemon, "alice@command.example", "stays");
    let line = until("the attempt has failed", || {
        let line = rig.queue().pop()?;
        (!field(&line, fields::ERROR).is_empty()).then_some(line)
    });
    assert!(
        field(&line, fields::ERROR).contains("the disk is full"),
        "{line}"
    );
}

#[test]
fn the_sender_of_a_report_is_empty_and_a_report_is_never_reported() {
    let sink = Sink::start();
    let rig = Rig::new(&configuration(&sink));
    let daemon = rig.start();
    sink.answer(Stage::Rcpt, Answer::Reply("550 5.1.1 Nobody"));
    // Sender and recipient are both refused: the report has nowhere to go and must end.
    queued(&daemon, "b@far.example", "nowhere");
    until("the queue is empty", || {
        rig.queue().is_empty().then_some(())
    });
}
