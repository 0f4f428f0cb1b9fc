//! Answers from the store itself, when no daemon is there to ask.
//!
//! Promises: the replies are those of a daemon, but that every run state is `offline`; nothing is
//! written, not one octet; a damaged record is reported and the rest goes on.
//! Fails: with the store's error, when it cannot be opened or read at all.

use redspool_core::control::{EnvelopeRecord, EnvelopeRow, Listing, Reply, Request, Runstate};
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{Reader, Selector, StoreError};

/// Where replies go; gives whether more are wanted.
type Each<'a> = &'a mut dyn FnMut(Reply) -> bool;

/// Answers a request. Every reply, the last one included, is given to `each`, as long as it wants
/// more. `page` is `Limits::listing_page`.
pub(crate) fn answer(
    reader: &dyn Reader,
    request: &Request,
    page: usize,
    each: Each<'_>,
) -> Result<(), StoreError> {
    let last = match *request {
        Request::ShowQueue(selector) => match Selector::try_from(selector) {
            Ok(selector) => show_queue(reader, selector, page, each)?,
            Err(_) => Some(Reply::Unknown),
        },
        Request::ShowEnvelope(number) => match EnvelopeId::new(number) {
            Some(id) => Some(show_envelope(reader, id)?),
            None => Some(Reply::Unknown),
        },
        Request::ShowMessage(number) => match MessageId::new(number) {
            Some(id) => show_message(reader, id, each)?,
            None => Some(Reply::Unknown),
        },
        _ => Some(Reply::Fail {
            reason: "not without smtpd".into(),
        }),
    };
    if let Some(last) = last {
        each(last);
    }
    Ok(())
}

fn show_queue(
    reader: &dyn Reader,
    selector: Selector,
    page: usize,
    each: Each<'_>,
) -> Result<Option<Reply>, StoreError> {
    let mut listing = Listing::new(selector, page);
    let mut found = false;
    while let Some(entries) = listing.next(reader)? {
        found = true;
        let mut rows = Vec::new();
        for entry in entries {
            match entry {
                Ok(envelope) => rows.push(EnvelopeRow::new(&envelope, Runstate::Offline)),
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
    match selector {
        Selector::Message(message) if !found => absent(reader, message).map(Some),
        Selector::Envelope(id) if !found => absent(reader, id.message()).map(Some),
        _ => Ok(Some(Reply::End)),
    }
}

fn show_envelope(reader: &dyn Reader, id: EnvelopeId) -> Result<Reply, StoreError> {
    match reader.envelope(id)? {
        Some(envelope) => Ok(Reply::EnvelopeRecord(Box::new(EnvelopeRecord::from(
            &envelope,
        )))),
        None => absent(reader, id.message()),
    }
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
