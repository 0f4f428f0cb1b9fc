//! Group commit before a store that waits for the word how a group ends.

use super::*;
use crate::mem::{MemPreparer, MemReader, MemStore};
use redspool_core::queue::{Body, Submission};
use redspool_core::time::Timestamp;
use std::sync::mpsc::Sender as Unbounded;

/// A store that tells the size of each group before it commits it, and waits for the word
/// how to end it.
struct Gated {
    inner: MemStore,
    sizes: Unbounded<usize>,
    word: Receiver<Result<(), StoreError>>,
    space: Option<Space>,
}

impl Store for Gated {
    type Reader = MemReader;
    type Prepared = Transition;
    type Preparer = MemPreparer;

    fn preparer(&self) -> MemPreparer {
        MemPreparer
    }

    fn weight(prepared: &Transition) -> usize {
        MemStore::weight(prepared)
    }

    fn commit(&mut self, group: Vec<Transition>) -> Result<Vec<Receipt>, StoreError> {
        self.sizes.send(group.len()).unwrap();
        self.word.recv().unwrap()?;
        self.inner.commit(group)
    }

    fn reader(&self) -> MemReader {
        self.inner.reader()
    }

    fn space(&self) -> Option<Space> {
        self.space
    }
}

struct Gate {
    queue: GroupCommit,
    sizes: Receiver<usize>,
    word: Unbounded<Result<(), StoreError>>,
}

fn gate() -> Gate {
    gate_with(None)
}

fn gate_with(space: Option<Space>) -> Gate {
    let (sizes_in, sizes) = mpsc::channel();
    let (word, word_out) = mpsc::channel();
    let store = Gated {
        inner: MemStore::new(),
        sizes: sizes_in,
        word: word_out,
        space,
    };
    let queue = GroupCommit::start(store, || Err(StoreError::Absent)).unwrap();
    Gate { queue, sizes, word }
}

fn pause(mda: bool) -> Transition {
    Transition::Pause(Paused {
        mda,
        ..Paused::default()
    })
}

#[test]
fn what_waits_is_committed_together_and_answered_after_it() {
    let Gate { queue, sizes, word } = gate();
    let handle = queue.handle();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let commit = |number: usize| {
        let answers = Arc::clone(&answers);
        handle.commit(pause(true), move |answer| {
            answers.lock().push((number, answer));
        });
    };
    commit(0);
    assert_eq!(sizes.recv(), Ok(1));
    (1..=3).for_each(commit);
    assert!(answers.lock().is_empty());
    word.send(Ok(())).unwrap();
    assert_eq!(sizes.recv(), Ok(3));
    assert_eq!(*answers.lock(), [(0, Ok(Receipt::Done))]);
    word.send(Ok(())).unwrap();
    queue.close();
    let done = |number| (number, Ok(Receipt::Done));
    assert_eq!(*answers.lock(), [0, 1, 2, 3].map(done));
    assert_eq!(handle.commit_wait(pause(false)), Err(StoreError::Closed));
    assert_eq!(handle.state(), State::Closed);
}

#[test]
fn where_space_is_short_the_queue_goes_before_new_mail() {
    let full = Space {
        free: 0,
        total: 1 << 40,
        files: 1000,
    };
    let Gate { queue, sizes, word } = gate_with(Some(full));
    let handle = queue.handle();
    assert_eq!(handle.room(0).unwrap_err(), StoreError::Full);
    handle.commit(pause(true), drop);
    assert_eq!(sizes.recv(), Ok(1));
    // These wait meanwhile: two of new mail, and one of the other kind.
    let answers = Arc::new(Mutex::new(Vec::new()));
    // The store never sees it.
    let mail = || {
        Transition::Submit(Submission {
            message: Message {
                id: MessageId::MIN,
                size: 0,
                ctime: Timestamp::EPOCH,
                eight_bit: false,
                utf8: false,
            },
            body: Body::Whole(Bytes::new()),
            envelopes: Vec::new(),
        })
    };
    for (name, transition) in [("a", mail()), ("b", pause(false)), ("c", mail())] {
        let answers = Arc::clone(&answers);
        handle.commit(transition, move |answer| {
            answers.lock().push((name, answer.is_ok()));
        });
    }
    word.send(Ok(())).unwrap();
    assert_eq!(sizes.recv(), Ok(1));
    word.send(Ok(())).unwrap();
    assert_eq!(sizes.recv(), Ok(2));
    assert_eq!(*answers.lock(), [("b", true)]);
    word.send(Err(StoreError::Full)).unwrap();
    queue.close();
    assert_eq!(*answers.lock(), [("b", true), ("a", false), ("c", false)]);
}

#[test]
fn a_settlement_waits_for_company_and_leaves_with_it() {
    let order = |kind| Order::Commit {
        prepared: pause(true),
        kind,
        done: Done(None),
    };
    let before = Instant::now();
    let mut group = Group::new();
    group.add::<MemStore>(order(Kind::Settlement));
    assert!(group.due.unwrap() >= before + RIDE);
    group.add::<MemStore>(order(Kind::Urgent));
    assert!(group.due.unwrap() <= Instant::now());
    assert_eq!(group.members.len(), 2);
}

#[test]
fn a_settlement_without_company_is_committed_in_the_end() {
    let Gate { queue, sizes, word } = gate();
    word.send(Ok(())).unwrap();
    let settled = queue.handle().commit_wait(Transition::Settle(Vec::new()));
    assert_eq!(settled, Ok(Receipt::Done));
    assert_eq!(sizes.recv(), Ok(1));
    queue.close();
}

#[test]
fn a_failed_group_fails_every_member_and_the_store_comes_back() {
    let (sizes_in, sizes) = mpsc::channel();
    let (word, word_out) = mpsc::channel();
    let first = Gated {
        inner: MemStore::new(),
        sizes: sizes_in.clone(),
        word: word_out,
        space: None,
    };
    let (word_again, word_again_out) = mpsc::channel();
    let mut second = Some(Gated {
        inner: MemStore::new(),
        sizes: sizes_in,
        word: word_again_out,
        space: None,
    });
    let (reopen, opening) = mpsc::sync_channel(0);
    let reopening = move || {
        reopen.send(()).unwrap();
        reopen.send(()).unwrap();
        second.take().ok_or(StoreError::Absent)
    };
    let queue = GroupCommit::start(first, reopening).unwrap();
    let handle = queue.handle();
    let reader = handle.reader();
    word.send(Err(StoreError::Full)).unwrap();
    assert_eq!(handle.commit_wait(pause(true)), Err(StoreError::Full));
    opening.recv().unwrap();
    // While it is down there is no waiting, and nothing to read.
    assert_eq!(handle.state(), State::Down(StoreError::Full));
    assert_eq!(handle.commit_wait(pause(true)), Err(StoreError::Full));
    assert_eq!(reader.paused(), Err(StoreError::Full));
    opening.recv().unwrap();
    // The same handle and reader serve the store that came back.
    while handle.state() != State::Open {
        thread::yield_now();
    }
    word_again.send(Ok(())).unwrap();
    assert_eq!(handle.commit_wait(pause(true)), Ok(Receipt::Done));
    assert!(reader.paused().unwrap().mda);
    assert_eq!(sizes.iter().take(2).collect::<Vec<_>>(), [1, 1]);
    queue.close();
}
