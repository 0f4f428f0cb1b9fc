//! Getting a relay's tasks moving: idle sessions first, then new ones.

use super::line::Line;
use super::session::State;
use super::task::Tasks;
use super::{Action, Gate, Mta, RelayId, Timer, marks};
use crate::pressure::Pressure;
use crate::queue::Outcome;
use crate::time::Now;

impl Mta {
    /// Gives tasks to sessions, opens as many as the tasks justify, and drops a relay that has
    /// neither tasks nor sessions.
    pub(super) fn drain(&mut self, now: Now, id: RelayId) {
        self.feed(now, id);
        while self.wants_session(id) && self.open(now, id) {}
        self.drop_if_unused(now, id);
    }

    /// The same for a relay that has more mail or a session ready, which does not end a wait.
    pub(super) fn proceed(&mut self, now: Now, id: RelayId) {
        if self.relays.get(&id).is_some_and(|relay| relay.told) {
            self.feed(now, id);
            self.drop_if_unused(now, id);
        } else {
            self.drain(now, id);
        }
    }

    /// Looks at every relay.
    pub(super) fn drain_all(&mut self, now: Now) {
        let relays: Vec<_> = self.relays.keys().copied().collect();
        for relay in relays {
            self.drain(now, relay);
        }
    }

    /// Lets the relays pass that wait for a place, in order, as long as there is one.
    pub(super) fn open_gate(&mut self, now: Now, gate: &Gate) {
        let queued = self.gates.get(gate).map_or(0, Line::len);
        for _ in 0..queued {
            let Some(queue) = self.gates.get_mut(gate) else {
                return;
            };
            let relay = queue.pop();
            if queue.is_empty() {
                self.gates.remove(gate);
            }
            let Some(relay) = relay else {
                return;
            };
            self.drain(now, relay);
            if let Some(queue) = self.gates.get_mut(gate)
                && queue.keep_turn(relay)
            {
                // It found no place, so the others will not, either.
                return;
            }
        }
    }

    /// Asks for more of what is held when a relay's queue has become short.
    pub(super) fn shrunk(&mut self, now: Now, id: RelayId) {
        let Some(relay) = self.relays.get_mut(&id) else {
            return;
        };
        let waiting = relay.tasks.len();
        let marks = marks(self.limits.mta_for(&relay.key.domain.name));
        let count = relay.pressure.wants(now.mono, waiting, marks);
        if count > 0 {
            self.actions.push_back(Action::Release(id, count));
        }
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
            if let Some(session) = self.sessions.get_mut(&session_id)
                && let State::Idle(since) =
                    std::mem::replace(&mut session.state, State::Sending(task))
            {
                self.spare.remove(&(since, session_id));
            }
            self.shrunk(now, id);
        }
    }

    /// Whether the tasks justify another session: one for each task up to three, then one for two.
    fn wants_session(&self, id: RelayId) -> bool {
        let Some(relay) = self.relays.get(&id) else {
            return false;
        };
        let (tasks, sessions) = (relay.demand(), relay.sessions());
        let soon = relay.connecting + relay.idle.len();
        tasks > soon && !(sessions > 2 && sessions >= tasks / 2)
    }

    /// Ends all tasks of a relay with one outcome. What is held for it need not be
    /// tried to fail for now in turn.
    pub(super) fn flush(&mut self, now: Now, id: RelayId, outcome: &Outcome) {
        let Some(relay) = self.relays.get_mut(&id) else {
            return;
        };
        relay.pressure = Pressure::default();
        relay.queued = None;
        relay.told = false;
        relay.parked = None;
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

    /// Drops a relay that has nothing to do, once its delays are over and its destination is not
    /// known to be down any more.
    fn drop_if_unused(&mut self, now: Now, id: RelayId) {
        let Some(relay) = self.relays.get(&id) else {
            return;
        };
        if relay.demand() > 0 || relay.connections() > 0 {
            return;
        }
        let keep = self
            .remembered_until(now, relay)
            .filter(|at| now.mono < *at);
        match keep {
            Some(at) if self.relays.len() <= self.limits.mta.idle_relays => {
                if let Some(relay) = self.relays.get_mut(&id) {
                    relay.until = Some(at);
                }
                self.timers.insert((at, Timer::Relay(id)));
            }
            _ => self.drop_relay(id),
        }
    }

    /// Takes all tasks of a relay back.
    pub(super) fn take_back(&mut self, now: Now, id: RelayId) {
        if let Some(relay) = self.relays.get_mut(&id)
            && relay.demand() > 0
        {
            relay.parked = None;
            self.counts.tasks -= relay.tasks.len();
            relay.tasks = Tasks::default();
            self.shrunk(now, id);
        }
        self.drain(now, id);
    }
}
