//! SMTP replies, ours and other servers'.
//!
//! A reply is a code, an enhanced status where there is one, and lines of text. What we send is
//! built here, so no reply of ours can hold a line break; what others sent is kept bounded and
//! with control characters escaped when shown.

use std::borrow::Cow;
use std::fmt;

/// Class of an enhanced status code (RFC 3463 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// 2: success.
    Success,
    /// 4: persistent transient failure.
    Transient,
    /// 5: permanent failure.
    Permanent,
}

impl Class {
    /// The first digit: 2, 4 or 5.
    pub const fn digit(self) -> u8 {
        match self {
            Self::Success => 2,
            Self::Transient => 4,
            Self::Permanent => 5,
        }
    }

    /// The class a first digit stands for.
    pub const fn from_digit(digit: u8) -> Option<Self> {
        match digit {
            2 => Some(Self::Success),
            4 => Some(Self::Transient),
            5 => Some(Self::Permanent),
            _ => None,
        }
    }
}

/// An enhanced status code, `class.subject.detail` (RFC 3463).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status {
    /// Success, transient or permanent.
    pub class: Class,
    /// What it is about: 0 to 7 are defined, up to 999 allowed.
    pub subject: u16,
    /// What exactly: up to 999.
    pub detail: u16,
}

impl Status {
    /// A status from its three parts.
    pub const fn new(class: Class, subject: u16, detail: u16) -> Self {
        Self {
            class,
            subject,
            detail,
        }
    }

    /// `5.subject.detail`.
    pub const fn permanent(subject: u16, detail: u16) -> Self {
        Self::new(Class::Permanent, subject, detail)
    }

    /// `4.subject.detail`.
    pub const fn transient(subject: u16, detail: u16) -> Self {
        Self::new(Class::Transient, subject, detail)
    }

    /// `2.subject.detail`.
    pub const fn success(subject: u16, detail: u16) -> Self {
        Self::new(Class::Success, subject, detail)
    }

    /// Reads `x.y.z` at the start of a text; gives the status and what follows the blank.
    pub fn split_from(text: &str) -> Option<(Self, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut parts = word.split('.');
        let class = parts.next()?;
        let (subject, detail) = (parts.next()?, parts.next()?);
        let digits =
            |s: &str, most| (1..=most).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
        if parts.next().is_some() || !digits(class, 1) || !digits(subject, 3) || !digits(detail, 3)
        {
            return None;
        }
        let class = Class::from_digit(class.parse().ok()?)?;
        Some((
            Self::new(class, subject.parse().ok()?, detail.parse().ok()?),
            rest,
        ))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class.digit(), self.subject, self.detail)
    }
}

/// A reply of one or more lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    status: Option<Status>,
    text: Cow<'static, str>,
}

impl Reply {
    /// A reply. `text` may hold several lines separated by LF; other control characters are
    /// replaced by `?`, so that no text can end a line early.
    pub fn new(code: u16, status: Option<Status>, text: impl Into<Cow<'static, str>>) -> Self {
        let mut text = text.into();
        if text.bytes().any(|b| b.is_ascii_control() && b != b'\n') {
            let clean = text
                .chars()
                .map(|c| if c.is_control() && c != '\n' { '?' } else { c });
            text = Cow::Owned(clean.collect());
        }
        Self { code, status, text }
    }

    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status, if the reply has one.
    pub fn status(&self) -> Option<Status> {
        self.status
    }

    /// The text after code and status; lines separated by LF.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// 2xx.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3xx.
    pub fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 5xx.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Appends the reply in wire form, every line with its CR LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let separator = if lines.peek().is_some() { '-' } else { ' ' };
            out.extend_from_slice(format!("{}{separator}", self.code).as_bytes());
            if let Some(status) = self.status {
                out.extend_from_slice(format!("{status} ").as_bytes());
            }
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    /// One line: `550 5.1.1 No such user`, lines of a longer reply joined by blanks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        for line in self.text.split('\n') {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_form_repeats_code_and_status_on_every_line() {
        let reply = Reply::new(250, Some(Status::success(0, 0)), "one\ntwo");
        let mut out = Vec::new();
        reply.write(&mut out);
        assert_eq!(out, b"250-2.0.0 one\r\n250 2.0.0 two\r\n");
        assert_eq!(reply.to_string(), "250 2.0.0 one two");
    }

    #[test]
    fn control_characters_cannot_start_a_line() {
        let reply = Reply::new(550, None, "bad\r\x1b[2J");
        assert_eq!(reply.to_string(), "550 bad??[2J");
    }

    #[test]
    fn status_is_read_strictly() {
        let (status, rest) = Status::split_from("4.7.1 Greylisted").unwrap();
        assert_eq!((status, rest), (Status::transient(7, 1), "Greylisted"));
        for text in [
            "",
            "4.7",
            "3.0.0 x",
            "4.7.1.2 x",
            "4.7777.1 x",
            "4.x.1",
            "a.b.c",
        ] {
            assert_eq!(Status::split_from(text), None, "{text}");
        }
    }
}
