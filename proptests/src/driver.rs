//! A store at work beside the executable specification, on media that record it all.
//!
//! What: [`Driver`] commits groups to both, compares receipts and books, goes on after errors as
//! the daemon does, and writes down in a [`Chronicle`] what a crash at any point may leave.
//! Fails: with the [`Breach`] it sees.

use crate::books::Books;
use crate::judge::{Breach, Promise, judge};
use crate::kind::Kind;
use crate::media::Recorder;
use crate::step::Step;
use redspool_core::queue::{Prepare, Receipt, Store, StoreError};
use redspool_store::MemStore;
use std::sync::Arc;

/// A state the queue may be in.
#[derive(Clone, Debug)]
pub struct State {
    /// The specification in this state.
    pub model: MemStore,
    /// What is to be read from it.
    pub books: Arc<Books>,
}

impl State {
    /// An empty queue.
    pub fn empty() -> Self {
        Self::of(MemStore::new())
    }

    fn of(model: MemStore) -> Self {
        let books = Books::read(&model.reader()).expect("nothing is damaged");
        Self {
            model,
            books: Arc::new(books),
        }
    }

    /// The state after one more step, and its receipt.
    fn after(&self, step: &Step) -> (Self, Receipt) {
        let mut model = self.model.clone();
        let receipt = commit(&mut model, std::slice::from_ref(step));
        let mut receipts = receipt.expect("memory does not fail");
        (Self::of(model), receipts.remove(0))
    }
}

/// Prepares and commits a group.
pub fn commit<S: Store>(store: &mut S, group: &[Step]) -> Result<Vec<Receipt>, StoreError> {
    let preparer = store.preparer();
    let prepared = group.iter().map(|step| preparer.prepare(step.transition()));
    let prepared = prepared.collect::<Result<_, _>>()?;
    store.commit(prepared)
}

/// What a crash after each operation may leave.
#[derive(Clone, Debug)]
pub struct Chronicle(Vec<(usize, Vec<State>)>);

impl Chronicle {
    /// From the first operation on, these states are lawful, the oldest first.
    pub fn new(lawful: Vec<State>) -> Self {
        Self(vec![(0, lawful)])
    }

    /// From the operation `position` on, these are lawful.
    pub fn note(&mut self, position: usize, lawful: Vec<State>) {
        self.0.push((position, lawful));
    }

    /// What is lawful when `cut` operations have been done.
    pub fn at(&self, cut: usize) -> &[State] {
        let entry = self.0.iter().rfind(|(position, _)| *position <= cut);
        entry.map_or(&[], |(_, lawful)| lawful)
    }
}

/// The state among `lawful` that `found` is.
pub fn recognised(lawful: &[State], found: &Books) -> Result<State, Breach> {
    let books: Vec<_> = lawful
        .iter()
        .map(|state| Arc::clone(&state.books))
        .collect();
    judge(&books, found).map(|place| lawful[place].clone())
}

/// Everything a store shows; that something is damaged is a breach.
pub fn shown<S: Store>(store: &S) -> Result<Books, Breach> {
    let unreadable =
        |why: StoreError| Breach::new(Promise::P1, format!("it cannot be read: {why}"));
    Books::read(&store.reader()).map_err(unreadable)
}

/// See the module.
pub struct Driver<'a, K: Kind> {
    kind: &'a K,
    media: Recorder,
    store: Option<K::Store>,
    state: State,
    chronicle: Chronicle,
    /// The media have failed once. What a write left half done then may be called damage.
    failed: bool,
}

impl<'a, K: Kind> Driver<'a, K> {
    /// Opens the store on media that hold one of the `lawful` states.
    pub fn open(kind: &'a K, media: Recorder, lawful: &[State]) -> Result<Self, Breach> {
        let state = lawful.first().cloned().unwrap_or_else(State::empty);
        let mut driver = Self {
            kind,
            media,
            store: None,
            state,
            chronicle: Chronicle::new(lawful.to_vec()),
            failed: false,
        };
        driver.opened(lawful)?;
        Ok(driver)
    }

    /// The state the queue is in.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The media.
    pub fn media(&self) -> &Recorder {
        &self.media
    }

    /// What crashes may leave.
    pub fn chronicle(&self) -> &Chronicle {
        &self.chronicle
    }

    fn store(&mut self) -> &mut K::Store {
        self.store.as_mut().expect("it is open between two calls")
    }

    /// Commits a group to both.
    pub fn commit(&mut self, group: &[Step]) -> Result<(), Breach> {
        let preparer = self.store().preparer();
        let mut prepared = Vec::new();
        let mut lawful = vec![self.state.clone()];
        let mut receipts = Vec::new();
        for step in group {
            // One that cannot be prepared is refused by itself.
            let Ok(one) = preparer.prepare(step.transition()) else {
                continue;
            };
            prepared.push(one);
            let (state, receipt) = lawful.last().unwrap_or(&self.state).after(step);
            lawful.push(state);
            receipts.push(receipt);
        }
        let last = lawful.last().unwrap_or(&self.state).clone();
        if self.kind.whole_groups() {
            lawful = vec![self.state.clone(), last.clone()];
        }
        self.note(lawful.clone());
        match self.store().commit(prepared) {
            Ok(given) if given == receipts => self.settle(last),
            Ok(given) => {
                let what = format!("receipts {given:?}, not {receipts:?}");
                Err(Breach::new(Promise::P3, what))
            }
            Err(_) if self.store().survived() => self.settle(self.state.clone()),
            Err(_) => self.reopen_as(&lawful),
        }
    }

    /// Lets the store keep house.
    pub fn tick(&mut self) -> Result<(), Breach> {
        match self.store().tick() {
            Ok(()) => self.settle(self.state.clone()),
            Err(_) => self.reopen(),
        }
    }

    /// Closes the store and opens it again.
    pub fn reopen(&mut self) -> Result<(), Breach> {
        let state = self.state.clone();
        self.reopen_as(std::slice::from_ref(&state))
    }

    /// The machine stops, and starts again with what the disk holds: everything synced, and each
    /// other operation with a chance of `percent`.
    pub fn crash(&mut self, percent: u64, seed: u64) -> Result<(), Breach> {
        self.media.unplug();
        self.store = None;
        let mut rng = redspool_core::rng::Rng::new(seed);
        let media = Recorder::on(self.media.tape().end(percent, &mut rng));
        let lawful = self.chronicle.at(self.media.position()).to_vec();
        self.failed |= self.media.has_failed();
        self.chronicle = Chronicle::new(lawful.clone());
        self.media = media;
        self.opened(&lawful)
    }

    /// Closes the store, as a daemon that stops.
    pub fn close(&mut self) {
        self.store = None;
    }

    /// Stops without closing; gives what was recorded and what crashes may leave.
    pub fn stop(mut self) -> (Recorder, Chronicle) {
        self.media.unplug();
        self.store = None;
        (self.media, self.chronicle)
    }

    fn note(&mut self, lawful: Vec<State>) {
        self.chronicle.note(self.media.position(), lawful);
    }

    /// The queue is in this state, whatever happens, and the store shows it.
    fn settle(&mut self, state: State) -> Result<(), Breach> {
        self.note(vec![state.clone()]);
        recognised(std::slice::from_ref(&state), &shown(self.store())?)?;
        self.state = state;
        Ok(())
    }

    fn reopen_as(&mut self, lawful: &[State]) -> Result<(), Breach> {
        self.store = None;
        self.note(lawful.to_vec());
        self.opened(lawful)
    }

    /// Opens the store, which has to be in one of these states. If the media fail, they are
    /// mended.
    fn opened(&mut self, lawful: &[State]) -> Result<(), Breach> {
        let refused =
            |why: StoreError| Breach::new(Promise::P1, format!("it does not open: {why}"));
        let opened = match self.kind.open(&self.media) {
            Err(_) if self.media.mend() => self.kind.open(&self.media),
            opened => opened,
        };
        let store = opened.map_err(refused)?;
        self.failed |= self.media.has_failed();
        if let Some(damage) = K::damage(&store).filter(|_| !self.failed) {
            let what = format!("it reports damage where there is none: {damage}");
            return Err(Breach::new(Promise::P5, what));
        }
        let state = recognised(lawful, &shown(&store)?)?;
        self.store = Some(store);
        self.state = state.clone();
        self.note(vec![state]);
        Ok(())
    }
}
