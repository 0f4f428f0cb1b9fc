//! Single points of the store beside the layouts of other mail servers, durable, on the same disk.
//!
//! `submit/<octets>-<waiting>/<store>`: clients that wait for their receipts, per message.
//! `settle/<end>/<store>`: attempts that end, each message read before; per message, until the
//! last end is noted.
//! `list/10k/<store>`: a listing of 10,000 envelopes, page by page.
//! `reopen/10k/<store>`: from opening that queue to the first message accepted.
//! The whole comparison, with waits and ratios, is that of `store_table`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use redspool_benches::work::submit::{Clients, Run, Until, run};
use redspool_benches::work::{list, restart, settle};
use redspool_benches::{End, Kind, Mailbag, Purpose, Queue, RIVALS, Rival, spool};
use redspool_core::id::Epoch;
use std::time::{Duration, Instant};

const THREADS: usize = 2;

fn open(rival: &Rival, spool: &tempfile::TempDir) -> Box<dyn Queue> {
    let queue = rival.open(spool.path(), Purpose::Measure);
    queue.expect("a queue in the build directory can be opened")
}

fn scratch() -> tempfile::TempDir {
    spool::scratch(None).expect("the build directory can be written")
}

fn submitted(rival: &Rival, queue: &dyn Queue, bag: &Mailbag, waiting: usize, count: u64) -> Run {
    let clients = Clients {
        waiting,
        threads: rival.players(waiting, THREADS),
        until: Until::Count(count),
        deliver: false,
    };
    run(queue, bag, clients).expect("the disk has room")
}

fn submit(criterion: &mut Criterion) {
    for (name, size) in [("1k", 1 << 10), ("10k", 10 << 10)] {
        for waiting in [1, 64] {
            let mut group = criterion.benchmark_group(format!("submit/{name}-{waiting}"));
            group.throughput(Throughput::Elements(1));
            group
                .sample_size(10)
                .measurement_time(Duration::from_secs(4));
            for rival in RIVALS {
                let (spool, bag) = (scratch(), Mailbag::new(size, 1, Epoch::new(1)));
                let queue = open(rival, &spool);
                group.bench_function(rival.name, |bencher| {
                    bencher.iter_custom(|count| {
                        submitted(rival, &*queue, &bag, waiting, count).elapsed
                    });
                });
            }
            group.finish();
        }
    }
}

fn attempts(criterion: &mut Criterion) {
    for end in [End::Delivered, End::Deferred] {
        let mut group = criterion.benchmark_group("settle");
        group.throughput(Throughput::Elements(1));
        group
            .sample_size(10)
            .measurement_time(Duration::from_secs(4));
        for rival in RIVALS.iter().filter(|rival| rival.kind > Kind::Log) {
            let (spool, bag) = (scratch(), Mailbag::new(1 << 10, 1, Epoch::new(1)));
            let queue = open(rival, &spool);
            group.bench_function(BenchmarkId::new(end.word(), rival.name), |bencher| {
                bencher.iter_custom(|count| {
                    let mails = submitted(rival, &*queue, &bag, 64, count).mails;
                    let settled = settle::settle(&*queue, &bag, &mails, end, THREADS);
                    settled.expect("the disk has room").0
                });
            });
        }
        group.finish();
    }
}

fn whole(criterion: &mut Criterion) {
    for rival in RIVALS.iter().filter(|rival| rival.kind == Kind::Store) {
        let (spool, bag) = (scratch(), Mailbag::new(256, 1, Epoch::new(1)));
        let queue = open(rival, &spool);
        submitted(rival, &*queue, &bag, 256, 10_000);
        let listing = queue.listing().expect("a store can list");
        criterion.bench_function(&format!("list/10k/{}", rival.name), |bencher| {
            bencher.iter(|| list::pages(listing).expect("the disk can be read"));
        });
        drop(queue);
        criterion.bench_function(&format!("reopen/10k/{}", rival.name), |bencher| {
            bencher.iter_custom(|count| {
                let mut elapsed = Duration::ZERO;
                for _ in 0..count {
                    let start = Instant::now();
                    let opened = restart::restart(rival, spool.path(), &bag);
                    elapsed += start.elapsed();
                    drop(opened.expect("a closed queue can be opened"));
                }
                elapsed
            });
        });
    }
}

criterion_group!(store, submit, attempts, whole);
criterion_main!(store);
