//! `show queue` and `mailq`: one line of fourteen fields per envelope.

use super::put;
use crate::escape;
use redspool_core::control::{Agent, EnvelopeRow, Family, RowFlags, Runstate};

/// One line. Only the error is escaped as a whole; in addresses, the separator is.
pub(super) fn row(row: &EnvelopeRow, now: u64, out: &mut Vec<u8>) {
    put(out, format_args!("{:016x}|", row.id));
    put(out, format_args!("{}|", family(row.family)));
    put(out, format_args!("{}|", agent(row.agent)));
    flags(row.flags, out);
    for address in [&row.sender, &row.rcpt, &row.dest] {
        out.push(b'|');
        escape::field(or_null(address), out);
    }
    let last_try = match row.runstate {
        Runstate::Inflight { since } => since,
        Runstate::Pending { .. } | Runstate::Offline => row.last_try,
    };
    put(
        out,
        format_args!("|{}|{}|{last_try}|{}|", row.ctime, row.expiry, row.retry),
    );
    match row.runstate {
        Runstate::Pending { due, .. } => put(out, format_args!("pending|{}|", wait(now, due))),
        Runstate::Inflight { since } => put(out, format_args!("inflight|{}|", wait(since, now))),
        Runstate::Offline => out.extend_from_slice(b"offline||"),
    }
    escape::vis(&row.errorline, out);
    out.push(b'\n');
}

/// The null sender is a bare `@`.
pub(super) fn or_null(address: &str) -> &str {
    if address.is_empty() { "@" } else { address }
}

/// The word for who delivers.
pub(super) fn agent(agent: Agent) -> &'static str {
    match agent {
        Agent::Mta => "mta",
        Agent::Mda => "mda",
        Agent::Bounce => "bounce",
    }
}

fn family(family: Family) -> &'static str {
    match family {
        Family::Local => "local",
        Family::Inet4 => "inet4",
        Family::Inet6 => "inet6",
    }
}

fn flags(flags: RowFlags, out: &mut Vec<u8>) {
    let words = [
        (flags.bounce, "bounce"),
        (flags.auth, "auth"),
        (flags.internal, "internal"),
        (flags.suspend, "suspend"),
        (flags.hold, "hold"),
    ];
    let mut separator = "";
    for (_, word) in words.iter().filter(|(set, _)| *set) {
        put(out, format_args!("{separator}{word}"));
        separator = ",";
    }
}

/// Seconds from one date to another, negative if that is earlier.
fn wait(from: u64, to: u64) -> i64 {
    to.checked_signed_diff(from).unwrap_or(i64::MAX)
}
