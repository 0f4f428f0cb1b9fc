//! What keeps a relay from connecting, and what ends that. The world itself checks that no limit and
//! no delay is passed over.

use crate::world::{Host, World, address, relay, relay_from, smart_host};
use redspool_core::control::{LimitRow, MtaListing, MtaRow, Place};
use redspool_core::engine::{Exchange, Flag};
use redspool_core::envelope::{Delivery, Relay};
use redspool_core::id::EnvelopeId;
use redspool_core::limits::{Limits, MtaLimits};
use redspool_core::queue::Selector;
use redspool_core::stats::Counter;
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);

fn mta(mta: MtaLimits) -> Limits {
    Limits {
        mta,
        ..Limits::default()
    }
}

/// Limits without any delay.
fn hasty() -> MtaLimits {
    MtaLimits {
        connect_delay_route: Some(Duration::ZERO),
        connect_delay_relay: Some(Duration::ZERO),
        reconnect_delay_route: Some(Duration::ZERO),
        ..MtaLimits::default()
    }
}

fn flood(world: &mut World, count: usize, delivery: &Delivery) {
    for n in 0..count {
        world.send(delivery.clone(), &format!("u{n}@example.net"));
    }
}

fn flags(world: &World) -> Vec<Vec<Flag>> {
    let row = world.engine.relays().next().expect("a relay");
    row.connectors.into_iter().map(|row| row.flags).collect()
}

#[test]
fn exchangers_are_connected_to_with_pauses_and_a_smart_host_without() {
    let first_two = |delivery: &Delivery| {
        let mut world = World::new(1, Limits::default());
        let list = Ok(vec![(10, address(1)), (10, address(2))]);
        world.domains.insert("example.net".into(), list);
        world.latency = Duration::from_secs(20);
        flood(&mut world, 20, delivery);
        world.run(Duration::from_mins(2));
        let connects = &world.diary.connects;
        connects[1].1 - connects[0].1
    };
    assert!(first_two(&relay()) >= 2.0);
    assert!(first_two(&smart_host(address(1))) < 20.0);
}

#[test]
fn a_primary_with_all_its_connections_lets_the_secondary_help() {
    let mut world = World::new(
        1,
        mta(MtaLimits {
            connections_per_host: 2,
            ..hasty()
        }),
    );
    let pair = vec![(10, address(1)), (20, address(2))];
    world.domains.insert("example.net".into(), Ok(pair));
    world.latency = Duration::from_secs(5);
    flood(&mut world, 40, &relay());
    world.run(Duration::from_mins(1));
    let to = |last| {
        let connects = world.diary.connects.iter();
        connects
            .filter(|(target, _)| target.ip() == address(last))
            .count()
    };
    assert!(to(1) >= 2 && to(2) > 0, "{:?}", world.diary.connects);
    world.run_out(HOUR);
}

#[test]
fn a_host_that_turns_mail_away_is_left_alone_and_then_asked_once() {
    let mut world = World::new(1, mta(hasty()));
    world
        .domains
        .insert("example.net".into(), Ok(vec![(10, address(1))]));
    world.hosts.insert(address(1), Host::TurnsAway);
    for n in 0..60 {
        world.send(relay(), &format!("u{n}@example.net"));
        world.run(Duration::from_secs(1));
    }
    let at: Vec<_> = world.diary.connects.iter().map(|(_, at)| *at).collect();
    assert!(at.len() <= 3, "{at:?}");
    for pair in at.windows(2) {
        assert!(pair[1] - pair[0] >= 15.0, "{at:?}");
    }
    assert_eq!(world.engine.routes().next().unwrap().penalty, 2);
    // When it comes back, one connection finds out whether it is well; the others follow.
    world.run(Duration::from_mins(2));
    world.hosts.insert(address(1), Host::Accepts);
    world.latency = Duration::from_secs(2);
    let before = world.diary.connects.len();
    world.schedule(Selector::All);
    while world.diary.connects.len() < before + 2 {
        let end = world.elapsed() + HOUR;
        assert!(world.step(end));
    }
    let [first, second] = [0, 1].map(|n| world.diary.connects[before + n].1);
    assert!(second > first, "the second waits for the first");
    assert!(!world.engine.routes().next().unwrap().fresh);
    world.run_out(HOUR);
    assert_eq!(world.diary.delivered.len(), 60);
}

#[test]
fn routes_that_fail_together_do_not_come_back_together() {
    let mut world = World::new(1, mta(hasty()));
    for n in 0..8u8 {
        let list = Ok(vec![(10, address(n))]);
        world.domains.insert(format!("d{n}.example"), list);
        world.hosts.insert(address(n), Host::Dead);
        world.send(relay(), &format!("u@d{n}.example"));
    }
    world.run(Duration::from_secs(2));
    let mut ends: Vec<_> = world.engine.routes().map(|route| route.disabled).collect();
    ends.sort();
    ends.dedup();
    assert_eq!(ends.len(), 8);
    let spread = ends[7].unwrap() - ends[0].unwrap();
    assert!(spread > Duration::from_millis(100), "{spread:?}");
}

#[test]
fn connectors_say_what_keeps_them() {
    let check = |limits: MtaLimits, wanted: Flag| {
        let mut world = World::new(1, mta(limits));
        let list = Ok(vec![(10, address(1)), (10, address(2))]);
        world.domains.insert("example.net".into(), list);
        world.latency = Duration::from_mins(1);
        flood(&mut world, 20, &relay_from("{192.0.2.100}"));
        world.run(Duration::from_mins(3));
        let seen = flags(&world);
        assert_eq!(seen, [[Flag::Wait, wanted]], "{wanted:?}");
    };
    let one = 1;
    check(
        MtaLimits {
            connections_per_host: one,
            ..hasty()
        },
        Flag::LimitHost,
    );
    check(
        MtaLimits {
            connections_per_route: one,
            ..hasty()
        },
        Flag::LimitRoute,
    );
    check(
        MtaLimits {
            connections_per_source: one,
            ..hasty()
        },
        Flag::LimitSource,
    );
    check(
        MtaLimits {
            connections_per_connector: one,
            ..hasty()
        },
        Flag::LimitConnector,
    );
    check(
        MtaLimits {
            connections_per_relay: one,
            ..hasty()
        },
        Flag::LimitRelay,
    );
    check(
        MtaLimits {
            connections_per_domain: one,
            ..hasty()
        },
        Flag::LimitDomain,
    );
}

#[test]
fn sources_take_turns_and_those_of_the_wrong_family_are_passed_over() {
    let mut world = World::new(1, mta(hasty()));
    world
        .domains
        .insert("example.net".into(), Ok(vec![(10, address(1))]));
    world.latency = Duration::from_mins(1);
    flood(
        &mut world,
        12,
        &relay_from("{192.0.2.100,2001:db8::1,192.0.2.101}"),
    );
    world.run(Duration::from_mins(3));
    let row = world.engine.relays().next().unwrap();
    let from: Vec<_> = row.connectors.iter().map(|row| row.sessions > 0).collect();
    assert_eq!(from, [true, true, false], "{row:?}");
    assert_eq!(row.connectors[2].flags, [Flag::ErrorFamily]);
    world.run_out(HOUR);
}

#[test]
fn mail_that_no_family_source_or_pause_lets_out_says_why() {
    let check = |limits: MtaLimits, src: &str, wanted: &str| {
        let mut world = World::new(1, mta(limits));
        world
            .domains
            .insert("example.net".into(), Ok(vec![(10, address(1))]));
        let now = world.now();
        world.engine.block(now, [192, 0, 2, 99].into(), "*", true);
        let id = world.send(relay_from(src), "a@example.net");
        world.run(Duration::from_secs(10));
        assert_eq!(&*world.store[&id].errorline, wanted);
    };
    let inet6 = MtaLimits {
        inet4: false,
        ..hasty()
    };
    check(inet6, "", "Address family mismatch on destination MXs");
    check(
        hasty(),
        "{::1}",
        "Address family mismatch on destination MXs",
    );
    check(hasty(), "{192.0.2.99}", "All routes to destination blocked");
    let gone = "No source address: the table gone is not there or is empty";
    check(hasty(), "gone", gone);
}

#[test]
fn a_backup_relays_to_better_exchangers_only() {
    let mut world = World::new(1, mta(hasty()));
    let mx = |preference, name: &str, last| Exchange {
        preference,
        name: name.into(),
        addresses: vec![address(last)],
    };
    let list = vec![
        mx(10, "a.example", 1),
        mx(20, "ours.example", 2),
        mx(30, "c.example", 3),
    ];
    world.exchanges.insert("example.net".into(), list);
    world.hosts.insert(address(1), Host::Dead);
    let backup = Delivery::Mta(Relay {
        backup: Some("OURS.example".into()),
        ..Relay::to(None)
    });
    world.send(backup, "a@example.net");
    world.run(Duration::from_secs(10));
    let targets: Vec<_> = world.diary.connects.iter().map(|(to, _)| to.ip()).collect();
    assert_eq!(
        targets,
        [address(1)],
        "not to ourselves, nor to what is behind us"
    );
    world.hosts.insert(address(1), Host::Accepts);
    world.run_out(HOUR);
}

#[test]
fn transactions_pause_where_they_should() {
    let pause = Duration::from_secs(30);
    let mut world = World::new(
        1,
        mta(MtaLimits {
            transaction_delay: pause,
            connections_per_host: 1,
            ..hasty()
        }),
    );
    flood(&mut world, 3, &smart_host(address(1)));
    world.run_out(HOUR);
    assert_eq!(world.diary.connects.len(), 1);
    let at: Vec<_> = world.diary.attempts.iter().map(|(_, at)| *at).collect();
    assert!(at[1] - at[0] >= 30.0 && at[2] - at[1] >= 30.0, "{at:?}");
}

#[test]
fn listings_come_in_pages_that_miss_nothing() {
    let mut world = World::new(1, mta(hasty()));
    for n in 0..7u8 {
        let list = Ok(vec![(10, address(n))]);
        world.domains.insert(format!("d{n}.example"), list);
        world.send(relay(), &format!("u@d{n}.example"));
    }
    world.run(Duration::from_millis(200));
    let now = world.now();
    for listing in [
        MtaListing::Relays,
        MtaListing::Routes,
        MtaListing::Hosts,
        MtaListing::HostStats,
    ] {
        let all = world.engine.mta_rows(now, listing, None, 100);
        assert_eq!(all.len(), 7, "{listing:?}");
        let (mut pages, mut last): (Vec<MtaRow>, Option<MtaRow>) = (Vec::new(), None);
        loop {
            let page = world.engine.mta_rows(now, listing, last.as_ref(), 3);
            last = page.last().cloned();
            if page.is_empty() {
                break;
            }
            pages.extend(page);
        }
        assert_eq!(pages, all, "{listing:?}");
    }
}

#[test]
fn an_envelope_is_explained_wherever_it_is() {
    let mut world = World::new(1, mta(hasty()));
    world
        .domains
        .insert("example.net".into(), Ok(vec![(10, address(1))]));
    world.hosts.insert(address(1), Host::Dead);
    world.pause(false, true);
    let id = world.send(relay(), "a@example.net");
    let explain = |world: &mut World| {
        let (now, envelope) = (world.now(), world.store[&id].clone());
        world.engine.explain(now, &envelope).expect("it is queued")
    };
    world.run(Duration::from_secs(1));
    let told = explain(&mut world);
    assert_eq!((told.place, told.agent_paused), (Place::Schedule, true));
    world.pause(false, false);
    world.run(Duration::from_secs(5));
    let told = explain(&mut world);
    assert_eq!((told.place, told.agent_paused), (Place::Schedule, false));
    assert_eq!(told.envelope.retry, 1);
    let route = &told.routes[0];
    assert!(route.disabled && route.until.is_some(), "{route:?}");
    assert_eq!(route.failure, "connection refused");
    assert!(
        told.relay.is_some(),
        "it is remembered while its routes are down"
    );
    world.run(Duration::from_mins(1));
    world.hosts.insert(address(1), Host::Accepts);
    world.latency = Duration::from_mins(1);
    world.schedule(Selector::All);
    let mut places = Vec::new();
    while world.store.contains_key(&id) {
        places.push(explain(&mut world).place);
        let end = world.elapsed() + HOUR;
        assert!(world.step(end));
    }
    let sending = |place: &Place| matches!(place, Place::Session(_));
    assert!(places.iter().any(sending), "{places:?}");
    assert!(places.contains(&Place::Agent), "{places:?}");
    let (now, gone) = (world.now(), world.envelope(relay(), "b@example.net"));
    assert_eq!(world.engine.explain(now, &gone), None);
}

#[test]
fn who_waits_for_a_place_keeps_the_turn() {
    let mut world = World::new(
        1,
        mta(MtaLimits {
            connections_per_source: 1,
            transaction_delay: Duration::from_secs(10),
            ..hasty()
        }),
    );
    // One after the other pauses between two messages, so the last ones wait longer than what the
    // DNS said about them is good for.
    let numbers: Vec<u8> = (1..=60).collect();
    for n in &numbers {
        let name = format!("d{n}.example");
        world.domains.insert(name, Ok(vec![(10, address(*n))]));
        world.send(relay(), &format!("u@d{n}.example"));
        world.send(relay(), &format!("v@d{n}.example"));
        world.run(Duration::from_millis(100));
    }
    world.run_out(HOUR);
    assert!(world.elapsed() > Duration::from_mins(9));
    let order: Vec<_> = world.diary.connects.iter().map(|(to, _)| to.ip()).collect();
    let wanted: Vec<_> = numbers.iter().map(|n| address(*n)).collect();
    assert_eq!(order, wanted);
}

#[test]
fn an_idle_connection_gives_its_place_to_who_waits() {
    let limits = MtaLimits {
        connections_per_source: 1,
        keepalive: Duration::from_mins(5),
        ..hasty()
    };
    let mut world = World::new(1, mta(limits));
    for n in 1..=3 {
        let name = format!("d{n}.example");
        world.domains.insert(name, Ok(vec![(10, address(n))]));
    }
    world.send(relay(), "u@d1.example");
    world.run(Duration::from_secs(30));
    assert_eq!(
        world
            .engine
            .relays()
            .map(|relay| relay.sessions)
            .sum::<usize>(),
        1
    );
    world.send(relay(), "u@d2.example");
    world.send(relay(), "u@d3.example");
    world.run(Duration::from_secs(10));
    assert_eq!(world.diary.delivered.len(), 3);
    // Nobody waits now: the last one is kept.
    world.run(Duration::from_secs(30));
    let open: Vec<_> = world
        .engine
        .relays()
        .filter(|relay| relay.sessions == 1)
        .collect();
    assert_eq!(open.len(), 1);
}

/// So many envelopes for each of many domains, in turn.
fn crowd(world: &mut World, domains: u8, each: usize) {
    for n in 1..=domains {
        let name = format!("d{n}.example");
        world.domains.insert(name, Ok(vec![(10, address(n))]));
    }
    for user in 0..each {
        for n in 1..=domains {
            world.send(relay(), &format!("u{user}@d{n}.example"));
        }
    }
}

fn one_place() -> Limits {
    Limits {
        inflight: 8,
        ..mta(MtaLimits {
            connections_per_source: 1,
            waiting_relays: 2,
            ..hasty()
        })
    }
}

#[test]
fn mail_far_from_its_turn_is_held_and_comes_over_one_connection() {
    let mut world = World::new(1, one_place());
    world.latency = Duration::from_secs(1);
    crowd(&mut world, 20, 5);
    world.run(Duration::from_secs(15));
    let counter = |world: &mut World, counter| world.engine.counters().get(counter);
    let held = counter(&mut world, Counter::SchedulerHold);
    assert!(held > 50, "{held} envelopes are held");
    assert!(counter(&mut world, Counter::SchedulerEnvelopeInflight) <= 8);
    world.run_out(HOUR);
    assert_eq!(world.diary.delivered.len(), 100);
    let connections = world.diary.connects.len();
    assert!(connections < 40, "{connections} connections");
}

#[test]
fn mail_that_is_held_for_a_place_obeys_the_administrator() {
    let mut world = World::new(1, one_place());
    world.latency = Duration::from_secs(1);
    crowd(&mut world, 20, 3);
    world.run(Duration::from_secs(4));
    world.pause(false, true);
    world.run(Duration::from_mins(1));
    let delivered = world.diary.delivered.len();
    assert!(delivered < 10, "{delivered} were delivered");
    let ids: Vec<_> = world.store.keys().copied().collect();
    world.remove(Selector::Envelope(ids[0]));
    world.suspend(Selector::Envelope(ids[1]), true);
    world.pause(false, false);
    world.run(Duration::from_mins(10));
    assert_eq!(world.diary.delivered.len(), 58);
    world.suspend(Selector::Envelope(ids[1]), false);
    world.run_out(HOUR);
    assert_eq!(world.diary.delivered.len(), 59);
}

/// What explain says of the limits that the first envelope waits for, and of its attempts.
fn explained(world: &mut World, id: EnvelopeId) -> (Vec<String>, Vec<String>) {
    let (envelope, now) = (world.store[&id].clone(), world.now());
    let explanation = world.engine.explain(now, &envelope).expect("it is queued");
    let limit = |row: &LimitRow| format!("{} {} of {}", row.limit.word(), row.used, row.most);
    let limits = explanation.limits.iter().map(limit).collect();
    let attempts = explanation.attempts.into_iter().map(|row| row.text);
    (limits, attempts.collect())
}

#[test]
fn the_limit_in_force_is_told_with_its_numbers() {
    let check = |limits: MtaLimits, wanted: &str| {
        let mut world = World::new(1, mta(limits));
        let list = Ok(vec![(10, address(1))]);
        world.domains.insert("example.net".into(), list);
        flood(&mut world, 1, &relay());
        world.run(Duration::from_secs(10));
        // The route is proved, and every message takes its time now.
        world.latency = Duration::from_secs(20);
        flood(&mut world, 40, &relay());
        world.run(Duration::from_secs(15));
        let waiting = *world.store.keys().next_back().expect("most of it");
        assert_eq!(explained(&mut world, waiting).0, [wanted]);
        world.run_out(HOUR);
    };
    let host = MtaLimits {
        connections_per_host: 2,
        ..hasty()
    };
    check(host, "max-conn-per-host 2 of 2");
    let route = MtaLimits {
        connections_per_route: 3,
        ..hasty()
    };
    check(route, "max-conn-per-route 3 of 3");
    let relay = MtaLimits {
        connections_per_relay: 2,
        ..hasty()
    };
    check(relay, "max-conn-per-relay 2 of 2");
    let domain = MtaLimits {
        connections_per_domain: 1,
        ..hasty()
    };
    check(domain, "max-conn-per-domain 1 of 1");
    let source = MtaLimits {
        connections_per_source: 2,
        ..hasty()
    };
    check(source, "max-conn-per-source 2 of 2");
}

#[test]
fn an_envelope_keeps_its_attempts_in_the_trash() {
    let mut world = World::new(1, mta(hasty()));
    let list = Ok(vec![(10, address(1))]);
    world.domains.insert("example.net".into(), list);
    world.hosts.insert(address(1), Host::TurnsAway);
    let id = world.send(relay(), "a@example.net");
    world.run(HOUR);
    let tries = usize::from(world.retries(id));
    assert!(tries > 1, "{tries}");
    let (_, attempts) = explained(&mut world, id);
    assert_eq!(attempts.len(), tries);
    world.discard(Selector::All);
    world.restore(Selector::All);
    assert_eq!(explained(&mut world, id).1, attempts);
}
