//! The records that only the log has: settlements, removals, marks, and what the trash took and gave.
//!
//! Promises: what is sealed here opens here, or is damage.
//! Absent on purpose: messages and envelopes, whose forms all stores share (`record.rs`).
//! Fails: with [`Damage`].

use crate::record::{self, Damage, Kind};
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::Selector;
use redspool_core::time::Timestamp;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Envelopes that leave.
pub(super) fn gone(envelopes: &[EnvelopeId]) -> Vec<u8> {
    let mut value = Vec::with_capacity(envelopes.len() * 8);
    for id in envelopes {
        value.extend_from_slice(&id.get().to_le_bytes());
    }
    record::seal(Kind::Gone, 0, &value)
}

/// The envelopes of a settlement's value.
pub(super) fn open_gone(value: &[u8]) -> Result<Vec<EnvelopeId>, Damage> {
    let wrong = || Damage::new("settlement record makes no sense");
    let (ids, rest) = value.as_chunks::<8>();
    let ids = ids
        .iter()
        .map(|id| EnvelopeId::new(u64::from_le_bytes(*id)).ok_or_else(wrong));
    if rest.is_empty() {
        ids.collect()
    } else {
        Err(wrong())
    }
}

/// What a selector removed.
pub(super) fn removed(selector: Selector) -> Vec<u8> {
    record::seal(Kind::Removed, 0, &selected(selector))
}

pub(super) fn open_removed(value: &[u8]) -> Result<Selector, Damage> {
    open_selector(value)
}

/// What a selector paused or resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) selector: Selector,
    pub(super) suspended: bool,
}

impl Marked {
    pub(super) fn seal(self) -> Vec<u8> {
        let mut value = selected(self.selector).to_vec();
        value.push(self.suspended.into());
        record::seal(Kind::Marked, 0, &value)
    }

    pub(super) fn open(value: &[u8]) -> Result<Self, Damage> {
        match value.split_last() {
            Some((suspended @ (0 | 1), selector)) => Ok(Self {
                selector: open_selector(selector)?,
                suspended: *suspended == 1,
            }),
            _ => Err(Damage::new("mark record makes no sense")),
        }
    }
}

/// What a step did to the trash: to all that fits in a range of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Swept {
    pub(super) first: EnvelopeId,
    pub(super) last: EnvelopeId,
    /// [`Kind::Discard`]: when it was. [`Kind::Restore`]: only what was discarded then.
    /// [`Kind::Purge`]: only what was discarded then or before.
    pub(super) at: Option<Timestamp>,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SweptValue {
    first: U64,
    last: U64,
    at: U64,
}

impl Swept {
    /// Seals it as one of these kinds.
    pub(super) fn seal(self, kind: Kind) -> Vec<u8> {
        let value = SweptValue {
            first: self.first.get().into(),
            last: self.last.get().into(),
            at: time_number(self.at).into(),
        };
        record::seal(kind, 0, value.as_bytes())
    }

    pub(super) fn open(value: &[u8]) -> Result<Self, Damage> {
        let wrong = || Damage::new("trash record makes no sense");
        let value = SweptValue::ref_from_bytes(value).map_err(|_| wrong())?;
        let id = |number: U64| EnvelopeId::new(number.get()).ok_or_else(wrong);
        Ok(Self {
            first: id(value.first)?,
            last: id(value.last)?,
            at: number_time(value.at.get()),
        })
    }
}

/// A time that may be missing as a number: zero for none, else seconds since the epoch and one.
pub(super) fn time_number(at: Option<Timestamp>) -> u64 {
    at.map_or(0, |at| at.as_secs().saturating_add(1))
}

/// See [`time_number`].
pub(super) fn number_time(number: u64) -> Option<Timestamp> {
    number.checked_sub(1).map(Timestamp::from_secs)
}

/// A selector: a tag and a number.
fn selected(selector: Selector) -> [u8; 9] {
    let (tag, number) = match selector {
        Selector::Envelope(id) => (1, id.get()),
        Selector::Message(id) => (2, u64::from(id.get())),
        Selector::All => (3, 0),
    };
    let mut octets = [tag; 9];
    octets[1..].copy_from_slice(&number.to_le_bytes());
    octets
}

fn open_selector(octets: &[u8]) -> Result<Selector, Damage> {
    let wrong = || Damage::new("selector makes no sense");
    let (tag, number) = octets.split_first().ok_or_else(wrong)?;
    let number = u64::from_le_bytes(number.try_into().map_err(|_| wrong())?);
    let selector = match tag {
        1 => EnvelopeId::new(number).map(Selector::Envelope),
        2 => {
            let number = u32::try_from(number).ok();
            number.and_then(MessageId::new).map(Selector::Message)
        }
        3 => Some(Selector::All),
        _ => None,
    };
    selector.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(record: &[u8]) -> &[u8] {
        record::first(record).unwrap().value
    }

    #[test]
    fn forms_come_back() {
        let id = EnvelopeId::new(7 << 32 | 9).unwrap();
        let all = [id, EnvelopeId::new(8 << 32 | 1).unwrap()];
        assert_eq!(open_gone(value(&gone(&all))), Ok(all.to_vec()));
        assert!(open_gone(&[0; 8]).is_err());
        assert!(open_gone(&[1; 7]).is_err());
        for selector in [
            Selector::Envelope(id),
            Selector::Message(id.message()),
            Selector::All,
        ] {
            assert_eq!(open_removed(value(&removed(selector))), Ok(selector));
            for suspended in [true, false] {
                let marked = Marked {
                    selector,
                    suspended,
                };
                assert_eq!(Marked::open(value(&marked.seal())), Ok(marked));
            }
        }
        for at in [None, Some(Timestamp::EPOCH), Some(Timestamp::from_secs(9))] {
            let [first, last] = all;
            let swept = Swept { first, last, at };
            assert_eq!(Swept::open(value(&swept.seal(Kind::Purge))), Ok(swept));
        }
        assert!(Swept::open(&[0; 24]).is_err());
        assert!(Marked::open(&[]).is_err());
        assert!(open_removed(&[9; 9]).is_err());
    }
}
