//! Simulated hosts: servers that speak SMTP or LMTP octet by octet, each with a temper of its own.
//!
//! What: [`Host`] is a machine on the network, [`Peer`] its end of one connection.
//! Promises: what a host has taken is told at the moment of the final dot or chunk, with a digest of the
//! content; the recipients a reply confirms come along with that reply.

use bytes::Bytes;
use redspool_core::rng::Rng;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::net::IpAddr;
use std::time::Duration;

/// How a host treats us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// Takes everything at once.
    Prompt,
    /// Speaks only HELO, without extensions.
    Plain,
    /// Answers everything in many lines, cut into small pieces.
    Wordy,
    /// Needs up to 20 seconds for each reply.
    Slow,
    /// Says 451 to a recipient until five minutes after the first time.
    Greylists,
    /// Says 421 instead of greeting.
    Busy,
    /// Says 421 when there are more than so many connections.
    Crowded(usize),
    /// Says 451 to MAIL.
    TurnsAway,
    /// Says 550 to every second recipient.
    Refuses,
    /// Says 451 to every second final dot.
    DefersAtDot,
    /// Breaks off after every second final dot, having taken the message or not.
    DropsAfterDot,
    /// Takes the message, but answers every third final dot too late.
    LateAfterDot,
    /// Says something senseless now and then.
    Babbles,
    /// Takes the connection and says nothing.
    Mute,
    /// Refuses connections.
    Closed,
    /// Does not answer at all.
    Void,
}

/// What a host makes of BDAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// It does not offer it.
    No,
    /// It takes it, but no empty chunk that is not the last.
    Yes,
    /// It reads chunks, and does not like any.
    Dislikes,
    /// It offers it, and takes everything for commands.
    Pretended,
}

/// What comes of STARTTLS at a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shake {
    /// It does not offer it.
    No,
    /// TLS.
    Works,
    /// A handshake that fails, until then.
    Fails(Duration),
    /// It offers it, and says 454.
    Refuses,
}

/// A machine on the network.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) address: IpAddr,
    pub(super) lmtp: bool,
    /// Whether it offers DSN (RFC 3461).
    pub(super) dsn: bool,
    /// Whether it offers CHUNKING (RFC 3030), and knows it.
    pub(super) chunks: Chunks,
    /// What becomes of STARTTLS.
    pub(super) shake: Shake,
    /// A local address of ours from which it cannot be reached.
    pub(super) deaf_to: Option<IpAddr>,
    temper: Temper,
    /// When its temper changes, if ever, and to which.
    turns: Option<(Duration, Temper)>,
    /// Connections, as it sees them.
    pub(super) open: usize,
    seen: BTreeMap<Box<str>, Duration>,
}

/// How long a greylisting host wants us to wait.
const GREY: Duration = Duration::from_mins(5);

impl Host {
    pub(super) fn new(address: IpAddr, temper: Temper, turns: Option<(Duration, Temper)>) -> Self {
        Self {
            address,
            lmtp: false,
            dsn: false,
            chunks: Chunks::No,
            shake: Shake::No,
            deaf_to: None,
            temper,
            turns,
            open: 0,
            seen: BTreeMap::new(),
        }
    }

    /// Its temper at a time.
    pub(super) fn temper(&self, now: Duration) -> Temper {
        match self.turns {
            Some((at, temper)) if at <= now => temper,
            _ => self.temper,
        }
    }

    /// Whether a handshake that begins now succeeds.
    pub(super) fn shakes(&self, now: Duration) -> bool {
        match self.shake {
            Shake::Works => true,
            Shake::Fails(until) => until <= now,
            Shake::No | Shake::Refuses => false,
        }
    }
}

/// What a host does.
#[derive(Debug)]
pub(super) enum Say {
    /// It says this, so long after what it said before, and by it confirms these recipients.
    Reply {
        after: Duration,
        octets: Bytes,
        confirms: Vec<Box<str>>,
    },
    /// It closes the connection.
    Close,
    /// It has taken content of this digest for these recipients.
    Take { content: u64, rcpts: Vec<Box<str>> },
    /// It refuses this recipient for good.
    Refuse(Box<str>),
}

#[derive(Debug, PartialEq, Eq)]
enum Mode {
    Commands,
    Content,
    Chunk {
        left: usize,
        last: bool,
    },
    /// The handshake is under way.
    Handshake,
    Closed,
}

/// A host's end of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    temper: Temper,
    lmtp: bool,
    dsn: bool,
    chunks: Chunks,
    shake: Shake,
    secured: bool,
    mode: Mode,
    input: Vec<u8>,
    /// Content of chunks so far.
    chunked: Vec<u8>,
    mail: bool,
    rcpts: Vec<Box<str>>,
    rng: Rng,
}

/// The digest of a content by which it is recognised.
pub(super) fn digest(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    hasher.finish()
}

impl Peer {
    /// A connection that `host` has just accepted, and what it says first.
    pub(super) fn accept(host: &mut Host, now: Duration, seed: u64) -> (Self, Vec<Say>) {
        host.open += 1;
        let mut peer = Self {
            temper: host.temper(now),
            lmtp: host.lmtp,
            dsn: host.dsn,
            chunks: host.chunks,
            shake: host.shake,
            secured: false,
            mode: Mode::Commands,
            input: Vec::new(),
            chunked: Vec::new(),
            mail: false,
            rcpts: Vec::new(),
            rng: Rng::new(seed),
        };
        let mut said = Vec::new();
        match peer.temper {
            Temper::Mute => {}
            Temper::Busy => peer.farewell(&mut said),
            Temper::Crowded(most) if host.open > most => peer.farewell(&mut said),
            _ => peer.say(220, "peer.test at your service", &[], &mut said),
        }
        (peer, said)
    }

    /// Whether there is TLS.
    pub(super) fn is_secured(&self) -> bool {
        self.secured
    }

    /// The handshake has succeeded: nothing counts that came before.
    pub(super) fn secure(&mut self) {
        self.secured = true;
        self.mode = Mode::Commands;
        self.input.clear();
        self.chunked.clear();
        self.mail = false;
        self.rcpts.clear();
    }

    /// What it does upon these octets.
    pub(super) fn receive(&mut self, now: Duration, host: &mut Host, octets: &[u8]) -> Vec<Say> {
        let mut said = Vec::new();
        if self.temper == Temper::Mute {
            return said;
        }
        self.input.extend_from_slice(octets);
        loop {
            match self.mode {
                Mode::Commands => {
                    let Some(end) = find(&self.input, b"\r\n") else {
                        return said;
                    };
                    let line: Vec<u8> = self.input.drain(..end + 2).collect();
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    self.command(now, host, &line, &mut said);
                }
                Mode::Content => {
                    // The line break before an empty content is that of DATA.
                    let lone = self.input.starts_with(b".\r\n");
                    let end = if lone {
                        Some(0)
                    } else {
                        find(&self.input, b"\r\n.\r\n").map(|end| end + 2)
                    };
                    let Some(end) = end else {
                        return said;
                    };
                    let content: Vec<u8> = self.input.drain(..end).collect();
                    self.input.drain(..3);
                    self.mode = Mode::Commands;
                    self.ended(&unstuffed(&content), &mut said);
                }
                Mode::Chunk { left, last } => {
                    if self.input.len() < left {
                        return said;
                    }
                    self.mode = Mode::Commands;
                    let octets: Vec<u8> = self.input.drain(..left).collect();
                    self.chunk(&octets, last, &mut said);
                }
                Mode::Handshake | Mode::Closed => return said,
            }
        }
    }

    fn command(&mut self, now: Duration, host: &mut Host, line: &str, said: &mut Vec<Say>) {
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" if self.temper == Temper::Plain => {
                self.say(500, "command unknown", &[], said);
            }
            "EHLO" | "LHLO" => self.hello(said),
            "STAR" if self.secured || self.shake == Shake::No => {
                self.say(503, "no TLS here", &[], said);
            }
            "STAR" if self.shake == Shake::Refuses => {
                self.say(454, "TLS not available", &[], said);
            }
            "STAR" => {
                self.mode = Mode::Handshake;
                self.say(220, "go ahead", &[], said);
            }
            "HELO" => self.say(250, "hello", &[], said),
            "MAIL" if self.temper == Temper::TurnsAway => {
                self.say(451, "not now", &[], said);
            }
            "MAIL" => {
                self.mail = true;
                self.rcpts.clear();
                self.chunked.clear();
                self.say(250, "sender is fine", &[], said);
            }
            "RCPT" => {
                let rcpt = line.split(['<', '>']).nth(1).unwrap_or_default();
                let (code, text) = self.recipient(now, host, rcpt);
                if code == 550 {
                    said.push(Say::Refuse(rcpt.into()));
                }
                self.say(code, text, &[], said);
            }
            "DATA" if self.rcpts.is_empty() => self.say(503, "RCPT first", &[], said),
            "DATA" => {
                self.mode = Mode::Content;
                self.say(354, "go ahead", &[], said);
            }
            "BDAT" if matches!(self.chunks, Chunks::Yes | Chunks::Dislikes) => {
                let mut words = line.split(' ').skip(1);
                let left = words.next().and_then(|word| word.parse().ok());
                let (left, last) = (left.unwrap_or(0), words.next().is_some());
                self.mode = Mode::Chunk { left, last };
            }
            "RSET" => {
                self.chunked.clear();
                self.mail = false;
                self.rcpts.clear();
                self.say(250, "forgotten", &[], said);
            }
            "QUIT" => {
                self.say(221, "bye", &[], said);
                self.close(said);
            }
            _ => self.say(500, "command unknown", &[], said),
        }
    }

    fn recipient(&mut self, now: Duration, host: &mut Host, rcpt: &str) -> (u16, &'static str) {
        if !self.mail {
            return (503, "MAIL first");
        }
        let refused = match self.temper {
            Temper::Greylists => {
                let first = *host.seen.entry(rcpt.into()).or_insert(now);
                (now < first + GREY).then_some((451, "greylisted"))
            }
            Temper::Refuses if digest(rcpt.as_bytes()).is_multiple_of(2) => {
                Some((550, "no such user"))
            }
            _ => None,
        };
        refused.unwrap_or_else(|| {
            self.rcpts.push(rcpt.into());
            (250, "recipient is fine")
        })
    }

    /// A chunk is here.
    fn chunk(&mut self, octets: &[u8], last: bool, said: &mut Vec<Say>) {
        if self.rcpts.is_empty() {
            return self.say(503, "RCPT first", &[], said);
        }
        if self.chunks == Chunks::Dislikes || octets.is_empty() && !last {
            self.mail = false;
            self.rcpts.clear();
            return self.say(551, "what a BDAT request", &[], said);
        }
        self.chunked.extend_from_slice(octets);
        if last {
            let content = std::mem::take(&mut self.chunked);
            self.ended(&content, said);
        } else {
            self.say(250, "chunk is fine", &[], said);
        }
    }

    /// The content is here.
    fn ended(&mut self, content: &[u8], said: &mut Vec<Say>) {
        let rcpts = std::mem::take(&mut self.rcpts);
        self.mail = false;
        let luck = self.rng.below(6);
        match self.temper {
            Temper::DefersAtDot if luck < 3 => {
                let replies = if self.lmtp { rcpts.len() } else { 1 };
                for _ in 0..replies {
                    self.say(451, "try again", &[], said);
                }
                return;
            }
            Temper::DropsAfterDot if luck < 2 => return self.close(said),
            _ => {}
        }
        said.push(Say::Take {
            content: digest(content),
            rcpts: rcpts.clone(),
        });
        match self.temper {
            Temper::DropsAfterDot if luck == 2 => return self.close(said),
            Temper::LateAfterDot if luck < 2 => said.push(Say::Reply {
                after: Duration::from_mins(11),
                octets: Bytes::new(),
                confirms: Vec::new(),
            }),
            _ => {}
        }
        if self.lmtp {
            for rcpt in rcpts {
                self.say(250, "taken", &[rcpt], said);
            }
        } else {
            self.say(250, "taken", &rcpts, said);
        }
    }

    fn hello(&mut self, said: &mut Vec<Say>) {
        let dsn = if self.dsn { "250-DSN\r\n" } else { "" };
        let chunking = match self.chunks {
            Chunks::No => "",
            Chunks::Yes | Chunks::Dislikes | Chunks::Pretended => "250-CHUNKING\r\n",
        };
        let tls = if self.secured || self.shake == Shake::No {
            ""
        } else {
            "250-STARTTLS\r\n"
        };
        let text = format!(
            "250-peer.test\r\n250-PIPELINING\r\n{tls}{chunking}{dsn}250-SIZE 0\r\n250 8BITMIME\r\n"
        );
        self.put(text.into_bytes(), &[], said);
    }

    fn farewell(&mut self, said: &mut Vec<Say>) {
        self.say(421, "too busy", &[], said);
        self.close(said);
    }

    fn close(&mut self, said: &mut Vec<Say>) {
        self.mode = Mode::Closed;
        said.push(Say::Close);
    }

    fn say(&mut self, code: u16, text: &str, confirms: &[Box<str>], said: &mut Vec<Say>) {
        let line = match self.temper {
            Temper::Wordy => {
                let more = format!("{code}-{}\r\n", "and so on ".repeat(7)).repeat(5);
                format!("{code}-{text}\r\n{more}{code} that is all\r\n")
            }
            _ => format!("{code} {text}\r\n"),
        };
        self.put(line.into_bytes(), confirms, said);
    }

    fn put(&mut self, octets: Vec<u8>, confirms: &[Box<str>], said: &mut Vec<Say>) {
        let millis = 1 + self.rng.below(20);
        let after = match self.temper {
            Temper::Slow => Duration::from_millis(millis * 1000),
            _ => Duration::from_millis(millis),
        };
        if self.temper == Temper::Babbles && self.rng.below(10) == 0 {
            let octets = self.nonsense();
            return said.push(Say::Reply {
                after,
                octets,
                confirms: Vec::new(),
            });
        }
        let piece = if self.temper == Temper::Wordy {
            100
        } else {
            octets.len()
        };
        let octets = Bytes::from(octets);
        let mut start = 0;
        while start < octets.len() {
            let end = (start + piece).min(octets.len());
            let last = end == octets.len();
            said.push(Say::Reply {
                after,
                octets: octets.slice(start..end),
                confirms: if last { confirms.to_vec() } else { Vec::new() },
            });
            start = end;
        }
    }

    fn nonsense(&mut self) -> Bytes {
        let text: &[u8] = match self.rng.below(7) {
            0 => b"999 what?\r\n",
            1 => b"25\r\n",
            2 => b"\0\x01\x02\xff\r\n",
            3 => b"HTTP/1.1 200 OK\r\n\r\n",
            4 => b"250-yes\r\n451 no\r\n",
            5 => return b"250-on and on\r\n".repeat(1000).into(),
            _ => return b"x".repeat(10_000).into(),
        };
        Bytes::from_static(text)
    }
}

fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    octets.windows(what.len()).position(|window| window == what)
}

/// RFC 5321 section 4.5.2, the receiving side.
fn unstuffed(content: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(content.len());
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        plain.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    plain
}
