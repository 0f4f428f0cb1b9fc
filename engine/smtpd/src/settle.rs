//! Records what deliveries leave behind, and keeps it when the store cannot.
//!
//! Promises: every settlement reaches the store, in order, once it can write again; the engine
//! learns when it cannot, so that no new attempt starts (reliability rule Q9).

use crate::engine::EngineHandle;
use redspool_core::engine::{Event, Loaded};
use redspool_core::queue::{Receipt, Settlement, StoreError, Transition};
use redspool_store::QueueHandle;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Wait between two tries to record while the store refuses.
const RETRY: Duration = Duration::from_secs(1);

/// Orders that may wait. The engine settles an envelope once per attempt and limits attempts in
/// flight to fewer, so this never fills and the engine never waits here.
const BACKLOG: usize = 16_384;

enum Order {
    Settle(Vec<Settlement>),
    Failed(Vec<Settlement>, StoreError),
    Close,
}

/// Hands settlements to the store. The thread behind it ends with [`Settler::close`].
pub(crate) struct Settler {
    orders: SyncSender<Order>,
    thread: JoinHandle<()>,
}

impl Settler {
    /// Starts the thread.
    pub(crate) fn start(queue: QueueHandle, engine: EngineHandle) -> Self {
        let (orders, inbox) = sync_channel(BACKLOG);
        let back = orders.clone();
        let work = move || {
            Recording {
                queue,
                engine,
                back,
                backlog: VecDeque::new(),
            }
            .run(&inbox);
        };
        let thread = std::thread::Builder::new()
            .name("settle".into())
            .spawn(work);
        Self {
            orders,
            thread: thread.expect("a thread can be started at start-up"),
        }
    }

    /// Records the results of attempts; answered to the engine with `Settled`.
    pub(crate) fn settle(&self, settlements: Vec<Settlement>) {
        let _ = self.orders.send(Order::Settle(settlements));
    }

    /// Waits until everything handed over so far was given to the store, and ends the thread.
    pub(crate) fn close(self) {
        let _ = self.orders.send(Order::Close);
        let _ = self.thread.join();
    }
}

struct Recording {
    queue: QueueHandle,
    engine: EngineHandle,
    back: SyncSender<Order>,
    /// Results the store has refused so far; not empty while it cannot write.
    backlog: VecDeque<Vec<Settlement>>,
}

impl Recording {
    fn run(mut self, inbox: &Receiver<Order>) {
        loop {
            let order = if self.backlog.is_empty() {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                inbox.recv_timeout(RETRY)
            };
            match order {
                Ok(Order::Settle(settlements)) if self.backlog.is_empty() => {
                    self.commit(settlements);
                }
                Ok(Order::Settle(settlements)) => self.backlog.push_back(settlements),
                Ok(Order::Failed(settlements, error)) => self.failed(settlements, &error),
                Err(RecvTimeoutError::Timeout) => self.retry(),
                Ok(Order::Close) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn commit(&self, settlements: Vec<Settlement>) {
        let (engine, back) = (self.engine.clone(), self.back.clone());
        let copy = settlements.clone();
        self.queue.commit(
            Transition::Settle(settlements),
            move |receipt| match receipt {
                Ok(receipt) => recorded(&engine, &copy, receipt),
                Err(error) => {
                    let _ = back.send(Order::Failed(copy, error));
                }
            },
        );
    }

    fn failed(&mut self, settlements: Vec<Settlement>, error: &StoreError) {
        if self.backlog.is_empty() {
            tracing::error!("queue: results cannot be recorded, deliveries wait: {error}");
            self.engine.tell_blocking(Event::StoreFailed);
        }
        self.backlog.push_back(settlements);
    }

    fn retry(&mut self) {
        while let Some(settlements) = self.backlog.front() {
            let transition = Transition::Settle(settlements.clone());
            let Ok(receipt) = self.queue.commit_wait(transition) else {
                return;
            };
            recorded(&self.engine, settlements, receipt);
            self.backlog.pop_front();
        }
        tracing::info!("queue: results are recorded again");
        self.engine.tell_blocking(Event::StoreRecovered);
    }
}

/// Tells the engine that settlements are durable, and which envelopes went to the corrupt bucket
/// with a damaged message on that occasion.
fn recorded(engine: &EngineHandle, settlements: &[Settlement], receipt: Receipt) {
    match receipt {
        Receipt::Done => {}
        Receipt::Affected(dropped) => {
            tracing::error!("queue: damaged messages went to the corrupt bucket with {dropped:?}");
            let gone = dropped.into_iter().map(|id| (id, Loaded::Gone)).collect();
            engine.tell_blocking(Event::Loaded(gone));
        }
        // Recorded before its receipt was lost: the ids of its notices are there already.
        Receipt::Refused(refusal) => tracing::warn!("queue: results recorded twice: {refusal:?}"),
    }
    let ids = settlements
        .iter()
        .map(|settlement| settlement.envelope)
        .collect();
    engine.tell_blocking(Event::Settled(ids));
}
