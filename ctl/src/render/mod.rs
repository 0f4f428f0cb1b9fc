//! Replies as text: the bytes scripts and people see.
//!
//! Promises: pure; the same replies give the same bytes. What scripts read (listing, status,
//! stats, monitor, counts) has exactly the form of the reference. Nothing that came from outside
//! reaches a terminal unescaped.
//! Absent on purpose: reading the time, writing anywhere, knowing where replies come from.

mod listing;
mod numbers;
mod record;

use crate::escape;
use redspool_core::control::{DigestRow, Reply};
use std::fmt;
use std::io::Write as _;

/// What to make of the replies to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Render {
    /// Fourteen fields per envelope.
    Listing,
    /// `key: value` lines.
    Record,
    /// The message itself.
    Content,
    /// Three lines, one per subsystem.
    Status,
    /// `key=value` lines.
    Stats,
    /// `3 envelopes removed`, with the word for what was done.
    Affected(&'static str),
    /// `command succeeded`.
    Done,
    /// One line of `monitor` per reply.
    Digests,
}

/// What a reply makes us write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// For the standard output.
    pub(crate) out: Vec<u8>,
    /// Lines for the standard error, without the program's name.
    pub(crate) remarks: Vec<String>,
    /// Whether it was not what was asked for.
    pub(crate) failed: bool,
}

/// Turns the replies to one command into text.
#[derive(Debug)]
pub(crate) struct Renderer {
    render: Render,
    /// What the command is about: `message 8d3f01aa`.
    subject: String,
    /// Seconds since the epoch.
    now: u64,
    /// Whether the standard output is a terminal.
    terminal: bool,
    /// End of the last piece of content that belongs to the next one.
    carry: Vec<u8>,
    /// Lines of `monitor` so far.
    digests: usize,
    last_digest: DigestRow,
}

impl Renderer {
    /// Starts with the first reply. `now` is in seconds since the epoch.
    pub(crate) fn new(render: Render, subject: String, now: u64, terminal: bool) -> Self {
        Self {
            render,
            subject,
            now,
            terminal,
            carry: Vec::new(),
            digests: 0,
            last_digest: DigestRow::default(),
        }
    }

    /// The text of the next reply.
    pub(crate) fn reply(&mut self, reply: Reply) -> Written {
        let mut written = Written::default();
        let out = &mut written.out;
        match (self.render, reply) {
            (Render::Listing, Reply::EnvelopeRows(rows)) => {
                for row in &rows {
                    listing::row(row, self.now, out);
                }
            }
            (Render::Listing, Reply::Damaged { message, reason }) => {
                written.fail(&format!("message {message:08x} is damaged: {reason}"));
            }
            (Render::Listing, Reply::End) => {}
            (Render::Record, Reply::EnvelopeRecord(envelope)) => record::lines(&envelope, out),
            (Render::Content, Reply::Piece(piece)) => self.content(&piece, out),
            (Render::Content, Reply::End) => self.content_end(out),
            (Render::Status, Reply::Status(row)) => numbers::status(row, out),
            (Render::Stats, Reply::Stats { uptime, rows }) => numbers::stats(uptime, &rows, out),
            (Render::Affected(done), Reply::Affected { count, inflight }) => {
                numbers::affected(count, done, out);
                // The reference says nothing, and whoever removed a mail wonders why it went out.
                if done == "removed" && inflight > 0 {
                    written.remark(&format!(
                        "{inflight} of these in flight: the running attempt may still deliver"
                    ));
                }
            }
            (Render::Done, Reply::Done) => out.extend_from_slice(b"command succeeded\n"),
            (Render::Digests, Reply::Digest(row)) => self.digest(row, out),
            (_, reply) => self.failure(reply, &mut written),
        }
        written
    }

    /// A reply that says the command could not be carried out.
    fn failure(&self, reply: Reply, written: &mut Written) {
        match reply {
            Reply::Unknown => {
                if let Render::Affected(done) = self.render {
                    numbers::affected(0, done, &mut written.out);
                }
                written.fail(&format!("no such {}", self.subject));
            }
            Reply::Denied => written.fail("need root privileges"),
            Reply::Fail { reason } => {
                if self.render == Render::Done {
                    written.out.extend_from_slice(b"command failed\n");
                }
                written.fail(&reason);
            }
            _ => written.fail("bad message type"),
        }
    }

    fn content(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut text = std::mem::take(&mut self.carry);
        text.extend_from_slice(piece);
        // The line feed that belongs to it may begin the next piece.
        let (body, end) = match text.strip_suffix(b"\r") {
            Some(body) => (body, &b"\r"[..]),
            None => (text.as_slice(), &b""[..]),
        };
        let lines = with_bare_line_feeds(body);
        if self.terminal {
            self.carry.extend_from_slice(escape::message(&lines, out));
        } else {
            out.extend_from_slice(&lines);
        }
        self.carry.extend_from_slice(end);
    }

    fn content_end(&mut self, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.carry);
        if self.terminal {
            for &octet in &rest {
                escape::octet(octet, out);
            }
        } else {
            out.extend_from_slice(&rest);
        }
    }

    fn digest(&mut self, row: DigestRow, out: &mut Vec<u8>) {
        numbers::digest_header(self.digests, out);
        numbers::digest(&row, &self.last_digest, out);
        self.digests = self.digests.saturating_add(1);
        self.last_digest = row;
    }
}

impl Written {
    fn remark(&mut self, text: &str) {
        let mut line = Vec::new();
        escape::printable(text, &mut line);
        self.remarks
            .push(String::from_utf8(line).unwrap_or_default());
    }

    fn fail(&mut self, text: &str) {
        self.failed = true;
        self.remark(text);
    }
}

/// CR LF as stored becomes LF as read.
fn with_bare_line_feeds(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(line) => {
                lines.extend_from_slice(line);
                lines.push(b'\n');
            }
            None => lines.extend_from_slice(line),
        }
    }
    lines
}

fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes what is written");
}

#[cfg(test)]
mod tests;
