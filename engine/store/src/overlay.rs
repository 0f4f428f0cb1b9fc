//! A view of a database file that keeps every write in memory.
//!
//! What: a redb backend above a file opened for reading; changed blocks live in memory, so redb's
//! own repair after a crash happens there.
//! Promises: no octet of the file is written, no lock is taken. If a daemon begins to write the
//! file meanwhile, reads fail instead of mixing old and new.
//! Absent on purpose: persistence.
//! Fails: with I/O errors, which redb passes on.

use crate::media::{MediaFile, read_exact};
use crate::redb::{Shared, fault, guarded};
use crate::wary::Wary;
use ::redb::{Builder, StorageBackend};
use parking_lot::Mutex;
use redspool_core::queue::StoreError;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Octets of the unit that is copied when it is written to.
const BLOCK: usize = 4096;

/// Octets at the start of the file that every commit changes (redb's header has 320).
const HEADER: usize = 320;

#[derive(Debug)]
pub(crate) struct Overlay {
    file: Arc<dyn MediaFile>,
    /// The header when the view was made.
    header: Vec<u8>,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    length: u64,
    /// How much of the file still shows; it only shrinks.
    visible: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl Overlay {
    pub(crate) fn new(file: Arc<dyn MediaFile>) -> std::result::Result<Self, StoreError> {
        let failed = |why: Error| fault(::redb::Error::Io(why));
        let length = file.length().map_err(failed)?;
        let mut header = vec![0; HEADER];
        read_exact(&*file, 0, &mut header).map_err(|why| {
            if why.kind() == ErrorKind::UnexpectedEof {
                StoreError::Unreadable("the file is too short to be a database".into())
            } else {
                failed(why)
            }
        })?;
        Ok(Self {
            file,
            header,
            memory: Mutex::new(Memory {
                length,
                visible: length,
                blocks: BTreeMap::new(),
            }),
        })
    }

    /// Opens the database seen through this view.
    pub(crate) fn open(self, cache: usize) -> std::result::Result<Shared, StoreError> {
        guarded(|| {
            let mut builder = Builder::new();
            builder.set_cache_size(cache);
            let database = builder.create_with_backend(Wary(self)).map_err(fault)?;
            Ok(Shared::writable(database))
        })
    }

    /// Whether the file is as it was. Whoever commits to it changes its header before it reuses a
    /// page of the commit before.
    fn unchanged(&self) -> Result<()> {
        let mut header = [0; HEADER];
        read_exact(&*self.file, 0, &mut header)?;
        if header[..] == self.header[..] {
            return Ok(());
        }
        Err(Error::other(
            "the queue changed while it was read: a daemon has started, ask it instead",
        ))
    }

    /// Fills `out` from the file; what lies behind its visible end is zero.
    fn read_file(&self, visible: u64, offset: u64, out: &mut [u8]) -> Result<()> {
        let there = usize::try_from(visible.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (there, behind) = out.split_at_mut(there.min(out.len()));
        behind.fill(0);
        read_exact(&*self.file, offset, there)
    }
}

/// The parts of an extent of the file that lie within one block each: number, place in the block,
/// place in the extent.
fn blocks(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let position = offset + done as u64;
        let within = usize::try_from(position % BLOCK as u64).unwrap_or(0);
        let part = (BLOCK - within).min(length - done);
        let range = done..done + part;
        done += part;
        Some((position / BLOCK as u64, within, range))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> Result<u64> {
        Ok(self.memory.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let memory = self.memory.lock();
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > memory.length) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.read_file(memory.visible, offset, out)?;
        self.unchanged()?;
        for (block, within, range) in blocks(offset, out.len()) {
            if let Some(changed) = memory.blocks.get(&block) {
                let length = range.len();
                out[range].copy_from_slice(&changed[within..within + length]);
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<()> {
        let mut memory = self.memory.lock();
        if length < memory.length {
            memory.visible = memory.visible.min(length);
            let cut = length / BLOCK as u64;
            memory.blocks.split_off(&length.div_ceil(BLOCK as u64));
            if let Some(block) = memory.blocks.get_mut(&cut) {
                let keep = usize::try_from(length % BLOCK as u64).unwrap_or(0);
                block[keep..].fill(0);
            }
        }
        memory.length = length;
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut memory = self.memory.lock();
        let visible = memory.visible;
        for (number, within, range) in blocks(offset, data.len()) {
            let part = &data[range];
            let block = match memory.blocks.entry(number) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let mut block = Box::new([0; BLOCK]);
                    self.read_file(visible, number * BLOCK as u64, &mut block[..])?;
                    entry.insert(block)
                }
            };
            block[within..within + part.len()].copy_from_slice(part);
        }
        let end = offset + data.len() as u64;
        memory.length = memory.length.max(end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn overlay(octets: &[u8]) -> Overlay {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(octets).unwrap();
        Overlay::new(Arc::new(file)).unwrap()
    }

    fn read(overlay: &Overlay, offset: u64, length: usize) -> Vec<u8> {
        let mut out = vec![0xee; length];
        overlay.read(offset, &mut out).unwrap();
        out
    }

    #[test]
    fn writes_show_and_leave_the_file_alone() {
        let overlay = overlay(&[7; 10_000]);
        overlay.write(4090, &[1; 10]).unwrap();
        let mut want = vec![7; 10_000];
        want[4090..4100].fill(1);
        assert_eq!(read(&overlay, 0, 10_000), want);
        let mut under = vec![0; 10_000];
        read_exact(&*overlay.file, 0, &mut under).unwrap();
        assert_eq!(under, [7; 10_000]);
    }

    #[test]
    fn what_was_cut_off_comes_back_as_zero() {
        let overlay = overlay(&[7; 10_000]);
        overlay.write(9000, &[1; 500]).unwrap();
        overlay.set_len(5000).unwrap();
        overlay.set_len(10_000).unwrap();
        let mut want = vec![0; 10_000];
        want[..5000].fill(7);
        assert_eq!(read(&overlay, 0, 10_000), want);
        assert!(overlay.read(9_999, &mut [0; 2]).is_err());
    }

    #[test]
    fn a_file_that_changes_underneath_is_noticed() {
        let overlay = overlay(&[7; 10_000]);
        overlay.file.write(9, &[&[8]]).unwrap();
        let why = overlay.read(5000, &mut [0; 10]).unwrap_err();
        assert!(why.to_string().contains("a daemon has started"));
    }
}
