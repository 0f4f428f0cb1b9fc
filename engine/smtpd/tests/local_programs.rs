//! The built-in delivery programs as they are built, one process each.

#![expect(clippy::unwrap_used, reason = "this is a test, helpers included")]

use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

const MAILDIR: &str = env!("CARGO_BIN_EXE_mail-maildir");
const MBOX: &str = env!("CARGO_BIN_EXE_mail-mbox");
const LMTP: &str = env!("CARGO_BIN_EXE_mail-lmtp");

fn start(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn program(path: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.env_clear().args(arguments);
    command
}

fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = start(command);
    // The program may end without reading it all.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Runs a program that may write files of 512 octets at most.
fn run_in_little_space(path: &str, argument: &str, input: &[u8]) -> Output {
    let script = "ulimit -f 1; exec \"$0\" \"$1\"";
    run(
        &mut program("/bin/sh", &["-c", script, path, argument]),
        input,
    )
}

fn check(output: &Output, code: i32, says: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(says), "{error}");
    assert!(error.lines().count() <= 1, "{error}");
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_maildir_is_made_and_gets_the_message() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Mail/box");
    let message = b"Subject: x\n\nFrom here \xe9\x00 on\nno end";
    for count in 1..=2 {
        let mut command = program(MAILDIR, &[path.to_str().unwrap()]);
        check(&run(&mut command, message), 0, "");
        assert_eq!(files(&path.join("new")).len(), count);
    }
    for file in files(&path.join("new")) {
        assert_eq!(fs::read(&file).unwrap(), message);
        let name = file.file_name().unwrap().to_str().unwrap();
        let parts: Vec<_> = name.splitn(3, '.').collect();
        assert!(parts[0].parse::<u64>().is_ok(), "{name}");
        assert!(u32::from_str_radix(parts[1], 16).is_ok() && parts[1].len() == 8);
        assert!(!parts[2].is_empty());
    }
    assert!(files(&path.join("tmp")).is_empty());
    for part in ["", "tmp", "new", "cur"] {
        let mode = fs::metadata(path.join(part)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

#[test]
fn t7_an_extension_picks_a_folder_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Maildir");
    fs::create_dir_all(path.join(".lists")).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("outside"), path.join(".link")).unwrap();
    let deliver = |extension: &str| {
        let mut command = program(MAILDIR, &[path.to_str().unwrap()]);
        check(&run(command.env("EXTENSION", extension), b"x\n"), 0, "");
    };
    deliver("lists");
    assert_eq!(files(&path.join(".lists/new")).len(), 1);
    assert!(!path.join("new").exists());
    for (count, extension) in ["absent", "/../outside", "./..", "link"].iter().enumerate() {
        deliver(extension);
        assert_eq!(files(&path.join("new")).len(), count + 1, "{extension}");
    }
    assert!(files(&dir.path().join("outside")).is_empty());
}

#[test]
fn a_full_disk_is_temporary_and_leaves_nothing_in_a_maildir() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Maildir");
    let output = run_in_little_space(MAILDIR, path.to_str().unwrap(), &vec![b'x'; 100_000]);
    check(&output, 75, "cannot write the message");
    assert!(files(&path.join("new")).is_empty());
    assert!(files(&path.join("tmp")).is_empty());
}

#[test]
fn d6_a_killed_delivery_shows_nothing_in_new() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Maildir");
    let mut child = start(&mut program(MAILDIR, &[path.to_str().unwrap()]));
    // More than a pipe holds: when this returns, the program has taken the better part of it.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![b'x'; 512 << 10]).unwrap();
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert!(files(&path.join("new")).is_empty());
    assert_eq!(files(&path.join("tmp")).len(), 1);
}

#[test]
fn a_maildir_that_cannot_be_made_is_temporary() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let path = file.join("Maildir");
    let output = run(&mut program(MAILDIR, &[path.to_str().unwrap()]), b"x\n");
    check(&output, 75, "cannot open");
}

#[test]
fn t9_an_mbox_gets_messages_that_cannot_forge_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box");
    for sender in ["a@example.org", ""] {
        let mut command = program(MBOX, &[path.to_str().unwrap()]);
        let message = b"Subject: \xe9\n\nFrom x\n>From y\nend";
        check(&run(command.env("SENDER", sender), message), 0, "");
    }
    let all = fs::read(&path).unwrap();
    let lines: Vec<_> = all.split(|octet| *octet == b'\n').collect();
    assert!(lines[0].starts_with(b"From a@example.org "));
    assert_eq!(lines[1], b"Subject: \xe9");
    assert_eq!(lines[3..7], [&b">From x"[..], b">From y", b"end", b""]);
    assert!(lines[7].starts_with(b"From MAILER-DAEMON "));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_full_disk_leaves_an_mbox_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box");
    let before = "From a@b Thu Jan  1 00:00:00 1970\n\nold\n\n";
    fs::write(&path, before).unwrap();
    let output = run_in_little_space(MBOX, path.to_str().unwrap(), &vec![b'x'; 100_000]);
    check(&output, 75, "cannot write");
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn t35_an_mbox_that_is_a_link_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, soft, hard) = (
        dir.path().join("box"),
        dir.path().join("soft"),
        dir.path().join("hard"),
    );
    fs::write(&path, "kept").unwrap();
    std::os::unix::fs::symlink(&path, &soft).unwrap();
    fs::hard_link(&path, &hard).unwrap();
    for refused in [soft, hard] {
        let output = run(&mut program(MBOX, &[refused.to_str().unwrap()]), b"x\n");
        check(&output, 75, "cannot open");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
}

/// Waits until the process waits for a flock.
fn wait_for_waiter(pid: u32) {
    loop {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let waits = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.contains(&"->") && words.contains(&pid.to_string().as_str())
        };
        if locks.lines().any(waits) {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_locked_mbox_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box");
    let file = File::create(&path).unwrap();
    let mut locked = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let mut child = start(&mut program(MBOX, &[path.to_str().unwrap()]));
    child.stdin.take().unwrap().write_all(b"new\n").unwrap();
    wait_for_waiter(child.id());
    locked.write_all(b"old\n\n").unwrap();
    drop(locked);
    check(&child.wait_with_output().unwrap(), 0, "");
    let all = fs::read_to_string(&path).unwrap();
    assert!(all.starts_with("old\n\nFrom MAILER-DAEMON "), "{all}");
    assert!(all.ends_with("\nnew\n\n"), "{all}");
}

#[test]
fn an_mbox_another_program_has_locked_its_own_way_is_temporary() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box");
    let file = File::create(&path).unwrap();
    let lock = nix::libc::flock {
        l_type: i16::try_from(nix::libc::F_WRLCK).unwrap(),
        l_whence: i16::try_from(nix::libc::SEEK_SET).unwrap(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_SETLK(&lock)).unwrap();
    let output = run(&mut program(MBOX, &[path.to_str().unwrap()]), b"x\n");
    check(&output, 75, "cannot lock");
    drop(file);
    fs::write(dir.path().join("box.lock"), "").unwrap();
    let output = run(&mut program(MBOX, &[path.to_str().unwrap()]), b"x\n");
    check(&output, 75, "is locked by another program");
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn the_null_device_takes_everything() {
    check(
        &run(&mut program(MBOX, &["/dev/null"]), &vec![b'x'; 200_000]),
        0,
        "",
    );
}

#[test]
fn wrong_arguments_are_told() {
    for (path, arguments) in [
        (MAILDIR, &[][..]),
        (MAILDIR, &["a", "b"]),
        (MBOX, &[]),
        (MBOX, &["a", "b"]),
        (MBOX, &["..."]),
        (LMTP, &[]),
        (LMTP, &["a", "b"]),
        (LMTP, &["/nowhere"]),
    ] {
        check(&run(&mut program(path, arguments), b""), 64, "");
    }
}

/// An LMTP server for one session: gives `replies` by the first word of a command, and returns
/// what it was told.
fn lmtp_server(path: &Path, replies: &'static [(&str, &str)]) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut told = Vec::new();
        let mut in_content = false;
        let say = |word: &str, default: &str| {
            let scripted = replies.iter().find(|(key, _)| *key == word);
            let reply = scripted.map_or(default, |(_, reply)| reply);
            (&stream).write_all(reply.as_bytes()).is_ok() && !reply.is_empty()
        };
        if !say("hello", "220 ready\r\n") {
            return told;
        }
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap_or(0) > 0 {
            let text = line.trim_end_matches("\r\n").to_owned();
            line.clear();
            told.push(text.clone());
            let word = text.split([' ', ':']).next().unwrap();
            let alive = match (in_content, word) {
                (true, ".") => {
                    in_content = false;
                    say(".", "250 taken\r\n")
                }
                (true, _) => true,
                (false, "DATA") => {
                    in_content = !replies.iter().any(|(key, _)| *key == "DATA");
                    say("DATA", "354 go\r\n")
                }
                (false, "LHLO") => say("LHLO", "250-me\r\n250 8BITMIME\r\n"),
                (false, word) => say(word, "250 ok\r\n"),
            };
            if !alive {
                break;
            }
        }
        told
    })
}

fn lmtp(dir: &Path, rcpt_to: bool, input: &[u8]) -> Output {
    let socket = dir.join("socket");
    let mut command = program(LMTP, &[socket.to_str().unwrap()]);
    command.args(rcpt_to.then_some("rcpt-to"));
    command.env("SENDER", "a@example.org");
    command.env("USER", "user");
    command.env("RECIPIENT", "user+x@example.net");
    run(&mut command, input)
}

#[test]
fn an_lmtp_server_gets_user_or_recipient_and_the_stuffed_message() {
    for (rcpt_to, rcpt) in [
        (false, "RCPT TO:<user>"),
        (true, "RCPT TO:<user+x@example.net>"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = lmtp_server(&dir.path().join("socket"), &[]);
        check(&lmtp(dir.path(), rcpt_to, b"A: b\n\n.\nend"), 0, "");
        let told = server.join().unwrap();
        assert_eq!(
            told,
            [
                "LHLO localhost",
                "MAIL FROM:<a@example.org>",
                rcpt,
                "DATA",
                "A: b",
                "",
                "..",
                "end",
                ".",
                "QUIT"
            ]
        );
    }
}

#[test]
fn replies_of_an_lmtp_server_become_exit_codes() {
    let check = |replies, code, says: &str| {
        let dir = tempfile::tempdir().unwrap();
        let server = lmtp_server(&dir.path().join("socket"), replies);
        check(&lmtp(dir.path(), false, b"x\n"), code, says);
        server.join().unwrap();
    };
    check(&[("RCPT", "550 5.1.1 who?\r\n")], 69, "550 5.1.1 who?");
    check(&[("RCPT", "450 4.2.1 later\r\n")], 75, "450 4.2.1 later");
    check(&[(".", "552 5.2.2 full\r\n")], 69, "552 5.2.2 full");
    check(&[(".", "452 4.2.2 full\r\n")], 75, "452 4.2.2 full");
    check(&[("hello", "421 not now\r\n")], 75, "421 not now");
    check(&[("hello", "what?\r\n")], 75, "");
    check(&[("hello", "")], 75, "");
    check(&[(".", "")], 75, "");
}

#[test]
fn an_lmtp_server_that_is_not_there_is_temporary() {
    let dir = tempfile::tempdir().unwrap();
    check(&lmtp(dir.path(), false, b"x\n"), 75, "cannot connect");
    let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    drop(listener);
    assert!(UnixStream::connect(dir.path().join("socket")).is_err());
    check(&lmtp(dir.path(), false, b"x\n"), 75, "cannot connect");
}

#[test]
fn t32_programs_link_neither_tokio_nor_tls() {
    // How the names of their functions begin in an executable.
    let holds = |path: &Path, library: &str| {
        let code = fs::read(path).unwrap();
        String::from_utf8_lossy(&code).contains(library)
    };
    for path in [MAILDIR, MBOX, LMTP, env!("CARGO_BIN_EXE_smtpd-priv")] {
        let path = Path::new(path);
        assert!(holds(path, "14redspool_smtpd"), "names are there");
        for library in ["5tokio", "6rustls", "16hickory_resolver"] {
            assert!(!holds(path, library), "{} holds {library}", path.display());
        }
    }
}
