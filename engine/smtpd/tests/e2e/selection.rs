//! Verbs for what is selected, and what they would hit.

use super::setup::{field, fields, mailbox, message, queued, send, started};
use redspool_tools::rig::{Daemon, Rig, Sink};

/// Recipients of what is queued, in order.
fn rcpts(rig: &Rig) -> Vec<String> {
    let lines = rig.queue();
    let mut rcpts: Vec<_> = lines
        .iter()
        .map(|line| field(line, fields::RCPT).to_owned())
        .collect();
    rcpts.sort();
    rcpts
}

/// Four messages to two domains, one of them local, and nothing moves.
fn four() -> (Sink, Rig, Daemon) {
    let (sink, rig, daemon) = started();
    rig.show(&["pause", "mta"]);
    rig.show(&["pause", "mda"]);
    for rcpt in [
        "a@one.example",
        "b@one.example",
        "c@two.example",
        "alice@local.example",
    ] {
        queued(&daemon, rcpt, rcpt);
    }
    (sink, rig, daemon)
}

#[test]
fn a_dry_run_counts_and_changes_nothing() {
    let (_sink, rig, _daemon) = four();
    let shown = rig.show(&["remove", "all", "--domain", "one.example", "--dry-run"]);
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some("2 envelopes would be removed"));
    assert_eq!(lines.next(), Some("messages: 2"));
    let octets = lines.next().and_then(|line| line.strip_prefix("octets: "));
    let octets: usize = octets.unwrap().parse().unwrap();
    // Two messages, each with the trace header on top.
    assert!(octets > 2 * message("a@one.example").len(), "{shown}");
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            "in flight: 0",
            "senders:",
            "       2 sender@example.org",
            "domains:",
            "       2 one.example"
        ]
    );
    let all = rig.show(&["schedule", "all", "--dry-run"]);
    assert!(all.starts_with("4 envelopes would be scheduled\n"), "{all}");
    assert_eq!(rcpts(&rig).len(), 4);
}

#[test]
fn remove_takes_what_is_selected_for_good() {
    let (_sink, rig, daemon) = four();
    let removed = rig.show(&["remove", "all", "--domain", "one.example", "--limit", "1"]);
    assert_eq!(removed, "1 envelope removed\n");
    let removed = rig.show(&["remove", "all", "--type", "mta", "--sender", "@example.org"]);
    assert_eq!(removed, "2 envelopes removed\n");
    let none = rig.show(&["remove", "all", "--sender", "nobody"]);
    assert_eq!(none, "0 envelope removed\n");
    assert_eq!(
        rig.smtpctl(&["remove", "all", "--sender", ""]).status,
        Some(255)
    );
    daemon.kill();
    let _daemon = rig.start();
    assert_eq!(rcpts(&rig), ["alice@local.example"]);
}

#[test]
fn pause_resume_and_schedule_heed_the_selection() {
    let (sink, rig, _daemon) = four();
    let alice = mailbox(&rig, "alice");
    let paused = rig.show(&[
        "pause",
        "envelope",
        "all",
        "--domain",
        "*.example",
        "--rcpt",
        "a",
    ]);
    assert_eq!(paused, "1 envelope paused\n");
    let again = rig.show(&["pause", "envelope", "all", "--rcpt", "a"]);
    assert_eq!(again, "0 envelope paused\n");
    let lines = rig.queue();
    let suspended = lines
        .iter()
        .filter(|line| field(line, fields::FLAGS).contains("suspend"));
    assert_eq!(suspended.count(), 1);
    assert_eq!(
        rig.show(&["schedule", "all", "--type", "mda"]),
        "1 envelope scheduled\n"
    );
    rig.show(&["resume", "mda"]);
    alice.one();
    rig.show(&["resume", "mta"]);
    let mut sent = [sink.next(), sink.next()].map(|delivery| delivery.rcpts.concat());
    sent.sort();
    assert_eq!(sent, ["b@one.example", "c@two.example"]);
    let resumed = rig.show(&["resume", "envelope", "all", "--state", "suspend"]);
    assert_eq!(resumed, "1 envelope resumed\n");
    assert_eq!(sink.next().rcpts, ["a@one.example"]);
}

#[test]
fn ids_narrow_a_selection_and_unknown_ones_fail() {
    let (_sink, rig, daemon) = four();
    let reply = send(&daemon, "d@two.example", &message("d"));
    let id = reply.text().split(' ').nth(1).unwrap().to_owned();
    let none = rig.show(&["remove", &id, "--domain", "one.example"]);
    assert_eq!(none, "0 envelope removed\n");
    let one = rig.show(&["remove", &id, "--domain", "two.example"]);
    assert_eq!(one, "1 envelope removed\n");
    let gone = rig.smtpctl(&["remove", &id, "--domain", "two.example"]);
    assert_eq!(gone.status, Some(1), "{gone:?}");
    assert!(gone.stderr.contains("no such message"), "{gone:?}");
}
