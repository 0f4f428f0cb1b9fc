//! Relaying: which message goes to which host, over which connection.
//!
//! Promises: no limit in [`MtaLimits`](crate::limits::MtaLimits) is exceeded; a host that could not
//! be reached is left alone for a while and then tried with one connection first; every envelope
//! taken comes back as [`Finished`], or is given back by `withdraw` or `retract`; a destination
//! that is down delays nobody else; no idle connection keeps a place that another relay waits for.
//! Absent on purpose: sockets, DNS, TLS, the text of SMTP. Names arrive resolved, results arrive as
//! outcomes.
//! Fails: never. A relay without a usable host answers with a temporary outcome and the cause of
//! the last connection that failed.

mod barred;
mod connector;
mod domain;
mod drain;
mod full;
mod hoststat;
mod line;
mod listing;
mod open;
mod resolve;
mod route;
mod session;
mod task;
mod waiting;

use barred::Barred;
pub use connector::{Flag, Sources};
pub use full::Full;
pub use hoststat::HostStat;
pub use listing::{BarredRow, ConnectorRow, HostRow, Place, RelayRow};
pub use route::{Route, RouteId, RouteKey};

pub use crate::envelope::Via;
pub use crate::id::SessionId;

use crate::envelope::{Delivery, Envelope, Relay};
use crate::hash::{Fixed, Seeded};
use crate::id::EnvelopeId;
use crate::limits::{Limits, MtaLimits};
use crate::pressure::{Marks, Pressure};
use crate::queue::{Blocks, Failure, Outcome};
use crate::rng::Rng;
use crate::smtp::Transaction;
use crate::time::Now;
use connector::{Connector, Source, sources};
use domain::{Domain, DomainKey};
use hoststat::HostStats;
use line::Line;
use route::Routes;
use session::Session;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use task::Tasks;

/// Port of SMTP between servers (RFC 5321 section 4.5.4.2).
const PORT: u16 = 25;

/// Number of a DNS question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// What a name means to a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lookup {
    /// Mail exchangers of a domain (RFC 5321 section 5.1).
    Mx,
    /// Addresses of a host.
    Host,
}

/// Where mail for a name goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// In order of preference; not empty, each with at least one address.
    pub exchanges: Vec<Exchange>,
    /// How long the answer may be used.
    pub ttl: Duration,
}

/// One mail exchanger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Lower comes first.
    pub preference: u16,
    /// Host name.
    pub name: Box<str>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Why a name leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// Ask again later.
    Temporary(Failure),
    /// There is nothing there: no such domain, null MX (RFC 7505).
    Permanent(Failure),
}

/// What relaying needs to know of a message's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Octets.
    pub size: u64,
    /// Whether there are octets above 127.
    pub eight_bit: bool,
    /// Whether it needs SMTPUTF8 (RFC 6531).
    pub utf8: bool,
}

/// Number of a relay in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelayId(u64);

impl RelayId {
    /// The relay with this number, which need not exist.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number; counts up from 1.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Ask the DNS.
    Resolve {
        /// Number for the answer.
        query: QueryId,
        /// Domain or host name.
        name: Box<str>,
        /// What is wanted.
        lookup: Lookup,
    },
    /// Open a session.
    Connect {
        /// Its number.
        session: SessionId,
        /// Local address; `None` if the system chooses.
        source: Option<IpAddr>,
        /// Where to.
        target: SocketAddr,
        /// Name of the host.
        host: Box<str>,
        /// Whose limits hold: the domain, or the smart host's name.
        domain: Box<str>,
        /// Protocol and names to use.
        relay: Arc<Relay>,
    },
    /// Send a message over a session that is ready.
    Transfer {
        /// Which session.
        session: SessionId,
        /// What to send.
        transaction: Transaction,
    },
    /// End a session that is ready.
    Quit(SessionId),
    /// An envelope is done with.
    Finished(Box<Finished>),
    /// Hold these envelopes, which are not being sent, for a relay.
    Hold(RelayId, Vec<EnvelopeId>),
    /// Take up to so many envelopes of a relay off hold, and tell how many with
    /// [`Mta::released`].
    Release(RelayId, usize),
    /// The relay failed: let the envelopes held for it wait for their next attempts.
    Defer(RelayId),
    /// The domain of these envelopes answers again: try them now.
    Hasten(Vec<EnvelopeId>),
}

/// How relaying an envelope ended.
#[derive(Debug)]
pub struct Finished {
    /// The envelope.
    pub envelope: Box<Envelope>,
    /// What it was sent over, if it came to a session.
    pub via: Option<Via>,
    /// The outcome.
    pub outcome: Outcome,
}

/// What makes two envelopes use the same connections: the action's parameters, and where to.
#[derive(Debug)]
struct RelayKey {
    domain: DomainKey,
    relay: Arc<Relay>,
}

/// A next hop with its policy, the messages that wait for it, and its connections.
#[derive(Debug)]
struct RelayState {
    key: RelayKey,
    tasks: Tasks,
    /// Sessions that are being opened.
    connecting: usize,
    /// Sessions that are ready and have nothing to do, the last used at the end.
    idle: Vec<SessionId>,
    /// Sessions that send.
    busy: usize,
    /// Sessions that are saying goodbye; they take part in the limits only.
    quitting: usize,
    pressure: Pressure,
    last_connect: Option<Instant>,
    /// Whether its next connection is a probe, or the last one was and has not become ready.
    probing: bool,
    /// Since when it has waited for a place.
    queued: Option<Instant>,
    /// Whether it was told to wait, and neither a place nor the time has come since: more mail makes
    /// no difference.
    told: bool,
    /// The addresses it may connect from, and which of them has the next turn.
    sources: Vec<Option<IpAddr>>,
    turn: usize,
    connectors: BTreeMap<Option<IpAddr>, Connector>,
    /// When it may go on, if it waits for a delay, or for a route to come back.
    until: Option<Instant>,
    /// Whether all its mail is held until it gets a place, and whether some of it has failed before.
    parked: Option<Parked>,
    /// Hosts that it does not use for a while.
    barred: Barred,
}

/// What is known of mail that is held until its relay gets a place.
#[derive(Clone, Copy, Debug)]
struct Parked {
    /// Whether the oldest message has failed before.
    again: bool,
}

impl RelayState {
    /// Whether the mail it would send next has failed before.
    fn tries_again(&self) -> bool {
        self.parked
            .map_or_else(|| self.tasks.has_failed(), |parked| parked.again)
    }

    /// Messages that justify a connection.
    fn demand(&self) -> usize {
        self.tasks.len().max(usize::from(self.parked.is_some()))
    }

    /// Sessions that may still serve tasks.
    fn sessions(&self) -> usize {
        self.connecting + self.idle.len() + self.busy
    }

    /// The port it connects to.
    fn port(&self) -> u16 {
        self.key.relay.host.as_ref().map_or(PORT, |host| host.port)
    }

    /// All connections.
    fn connections(&self) -> usize {
        self.sessions() + self.quitting
    }
}

/// Something to look at when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The end of a penalty, or of our memory of it.
    Route(RouteKey),
    /// The end of a keep-alive.
    Idle(SessionId),
    /// The end of a pause between transactions.
    Pause(SessionId),
    /// The end of a delay, or of a relay without work.
    Relay(RelayId),
    /// The end of a source's delay.
    Source(Option<IpAddr>),
}

/// What a relay waits for that could not open as many connections as it wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gate {
    /// A place among the connections of a host.
    Host(IpAddr),
    /// A place among those of a route.
    Route(RouteKey),
    /// A place among those of a source.
    Source(Option<IpAddr>),
    /// A place among the probes of a source.
    Probe(Option<IpAddr>),
    /// A place among those of a domain.
    Domain(DomainKey),
}

/// How much there is of what; kept as it changes, because it is asked for often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages waiting.
    pub tasks: usize,
    /// Messages being sent.
    pub running: usize,
    /// Envelopes of the messages being sent.
    sending: usize,
}

/// The relaying agent.
#[derive(Debug)]
pub struct Mta {
    limits: Arc<Limits>,
    /// Our own name: mail exchangers that bear it are ourselves.
    name: Box<str>,
    rng: Rng,
    relays: BTreeMap<RelayId, Box<RelayState>>,
    /// The parameters of relays, each once: most relays have the same.
    policies: HashSet<Arc<Relay>, Fixed>,
    domains: HashMap<DomainKey, Domain, Seeded>,
    queries: BTreeMap<QueryId, DomainKey>,
    routes: Routes,
    sources: BTreeMap<Option<IpAddr>, Source>,
    /// Connectors of all relays.
    connectors: usize,
    tables: Sources,
    /// Sources from which no mail goes to a domain, `*` being all.
    blocked: Blocks,
    sessions: BTreeMap<SessionId, Session>,
    /// Which relay an envelope waits for.
    waiting: HashMap<EnvelopeId, RelayId, Fixed>,
    gates: BTreeMap<Gate, Line>,
    /// Sessions that are ready and have nothing to do, the one idle longest first.
    spare: BTreeSet<(Instant, SessionId)>,
    hoststats: HostStats,
    timers: BTreeSet<(Instant, Timer)>,
    counts: Counts,
    last: u64,
    stopping: bool,
    actions: VecDeque<Action>,
}

impl Mta {
    /// No relays. `name` is the server's own.
    pub fn new(limits: Arc<Limits>, name: &str, seed: u64) -> Self {
        Self {
            limits,
            name: name.into(),
            rng: Rng::new(seed),
            relays: BTreeMap::new(),
            policies: HashSet::default(),
            domains: HashMap::with_hasher(Seeded::new(seed)),
            queries: BTreeMap::new(),
            routes: Routes::default(),
            sources: BTreeMap::new(),
            connectors: 0,
            tables: Sources::new(),
            blocked: Blocks::new(),
            sessions: BTreeMap::new(),
            waiting: HashMap::default(),
            gates: BTreeMap::new(),
            spare: BTreeSet::new(),
            hoststats: HostStats::default(),
            timers: BTreeSet::new(),
            counts: Counts::default(),
            last: 0,
            stopping: false,
            actions: VecDeque::new(),
        }
    }

    /// Uses other limits and source addresses from now on.
    pub fn configure(&mut self, now: Now, limits: Arc<Limits>, tables: Sources) {
        self.limits = limits;
        self.tables = tables;
        for relay in self.relays.values_mut() {
            let most = self.limits.mta_for(&relay.key.domain.name).sources;
            relay.sources = sources(&relay.key.relay.src, &self.tables, most);
            let (kept, before) = (&relay.sources, relay.connectors.len());
            relay
                .connectors
                .retain(|source, connector| connector.sessions > 0 || kept.contains(source));
            self.connectors -= before - relay.connectors.len();
        }
        self.drain_all(now);
    }

    /// Whether [`block`](Self::block) would change something and there is room for it.
    pub fn may_block(&self, source: IpAddr, domain: &str, blocked: bool) -> bool {
        let pair = (source, domain.into());
        let changes = self.blocked.contains(&pair) != blocked;
        changes && (!blocked || self.blocked.len() < self.limits.mta_blocks)
    }

    /// Sends no more mail from a source to a domain in lower case, or does so again. The unspecified
    /// address is the system's choice, `*` is any domain.
    pub fn block(&mut self, now: Now, source: IpAddr, domain: &str, blocked: bool) {
        let pair = (source, domain.into());
        if blocked {
            self.blocked.insert(pair);
        } else if self.blocked.remove(&pair) {
            self.drain_all(now);
        }
    }

    /// Keeps these sources and domains apart, as before a restart, and no others.
    pub fn keep_apart(&mut self, now: Now, blocks: Blocks) {
        self.blocked = blocks;
        self.drain_all(now);
    }

    /// The sources and domains that are kept apart.
    pub fn blocks(&self) -> &Blocks {
        &self.blocked
    }

    /// Takes an envelope to relay, or says for which relay it must be held.
    pub fn accept(
        &mut self,
        now: Now,
        envelope: Box<Envelope>,
        content: Content,
    ) -> Result<(), RelayId> {
        let Delivery::Mta(relay) = &envelope.delivery else {
            return Ok(());
        };
        let id = self.relay_of(relay, DomainKey::of(relay, &envelope));
        let Some(relay) = self.relays.get_mut(&id) else {
            return Err(id);
        };
        let limits = self.limits.mta_for(&relay.key.domain.name);
        let (most, mut marks) = (limits.recipients_per_transaction, marks(limits));
        if relay.probing {
            marks.hiwat = marks.hiwat.min(limits.probing_tasks);
        }
        if !relay.pressure.admits(relay.tasks.len(), marks) && !relay.tasks.fits(&envelope, most) {
            return Err(id);
        }
        self.hoststats.tried(envelope.dest.domain(), envelope.id);
        self.waiting.insert(envelope.id, id);
        self.counts.tasks += usize::from(relay.tasks.add(envelope, content, most));
        self.proceed(now, id);
        Ok(())
    }

    /// Takes an envelope back that is not being sent; says whether there was one.
    pub fn withdraw(&mut self, now: Now, envelope: EnvelopeId) -> bool {
        let Some(id) = self.waiting.remove(&envelope) else {
            return false;
        };
        if let Some(relay) = self.relays.get_mut(&id)
            && relay.tasks.remove(envelope)
        {
            self.counts.tasks -= 1;
            self.shrunk(now, id);
        }
        self.drain(now, id);
        true
    }

    /// Takes everything back that is not being sent.
    pub fn retract(&mut self, now: Now) -> Vec<EnvelopeId> {
        let mut ids: Vec<_> = std::mem::take(&mut self.waiting).into_keys().collect();
        ids.sort_unstable();
        let relays: Vec<_> = self.relays.keys().copied().collect();
        for id in relays {
            self.take_back(now, id);
        }
        ids
    }

    /// Of the envelopes [`Action::Release`] asked for, so many are coming.
    pub fn released(&mut self, now: Now, relay: RelayId, asked: usize, coming: usize) {
        if let Some(relay) = self.relays.get_mut(&relay) {
            relay.pressure.released(now.mono, asked, coming);
        }
    }

    /// Ends all sessions as soon as they have nothing to send.
    pub fn stop(&mut self) {
        self.stopping = true;
        let idle: Vec<_> = self
            .relays
            .values()
            .flat_map(|r| r.idle.iter().copied())
            .collect();
        for session in idle {
            self.quit(session);
        }
    }

    /// Forgets penalties of one route or all of them; says whether there was one.
    pub fn resume_route(&mut self, now: Now, route: Option<RouteId>) -> bool {
        let resumed = self.routes.resume(now.mono, route);
        for (key, timer) in &resumed {
            let timer = timer.map(|at| (at, Timer::Route(*key)));
            self.timers.extend(timer);
        }
        self.drain_all(now);
        !resumed.is_empty()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        while let Some((at, timer)) = self.timers.first().copied().filter(|t| t.0 <= now.mono) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Route(key) => {
                    let next = self.routes.timer(at, key, &self.limits.mta);
                    self.timers.extend(next.map(|next| (next, timer)));
                    self.open_gate(now, &Gate::Route(key));
                }
                Timer::Idle(session) => self.end_idle(now, session),
                Timer::Pause(session) => self.end_pause(now, session),
                Timer::Relay(relay) => self.drain(now, relay),
                Timer::Source(source) => self.drop_source_if_unused(now, source),
            }
        }
        self.hoststats
            .expire(now.wall, self.limits.mta.hoststat_ttl);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`tick`](Self::tick) wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }
}

fn marks(limits: &MtaLimits) -> Marks {
    Marks {
        hiwat: limits.task_hiwat,
        lowat: limits.task_lowat,
        release: limits.task_release,
    }
}
