//! Segment files: their names and their heads.
//!
//! What: a segment is a file of fixed capacity that is used again and again; each life has a
//! sequence number of its own. A head takes its first page.
//! Promises: a head is written within one sector, so it is that of one life or of the other.
//! Absent on purpose: which segments there are (`table.rs`) and what is in them.
//! Fails: with [`Damage`] for a head that does not prove itself.

use crate::media::{Media, MediaFile};
use crate::record::{self, Damage, Kind};
use redspool_core::id::Epoch;
use redspool_core::queue::Paused;
use std::io;
use std::sync::Arc;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Octets that are set apart for the head; frames begin behind them.
pub(super) const HEADER: u32 = 4096;

/// Format of the store. The database has the same number, and a segment's head is read first: so
/// a database of another format is not even opened.
pub(super) const FORMAT: u32 = 3;

/// What a segment holds in this life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Transitions in the order of their commits.
    Hot = 1,
    /// Messages that were moved here.
    Cold = 2,
    /// Large messages, each written by its own session.
    Extents = 3,
}

/// No epoch has this number.
const NO_EPOCH: u32 = 0x1_0000;

/// A segment's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) usage: Use,
    pub(super) sequence: u64,
    /// Octets of the file, the head included.
    pub(super) capacity: u32,
    /// Of a hot segment: the hot segment before it and where its last group ended. What lies
    /// behind that was never acknowledged.
    pub(super) previous: Option<(u64, u32)>,
    /// Log sequence number of its first frame.
    pub(super) number: u64,
    /// What was paused and the last id epoch when this life began, in case the database is lost.
    pub(super) paused: Paused,
    pub(super) epoch: Option<Epoch>,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Value {
    format: U32,
    usage: U32,
    sequence: U64,
    number: U64,
    previous: U64,
    previous_end: U32,
    capacity: U32,
    paused: U32,
    /// [`Epoch::number`].
    epoch: U32,
}

impl Header {
    pub(super) fn seal(&self, slot: u32) -> Vec<u8> {
        let (previous, previous_end) = self.previous.unwrap_or((0, 0));
        let paused = u32::try_from(record::paused_bits(self.paused)).unwrap_or(0);
        let value = Value {
            format: FORMAT.into(),
            usage: (self.usage as u32).into(),
            sequence: self.sequence.into(),
            number: self.number.into(),
            previous: previous.into(),
            previous_end: previous_end.into(),
            capacity: self.capacity.into(),
            paused: paused.into(),
            epoch: self.epoch.map_or(NO_EPOCH, Epoch::number).into(),
        };
        record::seal(Kind::Segment, slot.into(), value.as_bytes())
    }

    /// Reads the head at the start of a file; gives the format instead if it is another one.
    pub(super) fn open(slot: u32, octets: &[u8]) -> Result<Result<Self, u32>, Damage> {
        let length = record::claimed(octets).and_then(|length| octets.get(..length));
        let record = length.ok_or_else(|| Damage::new("segment record is cut short"))?;
        let value = record::value_of(Kind::Segment, slot.into(), record)?;
        let format = U32::ref_from_prefix(value).map(|(format, _)| format.get());
        match format {
            Ok(FORMAT) => {}
            Ok(other) => return Ok(Err(other)),
            Err(_) => return Err(Damage::new("segment record is cut short")),
        }
        let value = Value::ref_from_bytes(value)
            .map_err(|_| Damage::new("segment record has the wrong length"))?;
        let usage = match value.usage.get() {
            1 => Use::Hot,
            2 => Use::Cold,
            3 => Use::Extents,
            _ => return Err(Damage::new("segment of an unknown use")),
        };
        let previous = value.previous.get();
        Ok(Ok(Self {
            usage,
            sequence: value.sequence.get(),
            capacity: value.capacity.get(),
            previous: (previous != 0).then(|| (previous, value.previous_end.get())),
            number: value.number.get(),
            paused: record::paused_from(value.paused.get().into()),
            epoch: Epoch::from_number(value.epoch.get().into()),
        }))
    }
}

/// The file of a slot.
pub(super) fn name(slot: u32) -> String {
    format!("log.{slot:08x}")
}

/// The slot of a file; `None` if it is no segment.
pub(super) fn slot_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("log.").filter(|rest| rest.len() == 8)?;
    let slot = u32::from_str_radix(digits, 16).ok()?;
    (self::name(slot) == name && slot != u32::MAX).then_some(slot)
}

/// Makes the file of a slot, its disk space set apart. Its octets are not written in advance: what
/// that saves at the first use it costs before, and a queue that grows would be written twice.
pub(super) fn make(media: &dyn Media, slot: u32, capacity: u32) -> io::Result<Arc<dyn MediaFile>> {
    let file = media.create(&name(slot))?;
    let made = file
        .reserve(u64::from(capacity))
        .and_then(|()| file.set_length(u64::from(capacity)))
        .and_then(|()| file.sync())
        .and_then(|()| media.sync_names());
    if let Err(why) = made {
        // Half a segment is none, and holds space that is short.
        let _ = media.remove(&name(slot));
        return Err(why);
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_and_fits_a_sector() {
        let header = Header {
            usage: Use::Cold,
            sequence: 9,
            capacity: 1 << 20,
            previous: Some((8, 4711)),
            number: 99,
            paused: Paused {
                mta: true,
                ..Paused::default()
            },
            epoch: Epoch::from_number(0x6_ffff),
        };
        let mut octets = header.seal(5);
        assert!(octets.len() <= 512);
        octets.resize(4096, 0xee);
        assert_eq!(Header::open(5, &octets), Ok(Ok(header)));
        assert!(Header::open(6, &octets).is_err());
        octets[30] ^= 1;
        assert!(Header::open(5, &octets).is_err());
        assert!(Header::open(5, &[0; 4096]).is_err());
    }

    #[test]
    fn only_our_names_are_segments() {
        assert_eq!(slot_of(&name(0x1f)), Some(0x1f));
        for other in [
            "log.1f",
            "log.0000001F",
            "queue.redb",
            "log.0000001g",
            "log.ffffffff",
        ] {
            assert_eq!(slot_of(other), None, "{other}");
        }
    }
}
