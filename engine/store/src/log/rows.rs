//! From the rows of the database to the index.
//!
//! What: summaries are read in order, and nothing else, as long as they are all there and sound.
//! Promises: a message whose summary is damaged or missing is set aside with the envelopes that are
//! left of it, or at least named.
//! Absent on purpose: proving envelopes and contents; whoever reads those does it.
//! Fails: with what redb or the disk say; with `Unreadable` if messages are missing without a trace.

use super::database::Database;
use super::findings::Findings;
use super::index::{Bucket, Entry, Index};
use super::open::{Loaded, today};
use super::place::{Location, Place};
use super::slots::{Marks, Slot, Slots, low};
use super::summary::Summary;
use super::table::Table;
use super::trash::Trash;
use crate::record::Damage;
use redspool_core::id::MessageId;
use redspool_core::queue::{CorruptMessage, StoreError};
use std::collections::BTreeMap;

/// Takes over the rows of the database.
pub(super) fn rows(database: &Database, loaded: &mut Loaded) -> Result<(), StoreError> {
    let expected = loaded.known.messages;
    let room = usize::try_from(expected).unwrap_or(0).min(MANY);
    let mut reading = Reading {
        entries: Vec::with_capacity(room),
        trash: &mut loaded.index.trash,
        damaged: BTreeMap::new(),
        table: &mut loaded.table,
    };
    let corrupt = database.load(&mut |message, summary| reading.summary(message, summary))?;
    let Reading {
        entries,
        mut damaged,
        ..
    } = reading;
    let sound = entries.len();
    // From a sorted list the tree is built at once, and full.
    loaded.index.messages = entries.into_iter().collect();
    let (index, findings) = (&mut loaded.index, &mut loaded.findings);
    // A summary that was met twice counts once.
    let whole = sound == index.messages.len() && sound as u64 == expected;
    if !whole || !damaged.is_empty() {
        if sound as u64 != expected && damaged.is_empty() {
            let what = format!("the database has {sound} messages instead of {expected}");
            findings.note(what, []);
        }
        strays(database, index, &mut damaged)?;
        // Rows of which not even a name is left: the log has them.
        let met = (index.messages.len() + damaged.len()) as u64;
        if met < expected {
            return Err(StoreError::Unreadable(format!(
                "it has {met} messages instead of {expected}"
            )));
        }
    }
    for (message, found) in damaged {
        found.set_aside(message, index, findings);
    }
    for found in corrupt {
        bucket(index, found);
    }
    index.recount();
    Ok(())
}

/// Entries that room is made for before they are seen.
const MANY: usize = 1 << 24;

/// What is left of a message that is not as it should be.
struct Left {
    /// `None` if its summary does not say.
    entry: Option<Entry>,
    slots: Vec<Slot>,
    damage: Damage,
}

impl Left {
    fn new(entry: Option<Entry>, damage: Damage) -> Self {
        Self {
            entry,
            slots: Vec::new(),
            damage,
        }
    }

    fn set_aside(self, message: MessageId, index: &mut Index, findings: &mut Findings) {
        let Self {
            entry,
            slots,
            damage: Damage(reason),
        } = self;
        findings.set_aside(message, &reason);
        if entry.is_none() && slots.is_empty() {
            // Nothing is left but what may be its name.
            return;
        }
        let entry = entry.unwrap_or_else(|| nowhere(Slots::new(slots)));
        index.messages.remove(&message);
        index.changes.messages.insert(message);
        index.changes.buckets.insert(message);
        let bucket = Bucket {
            entry,
            reason: reason.into(),
            at: today(),
        };
        index.corrupt.insert(message, bucket);
    }
}

struct Reading<'a> {
    entries: Vec<(MessageId, Entry)>,
    damaged: BTreeMap<MessageId, Left>,
    trash: &'a mut Trash,
    table: &'a mut Table,
}

impl Reading<'_> {
    fn summary(&mut self, message: MessageId, summary: Result<Summary<'_>, Damage>) {
        let summary = match summary {
            Ok(summary) => summary,
            Err(damage) => {
                self.damaged.insert(message, Left::new(None, damage));
                return;
            }
        };
        let Location { at, octets, .. } = summary.location;
        let damage = self.disagrees(&summary);
        let entry = Entry {
            at,
            octets,
            stored: true,
            slots: self.slots(message, &summary),
        };
        self.table.claim(at, entry.needed());
        match damage {
            None => self.entries.push((message, entry)),
            Some(damage) => {
                let left = Left::new(Some(entry), damage);
                self.damaged.insert(message, left);
            }
        }
    }

    fn slots(&mut self, message: MessageId, summary: &Summary<'_>) -> Slots {
        let trash = &mut *self.trash;
        let mut slots = summary.slots(message).map(|(slot, at)| {
            if let Some(at) = at {
                trash.note(message.envelope(slot.low), at);
            }
            slot
        });
        // Of most messages there is one, and no list need be made.
        match summary.heads {
            [_] => slots.next().map_or_else(Slots::none, Slots::One),
            _ => Slots::new(slots.collect()),
        }
    }

    fn disagrees(&self, summary: &Summary<'_>) -> Option<Damage> {
        if summary.heads.is_empty() {
            return Some(Damage::new("it has no envelopes"));
        }
        // Where the head is damaged, the records still prove themselves.
        let location = &summary.location;
        let sequence = self.table.sequence_of(location.at.slot);
        if sequence != 0 && sequence != location.sequence {
            return Some(Damage::new("its log segment is missing or was used again"));
        }
        None
    }
}

/// Adds the envelopes of messages that have no sound summary.
fn strays(
    database: &Database,
    index: &Index,
    damaged: &mut BTreeMap<MessageId, Left>,
) -> Result<(), StoreError> {
    database.ids(&mut |id| {
        let message = id.message();
        if index.messages.contains_key(&message) {
            return;
        }
        let missing = || Left::new(None, Damage::new("its summary is missing"));
        let left = damaged.entry(message).or_insert_with(missing);
        left.slots.push(Slot {
            low: low(id),
            marks: Marks::default(),
        });
    })
}

/// Puts a message into the bucket that was there before.
fn bucket(index: &mut Index, found: CorruptMessage) {
    let entry = index.messages.remove(&found.message);
    let before = index.corrupt.remove(&found.message);
    let entry = entry.or_else(|| before.map(|bucket| bucket.entry));
    // Without a row there is nothing left of it but its name.
    let entry = entry.unwrap_or_else(|| nowhere(Slots::none()));
    index.corrupt.insert(
        found.message,
        Bucket {
            entry,
            reason: found.reason,
            at: found.at,
        },
    );
}

/// A message whose content cannot be found.
fn nowhere(slots: Slots) -> Entry {
    Entry {
        at: Place { slot: 0, offset: 0 },
        octets: 0,
        stored: true,
        slots,
    }
}
