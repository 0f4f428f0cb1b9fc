//! Delivery to a Maildir.
//!
//! Promises: the message is written and synced under `tmp/`, then moved to `new/` without ever
//! replacing a file, then `new/` is synced; a reader never sees part of a message. Directories
//! that are missing are made with mode 0700, and are durable before the message is.
//! Absent on purpose: cleaning `tmp/` of others' leftovers, which is the reader's duty.
//! Fails: always temporarily; the file under `tmp/` is removed.

use super::Fault;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Names drawn before we give up: with 32 random bits even the second one is never needed.
const NAMES_MAX: usize = 8;

/// Delivers `input` to the Maildir at `path`, or to its folder `.extension` if there is one.
/// `names` gives a file name never used before; when it does not, the next one is tried.
pub fn deliver(
    input: &mut impl Read,
    path: &Path,
    extension: &str,
    mut names: impl FnMut() -> String,
) -> Result<(), Fault> {
    let maildir = open_or_make(path)?;
    let maildir = match folder(extension) {
        Some(folder) => open_directory(&maildir, &folder).unwrap_or(maildir),
        None => maildir,
    };
    make_parts(&maildir)?;
    let part = |name| open_directory(&maildir, name).map_err(fault("open", name));
    let (tmp, new) = (part("tmp")?, part("new")?);

    for _ in 0..NAMES_MAX {
        let name = names();
        let file = match create(&tmp, &name) {
            Err(Errno::EXIST) => continue,
            file => File::from(file.map_err(fault("create a file in", "tmp"))?),
        };
        let written = write(input, file).and_then(|()| publish(&tmp, &new, &name, &mut names));
        if written.is_err() {
            // It is gone already if it was the last step that failed.
            let _ = rustix::fs::unlinkat(&tmp, name.as_str(), AtFlags::empty());
        }
        return written;
    }
    Err(Fault::temporary("no free file name in tmp"))
}

/// A name for a new file, `EPOCH.RANDOM.HOSTNAME`.
pub fn unique_name(epoch: u64, random: u32, hostname: &str) -> String {
    // The characters that mean something in a Maildir, as its authors write them.
    let hostname = hostname.replace('/', "\\057").replace(':', "\\072");
    format!("{epoch}.{random:08x}.{hostname}")
}

/// The folder for an extension: `.EXTENSION` with everything a shell or a path could take amiss
/// replaced by `:`; none if it is empty or could name a parent directory.
fn folder(extension: &str) -> Option<String> {
    if extension.is_empty() || extension.starts_with('.') {
        return None;
    }
    let harmless = |c: char| !c.is_control() && !"/\\!#$%&'*?`{|}~\"();<>[] ".contains(c);
    let name = extension.chars().map(|c| if harmless(c) { c } else { ':' });
    Some(std::iter::once('.').chain(name).collect())
}

fn open_or_make(path: &Path) -> Result<OwnedFd, Fault> {
    make(path)
        .and_then(|()| {
            rustix::fs::openat(
                CWD,
                path,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        })
        .map_err(fault("open", path.display()))
}

/// Makes a directory and its missing parents, each durable in its own parent.
fn make(path: &Path) -> Result<(), Errno> {
    let made = match rustix::fs::mkdir(path, Mode::RWXU) {
        Err(Errno::NOENT) => {
            let parent = path.parent().ok_or(Errno::NOENT)?;
            make(parent)?;
            rustix::fs::mkdir(path, Mode::RWXU)
        }
        made => made,
    };
    match (made, path.parent()) {
        (Err(Errno::EXIST), _) | (Ok(()), None) => Ok(()),
        (Ok(()), Some(parent)) => {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            let parent = rustix::fs::open(
                parent,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            rustix::fs::fsync(parent)
        }
        (Err(cause), _) => match rustix::fs::stat(path) {
            // A parent may be closed to us, or read-only, and the directory be there all the same.
            Ok(_) => Ok(()),
            Err(_) => Err(cause),
        },
    }
}

fn make_parts(maildir: &OwnedFd) -> Result<(), Fault> {
    let mut made = false;
    for part in ["tmp", "new", "cur"] {
        match rustix::fs::mkdirat(maildir, part, Mode::RWXU) {
            Ok(()) => made = true,
            Err(Errno::EXIST) => {}
            Err(cause) => return Err(fault("make", part)(cause)),
        }
    }
    if made {
        rustix::fs::fsync(maildir).map_err(fault("sync", "the maildir"))?;
    }
    Ok(())
}

fn open_directory(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn create(tmp: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        tmp,
        name,
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )
}

fn write(input: &mut impl Read, mut file: File) -> Result<(), Fault> {
    io::copy(input, &mut file)
        .and_then(|_| file.sync_all())
        .map_err(fault("write", "the message"))
}

/// Moves `tmp/name` into `new/`, there under the first name that is free.
fn publish(
    tmp: &OwnedFd,
    new: &OwnedFd,
    name: &str,
    names: &mut impl FnMut() -> String,
) -> Result<(), Fault> {
    let mut target = name.to_owned();
    for _ in 0..NAMES_MAX {
        match move_without_replacing(tmp, new, name, &target) {
            Err(Errno::EXIST) => target = names(),
            Err(cause) => return Err(fault("move the message to", "new")(cause)),
            Ok(()) => {
                return rustix::fs::fsync(new).map_err(|cause| {
                    // It is not known to be durable, and will be delivered again.
                    let _ = rustix::fs::unlinkat(new, target.as_str(), AtFlags::empty());
                    fault("sync", "new")(cause)
                });
            }
        }
    }
    Err(Fault::temporary("no free file name in new"))
}

fn move_without_replacing(
    tmp: impl AsFd,
    new: impl AsFd,
    name: &str,
    target: &str,
) -> Result<(), Errno> {
    match rustix::fs::renameat_with(&tmp, name, &new, target, RenameFlags::NOREPLACE) {
        // File systems that cannot do it, like NFS, have hard links.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            rustix::fs::linkat(&tmp, name, &new, target, AtFlags::empty())?;
            let _ = rustix::fs::unlinkat(&tmp, name, AtFlags::empty());
            Ok(())
        }
        moved => moved,
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

    fn files(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn deliver_named(path: &Path, text: &str, names: &[&str]) -> Result<(), Fault> {
        let mut names = names.iter().map(|name| (*name).to_owned());
        deliver(&mut text.as_bytes(), path, "", || names.next().unwrap())
    }

    #[test]
    fn a_file_that_is_there_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/Maildir");
        deliver_named(&path, "one\n", &["x"]).unwrap();
        deliver_named(&path, "two\n", &["x", "y"]).unwrap();
        fs::write(path.join("tmp/z"), "foreign").unwrap();
        deliver_named(&path, "three\n", &["z", "x", "w"]).unwrap();

        assert_eq!(files(&path.join("new")), ["w", "x", "y"]);
        assert_eq!(files(&path.join("tmp")), ["z"]);
        assert_eq!(fs::read_to_string(path.join("new/x")).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(path.join("new/y")).unwrap(), "two\n");
        assert_eq!(fs::read_to_string(path.join("new/w")).unwrap(), "three\n");
    }

    #[test]
    fn input_that_fails_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let mut input = b"part of it\n".chain(Broken);
        let fault = deliver(&mut input, dir.path(), "", || "x".into()).unwrap_err();
        assert_eq!(fault.code(), 75);
        assert!(files(&dir.path().join("new")).is_empty());
        assert!(files(&dir.path().join("tmp")).is_empty());
    }

    #[test]
    fn an_extension_never_leaves_the_maildir() {
        let check = |extension, want: Option<&str>| {
            assert_eq!(folder(extension).as_deref(), want, "{extension:?}");
        };
        check("", None);
        check("lists", Some(".lists"));
        check("a.b", Some(".a.b"));
        check(".", None);
        check("./x", None);
        check("../../x", None);
        check("a/../../x", Some(".a:..:..:x"));
        check("a b$(c)\u{7f}", Some(".a:b::c::"));
    }

    #[test]
    fn names_hold_no_separator() {
        assert_eq!(
            unique_name(1_700_000_000, 0xab, "mx/1:a"),
            "1700000000.000000ab.mx\\0571\\072a"
        );
    }
}
