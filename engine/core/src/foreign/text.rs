//! `key: value` lines.
//!
//! Promises: every key is one that its format knows; the last of a repeated key counts, as in the
//! reference; no text holds a control character, but the error text, which is shown escaped.
//! Fails: with the line or key.

use super::{Flaw, Format, NAME_MAX};
use std::collections::BTreeMap;

const BOTH: &[&str] = &[
    "version",
    "tag",
    "type",
    "smtpname",
    "helo",
    "hostname",
    "errorline",
    "sockaddr",
    "sender",
    "rcpt",
    "dest",
    "ctime",
    "last-try",
    "last-bounce",
    "retry",
    "flags",
    "dsn-notify",
    "dsn-ret",
    "dsn-envid",
    "dsn-orcpt",
    "esc-class",
    "esc-code",
    "mda-user",
    "bounce-delay",
    "bounce-type",
];

const TWO: &[&str] = &[
    "expire",
    "bounce-expire",
    "mda-method",
    "mda-buffer",
    "mda-usertable",
    "mda-delivery-user",
    "mta-relay",
    "mta-relay-auth",
    "mta-relay-cert",
    "mta-relay-ca",
    "mta-relay-source",
    "mta-relay-heloname",
    "mta-relay-helotable",
    "mta-relay-flags",
];

const THREE: &[&str] = &[
    "dispatcher",
    "username",
    "ttl",
    "bounce-ttl",
    "mda-exec",
    "mda-subaddress",
];

/// The lines of an envelope file.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) format: Format,
    values: BTreeMap<&'static str, &'a [u8]>,
}

impl<'a> Fields<'a> {
    /// Splits a file into its lines, each of which must end.
    pub(super) fn parse(file: &'a [u8]) -> Result<Self, Flaw> {
        let mut values: BTreeMap<&'static str, &[u8]> = BTreeMap::new();
        for (number, line) in (1..).zip(file.split_inclusive(|octet| *octet == b'\n')) {
            let flaw = |why: String| Flaw::new(format!("line {number}"), why);
            let Some(line) = line.strip_suffix(b"\n") else {
                return Err(flaw("it does not end: the file is cut short".into()));
            };
            let Some(colon) = line.iter().position(|octet| *octet == b':') else {
                return Err(flaw("no `key: value`".into()));
            };
            let (key, value) = line.split_at(colon);
            let name = String::from_utf8_lossy(key.trim_ascii()).to_ascii_lowercase();
            let mut known = BOTH.iter().chain(TWO).chain(THREE);
            let Some(key) = known.find(|key| **key == name) else {
                let shown: String = name.chars().take(NAME_MAX).collect();
                return Err(flaw(format!("unknown key `{}`", shown.escape_debug())));
            };
            let value = value.get(1..).unwrap_or_default();
            values.insert(key, value.trim_ascii_start());
        }
        let format = match values.get("version") {
            Some(&b"2") => Format::Two,
            Some(&b"3") => Format::Three,
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                let other: String = other.chars().take(NAME_MAX).collect();
                let why = format!("`{}` is neither 2 nor 3", other.escape_debug());
                return Err(Flaw::new("version", why));
            }
            None => {
                return Err(Flaw::new(
                    "version",
                    "missing: not an envelope of OpenSMTPD",
                ));
            }
        };
        let foreign = match format {
            Format::Two => THREE,
            Format::Three => TWO,
        };
        if let Some(key) = foreign.iter().find(|key| values.contains_key(*key)) {
            return Err(Flaw::new(*key, "not a key of this version"));
        }
        Ok(Self { format, values })
    }

    /// The octets of a value, none if it is not given.
    pub(super) fn octets(&self, key: &'static str) -> &'a [u8] {
        self.values.get(key).copied().unwrap_or_default()
    }

    /// A value as text, empty if it is not given, of at most `most` octets.
    pub(super) fn text(&self, key: &'static str, most: usize) -> Result<&'a str, Flaw> {
        let octets = self.octets(key);
        if octets.len() > most {
            return Err(Flaw::new(key, format!("longer than {most} octets")));
        }
        let text = str::from_utf8(octets).map_err(|_| Flaw::new(key, "not UTF-8"))?;
        if text.chars().any(char::is_control) {
            return Err(Flaw::new(key, "it holds a control character"));
        }
        Ok(text)
    }

    /// A name, empty if it is not given.
    pub(super) fn name(&self, key: &'static str) -> Result<&'a str, Flaw> {
        self.text(key, NAME_MAX)
    }

    /// A text that must be there.
    pub(super) fn needed(&self, key: &'static str, most: usize) -> Result<&'a str, Flaw> {
        match self.text(key, most)? {
            "" => Err(Flaw::new(key, "missing")),
            text => Ok(text),
        }
    }

    /// A number of at most `most`, zero if it is not given.
    pub(super) fn number(&self, key: &'static str, most: u64) -> Result<u64, Flaw> {
        let octets = self.octets(key);
        let digits = octets.iter().all(u8::is_ascii_digit);
        let text = str::from_utf8(octets).ok().filter(|_| digits);
        match text {
            Some("") => Ok(0),
            Some(text) => {
                let number: Option<u64> = text.parse().ok().filter(|number| *number <= most);
                number.ok_or_else(|| Flaw::new(key, format!("larger than {most}")))
            }
            None => Err(Flaw::new(key, "not a number")),
        }
    }
}
