//! The order of a start: read, check, take what needs rights, give rights up, serve.
//!
//! Promises: whatever is wrong is said before anything is accepted, with what to do about it.

use crate::access::{Access, Operators};
use crate::configuration;
use crate::control;
use crate::daemon::{Daemon, Setup};
use crate::detach::{self, Side};
use crate::dnssec::Dnssec;
use crate::listening;
use crate::log::{self, Sink};
use crate::options::Options;
use crate::privileges;
use crate::profile::Profile;
use crate::resolver::Resolver;
use crate::store;
use crate::tls::Loaded;
use redspool_core::control::TraceTopic;
use redspool_core::control::paths::{self, Environment, Named, Paths};
use redspool_core::queue::Paused;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Why smtpd did not run, or did not go on.
#[derive(Debug)]
pub enum Failed {
    /// It has been said already.
    Reported,
    /// For this reason.
    Because(String),
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self::Because(why)
    }
}

/// Runs smtpd until it is told to stop.
pub fn run(mut options: Options) -> Result<(), Failed> {
    let profile = local_profile(&mut options)?;
    let traces = traces(&options.trace)?;
    let file = options
        .file
        .clone()
        .unwrap_or_else(configuration::default_file);
    let nothing = Loaded::default();
    let (config, tls) = configuration::load(&file, &options.define, &nothing, BTreeMap::new())
        .map_err(|faults| {
            faults.report();
            Failed::Reported
        })?;
    if options.check {
        eprintln!("configuration OK");
        return Ok(());
    }
    let operators = options.operators.as_deref().map(Operators::named);
    let operators = operators.transpose()?;
    let background = if options.debug {
        false
    } else {
        match detach::detach().map_err(|error| format!("cannot go to the background: {error}"))? {
            Side::Foreground => return Ok(()),
            Side::Failed => return Err(Failed::Reported),
            Side::Background => true,
        }
    };
    let named = Named {
        spool: options.spool.clone(),
        socket: options.socket.clone(),
    };
    let environment = Environment::collect(std::env::var_os);
    let Paths { spool, socket, .. } =
        paths::resolve(nix::unistd::geteuid().as_raw(), &named, &environment)
            .map_err(|error| error.to_string())?;
    privileges::make_directory(&spool).map_err(|error| {
        let spool = spool.display();
        format!("spool {spool}: {error}; make the directory, or name another with --spool")
    })?;
    let listeners = listening::open(&config, &tls)?;
    if !nix::unistd::geteuid().is_root() {
        listening::refuse_system_accounts(&config)?;
    }
    let control = open_control(&socket)
        .map_err(|error| format!("control socket {}: {error}", socket.display()))?;
    let keys = configuration::keys(&file, &config);
    let rights = privileges::settle(&options.user, &spool, keys.clone())?;
    let sink = if background {
        Sink::Syslog
    } else {
        Sink::Stderr
    };
    let log = log::start(sink, options.verbose, &traces);
    let (queue, opening) = store::open(&spool).map_err(|error| store::unopened(&spool, &error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("cannot start threads: {error}"))?;
    let (resolver, dnssec) = {
        let _context = runtime.enter();
        let failed = |why: String| format!("resolver: {why}");
        let resolver = Resolver::new(options.resolver, config.limits.mta.addresses);
        let dnssec = Dnssec::new(options.resolver, options.trust_anchors.as_deref());
        (resolver.map_err(failed)?, dnssec.map_err(failed)?)
    };
    let addresses: Vec<_> = listeners
        .iter()
        .filter_map(|listener| listener.socket.local_addr().ok())
        .collect();
    let setup = Setup {
        config,
        tls,
        queue,
        opening,
        listeners,
        control,
        resolver,
        dnssec,
        helper: rights.helper,
        log,
        spool,
        mx_port: options.mx_port,
        mta_sts_port: options.mta_sts_port,
        access: Access {
            owner: rights.owner,
            operators,
        },
        config_file: file.clone(),
        system_accounts: rights.system_accounts,
        pause: paused(&options.pause),
        seed: rand::random(),
    };
    runtime.block_on(async {
        // From before anybody is told that we are ready: a signal sent then must not kill us.
        let signals = Signals::new()?;
        let daemon = Daemon::start(setup)
            .await
            .map_err(|error| format!("queue: {error}"))?;
        if let Some(profile) = profile {
            eprint!("{}", profile.welcome(&addresses));
        }
        if background {
            detach::ready().map_err(|error| format!("cannot leave the terminal: {error}"))?;
        }
        let served = serve(&daemon, signals, &file, &options, &keys).await;
        daemon.stop().await;
        let _ = std::fs::remove_file(&socket);
        served
    })
}

/// The signals we act on.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, String> {
        let listen =
            |kind| signal(kind).map_err(|error| format!("cannot wait for signals: {error}"));
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }
}

/// Waits for signals: SIGHUP re-reads the configuration, SIGTERM and SIGINT end.
async fn serve(
    daemon: &Daemon,
    mut signals: Signals,
    file: &Path,
    options: &Options,
    keys: &[PathBuf],
) -> Result<(), Failed> {
    loop {
        tokio::select! {
            _ = signals.hangup.recv() => {
                let _alone = daemon.shared().reloading.lock().await;
                let before = daemon.shared().tls.load_full();
                let lent = lent(daemon, keys).await;
                match configuration::load(file, &options.define, &before, lent) {
                    Ok((config, tls)) => daemon.reconfigure(config, tls).await,
                    Err(faults) => faults.log(),
                }
            }
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            () = daemon.shared().helper.gone() => {
                tracing::error!("the helper that runs local deliveries has died: stopping");
                return Err(Failed::Because("the helper that runs local deliveries died".into()));
            }
        }
    }
}

/// The private keys that we may not read, opened by the helper. Where it fails, the reader says
/// what it lacks.
async fn lent(daemon: &Daemon, keys: &[PathBuf]) -> BTreeMap<PathBuf, File> {
    let mut lent = BTreeMap::new();
    for (number, path) in keys.iter().enumerate() {
        if File::open(path).is_err()
            && let Ok(file) = daemon.shared().helper.key(number).await
        {
            lent.insert(path.clone(), file);
        }
    }
    lent
}

/// `--local`: the options that make a private mail server of this one.
fn local_profile(options: &mut Options) -> Result<Option<Profile>, Failed> {
    let Some(directory) = &options.local else {
        return Ok(None);
    };
    let profile = Profile::prepare(directory)
        .map_err(|error| format!("local profile in {}: {error}", directory.display()))?;
    options.debug = true;
    options.file = Some(profile.config());
    options.spool.get_or_insert_with(|| profile.spool());
    // The profile writes to its own directory only, so whoever starts it may run it.
    options.user = "root".into();
    Ok(Some(profile))
}

fn traces(words: &[String]) -> Result<Vec<TraceTopic>, Failed> {
    words
        .iter()
        .map(|word| {
            TraceTopic::named(word).ok_or_else(|| {
                let known = TraceTopic::ALL.map(TraceTopic::word).join(", ");
                Failed::Because(format!(
                    "-T {word}: nothing of this name; there are {known}"
                ))
            })
        })
        .collect()
}

fn paused(words: &[String]) -> Paused {
    let has = |word: &str| words.iter().any(|given| given == word);
    Paused {
        mda: has("mda"),
        mta: has("mta"),
        smtp: has("smtp"),
    }
}

/// Binds the control socket, in a directory of its own if that is missing.
fn open_control(path: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
    if let Some(directory) = path.parent() {
        privileges::make_directory(directory)?;
    }
    control::bind(path)
}
