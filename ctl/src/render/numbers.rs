//! Status, counters, `monitor`, and counts of what was done.

use super::put;
use redspool_core::control::{DigestRow, StatusRow};
use redspool_core::time::short;
use std::time::Duration;

/// Lines of `monitor` under one header.
const DIGESTS_PER_HEADER: usize = 25;

/// The three lines of `show status`.
pub(super) fn status(row: StatusRow, out: &mut Vec<u8>) {
    let subsystems = [
        ("MDA", row.mda_paused),
        ("MTA", row.mta_paused),
        ("SMTP", row.smtp_paused),
    ];
    for (subsystem, paused) in subsystems {
        let state = if paused { "paused" } else { "running" };
        put(out, format_args!("{subsystem} {state}\n"));
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
    let plural = if count > 1 { "s" } else { "" };
    put(out, format_args!("{count} envelope{plural} {done}\n"));
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

/// One line: what is now, and what came since `last`.
pub(super) fn digest(row: &DigestRow, last: &DigestRow, out: &mut Vec<u8>) {
    let since = |field: fn(&DigestRow) -> u64| field(row).saturating_sub(field(last));
    put(
        out,
        format_args!(
            "{:4} {:4} {:4}  {:4} {:4} {:4} {:4}    {:4}    {:4} {:4}   {:4}   {:4}   {:4}\n",
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
        ),
    );
}
