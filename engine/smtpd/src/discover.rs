//! `discover`: what lies in the store and is not in the schedule gets there; parked messages are
//! picked up.
//!
//! Promises: an envelope whose end the store knows is never scheduled again. One is an orphan only
//! if the schedule does not know it before and after everything the store was given until then is
//! durable, and it is still stored after a second such wait: whoever was on the way in has arrived
//! by then, whoever was on the way out is gone. An end that a failed store has refused, and that
//! waits to be given to it again, is not waited for: such an envelope may go out twice.

use crate::control::{ending, fail, read};
use crate::daemon::Shared;
use crate::offline;
use redspool_core::control::Reply;
use redspool_core::engine::Event;
use redspool_core::envelope::Envelope;
use redspool_core::id::EnvelopeId;
use redspool_core::machine::Machine as _;
use redspool_core::queue::{Scheduled, Selector, StoreError, Transition};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Schedules the orphans of the selector and says how many there were.
pub(crate) async fn discover(shared: &Arc<Shared>, selector: Selector) -> Reply {
    let mut count = 0_u64;
    if selector == Selector::All {
        count = offline::collect(shared, true).await;
    }
    match orphans(shared, selector).await {
        Ok(Some((0, _))) if selector != Selector::All => Reply::Unknown,
        Ok(Some((_, found))) => {
            count = count.saturating_add(found);
            tracing::info!("discovered envelopes={count}");
            Reply::Affected { count, inflight: 0 }
        }
        Ok(None) => ending(),
        Err(error) => fail(&error),
    }
}

/// Schedules orphans; gives how many envelopes there are and how many were orphans. `None` if the
/// daemon is ending.
pub(crate) async fn orphans(
    shared: &Arc<Shared>,
    selector: Selector,
) -> Result<Option<(u64, u64)>, StoreError> {
    let _one_at_a_time = shared.discovering.lock().await;
    let limit = shared.limits().listing_page;
    let (mut after, mut seen, mut found) = (None, 0_u64, 0_u64);
    loop {
        let page = read(shared, move |reader| reader.page(selector, after, limit)).await?;
        let envelopes: Vec<Envelope> = page.into_iter().flatten().collect();
        let Some(last) = envelopes.last() else {
            return Ok(Some((seen, found)));
        };
        after = Some(last.id);
        seen = seen.saturating_add(envelopes.len() as u64);
        let ids = envelopes.iter().map(|envelope| envelope.id).collect();
        let Some(ids) = unknown(shared, ids).await else {
            return Ok(None);
        };
        if ids.is_empty() {
            continue;
        }
        settled(shared).await?;
        let Some(ids) = unknown(shared, ids).await else {
            return Ok(None);
        };
        settled(shared).await?;
        let still = move |reader: &dyn redspool_core::queue::Reader| {
            let stored = ids.iter().filter_map(|id| reader.envelope(*id).transpose());
            stored.collect::<Result<Vec<_>, _>>()
        };
        let orphans: Vec<_> = read(shared, still)
            .await?
            .iter()
            .map(Scheduled::from)
            .collect();
        found = found.saturating_add(orphans.len() as u64);
        let told = shared
            .engine
            .ask(move |engine, now| engine.handle(now, Event::Queued(orphans)));
        if told.await.is_none() {
            return Ok(None);
        }
    }
}

/// Those the schedule does not know.
async fn unknown(shared: &Arc<Shared>, ids: Vec<EnvelopeId>) -> Option<Vec<EnvelopeId>> {
    let ask = shared.engine.ask(move |engine, now| {
        let mut ids = ids;
        ids.retain(|id| engine.runstate(now, *id).is_none());
        ids
    });
    ask.await
}

/// Waits until what the store was given so far is durable, by an empty settlement. Results that a
/// failed store has refused are given to it again later and are not waited for.
async fn settled(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let (done, wait) = oneshot::channel();
    let barrier = Transition::Settle(Vec::new());
    shared
        .queue
        .commit(barrier, move |receipt| drop(done.send(receipt)));
    wait.await.unwrap_or(Err(StoreError::Closed)).map(drop)
}
