//! Policies of domains (MTA-STS, RFC 8461): asked for, fetched, and kept in the spool.
//!
//! Promises: a policy comes over HTTPS from a server that proves its name to the system's
//! authorities, as plain text, without a detour, bounded in octets and time; a domain's is fetched
//! once at a time. Policies outlive a restart.
//! Absent on purpose: when one is fetched and how long it is in force (core's `sts`), what follows
//! for a connection (core's, too), HTTP (ureq's).
//! Fails: with the reason, which is kept with the domain.

use crate::clock;
use crate::daemon::Shared;
use crate::log::{Brief, Shown};
use crate::resolver::ascii;
use parking_lot::Mutex;
use redspool_core::engine::{Lookup, Unresolved};
use redspool_core::limits::StsLimits;
use redspool_core::sts::{Cache, Found, Policy, Step, announced};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::header::CONTENT_TYPE;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// Name of the file in the spool directory.
const NAME: &str = "mta-sts.cache";

/// Port of HTTPS.
const PORT: u16 = 443;

/// Addresses of one server that are tried: as many as ureq takes.
const ADDRESSES: usize = 16;

/// Policies of domains.
pub struct Policies {
    /// Port of policies' servers.
    port: u16,
    path: PathBuf,
    cache: Mutex<Cache>,
    /// Held by whoever fetches the policy of a domain.
    turns: Mutex<BTreeMap<Box<str>, Weak<tokio::sync::Mutex<()>>>>,
    places: Semaphore,
    changes: AtomicU64,
    /// How many of the changes are in the file.
    saved: tokio::sync::Mutex<u64>,
}

impl Policies {
    /// Reads what is kept in a spool. A file that makes no sense only costs fetching again.
    pub fn open(spool: &Path, port: u16, limits: &StsLimits) -> Self {
        let path = spool.join(NAME);
        let cache = read(&path, limits).unwrap_or_else(|why| {
            tracing::warn!("{NAME} is ignored: {why}");
            Cache::default()
        });
        Self {
            port,
            path,
            cache: Mutex::new(cache),
            turns: Mutex::default(),
            places: Semaphore::new(limits.fetches),
            changes: AtomicU64::new(0),
            saved: tokio::sync::Mutex::new(0),
        }
    }

    /// What is known of a domain's policy, after asking for it if it is time to.
    pub(crate) async fn find(&self, shared: &Shared, domain: &str) -> Found {
        let domain = ascii(domain);
        let found = self.found(shared, &domain).await;
        tracing::trace!(
            target: "trace::lookup",
            "\"{}\" as MTA-STS policy -> {}", Shown(&domain), Brief(&found)
        );
        found
    }

    async fn found(&self, shared: &Shared, domain: &str) -> Found {
        let limits = shared.limits().sts;
        let records = if domain.starts_with('[') {
            Ok(Vec::new())
        } else {
            shared.resolver.texts(&format!("_mta-sts.{domain}")).await
        };
        let id = match &records {
            Ok(records) => announced(records.iter().map(String::as_str)),
            Err(why) => Err(&**why),
        };
        let step = || {
            let now = clock::now().wall;
            self.cache.lock().step(now, domain, id, &limits)
        };
        if let Step::Known(found) = step() {
            return found;
        }
        let turn = self.turn(domain);
        let _turn = turn.lock().await;
        // Whoever had the turn before may have seen to it.
        let id = match step() {
            Step::Known(found) => return found,
            Step::Fetch(id) => id,
        };
        let Ok(Ok(_place)) = timeout(limits.fetch_timeout, self.places.acquire()).await else {
            return Found::Unknown("too many policies are being fetched".into());
        };
        let fetched = self.fetch(shared, domain, limits).await.and_then(|text| {
            let policy = Policy::parse(&text, limits.patterns);
            policy
                .map(Arc::new)
                .map_err(|error| error.to_string().into())
        });
        report(domain, id, &fetched);
        let now = clock::now().wall;
        let found = self.cache.lock().fetched(now, domain, id, fetched, &limits);
        self.save().await;
        found
    }

    /// The lock of a domain.
    fn turn(&self, domain: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock();
        if let Some(turn) = turns.get(domain).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(domain.into(), Arc::downgrade(&turn));
        turn
    }

    async fn fetch(
        &self,
        shared: &Shared,
        domain: &str,
        limits: StsLimits,
    ) -> Result<String, Box<str>> {
        let host = format!("mta-sts.{domain}");
        let addresses = shared.resolver.resolve(&host, Lookup::Host);
        let addresses = match timeout(limits.fetch_timeout, addresses).await {
            Ok(Ok(resolution)) => resolution.exchanges.into_iter(),
            Ok(Err(Unresolved::Temporary(failure) | Unresolved::Permanent(failure))) => {
                return Err(failure.text);
            }
            Err(_) => return Err("the DNS does not answer".into()),
        };
        let addresses = addresses.flat_map(|exchange| exchange.addresses);
        let port = self.port;
        let addresses = addresses.map(|address| SocketAddr::new(address, port));
        let addresses = Addresses(addresses.take(ADDRESSES).collect());
        let authority = if port == PORT {
            host
        } else {
            format!("{host}:{port}")
        };
        let url = format!("https://{authority}/.well-known/mta-sts.txt");
        let roots = shared.tls_clients.load().authorities();
        let got = tokio::task::spawn_blocking(move || get(&url, addresses, roots, limits)).await;
        got.unwrap_or_else(|error| Err(error.to_string()))
            .map_err(Into::into)
    }

    /// Writes the file anew, unless somebody else has done so since the last change.
    async fn save(&self) {
        let change = self.changes.fetch_add(1, SeqCst) + 1;
        let mut saved = self.saved.lock().await;
        if *saved >= change {
            return;
        }
        let changes = self.changes.load(SeqCst);
        let mut octets = Vec::new();
        self.cache.lock().encode(&mut octets);
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || replace(&path, &octets)).await;
        match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => *saved = changes,
            Err(error) => tracing::warn!("{NAME} cannot be written: {error}"),
        }
    }
}

fn report(domain: &str, id: &str, fetched: &Result<Arc<Policy>, Box<str>>) {
    match fetched {
        Ok(policy) => {
            let (mode, age) = (policy.mode.word(), policy.max_age.as_secs());
            tracing::info!("mta-sts policy domain={domain} id={id} mode={mode} max-age={age}");
        }
        Err(why) => {
            let why = Shown(why);
            tracing::info!("mta-sts policy domain={domain} id={id} error=\"{why}\"");
        }
    }
}

/// Addresses that are known already.
#[derive(Debug)]
struct Addresses(Vec<SocketAddr>);

impl Resolver for Addresses {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut list = self.empty();
        for address in &self.0 {
            list.push(*address);
        }
        Ok(list)
    }
}

/// Gets a policy (RFC 8461 section 3.3): no redirects, no proxy, plain text.
fn get(
    url: &str,
    addresses: Addresses,
    roots: RootCerts,
    limits: StsLimits,
) -> Result<String, String> {
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(crate::tls::provider())
        .root_certs(roots)
        .build();
    let config = Config::builder()
        .https_only(true)
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .tls_config(tls)
        .timeout_global(Some(limits.fetch_timeout))
        .build();
    let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), addresses);
    let failed = |error: ureq::Error| format!("{url}: {error}");
    let mut response = agent.get(url).call().map_err(failed)?;
    if response.status() != 200 {
        return Err(format!("{url}: status {}", response.status().as_u16()));
    }
    let kind = response.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("text/plain") {
        let kind = kind.escape_debug();
        return Err(format!("{url}: it is not plain text but `{kind}`"));
    }
    let body = response.body_mut().with_config().limit(limits.policy_size);
    let body = body.read_to_vec().map_err(failed)?;
    String::from_utf8(body).map_err(|_| format!("{url}: it is not UTF-8"))
}

fn read(path: &Path, limits: &StsLimits) -> Result<Cache, String> {
    let mut octets = Vec::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Cache::default()),
        Err(error) => return Err(error.to_string()),
    };
    let read = file.take(limits.file_size).read_to_end(&mut octets);
    read.map_err(|error| error.to_string())?;
    Ok(Cache::decode(clock::now().wall, &octets, limits)?)
}

/// Puts a file in the place of another one, or leaves that as it is.
fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(octets)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let directory = path.parent().map(File::open).transpose()?;
    directory.map_or(Ok(()), |directory| directory.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_makes_no_sense_is_ignored() {
        let spool = tempfile::tempdir().unwrap();
        let limits = StsLimits::default();
        let path = spool.path().join(NAME);
        assert!(read(&path, &limits).is_ok());
        let mut octets = Vec::new();
        Cache::default().encode(&mut octets);
        replace(&path, &octets).unwrap();
        assert!(read(&path, &limits).is_ok());
        replace(&path, b"nonsense").unwrap();
        assert!(read(&path, &limits).is_err());
        Policies::open(spool.path(), PORT, &limits);
        let left = std::fs::read_dir(spool.path()).unwrap().count();
        assert_eq!(left, 1, "something is left over");
    }
}
