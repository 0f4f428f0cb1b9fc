//! All that can be read from a store, as one value to compare.

use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, Epoch, MessageId};
use redspool_core::queue::{
    Blocks, CorruptMessage, Discarded, Message, Paused, Reader, Selector, StoreError,
};
use std::collections::BTreeMap;

/// The contents of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Every queued envelope.
    pub envelopes: BTreeMap<EnvelopeId, Envelope>,
    /// Every envelope in the trash.
    pub trash: BTreeMap<EnvelopeId, Discarded>,
    /// Every message that is queued or has envelopes in the trash, with its content.
    pub messages: BTreeMap<MessageId, (Message, Vec<u8>)>,
    /// The corrupt bucket.
    pub corrupt: Vec<CorruptMessage>,
    /// Paused subsystems.
    pub paused: Paused,
    /// Sources and domains kept apart.
    pub blocks: Blocks,
    /// The last id epoch.
    pub epoch: Option<Epoch>,
}

impl Books {
    /// Reads everything, by pages of three so that paging is tried along the way. The first
    /// damage found is the error. What the walk, the pages and the single reads say must agree.
    pub fn read(reader: &impl Reader) -> Result<Self, StoreError> {
        let mut books = Self {
            corrupt: reader.corrupt()?,
            paused: reader.paused()?,
            blocks: reader.blocks()?,
            epoch: reader.epoch()?,
            ..Self::default()
        };
        let mut after = None;
        loop {
            let page = reader.page(Selector::All, after, 3)?;
            let Some(last) = page.last() else { break };
            after = last.as_ref().ok().map(|envelope| envelope.id);
            for envelope in page {
                let envelope = envelope?;
                assert!(reader.exists(envelope.id.message())?);
                assert_eq!(
                    reader.envelope(envelope.id)?.as_ref(),
                    Some(&envelope),
                    "a page and a single read differ"
                );
                let twice = books.envelopes.insert(envelope.id, envelope);
                assert!(twice.is_none(), "listed twice: {twice:?}");
            }
        }
        let mut walked = Vec::new();
        let mut damage = None;
        reader.walk(&mut |entry| match entry {
            Ok(scheduled) => walked.push(scheduled),
            Err(why) => damage = Some(why),
        })?;
        if let Some(why) = damage {
            return Err(why);
        }
        let listed: Vec<_> = books.envelopes.values().map(Into::into).collect();
        assert_eq!(walked, listed, "the walk and the pages differ");
        books.trash = trash(reader)?;
        let stored = books.envelopes.keys().chain(books.trash.keys());
        for id in stored.map(|id| id.message()) {
            if books.messages.contains_key(&id) {
                continue;
            }
            let message = reader.message(id)?;
            let message = message.expect("an envelope's message exists");
            books.messages.insert(id, (message, body(reader, id)?));
        }
        Ok(books)
    }

    /// Whether nothing is queued, in the trash or set aside.
    pub fn is_empty(&self) -> bool {
        self.envelopes.is_empty() && self.trash.is_empty() && self.corrupt.is_empty()
    }
}

/// The whole trash, by pages of two; its sums must agree.
fn trash(reader: &impl Reader) -> Result<BTreeMap<EnvelopeId, Discarded>, StoreError> {
    let mut trash = BTreeMap::new();
    let mut after = None;
    loop {
        let page = reader.discarded(Selector::All, after, 2)?;
        let Some(last) = page.last() else { break };
        after = last.as_ref().ok().map(|one| one.envelope.id);
        for discarded in page {
            let discarded = discarded?;
            let id = discarded.envelope.id;
            assert!(reader.exists(id.message())?);
            assert_eq!(reader.envelope(id)?, None, "queued and in the trash");
            let twice = trash.insert(id, discarded);
            assert!(twice.is_none(), "listed twice: {twice:?}");
        }
    }
    let state = reader.trash()?;
    let times = || trash.values().map(|discarded| discarded.at);
    assert_eq!(state.envelopes, trash.len() as u64);
    assert_eq!((state.oldest, state.latest), (times().min(), times().max()));
    assert!(state.octets == 0 || !trash.is_empty());
    Ok(trash)
}

/// The whole content of a message.
pub fn body(reader: &impl Reader, id: MessageId) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::new();
    let mut index = 0;
    while let Some(piece) = reader.body(id, index)? {
        assert!(!piece.is_empty() && piece.len() <= 64 << 10);
        body.extend_from_slice(&piece);
        index += 1;
    }
    Ok(body)
}
