//! `explain`: where an envelope is and why it is not moving, on one screen.

use super::cell::{Cell, Record};
use super::listing::{agent, or_null};
use super::put;
use super::relaying::{self, ago, ahead, bracketed, flag_words, source};
use crate::escape;
use redspool_core::control::{
    Agent, ConnectorFlag, Explanation, MtaRow, Place, RelayWait, RouteRow, Runstate,
};

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
    let life = match row.expiry.checked_sub(now) {
        Some(_) => format!("in {}", ahead(Some(row.expiry), now)),
        None => "now: its life is over".into(),
    };
    field("expires", &life, out);
    if let Some(relay) = &explanation.relay {
        let mut lines = Vec::new();
        relaying::row(&MtaRow::Relay(relay.clone()), now, &mut lines);
        label("relay", out);
        out.extend_from_slice(&lines);
    }
    for row in &explanation.routes {
        field("route", &route(row, now), out);
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
    };
    let (due, since) = match row.runstate {
        Runstate::Pending { due, .. } => (Cell::from(due), Cell::None),
        Runstate::Inflight { since } => (Cell::None, Cell::from(since)),
        Runstate::Offline | Runstate::Trash { .. } => (Cell::None, Cell::None),
    };
    let relay = explanation.relay.iter();
    let relay = relay.map(|row| relaying::cells(&MtaRow::Relay(row.clone())));
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
    ]
}

/// The answer in one sentence.
fn why(explanation: &Explanation, now: u64) -> String {
    let row = &explanation.envelope;
    let name = agent(row.agent);
    match explanation.place {
        Place::Session(id) => return format!("it is being sent over session {id:016x}"),
        Place::Settling => return "its attempt is over, and the result is being recorded".into(),
        Place::Agent if row.agent == Agent::Mta => return relay_waits(explanation, now),
        Place::Agent => return format!("the agent {name} has it and delivers it in its turn"),
        Place::Loading => return "it is due and on its way to its agent".into(),
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
        let tasks = explanation.relay.as_ref().map_or(0, |relay| relay.tasks);
        return format!("it is held: its agent has enough to do ({tasks} messages wait before it)");
    }
    let due = match row.runstate {
        Runstate::Pending { due, .. } => due,
        _ => now,
    };
    if due <= now {
        return "it is due and waits for its turn in the schedule".into();
    }
    let next = format!("its next attempt is due in {}", ahead(Some(due), now));
    let routes = &explanation.routes;
    if !routes.is_empty() && routes.iter().all(|route| route.disabled) {
        let back = routes.iter().filter_map(|route| route.until).min();
        let back = ahead(back, now);
        return format!("{next}; all routes to its destination are disabled, the first for {back}");
    }
    next
}

/// Why its relay does not send it now.
fn relay_waits(explanation: &Explanation, now: u64) -> String {
    let Some(relay) = &explanation.relay else {
        return "it waits for its relay".into();
    };
    if relay.waits.contains(&RelayWait::Mx) {
        return format!("its relay waits for the DNS to answer for {}", relay.domain);
    }
    let limits = relay.connectors.iter().filter(|row| {
        row.flags
            .iter()
            .any(|flag| !matches!(flag, ConnectorFlag::Wait | ConnectorFlag::New))
    });
    if let Some(row) = limits.min_by_key(|row| row.until) {
        let flags = flag_words(row).join(",");
        let from = source(row.source);
        return format!("its relay cannot open another connection from {from}: {flags}");
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
    let state = match row.runstate {
        Runstate::Pending { due, .. } if due > now => {
            format!("pending, due in {}", ahead(Some(due), now))
        }
        Runstate::Pending { due, .. } => format!("pending, due since {}", ago(Some(due), now)),
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
        let tls = match &*row.tls {
            "" => "in clear text",
            tls => tls,
        };
        format!("works, {} connections, {tls}", row.sessions)
    };
    let cause = if row.failure.is_empty() {
        String::new()
    } else {
        format!(": {}", row.failure)
    };
    format!("{id}. {from} <-> {to}{name} {state}{cause}")
}

fn field(name: &str, text: &str, out: &mut Vec<u8>) {
    label(name, out);
    escape::value(text, out);
    out.push(b'\n');
}

fn label(name: &str, out: &mut Vec<u8>) {
    put(out, format_args!("{name}: "));
}
