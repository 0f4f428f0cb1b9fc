//! Verbs for the envelopes that a selection fits, and what they would hit.
//!
//! Promises: the queue is read in pages, and mail flows meanwhile; what is reported as done is
//! durable; the client hears from us after every page, so that it need not take us for dead.
//! Absent on purpose: whether an envelope fits, and how a census is taken (core's `control`).
//! Fails: with the reason, when the store does; what was done before stays done. A client that
//! goes away ends its order after the page at hand.

use crate::control::{self, ending, fail, read, rows, sorted_out};
use crate::daemon::Shared;
use crate::drivers::set_aside;
use crate::peer::Peer;
use crate::trash;
use redspool_core::control::{EnvelopeRow, Listing, Reply, Selection, Tally, Verb};
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{Selector, StoreError};
use redspool_core::time::Timestamp;
use std::io;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Envelopes that a verb is handed to the store for at a time: enough for a full group.
const TOGETHER: usize = 256;

/// What to do with what.
pub(crate) struct Order {
    /// The verb; without one, what it would hit is said.
    pub(crate) verb: Option<Verb>,
    /// Among which envelopes.
    pub(crate) selector: Selector,
    /// With which of them.
    pub(crate) selection: Selection,
}

/// Envelopes that a verb has changed, and how many of them are being delivered.
#[derive(Default)]
struct Affected {
    count: u64,
    inflight: u64,
}

/// Carries out an order. Gives the last reply; an `Err` one says why it was left.
pub(crate) async fn select(
    shared: &Arc<Shared>,
    peer: &mut Peer,
    order: Order,
) -> io::Result<Result<Reply, Reply>> {
    let limits = shared.limits();
    let mut listing = Listing::new(order.selector, limits.listing_page);
    let mut left = order.selection.limit.unwrap_or(u64::MAX);
    let wall = crate::clock::now().wall;
    let now = wall.as_secs();
    let mut tally = Tally::new(limits.census_texts);
    let mut affected = Affected::default();
    let mut any = false;
    while left > 0 {
        let next = read(shared, move |reader| {
            let page = listing.next(reader)?;
            Ok((listing, page))
        });
        let page = match next.await {
            Ok((then, Some(page))) => {
                listing = then;
                page
            }
            Ok((_, None)) => break,
            Err(error) => return Ok(Err(fail(&error))),
        };
        any = true;
        let (envelopes, damaged) = sorted_out(page);
        for error in damaged {
            if let StoreError::Corrupt { message, reason } = error {
                set_aside(shared, message, &reason);
            }
        }
        let Some(mut rows) = rows(shared, envelopes).await else {
            return Ok(Err(ending()));
        };
        rows.retain(|row| {
            let fits = left > 0 && order.selection.matches(row, now);
            left = left.saturating_sub(u64::from(fits));
            fits
        });
        let done = match order.verb {
            Some(verb) => act(shared, verb, wall, &rows, &mut affected).await,
            None => count(shared, &rows, &mut tally).await,
        };
        if let Err(reply) = done {
            return Ok(Err(reply));
        }
        peer.send(&Reply::Working).await?;
    }
    if let Some(Verb::Remove | Verb::RemoveNow) = order.verb {
        trash::report(shared).await;
    }
    if !any && order.selector != Selector::All {
        return Ok(Ok(Reply::Unknown));
    }
    Ok(Ok(match order.verb {
        Some(_) => Reply::Affected {
            count: affected.count,
            inflight: affected.inflight,
        },
        None => Reply::Census(Box::new(tally.census())),
    }))
}

/// Counts rows and the sizes of their messages.
async fn count(shared: &Arc<Shared>, rows: &[EnvelopeRow], tally: &mut Tally) -> Result<(), Reply> {
    let mut messages = Vec::new();
    for row in rows {
        if tally.count(row) {
            messages.extend(EnvelopeId::new(row.id).map(EnvelopeId::message));
        }
    }
    let sizes = read(shared, move |reader| {
        let size = |id: MessageId| {
            let message = reader.message(id)?;
            Ok(message.map_or(0, |message| message.size))
        };
        messages.into_iter().map(size).sum::<Result<u64, _>>()
    });
    tally.add(sizes.await.map_err(|error| fail(&error))?);
    Ok(())
}

/// Does it to the envelopes of these rows; `at` is the time of the order.
async fn act(
    shared: &Arc<Shared>,
    verb: Verb,
    at: Timestamp,
    rows: &[EnvelopeRow],
    affected: &mut Affected,
) -> Result<(), Reply> {
    let ids = rows.iter().filter_map(|row| EnvelopeId::new(row.id));
    let mut ids = ids.collect::<Vec<_>>().into_iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < TOGETHER
            && let Some(id) = ids.next()
        {
            let shared = Arc::clone(shared);
            running.spawn(async move {
                match verb {
                    Verb::Remove => trash::remove_one(&shared, id, at).await,
                    Verb::RemoveNow => control::remove_now(&shared, Selector::Envelope(id)).await,
                    Verb::Suspend => control::suspend(&shared, Selector::Envelope(id), true).await,
                    Verb::Resume => control::suspend(&shared, Selector::Envelope(id), false).await,
                    Verb::Schedule => control::schedule(&shared, Selector::Envelope(id)).await,
                }
            });
        }
        match running.join_next().await {
            None => return Ok(()),
            Some(Ok(Reply::Affected { count, inflight })) => {
                affected.count = affected.count.saturating_add(count);
                affected.inflight = affected.inflight.saturating_add(inflight);
            }
            // It was delivered or removed meanwhile.
            Some(Ok(Reply::Unknown)) => {}
            Some(Ok(reply)) => return Err(reply),
            Some(Err(error)) => {
                return Err(Reply::Fail {
                    reason: error.to_string(),
                });
            }
        }
    }
}
