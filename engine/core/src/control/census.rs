//! What a verb would hit: how much, and most of what.
//!
//! Promises: memory is bounded by the number of texts told apart, whatever is counted.
//! Absent on purpose: the sizes of messages, which rows do not have; they are told.

use super::{EnvelopeRow, Runstate};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Texts of a list of a census: what fits a screen with two more.
const TOP: usize = 8;

/// What would be hit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// Envelopes.
    pub envelopes: u64,
    /// How many of them are being delivered.
    pub inflight: u64,
    /// Messages they belong to.
    pub messages: u64,
    /// Octets of the content of these.
    pub octets: u64,
    /// Return paths with most envelopes, and how many they have.
    pub senders: Vec<(String, u64)>,
    /// Domains of recipients, likewise.
    pub domains: Vec<(String, u64)>,
    /// Texts of last failures, likewise.
    pub errors: Vec<(String, u64)>,
}

/// A census being taken.
#[derive(Debug)]
pub struct Tally {
    census: Census,
    message: Option<u64>,
    senders: Counts,
    domains: Counts,
    errors: Counts,
}

#[derive(Debug)]
struct Counts {
    texts: BTreeMap<String, u64>,
    most: usize,
}

impl Tally {
    /// Tells at most `most` texts of a kind apart; later ones are not in the lists.
    pub fn new(most: usize) -> Self {
        let counts = || Counts {
            texts: BTreeMap::new(),
            most,
        };
        Self {
            census: Census::default(),
            message: None,
            senders: counts(),
            domains: counts(),
            errors: counts(),
        }
    }

    /// Counts an envelope; they come in order of ids. Gives whether it is the first one of its
    /// message, whose size is to be told.
    pub fn count(&mut self, row: &EnvelopeRow) -> bool {
        let census = &mut self.census;
        census.envelopes = census.envelopes.saturating_add(1);
        if matches!(row.runstate, Runstate::Inflight { .. }) {
            census.inflight = census.inflight.saturating_add(1);
        }
        self.senders.count(&row.sender);
        self.domains.count(row.domain());
        if !row.errorline.is_empty() {
            self.errors.count(&row.errorline);
        }
        let message = Some(row.id >> 32);
        let first = self.message != message;
        self.message = message;
        if first {
            self.census.messages = self.census.messages.saturating_add(1);
        }
        first
    }

    /// Adds the size of a message's content.
    pub fn add(&mut self, octets: u64) {
        self.census.octets = self.census.octets.saturating_add(octets);
    }

    /// The result.
    pub fn census(self) -> Census {
        Census {
            senders: self.senders.top(),
            domains: self.domains.top(),
            errors: self.errors.top(),
            ..self.census
        }
    }
}

impl Counts {
    fn count(&mut self, text: &str) {
        if let Some(count) = self.texts.get_mut(text) {
            *count = count.saturating_add(1);
        } else if self.texts.len() < self.most {
            self.texts.insert(text.to_owned(), 1);
        }
    }

    /// Those with most first, those with as many in order.
    fn top(self) -> Vec<(String, u64)> {
        let mut texts: Vec<_> = self.texts.into_iter().collect();
        texts.sort_by_key(|(_, count)| Reverse(*count));
        texts.truncate(TOP);
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Agent, Family, RowFlags};

    fn row(id: u64, sender: &str, dest: &str, error: &str) -> EnvelopeRow {
        EnvelopeRow {
            id,
            family: Family::Inet4,
            agent: Agent::Mta,
            flags: RowFlags::default(),
            sender: sender.into(),
            rcpt: dest.into(),
            dest: dest.into(),
            ctime: 0,
            expiry: 0,
            last_try: 0,
            retry: 0,
            runstate: Runstate::Offline,
            errorline: error.into(),
            status: None,
            tag: String::new(),
        }
    }

    #[test]
    fn messages_count_once_and_the_most_come_first() {
        let mut tally = Tally::new(100);
        let inflight = EnvelopeRow {
            runstate: Runstate::Inflight { since: 1 },
            ..row(0x1_0000_0002, "a@x", "p@one", "")
        };
        let rows = [
            row(0x1_0000_0001, "a@x", "q@two", "late"),
            inflight,
            row(0x2_0000_0001, "", "q@two", "late"),
        ];
        let first: Vec<_> = rows.iter().map(|row| tally.count(row)).collect();
        assert_eq!(first, [true, false, true]);
        tally.add(10);
        tally.add(5);
        let want = Census {
            envelopes: 3,
            inflight: 1,
            messages: 2,
            octets: 15,
            senders: vec![("a@x".into(), 2), (String::new(), 1)],
            domains: vec![("two".into(), 2), ("one".into(), 1)],
            errors: vec![("late".into(), 2)],
        };
        assert_eq!(tally.census(), want);
    }

    #[test]
    fn texts_are_bounded() {
        let mut tally = Tally::new(3);
        for at in 0..10 {
            tally.count(&row(at << 32 | 1, "a", &format!("x@{at}"), ""));
        }
        let census = tally.census();
        assert_eq!((census.envelopes, census.domains.len()), (10, 3));
        let mut tally = Tally::new(100);
        for at in 0..50 {
            tally.count(&row(at << 32 | 1, "a", &format!("x@{at}"), ""));
        }
        assert_eq!(tally.census().domains.len(), TOP);
    }
}
