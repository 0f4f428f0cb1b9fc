//! Postfix's smtp-source sends to us, and smtp-sink takes or refuses what we send.

use super::{configuration, drained, free_address, listening, mailbox};
use redspool_tools::rig::{Daemon, Dialog, Peer, Rig, Sink, tool, until};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

const CONTENT: &[u8] = b"From: a@far.example\r\nSubject: to a sink\r\n\r\n.dots\r\n..\r\nend\r\n";

/// An smtp-sink that keeps each message in a file, and a daemon that relays to it.
struct Relaying {
    rig: Rig,
    daemon: Daemon,
    kept: PathBuf,
    _sink: Peer,
}

fn relaying(options: &[&str]) -> Option<Relaying> {
    let path = tool("smtp-sink", "postfix")?;
    let address = free_address();
    let rig = Rig::new(&configuration(&format!("relay host smtp://{address}")));
    let kept = rig.path().join("kept");
    fs::create_dir(&kept).unwrap();
    let mut command = Command::new(path);
    if nix::unistd::geteuid().is_root() {
        // smtp-sink will not stay root; whoever it becomes has to reach the directory.
        command.args(["-u", "nobody"]);
        fs::set_permissions(rig.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o777)).unwrap();
    }
    command
        .args(["-d", "message."])
        .args(options)
        .arg(address.to_string())
        .arg("100");
    let sink = Peer::start(&mut command, &kept);
    listening(address);
    let daemon = rig.start();
    Some(Relaying {
        rig,
        daemon,
        kept,
        _sink: sink,
    })
}

impl Relaying {
    fn send(&self, sender: &str, rcpt: &str) {
        let mut dialog = Dialog::hello(self.daemon.address()).unwrap();
        let reply = dialog.submit(sender, &[rcpt], CONTENT).unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
    }

    /// The files with a whole message.
    fn kept(&self) -> Vec<String> {
        let files = fs::read_dir(&self.kept).unwrap();
        let texts = files.filter_map(|file| fs::read_to_string(file.unwrap().path()).ok());
        texts.filter(|text| text.contains("end\n")).collect()
    }
}

#[test]
fn smtp_source_with_many_sessions_loses_nothing() {
    let Some(path) = tool("smtp-source", "postfix") else {
        return;
    };
    let sink = Sink::start();
    let rig = Rig::new(&configuration(&format!("relay host {}", sink.url())));
    let daemon = rig.start();
    let status = Command::new(path)
        .args([
            "-s",
            "100",
            "-m",
            "2000",
            "-l",
            "1024",
            "-N",
            "-f",
            "a@far.example",
        ])
        .args(["-t", "r@far.example", &daemon.address().to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let arrived: Vec<_> = (0..2000).map(|_| sink.next()).collect();
    // -N puts a number before each recipient.
    let rcpts: BTreeSet<_> = arrived
        .iter()
        .flat_map(|delivery| &delivery.rcpts)
        .collect();
    assert_eq!(rcpts.len(), 2000);
    assert!(arrived.iter().all(|delivery| delivery.content.len() > 1024));
    drained(&rig);
    let stats = rig.show(&["show", "stats"]);
    assert!(
        stats
            .lines()
            .any(|line| line == "scheduler.delivery.ok=2000"),
        "{stats}"
    );
}

#[test]
fn smtp_source_with_many_recipients_loses_nothing() {
    let Some(path) = tool("smtp-source", "postfix") else {
        return;
    };
    let sink = Sink::start();
    let rig = Rig::new(&configuration(&format!("relay host {}", sink.url())));
    let daemon = rig.start();
    let status = Command::new(path)
        .args([
            "-s",
            "10",
            "-m",
            "50",
            "-l",
            "20000",
            "-r",
            "20",
            "-f",
            "a@far.example",
        ])
        .args(["-t", "r@far.example", &daemon.address().to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let mut rcpts = 0;
    while rcpts < 50 * 20 {
        rcpts += sink.next().rcpts.len();
    }
    drained(&rig);
    assert_eq!(rcpts, 50 * 20);
}

#[test]
fn smtp_sink_takes_what_we_send() {
    let Some(relaying) = relaying(&[]) else {
        return;
    };
    for number in 0..50 {
        relaying.send("a@far.example", &format!("r{number}@far.example"));
    }
    drained(&relaying.rig);
    let kept = until("smtp-sink has written all", || {
        let kept = relaying.kept();
        (kept.len() >= 50).then_some(kept)
    });
    assert_eq!(kept.len(), 50);
    for text in kept {
        assert!(text.contains("X-Mail-Args: <a@far.example>"), "{text}");
        assert!(text.contains("\nSubject: to a sink\n"), "{text}");
    }
}

#[test]
fn smtp_sink_refusing_with_4xx_leaves_the_mail_queued() {
    for stage in ["rcpt", "data", ".", "mail"] {
        let Some(relaying) = relaying(&["-r", stage]) else {
            return;
        };
        relaying.send("a@far.example", "r@far.example");
        let line = until("the attempt has failed", || {
            let line = relaying.rig.queue().pop()?;
            line.contains("450 4.3.0").then_some(line)
        });
        assert!(line.contains("|pending|"), "{stage}: {line}");
    }
}

#[test]
fn smtp_sink_refusing_with_5xx_makes_a_report() {
    for stage in ["rcpt", "data", ".", "mail"] {
        let Some(relaying) = relaying(&["-f", stage]) else {
            return;
        };
        let alice = mailbox(&relaying.rig, "alice");
        relaying.send("alice@local.example", "r@far.example");
        let report = alice.one();
        assert!(report.contains("500 5.3.0"), "{stage}: {report}");
        drained(&relaying.rig);
    }
}

#[test]
fn smtp_sink_hanging_up_leaves_the_mail_queued() {
    for stage in ["mail", "."] {
        let Some(relaying) = relaying(&["-q", stage]) else {
            return;
        };
        relaying.send("a@far.example", "r@far.example");
        let line = until("the attempt has failed", || {
            let line = relaying.rig.queue().pop()?;
            (!line.ends_with('|')).then_some(line)
        });
        assert!(line.contains("|pending|"), "{stage}: {line}");
    }
}
