//! `show queue --summary`: how many envelopes wait for which domain, and for how long, as qshape
//! shows it.
//!
//! Promises: memory is bounded by the number of domains told apart, whatever the queue holds;
//! the domains with most come first, those with as many in order of their names.
//! Absent on purpose: whether a domain is worth a line; pipe it into head(1).

use super::cell::{self, Cell, Format};
use super::put;
use crate::escape;
use redspool_core::control::EnvelopeRow;
use std::collections::BTreeMap;

/// Ends of the columns in minutes; the last column has no end.
const AGES: [u64; 9] = [5, 10, 20, 40, 80, 160, 320, 640, 1280];
/// The columns of ages.
const COLUMNS: usize = AGES.len() + 1;
/// The names of the columns for programs.
pub(crate) const NAMES: [&str; COLUMNS + 2] = [
    "domain", "total", "age_5", "age_10", "age_20", "age_40", "age_80", "age_160", "age_320",
    "age_640", "age_1280", "age_more",
];
/// Stands for all domains that are not told apart.
const OTHERS: &str = "*";

/// Counts by age.
type Counts = [u64; COLUMNS];

/// The counts so far.
#[derive(Debug)]
pub(super) struct Summary {
    domains: BTreeMap<String, Counts>,
    most: usize,
    others: Counts,
    total: Counts,
}

impl Summary {
    /// Tells at most `most` domains apart.
    pub(super) fn new(most: usize) -> Self {
        Self {
            domains: BTreeMap::new(),
            most,
            others: Counts::default(),
            total: Counts::default(),
        }
    }

    /// Counts an envelope, at a date in seconds since the epoch.
    pub(super) fn count(&mut self, row: &EnvelopeRow, now: u64) {
        let minutes = now.saturating_sub(row.ctime) / 60;
        let column = AGES.iter().position(|end| minutes < *end);
        let column = column.unwrap_or(AGES.len());
        let domain = row.domain().to_lowercase();
        let full = self.domains.len() >= self.most;
        let counts = match self.domains.get_mut(&domain) {
            Some(counts) => counts,
            None if full => &mut self.others,
            None => self.domains.entry(domain).or_default(),
        };
        for counts in [counts, &mut self.total] {
            if let Some(count) = counts.get_mut(column) {
                *count = count.saturating_add(1);
            }
        }
    }

    /// Domains and counts, those with most first.
    fn rows(&self) -> Vec<(&str, &Counts)> {
        let rows = self
            .domains
            .iter()
            .map(|(domain, counts)| (domain.as_str(), counts));
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|(_, counts)| std::cmp::Reverse(total(counts)));
        if total(&self.others) > 0 {
            rows.push((OTHERS, &self.others));
        }
        rows
    }

    /// A table for people: names at the right of their column, as qshape has them.
    pub(super) fn table(&self, out: &mut Vec<u8>) {
        let mut lines = vec![
            (String::new(), heads()),
            ("TOTAL".into(), words(&self.total)),
        ];
        for (domain, counts) in self.rows() {
            let mut name = Vec::new();
            escape::printable(domain, &mut name);
            let name = String::from_utf8_lossy(&name).into_owned();
            lines.push((name, words(counts)));
        }
        let longest = lines.iter().map(|(name, _)| name.chars().count()).max();
        let name_width = longest.unwrap_or(0);
        let mut widths = [0usize; COLUMNS + 1];
        for (_, words) in &lines {
            for (width, word) in widths.iter_mut().zip(words) {
                *width = word.len().max(*width);
            }
        }
        for (name, words) in &lines {
            put(out, format_args!("{name:>name_width$}"));
            for (width, word) in widths.iter().zip(words) {
                put(out, format_args!(" {word:>width$}"));
            }
            out.push(b'\n');
        }
    }

    /// Records for programs. The first one is the sum, and has no domain.
    pub(super) fn records(&self, format: Format, out: &mut Vec<u8>) {
        if format == Format::Csv {
            cell::header(NAMES.into_iter(), out);
        }
        let sum = (Cell::None, &self.total);
        let rows = self
            .rows()
            .into_iter()
            .map(|(domain, counts)| (domain.into(), counts));
        for (domain, counts) in std::iter::once(sum).chain(rows) {
            let numbers = counts.iter().map(|count| Cell::from(*count));
            let cells = [domain, total(counts).into()].into_iter().chain(numbers);
            cell::record(format, NAMES.into_iter().zip(cells), out);
        }
    }
}

fn total(counts: &Counts) -> u64 {
    counts
        .iter()
        .fold(0, |sum, count| sum.saturating_add(*count))
}

/// The head of the table: `T`, then the ends of the ages.
fn heads() -> Vec<String> {
    let last = AGES.last().map(|end| format!("{end}+"));
    let ends = AGES.iter().map(ToString::to_string);
    std::iter::once("T".to_owned())
        .chain(ends)
        .chain(last)
        .collect()
}

fn words(counts: &Counts) -> Vec<String> {
    let numbers = std::iter::once(total(counts)).chain(counts.iter().copied());
    numbers.map(|number| number.to_string()).collect()
}
