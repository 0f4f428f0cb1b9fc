//! Messages that are in hand at one crash after the other.

use super::setup::{configuration, field, fields, queued};
use redspool_tools::rig::{Answer, Rig, Sink, Stage, until};
use std::fs;
use std::time::Duration;

/// Waits until a message is in hand.
fn in_hand(rig: &Rig) {
    until("a message is in hand", || {
        let notes = fs::read(rig.spool().join("queue.inflight")).unwrap();
        notes.iter().any(|octet| *octet != 0).then_some(())
    });
}

#[test]
fn a_message_in_hand_at_three_crashes_in_a_row_is_paused_with_the_reason() {
    let sink = Sink::start();
    sink.answer(Stage::Mail, Answer::After(Duration::from_hours(1)));
    let rig = Rig::new(&configuration(&sink));
    let daemon = rig.start();
    queued(&daemon, "r@far.example", "poison");
    in_hand(&rig);
    daemon.kill();

    // Once is no reason for anything.
    let daemon = rig.start();
    rig.show(&["schedule", "all"]);
    in_hand(&rig);
    let line = &rig.queue()[0];
    assert_eq!(field(line, fields::ATTEMPTS), "0", "{line}");
    daemon.kill();

    // Twice is a failed attempt.
    let daemon = rig.start();
    let line = &rig.queue()[0];
    assert_eq!(field(line, fields::ATTEMPTS), "1", "{line}");
    assert_eq!(field(line, fields::RUNSTATE), "pending", "{line}");
    assert!(
        field(line, fields::ERROR).contains("ended 2 times in a row"),
        "{line}"
    );
    rig.show(&["schedule", "all"]);
    in_hand(&rig);
    daemon.kill();

    let daemon = rig.start();
    daemon.logged("ended 3 times in a row while it had this message in hand; paused");
    sink.fail(None);
    let line = &rig.queue()[0];
    assert!(field(line, fields::FLAGS).contains("suspend"), "{line}");
    assert_eq!(field(line, fields::ATTEMPTS), "2", "{line}");

    rig.show(&["resume", "envelope", "all"]);
    rig.show(&["schedule", "all"]);
    assert_eq!(sink.next().rcpts, ["r@far.example"]);
    until("the queue is empty", || {
        rig.queue().is_empty().then_some(())
    });
    daemon.stop();
    let daemon = rig.start();
    assert!(!daemon.log().contains("in a row"));
}
