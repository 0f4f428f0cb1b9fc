//! What goes into the trash and comes out of it.
//!
//! Promises: an envelope is in the queue or in the trash, never in both; its message counts it in
//! either.
//! Absent on purpose: when something has to go.

use super::apply::{Apply, Balance};
use super::database::fault;
use crate::record::{self, Damage};
use ::redb::ReadableTable;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{Discarded, Receipt, Selector, Span, StoreError};
use redspool_core::time::Timestamp;
use std::collections::BTreeMap;

/// Envelopes found, and messages that turned out damaged on the way.
type Found = (Vec<Discarded>, BTreeMap<MessageId, Damage>);

impl Apply<'_> {
    pub(super) fn in_trash(&self, id: EnvelopeId) -> Result<bool, StoreError> {
        Ok(self.trash.get(id.get()).map_err(fault)?.is_some())
    }

    /// Takes an envelope out of the trash; whether it was there.
    pub(super) fn take_trashed(&mut self, id: EnvelopeId) -> Result<bool, StoreError> {
        let taken = self.trash.remove(id.get()).map_err(fault)?.is_some();
        self.changed |= taken;
        Ok(taken)
    }

    pub(super) fn discard(&mut self, span: Span, at: Timestamp) -> Result<Receipt, StoreError> {
        if let Selector::Message(message) = span.selector
            && self.corrupt.get(message.get()).map_err(fault)?.is_some()
        {
            return self.remove_message(message);
        }
        let (found, damaged) = self.found(span, at)?;
        for discarded in &found {
            let key = discarded.envelope.id.get();
            self.queue.remove(key).map_err(fault)?;
            let record = record::seal_discarded(discarded);
            self.trash.insert(key, record.as_slice()).map_err(fault)?;
        }
        self.swept(&found, damaged)
    }

    pub(super) fn restore(
        &mut self,
        span: Span,
        at: Option<Timestamp>,
    ) -> Result<Receipt, StoreError> {
        let (found, damaged) = self.discarded(span, |when| at.is_none_or(|at| when == at))?;
        for Discarded { envelope, .. } in &found {
            self.take_trashed(envelope.id)?;
            self.put(envelope.id.get(), &record::seal_envelope(envelope))?;
        }
        self.swept(&found, damaged)
    }

    pub(super) fn purge(&mut self, span: Span, until: Timestamp) -> Result<Receipt, StoreError> {
        let (found, damaged) = self.discarded(span, |when| when <= until)?;
        let mut balance = Balance::new();
        for Discarded { envelope, .. } in &found {
            self.take_trashed(envelope.id)?;
            *balance.entry(envelope.id.message()).or_default() -= 1;
        }
        let dropped = self.balance(balance)?;
        let mut receipt = self.swept(&found, damaged)?;
        if let Receipt::Affected(ids) = &mut receipt {
            ids.extend(dropped);
            ids.sort_unstable();
            ids.dedup();
        }
        Ok(receipt)
    }

    /// The receipt of a step; messages that turned out damaged are set aside.
    fn swept(
        &mut self,
        found: &[Discarded],
        damaged: BTreeMap<MessageId, Damage>,
    ) -> Result<Receipt, StoreError> {
        self.changed |= !found.is_empty();
        let mut ids: Vec<_> = found.iter().map(|one| one.envelope.id).collect();
        for (message, damage) in damaged {
            ids.extend(self.damaged(message, &damage)?);
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(Receipt::Affected(ids))
    }

    /// The queued envelopes of a span, as they will be in the trash.
    fn found(&self, span: Span, at: Timestamp) -> Result<Found, StoreError> {
        let (mut found, mut damaged) = (Vec::new(), BTreeMap::new());
        let Some(range) = span.range() else {
            return Ok((found, damaged));
        };
        let keys = range.start().get()..=range.end().get();
        for entry in self.queue.range(keys).map_err(fault)? {
            if found.len() == span.most {
                break;
            }
            let (key, value) = entry.map_err(fault)?;
            let Some(id) = EnvelopeId::new(key.value()) else {
                continue;
            };
            match record::open_envelope(id, value.value()) {
                Ok(envelope) => found.push(Discarded { envelope, at }),
                Err(damage) => {
                    damaged.entry(id.message()).or_insert(damage);
                }
            }
        }
        Ok((found, damaged))
    }

    /// The envelopes of the trash in a span that were discarded at a fitting time.
    fn discarded(&self, span: Span, fits: impl Fn(Timestamp) -> bool) -> Result<Found, StoreError> {
        let (mut found, mut damaged) = (Vec::new(), BTreeMap::new());
        let Some(range) = span.range() else {
            return Ok((found, damaged));
        };
        let keys = range.start().get()..=range.end().get();
        for entry in self.trash.range(keys).map_err(fault)? {
            if found.len() == span.most {
                break;
            }
            let (key, value) = entry.map_err(fault)?;
            let Some(id) = EnvelopeId::new(key.value()) else {
                continue;
            };
            match record::open_discarded(id, value.value()) {
                Ok(discarded) if fits(discarded.at) => found.push(discarded),
                Ok(_) => {}
                Err(damage) => {
                    damaged.entry(id.message()).or_insert(damage);
                }
            }
        }
        Ok((found, damaged))
    }
}
