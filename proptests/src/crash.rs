//! Crash replay: every write of a store is recorded, then crashes are made up from the record.
//!
//! What: [`Disk`] is a backend in memory that records writes, length changes and syncs. What was
//! not synced at a crash may have reached the disk in part, in any order: [`Disk::images`] builds
//! such disks. [`Disk::fail_after`] makes a disk that fails.
//! Promises: the images follow from the seed. What was synced is in every image.
//! Absent on purpose: disks that lie about what they synced.

use redspool_core::rng::Rng;
use redspool_store::StorageBackend;
use std::io::{ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard};

/// Octets a disk writes at once; a larger write may be torn between them.
const SECTOR: usize = 512;

/// A disk in memory with a record of what was done to it. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Tape>>);

#[derive(Debug, Default)]
struct Tape {
    octets: Vec<u8>,
    start: Vec<u8>,
    operations: Vec<Operation>,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    /// Operations that still succeed.
    left: usize,
    kind: ErrorKind,
}

impl Tape {
    /// Fails if it is time to; from then on every operation does.
    fn may_fail(&mut self) -> Result<()> {
        match &mut self.fault {
            Some(Fault { left: 0, kind }) => Err((*kind).into()),
            Some(fault) => {
                fault.left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Something done to a disk.
#[derive(Clone, Debug)]
enum Operation {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
}

/// A disk as a crash may leave it.
#[derive(Debug)]
pub struct Image {
    /// Operations that had been done when the machine stopped; the synced ones are all there.
    pub synced: usize,
    /// Its content.
    pub octets: Vec<u8>,
    /// How it was made up, for the failure message.
    pub how: String,
}

impl Disk {
    /// A disk with this content, and nothing on record.
    pub fn new(octets: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Tape {
            start: octets.clone(),
            octets,
            ..Tape::default()
        })))
    }

    /// After `count` more writes, length changes and syncs, all of them fail.
    pub fn fail_after(&self, count: usize, kind: ErrorKind) {
        self.tape().fault = Some(Fault { left: count, kind });
    }

    /// Whether a failure was due.
    pub fn has_failed(&self) -> bool {
        matches!(self.tape().fault, Some(Fault { left: 0, .. }))
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.0.lock().expect("no holder panics")
    }

    /// Its content as a running program sees it.
    pub fn octets(&self) -> Vec<u8> {
        self.tape().octets.clone()
    }

    /// How many operations are on record: the position for [`Image::synced`].
    pub fn position(&self) -> usize {
        self.tape().operations.len()
    }

    /// Disks as crashes between any two syncs may leave them; `random` of each gap are random.
    pub fn images(&self, rng: &mut Rng, random: usize, visit: &mut dyn FnMut(Image)) {
        let tape = self.tape();
        let mut base = tape.start.clone();
        let mut start = 0;
        for gap in tape
            .operations
            .split_inclusive(|operation| matches!(operation, Operation::Sync))
        {
            let pending = gap.len() - usize::from(matches!(gap.last(), Some(Operation::Sync)));
            let pending = &gap[..pending];
            for (how, kept) in choices(pending.len(), rng, random) {
                let mut octets = base.clone();
                for (operation, kept) in pending.iter().zip(kept) {
                    apply(&mut octets, operation, kept, rng);
                }
                visit(Image {
                    synced: start,
                    octets,
                    how: format!("{how} of {} operations", pending.len()),
                });
            }
            for operation in gap {
                apply(&mut base, operation, Kept::Whole, rng);
            }
            start += gap.len();
        }
        visit(Image {
            synced: start,
            octets: base,
            how: "everything".into(),
        });
    }
}

/// What of an operation has reached the disk.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Nothing,
    Whole,
    /// Some of its sectors.
    Torn,
}

fn choices(count: usize, rng: &mut Rng, random: usize) -> Vec<(String, Vec<Kept>)> {
    let choose = |kept: &dyn Fn(usize) -> bool| {
        let kept = (0..count).map(|index| {
            if kept(index) {
                Kept::Whole
            } else {
                Kept::Nothing
            }
        });
        kept.collect::<Vec<_>>()
    };
    let mut choices = Vec::new();
    for end in 0..=count {
        choices.push((format!("the first {end}"), choose(&|index| index < end)));
    }
    for one in 0..count {
        choices.push((format!("only {one}"), choose(&|index| index == one)));
        choices.push((format!("all but {one}"), choose(&|index| index != one)));
    }
    for number in 0..if count == 0 { 0 } else { random } {
        let kept = (0..count).map(|_| match rng.below(5) {
            0 | 1 => Kept::Nothing,
            2 | 3 => Kept::Whole,
            _ => Kept::Torn,
        });
        choices.push((format!("random choice {number}"), kept.collect()));
    }
    choices
}

fn apply(octets: &mut Vec<u8>, operation: &Operation, kept: Kept, rng: &mut Rng) {
    match (operation, kept) {
        (_, Kept::Nothing) | (Operation::Sync, _) | (Operation::Length(_), Kept::Torn) => {}
        (Operation::Length(length), Kept::Whole) => octets.resize(index(*length), 0),
        (Operation::Write(offset, data), kept) => {
            for (number, sector) in data.chunks(SECTOR).enumerate() {
                if matches!(kept, Kept::Torn) && rng.below(2) == 0 {
                    continue;
                }
                let start = index(*offset) + number * SECTOR;
                // Data whose length change is lost lies behind the end.
                let end = octets.len().min(start + sector.len());
                if start < end {
                    octets[start..end].copy_from_slice(&sector[..end - start]);
                }
            }
        }
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("test disks are small")
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.tape().octets.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let tape = self.tape();
        let start = index(offset);
        let there = tape.octets.get(start..start + out.len());
        out.copy_from_slice(there.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<()> {
        let mut tape = self.tape();
        tape.may_fail()?;
        tape.octets.resize(index(length), 0);
        tape.operations.push(Operation::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut tape = self.tape();
        tape.may_fail()?;
        tape.operations.push(Operation::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut tape = self.tape();
        tape.may_fail()?;
        let start = index(offset);
        let there = tape.octets.get_mut(start..start + data.len());
        there.ok_or(ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        let write = Operation::Write(offset, data.to_vec());
        tape.operations.push(write);
        Ok(())
    }
}
