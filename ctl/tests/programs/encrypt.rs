//! `encrypt`, with its peer crypt(3) and a terminal.

use crate::place::{Place, program, shown};
use expect_test::expect;
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use redspool_tools::rig::{tool, until};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

/// What `smtpctl encrypt` makes of `input`.
fn encrypt(args: &[&str], input: &[u8]) -> String {
    let mut command = program("smtpctl");
    command.arg("encrypt").args(args);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It reads no further than the first fault.
    let _ = stdin.write_all(input);
    drop(stdin);
    shown(&child.wait_with_output().unwrap())
}

/// The hashes of a run in which nothing failed.
fn hashes(args: &[&str], input: &[u8]) -> Vec<String> {
    let shown = encrypt(args, input);
    let lines = shown.strip_suffix("[exit 0]\n").expect(&shown);
    lines.lines().map(String::from).collect()
}

/// Whether the system's crypt(3) takes the password for the hash.
fn proven(perl: &std::path::Path, password: &str, hash: &str) -> bool {
    let script = "exit(crypt($ARGV[0], $ARGV[1]) eq $ARGV[1] ? 0 : 1)";
    let mut command = Command::new(perl);
    command.args(["-e", script, password, hash]);
    command.status().unwrap().success()
}

#[test]
fn crypt_takes_what_encrypt_prints() {
    let Some(perl) = tool("perl", "perl-base") else {
        return;
    };
    for (args, start, length) in [
        (&[][..], "$2b$12$", 60),
        (&["--scheme", "bcrypt"], "$2b$12$", 60),
        (&["--scheme=yescrypt"], "$y$j9T$", 73),
        (&["--scheme", "sha512-crypt"], "$6$rounds=5000$", 118),
    ] {
        let line = hashes(args, b"correct horse\n");
        let [hash] = line.as_slice() else {
            panic!("{line:?}");
        };
        assert!(hash.starts_with(start), "{hash}");
        assert_eq!(hash.len(), length, "{hash}");
        assert!(proven(&perl, "correct horse", hash), "{hash}");
        assert!(!proven(&perl, "correct horsf", hash), "{hash}");
    }
}

#[test]
fn every_line_is_a_password_and_an_argument_is_one() {
    // The second one is empty, the third one has a CR, the last one no line feed.
    let lines = hashes(&["--scheme=sha512-crypt"], b"one\n\nthree\r\nfour");
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line.starts_with("$6$")));
    if let Some(perl) = tool("perl", "perl-base") {
        for (password, hash) in ["one", "", "three\r", "four"].iter().zip(&lines) {
            assert!(proven(&perl, password, hash), "{password:?} {hash}");
        }
    }
    assert_eq!(hashes(&["secret"], b"").len(), 1);
    assert!(hashes(&[], b"").is_empty());
}

#[test]
fn hashes_come_as_lines_go() {
    let mut command = program("smtpctl");
    command.args(["encrypt", "--scheme", "sha512-crypt"]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        stdin.write_all(b"secret\n").unwrap();
        assert!(lines.next().unwrap().unwrap().starts_with("$6$"));
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn passwords_that_crypt_would_cut_are_refused() {
    let long = "x".repeat(73);
    expect![[r"
        [stderr]
        smtpctl: line 1: longer than the 72 octets that bcrypt heeds; shorten it or use --scheme yescrypt
        [exit 1]
    "]]
    .assert_eq(&encrypt(&[], format!("{long}\nshort\n").as_bytes()));
    expect![[r"
        [stderr]
        smtpctl: password: longer than the 72 octets that bcrypt heeds; shorten it or use --scheme yescrypt
        [exit 1]
    "]]
    .assert_eq(&encrypt(&[&long], b""));
    expect![[r"
        [stderr]
        smtpctl: line 1: longer than the 511 octets that crypt(3) takes
        [exit 1]
    "]]
    .assert_eq(&encrypt(&["--scheme=yescrypt"], &vec![b'x'; 100_000]));
    expect![[r"
        [stderr]
        smtpctl: line 1: it has a NUL octet, where crypt(3) would stop
        [exit 1]
    "]]
    .assert_eq(&encrypt(&[], b"a\0b\n"));
}

#[test]
fn schemes_are_named_and_belong_to_encrypt() {
    let place = Place::new();
    expect![[r"
        [stderr]
        smtpctl: invalid value 'md5' for '--scheme <SCHEME>'; try --help
        [exit 255]
    "]]
    .assert_eq(&place.smtpctl(&["encrypt", "--scheme", "md5", "x"]));
    expect![[r"
        [stderr]
        smtpctl: show queue: --scheme is not for this command, but for encrypt; try --help
        [exit 255]
    "]]
    .assert_eq(&place.smtpctl(&["show", "queue", "--scheme", "bcrypt"]));
}

#[test]
fn a_password_that_is_typed_is_not_shown() {
    let Some(setsid) = tool("setsid", "util-linux") else {
        return;
    };
    let terminal = openpty(None, None).unwrap();
    let mut command = Command::new(setsid);
    command.args(["-c", program("smtpctl").get_program().to_str().unwrap()]);
    command.args(["encrypt", "--scheme=sha512-crypt"]);
    let mut child = command
        .stdin(Stdio::from(terminal.slave))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The command holds the other end open as well, and would keep it from ending.
    drop(command);
    let mut master = File::from(terminal.master);
    until("the terminal shows nothing that is typed", || {
        let modes = tcgetattr(&master).unwrap();
        (!modes.local_flags.contains(LocalFlags::ECHO)).then_some(())
    });
    master.write_all(b"secret\r").unwrap();
    let mut hash = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut hash).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(hash.starts_with("$6$"), "{hash}");
    let mut seen = Vec::new();
    // The terminal ends with an error once nobody holds its other end.
    let _ = master.read_to_end(&mut seen);
    let seen = String::from_utf8(seen).unwrap();
    assert!(seen.starts_with("Password: "), "{seen:?}");
    assert!(!seen.contains("secret"), "{seen:?}");
    if let Some(perl) = tool("perl", "perl-base") {
        assert!(proven(&perl, "secret", hash.trim_end()), "{hash}");
    }
}
