//! What goes wrong, what an administrator does, and the daemon's starts.

use super::bug::Bug;
use super::ledger::End;
use super::plan::{Mishap, SOURCES, TABLE, pick};
use super::world::{DELAY, NAME, Step, World};
use redspool_core::engine::{Engine, Event};
use redspool_core::id::MessageId;
use redspool_core::mta::Sources;
use redspool_core::queue::{Paused, Reader as _, Receipt, Selector, Transition};
use std::sync::Arc;
use std::time::Duration;

impl World {
    pub(super) fn next_mishap(&mut self) {
        if let Some((at, _)) = self.mishaps.as_slice().first() {
            self.agenda.add((*at).max(self.elapsed), Step::Mishap);
        }
    }

    pub(super) fn mishap(&mut self) {
        let Some((_, mishap)) = self.mishaps.next() else {
            return;
        };
        self.next_mishap();
        let live: Vec<_> = self.ledger.live().collect();
        let some = (!live.is_empty()).then(|| live[pick(0, live.len(), &mut self.rng)]);
        self.trace.all(self.elapsed, &format!("{mishap:?}"));
        match mishap {
            Mishap::Crash(down) if self.engine.is_some() => self.crash(down),
            Mishap::Disk(down) => {
                self.disk.fail();
                self.agenda.add(self.elapsed + down, Step::Mended);
            }
            Mishap::Clock(by) => self.set_clock(by),
            Mishap::Pause { mta, mda } => {
                let smtp = false;
                self.paused = Paused { mda, mta, smtp };
                self.disk.command(Transition::Pause(self.paused));
                self.ledger.freed(self.elapsed);
                let paused = self.paused;
                self.ask(|engine, now| engine.pause(now, paused));
            }
            Mishap::Remove => {
                if let Some(id) = some {
                    self.remove(id.message());
                }
            }
            Mishap::Suspend => {
                if let Some(id) = some {
                    self.suspend(Selector::Envelope(id), true);
                }
            }
            Mishap::Resume => self.suspend(Selector::All, false),
            Mishap::Schedule => {
                if let Some(id) = some {
                    let selector = Selector::Message(id.message());
                    live.iter()
                        .filter(|id| selector.matches(**id))
                        .for_each(|id| self.ledger.ask(*id));
                    self.ask(|engine, now| {
                        engine.schedule(now, selector);
                    });
                }
            }
            Mishap::ResumeRoutes => self.ask(|engine, now| {
                engine.resume_route(now, None);
            }),
            Mishap::Crash(_) => {}
        }
    }

    fn remove(&mut self, message: MessageId) {
        let receipt = self
            .disk
            .command(Transition::Remove(Selector::Message(message)));
        let Receipt::Affected(ids) = receipt else {
            return;
        };
        let wall = self.now().wall;
        for id in &ids {
            self.trace
                .envelope(self.elapsed, *id, "removed", String::new);
            let ended = self.ledger.end(self.elapsed, wall, *id, End::Removed);
            self.check(Some(*id), ended);
        }
        self.ask(|engine, now| {
            engine.removed(now, &ids);
        });
    }

    fn suspend(&mut self, selector: Selector, suspended: bool) {
        let transition = Transition::Suspend {
            selector,
            suspended,
        };
        let Receipt::Affected(ids) = self.disk.command(transition) else {
            return;
        };
        for id in &ids {
            self.trace
                .envelope(self.elapsed, *id, "suspended", || suspended.to_string());
            self.ledger.suspend(self.elapsed, *id, suspended);
        }
        self.ask(|engine, now| engine.suspended(now, &ids, suspended));
    }

    /// The wall clock is set by so many seconds.
    fn set_clock(&mut self, by: i64) {
        let before = self.now().wall;
        self.offset += by;
        let after = self.wall();
        self.ledger.clock_set(self.elapsed, before, after);
        match self.plan.bug {
            Some(Bug::StepsHidden) => {
                self.hidden = by;
                while self.hidden != 0 {
                    self.hidden -= self.hidden.clamp(-50, 50);
                    self.tell(Event::TimedOut);
                }
            }
            Some(Bug::TimeStandsStill) if by < 0 => {
                let until = self.elapsed + Duration::from_secs(by.unsigned_abs());
                self.still = Some((self.elapsed, until));
            }
            _ => {}
        }
    }

    /// The daemon is killed.
    fn crash(&mut self, down: Duration) {
        self.engine = None;
        self.life += 1;
        self.ledger.crash();
        self.disk.crash();
        self.watch.crash();
        let sessions: Vec<_> = self.links.keys().copied().collect();
        for session in sessions {
            self.abandon(session);
        }
        self.agenda.add(self.elapsed + down, Step::Restart);
    }

    /// The daemon starts with what is on disk.
    pub(super) fn restart(&mut self) {
        let mut limits = self.plan.limits.clone();
        if self.plan.bug == Some(Bug::LimitsDoubled) {
            let mta = &mut limits.mta;
            mta.connections_per_host *= 2;
            mta.connections_per_route *= 2;
            mta.connections_per_relay *= 2;
            mta.connections_per_domain *= 2;
            mta.connections_per_connector *= 2;
        }
        if self.plan.bug == Some(Bug::DelaysIgnored) {
            limits.mta.connect_delay_relay = Some(Duration::ZERO);
            limits.mta.connect_delay_route = Some(Duration::ZERO);
            limits.mta.reconnect_delay_route = Some(Duration::ZERO);
        }
        // From the numbers of the world, it would make ids that the world has given before.
        let seed = (self.seed ^ (1 << 63)).wrapping_add(u64::from(self.life));
        let paused = self.disk.reader().paused().unwrap_or_default();
        let limits = Arc::new(limits);
        let mut engine = Engine::new(Arc::clone(&limits), vec![DELAY], NAME, seed, paused);
        let sources = Sources::from([(TABLE.into(), SOURCES[..3].to_vec())]);
        engine.configure(self.now(), limits, vec![DELAY], sources);
        self.engine = Some(engine);
        let mut queued = Vec::new();
        let walked = self
            .disk
            .reader()
            .walk(&mut |entry| queued.extend(entry.ok()));
        self.check(None, walked.map_err(|why| why.to_string()));
        if self.bug(Bug::RestartForgets, 1) {
            queued.pop();
        }
        let wall = self.now().wall;
        self.ledger.restart(self.elapsed, wall);
        self.trace.all(self.elapsed, "the daemon starts");
        self.tell(Event::Queued(queued));
    }
}
