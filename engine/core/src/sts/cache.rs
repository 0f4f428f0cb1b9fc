//! Policies that are kept, and when to fetch one (RFC 8461 sections 3.3, 5.1 and 10.2).
//!
//! Promises: a policy is in force until its life is over, whatever the DNS or its server say or do
//! not say meanwhile, so that nobody takes it away by keeping answers from us; one that lives on is
//! fetched again when half of its life is over. What could not be fetched is left alone for a
//! while. Bounded: beyond the limit, those leave that were not used for longest.
//! Absent on purpose: asking, files.
//! Fails: octets that are not [encoded](Cache::encode) policies are refused as a whole.

use super::Found;
use super::policy::{Policy, is_host_name};
use crate::limits::StsLimits;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// First octet of the stored form; another layout gets another number.
const VERSION: u8 = 1;

/// Policies by their domains.
#[derive(Debug, Default)]
pub struct Cache {
    kept: BTreeMap<Box<str>, Kept>,
    failed: BTreeMap<Box<str>, Failed>,
}

#[derive(Debug)]
struct Kept {
    policy: Arc<Policy>,
    /// The id under which it was announced.
    id: Box<str>,
    fetched: Timestamp,
    used: Timestamp,
}

impl Kept {
    fn is_alive(&self, now: Timestamp) -> bool {
        now.since(self.fetched) < self.policy.max_age
    }

    fn is_old(&self, now: Timestamp) -> bool {
        now.since(self.fetched) >= self.policy.max_age / 2
    }
}

/// A policy that could not be fetched.
#[derive(Debug)]
struct Failed {
    at: Timestamp,
    why: Box<str>,
}

/// What to do about a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'i> {
    /// Fetch its policy with this id, and tell with [`Cache::fetched`].
    Fetch(&'i str),
    /// Nothing: this is what is known.
    Known(Found),
}

impl Cache {
    /// What to do about a domain that announces a policy with this id, or none for that reason.
    pub fn step<'i>(
        &mut self,
        now: Timestamp,
        domain: &str,
        announced: Result<&'i str, &str>,
        limits: &StsLimits,
    ) -> Step<'i> {
        if !is_host_name(domain) {
            let why = "the domain is not a name of a host";
            return Step::Known(Found::Absent(why.into()));
        }
        let alive = self.alive(now, domain);
        let is_new = |id: &str| alive.is_none_or(|kept| *kept.id != *id || kept.is_old(now));
        let wanted = announced.ok().filter(|id| is_new(id));
        let known = alive.map(|kept| Found::Policy(Arc::clone(&kept.policy)));
        let failed = self.failed.get(domain);
        let failed = failed.filter(|failed| now.since(failed.at) < limits.retry);
        let absent = match (wanted, failed, announced) {
            (Some(id), None, _) => return Step::Fetch(id),
            (_, _, Err(why)) => why,
            (_, failed, Ok(_)) => failed.map_or("", |failed| &failed.why),
        };
        Step::Known(known.unwrap_or_else(|| Found::Absent(absent.into())))
    }

    /// The policy of a domain was fetched after it was announced with this id, or was not, for that
    /// reason. Gives what is known now.
    pub fn fetched(
        &mut self,
        now: Timestamp,
        domain: &str,
        id: &str,
        fetched: Result<Arc<Policy>, Box<str>>,
        limits: &StsLimits,
    ) -> Found {
        match fetched {
            Ok(policy) => {
                self.failed.remove(domain);
                let kept = Kept {
                    policy: Arc::clone(&policy),
                    id: id.into(),
                    fetched: now,
                    used: now,
                };
                let idle = |kept: &Kept| (kept.is_alive(now), kept.used);
                make_room(&mut self.kept, domain, limits.policies, idle);
                self.kept.insert(domain.into(), kept);
                Found::Policy(policy)
            }
            Err(why) => {
                let at = |failed: &Failed| failed.at;
                make_room(&mut self.failed, domain, limits.policies, at);
                let why_again = why.clone();
                self.failed.insert(domain.into(), Failed { at: now, why });
                match self.alive(now, domain) {
                    Some(kept) => Found::Policy(Arc::clone(&kept.policy)),
                    None => Found::Absent(why_again),
                }
            }
        }
    }

    /// The policy of a domain that is in force, which is used now.
    fn alive(&mut self, now: Timestamp, domain: &str) -> Option<&Kept> {
        let kept = self.kept.get_mut(domain)?;
        kept.used = now;
        Some(&*kept).filter(|kept| kept.is_alive(now))
    }

    /// Appends the stored form to `out`: of each policy, domain, id, date and text, each with its
    /// length in front.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put(out, &(self.kept.len() as u64).to_le_bytes());
        for (domain, kept) in &self.kept {
            put(out, domain.as_bytes());
            put(out, kept.id.as_bytes());
            put(out, &kept.fetched.as_secs().to_le_bytes());
            put(out, kept.policy.to_string().as_bytes());
        }
    }

    /// Reads the stored form; policies that are over are left out. Fails with what makes no sense.
    pub fn decode(now: Timestamp, octets: &[u8], limits: &StsLimits) -> Result<Self, &'static str> {
        let (version, mut rest) = octets.split_first().ok_or("it is empty")?;
        if *version != VERSION {
            return Err("it is of another version");
        }
        let mut cache = Self::default();
        for _ in 0..number(&mut rest)? {
            let domain = text(&mut rest)?;
            let id = text(&mut rest)?.into();
            // A clock that was wrong must not make a policy live longer.
            let fetched = Timestamp::from_secs(number(&mut rest)?).min(now);
            let policy = Policy::parse(text(&mut rest)?, limits.patterns);
            let policy = Arc::new(policy.map_err(|_| "a policy cannot be read")?);
            let kept = Kept {
                policy,
                id,
                fetched,
                used: fetched,
            };
            if !is_host_name(domain) {
                return Err("a domain is not a name");
            }
            if kept.is_alive(now) && cache.kept.len() < limits.policies {
                cache.kept.insert(domain.into(), kept);
            }
        }
        if rest.is_empty() {
            Ok(cache)
        } else {
            Err("there are octets left over")
        }
    }
}

/// Takes the least out of a full map, unless `key` is in it.
fn make_room<T, K: Ord>(
    map: &mut BTreeMap<Box<str>, T>,
    key: &str,
    most: usize,
    rank: impl Fn(&T) -> K,
) {
    if map.len() < most || map.contains_key(key) {
        return;
    }
    let least = map.iter().min_by_key(|(_, value)| rank(value));
    if let Some(least) = least.map(|(key, _)| key.clone()) {
        map.remove(&least);
    }
}

fn put(out: &mut Vec<u8>, octets: &[u8]) {
    let length = u32::try_from(octets.len()).expect("no part of a policy has 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(octets);
}

fn part<'o>(rest: &mut &'o [u8]) -> Result<&'o [u8], &'static str> {
    const SHORT: &str = "it is too short";
    let (length, left) = rest.split_first_chunk().ok_or(SHORT)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| SHORT)?;
    let (part, left) = left.split_at_checked(length).ok_or(SHORT)?;
    *rest = left;
    Ok(part)
}

fn text<'o>(rest: &mut &'o [u8]) -> Result<&'o str, &'static str> {
    str::from_utf8(part(rest)?).map_err(|_| "a text is not UTF-8")
}

fn number(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let octets = part(rest)?.try_into().map_err(|_| "a number is none")?;
    Ok(u64::from_le_bytes(octets))
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;
    use std::time::Duration;

    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000_000 + seconds)
    }

    fn limits() -> StsLimits {
        StsLimits {
            policies: 3,
            ..StsLimits::default()
        }
    }

    fn policy(mode: &str) -> Arc<Policy> {
        let text = format!("version: STSv1\nmode: {mode}\nmx: mx.far.test\nmax_age: {DAY}\n");
        Arc::new(Policy::parse(&text, 1).unwrap())
    }

    fn step<'i>(cache: &mut Cache, seconds: u64, announced: Result<&'i str, &str>) -> Step<'i> {
        cache.step(at(seconds), "far.test", announced, &limits())
    }

    fn kept(seconds: u64) -> Cache {
        let mut cache = Cache::default();
        assert_eq!(step(&mut cache, seconds, Ok("1")), Step::Fetch("1"));
        let found = cache.fetched(
            at(seconds),
            "far.test",
            "1",
            Ok(policy("enforce")),
            &limits(),
        );
        assert!(matches!(found, Found::Policy(_)));
        cache
    }

    fn mode(step: Step<'_>) -> Option<Mode> {
        match step {
            Step::Known(Found::Policy(policy)) => Some(policy.mode),
            Step::Known(_) => None,
            Step::Fetch(_) => panic!("there was nothing to fetch"),
        }
    }

    #[test]
    fn a_policy_is_in_force_for_its_life_and_nobody_takes_it_away() {
        let mut cache = kept(0);
        for announced in [Ok("1"), Err("none is published"), Err("the DNS is gone")] {
            let known = step(&mut cache, DAY / 2 - 1, announced);
            assert_eq!(mode(known), Some(Mode::Enforce));
        }
        assert_eq!(
            mode(step(&mut cache, DAY - 1, Err("gone"))),
            Some(Mode::Enforce)
        );
        let over = step(&mut cache, DAY, Err("gone"));
        assert_eq!(over, Step::Known(Found::Absent("gone".into())));
    }

    #[test]
    fn another_id_or_age_has_it_fetched_again() {
        let mut cache = kept(0);
        assert_eq!(step(&mut cache, 1, Ok("2")), Step::Fetch("2"));
        assert_eq!(step(&mut cache, DAY / 2, Ok("1")), Step::Fetch("1"));
        cache.fetched(at(1), "far.test", "2", Ok(policy("none")), &limits());
        assert_eq!(mode(step(&mut cache, 2, Ok("2"))), Some(Mode::None));
    }

    #[test]
    fn what_cannot_be_fetched_is_left_alone_for_a_while_and_changes_nothing() {
        let mut cache = kept(0);
        let found = cache.fetched(at(9), "far.test", "2", Err("refused".into()), &limits());
        assert!(matches!(found, Found::Policy(_)));
        assert_eq!(mode(step(&mut cache, 308, Ok("2"))), Some(Mode::Enforce));
        assert_eq!(step(&mut cache, 309, Ok("2")), Step::Fetch("2"));

        let mut cache = Cache::default();
        let absent = Found::Absent("refused".into());
        let found = cache.fetched(at(0), "far.test", "1", Err("refused".into()), &limits());
        assert_eq!(found, absent);
        assert_eq!(step(&mut cache, 299, Ok("1")), Step::Known(absent));
        assert_eq!(step(&mut cache, 300, Ok("1")), Step::Fetch("1"));
    }

    #[test]
    fn nobody_asks_for_the_policy_of_what_is_no_host_name() {
        let mut cache = Cache::default();
        for domain in [
            "[192.0.2.1]",
            "a/b.test",
            "a@b.test",
            "",
            "a.test:1",
            "xn--\u{fc}.test",
        ] {
            let known = cache.step(at(0), domain, Ok("1"), &limits());
            assert!(matches!(known, Step::Known(Found::Absent(_))), "{domain}");
        }
    }

    #[test]
    fn those_leave_that_were_not_used_for_longest() {
        let mut cache = kept(0);
        for (seconds, domain) in [(1, "one.test"), (2, "two.test")] {
            cache.fetched(at(seconds), domain, "1", Ok(policy("enforce")), &limits());
        }
        assert_eq!(mode(step(&mut cache, 3, Ok("1"))), Some(Mode::Enforce));
        cache.fetched(at(4), "three.test", "1", Ok(policy("enforce")), &limits());
        assert_eq!(mode(step(&mut cache, 5, Ok("1"))), Some(Mode::Enforce));
        let gone = cache.step(at(5), "one.test", Ok("1"), &limits());
        assert_eq!(gone, Step::Fetch("1"));
        for number in 0..9 {
            let domain = format!("{number}.test");
            cache.fetched(at(6), &domain, "1", Err("refused".into()), &limits());
        }
        assert_eq!((cache.kept.len(), cache.failed.len()), (3, 3));
    }

    #[test]
    fn policies_outlive_us() {
        let cache = kept(0);
        let mut octets = Vec::new();
        cache.encode(&mut octets);
        let read = |seconds, octets: &[u8]| Cache::decode(at(seconds), octets, &limits());
        let mut again = read(1, &octets).unwrap();
        assert_eq!(mode(step(&mut again, 2, Ok("1"))), Some(Mode::Enforce));
        let mut late = read(DAY, &octets).unwrap();
        assert_eq!(step(&mut late, DAY, Ok("1")), Step::Fetch("1"));
        // Fetched in what is the future by a clock that was set back.
        let before = Timestamp::from_secs(1000);
        let mut early = Cache::decode(before, &octets, &limits()).unwrap();
        let over = before.after(Duration::from_secs(DAY));
        let known = early.step(over, "far.test", Err("gone"), &limits());
        assert_eq!(known, Step::Known(Found::Absent("gone".into())));

        for end in 0..octets.len() {
            assert!(read(1, &octets[..end]).is_err(), "{end}");
        }
        octets.push(0);
        assert_eq!(read(1, &octets).unwrap_err(), "there are octets left over");
        octets[0] = 2;
        assert_eq!(read(1, &octets).unwrap_err(), "it is of another version");
    }
}
