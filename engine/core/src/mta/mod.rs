//! Relaying: which message goes to which host, over which connection.
//!
//! Promises: no limit in [`MtaLimits`](crate::limits::MtaLimits) is exceeded; a host that could not
//! be reached is left alone for a while and then tried with one connection first; every envelope
//! taken comes back as [`Finished`], or is given back by `withdraw` or `retract`; a destination
//! that is down delays nobody else.
//! Absent on purpose: sockets, DNS, TLS, the text of SMTP. Names arrive resolved, results arrive as
//! outcomes.
//! Fails: never. A relay without a usable host answers with a temporary outcome and the cause of
//! the last connection that failed.

mod domain;
mod drain;
mod hoststat;
mod route;
mod session;
mod task;

pub use hoststat::HostStat;
pub use route::{Route, RouteId};

use crate::envelope::{Delivery, Envelope, Relay};
use crate::id::EnvelopeId;
use crate::limits::Limits;
use crate::pressure::{Marks, Pressure};
use crate::queue::{Failure, Outcome};
use crate::rng::Rng;
use crate::smtp::Transaction;
use crate::time::Now;
use domain::{Domain, DomainKey};
use hoststat::HostStats;
use route::Routes;
use session::Session;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use task::Tasks;

/// Number of an outgoing session; shown as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Number of a DNS question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// What a name means to a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
}

/// Number of a relay in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelayId(u64);

impl RelayId {
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
        /// Where to.
        target: SocketAddr,
        /// Name of the host.
        host: Box<str>,
        /// Protocol and names to use.
        relay: Relay,
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
    pub envelope: Envelope,
    /// The session that sent it, if it came to one.
    pub session: Option<SessionId>,
    /// Remote host as `IP (name)`, or empty.
    pub host: Box<str>,
    /// The outcome.
    pub outcome: Outcome,
}

/// What makes two envelopes use the same connections: the action's parameters, and where to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RelayKey {
    relay: Relay,
    domain: DomainKey,
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
}

impl RelayState {
    /// Sessions that may still serve tasks.
    fn sessions(&self) -> usize {
        self.connecting + self.idle.len() + self.busy
    }
}

/// A relay, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayRow {
    /// Its number.
    pub id: RelayId,
    /// Policy.
    pub relay: Relay,
    /// Domain, or the smart host's name.
    pub domain: Box<str>,
    /// Whether the domain is a host, found without MX.
    pub as_host: bool,
    /// Messages waiting.
    pub tasks: usize,
    /// Connections.
    pub sessions: usize,
    /// When the last connection was opened.
    pub last_connect: Option<Instant>,
    /// Whether it waits for the DNS.
    pub resolving: bool,
    /// Whether envelopes for it are held.
    pub on_hold: bool,
}

/// A remote host, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// Its address.
    pub address: IpAddr,
    /// The name under which it was found.
    pub name: Box<str>,
    /// Connections.
    pub sessions: usize,
    /// Routes to it.
    pub routes: usize,
    /// When the last connection was opened.
    pub last_connect: Option<Instant>,
}

/// Something to look at when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The end of a penalty, or of our memory of it.
    Route(SocketAddr),
    /// The end of a keep-alive.
    Idle(SessionId),
}

/// What a relay waits for that could not open as many connections as it wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gate {
    /// A place among the connections of a host.
    Host(IpAddr),
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
    relays: BTreeMap<RelayId, RelayState>,
    keys: BTreeMap<RelayKey, RelayId>,
    domains: BTreeMap<DomainKey, Domain>,
    queries: BTreeMap<QueryId, DomainKey>,
    routes: Routes,
    sessions: BTreeMap<SessionId, Session>,
    /// Which relay an envelope waits for.
    waiting: BTreeMap<EnvelopeId, RelayId>,
    gates: BTreeMap<Gate, VecDeque<RelayId>>,
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
            keys: BTreeMap::new(),
            domains: BTreeMap::new(),
            queries: BTreeMap::new(),
            routes: Routes::default(),
            sessions: BTreeMap::new(),
            waiting: BTreeMap::new(),
            gates: BTreeMap::new(),
            hoststats: HostStats::default(),
            timers: BTreeSet::new(),
            counts: Counts::default(),
            last: 0,
            stopping: false,
            actions: VecDeque::new(),
        }
    }

    /// Uses other limits from now on.
    pub fn configure(&mut self, now: Now, limits: Arc<Limits>) {
        self.limits = limits;
        let relays: Vec<_> = self.relays.keys().copied().collect();
        for relay in relays {
            self.drain(now, relay);
        }
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
        let key = RelayKey {
            relay: relay.clone(),
            domain: DomainKey::of(relay, &envelope),
        };
        let id = self.relay_of(key);
        let Some(relay) = self.relays.get_mut(&id) else {
            return Err(id);
        };
        let most = self.limits.mta.recipients_per_transaction;
        let marks = marks(&self.limits);
        if !relay.pressure.admits(relay.tasks.len(), marks) && !relay.tasks.fits(&envelope, most) {
            return Err(id);
        }
        self.hoststats.tried(envelope.dest.domain(), envelope.id);
        self.waiting.insert(envelope.id, id);
        self.counts.tasks += usize::from(relay.tasks.add(*envelope, content, most));
        self.drain(now, id);
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
        let ids = std::mem::take(&mut self.waiting).into_keys().collect();
        let relays: Vec<_> = self.relays.keys().copied().collect();
        for id in relays {
            if let Some(relay) = self.relays.get_mut(&id)
                && relay.tasks.len() > 0
            {
                self.counts.tasks -= relay.tasks.len();
                relay.tasks = Tasks::default();
                self.shrunk(now, id);
            }
            self.drain(now, id);
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

    /// Forgets penalties of one route or all of them.
    pub fn resume_route(&mut self, now: Now, route: Option<RouteId>) {
        self.routes.resume(route);
        let relays: Vec<_> = self.relays.keys().copied().collect();
        for relay in relays {
            self.drain(now, relay);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        while let Some((at, timer)) = self.timers.first().copied().filter(|t| t.0 <= now.mono) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Route(target) => {
                    let next = self.routes.timer(at, target, &self.limits.mta);
                    self.timers.extend(next.map(|next| (next, timer)));
                    self.open_gate(now, &Gate::Host(target.ip()));
                }
                Timer::Idle(session) => self.end_idle(now, session),
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

fn marks(limits: &Limits) -> Marks {
    Marks {
        hiwat: limits.mta.task_hiwat,
        lowat: limits.mta.task_lowat,
        release: limits.mta.task_release,
    }
}
