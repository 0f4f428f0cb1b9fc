//! Addresses and header fields in UTF-8 (RFC 6531): taken, passed on where that is possible, and
//! reported where it is not.

use crate::setup::mailbox;
use redspool_tools::rig::{Daemon, Dialog, Mailbox, Rig, Sink, until};

/// Mail for far.test and near.test goes to Maildirs of users, all other mail to the host.
fn configuration(host: &str) -> String {
    format!(
        "table users {{ \"\u{fc}\" = \"@UID@:@GID@:@DIR@/home\", \
         \"\u{e9}\" = \"@UID@:@GID@:@DIR@/home\", bob = \"@UID@:@GID@:@DIR@/home\" }}\n\
         listen on 127.0.0.1 port 0\n\
         action \"in\" maildir \"@DIR@/mail/%{{user.username}}\" userbase <users>\n\
         action \"out\" relay host {host}\n\
         match from any for domain \"near.test\" action \"in\"\n\
         match from any for any action \"out\"\n"
    )
}

/// Submits a message with SMTPUTF8.
fn submit(daemon: &Daemon, sender: &str, rcpts: &[&str], content: &str) {
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    let mut commands = vec![format!("MAIL FROM:<{sender}> BODY=8BITMIME SMTPUTF8")];
    commands.extend(rcpts.iter().map(|rcpt| format!("RCPT TO:<{rcpt}>")));
    commands.push("DATA".into());
    commands.push(format!("{content}."));
    for command in commands {
        let reply = dialog.ask(&command).unwrap();
        assert!(reply.is_positive(), "{command}: {reply:?}");
    }
}

/// A message with a header section in UTF-8, complete, so that nothing is added to it.
const GREEN: &str = "From: \u{e9} <\u{e9}@near.test>\r\nSubject: gr\u{fc}n\r\n\
    Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <green@near.test>\r\n\r\n\u{20ac} 5\r\n";

/// One without.
const PLAIN: &str = "From: bob@near.test\r\nSubject: plain\r\n\
    Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <plain@near.test>\r\n\r\nhello\r\n";

/// A Maildir holds lines as the system has them.
fn assert_ends(text: &str, content: &str) {
    let content = content.replace("\r\n", "\n");
    assert!(text.replace("\r\n", "\n").ends_with(&content), "{text}");
}

#[test]
fn it_goes_from_server_to_server_as_it_is() {
    let sink = Sink::start();
    let far = Rig::new(&configuration(&sink.url()).replace("near.test", "far.test"));
    let user = mailbox(&far, "\u{fc}");
    let far_daemon = far.start();
    let near = Rig::new(&configuration(&format!("smtp://{}", far_daemon.address())));
    let daemon = near.start();
    submit(&daemon, "\u{e9}@near.test", &["\u{fc}@far.test"], GREEN);
    let text = user.one();
    assert_ends(&text, GREEN);
    assert_eq!(text.matches(" with UTF8SMTP id ").count(), 2, "{text}");
    until("both queues are empty", || {
        (near.queue().is_empty() && far.queue().is_empty()).then_some(())
    });
}

/// A daemon that relays to a server without SMTPUTF8, and the Maildir of a sender.
fn without(user: &str) -> (Sink, Rig, Daemon, Mailbox) {
    let sink = Sink::start();
    let rig = Rig::new(&configuration(&sink.url()));
    let user = mailbox(&rig, user);
    let daemon = rig.start();
    (sink, rig, daemon, user)
}

#[test]
fn a_server_without_it_gets_what_needs_it_not_and_the_sender_a_notice() {
    let (sink, rig, daemon, bob) = without("bob");
    let rcpts = ["\u{fc}@far.test", "carol@far.test"];
    submit(&daemon, "bob@near.test", &rcpts, PLAIN);
    let delivery = sink.next();
    assert_eq!(delivery.rcpts, ["carol@far.test"]);
    assert!(delivery.content.ends_with(PLAIN.as_bytes()));
    let notice = bob.one();
    for field in [
        "Final-Recipient: utf-8; \\x{FC}@far.test",
        "Action: failed",
        "Status: 5.6.7",
        "Diagnostic-Code: x-local; address is not ASCII",
    ] {
        assert!(notice.contains(field), "{field}: {notice}");
    }
    until("the queue is empty", || {
        rig.queue().is_empty().then_some(())
    });
}

#[test]
fn a_sender_in_utf8_is_told_that_a_header_in_utf8_cannot_go() {
    let (_sink, rig, daemon, user) = without("\u{e9}");
    submit(&daemon, "\u{e9}@near.test", &["carol@far.test"], GREEN);
    let notice = user.one();
    assert!(notice.contains("\nTo: <\u{e9}@near.test>\n"), "{notice}");
    assert!(notice.contains("\nStatus: 5.6.7\n"), "{notice}");
    assert!(notice.contains("message/global-headers"), "{notice}");
    until("the queue is empty", || {
        rig.queue().is_empty().then_some(())
    });
}
