//! SPF records, taken apart into what has to be printed or looked up (RFC 7208 sections 4.6, 5, 6).
//!
//! Promises: every term gives a step, nothing, or a [`Problem`]; names and networks are checked.
//! Absent on purpose: what a term says about one client; a walk wants all clients.

use super::{Network, Problem};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How much of an address counts: of IPv4, of IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefixes {
    four: Option<u8>,
    six: Option<u8>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Print it.
    Network(Network),
    /// Walk through the record of this name.
    Record(String),
    /// Print the addresses of this name.
    Hosts(String, Prefixes),
    /// The same for a name that came with others as one look-up.
    Exchange(String, Prefixes),
    /// Print the addresses of the exchanges of this name.
    Exchanges(String, Prefixes),
    /// A look-up that tells nothing about networks, but counts.
    Idle,
}

impl Prefixes {
    /// An address with as much of it as counts.
    pub(super) fn of(self, address: IpAddr) -> Network {
        let prefix = match address {
            IpAddr::V4(_) => self.four,
            IpAddr::V6(_) => self.six,
        };
        Network::new(address, prefix)
    }
}

/// The terms of a text, if it is an SPF record.
pub(super) fn terms(text: &str) -> Option<impl Iterator<Item = &str>> {
    let (version, terms) = text.split_once(' ').unwrap_or((text, ""));
    let spf = version.eq_ignore_ascii_case("v=spf1");
    spf.then(|| terms.split(' ').filter(|term| !term.is_empty()))
}

/// What a term of the record of `owner` asks for.
pub(super) fn step(term: &str, owner: &str) -> Result<Option<Step>, Problem> {
    // What does not pass, or passes half, is not allowed to send.
    if term.starts_with(['-', '~']) {
        return Ok(None);
    }
    let term = term.strip_prefix(['+', '?']).unwrap_or(term);
    if let Some(name) = argument(term, "redirect=") {
        return named(name).map(Step::Record).map(Some);
    }
    let mechanism_end = term.find([':', '/', '=']).unwrap_or(term.len());
    let (mechanism, rest) = term.split_at(mechanism_end);
    let is = |word: &str| mechanism.eq_ignore_ascii_case(word);
    if is("ip4") || is("ip6") {
        let argument = rest.strip_prefix(':').unwrap_or_default();
        let network = if is("ip4") {
            network::<Ipv4Addr>(argument, 32)
        } else {
            network::<Ipv6Addr>(argument, 128)
        };
        let network = network.ok_or_else(|| Problem::Network(term.to_owned()))?;
        return Ok(Some(Step::Network(network)));
    }
    if is("a") || is("mx") {
        let argument = rest.strip_prefix(':').unwrap_or(rest);
        let name_end = argument.find('/').unwrap_or(argument.len());
        let (name, prefixes) = argument.split_at(name_end);
        let prefixes = prefixes_of(prefixes).ok_or_else(|| Problem::Prefix(term.to_owned()))?;
        let name = if name.is_empty() && !rest.starts_with(':') {
            owner.to_owned()
        } else {
            named(name)?
        };
        let step = if is("a") {
            Step::Hosts
        } else {
            Step::Exchanges
        };
        return Ok(Some(step(name, prefixes)));
    }
    if is("include") {
        let name = rest.strip_prefix(':').unwrap_or_default();
        return named(name).map(Step::Record).map(Some);
    }
    let counts = is("exists") || is("ptr");
    Ok(counts.then_some(Step::Idle))
}

fn argument<'a>(term: &'a str, start: &str) -> Option<&'a str> {
    let (head, tail) = term.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(tail)
}

/// A name that can be asked for, without its final dot, in lower case.
pub(super) fn named(name: &str) -> Result<String, Problem> {
    if name.contains('%') {
        return Err(Problem::Macro(name.to_owned()));
    }
    let bare = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| (1..=63).contains(&label.len());
    let fits = bare.len() <= 253
        && bare.split('.').all(label)
        && !bare.contains(|c: char| c.is_control() || c.is_whitespace());
    if fits {
        Ok(bare.to_ascii_lowercase())
    } else {
        Err(Problem::Name(name.to_owned()))
    }
}

/// A network as written, if it is one.
fn network<A: std::str::FromStr + Into<IpAddr>>(text: &str, most: u8) -> Option<Network> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(length(prefix, most)?)),
        None => (text, None),
    };
    let address: A = address.parse().ok()?;
    Some(Network {
        address: address.into(),
        prefix: prefix.unwrap_or(most),
        text: text.to_owned(),
    })
}

/// `/24`, `//64`, `/24//64`, and `/24/64` as the reference has it.
fn prefixes_of(text: &str) -> Option<Prefixes> {
    let Some(text) = text.strip_prefix('/') else {
        return text.is_empty().then(Prefixes::default);
    };
    let (four, six) = match text.split_once('/') {
        Some((four, six)) => (four, Some(six.strip_prefix('/').unwrap_or(six))),
        None => (text, None),
    };
    let four = match (four, six) {
        ("", Some(_)) => None,
        (four, _) => Some(length(four, 32)?),
    };
    let six = match six {
        Some(six) => Some(length(six, 128)?),
        None => None,
    };
    Some(Prefixes { four, six })
}

fn length(text: &str, most: u8) -> Option<u8> {
    let digits = text.bytes().all(|octet| octet.is_ascii_digit());
    let length = text.parse().ok().filter(|length| *length <= most);
    length.filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(term: &str) -> String {
        match step(term, "own.example") {
            Ok(Some(Step::Network(network))) => network.to_string(),
            Ok(Some(step)) => format!("{step:?}"),
            Ok(None) => String::new(),
            Err(problem) => format!("! {problem}"),
        }
    }

    fn prefixed(four: Option<u8>, six: Option<u8>) -> Prefixes {
        Prefixes { four, six }
    }

    #[test]
    fn networks_stay_as_written() {
        for (term, want) in [
            ("ip4:192.0.2.0/24", "192.0.2.0/24"),
            ("+IP4:203.0.113.20/28", "203.0.113.20/28"),
            ("?ip6:2001:DB8::/32", "2001:DB8::/32"),
            ("ip6:::ffff:192.0.2.1", "::ffff:192.0.2.1"),
            ("ip4:192.0.2.1", "192.0.2.1"),
            ("-ip4:192.0.2.1", ""),
            ("~ip4:192.0.2.1", ""),
            ("ip4:10.9", "! `ip4:10.9` holds no network"),
            ("ip4:192.0.2.0/33", "! `ip4:192.0.2.0/33` holds no network"),
            ("ip4:192.0.2.0/+4", "! `ip4:192.0.2.0/+4` holds no network"),
            ("ip4", "! `ip4` holds no network"),
            ("ip6:192.0.2.1", "! `ip6:192.0.2.1` holds no network"),
        ] {
            assert_eq!(shown(term), want, "{term}");
        }
    }

    #[test]
    fn hosts_may_be_cut() {
        let own = |four, six| Ok(Some(Step::Hosts("own.example".into(), prefixed(four, six))));
        for (term, want) in [
            ("a", own(None, None)),
            ("A/24", own(Some(24), None)),
            ("a//64", own(None, Some(64))),
            ("a/24//64", own(Some(24), Some(64))),
            ("a/24/64", own(Some(24), Some(64))),
            ("a/", Err(Problem::Prefix("a/".into()))),
            ("a/24/", Err(Problem::Prefix("a/24/".into()))),
            ("a/33", Err(Problem::Prefix("a/33".into()))),
            ("a//129", Err(Problem::Prefix("a//129".into()))),
            ("a/24//64/8", Err(Problem::Prefix("a/24//64/8".into()))),
        ] {
            assert_eq!(step(term, "own.example"), want, "{term}");
        }
        let mx = Step::Exchanges("b.example".into(), prefixed(Some(28), None));
        assert_eq!(step("mx:B.example./28", "own.example"), Ok(Some(mx)));
    }

    #[test]
    fn names_are_checked() {
        for (term, want) in [
            ("include:_spf.example", "Record(\"_spf.example\")"),
            ("redirect=other.example", "Record(\"other.example\")"),
            ("include:", "! `` is no name"),
            ("include", "! `` is no name"),
            ("a:", "! `` is no name"),
            ("a:b..c", "! `b..c` is no name"),
            (
                "include:%{d}.example",
                "! `%{d}.example` contains macros and can't be resolved",
            ),
            ("exists:%{i}.example", "Idle"),
            ("ptr", "Idle"),
            ("all", ""),
            ("exp=why.example", ""),
            ("", ""),
        ] {
            assert_eq!(shown(term), want, "{term}");
        }
        assert!(named(&format!("{}.example", "x".repeat(64))).is_err());
        assert!(named(&format!("{}example", "x.".repeat(124))).is_err());
    }

    #[test]
    fn other_texts_are_no_records() {
        for text in [
            "",
            "v=spf10 a",
            "v=spf2 a",
            "spf2.0/pra a",
            " v=spf1 a",
            "v=spf1\ta",
        ] {
            assert!(terms(text).is_none(), "{text}");
        }
        let found: Vec<_> = terms("V=SPF1  a  -all ").unwrap().collect();
        assert_eq!(found, ["a", "-all"]);
        assert_eq!(terms("v=spf1").unwrap().count(), 0);
    }
}
