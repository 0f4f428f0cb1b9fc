//! The line layer in front of the command parser: where a line ends, and which command it is.
//!
//! Promises: a line ends at CR LF and nowhere else; a line is cut the same way however its octets
//! arrive; nothing longer than the limit is ever waited for; what is handed on as a command is
//! UTF-8 without control characters.
//! Absent on purpose: the meaning of arguments (see [`path`](super::path) and
//! [`extensions`](super::extensions)).

use bytes::{Buf, Bytes};

/// What the start of the input holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A line, without its CR LF; it has been taken off the input.
    Line(Bytes),
    /// A line that ends with LF alone; taken off as well.
    Bare(Bytes),
    /// More than the limit and no end in sight.
    TooLong,
    /// The start of a line, or nothing.
    Partial,
}

/// Takes one line of at most `limit` octets, CR LF apart, off the input.
pub(super) fn cut(input: &mut Bytes, limit: usize) -> Cut {
    let window = limit.saturating_add(2);
    match input.iter().take(window).position(|&octet| octet == b'\n') {
        Some(end) => {
            let mut line = input.split_to(end);
            input.advance(1);
            let whole = line.last() == Some(&b'\r');
            if whole {
                line.truncate(end.saturating_sub(1));
            }
            match whole {
                _ if line.len() > limit => Cut::TooLong,
                true => Cut::Line(line),
                false => Cut::Bare(line),
            }
        }
        None if input.len() >= window => Cut::TooLong,
        None => Cut::Partial,
    }
}

/// The first word of a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Helo,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    Rset,
    Noop,
    Vrfy,
    Help,
    Starttls,
    Auth,
    Quit,
    /// A command we know and do not offer.
    NotOffered,
    /// BDAT (RFC 3030); octets that are no commands follow it.
    Bdat,
    /// A method of HTTP: somebody makes a browser talk to us.
    Http,
    Unknown,
}

const VERBS: [(&str, Verb); 25] = [
    ("MAIL", Verb::Mail),
    ("RCPT", Verb::Rcpt),
    ("DATA", Verb::Data),
    ("RSET", Verb::Rset),
    ("EHLO", Verb::Ehlo),
    ("HELO", Verb::Helo),
    ("QUIT", Verb::Quit),
    ("NOOP", Verb::Noop),
    ("VRFY", Verb::Vrfy),
    ("HELP", Verb::Help),
    ("STARTTLS", Verb::Starttls),
    ("AUTH", Verb::Auth),
    ("EXPN", Verb::NotOffered),
    ("ETRN", Verb::NotOffered),
    ("ATRN", Verb::NotOffered),
    ("BURL", Verb::NotOffered),
    ("LHLO", Verb::NotOffered),
    ("BDAT", Verb::Bdat),
    ("GET", Verb::Http),
    ("POST", Verb::Http),
    ("CONNECT", Verb::Http),
    ("PUT", Verb::Http),
    ("HEAD", Verb::Http),
    ("DELETE", Verb::Http),
    ("OPTIONS", Verb::Http),
];

/// A command line, split.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command<'a> {
    pub(super) verb: Verb,
    /// What follows the first word, without the blanks around it.
    pub(super) argument: &'a str,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A NUL or another control character, CR among them.
    Control,
    /// It is not UTF-8.
    NotUtf8,
}

/// Splits a line into its first word and the rest.
pub(super) fn split(line: &[u8]) -> Result<Command<'_>, Malformed> {
    if line.iter().any(u8::is_ascii_control) {
        return Err(Malformed::Control);
    }
    let text = str::from_utf8(line).map_err(|_| Malformed::NotUtf8)?;
    let (word, argument) = text.split_once(' ').unwrap_or((text, ""));
    let verb = VERBS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word))
        .map_or(Verb::Unknown, |&(_, verb)| verb);
    Ok(Command {
        verb,
        argument: argument.trim_matches(' '),
    })
}

/// What BDAT says of the octets behind it (RFC 3030): how many they are, and whether they are the
/// last. There may be any number of zeros in front; what 64 bits cannot hold is no number.
pub(super) fn chunk(argument: &str) -> Option<(u64, bool)> {
    let mut words = argument.split(' ').filter(|word| !word.is_empty());
    let octets = words.next()?;
    // The standard library takes a sign, too.
    if !octets.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let last = match words.next() {
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return None,
        None => false,
    };
    let size = octets.parse().ok()?;
    words.next().is_none().then_some((size, last))
}

/// Whether a line is BDAT, well-formed or not: a chunk may be behind it.
pub(super) fn announces_chunk(line: &[u8]) -> bool {
    let word = line.split(|octet| !octet.is_ascii_alphanumeric()).next();
    word.is_some_and(|word| word.eq_ignore_ascii_case(b"BDAT"))
}

/// As much of a line as may be logged: of AUTH, which may carry a password, the word alone. Where
/// a password may come for a command, because the client has lost count, what is no command of
/// SMTP is withheld.
pub(super) fn loggable(line: Bytes, confidential: bool) -> Bytes {
    let line_word = line.split(u8::is_ascii_whitespace).next();
    let word = line_word.unwrap_or_default();
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    if is("AUTH") {
        Bytes::from_static(b"AUTH")
    } else if confidential && !VERBS.iter().any(|(name, _)| is(name)) {
        Bytes::from_static(b"(withheld)")
    } else {
        line
    }
}

/// Whether a text is a host name as HELO and reverse DNS give it: labels of letters, digits, `-`
/// and `_` (which RFC 1123 forbids and hosts use).
pub(super) fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
    };
    text.len() <= 255 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_crlf_and_count_without_it() {
        let check = |input: &'static str, want: Cut, rest: &str| {
            let mut input = Bytes::from_static(input.as_bytes());
            assert_eq!(cut(&mut input, 4), want);
            if want != Cut::TooLong {
                assert_eq!(input, rest.as_bytes());
            }
        };
        let line = |text: &'static str| Cut::Line(Bytes::from_static(text.as_bytes()));
        check("NOOP\r\nQUIT\r\n", line("NOOP"), "QUIT\r\n");
        check("\r\n", line(""), "");
        check("a\nb\r\n", Cut::Bare(Bytes::from_static(b"a")), "b\r\n");
        check("a\rb\r\n", line("a\rb"), "");
        check("NOOP\r", Cut::Partial, "NOOP\r");
        check("", Cut::Partial, "");
        check("NOOPX\r\n", Cut::TooLong, "");
        check("NOOPX\n", Cut::TooLong, "");
        check("NOOPXY", Cut::TooLong, "");
    }

    #[test]
    fn verbs_are_known_in_any_case() {
        let check = |line: &[u8], verb, argument| {
            assert_eq!(split(line), Ok(Command { verb, argument }));
        };
        check(b"mAiL FROM:<>  ", Verb::Mail, "FROM:<>");
        check(b"QUIT", Verb::Quit, "");
        check(b"", Verb::Unknown, "");
        check(b"get / HTTP/1.1", Verb::Http, "/ HTTP/1.1");
        assert_eq!(split(b"NOOP \0"), Err(Malformed::Control));
        assert_eq!(split(b"NOOP a\rb"), Err(Malformed::Control));
        assert_eq!(split(b"NOOP \xff"), Err(Malformed::NotUtf8));
    }

    #[test]
    fn chunks_are_counted_without_overflow() {
        for (argument, want) in [
            ("0", Some((0, false))),
            ("0 LAST", Some((0, true))),
            ("29  last", Some((29, true))),
            ("000000000000000000000029", Some((29, false))),
            ("18446744073709551615", Some((u64::MAX, false))),
            ("18446744073709551616", None),
            ("99999999999999999999999999999999", None),
            ("", None),
            ("LAST", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("0x1", None),
            ("1,LAST", None),
            ("1 FIRST", None),
            ("1 LAST LAST", None),
            ("\u{0661}", None),
        ] {
            assert_eq!(chunk(argument), want, "{argument}");
        }
    }

    #[test]
    fn a_chunk_is_expected_behind_whatever_looks_like_bdat() {
        for line in ["BDAT", "bdat 1", "BDAT\t1", "BDAT:1", "Bdat 1\0"] {
            assert!(announces_chunk(line.as_bytes()), "{line}");
        }
        for line in ["", "BDATA 1", "XBDAT", "DATA"] {
            assert!(!announces_chunk(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn no_log_learns_what_auth_was_told() {
        let check = |line: &'static [u8], confidential, want: &'static [u8]| {
            assert_eq!(loggable(Bytes::from_static(line), confidential), want);
        };
        for confidential in [false, true] {
            check(b"AUTH PLAIN AGEAYg==", confidential, b"AUTH");
            check(b"aUtH\tx", confidential, b"AUTH");
            check(b"MAIL FROM:<\xff", confidential, b"MAIL FROM:<\xff");
        }
        check(b"AGEAYg==", false, b"AGEAYg==");
        check(b"AGEAYg==", true, b"(withheld)");
        check(b" AUTH PLAIN AGEAYg==", true, b"(withheld)");
    }

    #[test]
    fn host_names_have_no_room_for_trickery() {
        for good in ["a", "mx1.example.org", "my_pc", "192-0-2-1.dyn"] {
            assert!(is_hostname(good), "{good}");
        }
        for bad in ["", ".", "a.", "a b", "a)", "a\r\n", "<unknown>"] {
            assert!(!is_hostname(bad), "{bad}");
        }
    }
}
