//! What each recipient domain said last, and which envelopes wait for it to answer again.
//!
//! Promises: at most `limits.mta.hoststats` domains, the one changed longest ago goes first;
//! at most `limits.mta.deferred` envelopes each.

use crate::id::EnvelopeId;
use crate::limits::MtaLimits;
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

/// The last status of a recipient domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostStat {
    /// In lower case.
    pub domain: Box<str>,
    /// When.
    pub at: Timestamp,
    /// What was said, control characters included.
    pub text: Box<str>,
}

#[derive(Debug, Default)]
struct Entry {
    at: Timestamp,
    order: u64,
    text: Option<Box<str>>,
    deferred: BTreeSet<EnvelopeId>,
}

#[derive(Debug, Default)]
pub(super) struct HostStats {
    entries: BTreeMap<Box<str>, Entry>,
    /// When each was changed; looked at with every event, so it stands here, too.
    order: BTreeMap<u64, (Timestamp, Box<str>)>,
    /// Envelopes deferred, over all of them.
    deferred: usize,
    last: u64,
}

impl HostStats {
    /// Notes what a domain said.
    pub(super) fn said(&mut self, at: Timestamp, domain: &str, text: &str, limits: &MtaLimits) {
        let entry = self.touch(at, domain, limits);
        entry.text = Some(text.into());
    }

    /// Remembers an envelope that failed because the domain could not be reached.
    pub(super) fn defer(&mut self, at: Timestamp, domain: &str, id: EnvelopeId, l: &MtaLimits) {
        let entry = self.touch(at, domain, l);
        if entry.deferred.len() < l.deferred && entry.deferred.insert(id) {
            self.deferred += 1;
        }
    }

    /// An envelope is tried: it needs no reminder.
    pub(super) fn tried(&mut self, domain: &str, id: EnvelopeId) {
        if self.deferred == 0 {
            return;
        }
        let domain = domain.to_lowercase();
        if let Some(entry) = self.entries.get_mut(domain.as_str())
            && entry.deferred.remove(&id)
        {
            self.deferred -= 1;
        }
    }

    /// A domain has accepted a recipient: gives the envelopes that waited for it.
    pub(super) fn answers(&mut self, domain: &str) -> Vec<EnvelopeId> {
        if self.deferred == 0 {
            return Vec::new();
        }
        let domain = domain.to_lowercase();
        let entry = self.entries.get_mut(domain.as_str());
        let deferred = entry.map(|entry| std::mem::take(&mut entry.deferred));
        let deferred = deferred.unwrap_or_default();
        self.deferred -= deferred.len();
        deferred.into_iter().collect()
    }

    /// Forgets what has not changed for so long.
    pub(super) fn expire(&mut self, now: Timestamp, ttl: Duration) {
        let is_old = |at: Timestamp| now.since(at) >= ttl;
        while let Some((_, (at, _))) = self.order.first_key_value()
            && is_old(*at)
        {
            self.drop_oldest();
        }
    }

    /// The domains behind `after` that said something, in order.
    pub(super) fn after(&self, after: Option<&str>) -> impl Iterator<Item = HostStat> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.entries.range::<str, _>((start, Bound::Unbounded));
        entries.filter_map(|(domain, entry)| {
            Some(HostStat {
                domain: domain.clone(),
                at: entry.at,
                text: entry.text.clone()?,
            })
        })
    }

    fn touch(&mut self, at: Timestamp, domain: &str, limits: &MtaLimits) -> &mut Entry {
        let domain: Box<str> = domain.to_lowercase().into();
        if !self.entries.contains_key(&domain) && self.entries.len() >= limits.hoststats {
            self.drop_oldest();
        }
        self.last += 1;
        let entry = self.entries.entry(domain.clone()).or_default();
        self.order.remove(&entry.order);
        self.order.insert(self.last, (at, domain));
        entry.order = self.last;
        entry.at = at;
        entry
    }

    fn drop_oldest(&mut self) {
        if let Some((_, (_, domain))) = self.order.pop_first() {
            let entry = self.entries.remove(&domain);
            self.deferred -= entry.map_or(0, |entry| entry.deferred.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_changed_longest_ago_is_forgotten_first() {
        let limits = MtaLimits {
            hoststats: 2,
            ..MtaLimits::default()
        };
        let mut stats = HostStats::default();
        for (second, domain) in ["a.example", "B.example", "A.example", "c.example"]
            .into_iter()
            .enumerate()
        {
            let at = Timestamp::from_secs(second as u64);
            stats.said(at, domain, "250 ok", &limits);
        }
        let known: Vec<_> = stats.after(None).map(|row| row.domain).collect();
        assert_eq!(known, ["a.example".into(), "c.example".into()]);
        stats.expire(Timestamp::from_secs(12), Duration::from_secs(10));
        assert_eq!(stats.after(None).count(), 1);
    }
}
