//! Trace lines of the engine and of SMTP dialogues (`smtpctl trace`).
//!
//! Promises: one line per event, bounded whatever is in it; remote text is escaped; content and
//! credentials are in none.
//! Absent on purpose: switching traces on and off (the log's); a line costs one comparison while
//! nobody wants it.

use crate::log::{Brief, Several};
use redspool_core::engine::{Action, Event, Loaded};
use redspool_core::smtp::{Spoken, Transcript, shown};
use redspool_core::stats::Counters;
use std::fmt;

/// Who tells the engine of an event, and the word for it.
pub(crate) const fn name(event: &Event) -> (&'static str, &'static str) {
    match event {
        Event::Queued(_) => ("queue", "Queued"),
        Event::Loaded(_) => ("queue", "Loaded"),
        Event::Settled(_) => ("queue", "Settled"),
        Event::StoreFailed => ("queue", "StoreFailed"),
        Event::StoreRecovered => ("queue", "StoreRecovered"),
        Event::Resolved { .. } => ("resolver", "Resolved"),
        Event::Connected { .. } => ("mta", "Connected"),
        Event::Secured { .. } => ("mta", "Secured"),
        Event::Ready(_) => ("mta", "Ready"),
        Event::Attempted { .. } => ("mta", "Attempted"),
        Event::Troubled { .. } => ("mta", "Troubled"),
        Event::Disconnected { .. } => ("mta", "Disconnected"),
        Event::Ran { .. } => ("mda", "Ran"),
        Event::Notified { .. } => ("bounce", "Notified"),
        Event::Trash(_) => ("queue", "Trash"),
        Event::Stopping => ("smtpd", "Stopping"),
        Event::TimedOut => ("clock", "TimedOut"),
    }
}

/// The engine is told of an event.
pub(crate) fn event(event: &Event) {
    let (peer, message) = name(event);
    tracing::trace!(target: "trace::imsg", "engine <- {peer}: {message}");
    match event {
        Event::Queued(queued) => {
            tracing::trace!(target: "trace::scheduler", "<- queued {}", ids(queued, |one| one.id));
        }
        Event::Loaded(loaded) => loaded.iter().for_each(|(id, loaded)| match loaded {
            Loaded::Envelope(envelope, content) => tracing::trace!(
                target: "trace::scheduler",
                "<- loaded evpid={id} to=<{}> size={} retry={}",
                envelope.dest.as_str(), content.size, envelope.retry
            ),
            Loaded::Gone => {
                tracing::trace!(target: "trace::scheduler", "<- loaded evpid={id} gone");
            }
            Loaded::Unavailable(failure) => tracing::trace!(
                target: "trace::scheduler", "<- loaded evpid={id} unavailable: {}", Brief(failure)
            ),
        }),
        Event::Settled(settled) => {
            tracing::trace!(target: "trace::scheduler", "<- settled {}", Several(settled));
        }
        Event::Ran { envelope, outcome } => tracing::trace!(
            target: "trace::scheduler", "<- ran evpid={envelope} outcome={}", Brief(outcome)
        ),
        Event::StoreFailed | Event::StoreRecovered | Event::Stopping | Event::TimedOut => {
            tracing::trace!(target: "trace::scheduler", "<- {message}");
        }
        Event::Trash(weighed) => {
            tracing::trace!(target: "trace::scheduler", "<- trash {}", Brief(weighed));
        }
        Event::Resolved { query, answer } => tracing::trace!(
            target: "trace::mta", "<- resolved query={} answer={}", query.0, Brief(answer)
        ),
        Event::Connected { session, source } => {
            tracing::trace!(target: "trace::mta", "{:016x} <- connected {source}", session.0);
        }
        Event::Secured { session, tls } => {
            tracing::trace!(target: "trace::mta", "{:016x} <- secured {tls}", session.0);
        }
        Event::Ready(session) => {
            tracing::trace!(target: "trace::mta", "{:016x} <- ready", session.0);
        }
        Event::Attempted { session, outcomes } => outcomes.iter().for_each(|(id, outcome)| {
            tracing::trace!(
                target: "trace::mta",
                "{:016x} <- attempted evpid={id} outcome={}", session.0, Brief(outcome)
            );
        }),
        Event::Troubled { session, failure } => tracing::trace!(
            target: "trace::mta", "{:016x} <- troubled: {}", session.0, Brief(failure)
        ),
        Event::Disconnected { session, failure } => tracing::trace!(
            target: "trace::mta", "{:016x} <- disconnected: {}", session.0, Brief(failure)
        ),
        Event::Notified { reported, result } => tracing::trace!(
            target: "trace::bounce",
            "<- notified {} result={}", Several(reported), Brief(result)
        ),
    }
}

/// The engine wants something done.
pub(crate) fn action(action: &Action) {
    match action {
        Action::Load(wanted) => {
            tracing::trace!(target: "trace::scheduler", "-> load {}", Several(wanted));
        }
        Action::Settle(settlements) => settlements.iter().for_each(|settlement| {
            tracing::trace!(
                target: "trace::scheduler",
                "-> settle evpid={} change={}", settlement.envelope, Brief(&settlement.change)
            );
        }),
        Action::Deliver(envelope) => tracing::trace!(
            target: "trace::scheduler",
            "-> deliver evpid={} to=<{}>", envelope.id, envelope.dest.as_str()
        ),
        Action::Resolve {
            query,
            name,
            lookup,
        } => tracing::trace!(
            target: "trace::mta",
            "-> resolve query={} name={} lookup={lookup:?}", query.0, Brief(name)
        ),
        Action::Connect {
            session,
            source,
            target,
            host,
            domain,
            ..
        } => tracing::trace!(
            target: "trace::mta",
            "{:016x} -> connect source={source:?} target={target} host={} domain={}",
            session.0, Brief(host), Brief(domain)
        ),
        Action::Transfer {
            session,
            transaction,
        } => tracing::trace!(
            target: "trace::mta",
            "{:016x} -> transfer msgid={} recipients={}",
            session.0,
            transaction.message,
            ids(&transaction.recipients, |recipient| recipient.envelope)
        ),
        Action::Weigh => tracing::trace!(target: "trace::scheduler", "-> weigh trash"),
        Action::Purge { until } => {
            tracing::trace!(target: "trace::scheduler", "-> purge trash until={until}");
        }
        Action::Quit(session) => {
            tracing::trace!(target: "trace::mta", "{:016x} -> quit", session.0);
        }
        Action::Notify(group) => {
            let to = group.first().map(|envelope| envelope.sender.as_str());
            tracing::trace!(
                target: "trace::bounce",
                "-> notify to=<{}> about {}",
                to.unwrap_or_default(),
                ids(group, |envelope| envelope.id)
            );
        }
        // It is a line of the log already.
        Action::Log(_) => {}
    }
}

/// A list of things by their ids.
fn ids<'a, T, I: fmt::Display>(
    things: &'a [T],
    id: impl Fn(&T) -> I + 'a,
) -> impl fmt::Display + 'a {
    fmt::from_fn(move |f| {
        let shown: Vec<_> = things.iter().map(&id).collect();
        fmt::Display::fmt(&Several(&shown), f)
    })
}

/// Prints what has changed among the engine's counters, as long as somebody traces them.
#[derive(Default)]
pub(crate) struct Watch(Counters);

impl Watch {
    /// Whether somebody traces them.
    pub(crate) fn wanted() -> bool {
        tracing::enabled!(target: "trace::stat", tracing::Level::TRACE)
    }

    /// Compares the counters with those of the time before.
    pub(crate) fn look(&mut self, counters: &Counters) {
        let before: std::collections::BTreeMap<_, _> = self.0.listed().into_iter().collect();
        for (key, value) in counters.listed() {
            let old = before.get(key).copied().unwrap_or(0);
            if old != value {
                tracing::trace!(target: "trace::stat", "{key}: {old} -> {value}");
            }
        }
        self.0.clone_from(counters);
    }
}

/// What an incoming session traces of its dialogue.
pub(crate) struct Incoming(pub(crate) u64);

impl Incoming {
    /// Keeps the dialogue from here on if somebody traces it.
    pub(crate) fn follow(transcript: &mut Transcript) -> bool {
        let wanted = tracing::enabled!(target: "trace::smtp", tracing::Level::TRACE)
            || tracing::enabled!(target: "trace::filters", tracing::Level::TRACE);
        transcript.follow(wanted);
        wanted
    }

    /// Prints what was said since the time before.
    pub(crate) fn print(&self, transcript: &mut Transcript) {
        let number = self.0;
        while let Some(spoken) = transcript.take() {
            match spoken {
                Spoken::Client(line) => {
                    tracing::trace!(target: "trace::smtp", "{number:016x} <<< {line}");
                }
                Spoken::Server(line) => {
                    tracing::trace!(target: "trace::smtp", "{number:016x} >>> {line}");
                }
                Spoken::Content(octets) => {
                    tracing::trace!(
                        target: "trace::smtp", "{number:016x} <<< (content, {octets} octets)"
                    );
                }
                Spoken::Judged { phase, granted } => {
                    let action = if granted { "proceed" } else { "reject" };
                    tracing::trace!(
                        target: "trace::filters", "{number:016x} phase={phase} action={action}"
                    );
                }
            }
        }
    }

    /// Prints the replies that are sent.
    pub(crate) fn replies(&self, octets: &[u8]) {
        if tracing::enabled!(target: "trace::smtp", tracing::Level::TRACE) {
            let number = self.0;
            for line in octets.split_inclusive(|octet| *octet == b'\n') {
                let line = shown(line.trim_ascii_end());
                tracing::trace!(target: "trace::smtp", "{number:016x} >>> {line}");
            }
        }
    }
}

/// What an outgoing session traces of its dialogue.
pub(crate) struct Outgoing(pub(crate) u64);

impl Outgoing {
    /// Keeps the dialogue from here on if somebody traces it.
    pub(crate) fn follow(transcript: &mut Transcript) -> bool {
        let wanted = tracing::enabled!(target: "trace::mta", tracing::Level::TRACE);
        transcript.follow(wanted);
        wanted
    }

    /// Prints what was said since the time before.
    pub(crate) fn print(&self, transcript: &mut Transcript) {
        let number = self.0;
        while let Some(spoken) = transcript.take() {
            match spoken {
                Spoken::Client(line) => {
                    tracing::trace!(target: "trace::mta", "{number:016x} >>> {line}");
                }
                Spoken::Server(line) => {
                    tracing::trace!(target: "trace::mta", "{number:016x} <<< {line}");
                }
                Spoken::Content(octets) => {
                    tracing::trace!(
                        target: "trace::mta", "{number:016x} >>> (content, {octets} octets)"
                    );
                }
                Spoken::Judged { .. } => {}
            }
        }
    }
}
