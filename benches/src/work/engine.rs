//! The engine alone: how fast it schedules and hands out, and what relays and connections take.
//!
//! What: an engine whose every wish is granted at once, in virtual time: loads, look-ups,
//! connections, deliveries, settlements. [`hand_out`] counts the time spent in the engine, that of
//! scheduling and handing out apart from that of recording what came of it;
//! [`of_connections`] and [`of_relays`] count resident memory.
//! Absent on purpose: the store, sockets, and the buffers of the daemon's drivers.

use crate::usage::memory;
use redspool_core::addr::Source;
use redspool_core::engine::{
    Action, Content, Engine, Event, Exchange, Loaded, Resolution, SessionId,
};
use redspool_core::envelope::{Attempts, Delivery, Dsn, Envelope, Flags, Relay, TlsPolicy};
use redspool_core::id::{EnvelopeId, Epoch, MessageIds};
use redspool_core::limits::{Limits, MtaLimits};
use redspool_core::machine::Machine as _;
use redspool_core::queue::{Failure, Outcome, Paused, Scheduled};
use redspool_core::reply::Status;
use redspool_core::rng::Rng;
use redspool_core::smtp::client;
use redspool_core::time::{Now, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The date at which it all happens.
const DATE: u64 = 1_700_000_000;

/// Envelopes of one message each, for so many domains in turn.
pub fn envelopes(count: u32, domains: u32) -> io::Result<Vec<Envelope>> {
    let (mut ids, mut rng) = (MessageIds::new(Epoch::new(1)), Rng::new(1));
    let mut envelopes = Vec::new();
    for number in 0..count {
        let message = loop {
            match ids.draw(&mut rng) {
                Some(message) => break message,
                None => ids.advance(),
            }
        };
        let domain = number % domains;
        let id = message.draw_envelope(&mut rng);
        let dest = format!("user{number}@d{domain}.example");
        envelopes.push(envelope(id, &dest)?);
    }
    Ok(envelopes)
}

fn envelope(id: EnvelopeId, dest: &str) -> io::Result<Envelope> {
    let address = |text: &str| text.parse().map_err(|_| io::Error::other("not an address"));
    Ok(Envelope {
        id,
        action: "outbound".into(),
        tag: "".into(),
        delivery: Delivery::Mta(Relay::to(None)),
        smtpname: "mx.example.org".into(),
        helo: "client.example.net".into(),
        hostname: "<unknown>".into(),
        username: "".into(),
        source: Source::Local,
        sender: address("sender@example.net")?,
        rcpt: address(dest)?,
        dest: address(dest)?,
        ctime: Timestamp::from_secs(DATE),
        last_try: Timestamp::EPOCH,
        last_bounce: Timestamp::EPOCH,
        ttl: Duration::from_hours(96),
        retry: 0,
        flags: Flags::default(),
        dsn: Dsn::default(),
        status: None,
        errorline: "".into(),
        remote: "".into(),
        attempts: Attempts::default(),
    })
}

/// What came of handing everything out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Handed {
    /// Time spent in the engine until everything was handed out: for mail that was queued, for its
    /// envelopes, hosts, connections, and for waiting.
    pub scheduling: Duration,
    /// Time spent in the engine for the outcomes: their settlement, their lines of the log.
    pub recording: Duration,
    /// Time that has passed in its world.
    pub virtual_time: Duration,
    /// Envelopes delivered.
    pub delivered: usize,
    /// Connections made.
    pub connections: usize,
}

/// Whether the hosts of a world answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hosts {
    Take,
    Refuse,
}

struct World<'e> {
    engine: Engine,
    envelopes: HashMap<EnvelopeId, &'e Envelope>,
    hosts: Hosts,
    answers: VecDeque<Event>,
    start: Instant,
    done: Handed,
}

impl<'e> World<'e> {
    fn new(envelopes: &'e [Envelope], limits: Limits, hosts: Hosts) -> Self {
        let paused = Paused::default();
        let scheduled = envelopes.iter().map(Scheduled::from).collect();
        Self {
            engine: Engine::new(Arc::new(limits), Vec::new(), "mx.example.org", 1, paused),
            envelopes: envelopes
                .iter()
                .map(|envelope| (envelope.id, envelope))
                .collect(),
            hosts,
            answers: VecDeque::from([Event::Queued(scheduled)]),
            start: Instant::now(),
            done: Handed::default(),
        }
    }

    /// Grants wishes until there are none at this moment of the world.
    fn settle_down(&mut self) {
        while let Some(event) = self.answers.pop_front() {
            self.tell(event);
        }
    }

    /// Lets time pass until something is due; `false` if nothing ever will be.
    fn wait(&mut self) -> bool {
        let Some(at) = self.engine.deadline() else {
            return false;
        };
        let passed = at.saturating_duration_since(self.start);
        self.done.virtual_time = self.done.virtual_time.max(passed);
        self.tell(Event::TimedOut);
        self.settle_down();
        true
    }

    fn tell(&mut self, event: Event) {
        let passed = self.done.virtual_time;
        let now = Now {
            mono: self.start + passed,
            wall: Timestamp::from_secs(DATE).after(passed),
        };
        let outcome = matches!(event, Event::Attempted { .. } | Event::Settled(_));
        let mut spent = Duration::ZERO;
        let begun = Instant::now();
        self.engine.handle(now, event);
        let mut action = self.engine.poll();
        spent += begun.elapsed();
        while let Some(wish) = action {
            self.grant(wish);
            let begun = Instant::now();
            action = self.engine.poll();
            spent += begun.elapsed();
        }
        if outcome {
            self.done.recording += spent;
        } else {
            self.done.scheduling += spent;
        }
    }

    fn grant(&mut self, action: Action) {
        match action {
            Action::Weigh | Action::Purge { .. } => unreachable!("nobody spoke of the trash"),
            Action::Load(ids) => {
                let load = |id: EnvelopeId| match self.envelopes.get(&id) {
                    Some(envelope) => {
                        let content = Content {
                            size: 1000,
                            eight_bit: false,
                            utf8: false,
                        };
                        Loaded::Envelope(Box::new((*envelope).clone()), content)
                    }
                    None => Loaded::Gone,
                };
                let loaded = ids.into_iter().map(|id| (id, load(id))).collect();
                self.answers.push_back(Event::Loaded(loaded));
            }
            Action::Settle(settlements) => {
                let ids = settlements.iter().map(|settlement| settlement.envelope);
                self.answers.push_back(Event::Settled(ids.collect()));
            }
            Action::Resolve { query, name, .. } => {
                let answer = Ok(resolution(&name));
                self.answers.push_back(Event::Resolved { query, answer });
            }
            Action::Connect { session, .. } => {
                self.done.connections += 1;
                self.answers.push_back(match self.hosts {
                    Hosts::Take => Event::Ready(session),
                    Hosts::Refuse => Event::Disconnected {
                        session,
                        failure: Some(Failure::new(Status::transient(4, 1), "connection refused")),
                    },
                });
            }
            Action::Transfer {
                session,
                transaction,
            } => self.deliver(session, &transaction.recipients),
            Action::Quit(session) => {
                let failure = None;
                self.answers
                    .push_back(Event::Disconnected { session, failure });
            }
            Action::Deliver(_) | Action::Notify(_) | Action::Log(_) => {}
        }
    }

    fn deliver(
        &mut self,
        session: SessionId,
        recipients: &[redspool_core::smtp::TransactionRecipient],
    ) {
        self.done.delivered += recipients.len();
        let delivered = || Outcome::Delivered {
            text: "250 2.0.0 Ok".into(),
            notifies: false,
        };
        let outcomes = recipients.iter().map(|r| (r.envelope, delivered()));
        let outcomes = outcomes.collect();
        self.answers
            .push_back(Event::Attempted { session, outcomes });
        self.answers.push_back(Event::Ready(session));
    }
}

/// One host per domain, with an address of its own.
fn resolution(domain: &str) -> Resolution {
    let digits: String = domain.chars().filter(char::is_ascii_digit).collect();
    let number: u32 = digits.parse().unwrap_or(0);
    let address = Ipv4Addr::from_bits(0x0a00_0001 + number);
    Resolution {
        exchanges: vec![Exchange {
            preference: 10,
            name: format!("mx.{domain}").into(),
            addresses: vec![IpAddr::V4(address)],
        }],
        ttl: Duration::from_hours(1),
    }
}

/// Schedules all of these, hands them out to sessions, and takes note of the deliveries.
pub fn hand_out(envelopes: &[Envelope], limits: Limits) -> Handed {
    let mut world = World::new(envelopes, limits, Hosts::Take);
    world.settle_down();
    while !world.engine.is_empty() && world.wait() {}
    world.done
}

/// Limits under which so many connections and relays may be there at a time.
fn roomy(count: u32) -> Limits {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    Limits {
        inflight: count,
        mta: MtaLimits {
            connections_per_source: count,
            idle_relays: count,
            probing_relays: count,
            probes: count,
            ..MtaLimits::default()
        },
        ..Limits::default()
    }
}

/// Octets that the engine keeps for so many connections that have nothing to send, each of a
/// relay of its own, with everything about their hosts.
pub fn of_connections(count: u32) -> io::Result<u64> {
    let envelopes = envelopes(count, count)?;
    let mut world = World::new(&envelopes, roomy(count), Hosts::Take);
    let before = memory()?;
    world.settle_down();
    let used = memory()?.saturating_sub(before);
    let idle = world
        .engine
        .relays()
        .filter(|relay| relay.sessions == 1)
        .count();
    drop(world);
    if idle != envelopes.len() {
        return Err(io::Error::other(format!(
            "{idle} relays have an idle connection"
        )));
    }
    Ok(used)
}

/// Octets that the engine keeps for so many relays without work or connections whose hosts are
/// down. Their mail waits in the schedule, which counts as well.
pub fn of_relays(count: u32) -> io::Result<u64> {
    let envelopes = envelopes(count, count)?;
    let mut world = World::new(&envelopes, roomy(count), Hosts::Refuse);
    let before = memory()?;
    world.settle_down();
    let used = memory()?.saturating_sub(before);
    let idle = world
        .engine
        .relays()
        .filter(|relay| relay.sessions == 0)
        .count();
    drop(world);
    if idle != envelopes.len() {
        return Err(io::Error::other(format!("{idle} relays are remembered")));
    }
    Ok(used)
}

/// Octets of so many client sessions between two messages, without the buffers of their sockets.
pub fn of_clients(count: u32) -> io::Result<u64> {
    let limits = Arc::new(MtaLimits::default());
    let now = Now {
        mono: Instant::now(),
        wall: Timestamp::from_secs(DATE),
    };
    let before = memory()?;
    let mut clients = Vec::new();
    for number in 0..count {
        let mut client = client::Client::new(client::Params {
            helo: "mx.example.org".into(),
            lmtp: false,
            tls: TlsPolicy::Never,
            credentials: None,
            limits: Arc::clone(&limits),
            peer: format!("192.0.2.1 (mx.d{number}.example)").into(),
        });
        client.handle(now, client::Event::Connected);
        for reply in ["220 hello\r\n", "250-mx\r\n250-PIPELINING\r\n250 DSN\r\n"] {
            client.handle(now, client::Event::Received(reply.into()));
            while client.poll().is_some() {}
        }
        clients.push(client);
    }
    let used = memory()?.saturating_sub(before);
    // Still in use until here.
    drop(clients);
    Ok(used)
}
