//! Reading a user's `~/.forward`, as that user (spec/smtpd.md 5.3).
//!
//! Promises: the file is opened once, without following a link and without waiting; it is
//! believed only if it is a regular file of the user, neither it nor the home directory can be
//! written by others, and it is not too large.
//! Absent on purpose: what the lines mean.
//! Fails: with one of the exit codes below and one line of text, since it runs in a process of its
//! own ([`print`]) whose end [`Forward::from_exit`] reads.

use super::protocol::Exit;
use crate::local::Fault;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// There is no file, or no home directory (sysexits(3): `EX_NOINPUT`).
const ABSENT: u8 = 66;

/// The file cannot be trusted (sysexits(3): `EX_NOPERM`).
const INSECURE: u8 = 77;

/// What a user's `~/.forward` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// There is none: deliver.
    Absent,
    /// Its content.
    Text(String),
    /// It cannot be read now: refuse the recipient for the time being, with this reason.
    Temporary(String),
    /// It is not to be trusted: refuse the recipient, with this reason.
    Insecure(String),
}

impl Forward {
    /// Reads the end and the output of the process that ran [`print`].
    pub(super) fn from_exit(exit: Exit, output: Vec<u8>) -> Self {
        let reason = || super::last_line(&output).unwrap_or_else(|| format!("{exit:?}"));
        match exit {
            Exit::Code(0) => match String::from_utf8(output) {
                Ok(text) => Self::Text(text),
                Err(_) => Self::Temporary("~/.forward is not valid UTF-8".into()),
            },
            Exit::Code(code) if code == i32::from(ABSENT) => Self::Absent,
            Exit::Code(code) if code == i32::from(INSECURE) => Self::Insecure(reason()),
            _ => Self::Temporary(reason()),
        }
    }
}

/// Prints the `.forward` in `home` of the user we run as to `output`.
pub fn print(home: &Path, limit: usize, output: &mut impl Write) -> Result<(), Fault> {
    let owner = rustix::process::geteuid().as_raw();
    let Some(text) = read(home, owner, limit)? else {
        return Err(Fault::new(ABSENT, "there is no ~/.forward"));
    };
    let printed = output.write_all(&text).and_then(|()| output.flush());
    printed.map_err(|cause| Fault::temporary(format_args!("cannot print ~/.forward: {cause}")))
}

fn read(home: &Path, owner: u32, limit: usize) -> Result<Option<Vec<u8>>, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Some(directory) = opened(rustix::fs::openat(CWD, home, flags, Mode::empty()))? else {
        return Ok(None);
    };
    let directory = File::from(directory);
    check_directory(&directory, owner)?;

    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, ".forward", flags, Mode::empty());
    let Some(file) = opened(file)? else {
        return Ok(None);
    };
    let file = File::from(file);
    check_file(&file, owner)?;
    let mut text = Vec::new();
    file.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1))
        .read_to_end(&mut text)
        .map_err(|cause| Fault::temporary(format_args!("cannot read ~/.forward: {cause}")))?;
    if text.len() > limit {
        return Err(Fault::temporary(format_args!(
            "~/.forward is larger than {limit} octets"
        )));
    }
    Ok(Some(text))
}

/// Sorts the ways of not getting a file open.
fn opened(result: Result<OwnedFd, Errno>) -> Result<Option<OwnedFd>, Fault> {
    match result {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO | Errno::STALE) => Err(
            Fault::temporary("cannot open ~/.forward for lack of resources"),
        ),
        Err(Errno::LOOP) => Err(insecure("it is a symbolic link")),
        Err(cause) => Err(insecure(&io::Error::from(cause).to_string())),
    }
}

fn check_directory(directory: &File, owner: u32) -> Result<(), Fault> {
    let facts = directory.metadata().map_err(|cause| {
        Fault::temporary(format_args!("cannot examine the home directory: {cause}"))
    })?;
    if facts.mode() & 0o1000 != 0 {
        // The way to say: somebody works on this home, hold the mail.
        return Err(Fault::temporary(
            "the home directory has its sticky bit set",
        ));
    }
    if facts.uid() != owner && facts.uid() != 0 {
        return Err(insecure("the home directory belongs to somebody else"));
    }
    if facts.mode() & 0o022 != 0 {
        return Err(insecure("others can write to the home directory"));
    }
    Ok(())
}

fn check_file(file: &File, owner: u32) -> Result<(), Fault> {
    let facts = file
        .metadata()
        .map_err(|cause| Fault::temporary(format_args!("cannot examine ~/.forward: {cause}")))?;
    if !facts.is_file() {
        return Err(insecure("it is not a regular file"));
    }
    if facts.uid() != owner {
        return Err(insecure("it belongs to somebody else"));
    }
    if facts.mode() & 0o022 != 0 {
        return Err(insecure("others can write to it"));
    }
    Ok(())
}

fn insecure(why: &str) -> Fault {
    Fault::new(INSECURE, format_args!("~/.forward is not used: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
            Self(dir)
        }

        fn file(&self) -> PathBuf {
            self.0.path().join(".forward")
        }

        fn write(&self, text: &str) {
            fs::write(self.file(), text).unwrap();
            fs::set_permissions(self.file(), Permissions::from_mode(0o644)).unwrap();
        }

        fn mode(&self, mode: u32) {
            fs::set_permissions(self.0.path(), Permissions::from_mode(mode)).unwrap();
        }

        fn check(&self, want: u8) {
            let mut out = Vec::new();
            let code = match print(self.0.path(), 10, &mut out) {
                Ok(()) => 0,
                Err(fault) => fault.code(),
            };
            assert_eq!(code, want);
        }
    }

    #[test]
    fn a_sound_file_is_printed() {
        let home = Home::new();
        home.check(ABSENT);
        home.write("a@b.c\n");
        let mut out = Vec::new();
        print(home.0.path(), 10, &mut out).unwrap();
        assert_eq!(out, b"a@b.c\n");
        let gone = home.0.path().join("gone");
        assert_eq!(print(&gone, 10, &mut out).unwrap_err().code(), ABSENT);
    }

    #[test]
    fn t33_an_unsound_file_is_not_opened_for_business() {
        let home = Home::new();
        home.write("0123456789");
        home.check(0);
        home.write("0123456789a");
        home.check(75);

        home.write("x");
        fs::set_permissions(home.file(), Permissions::from_mode(0o664)).unwrap();
        home.check(INSECURE);

        fs::remove_file(home.file()).unwrap();
        symlink("/etc/hostname", home.file()).unwrap();
        home.check(INSECURE);

        fs::remove_file(home.file()).unwrap();
        nix::unistd::mkfifo(&home.file(), nix::sys::stat::Mode::S_IRUSR).unwrap();
        home.check(INSECURE);

        fs::remove_file(home.file()).unwrap();
        fs::create_dir(home.file()).unwrap();
        home.check(INSECURE);
    }

    #[test]
    fn t33_the_home_directory_must_be_sound_too() {
        let home = Home::new();
        home.write("x");
        home.mode(0o775);
        home.check(INSECURE);
        home.mode(0o757);
        home.check(INSECURE);
        home.mode(0o1755);
        home.check(75);
        home.mode(0o755);
        home.check(0);
    }

    #[test]
    fn t33_a_file_of_somebody_else_is_not_used() {
        let home = Home::new();
        home.write("x");
        let us = rustix::process::geteuid().as_raw();
        let fault = read(home.0.path(), us + 1, 10).unwrap_err();
        assert_eq!(fault.code(), INSECURE);
    }

    #[test]
    fn every_end_of_the_process_means_something() {
        let check = |exit, output: &str, want| {
            assert_eq!(Forward::from_exit(exit, output.into()), want);
        };
        check(Exit::Code(0), "a@b\n", Forward::Text("a@b\n".into()));
        check(Exit::Code(66), "none\n", Forward::Absent);
        check(Exit::Code(77), "why\n", Forward::Insecure("why".into()));
        check(Exit::Code(75), "why\n", Forward::Temporary("why".into()));
        check(Exit::Code(71), "x\n", Forward::Temporary("x".into()));
        check(Exit::TimedOut, "", Forward::Temporary("TimedOut".into()));
        assert!(matches!(
            Forward::from_exit(Exit::Code(0), vec![0xff]),
            Forward::Temporary(_)
        ));
    }
}
