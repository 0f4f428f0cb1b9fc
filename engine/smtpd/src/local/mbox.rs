//! Delivery to an mbox file: append under locks, one `From ` line before and one blank line after
//! each message.
//!
//! Promises: a line of the message that looks like a `From ` line is quoted with `>`; the file is
//! synced before success, and cut back to its former size after an error; symbolic links, hard
//! links and anything but regular files are refused. `/dev/null` takes everything.
//! Locks: flock and fcntl locks always, `FILE.lock` where the directory may be written.
//! Fails: always temporarily.

use super::Fault;
use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Times we start over because another program has put a new file in place of the locked one.
const OPENINGS_MAX: usize = 8;

/// Age at which a dot-lock is taken to be left over: twice the life of a delivery program.
const DOTLOCK_STALE: Duration = Duration::from_mins(10);

/// Appends `input` to the mbox file at `path`. `sender` is the return path, empty for the null one.
pub fn deliver(
    input: &mut impl Read,
    path: &Path,
    sender: &str,
    now: Timestamp,
) -> Result<(), Fault> {
    if path == Path::new("/dev/null") {
        let read = io::copy(input, &mut io::sink());
        return read.map(|_| ()).map_err(fault("read", "the message"));
    }
    let mailbox = Mailbox::open(path)?;
    let size = mailbox
        .file
        .metadata()
        .map_err(fault("examine", path.display()))?
        .len();
    let written = append(&mailbox.file, input, sender, now).and_then(|()| mailbox.file.sync_all());
    written.map_err(|cause| {
        let restored = mailbox
            .file
            .set_len(size)
            .and_then(|()| mailbox.file.sync_all());
        match restored {
            Ok(()) => fault("write", path.display())(cause),
            Err(second) => Fault::temporary(format_args!(
                "cannot write {}: {cause}; nor restore it: {second}",
                path.display()
            )),
        }
    })
}

/// An mbox file, open and locked until it is dropped.
struct Mailbox {
    file: File,
    _dotlock: Option<Dotlock>,
}

impl Mailbox {
    fn open(path: &Path) -> Result<Self, Fault> {
        for _ in 0..OPENINGS_MAX {
            let file = open(path).map_err(fault("open", path.display()))?;
            lock(&file).map_err(fault("lock", path.display()))?;
            // Our own programs wait for each other above; only others are met here.
            let dotlock = Dotlock::take(path)?;
            if is_at(&file, path).map_err(fault("examine", path.display()))? {
                return Ok(Self {
                    file,
                    _dotlock: dotlock,
                });
            }
        }
        Err(Fault::temporary(format_args!(
            "{} is replaced again and again",
            path.display()
        )))
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if facts.nlink() > 1 {
        return Err(io::Error::other("it has several hard links"));
    }
    Ok(file)
}

fn lock(file: &File) -> Result<(), Errno> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(file, FlockOperation::LockExclusive))?;
    // Waiting for a second kind of lock could end in an embrace with a program that takes them
    // in the other order.
    match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::NOLCK | Errno::NOTSUP | Errno::INVAL) => Ok(()),
        locked => locked,
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match path.symlink_metadata() {
        Ok(found) => Ok((found.dev(), found.ino()) == (held.dev(), held.ino())),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(cause),
    }
}

/// A `FILE.lock` of ours, removed when dropped.
struct Dotlock(PathBuf);

impl Dotlock {
    /// Takes the lock; `None` where it cannot be made, so that nobody uses it.
    fn take(mailbox: &Path) -> Result<Option<Self>, Fault> {
        let mut path = mailbox.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..2 {
            match rustix::fs::open(&path, flags, Mode::RUSR | Mode::RGRP | Mode::ROTH) {
                Ok(_) => return Ok(Some(Self(path))),
                Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::NAMETOOLONG) => {
                    return Ok(None);
                }
                Err(Errno::EXIST) if is_stale(&path) => {
                    let _ = rustix::fs::unlinkat(CWD, &path, AtFlags::empty());
                }
                Err(Errno::EXIST) => break,
                Err(cause) => return Err(fault("create", path.display())(cause)),
            }
        }
        Err(Fault::temporary(format_args!(
            "{} is locked by another program",
            mailbox.display()
        )))
    }
}

impl Drop for Dotlock {
    fn drop(&mut self) {
        // A lock that stays behind goes stale.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn is_stale(lock: &Path) -> bool {
    let modified = lock.symlink_metadata().and_then(|facts| facts.modified());
    let age = modified.map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
    age.is_ok_and(|age| age >= DOTLOCK_STALE)
}

fn append(file: &File, input: &mut impl Read, sender: &str, now: Timestamp) -> io::Result<()> {
    let gap = gap(file)?;
    let mut writer = BufWriter::with_capacity(64 << 10, file);
    writer.write_all(gap)?;
    writer.write_all(from_line(sender, now).as_bytes())?;
    let mut quoter = Quoter::new(&mut writer);
    io::copy(input, &mut quoter)?;
    quoter.finish()?;
    writer.flush()
}

/// What is missing at the end of the file for a `From ` line to be seen: somebody, or a crash, may
/// have left a message without its blank line.
fn gap(mut file: &File) -> io::Result<&'static [u8]> {
    let size = file.metadata()?.len();
    let mut end = Vec::with_capacity(2);
    file.seek(SeekFrom::Start(size.saturating_sub(2)))?;
    file.take(2).read_to_end(&mut end)?;
    Ok(match end.as_slice() {
        [] | [b'\n', b'\n'] => b"",
        [.., b'\n'] => b"\n",
        _ => b"\n\n",
    })
}

/// The separator line, with the date in UTC (RFC 4155 appendix A).
fn from_line(sender: &str, now: Timestamp) -> String {
    let sender: String = sender
        .chars()
        // Quoted local parts may hold blanks, which would shift the date.
        .map(|c| if c.is_whitespace() { '_' } else { c })
        .collect();
    let sender = if sender.is_empty() {
        "MAILER-DAEMON"
    } else {
        &sender
    };
    format!("From {sender} {}\n", now.strftime("%a %b %e %H:%M:%S %Y"))
}

/// Puts `>` before every line that begins with `From `, and ends the text with a blank line.
struct Quoter<W> {
    writer: W,
    /// Octets of [`Quoter::MARK`] seen since the start of the line; `None` further into a line.
    seen: Option<usize>,
}

impl<W: Write> Quoter<W> {
    const MARK: &'static [u8] = b"From ";

    fn new(writer: W) -> Self {
        Self {
            writer,
            seen: Some(0),
        }
    }

    fn put(&mut self, octet: u8) -> io::Result<()> {
        if let Some(seen) = self.seen {
            if Self::MARK.get(seen) == Some(&octet) {
                if seen + 1 < Self::MARK.len() {
                    self.seen = Some(seen + 1);
                    return Ok(());
                }
                self.writer.write_all(b">")?;
            }
            self.release(seen)?;
        }
        self.writer.write_all(&[octet])?;
        self.seen = (octet == b'\n').then_some(0);
        Ok(())
    }

    /// Writes the part of the mark that was held back.
    fn release(&mut self, seen: usize) -> io::Result<()> {
        self.writer
            .write_all(Self::MARK.get(..seen).unwrap_or_default())
    }

    fn finish(mut self) -> io::Result<()> {
        match self.seen {
            Some(0) => self.writer.write_all(b"\n"),
            Some(seen) => {
                self.release(seen)?;
                self.writer.write_all(b"\n\n")
            }
            None => self.writer.write_all(b"\n\n"),
        }
    }
}

impl<W: Write> Write for Quoter<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        for octet in octets {
            self.put(*octet)?;
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A temporary fault: what could not be done, to what, and why.
fn fault<E: Into<io::Error>>(verb: &str, object: impl fmt::Display) -> impl FnOnce(E) -> Fault {
    move |cause| Fault::temporary(format_args!("cannot {verb} {object}: {}", cause.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const DATE: Timestamp = Timestamp::UNIX_EPOCH;

    fn append_to(path: &Path, text: &[u8]) -> Result<(), Fault> {
        deliver(&mut &*text, path, "a@example.org", DATE)
    }

    fn quoted(pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut quoter = Quoter::new(&mut out);
        for piece in pieces {
            quoter.write_all(piece).unwrap();
        }
        quoter.finish().unwrap();
        out
    }

    #[test]
    fn from_lines_are_quoted_wherever_the_pieces_end() {
        let text = b"From x\nFro\nFrom\nFrom \n From y\n>From z\nFFrom w\n\nFrom \xe9nd";
        let want = b">From x\nFro\nFrom\n>From \n From y\n>From z\nFFrom w\n\n>From \xe9nd\n\n";
        for cut in 0..=text.len() {
            let (head, tail) = text.split_at(cut);
            assert_eq!(quoted(&[head, tail]), want, "cut at {cut}");
        }
        assert_eq!(quoted(&[b"x\nFro"]), b"x\nFro\n\n");
        assert_eq!(quoted(&[b"x\n"]), b"x\n\n");
    }

    #[test]
    fn messages_follow_each_other_with_a_blank_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("box");
        append_to(&path, b"one\n").unwrap();
        append_to(&path, b"two\n").unwrap();
        let line = "From a@example.org Thu Jan  1 00:00:00 1970\n";
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{line}one\n\n{line}two\n\n")
        );
        assert!(!dir.path().join("box.lock").exists());
    }

    #[test]
    fn a_message_cut_by_a_crash_does_not_swallow_the_next() {
        let check = |left: &str, want: &str| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("box");
            fs::write(&path, left).unwrap();
            append_to(&path, b"new\n").unwrap();
            let all = fs::read_to_string(&path).unwrap();
            assert!(all.starts_with(&format!("{want}From a@")), "{all:?}");
        };
        check("", "");
        check("x\n\n", "x\n\n");
        check("x\n", "x\n\n");
        check("x", "x\n\n");
        check("\n", "\n\n");
    }

    #[test]
    fn links_and_special_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("box");
        fs::write(&path, "kept").unwrap();
        let (soft, hard) = (dir.path().join("soft"), dir.path().join("hard"));
        std::os::unix::fs::symlink(&path, &soft).unwrap();
        fs::hard_link(&path, &hard).unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for refused in [&soft, &hard, &path, &fifo, &dir.path().to_owned()] {
            let fault = append_to(refused, b"x\n").unwrap_err();
            assert_eq!(fault.code(), 75, "{fault}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    }

    #[test]
    fn input_that_fails_leaves_the_file_as_it_was() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("box");
        append_to(&path, b"one\n").unwrap();
        let before = fs::read(&path).unwrap();
        let large = vec![b'x'; 300 << 10];
        let mut input = large.as_slice().chain(Broken);
        deliver(&mut input, &path, "", DATE).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), before);
        assert!(!dir.path().join("box.lock").exists());
    }

    #[test]
    fn a_dot_lock_of_another_program_is_respected_until_it_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        let (path, lock) = (dir.path().join("box"), dir.path().join("box.lock"));
        let held = File::create(&lock).unwrap();
        let fault = append_to(&path, b"x\n").unwrap_err();
        assert!(
            fault.to_string().ends_with("is locked by another program"),
            "{fault}"
        );
        held.set_modified(SystemTime::now() - DOTLOCK_STALE)
            .unwrap();
        append_to(&path, b"x\n").unwrap();
        assert!(!lock.exists());
    }

    #[test]
    fn the_separator_line_has_no_blank_but_its_own() {
        assert_eq!(
            from_line("\"a b\"@c", DATE),
            "From \"a_b\"@c Thu Jan  1 00:00:00 1970\n"
        );
        assert_eq!(
            from_line("", DATE),
            "From MAILER-DAEMON Thu Jan  1 00:00:00 1970\n"
        );
    }
}
