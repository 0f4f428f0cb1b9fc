//! Opening a session for a relay: which limits and delays are in the way, and who is told so.
//!
//! Promises: every limit and delay of the relay's domain, and of its relay, connector, source, host
//! and route, holds at the moment of connecting; whatever is in the way is either a place for which
//! the relay queues, or a time at which it is looked at again.

use super::connector::{Connector, Flag, Flags};
use super::domain::{Answer, Mx, better};
use super::route::{Ask, Choice, Waits, end_of};
use super::session::Session;
use super::{Action, Gate, Lookup, Mta, RelayId, RelayState, SessionId, Timer};
use crate::limits::{Limits, MtaLimits};
use crate::queue::{Blocks, Failure, Outcome};
use crate::reply::Status;
use crate::time::Now;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

/// What was found when a connection was wanted.
enum Found {
    /// Take this one, from there.
    Take(Option<IpAddr>, Mx),
    /// Nothing now.
    Wait(Waits),
    /// Nothing at all.
    Down(Failure),
    /// The domain has to be looked up.
    Ask,
    /// We are the best exchanger ourselves.
    Loop,
    /// The answer to a question will come.
    Nothing,
}

impl Mta {
    /// Opens a session if that is possible now; says whether it did.
    pub(super) fn open(&mut self, now: Now, id: RelayId) -> bool {
        let limits = Arc::clone(&self.limits);
        let found = self.find(now, id, &limits);
        if let Found::Wait(waits) = &found
            && self.has_no_hope(id, waits)
        {
            if let Some(failure) = self.no_place(id) {
                self.flush(now, id, &Outcome::TempFail(failure));
            }
            return false;
        }
        let Some(relay) = self.relays.get_mut(&id) else {
            return false;
        };
        relay.until = None;
        relay.told = matches!(found, Found::Wait(_));
        match found {
            Found::Take(source, mx) => {
                self.connect(now, id, source, &mx, &limits);
                return true;
            }
            Found::Wait(waits) => {
                let probe = |gate: &Gate| matches!(gate, Gate::Probe(_));
                relay.probing |= relay.sessions() == 0 && waits.gates.iter().any(probe);
                if !waits.gates.is_empty() {
                    relay.queued.get_or_insert(now.mono);
                }
                relay.until = waits.until;
                let timer = waits.until.map(|at| (at, Timer::Relay(id)));
                self.timers.extend(timer);
                if self.is_far(id, &waits) {
                    self.park(id);
                }
                for gate in &waits.gates {
                    self.wait_at(gate, id);
                }
            }
            Found::Down(failure) => {
                // As long as some connection works, the tasks can wait for it.
                if relay.sessions() == 0 {
                    self.flush(now, id, &Outcome::TempFail(failure));
                }
            }
            Found::Ask => {
                let key = relay.key.domain.clone();
                self.ask(now, key);
            }
            Found::Loop => self.flush(now, id, &Outcome::Loop),
            Found::Nothing => {}
        }
        false
    }

    fn find(&mut self, now: Now, id: RelayId, limits: &Limits) -> Found {
        let Some(relay) = self.relays.get_mut(&id) else {
            return Found::Nothing;
        };
        let Some(domain) = self.domains.get(&relay.key.domain) else {
            return Found::Nothing;
        };
        let limits = limits.mta_for(&relay.key.domain.name);
        let by_mx = relay.key.domain.lookup == Lookup::Mx;
        let list = match &domain.answer {
            Answer::Asked => return Found::Nothing,
            // What was known when it began to wait for a place is good for that place: who had to
            // ask again when its turn came would lose it to the next, again and again.
            Answer::Known(list, until)
                if until.is_none_or(|until| relay.queued.unwrap_or(now.mono) < until) =>
            {
                list
            }
            Answer::Unasked | Answer::Known(..) => return Found::Ask,
        };
        let own = if by_mx { &*self.name } else { "" };
        let Some(list) = better(list, own, relay.key.relay.backup.as_deref()) else {
            return Found::Loop;
        };
        let delays = limits.delays(by_mx);
        let mut waits = Waits::default();
        if relay.connections() >= limits.connections_per_relay {
            // The end of one of its own connections drains the relay; there is no gate.
            waits.flags.insert(Flag::LimitRelay);
        }
        if domain.sessions >= limits.connections_per_domain {
            let gate = Gate::Domain(relay.key.domain.clone());
            waits.at(gate, Some(Flag::LimitDomain));
        }
        let relay_delay = end_of(relay.last_connect, delays.relay, now.mono);
        let domain_delay = end_of(domain.last_connect, limits.connect_delay_domain, now.mono);
        for end in [relay_delay, domain_delay].into_iter().flatten() {
            waits.until = waits.until.max(Some(end));
        }
        if !waits.is_empty() || !waits.flags.is_empty() {
            for connector in relay.connectors.values_mut() {
                connector.waits(waits.flags, waits.until);
            }
            return Found::Wait(waits);
        }
        if relay.sources.is_empty() {
            let text = format!(
                "No source address: the table {} is not there or is empty",
                relay.key.relay.src
            );
            return Found::Down(Failure::new(Status::transient(3, 5), text));
        }
        let (port, again) = (relay.port(), relay.tries_again());
        let mut down: Option<(Flag, Failure)> = None;
        for step in 0..relay.sources.len() {
            let at = (relay.turn + step) % relay.sources.len();
            let Some(source) = relay.sources.get(at).copied() else {
                continue;
            };
            if !relay.connectors.contains_key(&source) {
                self.connectors += 1;
            }
            let connector = relay.connectors.entry(source).or_default();
            let probes = self.sources.get(&source).map_or(0, |source| source.probes);
            let ask = Ask {
                now: now.mono,
                source,
                port,
                limits,
                delays,
                again,
                no_probes: probes >= probes_most(limits),
                barred: &relay.barred,
            };
            let blocked = is_blocked(&self.blocked, source, &relay.key.domain.name);
            let choice = if blocked {
                Choice::Down(Flag::ErrorBlocked, blocked_failure())
            } else if let Some(waits) = unready(&self.sources, connector, &ask) {
                Choice::Wait(waits)
            } else {
                self.routes.choose(list, &ask)
            };
            match choice {
                Choice::Take(mx) => {
                    relay.turn = at + 1;
                    return Found::Take(source, mx);
                }
                Choice::Wait(more) => {
                    connector.waits(more.flags, more.until);
                    waits.add(more);
                }
                Choice::Down(flag, failure) => {
                    connector.fails(flag);
                    let weightier = |(other, _): &(Flag, _)| rank(flag) < rank(*other);
                    if down.as_ref().is_none_or(weightier) {
                        down = Some((flag, failure));
                    }
                }
            }
        }
        match down {
            Some((_, failure)) if waits.is_empty() && waits.flags.is_empty() => {
                Found::Down(failure)
            }
            _ => Found::Wait(waits),
        }
    }

    fn connect(&mut self, now: Now, id: RelayId, source: Option<IpAddr>, mx: &Mx, limits: &Limits) {
        let session = SessionId(self.rng.u64());
        let Some(relay) = self.relays.get_mut(&id) else {
            return;
        };
        let limits = limits.mta_for(&relay.key.domain.name);
        let ask = Ask {
            now: now.mono,
            source,
            port: relay.port(),
            limits,
            delays: limits.delays(relay.key.domain.lookup == Lookup::Mx),
            again: relay.tries_again(),
            no_probes: false,
            barred: &relay.barred,
        };
        let probe = self.routes.is_probe(&ask, mx);
        let route = self.routes.opened(&ask, mx);
        self.sessions
            .insert(session, Session::new(id, route, probe));
        relay.probing = probe && relay.sessions() == 0;
        relay.queued = None;
        let parked = relay.parked.take().is_some();
        relay.connecting += 1;
        relay.last_connect = Some(now.mono);
        if let Some(connector) = relay.connectors.get_mut(&source) {
            connector.sessions += 1;
            connector.last_connect = Some(now.mono);
            connector.until = None;
            connector.flags = Flags::default();
        }
        let from = self.sources.entry(source).or_default();
        from.sessions += 1;
        from.probes += usize::from(probe);
        from.last_connect = Some(now.mono);
        if let Some(domain) = self.domains.get_mut(&relay.key.domain) {
            domain.sessions += 1;
            domain.last_connect = Some(now.mono);
        }
        self.actions.push_back(Action::Connect {
            session,
            source,
            target: route.target,
            host: mx.name.clone(),
            domain: relay.key.domain.name.clone(),
            relay: Arc::clone(&relay.key.relay),
        });
        if parked {
            // It will be here before the session is ready.
            self.shrunk(now, id);
        }
    }

    /// Whether a relay could only wait for a probe, and too many wait for one already.
    fn has_no_hope(&self, id: RelayId, waits: &Waits) -> bool {
        let full = |gate: &Gate| {
            let queue = self.gates.get(gate);
            matches!(gate, Gate::Probe(_))
                && queue.is_some_and(|queue| {
                    queue.len() >= self.limits.mta.probing_relays && !queue.has(id)
                })
        };
        let idle = self
            .relays
            .get(&id)
            .is_some_and(|relay| relay.sessions() == 0);
        idle && waits.until.is_none() && !waits.gates.is_empty() && waits.gates.iter().all(full)
    }

    /// What is said of a relay whose turn to be tried again does not come.
    fn no_place(&self, id: RelayId) -> Option<Failure> {
        let relay = self.relays.get(&id)?;
        let list = self.domains.get(&relay.key.domain)?.exchangers();
        let sources = relay.sources.iter().copied();
        let last =
            sources.filter_map(|source| self.routes.last_failure(list, source, relay.port()));
        let known = last.max_by_key(|(at, _)| *at).map(|(_, failure)| failure);
        Some(known.unwrap_or_else(|| {
            let text = "Too many destinations that failed before are tried now";
            Failure::new(Status::transient(3, 2), text)
        }))
    }

    /// A connection of these is over.
    pub(super) fn leave(&mut self, now: Now, id: RelayId, source: Option<IpAddr>) {
        if let Some(relay) = self.relays.get_mut(&id) {
            if let Some(connector) = relay.connectors.get_mut(&source) {
                connector.sessions = connector.sessions.saturating_sub(1);
            }
            if let Some(domain) = self.domains.get_mut(&relay.key.domain) {
                domain.sessions = domain.sessions.saturating_sub(1);
            }
        }
        if let Some(from) = self.sources.get_mut(&source) {
            from.sessions = from.sessions.saturating_sub(1);
        }
        self.drop_source_if_unused(now, source);
    }

    /// Forgets a source nobody uses once its delay is over.
    pub(super) fn drop_source_if_unused(&mut self, now: Now, source: Option<IpAddr>) {
        let Some(from) = self.sources.get(&source) else {
            return;
        };
        if from.sessions > 0 {
            return;
        }
        match end_of(from.last_connect, self.longest_source_delay(), now.mono) {
            Some(at) => {
                self.timers.insert((at, Timer::Source(source)));
            }
            None => {
                self.sources.remove(&source);
            }
        }
    }

    /// Until when a relay without work is remembered: its delays hold for the next mail, and
    /// listings say that its destination is down.
    pub(super) fn remembered_until(&self, now: Now, relay: &RelayState) -> Option<Instant> {
        let key = &relay.key.domain;
        let limits = self.limits.mta_for(&key.name);
        let delay = limits.delays(key.lookup == Lookup::Mx).relay;
        let longest = delay
            .max(limits.connect_delay_domain)
            .max(limits.connect_delay_connector);
        let delayed = end_of(relay.last_connect, longest, now.mono);
        let list = self.domains.get(key).map_or(&[][..], |d| d.exchangers());
        let port = relay.port();
        let sources = relay.connectors.keys();
        let back = sources.filter_map(|source| self.routes.back(list, *source, port));
        delayed.max(back.min()).max(relay.barred.until())
    }

    fn longest_source_delay(&self) -> std::time::Duration {
        let others = self.limits.mta_for.values();
        let others = others.map(|limits| limits.connect_delay_source).max();
        self.limits
            .mta
            .connect_delay_source
            .max(others.unwrap_or_default())
    }
}

/// How many connections of a source may be probes.
pub(super) fn probes_most(limits: &MtaLimits) -> usize {
    limits.probes.min(limits.connections_per_source / 2).max(1)
}

/// What keeps a connector or its source from connecting, if anything.
fn unready(
    sources: &std::collections::BTreeMap<Option<IpAddr>, super::Source>,
    connector: &Connector,
    ask: &Ask<'_>,
) -> Option<Waits> {
    let limits: &MtaLimits = ask.limits;
    let mut waits = Waits::default();
    if connector.sessions >= limits.connections_per_connector {
        // The end of one of its connections drains the relay; there is no gate.
        waits.flags.insert(Flag::LimitConnector);
        return Some(waits);
    }
    let source = sources.get(&ask.source);
    if source.is_some_and(|source| source.sessions >= limits.connections_per_source) {
        waits.at(Gate::Source(ask.source), Some(Flag::LimitSource));
        return Some(waits);
    }
    let last = source.and_then(|source| source.last_connect);
    let ends = [
        end_of(
            connector.last_connect,
            limits.connect_delay_connector,
            ask.now,
        ),
        end_of(last, limits.connect_delay_source, ask.now),
    ];
    waits.until = ends.into_iter().flatten().max();
    waits.until.is_some().then_some(waits)
}

/// Whether the administrator keeps a source and a domain apart.
fn is_blocked(blocked: &Blocks, source: Option<IpAddr>, domain: &str) -> bool {
    if blocked.is_empty() {
        return false;
    }
    let has = |source: IpAddr| {
        let pair = |domain: &str| (source, Box::from(domain));
        blocked.contains(&pair(domain)) || blocked.contains(&pair("*"))
    };
    match source {
        Some(source) => has(source),
        None => has(Ipv4Addr::UNSPECIFIED.into()) || has(Ipv6Addr::UNSPECIFIED.into()),
    }
}

fn blocked_failure() -> Failure {
    Failure::new(Status::transient(3, 2), "All routes to destination blocked")
}

/// Which cause is told when connectors fail of different ones: the lowest.
fn rank(flag: Flag) -> u8 {
    match flag {
        Flag::ErrorRouteSmtp => 0,
        Flag::ErrorRouteNet => 1,
        Flag::ErrorMx => 2,
        Flag::ErrorFamily => 3,
        Flag::ErrorBlocked => 4,
        _ => 5,
    }
}
