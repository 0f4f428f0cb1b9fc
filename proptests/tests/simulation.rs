//! Whole worlds: the engine among thousands of destinations, for a week of virtual time each.
//!
//! Environment: `SIM_SEEDS=first..last` runs these worlds instead of the usual ones.

use redspool_proptests::sim::{Plan, Report, run};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

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
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let seed @ 0.. = next.fetch_add(1, Ordering::Relaxed)
                    && seed < seeds.end
                {
                    eprintln!("seed {seed}: {}", lived(seed, &Plan::week(seed)));
                }
            });
        }
    });
}

#[test]
fn one_seed_is_one_story() {
    for seed in [2, 3] {
        let plan = Plan::week(seed);
        assert_eq!(lived(seed, &plan), lived(seed, &plan), "seed {seed}");
    }
    assert_ne!(lived(2, &Plan::week(2)).hash, lived(4, &Plan::week(4)).hash);
}

#[test]
fn dead_and_flooded_destinations_cost_others_little() {
    for troubled in [0, 300, 3000] {
        let with = match run(1, &Plan::shared(troubled)) {
            Ok(report) => report,
            Err(found) => {
                eprintln!("{troubled}: {}", found.what);
                continue;
            }
        };
        eprintln!(
            "{troubled}: p50 {:?} p90 {:?} p99 {:?} p99.9 {:?} max {:?}: {with}",
            with.delay(50_000),
            with.delay(90_000),
            with.delay(99_000),
            with.delay(99_900),
            with.delay(100_000),
        );
    }
}
