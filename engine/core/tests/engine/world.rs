//! A world for the engine: answers every action after a while, and checks that none breaks a
//! promise.

use redspool_core::addr::Source;
use redspool_core::engine::{
    Action, Content, Engine, Event, Exchange, Loaded, Note, QueryId, Resolution, SessionId,
    Unresolved,
};
use redspool_core::envelope::{
    Agent, Attempts, Bounce, Delivery, Dsn, Envelope, Flags, Mda, Method, Relay, RelayHost, Scheme,
};
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::limits::Limits;
use redspool_core::machine::Machine;
use redspool_core::queue::{Change, Failure, Outcome, Paused, Scheduled, Selector, Settlement};
use redspool_core::reply::Status;
use redspool_core::rng::Rng;
use redspool_core::smtp::Transaction;
use redspool_core::time::{Now, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const DATE: u64 = 1_700_000_000;

/// How a host treats us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// Takes everything.
    Accepts,
    /// Says 451 to every recipient.
    Defers,
    /// Says 550 to every recipient.
    Rejects,
    /// Cannot be reached.
    Dead,
    /// Takes no more than so many connections at a time.
    Crowded(usize),
    /// Says 451 to MAIL.
    TurnsAway,
    /// Any of this, by chance; sometimes drops the connection.
    Moody,
}

#[derive(Debug)]
struct Connection {
    source: Option<IpAddr>,
    target: SocketAddr,
    domain: Box<str>,
    ready: bool,
    transaction: Option<Transaction>,
}

#[derive(Debug)]
enum Step {
    Load(Vec<EnvelopeId>),
    Settle(Vec<Settlement>),
    Answer(QueryId, String),
    Greet(SessionId),
    Finish(SessionId),
    Close(SessionId),
    Run(Box<Envelope>),
    Report(Vec<Envelope>),
}

/// What delays are counted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Last {
    Host(IpAddr),
    Source(Option<IpAddr>),
    Domain(Box<str>),
    Relay(Box<str>, Relay),
    Connector(Box<str>, Relay, Option<IpAddr>),
    Route(Option<IpAddr>, SocketAddr),
    Left(Option<IpAddr>, SocketAddr),
}

/// What happened, for a test to look at.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    /// Starts of attempts, and seconds since the world began.
    pub(crate) attempts: Vec<(EnvelopeId, f64)>,
    /// Connections: where to, and seconds since the world began.
    pub(crate) connects: Vec<(SocketAddr, f64)>,
    pub(crate) transactions: Vec<Transaction>,
    /// Envelopes read for the engine.
    pub(crate) loads: usize,
    pub(crate) delivered: Vec<EnvelopeId>,
    /// Bounce envelopes created.
    pub(crate) bounces: Vec<Envelope>,
    /// Notices made.
    pub(crate) notices: Vec<Vec<Envelope>>,
    pub(crate) expired: Vec<EnvelopeId>,
    pub(crate) double_bounces: usize,
    pub(crate) clock_steps: usize,
    /// Most connections open at a time.
    pub(crate) sessions_max: usize,
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) limits: Arc<Limits>,
    pub(crate) rng: Rng,
    pub(crate) hosts: BTreeMap<IpAddr, Host>,
    pub(crate) domains: BTreeMap<String, Result<Vec<(u16, IpAddr)>, Unresolved>>,
    /// Domains with exchangers of certain names.
    pub(crate) exchanges: BTreeMap<String, Vec<Exchange>>,
    /// Domains that ask of their exchangers what those do not prove.
    pub(crate) unproven: BTreeSet<String>,
    /// How local deliveries end.
    pub(crate) local: Outcome,
    pub(crate) store: BTreeMap<EnvelopeId, Envelope>,
    pub(crate) trash: BTreeMap<EnvelopeId, Envelope>,
    pub(crate) store_failed: bool,
    pub(crate) diary: Diary,
    /// Longest time a step takes.
    pub(crate) latency: Duration,
    /// Whether the next attempt of an envelope has been asked for, so that it may come early.
    pub(crate) hastened: BTreeSet<EnvelopeId>,
    pub(crate) check_due: bool,
    earliest: BTreeMap<EnvelopeId, Duration>,
    connections: BTreeMap<SessionId, Connection>,
    /// When something was connected to last, and when a route was left last.
    last: BTreeMap<Last, Duration>,
    running: BTreeMap<EnvelopeId, Agent>,
    notices: usize,
    steps: BTreeMap<(Duration, u64), Step>,
    sequence: u64,
    start: Instant,
    date: i64,
    elapsed: Duration,
    last_message: u32,
}

impl World {
    pub(crate) fn new(seed: u64, limits: Limits) -> Self {
        let limits = Arc::new(limits);
        let delays = vec![Duration::from_hours(4)];
        let paused = Paused::default();
        Self {
            engine: Engine::new(limits.clone(), delays, "mx.example.org", seed, paused),
            limits,
            rng: Rng::new(!seed),
            hosts: BTreeMap::new(),
            domains: BTreeMap::new(),
            unproven: BTreeSet::new(),
            exchanges: BTreeMap::new(),
            local: delivered(),
            store: BTreeMap::new(),
            trash: BTreeMap::new(),
            store_failed: false,
            diary: Diary::default(),
            latency: Duration::from_millis(20),
            hastened: BTreeSet::new(),
            check_due: true,
            earliest: BTreeMap::new(),
            connections: BTreeMap::new(),
            last: BTreeMap::new(),
            running: BTreeMap::new(),
            notices: 0,
            steps: BTreeMap::new(),
            sequence: 0,
            start: start(),
            date: i64::try_from(DATE).unwrap(),
            elapsed: Duration::ZERO,
            last_message: 0,
        }
    }

    pub(crate) fn now(&self) -> Now {
        let date = self.date + i64::try_from(self.elapsed.as_secs()).unwrap();
        Now {
            mono: self.start + self.elapsed,
            wall: Timestamp::from_secs(u64::try_from(date).unwrap()),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Sets the wall clock.
    pub(crate) fn step_clock(&mut self, seconds: i64) {
        self.date += seconds;
    }

    /// An envelope of a new message.
    pub(crate) fn envelope(&mut self, delivery: Delivery, dest: &str) -> Envelope {
        self.last_message += 1;
        let message = MessageId::new(self.last_message).unwrap();
        self.recipient(message, delivery, dest)
    }

    /// An envelope of a message.
    pub(crate) fn recipient(
        &mut self,
        message: MessageId,
        delivery: Delivery,
        dest: &str,
    ) -> Envelope {
        let mut low = 1;
        while self
            .store
            .contains_key(&message.envelope(NonZeroU32::new(low).unwrap()))
        {
            low += 1;
        }
        Envelope {
            id: message.envelope(NonZeroU32::new(low).unwrap()),
            action: "action".into(),
            tag: "".into(),
            delivery,
            smtpname: "mx.example.org".into(),
            helo: "client".into(),
            hostname: "<unknown>".into(),
            username: "".into(),
            source: Source::Local,
            sender: "sender@example.org".parse().unwrap(),
            rcpt: dest.parse().unwrap(),
            dest: dest.parse().unwrap(),
            ctime: self.now().wall,
            last_try: Timestamp::EPOCH,
            last_bounce: Timestamp::EPOCH,
            ttl: self.limits.queue_ttl,
            retry: 0,
            flags: Flags::default(),
            dsn: Dsn::default(),
            status: None,
            errorline: "".into(),
            remote: "".into(),
            attempts: Attempts::default(),
        }
    }

    /// Stores and announces envelopes.
    pub(crate) fn submit(&mut self, envelopes: Vec<Envelope>) -> Vec<EnvelopeId> {
        let scheduled: Vec<_> = envelopes.iter().map(Scheduled::from).collect();
        let ids = envelopes.iter().map(|envelope| envelope.id).collect();
        self.store.extend(envelopes.into_iter().map(|e| (e.id, e)));
        self.handle(Event::Queued(scheduled));
        ids
    }

    /// Stores and announces one message with one recipient.
    pub(crate) fn send(&mut self, delivery: Delivery, dest: &str) -> EnvelopeId {
        let envelope = self.envelope(delivery, dest);
        self.submit(vec![envelope])[0]
    }

    pub(crate) fn remove(&mut self, selector: Selector) -> usize {
        let ids: Vec<_> = self
            .store
            .keys()
            .copied()
            .filter(|id| selector.matches(*id))
            .collect();
        for id in &ids {
            self.store.remove(id);
        }
        self.engine.removed(self.now(), &ids);
        self.drain();
        ids.len()
    }

    /// Removes what is selected, into the trash.
    pub(crate) fn discard(&mut self, selector: Selector) -> usize {
        let discarded = self.store.extract_if(.., |id, _| selector.matches(*id));
        let discarded: Vec<_> = discarded.collect();
        let ids: Vec<_> = discarded.iter().map(|(id, _)| *id).collect();
        self.trash.extend(discarded);
        let running = self.engine.removed(self.now(), &ids);
        self.drain();
        running
    }

    /// Brings back what is selected.
    pub(crate) fn restore(&mut self, selector: Selector) {
        let restored = self.trash.extract_if(.., |id, _| selector.matches(*id));
        let restored: Vec<_> = restored.map(|(_, envelope)| envelope).collect();
        for envelope in &restored {
            // As after a restart: when it was to be tried next is not kept.
            self.earliest.remove(&envelope.id);
        }
        self.submit(restored);
    }

    pub(crate) fn suspend(&mut self, selector: Selector, suspended: bool) -> usize {
        let mut ids = Vec::new();
        for (id, envelope) in &mut self.store {
            if selector.matches(*id) && envelope.flags.suspended != suspended {
                envelope.flags.suspended = suspended;
                ids.push(*id);
            }
        }
        self.engine.suspended(self.now(), &ids, suspended);
        self.drain();
        ids.len()
    }

    pub(crate) fn schedule(&mut self, selector: Selector) -> usize {
        let ids = self.store.keys().filter(|id| selector.matches(**id));
        self.hastened.extend(ids);
        let count = self.engine.schedule(self.now(), selector);
        self.drain();
        count
    }

    pub(crate) fn pause(&mut self, mda: bool, mta: bool) {
        let smtp = false;
        self.engine.pause(self.now(), Paused { mda, mta, smtp });
        self.drain();
    }

    pub(crate) fn fail_store(&mut self) {
        self.store_failed = true;
        self.steps
            .retain(|_, step| !matches!(step, Step::Settle(_)));
        self.handle(Event::StoreFailed);
    }

    pub(crate) fn recover_store(&mut self) {
        self.store_failed = false;
        self.handle(Event::StoreRecovered);
    }

    /// Lets the world run for so long.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.elapsed + time;
        while self.step(end) {}
        self.elapsed = end;
        self.handle(Event::TimedOut);
    }

    /// Lets the world run until nothing is queued, at most for so long.
    pub(crate) fn run_out(&mut self, time: Duration) {
        let end = self.elapsed + time;
        while !(self.engine.is_empty() && self.engine.idle()) && self.step(end) {}
        assert!(self.store.is_empty(), "still queued: {:#?}", self.store);
        assert!(
            self.engine.is_empty(),
            "the schedule knows what does not exist"
        );
    }

    /// One thing that happens until then; `false` if nothing does.
    pub(crate) fn step(&mut self, end: Duration) -> bool {
        let deadline = self.engine.deadline();
        let deadline = deadline.map(|at| at.saturating_duration_since(self.start));
        let next = self.steps.first_key_value().map(|((at, _), _)| *at);
        let Some(at) = deadline.into_iter().chain(next).min() else {
            return false;
        };
        if at > end {
            return false;
        }
        self.elapsed = self.elapsed.max(at);
        if next.is_some_and(|next| next <= self.elapsed) {
            let (_, step) = self.steps.pop_first().unwrap();
            self.take(step);
        } else {
            self.handle(Event::TimedOut);
        }
        self.check();
        true
    }

    pub(crate) fn handle(&mut self, event: Event) {
        self.engine.handle(self.now(), event);
        self.drain();
    }

    pub(crate) fn drain(&mut self) {
        let mut actions = 0;
        while let Some(action) = self.engine.poll() {
            actions += 1;
            assert!(actions < 100_000, "the engine never stops: {action:?}");
            self.act(action);
        }
        if let Some(at) = self.engine.deadline() {
            assert!(
                at > self.now().mono,
                "a deadline that is over makes a busy loop"
            );
        }
    }

    fn later(&mut self, step: Step) {
        let millis = u64::try_from(self.latency.as_millis()).unwrap();
        let wait = Duration::from_millis(1 + self.rng.below(millis));
        self.sequence += 1;
        self.steps
            .insert((self.elapsed + wait, self.sequence), step);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Load(ids) => {
                assert!(!self.store_failed, "a new attempt while the store fails");
                self.diary.loads += ids.len();
                self.later(Step::Load(ids));
            }
            Action::Settle(settlements) => {
                assert!(!self.store_failed, "a settlement while the store fails");
                self.later(Step::Settle(settlements));
            }
            Action::Resolve { query, name, .. } => self.later(Step::Answer(query, name.into())),
            Action::Connect {
                session,
                source,
                target,
                domain,
                relay,
                ..
            } => {
                self.check_delays(source, target, &domain, &relay);
                self.diary
                    .connects
                    .push((target, self.elapsed.as_secs_f64()));
                let connection = Connection {
                    source,
                    target,
                    domain,
                    ready: false,
                    transaction: None,
                };
                self.connections.insert(session, connection);
                let open = self.connections.len();
                self.diary.sessions_max = self.diary.sessions_max.max(open);
                self.later(Step::Greet(session));
            }
            Action::Transfer {
                session,
                transaction,
            } => self.transfer(session, transaction),
            Action::Quit(session) => {
                let connection = self.connections.get_mut(&session).expect("QUIT on nothing");
                assert!(connection.ready && connection.transaction.is_none());
                connection.ready = false;
                self.later(Step::Close(session));
            }
            Action::Deliver(envelope) => {
                self.begin(envelope.id, Agent::Mda);
                self.later(Step::Run(envelope));
            }
            Action::Notify(envelopes) => {
                for envelope in &envelopes {
                    self.begin(envelope.id, Agent::Bounce);
                }
                self.notices += 1;
                self.later(Step::Report(envelopes));
            }
            Action::Weigh | Action::Purge { .. } => panic!("nobody spoke of the trash"),
            Action::Log(note) => match note {
                Note::Expired(envelope) => self.diary.expired.push(envelope.id),
                Note::DoubleBounce(_) => self.diary.double_bounces += 1,
                Note::ClockSet(_) => self.diary.clock_steps += 1,
                Note::Delivery { .. } => {}
            },
        }
    }

    fn transfer(&mut self, session: SessionId, transaction: Transaction) {
        for recipient in &transaction.recipients {
            self.begin(recipient.envelope, Agent::Mta);
        }
        let most = self.limits.mta.recipients_per_transaction;
        assert!((1..=most).contains(&transaction.recipients.len()));
        self.diary.transactions.push(transaction.clone());
        let connection = self.connections.get_mut(&session).expect("MAIL on nothing");
        assert!(connection.ready && connection.transaction.is_none());
        connection.transaction = Some(transaction);
        self.later(Step::Finish(session));
    }

    /// An attempt begins: it must be lawful.
    fn begin(&mut self, id: EnvelopeId, agent: Agent) {
        assert!(!self.store_failed, "{id}: attempt while the store fails");
        let before = self.running.insert(id, agent);
        assert_eq!(before, None, "{id}: two attempts at once");
        let envelope = self
            .store
            .get(&id)
            .unwrap_or_else(|| panic!("{id}: tried, but gone"));
        let asked = self.hastened.remove(&id);
        assert!(
            asked || !envelope.flags.suspended,
            "{id}: tried, but paused"
        );
        let earliest = self.earliest.get(&id).copied().unwrap_or_default();
        let early = self.check_due && !asked && self.elapsed < earliest;
        assert!(
            !early,
            "{id}: tried at {:?}, due at {earliest:?}",
            self.elapsed
        );
        self.diary.attempts.push((id, self.elapsed.as_secs_f64()));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Load(ids) => {
                let read = |id: EnvelopeId| match self.store.get(&id) {
                    _ if self.store_failed => Loaded::Unavailable(failure("cannot read")),
                    Some(envelope) => Loaded::Envelope(Box::new(envelope.clone()), CONTENT),
                    None => Loaded::Gone,
                };
                let loaded = ids.into_iter().map(|id| (id, read(id))).collect();
                self.handle(Event::Loaded(loaded));
            }
            Step::Settle(settlements) => {
                let ids = settlements.iter().map(|s| s.envelope).collect();
                for settlement in settlements {
                    self.settle(settlement);
                }
                self.handle(Event::Settled(ids));
            }
            Step::Answer(query, name) => {
                let named = self.exchanges.get(&name).map(|exchanges| Resolution {
                    exchanges: exchanges.clone(),
                    ttl: Duration::from_mins(5),
                });
                let answer = match self.domains.get(&name) {
                    _ if named.is_some() => Ok(named.unwrap()),
                    Some(Ok(list)) => Ok(resolution(list)),
                    Some(Err(unresolved)) => Err(unresolved.clone()),
                    None => Err(Unresolved::Permanent(no_domain())),
                };
                self.handle(Event::Resolved { query, answer });
            }
            Step::Greet(session) => self.greet(session),
            Step::Finish(session) => self.finish(session),
            Step::Close(session) => self.close(session, None),
            Step::Run(envelope) => {
                self.running.remove(&envelope.id);
                let outcome = self.local.clone();
                self.note(envelope.id, &outcome);
                let envelope = envelope.id;
                self.handle(Event::Ran { envelope, outcome });
            }
            Step::Report(envelopes) => self.report(envelopes),
        }
    }

    fn settle(&mut self, settlement: Settlement) {
        let id = settlement.envelope;
        let Some(envelope) = self.store.get_mut(&id) else {
            if let Change::Done = settlement.change {
                self.trash.remove(&id);
            }
            return;
        };
        match settlement.change {
            Change::Done => {
                self.store.remove(&id);
            }
            Change::Retry {
                retry,
                last_try,
                status,
                errorline,
                via,
                warned,
            } => {
                let attempt = retry > envelope.retry;
                if attempt {
                    let before = (envelope.last_try, &*envelope.errorline);
                    envelope.attempts.add(via.as_deref(), &errorline, before);
                }
                envelope.retry = retry;
                envelope.last_try = last_try;
                envelope.status = status;
                envelope.errorline = errorline;
                envelope.last_bounce = warned.unwrap_or(envelope.last_bounce);
                let envelope = envelope.clone();
                if attempt {
                    self.earliest
                        .insert(id, self.elapsed + shortest_wait(&envelope, self.now()));
                }
            }
        }
        if let Some(bounce) = settlement.bounce {
            assert!(
                !self.store.contains_key(&bounce.id),
                "bounce with an id in use"
            );
            self.diary.bounces.push((*bounce).clone());
            self.store.insert(bounce.id, *bounce);
        }
    }

    fn greet(&mut self, session: SessionId) {
        let target = self.connections[&session].target;
        let to_it = |c: &&Connection| c.ready && c.target == target;
        let open = self.connections.values().filter(to_it).count();
        let dead = match self.host(target.ip()) {
            Host::Dead => true,
            Host::Crowded(most) => open >= most,
            Host::Moody => self.rng.below(4) == 0,
            Host::Accepts | Host::Defers | Host::Rejects | Host::TurnsAway => false,
        };
        if dead {
            self.close(session, Some(failure("connection refused")));
            return;
        }
        if self.unproven.contains(&*self.connections[&session].domain) {
            let failure = Failure::new(Status::transient(7, 5), "not among the exchangers");
            self.close(session, Some(failure));
            return;
        }
        self.connections.get_mut(&session).unwrap().ready = true;
        self.handle(Event::Ready(session));
    }

    fn finish(&mut self, session: SessionId) {
        let connection = self.connections.get_mut(&session).unwrap();
        let host = connection.target.ip();
        let transaction = connection.transaction.take().unwrap();
        if self.host(host) == Host::TurnsAway {
            let failure = failure("451 later");
            self.handle(Event::Troubled { session, failure });
        }
        let mut outcomes = Vec::new();
        for recipient in transaction.recipients {
            let id = recipient.envelope;
            let outcome = match self.host(host) {
                Host::Defers | Host::Dead | Host::TurnsAway => {
                    Outcome::TempFail(failure("451 later"))
                }
                Host::Rejects => Outcome::PermFail(rejection()),
                Host::Accepts | Host::Crowded(_) => delivered(),
                Host::Moody => match self.rng.below(8) {
                    0..3 => Outcome::TempFail(failure("451 later")),
                    3 => Outcome::PermFail(rejection()),
                    4 => Outcome::Loop,
                    _ => delivered(),
                },
            };
            self.running.remove(&id);
            self.note(id, &outcome);
            outcomes.push((id, outcome));
        }
        self.handle(Event::Attempted { session, outcomes });
        if self.host(host) == Host::Moody && self.rng.below(5) == 0 {
            self.close(session, Some(failure("connection reset")));
        } else {
            self.handle(Event::Ready(session));
        }
    }

    fn close(&mut self, session: SessionId, failure: Option<Failure>) {
        if let Some(left) = self.connections.remove(&session) {
            let left = Last::Left(left.source, left.target);
            self.last.insert(left, self.elapsed);
        }
        self.handle(Event::Disconnected { session, failure });
    }

    fn report(&mut self, envelopes: Vec<Envelope>) {
        self.notices -= 1;
        let reported: Vec<_> = envelopes.iter().map(|envelope| envelope.id).collect();
        for id in &reported {
            self.running.remove(id);
        }
        let result = if self.store_failed {
            Err(failure("451 queue"))
        } else {
            for id in &reported {
                self.store.remove(id);
            }
            self.diary.notices.push(envelopes);
            Ok(())
        };
        self.handle(Event::Notified { reported, result });
    }

    fn host(&self, address: IpAddr) -> Host {
        self.hosts.get(&address).copied().unwrap_or(Host::Accepts)
    }

    fn note(&mut self, id: EnvelopeId, outcome: &Outcome) {
        if matches!(outcome, Outcome::Delivered { .. }) {
            self.diary.delivered.push(id);
        }
    }

    /// A connection is made: no delay may be running.
    fn check_delays(
        &mut self,
        source: Option<IpAddr>,
        target: SocketAddr,
        domain: &str,
        relay: &Relay,
    ) {
        let limits = self.limits.clone();
        let limits = limits.mta_for(domain);
        let delays = limits.delays(relay.host.is_none());
        let left = self.last.get(&Last::Left(source, target)).copied();
        let over = left.is_none_or(|left| self.elapsed >= left + delays.reconnect);
        assert!(
            over,
            "{target}: left at {left:?}, back at {:?}",
            self.elapsed
        );
        let of = || (Box::from(domain), relay.clone());
        for (what, delay) in [
            (Last::Host(target.ip()), limits.connect_delay_host),
            (Last::Source(source), limits.connect_delay_source),
            (Last::Domain(of().0), limits.connect_delay_domain),
            (Last::Relay(of().0, of().1), delays.relay),
            (
                Last::Connector(of().0, of().1, source),
                limits.connect_delay_connector,
            ),
            (Last::Route(source, target), delays.route),
        ] {
            let last = self.last.insert(what.clone(), self.elapsed);
            let over = last.is_none_or(|last| self.elapsed >= last + delay);
            assert!(over, "{what:?}: {last:?}, then {:?}", self.elapsed);
        }
    }

    /// What must be true at any time.
    pub(crate) fn check(&mut self) {
        let limits = self.limits.clone();
        let mut open: BTreeMap<_, usize> = BTreeMap::new();
        for connection in self.connections.values() {
            let (source, target) = (connection.source, connection.target);
            for what in [
                Last::Host(target.ip()),
                Last::Source(source),
                Last::Route(source, target),
                Last::Domain(connection.domain.clone()),
            ] {
                *open.entry(what).or_default() += 1;
            }
        }
        let mta = &limits.mta;
        for (what, open) in open {
            // A domain of its own may be allowed less, not more.
            let most = match &what {
                Last::Host(_) => mta.connections_per_host,
                Last::Source(_) => mta.connections_per_source,
                Last::Domain(domain) => limits.mta_for(domain).connections_per_domain,
                _ => mta.connections_per_route,
            };
            assert!(open <= most, "{what:?}: {open} connections");
        }
        for relay in self.engine.relays() {
            let mta = limits.mta_for(&relay.domain);
            assert!(relay.sessions <= mta.connections_per_relay);
            for connector in &relay.connectors {
                assert!(connector.sessions <= mta.connections_per_connector);
            }
        }
        let local = self
            .running
            .values()
            .filter(|agent| **agent == Agent::Mda)
            .count();
        assert!(local <= limits.mda_sessions, "{local} local deliveries");
        assert!(self.notices <= limits.bounce_sessions);
        let digest = self.engine.digest();
        let current = u64::try_from(self.engine.len()).unwrap();
        assert_eq!(digest.enqueued - digest.dequeued, current, "{digest:?}");
    }

    pub(crate) fn retries(&self, id: EnvelopeId) -> u16 {
        self.store.get(&id).map_or(0, |envelope| envelope.retry)
    }

    pub(crate) fn tries_of(&self, id: EnvelopeId) -> Vec<f64> {
        let tries = self.diary.attempts.iter().filter(|(of, _)| *of == id);
        tries.map(|(_, at)| *at).collect()
    }
}

const CONTENT: Content = Content {
    size: 1000,
    eight_bit: false,
    utf8: false,
};

#[expect(
    clippy::disallowed_methods,
    reason = "an instant can only be had from the clock"
)]
fn start() -> Instant {
    Instant::now()
}

/// Nine tenths of the time to the next slot (spec: `ctime + BASE * n^2`), or of the longest wait.
fn shortest_wait(envelope: &Envelope, now: Now) -> Duration {
    let base = match envelope.agent() {
        Agent::Mta => 400,
        Agent::Mda | Agent::Bounce => 10,
    };
    let age = now.wall.since(envelope.ctime).as_secs();
    let mut n = u64::from(envelope.retry);
    while base * n * n <= age {
        n += 1;
    }
    let wait = Duration::from_secs(base * n * n - age).min(Duration::from_hours(4));
    wait * 899 / 1000
}

fn resolution(list: &[(u16, IpAddr)]) -> Resolution {
    let exchange = |(preference, address): &(u16, IpAddr)| Exchange {
        preference: *preference,
        name: format!("mx{address}").into(),
        addresses: vec![*address],
    };
    Resolution {
        exchanges: list.iter().map(exchange).collect(),
        ttl: Duration::from_mins(5),
    }
}

pub(crate) fn delivered() -> Outcome {
    Outcome::Delivered {
        text: "250 ok".into(),
        notifies: false,
    }
}

pub(crate) fn failure(text: &str) -> Failure {
    Failure::new(Status::transient(4, 1), text)
}

fn rejection() -> Failure {
    Failure::new(Status::permanent(1, 1), "550 no such user")
}

fn no_domain() -> Failure {
    Failure::new(Status::permanent(1, 2), "Domain does not exist")
}

pub(crate) fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

pub(crate) fn relay() -> Delivery {
    Delivery::Mta(Relay::to(None))
}

/// Relaying from these addresses.
pub(crate) fn relay_from(src: &str) -> Delivery {
    Delivery::Mta(Relay {
        src: src.into(),
        ..Relay::to(None)
    })
}

pub(crate) fn smart_host(address: IpAddr) -> Delivery {
    Delivery::Mta(Relay::to(Some(RelayHost {
        scheme: Scheme::Smtp,
        label: "".into(),
        host: address.to_string().into(),
        port: 2525,
    })))
}

pub(crate) fn local(user: &str) -> Delivery {
    Delivery::Mda(Mda {
        method: Method::Mbox,
        user: user.into(),
        userbase: "".into(),
        delivery_user: "".into(),
        subaddress: "".into(),
    })
}

pub(crate) fn is_delay(bounce: &Envelope) -> bool {
    matches!(bounce.delivery, Delivery::Bounce(Bounce::Delayed { .. }))
}
