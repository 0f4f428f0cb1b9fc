//! Where one envelope is, and what it waits for: everything `smtpctl explain` needs, typed.

use super::relaying::{RelayRow, RouteRow};
use super::row::{EnvelopeRow, Runstate};
use crate::envelope::{Agent, Attempt, Delivery, Envelope};
use crate::queue::Paused;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// An envelope with all that decides when it moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Its line of `show queue`.
    pub envelope: EnvelopeRow,
    /// Name of the action that was chosen for it.
    pub action: String,
    /// Who has it.
    pub place: Place,
    /// Whether the agent that is to deliver it is paused.
    pub agent_paused: bool,
    /// Whether attempts wait because the store cannot record their results.
    pub store_down: bool,
    /// Its relay, if that is in memory.
    pub relay: Option<Box<RelayRow>>,
    /// The routes that relay knows to its destination.
    pub routes: Vec<RouteRow>,
    /// The hosts that relay does not use now, for want of proof.
    pub barred: Vec<BarredRow>,
    /// The limits it waits for.
    pub limits: Vec<LimitRow>,
    /// Its last attempts that failed for now, as far as it keeps them, the first one first.
    pub attempts: Vec<AttemptRow>,
}

impl Explanation {
    /// What the store alone says of an envelope whose next attempt is due at a date.
    pub fn offline(envelope: &Envelope, paused: Paused, due: Timestamp) -> Self {
        let relay = match &envelope.delivery {
            Delivery::Mta(relay) => Some(Box::new(RelayRow::at_rest(relay, envelope))),
            Delivery::Mda(_) | Delivery::Bounce(_) => None,
        };
        Self {
            envelope: EnvelopeRow::new(envelope, Runstate::pending(due)),
            action: envelope.action.clone().into(),
            place: Place::Offline,
            agent_paused: match envelope.agent() {
                Agent::Mta => paused.mta,
                Agent::Mda => paused.mda,
                Agent::Bounce => false,
            },
            store_down: false,
            relay,
            routes: Vec::new(),
            barred: Vec::new(),
            limits: Vec::new(),
            attempts: envelope.tried().into_iter().map(Into::into).collect(),
        }
    }
}

/// A host that a relay does not use for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarredRow {
    /// Its address.
    pub address: IpAddr,
    /// Its name, or empty.
    pub name: String,
    /// When it may be used again.
    pub until: u64,
    /// What it did not prove or offer.
    pub failure: String,
}

/// A limit that is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRow {
    /// Which.
    pub limit: Limit,
    /// How much of it is used.
    pub used: u64,
    /// How much may be.
    pub most: u64,
}

/// What a limit is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// Connections to a host.
    Host(IpAddr),
    /// Connections of a route.
    Route {
        /// Local address; `None` if the system chooses.
        source: Option<IpAddr>,
        /// Remote address.
        target: IpAddr,
    },
    /// The same, and not ours: the host did not take more.
    Crowded {
        /// Local address; `None` if the system chooses.
        source: Option<IpAddr>,
        /// Remote address.
        target: IpAddr,
    },
    /// Connections from a local address.
    Source(Option<IpAddr>),
    /// Those of them that are being opened and may well fail.
    Probes(Option<IpAddr>),
    /// Connections of the relay from a local address.
    Connector(Option<IpAddr>),
    /// Connections of the relay.
    Relay,
    /// Connections to a domain.
    Domain(String),
    /// Messages that wait for the relay.
    RelayTasks,
    /// Envelopes handed to agents.
    Inflight,
    /// Local deliveries.
    Sessions,
    /// Local deliveries to a user.
    UserSessions(String),
    /// Local deliveries that wait for a user.
    UserTasks(String),
}

impl Limit {
    /// Its word in smtpd.conf(5); of a limit that is not set there, a description.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Host(_) => "max-conn-per-host",
            Self::Route { .. } => "max-conn-per-route",
            Self::Crowded { .. } => "connections the host takes",
            Self::Source(_) => "max-conn-per-source",
            Self::Probes(_) => "connections that may fail",
            Self::Connector(_) => "max-conn-per-connector",
            Self::Relay => "max-conn-per-relay",
            Self::Domain(_) => "max-conn-per-domain",
            Self::RelayTasks | Self::UserTasks(_) => "task-hiwat",
            Self::Inflight => "max-inflight",
            Self::Sessions => "max-session",
            Self::UserSessions(_) => "max-session-per-user",
        }
    }
}

/// An attempt that failed for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// When it began.
    pub at: u64,
    /// What it went over, if it came to a connection.
    pub via: Option<ViaRow>,
    /// What was said, as received.
    pub text: String,
}

/// A connection that an attempt went over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViaRow {
    /// Number of the session.
    pub session: u64,
    /// Local address, if known.
    pub source: Option<IpAddr>,
    /// Remote address.
    pub target: IpAddr,
    /// Name of the host, or empty.
    pub name: String,
    /// Its TLS: version, cipher suite, bits and validity, joined by colons; or empty.
    pub tls: String,
}

impl From<Attempt> for AttemptRow {
    fn from(attempt: Attempt) -> Self {
        Self {
            at: attempt.began.as_secs(),
            via: attempt.via.map(|via| ViaRow {
                session: via.session.0,
                source: via.source,
                target: via.target,
                name: via.name.into(),
                tls: via.tls.into(),
            }),
            text: attempt.text.into(),
        }
    }
}

/// Who has an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// The schedule, until it is due or released.
    Schedule,
    /// It is due, and on its way to its agent.
    Loading,
    /// Its agent, where it waits for its turn.
    Agent,
    /// An outgoing session, by its number.
    Session(u64),
    /// Its attempt is over, and the result is being recorded.
    Settling,
    /// The store, with no daemon to ask.
    Offline,
}
