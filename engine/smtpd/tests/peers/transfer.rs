//! Mail to and from Postfix, Exim and OpenSMTPD, in clear text and with TLS: the content is the same.

use super::secured::certify;
use super::servers::{Next, Server};
use super::{drained, mailbox};
use redspool_tools::rig::{Daemon, Dialog, Rig, Sink, until};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// Ways to relay, by the domain that takes them.
const WAYS: [&str; 5] = ["clear", "maybe", "verified", "immediate", "unverified"];

fn relaying(server: &Server) -> (Rig, Daemon) {
    let (address, second) = (server.address, server.second);
    let urls = [
        format!("smtp+notls://{address}"),
        format!("smtp://{address}"),
        format!("smtp+tls://{address} ca private"),
        format!("smtps://{second} ca private"),
        format!("smtp://{address} tls no-verify"),
    ];
    let mut text = format!(
        "ca private cert \"{}\"\n\
         table users {{ alice = \"@UID@:@GID@:@DIR@\" }}\n\
         listen on 127.0.0.1 port 0\n\
         action \"in\" maildir \"@DIR@/mail/%{{user.username}}\" userbase <users>\n\
         match from any for domain \"local.example\" action \"in\"\n",
        server.authority().display()
    );
    for (way, url) in WAYS.iter().zip(urls) {
        let domain = format!("{way}.example");
        let _ = write!(
            text,
            "action \"{way}\" relay host {url}\n\
             match from any for domain \"{domain}\" action \"{way}\"\n"
        );
    }
    let _ = write!(
        text,
        "action \"far\" relay host smtp://{address}\n\
         match from any for any action \"far\"\n"
    );
    let rig = Rig::new(&text);
    let daemon = rig.start();
    (rig, daemon)
}

/// What is easily altered on the way: octets above 127, dots, blanks, the longest lawful line.
pub(super) fn awkward() -> Vec<u8> {
    let mut content = b"From: a@us.example\r\nDate: Sun, 29 Nov 2026 12:00:00 +0000\r\n\
        Message-ID: <1@us.example>\r\nSubject: awkward\r\n\r\n"
        .to_vec();
    content.extend_from_slice(b".\r\n..\r\n.dot\r\n\r\n \t \r\nFrom here\r\n\r\n");
    content.extend(0x80..=0xff_u8);
    content.extend_from_slice(b"\r\n");
    content.extend(std::iter::repeat_n(b'x', 998));
    content.extend_from_slice(b"\r\n.");
    content.extend(std::iter::repeat_n(b'.', 997));
    content.extend_from_slice(b"\r\nend\r\n");
    content
}

/// Awkward content that is repeated until it is this long.
pub(super) fn large(octets: usize) -> Vec<u8> {
    let mut content = awkward();
    while content.len() < octets {
        let number = content.len();
        content.extend_from_slice(format!("{number} ").as_bytes());
        content.extend_from_slice(b"lorem ipsum\r\n.\r\n\xe9\xff\r\n");
    }
    content
}

/// Content as a Maildir has it.
fn unix(content: &[u8]) -> Vec<u8> {
    let pairs = content.split(|octet| *octet == b'\r');
    pairs.collect::<Vec<_>>().concat()
}

pub(super) fn send(server: SocketAddr, rcpts: &[&str], content: &[u8]) {
    let mut dialog = Dialog::hello(server).unwrap();
    let reply = dialog.submit("alice@local.example", rcpts, content);
    let reply = reply.unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
}

/// Panics unless this ends in the content, headers of the way before it.
pub(super) fn same(message: &[u8], content: &[u8]) {
    let (message, content) = (unix(message), unix(content));
    assert!(
        message.ends_with(&content),
        "{} of {} octets:\n{}",
        message.len(),
        content.len(),
        String::from_utf8_lossy(message.get(..1500.min(message.len())).unwrap())
    );
}

fn unaltered(server: &Server, ways: &[&str]) {
    let (rig, daemon) = relaying(server);
    let contents = [awkward(), large(300_000)];
    let mut expected = 0;
    for content in &contents {
        for way in ways {
            send(
                daemon.address(),
                &[&format!("{way}@{way}.example")],
                content,
            );
            expected += 1;
        }
    }
    drained(&rig);
    let kept = server.kept.wait(expected);
    assert_eq!(kept.len(), expected);
    for message in kept {
        let content = &contents[usize::from(message.len() > 100_000)];
        same(&message, content);
        let head = String::from_utf8_lossy(&message[..1000]).into_owned();
        // The topmost Received is the peer's.
        let received = head.split("Received: ").nth(1).unwrap();
        let secured = received.contains("ESMTPS") || received.contains("TLS");
        assert_eq!(secured, !head.contains("clear@clear.example"), "{head}");
    }
    if ways.len() > 1 {
        daemon.logged("mta tls ciphers=TLSv1.3:TLS_");
        daemon.logged("mta cert-check result=\"valid\"");
        daemon.logged("tls=TLSv1.3:TLS_");
    }
}

fn several_recipients_one_refused(server: &Server) {
    let (rig, daemon) = relaying(server);
    let alice = mailbox(&rig, "alice");
    let rcpts = ["one@far.example", "bob@far.example", "two@far.example"];
    send(daemon.address(), &rcpts, &awkward());
    assert_eq!(server.kept.wait(2).len(), 2);
    let messages = alice.wait(1);
    let report = String::from_utf8_lossy(&messages[0]);
    assert!(
        report.contains("Final-Recipient: rfc822; bob@far.example"),
        "{report}"
    );
    assert!(!report.contains("one@far.example"), "{report}");
    drained(&rig);
    assert_eq!(server.kept.messages().len(), 2);
}

#[test]
fn content_reaches_exim_unaltered() {
    if let Some(server) = Server::exim(None) {
        unaltered(&server, &WAYS);
        // It marks what has come by BDAT.
        server.logged(&[" <= ", " K "], 2 * WAYS.len());
    }
}

#[test]
fn content_reaches_postfix_unaltered() {
    if let Some(server) = Server::postfix(None) {
        unaltered(&server, &WAYS);
        server.logged(&["disconnect from", " bdat="], 1);
    }
}

#[test]
fn content_reaches_postfix_with_tls_and_a_password_unaltered() {
    let Some(server) = Server::postfix(None) else {
        return;
    };
    let relaying = |password: &str| {
        let rig = Rig::new(&format!(
            "ca private cert \"{}\"\n\
             table secrets {{ lbl = \"me@peer.example:{password}\" }}\n\
             listen on 127.0.0.1 port 0\n\
             action \"out\" relay host smtp+tls://lbl@{} ca private auth <secrets>\n\
             match from any for any action \"out\"\n",
            server.authority().display(),
            server.third,
        ));
        let daemon = rig.start();
        (rig, daemon)
    };
    let (rig, daemon) = relaying("correct horse");
    let content = large(300_000);
    send(daemon.address(), &["r@far.example"], &content);
    drained(&rig);
    let [message] = &server.kept.wait(1)[..] else {
        panic!("one message was expected");
    };
    same(message, &content);
    server.logged(&["client=", "sasl_username=me@peer.example"], 1);
    let (rig, daemon) = relaying("wrong horse");
    send(daemon.address(), &["r@far.example"], &content);
    until("the attempt fails", || {
        let queue = rig.queue();
        queue.first()?.contains("|535 5.7.8 ").then_some(())
    });
}

#[test]
fn content_reaches_opensmtpd_unaltered() {
    if let Some(server) = Server::opensmtpd(None) {
        unaltered(&server, &WAYS[..1]);
    }
}

#[test]
fn failing_handshakes_of_opensmtpd_delay_mail_only_where_tls_is_needed() {
    let Some(server) = Server::opensmtpd(None) else {
        return;
    };
    let second = server.second;
    let rig = Rig::new(&format!(
        "ca private cert \"{}\"\n\
         listen on 127.0.0.1 port 0\n\
         action \"maybe\" relay host smtp://{second}\n\
         action \"needed\" relay host smtp+tls://{second} ca private\n\
         match from any for domain \"needed.example\" action \"needed\"\n\
         match from any for any action \"maybe\"\n",
        server.authority().display()
    ));
    let daemon = rig.start();
    send(daemon.address(), &["r@far.example"], &awkward());
    let [message] = &server.kept.wait(1)[..] else {
        panic!("one message was expected");
    };
    same(message, &awkward());
    daemon.logged("mta tls failed reason=");
    drained(&rig);
    send(daemon.address(), &["r@needed.example"], &awkward());
    until("the attempt fails", || {
        let queue = rig.queue();
        queue
            .first()?
            .contains("TLS handshake failed")
            .then_some(())
    });
    assert_eq!(server.kept.messages().len(), 1);
}

#[test]
fn exim_refuses_one_recipient_of_several() {
    if let Some(server) = Server::exim(None) {
        several_recipients_one_refused(&server);
    }
}

#[test]
fn postfix_refuses_one_recipient_of_several() {
    if let Some(server) = Server::postfix(None) {
        several_recipients_one_refused(&server);
    }
}

#[test]
fn opensmtpd_refuses_one_recipient_of_several() {
    if let Some(server) = Server::opensmtpd(None) {
        several_recipients_one_refused(&server);
    }
}

#[test]
fn mail_that_exim_puts_off_is_delivered_later() {
    let Some(server) = Server::exim(None) else {
        return;
    };
    let (rig, daemon) = relaying(&server);
    let rcpts = ["one@far.example", "carol@far.example"];
    send(daemon.address(), &rcpts, &awkward());
    assert_eq!(server.kept.wait(1).len(), 1);
    until("carol has been put off", || {
        let mut queue = rig.queue();
        let line = queue.pop()?;
        (queue.is_empty() && line.contains("4.7.1 greylisted")).then_some(())
    });
    server.open();
    rig.show(&["schedule", "all"]);
    let kept = server.kept.wait(2);
    for message in &kept {
        same(message, &awkward());
    }
    drained(&rig);
    assert_eq!(server.kept.messages().len(), 2);
}

/// Mail that another server relays to us, and we to a sink.
fn unaltered_on_the_way_here(
    start: fn(Option<&Next>) -> Option<Server>,
    tls: bool,
) -> Option<Server> {
    let sink = Sink::start();
    let listen = if tls {
        "tls-require pki peer.example"
    } else {
        ""
    };
    let rig = Rig::new(&format!(
        "pki peer.example cert \"@DIR@/server.crt\" key \"@DIR@/server.key\"\n\
         listen on 127.0.0.1 port 0 {listen}\n\
         action \"out\" relay host {}\n\
         match from any for any action \"out\"\n",
        sink.url()
    ));
    certify(rig.path());
    let daemon = rig.start();
    let authority = rig.path().join("ca.pem");
    let next = Next {
        address: daemon.address(),
        authority: tls.then_some(&authority),
    };
    let server = start(Some(&next))?;
    for content in [awkward(), large(300_000)] {
        send(server.address, &["r@next.example"], &content);
        let delivery = sink.next();
        assert_eq!(delivery.rcpts, ["r@next.example"]);
        assert!(delivery.content.ends_with(&content));
    }
    if tls {
        daemon.logged("smtp tls ciphers=TLSv1.3:TLS_");
    }
    drained(&rig);
    Some(server)
}

#[test]
fn content_comes_from_exim_unaltered() {
    if let Some(server) = unaltered_on_the_way_here(Server::exim, false) {
        // It marks what it has sent by BDAT.
        server.logged(&[" => ", " K "], 2);
    }
}

#[test]
fn content_comes_from_opensmtpd_unaltered() {
    unaltered_on_the_way_here(Server::opensmtpd, false);
}

#[test]
fn content_comes_from_opensmtpd_with_tls_unaltered() {
    unaltered_on_the_way_here(Server::opensmtpd, true);
}

#[test]
fn content_comes_from_postfix_unaltered() {
    unaltered_on_the_way_here(Server::postfix, false);
}

#[test]
fn content_comes_from_postfix_with_tls_unaltered() {
    unaltered_on_the_way_here(Server::postfix, true);
}
