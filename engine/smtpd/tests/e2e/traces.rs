//! What `trace` and `profile` print, and that they stop.

use super::setup::{mailbox, message, queued, send, started};
use redspool_core::control::TraceTopic;
use redspool_tools::rig::{Answer, Daemon, Dialog, Rig, Stage, until};

/// Begins or stops traces, by the words of smtpctl.
fn switch(rig: &Rig, words: &[&str]) {
    assert_eq!(rig.show(words), "command succeeded\n", "{words:?}");
}

/// Lines of the log that a trace or profile has printed.
fn traced(log: &str, topic: &str) -> Vec<String> {
    let mark = format!("Z {topic}: ");
    let lines = log.lines().filter(|line| line.contains(&mark));
    lines.map(str::to_owned).collect()
}

/// What the log says while this is done. Nothing that was begun before is under way then.
fn meanwhile(rig: &Rig, daemon: &Daemon, done: impl FnOnce()) -> String {
    until("the queue is empty", || {
        rig.queue().is_empty().then_some(())
    });
    switch(rig, &["log", "verbose"]);
    daemon.logged("log verbose");
    done();
    switch(rig, &["log", "brief"]);
    daemon.logged("log brief");
    let log = daemon.log();
    let (_, after) = log.split_once("log verbose").unwrap();
    let (between, _) = after.split_once("log brief").unwrap();
    between.to_owned()
}

/// Makes something happen in every part of the daemon: a delivery, a transfer, a bounce.
fn everything(rig: &Rig, daemon: &Daemon) {
    let alice = mailbox(rig, "alice");
    queued(daemon, "alice@local.example", "here");
    alice.one();
    let reply = Dialog::hello(daemon.address())
        .unwrap()
        .submit("bob@local.example", &["b@far.example"], &message("there"))
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    mailbox(rig, "bob").one();
}

#[test]
fn every_topic_prints_real_events_and_stops() {
    let (sink, rig, daemon) = started();
    sink.answer(Stage::Rcpt, Answer::Reply("550 5.1.1 nobody here"));
    switch(&rig, &["trace", "all"]);
    everything(&rig, &daemon);
    rig.show(&["show", "queue"]);
    for (topic, text) in [
        ("imsg", "control <- uid"),
        ("imsg", "engine <- queue: Queued"),
        ("io", "smtp read"),
        ("io", "mta read"),
        ("smtp", "<<< MAIL FROM:<bob@local.example>"),
        ("smtp", ">>> 250 2.1.5"),
        ("filters", "phase=rcpt-to action=proceed"),
        ("filters", "phase=commit action=proceed"),
        ("mta", ">>> RCPT TO:<b@far.example>"),
        ("mta", "<<< 550 5.1.1 nobody here"),
        ("bounce", "-> notify to=<bob@local.example>"),
        ("bounce", "<- notified 1: "),
        ("scheduler", "<- queued 1: "),
        ("expand", "user alice [depth=1]"),
        ("lookup", "\"alice\" as userinfo in table <users>"),
        ("stat", "scheduler.delivery.ok: 0 -> 1"),
        (
            "rules",
            "smtpd.conf:5 matched alice@local.example: action in",
        ),
        ("mproc", "smtpd -> helper: "),
    ] {
        until(&format!("{topic}: {text}"), || {
            let lines = traced(&daemon.log(), topic);
            lines.iter().any(|line| line.contains(text)).then_some(())
        });
    }
    let longest = daemon.log().lines().map(str::len).max().unwrap();
    assert!(longest < 2000, "{longest}");

    switch(&rig, &["untrace", "all"]);
    let log = meanwhile(&rig, &daemon, || {
        queued(&daemon, "alice@local.example", "quiet");
        rig.show(&["show", "queue"]);
    });
    for topic in TraceTopic::All.each() {
        assert_eq!(traced(&log, topic.word()), Vec::<String>::new());
    }
}

#[test]
fn a_topic_is_switched_alone_and_outlives_log_brief() {
    let (_sink, rig, daemon) = started();
    switch(&rig, &["trace", "smtp"]);
    switch(&rig, &["log", "brief"]);
    send(&daemon, "alice@local.example", &message("one"));
    daemon.logged("Z smtp: ");
    let log = daemon.log();
    assert_eq!(traced(&log, "io"), Vec::<String>::new());
    assert_eq!(traced(&log, "mta"), Vec::<String>::new());
}

#[test]
fn content_and_credentials_are_in_no_line() {
    let (sink, rig, daemon) = started();
    switch(&rig, &["trace", "all"]);
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    for line in ["AUTH PLAIN AGFsaWNlAHNlc2FtZQ==", "AUTH LOGIN", "c2VzYW1l"] {
        dialog.ask(line).unwrap();
    }
    let text = b"Subject: x\r\n\r\nfor your eyes only \x1b[2J\r\n";
    let reply = dialog.submit("s@example.org", &["b@far.example"], text);
    assert_eq!(reply.unwrap().code, 250);
    let kept = sink.next();
    assert!(kept.content.ends_with(b"for your eyes only \x1b[2J\r\n"));
    daemon.logged(">>> (content, ");
    daemon.logged("<<< AUTH PLAIN <hidden>");
    let log = daemon.log();
    for secret in ["AGFsaWNlAHNlc2FtZQ", "c2VzYW1l", "for your eyes", "\x1b"] {
        assert!(!log.contains(secret), "{secret}:\n{log}");
    }
}

#[test]
fn profiles_tell_durations_in_the_form_of_the_reference() {
    let (_sink, rig, daemon) = started();
    switch(&rig, &["profile", "queue"]);
    switch(&rig, &["profile", "imsg"]);
    queued(&daemon, "alice@local.example", "timed");
    rig.show(&["show", "queue"]);
    let (queue, imsg) = ("profile-queue", "profile-imsg");
    daemon.logged("profile-queue: commit/");
    daemon.logged("profile-imsg: engine queue Queued 0 ");
    daemon.logged("profile-imsg: control smtpctl ShowQueue ");
    let duration = |line: &String| {
        let last = line.rsplit(' ').next().unwrap();
        let (seconds, nanos) = last.split_once('.').unwrap();
        assert!(seconds.parse::<u64>().unwrap() < 60, "{line}");
        assert_eq!(nanos.len(), 9, "{line}");
        nanos.parse::<u32>().unwrap()
    };
    let log = daemon.log();
    for (topic, words) in [(queue, 4), (imsg, 7)] {
        let lines = traced(&log, topic);
        assert!(
            lines.iter().map(duration).any(|nanos| nanos > 0),
            "{lines:?}"
        );
        for line in lines {
            assert_eq!(line.split(' ').count(), words, "{line}");
        }
    }
    switch(&rig, &["unprofile", "queue"]);
    switch(&rig, &["unprofile", "imsg"]);
    let late = meanwhile(&rig, &daemon, || drop(rig.queue()));
    assert!(!late.contains("profile-"), "{late}");
}
