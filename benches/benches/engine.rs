//! The engine alone, with every wish granted at once: time spent in it.
//!
//! `hand-out/100k-10k`: 100,000 envelopes for 10,000 domains, from the moment they are queued to
//! the moment all deliveries are recorded, under the default limits.

use criterion::{Criterion, criterion_group, criterion_main};
use redspool_benches::work::engine::{envelopes, hand_out};
use redspool_core::limits::Limits;
use std::time::Duration;

fn whole(criterion: &mut Criterion) {
    let mail = envelopes(100_000, 10_000).expect("addresses are well-formed");
    let mut group = criterion.benchmark_group("hand-out");
    group.sample_size(10);
    group.bench_function("100k-10k", |bencher| {
        bencher.iter_custom(|count| {
            let mut engine = Duration::ZERO;
            for _ in 0..count {
                let done = hand_out(&mail, Limits::default());
                assert_eq!(done.delivered, mail.len());
                engine += done.engine;
            }
            engine
        });
    });
    group.finish();
}

criterion_group!(engine, whole);
criterion_main!(engine);
