//! Large messages: written by their own sessions while the log goes on.
//!
//! What: segments in which ranges are reserved; a session writes its message record and content
//! there, and the log then only says where.
//! Promises: one piece of a content is in memory at a time. A range is not used again before its
//! session has ended and nothing queued lies in the segment.
//! Absent on purpose: the sync; the writer does it before it logs the reference.
//! Fails: with the media's errors, and for a content that is longer than announced.

use super::place::Place;
use super::segment::{HEADER, Use};
use super::shared::{Shared, io_fault};
use super::table::{Taken, Taker};
use crate::media::MediaFile;
use parking_lot::Mutex;
use redspool_core::queue::StoreError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The segment that ranges are taken from now.
#[derive(Debug)]
pub(super) struct Extents {
    shared: Arc<Shared>,
    current: Mutex<Option<(Taken, u32)>>,
    /// The first checkpoint that will know of what happens now; kept by the writer.
    coming: Arc<AtomicU64>,
}

/// A range of a segment that is one session's.
#[derive(Debug)]
pub(super) struct Reservation {
    shared: Arc<Shared>,
    pub(super) at: Place,
    pub(super) sequence: u64,
    pub(super) file: Arc<dyn MediaFile>,
    octets: u32,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.table.lock().reserve(self.at.slot, false);
    }
}

impl Extents {
    pub(super) fn new(shared: Arc<Shared>, coming: Arc<AtomicU64>) -> Self {
        Self {
            shared,
            current: Mutex::new(None),
            coming,
        }
    }

    /// Takes `need` octets.
    pub(super) fn reserve(&self, need: u64) -> Result<Reservation, StoreError> {
        let need = u32::try_from(need).map_err(|_| StoreError::Full)?;
        let mut current = self.current.lock();
        let (taken, offset) = match &*current {
            Some((taken, offset)) if taken.capacity - offset >= need => (taken.clone(), *offset),
            _ => {
                let mut table = self.shared.table.lock();
                let size = usize::try_from(need).map_err(|_| StoreError::Full)?;
                let taken = table
                    .take(Use::Extents, size, Taker::Mail)
                    .map_err(|why| io_fault(&why))?;
                if let Some((full, _)) = current.take() {
                    table.seal(full.slot, self.coming.load(Ordering::Relaxed));
                }
                drop(table);
                let index = self.shared.index.read();
                let (paused, epoch) = (index.paused, index.epoch);
                drop(index);
                taken
                    .begin(Use::Extents, None, 0, paused, epoch)
                    .map_err(|why| io_fault(&why))?;
                (taken, HEADER)
            }
        };
        self.shared.table.lock().reserve(taken.slot, true);
        let reservation = Reservation {
            shared: Arc::clone(&self.shared),
            at: Place {
                slot: taken.slot,
                offset,
            },
            sequence: taken.sequence,
            file: Arc::clone(&taken.file),
            octets: need,
        };
        *current = Some((taken, offset + need));
        Ok(reservation)
    }
}

impl Reservation {
    /// Writes so many octets from the start of the range.
    pub(super) fn write(&self, place: u64, octets: &[u8]) -> Result<(), StoreError> {
        if place + octets.len() as u64 > u64::from(self.octets) {
            return Err(StoreError::Io(
                "the content is longer than announced".into(),
            ));
        }
        let offset = u64::from(self.at.offset) + place;
        self.file
            .write(offset, &[octets])
            .map_err(|why| io_fault(&why))
    }
}
