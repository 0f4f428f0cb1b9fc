//! Whether what a store shows keeps the promises, and which one it breaks.
//!
//! Absent on purpose: how the store came to show it.

use crate::books::Books;
use redspool_core::id::{EnvelopeId, MessageId};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A promise that is broken, as the specification numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Acknowledged means durable.
    P1,
    /// Refused means not queued.
    P2,
    /// Every accepted recipient is in the books once.
    P3,
    /// Damage is noticed and contained.
    P5,
    /// A submission is there whole or not at all.
    Q2,
    /// A database that cannot be read is built anew.
    S7,
}

impl Promise {
    /// What is promised.
    pub fn words(self) -> &'static str {
        match self {
            Self::P1 => "acknowledged means durable",
            Self::P2 => "refused means not queued",
            Self::P3 => "every accepted recipient is in the books once",
            Self::P5 => "damage is noticed and contained",
            Self::Q2 => "a submission is there whole or not at all",
            Self::S7 => "a database that cannot be read is built anew",
        }
    }
}

/// A broken promise, with what was found and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which promise.
    pub promise: Promise,
    /// What was found.
    pub what: String,
}

impl Breach {
    /// A breach of `promise`.
    pub fn new(promise: Promise, what: impl Into<String>) -> Self {
        Self {
            promise,
            what: what.into(),
        }
    }

    /// The same with the place in front.
    #[must_use]
    pub fn at(self, place: &str) -> Self {
        Self {
            what: format!("{place}: {}", self.what),
            ..self
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promise, what } = self;
        write!(f, "{promise:?} ({}) is broken: {what}", promise.words())
    }
}

/// Which of the lawful states, the oldest first, a store shows; or what is wrong with what it shows.
pub fn judge(lawful: &[Arc<Books>], found: &Books) -> Result<usize, Breach> {
    if let Some(place) = lawful.iter().position(|state| **state == *found) {
        return Ok(place);
    }
    let everywhere = |id: &&MessageId| lawful.iter().all(|state| has(state, **id));
    let ids = lawful.first().into_iter().flat_map(|state| ids(state));
    if let Some(lost) = ids
        .collect::<Vec<_>>()
        .iter()
        .find(|id| everywhere(id) && !has(found, **id))
    {
        return Err(Breach::new(Promise::P1, format!("message {lost} is gone")));
    }
    for (id, (_, content)) in &found.messages {
        let known: Vec<_> = lawful
            .iter()
            .filter_map(|state| state.messages.get(id))
            .collect();
        if known.is_empty() {
            let known = lawful.iter().any(|state| has(state, *id));
            let what = if known {
                format!("message {id} is queued, not set aside")
            } else {
                format!("message {id} is queued, which nobody was told")
            };
            return Err(Breach::new(Promise::P2, what));
        }
        if known.iter().all(|(_, octets)| octets != content) {
            let what = format!("message {id} has another content");
            return Err(Breach::new(Promise::P5, what));
        }
        let there = envelopes(found, *id);
        let lawful: Vec<_> = lawful.iter().map(|state| envelopes(state, *id)).collect();
        if !lawful.contains(&there) {
            let part = lawful.iter().any(|whole| there.is_subset(whole));
            let promise = if part { Promise::Q2 } else { Promise::P1 };
            let what = format!("message {id} has envelopes {there:?}, not {lawful:?}");
            return Err(Breach::new(promise, what));
        }
    }
    for aside in &found.corrupt {
        if lawful.iter().all(|state| !state.corrupt.contains(aside)) {
            let what = format!("message {} is set aside: {}", aside.message, aside.reason);
            return Err(Breach::new(Promise::P5, what));
        }
    }
    Err(Breach::new(Promise::P1, difference(lawful, found)))
}

fn has(books: &Books, id: MessageId) -> bool {
    ids(books).any(|found| found == id)
}

fn ids(books: &Books) -> impl Iterator<Item = MessageId> {
    let aside = books.corrupt.iter().map(|corrupt| corrupt.message);
    books.messages.keys().copied().chain(aside)
}

fn envelopes(books: &Books, id: MessageId) -> BTreeSet<EnvelopeId> {
    let range = books.envelopes.range(id.envelopes());
    range.map(|(id, _)| *id).collect()
}

/// How what was found differs from the last lawful state.
fn difference(lawful: &[Arc<Books>], found: &Books) -> String {
    let Some(want) = lawful.last() else {
        return "nothing is lawful".into();
    };
    for (id, envelope) in &want.envelopes {
        match found.envelopes.get(id) {
            Some(same) if same == envelope => {}
            other => return format!("envelope {id} is {other:?}, not {envelope:?}"),
        }
    }
    for (id, discarded) in &want.trash {
        match found.trash.get(id) {
            Some(same) if same == discarded => {}
            other => return format!("in the trash {id} is {other:?}, not {discarded:?}"),
        }
    }
    let rest = |books: &Books| {
        let pauses = (books.paused, books.blocks.clone());
        (books.corrupt.clone(), pauses, books.epoch)
    };
    format!("{:?}, not {:?}", rest(found), rest(want))
}
