//! `store export`: everything queued as files that anybody can read.
//!
//! What: `messages/MSGID.eml` has a content, octet for octet, and `envelopes.jsonl` an envelope per
//! line behind a line with the format. The list has its name once everything is on the disk.
//! Promises: nothing is written to the store. Beside a daemon, what is queued from the beginning of
//! the export to its end is in it, whole and once; what leaves meanwhile may be missing.
//! Fails: with a damaged message, which is told while the others go on; and where nothing more can
//! be read or written.

use super::json::{Head, Line};
use super::report::{Count, Report};
use super::{LIST, MESSAGES, UNFINISHED};
use crate::console::Console;
use crate::options::Options;
use crate::parse::Parsed;
use crate::store;
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::limits::Limits;
use redspool_core::queue::{Message, Reader as _, Selector, StoreError};
use redspool_store::{ContentDigest, LogReader, Offline};
use serde_json::json;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// How often a store that changes is opened anew without getting further.
const TRIES: u32 = 5;

/// What ends an export.
enum Trouble {
    Store(StoreError),
    /// A file of the export, and why it cannot be written.
    Write(PathBuf, String),
}

impl From<StoreError> for Trouble {
    fn from(why: StoreError) -> Self {
        Self::Store(why)
    }
}

fn write_trouble(path: &Path) -> impl Fn(io::Error) -> Trouble + '_ {
    |error| Trouble::Write(path.to_path_buf(), error.to_string())
}

/// An export that is being written.
struct Package {
    root: PathBuf,
    list: BufWriter<File>,
    count: Count,
    /// The message whose lines are written, and the digest of its content.
    open: Option<(Message, u64)>,
    /// A message that is damaged.
    damaged: Option<MessageId>,
}

/// Serves the command.
pub(crate) fn serve(console: &mut Console, options: &Options, parsed: &Parsed) {
    let Some(spool) = store::spool(console, options) else {
        return;
    };
    let root = Path::new(parsed.args.text().unwrap_or_default());
    let mut report = Report::new(console, options.json);
    let done = Offline::open(&spool)
        .map_err(Trouble::Store)
        .and_then(|opened| {
            let mut package = Package::begin(root)?;
            package.fill(&spool, opened, &mut report)?;
            package.finish()
        });
    match done {
        Ok(count) => {
            let faults = report.faults;
            let text = format!("{}{faults} faults\n", count.text("exported"));
            let object = json!({"exported": count.described(), "faults": faults});
            report.end(&text, &object);
        }
        Err(Trouble::Store(why)) => report.fail(&store::told(&spool, &why), store::UNREADABLE),
        Err(Trouble::Write(path, why)) => {
            report.fail(&format!("{}: {why}", path.display()), store::UNREADABLE);
        }
    }
}

impl Package {
    /// Makes the directory, or takes one that is empty.
    fn begin(root: &Path) -> Result<Self, Trouble> {
        let private = |path: &Path| DirBuilder::new().mode(0o700).create(path);
        match private(root) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let mut entries = fs::read_dir(root).map_err(write_trouble(root))?;
                if entries.next().is_some() {
                    let why = "not empty: name a directory that is, or a new one";
                    return Err(Trouble::Write(root.to_path_buf(), why.into()));
                }
            }
            Err(error) => return Err(write_trouble(root)(error)),
        }
        let messages = root.join(MESSAGES);
        private(&messages).map_err(write_trouble(&messages))?;
        let path = root.join(UNFINISHED);
        let list = created(&path).map_err(write_trouble(&path))?;
        let mut package = Self {
            root: root.to_path_buf(),
            list: BufWriter::new(list),
            count: Count::default(),
            open: None,
            damaged: None,
        };
        let mut head = serde_json::to_vec(&Head::current())
            .map_err(|error| write_trouble(&path)(error.into()))?;
        head.push(b'\n');
        package.write(&head)?;
        Ok(package)
    }

    fn write(&mut self, line: &[u8]) -> Result<(), Trouble> {
        let path = self.root.join(UNFINISHED);
        self.list.write_all(line).map_err(write_trouble(&path))
    }

    /// Writes everything queued. A store that changed too much under it is opened anew.
    fn fill(
        &mut self,
        spool: &Path,
        opened: Offline,
        report: &mut Report<'_>,
    ) -> Result<(), Trouble> {
        let mut opened = opened;
        let mut after = None;
        let mut tries = TRIES;
        loop {
            for finding in opened.findings().all().iter().filter(|found| found.damage) {
                report.fault(spool, &finding.to_string());
            }
            let reader = opened.reader();
            let before = after;
            match self.pages(&reader, &mut after, report) {
                Err(Trouble::Store(StoreError::Io(why))) => {
                    tries = if after == before { tries - 1 } else { TRIES };
                    if tries == 0 {
                        return Err(StoreError::Io(why).into());
                    }
                    opened = Offline::open(spool)?;
                }
                done => return done,
            }
        }
    }

    /// Writes what is queued behind `after`, which moves on with every envelope written.
    fn pages(
        &mut self,
        reader: &LogReader,
        after: &mut Option<EnvelopeId>,
        report: &mut Report<'_>,
    ) -> Result<(), Trouble> {
        let total = reader.queued();
        loop {
            let page = reader.page(Selector::All, *after, Limits::default().listing_page)?;
            if page.is_empty() {
                return Ok(());
            }
            let mut last = *after;
            for entry in page {
                match entry {
                    Ok(envelope) => {
                        self.envelope(reader, &envelope, report)?;
                        *after = Some(envelope.id);
                        last = *after;
                    }
                    Err(StoreError::Corrupt { message, reason }) => {
                        self.fault(message, &reason, report);
                        last = last.max(Some(*message.envelopes().end()));
                    }
                    Err(why) => return Err(why.into()),
                }
                report.progress(self.count.messages, total);
            }
            // A page of nothing but damage must not come again.
            *after = last;
        }
    }

    fn fault(&mut self, message: MessageId, reason: &str, report: &mut Report<'_>) {
        if self.damaged != Some(message) {
            self.damaged = Some(message);
            let path = format!("message {message}");
            report.fault(Path::new(&path), reason);
        }
    }

    fn envelope(
        &mut self,
        reader: &LogReader,
        envelope: &Envelope,
        report: &mut Report<'_>,
    ) -> Result<(), Trouble> {
        let id = envelope.id.message();
        if self.damaged == Some(id) {
            return Ok(());
        }
        let (message, digest) = match self.open.filter(|(open, _)| open.id == id) {
            Some(open) => {
                self.count.envelopes += 1;
                open
            }
            None => match self.content(reader, id) {
                Ok(Some(open)) => {
                    self.open = Some(open);
                    self.count.add(1, open.0.size);
                    open
                }
                // It has left.
                Ok(None) => return Ok(()),
                Err(Trouble::Store(StoreError::Corrupt { reason, .. })) => {
                    self.fault(id, &reason, report);
                    return Ok(());
                }
                Err(why) => return Err(why),
            },
        };
        let mut line = Vec::with_capacity(1024);
        let written = Line::new(envelope, &message, digest).write(&mut line);
        written.map_err(|why| Trouble::Write(self.root.join(UNFINISHED), why))?;
        self.write(&line)
    }

    /// Writes the content of a message. A part of one that could not be read to its end is removed.
    fn content(
        &self,
        reader: &LogReader,
        id: MessageId,
    ) -> Result<Option<(Message, u64)>, Trouble> {
        let Some(message) = reader.message(id)? else {
            return Ok(None);
        };
        let path = self.root.join(MESSAGES).join(format!("{id}.eml"));
        let trouble = write_trouble(&path);
        let mut file = created(&path).map_err(&trouble)?;
        let mut digest = ContentDigest::default();
        let mut size = 0_u64;
        let mut index = 0_u32;
        loop {
            match reader.body(id, index) {
                Ok(Some(piece)) => {
                    digest.add(&piece);
                    size = size.saturating_add(piece.len() as u64);
                    file.write_all(&piece).map_err(&trouble)?;
                }
                Ok(None) if size == message.size => {
                    return Ok(Some((message, digest.value())));
                }
                unfinished => {
                    fs::remove_file(&path).map_err(&trouble)?;
                    return unfinished.map(|_| None).map_err(Trouble::Store);
                }
            }
            index = index.saturating_add(1);
        }
    }

    /// Makes all of it durable, and only then gives the list its name.
    fn finish(mut self) -> Result<Count, Trouble> {
        let (unfinished, list) = (self.root.join(UNFINISHED), self.root.join(LIST));
        self.list.flush().map_err(write_trouble(&unfinished))?;
        let root = File::open(&self.root).map_err(write_trouble(&self.root))?;
        // One flush for all of the files, each of which would need its own else.
        let synced = nix::unistd::syncfs(&root).map_err(io::Error::from);
        synced.map_err(write_trouble(&self.root))?;
        fs::rename(&unfinished, &list).map_err(write_trouble(&list))?;
        let parent = match self.root.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        root.sync_all().map_err(write_trouble(&self.root))?;
        let named = File::open(parent).and_then(|parent| parent.sync_all());
        named.map_err(write_trouble(parent))?;
        Ok(self.count)
    }
}

fn created(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redspool_core::queue::{Body, Store as _, Transition};
    use redspool_proptests::mail;
    use redspool_store::{LogStore, Options};

    fn commit(store: &mut LogStore, transition: Transition) {
        let prepared = store.prepare(transition).unwrap();
        store.commit(vec![prepared]).unwrap();
        store.tick().unwrap();
    }

    fn submit(store: &mut LogStore, number: u32) -> MessageId {
        let id = mail::message(number);
        let content = mail::content(id, 4_000);
        let submission = mail::submission(id, 2, Body::Whole(content));
        commit(store, Transition::Submit(submission));
        id
    }

    /// The daemon goes on while an export runs, and uses again what it needs no more.
    #[test]
    fn what_stays_queued_is_exported_although_the_store_changes() {
        let (spool, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut store = LogStore::open_with(spool.path(), Options::small()).unwrap();
        let ids: Vec<_> = (1..40).map(|number| submit(&mut store, number)).collect();
        let opened = Offline::open(spool.path()).unwrap();
        let stay = |id: &MessageId| id.get().is_multiple_of(3);
        for id in ids.iter().filter(|id| !stay(id)) {
            commit(&mut store, Transition::Remove(Selector::Message(*id)));
        }
        for number in 100..400 {
            let id = submit(&mut store, number);
            commit(&mut store, Transition::Remove(Selector::Message(id)));
        }
        // The test is about something: what left cannot be read any more.
        let gone = ids.iter().filter(|id| !stay(id));
        let unreadable = |id: &MessageId| opened.reader().body(*id, 0).is_err();
        assert!(gone.clone().any(unreadable));
        let mut console = Console::new("smtpctl".into());
        let mut report = Report::new(&mut console, false);
        let root = target.path().join("out");
        let Ok(mut package) = Package::begin(&root) else {
            panic!("it cannot be begun");
        };
        assert!(package.fill(spool.path(), opened, &mut report).is_ok());
        assert_eq!(report.faults, 0);
        assert!(package.finish().is_ok());
        let list = fs::read_to_string(root.join(LIST)).unwrap();
        for id in ids.iter().filter(|id| stay(id)) {
            let lines = list.matches(&format!("\"id\":\"{id}")).count();
            assert_eq!(lines, 2, "{id}");
            let content = fs::read(root.join(MESSAGES).join(format!("{id}.eml"))).unwrap();
            assert_eq!(content, mail::content(*id, 4_000));
        }
        // Every content that is there is listed: no part of one is left.
        for entry in fs::read_dir(root.join(MESSAGES)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(list.contains(name.trim_end_matches(".eml")), "{name}");
        }
    }
}
