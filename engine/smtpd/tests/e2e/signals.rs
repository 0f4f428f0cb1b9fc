//! SIGTERM, SIGHUP and SIGKILL.

use super::setup::{configuration, message, queued, send, started, without_last};
use nix::sys::signal::Signal;
use redspool_tools::ledger::{self, Plan};
use redspool_tools::rig::{Answer, Stage, until};
use std::fs;
use std::time::Duration;

#[test]
fn sigterm_finishes_what_runs_and_keeps_the_rest() {
    let (sink, rig, daemon) = started();
    sink.answer(Stage::Dot, Answer::After(Duration::from_millis(300)));
    queued(&daemon, "b@far.example", "under way");
    until("the attempt runs", || {
        rig.queue().pop()?.contains("|inflight|").then_some(())
    });
    rig.show(&["pause", "mda"]);
    queued(&daemon, "alice@local.example", "stays");
    assert!(daemon.stop().success());
    assert!(sink.next().content.ends_with(&message("under way")));
    let queue = rig.queue();
    assert_eq!(
        queue.len(),
        1,
        "the finished attempt is recorded: {queue:?}"
    );
    assert!(queue[0].contains("alice@local.example"));
    assert!(
        !rig.spool().join("smtpd.sock").exists(),
        "the socket goes with the daemon"
    );
}

#[test]
fn sighup_with_a_wrong_file_keeps_the_old_configuration() {
    let (sink, rig, daemon) = started();
    fs::write(rig.config(), "listen on nowhere\nfrobnicate\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.logged("frobnicate");
    assert_eq!(send(&daemon, "b@far.example", &message("still")).code, 250);
    sink.next();
}

#[test]
fn sighup_with_a_right_file_takes_it() {
    let (sink, rig, daemon) = started();
    rig.configure(&without_last(&sink));
    daemon.signal(Signal::SIGHUP);
    let refused = until("the new rules are in force", || {
        let reply = send(&daemon, "b@far.example", &message("refused"));
        (reply.code != 250).then_some(reply)
    });
    assert_eq!(refused.code, 550, "{refused:?}");
    rig.configure(&configuration(&sink));
    daemon.signal(Signal::SIGHUP);
    until("the old rules are back", || {
        (send(&daemon, "b@far.example", &message("taken")).code == 250).then_some(())
    });
}

#[test]
fn what_was_acknowledged_before_a_kill_arrives_after_it() {
    let (sink, rig, daemon) = started();
    rig.show(&["pause", "mta"]);
    for number in 0..50 {
        queued(
            &daemon,
            &format!("r{number}@far.example"),
            &format!("n{number}"),
        );
    }
    daemon.kill();
    let _daemon = rig.start();
    assert_eq!(rig.queue().len(), 50);
    rig.show(&["resume", "mta"]);
    let mut rcpts: Vec<_> = (0..50).flat_map(|_| sink.next().rcpts).collect();
    rcpts.sort();
    rcpts.dedup();
    assert_eq!(rcpts.len(), 50);
}

#[test]
fn kill_ledger() {
    let summary = ledger::run(&Plan {
        messages: 2000,
        sessions: 20,
        kills: 5,
        seed: 1,
        put_off: 50,
        limit: Duration::from_mins(2),
    });
    assert!(summary.is_good(), "{summary}");
    eprintln!("{summary}");
}
