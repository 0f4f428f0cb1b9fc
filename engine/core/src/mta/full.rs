//! Which limits keep a relay from opening another connection, with their numbers.

use super::connector::{Connector, Flag};
use super::route::{Route, RouteKey};
use super::{Gate, Mta, RelayId, RelayState};
use crate::control::Limit;
use crate::limits::MtaLimits;
use std::net::{IpAddr, SocketAddr};

/// A limit, how much of it is used, and how much may be.
pub type Full = (Limit, usize, usize);

impl Mta {
    /// The limits that were in the way when a relay last wanted a connection, as they are now.
    pub fn full(&self, id: RelayId) -> Vec<Full> {
        let Some(relay) = self.relays.get(&id) else {
            return Vec::new();
        };
        let mut full = Vec::new();
        for (source, connector) in &relay.connectors {
            for flag in connector.flags.iter() {
                let found = self.full_one(id, relay, (*source, connector), flag);
                full.extend(found.filter(|found| !full.contains(found)));
            }
        }
        full
    }

    /// The messages that wait for a relay, of how many from which on more are held.
    pub fn tasks_full(&self, id: RelayId) -> Option<Full> {
        let relay = self.relays.get(&id)?;
        let limits = self.limits.mta_for(&relay.key.domain.name);
        let most = if relay.probing {
            limits.task_hiwat.min(limits.probing_tasks)
        } else {
            limits.task_hiwat
        };
        Some((Limit::RelayTasks, relay.tasks.len(), most))
    }

    fn full_one(
        &self,
        id: RelayId,
        relay: &RelayState,
        (source, connector): (Option<IpAddr>, &Connector),
        flag: Flag,
    ) -> Option<Full> {
        let limits = self.limits.mta_for(&relay.key.domain.name);
        match flag {
            Flag::LimitRelay => {
                let used = relay.connections();
                Some((Limit::Relay, used, limits.connections_per_relay))
            }
            Flag::LimitDomain => {
                let domain = self.domains.get(&relay.key.domain)?;
                let limit = Limit::Domain(relay.key.domain.name.clone().into());
                Some((limit, domain.sessions, limits.connections_per_domain))
            }
            Flag::LimitConnector => {
                let used = connector.sessions;
                let most = limits.connections_per_connector;
                Some((Limit::Connector(source), used, most))
            }
            Flag::LimitSource => {
                let from = self.sources.get(&source)?;
                // The same flag stands for a part of the places.
                let probe = self.gates.get(&Gate::Probe(source));
                Some(if probe.is_some_and(|line| line.has(id)) {
                    let most = super::open::probes_most(limits);
                    (Limit::Probes(source), from.probes, most)
                } else {
                    let most = limits.connections_per_source;
                    (Limit::Source(source), from.sessions, most)
                })
            }
            Flag::LimitRoute => {
                let routes = self.ways(relay, source);
                let route = routes.max_by_key(|route| route.sessions)?;
                Some(full_route(route, limits))
            }
            Flag::LimitHost => {
                let ways = self.ways(relay, source);
                let hosts = ways.map(|route| route.key.target.ip());
                let host = hosts.max_by_key(|host| self.routes.host_sessions(*host))?;
                let used = self.routes.host_sessions(host);
                Some((Limit::Host(host), used, limits.connections_per_host))
            }
            Flag::New
            | Flag::Wait
            | Flag::ErrorFamily
            | Flag::ErrorSource
            | Flag::ErrorMx
            | Flag::ErrorRouteNet
            | Flag::ErrorRouteSmtp
            | Flag::ErrorBlocked => None,
        }
    }

    /// The routes a relay knows from one source.
    fn ways(&self, relay: &RelayState, source: Option<IpAddr>) -> impl Iterator<Item = &Route> {
        let domain = self.domains.get(&relay.key.domain);
        let list = domain.map_or(&[][..], |domain| domain.exchangers());
        let port = relay.port();
        let keys = list.iter().map(move |mx| RouteKey {
            source,
            target: SocketAddr::new(mx.address, port),
        });
        keys.filter_map(|key| self.routes.get(key))
    }
}

fn full_route(route: &Route, limits: &MtaLimits) -> Full {
    let (source, target) = (route.key.source, route.key.target.ip());
    if route.crowded && route.sessions < limits.connections_per_route {
        let limit = Limit::Crowded { source, target };
        return (limit, route.sessions, route.sessions);
    }
    let most = limits.connections_per_route;
    (Limit::Route { source, target }, route.sessions, most)
}
