//! What is queued, in memory: where each message lies, which envelopes it has, and what has changed
//! since the last checkpoint.
//!
//! What: the index is the truth while the daemon runs; the database has it as of the last
//! checkpoint, and the log brings it back from there.
//! Promises: it changes by whole groups ([`Index::merge`]), after they are durable. Readers look
//! things up in it for a moment; none holds it while it reads a disk.
//! Absent on purpose: contents and envelopes themselves: those are read where they lie.

use super::place::{Location, Place};
use super::slots::{Marks, Slots, low};
use super::table::Table;
use super::trash::Trash;
use crate::blocks::Block;
use redspool_core::id::{EnvelopeId, Epoch, MessageId};
use redspool_core::queue::{Blocks, CorruptMessage, Paused};
use redspool_core::time::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// A message: 32 octets, and 8 for each envelope if there is more than one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its record; the content lies behind it.
    pub(super) at: Place,
    /// Octets of both.
    pub(super) octets: u32,
    /// The database may have rows of it.
    pub(super) stored: bool,
    pub(super) slots: Slots,
}

/// Octets that the record of an envelope takes, give or take.
const ENVELOPE: u32 = 300;

impl Entry {
    /// Octets that its segment needs for it: what a move would copy.
    pub(super) fn needed(&self) -> u32 {
        let envelopes = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.octets
            .saturating_add(envelopes.saturating_mul(ENVELOPE))
    }
}

/// A message in the corrupt bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) entry: Entry,
    pub(super) reason: Box<str>,
    pub(super) at: Timestamp,
}

impl Bucket {
    pub(super) fn shown(&self, message: MessageId) -> CorruptMessage {
        CorruptMessage {
            message,
            reason: self.reason.clone(),
            at: self.at,
            envelopes: u32::try_from(self.entry.slots.len()).unwrap_or(u32::MAX),
        }
    }
}

/// How a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Absent,
    Queued(Entry),
    Corrupt(Bucket),
}

impl State {
    fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Absent => None,
            Self::Queued(entry) | Self::Corrupt(Bucket { entry, .. }) => Some(entry),
        }
    }
}

/// What has become of an envelope since a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Its record is in the log.
    At {
        place: Place,
        marks: Marks,
        /// The database never had it: once it is gone, there is nothing to remove.
        fresh: bool,
    },
    /// Its record is in the database, but the marks differ.
    Marked(Marks),
    /// It is gone.
    Gone,
}

/// All that has changed since a checkpoint.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) envelopes: HashMap<EnvelopeId, Change>,
    pub(super) messages: HashSet<MessageId>,
    pub(super) buckets: HashSet<MessageId>,
    /// Pauses or the last epoch.
    pub(super) meta: bool,
    /// Sources and domains that are kept apart.
    pub(super) blocks: bool,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            envelopes,
            messages,
            buckets,
            meta,
            blocks,
        } = self;
        let rows = !(envelopes.is_empty() && messages.is_empty() && buckets.is_empty());
        !(rows || *meta || *blocks)
    }
}

/// Where an envelope's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts {
    Log(Place),
    Database,
}

/// The changes of one group.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) messages: HashMap<MessageId, State>,
    pub(super) envelopes: HashMap<EnvelopeId, Change>,
    /// When envelopes were discarded, if they still are.
    pub(super) discarded: HashMap<EnvelopeId, Timestamp>,
    pub(super) paused: Option<Paused>,
    pub(super) blocks: Vec<Block>,
    pub(super) epoch: Option<Epoch>,
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) messages: BTreeMap<MessageId, Entry>,
    pub(super) corrupt: BTreeMap<MessageId, Bucket>,
    pub(super) trash: Trash,
    pub(super) changes: Changes,
    /// What a checkpoint that runs now is writing.
    pub(super) frozen: Option<Arc<Changes>>,
    pub(super) paused: Paused,
    pub(super) blocks: Arc<Blocks>,
    pub(super) epoch: Option<Epoch>,
}

impl Index {
    /// Whether the id is in use.
    pub(super) fn exists(&self, message: MessageId) -> bool {
        self.messages.contains_key(&message) || self.corrupt.contains_key(&message)
    }

    pub(super) fn state(&self, message: MessageId) -> State {
        if let Some(entry) = self.messages.get(&message) {
            return State::Queued(entry.clone());
        }
        self.corrupt
            .get(&message)
            .map_or(State::Absent, |bucket| State::Corrupt(bucket.clone()))
    }

    /// Where the record of an envelope is, whether it is queued or not.
    pub(super) fn whereabouts(&self, id: EnvelopeId) -> Whereabouts {
        let frozen = || {
            self.frozen
                .as_ref()
                .and_then(|frozen| frozen.envelopes.get(&id))
        };
        let change = match self.changes.envelopes.get(&id) {
            None | Some(Change::Marked(_)) => frozen(),
            found => found,
        };
        match change {
            Some(Change::At { place, .. }) => Whereabouts::Log(*place),
            _ => Whereabouts::Database,
        }
    }

    /// A queued envelope: its marks and where its record is.
    pub(super) fn envelope(&self, id: EnvelopeId) -> Option<(Marks, Whereabouts)> {
        self.stored(id).filter(|(marks, _)| !marks.trashed)
    }

    /// The same, or an envelope in the trash.
    pub(super) fn stored(&self, id: EnvelopeId) -> Option<(Marks, Whereabouts)> {
        let entry = self.messages.get(&id.message())?;
        let slot = entry.slots.find(low(id))?;
        Some((slot.marks, self.whereabouts(id)))
    }

    /// Counts the trash anew, for messages were put here by hand.
    pub(super) fn recount(&mut self) {
        self.trash.recount(self.messages.iter());
    }

    /// Takes over a group, whose staged places lie from `base` on. `generation` is the first
    /// checkpoint that will know of it.
    pub(super) fn merge(&mut self, delta: Delta, base: Place, table: &mut Table, generation: u64) {
        // Before the messages, for whether an envelope is new shows in the old ones.
        for (id, change) in delta.envelopes {
            self.change(id, change, base);
        }
        for (message, state) in delta.messages {
            self.put(message, state, &delta.discarded, base, table, generation);
        }
        if let Some(paused) = delta.paused {
            self.paused = paused;
            self.changes.meta = true;
        }
        for block in delta.blocks {
            block.apply(Arc::make_mut(&mut self.blocks));
            self.changes.blocks = true;
        }
        if let Some(seen) = delta.epoch {
            let later = Epoch::later(self.epoch, seen);
            self.changes.meta |= self.epoch != Some(later);
            self.epoch = Some(later);
        }
    }

    fn change(&mut self, id: EnvelopeId, change: Change, base: Place) {
        let before = self.changes.envelopes.get(&id).copied();
        let change = match (before, change) {
            (Some(Change::At { fresh: true, .. }), Change::Gone) => {
                self.changes.envelopes.remove(&id);
                return;
            }
            (Some(Change::At { place, fresh, .. }), Change::Marked(marks)) => Change::At {
                place,
                marks,
                fresh,
            },
            (before, Change::At { place, marks, .. }) => Change::At {
                place: place.settled(base),
                marks,
                fresh: match before {
                    Some(Change::At { fresh, .. }) => fresh,
                    Some(_) => false,
                    None => !self.known(id),
                },
            },
            (_, change) => change,
        };
        self.changes.envelopes.insert(id, change);
    }

    /// Whether the database may have a row of an envelope that has not changed since.
    fn known(&self, id: EnvelopeId) -> bool {
        let message = id.message();
        let has = |entry: &Entry| entry.slots.find(low(id)).is_some();
        self.messages.get(&message).is_some_and(has)
            || self
                .corrupt
                .get(&message)
                .is_some_and(|bucket| has(&bucket.entry))
            || self
                .frozen
                .as_ref()
                .is_some_and(|frozen| frozen.envelopes.contains_key(&id))
    }

    fn put(
        &mut self,
        message: MessageId,
        mut state: State,
        discarded: &HashMap<EnvelopeId, Timestamp>,
        base: Place,
        table: &mut Table,
        generation: u64,
    ) {
        let before = match self.messages.remove(&message) {
            Some(entry) => State::Queued(entry),
            None => self
                .corrupt
                .remove(&message)
                .map_or(State::Absent, State::Corrupt),
        };
        if let State::Queued(entry) | State::Corrupt(Bucket { entry, .. }) = &mut state {
            entry.at = entry.at.settled(base);
        }
        if let State::Queued(entry) = &before {
            self.trash.subtract(message, entry);
        }
        self.trash
            .follow(message, before.entry(), state.entry(), discarded);
        if let State::Queued(entry) = &state {
            self.trash.add(message, entry);
        }
        let place = |state: &State| state.entry().map(|entry| (entry.at, entry.needed()));
        let (old, new) = (place(&before), place(&state));
        if old != new {
            if let Some((at, needed)) = new {
                table.claim(at, needed);
            }
            if let Some((at, needed)) = old {
                table.release(at, needed, generation);
            }
        }
        let stored = match before.entry() {
            Some(entry) => entry.stored,
            // It may have left since the last checkpoint, and come back under the same id.
            None => self.changes.messages.contains(&message),
        };
        let frozen = self.frozen.as_ref();
        let stored = stored || frozen.is_some_and(|frozen| frozen.messages.contains(&message));
        if matches!(before, State::Corrupt(_)) || matches!(state, State::Corrupt(_)) {
            self.changes.buckets.insert(message);
        }
        match state {
            State::Absent if !stored && !self.changes.buckets.contains(&message) => {
                self.changes.messages.remove(&message);
            }
            _ => {
                self.changes.messages.insert(message);
            }
        }
        match state {
            State::Absent => {}
            State::Queued(entry) => {
                self.messages.insert(message, Entry { stored, ..entry });
            }
            State::Corrupt(bucket) => {
                let entry = Entry {
                    stored,
                    ..bucket.entry
                };
                self.corrupt.insert(message, Bucket { entry, ..bucket });
            }
        }
    }

    /// Sets the changes apart for a checkpoint, with what it has to write of messages.
    pub(super) fn freeze(&mut self, table: &Table) -> Frozen {
        let changes = Arc::new(std::mem::take(&mut self.changes));
        let location = |entry: &Entry| Location {
            at: entry.at,
            octets: entry.octets,
            sequence: table.sequence_of(entry.at.slot),
            live: u32::try_from(entry.slots.len()).unwrap_or(u32::MAX),
        };
        let touched = changes.envelopes.keys().map(|id| id.message());
        let mut touched: Vec<_> = touched.chain(changes.messages.iter().copied()).collect();
        touched.sort_unstable();
        touched.dedup();
        let messages = touched.into_iter().map(|id| {
            let entry = match self.messages.get_mut(&id) {
                Some(entry) => Some(entry),
                None => self.corrupt.get_mut(&id).map(|bucket| &mut bucket.entry),
            };
            let filed = entry.map(|entry| {
                entry.stored = true;
                Filed {
                    location: location(entry),
                    slots: entry.slots.clone(),
                    discarded: self.trash.times(id, entry),
                }
            });
            (id, filed)
        });
        let messages = messages.collect();
        let buckets = changes.buckets.iter();
        let buckets = buckets.map(|id| (*id, self.corrupt.get(id).map(|bucket| bucket.shown(*id))));
        let buckets = buckets.collect();
        self.frozen = Some(Arc::clone(&changes));
        Frozen {
            changes,
            messages,
            buckets,
            paused: self.paused,
            blocks: Arc::clone(&self.blocks),
            epoch: self.epoch,
        }
    }

    /// A checkpoint failed: what it was to write counts as changed again.
    pub(super) fn thaw(&mut self) {
        let Some(frozen) = self.frozen.take() else {
            return;
        };
        for (id, old) in &frozen.envelopes {
            let merged = match (*old, self.changes.envelopes.get(id).copied()) {
                (old, None) => old,
                (Change::At { place, .. }, Some(Change::Marked(marks))) => Change::At {
                    place,
                    marks,
                    fresh: false,
                },
                (_, Some(new)) => new,
            };
            // Whether the database has it is not known any more.
            let merged = match merged {
                Change::At { place, marks, .. } => Change::At {
                    place,
                    marks,
                    fresh: false,
                },
                other => other,
            };
            self.changes.envelopes.insert(*id, merged);
        }
        self.changes.messages.extend(&frozen.messages);
        self.changes.buckets.extend(&frozen.buckets);
        self.changes.meta |= frozen.meta;
        self.changes.blocks |= frozen.blocks;
    }
}

/// What a checkpoint writes of a message.
#[derive(Debug)]
pub(super) struct Filed {
    pub(super) location: Location,
    pub(super) slots: Slots,
    /// When each was discarded; empty if none was.
    pub(super) discarded: Vec<Option<Timestamp>>,
}

/// What a checkpoint writes.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) changes: Arc<Changes>,
    /// All messages that have changed, or have envelopes that did, in order.
    pub(super) messages: Vec<(MessageId, Option<Filed>)>,
    pub(super) buckets: Vec<(MessageId, Option<CorruptMessage>)>,
    pub(super) paused: Paused,
    pub(super) blocks: Arc<Blocks>,
    pub(super) epoch: Option<Epoch>,
}
