//! Notices about mail that real servers take, refuse or put off, read by Python's email package.

use super::lmtp::{PYTHON, has_aiosmtpd};
use super::servers::Server;
use super::{drained, mailbox};
use redspool_tools::rig::{Answer, Daemon, Dialog, Rig, Sink, Stage, until};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Prints what is in a notice, one fact a line.
const READER: &str = "
import sys, email, email.policy
message = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.SMTP)
print('type', message.get_content_type(), message.get_param('report-type'))
print('null', message['Auto-Submitted'], message.defects)
text, status, original = message.get_payload()
print('parts', text.get_content_type(), status.get_content_type(), original.get_content_type())
for block in status.get_payload():
    for name, value in block.items():
        print(name + ': ' + ' '.join(value.split()))
print('original', 'Subject: told' in original.as_string(), 'the body' in original.as_string())
";

fn read(notice: &[u8]) -> String {
    let mut child = Command::new(PYTHON)
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(notice).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(notice)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Mail for others goes to the peer, to its second port if `second`.
fn relaying(server: &Server, second: bool) -> (Rig, Daemon) {
    let url = if second {
        format!("smtp://{}", server.second)
    } else {
        format!("smtp://{}", server.address)
    };
    let rig = Rig::new(&configuration(&url));
    let daemon = rig.start();
    (rig, daemon)
}

fn configuration(url: &str) -> String {
    format!(
        "bounce warn-interval 1s\n\
         table users {{ alice = \"@UID@:@GID@:@DIR@\", bob = \"@UID@:@GID@:@DIR@\" }}\n\
         listen on 127.0.0.1 port 0\n\
         action \"in\" maildir \"@DIR@/mail/%{{user.username}}\" userbase <users>\n\
         action \"out\" relay host {url}\n\
         match from any for domain \"local.example\" action \"in\"\n\
         match from any for any action \"out\"\n"
    )
}

fn send(daemon: &Daemon, mail: &str, rcpts: &[&str]) {
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    let rcpts = rcpts.iter().map(|rcpt| format!("RCPT TO:{rcpt}"));
    let commands = std::iter::once(format!("MAIL FROM:{mail}")).chain(rcpts);
    for command in commands.chain(["DATA".to_owned()]) {
        let reply = dialog.ask(&command).unwrap();
        assert!(reply.is_positive(), "{command}: {reply:?}");
    }
    dialog
        .send(b"Subject: told\r\n\r\nthe body\r\n.\r\n")
        .unwrap();
    let reply = dialog.reply().unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
}

/// Panics unless each of these lines is in the text.
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            text.lines().any(|there| there == *line),
            "{line}, in:\n{text}"
        );
    }
}

#[test]
fn a_refusal_is_reported_with_what_was_asked_for() {
    if !has_aiosmtpd() {
        return;
    }
    for (ret, part, body) in [
        ("RET=HDRS ", "text/rfc822-headers", false),
        ("", "text/rfc822-headers", false),
        ("RET=FULL ", "message/rfc822", true),
    ] {
        let Some(server) = Server::exim(None) else {
            return;
        };
        let (rig, daemon) = relaying(&server, false);
        let alice = mailbox(&rig, "alice");
        let mail = format!("<alice@local.example> {ret}ENVID=QQ+2B1");
        let bob = "<bob@far.example> NOTIFY=FAILURE ORCPT=rfc822;Rob+2Bx@orig.example";
        send(&daemon, &mail, &[bob, "<one@far.example>"]);
        let facts = read(&alice.wait(1)[0]);
        has(
            &facts,
            &[
                "type multipart/report delivery-status",
                &format!("parts text/plain message/delivery-status {part}"),
                "Original-Envelope-Id: QQ+1",
                "Original-Recipient: rfc822;Rob+x@orig.example",
                "Final-Recipient: rfc822; bob@far.example",
                "Action: failed",
                "Status: 5.1.1",
                "Remote-MTA: dns; [127.0.0.1]",
                "Diagnostic-Code: smtp; 550 5.1.1 no bob here",
                &format!("original True {}", if body { "True" } else { "False" }),
            ],
        );
        assert!(!facts.contains("one@far.example"), "{facts}");
        drained(&rig);
        assert_eq!(alice.messages().len(), 1);
    }
}

#[test]
fn nobody_is_told_who_does_not_want_it_or_sent_a_notice() {
    let Some(server) = Server::exim(None) else {
        return;
    };
    let (rig, daemon) = relaying(&server, false);
    let alice = mailbox(&rig, "alice");
    for notify in ["NEVER", "SUCCESS", "DELAY", "SUCCESS,DELAY"] {
        let bob = format!("<bob@far.example> NOTIFY={notify}");
        send(&daemon, "<alice@local.example>", &[&bob]);
    }
    send(&daemon, "<>", &["<bob@far.example>"]);
    drained(&rig);
    assert!(alice.messages().is_empty());
}

#[test]
fn a_server_that_knows_dsn_is_told_what_to_report() {
    if !has_aiosmtpd() {
        return;
    }
    let Some(server) = Server::exim(None) else {
        return;
    };
    let (rig, daemon) = relaying(&server, false);
    let alice = mailbox(&rig, "alice");
    let one = "<one@far.example> NOTIFY=SUCCESS ORCPT=rfc822;orig@far.example";
    send(&daemon, "<alice@local.example> RET=HDRS ENVID=QQ7", &[one]);
    drained(&rig);
    let kept = server.kept.wait(2);
    let report = kept
        .iter()
        .find(|message| String::from_utf8_lossy(message).contains("multipart/report"))
        .unwrap();
    let text = String::from_utf8_lossy(report).to_lowercase();
    for field in [
        "original-envelope-id: qq7",
        "original-recipient: rfc822;orig@far.example",
        "action: delivered",
    ] {
        assert!(text.contains(field), "{field}, in:\n{text}");
    }
    assert!(
        alice.messages().is_empty(),
        "the peer has taken over to report"
    );
}

#[test]
fn success_is_reported_where_the_next_server_does_not() {
    if !has_aiosmtpd() {
        return;
    }
    let Some(server) = Server::opensmtpd(None) else {
        return;
    };
    let (rig, daemon) = relaying(&server, true);
    let alice = mailbox(&rig, "alice");
    let one = "<one@far.example> NOTIFY=SUCCESS,FAILURE";
    send(&daemon, "<alice@local.example> ENVID=QQ8", &[one]);
    let facts = read(&alice.wait(1)[0]);
    let want = [
        "Original-Envelope-Id: QQ8",
        "Final-Recipient: rfc822; one@far.example",
        "Action: relayed",
    ];
    has(&facts, &want);
    assert!(facts.contains("\nStatus: 2."), "{facts}");
    assert!(facts.contains("original True False"), "{facts}");
    drained(&rig);
    assert_eq!(server.kept.wait(1).len(), 1);
    assert_eq!(alice.messages().len(), 1);
}

#[test]
fn delay_is_reported_with_how_long_it_is_tried() {
    if !has_aiosmtpd() {
        return;
    }
    let Some(server) = Server::exim(None) else {
        return;
    };
    let (rig, daemon) = relaying(&server, false);
    let alice = mailbox(&rig, "alice");
    let carol = "<carol@far.example> NOTIFY=DELAY";
    send(&daemon, "<alice@local.example> ENVID=QQ9", &[carol]);
    let notice = until("the delay is reported", || {
        rig.show(&["schedule", "all"]);
        alice.messages().pop()
    });
    let facts = read(&notice);
    has(
        &facts,
        &[
            "Original-Envelope-Id: QQ9",
            "Final-Recipient: rfc822; carol@far.example",
            "Action: delayed",
            "Status: 4.7.1",
            "Remote-MTA: dns; [127.0.0.1]",
            "Diagnostic-Code: smtp; 451 4.7.1 greylisted",
            "original True False",
        ],
    );
    assert!(facts.contains("\nWill-Retry-Until: "), "{facts}");
    rig.show(&["remove", "all"]);
}

/// Mail for others goes to a host of ours, whose answer to recipients is this.
fn refusing(reply: &'static str) -> (Sink, Rig, Daemon) {
    let sink = Sink::start();
    sink.answer(Stage::Rcpt, Answer::Reply(reply));
    let rig = Rig::new(&configuration(&sink.url()));
    let daemon = rig.start();
    (sink, rig, daemon)
}

#[test]
fn a_notice_names_the_host_whose_word_it_passes_on() {
    for (reply, action, status) in [
        ("550 5.1.1 Nobody", "Action: failed", "Status: 5.1.1"),
        ("451 4.2.0 Later", "Action: delayed", "Status: 4.2.0"),
    ] {
        let (_sink, rig, daemon) = refusing(reply);
        let alice = mailbox(&rig, "alice");
        send(&daemon, "<alice@local.example>", &["<bob@far.example>"]);
        let notice = until("it is reported", || {
            rig.show(&["schedule", "all"]);
            alice.messages().pop()
        });
        let facts = read(&notice);
        let code = format!("Diagnostic-Code: smtp; {reply}");
        let remote = "Remote-MTA: dns; [127.0.0.1]";
        has(&facts, &[action, status, remote, &code]);
        assert!(facts.contains("\nLast-Attempt-Date: "), "{facts}");
        rig.show(&["remove", "all"]);
    }
}

#[test]
fn a_notice_in_our_own_words_names_no_host() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let rig = Rig::new(&configuration(&format!("smtp://{address}")));
    let daemon = rig.start();
    let alice = mailbox(&rig, "alice");
    send(&daemon, "<alice@local.example>", &["<bob@far.example>"]);
    let notice = until("it is reported", || {
        rig.show(&["schedule", "all"]);
        alice.messages().pop()
    });
    let facts = read(&notice);
    assert!(
        facts.contains("\nDiagnostic-Code: x-local; Network error: "),
        "{facts}"
    );
    assert!(!facts.contains("Remote-MTA"), "{facts}");
    rig.show(&["remove", "all"]);
}

#[test]
fn a_local_delivery_is_reported_to_who_asks_for_it() {
    let (_sink, rig, daemon) = refusing("250 2.1.5 Ok");
    let alice = mailbox(&rig, "alice");
    let bob = mailbox(&rig, "bob");
    let rcpt = "<bob@local.example> NOTIFY=SUCCESS ORCPT=rfc822;Rob@orig.example";
    let mail = "<alice@local.example> RET=FULL ENVID=QQ5";
    send(&daemon, mail, &[rcpt]);
    send(&daemon, mail, &["<bob@local.example> NOTIFY=FAILURE"]);
    bob.wait(2);
    let facts = read(&alice.wait(1)[0]);
    has(
        &facts,
        &[
            "type multipart/report delivery-status",
            "null auto-replied []",
            // RFC 3461 section 6.2: the message is returned with failures alone.
            "parts text/plain message/delivery-status text/rfc822-headers",
            "Original-Envelope-Id: QQ5",
            "Original-Recipient: rfc822;Rob@orig.example",
            "Final-Recipient: rfc822; bob@local.example",
            "Action: delivered",
            "Status: 2.0.0",
            "original True False",
        ],
    );
    assert!(facts.contains("\nLast-Attempt-Date: "), "{facts}");
    assert!(!facts.contains("Remote-MTA"), "{facts}");
    drained(&rig);
    assert_eq!(alice.messages().len(), 1);
}
