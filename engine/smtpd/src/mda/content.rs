//! The content of a queued message, in pieces.
//!
//! Promises: pieces come in order and none is lost; the end is told only when the store has said
//! so, never because somebody went away.
//! Fails: with the store's error, which abandons the delivery.

use bytes::Bytes;
use redspool_core::id::MessageId;
use redspool_core::queue::{Reader, StoreError};
use std::sync::Arc;

/// A message's content in CR LF form, read in pieces, once.
pub trait Content: Send {
    /// The next piece; `None` after the last one.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;
}

/// Content as a store has it. Each piece is read off the runtime's threads.
pub struct Stored {
    reader: Arc<dyn Reader>,
    message: MessageId,
    index: u32,
}

impl Stored {
    /// The content of `message`, from its start.
    pub fn new(reader: Arc<dyn Reader>, message: MessageId) -> Self {
        Self {
            reader,
            message,
            index: 0,
        }
    }
}

impl Content for Stored {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let (reader, message, index) = (Arc::clone(&self.reader), self.message, self.index);
        self.index = index.saturating_add(1);
        tokio::task::spawn_blocking(move || reader.body(message, index))
            .await
            .unwrap_or_else(|cause| Err(StoreError::Io(cause.to_string())))
    }
}
