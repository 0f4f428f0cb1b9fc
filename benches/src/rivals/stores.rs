//! Our stores, each behind the writer thread they all run with.
//!
//! The only place that knows the store's interface: a new store is one row in `RIVALS`.

use crate::mail::{End, Mail};
use crate::queue::{Done, Listing, Queue};
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{
    Reader, Receipt, Scheduled, Selector, Store, StoreError, Submission, Transition,
};
use redspool_store::{GroupCommit, QueueHandle};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Opens the store in `spool` with `opener` and starts its writer.
pub(super) fn open<S: Store>(
    spool: &Path,
    mut opener: impl FnMut(&Path) -> Result<S, StoreError> + Send + 'static,
) -> io::Result<Box<dyn Queue>> {
    let store = opener(spool).map_err(io::Error::other)?;
    let path = spool.to_owned();
    let writer = GroupCommit::start(store, move || opener(&path)).map_err(io::Error::other)?;
    Ok(Box::new(Stored {
        handle: writer.handle(),
        reader: writer.handle().reader(),
        _writer: writer,
    }))
}

struct Stored {
    handle: QueueHandle,
    reader: Arc<dyn Reader>,
    /// Its drop closes the store.
    _writer: GroupCommit,
}

impl Stored {
    fn commit(&self, transition: Transition, done: Done) {
        self.handle
            .commit(transition, move |answer| done(outcome(answer)));
    }
}

fn outcome(answer: Result<Receipt, StoreError>) -> io::Result<()> {
    match answer.map_err(io::Error::other)? {
        Receipt::Done => Ok(()),
        refused => Err(io::Error::other(format!("not carried out: {refused:?}"))),
    }
}

impl Queue for Stored {
    fn submit(&self, submission: Submission, done: Done) {
        self.commit(Transition::Submit(submission), done);
    }

    fn settle(&self, mail: Mail, end: End, done: Done) {
        self.commit(Transition::Settle(mail.settlements(end)), done);
    }

    fn load(&self, mail: Mail) -> io::Result<u64> {
        for id in mail.envelopes() {
            let envelope = self.reader.envelope(id).map_err(io::Error::other)?;
            envelope.ok_or(io::ErrorKind::NotFound)?;
        }
        let mut octets = 0;
        for index in 0.. {
            let piece = self.reader.body(mail.id, index).map_err(io::Error::other)?;
            let Some(piece) = piece else {
                break;
            };
            octets += piece.len() as u64;
        }
        Ok(octets)
    }

    fn listing(&self) -> Option<&dyn Listing> {
        Some(self)
    }
}

impl Listing for Stored {
    fn page(&self, after: Option<EnvelopeId>, limit: usize) -> io::Result<Vec<Envelope>> {
        let page = self.reader.page(Selector::All, after, limit);
        let rows = page.map_err(io::Error::other)?.into_iter();
        rows.map(|row| row.map_err(io::Error::other)).collect()
    }

    fn walk(&self, visit: &mut dyn FnMut(Scheduled)) -> io::Result<()> {
        let mut damaged = None;
        let walk = self.reader.walk(&mut |row| match row {
            Ok(scheduled) => visit(scheduled),
            Err(why) => damaged = Some(why),
        });
        match walk.err().or(damaged) {
            Some(why) => Err(io::Error::other(why)),
            None => Ok(()),
        }
    }

    fn exists(&self, message: MessageId) -> io::Result<bool> {
        self.reader.exists(message).map_err(io::Error::other)
    }
}
