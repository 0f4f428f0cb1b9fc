//! A driver for the session machine that keeps what it is told instead of doing it.

use bytes::Bytes;
use redspool_core::addr::{Address, Source};
use redspool_core::envelope::{Delivery, Envelope, Relay};
use redspool_core::id::MessageId;
use redspool_core::limits::Limits;
use redspool_core::machine::Machine;
use redspool_core::queue::Message;
use redspool_core::reply::Reply;
use redspool_core::smtp::session::{
    Action, Auth, Content, Ending, Event, Note, Params, Recipient, Session, Settings, Starttls,
};
use redspool_core::smtp::{Credentials, Tls};
use redspool_core::time::{Now, Timestamp};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// 2026-11-23 06:46:00 UTC.
pub(crate) const START: u64 = 1_795_416_360;

/// Something the session waits for, or tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Reserve,
    Expand(Address, Address),
    Commit(Taken),
    Discard(MessageId),
    StartTls,
    Authenticate(Credentials),
    Close(Ending),
}

/// A message that was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) message: Message,
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) content: Vec<u8>,
    pub(crate) spooled: bool,
}

pub(crate) struct Driver {
    pub(crate) session: Session,
    pub(crate) now: Now,
    /// What the client has said and the session has not read.
    pub(crate) unsent: VecDeque<u8>,
    /// Octets per read.
    step: usize,
    /// What the session has said and nobody has looked at.
    pub(crate) output: Vec<u8>,
    pub(crate) sends: usize,
    pub(crate) seen: VecDeque<Seen>,
    pub(crate) notes: VecDeque<Note>,
    /// The temporary file.
    file: Vec<u8>,
    pub(crate) disk_full: bool,
    closed: bool,
}

pub(crate) fn params(limits: Limits) -> Params {
    Params {
        settings: Arc::new(Settings {
            limits: Arc::new(limits),
            hostname: "mx.example".into(),
            software: "redspool".into(),
            dsn: true,
            mask_source: false,
            starttls: Starttls::Absent,
            auth: Auth::Absent,
            received_auth: false,
        }),
        tag: "".into(),
        source: Source::Inet4([192, 0, 2, 1].into()),
        rdns: "client.example".into(),
        local: false,
        tls: None,
        authenticated: false,
        username: "".into(),
        number: 1,
        seed: 1,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "any instant will do to count from"
)]
fn start() -> Now {
    Now {
        mono: Instant::now(),
        wall: Timestamp::from_secs(START),
    }
}

impl Driver {
    pub(crate) fn new(params: Params, step: usize) -> Self {
        let now = start();
        let mut driver = Self {
            session: Session::new(params, now),
            now,
            unsent: VecDeque::new(),
            step,
            output: Vec::new(),
            sends: 0,
            seen: VecDeque::new(),
            notes: VecDeque::new(),
            file: Vec::new(),
            disk_full: false,
            closed: false,
        };
        driver.drain();
        driver
    }

    pub(crate) fn handle(&mut self, event: Event) {
        self.session.handle(self.now, event);
        self.drain();
    }

    /// Lets the session read once; says whether there was anything it wanted.
    pub(crate) fn feed(&mut self) -> bool {
        if self.unsent.is_empty() || !self.session.wants_input() {
            return false;
        }
        let step = self.step.min(self.unsent.len());
        let octets: Vec<u8> = self.unsent.drain(..step).collect();
        self.handle(Event::Received(Bytes::from(octets)));
        true
    }

    /// Lets time pass, and reports the deadline if it has passed.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall = self.now.wall.after(time);
        if let Some(deadline) = self.session.deadline()
            && deadline <= self.now.mono
        {
            self.handle(Event::TimedOut);
        }
    }

    /// A line of output, with its end.
    pub(crate) fn line(&mut self) -> Option<String> {
        let end = self.output.iter().position(|&octet| octet == b'\n')?;
        let line: Vec<u8> = self.output.drain(..=end).collect();
        Some(String::from_utf8(line).unwrap())
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.poll() {
            assert!(!self.closed, "after the end: {action:?}");
            match action {
                Action::Send(octets) => {
                    assert!(!octets.is_empty());
                    self.sends += 1;
                    self.output.extend_from_slice(&octets);
                }
                Action::Log(note) => self.notes.push_back(note),
                Action::Spool(piece) => {
                    self.file.extend_from_slice(&piece);
                    let event = if self.disk_full {
                        Event::SpoolFailed(reply("452 4.3.1 No space"))
                    } else {
                        Event::Spooled
                    };
                    self.session.handle(self.now, event);
                }
                Action::Reserve { .. } => self.seen.push_back(Seen::Reserve),
                Action::Expand { sender, rcpt } => {
                    self.seen.push_back(Seen::Expand(sender, rcpt));
                }
                Action::Commit(incoming) => {
                    let spooled = matches!(incoming.content, Content::Spooled);
                    let content = match incoming.content {
                        Content::Whole(content) => content.to_vec(),
                        Content::Spooled => std::mem::take(&mut self.file),
                    };
                    self.seen.push_back(Seen::Commit(Taken {
                        message: incoming.message,
                        envelopes: incoming.envelopes,
                        content,
                        spooled,
                    }));
                }
                Action::Discard(message) => {
                    self.file.clear();
                    self.seen.push_back(Seen::Discard(message));
                }
                Action::StartTls => {
                    // Who sends something now sends it in clear.
                    assert!(!self.session.wants_input(), "in the handshake");
                    self.seen.push_back(Seen::StartTls);
                }
                Action::Authenticate(credentials) => {
                    self.seen.push_back(Seen::Authenticate(credentials));
                }
                Action::Close(ending) => {
                    self.closed = true;
                    self.seen.push_back(Seen::Close(ending));
                }
            }
        }
    }
}

/// What the handshakes of tests come to.
pub(crate) fn tls(verified: bool) -> Tls {
    Tls {
        version: "TLSv1.3".into(),
        cipher: "TLS_AES_256_GCM_SHA384".into(),
        bits: 256,
        verified,
    }
}

/// A delivery to `dest` by the relaying agent.
pub(crate) fn recipient(dest: Address, internal: bool) -> Recipient {
    Recipient {
        dest,
        action: "relay".into(),
        delivery: Delivery::Mta(Relay::to(None)),
        ttl: Duration::from_hours(96),
        internal,
    }
}

/// Reads `550 5.1.1 text`.
pub(crate) fn reply(text: &str) -> Reply {
    let (code, rest) = text.split_once(' ').unwrap();
    let (status, rest) = redspool_core::reply::Status::split_from(rest).unwrap();
    Reply::new(code.parse().unwrap(), Some(status), rest.to_owned())
}
