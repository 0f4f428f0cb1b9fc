//! A directory per message with a file for the content and one per envelope, as OpenSMTPD keeps
//! its queue, synced as it would have to be to promise what the others promise.
//!
//! What: made in `incoming`, renamed to one of 256 directories of `queue`, which is then synced:
//! what lies in `incoming` after a crash is thrown away, so the rename has to be durable.
//! A failed attempt writes its envelope anew and renames it over the old one, without a sync.

use super::Purpose;
use super::files::{Files, Layout};
use crate::mail::{self, End, Mail};
use crate::queue::Queue;
use crate::spool::write_all_synced;
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{Body, Submission};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

struct EnvelopeFiles {
    spool: PathBuf,
    synced: bool,
}

pub(super) fn open(spool: &Path, purpose: Purpose) -> io::Result<Box<dyn Queue>> {
    fs::create_dir_all(spool.join("incoming"))?;
    for bucket in 0..=255 {
        fs::create_dir_all(spool.join("queue").join(format!("{bucket:02x}")))?;
    }
    let layout = EnvelopeFiles {
        spool: spool.to_owned(),
        synced: purpose == Purpose::Measure,
    };
    Files::start(layout)
}

impl EnvelopeFiles {
    fn bucket(&self, id: MessageId) -> PathBuf {
        let bucket = format!("{:02x}", id.get() % 256);
        self.spool.join("queue").join(bucket)
    }

    fn message(&self, id: MessageId) -> PathBuf {
        self.bucket(id).join(id.to_string())
    }
}

fn read(path: &Path, id: EnvelopeId) -> io::Result<Envelope> {
    let octets = fs::read(path)?;
    Envelope::decode(id, &octets).map_err(io::Error::other)
}

impl Layout for EnvelopeFiles {
    fn submit(&self, submission: &Submission) -> io::Result<()> {
        let id = submission.message.id;
        let new = self.spool.join("incoming").join(id.to_string());
        fs::create_dir(&new)?;
        let Body::Whole(body) = &submission.body else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        write_all_synced(&new.join("message"), body, self.synced)?;
        let mut record = Vec::new();
        for envelope in &submission.envelopes {
            record.clear();
            envelope.encode(&mut record);
            write_all_synced(&new.join(envelope.id.to_string()), &record, self.synced)?;
        }
        fs::rename(new, self.message(id))?;
        if self.synced {
            File::open(self.bucket(id))?.sync_all()?;
        }
        Ok(())
    }

    fn settle(&self, mail: Mail, end: End) -> io::Result<()> {
        let message = self.message(mail.id);
        for id in mail.envelopes() {
            let path = message.join(id.to_string());
            match end {
                End::Delivered => fs::remove_file(path)?,
                End::Deferred => {
                    let mut envelope = read(&path, id)?;
                    mail::defer(&mut envelope);
                    let mut record = Vec::new();
                    envelope.encode(&mut record);
                    let new = message.join("new");
                    write_all_synced(&new, &record, false)?;
                    fs::rename(new, path)?;
                }
            }
        }
        if end == End::Delivered {
            fs::remove_file(message.join("message"))?;
            fs::remove_dir(message)?;
        }
        Ok(())
    }

    fn load(&self, mail: Mail) -> io::Result<u64> {
        let message = self.message(mail.id);
        for id in mail.envelopes() {
            read(&message.join(id.to_string()), id)?;
        }
        Ok(fs::read(message.join("message"))?.len() as u64)
    }
}
