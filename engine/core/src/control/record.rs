//! A whole envelope, as `show envelope` prints it.
//!
//! Texts stay as they are stored, control characters included; smtpctl escapes them.

use super::relaying::SecurityRow;
use super::row::{Agent, StatusCode};
use crate::envelope::{Bounce, Delivery, Envelope, Mda, Method, Relay, RelayHost, Ret};
use serde::{Deserialize, Serialize};

/// Everything that is stored about an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeRecord {
    /// The envelope's number.
    pub id: u64,
    /// Name of the `action` in smtpd.conf.
    pub action: String,
    /// Tag of the listener, or empty.
    pub tag: String,
    /// Who delivers.
    pub agent: Agent,
    /// With which parameters.
    pub delivery: DeliveryRecord,
    /// Our name in the session that brought it.
    pub smtpname: String,
    /// The client's HELO or EHLO argument.
    pub helo: String,
    /// The client's name from reverse DNS.
    pub hostname: String,
    /// SMTP AUTH user, or empty.
    pub username: String,
    /// `local`, or the client's address, IPv6 in brackets.
    pub sockaddr: String,
    /// Return path; empty for the null sender.
    pub sender: String,
    /// Recipient as given.
    pub rcpt: String,
    /// Recipient after expansion.
    pub dest: String,
    /// When it was accepted, in seconds since the epoch.
    pub ctime: u64,
    /// Start of the last attempt, in seconds since the epoch; 0 for never.
    pub last_try: u64,
    /// When the last delay notice was made, in seconds since the epoch; 0 for never.
    pub last_bounce: u64,
    /// Lifetime in seconds.
    pub ttl: u64,
    /// Temporary failures so far.
    pub retry: u16,
    /// The client had authenticated.
    pub authenticated: bool,
    /// It is a notice of our bounce agent.
    pub bounce: bool,
    /// The destination came from expansion.
    pub internal: bool,
    /// Paused by the administrator.
    pub suspended: bool,
    /// It may have been delivered before.
    pub maybe_duplicated: bool,
    /// When the sender wants to be told, if he said so.
    pub dsn_notify: Option<NotifyRow>,
    /// Whether failures return the whole message, if the sender said so.
    pub dsn_ret_full: Option<bool>,
    /// ENVID as received, or empty.
    pub dsn_envid: String,
    /// ORCPT as received, or empty.
    pub dsn_orcpt: String,
    /// Status of the last failure.
    pub status: Option<StatusCode>,
    /// Text of the last failure, as received.
    pub errorline: String,
    /// The host of that attempt, in a report to the sender; or empty.
    pub remote: String,
}

/// Parameters of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryRecord {
    /// Relaying.
    Mta {
        /// `scheme://host:port`, or `None` for the MX of the destination's domain.
        relay: Option<String>,
        /// Name for EHLO; empty for the server's own.
        helo: String,
        /// Local addresses to connect from: a table, or the addresses in braces; or empty.
        src: String,
        /// The table that gives the name for EHLO by the local address, or empty.
        helo_src: String,
        /// The exchanger whose part we play, or empty.
        backup: String,
        /// TLS and authentication.
        security: SecurityRow,
    },
    /// Local delivery.
    Mda {
        /// The word of smtpd.conf(5): `mbox`, `maildir`, `lmtp`, `mda`, `filename`.
        method: String,
        /// Its path, destination or command; empty if it has none.
        argument: String,
        /// Whether LMTP gets the full address instead of the user name.
        rcpt_to: bool,
        /// The user whose mail it is.
        user: String,
        /// The table that knows the user, or empty.
        userbase: String,
        /// The user to run as instead, or empty.
        delivery_user: String,
        /// The `+tag` of the recipient, or empty.
        subaddress: String,
    },
    /// A report to the sender.
    Bounce(BounceKind),
}

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BounceKind {
    /// It failed for good.
    Failed,
    /// It is late.
    Delayed {
        /// The delay that made us write, in seconds.
        delay: u64,
        /// Lifetime of the reported envelope, in seconds.
        ttl: u64,
    },
    /// It was delivered.
    Delivered {
        /// Whether it was relayed rather than delivered.
        relayed: bool,
    },
}

/// When the sender wants to be told (RFC 3461); all false is NEVER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyRow {
    /// On delivery.
    pub success: bool,
    /// On failure.
    pub failure: bool,
    /// On delay.
    pub delay: bool,
}

impl From<&Envelope> for EnvelopeRecord {
    fn from(envelope: &Envelope) -> Self {
        let (flags, dsn) = (envelope.flags, &envelope.dsn);
        Self {
            id: envelope.id.get(),
            action: envelope.action.clone().into(),
            tag: envelope.tag.clone().into(),
            agent: envelope.agent().into(),
            delivery: (&envelope.delivery).into(),
            smtpname: envelope.smtpname.clone().into(),
            helo: envelope.helo.clone().into(),
            hostname: envelope.hostname.clone().into(),
            username: envelope.username.clone().into(),
            sockaddr: envelope.source.to_string(),
            sender: envelope.sender.as_str().into(),
            rcpt: envelope.rcpt.as_str().into(),
            dest: envelope.dest.as_str().into(),
            ctime: envelope.ctime.as_secs(),
            last_try: envelope.last_try.as_secs(),
            last_bounce: envelope.last_bounce.as_secs(),
            ttl: envelope.ttl.as_secs(),
            retry: envelope.retry,
            authenticated: flags.authenticated,
            bounce: flags.bounce,
            internal: flags.internal,
            suspended: flags.suspended,
            maybe_duplicated: flags.maybe_duplicated,
            dsn_notify: dsn.notify.map(|notify| NotifyRow {
                success: notify.success,
                failure: notify.failure,
                delay: notify.delay,
            }),
            dsn_ret_full: dsn.ret.map(|ret| ret == Ret::Full),
            dsn_envid: dsn.envid.clone().into(),
            dsn_orcpt: dsn.orcpt.clone().into(),
            status: envelope.status.map(Into::into),
            errorline: envelope.errorline.clone().into(),
            remote: envelope.remote.clone().into(),
        }
    }
}

impl From<&Delivery> for DeliveryRecord {
    fn from(delivery: &Delivery) -> Self {
        match delivery {
            Delivery::Mta(Relay {
                host,
                helo,
                src,
                helo_src,
                backup,
                security,
            }) => Self::Mta {
                relay: host.as_ref().map(RelayHost::url),
                helo: helo.clone().into(),
                src: src.clone().into(),
                helo_src: helo_src.clone().into(),
                backup: backup.clone().unwrap_or_default().into(),
                security: security.into(),
            },
            Delivery::Mda(mda) => mda.into(),
            Delivery::Bounce(bounce) => Self::Bounce((*bounce).into()),
        }
    }
}

impl From<&Mda> for DeliveryRecord {
    fn from(mda: &Mda) -> Self {
        let (argument, rcpt_to) = match &mda.method {
            Method::Mbox => (String::new(), false),
            Method::Maildir { path } => (path.clone().into(), false),
            Method::Lmtp { dest, rcpt_to } => (dest.clone().into(), *rcpt_to),
            Method::Command(command) => (command.clone().into(), false),
            Method::File(path) => (path.display().to_string(), false),
        };
        Self::Mda {
            method: mda.method.word().into(),
            argument,
            rcpt_to,
            user: mda.user.clone().into(),
            userbase: mda.userbase.clone().into(),
            delivery_user: mda.delivery_user.clone().into(),
            subaddress: mda.subaddress.clone().into(),
        }
    }
}

impl From<Bounce> for BounceKind {
    fn from(bounce: Bounce) -> Self {
        match bounce {
            Bounce::Failed => Self::Failed,
            Bounce::Delayed { delay, ttl } => Self::Delayed {
                delay: delay.as_secs(),
                ttl: ttl.as_secs(),
            },
            Bounce::Delivered { relayed } => Self::Delivered { relayed },
        }
    }
}
