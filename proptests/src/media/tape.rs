//! What was done to media, in order, and what of it a disk has at any point.
//!
//! Promises: what a sync covered is on the disk; nothing else is, until somebody chooses.

use super::content::Content;
use super::index;
use redspool_core::rng::Rng;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Octets a disk writes at once; a larger write may be torn between them.
const SECTOR: usize = 512;

/// Which file, whatever its name.
pub(super) type FileId = usize;

/// Something done to media.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Write {
        file: FileId,
        offset: usize,
        data: Arc<[u8]>,
    },
    Length {
        file: FileId,
        length: usize,
    },
    Sync {
        file: FileId,
    },
    /// A sync that failed: of what it should have written only this has arrived, and the rest
    /// counts as written.
    Lost {
        file: FileId,
        kept: Vec<Kept>,
    },
    /// A name is gone, and a file has a name: creation, renaming, removal.
    Names {
        gone: Option<String>,
        now: Option<(String, FileId)>,
    },
    SyncNames,
}

impl Operation {
    /// How many sectors a write touches.
    pub(super) fn sectors(&self) -> usize {
        match self {
            Self::Write { offset, data, .. } => {
                (offset + data.len()).div_ceil(SECTOR) - offset / SECTOR
            }
            _ => 0,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { file, offset, data } => {
                write!(f, "file {file}: {} octets at {offset}", data.len())
            }
            Self::Length { file, length } => write!(f, "file {file}: {length} octets long"),
            Self::Sync { file } => write!(f, "file {file}: sync"),
            Self::Lost { file, kept } => write!(f, "file {file}: failed sync, {kept:?}"),
            Self::Names { gone, now } => write!(f, "names: {gone:?} gone, now {now:?}"),
            Self::SyncNames => f.write_str("names: sync"),
        }
    }
}

/// What of an operation has reached the disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kept {
    Nothing,
    Whole,
    /// Some of its sectors, by chance.
    Torn,
    /// So many of its first sectors.
    Begun(usize),
    /// It has made the file longer, but its octets are missing.
    LengthOnly,
    /// Its octets are there as far as the file was long before.
    WithoutLength,
}

impl Kept {
    pub(super) fn any(rng: &mut Rng) -> Self {
        match rng.below(10) {
            0..=3 => Self::Nothing,
            4..=6 => Self::Whole,
            7 => Self::Torn,
            8 => Self::Begun(1 + index(rng.below(12))),
            _ if rng.below(2) == 0 => Self::LengthOnly,
            _ => Self::WithoutLength,
        }
    }
}

/// Files and their names.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub(super) names: BTreeMap<String, FileId>,
    pub(super) files: BTreeMap<FileId, Content>,
}

impl Disk {
    /// Its files by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Content)> {
        self.names
            .iter()
            .filter_map(|(name, id)| Some((name.as_str(), self.files.get(id)?)))
    }

    /// Turns one bit of a file over.
    pub fn flip(&mut self, name: &str, offset: usize, bit: u8) {
        let content = self.names.get(name).and_then(|id| self.files.get_mut(id));
        let content = content.expect("there is such a file");
        let mut octet = [0];
        assert_eq!(content.read(offset, &mut octet), 1, "{offset} of {name}");
        content.write(offset, &[octet[0] ^ (1 << bit)]);
    }

    pub(super) fn apply(&mut self, operation: &Operation, kept: Kept, rng: &mut Rng) {
        match (operation, kept) {
            (_, Kept::Nothing)
            | (Operation::Sync { .. } | Operation::Lost { .. } | Operation::SyncNames, _) => {}
            (Operation::Names { gone, now }, _) => {
                if let Some(gone) = gone {
                    self.names.remove(gone);
                }
                if let Some((name, file)) = now {
                    self.names.insert(name.clone(), *file);
                }
            }
            (Operation::Length { file, length }, _) => {
                self.files.entry(*file).or_default().resize(*length);
            }
            (Operation::Write { file, offset, data }, kept) => {
                let content = self.files.entry(*file).or_default();
                write(content, *offset, data, kept, rng);
            }
        }
    }
}

fn write(content: &mut Content, offset: usize, data: &[u8], kept: Kept, rng: &mut Rng) {
    let before = content.len();
    // A file that grows is as long as the write makes it, whichever sectors have arrived.
    if before < offset + data.len() && !matches!(kept, Kept::WithoutLength) {
        content.resize(offset + data.len());
    }
    // The first sector ends at a multiple of its size in the file, not in the write.
    let mut at = 0;
    let mut number = 0;
    while at < data.len() {
        let next = data.len().min(at + SECTOR - (offset + at) % SECTOR);
        let there = match kept {
            Kept::Whole => true,
            Kept::Torn => rng.below(2) == 0,
            Kept::Begun(sectors) => number < sectors,
            Kept::WithoutLength => offset + next <= before,
            Kept::Nothing | Kept::LengthOnly => false,
        };
        if there {
            content.write(offset + at, &data[at..next]);
        }
        at = next;
        number += 1;
    }
}

/// What a disk holds for sure while a tape runs, and what is on its way to it.
#[derive(Clone, Debug)]
pub(super) struct Durable<'a> {
    pub(super) disk: Disk,
    pub(super) pending: Vec<&'a Operation>,
}

impl<'a> Durable<'a> {
    pub(super) fn new(start: &Disk) -> Self {
        Self {
            disk: start.clone(),
            pending: Vec::new(),
        }
    }

    /// What is on its way to one file.
    pub(super) fn of(&self, wanted: FileId) -> impl Iterator<Item = &'a Operation> {
        let pending = self.pending.iter().copied();
        pending.filter(move |one| concerns(one, wanted))
    }

    /// Does the next operation.
    pub(super) fn advance(&mut self, operation: &'a Operation) {
        // Nothing in here is left to chance but what of a failed sync was torn.
        let rng = &mut Rng::new(0);
        match operation {
            Operation::Sync { file } => self.take(|one| concerns(one, *file), &[], rng),
            Operation::Lost { file, kept } => self.take(|one| concerns(one, *file), kept, rng),
            Operation::SyncNames => {
                self.take(|one| matches!(one, Operation::Names { .. }), &[], rng);
            }
            other => self.pending.push(other),
        }
    }

    fn take(&mut self, covered: impl Fn(&Operation) -> bool, kept: &[Kept], rng: &mut Rng) {
        let mut kept = kept.iter();
        let disk = &mut self.disk;
        self.pending.retain(|one| {
            let covered = covered(one);
            if covered {
                disk.apply(one, kept.next().copied().unwrap_or(Kept::Whole), rng);
            }
            !covered
        });
    }
}

fn concerns(operation: &Operation, wanted: FileId) -> bool {
    match operation {
        Operation::Write { file, .. } | Operation::Length { file, .. } => *file == wanted,
        _ => false,
    }
}

/// A recording: where it began, and all that was done.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    pub(super) start: Disk,
    pub(super) operations: Vec<Operation>,
}

impl Tape {
    /// How many operations are on it.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing is on it.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The operation that was next at a cut, in words.
    pub fn next(&self, cut: usize) -> String {
        let next = self.operations.get(cut);
        next.map_or("the end".into(), ToString::to_string)
    }

    pub(super) fn durable(&self) -> Durable<'_> {
        let mut durable = Durable::new(&self.start);
        for operation in &self.operations {
            durable.advance(operation);
        }
        durable
    }
}
