//! Which envelope is due when, and whose turn it is.
//!
//! Promises: nothing is handed out before it is due but by [`Scheduler::schedule`]; nothing is
//! handed out twice at a time; what is due is handed out as soon as the limits allow; everything
//! expires at the end of its life, held, suspended and paused mail too; mail in flight on return.
//! A wall clock that is set back postpones nothing; set forward by more than an hour, it expires
//! nothing that has not been tried once more.
//! Absent on purpose: what an envelope says (the store knows), who may connect where.
//! Cost: 36 octets per envelope, 37 to 60 with the slack of the two [`shelf`]s; 8 more while it is
//! due, 8 to 16 while it is held.

mod backoff;
mod clock;
mod hold;
mod line;
mod record;
mod shelf;

pub use clock::Step;

use crate::envelope::Agent;
use crate::hash::Fixed;
use crate::id::EnvelopeId;
use crate::limits::Limits;
use crate::queue::{Paused, Scheduled, Selector};
use crate::rng::Rng;
use crate::time::{Now, Timestamp};
use clock::{Clock, NEVER, Tick};
use hold::Holds;
use line::Line;
use record::{Entry, LISTED, NO_WARNINGS, PARDONED, POSTPONED, Record, SUSPENDED, State, Wake};
use shelf::Shelf;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who holds an envelope back: a relay or a user, by the agent's own number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldKey {
    /// The agent.
    pub agent: Agent,
    /// Its number for the relay or user.
    pub number: u64,
}

/// Why an envelope is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Its life is over: tell the sender and drop it.
    Expire,
    /// It is late: tell the sender.
    Warn,
    /// Deliver it.
    Attempt,
}

/// Where the schedule has an envelope, as listings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits.
    Pending {
        /// Seconds until it is due; negative if overdue.
        due: i64,
    },
    /// An attempt is running.
    Inflight {
        /// When it was handed out.
        since: Timestamp,
    },
}

/// The schedule's part of an envelope's line in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runstate {
    /// Waiting or in flight.
    pub phase: Phase,
    /// Parked by an agent that has too much to do.
    pub held: bool,
    /// Paused by the administrator.
    pub suspended: bool,
}

/// An envelope that was handed out.
#[derive(Clone, Copy, Debug)]
pub struct Inflight {
    /// When.
    pub since: Timestamp,
    /// What for.
    pub purpose: Purpose,
    /// Whether it was suspended since. One that was before goes: the administrator asked for it.
    suspended: bool,
}

/// The lists of those whose turn comes, in the order they are served.
const LISTS: usize = 5;
const EXPIRE: usize = 0;
const WARN: usize = 1;

/// How far the wall clock may jump forward before expiry waits for another attempt.
const STEP_MAX: Duration = Duration::from_hours(1);

/// When an envelope found in the store is due, give or take a tenth of the wait, which is never
/// longer than `longest`.
pub fn due(envelope: &Scheduled, now: Timestamp, longest: Duration) -> Timestamp {
    let base = backoff::base(envelope.agent);
    let slot = backoff::slot(base, u64::from(envelope.retry));
    let due = envelope.ctime.after(Duration::from_secs(slot));
    due.min(now.after(longest))
}

/// The schedule.
#[derive(Debug)]
pub struct Scheduler {
    limits: Arc<Limits>,
    delays: Vec<Duration>,
    clock: Clock,
    rng: Rng,
    records: Shelf<Entry>,
    times: Shelf<Wake>,
    lists: [Line; LISTS],
    inflight: HashMap<EnvelopeId, Inflight, Fixed>,
    /// When those are due that could not be read before they were: for a delay notice.
    postponed: BTreeMap<EnvelopeId, Tick>,
    holds: Holds,
    held: usize,
    /// Messages that have envelopes here.
    messages: usize,
    overflows: usize,
    updates: usize,
    paused: Paused,
}

impl Scheduler {
    /// An empty schedule. `delays` are the ages at which senders are warned.
    pub fn new(limits: Arc<Limits>, delays: Vec<Duration>, seed: u64, paused: Paused) -> Self {
        Self {
            limits,
            delays: sorted(delays),
            clock: Clock::default(),
            rng: Rng::new(seed),
            records: Shelf::new(),
            times: Shelf::new(),
            lists: Default::default(),
            inflight: HashMap::default(),
            postponed: BTreeMap::new(),
            holds: Holds::default(),
            held: 0,
            messages: 0,
            overflows: 0,
            updates: 0,
            paused,
        }
    }

    /// Takes the time; to be called first whenever anything happens. Tells of a clock that was set.
    pub fn advance(&mut self, now: Now) -> Option<Step> {
        let step = self.clock.advance(now)?;
        let pardon = step.forward && step.by > STEP_MAX;
        if pardon {
            for entry in self.records.iter_mut() {
                entry.record.mark(PARDONED, true);
            }
        }
        self.rebuild_times();
        Some(step)
    }

    /// Uses other limits and delays from now on.
    pub fn configure(&mut self, limits: Arc<Limits>, delays: Vec<Duration>) {
        self.limits = limits;
        let delays = sorted(delays);
        if delays != self.delays {
            self.delays = delays;
            self.rebuild_times();
        }
    }

    /// Adds an envelope; says whether it is new. One that was never tried is due at once, whatever
    /// its date; one that is overdue after a restart is due within `limits.restart_spread`.
    pub fn insert(&mut self, now: Now, envelope: &Scheduled) -> bool {
        let wait = self.first_wait(now, envelope);
        let due = self.clock.after(wait);
        let mut record = Record::new(envelope.agent, envelope.ctime, envelope.ttl, due);
        record.mark(SUSPENDED, envelope.flags.suspended);
        let silent = envelope.agent == Agent::Bounce || envelope.flags.bounce;
        record.set_warnings(if silent {
            NO_WARNINGS
        } else {
            self.delays_until(envelope.ctime, envelope.last_bounce)
        });
        let id = envelope.id;
        let first = !self.has_message(id);
        let new = self.records.insert(Entry { id, record });
        if new {
            self.messages += usize::from(first);
            self.note_wake(id, NEVER, record.wake(&self.clock, &self.delays));
        }
        new
    }

    /// Drops an envelope that is no longer queued; says whether it was known.
    pub fn forget(&mut self, id: EnvelopeId) -> bool {
        let Some(entry) = self.records.remove(id) else {
            return false;
        };
        self.note_wake(id, entry.record.wake(&self.clock, &self.delays), NEVER);
        self.inflight.remove(&id);
        self.postponed.remove(&id);
        self.held -= usize::from(entry.record.state == State::Held);
        self.messages -= usize::from(!self.has_message(id));
        true
    }

    /// Whether there are envelopes of the same message.
    fn has_message(&self, id: EnvelopeId) -> bool {
        let (first, last) = id.message().envelopes().into_inner();
        self.records.has_any(first, last)
    }

    /// Hands out what is due, one of each kind in turn, at most `limits.schedule_batch`. Empty when
    /// there is nothing, or when `limits.inflight` is reached.
    pub fn batch(&mut self, now: Now) -> Vec<(EnvelopeId, Purpose)> {
        self.collect_due();
        let mut batch = Vec::new();
        loop {
            let before = batch.len();
            for list in 0..LISTS {
                let full = batch.len() >= self.limits.schedule_batch;
                if full || self.inflight.len() >= self.limits.inflight {
                    return batch;
                }
                batch.extend(self.hand_out(now, list));
            }
            if batch.len() == before {
                return batch;
            }
        }
    }

    /// What an envelope was handed out for; `None` if it is not in flight (any more).
    pub fn inflight(&self, id: EnvelopeId) -> Option<Inflight> {
        self.inflight.get(&id).copied()
    }

    /// Whether an envelope in flight may be delivered: nobody has paused it meanwhile.
    pub fn may_go(&self, id: EnvelopeId) -> bool {
        self.inflight(id)
            .is_some_and(|inflight| !inflight.suspended)
    }

    /// An attempt failed for now, and that is recorded: it waits for its next slot, at least the
    /// one with this number.
    pub fn retry(&mut self, now: Now, id: EnvelopeId, retry: u16) {
        let Some(entry) = self.records.get(id) else {
            return;
        };
        let base = backoff::base(entry.record.agent());
        let due = self.next_slot(now, entry.record.ctime(), base, retry);
        self.change(id, |record| {
            record.due = due;
            record.mark(PARDONED, false);
            record.state = State::Pending;
        });
    }

    /// The sender has been told, or must not be told, how late it is.
    pub fn warned(&mut self, now: Now, id: EnvelopeId) {
        let Some(entry) = self.records.get(id) else {
            return;
        };
        let warnings = self.delays_until(entry.record.ctime(), now.wall);
        self.change(id, |record| {
            record.set_warnings(warnings.max(record.warnings()));
            if record.state == State::Inflight {
                record.state = State::Pending;
            }
        });
    }

    /// One that has just come back is being tried: the attempt began before it left.
    pub fn resume(&mut self, id: EnvelopeId, since: Timestamp) {
        let known = self.change(id, |record| {
            record.state = State::Inflight;
            record.is(SUSPENDED)
        });
        if let Some(suspended) = known {
            let inflight = Inflight {
                since,
                purpose: Purpose::Attempt,
                suspended,
            };
            self.inflight.insert(id, inflight);
        }
    }

    /// It was handed out for nothing; it is due as before.
    pub fn give_back(&mut self, id: EnvelopeId) {
        self.change(id, |record| record.state = State::Pending);
    }

    /// It could not be read; it is left alone for a while, and longer if it is not due by then.
    pub fn postpone(&mut self, id: EnvelopeId) {
        let Some(entry) = self.records.get(id) else {
            return;
        };
        let before = entry.record.due;
        let wait = Duration::from_secs(backoff::base(entry.record.agent()));
        let due = self.clock.after(backoff::jitter(wait, &mut self.rng));
        if before > due {
            self.postponed.insert(id, before);
        } else {
            self.postponed.remove(&id);
        }
        self.change(id, |record| {
            record.due = due;
            record.mark(POSTPONED, true);
            record.state = State::Pending;
        });
    }

    /// Parks an envelope; if the queue is full, it comes again after a short wait.
    pub fn hold(&mut self, now: Now, id: EnvelopeId, key: HoldKey) {
        let Some(entry) = self.records.get(id) else {
            return;
        };
        let ctime = entry.record.ctime();
        if self.holds.park(key, id, self.limits.hold_queue) {
            self.change(id, |record| record.state = State::Held);
            return;
        }
        self.overflows += 1;
        self.updates += 1;
        let due = self.next_slot(now, ctime, backoff::OVERFLOW_BASE, 0);
        self.change(id, |record| {
            record.due = due;
            record.state = State::Pending;
        });
    }

    /// Takes up to `count` envelopes off hold; they are due. Gives how many there were.
    pub fn release(&mut self, key: HoldKey, count: usize) -> usize {
        let mut released = Vec::new();
        while released.len() < count
            && let Some(id) = self.holds.release(key)
        {
            let listed = self.change(id, |record| {
                let held = record.state == State::Held;
                let next = held && !record.is(SUSPENDED);
                if next {
                    record.state = State::Scheduled;
                    record.mark(LISTED, true);
                } else if held {
                    record.state = State::Pending;
                }
                held.then_some(next)
            });
            released.extend(listed.flatten().map(|next| (id, next)));
        }
        if let Some(list) = self.lists.get_mut(list_of(key.agent)) {
            // They have had their turn: they come before those that have not.
            let next = released.iter().rev().filter(|(_, next)| *next);
            next.for_each(|(id, _)| list.push_front(*id));
        }
        released.len()
    }

    /// Takes all envelopes off hold; they wait for their next slots, because the relay just failed.
    pub fn defer(&mut self, now: Now, key: HoldKey) {
        while let Some(id) = self.holds.release(key) {
            let held = |entry: &&Entry| entry.record.state == State::Held;
            let Some(entry) = self.records.get(id).filter(held) else {
                continue;
            };
            let base = backoff::base(entry.record.agent());
            let due = self.next_slot(now, entry.record.ctime(), base, 0);
            self.updates += 1;
            self.change(id, |record| {
                record.due = due;
                record.state = State::Pending;
            });
        }
    }

    /// The administrator wants these tried at once; gives how many that concerns. What is in
    /// flight is not; what is suspended gets one attempt and stays suspended.
    pub fn schedule(&mut self, selector: Selector) -> usize {
        let ids = self.selected(selector);
        ids.into_iter().filter(|id| self.expedite(*id)).count()
    }

    /// Makes an envelope due now, suspended or not; says whether it was waiting.
    pub fn expedite(&mut self, id: EnvelopeId) -> bool {
        let now = self.clock.now();
        self.postponed.remove(&id);
        let waiting = self.change(id, |record| match record.state {
            State::Pending | State::Scheduled | State::Held => {
                record.state = State::Scheduled;
                record.due = record.due.min(now);
                record.mark(POSTPONED, false);
                let listed = record.is(LISTED);
                record.mark(LISTED, true);
                Some((record.agent(), listed))
            }
            State::Inflight | State::Expiring | State::Warning => None,
        });
        let Some(Some((agent, listed))) = waiting else {
            return false;
        };
        if !listed {
            self.list(list_of(agent), id);
        }
        true
    }

    /// Makes an envelope due now if it waits for its time and is not suspended: its domain has just
    /// answered.
    pub fn hasten(&mut self, id: EnvelopeId) {
        let now = self.clock.now();
        self.change(id, |record| {
            if record.state == State::Pending && !record.is(POSTPONED) {
                record.due = record.due.min(now);
            }
        });
    }

    /// The administrator paused or resumed an envelope.
    pub fn suspend(&mut self, id: EnvelopeId, suspended: bool) {
        self.change(id, |record| {
            record.mark(SUSPENDED, suspended);
            if matches!(record.state, State::Scheduled | State::Held) {
                record.state = State::Pending;
            }
        });
        if let Some(inflight) = self.inflight.get_mut(&id) {
            inflight.suspended = suspended;
        }
    }

    /// Which agents get nothing from now on.
    pub fn pause(&mut self, paused: Paused) {
        self.paused = paused;
    }

    /// Where an envelope is; `None` if it is not known.
    pub fn runstate(&self, id: EnvelopeId) -> Option<Runstate> {
        let record = &self.records.get(id)?.record;
        let phase = match self.inflight.get(&id) {
            Some(inflight) => Phase::Inflight {
                since: inflight.since,
            },
            None => Phase::Pending {
                due: self.clock.seconds_to(record.due),
            },
        };
        Some(Runstate {
            phase,
            held: record.state == State::Held,
            suspended: record.is(SUSPENDED),
        })
    }

    /// When the next envelope wants attention.
    pub fn deadline(&self) -> Option<Instant> {
        self.clock.instant_of(self.times.first()?.tick)
    }

    /// Envelopes known.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an envelope is known.
    pub fn contains(&self, id: EnvelopeId) -> bool {
        self.records.get(id).is_some()
    }

    /// Envelopes in flight.
    pub fn inflight_len(&self) -> usize {
        self.inflight.len()
    }

    /// Envelopes held.
    pub fn held_len(&self) -> usize {
        self.held
    }

    /// Hold queues in use.
    pub fn hold_queues(&self) -> usize {
        self.holds.len()
    }

    /// Envelopes a full hold queue turned away.
    pub fn overflows(&self) -> usize {
        self.overflows
    }

    /// Envelopes that went back to wait for another slot untried.
    pub fn updates(&self) -> usize {
        self.updates
    }

    /// Messages that have envelopes here.
    pub fn messages(&self) -> usize {
        self.messages
    }

    fn first_wait(&mut self, now: Now, envelope: &Scheduled) -> Duration {
        if envelope.retry == 0 {
            return Duration::ZERO;
        }
        let wait = due(envelope, now.wall, self.limits.backoff_max).since(now.wall);
        if wait.is_zero() {
            let base = Duration::from_secs(backoff::base(envelope.agent));
            let spread = self.limits.restart_spread.min(base);
            let millis = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
            return Duration::from_millis(self.rng.below(millis));
        }
        backoff::jitter(wait, &mut self.rng).min(self.limits.backoff_max)
    }

    fn next_slot(&mut self, now: Now, ctime: Timestamp, base: u64, n: u16) -> Tick {
        let age = now.wall.since(ctime).as_secs();
        let wait = backoff::wait(base, age, n, self.limits.backoff_max, &mut self.rng);
        self.clock.after(wait)
    }

    /// How many of the configured delays are over at a date.
    fn delays_until(&self, ctime: Timestamp, date: Timestamp) -> u8 {
        let over = |delay: &&Duration| ctime.after(**delay) <= date;
        let count = self.delays.iter().take_while(over).count();
        u8::try_from(count).unwrap_or(NO_WARNINGS)
    }

    /// Changes a record and whatever follows from it: the time order, and the set in flight.
    fn change<R>(&mut self, id: EnvelopeId, change: impl FnOnce(&mut Record) -> R) -> Option<R> {
        let entry = self.records.get_mut(id)?;
        let before = entry.record.wake(&self.clock, &self.delays);
        self.held -= usize::from(entry.record.state == State::Held);
        let result = change(&mut entry.record);
        self.held += usize::from(entry.record.state == State::Held);
        let after = entry.record.wake(&self.clock, &self.delays);
        if entry.record.state != State::Inflight {
            self.inflight.remove(&id);
        }
        self.note_wake(id, before, after);
        Some(result)
    }

    fn note_wake(&mut self, id: EnvelopeId, before: Tick, after: Tick) {
        if before == after {
            return;
        }
        if before != NEVER {
            self.times.remove(Wake::new(before, id));
        }
        if after != NEVER {
            self.times.insert(Wake::new(after, id));
        }
    }

    fn rebuild_times(&mut self) {
        let wakes = self.records.iter().filter_map(|entry| {
            let tick = entry.record.wake(&self.clock, &self.delays);
            (tick != NEVER).then(|| Wake::new(tick, entry.id))
        });
        // In ascending order they are added fastest and fill their blocks.
        let mut wakes: Vec<_> = wakes.collect();
        wakes.sort_unstable();
        self.times = Shelf::new();
        for wake in wakes {
            self.times.insert(wake);
        }
    }

    /// Moves everything whose time has come to the list where it waits for its turn.
    fn collect_due(&mut self) {
        let now = self.clock.now();
        while let Some(wake) = self.times.first().copied().filter(|w| w.tick <= now) {
            let id = wake.id();
            let clock = &self.clock;
            let Some(entry) = self.records.get_mut(id) else {
                self.times.remove(wake);
                continue;
            };
            let record = &mut entry.record;
            self.held -= usize::from(record.state == State::Held);
            let free = !record.is(PARDONED) && !record.is(POSTPONED);
            let over = |date| free && clock.tick_of(date) <= now;
            let list = if over(record.expiry()) {
                record.state = State::Expiring;
                Some(EXPIRE)
            } else if record.warning(&self.delays).is_some_and(over) {
                record.state = State::Warning;
                Some(WARN)
            } else if record.is(POSTPONED) {
                record.mark(POSTPONED, false);
                let due = self.postponed.remove(&id);
                record.due = due.unwrap_or(record.due);
                None
            } else {
                record.state = State::Scheduled;
                let listed = record.is(LISTED);
                record.mark(LISTED, true);
                (!listed).then(|| list_of(record.agent()))
            };
            self.held += usize::from(record.state == State::Held);
            let after = record.wake(&self.clock, &self.delays);
            self.note_wake(id, wake.tick, after);
            if let Some(list) = list {
                self.list(list, id);
            }
        }
    }

    fn list(&mut self, list: usize, id: EnvelopeId) {
        if let Some(list) = self.lists.get_mut(list) {
            list.push_back(id);
        }
    }

    /// Hands out the first of a list that still belongs there.
    fn hand_out(&mut self, now: Now, list: usize) -> Option<(EnvelopeId, Purpose)> {
        if self.is_paused(list) {
            return None;
        }
        let id = loop {
            let id = self.lists.get_mut(list)?.pop_front()?;
            let valid = self.change(id, |record| {
                let valid = match list {
                    EXPIRE => record.state == State::Expiring,
                    WARN => record.state == State::Warning,
                    _ => {
                        record.mark(LISTED, false);
                        record.state == State::Scheduled
                    }
                };
                if valid {
                    record.state = State::Inflight;
                }
                valid
            });
            if valid == Some(true) {
                break id;
            }
        };
        let purpose = match list {
            EXPIRE => Purpose::Expire,
            WARN => Purpose::Warn,
            _ => Purpose::Attempt,
        };
        let since = now.wall;
        let inflight = Inflight {
            since,
            purpose,
            suspended: false,
        };
        self.inflight.insert(id, inflight);
        Some((id, purpose))
    }

    fn is_paused(&self, list: usize) -> bool {
        (self.paused.mda && list == list_of(Agent::Mda))
            || (self.paused.mta && list == list_of(Agent::Mta))
    }

    fn selected(&self, selector: Selector) -> Vec<EnvelopeId> {
        match selector {
            Selector::Envelope(id) => vec![id],
            Selector::Message(message) => {
                let (first, last) = message.envelopes().into_inner();
                self.records.range(first, last).map(|e| e.id).collect()
            }
            Selector::All => self.records.iter().map(|e| e.id).collect(),
        }
    }
}

/// The list in which an agent's envelopes wait for their turn.
const fn list_of(agent: Agent) -> usize {
    match agent {
        Agent::Bounce => 2,
        Agent::Mda => 3,
        Agent::Mta => 4,
    }
}

fn sorted(mut delays: Vec<Duration>) -> Vec<Duration> {
    delays.sort_unstable();
    delays.truncate(usize::from(NO_WARNINGS) - 1);
    delays
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::{envelope, start};

    /// Octets per envelope with 50,000 queued.
    fn cost(number: impl Fn(u32) -> u32) -> usize {
        let limits = Arc::new(Limits::default());
        let mut scheduler = Scheduler::new(limits, Vec::new(), 1, Paused::default());
        let now = start();
        scheduler.advance(now);
        let mut scheduled = Scheduled::from(&envelope(1, 1));
        let count = 50_000;
        for n in 0..count {
            scheduled.id = envelope(number(n), 1).id;
            scheduled.retry = u16::try_from(n % 20).unwrap();
            assert!(scheduler.insert(now, &scheduled));
        }
        let octets = scheduler.records.octets() + scheduler.times.octets();
        octets / usize::try_from(count).unwrap()
    }

    #[test]
    fn a_notice_that_cannot_be_made_now_makes_nothing_due() {
        let limits = Arc::new(Limits::default());
        let delays = vec![Duration::from_hours(4)];
        let mut scheduler = Scheduler::new(limits, delays, 1, Paused::default());
        let start = start();
        let ctime = start.wall;
        let at = |seconds| Now {
            mono: start.mono + Duration::from_secs(seconds),
            wall: ctime.after(Duration::from_secs(5 * 3600 + seconds)),
        };
        scheduler.advance(at(0));
        let mut scheduled = Scheduled::from(&envelope(1, 1));
        scheduled.ctime = ctime;
        // The next slot lies 400 s * 49 after acceptance, so 1600 s from now.
        scheduled.retry = 7;
        scheduler.insert(at(0), &scheduled);
        let id = scheduled.id;
        for seconds in [0, 500] {
            scheduler.advance(at(seconds));
            let batch = scheduler.batch(at(seconds));
            assert_eq!(batch, [(id, Purpose::Warn)], "after {seconds} s");
            scheduler.postpone(id);
        }
        scheduler.advance(at(1000));
        assert_eq!(scheduler.batch(at(1000)), [(id, Purpose::Warn)]);
        scheduler.warned(at(1000), id);
        assert_eq!(scheduler.batch(at(1400)), [], "it is not due");
        scheduler.advance(at(1800));
        assert_eq!(scheduler.batch(at(1800)), [(id, Purpose::Attempt)]);
    }

    #[test]
    fn an_envelope_costs_at_most_60_octets() {
        let in_order = cost(|n| n + 1);
        let scattered = cost(|n| n.wrapping_mul(2_654_435_761) | 1 << 31);
        assert!(in_order <= 60 && scattered <= 60, "{in_order}, {scattered}");
    }
}
