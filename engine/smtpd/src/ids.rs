//! Message-ids for the sessions: drawn from the epoch the store is in.

use parking_lot::Mutex;
use redspool_core::id::{Epoch, MessageId, MessageIds};
use redspool_core::queue::StoreError;
use redspool_core::rng::Rng;
use redspool_store::QueueHandle;

/// Draws message-ids that no queued, corrupt or recently removed message has.
pub struct Ids {
    drawing: Mutex<(MessageIds, Rng)>,
    queue: QueueHandle,
}

impl Ids {
    /// Begins with the epoch after the last one the store has seen; in a new store, a random one.
    pub fn new(queue: QueueHandle, seed: u64) -> Result<Self, StoreError> {
        let mut rng = Rng::new(seed);
        let epoch = match queue.reader().epoch()? {
            Some(last) => last.next(),
            None => Epoch::random(&mut rng),
        };
        let mut ids = MessageIds::new(epoch);
        mark_live(&queue, &mut ids)?;
        Ok(Self {
            drawing: Mutex::new((ids, rng)),
            queue,
        })
    }

    /// A new message-id. Reads the store once per 16,384 ids.
    pub fn draw(&self) -> Result<MessageId, StoreError> {
        let mut drawing = self.drawing.lock();
        let (ids, rng) = &mut *drawing;
        loop {
            if let Some(id) = ids.draw(rng) {
                return Ok(id);
            }
            ids.advance();
            mark_live(&self.queue, ids)?;
        }
    }
}

/// Keeps the ids of this epoch that are still in use from being drawn.
fn mark_live(queue: &QueueHandle, ids: &mut MessageIds) -> Result<(), StoreError> {
    for message in queue.reader().live(ids.epoch())? {
        ids.taken(message);
    }
    Ok(())
}
