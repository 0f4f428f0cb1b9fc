//! The engine alone, with every wish granted at once: time spent in it.
//!
//! `100k-10k/hand-out`: 100,000 envelopes for 10,000 domains are scheduled and handed out, under the
//! default limits; `100k-10k/recording`: the outcomes of the same are settled and logged.

use criterion::{Criterion, criterion_group, criterion_main};
use redspool_benches::work::engine::{Handed, envelopes, hand_out};
use redspool_core::limits::Limits;
use std::time::Duration;

/// The time that counts.
type Part = fn(&Handed) -> Duration;

fn whole(criterion: &mut Criterion) {
    let mail = envelopes(100_000, 10_000).expect("addresses are well-formed");
    let once = hand_out(&mail, Limits::default());
    eprintln!(
        "{} envelopes over {} connections in {:?} of the world's time",
        once.delivered, once.connections, once.virtual_time
    );
    let mut group = criterion.benchmark_group("100k-10k");
    group.sample_size(10);
    let parts: [(_, Part); 2] = [
        ("hand-out", |done| done.scheduling),
        ("recording", |done| done.recording),
    ];
    for (name, part) in parts {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let mut engine = Duration::ZERO;
                for _ in 0..count {
                    let done = hand_out(&mail, Limits::default());
                    assert_eq!(done.delivered, mail.len());
                    engine += part(&done);
                }
                engine
            });
        });
    }
    group.finish();
}

criterion_group!(engine, whole);
criterion_main!(engine);
