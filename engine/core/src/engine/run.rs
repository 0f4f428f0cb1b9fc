//! The engine itself: events in, actions out, and the administrator's verbs.

use super::bounces::Bounces;
use super::departing;
use super::settling::Settling;
use super::trash::Trash;
use super::{Action, Event, HostRow, HostStat, Note, RelayRow, Route, RouteId, Runstate, Sources};
use crate::id::EnvelopeId;
use crate::limits::Limits;
use crate::machine::Machine;
use crate::mta::{self, Mta};
use crate::queue::{Blocks, Paused, Scheduled, Selector};
use crate::rng::Rng;
use crate::scheduler::{HoldKey, Scheduler};
use crate::stats::{Counter, Counters, Digest};
use crate::time::Now;
use crate::{envelope::Agent, mda};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The schedule, the relays, the local deliveries and the bounces.
///
/// Besides events it takes verbs, which the driver calls for the administrator; the driver drains
/// [`poll`](Machine::poll) after a verb as it does after an event.
#[derive(Debug)]
pub struct Engine {
    pub(super) limits: Arc<Limits>,
    pub(super) delays: Vec<Duration>,
    pub(super) rng: Rng,
    pub(super) scheduler: Scheduler,
    pub(super) mta: Mta,
    pub(super) mda: mda::Queues,
    pub(super) bounces: Bounces,
    pub(super) settling: Settling,
    pub(super) departing: departing::All,
    pub(super) trash: Trash,
    pub(super) paused: Paused,
    pub(super) store_failed: bool,
    stopping: bool,
    now: Option<Now>,
    pub(super) actions: VecDeque<Action>,
    pub(super) counters: Counters,
    pub(super) digest: Digest,
}

impl Engine {
    /// An engine that knows of no envelopes yet. `delays` are the ages at which senders are told
    /// that their mail is late, `name` is the server's own.
    pub fn new(
        limits: Arc<Limits>,
        delays: Vec<Duration>,
        name: &str,
        seed: u64,
        paused: Paused,
    ) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            scheduler: Scheduler::new(limits.clone(), delays.clone(), rng.u64(), paused),
            mta: Mta::new(limits.clone(), name, rng.u64()),
            mda: mda::Queues::new(limits.clone()),
            bounces: Bounces::new(limits.clone()),
            settling: Settling::default(),
            departing: departing::All::new(),
            trash: Trash::default(),
            limits,
            delays,
            rng,
            paused,
            store_failed: false,
            stopping: false,
            now: None,
            actions: VecDeque::new(),
            counters: Counters::default(),
            digest: Digest::default(),
        }
    }

    /// Tries these as soon as possible; gives how many that concerns.
    pub fn schedule(&mut self, now: Now, selector: Selector) -> usize {
        self.advance(now);
        self.scheduler.schedule(selector)
    }

    /// These were removed from the store; gives how many of them are being delivered all the same.
    /// What such an attempt still brings is logged and changes nothing.
    pub fn removed(&mut self, now: Now, ids: &[EnvelopeId]) -> usize {
        self.advance(now);
        let mut running = 0;
        for id in ids {
            if let Some(inflight) = self.scheduler.inflight(*id)
                && !self.withdraw(now, *id)
            {
                running += 1;
                self.depart(*id, inflight.since);
            }
            if self.drop_envelope(now, *id) {
                self.count_removed();
            }
        }
        self.pump(now);
        running
    }

    /// These were paused or resumed in the store. A delivery that has begun goes on.
    pub fn suspended(&mut self, now: Now, ids: &[EnvelopeId], suspended: bool) {
        self.advance(now);
        for id in ids {
            self.scheduler.suspend(*id, suspended);
            let inflight = self.scheduler.inflight(*id).is_some();
            if suspended && inflight && self.withdraw(now, *id) {
                self.scheduler.give_back(*id);
            }
        }
        self.pump(now);
    }

    /// These subsystems are paused from now on, the others are not. Deliveries that have begun go
    /// on.
    pub fn pause(&mut self, now: Now, paused: Paused) {
        self.advance(now);
        self.paused = paused;
        self.scheduler.pause(paused);
        self.retract(now, paused.mta, paused.mda, false);
        self.pump(now);
    }

    /// Uses another configuration from now on. `sources` are the tables that relays may name with
    /// `src`.
    pub fn configure(
        &mut self,
        now: Now,
        limits: Arc<Limits>,
        delays: Vec<Duration>,
        sources: Sources,
    ) {
        self.advance(now);
        self.delays.clone_from(&delays);
        self.scheduler.configure(limits.clone(), delays);
        self.mta.configure(now, limits.clone(), sources);
        self.mda.configure(now, limits.clone());
        self.bounces.configure(limits.clone());
        self.limits = limits;
        self.pump(now);
    }

    /// Forgets the penalties of one route or of all; says whether there was one.
    pub fn resume_route(&mut self, now: Now, route: Option<RouteId>) -> bool {
        self.advance(now);
        let resumed = self.mta.resume_route(now, route);
        self.pump(now);
        resumed
    }

    /// Whether [`block`](Self::block) would change something and there is room for it: asked before
    /// it is made durable.
    pub fn may_block(&self, source: IpAddr, domain: &str, blocked: bool) -> bool {
        self.mta.may_block(source, domain, blocked)
    }

    /// Sends no more mail from a source to a domain in lower case, or does so again. The unspecified
    /// address stands for the system's choice, `*` for any domain.
    pub fn block(&mut self, now: Now, source: IpAddr, domain: &str, blocked: bool) {
        self.advance(now);
        self.mta.block(now, source, domain, blocked);
        self.pump(now);
    }

    /// Keeps these sources and domains apart, as before a restart, and no others.
    pub fn keep_apart(&mut self, now: Now, blocks: Blocks) {
        self.advance(now);
        self.mta.keep_apart(now, blocks);
        self.pump(now);
    }

    /// Where the schedule has an envelope; `None` if it is not queued.
    pub fn runstate(&mut self, now: Now, id: EnvelopeId) -> Option<Runstate> {
        self.advance(now);
        self.scheduler.runstate(id)
    }

    /// The counters of everything the engine does; the others stay at zero.
    pub fn counters(&mut self) -> &Counters {
        self.gauge();
        &self.counters
    }

    /// The totals behind `monitor`; those of clients stay at zero.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether nothing is running and every outcome is recorded, so that the daemon can stop.
    pub fn idle(&self) -> bool {
        self.mta.sessions_len() == 0
            && self.mda.running() == 0
            && self.bounces.running() == 0
            && (self.settling.is_empty() || self.store_failed)
    }

    /// Envelopes queued.
    pub fn len(&self) -> usize {
        self.scheduler.len()
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.scheduler.is_empty()
    }

    /// Relays, in order of their numbers.
    pub fn relays(&self) -> impl Iterator<Item = RelayRow> {
        self.mta.relays(None)
    }

    /// Routes, in order of their targets.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.mta.routes(None)
    }

    /// Remote hosts, in order of their addresses.
    pub fn hosts(&self) -> impl Iterator<Item = HostRow> {
        self.mta.hosts(None)
    }

    /// What recipient domains said last, in order.
    pub fn hoststats(&self) -> impl Iterator<Item = HostStat> {
        self.mta.hoststats(None)
    }

    /// Whether attempts may begin.
    pub(super) fn may_start(&self) -> bool {
        !self.store_failed && !self.stopping
    }

    /// A new envelope is queued.
    pub(super) fn entered_queue(&mut self, now: Now, envelope: &Scheduled) -> bool {
        if self.waits(envelope) {
            return false;
        }
        let new = self.scheduler.insert(now, envelope);
        if new {
            self.digest.enqueued += 1;
        }
        new
    }

    /// An envelope was taken out of the store by others; says whether it was known.
    pub(super) fn drop_envelope(&mut self, now: Now, id: EnvelopeId) -> bool {
        if self.scheduler.inflight(id).is_some() {
            self.withdraw(now, id);
        }
        let known = self.scheduler.forget(id);
        if known {
            self.left_queue();
        }
        known
    }

    /// An envelope was taken out by others than its attempt.
    pub(super) fn count_removed(&mut self) {
        self.digest.removed += 1;
        self.counters.add(Counter::SchedulerEnvelopeRemoved, 1);
    }

    /// An envelope is queued no longer.
    pub(super) fn left_queue(&mut self) {
        self.digest.dequeued += 1;
    }

    fn advance(&mut self, now: Now) {
        self.now = Some(now);
        if let Some(step) = self.scheduler.advance(now) {
            self.actions.push_back(Action::Log(Note::ClockSet(step)));
        }
    }

    /// Takes an envelope back from its agent, if no delivery has begun.
    fn withdraw(&mut self, now: Now, id: EnvelopeId) -> bool {
        self.mta.withdraw(now, id) || self.mda.withdraw(now, id) || self.bounces.withdraw(id)
    }

    /// Takes everything back from these agents that has not begun; it is due as before.
    fn retract(&mut self, now: Now, mta: bool, mda: bool, bounces: bool) {
        let mut ids = Vec::new();
        if mta {
            ids.extend(self.mta.retract(now));
        }
        if mda {
            ids.extend(self.mda.retract(now));
        }
        if bounces {
            ids.extend(self.bounces.retract());
        }
        for id in ids {
            self.scheduler.give_back(id);
        }
    }

    /// Passes on what the agents want done.
    fn pump(&mut self, now: Now) {
        loop {
            if let Some(action) = self.mta.poll() {
                self.pass_on(now, action);
            } else if let Some(action) = self.mda.poll() {
                match action {
                    mda::Action::Deliver(envelope) => {
                        self.actions.push_back(Action::Deliver(envelope));
                    }
                    mda::Action::Release(user, count) => {
                        let (agent, number) = (Agent::Mda, user.get());
                        let coming = self.scheduler.release(HoldKey { agent, number }, count);
                        self.mda.released(now, user, count, coming);
                    }
                }
            } else {
                return;
            }
        }
    }

    fn pass_on(&mut self, now: Now, action: mta::Action) {
        let key = |relay: mta::RelayId| HoldKey {
            agent: Agent::Mta,
            number: relay.get(),
        };
        let action = match action {
            mta::Action::Resolve {
                query,
                name,
                lookup,
            } => Action::Resolve {
                query,
                name,
                lookup,
            },
            mta::Action::Connect {
                session,
                source,
                target,
                host,
                domain,
                relay,
            } => Action::Connect {
                session,
                source,
                target,
                host,
                domain,
                relay,
            },
            mta::Action::Transfer {
                session,
                transaction,
            } => Action::Transfer {
                session,
                transaction,
            },
            mta::Action::Quit(session) => Action::Quit(session),
            mta::Action::Finished(finished) => return self.finished(now, *finished),
            mta::Action::Release(relay, count) => {
                let coming = self.scheduler.release(key(relay), count);
                return self.mta.released(now, relay, count, coming);
            }
            mta::Action::Hold(relay, ids) => {
                for id in ids {
                    self.scheduler.hold(now, id, key(relay));
                }
                return;
            }
            mta::Action::Defer(relay) => return self.scheduler.defer(now, key(relay)),
            mta::Action::Hasten(ids) => {
                return ids.into_iter().for_each(|id| self.scheduler.hasten(id));
            }
        };
        self.actions.push_back(action);
    }

    /// Finds more to do when all has been done; says whether it did.
    fn work(&mut self, now: Now) -> bool {
        if !self.store_failed {
            self.actions
                .extend(self.settling.batch().map(Action::Settle));
        }
        if !self.stopping {
            self.actions.extend(self.trash.poll(now));
        }
        if self.may_start() {
            self.actions
                .extend(self.bounces.start(now).map(Action::Notify));
            let batch = self.scheduler.batch(now);
            if !batch.is_empty() {
                let ids = batch.into_iter().map(|(id, _)| id).collect();
                self.actions.push_back(Action::Load(ids));
            }
        }
        !self.actions.is_empty()
    }

    fn gauge(&mut self) {
        let [relays, domains, hosts, sources, connectors, routes] = self.mta.sizes();
        let tasks = self.mta.counts();
        let values = [
            (Counter::SchedulerEnvelope, self.scheduler.len()),
            (
                Counter::SchedulerEnvelopeInflight,
                self.scheduler.inflight_len(),
            ),
            (Counter::SchedulerEnvelopeUpdated, self.scheduler.updates()),
            (Counter::SchedulerRamEnvelope, self.scheduler.len()),
            (Counter::SchedulerRamMessage, self.scheduler.messages()),
            (Counter::SchedulerHold, self.scheduler.held_len()),
            (Counter::SchedulerHoldq, self.scheduler.hold_queues()),
            (Counter::SchedulerHoldOverflow, self.scheduler.overflows()),
            (Counter::MdaUser, self.mda.users()),
            (
                Counter::MdaEnvelope,
                self.mda.waiting() + self.mda.running(),
            ),
            (Counter::MdaPending, self.mda.waiting()),
            (Counter::MdaRunning, self.mda.running()),
            (Counter::MtaRelay, relays),
            (Counter::MtaDomain, domains),
            (Counter::MtaHost, hosts),
            (Counter::MtaSource, sources),
            (Counter::MtaConnector, connectors),
            (Counter::MtaRoute, routes),
            (Counter::MtaSession, self.mta.sessions_len()),
            (Counter::MtaTask, tasks.tasks + tasks.running),
            (Counter::MtaTaskRunning, tasks.running),
            (Counter::MtaEnvelope, self.mta.envelopes()),
            (Counter::BounceMessage, self.bounces.groups()),
            (Counter::BounceEnvelope, self.bounces.envelopes()),
            (Counter::BounceSession, self.bounces.running()),
        ];
        for (counter, value) in values {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            self.counters.set(counter, value);
        }
    }
}

impl Machine for Engine {
    type Event = Event;
    type Action = Action;

    fn handle(&mut self, now: Now, event: Event) {
        self.advance(now);
        match event {
            Event::Queued(envelopes) => {
                for envelope in &envelopes {
                    self.entered_queue(now, envelope);
                }
            }
            Event::Loaded(envelopes) => {
                for (id, loaded) in envelopes {
                    self.loaded(now, id, loaded);
                }
            }
            Event::Settled(ids) => {
                for id in ids {
                    self.settled(now, id);
                }
            }
            Event::StoreFailed => {
                self.store_failed = true;
                self.retract(now, true, true, true);
            }
            Event::StoreRecovered => {
                self.store_failed = false;
                self.settling.again();
            }
            Event::Resolved { query, answer } => self.mta.resolved(now, query, answer),
            Event::Connected { session, source } => self.mta.connected(session, source),
            Event::Secured { session, tls } => self.mta.secured(session, tls),
            Event::Ready(session) => self.mta.ready(now, session),
            Event::Attempted { session, outcomes } => self.mta.attempted(now, session, outcomes),
            Event::Troubled { session, failure } => self.mta.troubled(now, session, failure),
            Event::Disconnected { session, failure } => {
                self.mta.disconnected(now, session, failure);
            }
            Event::Ran { envelope, outcome } => self.ran(now, envelope, outcome),
            Event::Notified { reported, result } => self.notified(now, &reported, &result),
            Event::Trash(weighed) => self.trash.weighed(now, weighed, &self.limits),
            Event::Stopping => {
                self.stopping = true;
                self.retract(now, true, true, true);
                self.mta.stop();
            }
            Event::TimedOut => {}
        }
        self.mta.tick(now);
        self.pump(now);
        self.gauge();
    }

    fn poll(&mut self) -> Option<Action> {
        let now = self.now?;
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if !self.work(now) {
                return None;
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let schedule = if self.may_start() {
            [self.scheduler.deadline(), self.bounces.deadline()]
        } else {
            [None, None]
        };
        let trash = self.trash.deadline().filter(|_| !self.stopping);
        schedule
            .into_iter()
            .chain([self.mta.deadline(), trash])
            .flatten()
            .min()
    }
}
