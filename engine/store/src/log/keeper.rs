//! Background work: checkpoints, spare segments, moving messages out of segments.
//!
//! What: jobs that only read what is shared, write where nobody else does, and give their outcome
//! back to the writer, who alone changes the index.
//! Promises: one job of a kind at a time, in order. Without threads (`inline`) a job is done when it
//! is given, so that tests are repeatable.
//! Absent on purpose: deciding what is to be done (`store.rs`).
//! Fails: an outcome says so; the writer decides what follows.

use super::control::Controls;
use super::database::{self, Database};
use super::form::Swept;
use super::frame::{Builder, Kind, Stamp};
use super::index::{Entry, Frozen};
use super::open::{CACHE, DATABASE, SIDE, settle};
use super::place::{Place, Position};
use super::run::Run;
use super::segment;
use super::shared::{Shared, io_fault};
use super::table::Taken;
use crate::media::{Media, MediaFile};
use crate::record::{self, Damage};
use crate::redb::guarded;
use crate::timing::timed;
use parking_lot::Mutex;
use redspool_core::id::MessageId;
use redspool_core::queue::StoreError;
use redspool_core::time::Timestamp;
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

/// Messages of the index looked at under one lock.
const PAGE: usize = 4096;

/// Octets that are read ahead at a time.
const PIECE: usize = 8 << 20;

/// Octets of copies that are written together.
const TOGETHER: u32 = 1 << 20;

/// Something to be done.
#[derive(Debug)]
pub(super) enum Job {
    Checkpoint {
        frozen: Frozen,
        position: Position,
        generation: u64,
        /// The last one failed: the handle is not to be used again.
        reopen: bool,
    },
    Spare {
        slot: u32,
        capacity: u32,
    },
    Copy {
        what: Chosen,
        to: Taken,
        offset: u32,
        /// Number of the next frame of the log: the copies show the queue before it.
        number: u64,
    },
    Remove(Vec<u32>),
    /// These files are going to be read.
    Expect(Vec<Arc<dyn MediaFile>>),
}

/// Messages to be moved.
#[derive(Debug)]
pub(super) enum Chosen {
    These(Vec<MessageId>),
    /// All that lie in these segments.
    In(Vec<u32>),
}

/// A message that has been copied.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) message: MessageId,
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) octets: u32,
}

/// What came of a job.
#[derive(Debug)]
pub(super) enum Outcome {
    Checkpoint {
        position: Position,
        generation: u64,
        result: Result<(), StoreError>,
    },
    Spare {
        slot: u32,
        /// Its file and capacity; without room there is none.
        made: Option<(Arc<dyn MediaFile>, u32)>,
    },
    Copied {
        moves: Vec<Move>,
        /// Messages that turned out damaged.
        damaged: Vec<(MessageId, Damage)>,
        /// Where the next copy goes.
        offset: u32,
        /// There was no room for all of them.
        full: bool,
        result: Result<(), StoreError>,
    },
    Removed(Vec<u32>),
    Expected,
}

/// Where jobs are done.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    outcomes: Arc<Outcomes>,
    /// One for checkpoints, one for the rest; none if all is done inline.
    threads: Vec<(Sender<Job>, JoinHandle<()>)>,
}

#[derive(Debug, Default)]
struct Outcomes {
    done: Mutex<VecDeque<Outcome>>,
    more: parking_lot::Condvar,
}

impl Outcomes {
    fn push(&self, outcome: Outcome) {
        self.done.lock().push_back(outcome);
        self.more.notify_one();
    }
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, inline: bool) -> Result<Self, StoreError> {
        let outcomes = Arc::new(Outcomes::default());
        let mut threads = Vec::new();
        let names = if inline {
            &[][..]
        } else {
            &["checkpoint", "segments"]
        };
        for name in names {
            let (sender, jobs): (_, Receiver<Job>) = mpsc::channel();
            let (shared, outcomes) = (Arc::clone(&shared), Arc::clone(&outcomes));
            let work = move || {
                for job in jobs {
                    outcomes.push(run(&shared, job));
                }
            };
            let thread = thread::Builder::new().name((*name).into()).spawn(work);
            threads.push((sender, thread.map_err(|why| io_fault(&why))?));
        }
        Ok(Self {
            shared,
            outcomes,
            threads,
        })
    }

    /// Has a job done.
    pub(super) fn give(&self, job: Job) {
        let thread = match job {
            Job::Checkpoint { .. } => self.threads.first(),
            _ => self.threads.get(1),
        };
        match thread {
            // A thread that is gone has panicked: its outcome never comes, as if the disk hung.
            Some((jobs, _)) => drop(jobs.send(job)),
            None => self.outcomes.push(run(&self.shared, job)),
        }
    }

    /// What has been done meanwhile.
    pub(super) fn take(&self) -> Option<Outcome> {
        self.outcomes.done.lock().pop_front()
    }

    /// Waits for the next outcome; `None` when a thread has ended, and with it what it had to do.
    pub(super) fn wait(&self) -> Option<Outcome> {
        let mut done = self.outcomes.done.lock();
        loop {
            if let Some(outcome) = done.pop_front() {
                return Some(outcome);
            }
            if self.threads.iter().any(|(_, thread)| thread.is_finished()) {
                return None;
            }
            let patience = std::time::Duration::from_millis(100);
            self.outcomes.more.wait_for(&mut done, patience);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        for (jobs, thread) in self.threads.drain(..) {
            drop(jobs);
            // A panic has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, job: Job) -> Outcome {
    match job {
        Job::Checkpoint {
            frozen,
            position,
            generation,
            reopen,
        } => Outcome::Checkpoint {
            position,
            generation,
            // Also when a damaged page makes redb panic where it is closed: the outcome comes.
            result: guarded(|| {
                timed("checkpoint", || {
                    checkpoint(shared, &frozen, position, generation, reopen)
                })
            }),
        },
        Job::Spare { slot, capacity } => Outcome::Spare {
            slot,
            made: spare(shared, slot, capacity).map(|file| (file, capacity)),
        },
        Job::Copy {
            what,
            to,
            offset,
            number,
        } => {
            let mut copier = Copier {
                shared,
                to,
                offset,
                number,
                waiting: Vec::new(),
                written: offset,
                moves: Vec::new(),
                damaged: Vec::new(),
                full: false,
            };
            let result = copier.all(what);
            Outcome::Copied {
                moves: if result.is_ok() {
                    copier.moves
                } else {
                    Vec::new()
                },
                damaged: copier.damaged,
                offset: copier.offset,
                full: copier.full,
                result,
            }
        }
        Job::Remove(slots) => {
            let media = Arc::clone(shared.table.lock().media());
            for slot in &slots {
                // A file that stays is found free at the next start.
                let _ = media.remove(&segment::name(*slot));
            }
            Outcome::Removed(slots)
        }
        Job::Expect(files) => {
            for file in files {
                read_ahead(&*file);
            }
            Outcome::Expected
        }
    }
}

/// Has a file read into the cache, piece by piece: a commit must not have to wait behind all of it.
fn read_ahead(file: &dyn MediaFile) {
    let length = file.length().unwrap_or(0);
    for begin in (0..length).step_by(PIECE) {
        let end = length.min(begin + PIECE as u64);
        file.expect(begin..end);
        // What cannot be read is found by those who need it.
        let _ = file.read(end - 1, &mut [0]);
    }
}

fn checkpoint(
    shared: &Shared,
    frozen: &Frozen,
    position: Position,
    generation: u64,
    reopen: bool,
) -> Result<(), StoreError> {
    let media = Arc::clone(shared.table.lock().media());
    if reopen {
        renew(&*media, &shared.database, shared.controls)?;
    }
    let mut run = Run::new(shared);
    let mut logged = |place| run.record(place);
    shared
        .database
        .checkpoint(frozen, position, generation, &mut logged)?;
    side(&*media, position, generation).map_err(|why| io_fault(&why))
}

/// Opens the database anew after an error: what the cache shows may not be on the disk.
fn renew(media: &dyn Media, database: &Database, controls: Controls) -> Result<(), StoreError> {
    if let Some(file) = media.open(DATABASE).map_err(|why| io_fault(&why))? {
        settle(&*file, controls).map_err(|why| io_fault(&why))?;
    }
    database.close();
    database.replace(database::handle(media, DATABASE, CACHE)?);
    Ok(())
}

/// Notes the generation outside the database, so that an older state of it is noticed.
fn side(media: &dyn Media, position: Position, generation: u64) -> std::io::Result<()> {
    let (file, new) = match media.open(SIDE)? {
        Some(file) => (file, false),
        None => (media.create(SIDE)?, true),
    };
    file.write(0, &[&position.seal(generation)])?;
    file.sync()?;
    if new {
        media.sync_names()?;
    }
    Ok(())
}

fn spare(shared: &Shared, slot: u32, capacity: u32) -> Option<Arc<dyn MediaFile>> {
    let media = Arc::clone(shared.table.lock().media());
    // Without a spare the next segment is made when it is needed.
    segment::make(&*media, slot, capacity).ok()
}

struct Copier<'a> {
    shared: &'a Shared,
    to: Taken,
    /// Where the next copy goes.
    offset: u32,
    number: u64,
    /// Copies that are to be written together, and where.
    waiting: Vec<Builder>,
    written: u32,
    moves: Vec<Move>,
    damaged: Vec<(MessageId, Damage)>,
    full: bool,
}

impl Copier<'_> {
    fn all(&mut self, what: Chosen) -> Result<(), StoreError> {
        match what {
            Chosen::These(messages) => {
                for message in messages {
                    self.one(message)?;
                }
            }
            Chosen::In(slots) => {
                let mut after = Bound::Unbounded;
                loop {
                    let (page, last) = self.page(after, &slots);
                    for message in page {
                        self.one(message)?;
                    }
                    match last {
                        Some(last) if !self.full => after = Bound::Excluded(last),
                        _ => break,
                    }
                }
            }
        }
        if self.moves.is_empty() {
            return Ok(());
        }
        self.write()?;
        self.to.file.sync().map_err(|why| io_fault(&why))
    }

    /// The messages in these segments among the next ones of the index, and the last looked at.
    fn page(&self, after: Bound<MessageId>, slots: &[u32]) -> (Vec<MessageId>, Option<MessageId>) {
        let index = self.shared.index.read();
        let mut last = None;
        let mut page = Vec::new();
        for (id, entry) in index.messages.range((after, Bound::Unbounded)).take(PAGE) {
            last = Some(*id);
            if slots.contains(&entry.at.slot) {
                page.push(*id);
            }
        }
        (page, last)
    }

    fn one(&mut self, message: MessageId) -> Result<(), StoreError> {
        let (entry, discarded) = {
            let index = self.shared.index.read();
            let entry = index.messages.get(&message).cloned();
            let times = entry
                .as_ref()
                .map(|entry| index.trash.times(message, entry));
            (entry, times.unwrap_or_default())
        };
        let Some(entry) = entry.filter(|entry| entry.at.slot != self.to.slot) else {
            return Ok(());
        };
        if self.full {
            return Ok(());
        }
        let Some(mut frame) = self.frame(message, &entry, &discarded)? else {
            return Ok(());
        };
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        if length > self.to.capacity - self.offset {
            self.full = true;
            return Ok(());
        }
        let stamp = Stamp {
            sequence: self.to.sequence,
            number: self.number,
            group: self.number,
        };
        frame.stamp(Kind::Copy, stamp, self.shared.controls);
        let at = Place {
            slot: self.to.slot,
            offset: self.offset,
        };
        self.moves.push(Move {
            message,
            from: entry.at,
            to: at.plus(super::frame::HEAD),
            octets: entry.octets,
        });
        self.offset += length;
        self.waiting.push(frame);
        if self.offset - self.written >= TOGETHER {
            self.write()?;
        }
        Ok(())
    }

    /// Writes the copies that wait.
    fn write(&mut self) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut self.waiting);
        let parts: Vec<_> = waiting.iter().map(Builder::octets).collect();
        let written = self.to.file.write(u64::from(self.written), &parts);
        written.map_err(|why| io_fault(&why))?;
        self.written = self.offset;
        Ok(())
    }

    /// A message as it is now, with its envelopes; `None` if it is damaged or has left meanwhile.
    fn frame(
        &mut self,
        message: MessageId,
        entry: &Entry,
        discarded: &[Option<Timestamp>],
    ) -> Result<Option<Builder>, StoreError> {
        let (row, first) = match self.shared.front(message, entry.at, entry.octets)? {
            Ok(front) => front,
            Err(damage) => return Ok(self.damage(message, entry, damage)),
        };
        let mut frame = Builder::new(entry.octets as usize + 1024);
        frame.push(&row.seal());
        let pieces = record::pieces_in(entry.octets);
        for index in 0..pieces {
            let last = (index + 1 == pieces).then_some((row.message.size, row.digest));
            let piece = match index {
                0 => Ok(first.clone()),
                _ => self.shared.piece(&row, entry.at, index)?,
            };
            match piece {
                Ok(piece) => {
                    let key = record::body_key(message, index);
                    frame.push_with(|out| record::append_body(out, key, &piece, last));
                }
                Err(damage) => return Ok(self.damage(message, entry, damage)),
            }
        }
        for (id, _) in entry.slots.ids(message) {
            match self.shared.stored(id) {
                Ok(Some(envelope)) => {
                    frame.push_with(|out| record::append_envelope(out, &envelope));
                }
                Ok(None) => {}
                Err(StoreError::Corrupt { reason, .. }) => {
                    return Ok(self.damage(message, entry, Damage(reason)));
                }
                Err(why) => return Err(why),
            }
        }
        for ((id, _), at) in entry.slots.ids(message).zip(discarded) {
            if at.is_some() {
                let (first, last, at) = (id, id, *at);
                frame.push(&Swept { first, last, at }.seal(record::Kind::Discard));
            }
        }
        Ok(Some(frame))
    }

    /// Notes a damaged message, unless it has left or moved meanwhile.
    fn damage(&mut self, message: MessageId, entry: &Entry, damage: Damage) -> Option<Builder> {
        let index = self.shared.index.read();
        if index
            .messages
            .get(&message)
            .is_some_and(|now| now.at == entry.at)
        {
            self.damaged.push((message, damage));
        }
        None
    }
}
