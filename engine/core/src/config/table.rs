//! Tables: named lists and mappings that rules and actions look things up in.
//!
//! Promises: keys are lower-cased at load and at lookup; the last of equal keys counts; exact keys
//! cost one hash lookup, networks one per prefix length in use, and only keys with a `*` are
//! compared one by one. A table that does not suit its use is refused before it is used.
//! Absent on purpose: files. Whoever owns them hands in their text.
//! Fails: with [`TableFault`], which names the line.

use super::crypt::Scheme;
use crate::addr::Source;
use crate::envelope::RelayHost;
use crate::hash::Fixed;
use ipnet::IpNet;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

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
    /// Local addresses to connect from.
    Source,
    /// Names for EHLO by local address.
    Heloname,
    /// What we authenticate with at other hosts: label to `user:password`.
    Secret,
    /// Hashed passwords by user, for clients that authenticate.
    Passwords,
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
    addresses: Vec<IpAddr>,
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

/// A name and its password. Shown without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Who.
    pub user: Box<str>,
    /// Proof of it.
    pub password: Box<str>,
}

impl Secret {
    /// Longest `user:password`, in octets, so that the command to authenticate with, in base64,
    /// fits into the 12288 octets that RFC 4954 section 4 allows.
    const MAX: usize = 4096;

    /// Reads `user:password`. Control characters are in neither; RFC 4616 section 2 rules NUL out.
    fn parse(value: &str) -> Option<Self> {
        let (user, password) = value.split_once(':')?;
        let fits = value.len() <= Self::MAX && !value.contains(char::is_control);
        (fits && !user.is_empty() && !password.is_empty()).then(|| Self {
            user: user.into(),
            password: password.into(),
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = &self.user;
        f.debug_struct("Secret")
            .field("user", user)
            .finish_non_exhaustive()
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
            Service::Source => {
                self.require(Shape::List)?;
                let mut addresses = Vec::new();
                self.each(|entry| {
                    addresses.push(address(&entry.key)?);
                    Ok(())
                })?;
                self.addresses = addresses;
                Ok(())
            }
            Service::Heloname => {
                self.require(Shape::Mapping)?;
                self.each(|entry| address(&entry.key).map(drop))
            }
            Service::Passwords => {
                self.require(Shape::Mapping)?;
                // The value is not shown: it may be a password in clear.
                self.each(|entry| match Scheme::of(&entry.value) {
                    Some(_) => Ok(()),
                    None => Err(format!(
                        "the value of `{}` is not a hashed password that can be checked here",
                        entry.key.escape_debug()
                    )),
                })
            }
            Service::Secret => {
                self.require(Shape::Mapping)?;
                self.each(|entry| match Secret::parse(&entry.value) {
                    Some(_) => Ok(()),
                    None => Err(format!(
                        "the value of `{}` is not user:password",
                        entry.key.escape_debug()
                    )),
                })
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

    /// All smart hosts; none if the table does not serve [`Service::Relayhost`].
    pub fn relays(&self) -> &[RelayHost] {
        &self.relays
    }

    /// Local addresses to connect from; none if the table does not serve [`Service::Source`].
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The hashed password of a user. For one who is not there, that of another, so that the
    /// answer takes as long; with whether it is the user's own. `None` if there is none at all.
    pub fn password(&self, user: &str) -> Option<(&str, bool)> {
        match self.value(user) {
            Some(own) => Some((own, true)),
            None => self.entries.first().map(|entry| (&*entry.value, false)),
        }
    }

    /// The name for EHLO when connecting from this address.
    pub fn heloname(&self, source: IpAddr) -> Option<&str> {
        let plain = self.value(&source.to_string());
        plain.or_else(|| self.value(&format!("[{source}]")))
    }

    /// What to authenticate with, by label.
    pub fn secret(&self, label: &str) -> Option<Secret> {
        self.value(label).and_then(Secret::parse)
    }

    fn empty(shape: Shape) -> Self {
        Self {
            shape,
            entries: Vec::new(),
            index: HashMap::default(),
            globs: Vec::new(),
            networks: Networks::default(),
            relays: Vec::new(),
            addresses: Vec::new(),
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
            if let Some(value) = rest.strip_prefix(':') {
                return (key, value.trim());
            }
            let rest = rest.trim_start();
            // Behind a blank a colon that is followed by none begins the value: `:include:`.
            let colon = rest.strip_prefix(':');
            let colon =
                colon.filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
            (key, colon.unwrap_or(rest).trim())
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
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
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

/// An address, IPv6 with or without brackets.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let inner = inner.map(|inner| inner.strip_prefix("ipv6:").unwrap_or(inner));
    let parsed = inner.unwrap_or(text).parse();
    parsed.map_err(|_| format!("`{}` is not an address", text.escape_debug()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
        let table = Table::parse_file(text).map_err(|fault| fault.to_string())?;
        let entry = |entry: &Entry| (entry.key.to_string(), entry.value.to_string());
        Ok(table.entries.iter().map(entry).collect())
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn secrets_are_users_with_passwords() {
        let mut table = Table::mapping([("me", "user@example:pass:word")]);
        table.serve(Service::Secret).unwrap();
        let secret = table.secret("ME").unwrap();
        assert_eq!(
            (&*secret.user, &*secret.password),
            ("user@example", "pass:word")
        );
        assert!(!format!("{secret:?}").contains("word"), "shown");
        assert_eq!(table.secret("you"), None);
        for bad in ["user", ":word", "user:", "us\0er:word", "user:wo\trd"] {
            let mut table = Table::mapping([("me", bad)]);
            let why = table.serve(Service::Secret).unwrap_err();
            assert_eq!(why.reason, "the value of `me` is not user:password");
        }
    }

    #[test]
    fn a_colon_ends_the_key_or_stands_between_blanks() {
        for line in [
            "info: bob",
            "info:bob",
            "info bob",
            "info : bob",
            "info  :\tbob",
        ] {
            assert_eq!(split_entry(line), ("info", "bob"), "{line}");
        }
        assert_eq!(split_entry("info :"), ("info", ""));
        let include = ("info", ":include:/etc/list");
        assert_eq!(split_entry("info :include:/etc/list"), include);
        assert_eq!(split_entry("info: :include:/etc/list"), include);
    }

    #[test]
    fn the_first_entry_of_a_file_decides_its_shape() {
        let mapping = "# aliases\n\n Root:\tbob, alice \nbob  bob@example.org\n[::1]: x\na :b";
        let want = [
            pair("root", "bob, alice"),
            pair("bob", "bob@example.org"),
            pair("[::1]", "x"),
            pair("a", ":b"),
        ];
        assert_eq!(pairs(mapping).unwrap(), want);
        let list = "example.org\r\nexample.net other\n";
        let want = [pair("example.org", ""), pair("example.net other", "")];
        assert_eq!(pairs(list).unwrap(), want);
        let marked = "# @list\na b\n";
        assert_eq!(pairs(marked).unwrap(), [pair("a b", "")]);
        assert_eq!(pairs("").unwrap(), []);
        assert_eq!(
            Table::parse_file("# none\n").unwrap().shape(),
            Shape::Mapping
        );
    }

    #[test]
    fn a_missing_value_is_reported_with_its_line() {
        let fault = Table::parse_file("a: b\n# c\n  d \n").unwrap_err();
        assert_eq!((fault.line, fault.span), (3, 11..12));
        assert!(pairs("a: b\nc:\n").unwrap_err().starts_with("line 2: "));
        let long = format!("{}: b\n", "a".repeat(1024));
        assert!(pairs(&long).is_err());
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let table = Table::mapping([("a", "1"), ("A", "2")]);
        assert_eq!((table.value("a"), table.value("b")), (Some("2"), None));
    }

    #[test]
    fn domains_are_matched_with_globs() {
        let table = Table::list(["Example.org", "*.example.net", "mail*.a.*"]);
        let check = |domain, want| assert_eq!(table.matches_domain(domain), want, "{domain}");
        check("EXAMPLE.ORG", true);
        check("a.example.org", false);
        check("a.b.example.net", true);
        check("example.net", false);
        check("mail17.a.b", true);
        check("mail.b.a.c", true);
        check("mail.b", false);
        check("", false);
        assert!(Table::list(["*"]).matches_domain(""));
    }

    #[test]
    fn mail_addresses_are_matched_by_user_domain_or_both() {
        let table = Table::list(["a@x.org", "b+t@x.org", "@y.org", "c", "d@*.z.org"]);
        let check = |local, domain, want| {
            assert_eq!(
                table.matches_mailaddr(local, domain, '+'),
                want,
                "{local}@{domain}"
            );
        };
        check("a", "x.org", true);
        check("A+tag", "X.org", true);
        check("b+t", "x.org", true);
        check("b", "x.org", false);
        check("b+u", "x.org", false);
        check("anybody", "y.org", true);
        check("c+tag", "w.org", true);
        check("d", "q.z.org", true);
        check("e", "q.z.org", false);
        check("", "", false);
        assert!(Table::list(["@"]).matches_mailaddr("", "", '+'));
    }

    #[test]
    fn networks_are_matched_by_prefix() {
        let mut table = Table::list([
            "192.0.2.0/24",
            "10.1.2.3",
            "[2001:db8::]/32",
            "::1",
            "local",
        ]);
        table.serve(Service::Netaddr).unwrap();
        let check = |ip: &str, want| {
            let source = Source::from(ip.parse::<IpAddr>().unwrap());
            assert_eq!(table.matches_netaddr(source), want, "{ip}");
        };
        check("192.0.2.255", true);
        check("192.0.3.0", false);
        check("10.1.2.3", true);
        check("10.1.2.4", false);
        check("::ffff:10.1.2.3", true);
        check("2001:db8:ffff::1", true);
        check("2001:db9::1", false);
        check("::1", true);
        assert!(table.matches_netaddr(Source::Local));
        for bad in ["192.0.2.0/33", "[192.0.2.1]", "example.org", "[::1", ""] {
            assert!(Table::list([bad]).serve(Service::Netaddr).is_err(), "{bad}");
        }
    }

    #[test]
    fn smart_hosts_take_turns() {
        let mut table = Table::list(["a:1", "b:2", "c:3"]);
        assert_eq!(table.relay(0), None);
        table.serve(Service::Relayhost).unwrap();
        let port = |turn| table.relay(turn).map(|relay| relay.port);
        assert_eq!([port(0), port(1), port(5)], [Some(1), Some(2), Some(3)]);
        assert!(Table::list([]).serve(Service::Relayhost).is_err());
    }

    #[test]
    fn passwords_are_hashed_and_unknown_users_get_another_s() {
        let hash = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        let mut table = Table::mapping([("Alice", hash)]);
        table.serve(Service::Passwords).unwrap();
        assert_eq!(table.password("alice"), Some((hash, true)));
        assert_eq!(table.password("bob"), Some((hash, false)));
        assert_eq!(Table::mapping([]).password("bob"), None);
        assert!(Table::list(["alice"]).serve(Service::Passwords).is_err());
        let fault = Table::mapping([("alice", "in clear")]).serve(Service::Passwords);
        assert!(!fault.unwrap_err().reason.contains("in clear"));
    }

    #[test]
    fn a_userbase_needs_numbers_and_a_home() {
        let good = "1000: 100:/home/bob:x";
        let want = Userinfo {
            uid: 1000,
            gid: 100,
            home: "/home/bob:x".into(),
        };
        assert_eq!(Userinfo::parse(good), Some(want));
        for bad in [
            "",
            "1000",
            "1000:100",
            "1000:100:",
            "1000:100:home",
            "-1:1:/",
            "x:1:/",
        ] {
            assert_eq!(Userinfo::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_table_or_has_a_fault_in_it(text in "(.|[\n:#* \\[\\]@]){0,200}") {
            match Table::parse_file(&text) {
                Ok(mut table) => {
                    table.matches_domain(&text);
                    table.matches_mailaddr(&text, "x", '+');
                    let _ = table.serve(Service::Netaddr);
                    let _ = table.serve(Service::Relayhost);
                }
                Err(fault) => prop_assert!(text.get(fault.span).is_some()),
            }
        }

        #[test]
        fn a_glob_covers_what_it_was_made_from(parts in prop::collection::vec("[ab.]{0,3}", 1..5)) {
            let pattern = parts.join("*");
            prop_assert!(glob(&pattern, &parts.concat()));
            prop_assert!(glob(&pattern, &parts.join("ab")));
            let longer = format!("{pattern}*z");
            prop_assert!(!glob(&longer, &parts.concat()));
        }
    }
}
