//! Questions to the DNS, as relaying and sessions need them.
//!
//! Promises: an answer, or a reason with its class: what may be different later is temporary,
//! what the DNS states is permanent (RFC 5321 section 5.1, RFC 7505). Bounded in time, addresses
//! and exchanges.
//! Absent on purpose: caching and the wire format (hickory's), the order of routes (core's).

use crate::log::{Brief, Shown};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use redspool_core::engine::{Exchange, Lookup, Resolution, Unresolved};
use redspool_core::queue::Failure;
use redspool_core::reply::Status;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a reverse lookup may keep a client waiting for the greeting.
const REVERSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Life of an answer that carries none of its own.
const DEFAULT_TTL: Duration = Duration::from_mins(1);

/// Asks the DNS. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    dns: TokioResolver,
    /// Exchanges and addresses kept of one answer.
    most: usize,
}

impl Resolver {
    /// A resolver that asks `server`, or those of the system if none is given. Keeps at most
    /// `most` addresses of one answer. Fails with the reason when the system names no servers.
    pub fn new(server: Option<SocketAddr>, most: usize) -> Result<Self, String> {
        let dns = builder(server)?
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { dns, most })
    }

    /// Where mail for `name` goes.
    pub async fn resolve(&self, name: &str, lookup: Lookup) -> Result<Resolution, Unresolved> {
        let answer = self.found(name, lookup).await;
        tracing::trace!(
            target: "trace::lookup",
            "\"{}\" as {lookup:?} in the DNS -> {}", Shown(name), Brief(&answer)
        );
        answer
    }

    async fn found(&self, name: &str, lookup: Lookup) -> Result<Resolution, Unresolved> {
        if let Ok(address) = name
            .trim_matches(['[', ']'])
            .trim_start_matches("IPv6:")
            .parse()
        {
            let exchanges = vec![exchange(0, name, vec![address])];
            return Ok(Resolution {
                exchanges,
                ttl: Duration::from_hours(1),
            });
        }
        match lookup {
            Lookup::Mx => self.exchangers(name).await,
            Lookup::Host => self.host(name).await,
        }
    }

    /// The name of a client from reverse DNS, or `<unknown>`. A loopback client is `localhost`:
    /// asking somebody else about it only costs time.
    pub async fn reverse(&self, client: IpAddr) -> String {
        if client.to_canonical().is_loopback() {
            return "localhost".into();
        }
        let asked = tokio::time::timeout(REVERSE_TIMEOUT, self.dns.reverse_lookup(client)).await;
        let name = asked.ok().and_then(Result::ok).and_then(|answer| {
            answer
                .answers()
                .iter()
                .find_map(|record| match &record.data {
                    RData::PTR(name) => Some(trimmed(&name.0.to_utf8())),
                    _ => None,
                })
        });
        let name = name
            .filter(|name| is_host_name(name))
            .unwrap_or_else(|| "<unknown>".into());
        tracing::trace!(target: "trace::lookup", "{client} as address in the DNS -> {name}");
        name
    }

    /// The TXT records of `name`, each in one piece, or why it cannot be told whether there are any.
    pub async fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let answer = match self.dns.txt_lookup(absolute(name)).await {
            Ok(answer) => answer,
            Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
            Err(error) => return Err(format!("TXT lookup: {error}")),
        };
        let text = |data: &RData| match data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        };
        let records = answer.answers().iter().take(self.most);
        Ok(records.filter_map(|record| text(&record.data)).collect())
    }

    async fn exchangers(&self, domain: &str) -> Result<Resolution, Unresolved> {
        let answer = match self.dns.mx_lookup(absolute(domain)).await {
            Ok(answer) => answer,
            // No MX records: the domain itself is its exchanger (RFC 5321 section 5.1).
            Err(error) if error.is_no_records_found() && !error.is_nx_domain() => {
                return self.host(domain).await;
            }
            Err(error) => return Err(unresolved(&error, "MX lookup")),
        };
        let mut records: Vec<(u16, String)> = Vec::new();
        for record in answer.answers() {
            if let RData::MX(mx) = &record.data {
                records.push((mx.preference, trimmed(&mx.exchange.to_utf8())));
            }
        }
        records.sort();
        records.truncate(self.most);
        // RFC 7505: a single `0 .`; "localhost" alone says the same in practice.
        if matches!(records.as_slice(), [(_, name)] if name.is_empty() || name == "localhost") {
            let failure = Failure::new(Status::permanent(1, 10), "Domain does not accept mail");
            return Err(Unresolved::Permanent(failure));
        }
        if records.is_empty() {
            return self.host(domain).await;
        }
        let ttl = life(answer.valid_until());
        let mut exchanges = Vec::new();
        let mut trouble = None;
        for (preference, name) in records {
            match self.dns.lookup_ip(absolute(&name)).await {
                Ok(found) => {
                    let addresses: Vec<_> = found.iter().take(self.most).collect();
                    if !addresses.is_empty() {
                        exchanges.push(exchange(preference, &name, addresses));
                    }
                }
                Err(error) => trouble = Some(error),
            }
        }
        match (exchanges.is_empty(), trouble) {
            (false, _) => Ok(Resolution { exchanges, ttl }),
            (true, Some(error)) if !error.is_no_records_found() => {
                Err(unresolved(&error, "MX lookup"))
            }
            (true, _) => {
                let text = "No MX found for destination";
                Err(Unresolved::Temporary(Failure::new(
                    Status::transient(4, 4),
                    text,
                )))
            }
        }
    }

    async fn host(&self, name: &str) -> Result<Resolution, Unresolved> {
        let found = self.dns.lookup_ip(absolute(name)).await;
        let found = found.map_err(|error| unresolved(&error, "address lookup"))?;
        let addresses: Vec<_> = found.iter().take(self.most).collect();
        let ttl = life(found.valid_until());
        if addresses.is_empty() {
            let failure = Failure::new(Status::permanent(1, 2), "Host not found");
            return Err(Unresolved::Permanent(failure));
        }
        Ok(Resolution {
            exchanges: vec![exchange(0, name, addresses)],
            ttl,
        })
    }
}

fn exchange(preference: u16, name: &str, addresses: Vec<IpAddr>) -> Exchange {
    Exchange {
        preference,
        name: name.into(),
        addresses,
    }
}

/// Asks `server`, or those of the system if none is given. Fails with the reason when the system
/// names no servers.
pub(crate) fn builder(
    server: Option<SocketAddr>,
) -> Result<ResolverBuilder<TokioRuntimeProvider>, String> {
    let mut builder = match server {
        Some(server) => given(server),
        None => TokioResolver::builder_tokio().map_err(|error| error.to_string())?,
    };
    let options = builder.options_mut();
    options.timeout = Duration::from_secs(5);
    options.attempts = 2;
    Ok(builder)
}

fn given(server: SocketAddr) -> ResolverBuilder<TokioRuntimeProvider> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    let config = ResolverConfig::from_name_servers(vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
}

/// The class and the words of a failed question. Only what the DNS itself states is permanent:
/// time-outs, refusals and broken answers may be different later.
fn unresolved(error: &NetError, what: &str) -> Unresolved {
    if error.is_nx_domain() {
        let failure = Failure::new(Status::permanent(1, 2), "Domain does not exist");
        return Unresolved::Permanent(failure);
    }
    if error.is_no_records_found() {
        let failure = Failure::new(Status::permanent(1, 2), "No MX found for domain");
        return Unresolved::Permanent(failure);
    }
    let text = format!("Temporary failure in {what}: {error}");
    Unresolved::Temporary(Failure::new(Status::transient(4, 3), text))
}

fn life(valid_until: Instant) -> Duration {
    let left = valid_until.saturating_duration_since(Instant::now());
    if left.is_zero() { DEFAULT_TTL } else { left }
}

/// With its final dot, so that no search domain is tried.
pub(crate) fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

/// A name as the DNS has it, in lower case; as it is if it is none.
pub(crate) fn ascii(name: &str) -> String {
    let lower = trimmed(name);
    if lower.is_ascii() {
        return lower;
    }
    Name::from_utf8(&lower).map_or(lower, |name| trimmed(&name.to_ascii()))
}

fn trimmed(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}
