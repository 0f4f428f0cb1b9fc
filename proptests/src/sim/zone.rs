//! The simulated DNS: which hosts a domain names, and when.

use super::peer::Host;
use redspool_core::engine::{Exchange, Resolution, Unresolved};
use redspool_core::queue::Failure;
use redspool_core::reply::Status;
use std::time::Duration;

/// Exchangers of a domain: preference and number of the host.
pub(super) type Exchangers = Vec<(u16, usize)>;

/// What the DNS says about a name.
#[derive(Clone, Debug)]
pub(super) enum Zone {
    /// These exchangers, for so long.
    Found { list: Exchangers, ttl: Duration },
    /// These until then, others afterwards.
    Moves {
        before: Exchangers,
        after: Exchangers,
        at: Duration,
        ttl: Duration,
    },
    /// SERVFAIL until then.
    Fails {
        until: Duration,
        then: Exchangers,
        ttl: Duration,
    },
    /// No answer until then, only the resolver's own time-out.
    Silent {
        until: Duration,
        then: Exchangers,
        ttl: Duration,
    },
    /// NXDOMAIN.
    NoDomain,
    /// `MX 0 .` (RFC 7505).
    NullMx,
}

/// The resolver gives up after so long.
const PATIENCE: Duration = Duration::from_secs(10);

impl Zone {
    /// How much longer than usual the answer takes, and what it is.
    pub(super) fn answer(
        &self,
        now: Duration,
        hosts: &[Host],
    ) -> (Duration, Result<Resolution, Unresolved>) {
        let found = |list: &Exchangers, ttl: &Duration| Ok(resolution(list, *ttl, hosts));
        let failed = |text: &str| Err(Unresolved::Temporary(temporary(text)));
        let answer = match self {
            Self::Found { list, ttl } => found(list, ttl),
            Self::Moves {
                before, at, ttl, ..
            } if now < *at => found(before, ttl),
            Self::Moves { after, ttl, .. } => found(after, ttl),
            Self::Fails { until, .. } if now < *until => failed("Temporary failure in MX lookup"),
            Self::Silent { until, .. } if now < *until => {
                return (
                    PATIENCE,
                    failed("Temporary failure in MX lookup: timed out"),
                );
            }
            Self::Fails { then, ttl, .. } | Self::Silent { then, ttl, .. } => found(then, ttl),
            Self::NoDomain => Err(Unresolved::Permanent(Failure::new(
                Status::permanent(1, 2),
                "Domain does not exist",
            ))),
            Self::NullMx => Err(Unresolved::Permanent(Failure::new(
                Status::permanent(1, 10),
                "Domain does not accept mail",
            ))),
        };
        (Duration::ZERO, answer)
    }
}

fn temporary(text: &str) -> Failure {
    Failure::new(Status::transient(4, 3), text)
}

fn resolution(list: &Exchangers, ttl: Duration, hosts: &[Host]) -> Resolution {
    let exchange = |(preference, host): &(u16, usize)| Exchange {
        preference: *preference,
        name: format!("h{host}.test").into(),
        addresses: vec![hosts[*host].address],
    };
    Resolution {
        exchanges: list.iter().map(exchange).collect(),
        ttl,
    }
}
