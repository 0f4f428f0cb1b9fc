//! The simulated world at work: the engine, and everything it meets, in virtual time.
//!
//! What: carries the engine's actions out as the daemon's drivers do, with a clock, a network, a
//! DNS, a disk and an administrator of its own.
//! Promises: one thing happens after the other, in an order that follows from the seed; the books
//! are checked at every step.

use super::Breach;
use super::agenda::Agenda;
use super::bug::Bug;
use super::disk::{Disk, Write};
use super::ledger::{Ledger, Verdict};
use super::link::Link;
use super::plan::{Domain, Mail, Mishap, Plan, SOURCES, Scene};
use super::trace::Trace;
use super::watch::Watch;
use bytes::Bytes;
use redspool_core::engine::{
    Action, Content, Engine, Event, Loaded, Lookup, Note, QueryId, SessionId, Unresolved,
};
use redspool_core::envelope::{Delivery, Envelope, Relay};
use redspool_core::id::{EnvelopeId, Epoch, MessageId, MessageIds};
use redspool_core::limits::{Limits, MtaLimits};
use redspool_core::machine::Machine as _;
use redspool_core::queue::{
    Failure, Outcome, Paused, Reader as _, Scheduled, Selector, Settlement,
};
use redspool_core::reply::Status;
use redspool_core::rng::Rng;
use redspool_core::time::{Now, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The date at which worlds begin.
const DATE: u64 = 1_700_000_000;

/// What we are called.
pub(super) const NAME: &str = "mx.example.org";

/// Age at which senders are told that their mail is late.
pub(super) const DELAY: Duration = Duration::from_hours(4);

/// After what time everything must be over, counted from the end of the faults: the life of a
/// message, then that of the notice about it, and some hours.
const TAIL: Duration = Duration::from_hours(96 + 96 + 24);

/// Something that happens. Steps with a number are of that life of the daemon, and come to
/// nothing in another.
#[derive(Debug)]
pub(super) enum Step {
    /// The next message comes.
    Mail,
    /// The next mishap.
    Mishap,
    /// The daemon starts again.
    Restart,
    /// The disk writes again.
    Mended,
    Load(u32, Vec<EnvelopeId>),
    /// The disk has dealt with what was written.
    Written(u32, Write),
    /// Results that the disk refused are written again.
    Retry(u32),
    Answer(u32, QueryId, Box<str>, Lookup),
    Run(u32, Box<Envelope>),
    Report(u32, Vec<Envelope>),
    /// A connection is there, or is not.
    Connected(SessionId),
    /// A handshake is over.
    Shaken(SessionId),
    Unconnected(SessionId, &'static str),
    Order(SessionId, Option<Box<redspool_core::smtp::Transaction>>),
    /// Octets have arrived at the host.
    ToPeer(SessionId, Bytes),
    /// Octets have arrived here, which confirm these envelopes.
    ToClient(SessionId, Bytes, Vec<EnvelopeId>),
    PeerClosed(SessionId),
    ClientClosed(SessionId),
    Deadline(SessionId),
}

/// A world.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) limits: Arc<Limits>,
    pub(super) scene: Scene,
    pub(super) engine: Option<Engine>,
    /// Number of the daemon's life.
    pub(super) life: u32,
    pub(super) agenda: Agenda<Step>,
    pub(super) disk: Disk,
    pub(super) ledger: Ledger,
    pub(super) watch: Watch,
    pub(super) trace: Trace,
    pub(super) links: BTreeMap<SessionId, Link>,
    pub(super) rng: Rng,
    /// Chance of the planted bug; apart, so that a bug changes nothing else.
    pub(super) whim: Rng,
    pub(super) ids: MessageIds,
    zones: BTreeMap<Box<str>, usize>,
    pub(super) mail: std::vec::IntoIter<Mail>,
    pub(super) mishaps: std::vec::IntoIter<(Duration, Mishap)>,
    pub(super) paused: Paused,
    pub(super) seed: u64,
    start: Instant,
    pub(super) elapsed: Duration,
    /// By how many seconds the wall clock has been set.
    pub(super) offset: i64,
    /// How many of them the engine is yet to see, and when its time stands still: bugs.
    pub(super) hidden: i64,
    pub(super) still: Option<(Duration, Duration)>,
    /// Messages taken with TLS, and handshakes that failed.
    pub(super) secured: u64,
    pub(super) fallbacks: u64,
    /// The first thing that was wrong.
    breach: Option<Breach>,
}

impl World {
    /// A world in which nothing has happened; its trace keeps the lines about one message, if any.
    pub(super) fn new(seed: u64, mut plan: Plan, watched: Option<MessageId>) -> Self {
        let mut scene = Scene::new(seed, &plan);
        // So many relays share few addresses of ours that their limits bite.
        for domain in scene.domains.iter().filter(|domain| domain.reachable) {
            let limits = MtaLimits {
                connections_per_source: 2,
                connect_delay_source: Duration::from_secs(1),
                ..plan.limits.mta.clone()
            };
            plan.limits.mta_for.insert(domain.name.clone(), limits);
        }
        let names = scene.domains.iter().enumerate();
        let zones = names.map(|(number, domain)| {
            let name = match &domain.delivery {
                Delivery::Mta(Relay {
                    host: Some(host), ..
                }) => host.host.clone(),
                _ => domain.name.clone(),
            };
            (name, number)
        });
        let zones = zones.collect();
        let mail = std::mem::take(&mut scene.mail).into_iter();
        let mishaps = std::mem::take(&mut scene.mishaps).into_iter();
        let mut world = Self {
            limits: Arc::new(plan.limits.clone()),
            plan,
            scene,
            engine: None,
            life: 0,
            agenda: Agenda::new(),
            disk: Disk::default(),
            ledger: Ledger::default(),
            watch: Watch::default(),
            trace: Trace::new(watched),
            links: BTreeMap::new(),
            rng: Rng::new(seed),
            whim: Rng::new(!seed),
            ids: MessageIds::new(Epoch::new(1)),
            zones,
            mail,
            mishaps,
            paused: Paused::default(),
            seed,
            start: Instant::now(),
            elapsed: Duration::ZERO,
            offset: 0,
            hidden: 0,
            still: None,
            secured: 0,
            fallbacks: 0,
            breach: None,
        };
        let date = world.now().wall;
        world
            .ledger
            .clock_set(Duration::ZERO, Timestamp::default(), date);
        world.restart();
        world.next_mail();
        world.next_mishap();
        world
    }

    /// Lets the world go on until nothing is queued and nothing will come, or something is wrong.
    pub(super) fn live(&mut self) -> Result<(), Breach> {
        let back = |(_, mishap): &(Duration, Mishap)| match mishap {
            Mishap::Clock(by) => u64::try_from(-by).unwrap_or(0),
            _ => 0,
        };
        let back = self.mishaps.as_slice().iter().map(back).sum();
        let end = self.plan.faults + TAIL + Duration::from_secs(back);
        loop {
            if let Some(breach) = self.breach.take() {
                return Err(breach);
            }
            if self.is_over() {
                return self.close();
            }
            let start = self.start;
            let awake = self.engine.as_ref().filter(|_| !self.stands_still());
            let deadline = awake.and_then(Engine::deadline);
            let deadline = deadline.map(|at| at.saturating_duration_since(start));
            let next = self.agenda.next();
            let Some(at) = deadline.into_iter().chain(next).min() else {
                return self.close();
            };
            if at > end {
                return self.close();
            }
            self.elapsed = self.elapsed.max(at);
            if next.is_some_and(|next| next <= self.elapsed) {
                if let Some(step) = self.agenda.take() {
                    self.step(step);
                }
            } else {
                self.tell(Event::TimedOut);
            }
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            mono: self.start + self.elapsed,
            wall: self.wall(),
        }
    }

    /// The wall clock, as it is set now.
    pub(super) fn wall(&self) -> Timestamp {
        let date = DATE + self.elapsed.as_secs();
        Timestamp::from_secs(date.saturating_add_signed(self.offset - self.hidden))
    }

    /// Whether the planted bug keeps the time from the engine.
    fn stands_still(&self) -> bool {
        self.still.is_some_and(|(_, until)| self.elapsed < until)
    }

    /// What the engine takes for now.
    fn engine_now(&self) -> Now {
        match self.still.filter(|_| self.stands_still()) {
            Some((at, _)) => {
                let date = DATE.saturating_add_signed(self.offset) + at.as_secs();
                Now {
                    mono: self.start + at,
                    wall: Timestamp::from_secs(date),
                }
            }
            None => self.now(),
        }
    }

    /// A point of the machines' time as time since the world began.
    pub(super) fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    /// Adds a step that happens within so many milliseconds.
    pub(super) fn within(&mut self, millis: u64, step: Step) {
        let wait = Duration::from_micros(1000 + self.rng.below(millis * 1000));
        self.agenda.add(self.elapsed + wait, step);
    }

    /// Notes what is wrong, if anything is, about an envelope or none.
    pub(super) fn check(&mut self, about: Option<EnvelopeId>, result: Result<(), String>) {
        if let Err(what) = result
            && self.breach.is_none()
        {
            let at = self.elapsed;
            if let Some(id) = about {
                self.trace.envelope(at, id, "BREACH", || what.clone());
            }
            self.breach = Some(Breach {
                at,
                envelope: about,
                what,
            });
        }
    }

    /// Whether the planted bug strikes, if it is this one.
    pub(super) fn bug(&mut self, bug: Bug, one_in: u64) -> bool {
        self.plan.bug == Some(bug) && self.whim.below(one_in) == 0
    }

    fn is_over(&self) -> bool {
        let engine = self.engine.as_ref();
        self.mail.len() == 0
            && self.mishaps.len() == 0
            && self.elapsed > self.plan.faults
            && engine.is_some_and(|engine| engine.is_empty() && engine.idle())
            && self.disk.is_idle()
    }

    /// The end of the world: the books are balanced.
    fn close(&mut self) -> Result<(), Breach> {
        let live: Vec<_> = self.ledger.live().collect();
        if let Some(id) = live.first().copied() {
            let queued = self.engine.as_mut().and_then(|engine| {
                let now = Now {
                    mono: self.start + self.elapsed,
                    wall: Timestamp::from_secs(DATE),
                };
                engine.runstate(now, id)
            });
            let what = format!(
                "{} envelopes have not ended, the first one is {:?} in the schedule, {:?}",
                live.len(),
                queued,
                self.ledger.get(id)
            );
            self.check(Some(id), Err(what));
        }
        let stored = self.disk.stored();
        if let Some(id) = stored.first().copied() {
            self.check(Some(id), Err("it has ended, but the store has it".into()));
        }
        let known = self.engine.as_ref().map_or(0, Engine::len);
        if known > 0 {
            self.check(
                None,
                Err(format!("the schedule has {known} that do not exist")),
            );
        }
        self.breach.take().map_or(Ok(()), Err)
    }

    fn step(&mut self, step: Step) {
        let life = self.life;
        match step {
            Step::Mail => self.mail_comes(),
            Step::Mishap => self.mishap(),
            Step::Restart => self.restart(),
            Step::Mended => self.disk.mend(),
            Step::Load(of, ids) if of == life => self.load(ids),
            Step::Written(of, write) => self.written(of, write),
            Step::Retry(of) if of == life => self.retry(),
            Step::Answer(of, query, name, lookup) if of == life => {
                self.answer(query, &name, lookup);
            }
            Step::Run(of, envelope) if of == life => self.run(&envelope),
            Step::Report(of, envelopes) if of == life => self.report(&envelopes),
            Step::Load(..)
            | Step::Retry(_)
            | Step::Answer(..)
            | Step::Run(..)
            | Step::Report(..) => {}
            Step::Connected(session) => self.connected(session),
            Step::Shaken(session) => self.shaken(session),
            Step::Unconnected(session, why) => self.unconnected(session, why),
            Step::Order(session, transaction) => self.order(session, transaction),
            Step::ToPeer(session, octets) => self.reach_peer(session, &octets),
            Step::ToClient(session, octets, confirms) => {
                self.reach_client(session, octets, &confirms);
            }
            Step::PeerClosed(session) => self.peer_closed(session),
            Step::ClientClosed(session) => self.client_closed(session),
            Step::Deadline(session) => self.link_deadline(session),
        }
    }

    /// Reports an event to the engine, and carries out what it wants.
    pub(super) fn tell(&mut self, event: Event) {
        let now = self.engine_now();
        if let Some(engine) = &mut self.engine {
            engine.handle(now, event);
            self.drain();
        }
    }

    /// Does something with the engine, as the administrator, and carries out what it wants.
    pub(super) fn ask(&mut self, question: impl FnOnce(&mut Engine, Now)) {
        let now = self.engine_now();
        if let Some(engine) = &mut self.engine {
            question(engine, now);
            self.drain();
        }
    }

    fn drain(&mut self) {
        let mut actions = 0;
        while let Some(action) = self.engine.as_mut().and_then(Engine::poll) {
            actions += 1;
            if actions > 1_000_000 {
                return self.check(None, Err(format!("the engine never stops: {action:?}")));
            }
            self.act(action);
        }
        let deadline = self.engine.as_ref().and_then(Engine::deadline);
        if deadline.is_some_and(|at| at <= self.engine_now().mono) {
            self.check(
                None,
                Err("a deadline that is over makes a busy loop".into()),
            );
        }
    }

    fn act(&mut self, action: Action) {
        let life = self.life;
        match action {
            Action::Load(ids) => self.within(20, Step::Load(life, ids)),
            Action::Settle(settlements) => self.settle(settlements),
            Action::Weigh | Action::Purge { .. } => unreachable!("nobody spoke of the trash"),
            Action::Resolve {
                query,
                name,
                lookup,
            } => {
                let wait =
                    self.zone(&name, lookup).0 + Duration::from_millis(1 + self.rng.below(100));
                self.trace.count(self.elapsed, "resolve", query.0);
                self.agenda
                    .add(self.elapsed + wait, Step::Answer(life, query, name, lookup));
            }
            Action::Connect {
                session,
                source,
                target,
                host,
                domain,
                relay,
                ..
            } => {
                let ignored = source.is_some() && self.bug(Bug::SourceIgnored, 1);
                let source = if ignored { Some(SOURCES[0]) } else { source };
                let connection = super::watch::Connection {
                    source,
                    target,
                    domain,
                    relay,
                };
                self.connect(session, connection, &host);
            }
            Action::Transfer {
                session,
                transaction,
            } => self.transfer(session, transaction),
            Action::Quit(session) => self.agenda.add(self.elapsed, Step::Order(session, None)),
            Action::Deliver(envelope) => {
                self.begin(envelope.id, "delivers");
                self.within(2000, Step::Run(life, envelope));
            }
            Action::Notify(envelopes) => {
                for envelope in &envelopes {
                    self.begin(envelope.id, "reports");
                }
                self.within(50, Step::Report(life, envelopes));
            }
            Action::Log(note) => self.note(note),
        }
    }

    /// An agent sets about an envelope: it must be lawful.
    pub(super) fn begin(&mut self, id: EnvelopeId, word: &'static str) {
        let (now, agent) = (self.elapsed, self.ledger.get(id).map(|entry| entry.agent));
        self.trace.envelope(now, id, "attempt", || word.into());
        let mut result = self.ledger.begin(now, id);
        if result.is_ok() && self.disk.told() {
            result = Err("tried while results cannot be recorded".into());
        }
        let paused = match agent {
            Some(redspool_core::envelope::Agent::Mta) => self.paused.mta,
            Some(redspool_core::envelope::Agent::Mda) => self.paused.mda,
            _ => false,
        };
        if result.is_ok() && paused {
            result = Err("tried while its agent is paused".into());
        }
        self.check(Some(id), result);
    }

    fn note(&mut self, note: Note) {
        let (id, verdict) = match &note {
            Note::Delivery {
                envelope, outcome, ..
            } => (envelope.id, Verdict::from(outcome)),
            Note::Expired(envelope) => (envelope.id, Verdict::Expired),
            Note::DoubleBounce(_) | Note::ClockSet(_) => return,
        };
        if let Note::Delivery {
            envelope, outcome, ..
        } = &note
        {
            let reached = self.reaches(envelope, outcome);
            self.check(Some(id), reached);
        }
        self.trace
            .envelope(self.elapsed, id, "result", || match note {
                Note::Delivery { via, outcome, .. } => match via {
                    Some(via) => format!("{}: {outcome:?}", via.name),
                    None => format!("{outcome:?}"),
                },
                _ => "expired".into(),
            });
        let wall = self.now().wall;
        let judged = self.ledger.judged(self.elapsed, wall, id, verdict);
        self.check(Some(id), judged);
    }

    /// A host that one of our addresses does not reach keeps no mail from the others.
    fn reaches(&self, envelope: &Envelope, outcome: &Outcome) -> Result<(), String> {
        let Outcome::TempFail(failure) = outcome else {
            return Ok(());
        };
        let named = |domain: &&Domain| &*domain.name == envelope.dest.domain();
        let unreached = failure.text.contains("Network error");
        let domain = self.scene.domains.iter().find(named).filter(|_| unreached);
        if domain.is_some_and(|domain| domain.reachable) {
            let why = &failure.text;
            return Err(format!("put off, but another address reaches it: {why}"));
        }
        Ok(())
    }

    fn load(&mut self, ids: Vec<EnvelopeId>) {
        let reader = self.disk.reader();
        let failing = self.disk.failing();
        let read = |id: EnvelopeId| {
            if failing {
                return Loaded::Unavailable(temporary("the disk cannot be read"));
            }
            let envelope = reader.envelope(id).ok().flatten();
            let message = reader.message(id.message()).ok().flatten();
            match envelope.zip(message) {
                Some((envelope, message)) => {
                    let content = Content {
                        size: message.size,
                        eight_bit: message.eight_bit,
                        utf8: message.utf8,
                    };
                    Loaded::Envelope(Box::new(envelope), content)
                }
                None => Loaded::Gone,
            }
        };
        let loaded: Vec<_> = ids.into_iter().map(|id| (id, read(id))).collect();
        for (id, _) in &loaded {
            self.trace
                .envelope(self.elapsed, *id, "loaded", String::new);
            let in_time = self.ledger.handed_out(self.elapsed, *id);
            self.check(Some(*id), in_time);
        }
        self.tell(Event::Loaded(loaded));
        self.start_early();
    }

    fn zone(
        &self,
        name: &str,
        lookup: Lookup,
    ) -> (
        Duration,
        Result<redspool_core::engine::Resolution, Unresolved>,
    ) {
        let domain = self
            .zones
            .get(name)
            .map(|number| &self.scene.domains[*number]);
        if let Some(domain) = domain {
            return domain.zone.answer(self.elapsed, &self.scene.hosts);
        }
        let text = format!("no {lookup:?} for {name}");
        let failure = Failure::new(Status::permanent(1, 2), text);
        (Duration::ZERO, Err(Unresolved::Permanent(failure)))
    }

    /// The planted bug that tries an envelope before its time.
    fn start_early(&mut self) {
        if !self.bug(Bug::StartedEarly, 50) {
            return;
        }
        let waiting = self.ledger.waiting().next();
        if let Some(id) = waiting {
            self.ask(|engine, now| {
                engine.schedule(now, Selector::Envelope(id));
            });
        }
    }

    fn answer(&mut self, query: QueryId, name: &str, lookup: Lookup) {
        let answer = self.zone(name, lookup).1;
        self.tell(Event::Resolved { query, answer });
    }

    /// A local delivery ends.
    fn run(&mut self, envelope: &Envelope) {
        let id = envelope.id;
        let ill = self.elapsed < self.plan.faults && self.rng.below(5) == 0;
        let outcome = if ill {
            Outcome::TempFail(temporary("exited abnormally"))
        } else {
            Outcome::Delivered {
                text: "Delivered".into(),
                notifies: false,
            }
        };
        if !ill {
            let taken = self.ledger.take_envelope(self.elapsed, id, false);
            self.check(Some(id), taken);
            self.ledger.answered(self.elapsed, id);
        }
        let tried = self.ledger.tried(id, Some(&outcome), !ill);
        self.check(Some(id), tried);
        self.tell(Event::Ran {
            envelope: id,
            outcome,
        });
    }
}

/// A failure of our own that will pass.
pub(super) fn temporary(text: &str) -> Failure {
    Failure::new(Status::transient(3, 0), text)
}

/// Envelopes of settlements.
pub(super) fn ids_of(settlements: &[Settlement]) -> Vec<EnvelopeId> {
    settlements
        .iter()
        .map(|settlement| settlement.envelope)
        .collect()
}

/// What the schedule is told of envelopes.
pub(super) fn scheduled(envelopes: &[Envelope]) -> Vec<Scheduled> {
    envelopes.iter().map(Scheduled::from).collect()
}
