//! One file of a spool, decoded: AES-256-GCM, then gzip, each recognised by how the file begins.
//!
//! What: an encrypted file is one octet 1, 12 octets of nonce, the text, 16 octets of tag; a
//! compressed one begins with 1f 8b. What is compressed and encrypted was compressed first.
//! Promises: follows no link, opens regular files only, and reads no more than it is told to.
//! Nothing of an encrypted file is used before its tag has proven it.
//! Fails: with a reason.

use aes_gcm::aead::AeadInPlace as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use flate2::read::MultiGzDecoder;
use std::fs::{File, OpenOptions};
use std::io::{self, Cursor, Read};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Octets of a key: the characters of the configuration are the key.
const KEY: usize = 32;
const VERSION: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The key of an encrypted spool.
pub(super) struct Key(Aes256Gcm);

impl Key {
    /// Reads the file that holds the key, with or without a line end.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let mut octets = Zeroizing::new(Vec::with_capacity(KEY * 2));
        File::open(path)
            .and_then(|file| file.take(KEY as u64 * 2).read_to_end(&mut octets))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let key = octets.strip_suffix(b"\n").unwrap_or(&octets);
        let key = key.strip_suffix(b"\r").unwrap_or(key);
        let cipher = Aes256Gcm::new_from_slice(key).map_err(|_| {
            format!(
                "{}: the key has {} octets; it is the {KEY} characters behind `queue encryption`",
                path.display(),
                key.len()
            )
        })?;
        Ok(Self(cipher))
    }
}

/// A file's octets, decrypted if need be.
#[derive(Clone, Debug)]
enum Octets {
    InFile(Arc<File>),
    InMemory(Arc<[u8]>),
}

/// A decoded file; reading it can begin anew any number of times.
#[derive(Clone, Debug)]
pub(super) struct Object {
    octets: Octets,
    compressed: bool,
}

impl Object {
    /// Opens a file. One that is encrypted is decrypted, if it has at most `most` octets.
    pub(super) fn open(path: &Path, key: Option<&Key>, most: u64) -> Result<Self, String> {
        let file = plain(path)?;
        let mut first = [0; 2];
        let read = read_at(&file, &mut first, 0).map_err(|error| error.to_string())?;
        let octets = match first.get(..read) {
            Some([VERSION, ..]) => Octets::InMemory(decrypted(file, key, most)?.into()),
            _ => Octets::InFile(Arc::new(file)),
        };
        let mut object = Self {
            octets,
            compressed: false,
        };
        let mut first = Vec::new();
        let begun = object.reader().take(2).read_to_end(&mut first);
        begun.map_err(|error| error.to_string())?;
        object.compressed = first == GZIP;
        Ok(object)
    }

    /// A regular file as it is.
    pub(super) fn raw(path: &Path) -> Result<Self, String> {
        Ok(Self {
            octets: Octets::InFile(Arc::new(plain(path)?)),
            compressed: false,
        })
    }

    /// Reads it from its start.
    pub(super) fn reader(&self) -> Box<dyn Read + Send> {
        let raw: Box<dyn Read + Send> = match &self.octets {
            Octets::InFile(file) => Box::new(At {
                file: Arc::clone(file),
                offset: 0,
            }),
            Octets::InMemory(octets) => Box::new(Cursor::new(Arc::clone(octets))),
        };
        if self.compressed {
            return Box::new(MultiGzDecoder::new(raw));
        }
        raw
    }

    /// All of it, if it has at most `most` octets.
    pub(super) fn all(&self, most: usize) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        let read = self.reader().take(bound).read_to_end(&mut all);
        read.map_err(|error| unreadable(self.compressed, &error))?;
        if all.len() > most {
            return Err(format!("larger than {most} octets"));
        }
        Ok(all)
    }

    /// What it means that it cannot be read.
    pub(super) fn unreadable(&self, error: &io::Error) -> String {
        unreadable(self.compressed, error)
    }
}

fn unreadable(compressed: bool, error: &io::Error) -> String {
    if compressed {
        return format!("it does not decompress, so it is damaged: {error}");
    }
    error.to_string()
}

/// Opens a regular file, no link.
fn plain(path: &Path) -> Result<File, String> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    let opened = options.read(true).custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(number) if number == nix::errno::Errno::ELOOP as i32 => {
            "a symbolic link, which is not followed".to_owned()
        }
        _ => error.to_string(),
    })?;
    let facts = file.metadata().map_err(|error| error.to_string())?;
    if !facts.is_file() {
        return Err("not a regular file".into());
    }
    Ok(file)
}

fn decrypted(file: File, key: Option<&Key>, most: u64) -> Result<Vec<u8>, String> {
    let Some(key) = key else {
        return Err("it is encrypted; name the file with the key: --key FILE".into());
    };
    let most = most.saturating_add((1 + NONCE + TAG) as u64);
    let mut octets = Vec::new();
    let read = file.take(most.saturating_add(1)).read_to_end(&mut octets);
    read.map_err(|error| error.to_string())?;
    if u64::try_from(octets.len()).is_ok_and(|length| length > most) {
        return Err(format!("larger than {most} octets"));
    }
    let short = || "it is encrypted, and cut short".to_owned();
    let (head, text) = octets.split_at_mut_checked(1 + NONCE).ok_or_else(short)?;
    let nonce = head.get(1..).ok_or_else(short)?;
    let length = text.len().checked_sub(TAG).ok_or_else(short)?;
    let (text, tag) = text.split_at_mut_checked(length).ok_or_else(short)?;
    let proven = key
        .0
        .decrypt_in_place_detached(nonce.into(), b"", text, (&*tag).into());
    proven.map_err(|_| "the key does not fit, or the file is damaged".to_owned())?;
    Ok(text.to_vec())
}

/// Reads a file at places of its own.
struct At {
    file: Arc<File>,
    offset: u64,
}

impl Read for At {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(out, self.offset)?;
        self.offset = self.offset.saturating_add(read as u64);
        Ok(read)
    }
}

/// Fills `out` as far as the file goes.
fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = out.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read_at(room, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
