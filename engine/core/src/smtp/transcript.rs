//! An SMTP dialogue as `smtpctl trace` shows it, line by line.
//!
//! Promises: a line is printable ASCII of bounded length; content never appears, only how much of
//! it there was; what may be a credential (RFC 4954) never appears, nor whatever follows AUTH and
//! is no command. Nothing is kept unless it is wanted.
//! Absent on purpose: who reads it. The driver asks after every event.

use super::lines::{self, Verb};
use bytes::Bytes;
use std::collections::VecDeque;

/// Octets of a line that are shown.
const SHOWN: usize = 512;

/// Stands in the place of what may be a secret.
const HIDDEN: &str = "<hidden>";

/// Something that was said in a session, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// A line of the client, without its end.
    Client(Box<str>),
    /// A line of the server, without its end.
    Server(Box<str>),
    /// So many octets of content.
    Content(u64),
    /// A command was granted or refused.
    Judged {
        /// The phase of the session, as smtpd-filters(7) names it: `mail-from`, `rcpt-to`.
        phase: Box<str>,
        /// Whether the session goes on as the client wants.
        granted: bool,
    },
}

/// What was said in a session and not asked for yet.
#[derive(Debug, Default)]
pub struct Transcript {
    following: bool,
    secret: Secret,
    /// Whether the line at hand must not be shown.
    hides: bool,
    content: u64,
    spoken: VecDeque<Spoken>,
}

/// Whether the client's next line can hold a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Secret {
    /// It cannot.
    #[default]
    None,
    /// It can, unless it is a command: AUTH was said.
    Possible,
    /// It does: the server asked for it.
    Awaited,
}

impl Transcript {
    /// Keeps what is said from now on, or nothing any more.
    pub fn follow(&mut self, following: bool) {
        if !following && self.following {
            self.spoken.clear();
            self.content = 0;
        }
        self.following = following;
    }

    /// What was said next.
    pub fn take(&mut self) -> Option<Spoken> {
        self.spoken.pop_front()
    }

    /// The client has said this line.
    pub(super) fn client(&mut self, line: &[u8]) {
        let auth = is_auth(line);
        self.hides = match self.secret {
            Secret::None => false,
            Secret::Possible => !auth && !is_command(line),
            Secret::Awaited => true,
        };
        self.secret = if auth || self.hides {
            Secret::Possible
        } else {
            Secret::None
        };
        if self.following {
            let line = shown(&self.redacted(line));
            self.speak(Spoken::Client(line));
        }
    }

    /// The server has answered with these lines, which begin with this code.
    pub(super) fn server(&mut self, code: u16, lines: impl FnOnce() -> Vec<u8>) {
        self.answered(code);
        if self.following {
            for line in lines().split(|octet| *octet == b'\n') {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if !line.is_empty() {
                    self.speak(Spoken::Server(shown(line)));
                }
            }
        }
    }

    /// The server has answered with this code; whoever drives it sees the rest.
    pub(super) fn answered(&mut self, code: u16) {
        if code == 334 {
            self.secret = Secret::Awaited;
        }
    }

    /// Octets of content have passed.
    pub(super) fn content(&mut self, octets: usize) {
        if self.following {
            self.content = self.content.saturating_add(octets as u64);
        }
    }

    /// The command of this line was granted or refused, or the content that has passed.
    pub(super) fn judged(&mut self, line: &[u8], granted: bool) {
        if self.following && !self.hides && !line.is_empty() {
            let commit = match lines::split(line) {
                // Of chunks the last one counts.
                Ok(command) if command.verb == Verb::Bdat => {
                    lines::chunk(command.argument).is_some_and(|(_, last)| last)
                }
                _ => self.content > 0,
            };
            let phase = if commit { "commit".into() } else { phase(line) };
            self.speak(Spoken::Judged { phase, granted });
        }
    }

    /// The line at hand for the log, AUTH by its word alone: withheld if it may be a secret.
    pub(super) fn loggable(&self, line: Bytes) -> Bytes {
        if self.hides && line != b"AUTH"[..] {
            return Bytes::from_static(b"(withheld)");
        }
        line
    }

    /// The line at hand without what may be a secret.
    pub(super) fn redacted(&self, line: &[u8]) -> Bytes {
        if self.hides {
            return Bytes::from_static(HIDDEN.as_bytes());
        }
        if !is_auth(line) {
            return Bytes::copy_from_slice(line);
        }
        let mut words = line.split(|octet| *octet == b' ');
        let mut kept = words.next().unwrap_or_default().to_vec();
        for (at, word) in words.filter(|word| !word.is_empty()).enumerate() {
            kept.push(b' ');
            match at {
                0 if is_mechanism(word) => kept.extend_from_slice(word),
                _ => {
                    kept.extend_from_slice(HIDDEN.as_bytes());
                    break;
                }
            }
        }
        kept.into()
    }

    fn speak(&mut self, spoken: Spoken) {
        if self.content > 0 {
            let octets = std::mem::take(&mut self.content);
            self.spoken.push_back(Spoken::Content(octets));
        }
        self.spoken.push_back(spoken);
    }
}

/// A line as it may be printed: other octets than printable ASCII escaped, what is too long cut.
pub fn shown(line: &[u8]) -> Box<str> {
    let head = line.get(..SHOWN).unwrap_or(line);
    let mut text = head.escape_ascii().to_string();
    if head.len() < line.len() {
        text.push_str("...");
    }
    text.into()
}

fn is_auth(line: &[u8]) -> bool {
    line.split_at_checked(4).is_some_and(|(verb, rest)| {
        verb.eq_ignore_ascii_case(b"AUTH") && rest.first().is_none_or(|octet| *octet == b' ')
    })
}

fn is_command(line: &[u8]) -> bool {
    lines::split(line).is_ok_and(|command| command.verb != Verb::Unknown)
}

/// Whether a word can be the name of a SASL mechanism (RFC 4422 section 3.1).
fn is_mechanism(word: &[u8]) -> bool {
    let named = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    word.len() <= 20 && word.iter().all(named)
}

/// The phase a command stands for.
fn phase(line: &[u8]) -> Box<str> {
    let verb = line.split(|octet| *octet == b' ').next();
    let verb = verb.unwrap_or_default().to_ascii_lowercase();
    match verb.as_slice() {
        b"mail" => "mail-from".into(),
        b"rcpt" => "rcpt-to".into(),
        _ if is_command(&verb) => shown(&verb),
        _ => "unknown".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(lines: &[&str]) -> Vec<String> {
        let mut transcript = Transcript::default();
        transcript.follow(true);
        for line in lines {
            match line.strip_prefix("S: ") {
                Some(reply) => {
                    let code = reply[..3].parse().unwrap();
                    transcript.server(code, || format!("{reply}\r\n").into());
                }
                None => transcript.client(line.as_bytes()),
            }
        }
        std::iter::from_fn(|| transcript.take())
            .filter_map(|spoken| match spoken {
                Spoken::Client(line) => Some(line.into()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn credentials_are_never_shown() {
        assert_eq!(
            client(&["AUTH PLAIN AGFsaWNlAHNlc2FtZQ==", "MAIL FROM:<a@b>"]),
            ["AUTH PLAIN <hidden>", "MAIL FROM:<a@b>"]
        );
        assert_eq!(
            client(&[
                "auth LOGIN",
                "S: 334 VXNlcm5hbWU6",
                "quit",
                "S: 334 x",
                "NOOP"
            ]),
            ["auth LOGIN", "<hidden>", "<hidden>"]
        );
        // Said without waiting for the answer, to a server that does not know AUTH.
        assert_eq!(
            client(&["AUTH LOGIN", "YWxpY2U=", "c2VzYW1l", "QUIT", "NOOP x"]),
            ["AUTH LOGIN", "<hidden>", "<hidden>", "QUIT", "NOOP x"]
        );
        assert_eq!(
            client(&["AUTH c2VzYW1lIHNlc2FtZSBzZXNhbWU= x"]),
            ["AUTH <hidden>"]
        );
        assert_eq!(client(&["AUTHOR x"]), ["AUTHOR x"]);
    }

    #[test]
    fn lines_are_printable_and_bounded() {
        assert_eq!(&*shown(b"a\x1b[2J\xff\t"), r"a\x1b[2J\xff\t");
        assert_eq!(shown(&[b'x'; 513]).len(), SHOWN + 3);
    }

    #[test]
    fn content_is_counted_and_comes_before_what_follows_it() {
        let mut transcript = Transcript::default();
        transcript.content(7);
        transcript.follow(true);
        transcript.content(10);
        transcript.content(5);
        transcript.judged(b"DATA", true);
        transcript.server(250, || b"250-a\r\n250 b\r\n".to_vec());
        let judged = Spoken::Judged {
            phase: "commit".into(),
            granted: true,
        };
        for want in [
            Spoken::Content(15),
            judged,
            Spoken::Server("250-a".into()),
            Spoken::Server("250 b".into()),
        ] {
            assert_eq!(transcript.take(), Some(want));
        }
        assert_eq!(transcript.take(), None);
    }

    #[test]
    fn the_last_chunk_commits() {
        let mut transcript = Transcript::default();
        transcript.follow(true);
        for (line, octets, want) in [("BDAT 10", 10, "bdat"), ("bdat 0 last", 0, "commit")] {
            transcript.content(octets);
            transcript.judged(line.as_bytes(), true);
            let judged = Spoken::Judged {
                phase: want.into(),
                granted: true,
            };
            assert_eq!(transcript.spoken.pop_back(), Some(judged));
        }
    }

    #[test]
    fn nothing_is_kept_unless_it_is_followed() {
        let mut transcript = Transcript::default();
        transcript.client(b"NOOP");
        assert_eq!(transcript.take(), None);
        transcript.follow(true);
        transcript.client(b"NOOP");
        transcript.follow(false);
        assert_eq!(transcript.take(), None);
    }
}
