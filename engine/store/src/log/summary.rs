//! The summary of a message in the database: where it lies, and what the schedule needs of each of
//! its envelopes. A start reads these and nothing else of the database.
//!
//! Promises: it proves itself like every record. A head that could not be read when it was made
//! says so, and its envelope is asked instead.
//! Absent on purpose: the rest of the envelopes, which lie in a table of their own.
//! Fails: with [`Damage`].

use super::form::{number_time, time_number};
use super::place::Location;
use super::slots::{Marks, Slot};
use crate::record::{self, Damage, Kind, row_key};
use redspool_core::id::MessageId;
use redspool_core::queue::Scheduled;
use redspool_core::time::Timestamp;
use std::iter;
use std::num::NonZeroU32;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The head of an envelope: the start of its stored form.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Head {
    /// Lower half of the envelope-id.
    low: U32,
    /// [`Scheduled::encode`]; zero if it is not known.
    form: [u8; Scheduled::LENGTH],
}

impl Head {
    /// One of which no more is known than its marks, which the reader of the envelope has to find
    /// out again.
    pub(super) fn unknown(low: NonZeroU32) -> Self {
        Self {
            low: low.get().into(),
            form: [0; Scheduled::LENGTH],
        }
    }

    /// The head of an envelope with these marks.
    pub(super) fn new(mut scheduled: Scheduled, low: NonZeroU32, marks: Marks) -> Self {
        scheduled.flags.suspended = marks.suspended;
        scheduled.flags.maybe_duplicated |= marks.duplicated;
        let mut octets = Vec::with_capacity(Scheduled::LENGTH);
        scheduled.encode(&mut octets);
        octets.try_into().map_or_else(
            |_| Self::unknown(low),
            |form| Self {
                low: low.get().into(),
                form,
            },
        )
    }

    /// Lower half of the envelope-id.
    pub(super) fn low(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.low.get())
    }

    /// What the schedule needs of the envelope.
    pub(super) fn scheduled(&self, message: MessageId) -> Result<Scheduled, Damage> {
        let low = self.low().ok_or_else(unfit)?;
        let scheduled = Scheduled::decode(message.envelope(low), &self.form);
        scheduled.map_err(|why| Damage(why.to_string()))
    }

    /// The envelope in the index, as if it were queued. The marks of one that is not known are
    /// none.
    fn slot(&self, message: MessageId) -> Option<Slot> {
        let flags = self.scheduled(message).map(|scheduled| scheduled.flags);
        let flags = flags.unwrap_or_default();
        Some(Slot {
            low: self.low()?,
            marks: Marks {
                suspended: flags.suspended,
                duplicated: flags.maybe_duplicated,
                trashed: false,
            },
        })
    }
}

fn unfit() -> Damage {
    Damage::new("message summary makes no sense")
}

/// A summary that has proven itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary<'a> {
    pub(super) location: Location,
    /// In order of their ids, each once.
    pub(super) heads: &'a [Head],
    /// When each was discarded, see [`number_time`]; empty if none was.
    discarded: &'a [U64],
}

impl<'a> Summary<'a> {
    /// The record of a summary. `location.live` is the number of heads, and of times when they were
    /// discarded, if one was.
    pub(super) fn seal(
        message: MessageId,
        location: Location,
        heads: &[Head],
        discarded: &[Option<Timestamp>],
    ) -> Vec<u8> {
        let mut value = location.value();
        value.extend_from_slice(heads.as_bytes());
        for at in discarded {
            value.extend_from_slice(U64::from(time_number(*at)).as_bytes());
        }
        let kind = if discarded.is_empty() {
            Kind::Summary
        } else {
            Kind::Trashed
        };
        record::seal(kind, row_key(message), &value)
    }

    pub(super) fn open(message: MessageId, record: &'a [u8]) -> Result<Self, Damage> {
        let trashed = record::claims(record, Kind::Trashed);
        let kind = if trashed {
            Kind::Trashed
        } else {
            Kind::Summary
        };
        let value = record::value_of(kind, row_key(message), record)?;
        let (location, rest) = Location::from_prefix(value)?;
        let live = usize::try_from(location.live).map_err(|_| unfit())?;
        let (heads, rest) =
            <[Head]>::ref_from_prefix_with_elems(rest, live).map_err(|_| unfit())?;
        let times = if trashed { live } else { 0 };
        let discarded = <[U64]>::ref_from_bytes_with_elems(rest, times).map_err(|_| unfit())?;
        let lows = heads.iter().map(|head| head.low.get());
        let ordered = lows.clone().zip(lows.skip(1)).all(|(one, next)| one < next);
        let zero = heads.first().is_some_and(|head| head.low.get() == 0);
        if !ordered || zero {
            return Err(unfit());
        }
        Ok(Self {
            location,
            heads,
            discarded,
        })
    }

    /// Its envelopes in the index, and when each was discarded, in order.
    pub(super) fn slots(
        &self,
        message: MessageId,
    ) -> impl Iterator<Item = (Slot, Option<Timestamp>)> {
        let times = self
            .discarded
            .iter()
            .map(|number| number_time(number.get()));
        let times = times.chain(iter::repeat(None));
        let slots = self.heads.iter().map(move |head| head.slot(message));
        slots.zip(times).filter_map(|(slot, at)| {
            let mut slot = slot?;
            slot.marks.trashed = at.is_some();
            Some((slot, at))
        })
    }

    /// The head of one envelope.
    pub(super) fn head(&self, low: NonZeroU32) -> Option<&'a Head> {
        let found = self
            .heads
            .binary_search_by_key(&low.get(), |head| head.low.get());
        self.heads.get(found.ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Place;
    use super::*;
    use redspool_core::envelope::{Agent, Flags};
    use redspool_core::time::Timestamp;
    use std::time::Duration;

    fn low(low: u32) -> NonZeroU32 {
        NonZeroU32::new(low).unwrap()
    }

    fn location(live: u32) -> Location {
        Location {
            at: Place { slot: 3, offset: 9 },
            octets: 77,
            sequence: 5,
            live,
        }
    }

    #[test]
    fn a_summary_comes_back_with_its_heads_and_their_marks() {
        let message = MessageId::new(7).unwrap();
        let scheduled = Scheduled {
            id: message.envelope(low(4)),
            agent: Agent::Mda,
            ctime: Timestamp::from_secs(1),
            ttl: Duration::from_secs(2),
            last_bounce: Timestamp::from_secs(3),
            retry: 4,
            flags: Flags::default(),
        };
        let marks = Marks {
            suspended: true,
            duplicated: true,
            trashed: true,
        };
        let heads = [Head::new(scheduled, low(4), marks), Head::unknown(low(9))];
        let at = Some(Timestamp::from_secs(77));
        let record = Summary::seal(message, location(2), &heads, &[at, None]);
        let summary = Summary::open(message, &record).unwrap();
        assert_eq!(summary.location, location(2));
        let found = summary.head(low(4)).unwrap();
        let slots: Vec<_> = summary.slots(message).collect();
        let none = Marks::default();
        let want = [(low(4), marks, at), (low(9), none, None)];
        assert_eq!(
            slots,
            want.map(|(low, marks, at)| (Slot { low, marks }, at))
        );
        let plain = Summary::seal(message, location(2), &heads, &[]);
        let plain = Summary::open(message, &plain).unwrap();
        assert!(
            plain
                .slots(message)
                .all(|(slot, at)| at.is_none() && !slot.marks.trashed)
        );
        assert_eq!(found.scheduled(message).unwrap().retry, 4);
        assert!(summary.head(low(9)).unwrap().scheduled(message).is_err());
        assert!(summary.head(low(5)).is_none());
    }

    #[test]
    fn heads_out_of_order_or_number_are_damage() {
        let message = MessageId::new(7).unwrap();
        let heads = [Head::unknown(low(9)), Head::unknown(low(4))];
        let record = Summary::seal(message, location(2), &heads, &[]);
        assert!(Summary::open(message, &record).is_err());
        let record = Summary::seal(message, location(2), &heads[..1], &[]);
        assert!(Summary::open(message, &record).is_err());
    }
}
