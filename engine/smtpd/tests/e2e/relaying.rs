//! Relays, routes and hosts as smtpctl shows and steers them, and where connections come from.

use super::setup::{configuration, message, queued, send, started};
use redspool_tools::rig::{Answer, Rig, Sink, Stage, until};
use std::net::TcpListener;
use std::time::Duration;

/// A configuration that relays everything with these words.
fn relaying(words: &str) -> String {
    format!(
        "listen on 127.0.0.1 port 0\naction \"out\" relay {words}\n\
         match from any for any action \"out\"\n"
    )
}

/// A smart host that refuses connections, as a relay URL.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("smtp://{}", listener.local_addr().unwrap())
}

/// The number of the only route.
fn route(rig: &Rig) -> String {
    let routes = rig.show(&["show", "routes"]);
    let (number, _) = routes.split_once('.').expect("a route has a number");
    number.to_owned()
}

#[test]
fn a_connection_shows_as_relay_route_and_host() {
    let (sink, rig, daemon) = started();
    queued(&daemon, "b@Far.example", "shown");
    sink.next();
    let port = sink.address().port();
    let relays = until("the session is idle", || {
        let relays = rig.show(&["show", "relays"]);
        relays.contains("ntask=0 nconn=1").then_some(relays)
    });
    let start =
        format!("[relay:127.0.0.1,port={port},smtp,mx] refcount=1 ntask=0 nconn=1 lastconn=");
    assert!(relays.starts_with(&start), "{relays}");
    assert!(
        relays.contains("\n  connector [] refcount=1 nconn=1 lastconn="),
        "{relays}"
    );
    let routes = rig.show(&["show", "routes"]);
    assert_eq!(
        routes,
        "1. [] <-> 127.0.0.1 (127.0.0.1) ---- nconn=1 nerror=0 penalty=0 timeout=-\n"
    );
    let hosts = rig.show(&["show", "hosts"]);
    assert!(
        hosts.starts_with("127.0.0.1 127.0.0.1 refcount=2 nconn=1 lastconn="),
        "{hosts}"
    );
    let stats = until("the domain has said something", || {
        let stats = rig.show(&["show", "hoststats"]);
        (!stats.is_empty()).then_some(stats)
    });
    assert!(stats.starts_with("far.example|"), "{stats}");
    assert!(stats.ends_with("|250 2.0.0 Kept\n"), "{stats}");
    for (words, key) in [
        ("relays", "\"connectors\":[{"),
        ("routes", "\"port\":"),
        ("hosts", "\"refcount\":2"),
        ("hoststats", "\"text\":\"250 2.0.0 Kept\""),
    ] {
        let json = rig.show(&["--json", "show", words]);
        assert!(json.starts_with('{') && json.contains(key), "{json}");
    }
}

#[test]
fn a_disabled_route_is_resumed_by_its_number() {
    let rig = Rig::new(&relaying(&format!("host {}", nobody())));
    let daemon = rig.start();
    queued(&daemon, "b@far.example", "one");
    let routes = until("the route is disabled", || {
        let routes = rig.show(&["show", "routes"]);
        routes.contains(" ND-- ").then_some(routes)
    });
    assert!(routes.contains("penalty=1 timeout=1"), "{routes}");
    let relays = rig.show(&["show", "relays"]);
    assert!(relays.contains("flags=ERROR_ROUTE_NET"), "{relays}");
    let number = route(&rig);
    let resumed = rig.show(&["resume", "route", &number]);
    assert_eq!(resumed, "command succeeded\n");
    assert!(!rig.show(&["show", "routes"]).contains('D'));

    let output = rig.smtpctl(&["resume", "route", "4711"]);
    assert_eq!(output.status, Some(1));
    assert_eq!(output.stdout, "command failed\n");
    assert!(output.stderr.contains("no such route: 4711"), "{output:?}");
}

#[test]
fn a_host_that_turns_mail_away_is_left_alone() {
    let (sink, rig, daemon) = started();
    sink.answer(Stage::Mail, Answer::Reply("451 4.3.2 Not now"));
    queued(&daemon, "b@far.example", "one");
    let routes = until("the route is disabled", || {
        let routes = rig.show(&["show", "routes"]);
        routes.contains("D--").then_some(routes)
    });
    assert!(routes.contains("penalty=1"), "{routes}");
    let before = sink.connections();
    queued(&daemon, "c@far.example", "two");
    until("the second waits with the cause of the first", || {
        let queue = rig.queue();
        let told = |line: &&String| line.ends_with("451 4.3.2 Not now");
        (queue.iter().filter(told).count() == 2).then_some(())
    });
    assert_eq!(sink.connections(), before, "nobody asked again");
}

#[test]
fn a_source_and_a_domain_can_be_kept_apart() {
    let sink = Sink::start();
    let words = format!("host {} src 127.0.0.1", sink.url());
    let rig = Rig::new(&relaying(&words));
    let daemon = rig.start();
    let pause = ["pause", "mta", "from", "127.0.0.1", "for", "127.0.0.1"];
    assert_eq!(rig.show(&pause), "command succeeded\n");
    assert_eq!(
        rig.show(&["show", "mta", "paused"]),
        "127.0.0.1 -> 127.0.0.1\n"
    );
    assert_eq!(rig.smtpctl(&pause).status, Some(1), "it is paused already");
    let id = queued(&daemon, "b@far.example", "kept back");
    until("the attempt failed", || {
        let queue = rig.queue();
        queue[0]
            .ends_with("|All routes to destination blocked")
            .then_some(())
    });
    let resume = ["resume", "mta", "from", "127.0.0.1", "for", "127.0.0.1"];
    assert_eq!(rig.show(&resume), "command succeeded\n");
    assert_eq!(rig.show(&["show", "mta", "paused"]), "");
    assert_eq!(rig.smtpctl(&resume).status, Some(1), "it is not paused");
    rig.show(&["schedule", &id]);
    sink.next();
}

#[test]
fn what_is_kept_apart_stays_so_over_kills_and_restarts() {
    let sink = Sink::start();
    let words = format!("host {} src 127.0.0.1", sink.url());
    let rig = Rig::new(&relaying(&words));
    let daemon = rig.start();
    for (source, domain) in [("127.0.0.1", "127.0.0.1"), ("::1", "Far.example")] {
        rig.show(&["pause", "mta", "from", source, "for", domain]);
    }
    let paused = "127.0.0.1 -> 127.0.0.1\n[::1] -> far.example\n";
    let check = |when: &str| assert_eq!(rig.show(&["show", "mta", "paused"]), paused, "{when}");
    check("running");
    daemon.kill();
    check("killed");
    let daemon = rig.start();
    check("running again");
    queued(&daemon, "b@far.example", "kept back");
    until("the attempt failed", || {
        let queue = rig.queue();
        queue[0]
            .ends_with("|All routes to destination blocked")
            .then_some(())
    });
    assert!(daemon.stop().success());
    check("stopped");
    let daemon = rig.start();
    check("running for the third time");
    for (source, domain) in [("127.0.0.1", "127.0.0.1"), ("::1", "far.example")] {
        rig.show(&["resume", "mta", "from", source, "for", domain]);
    }
    daemon.kill();
    let _daemon = rig.start();
    assert_eq!(rig.show(&["show", "mta", "paused"]), "", "resumed for good");
    rig.show(&["schedule", "all"]);
    sink.next();
}

#[test]
fn connections_come_from_the_sources_and_say_their_names() {
    let sink = Sink::start();
    let rig = Rig::new(&format!(
        "table sources {{ 127.0.0.2, 127.0.0.3 }}\n\
         table names {{ 127.0.0.2 = two.example.org, 127.0.0.3 = three.example.org }}\n{}",
        relaying(&format!(
            "host {} src <sources> helo-src <names>",
            sink.url()
        ))
    ));
    let daemon = rig.start();
    sink.answer(Stage::Dot, Answer::After(Duration::from_secs(2)));
    for subject in ["one", "two"] {
        queued(&daemon, "b@far.example", subject);
    }
    let mut seen = Vec::new();
    for _ in 0..2 {
        let delivery = sink.next();
        seen.push((delivery.client.ip().to_string(), delivery.hello));
    }
    seen.sort();
    assert_eq!(
        seen,
        [
            ("127.0.0.2".to_owned(), "two.example.org".to_owned()),
            ("127.0.0.3".to_owned(), "three.example.org".to_owned()),
        ]
    );
    let relays = rig.show(&["show", "relays"]);
    assert!(
        relays.contains(",sourcetable=sources,helotable=names]"),
        "{relays}"
    );
    for source in ["127.0.0.2", "127.0.0.3"] {
        assert!(
            relays.contains(&format!("  connector {source} ")),
            "{relays}"
        );
    }
}

#[test]
fn a_source_table_that_is_gone_defers_mail_and_says_so() {
    let sink = Sink::start();
    let with = format!(
        "table sources {{ 127.0.0.2 }}\n{}",
        relaying(&format!("host {} src <sources>", sink.url()))
    );
    let rig = Rig::new(&with);
    let daemon = rig.start();
    rig.show(&["pause", "mta"]);
    queued(&daemon, "b@far.example", "stranded");
    daemon.kill();
    rig.configure(&configuration(&sink));
    let daemon = rig.start();
    rig.show(&["resume", "mta"]);
    until("the attempt failed for now", || {
        let queue = rig.queue();
        queue[0]
            .ends_with("|No source address: the table sources is not there or is empty")
            .then_some(())
    });
    daemon.kill();
    rig.configure(&with);
    let daemon = rig.start();
    rig.show(&["schedule", "all"]);
    assert_eq!(sink.next().client.ip().to_string(), "127.0.0.2");
    assert_eq!(send(&daemon, "c@far.example", &message("next")).code, 250);
}

#[test]
fn explain_says_why_an_envelope_does_not_move() {
    let rig = Rig::new(&relaying(&format!("host {}", nobody())));
    let daemon = rig.start();
    rig.show(&["pause", "mta"]);
    queued(&daemon, "b@far.example", "one");
    let evpid = rig.queue()[0].split('|').next().unwrap().to_owned();
    let explain = || rig.show(&["explain", &evpid]);
    let paused = explain();
    assert!(
        paused.starts_with(&format!(
            "envelope {evpid}\nwhy: mta is paused; smtpctl resume mta lets it go\n"
        )),
        "{paused}"
    );
    rig.show(&["resume", "mta"]);
    let down = until("the route is down", || {
        let text = explain();
        text.contains("all routes to its destination are disabled")
            .then_some(text)
    });
    for wanted in [
        "\nroute: ",
        "attempts: 1 failed for now",
        " ago without a connection: Network error: ",
        "Connection refused",
        "penalty 1",
        "flags=ERROR_ROUTE_NET",
    ] {
        assert!(down.contains(wanted), "{wanted} in {down}");
    }
    assert!(down.lines().count() < 24, "it fits a screen: {down}");
    let json = rig.show(&["--json", "explain", &evpid]);
    assert!(json.contains("\"place\":\"schedule\""), "{json}");
    let output = rig.smtpctl(&["explain", "1122334455667788"]);
    assert_eq!(output.status, Some(1));
    assert!(output.stderr.contains("no such envelope"), "{output:?}");
}

#[test]
fn a_delivery_is_logged_with_the_addresses_it_went_between() {
    let sink = Sink::start();
    let dead = nobody();
    let rig = Rig::new(&format!(
        "listen on 127.0.0.1 port 0\n\
         action \"plain\" relay host {url}\n\
         action \"from\" relay host {url} src 127.0.0.2\n\
         action \"dead\" relay host {dead}\n\
         match from any for domain \"plain.example\" action \"plain\"\n\
         match from any for domain \"from.example\" action \"from\"\n\
         match from any for any action \"dead\"\n",
        url = sink.url()
    ));
    let daemon = rig.start();
    for (domain, way) in [
        // Nobody said which address to use: it is the one the system chose.
        (
            "plain.example",
            "source=\"127.0.0.1\" relay=\"127.0.0.1 (127.0.0.1)\" tls=-",
        ),
        (
            "from.example",
            "source=\"127.0.0.2\" relay=\"127.0.0.1 (127.0.0.1)\" tls=-",
        ),
        // It did not come to a connection.
        ("dead.example", "source=\"-\" relay=\"127.0.0.1\" tls=-"),
    ] {
        queued(&daemon, &format!("b@{domain}"), domain);
        let line = daemon.logged(&format!("to=<b@{domain}> rcpt=<-> source="));
        assert!(line.contains(" mta delivery evpid="), "{line}");
        assert!(line.contains(&format!(" {way} delay=")), "{line}");
    }
}
