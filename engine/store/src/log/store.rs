//! The log store: commits, and what is done between them.
//!
//! What: a group is planned against the index, written with one write, synced with one sync, and
//! only then merged into the index and answered. Between groups checkpoints are begun, messages
//! moved and segments recycled.
//! Promises: P1 to P3 of the contract, see DESIGN.md. The first failure of a write or sync costs
//! its group; the log goes on in another segment. A second one before the next checkpoint ends the
//! store.
//! Absent on purpose: retries of a failed sync.
//! Fails: with `StoreError`; [`survived`](Store::survived) tells whether the store goes on.

use super::draft::Draft;
use super::extent::Extents;
use super::findings::Findings;
use super::frame::{Builder, Kind, Stamp};
use super::index::Delta;
use super::keeper::{Chosen, Job, Keeper, Move, Outcome};
use super::open::AHEAD;
use super::options::Options;
use super::place::{Place, Position};
use super::plan::{Plan, Planned};
use super::prepare::{LogPreparer, Prepared};
use super::read::LogReader;
use super::segment::{HEADER, Use};
use super::shared::{Shared, io_fault};
use super::table::{Held, Taken, Taker};
use crate::lock::Lock;
use crate::record::Damage;
use redspool_core::id::MessageId;
use redspool_core::queue::{Receipt, Store, StoreError};
use redspool_core::space::Space;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A segment that is written to, and up to where.
#[derive(Debug)]
struct Open {
    taken: Taken,
    offset: u32,
}

impl Open {
    fn room(&self) -> usize {
        (self.taken.capacity - self.offset) as usize
    }
}

/// A queue store with a commit log in front of a redb database.
#[derive(Debug)]
pub struct LogStore {
    shared: Arc<Shared>,
    extents: Arc<Extents>,
    keeper: Keeper,
    options: Options,
    findings: Findings,
    hot: Option<Open>,
    cold: Option<Open>,
    /// The last hot segment before this start, and where its frames end.
    last: Option<(u64, u32)>,
    /// Number of the next frame.
    number: u64,
    /// The last checkpoint.
    generation: u64,
    /// The first checkpoint that will know of what is committed now.
    coming: Arc<AtomicU64>,
    /// Where the log is replayed from, for the last checkpoint and for the one before.
    replayed: [u64; 2],
    /// Octets of log since the last checkpoint that is done, and since the one that runs.
    tail: u64,
    fresh: u64,
    checked: Instant,
    running: bool,
    failed_checkpoint: Option<StoreError>,
    copying: bool,
    sparing: bool,
    cooling: Vec<MessageId>,
    /// A write or sync has failed since the last checkpoint.
    wounded: bool,
    /// Space was given back since a checkpoint failed for want of it.
    relieved: bool,
    survived: bool,
    dead: bool,
    /// Held while the store is open; none on media of the caller's.
    _lock: Option<Lock>,
}

/// What opening hands over.
pub(super) struct Start {
    pub(super) shared: Arc<Shared>,
    pub(super) options: Options,
    pub(super) findings: Findings,
    pub(super) last: Option<(u64, u32)>,
    pub(super) number: u64,
    pub(super) generation: u64,
    pub(super) position: u64,
    pub(super) tail: u64,
    pub(super) lock: Option<Lock>,
}

impl LogStore {
    pub(super) fn start(start: Start) -> Result<Self, StoreError> {
        let coming = Arc::new(AtomicU64::new(start.generation + 1));
        start.shared.table.lock().loaded(start.generation);
        Ok(Self {
            extents: Arc::new(Extents::new(Arc::clone(&start.shared), Arc::clone(&coming))),
            keeper: Keeper::new(Arc::clone(&start.shared), start.options.inline)?,
            shared: start.shared,
            options: start.options,
            findings: start.findings,
            hot: None,
            cold: None,
            last: start.last,
            number: start.number,
            generation: start.generation,
            coming,
            replayed: [start.position; 2],
            tail: start.tail,
            fresh: start.tail,
            checked: Instant::now(),
            running: false,
            failed_checkpoint: None,
            copying: false,
            sparing: false,
            cooling: Vec::new(),
            wounded: false,
            relieved: false,
            survived: false,
            dead: false,
            _lock: start.lock,
        })
    }

    /// Has the disk bring what a start makes due: the log that came last. It was dropped from the
    /// cache when it was opened.
    pub(super) fn warm(&self) {
        let mut left = AHEAD;
        let mut files = self.shared.table.lock().latest();
        files.retain(|file| {
            let length = file.length().unwrap_or(u64::MAX);
            let fits = length <= left;
            left = if fits { left - length } else { 0 };
            fits
        });
        self.keeper.give(Job::Expect(files));
    }

    /// What opening found that was not as it should be.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// What the disk holds of segments, and what of it is needed.
    pub fn held(&self) -> Held {
        self.shared.table.lock().held()
    }

    fn coming(&self) -> u64 {
        self.coming.load(Ordering::Relaxed)
    }

    /// Goes on in a new segment with room for `need` octets. The old one ends where it is now.
    fn roll(&mut self, need: usize, taker: Taker) -> Result<(), StoreError> {
        let previous = match &self.hot {
            Some(hot) => Some((hot.taken.sequence, hot.offset)),
            None => self.last,
        };
        let (paused, epoch) = {
            let index = self.shared.index.read();
            (index.paused, index.epoch)
        };
        let taken = self.shared.table.lock().take(Use::Hot, need, taker);
        let taken = taken.map_err(|why| io_fault(&why))?;
        let begun = taken
            .begin(Use::Hot, previous, self.number, paused, epoch)
            // Durable before any frame: so no two lives have one sequence number.
            .and_then(|()| taken.file.sync());
        let mut table = self.shared.table.lock();
        if let Err(why) = begun {
            table.seal(taken.slot, u64::MAX);
            return Err(io_fault(&why));
        }
        if let Some(old) = self.hot.take() {
            table.seal(old.taken.slot, self.coming());
        }
        drop(table);
        self.hot = Some(Open {
            taken,
            offset: HEADER,
        });
        Ok(())
    }

    /// Writes a planned group and syncs it. Gives where it begins.
    fn write(&mut self, planned: &mut Planned, taker: Taker) -> Result<Place, StoreError> {
        let room = self.hot.as_ref().map_or(0, Open::room);
        if room < planned.length
            && let Err(why) = self.roll(planned.length, taker)
        {
            // Nothing was written where the log is; with more room, the next group may fit.
            self.survived = !self.wounded && self.hot.is_some();
            self.dead = !self.survived;
            return Err(why);
        }
        let Some(hot) = &self.hot else {
            return Err(StoreError::Poisoned);
        };
        let stamp = Stamp {
            sequence: hot.taken.sequence,
            number: self.number,
            group: self.number,
        };
        for (number, frame) in (self.number..).zip(&mut planned.frames) {
            let stamp = Stamp { number, ..stamp };
            frame.stamp(Kind::Transition, stamp, self.options.controls);
        }
        let parts: Vec<_> = planned.frames.iter().map(Builder::octets).collect();
        let place = Place {
            slot: hot.taken.slot,
            offset: hot.offset,
        };
        let synced = || {
            // What a frame refers to is durable before it.
            let mut slots: Vec<u32> = Vec::new();
            for extent in &planned.extents {
                if !slots.contains(&extent.at.slot) {
                    slots.push(extent.at.slot);
                    extent.file.sync()?;
                }
            }
            hot.taken.file.write(u64::from(hot.offset), &parts)?;
            if self.options.controls.answer_before_sync {
                return Ok(());
            }
            hot.taken.file.sync()
        };
        match synced() {
            Ok(()) => Ok(place),
            Err(why) => {
                self.abandon();
                Err(io_fault(&why))
            }
        }
    }

    /// A write or sync has failed: what the segment holds behind the last group is not known. The
    /// log goes on elsewhere, and says so there before anybody is told.
    fn abandon(&mut self) {
        self.survived = !self.wounded && self.roll(0, Taker::Upkeep).is_ok();
        self.dead = !self.survived;
        self.wounded = true;
    }

    fn planned(&self, group: Vec<Prepared>) -> Result<Planned, StoreError> {
        let index = self.shared.index.read();
        Plan::new(&self.shared, &index).group(group)
    }

    fn merge(&self, delta: Delta, base: Place) {
        let mut index = self.shared.index.write();
        let mut table = self.shared.table.lock();
        index.merge(delta, base, &mut table, self.coming());
    }

    /// Takes over what was done in the background.
    fn receive(&mut self) -> Result<(), StoreError> {
        while let Some(outcome) = self.keeper.take() {
            self.outcome(outcome)?;
        }
        Ok(())
    }

    fn outcome(&mut self, outcome: Outcome) -> Result<(), StoreError> {
        match outcome {
            Outcome::Checkpoint {
                position,
                generation,
                result,
            } => {
                self.running = false;
                match result {
                    Ok(()) => self.checkpointed(position, generation),
                    Err(why) => {
                        self.shared.index.write().thaw();
                        // Recycling, which gives room, takes a checkpoint, which takes room.
                        self.relieved =
                            why == StoreError::Full && self.shared.table.lock().give_back();
                        self.failed_checkpoint = Some(why);
                    }
                }
            }
            Outcome::Spare { slot, made } => {
                self.sparing = false;
                self.shared.table.lock().add_spare(slot, made);
            }
            Outcome::Copied {
                moves,
                damaged,
                offset,
                full,
                result,
            } => {
                self.copying = false;
                self.copied(moves, offset, full, result.is_err());
                self.set_aside(damaged)?;
            }
            Outcome::Removed(slots) => self.shared.table.lock().removed(&slots),
            Outcome::Expected => {}
        }
        Ok(())
    }

    fn checkpointed(&mut self, position: Position, generation: u64) {
        self.failed_checkpoint = None;
        self.wounded = false;
        self.generation = generation;
        self.replayed = [self.replayed[1], position.sequence];
        self.tail = self.fresh;
        self.shared.index.write().frozen = None;
        let surplus = self
            .shared
            .table
            .lock()
            .recycle(generation, self.replayed[0]);
        if !surplus.is_empty() {
            self.keeper.give(Job::Remove(surplus));
        }
    }

    /// Messages lie where they were copied to, if they are still where they were copied from.
    fn copied(&mut self, moves: Vec<Move>, offset: u32, full: bool, failed: bool) {
        let delta = {
            let index = self.shared.index.read();
            let mut draft = Draft::new(&index);
            for one in moves {
                let stays = |entry: &super::index::Entry| entry.at == one.from;
                if index.messages.get(&one.message).is_some_and(stays) {
                    draft.relocate(one.message, one.to, one.octets);
                }
            }
            draft.finish()
        };
        self.merge(delta, Place { slot: 0, offset: 0 });
        if let Some(cold) = &mut self.cold {
            cold.offset = offset;
        }
        if (full || failed)
            && let Some(cold) = self.cold.take()
        {
            let coming = self.coming();
            self.shared.table.lock().seal(cold.taken.slot, coming);
        }
    }

    /// Sets messages aside that turned out damaged while they were moved.
    fn set_aside(&mut self, damaged: Vec<(MessageId, Damage)>) -> Result<(), StoreError> {
        if damaged.is_empty() {
            return Ok(());
        }
        let preparer = self.preparer();
        let prepared = damaged.into_iter().map(|(message, Damage(reason))| {
            use redspool_core::queue::{Prepare as _, Transition};
            preparer.prepare(Transition::Corrupt {
                message,
                reason: reason.into(),
                at: super::open::today(),
            })
        });
        let prepared = prepared.collect::<Result<_, _>>()?;
        self.group(prepared).map(|_| ())
    }

    fn group(&mut self, group: Vec<Prepared>) -> Result<Vec<Receipt>, StoreError> {
        let taker = if group.iter().any(|prepared| prepared.mail) {
            Taker::Mail
        } else {
            Taker::Upkeep
        };
        let mut planned = self.planned(group)?;
        if planned.frames.is_empty() {
            return Ok(planned.receipts);
        }
        let base = self.write(&mut planned, taker)?;
        let frames = u64::try_from(planned.frames.len()).unwrap_or(u64::MAX);
        let length = u32::try_from(planned.length).unwrap_or(u32::MAX);
        self.number += frames;
        if let Some(hot) = &mut self.hot {
            hot.offset += length;
        }
        self.tail += u64::from(length);
        self.fresh += u64::from(length);
        self.cooling.append(&mut planned.cooled);
        self.merge(planned.delta, base);
        // Claimed by the index now.
        drop(planned.extents);
        Ok(planned.receipts)
    }

    /// Makes a checkpoint and waits for it.
    pub(super) fn bring_up_to_date(&mut self) -> Result<(), StoreError> {
        if !self.running {
            self.checkpoint();
        }
        while self.running {
            match self.keeper.wait() {
                Some(outcome) => self.outcome(outcome)?,
                None => return Err(StoreError::Closed),
            }
        }
        self.failed_checkpoint.clone().map_or(Ok(()), Err)
    }

    /// Moves what is needed out of segments that hold little of it, and gives the rest back to the
    /// file system. Gives what the segments held before and hold now.
    pub(super) fn tighten(&mut self) -> Result<(Held, Held), StoreError> {
        let before = self.held();
        let mut loose = self.shared.table.lock().loose();
        while !loose.is_empty() {
            if self.cold.is_none() {
                self.cold = self.cold_segment();
            }
            let Some(cold) = &self.cold else {
                return Err(StoreError::Full);
            };
            self.copying = true;
            self.keeper.give(Job::Copy {
                what: Chosen::In(loose.clone()),
                to: cold.taken.clone(),
                offset: cold.offset,
                number: self.number,
            });
            while self.copying {
                let outcome = self.keeper.wait().ok_or(StoreError::Closed)?;
                self.outcome(outcome)?;
            }
            // Another segment is taken when one is full; without that, all have moved.
            if self.cold.is_some() {
                loose.clear();
            }
        }
        if let Some(cold) = self.cold.take() {
            self.shared
                .table
                .lock()
                .seal(cold.taken.slot, self.coming());
        }
        // Free is what neither the last checkpoint nor the one before refers to.
        for _ in 0..3 {
            self.bring_up_to_date()?;
        }
        let free = self.shared.table.lock().clear();
        self.keeper.give(Job::Remove(free));
        while let Some(outcome) = self.keeper.wait() {
            let removed = matches!(outcome, Outcome::Removed(_));
            self.outcome(outcome)?;
            if removed {
                break;
            }
        }
        Ok((before, self.held()))
    }

    /// Begins a checkpoint.
    fn checkpoint(&mut self) {
        let mut index = self.shared.index.write();
        let table = self.shared.table.lock();
        let frozen = index.freeze(&table);
        drop(table);
        drop(index);
        let generation = self.coming.fetch_add(1, Ordering::Relaxed);
        let (sequence, offset) = match &self.hot {
            Some(hot) => (hot.taken.sequence, hot.offset),
            None => self.last.unwrap_or((0, HEADER)),
        };
        self.running = true;
        self.relieved = false;
        self.fresh = 0;
        self.checked = Instant::now();
        self.keeper.give(Job::Checkpoint {
            frozen,
            position: Position {
                sequence,
                offset: u64::from(offset),
                number: self.number,
            },
            generation,
            reopen: self.failed_checkpoint.is_some(),
        });
    }

    /// Begins what is due.
    fn delegate(&mut self) {
        if !self.running {
            let due = self.fresh >= self.options.checkpoint_octets
                && self.failed_checkpoint.is_none()
                || self.relieved
                || self.checked.elapsed() >= self.options.checkpoint_interval;
            if due && !self.shared.index.read().changes.is_empty() {
                self.checkpoint();
            }
        }
        self.prepare_spare();
        if !self.copying {
            self.copy();
        }
    }

    /// Has the ballast made, and a spare when the log is about to go on in another segment.
    fn prepare_spare(&mut self) {
        if self.sparing {
            return;
        }
        let half_full = |hot: &Open| hot.room() < (hot.taken.capacity / 2) as usize;
        let enough = match &self.hot {
            Some(hot) => 1 + usize::from(half_full(hot)),
            None => 0,
        };
        let spare = self.shared.table.lock().wants_spare(enough);
        if let Some((slot, capacity)) = spare {
            self.sparing = true;
            self.keeper.give(Job::Spare { slot, capacity });
        }
    }

    /// Moves deferred messages, or those in segments of which little is needed.
    fn copy(&mut self) {
        let what = if self.cooling.len() >= self.options.cool {
            Chosen::These(std::mem::take(&mut self.cooling))
        } else {
            let wasteful = self.shared.table.lock().wasteful(self.replayed[0]);
            if wasteful.is_empty() {
                return;
            }
            Chosen::In(wasteful)
        };
        if self.cold.is_none() {
            self.cold = self.cold_segment();
        }
        let Some(cold) = &self.cold else {
            return;
        };
        self.copying = true;
        self.keeper.give(Job::Copy {
            what,
            to: cold.taken.clone(),
            offset: cold.offset,
            number: self.number,
        });
    }

    /// A new cold segment; without room for one, messages stay where they are.
    fn cold_segment(&self) -> Option<Open> {
        let (paused, epoch) = {
            let index = self.shared.index.read();
            (index.paused, index.epoch)
        };
        let taken = self.shared.table.lock().take(Use::Cold, 0, Taker::Mail);
        let taken = taken.ok()?;
        let begun = taken.begin(Use::Cold, None, self.number, paused, epoch);
        if begun.and_then(|()| taken.file.sync()).is_err() {
            self.shared.table.lock().seal(taken.slot, u64::MAX);
            return None;
        }
        Some(Open {
            taken,
            offset: HEADER,
        })
    }

    /// Waits for the checkpoint that runs, if the log has grown too far ahead of it.
    fn throttle(&mut self) -> Result<(), StoreError> {
        while self.tail >= self.options.tail {
            if !self.running {
                if let Some(why) = &self.failed_checkpoint
                    && !self.relieved
                {
                    // The log cannot be let grow for ever; opening anew may help.
                    let why = why.clone();
                    self.dead = true;
                    return Err(why);
                }
                self.checkpoint();
            }
            match self.keeper.wait() {
                Some(outcome) => self.outcome(outcome)?,
                None => return Err(StoreError::Closed),
            }
        }
        Ok(())
    }
}

impl Store for LogStore {
    type Reader = LogReader;
    type Prepared = Prepared;
    type Preparer = LogPreparer;

    fn preparer(&self) -> LogPreparer {
        LogPreparer {
            extents: Arc::clone(&self.extents),
            large: self.options.large,
            controls: self.options.controls,
        }
    }

    fn weight(prepared: &Prepared) -> usize {
        prepared.weight()
    }

    fn commit(&mut self, group: Vec<Prepared>) -> Result<Vec<Receipt>, StoreError> {
        if self.dead {
            return Err(StoreError::Poisoned);
        }
        self.survived = true;
        let receipts = self
            .receive()
            .and_then(|()| self.throttle())
            .and_then(|()| self.group(group));
        if receipts.is_err() && !self.survived {
            self.dead = true;
        }
        receipts
    }

    fn survived(&self) -> bool {
        self.survived && !self.dead
    }

    fn tick(&mut self) -> Result<(), StoreError> {
        if self.dead {
            return Err(StoreError::Poisoned);
        }
        self.receive()?;
        self.delegate();
        self.receive()
    }

    /// A medium that cannot tell is taken to have room: the commit will say.
    fn space(&self) -> Option<Space> {
        let media = Arc::clone(self.shared.table.lock().media());
        media.space().ok()
    }

    fn reader(&self) -> LogReader {
        LogReader {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for LogStore {
    /// A store that is sound brings the database up to date, so that the next start has nothing to
    /// replay. Readers that are left get `Closed`.
    fn drop(&mut self) {
        if !self.dead && (self.running || !self.shared.index.read().changes.is_empty()) {
            // If it fails, the log has it all.
            let _ = self.bring_up_to_date();
            if !self.shared.index.read().changes.is_empty() {
                let _ = self.bring_up_to_date();
            }
        }
        self.shared.database.close();
    }
}
