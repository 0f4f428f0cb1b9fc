//! Which segment files there are, what they are used for, and how much in them is still needed.
//!
//! What: a table shared by the writer, the sessions that write large messages, and the readers.
//! Promises: a segment is used again only when nothing queued lies in it, no session writes to it,
//! and neither the last checkpoint nor the one before needs it: so an older state of the database
//! finds everything it refers to. The last free segment is the ballast: only what is done with
//! queued mail may take it.
//! Absent on purpose: what is in a segment, and the order of writes.
//! Fails: with the media's errors when a file has to be made.

use super::place::Place;
use super::segment::{self, HEADER, Header, Use};
use crate::media::{Media, MediaFile};
use redspool_core::id::Epoch;
use redspool_core::queue::Paused;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// Free segments kept beside those in use, at least: the ballast and a spare. More are removed.
const FREE_MIN: usize = 2;

/// How often the size of a segment is halved where space is short.
const SMALLER: u32 = 6;

/// Who takes a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    /// New mail, or mail that moves: they can wait for space.
    Mail,
    /// What is done with queued mail. On a full disk it takes the ballast.
    Upkeep,
}

/// All segments.
#[derive(Debug)]
pub(super) struct Table {
    media: Arc<dyn Media>,
    segments: BTreeMap<u32, Segment>,
    /// Sequence number of the next life.
    sequence: u64,
    /// Octets of a segment, unless something larger has to fit.
    size: u32,
    /// The disk was found full, and what was given back is for the next checkpoint alone.
    tight: bool,
    /// Slots whose files are being made or removed in the background: nobody else may touch them.
    busy: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may be used for anything.
    Free,
    /// It is being written to.
    Active,
    /// It is complete.
    Sealed,
}

#[derive(Debug)]
struct Segment {
    file: Arc<dyn MediaFile>,
    usage: Use,
    sequence: u64,
    capacity: u32,
    state: State,
    /// Messages that lie in it, queued or corrupt.
    messages: u32,
    /// Their octets.
    live: u64,
    /// Sessions that write to it.
    reserved: u32,
    /// The checkpoint that no longer refers to it.
    emptied: Option<u64>,
}

/// A segment that begins a new life.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) slot: u32,
    pub(super) file: Arc<dyn MediaFile>,
    pub(super) sequence: u64,
    pub(super) capacity: u32,
}

impl Taken {
    /// Writes the head of the new life. It is not durable before the file is synced.
    pub(super) fn begin(
        &self,
        usage: Use,
        previous: Option<(u64, u32)>,
        number: u64,
        paused: Paused,
        epoch: Option<Epoch>,
    ) -> io::Result<()> {
        let header = Header {
            usage,
            sequence: self.sequence,
            capacity: self.capacity,
            previous,
            number,
            paused,
            epoch,
        };
        self.file.write(0, &[&header.seal(self.slot)])
    }
}

/// What the disk holds and what of it is needed, in octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// All segment files.
    pub files: u64,
    /// Messages that are queued or corrupt, with their envelopes, give or take.
    pub live: u64,
    /// Segments that may be used again.
    pub free: u64,
}

impl Table {
    pub(super) fn new(media: Arc<dyn Media>, size: u32) -> Self {
        Self {
            media,
            segments: BTreeMap::new(),
            sequence: 1,
            size,
            tight: false,
            busy: BTreeSet::new(),
        }
    }

    /// Adds a segment found on the disk. One whose head is unreadable is free, unless the database
    /// says otherwise; its claims come later.
    pub(super) fn add(
        &mut self,
        slot: u32,
        file: Arc<dyn MediaFile>,
        length: u32,
        found: Option<&Header>,
    ) {
        let (usage, sequence) = found.map_or((Use::Hot, 0), |head| (head.usage, head.sequence));
        self.sequence = self.sequence.max(sequence + 1);
        self.segments.insert(
            slot,
            Segment {
                file,
                usage,
                sequence,
                capacity: length,
                state: if found.is_some() {
                    State::Sealed
                } else {
                    State::Free
                },
                messages: 0,
                live: 0,
                reserved: 0,
                emptied: None,
            },
        );
    }

    /// Everything queued is claimed: what lies in no segment now is not in checkpoint `generation`.
    pub(super) fn loaded(&mut self, generation: u64) {
        let empty = self.segments.values_mut().filter(|one| one.messages == 0);
        for one in empty {
            one.emptied = Some(generation);
        }
    }

    /// A segment that is free, or a new one, with room for `need` octets of frames.
    pub(super) fn take(&mut self, usage: Use, need: usize, taker: Taker) -> io::Result<Taken> {
        let need = u32::try_from(need)
            .ok()
            .and_then(|need| need.checked_add(HEADER));
        let need = need.ok_or(io::ErrorKind::FileTooLarge)?;
        let ballast = match taker {
            Taker::Mail if self.tight => return Err(io::ErrorKind::StorageFull.into()),
            Taker::Mail => self.spares() <= 1,
            Taker::Upkeep => false,
        };
        let free = self.segments.iter().filter(|(_, one)| {
            let kept = ballast && one.capacity >= self.size;
            one.state == State::Free && one.capacity >= need && !kept
        });
        // The oldest life first: what settled its messages outlives it, should all be read again.
        let slot = match free.min_by_key(|(_, one)| one.sequence) {
            Some((slot, _)) => *slot,
            None => match (self.make(need.max(self.size)), taker) {
                (Err(why), Taker::Upkeep) if why.kind() == io::ErrorKind::StorageFull => {
                    self.make_small(need)?
                }
                (made, _) => made?,
            },
        };
        let sequence = self.sequence;
        self.sequence += 1;
        let one = self
            .segments
            .get_mut(&slot)
            .ok_or(io::ErrorKind::NotFound)?;
        one.state = State::Active;
        (one.usage, one.sequence, one.emptied) = (usage, sequence, None);
        Ok(Taken {
            slot,
            file: Arc::clone(&one.file),
            sequence,
            capacity: one.capacity,
        })
    }

    /// Makes a new file; it is free.
    fn make(&mut self, capacity: u32) -> io::Result<u32> {
        let slot = self.vacant().ok_or(io::ErrorKind::FileTooLarge)?;
        let file = segment::make(&*self.media, slot, capacity)?;
        self.add(slot, file, capacity, None);
        Ok(slot)
    }

    /// Makes a new file that is smaller than others, for there is no space for one of those. Once it
    /// is free it is removed.
    fn make_small(&mut self, need: u32) -> io::Result<u32> {
        let sizes = (1..=SMALLER).map(|times| self.size >> times);
        let sizes: Vec<_> = sizes.filter(|size| *size >= need).collect();
        for size in sizes {
            match self.make(size) {
                Err(why) if why.kind() == io::ErrorKind::StorageFull => {}
                made => return made,
            }
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    /// The first slot that has no file and will not have one soon.
    fn vacant(&self) -> Option<u32> {
        let taken = |slot: &u32| self.segments.contains_key(slot) || self.busy.contains(slot);
        (1..Place::STAGED).find(|slot| !taken(slot))
    }

    /// Free segments that would do for the log.
    fn spares(&self) -> usize {
        let free = self.segments.values();
        free.filter(|one| one.state == State::Free && one.capacity >= self.size)
            .count()
    }

    /// Whether a spare is worth preparing, for there are not `enough`: the slot that is set apart
    /// for it, and its octets.
    pub(super) fn wants_spare(&mut self, enough: usize) -> Option<(u32, u32)> {
        if self.tight || self.spares() >= enough {
            return None;
        }
        let slot = self.vacant()?;
        self.busy.insert(slot);
        Some((slot, self.size))
    }

    /// Takes over the spare that was prepared, or gives its slot up.
    pub(super) fn add_spare(&mut self, slot: u32, made: Option<(Arc<dyn MediaFile>, u32)>) {
        self.busy.remove(&slot);
        if let Some((file, capacity)) = made {
            self.add(slot, file, capacity, None);
        }
    }

    /// The files of these slots are gone.
    pub(super) fn removed(&mut self, slots: &[u32]) {
        for slot in slots {
            self.busy.remove(slot);
        }
    }

    /// The file of a slot and the sequence number it has now.
    pub(super) fn file(&self, slot: u32) -> Option<(Arc<dyn MediaFile>, u64)> {
        let one = self.segments.get(&slot)?;
        Some((Arc::clone(&one.file), one.sequence))
    }

    pub(super) fn sequence_of(&self, slot: u32) -> u64 {
        self.segments.get(&slot).map_or(0, |one| one.sequence)
    }

    /// A message lies in this segment from now on.
    pub(super) fn claim(&mut self, at: Place, octets: u32) {
        if let Some(one) = self.segments.get_mut(&at.slot) {
            one.messages += 1;
            one.live += u64::from(octets);
            one.emptied = None;
            if one.state == State::Free {
                one.state = State::Sealed;
            }
        }
    }

    /// A message has left this segment; `generation` is the first checkpoint that will know it.
    pub(super) fn release(&mut self, at: Place, octets: u32, generation: u64) {
        if let Some(one) = self.segments.get_mut(&at.slot) {
            one.messages = one.messages.saturating_sub(1);
            one.live = one.live.saturating_sub(u64::from(octets));
            if one.messages == 0 {
                one.emptied = Some(generation);
            }
        }
    }

    /// A session begins or ends writing to this segment.
    pub(super) fn reserve(&mut self, slot: u32, begin: bool) {
        if let Some(one) = self.segments.get_mut(&slot) {
            one.reserved = if begin {
                one.reserved + 1
            } else {
                one.reserved.saturating_sub(1)
            };
        }
    }

    /// Nothing more is written to this segment.
    pub(super) fn seal(&mut self, slot: u32, generation: u64) {
        if let Some(one) = self.segments.get_mut(&slot) {
            one.state = State::Sealed;
            if one.messages == 0 {
                one.emptied = Some(generation);
            }
        }
    }

    /// Frees what nothing needs any more, now that checkpoint `generation` is done and hot
    /// segments before `sequence` are never replayed again. Gives files to be removed, for there
    /// are free ones enough.
    pub(super) fn recycle(&mut self, generation: u64, sequence: u64) -> Vec<u32> {
        self.tight = false;
        for one in self.segments.values_mut() {
            let past = one.usage != Use::Hot || one.sequence < sequence;
            let empty = one.messages == 0 && one.reserved == 0;
            let forgotten = one.emptied.is_some_and(|emptied| generation > emptied);
            if one.state == State::Sealed && past && empty && forgotten {
                one.state = State::Free;
            }
        }
        let free = self.free();
        let keep = FREE_MIN.max((self.segments.len() - free.len()) / 4);
        let small = |slot: &u32| self.capacity(*slot) < self.size;
        let (mut surplus, free): (Vec<_>, Vec<_>) = free.into_iter().partition(small);
        surplus.extend(free.into_iter().skip(keep));
        for slot in &surplus {
            self.segments.remove(slot);
        }
        self.busy.extend(&surplus);
        surplus
    }

    /// Sealed segments of which little is needed, the emptiest first, if more than half of what
    /// the files hold is waste: what lies in them had better move. Empty ones will be free anyway.
    pub(super) fn wasteful(&self, before: u64) -> Vec<u32> {
        let held = self.held();
        let used = held.files - held.free;
        // A few segments are always in the making.
        if used <= held.live.saturating_mul(2) + 4 * u64::from(self.size) {
            return Vec::new();
        }
        let sealed = self.segments.iter().filter(|(_, one)| {
            one.state == State::Sealed
                && one.messages > 0
                && (one.usage != Use::Hot || one.sequence < before)
                && one.live * 2 < u64::from(one.capacity)
        });
        let mut sealed: Vec<_> = sealed.map(|(slot, one)| (one.live, *slot)).collect();
        sealed.sort_unstable();
        sealed.into_iter().map(|(_, slot)| slot).take(4).collect()
    }

    /// The files of segments in which messages lie, the latest life first.
    pub(super) fn latest(&self) -> Vec<Arc<dyn MediaFile>> {
        let full = self.segments.values().filter(|one| one.messages > 0);
        let mut full: Vec<_> = full.collect();
        full.sort_unstable_by_key(|one| std::cmp::Reverse(one.sequence));
        full.into_iter().map(|one| Arc::clone(&one.file)).collect()
    }

    pub(super) fn usage(&self, slot: u32) -> Option<Use> {
        self.segments.get(&slot).map(|one| one.usage)
    }

    /// Sealed segments that are not full of what is needed, and have some of it.
    pub(super) fn loose(&self) -> Vec<u32> {
        let sealed = self.segments.iter().filter(|(_, one)| {
            let needed = one.live.saturating_mul(10);
            one.state == State::Sealed
                && one.messages > 0
                && needed < u64::from(one.capacity).saturating_mul(9)
        });
        sealed.map(|(slot, _)| *slot).collect()
    }

    /// Takes every free segment out; their files are to be removed.
    pub(super) fn clear(&mut self) -> Vec<u32> {
        let free = self.free();
        self.segments.retain(|slot, _| !free.contains(slot));
        self.busy.extend(&free);
        free
    }

    /// Removes free segments, for the disk is full and a checkpoint needs room: all but the
    /// ballast; that, too, if there is no other. Says whether there was any. Until a checkpoint is
    /// done, nobody but those who may take the ballast gets a segment.
    pub(super) fn give_back(&mut self) -> bool {
        self.tight = true;
        let mut free = self.free();
        if free.len() > 1 {
            free.pop();
        }
        for slot in &free {
            // A file that stays is found free at the next start.
            let _ = self.media.remove(&segment::name(*slot));
            self.segments.remove(slot);
        }
        !free.is_empty()
    }

    fn capacity(&self, slot: u32) -> u32 {
        self.segments.get(&slot).map_or(0, |one| one.capacity)
    }

    fn free(&self) -> Vec<u32> {
        let free = self.segments.iter();
        free.filter(|(_, one)| one.state == State::Free)
            .map(|(slot, _)| *slot)
            .collect()
    }

    /// What the disk holds.
    pub(super) fn held(&self) -> Held {
        let mut held = Held::default();
        for one in self.segments.values() {
            held.files += u64::from(one.capacity);
            held.live += one.live;
            if one.state == State::Free {
                held.free += u64::from(one.capacity);
            }
        }
        held
    }

    pub(super) fn media(&self) -> &Arc<dyn Media> {
        &self.media
    }
}
