//! swaks, which says everything a mail client may say.

use super::{configuration, mailbox};
use redspool_tools::rig::{Output, Rig, Sink, tool};
use std::process::Command;

#[test]
fn swaks_delivers_to_a_maildir() {
    let Some(path) = tool("swaks", "swaks") else {
        return;
    };
    let sink = Sink::start();
    let rig = Rig::new(&configuration(&format!("relay host {}", sink.url())));
    let daemon = rig.start();
    let (host, port) = (
        daemon.address().ip().to_string(),
        daemon.address().port().to_string(),
    );
    for options in [
        &[][..],
        &["--pipeline"],
        &["--helo", "[127.0.0.1]"],
        &["--protocol", "SMTP"],
    ] {
        let alice = mailbox(&rig, "alice");
        let before = alice.messages().len();
        let output: Output = Command::new(&path)
            .args([
                "--server",
                &host,
                "--port",
                &port,
                "--from",
                "bob@far.example",
            ])
            .args([
                "--to",
                "alice@local.example,x@far.example",
                "--header",
                "Subject: by swaks",
            ])
            .args(["--body", ".\n..\ntext"])
            .args(options)
            .output()
            .unwrap()
            .into();
        assert_eq!(output.status, Some(0), "{options:?}: {output:?}");
        for message in alice.wait(before + 1) {
            let text = String::from_utf8(message).unwrap().replace("\r\n", "\n");
            assert!(
                text.contains("\nSubject: by swaks\n"),
                "{options:?}: {text}"
            );
            assert!(text.contains("\n\n.\n..\ntext\n"), "{options:?}: {text}");
        }
        assert_eq!(sink.next().rcpts, ["x@far.example"]);
    }
}

#[test]
fn swaks_sees_a_refusal() {
    let Some(path) = tool("swaks", "swaks") else {
        return;
    };
    let sink = Sink::start();
    let rig = Rig::new(&configuration(&format!("relay host {}", sink.url())));
    let daemon = rig.start();
    let (host, port) = (
        daemon.address().ip().to_string(),
        daemon.address().port().to_string(),
    );
    let output: Output = Command::new(&path)
        .args([
            "--server",
            &host,
            "--port",
            &port,
            "--from",
            "bob@far.example",
        ])
        .args(["--to", "nobody@local.example"])
        .output()
        .unwrap()
        .into();
    assert_ne!(output.status, Some(0), "{output:?}");
    assert!(output.stdout.contains("<** 550 "), "{output:?}");
}
