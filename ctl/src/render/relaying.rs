//! `show relays`, `show routes`, `show hosts`, `show hoststats`, `show mta paused`: one line per
//! row in the form of the reference, or a record for programs.

use super::cell::{Cell, Record};
use super::put;
use crate::escape;
use redspool_core::control::{
    ConnectorFlag, ConnectorRow, HostRow, HostStatRow, MtaListing, MtaRow, RelayRow, RelayWait,
    RouteRow,
};
use redspool_core::time::short;
use std::net::IpAddr;
use std::time::Duration;

/// The line or lines of a row.
pub(super) fn row(row: &MtaRow, now: u64, out: &mut Vec<u8>) {
    match row {
        MtaRow::Relay(row) => relay(row, now, out),
        MtaRow::Route(row) => route(row, now, out),
        MtaRow::Host(row) => host(row, now, out),
        MtaRow::HostStat(row) => hoststat(row, out),
        MtaRow::Blocked { source, domain } => {
            put(out, format_args!("{} -> ", bracketed(*source)));
            escape::printable(domain, out);
            out.push(b'\n');
        }
    }
}

const RELAY: [&str; 24] = [
    "id",
    "domain",
    "port",
    "scheme",
    "mx",
    "backup",
    "sourcetable",
    "helotable",
    "heloname",
    "auth",
    "pki",
    "ca",
    "tls",
    "ciphers",
    "protocols",
    "dane",
    "mta-sts",
    "refcount",
    "ntask",
    "nconn",
    "lastconn",
    "until",
    "wait",
    "connectors",
];

/// Those of them that a relay has only while it is in memory.
pub(super) const LIVE: [&str; 8] = [
    "id",
    "refcount",
    "ntask",
    "nconn",
    "lastconn",
    "until",
    "wait",
    "connectors",
];

const CONNECTOR: [&str; 5] = ["source", "nconn", "lastconn", "until", "flags"];

const ROUTE: [&str; 11] = [
    "id", "source", "address", "port", "name", "flags", "nconn", "penalty", "until", "error", "tls",
];

const HOST: [&str; 5] = ["address", "name", "refcount", "nconn", "lastconn"];

const HOST_STAT: [&str; 3] = ["domain", "at", "text"];

const BLOCKED: [&str; 2] = ["source", "domain"];

/// The names of the records of a listing for programs, in order.
pub(crate) const fn names(listing: MtaListing) -> &'static [&'static str] {
    match listing {
        MtaListing::Relays => &RELAY,
        MtaListing::Routes => &ROUTE,
        MtaListing::Hosts => &HOST,
        MtaListing::HostStats => &HOST_STAT,
        MtaListing::Blocked => &BLOCKED,
    }
}

fn record<const N: usize>(names: [&'static str; N], cells: [Cell; N]) -> Record {
    names.into_iter().zip(cells).collect()
}

/// The names and values of a row.
pub(super) fn cells(row: &MtaRow) -> Record {
    match row {
        MtaRow::Relay(row) => relay_cells(row),
        MtaRow::Route(row) => route_cells(row),
        MtaRow::Host(row) => host_cells(row),
        MtaRow::HostStat(HostStatRow { domain, at, text }) => record(
            HOST_STAT,
            [domain.as_str().into(), (*at).into(), text.as_str().into()],
        ),
        MtaRow::Blocked { source, domain } => record(
            BLOCKED,
            [Cell::Text(source.to_string()), domain.as_str().into()],
        ),
    }
}

/// What a relay is, in brackets.
pub(super) fn relay_name(row: &RelayRow, out: &mut Vec<u8>) {
    put(out, format_args!("[relay:"));
    escape::printable(&row.domain, out);
    if let Some(port) = row.port {
        put(out, format_args!(",port={port}"));
    }
    put(out, format_args!(",{}", row.scheme));
    let auth = auth(row);
    for (name, text) in [("auth", &auth), ("pki_name", &row.security.pki)] {
        named(name, text, out);
    }
    if row.as_host {
        put(out, format_args!(",mx"));
    }
    for (name, text) in [
        ("backup", &row.backup),
        ("sourcetable", &row.src),
        ("helotable", &row.helo_src),
        ("heloname", &row.helo),
        ("tls", &verification(row).to_owned()),
        ("ca", &row.security.ca),
        ("ciphers", &row.security.ciphers),
        ("protocols", &row.security.protocols),
        ("dane", &row.security.dane),
        ("mta-sts", &row.security.mta_sts),
    ] {
        named(name, text, out);
    }
    out.push(b']');
}

fn relay(row: &RelayRow, now: u64, out: &mut Vec<u8>) {
    relay_name(row, out);
    put(
        out,
        format_args!(
            " refcount={} ntask={} nconn={} lastconn={} timeout={} wait=",
            row.refcount,
            row.tasks,
            row.sessions,
            ago(row.last_connect, now),
            ahead(row.until, now),
        ),
    );
    out.extend_from_slice(wait_words(row).join(",").as_bytes());
    out.push(b'\n');
    for row in &row.connectors {
        put(
            out,
            format_args!(
                "  connector {} refcount={} nconn={} lastconn={} timeout={} flags={}\n",
                source(row.source),
                row.sessions,
                row.sessions,
                ago(row.last_connect, now),
                ahead(row.until, now),
                flag_words(row).join(","),
            ),
        );
    }
}

/// An option of a relay, if it is set.
fn named(name: &str, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        put(out, format_args!(",{name}="));
        escape::printable(text, out);
    }
}

/// Table and label of a relay's credentials, or nothing.
fn auth(row: &RelayRow) -> String {
    if row.label.is_empty() {
        return String::new();
    }
    format!("{}:{}", row.security.auth, row.label)
}

/// What the scheme does not say of the option `tls`.
fn verification(row: &RelayRow) -> &'static str {
    if row.security.tls == "tls no-verify" {
        "no-verify"
    } else {
        ""
    }
}

fn relay_cells(row: &RelayRow) -> Record {
    let connector = |row: &ConnectorRow| -> Record {
        let cells = [
            address(row.source),
            row.sessions.into(),
            date(row.last_connect),
            date(row.until),
            words(&flag_words(row)),
        ];
        record(CONNECTOR, cells)
    };
    let cells = [
        row.id.into(),
        row.domain.as_str().into(),
        row.port.map_or(Cell::None, |port| u64::from(port).into()),
        row.scheme.as_str().into(),
        Cell::Flag(row.as_host),
        text(&row.backup),
        text(&row.src),
        text(&row.helo_src),
        text(&row.helo),
        text(&auth(row)),
        text(&row.security.pki),
        text(&row.security.ca),
        text(&row.security.tls),
        text(&row.security.ciphers),
        text(&row.security.protocols),
        text(&row.security.dane),
        text(&row.security.mta_sts),
        row.refcount.into(),
        row.tasks.into(),
        row.sessions.into(),
        date(row.last_connect),
        date(row.until),
        words(&wait_words(row)),
        Cell::Records(row.connectors.iter().map(connector).collect()),
    ];
    record(RELAY, cells)
}

fn route(row: &RouteRow, now: u64, out: &mut Vec<u8>) {
    let (id, from, to) = (row.id, source(row.source), bracketed(row.target.ip()));
    put(out, format_args!("{id}. {from} <-> {to} "));
    if !row.name.is_empty() {
        out.push(b'(');
        escape::printable(&row.name, out);
        out.extend_from_slice(b") ");
    }
    put(
        out,
        format_args!(
            // Errors are penalties at once, so none are counted apart.
            "{} nconn={} nerror=0 penalty={} timeout={}\n",
            route_flags(row).iter().collect::<String>(),
            row.sessions,
            row.penalty,
            ahead(row.until, now),
        ),
    );
}

/// New, disabled, kept until its time, kept alive (which no version does).
fn route_flags(row: &RouteRow) -> [char; 4] {
    let kept = row.until.is_some() && !row.disabled && row.sessions == 0;
    let mark = |is, letter| if is { letter } else { '-' };
    [
        mark(row.fresh, 'N'),
        mark(row.disabled, 'D'),
        mark(kept, 'Q'),
        '-',
    ]
}

fn route_cells(row: &RouteRow) -> Record {
    let flags = route_flags(row).into_iter().filter(|flag| *flag != '-');
    let cells = [
        row.id.into(),
        address(row.source),
        Cell::Text(row.target.ip().to_string()),
        u64::from(row.target.port()).into(),
        text(&row.name),
        Cell::Words(flags.map(String::from).collect()),
        row.sessions.into(),
        row.penalty.into(),
        date(row.until),
        text(&row.failure),
        text(&row.tls),
    ];
    record(ROUTE, cells)
}

fn host(row: &HostRow, now: u64, out: &mut Vec<u8>) {
    put(out, format_args!("{} ", row.address));
    if row.name.is_empty() {
        put(out, format_args!("{}", row.address));
    } else {
        escape::printable(&row.name, out);
    }
    put(
        out,
        format_args!(
            " refcount={} nconn={} lastconn={}\n",
            row.refcount,
            row.sessions,
            ago(row.last_connect, now),
        ),
    );
}

fn host_cells(row: &HostRow) -> Record {
    let cells = [
        Cell::Text(row.address.to_string()),
        text(&row.name),
        row.refcount.into(),
        row.sessions.into(),
        date(row.last_connect),
    ];
    record(HOST, cells)
}

fn hoststat(row: &HostStatRow, out: &mut Vec<u8>) {
    escape::field(&row.domain, out);
    put(out, format_args!("|{}|", row.at));
    escape::vis(&row.text, out);
    out.push(b'\n');
}

/// The words of what a relay waits for.
pub(super) fn wait_words(row: &RelayRow) -> Vec<&'static str> {
    let waits = row.waits.iter().map(|wait| match wait {
        RelayWait::Mx => "MX",
        RelayWait::Connector => "connector",
    });
    waits.chain(row.on_hold.then_some("ONHOLD")).collect()
}

/// The words of a connector's flags.
pub(super) fn flag_words(row: &ConnectorRow) -> Vec<&'static str> {
    let word = |flag: &ConnectorFlag| match flag {
        ConnectorFlag::New => "NEW",
        ConnectorFlag::Wait => "WAIT",
        ConnectorFlag::ErrorFamily => "ERROR_FAMILY",
        ConnectorFlag::ErrorSource => "ERROR_SOURCE",
        ConnectorFlag::ErrorMx => "ERROR_MX",
        ConnectorFlag::ErrorRouteNet => "ERROR_ROUTE_NET",
        ConnectorFlag::ErrorRouteSmtp => "ERROR_ROUTE_SMTP",
        ConnectorFlag::ErrorBlocked => "ERROR_BLOCKED",
        ConnectorFlag::LimitHost => "LIMIT_HOST",
        ConnectorFlag::LimitRoute => "LIMIT_ROUTE",
        ConnectorFlag::LimitSource => "LIMIT_SOURCE",
        ConnectorFlag::LimitRelay => "LIMIT_RELAY",
        ConnectorFlag::LimitConnector => "LIMIT_CONN",
        ConnectorFlag::LimitDomain => "LIMIT_DOMAIN",
    };
    row.flags.iter().map(word).collect()
}

/// A local address; `[]` if the system chooses.
pub(super) fn source(source: Option<IpAddr>) -> String {
    source.map_or_else(|| "[]".into(), bracketed)
}

/// An address, IPv6 in brackets.
pub(super) fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Time since a date.
pub(super) fn ago(date: Option<u64>, now: u64) -> String {
    wait(date.map(|date| now.saturating_sub(date)))
}

/// Time until a date.
pub(super) fn ahead(date: Option<u64>, now: u64) -> String {
    wait(date.map(|date| date.saturating_sub(now)))
}

fn wait(seconds: Option<u64>) -> String {
    match seconds {
        Some(seconds) => short(Duration::from_secs(seconds)).to_string(),
        None => "-".into(),
    }
}

fn date(date: Option<u64>) -> Cell {
    date.map_or(Cell::None, Cell::from)
}

fn address(source: Option<IpAddr>) -> Cell {
    source.map_or(Cell::None, |source| Cell::Text(source.to_string()))
}

fn text(text: &str) -> Cell {
    match text {
        "" => Cell::None,
        text => text.into(),
    }
}

fn words(words: &[&str]) -> Cell {
    Cell::Words(words.iter().map(|word| (*word).to_owned()).collect())
}
