//! Where one envelope is, and what it waits for.

use super::Engine;
use super::listing::{relay, route};
use crate::control::{EnvelopeRow, Explanation, Place, Runstate};
use crate::envelope::{Agent, Envelope};
use crate::mta;
use crate::scheduler::Phase;
use crate::time::{Now, Timestamp};

impl Engine {
    /// Everything that decides when an envelope moves; `None` if it is not queued.
    pub fn explain(&mut self, now: Now, envelope: &Envelope) -> Option<Explanation> {
        let state = self.runstate(now, envelope.id)?;
        let runstate = match state.phase {
            Phase::Inflight { since } => Runstate::inflight(since),
            Phase::Pending { due } => {
                let due = now.wall.as_secs().saturating_add_signed(due);
                let due = Timestamp::from_secs(due);
                if state.held {
                    Runstate::held(due)
                } else {
                    Runstate::pending(due)
                }
            }
        };
        let place = match (state.phase, self.mta.place(envelope.id)) {
            _ if self.settling.contains(envelope.id) => Place::Settling,
            (_, mta::Place::Sending(session)) => Place::Session(session.0),
            (_, mta::Place::Waiting) => Place::Agent,
            (Phase::Pending { .. }, _) => Place::Schedule,
            (Phase::Inflight { .. }, _) => match envelope.agent() {
                Agent::Mta => Place::Loading,
                Agent::Mda | Agent::Bounce => Place::Agent,
            },
        };
        let agent_paused = match envelope.agent() {
            Agent::Mta => self.paused.mta,
            Agent::Mda => self.paused.mda,
            Agent::Bounce => false,
        };
        let found = self.mta.relay_for(envelope);
        let routes = found.as_ref().map(|row| self.mta.routes_of(row.id));
        let routes = routes.unwrap_or_default().into_iter();
        Some(Explanation {
            envelope: EnvelopeRow::new(envelope, runstate),
            action: envelope.action.clone().into(),
            place,
            agent_paused,
            store_down: self.store_failed,
            routes: routes.map(|row| route(now, row)).collect(),
            relay: found.map(|row| Box::new(relay(now, row))),
        })
    }
}
