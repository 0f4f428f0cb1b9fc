//! A listing of the queue or the trash, read page by page.
//!
//! Promises: every envelope that is queued all the while comes once, in order of ids, and so does
//! every damaged record; a page is held in memory, never the listing.

use crate::envelope::Envelope;
use crate::id::EnvelopeId;
use crate::queue::{Discarded, Reader, Selector, StoreError, Walked};

/// Where a listing stands.
#[derive(Clone, Debug)]
pub struct Listing {
    selector: Selector,
    after: Option<EnvelopeId>,
    page: usize,
    done: bool,
}

impl Listing {
    /// The listing of `selector`, `page` envelopes at a time (`Limits::listing_page`).
    pub fn new(selector: Selector, page: usize) -> Self {
        Self {
            selector,
            after: None,
            page: page.max(1),
            done: false,
        }
    }

    /// The next page; `None` after the last one. An error ends the listing.
    pub fn next<R: Reader + ?Sized>(
        &mut self,
        reader: &R,
    ) -> Result<Option<Vec<Walked<Envelope>>>, StoreError> {
        self.next_of(
            |selector, after, limit| reader.page(selector, after, limit),
            |envelope| envelope.id,
        )
    }

    /// The same of the trash.
    pub fn next_discarded<R: Reader + ?Sized>(
        &mut self,
        reader: &R,
    ) -> Result<Option<Vec<Walked<Discarded>>>, StoreError> {
        self.next_of(
            |selector, after, limit| reader.discarded(selector, after, limit),
            |discarded| discarded.envelope.id,
        )
    }

    fn next_of<T>(
        &mut self,
        page: impl Fn(Selector, Option<EnvelopeId>, usize) -> Result<Vec<Walked<T>>, StoreError>,
        id: impl Fn(&T) -> EnvelopeId,
    ) -> Result<Option<Vec<Walked<T>>>, StoreError> {
        let mut limit = self.page;
        while !self.done {
            let mut entries = page(self.selector, self.after, limit)?;
            if entries.len() < limit {
                self.done = true;
                return Ok((!entries.is_empty()).then_some(entries));
            }
            // The next page starts behind an id, and a damaged record has none: whatever comes
            // after the last sound one is read again with that page.
            if let Some(last) = entries.iter().rposition(Result::is_ok) {
                entries.truncate(last.saturating_add(1));
                if let Some(Ok(last)) = entries.last() {
                    self.after = Some(id(last));
                }
                return Ok(Some(entries));
            }
            limit = limit.saturating_mul(2);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Address, Source};
    use crate::envelope::{Attempts, Delivery, Dsn, Flags, Relay};
    use crate::id::{Epoch, MessageId};
    use crate::queue::{Blocks, CorruptMessage, Message, Paused, Scheduled, TrashState};
    use crate::time::Timestamp;
    use bytes::Bytes;
    use std::num::NonZeroU32;
    use std::time::Duration;

    /// One message of which only the envelopes `sound` can be read.
    struct Damaged {
        sound: Vec<bool>,
    }

    fn message() -> MessageId {
        "8d3f01aa".parse().unwrap()
    }

    fn id(index: usize) -> EnvelopeId {
        let low = u32::try_from(index + 1).unwrap();
        message().envelope(NonZeroU32::new(low).unwrap())
    }

    fn envelope(id: EnvelopeId) -> Envelope {
        Envelope {
            id,
            action: "relay".into(),
            tag: "".into(),
            delivery: Delivery::Mta(Relay::to(None)),
            smtpname: "mx".into(),
            helo: "c".into(),
            hostname: "c".into(),
            username: "".into(),
            source: Source::Local,
            sender: Address::null(),
            rcpt: Address::null(),
            dest: Address::null(),
            ctime: Timestamp::EPOCH,
            last_try: Timestamp::EPOCH,
            last_bounce: Timestamp::EPOCH,
            ttl: Duration::ZERO,
            retry: 0,
            flags: Flags::default(),
            dsn: Dsn::default(),
            status: None,
            errorline: "".into(),
            remote: "".into(),
            attempts: Attempts::default(),
        }
    }

    impl Reader for Damaged {
        fn exists(&self, _: MessageId) -> Result<bool, StoreError> {
            Ok(true)
        }
        fn envelope(&self, _: EnvelopeId) -> Result<Option<Envelope>, StoreError> {
            Ok(None)
        }
        fn message(&self, _: MessageId) -> Result<Option<Message>, StoreError> {
            Ok(None)
        }
        fn body(&self, _: MessageId, _: u32) -> Result<Option<Bytes>, StoreError> {
            Ok(None)
        }
        fn page(
            &self,
            _: Selector,
            after: Option<EnvelopeId>,
            limit: usize,
        ) -> Result<Vec<Walked<Envelope>>, StoreError> {
            let records = self.sound.iter().enumerate();
            let behind = records.filter(|(index, _)| after.is_none_or(|after| id(*index) > after));
            let read = behind.map(|(index, sound)| {
                let reason = index.to_string();
                sound
                    .then(|| envelope(id(index)))
                    .ok_or(StoreError::Corrupt {
                        message: message(),
                        reason,
                    })
            });
            Ok(read.take(limit).collect())
        }
        fn walk(&self, _: &mut dyn FnMut(Walked<Scheduled>)) -> Result<(), StoreError> {
            Ok(())
        }
        fn live(&self, _: Epoch) -> Result<Vec<MessageId>, StoreError> {
            Ok(Vec::new())
        }
        fn epoch(&self) -> Result<Option<Epoch>, StoreError> {
            Ok(None)
        }
        fn paused(&self) -> Result<Paused, StoreError> {
            Ok(Paused::default())
        }
        fn blocks(&self) -> Result<Blocks, StoreError> {
            Ok(Blocks::new())
        }
        fn corrupt(&self) -> Result<Vec<CorruptMessage>, StoreError> {
            Ok(Vec::new())
        }
        fn discarded(
            &self,
            _: Selector,
            _: Option<EnvelopeId>,
            _: usize,
        ) -> Result<Vec<Walked<Discarded>>, StoreError> {
            Ok(Vec::new())
        }
        fn trash(&self) -> Result<TrashState, StoreError> {
            Ok(TrashState::default())
        }
    }

    #[test]
    fn every_record_comes_once_wherever_the_damage_is() {
        for pattern in 0..1u32 << 8 {
            let sound: Vec<_> = (0..8).map(|bit| pattern >> bit & 1 == 1).collect();
            for page in 1..10 {
                let reader = Damaged {
                    sound: sound.clone(),
                };
                let mut listing = Listing::new(Selector::All, page);
                let mut seen = Vec::new();
                while let Some(entries) = listing.next(&reader).unwrap() {
                    seen.extend(entries);
                }
                let want = reader.page(Selector::All, None, 100).unwrap();
                assert!(seen == want, "{sound:?} by {page}");
            }
        }
    }
}
