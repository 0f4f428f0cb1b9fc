//! `explain`: where an envelope is and why it is not moving, on one screen.

use super::cell::{Cell, Record};
use super::listing::{agent, or_null};
use super::put;
use super::relaying::{self, ago, ahead, bracketed, flag_words, source};
use crate::escape;
use redspool_core::control::{
    Agent, AttemptRow, BarredRow, ConnectorFlag, Explanation, Limit, LimitRow, MtaRow, Place,
    RelayRow, RelayWait, RouteRow, Runstate, ViaRow,
};
use std::net::IpAddr;

/// The screen. The second line is the answer, the others are what it follows from.
pub(super) fn screen(explanation: &Explanation, now: u64, out: &mut Vec<u8>) {
    let row = &explanation.envelope;
    put(out, format_args!("envelope {:016x}\n", row.id));
    field("why", &why(explanation, now), out);
    field("from", or_null(&row.sender), out);
    field("to", &row.dest, out);
    let action = format!("{} ({})", explanation.action, agent(row.agent));
    field("action", &action, out);
    field("state", &state(explanation, now), out);
    if row.retry > 0 {
        let text = format!(
            "{} failed for now, the last begun {} ago: {}",
            row.retry,
            ago(Some(row.last_try), now),
            row.errorline
        );
        field("attempts", &text, out);
    } else {
        field("attempts", "none has failed", out);
    }
    attempts(explanation, now, out);
    let life = match row.expiry.checked_sub(now) {
        Some(_) => format!("in {}", ahead(Some(row.expiry), now)),
        None => "now: its life is over".into(),
    };
    field("expires", &life, out);
    let offline = explanation.place == Place::Offline;
    if let Some(relay) = &explanation.relay {
        label("relay", out);
        if offline {
            relaying::relay_name(relay, out);
            out.push(b'\n');
        } else {
            relaying::row(&MtaRow::Relay(relay.clone()), now, out);
        }
    }
    for row in &explanation.limits {
        field("limit", &limit(row), out);
    }
    for row in &explanation.routes {
        field("route", &route(row, now), out);
    }
    for row in &explanation.barred {
        field("route", &barred(row, now), out);
    }
    if offline {
        field(
            "routes",
            "known to a running smtpd alone, as are limits",
            out,
        );
    }
}

/// Attempts that fit the screen, the last ones.
const SHOWN: usize = 6;

fn attempts(explanation: &Explanation, now: u64, out: &mut Vec<u8>) {
    let rows = &explanation.attempts;
    let rows = rows.get(rows.len().saturating_sub(SHOWN)..).unwrap_or(rows);
    let earlier = usize::from(explanation.envelope.retry).saturating_sub(rows.len());
    if earlier > 0 && !rows.is_empty() {
        let text = format!("{earlier} earlier ones; --json has those that are kept");
        field("attempt", &text, out);
    }
    for row in rows {
        let ago = ago(Some(row.at), now);
        let way = row.via.as_ref().map_or("without a connection".into(), way);
        field("attempt", &format!("{ago} ago {way}: {}", row.text), out);
    }
}

/// What an attempt went over.
fn way(via: &ViaRow) -> String {
    let (from, to) = (source(via.source), bracketed(via.target));
    let name = match &*via.name {
        "" => String::new(),
        name => format!(" ({name})"),
    };
    format!("{from} <-> {to}{name} {}", tls(&via.tls))
}

fn tls(tls: &str) -> &str {
    match tls {
        "" => "in clear text",
        tls => tls,
    }
}

/// A limit with its numbers: `max-conn-per-route 5 of 5 ([] <-> 192.0.2.1)`.
fn limit(row: &LimitRow) -> String {
    let of = match &row.limit {
        Limit::Host(target) => bracketed(*target),
        Limit::Route {
            source: from,
            target,
        }
        | Limit::Crowded {
            source: from,
            target,
        } => {
            format!("{} <-> {}", source(*from), bracketed(*target))
        }
        Limit::Source(from) | Limit::Probes(from) | Limit::Connector(from) => source(*from),
        Limit::Domain(name) | Limit::UserSessions(name) | Limit::UserTasks(name) => name.clone(),
        Limit::Relay | Limit::RelayTasks | Limit::Inflight | Limit::Sessions => String::new(),
    };
    let of = if of.is_empty() {
        String::new()
    } else {
        format!(" ({of})")
    };
    format!("{} {} of {}{of}", row.limit.word(), row.used, row.most)
}

/// The limits in force, behind what they keep waiting.
fn limits(explanation: &Explanation) -> String {
    let limits: Vec<_> = explanation.limits.iter().map(limit).collect();
    if limits.is_empty() {
        String::new()
    } else {
        format!(": {}", limits.join(", "))
    }
}

/// The same for programs.
pub(super) fn cells(explanation: &Explanation, now: u64) -> Record {
    let row = &explanation.envelope;
    let (place, session) = match explanation.place {
        Place::Schedule => ("schedule", Cell::None),
        Place::Loading => ("loading", Cell::None),
        Place::Agent => ("agent", Cell::None),
        Place::Session(id) => ("session", Cell::Text(format!("{id:016x}"))),
        Place::Settling => ("settling", Cell::None),
        Place::Offline => ("offline", Cell::None),
    };
    let (due, since) = match row.runstate {
        Runstate::Pending { due, .. } => (Cell::from(due), Cell::None),
        Runstate::Inflight { since } => (Cell::None, Cell::from(since)),
        Runstate::Offline | Runstate::Trash { .. } => (Cell::None, Cell::None),
    };
    let relay = explanation.relay.iter();
    let relay = relay.map(|row| relay_cells(row, explanation.place));
    let routes = explanation.routes.iter();
    let routes = routes.map(|row| relaying::cells(&MtaRow::Route(Box::new(row.clone()))));
    vec![
        ("id", Cell::Text(format!("{:016x}", row.id))),
        ("why", Cell::Text(why(explanation, now))),
        ("sender", row.sender.as_str().into()),
        ("dest", row.dest.as_str().into()),
        ("action", explanation.action.as_str().into()),
        ("type", agent(row.agent).into()),
        ("place", place.into()),
        ("session", session),
        ("suspended", Cell::Flag(row.flags.suspend)),
        ("held", Cell::Flag(row.flags.hold)),
        ("agent_paused", Cell::Flag(explanation.agent_paused)),
        ("store_down", Cell::Flag(explanation.store_down)),
        ("due", due),
        ("since", since),
        ("retry", u64::from(row.retry).into()),
        ("expiry", row.expiry.into()),
        ("error", row.errorline.as_str().into()),
        ("relay", Cell::Records(relay.collect())),
        ("routes", Cell::Records(routes.collect())),
        (
            "barred",
            Cell::Records(explanation.barred.iter().map(barred_cells).collect()),
        ),
        (
            "limits",
            Cell::Records(explanation.limits.iter().map(limit_cells).collect()),
        ),
        (
            "attempts",
            Cell::Records(explanation.attempts.iter().map(attempt_cells).collect()),
        ),
    ]
}

/// A relay that is not in memory has no number, and nothing else that changes.
fn relay_cells(row: &RelayRow, place: Place) -> Record {
    let mut cells = relaying::cells(&MtaRow::Relay(Box::new(row.clone())));
    if place == Place::Offline {
        for (name, cell) in &mut cells {
            if relaying::LIVE.contains(name) {
                *cell = Cell::None;
            }
        }
    }
    cells
}

fn barred_cells(row: &BarredRow) -> Record {
    vec![
        ("address", address(Some(row.address))),
        ("name", text_or_none(&row.name)),
        ("until", row.until.into()),
        ("error", row.failure.as_str().into()),
    ]
}

fn limit_cells(row: &LimitRow) -> Record {
    let (from, to) = match &row.limit {
        Limit::Host(target) => (None, Some(*target)),
        Limit::Route { source, target } | Limit::Crowded { source, target } => {
            (*source, Some(*target))
        }
        Limit::Source(source) | Limit::Probes(source) | Limit::Connector(source) => (*source, None),
        _ => (None, None),
    };
    let of = match &row.limit {
        Limit::Domain(name) | Limit::UserSessions(name) | Limit::UserTasks(name) => {
            name.as_str().into()
        }
        _ => Cell::None,
    };
    vec![
        ("limit", row.limit.word().into()),
        ("of", of),
        ("source", address(from)),
        ("target", address(to)),
        ("used", row.used.into()),
        ("most", row.most.into()),
    ]
}

fn attempt_cells(row: &AttemptRow) -> Record {
    let via = row.via.as_ref();
    let text = |text: Option<&str>| text.map_or(Cell::None, text_or_none);
    let session = via.map(|via| format!("{:016x}", via.session));
    vec![
        ("at", row.at.into()),
        ("session", session.map_or(Cell::None, Cell::Text)),
        ("source", address(via.and_then(|via| via.source))),
        ("target", address(via.map(|via| via.target))),
        ("name", text(via.map(|via| via.name.as_str()))),
        ("tls", text(via.map(|via| via.tls.as_str()))),
        ("text", row.text.as_str().into()),
    ]
}

fn text_or_none(text: &str) -> Cell {
    match text {
        "" => Cell::None,
        text => text.into(),
    }
}

fn address(address: Option<IpAddr>) -> Cell {
    address.map_or(Cell::None, |address| Cell::Text(address.to_string()))
}

/// The answer in one sentence.
fn why(explanation: &Explanation, now: u64) -> String {
    let row = &explanation.envelope;
    let name = agent(row.agent);
    match explanation.place {
        Place::Session(id) => return format!("it is being sent over session {id:016x}"),
        Place::Settling => return "its attempt is over, and the result is being recorded".into(),
        Place::Agent if row.agent == Agent::Mta => return relay_waits(explanation, now),
        Place::Agent => {
            let limits = limits(explanation);
            return format!("the agent {name} has it and delivers it in its turn{limits}");
        }
        Place::Loading => return "it is due and on its way to its agent".into(),
        Place::Offline => return asleep(explanation, now),
        Place::Schedule => {}
    }
    if row.flags.suspend {
        let id = row.id;
        return format!("it is paused; smtpctl resume envelope {id:016x} lets it go");
    }
    if explanation.agent_paused {
        return format!("{name} is paused; smtpctl resume {name} lets it go");
    }
    if explanation.store_down {
        return "the queue cannot record results now, so nothing is tried".into();
    }
    if row.flags.hold {
        let limits = limits(explanation);
        return format!("it is held until its agent has less to do{limits}");
    }
    let due = match row.runstate {
        Runstate::Pending { due, .. } => due,
        _ => now,
    };
    if due <= now {
        let limits = limits(explanation);
        return format!("it is due and waits for its turn in the schedule{limits}");
    }
    let next = format!("its next attempt is due in {}", ahead(Some(due), now));
    let Explanation { routes, barred, .. } = explanation;
    let is_barred = |route: &RouteRow| barred.iter().any(|row| row.address == route.target.ip());
    let unusable = routes.iter().all(|row| row.disabled || is_barred(row));
    if unusable && !(routes.is_empty() && barred.is_empty()) {
        let disabled = routes.iter().filter(|row| row.disabled && !is_barred(row));
        let back = disabled.filter_map(|row| row.until);
        let back = back.chain(barred.iter().map(|row| row.until)).min();
        let back = ahead(back, now);
        return format!("{next}; all routes to its destination are disabled, the first for {back}");
    }
    next
}

/// Why nothing moves while no daemon runs.
fn asleep(explanation: &Explanation, now: u64) -> String {
    let row = &explanation.envelope;
    let next = match row.runstate {
        _ if row.flags.suspend => "it is paused".into(),
        _ if explanation.agent_paused => format!("{} is paused", agent(row.agent)),
        Runstate::Pending { due, .. } if due > now => {
            format!("its next attempt is due in {}", ahead(Some(due), now))
        }
        _ => "it is due".into(),
    };
    format!("smtpd does not answer; {next}")
}

/// Why its relay does not send it now.
fn relay_waits(explanation: &Explanation, now: u64) -> String {
    let Some(relay) = &explanation.relay else {
        return "it waits for its relay".into();
    };
    if relay.waits.contains(&RelayWait::Mx) {
        return format!("its relay waits for the DNS to answer for {}", relay.domain);
    }
    let full = relay.connectors.iter().filter(|row| {
        row.flags
            .iter()
            .any(|flag| !matches!(flag, ConnectorFlag::Wait | ConnectorFlag::New))
    });
    if let Some(row) = full.min_by_key(|row| row.until) {
        let why = match limits(explanation) {
            none if none.is_empty() => format!(": {}", flag_words(row).join(",")),
            limits => limits,
        };
        let from = source(row.source);
        return format!("its relay cannot open another connection from {from}{why}");
    }
    match relay.until {
        Some(_) => format!("its relay may connect again in {}", ahead(relay.until, now)),
        None => format!(
            "its relay has {} messages for {} connections, which take them in turn",
            relay.tasks, relay.sessions
        ),
    }
}

fn state(explanation: &Explanation, now: u64) -> String {
    let row = &explanation.envelope;
    let waits = match explanation.place {
        Place::Offline => "offline",
        _ => "pending",
    };
    let state = match row.runstate {
        Runstate::Pending { due, .. } if due > now => {
            format!("{waits}, due in {}", ahead(Some(due), now))
        }
        Runstate::Pending { due, .. } => format!("{waits}, due since {}", ago(Some(due), now)),
        Runstate::Inflight { since } => format!("in flight for {}", ago(Some(since), now)),
        Runstate::Offline => "offline".into(),
        Runstate::Trash { .. } => "in the trash".into(),
    };
    let marks = [
        (row.flags.suspend, ", paused"),
        (row.flags.hold, ", held"),
        (explanation.agent_paused, ", its agent is paused"),
    ];
    let marks = marks
        .into_iter()
        .filter_map(|(is, mark)| is.then_some(mark));
    std::iter::once(state.as_str()).chain(marks).collect()
}

fn route(row: &RouteRow, now: u64) -> String {
    let name = if row.name.is_empty() {
        String::new()
    } else {
        format!(" ({})", row.name)
    };
    let (id, from, to) = (row.id, source(row.source), bracketed(row.target.ip()));
    let state = if row.disabled {
        let until = ahead(row.until, now);
        format!("disabled for {until} more, penalty {}", row.penalty)
    } else if row.fresh {
        format!("being proved, {} connections", row.sessions)
    } else {
        format!("works, {} connections, {}", row.sessions, tls(&row.tls))
    };
    let cause = if row.failure.is_empty() {
        String::new()
    } else {
        format!(": {}", row.failure)
    };
    format!("{id}. {from} <-> {to}{name} {state}{cause}")
}

fn barred(row: &BarredRow, now: u64) -> String {
    let name = match &*row.name {
        "" => String::new(),
        name => format!(" ({name})"),
    };
    let (to, until) = (bracketed(row.address), ahead(Some(row.until), now));
    let why = &row.failure;
    format!("{to}{name} is not used by this relay for {until} more, for want of proof: {why}")
}

fn field(name: &str, text: &str, out: &mut Vec<u8>) {
    label(name, out);
    escape::value(text, out);
    out.push(b'\n');
}

fn label(name: &str, out: &mut Vec<u8>) {
    put(out, format_args!("{name}: "));
}
