//! TLS and authentication of relays, against a server with certificates of all kinds.

mod certificates;
mod dane;
mod dns;
mod peer;
mod sts;

use super::setup::{field, fields, queued};
use certificates::{Authority, Pair};
use nix::sys::signal::Signal;
use peer::{Manners, Peer};
use redspool_tools::rig::{Rig, until};
use rustls::version::{TLS12, TLS13};

/// Everything goes out by this action; these lines come first.
fn configuration(lines: &str, action: &str) -> String {
    format!(
        "{lines}listen on 127.0.0.1 port 0\naction \"out\" relay {action}\n\
         match from any for any action \"out\"\n"
    )
}

fn peer(authority: &Authority, pair: &Pair) -> Peer {
    Peer::start(Manners::starttls(authority.server(pair, &[&TLS13, &TLS12])))
}

/// Waits until the only envelope has failed for now; gives the text.
fn deferred(rig: &Rig) -> String {
    until("the attempt fails", || {
        let queue = rig.queue();
        let line = queue.first()?;
        let error = field(line, fields::ERROR);
        (!error.is_empty()).then(|| error.to_owned())
    })
}

#[test]
fn mail_goes_with_tls_where_it_is_offered() {
    let authority = Authority::new();
    // Nobody knows the authority, and the name is another one: that is no hindrance.
    let peer = peer(&authority, &authority.vouch("other.example"));
    let url = format!("host smtp://127.0.0.1:{}", peer.port());
    let rig = Rig::new(&configuration("", &url));
    let daemon = rig.start();
    queued(&daemon, "b@far.example", "opportunistic");
    let arrival = peer.next();
    assert!(arrival.secured && arrival.content.contains("opportunistic"));
    assert!(!arrival.certified);
    let tls = "TLSv1.3:TLS_AES_256_GCM_SHA384:256";
    daemon.logged(&format!("mta tls ciphers={tls}"));
    daemon.logged("mta cert-check result=\"unverified\"");
    daemon.logged(&format!(" tls={tls}:unverified delay="));
    let routes = rig.show(&["--json", "show", "routes"]);
    assert!(
        routes.contains(&format!("\"tls\":\"{tls}:unverified\"")),
        "{routes}"
    );
}

#[test]
fn mail_goes_in_clear_text_where_there_is_no_tls() {
    let peer = Peer::start(Manners::clear());
    let url = format!("host smtp://127.0.0.1:{}", peer.port());
    let rig = Rig::new(&configuration("", &url));
    let daemon = rig.start();
    queued(&daemon, "b@far.example", "clear");
    assert!(!peer.next().secured);
    daemon.logged(" tls=- delay=");
}

#[test]
fn a_handshake_that_fails_is_no_hindrance_where_tls_is_a_courtesy() {
    let manners = Manners {
        broken: true,
        ..Manners::clear()
    };
    let peer = Peer::start(manners);
    let url = format!("host smtp://127.0.0.1:{}", peer.port());
    let rig = Rig::new(&configuration("", &url));
    let daemon = rig.start();
    queued(&daemon, "b@far.example", "broken");
    assert!(!peer.next().secured);
    daemon.logged("mta tls failed reason=");
}

#[test]
fn a_relay_that_verifies_trusts_the_authorities_it_was_told() {
    let authority = Authority::new();
    let peer = peer(&authority, &authority.vouch("127.0.0.1"));
    let action = format!("host smtp+tls://127.0.0.1:{} ca private", peer.port());
    let rig = Rig::new(&configuration(&authority.line(), &action));
    let daemon = rig.start();
    queued(&daemon, "b@far.example", "verified");
    assert!(peer.next().secured);
    daemon.logged("mta cert-check result=\"valid\"");
    daemon.logged(":256:valid delay=");
    let relays = rig.show(&["show", "relays"]);
    assert!(relays.contains(",smtp+tls,mx,ca=private]"), "{relays}");
}

#[test]
fn explain_tells_of_every_attempt_over_what_it_went_also_after_a_crash() {
    let authority = Authority::new();
    let manners = Manners::starttls(authority.server(&authority.vouch("other.example"), &[&TLS13]));
    let peer = Peer::start(Manners {
        rcpt: "451 4.2.0 Later",
        ..manners
    });
    let url = format!("host smtp://127.0.0.1:{}", peer.port());
    let rig = Rig::new(&configuration("", &url));
    let daemon = rig.start();
    let id = queued(&daemon, "b@far.example", "refused");
    let error = deferred(&rig);
    let evpid = field(&rig.queue()[0], fields::EVPID).to_owned();
    rig.show(&["resume", "route", "1"]);
    rig.show(&["schedule", &id]);
    until("the second attempt fails", || {
        (field(&rig.queue()[0], fields::ATTEMPTS) == "2").then_some(())
    });
    let way = " ago 127.0.0.1 <-> 127.0.0.1 (127.0.0.1) \
        TLSv1.3:TLS_AES_256_GCM_SHA384:256:unverified: ";
    let explained = || {
        let text = rig.show(&["explain", &evpid]);
        let attempts = text.lines().filter(|line| line.starts_with("attempt: "));
        let attempts: Vec<_> = attempts.collect();
        assert_eq!(attempts.len(), 2, "{text}");
        for attempt in attempts {
            assert!(attempt.ends_with(&format!("{way}{error}")), "{attempt}");
        }
        text
    };
    explained();
    let json = || {
        let text = rig.show(&["--json", "explain", &evpid]);
        let (_, attempts) = text.split_once("\"attempts\":").expect("they are told");
        (text.clone(), attempts.to_owned())
    };
    let (_, kept) = json();
    daemon.kill();
    let text = explained();
    for line in [
        "\nwhy: smtpd does not answer; its next attempt is due in ",
        "\nstate: offline, due in ",
        &format!("\nrelay: [relay:127.0.0.1,port={},smtp,mx]\n", peer.port()),
        "\nroutes: known to a running smtpd alone, as are limits\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let (text, attempts) = json();
    assert_eq!(attempts, kept);
    assert!(text.contains("\"place\":\"offline\""), "{text}");
    let _daemon = rig.start();
    explained();
    assert_eq!(json().1, kept);
}

/// What a relay that verifies says about a server with this certificate.
fn refused(authority: &Authority, pair: &Pair, words: &str) -> String {
    let peer = peer(authority, pair);
    let action = format!("host smtp://127.0.0.1:{} tls {words}", peer.port());
    let rig = Rig::new(&configuration(&authority.line(), &action));
    let daemon = rig.start();
    queued(&daemon, "b@far.example", "refused");
    let error = deferred(&rig);
    assert!(peer.is_empty(), "a message went out all the same");
    drop(daemon);
    error
}

#[test]
fn a_relay_that_verifies_keeps_its_mail_from_hosts_that_cannot_prove_who_they_are() {
    let authority = Authority::new();
    let check = |pair: &Pair, words: &str, cause: &str| {
        let error = refused(&authority, pair, words);
        assert!(error.contains("TLS handshake failed"), "{error}");
        assert!(error.contains(cause), "{error} does not say {cause}");
    };
    let good = authority.vouch("127.0.0.1");
    check(&good, "", "UnknownIssuer");
    let expired = authority.vouch_in_the_past("127.0.0.1");
    check(&expired, "ca private", "expired");
    let other = authority.vouch("other.example");
    check(&other, "ca private", "not valid for name");
}

#[test]
fn a_relay_that_does_not_verify_takes_any_certificate() {
    let authority = Authority::new();
    let peer = peer(&authority, &authority.vouch_in_the_past("other.example"));
    let action = format!("host smtp+tls://127.0.0.1:{} tls no-verify", peer.port());
    let rig = Rig::new(&configuration("", &action));
    let daemon = rig.start();
    queued(&daemon, "b@far.example", "any");
    assert!(peer.next().secured);
    let relays = rig.show(&["show", "relays"]);
    assert!(relays.contains(",smtp+tls,mx,tls=no-verify]"), "{relays}");
}

#[test]
fn no_mail_goes_without_tls_where_it_is_required() {
    let peer = Peer::start(Manners::clear());
    let action = format!("host smtp://127.0.0.1:{} tls no-verify", peer.port());
    let rig = Rig::new(&configuration("", &action));
    let daemon = rig.start();
    queued(&daemon, "b@far.example", "required");
    let error = deferred(&rig);
    assert!(error.contains("does not offer STARTTLS"), "{error}");
    assert!(peer.is_empty());
    drop(daemon);
    let broken = Manners {
        broken: true,
        ..Manners::clear()
    };
    let peer = Peer::start(broken);
    let action = format!("host smtp://127.0.0.1:{} tls no-verify", peer.port());
    let rig = Rig::new(&configuration("", &action));
    let daemon = rig.start();
    queued(&daemon, "b@far.example", "required");
    let error = deferred(&rig);
    assert!(error.contains("TLS handshake failed"), "{error}");
    assert!(peer.is_empty());
    drop(daemon);
}

#[test]
fn smtps_has_tls_from_the_first_octet_and_shows_our_certificate() {
    let authority = Authority::new();
    let server = authority.server(&authority.vouch("127.0.0.1"), &[&TLS12]);
    let manners = Manners {
        immediate: true,
        ..Manners::starttls(server)
    };
    let peer = Peer::start(manners);
    let lines = authority.line() + &authority.pki("us.example", &authority.vouch("us.example"));
    let action = format!(
        "host smtps://127.0.0.1:{} ca private pki us.example \
         ciphers \"ECDHE-ECDSA-CHACHA20-POLY1305\" protocols \"tlsv1.2\"",
        peer.port()
    );
    let rig = Rig::new(&configuration(&lines, &action));
    let daemon = rig.start();
    queued(&daemon, "b@far.example", "immediate");
    let arrival = peer.next();
    assert!(arrival.secured && arrival.certified, "{arrival:?}");
    assert_eq!(arrival.asked, None, "an address is no name to ask for");
    daemon.logged(" tls=TLSv1.2:ECDHE-ECDSA-CHACHA20-POLY1305:256:valid delay=");
    daemon.logged(&format!(
        "mta connecting address=smtps://127.0.0.1:{}",
        peer.port()
    ));
}

#[test]
fn the_name_of_the_host_is_asked_for() {
    let authority = Authority::new();
    let peer = peer(&authority, &authority.vouch("localhost"));
    let action = format!("host smtp+tls://localhost:{} ca private", peer.port());
    let rig = Rig::new(&configuration(&authority.line(), &action));
    let daemon = rig.start();
    queued(&daemon, "b@far.example", "named");
    assert_eq!(peer.next().asked.as_deref(), Some("localhost"));
    drop(daemon);
}

#[test]
fn what_is_injected_before_the_handshake_does_not_count() {
    let authority = Authority::new();
    let server = authority.server(&authority.vouch("127.0.0.1"), &[&TLS13]);
    let manners = Manners {
        injected: "\r\n250-peer.example\r\n250 AUTH PLAIN\r\n235 Welcome\r\n250 Ok",
        ..Manners::starttls(server)
    };
    let peer = Peer::start(manners);
    let action = format!("host smtp+tls://127.0.0.1:{} ca private", peer.port());
    let rig = Rig::new(&configuration(&authority.line(), &action));
    let daemon = rig.start();
    queued(&daemon, "b@far.example", "injected");
    assert!(peer.next().secured);
    drop(daemon);
}

/// A relay with credentials to a server that offers these mechanisms; its trace is on.
fn authenticating(auth: &'static str, verdict: &'static str) -> (Authority, Peer, Rig) {
    let authority = Authority::new();
    let server = authority.server(&authority.vouch("127.0.0.1"), &[&TLS13, &TLS12]);
    let manners = Manners {
        auth,
        verdict,
        ..Manners::starttls(server)
    };
    let peer = Peer::start(manners);
    let secrets = authority.file("secrets", "lbl me@us.example:correct horse\n", 0o600);
    let lines = format!(
        "{}table secrets file:{}\n",
        authority.line(),
        secrets.display()
    );
    let action = format!(
        "host smtp+tls://lbl@127.0.0.1:{} auth <secrets> ca private",
        peer.port()
    );
    let rig = Rig::new(&configuration(&lines, &action)).with(&["-T", "mta"]);
    (authority, peer, rig)
}

/// `correct horse`, and what PLAIN and LOGIN make of it.
const SECRETS: [&str; 3] = [
    "correct horse",
    "AG1lQHVzLmV4YW1wbGUAY29ycmVjdCBob3JzZQ==",
    "Y29ycmVjdCBob3JzZQ==",
];

#[test]
fn a_relay_with_a_label_authenticates_and_tells_nobody_how() {
    for (auth, said) in [
        ("LOGIN PLAIN", vec![format!("AUTH PLAIN {}", SECRETS[1])]),
        (
            "LOGIN",
            vec![
                "AUTH LOGIN".to_owned(),
                "bWVAdXMuZXhhbXBsZQ==".to_owned(),
                SECRETS[2].to_owned(),
            ],
        ),
    ] {
        let (_authority, peer, rig) = authenticating(auth, "235 2.7.0 Welcome");
        let daemon = rig.start();
        rig.show(&["pause", "mta"]);
        let id = queued(&daemon, "b@far.example", "authenticated");
        let evpid = field(&rig.queue()[0], fields::EVPID).to_owned();
        let shown = rig.show(&["show", "envelope", &evpid])
            + &rig.show(&["explain", &evpid])
            + &rig.show(&["--json", "show", "envelope", &evpid]);
        assert!(shown.contains("smtp+tls://lbl@127.0.0.1:"), "{shown}");
        assert!(shown.contains("mta-relay-auth: secrets"), "{shown}");
        rig.show(&["resume", "mta"]);
        assert_eq!(peer.next().auth, said);
        let relays = rig.show(&["show", "relays"]);
        assert!(
            relays.contains(",smtp+tls,auth=secrets:lbl,mx,ca=private]"),
            "{relays}"
        );
        daemon.logged(&id);
        daemon.logged("<hidden>");
        let all = daemon.log() + &shown + &relays;
        for secret in SECRETS {
            assert!(!all.contains(secret), "{secret} is shown:\n{all}");
        }
        let stored = std::process::Command::new("grep")
            .args(["-r", "-c", "-a", "-F", SECRETS[0]])
            .arg(rig.spool())
            .output()
            .unwrap();
        let stored = String::from_utf8(stored.stdout).unwrap();
        assert!(stored.lines().all(|line| line.ends_with(":0")), "{stored}");
    }
}

#[test]
fn refused_credentials_delay_mail_and_say_why() {
    let (_authority, peer, rig) = authenticating("PLAIN", "535 5.7.8 No such user");
    let daemon = rig.start();
    queued(&daemon, "b@far.example", "refused");
    let error = deferred(&rig);
    assert_eq!(error, "535 5.7.8 No such user");
    assert!(peer.is_empty());
    let routes = rig.show(&["show", "routes"]);
    assert!(routes.contains("penalty=1"), "{routes}");
    drop(daemon);
}

#[test]
fn credentials_that_are_gone_delay_mail_and_say_so() {
    let (authority, peer, rig) = authenticating("PLAIN", "235 2.7.0 Welcome");
    let daemon = rig.start();
    let secrets = |text: &str, times: usize| {
        authority.file("secrets", text, 0o600);
        daemon.signal(Signal::SIGHUP);
        until("the configuration is read again", || {
            let log = daemon.log();
            (log.matches("configuration reloaded").count() == times).then_some(())
        });
    };
    secrets("other me:word\n", 1);
    let id = queued(&daemon, "b@far.example", "gone");
    let error = deferred(&rig);
    assert_eq!(error, "no credentials for `lbl` in the table `secrets`");
    assert!(peer.is_empty());
    secrets("lbl me@us.example:correct horse\n", 2);
    let routes = rig.show(&["show", "routes"]);
    let (route, _) = routes.split_once('.').unwrap();
    rig.show(&["resume", "route", route]);
    rig.show(&["schedule", &id]);
    assert!(peer.next().secured);
}
