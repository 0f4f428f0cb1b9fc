//! The outgoing session, played from transcripts.
//!
//! `S:` lines come from the server and `C:` lines are what the session sends. `@` lines are what is
//! not on the wire: first the events (`connected`, `to`, `assign`, `body`, `last`, `unreadable`,
//! `closed`, `quit`, `secured`, `unsecured`, `+5m`), answered by the actions (`ready`, `read`,
//! `outcome`, `handshake`, `reconnect`, `close`); `tls` and `auth` say what the relay asks for. Each
//! transcript is played twice, the server's octets whole and one by one, with the same result
//! unless it says `@ whole`. `UPDATE_EXPECT=1` writes the session's side anew.

#![expect(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod properties;

use bytes::Bytes;
use redspool_core::config::table::{Secret, Service, Table};
use redspool_core::envelope::{Notify, Ret, TlsPolicy};
use redspool_core::id::MessageId;
use redspool_core::limits::MtaLimits;
use redspool_core::machine::Machine;
use redspool_core::queue::{Failure, Outcome};
use redspool_core::reply::Status;
use redspool_core::smtp::client::{Action, Client, Event, Params};
use redspool_core::smtp::{Transaction, TransactionRecipient};
use redspool_core::time::{Now, Timestamp};
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The message of all transcripts.
fn message() -> MessageId {
    MessageId::new(0x8d3f_01aa).unwrap()
}

/// A clock that starts at an arbitrary point, which nothing may depend on.
#[expect(
    clippy::disallowed_methods,
    reason = "a point to count from, never compared with the clock"
)]
fn start() -> Now {
    Now {
        mono: Instant::now(),
        wall: Timestamp::from_secs(1_795_336_321),
    }
}

fn transaction(sender: &str, recipients: &[&str]) -> Transaction {
    let recipients = recipients
        .iter()
        .zip(1..)
        .map(|(dest, low)| TransactionRecipient {
            envelope: message().envelope(NonZeroU32::new(low).unwrap()),
            dest: dest.parse().unwrap(),
            notify: None,
            orcpt: "".into(),
        });
    Transaction {
        message: message(),
        size: 100,
        eight_bit: false,
        utf8: false,
        sender: sender.parse().unwrap(),
        ret: None,
        envid: "".into(),
        recipients: recipients.collect(),
    }
}

struct Player {
    client: Client,
    now: Now,
    recipients: Vec<TransactionRecipient>,
    bytewise: bool,
    out: String,
}

impl Player {
    fn play(text: &str, bytewise: bool) -> String {
        let mut limits = MtaLimits::default();
        let mut lmtp = false;
        let mut tls = TlsPolicy::Never;
        let mut credentials = None;
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match words.as_slice() {
                ["@", "lmtp"] => lmtp = true,
                ["@", "tls", policy] => tls = self::policy(policy),
                ["@", "auth", value] => credentials = Some(secret(value)),
                ["@", "limit", name, value] => set(&mut limits, name, value.parse().unwrap()),
                _ => {}
            }
        }
        let client = Client::new(Params {
            helo: "us.example".into(),
            lmtp,
            tls,
            credentials,
            limits: Arc::new(limits),
            peer: "192.0.2.1 (mx)".into(),
        });
        let mut player = Self {
            client,
            now: start(),
            recipients: Vec::new(),
            bytewise: bytewise && !text.contains("@ whole"),
            out: String::new(),
        };
        for line in text.lines() {
            player.line(line);
        }
        player.out
    }

    /// Plays an input line and writes it back; lines of the session are left out.
    fn line(&mut self, line: &str) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (word, arguments) = rest.split_once(' ').unwrap_or((rest, ""));
        let event = match (kind, word) {
            ("C:" | "C~", _)
            | (
                "@",
                "ready" | "read" | "troubled" | "outcome" | "close" | "handshake" | "reconnect",
            ) => {
                return;
            }
            ("S:", _) => {
                writeln!(self.out, "{line}").unwrap();
                let octets = [&unescape(rest)[..], b"\r\n"].concat();
                let size = if self.bytewise { 1 } else { octets.len() };
                for piece in octets.chunks(size) {
                    let event = Event::Received(Bytes::copy_from_slice(piece));
                    self.client.handle(self.now, event);
                }
                return self.drain();
            }
            ("@", "connected") => Event::Connected,
            ("@", "secured") => Event::Secured,
            ("@", "unsecured") => Event::Unsecured(arguments.into()),
            ("@", "to") => {
                self.to(arguments);
                return writeln!(self.out, "{line}").unwrap();
            }
            ("@", "assign") => Event::Assigned(self.assign(arguments)),
            ("@", "body" | "last") => Event::Body {
                bytes: unescape(arguments).into(),
                last: word == "last",
            },
            ("@", "unreadable") => {
                Event::BodyFailed(Failure::new(Status::transient(3, 0), arguments))
            }
            ("@", "closed") => Event::Closed((!arguments.is_empty()).then(|| arguments.into())),
            ("@", "quit") => Event::QuitRequested,
            ("@", wait) if wait.starts_with('+') => return self.pass(line, wait),
            ("@", "lmtp" | "tls" | "auth" | "limit" | "whole") | ("#" | "", _) => {
                return writeln!(self.out, "{line}").unwrap();
            }
            _ => panic!("what is this line: {line}"),
        };
        writeln!(self.out, "{line}").unwrap();
        self.client.handle(self.now, event);
        self.drain();
    }

    /// Lets time pass, as far as the session's own deadline and in the end beyond it.
    fn pass(&mut self, line: &str, wait: &str) {
        writeln!(self.out, "{line}").unwrap();
        let number: u64 = wait[1..wait.len() - 1].parse().unwrap();
        let unit = if wait.ends_with('m') { 60 } else { 1 };
        self.now.mono += Duration::from_secs(number * unit);
        if self
            .client
            .deadline()
            .is_some_and(|deadline| deadline <= self.now.mono)
        {
            self.client.handle(self.now, Event::TimedOut);
        }
        self.drain();
    }

    fn to(&mut self, arguments: &str) {
        let mut words = arguments.split(' ');
        let low = u32::try_from(self.recipients.len() + 1).unwrap();
        let mut recipient = TransactionRecipient {
            envelope: message().envelope(NonZeroU32::new(low).unwrap()),
            dest: words.next().unwrap().parse().unwrap(),
            notify: None,
            orcpt: "".into(),
        };
        for word in words {
            match word.split_once('=').unwrap() {
                ("orcpt", value) => recipient.orcpt = value.into(),
                ("notify", value) => {
                    recipient.notify = Some(Notify {
                        success: value.contains("success"),
                        failure: value.contains("failure"),
                        delay: value.contains("delay"),
                    });
                }
                _ => panic!("{word}"),
            }
        }
        self.recipients.push(recipient);
    }

    fn assign(&mut self, arguments: &str) -> Transaction {
        let mut words = arguments.split(' ');
        let sender = words.next().unwrap();
        let sender = sender.trim_start_matches('<').trim_end_matches('>');
        let mut transaction = transaction(sender, &[]);
        transaction.recipients = std::mem::take(&mut self.recipients);
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("size", value) => transaction.size = value.parse().unwrap(),
                ("8bit", _) => transaction.eight_bit = true,
                ("utf8", _) => transaction.utf8 = true,
                ("ret", "full") => transaction.ret = Some(Ret::Full),
                ("ret", "headers") => transaction.ret = Some(Ret::Headers),
                ("envid", value) => transaction.envid = value.into(),
                _ => panic!("{word}"),
            }
        }
        transaction
    }

    /// Writes what the session does, sent octets by line.
    fn drain(&mut self) {
        let mut sent = Vec::new();
        loop {
            let action = self.client.poll();
            match &action {
                Some(Action::Send(bytes)) => {
                    sent.extend_from_slice(bytes);
                    continue;
                }
                Some(Action::SendHidden(hidden)) => {
                    sent.extend_from_slice(hidden.reveal());
                    continue;
                }
                _ => {}
            }
            for line in sent.split_inclusive(|b| *b == b'\n') {
                match line.strip_suffix(b"\r\n") {
                    Some(line) => writeln!(self.out, "C: {}", line.escape_ascii()),
                    None => writeln!(self.out, "C~ {}", line.escape_ascii()),
                }
                .unwrap();
            }
            sent.clear();
            let Some(action) = action else { return };
            self.out.push_str(&show(&action));
        }
    }
}

fn show(action: &Action) -> String {
    let failure = |failure: &Failure| {
        let status = failure
            .status
            .map_or("-".into(), |status| status.to_string());
        format!("{status} {}", failure.text.escape_debug())
    };
    match action {
        Action::Send(_) | Action::SendHidden(_) => String::new(),
        Action::StartTls => "@ handshake\n".into(),
        Action::Reconnect => "@ reconnect\n".into(),
        Action::ReadBody(_, index) => format!("@ read {index}\n"),
        Action::Ready => "@ ready\n".into(),
        Action::Troubled(why) => format!("@ troubled {}\n", failure(why)),
        Action::Close(None) => "@ close\n".into(),
        Action::Close(Some(why)) => format!("@ close {}\n", failure(why)),
        Action::Attempted(outcomes) => {
            let show = |outcome: &Outcome| match outcome {
                Outcome::Delivered { text, notifies } => {
                    format!(
                        "delivered{} {text}",
                        if *notifies { ",notifies" } else { "" }
                    )
                }
                Outcome::TempFail(why) => format!("tempfail {}", failure(why)),
                Outcome::PermFail(why) => format!("permfail {}", failure(why)),
                Outcome::Loop => "loop".into(),
            };
            let line = |(id, outcome): &(redspool_core::id::EnvelopeId, Outcome)| {
                format!("@ outcome {} {}\n", id.get() & 0xff, show(outcome))
            };
            outcomes.iter().map(line).collect()
        }
    }
}

fn policy(word: &str) -> TlsPolicy {
    match word {
        "never" => TlsPolicy::Never,
        "opportunistic" => TlsPolicy::Opportunistic,
        "required" => TlsPolicy::Required { verify: true },
        "immediate" => TlsPolicy::Immediate { verify: true },
        _ => panic!("{word}"),
    }
}

fn secret(value: &str) -> Secret {
    let mut table = Table::mapping([("me", value)]);
    table.serve(Service::Secret).unwrap();
    table.secret("me").unwrap()
}

fn set(limits: &mut MtaLimits, name: &str, value: usize) {
    match name {
        "mails_per_session" => limits.mails_per_session = value,
        "failures_per_session" => limits.failures_per_session = value,
        "tries_per_session" => limits.tries_per_session = value,
        "reply_line" => limits.reply_line = value,
        "reply_lines" => limits.reply_lines = value,
        "chunk" => limits.chunk = value,
        "chunks_unanswered" => limits.chunks_unanswered = value,
        _ => panic!("{name}"),
    }
}

/// Reads `\r`, `\n`, `\0`, `\xNN` and `\\`.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match rest.next().unwrap() {
            b'r' => b'\r',
            b'n' => b'\n',
            b'0' => 0,
            b'x' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    out
}

#[test]
fn transcripts_play_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "smtp")
        })
        .collect();
    names.sort();
    assert!(names.len() > 20, "the transcripts are missing");
    for path in names {
        let text = std::fs::read_to_string(&path).unwrap();
        let whole = Player::play(&text, false);
        expect_test::expect_file![&path].assert_eq(&whole);
        assert_eq!(Player::play(&text, true), whole, "{} cut", path.display());
    }
}
