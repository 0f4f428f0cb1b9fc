//! Where one envelope is, and what it waits for.

use super::Engine;
use super::listing::{count, date, relay, route};
use crate::control::{BarredRow, EnvelopeRow, Explanation, Limit, LimitRow, Place, Runstate};
use crate::envelope::{Agent, Envelope};
use crate::mta;
use crate::scheduler::{self, Phase};
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
        let limits = self.limits_for(envelope, place, state, found.as_ref());
        let routes = found.as_ref().map(|row| self.mta.routes_of(row.id));
        let routes = routes.unwrap_or_default().into_iter();
        let barred = found.as_ref();
        let barred = barred.map(|row| self.mta.barred_of(now.mono, row.id));
        let barred = barred.unwrap_or_default().into_iter();
        Some(Explanation {
            envelope: EnvelopeRow::new(envelope, runstate),
            action: envelope.action.clone().into(),
            place,
            agent_paused,
            store_down: self.store_failed,
            routes: routes.map(|row| route(now, row)).collect(),
            barred: barred.map(|row| host(now, row)).collect(),
            relay: found.map(|row| Box::new(relay(now, row))),
            limits: limits.into_iter().map(limit).collect(),
            attempts: envelope.tried().into_iter().map(Into::into).collect(),
        })
    }

    /// The limits an envelope waits for.
    fn limits_for(
        &self,
        envelope: &Envelope,
        place: Place,
        state: scheduler::Runstate,
        relay: Option<&mta::RelayRow>,
    ) -> Vec<mta::Full> {
        let due = matches!(state.phase, Phase::Pending { due } if due <= 0);
        let (used, most) = (self.scheduler.inflight_len(), self.limits.inflight);
        match (place, envelope.agent()) {
            (Place::Agent, Agent::Mta) => relay.map(|row| self.mta.full(row.id)),
            (Place::Schedule, Agent::Mta) if state.held => {
                relay.map(|row| self.mta.tasks_full(row.id).into_iter().collect())
            }
            (Place::Agent, Agent::Mda) => Some(self.mda.full(envelope, false)),
            (Place::Schedule, Agent::Mda) if state.held => Some(self.mda.full(envelope, true)),
            (Place::Schedule, _) if due && used >= most => {
                Some(vec![(Limit::Inflight, used, most)])
            }
            _ => None,
        }
        .unwrap_or_default()
    }
}

fn limit((limit, used, most): mta::Full) -> LimitRow {
    LimitRow {
        limit,
        used: count(used),
        most: count(most),
    }
}

fn host(now: Now, row: mta::BarredRow) -> BarredRow {
    BarredRow {
        address: row.address,
        name: row.name.into(),
        until: date(now, row.until),
        failure: row.failure.into(),
    }
}
