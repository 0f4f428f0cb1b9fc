//! Group commit: the one thread that writes, and the handle everybody else has.
//!
//! What: transitions that wait are committed together; each is answered after the commit.
//! Promises: every completion is called exactly once, with the receipt only after the group is
//! durable; nothing urgent waits for anything but the commit before it. Where space is short, what
//! is queued goes before new mail, and apart from it. After an error the store
//! is dropped and opened anew; until it is back, callers get the error at once.
//! Absent on purpose: retries of a failed group; knowledge of what the store is made of.
//! Fails: with the store's error, to every member of the group. A panic in the writer aborts the
//! process: what it had promised is then decided by the start-up that follows.

use crate::room::{Books, Room};
use crate::timing::timed;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, Epoch, MessageId};
use redspool_core::limits::SpaceLimits;
use redspool_core::queue::{
    Blocks, CorruptMessage, Discarded, Message, Paused, Prepare, Reader, Receipt, Scheduled,
    Selector, Store, StoreError, Transition, TrashState, Walked,
};
use redspool_core::space::Space;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Transitions that may wait for the writer; then those who commit wait themselves.
const WAITING: usize = 4096;

/// Transitions of one group, so that the first of them does not wait for ever.
const GROUP: usize = 1024;

/// Octets of one group.
const GROUP_OCTETS: usize = 4 << 20;

/// How long a settlement waits for something urgent to ride with.
const RIDE: Duration = Duration::from_millis(100);

/// How often the store may keep house while nobody commits.
const TICK: Duration = Duration::from_secs(1);

/// How often the space that is left is asked for.
const LOOK: Duration = Duration::from_secs(1);

/// Wait between two attempts to open the store anew.
const REOPEN: Duration = Duration::from_secs(1);

/// How the store is, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes everything.
    Sound,
    /// New mail is put off.
    Short {
        /// Since when.
        since: Instant,
        /// The space, as of the last look; `None` if the store cannot tell.
        space: Option<Space>,
        /// What has to stay free.
        limits: SpaceLimits,
    },
    /// Everything is put off.
    Down {
        /// Since when.
        since: Instant,
        /// The last error.
        why: StoreError,
    },
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It takes transitions.
    Open,
    /// It failed with this error and is being opened anew.
    Down(StoreError),
    /// It was closed.
    Closed,
}

/// The writer thread. Dropping it without [`close`](GroupCommit::close) closes it, too.
#[derive(Debug)]
pub struct GroupCommit {
    handle: QueueHandle,
    writer: Option<JoinHandle<()>>,
}

/// The queue as the rest of a program sees it, whatever store is behind it.
#[derive(Clone)]
pub struct QueueHandle {
    front: Arc<dyn Front>,
    shared: Arc<Shared>,
}

impl fmt::Debug for QueueHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueHandle")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

type Answer = Result<Receipt, StoreError>;

/// A completion that is called exactly once, come what may.
struct Done(Option<Box<dyn FnOnce(Answer) + Send>>);

impl Done {
    fn call(mut self, answer: Answer) {
        if let Some(done) = self.0.take() {
            done(answer);
        }
    }
}

impl Drop for Done {
    /// Left in the channel when the writer ended: nothing of it happened.
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(StoreError::Closed));
        }
    }
}

/// What the handle and the writer both know.
struct Shared {
    state: RwLock<State>,
    /// Since when it is not open.
    failed: Mutex<Instant>,
    books: Arc<Books>,
    reader: RwLock<Option<Arc<dyn Reader>>>,
}

/// The typed end of the channel, behind the untyped handle.
trait Front: Send + Sync {
    fn commit(&self, transition: Transition, done: Done);
    fn close(&self);
}

enum Order<P> {
    Commit { prepared: P, kind: Kind, done: Done },
    Close,
}

/// How a transition is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// New mail: what it takes is not what was kept for the other kinds.
    Mail,
    /// What somebody waits for.
    Urgent,
    /// A lost settlement is an attempt made twice, never a loss: it may wait for company.
    Settlement,
}

impl Kind {
    fn of(transition: &Transition) -> Self {
        match transition {
            Transition::Submit(_)
            | Transition::Notify {
                notice: Some(_), ..
            } => Self::Mail,
            Transition::Settle(_) => Self::Settlement,
            _ => Self::Urgent,
        }
    }
}

struct Sender<S: Store> {
    orders: SyncSender<Order<S::Prepared>>,
    /// Of the store that is open now, or was last.
    preparer: Arc<RwLock<Arc<S::Preparer>>>,
}

impl<S: Store> Front for Sender<S> {
    fn commit(&self, transition: Transition, done: Done) {
        let kind = Kind::of(&transition);
        let preparer = Arc::clone(&self.preparer.read());
        match preparer.prepare(transition) {
            Err(why) => done.call(Err(why)),
            Ok(prepared) => {
                let order = Order::Commit {
                    prepared,
                    kind,
                    done,
                };
                // If the writer has ended, the order comes back and its drop answers.
                drop(self.orders.send(order));
            }
        }
    }

    fn close(&self) {
        // If the writer has ended already, all is done.
        let _ = self.orders.send(Order::Close);
    }
}

impl GroupCommit {
    /// Starts the writer thread for `store`. After an error the store is dropped and `reopen` is
    /// called, again and again, until it gives a new one.
    pub fn start<S: Store>(
        store: S,
        reopen: impl FnMut() -> Result<S, StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (sender, orders) = mpsc::sync_channel(WAITING);
        let shared = Arc::new(Shared {
            state: RwLock::new(State::Open),
            failed: Mutex::new(Instant::now()),
            books: Arc::new(Books::new(store.space())),
            reader: RwLock::new(Some(Arc::new(store.reader()))),
        });
        let preparer = Arc::new(RwLock::new(Arc::new(store.preparer())));
        let front = Arc::new(Sender::<S> {
            orders: sender,
            preparer: Arc::clone(&preparer),
        });
        let writer = Writer::<S, _> {
            orders,
            shared: Arc::clone(&shared),
            preparer,
            reopen,
            looked: Instant::now(),
        };
        let body = move || {
            if catch_unwind(AssertUnwindSafe(|| writer.run(store))).is_err() {
                std::process::abort();
            }
        };
        let thread = thread::Builder::new().name("queue".into()).spawn(body);
        let writer = thread.map_err(|why| StoreError::Io(why.to_string()))?;
        Ok(Self {
            handle: QueueHandle { front, shared },
            writer: Some(writer),
        })
    }

    /// A handle for committing and reading.
    pub fn handle(&self) -> QueueHandle {
        self.handle.clone()
    }

    /// Finishes what was handed in, closes the store and waits for the writer to end.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.handle.front.close();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has aborted the process.
            let _ = writer.join();
        }
    }
}

impl QueueHandle {
    /// Hands in a transition. `done` is called once, on the writer thread: it must be quick and
    /// must not commit. The transition is encoded on this thread, which waits if too many
    /// transitions wait already.
    pub fn commit(&self, transition: Transition, done: impl FnOnce(Answer) + Send + 'static) {
        let done = Done(Some(Box::new(done)));
        match self.state() {
            State::Open => self.front.commit(transition, done),
            State::Down(why) => done.call(Err(why)),
            State::Closed => done.call(Err(StoreError::Closed)),
        }
    }

    /// Hands in a transition and waits for its receipt.
    pub fn commit_wait(&self, transition: Transition) -> Result<Receipt, StoreError> {
        let (sender, answer) = mpsc::sync_channel(1);
        self.commit(transition, move |done| {
            // The receiver is below, waiting.
            let _ = sender.send(done);
        });
        answer.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// How the store is.
    pub fn state(&self) -> State {
        self.shared.state.read().clone()
    }

    /// How the store is, for those who look at it.
    pub fn health(&self) -> Health {
        let since = *self.shared.failed.lock();
        match self.state() {
            State::Open => self.shared.books.health(),
            State::Down(why) => Health::Down { since, why },
            State::Closed => Health::Down {
                since,
                why: StoreError::Closed,
            },
        }
    }

    /// What has to stay free for new mail to be taken, from now on.
    pub fn limit_space(&self, limits: SpaceLimits) {
        self.shared.books.limit(limits);
    }

    /// Promises space for a message of so many octets, as far as its sender says. It is given back
    /// when the promise is dropped. Fails with [`StoreError::Full`] where space is short.
    pub fn room(&self, octets: u64) -> Result<Room, StoreError> {
        self.shared.books.room(octets)
    }

    /// A handle for reading, which stays good when the store is opened anew.
    pub fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(Current(Arc::clone(&self.shared)))
    }
}

struct Writer<S: Store, F> {
    orders: Receiver<Order<S::Prepared>>,
    shared: Arc<Shared>,
    preparer: Arc<RwLock<Arc<S::Preparer>>>,
    reopen: F,
    looked: Instant,
}

/// A transition in a group.
struct Member<P> {
    prepared: P,
    kind: Kind,
    done: Done,
}

/// What is committed together.
struct Group<P> {
    members: Vec<Member<P>>,
    octets: usize,
    /// When it must be committed at the latest; `None` while it is empty.
    due: Option<Instant>,
    closing: bool,
}

impl<P> Group<P> {
    fn new() -> Self {
        Self {
            members: Vec::new(),
            octets: 0,
            due: None,
            closing: false,
        }
    }

    fn add<S: Store<Prepared = P>>(&mut self, order: Order<P>) {
        match order {
            Order::Close => self.closing = true,
            Order::Commit {
                prepared,
                kind,
                done,
            } => {
                let now = Instant::now();
                let due = match kind {
                    Kind::Mail | Kind::Urgent => now,
                    Kind::Settlement => now + RIDE,
                };
                self.due = Some(self.due.map_or(due, |before| before.min(due)));
                self.octets += S::weight(&prepared);
                self.members.push(Member {
                    prepared,
                    kind,
                    done,
                });
            }
        }
    }

    fn full(&self) -> bool {
        self.closing || self.members.len() >= GROUP || self.octets >= GROUP_OCTETS
    }
}

impl<S, F> Writer<S, F>
where
    S: Store,
    F: FnMut() -> Result<S, StoreError>,
{
    fn run(mut self, store: S) {
        let mut store = Some(store);
        loop {
            let Group {
                members, closing, ..
            } = self.gather();
            if let Some(open) = &mut store
                && let Err(why) = self.turn(open, members)
            {
                self.fail(&why);
                store = None;
            }
            if closing {
                return self.end();
            }
            if store.is_none() {
                match self.open_anew() {
                    Some(opened) => store = Some(opened),
                    None => return self.end(),
                }
            }
        }
    }

    /// Commits a group, if there is one, tells its members, and lets the store keep house. An
    /// error ends the store.
    fn turn(&mut self, store: &mut S, members: Vec<Member<S::Prepared>>) -> Result<(), StoreError> {
        let is_mail = |member: &Member<_>| member.kind == Kind::Mail;
        if self.shared.books.short() && members.iter().any(is_mail) {
            let (mail, rest): (Vec<_>, Vec<_>) = members.into_iter().partition(is_mail);
            if let Err(why) = self.commit(store, rest) {
                for member in mail {
                    member.done.call(Err(why.clone()));
                }
                return Err(why);
            }
            self.commit(store, mail)?;
        } else {
            self.commit(store, members)?;
        }
        store.tick()?;
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.shared.books.look(|| store.space());
        }
        Ok(())
    }

    /// Commits a group and tells its members. The error is one that ends the store.
    fn commit(&self, store: &mut S, members: Vec<Member<S::Prepared>>) -> Result<(), StoreError> {
        if members.is_empty() {
            return Ok(());
        }
        let (prepared, done): (Vec<_>, Vec<_>) = members
            .into_iter()
            .map(|member| (member.prepared, member.done))
            .unzip();
        let operation = format_args!("commit/{}", prepared.len());
        match timed(operation, || store.commit(prepared)) {
            Ok(receipts) => {
                assert_eq!(receipts.len(), done.len(), "one receipt each");
                for (done, receipt) in done.into_iter().zip(receipts) {
                    done.call(Ok(receipt));
                }
                Ok(())
            }
            Err(why) => {
                if why == StoreError::Full {
                    self.shared.books.full();
                }
                let survived = store.survived();
                if !survived {
                    self.fail(&why);
                }
                for done in done {
                    done.call(Err(why.clone()));
                }
                if survived { Ok(()) } else { Err(why) }
            }
        }
    }

    /// Takes what waits, until nothing does and something is due. Comes back empty once in a
    /// while, for housekeeping.
    fn gather(&self) -> Group<S::Prepared> {
        let mut group = Group::new();
        let idle = Instant::now() + TICK;
        while !group.full() {
            match self.orders.try_recv() {
                Ok(order) => group.add::<S>(order),
                Err(TryRecvError::Disconnected) => group.closing = true,
                Err(TryRecvError::Empty) => {
                    let until = group.due.unwrap_or(idle);
                    let wait = until.saturating_duration_since(Instant::now());
                    if wait.is_zero() {
                        // Whoever was just answered is about to come back: let those who
                        // can run hand in first. With nobody about this costs nothing.
                        thread::yield_now();
                        match self.orders.try_recv() {
                            Ok(order) => {
                                group.add::<S>(order);
                                continue;
                            }
                            Err(_) => break,
                        }
                    }
                    match self.orders.recv_timeout(wait) {
                        Ok(order) => group.add::<S>(order),
                        Err(RecvTimeoutError::Timeout) => break,
                        Err(RecvTimeoutError::Disconnected) => group.closing = true,
                    }
                }
            }
        }
        group
    }

    /// From here on callers get the error without asking the writer.
    fn fail(&self, why: &StoreError) {
        *self.shared.failed.lock() = Instant::now();
        *self.shared.state.write() = State::Down(why.clone());
        *self.shared.reader.write() = None;
    }

    /// Opens the store anew; whoever came too late for the error gets it meanwhile. `None` when
    /// the program stops first.
    fn open_anew(&mut self) -> Option<S> {
        loop {
            match (self.reopen)() {
                Ok(store) => {
                    *self.preparer.write() = Arc::new(store.preparer());
                    *self.shared.reader.write() = Some(Arc::new(store.reader()));
                    *self.shared.state.write() = State::Open;
                    return Some(store);
                }
                Err(why) => *self.shared.state.write() = State::Down(why),
            }
            let State::Down(why) = self.shared.state.read().clone() else {
                return None;
            };
            let until = Instant::now() + REOPEN;
            loop {
                let wait = until.saturating_duration_since(Instant::now());
                match self.orders.recv_timeout(wait) {
                    Ok(Order::Commit { done, .. }) => done.call(Err(why.clone())),
                    Ok(Order::Close) | Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
        }
    }

    fn end(self) {
        *self.shared.failed.lock() = Instant::now();
        *self.shared.state.write() = State::Closed;
        *self.shared.reader.write() = None;
    }
}

/// Reads from the store that is open now.
struct Current(Arc<Shared>);

impl Current {
    fn with<T>(
        &self,
        work: impl FnOnce(&dyn Reader) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let reader = self.0.reader.read().clone();
        match reader {
            Some(reader) => work(&*reader),
            None => match &*self.0.state.read() {
                State::Down(why) => Err(why.clone()),
                State::Open | State::Closed => Err(StoreError::Closed),
            },
        }
    }

    fn timed<T>(
        &self,
        operation: &str,
        work: impl FnOnce(&dyn Reader) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        timed(format_args!("read/{operation}"), || self.with(work))
    }
}

impl Reader for Current {
    fn exists(&self, message: MessageId) -> Result<bool, StoreError> {
        self.timed("exists", |reader| reader.exists(message))
    }

    fn envelope(&self, id: EnvelopeId) -> Result<Option<Envelope>, StoreError> {
        self.timed("envelope", |reader| reader.envelope(id))
    }

    fn message(&self, id: MessageId) -> Result<Option<Message>, StoreError> {
        self.timed("message", |reader| reader.message(id))
    }

    fn body(&self, id: MessageId, index: u32) -> Result<Option<Bytes>, StoreError> {
        self.timed("body", |reader| reader.body(id, index))
    }

    fn page(
        &self,
        selector: Selector,
        after: Option<EnvelopeId>,
        limit: usize,
    ) -> Result<Vec<Walked<Envelope>>, StoreError> {
        self.timed("page", |reader| reader.page(selector, after, limit))
    }

    fn walk(&self, visit: &mut dyn FnMut(Walked<Scheduled>)) -> Result<(), StoreError> {
        self.timed("walk", |reader| reader.walk(visit))
    }

    fn live(&self, epoch: Epoch) -> Result<Vec<MessageId>, StoreError> {
        self.timed("live", |reader| reader.live(epoch))
    }

    fn epoch(&self) -> Result<Option<Epoch>, StoreError> {
        self.timed("epoch", <dyn Reader>::epoch)
    }

    fn paused(&self) -> Result<Paused, StoreError> {
        self.timed("paused", <dyn Reader>::paused)
    }

    fn blocks(&self) -> Result<Blocks, StoreError> {
        self.timed("blocks", <dyn Reader>::blocks)
    }

    fn corrupt(&self) -> Result<Vec<CorruptMessage>, StoreError> {
        self.timed("corrupt", <dyn Reader>::corrupt)
    }

    fn discarded(
        &self,
        selector: Selector,
        after: Option<EnvelopeId>,
        limit: usize,
    ) -> Result<Vec<Walked<Discarded>>, StoreError> {
        self.with(|reader| reader.discarded(selector, after, limit))
    }

    fn trash(&self) -> Result<TrashState, StoreError> {
        self.with(<dyn Reader>::trash)
    }
}

#[cfg(test)]
mod tests;
