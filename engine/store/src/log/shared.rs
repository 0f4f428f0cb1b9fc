//! What the writer, its background work and all readers have in common, and how records are
//! found through it.
//!
//! Promises: a record is given as it lies there; whoever asked for it proves it. A look-up that
//! lost a race against a checkpoint or against the recycling of a segment is made again, so damage
//! is only reported where it is.
//! Absent on purpose: changing anything but through the index.
//! Fails: with the media's and redb's errors.

use super::control::Controls;
use super::database::Database;
use super::index::{Index, Whereabouts};
use super::place::Place;
use super::slots::Marks;
use super::table::Table;
use crate::media::MediaFile;
use crate::record::{self, Damage};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::StoreError;
use std::borrow::Cow;
use std::hash::Hasher as _;
use std::io;
use twox_hash::xxhash3_64::Hasher;

/// Octets read at once for a record whose length is not known: most envelopes fit.
const GUESS: usize = 2048;

/// How often a look-up is made again before what it found counts.
const TRIES: usize = 5;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) index: RwLock<Index>,
    pub(super) table: Mutex<Table>,
    pub(super) database: Database,
    pub(super) controls: Controls,
    /// Read beside a daemon that goes on: what has changed since then is not damage.
    pub(super) beside: bool,
}

/// What an operating system's error means to us.
pub(super) fn io_fault(why: &io::Error) -> StoreError {
    match why.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full
        }
        _ => StoreError::Io(why.to_string()),
    }
}

/// The record at an offset of a file, unproven; damage if there can be none.
pub(super) fn record_at(
    file: &dyn MediaFile,
    offset: u32,
) -> Result<Result<Vec<u8>, Damage>, StoreError> {
    let mut octets = vec![0; GUESS];
    let failed = |why: io::Error| io_fault(&why);
    let read = file.read(u64::from(offset), &mut octets).map_err(failed)?;
    octets.truncate(read);
    let Some(length) = record::claimed(&octets) else {
        return Ok(Err(Damage::new("record is cut short")));
    };
    if length > octets.len() {
        let end = file.length().map_err(failed)?;
        if u64::from(offset).saturating_add(length as u64) > end {
            return Ok(Err(Damage::new("record is cut short")));
        }
        octets.resize(length, 0);
        let rest = octets.get_mut(read..).unwrap_or_default();
        let more = file
            .read(u64::from(offset) + read as u64, rest)
            .map_err(failed)?;
        octets.truncate(read + more);
    }
    if octets.len() < length {
        return Ok(Err(Damage::new("record is cut short")));
    }
    octets.truncate(length);
    Ok(Ok(octets))
}

/// An envelope as it is read: its record with the marks the index has for it.
pub(super) fn marked(mut envelope: Envelope, marks: Marks) -> Envelope {
    envelope.flags.suspended = marks.suspended;
    envelope.flags.maybe_duplicated |= marks.duplicated;
    envelope
}

impl Shared {
    /// The file of a place.
    pub(super) fn file(&self, place: Place) -> Result<std::sync::Arc<dyn MediaFile>, Damage> {
        let found = self.table.lock().file(place.slot);
        found
            .map(|(file, _)| file)
            .ok_or_else(|| Damage::new("its log segment is missing"))
    }

    /// A record in the log, unproven.
    pub(super) fn logged(&self, place: Place) -> Result<Result<Vec<u8>, Damage>, StoreError> {
        let record = match self.file(place) {
            Ok(file) => record_at(&*file, place.offset)?,
            Err(damage) => Err(damage),
        };
        Ok(record.map(|record| self.believed(record)))
    }

    /// The planted bug: proofs are made up instead of compared.
    pub(super) fn believed(&self, mut record: Vec<u8>) -> Vec<u8> {
        if self.controls.proof_not_compared {
            record::reseal(&mut record);
        }
        record
    }

    /// The record of an envelope, unproven.
    pub(super) fn envelope_record(
        &self,
        id: EnvelopeId,
        whereabouts: Whereabouts,
    ) -> Result<Result<Vec<u8>, Damage>, StoreError> {
        match whereabouts {
            Whereabouts::Log(place) => self.logged(place),
            Whereabouts::Database => {
                let row = self.database.envelope(id)?;
                let row = row.ok_or_else(|| Damage::new("envelope record is missing"));
                Ok(row.map(|record| self.believed(record)))
            }
        }
    }

    /// Looks something up, reads it where it lies, and, if that is damaged, looks again: it may
    /// have moved meanwhile. `None` from the look-up ends it.
    pub(super) fn settled<L: PartialEq + Clone, T>(
        &self,
        message: MessageId,
        look: impl Fn(&Index) -> Option<L>,
        mut read: impl FnMut(&L) -> Result<Result<T, Damage>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut before = None;
        for _ in 0..TRIES {
            let Some(found) = look(&self.index.read()) else {
                return Ok(None);
            };
            match read(&found)? {
                Ok(value) => return Ok(Some(value)),
                Err(damage) => {
                    if before.as_ref() == Some(&found) {
                        return Err(self.damaged(message, damage));
                    }
                    before = Some(found);
                }
            }
        }
        Err(StoreError::Io(format!(
            "message {message} moves faster than it can be read"
        )))
    }

    /// What damage means to a reader.
    fn damaged(&self, message: MessageId, damage: Damage) -> StoreError {
        if self.beside && self.database.overtaken() {
            return StoreError::Io(
                "the queue changed while it was read: a daemon has started, ask it instead".into(),
            );
        }
        damage.of(message)
    }

    /// One queued envelope.
    pub(super) fn envelope(&self, id: EnvelopeId) -> Result<Option<Envelope>, StoreError> {
        self.found(id, |index| index.envelope(id))
    }

    /// One envelope, queued or in the trash.
    pub(super) fn stored(&self, id: EnvelopeId) -> Result<Option<Envelope>, StoreError> {
        self.found(id, |index| index.stored(id))
    }

    fn found(
        &self,
        id: EnvelopeId,
        look: impl Fn(&Index) -> Option<(Marks, Whereabouts)>,
    ) -> Result<Option<Envelope>, StoreError> {
        self.settled(id.message(), look, |(marks, whereabouts)| {
            let record = self.envelope_record(id, *whereabouts)?;
            let envelope = record.and_then(|record| record::open_envelope(id, &record));
            Ok(envelope.map(|envelope| marked(envelope, *marks)))
        })
    }

    /// What is kept about a message, read where it lies.
    pub(super) fn row(
        &self,
        message: MessageId,
        at: Place,
    ) -> Result<Result<record::Row, Damage>, StoreError> {
        let record = self.logged(at)?;
        Ok(record.and_then(|record| record::Row::open(message, &record)))
    }

    /// What is kept about a message, and the first piece of its content, read at once. `octets` is
    /// what the record and all pieces take.
    pub(super) fn front(
        &self,
        message: MessageId,
        at: Place,
        octets: u32,
    ) -> Result<Result<(record::Row, Bytes), Damage>, StoreError> {
        let file = match self.file(at) {
            Ok(file) => file,
            Err(damage) => return Ok(Err(damage)),
        };
        let length = usize::try_from(octets).unwrap_or(usize::MAX);
        let mut front = vec![0; length.min(record::FRONT)];
        let read = file.read(u64::from(at.offset), &mut front);
        front.truncate(read.map_err(|why| io_fault(&why))?);
        Ok(self.opened(message, octets, &Bytes::from(front)))
    }

    /// The two records that `front` begins with.
    fn opened(
        &self,
        message: MessageId,
        octets: u32,
        front: &Bytes,
    ) -> Result<(record::Row, Bytes), Damage> {
        let cut = || Damage::new("record is cut short");
        let own = front.get(..record::MESSAGE).ok_or_else(cut)?;
        let row = record::Row::open(message, &self.trusted(own))?;
        if row.octets()? != u64::from(octets) {
            return Err(Damage::new("its content is not where its summary says"));
        }
        let behind = front.get(record::MESSAGE..).unwrap_or_default();
        let length = record::claimed(behind).ok_or_else(cut)?;
        let body = behind.get(..length).ok_or_else(cut)?;
        let length = record::open_body(&row, 0, &self.trusted(body))?.len();
        let start = record::MESSAGE + record::HEAD;
        Ok((row, front.slice(start..start + length)))
    }

    /// A record as it is, but for the planted bug.
    pub(super) fn trusted<'r>(&self, record: &'r [u8]) -> Cow<'r, [u8]> {
        if self.controls.proof_not_compared {
            Cow::Owned(self.believed(record.to_vec()))
        } else {
            Cow::Borrowed(record)
        }
    }

    /// One piece of a content whose message record is at `at`.
    pub(super) fn piece(
        &self,
        row: &record::Row,
        at: Place,
        index: u32,
    ) -> Result<Result<Bytes, Damage>, StoreError> {
        let Some(place) = piece_place(at, index) else {
            return Ok(Err(Damage::new("content lies beyond its segment")));
        };
        let record = self.logged(place)?;
        Ok(record.and_then(|record| {
            let piece = record::open_body(row, index, &record)?.len();
            Ok(Bytes::from(record).slice(record::HEAD..record::HEAD + piece))
        }))
    }

    /// Whether all of a content is there and agrees with its message.
    pub(super) fn prove(
        &self,
        message: MessageId,
        at: Place,
    ) -> Result<Result<(), Damage>, StoreError> {
        let row = match self.row(message, at)? {
            Ok(row) => row,
            Err(damage) => return Ok(Err(damage)),
        };
        let pieces = match row.pieces() {
            Ok(pieces) => pieces,
            Err(damage) => return Ok(Err(damage)),
        };
        let mut digest = Hasher::new();
        for index in 0..pieces {
            match self.piece(&row, at, index)? {
                Ok(piece) => digest.write(&piece),
                Err(damage) => return Ok(Err(damage)),
            }
        }
        if digest.finish() == row.digest {
            return Ok(Ok(()));
        }
        Ok(Err(Damage::new("content does not match its digest")))
    }
}

/// Where piece `index` of a content lies: all pieces but the last are of one length.
fn piece_place(at: Place, index: u32) -> Option<Place> {
    let full = u32::try_from(record::HEAD + record::CHUNK).ok()?;
    let message = u32::try_from(record::MESSAGE).ok()?;
    let offset = full.checked_mul(index)?.checked_add(message)?;
    Some(Place {
        offset: at.offset.checked_add(offset)?,
        ..at
    })
}
