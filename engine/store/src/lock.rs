//! The lock on a spool directory: one writer at a time, and who it is.
//!
//! Promises: the lock is held until it is dropped or the process ends, however it ends.
//! Absent on purpose: waiting. Readers of a stopped store take no lock.
//! Fails: with `StoreError::Locked` and the holder's process id as written in the file.

use redspool_core::queue::StoreError;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A held lock.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock at `path` or says who has it.
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        let failed = |why: std::io::Error| StoreError::Io(format!("{}: {why}", path.display()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Whoever holds it may be just writing its number: then it is not known.
                let holder = match (&mut file).take(16).read_to_string(&mut text) {
                    Ok(_) => text.trim().parse().ok(),
                    Err(_) => None,
                };
                return Err(StoreError::Locked { holder });
            }
            Err(why) => return Err(failed(why.into())),
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The number of a process that is gone must not be blamed; failing to erase it is harmless.
        let _ = self.0.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_learns_who_holds_it() {
        let spool = tempfile::tempdir().unwrap();
        let path = spool.path().join("lock");
        let first = Lock::take(&path).unwrap();
        let holder = Some(std::process::id());
        assert_eq!(
            Lock::take(&path).unwrap_err(),
            StoreError::Locked { holder }
        );
        drop(first);
        assert!(Lock::take(&path).is_ok());
    }
}
