//! DANE: exchangers in a signed zone, with TLSA records that hold, do not, or are forged.

use super::certificates::{Authority, Pair};
use super::deferred;
use super::peer::{Manners, Peer};
use crate::setup::queued;
use aws_lc_rs::digest::{SHA256, digest};
use hickory_server::Server;
use hickory_server::dnssec::NxProofKind;
use hickory_server::proto::dnssec::crypto::EcdsaSigningKey;
use hickory_server::proto::dnssec::rdata::DNSKEY;
use hickory_server::proto::dnssec::{Algorithm, DnssecSigner, SigningKey as _};
use hickory_server::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_server::proto::rr::rdata::{A, MX, NS, SOA, TLSA};
use hickory_server::proto::rr::{LowerName, Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use redspool_tools::rig::{Daemon, Rig, until};
use rustls::version::{TLS12, TLS13};
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

/// A DNS server that signs what it says of `test.`, where `far.test` has the exchanger `mx.test`.
pub(super) struct Dns {
    pub address: SocketAddr,
    /// The zone's key, as a line of a file.
    pub anchor: String,
    _server: Server<Catalog>,
    _runtime: Runtime,
}

/// How the exchanger's TLSA records come to be.
pub(super) enum Publish {
    /// Signed.
    Signed(Vec<TLSA>),
    /// Put in after all was signed, as a forger would.
    Forged(TLSA),
}

pub(super) fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

/// The zone with more records, and the line that makes its key trusted.
fn zone(port: u16, publish: Publish, more: &[(&str, RData)]) -> (InMemoryZoneHandler, String) {
    let (origin, ns) = (name("test."), name("ns.test."));
    let mut zone = InMemoryZoneHandler::empty(
        origin.clone(),
        ZoneType::Primary,
        AxfrPolicy::Deny,
        Some(NxProofKind::Nsec),
    );
    let soa = SOA::new(ns.clone(), name("admin.test."), 1, 3600, 600, 86400, 60);
    let put = |zone: &mut InMemoryZoneHandler, owner: &str, data| {
        assert!(zone.upsert_mut(Record::from_rdata(name(owner), 60, data), 1));
    };
    let here = || RData::A(A(Ipv4Addr::LOCALHOST));
    put(&mut zone, "test.", RData::SOA(soa));
    put(&mut zone, "test.", RData::NS(NS(ns)));
    put(&mut zone, "ns.test.", here());
    put(
        &mut zone,
        "far.test.",
        RData::MX(MX::new(10, name("mx.test."))),
    );
    put(&mut zone, "mx.test.", here());
    for (owner, data) in more {
        put(&mut zone, owner, data.clone());
    }
    let owner = format!("_{port}._tcp.mx.test.");
    let (signed, forged) = match publish {
        Publish::Signed(records) => (records, None),
        Publish::Forged(record) => (Vec::new(), Some(record)),
    };
    for record in signed {
        put(&mut zone, &owner, RData::TLSA(record));
    }
    let algorithm = Algorithm::ECDSAP256SHA256;
    let key = EcdsaSigningKey::generate_pkcs8(algorithm).unwrap();
    let key = EcdsaSigningKey::from_pkcs8(&key, algorithm).unwrap();
    let dnskey = DNSKEY::from_key(&key.to_public_key().unwrap());
    let anchor = format!("test. 3600 IN DNSKEY {dnskey}\n");
    let hour = Duration::from_hours(1);
    let signer = DnssecSigner::new(dnskey, Box::new(key), origin, hour);
    zone.add_zone_signing_key_mut(signer).unwrap();
    zone.secure_zone_mut().unwrap();
    if let Some(record) = forged {
        put(&mut zone, &owner, RData::TLSA(record));
    }
    (zone, anchor)
}

impl Dns {
    pub(super) fn start(port: u16, publish: Publish, more: &[(&str, RData)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (zone, anchor) = zone(port, publish, more);
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::new(&name("test.")), vec![Arc::new(zone)]);
        let (server, address) = runtime.block_on(async {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = socket.local_addr().unwrap();
            let mut server = Server::new(catalog);
            server.register_socket(socket);
            (server, address)
        });
        Self {
            address,
            anchor,
            _server: server,
            _runtime: runtime,
        }
    }
}

/// A record with the SHA-256 of a public key.
pub(super) fn record(usage: CertUsage, key: &[u8]) -> TLSA {
    let digest = digest(&SHA256, key).as_ref().to_vec();
    TLSA::new(usage, Selector::Spki, Matching::Sha256, digest)
}

/// A daemon that relays by MX with these options, and has a message for `far.test`.
fn sent(peer: &Peer, publish: Publish, options: &str) -> (Dns, Rig, Daemon) {
    let dns = Dns::start(peer.port(), publish, &[]);
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
    queued(&daemon, "b@far.test", "dane");
    (dns, rig, daemon)
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
