//! Turned bits: what a damaged queue may show, and what it must not.
//!
//! What: a [`Sample`] is a queue with its whole history. [`Sample::offline`] and [`Sample::reopened`] open
//! a damaged copy of it, [`Sample::open`] damages it under a store that is open. Whatever is served has to be what
//! was once committed; what is not served has to be set aside or named; all else is served.
//! Fails: with the [`Breach`].

use crate::books::Books;
use crate::driver::{Driver, State};
use crate::judge::{Breach, Promise};
use crate::kind::{Kind, Logs, guarded};
use crate::mail;
use crate::media::{Disk, Recorder};
use crate::step::Step;
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{Change, Reader, Selector, Settlement, Store, StoreError};
use redspool_core::reply::Status;
use redspool_core::time::Timestamp;
use redspool_store::{Findings, LogStore, Media, Offline, Options};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// A queue with a known history.
#[derive(Debug)]
pub struct Sample {
    options: Options,
    /// As it is after the store was closed.
    pub stopped: Disk,
    /// As a crash has left it.
    pub crashed: Disk,
    books: Arc<Books>,
    /// Every form of every envelope there ever was.
    envelopes: BTreeMap<EnvelopeId, Vec<Envelope>>,
    /// Every content there ever was.
    contents: BTreeMap<MessageId, Vec<u8>>,
}

/// What a damaged queue shows less than a sound one.
#[derive(Debug, Default)]
struct Seen {
    /// Messages that are not served whole.
    missing: BTreeSet<MessageId>,
    /// Messages that had left the queue and are served again.
    back: BTreeSet<MessageId>,
    /// Messages that are served as they were before their last change.
    older: BTreeSet<MessageId>,
    /// Messages of which a read said that they are damaged.
    reported: BTreeSet<MessageId>,
}

impl Seen {
    /// How many messages the damage has touched.
    fn touched(&self) -> usize {
        let touched = [&self.missing, &self.back, &self.older];
        touched.into_iter().flatten().collect::<BTreeSet<_>>().len()
    }
}

impl Sample {
    /// A queue of so many messages; some are deferred, some have left, one is large.
    pub fn new(options: Options, messages: u32) -> Result<Self, Breach> {
        let kind = Logs(options.clone());
        let mut driver = Driver::open(&kind, Recorder::default(), &[State::empty()])?;
        let mut envelopes: BTreeMap<_, Vec<Envelope>> = BTreeMap::new();
        let mut contents = BTreeMap::new();
        for number in 0..messages {
            for step in life(number) {
                driver.commit(&[step])?;
                driver.tick()?;
                let books = &driver.state().books;
                for (id, envelope) in &books.envelopes {
                    let forms = envelopes.entry(*id).or_default();
                    if !forms.contains(envelope) {
                        forms.push(envelope.clone());
                    }
                }
                for (id, (_, content)) in &books.messages {
                    contents.insert(*id, content.clone());
                }
            }
        }
        let books = Arc::clone(&driver.state().books);
        let crashed = driver
            .media()
            .tape()
            .end(0, &mut redspool_core::rng::Rng::new(0));
        driver.close();
        Ok(Self {
            options,
            stopped: driver.media().view(),
            crashed,
            books,
            envelopes,
            contents,
        })
    }

    /// The same queue, opened with other options.
    #[must_use]
    pub fn with(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// Opens a damaged copy for reading only. Gives how many messages the damage has touched.
    pub fn offline(&self, disk: Disk) -> Result<usize, Breach> {
        guarded(|| {
            let media: Arc<dyn Media> = Arc::new(Recorder::on(disk));
            let opened = Offline::open_on(&media).map_err(refused)?;
            Ok(self.serve(&opened.reader(), opened.findings())?.touched())
        })
    }

    /// Opens a copy in a directory for reading only, after a daemon has run on it.
    pub fn stored(&self, spool: &Path) -> Result<(), Breach> {
        let opened = Offline::open(spool).map_err(refused)?;
        // Who has started knows what was damaged; the bucket says it.
        self.serve(&opened.reader(), opened.findings()).map(|_| ())
    }

    /// Opens a damaged copy as a daemon does and goes on. Gives how many messages the damage has
    /// touched.
    pub fn reopened(&self, disk: Disk) -> Result<usize, Breach> {
        guarded(|| {
            let media = Recorder::on(disk);
            let store = Logs(self.options.clone()).open(&media).map_err(refused)?;
            let seen = self.serve(&store.reader(), store.findings())?;
            self.goes_on(store, &seen)?;
            media.unplug();
            Ok(seen.touched())
        })
    }

    /// Turns a bit under an open store. Gives how many messages the damage has touched.
    pub fn open(&self, name: &str, offset: usize, bit: u8) -> Result<usize, Breach> {
        guarded(|| {
            let media = Recorder::on(self.stopped.clone());
            let store = Logs(self.options.clone()).open(&media).map_err(refused)?;
            media.flip(name, offset, bit);
            let seen = self.serve(&store.reader(), store.findings())?;
            self.goes_on(store, &seen)?;
            media.unplug();
            Ok(seen.touched())
        })
    }

    /// Reads all there is. A wrong octet is a breach; so is a gap that nobody names.
    fn serve(&self, reader: &impl Reader, findings: &Findings) -> Result<Seen, Breach> {
        let mut seen = Seen::default();
        let mut found: BTreeSet<EnvelopeId> = BTreeSet::new();
        for entry in reader.page(Selector::All, None, 10_000).map_err(refused)? {
            match entry {
                Ok(mut envelope) => {
                    envelope.flags.maybe_duplicated = false;
                    let id = envelope.id;
                    let forms = self.envelopes.get(&id).map_or(&[][..], Vec::as_slice);
                    if !forms.contains(&envelope) {
                        let what = format!("envelope {id} is served as {envelope:?}");
                        return Err(Breach::new(Promise::P5, what));
                    }
                    match self.books.envelopes.get(&id) {
                        None => seen.back.insert(id.message()),
                        Some(want) if *want != envelope => seen.older.insert(id.message()),
                        Some(_) => found.insert(id),
                    };
                }
                Err(StoreError::Corrupt { message, .. }) => {
                    seen.reported.insert(message);
                }
                Err(why) => return Err(refused(why)),
            }
        }
        let lacking = self.books.envelopes.keys().filter(|id| !found.contains(id));
        seen.missing.extend(lacking.map(|id| id.message()));
        for (id, content) in &self.contents {
            self.content(reader, *id, content, &mut seen)?;
        }
        let bucket = reader.corrupt().map_err(refused)?;
        let bucket = bucket.iter().map(|aside| aside.message);
        let named = findings
            .all()
            .iter()
            .flat_map(|one| one.messages.iter().copied());
        let named: BTreeSet<_> = bucket.chain(named).chain(seen.reported.clone()).collect();
        // What was settled last may come back, for the log says only where it ends; what is missing has
        // to be named.
        let again = seen.back.iter().chain(&seen.older);
        let again = again.filter(|_| findings.all().is_empty());
        for id in seen.missing.iter().chain(again) {
            if !named.contains(id) && !findings.damage() {
                let what = format!("nothing is said of message {id}: {seen:?}; {findings}");
                return Err(Breach::new(Promise::P5, what));
            }
        }
        Ok(seen)
    }

    fn content(
        &self,
        reader: &impl Reader,
        id: MessageId,
        content: &[u8],
        seen: &mut Seen,
    ) -> Result<(), Breach> {
        let mut read = Vec::new();
        let damaged = match reader.message(id) {
            Ok(None) => return Ok(()),
            Ok(Some(facts)) => {
                let want = self.books.messages.get(&id);
                if want.is_some_and(|(want, _)| *want != facts) {
                    let what = format!("message {id} is served as {facts:?}");
                    return Err(Breach::new(Promise::P5, what));
                }
                loop {
                    let index = u32::try_from(read.len().div_ceil(64 << 10)).unwrap_or(u32::MAX);
                    match reader.body(id, index) {
                        Ok(Some(piece)) => read.extend_from_slice(&piece),
                        Ok(None) => break false,
                        Err(StoreError::Corrupt { .. }) => break true,
                        Err(why) => return Err(refused(why)),
                    }
                }
            }
            Err(StoreError::Corrupt { .. }) => true,
            Err(why) => return Err(refused(why)),
        };
        if damaged {
            seen.reported.insert(id);
            seen.missing.insert(id);
        }
        if !content.starts_with(&read) || !damaged && read.len() != content.len() {
            let what = format!("message {id} is served with another content");
            return Err(Breach::new(Promise::P5, what));
        }
        Ok(())
    }

    /// What a read called damaged is set aside, new mail is taken, and the rest is served.
    fn goes_on(&self, mut store: LogStore, seen: &Seen) -> Result<(), Breach> {
        let aside = seen.reported.iter().copied().map(Step::Corrupt);
        let new = mail::message(900);
        let group: Vec<_> = aside.chain([Step::Submit(new, 2, 500, 0)]).collect();
        crate::driver::commit(&mut store, &group).map_err(refused)?;
        store.tick().map_err(refused)?;
        let reader = store.reader();
        let stopped = |id: &MessageId| seen.missing.contains(id) || seen.older.contains(id);
        for (id, (_, content)) in &self.books.messages {
            let read = crate::books::body(&reader, *id);
            if !stopped(id) && read.as_ref() != Ok(content) {
                let what = format!("message {id} is no longer served: {:?}", read.err());
                return Err(Breach::new(Promise::P5, what));
            }
        }
        let page = reader
            .page(Selector::Message(new), None, 9)
            .map_err(refused)?;
        if page.iter().flatten().count() != 2 {
            return Err(Breach::new(Promise::P5, "new mail is not queued"));
        }
        Ok(())
    }
}

/// What happens to message `number`, one message per step.
fn life(number: u32) -> Vec<Step> {
    let message = mail::message(number);
    let length = if number == 1 { 20_000 } else { 400 };
    let settlement = |low, change| Settlement {
        envelope: mail::envelope_id(message, low),
        change,
        bounce: None,
    };
    let mut steps = vec![Step::Submit(message, 2, length, 0)];
    match number % 4 {
        0 => steps.push(Step::Remove(Selector::Message(message))),
        1 | 2 => {
            let retry = Change::Retry {
                retry: 1,
                last_try: Timestamp::from_secs(1_700_000_900),
                status: Some(Status::transient(4, 1)),
                errorline: "451 later".into(),
                via: None,
                warned: None,
            };
            steps.push(Step::Settle(vec![settlement(1, retry)]));
        }
        _ => {}
    }
    if number % 8 == 5 {
        steps.push(Step::Settle(vec![settlement(2, Change::Done)]));
    }
    steps
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn refused(why: StoreError) -> Breach {
    Breach::new(Promise::S7, format!("the rest is not served: {why}"))
}
