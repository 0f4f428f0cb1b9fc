//! Who has given wrong passwords lately, and how long each is kept waiting for the next answer.
//!
//! Promises: the wait doubles with every wrong password from one network or for one user, up to
//! a bound; a right one is never delayed, so nobody can lock others out; memory is bounded.
//! Absent on purpose: refusing to check: that would be a way to lock users out.

use crate::addr::Source;
use crate::limits::Limits;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong passwords, by network and by user.
#[derive(Debug, Default)]
pub struct Guesses {
    seen: BTreeMap<Guesser, Wrong>,
}

/// What wrong passwords have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Guesser {
    /// The first 24 bits of an IPv4 address, or 64 of an IPv6 one: what one guesser can have.
    Network(IpAddr),
    /// A user, in lower case, who may not exist.
    User(Box<str>),
}

#[derive(Clone, Copy, Debug)]
struct Wrong {
    times: u32,
    last: Instant,
}

impl Guesses {
    /// A wrong password was given. Says how long to hold the answer back.
    pub fn wrong(
        &mut self,
        now: Instant,
        source: Source,
        username: &str,
        limits: &Limits,
    ) -> Duration {
        let user = Guesser::User(username.to_lowercase().into());
        let network = source.ip().map(|ip| Guesser::Network(network(ip)));
        let times = network
            .into_iter()
            .chain([user])
            .map(|guesser| self.count(now, guesser, limits))
            .max();
        let doublings = times.unwrap_or(1).saturating_sub(1).min(31);
        Duration::from_secs(1 << doublings).min(limits.auth_delay)
    }

    /// A right password was given: what was wrong before was a slip.
    pub fn right(&mut self, source: Source, username: &str) {
        if let Some(ip) = source.ip() {
            self.seen.remove(&Guesser::Network(network(ip)));
        }
        let user = Guesser::User(username.to_lowercase().into());
        self.seen.remove(&user);
    }

    /// Counts one more, and gives how many there are.
    fn count(&mut self, now: Instant, guesser: Guesser, limits: &Limits) -> u32 {
        let fresh = |wrong: &Wrong| now.duration_since(wrong.last) < limits.auth_memory;
        let times = match self.seen.get(&guesser) {
            Some(wrong) if fresh(wrong) => wrong.times.saturating_add(1),
            _ => 1,
        };
        if self.seen.len() >= limits.auth_guessers && !self.seen.contains_key(&guesser) {
            self.seen.retain(|_, wrong| fresh(wrong));
            self.forget_oldest(limits);
        }
        self.seen.insert(guesser, Wrong { times, last: now });
        times
    }

    /// Makes room for one more, if there is none.
    fn forget_oldest(&mut self, limits: &Limits) {
        if self.seen.len() < limits.auth_guessers {
            return;
        }
        let oldest = self.seen.iter().min_by_key(|(_, wrong)| wrong.last);
        if let Some(guesser) = oldest.map(|(guesser, _)| guesser.clone()) {
            self.seen.remove(&guesser);
        }
    }
}

fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & 0xffff_ff00).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do to count from"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    fn source(ip: &str) -> Source {
        ip.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn t31_waits_double_per_network_and_per_user() {
        let limits = Limits::default();
        let now = start();
        let mut guesses = Guesses::default();
        let mut wait = |ip, user| guesses.wrong(now, source(ip), user, &limits).as_secs();
        assert_eq!(wait("192.0.2.1", "a"), 1);
        assert_eq!(wait("192.0.2.2", "b"), 2);
        assert_eq!(wait("198.51.100.1", "A"), 2);
        assert_eq!(wait("198.51.100.1", "c"), 2);
        assert_eq!(wait("2001:db8::1", "a"), 4);
        assert_eq!(wait("2001:db8::ffff", "d"), 2);
        for _ in 0..40 {
            wait("192.0.2.1", "a");
        }
        assert_eq!(wait("192.0.2.1", "e"), 30);
    }

    #[test]
    fn time_and_right_passwords_make_up_for_wrong_ones() {
        let limits = Limits::default();
        let mut now = start();
        let mut guesses = Guesses::default();
        let here = source("192.0.2.1");
        guesses.wrong(now, here, "a", &limits);
        guesses.right(here, "A");
        assert_eq!(guesses.wrong(now, here, "a", &limits).as_secs(), 1);
        now += limits.auth_memory;
        assert_eq!(guesses.wrong(now, here, "a", &limits).as_secs(), 1);
    }

    #[test]
    fn t31_memory_is_bounded_and_the_oldest_goes_first() {
        let limits = Limits {
            auth_guessers: 4,
            ..Limits::default()
        };
        let mut now = start();
        let mut guesses = Guesses::default();
        let here = source("192.0.2.1");
        for user in ["a", "b", "c", "d", "e"] {
            now += Duration::from_secs(1);
            guesses.wrong(now, here, user, &limits);
            assert!(guesses.seen.len() <= 4);
        }
        assert!(guesses.seen.contains_key(&Guesser::User("e".into())));
        assert!(!guesses.seen.contains_key(&Guesser::User("a".into())));
    }
}
