//! Local deliveries: whose turn it is.
//!
//! Promises: no more deliveries at a time than `limits.mda_sessions`, no more for one user than
//! `limits.mda_sessions_per_user`; users take turns, so that one with much mail delays nobody else.
//! Absent on purpose: programs, mailboxes, user databases; the outcome comes back as an event.
//! Fails: never. A user with too much waiting is reported as such, and the envelope is not kept.

use crate::control::Limit;
use crate::envelope::{Delivery, Envelope};
use crate::id::EnvelopeId;
use crate::limits::Limits;
use crate::pressure::{Marks, Pressure};
use crate::time::Now;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Number of a user with local deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserId(u64);

impl UserId {
    /// The number; counts up from 1.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Run the delivery of this envelope.
    Deliver(Box<Envelope>),
    /// Take up to so many envelopes of a user off hold, and tell how many with
    /// [`Queues::released`].
    Release(UserId, usize),
}

#[derive(Debug)]
struct User {
    name: Name,
    waiting: VecDeque<Box<Envelope>>,
    running: usize,
    pressure: Pressure,
    /// Whether it is in the turn.
    queued: bool,
}

/// Name of the user's table, and of the user.
type Name = (Box<str>, Box<str>);

/// The local deliveries waiting and running.
#[derive(Debug)]
pub struct Queues {
    limits: Arc<Limits>,
    users: BTreeMap<UserId, User>,
    names: BTreeMap<Name, UserId>,
    turn: VecDeque<UserId>,
    running: BTreeMap<EnvelopeId, (UserId, Box<Envelope>)>,
    waiting: usize,
    last: u64,
    actions: VecDeque<Action>,
}

impl Queues {
    /// No deliveries.
    pub fn new(limits: Arc<Limits>) -> Self {
        Self {
            limits,
            users: BTreeMap::new(),
            names: BTreeMap::new(),
            turn: VecDeque::new(),
            running: BTreeMap::new(),
            waiting: 0,
            last: 0,
            actions: VecDeque::new(),
        }
    }

    /// Uses other limits from now on.
    pub fn configure(&mut self, now: Now, limits: Arc<Limits>) {
        self.limits = limits;
        self.start(now);
    }

    /// Takes an envelope to deliver, or says for which user it must be held.
    pub fn accept(&mut self, now: Now, envelope: Box<Envelope>) -> Result<(), UserId> {
        let id = self.user_of(&envelope);
        let Some(user) = self.users.get_mut(&id) else {
            return Err(id);
        };
        if !user
            .pressure
            .admits(user.waiting.len(), marks(&self.limits))
        {
            return Err(id);
        }
        user.waiting.push_back(envelope);
        self.waiting += 1;
        self.enqueue(id);
        self.start(now);
        Ok(())
    }

    /// A delivery is over; gives its envelope back if it was running.
    pub fn ran(&mut self, now: Now, envelope: EnvelopeId) -> Option<Box<Envelope>> {
        let (id, envelope) = self.running.remove(&envelope)?;
        if let Some(user) = self.users.get_mut(&id) {
            user.running -= 1;
        }
        self.enqueue(id);
        self.start(now);
        self.drop_if_unused(id);
        Some(envelope)
    }

    /// Takes an envelope back that has not been started; says whether there was one.
    pub fn withdraw(&mut self, now: Now, id: EnvelopeId) -> bool {
        let mut found = None;
        for (user_id, user) in &mut self.users {
            if let Some(place) = user.waiting.iter().position(|e| e.id == id) {
                user.waiting.remove(place);
                found = Some(*user_id);
                break;
            }
        }
        let Some(user) = found else {
            return false;
        };
        self.waiting -= 1;
        self.shrunk(now, user);
        self.drop_if_unused(user);
        true
    }

    /// Takes everything back that has not been started.
    pub fn retract(&mut self, now: Now) -> Vec<EnvelopeId> {
        let mut ids = Vec::with_capacity(self.waiting);
        let users: Vec<_> = self.users.keys().copied().collect();
        for user_id in users {
            if let Some(user) = self.users.get_mut(&user_id) {
                ids.extend(user.waiting.drain(..).map(|envelope| envelope.id));
                self.shrunk(now, user_id);
                self.drop_if_unused(user_id);
            }
        }
        self.waiting = 0;
        ids
    }

    /// Of the envelopes [`Action::Release`] asked for, so many are coming.
    pub fn released(&mut self, now: Now, user: UserId, asked: usize, coming: usize) {
        if let Some(user) = self.users.get_mut(&user) {
            user.pressure.released(now.mono, asked, coming);
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The limits an envelope waits for, with how much is used and how much may be; `held` is
    /// whether it has not been taken yet.
    pub fn full(&self, envelope: &Envelope, held: bool) -> Vec<(Limit, usize, usize)> {
        let user = self.names.get(&name_of(envelope));
        let Some(user) = user.and_then(|id| self.users.get(id)) else {
            return Vec::new();
        };
        let (limits, name) = (&self.limits, || user.name.1.clone().into());
        if held {
            let waiting = user.waiting.len();
            return vec![(Limit::UserTasks(name()), waiting, limits.mda_task_hiwat)];
        }
        let (all, own) = (self.running.len(), user.running);
        let full = [
            (Limit::Sessions, all, limits.mda_sessions),
            (
                Limit::UserSessions(name()),
                own,
                limits.mda_sessions_per_user,
            ),
        ];
        let full = full.into_iter().filter(|(_, used, most)| used >= most);
        full.collect()
    }

    /// Users with deliveries waiting or running.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Deliveries waiting.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Deliveries running.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    fn user_of(&mut self, envelope: &Envelope) -> UserId {
        let name = name_of(envelope);
        if let Some(id) = self.names.get(&name) {
            return *id;
        }
        self.last += 1;
        let id = UserId(self.last);
        self.names.insert(name.clone(), id);
        let user = User {
            name,
            waiting: VecDeque::new(),
            running: 0,
            pressure: Pressure::default(),
            queued: false,
        };
        self.users.insert(id, user);
        id
    }

    /// Puts a user that could start a delivery at the end of the turn.
    fn enqueue(&mut self, id: UserId) {
        let Some(user) = self.users.get_mut(&id) else {
            return;
        };
        let free = user.running < self.limits.mda_sessions_per_user;
        if free && !user.waiting.is_empty() && !user.queued {
            user.queued = true;
            self.turn.push_back(id);
        }
    }

    fn start(&mut self, now: Now) {
        while self.running.len() < self.limits.mda_sessions {
            let Some(id) = self.turn.pop_front() else {
                return;
            };
            let Some(user) = self.users.get_mut(&id) else {
                continue;
            };
            user.queued = false;
            let Some(envelope) = user.waiting.pop_front() else {
                continue;
            };
            user.running += 1;
            self.waiting -= 1;
            self.running.insert(envelope.id, (id, envelope.clone()));
            self.actions.push_back(Action::Deliver(envelope));
            self.shrunk(now, id);
            self.enqueue(id);
        }
    }

    /// Asks for more of what is held when a user's queue has become short.
    fn shrunk(&mut self, now: Now, id: UserId) {
        let Some(user) = self.users.get_mut(&id) else {
            return;
        };
        let waiting = user.waiting.len();
        let count = user.pressure.wants(now.mono, waiting, marks(&self.limits));
        if count > 0 {
            self.actions.push_back(Action::Release(id, count));
        }
    }

    fn drop_if_unused(&mut self, id: UserId) {
        let used = |user: &User| !user.waiting.is_empty() || user.running > 0;
        if self.users.get(&id).is_none_or(used) {
            return;
        }
        if let Some(user) = self.users.remove(&id) {
            self.names.remove(&user.name);
            self.actions.push_back(Action::Release(id, usize::MAX));
        }
    }
}

fn name_of(envelope: &Envelope) -> Name {
    match &envelope.delivery {
        Delivery::Mda(mda) => (mda.userbase.clone(), mda.user.clone()),
        Delivery::Mta(_) | Delivery::Bounce(_) => Name::default(),
    }
}

fn marks(limits: &Limits) -> Marks {
    Marks {
        hiwat: limits.mda_task_hiwat,
        lowat: limits.mda_task_lowat,
        release: limits.mda_task_release,
    }
}
