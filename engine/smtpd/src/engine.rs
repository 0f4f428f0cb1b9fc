//! The loop around the engine: its own thread, which hands events in and carries actions out.
//!
//! Promises: the engine never waits for a disk or a socket; what others send it waits in one
//! bounded channel; settlements reach the store in the order they were made.
//! Absent on purpose: every rule of mail (core's).

use crate::drivers::Drivers;
use crate::timing::Stopwatch;
use crate::trace;
use redspool_core::engine::{Engine, Event};
use redspool_core::machine::Machine as _;
use redspool_core::time::Now;
use tokio::sync::{mpsc, oneshot};

/// Events that may wait for the engine; a full channel stops whoever sends.
const INBOX: usize = 4096;

/// Messages taken per turn before actions are carried out.
const TURN: usize = 256;

/// Something to be done with the engine on its own thread.
type Question = Box<dyn FnOnce(&mut Engine, Now) + Send>;

/// What the engine's thread is told.
enum Message {
    Event(Event),
    Ask(Question),
    WhenIdle(oneshot::Sender<()>),
    Stop,
}

/// The way to the engine. Cheap to clone.
#[derive(Clone)]
pub struct EngineHandle(mpsc::Sender<Message>);

/// The other end of an [`EngineHandle`], for [`run`].
pub(crate) struct Inbox(mpsc::Receiver<Message>);

/// A handle and its other end.
pub(crate) fn channel() -> (EngineHandle, Inbox) {
    let (sender, receiver) = mpsc::channel(INBOX);
    (EngineHandle(sender), Inbox(receiver))
}

impl EngineHandle {
    /// Reports an event; waits while the inbox is full.
    pub async fn tell(&self, event: Event) {
        // The engine is gone only when the daemon ends; then nobody needs the event.
        let _ = self.0.send(Message::Event(event)).await;
    }

    /// Reports an event from a thread outside the runtime.
    pub fn tell_blocking(&self, event: Event) {
        let _ = self.0.blocking_send(Message::Event(event));
    }

    /// Puts a question to the engine; `None` if the daemon is ending.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Engine, Now) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, wait) = oneshot::channel();
        let ask = Box::new(move |engine: &mut Engine, now: Now| {
            let _ = answer.send(question(engine, now));
        });
        self.0.send(Message::Ask(ask)).await.ok()?;
        wait.await.ok()
    }

    /// Tells the engine something from a thread outside the runtime, without an answer.
    pub fn instruct_blocking(&self, order: impl FnOnce(&mut Engine, Now) + Send + 'static) {
        let _ = self.0.blocking_send(Message::Ask(Box::new(order)));
    }

    /// Waits until nothing is in flight.
    pub async fn idle(&self) {
        let (idle, wait) = oneshot::channel();
        if self.0.send(Message::WhenIdle(idle)).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// Ends the loop once everything before is done.
    pub async fn stop(&self) {
        let _ = self.0.send(Message::Stop).await;
    }
}

/// Runs the engine until it is told to stop. Call on a thread of its own.
pub(crate) fn run(mut engine: Engine, inbox: Inbox, mut drivers: Drivers) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.expect("a runtime without I/O needs nothing that can be missing");
    runtime.block_on(async {
        let Inbox(mut inbox) = inbox;
        let mut turn = Vec::with_capacity(TURN);
        let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
        let mut counters = trace::Watch::default();
        loop {
            act(&mut engine, &mut drivers);
            if trace::Watch::wanted() {
                counters.look(engine.counters());
            }
            if !waiting.is_empty() && engine.idle() {
                for idle in waiting.drain(..) {
                    // Whoever waited may have given up.
                    let _ = idle.send(());
                }
            }
            let received = match engine.deadline() {
                Some(deadline) => {
                    let wait = inbox.recv_many(&mut turn, TURN);
                    if let Ok(received) = tokio::time::timeout_at(deadline.into(), wait).await {
                        received
                    } else {
                        handle(&mut engine, crate::clock::now(), Event::TimedOut);
                        continue;
                    }
                }
                None => inbox.recv_many(&mut turn, TURN).await,
            };
            if received == 0 {
                return drivers.close();
            }
            let now = crate::clock::now();
            for message in turn.drain(..) {
                match message {
                    Message::Event(event) => handle(&mut engine, now, event),
                    Message::Ask(question) => {
                        tracing::trace!(target: "trace::imsg", "engine <- control: Ask");
                        let watch = Stopwatch::imsg();
                        question(&mut engine, now);
                        watch.imsg_done("engine", "control", "Ask", 0);
                    }
                    Message::WhenIdle(idle) => waiting.push(idle),
                    Message::Stop => {
                        act(&mut engine, &mut drivers);
                        return drivers.close();
                    }
                }
            }
        }
    });
}

fn handle(engine: &mut Engine, now: Now, event: Event) {
    trace::event(&event);
    let (peer, message) = trace::name(&event);
    let watch = Stopwatch::imsg();
    engine.handle(now, event);
    watch.imsg_done("engine", peer, message, 0);
}

fn act(engine: &mut Engine, drivers: &mut Drivers) {
    while let Some(action) = engine.poll() {
        trace::action(&action);
        drivers.carry_out(action);
    }
}
