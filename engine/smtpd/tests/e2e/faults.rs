//! Wrong input: each with what goes wrong, and a message that says how to mend it.

use super::setup::{message, queued, send, started};
use redspool_tools::rig::{Dialog, Output, Rig, Sink};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

/// The least that is a configuration.
const MINIMAL: &str = "listen on 127.0.0.1 port 0\nmatch from any for any reject\n";

/// `smtpd -n` on a configuration.
fn check(configuration: &str) -> Output {
    let rig = Rig::new(configuration);
    rig.smtpd().arg("-n").output().unwrap().into()
}

#[test]
fn all_faults_of_a_configuration_are_shown_at_once() {
    let output = check(
        "listen on 127.0.0.1 port 0\n\
         frobnicate all the things\n\
         action \"in\" maildir \"x\" userbase <missing>\n\
         match from any for any action \"nowhere\"\n",
    );
    assert_eq!(output.status, Some(1), "{output:?}");
    for wanted in [
        "smtpd.conf:2",
        "frobnicate",
        "smtpd.conf:3",
        "missing",
        "smtpd.conf:4",
        "nowhere",
    ] {
        assert!(
            output.stderr.contains(wanted),
            "{wanted} in:\n{}",
            output.stderr
        );
    }
    assert!(
        output.stderr.contains('^'),
        "the word is underlined:\n{}",
        output.stderr
    );
}

#[test]
fn a_right_configuration_is_called_right() {
    let output = check(MINIMAL);
    assert_eq!(output.status, Some(0), "{output:?}");
    assert!(output.stderr.contains("configuration OK"), "{output:?}");
}

#[test]
fn a_missing_table_file_is_named() {
    let rig = Rig::new(&format!("table users file:@DIR@/users\n{MINIMAL}"));
    let output = rig.start_in_vain();
    assert_ne!(output.status, Some(0));
    let file = rig.path().join("users");
    assert!(
        output.stderr.contains(&*file.to_string_lossy()),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("smtpd.conf:1"), "{}", output.stderr);
}

#[test]
fn a_missing_configuration_is_named() {
    let rig = Rig::new("");
    fs::remove_file(rig.config()).unwrap();
    let output = rig.start_in_vain();
    assert_ne!(output.status, Some(0));
    assert!(
        output.stderr.contains(&*rig.config().to_string_lossy()),
        "{}",
        output.stderr
    );
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let rig = Rig::new(&MINIMAL.replace("port 0", &format!("port {port}")));
    let output = rig.start_in_vain();
    assert_eq!(output.status, Some(1), "{}", output.stderr);
    assert!(
        output.stderr.contains(&format!("127.0.0.1:{port}")),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.to_lowercase().contains("in use"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_spool_that_cannot_be_written_is_named() {
    // Root may write everywhere but where a file is in the way.
    let rig = Rig::new(MINIMAL);
    let spool = rig.path().join("file/spool");
    fs::write(rig.path().join("file"), "").unwrap();
    let rig = rig.with_spool(&spool);
    let output = rig.start_in_vain();
    assert_eq!(output.status, Some(1), "{}", output.stderr);
    assert!(
        output.stderr.contains(&*spool.to_string_lossy()),
        "{}",
        output.stderr
    );
    if !nix::unistd::geteuid().is_root() {
        let rig = Rig::new(MINIMAL);
        fs::create_dir(rig.spool()).unwrap();
        fs::set_permissions(rig.spool(), fs::Permissions::from_mode(0o500)).unwrap();
        let output = rig.start_in_vain();
        assert_eq!(output.status, Some(1), "{}", output.stderr);
        assert!(
            output.stderr.contains("ermission denied"),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn a_second_daemon_on_a_spool_is_told_who_has_it() {
    let (_sink, rig, daemon) = started();
    let mut second = rig.smtpd();
    second.arg("--socket").arg(rig.path().join("other.sock"));
    let output: Output = second.output().unwrap().into();
    assert_eq!(output.status, Some(1), "{output:?}");
    assert!(
        output.stderr.contains(&daemon.id().to_string()),
        "{output:?}"
    );
    assert_eq!(rig.show(&["show", "queue"]), "");
}

#[test]
fn a_second_daemon_on_a_control_socket_is_told_so() {
    let (_sink, rig, _daemon) = started();
    let output: Output = rig.smtpd().output().unwrap().into();
    assert_eq!(output.status, Some(1), "{output:?}");
    assert!(output.stderr.contains("smtpd.sock"), "{output:?}");
    assert_eq!(rig.show(&["show", "queue"]), "");
}

#[test]
fn a_queue_that_is_no_queue_is_left_alone() {
    let rig = Rig::new(MINIMAL);
    fs::create_dir(rig.spool()).unwrap();
    let file = rig.spool().join("queue.redb");
    fs::write(&file, b"this is somebody else's file").unwrap();
    let output = rig.start_in_vain();
    assert_eq!(output.status, Some(1), "{}", output.stderr);
    assert!(
        output.stderr.contains(&*rig.spool().to_string_lossy()),
        "{}",
        output.stderr
    );
    assert_eq!(fs::read(&file).unwrap(), b"this is somebody else's file");
}

#[test]
fn too_large_and_too_many_are_refused_and_the_session_goes_on() {
    let sink = Sink::start();
    let rig = Rig::new(&format!(
        "smtp max-message-size 64K\nlisten on 127.0.0.1 port 0\n\
         action \"out\" relay host {}\nmatch from any for any action \"out\"\n",
        sink.url()
    ));
    let daemon = rig.start();
    let mut dialog = Dialog::hello(daemon.address()).unwrap();

    let announced = dialog.ask("MAIL FROM:<a@b.example> SIZE=70000").unwrap();
    assert_eq!(announced.code, 552, "{announced:?}");
    let mut large = message("large");
    large.extend_from_slice(
        "0123456789012345678901234567890\r\n"
            .repeat(3000)
            .as_bytes(),
    );
    let reply = dialog
        .submit("a@b.example", &["c@d.example"], &large)
        .unwrap();
    assert_eq!(reply.code, 552, "{reply:?}");
    assert_eq!(dialog.ask("NOOP").unwrap().code, 250);

    assert_eq!(dialog.ask("MAIL FROM:<a@b.example>").unwrap().code, 250);
    let refused = (0..2000).find_map(|number| {
        let reply = dialog
            .ask(&format!("RCPT TO:<r{number}@d.example>"))
            .unwrap();
        (reply.code != 250).then_some((number, reply))
    });
    let (number, reply) = refused.unwrap();
    assert!(
        number >= 100,
        "RFC 5321 4.5.3.1.8: at least 100 recipients, not {number}"
    );
    assert_eq!(reply.code, 452, "{reply:?}");
    dialog.ask("RSET").unwrap();
    let reply = dialog
        .submit("a@b.example", &["c@d.example"], &message("fine"))
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    assert!(sink.next().content.ends_with(&message("fine")));
    assert!(rig.queue().len() <= 1);
}

#[test]
fn a_line_too_long_ends_the_session_and_nothing_else() {
    let (_sink, _rig, daemon) = started();
    let mut other = Dialog::hello(daemon.address()).unwrap();
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    let reply = dialog.ask(&format!("NOOP {}", "x".repeat(3000))).unwrap();
    assert_eq!(reply.code, 500, "{reply:?}");
    assert!(reply.text().contains("too long"), "{reply:?}");
    assert_eq!(dialog.rest().unwrap(), []);
    assert_eq!(other.ask("NOOP").unwrap().code, 250);
}

#[test]
fn an_end_of_data_with_bare_line_feeds_smuggles_nothing() {
    let (sink, rig, daemon) = started();
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    for command in ["MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA"] {
        assert!(dialog.ask(command).unwrap().is_positive());
    }
    let inside = "Subject: x\r\n\r\nfirst\n.\nMAIL FROM:<evil@b.example>\r\n\
                  RCPT TO:<c@d.example>\r\nDATA\r\nsecond\r\n.\r\n";
    dialog.send(inside.as_bytes()).unwrap();
    let reply = dialog.reply().unwrap();
    assert_eq!(reply.code / 100, 5, "{reply:?}");
    assert_eq!(
        dialog.rest().unwrap(),
        [],
        "what follows is not read as commands"
    );
    queued(&daemon, "c@d.example", "only this");
    assert!(sink.next().content.ends_with(&message("only this")));
    assert_eq!(rig.show(&["remove", "all"]).lines().count(), 1);
    assert!(daemon.stop().success());
    assert!(
        sink.next_within(Duration::ZERO).is_none(),
        "nothing else went out"
    );
}

#[test]
fn recipients_nobody_takes_are_refused_at_once() {
    let sink = Sink::start();
    let rig = Rig::new(&super::setup::without_last(&sink));
    let daemon = rig.start();
    let reply = send(&daemon, "b@far.example", &message("no"));
    assert_eq!(reply.code, 550, "{reply:?}");
    let reply = send(&daemon, "nobody@local.example", &message("no"));
    assert_eq!(reply.code, 550, "{reply:?}");
}
