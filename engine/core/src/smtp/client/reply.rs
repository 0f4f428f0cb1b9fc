//! Replies of a server, put together from whatever pieces arrive.
//!
//! Promises: the same replies for every way of cutting the input; no more is held than
//! `reply_line` times `reply_lines` octets.
//! Fails: with [`Malformed`] for what is not a reply. smtp-proto's receiver is not used here: it
//! takes lines of one reply with different codes, and enhanced codes above 255 change in it.

use crate::envelope::Envelope;
use crate::limits::MtaLimits;
use crate::queue::{Failure, Outcome};
use crate::reply::{Class, Status};
use std::fmt;
use std::fmt::Write as _;

/// A complete reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerReply {
    code: u16,
    /// What follows code and separator, lines ended by LF.
    lines: Vec<u8>,
}

/// Why something is not a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A line is longer than `MtaLimits::reply_line`.
    LineTooLong,
    /// There are more lines than `MtaLimits::reply_lines`.
    TooManyLines,
    /// Two lines of one reply have different codes.
    CodesDiffer,
    /// A line does not begin with a code, shown as far as it fits.
    NoCode(Box<str>),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineTooLong => f.write_str("reply line too long"),
            Self::TooManyLines => f.write_str("too many lines in one reply"),
            Self::CodesDiffer => f.write_str("lines of one reply with different codes"),
            Self::NoCode(line) => write!(f, "not a reply: {line}"),
        }
    }
}

/// Puts replies together.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The reply that has not ended yet.
    reply: Option<ServerReply>,
    /// Its lines so far.
    count: usize,
}

impl Replies {
    /// Whether a reply has begun and not ended.
    pub(super) fn is_begun(&self) -> bool {
        !self.line.is_empty() || self.reply.is_some()
    }

    /// Takes octets off the front of `bytes` until a reply is complete, or none are left.
    pub(super) fn receive(
        &mut self,
        bytes: &mut &[u8],
        limits: &MtaLimits,
    ) -> Result<Option<ServerReply>, Malformed> {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|b| *b == b'\n');
            let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            *bytes = rest;
            if self.line.len().saturating_add(part.len()) > limits.reply_line.saturating_add(2) {
                return Err(Malformed::LineTooLong);
            }
            self.line.extend_from_slice(part);
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                if let Some(reply) = self.line_ended(&line, limits)? {
                    return Ok(Some(reply));
                }
            }
        }
        Ok(None)
    }

    fn line_ended(
        &mut self,
        line: &[u8],
        limits: &MtaLimits,
    ) -> Result<Option<ServerReply>, Malformed> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > limits.reply_line {
            return Err(Malformed::LineTooLong);
        }
        let parsed = parse(line).ok_or_else(|| Malformed::NoCode(clip(&text_of(line))))?;
        let (code, more, text) = parsed;
        self.count = self.count.saturating_add(1);
        if self.count > limits.reply_lines {
            return Err(Malformed::TooManyLines);
        }
        let lines = Vec::new();
        let reply = self.reply.get_or_insert(ServerReply { code, lines });
        if reply.code != code {
            return Err(Malformed::CodesDiffer);
        }
        reply.lines.extend_from_slice(text);
        reply.lines.push(b'\n');
        if more {
            return Ok(None);
        }
        self.count = 0;
        Ok(self.reply.take())
    }
}

/// Code, whether another line follows, and text of a reply line (RFC 5321 section 4.2).
fn parse(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = str::from_utf8(digits).ok()?.parse().ok()?;
    let (more, text) = match rest.split_first() {
        None => (false, rest),
        Some((b' ', text)) => (false, text),
        Some((b'-', text)) => (true, text),
        Some(_) => return None,
    };
    (200..600).contains(&code).then_some((code, more, text))
}

impl ServerReply {
    /// As it was said.
    pub(super) fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(self.lines.len().saturating_add(8));
        let mut lines = self
            .lines
            .split_inclusive(|octet| *octet == b'\n')
            .peekable();
        while let Some(line) = lines.next() {
            octets.extend_from_slice(self.code.to_string().as_bytes());
            octets.push(if lines.peek().is_some() { b'-' } else { b' ' });
            octets.extend_from_slice(line);
        }
        octets
    }

    /// The three digits.
    pub(super) fn code(&self) -> u16 {
        self.code
    }

    /// 2xx.
    pub(super) fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3xx.
    pub(super) fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// What follows code and separator, line by line.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.lines.strip_suffix(b"\n").unwrap_or(&self.lines);
        lines.split(|b| *b == b'\n')
    }

    /// The reply on one line, lines joined by blanks, an enhanced status that repeats left out.
    pub(super) fn text(&self) -> Box<str> {
        let mut text = self.code.to_string();
        let mut first = None;
        for line in self.lines() {
            let line = text_of(line);
            let mut line = line.as_str();
            if let Some((status, rest)) = Status::split_from(line) {
                if first == Some(status) {
                    line = rest;
                }
                first.get_or_insert(status);
            }
            if !line.is_empty() {
                text.push(' ');
                text.push_str(line);
            }
            if text.len() > Envelope::ERRORLINE_MAX {
                break;
            }
        }
        clip(&text)
    }

    /// The enhanced status, its class that of the code (RFC 3463 section 2); `x.0.0` if the
    /// server gave none.
    fn status(&self) -> Status {
        let class = match self.code / 100 {
            2 => Class::Success,
            5 => Class::Permanent,
            _ => Class::Transient,
        };
        let line = self.lines().next().unwrap_or_default();
        let line = text_of(line);
        match Status::split_from(&line) {
            Some((status, _)) => Status { class, ..status },
            None => Status::new(class, 0, 0),
        }
    }

    /// The reply as a failure, whatever its code.
    pub(super) fn failure(&self) -> Failure {
        Failure::new(self.status(), self.text())
    }

    /// The reply as the end of an attempt that did not succeed: permanent if it says so.
    pub(super) fn outcome(&self) -> Outcome {
        if self.code / 100 == 5 {
            Outcome::PermFail(self.failure())
        } else {
            let failure = self.failure();
            let status = failure.status.map(|status| Status {
                class: Class::Transient,
                ..status
            });
            Outcome::TempFail(Failure { status, ..failure })
        }
    }
}

/// Octets as text: what is not UTF-8 is shown as `\xNN`.
fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02X}");
        }
    }
    text
}

/// The text, cut to what an envelope keeps.
pub(super) fn clip(text: &str) -> Box<str> {
    const MARK: &str = "...";
    if text.len() <= Envelope::ERRORLINE_MAX {
        return text.into();
    }
    let end = text.floor_char_boundary(Envelope::ERRORLINE_MAX - MARK.len());
    let kept = text.get(..end).unwrap_or_default();
    [kept, MARK].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn receive(bytes: &[u8], size: usize) -> Result<Vec<ServerReply>, Malformed> {
        let limits = MtaLimits {
            reply_line: 12,
            reply_lines: 3,
            ..MtaLimits::default()
        };
        let mut replies = Replies::default();
        let mut all = Vec::new();
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                all.extend(replies.receive(&mut piece, &limits)?);
                let held = replies.reply.as_ref().map_or(0, |reply| reply.lines.len());
                assert!(replies.line.len() + held < 64, "held beyond the limits");
            }
        }
        Ok(all)
    }

    fn check(bytes: &[u8], want: &str) {
        let reply = match receive(bytes, bytes.len()) {
            Ok(replies) => replies
                .iter()
                .map(ServerReply::text)
                .collect::<Vec<_>>()
                .join("|"),
            Err(malformed) => format!("! {malformed}"),
        };
        assert_eq!(reply, want);
    }

    #[test]
    fn lines_make_replies() {
        check(b"250 ok\r\n", "250 ok");
        check(b"250\r\n", "250");
        check(b"250 \r\n", "250");
        check(b"250-a\r\n250-\r\n250 b\r\n", "250 a b");
        check(b"250 a\r\n550 b\n", "250 a|550 b");
        check(b"250-a\r\n", "");
        check(
            b"250-a\r\n251 b\r\n",
            "! lines of one reply with different codes",
        );
        check(
            b"250-a\r\n250-a\r\n250-a\r\n250 a\r\n",
            "! too many lines in one reply",
        );
        check(b"250 123456789\r\n", "! reply line too long");
        check(b"2509012345678901", "! reply line too long");
        for (line, shown) in [("25", "25"), ("2500 a", "2500 a"), ("abc", "abc"), ("", "")] {
            check(
                format!("{line}\r\n").as_bytes(),
                &format!("! not a reply: {shown}"),
            );
        }
        for line in ["199 a", "600 a", "099 a"] {
            check(
                format!("{line}\r\n").as_bytes(),
                &format!("! not a reply: {line}"),
            );
        }
    }

    #[test]
    fn long_texts_end_in_dots() {
        let text = "\u{e9}".repeat(2000);
        let clipped = clip(&text);
        assert!(clipped.len() <= Envelope::ERRORLINE_MAX);
        assert!(clipped.len() > Envelope::ERRORLINE_MAX - 2);
        assert!(clipped.ends_with("\u{e9}..."));
        let kept = "a".repeat(Envelope::ERRORLINE_MAX);
        assert_eq!(&*clip(&kept), kept);
    }

    #[test]
    fn a_status_has_the_class_of_its_code() {
        let check = |line: &str, want: &str| {
            let reply = ServerReply {
                code: line[..3].parse().unwrap(),
                lines: line[4..].into(),
            };
            let (kind, failure) = match reply.outcome() {
                Outcome::PermFail(failure) => ("perm", failure),
                Outcome::TempFail(failure) => ("temp", failure),
                other => panic!("{other:?}"),
            };
            assert_eq!(format!("{kind} {}", failure.status.unwrap()), want);
        };
        check("550 no", "perm 5.0.0");
        check("450 no", "temp 4.0.0");
        check("550 4.7.1 no", "perm 5.7.1");
        check("450 5.7.1 no", "temp 4.7.1");
        check("550 5.7.509 no", "perm 5.7.509");
        check("354 what", "temp 4.0.0");
        check("250 2.0.0 what", "temp 4.0.0");
    }

    proptest! {
        #[test]
        fn the_cut_of_replies_makes_no_difference(
            bytes in vec(select(b"25500- \r\nx".to_vec()), 0..80),
            size in 1..8usize,
        ) {
            prop_assert_eq!(receive(&bytes, size), receive(&bytes, bytes.len().max(1)));
        }
    }
}
