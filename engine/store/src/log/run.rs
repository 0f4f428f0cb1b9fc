//! Records of the log that are read in the order of their keys, which often is that of their places.
//!
//! What: the envelopes of a message lie one behind the other; when one is asked for right behind the
//! one before, many are read at once.
//! Promises: a record is given as it lies there, unproven.
//! Absent on purpose: keeping more than one piece of the log.
//! Fails: with the media's errors; with damage where there can be no record.

use super::place::Place;
use super::shared::{Shared, io_fault};
use crate::record::{self, Damage};
use redspool_core::queue::StoreError;

/// Octets read at once where records follow each other.
const PIECE: usize = 64 << 10;

/// A reader of records.
#[derive(Debug)]
pub(super) struct Run<'a> {
    shared: &'a Shared,
    /// Where the octets begin.
    at: Place,
    octets: Vec<u8>,
    /// Right behind the last record that was given.
    next: Option<Place>,
}

impl<'a> Run<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            at: Place { slot: 0, offset: 0 },
            octets: Vec::new(),
            next: None,
        }
    }

    /// The record at a place, unproven.
    pub(super) fn record(&mut self, place: Place) -> Result<Result<Vec<u8>, Damage>, StoreError> {
        let shared = self.shared;
        let follows = self.next == Some(place);
        let found = match self.known(place) {
            None if follows => self.fetched(place)?,
            known => known,
        };
        let record = match found {
            Some(record) => shared.trusted(record).into_owned(),
            None => match shared.logged(place)? {
                Ok(record) => record,
                damage => return Ok(damage),
            },
        };
        self.next = Some(place.plus(record.len()));
        Ok(Ok(record))
    }

    /// The record if all of it has been read already.
    fn known(&self, place: Place) -> Option<&[u8]> {
        if place.slot != self.at.slot {
            return None;
        }
        let skip = usize::try_from(place.offset.checked_sub(self.at.offset)?).ok()?;
        let rest = self.octets.get(skip..)?;
        rest.get(..record::claimed(rest)?)
    }

    /// Reads on from a place; gives the record if it is that small.
    fn fetched(&mut self, place: Place) -> Result<Option<&[u8]>, StoreError> {
        let Ok(file) = self.shared.file(place) else {
            return Ok(None);
        };
        self.octets.resize(PIECE, 0);
        let read = file.read(u64::from(place.offset), &mut self.octets);
        self.octets.truncate(read.map_err(|why| io_fault(&why))?);
        self.at = place;
        Ok(self.known(place))
    }
}
