//! What a simulated world consists of: its domains and hosts, the mail that comes, what goes wrong.
//!
//! Promises: all of it follows from the seed; the mail for healthy domains is the same whatever
//! else there is, so that two worlds can be compared.

use super::bug::Bug;
use super::peer::{Chunks, Host, Shake, Temper};
use super::zone::{Exchangers, Zone};
use redspool_core::envelope::{Delivery, Mda, Method, Notify, Relay, RelayHost, Scheme, TlsRule};
use redspool_core::limits::{Limits, MtaLimits};
use redspool_core::rng::Rng;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// How large a world is, and how bad.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Domains that take mail all the time, if only by their second host.
    pub healthy: usize,
    /// Domains with which something is wrong, for a while or for ever.
    pub troubled: usize,
    /// Messages to healthy domains.
    pub mail: usize,
    /// Messages to troubled domains.
    pub trouble: usize,
    /// Messages to one domain that has one host.
    pub flood: usize,
    /// Messages to several domains of any kind.
    pub mixed: usize,
    /// For how long mail comes and things go wrong.
    pub faults: Duration,
    /// What kinds of trouble there are.
    pub tempers: &'static [Temper],
    /// Times the daemon is killed.
    pub crashes: usize,
    /// Times the disk refuses to write for a while.
    pub disk_faults: usize,
    /// Times the wall clock is set.
    pub clock_steps: usize,
    /// Commands of an administrator.
    pub commands: usize,
    /// The limits in force.
    pub limits: Limits,
    /// The planted bug, if any.
    pub bug: Option<Bug>,
}

/// Kinds of trouble for [`Plan::tempers`]: all of them.
pub const ALL: &[Temper] = &[
    Temper::Slow,
    Temper::Greylists,
    Temper::Busy,
    Temper::Crowded(2),
    Temper::TurnsAway,
    Temper::Refuses,
    Temper::DefersAtDot,
    Temper::DropsAfterDot,
    Temper::LateAfterDot,
    Temper::Babbles,
    Temper::Mute,
    Temper::Closed,
    Temper::Void,
];

/// Kinds of trouble in which nothing works at all.
pub const DEAD: &[Temper] = &[Temper::Mute, Temper::Closed, Temper::Void];

impl Plan {
    /// Domains, and messages from clients.
    pub fn size(&self) -> (usize, usize) {
        let messages = self.mail + self.trouble + self.flood + self.mixed;
        (self.healthy + self.troubled + 1, messages)
    }

    /// A world of everything, for this seed: four days in which mail comes and things go wrong,
    /// and as long as it takes until all is done. In every second world the limits are tight.
    pub fn week(seed: u64) -> Self {
        let mut limits = Limits::default();
        if seed % 2 == 1 {
            tighten(&mut limits, seed);
        }
        Self {
            healthy: 400,
            troubled: 300,
            mail: 600,
            trouble: 500,
            flood: 100,
            mixed: 100,
            faults: Duration::from_hours(96),
            tempers: ALL,
            crashes: 6,
            disk_faults: 8,
            clock_steps: 6,
            commands: 200,
            limits,
            bug: None,
        }
    }

    /// The same at size: five thousand destinations, a week of faults, and mail to match.
    pub fn large() -> Self {
        Self {
            healthy: 3500,
            troubled: 1500,
            mail: 12_000,
            trouble: 4000,
            flood: 2000,
            mixed: 1000,
            faults: Duration::from_hours(168),
            ..Self::week(0)
        }
    }

    /// A day of mail for healthy domains; besides, so many domains at which nothing works at all,
    /// with five messages each, and, if there are any, a flood for one that works. Nothing else
    /// goes wrong.
    pub fn shared(dead: usize) -> Self {
        Self {
            healthy: 500,
            troubled: dead,
            mail: 2000,
            trouble: 5 * dead,
            flood: if dead > 0 { 2000 } else { 0 },
            mixed: 0,
            faults: Duration::from_hours(24),
            tempers: DEAD,
            crashes: 0,
            disk_faults: 0,
            clock_steps: 0,
            commands: 0,
            limits: Limits::default(),
            bug: None,
        }
    }
}

/// Limits that bite, each in some worlds.
fn tighten(limits: &mut Limits, seed: u64) {
    let rare = |one_in: u64| (seed / 2).is_multiple_of(one_in);
    let delay = |one_in, seconds| Duration::from_secs(if rare(one_in) { seconds } else { 0 });
    limits.inflight = 60;
    limits.schedule_batch = 7;
    limits.hold_queue = if rare(2) { 5 } else { 1000 };
    limits.mta = MtaLimits {
        connections_per_host: 3,
        connections_per_route: if rare(2) { 1 } else { 3 },
        connections_per_source: 40,
        connections_per_connector: 2,
        connections_per_relay: 3,
        connections_per_domain: 3,
        waiting_relays: if rare(2) { 3 } else { 200 },
        mails_per_session: 4,
        recipients_per_transaction: 3,
        task_hiwat: 6,
        task_lowat: 3,
        task_release: 2,
        deferred: 5,
        hoststats: 100,
        connect_delay_host: delay(3, 2),
        connect_delay_connector: delay(4, 3),
        connect_delay_domain: delay(5, 4),
        transaction_delay: delay(4, 2),
        ..MtaLimits::default()
    };
}

/// What may become of mail for a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is delivered, from then on without much delay.
    From(Duration),
    /// It never is.
    Never,
    /// There is no such destination, which the DNS says.
    Nowhere,
    /// Some recipients are refused.
    Partly,
}

/// A destination.
#[derive(Debug)]
pub(super) struct Domain {
    pub(super) name: Box<str>,
    pub(super) zone: Zone,
    pub(super) fate: Fate,
    /// How mail for it is delivered.
    pub(super) delivery: Delivery,
    /// Whether a host of it can be reached at any time, from one of our addresses at least.
    pub(super) reachable: bool,
}

/// A message that will come.
#[derive(Clone, Debug)]
pub(super) struct Mail {
    pub(super) at: Duration,
    /// Number of the sender's domain; none for the null sender.
    pub(super) sender: Option<usize>,
    /// Number of the domain of each recipient.
    pub(super) rcpts: Vec<usize>,
    pub(super) ttl: Duration,
    pub(super) notify: Option<Notify>,
    /// Octets of its content, about.
    pub(super) size: usize,
}

/// Something that goes wrong, or that an administrator does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mishap {
    /// The daemon is killed and comes back after a while.
    Crash(Duration),
    /// The disk does not write for a while.
    Disk(Duration),
    /// The wall clock is set by so many seconds.
    Clock(i64),
    /// Relaying and local delivery are paused, or not.
    Pause { mta: bool, mda: bool },
    /// A message is removed.
    Remove,
    /// An envelope is paused.
    Suspend,
    /// All envelopes are resumed.
    Resume,
    /// A message is to be tried now.
    Schedule,
    /// All penalties are forgotten.
    ResumeRoutes,
}

/// The whole of a world, before anything has happened.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) hosts: Vec<Host>,
    pub(super) domains: Vec<Domain>,
    pub(super) mail: Vec<Mail>,
    pub(super) mishaps: Vec<(Duration, Mishap)>,
    /// Number of the flooded domain.
    pub(super) flooded: usize,
}

/// Our addresses that relays name: in a table, but for the last one.
pub(super) const SOURCES: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 4)),
];

/// Name of that table.
pub(super) const TABLE: &str = "ours";

/// Life of most messages.
pub(super) const LIFE: Duration = Duration::from_hours(96);

impl Scene {
    pub(super) fn new(seed: u64, plan: &Plan) -> Self {
        let mut scene = Self {
            hosts: Vec::new(),
            domains: Vec::new(),
            mail: Vec::new(),
            mishaps: Vec::new(),
            flooded: 0,
        };
        // A stream of numbers for each part, so that one part does not change another.
        let stream =
            |part: u64| Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(part));
        let mut rng = stream(1);
        for number in 0..plan.healthy {
            scene.healthy(number, plan, &mut rng);
        }
        scene.flooded = scene.domains.len();
        let host = scene.host(Temper::Prompt, None);
        scene.by_mx(
            "flooded.test".into(),
            found(vec![(10, host)], &mut rng),
            Fate::From(Duration::ZERO),
        );
        let mut rng = stream(2);
        let first = scene.domains.len();
        for number in 0..plan.troubled {
            scene.troubled(number, plan, &mut rng);
        }
        let last = scene.domains.len();
        let senders = scene.flooded;
        let mut rng = stream(3);
        for _ in 0..plan.mail {
            let to = pick(0, scene.flooded, &mut rng);
            scene.mail.push(mail(vec![to], senders, plan, &mut rng));
        }
        let mut rng = stream(4);
        for _ in 0..plan.trouble {
            let to = pick(first, last, &mut rng);
            scene.mail.push(mail(vec![to], last, plan, &mut rng));
        }
        let mut rng = stream(5);
        for _ in 0..plan.flood {
            let mut mail = mail(vec![scene.flooded], senders, plan, &mut rng);
            // All within an hour.
            mail.at = plan.faults / 4 + mail.at / 96;
            scene.mail.push(mail);
        }
        let mut rng = stream(6);
        for _ in 0..plan.mixed {
            let count = 2 + rng.below(20);
            let few = 1 + rng.below(count);
            let to: Vec<_> = (0..few).map(|_| pick(0, last, &mut rng)).collect();
            let rcpts = (0..count).map(|_| to[pick(0, to.len(), &mut rng)]);
            let rcpts = rcpts.collect();
            scene.mail.push(mail(rcpts, last, plan, &mut rng));
        }
        scene.mail.sort_by_key(|mail| mail.at);
        scene.mishaps = mishaps(plan, &mut stream(7));
        scene
    }

    fn host(&mut self, temper: Temper, turns: Option<(Duration, Temper)>) -> usize {
        let number = u32::try_from(self.hosts.len()).expect("hosts are few");
        let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 + number));
        let mut host = Host::new(address, temper, turns);
        host.dsn = number % 3 == 1;
        host.chunks = match number % 7 {
            0 | 2 | 4 => Chunks::Yes,
            1 => Chunks::Dislikes,
            5 => Chunks::Pretended,
            _ => Chunks::No,
        };
        host.shake = match number % 5 {
            1 => Shake::Works,
            2 => Shake::Fails(Duration::MAX),
            3 => Shake::Refuses,
            _ => Shake::No,
        };
        self.hosts.push(host);
        self.hosts.len() - 1
    }

    fn by_mx(&mut self, name: Box<str>, zone: Zone, fate: Fate) {
        self.by_relay(name, zone, fate, Relay::to(None));
    }

    fn by_relay(&mut self, name: Box<str>, zone: Zone, fate: Fate, relay: Relay) {
        self.domains.push(Domain {
            name,
            zone,
            fate,
            delivery: Delivery::Mta(relay),
            reachable: false,
        });
    }

    /// A domain whose mail goes out from several addresses, of which one or none reaches the host.
    fn sourced(&mut self, name: Box<str>, host: usize, plan: &Plan, rng: &mut Rng) {
        let mut relay = Relay::to(None);
        relay.src = match rng.below(3) {
            0 => format!("{{{}, {}}}", SOURCES[0], SOURCES[3]).into(),
            _ => TABLE.into(),
        };
        self.hosts[host].shake = Shake::Works;
        let deaf = plan.tempers.len() == ALL.len() && rng.below(4) > 0;
        self.hosts[host].deaf_to = deaf.then_some(SOURCES[0]);
        let zone = found(vec![(10, host)], rng);
        self.by_relay(name, zone, Fate::From(Duration::ZERO), relay);
        if let Some(domain) = self.domains.last_mut() {
            domain.reachable = true;
        }
    }

    /// A domain whose mail may go with TLS only, to a host that comes to have it, or does not.
    fn guarded(&mut self, name: Box<str>, until: Option<Duration>, rng: &mut Rng) {
        let host = self.host([Temper::Prompt, Temper::Wordy][pick(0, 2, rng)], None);
        let fate = until.map_or(Fate::Never, Fate::From);
        self.hosts[host].shake = match until {
            Some(Duration::ZERO) => Shake::Works,
            Some(until) => Shake::Fails(until),
            None => [Shake::No, Shake::Refuses, Shake::Fails(Duration::MAX)][pick(0, 3, rng)],
        };
        let mut relay = Relay::to(None);
        relay.security.tls = TlsRule::Unverified;
        self.by_relay(name, found(vec![(10, host)], rng), fate, relay);
    }

    fn healthy(&mut self, number: usize, plan: &Plan, rng: &mut Rng) {
        let name: Box<str> = format!("d{number}.test").into();
        let temper = [Temper::Prompt, Temper::Plain, Temper::Wordy][pick(0, 3, rng)];
        let host = self.host(temper, None);
        let fate = Fate::From(Duration::ZERO);
        let zone = match rng.below(12) {
            // The first domain serves others, too.
            _ if number == 0 => found(vec![(10, host)], rng),
            // Its first host is dead.
            0 => {
                let dead = self.host(DEAD[1 + pick(0, 2, rng)], None);
                found(vec![(10, dead), (20, host)], rng)
            }
            // It moves away from a host that dies soon after.
            1 => {
                let at = (plan.faults / 100) * u32::try_from(1 + rng.below(99)).unwrap_or(1);
                let ttl = Duration::from_secs(1 + rng.below(600));
                let old = self.host(temper, Some((at + ttl, Temper::Closed)));
                let (before, after) = (vec![(10, old)], vec![(10, host)]);
                Zone::Moves {
                    before,
                    after,
                    at,
                    ttl,
                }
            }
            // Two hosts share the load.
            2 | 3 => {
                let other = self.host(temper, None);
                found(vec![(10, other), (10, host)], rng)
            }
            // It is served by the host of another domain.
            4 => found(vec![(10, 0), (20, host)], rng),
            5 => return self.smart(name, host, number.is_multiple_of(2)),
            6 => return self.local(name, fate),
            7 => return self.sourced(name, host, plan, rng),
            8 => return self.guarded(name, Some(Duration::ZERO), rng),
            _ => found(vec![(10, host)], rng),
        };
        self.by_mx(name, zone, fate);
    }

    /// A domain whose mail goes to a smart host, named or numbered.
    fn smart(&mut self, name: Box<str>, host: usize, lmtp: bool) {
        self.hosts[host].lmtp = lmtp;
        let relay = RelayHost {
            scheme: if lmtp { Scheme::Lmtp } else { Scheme::Smtp },
            label: "".into(),
            host: if lmtp {
                self.hosts[host].address.to_string().into()
            } else {
                format!("h{host}.test").into()
            },
            port: 2525,
        };
        let ttl = Duration::from_mins(10);
        let list = vec![(0, host)];
        self.domains.push(Domain {
            name,
            zone: Zone::Found { list, ttl },
            fate: Fate::From(Duration::ZERO),
            delivery: Delivery::Mta(Relay::to(Some(relay))),
            reachable: false,
        });
    }

    /// A domain of our own.
    fn local(&mut self, name: Box<str>, fate: Fate) {
        let delivery = Delivery::Mda(Mda {
            method: Method::Mbox,
            user: format!("user-{name}").into(),
            userbase: "".into(),
            delivery_user: "".into(),
            subaddress: "".into(),
        });
        let zone = Zone::NoDomain;
        self.domains.push(Domain {
            name,
            zone,
            fate,
            delivery,
            reachable: false,
        });
    }

    fn troubled(&mut self, number: usize, plan: &Plan, rng: &mut Rng) {
        let name: Box<str> = format!("t{number}.test").into();
        let temper = plan.tempers[pick(0, plan.tempers.len(), rng)];
        let dead = DEAD.contains(&temper) || matches!(temper, Temper::Busy | Temper::TurnsAway);
        let forever = dead && rng.below(3) == 0;
        let turns = (!forever).then_some((plan.faults, Temper::Prompt));
        let host = self.host(temper, turns);
        let fate = match temper {
            Temper::Refuses => Fate::Partly,
            _ if forever => Fate::Never,
            _ => Fate::From(plan.faults),
        };
        let then = vec![(10, host)];
        let (until, ttl) = (plan.faults, Duration::from_mins(5));
        let dns = plan.tempers.len() == ALL.len();
        let (zone, fate) = match rng.below(20) {
            4 if dns => return self.guarded(name, Some(until), rng),
            5 if dns => return self.guarded(name, None, rng),
            0 if dns => (Zone::NoDomain, Fate::Nowhere),
            1 if dns => (Zone::NullMx, Fate::Nowhere),
            2 if dns => (Zone::Fails { until, then, ttl }, fate),
            3 if dns => (Zone::Silent { until, then, ttl }, fate),
            _ => (found(then, rng), fate),
        };
        self.by_mx(name, zone, fate);
    }
}

fn found(list: Exchangers, rng: &mut Rng) -> Zone {
    let ttl = [5, 60, 600, 86_400][pick(0, 4, rng)];
    let ttl = Duration::from_secs(ttl);
    Zone::Found { list, ttl }
}

/// A number from `first` on, below `end`.
pub(super) fn pick(first: usize, end: usize, rng: &mut Rng) -> usize {
    let count = u64::try_from(end.saturating_sub(first)).unwrap_or(0);
    first + usize::try_from(rng.below(count)).unwrap_or(0)
}

/// A moment before the end of the faults.
fn moment(plan: &Plan, rng: &mut Rng) -> Duration {
    let millis = u64::try_from(plan.faults.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(rng.below(millis))
}

fn mail(rcpts: Vec<usize>, senders: usize, plan: &Plan, rng: &mut Rng) -> Mail {
    let at = moment(plan, rng);
    let sender = (rng.below(20) > 0).then(|| pick(0, senders, rng));
    let notify = match rng.below(20) {
        0 => Some(Notify::default()),
        1 => Some(Notify {
            success: true,
            failure: true,
            delay: false,
        }),
        2 => Some(Notify {
            success: true,
            failure: false,
            delay: true,
        }),
        _ => None,
    };
    let ttl = match rng.below(20) {
        0 => Duration::from_hours(12),
        _ => LIFE,
    };
    let size = match rng.below(100) {
        0 => 150_000,
        _ => 100 + pick(0, 900, rng),
    };
    Mail {
        at,
        sender,
        rcpts,
        ttl,
        notify,
        size,
    }
}

fn mishaps(plan: &Plan, rng: &mut Rng) -> Vec<(Duration, Mishap)> {
    let mut mishaps = Vec::new();
    for _ in 0..plan.crashes {
        let down = Duration::from_secs(1 + rng.below(900));
        mishaps.push((moment(plan, rng), Mishap::Crash(down)));
    }
    for _ in 0..plan.disk_faults {
        let down = Duration::from_secs(1 + rng.below(1800));
        mishaps.push((moment(plan, rng), Mishap::Disk(down)));
    }
    for _ in 0..plan.clock_steps {
        let most = [90, 1800, 7200, 86_400, 259_200][pick(0, 5, rng)];
        let by = i64::try_from(1 + rng.below(most)).unwrap_or(1);
        let by = if rng.below(2) == 0 { by } else { -by };
        mishaps.push((moment(plan, rng), Mishap::Clock(by)));
    }
    for _ in 0..plan.commands {
        let at = moment(plan, rng);
        match rng.below(10) {
            0 => {
                let (mta, mda) = (rng.below(2) == 0, rng.below(2) == 0);
                let length = Duration::from_secs(1 + rng.below(3600));
                mishaps.push((at, Mishap::Pause { mta, mda }));
                mishaps.push((
                    at + length,
                    Mishap::Pause {
                        mta: false,
                        mda: false,
                    },
                ));
            }
            1 => mishaps.push((at, Mishap::Remove)),
            2..5 => mishaps.push((at, Mishap::Suspend)),
            5 => mishaps.push((at, Mishap::Resume)),
            6 => mishaps.push((at, Mishap::ResumeRoutes)),
            _ => mishaps.push((at, Mishap::Schedule)),
        }
    }
    mishaps.sort_by_key(|(at, _)| *at);
    if plan.commands > 0 {
        mishaps.push((
            plan.faults + Duration::from_hours(1),
            Mishap::Pause {
                mta: false,
                mda: false,
            },
        ));
        mishaps.push((plan.faults + Duration::from_hours(1), Mishap::Resume));
    }
    mishaps
}
