//! What smtpctl shows and steers while the daemon runs.

use super::setup::{field, fields, mailbox, queued, send, started};
use redspool_core::queue::{Store as _, Transition};
use redspool_core::time::Timestamp;
use redspool_store::LogStore;
use redspool_tools::rig::{Rig, Sink, until};

#[test]
fn the_queue_shows_every_field_of_an_envelope() {
    let (_sink, rig, daemon) = started();
    rig.show(&["pause", "mta"]);
    let id = queued(&daemon, "b@far.example", "shown");
    let queue = rig.queue();
    assert_eq!(queue.len(), 1, "{queue:?}");
    let line = &queue[0];
    assert_eq!(line.split('|').count(), 14, "{line}");
    assert!(field(line, fields::EVPID).starts_with(&id), "{line}");
    assert_eq!(field(line, 1), "inet4");
    assert_eq!(field(line, fields::AGENT), "mta");
    assert_eq!(field(line, fields::SENDER), "sender@example.org");
    assert_eq!(field(line, fields::RCPT), "b@far.example");
    assert_eq!(field(line, fields::RUNSTATE), "pending");
    assert_eq!(rig.mailq().stdout, rig.show(&["show", "queue"]));
    assert_eq!(rig.show(&["sh", "q", &id]).lines().count(), 1);

    let evpid = field(line, fields::EVPID);
    let envelope = rig.show(&["show", "envelope", evpid]);
    for wanted in [
        "sender: sender@example.org",
        "rcpt: b@far.example",
        "type: mta",
    ] {
        assert!(
            envelope.lines().any(|line| line == wanted),
            "{wanted} in {envelope}"
        );
    }
    for words in [["show", "message", &id], ["show", "message", evpid]] {
        let message = rig.show(&words);
        assert!(message.contains("Subject: shown"), "{message}");
        assert!(message.starts_with("Received: "), "{message}");
    }
}

#[test]
fn pause_holds_back_and_resume_lets_go() {
    let (sink, rig, daemon) = started();
    let alice = mailbox(&rig, "alice");
    for agent in ["mta", "mda"] {
        assert_eq!(rig.show(&["pause", agent]), "command succeeded\n");
    }
    let status = rig.show(&["show", "status"]);
    assert_eq!(status, "MDA paused\nMTA paused\nSMTP running\n");
    queued(&daemon, "alice@local.example", "in");
    queued(&daemon, "b@far.example", "out");
    assert_eq!(rig.queue().len(), 2);
    assert_eq!(alice.messages().len(), 0);
    rig.show(&["resume", "mda"]);
    alice.one();
    rig.show(&["resume", "mta"]);
    sink.next();
    assert_eq!(
        rig.show(&["show", "status"]),
        "MDA running\nMTA running\nSMTP running\n"
    );
}

#[test]
fn what_is_paused_stays_paused_over_a_restart() {
    let (sink, rig, daemon) = started();
    rig.show(&["pause", "mta"]);
    let id = queued(&daemon, "b@far.example", "kept back");
    daemon.kill();
    let daemon = rig.start();
    assert!(rig.show(&["show", "status"]).contains("MTA paused"));
    assert_eq!(rig.show(&["pause", "envelope", &id]), "1 envelope paused\n");
    rig.show(&["resume", "mta"]);
    drop(daemon);
    let _daemon = rig.start();
    let line = &rig.queue()[0];
    assert!(field(line, fields::FLAGS).contains("suspend"), "{line}");
    assert_eq!(
        rig.show(&["resume", "envelope", &id]),
        "1 envelope resumed\n"
    );
    sink.next();
}

#[test]
fn remove_takes_envelopes_out_for_good() {
    let (_sink, rig, daemon) = started();
    rig.show(&["pause", "mta"]);
    let first = queued(&daemon, "a@far.example", "one");
    queued(&daemon, "b@far.example", "two");
    queued(&daemon, "c@far.example", "three");
    assert_eq!(rig.show(&["remove", &first]), "1 envelope removed\n");
    assert_eq!(rig.queue().len(), 2);
    assert_eq!(rig.show(&["remove", "all"]), "2 envelopes removed\n");
    daemon.kill();
    let _daemon = rig.start();
    assert_eq!(rig.show(&["show", "queue"]), "");
}

#[test]
fn pause_smtp_leaves_clients_waiting_and_resume_greets_them() {
    let (sink, rig, daemon) = started();
    rig.show(&["pause", "smtp"]);
    let address = daemon.address();
    let client = std::thread::spawn(move || {
        let (_dialog, greeting) = redspool_tools::rig::Dialog::open(address).unwrap();
        greeting.code
    });
    assert!(rig.show(&["show", "status"]).contains("SMTP paused"));
    assert!(!client.is_finished());
    rig.show(&["resume", "smtp"]);
    assert_eq!(client.join().unwrap(), 220);
    queued(&daemon, "b@far.example", "after");
    sink.next();
}

#[test]
fn stats_and_monitor_count_what_happened() {
    let (sink, rig, daemon) = started();
    queued(&daemon, "b@far.example", "counted");
    sink.next();
    until("the delivery is counted", || {
        let stats = rig.show(&["show", "stats"]);
        let delivered = stats.lines().any(|line| line == "scheduler.delivery.ok=1");
        delivered.then_some(())
    });
    let stats = rig.show(&["show", "stats"]);
    for key in ["uptime=", "smtp.session="] {
        assert!(
            stats.lines().any(|line| line.starts_with(key)),
            "{key} in {stats}"
        );
    }
    let monitor = rig.show(&["monitor", "--count", "2"]);
    assert!(monitor.lines().count() >= 2, "{monitor}");
}

#[test]
fn log_verbose_and_brief_are_taken() {
    let (_sink, rig, daemon) = started();
    assert_eq!(rig.show(&["log", "verbose"]), "command succeeded\n");
    daemon.logged("log verbose");
    assert_eq!(rig.show(&["log", "brief"]), "command succeeded\n");
    daemon.logged("log brief");
}

#[test]
fn ids_that_name_nothing_fail_and_say_so() {
    let (_sink, rig, _daemon) = started();
    for words in [
        ["show", "envelope", "1122334455667788"],
        ["show", "message", "11223344"],
        ["remove", "11223344", ""],
        ["schedule", "1122334455667788", ""],
    ] {
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let output = rig.smtpctl(&words);
        assert_eq!(output.status, Some(1), "{words:?}: {output:?}");
        assert!(
            output.stderr.starts_with("smtpctl: no such "),
            "{words:?}: {output:?}"
        );
    }
}

#[test]
fn words_that_are_no_command_list_what_is_possible() {
    let (_sink, rig, daemon) = started();
    rig.show(&["pause", "mta"]);
    queued(&daemon, "b@far.example", "stays");
    // An empty word, from an unset variable in a script, must never match anything.
    for words in [
        &["remove", ""][..],
        &["pause", "envelope", ""],
        &["show", "host"],
        &["s"],
        &[""],
    ] {
        let output = rig.smtpctl(words);
        assert_eq!(output.status, Some(255), "{words:?}: {output:?}");
        assert!(
            output.stderr.starts_with("possibilities are:\n"),
            "{words:?}: {output:?}"
        );
    }
    let output = rig.smtpctl(&["show", "queue", "12345678", "extra"]);
    assert_eq!(
        (output.status, output.stderr.as_str()),
        (Some(255), "invalid command\n")
    );
    assert_eq!(rig.queue().len(), 1);
}

#[test]
fn a_message_comes_back_from_the_corrupt_bucket_and_goes_out() {
    let (sink, rig, daemon) = started();
    rig.show(&["pause", "mta"]);
    let id = queued(&daemon, "b@far.example", "set aside");
    let output = rig.smtpctl(&["uncorrupt", &id]);
    let want = format!("smtpctl: message {id} is not in the corrupt bucket, but queued\n");
    assert_eq!(
        (output.status, output.stdout.as_str(), output.stderr),
        (Some(1), "command failed\n", want)
    );
    daemon.stop();
    // A child of another test may have the lock for a moment, until it becomes its program.
    let mut store = until("the store is free", || LogStore::open(rig.spool()).ok());
    let corrupt = Transition::Corrupt {
        message: id.parse().unwrap(),
        reason: "it was asked for".into(),
        at: Timestamp::from_secs(1),
    };
    let prepared = store.prepare(corrupt).unwrap();
    store.commit(vec![prepared]).unwrap();
    drop(store);
    let _daemon = rig.start();
    assert_eq!(rig.show(&["show", "queue"]), "");
    rig.show(&["resume", "mta"]);
    assert_eq!(rig.show(&["uncorrupt", &id]), "command succeeded\n");
    sink.next();
    let output = rig.smtpctl(&["uncorrupt", "11223344"]);
    assert_eq!(
        output.stderr,
        "smtpctl: no message 11223344 in the corrupt bucket\n"
    );
}

#[test]
fn two_daemons_live_side_by_side() {
    let sink = Sink::start();
    let [one, two] = [0, 1].map(|_| Rig::new(&super::setup::configuration(&sink)));
    let (first, second) = (one.start(), two.start());
    one.show(&["pause", "mta"]);
    two.show(&["pause", "mta"]);
    assert_eq!(
        send(&first, "a@far.example", &super::setup::message("first")).code,
        250
    );
    assert_eq!(one.queue().len(), 1);
    assert_eq!(two.queue().len(), 0);
    drop(second);
}
