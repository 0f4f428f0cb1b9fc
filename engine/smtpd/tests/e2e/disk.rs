//! A full disk: nothing is lost, clients are put off, and service returns with the space.

use super::setup::{configuration, message, queued, send};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use redspool_tools::rig::{Rig, Sink, missing, until};
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
    assert!([451, 452].contains(&refused.code), "{refused:?}");
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
