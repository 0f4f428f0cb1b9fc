//! swaks, which says everything a mail client may say.

use super::{configuration, mailbox};
use redspool_tools::rig::{Output, Rig, Sink, missing, tool};
use std::os::unix::fs::PermissionsExt;
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

#[test]
fn swaks_submits_over_tls_with_a_password() {
    let (Some(path), true) = (tool("swaks", "swaks"), speaks_tls()) else {
        return;
    };
    let made = rcgen::generate_simple_self_signed(vec!["mx.example.org".to_owned()]).unwrap();
    for (mode, tls) in [("tls-require", "--tls"), ("smtps", "--tls-on-connect")] {
        let rig = Rig::new(&format!(
            "pki mx.example.org cert \"@DIR@/mx.crt\" key \"@DIR@/mx.key\"\n\
             table users {{ alice = \"@UID@:@GID@:@DIR@\" }}\n\
             listen on 127.0.0.1 port 0 {mode} pki mx.example.org auth {{ alice = \"{SECRET}\" }}\n\
             action \"in\" maildir \"@DIR@/mail/%{{user.username}}\" userbase <users>\n\
             match tls from auth for any action \"in\"\n"
        ));
        std::fs::write(rig.path().join("mx.crt"), made.cert.pem()).unwrap();
        let key = rig.path().join("mx.key");
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        let daemon = rig.start();
        let (host, port) = (
            daemon.address().ip().to_string(),
            daemon.address().port().to_string(),
        );
        let alice = mailbox(&rig, "alice");
        let submit = |method: &str, password: &str| -> Output {
            Command::new(&path)
                .args(["--server", &host, "--port", &port, tls])
                .args(["--auth", method, "--auth-user", "alice"])
                .args(["--auth-password", password])
                .args(["--from", "a@local.example", "--to", "alice@local.example"])
                .output()
                .unwrap()
                .into()
        };
        for (count, method) in (1..).zip(["PLAIN", "LOGIN"]) {
            let output = submit(method, "Hello world!");
            assert_eq!(output.status, Some(0), "{mode} {method}: {output:?}");
            let messages = alice.wait(count);
            assert!(
                messages.iter().all(|message| {
                    String::from_utf8_lossy(message).contains("with ESMTPSA id ")
                }),
                "{messages:?}"
            );
        }
        let output = submit("PLAIN", "hello world!");
        assert!(output.stdout.contains("<~* 535 "), "{output:?}");
    }
}

/// Of `Hello world!`, from the specification of SHA-crypt.
const SECRET: &str = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";

/// Whether swaks finds the module it speaks TLS with.
fn speaks_tls() -> bool {
    let asked = Command::new("perl").args(["-MNet::SSLeay", "-e1"]).output();
    let found = asked.is_ok_and(|output| output.status.success());
    if !found {
        missing("Net::SSLeay", "libnet-ssleay-perl");
    }
    found
}
