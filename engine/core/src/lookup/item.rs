//! What an alias or a line of a `.forward` file expands to (spec/smtpd.md 5.1).
//!
//! Promises: reading ends, and each item is one of the five kinds or an error.

use crate::addr::Address;
use crate::reply::{Class, Reply, Status};
use std::fmt;

/// One thing a recipient expands to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Another address, which goes through the rules.
    Address(Address),
    /// A user, who may have aliases.
    Username(Box<str>),
    /// An absolute path to append to.
    File(Box<str>),
    /// A command to feed.
    Command(Box<str>),
    /// A refusal with a reply of its own.
    Error(Reply),
    /// A file of more items.
    Include(Box<str>),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "address {}", address.as_str()),
            Self::Username(name) => write!(f, "user {name}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Command(command) => write!(f, "command {command}"),
            Self::Error(reply) => write!(f, "error {reply}"),
            Self::Include(path) => write!(f, "include {path}"),
        }
    }
}

/// Longest list, in octets.
pub(super) const LIST_MAX: usize = 2047;

/// Reads a comma-separated list; `None` if a part of it is not an item.
pub(super) fn list(text: &str) -> Option<Vec<Item>> {
    if text.len() > LIST_MAX {
        return None;
    }
    let words = split(text)?;
    words.iter().map(|word| item(word)).collect()
}

/// Reads the text of a `.forward` file: one list a line, comments begin with `#`.
pub(super) fn file(text: &str) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            items.extend(list(line)?);
        }
    }
    Some(items)
}

/// Splits at commas outside quotes. A backslash takes the next character as it is; quotes are
/// removed.
fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => word.push(chars.next()?),
            (',', None) => words.push(std::mem::take(&mut word)),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, _) => word.push(c),
        }
    }
    words.push(word);
    let words = words.into_iter().map(|word| word.trim().to_owned());
    let words = words.filter(|word| !word.is_empty()).collect();
    quote.is_none().then_some(words)
}

fn item(word: &str) -> Option<Item> {
    let bare = word.strip_prefix(':').unwrap_or(word);
    if let Some(text) = strip_word(bare, "error:") {
        return error(text).map(Item::Error);
    }
    if let Some(path) = strip_word(bare, "include:") {
        return path.starts_with('/').then(|| Item::Include(path.into()));
    }
    if let Some(command) = word.strip_prefix('|') {
        let command = command.trim();
        return (!command.is_empty()).then(|| Item::Command(command.into()));
    }
    if word.starts_with('/') {
        return Some(Item::File(word.into()));
    }
    if word.contains('@') {
        return word.parse().ok().map(Item::Address);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-+".contains(c);
    (!word.is_empty() && word.chars().all(allowed))
        .then(|| Item::Username(word.to_lowercase().into()))
}

fn strip_word<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let (head, tail) = text.split_at_checked(word.len())?;
    head.eq_ignore_ascii_case(word).then(|| tail.trim())
}

/// `4xx text` or `5xx text`, the text perhaps with an enhanced status.
fn error(text: &str) -> Option<Reply> {
    let (code, text) = text.split_once(' ')?;
    let valid = code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit());
    let code: u16 = code.parse().ok().filter(|_| valid)?;
    let class = match code / 100 {
        4 => Class::Transient,
        5 => Class::Permanent,
        _ => return None,
    };
    let text = text.trim();
    let (status, text) = match Status::split_from(text) {
        Some((status, rest)) if status.class == class => (status, rest.trim()),
        _ => (Status::new(class, 2, 1), text),
    };
    (!text.is_empty()).then(|| Reply::new(code, Some(status), text.to_owned()))
}
