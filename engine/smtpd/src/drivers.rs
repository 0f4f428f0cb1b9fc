//! Carries out what the engine decides: reads, settles, resolves, connects, runs, reports.
//!
//! Promises: nothing here waits; whatever takes time runs elsewhere and comes back as an event.
//! Absent on purpose: every rule of mail (core's).

use crate::client;
use crate::daemon::Shared;
use crate::deliver;
use crate::notices;
use crate::settle::Settler;
use crate::trash;
use redspool_core::engine::{Action, Content, Event, Loaded, SessionId};
use redspool_core::id::EnvelopeId;
use redspool_core::queue::{Failure, Reader, Receipt, StoreError, Transition};
use redspool_core::reply::Status;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Everything that acts for the engine. Owned by the engine's thread.
pub(crate) struct Drivers {
    shared: Arc<Shared>,
    runtime: Handle,
    settler: Settler,
    sessions: HashMap<SessionId, mpsc::Sender<client::Order>>,
}

impl Drivers {
    /// Drivers that start their tasks on `runtime`.
    pub(crate) fn new(shared: Arc<Shared>, runtime: Handle, settler: Settler) -> Self {
        Self {
            shared,
            runtime,
            settler,
            sessions: HashMap::new(),
        }
    }

    /// Carries out one action.
    pub(crate) fn carry_out(&mut self, action: Action) {
        let shared = Arc::clone(&self.shared);
        match action {
            Action::Load(ids) => {
                self.runtime.spawn_blocking(move || {
                    let loaded = load(&shared, ids);
                    shared.engine.tell_blocking(Event::Loaded(loaded));
                });
            }
            Action::Settle(settlements) => self.settler.settle(settlements),
            Action::Resolve {
                query,
                name,
                lookup,
            } => {
                self.runtime.spawn(async move {
                    let answer = shared.resolver.resolve(&name, lookup).await;
                    shared.engine.tell(Event::Resolved { query, answer }).await;
                });
            }
            Action::Connect {
                session,
                source,
                target,
                host,
                domain,
                relay,
            } => {
                let (orders, inbox) = mpsc::channel(2);
                self.sessions.retain(|_, orders| !orders.is_closed());
                self.sessions.insert(session, orders);
                let call = client::Call {
                    session,
                    source,
                    target,
                    host,
                    domain,
                    relay,
                };
                self.runtime.spawn(client::run(shared, call, inbox));
            }
            Action::Transfer {
                session,
                transaction,
            } => {
                self.order(session, client::Order::Transfer(transaction));
            }
            Action::Quit(session) => self.order(session, client::Order::Quit),
            Action::Deliver(envelope) => {
                self.runtime.spawn(deliver::run(shared, envelope));
            }
            Action::Notify(group) => {
                self.runtime.spawn(notices::run(shared, group));
            }
            Action::Weigh => {
                self.runtime
                    .spawn(async move { trash::report(&shared).await });
            }
            Action::Purge { until } => {
                self.runtime
                    .spawn(async move { trash::purge(&shared, until).await });
            }
            Action::Log(note) => crate::notes::write(&note),
        }
    }

    /// A session that is ready takes one order; one that has ended meanwhile reports so itself.
    fn order(&self, session: SessionId, order: client::Order) {
        if let Some(orders) = self.sessions.get(&session) {
            let _ = orders.try_send(order);
        }
    }

    /// Hands the last settlements to the store.
    pub(crate) fn close(self) {
        self.settler.close();
    }
}

fn load(shared: &Arc<Shared>, ids: Vec<EnvelopeId>) -> Vec<(EnvelopeId, Loaded)> {
    let reader = shared.queue.reader();
    ids.into_iter()
        .map(|id| {
            let loaded = match load_one(&*reader, id) {
                Ok(loaded) => loaded,
                Err(StoreError::Corrupt { message, reason }) => {
                    set_aside(shared, message, &reason);
                    Loaded::Gone
                }
                Err(error) => unavailable(&error),
            };
            (id, loaded)
        })
        .collect()
}

fn load_one(reader: &dyn Reader, id: EnvelopeId) -> Result<Loaded, StoreError> {
    let Some(envelope) = reader.envelope(id)? else {
        return Ok(Loaded::Gone);
    };
    let Some(message) = reader.message(id.message())? else {
        return Ok(Loaded::Gone);
    };
    let content = Content {
        size: message.size,
        eight_bit: message.eight_bit,
        utf8: message.utf8,
    };
    Ok(Loaded::Envelope(Box::new(envelope), content))
}

fn unavailable(error: &StoreError) -> Loaded {
    Loaded::Unavailable(Failure::new(Status::transient(3, 0), error.to_string()))
}

/// Moves a damaged message to the corrupt bucket and takes its envelopes off the schedule.
pub(crate) fn set_aside(shared: &Arc<Shared>, message: redspool_core::id::MessageId, reason: &str) {
    tracing::error!("queue: message {message} is damaged and goes to the corrupt bucket: {reason}");
    let at = crate::clock::now().wall;
    let transition = Transition::Corrupt {
        message,
        reason: reason.into(),
        at,
    };
    let (engine, counting) = (shared.engine.clone(), Arc::clone(shared));
    shared
        .queue
        .commit(transition, move |receipt| match receipt {
            Ok(Receipt::Affected(ids)) => {
                counting.counters.corrupt();
                let gone = ids.into_iter().map(|id| (id, Loaded::Gone)).collect();
                engine.tell_blocking(Event::Loaded(gone));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!("queue: message {message} could not be set aside: {error}");
            }
        });
}
