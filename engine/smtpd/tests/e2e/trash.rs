//! What is removed, brought back, and dropped in the end.

use super::setup::{configuration, field, fields, queued, started};
use redspool_tools::rig::{Rig, Sink, until};

/// What lasts of the lines of a listing: all but run state, waiting time and error.
fn lasting(listing: &str) -> Vec<Vec<String>> {
    let part = |line: &str| line.split('|').take(11).map(str::to_owned).collect();
    listing.lines().map(part).collect()
}

#[test]
fn what_was_removed_comes_back_as_it_was_and_goes_out() {
    let (sink, rig, daemon) = started();
    rig.show(&["pause", "mta"]);
    for (rcpt, subject) in [("a@far.example", "one"), ("b@far.example", "two")] {
        queued(&daemon, rcpt, subject);
    }
    let suspended = queued(&daemon, "c@near.example", "three");
    rig.show(&["pause", "envelope", &suspended]);
    let queue = rig.show(&["show", "queue"]);
    assert_eq!(rig.show(&["remove", "all"]), "3 envelopes removed\n");
    assert_eq!(rig.show(&["show", "queue"]), "");
    assert_eq!(rig.show(&["remove", "all"]), "0 envelope removed\n");
    let trash = rig.show(&["show", "trash"]);
    assert_eq!(lasting(&trash), lasting(&queue));
    for line in trash.lines() {
        assert_eq!(field(line, fields::RUNSTATE), "trash");
        let left: u64 = field(line, fields::RUNSTATE + 1).parse().unwrap();
        assert!((86_000..=86_400).contains(&left), "{line}");
    }
    let message = rig.show(&["show", "message", &suspended]);
    assert!(message.contains("Subject: three"), "{message}");
    daemon.kill();
    let _daemon = rig.start();
    assert_eq!(rig.show(&["show", "queue"]), "");
    let one = rig.show(&["show", "trash", "--domain", "near.example"]);
    assert_eq!(one.lines().count(), 1, "{one}");
    let planned = rig.show(&["undo", "all", "--dry-run"]);
    assert!(
        planned.starts_with("3 envelopes would be restored\nmessages: 3\n"),
        "{planned}"
    );
    assert_eq!(rig.show(&["undo"]), "3 envelopes restored\n");
    assert_eq!(rig.show(&["show", "trash"]), "");
    assert_eq!(lasting(&rig.show(&["show", "queue"])), lasting(&queue));
    assert_eq!(rig.show(&["undo"]), "0 envelope restored\n");
    rig.show(&["resume", "mta"]);
    sink.next();
    sink.next();
    let rest = until("two are gone", || {
        let queue = rig.queue();
        (queue.len() == 1).then_some(queue)
    });
    assert!(rest[0].starts_with(&suspended), "{rest:?}");
}

#[test]
fn selections_and_ids_go_to_the_trash_and_now_is_for_good() {
    let (_sink, rig, daemon) = started();
    rig.show(&["pause", "mta"]);
    let near = queued(&daemon, "a@near.example", "one");
    let far = queued(&daemon, "b@far.example", "two");
    queued(&daemon, "c@far.example", "three");
    let selected = ["remove", "all", "--domain", "near.example"];
    assert_eq!(rig.show(&selected), "1 envelope removed\n");
    assert_eq!(rig.show(&["undo", &near]), "1 envelope restored\n");
    assert_eq!(rig.show(&["remove", &far]), "1 envelope removed\n");
    let now = ["remove", "all", "--domain", "far.example", "--now"];
    assert_eq!(rig.show(&now), "1 envelope removed\n");
    assert_eq!(rig.show(&["show", "trash"]).lines().count(), 1);
    // What is named by its id is gone wherever it was.
    assert_eq!(rig.show(&["remove", "--now", &far]), "1 envelope removed\n");
    assert_eq!(rig.show(&["show", "trash"]), "");
    let output = rig.smtpctl(&["undo", &far]);
    assert_eq!(
        (output.status, output.stdout.as_str(), output.stderr),
        (
            Some(1),
            "0 envelope restored\n",
            format!("smtpctl: no such message {far}\n")
        )
    );
    assert_eq!(
        rig.show(&["remove", "all", "--now"]),
        "1 envelope removed\n"
    );
    assert_eq!(rig.show(&["show", "trash"]), "");
}

#[test]
fn the_trash_of_a_stopped_daemon_is_shown_and_given_back() {
    let (sink, rig, daemon) = started();
    rig.show(&["pause", "mta"]);
    let id = queued(&daemon, "b@far.example", "kept");
    rig.show(&["remove", &id]);
    daemon.stop();
    let trash = rig.show(&["show", "trash"]);
    assert!(
        trash.starts_with(&id) && trash.contains("|trash||"),
        "{trash}"
    );
    assert_eq!(rig.show(&["show", "queue"]), "");
    assert_eq!(rig.show(&["undo", "all"]), "1 envelope restored\n");
    assert_eq!(rig.show(&["show", "queue"]).lines().count(), 1);
    let _daemon = rig.start();
    rig.show(&["resume", "mta"]);
    sink.next();
}

#[test]
fn the_trash_is_cleared_by_age_and_can_be_switched_off() {
    let sink = Sink::start();
    let rig = Rig::new(&format!("queue trash-ttl 1s\n{}", configuration(&sink)));
    let daemon = rig.start();
    rig.show(&["pause", "mta"]);
    let id = queued(&daemon, "b@far.example", "short-lived");
    rig.show(&["remove", &id]);
    until("the trash is empty", || {
        rig.show(&["show", "trash"]).is_empty().then_some(())
    });
    assert_eq!(rig.smtpctl(&["show", "message", &id]).status, Some(1));
    daemon.logged("trash dropped envelopes=1");
    drop(daemon);
    rig.configure(&format!("queue trash-size 0\n{}", configuration(&sink)));
    let daemon = rig.start();
    let id = queued(&daemon, "b@far.example", "gone");
    assert_eq!(rig.show(&["remove", &id]), "1 envelope removed\n");
    assert_eq!(rig.show(&["show", "trash"]), "");
}
