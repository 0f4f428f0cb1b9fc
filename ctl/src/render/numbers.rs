//! Status, counters, `monitor`, and counts of what was done.

use super::cell::{self, Cell, Format};
use super::listing::or_null;
use super::put;
use crate::escape;
use redspool_core::control::{Census, DigestRow, QueueState, StatusRow};
use redspool_core::time::short;
use std::time::Duration;

/// Lines of `monitor` under one header.
const DIGESTS_PER_HEADER: usize = 25;

/// The names of the record of `show status`, in order.
pub(crate) const STATUS_NAMES: [&str; 13] = [
    "mda",
    "mta",
    "smtp",
    "queue",
    "queue_seconds",
    "queue_error",
    "space_free",
    "space_reserve",
    "files_free",
    "files_reserve",
    "corrupt",
    "damage",
    "back_in_time",
];

/// The three lines of `show status`, and more for what is not well with the queue.
pub(super) fn status(row: &StatusRow, out: &mut Vec<u8>) {
    let subsystems = [
        ("MDA", row.mda_paused),
        ("MTA", row.mta_paused),
        ("SMTP", row.smtp_paused),
    ];
    for (subsystem, paused) in subsystems {
        let state = if paused { "paused" } else { "running" };
        put(out, format_args!("{subsystem} {state}\n"));
    }
    // Scripts count three lines where all is well.
    match &row.queue {
        QueueState::Sound => {}
        QueueState::Short { seconds, space } => {
            let since = short(Duration::from_secs(*seconds));
            put(
                out,
                format_args!("QUEUE short of space for {since}, new mail is put off"),
            );
            if let Some(space) = space {
                put(
                    out,
                    format_args!(
                        ": {} MiB and {} files free, {} MiB and {} files are kept",
                        space.free >> 20,
                        space.files,
                        space.reserve >> 20,
                        space.files_reserve
                    ),
                );
            }
            put(out, format_args!("\n"));
        }
        QueueState::Down { seconds, reason } => {
            let since = short(Duration::from_secs(*seconds));
            put(
                out,
                format_args!("QUEUE down for {since}, everything is put off: "),
            );
            escape::printable(reason, out);
            put(out, format_args!("\n"));
        }
    }
    if row.opening.back_in_time {
        let what = "went back in time when it was opened, see the log";
        put(out, format_args!("QUEUE {what}\n"));
    }
    if row.opening.damage > 0 {
        put(
            out,
            format_args!(
                "QUEUE damaged in {} when it was opened, see the log\n",
                counted(row.opening.damage.into(), "place")
            ),
        );
    }
    if row.corrupt > 0 {
        let messages = counted(row.corrupt, "message");
        put(
            out,
            format_args!("QUEUE {messages} in the corrupt bucket\n"),
        );
    }
}

fn optional<T: Into<Cell>>(value: Option<T>) -> Cell {
    value.map_or(Cell::None, Into::into)
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// The same for programs: a record with the words of the lines in lower case.
pub(super) fn status_record(row: &StatusRow, format: Format, out: &mut Vec<u8>) {
    let (queue, seconds, reason, space) = match &row.queue {
        QueueState::Sound => ("sound", None, None, None),
        QueueState::Short { seconds, space } => ("short", Some(*seconds), None, *space),
        QueueState::Down { seconds, reason } => {
            ("down", Some(*seconds), Some(reason.as_str()), None)
        }
    };
    let state = |paused| Cell::from(if paused { "paused" } else { "running" });
    let cells: [Cell; STATUS_NAMES.len()] = [
        state(row.mda_paused),
        state(row.mta_paused),
        state(row.smtp_paused),
        Cell::from(queue),
        optional(seconds),
        optional(reason),
        optional(space.map(|space| space.free)),
        optional(space.map(|space| space.reserve)),
        optional(space.map(|space| space.files)),
        optional(space.map(|space| space.files_reserve)),
        row.corrupt.into(),
        u64::from(row.opening.damage).into(),
        Cell::Flag(row.opening.back_in_time),
    ];
    cell::record(format, STATUS_NAMES.into_iter().zip(cells), out);
}

/// The counters for programs: one object, or a line of CSV per counter.
pub(super) fn stats_record(uptime: u64, rows: &[(String, i64)], format: Format, out: &mut Vec<u8>) {
    let counters = rows
        .iter()
        .map(|(key, value)| (key.as_str(), i128::from(*value)));
    let mut counters: Vec<_> = counters.chain([("uptime", i128::from(uptime))]).collect();
    counters.sort_unstable();
    let cells = counters
        .into_iter()
        .map(|(key, value)| (key, Cell::Number(value)));
    match format {
        Format::Json => cell::record(format, cells, out),
        Format::Csv => {
            cell::header(["key", "value"].into_iter(), out);
            for (key, value) in cells {
                cell::record(format, [("key", key.into()), ("value", value)], out);
            }
        }
    }
}

/// `key=value` lines in order of the keys; the time since the start is two of them.
pub(super) fn stats(uptime: u64, rows: &[(String, i64)], out: &mut Vec<u8>) {
    let mut lines: Vec<_> = rows
        .iter()
        .map(|(key, value)| (key.as_str(), value.to_string()))
        .collect();
    lines.push(("uptime", uptime.to_string()));
    lines.push((
        "uptime.human",
        short(Duration::from_secs(uptime)).to_string(),
    ));
    lines.sort();
    for (key, value) in lines {
        put(out, format_args!("{key}={value}\n"));
    }
}

/// `0 envelope removed`, `1 envelope removed`, `2 envelopes removed`: none counts as one.
pub(super) fn affected(count: u64, done: &str, out: &mut Vec<u8>) {
    // Nothing is plural for `discover` alone.
    let plural = count > 1 || (count == 0 && done == "discovered");
    let plural = if plural { "s" } else { "" };
    put(out, format_args!("{count} envelope{plural} {done}\n"));
}

/// What a verb would hit, then most of what.
pub(super) fn census(census: &Census, done: &str, out: &mut Vec<u8>) {
    let plural = if census.envelopes > 1 { "s" } else { "" };
    let Census {
        envelopes,
        inflight,
        messages,
        octets,
        ..
    } = census;
    put(
        out,
        format_args!(
            "{envelopes} envelope{plural} would be {done}\nmessages: {messages}\n\
             octets: {octets}\nin flight: {inflight}\n"
        ),
    );
    let lists = [
        ("senders", &census.senders),
        ("domains", &census.domains),
        ("errors", &census.errors),
    ];
    for (what, texts) in lists.iter().filter(|(_, texts)| !texts.is_empty()) {
        put(out, format_args!("{what}:\n"));
        for (text, count) in *texts {
            put(out, format_args!("{count:8} "));
            escape::printable(or_null(text), out);
            out.push(b'\n');
        }
    }
}

/// The header, if it is due after so many lines.
pub(super) fn digest_header(lines: usize, out: &mut Vec<u8>) {
    if !lines.is_multiple_of(DIGESTS_PER_HEADER) {
        return;
    }
    if lines > 0 {
        out.push(b'\n');
    }
    out.extend_from_slice(
        b"--- client ---  -- envelope --   ---- relay/delivery --- ------- misc -------\n\
          curr conn disc  curr  enq  deq   ok tmpfail prmfail loop expire remove bounce\n",
    );
}

/// The names of the numbers of `monitor` for programs, in the order of its columns.
pub(crate) const DIGEST_NAMES: [&str; 13] = [
    "clients",
    "connected",
    "disconnected",
    "envelopes",
    "enqueued",
    "dequeued",
    "ok",
    "tempfail",
    "permfail",
    "loop",
    "expire",
    "remove",
    "bounce",
];

/// The numbers of one line for programs; the first one begins with the names in CSV.
pub(super) fn digest_record(
    row: &DigestRow,
    last: &DigestRow,
    first: bool,
    format: Format,
    out: &mut Vec<u8>,
) {
    if first && format == Format::Csv {
        cell::header(DIGEST_NAMES.into_iter(), out);
    }
    let numbers = digest_numbers(row, last).map(Cell::from);
    cell::record(format, DIGEST_NAMES.into_iter().zip(numbers), out);
}

/// One line: what is now, and what came since `last`.
pub(super) fn digest(row: &DigestRow, last: &DigestRow, out: &mut Vec<u8>) {
    let [
        clients,
        connected,
        disconnected,
        envelopes,
        enqueued,
        dequeued,
        rest @ ..,
    ] = digest_numbers(row, last);
    let [ok, tempfail, permfail, loops, expired, removed, bounce] = rest;
    put(
        out,
        format_args!(
            "{clients:4} {connected:4} {disconnected:4}  {envelopes:4} {enqueued:4} \
             {dequeued:4} {ok:4}    {tempfail:4}    {permfail:4} {loops:4}   {expired:4}   \
             {removed:4}   {bounce:4}\n"
        ),
    );
}

fn digest_numbers(row: &DigestRow, last: &DigestRow) -> [u64; 13] {
    let since = |field: fn(&DigestRow) -> u64| field(row).saturating_sub(field(last));
    [
        row.clients_connected
            .saturating_sub(row.clients_disconnected),
        since(|d| d.clients_connected),
        since(|d| d.clients_disconnected),
        row.enqueued.saturating_sub(row.dequeued),
        since(|d| d.enqueued),
        since(|d| d.dequeued),
        since(|d| d.ok),
        since(|d| d.tempfail),
        since(|d| d.permfail),
        since(|d| d.loops),
        since(|d| d.expired),
        since(|d| d.removed),
        since(|d| d.bounce),
    ]
}
