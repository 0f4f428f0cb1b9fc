//! Messages that are being delivered, noted where the note outlives a crash of this process.
//!
//! What: a small file with a slot for each message that a session, a delivery program or a notice
//! has in hand. A start reads what the last process left in it.
//! Promises: a message that is in hand at one crash after the other is recognised, so that it
//! cannot bring us down for ever (reliability rule Q13). A note costs a write to the cache, never
//! a sync: a machine that stops loses them, and with them nothing but the suspicion.
//! Absent on purpose: what follows from it (`suspects.rs`).

use parking_lot::Mutex;
use redspool_core::id::MessageId;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

/// Name of the file in the spool directory.
const NAME: &str = "queue.inflight";

/// Octets of a slot: message-id and crashes so far, both with the low octet first; zero if free.
const SLOT: usize = 8;

/// Octets of the file that are read at most: far more slots than sessions there can be.
const READ_MAX: u64 = 4 << 20;

/// The notes of this process.
#[derive(Debug)]
pub struct Inflight {
    file: File,
    slots: Mutex<Slots>,
    /// How often in a row each message was in hand at a crash.
    crashes: BTreeMap<MessageId, u32>,
}

#[derive(Debug, Default)]
struct Slots {
    free: Vec<u32>,
    used: u32,
}

impl Inflight {
    /// Reads what the last process left, and begins anew.
    pub fn open(spool: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(spool.join(NAME))?;
        let mut octets = Vec::new();
        (&file).take(READ_MAX).read_to_end(&mut octets)?;
        let mut crashes = BTreeMap::new();
        for slot in octets.chunks_exact(SLOT) {
            let (message, count) = slot.split_at(SLOT / 2);
            let number = |half: &[u8]| half.try_into().map(u32::from_le_bytes).unwrap_or_default();
            if let Some(message) = MessageId::new(number(message)) {
                let count = number(count).saturating_add(1);
                let known = crashes.entry(message).or_insert(count);
                *known = count.max(*known);
            }
        }
        file.set_len(0)?;
        Ok(Self {
            file,
            slots: Mutex::default(),
            crashes,
        })
    }

    /// Messages that were in hand when the last process ended, and at how many ends in a row.
    pub fn crashes(&self) -> &BTreeMap<MessageId, u32> {
        &self.crashes
    }

    /// Notes that a message is in hand until what this gives is dropped.
    pub fn begin(self: &Arc<Self>, message: MessageId) -> Flight {
        let mut slots = self.slots.lock();
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.used += 1;
            slots.used - 1
        });
        drop(slots);
        let count = self.crashes.get(&message).copied().unwrap_or(0);
        self.put(slot, message.get(), count);
        Flight {
            inflight: Arc::clone(self),
            slot,
        }
    }

    /// Nothing is in hand any more that would be a reason for suspicion: a stop is no crash.
    pub fn close(&self) {
        if let Err(error) = self.file.set_len(0)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!("queue {NAME}: {error}");
        }
    }

    fn put(&self, slot: u32, message: u32, count: u32) {
        let mut octets = [0; SLOT];
        octets[..SLOT / 2].copy_from_slice(&message.to_le_bytes());
        octets[SLOT / 2..].copy_from_slice(&count.to_le_bytes());
        // Without the note only a suspicion is missing; the queue is told of a bad disk elsewhere.
        let _ = self
            .file
            .write_all_at(&octets, u64::from(slot) * SLOT as u64);
    }
}

/// A message in hand.
#[derive(Debug)]
pub struct Flight {
    inflight: Arc<Inflight>,
    slot: u32,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.inflight.put(self.slot, 0, 0);
        self.inflight.slots.lock().free.push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u32) -> MessageId {
        MessageId::new(number).unwrap()
    }

    fn opened(spool: &Path) -> Arc<Inflight> {
        Arc::new(Inflight::open(spool).unwrap())
    }

    fn found(inflight: &Inflight) -> Vec<(u32, u32)> {
        let crashes = inflight.crashes().iter();
        crashes.map(|(id, count)| (id.get(), *count)).collect()
    }

    #[test]
    fn crashes_in_a_row_are_counted() {
        let spool = tempfile::tempdir().unwrap();
        let first = opened(spool.path());
        assert_eq!(found(&first), []);
        let [ended, bad, other] = [1, 2, 3].map(|number| first.begin(message(number)));
        drop(ended);
        // The process ends here: nothing is dropped.
        std::mem::forget((bad, other));

        let second = opened(spool.path());
        assert_eq!(found(&second), [(2, 1), (3, 1)]);
        std::mem::forget([second.begin(message(2)), second.begin(message(4))]);

        let third = opened(spool.path());
        assert_eq!(found(&third), [(2, 2), (4, 1)]);
        std::mem::forget(third.begin(message(2)));
        assert_eq!(found(&opened(spool.path())), [(2, 3)]);
        // It was not in hand this time.
        assert_eq!(found(&opened(spool.path())), []);
    }

    #[test]
    fn a_stop_is_no_crash() {
        let spool = tempfile::tempdir().unwrap();
        let first = opened(spool.path());
        std::mem::forget(first.begin(message(1)));
        first.close();
        assert_eq!(found(&opened(spool.path())), []);
    }

    #[test]
    fn garbage_is_harmless() {
        let spool = tempfile::tempdir().unwrap();
        std::fs::write(spool.path().join(NAME), [0xff; 21]).unwrap();
        assert_eq!(found(&opened(spool.path())), [(u32::MAX, u32::MAX)]);
    }
}
