//! Media in memory that record what is done to them, fail on demand, and forget as a cache does.
//!
//! What: [`Recorder`] is the disk of a store under test. Its [`Tape`] gives the disks a crash may
//! leave ([`Image`]). [`Recorder::fail`] plans a fault. After a sync that failed, the cache shows
//! what was written while the disk has all, nothing or some of it, and nothing is left to be
//! written: later syncs succeed. Only `forget` shows the disk's own octets again.
//! Promises: all of it follows from the seed. What was synced is in every image; names as of the
//! last `sync_names`.
//! Absent on purpose: disks that lie about what they synced; damage is done by hand ([`Disk::flip`]).
//! Fails: with the planned errors, and with `BrokenPipe` once it is unplugged.

mod content;
mod fault;
mod images;
mod tape;

pub use self::content::Content;
pub use self::fault::Fault;
pub use self::images::{Amount, Image};
pub use self::tape::{Disk, Tape};

use self::content::BLOCK;
use self::tape::{FileId, Kept, Operation};
use redspool_core::rng::Rng;
use redspool_core::space::Space;
use redspool_store::{Media, MediaFile, StorageBackend};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard};

/// Recording media. Clones are the same media.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<State>>);

struct State {
    /// What the programs see: the cache.
    view: Disk,
    tape: Tape,
    next: FileId,
    /// Files of which the cache shows octets that the disk does not have and will not get.
    stale: BTreeSet<FileId>,
    fault: Option<Fault>,
    /// A fault has happened.
    struck: bool,
    unplugged: bool,
    rng: Rng,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorder({} operations)", self.position())
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::on(Disk::default())
    }
}

impl Recorder {
    /// Media that hold this, with nothing on record.
    pub fn on(mut disk: Disk) -> Self {
        let named: BTreeSet<_> = disk.names.values().copied().collect();
        disk.files.retain(|id, _| named.contains(id));
        // A name without octets is an empty file.
        for id in &named {
            disk.files.entry(*id).or_default();
        }
        Self(Arc::new(Mutex::new(State {
            next: named.last().map_or(0, |last| last + 1),
            view: disk.clone(),
            tape: Tape {
                start: disk,
                operations: Vec::new(),
            },
            stale: BTreeSet::new(),
            fault: None,
            struck: false,
            unplugged: false,
            rng: Rng::new(0),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }

    /// How many operations are on record.
    pub fn position(&self) -> usize {
        self.state().tape.operations.len()
    }

    /// The record so far.
    pub fn tape(&self) -> Tape {
        self.state().tape.clone()
    }

    /// What programs see now.
    pub fn view(&self) -> Disk {
        self.state().view.clone()
    }

    /// Plans a fault.
    pub fn fail(&self, fault: Fault, seed: u64) {
        let mut state = self.state();
        state.fault = Some(fault);
        state.rng = Rng::new(seed);
    }

    /// Takes the fault away; whether it has happened.
    pub fn mend(&self) -> bool {
        let mut state = self.state();
        state.fault = None;
        state.struck
    }

    /// Whether a planned fault has happened.
    pub fn has_failed(&self) -> bool {
        self.state().struck
    }

    /// The machine stops: whatever is done from now on fails and leaves no trace.
    pub fn unplug(&self) {
        self.state().unplugged = true;
    }

    /// Turns one bit of a file over, on the disk and in the cache.
    pub fn flip(&self, name: &str, offset: usize, bit: u8) {
        self.state().view.flip(name, offset, bit);
    }

    fn file(&self, id: FileId) -> Arc<dyn MediaFile> {
        Arc::new(RecordedFile {
            recorder: self.clone(),
            id,
        })
    }
}

impl State {
    fn plugged(&self) -> Result<()> {
        if self.unplugged {
            return Err(ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    /// The planned error, if it is time for it.
    fn strike(&mut self) -> Result<Option<Error>> {
        self.plugged()?;
        let why = self.fault.as_mut().and_then(Fault::strike);
        self.struck |= why.is_some();
        Ok(why)
    }

    /// Does something that happens whole or not at all.
    fn act(&mut self, operation: Operation) -> Result<()> {
        if let Some(why) = self.strike()? {
            return Err(why);
        }
        self.view.apply(&operation, Kept::Whole, &mut self.rng);
        self.tape.operations.push(operation);
        Ok(())
    }

    fn write(&mut self, file: FileId, offset: usize, data: Vec<u8>) -> Result<()> {
        let fault = self.strike()?;
        let mut data = data;
        if fault.is_some() {
            // Some of it may have been taken.
            let taken = self.rng.below(data.len() as u64 + 1);
            data.truncate(index(taken));
        }
        if !data.is_empty() {
            self.view
                .files
                .entry(file)
                .or_default()
                .write(offset, &data);
            let (offset, data) = if self.stale.contains(&file) {
                // Whole pages go to the disk, with all that the cache shows in them.
                self.pages(file, offset, data.len())
            } else {
                (offset, data)
            };
            self.tape.operations.push(Operation::Write {
                file,
                offset,
                data: data.into(),
            });
        }
        fault.map_or(Ok(()), Err)
    }

    fn pages(&self, file: FileId, offset: usize, length: usize) -> (usize, Vec<u8>) {
        let content = &self.view.files[&file];
        let start = offset - offset % BLOCK;
        let end = (offset + length).next_multiple_of(BLOCK).min(content.len());
        let mut data = vec![0; end - start];
        content.read(start, &mut data);
        (start, data)
    }

    fn sync(&mut self, file: FileId) -> Result<()> {
        let Some(why) = self.strike()? else {
            self.tape.operations.push(Operation::Sync { file });
            return Ok(());
        };
        let pending = self.tape.durable().of(file).count();
        let kept = match self.rng.below(4) {
            0 => vec![Kept::Whole; pending],
            1 | 2 => vec![Kept::Nothing; pending],
            _ => (0..pending).map(|_| Kept::any(&mut self.rng)).collect(),
        };
        self.tape.operations.push(Operation::Lost { file, kept });
        self.stale.insert(file);
        Err(why)
    }

    fn forget(&mut self, file: FileId) -> Result<()> {
        self.plugged()?;
        if self.stale.remove(&file) {
            let mut durable = self.tape.durable();
            // What is not yet written stays in the cache.
            let pending: Vec<_> = durable.of(file).collect();
            for operation in pending {
                durable.disk.apply(operation, Kept::Whole, &mut self.rng);
            }
            let content = durable.disk.files.remove(&file).unwrap_or_default();
            self.view.files.insert(file, content);
        }
        Ok(())
    }
}

impl Media for Recorder {
    fn names(&self) -> Result<Vec<String>> {
        let state = self.state();
        state.plugged()?;
        Ok(state.view.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn MediaFile>>> {
        let state = self.state();
        state.plugged()?;
        let id = state.view.names.get(name).copied();
        drop(state);
        Ok(id.map(|id| self.file(id)))
    }

    fn create(&self, name: &str) -> Result<Arc<dyn MediaFile>> {
        let mut state = self.state();
        let id = if let Some(file) = state.view.names.get(name).copied() {
            state.act(Operation::Length { file, length: 0 })?;
            file
        } else {
            let file = state.next;
            state.act(Operation::Names {
                gone: None,
                now: Some((name.to_owned(), file)),
            })?;
            state.next += 1;
            state.view.files.insert(file, Content::default());
            file
        };
        drop(state);
        Ok(self.file(id))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut state = self.state();
        let file = *state.view.names.get(from).ok_or(ErrorKind::NotFound)?;
        state.act(Operation::Names {
            gone: Some(from.to_owned()),
            now: Some((to.to_owned(), file)),
        })
    }

    fn remove(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        state.view.names.get(name).ok_or(ErrorKind::NotFound)?;
        state.act(Operation::Names {
            gone: Some(name.to_owned()),
            now: None,
        })
    }

    fn sync_names(&self) -> Result<()> {
        self.state().act(Operation::SyncNames)
    }

    fn space(&self) -> Result<Space> {
        self.state().plugged()?;
        Ok(Space {
            free: 1 << 40,
            total: 1 << 40,
            files: u64::MAX,
        })
    }
}

/// One file of a [`Recorder`].
#[derive(Debug)]
struct RecordedFile {
    recorder: Recorder,
    id: FileId,
}

impl MediaFile for RecordedFile {
    fn length(&self) -> Result<u64> {
        let state = self.recorder.state();
        state.plugged()?;
        Ok(state.view.files[&self.id].len() as u64)
    }

    fn set_length(&self, length: u64) -> Result<()> {
        let operation = Operation::Length {
            file: self.id,
            length: index(length),
        };
        self.recorder.state().act(operation)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        let state = self.recorder.state();
        state.plugged()?;
        Ok(state.view.files[&self.id].read(index(offset), out))
    }

    fn write(&self, offset: u64, parts: &[&[u8]]) -> Result<()> {
        let mut state = self.recorder.state();
        state.write(self.id, index(offset), parts.concat())
    }

    /// As the file system does it, the file is as long afterwards.
    fn reserve(&self, length: u64) -> Result<()> {
        let mut state = self.recorder.state();
        let length = index(length).max(state.view.files[&self.id].len());
        state.act(Operation::Length {
            file: self.id,
            length,
        })
    }

    fn sync(&self) -> Result<()> {
        self.recorder.state().sync(self.id)
    }

    fn forget(&self) -> Result<()> {
        self.recorder.state().forget(self.id)
    }
}

/// A file as redb wants it.
#[derive(Debug)]
pub(crate) struct Backend(pub(crate) Arc<dyn MediaFile>);

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        match self.0.read(offset, out)? {
            read if read == out.len() => Ok(()),
            _ => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    fn set_len(&self, length: u64) -> Result<()> {
        self.0.set_length(length)
    }

    fn sync_data(&self) -> Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.0.write(offset, &[data])
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("test disks are small")
}
