//! Replies as text: the bytes scripts and people see.
//!
//! Promises: pure; the same replies give the same bytes. What scripts read (listing, status,
//! stats, monitor, counts) has exactly the form of the reference. Nothing that came from outside
//! reaches a terminal unescaped.
//! Absent on purpose: reading the time, writing anywhere, knowing where replies come from.

mod cell;
mod explain;
mod listing;
mod numbers;
mod record;
mod relaying;
mod summary;

pub(crate) use cell::{Cell, Format, record as write_record};
pub(crate) use listing::{FIELDS, agent};
pub(crate) use numbers::{DIGEST_NAMES, STATUS_NAMES};
pub(crate) use relaying::names as mta_names;
pub(crate) use summary::NAMES as SUMMARY_NAMES;

use crate::escape;
use redspool_core::control::{DigestRow, EnvelopeRow, Lack, MtaListing, Reply, Right, Selection};
use std::fmt;
use std::io::Write as _;
use summary::Summary;

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
    /// A line per row of the relaying agent.
    Mta(MtaListing),
    /// One screen about one envelope.
    Explanation,
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
    /// Whether no more replies are wanted.
    pub(crate) enough: bool,
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
    /// The form for programs, if that is wanted.
    format: Option<Format>,
    /// Which rows of a listing are wanted.
    selection: Selection,
    /// How many more of them.
    left: u64,
    /// What is counted instead of listed.
    summary: Option<Summary>,
    /// Whether the listing has begun.
    begun: bool,
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
            format: None,
            selection: Selection::default(),
            left: u64::MAX,
            summary: None,
            begun: false,
            carry: Vec::new(),
            digests: 0,
            last_digest: DigestRow::default(),
        }
    }

    /// Writes for programs.
    pub(crate) fn with_format(self, format: Option<Format>) -> Self {
        Self { format, ..self }
    }

    /// Lists these rows only.
    pub(crate) fn with_selection(self, selection: Selection) -> Self {
        let left = selection.limit.unwrap_or(u64::MAX);
        Self {
            selection,
            left,
            ..self
        }
    }

    /// Counts rows by domain and age instead of listing them, and tells so many domains apart.
    pub(crate) fn with_summary(self, domains: usize) -> Self {
        let summary = Some(Summary::new(domains));
        Self { summary, ..self }
    }

    /// The text of the next reply.
    pub(crate) fn reply(&mut self, reply: Reply) -> Written {
        let mut written = Written::default();
        let out = &mut written.out;
        match (self.render, reply) {
            (Render::Listing, Reply::EnvelopeRows(rows)) => self.rows(&rows, &mut written),
            (Render::Listing, Reply::Damaged { message, reason }) => {
                written.fail(&format!("message {message:08x} is damaged: {reason}"));
            }
            (Render::Listing, Reply::End) => self.listing_end(out),
            (Render::Record, Reply::EnvelopeRecord(envelope)) => match self.format {
                Some(format) => record::record(&envelope, format, out),
                None => record::lines(&envelope, out),
            },
            (Render::Content, Reply::Piece(piece)) => self.content(&piece, out),
            (Render::Content, Reply::End) => self.content_end(out),
            (Render::Status, Reply::Status(row)) => match self.format {
                Some(format) => numbers::status_record(&row, format, out),
                None => numbers::status(&row, out),
            },
            (Render::Stats, Reply::Stats { uptime, rows }) => match self.format {
                Some(format) => numbers::stats_record(uptime, &rows, format, out),
                None => numbers::stats(uptime, &rows, out),
            },
            (Render::Affected(done), Reply::Affected { count, inflight }) => {
                numbers::affected(count, done, out);
                // The reference says nothing, and whoever removed a mail wonders why it went out.
                if done == "removed" && inflight > 0 {
                    written.remark(&format!(
                        "{inflight} of these in flight: the running attempt may still deliver"
                    ));
                }
            }
            (Render::Affected(done), Reply::Census(census)) => numbers::census(&census, done, out),
            (Render::Mta(listing), Reply::End) => self.mta_start(listing, out),
            (Render::Affected(_), Reply::Working) => {}
            (Render::Done, Reply::Done) => out.extend_from_slice(b"command succeeded\n"),
            (Render::Digests, Reply::Digest(row)) => self.digest(row, out),
            (Render::Mta(listing), Reply::MtaRows(rows)) => {
                self.mta_start(listing, out);
                for row in &rows {
                    match self.format {
                        Some(format) => cell::record(format, relaying::cells(row), out),
                        None => relaying::row(row, self.now, out),
                    }
                }
            }
            (Render::Explanation, Reply::Explanation(explanation)) => match self.format {
                Some(format) => cell::record(format, explain::cells(&explanation, self.now), out),
                None => explain::screen(&explanation, self.now, out),
            },
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
            Reply::Denied(lack) => {
                written.fail("need root privileges");
                written.remark(&lacking(&lack));
            }
            Reply::Fail { reason } => {
                if self.render == Render::Done {
                    written.out.extend_from_slice(b"command failed\n");
                }
                written.fail(&reason);
            }
            _ => written.fail("bad message type"),
        }
    }

    /// Writes or counts the rows that are wanted.
    fn rows(&mut self, rows: &[EnvelopeRow], written: &mut Written) {
        let out = &mut written.out;
        self.listing_start(out);
        for row in rows {
            if self.left == 0 {
                break;
            }
            if !self.selection.matches(row, self.now) {
                continue;
            }
            self.left = self.left.saturating_sub(1);
            match (&mut self.summary, self.format) {
                (Some(summary), _) => summary.count(row, self.now),
                (None, Some(format)) => cell::record(format, listing::cells(row), out),
                (None, None) => listing::row(row, self.now, out),
            }
        }
        if self.left == 0 {
            self.listing_end(out);
            written.enough = true;
        }
    }

    fn listing_start(&mut self, out: &mut Vec<u8>) {
        let lines = self.summary.is_none();
        if !self.begun && lines && self.format == Some(Format::Csv) {
            cell::header(FIELDS.iter().map(|field| field.name), out);
        }
        self.begun = true;
    }

    fn mta_start(&mut self, listing: MtaListing, out: &mut Vec<u8>) {
        if !self.begun && self.format == Some(Format::Csv) {
            cell::header(relaying::names(listing).iter().copied(), out);
        }
        self.begun = true;
    }

    fn listing_end(&mut self, out: &mut Vec<u8>) {
        self.listing_start(out);
        match (&self.summary, self.format) {
            (Some(summary), Some(format)) => summary.records(format, out),
            (Some(summary), None) => summary.table(out),
            (None, _) => {}
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
        let first = self.digests == 0;
        if let Some(format) = self.format {
            numbers::digest_record(&row, &self.last_digest, first, format, out);
        } else {
            numbers::digest_header(self.digests, out);
            numbers::digest(&row, &self.last_digest, out);
        }
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

/// Which right is missing, and who has it.
fn lacking(lack: &Lack) -> String {
    let Lack {
        uid,
        right,
        owner,
        operators,
    } = lack;
    let owner = owner.map_or_else(String::new, |owner| format!(" and uid {owner}"));
    let able = match (right, operators) {
        (Right::Look, Some(group)) => format!("root{owner} and members of the group {group}"),
        _ => format!("root{owner}"),
    };
    let what = match right {
        Right::Look => "see this",
        Right::Control | Right::Submit => "do this",
    };
    format!("uid {uid} may not {what}, but {able} may")
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
