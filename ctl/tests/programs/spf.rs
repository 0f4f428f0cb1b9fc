//! `spf walk` against a DNS server of our own.

use crate::place::{Place, program, shown};
use expect_test::expect;
use hickory_server::Server;
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, MX, SOA, TXT};
use hickory_server::proto::rr::{LowerName, Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::str::FromStr as _;
use std::sync::Arc;
use tokio::net::{TcpListener, UdpSocket};
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
    let a = |text: &str| RData::A(A(text.parse().unwrap()));
    let aaaa = |text: &str| RData::AAAA(AAAA(text.parse().unwrap()));
    let mx = |preference, exchange| RData::MX(MX::new(preference, name(exchange)));
    let text =
        |strings: &[&str]| RData::TXT(TXT::new(strings.iter().map(ToString::to_string).collect()));
    // Too long for one datagram, so that the question goes over TCP as well.
    let long: Vec<_> = (0..200).map(|at| format!(" ip4:198.51.100.{at}")).collect();
    let long: Vec<_> = long.chunks(8).map(<[_]>::concat).collect();
    let mut long: Vec<_> = long.iter().map(String::as_str).collect();
    long.insert(0, "v=spf1");
    let records = [
        ("test.", RData::SOA(soa)),
        ("plain.test.", text(&["some other text"])),
        (
            "plain.test.",
            text(&["v=spf1 ip4:192.0.2.0/24 ", "mx a:alias.test/28", " -all"]),
        ),
        ("plain.test.", mx(20, "mx2.test.")),
        ("plain.test.", mx(10, "mx1.test.")),
        ("mx1.test.", aaaa("2001:db8::1")),
        ("mx1.test.", a("203.0.113.7")),
        ("mx2.test.", a("203.0.113.9")),
        ("mx2.test.", a("203.0.113.8")),
        ("alias.test.", RData::CNAME(CNAME(name("mx1.test.")))),
        (
            "more.test.",
            text(&["v=spf1 include:plain.test ip4:192.0.2.77 redirect=sub.more.test"]),
        ),
        ("sub.more.test.", text(&["v=spf1 a"])),
        ("sub.more.test.", a("192.0.2.78")),
        (
            "loop.test.",
            text(&["v=spf1 ip4:192.0.2.5 include:loop.test include:gone.test"]),
        ),
        ("bare.test.", text(&["no record"])),
        (
            "far.test.",
            text(&["v=spf1 include:far.example a:%{d}.test ip4:10.9"]),
        ),
        ("long.test.", text(&long)),
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
        catalog.upsert(
            LowerName::from_str("test.").unwrap(),
            vec![Arc::new(zone())],
        );
        let (server, address) = runtime.block_on(async {
            // The same port for both, which only asking can find.
            let (udp, tcp) = loop {
                let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                    break (udp, tcp);
                }
            };
            let address = udp.local_addr().unwrap();
            let mut server = Server::new(catalog);
            server.register_socket(udp);
            server.register_listener(tcp, std::time::Duration::from_secs(30), 4096);
            (server, address)
        });
        Self {
            address,
            _server: server,
            _runtime: runtime,
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program("smtpctl");
        command.args(["spf", "walk"]).args(args);
        command.env("REDSPOOL_RESOLVER", self.address.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        command
    }

    /// What `spf walk` makes of these lines.
    fn walk(&self, args: &[&str], lines: &str) -> String {
        let mut child = self.command(args).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(lines.as_bytes()).unwrap();
        drop(stdin);
        shown(&child.wait_with_output().unwrap())
    }
}

#[test]
fn networks_come_in_the_order_of_domains_and_records() {
    let dns = Dns::start();
    let want = expect![[r"
        192.0.2.0/24
        203.0.113.7
        2001:db8::1
        203.0.113.8
        203.0.113.9
        203.0.113.7/28
        192.0.2.77
        192.0.2.78
        [exit 0]
    "]];
    for _ in 0..3 {
        want.assert_eq(&dns.walk(&[], "plain.test  \n\n  \r\nMORE.test.\nplain.test"));
    }
    let shown = dns.walk(&[], "long.test\n");
    assert_eq!(shown.lines().count(), 201, "{shown}");
    assert!(shown.ends_with("198.51.100.199\n[exit 0]\n"), "{shown}");
    expect![[r"
        [exit 0]
    "]]
    .assert_eq(&dns.walk(&[], ""));
}

#[test]
fn what_cannot_be_followed_is_told_with_its_domain() {
    let dns = Dns::start();
    expect![[r"
        192.0.2.5
        [stderr]
        smtpctl: loop.test: the record of loop.test leads back to itself
        smtpctl: loop.test: gone.test: the domain does not exist
        smtpctl: gone.test: the domain does not exist
        smtpctl: bare.test: no SPF record
        smtpctl: a..b: `a..b` is no name
        [exit 1]
    "]]
    .assert_eq(&dns.walk(&[], "loop.test\ngone.test\nbare.test\na..b\n"));
    let shown = dns.walk(&[], "far.test\nplain.test\n");
    assert!(shown.starts_with("192.0.2.0/24\n"), "{shown}");
    for fault in [
        "smtpctl: far.test: `%{d}.test` contains macros and can't be resolved\n",
        "smtpctl: far.test: `ip4:10.9` holds no network\n",
        "smtpctl: far.test: far.example: ",
    ] {
        assert!(shown.contains(fault), "{shown}");
    }
    let long = format!("{}\n", "x".repeat(2000));
    expect![[r"
        [stderr]
        smtpctl: standard input: a line of 1024 octets or more is no domain
        [exit 1]
    "]]
    .assert_eq(&dns.walk(&[], &long));
}

#[test]
fn json_has_an_object_per_domain() {
    let dns = Dns::start();
    expect![[r#"
        {"domain":"more.test","networks":["192.0.2.0/24","203.0.113.7","2001:db8::1","203.0.113.8","203.0.113.9","203.0.113.7/28","192.0.2.77","192.0.2.78"],"errors":[]}
        {"domain":"sub.more.test","networks":["192.0.2.78"],"errors":[]}
        {"domain":"bare.test","networks":[],"errors":["bare.test: no SPF record"]}
        [stderr]
        smtpctl: bare.test: no SPF record
        [exit 1]
    "#]]
    .assert_eq(&dns.walk(&["--json"], "more.test\nsub.more.test\nbare.test\n"));
}

#[test]
fn a_domain_is_answered_while_the_next_is_typed() {
    let dns = Dns::start();
    let mut child = dns.command(&[]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for (domain, network) in [
        ("sub.more.test\n", "192.0.2.78"),
        ("loop.test\n", "192.0.2.5"),
    ] {
        stdin.write_all(domain.as_bytes()).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), network);
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn servers_are_given_by_address() {
    let place = Place::new();
    expect![[r"
        [stderr]
        smtpctl: invalid value 'localhost' for '--resolver <ADDRESS:PORT>': invalid socket address syntax; try --help
        [exit 255]
    "]]
    .assert_eq(&place.smtpctl(&["spf", "walk", "--resolver", "localhost"]));
}
