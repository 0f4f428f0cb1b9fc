//! Mail addresses as envelopes carry them.
//!
//! An [`Address`] is either null (the sender of notices) or a valid `local@domain`; the one
//! exception is the user an LMTP server is asked for ([`Address::of_user`]), which has no domain
//! and is never read back. There is no way to make one that holds a control character.

use email_address::{EmailAddress, Options};
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A return path or recipient: null, or `local@domain`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address {
    text: Box<str>,
    at: u16,
}

/// Why a text is not an address; the text says what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAddress(String);

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidAddress {}

impl Address {
    /// The null address, `<>` on the wire and `@` in listings.
    pub fn null() -> Self {
        Self::default()
    }

    /// Whether this is the null address.
    pub fn is_null(&self) -> bool {
        self.text.is_empty()
    }

    /// The part before the last `@`; empty for the null address.
    pub fn local(&self) -> &str {
        self.text.get(..usize::from(self.at)).unwrap_or_default()
    }

    /// The part after the last `@`; empty for the null address.
    pub fn domain(&self) -> &str {
        self.text
            .get(usize::from(self.at) + 1..)
            .unwrap_or_default()
    }

    /// `local@domain`; empty for the null address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether all of it is ASCII, so that it needs no SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// A user of an LMTP server, whose RCPT takes a bare name (`<name>`). The name must be a valid
    /// local part.
    pub fn of_user(name: &str) -> Result<Self, InvalidAddress> {
        let address = Self::from_parts(name, "localhost")?;
        Ok(Self {
            text: name.into(),
            at: address.at,
        })
    }

    /// Puts an address together from its parts, which must form a valid one.
    pub fn from_parts(local: &str, domain: &str) -> Result<Self, InvalidAddress> {
        format!("{local}@{domain}").parse()
    }

    /// Reads an address of whatever kind.
    fn any(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = |why: &str| InvalidAddress(format!("{why}: {}", text.escape_debug()));
        if text.chars().any(char::is_control) {
            return Err(invalid("control character in address"));
        }
        let options = Options::default()
            .without_display_text()
            .with_domain_literal()
            .with_no_minimum_sub_domains();
        EmailAddress::parse_with_options(text, options)
            .map_err(|why| invalid(&why.to_string().to_lowercase()))?;
        let at = text.rfind('@').and_then(|at| u16::try_from(at).ok());
        let at = at.ok_or_else(|| invalid("no domain"))?;
        let domain = text.get(usize::from(at) + 1..).unwrap_or_default();
        if !is_domain(domain) && !is_literal(domain) {
            return Err(invalid("not a host name or address literal behind the @"));
        }
        Ok(Self {
            text: text.into(),
            at,
        })
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    /// Reads `local@domain` (RFC 5321 section 4.1.2: dot-string or quoted local part, host name or
    /// address literal), or the empty text for the null address. No angle brackets.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if text.is_empty() {
            return Ok(Self::null());
        }
        if let Some(at) = plain(text) {
            return Ok(Self {
                text: text.into(),
                at,
            });
        }
        Self::any(text)
    }
}

/// Where the `@` is in an address of the usual kind: words of letters and digits with dots between
/// them, in front also `+`, `-`, `=` and `_`, behind also hyphens within words. Nothing more need be
/// asked of these, and a listing of a million envelopes reads three million of them.
fn plain(text: &str) -> Option<u16> {
    let (local, domain) = text.split_once('@')?;
    let mark = |octet| matches!(octet, b'+' | b'-' | b'=' | b'_');
    let fits = local.len() <= LOCAL_MOST && domain.len() <= DOMAIN_MOST;
    let sound =
        fits && local.split('.').all(|word| {
            !word.is_empty() && word.bytes().all(|o| o.is_ascii_alphanumeric() || mark(o))
        }) && domain.split('.').all(|word| {
            (1..=LABEL_MOST).contains(&word.len())
                && !word.starts_with('-')
                && !word.ends_with('-')
                && word.bytes().all(|o| o.is_ascii_alphanumeric() || o == b'-')
        });
    u16::try_from(local.len()).ok().filter(|_| sound)
}

/// Octets of a local part, of a domain and of a label (RFC 5321 section 4.5.3.1, RFC 1035).
const LOCAL_MOST: usize = 64;
const DOMAIN_MOST: usize = 253;
const LABEL_MOST: usize = 63;

/// Whether a text can be a domain: letters, digits, hyphens and dots, and the underscores that
/// some hosts have. Domains become parts of paths and of other servers' commands.
fn is_domain(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

/// Whether a text is an address literal (RFC 5321 section 4.1.3): `[192.0.2.1]` or
/// `[IPv6:2001:db8::1]`.
pub fn is_literal(text: &str) -> bool {
    let inside = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    inside.is_some_and(|inside| match inside.split_at_checked(5) {
        Some((tag, ip)) if tag.eq_ignore_ascii_case("IPv6:") => ip.parse::<Ipv6Addr>().is_ok(),
        _ => inside.parse::<Ipv4Addr>().is_ok(),
    })
}

impl fmt::Display for Address {
    /// As listings show it: `local@domain`, the null address as `@`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_null() { "@" } else { &self.text })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

/// A text with some characters as `\x{HEX}`: addresses beyond ASCII in ASCII (RFC 6533 section 3).
pub(crate) fn embedded(text: &str, embed: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if embed(c) {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Where a submission came from, as envelopes record it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Through the daemon itself: the control socket, or the bounce agent.
    Local,
    /// An IPv4 client.
    Inet4(Ipv4Addr),
    /// An IPv6 client.
    Inet6(Ipv6Addr),
}

impl Source {
    /// The family word of listings: `local`, `inet4` or `inet6`.
    pub const fn family(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Inet4(_) => "inet4",
            Self::Inet6(_) => "inet6",
        }
    }

    /// The network address, unless local.
    pub const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Local => None,
            Self::Inet4(ip) => Some(IpAddr::V4(ip)),
            Self::Inet6(ip) => Some(IpAddr::V6(ip)),
        }
    }
}

impl From<IpAddr> for Source {
    /// An IPv4-mapped IPv6 address is the IPv4 address it maps.
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::Inet4(ip),
            IpAddr::V6(ip) => Self::Inet6(ip),
        }
    }
}

impl fmt::Display for Source {
    /// `local`, `192.0.2.1` or `[2001:db8::1]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Inet4(ip) => ip.fmt(f),
            Self::Inet6(ip) => write!(f, "[{ip}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_an_address_without_a_domain() {
        let user = Address::of_user("john.doe").unwrap();
        assert_eq!(user.as_str(), "john.doe");
        assert_eq!((user.local(), user.domain()), ("john.doe", ""));
        assert!(!user.is_null());
        for name in ["", "a b", "a@b", "a>", "a\r\nRSET"] {
            assert!(Address::of_user(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn addresses_split_at_the_last_at() {
        let address: Address = "\"a@b\"@example.org".parse().unwrap();
        assert_eq!(
            (address.local(), address.domain()),
            ("\"a@b\"", "example.org")
        );
        assert_eq!(Address::null().to_string(), "@");
    }

    #[test]
    fn only_addresses_are_accepted() {
        for good in [
            "a@b",
            "a+tag@example.org",
            "a@[192.0.2.1]",
            "a@[IPv6:::1]",
            "!#$%@b.c",
        ] {
            assert!(good.parse::<Address>().is_ok(), "{good}");
        }
        for bad in [
            "a",
            "@b",
            "a@",
            "a b@c",
            "Foo <a@b.c>",
            "a@b\r\nRCPT TO:<c@d>",
            "a@b\0",
            "a..b@c",
            "a@b,c@d",
            "a@b/../c",
            "a@b%c",
            "a@[300.0.2.1]",
            "a@[x]",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_plain_address_is_one_for_the_library_too(
            text in "[aZ09+=_.-]{0,66}@([aZ09.-]{0,12}|[a0]{60,66}|([a0]{60}[.]){3,5}[a-]{0,30})"
        ) {
            if let Some(at) = plain(&text) {
                let want = Address { text: text.as_str().into(), at };
                proptest::prop_assert_eq!(Address::any(&text), Ok(want), "{}", text);
            }
        }
    }

    #[test]
    fn usual_addresses_are_plain_and_odd_ones_are_not() {
        for text in ["a@b", "john.doe+tag@mail.example.org", "x_y=z-1@0a-b.c"] {
            assert!(plain(text).is_some(), "{text}");
        }
        for text in [
            "a@", "@b", "a.@b", ".a@b", "a..b@c", "a@b.", "a@-b", "a@b-", "a@b@c", "a@[x]",
            "\u{e9}@b", "a b@c",
        ] {
            assert!(plain(text).is_none(), "{text}");
        }
    }

    #[test]
    fn mapped_clients_count_as_ipv4() {
        let source = Source::from("::ffff:192.0.2.1".parse::<IpAddr>().unwrap());
        assert_eq!(
            (source.family(), source.to_string()),
            ("inet4", "192.0.2.1".into())
        );
    }
}
