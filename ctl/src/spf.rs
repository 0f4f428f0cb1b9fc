//! `spf walk`: the networks that the SPF records of domains allow, from the DNS.
//!
//! Promises: domains come out in the order in which they came in, a network once per run; what
//! cannot be followed is told on the standard error with its domain, and makes the status 1. Some
//! domains are walked through at a time; no more are read meanwhile.
//! Absent on purpose: what to ask ([`redspool_core::spf`]); the wire format and caching (hickory's).

use crate::console::Console;
use crate::escape;
use crate::options::Options;
use crate::parse::Parsed;
use crate::render::{Cell, Format, write_record};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use redspool_core::limits::{Limits, SpfLimits};
use redspool_core::machine::Machine as _;
use redspool_core::spf::{Action, Answer, Event, Question, Report, Walk};
use redspool_core::time::{Now, Timestamp};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, BufRead as _, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Octets of an input line; four times what a domain can have.
const LINE_MOST: u16 = 1024;
/// Wait for one answer of one server, and how often it is asked.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 2;

/// Walks through the domains of the standard input.
pub(crate) fn serve(console: &mut Console, options: &Options, _: &Parsed) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return console.fail(&format!("cannot ask the DNS: {error}")),
    };
    let _context = runtime.enter();
    let dns = match resolver(options.resolver) {
        Ok(dns) => dns,
        Err(error) => {
            return console.fail(&format!(
                "cannot ask the DNS: {error}; name a server with --resolver"
            ));
        }
    };
    let limits = Limits::default().spf;
    let (hand, domains) = mpsc::channel(limits.domains);
    // Reading waits for whoever types; walks go on meanwhile. The thread ends with the program.
    std::thread::spawn(move || read(&hand));
    runtime.block_on(walk_all(console, &dns, limits, domains, options.json));
}

/// Hands out the domains of the standard input; an error is the last thing it hands out.
fn read(hand: &mpsc::Sender<io::Result<String>>) {
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        let domain = match input
            .by_ref()
            .take(LINE_MOST.into())
            .read_until(b'\n', &mut line)
        {
            Ok(0) => return,
            Ok(_) if line.len() == usize::from(LINE_MOST) => {
                let long = format!("a line of {LINE_MOST} octets or more is no domain");
                Err(io::Error::other(long))
            }
            Ok(_) => Ok(String::from_utf8_lossy(line.trim_ascii()).into_owned()),
            Err(error) => Err(error),
        };
        let last = domain.is_err();
        let blank = domain.as_ref().is_ok_and(String::is_empty);
        if !blank && (hand.blocking_send(domain).is_err() || last) {
            return;
        }
    }
}

type Walked = (String, Report);

async fn walk_all(
    console: &mut Console,
    dns: &TokioResolver,
    limits: SpfLimits,
    mut domains: mpsc::Receiver<io::Result<String>>,
    json: bool,
) {
    let mut walks: VecDeque<JoinHandle<Walked>> = VecDeque::new();
    let mut seen = BTreeSet::new();
    let mut reading = true;
    while (reading || !walks.is_empty()) && !console.gone() {
        tokio::select! {
            domain = domains.recv(), if reading && walks.len() < limits.domains => match domain {
                Some(Ok(domain)) => walks.push_back(tokio::spawn(walk(dns.clone(), domain, limits))),
                Some(Err(error)) => {
                    console.fail(&format!("standard input: {error}"));
                    reading = false;
                }
                None => reading = false,
            },
            walked = first(&mut walks) => {
                walks.pop_front();
                match walked {
                    Ok((domain, report)) => {
                        if json {
                            print_json(console, &domain, &report);
                        } else {
                            print(console, &mut seen, &report);
                        }
                        tell_faults(console, &domain, &report);
                    }
                    Err(error) => console.fail(&format!("cannot ask the DNS: {error}")),
                }
            }
        }
    }
}

async fn first(walks: &mut VecDeque<JoinHandle<Walked>>) -> Result<Walked, tokio::task::JoinError> {
    match walks.front_mut() {
        Some(walk) => walk.await,
        None => std::future::pending().await,
    }
}

/// One network per line, each once per run.
fn print(console: &mut Console, seen: &mut BTreeSet<(IpAddr, u8)>, report: &Report) {
    let mut text = String::new();
    for network in &report.networks {
        if seen.insert(network.key()) {
            text.push_str(&network.to_string());
            text.push('\n');
        }
    }
    console.print(text.as_bytes());
}

/// A domain as an object of JSON.
fn print_json(console: &mut Console, domain: &str, report: &Report) {
    let cells = [
        ("domain", Cell::from(domain)),
        ("networks", Cell::Words(texts(&report.networks))),
        ("errors", Cell::Words(texts(&report.faults))),
    ];
    let mut line = Vec::new();
    write_record(Format::Json, cells, &mut line);
    console.print(&line);
}

fn texts(things: &[impl fmt::Display]) -> Vec<String> {
    things.iter().map(ToString::to_string).collect()
}

fn tell_faults(console: &mut Console, domain: &str, report: &Report) {
    for fault in &report.faults {
        let text = if fault.owner.eq_ignore_ascii_case(domain) {
            fault.to_string()
        } else {
            format!("{domain}: {fault}")
        };
        let mut line = Vec::new();
        escape::printable(&text, &mut line);
        console.fail(&String::from_utf8_lossy(&line));
    }
}

/// Drives the walk through one domain.
async fn walk(dns: TokioResolver, domain: String, limits: SpfLimits) -> Walked {
    let mut walk = Walk::new(&domain, limits);
    let start = Now {
        mono: Instant::now(),
        wall: Timestamp::EPOCH,
    };
    while let Some(Action::Ask(question)) = walk.poll() {
        let answer = ask(&dns, question).await;
        walk.handle(start, Event::Answered(answer));
    }
    (domain, walk.report())
}

/// Asks those servers, or those of the system.
fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let mut builder = match server {
        Some(server) => {
            let protocols = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let connections = protocols.map(|mut connection| {
                connection.port = server.port();
                connection
            });
            let server = NameServerConfig::new(server.ip(), true, connections.into());
            let config = ResolverConfig::from_name_servers(vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        None => TokioResolver::builder_tokio()?,
    };
    let options = builder.options_mut();
    options.timeout = ANSWER_WAIT;
    options.attempts = ATTEMPTS;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Receivers do not know our file of hosts.
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

async fn ask(dns: &TokioResolver, question: Question) -> Answer {
    let answer = match question {
        Question::Texts(name) => dns.txt_lookup(absolute(&name)).await.map(|answer| {
            let texts = answer
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::TXT(text) => {
                        Some(String::from_utf8_lossy(&text.txt_data.concat()).into())
                    }
                    _ => None,
                });
            Answer::Texts(texts.collect())
        }),
        Question::Addresses(name) => dns
            .lookup_ip(absolute(&name))
            .await
            .map(|answer| Answer::Addresses(answer.iter().collect())),
        Question::Exchanges(name) => dns.mx_lookup(absolute(&name)).await.map(|answer| {
            let exchanges = answer
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::MX(mx) => Some((mx.preference, mx.exchange.to_utf8())),
                    _ => None,
                });
            Answer::Exchanges(exchanges.collect())
        }),
    };
    answer.unwrap_or_else(|error| {
        if error.is_nx_domain() {
            Answer::Nowhere
        } else if error.is_no_records_found() {
            Answer::Nothing
        } else {
            Answer::Failed(error.to_string())
        }
    })
}

/// With its final dot, so that no search domain is tried.
fn absolute(name: &str) -> String {
    format!("{name}.")
}
