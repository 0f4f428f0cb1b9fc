//! A full disk: nothing is lost, clients are put off, and service returns with the space.

use super::setup::{configuration, message, queued, send};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use redspool_tools::rig::{Dialog, Rig, Sink, missing, until};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use tempfile::TempDir;

/// A file system of its own, small. Unmounted when dropped.
struct Small(TempDir);

impl Small {
    fn new(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=0700");
        let path = directory.path();
        let mounted = mount(
            Some("tmpfs"),
            path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        );
        match mounted {
            Ok(()) => Some(Self(directory)),
            Err(error) => {
                missing(
                    &format!("the right to mount ({error})"),
                    "nothing; run this as root",
                );
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // What still holds it open keeps it, but nobody sees it any more.
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

/// Fills a file system to the last block.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// Fills a file system until only so many octets are free.
fn fill_but(path: &Path, left: u64) {
    fill(path);
    let file = File::options().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(left)).unwrap();
}

#[test]
fn a_full_disk_puts_clients_off_and_loses_nothing() {
    let Some(small) = Small::new("32m") else {
        return;
    };
    let sink = Sink::start();
    let rig = Rig::new(&configuration(&sink)).with_spool(&small.0.path().join("spool"));
    let daemon = rig.start();
    rig.show(&["pause", "mta"]);
    let mut kept = Vec::new();
    for number in 0..5 {
        kept.push(queued(
            &daemon,
            &format!("r{number}@far.example"),
            &format!("n{number}"),
        ));
    }

    let ballast = small.0.path().join("ballast");
    fill(&ballast);
    let mut body = message("too much");
    body.extend_from_slice(
        "0123456789012345678901234567890\r\n"
            .repeat(4000)
            .as_bytes(),
    );
    let refused = until("a client is put off", || {
        let reply = send(&daemon, "x@far.example", &body);
        if reply.code == 250 {
            kept.push(reply.text().split_whitespace().nth(1).unwrap().to_owned());
        }
        (reply.code != 250).then_some(reply)
    });
    assert_eq!(refused.code, 452, "{refused:?}");
    assert_eq!(
        rig.queue().len(),
        kept.len(),
        "what was acknowledged can be seen"
    );

    fs::remove_file(&ballast).unwrap();
    until("service returns with the space", || {
        let reply = send(&daemon, "y@far.example", &message("again"));
        if reply.code == 250 {
            kept.push(reply.text().split_whitespace().nth(1).unwrap().to_owned());
        }
        (reply.code == 250).then_some(())
    });
    daemon.kill();
    let _daemon = rig.start();
    let listed: Vec<_> = rig
        .queue()
        .iter()
        .map(|line| line[..8].to_owned())
        .collect();
    for id in &kept {
        assert!(
            listed.contains(id),
            "message {id} was acknowledged and is gone"
        );
    }
    rig.show(&["resume", "mta"]);
    for _ in 0..kept.len() {
        sink.next();
    }
}

#[test]
fn below_the_soft_limit_new_mail_waits_and_the_rest_is_delivered() {
    // The limit is a twentieth: 6.4 MiB.
    let Some(small) = Small::new("128m") else {
        return;
    };
    let sink = Sink::start();
    let rig = Rig::new(&configuration(&sink)).with_spool(&small.0.path().join("spool"));
    let daemon = rig.start();
    rig.show(&["pause", "mta"]);
    for number in 0..5 {
        queued(&daemon, "r@far.example", &format!("n{number}"));
    }

    let others = small.0.path().join("others");
    fill_but(&others, 20 << 20);
    // Between two looks at the space: what a client announces is more than there is.
    let refused = until("a large message is put off", || {
        let mut dialog = Dialog::hello(daemon.address()).unwrap();
        let reply = dialog.ask("MAIL FROM:<a@far.example> SIZE=30000000");
        (reply.as_ref().unwrap().code != 250).then(|| reply.unwrap())
    });
    assert_eq!(refused.code, 452, "{refused:?}");
    assert!(refused.text().contains("4.3.1"), "{refused:?}");
    queued(&daemon, "r@far.example", "small");
    // Two that are on their way at once count together.
    let mut first = Dialog::hello(daemon.address()).unwrap();
    let mail = "MAIL FROM:<a@far.example> SIZE=9000000";
    assert_eq!(first.ask(mail).unwrap().code, 250);
    let mut second = Dialog::hello(daemon.address()).unwrap();
    assert_eq!(second.ask(mail).unwrap().code, 452);
    drop(first);

    fs::remove_file(&others).unwrap();
    fill_but(&others, 1 << 20);
    until("space is short", || {
        let status = rig.show(&["show", "status"]);
        status.contains("QUEUE short of space").then_some(())
    });
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    let refused = dialog.ask("MAIL FROM:<a@far.example>").unwrap();
    assert_eq!(refused.code, 452, "{refused:?}");
    let status = rig.show(&["show", "status", "--json"]);
    assert!(status.contains(r#""queue":"short""#), "{status}");
    assert!(status.contains(r#""space_reserve":67"#), "{status}");

    rig.show(&["resume", "mta"]);
    for _ in 0..6 {
        sink.next();
    }
    until("the queue is empty", || {
        rig.queue().is_empty().then_some(())
    });
    fs::remove_file(&others).unwrap();
    until("service returns with the space", || {
        let reply = send(&daemon, "y@far.example", &message("again"));
        (reply.code == 250).then_some(())
    });
    assert_eq!(rig.show(&["show", "status"]).lines().count(), 3);
}
