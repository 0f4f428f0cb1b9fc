//! SMTP as machines without sockets: the server side, the client side, and their words.

pub mod client;
mod data;
pub(crate) mod extensions;
pub mod guesses;
mod header;
mod lines;
mod path;
mod sasl;
pub mod session;
mod transcript;

pub use transcript::{Spoken, Transcript, shown};
mod tls;

pub use sasl::Credentials;
pub use tls::Tls;

use crate::addr::Address;
use crate::envelope::{Notify, Ret};
use crate::id::{EnvelopeId, MessageId};

/// One message for one next hop, as an outgoing session sends it: MAIL, RCPT for each recipient,
/// content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Whose content to send.
    pub message: MessageId,
    /// Octets of the content, for SIZE (RFC 1870).
    pub size: u64,
    /// Whether the content holds octets above 127 (RFC 6152).
    pub eight_bit: bool,
    /// Whether the content needs SMTPUTF8 (RFC 6531), whatever the addresses need.
    pub utf8: bool,
    /// Return path.
    pub sender: Address,
    /// RET, passed on if the server offers DSN (RFC 3461).
    pub ret: Option<Ret>,
    /// ENVID in xtext, or empty.
    pub envid: Box<str>,
    /// At least one.
    pub recipients: Vec<TransactionRecipient>,
}

/// One recipient of a [`Transaction`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecipient {
    /// The envelope it stands for.
    pub envelope: EnvelopeId,
    /// Address for RCPT.
    pub dest: Address,
    /// NOTIFY, passed on if the server offers DSN.
    pub notify: Option<Notify>,
    /// ORCPT (`type;xtext`), or empty.
    pub orcpt: Box<str>,
}
