//! Relaying as listings show it.

use super::connector::Flag;
use super::domain::{Answer, DomainKey};
use super::route::{Route, RouteKey};
use super::session::{Session, State};
use super::{Counts, HostStat, Lookup, Mta, RelayId, RelayState, SessionId};
use crate::envelope::{Delivery, Envelope, Relay};
use crate::id::EnvelopeId;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::time::Instant;

/// A relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayRow {
    /// Its number.
    pub id: RelayId,
    /// Policy.
    pub relay: Relay,
    /// Domain, or the smart host's name.
    pub domain: Box<str>,
    /// Whether the domain is a host, found without MX.
    pub as_host: bool,
    /// Messages waiting.
    pub tasks: usize,
    /// Connections.
    pub sessions: usize,
    /// When the last connection was opened.
    pub last_connect: Option<Instant>,
    /// When it may go on, if it waits for a time.
    pub until: Option<Instant>,
    /// Whether it waits for the DNS.
    pub resolving: bool,
    /// Whether it waits for a place or a time to connect.
    pub waiting: bool,
    /// Whether envelopes for it are held.
    pub on_hold: bool,
    /// Its connectors, in order of their sources.
    pub connectors: Vec<ConnectorRow>,
}

/// A host that a relay does not use now, for want of proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BarredRow {
    /// Its address.
    pub address: IpAddr,
    /// Its name among the exchangers, or empty.
    pub name: Box<str>,
    /// When it may be used again.
    pub until: Instant,
    /// What it did not prove or offer.
    pub failure: Box<str>,
}

/// A connector of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorRow {
    /// Local address; `None` if the system chooses.
    pub source: Option<IpAddr>,
    /// Connections.
    pub sessions: usize,
    /// When the last connection was opened.
    pub last_connect: Option<Instant>,
    /// When it may connect next, if it waits for a time.
    pub until: Option<Instant>,
    /// What keeps it from connecting.
    pub flags: Vec<Flag>,
}

/// Where relaying has an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    Absent,
    /// It waits for a connection.
    Waiting,
    /// It is being sent.
    Sending(SessionId),
}

/// A remote host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// Its address.
    pub address: IpAddr,
    /// The name under which it was found.
    pub name: Box<str>,
    /// Connections.
    pub sessions: usize,
    /// Exchangers and routes it is part of.
    pub refcount: usize,
    /// When the last connection was opened.
    pub last_connect: Option<Instant>,
}

impl Mta {
    /// Relays behind one, in order of their numbers.
    pub fn relays(&self, after: Option<RelayId>) -> impl Iterator<Item = RelayRow> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let relays = self.relays.range((start, Bound::Unbounded));
        relays.map(|(id, relay)| self.relay_row(*id, relay))
    }

    /// The row of one relay.
    fn relay_row(&self, id: RelayId, relay: &RelayState) -> RelayRow {
        let domain = self.domains.get(&relay.key.domain);
        let connectors = relay.connectors.iter();
        let connectors: Vec<_> = connectors
            .map(|(source, connector)| ConnectorRow {
                source: *source,
                sessions: connector.sessions,
                last_connect: connector.last_connect,
                until: connector.until,
                flags: connector.flags.iter().collect(),
            })
            .collect();
        let waits = |row: &ConnectorRow| row.flags.contains(&Flag::Wait);
        RelayRow {
            id,
            relay: Relay::clone(&relay.key.relay),
            domain: relay.key.domain.name.clone(),
            as_host: relay.key.domain.lookup == Lookup::Host,
            tasks: relay.tasks.len(),
            sessions: relay.connections(),
            last_connect: relay.last_connect,
            until: relay.until,
            resolving: domain.is_some_and(|domain| matches!(domain.answer, Answer::Asked)),
            waiting: relay.demand() > 0 && connectors.iter().any(waits),
            on_hold: relay.pressure.is_on_hold(),
            connectors,
        }
    }

    /// Where an envelope is.
    pub fn place(&self, id: EnvelopeId) -> Place {
        if self.waiting.contains_key(&id) {
            return Place::Waiting;
        }
        let sends = |session: &Session| match &session.state {
            State::Sending(task) => task.envelopes.iter().any(|envelope| envelope.id == id),
            _ => false,
        };
        let sending = self.sessions.iter().find(|(_, session)| sends(session));
        sending.map_or(Place::Absent, |(id, _)| Place::Sending(*id))
    }

    /// The relay an envelope would use, if it is in memory.
    pub fn relay_for(&self, envelope: &Envelope) -> Option<RelayRow> {
        let Delivery::Mta(relay) = &envelope.delivery else {
            return None;
        };
        let id = self.known_relay(relay, &DomainKey::of(relay, envelope))?;
        let relay = self.relays.get(&id)?;
        Some(self.relay_row(id, relay))
    }

    /// The routes between a relay's connectors and its exchangers, as many as there may be
    /// addresses.
    pub fn routes_of(&self, id: RelayId) -> Vec<&Route> {
        let Some(relay) = self.relays.get(&id) else {
            return Vec::new();
        };
        let domain = self.domains.get(&relay.key.domain);
        let list = domain.map_or(&[][..], |domain| domain.exchangers());
        let port = relay.port();
        let keys = relay.connectors.keys().flat_map(|source| {
            let source = *source;
            list.iter().map(move |mx| RouteKey {
                source,
                target: SocketAddr::new(mx.address, port),
            })
        });
        let routes = keys.filter_map(|key| self.routes.get(key));
        routes.take(self.limits.mta.addresses).collect()
    }

    /// The hosts that a relay does not use now, for want of proof, in order of their addresses.
    pub fn barred_of(&self, now: Instant, id: RelayId) -> Vec<BarredRow> {
        let Some(relay) = self.relays.get(&id) else {
            return Vec::new();
        };
        let domain = self.domains.get(&relay.key.domain);
        let list = domain.map_or(&[][..], |domain| domain.exchangers());
        let rows = relay.barred.all(now).map(|(address, until, failure)| {
            let mx = list.iter().find(|mx| mx.address == address);
            BarredRow {
                address,
                name: mx.map(|mx| mx.name.clone()).unwrap_or_default(),
                until,
                failure: failure.text.clone(),
            }
        });
        rows.take(self.limits.mta.addresses).collect()
    }

    /// Routes behind one, in order of their sources and targets.
    pub fn routes(&self, after: Option<RouteKey>) -> impl Iterator<Item = &Route> {
        self.routes.after(after)
    }

    /// Remote hosts behind one, in order of their addresses.
    pub fn hosts(&self, after: Option<IpAddr>) -> impl Iterator<Item = HostRow> {
        self.routes.hosts(after)
    }

    /// What recipient domains behind one said last, in order.
    pub fn hoststats(&self, after: Option<&str>) -> impl Iterator<Item = HostStat> {
        self.hoststats.after(after)
    }

    /// Sessions open.
    pub fn sessions_len(&self) -> usize {
        self.sessions.len()
    }

    /// Relays, domains, hosts, sources, connectors and routes in memory.
    pub fn sizes(&self) -> [usize; 6] {
        [
            self.relays.len(),
            self.domains.len(),
            self.routes.hosts_len(),
            self.sources.len(),
            self.connectors,
            self.routes.len(),
        ]
    }

    /// Messages waiting and being sent.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Envelopes waiting or being sent.
    pub fn envelopes(&self) -> usize {
        self.waiting.len() + self.counts.sending
    }
}
