//! Where one envelope is, and what it waits for: everything `smtpctl explain` needs, typed.

use super::relaying::{RelayRow, RouteRow};
use super::row::EnvelopeRow;
use serde::{Deserialize, Serialize};

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
}
