//! Hosts that a relay does not use for a while, for they did not prove what its options, TLSA
//! records or the policy of its domain ask for.
//!
//! Promises: it concerns that relay alone. Whoever publishes what a host cannot prove does not take
//! the host from the mail of others, as a penalty of the route would.
//! Absent on purpose: what has to be proved, and how.

use crate::limits::MtaLimits;
use crate::queue::Failure;
use crate::reply::Status;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

/// Hosts by their addresses.
#[derive(Debug, Default)]
pub(super) struct Barred(BTreeMap<IpAddr, Bar>);

#[derive(Debug)]
struct Bar {
    until: Instant,
    /// How often in a row.
    times: u32,
    failure: Failure,
}

/// Whether a connection failed of what the host did not prove or offer: RFC 3463 section 3.8,
/// security features not supported, cryptographic failure.
pub(super) fn is_unproven(failure: &Failure) -> bool {
    let codes = [Status::transient(7, 4), Status::transient(7, 5)];
    failure.status.is_some_and(|status| codes.contains(&status))
}

impl Barred {
    /// A host did not prove what it has to: it is not asked again for as long as a route would be
    /// disabled. `exchangers` are the hosts that matter; others are forgotten.
    pub(super) fn bar(
        &mut self,
        now: Instant,
        host: IpAddr,
        failure: Failure,
        exchangers: impl Iterator<Item = IpAddr>,
        limits: &MtaLimits,
    ) {
        let mut before = std::mem::take(&mut self.0);
        let kept = exchangers.filter_map(|host| before.remove_entry(&host));
        self.0 = kept.collect();
        let times = self.0.get(&host).map_or(0, |bar| bar.times);
        let times = times.saturating_add(1);
        let Some(until) = now.checked_add(limits.penalty(times)) else {
            return;
        };
        let bar = Bar {
            until,
            times,
            failure,
        };
        self.0.insert(host, bar);
    }

    /// A host has proved all that was asked for.
    pub(super) fn clear(&mut self, host: IpAddr) {
        self.0.remove(&host);
    }

    /// Why a host is not used now, if it is not.
    pub(super) fn why(&self, now: Instant, host: IpAddr) -> Option<&Failure> {
        let bar = self.0.get(&host).filter(|bar| now < bar.until)?;
        Some(&bar.failure)
    }

    /// Those that are not used now, until when, and why.
    pub(super) fn all(&self, now: Instant) -> impl Iterator<Item = (IpAddr, Instant, &Failure)> {
        let all = self.0.iter().filter(move |(_, bar)| now < bar.until);
        all.map(|(host, bar)| (*host, bar.until, &bar.failure))
    }

    /// When the last of them may be used again.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0.values().map(|bar| bar.until).max()
    }
}
