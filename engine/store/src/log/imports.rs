//! What was brought into the store from elsewhere: so that nothing comes in twice.
//!
//! What: [`Importer`], a store open for taking over mail, and its journal `queue.imports`: slots of
//! 40 octets, each a record. A slot says which envelope of another spool, with which content, came
//! in under which envelope-id; an empty one says that everything before it is settled.
//! Promises: slots are durable before their group is committed, and whoever opens the store for
//! writing settles them first: what the crash kept out of the store is withdrawn. So an envelope is
//! in the journal if and only if it came in, even if it has been delivered since.
//! Absent on purpose: where mail comes from.
//! Fails: with `Unreadable` if the journal is damaged; it is left alone then.

use super::read::LogReader;
use super::shared::io_fault;
use super::store::LogStore;
use crate::directory;
use crate::media::{Directory, Media, MediaFile};
use crate::record::{self, HEAD, Kind};
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::limits::Limits;
use redspool_core::queue::{
    Prepare as _, Reader, Receipt, Store as _, StoreError, Submission, Transition,
};
use redspool_core::space::Space;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use twox_hash::XxHash3_64;
use twox_hash::xxhash3_64::Hasher;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The journal.
const NAME: &str = "queue.imports";
/// The journal while it is written anew.
const NEW: &str = "queue.imports.new";

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Value {
    /// The id in this store; 0 for one that did not come in.
    now: U64,
    digest: U64,
}

/// Octets of a slot.
const SLOT: usize = HEAD + size_of::<Value>();

/// Octets of the journal read at a time: whole slots.
const BLOCK: usize = SLOT * 1638;

/// The digest of a content, as the journal keeps it: XXH3-64.
#[derive(Default)]
pub struct ContentDigest(Hasher);

impl std::fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContentDigest")
    }
}

impl ContentDigest {
    /// Takes in the next octets.
    pub fn add(&mut self, octets: &[u8]) {
        std::hash::Hasher::write(&mut self.0, octets);
    }

    /// The digest of all that was taken in.
    pub fn value(&self) -> u64 {
        std::hash::Hasher::finish(&self.0)
    }

    /// The digest of a content that is all in memory.
    pub fn of(content: &[u8]) -> u64 {
        XxHash3_64::oneshot(content)
    }
}

/// One slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// Everything before it is settled.
    Settled,
    Entry(Entry),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    original: u64,
    digest: u64,
    now: u64,
}

impl Slot {
    fn seal(self) -> Vec<u8> {
        let (original, now, digest) = match self {
            Self::Settled => (0, 0, 0),
            Self::Entry(entry) => (entry.original, entry.now, entry.digest),
        };
        let value = Value {
            now: now.into(),
            digest: digest.into(),
        };
        record::seal(Kind::Import, original, value.as_bytes())
    }

    /// `None` for octets that prove nothing.
    fn open(octets: &[u8]) -> Option<Self> {
        let opened = record::first(octets).ok()?;
        if opened.kind != Kind::Import || opened.record.len() != octets.len() {
            return None;
        }
        let value = Value::ref_from_bytes(opened.value).ok()?;
        Some(match opened.key {
            0 => Self::Settled,
            original => Self::Entry(Entry {
                original,
                digest: value.digest.get(),
                now: value.now.get(),
            }),
        })
    }
}

/// What the journal holds.
#[derive(Debug, Default)]
struct Content {
    /// Octets up to the end of the last slot that says settled.
    settled: u64,
    /// What came in before that, by original id and digest.
    known: BTreeSet<(u64, u64)>,
    /// Sound slots behind it.
    open: Vec<Entry>,
}

impl Content {
    /// Reads the journal. Slots that prove nothing are damage, unless no group behind them was
    /// completed.
    fn read(file: &dyn MediaFile) -> Result<Self, StoreError> {
        let mut content = Self::default();
        let mut damaged = None;
        let mut block = vec![0; BLOCK];
        let mut at = 0_u64;
        loop {
            let read = file.read(at, &mut block).map_err(|why| io_fault(&why))?;
            for octets in block.get(..read).unwrap_or_default().chunks(SLOT) {
                match Slot::open(octets) {
                    None => damaged = damaged.or(Some(at)),
                    Some(Slot::Entry(entry)) => content.open.push(entry),
                    Some(Slot::Settled) => {
                        if let Some(at) = damaged {
                            return Err(StoreError::Unreadable(format!(
                                "{NAME} is damaged at octet {at}, so what was imported before is \
                                 not known; remove that file if nothing is to be imported again"
                            )));
                        }
                        content.settled = at + SLOT as u64;
                        content.known.extend(
                            content
                                .open
                                .drain(..)
                                .filter(|entry| entry.now != 0)
                                .map(|entry| (entry.original, entry.digest)),
                        );
                    }
                }
                at += octets.len() as u64;
            }
            if read < block.len() {
                return Ok(content);
            }
        }
    }
}

/// Whether nothing is left to settle: the last slot says so.
fn is_settled(file: &dyn MediaFile) -> io::Result<bool> {
    let length = file.length()?;
    let Some(last) = length.checked_sub(SLOT as u64) else {
        return Ok(length == 0);
    };
    let mut octets = [0; SLOT];
    let read = file.read(last, &mut octets)?;
    Ok(length % SLOT as u64 == 0 && Slot::open(&octets[..read]) == Some(Slot::Settled))
}

/// Settles what an import that was killed has left behind, before anything can leave the store.
/// Gives what is wrong with a journal that cannot be settled, which is left alone.
pub(super) fn settle(
    media: &dyn Media,
    exists: &dyn Fn(MessageId) -> bool,
) -> Result<Option<String>, StoreError> {
    let failed = |why: io::Error| io_fault(&why);
    let Some(file) = media.open(NAME).map_err(failed)? else {
        return Ok(None);
    };
    if is_settled(&*file).map_err(failed)? {
        return Ok(None);
    }
    let content = match Content::read(&*file) {
        Err(StoreError::Unreadable(why)) => return Ok(Some(why)),
        content => content?,
    };
    let mut tail = Vec::new();
    for entry in content.open {
        let now = EnvelopeId::new(entry.now);
        if now.is_some_and(|now| exists(now.message())) {
            tail.extend(Slot::Entry(entry).seal());
        }
    }
    tail.extend(Slot::Settled.seal());
    // What is torn stays between what is whole, so all of it is copied.
    let new = media.create(NEW).map_err(failed)?;
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    while at < content.settled {
        let room = usize::try_from(content.settled - at).map_or(BLOCK, |left| left.min(BLOCK));
        let part = block.get_mut(..room).unwrap_or_default();
        crate::media::read_exact(&*file, at, part).map_err(failed)?;
        new.write(at, &[part]).map_err(failed)?;
        at += room as u64;
    }
    new.write(at, &[&tail]).map_err(failed)?;
    new.sync().map_err(failed)?;
    media.rename(NEW, NAME).map_err(failed)?;
    media.sync_names().map_err(failed)?;
    Ok(None)
}

/// A message from elsewhere on its way into the store.
#[derive(Debug)]
pub struct Incoming {
    /// The message with its envelopes, under the ids they will have here.
    pub submission: Submission,
    /// The ids its envelopes had where they come from, in the order of the submission's.
    pub originals: Vec<EnvelopeId>,
    /// The digest of its content, see [`ContentDigest`].
    pub digest: u64,
}

/// What was imported before, for looking only.
#[derive(Debug, Default)]
pub struct Imported(BTreeSet<(u64, u64)>);

impl Imported {
    /// Reads the journal of the store in `spool`; without one, nothing was imported. What an import
    /// that was killed has left open counts if `reader` has it.
    pub fn read(spool: &Path, reader: &dyn Reader) -> Result<Self, StoreError> {
        let file = Directory::read_only(spool).open(NAME);
        let Some(file) = file.map_err(|why| io_fault(&why))? else {
            return Ok(Self::default());
        };
        let mut content = Content::read(&*file)?;
        for entry in content.open {
            if let Some(now) = EnvelopeId::new(entry.now)
                && reader.exists(now.message())?
            {
                content.known.insert((entry.original, entry.digest));
            }
        }
        Ok(Self(content.known))
    }

    /// Whether this envelope came in before.
    pub fn has(&self, original: EnvelopeId, digest: u64) -> bool {
        self.0.contains(&(original.get(), digest))
    }
}

/// A store that is open for taking over mail.
#[derive(Debug)]
pub struct Importer {
    store: LogStore,
    journal: Arc<dyn MediaFile>,
    /// Where the next slot goes.
    end: u64,
    /// Whether the last slots are settled by now, and do not say so yet.
    owing: bool,
    known: Imported,
}

impl Importer {
    /// Opens the store in the directory `spool`, which must be there; a directory without anything
    /// in it becomes a store. Takes its lock.
    pub fn open(spool: &Path) -> Result<Self, StoreError> {
        if !Self::fits(spool) {
            return Err(StoreError::Absent);
        }
        directory::create(spool).map_err(|why| io_fault(&why))?;
        let store = LogStore::open(spool)?;
        Self::on(&Directory::new(spool), store)
    }

    /// The same on media of the caller's, with a store that is open on them.
    fn on(media: &dyn Media, store: LogStore) -> Result<Self, StoreError> {
        let failed = |why: io::Error| io_fault(&why);
        let journal = if let Some(journal) = media.open(NAME).map_err(failed)? {
            journal
        } else {
            let journal = media.create(NAME).map_err(failed)?;
            media.sync_names().map_err(failed)?;
            journal
        };
        let content = Content::read(&*journal)?;
        Ok(Self {
            store,
            journal,
            end: content.settled,
            owing: false,
            known: Imported(content.known),
        })
    }

    /// Whether a directory is a store, or empty, so that it can become one.
    pub fn fits(spool: &Path) -> bool {
        let names = Directory::read_only(spool).names();
        names.is_ok_and(|names| {
            names.is_empty() || names.iter().any(|name| name == crate::FILE_NAME)
        })
    }

    /// The reading side of the store.
    pub fn reader(&self) -> LogReader {
        self.store.reader()
    }

    /// Whether an id is in use.
    pub fn exists(&self, message: MessageId) -> Result<bool, StoreError> {
        self.store.reader().exists(message)
    }

    /// What was imported before, and so far.
    pub fn known(&self) -> &Imported {
        &self.known
    }

    /// Readies a message; a large content goes to the disk here, piece by piece.
    pub fn prepare(&self, incoming: Incoming) -> Result<Ready, StoreError> {
        let Incoming {
            submission,
            originals,
            digest,
        } = incoming;
        let entries = originals.iter().zip(&submission.envelopes);
        let entries = entries.map(|(original, envelope)| Entry {
            original: original.get(),
            digest,
            now: envelope.id.get(),
        });
        let entries = entries.collect();
        let transition = Transition::Submit(submission);
        let prepared = self.store.preparer().prepare(transition)?;
        Ok(Ready {
            weight: LogStore::weight(&prepared),
            entries,
            prepared,
        })
    }

    /// Takes messages over, all of them durably or none. An error ends the importer; what was in
    /// the group is then settled by the next opening.
    pub fn take(&mut self, group: Vec<Ready>) -> Result<(), StoreError> {
        let limits = Limits::default().space;
        let short = |space: Space| space.short(limits, 0, false);
        if self.store.space().is_some_and(short) {
            return Err(StoreError::Full);
        }
        let mut slots = Vec::new();
        if self.owing {
            slots.extend(Slot::Settled.seal());
        }
        let entries = group.iter().flat_map(|ready| &ready.entries);
        slots.extend(entries.flat_map(|entry| Slot::Entry(*entry).seal()));
        self.note(&slots)?;
        let mut prepared = Vec::with_capacity(group.len());
        for ready in group {
            let pairs = ready.entries.iter();
            self.known
                .0
                .extend(pairs.map(|entry| (entry.original, entry.digest)));
            prepared.push(ready.prepared);
        }
        for receipt in self.store.commit(prepared)? {
            // Ids are drawn with the store locked, so this is an id that was given twice.
            if let Receipt::Refused(_) = receipt {
                return Err(StoreError::Io("an id is in use already".into()));
            }
        }
        self.owing = true;
        self.store.tick()
    }

    fn note(&mut self, slots: &[u8]) -> Result<(), StoreError> {
        let written = self.journal.write(self.end, &[slots]);
        written
            .and_then(|()| self.journal.sync())
            .map_err(|why| io_fault(&why))?;
        self.end += slots.len() as u64;
        Ok(())
    }

    /// Ends the import in good order.
    pub fn close(mut self) -> Result<(), StoreError> {
        if self.owing {
            self.note(&Slot::Settled.seal())?;
        }
        Ok(())
    }
}

/// A message ready to be taken over.
#[derive(Debug)]
pub struct Ready {
    entries: Vec<Entry>,
    prepared: super::prepare::Prepared,
    /// Octets it will write, for the bound on a group.
    pub weight: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use redspool_core::addr::{Address, Source};
    use redspool_core::envelope::{Attempts, Delivery, Dsn, Envelope, Flags, Relay};
    use redspool_core::queue::{Body, Message, Selector};
    use redspool_core::time::Timestamp;
    use std::fs;
    use std::num::NonZeroU32;
    use std::time::Duration;

    const DIGEST: u64 = 7;

    fn incoming(number: u32) -> Incoming {
        let message = MessageId::new(number).unwrap();
        let id = message.envelope(NonZeroU32::MIN);
        let envelope = Envelope {
            id,
            action: "out".into(),
            tag: "".into(),
            delivery: Delivery::Mta(Relay::to(None)),
            smtpname: "mx.example.org".into(),
            helo: "client.example.net".into(),
            hostname: "<unknown>".into(),
            username: "".into(),
            source: Source::Local,
            sender: Address::null(),
            rcpt: "a@example.org".parse().unwrap(),
            dest: "a@example.org".parse().unwrap(),
            ctime: Timestamp::from_secs(1_000),
            last_try: Timestamp::EPOCH,
            last_bounce: Timestamp::EPOCH,
            ttl: Duration::from_hours(96),
            retry: 0,
            flags: Flags::default(),
            dsn: Dsn::default(),
            status: None,
            errorline: "".into(),
            remote: "".into(),
            attempts: Attempts::default(),
        };
        Incoming {
            submission: Submission {
                message: Message {
                    id: message,
                    size: 4,
                    ctime: Timestamp::from_secs(1_000),
                    eight_bit: false,
                    utf8: false,
                },
                body: Body::Whole(Bytes::from_static(b"a\r\n")),
                envelopes: vec![envelope],
            },
            originals: vec![original(number)],
            digest: DIGEST,
        }
    }

    /// The envelope-id elsewhere of what [`incoming`] makes.
    fn original(number: u32) -> EnvelopeId {
        MessageId::new(number ^ 0x5500_0000)
            .unwrap()
            .envelope(NonZeroU32::MIN)
    }

    fn take(importer: &mut Importer, number: u32) {
        let ready = importer.prepare(incoming(number)).unwrap();
        importer.take(vec![ready]).unwrap();
    }

    fn known(importer: &Importer) -> Vec<u32> {
        let known = |number: &u32| importer.known().has(original(*number), DIGEST);
        (1..=9).filter(known).collect()
    }

    #[test]
    fn what_came_in_is_known_although_it_is_gone() {
        let spool = tempfile::tempdir().unwrap();
        let mut importer = Importer::open(spool.path()).unwrap();
        take(&mut importer, 1);
        take(&mut importer, 2);
        // Killed: nothing says that the second one is settled.
        drop(importer);
        let mut store = LogStore::open(spool.path()).unwrap();
        let remove = Transition::Remove(Selector::All);
        let remove = store.preparer().prepare(remove).unwrap();
        store.commit(vec![remove]).unwrap();
        drop(store);
        let mut importer = Importer::open(spool.path()).unwrap();
        assert_eq!(known(&importer), [1, 2]);
        assert!(
            !importer.known().has(original(1), DIGEST + 1),
            "other content"
        );
        take(&mut importer, 3);
        importer.close().unwrap();
        let importer = Importer::open(spool.path()).unwrap();
        assert_eq!(known(&importer), [1, 2, 3]);
        let imported = Imported::read(spool.path(), &importer.reader()).unwrap();
        assert!(imported.has(original(3), DIGEST) && !imported.has(original(4), DIGEST));
    }

    #[test]
    fn what_was_noted_and_not_committed_did_not_come_in() {
        let spool = tempfile::tempdir().unwrap();
        let mut importer = Importer::open(spool.path()).unwrap();
        take(&mut importer, 1);
        let ready = importer.prepare(incoming(2)).unwrap();
        let mut slots = Slot::Settled.seal();
        slots.extend(Slot::Entry(ready.entries[0]).seal());
        importer.note(&slots).unwrap();
        drop((importer, ready));
        let file = spool.path().join(NAME);
        // Torn, too: the beginning of a slot, and a slot that never reached the disk.
        for torn in [17, SLOT] {
            let mut octets = fs::read(&file).unwrap();
            octets.extend(vec![0; torn]);
            fs::write(&file, octets).unwrap();
            let reader = LogStore::open(spool.path()).unwrap().reader();
            drop(reader);
            let importer = Importer::open(spool.path()).unwrap();
            assert_eq!(known(&importer), [1]);
        }
        let mut importer = Importer::open(spool.path()).unwrap();
        take(&mut importer, 2);
        assert_eq!(known(&importer), [1, 2]);
    }

    #[test]
    fn a_damaged_journal_stops_imports_and_nothing_else() {
        let spool = tempfile::tempdir().unwrap();
        let mut importer = Importer::open(spool.path()).unwrap();
        take(&mut importer, 1);
        take(&mut importer, 2);
        importer.close().unwrap();
        let file = spool.path().join(NAME);
        let mut octets = fs::read(&file).unwrap();
        octets[SLOT - 1] ^= 1;
        // Unsettled as well, so that a start has to look at it.
        octets.truncate(octets.len() - 1);
        octets.extend(Slot::Settled.seal());
        fs::write(&file, &octets).unwrap();
        let store = LogStore::open(spool.path()).unwrap();
        assert!(store.findings().damage());
        drop(store);
        assert_eq!(fs::read(&file).unwrap(), octets);
        let refused = Importer::open(spool.path()).unwrap_err();
        assert!(matches!(refused, StoreError::Unreadable(why) if why.contains("octet 0")));
    }

    #[test]
    fn a_directory_of_something_else_is_no_store() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("passwd"), b"").unwrap();
        for path in [place.path(), &place.path().join("missing")] {
            assert_eq!(Importer::open(path).unwrap_err(), StoreError::Absent);
        }
    }
}
