//! Where the DNS sends mail: exchangers by preference, the domain itself, nobody.

use super::{configuration, drained, mailbox};
use hickory_server::Server;
use hickory_server::proto::rr::rdata::{A, MX, SOA};
use hickory_server::proto::rr::{LowerName, Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use redspool_tools::rig::{Daemon, Dialog, Rig, Sink, until};
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr as _;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

/// A DNS server that knows the zone `test.`, and refuses to speak of anything else.
struct Dns {
    address: SocketAddr,
    _server: Server<Catalog>,
    _runtime: Runtime,
}

fn zone() -> InMemoryZoneHandler {
    let name = |text: &str| Name::from_str(text).unwrap();
    let origin = name("test.");
    let mut zone =
        InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny, None);
    let soa = SOA::new(
        name("ns.test."),
        name("admin.test."),
        1,
        3600,
        600,
        86400,
        60,
    );
    let mx = |preference, exchange| RData::MX(MX::new(preference, name(exchange)));
    let records = [
        ("test.", RData::SOA(soa)),
        ("sink.test.", RData::A(A(Ipv4Addr::LOCALHOST))),
        // Loopback too, but nobody listens there.
        ("dead.test.", RData::A(A(Ipv4Addr::new(127, 0, 0, 3)))),
        ("one.test.", mx(10, "sink.test.")),
        ("two.test.", mx(10, "dead.test.")),
        ("two.test.", mx(20, "sink.test.")),
        ("implicit.test.", RData::A(A(Ipv4Addr::LOCALHOST))),
        ("null.test.", mx(0, ".")),
        ("lost.test.", mx(10, "nowhere.test.")),
    ];
    for (owner, data) in records {
        assert!(zone.upsert_mut(Record::from_rdata(name(owner), 60, data), 1));
    }
    zone
}

impl Dns {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut catalog = Catalog::new();
        let origin = LowerName::from_str("test.").unwrap();
        catalog.upsert(origin, vec![Arc::new(zone())]);
        let (server, address) = runtime.block_on(async {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = socket.local_addr().unwrap();
            let mut server = Server::new(catalog);
            server.register_socket(socket);
            (server, address)
        });
        Self {
            address,
            _server: server,
            _runtime: runtime,
        }
    }
}

fn started() -> (Dns, Sink, Rig, Daemon) {
    let dns = Dns::start();
    let sink = Sink::start();
    let port = sink.address().port().to_string();
    let resolver = dns.address.to_string();
    let rig = Rig::new(&configuration("relay"));
    let rig = rig.with(&["--resolver", &resolver, "--mx-port", &port]);
    let daemon = rig.start();
    (dns, sink, rig, daemon)
}

fn send(daemon: &Daemon, rcpt: &str) {
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    let content = b"Subject: by name\r\n\r\ntext\r\n";
    let reply = dialog
        .submit("alice@local.example", &[rcpt], content)
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
}

#[test]
fn mail_goes_to_the_exchanger_to_the_next_one_or_to_the_domain_itself() {
    let (_dns, sink, rig, daemon) = started();
    for domain in ["one.test", "two.test", "implicit.test"] {
        let rcpt = format!("r@{domain}");
        send(&daemon, &rcpt);
        assert_eq!(sink.next().rcpts, [rcpt]);
    }
    drained(&rig);
}

#[test]
fn domains_that_take_no_mail_or_do_not_exist_come_back() {
    for rcpt in ["r@null.test", "r@gone.test"] {
        let (_dns, sink, rig, daemon) = started();
        let alice = mailbox(&rig, "alice");
        send(&daemon, rcpt);
        let report = alice.one();
        assert!(report.contains(rcpt), "{report}");
        drained(&rig);
        assert_eq!(sink.connections(), 0);
    }
}

#[test]
fn names_that_cannot_be_asked_for_now_wait() {
    // The server answers REFUSED: nothing is known about the domain, so nothing may be bounced.
    let (_dns, _sink, rig, daemon) = started();
    send(&daemon, "r@far.example");
    let line = until("the attempt has failed", || {
        let line = rig.queue().pop()?;
        (!line.ends_with('|')).then_some(line)
    });
    assert!(
        line.contains("|mta|") && line.contains("|pending|"),
        "{line}"
    );
}
