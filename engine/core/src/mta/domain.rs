//! Domains and smart hosts, and what the DNS said about them.

use super::{Lookup, RelayId, Resolution};
use crate::envelope::{Envelope, Relay};
use crate::rng::Rng;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

/// A name to be looked up, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DomainKey {
    pub(super) name: Box<str>,
    pub(super) lookup: Lookup,
}

impl DomainKey {
    /// Where an envelope goes: to the smart host, or to the domain of its destination.
    pub(super) fn of(relay: &Relay, envelope: &Envelope) -> Self {
        match &relay.host {
            Some(host) => Self {
                name: host.host.to_ascii_lowercase().into(),
                lookup: Lookup::Host,
            },
            None => Self {
                name: envelope.dest.domain().to_lowercase().into(),
                lookup: Lookup::Mx,
            },
        }
    }

    /// The address, if it is one: `192.0.2.1` and `2001:db8::1` as a smart host,
    /// `[192.0.2.1]` and `[IPv6:2001:db8::1]` as a domain (RFC 5321 section 4.1.3).
    fn literal(&self) -> Option<IpAddr> {
        match self.lookup {
            Lookup::Host => self.name.parse().ok(),
            Lookup::Mx => {
                let inner = self.name.strip_prefix('[')?.strip_suffix(']')?;
                inner.strip_prefix("ipv6:").unwrap_or(inner).parse().ok()
            }
        }
    }
}

/// One address of a mail exchanger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mx {
    pub(super) preference: u16,
    pub(super) name: Box<str>,
    pub(super) address: IpAddr,
}

/// What is known of a domain.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing; to be asked when it matters.
    Unasked,
    /// The question is out.
    Asked,
    /// This, until then; `None` for always.
    Known(Vec<Mx>, Option<Instant>),
}

/// A domain that relays use.
#[derive(Debug)]
pub(super) struct Domain {
    pub(super) answer: Answer,
    pub(super) sessions: usize,
    pub(super) relays: BTreeSet<RelayId>,
}

impl Domain {
    pub(super) fn new(key: &DomainKey) -> Self {
        let answer = key.literal().map_or(Answer::Unasked, |address| {
            let name = key.name.clone();
            let mx = Mx {
                preference: 0,
                name,
                address,
            };
            Answer::Known(vec![mx], None)
        });
        Self {
            answer,
            sessions: 0,
            relays: BTreeSet::new(),
        }
    }
}

/// The addresses of an answer: best preference first, equal ones in random order, at most `most`.
/// `None` if we are the best of them ourselves: RFC 5321 section 5.1 has us drop every exchanger
/// that is not better than us, and a message that comes back to us loops.
pub(super) fn addresses(
    resolution: Resolution,
    own_name: &str,
    most: usize,
    rng: &mut Rng,
) -> Option<Vec<Mx>> {
    let own = |name: &str| name.trim_end_matches('.').eq_ignore_ascii_case(own_name);
    let ours = resolution.exchanges.iter().filter(|e| own(&e.name));
    let limit = ours.map(|exchange| exchange.preference).min();
    let exchanges = resolution.exchanges.into_iter();
    let better = exchanges.filter(|e| limit.is_none_or(|limit| e.preference < limit));
    let mut list: Vec<_> = better
        .flat_map(|exchange| {
            let (preference, name) = (exchange.preference, exchange.name);
            exchange.addresses.into_iter().map(move |address| Mx {
                preference,
                name: name.clone(),
                address,
            })
        })
        .map(|mx| (mx.preference, rng.u64(), mx))
        .collect();
    if list.is_empty() && limit.is_some() {
        return None;
    }
    list.sort_by_key(|(preference, order, _)| (*preference, *order));
    list.truncate(most);
    Some(list.into_iter().map(|(_, _, mx)| mx).collect())
}
