//! Places in the log: of records, of messages, and of where a checkpoint has got to.
//!
//! Promises: sealed forms of them, which prove themselves like every record.
//! Absent on purpose: files.
//! Fails: with [`Damage`].

use crate::record::{self, Damage, Kind, row_key};
use redspool_core::id::MessageId;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where a record begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The segment file.
    pub(super) slot: u32,
    /// Octets from its start.
    pub(super) offset: u32,
}

impl Place {
    /// The slot of a place in a group that has not been written yet; the offset counts from the
    /// start of the group.
    pub(super) const STAGED: u32 = u32::MAX;

    /// A place in the group that is being made.
    pub(super) fn staged(offset: usize) -> Self {
        Self {
            slot: Self::STAGED,
            offset: u32::try_from(offset).expect("a group fits a segment"),
        }
    }

    /// The place once its group begins at `base`.
    pub(super) fn settled(self, base: Self) -> Self {
        if self.slot != Self::STAGED {
            return self;
        }
        Self {
            slot: base.slot,
            offset: base.offset + self.offset,
        }
    }

    /// A place so many octets further on.
    pub(super) fn plus(self, octets: usize) -> Self {
        let more = u32::try_from(octets).expect("a record lies within its segment");
        Self {
            offset: self.offset + more,
            ..self
        }
    }
}

/// Where a message's record and content are, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) at: Place,
    /// Octets of both.
    pub(super) octets: u32,
    /// Sequence number the segment had when this was written: a recycled one has another.
    pub(super) sequence: u64,
    /// Envelopes it has.
    pub(super) live: u32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct LocationValue {
    slot: U32,
    offset: U32,
    octets: U32,
    live: U32,
    sequence: U64,
}

impl Location {
    /// The record of an extent.
    pub(super) fn seal(self, message: MessageId) -> Vec<u8> {
        record::seal(Kind::Extent, row_key(message), &self.value())
    }

    /// Its stored form.
    pub(super) fn value(self) -> Vec<u8> {
        let value = LocationValue {
            slot: self.at.slot.into(),
            offset: self.at.offset.into(),
            octets: self.octets.into(),
            live: self.live.into(),
            sequence: self.sequence.into(),
        };
        value.as_bytes().to_vec()
    }

    /// Reads a stored form with nothing behind it.
    pub(super) fn from_value(value: &[u8]) -> Result<Self, Damage> {
        match Self::from_prefix(value)? {
            (location, []) => Ok(location),
            _ => Err(Damage::new("location has the wrong length")),
        }
    }

    /// Reads a stored form, and gives what is behind it.
    pub(super) fn from_prefix(value: &[u8]) -> Result<(Self, &[u8]), Damage> {
        let (value, rest) = LocationValue::ref_from_prefix(value)
            .map_err(|_| Damage::new("location has the wrong length"))?;
        let location = Self {
            at: Place {
                slot: value.slot.get(),
                offset: value.offset.get(),
            },
            octets: value.octets.get(),
            live: value.live.get(),
            sequence: value.sequence.get(),
        };
        Ok((location, rest))
    }
}

/// A place between two groups of hot frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Sequence number of the segment.
    pub(super) sequence: u64,
    /// Octets from its start.
    pub(super) offset: u64,
    /// Log sequence number of the next frame.
    pub(super) number: u64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PositionValue {
    sequence: U64,
    offset: U64,
    number: U64,
    generation: U64,
}

impl Position {
    /// The sealed form of a position and the checkpoint generation that reaches it.
    pub(super) fn seal(self, generation: u64) -> Vec<u8> {
        let value = PositionValue {
            sequence: self.sequence.into(),
            offset: self.offset.into(),
            number: self.number.into(),
            generation: generation.into(),
        };
        record::seal(Kind::Position, 0, value.as_bytes())
    }

    pub(super) fn open(record: &[u8]) -> Result<(Self, u64), Damage> {
        let value = record::value_of(Kind::Position, 0, record)?;
        let value = PositionValue::ref_from_bytes(value)
            .map_err(|_| Damage::new("position record has the wrong length"))?;
        let position = Self {
            sequence: value.sequence.get(),
            offset: value.offset.get(),
            number: value.number.get(),
        };
        Ok((position, value.generation.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_and_positions_come_back() {
        let location = Location {
            at: Place { slot: 3, offset: 9 },
            octets: 77,
            sequence: 5,
            live: 2,
        };
        let value = location.value();
        assert_eq!(Location::from_value(&value), Ok(location));
        assert!(Location::from_value(&value[1..]).is_err());
        assert!(Location::from_value(&[&value[..], &[0]].concat()).is_err());
        let position = Position {
            sequence: 1,
            offset: 2,
            number: 3,
        };
        assert_eq!(Position::open(&position.seal(4)), Ok((position, 4)));
    }

    #[test]
    fn a_staged_place_settles_where_its_group_begins() {
        let base = Place {
            slot: 1,
            offset: 100,
        };
        let staged = Place::staged(20).plus(3);
        assert_eq!(
            staged.settled(base),
            Place {
                slot: 1,
                offset: 123
            }
        );
        let other = Place { slot: 2, offset: 5 };
        assert_eq!(other.settled(base), other);
    }
}
