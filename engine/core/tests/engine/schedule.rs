//! When envelopes are tried, held, paused, warned of and given up.

use crate::world::{
    DATE, Host, World, address, delivered, failure, is_delay, local, relay, smart_host,
};
use redspool_core::engine::{Event, Loaded, Phase, Unresolved};
use redspool_core::envelope::{Delivery, Notify};
use redspool_core::id::MessageId;
use redspool_core::limits::Limits;
use redspool_core::queue::{Outcome, Selector};
use redspool_core::reply::Status;
use redspool_core::stats::Counter;
use redspool_core::time::Timestamp;
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);

fn deferring() -> (World, Delivery) {
    let mut world = World::new(7, Limits::default());
    world.hosts.insert(address(1), Host::Defers);
    (world, smart_host(address(1)))
}

/// Whether attempts lie on slots, each wait within a tenth.
fn on_slots(tries: &[f64], base: f64) {
    assert!(tries[0] < 0.2, "the first attempt is at once: {tries:?}");
    for (n, pair) in tries.windows(2).enumerate() {
        let next = f64::from(u32::try_from(n).unwrap()) + 1.0;
        let wait = (base * next * next - pair[0]).min(4.0 * 3600.0);
        let got = pair[1] - pair[0];
        let fits = (wait * 0.89 - 1.5..wait * 1.11 + 1.5).contains(&got);
        assert!(fits, "attempt {}: waited {got}, slot {wait}", n + 1);
    }
}

#[test]
fn relayed_mail_is_tried_on_quadratic_slots_and_expires() {
    let (mut world, delivery) = deferring();
    let id = world.send(delivery, "a@example.net");
    world.run_out(Duration::from_hours(110));

    let tries = world.tries_of(id);
    on_slots(&tries[..12], 400.0);
    assert!((25..60).contains(&tries.len()), "{} attempts", tries.len());
    assert_eq!(world.diary.expired, [id]);
    let late: Vec<_> = world.diary.bounces.iter().filter(|b| is_delay(b)).collect();
    assert_eq!(late.len(), 1, "one warning");
    let warned = late[0].ctime.as_secs() - DATE;
    assert!(
        (4 * 3600..=4 * 3600 + 2).contains(&warned),
        "when the delay has happened: {warned}"
    );
    let last = world.diary.bounces.last().unwrap();
    assert_eq!(last.status, Some(Status::permanent(4, 7)));
    assert_eq!(&*last.errorline, "Envelope expired");
    assert!(last.ctime.as_secs() - DATE >= 96 * 3600);
    assert_eq!(world.diary.notices.len(), 2);
}

#[test]
fn local_mail_is_tried_again_within_seconds() {
    let mut world = World::new(3, Limits::default());
    world.local = Outcome::TempFail(failure("exited abnormally"));
    let id = world.send(local("alice"), "alice@example.org");
    world.run(HOUR / 2);
    on_slots(&world.tries_of(id), 10.0);
    assert_eq!(&*world.store[&id].errorline, "exited abnormally");
    assert_ne!(world.store[&id].last_try, Timestamp::EPOCH);
    world.local = delivered();
    world.run_out(HOUR);
}

#[test]
fn waits_differ_from_envelope_to_envelope() {
    let (mut world, delivery) = deferring();
    let ids: Vec<_> = (0..20)
        .map(|n| world.send(delivery.clone(), &format!("u{n}@example.net")))
        .collect();
    world.run(Duration::from_mins(8));
    let mut second: Vec<_> = ids.iter().map(|id| world.tries_of(*id)[1]).collect();
    second.sort_by(f64::total_cmp);
    assert!(second[19] - second[0] > 40.0, "spread over {second:?}");
}

#[test]
fn overdue_mail_is_spread_after_a_restart_and_fresh_mail_is_not() {
    let mut world = World::new(5, Limits::default());
    world.check_due = false;
    let mut found = Vec::new();
    for n in 0..200 {
        let mut envelope = world.envelope(smart_host(address(1)), &format!("u{n}@example.net"));
        envelope.ctime = Timestamp::from_secs(DATE - 5000);
        envelope.retry = 3;
        found.push(envelope);
    }
    world.submit(found);
    let fresh = world.send(smart_host(address(2)), "fresh@example.net");
    world.run_out(HOUR);
    assert!(world.tries_of(fresh)[0] < 0.2);
    let first: Vec<_> = world
        .diary
        .attempts
        .iter()
        .filter(|(_, at)| *at < 6.0)
        .collect();
    assert!(
        first.len() < 50,
        "{} of 200 in the first tenth",
        first.len()
    );
    assert!(world.diary.attempts.last().unwrap().1 < 61.0);
}

#[test]
fn the_administrators_verbs_work_in_every_state() {
    // spec/smtpd.md table 3.6: pending, held, in flight, suspended.
    let (mut world, delivery) = deferring();
    let pending = world.send(delivery.clone(), "pending@example.net");
    world.run(Duration::from_secs(5));
    let one = Selector::Envelope(pending);
    assert_eq!(world.schedule(one), 1);
    world.run(Duration::from_secs(5));
    assert_eq!(world.retries(pending), 2, "scheduled mail is tried at once");
    assert_eq!(world.suspend(one, true), 1);
    assert_eq!(world.suspend(one, true), 0, "pausing twice changes nothing");
    world.run(HOUR);
    assert_eq!(world.retries(pending), 2, "paused mail waits");
    assert_eq!(world.schedule(one), 1);
    world.run(Duration::from_secs(5));
    assert_eq!(world.retries(pending), 3, "one forced attempt");
    let state = world.engine.runstate(world.now(), pending).unwrap();
    assert!(state.suspended && !state.held);
    world.run(HOUR);
    assert_eq!(world.retries(pending), 3, "and it is paused as before");
    assert_eq!(world.suspend(one, false), 1);
    world.run(Duration::from_secs(5));
    assert_eq!(world.retries(pending), 4, "resumed, and overdue");

    world.latency = Duration::from_mins(10);
    world.hosts.insert(address(2), Host::Accepts);
    let inflight = world.send(smart_host(address(2)), "inflight@example.net");
    while world.tries_of(inflight).is_empty() {
        let end = world.elapsed() + HOUR;
        assert!(world.step(end));
    }
    let state = world.engine.runstate(world.now(), inflight).unwrap();
    assert!(matches!(state.phase, Phase::Inflight { .. }));
    let running = Selector::Envelope(inflight);
    assert_eq!(world.schedule(running), 0, "it is being tried already");
    assert_eq!(world.remove(running), 1);
    let before = world.engine.digest();
    world.run(HOUR);
    assert!(world.diary.delivered.contains(&inflight));
    assert_eq!(
        world.engine.digest().ok,
        before.ok,
        "what comes late changes nothing"
    );
    assert!(world.engine.runstate(world.now(), inflight).is_none());
    assert_eq!(world.schedule(Selector::Envelope(inflight)), 0);
    assert_eq!(world.remove(Selector::All), 1);
    assert!(world.engine.is_empty());
    assert_eq!(world.diary.notices.len(), 0, "removing is silent");
}

#[test]
fn held_mail_obeys_the_administrator() {
    let mut world = World::new(13, Limits::default());
    world.latency = Duration::from_mins(1);
    // Seven are delivered at a time and fifty wait; the last three are held.
    let envelopes = (0..60).map(|_| world.envelope(local("alice"), "alice@example.org"));
    let envelopes = envelopes.collect();
    let ids = world.submit(envelopes);
    let held = |world: &mut World, id| {
        let state = world.engine.runstate(world.now(), id);
        state.is_some_and(|state| state.held)
    };
    while !held(&mut world, ids[59]) {
        let end = world.elapsed() + HOUR;
        assert!(world.step(end));
    }
    let last = Selector::Envelope(ids[59]);
    assert_eq!(world.suspend(last, true), 1);
    let state = world.engine.runstate(world.now(), ids[59]).unwrap();
    assert!(state.suspended && !state.held);
    assert_eq!(world.engine.counters().get(Counter::SchedulerHold), 2);
    assert_eq!(world.schedule(Selector::Envelope(ids[58])), 1);
    assert!(!held(&mut world, ids[58]));
    assert_eq!(world.remove(Selector::Envelope(ids[57])), 1);
    world.run(3 * HOUR);
    assert_eq!(world.store.keys().copied().collect::<Vec<_>>(), [ids[59]]);
    assert_eq!(world.diary.delivered.len(), 58);
    world.suspend(last, false);
    world.run_out(HOUR);
}

#[test]
fn mail_that_goes_back_untried_is_counted_as_updated() {
    let limits = Limits {
        hold_queue: 6,
        ..Limits::default()
    };
    let mut world = World::new(14, limits);
    let later = Unresolved::Temporary(failure("later"));
    world.domains.insert("example.net".into(), Err(later));
    world.latency = Duration::from_mins(1);
    // Fifty wait for the relay, six are held, and there is no room for four.
    let envelopes = (0..60).map(|n| world.envelope(relay(), &format!("u{n}@example.net")));
    let envelopes = envelopes.collect();
    world.submit(envelopes);
    let count = |world: &mut World, counter| world.engine.counters().get(counter);
    while count(&mut world, Counter::SchedulerHold) < 6 {
        let end = world.elapsed() + HOUR;
        assert!(world.step(end));
    }
    assert_eq!(count(&mut world, Counter::SchedulerHoldOverflow), 4);
    assert_eq!(count(&mut world, Counter::SchedulerEnvelopeUpdated), 4);
    assert_eq!(count(&mut world, Counter::SchedulerRamEnvelope), 60);
    assert_eq!(count(&mut world, Counter::SchedulerRamMessage), 60);
    // The relay fails: what is held for it has not been tried.
    while count(&mut world, Counter::SchedulerHold) == 6 {
        let end = world.elapsed() + HOUR;
        assert!(world.step(end));
    }
    let updated = count(&mut world, Counter::SchedulerEnvelopeUpdated);
    assert_eq!(
        updated,
        count(&mut world, Counter::SchedulerHoldOverflow) + 6
    );
}

#[test]
fn mail_paused_before_its_delivery_began_is_not_delivered() {
    let mut world = World::new(11, Limits::default());
    world.hosts.insert(address(1), Host::Accepts);
    world.latency = Duration::from_secs(30);
    let ids: Vec<_> = (0..4)
        .map(|n| world.send(smart_host(address(1)), &format!("u{n}@example.net")))
        .collect();
    while world.engine.relays().next().is_none() {
        let end = world.elapsed() + HOUR;
        assert!(world.step(end));
    }
    assert_eq!(world.suspend(Selector::Message(ids[2].message()), true), 1);
    assert_eq!(world.remove(Selector::Message(ids[3].message())), 1);
    world.run(2 * HOUR);
    assert_eq!(world.diary.delivered.len(), 2);
    world.suspend(Selector::All, false);
    world.run_out(HOUR);
    assert_eq!(world.diary.delivered.len(), 3);
}

#[test]
fn paused_agents_get_nothing_and_their_mail_still_expires() {
    let limits = Limits {
        queue_ttl: HOUR,
        ..Limits::default()
    };
    let mut world = World::new(2, limits);
    world.pause(true, true);
    let relayed = world.send(smart_host(address(1)), "a@example.net");
    let delivered = world.send(local("alice"), "alice@example.org");
    world.run(Duration::from_mins(59));
    assert_eq!(world.diary.attempts.len(), 0);
    let state = world.engine.runstate(world.now(), relayed).unwrap();
    assert!(
        matches!(state.phase, Phase::Pending { due } if due <= -3500),
        "{state:?}"
    );
    world.pause(false, true);
    world.run(Duration::from_secs(10));
    assert_eq!(world.diary.delivered, [delivered]);
    world.run_out(HOUR);
    assert_eq!(world.diary.expired, [relayed]);
    assert_eq!(
        world.diary.notices.len(),
        1,
        "bounces are not affected by pause"
    );
}

#[test]
fn suspended_mail_expires_with_a_notice() {
    let (mut world, delivery) = deferring();
    let id = world.send(delivery, "a@example.net");
    world.run(Duration::from_secs(5));
    world.suspend(Selector::All, true);
    world.run_out(Duration::from_hours(97));
    assert_eq!(world.diary.expired, [id]);
    assert_eq!(world.diary.notices.len(), 2, "late, then given up");
}

#[test]
fn failures_of_one_message_share_a_notice() {
    let mut world = World::new(9, Limits::default());
    world.hosts.insert(address(1), Host::Rejects);
    let first = world.envelope(smart_host(address(1)), "a@example.net");
    let second = world.recipient(first.id.message(), first.delivery.clone(), "b@example.net");
    let mut second = second;
    second.id = first.id.message().envelope(2.try_into().unwrap());
    let mut silent = world.recipient(first.id.message(), first.delivery.clone(), "c@example.net");
    silent.id = first.id.message().envelope(3.try_into().unwrap());
    silent.dsn.notify = Some(Notify::default());
    world.submit(vec![first, second, silent]);
    world.run_out(HOUR);
    assert_eq!(world.diary.transactions.len(), 1, "one message, one relay");
    assert_eq!(world.diary.notices.len(), 1);
    assert_eq!(world.diary.notices[0].len(), 2);
    assert_eq!(world.engine.counters().get(Counter::QueueBounce), 2);
}

#[test]
fn reports_wait_a_moment_for_each_other() {
    let mut world = World::new(9, Limits::default());
    world.latency = Duration::from_millis(300);
    let mut envelopes = Vec::new();
    for n in 1..5u8 {
        world.hosts.insert(address(n), Host::Rejects);
        let mut envelope = world.envelope(smart_host(address(n)), "a@example.net");
        let message = MessageId::new(1).unwrap();
        envelope.id = message.envelope(u32::from(n).try_into().unwrap());
        envelopes.push(envelope);
    }
    world.submit(envelopes);
    world.run_out(HOUR);
    let failed: Vec<_> = world.diary.attempts.iter().map(|(_, at)| *at).collect();
    assert!(
        failed[3] - failed[0] > 0.02,
        "they fail one after the other: {failed:?}"
    );
    assert_eq!(world.diary.notices.len(), 1);
}

#[test]
fn what_is_not_in_the_store_is_dropped() {
    let (mut world, delivery) = deferring();
    world.send(delivery, "a@example.net");
    world.run(Duration::from_secs(5));
    world.store.clear();
    world.run_out(HOUR);
    let digest = world.engine.digest();
    assert_eq!((digest.enqueued, digest.dequeued), (1, 1));
}

#[test]
fn envelopes_of_a_message_set_aside_leave_the_schedule() {
    let (mut world, delivery) = deferring();
    let id = world.send(delivery, "a@example.net");
    world.run(Duration::from_secs(5));
    world.store.clear();
    world.handle(Event::Loaded(vec![(id, Loaded::Gone)]));
    assert!(world.engine.is_empty());
}

#[test]
fn a_notice_that_fails_is_dropped_and_said_so() {
    let mut world = World::new(9, Limits::default());
    world.hosts.insert(address(1), Host::Rejects);
    let mut notice = world.envelope(smart_host(address(1)), "a@example.net");
    notice.sender = redspool_core::addr::Address::null();
    notice.flags.bounce = true;
    world.submit(vec![notice]);
    world.run_out(HOUR);
    assert_eq!(
        (world.diary.bounces.len(), world.diary.double_bounces),
        (0, 1)
    );
}

#[test]
fn success_is_reported_when_asked_for() {
    let mut world = World::new(9, Limits::default());
    let mut envelope = world.envelope(local("alice"), "alice@example.org");
    envelope.dsn.notify = Some(Notify {
        success: true,
        ..Notify::default()
    });
    world.submit(vec![envelope]);
    world.run_out(HOUR);
    assert_eq!(
        world.diary.notices[0][0].status,
        Some(Status::success(0, 0))
    );
}

#[test]
fn a_jump_of_the_clock_expires_nothing_that_was_not_tried_again() {
    let (mut world, delivery) = deferring();
    let id = world.send(delivery, "a@example.net");
    world.run(Duration::from_secs(5));
    world.check_due = false;
    world.step_clock(30 * 24 * 3600);
    world.run(Duration::from_secs(5));
    assert_eq!(world.diary.clock_steps, 1);
    assert!(
        world.diary.expired.is_empty(),
        "a jump alone expires nothing"
    );
    let before = world.tries_of(id).len();
    world.run(Duration::from_hours(5));
    assert_eq!(world.tries_of(id).len(), before + 1);
    assert_eq!(
        world.diary.expired,
        [id],
        "one more attempt, then it is over"
    );
}

#[test]
fn a_clock_set_back_postpones_nothing_beyond_the_longest_wait() {
    let (mut world, delivery) = deferring();
    let id = world.send(delivery, "a@example.net");
    world.run(HOUR);
    world.step_clock(-20 * 24 * 3600);
    world.check_due = false;
    world.run(Duration::from_hours(48));
    let tries = world.tries_of(id);
    let longest = tries
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .fold(0.0, f64::max);
    assert!(longest <= 4.0 * 3600.0 + 2.0, "waited {longest}");
    world.hosts.insert(address(1), Host::Accepts);
    world.run_out(Duration::from_hours(24));
}

#[test]
fn outcomes_wait_for_the_store_and_nothing_new_begins() {
    let mut world = World::new(4, Limits::default());
    world.latency = Duration::from_secs(5);
    for n in 0..10 {
        world.send(smart_host(address(1)), &format!("u{n}@example.net"));
    }
    while world.diary.delivered.len() < 3 {
        let end = world.elapsed() + HOUR;
        assert!(world.step(end));
    }
    world.fail_store();
    world.run(HOUR);
    let done = world.diary.delivered.len();
    assert!(done < 10, "attempts that had not begun do not begin");
    world.recover_store();
    world.run_out(HOUR);
    assert_eq!(world.diary.delivered.len(), 10, "and none is repeated");
}

#[test]
fn a_user_with_much_mail_delays_nobody_else() {
    let limits = Limits {
        mda_sessions: 4,
        mda_sessions_per_user: 2,
        ..Limits::default()
    };
    let mut world = World::new(8, limits);
    world.latency = Duration::from_secs(10);
    let mut flood = Vec::new();
    for _ in 0..45 {
        flood.push(world.envelope(local("busy"), "busy@example.org"));
    }
    world.submit(flood);
    let other = world.send(local("quiet"), "quiet@example.org");
    while world.tries_of(other).is_empty() {
        let end = world.elapsed() + HOUR;
        assert!(world.step(end));
    }
    assert!(
        world.diary.attempts.len() < 12,
        "{}",
        world.diary.attempts.len()
    );
    world.run_out(HOUR);
}

#[test]
fn stopping_lets_running_deliveries_end_and_starts_none() {
    let mut world = World::new(6, Limits::default());
    world.latency = Duration::from_secs(10);
    for n in 0..30 {
        world.send(smart_host(address(1)), &format!("u{n}@example.net"));
    }
    while world.diary.delivered.is_empty() {
        let end = world.elapsed() + HOUR;
        assert!(world.step(end));
    }
    let begun = world.diary.attempts.len();
    world.handle(Event::Stopping);
    world.run(HOUR);
    assert!(world.engine.idle());
    assert_eq!(world.diary.attempts.len(), begun);
    assert_eq!(world.store.len(), 30 - world.diary.delivered.len());
    world.send(relay(), "late@example.net");
    world.run(HOUR);
    assert_eq!(world.diary.attempts.len(), begun);
}

/// A local delivery that is running, removed meanwhile.
fn removed_while_it_runs(outcome: Outcome) -> (World, redspool_core::id::EnvelopeId) {
    let mut world = World::new(7, Limits::default());
    world.local = outcome;
    world.latency = Duration::from_secs(10);
    let id = world.send(local("alice"), "alice@example.org");
    while world.tries_of(id).is_empty() {
        assert!(world.step(HOUR));
    }
    assert_eq!(world.discard(Selector::All), 1);
    assert!(world.engine.is_empty());
    (world, id)
}

#[test]
fn what_comes_back_while_its_attempt_runs_is_not_tried_twice() {
    for outcome in [delivered(), Outcome::TempFail(failure("451 later"))] {
        let (mut world, id) = removed_while_it_runs(outcome.clone());
        world.restore(Selector::All);
        while world.retries(id) == 0 && world.store.contains_key(&id) {
            assert!(world.step(HOUR));
        }
        assert_eq!(world.tries_of(id).len(), 1, "{outcome:?}");
        assert_eq!(world.store.contains_key(&id), outcome != delivered());
        world.local = delivered();
        world.run_out(HOUR);
        assert_eq!(world.diary.delivered, [id]);
    }
}

#[test]
fn what_was_delivered_after_its_removal_does_not_come_back() {
    let (mut world, id) = removed_while_it_runs(delivered());
    world.run(HOUR);
    world.restore(Selector::All);
    world.run_out(HOUR);
    assert_eq!(world.diary.delivered, [id]);
    let (mut world, id) = removed_while_it_runs(Outcome::TempFail(failure("451 later")));
    world.run(HOUR);
    assert_eq!(world.tries_of(id).len(), 1, "it is in the trash");
    world.local = delivered();
    world.restore(Selector::All);
    world.run_out(HOUR);
    assert_eq!(world.tries_of(id).len(), 2);
}
