//! A backend for redb that fails once redb has panicked.
//!
//! What: redb may panic on a page that was altered outside it. What it does then, on its way out,
//! can meet the same page again: a second panic, which ends the process. An error it handles.
//! Promises: from a panic on, the file is left as it is by the thread that panics.
//! Absent on purpose: everything else; the backend behind it does that.

use redb::{BackendError, StorageBackend};
use std::io::{Error, Result};
use std::ops::Bound;
use std::thread;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Wary<B>(pub(crate) B);

impl<B> Wary<B> {
    fn sound(&self) -> Result<&B> {
        if thread::panicking() {
            return Err(Error::other("the database is damaged"));
        }
        Ok(&self.0)
    }
}

impl<B: StorageBackend> StorageBackend for Wary<B> {
    fn len(&self) -> Result<u64> {
        self.sound()?.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.sound()?.read(offset, out)
    }

    fn set_len(&self, length: u64) -> Result<()> {
        self.sound()?.set_len(length)
    }

    fn sync_data(&self) -> Result<()> {
        self.sound()?.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.sound()?.write(offset, data)
    }

    fn close(&self) -> Result<()> {
        self.0.close()
    }

    fn try_lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}
