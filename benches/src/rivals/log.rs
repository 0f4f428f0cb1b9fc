//! A bare append log: what the disk can do with the same batching, and nothing else.
//!
//! What: frames without a checksum, one pwrite and one fdatasync per group, in one preallocated
//! file that is overwritten from the start again when it is full.
//! Absent on purpose: an index, reading, keeping what is still queued. It is no queue.

use super::batch::{Batch, Sink};
use super::frame;
use crate::mail::{End, Mail};
use crate::queue::{Done, Queue};
use crate::spool::write_all_synced;
use redspool_core::queue::Submission;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Octets of the file.
const SIZE: u64 = 64 << 20;

pub(super) fn open(spool: &Path) -> io::Result<Box<dyn Queue>> {
    let path = spool.join("log");
    if !path.exists() {
        // Written once, so that overwriting allocates nothing.
        write_all_synced(
            &path,
            &vec![0; usize::try_from(SIZE).expect("64 MiB")],
            true,
        )?;
    }
    let log = Log {
        file: OpenOptions::new().write(true).open(path)?,
        size: SIZE,
        at: 0,
        buffer: Vec::new(),
    };
    Ok(Box::new(Bare(Batch::start(log)?)))
}

struct Bare(Batch<Vec<u8>>);

struct Log {
    file: File,
    size: u64,
    at: u64,
    buffer: Vec<u8>,
}

impl Sink for Log {
    type Work = Vec<u8>;

    fn commit(&mut self, group: &[Vec<u8>]) -> io::Result<()> {
        self.buffer.clear();
        for frame in group {
            self.buffer.extend_from_slice(frame);
        }
        let octets = self.buffer.len() as u64;
        if octets > self.size {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.at + octets > self.size {
            self.at = 0;
        }
        self.file.write_all_at(&self.buffer, self.at)?;
        self.file.sync_data()?;
        self.at += octets;
        Ok(())
    }
}

impl Queue for Bare {
    fn submit(&self, submission: Submission, done: Done) {
        match frame::encode(&submission) {
            Ok(frame) => {
                let octets = frame.len();
                self.0.order(frame, octets, true, done);
            }
            Err(why) => done(Err(why)),
        }
    }

    /// A note of 16 octets per envelope.
    fn settle(&self, mail: Mail, end: End, done: Done) {
        let mut frame = Vec::new();
        for id in mail.envelopes() {
            frame.extend_from_slice(&id.get().to_be_bytes());
            frame.extend_from_slice(&u64::from(end == End::Delivered).to_be_bytes());
        }
        let octets = frame.len();
        self.0.order(frame, octets, false, done);
    }

    /// It cannot find anything: an attempt costs it nothing.
    fn load(&self, _: Mail) -> io::Result<u64> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::scratch;

    #[test]
    fn the_file_is_overwritten_from_the_start_and_never_grows() {
        let spool = scratch(None).unwrap();
        let path = spool.path().join("log");
        write_all_synced(&path, &[0; 100], true).unwrap();
        let mut log = Log {
            file: OpenOptions::new().write(true).open(&path).unwrap(),
            size: 100,
            at: 0,
            buffer: Vec::new(),
        };
        log.commit(&[vec![1; 30], vec![2; 30]]).unwrap();
        log.commit(&[vec![3; 50]]).unwrap();
        let found = std::fs::read(&path).unwrap();
        let expected = [vec![3; 50], vec![2; 10], vec![0; 40]].concat();
        assert_eq!(found, expected);
        assert!(log.commit(&[vec![4; 101]]).is_err());
    }
}
