//! Whose files a store's are.
//!
//! What: root may care for the store of a daemon that runs as another user. Then everything that is done to the
//! store is done with that user's rights on files (setfsuid(2)), so that a store never holds a file
//! its daemon cannot open, wherever the work ends. Threads of the store are started under them
//! and keep them.

use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};
use redspool_core::queue::StoreError;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The owner of a spool, if that is not us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rights(Option<(Uid, Gid)>);

impl Rights {
    /// Those for the spool in this directory.
    pub(crate) fn on(spool: &Path) -> io::Result<Self> {
        let facts = std::fs::metadata(spool)?;
        let owner = (Uid::from_raw(facts.uid()), Gid::from_raw(facts.gid()));
        let other = geteuid().is_root() && !owner.0.is_root();
        Ok(Self(other.then_some(owner)))
    }

    /// Does something to the store.
    pub(crate) fn used<T>(self, work: impl FnOnce() -> T) -> T {
        let Some((uid, gid)) = self.0 else {
            return work();
        };
        // The group first: it takes root's rights to change it.
        let gid = setfsgid(gid);
        let _restored = Restored(setfsuid(uid), gid);
        work()
    }
}

/// Does something to the store in a directory, with its owner's rights.
pub(crate) fn changed<T>(
    spool: &Path,
    work: impl FnOnce(&Path) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let rights = Rights::on(spool).map_err(|_| StoreError::Absent)?;
    rights.used(|| work(spool))
}

/// Gives the rights back that there were before.
struct Restored(Uid, Gid);

impl Drop for Restored {
    fn drop(&mut self) {
        setfsuid(self.0);
        setfsgid(self.1);
    }
}
