//! Outgoing sessions: what each is doing, and what their events mean.

use super::barred::is_unproven;
use super::route::{RouteKey, Trouble, network_error};
use super::task::Task;
use super::{Action, Finished, Gate, Lookup, Mta, RelayId, SessionId, Timer, Via};
use crate::id::EnvelopeId;
use crate::queue::{Failure, Outcome};
use crate::reply::{Class, Status};
use crate::time::Now;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) relay: RelayId,
    pub(super) route: RouteKey,
    pub(super) state: State,
    /// Whether it is a probe, and not ready yet.
    probe: bool,
    /// The local address in use, once it is known.
    source: Option<IpAddr>,
    /// Transactions so far.
    mails: usize,
    /// Its TLS: version, cipher suite, bits, validity; empty in clear text.
    tls: Box<str>,
    /// Transactions since the last one in which anything was accepted.
    fruitless: usize,
    /// Whether the host wants no more mail over it.
    worn: bool,
}

/// What a session is doing.
#[derive(Debug)]
pub(super) enum State {
    /// It is being opened.
    Connecting,
    /// It is ready, since then.
    Idle(Instant),
    /// It sends a message.
    Sending(Task),
    /// It has sent a message, and will be ready again or end.
    Resting,
    /// It is ready, and has to pause before the next message.
    Pausing,
    /// It says goodbye.
    Quitting,
}

impl Session {
    pub(super) fn new(relay: RelayId, route: RouteKey, probe: bool) -> Self {
        Self {
            relay,
            route,
            state: State::Connecting,
            probe,
            source: route.source,
            mails: 0,
            tls: Box::default(),
            fruitless: 0,
            worn: false,
        }
    }
}

impl Mta {
    /// A session is connected, from this local address.
    pub fn connected(&mut self, id: SessionId, source: IpAddr) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.source = Some(source);
        }
    }

    /// A session has TLS.
    pub fn secured(&mut self, id: SessionId, tls: Box<str>) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.tls = tls;
        }
    }

    /// A session can take a transaction.
    pub fn ready(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(relay) = self.relays.get_mut(&session.relay) else {
            return;
        };
        let first = match session.state {
            State::Connecting => {
                relay.connecting -= 1;
                relay.probing = false;
                relay.barred.clear(session.route.target.ip());
                true
            }
            State::Resting => {
                relay.busy -= 1;
                false
            }
            State::Idle(_) | State::Sending(_) | State::Pausing | State::Quitting => return,
        };
        session.state = State::Idle(now.mono);
        relay.idle.push(id);
        let limits = self.limits.mta_for(&relay.key.domain.name);
        let worn = session.worn
            || session.mails >= limits.mails_per_session
            || session.fruitless >= limits.fruitless_per_session;
        let pause = limits.transaction_delay;
        let (relay, route) = (session.relay, session.route);
        let probe = std::mem::take(&mut session.probe);
        let tls = first.then(|| session.tls.clone());
        if worn || self.stopping {
            self.quit(id);
        } else if !first && !pause.is_zero() {
            self.pause_session(now, id, pause);
        }
        if let Some(tls) = tls {
            self.routes.proved(route, tls);
        }
        self.proceed(now, relay);
        if first {
            self.open_gate(now, &Gate::Route(route));
        }
        self.end_probe(now, probe, route);
        self.watch_idle(now, id);
    }

    /// A probe has become ready, or is over: another one may begin.
    fn end_probe(&mut self, now: Now, probe: bool, route: RouteKey) {
        if probe {
            if let Some(source) = self.sources.get_mut(&route.source) {
                source.probes = source.probes.saturating_sub(1);
            }
            self.open_gate(now, &Gate::Probe(route.source));
        }
    }

    /// The host has refused a transaction for now, or sent us away: the route is left alone for a
    /// while. The session goes on until it is ready again.
    pub fn troubled(&mut self, now: Now, id: SessionId, failure: Failure) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.worn = true;
        let route = session.route;
        self.penalise(now, route, Trouble::Smtp, failure);
    }

    /// A host did not prove what a relay asks for: that relay lets it be.
    fn bar(&mut self, now: Now, id: RelayId, route: RouteKey, failure: Failure) {
        let Some(relay) = self.relays.get_mut(&id) else {
            return;
        };
        let exchangers = self.domains.get(&relay.key.domain);
        let exchangers = exchangers.map_or(&[][..], |domain| domain.exchangers());
        let exchangers = exchangers.iter().map(|mx| mx.address);
        let (host, limits) = (route.target.ip(), &self.limits.mta);
        relay
            .barred
            .bar(now.mono, host, failure, exchangers, limits);
    }

    fn penalise(&mut self, now: Now, route: RouteKey, kind: Trouble, failure: Failure) {
        let failure = (kind, transient(failure));
        let (limits, rng) = (&self.limits.mta, &mut self.rng);
        let timer = self.routes.failed(now.mono, route, failure, limits, rng);
        self.timers
            .extend(timer.map(|at| (at, Timer::Route(route))));
    }

    fn pause_session(&mut self, now: Now, id: SessionId, pause: Duration) {
        let (Some(session), Some(end)) = (self.sessions.get_mut(&id), now.mono.checked_add(pause))
        else {
            return;
        };
        session.state = State::Pausing;
        if let Some(relay) = self.relays.get_mut(&session.relay) {
            relay.idle.retain(|idle| *idle != id);
            relay.busy += 1;
        }
        self.timers.insert((end, Timer::Pause(id)));
    }

    /// A pause between transactions is over.
    pub(super) fn end_pause(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if !matches!(session.state, State::Pausing) {
            return;
        }
        session.state = State::Idle(now.mono);
        let relay_id = session.relay;
        if let Some(relay) = self.relays.get_mut(&relay_id) {
            relay.busy -= 1;
            relay.idle.push(id);
        }
        if self.stopping {
            self.quit(id);
        }
        self.drain(now, relay_id);
        self.watch_idle(now, id);
    }

    /// A session has finished a transaction.
    pub fn attempted(&mut self, now: Now, id: SessionId, outcomes: Vec<(EnvelopeId, Outcome)>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let State::Sending(task) = std::mem::replace(&mut session.state, State::Resting) else {
            return;
        };
        session.mails += 1;
        self.counts.running -= 1;
        self.counts.sending -= task.envelopes.len();
        let delivered = |(_, outcome): &(_, Outcome)| matches!(outcome, Outcome::Delivered { .. });
        session.fruitless = if outcomes.iter().any(delivered) {
            0
        } else {
            session.fruitless + 1
        };
        let route = session.route;
        if session.fruitless == 0 {
            self.routes.accepted(route);
        }
        let (source, tls) = (session.source, session.tls.clone());
        let via = self.via(id, route, source, tls);
        self.finish(now, Some(&via), task, outcomes);
    }

    /// A session is over.
    pub fn disconnected(&mut self, now: Now, id: SessionId, failure: Option<Failure>) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        let (relay_id, route) = (session.relay, session.route);
        if let State::Idle(since) = session.state {
            self.spare.remove(&(since, id));
        }
        if let Some(relay) = self.relays.get_mut(&relay_id) {
            match session.state {
                State::Connecting => relay.connecting -= 1,
                State::Idle(_) => relay.idle.retain(|idle| *idle != id),
                State::Sending(_) | State::Resting | State::Pausing => relay.busy -= 1,
                State::Quitting => relay.quitting -= 1,
            }
        }
        match session.state {
            State::Connecting => {
                let failure = failure.unwrap_or_else(network_error);
                if is_unproven(&failure) {
                    self.bar(now, relay_id, route, failure);
                } else {
                    self.penalise(now, route, Trouble::Net, failure);
                }
            }
            State::Sending(task) => {
                self.counts.running -= 1;
                self.counts.sending -= task.envelopes.len();
                let lost =
                    || Failure::new(Status::transient(4, 2), "Connection closed unexpectedly");
                let failure = failure.unwrap_or_else(lost);
                if is_trouble(&failure) {
                    self.penalise(now, route, Trouble::Smtp, failure.clone());
                }
                let outcome = Outcome::TempFail(failure);
                let ids = task.envelopes.iter().map(|e| (e.id, outcome.clone()));
                let outcomes = ids.collect();
                let via = self.via(id, route, session.source, session.tls);
                self.finish(now, Some(&via), task, outcomes);
            }
            State::Resting => {
                if let Some(failure) = failure.filter(is_trouble) {
                    self.penalise(now, route, Trouble::Smtp, failure);
                }
            }
            State::Idle(_) | State::Pausing | State::Quitting => {}
        }
        let relay = self.relays.get(&relay_id).map(|relay| &relay.key.domain);
        let domain = relay.cloned();
        let reconnect = domain.as_ref().map_or(Duration::ZERO, |key| {
            let limits = self.limits.mta_for(&key.name);
            limits.delays(key.lookup == Lookup::Mx).reconnect
        });
        let timer = self.routes.closed(now.mono, route, reconnect);
        self.timers
            .extend(timer.map(|at| (at, Timer::Route(route))));
        self.leave(now, relay_id, route.source);
        self.end_probe(now, session.probe, route);
        self.open_gate(now, &Gate::Route(route));
        self.open_gate(now, &Gate::Host(route.target.ip()));
        self.open_gate(now, &Gate::Source(route.source));
        if let Some(domain) = domain {
            self.open_gate(now, &Gate::Domain(domain));
        }
        self.drain(now, relay_id);
    }

    /// Gives a task's envelopes back with their outcomes, and remembers what their domains said.
    pub(super) fn finish(
        &mut self,
        now: Now,
        via: Option<&Via>,
        task: Task,
        outcomes: Vec<(EnvelopeId, Outcome)>,
    ) {
        let outcomes = outcomes
            .into_iter()
            .map(|(id, outcome)| (id, Some(outcome)));
        let mut outcomes: Vec<_> = outcomes.collect();
        outcomes.sort_unstable_by_key(|(id, _)| *id);
        for envelope in task.envelopes {
            let place = outcomes.binary_search_by_key(&envelope.id, |(id, _)| *id);
            let outcome = place
                .ok()
                .and_then(|place| outcomes.get_mut(place)?.1.take());
            // Every recipient must have an outcome; one that has none was not delivered.
            let outcome = outcome.unwrap_or_else(|| Outcome::TempFail(network_error()));
            let outcome = match outcome {
                Outcome::TempFail(failure) => Outcome::TempFail(transient(failure)),
                other => other,
            };
            if via.is_some() {
                self.note_status(now, envelope.dest.domain(), &outcome);
            }
            self.actions.push_back(Action::Finished(Box::new(Finished {
                envelope,
                via: via.cloned(),
                outcome,
            })));
        }
    }

    fn via(
        &self,
        session: SessionId,
        route: RouteKey,
        source: Option<IpAddr>,
        tls: Box<str>,
    ) -> Via {
        let name = self.routes.get(route).map(|route| route.name.clone());
        Via {
            session,
            source,
            target: route.target.ip(),
            name: name.unwrap_or_default(),
            tls,
        }
    }

    fn note_status(&mut self, now: Now, domain: &str, outcome: &Outcome) {
        let text = match outcome {
            Outcome::Delivered { text, .. } => text,
            Outcome::TempFail(failure) | Outcome::PermFail(failure) => &failure.text,
            Outcome::Loop => return,
        };
        let limits = &self.limits.mta;
        self.hoststats.said(now.wall, domain, text, limits);
        if matches!(outcome, Outcome::Delivered { .. }) {
            let waiting = self.hoststats.answers(domain);
            if !waiting.is_empty() {
                self.actions.push_back(Action::Hasten(waiting));
            }
        }
    }

    /// Ends a session that is ready.
    pub(super) fn quit(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let State::Idle(since) = std::mem::replace(&mut session.state, State::Quitting) {
            self.spare.remove(&(since, id));
        }
        if let Some(relay) = self.relays.get_mut(&session.relay) {
            relay.idle.retain(|idle| *idle != id);
            relay.quitting += 1;
        }
        self.actions.push_back(Action::Quit(id));
    }

    /// Sees to it that a session with nothing to do ends: at once if another relay waits for its
    /// place; else a relay's last one after the keep-alive, the others after a tenth of it, so that a
    /// short lull does not cost all connections.
    fn watch_idle(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let State::Idle(since) = session.state else {
            return;
        };
        let relay = self.relays.get(&session.relay);
        if let Some(at) = relay.and_then(|relay| relay.pressure.expects_until(now.mono)) {
            self.timers.insert((at, Timer::Idle(id)));
            return;
        }
        if self.is_wanted(id) {
            return self.quit(id);
        }
        self.spare.insert((since, id));
        if let Some(at) = self.idle_end(id) {
            self.timers.insert((at.max(now.mono), Timer::Idle(id)));
        }
    }

    fn idle_end(&self, id: SessionId) -> Option<Instant> {
        let session = self.sessions.get(&id)?;
        let State::Idle(since) = session.state else {
            return None;
        };
        let relay = self.relays.get(&session.relay)?;
        let keepalive = self.limits.mta_for(&relay.key.domain.name).keepalive;
        let only = relay.sessions() == 1;
        since.checked_add(if only { keepalive } else { keepalive / 10 })
    }

    /// A keep-alive may be over.
    pub(super) fn end_idle(&mut self, now: Now, id: SessionId) {
        match self.idle_end(id) {
            Some(at) if at <= now.mono => {
                let relay = self.sessions.get(&id).map(|session| session.relay);
                self.quit(id);
                if let Some(relay) = relay {
                    self.shrunk(now, relay);
                }
            }
            Some(_) => self.watch_idle(now, id),
            None => {}
        }
    }
}

/// Whether a session ended by the host's will or that of the network, not by ours or for what a
/// message held: 421 says so, as do lost connections and broken replies.
fn is_trouble(failure: &Failure) -> bool {
    let told_to_leave = failure.text.starts_with("421");
    let by_status =
        |status: Status| status.class == Class::Transient && matches!(status.subject, 4 | 5);
    told_to_leave || failure.status.is_some_and(by_status)
}

/// A failure for now: whatever status came with it, it is not a permanent one.
fn transient(failure: Failure) -> Failure {
    let status = failure.status.map(|status| match status.class {
        Class::Transient => status,
        Class::Success | Class::Permanent => Status::transient(status.subject, status.detail),
    });
    Failure { status, ..failure }
}
