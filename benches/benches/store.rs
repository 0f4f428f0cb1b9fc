//! Submitting and settling: the redb store beside queues of files, durable, on the same disk.
//!
//! `store/submit/<octets>/<n>-waiting`: n clients, each waits for its acknowledgement.
//! `store/settle/<octets>/<n>-each`: attempts that end, n in each transition, handed in as they
//! come; timed until the last is durable. The files are just unlinked, as their models do it.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use redspool_benches::{FilePerEnvelope, FilePerMessage, Mailbag, closed_loop, envelope, scratch};
use redspool_core::id::MessageId;
use redspool_core::queue::{Change, Receipt, Settlement, Transition};
use redspool_store::{GroupCommit, QueueHandle, RedbStore};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SIZES: [(&str, usize); 2] = [("1k", 1 << 10), ("10k", 10 << 10)];

fn open() -> (TempDir, GroupCommit) {
    let spool = scratch().expect("the build directory can be written");
    let store = RedbStore::open(spool.path()).expect("an empty spool can be opened");
    let path = spool.path().to_owned();
    let queue = GroupCommit::start(store, move || RedbStore::open(&path));
    (spool, queue.expect("a thread can be started"))
}

fn submit_one(queue: &QueueHandle, mail: &Mailbag) -> MessageId {
    let submission = mail.submission();
    let id = submission.message.id;
    let receipt = queue.commit_wait(Transition::Submit(submission));
    assert_eq!(receipt, Ok(Receipt::Done));
    id
}

fn submit(criterion: &mut Criterion) {
    for (name, size) in SIZES {
        let mut group = criterion.benchmark_group(format!("store/submit/{name}"));
        group.throughput(Throughput::Elements(1));
        group
            .sample_size(10)
            .measurement_time(Duration::from_secs(6));
        for waiting in [1, 64] {
            let label = format!("{waiting}-waiting");
            let mail = Mailbag::new(size);
            let (_spool, queue) = open();
            let handle = queue.handle();
            group.bench_function(BenchmarkId::new("redb", &label), |bencher| {
                bencher.iter_custom(|count| {
                    closed_loop(waiting, count, || {
                        submit_one(&handle, &mail);
                    })
                });
            });
            let spool = scratch().expect("the build directory can be written");
            let files = FilePerMessage::new(spool.path()).expect("it is empty");
            group.bench_function(BenchmarkId::new("file-per-message", &label), |bencher| {
                bencher.iter_custom(|count| {
                    closed_loop(waiting, count, || {
                        let done = files.submit(mail.id(), mail.body());
                        done.expect("the disk has room");
                    })
                });
            });
            let spool = scratch().expect("the build directory can be written");
            let files = FilePerEnvelope::new(spool.path()).expect("it is empty");
            group.bench_function(BenchmarkId::new("file-per-envelope", &label), |bencher| {
                bencher.iter_custom(|count| {
                    closed_loop(waiting, count, || {
                        let done = files.submit(mail.id(), mail.body());
                        done.expect("the disk has room");
                    })
                });
            });
        }
        group.finish();
    }
}

/// Queues `count` messages, many at a time, and gives their ids.
fn filled(count: u64, work: impl Fn() -> MessageId + Sync) -> Vec<MessageId> {
    let ids = Mutex::new(Vec::new());
    closed_loop(64, count, || {
        let id = work();
        ids.lock().expect("no client panics").push(id);
    });
    ids.into_inner().expect("no client panics")
}

/// Settles the messages, `each` in one transition, and waits for the last.
fn settle_all(queue: &QueueHandle, ids: &[MessageId], each: usize) -> Duration {
    let start = Instant::now();
    let (done, all_done) = mpsc::channel();
    let done = Arc::new(done);
    for ids in ids.chunks(each) {
        let settlements = ids.iter().map(|id| Settlement {
            envelope: envelope(*id).id,
            change: Change::Done,
            bounce: None,
        });
        let done = Arc::clone(&done);
        queue.commit(Transition::Settle(settlements.collect()), move |receipt| {
            assert_eq!(receipt, Ok(Receipt::Done));
            drop(done);
        });
    }
    drop(done);
    // It ends when the last completion has dropped its sender.
    let () = all_done.recv().unwrap_or(());
    start.elapsed()
}

fn settle(criterion: &mut Criterion) {
    for (name, size) in SIZES {
        let mut group = criterion.benchmark_group(format!("store/settle/{name}"));
        group.throughput(Throughput::Elements(1));
        group
            .sample_size(10)
            .measurement_time(Duration::from_secs(6));
        let mail = Mailbag::new(size);
        for each in [1, 64] {
            let (_spool, queue) = open();
            let handle = queue.handle();
            let label = BenchmarkId::new("redb", format!("{each}-each"));
            group.bench_function(label, |bencher| {
                bencher.iter_custom(|count| {
                    let ids = filled(count, || submit_one(&handle, &mail));
                    settle_all(&handle, &ids, each)
                });
            });
        }
        let spool = scratch().expect("the build directory can be written");
        let files = FilePerMessage::new(spool.path()).expect("it is empty");
        group.bench_function("file-per-message", |bencher| {
            bencher.iter_custom(|count| {
                let ids = filled(count, || {
                    let id = mail.id();
                    files.submit(id, mail.body()).expect("the disk has room");
                    id
                });
                let start = Instant::now();
                for id in ids {
                    files.settle(id).expect("it was queued");
                }
                start.elapsed()
            });
        });
        group.finish();
    }
}

criterion_group!(store, submit, settle);
criterion_main!(store);
