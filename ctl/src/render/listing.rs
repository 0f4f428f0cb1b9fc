//! `show queue` and `mailq`: one line of fourteen fields per envelope, or a record for programs.

use super::cell::Cell;
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
        Runstate::Pending { .. } | Runstate::Offline | Runstate::Trash { .. } => row.last_try,
    };
    put(
        out,
        format_args!("|{}|{}|{last_try}|{}|", row.ctime, row.expiry, row.retry),
    );
    match row.runstate {
        Runstate::Pending { due, .. } => put(out, format_args!("pending|{}|", wait(now, due))),
        Runstate::Inflight { since } => put(out, format_args!("inflight|{}|", wait(since, now))),
        Runstate::Offline => out.extend_from_slice(b"offline||"),
        Runstate::Trash {
            until: Some(until), ..
        } => put(out, format_args!("trash|{}|", wait(now, until))),
        Runstate::Trash { .. } => out.extend_from_slice(b"trash||"),
    }
    escape::vis(&row.errorline, out);
    out.push(b'\n');
}

/// A field of the forms for programs.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its name, which stays.
    pub(crate) name: &'static str,
    /// What it says, for the manual.
    pub(crate) what: &'static str,
    cell: fn(&EnvelopeRow) -> Cell,
}

impl Field {
    const fn new(name: &'static str, what: &'static str, cell: fn(&EnvelopeRow) -> Cell) -> Self {
        Self { name, what, cell }
    }
}

/// The fields of the forms for programs, in order. New ones are added at the end.
pub(crate) static FIELDS: &[Field] = &[
    Field::new("id", "the envelope, 16 hexadecimal digits", |row| {
        Cell::Text(format!("{:016x}", row.id))
    }),
    Field::new("message", "its message, 8 hexadecimal digits", |row| {
        Cell::Text(format!("{:08x}", row.id >> 32))
    }),
    Field::new(
        "family",
        "how the client came: `local`, `inet4`, `inet6`",
        |row| family(row.family).into(),
    ),
    Field::new("type", "who delivers: `mta`, `mda`, `bounce`", |row| {
        agent(row.agent).into()
    }),
    Field::new(
        "flags",
        "list of `bounce`, `auth`, `internal`, `suspend`, `hold`",
        |row| Cell::Words(flag_words(row.flags).map(str::to_owned).collect()),
    ),
    Field::new("sender", "return path, empty for the null sender", |row| {
        row.sender.as_str().into()
    }),
    Field::new("rcpt", "recipient as given", |row| row.rcpt.as_str().into()),
    Field::new("dest", "recipient after expansion", |row| {
        row.dest.as_str().into()
    }),
    Field::new("ctime", "creation", |row| row.ctime.into()),
    Field::new("expiry", "expiration", |row| row.expiry.into()),
    Field::new(
        "last_try",
        "start of the last attempt that ended, or nothing",
        |row| match row.last_try {
            0 => Cell::None,
            date => date.into(),
        },
    ),
    Field::new("retry", "attempts that failed for now", |row| {
        u64::from(row.retry).into()
    }),
    Field::new(
        "state",
        "`pending`, `inflight`, `offline` or `trash`",
        |row| {
            match row.runstate {
                Runstate::Pending { .. } => "pending",
                Runstate::Inflight { .. } => "inflight",
                Runstate::Offline => "offline",
                Runstate::Trash { .. } => "trash",
            }
            .into()
        },
    ),
    Field::new(
        "due",
        "when the next attempt is due, if it is pending, or it leaves the trash",
        |row| match row.runstate {
            Runstate::Pending { due, .. } => due.into(),
            Runstate::Trash { until, .. } => until.map_or(Cell::None, Cell::from),
            _ => Cell::None,
        },
    ),
    Field::new(
        "since",
        "when the attempt began, if it is in flight, or it was removed",
        |row| match row.runstate {
            Runstate::Inflight { since } | Runstate::Trash { since, .. } => since.into(),
            _ => Cell::None,
        },
    ),
    Field::new(
        "error",
        "text of the last failure, or nothing",
        |row| match row.errorline.as_str() {
            "" => Cell::None,
            text => text.into(),
        },
    ),
    Field::new(
        "status",
        "its enhanced status such as `4.7.1`, or nothing",
        |row| {
            row.status.map_or(Cell::None, |status| {
                Cell::Text(format!(
                    "{}.{}.{}",
                    status.class, status.subject, status.detail
                ))
            })
        },
    ),
    Field::new("tag", "tag of the listener, or nothing", |row| {
        match row.tag.as_str() {
            "" => Cell::None,
            tag => tag.into(),
        }
    }),
];

/// The names and values of a row.
pub(super) fn cells(row: &EnvelopeRow) -> impl Iterator<Item = (&'static str, Cell)> {
    FIELDS.iter().map(|field| (field.name, (field.cell)(row)))
}

/// The null sender is a bare `@`.
pub(super) fn or_null(address: &str) -> &str {
    if address.is_empty() { "@" } else { address }
}

/// The word for who delivers.
pub(crate) fn agent(agent: Agent) -> &'static str {
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
    let mut separator = "";
    for word in flag_words(flags) {
        put(out, format_args!("{separator}{word}"));
        separator = ",";
    }
}

fn flag_words(flags: RowFlags) -> impl Iterator<Item = &'static str> {
    let words = [
        (flags.bounce, "bounce"),
        (flags.auth, "auth"),
        (flags.internal, "internal"),
        (flags.suspend, "suspend"),
        (flags.hold, "hold"),
    ];
    words
        .into_iter()
        .filter_map(|(set, word)| set.then_some(word))
}

/// Seconds from one date to another, negative if that is earlier.
fn wait(from: u64, to: u64) -> i64 {
    to.checked_signed_diff(from).unwrap_or(i64::MAX)
}
