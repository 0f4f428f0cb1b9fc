//! Records: the form of everything stored.
//!
//! What: a fixed head, then the value. The head holds kind, version, key, length and a 64-bit
//! checksum (XXH3) over all of that and the value.
//! Promises: what opens is what was sealed, under the same key and of the same kind. A record that
//! was moved, cut, mixed up or altered does not open.
//! Absent on purpose: tables and files; what to do about damage.
//! Fails: with [`Damage`], which says what was found, for the corrupt bucket.

use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{CorruptMessage, Discarded, Message, Paused, Scheduled, StoreError};
use redspool_core::time::Timestamp;
use std::ops::Range;
use twox_hash::XxHash3_64;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Layout of all records; another layout gets another number.
const VERSION: u8 = 1;

/// Octets of content in one body record. With head, trailer and the page's own overhead it fills
/// a page of 64 KiB and does not spill into one of twice the size.
pub(crate) const CHUNK: usize = (64 << 10) - 256;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Envelope = 1,
    Message = 2,
    Body = 3,
    Corrupt = 4,
    Meta = 5,
    /// Envelopes that left the queue, one after the other.
    Gone = 6,
    /// Envelopes that were paused or resumed by a selector.
    Marked = 7,
    /// Envelopes that were removed by a selector.
    Removed = 8,
    /// A message that came back from the corrupt bucket.
    Uncorrupt = 9,
    /// Where the message record and content of a large message are.
    Extent = 10,
    /// Where the message record and content of a message are, and the heads of its envelopes.
    Summary = 11,
    /// The head of a log segment.
    Segment = 12,
    /// A position in the log.
    Position = 13,
    /// Envelopes that went to the trash.
    Discard = 14,
    /// Envelopes that came back from it.
    Restore = 15,
    /// Envelopes that left it for good.
    Purge = 16,
    /// A summary with the times when envelopes were discarded.
    Trashed = 17,
    /// An envelope in the trash, whole, with the time when it was discarded.
    Discarded = 18,
    /// An envelope that came from another spool.
    Import = 19,
    /// Sources and domains that relaying keeps apart.
    Blocks = 20,
}

impl Kind {
    const ALL: [Self; 20] = [
        Self::Envelope,
        Self::Message,
        Self::Body,
        Self::Corrupt,
        Self::Meta,
        Self::Gone,
        Self::Marked,
        Self::Removed,
        Self::Uncorrupt,
        Self::Extent,
        Self::Summary,
        Self::Segment,
        Self::Position,
        Self::Discard,
        Self::Restore,
        Self::Purge,
        Self::Trashed,
        Self::Discarded,
        Self::Import,
        Self::Blocks,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Message => "message",
            Self::Body => "content",
            Self::Corrupt => "corrupt bucket",
            Self::Meta => "store",
            Self::Gone => "settlement",
            Self::Marked => "mark",
            Self::Removed => "removal",
            Self::Uncorrupt => "uncorrupt",
            Self::Extent => "extent",
            Self::Summary | Self::Trashed => "message summary",
            Self::Segment => "segment",
            Self::Position => "position",
            Self::Import => "import",
            Self::Blocks => "relaying pause",
            Self::Discard => "discard",
            Self::Restore => "restore",
            Self::Purge => "purge",
            Self::Discarded => "discarded envelope",
        }
    }
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage(pub(crate) String);

impl Damage {
    pub(crate) fn new(reason: &str) -> Self {
        Self(reason.to_owned())
    }

    pub(crate) fn of(self, message: MessageId) -> StoreError {
        StoreError::Corrupt {
            message,
            reason: self.0,
        }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Head {
    /// XXH3 of everything that follows it.
    proof: U64,
    kind: u8,
    version: u8,
    /// 1 for the last piece of a body, else 0.
    last: u8,
    zero: u8,
    /// Octets of the value.
    length: U32,
    key: U64,
}

/// Octets of a record's head.
pub(crate) const HEAD: usize = size_of::<Head>();
const PROOF: usize = size_of::<U64>();

/// Starts a record whose value will have about `expected` octets; the value is appended to it.
pub(crate) fn begin(expected: usize) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD + expected);
    record.resize(HEAD, 0);
    record
}

/// Completes the head of a record started with [`begin`].
pub(crate) fn finish(record: &mut [u8], kind: Kind, key: u64, last: bool) {
    let length = u32::try_from(record.len() - HEAD).expect("no value has 4 GiB");
    let mut head = Head {
        proof: U64::ZERO,
        kind: kind as u8,
        version: VERSION,
        last: u8::from(last),
        zero: 0,
        length: length.into(),
        key: key.into(),
    };
    record[..HEAD].copy_from_slice(head.as_bytes());
    head.proof = XxHash3_64::oneshot(&record[PROOF..]).into();
    record[..HEAD].copy_from_slice(head.as_bytes());
}

pub(crate) fn seal(kind: Kind, key: u64, value: &[u8]) -> Vec<u8> {
    let mut record = begin(value.len());
    record.extend_from_slice(value);
    finish(&mut record, kind, key, false);
    record
}

/// A record of any kind that has proven itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened<'a> {
    pub(crate) kind: Kind,
    pub(crate) key: u64,
    pub(crate) value: &'a [u8],
    /// The whole record.
    pub(crate) record: &'a [u8],
}

/// The octets the record at the start of `octets` says it has, unproven.
pub(crate) fn claimed(octets: &[u8]) -> Option<usize> {
    let (head, _) = Head::ref_from_prefix(octets).ok()?;
    usize::try_from(head.length.get()).ok()?.checked_add(HEAD)
}

/// The record at the start of `octets`, of whatever kind.
pub(crate) fn first(octets: &[u8]) -> Result<Opened<'_>, Damage> {
    let cut = || Damage::new("record is cut short");
    let (head, _) = Head::ref_from_prefix(octets).map_err(|_| cut())?;
    // Cheap before dear: whoever looks for records among other octets asks at every one.
    if head.version != VERSION || head.zero != 0 || head.last > 1 {
        return Err(Damage::new("record has an unknown version"));
    }
    let record = claimed(octets).and_then(|length| octets.get(..length));
    let record = record.ok_or_else(cut)?;
    let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == head.kind);
    let kind = kind.ok_or_else(|| Damage::new("record of an unknown kind"))?;
    let key = head.key.get();
    let (value, _) = open(kind, key, record)?;
    Ok(Opened {
        kind,
        key,
        value,
        record,
    })
}

/// Gives a record the proof it should have, whatever it says: for the test that shows that comparing
/// matters.
pub(crate) fn reseal(record: &mut [u8]) {
    if let Some((proof, proven)) = record.split_at_mut_checked(PROOF) {
        proof.copy_from_slice(U64::from(XxHash3_64::oneshot(proven)).as_bytes());
    }
}

/// Checks a record and gives its value.
pub(crate) fn value_of(kind: Kind, key: u64, record: &[u8]) -> Result<&[u8], Damage> {
    open(kind, key, record).map(|(value, _)| value)
}

/// Checks a record and gives its value, and whether it is the last piece of a body.
fn open(kind: Kind, key: u64, record: &[u8]) -> Result<(&[u8], bool), Damage> {
    let damage = |why| Damage(format!("{} record {why}", kind.name()));
    let Ok((head, value)) = Head::ref_from_prefix(record) else {
        return Err(damage("is cut short"));
    };
    let proven = record.get(PROOF..).unwrap_or_default();
    if head.proof.get() != XxHash3_64::oneshot(proven) {
        return Err(damage("does not match its checksum"));
    }
    if head.version != VERSION {
        return Err(damage("has an unknown version"));
    }
    if head.kind != kind as u8 || head.key.get() != key {
        return Err(damage("belongs elsewhere"));
    }
    if usize::try_from(head.length.get()) != Ok(value.len()) {
        return Err(damage("has the wrong length"));
    }
    Ok((value, head.last == 1))
}

/// Appends a record whose value `write` appends.
fn append(out: &mut Vec<u8>, kind: Kind, key: u64, last: bool, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.resize(start + HEAD, 0);
    write(out);
    if let Some(record) = out.get_mut(start..) {
        finish(record, kind, key, last);
    }
}

/// Appends an envelope's record.
pub(crate) fn append_envelope(out: &mut Vec<u8>, envelope: &Envelope) {
    append(out, Kind::Envelope, envelope.id.get(), false, |out| {
        envelope.encode(out);
    });
}

/// Appends the record of a piece of content; the last one with size and digest of the whole.
pub(crate) fn append_body(out: &mut Vec<u8>, key: u64, piece: &[u8], last: Option<(u64, u64)>) {
    append(out, Kind::Body, key, last.is_some(), |out| {
        out.extend_from_slice(piece);
        if let Some((size, digest)) = last {
            let trailer = Trailer {
                size: size.into(),
                digest: digest.into(),
            };
            out.extend_from_slice(trailer.as_bytes());
        }
    });
}

/// An envelope's record: head, then the stored form of the envelope.
pub(crate) fn seal_envelope(envelope: &Envelope) -> Vec<u8> {
    let mut record = begin(512);
    envelope.encode(&mut record);
    finish(&mut record, Kind::Envelope, envelope.id.get(), false);
    record
}

pub(crate) fn open_envelope(id: EnvelopeId, record: &[u8]) -> Result<Envelope, Damage> {
    let (value, _) = open(Kind::Envelope, id.get(), record)?;
    Envelope::decode(id, value).map_err(|why| Damage(why.to_string()))
}

/// What the schedule needs; proves the whole record, decodes its fixed part only.
pub(crate) fn open_scheduled(id: EnvelopeId, record: &[u8]) -> Result<Scheduled, Damage> {
    let (value, _) = open(Kind::Envelope, id.get(), record)?;
    Scheduled::decode(id, value).map_err(|why| Damage(why.to_string()))
}

/// The record of an envelope in the trash: when it was discarded, then its stored form.
pub(crate) fn seal_discarded(discarded: &Discarded) -> Vec<u8> {
    let mut record = begin(512);
    record.extend_from_slice(U64::from(discarded.at.as_secs()).as_bytes());
    discarded.envelope.encode(&mut record);
    let key = discarded.envelope.id.get();
    finish(&mut record, Kind::Discarded, key, false);
    record
}

pub(crate) fn open_discarded(id: EnvelopeId, record: &[u8]) -> Result<Discarded, Damage> {
    let (value, _) = open(Kind::Discarded, id.get(), record)?;
    let (at, envelope) = U64::ref_from_prefix(value)
        .map_err(|_| Damage::new("discarded envelope record is cut short"))?;
    let envelope = Envelope::decode(id, envelope).map_err(|why| Damage(why.to_string()))?;
    let at = Timestamp::from_secs(at.get());
    Ok(Discarded { envelope, at })
}

/// Whether a record, unproven, says that it is of this kind.
pub(crate) fn claims(record: &[u8], kind: Kind) -> bool {
    Head::ref_from_prefix(record).is_ok_and(|(head, _)| head.kind == kind as u8)
}

/// What is kept about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) message: Message,
    /// Envelopes it has.
    pub(crate) live: u32,
    /// XXH3 of the whole content.
    pub(crate) digest: u64,
    /// Place of the first piece of its content; the others follow it.
    pub(crate) first: u64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct MessageValue {
    size: U64,
    ctime: U64,
    digest: U64,
    first: U64,
    live: U32,
    /// [`EIGHT_BIT`] and [`UTF8`].
    traits: u8,
    zero: [u8; 3],
}

/// Bits of what is to know about a content: octets above 127, and its need of SMTPUTF8. The first
/// stood alone before there was the other.
const EIGHT_BIT: u8 = 1;
const UTF8: u8 = 2;

/// Octets of a message's record.
pub(crate) const MESSAGE: usize = HEAD + size_of::<MessageValue>();

impl Row {
    pub(crate) fn seal(&self) -> Vec<u8> {
        let value = MessageValue {
            size: self.message.size.into(),
            ctime: self.message.ctime.as_secs().into(),
            digest: self.digest.into(),
            first: self.first.into(),
            live: self.live.into(),
            traits: (u8::from(self.message.eight_bit) * EIGHT_BIT)
                | (u8::from(self.message.utf8) * UTF8),
            zero: [0; 3],
        };
        seal(Kind::Message, row_key(self.message.id), value.as_bytes())
    }

    pub(crate) fn open(id: MessageId, record: &[u8]) -> Result<Self, Damage> {
        let (value, _) = open(Kind::Message, row_key(id), record)?;
        let value = MessageValue::ref_from_bytes(value)
            .map_err(|_| Damage::new("message record has the wrong length"))?;
        Ok(Self {
            message: Message {
                id,
                size: value.size.get(),
                ctime: Timestamp::from_secs(value.ctime.get()),
                eight_bit: value.traits & EIGHT_BIT != 0,
                utf8: value.traits & UTF8 != 0,
            },
            live: value.live.get(),
            digest: value.digest.get(),
            first: value.first.get(),
        })
    }

    /// The places of its pieces.
    pub(crate) fn places(&self) -> Result<Range<u64>, Damage> {
        let end = self.first.checked_add(self.pieces()?.into());
        let end = end.ok_or_else(|| Damage::new("message record has an absurd place"))?;
        Ok(self.first..end)
    }

    /// Body records of a content this size; an empty content has one.
    pub(crate) fn pieces(&self) -> Result<u32, Damage> {
        let pieces = self.message.size.div_ceil(CHUNK as u64).max(1);
        u32::try_from(pieces).map_err(|_| Damage::new("message record has an absurd size"))
    }

    /// Octets of this record and of the body records behind it.
    pub(crate) fn octets(&self) -> Result<u64, Damage> {
        let heads = u64::from(self.pieces()?) * HEAD as u64;
        Ok(self.message.size + heads + (MESSAGE + TRAILER) as u64)
    }
}

/// Body records in so many octets that [`Row::octets`] counts.
pub(crate) fn pieces_in(octets: u32) -> u32 {
    let first = u32::try_from(MESSAGE + TRAILER).unwrap_or(u32::MAX);
    let each = u32::try_from(HEAD + CHUNK).unwrap_or(u32::MAX);
    octets.saturating_sub(first).div_ceil(each).max(1)
}

/// Octets of a message's record and its first body record at most.
pub(crate) const FRONT: usize = MESSAGE + HEAD + CHUNK + TRAILER;

/// Key of a message's record: just before its first envelope, for no envelope has the lower half
/// zero.
pub(crate) fn row_key(message: MessageId) -> u64 {
    u64::from(message.get()) << 32
}

/// Key in the record of piece `index` of a message's content, wherever it is stored.
pub(crate) fn body_key(message: MessageId, index: u32) -> u64 {
    u64::from(message.get()) << 32 | u64::from(index)
}

/// Whether an unproven body record names this message. For removal when nothing better is left.
pub(crate) fn names(record: &[u8], message: MessageId) -> bool {
    let key = Head::ref_from_prefix(record).map(|(head, _)| head.key.get());
    key.is_ok_and(|key| key >> 32 == u64::from(message.get()))
}

/// What the last body record adds to its piece.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Trailer {
    size: U64,
    digest: U64,
}

/// Octets the last body record adds to its piece.
pub(crate) const TRAILER: usize = size_of::<Trailer>();

/// Completes the last body record.
pub(crate) fn finish_body(record: &mut Vec<u8>, key: u64, size: u64, digest: u64) {
    let trailer = Trailer {
        size: size.into(),
        digest: digest.into(),
    };
    record.extend_from_slice(trailer.as_bytes());
    finish(record, Kind::Body, key, true);
}

/// A piece of content. The last one must agree with the message's record.
pub(crate) fn open_body<'a>(row: &Row, index: u32, record: &'a [u8]) -> Result<&'a [u8], Damage> {
    let wrong = || Damage::new("content does not agree with its message");
    let (value, last) = open(Kind::Body, body_key(row.message.id, index), record)?;
    if last != (index + 1 == row.pieces()?) {
        return Err(wrong());
    }
    if !last {
        return Ok(value);
    }
    let (piece, trailer) = Trailer::ref_from_suffix(value).map_err(|_| wrong())?;
    if trailer.size.get() != row.message.size || trailer.digest.get() != row.digest {
        return Err(wrong());
    }
    Ok(piece)
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct BucketValue {
    at: U64,
    envelopes: U32,
}

pub(crate) fn seal_corrupt(entry: &CorruptMessage) -> Vec<u8> {
    let value = BucketValue {
        at: entry.at.as_secs().into(),
        envelopes: entry.envelopes.into(),
    };
    let mut record = begin(entry.reason.len() + size_of::<BucketValue>());
    record.extend_from_slice(value.as_bytes());
    record.extend_from_slice(entry.reason.as_bytes());
    finish(&mut record, Kind::Corrupt, row_key(entry.message), false);
    record
}

pub(crate) fn open_corrupt(message: MessageId, record: &[u8]) -> Result<CorruptMessage, Damage> {
    let wrong = || Damage::new("corrupt bucket record makes no sense");
    let (value, _) = open(Kind::Corrupt, row_key(message), record)?;
    let (value, reason) = BucketValue::ref_from_prefix(value).map_err(|_| wrong())?;
    Ok(CorruptMessage {
        message,
        reason: std::str::from_utf8(reason).map_err(|_| wrong())?.into(),
        at: Timestamp::from_secs(value.at.get()),
        envelopes: value.envelopes.get(),
    })
}

/// What is kept about the store itself; the number is its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meta {
    Format = 1,
    Epoch = 2,
    Paused = 3,
    Generation = 4,
    /// Messages that have a summary.
    Messages = 5,
}

impl Meta {
    pub(crate) const fn key(self) -> u32 {
        self as u32
    }

    pub(crate) fn seal(self, number: u64) -> Vec<u8> {
        seal(Kind::Meta, self.key().into(), U64::from(number).as_bytes())
    }

    pub(crate) fn open(self, record: &[u8]) -> Result<u64, Damage> {
        let (value, _) = open(Kind::Meta, self.key().into(), record)?;
        let number = U64::ref_from_bytes(value)
            .map_err(|_| Damage::new("store record has the wrong length"))?;
        Ok(number.get())
    }
}

/// Paused subsystems as a number, one bit each.
pub(crate) fn paused_bits(paused: Paused) -> u64 {
    let Paused { mda, mta, smtp } = paused;
    u64::from(mda) | u64::from(mta) << 1 | u64::from(smtp) << 2
}

pub(crate) fn paused_from(bits: u64) -> Paused {
    Paused {
        mda: bits & 1 != 0,
        mta: bits & 2 != 0,
        smtp: bits & 4 != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            message: Message {
                id: MessageId::new(7).unwrap(),
                size: 3,
                ctime: Timestamp::from_secs(9),
                eight_bit: true,
                utf8: false,
            },
            live: 2,
            digest: XxHash3_64::oneshot(b"abc"),
            first: 44,
        }
    }

    #[test]
    fn a_record_opens_under_its_own_key_only() {
        let record = row().seal();
        let id = row().message.id;
        assert_eq!(Row::open(id, &record), Ok(row()));
        let other = MessageId::new(8).unwrap();
        assert_eq!(
            Row::open(other, &record).unwrap_err().0,
            "message record belongs elsewhere"
        );
        assert_eq!(
            open(Kind::Envelope, row_key(id), &record).unwrap_err().0,
            "envelope record belongs elsewhere"
        );
    }

    #[test]
    fn pieces_and_octets_go_both_ways() {
        let chunk = CHUNK as u64;
        for size in [0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk, 3 * chunk + 1] {
            let mut row = row();
            row.message.size = size;
            let octets = row.octets().unwrap();
            let pieces = row.pieces().unwrap();
            assert_eq!(pieces_in(octets.try_into().unwrap()), pieces, "{size}");
        }
    }

    #[test]
    fn what_a_content_needs_is_a_bit_each() {
        for (eight_bit, utf8, octet) in [
            (false, false, 0),
            (true, false, 1),
            (false, true, 2),
            (true, true, 3),
        ] {
            let mut row = row();
            (row.message.eight_bit, row.message.utf8) = (eight_bit, utf8);
            let record = row.seal();
            assert_eq!(record.get(MESSAGE - 4), Some(&octet));
            assert_eq!(Row::open(row.message.id, &record), Ok(row));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let record = row().seal();
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Row::open(row().message.id, &flipped).is_err(), "{bit}");
        }
        for end in 0..record.len() {
            assert!(Row::open(row().message.id, &record[..end]).is_err());
        }
    }

    #[test]
    fn a_last_piece_of_another_content_is_noticed() {
        let key = body_key(row().message.id, 0);
        let piece = |content: &[u8]| {
            let mut record = begin(content.len());
            record.extend_from_slice(content);
            let size = content.len().try_into().unwrap();
            finish_body(&mut record, key, size, XxHash3_64::oneshot(content));
            record
        };
        assert_eq!(open_body(&row(), 0, &piece(b"abc")), Ok(&b"abc"[..]));
        assert!(open_body(&row(), 0, &piece(b"abd")).is_err());
        assert!(open_body(&row(), 0, &piece(b"abcd")).is_err());
    }

    #[test]
    fn bucket_and_meta_records_come_back() {
        let entry = CorruptMessage {
            message: row().message.id,
            reason: "because".into(),
            at: Timestamp::from_secs(5),
            envelopes: 2,
        };
        let back = open_corrupt(entry.message, &seal_corrupt(&entry));
        assert_eq!(back, Ok(entry));
        assert_eq!(Meta::Epoch.open(&Meta::Epoch.seal(77)), Ok(77));
        assert!(Meta::Format.open(&Meta::Epoch.seal(77)).is_err());
        let paused = Paused {
            mta: true,
            ..Paused::default()
        };
        assert_eq!(paused_from(paused_bits(paused)), paused);
    }
}
