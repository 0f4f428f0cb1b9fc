//! One file per message, as Postfix keeps its queue.
//!
//! What: envelopes and content in one file, written and synced in `incoming`, renamed to `active`,
//! after a failed attempt to `deferred`; each hashed into 16 directories.
//! Promises: no more syncs than Postfix makes. The name in `incoming` is durable with the file on
//! the usual file systems, and mail found there is as good as in `active`, so no directory is
//! synced.
//! Absent on purpose: the log of deferrals and marks per recipient.

use super::Purpose;
use super::files::{Files, Layout};
use super::frame;
use crate::mail::{End, Mail};
use crate::queue::Queue;
use crate::spool::write_all_synced;
use redspool_core::id::MessageId;
use redspool_core::queue::Submission;
use std::fs::{self, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const INCOMING: &str = "incoming";
const ACTIVE: &str = "active";
const DEFERRED: &str = "deferred";

struct MessageFiles {
    spool: PathBuf,
    synced: bool,
}

pub(super) fn open(spool: &Path, purpose: Purpose) -> io::Result<Box<dyn Queue>> {
    for queue in [INCOMING, ACTIVE, DEFERRED] {
        for hash in 0..16 {
            fs::create_dir_all(spool.join(queue).join(format!("{hash:x}")))?;
        }
    }
    let layout = MessageFiles {
        spool: spool.to_owned(),
        synced: purpose == Purpose::Measure,
    };
    Files::start(layout)
}

impl MessageFiles {
    fn path(&self, queue: &str, id: MessageId) -> PathBuf {
        let hash = format!("{:x}", id.get() % 16);
        self.spool.join(queue).join(hash).join(id.to_string())
    }
}

/// The first result, or the second if there was no such file.
fn or_else<T>(first: io::Result<T>, second: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match first {
        Err(why) if why.kind() == io::ErrorKind::NotFound => second(),
        result => result,
    }
}

impl Layout for MessageFiles {
    fn submit(&self, submission: &Submission) -> io::Result<()> {
        let id = submission.message.id;
        let incoming = self.path(INCOMING, id);
        write_all_synced(&incoming, &frame::encode(submission)?, self.synced)?;
        fs::rename(incoming, self.path(ACTIVE, id))
    }

    fn settle(&self, mail: Mail, end: End) -> io::Result<()> {
        let (active, deferred) = (self.path(ACTIVE, mail.id), self.path(DEFERRED, mail.id));
        match end {
            End::Delivered => or_else(fs::remove_file(active), || fs::remove_file(deferred)),
            End::Deferred => {
                or_else(fs::rename(active, &deferred), || Ok(()))?;
                // The date is when it is due.
                let due = FileTimes::new().set_modified(SystemTime::now());
                fs::File::options()
                    .write(true)
                    .open(deferred)?
                    .set_times(due)
            }
        }
    }

    fn load(&self, mail: Mail) -> io::Result<u64> {
        let file = or_else(fs::read(self.path(ACTIVE, mail.id)), || {
            fs::read(self.path(DEFERRED, mail.id))
        })?;
        frame::content_of(mail, &file)
    }
}
