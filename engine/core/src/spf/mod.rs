//! `spf walk`: the networks that the SPF records of a domain allow to send (RFC 7208).
//!
//! Promises: the same answers give the same networks in the same order, which is that of the
//! terms; each network once. Ends after the look-ups RFC 7208 grants a record, whatever the answers
//! say: loops, fans of names and empty answers are bounded by [`SpfLimits`].
//! Absent on purpose: DNS, and what a record says about one client: of `exists`, `ptr` and macros
//! no network can be known.
//! Fails: never. What could not be followed is a [`Fault`]; what was found stays.

mod term;

use crate::limits::SpfLimits;
use crate::machine::Machine;
use crate::time::Now;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::time::Instant;
use term::{Prefixes, Step};

/// Part of the address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
    text: String,
}

impl Network {
    fn new(address: IpAddr, prefix: Option<u8>) -> Self {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let text = match prefix {
            Some(prefix) => format!("{address}/{prefix}"),
            None => address.to_string(),
        };
        Self {
            address,
            prefix: prefix.unwrap_or(most),
            text,
        }
    }

    /// Address and length: the same for all ways to write it.
    pub const fn key(&self) -> (IpAddr, u8) {
        (self.address, self.prefix)
    }
}

impl fmt::Display for Network {
    /// As it was written, or the address with the length if one was.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What to ask the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The texts of a name.
    Texts(String),
    /// The addresses of a name, of both families.
    Addresses(String),
    /// The mail exchangers of a name.
    Exchanges(String),
}

/// What the DNS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Texts, the strings of each joined.
    Texts(Vec<String>),
    /// Addresses.
    Addresses(Vec<IpAddr>),
    /// Preferences and names.
    Exchanges(Vec<(u16, String)>),
    /// The name is there, but nothing of this kind.
    Nothing,
    /// The name does not exist.
    Nowhere,
    /// It does not say, and why.
    Failed(String),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The answer to the last question.
    Answered(Answer),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the DNS, and report the answer.
    Ask(Question),
}

/// Something that could not be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The name whose record it is about.
    pub owner: String,
    /// What it is.
    pub problem: Problem,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is no name.
    Name(String),
    /// The name depends on the client.
    Macro(String),
    /// The term holds no network.
    Network(String),
    /// The term cuts addresses where they have no bits.
    Prefix(String),
    /// The name does not exist.
    Nowhere,
    /// The name has no SPF record.
    NoRecord,
    /// The name has several, which a receiver takes for none (RFC 7208 section 4.5).
    SeveralRecords,
    /// The record includes one that is being walked through.
    Loop(String),
    /// The DNS did not answer a question about this name.
    Failed(String, String),
    /// More exchangers than a receiver looks at.
    Exchanges(String, usize),
    /// More look-ups than a receiver makes.
    Lookups(usize),
    /// More empty answers than a receiver bears.
    Voids(usize),
    /// More networks than we keep.
    Networks(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.owner, self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{name}` is no name"),
            Self::Macro(name) => {
                write!(f, "`{name}` contains macros and can't be resolved")
            }
            Self::Network(term) => write!(f, "`{term}` holds no network"),
            Self::Prefix(term) => write!(f, "`{term}` has a prefix that fits no address"),
            Self::Nowhere => f.write_str("the domain does not exist"),
            Self::NoRecord => f.write_str("no SPF record"),
            Self::SeveralRecords => f.write_str("several SPF records; receivers heed none"),
            Self::Loop(name) => write!(f, "the record of {name} leads back to itself"),
            Self::Failed(name, reason) => write!(f, "{name}: {reason}"),
            Self::Exchanges(name, most) => write!(
                f,
                "{name} has more than {most} mail exchangers; those behind are not looked at"
            ),
            Self::Lookups(most) => write!(
                f,
                "more than {most} terms need a look-up; what comes then is not looked at"
            ),
            Self::Voids(most) => write!(
                f,
                "more than {most} look-ups find nothing; what comes then is not looked at"
            ),
            Self::Networks(most) => {
                write!(f, "more than {most} networks; what comes then is left out")
            }
        }
    }
}

/// What a walk has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The networks, in the order of the terms, each once.
    pub networks: Vec<Network>,
    /// What could not be followed.
    pub faults: Vec<Fault>,
}

/// A walk through the SPF records of one domain: asks one question at a time, and is over when
/// [`poll`](Machine::poll) gives nothing after an answer.
#[derive(Debug)]
pub struct Walk {
    limits: SpfLimits,
    /// The records being walked through, the innermost last.
    records: Vec<Record>,
    /// Every name whose record was asked for.
    asked: BTreeSet<String>,
    /// What the answer is for.
    pending: Option<Pending>,
    question: Option<Question>,
    lookups: usize,
    voids: usize,
    seen: BTreeSet<(IpAddr, u8)>,
    report: Report,
}

#[derive(Debug)]
struct Record {
    owner: String,
    steps: VecDeque<Step>,
}

#[derive(Debug)]
enum Pending {
    Record(String),
    Hosts(String, Prefixes),
    Exchanges(String, Prefixes),
}

impl Machine for Walk {
    type Event = Event;
    type Action = Action;

    fn handle(&mut self, _: Now, Event::Answered(answer): Event) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        self.question = None;
        match pending {
            Pending::Record(name) => self.record(name, answer),
            Pending::Hosts(name, prefixes) => self.hosts(name, prefixes, answer),
            Pending::Exchanges(name, prefixes) => self.exchanges(name, prefixes, answer),
        }
        self.proceed();
    }

    fn poll(&mut self) -> Option<Action> {
        self.question.take().map(Action::Ask)
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

impl Walk {
    /// A walk that begins at `domain`.
    pub fn new(domain: &str, limits: SpfLimits) -> Self {
        let mut walk = Self {
            limits,
            records: Vec::new(),
            asked: BTreeSet::new(),
            pending: None,
            question: None,
            lookups: 0,
            voids: 0,
            seen: BTreeSet::new(),
            report: Report::default(),
        };
        match term::named(domain) {
            Ok(name) => walk.ask_record(name),
            Err(problem) => walk.fault(domain.to_owned(), problem),
        }
        walk
    }

    /// What was found so far.
    pub fn report(self) -> Report {
        self.report
    }

    /// Does what needs no answer, up to the next question or the end.
    fn proceed(&mut self) {
        while self.pending.is_none() {
            let Some(record) = self.records.last_mut() else {
                return;
            };
            let Some(step) = record.steps.pop_front() else {
                self.records.pop();
                continue;
            };
            let owner = record.owner.clone();
            match step {
                Step::Network(network) => self.found(&owner, network),
                Step::Exchange(name, prefixes) => self.ask_hosts(name, prefixes),
                _ if self.lookups >= self.limits.lookups => {
                    let most = self.limits.lookups;
                    self.stop(owner, Problem::Lookups(most));
                }
                step => {
                    self.lookups = self.lookups.saturating_add(1);
                    self.look_up(owner, step);
                }
            }
        }
    }

    fn look_up(&mut self, owner: String, step: Step) {
        match step {
            Step::Record(name) => {
                let open = self.records.iter().any(|record| record.owner == name);
                if open {
                    self.fault(owner, Problem::Loop(name));
                } else if !self.asked.contains(&name) {
                    self.ask_record(name);
                }
            }
            Step::Hosts(name, prefixes) => self.ask_hosts(name, prefixes),
            Step::Exchanges(name, prefixes) => {
                self.question = Some(Question::Exchanges(name.clone()));
                self.pending = Some(Pending::Exchanges(name, prefixes));
            }
            Step::Network(_) | Step::Exchange(..) | Step::Idle => {}
        }
    }

    fn ask_record(&mut self, name: String) {
        self.asked.insert(name.clone());
        self.question = Some(Question::Texts(name.clone()));
        self.pending = Some(Pending::Record(name));
    }

    fn ask_hosts(&mut self, name: String, prefixes: Prefixes) {
        self.question = Some(Question::Addresses(name.clone()));
        self.pending = Some(Pending::Hosts(name, prefixes));
    }

    /// Opens the record of a name.
    fn record(&mut self, name: String, answer: Answer) {
        let texts = match answer {
            Answer::Texts(texts) => texts,
            Answer::Failed(reason) => return self.failed(name, reason),
            Answer::Nowhere => {
                self.fault(name, Problem::Nowhere);
                return self.void();
            }
            _ => {
                self.fault(name, Problem::NoRecord);
                return self.void();
            }
        };
        let records: Vec<_> = texts.iter().filter_map(|text| term::terms(text)).collect();
        match records.len() {
            0 => return self.fault(name, Problem::NoRecord),
            1 => {}
            // All are walked through, as in the reference: the list shows what was meant.
            _ => self.fault(name.clone(), Problem::SeveralRecords),
        }
        let mut steps = VecDeque::new();
        for term in records.into_iter().flatten() {
            match term::step(term, &name) {
                Ok(step) => steps.extend(step),
                Err(problem) => self.fault(name.clone(), problem),
            }
        }
        self.records.push(Record { owner: name, steps });
    }

    fn hosts(&mut self, name: String, prefixes: Prefixes, answer: Answer) {
        let mut addresses = match answer {
            Answer::Addresses(addresses) => addresses,
            Answer::Failed(reason) => return self.failed(name, reason),
            _ => Vec::new(),
        };
        if addresses.is_empty() {
            return self.void();
        }
        // Servers turn their answers round; the list must not turn with them.
        addresses.sort_unstable();
        let owner = self.owner(name);
        for address in addresses {
            self.found(&owner, prefixes.of(address));
        }
    }

    fn exchanges(&mut self, name: String, prefixes: Prefixes, answer: Answer) {
        let mut exchanges = match answer {
            Answer::Exchanges(exchanges) => exchanges,
            Answer::Failed(reason) => return self.failed(name, reason),
            _ => Vec::new(),
        };
        if exchanges.is_empty() {
            return self.void();
        }
        exchanges.sort_unstable();
        let most = self.limits.exchanges;
        if exchanges.len() > most {
            exchanges.truncate(most);
            let owner = self.owner(name.clone());
            self.fault(owner, Problem::Exchanges(name, most));
        }
        // The null exchanger (RFC 7505) has no address to ask for.
        let names: Vec<_> = exchanges
            .into_iter()
            .filter_map(|(_, exchange)| term::named(&exchange).ok())
            .collect();
        if let Some(record) = self.records.last_mut() {
            for exchange in names.into_iter().rev() {
                record.steps.push_front(Step::Exchange(exchange, prefixes));
            }
        }
    }

    fn found(&mut self, owner: &str, network: Network) {
        if self.seen.contains(&network.key()) {
            return;
        }
        if self.report.networks.len() >= self.limits.networks {
            let most = self.limits.networks;
            return self.stop(owner.to_owned(), Problem::Networks(most));
        }
        self.seen.insert(network.key());
        self.report.networks.push(network);
    }

    /// A look-up found nothing.
    fn void(&mut self) {
        self.voids = self.voids.saturating_add(1);
        if self.voids > self.limits.voids && !self.records.is_empty() {
            let owner = self.owner(String::new());
            let most = self.limits.voids;
            self.stop(owner, Problem::Voids(most));
        }
    }

    fn failed(&mut self, name: String, reason: String) {
        let owner = self.owner(name.clone());
        let problem = Problem::Failed(name, reason);
        self.fault(owner, problem);
    }

    /// The name whose record is being walked through; the first one's own before that.
    fn owner(&self, name: String) -> String {
        self.records
            .last()
            .map_or(name, |record| record.owner.clone())
    }

    /// Looks at nothing more.
    fn stop(&mut self, owner: String, problem: Problem) {
        self.fault(owner, problem);
        self.records.clear();
    }

    fn fault(&mut self, owner: String, problem: Problem) {
        if self.report.faults.len() < self.limits.faults {
            self.report.faults.push(Fault { owner, problem });
        }
    }
}

#[cfg(test)]
mod tests;
