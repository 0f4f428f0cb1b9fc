//! Policies of MTA-STS and their cache, as text and as octets.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use redspool_core::limits::StsLimits;
use redspool_core::sts::{Cache, Found, Policy, Step, announced};
use redspool_core::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Lines that are fields, nearly are, or are not.
fn any_text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "(version|mode|mx|max_age|[a-z_]{0,5})[: ]{0,3}(STSv1|enforce|testing|none|[*.a-z0-9-]{0,12})",
        "mx: (\\*\\.)?[a-zA-Z0-9]{1,5}(\\.[a-z]{1,5}){0,3}",
        "max_age: [0-9]{0,11}",
        ".{0,20}",
    ];
    let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r"), Just("")];
    vec((line, end), 0..8).prop_map(|lines| lines.into_iter().map(|(l, e)| l + e).collect())
}

fn any_policy() -> impl Strategy<Value = String> {
    let mode = prop_oneof![Just("enforce"), Just("testing"), Just("none")];
    let mx = vec(
        "(\\*\\.)?[a-zA-Z0-9_]{1,9}(\\.[a-z0-9]{0,5}[a-z]){0,3}",
        1..5,
    );
    (mode, mx, 100..u32::MAX).prop_map(|(mode, mx, age)| {
        let mx = mx.join("\r\nmx: ");
        format!("version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: {age}\r\n")
    })
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1_000_000_000 + seconds)
}

fn encoded(cache: &Cache) -> Vec<u8> {
    let mut octets = Vec::new();
    cache.encode(&mut octets);
    octets
}

/// A cache with these policies, which were fetched one after the other.
fn cache(policies: &[(String, String)], limits: &StsLimits) -> Cache {
    let mut cache = Cache::default();
    for (second, (domain, text)) in (0..).zip(policies) {
        let policy = Policy::parse(text, limits.patterns);
        let policy = policy.expect("only policies are asked for");
        cache.fetched(at(second), domain, "1", Ok(Arc::new(policy)), limits);
    }
    cache
}

fn any_policies() -> impl Strategy<Value = Vec<(String, String)>> {
    vec(("[a-z]{1,3}\\.test", any_policy()), 0..8)
}

proptest! {
    #[test]
    fn a_policy_written_out_is_the_same_policy(text in prop_oneof![any_text(), any_policy()], most in 0..6_usize) {
        if let Ok(policy) = Policy::parse(&text, most) {
            prop_assert_eq!(Policy::parse(&policy.to_string(), most), Ok(policy));
        }
    }

    #[test]
    fn every_policy_is_read_and_names_what_it_lists(text in any_policy(), label in "[a-z0-9]{1,9}") {
        let policy = Policy::parse(&text, 9).unwrap();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("mx: ") {
                let host = name.replace('*', &label);
                prop_assert!(policy.names(&host), "{}", host);
                prop_assert!(!policy.names(&format!("x.y.z.{host}")) , "{}", host);
            }
        }
    }

    #[test]
    fn arbitrary_records_announce_what_can_stand_in_a_field(records in vec(".{0,40}|v=STSv1;.{0,20}|v=STSv1; id=[a-z0-9]{0,34};?", 0..4)) {
        if let Ok(id) = announced(records.iter().map(String::as_str)) {
            prop_assert!((1..=32).contains(&id.len()));
            prop_assert!(id.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn a_cache_comes_back(policies in any_policies()) {
        let limits = StsLimits::default();
        let octets = encoded(&cache(&policies, &limits));
        let read = Cache::decode(at(50), &octets, &limits).unwrap();
        prop_assert_eq!(encoded(&read), octets);
    }

    #[test]
    fn arbitrary_octets_never_panic_as_a_cache(
        policies in any_policies(),
        place in any::<Index>(),
        octet in any::<u8>(),
        rest in vec(any::<u8>(), 0..99),
    ) {
        let limits = StsLimits::default();
        let mut octets = encoded(&cache(&policies, &limits));
        let place = place.index(octets.len());
        octets[place] = octet;
        let _ = Cache::decode(at(0), &octets, &limits);
        octets.truncate(place);
        octets.extend(rest);
        let _ = Cache::decode(at(0), &octets, &limits);
    }

    #[test]
    fn a_policy_in_force_is_never_taken_away_before_its_life_is_over(
        age in 1..100_u64,
        steps in vec((0..20_u64, any::<bool>(), 0..3_u8), 1..20),
    ) {
        let limits = StsLimits { retry: Duration::from_secs(3), ..StsLimits::default() };
        let text = format!("version: STSv1\nmode: enforce\nmx: a.test\nmax_age: {age}\n");
        let mut cache = cache(&[("far.test".into(), text)], &limits);
        let mut now = 0;
        for (wait, announces, id) in steps {
            now += wait;
            let id = id.to_string();
            let announced = if announces { Ok(&*id) } else { Err("gone") };
            let found = match cache.step(at(now), "far.test", announced, &limits) {
                Step::Known(found) => found,
                Step::Fetch(id) => {
                    cache.fetched(at(now), "far.test", id, Err("refused".into()), &limits)
                }
            };
            prop_assert_eq!(matches!(found, Found::Policy(_)), now < age, "at {}", now);
        }
    }
}
