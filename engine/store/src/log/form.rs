//! The records that only the log has: settlements, removals and marks.
//!
//! Promises: what is sealed here opens here, or is damage.
//! Absent on purpose: messages and envelopes, whose forms all stores share (`record.rs`).
//! Fails: with [`Damage`].

use crate::record::{self, Damage, Kind};
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::Selector;

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
        assert!(Marked::open(&[]).is_err());
        assert!(open_removed(&[9; 9]).is_err());
    }
}
