//! Walks through made-up zones.

use super::*;
use crate::time::Timestamp;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::time::Instant;

/// What a zone answers: lines of `name TYPE data`, several for several records.
fn answer(zone: &str, question: &Question) -> Answer {
    let (kind, name) = match question {
        Question::Texts(name) => ("TXT", name),
        Question::Addresses(name) => ("A", name),
        Question::Exchanges(name) => ("MX", name),
    };
    let lines: Vec<_> = zone.lines().map(str::trim).collect();
    let of_name = |line: &&&str| line.split(' ').next() == Some(name.as_str());
    if !lines.iter().any(|line| of_name(&line)) {
        return Answer::Nowhere;
    }
    let data = lines.iter().filter(of_name).filter_map(|line| {
        let (found, data) = line.split_once(' ')?.1.split_once(' ')?;
        (found == kind).then(|| data.to_owned())
    });
    let data: Vec<_> = data.collect();
    if let Some(reason) = data.iter().find_map(|text| text.strip_prefix('!')) {
        return Answer::Failed(reason.to_owned());
    }
    match question {
        _ if data.is_empty() => Answer::Nothing,
        Question::Texts(_) => Answer::Texts(data),
        Question::Addresses(_) => {
            Answer::Addresses(data.iter().map(|text| text.parse().unwrap()).collect())
        }
        Question::Exchanges(_) => {
            let exchange = |text: &String| {
                let (preference, name) = text.split_once(' ').unwrap();
                (preference.parse().unwrap(), name.to_owned())
            };
            Answer::Exchanges(data.iter().map(exchange).collect())
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: Timestamp::EPOCH,
    }
}

/// Questions, networks and faults of a walk from `example`.
fn walked(zone: &str, limits: SpfLimits) -> (Vec<String>, Report) {
    let mut walk = Walk::new("example", limits);
    let mut questions = Vec::new();
    while let Some(Action::Ask(question)) = walk.poll() {
        assert_eq!(walk.poll(), None, "one question at a time");
        questions.push(format!("{question:?}"));
        walk.handle(now(), Event::Answered(answer(zone, &question)));
    }
    (questions, walk.report())
}

fn check(zone: &str, want: &Expect) {
    let (_, report) = walked(zone, SpfLimits::default());
    let mut text = String::new();
    for network in report.networks {
        writeln!(text, "{network}").unwrap();
    }
    for fault in report.faults {
        writeln!(text, "! {fault}").unwrap();
    }
    want.assert_eq(&text);
}

#[test]
fn networks_come_in_the_order_of_the_terms() {
    check(
        "example TXT something else
         example TXT v=spf1 ip4:192.0.2.0/24 include:more.example a/24 mx:sub.example//64 -all
         example A 198.51.100.9
         example A 2001:db8::9
         example A 198.51.100.3
         more.example TXT v=spf1 ip6:2001:db8::/32 ?ip4:203.0.113.20/28 ~ip4:10.0.0.0/8
         sub.example MX 20 b.example
         sub.example MX 10 a.example
         a.example A 2001:db8:1::1
         b.example A 203.0.113.5",
        &expect![[r"
            192.0.2.0/24
            2001:db8::/32
            203.0.113.20/28
            198.51.100.3/24
            198.51.100.9/24
            2001:db8::9
            2001:db8:1::1/64
            203.0.113.5
        "]],
    );
}

#[test]
fn every_domain_has_its_own_a_and_mx() {
    check(
        "example TXT v=spf1 a include:one.example include:one.example
         example A 192.0.2.1
         one.example TXT v=spf1 a
         one.example A 192.0.2.2",
        &expect![[r"
            192.0.2.1
            192.0.2.2
        "]],
    );
}

#[test]
fn a_network_comes_once_however_it_is_written() {
    check(
        "example TXT v=spf1 ip4:192.0.2.1 +ip4:192.0.2.1/32 ip6:2001:db8::1 ip6:2001:DB8:0::1 a
         example A 192.0.2.1",
        &expect![[r"
            192.0.2.1
            2001:db8::1
        "]],
    );
}

#[test]
fn redirects_are_followed_and_loops_end() {
    check(
        "example TXT v=spf1 ip4:192.0.2.1 -all redirect=other.example
         other.example TXT v=spf1 include:example include:Other.Example ip4:192.0.2.2",
        &expect![[r"
            192.0.2.1
            192.0.2.2
            ! other.example: the record of example leads back to itself
            ! other.example: the record of other.example leads back to itself
        "]],
    );
}

#[test]
fn what_cannot_be_followed_is_told() {
    check(
        "example TXT v=spf1 ip4:10.9 a:%{i}.example include:gone.example include:bare.example
         example TXT v=spf1 include:broken.example mx:null.example ip4:192.0.2.1
         bare.example TXT hello
         null.example MX 0 .
         broken.example TXT !request timed out",
        &expect![[r"
            192.0.2.1
            ! example: several SPF records; receivers heed none
            ! example: `ip4:10.9` holds no network
            ! example: `%{i}.example` contains macros and can't be resolved
            ! gone.example: the domain does not exist
            ! bare.example: no SPF record
            ! example: broken.example: request timed out
        "]],
    );
    check(
        "",
        &expect![[r"
        ! example: the domain does not exist
    "]],
    );
    check(
        "example A 192.0.2.1",
        &expect![[r"
        ! example: no SPF record
    "]],
    );
    let report = Walk::new("a..b", SpfLimits::default()).report();
    assert_eq!(report.faults[0].to_string(), "a..b: `a..b` is no name");
}

#[test]
fn look_ups_are_counted_over_all_records() {
    let terms: Vec<_> = (0..12).map(|at| format!("include:i{at}.example")).collect();
    let mut zone = format!("example TXT v=spf1 {}\n", terms.join(" "));
    for at in 0..12 {
        writeln!(zone, "i{at}.example TXT v=spf1 ip4:192.0.2.{at}").unwrap();
    }
    let (questions, report) = walked(&zone, SpfLimits::default());
    assert_eq!((questions.len(), report.networks.len()), (11, 10));
    let fault = "example: more than 10 terms need a look-up; what comes then is not looked at";
    assert_eq!(report.faults[0].to_string(), fault);
    assert_eq!(report.faults.len(), 1);

    // Terms that tell nothing about networks count as well.
    let zone = format!(
        "example TXT v=spf1 {} a:late.example",
        "exists:x.example ".repeat(10)
    );
    let (questions, report) = walked(&zone, SpfLimits::default());
    assert_eq!((questions.len(), report.faults.len()), (1, 1));
}

#[test]
fn a_chain_of_records_ends() {
    let mut zone = String::from("example TXT v=spf1 include:c0.example\n");
    for at in 0..100 {
        let next = at + 1;
        writeln!(zone, "c{at}.example TXT v=spf1 include:c{next}.example").unwrap();
    }
    let (questions, report) = walked(&zone, SpfLimits::default());
    assert_eq!((questions.len(), report.faults.len()), (11, 1));
}

#[test]
fn empty_answers_are_counted() {
    let (questions, report) = walked(
        "example TXT v=spf1 a:x.example mx:x.example a:y.example ip4:192.0.2.1 a:z.example",
        SpfLimits::default(),
    );
    assert_eq!((questions.len(), report.networks.len()), (4, 0));
    let fault = "example: more than 2 look-ups find nothing; what comes then is not looked at";
    assert_eq!(report.faults[0].to_string(), fault);
}

#[test]
fn exchangers_and_networks_are_bounded() {
    let mut zone = String::from("example TXT v=spf1 mx\n");
    for at in 0..15 {
        writeln!(zone, "example MX 10 m{at:02}.example").unwrap();
        writeln!(zone, "m{at:02}.example A 192.0.2.{at}").unwrap();
    }
    let (_, report) = walked(&zone, SpfLimits::default());
    assert_eq!(report.networks.len(), 10);
    let fault = "example: example has more than 10 mail exchangers; \
                 those behind are not looked at";
    assert_eq!(report.faults[0].to_string(), fault);

    let limits = SpfLimits {
        networks: 4,
        ..SpfLimits::default()
    };
    let (_, report) = walked(&zone, limits);
    assert_eq!(report.networks.len(), 4);
    let fault = "example: more than 4 networks; what comes then is left out";
    assert_eq!(report.faults[1].to_string(), fault);
}

#[test]
fn faults_are_bounded() {
    let zone = format!("example TXT v=spf1{}", " ip4:x".repeat(1000));
    let (_, report) = walked(&zone, SpfLimits::default());
    assert_eq!(report.faults.len(), SpfLimits::default().faults);
}

#[test]
fn answers_that_nobody_asked_for_change_nothing() {
    let mut walk = Walk::new("example", SpfLimits::default());
    assert!(walk.poll().is_some());
    walk.handle(
        now(),
        Event::Answered(Answer::Exchanges(vec![(0, "x".into())])),
    );
    walk.handle(
        now(),
        Event::Answered(Answer::Addresses(vec![[192, 0, 2, 1].into()])),
    );
    assert_eq!(walk.poll(), None);
    let report = walk.report();
    assert_eq!(report.networks, []);
    assert_eq!(report.faults[0].to_string(), "example: no SPF record");
}

/// Names of a small world, so that records lead to each other.
fn name() -> impl Strategy<Value = String> {
    "[ab]{1,2}\\.example|example|%\\{d\\}|a\\.\\.b"
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let network = "ip4:192\\.0\\.2\\.[0-9]{1,3}(/[0-9]{1,2})?|ip6:2001:db8::[0-9a-f]{1,4}";
    let term = prop_oneof![
        name().prop_map(|name| format!("include:{name}")),
        name().prop_map(|name| format!("redirect={name}")),
        name().prop_map(|name| format!("a:{name}/24")),
        name().prop_map(|name| format!("mx:{name}")),
        network.prop_map(String::from),
        "[-~+?]?(a|mx|ptr|all|exists:x|\\PC{0,8})".prop_map(String::from),
    ];
    let terms = proptest::collection::vec(term, 0..12);
    let record = terms.prop_map(|terms| format!("v=spf1 {}", terms.join(" ")));
    let exchange = (any::<u16>(), name());
    prop_oneof![
        8 => proptest::collection::vec(record, 0..3).prop_map(Answer::Texts),
        2 => proptest::collection::vec(any::<IpAddr>(), 0..20).prop_map(Answer::Addresses),
        2 => proptest::collection::vec(exchange, 0..20).prop_map(Answer::Exchanges),
        1 => Just(Answer::Nothing),
        1 => Just(Answer::Nowhere),
        1 => Just(Answer::Failed("timed out".into())),
    ]
}

proptest! {
    #[test]
    fn whatever_is_answered_the_walk_ends_within_its_limits(
        answers in proptest::collection::vec(any_answer(), 1..40),
        networks in 1usize..30,
    ) {
        let limits = SpfLimits {
            networks,
            ..SpfLimits::default()
        };
        let mut walk = Walk::new("example", limits);
        let mut asked = 0;
        while let Some(Action::Ask(_)) = walk.poll() {
            let answer = answers[asked % answers.len()].clone();
            asked += 1;
            walk.handle(now(), Event::Answered(answer));
        }
        // The record itself, the terms, and the exchangers of each.
        prop_assert!(asked <= 1 + limits.lookups * (1 + limits.exchanges));
        prop_assert_eq!(walk.poll(), None);
        let report = walk.report();
        prop_assert!(report.networks.len() <= networks);
        prop_assert!(report.faults.len() <= limits.faults);
        let keys: BTreeSet<_> = report.networks.iter().map(Network::key).collect();
        prop_assert_eq!(keys.len(), report.networks.len());
    }
}
