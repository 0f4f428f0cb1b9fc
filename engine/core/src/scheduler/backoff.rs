//! How long to wait before the next attempt.
//!
//! Attempts lie on slots `ctime + BASE * n^2` (spec/smtpd.md 3.1), so they get rarer with age, not
//! with the number of attempts alone. Every wait is moved by up to a tenth in either direction, so
//! that mail that failed together does not come back together, and is never longer than
//! `limits.backoff_max`, whatever the wall clock does.

use crate::envelope::Agent;
use crate::rng::Rng;
use std::time::Duration;

/// Seconds of the first slot of an envelope that did not fit into a hold queue.
pub(super) const OVERFLOW_BASE: u64 = 3;

/// Seconds of the first slot after acceptance.
pub(super) const fn base(agent: Agent) -> u64 {
    match agent {
        Agent::Mta => 400,
        Agent::Mda | Agent::Bounce => 10,
    }
}

/// Seconds from acceptance to the slot `n`.
pub(super) fn slot(base: u64, n: u64) -> u64 {
    base.saturating_mul(n.saturating_mul(n))
}

/// The wait from `age` seconds after acceptance to the first slot in the future whose number is at
/// least `n`.
pub(super) fn wait(base: u64, age: u64, n: u16, longest: Duration, rng: &mut Rng) -> Duration {
    let passed = (age / base.max(1)).isqrt();
    let seconds = slot(base, u64::from(n).max(passed + 1)).saturating_sub(age);
    jitter(Duration::from_secs(seconds).min(longest), rng).min(longest)
}

/// Nine to eleven tenths of a wait.
pub(super) fn jitter(wait: Duration, rng: &mut Rng) -> Duration {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let thousandths = 900 + rng.below(201);
    Duration::from_millis(millis.saturating_mul(thousandths) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use proptest::{prop_assert, proptest};

    const LONGEST: Duration = Duration::from_hours(4);

    #[test]
    fn slots_are_those_of_the_reference() {
        let mta: Vec<_> = (0..6).map(|n| slot(base(Agent::Mta), n)).collect();
        assert_eq!(mta, [0, 400, 1600, 3600, 6400, 10_000]);
        let mda: Vec<_> = (0..6).map(|n| slot(base(Agent::Mda), n)).collect();
        assert_eq!(mda, [0, 10, 40, 90, 160, 250]);
    }

    proptest! {
        #[test]
        fn waits_lead_to_the_first_free_slot(age in 0..500_000u64, n in 0..40u16, seed: u64) {
            let got = wait(400, age, n, Duration::MAX, &mut Rng::new(seed)).as_secs_f64();
            let first = (u64::from(n)..1000).map(|n| slot(400, n)).find(|slot| *slot > age);
            let exact = f64::from(u32::try_from(first.unwrap() - age).unwrap());
            prop_assert!((exact * 0.899..=exact * 1.101).contains(&got), "{got} for {exact}");
        }

        #[test]
        fn waits_are_bounded_whatever_the_age(age: u64, n: u16, seed: u64) {
            prop_assert!(wait(400, age, n, LONGEST, &mut Rng::new(seed)) <= LONGEST);
        }
    }
}
