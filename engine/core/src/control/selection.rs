//! Which envelopes an administrator means, by what is known about them.
//!
//! Promises: pure; the same row and date give the same answer. A pattern of nothing is refused
//! where it is read, so that an unset variable in a script cannot mean everything.
//! Absent on purpose: ids, which [`Selector`](super::Selector) has, and regular expressions.
//! Fails: with [`InvalidPattern`], which says what could be written instead.

use super::{Agent, EnvelopeRow, Runstate, StatusCode};
use crate::config::table::glob;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What to look for. An empty list, or `None`, asks for nothing; all that is asked for must hold,
/// and of a list one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Return paths.
    pub senders: Vec<AddressPattern>,
    /// Recipients, as given or after expansion.
    pub rcpts: Vec<AddressPattern>,
    /// Domains of the recipient after expansion.
    pub domains: Vec<NamePattern>,
    /// Last failures.
    pub errors: Vec<ErrorPattern>,
    /// Accepted longer ago than this.
    pub older: Option<Age>,
    /// Accepted not longer ago than this.
    pub newer: Option<Age>,
    /// Where the schedule has it, and how it is marked.
    pub states: Vec<State>,
    /// Who delivers.
    pub agents: Vec<Agent>,
    /// Tags of the listener.
    pub tags: Vec<NamePattern>,
    /// Envelopes to take, in order of ids; the rest does not count as selected.
    pub limit: Option<u64>,
}

impl Selection {
    /// Whether the row fits, at a date in seconds since the epoch. The limit is for the caller.
    pub fn matches(&self, row: &EnvelopeRow, now: u64) -> bool {
        let age = now.saturating_sub(row.ctime);
        let rcpt =
            |pattern: &AddressPattern| pattern.matches(&row.rcpt) || pattern.matches(&row.dest);
        one(&self.senders, |pattern| pattern.matches(&row.sender))
            && one(&self.rcpts, rcpt)
            && one(&self.domains, |pattern| pattern.matches(row.domain()))
            && one(&self.errors, |pattern| pattern.matches(row))
            && self.older.is_none_or(|limit| age > limit.0)
            && self.newer.is_none_or(|limit| age <= limit.0)
            && one(&self.states, |state| state.is_of(row))
            && one(&self.agents, |agent| *agent == row.agent)
            && one(&self.tags, |pattern| pattern.matches(&row.tag))
    }
}

/// Whether one of the things fits, if there are any.
fn one<T>(things: &[T], fits: impl FnMut(&T) -> bool) -> bool {
    things.is_empty() || things.iter().any(fits)
}

/// Why a text is no pattern, and what would be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPattern(&'static str);

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidPattern {}

/// A name in which `*` stands for any run of characters; case does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamePattern(String);

impl NamePattern {
    fn matches(&self, name: &str) -> bool {
        glob(&self.0, &name.to_lowercase())
    }
}

impl FromStr for NamePattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if text.is_empty() {
            return Err(InvalidPattern("expected a name; * stands for any part"));
        }
        Ok(Self(text.to_lowercase()))
    }
}

/// An address: `user@domain`, `@domain` or `user`, with `*` for any part; `@` is the null sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPattern {
    local: String,
    domain: String,
}

impl AddressPattern {
    fn matches(&self, address: &str) -> bool {
        let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        match (self.local.as_str(), self.domain.as_str()) {
            ("", "") => address.is_empty(),
            (own_local, own_domain) => {
                !address.is_empty()
                    && glob(own_local, &local.to_lowercase())
                    && glob(own_domain, &domain.to_lowercase())
            }
        }
    }
}

impl FromStr for AddressPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let any = |part: &str| if part.is_empty() { "*" } else { part }.to_lowercase();
        let (local, domain) = text.rsplit_once('@').unwrap_or((text, ""));
        match text {
            "" => Err(InvalidPattern(
                "expected user@domain, @domain or user, * for any part, or @ for the null sender",
            )),
            "@" | "<>" => Ok(Self {
                local: String::new(),
                domain: String::new(),
            }),
            _ => Ok(Self {
                local: any(local),
                domain: any(domain),
            }),
        }
    }
}

/// What the last failure says: a reply code such as `451`, an enhanced status such as `4.7.1`, or
/// a part of its text, in which case does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorPattern {
    /// The text begins with it.
    Code(String),
    /// The status is it.
    Status(StatusCode),
    /// The text holds it.
    Text(String),
}

impl ErrorPattern {
    fn matches(&self, row: &EnvelopeRow) -> bool {
        match self {
            Self::Code(code) => row
                .errorline
                .strip_prefix(code.as_str())
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric())),
            Self::Status(status) => row.status == Some(*status),
            Self::Text(text) => row.errorline.to_lowercase().contains(text),
        }
    }
}

impl FromStr for ErrorPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if text.is_empty() {
            return Err(InvalidPattern(
                "expected a code such as 451 or 4.7.1, or a part of the text",
            ));
        }
        let digits = |part: &str| part.bytes().all(|octet| octet.is_ascii_digit());
        if text.len() == 3 && digits(text) {
            return Ok(Self::Code(text.to_owned()));
        }
        let parts: Vec<_> = text.split('.').collect();
        if let [class @ ("2" | "4" | "5"), subject, detail] = parts.as_slice()
            && let Ok(class) = class.parse()
            && let Ok(subject) = subject.parse()
            && let Ok(detail) = detail.parse()
        {
            return Ok(Self::Status(StatusCode {
                class,
                subject,
                detail,
            }));
        }
        Ok(Self::Text(text.to_lowercase()))
    }
}

/// An age in seconds, written as `90s`, `30m`, `2h`, `4d`, `1w` or several of these: `1d12h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Age(pub u64);

impl FromStr for Age {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        const FORM: InvalidPattern =
            InvalidPattern("expected numbers with units, such as 30m, 2h, 4d or 1d12h");
        let mut seconds = 0u64;
        let mut rest = text;
        while !rest.is_empty() {
            let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or(FORM)?;
            let (number, unit) = rest.split_at(unit_at);
            let unit_seconds = match unit.chars().next() {
                Some('s') => 1,
                Some('m') => 60,
                Some('h') => 3600,
                Some('d') => 86_400,
                Some('w') => 604_800,
                _ => return Err(FORM),
            };
            let number: u64 = number.parse().map_err(|_| FORM)?;
            let part = number.checked_mul(unit_seconds).ok_or(FORM)?;
            seconds = seconds.checked_add(part).ok_or(FORM)?;
            rest = unit.get(1..).unwrap_or_default();
        }
        if text.is_empty() {
            return Err(FORM);
        }
        Ok(Self(seconds))
    }
}

/// A word of the columns for flags and run state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Waiting; those with marks, too.
    Pending,
    /// Being delivered.
    Inflight,
    /// The daemon is not running.
    Offline,
    /// Paused by the administrator.
    Suspend,
    /// Parked by an agent's limit.
    Hold,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Inflight,
        Self::Offline,
        Self::Suspend,
        Self::Hold,
    ];

    /// The word of the listing.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Inflight => "inflight",
            Self::Offline => "offline",
            Self::Suspend => "suspend",
            Self::Hold => "hold",
        }
    }

    fn is_of(self, row: &EnvelopeRow) -> bool {
        match self {
            Self::Pending => matches!(row.runstate, Runstate::Pending { .. }),
            Self::Inflight => matches!(row.runstate, Runstate::Inflight { .. }),
            Self::Offline => row.runstate == Runstate::Offline,
            Self::Suspend => row.flags.suspend,
            Self::Hold => row.flags.hold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Family, RowFlags};

    const NOW: u64 = 1_000_000;

    fn row() -> EnvelopeRow {
        EnvelopeRow {
            id: 1,
            family: Family::Inet4,
            agent: Agent::Mta,
            flags: RowFlags::default(),
            sender: "Alice@Example.org".into(),
            rcpt: "list@example.net".into(),
            dest: "\"bob@home\"@mx.example.com".into(),
            ctime: NOW - 3600,
            expiry: NOW + 3600,
            last_try: 0,
            retry: 1,
            runstate: Runstate::Pending {
                due: NOW,
                held: false,
            },
            errorline: "451 4.7.1 Greylisted, try LATER".into(),
            status: Some(StatusCode {
                class: 4,
                subject: 7,
                detail: 1,
            }),
            tag: "SUBM".into(),
        }
    }

    fn check<T: FromStr<Err = InvalidPattern>>(
        select: fn(&mut Selection, Vec<T>),
        row: &EnvelopeRow,
        cases: &[(&str, bool)],
    ) {
        for (text, want) in cases {
            let mut selection = Selection::default();
            select(&mut selection, vec![text.parse().unwrap()]);
            assert_eq!(selection.matches(row, NOW), *want, "{text}");
        }
    }

    #[test]
    fn senders_are_addresses_parts_or_nobody() {
        let cases = [
            ("alice@example.org", true),
            ("@EXAMPLE.org", true),
            ("alice", true),
            ("alice@", true),
            ("*@*.org", true),
            ("a*e@e*.*g", true),
            ("*", true),
            ("example.org", false),
            ("alic@example.org", false),
            ("@xample.org", false),
            ("@", false),
            ("<>", false),
        ];
        check(
            |selection, senders| selection.senders = senders,
            &row(),
            &cases,
        );
        let bounce = EnvelopeRow {
            sender: String::new(),
            ..row()
        };
        let cases = [("@", true), ("<>", true), ("*", false), ("@*", false)];
        check(
            |selection, senders| selection.senders = senders,
            &bounce,
            &cases,
        );
    }

    #[test]
    fn recipients_are_those_given_and_those_expanded_to() {
        let cases = [
            ("list@example.net", true),
            ("@mx.example.com", true),
            ("\"bob@home\"@mx.example.com", true),
            ("bob@home", false),
        ];
        check(|selection, rcpts| selection.rcpts = rcpts, &row(), &cases);
        let cases = [
            ("mx.example.com", true),
            ("*.EXAMPLE.com", true),
            ("example.com", false),
            ("example.net", false),
        ];
        check(
            |selection, domains| selection.domains = domains,
            &row(),
            &cases,
        );
    }

    #[test]
    fn errors_are_codes_or_parts_of_the_text() {
        let cases = [
            ("451", true),
            ("4.7.1", true),
            ("greylisted, try later", true),
            ("45", true),
            ("450", false),
            ("4.7.0", false),
            ("rejected", false),
        ];
        check(
            |selection, errors| selection.errors = errors,
            &row(),
            &cases,
        );
        let other = EnvelopeRow {
            errorline: "4512 451 of".into(),
            status: None,
            ..row()
        };
        let cases = [("451", false), ("4.7.1", false), ("451 of", true)];
        check(
            |selection, errors| selection.errors = errors,
            &other,
            &cases,
        );
    }

    #[test]
    fn ages_are_counted_from_acceptance() {
        for (age, older, newer) in [
            ("59m59s", true, false),
            ("1h", false, true),
            ("1w", false, true),
        ] {
            let age = Some(age.parse().unwrap());
            let select = Selection {
                older: age,
                ..Selection::default()
            };
            assert_eq!(select.matches(&row(), NOW), older);
            let select = Selection {
                newer: age,
                ..Selection::default()
            };
            assert_eq!(select.matches(&row(), NOW), newer);
        }
        assert_eq!("1d12h".parse(), Ok(Age(129_600)));
        assert_eq!("0s".parse(), Ok(Age(0)));
        for bad in [
            "",
            "5",
            "m",
            "5x",
            "1h5",
            "-1h",
            "99999999999999999999s",
            "9999999999999999w",
        ] {
            assert!(bad.parse::<Age>().is_err(), "{bad}");
        }
    }

    #[test]
    fn states_are_the_words_of_the_listing() {
        let states = |runstate, suspend, hold| {
            let row = EnvelopeRow {
                runstate,
                flags: RowFlags {
                    suspend,
                    hold,
                    ..RowFlags::default()
                },
                ..row()
            };
            let fits = |state: &State| {
                let selection = Selection {
                    states: vec![*state],
                    ..Selection::default()
                };
                selection.matches(&row, NOW)
            };
            let words: Vec<_> = State::ALL
                .into_iter()
                .filter(fits)
                .map(State::word)
                .collect();
            words.join(" ")
        };
        let due = Runstate::Pending {
            due: NOW,
            held: true,
        };
        assert_eq!(states(due, false, true), "pending hold");
        assert_eq!(
            states(Runstate::Inflight { since: 1 }, true, false),
            "inflight suspend"
        );
        assert_eq!(states(Runstate::Offline, false, false), "offline");
    }

    #[test]
    fn all_that_is_asked_for_must_hold_and_one_of_a_list() {
        let selection = Selection {
            senders: vec!["nobody".parse().unwrap(), "alice".parse().unwrap()],
            agents: vec![Agent::Mta, Agent::Mda],
            tags: vec!["subm".parse().unwrap()],
            limit: Some(0),
            ..Selection::default()
        };
        assert!(selection.matches(&row(), NOW));
        let local = EnvelopeRow {
            agent: Agent::Bounce,
            ..row()
        };
        assert!(!selection.matches(&local, NOW));
        assert!(Selection::default().matches(&row(), NOW));
    }

    #[test]
    fn nothing_is_no_pattern() {
        assert!("".parse::<NamePattern>().is_err());
        assert!("".parse::<AddressPattern>().is_err());
        assert!("".parse::<ErrorPattern>().is_err());
    }
}
