//! The redb store against the executable specification, with reopening in between.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use redspool_core::queue::{Receipt, Store};
use redspool_proptests::books::Books;
use redspool_proptests::step::{Step, any_step};
use redspool_store::{MemStore, RedbStore};
use tempfile::TempDir;

#[derive(Clone, Debug)]
enum Event {
    Commit(Vec<Step>),
    Reopen,
}

#[derive(Clone, Debug)]
struct Model {
    store: MemStore,
    /// What the last group did.
    receipts: Vec<Receipt>,
}

fn commit<S: Store>(store: &mut S, group: &[Step]) -> Vec<Receipt> {
    let prepared = group.iter().map(|step| store.prepare(step.transition()));
    let prepared = prepared.collect::<Result<_, _>>().unwrap();
    store.commit(prepared).unwrap()
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Event;

    fn init_state() -> BoxedStrategy<Self> {
        let model = Self {
            store: MemStore::new(),
            receipts: Vec::new(),
        };
        Just(model).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Event> {
        prop_oneof![
            6 => prop::collection::vec(any_step(), 1..6).prop_map(Event::Commit),
            1 => Just(Event::Reopen),
        ]
        .boxed()
    }

    fn apply(mut state: Self, event: &Event) -> Self {
        if let Event::Commit(group) = event {
            // A state is kept for shrinking: it must not change when its successor does.
            state.store = state.store.clone();
            state.receipts = commit(&mut state.store, group);
        }
        state
    }
}

struct Subject {
    spool: TempDir,
    store: RedbStore,
}

impl StateMachineTest for Subject {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(_: &Model) -> Self {
        let spool = tempfile::tempdir().unwrap();
        let store = RedbStore::open(spool.path()).unwrap();
        Self { spool, store }
    }

    fn apply(mut subject: Self, model: &Model, event: Event) -> Self {
        match event {
            Event::Commit(group) => {
                assert_eq!(commit(&mut subject.store, &group), model.receipts);
            }
            Event::Reopen => {
                let Self { spool, store } = subject;
                drop(store);
                let store = RedbStore::open(spool.path()).unwrap();
                subject = Self { spool, store };
            }
        }
        subject
    }

    fn check_invariants(subject: &Self, model: &Model) {
        let want = Books::read(&model.store.reader());
        assert_eq!(Books::read(&subject.store.reader()), want);
    }
}

prop_state_machine! {
    #![proptest_config(Config { cases: 48, ..Config::default() })]

    #[test]
    fn redb_store_does_what_the_specification_says(sequential 1..25 => Subject);
}
