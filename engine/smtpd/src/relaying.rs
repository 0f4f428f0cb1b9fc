//! Answers smtpctl about relaying: listings of what the engine has in memory, routes resumed, and
//! where an envelope is.
//!
//! Promises: a listing is asked for in pages, so that the engine goes on with its work between
//! them, however slow the reader is.

use crate::control::{ending, fail, read};
use crate::daemon::Shared;
use crate::peer::Peer;
use redspool_core::control::{MtaListing, Reply, chunks};
use redspool_core::engine::RouteId;
use redspool_core::id::EnvelopeId;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// Sends a listing.
pub(crate) async fn list(
    shared: &Arc<Shared>,
    peer: &mut Peer,
    listing: MtaListing,
) -> io::Result<()> {
    let most = shared.limits().listing_page;
    let mut last = None;
    loop {
        let page = shared
            .engine
            .ask(move |engine, now| engine.mta_rows(now, listing, last.as_ref(), most));
        let Some(page) = page.await else {
            return peer.send(&ending()).await;
        };
        last = page.last().cloned();
        if last.is_none() {
            return peer.send(&Reply::End).await;
        }
        for part in chunks(page, peer.limit()) {
            peer.send(&Reply::MtaRows(part)).await?;
        }
    }
}

/// Forgets the penalties of a route.
pub(crate) async fn resume_route(shared: &Arc<Shared>, number: u64) -> Reply {
    let route = RouteId::new(number);
    let resumed = shared
        .engine
        .ask(move |engine, now| engine.resume_route(now, Some(route)));
    match resumed.await {
        Some(true) => {
            tracing::info!("route {number} resumed");
            Reply::Done
        }
        Some(false) => Reply::Fail {
            reason: format!("no such route: {number}; smtpctl show routes lists them"),
        },
        None => ending(),
    }
}

/// Keeps a local address and a domain apart, or lets them together again; durable like all pauses.
pub(crate) async fn block(
    shared: &Arc<Shared>,
    source: IpAddr,
    domain: String,
    blocked: bool,
) -> Reply {
    let domain = domain.to_lowercase();
    let verb = if blocked { "paused" } else { "resumed" };
    match shared.block(source, &domain, blocked).await {
        Ok(Some(true)) => {
            let domain = crate::log::Shown(&domain);
            tracing::info!("mta {verb} from {source} for {domain}");
            Reply::Done
        }
        Ok(Some(false)) if blocked => Reply::Fail {
            reason: format!("paused already, or too many are: from {source} for {domain}"),
        },
        Ok(Some(false)) => Reply::Fail {
            reason: format!("not paused: from {source} for {domain}"),
        },
        Ok(None) => ending(),
        Err(error) => fail(&error),
    }
}

/// Says where an envelope is, and what it waits for.
pub(crate) async fn explain(shared: &Arc<Shared>, id: EnvelopeId) -> Reply {
    let envelope = match read(shared, move |reader| reader.envelope(id)).await {
        Ok(Some(envelope)) => envelope,
        Ok(None) => return Reply::Unknown,
        Err(error) => return fail(&error),
    };
    let explained = shared
        .engine
        .ask(move |engine, now| engine.explain(now, &envelope));
    match explained.await {
        Some(Some(explanation)) => Reply::Explanation(Box::new(explanation)),
        Some(None) => Reply::Unknown,
        None => ending(),
    }
}
