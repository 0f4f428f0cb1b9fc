//! Tables: named lists and mappings that rules and actions look things up in.
//!
//! Promises: keys are lower-cased at load and at lookup; the last of equal keys counts; exact keys
//! cost one hash lookup, networks one per prefix length in use, and only keys with a `*` are
//! compared one by one. A table that does not suit its use is refused before it is used.
//! Absent on purpose: files. Whoever owns them hands in their text.
//! Fails: with [`TableFault`], which names the line.

use crate::addr::Source;
use crate::envelope::RelayHost;
use ipnet::IpNet;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::BuildHasherDefault;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

/// Same order of work in every run: the seed is fixed, and the maps are never iterated.
type Fixed = BuildHasherDefault<DefaultHasher>;

/// Whether a table has values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Keys alone.
    List,
    /// Keys with values.
    Mapping,
}

/// What a table is asked for (spec/smtpd.md 1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Keys compared as they are: tags, user names.
    Text,
    /// Domains, with `*`.
    Domain,
    /// Mail addresses: `user@domain`, `@domain`, `user` or `@`.
    Mailaddr,
    /// Networks.
    Netaddr,
    /// Aliases and virtual users: recipient to destinations.
    Alias,
    /// Users outside the system: name to `uid:gid:home`.
    Userinfo,
    /// Smart hosts, as URLs.
    Relayhost,
}

/// A list or mapping held in memory.
#[derive(Clone, Debug)]
pub struct Table {
    shape: Shape,
    entries: Vec<Entry>,
    index: HashMap<Box<str>, usize, Fixed>,
    /// Entries whose key holds a `*`.
    globs: Vec<usize>,
    networks: Networks,
    relays: Vec<RelayHost>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Box<str>,
    value: Box<str>,
    line: usize,
}

/// Why a table cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFault {
    /// Line of the table's text, from 1 on; 0 if the fault concerns all of it.
    pub line: usize,
    /// Octets of the text at fault; empty if the fault concerns all of it.
    pub span: Range<usize>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for TableFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for TableFault {}

impl TableFault {
    fn whole(reason: impl Into<String>) -> Self {
        Self {
            line: 0,
            span: 0..0,
            reason: reason.into(),
        }
    }
}

/// A user outside the system: the value of a `userbase` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Userinfo {
    /// Who its deliveries run as.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
    /// Home directory, absolute.
    pub home: Box<str>,
}

impl Userinfo {
    /// Reads `uid:gid:home`.
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.splitn(3, ':');
        let uid = parts.next()?.trim().parse().ok()?;
        let gid = parts.next()?.trim().parse().ok()?;
        let home = parts.next()?.trim();
        home.starts_with('/').then(|| Self {
            uid,
            gid,
            home: home.into(),
        })
    }
}

impl Table {
    /// Longest key, in octets.
    const KEY_MAX: usize = 1023;

    /// A list.
    pub fn list<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let mut table = Self::empty(Shape::List);
        for key in keys {
            table.push(key, "", 0);
        }
        table
    }

    /// A mapping.
    pub fn mapping<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut table = Self::empty(Shape::Mapping);
        for (key, value) in pairs {
            table.push(key, value, 0);
        }
        table
    }

    /// Reads the text of a table file: one entry per line, comments begin with `#`. The first
    /// entry, or a comment `# @list` before it, decides whether it is a list or a mapping.
    pub fn parse_file(text: &str) -> Result<Self, TableFault> {
        let mut table = Self::empty(Shape::Mapping);
        let mut decided = false;
        let mut offset = 0;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let start = offset;
            offset += line.len();
            let trimmed = line.trim();
            let lead = line.len() - line.trim_start().len();
            let fault = |reason: &str| TableFault {
                line: number + 1,
                span: start + lead..start + lead + trimmed.len(),
                reason: reason.to_owned(),
            };
            if let Some(comment) = trimmed.strip_prefix('#') {
                if !decided && comment.trim() == "@list" {
                    (table.shape, decided) = (Shape::List, true);
                }
                continue;
            }
            if trimmed.is_empty() {
                continue;
            }
            let (key, value) = split_entry(trimmed);
            if !decided {
                decided = true;
                if value.is_empty() && key.len() == trimmed.len() {
                    table.shape = Shape::List;
                }
            }
            let (key, value) = match table.shape {
                Shape::List => (trimmed, ""),
                Shape::Mapping if value.is_empty() => {
                    return Err(fault(
                        "an entry without a value in a table whose first entry has one",
                    ));
                }
                Shape::Mapping => (key, value),
            };
            if key.len() > Self::KEY_MAX {
                return Err(fault("a key longer than 1023 octets"));
            }
            table.push(key, value, number + 1);
        }
        Ok(table)
    }

    /// Whether it has values.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Number of entries, repeated keys included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes the table fit for a use, or says why it cannot be.
    pub fn serve(&mut self, service: Service) -> Result<(), TableFault> {
        match service {
            Service::Text | Service::Domain | Service::Mailaddr => Ok(()),
            Service::Alias => {
                self.require(Shape::Mapping)?;
                self.each(|entry| {
                    if entry.value.to_lowercase().contains(":include:") {
                        return Err("`:include:` is not served by this version".to_owned());
                    }
                    Ok(())
                })
            }
            Service::Userinfo => {
                self.require(Shape::Mapping)?;
                self.each(|entry| match Userinfo::parse(&entry.value) {
                    Some(_) => Ok(()),
                    None => Err(format!(
                        "`{}` is not uid:gid:home with an absolute home",
                        entry.value.escape_debug()
                    )),
                })
            }
            Service::Netaddr => {
                let mut networks = Networks::default();
                self.each(|entry| networks.add(&entry.key))?;
                self.networks = networks;
                Ok(())
            }
            Service::Relayhost => {
                if self.is_empty() {
                    return Err(TableFault::whole(
                        "a table of smart hosts must not be empty",
                    ));
                }
                self.require(Shape::List)?;
                let mut relays = Vec::new();
                self.each(|entry| {
                    let host = super::value::relay_url(&entry.key).map_err(|why| why.message)?;
                    relays.push(host);
                    Ok(())
                })?;
                self.relays = relays;
                Ok(())
            }
        }
    }

    /// Whether the key is there.
    pub fn contains(&self, key: &str) -> bool {
        self.index.contains_key(&*key.to_lowercase())
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&str> {
        let at = *self.index.get(&*key.to_lowercase())?;
        self.entries.get(at).map(|entry| &*entry.value)
    }

    /// Whether a key covers the domain; a `*` in a key stands for any run of characters.
    pub fn matches_domain(&self, domain: &str) -> bool {
        let domain = domain.to_lowercase();
        self.index.contains_key(&*domain) || self.glob_keys().any(|key| glob(key, &domain))
    }

    /// Whether a key covers the mail address (spec/smtpd.md 1.4). A key without the delimiter
    /// covers all sub-addresses of its user.
    pub fn matches_mailaddr(&self, local: &str, domain: &str, delimiter: char) -> bool {
        let local = local.to_lowercase();
        let domain = domain.to_lowercase();
        let base = base(&local, delimiter);
        let exact = |key: &str| self.index.contains_key(key);
        exact(&format!("{local}@{domain}"))
            || exact(&format!("{base}@{domain}"))
            || exact(&format!("@{domain}"))
            || exact(&local)
            || exact(base)
            || exact("@")
            || self.glob_keys().any(|key| {
                key.rsplit_once('@').is_some_and(|(user, pattern)| {
                    (user.is_empty() || user == local || user == base) && glob(pattern, &domain)
                })
            })
    }

    /// Whether a key covers the client's address. The key `local` stands for the local socket.
    pub fn matches_netaddr(&self, source: Source) -> bool {
        match source.ip() {
            None => self.networks.socket,
            Some(ip) => self.networks.contains(ip),
        }
    }

    /// A user of a `userbase` table.
    pub fn userinfo(&self, name: &str) -> Option<Userinfo> {
        self.value(name).and_then(Userinfo::parse)
    }

    /// The smart host for the given turn; they take turns in the order they are written. `None`
    /// if the table does not serve [`Service::Relayhost`].
    pub fn relay(&self, turn: u64) -> Option<&RelayHost> {
        let count = u64::try_from(self.relays.len()).ok()?;
        let at = usize::try_from(turn.checked_rem(count)?).ok()?;
        self.relays.get(at)
    }

    fn empty(shape: Shape) -> Self {
        Self {
            shape,
            entries: Vec::new(),
            index: HashMap::default(),
            globs: Vec::new(),
            networks: Networks::default(),
            relays: Vec::new(),
        }
    }

    fn push(&mut self, key: &str, value: &str, line: usize) {
        let key: Box<str> = key.to_lowercase().into();
        let at = self.entries.len();
        if key.contains('*') {
            self.globs.push(at);
        }
        self.index.insert(key.clone(), at);
        self.entries.push(Entry {
            key,
            value: value.into(),
            line,
        });
    }

    fn glob_keys(&self) -> impl Iterator<Item = &str> {
        let entries = self.globs.iter().filter_map(|at| self.entries.get(*at));
        entries.map(|entry| &*entry.key)
    }

    fn require(&self, shape: Shape) -> Result<(), TableFault> {
        if self.shape == shape {
            return Ok(());
        }
        Err(TableFault::whole(match shape {
            Shape::Mapping => "a mapping is needed here, and this table is a list",
            Shape::List => "a list is needed here, and this table is a mapping",
        }))
    }

    fn each(&self, mut check: impl FnMut(&Entry) -> Result<(), String>) -> Result<(), TableFault> {
        for entry in &self.entries {
            check(entry).map_err(|reason| TableFault {
                line: entry.line,
                span: 0..0,
                reason,
            })?;
        }
        Ok(())
    }
}

/// Key and value of a line; the key ends at a blank or `:`, and may be in brackets.
fn split_entry(line: &str) -> (&str, &str) {
    let searched = match line.strip_prefix('[').and_then(|rest| rest.find(']')) {
        Some(close) => close + 1,
        None => 0,
    };
    let blank = |c: char| c == ':' || c.is_whitespace();
    let end = line.get(searched..).and_then(|rest| rest.find(blank));
    match end.and_then(|end| line.split_at_checked(searched + end)) {
        Some((key, rest)) => {
            let rest = rest.trim_start();
            let value = rest.strip_prefix(':').unwrap_or(rest);
            (key, value.trim())
        }
        None => (line, ""),
    }
}

/// The user without its sub-address.
pub(crate) fn base(local: &str, delimiter: char) -> &str {
    match local.split_once(delimiter) {
        Some((base, _)) if !base.is_empty() => base,
        _ => local,
    }
}

/// Whether the pattern covers all of the text; `*` stands for any run of characters.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        // Taking the earliest place leaves the most for the parts that follow.
        let Some(after) = text.find(part).and_then(|at| text.get(at + part.len()..)) else {
            return false;
        };
        text = after;
    }
    true
}

/// A set of networks, by prefix length.
#[derive(Clone, Debug, Default)]
struct Networks {
    socket: bool,
    inet4: BTreeSet<u8>,
    inet6: BTreeSet<u8>,
    set: HashSet<IpNet, Fixed>,
}

impl Networks {
    /// Adds `local`, an address or a network; IPv6 with or without brackets.
    fn add(&mut self, text: &str) -> Result<(), String> {
        if text == "local" {
            self.socket = true;
            return Ok(());
        }
        let net = network(text)
            .ok_or_else(|| format!("`{}` is not an address or network", text.escape_debug()))?;
        let lengths = match net {
            IpNet::V4(_) => &mut self.inet4,
            IpNet::V6(_) => &mut self.inet6,
        };
        lengths.insert(net.prefix_len());
        self.set.insert(net.trunc());
        Ok(())
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let lengths = match ip {
            IpAddr::V4(_) => &self.inet4,
            IpAddr::V6(_) => &self.inet6,
        };
        lengths
            .iter()
            .any(|length| IpNet::new(ip, *length).is_ok_and(|net| self.set.contains(&net.trunc())))
    }
}

fn network(text: &str) -> Option<IpNet> {
    let plain = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, length) = rest.split_once(']')?;
            let inside = inside.strip_prefix("ipv6:").unwrap_or(inside);
            inside.parse::<Ipv6Addr>().ok()?;
            format!("{inside}{length}")
        }
        None => text.to_owned(),
    };
    match plain.parse::<IpAddr>() {
        Ok(ip) => Some(IpNet::from(ip)),
        Err(_) => plain.parse().ok(),
    }
}
