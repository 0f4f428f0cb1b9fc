//! Paths of MAIL and RCPT (RFC 5321 section 4.1.2): cutting them out, and what address they mean.
//!
//! Paths are ours to cut because the parameter parser drops quotes and refuses literals and bare
//! local parts. An address is valid if and only if [`Address`] says so.

use crate::addr::Address;

/// Splits the argument of MAIL or RCPT, which starts with `keyword` (`FROM:`, `TO:`), into the
/// path without its brackets and the parameters behind it.
pub(super) fn cut<'a>(argument: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (word, rest) = argument.split_at_checked(keyword.len())?;
    if !word.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let inside = rest.trim_start_matches(' ').strip_prefix('<')?;
    let (path, after) = inside.split_at_checked(closing_bracket(inside)?)?;
    let after = after.strip_prefix('>')?;
    (after.is_empty() || after.starts_with(' ')).then_some((path, after))
}

/// Where the path ends: the first `>` that is not inside a quoted string.
fn closing_bracket(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|octet| {
        let closing = octet == b'>' && !quoted;
        if escaped {
            escaped = false;
        } else if quoted && octet == b'\\' {
            escaped = true;
        } else if octet == b'"' {
            quoted = !quoted;
        }
        closing
    })
}

/// The address a path means: empty is null, a source route is dropped (RFC 5321 appendix C), and
/// a local part alone, `postmaster` among them, gets the domain `name`. `None` if it is no path.
pub(super) fn address(path: &str, name: &str) -> Option<Address> {
    let mailbox = if path.starts_with('@') {
        path.split_once(':')?.1
    } else {
        path
    };
    if path.is_empty() {
        return Some(Address::null());
    }
    // A path that holds nothing but a route must not become the null address.
    let address = if bare(mailbox) {
        Address::from_parts(mailbox, name)
    } else {
        mailbox.parse()
    };
    address.ok().filter(|address| !address.is_null())
}

/// Whether a mailbox is a local part without a domain: no `@` outside of quotes.
fn bare(mailbox: &str) -> bool {
    match mailbox.rsplit_once('@') {
        None => !mailbox.is_empty(),
        Some((_, domain)) => mailbox.starts_with('"') && domain.ends_with('"'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cut_at_the_bracket_that_closes_them() {
        let check = |argument, want| assert_eq!(cut(argument, "FROM:"), want, "{argument}");
        check("FROM:<a@b>", Some(("a@b", "")));
        check("from:  <a@b> SIZE=1", Some(("a@b", " SIZE=1")));
        check("FROM:<\"a>b\\\">\"@c>", Some(("\"a>b\\\">\"@c", "")));
        check("FROM:<>", Some(("", "")));
        check("FROM:<a@b>SIZE=1", None);
        check("FROM:a@b", None);
        check("FROM:<a@b", None);
        check("FROM <a@b>", None);
        check("FRO", None);
        check("FROM\u{e9}<a>", None);
    }

    #[test]
    fn paths_mean_addresses() {
        let check = |path, want| {
            let address = address(path, "mx.example");
            assert_eq!(address.as_ref().map(Address::as_str), want, "{path}");
        };
        check("", Some(""));
        check("a@b.example", Some("a@b.example"));
        check("Postmaster", Some("Postmaster@mx.example"));
        check("root", Some("root@mx.example"));
        check("\"a b\"", Some("\"a b\"@mx.example"));
        check("\"a@b\"", Some("\"a@b\"@mx.example"));
        check("\"a@b\"@c", Some("\"a@b\"@c"));
        check("@r.example,@s.example:a@b", Some("a@b"));
        check("a@[192.0.2.1]", Some("a@[192.0.2.1]"));
        check("a@[IPv6:2001:db8::1]", Some("a@[IPv6:2001:db8::1]"));
        check("\u{e9}@\u{fc}.example", Some("\u{e9}@\u{fc}.example"));
        check("\u{e9}", Some("\u{e9}@mx.example"));
        for bad in [
            "@r.example:",
            "@r.example",
            "a@",
            "@",
            "a b",
            "Foo <a@b>",
            "a@b.",
            "a@b c",
            "a..b@c",
            "a@[300.0.2.1]",
            "a@[x]",
            "a@b/../c",
            "\u{85}@b",
        ] {
            check(bad, None);
        }
    }
}
