//! The books of a simulated world: what became of every envelope, and what may happen to it next.
//!
//! Promises: each rule here is stated without the code it checks: an envelope ends once, for a
//! reason that the world has seen; nothing is tried before its time, twice at a time, or while it
//! must not be; a host takes it twice only where a reply was lost or the daemon was killed.

use super::plan::Fate;
use redspool_core::addr::Address;
use redspool_core::envelope::{Agent, Delivery, Envelope};
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{Change, Outcome, Settlement};
use redspool_core::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// How an envelope left the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Its next hop, or the local delivery, has taken it.
    Delivered,
    /// It was refused for good.
    Failed,
    /// Its life was over.
    Expired,
    /// The administrator has removed it.
    Removed,
    /// It was a report, and a notice took its place.
    Reported,
}

/// What the last attempt came to, before that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Delivered,
    Later,
    Never,
    Loop,
    Expired,
}

impl From<&Outcome> for Verdict {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Delivered { .. } => Self::Delivered,
            Outcome::TempFail(_) => Self::Later,
            Outcome::PermFail(_) => Self::Never,
            Outcome::Loop => Self::Loop,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// An agent is at it.
    Running,
    /// It was at it; the result is not on disk.
    Tried(Verdict),
}

/// A page of the books.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) agent: Agent,
    pub(super) dest: Address,
    ctime: Timestamp,
    expiry: Timestamp,
    /// When it was accepted, by the world's own time.
    pub(super) since: Duration,
    pub(super) fate: Fate,
    /// Whether it came from a client, not from ourselves.
    pub(super) from_client: bool,
    wants_failure: bool,
    retry: u16,
    state: State,
    not_before: Duration,
    failed: Duration,
    /// When the schedule has handed it out last.
    seen: Duration,
    /// When it was paused or resumed last.
    resumed: Duration,
    /// When the wall clock was set so far forward that its life may not end without an attempt.
    pardoned: Option<Duration>,
    /// Whether that attempt is still to come.
    owed: bool,
    /// Whether the administrator wants it tried at once.
    asked: bool,
    suspended: bool,
    /// Whether it is taken by somebody, who may have said so.
    taken: bool,
    /// When somebody took it first.
    pub(super) first_taken: Option<Duration>,
    /// Whether the world has refused it for good.
    refused: bool,
    pub(super) end: Option<End>,
}

/// Something that must not be.
pub(super) type Wrong = Result<(), String>;

/// What is said when it was.
fn wrong(what: impl Into<String>) -> Wrong {
    Err(what.into())
}

/// The wall clock was set.
#[derive(Clone, Copy, Debug)]
struct Jump {
    at: Duration,
    before: Timestamp,
    after: Timestamp,
}

/// The books.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    jumps: Vec<Jump>,
    /// Until when all mail was kept back last: by a pause, a disk, or a daemon that was not there.
    free: Duration,
    entries: BTreeMap<EnvelopeId, Entry>,
    /// Messages by the digest of their content.
    contents: BTreeMap<u64, MessageId>,
    /// When a domain has taken mail last.
    answered: BTreeMap<Box<str>, Duration>,
    /// Attempts that have begun.
    pub(super) attempts: u64,
    /// Times a host took again what one had taken before.
    pub(super) duplicates: u64,
}

/// How long after its life an envelope may be with an agent: as long as a session may take for
/// the messages before it.
const GRACE: Duration = Duration::from_hours(2);

/// The longest an envelope waits for its next attempt, a penalty of its route included.
pub(super) const LONGEST_WAIT: Duration = Duration::from_hours(6);

/// How far the wall clock may be set forward without a pardon.
const PARDON: Duration = Duration::from_hours(1);

/// How far both clocks may drift apart before it is noticed, with the fraction of a second that
/// dates do not have.
const DRIFT: Duration = Duration::from_secs(61);

impl Ledger {
    /// The wall clock is set, or begins.
    pub(super) fn clock_set(&mut self, at: Duration, before: Timestamp, after: Timestamp) {
        self.jumps.push(Jump { at, before, after });
        if after.since(before) <= PARDON {
            return;
        }
        for entry in self.live_mut().filter(|entry| before < entry.expiry) {
            entry.pardoned = Some(at);
            entry.owed = true;
        }
    }

    /// Since when a date is over, if it is.
    fn over_since(&self, date: Timestamp, wall: Timestamp) -> Option<Duration> {
        let (mut since, mut end) = (None, wall);
        for jump in self.jumps.iter().rev() {
            if end < date {
                break;
            }
            if jump.after < date {
                return Some(jump.at + date.since(jump.after));
            }
            since = Some(jump.at);
            end = jump.before;
        }
        since
    }

    /// All mail was kept back until now.
    pub(super) fn freed(&mut self, now: Duration) {
        self.free = now;
    }

    /// The schedule hands an envelope out, for whatever purpose.
    pub(super) fn handed_out(&mut self, now: Duration, id: EnvelopeId) -> Wrong {
        let free = self.free;
        let Some(entry) = self.entries.get_mut(&id) else {
            // It is not in the store either.
            return Ok(());
        };
        let since = entry.seen.max(entry.failed).max(entry.resumed).max(free);
        entry.seen = now;
        let waited = now.saturating_sub(since);
        if waited > LONGEST_WAIT && !entry.suspended {
            return wrong(format!("it has waited {waited:?} for its turn"));
        }
        Ok(())
    }

    /// An envelope is durable.
    pub(super) fn accept(
        &mut self,
        now: Duration,
        envelope: &Envelope,
        fate: Fate,
        from_client: bool,
    ) -> Wrong {
        let notify = envelope.dsn.notify.is_none_or(|notify| notify.failure);
        let notice = matches!(envelope.delivery, Delivery::Bounce(_)) || envelope.flags.bounce;
        let entry = Entry {
            agent: envelope.agent(),
            dest: envelope.dest.clone(),
            ctime: envelope.ctime,
            expiry: envelope.expiry(),
            since: now,
            fate,
            from_client,
            wants_failure: notify && !notice && !envelope.sender.is_null(),
            retry: 0,
            state: State::Waiting,
            not_before: now,
            failed: now,
            seen: now,
            resumed: now,
            pardoned: None,
            owed: false,
            asked: false,
            suspended: false,
            taken: false,
            first_taken: None,
            refused: false,
            end: None,
        };
        match self.entries.insert(envelope.id, entry) {
            None => Ok(()),
            Some(_) => wrong("its number was used before"),
        }
    }

    /// A message has this content.
    pub(super) fn content(&mut self, digest: u64, message: MessageId) {
        self.contents.insert(digest, message);
    }

    pub(super) fn get(&self, id: EnvelopeId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (EnvelopeId, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// Envelopes that have not ended.
    pub(super) fn live(&self) -> impl Iterator<Item = EnvelopeId> {
        let live = self.entries.iter().filter(|(_, entry)| entry.end.is_none());
        live.map(|(id, _)| *id)
    }

    /// Those that have failed before and wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = EnvelopeId> {
        let waits = |entry: &Entry| entry.end.is_none() && entry.state == State::Waiting;
        let entries = self.entries.iter();
        let waiting = entries.filter(move |(_, entry)| waits(entry) && entry.retry > 0);
        waiting.map(|(id, _)| *id)
    }

    fn live_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries
            .values_mut()
            .filter(|entry| entry.end.is_none())
    }

    /// An agent sets about an envelope.
    pub(super) fn begin(&mut self, now: Duration, id: EnvelopeId) -> Wrong {
        self.attempts += 1;
        let Some(entry) = self.entries.get_mut(&id) else {
            return wrong("tried, but never accepted");
        };
        if let Some(end) = entry.end {
            return wrong(format!("tried, but it has ended: {end:?}"));
        }
        if entry.state != State::Waiting {
            return wrong(format!("tried, but it is {:?}", entry.state));
        }
        let asked = std::mem::take(&mut entry.asked);
        // Mail for a domain that has just answered may go at once.
        let answered = self.answered.get(entry.dest.domain());
        let hastened = answered.is_some_and(|at| *at >= entry.failed);
        if now < entry.not_before && !asked && !hastened {
            let due = entry.not_before.as_secs_f64();
            return wrong(format!("tried before it is due at {due:.3}"));
        }
        if entry.suspended && !asked {
            return wrong("tried, but paused");
        }
        entry.state = State::Running;
        Ok(())
    }

    /// An agent is done with an envelope. `confirmed` says whether the world has told it that
    /// the envelope was taken.
    pub(super) fn tried(
        &mut self,
        id: EnvelopeId,
        outcome: Option<&Outcome>,
        confirmed: bool,
    ) -> Wrong {
        let Some(entry) = self.entries.get_mut(&id) else {
            return wrong("its attempt has ended, but it was never accepted");
        };
        if entry.end.is_none() && entry.state != State::Running {
            return wrong(format!(
                "its attempt has ended, but it is {:?}",
                entry.state
            ));
        }
        let delivered = matches!(outcome, Some(Outcome::Delivered { .. }));
        if delivered && !(confirmed && entry.taken) {
            return wrong("called delivered, but nobody has said that it was taken");
        }
        if confirmed && !delivered {
            return wrong(format!("taken and told so, but called {outcome:?}"));
        }
        if entry.end.is_none() {
            entry.state = State::Waiting;
        }
        if !confirmed {
            // Whoever took it could not say so: it may come again.
            entry.taken = false;
        }
        Ok(())
    }

    /// The engine says what became of an attempt.
    pub(super) fn judged(
        &mut self,
        now: Duration,
        wall: Timestamp,
        id: EnvelopeId,
        verdict: Verdict,
    ) -> Wrong {
        let last = self.jumps.last().copied();
        let Some(entry) = self.entries.get_mut(&id) else {
            return wrong("judged, but never accepted");
        };
        if entry.end.is_some() {
            return Ok(());
        }
        if entry.state != State::Waiting {
            return wrong(format!("called {verdict:?} while it is {:?}", entry.state));
        }
        if verdict == Verdict::Never && !entry.refused && entry.fate != Fate::Nowhere {
            return wrong("failed for good, but nobody has refused it");
        }
        if verdict == Verdict::Expired {
            // Set back just now, the clock was beyond it when its turn came.
            let was = last.filter(|jump| now < jump.at + PARDON);
            let latest = was.map_or(wall, |jump| wall.max(jump.before));
            if latest.after(DRIFT) < entry.expiry {
                return wrong("expired before its time");
            }
            if entry.owed {
                return wrong("expired by a clock that was set, not tried since");
            }
        }
        entry.state = State::Tried(verdict);
        Ok(())
    }

    /// Somebody has taken content for a recipient; gives the envelope. `lost` says that nobody
    /// is there any more to hear it.
    pub(super) fn take(
        &mut self,
        now: Duration,
        digest: u64,
        rcpt: &str,
        lost: bool,
    ) -> Result<EnvelopeId, String> {
        let Some(message) = self.contents.get(&digest) else {
            return Err(format!("{rcpt} was given a content that nobody sent"));
        };
        let range = self.entries.range(message.envelopes());
        let agents = range.filter(|(_, entry)| entry.agent != Agent::Bounce);
        let ids = agents.map(|(id, entry)| (*id, entry.dest.as_str()));
        let Some((id, _)) = { ids }.find(|(_, dest)| *dest == rcpt) else {
            return Err(format!("message {message} is not for {rcpt}"));
        };
        self.take_envelope(now, id, lost)?;
        Ok(id)
    }

    /// Somebody has taken an envelope.
    pub(super) fn take_envelope(&mut self, now: Duration, id: EnvelopeId, lost: bool) -> Wrong {
        let Some(entry) = self.entries.get_mut(&id) else {
            return wrong("taken, but never accepted");
        };
        if entry.taken || entry.end == Some(End::Delivered) {
            return wrong("taken twice, though the first time was confirmed");
        }
        if entry.first_taken.is_some() {
            self.duplicates += 1;
        }
        entry.first_taken.get_or_insert(now);
        entry.taken = !lost;
        Ok(())
    }

    /// A recipient was refused for good.
    pub(super) fn refuse(&mut self, id: EnvelopeId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.refused = true;
        }
    }

    /// A domain has taken mail, and said so.
    pub(super) fn answered(&mut self, now: Duration, id: EnvelopeId) {
        if let Some(entry) = self.entries.get(&id) {
            self.answered.insert(entry.dest.domain().into(), now);
        }
    }

    /// A result is durable.
    pub(super) fn settle(
        &mut self,
        now: Duration,
        wall: Timestamp,
        settlement: &Settlement,
    ) -> Wrong {
        let Some(entry) = self.entries.get_mut(&settlement.envelope) else {
            return wrong("settled, but never accepted");
        };
        if entry.end.is_some() {
            return Ok(());
        }
        let state = std::mem::replace(&mut entry.state, State::Waiting);
        match settlement.change {
            Change::Done => {
                let State::Tried(verdict) = state else {
                    return wrong(format!("it leaves the queue while it is {state:?}"));
                };
                let told = settlement.bounce.is_some();
                let end = match verdict {
                    Verdict::Delivered if entry.taken || entry.agent == Agent::Bounce => {
                        End::Delivered
                    }
                    Verdict::Never | Verdict::Loop => End::Failed,
                    Verdict::Expired => End::Expired,
                    Verdict::Delivered | Verdict::Later => {
                        return wrong(format!("it leaves the queue although it is {verdict:?}"));
                    }
                };
                if end != End::Delivered && told != entry.wants_failure {
                    return wrong(format!(
                        "{end:?}; sender told: {told}, wants it: {}",
                        entry.wants_failure
                    ));
                }
                self.end(now, wall, settlement.envelope, end)
            }
            Change::Retry { retry, .. } if retry == entry.retry => {
                // Only a warning, or a result that was recorded before its receipt was lost.
                entry.state = if state == State::Tried(Verdict::Later) {
                    // Its slot is found anew, by the clock as it is now.
                    entry.not_before = entry.not_before.min(now + wait(entry, wall));
                    State::Waiting
                } else {
                    state
                };
                Ok(())
            }
            Change::Retry { retry, .. } => {
                if state != State::Tried(Verdict::Later) {
                    return wrong(format!("it stays in the queue while it is {state:?}"));
                }
                if retry != entry.retry.saturating_add(1) {
                    return wrong(format!("attempt {retry} follows attempt {}", entry.retry));
                }
                entry.retry = retry;
                entry.failed = now;
                entry.owed = false;
                entry.not_before = now + wait(entry, wall);
                Ok(())
            }
        }
    }

    /// An envelope has left the queue.
    pub(super) fn end(
        &mut self,
        now: Duration,
        wall: Timestamp,
        id: EnvelopeId,
        end: End,
    ) -> Wrong {
        let expiry = self.entries.get(&id).map_or(wall, |entry| entry.expiry);
        let (over, free) = (self.over_since(expiry, wall), self.free);
        let Some(entry) = self.entries.get_mut(&id) else {
            return wrong(format!("{end:?}, but never accepted"));
        };
        if let Some(before) = entry.end.replace(end) {
            return wrong(format!("{end:?}, but it was {before:?} before"));
        }
        let last = entry.pardoned.map_or(Duration::ZERO, |at| {
            at.max(entry.resumed).max(free) + LONGEST_WAIT
        });
        let late = over.map_or(Duration::ZERO, |over| now.saturating_sub(over.max(last)));
        if late > GRACE {
            return wrong(format!("{end:?} {late:?} after the end of its life"));
        }
        let over = over.unwrap_or(now);
        // The clock has taken away what time it had.
        let cut = entry.pardoned.is_some() && over < entry.since + LONGEST_WAIT;
        let lawful = match (entry.fate, end) {
            (_, End::Removed | End::Reported) | (Fate::Partly, _) => true,
            // Unless it came back too late for this one.
            (Fate::From(from), End::Expired) => cut || over < from + LONGEST_WAIT,
            (Fate::From(_), end) => end == End::Delivered,
            (Fate::Never, end) => end == End::Expired,
            (Fate::Nowhere, end) => matches!(end, End::Failed | End::Expired),
        };
        if lawful {
            Ok(())
        } else {
            wrong(format!(
                "{end:?}, although its destination is {:?}",
                entry.fate
            ))
        }
    }

    /// The administrator wants these tried at once.
    pub(super) fn ask(&mut self, id: EnvelopeId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.asked = true;
        }
    }

    pub(super) fn suspend(&mut self, now: Duration, id: EnvelopeId, suspended: bool) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.suspended = suspended;
            entry.resumed = now;
        }
    }

    /// The daemon is dead: nothing is being tried, and what was taken may come again.
    pub(super) fn crash(&mut self) {
        for entry in self.live_mut() {
            entry.state = State::Waiting;
            entry.taken = false;
        }
    }

    /// The daemon is back, and knows only what is on disk: the slots that were skipped are forgotten.
    pub(super) fn restart(&mut self, now: Duration, wall: Timestamp) {
        self.freed(now);
        for entry in self.live_mut() {
            let slot = base(entry.agent) * u64::from(entry.retry).pow(2);
            let at = entry.ctime.after(Duration::from_secs(slot));
            let left = at.since(wall).min(LONGEST) * 899 / 1000;
            entry.not_before = now + left;
            entry.owed = false;
        }
    }
}

/// The longest wait between attempts.
const LONGEST: Duration = Duration::from_hours(4);

/// Seconds of the first slot after acceptance.
fn base(agent: Agent) -> u64 {
    match agent {
        Agent::Mta => 400,
        Agent::Mda | Agent::Bounce => 10,
    }
}

/// Nine tenths of the time to the next slot, `ctime + base * n^2`, or of the longest wait.
fn wait(entry: &Entry, wall: Timestamp) -> Duration {
    let (base, age) = (base(entry.agent), wall.since(entry.ctime).as_secs());
    let slots = u64::from(entry.retry)..;
    let seconds = slots.map(|n| base * n * n).find(|slot| *slot > age);
    let wait = Duration::from_secs(seconds.unwrap_or(age) - age);
    wait.min(LONGEST) * 899 / 1000
}
