//! Values inside the words of smtpd.conf: delays, sizes, names, ports, URLs, local destinations.
//!
//! Promises: nothing overflows; each reading gives the value or a [`Fault`] that says what is
//! wrong and how to mend it.

use crate::envelope::{RelayHost, Scheme};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// What is wrong with a value, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) help: &'static str,
}

fn fault(message: impl Into<String>, help: &'static str) -> Fault {
    Fault {
        message: message.into(),
        help,
    }
}

/// A delay: a positive whole number and one of `s`, `m`, `h`, `d`.
pub(super) fn delay(text: &str) -> Result<Duration, Fault> {
    const HELP: &str = "write a whole number and one of s, m, h or d, such as 30m or 4d";
    let bad = || fault(format!("`{}` is not a delay", text.escape_debug()), HELP);
    let unit: u64 = match text.chars().next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(bad()),
    };
    let digits = text.get(..text.len() - 1).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let seconds = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    // The reference counts in an int; longer than 68 years is a typing error anyway.
    match seconds.filter(|seconds| i32::try_from(*seconds).is_ok()) {
        Some(0) => Err(fault("a delay of nothing", HELP)),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(fault(format!("`{text}` is too long a delay"), HELP)),
    }
}

/// A size in octets: a number, with a fraction if a unit of `K M G T P E` follows.
pub(super) fn size(text: &str) -> Result<u64, Fault> {
    const HELP: &str = "write octets, or a number and one of K, M, G, T, P or E, such as 35M";
    let bad = || fault(format!("`{}` is not a size", text.escape_debug()), HELP);
    let shift = match text.chars().next_back().map(|c| c.to_ascii_uppercase()) {
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        Some('P') => 50,
        Some('E') => 60,
        Some('0'..='9') => return text.parse().map_err(|_| bad()),
        _ => return Err(bad()),
    };
    let number = text.get(..text.len() - 1).unwrap_or_default();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if number.is_empty() || number == "." || !digits(whole) || !digits(fraction) {
        return Err(bad());
    }
    let whole = format!("0{whole}").parse::<u128>().map_err(|_| bad())?;
    // Nine digits of a fraction are finer than one octet in a gigabyte.
    let fraction: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let fraction = fraction.parse::<u128>().map_err(|_| bad())?;
    let scaled = whole
        .checked_mul(1_000_000_000)
        .and_then(|whole| whole.checked_add(fraction))
        .and_then(|all| all.checked_mul(1 << shift))
        .and_then(|octets| u64::try_from(octets / 1_000_000_000).ok());
    scaled.ok_or_else(|| fault(format!("`{text}` is too large a size"), HELP))
}

/// A port by number, or by one of the few names that matter to mail.
pub(super) fn port(text: &str) -> Result<u16, Fault> {
    const HELP: &str = "write a number from 1 to 65535, or smtp, submission, smtps or lmtp";
    match text {
        "smtp" => Ok(25),
        "submission" => Ok(587),
        "smtps" | "submissions" => Ok(465),
        "lmtp" => Ok(24),
        _ => match text.parse() {
            Ok(0) | Err(_) => Err(fault(
                format!("`{}` is not a port", text.escape_debug()),
                HELP,
            )),
            Ok(port) => Ok(port),
        },
    }
}

/// A port to listen on; 0 leaves the choice to the system, and the log says which it is.
pub(super) fn listen_port(text: &str) -> Result<u16, Fault> {
    if text == "0" { Ok(0) } else { port(text) }
}

/// Whether the text has the form of a host name (RFC 1123 section 2.1; `_` is tolerated).
pub(super) fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 255 && text.split('.').all(label)
}

/// An address literal in brackets, `[192.0.2.1]` or `[IPv6:2001:db8::1]`, without them.
fn literal(text: &str) -> Option<IpAddr> {
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    let tagged = inside
        .get(..5)
        .filter(|tag| tag.eq_ignore_ascii_case("ipv6:"))
        .and_then(|_| inside.get(5..));
    match tagged {
        Some(inet6) => inet6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => inside.parse().ok(),
    }
}

/// A relay URL, `[scheme://][label@]host[:port]` (spec/smtpd.md 1.3).
pub(super) fn relay_url(url: &str) -> Result<RelayHost, Fault> {
    const FORM: &str = "write smtp://host or smtp://host:port; an IPv6 address goes in brackets";
    const NEW: &str = "this is a scheme of OpenSMTPD before 6.4; today they are smtp, smtp+tls, \
                       smtp+notls, smtps and lmtp";
    let (scheme, rest) = url.split_once("://").unwrap_or(("smtp", url));
    let (scheme, default) = match scheme {
        "smtp" => (Scheme::Smtp, Some(25)),
        "smtp+notls" => (Scheme::SmtpNoTls, Some(25)),
        "lmtp" => (Scheme::Lmtp, None),
        "smtp+tls" => (Scheme::SmtpTls, Some(25)),
        "smtps" => (Scheme::Smtps, Some(465)),
        "tls" | "secure" | "ssl" | "smtp+auth" | "smtps+auth" | "tls+auth" | "secure+auth" => {
            return Err(fault(format!("unknown scheme `{scheme}`"), NEW));
        }
        other => {
            let mut message = String::from("unknown scheme");
            let _ = write!(message, " `{}`", other.escape_debug());
            return Err(fault(message, FORM));
        }
    };
    let (label, rest) = match rest.split_once('@') {
        None => ("", rest),
        Some(_) if !scheme.requires_tls() => {
            return Err(fault(
                format!(
                    "`{}://` takes no label: passwords are sent with TLS only",
                    scheme.word()
                ),
                "write smtp+tls://label@host, or smtps://label@host",
            ));
        }
        Some((label, rest)) if is_label(label) => (label, rest),
        Some((label, _)) => {
            return Err(fault(
                format!("`{}` is not a label of credentials", label.escape_debug()),
                "write a key of the table that `auth` names, in visible ASCII characters",
            ));
        }
    };
    let bracket = rest.rfind(']').unwrap_or(0);
    let colon = rest.get(bracket..).and_then(|tail| tail.rfind(':'));
    let (host, number) = match colon.and_then(|colon| rest.split_at_checked(bracket + colon)) {
        Some((host, number)) => (host, number.get(1..)),
        None => (rest, None),
    };
    let port = match (number, default) {
        (Some(number), _) => port(number)?,
        (None, Some(default)) => default,
        (None, None) => {
            return Err(fault(
                "an LMTP host needs a port",
                "write lmtp://host:port, such as lmtp://localhost:24",
            ));
        }
    };
    let host: Box<str> = match literal(host) {
        Some(ip) => ip.to_string().into(),
        None if is_hostname(host) => host.to_lowercase().into(),
        None => {
            return Err(fault(
                format!("`{}` is not a host name", host.escape_debug()),
                FORM,
            ));
        }
    };
    let label = label.into();
    Ok(RelayHost {
        scheme,
        label,
        host,
        port,
    })
}

/// Whether the text can be the key of credentials.
fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic())
}

/// An LMTP destination: an absolute socket path, or `host[:port]`.
pub(super) fn lmtp_destination(dest: &str) -> Result<(), Fault> {
    if dest.starts_with('/') {
        return Ok(());
    }
    let url = match dest.rsplit_once(':') {
        Some((_, number)) if !number.contains(']') => format!("lmtp://{dest}"),
        _ => format!("lmtp://{dest}:25"),
    };
    relay_url(&url).map(|_| ()).map_err(|_| {
        fault(
            format!("`{}` is not an LMTP server", dest.escape_debug()),
            "write host:port, or the absolute path of a socket in quotes",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_have_one_unit() {
        let check = |text, want: Option<u64>| {
            assert_eq!(delay(text).ok(), want.map(Duration::from_secs), "{text}");
        };
        check("1s", Some(1));
        check("90m", Some(5400));
        check("4h", Some(14_400));
        check("4d", Some(345_600));
        check("24855d", Some(24_855 * 86_400));
        for bad in [
            "", "4", "s", "0d", "-1d", "1d2h", "1.5h", "4D", "24856d", "\u{e9}",
        ] {
            check(bad, None);
        }
        check("99999999999999999999d", None);
    }

    #[test]
    fn sizes_may_have_a_fraction_before_a_unit() {
        let check = |text, want: Option<u64>| assert_eq!(size(text).ok(), want, "{text}");
        check("1000", Some(1000));
        check("35M", Some(36_700_160));
        check("1.5k", Some(1536));
        check(".5G", Some(1 << 29));
        check("15E", Some(15 << 60));
        check("16E", None);
        check("18446744073709551616", None);
        for bad in [
            "",
            "M",
            ".M",
            "1.5",
            "-1",
            "1,5M",
            "35MB",
            "1.5.5M",
            "+1K",
            "35\u{41c}",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn relay_urls_name_a_host_we_can_speak_to() {
        let check = |url, want: Option<(Scheme, &str, u16)>| {
            let got = relay_url(url).ok();
            let got = got
                .as_ref()
                .filter(|relay| relay.label.is_empty())
                .map(|relay| (relay.scheme, &*relay.host, relay.port));
            assert_eq!(got, want, "{url}");
        };
        check("mx.example.org", Some((Scheme::Smtp, "mx.example.org", 25)));
        check(
            "smtp://MX.example.org:2525",
            Some((Scheme::Smtp, "mx.example.org", 2525)),
        );
        check(
            "smtp+notls://[192.0.2.1]",
            Some((Scheme::SmtpNoTls, "192.0.2.1", 25)),
        );
        check(
            "smtp://127.0.0.1:2626",
            Some((Scheme::Smtp, "127.0.0.1", 2626)),
        );
        check(
            "lmtp://[IPv6:2001:db8::1]:24",
            Some((Scheme::Lmtp, "2001:db8::1", 24)),
        );
        check("[2001:db8::1]:26", Some((Scheme::Smtp, "2001:db8::1", 26)));
        check(
            "smtp+tls://mx.example.org",
            Some((Scheme::SmtpTls, "mx.example.org", 25)),
        );
        check("smtps://[::1]", Some((Scheme::Smtps, "::1", 465)));
        for bad in [
            "",
            "smtp://",
            "smtp://a:0",
            "smtp://a:65536",
            "smtp://a:",
            "smtp://2001:db8::1",
            "smtp://[x]",
            "smtp://-a",
            "smtp://label@a",
            "lmtp://a",
            "smtps://@a",
            "smtps://a b@c",
            "smtp+notls://label@a",
            "tls://a",
            "tls+auth://label@a",
            "http://a",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn labels_stand_before_hosts_that_must_have_tls() {
        let labelled = |url| relay_url(url).map(|relay| relay.label.into_string());
        assert_eq!(labelled("smtps://me@a"), Ok("me".into()));
        assert_eq!(labelled("smtp+tls://me:2@[::1]:26"), Ok("me:2".into()));
        let fault = labelled("smtp://me@a").unwrap_err();
        assert!(fault.message.contains("takes no label"), "{fault:?}");
    }

    #[test]
    fn lmtp_servers_are_sockets_or_hosts() {
        for good in [
            "/var/run/lmtp",
            "localhost:24",
            "localhost",
            "[::1]:24",
            "[::1]",
        ] {
            assert_eq!(lmtp_destination(good), Ok(()), "{good}");
        }
        for bad in ["", "var/run/lmtp", "a b", "localhost:x", "localhost:"] {
            assert!(lmtp_destination(bad).is_err(), "{bad}");
        }
    }
}
