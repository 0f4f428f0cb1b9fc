//! Simulation: the whole engine, with real client sessions, in a world made from a seed.
//!
//! What: [`run`] lets a [`Plan`] happen: a week of mail to thousands of destinations that are fast,
//! slow, dead, greylisting, dropping after the dot, babbling or silent, with TLS that works or not,
//! over a store that fails, a clock that is set and a daemon that is killed, in virtual time.
//! Promises: checked at every step: every envelope ends once in the books, for a reason the world
//! has seen; nothing is tried before its time, or twice at a time, whatever the wall clock does;
//! limits and delays hold; an address of ours that reaches a host makes up for one that does not;
//! nothing goes in clear text where TLS is required, or works; contents arrive unchanged; a host
//! takes mail twice only where a reply was lost or the daemon was killed; in the end everything is
//! over. The same seed gives the same trace.
//! Absent on purpose: sockets, threads, and the daemon's drivers, which the kill -9 ledger and the
//! end-to-end tests try.
//! Fails: with a [`Found`], which prints how to see it again, and the story of the message concerned.

mod agenda;
mod bug;
mod disk;
mod ledger;
mod link;
mod mishap;
mod peer;
mod plan;
mod post;
mod report;
mod trace;
mod watch;
mod world;
mod zone;

pub use bug::Bug;
pub use ledger::End;
pub use peer::Temper;
pub use plan::{ALL, DEAD, Plan};
pub use report::Report;

use redspool_core::id::EnvelopeId;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use world::World;

/// Something that must not be, at the time it was noticed.
#[derive(Clone, Debug)]
struct Breach {
    at: Duration,
    envelope: Option<EnvelopeId>,
    what: String,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed of the world.
    pub seed: u64,
    /// What was wrong.
    pub what: String,
    at: Duration,
    envelope: Option<EnvelopeId>,
    lines: Vec<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, next) = (self.seed, self.seed + 1);
        writeln!(
            f,
            "seed {seed}, after {:.3} s: {}",
            self.at.as_secs_f64(),
            self.what
        )?;
        if let Some(id) = self.envelope {
            writeln!(f, "envelope {id}; what happened to its message:")?;
        }
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        write!(
            f,
            "again: SIM_SEEDS={seed}..{next} cargo test -p redspool-proptests --test simulation -- --nocapture"
        )
    }
}

/// Lets a world happen. If a promise is broken, it happens once more for the story of the message.
pub fn run(seed: u64, plan: &Plan) -> Result<Report, Box<Found>> {
    let mut world = World::new(seed, plan.clone(), None);
    let lived = guarded(&mut world);
    let Err(breach) = lived else {
        return Ok(Report::of(&world));
    };
    let lines = breach.envelope.map_or_else(Vec::new, |id| {
        let mut again = World::new(seed, plan.clone(), Some(id.message()));
        // It breaks in the same way; what matters is the trace.
        let _ = guarded(&mut again);
        again.trace.into_lines()
    });
    Err(Box::new(Found {
        seed,
        what: breach.what,
        at: breach.at,
        envelope: breach.envelope,
        lines,
    }))
}

/// A panic in the engine is a breach, too.
fn guarded(world: &mut World) -> Result<(), Breach> {
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    lived.unwrap_or_else(|why| {
        let text = why.downcast_ref::<String>().cloned();
        let text = text.or_else(|| why.downcast_ref::<&str>().map(|&text| text.to_owned()));
        Err(Breach {
            at: world.elapsed,
            envelope: None,
            what: format!("it panicked: {}", text.unwrap_or_default()),
        })
    })
}
