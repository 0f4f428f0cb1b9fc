//! Routes: addresses and ports we connect to, and how they have behaved.
//!
//! Promises: a route that could not be used is disabled for `15 s * p^2`, at most an hour, where
//! `p` counts failures; the first success clears that, and time forgives it one by one. A route that
//! has not yet worked gets one connection at a time.

use super::domain::Mx;
use super::{Gate, HostRow};
use crate::limits::MtaLimits;
use crate::queue::Failure;
use crate::reply::Status;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Number of a route; counts up from 1, and is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteId(u64);

impl RouteId {
    /// The route with this number, which need not exist.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A way to a host.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its number.
    pub id: RouteId,
    /// Address and port.
    pub target: SocketAddr,
    /// Name of the host.
    pub name: Box<str>,
    /// Whether nothing ever worked over it, or not since it was disabled.
    pub fresh: bool,
    /// If disabled, until when.
    pub disabled: Option<Instant>,
    /// Failures that have not been forgiven.
    pub penalty: u32,
    /// Connections.
    pub sessions: usize,
    /// Whether it refused another connection while it had some, and is not to be asked for more
    /// until the timer.
    pub crowded: bool,
    /// When it is looked at next: to enable it, to forgive a failure, or to forget it.
    pub timer: Option<Instant>,
    failure: Option<(Instant, Failure)>,
}

#[derive(Debug)]
struct Host {
    name: Box<str>,
    sessions: usize,
    last_connect: Option<Instant>,
}

/// Which route to take.
#[derive(Debug)]
pub(super) enum Choice {
    /// This one.
    Take(Mx),
    /// None now: those that could be taken have as many connections as they may.
    Busy(Vec<Gate>),
    /// None: all are disabled. The last failure, and when it was.
    Down(Failure),
}

/// All routes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    targets: BTreeMap<SocketAddr, Route>,
    hosts: BTreeMap<IpAddr, Host>,
    last: u64,
}

impl Routes {
    /// The route with the fewest connections among those of the best preference that has any
    /// usable one. A busy exchanger is waited for; only a disabled one gives way to the next.
    pub(super) fn choose(&self, addresses: &[Mx], port: u16, limits: &MtaLimits) -> Choice {
        for level in addresses.chunk_by(|a, b| a.preference == b.preference) {
            let (mut best, mut busy): (Option<(usize, &Mx)>, _) = (None, Vec::new());
            for mx in level {
                let route = self.targets.get(&SocketAddr::new(mx.address, port));
                let sessions = route.map_or(0, |route| route.sessions);
                let host = self.hosts.get(&mx.address).map_or(0, |host| host.sessions);
                if route.is_some_and(|route| route.disabled.is_some()) {
                    continue;
                }
                let full = |r: &Route| r.sessions > 0 && (r.fresh || r.crowded);
                if route.is_some_and(full) || host >= limits.connections_per_host {
                    busy.push(Gate::Host(mx.address));
                } else if best.is_none_or(|(fewest, _)| sessions < fewest) {
                    best = Some((sessions, mx));
                }
            }
            if let Some((_, mx)) = best {
                return Choice::Take(mx.clone());
            }
            if !busy.is_empty() {
                return Choice::Busy(busy);
            }
        }
        Choice::Down(self.cause(addresses, port))
    }

    /// Why none of these addresses can be used: what the last connection failed of.
    fn cause(&self, addresses: &[Mx], port: u16) -> Failure {
        let routes = addresses
            .iter()
            .filter_map(|mx| self.targets.get(&SocketAddr::new(mx.address, port)));
        let last = routes
            .filter_map(|route| route.failure.as_ref())
            .max_by_key(|(at, _)| *at);
        match last {
            Some((_, failure)) => failure.clone(),
            None if addresses.is_empty() => {
                Failure::new(Status::transient(4, 4), "No MX found for destination")
            }
            None => network_error(),
        }
    }

    /// A connection is being opened.
    pub(super) fn opened(&mut self, now: Instant, mx: &Mx, port: u16) -> SocketAddr {
        let target = SocketAddr::new(mx.address, port);
        let route = self.targets.entry(target).or_insert_with(|| {
            self.last += 1;
            Route {
                id: RouteId(self.last),
                target,
                name: mx.name.clone(),
                fresh: true,
                disabled: None,
                penalty: 0,
                sessions: 0,
                crowded: false,
                timer: None,
                failure: None,
            }
        });
        route.sessions += 1;
        route.name.clone_from(&mx.name);
        let host = self.hosts.entry(mx.address).or_insert_with(|| Host {
            name: mx.name.clone(),
            sessions: 0,
            last_connect: None,
        });
        host.sessions += 1;
        host.last_connect = Some(now);
        target
    }

    /// A connection is ready: the route works.
    pub(super) fn proved(&mut self, target: SocketAddr) {
        if let Some(route) = self.targets.get_mut(&target) {
            route.fresh = false;
            route.penalty = 0;
            route.failure = None;
        }
    }

    /// A connection never became ready. Gives the time at which the route wants attention.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        target: SocketAddr,
        failure: Failure,
        limits: &MtaLimits,
    ) -> Option<Instant> {
        let route = self.targets.get_mut(&target)?;
        route.failure = Some((now, failure));
        if route.sessions > 1 {
            // It works for others at this moment: it only wants no more of us.
            route.crowded = true;
            route.timer = now.checked_add(limits.route_penalty);
            return route.timer;
        }
        route.penalty = route.penalty.saturating_add(1);
        let until = now.checked_add(penalty(route.penalty, limits))?;
        route.disabled = Some(until);
        route.timer = Some(until);
        route.timer
    }

    /// A connection is over.
    pub(super) fn closed(&mut self, target: SocketAddr) {
        if let Some(route) = self.targets.get_mut(&target) {
            route.sessions = route.sessions.saturating_sub(1);
        }
        if let Some(host) = self.hosts.get_mut(&target.ip()) {
            host.sessions = host.sessions.saturating_sub(1);
        }
        self.drop_if_unused(target);
    }

    /// A route's time has come; gives the next one.
    pub(super) fn timer(
        &mut self,
        at: Instant,
        target: SocketAddr,
        limits: &MtaLimits,
    ) -> Option<Instant> {
        let route = self.targets.get_mut(&target)?;
        if route.timer != Some(at) {
            return None;
        }
        route.crowded = false;
        if route.disabled.take().is_some() {
            route.fresh = true;
        } else {
            route.penalty = route.penalty.saturating_sub(1);
        }
        route.timer = if route.penalty == 0 {
            None
        } else {
            at.checked_add(penalty(route.penalty, limits))
        };
        let next = route.timer;
        self.drop_if_unused(target);
        next
    }

    /// Forgets the penalties of one route or of all.
    pub(super) fn resume(&mut self, id: Option<RouteId>) {
        let concerned = |route: &&mut Route| id.is_none_or(|id| route.id == id);
        for route in self.targets.values_mut().filter(concerned) {
            route.disabled = None;
            route.penalty = 0;
            route.crowded = false;
            route.timer = None;
            route.failure = None;
        }
        let targets: Vec<_> = self.targets.keys().copied().collect();
        for target in targets {
            self.drop_if_unused(target);
        }
    }

    /// `IP (name)` of a target, for the log.
    pub(super) fn label(&self, target: SocketAddr) -> Box<str> {
        let name = self.targets.get(&target).map_or("", |route| &route.name);
        format!("{} ({name})", target.ip()).into()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.targets.values()
    }

    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    pub(super) fn hosts_len(&self) -> usize {
        self.hosts.len()
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = HostRow> {
        self.hosts.iter().map(|(address, host)| HostRow {
            address: *address,
            name: host.name.clone(),
            sessions: host.sessions,
            routes: self.routes_to(*address),
            last_connect: host.last_connect,
        })
    }

    pub(super) fn host_sessions(&self, address: IpAddr) -> usize {
        self.hosts.get(&address).map_or(0, |host| host.sessions)
    }

    fn routes_to(&self, address: IpAddr) -> usize {
        let first = SocketAddr::new(address, 0);
        let last = SocketAddr::new(address, u16::MAX);
        self.targets.range(first..=last).count()
    }

    fn drop_if_unused(&mut self, target: SocketAddr) {
        let unused = |route: &Route| route.sessions == 0 && route.timer.is_none();
        if self.targets.get(&target).is_some_and(unused) {
            self.targets.remove(&target);
        }
        if self.host_sessions(target.ip()) == 0 && self.routes_to(target.ip()) == 0 {
            self.hosts.remove(&target.ip());
        }
    }
}

/// The failure of a connection we know nothing else about.
pub(super) fn network_error() -> Failure {
    Failure::new(Status::transient(4, 1), "Network error on destination MXs")
}

/// How long a route is disabled after its `n`th failure in a row.
fn penalty(n: u32, limits: &MtaLimits) -> Duration {
    let square = n.saturating_mul(n);
    limits
        .route_penalty
        .saturating_mul(square)
        .min(limits.route_penalty_max)
}
