//! Directories to measure in, and what they hold on the disk.
//!
//! Promises: a queue is measured on a disk or not at all: memory that poses as a file system is
//! refused, unless asked for.
//! Fails: with an `io::Error` that names the directory and how to mend it.

use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tempfile::TempDir;

/// A directory for a benchmark's files, gone when it is dropped: in `place`, or else on the disk
/// the build is on, because `/tmp` may be memory.
pub fn scratch(place: Option<&Path>) -> io::Result<TempDir> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let place = place.unwrap_or(&target);
    let named = |why: io::Error| io::Error::new(why.kind(), format!("{}: {why}", place.display()));
    fs::create_dir_all(place).map_err(named)?;
    tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(place)
        .map_err(named)
}

/// Refuses a directory that lies in memory: a sync costs nothing there.
pub fn refuse_memory(spool: &Path) -> io::Result<()> {
    let system = fstatfs(File::open(spool)?)?.filesystem_type();
    if system == TMPFS_MAGIC {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "{}: a tmpfs, where a sync costs nothing: name a directory on a disk with --spool, \
                 or take such figures with --force",
                spool.display()
            ),
        ));
    }
    Ok(())
}

/// Writes out what the file system of this directory still holds back, so that nobody pays for
/// what another left behind.
pub fn settle_disk(spool: &Path) -> io::Result<()> {
    nix::unistd::syncfs(File::open(spool)?)?;
    Ok(())
}

/// Reads all files below a directory, and so has them in the page cache, if it has room.
pub fn read_all(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.metadata()?.is_dir() {
            read_all(&entry.path())?;
        } else {
            io::copy(&mut File::open(entry.path())?, &mut io::sink())?;
        }
    }
    Ok(())
}

/// Octets that the files and directories below a directory take on the disk.
pub fn held(directory: &Path) -> io::Result<u64> {
    let mut octets = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        octets += metadata.blocks() * 512;
        if metadata.is_dir() {
            octets += held(&entry.path())?;
        }
    }
    Ok(octets)
}

/// Writes a new file, durable if `synced`.
pub(crate) fn write_all_synced(path: &Path, content: &[u8], synced: bool) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    if synced { file.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_directories_deep_down() {
        let spool = scratch(None).unwrap();
        let before = held(spool.path()).unwrap();
        let deep = spool.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        write_all_synced(&deep.join("c"), &[1; 10_000], true).unwrap();
        assert!(held(spool.path()).unwrap() - before >= 10_000);
    }

    #[test]
    fn memory_is_no_disk() {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            let why = refuse_memory(memory).unwrap_err().to_string();
            assert!(why.contains("/dev/shm") && why.contains("--force"), "{why}");
        }
        assert!(refuse_memory(Path::new("/proc")).is_ok());
    }
}
