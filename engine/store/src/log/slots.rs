//! The envelopes of one message in memory: their lower halves and marks, in 16 octets for the
//! usual message with one recipient.
//!
//! Promises: in order of ids, each id once.
//! Absent on purpose: everything that can be read from the record.

use redspool_core::id::{EnvelopeId, MessageId};
use std::num::NonZeroU32;

/// What is true of an envelope whatever its record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Paused by the administrator.
    pub(super) suspended: bool,
    /// It came back with an older state of the queue, and may have been delivered before.
    pub(super) duplicated: bool,
    /// It is in the trash.
    pub(super) trashed: bool,
}

/// One envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) low: NonZeroU32,
    pub(super) marks: Marks,
}

/// All envelopes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slots {
    One(Slot),
    /// None, or more than one.
    Many(Box<[Slot]>),
}

/// The lower half of an envelope-id.
pub(super) fn low(id: EnvelopeId) -> NonZeroU32 {
    let low = u32::try_from(id.get() & u64::from(u32::MAX)).ok();
    low.and_then(NonZeroU32::new)
        .expect("neither half of an envelope-id is zero")
}

impl Slots {
    /// These envelopes, in any order.
    pub(super) fn new(mut slots: Vec<Slot>) -> Self {
        slots.sort_unstable_by_key(|slot| slot.low);
        slots.dedup_by_key(|slot| slot.low);
        match slots[..] {
            [one] => Self::One(one),
            _ => Self::Many(slots.into()),
        }
    }

    pub(super) fn none() -> Self {
        Self::Many(Box::default())
    }

    pub(super) fn all(&self) -> &[Slot] {
        match self {
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    pub(super) fn find(&self, low: NonZeroU32) -> Option<Slot> {
        let slots = self.all();
        let place = slots.binary_search_by_key(&low, |slot| slot.low).ok()?;
        slots.get(place).copied()
    }

    /// Adds an envelope or changes its marks.
    pub(super) fn put(&mut self, slot: Slot) {
        let mut slots = self.all().to_vec();
        match slots.binary_search_by_key(&slot.low, |other| other.low) {
            Ok(place) => slots[place] = slot,
            Err(place) => slots.insert(place, slot),
        }
        *self = Self::new(slots);
    }

    /// Takes an envelope out; whether it was there.
    pub(super) fn take(&mut self, low: NonZeroU32) -> bool {
        let before = self.len();
        let left = self.all().iter().filter(|slot| slot.low != low);
        let left: Vec<_> = left.copied().collect();
        let taken = left.len() < before;
        if taken {
            *self = Self::new(left);
        }
        taken
    }

    /// Whether one of them is in the trash.
    pub(super) fn any_trashed(&self) -> bool {
        self.all().iter().any(|slot| slot.marks.trashed)
    }

    /// Those of them that are in the trash.
    pub(super) fn trashed(&self) -> Self {
        let slots = self.all().iter().filter(|slot| slot.marks.trashed);
        Self::new(slots.copied().collect())
    }

    /// Their ids, in order.
    pub(super) fn ids(&self, message: MessageId) -> impl Iterator<Item = (EnvelopeId, Marks)> {
        let slots = self.all().iter();
        slots.map(move |slot| (message.envelope(slot.low), slot.marks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(low: u32) -> Slot {
        Slot {
            low: NonZeroU32::new(low).unwrap(),
            marks: Marks::default(),
        }
    }

    #[test]
    fn one_envelope_takes_sixteen_octets() {
        assert_eq!(size_of::<Slots>(), 16);
    }

    #[test]
    fn envelopes_come_and_go_in_order() {
        let mut slots = Slots::new(vec![slot(9)]);
        assert!(matches!(slots, Slots::One(_)));
        slots.put(slot(4));
        slots.put(slot(12));
        slots.put(slot(4));
        let lows: Vec<_> = slots.all().iter().map(|slot| slot.low.get()).collect();
        assert_eq!(lows, [4, 9, 12]);
        assert!(slots.find(slot(9).low).is_some());
        assert!(slots.take(slot(9).low));
        assert!(!slots.take(slot(9).low));
        assert!(slots.take(slot(12).low));
        assert_eq!(slots, Slots::One(slot(4)));
        assert!(slots.take(slot(4).low));
        assert!(slots.is_empty());
    }
}
