//! The control socket for others than the owner, and for those who mean harm.

use super::setup::{configuration, queued, started};
use redspool_core::control::{Reply, Request, Right, Selector, TraceTopic, frame};
use redspool_tools::rig::{Rig, Sink};
use rustix::process::{Gid, Uid};
use std::fs::{Permissions, set_permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FRAME_MAX: usize = 1 << 20;

/// Debian's user without rights, and its group.
const NOBODY: u32 = 65_534;

/// A user of no name and no group.
const UNKNOWN: u32 = 4_000_000;

fn ask(stream: &mut UnixStream, request: &Request) -> Reply {
    // Whoever is turned away is told so before the question is read.
    let _ = stream.write_all(&frame::encode(request, FRAME_MAX).unwrap());
    reply(stream).expect("an answer")
}

/// The next reply; `None` when the connection is closed instead.
fn reply(stream: &mut UnixStream) -> Option<Reply> {
    let mut read = Vec::new();
    let mut octets = [0; 4096];
    loop {
        if let Some((reply, _)) = frame::decode(&read, FRAME_MAX).unwrap() {
            return Some(reply);
        }
        match stream.read(&mut octets) {
            Ok(0) | Err(_) => return None,
            Ok(count) => read.extend_from_slice(&octets[..count]),
        }
    }
}

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

/// Asks as another user. The thread gives its rights up, and they end with it.
fn ask_as(uid: u32, gid: u32, socket: PathBuf, request: Request) -> Reply {
    let asking = std::thread::spawn(move || {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        ask(&mut connect(&socket), &request)
    });
    asking.join().unwrap()
}

fn look() -> Request {
    Request::ShowQueue(Selector::All)
}

fn trace() -> Request {
    let (topic, on) = (TraceTopic::All, true);
    Request::Trace { topic, on }
}

#[test]
fn operators_look_strangers_submit_and_the_owner_steers() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    let sink = Sink::start();
    let rig = Rig::new(&configuration(&sink)).with(&["--operators", "nogroup"]);
    let _daemon = rig.start();
    for path in [rig.path(), rig.spool()] {
        set_permissions(path, Permissions::from_mode(0o711)).unwrap();
    }
    let ask_as = |uid, gid, request| ask_as(uid, gid, rig.spool().join("smtpd.sock"), request);

    // By the group of the user as the system knows it, and by that of the process.
    for (uid, gid) in [(NOBODY, UNKNOWN), (UNKNOWN, NOBODY)] {
        assert_eq!(ask_as(uid, gid, look()), Reply::End);
        let Reply::Denied(lack) = ask_as(uid, gid, trace()) else {
            panic!("an operator may not steer");
        };
        assert_eq!((lack.uid, lack.right), (uid, Right::Control));
    }
    let Reply::Denied(lack) = ask_as(UNKNOWN, UNKNOWN, look()) else {
        panic!("a stranger may not look");
    };
    assert_eq!(lack.right, Right::Look);
    assert_eq!(lack.operators.as_deref(), Some("nogroup"));
    assert_eq!(ask_as(UNKNOWN, UNKNOWN, Request::Submit), Reply::Done);
    assert_eq!(ask_as(0, 0, trace()), Reply::Done);
}

#[test]
fn an_operator_group_that_does_not_exist_is_told_at_the_start() {
    let sink = Sink::start();
    let rig = Rig::new(&configuration(&sink)).with(&["--operators", "no-such-group"]);
    let output = rig.start_in_vain();
    assert!(
        output.stderr.contains("group no-such-group does not exist"),
        "{output:?}"
    );
}

#[test]
fn garbage_half_frames_and_wrong_versions_end_only_themselves() {
    let (_sink, rig, daemon) = started();
    let socket = rig.spool().join("smtpd.sock");
    let whole = frame::encode(&Request::ShowStatus, FRAME_MAX).unwrap();
    let mut other = whole.clone();
    other[4] = frame::VERSION.wrapping_add(1);
    let garbage: Vec<u8> = (0..4096_u32).map(|n| (n * 7 % 251) as u8).collect();
    for (octets, reason) in [
        (&garbage[..], "octets, the limit is"),
        (&other, "incompatible smtpctl and smtpd"),
        (&[1, 0, 0, 0, frame::VERSION], "malformed control message"),
    ] {
        let mut stream = connect(&socket);
        // The answer may come before all is written.
        let _ = stream.write_all(octets);
        match reply(&mut stream) {
            Some(Reply::Fail { reason: said }) => assert!(said.contains(reason), "{said}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(reply(&mut stream), None, "the connection ends");
    }
    // Half a frame holds its own connection, and nothing of anybody else's.
    let mut halves: Vec<_> = (1..whole.len())
        .map(|end| {
            let mut stream = connect(&socket);
            stream.write_all(&whole[..end]).unwrap();
            (stream, end)
        })
        .collect();
    assert!(rig.show(&["show", "status"]).contains("MTA running"));
    queued(&daemon, "alice@local.example", "meanwhile");
    for (stream, end) in &mut halves {
        stream.write_all(&whole[*end..]).unwrap();
        assert!(matches!(reply(stream), Some(Reply::Status(_))), "{end}");
    }
}

#[test]
fn thousands_of_connections_are_turned_away_and_leave_nothing_behind() {
    let (_sink, rig, daemon) = started();
    let socket = rig.spool().join("smtpd.sock");
    let mut served = Vec::new();
    let mut refused = 0;
    for _ in 0..3000 {
        let mut stream = connect(&socket);
        match ask(&mut stream, &Request::ShowStatus) {
            Reply::Status(_) => served.push(stream),
            Reply::Fail { reason } => {
                assert!(reason.contains("too many connections"), "{reason}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((served.len(), refused), (32, 3000 - 32));
    let output = rig.smtpctl(&["show", "status"]);
    assert_eq!(output.status, Some(1));
    assert!(
        output.stderr.contains("too many connections of this user"),
        "{output:?}"
    );
    // Mail flows all the while.
    queued(&daemon, "alice@local.example", "meanwhile");
    drop(served);
    redspool_tools::rig::until("the places are free again", || {
        (rig.smtpctl(&["show", "status"]).status == Some(0)).then_some(())
    });
    let stats = rig.show(&["show", "stats"]);
    assert!(stats.contains("control.session=1\n"), "{stats}");
}
