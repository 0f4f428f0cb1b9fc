//! What the MTA-STS policy of a domain asks of connections to its exchangers (RFC 8461).
//!
//! Promises: where a policy is in force, mail goes to the exchangers it names, over TLS, to those
//! whose certificates prove their names, or not at all; a policy that is tried out hinders nothing;
//! who requires a policy sends nothing without one.
//! Absent on purpose: the DNS, HTTPS, certificates; DANE, which goes first (section 2).
//! Fails: with what is missing, for now; another exchanger may do.

mod cache;
mod policy;

pub use cache::{Cache, Step};
pub use policy::{Mode, Policy, PolicyError, announced};

use crate::envelope::{Relay, Stance, TlsPolicy};
use crate::queue::Failure;
use crate::reply::Status;
use std::sync::Arc;

/// What is known of a domain's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It has this one.
    Policy(Arc<Policy>),
    /// It has none, for this reason.
    Absent(Box<str>),
    /// Nobody could look, for this reason.
    Unknown(Box<str>),
}

/// What follows for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Nothing.
    Free,
    /// The policy is tried out. Had it been in force, the exchanger would have had to prove its name
    /// over TLS, if it had been used at all.
    Testing {
        /// Whether it is among those the policy names.
        listed: bool,
    },
    /// The exchanger must prove its name over TLS.
    Enforced,
}

impl Ruling {
    /// What a connection must be, if it had to be `otherwise`.
    pub fn tls(self, otherwise: TlsPolicy) -> TlsPolicy {
        match self {
            Self::Free | Self::Testing { .. } => otherwise,
            Self::Enforced => TlsPolicy::Required { verify: true },
        }
    }

    /// Why mail would not have gone over a connection if the policy that is tried out was in
    /// force, if there is a reason: the connection has TLS or not, and proves the host's name.
    pub fn fault(self, secured: bool, proven: bool) -> Option<&'static str> {
        match self {
            Self::Testing { listed: false } => Some(UNLISTED),
            Self::Testing { .. } if !secured => Some("there is no TLS"),
            Self::Testing { .. } if !proven => Some("the certificate does not prove its name"),
            _ => None,
        }
    }
}

const UNLISTED: &str = "it is not among the exchangers of the policy";

/// Whether policies mean anything to a relay: by MX, unless it says otherwise.
pub fn applies(relay: &Relay) -> bool {
    relay.host.is_none() && relay.security.mta_sts != Stance::Never
}

/// What a connection to `host`, an exchanger of `domain`, must be by the relay's options and what
/// is known of the domain's policy. Only of relays to which policies [apply](applies).
pub fn rule(relay: &Relay, domain: &str, host: &str, found: &Found) -> Result<Ruling, Failure> {
    let failed = |whom: &str, what: &str| {
        let whom = whom.escape_debug();
        Err(Failure::new(
            Status::transient(7, 5),
            format!("MTA-STS of {whom}: {what}"),
        ))
    };
    let required = relay.security.mta_sts == Stance::Required;
    match found {
        Found::Unknown(why) => failed(domain, why),
        Found::Absent(why) if required => failed(domain, &format!("no policy: {why}")),
        Found::Absent(_) => Ok(Ruling::Free),
        Found::Policy(policy) => match policy.mode {
            Mode::Enforce if policy.names(host) => Ok(Ruling::Enforced),
            Mode::Enforce => failed(host, UNLISTED),
            Mode::Testing | Mode::None if required => failed(domain, "the policy is not enforced"),
            Mode::Testing => Ok(Ruling::Testing {
                listed: policy.names(host),
            }),
            Mode::None => Ok(Ruling::Free),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{RelayHost, Scheme};

    fn relay(stance: Stance) -> Relay {
        let mut relay = Relay::to(None);
        relay.security.mta_sts = stance;
        relay
    }

    fn policy(mode: &str) -> Found {
        let text = format!("version: STSv1\nmode: {mode}\nmx: mx.far.test\nmax_age: 86400\n");
        Found::Policy(Arc::new(Policy::parse(&text, 9).unwrap()))
    }

    #[test]
    fn policies_are_for_exchangers() {
        assert!(applies(&relay(Stance::Opportunistic)) && applies(&relay(Stance::Required)));
        assert!(!applies(&relay(Stance::Never)));
        assert!(!applies(&Relay::to(Some(RelayHost {
            scheme: Scheme::Smtp,
            label: "".into(),
            host: "mx.example.org".into(),
            port: 25,
        }))));
    }

    #[test]
    fn the_mode_and_the_option_decide() {
        let check = |stance, host: &str, found: &Found, want: Result<Ruling, &str>| {
            let got = rule(&relay(stance), "far.test", host, found);
            let want = want.map_err(|what| {
                let text = format!("MTA-STS of {what}");
                Failure::new(Status::transient(7, 5), text)
            });
            assert_eq!(got, want, "{stance:?} {host} {found:?}");
        };
        let (may, must) = (Stance::Opportunistic, Stance::Required);
        let (mx, other) = ("mx.far.test", "mx.other.test");
        let absent = Found::Absent("none is published".into());
        let unknown = Found::Unknown("why".into());
        check(may, mx, &policy("enforce"), Ok(Ruling::Enforced));
        check(must, mx, &policy("enforce"), Ok(Ruling::Enforced));
        let unlisted = "mx.other.test: it is not among the exchangers of the policy";
        check(may, other, &policy("enforce"), Err(unlisted));
        check(must, other, &policy("enforce"), Err(unlisted));
        let testing = |listed| Ok(Ruling::Testing { listed });
        check(may, mx, &policy("testing"), testing(true));
        check(may, other, &policy("testing"), testing(false));
        check(may, mx, &policy("none"), Ok(Ruling::Free));
        check(may, mx, &absent, Ok(Ruling::Free));
        let lax = "far.test: the policy is not enforced";
        check(must, mx, &policy("testing"), Err(lax));
        check(must, mx, &policy("none"), Err(lax));
        let none = "far.test: no policy: none is published";
        check(must, mx, &absent, Err(none));
        for stance in [may, must] {
            check(stance, mx, &unknown, Err("far.test: why"));
        }
    }

    #[test]
    fn only_a_policy_in_force_changes_what_a_connection_must_be() {
        let verify = TlsPolicy::Required { verify: true };
        for otherwise in [TlsPolicy::Opportunistic, verify] {
            assert_eq!(Ruling::Free.tls(otherwise), otherwise);
            let testing = Ruling::Testing { listed: false };
            assert_eq!(testing.tls(otherwise), otherwise);
            assert_eq!(Ruling::Enforced.tls(otherwise), verify);
        }
    }

    #[test]
    fn a_policy_that_is_tried_out_says_what_it_would_have_hindered() {
        let check = |ruling: Ruling, secured, proven, fault: bool| {
            assert_eq!(ruling.fault(secured, proven).is_some(), fault, "{ruling:?}");
        };
        let (listed, other) = (
            Ruling::Testing { listed: true },
            Ruling::Testing { listed: false },
        );
        check(listed, true, true, false);
        check(listed, true, false, true);
        check(listed, false, false, true);
        check(other, true, true, true);
        check(Ruling::Free, false, false, false);
        check(Ruling::Enforced, true, true, false);
    }
}
