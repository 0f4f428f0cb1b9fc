//! What we write into a message: the `Received` field (RFC 5321 section 4.4), and the fields a
//! local client left out.

use super::{Params, Transaction};
use crate::addr::Source;
use crate::rng::Rng;
use crate::smtp::header::Completion;
use crate::time::Timestamp;
use std::fmt::{self, Write as _};

/// Most octets of the trace field, for the first allocation of a message's buffer.
pub(super) const TRACE_SIZE: usize = 512;

/// What a greeting said.
#[derive(Clone, Debug)]
pub(super) struct Greeting {
    /// The client's name for itself.
    pub(super) helo: Box<str>,
    /// Whether it was EHLO.
    pub(super) extended: bool,
}

/// A client's address as replies and trace fields show it: bracketed.
pub(super) fn bracketed(source: Source) -> impl fmt::Display {
    fmt::from_fn(move |f| match source {
        Source::Inet6(_) => write!(f, "{source}"),
        Source::Local | Source::Inet4(_) => write!(f, "[{source}]"),
    })
}

/// Appends the `Received` field of a message.
pub(super) fn received(
    params: &Params,
    greeting: &Greeting,
    transaction: &Transaction,
    at: Timestamp,
    out: &mut Vec<u8>,
) {
    let settings = &params.settings;
    let mut field = String::with_capacity(TRACE_SIZE);
    field.push_str("Received: ");
    // Writing to a String cannot fail.
    let _ = (|| {
        if !settings.mask_source {
            let address = bracketed(params.source);
            write!(field, "from {} ({} {address})", greeting.helo, params.rdns)?;
        }
        write!(
            field,
            "\r\n\tby {} ({}) with {}SMTP{}{} id {}",
            settings.hostname,
            settings.software,
            match (transaction.utf8, greeting.extended) {
                // RFC 6531 section 4.3.
                (true, _) => "UTF8",
                (false, true) => "E",
                (false, false) => "",
            },
            if params.tls.is_some() { "S" } else { "" },
            if params.authenticated { "A" } else { "" },
            transaction.message
        )?;
        if let Some(tls) = &params.tls {
            let verified = if tls.verified { "YES" } else { "NO" };
            write!(field, " ({tls}:{verified})")?;
            if settings.received_auth {
                if params.authenticated {
                    write!(field, " auth=yes user={}", harmless(&params.username))?;
                } else {
                    write!(field, " auth=no")?;
                }
            }
        }
        // In UTF-8 it would be the reason why a message can not go to a server without SMTPUTF8.
        if let Some(rcpt) = transaction.only_rcpt().filter(|rcpt| rcpt.is_ascii()) {
            write!(field, "\r\n\tfor <{}>", rcpt.as_str())?;
        }
        write!(field, ";\r\n\t{}\r\n", date(at))
    })();
    out.extend_from_slice(field.as_bytes());
}

/// A user's name where it can break neither the field nor its comments.
fn harmless(username: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._-+=/".contains(c);
    let shown = username.chars().map(|c| if plain(c) { c } else { '?' });
    shown.collect()
}

/// The fields a local client's message must have.
pub(super) fn completion(hostname: &str, at: Timestamp, rng: &mut Rng) -> Completion {
    Completion {
        date: format!("Date: {}\r\n", date(at)),
        message_id: format!("Message-ID: <{:016x}@{hostname}>\r\n", rng.u64()),
    }
}

/// A date as trace fields have it: `Thu, 1 Jan 1970 00:00:00 +0000 (UTC)`.
fn date(at: Timestamp) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
        let at = at.to_zoned(jiff::tz::TimeZone::UTC);
        write!(f, "{}", at.strftime("%a, %-d %b %Y %H:%M:%S %z (UTC)"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_mail() {
        let check = |seconds, want: &str| {
            assert_eq!(date(Timestamp::from_secs(seconds)).to_string(), want);
        };
        check(0, "Thu, 1 Jan 1970 00:00:00 +0000 (UTC)");
        check(1_795_416_360, "Mon, 23 Nov 2026 06:46:00 +0000 (UTC)");
        check(u64::MAX, "Thu, 30 Dec 9999 22:00:00 +0000 (UTC)");
    }
}
