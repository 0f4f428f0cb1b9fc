//! Domains and smart hosts, and what the DNS said about them.

use super::{Lookup, RelayId, Resolution};
use crate::envelope::{Envelope, Relay};
use crate::rng::Rng;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// A name to be looked up, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    pub(super) last_connect: Option<Instant>,
    /// With their policies; few.
    pub(super) relays: Vec<(RelayId, Arc<Relay>)>,
}

impl Domain {
    pub(super) fn new(key: &DomainKey) -> Self {
        let answer = key.literal().map_or(Answer::Unasked, |address| {
            let mx = Mx {
                preference: 0,
                name: address.to_string().into(),
                address,
            };
            Answer::Known(vec![mx], None)
        });
        Self {
            answer,
            sessions: 0,
            last_connect: None,
            relays: Vec::new(),
        }
    }

    /// The exchangers, if they are known.
    pub(super) fn exchangers(&self) -> &[Mx] {
        match &self.answer {
            Answer::Known(list, _) => list,
            Answer::Unasked | Answer::Asked => &[],
        }
    }
}

/// The addresses of an answer: best preference first, equal ones in random order, at most `most`.
pub(super) fn addresses(resolution: Resolution, most: usize, rng: &mut Rng) -> Vec<Mx> {
    let exchanges = resolution.exchanges.into_iter();
    let mut list: Vec<_> = exchanges
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
    list.sort_by_key(|(preference, order, _)| (*preference, *order));
    list.truncate(most);
    list.into_iter().map(|(_, _, mx)| mx).collect()
}

/// Of a list in order, those that are better than we are. `None` if we are the best of them:
/// RFC 5321 section 5.1 has us drop every exchanger that is not better than us, and a message that
/// comes back to us loops. We are known by our own name, and by that of `relay backup mx`.
pub(super) fn better<'m>(list: &'m [Mx], own: &str, backup: Option<&str>) -> Option<&'m [Mx]> {
    let is = |name: &str, ours: &str| name.trim_end_matches('.').eq_ignore_ascii_case(ours);
    let ours = |mx: &&Mx| {
        let by_name = !own.is_empty() && is(&mx.name, own);
        by_name || backup.is_some_and(|backup| is(&mx.name, backup))
    };
    let Some(limit) = list.iter().find(ours).map(|mx| mx.preference) else {
        return Some(list);
    };
    let end = list.partition_point(|mx| mx.preference < limit);
    list.get(..end).filter(|better| !better.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_better_than_we_are_is_used() {
        let mx = |preference, name: &str| Mx {
            preference,
            name: name.into(),
            address: IpAddr::from([192, 0, 2, 1]),
        };
        let list = [
            mx(10, "a.example"),
            mx(20, "B.example."),
            mx(30, "c.example"),
        ];
        let check = |own: &str, backup: Option<&str>, want: Option<usize>| {
            let left = better(&list, own, backup).map(<[Mx]>::len);
            assert_eq!(left, want, "{own} {backup:?}");
        };
        check("x.example", None, Some(3));
        check("", None, Some(3));
        check("b.example", None, Some(1));
        check("x.example", Some("c.example"), Some(2));
        check("c.example", Some("b.example"), Some(1));
        check("x.example", Some("y.example"), Some(3));
        check("a.example", None, None);
        check("x.example", Some("A.EXAMPLE"), None);
    }
}
