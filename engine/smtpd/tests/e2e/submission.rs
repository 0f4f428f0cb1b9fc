//! Mail from this host's programs: over the control socket, and parked.

use crate::setup::{field, fields, mailbox};
use redspool_tools::rig::{Output, Rig};
use std::fs;
use std::io::Write as _;
use std::process::Stdio;

fn rig() -> Rig {
    Rig::new(
        "table users { alice = \"@UID@:@GID@:@DIR@/home\", bob = \"@UID@:@GID@:@DIR@/home\", \
         \"\u{fc}\" = \"@UID@:@GID@:@DIR@/home\" }\n\
         listen on 127.0.0.1 port 0\n\
         action \"in\" maildir \"@DIR@/mail/%{user.username}\" userbase <users>\n\
         match from local for any action \"in\"\n",
    )
}

pub(super) fn sendmail(rig: &Rig, args: &[&str], input: &str) -> Output {
    let mut command = rig.command("sendmail", args);
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_program_sends_to_the_header_and_bcc_stays_hidden() {
    let rig = rig();
    let daemon = rig.start();
    let (alice, bob) = (mailbox(&rig, "alice"), mailbox(&rig, "bob"));
    let text = "To: alice@local.example\nBcc: bob@local.example\nSubject: x\n\nhi\n.\nmore\n";
    let sent = sendmail(&rig, &["-t", "-i", "-oi", "-f", "joe@example.org"], text);
    assert_eq!(sent.status, Some(0), "{sent:?}");
    for content in [alice.one(), bob.one()] {
        assert!(!content.contains("Bcc"), "{content}");
        assert!(content.contains("\nFrom: "), "{content}");
        assert!(
            content.contains("\n.\n") || content.contains("\n.\r\n"),
            "{content}"
        );
    }
    drop(daemon);
}

#[test]
fn parked_messages_enter_once_although_the_daemon_is_killed() {
    let rig = rig().with(&["-P", "mda"]);
    drop(rig.start());
    for number in 0..8 {
        let text = format!("Subject: {number}\n\nhi\n");
        let parked = sendmail(&rig, &["alice@local.example"], &text);
        assert_eq!(parked.status, Some(75), "{parked:?}");
    }
    for _ in 0..4 {
        let daemon = rig.start();
        daemon.logged("parked message");
        daemon.kill();
    }
    let _daemon = rig.start();
    rig.show(&["discover", "all"]);
    assert_eq!(rig.queue().len(), 8, "{:?}", rig.queue());
    let left = fs::read_dir(rig.spool().join("offline")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn an_address_in_utf8_is_taken_at_once_and_parked() {
    let rig = rig();
    drop(rig.start());
    let rcpt = "\u{fc}@local.example";
    let parked = sendmail(&rig, &[rcpt], "Subject: parked\n\nhi\n");
    assert_eq!(parked.status, Some(75), "{parked:?}");
    let user = mailbox(&rig, "\u{fc}");
    let _daemon = rig.start();
    let content = user.one();
    assert!(content.contains("\nSubject: parked\n"), "{content}");
    let sent = sendmail(&rig, &[rcpt], "Subject: gr\u{fc}n\n\nhi\n");
    assert_eq!(sent.status, Some(0), "{sent:?}");
    let both: Vec<_> = user.wait(2).into_iter().map(String::from_utf8).collect();
    let arrived = both.iter().flatten().any(|content| {
        content.contains("\nSubject: gr\u{fc}n\n") && content.contains(" with UTF8SMTPA id ")
    });
    assert!(arrived, "{both:?}");
}

#[test]
fn a_claim_whose_message_is_queued_is_a_copy_and_another_is_not() {
    let rig = rig().with(&["-P", "mda"]);
    drop(rig.start());
    let offline = rig.spool().join("offline");
    sendmail(&rig, &["alice@local.example"], "Subject: x\n\nhi\n");
    let name = fs::read_dir(&offline)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let content = fs::read(&name).unwrap();
    let daemon = rig.start();
    rig.show(&["discover", "all"]);
    let queue = rig.queue();
    assert_eq!(queue.len(), 1, "{queue:?}");
    daemon.kill();
    // As if killed between the commit and the removal.
    fs::write(format!("{}.{}", name.display(), &queue[0][..8]), &content).unwrap();
    let daemon = rig.start();
    rig.show(&["discover", "all"]);
    let now = rig.queue();
    assert_eq!(now.len(), 1, "{now:?}");
    assert_eq!(
        field(&now[0], fields::EVPID),
        field(&queue[0], fields::EVPID)
    );
    daemon.kill();
    // As if killed between the claim and the commit.
    let other = if queue[0].starts_with("12345678") {
        "12345679"
    } else {
        "12345678"
    };
    fs::write(format!("{}.{other}", name.display()), &content).unwrap();
    let _daemon = rig.start();
    rig.show(&["discover", "all"]);
    assert_eq!(rig.queue().len(), 2);
}
