//! The log store and the redb store against the executable specification: the same receipts and
//! the same books, with ticks, restarts and crashes in between.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use redspool_core::queue::{Receipt, Store};
use redspool_proptests::books::Books;
use redspool_proptests::driver::commit;
use redspool_proptests::kind::{Kind, Logs, Redbs};
use redspool_proptests::media::Recorder;
use redspool_proptests::step::{Step, any_step};
use redspool_store::{MemStore, Options};

#[derive(Clone, Debug)]
enum Event {
    Commit(Vec<Step>),
    /// The stores keep house.
    Tick,
    /// They are closed and opened.
    Reopen,
    /// The process dies: what the cache holds stays.
    Kill,
    /// The machine stops: of what was not synced, each operation is there with this chance of 100.
    Crash(u64, u64),
}

#[derive(Clone, Debug)]
struct Model {
    store: MemStore,
    /// What the last group did.
    receipts: Vec<Receipt>,
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
        let chance = prop_oneof![2 => Just(0), 1 => 1..=100u64];
        prop_oneof![
            9 => prop::collection::vec(any_step(), 1..6).prop_map(Event::Commit),
            3 => Just(Event::Tick),
            1 => Just(Event::Reopen),
            1 => Just(Event::Kill),
            2 => (chance, any::<u64>()).prop_map(|(chance, seed)| Event::Crash(chance, seed)),
        ]
        .boxed()
    }

    fn apply(mut state: Self, event: &Event) -> Self {
        if let Event::Commit(group) = event {
            // A state is kept for shrinking: it must not change when its successor does.
            state.store = state.store.clone();
            state.receipts = commit(&mut state.store, group).unwrap();
        }
        state
    }
}

/// A store on media that can be stopped.
struct Machine<K: Kind> {
    kind: K,
    media: Recorder,
    store: Option<K::Store>,
}

impl<K: Kind> Machine<K> {
    fn new(kind: K) -> Self {
        let media = Recorder::default();
        let store = Some(kind.open(&media).unwrap());
        Self { kind, media, store }
    }

    fn store(&mut self) -> &mut K::Store {
        self.store.as_mut().unwrap()
    }

    fn apply(&mut self, event: &Event, model: &Model) {
        match event {
            Event::Commit(group) => {
                assert_eq!(commit(self.store(), group).unwrap(), model.receipts);
            }
            Event::Tick => self.store().tick().unwrap(),
            Event::Reopen => self.start(),
            Event::Kill => {
                self.media.unplug();
                self.media = Recorder::on(self.media.view());
                self.start();
            }
            Event::Crash(chance, seed) => {
                self.media.unplug();
                let mut rng = redspool_core::rng::Rng::new(*seed);
                self.media = Recorder::on(self.media.tape().end(*chance, &mut rng));
                self.start();
            }
        }
    }

    fn start(&mut self) {
        self.store = None;
        let store = self.kind.open(&self.media).unwrap();
        assert_eq!(K::damage(&store), None);
        self.store = Some(store);
    }

    fn books(&self) -> Books {
        Books::read(&self.store.as_ref().unwrap().reader()).unwrap()
    }
}

struct Subjects {
    logs: Machine<Logs>,
    redbs: Machine<Redbs>,
}

impl StateMachineTest for Subjects {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(_: &Model) -> Self {
        Self {
            logs: Machine::new(Logs(Options::small())),
            redbs: Machine::new(Redbs),
        }
    }

    fn apply(mut subjects: Self, model: &Model, event: Event) -> Self {
        subjects.logs.apply(&event, model);
        subjects.redbs.apply(&event, model);
        subjects
    }

    fn check_invariants(subjects: &Self, model: &Model) {
        let want = Books::read(&model.store.reader()).unwrap();
        assert_eq!(subjects.logs.books(), want, "the log store");
        assert_eq!(subjects.redbs.books(), want, "the redb store");
    }
}

prop_state_machine! {
    #![proptest_config(Config { cases: 200, failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_stores_do_what_the_specification_says(sequential 1..40 => Subjects);
}
