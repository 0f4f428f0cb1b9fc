//! The local profile: what a newcomer starts with.

use super::setup::{mailbox, message};
use redspool_tools::rig::{Daemon, Dialog, Rig, program};
use std::fs;
use std::process::Command;

/// The profile's own smtpd.conf, on a port that is free.
fn profile() -> Rig {
    let template = include_str!("../../local.conf");
    assert!(template.contains("port 2525"));
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap();
    let user = user.map_or_else(|| "me".to_owned(), |user| user.name);
    Rig::new(
        &template
            .replace("port 2525", "port 0")
            .replace("@USER@", &user),
    )
}

fn start(rig: &Rig) -> Daemon {
    let mut command = Command::new(program("smtpd"));
    command
        .arg("--local")
        .arg(rig.path())
        .env_remove("REDSPOOL_SPOOL");
    Daemon::start(command)
}

#[test]
fn the_profile_says_what_to_type_next_and_its_mail_arrives() {
    let rig = profile();
    let daemon = start(&rig);
    daemon.logged("Ctrl-C");
    let welcome = daemon.log();
    assert!(welcome.contains(&daemon.address().to_string()), "{welcome}");
    for wanted in ["curl smtp://", "smtpctl", "smtpd.conf", "Ctrl-C"] {
        assert!(welcome.contains(wanted), "{wanted} in {welcome}");
    }
    let alice = mailbox(&rig, "alice/Maildir");
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    let hello = fs::read(rig.path().join("hello.eml")).unwrap();
    let reply = dialog
        .submit("bob@localhost", &["alice@localhost"], &hello)
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    assert!(alice.one().contains("Subject: Hello from redspool"));
}

#[test]
fn a_second_start_finds_the_mail_of_the_first() {
    let rig = profile();
    let daemon = start(&rig);
    rig.show(&["pause", "mda"]);
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    let reply = dialog
        .submit("", &["alice@localhost"], &message("kept"))
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    drop(dialog);
    assert!(daemon.stop().success());
    let _daemon = start(&rig);
    assert_eq!(rig.queue().len(), 1);
}
