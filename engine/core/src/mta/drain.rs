//! Getting a relay's tasks moving: idle sessions first, then new ones.

use super::domain::{Answer, Domain, DomainKey, Mx, addresses};
use super::route::Choice;
use super::session::{Session, State};
use super::task::Tasks;
use super::{
    Action, Counts, Gate, HostRow, HostStat, Lookup, Mta, QueryId, RelayId, RelayKey, RelayRow,
    RelayState, Resolution, Route, SessionId, Unresolved, marks,
};
use crate::pressure::Pressure;
use crate::queue::{Failure, Outcome};
use crate::reply::Status;
use crate::time::Now;
use std::collections::VecDeque;

/// Port of SMTP between servers (RFC 5321 section 4.5.4.2).
const PORT: u16 = 25;

impl Mta {
    /// The answer to a question.
    pub fn resolved(&mut self, now: Now, query: QueryId, answer: Result<Resolution, Unresolved>) {
        let Some(key) = self.queries.remove(&query) else {
            return;
        };
        let Some(domain) = self.domains.get_mut(&key) else {
            return;
        };
        let relays: Vec<_> = domain.relays.iter().copied().collect();
        let most = self.limits.mta.addresses;
        domain.answer = Answer::Unasked;
        let failed = match answer {
            Ok(resolution) => {
                let until = now.mono.checked_add(resolution.ttl);
                let own = match key.lookup {
                    Lookup::Mx => &*self.name,
                    Lookup::Host => "",
                };
                match addresses(resolution, own, most, &mut self.rng) {
                    Some(list) => {
                        domain.answer = Answer::Known(list, until);
                        None
                    }
                    None => Some(Outcome::Loop),
                }
            }
            Err(Unresolved::Temporary(failure)) => Some(Outcome::TempFail(failure)),
            Err(Unresolved::Permanent(failure)) => Some(Outcome::PermFail(failure)),
        };
        for relay in relays {
            if let Some(outcome) = &failed {
                self.flush(now, relay, outcome);
            }
            self.drain(now, relay);
        }
    }

    /// Relays, in order of their numbers.
    pub fn relays(&self) -> impl Iterator<Item = RelayRow> {
        self.relays.iter().map(|(id, relay)| RelayRow {
            id: *id,
            relay: relay.key.relay.clone(),
            domain: relay.key.domain.name.clone(),
            as_host: relay.key.domain.lookup == Lookup::Host,
            tasks: relay.tasks.len(),
            sessions: relay.sessions() + relay.quitting,
            last_connect: relay.last_connect,
            resolving: self
                .domains
                .get(&relay.key.domain)
                .is_some_and(|domain| matches!(domain.answer, Answer::Asked)),
            on_hold: relay.pressure.is_on_hold(),
        })
    }

    /// Routes, in order of their targets.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// Remote hosts, in order of their addresses.
    pub fn hosts(&self) -> impl Iterator<Item = HostRow> {
        self.routes.hosts()
    }

    /// What recipient domains said last, in order.
    pub fn hoststats(&self) -> impl Iterator<Item = HostStat> {
        self.hoststats.iter()
    }

    /// Sessions open.
    pub fn sessions_len(&self) -> usize {
        self.sessions.len()
    }

    /// Relays, domains, hosts and routes in memory.
    pub fn sizes(&self) -> [usize; 4] {
        [
            self.relays.len(),
            self.domains.len(),
            self.routes.hosts_len(),
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

    /// Finds or makes a relay.
    pub(super) fn relay_of(&mut self, key: RelayKey) -> RelayId {
        if let Some(id) = self.keys.get(&key) {
            return *id;
        }
        let id = RelayId(self.number());
        let domain = self.domains.entry(key.domain.clone());
        let domain = domain.or_insert_with(|| Domain::new(&key.domain));
        domain.relays.insert(id);
        self.keys.insert(key.clone(), id);
        let relay = RelayState {
            key,
            tasks: Tasks::default(),
            connecting: 0,
            idle: Vec::new(),
            busy: 0,
            quitting: 0,
            pressure: Pressure::default(),
            last_connect: None,
        };
        self.relays.insert(id, relay);
        id
    }

    /// Gives tasks to sessions, opens as many as the tasks justify, and drops a relay that has
    /// neither tasks nor sessions.
    pub(super) fn drain(&mut self, now: Now, id: RelayId) {
        self.feed(now, id);
        while self.wants_session(id) && self.open(now, id) {}
        self.drop_if_unused(id);
    }

    /// Lets the relays pass that wait for a place, in order, as long as there is one.
    pub(super) fn open_gate(&mut self, now: Now, gate: &Gate) {
        let queued = self.gates.get(gate).map_or(0, VecDeque::len);
        for _ in 0..queued {
            if let Gate::Host(address) = gate
                && self.routes.host_sessions(*address) >= self.limits.mta.connections_per_host
            {
                return;
            }
            let Some(queue) = self.gates.get_mut(gate) else {
                return;
            };
            let relay = queue.pop_front();
            if queue.is_empty() {
                self.gates.remove(gate);
            }
            if let Some(relay) = relay {
                self.drain(now, relay);
            }
        }
    }

    /// Asks for more of what is held when a relay's queue has become short.
    pub(super) fn shrunk(&mut self, now: Now, id: RelayId) {
        let Some(relay) = self.relays.get_mut(&id) else {
            return;
        };
        let waiting = relay.tasks.len();
        let count = relay.pressure.wants(now.mono, waiting, marks(&self.limits));
        if count > 0 {
            self.actions.push_back(Action::Release(id, count));
        }
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn feed(&mut self, now: Now, id: RelayId) {
        while let Some(relay) = self.relays.get_mut(&id)
            && let Some(session_id) = relay.idle.last().copied()
            && let Some(task) = relay.tasks.pop()
        {
            relay.idle.pop();
            relay.busy += 1;
            self.counts.tasks -= 1;
            self.counts.running += 1;
            self.counts.sending += task.envelopes.len();
            for envelope in &task.envelopes {
                self.waiting.remove(&envelope.id);
            }
            if let Some(transaction) = task.transaction() {
                self.actions.push_back(Action::Transfer {
                    session: session_id,
                    transaction,
                });
            }
            if let Some(session) = self.sessions.get_mut(&session_id) {
                session.state = State::Sending(task);
            }
            self.shrunk(now, id);
        }
    }

    /// Whether the tasks justify another session: one for each task up to three, then one for two.
    fn wants_session(&self, id: RelayId) -> bool {
        let Some(relay) = self.relays.get(&id) else {
            return false;
        };
        let (tasks, sessions) = (relay.tasks.len(), relay.sessions());
        let soon = relay.connecting + relay.idle.len();
        tasks > soon && !(sessions > 2 && sessions >= tasks / 2)
    }

    /// Opens a session if that is possible now; says whether it did.
    fn open(&mut self, now: Now, id: RelayId) -> bool {
        let Some(relay) = self.relays.get(&id) else {
            return false;
        };
        let key = relay.key.clone();
        let limits = &self.limits.mta;
        if relay.sessions() + relay.quitting >= limits.connections_per_relay {
            return false;
        }
        let Some(domain) = self.domains.get_mut(&key.domain) else {
            return false;
        };
        if domain.sessions >= limits.connections_per_domain {
            self.wait_at(Gate::Domain(key.domain), id);
            return false;
        }
        let port = key.relay.host.as_ref().map_or(PORT, |host| host.port);
        let choice = match &domain.answer {
            Answer::Asked => return false,
            Answer::Known(list, until) if until.is_none_or(|until| now.mono < until) => {
                self.routes.choose(list, port, limits)
            }
            Answer::Unasked | Answer::Known(..) => {
                self.ask(now, key.domain);
                return false;
            }
        };
        match choice {
            Choice::Take(mx) => {
                self.connect(now, id, &mx, port);
                true
            }
            Choice::Busy(gates) => {
                for gate in gates {
                    self.wait_at(gate, id);
                }
                false
            }
            Choice::Down(failure) => {
                if self.relays.get(&id).is_some_and(|r| r.sessions() == 0) {
                    self.flush(now, id, &Outcome::TempFail(failure));
                }
                false
            }
        }
    }

    fn wait_at(&mut self, gate: Gate, id: RelayId) {
        let queue = self.gates.entry(gate).or_default();
        if !queue.contains(&id) {
            queue.push_back(id);
        }
    }

    fn ask(&mut self, now: Now, key: DomainKey) {
        let query = QueryId(self.number());
        if let Some(domain) = self.domains.get_mut(&key) {
            domain.answer = Answer::Asked;
        }
        let (name, lookup) = (key.name.clone(), key.lookup);
        self.queries.insert(query, key);
        if name.starts_with('[') {
            // An address literal that is none: nobody can tell us more about it.
            let failure = Failure::new(Status::permanent(1, 2), "Invalid domain name");
            self.resolved(now, query, Err(Unresolved::Permanent(failure)));
            return;
        }
        self.actions.push_back(Action::Resolve {
            query,
            name,
            lookup,
        });
    }

    fn connect(&mut self, now: Now, id: RelayId, mx: &Mx, port: u16) {
        let session = SessionId(self.rng.u64());
        let target = self.routes.opened(now.mono, mx, port);
        self.sessions.insert(session, Session::new(id, target));
        let Some(relay) = self.relays.get_mut(&id) else {
            return;
        };
        relay.connecting += 1;
        relay.last_connect = Some(now.mono);
        if let Some(domain) = self.domains.get_mut(&relay.key.domain) {
            domain.sessions += 1;
        }
        self.actions.push_back(Action::Connect {
            session,
            target,
            host: mx.name.clone(),
            relay: relay.key.relay.clone(),
        });
    }

    /// Ends all tasks of a relay with one outcome. What is held for it need not be
    /// tried to fail for now in turn.
    fn flush(&mut self, now: Now, id: RelayId, outcome: &Outcome) {
        let Some(relay) = self.relays.get_mut(&id) else {
            return;
        };
        relay.pressure = Pressure::default();
        self.actions.push_back(match outcome {
            Outcome::TempFail(_) => Action::Defer(id),
            _ => Action::Release(id, usize::MAX),
        });
        let mut tasks = std::mem::take(&mut relay.tasks);
        self.counts.tasks -= tasks.len();
        while let Some(task) = tasks.pop() {
            for envelope in &task.envelopes {
                self.waiting.remove(&envelope.id);
                if matches!(outcome, Outcome::TempFail(_)) {
                    let (domain, limits) = (envelope.dest.domain(), &self.limits.mta);
                    self.hoststats.defer(now.wall, domain, envelope.id, limits);
                }
            }
            let ids = task.envelopes.iter().map(|e| (e.id, outcome.clone()));
            let outcomes = ids.collect();
            self.finish(now, None, task, outcomes);
        }
    }

    fn drop_if_unused(&mut self, id: RelayId) {
        let used =
            |relay: &RelayState| relay.tasks.len() > 0 || relay.sessions() + relay.quitting > 0;
        if self.relays.get(&id).is_none_or(used) {
            return;
        }
        let Some(relay) = self.relays.remove(&id) else {
            return;
        };
        self.keys.remove(&relay.key);
        if let Some(domain) = self.domains.get_mut(&relay.key.domain) {
            domain.relays.remove(&id);
            if domain.relays.is_empty() {
                self.domains.remove(&relay.key.domain);
                self.queries.retain(|_, key| *key != relay.key.domain);
            }
        }
        self.actions.push_back(Action::Release(id, usize::MAX));
    }
}
