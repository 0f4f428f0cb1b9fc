//! Whole worlds: the engine among hundreds of destinations, for a week of virtual time each.
//!
//! Environment: `SIM_SEEDS=first..last` runs these worlds instead of the usual ones.

use redspool_proptests::sim::{Bug, Found, Plan, Report, run};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Worlds of an ordinary run.
const SEEDS: Range<u64> = 0..24;

fn lived(seed: u64, plan: &Plan) -> Report {
    run(seed, plan).unwrap_or_else(|found| panic!("{found}"))
}

fn seeds() -> Range<u64> {
    let Ok(range) = std::env::var("SIM_SEEDS") else {
        return SEEDS;
    };
    let ends = range.split_once("..").map(|(a, b)| (a.parse(), b.parse()));
    match ends {
        Some((Ok(first), Ok(last))) => first..last,
        _ => panic!("SIM_SEEDS is first..last, not {range:?}"),
    }
}

#[test]
fn every_world_keeps_the_promises() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            eprintln!("seed {seed}: {}", lived(seed, &Plan::week(seed)));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().expect("a promise was broken, see above");
        }
    });
}

/// One world of thousands of destinations.
#[test]
fn a_large_world_keeps_the_promises() {
    let plan = Plan::large();
    let (destinations, messages) = plan.size();
    let began = Instant::now();
    let report = lived(1, &plan);
    let (hours, seconds) = (report.time.as_secs() / 3600, began.elapsed().as_secs());
    eprintln!(
        "{destinations} destinations, {messages} messages, {hours} virtual hours in {seconds} s: {report}"
    );
    for place in [50_000, 99_000, 99_900] {
        eprintln!("{place} of 100000 waited {:?} at most", report.delay(place));
    }
}

#[test]
fn one_seed_is_one_story() {
    for seed in [2, 3] {
        let plan = Plan::week(seed);
        assert_eq!(lived(seed, &plan), lived(seed, &plan), "seed {seed}");
    }
    assert_ne!(lived(2, &Plan::week(2)).hash, lived(4, &Plan::week(4)).hash);
}

/// The share of others: waits of mail for 500 healthy domains, alone, and beside dead ones and a
/// flood.
#[test]
fn dead_and_flooded_destinations_cost_others_little() {
    let alone = lived(1, &Plan::shared(0));
    for dead in [300, 1500] {
        let beside = lived(1, &Plan::shared(dead));
        // Of so many of 100,000, how much longer the wait may be.
        for (place, more) in [
            (50_000, Duration::from_secs(1)),
            (90_000, Duration::from_secs(5)),
            (99_000, Duration::from_secs(5)),
            (99_900, Duration::from_mins(5)),
            (100_000, Duration::from_mins(30)),
        ] {
            let (before, after) = (alone.delay(place), beside.delay(place));
            eprintln!("{dead} dead, {place} of 100000: {before:?} alone, {after:?} beside them");
            assert!(after <= before + more, "{dead} dead, {place}: {beside}");
        }
        assert_eq!(
            alone.delays.len(),
            beside.delays.len(),
            "it is the same mail"
        );
    }
}

/// The first broken promise of a world with a planted bug.
fn planted(bug: Bug) -> Found {
    let mut seeds = 0..10;
    let found = seeds.find_map(|seed| {
        let plan = Plan {
            bug: Some(bug),
            ..Plan::week(seed)
        };
        run(seed, &plan).err()
    });
    *found.unwrap_or_else(|| panic!("{bug:?} is not found"))
}

/// Each planted bug is found, and for what it is.
#[test]
fn planted_bugs_are_found() {
    for (bug, words) in [
        (Bug::SettlementDropped, &["is Tried(", "have not ended"][..]),
        (Bug::StartedEarly, &["tried before it is due"]),
        (Bug::HandedOutTwice, &["tried, but it is Running"]),
        (Bug::LimitsDoubled, &["allowed"]),
        (Bug::DelaysIgnored, &["again", "back"]),
        (Bug::SilenceBelieved, &["nobody has said that it was taken"]),
        (Bug::SuccessForgotten, &["taken and told so"]),
        (Bug::MailForgotten, &["have not ended"]),
        (Bug::RestartForgets, &["have not ended"]),
        (Bug::NoticeDropped, &["sender told: false, wants it: true"]),
        (Bug::StepsHidden, &["not tried since"]),
        (
            Bug::TimeStandsStill,
            &["it has waited", "after the end of its life"],
        ),
        (
            Bug::SourceIgnored,
            &["Source(", "Route(", "another address reaches it"],
        ),
        (Bug::PolicyForgotten, &["though TLS is required"]),
        (Bug::NoSecondTry, &["Expired, although its destination"]),
    ] {
        let found = planted(bug);
        eprintln!("{bug:?}: seed {}: {}", found.seed, found.what);
        let named = words.iter().any(|word| found.what.contains(word));
        assert!(named, "{bug:?} is found as something else: {found}");
    }
}
