//! Relays that wait for a place: whose mail is held meanwhile, and which connections give way.

use super::line::Line;
use super::route::Waits;
use super::{Action, Gate, Mta, Parked, RelayId, SessionId};

impl Mta {
    /// A relay waits for a place; if it did not before, an idle connection that has one ends.
    pub(super) fn wait_at(&mut self, gate: &Gate, id: RelayId) {
        if !self.gates.entry(gate.clone()).or_default().join(id) {
            return;
        }
        let mut spare = self.spare.iter().map(|(_, session)| *session);
        if let Some(session) = spare.find(|session| self.places(*session).contains(gate)) {
            self.quit(session);
        }
    }

    /// Whether another relay waits for a place that a session has.
    pub(super) fn is_wanted(&self, id: SessionId) -> bool {
        let session = self.sessions.get(&id);
        let Some(session) = session.filter(|_| !self.gates.is_empty()) else {
            return false;
        };
        let by_another = |line: &Line| line.len() > usize::from(line.has(session.relay));
        let places = self.places(id);
        let mut lines = places.iter().filter_map(|gate| self.gates.get(gate));
        lines.any(by_another)
    }

    /// The places that a session has which is ready, and so is a probe no longer.
    fn places(&self, id: SessionId) -> Vec<Gate> {
        let Some(session) = self.sessions.get(&id) else {
            return Vec::new();
        };
        let route = session.route;
        let mut places = vec![
            Gate::Source(route.source),
            Gate::Host(route.target.ip()),
            Gate::Route(route),
        ];
        let relay = self.relays.get(&session.relay);
        places.extend(relay.map(|relay| Gate::Domain(relay.key.domain.clone())));
        places
    }

    /// Whether a relay's turn for a place of a source will not come soon.
    pub(super) fn is_far(&self, id: RelayId, waits: &Waits) -> bool {
        let most = self.limits.mta.waiting_relays;
        let far = |gate: &Gate| {
            let line = self.gates.get(gate);
            matches!(gate, Gate::Source(_))
                && line.is_some_and(|line| line.len() >= most && !line.has(id))
        };
        let idle = self
            .relays
            .get(&id)
            .is_some_and(|relay| relay.connections() == 0);
        idle && waits.until.is_none() && !waits.gates.is_empty() && waits.gates.iter().all(far)
    }

    /// Has all mail of a relay held until it gets a place.
    pub(super) fn park(&mut self, id: RelayId) {
        let Some(relay) = self
            .relays
            .get_mut(&id)
            .filter(|relay| relay.parked.is_none())
        else {
            return;
        };
        relay.parked = Some(Parked {
            again: relay.tasks.has_failed(),
        });
        relay.pressure.park();
        let mut tasks = std::mem::take(&mut relay.tasks);
        self.counts.tasks -= tasks.len();
        let mut ids = Vec::new();
        while let Some(task) = tasks.pop() {
            ids.extend(task.envelopes.iter().map(|envelope| envelope.id));
        }
        for id in &ids {
            self.waiting.remove(id);
        }
        self.actions.push_back(Action::Hold(id, ids));
    }
}
