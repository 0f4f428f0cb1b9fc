//! Policies and their announcements, as they are written (RFC 8461 section 3).
//!
//! Promises: arbitrary text is taken; what is written out is read back as the same policy.
//! Fails: with the first thing that makes no sense.

use std::fmt;
use std::time::Duration;

/// The longest life of a policy; who asks for more gets it (section 3.2).
const AGE_MAX: u64 = 31_557_600;

/// What stands in front of every announcement and policy.
const VERSION: &str = "STSv1";

/// What is to happen with hosts that do not suit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They get no mail.
    Enforce,
    /// Nothing, but their domain wants to know.
    Testing,
    /// Nothing; the domain takes its policy back.
    None,
}

impl Mode {
    /// The word of policies.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }

    fn named(word: &str) -> Option<Self> {
        let all = [Self::Enforce, Self::Testing, Self::None];
        all.into_iter().find(|mode| mode.word() == word)
    }
}

/// A domain's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What is to happen.
    pub mode: Mode,
    /// Names of exchangers in lower case; `*.` in front stands for one label.
    patterns: Vec<Box<str>>,
    /// How long it may be kept.
    pub max_age: Duration,
}

/// Why a text is not a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyError(&'static str);

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a policy: {}", self.0)
    }
}

impl std::error::Error for PolicyError {}

impl Policy {
    /// Reads a policy with at most so many patterns. Of fields that are there twice the first one
    /// counts; fields nobody knows are left to those who do (section 3.2).
    pub fn parse(text: &str, most: usize) -> Result<Self, PolicyError> {
        let (mut version, mut mode, mut max_age) = (None, None, None);
        let mut patterns = Vec::new();
        for line in text.split('\n') {
            let line = line.trim_end_matches(['\r', ' ', '\t']);
            if line.is_empty() {
                continue;
            }
            let field = line.split_once(':');
            let (name, value) = field.ok_or(PolicyError("a line is not a field"))?;
            let value = value.trim_start_matches([' ', '\t']);
            match name {
                "version" => {
                    version.get_or_insert(value);
                }
                "mode" => {
                    mode.get_or_insert(value);
                }
                "max_age" => {
                    max_age.get_or_insert(value);
                }
                "mx" if patterns.len() == most => return Err(PolicyError("too many exchangers")),
                "mx" => {
                    let exchanger = pattern(value);
                    patterns.push(exchanger.ok_or(PolicyError("an exchanger is not a name"))?);
                }
                _ => {}
            }
        }
        if version != Some(VERSION) {
            return Err(PolicyError("no version that is known"));
        }
        let mode = mode.and_then(Mode::named);
        let mode = mode.ok_or(PolicyError("no mode that is known"))?;
        let max_age = max_age.and_then(seconds);
        let max_age = max_age.ok_or(PolicyError("no lifetime"))?;
        if patterns.is_empty() && mode != Mode::None {
            return Err(PolicyError("no exchanger"));
        }
        Ok(Self {
            mode,
            patterns,
            max_age,
        })
    }

    /// Whether an exchanger is among those it names (section 4.1).
    pub fn names(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let parent = host.split_once('.').map(|(_, parent)| parent);
        let names = |pattern: &str| match pattern.strip_prefix("*.") {
            Some(suffix) => parent == Some(suffix),
            None => pattern == host,
        };
        self.patterns.iter().any(|pattern| names(pattern))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version: {VERSION}\nmode: {}", self.mode.word())?;
        for pattern in &self.patterns {
            writeln!(f, "mx: {pattern}")?;
        }
        writeln!(f, "max_age: {}", self.max_age.as_secs())
    }
}

fn pattern(text: &str) -> Option<Box<str>> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    is_host_name(name).then(|| text.to_ascii_lowercase().into())
}

/// Whether this is a name as hosts have them; nothing else comes into the address of a policy.
pub(super) fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        let octets = label.bytes();
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && octets
                .into_iter()
                .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn seconds(text: &str) -> Option<Duration> {
    let digits = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let seconds: u64 = text.parse().ok().filter(|_| digits)?;
    Some(Duration::from_secs(seconds.min(AGE_MAX)))
}

/// The id of the policy that a domain's TXT records announce, or why they announce none
/// (section 3.1).
pub fn announced<'t>(records: impl IntoIterator<Item = &'t str>) -> Result<&'t str, &'static str> {
    let ours = |record: &'t str| {
        let rest = record.strip_prefix("v=")?.strip_prefix(VERSION)?;
        rest.trim_start_matches([' ', '\t']).strip_prefix(';')
    };
    let mut records = records.into_iter().filter_map(ours);
    let record = records.next().ok_or("none is published")?;
    if records.next().is_some() {
        return Err("several are announced");
    }
    let fields = record
        .split(';')
        .map(|field| field.trim_matches([' ', '\t']));
    let mut ids = fields.filter_map(|field| field.strip_prefix("id="));
    let id = ids.next().ok_or("the announcement has no id")?;
    if (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        Ok(id)
    } else {
        Err("the announcement has no id")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text, 3)
    }

    #[test]
    fn a_policy_is_read() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\n\
                    mx: *.example.net\r\nmx: backupmx.example.com\r\nmax_age: 604800\r\n";
        let policy = parse(text).unwrap();
        assert_eq!(policy.mode, Mode::Enforce);
        assert_eq!(policy.max_age, Duration::from_hours(168));
        assert_eq!(policy.to_string(), text.replace('\r', ""));
        assert_eq!(parse(&policy.to_string()), Ok(policy));
    }

    #[test]
    fn names_are_matched_as_a_whole_and_stars_stand_for_one_label() {
        let policy =
            parse("version:STSv1\nmode:testing\nmx:MX.a.test\nmx:*.b.test\nmax_age:1").unwrap();
        for host in ["mx.a.test", "MX.A.test.", "one.b.test", "two.B.test"] {
            assert!(policy.names(host), "{host}");
        }
        for host in [
            "a.test",
            "x.mx.a.test",
            "b.test",
            ".b.test.c",
            "a.one.b.test",
            "oneb.test",
            "*",
            "",
        ] {
            assert!(!policy.names(host), "{host}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_makes_no_policy() {
        let good = "version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 10\n";
        let check = |from: &str, to: &str, why: &str| {
            let text = good.replace(from, to);
            let error = parse(&text).unwrap_err().to_string();
            assert_eq!(error, format!("not a policy: {why}"), "{text}");
        };
        check("version: STSv1", "", "no version that is known");
        check("STSv1", "STSv2", "no version that is known");
        check("mode: enforce", "", "no mode that is known");
        check("enforce", "Enforce", "no mode that is known");
        check("mx: a.test", "", "no exchanger");
        check("a.test", "a..test", "an exchanger is not a name");
        check("a.test", "*", "an exchanger is not a name");
        check("a.test", "a.*.test", "an exchanger is not a name");
        check("a.test", "a.test b.test", "an exchanger is not a name");
        check("max_age: 10", "", "no lifetime");
        for age in ["", "-1", "+1", "1.5", "10000000000", "0x1"] {
            check("max_age: 10", &format!("max_age: {age}"), "no lifetime");
        }
        check("mode: enforce", "mode enforce", "a line is not a field");
        check(
            "mx: a.test",
            "mx: a.test\nmx: a.test\nmx: b.test\nmx: c.test",
            "too many exchangers",
        );
    }

    #[test]
    fn what_may_vary_does() {
        let mode_none = "max_age: 0\nversion: STSv1\n\nunknown: x\nmode:\tnone \t\nmode: enforce";
        let policy = parse(mode_none).unwrap();
        assert_eq!((policy.mode, policy.max_age), (Mode::None, Duration::ZERO));
        assert!(!policy.names("a.test"));
        let long = "version: STSv1\nmode: testing\nmx: a.test\nmax_age: 9999999999\n";
        assert_eq!(parse(long).unwrap().max_age.as_secs(), AGE_MAX);
    }

    #[test]
    fn one_announcement_has_one_id() {
        let check = |records: &[&str], want| assert_eq!(announced(records.iter().copied()), want);
        check(&["v=STSv1; id=20160831085700Z;"], Ok("20160831085700Z"));
        check(&["v=STSv1 ;a=b;id=1"], Ok("1"));
        check(&["other", "v=STSv1;id=1", "v=STSv10; id=2"], Ok("1"));
        check(&[], Err("none is published"));
        check(
            &["v=STSv2; id=1", "V=STSv1; id=1"],
            Err("none is published"),
        );
        check(
            &["v=STSv1; id=1", "v=STSv1; id=1"],
            Err("several are announced"),
        );
        let long = format!("v=STSv1; id={}", "1".repeat(33));
        for record in ["v=STSv1;", "v=STSv1; id=", "v=STSv1; id=a-b", &long] {
            check(&[record], Err("the announcement has no id"));
        }
    }
}
