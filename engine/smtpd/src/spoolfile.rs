//! Content too large for memory: an unlinked temporary file, read back in pieces.
//!
//! Promises: gone with its last handle, whatever happens to us; nothing of it is durable, for it is
//! copied into the store before anything is acknowledged.

use bytes::{Bytes, BytesMut};
use redspool_core::queue::{Pieces, StoreError};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Octets read back at a time.
const PIECE: usize = 64 << 10;

/// A temporary file without a name.
pub(crate) struct SpoolFile {
    file: File,
}

impl SpoolFile {
    /// Makes one in `directory`; `name` is its name for the moment between making and unlinking.
    pub(crate) fn create(directory: &Path, name: u64) -> io::Result<Self> {
        let path = directory.join(format!("incoming.{name:016x}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self { file })
    }

    /// Appends.
    pub(crate) fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.file.write_all(content)
    }

    /// The whole content: `head` first, then the file from its start.
    pub(crate) fn pieces(mut self, head: Bytes) -> io::Result<impl Pieces> {
        let length = self.file.stream_position()?;
        self.file.seek(SeekFrom::Start(0))?;
        Ok(Content {
            length: length + head.len() as u64,
            head: Some(head).filter(|head| !head.is_empty()),
            file: self.file,
        })
    }
}

struct Content {
    head: Option<Bytes>,
    file: File,
    /// Octets in all.
    length: u64,
}

impl Pieces for Content {
    fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if let Some(head) = self.head.take() {
            return Ok(Some(head));
        }
        let mut piece = BytesMut::zeroed(PIECE);
        let mut filled = 0;
        while let Some(room) = piece.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.file.read(room) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::Io(error.to_string())),
            }
        }
        piece.truncate(filled);
        Ok(Some(piece.freeze()).filter(|piece| !piece.is_empty()))
    }

    fn length(&self) -> u64 {
        self.length
    }
}
