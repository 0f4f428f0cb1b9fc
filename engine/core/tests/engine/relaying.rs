//! Where mail is relayed to, over how many connections.

use crate::world::{Host, World, address, failure, relay, smart_host};
use redspool_core::engine::{Exchange, Unresolved};
use redspool_core::envelope::Delivery;
use redspool_core::limits::{Limits, MtaLimits};
use redspool_core::stats::Counter;
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);

fn mta(mta: MtaLimits) -> Limits {
    Limits {
        mta,
        ..Limits::default()
    }
}

fn flood(world: &mut World, count: usize, delivery: &Delivery) {
    let envelopes =
        (0..count).map(|n| world.envelope(delivery.clone(), &format!("u{n}@example.net")));
    let envelopes = envelopes.collect();
    world.submit(envelopes);
}

fn connects_to(world: &World, last: u8) -> Vec<f64> {
    let connects = world.diary.connects.iter();
    let to_it = connects.filter(|(target, _)| target.ip() == address(last));
    to_it.map(|(_, at)| *at).collect()
}

#[test]
fn a_slow_relay_gets_fifty_tasks_and_the_rest_is_held() {
    let mut world = World::new(1, Limits::default());
    world.domains.insert(
        "example.net".into(),
        Err(Unresolved::Temporary(failure("later"))),
    );
    world.latency = Duration::from_mins(1);
    flood(&mut world, 60, &relay());
    while world.engine.relays().next().is_none() {
        let end = world.elapsed() + HOUR;
        assert!(world.step(end));
    }
    let row = world.engine.relays().next().unwrap();
    assert_eq!((row.tasks, row.on_hold, row.resolving), (50, true, true));
    assert_eq!(world.engine.counters().get(Counter::SchedulerHold), 10);

    let held = |world: &mut World| world.engine.counters().get(Counter::SchedulerHold);
    world
        .domains
        .insert("example.net".into(), Ok(vec![(10, address(1))]));
    while held(&mut world) > 0 {
        let end = world.elapsed() + HOUR;
        assert!(world.step(end));
    }
    let row = world.engine.relays().next().unwrap();
    assert_eq!(
        (row.tasks, row.on_hold),
        (30, false),
        "ten are released at thirty"
    );
    world.run_out(HOUR);
}

#[test]
fn recipients_of_a_message_share_transactions_of_bounded_size() {
    let limits = mta(MtaLimits {
        recipients_per_transaction: 4,
        ..MtaLimits::default()
    });
    let mut world = World::new(1, limits);
    let first = world.envelope(smart_host(address(1)), "u0@example.net");
    let mut envelopes = vec![first];
    for n in 1..10u32 {
        let mut next = envelopes[0].clone();
        next.id = next.id.message().envelope((n + 1).try_into().unwrap());
        envelopes.push(next);
    }
    world.submit(envelopes);
    world.run_out(HOUR);
    let mut sizes: Vec<_> = world
        .diary
        .transactions
        .iter()
        .map(|t| t.recipients.len())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 4, 4]);
}

#[test]
fn one_message_opens_one_connection_and_it_is_reused() {
    let mut world = World::new(1, Limits::default());
    world.send(smart_host(address(1)), "a@example.net");
    world.run(Duration::from_secs(5));
    world.send(smart_host(address(1)), "b@example.net");
    world.run(Duration::from_secs(8));
    assert_eq!(world.diary.connects.len(), 1);
    assert_eq!(
        world.engine.counters().get(Counter::MtaSession),
        1,
        "kept alive"
    );
    world.run(Duration::from_secs(5));
    let counters = world.engine.counters();
    assert_eq!(counters.get(Counter::MtaSession), 0);
    assert_eq!(counters.get(Counter::MtaRelay), 0);
}

#[test]
fn a_smart_host_gets_as_many_connections_as_it_may_and_no_pauses() {
    let mut world = World::new(1, Limits::default());
    flood(&mut world, 2000, &smart_host(address(1)));
    world.run_out(Duration::from_secs(30));
    assert_eq!(world.diary.sessions_max, 5);
    assert_eq!(world.diary.delivered.len(), 2000);
    let took = world.diary.attempts.last().unwrap().1;
    // Each transaction takes 10 ms on average; five connections could do it in 4 s.
    assert!(
        took < 6.0,
        "took {took} s over {} connections",
        world.diary.connects.len()
    );
}

#[test]
fn a_deep_queue_is_read_at_most_twice() {
    let mut world = World::new(1, Limits::default());
    world.latency = Duration::from_millis(4);
    flood(&mut world, 6000, &smart_host(address(1)));
    world.run_out(HOUR);
    let loaded = world.diary.loads;
    assert!(loaded <= 12_000, "{loaded} reads for 6000 envelopes");
}

#[test]
fn connections_end_after_their_share_of_messages() {
    let limits = mta(MtaLimits {
        mails_per_session: 10,
        connections_per_host: 1,
        ..MtaLimits::default()
    });
    let mut world = World::new(1, limits);
    flood(&mut world, 45, &smart_host(address(1)));
    world.run_out(HOUR);
    assert_eq!(world.diary.connects.len(), 5);
}

#[test]
fn a_dead_pair_is_penalised_and_its_mail_waits_with_the_real_cause() {
    let mut world = World::new(1, Limits::default());
    world.domains.insert(
        "example.net".into(),
        Ok(vec![(10, address(1)), (20, address(2))]),
    );
    world.hosts.insert(address(1), Host::Dead);
    world.hosts.insert(address(2), Host::Dead);
    let id = world.send(relay(), "a@example.net");
    // The second is tried when the delay between connections of a relay is over.
    world.run(Duration::from_secs(5));
    assert_eq!(&*world.store[&id].errorline, "connection refused");
    let penalties = |world: &World| world.engine.routes().map(|r| r.penalty).collect::<Vec<_>>();
    assert_eq!(penalties(&world), [1, 1]);
    // Tried once a second: the waits between connections are 15, 60, 135 s and up to a tenth more.
    for n in 0..270 {
        world.send(relay(), &format!("u{n}@example.net"));
        world.run(Duration::from_secs(1));
    }
    let waits: Vec<_> = connects_to(&world, 1)
        .windows(2)
        .map(|p| p[1] - p[0])
        .collect();
    assert_eq!(waits.len(), 3, "{waits:?}");
    for (wait, want) in waits.iter().zip([15.0, 60.0, 135.0]) {
        assert!(
            (want..want * 1.1 + 5.0).contains(wait),
            "{wait} instead of {want}"
        );
    }
    assert_eq!(penalties(&world), [4, 4]);

    world.hosts.insert(address(1), Host::Accepts);
    world.engine.resume_route(world.now(), None);
    world.drain();
    assert_eq!(
        world.engine.routes().count(),
        0,
        "resumed, and nothing else to remember"
    );
    world.schedule(redspool_core::queue::Selector::All);
    world.run_out(HOUR);
    assert_eq!(world.diary.delivered.len(), 271);
}

#[test]
fn penalties_are_forgiven_in_time() {
    let mut world = World::new(1, Limits::default());
    world.hosts.insert(address(1), Host::Dead);
    world.send(smart_host(address(1)), "a@example.net");
    world.run(Duration::from_secs(14));
    let route = world.engine.routes().next().unwrap();
    assert!(route.disabled.is_some() && route.fresh && route.penalty == 1);
    world.run(Duration::from_secs(10));
    assert!(world.engine.routes().next().unwrap().disabled.is_none());
    world.remove(redspool_core::queue::Selector::All);
    world.run(Duration::from_mins(59));
    let penalty = world.engine.routes().next().map(|route| route.penalty);
    assert_eq!(penalty, Some(1), "it counts for an hour");
    world.run(Duration::from_mins(2));
    assert_eq!(world.engine.routes().count(), 0);
}

#[test]
fn the_secondary_is_used_when_the_primary_is_down_not_when_it_is_busy() {
    let pair = vec![(10, address(1)), (20, address(2))];
    let mut world = World::new(1, Limits::default());
    world.domains.insert("example.net".into(), Ok(pair.clone()));
    flood(&mut world, 300, &relay());
    world.run_out(HOUR);
    assert!(
        connects_to(&world, 2).is_empty(),
        "a busy primary never spills"
    );

    let mut world = World::new(1, Limits::default());
    world.domains.insert("example.net".into(), Ok(pair));
    world.hosts.insert(address(1), Host::Dead);
    flood(&mut world, 300, &relay());
    world.run_out(HOUR);
    assert_eq!(world.diary.delivered.len(), 300);
    assert_eq!(
        connects_to(&world, 1).len(),
        1,
        "a dead primary is asked once"
    );
}

#[test]
fn equal_preferences_share_the_load() {
    let mut world = World::new(1, Limits::default());
    let list = (1..5).map(|n| (10, address(n))).collect();
    world.domains.insert("example.net".into(), Ok(list));
    world.latency = Duration::from_secs(2);
    flood(&mut world, 200, &relay());
    world.run_out(HOUR);
    for n in 1..5 {
        assert!(!connects_to(&world, n).is_empty(), "{n} got nothing");
    }
}

#[test]
fn relays_that_share_a_host_take_turns() {
    let limits = mta(MtaLimits {
        connections_per_host: 1,
        mails_per_session: 5,
        ..MtaLimits::default()
    });
    let mut world = World::new(1, limits);
    for n in 0..3 {
        let list = Ok(vec![(10, address(1))]);
        world.domains.insert(format!("d{n}.example"), list);
    }
    for n in 0..30 {
        let (user, domain) = (n, n % 3);
        world.send(relay(), &format!("u{user}@d{domain}.example"));
    }
    world.run_out(Duration::from_mins(1));
    assert_eq!(world.diary.delivered.len(), 30);
}

#[test]
fn a_domain_gets_no_more_connections_than_it_may() {
    let limits = mta(MtaLimits {
        connections_per_domain: 2,
        ..MtaLimits::default()
    });
    let mut world = World::new(1, limits);
    let list = (1..5).map(|n| (10, address(n))).collect();
    world.domains.insert("example.net".into(), Ok(list));
    flood(&mut world, 100, &relay());
    let Delivery::Mta(mut other) = relay() else {
        unreachable!("a relay relays");
    };
    other.helo = "other.example.org".into();
    flood(&mut world, 100, &Delivery::Mta(other));
    world.run_out(HOUR);
    assert_eq!(world.diary.sessions_max, 2);
    assert_eq!(world.diary.delivered.len(), 200);
}

#[test]
fn a_host_that_wants_fewer_connections_is_not_pestered() {
    let mut world = World::new(1, Limits::default());
    world.hosts.insert(address(1), Host::Crowded(2));
    flood(&mut world, 1000, &smart_host(address(1)));
    world.run_out(HOUR);
    assert!(
        world.diary.connects.len() < 60,
        "{} connections",
        world.diary.connects.len()
    );
    assert_eq!(world.diary.attempts.len(), 1000, "nothing failed");
}

#[test]
fn a_dead_destination_delays_nobody_else() {
    let mut world = World::new(1, Limits::default());
    world
        .domains
        .insert("dead.example".into(), Ok(vec![(10, address(1))]));
    world
        .domains
        .insert("good.example".into(), Ok(vec![(10, address(2))]));
    world.hosts.insert(address(1), Host::Dead);
    for n in 0..500 {
        world.send(relay(), &format!("u{n}@dead.example"));
    }
    let good = world.send(relay(), "u@good.example");
    world.run(Duration::from_secs(2));
    assert_eq!(world.diary.delivered, [good]);
}

#[test]
fn what_one_domain_asks_of_a_host_in_vain_does_not_take_it_from_others() {
    let mut world = World::new(1, Limits::default());
    for domain in ["strict.example", "other.example"] {
        let exchangers = vec![(10, address(1)), (20, address(2))];
        world.domains.insert(domain.into(), Ok(exchangers));
    }
    world.unproven.insert("strict.example".into());
    let strict: Vec<_> = (0..60)
        .map(|n| {
            let id = world.send(relay(), &format!("u{n}@strict.example"));
            world.run(Duration::from_secs(1));
            id
        })
        .collect();
    for id in &strict {
        assert_eq!(&*world.store[id].errorline, "not among the exchangers");
    }
    assert!(world.engine.routes().all(|route| route.penalty == 0));
    // Each at once and after 15 seconds.
    let tried = connects_to(&world, 1).len() + connects_to(&world, 2).len();
    assert!((3..=4).contains(&tried), "{tried} connections");
    let other = world.send(relay(), "u@other.example");
    world.run(Duration::from_secs(10));
    assert_eq!(world.diary.delivered, [other]);

    world.unproven.clear();
    // The first that arrives brings the others along.
    world.check_due = false;
    world.run_out(HOUR);
    assert_eq!(world.diary.delivered.len(), 1 + strict.len());
}

#[test]
fn deferred_mail_is_tried_when_its_domain_answers_again() {
    let mut world = World::new(1, Limits::default());
    world.check_due = false;
    world
        .domains
        .insert("example.net".into(), Ok(vec![(10, address(1))]));
    world.hosts.insert(address(1), Host::Dead);
    flood(&mut world, 20, &relay());
    world.run(Duration::from_mins(2));
    assert_eq!(world.diary.delivered.len(), 0);
    world.hosts.insert(address(1), Host::Accepts);
    world.send(relay(), "fresh@example.net");
    world.run(Duration::from_secs(5));
    assert_eq!(world.diary.delivered.len(), 21);
    let row = world.engine.hoststats().next().unwrap();
    assert_eq!((&*row.domain, &*row.text), ("example.net", "250 ok"));
}

#[test]
fn names_that_lead_nowhere_fail_as_the_dns_says() {
    let mut world = World::new(1, Limits::default());
    let unknown = world.send(relay(), "a@unknown.example");
    world.domains.insert(
        "later.example".into(),
        Err(Unresolved::Temporary(failure(
            "Temporary failure in MX lookup",
        ))),
    );
    let later = world.send(relay(), "a@later.example");
    let bad = world.send(relay(), "a@[192.0.2.9]");
    world.run(Duration::from_secs(5));
    assert!(!world.store.contains_key(&unknown), "failed for good");
    assert_eq!(
        &*world.store[&later].errorline,
        "Temporary failure in MX lookup"
    );
    assert!(
        world.diary.delivered.contains(&bad),
        "an address needs no DNS"
    );
    assert_eq!(&*world.diary.bounces[0].errorline, "Domain does not exist");
}

#[test]
fn mail_for_which_we_are_the_best_exchanger_loops() {
    let mut world = World::new(1, Limits::default());
    let query = |name: &str, preference| Exchange {
        preference,
        name: name.into(),
        addresses: vec![address(1)],
    };
    world.exchanges.insert(
        "ours.example".into(),
        vec![query("MX.example.org.", 10), query("b.example", 20)],
    );
    world.exchanges.insert(
        "backup.example".into(),
        vec![query("a.example", 10), query("mx.example.org", 20)],
    );
    world.send(relay(), "a@ours.example");
    let relayed = world.send(relay(), "a@backup.example");
    world.run_out(HOUR);
    assert_eq!(world.engine.digest().loops, 1);
    assert_eq!(&*world.diary.bounces[0].errorline, "Loop detected");
    assert_eq!(world.diary.delivered, [relayed]);
}

#[test]
fn a_bounce_knows_the_host_of_the_attempt() {
    let mut world = World::new(1, Limits::default());
    let list = Ok(vec![(10, address(1))]);
    world.domains.insert("example.net".into(), list);
    for last in [1, 2] {
        world.hosts.insert(address(last), Host::Rejects);
    }
    world.send(relay(), "a@example.net");
    // A smart host without a name is an address literal.
    world.send(smart_host(address(2)), "b@example.com");
    // This one comes to no host at all.
    world.send(relay(), "c@nowhere.example");
    world.run(Duration::from_mins(5));
    let bounces = world.diary.bounces.iter();
    let mut remotes: Vec<_> = bounces
        .map(|bounce| (bounce.dest.as_str(), &*bounce.remote))
        .collect();
    remotes.sort_unstable();
    assert_eq!(
        remotes,
        [
            ("a@example.net", "mx192.0.2.1"),
            ("b@example.com", "[192.0.2.2]"),
            ("c@nowhere.example", ""),
        ]
    );
}
