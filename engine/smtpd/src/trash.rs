//! The trash: what is removed goes there, comes back from there, and leaves it in the end.
//!
//! Promises: what is reported is durable; a large selection is worked through in steps, between which
//! mail flows and the client hears from us; an envelope that comes back is scheduled as it was.
//! Absent on purpose: when something has to leave the trash (the engine's), and how (the store's).
//! Fails: with the store's reason; what was done before stays done.

use crate::control::{ending, fail, read, remove_now};
use crate::daemon::Shared;
use crate::drivers::set_aside;
use crate::peer::Peer;
use redspool_core::control::{EnvelopeRow, Listing, Reply, Runstate, Tally, chunks};
use redspool_core::engine::{Event, Weighed};
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::limits::Limits;
use redspool_core::machine::Machine as _;
use redspool_core::queue::{
    Discarded, Reader, Receipt, Scheduled, Selector, Span, StoreError, Transition,
};
use redspool_core::time::Timestamp;
use redspool_store::Health;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Whether what is removed goes to the trash.
fn is_kept(limits: &Limits) -> bool {
    limits.trash_size > 0 && limits.trash_share > 0
}

/// Removes what is selected, into the trash if there is one.
pub(crate) async fn remove(
    shared: &Arc<Shared>,
    peer: &mut Peer,
    selector: Selector,
) -> io::Result<Reply> {
    let limits = shared.limits();
    if !is_kept(&limits) {
        return Ok(remove_now(shared, selector).await);
    }
    let at = crate::clock::now().wall;
    let mut span = Span {
        selector,
        after: None,
        most: limits.trash_step,
    };
    let (mut count, mut inflight) = (0_u64, 0_u64);
    loop {
        let (ids, running) = match discard(shared, span, at).await {
            Ok(done) => done,
            Err(reply) => return Ok(reply),
        };
        count = count.saturating_add(ids.len() as u64);
        inflight = inflight.saturating_add(running as u64);
        if ids.len() < span.most {
            break;
        }
        span.after = ids.last().copied();
        peer.send(&Reply::Working).await?;
    }
    report(shared).await;
    if count == 0 && selector != Selector::All {
        return Ok(Reply::Unknown);
    }
    Ok(Reply::Affected { count, inflight })
}

/// Removes one envelope, into the trash if there is one. Whoever does that to many reports it to the
/// engine afterwards.
pub(crate) async fn remove_one(shared: &Arc<Shared>, id: EnvelopeId, at: Timestamp) -> Reply {
    let selector = Selector::Envelope(id);
    if !is_kept(&shared.limits()) {
        return remove_now(shared, selector).await;
    }
    match discard(shared, Span::all(selector), at).await {
        Ok((ids, _)) if ids.is_empty() => Reply::Unknown,
        Ok((ids, running)) => Reply::Affected {
            count: ids.len() as u64,
            inflight: running as u64,
        },
        Err(reply) => reply,
    }
}

/// One step into the trash; gives what went there, and how many attempts still run.
async fn discard(
    shared: &Arc<Shared>,
    span: Span,
    at: Timestamp,
) -> Result<(Vec<EnvelopeId>, usize), Reply> {
    let (done, wait) = oneshot::channel();
    let engine = shared.engine.clone();
    let transition = Transition::Discard { span, at };
    // The engine learns of it in the order of the commits.
    shared
        .queue
        .commit(transition, move |receipt| match receipt {
            Ok(Receipt::Affected(ids)) => engine.instruct_blocking(move |engine, now| {
                let running = engine.removed(now, &ids);
                let _ = done.send(Ok((ids, running)));
            }),
            Ok(_) => drop(done.send(Ok((Vec::new(), 0)))),
            Err(error) => drop(done.send(Err(error))),
        });
    match wait.await {
        Ok(done) => done.map_err(|error| fail(&error)),
        Err(_) => Err(ending()),
    }
}

/// Commits a transition and gives the envelopes it affected.
async fn commit(
    shared: &Arc<Shared>,
    transition: Transition,
) -> Result<Vec<EnvelopeId>, StoreError> {
    let (done, wait) = oneshot::channel();
    shared
        .queue
        .commit(transition, move |receipt| drop(done.send(receipt)));
    match wait.await.unwrap_or(Err(StoreError::Closed))? {
        Receipt::Affected(ids) => Ok(ids),
        Receipt::Done | Receipt::Refused(_) => Ok(Vec::new()),
    }
}

/// Brings envelopes back; with `last`, those that were removed last.
pub(crate) async fn undo(
    shared: &Arc<Shared>,
    peer: &mut Peer,
    selector: Selector,
    last: bool,
) -> io::Result<Reply> {
    let at = match latest(shared, last).await {
        Ok(None) if last => {
            return Ok(Reply::Affected {
                count: 0,
                inflight: 0,
            });
        }
        Ok(at) => at,
        Err(error) => return Ok(fail(&error)),
    };
    let mut span = Span {
        selector,
        after: None,
        most: shared.limits().trash_step,
    };
    let mut count = 0_u64;
    loop {
        let ids = match commit(shared, Transition::Restore { span, at }).await {
            Ok(ids) => ids,
            Err(error) => return Ok(fail(&error)),
        };
        let done = ids.len() < span.most;
        count = count.saturating_add(ids.len() as u64);
        span.after = ids.last().copied();
        if let Err(reply) = scheduled(shared, ids).await {
            return Ok(reply);
        }
        if done {
            break;
        }
        peer.send(&Reply::Working).await?;
    }
    report(shared).await;
    tracing::info!("restored envelopes={count}");
    if count == 0 && selector != Selector::All {
        return Ok(Reply::Unknown);
    }
    Ok(Reply::Affected { count, inflight: 0 })
}

/// When the last removal was, if only that counts. In an empty trash there is none that would.
async fn latest(shared: &Arc<Shared>, last: bool) -> Result<Option<Timestamp>, StoreError> {
    if !last {
        return Ok(None);
    }
    let state = read(shared, <dyn Reader>::trash).await?;
    Ok(state.latest)
}

/// Shows the engine envelopes that have come back.
async fn scheduled(shared: &Arc<Shared>, ids: Vec<EnvelopeId>) -> Result<(), Reply> {
    let page = shared.limits().listing_page;
    for part in ids.chunks(page.max(1)) {
        let part = part.to_vec();
        let found = read(shared, move |reader| stored(reader, &part)).await;
        let (found, damaged) = found.map_err(|error| fail(&error))?;
        for (message, reason) in damaged {
            set_aside(shared, message, &reason);
        }
        let told = shared
            .engine
            .ask(move |engine, now| engine.handle(now, Event::Queued(found)));
        told.await.ok_or_else(ending)?;
    }
    Ok(())
}

/// What was read for the schedule, and what was damaged.
type Read = (Vec<Scheduled>, Vec<(MessageId, String)>);

/// Reads these envelopes: those that lie together in one go, the others one by one.
fn stored(reader: &dyn Reader, ids: &[EnvelopeId]) -> Result<Read, StoreError> {
    let mut left: BTreeSet<_> = ids.iter().copied().collect();
    let (mut found, mut damaged) = (Vec::with_capacity(ids.len()), Vec::new());
    let Some(first) = ids.first() else {
        return Ok((found, damaged));
    };
    let page = reader.page(Selector::All, first.previous(), ids.len())?;
    for envelope in page.into_iter().flatten() {
        if left.remove(&envelope.id) {
            found.push(Scheduled::from(&envelope));
        }
    }
    for id in left {
        match reader.envelope(id) {
            Ok(Some(envelope)) => found.push(Scheduled::from(&envelope)),
            Ok(None) => {}
            Err(StoreError::Corrupt { message, reason }) => damaged.push((message, reason)),
            Err(error) => return Err(error),
        }
    }
    Ok((found, damaged))
}

/// Lists the trash.
pub(crate) async fn list(
    shared: &Arc<Shared>,
    peer: &mut Peer,
    selector: Selector,
) -> io::Result<()> {
    let ttl = shared.limits().trash_ttl;
    let mut listing = Listing::new(selector, shared.limits().listing_page);
    let mut any = false;
    loop {
        let page = match page(shared, &mut listing).await {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(error) => return peer.send(&fail(&error)).await,
        };
        any = true;
        for (message, reason) in page.damaged {
            set_aside(shared, message, &reason);
            let message = message.get();
            peer.send(&Reply::Damaged { message, reason }).await?;
        }
        let row = |Discarded { envelope, at }: &Discarded| {
            let until = Some(at.after(ttl).as_secs());
            let since = at.as_secs();
            EnvelopeRow::new(envelope, Runstate::Trash { since, until })
        };
        let rows = page.sound.iter().map(row).collect();
        for part in chunks(rows, peer.limit()) {
            peer.send(&Reply::EnvelopeRows(part)).await?;
        }
    }
    let end = if any || selector == Selector::All {
        Reply::End
    } else {
        Reply::Unknown
    };
    peer.send(&end).await
}

/// Says what `undo` would bring back.
pub(crate) async fn census(
    shared: &Arc<Shared>,
    peer: &mut Peer,
    selector: Selector,
    last: bool,
) -> io::Result<Reply> {
    let at = match latest(shared, last).await {
        Ok(at) => at,
        Err(error) => return Ok(fail(&error)),
    };
    let limits = shared.limits();
    let mut tally = Tally::new(limits.census_texts);
    let mut listing = Listing::new(selector, limits.listing_page);
    let mut any = false;
    loop {
        let page = match page(shared, &mut listing).await {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(error) => return Ok(fail(&error)),
        };
        let fitting = page.sound.iter();
        let fitting = fitting.filter(|one| at.is_none_or(|at| one.at == at));
        let mut messages = Vec::new();
        for Discarded { envelope, at } in fitting {
            any = true;
            let (since, until) = (at.as_secs(), None);
            if tally.count(&EnvelopeRow::new(
                envelope,
                Runstate::Trash { since, until },
            )) {
                messages.push(envelope.id.message());
            }
        }
        let sizes = read(shared, move |reader| {
            let size = |id| Ok(reader.message(id)?.map_or(0, |message| message.size));
            messages.into_iter().map(size).sum::<Result<u64, _>>()
        });
        match sizes.await {
            Ok(octets) => tally.add(octets),
            Err(error) => return Ok(fail(&error)),
        }
        peer.send(&Reply::Working).await?;
    }
    if !any && selector != Selector::All {
        return Ok(Reply::Unknown);
    }
    Ok(Reply::Census(Box::new(tally.census())))
}

/// A page of the trash.
struct Page {
    sound: Vec<Discarded>,
    damaged: Vec<(MessageId, String)>,
}

async fn page(shared: &Arc<Shared>, listing: &mut Listing) -> Result<Option<Page>, StoreError> {
    let mut next = listing.clone();
    let read = read(shared, move |reader| {
        let page = next.next_discarded(reader)?;
        Ok((next, page))
    });
    let (then, entries) = read.await?;
    *listing = then;
    let Some(entries) = entries else {
        return Ok(None);
    };
    let (mut sound, mut damaged) = (Vec::with_capacity(entries.len()), Vec::new());
    for entry in entries {
        match entry {
            Ok(discarded) => sound.push(discarded),
            Err(StoreError::Corrupt { message, reason }) => damaged.push((message, reason)),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(Page { sound, damaged }))
}

/// Looks at the trash and the room for it; `None` if that cannot be told now.
fn weigh(shared: &Shared) -> Option<Weighed> {
    let disk = rustix::fs::statvfs(&shared.spool).ok()?;
    Some(Weighed {
        state: shared.queue.reader().trash().ok()?,
        disk: disk.f_blocks.saturating_mul(disk.f_frsize),
        short: matches!(shared.queue.health(), Health::Short { .. }),
    })
}

/// Tells the engine how the trash is, for it has changed or was asked for.
pub(crate) async fn report(shared: &Arc<Shared>) {
    let weighing = Arc::clone(shared);
    let weighed = tokio::task::spawn_blocking(move || weigh(&weighing)).await;
    shared
        .engine
        .tell(Event::Trash(weighed.ok().flatten()))
        .await;
}

/// Drops a step of what was removed at `until` or before, and tells the engine how the trash is then.
pub(crate) async fn purge(shared: &Arc<Shared>, until: Timestamp) {
    let span = Span {
        most: shared.limits().trash_step,
        ..Span::all(Selector::All)
    };
    match commit(shared, Transition::Purge { span, until }).await {
        Ok(ids) => {
            tracing::info!("trash dropped envelopes={}", ids.len());
            report(shared).await;
        }
        Err(error) => {
            tracing::warn!("trash could not be cleared: {error}");
            shared.engine.tell(Event::Trash(None)).await;
        }
    }
}
