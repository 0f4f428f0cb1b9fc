//! Routes: ways from a local address to a host, and how they have behaved.
//!
//! Promises: a route that could not be used is disabled for `15 s * p^2` and up to a tenth more, at
//! most an hour, where `p` counts failures; accepted mail clears that, and time forgives it one by
//! one. A route that has not yet worked, or not since it was disabled, gets one connection at a
//! time. No limit on connections or on the time between them is passed over. Such first connections,
//! where a failure is to be expected, are probes: they share a part of a source's places.

use super::barred::Barred;
use super::connector::Flags;
use super::domain::Mx;
use super::{Flag, Gate, HostRow};
use crate::limits::{Delays, MtaLimits};
use crate::queue::Failure;
use crate::reply::Status;
use crate::rng::Rng;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
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

/// The two ends of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// Local address; `None` if the system chooses.
    pub source: Option<IpAddr>,
    /// Remote address and port.
    pub target: SocketAddr,
}

/// A way to a host.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its number.
    pub id: RouteId,
    /// Where from and where to.
    pub key: RouteKey,
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
    /// TLS of the last connection that became ready: version, cipher suite, bits, validity; empty
    /// if it was in clear text, or if there was none.
    pub tls: Box<str>,
    /// Whether it refused another connection while it had some, and is not to be asked for more
    /// until the timer.
    pub crowded: bool,
    /// When it is looked at next: to enable it, to forgive a failure, or to forget it.
    pub timer: Option<Instant>,
    failure: Option<(Instant, Trouble, Failure)>,
    last_connect: Option<Instant>,
    last_disconnect: Option<Instant>,
    /// Until when its dates matter to somebody.
    keep: Option<Instant>,
}

/// What kind of failure a route had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No connection became ready.
    Net,
    /// The host said so, or broke off, after all was ready.
    Smtp,
}

#[derive(Debug)]
struct Host {
    name: Box<str>,
    sessions: usize,
    routes: usize,
    exchangers: usize,
    last_connect: Option<Instant>,
}

/// What a relay wants to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) now: Instant,
    pub(super) source: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) limits: &'a MtaLimits,
    pub(super) delays: Delays,
    /// Whether the mail has failed before.
    pub(super) again: bool,
    /// Whether the source has as many probes as it may.
    pub(super) no_probes: bool,
    /// Hosts that are out of the question for this relay.
    pub(super) barred: &'a Barred,
}

/// Which route to take.
#[derive(Debug)]
pub(super) enum Choice {
    /// This one.
    Take(Mx),
    /// None now.
    Wait(Waits),
    /// None, and waiting does not help: why, and with which words.
    Down(Flag, Failure),
}

/// What to wait for.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Places that may become free.
    pub(super) gates: Vec<Gate>,
    /// The earliest time at which a delay is over.
    pub(super) until: Option<Instant>,
    /// What is in the way.
    pub(super) flags: Flags,
}

impl Waits {
    pub(super) fn is_empty(&self) -> bool {
        self.gates.is_empty() && self.until.is_none()
    }

    pub(super) fn at(&mut self, gate: Gate, flag: Option<Flag>) {
        self.gates.push(gate);
        self.flags = self.flags.and(flag.map_or(Flags::default(), Flags::only));
    }

    pub(super) fn until(&mut self, at: Instant) {
        self.until = Some(self.until.map_or(at, |until| until.min(at)));
    }

    pub(super) fn add(&mut self, other: Self) {
        self.gates.extend(other.gates);
        self.flags = self.flags.and(other.flags);
        if let Some(at) = other.until {
            self.until(at);
        }
    }
}

/// The end of a delay that began at `last`, if it is not over.
pub(super) fn end_of(last: Option<Instant>, delay: Duration, now: Instant) -> Option<Instant> {
    last?.checked_add(delay).filter(|end| now < *end)
}

/// All routes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    ways: BTreeMap<RouteKey, Box<Route>>,
    numbers: BTreeMap<RouteId, RouteKey>,
    hosts: BTreeMap<IpAddr, Host>,
    last: u64,
}

impl Routes {
    /// The route with the fewest connections among those of the best preference that has any
    /// usable one. The next preference gets its turn when all routes of the better one are
    /// disabled, or have as many connections as they may; not for a mere delay, and not while a
    /// route is being proved.
    pub(super) fn choose(&self, addresses: &[Mx], ask: &Ask<'_>) -> Choice {
        let (mut waits, mut mismatch, mut disabled) = (Waits::default(), false, false);
        let mut barred = None;
        for level in addresses.chunk_by(|a, b| a.preference == b.preference) {
            let (mut best, mut soon): (Option<(usize, &Mx)>, _) = (None, false);
            for mx in level {
                let target = SocketAddr::new(mx.address, ask.port);
                let source = ask.source;
                let key = RouteKey { source, target };
                let route = self.get(key);
                if !ask.suits(mx.address) {
                    mismatch = true;
                } else if let Some(failure) = ask.barred.why(ask.now, mx.address) {
                    barred = Some(failure);
                } else if route.is_some_and(|route| route.disabled.is_some()) {
                    disabled = true;
                } else {
                    let host = self.hosts.get(&mx.address);
                    match obstacle(ask, key, host, route) {
                        None => {
                            let sessions = route.map_or(0, |route| route.sessions);
                            if best.is_none_or(|(fewest, _)| sessions < fewest) {
                                best = Some((sessions, mx));
                            }
                        }
                        Some(Obstacle::Limit(gate, flag)) => waits.at(gate, Some(flag)),
                        Some(Obstacle::Proving(gate)) => {
                            waits.at(gate, None);
                            soon = true;
                        }
                        Some(Obstacle::Delay(end)) => {
                            waits.until(end);
                            soon = true;
                        }
                    }
                }
            }
            if let Some((_, mx)) = best {
                return Choice::Take(mx.clone());
            }
            if soon {
                break;
            }
        }
        match barred {
            _ if !waits.is_empty() => Choice::Wait(waits),
            // It says more than what is wrong with the others.
            Some(failure) => Choice::Down(Flag::ErrorRouteSmtp, failure.clone()),
            None => self.down(addresses, ask, disabled, mismatch),
        }
    }

    /// Why none of these addresses can be used: what the last connection failed of.
    fn down(&self, addresses: &[Mx], ask: &Ask<'_>, disabled: bool, mismatch: bool) -> Choice {
        let key = |mx: &Mx| RouteKey {
            source: ask.source,
            target: SocketAddr::new(mx.address, ask.port),
        };
        let routes = addresses.iter().filter_map(|mx| self.ways.get(&key(mx)));
        let failures: Vec<_> = routes.filter_map(|route| route.failure.as_ref()).collect();
        let smtp = failures.iter().any(|(_, kind, _)| *kind == Trouble::Smtp);
        let last = failures.into_iter().max_by_key(|(at, ..)| *at);
        match last {
            Some((.., failure)) if disabled => {
                let flag = if smtp {
                    Flag::ErrorRouteSmtp
                } else {
                    Flag::ErrorRouteNet
                };
                Choice::Down(flag, failure.clone())
            }
            _ if mismatch => Choice::Down(
                Flag::ErrorFamily,
                Failure::new(
                    Status::transient(4, 4),
                    "Address family mismatch on destination MXs",
                ),
            ),
            _ if addresses.is_empty() => Choice::Down(
                Flag::ErrorMx,
                Failure::new(Status::transient(4, 4), "No MX found for destination"),
            ),
            _ => Choice::Down(Flag::ErrorRouteNet, network_error()),
        }
    }

    /// What the last connection to one of these addresses failed of, and when.
    pub(super) fn last_failure(
        &self,
        addresses: &[Mx],
        source: Option<IpAddr>,
        port: u16,
    ) -> Option<(Instant, Failure)> {
        let route = |mx: &Mx| {
            let target = SocketAddr::new(mx.address, port);
            self.ways
                .get(&RouteKey { source, target })?
                .failure
                .as_ref()
        };
        let last = addresses
            .iter()
            .filter_map(route)
            .max_by_key(|(at, ..)| *at);
        last.map(|(at, _, failure)| (*at, failure.clone()))
    }

    /// When the first disabled route to one of these addresses is enabled again.
    pub(super) fn back(
        &self,
        addresses: &[Mx],
        source: Option<IpAddr>,
        port: u16,
    ) -> Option<Instant> {
        let route = |mx: &Mx| {
            let target = SocketAddr::new(mx.address, port);
            self.ways.get(&RouteKey { source, target })?.disabled
        };
        addresses.iter().filter_map(route).min()
    }

    /// Whether a connection to this address may well fail: the last one did, or the mail has failed
    /// before and nothing is known of the route.
    pub(super) fn is_probe(&self, ask: &Ask<'_>, mx: &Mx) -> bool {
        let (source, target) = (ask.source, SocketAddr::new(mx.address, ask.port));
        is_probe(ask, self.get(RouteKey { source, target }))
    }

    /// A connection is being opened.
    pub(super) fn opened(&mut self, ask: &Ask<'_>, mx: &Mx) -> RouteKey {
        let (source, target) = (ask.source, SocketAddr::new(mx.address, ask.port));
        let key = RouteKey { source, target };
        let host = host_entry(&mut self.hosts, mx);
        let route = self.ways.entry(key).or_insert_with(|| {
            self.last += 1;
            host.routes += 1;
            let id = RouteId(self.last);
            self.numbers.insert(id, key);
            Box::new(Route {
                id,
                key,
                name: mx.name.clone(),
                fresh: true,
                disabled: None,
                penalty: 0,
                sessions: 0,
                tls: Box::default(),
                crowded: false,
                timer: None,
                failure: None,
                last_connect: None,
                last_disconnect: None,
                keep: None,
            })
        });
        host.sessions += 1;
        host.last_connect = Some(ask.now);
        route.sessions += 1;
        route.last_connect = Some(ask.now);
        route.name.clone_from(&mx.name);
        let delay = ask.delays.route.max(ask.limits.connect_delay_host);
        route.keep_until(ask.now.checked_add(delay));
        key
    }

    /// A connection is ready: the route works.
    pub(super) fn proved(&mut self, key: RouteKey, tls: Box<str>) {
        if let Some(route) = self.ways.get_mut(&key) {
            route.fresh = false;
            route.tls = tls;
        }
    }

    /// Mail was taken: all is forgiven.
    pub(super) fn accepted(&mut self, key: RouteKey) {
        if let Some(route) = self.ways.get_mut(&key) {
            route.penalty = 0;
            route.failure = None;
        }
    }

    /// A connection never became ready, or the host sent us away. Gives the time at which the
    /// route wants attention.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        key: RouteKey,
        (kind, failure): (Trouble, Failure),
        limits: &MtaLimits,
        rng: &mut Rng,
    ) -> Option<Instant> {
        let route = self.ways.get_mut(&key)?;
        route.failure = Some((now, kind, failure));
        if route.disabled.is_some() {
            // Sessions that were open when it was disabled fail of the same cause.
            return None;
        }
        if route.sessions > 1 {
            // It works for others at this moment: it only wants no more of us.
            route.crowded = true;
            route.timer = now.checked_add(jitter(limits.route_penalty, rng));
            return route.timer;
        }
        route.penalty = route.penalty.saturating_add(1);
        let until = now.checked_add(jitter(limits.penalty(route.penalty), rng))?;
        route.disabled = Some(until);
        route.timer = Some(until);
        route.timer
    }

    /// A connection is over. Gives the time at which the route wants attention.
    pub(super) fn closed(
        &mut self,
        now: Instant,
        key: RouteKey,
        reconnect: Duration,
    ) -> Option<Instant> {
        if let Some(host) = self.hosts.get_mut(&key.target.ip()) {
            host.sessions = host.sessions.saturating_sub(1);
        }
        let route = self.ways.get_mut(&key)?;
        route.sessions = route.sessions.saturating_sub(1);
        route.last_disconnect = Some(now);
        route.keep_until(now.checked_add(reconnect));
        if route.timer.is_none() {
            route.timer = route.keep.filter(|keep| now < *keep);
            let timer = route.timer;
            self.drop_if_unused(key);
            return timer;
        }
        None
    }

    /// A route's time has come; gives the next one.
    pub(super) fn timer(
        &mut self,
        at: Instant,
        key: RouteKey,
        limits: &MtaLimits,
    ) -> Option<Instant> {
        let route = self.ways.get_mut(&key)?;
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
            route.keep.filter(|keep| at < *keep && route.sessions == 0)
        } else {
            at.checked_add(limits.penalty(route.penalty).max(limits.route_memory))
        };
        let next = route.timer;
        self.drop_if_unused(key);
        next
    }

    /// Forgets the penalties of one route or of all; gives those concerned, each with the time at
    /// which it wants attention.
    pub(super) fn resume(
        &mut self,
        now: Instant,
        id: Option<RouteId>,
    ) -> Vec<(RouteKey, Option<Instant>)> {
        let keys: Vec<_> = match id {
            Some(id) => self.numbers.get(&id).copied().into_iter().collect(),
            None => self.ways.keys().copied().collect(),
        };
        let mut resumed = Vec::new();
        for key in keys {
            if let Some(route) = self.ways.get_mut(&key) {
                route.fresh |= route.disabled.take().is_some();
                route.penalty = 0;
                route.crowded = false;
                route.timer = route.keep.filter(|keep| now < *keep);
                route.failure = None;
                resumed.push((key, route.timer));
            }
            self.drop_if_unused(key);
        }
        resumed
    }

    /// `IP (name)` of a route's host, for the log.
    pub(super) fn get(&self, key: RouteKey) -> Option<&Route> {
        self.ways.get(&key).map(|route| &**route)
    }

    pub(super) fn after(&self, after: Option<RouteKey>) -> impl Iterator<Item = &Route> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.ways
            .range((start, Bound::Unbounded))
            .map(|(_, r)| &**r)
    }

    pub(super) fn len(&self) -> usize {
        self.ways.len()
    }

    pub(super) fn hosts_len(&self) -> usize {
        self.hosts.len()
    }

    pub(super) fn host_sessions(&self, address: IpAddr) -> usize {
        self.hosts.get(&address).map_or(0, |host| host.sessions)
    }

    pub(super) fn hosts(&self, after: Option<IpAddr>) -> impl Iterator<Item = HostRow> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let hosts = self.hosts.range((start, Bound::Unbounded));
        hosts.map(|(address, host)| HostRow {
            address: *address,
            name: host.name.clone(),
            sessions: host.sessions,
            refcount: host.routes + host.exchangers,
            last_connect: host.last_connect,
        })
    }

    /// These are exchangers of one more domain.
    pub(super) fn refer(&mut self, exchangers: &[Mx]) {
        for mx in exchangers {
            host_entry(&mut self.hosts, mx).exchangers += 1;
        }
    }

    /// These are exchangers of one domain less.
    pub(super) fn release(&mut self, exchangers: &[Mx]) {
        for mx in exchangers {
            if let Some(host) = self.hosts.get_mut(&mx.address) {
                host.exchangers = host.exchangers.saturating_sub(1);
            }
            self.drop_host_if_unused(mx.address);
        }
    }

    fn drop_if_unused(&mut self, key: RouteKey) {
        let unused = |route: &Route| route.sessions == 0 && route.timer.is_none();
        if self.get(key).is_some_and(unused)
            && let Some(route) = self.ways.remove(&key)
        {
            self.numbers.remove(&route.id);
            if let Some(host) = self.hosts.get_mut(&key.target.ip()) {
                host.routes = host.routes.saturating_sub(1);
            }
            self.drop_host_if_unused(key.target.ip());
        }
    }

    fn drop_host_if_unused(&mut self, address: IpAddr) {
        let unused = |host: &Host| host.sessions + host.routes + host.exchangers == 0;
        if self.hosts.get(&address).is_some_and(unused) {
            self.hosts.remove(&address);
        }
    }
}

/// What keeps a route from being taken now.
enum Obstacle {
    Limit(Gate, Flag),
    /// The first connection decides whether it works.
    Proving(Gate),
    Delay(Instant),
}

fn is_probe(ask: &Ask<'_>, route: Option<&Route>) -> bool {
    match route {
        None => ask.again,
        Some(route) => route.sessions == 0 && route.fresh && (ask.again || route.penalty > 0),
    }
}

fn obstacle(
    ask: &Ask<'_>,
    key: RouteKey,
    host: Option<&Host>,
    route: Option<&Route>,
) -> Option<Obstacle> {
    if let Some(host) = host {
        if host.sessions >= ask.limits.connections_per_host {
            return Some(Obstacle::Limit(
                Gate::Host(key.target.ip()),
                Flag::LimitHost,
            ));
        }
        let delay = ask.limits.connect_delay_host;
        if let Some(end) = end_of(host.last_connect, delay, ask.now) {
            return Some(Obstacle::Delay(end));
        }
    }
    if ask.no_probes && is_probe(ask, route) {
        return Some(Obstacle::Limit(Gate::Probe(ask.source), Flag::LimitSource));
    }
    let route = route?;
    if route.sessions > 0 && route.fresh {
        return Some(Obstacle::Proving(Gate::Route(key)));
    }
    let most = ask.limits.connections_per_route;
    if route.sessions >= most || (route.sessions > 0 && route.crowded) {
        return Some(Obstacle::Limit(Gate::Route(key), Flag::LimitRoute));
    }
    let connect = end_of(route.last_connect, ask.delays.route, ask.now);
    let reconnect = end_of(route.last_disconnect, ask.delays.reconnect, ask.now);
    connect.max(reconnect).map(Obstacle::Delay)
}

impl Ask<'_> {
    /// Whether we may and can talk to this address.
    fn suits(&self, address: IpAddr) -> bool {
        let allowed = match address {
            IpAddr::V4(_) => self.limits.inet4,
            IpAddr::V6(_) => self.limits.inet6,
        };
        let same = |source: IpAddr| source.is_ipv4() == address.is_ipv4();
        allowed && self.source.is_none_or(same)
    }
}

impl Route {
    /// Text of its last failure.
    pub fn last_failure(&self) -> Option<&str> {
        self.failure.as_ref().map(|(.., failure)| &*failure.text)
    }

    fn keep_until(&mut self, until: Option<Instant>) {
        self.keep = self.keep.max(until);
    }
}

fn host_entry<'h>(hosts: &'h mut BTreeMap<IpAddr, Host>, mx: &Mx) -> &'h mut Host {
    hosts.entry(mx.address).or_insert_with(|| Host {
        name: mx.name.clone(),
        sessions: 0,
        routes: 0,
        exchangers: 0,
        last_connect: None,
    })
}

/// The failure of a connection we know nothing else about.
pub(super) fn network_error() -> Failure {
    Failure::new(Status::transient(4, 1), "Network error on destination MXs")
}

/// Up to a tenth more, so that what failed together does not come back together.
fn jitter(wait: Duration, rng: &mut Rng) -> Duration {
    let tenths = u32::try_from(rng.below(101)).unwrap_or(0);
    wait.saturating_add(wait.saturating_mul(tenths) / 1000)
}
