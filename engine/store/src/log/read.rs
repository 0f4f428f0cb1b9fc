//! The reading side of the log store.
//!
//! Promises: what was acknowledged is seen; every record is proven; no writer is delayed by more
//! than a look-up. A listing shows every envelope that is queued all the while exactly once.
//! Absent on purpose: snapshots that last: a page is read as of now.
//! Fails: with `Corrupt` for one message, with what redb or the disk say otherwise.

use super::database::Rows;
use super::index::Whereabouts;
use super::shared::{Shared, marked};
use super::slots::Marks;
use crate::record;
use crate::redb::fault;
use ::redb::AccessGuard;
use bytes::Bytes;
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{
    CorruptMessage, Message, Paused, Reader, Scheduled, Selector, StoreError, Walked,
};
use std::sync::Arc;

/// Envelopes read at a time for the schedule.
const WALK: usize = 4096;

/// The reading side of a [`LogStore`](super::LogStore); cloning it is cheap.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(super) shared: Arc<Shared>,
}

type Listed = (EnvelopeId, Marks, Whereabouts);

impl LogReader {
    /// The next envelopes of a selection, and where they are.
    fn listed(&self, selector: Selector, after: Option<EnvelopeId>, limit: usize) -> Vec<Listed> {
        let (start, end) = selector.range().into_inner();
        let from = after.map_or(start, |after| after.max(start));
        if from > end {
            return Vec::new();
        }
        let index = self.shared.index.read();
        let mut listed = Vec::with_capacity(limit.min(WALK));
        for (message, entry) in index.messages.range(from.message()..=end.message()) {
            for (id, marks) in entry.slots.ids(*message) {
                if id < start || id > end || after.is_some_and(|after| id <= after) {
                    continue;
                }
                if listed.len() == limit {
                    return listed;
                }
                listed.push((id, marks, index.whereabouts(id)));
            }
        }
        listed
    }

    /// Reads envelopes and makes something of each record. What is gone by then is left out.
    fn read<T>(
        &self,
        listed: &[Listed],
        open: impl Fn(EnvelopeId, Marks, &[u8]) -> Result<T, record::Damage>,
        mut visit: impl FnMut(Walked<T>),
    ) -> Result<(), StoreError> {
        let (Some((first, ..)), Some((last, ..))) = (listed.first(), listed.last()) else {
            return Ok(());
        };
        self.shared.database.rows(|rows| {
            let mut rows = Sequence::new(rows, *first, *last)?;
            for (id, marks, whereabouts) in listed {
                let found = match whereabouts {
                    Whereabouts::Database => rows.find(*id)?.map(|row| {
                        let record = row.value();
                        if self.shared.controls.proof_not_compared {
                            open(*id, *marks, &self.shared.believed(record.to_vec()))
                        } else {
                            open(*id, *marks, record)
                        }
                    }),
                    Whereabouts::Log(place) => {
                        let record = self.shared.logged(*place)?;
                        Some(record.and_then(|record| open(*id, *marks, &record)))
                    }
                };
                match found {
                    Some(Ok(value)) => visit(Ok(value)),
                    // It may have moved or left since it was listed.
                    _ => match self.again(*id, &open) {
                        Ok(None) => {}
                        Ok(Some(value)) => visit(Ok(value)),
                        Err(why @ StoreError::Corrupt { .. }) => visit(Err(why)),
                        Err(why) => return Err(why),
                    },
                }
            }
            Ok(())
        })
    }

    fn again<T>(
        &self,
        id: EnvelopeId,
        open: &impl Fn(EnvelopeId, Marks, &[u8]) -> Result<T, record::Damage>,
    ) -> Result<Option<T>, StoreError> {
        self.shared.settled(
            id.message(),
            |index| index.envelope(id),
            |(marks, whereabouts)| {
                let record = self.shared.envelope_record(id, *whereabouts)?;
                Ok(record.and_then(|record| open(id, *marks, &record)))
            },
        )
    }
}

/// Rows of the database that are asked for in key order.
struct Sequence<'a> {
    rows: ::redb::Range<'a, u64, &'static [u8]>,
    next: Option<(u64, AccessGuard<'a, &'static [u8]>)>,
}

impl<'a> Sequence<'a> {
    fn new(rows: &'a Rows, first: EnvelopeId, last: EnvelopeId) -> Result<Self, StoreError> {
        let rows = rows.range(first.get()..=last.get()).map_err(fault)?;
        let mut sequence = Self { rows, next: None };
        sequence.advance()?;
        Ok(sequence)
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        let next = self.rows.next().transpose().map_err(fault)?;
        self.next = next.map(|(key, row)| (key.value(), row));
        Ok(())
    }

    /// The row of `id`, if there is one. Ids must be asked for in order.
    fn find(
        &mut self,
        id: EnvelopeId,
    ) -> Result<Option<&AccessGuard<'a, &'static [u8]>>, StoreError> {
        while self.next.as_ref().is_some_and(|(key, _)| *key < id.get()) {
            self.advance()?;
        }
        let found = self.next.as_ref().filter(|(key, _)| *key == id.get());
        Ok(found.map(|(_, row)| row))
    }
}

impl Reader for LogReader {
    fn exists(&self, message: MessageId) -> Result<bool, StoreError> {
        Ok(self.shared.index.read().exists(message))
    }

    fn envelope(&self, id: EnvelopeId) -> Result<Option<Envelope>, StoreError> {
        self.shared.envelope(id)
    }

    fn message(&self, id: MessageId) -> Result<Option<Message>, StoreError> {
        let row = self.shared.settled(
            id,
            |index| index.messages.get(&id).map(|entry| entry.at),
            |at| self.shared.row(id, *at),
        )?;
        Ok(row.map(|row| row.message))
    }

    fn body(&self, id: MessageId, index: u32) -> Result<Option<Bytes>, StoreError> {
        let piece = self.shared.settled(
            id,
            |index| index.messages.get(&id).map(|entry| entry.at),
            |at| {
                let row = match self.shared.row(id, *at)? {
                    Ok(row) => row,
                    Err(damage) => return Ok(Err(damage)),
                };
                match row.pieces() {
                    Ok(pieces) if index >= pieces => Ok(Ok(Vec::new())),
                    Ok(_) => self.shared.piece(&row, *at, index),
                    Err(damage) => Ok(Err(damage)),
                }
            },
        )?;
        // Behind the last piece, and the one piece of an empty content, there is nothing.
        Ok(piece.filter(|piece| !piece.is_empty()).map(Bytes::from))
    }

    fn page(
        &self,
        selector: Selector,
        after: Option<EnvelopeId>,
        limit: usize,
    ) -> Result<Vec<Walked<Envelope>>, StoreError> {
        let open = |id, marks, record: &[u8]| {
            let envelope = record::open_envelope(id, record)?;
            Ok(marked(envelope, marks))
        };
        let mut page = Vec::new();
        let mut after = after;
        // What left between listing and reading must not look like the end.
        while page.is_empty() {
            let listed = self.listed(selector, after, limit);
            let Some((last, ..)) = listed.last() else {
                break;
            };
            after = Some(*last);
            self.read(&listed, open, |entry| page.push(entry))?;
        }
        Ok(page)
    }

    fn walk(&self, visit: &mut dyn FnMut(Walked<Scheduled>)) -> Result<(), StoreError> {
        let open = |id, marks: Marks, record: &[u8]| {
            let mut scheduled = record::open_scheduled(id, record)?;
            scheduled.flags.suspended = marks.suspended;
            scheduled.flags.maybe_duplicated |= marks.duplicated;
            Ok(scheduled)
        };
        let mut after = None;
        loop {
            let listed = self.listed(Selector::All, after, WALK);
            let Some((last, ..)) = listed.last() else {
                return Ok(());
            };
            after = Some(*last);
            self.read(&listed, open, &mut *visit)?;
        }
    }

    fn live(&self, epoch: u16) -> Result<Vec<MessageId>, StoreError> {
        let first = u32::from(epoch) << 16;
        let start = MessageId::new(first.max(1)).unwrap_or(MessageId::MIN);
        let end = MessageId::new(first | 0xffff).unwrap_or(MessageId::MAX);
        let index = self.shared.index.read();
        let queued = index.messages.range(start..=end).map(|(id, _)| *id);
        let corrupt = index.corrupt.range(start..=end).map(|(id, _)| *id);
        let mut live: Vec<_> = queued.chain(corrupt).collect();
        live.sort_unstable();
        Ok(live)
    }

    fn epoch(&self) -> Result<Option<u16>, StoreError> {
        Ok(self.shared.index.read().epoch)
    }

    fn paused(&self) -> Result<Paused, StoreError> {
        Ok(self.shared.index.read().paused)
    }

    fn corrupt(&self) -> Result<Vec<CorruptMessage>, StoreError> {
        let index = self.shared.index.read();
        let bucket = index.corrupt.iter();
        Ok(bucket.map(|(id, bucket)| bucket.shown(*id)).collect())
    }
}
