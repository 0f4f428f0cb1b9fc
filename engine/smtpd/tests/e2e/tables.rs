//! `update table`: one file again, or the old contents.

use super::setup::{mailbox, message, send};
use nix::sys::signal::Signal;
use redspool_tools::rig::{Daemon, Rig, until};
use std::fs;

const CONFIGURATION: &str = "table names file:names\n\
     table fixed { local.example }\n\
     listen on 127.0.0.1 port 0\n\
     action \"in\" maildir \"@DIR@/mail/%{user.username}\" \
     userbase { alice = \"@UID@:@GID@:@DIR@/home\", bob = \"@UID@:@GID@:@DIR@/home\" } \
     alias <names>\n\
     match from any for domain <fixed> action \"in\"\n";

fn started(names: &str) -> (Rig, Daemon) {
    let rig = Rig::new(CONFIGURATION);
    fs::write(rig.path().join("names"), names).unwrap();
    let daemon = rig.start();
    (rig, daemon)
}

fn code(daemon: &Daemon, rcpt: &str) -> u16 {
    send(daemon, rcpt, &message("x")).code
}

#[test]
fn a_new_entry_counts_at_once_and_for_what_is_asked_after() {
    let (rig, daemon) = started("info alice\n");
    assert_eq!(code(&daemon, "info@local.example"), 250);
    assert_eq!(code(&daemon, "sales@local.example"), 550);
    fs::write(rig.path().join("names"), "info alice\nsales bob\n").unwrap();
    assert_eq!(code(&daemon, "sales@local.example"), 550);
    assert_eq!(
        rig.show(&["update", "table", "names"]),
        "command succeeded\n"
    );
    assert_eq!(code(&daemon, "sales@local.example"), 250);
    mailbox(&rig, "bob").one();
    daemon.logged("table \"names\" updated");
}

#[test]
fn a_broken_file_is_told_with_its_line_and_changes_nothing() {
    let (rig, daemon) = started("info alice\n");
    let names = rig.path().join("names");
    for (text, reason) in [
        ("info bob\nx\n", "names:2: an entry without a value"),
        ("info\nsales\n", "names: "),
    ] {
        fs::write(&names, text).unwrap();
        let output = rig.smtpctl(&["update", "table", "names"]);
        assert_eq!(output.status, Some(1), "{output:?}");
        assert_eq!(output.stdout, "command failed\n");
        assert!(output.stderr.contains(reason), "{output:?}");
    }
    fs::remove_file(&names).unwrap();
    let output = rig.smtpctl(&["update", "table", "names"]);
    assert!(output.stderr.contains("names: No such file"), "{output:?}");
    assert_eq!(code(&daemon, "info@local.example"), 250);
    mailbox(&rig, "alice").one();
}

#[test]
fn unknown_tables_fail_and_those_without_a_file_are_left_alone() {
    let (rig, _daemon) = started("info alice\n");
    let output = rig.smtpctl(&["update", "table", "nope"]);
    assert_eq!(output.status, Some(1));
    assert_eq!(
        output.stderr,
        "smtpctl: no table of this name: nope; there are names, fixed\n"
    );
    assert_eq!(
        rig.show(&["update", "table", "fixed"]),
        "command succeeded\n"
    );
}

#[test]
fn a_configuration_read_again_reads_the_file_again() {
    let (rig, daemon) = started("info alice\n");
    fs::write(rig.path().join("names"), "info alice\nsales bob\n").unwrap();
    rig.show(&["update", "table", "names"]);
    fs::write(rig.path().join("names"), "info alice\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.logged("configuration reloaded");
    until("the file as it is now is in force", || {
        (code(&daemon, "sales@local.example") == 550).then_some(())
    });
}
