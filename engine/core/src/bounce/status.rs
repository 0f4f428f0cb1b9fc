//! The part of a notice that programs read: `message/delivery-status` (RFC 3464).
//!
//! All of it is ASCII, because the type forbids an encoding; what is not is shown as `\xNN`, or
//! as RFC 6533 wants it in addresses.

use super::{Report, date, host_name, kind_of, word};
use crate::addr::{Address, embedded};
use crate::envelope::{Bounce, Envelope};
use crate::reply::{Class, Status};
use crate::time::Timestamp;
use mail_builder::headers::Header;
use mail_builder::headers::raw::Raw;

/// The fields of the message, then those of each recipient.
pub(super) fn write(report: &Report<'_>, kind: Bounce, name: &str) -> String {
    let mut out = String::new();
    field("Reporting-MTA", &format!("dns; {name}"), &mut out);
    let bounces = || report.envelopes.iter().filter(|e| kind_of(e).is_some());
    let envid = bounces()
        .map(|e| &e.dsn.envid)
        .find(|envid| !envid.is_empty());
    if let Some(envid) = envid {
        field("Original-Envelope-Id", &decoded(envid), &mut out);
    }
    dated("Arrival-Date", report.arrived, &mut out);
    for envelope in bounces() {
        out.push_str("\r\n");
        recipient(report, kind, envelope, &mut out);
    }
    out
}

fn recipient(report: &Report<'_>, kind: Bounce, envelope: &Envelope, out: &mut String) {
    match envelope.dsn.orcpt.split_once(';') {
        Some((kind, address)) => {
            let original = format!("{kind};{}", decoded(address));
            field("Original-Recipient", &original, out);
        }
        None if envelope.rcpt != envelope.dest => {
            field("Original-Recipient", &typed(&envelope.rcpt), out);
        }
        None => {}
    }
    field("Final-Recipient", &typed(&envelope.dest), out);
    field("Action", word(kind), out);
    let status = status(kind, envelope.status);
    field("Status", &status.to_string(), out);
    if !envelope.errorline.is_empty() {
        let reply = is_reply(&envelope.errorline);
        // RFC 3464 section 2.3.5: only if it was that host's word.
        if reply && !envelope.remote.is_empty() {
            let remote = format!("dns; {}", host_name(&envelope.remote));
            field("Remote-MTA", &remote, out);
        }
        let kind = if reply { "smtp" } else { "x-local" };
        let diagnostic = format!("{kind}; {}", envelope.errorline);
        field("Diagnostic-Code", &diagnostic, out);
    }
    // A notice is made when an attempt ends, unless it is for expiry, which no attempt brings.
    if envelope.last_try != Timestamp::EPOCH {
        dated("Last-Attempt-Date", envelope.last_try, out);
    } else if status != EXPIRED {
        dated("Last-Attempt-Date", envelope.ctime, out);
    }
    if let Bounce::Delayed { ttl, .. } = kind {
        dated("Will-Retry-Until", report.arrived.after(ttl), out);
    }
}

/// RFC 3463: delivery time expired.
const EXPIRED: Status = Status::permanent(4, 7);

/// The status, in the class that goes with the kind (RFC 3464 section 2.3.4).
fn status(kind: Bounce, status: Option<Status>) -> Status {
    let class = match kind {
        Bounce::Failed => Class::Permanent,
        Bounce::Delayed { .. } => Class::Transient,
        Bounce::Delivered { .. } => Class::Success,
    };
    match status {
        Some(status) => Status { class, ..status },
        None => Status::new(class, 0, 0),
    }
}

/// An address with its type. RFC 6533 section 3: beyond ASCII the type is `utf-8` and such
/// characters, and those with a meaning in xtext, are written as `\x{HEX}`.
fn typed(address: &Address) -> String {
    if address.is_ascii() {
        return format!("rfc822; {}", address.as_str());
    }
    let marked = |c: char| !c.is_ascii() || matches!(c, ' ' | '+' | '=' | '\\');
    format!("utf-8; {}", embedded(address.as_str(), marked))
}

/// Whether a text begins like an SMTP reply.
fn is_reply(text: &str) -> bool {
    let mut octets = text.bytes();
    let digits = octets.by_ref().take(3).filter(u8::is_ascii_digit).count();
    digits == 3 && matches!(octets.next(), None | Some(b' ' | b'-'))
}

/// xtext decoded (RFC 3461 section 4), or as it is if that is not printable ASCII.
fn decoded(xtext: &str) -> String {
    let mut text = String::new();
    let mut rest = xtext;
    while let Some((plain, after)) = rest.split_once('+') {
        text.push_str(plain);
        let Some((digits, tail)) = after.split_at_checked(2) else {
            return xtext.into();
        };
        let octet = u8::from_str_radix(digits, 16).ok();
        let Some(octet) = octet.filter(|octet| (b' '..=b'~').contains(octet)) else {
            return xtext.into();
        };
        text.push(char::from(octet));
        rest = tail;
    }
    text.push_str(rest);
    text
}

fn dated(name: &str, when: Timestamp, out: &mut String) {
    field(name, &date(when).to_rfc822(), out);
}

/// Appends a field: on one logical line, ASCII, folded; no line is longer than 998 octets.
fn field(name: &str, value: &str, out: &mut String) {
    /// Longest run without a blank, so that folding always finds one in time.
    const WORD: usize = 900;
    let mut clean = String::with_capacity(value.len());
    let mut run = 0;
    for octet in value.bytes() {
        let text = if (b' '..=b'~').contains(&octet) {
            char::from(octet).to_string()
        } else {
            format!("\\x{octet:02X}")
        };
        if octet == b' ' {
            run = 0;
            if clean.is_empty() || clean.ends_with(' ') {
                continue;
            }
        } else if run + text.len() > WORD {
            clean.push(' ');
            run = 0;
        }
        run += text.len();
        clean.push_str(&text);
    }
    out.push_str(name);
    out.push_str(": ");
    let mut folded = Vec::new();
    Raw::new(clean.trim_end()).write_header(&mut folded, name.len() + 2);
    // ASCII in, ASCII out.
    out.extend(folded.into_iter().map(char::from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext_is_decoded_if_the_result_is_printable() {
        let check = |xtext, want: &str| assert_eq!(decoded(xtext), want, "{xtext}");
        check("", "");
        check("abc", "abc");
        check("a+20b+2B+3D", "a b+=");
        check("a+0D+0AStatus:", "a+0D+0AStatus:");
        check("a+", "a+");
        check("a+2", "a+2");
        check("a+zz", "a+zz");
        check("a+\u{e9}", "a+\u{e9}");
        check("a++2", "a++2");
    }

    #[test]
    fn a_field_is_one_field() {
        let check = |value: &str, want: &str| {
            let mut out = String::new();
            field("X", value, &mut out);
            assert_eq!(out, want);
        };
        check("a  b ", "X: a b\r\n");
        check("a\r\nStatus: 2.0.0", "X: a\\x0D\\x0AStatus: 2.0.0\r\n");
        check("\u{e9}\0\x7f", "X: \\xC3\\xA9\\x00\\x7F\r\n");
        check("\\x", "X: \\x\r\n");
        check("", "X: \r\n");
        check(" ", "X: \r\n");
    }

    #[test]
    fn a_status_fits_its_kind() {
        let delayed = Bounce::Delayed {
            delay: std::time::Duration::ZERO,
            ttl: std::time::Duration::ZERO,
        };
        let delivered = Bounce::Delivered { relayed: false };
        let check = |kind, given, want: &str| assert_eq!(status(kind, given).to_string(), want);
        check(Bounce::Failed, Some(Status::permanent(1, 1)), "5.1.1");
        check(Bounce::Failed, Some(Status::transient(4, 1)), "5.4.1");
        check(Bounce::Failed, None, "5.0.0");
        check(delayed, None, "4.0.0");
        check(delivered, None, "2.0.0");
    }

    #[test]
    fn diagnostics_are_replies_or_our_own_words() {
        let check = |text, want| assert_eq!(is_reply(text), want, "{text}");
        check("550 no", true);
        check("550", true);
        check("550-no", true);
        check("5500", false);
        check("55", false);
        check("no", false);
    }
}
