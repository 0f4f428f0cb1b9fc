//! Answers from the store itself, when no daemon is there to ask.
//!
//! Promises: the replies are those of a daemon, but that every run state is `offline`; who only asks
//! writes nothing, not one octet; a damaged record is reported and the rest goes on. Who changes
//! something takes the lock, and leaves the store to its owner.
//! Fails: with the store's error, when it cannot be opened or read at all.

use redspool_core::control::{
    EnvelopeRecord, EnvelopeRow, Explanation, Listing, MtaListing, MtaRow, Reply, Request,
    Runstate, uncorrupted,
};
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::limits::Limits;
use redspool_core::queue::{
    Discarded, Reader, Receipt, Scheduled, Selector, Span, Store, StoreError, Transition, Walked,
};
use redspool_core::scheduler;
use redspool_core::time::Timestamp;

/// Where replies go; gives whether more are wanted.
type Each<'a> = &'a mut dyn FnMut(Reply) -> bool;

/// Answers a request. Every reply, the last one included, is given to `each`, as long as it wants
/// more. `page` is `Limits::listing_page`.
pub(crate) fn answer(
    reader: &dyn Reader,
    request: &Request,
    page: usize,
    now: Timestamp,
    each: Each<'_>,
) -> Result<(), StoreError> {
    let last = match *request {
        Request::ShowQueue(selector) => match Selector::try_from(selector) {
            Ok(selector) => show_queue(reader, selector, page, each)?,
            Err(_) => Some(Reply::Unknown),
        },
        Request::ShowTrash(selector) => match Selector::try_from(selector) {
            Ok(selector) => show_trash(reader, selector, page, each)?,
            Err(_) => Some(Reply::Unknown),
        },
        Request::ShowEnvelope(number) => match EnvelopeId::new(number) {
            Some(id) => Some(show_envelope(reader, id)?),
            None => Some(Reply::Unknown),
        },
        Request::Explain(number) => match EnvelopeId::new(number) {
            Some(id) => Some(explain(reader, id, now)?),
            None => Some(Reply::Unknown),
        },
        Request::ShowMessage(number) => match MessageId::new(number) {
            Some(id) => show_message(reader, id, each)?,
            None => Some(Reply::Unknown),
        },
        Request::ShowMta(MtaListing::Blocked) => show_blocked(reader, page, each)?,
        _ => Some(Reply::Fail {
            reason: "not without smtpd".into(),
        }),
    };
    if let Some(last) = last {
        each(last);
    }
    Ok(())
}

/// Carries out a request that changes the queue.
pub(crate) fn change<S: Store>(store: &mut S, request: &Request) -> Result<Reply, StoreError> {
    match *request {
        Request::Uncorrupt(number) => match MessageId::new(number) {
            Some(id) => uncorrupt(store, id),
            None => Ok(Reply::Unknown),
        },
        Request::Undo {
            selector,
            last,
            dry_run: false,
        } => match Selector::try_from(selector) {
            Ok(selector) => undo(store, selector, last),
            Err(_) => Ok(Reply::Unknown),
        },
        _ => Ok(Reply::Fail {
            reason: "not without smtpd".into(),
        }),
    }
}

fn uncorrupt<S: Store>(store: &mut S, id: MessageId) -> Result<Reply, StoreError> {
    let prepared = store.prepare(Transition::Uncorrupt(id))?;
    let receipts = store.commit(vec![prepared])?;
    let exists = store.reader().exists(id)?;
    let reply = receipts
        .first()
        .map(|receipt| uncorrupted(id, receipt, exists));
    reply.ok_or(StoreError::Poisoned)
}

fn undo<S: Store>(store: &mut S, selector: Selector, last: bool) -> Result<Reply, StoreError> {
    let latest = store.reader().trash()?.latest;
    let at = latest.filter(|_| last);
    let mut span = Span {
        most: Limits::default().trash_step,
        ..Span::all(selector)
    };
    let mut count = 0_u64;
    loop {
        let prepared = store.prepare(Transition::Restore { span, at })?;
        let receipts = store.commit(vec![prepared])?;
        let Some(Receipt::Affected(ids)) = receipts.first() else {
            return Err(StoreError::Poisoned);
        };
        count = count.saturating_add(ids.len() as u64);
        span.after = ids.last().copied();
        if ids.len() < span.most {
            break;
        }
    }
    Ok(match selector {
        Selector::Message(_) | Selector::Envelope(_) if count == 0 => Reply::Unknown,
        _ => Reply::Affected { count, inflight: 0 },
    })
}

fn show_queue(
    reader: &dyn Reader,
    selector: Selector,
    page: usize,
    each: Each<'_>,
) -> Result<Option<Reply>, StoreError> {
    let row = |envelope: &Envelope| EnvelopeRow::new(envelope, Runstate::Offline);
    let mut listing = Listing::new(selector, page);
    let Some(found) = listed(&mut || listing.next(reader), row, each)? else {
        return Ok(None);
    };
    match selector {
        Selector::Message(message) if !found => absent(reader, message).map(Some),
        Selector::Envelope(id) if !found => absent(reader, id.message()).map(Some),
        _ => Ok(Some(Reply::End)),
    }
}

fn show_trash(
    reader: &dyn Reader,
    selector: Selector,
    page: usize,
    each: Each<'_>,
) -> Result<Option<Reply>, StoreError> {
    // How long the daemon keeps it, its configuration says.
    let row = |discarded: &Discarded| {
        let (since, until) = (discarded.at.as_secs(), None);
        EnvelopeRow::new(&discarded.envelope, Runstate::Trash { since, until })
    };
    let mut listing = Listing::new(selector, page);
    let found = listed(&mut || listing.next_discarded(reader), row, each)?;
    Ok(found.map(|found| match selector {
        Selector::Message(_) | Selector::Envelope(_) if !found => Reply::Unknown,
        _ => Reply::End,
    }))
}

fn show_blocked(
    reader: &dyn Reader,
    page: usize,
    each: Each<'_>,
) -> Result<Option<Reply>, StoreError> {
    let rows: Vec<_> = reader.blocks()?.iter().map(MtaRow::from).collect();
    for rows in rows.chunks(page.max(1)) {
        if !each(Reply::MtaRows(rows.to_vec())) {
            return Ok(None);
        }
    }
    Ok(Some(Reply::End))
}

/// Gives the rows of all pages to `each`; says whether there were any, or `None` if it has enough.
fn listed<T>(
    next: &mut dyn FnMut() -> Result<Option<Vec<Walked<T>>>, StoreError>,
    row: impl Fn(&T) -> EnvelopeRow,
    each: Each<'_>,
) -> Result<Option<bool>, StoreError> {
    let mut found = false;
    while let Some(entries) = next()? {
        found = true;
        let mut rows = Vec::new();
        for entry in entries {
            match entry {
                Ok(one) => rows.push(row(&one)),
                Err(StoreError::Corrupt { message, reason }) => {
                    // Rows first, so that everything keeps its place.
                    let message = message.get();
                    let rows = Reply::EnvelopeRows(std::mem::take(&mut rows));
                    if !each(rows) || !each(Reply::Damaged { message, reason }) {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if !each(Reply::EnvelopeRows(rows)) {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

fn show_envelope(reader: &dyn Reader, id: EnvelopeId) -> Result<Reply, StoreError> {
    match reader.envelope(id)? {
        Some(envelope) => Ok(Reply::EnvelopeRecord(Box::new(EnvelopeRecord::from(
            &envelope,
        )))),
        None => absent(reader, id.message()),
    }
}

/// What the store knows of why an envelope does not move.
fn explain(reader: &dyn Reader, id: EnvelopeId, now: Timestamp) -> Result<Reply, StoreError> {
    let Some(envelope) = reader.envelope(id)? else {
        return absent(reader, id.message());
    };
    let longest = Limits::default().backoff_max;
    let due = scheduler::due(&Scheduled::from(&envelope), now, longest);
    let explanation = Explanation::offline(&envelope, reader.paused()?, due);
    Ok(Reply::Explanation(Box::new(explanation)))
}

fn show_message(
    reader: &dyn Reader,
    id: MessageId,
    each: Each<'_>,
) -> Result<Option<Reply>, StoreError> {
    if reader.message(id)?.is_none() {
        return absent(reader, id).map(Some);
    }
    let mut index = 0u32;
    while let Some(piece) = reader.body(id, index)? {
        if !each(Reply::Piece(piece.to_vec())) {
            return Ok(None);
        }
        index = index.saturating_add(1);
    }
    Ok(Some(Reply::End))
}

/// Why nothing of a message is queued.
fn absent(reader: &dyn Reader, id: MessageId) -> Result<Reply, StoreError> {
    let bucket = reader.corrupt()?;
    Ok(match bucket.iter().find(|corrupt| corrupt.message == id) {
        None => Reply::Unknown,
        Some(corrupt) => Reply::Fail {
            reason: format!("message {id} is in the corrupt bucket: {}", corrupt.reason),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use redspool_core::addr::{Address, Source};
    use redspool_core::control::Selector as Wire;
    use redspool_core::envelope::{Attempts, Delivery, Dsn, Flags, Relay};
    use redspool_core::queue::{Body, Message, Prepare as _, Submission};
    use redspool_store::{MemPreparer, MemStore};
    use std::num::NonZeroU32;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_secs(3_000);

    fn envelope(message: MessageId, low: u32) -> Envelope {
        Envelope {
            id: message.envelope(NonZeroU32::new(low).unwrap()),
            action: "out".into(),
            tag: "".into(),
            delivery: Delivery::Mta(Relay::to(None)),
            smtpname: "mx.example.org".into(),
            helo: "client.example.net".into(),
            hostname: "<unknown>".into(),
            username: "".into(),
            source: Source::Local,
            sender: Address::null(),
            rcpt: "a@example.org".parse().unwrap(),
            dest: "a@example.org".parse().unwrap(),
            ctime: Timestamp::from_secs(1_000),
            last_try: Timestamp::EPOCH,
            last_bounce: Timestamp::EPOCH,
            ttl: Duration::from_hours(96),
            retry: 0,
            flags: Flags::default(),
            dsn: Dsn::default(),
            status: None,
            errorline: "".into(),
            remote: "".into(),
            attempts: Attempts::default(),
        }
    }

    /// Three messages with two envelopes each; the third one is in the corrupt bucket.
    fn store() -> MemStore {
        let mut store = MemStore::new();
        let submit = |number| {
            let id = MessageId::new(number).unwrap();
            Transition::Submit(Submission {
                message: Message {
                    id,
                    size: 0,
                    ctime: Timestamp::from_secs(1_000),
                    eight_bit: false,
                    utf8: false,
                },
                body: Body::Whole(Bytes::from(vec![b'x'; 100_000])),
                envelopes: vec![envelope(id, 1), envelope(id, 2)],
            })
        };
        let corrupt = Transition::Corrupt {
            message: MessageId::new(3).unwrap(),
            reason: "it smells".into(),
            at: Timestamp::from_secs(2_000),
        };
        let group = vec![submit(2), submit(1), submit(3), corrupt];
        let group = group
            .into_iter()
            .map(|transition| MemPreparer.prepare(transition).unwrap());
        store.commit(group.collect()).unwrap();
        store
    }

    fn replies(request: &Request) -> Vec<Reply> {
        let mut replies = Vec::new();
        let mut each = |reply| {
            replies.push(reply);
            true
        };
        answer(&store().reader(), request, 3, NOW, &mut each).unwrap();
        replies
    }

    fn listed(selector: Wire) -> Vec<u64> {
        let replies = replies(&Request::ShowQueue(selector));
        assert_eq!(replies.last(), Some(&Reply::End));
        let rows = replies.into_iter().filter_map(|reply| match reply {
            Reply::EnvelopeRows(rows) => Some(rows),
            _ => None,
        });
        let rows = rows
            .flatten()
            .inspect(|row| assert_eq!(row.runstate, Runstate::Offline));
        rows.map(|row| row.id).collect()
    }

    #[test]
    fn listings_are_in_order_and_heed_the_id() {
        let (a, b) = (0x1_0000_0001, 0x2_0000_0001);
        assert_eq!(listed(Wire::All), [a, a + 1, b, b + 1]);
        assert_eq!(listed(Wire::Message(2)), [b, b + 1]);
        assert_eq!(listed(Wire::Envelope(a + 1)), [a + 1]);
    }

    #[test]
    fn envelopes_and_messages_are_found() {
        let record = replies(&Request::ShowEnvelope(0x1_0000_0002));
        assert!(
            matches!(record.as_slice(), [Reply::EnvelopeRecord(record)] if record.id == 0x1_0000_0002)
        );
        let content = replies(&Request::ShowMessage(1));
        let octets = |reply: &Reply| match reply {
            Reply::Piece(piece) => piece.len(),
            _ => 0,
        };
        assert_eq!(content.iter().map(octets).sum::<usize>(), 100_000);
        assert_eq!(content.last(), Some(&Reply::End));
    }

    #[test]
    fn what_is_not_queued_is_unknown_or_set_aside() {
        let aside = [Reply::Fail {
            reason: "message 00000003 is in the corrupt bucket: it smells".into(),
        }];
        let unknown = [Reply::Unknown];
        for (message, want) in [(3, &aside), (4, &unknown), (0, &unknown)] {
            let number = u64::from(message) << 32 | 1;
            for request in [
                Request::ShowQueue(Wire::Message(message)),
                Request::ShowQueue(Wire::Envelope(number)),
                Request::ShowEnvelope(number),
                Request::Explain(number),
                Request::ShowMessage(message),
            ] {
                assert_eq!(replies(&request), *want, "{request:?}");
            }
        }
        assert_eq!(replies(&Request::ShowEnvelope(0x1_0000_0009)), unknown);
    }

    #[test]
    fn whoever_has_enough_is_not_given_more() {
        for request in [Request::ShowQueue(Wire::All), Request::ShowMessage(1)] {
            let mut count = 0;
            let mut each = |_| {
                count += 1;
                false
            };
            answer(&store().reader(), &request, 1, NOW, &mut each).unwrap();
            assert_eq!(count, 1, "{request:?}");
        }
    }
}
