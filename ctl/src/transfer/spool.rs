//! The queue of another server: `queue/XX/MSGID/{message,EVPID}`, as OpenSMTPD keeps it.
//!
//! Promises: everything in `queue` is imported, or told with its path and the reason; what lies
//! beside it is counted. Names are believed only where they belong.
//! Absent on purpose: writing, and following links.

use super::content::{Content, Lines};
use super::import::{Arrival, Intake};
use super::object::{Key, Object};
use redspool_core::config::Salvage;
use redspool_core::envelope::Envelope;
use redspool_core::foreign::{self, Actions};
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::limits::Limits;
use redspool_core::queue::StoreError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directory of committed messages.
pub(super) const QUEUE: &str = "queue";

/// What lies beside the queue, and what it is.
const BESIDE: [(&str, &str); 5] = [
    ("incoming", "never accepted, not imported"),
    ("temporary", "never accepted, not imported"),
    ("purge", "thrown away, not imported"),
    (
        "offline",
        "parked by sendmail, not imported: start the other server once more to queue them",
    ),
    (
        "corrupt",
        "set aside as damaged, not imported: mend a message and move it to queue/XX first",
    ),
];

/// A spool to read.
pub(super) struct Spool<'a> {
    pub(super) root: &'a Path,
    pub(super) key: Option<&'a Key>,
    pub(super) salvage: Option<&'a Salvage>,
    pub(super) limits: &'a Limits,
}

/// A name in a directory.
struct Entry {
    name: String,
    path: PathBuf,
    directory: bool,
}

/// The names in a directory, in order.
fn entries(directory: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        entries.push(Entry {
            name: entry.file_name().to_string_lossy().into_owned(),
            path: entry.path(),
            directory: entry.file_type()?.is_dir(),
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Whether a name is the two digits of a bucket.
fn is_bucket(name: &str) -> bool {
    let digit = |octet: u8| octet.is_ascii_digit() || (b'a'..=b'f').contains(&octet);
    name.len() == 2 && name.bytes().all(digit)
}

impl Spool<'_> {
    /// Hands over everything in the queue. Gives false if nobody listens any more.
    pub(super) fn walk(&self, intake: &mut Intake<'_, '_>) -> Result<bool, StoreError> {
        let mut turn = 0;
        let Some(buckets) = listed(&self.root.join(QUEUE), intake) else {
            return Ok(true);
        };
        let total = buckets.len() as u64;
        for (done, bucket) in (0..).zip(&buckets) {
            if !bucket.directory || !is_bucket(&bucket.name) {
                let why = "not a directory named by two hex digits";
                intake.report.fault(&bucket.path, why);
                continue;
            }
            for entry in listed(&bucket.path, intake).unwrap_or_default() {
                if let Some(arrival) = self.message(&entry, &bucket.name, &mut turn, intake) {
                    intake.take(&arrival)?;
                }
                intake.report.progress(done, total);
                if intake.report.gone() {
                    return Ok(false);
                }
            }
        }
        self.beside(intake);
        Ok(true)
    }

    fn beside(&self, intake: &mut Intake<'_, '_>) {
        for (name, what) in BESIDE {
            let path = self.root.join(name);
            let count = fs::read_dir(&path).map_or(0, Iterator::count);
            if count > 0 {
                let noun = if count == 1 { "entry" } else { "entries" };
                intake.report.note(&path, &format!("{count} {noun} {what}"));
            }
        }
    }

    /// One message with those of its envelopes that can be imported.
    fn message(
        &self,
        entry: &Entry,
        bucket: &str,
        turn: &mut u64,
        intake: &mut Intake<'_, '_>,
    ) -> Option<Arrival> {
        let id: Option<MessageId> = entry.name.parse().ok();
        let id = id.filter(|id| id.to_string() == entry.name && entry.directory);
        let Some(id) = id else {
            let why = "not a directory named by a message-id, 8 hex digits and not all zero";
            intake.report.fault(&entry.path, why);
            return None;
        };
        if !entry.name.starts_with(bucket) {
            let why = "misplaced: its name does not begin with that of its directory";
            intake.report.fault(&entry.path, why);
            return None;
        }
        let (mut envelopes, mut content, mut seen) = (Vec::new(), None, 0);
        for file in listed(&entry.path, intake)? {
            if file.name == "message" {
                content = Some(file.path);
                continue;
            }
            let Some(evpid) = evpid(&file.name, id) else {
                let why = "not an envelope of this message";
                intake.report.fault(&file.path, why);
                continue;
            };
            seen += 1;
            *turn += 1;
            match self.envelope(evpid, &file.path, *turn) {
                Ok(envelope) => envelopes.push(envelope),
                Err(why) => intake.report.fault(&file.path, &why),
            }
        }
        let Some(path) = content else {
            let what = if seen == 0 { "empty" } else { "no content" };
            intake.report.fault(&entry.path, what);
            return None;
        };
        if seen == 0 {
            intake
                .report
                .fault(&entry.path, "no envelopes: nobody to deliver it to");
        }
        let ctime = envelopes.iter().map(|envelope| envelope.ctime).min()?;
        let most = self.limits.import_content;
        let content = Object::open(&path, self.key, most)
            .and_then(|object| Content::measure(object, Lines::Lf, most))
            .and_then(|content| match content.size {
                0 => Err("empty".into()),
                _ => Ok(content),
            });
        match content {
            Ok(content) => Some(Arrival {
                ctime,
                eight_bit: content.eight_bit,
                // OpenSMTPD takes no such mail.
                utf8: false,
                content,
                envelopes,
            }),
            Err(why) => {
                intake.report.fault(&path, &why);
                None
            }
        }
    }

    fn envelope(&self, id: EnvelopeId, path: &Path, turn: u64) -> Result<Envelope, String> {
        let most = self.limits.import_envelope;
        let object = Object::open(path, self.key, u64::try_from(most).unwrap_or(u64::MAX))?;
        let file = object.all(most)?;
        let actions = Actions {
            salvage: self.salvage,
            limits: self.limits,
            turn,
        };
        foreign::envelope(id, &file, actions).map_err(|flaw| flaw.to_string())
    }
}

/// The names in a directory; what cannot be listed is told.
fn listed(directory: &Path, intake: &mut Intake<'_, '_>) -> Option<Vec<Entry>> {
    match entries(directory) {
        Ok(entries) => Some(entries),
        Err(error) => {
            intake.report.fault(directory, &error.to_string());
            None
        }
    }
}

/// The envelope-id a file is named by, if it belongs to the message.
fn evpid(name: &str, message: MessageId) -> Option<EnvelopeId> {
    let id: EnvelopeId = name.parse().ok()?;
    (id.to_string() == name && id.message() == message).then_some(id)
}
