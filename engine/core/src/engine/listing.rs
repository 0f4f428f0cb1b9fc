//! The state of relaying as rows for smtpctl, page by page.
//!
//! Promises: a page costs what it shows; rows that come or go between two pages do not disturb the
//! others.

use super::Engine;
use crate::control::{
    ConnectorRow, HostRow, HostStatRow, MtaListing, MtaRow, RelayRow, RelayWait, RouteRow,
};
use crate::mta::{self, RelayId, Route, RouteKey};
use crate::time::Now;
use std::ops::Bound;
use std::time::Instant;

impl Engine {
    /// Up to `most` rows of a listing, those after a row of the page before.
    pub fn mta_rows(
        &self,
        now: Now,
        listing: MtaListing,
        after: Option<&MtaRow>,
        most: usize,
    ) -> Vec<MtaRow> {
        match (listing, after) {
            (MtaListing::Relays, after) => {
                let after = match after {
                    Some(MtaRow::Relay(row)) => Some(RelayId::new(row.id)),
                    _ => None,
                };
                let rows = self.mta.relays(after).take(most);
                rows.map(|row| MtaRow::Relay(Box::new(relay(now, row))))
                    .collect()
            }
            (MtaListing::Routes, after) => {
                let after = match after {
                    Some(MtaRow::Route(row)) => Some(RouteKey {
                        source: row.source,
                        target: row.target,
                    }),
                    _ => None,
                };
                let rows = self.mta.routes(after).take(most);
                rows.map(|row| MtaRow::Route(Box::new(route(now, row))))
                    .collect()
            }
            (MtaListing::Hosts, after) => {
                let after = match after {
                    Some(MtaRow::Host(row)) => Some(row.address),
                    _ => None,
                };
                let rows = self.mta.hosts(after).take(most);
                rows.map(|row| MtaRow::Host(host(now, row))).collect()
            }
            (MtaListing::HostStats, after) => {
                let after = match after {
                    Some(MtaRow::HostStat(row)) => Some(&*row.domain),
                    _ => None,
                };
                let rows = self.mta.hoststats(after).take(most);
                rows.map(|row| {
                    MtaRow::HostStat(HostStatRow {
                        domain: row.domain.into(),
                        at: row.at.as_secs(),
                        text: row.text.into(),
                    })
                })
                .collect()
            }
            (MtaListing::Blocked, after) => {
                let after = match after {
                    Some(MtaRow::Blocked { source, domain }) => {
                        Bound::Excluded((*source, Box::from(domain.as_str())))
                    }
                    _ => Bound::Unbounded,
                };
                let rows = self.mta.blocks().range((after, Bound::Unbounded));
                rows.take(most).map(MtaRow::from).collect()
            }
        }
    }
}

pub(super) fn relay(now: Now, row: mta::RelayRow) -> RelayRow {
    let connectors: Vec<_> = row
        .connectors
        .into_iter()
        .map(|c| connector(now, c))
        .collect();
    let waits = [
        (row.resolving, RelayWait::Mx),
        (row.waiting, RelayWait::Connector),
    ];
    let waits = waits
        .into_iter()
        .filter_map(|(is, wait)| is.then_some(wait));
    let held = row.sessions + row.tasks + usize::from(row.resolving);
    RelayRow {
        id: row.id.get(),
        refcount: count(held),
        tasks: count(row.tasks),
        sessions: count(row.sessions),
        last_connect: row.last_connect.map(|at| date(now, at)),
        until: row.until.map(|at| date(now, at)),
        waits: waits.collect(),
        on_hold: row.on_hold,
        connectors,
        ..RelayRow::new(&row.relay, row.domain.into(), row.as_host)
    }
}

fn connector(now: Now, row: mta::ConnectorRow) -> ConnectorRow {
    ConnectorRow {
        source: row.source,
        sessions: count(row.sessions),
        last_connect: row.last_connect.map(|at| date(now, at)),
        until: row.until.map(|at| date(now, at)),
        flags: row.flags,
    }
}

pub(super) fn route(now: Now, row: &Route) -> RouteRow {
    RouteRow {
        id: row.id.get(),
        source: row.key.source,
        target: row.key.target,
        name: row.name.clone().into(),
        fresh: row.fresh,
        disabled: row.disabled.is_some(),
        sessions: count(row.sessions),
        penalty: row.penalty.into(),
        until: row.timer.map(|at| date(now, at)),
        tls: row.tls.clone().into(),
        failure: row.last_failure().unwrap_or_default().into(),
    }
}

fn host(now: Now, row: mta::HostRow) -> HostRow {
    HostRow {
        address: row.address,
        name: row.name.into(),
        refcount: count(row.refcount),
        sessions: count(row.sessions),
        last_connect: row.last_connect.map(|at| date(now, at)),
    }
}

pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// The date of an instant, in seconds since the epoch. A wait that has begun to pass still counts
/// as a whole second.
pub(super) fn date(now: Now, at: Instant) -> u64 {
    let wall = now.wall.as_secs();
    match at.checked_duration_since(now.mono) {
        Some(ahead) => {
            let whole = ahead.as_secs() + u64::from(ahead.subsec_nanos() > 0);
            wall.saturating_add(whole)
        }
        None => wall.saturating_sub(now.mono.duration_since(at).as_secs()),
    }
}
