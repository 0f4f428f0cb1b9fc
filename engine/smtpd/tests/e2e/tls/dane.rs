//! DANE: exchangers in a signed zone, with TLSA records that hold, do not, or are forged.

use super::certificates::{Authority, Pair};
use super::deferred;
use super::dns::{Dns, Publish, Sayings, exchanger, here};
use super::peer::{Manners, Peer};
use crate::setup::queued;
use aws_lc_rs::digest::{SHA256, digest};
use hickory_server::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_server::proto::rr::rdata::{A, CNAME, TLSA};
use hickory_server::proto::rr::{Name, RData};
use redspool_tools::rig::{Daemon, Rig, until};
use rustls::version::{TLS12, TLS13};
use std::net::Ipv4Addr;
use std::str::FromStr as _;

/// A record with the SHA-256 of a public key.
pub(super) fn record(usage: CertUsage, key: &[u8]) -> TLSA {
    let digest = digest(&SHA256, key).as_ref().to_vec();
    TLSA::new(usage, Selector::Spki, Matching::Sha256, digest)
}

/// A daemon that relays by MX with these options, and has a message for `far.test`.
fn sent(peer: &Peer, publish: Publish, options: &str) -> (Dns, Rig, Daemon) {
    let dns = Dns::start(peer.port(), publish, &[]);
    let (rig, daemon) = sent_to("b@far.test", peer, &dns, options);
    (dns, rig, daemon)
}

/// The same for somebody, with this DNS.
fn sent_to(rcpt: &str, peer: &Peer, dns: &Dns, options: &str) -> (Rig, Daemon) {
    let rig = Rig::new(&super::configuration("", options));
    let anchors = rig.path().join("anchors");
    std::fs::write(&anchors, &dns.anchor).unwrap();
    let (resolver, port) = (dns.address.to_string(), peer.port().to_string());
    let rig = rig.with(&[
        "--resolver",
        &resolver,
        "--mx-port",
        &port,
        "--trust-anchors",
        anchors.to_str().unwrap(),
    ]);
    let daemon = rig.start();
    queued(&daemon, rcpt, "dane");
    (rig, daemon)
}

pub(super) fn secured(authority: &Authority, pair: &Pair) -> Peer {
    Peer::start(Manners::starttls(authority.server(pair, &[&TLS13, &TLS12])))
}

#[test]
fn a_record_of_the_server_holds_whatever_names_and_dates_its_certificate_has() {
    let authority = Authority::new();
    let pair = authority.vouch_in_the_past("other.example");
    let peer = secured(&authority, &pair);
    let records = vec![record(CertUsage::DaneEe, &pair.spki())];
    let (_dns, rig, daemon) = sent(&peer, Publish::Signed(records), "");
    let arrival = peer.next();
    assert!(arrival.secured);
    assert_eq!(arrival.asked.as_deref(), Some("mx.test"));
    daemon.logged("mta cert-check result=\"dane\"");
    daemon.logged(":256:dane delay=");
    let routes = rig.show(&["--json", "show", "routes"]);
    assert!(routes.contains(":256:dane"), "{routes}");
}

#[test]
fn a_record_of_an_authority_holds_for_what_it_signed_for_the_host() {
    let authority = Authority::new();
    let records = || vec![record(CertUsage::DaneTa, &authority.spki())];
    let peer = secured(&authority, &authority.vouch("mx.test"));
    let (_dns, rig, daemon) = sent(&peer, Publish::Signed(records()), "dane required");
    assert!(peer.next().secured);
    daemon.logged(":256:dane delay=");
    let relays = rig.show(&["show", "relays"]);
    assert!(relays.contains(",dane=required]"), "{relays}");
    drop(daemon);

    let peer = secured(&authority, &authority.vouch("other.example"));
    let (_dns, rig, _daemon) = sent(&peer, Publish::Signed(records()), "");
    let error = deferred(&rig);
    assert!(error.contains("other names"), "{error}");
    assert!(peer.is_empty());
}

#[test]
fn a_server_that_no_record_names_gets_no_mail() {
    let authority = Authority::new();
    let peer = secured(&authority, &authority.vouch("mx.test"));
    let stranger = authority.vouch("mx.test");
    let records = vec![record(CertUsage::DaneEe, &stranger.spki())];
    let (_dns, rig, _daemon) = sent(&peer, Publish::Signed(records), "");
    let error = deferred(&rig);
    assert!(error.contains("matches no TLSA record"), "{error}");
    assert!(peer.is_empty());
}

#[test]
fn where_there_are_records_nothing_goes_in_clear_text() {
    let authority = Authority::new();
    let key = authority.vouch("mx.test").spki();
    // Public authorities mean nothing between mail servers, but there is to be TLS.
    for usage in [CertUsage::DaneEe, CertUsage::PkixEe] {
        let peer = Peer::start(Manners::clear());
        let records = vec![record(usage, &key)];
        let (_dns, rig, _daemon) = sent(&peer, Publish::Signed(records), "");
        let error = deferred(&rig);
        assert!(error.contains("does not offer STARTTLS"), "{error}");
        assert!(peer.is_empty());
    }
}

#[test]
fn records_that_cannot_be_used_ask_for_no_more_than_tls() {
    let authority = Authority::new();
    let pair = authority.vouch("other.example");
    let peer = secured(&authority, &pair);
    let records = || vec![record(CertUsage::PkixEe, &pair.spki())];
    let (_dns, _rig, daemon) = sent(&peer, Publish::Signed(records()), "");
    assert!(peer.next().secured);
    daemon.logged(":256:unverified delay=");
    drop(daemon);

    let (_dns, rig, _daemon) = sent(&peer, Publish::Signed(records()), "dane required");
    let error = deferred(&rig);
    assert!(
        error.contains("none of its TLSA records can be used"),
        "{error}"
    );
}

#[test]
fn a_host_without_records_gets_mail_as_before_unless_they_are_required() {
    let peer = Peer::start(Manners::clear());
    let (_dns, _rig, daemon) = sent(&peer, Publish::Signed(Vec::new()), "");
    assert!(!peer.next().secured);
    daemon.logged(" tls=- delay=");
    drop(daemon);

    let (_dns, rig, _daemon) = sent(&peer, Publish::Signed(Vec::new()), "dane required");
    let error = deferred(&rig);
    assert!(
        error.contains("DANE of mx.test: there is no TLSA record"),
        "{error}"
    );
    assert!(peer.is_empty());
}

#[test]
fn a_forged_answer_keeps_the_mail_here() {
    let authority = Authority::new();
    let pair = authority.vouch("mx.test");
    let forged = || Publish::Forged(record(CertUsage::DaneEe, &pair.spki()));
    let peer = secured(&authority, &pair);
    let (_dns, rig, _daemon) = sent(&peer, forged(), "");
    let error = deferred(&rig);
    assert!(error.contains("DANE of mx.test: TLSA lookup"), "{error}");
    assert!(peer.is_empty());
    until("the relay lets the host be", || {
        rig.show(&["show", "relays"])
            .contains("ERROR_ROUTE_SMTP")
            .then_some(())
    });
    let routes = rig.show(&["--json", "show", "routes"]);
    assert!(!routes.contains("TLSA lookup"), "others use it: {routes}");

    let (_dns, _rig, daemon) = sent(&peer, forged(), "dane none");
    assert!(peer.next().secured);
    daemon.logged(":256:unverified delay=");
}

/// An exchanger of `far.plain.test`, signed by nobody, with a record that fits nothing.
fn unsigned(port: u16) -> Sayings {
    let fits_nothing = RData::TLSA(record(CertUsage::DaneEe, b"nothing"));
    let records = [
        ("far.plain.test.".into(), exchanger(10, "mx.plain.test.")),
        ("mx.plain.test.".into(), here()),
        (format!("_{port}._tcp.mx.plain.test."), fits_nothing),
    ];
    Sayings {
        records: records.into(),
        ..Sayings::default()
    }
}

#[test]
fn a_zone_that_is_not_signed_has_no_records_and_nobody_asks_for_them() {
    let peer = Peer::start(Manners::clear());
    let dns = Dns::saying(unsigned(peer.port()));
    let rcpt = "b@far.plain.test";
    let (_rig, daemon) = sent_to(rcpt, &peer, &dns, "");
    assert!(!peer.next().secured);
    drop(daemon);

    let (rig, _daemon) = sent_to(rcpt, &peer, &dns, "dane required");
    let error = deferred(&rig);
    let text = "DANE of mx.plain.test: the DNS has no signed answers";
    assert!(error.contains(text), "{error}");
    assert!(peer.is_empty());
    assert!(dns.asked().is_empty(), "{:?}", dns.asked());
}

#[test]
fn an_exchanger_whose_address_is_not_signed_has_no_records_either() {
    let peer = Peer::start(Manners::clear());
    let mut sayings = unsigned(peer.port());
    let mixed = ("mixed.test.".into(), exchanger(10, "mx.plain.test."));
    sayings.records.push(mixed);
    let dns = Dns::saying(sayings);
    let (_rig, daemon) = sent_to("b@mixed.test", &peer, &dns, "");
    assert!(!peer.next().secured);
    drop(daemon);

    let (rig, _daemon) = sent_to("b@mixed.test", &peer, &dns, "dane required");
    let error = deferred(&rig);
    assert!(error.contains("no signed answers"), "{error}");
    assert!(dns.asked().is_empty(), "{:?}", dns.asked());
}

#[test]
fn an_exchanger_under_a_broken_signature_gets_nothing() {
    let peer = Peer::start(Manners::clear());
    let dns = Dns::saying(Sayings {
        records: vec![("evil.test.".into(), here())],
        forged: vec![("far.test.".into(), exchanger(5, "evil.test."))],
        ..Sayings::default()
    });
    let (rig, _daemon) = sent_to("b@far.test", &peer, &dns, "");
    let error = deferred(&rig);
    assert!(error.contains(".test: MX lookup: "), "{error}");
    assert!(peer.is_empty());
    assert!(dns.asked().is_empty(), "{:?}", dns.asked());
}

#[test]
fn a_host_whose_records_cannot_be_asked_for_is_passed_over() {
    let peer = Peer::start(Manners::clear());
    let dns = Dns::saying(Sayings {
        failing: "mx.test.",
        ..Sayings::default()
    });
    let (rig, daemon) = sent_to("b@far.test", &peer, &dns, "");
    let error = deferred(&rig);
    assert!(error.contains("DANE of mx.test: TLSA lookup: "), "{error}");
    drop(daemon);

    let other = Ipv4Addr::new(127, 0, 0, 2);
    let second = Peer::start_at((other, peer.port()), Manners::clear());
    let dns = Dns::saying(Sayings {
        records: vec![
            ("far.test.".into(), exchanger(20, "second.test.")),
            ("second.test.".into(), RData::A(A(other))),
        ],
        failing: "mx.test.",
        ..Sayings::default()
    });
    let (_rig, _daemon) = sent_to("b@far.test", &peer, &dns, "");
    assert!(!second.next().secured);
    assert!(peer.is_empty());
}

#[test]
fn an_alias_is_asked_for_by_the_name_it_stands_for_and_then_by_its_own() {
    let authority = Authority::new();
    let check = |owner: &str| {
        let pair = authority.vouch(owner);
        let peer = secured(&authority, &pair);
        let port = peer.port();
        let records = RData::TLSA(record(CertUsage::DaneTa, &authority.spki()));
        let target = RData::CNAME(CNAME(Name::from_str("mx.test.").unwrap()));
        let dns = Dns::saying(Sayings {
            records: vec![
                ("near.test.".into(), exchanger(10, "www.test.")),
                ("www.test.".into(), target),
                (format!("_{port}._tcp.{owner}."), records),
            ],
            ..Sayings::default()
        });
        let (_rig, _daemon) = sent_to("b@near.test", &peer, &dns, "dane required");
        let arrival = peer.next();
        assert!(arrival.secured);
        assert_eq!(arrival.asked.as_deref(), Some(owner));
        dns.asked()
            .iter()
            .map(|asked| asked.replace(&format!("_{port}._tcp."), ""))
            .collect()
    };
    let asked: Vec<String> = check("mx.test");
    assert_eq!(asked, ["mx.test."]);
    assert_eq!(check("www.test"), ["mx.test.", "www.test."]);
}
