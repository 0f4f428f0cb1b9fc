//! MTA-STS: domains with policies in force, tried out, out of reach and out of bounds.

use super::certificates::Authority;
use super::dane::{record, secured};
use super::deferred;
use super::dns::{Dns, Publish};
use super::peer::{Manners, Peer};
use crate::setup::{field, fields, queued};
use hickory_server::proto::rr::RData;
use hickory_server::proto::rr::rdata::tlsa::CertUsage;
use hickory_server::proto::rr::rdata::{A, TXT};
use redspool_tools::rig::{Daemon, Rig, until};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A server that answers everything alike over HTTPS. Stops accepting when dropped.
struct Https {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Https {
    fn start(tls: Arc<ServerConfig>, answer: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stopped);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if flag.load(Ordering::Relaxed) {
                    return;
                }
                let (tls, answer) = (Arc::clone(&tls), answer.clone());
                // A client that breaks off is part of the tests, not an error.
                std::thread::spawn(move || serve(stream?, tls, &answer));
            }
        });
        Self { address, stopped }
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, tls: Arc<ServerConfig>, answer: &str) -> io::Result<()> {
    let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut talk = BufReader::new(StreamOwned::new(connection, stream));
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if talk.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        lines.push(line.to_ascii_lowercase());
    }
    let stream = talk.get_mut();
    let right = lines
        .first()
        .is_some_and(|line| line.starts_with("get /.well-known/mta-sts.txt http/1.1"))
        && lines
            .iter()
            .any(|line| line.starts_with("host: mta-sts.far.test"));
    let wrong = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(if right { answer } else { wrong }.as_bytes())?;
    stream.flush()?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// What a server says that has this text.
fn page(kind: &str, text: &str) -> String {
    let length = text.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{text}")
}

fn policy(mode: &str, mx: &str) -> String {
    let text = format!("version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 604800\r\n");
    page("text/plain; charset=utf-8", &text)
}

/// `far.test` with its policy, and an authority that everybody trusts.
struct World {
    authority: Authority,
    dns: Dns,
    https: Https,
}

impl World {
    /// The server of policies has a certificate for `name`, and says `answer`.
    fn new(authority: Authority, name: &str, answer: String) -> Self {
        Self::with_records(authority, name, answer, 0, Vec::new())
    }

    fn with_records(
        authority: Authority,
        name: &str,
        answer: String,
        port: u16,
        records: Vec<hickory_server::proto::rr::rdata::TLSA>,
    ) -> Self {
        let here = RData::A(A(Ipv4Addr::LOCALHOST));
        let text = RData::TXT(TXT::new(vec!["v=STSv1; id=20261130;".into()]));
        let more = [("mta-sts.far.test.", here), ("_mta-sts.far.test.", text)];
        let dns = Dns::start(port, Publish::Signed(records), &more);
        let server = authority.server(&authority.vouch(name), &[&TLS13, &TLS12]);
        Self {
            authority,
            dns,
            https: Https::start(server, answer),
        }
    }

    /// One whose policy is in its place.
    fn good(mode: &str, mx: &str) -> Self {
        Self::new(Authority::new(), "mta-sts.far.test", policy(mode, mx))
    }

    /// A daemon on a rig that sees this world.
    fn start(&self, rig: &Rig, peer: &Peer) -> Daemon {
        self.start_with(rig, peer, self.dns.address)
    }

    fn start_with(&self, rig: &Rig, peer: &Peer, dns: SocketAddr) -> Daemon {
        let mut command = rig.smtpd();
        command
            .env("SSL_CERT_FILE", self.authority.path())
            .env("REDSPOOL_RESOLVER", dns.to_string())
            .env("REDSPOOL_MX_PORT", peer.port().to_string())
            .env(
                "REDSPOOL_MTA_STS_PORT",
                self.https.address.port().to_string(),
            );
        Daemon::start(command)
    }

    /// A daemon that relays with these options, and has a message for `far.test`.
    fn sent(&self, peer: &Peer, options: &str) -> (Rig, Daemon) {
        let rig = Rig::new(&super::configuration("", options));
        let daemon = self.start(&rig, peer);
        queued(&daemon, "b@far.test", "sts");
        (rig, daemon)
    }
}

#[test]
fn a_policy_in_force_has_mail_go_to_its_exchangers_when_they_prove_their_names() {
    for (mx, options) in [("mx.test", "mta-sts required"), ("*.test", "tls no-verify")] {
        let world = World::good("enforce", mx);
        let peer = secured(&world.authority, &world.authority.vouch("mx.test"));
        let (rig, daemon) = world.sent(&peer, options);
        assert!(peer.next().secured);
        daemon.logged("mta-sts policy domain=far.test id=20261130 mode=enforce max-age=604800");
        daemon.logged("mta cert-check result=\"mta-sts\"");
        daemon.logged(":256:mta-sts delay=");
        let relays = rig.show(&["show", "relays"]);
        let shown = relays.contains(",mta-sts=required]");
        assert_eq!(shown, options == "mta-sts required", "{relays}");
    }
}

#[test]
fn an_exchanger_that_a_policy_in_force_does_not_name_gets_nothing() {
    let world = World::good("enforce", "*.mx.test");
    let peer = secured(&world.authority, &world.authority.vouch("mx.test"));
    let (rig, _daemon) = world.sent(&peer, "");
    let error = deferred(&rig);
    let why = "MTA-STS of mx.test: it is not among the exchangers of the policy";
    assert!(error.contains(why), "{error}");
    assert!(peer.is_empty());
    let queue = rig.queue();
    let id = field(&queue[0], fields::EVPID);
    let explained = rig.show(&["explain", id]);
    assert!(explained.contains(why), "{explained}");
}

#[test]
fn an_exchanger_that_cannot_prove_its_name_gets_nothing_while_a_policy_is_in_force() {
    let world = World::good("enforce", "mx.test");
    let (authority, stranger) = (&world.authority, Authority::new());
    let check = |peer: &Peer, cause: &str| {
        let (rig, _daemon) = world.sent(peer, "");
        let error = deferred(&rig);
        assert!(error.contains(cause), "{error} does not say {cause}");
        assert!(peer.is_empty());
        let queue = rig.queue();
        let explained = rig.show(&["explain", field(&queue[0], fields::EVPID)]);
        let mut routes = explained.lines().filter(|line| line.starts_with("route: "));
        let barred = routes.find(|line| line.contains(" more, for want of proof: "));
        let barred = barred.unwrap_or_else(|| panic!("{explained}"));
        assert!(
            barred.contains(" (mx.test) is not used by this relay for "),
            "{barred}"
        );
        assert!(barred.contains(cause), "{barred}");
    };
    let other = secured(authority, &authority.vouch("other.test"));
    check(&other, "not valid for name");
    let expired = secured(authority, &authority.vouch_in_the_past("mx.test"));
    check(&expired, "expired");
    check(
        &secured(&stranger, &stranger.vouch("mx.test")),
        "invalid peer certificate",
    );
    check(&Peer::start(Manners::clear()), "does not offer STARTTLS");
}

#[test]
fn a_policy_that_is_tried_out_hinders_nothing_and_says_what_it_would_have_hindered() {
    let world = World::good("testing", "mx.test");
    let peer = secured(&world.authority, &world.authority.vouch("other.test"));
    let (_rig, daemon) = world.sent(&peer, "");
    assert!(peer.next().secured);
    daemon.logged("host=mx.test would-fail=\"the certificate does not prove its name\"");
    daemon.logged(":256:unverified delay=");
    drop(daemon);
    let peer = Peer::start(Manners::clear());
    let (_rig, daemon) = world.sent(&peer, "");
    assert!(!peer.next().secured);
    daemon.logged("mta mta-sts mode=testing host=mx.test would-fail=\"there is no TLS\"");
    drop(daemon);
    let (rig, _daemon) = world.sent(&peer, "mta-sts required");
    let error = deferred(&rig);
    assert!(error.contains("the policy is not enforced"), "{error}");
    assert!(peer.is_empty());

    let world = World::good("testing", "elsewhere.test");
    let (_rig, daemon) = world.sent(&peer, "");
    assert!(!peer.next().secured);
    daemon.logged("would-fail=\"it is not among the exchangers of the policy\"");
}

#[test]
fn a_policy_outlives_its_announcement_its_server_and_us() {
    let world = World::good("enforce", "mx.test");
    let peer = secured(&world.authority, &world.authority.vouch("mx.test"));
    let (rig, daemon) = world.sent(&peer, "");
    assert!(peer.next().secured);
    until("the message has left", || {
        rig.queue().is_empty().then_some(())
    });
    daemon.kill();

    let silent = Dns::start(0, Publish::Signed(Vec::new()), &[]);
    let clear = Peer::start(Manners::clear());
    let daemon = world.start_with(&rig, &clear, silent.address);
    queued(&daemon, "c@far.test", "again");
    let error = deferred(&rig);
    assert!(error.contains("does not offer STARTTLS"), "{error}");
    assert!(!daemon.log().contains("mta-sts policy domain="));
    drop(daemon);
    assert!(clear.is_empty());

    // Without what was kept, nothing is known of the domain.
    std::fs::write(rig.spool().join("mta-sts.cache"), "nonsense").unwrap();
    let daemon = world.start_with(&rig, &clear, silent.address);
    daemon.logged("mta-sts.cache is ignored: ");
    rig.show(&["schedule", "all"]);
    assert!(!clear.next().secured);
}

#[test]
fn what_is_not_a_policy_is_none() {
    let text = "version: STSv1\nmode: enforce\nmx: mx.test\nmax_age: 86400\n";
    let long = text.to_owned() + &"padding: 0123456789\n".repeat(4000);
    let moved = "HTTP/1.1 301 Moved Permanently\r\n\
                 Location: https://mta-sts.far.test/.well-known/mta-sts.txt\r\n\
                 Content-Length: 0\r\n\r\n";
    let name = "mta-sts.far.test";
    for (name, answer, cause) in [
        (name, moved.to_owned(), "status 301"),
        (name, page("text/plain", &long), "larger than request limit"),
        (
            name,
            page("text/html", text),
            "not plain text but `text/html`",
        ),
        (
            name,
            page("text/plain", "mode: enforce\n"),
            "not a policy: no version",
        ),
        (name, String::new(), "error=\""),
        ("far.test", page("text/plain", text), "not valid for name"),
    ] {
        let world = World::new(Authority::new(), name, answer);
        let peer = Peer::start(Manners::clear());
        let (_rig, daemon) = world.sent(&peer, "");
        assert!(!peer.next().secured);
        let line = daemon.logged("mta-sts policy domain=far.test id=20261130 error=\"");
        assert!(line.contains(cause), "{line} does not say {cause}");
        drop(daemon);
        let (rig, _daemon) = world.sent(&peer, "mta-sts required");
        let error = deferred(&rig);
        assert!(
            error.contains("MTA-STS of far.test: no policy: "),
            "{error}"
        );
        assert!(peer.is_empty());
    }
}

#[test]
fn a_relay_that_requires_a_policy_sends_nothing_without_one_and_others_need_none() {
    let world = World::good("enforce", "elsewhere.test");
    let silent = Dns::start(0, Publish::Signed(Vec::new()), &[]);
    let authority = &world.authority;
    let peer = secured(authority, &authority.vouch("mx.test"));
    let rig = Rig::new(&super::configuration("", "mta-sts required"));
    let daemon = world.start_with(&rig, &peer, silent.address);
    queued(&daemon, "b@far.test", "required");
    let error = deferred(&rig);
    let why = "MTA-STS of far.test: no policy: none is published";
    assert!(error.contains(why), "{error}");
    assert!(peer.is_empty());
    drop(daemon);

    let (_rig, daemon) = world.sent(&peer, "mta-sts none");
    assert!(peer.next().secured);
    daemon.logged(":256:valid delay=");
}

#[test]
fn tlsa_records_go_before_policies() {
    let authority = Authority::new();
    let pair = authority.vouch("other.test");
    let peer = secured(&authority, &pair);
    let records = vec![record(CertUsage::DaneEe, &pair.spki())];
    let answer = policy("enforce", "elsewhere.test");
    let world = World::with_records(authority, "mta-sts.far.test", answer, peer.port(), records);
    let rig = Rig::new(&super::configuration("", "mta-sts required"));
    let anchors = rig.path().join("anchors");
    std::fs::write(&anchors, &world.dns.anchor).unwrap();
    let rig = rig.with(&["--trust-anchors", anchors.to_str().unwrap()]);
    let daemon = world.start(&rig, &peer);
    queued(&daemon, "b@far.test", "dane");
    assert!(peer.next().secured);
    daemon.logged(":256:dane delay=");
    until("the queue is empty", || {
        rig.queue().is_empty().then_some(())
    });
}
