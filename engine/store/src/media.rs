//! Where a store keeps its files: a flat directory of named files, as little of it as we need.
//!
//! What: [`Media`] and [`MediaFile`], the only way from the log store to a disk, and their
//! implementation on a directory, [`Directory`]. Crash replay puts a recording one in its place.
//! Promises: what [`MediaFile::sync`] confirmed is on the disk; what [`Media::sync_names`]
//! confirmed has its name there. A read-only directory never writes an octet.
//! Absent on purpose: meaning; every octet is proven by those who read it.
//! Fails: with the operating system's errors. A failed sync is never retried here: after one, the
//! cache may show what the disk does not have (see [`MediaFile::forget`]).

use crate::wary::Wary;
use redb::backends::FileBackend;
use redb::{Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, StorageBackend};
use redspool_core::space::Space;
use rustix::fs::{Advice, fadvise, fallocate, statvfs};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Octets that Linux reads ahead for one hint, at least; it forgets what goes beyond its own bound.
const READ_AHEAD: usize = 128 << 10;

/// A flat directory of named files.
pub trait Media: fmt::Debug + Send + Sync + 'static {
    /// Names of all files, in no order.
    fn names(&self) -> io::Result<Vec<String>>;

    /// An existing file, or `None`.
    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn MediaFile>>>;

    /// A new, empty file; one of that name is emptied.
    fn create(&self, name: &str) -> io::Result<Arc<dyn MediaFile>>;

    /// Gives a file another name; a file that has it already is gone.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable: creations, renames and removals so far.
    fn sync_names(&self) -> io::Result<()>;

    /// Octets and files that are left for us.
    fn space(&self) -> io::Result<Space>;

    /// Opens the file `name` as a database for writing; one that is not there is created.
    fn database(&self, name: &str, builder: &mut Builder) -> Result<Database, DatabaseError> {
        let file = match self.open(name)? {
            Some(file) => file,
            None => self.create(name)?,
        };
        builder.create_with_backend(Wary(Backend(file)))
    }

    /// Opens the file `name` as a database, for reading only.
    fn read_database(
        &self,
        name: &str,
        builder: &mut Builder,
    ) -> Result<ReadOnlyDatabase, DatabaseError> {
        let file = self.open(name)?;
        let file = file.ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
        builder.open_read_only_with_backend(Wary(Backend(file)))
    }
}

/// One file.
pub trait MediaFile: fmt::Debug + Send + Sync + 'static {
    /// Its length in octets.
    fn length(&self) -> io::Result<u64>;

    /// Makes it so long; what is added reads as zero.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Reads from `offset` on until `out` is full or the file ends; gives the octets read.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `parts`, one behind the other.
    fn write(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()>;

    /// Asks for `length` octets of the disk to be set apart for it, so that later writes into
    /// them cannot find it full. A medium that cannot do so does nothing.
    fn reserve(&self, length: u64) -> io::Result<()>;

    /// What was written is on the disk when this returns.
    fn sync(&self) -> io::Result<()>;

    /// Says that these octets are going to be read soon. A medium that cannot make use of that does
    /// nothing.
    fn expect(&self, _octets: Range<u64>) {}

    /// Drops what the cache holds of it: what is read next comes from the disk. Only of use after
    /// a sync, for what is not yet written stays.
    fn forget(&self) -> io::Result<()>;
}

/// Fills `out` from `offset` on; a file that ends before that is an error.
pub(crate) fn read_exact(file: &dyn MediaFile, offset: u64, out: &mut [u8]) -> io::Result<()> {
    if file.read(offset, out)? == out.len() {
        return Ok(());
    }
    Err(ErrorKind::UnexpectedEof.into())
}

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    writable: bool,
}

impl Directory {
    /// The existing directory at `path`, for reading and writing.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            writable: true,
        }
    }

    /// The same for reading only: whoever asks to write gets an error.
    pub fn read_only(path: &Path) -> Self {
        Self {
            writable: false,
            ..Self::new(path)
        }
    }

    fn may_write(&self) -> io::Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }
}

impl Media for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn MediaFile>>> {
        let mut options = OpenOptions::new();
        options.read(true).write(self.writable);
        match options.open(self.path.join(name)) {
            Ok(file) => Ok(Some(Arc::new(file))),
            Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(why) => Err(why),
        }
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn MediaFile>> {
        self.may_write()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(options.mode(0o600).open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.may_write()?;
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.may_write()?;
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let found = statvfs(&self.path)?;
        Ok(Space {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
            // File systems that make inodes as they need them say zero of zero.
            files: match found.f_files {
                0 => u64::MAX,
                _ => found.f_favail,
            },
        })
    }

    /// With the locks that let other processes read beside us.
    fn database(&self, name: &str, builder: &mut Builder) -> Result<Database, DatabaseError> {
        self.may_write()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(self.path.join(name))?;
        builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
        builder.create_with_backend(Wary(FileBackend::new(file)?))
    }

    /// As one of the readers beside a single writer.
    fn read_database(
        &self,
        name: &str,
        builder: &mut Builder,
    ) -> Result<ReadOnlyDatabase, DatabaseError> {
        let file = File::open(self.path.join(name))?;
        builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
        builder.open_read_only_with_backend(Wary(FileBackend::new(file)?))
    }
}

impl MediaFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(more) => done += more,
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        Ok(done)
    }

    fn write(&self, mut offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        // The kernel takes at most IOV_MAX (1024) parts at a time.
        for batch in parts.chunks(1024) {
            let mut slices: Vec<_> = batch.iter().map(|part| IoSlice::new(part)).collect();
            let mut left = &mut slices[..];
            IoSlice::advance_slices(&mut left, 0);
            while !left.is_empty() {
                match rustix::io::pwritev(self, left, offset) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(more) => {
                        IoSlice::advance_slices(&mut left, more);
                        offset += more as u64;
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(why) => return Err(why.into()),
                }
            }
        }
        Ok(())
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        match fallocate(self, rustix::fs::FallocateFlags::empty(), 0, length) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn expect(&self, octets: Range<u64>) {
        for part in octets.step_by(READ_AHEAD) {
            // A hint: without it reading only takes longer.
            let _ = fadvise(
                self,
                part,
                NonZeroU64::new(READ_AHEAD as u64),
                Advice::WillNeed,
            );
        }
    }

    fn forget(&self) -> io::Result<()> {
        Ok(fadvise(self, 0, None, Advice::DontNeed)?)
    }
}

/// A file of the media as redb wants it.
#[derive(Debug)]
pub(crate) struct Backend(pub(crate) Arc<dyn MediaFile>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        read_exact(&*self.0, offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_length(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, &[data])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_in_parts_and_read_back() {
        let place = tempfile::tempdir().unwrap();
        let media = Directory::new(place.path());
        assert!(media.open("a").unwrap().is_none());
        let file = media.create("a").unwrap();
        let many: Vec<&[u8]> = (0..2500).map(|_| &b"ab"[..]).collect();
        file.write(3, &many).unwrap();
        let mut octets = vec![9; 6000];
        assert_eq!(file.read(0, &mut octets).unwrap(), 5003);
        assert_eq!(octets[..3], [0; 3]);
        assert_eq!(octets[3..5003], b"ab".repeat(2500));
        media.rename("a", "b").unwrap();
        assert_eq!(media.names().unwrap(), ["b"]);
        assert!(media.space().unwrap().free > 0);
    }

    #[test]
    fn a_read_only_directory_writes_nothing() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("a"), b"abc").unwrap();
        let media = Directory::read_only(place.path());
        let file = media.open("a").unwrap().unwrap();
        assert!(file.write(0, &[b"x"]).is_err());
        assert!(media.create("b").is_err());
        assert!(media.rename("a", "b").is_err());
        assert!(media.remove("a").is_err());
        assert_eq!(std::fs::read(place.path().join("a")).unwrap(), b"abc");
    }
}
