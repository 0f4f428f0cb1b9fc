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
    "smtpctl pause mta from 127.0.0.1 for far.example",
    "smtpctl show mta paused",
    "smtpctl resume mta from 127.0.0.1 for far.example",
    "smtpctl resume route 99",
    "smtpctl pause envelope EVPID1",
    "smtpctl pause envelope MSGID",
    "smtpctl pause envelope all",
    "smtpctl show queue --state suspend",
    "smtpctl resume mda",
    "smtpctl pause mda",
    "smtpctl resume mta",
    "smtpctl pause mta",
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
    "smtpctl store export EXPORT",
    "smtpctl store import EXPORT --dry-run",
    "smtpctl remove EVPID1 --dry-run",
    "smtpctl remove EVPID1",
    "smtpctl show trash",
    "smtpctl show trash MSGID",
    "smtpctl show trash EVPID1",
    "smtpctl undo --dry-run",
    "smtpctl undo",
    "smtpctl remove EVPID1",
    "smtpctl undo last",
    "smtpctl remove MSGID",
    "smtpctl undo EVPID1",
    "smtpctl undo MSGID",
    "smtpctl undo all",
    "smtpctl remove MSGID --now",
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
        let names = vec![
            (first.clone(), "EVPID1"),
            (second.clone(), "EVPID2"),
            (first[..8].to_owned(), "MSGID"),
            (rig.path().join("exported").display().to_string(), "EXPORT"),
            (rig.path().display().to_string(), "DIR"),
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
            let printed = self.masked(&shown(&output));
            text.extend(["$ ", line, "\n", &printed]);
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

/// A line without what differs from run to run and from host to host.
fn line(text: &str) -> String {
    if text.starts_with("$2b$") {
        return "HASH".into();
    }
    if let Some((before, _)) = text.split_once(" comes in as ") {
        return format!("{before} comes in as NEWID");
    }
    if text.ends_with(" (UTC)") {
        return "\tNOW".into();
    }
    if text.contains(" octets") || text.starts_with("octets: ") {
        return digits(text, |_| Some("N"));
    }
    for (before, after, word) in [
        ("smtpname: ", "", "HOST"),
        ("\tby ", " (redspool)", "HOST"),
        ("uptime=", "", "N"),
        ("uptime.human=", "", "WAIT"),
    ] {
        if let Some(rest) = text.strip_prefix(before) {
            let end = if after.is_empty() {
                None
            } else {
                rest.find(after)
            };
            return format!("{before}{word}{}", &rest[end.unwrap_or(rest.len())..]);
        }
    }
    if let Some((before, rest)) = text.split_once("in use by process ") {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        return format!("{before}in use by process PID{rest}");
    }
    let mut fields: Vec<_> = text.split('|').collect();
    if fields.len() == 14 && !fields[12].is_empty() {
        fields[12] = "WAIT";
    }
    let text = digits(&fields.join("|"), |number| {
        (number.len() == 10).then_some("DATE")
    });
    let words: Vec<_> = text.split(' ').map(wait).collect();
    // Just queued: within the second, an attempt is about to be due or is.
    words.join(" ").replace("due in WAIT", "due since WAIT")
}

/// Replaces runs of digits that stand alone.
fn digits(text: &str, by: impl Fn(&str) -> Option<&'static str>) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(at);
        let end = number.find(|c: char| !c.is_ascii_digit());
        let (number, after) = number.split_at(end.unwrap_or(number.len()));
        let alone = !before.ends_with(|c: char| c.is_ascii_alphanumeric());
        masked.push_str(before);
        masked.push_str(by(number).filter(|_| alone).unwrap_or(number));
        rest = after;
    }
    masked + rest
}

/// A duration such as `1m2s`, perhaps with a comma behind it, by a word.
fn wait(word: &str) -> String {
    let (text, comma) = match word.strip_suffix(',') {
        Some(text) => (text, ","),
        None => (word, ""),
    };
    let units = text.split_inclusive(['d', 'h', 'm', 's']);
    let is_wait = !text.is_empty()
        && units.clone().all(|part| {
            let number = part.strip_suffix(['d', 'h', 'm', 's']).unwrap_or_default();
            !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
        });
    if is_wait {
        format!("WAIT{comma}")
    } else {
        word.to_owned()
    }
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
