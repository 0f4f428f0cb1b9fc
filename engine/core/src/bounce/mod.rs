//! Notices to senders (RFC 3464): who gets one, which go together, and what they say.
//!
//! Promises: NOTIFY is honoured to the letter and nobody is told about a notice (rules B1, B2);
//! what comes from outside cannot start a field, a line or a part of a notice (B5, T3); a notice
//! has CR LF line ends, lines within 998 octets and an ASCII status part, and its size is bounded
//! by `Limits::bounce_copy` and the number of recipients.
//! Absent on purpose: the queue. Envelopes and the beginning of the content are handed in.
//! Fails: with `None` for a report about nothing.

mod status;
mod text;

use crate::addr::Address;
use crate::envelope::{Bounce, Delivery, Envelope, Notify, Ret};
use crate::id::MessageId;
use crate::limits::Limits;
use crate::rng::Rng;
use crate::time::Timestamp;
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address as Mailbox;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::MimePart;

/// What a notice reports.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Bounce envelopes of one group ([`group_key`]), at least one.
    pub envelopes: &'a [Envelope],
    /// When the message was accepted.
    pub arrived: Timestamp,
    /// The beginning of the message's content: `Limits::bounce_copy` octets or more, or all.
    pub original: &'a [u8],
    /// Whether `original` is all of the content.
    pub complete: bool,
    /// Whether the header section of the message is one of RFC 6532, in UTF-8.
    pub utf8: bool,
    /// The date of the notice.
    pub now: Timestamp,
}

/// What bounce envelopes of one notice have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    message: MessageId,
    kind: Bounce,
    sender: Address,
    smtpname: Box<str>,
    full: bool,
}

/// Whether the sender of an envelope is to be told of an event of this kind.
///
/// Without NOTIFY that is failure and delay (RFC 3461 section 4.1 leaves delay to us); with it,
/// what it lists. Nobody is told about mail without a return path, or about a notice.
pub fn wanted(envelope: &Envelope, kind: Bounce) -> bool {
    const DEFAULT: Notify = Notify {
        success: false,
        failure: true,
        delay: true,
    };
    if envelope.sender.is_null() || envelope.flags.bounce {
        return false;
    }
    let notify = envelope.dsn.notify.unwrap_or(DEFAULT);
    match kind {
        Bounce::Failed => notify.failure,
        Bounce::Delayed { .. } => notify.delay,
        Bounce::Delivered { .. } => notify.success,
    }
}

/// Which notice a bounce envelope goes into; `None` for any other envelope.
pub fn group_key(envelope: &Envelope) -> Option<GroupKey> {
    Some(GroupKey {
        message: envelope.id.message(),
        kind: kind_of(envelope)?,
        sender: envelope.sender.clone(),
        smtpname: envelope.smtpname.clone(),
        full: envelope.dsn.ret == Some(Ret::Full),
    })
}

/// The notice for a group of bounce envelopes, ready to be queued; `None` if there is none among
/// them.
pub fn notice(report: &Report<'_>, limits: &Limits, rng: &mut Rng) -> Option<Vec<u8>> {
    let first = report.envelopes.iter().find(|e| kind_of(e).is_some())?;
    let kind = kind_of(first)?;
    let name = host_name(&first.smtpname);

    let returned = Returned::choose(report, kind, first.dsn.ret, limits);
    let text = text::write(report, kind, &name, &returned);
    let status = status::write(report, kind, &name);
    let boundary = boundary(
        rng,
        &[text.as_bytes(), status.as_bytes(), returned.octets()],
    );

    let outer = ContentType::new("multipart/report")
        .attribute("report-type", "delivery-status")
        .attribute("boundary", boundary);
    let plain = ContentType::new("text/plain").attribute("charset", "utf-8");
    let parts = vec![
        described(text_part(plain, text.as_bytes()), "Notification"),
        described(
            MimePart::new("message/delivery-status", status.as_bytes()).transfer_encoding("7bit"),
            "Delivery report",
        ),
        returned.part(report.utf8),
    ];
    let id = format!("{:016x}.{}@{name}", rng.u64(), first.id.message());
    let subject = format!("Delivery status notification: {}", word(kind));
    let message = MessageBuilder::new()
        .from(Mailbox::new_address(
            Some("Mailer Daemon"),
            format!("MAILER-DAEMON@{name}"),
        ))
        .to(Mailbox::new_address(None::<&str>, first.sender.as_str()))
        .subject(subject)
        .date(date(report.now))
        .message_id(id)
        .header("Auto-Submitted", Raw::new("auto-replied"))
        .body(MimePart::new(outer, parts));
    let mut out = Vec::new();
    message.serialize(&mut out);
    Some(out)
}

/// What is returned of the message.
#[derive(Debug)]
enum Returned<'a> {
    /// All of it.
    Message(&'a [u8]),
    /// The header section.
    Headers(&'a [u8]),
}

impl<'a> Returned<'a> {
    /// All of a failed message if the sender asked for it, it is small enough, and it can stand
    /// in a part as it is (RFC 2046 section 5.2.1 forbids to encode it); else its headers.
    fn choose(report: &Report<'a>, kind: Bounce, ret: Option<Ret>, limits: &Limits) -> Self {
        let content = report.original;
        let all = kind == Bounce::Failed && ret == Some(Ret::Full) && report.complete;
        if all && content.len() <= limits.bounce_copy && is_plain(content) {
            return Self::Message(content);
        }
        let content = content.get(..limits.bounce_copy).unwrap_or(content);
        Self::Headers(header_section(content))
    }

    fn octets(&self) -> &'a [u8] {
        match self {
            Self::Message(octets) | Self::Headers(octets) => octets,
        }
    }

    /// The part, of the types for header sections in UTF-8 if `utf8` (RFC 6532 section 3.7, RFC
    /// 6533 section 6).
    fn part(&self, utf8: bool) -> MimePart<'a> {
        match *self {
            Self::Message(octets) => {
                let encoding = if octets.is_ascii() { "7bit" } else { "8bit" };
                let kind = if utf8 {
                    "message/global"
                } else {
                    "message/rfc822"
                };
                let part = MimePart::new(kind, octets).transfer_encoding(encoding);
                described(part, "Message")
            }
            Self::Headers(octets) => {
                let kind = ContentType::new(if utf8 {
                    "message/global-headers"
                } else {
                    "text/rfc822-headers"
                });
                described(text_part(kind, octets), "Message headers")
            }
        }
    }
}

/// The lines before the empty one, as far as they are complete and sound.
fn header_section(content: &[u8]) -> &[u8] {
    let mut end = 0;
    for line in content.split_inclusive(|b| *b == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(text) if !text.is_empty() && !has_controls(text) => end += line.len(),
            _ => break,
        }
    }
    content.get(..end).unwrap_or_default()
}

/// Whether content can be sent without an encoding, but for octets above 127: lines of at most
/// 998 octets ended by CR LF, no NUL (RFC 5322 section 2.1.1, RFC 2045 section 2.8).
fn is_plain(content: &[u8]) -> bool {
    content.split_inclusive(|b| *b == b'\n').all(|line| {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        text.len() <= 998 && !has_controls(text)
    })
}

/// Whether there is a CR, LF or NUL.
fn has_controls(text: &[u8]) -> bool {
    text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

/// A part of text, as it is if possible, else in the encoding the builder finds best.
fn text_part<'a>(kind: ContentType<'a>, text: &'a [u8]) -> MimePart<'a> {
    let part = MimePart::new(kind, text);
    if text.is_ascii() && is_plain(text) {
        part.transfer_encoding("7bit")
    } else {
        part
    }
}

fn described<'a>(part: MimePart<'a>, description: &'static str) -> MimePart<'a> {
    part.header("Content-Description", Raw::new(description))
}

/// A boundary nobody can have guessed, and that is in none of the parts.
fn boundary(rng: &mut Rng, parts: &[&[u8]]) -> String {
    loop {
        let boundary = format!("{:016x}{:016x}", rng.u64(), rng.u64());
        let is_in = |part: &&[u8]| {
            part.windows(boundary.len())
                .any(|w| w == boundary.as_bytes())
        };
        if !parts.iter().any(is_in) {
            return boundary;
        }
    }
}

fn kind_of(envelope: &Envelope) -> Option<Bounce> {
    match envelope.delivery {
        Delivery::Bounce(kind) => Some(kind),
        Delivery::Mta(_) | Delivery::Mda(_) => None,
    }
}

/// The kind as subject and `Action` field have it (RFC 3464 section 2.3.3).
fn word(kind: Bounce) -> &'static str {
    match kind {
        Bounce::Failed => "failed",
        Bounce::Delayed { .. } => "delayed",
        Bounce::Delivered { relayed: false } => "delivered",
        Bounce::Delivered { relayed: true } => "relayed",
    }
}

/// Our name as far as it can stand in any field.
fn host_name(name: &str) -> String {
    let lawful = |c: &char| c.is_ascii_alphanumeric() || "-._:[]".contains(*c);
    let name: String = name.chars().filter(lawful).collect();
    if name.is_empty() {
        "localhost".into()
    } else {
        name
    }
}

/// The date in the form of RFC 5322; the last one it can write if it is beyond.
fn date(date: Timestamp) -> Date {
    const YEAR_9999: u64 = 253_402_300_799;
    Date::new(date.as_secs().min(YEAR_9999).cast_signed())
}

#[cfg(test)]
mod tests;
