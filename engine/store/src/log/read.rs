//! The reading side of the log store.
//!
//! Promises: what was acknowledged is seen; every record is proven; no writer is delayed by more
//! than a look-up. A listing shows every envelope that is queued all the while exactly once.
//! Absent on purpose: snapshots that last: a page is read as of now.
//! Fails: with `Corrupt` for one message, with what redb or the disk say otherwise.

use super::database::Rows;
use super::index::Whereabouts;
use super::shared::{Shared, marked};
use super::slots::{Marks, low};
use super::summary::Summary;
use crate::record;
use crate::redb::fault;
use ::redb::{AccessGuard, Key, Range};
use bytes::Bytes;
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, Epoch, MessageId};
use redspool_core::queue::{
    Blocks, CorruptMessage, Discarded, Message, Paused, Reader, Scheduled, Selector, Span,
    StoreError, TrashState, Walked,
};
use redspool_core::time::Timestamp;
use std::sync::Arc;

/// Envelopes read at a time for the schedule.
const WALK: usize = 4096;

/// The reading side of a [`LogStore`](super::LogStore); cloning it is cheap.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(super) shared: Arc<Shared>,
}

impl LogReader {
    /// How many messages are queued.
    pub fn queued(&self) -> u64 {
        self.shared.index.read().messages.len() as u64
    }
}

type Listed = (EnvelopeId, Marks, Whereabouts);

impl LogReader {
    /// The next envelopes of a span, of the queue or of the trash, and where they are.
    fn listed(&self, span: Span, trashed: bool) -> Vec<Listed> {
        let limit = span.most;
        let Some(range) = span.range() else {
            return Vec::new();
        };
        let (start, end) = range.into_inner();
        let index = self.shared.index.read();
        let mut listed = Vec::with_capacity(limit.min(WALK));
        for (message, entry) in index.messages.range(start.message()..=end.message()) {
            for (id, marks) in entry.slots.ids(*message) {
                if id < start || id > end || marks.trashed != trashed {
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

    /// The next envelopes of a span, read.
    fn paged(&self, span: Span, trashed: bool) -> Result<Vec<Walked<Envelope>>, StoreError> {
        let mut page = Vec::new();
        let mut span = span;
        // What left between listing and reading must not look like the end.
        while page.is_empty() {
            let listed = self.listed(span, trashed);
            let Some((last, ..)) = listed.last() else {
                break;
            };
            span.after = Some(*last);
            page.reserve_exact(listed.len());
            self.envelopes(&listed, |entry| page.push(entry))?;
        }
        Ok(page)
    }

    /// Reads envelopes. What is gone by then is left out.
    fn envelopes(
        &self,
        listed: &[Listed],
        mut visit: impl FnMut(Walked<Envelope>),
    ) -> Result<(), StoreError> {
        let (Some((first, ..)), Some((last, ..))) = (listed.first(), listed.last()) else {
            return Ok(());
        };
        let open = |id, marks, record: &[u8]| {
            let envelope = record::open_envelope(id, record)?;
            Ok(marked(envelope, marks))
        };
        self.shared.database.envelopes(|rows| {
            let mut rows = Sequence::new(rows, first.get(), last.get())?;
            for one @ (id, marks, whereabouts) in listed {
                let found = match whereabouts {
                    Whereabouts::Database => rows
                        .find(id.get())?
                        .and_then(|row| open(*id, *marks, &self.shared.trusted(row.value())).ok()),
                    Whereabouts::Log(place) => {
                        let record = self.shared.logged(*place)?;
                        record.and_then(|record| open(*id, *marks, &record)).ok()
                    }
                };
                self.shown(one, found, &open, &mut visit)?;
            }
            Ok(())
        })
    }

    /// Reads what the schedule needs of envelopes, of most from the summary of their message.
    fn heads(
        &self,
        listed: &[Listed],
        mut visit: impl FnMut(Walked<Scheduled>),
    ) -> Result<(), StoreError> {
        let (Some((first, ..)), Some((last, ..))) = (listed.first(), listed.last()) else {
            return Ok(());
        };
        let open = |id, marks: Marks, record: &[u8]| {
            let scheduled = record::open_scheduled(id, record)?;
            Ok(scheduled_with(scheduled, marks))
        };
        self.shared.database.summaries(|rows| {
            let (first, last) = (first.message().get(), last.message().get());
            let mut rows = Sequence::new(rows, first, last)?;
            for one @ (id, marks, whereabouts) in listed {
                let message = id.message();
                let found = match whereabouts {
                    Whereabouts::Database => rows.find(message.get())?.and_then(|row| {
                        let record = self.shared.trusted(row.value());
                        let summary = Summary::open(message, &record).ok()?;
                        let head = summary.head(low(*id))?.scheduled(message).ok()?;
                        Some(scheduled_with(head, *marks))
                    }),
                    Whereabouts::Log(place) => {
                        let record = self.shared.logged(*place)?;
                        record.and_then(|record| open(*id, *marks, &record)).ok()
                    }
                };
                self.shown(one, found, &open, &mut visit)?;
            }
            Ok(())
        })
    }

    /// Shows what was found. If that is nothing, the envelope may have moved or left since it was
    /// listed, and is looked up again.
    fn shown<T>(
        &self,
        (id, listed, _): &Listed,
        found: Option<T>,
        open: &impl Fn(EnvelopeId, Marks, &[u8]) -> Result<T, record::Damage>,
        visit: &mut impl FnMut(Walked<T>),
    ) -> Result<(), StoreError> {
        if let Some(value) = found {
            visit(Ok(value));
            return Ok(());
        }
        let again = self.shared.settled(
            id.message(),
            |index| {
                let now = index.stored(*id);
                now.filter(|(marks, _)| marks.trashed == listed.trashed)
            },
            |(marks, whereabouts)| {
                let record = self.shared.envelope_record(*id, *whereabouts)?;
                Ok(record.and_then(|record| open(*id, *marks, &record)))
            },
        );
        match again {
            Ok(None) => {}
            Ok(Some(value)) => visit(Ok(value)),
            Err(why @ StoreError::Corrupt { .. }) => visit(Err(why)),
            Err(why) => return Err(why),
        }
        Ok(())
    }
}

/// What the schedule needs, with the marks the index has.
fn scheduled_with(mut scheduled: Scheduled, marks: Marks) -> Scheduled {
    scheduled.flags.suspended = marks.suspended;
    scheduled.flags.maybe_duplicated |= marks.duplicated;
    scheduled
}

type Row<'a> = AccessGuard<'a, &'static [u8]>;

/// Rows of the database that are asked for in key order.
struct Sequence<'a, K: Key + 'static> {
    rows: Range<'a, K, &'static [u8]>,
    next: Option<(K, Row<'a>)>,
}

impl<'a, K> Sequence<'a, K>
where
    K: for<'k> Key<SelfType<'k> = K> + Ord + Copy + 'static,
{
    fn new(rows: &'a Rows<K>, first: K, last: K) -> Result<Self, StoreError> {
        let rows = rows.range(first..=last).map_err(fault)?;
        let mut sequence = Self { rows, next: None };
        sequence.advance()?;
        Ok(sequence)
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        let next = self.rows.next().transpose().map_err(fault)?;
        self.next = next.map(|(key, row)| (key.value(), row));
        Ok(())
    }

    /// The row of `key`, if there is one. Keys must be asked for in order.
    fn find(&mut self, key: K) -> Result<Option<&Row<'a>>, StoreError> {
        while self.next.as_ref().is_some_and(|(next, _)| *next < key) {
            self.advance()?;
        }
        let found = self.next.as_ref().filter(|(next, _)| *next == key);
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
            |index| {
                let entry = index.messages.get(&id)?;
                Some((entry.at, entry.octets))
            },
            |(at, octets)| {
                if index >= record::pieces_in(*octets) {
                    return Ok(Ok(Bytes::new()));
                }
                if index == 0 {
                    let front = self.shared.front(id, *at, *octets)?;
                    return Ok(front.map(|(_, piece)| piece));
                }
                match self.shared.row(id, *at)? {
                    Ok(row) => self.shared.piece(&row, *at, index),
                    Err(damage) => Ok(Err(damage)),
                }
            },
        )?;
        // Behind the last piece, and the one piece of an empty content, there is nothing.
        Ok(piece.filter(|piece| !piece.is_empty()))
    }

    fn page(
        &self,
        selector: Selector,
        after: Option<EnvelopeId>,
        limit: usize,
    ) -> Result<Vec<Walked<Envelope>>, StoreError> {
        let span = Span {
            selector,
            after,
            most: limit,
        };
        self.paged(span, false)
    }

    fn walk(&self, visit: &mut dyn FnMut(Walked<Scheduled>)) -> Result<(), StoreError> {
        let mut span = Span {
            most: WALK,
            ..Span::all(Selector::All)
        };
        loop {
            let listed = self.listed(span, false);
            let Some((last, ..)) = listed.last() else {
                return Ok(());
            };
            span.after = Some(*last);
            self.heads(&listed, &mut *visit)?;
        }
    }

    fn live(&self, epoch: Epoch) -> Result<Vec<MessageId>, StoreError> {
        let index = self.shared.index.read();
        let queued = index.messages.range(epoch.range()).map(|(id, _)| *id);
        let corrupt = index.corrupt.range(epoch.range()).map(|(id, _)| *id);
        let all = queued.chain(corrupt);
        let mut live: Vec<_> = all.filter(|id| Epoch::of(*id) == epoch).collect();
        live.sort_unstable();
        Ok(live)
    }

    fn epoch(&self) -> Result<Option<Epoch>, StoreError> {
        Ok(self.shared.index.read().epoch)
    }

    fn paused(&self) -> Result<Paused, StoreError> {
        Ok(self.shared.index.read().paused)
    }

    fn blocks(&self) -> Result<Blocks, StoreError> {
        let blocks = Arc::clone(&self.shared.index.read().blocks);
        Ok(Arc::unwrap_or_clone(blocks))
    }

    fn corrupt(&self) -> Result<Vec<CorruptMessage>, StoreError> {
        let index = self.shared.index.read();
        let bucket = index.corrupt.iter();
        Ok(bucket.map(|(id, bucket)| bucket.shown(*id)).collect())
    }

    fn discarded(
        &self,
        selector: Selector,
        after: Option<EnvelopeId>,
        limit: usize,
    ) -> Result<Vec<Walked<Discarded>>, StoreError> {
        let span = Span {
            selector,
            after,
            most: limit,
        };
        let page = self.paged(span, true)?;
        let index = self.shared.index.read();
        let discarded = page.into_iter().map(|entry| {
            entry.map(|envelope| Discarded {
                // One that came back meanwhile was there when it was listed.
                at: index.trash.at(envelope.id).unwrap_or(Timestamp::EPOCH),
                envelope,
            })
        });
        Ok(discarded.collect())
    }

    fn trash(&self) -> Result<TrashState, StoreError> {
        Ok(self.shared.index.read().trash.state())
    }
}
