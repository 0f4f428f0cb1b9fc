//! Random worlds: everything goes wrong for a day, then all is well; nothing may be lost.

use crate::world::{
    Host, World, address, delivered, failure, local, relay, relay_from, smart_host,
};
use redspool_core::engine::Unresolved;
use redspool_core::id::EnvelopeId;
use redspool_core::limits::{Limits, MtaLimits};
use redspool_core::queue::{Outcome, Selector};
use std::collections::BTreeSet;
use std::time::Duration;

fn limits(seed: u64) -> Limits {
    let mta = mta(seed);
    let slow = MtaLimits {
        connections_per_host: 1,
        connections_per_domain: 2,
        connect_delay_relay: Some(Duration::from_secs(7)),
        ..mta.clone()
    };
    Limits {
        mta_for: [("d1.example".into(), slow)].into(),
        mta,
        inflight: 40,
        schedule_batch: 7,
        hold_queue: 5,
        // In some worlds mail expires before all is well.
        queue_ttl: Duration::from_hours(if seed.is_multiple_of(3) { 6 } else { 96 }),
        mda_sessions: 4,
        mda_sessions_per_user: 2,
        mda_task_hiwat: 6,
        mda_task_lowat: 3,
        mda_task_release: 2,
        ..Limits::default()
    }
}

/// Limits that bite, each in some worlds.
fn mta(seed: u64) -> MtaLimits {
    let rare = |one_in: u64| seed.is_multiple_of(one_in);
    let delay = |one_in, seconds| Duration::from_secs(if rare(one_in) { seconds } else { 0 });
    MtaLimits {
        connections_per_host: 3,
        connections_per_route: if rare(2) { 1 } else { 3 },
        connections_per_source: if rare(3) { 2 } else { 100 },
        connections_per_connector: if rare(4) { 1 } else { 4 },
        connections_per_relay: 5,
        connections_per_domain: 4,
        waiting_relays: if rare(2) { 1 } else { 20 },
        mails_per_session: 4,
        recipients_per_transaction: 3,
        task_hiwat: 6,
        task_lowat: 3,
        task_release: 2,
        // Envelopes that are hastened when their domain answers may come early.
        deferred: if seed.is_multiple_of(2) { 0 } else { 5 },
        hoststats: 4,
        connect_delay_host: delay(5, 2),
        connect_delay_source: delay(6, 1),
        connect_delay_connector: delay(7, 3),
        connect_delay_domain: delay(8, 4),
        transaction_delay: delay(9, 2),
        // In some worlds nobody waits at all.
        connect_delay_route: rare(2).then_some(Duration::ZERO),
        reconnect_delay_route: rare(2).then_some(Duration::ZERO),
        ..MtaLimits::default()
    }
}

fn any(world: &mut World, bound: u64) -> u64 {
    world.rng.below(bound)
}

fn any_host(world: &mut World) -> Host {
    match any(world, 7) {
        0 => Host::Accepts,
        1 => Host::Defers,
        2 => Host::Rejects,
        3 => Host::Dead,
        4 => Host::Crowded(1),
        5 => Host::TurnsAway,
        _ => Host::Moody,
    }
}

fn submit(world: &mut World, all: &mut BTreeSet<EnvelopeId>) {
    let count = 1 + any(world, 6);
    let mut envelopes = Vec::new();
    let first = world.envelope(relay(), "someone@d0.example");
    let message = first.id.message();
    for index in 0..count {
        let (delivery, dest) = match any(world, 3) {
            0 => (
                local(&format!("user{}", any(world, 3))),
                "u@example.org".to_owned(),
            ),
            1 => (
                smart_host(address(9)),
                format!("u@d{}.example", any(world, 6)),
            ),
            _ => {
                let delivery = match any(world, 2) {
                    0 => relay(),
                    _ => relay_from("{127.0.0.2,127.0.0.3}"),
                };
                (delivery, format!("u@d{}.example", any(world, 6)))
            }
        };
        let mut envelope = world.recipient(message, delivery, &dest);
        let low = u32::try_from(index + 1).unwrap();
        envelope.id = message.envelope(low.try_into().unwrap());
        if any(world, 10) == 0 {
            envelope.sender = redspool_core::addr::Address::null();
        }
        envelopes.push(envelope);
    }
    all.extend(world.submit(envelopes));
}

fn any_selector(world: &mut World) -> Selector {
    let count = u64::try_from(world.store.len()).unwrap();
    let pick = usize::try_from(any(world, count)).unwrap();
    let id = world.store.keys().nth(pick).copied();
    match (any(world, 8), id) {
        (0, _) | (_, None) => Selector::All,
        (1..4, Some(id)) => Selector::Message(id.message()),
        (_, Some(id)) => Selector::Envelope(id),
    }
}

/// One envelope of the trash, or all of it.
fn any_discarded(world: &mut World) -> Selector {
    let count = u64::try_from(world.trash.len()).unwrap();
    let pick = usize::try_from(any(world, count + 1)).unwrap();
    let id = world.trash.keys().nth(pick).copied();
    id.map_or(Selector::All, Selector::Envelope)
}

fn disturb(world: &mut World) {
    let selector = any_selector(world);
    match any(world, 18) {
        0 => {
            world.schedule(selector);
        }
        1 | 2 => {
            world.suspend(selector, true);
        }
        3 | 4 => {
            world.suspend(selector, false);
        }
        5 if selector != Selector::All => {
            world.remove(selector);
        }
        6 => {
            let (mda, mta) = (any(world, 2) == 0, any(world, 2) == 0);
            world.pause(mda, mta);
        }
        7 if !world.store_failed => world.fail_store(),
        8 | 9 if world.store_failed => world.recover_store(),
        10 => {
            let last = u8::try_from(any(world, 10)).unwrap();
            let host = any_host(world);
            world.hosts.insert(address(last), host);
        }
        11 => {
            world.local = match any(world, 3) {
                0 => delivered(),
                1 => Outcome::TempFail(failure("exited abnormally")),
                _ => Outcome::PermFail(failure("no")),
            };
        }
        15 if selector != Selector::All => {
            world.discard(selector);
        }
        16 | 17 => {
            let discarded = any_discarded(world);
            world.restore(discarded);
        }
        14 => {
            let (source, blocked) = ([127, 0, 0, 2].into(), any(world, 2) == 0);
            let now = world.now();
            world.engine.block(now, source, "d2.example", blocked);
            world.drain();
        }
        12 => {
            let by = i64::try_from(any(world, 7200)).unwrap();
            let forward = any(world, 8) == 0;
            world.step_clock(if forward { by } else { -by });
        }
        13 => {
            let name = format!("d{}.example", any(world, 6));
            let answer = match any(world, 4) {
                0 => Err(Unresolved::Temporary(failure(
                    "Temporary failure in MX lookup",
                ))),
                1 => Err(Unresolved::Permanent(failure("Domain does not exist"))),
                _ => Ok(vec![
                    (10, address(u8::try_from(any(world, 10)).unwrap())),
                    (10, address(u8::try_from(any(world, 10)).unwrap())),
                    (20, address(u8::try_from(any(world, 10)).unwrap())),
                ]),
            };
            world.domains.insert(name, answer);
        }
        _ => {}
    }
}

fn live(seed: u64) {
    let mut world = World::new(seed, limits(seed));
    world.check_due = seed.is_multiple_of(2);
    world.latency = Duration::from_secs(2);
    for n in 0..6u8 {
        let list = vec![(10, address(n)), (20, address(n + 1))];
        world.domains.insert(format!("d{n}.example"), Ok(list));
    }
    let mut all = BTreeSet::new();
    for _ in 0..150 {
        for _ in 0..any(&mut world, 4) {
            submit(&mut world, &mut all);
        }
        disturb(&mut world);
        let wait = match any(&mut world, 4) {
            0 => any(&mut world, 100),
            1 => any(&mut world, 10_000),
            2 => any(&mut world, 100_000),
            _ => any(&mut world, 2_000_000),
        };
        world.run(Duration::from_millis(wait));
    }
    // From now on all is well.
    for n in 0..11 {
        world.hosts.insert(address(n), Host::Accepts);
    }
    for n in 0..6u8 {
        let list = vec![(10, address(n))];
        world.domains.insert(format!("d{n}.example"), Ok(list));
    }
    world.local = delivered();
    if world.store_failed {
        world.recover_store();
    }
    world.pause(false, false);
    world.restore(Selector::All);
    world.suspend(Selector::All, false);
    world.run_out(Duration::from_hours(14 * 24));

    let digest = world.engine.digest();
    let ended = digest.ok + digest.permfail + digest.loops + digest.expired + digest.removed;
    assert_eq!(
        digest.dequeued, ended,
        "everything leaves for a reason: {digest:?}"
    );
    assert!(digest.enqueued >= u64::try_from(all.len()).unwrap());
    let twice: BTreeSet<_> = world.diary.delivered.iter().collect();
    assert_eq!(twice.len(), world.diary.delivered.len(), "delivered twice");
    assert_eq!(
        world
            .engine
            .counters()
            .get(redspool_core::stats::Counter::SchedulerEnvelopeInflight),
        0
    );
}

/// Runs sixty worlds, or those of `ENGINE_SEEDS=first..last` (set when this is compiled).
#[test]
fn nothing_is_lost_in_any_world() {
    let range = option_env!("ENGINE_SEEDS").unwrap_or("0..60");
    let (first, last) = range.split_once("..").expect("first..last");
    let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
    for seed in first..last {
        let lived = std::panic::catch_unwind(|| live(seed));
        let next = seed + 1;
        assert!(
            lived.is_ok(),
            "reproduce with: ENGINE_SEEDS={seed}..{next} cargo test -p redspool-core --test engine"
        );
    }
}
