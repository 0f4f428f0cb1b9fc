//! Names of messages, envelopes and outgoing sessions.
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

/// Number of an outgoing session; shown as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

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

/// A stretch of 16,384 message-ids that are handed out before those of the next: there are 2^18 of
/// them, so that no id comes a second time before all 2^32 have been used.
///
/// The upper half of its ids is the lower 16 bits of its number, so they lie close together, which a
/// B-tree loves. Which quarter of the 65,536 with that upper half are its own, the upper two bits
/// of the number say; a bijection scatters them, so that ids look alike in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    round: u16,
    upper: u16,
}

impl Epoch {
    /// Ids of an epoch.
    pub const IDS: u16 = 0x4000;

    /// Rounds over all upper halves.
    const ROUNDS: u16 = 4;

    /// Epochs until the first one comes again.
    const COUNT: u32 = 0x4_0000;

    /// The first epoch with this upper half.
    pub const fn new(upper: u16) -> Self {
        Self { round: 0, upper }
    }

    /// One that `rng` chooses.
    pub fn random(rng: &mut Rng) -> Self {
        Self {
            round: rng.u16() % Self::ROUNDS,
            upper: rng.u16(),
        }
    }

    /// The epoch an id belongs to.
    pub fn of(message: MessageId) -> Self {
        let (upper, lower) = halves(message);
        Self {
            round: gather(upper, lower) / Self::IDS,
            upper,
        }
    }

    /// The one behind it; behind the last the first.
    #[must_use]
    pub fn next(self) -> Self {
        let (upper, over) = self.upper.overflowing_add(1);
        let round = (self.round + u16::from(over)) % Self::ROUNDS;
        Self { round, upper }
    }

    /// The later of the epoch noted so far and one just seen. Stragglers of the epochs before do not
    /// turn the counter back.
    #[must_use]
    pub fn later(noted: Option<Self>, seen: Self) -> Self {
        match noted {
            Some(noted) if seen.behind(noted) >= Self::COUNT / 2 => noted,
            _ => seen,
        }
    }

    /// How many epochs it comes after another.
    fn behind(self, other: Self) -> u32 {
        let counter = |epoch: Self| u32::from(epoch.round) << 16 | u32::from(epoch.upper);
        counter(self).wrapping_sub(counter(other)) % Self::COUNT
    }

    /// The keys among which its ids are, together with those of the same upper half.
    pub fn range(self) -> RangeInclusive<MessageId> {
        let first = u32::from(self.upper) << 16;
        let id = |number, or| MessageId::new(number).unwrap_or(or);
        id(first, MessageId::MIN)..=id(first | 0xffff, MessageId::MAX)
    }

    /// Its number as it is stored: the upper half, and 131,072 for every round.
    pub fn number(self) -> u32 {
        u32::from(self.round) << 17 | u32::from(self.upper)
    }

    /// The epoch of a stored number.
    pub fn from_number(number: u64) -> Option<Self> {
        let round = u16::try_from(number >> 17).ok();
        let round = round.filter(|round| *round < Self::ROUNDS)?;
        let upper = u16::try_from(number & 0x1_ffff).ok()?;
        Some(Self { round, upper })
    }

    /// One of its ids, if that is not zero.
    fn id(self, index: u16) -> Option<MessageId> {
        let lower = scatter(self.upper, self.round * Self::IDS + index);
        MessageId::new(u32::from(self.upper) << 16 | u32::from(lower))
    }

    /// Which of its ids this is; `None` for one of another epoch.
    fn index(self, message: MessageId) -> Option<u16> {
        let (upper, lower) = halves(message);
        (Self::of(message) == self).then(|| gather(upper, lower) % Self::IDS)
    }
}

/// Factors that scatter, and what undoes them.
const FACTORS: [u16; 2] = [0x9e37, 0x85eb];
const INVERSES: [u16; 2] = [inverse(FACTORS[0]), inverse(FACTORS[1])];

/// What an odd number is multiplied with to give 1: every step doubles the bits that are right.
const fn inverse(odd: u16) -> u16 {
    let mut found = odd;
    let mut steps = 0;
    while steps < 4 {
        found = found.wrapping_mul(2u16.wrapping_sub(odd.wrapping_mul(found)));
        steps += 1;
    }
    found
}

/// Another number for every number, each once; [`gather`] gives it back.
fn scatter(upper: u16, place: u16) -> u16 {
    let mut lower = place.wrapping_mul(FACTORS[0]);
    lower ^= lower >> 8;
    lower = lower.wrapping_add(upper).wrapping_mul(FACTORS[1]);
    lower ^ lower >> 8
}

fn gather(upper: u16, lower: u16) -> u16 {
    let mut place = lower ^ lower >> 8;
    place = place.wrapping_mul(INVERSES[1]).wrapping_sub(upper);
    place ^= place >> 8;
    place.wrapping_mul(INVERSES[0])
}

fn halves(message: MessageId) -> (u16, u16) {
    let [a, b, c, d] = message.get().to_be_bytes();
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

/// Hands out message-ids: unpredictable to look at, yet close together, and never one twice
/// within 2^18 epochs.
///
/// Whoever opens a store begins with the epoch after the last one stored; when an epoch begins, the
/// ids still alive in it are marked with [`MessageIds::taken`].
#[derive(Debug)]
pub struct MessageIds {
    epoch: Epoch,
    left: u16,
    used: Box<[u64; WORDS]>,
}

/// Words of a bit for every id of an epoch.
const WORDS: usize = Epoch::IDS as usize / 64;

impl MessageIds {
    /// Starts at `epoch`, of which nothing is used yet.
    pub fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            left: Epoch::IDS,
            used: Box::new([0; WORDS]),
        }
    }

    /// The epoch of the next id.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the next draw opens a new epoch, in which live ids must be marked first.
    pub fn exhausted(&self) -> bool {
        self.left == 0
    }

    /// Opens the next epoch.
    pub fn advance(&mut self) {
        *self = Self::new(self.epoch.next());
    }

    /// Marks an id of this epoch as not available; an id of another epoch is none of our business.
    pub fn taken(&mut self, message: MessageId) {
        if let Some(index) = self.epoch.index(message) {
            self.mark(index);
        }
    }

    /// Draws an id, or `None` when the epoch is used up.
    pub fn draw(&mut self, rng: &mut Rng) -> Option<MessageId> {
        while self.left > 0 {
            let index = self.free(rng.u16() % Epoch::IDS)?;
            self.mark(index);
            // Zero is no id.
            if let Some(id) = self.epoch.id(index) {
                return Some(id);
            }
        }
        None
    }

    /// The first free index from `start` on; behind the last comes the first.
    fn free(&self, start: u16) -> Option<u16> {
        let (word, bit) = (usize::from(start / 64), start % 64);
        let behind = |at: usize| if at == word { !0 << bit } else { !0 };
        let ahead = self.used.iter().enumerate().skip(word);
        let ahead = ahead.map(|(at, used)| (at, !used & behind(at)));
        let again = self.used.iter().enumerate().map(|(at, used)| (at, !used));
        let (at, free) = ahead.chain(again).find(|(_, free)| *free != 0)?;
        let low = u16::try_from(free.trailing_zeros()).ok()?;
        Some(u16::try_from(at).ok()? * 64 + low)
    }

    /// Marks an index as used.
    fn mark(&mut self, index: u16) {
        if let Some(word) = self.used.get_mut(usize::from(index / 64)) {
            let bit = 1u64 << (index % 64);
            if *word & bit == 0 {
                *word |= bit;
                self.left = self.left.saturating_sub(1);
            }
        }
    }
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
        let mut ids = MessageIds::new(Epoch::new(3));
        let mut seen = BTreeSet::new();
        while let Some(id) = ids.draw(&mut rng) {
            assert_eq!(Epoch::of(id), Epoch::new(3));
            assert!(seen.insert(id));
        }
        assert_eq!(seen.len(), usize::from(Epoch::IDS));
        assert!(ids.exhausted());
        ids.advance();
        assert_eq!(ids.epoch(), Epoch::new(4));
        assert!(ids.draw(&mut rng).is_some());
    }

    #[test]
    fn the_rounds_share_every_upper_half_and_leave_nothing_out() {
        for upper in [0, 1, 0x8000, 0xffff] {
            let mut rng = Rng::new(1);
            let mut seen = BTreeSet::new();
            for round in 0..Epoch::ROUNDS {
                let epoch = Epoch { round, upper };
                let mut ids = MessageIds::new(epoch);
                while let Some(id) = ids.draw(&mut rng) {
                    assert!(seen.insert(id), "{id} came twice");
                    assert_eq!(Epoch::of(id), epoch);
                    assert!(epoch.range().contains(&id));
                }
            }
            let all = if upper == 0 { 0xffff } else { 0x1_0000 };
            assert_eq!(seen.len(), all, "zero is no id");
        }
    }

    #[test]
    fn a_taken_id_is_not_drawn() {
        let mut ids = MessageIds::new(Epoch::new(9));
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

    #[test]
    fn epochs_count_over_all_rounds_and_never_turn_back() {
        let mut epoch = Epoch::new(0);
        for _ in 0..Epoch::COUNT {
            let next = epoch.next();
            assert_eq!(Epoch::later(Some(epoch), next), next);
            assert_eq!(Epoch::later(Some(next), epoch), next);
            assert_eq!(Epoch::from_number(next.number().into()), Some(next));
            epoch = next;
        }
        assert_eq!(epoch, Epoch::new(0));
        assert_eq!(Epoch::later(None, epoch), epoch);
        assert_eq!(Epoch::later(Some(epoch), epoch), epoch);
    }

    #[test]
    fn numbers_of_no_epoch_are_none() {
        for number in [0x1_0000, 0x3_0000, 8 << 16, u64::MAX] {
            assert_eq!(Epoch::from_number(number), None, "{number:x}");
        }
    }
}
