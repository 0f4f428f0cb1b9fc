//! Questions to the DNS whose answers must be proven: TLSA records of mail exchangers (RFC 7672).
//!
//! Promises: what is said to be there is signed from the trust anchors down; what is said not to
//! be there is proven absent, or not signed at all; all else is a failure. Where the name servers
//! we ask pass no signatures on, nothing is signed; once one was seen, nobody can make us believe
//! that again.
//! Absent on purpose: what follows for a connection (core's `dane`), checking of signatures and
//! caching (hickory's).

use crate::log::Brief;
use crate::resolver::{absolute, builder};
use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;
use redspool_core::dane::{Found, Tlsa};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Asks for proven answers.
pub struct Dnssec {
    dns: TokioResolver,
    signatures: Mutex<Signatures>,
}

/// Whether name servers pass signatures on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signatures {
    Unknown,
    Passed,
    /// They do not; to be tried again then.
    Missing(Instant),
}

/// What a question came to.
enum Proven {
    Records(Vec<Record>),
    /// There are none, as is proven, or as an unsigned zone says.
    Absent,
    Unsigned {
        /// Whether the name asked for is a signed alias of another one.
        alias: bool,
    },
}

impl Dnssec {
    /// Asks `server`, or those of the system if none is given, and trusts the keys of the root, or
    /// those in a file. Fails with the reason when the system names no servers, or the file cannot
    /// be read.
    pub fn new(server: Option<SocketAddr>, anchors: Option<&Path>) -> Result<Self, String> {
        let mut builder = builder(server)?;
        let options = builder.options_mut();
        options.validate = true;
        // An answer is proven only if every alias on the way to it is.
        options.preserve_intermediates = true;
        let mut signatures = Signatures::Unknown;
        if let Some(path) = anchors {
            let anchors = TrustAnchors::from_file(path);
            let anchors = anchors.map_err(|error| format!("{}: {error}", path.display()))?;
            builder = builder.with_trust_anchor(Arc::new(anchors));
            // Whoever names keys says that there are signatures; the root need not have any.
            signatures = Signatures::Passed;
        }
        let dns = builder.build().map_err(|error| error.to_string())?;
        Ok(Self {
            dns,
            signatures: Mutex::new(signatures),
        })
    }

    /// TLSA records of `host`, an exchanger of `domain`, for the address and port it is called at.
    /// Name servers that pass no signatures on are asked again after `retry`.
    pub async fn tlsa(
        &self,
        domain: &str,
        host: &str,
        target: SocketAddr,
        retry: Duration,
    ) -> Found {
        // Nobody signs an address literal.
        let literal = host.parse::<IpAddr>().is_ok();
        let found = if !literal && self.are_passed(retry).await {
            let found = self.found(domain, host, target).await;
            found.unwrap_or_else(|why| Found::Failed(why.into()))
        } else {
            Found::Unsigned
        };
        tracing::trace!(
            target: "trace::lookup",
            "\"{}\" as Tlsa in the DNS -> {}", crate::log::Shown(host), Brief(&found)
        );
        found
    }

    async fn found(&self, domain: &str, host: &str, target: SocketAddr) -> Result<Found, String> {
        match self.ask(domain, RecordType::MX).await? {
            Proven::Unsigned { .. } => return Ok(Found::Unsigned),
            Proven::Records(records) if !is_exchanger(&records, host) => {
                return Err("it is not among the signed exchangers".into());
            }
            Proven::Absent if !is_same(domain, host) => {
                return Err("it is no exchanger by signed answers".into());
            }
            Proven::Records(_) | Proven::Absent => {}
        }
        let family = if target.is_ipv4() {
            RecordType::A
        } else {
            RecordType::AAAA
        };
        let address = self.ask(host, family).await?;
        if matches!(address, Proven::Absent) {
            return Err("its address is gone by signed answers".into());
        }
        // RFC 7672 section 2.1.2: where nothing is signed, nobody is asked for TLSA records, for
        // there are name servers that fail at it.
        let mut found = Found::Unsigned;
        for name in owners(host, &address) {
            let owner = format!("_{}._tcp.{name}", target.port());
            found = match self.ask(&owner, RecordType::TLSA).await? {
                Proven::Records(records) => {
                    let records = records.iter().filter_map(tlsa).collect();
                    let name = name.into();
                    return Ok(Found::Records { name, records });
                }
                Proven::Absent => Found::Absent,
                Proven::Unsigned { .. } => Found::Unsigned,
            };
        }
        Ok(found)
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Proven, String> {
        match self.dns.lookup(absolute(name), kind).await {
            Ok(lookup) => proven(name, lookup.answers(), kind),
            Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Ok(Proven::Absent),
            Err(NetError::Dns(DnsError::Nsec {
                proof: Proof::Insecure,
                ..
            })) => Ok(Proven::Unsigned { alias: false }),
            Err(error) => Err(format!("{kind} lookup: {error}")),
        }
    }

    /// Whether name servers pass signatures on: the root's can be had then.
    async fn are_passed(&self, retry: Duration) -> bool {
        let now = Instant::now();
        match *self.signatures.lock() {
            Signatures::Passed => return true,
            Signatures::Missing(again) if now < again => return false,
            Signatures::Missing(_) | Signatures::Unknown => {}
        }
        let passed = matches!(self.ask(".", RecordType::SOA).await, Ok(Proven::Records(_)));
        let mut known = self.signatures.lock();
        if passed {
            *known = Signatures::Passed;
        } else if *known != Signatures::Passed {
            if *known == Signatures::Unknown {
                tracing::info!(
                    "dane: the name servers pass no DNSSEC signatures on, so no host has TLSA records"
                );
            }
            *known = Signatures::Missing(now + retry);
        }
        passed
    }
}

/// The records of a kind, if all of the answer is signed.
fn proven(name: &str, answer: &[Record], kind: RecordType) -> Result<Proven, String> {
    let wanted = |record: &&Record| record.record_type() == kind;
    if answer.iter().all(|record| record.proof == Proof::Secure) {
        let records: Vec<_> = answer.iter().filter(wanted).cloned().collect();
        return Ok(if records.is_empty() {
            Proven::Absent
        } else {
            Proven::Records(records)
        });
    }
    let unproven = |record: &Record| !matches!(record.proof, Proof::Secure | Proof::Insecure);
    if answer.iter().any(unproven) {
        return Err(format!("{kind} lookup: the answer is not proven"));
    }
    let is_alias = |record: &Record| {
        record.record_type() == RecordType::CNAME
            && record.proof == Proof::Secure
            && is_same(&record.name.to_utf8(), name)
    };
    Ok(Proven::Unsigned {
        alias: answer.iter().any(is_alias),
    })
}

/// The names whose TLSA records speak for a host with this address, the best first (RFC 7672
/// section 2.2.2): what it is an alias of, if all of the way there is signed, and its own.
fn owners(host: &str, address: &Proven) -> Vec<String> {
    let own = host.to_owned();
    match address {
        Proven::Records(records) => {
            let end = records.first().map(|record| record.name.to_utf8());
            let end = end.filter(|end| !is_same(end, host));
            let end = end.map(|end| end.trim_end_matches('.').to_lowercase());
            end.into_iter().chain([own]).collect()
        }
        Proven::Unsigned { alias: true } => vec![own],
        Proven::Unsigned { alias: false } | Proven::Absent => Vec::new(),
    }
}

fn is_same(one: &str, other: &str) -> bool {
    let bare = |name: &str| name.trim_end_matches('.').to_lowercase();
    bare(one) == bare(other)
}

fn is_exchanger(records: &[Record], host: &str) -> bool {
    records.iter().any(|record| match &record.data {
        RData::MX(mx) => is_same(&mx.exchange.to_utf8(), host),
        _ => false,
    })
}

fn tlsa(record: &Record) -> Option<Tlsa> {
    match &record.data {
        RData::TLSA(tlsa) => Some(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.as_slice().into(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::Name;
    use hickory_resolver::proto::rr::rdata::{A, CNAME};
    use std::net::Ipv4Addr;
    use std::str::FromStr as _;

    fn record(owner: &str, data: RData, proof: Proof) -> Record {
        let mut record = Record::from_rdata(Name::from_str(owner).unwrap(), 60, data);
        record.proof = proof;
        record
    }

    fn alias(owner: &str, of: &str, proof: Proof) -> Record {
        record(
            owner,
            RData::CNAME(CNAME(Name::from_str(of).unwrap())),
            proof,
        )
    }

    fn address(owner: &str, proof: Proof) -> Record {
        record(owner, RData::A(A(Ipv4Addr::LOCALHOST)), proof)
    }

    #[test]
    fn the_end_of_signed_aliases_is_asked_first_and_no_end_that_is_not_signed() {
        use Proof::{Bogus, Insecure, Secure};
        let check = |answer: &[Record], want: &[&str]| {
            let proven = proven("MX.test", answer, RecordType::A).unwrap();
            assert_eq!(owners("MX.test", &proven), want);
        };
        check(&[address("mx.test.", Secure)], &["MX.test"]);
        check(&[address("mx.test.", Insecure)], &[]);
        let middle = |proof| {
            let first = alias("mx.test.", "middle.test.", Secure);
            vec![first, alias("middle.test.", "end.test.", proof)]
        };
        let chain = |proof, end| [middle(proof), vec![address("end.test.", end)]].concat();
        check(&chain(Secure, Secure), &["end.test", "MX.test"]);
        check(&chain(Secure, Insecure), &["MX.test"]);
        check(&chain(Insecure, Secure), &["MX.test"]);
        let unsigned = alias("mx.test.", "end.test.", Insecure);
        check(&[unsigned, address("end.test.", Secure)], &[]);
        assert!(proven("mx.test", &chain(Bogus, Secure), RecordType::A).is_err());
        assert!(proven("mx.test", &chain(Insecure, Bogus), RecordType::A).is_err());
        let none = proven("mx.test", &middle(Secure), RecordType::A).unwrap();
        assert!(matches!(none, Proven::Absent));
    }
}
