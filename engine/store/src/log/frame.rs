//! Frames: one transition each, as it lies in a log segment.
//!
//! What: a fixed head, then records (see `record.rs`). The head's CRC covers the sequence number of
//! the segment, the rest of the head, and all records, so a frame of the segment's earlier life,
//! or of another segment, is never taken for one of this.
//! Promises: a frame is read whole or not at all; what is built outside the writer is checksummed
//! there, the writer only stamps where and when.
//! Absent on purpose: the meaning of records; what a gap between frames is (`scan.rs`).
//! Fails: never; octets that are no frame are `None`.

use super::control::Controls;
use crc32fast::Hasher;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First octets of every frame.
pub(super) const MAGIC: [u8; 4] = *b"RsF1";

/// Octets of a frame's head.
pub(super) const HEAD: usize = size_of::<Head>();

/// Octets of magic and CRC, which the CRC does not cover.
const UNPROVEN: usize = 8;

/// What kind of frame it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A transition; only in hot segments.
    Transition = 1,
    /// A message moved out of a segment that is to be recycled; only in cold segments.
    Copy = 2,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Head {
    magic: [u8; 4],
    crc: U32,
    /// Octets of the records.
    length: U32,
    kind: U32,
    /// Log sequence number, counting up over all segments.
    number: U64,
    /// Number of the first frame of its group: what was written and synced together.
    group: U64,
}

/// Where a frame stands in the order of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Sequence number of the segment.
    pub(super) sequence: u64,
    /// Its own number.
    pub(super) number: u64,
    /// The first number of its group.
    pub(super) group: u64,
}

/// A frame under construction.
#[derive(Debug)]
pub(crate) struct Builder {
    octets: Vec<u8>,
    crc: Hasher,
}

impl Builder {
    /// A frame without records, with room for about `expected` octets of them.
    pub(super) fn new(expected: usize) -> Self {
        let mut octets = Vec::with_capacity(HEAD + expected);
        octets.resize(HEAD, 0);
        Self {
            octets,
            crc: Hasher::new(),
        }
    }

    /// Adds a record; gives its place in the frame.
    pub(super) fn push(&mut self, record: &[u8]) -> usize {
        let place = self.octets.len();
        self.octets.extend_from_slice(record);
        self.crc.update(record);
        place
    }

    /// Lets `write` append one record in place; gives its place in the frame.
    pub(super) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let place = self.octets.len();
        write(&mut self.octets);
        if let Some(record) = self.octets.get(place..) {
            self.crc.update(record);
        }
        place
    }

    /// Its octets so far, head included.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// Whether it has no records.
    pub(super) fn is_empty(&self) -> bool {
        self.octets.len() == HEAD
    }

    /// Completes the head.
    pub(super) fn stamp(&mut self, kind: Kind, stamp: Stamp, controls: Controls) {
        let length = u32::try_from(self.octets.len() - HEAD).expect("no transition has 4 GiB");
        let mut head = Head {
            magic: MAGIC,
            crc: U32::ZERO,
            length: length.into(),
            kind: (kind as u32).into(),
            number: stamp.number.into(),
            group: stamp.group.into(),
        };
        let mut crc = started(stamp.sequence, head.as_bytes(), controls);
        crc.combine(&self.crc);
        head.crc = crc.finalize().into();
        if let Some(place) = self.octets.get_mut(..HEAD) {
            place.copy_from_slice(head.as_bytes());
        }
    }

    /// The octets to be written.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }
}

/// The CRC over what comes before the records.
fn started(sequence: u64, head: &[u8], controls: Controls) -> Hasher {
    let mut crc = Hasher::new();
    if !controls.sequence_not_proven {
        crc.update(U64::from(sequence).as_bytes());
    }
    crc.update(head.get(UNPROVEN..).unwrap_or_default());
    crc
}

/// A frame that was read and has proven itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) number: u64,
    pub(super) group: u64,
    pub(super) records: &'a [u8],
}

impl Frame<'_> {
    /// Its octets, head included.
    pub(super) fn len(&self) -> usize {
        HEAD + self.records.len()
    }
}

/// The frame of segment `sequence` at the start of `octets`, if there is one.
pub(super) fn read(sequence: u64, octets: &[u8], controls: Controls) -> Option<Frame<'_>> {
    let (head, rest) = Head::ref_from_prefix(octets).ok()?;
    if head.magic != MAGIC {
        return None;
    }
    let kind = match head.kind.get() {
        1 => Kind::Transition,
        2 => Kind::Copy,
        _ => return None,
    };
    let records = rest.get(..usize::try_from(head.length.get()).ok()?)?;
    let mut crc = started(sequence, head.as_bytes(), controls);
    crc.update(records);
    if crc.finalize() != head.crc.get() {
        return None;
    }
    Some(Frame {
        kind,
        number: head.number.get(),
        group: head.group.get(),
        records,
    })
}

/// The number a frame at the start of `octets` claims, unproven. `None` if it cannot be a frame.
pub(super) fn claimed(octets: &[u8]) -> Option<u64> {
    let (head, _) = Head::ref_from_prefix(octets).ok()?;
    (head.magic == MAGIC).then(|| head.number.get())
}

/// How many octets are there of frame `number`, head included, if its head is at the start of
/// `octets`: whole, or with one field damaged. `group` is that of the frame before. A frame of an earlier
/// life has another number and another group.
pub(super) fn torn(octets: &[u8], number: u64, group: u64) -> Option<usize> {
    let (head, rest) = Head::ref_from_prefix(octets).ok()?;
    let signs = [
        head.magic == MAGIC,
        head.number.get() == number,
        [group, number].contains(&head.group.get()),
    ];
    if signs.into_iter().filter(|sign| *sign).count() < 2 {
        return None;
    }
    let length = usize::try_from(head.length.get()).unwrap_or(usize::MAX);
    Some(HEAD + length.min(rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        sequence: 7,
        number: 12,
        group: 11,
    };

    fn frame() -> Vec<u8> {
        let mut frame = Builder::new(16);
        assert!(frame.is_empty());
        assert_eq!(frame.push(b"first"), HEAD);
        assert_eq!(
            frame.push_with(|octets| octets.extend_from_slice(b"second")),
            HEAD + 5
        );
        frame.stamp(Kind::Transition, STAMP, Controls::default());
        frame.octets().to_vec()
    }

    #[test]
    fn a_frame_comes_back_in_its_own_segment_only() {
        let mut octets = frame();
        octets.extend_from_slice(b"what follows");
        let read_back = read(7, &octets, Controls::default()).unwrap();
        assert_eq!(read_back.records, b"firstsecond");
        assert_eq!((read_back.number, read_back.group), (12, 11));
        assert_eq!(read_back.len(), HEAD + 11);
        assert!(read(8, &octets, Controls::default()).is_none());
        assert_eq!(claimed(&octets), Some(12));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let octets = frame();
        for bit in 0..octets.len() * 8 {
            let mut flipped = octets.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(7, &flipped, Controls::default()).is_none(), "{bit}");
        }
        for end in 0..octets.len() {
            assert!(read(7, &octets[..end], Controls::default()).is_none());
        }
    }
}
