//! Questions to the DNS, and domains that come and go with their relays.

use super::barred::Barred;
use super::connector::sources;
use super::domain::{Answer, Domain, DomainKey, addresses};
use super::task::Tasks;
use super::{Action, Mta, QueryId, RelayId, RelayKey, RelayState, Resolution, Unresolved};
use crate::envelope::Relay;
use crate::pressure::Pressure;
use crate::queue::{Failure, Outcome};
use crate::reply::Status;
use crate::time::Now;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Mta {
    /// The answer to a question.
    pub fn resolved(&mut self, now: Now, query: QueryId, answer: Result<Resolution, Unresolved>) {
        let Some(key) = self.queries.remove(&query) else {
            return;
        };
        let Some(domain) = self.domains.get(&key) else {
            return;
        };
        let relays: Vec<_> = domain.relays.iter().map(|(id, _)| *id).collect();
        let most = self.limits.mta.addresses;
        let (answer, failed) = match answer {
            Ok(resolution) => {
                let until = now.mono.checked_add(resolution.ttl);
                let list = addresses(resolution, most, &mut self.rng);
                (Answer::Known(list, until), None)
            }
            Err(Unresolved::Temporary(failure)) => {
                (Answer::Unasked, Some(Outcome::TempFail(failure)))
            }
            Err(Unresolved::Permanent(failure)) => {
                (Answer::Unasked, Some(Outcome::PermFail(failure)))
            }
        };
        self.answer(&key, answer);
        for relay in relays {
            if let Some(outcome) = &failed {
                self.flush(now, relay, outcome);
            }
            self.drain(now, relay);
        }
    }

    /// The relay with these parameters, if it is there.
    pub(super) fn known_relay(&self, relay: &Relay, domain: &DomainKey) -> Option<RelayId> {
        let mut own = self.domains.get(domain)?.relays.iter();
        let same = own.find(|(_, known)| known.is_same(relay));
        same.map(|(id, _)| *id)
    }

    /// Finds or makes a relay.
    pub(super) fn relay_of(&mut self, relay: &Relay, domain: DomainKey) -> RelayId {
        if let Some(id) = self.known_relay(relay, &domain) {
            return id;
        }
        let id = RelayId(self.number());
        let relay = self.policy(relay);
        let own = (id, Arc::clone(&relay));
        if let Some(domain) = self.domains.get_mut(&domain) {
            domain.relays.push(own);
        } else {
            let mut new = Domain::new(&domain);
            self.routes.refer(new.exchangers());
            new.relays.push(own);
            self.domains.insert(domain.clone(), new);
        }
        let key = RelayKey { domain, relay };
        let most = self.limits.mta_for(&key.domain.name).sources;
        let relay = RelayState {
            sources: sources(&key.relay.src, &self.tables, most),
            key,
            tasks: Tasks::default(),
            connecting: 0,
            idle: Vec::new(),
            busy: 0,
            quitting: 0,
            pressure: Pressure::default(),
            last_connect: None,
            probing: false,
            queued: None,
            told: false,
            turn: 0,
            connectors: BTreeMap::new(),
            until: None,
            parked: None,
            barred: Barred::default(),
        };
        self.relays.insert(id, Box::new(relay));
        id
    }

    fn policy(&mut self, relay: &Relay) -> Arc<Relay> {
        if let Some(known) = self.policies.get(relay) {
            return Arc::clone(known);
        }
        self.policies.retain(|old| Arc::strong_count(old) > 1);
        let new = Arc::new(relay.clone());
        self.policies.insert(Arc::clone(&new));
        new
    }

    /// Drops a relay for good, and its domain if it was the last one.
    pub(super) fn drop_relay(&mut self, id: RelayId) {
        let Some(relay) = self.relays.remove(&id) else {
            return;
        };
        self.connectors -= relay.connectors.len();
        let last = self
            .domains
            .get_mut(&relay.key.domain)
            .is_some_and(|domain| {
                domain.relays.retain(|(own, _)| *own != id);
                domain.relays.is_empty()
            });
        if last {
            self.answer(&relay.key.domain, Answer::Unasked);
            self.domains.remove(&relay.key.domain);
            self.queries.retain(|_, key| *key != relay.key.domain);
        }
        self.actions.push_back(Action::Release(id, usize::MAX));
    }

    pub(super) fn ask(&mut self, now: Now, key: DomainKey) {
        let query = QueryId(self.number());
        self.answer(&key, Answer::Asked);
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

    /// Puts another answer in the place of the one a domain has; hosts live by their exchangers.
    fn answer(&mut self, key: &DomainKey, answer: Answer) {
        if let Some(domain) = self.domains.get_mut(key) {
            let old = std::mem::replace(&mut domain.answer, answer);
            self.routes.refer(domain.exchangers());
            if let Answer::Known(list, _) = old {
                self.routes.release(&list);
            }
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}
