//! Names of messages and envelopes.
//!
//! A message-id is 32 bits, shown as 8 hex digits. An envelope-id is 64 bits, shown as 16: its
//! upper half is the message-id, so everything about one message is one range of keys. Neither
//! half is ever zero.

use crate::rng::Rng;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The number of a message (`<msgid>` in smtpctl(8)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(NonZeroU32);

/// The number of one recipient's delivery (`<evpid>` in smtpctl(8)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvelopeId(NonZeroU64);

/// Why a text or number is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id: expected 8 (message) or 16 (envelope) hex digits, no half zero")
    }
}

impl std::error::Error for InvalidId {}

impl MessageId {
    /// The first message-id there is.
    pub const MIN: Self = Self(NonZeroU32::MIN);

    /// The last message-id there is.
    pub const MAX: Self = Self(NonZeroU32::MAX);

    /// The message with this number, if it is not zero.
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number, never zero.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The envelope of this message whose lower half is `low`.
    pub fn envelope(self, low: NonZeroU32) -> EnvelopeId {
        EnvelopeId(NonZeroU64::from(low) | (u64::from(self.get()) << 32))
    }

    /// A new envelope of this message, its lower half drawn from `rng`.
    pub fn draw_envelope(self, rng: &mut Rng) -> EnvelopeId {
        self.envelope(rng.nonzero_u32())
    }

    /// The keys of all envelopes this message can have, in order.
    pub fn envelopes(self) -> RangeInclusive<EnvelopeId> {
        self.envelope(NonZeroU32::MIN)..=self.envelope(NonZeroU32::MAX)
    }
}

impl EnvelopeId {
    /// The envelope with this number, if neither half of it is zero.
    pub const fn new(number: u64) -> Option<Self> {
        if number >> 32 == 0 || number.trailing_zeros() >= 32 {
            return None;
        }
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number; neither half is zero.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The smallest id that is larger; `None` behind the last.
    pub fn next(self) -> Option<Self> {
        let next = self.get().checked_add(1)?;
        // Behind the last envelope of a message comes the first of the next.
        Self::new(next).or_else(|| Self::new(next.checked_add(1)?))
    }

    /// The largest id that is smaller; `None` before the first.
    pub fn previous(self) -> Option<Self> {
        let previous = self.get().checked_sub(1)?;
        Self::new(previous).or_else(|| Self::new(previous.checked_sub(1)?))
    }

    /// The message this envelope belongs to.
    pub fn message(self) -> MessageId {
        let high = u32::try_from(self.get() >> 32)
            .ok()
            .and_then(MessageId::new);
        high.expect("neither half of an envelope-id is zero")
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.get())
    }
}

impl fmt::Display for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.get())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex(text: &str, digits: usize) -> Result<u64, InvalidId> {
    if text.len() != digits || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(InvalidId);
    }
    u64::from_str_radix(text, 16).map_err(|_| InvalidId)
}

impl FromStr for MessageId {
    type Err = InvalidId;

    /// Exactly 8 hex digits of either case, not all zero.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let number = u32::try_from(hex(text, 8)?).map_err(|_| InvalidId)?;
        Self::new(number).ok_or(InvalidId)
    }
}

impl FromStr for EnvelopeId {
    type Err = InvalidId;

    /// Exactly 16 hex digits of either case, neither half all zero.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::new(hex(text, 16)?).ok_or(InvalidId)
    }
}

/// Hands out message-ids: unpredictable to look at, yet close together, and never one twice
/// within 65,536 epochs.
///
/// The upper 16 bits are the epoch, the lower 16 are random. An epoch ends after 16,384 ids, so
/// live messages lie in few key ranges (which a B-tree loves) and a free number is found in less
/// than two draws on average. Whoever opens a store begins with the epoch after the last one
/// stored; when an epoch begins, the ids still alive in it are marked with [`MessageIds::taken`].
#[derive(Debug)]
pub struct MessageIds {
    epoch: u16,
    left: u32,
    used: Box<[u64; 1024]>,
}

impl MessageIds {
    /// Ids per epoch: a quarter of its range, so that draws seldom collide.
    pub const PER_EPOCH: u32 = 16_384;

    /// Starts at `epoch`, of which nothing is used yet.
    pub fn new(epoch: u16) -> Self {
        Self {
            epoch,
            left: Self::PER_EPOCH,
            used: Box::new([0; 1024]),
        }
    }

    /// The epoch of the next id: the upper 16 bits.
    pub fn epoch(&self) -> u16 {
        self.epoch
    }

    /// The epoch an id belongs to.
    pub fn epoch_of(message: MessageId) -> u16 {
        let [a, b, ..] = message.get().to_be_bytes();
        u16::from_be_bytes([a, b])
    }

    /// Whether the next draw opens a new epoch, in which live ids must be marked first.
    pub fn exhausted(&self) -> bool {
        self.left == 0
    }

    /// Opens the next epoch.
    pub fn advance(&mut self) {
        *self = Self::new(self.epoch.wrapping_add(1));
    }

    /// Marks an id of this epoch as not available; an id of another epoch is none of our business.
    pub fn taken(&mut self, message: MessageId) {
        if Self::epoch_of(message) == self.epoch {
            self.mark(low_half(message));
        }
    }

    /// Draws an id, or `None` when the epoch is used up.
    pub fn draw(&mut self, rng: &mut Rng) -> Option<MessageId> {
        while self.left > 0 {
            let low = rng.u16();
            let id = MessageId::new(u32::from(self.epoch) << 16 | u32::from(low));
            match id {
                Some(id) if self.mark(low) => return Some(id),
                _ => {}
            }
        }
        None
    }

    /// Marks `low` as used; says whether it was free.
    fn mark(&mut self, low: u16) -> bool {
        let Some(word) = self.used.get_mut(usize::from(low / 64)) else {
            return false;
        };
        let bit = 1u64 << (low % 64);
        let free = *word & bit == 0;
        if free {
            *word |= bit;
            self.left = self.left.saturating_sub(1);
        }
        free
    }
}

fn low_half(message: MessageId) -> u16 {
    let [_, _, c, d] = message.get().to_be_bytes();
    u16::from_be_bytes([c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_upper_half_of_an_envelope_is_its_message() {
        let id: EnvelopeId = "8d3f01aa00000001".parse().unwrap();
        assert_eq!(id.message().to_string(), "8d3f01aa");
        assert_eq!(id.to_string(), "8d3f01aa00000001");
        assert_eq!(id.message().envelope(NonZeroU32::MIN), id);
        assert!(id.message().envelopes().contains(&id));
    }

    #[test]
    fn texts_that_are_no_ids_are_refused() {
        for text in [
            "",
            "0",
            "8d3f01a",
            "8d3f01aaa",
            "00000000",
            "+8d3f01a",
            "0x3f01aa",
            "8d3f01ag",
        ] {
            assert_eq!(text.parse::<MessageId>(), Err(InvalidId), "{text}");
        }
        for text in [
            "8d3f01aa",
            "000000001dc53ae5",
            "1dc53ae500000000",
            " 123456789abcdef",
        ] {
            assert_eq!(text.parse::<EnvelopeId>(), Err(InvalidId), "{text}");
        }
        assert_eq!(
            "8D3F01AA".parse::<MessageId>().unwrap().to_string(),
            "8d3f01aa"
        );
    }

    #[test]
    fn ids_are_unique_within_an_epoch_and_stay_in_it() {
        let mut rng = Rng::new(7);
        let mut ids = MessageIds::new(0);
        let mut seen = BTreeSet::new();
        while let Some(id) = ids.draw(&mut rng) {
            assert_eq!(MessageIds::epoch_of(id), 0);
            assert!(seen.insert(id));
        }
        assert_eq!(seen.len(), MessageIds::PER_EPOCH as usize);
        assert!(ids.exhausted());
        ids.advance();
        assert_eq!(ids.epoch(), 1);
        assert!(ids.draw(&mut rng).is_some());
    }

    #[test]
    fn a_taken_id_is_not_drawn() {
        let mut ids = MessageIds::new(9);
        let live: BTreeSet<_> = (0..40_000u32)
            .map(|low| MessageId::new(9 << 16 | low).unwrap())
            .collect();
        for id in &live {
            ids.taken(*id);
        }
        let mut rng = Rng::new(1);
        while let Some(id) = ids.draw(&mut rng) {
            assert!(!live.contains(&id));
        }
    }
}
