//! Which `match` line takes a recipient (spec/smtpd.md 1.4).
//!
//! Promises: the first line all of whose criteria hold decides; without one the recipient is
//! refused. Tables are in memory, so there is always an answer.

use super::trail::{Step, Trail};
use crate::addr::{Address, Source};
use crate::config::{Config, Criterion, Destination, LocalNames, Origin, Rule, TableId, Verdict};
use std::net::IpAddr;

/// What is known of a client when it names a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Where it connected from.
    pub source: Source,
    /// Tag of the listener, or empty.
    pub tag: Box<str>,
    /// HELO or EHLO argument.
    pub helo: Box<str>,
    /// Whether it speaks TLS.
    pub secure: bool,
    /// Whether it has authenticated. The local socket always has.
    pub authenticated: bool,
    /// As whom, or empty.
    pub username: Box<str>,
}

/// A recipient on its way through the rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) client: &'a Client,
    pub(super) sender: &'a Address,
    pub(super) dest: &'a Address,
    /// It came out of an alias or forward file: its origin counts as local.
    pub(super) internal: bool,
    pub(super) trail: Option<&'a Trail>,
}

/// The first rule that takes the recipient `dest` of this client's mail.
pub fn first_match<'c>(
    config: &'c Config,
    client: &Client,
    sender: &Address,
    dest: &Address,
) -> Option<&'c Rule> {
    let subject = Subject {
        client,
        sender,
        dest,
        internal: false,
        trail: None,
    };
    find(config, subject)
}

pub(super) fn find<'c>(config: &'c Config, subject: Subject<'_>) -> Option<&'c Rule> {
    let rule = config
        .rules
        .iter()
        .find(|rule| takes(config, rule, subject));
    if let Some(trail) = subject.trail {
        trail.add(Step::Ruled {
            dest: subject.dest.clone(),
            place: rule.map(|rule| rule.place.clone()),
            action: match rule.map(|rule| rule.verdict) {
                Some(Verdict::Action(id)) => config.action(id).name.clone(),
                Some(Verdict::Reject) | None => Box::default(),
            },
        });
    }
    rule
}

impl Subject<'_> {
    /// Notes what a list was asked, and gives its answer on.
    fn asked(
        &self,
        config: &Config,
        service: &'static str,
        table: TableId,
        key: &str,
        found: bool,
    ) -> bool {
        if let Some(trail) = self.trail {
            trail.add(Step::Asked {
                service,
                table: config.table_name(table).into(),
                key: key.into(),
                value: found.then(Box::default),
            });
        }
        found
    }
}

fn takes(config: &Config, rule: &Rule, subject: Subject<'_>) -> bool {
    let Subject {
        client,
        sender,
        dest,
        ..
    } = subject;
    let delimiter = config.subaddress_delimiter;
    let mailaddr = |id, address: &Address| {
        let table = config.table(id);
        let found = table.matches_mailaddr(address.local(), address.domain(), delimiter);
        subject.asked(config, "mailaddr", id, address.as_str(), found)
    };
    let text = |id, key: &str| {
        let found = config.table(id).contains(key);
        subject.asked(config, "text", id, key, found)
    };
    holds(rule.tag, |table| text(table, &client.tag))
        && holds(Some(rule.from), |origin| {
            comes_from(config, origin, subject)
        })
        && holds(Some(rule.to), |to| goes_to(config, to, subject))
        && holds(rule.helo, |table| {
            let found = config.table(table).matches_domain(&client.helo);
            subject.asked(config, "domain", table, &client.helo, found)
        })
        && holds(rule.auth, |users| {
            client.authenticated
                && users.is_none_or(|table| match client.username.rsplit_once('@') {
                    Some((user, domain)) => {
                        let found = config
                            .table(table)
                            .matches_mailaddr(user, domain, delimiter);
                        subject.asked(config, "mailaddr", table, &client.username, found)
                    }
                    None => text(table, &client.username),
                })
        })
        && holds(rule.tls, |()| client.secure)
        && holds(rule.sender, |table| mailaddr(table, sender))
        && holds(rule.rcpt, |table| mailaddr(table, dest))
}

fn holds<T>(criterion: Option<Criterion<T>>, answer: impl FnOnce(T) -> bool) -> bool {
    criterion.is_none_or(|criterion| answer(criterion.what) != criterion.negated)
}

fn comes_from(config: &Config, origin: Origin, subject: Subject<'_>) -> bool {
    let source = if subject.internal {
        Source::Local
    } else {
        subject.client.source
    };
    match origin {
        Origin::Any => true,
        Origin::Local => is_own(&config.names, source),
        Origin::Socket => source == Source::Local && !subject.internal,
        Origin::Source(table) => {
            let found = config.table(table).matches_netaddr(source);
            subject.asked(config, "netaddr", table, &source.to_string(), found)
        }
    }
}

fn is_own(names: &LocalNames, source: Source) -> bool {
    source
        .ip()
        .is_none_or(|ip| ip.is_loopback() || names.addresses.contains(&ip))
}

fn goes_to(config: &Config, destination: Destination, subject: Subject<'_>) -> bool {
    let domain = subject.dest.domain();
    match destination {
        Destination::Any => true,
        Destination::Local => is_own_name(&config.names, domain),
        Destination::Domain(table) => {
            let found = config.table(table).matches_domain(domain);
            subject.asked(config, "domain", table, domain, found)
        }
    }
}

fn is_own_name(names: &LocalNames, domain: &str) -> bool {
    if domain.eq_ignore_ascii_case("localhost") || domain.eq_ignore_ascii_case(&names.server) {
        return true;
    }
    let literal = domain
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let plain = literal.unwrap_or(domain).to_ascii_lowercase();
    let ip = plain
        .strip_prefix("ipv6:")
        .unwrap_or(&plain)
        .parse::<IpAddr>();
    ip.is_ok_and(|ip| is_own(names, Source::from(ip)))
}
