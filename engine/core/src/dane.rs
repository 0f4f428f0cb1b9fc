//! What TLSA records ask of a connection to a mail exchanger (RFC 7672).
//!
//! Promises: where a host has secure TLSA records, mail goes to it over TLS or not at all; where it
//! cannot be told whether it has, mail does not go to it.
//! Absent on purpose: the DNS and the proof of its answers, certificates.
//! Fails: with what is missing, for now; another exchanger may do.

use crate::envelope::{Relay, Stance, TlsPolicy};
use crate::limits::DaneLimits;
use crate::queue::Failure;
use crate::reply::Status;

/// A TLSA record (RFC 6698 section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tlsa {
    /// What it speaks of: 2 is an authority (DANE-TA), 3 the server (DANE-EE).
    pub usage: u8,
    /// Of which part of a certificate: 0 is all of it, 1 its public key.
    pub selector: u8,
    /// In which form: 0 as it is, 1 its SHA-256, 2 its SHA-512.
    pub matching: u8,
    /// The part, or its digest.
    pub data: Box<[u8]>,
}

impl Tlsa {
    /// Whether it can prove anything to us. What speaks of public authorities proves nothing
    /// between mail servers (RFC 7672 section 3.1.3).
    pub fn is_usable(&self) -> bool {
        let whole = match self.matching {
            0 => !self.data.is_empty(),
            1 => self.data.len() == 32,
            2 => self.data.len() == 64,
            _ => false,
        };
        whole && matches!(self.usage, 2 | 3) && self.selector <= 1
    }
}

/// What the DNS said of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// That it is the domain's exchanger, or where it is, or its TLSA records, is not signed.
    Unsigned,
    /// It has no TLSA records.
    Absent,
    /// These, securely.
    Records {
        /// Whose they are: the host's, or that of the name it is an alias of.
        name: Box<str>,
        /// Not empty.
        records: Vec<Tlsa>,
    },
    /// There is no answer, or a forged one, for this reason.
    Failed(Box<str>),
}

/// What a connection must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Its TLS.
    pub tls: TlsPolicy,
    /// One of these must match the certificate; if there is none, the relay's authorities count.
    pub records: Vec<Tlsa>,
    /// The name to ask the server for, and its certificate is to be for.
    pub name: Box<str>,
}

impl Demand {
    /// What a relay asks of `host` by its options alone.
    pub fn plain(relay: &Relay, host: &str) -> Self {
        Self {
            tls: relay.tls(),
            records: Vec::new(),
            name: host.into(),
        }
    }
}

/// Whether TLSA records mean anything to a relay: by MX, unless it says otherwise.
pub fn applies(relay: &Relay) -> bool {
    relay.host.is_none() && relay.security.dane != Stance::Never
}

/// What a connection to `host` must be, by the relay's options and what was found. Only of relays
/// to which DANE [`applies`].
pub fn demand(
    relay: &Relay,
    host: &str,
    found: Found,
    limits: &DaneLimits,
) -> Result<Demand, Failure> {
    let failed = |what: &str| {
        let host = host.escape_debug();
        Err(Failure::new(
            Status::transient(7, 5),
            format!("DANE of {host}: {what}"),
        ))
    };
    let plain = Demand::plain(relay, host);
    let required = relay.security.dane == Stance::Required;
    let (name, mut records) = match found {
        Found::Failed(why) => return failed(&why),
        Found::Unsigned if required => return failed("the DNS has no signed answers"),
        Found::Absent if required => return failed("there is no TLSA record"),
        Found::Unsigned | Found::Absent => return Ok(plain),
        Found::Records { name, records } => (name, records),
    };
    records.retain(Tlsa::is_usable);
    if records.is_empty() {
        if required {
            return failed("none of its TLSA records can be used");
        }
        // RFC 7672 section 2.2: encrypted all the same.
        let verify = plain.tls.verifies();
        return Ok(Demand {
            tls: TlsPolicy::Required { verify },
            ..plain
        });
    }
    // Each record is enough, so without some the others hold: fewer certificates match, never more.
    // Without all of them, nothing would be left to prove.
    records.retain(|record| record.data.len() <= limits.record_size);
    if records.is_empty() {
        return failed("its TLSA records are too large");
    }
    // Those of the server first: they alone need no authority. The DNS has no order of its own.
    records.sort_by(|one, other| other.cmp(one));
    records.truncate(limits.records);
    Ok(Demand {
        tls: TlsPolicy::Required { verify: true },
        records,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{RelayHost, Scheme, TlsRule};

    fn relay(tls: TlsRule, dane: Stance) -> Relay {
        let mut relay = Relay::to(None);
        relay.security.tls = tls;
        relay.security.dane = dane;
        relay
    }

    fn record(usage: u8, selector: u8, matching: u8, length: usize) -> Tlsa {
        Tlsa {
            usage,
            selector,
            matching,
            data: vec![7; length].into(),
        }
    }

    fn found(records: Vec<Tlsa>) -> Found {
        let name = "host.example.org".into();
        Found::Records { name, records }
    }

    #[test]
    fn usable_is_what_names_the_server_or_its_authority() {
        for usage in 0..=255 {
            let named = usage == 2 || usage == 3;
            assert_eq!(record(usage, 1, 1, 32).is_usable(), named, "{usage}");
        }
        assert!(record(3, 0, 0, 1).is_usable() && record(2, 0, 2, 64).is_usable());
        assert!(!record(3, 2, 1, 32).is_usable() && !record(3, 1, 3, 32).is_usable());
        assert!(!record(3, 1, 1, 31).is_usable() && !record(3, 1, 2, 32).is_usable());
        assert!(!record(3, 0, 0, 0).is_usable());
    }

    #[test]
    fn dane_is_for_exchangers() {
        assert!(applies(&relay(TlsRule::Scheme, Stance::Opportunistic)));
        assert!(applies(&relay(TlsRule::Verified, Stance::Required)));
        assert!(!applies(&relay(TlsRule::Scheme, Stance::Never)));
        assert!(!applies(&Relay::to(Some(RelayHost {
            scheme: Scheme::Smtp,
            label: "".into(),
            host: "mx.example.org".into(),
            port: 25,
        }))));
    }

    #[test]
    fn what_is_found_decides_about_tls() {
        use TlsPolicy::{Opportunistic, Required};
        let usable = || found(vec![record(0, 1, 1, 32), record(3, 1, 1, 32)]);
        let unusable = || found(vec![record(1, 1, 1, 32), record(3, 1, 9, 32)]);
        let check = |tls, dane, found, want: Result<(TlsPolicy, usize), &str>| {
            let limits = DaneLimits::default();
            let got = demand(&relay(tls, dane), "mx.example.org", found, &limits);
            let got = got.map(|demand| (demand.tls, demand.records.len()));
            let want = want.map_err(|what| {
                let text = format!("DANE of mx.example.org: {what}");
                Failure::new(Status::transient(7, 5), text)
            });
            assert_eq!(got, want);
        };
        let (scheme, lax) = (TlsRule::Scheme, TlsRule::Unverified);
        let (verify, dont) = (Required { verify: true }, Required { verify: false });
        let may = Stance::Opportunistic;
        check(scheme, may, Found::Unsigned, Ok((Opportunistic, 0)));
        check(scheme, may, Found::Absent, Ok((Opportunistic, 0)));
        check(scheme, may, usable(), Ok((verify, 1)));
        check(scheme, may, unusable(), Ok((dont, 0)));
        check(scheme, may, Found::Failed("why".into()), Err("why"));
        check(lax, may, Found::Absent, Ok((dont, 0)));
        check(lax, may, usable(), Ok((verify, 1)));
        check(TlsRule::Verified, may, Found::Unsigned, Ok((verify, 0)));
        check(TlsRule::Verified, may, unusable(), Ok((verify, 0)));
        let must = Stance::Required;
        check(scheme, must, usable(), Ok((verify, 1)));
        check(
            scheme,
            must,
            Found::Unsigned,
            Err("the DNS has no signed answers"),
        );
        check(scheme, must, Found::Absent, Err("there is no TLSA record"));
        check(
            scheme,
            must,
            unusable(),
            Err("none of its TLSA records can be used"),
        );
    }

    #[test]
    fn the_name_is_that_of_the_records_in_use() {
        let relay = relay(TlsRule::Scheme, Stance::Opportunistic);
        let check = |found, want: &str| {
            let got = demand(&relay, "mx.example.org", found, &DaneLimits::default());
            assert_eq!(&*got.unwrap().name, want);
        };
        check(found(vec![record(3, 1, 1, 32)]), "host.example.org");
        check(found(vec![record(1, 1, 1, 32)]), "mx.example.org");
        check(Found::Absent, "mx.example.org");
    }

    #[test]
    fn of_too_many_or_too_large_records_the_rest_holds() {
        let relay = relay(TlsRule::Scheme, Stance::Opportunistic);
        let limits = DaneLimits {
            records: 3,
            record_size: 64,
            ..DaneLimits::default()
        };
        let kept = |records| {
            let demand = demand(&relay, "mx.example.org", found(records), &limits);
            let records = demand.map(|demand| demand.records.into_iter());
            records.map(|records| records.map(|r| (r.usage, r.data.len())).collect::<Vec<_>>())
        };
        let mut many = vec![record(2, 1, 1, 32); 5];
        many.push(record(3, 1, 1, 32));
        assert_eq!(kept(many), Ok(vec![(3, 32), (2, 32), (2, 32)]));
        let large = vec![record(3, 0, 0, 65), record(3, 0, 0, 64)];
        assert_eq!(kept(large), Ok(vec![(3, 64)]));
        // Not taken for unusable ones: then anybody's certificate would do.
        let failure = kept(vec![record(3, 0, 0, 65)]).unwrap_err();
        assert!(failure.text.ends_with("too large"), "{failure:?}");
    }
}
