//! Every command of the manual against a daemon that runs, one that was stopped, and one that was
//! killed. The transcripts are in `tests/golden`.
//!
//! A new command needs a line in [`SCRIPT`], and `UPDATE_EXPECT=1` writes what it prints; a command
//! without a line makes [`every_command_has_its_line`] fail.

use crate::place::shown;
use expect_test::expect_file;
use redspool_tools::rig::{Daemon, Dialog, Rig, program};
use std::process::Stdio;

/// The commands, in the order they are run. `MSGID` is a message in the queue, `EVPID1` and
/// `EVPID2` are its envelopes, for a mailbox here and for another host.
const SCRIPT: &[&str] = &[
    "smtpctl show status",
    "smtpctl show queue",
    "smtpctl show queue MSGID",
    "smtpctl show queue EVPID1",
    "smtpctl show queue 00000001",
    "smtpctl show queue --domain far.example --csv",
    "smtpctl show queue --summary",
    "mailq",
    "smtpctl show envelope EVPID1",
    "smtpctl show envelope EVPID2",
    "smtpctl show envelope 0000000100000001",
    "smtpctl show message MSGID",
    "smtpctl show message EVPID2",
    "smtpctl show message 00000001",
    "smtpctl show hosts",
    "smtpctl show hoststats",
    "smtpctl show relays",
    "smtpctl show routes",
    "smtpctl show mta paused",
    "smtpctl show stats",
    "smtpctl monitor --count 1",
    "smtpctl explain EVPID2",
    "smtpctl pause mta",
    "smtpctl pause mda",
    "smtpctl pause smtp",
    "smtpctl show status",
    "smtpctl resume smtp",
    "smtpctl resume smtp",
    "smtpctl resume mda",
    "smtpctl pause mda",
    "smtpctl resume mta",
    "smtpctl pause mta",
    "smtpctl pause mta from 127.0.0.1 for far.example",
    "smtpctl show mta paused",
    "smtpctl resume mta from 127.0.0.1 for far.example",
    "smtpctl resume route 99",
    "smtpctl pause envelope EVPID1",
    "smtpctl pause envelope MSGID",
    "smtpctl pause envelope all",
    "smtpctl show queue --state suspend",
    "smtpctl resume envelope EVPID1",
    "smtpctl resume envelope MSGID",
    "smtpctl resume envelope all",
    "smtpctl discover EVPID1",
    "smtpctl discover MSGID",
    "smtpctl discover all",
    "smtpctl schedule EVPID1",
    "smtpctl schedule MSGID",
    "smtpctl schedule all",
    "smtpctl log verbose",
    "smtpctl log brief",
    "smtpctl trace smtp",
    "smtpctl trace all",
    "smtpctl trace nothing",
    "smtpctl untrace smtp",
    "smtpctl untrace all",
    "smtpctl untrace nothing",
    "smtpctl profile queue",
    "smtpctl profile imsg",
    "smtpctl profile nothing",
    "smtpctl unprofile queue",
    "smtpctl unprofile imsg",
    "smtpctl unprofile nothing",
    "smtpctl update table users",
    "smtpctl update table names",
    "smtpctl update table nothing",
    "smtpctl uncorrupt MSGID",
    "smtpctl encrypt",
    "smtpctl encrypt sesame",
    "smtpctl spf walk",
    "smtpctl store check",
    "smtpctl remove EVPID1 --dry-run",
    "smtpctl remove EVPID1",
    "smtpctl remove MSGID",
    "smtpctl remove MSGID",
    "smtpctl remove all",
    "smtpctl show queue",
    "smtpctl store compact",
    "smtpctl store rebuild",
    "smtpctl show",
    "smtpctl remove a",
    "smtpctl show queue MSGID extra",
];

const CONFIGURATION: &str = "table names file:names\n\
     table users { alice = \"@UID@:@GID@:@DIR@/home\" }\n\
     listen on 127.0.0.1 port 0\n\
     action \"in\" maildir \"@DIR@/mail\" userbase <users> alias <names>\n\
     action \"out\" relay host smtp://127.0.0.1:9\n\
     match from any for domain \"local.example\" action \"in\"\n\
     match from any for any action \"out\"\n";

/// A queue with one message for two, which nobody delivers.
struct Scene {
    rig: Rig,
    /// What is different in every run, and the word for it.
    names: Vec<(String, &'static str)>,
}

impl Scene {
    fn set() -> (Self, Daemon) {
        let rig = Rig::new(CONFIGURATION).with(&["-P", "mta", "-P", "mda"]);
        std::fs::write(rig.path().join("names"), "info alice\n").unwrap();
        let daemon = rig.start();
        let mut dialog = Dialog::hello(daemon.address()).unwrap();
        let rcpts = ["alice@local.example", "b@far.example"];
        let text = b"From: sender@example.org\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n\
            Message-ID: <1@example.org>\r\nSubject: script\r\n\r\nHello.\r\n";
        let reply = dialog.submit("sender@example.org", &rcpts, text).unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
        dialog.ask("QUIT").unwrap();
        daemon.logged("smtp disconnected reason=quit");
        let ids: Vec<_> = rig
            .queue()
            .iter()
            .map(|line| line[..16].to_owned())
            .collect();
        let [first, second] = ids.as_slice() else {
            panic!("two envelopes: {ids:?}");
        };
        let own = nix::unistd::gethostname().unwrap();
        let names = vec![
            (first.clone(), "EVPID1"),
            (second.clone(), "EVPID2"),
            (first[..8].to_owned(), "MSGID"),
            (rig.path().display().to_string(), "DIR"),
            (daemon.address().to_string(), "LISTENER"),
            (own.to_string_lossy().into_owned(), "HOST"),
        ];
        (Self { rig, names }, daemon)
    }

    /// Runs the script and writes down what every command printed.
    fn transcript(&self) -> String {
        let mut text = String::new();
        for line in SCRIPT {
            let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            for word in &mut words {
                if let Some((value, _)) = self.names.iter().find(|(_, name)| name == word) {
                    word.clone_from(value);
                }
            }
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let output = match words.as_slice() {
                ["mailq", rest @ ..] => self.rig.command("mailq", rest),
                [_, rest @ ..] => self.rig.command("smtpctl", rest),
                [] => continue,
            }
            .stdin(Stdio::null())
            .output()
            .unwrap();
            text.push_str(&format!("$ {line}\n{}", self.masked(&shown(&output))));
        }
        text
    }

    /// Replaces what differs from run to run by words.
    fn masked(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (value, name) in &self.names {
            text = text.replace(value.as_str(), name);
        }
        let lines = text.lines().map(line).collect::<Vec<_>>();
        lines.join("\n") + "\n"
    }
}

/// A line without dates, waits and salts.
fn line(text: &str) -> String {
    if text.starts_with("$2b$") {
        return "HASH".into();
    }
    let mut fields: Vec<_> = text.split('|').map(str::to_owned).collect();
    if let [.., delay, _] = fields.as_mut_slice()
        && fields_of_a_listing(text)
        && !delay.is_empty()
    {
        *delay = "WAIT".into();
    }
    let text = fields.join("|");
    let mut masked = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, digits) = rest.split_at(at);
        let end = digits.find(|c: char| !c.is_ascii_digit());
        let (number, after) = digits.split_at(end.unwrap_or(digits.len()));
        masked.push_str(before);
        let inside = before.ends_with(|c: char| c.is_ascii_alphanumeric());
        let seconds = after.strip_prefix('s');
        let wait = seconds.is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric()));
        masked.push_str(match number.len() {
            10 if !inside => "DATE",
            _ if wait && !inside => "N",
            _ => number,
        });
        rest = after;
    }
    masked.push_str(rest);
    for key in ["uptime=", "uptime.human="] {
        if masked.starts_with(key) {
            return format!("{key}N");
        }
    }
    match masked.split_once("; ") {
        // The date of a Received field.
        Some((before, date)) if date.contains(" +") || date.contains(" -") => {
            format!("{before}; DATE")
        }
        _ => masked,
    }
}

fn fields_of_a_listing(text: &str) -> bool {
    text.split('|').count() == 14
}

#[test]
fn against_a_running_daemon() {
    let (scene, _daemon) = Scene::set();
    expect_file!["../golden/live.txt"].assert_eq(&scene.transcript());
}

#[test]
fn against_a_stopped_daemon() {
    let (scene, daemon) = Scene::set();
    assert!(daemon.stop().success());
    expect_file!["../golden/stopped.txt"].assert_eq(&scene.transcript());
}

#[test]
fn against_a_killed_daemon() {
    let (scene, daemon) = Scene::set();
    daemon.kill();
    expect_file!["../golden/killed.txt"].assert_eq(&scene.transcript());
}

#[test]
fn every_command_has_its_line() {
    let help = std::process::Command::new(program("smtpctl"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (commands, _) = help.split_once("Every word may").unwrap();
    let patterns = commands.lines().skip(1).filter(|line| {
        let first = line.chars().next();
        first.is_some_and(|first| first.is_ascii_lowercase()) && !line.starts_with("completions")
    });
    let mut seen = 0;
    for pattern in patterns {
        let lines = SCRIPT.iter().filter(|line| fits(pattern, line));
        assert!(lines.count() > 0, "no line for: {pattern}");
        seen += 1;
    }
    assert!(seen > 50, "{seen}");
}

/// Whether a line of the script is of this form; options may follow.
fn fits(pattern: &str, line: &str) -> bool {
    let words = line.split(' ').skip(1);
    let words: Vec<_> = words.take_while(|word| !word.starts_with("--")).collect();
    let pattern: Vec<_> = pattern.split(' ').collect();
    words.len() == pattern.len()
        && words.iter().zip(&pattern).all(|(word, want)| match *want {
            "<evpid>" => word.starts_with("EVPID"),
            "<msgid>" => *word == "MSGID",
            want => want.starts_with('<') || *word == want,
        })
}
