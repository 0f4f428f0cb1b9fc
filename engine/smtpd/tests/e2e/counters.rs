//! `show stats` to the unit: what happened to a known mix of mail, and nothing left when it is gone.

use super::setup::{mailbox, queued};
use super::submission::sendmail;
use redspool_tools::rig::{Answer, Rig, Sink, Stage, until};
use std::collections::BTreeMap;
use std::time::Duration;

/// The numbers of relaying, notices, schedule and queue.
fn stats(rig: &Rig) -> BTreeMap<String, i64> {
    let text = rig.show(&["show", "stats"]);
    let lines = text.lines().map(|line| line.split_once('=').unwrap());
    let groups = [
        "mta.",
        "bounce.",
        "scheduler.",
        "queue.",
        "smtp.session.local",
    ];
    lines
        .filter(|(key, _)| groups.iter().any(|group| key.starts_with(group)))
        .map(|(key, value)| (key.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Waits until these numbers are as wanted.
fn reach(rig: &Rig, what: &str, wanted: &[(&str, i64)]) {
    until(what, || {
        let stats = stats(rig);
        let is = |(key, value): &(&str, i64)| stats.get(*key).copied().unwrap_or(0) == *value;
        wanted.iter().all(is).then_some(())
    });
}

#[test]
fn counters_tell_of_a_known_mix_to_the_unit() {
    let (good, bad, slow) = (Sink::start(), Sink::start(), Sink::start());
    bad.answer(Stage::Rcpt, Answer::Reply("550 5.1.1 Nobody"));
    slow.answer(Stage::Rcpt, Answer::Reply("451 4.2.0 Later"));
    let rig = Rig::new(&format!(
        "mta limit session-keepalive 1\n\
         table users {{ sender = \"@UID@:@GID@:@DIR@/home\" }}\n\
         listen on 127.0.0.1 port 0\n\
         action \"in\" maildir \"@DIR@/mail/%{{user.username}}\" userbase <users>\n\
         action \"good\" relay host {}\n\
         action \"bad\" relay host {}\n\
         action \"slow\" relay host {}\n\
         action \"short\" relay host {} ttl 2s\n\
         match from any for domain \"example.org\" action \"in\"\n\
         match from any for domain \"good.example\" action \"good\"\n\
         match from any for domain \"bad.example\" action \"bad\"\n\
         match from any for domain \"slow.example\" action \"slow\"\n\
         match from any for domain \"short.example\" action \"short\"\n",
        good.url(),
        bad.url(),
        slow.url(),
        slow.url(),
    ));
    let daemon = rig.start();
    assert_eq!(stats(&rig), BTreeMap::new(), "nothing has happened");

    // While a host takes its time, everything shows it.
    good.answer(Stage::Dot, Answer::After(Duration::from_secs(4)));
    queued(&daemon, "a@good.example", "one");
    let sending = [
        ("mta.session", 1),
        ("mta.relay", 1),
        ("mta.domain", 1),
        ("mta.host", 1),
        ("mta.source", 1),
        ("mta.connector", 1),
        ("mta.route", 1),
        ("mta.task", 1),
        ("mta.task.running", 1),
        ("mta.envelope", 1),
        ("scheduler.envelope", 1),
        ("scheduler.envelope.inflight", 1),
        ("scheduler.ramqueue.envelope", 1),
        ("scheduler.ramqueue.message", 1),
    ];
    reach(&rig, "it is being sent", &sending);
    good.next();
    good.fail(None);

    queued(&daemon, "b@good.example", "two");
    good.next();
    queued(&daemon, "c@bad.example", "refused");
    let gone = queued(&daemon, "d@slow.example", "removed");
    let late = queued(&daemon, "e@slow.example", "late");
    queued(&daemon, "f@short.example", "expires");
    reach(
        &rig,
        "the attempts have ended, and a notice and an expiry with its notice have come",
        &[
            ("scheduler.delivery.tempfail", 3),
            ("scheduler.envelope.expired", 1),
            ("scheduler.envelope", 2),
            ("scheduler.envelope.inflight", 0),
        ],
    );
    mailbox(&rig, "sender").wait(2);
    rig.show(&["remove", &gone]);
    slow.fail(None);
    rig.show(&["schedule", &late]);
    slow.next();

    let end = [
        ("scheduler.envelope", 0),
        ("mta.relay", 0),
        ("mta.domain", 0),
        ("mta.host", 0),
        ("mta.source", 0),
        ("mta.route", 0),
    ];
    reach(&rig, "all of it is gone", &end);
    let wanted = [
        // Every gauge is back at zero.
        ("bounce.envelope", 0),
        ("bounce.message", 0),
        ("bounce.session", 0),
        ("mta.connector", 0),
        ("mta.domain", 0),
        ("mta.envelope", 0),
        ("mta.host", 0),
        ("mta.relay", 0),
        ("mta.route", 0),
        ("mta.session", 0),
        ("mta.source", 0),
        ("mta.task", 0),
        ("mta.task.running", 0),
        ("scheduler.envelope", 0),
        ("scheduler.envelope.incoming", 0),
        ("scheduler.envelope.inflight", 0),
        ("scheduler.ramqueue.envelope", 0),
        ("scheduler.ramqueue.message", 0),
        ("scheduler.ramqueue.update", 0),
        // One was refused, one expired.
        ("queue.bounce", 2),
        // Three to hosts, two notices made, and both delivered here.
        ("scheduler.delivery.ok", 7),
        ("scheduler.delivery.permfail", 1),
        ("scheduler.delivery.tempfail", 3),
        ("scheduler.envelope.expired", 1),
        ("scheduler.envelope.removed", 1),
    ];
    let wanted = wanted.map(|(key, value)| (key.to_owned(), value));
    assert_eq!(stats(&rig), BTreeMap::from(wanted));
}

#[test]
fn what_programs_of_this_host_submit_is_counted_as_local_sessions() {
    let rig = Rig::new(
        "table users { alice = \"@UID@:@GID@:@DIR@/home\" }\n\
         listen on 127.0.0.1 port 0\n\
         action \"in\" maildir \"@DIR@/mail/%{user.username}\" userbase <users>\n\
         match from local for any action \"in\"\n",
    );
    let daemon = rig.start();
    for number in 1..=2 {
        let text = format!("Subject: {number}\n\nhi\n");
        let sent = sendmail(&rig, &["alice@local.example"], &text);
        assert_eq!(sent.status, Some(0), "{sent:?}");
        reach(&rig, "it is counted", &[("smtp.session.local", number)]);
    }
    mailbox(&rig, "alice").wait(2);
    let end = [
        ("scheduler.envelope", 0),
        ("scheduler.ramqueue.envelope", 0),
    ];
    reach(&rig, "both are delivered", &end);
    drop(daemon);
}
