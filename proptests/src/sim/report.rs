//! What came of a world that kept its promises.

use super::ledger::End;
use super::plan::Fate;
use super::world::World;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The figures of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// A number over everything that happened.
    pub hash: u64,
    /// Steps that went into it.
    pub notes: u64,
    /// Virtual time.
    pub time: Duration,
    /// Envelopes by how they ended.
    pub ends: BTreeMap<End, u64>,
    /// Attempts that came to a session, a local delivery or a notice.
    pub attempts: u64,
    /// Times a host took again what one had taken before.
    pub duplicates: u64,
    /// Most connections open at a time.
    pub connections: usize,
    /// Messages that hosts have taken with TLS.
    pub secured: u64,
    /// Connections in clear text after a handshake that failed.
    pub fallbacks: u64,
    /// Times the daemon was started.
    pub starts: u32,
    /// Waits of mail from clients for destinations that were healthy all the time, in order.
    pub delays: Vec<Duration>,
}

impl Report {
    pub(super) fn of(world: &World) -> Self {
        let mut ends = BTreeMap::new();
        let mut delays = Vec::new();
        for (_, entry) in world.ledger.iter() {
            if let Some(end) = entry.end {
                *ends.entry(end).or_default() += 1;
            }
            let healthy = entry.from_client && entry.fate == Fate::From(Duration::ZERO);
            let flooded = &*world.scene.domains[world.scene.flooded].name == entry.dest.domain();
            if healthy && !flooded {
                delays.extend(
                    entry
                        .first_taken
                        .map(|taken| taken.saturating_sub(entry.since)),
                );
            }
        }
        delays.sort_unstable();
        Self {
            hash: world.trace.hash(),
            notes: world.trace.notes(),
            time: world.elapsed,
            ends,
            attempts: world.ledger.attempts,
            duplicates: world.ledger.duplicates,
            connections: world.watch.most,
            secured: world.secured,
            fallbacks: world.fallbacks,
            starts: world.life + 1,
            delays,
        }
    }

    /// The wait that so many of a hundred thousand did not exceed.
    pub fn delay(&self, of_100_000: usize) -> Duration {
        let last = self.delays.len().saturating_sub(1);
        let place = (self.delays.len() * of_100_000).div_ceil(100_000);
        let delay = self.delays.get(place.saturating_sub(1).min(last));
        delay.copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} days, {} starts, {} attempts, {} connections at most, {} messages with TLS, {} handshakes failed, {} taken twice, {:?}, hash {:016x}",
            self.time.as_secs_f64() / 86_400.0,
            self.starts,
            self.attempts,
            self.connections,
            self.secured,
            self.fallbacks,
            self.duplicates,
            self.ends,
            self.hash
        )
    }
}
