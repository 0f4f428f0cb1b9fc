//! The daemon put together: what is shared, how it starts, re-reads its configuration and stops.
//!
//! Promises: listens only after the store is open and the schedule knows all of it; a clean stop
//! finishes commits and running attempts, within a grace time; a configuration with a fault
//! changes nothing.

use crate::access::Access;
use crate::counters::SharedCounters;
use crate::dnssec::Dnssec;
use crate::drivers::Drivers;
use crate::engine::{EngineHandle, channel, run as run_engine};
use crate::helper::{Connection, Helper};
use crate::ids::Ids;
use crate::inflight::Inflight;
use crate::listener::{self, Listener, Places};
use crate::listening;
use crate::log::Log;
use crate::mda::Mda;
use crate::offline::{self, Offline};
use crate::resolver::Resolver;
use crate::session::Listening;
use crate::settle::Settler;
use crate::store::Opening;
use crate::sts::Policies;
use crate::tls::Loaded;
use crate::tls::client::Clients;
use crate::users::Users;
use crate::{clock, control, suspects, trash};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use redspool_core::config::Config;
use redspool_core::control::{QueueState, Reply, SpaceRow, StatusRow, Subsystem};
use redspool_core::engine::{Engine, Event};
use redspool_core::limits::Limits;
use redspool_core::queue::{Paused, Scheduled, StoreError, Transition};
use redspool_core::rng::Rng;
use redspool_core::smtp::guesses::Guesses;
use redspool_core::time::Now;
use redspool_store::{GroupCommit, Health, QueueHandle};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How long running attempts and sessions may go on after the stop was asked for.
const GRACE: Duration = Duration::from_secs(30);

/// Envelopes handed to the engine at a time when it learns the queue at start-up.
const WALK_CHUNK: usize = 4096;

/// What all tasks of the daemon share.
pub struct Shared {
    /// The configuration in force.
    pub config: ArcSwap<Config>,
    /// Certificates, keys and authorities that it names.
    pub tls: ArcSwap<Loaded>,
    /// TLS of outgoing sessions.
    pub tls_clients: ArcSwap<Clients>,
    limits: ArcSwap<Limits>,
    /// The way to the engine.
    pub engine: EngineHandle,
    /// The way to the store.
    pub queue: QueueHandle,
    /// What opening the store found.
    pub opening: Opening,
    /// Notes what is being delivered.
    pub inflight: Arc<Inflight>,
    /// Where message-ids come from.
    pub ids: Ids,
    /// Asks the DNS.
    pub resolver: Resolver,
    /// Asks the DNS for what must be proven.
    pub dnssec: Dnssec,
    /// Policies of domains.
    pub policies: Policies,
    /// Runs programs with the rights they need.
    pub helper: Helper,
    /// Knows the system's users.
    pub users: Users,
    /// Whether passwords of the system's users can be checked.
    pub system_accounts: bool,
    /// Passwords that may be checked at the same time.
    pub password_checks: tokio::sync::Semaphore,
    /// Who has given wrong passwords.
    pub guesses: Mutex<Guesses>,
    /// Numbers without a single owner.
    pub counters: SharedCounters,
    /// Places for sessions.
    pub places: Arc<Places>,
    /// Whether SMTP is paused.
    pub smtp_paused: watch::Sender<bool>,
    /// Turns true when the daemon is to stop.
    pub stopping: watch::Sender<bool>,
    /// Steers the log.
    pub log: Log,
    /// Directory for temporary files.
    pub spool: PathBuf,
    /// Port of mail exchangers.
    pub mx_port: u16,
    /// Who may do what over the control socket.
    pub access: Access,
    /// The configuration's file.
    pub config_file: PathBuf,
    /// Held by whoever reads the configuration, or a part of it, anew.
    pub reloading: tokio::sync::Mutex<()>,
    /// The user the daemon runs as.
    pub user: Box<str>,
    /// When the daemon started.
    pub started: Now,
    paused: tokio::sync::Mutex<Paused>,
    /// Held while relaying between two addresses is paused or resumed.
    blocking: tokio::sync::Mutex<()>,
    /// Messages that were parked while no daemon ran; one picks them up at a time.
    pub(crate) offline: tokio::sync::Mutex<Offline>,
    /// One `discover` at a time.
    pub(crate) discovering: tokio::sync::Mutex<()>,
    seeds: Mutex<Rng>,
    turns: AtomicU64,
}

impl Shared {
    /// The limits in force.
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// A number nobody can guess, for a session or a seed.
    pub fn draw(&self) -> u64 {
        self.seeds.lock().u64()
    }

    /// A number that counts up, to take the hosts of a list in turn.
    pub fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Relaxed)
    }

    /// Runs local deliveries, under the limits in force.
    pub fn mda(&self) -> Mda {
        Mda::new(self.helper.clone(), self.users.clone(), self.limits())
    }

    /// Puts a configuration in force for all that asks from now on. Listeners are not touched.
    pub(crate) async fn adopt(&self, config: Config) {
        let limits = Arc::new(config.limits.clone());
        let warns = config.bounce_warn.clone();
        let sources = config.sources();
        self.queue.limit_space(limits.space);
        self.limits.store(Arc::clone(&limits));
        self.config.store(Arc::new(config));
        self.engine
            .ask(move |engine, now| engine.configure(now, limits, warns, sources))
            .await;
    }

    /// What is paused.
    pub async fn paused(&self) -> Paused {
        *self.paused.lock().await
    }

    /// What is paused, and how the queue's store is.
    pub async fn status(&self) -> StatusRow {
        let queue = match self.queue.health() {
            Health::Sound => QueueState::Sound,
            Health::Short {
                since,
                space,
                limits,
            } => QueueState::Short {
                seconds: since.elapsed().as_secs(),
                space: space.map(|space| SpaceRow {
                    free: space.free,
                    reserve: limits.reserve(space.total),
                    files: space.files,
                    files_reserve: limits.files,
                }),
            },
            Health::Down { since, why } => QueueState::Down {
                seconds: since.elapsed().as_secs(),
                reason: why.to_string(),
            },
        };
        // A store that is down says so above.
        let corrupt = self.queue.reader().corrupt().unwrap_or_default();
        StatusRow {
            queue,
            corrupt: corrupt.len() as u64,
            opening: self.opening.row(),
            ..self.paused().await.into()
        }
    }

    /// Pauses or resumes a subsystem, durably. Says whether that changed anything.
    pub async fn pause(&self, subsystem: Subsystem, paused: bool) -> Result<bool, StoreError> {
        let mut current = self.paused.lock().await;
        let mut wanted = *current;
        let flag = match subsystem {
            Subsystem::Mda => &mut wanted.mda,
            Subsystem::Mta => &mut wanted.mta,
            Subsystem::Smtp => &mut wanted.smtp,
        };
        *flag = paused;
        if wanted == *current {
            return Ok(false);
        }
        self.commit(Transition::Pause(wanted)).await?;
        *current = wanted;
        self.smtp_paused.send_replace(wanted.smtp);
        self.engine
            .ask(move |engine, now| engine.pause(now, wanted))
            .await;
        Ok(true)
    }

    /// Pauses or resumes relaying from a source to a domain in lower case, durably. Says whether
    /// that changed anything; `None` if the engine is gone.
    pub async fn block(
        &self,
        source: IpAddr,
        domain: &str,
        blocked: bool,
    ) -> Result<Option<bool>, StoreError> {
        let _one = self.blocking.lock().await;
        let domain: Box<str> = domain.into();
        let name = domain.clone();
        let may = self
            .engine
            .ask(move |engine, _| engine.may_block(source, &name, blocked));
        match may.await {
            Some(true) => {}
            settled => return Ok(settled),
        }
        self.commit(Transition::Block {
            source,
            domain: domain.clone(),
            blocked,
        })
        .await?;
        let done = self
            .engine
            .ask(move |engine, now| engine.block(now, source, &domain, blocked));
        Ok(done.await.map(|()| true))
    }

    async fn commit(&self, transition: Transition) -> Result<(), StoreError> {
        let (done, wait) = oneshot::channel();
        self.queue.commit(transition, move |receipt| {
            drop(done.send(receipt));
        });
        wait.await.unwrap_or(Err(StoreError::Poisoned)).map(|_| ())
    }

    /// The counters for `show stats`.
    pub async fn stats(&self) -> Reply {
        let uptime = clock::now().wall.since(self.started.wall).as_secs();
        match self.engine.ask(|engine, _| engine.counters().clone()).await {
            Some(mut counters) => {
                self.counters.report(&mut counters);
                let rows = counters.listed().into_iter();
                Reply::Stats {
                    uptime,
                    rows: rows.map(|(key, value)| (key.into(), value)).collect(),
                }
            }
            None => Reply::Fail {
                reason: "smtpd is stopping".into(),
            },
        }
    }

    /// The numbers for `monitor`.
    pub async fn digest(&self) -> Reply {
        match self.engine.ask(|engine, _| engine.digest()).await {
            Some(mut digest) => {
                self.counters.digest(&mut digest);
                Reply::Digest(digest.into())
            }
            None => Reply::Fail {
                reason: "smtpd is stopping".into(),
            },
        }
    }
}

/// Everything a daemon starts from.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// Certificates, keys and authorities that it names.
    pub tls: Loaded,
    /// The store, open.
    pub queue: GroupCommit,
    /// What opening it found.
    pub opening: Opening,
    /// SMTP sockets, bound.
    pub listeners: Vec<Listener>,
    /// The control socket, bound.
    pub control: std::os::unix::net::UnixListener,
    /// Asks the DNS.
    pub resolver: Resolver,
    /// Asks the DNS for what must be proven.
    pub dnssec: Dnssec,
    /// The way to the helper.
    pub helper: Connection,
    /// Steers the log.
    pub log: Log,
    /// Directory of the queue.
    pub spool: PathBuf,
    /// Port of mail exchangers.
    pub mx_port: u16,
    /// Port of the servers of MTA-STS policies.
    pub mta_sts_port: u16,
    /// Who may do what over the control socket.
    pub access: Access,
    /// The configuration's file.
    pub config_file: PathBuf,
    /// Whether the helper may look at the passwords of the system's users.
    pub system_accounts: bool,
    /// Subsystems to pause from the start, besides those paused before.
    pub pause: Paused,
    /// Entropy of the system, once; everything random in the daemon follows from it.
    pub seed: u64,
}

/// A running daemon.
pub struct Daemon {
    shared: Arc<Shared>,
    store: GroupCommit,
    engine: JoinHandle<()>,
    /// Turns true when nobody is to connect any more.
    closing: watch::Sender<bool>,
    open: Mutex<BTreeMap<SocketAddr, Open>>,
}

/// A listener that runs.
struct Open {
    listening: Arc<ArcSwap<Listening>>,
    stop: watch::Sender<bool>,
}

impl Daemon {
    /// Starts. Call within the runtime.
    pub async fn start(setup: Setup) -> Result<Self, StoreError> {
        let mut seeds = Rng::new(setup.seed);
        let helper = Helper::attach(setup.helper)
            .map_err(|error| StoreError::Io(format!("privileged helper: {error}")))?;
        let queue = setup.queue.handle();
        let (handle, inbox) = channel();
        let ids = Ids::new(queue.clone(), seeds.u64())?;
        let stored = queue.reader().paused()?;
        let paused = Paused {
            mda: stored.mda || setup.pause.mda,
            mta: stored.mta || setup.pause.mta,
            smtp: stored.smtp || setup.pause.smtp,
        };
        let limits = Arc::new(setup.config.limits.clone());
        let mut engine = Engine::new(
            Arc::clone(&limits),
            setup.config.bounce_warn.clone(),
            &setup.config.names.server,
            seeds.u64(),
            paused,
        );
        let warns = setup.config.bounce_warn.clone();
        engine.configure(
            clock::now(),
            Arc::clone(&limits),
            warns,
            setup.config.sources(),
        );
        engine.keep_apart(clock::now(), queue.reader().blocks()?);
        queue.limit_space(limits.space);
        let inflight = Inflight::open(&setup.spool)
            .map(Arc::new)
            .map_err(|error| StoreError::Io(format!("queue.inflight: {error}")))?;
        let offline = Offline::open(&setup.spool)
            .map_err(|error| StoreError::Io(format!("offline directory: {error}")))?;
        let policies = Policies::open(&setup.spool, setup.mta_sts_port, &limits.sts);
        let shared = Arc::new(Shared {
            config: ArcSwap::from_pointee(setup.config),
            tls: ArcSwap::from_pointee(setup.tls),
            tls_clients: ArcSwap::from_pointee(Clients::new()),
            limits: ArcSwap::new(Arc::clone(&limits)),
            engine: handle.clone(),
            queue: queue.clone(),
            opening: setup.opening,
            inflight,
            ids,
            resolver: setup.resolver,
            dnssec: setup.dnssec,
            policies,
            helper,
            users: Users::default(),
            turns: AtomicU64::new(0),
            system_accounts: setup.system_accounts,
            password_checks: tokio::sync::Semaphore::new(limits.auth_checks),
            guesses: Mutex::default(),
            counters: SharedCounters::default(),
            places: Places::new(limits.sessions, limits.sessions_per_client),
            smtp_paused: watch::Sender::new(paused.smtp),
            stopping: watch::Sender::new(false),
            log: setup.log,
            spool: setup.spool,
            mx_port: setup.mx_port,
            access: setup.access,
            config_file: setup.config_file,
            reloading: tokio::sync::Mutex::default(),
            user: own_user(),
            started: clock::now(),
            paused: tokio::sync::Mutex::new(paused),
            blocking: tokio::sync::Mutex::default(),
            offline: tokio::sync::Mutex::new(offline),
            discovering: tokio::sync::Mutex::default(),
            seeds: Mutex::new(seeds),
        });
        let settler = Settler::start(queue, handle);
        let drivers = Drivers::new(
            Arc::clone(&shared),
            tokio::runtime::Handle::current(),
            settler,
        );
        let engine = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || run_engine(engine, inbox, drivers))
            .map_err(|error| StoreError::Io(error.to_string()))?;
        // Before anything can be delivered, or a new message get the id of a claim.
        offline::settle_claims(&shared).await?;
        confine(&shared).await?;
        learn(&shared).await?;
        trash::report(&shared).await;
        let closing = watch::Sender::new(false);
        tokio::spawn(control::run(
            Arc::clone(&shared),
            setup.control,
            closing.subscribe(),
        ));
        tokio::spawn(offline::run(Arc::clone(&shared), closing.subscribe()));
        let store = setup.queue;
        let daemon = Self {
            shared,
            store,
            engine,
            closing,
            open: Mutex::default(),
        };
        for listener in setup.listeners {
            daemon.listen(listener);
        }
        tracing::info!("smtpd ready");
        Ok(daemon)
    }

    /// Starts accepting on a bound socket.
    fn listen(&self, listener: Listener) {
        if let Ok(address) = listener.socket.local_addr() {
            tracing::info!("smtp listening address={address}");
        }
        let stop = watch::Sender::new(false);
        let open = Open {
            listening: Arc::clone(&listener.listening),
            stop: stop.clone(),
        };
        self.open.lock().insert(listener.address, open);
        tokio::spawn(listener::run(
            Arc::clone(&self.shared),
            listener,
            stop.subscribe(),
        ));
    }

    /// Puts a new configuration in force: sessions that run keep the old one. Binds what is new
    /// first, so that a socket that cannot be bound changes nothing. Hold [`Shared::reloading`]
    /// from before it is read.
    pub async fn reconfigure(&self, config: Config, tls: Loaded) {
        match self.rebind(&config, &tls).await {
            Ok(()) => {}
            Err(why) => return tracing::error!("configuration not changed: {why}"),
        }
        self.shared.tls.store(Arc::new(tls));
        self.shared.adopt(config).await;
        // What was made from the files of before is not used again.
        self.shared.tls_clients.store(Arc::new(Clients::new()));
        tracing::info!("configuration reloaded");
    }

    async fn rebind(&self, config: &Config, tls: &Loaded) -> Result<(), String> {
        if !self.shared.system_accounts {
            listening::refuse_system_accounts(config)?;
        }
        let (mut kept, mut bound) = (BTreeMap::new(), Vec::new());
        for endpoint in listening::endpoints(config, tls)? {
            if self.open.lock().contains_key(&endpoint.address) {
                kept.insert(endpoint.address, endpoint.listening);
            } else {
                bound.push(listening::open_later(endpoint, &self.shared.helper).await?);
            }
        }
        self.open.lock().retain(|address, open| {
            if let Some(listening) = kept.remove(address) {
                open.listening.store(Arc::new(listening));
                true
            } else {
                tracing::info!("smtp not listening any more address={address}");
                open.stop.send_replace(true);
                false
            }
        });
        for listener in bound {
            self.listen(listener);
        }
        Ok(())
    }

    /// What the tasks share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Stops cleanly: no new connections and attempts; what runs may end within a grace time.
    pub async fn stop(self) {
        tracing::info!("smtpd stopping");
        self.closing.send_replace(true);
        for open in self.open.lock().values() {
            open.stop.send_replace(true);
        }
        self.shared.stopping.send_replace(true);
        self.shared.engine.tell(Event::Stopping).await;
        let settled = async {
            self.shared.places.emptied().await;
            self.shared.engine.idle().await;
        };
        if tokio::time::timeout(GRACE, settled).await.is_err() {
            tracing::warn!("some attempts did not end in time; they will be repeated");
        }
        self.shared.engine.stop().await;
        let engine = self.engine;
        let _ = tokio::task::spawn_blocking(move || engine.join()).await;
        let store = self.store;
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
        self.shared.inflight.close();
        tracing::info!("smtpd stopped");
    }
}

/// The name of the user this process runs as, or its number.
fn own_user() -> Box<str> {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
        .into()
}

/// Deals with messages that may have brought down the last process.
async fn confine(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let (queue, inflight) = (shared.queue.clone(), Arc::clone(&shared.inflight));
    let confined = tokio::task::spawn_blocking(move || suspects::confine(&queue, &inflight));
    confined
        .await
        .unwrap_or_else(|error| Err(StoreError::Io(error.to_string())))
}

/// Shows the engine every queued envelope; sets damaged messages aside.
async fn learn(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let walker = Arc::clone(shared);
    let walk = tokio::task::spawn_blocking(move || {
        let shared = &walker;
        let mut chunk: Vec<Scheduled> = Vec::with_capacity(WALK_CHUNK);
        let mut count = 0_usize;
        let mut damaged = Vec::new();
        shared.queue.reader().walk(&mut |walked| match walked {
            Ok(scheduled) => {
                count += 1;
                chunk.push(scheduled);
                if chunk.len() == WALK_CHUNK {
                    let full = std::mem::replace(&mut chunk, Vec::with_capacity(WALK_CHUNK));
                    shared.engine.tell_blocking(Event::Queued(full));
                }
            }
            Err(StoreError::Corrupt { message, reason }) => damaged.push((message, reason)),
            Err(error) => tracing::error!("queue: {error}"),
        })?;
        shared.engine.tell_blocking(Event::Queued(chunk));
        for (message, reason) in damaged {
            crate::drivers::set_aside(shared, message, &reason);
        }
        Ok(count)
    });
    let count = walk
        .await
        .unwrap_or_else(|error| Err(StoreError::Io(error.to_string())))?;
    tracing::info!("queue loaded envelopes={count}");
    Ok(())
}
