//! One recipient's delivery: everything that is kept about it until it is done.
//!
//! Promises: [`Envelope::encode`] and [`Envelope::decode`] are inverse for every envelope; decoding
//! arbitrary octets gives an envelope or an error, never a panic, and allocates no more than it
//! was given. The action's parameters are part of the envelope, so renaming an action in
//! smtpd.conf never strands queued mail.
//! Absent on purpose: the schedule's state (inflight, held), which lives in memory only.

use crate::addr::{Address, Source};
use crate::id::EnvelopeId;
use crate::reply::Status;
use crate::time::Timestamp;
use std::path::PathBuf;
use std::time::Duration;

mod attempts;
pub(crate) mod codec;

pub use attempts::{Attempt, Attempts, Via};
pub use codec::DecodeError;

/// One recipient's delivery (spec/smtpd.md 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Its number; the upper half is the message.
    pub id: EnvelopeId,
    /// Name of the `action` in smtpd.conf that was chosen; for the listing and the log.
    pub action: Box<str>,
    /// Tag of the listener, or empty.
    pub tag: Box<str>,
    /// Who delivers, with the action's parameters.
    pub delivery: Delivery,
    /// Our name in the session that brought it; used in notices.
    pub smtpname: Box<str>,
    /// The client's HELO or EHLO argument.
    pub helo: Box<str>,
    /// The client's name from reverse DNS, or `<unknown>`.
    pub hostname: Box<str>,
    /// SMTP AUTH user, or empty.
    pub username: Box<str>,
    /// Where it came from.
    pub source: Source,
    /// Return path; null for notices.
    pub sender: Address,
    /// Recipient as given in RCPT.
    pub rcpt: Address,
    /// Recipient after expansion; equals `rcpt` if nothing was rewritten.
    pub dest: Address,
    /// When it was accepted; basis of all scheduling.
    pub ctime: Timestamp,
    /// Start of the last attempt; the epoch if there was none.
    pub last_try: Timestamp,
    /// When the last delay notice was made; the epoch if none.
    pub last_bounce: Timestamp,
    /// Lifetime from `ctime` on.
    pub ttl: Duration,
    /// Temporary failures so far.
    pub retry: u16,
    /// Persistent marks.
    pub flags: Flags,
    /// What the sender wants to be told (RFC 3461).
    pub dsn: Dsn,
    /// Status of the last failed attempt.
    pub status: Option<Status>,
    /// Text of the last failed attempt, as received; at most [`Envelope::ERRORLINE_MAX`] octets.
    pub errorline: Box<str>,
    /// Name or address of the host of that attempt, in bounce envelopes; empty if it came to no
    /// connection.
    pub remote: Box<str>,
    /// What its attempts that failed for now went over, and what those before the last one said.
    pub attempts: Attempts,
}

/// Who delivers an envelope, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The relaying agent (`mta`).
    Mta(Relay),
    /// The local delivery agent (`mda`).
    Mda(Mda),
    /// The bounce agent: a report to the sender about this envelope.
    Bounce(Bounce),
}

/// Who delivers, without the parameters: the `type` of listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Agent {
    /// Relays to other hosts.
    Mta,
    /// Runs local delivery programs.
    Mda,
    /// Tells senders what became of their mail.
    Bounce,
}

impl Agent {
    /// The word of listings.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mta => "mta",
            Self::Mda => "mda",
            Self::Bounce => "bounce",
        }
    }
}

/// Parameters of a relay action: next hop and policy. Equal relays share connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relay {
    /// The smart host of `relay host`, or `None` for the MX of the destination's domain.
    pub host: Option<RelayHost>,
    /// Name for EHLO; empty for the server's own name.
    pub helo: Box<str>,
    /// Local addresses to connect from: the name of a table, or the addresses themselves as
    /// `{192.0.2.1,2001:db8::1}`; empty for the system's choice.
    pub src: Box<str>,
    /// Name of the table that gives the name for EHLO by the local address, or empty.
    pub helo_src: Box<str>,
    /// The exchanger whose part we play: only better ones are used.
    pub backup: Option<Box<str>>,
    /// TLS and authentication.
    pub security: Security,
}

/// How a relay's connections are secured.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Security {
    /// The option `tls`, on top of the scheme.
    pub tls: TlsRule,
    /// Name of the table with the credentials, looked up by the label of the host; or empty.
    pub auth: Box<str>,
    /// Name of the certificate to show, or empty.
    pub pki: Box<str>,
    /// Name of the authorities to trust, or empty for those of the system.
    pub ca: Box<str>,
    /// Cipher suites as [`Suites::parse`](crate::tls::Suites::parse) takes them, or empty for all.
    pub ciphers: Box<str>,
    /// Versions of TLS as [`Protocols::parse`](crate::tls::Protocols::parse) takes them, or empty
    /// for all.
    pub protocols: Box<str>,
    /// What TLSA records of an exchanger mean; without effect on smart hosts.
    pub dane: Stance,
    /// What the MTA-STS policy of a domain means; without effect on smart hosts.
    pub mta_sts: Stance,
}

impl Relay {
    /// The same as `==`, faster where most texts are empty: comparing two of those costs as much as a
    /// cache miss with the C library of some machines, which touches the octet that is not there.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self {
            host,
            helo,
            src,
            helo_src,
            backup,
            security,
        } = self;
        same(helo, &other.helo)
            && same(src, &other.src)
            && same(helo_src, &other.helo_src)
            && security.is_same(&other.security)
            && *backup == other.backup
            && *host == other.host
    }
}

fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && (one.is_empty() || one == other)
}

impl Security {
    fn is_same(&self, other: &Self) -> bool {
        let Self {
            tls,
            auth,
            pki,
            ca,
            ciphers,
            protocols,
            dane,
            mta_sts,
        } = self;
        same(auth, &other.auth)
            && same(pki, &other.pki)
            && same(ca, &other.ca)
            && same(ciphers, &other.ciphers)
            && same(protocols, &other.protocols)
            && (*tls, *dane, *mta_sts) == (other.tls, other.dane, other.mta_sts)
    }

    /// Whether a host can be relayed to like this: with TLS if it is asked for, and with
    /// credentials if its URL names some.
    pub fn suits(&self, host: &RelayHost) -> bool {
        (self.tls == TlsRule::Scheme || host.scheme.allows_tls())
            && (host.label.is_empty() || !self.auth.is_empty())
    }
}

/// The option `tls` of a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsRule {
    /// Not given: the scheme decides.
    #[default]
    Scheme,
    /// `tls`: no mail without TLS and a certificate that proves the host's name.
    Verified,
    /// `tls no-verify`: no mail without TLS, whatever the certificate.
    Unverified,
}

impl TlsRule {
    /// The words of smtpd.conf(5); empty if it is not given.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Scheme => "",
            Self::Verified => "tls",
            Self::Unverified => "tls no-verify",
        }
    }
}

/// The options `dane` and `mta-sts` of a relay by MX: what is made of the TLSA records of an
/// exchanger (RFC 7672), and of the policy of a domain (RFC 8461).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stance {
    /// `opportunistic`, or not given: what is published is heeded.
    #[default]
    Opportunistic,
    /// `none`: nothing; nobody asks for it.
    Never,
    /// `required`: no mail where nothing is published.
    Required,
}

impl Stance {
    /// The word of smtpd.conf(5); empty for what holds if it is not given.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Opportunistic => "",
            Self::Never => "none",
            Self::Required => "required",
        }
    }

    /// The rule of a [`word`](Self::word), if it is one.
    pub fn named(word: &str) -> Option<Self> {
        let all = [Self::Opportunistic, Self::Never, Self::Required];
        all.into_iter().find(|rule| rule.word() == word)
    }
}

/// What a connection of a relay must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsPolicy {
    /// In clear text.
    Never,
    /// With TLS where the server offers it and it works, whatever the certificate.
    Opportunistic,
    /// With TLS, asked for by STARTTLS (RFC 3207).
    Required {
        /// Whether the certificate must prove the host's name.
        verify: bool,
    },
    /// With TLS from the first octet on (RFC 8314 section 3.3).
    Immediate {
        /// Whether the certificate must prove the host's name.
        verify: bool,
    },
}

impl TlsPolicy {
    /// Whether no mail goes without TLS.
    pub const fn is_required(self) -> bool {
        matches!(self, Self::Required { .. } | Self::Immediate { .. })
    }

    /// Whether no mail goes to a host whose certificate does not prove its name.
    pub const fn verifies(self) -> bool {
        matches!(
            self,
            Self::Required { verify: true } | Self::Immediate { verify: true }
        )
    }
}

impl Relay {
    /// Relaying without any option, to `host` or to the exchangers of the domain.
    pub fn to(host: Option<RelayHost>) -> Self {
        Self {
            host,
            helo: "".into(),
            src: "".into(),
            helo_src: "".into(),
            backup: None,
            security: Security::default(),
        }
    }

    /// The protocol, with the option `tls` taken in.
    pub fn scheme(&self) -> Scheme {
        let scheme = self.host.as_ref().map_or(Scheme::Smtp, |host| host.scheme);
        match (scheme, self.security.tls) {
            (Scheme::Smtp, TlsRule::Verified | TlsRule::Unverified) => Scheme::SmtpTls,
            _ => scheme,
        }
    }

    /// What its connections must be.
    pub fn tls(&self) -> TlsPolicy {
        let verify = self.security.tls != TlsRule::Unverified;
        match self.scheme() {
            Scheme::Smtp => TlsPolicy::Opportunistic,
            Scheme::SmtpNoTls | Scheme::Lmtp => TlsPolicy::Never,
            Scheme::SmtpTls => TlsPolicy::Required { verify },
            Scheme::Smtps => TlsPolicy::Immediate { verify },
        }
    }

    /// The table with its credentials and the label to look up, if it authenticates.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        let label = self.host.as_ref().map_or("", |host| &*host.label);
        (!label.is_empty()).then_some((&*self.security.auth, label))
    }
}

/// A relay URL, `[scheme://][label@]host[:port]` (spec/smtpd.md 1.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayHost {
    /// Protocol.
    pub scheme: Scheme,
    /// Whose credentials to use, or empty to use none; only with TLS.
    pub label: Box<str>,
    /// Host name, or an address literal without its brackets.
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
}

/// Protocol of a relay URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// SMTP, TLS if the server offers it.
    Smtp,
    /// SMTP in clear text, whatever the server offers.
    SmtpNoTls,
    /// LMTP (RFC 2033).
    Lmtp,
    /// SMTP with TLS by STARTTLS, verified.
    SmtpTls,
    /// SMTP with TLS from the first octet on, verified.
    Smtps,
}

impl Scheme {
    /// The word before `://`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::SmtpNoTls => "smtp+notls",
            Self::Lmtp => "lmtp",
            Self::SmtpTls => "smtp+tls",
            Self::Smtps => "smtps",
        }
    }

    /// Whether a connection may have TLS.
    pub const fn allows_tls(self) -> bool {
        matches!(self, Self::Smtp | Self::SmtpTls | Self::Smtps)
    }

    /// Whether TLS is a must, so that a label may stand in the URL.
    pub const fn requires_tls(self) -> bool {
        matches!(self, Self::SmtpTls | Self::Smtps)
    }
}

impl RelayHost {
    /// The URL, with the port always in it.
    pub fn url(&self) -> String {
        // An IPv6 literal needs its brackets back before a port can follow.
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        let at = if self.label.is_empty() { "" } else { "@" };
        let (scheme, label, host) = (self.scheme.word(), &self.label, &self.host);
        format!("{scheme}://{label}{at}{open}{host}{close}:{}", self.port)
    }
}

/// Parameters of a local delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mda {
    /// What to do with the message.
    pub method: Method,
    /// The user whose mail it is.
    pub user: Box<str>,
    /// Name of the `userbase` table that knows the user; empty for the system's users.
    pub userbase: Box<str>,
    /// The user to run as instead (`user` option), or empty.
    pub delivery_user: Box<str>,
    /// The `+tag` of the recipient without the delimiter, or empty.
    pub subaddress: Box<str>,
}

/// A local delivery method. Paths and commands hold format specifiers (spec/smtpd.md 5.7), which
/// are expanded once, at delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Append to the system mailbox of the user.
    Mbox,
    /// Deliver to a Maildir.
    Maildir {
        /// Path with format specifiers; a leading `~/` is the user's home.
        path: Box<str>,
    },
    /// Hand to an LMTP server.
    Lmtp {
        /// `host:port` or an absolute socket path.
        dest: Box<str>,
        /// Whether RCPT is the full address instead of the user name.
        rcpt_to: bool,
    },
    /// Feed to a command of the configuration, run by the shell.
    Command(Box<str>),
    /// Append to a file named in an alias or forward file.
    File(PathBuf),
}

impl Method {
    /// The word of smtpd.conf(5).
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Mbox => "mbox",
            Self::Maildir { .. } => "maildir",
            Self::Lmtp { .. } => "lmtp",
            Self::Command(_) => "mda",
            Self::File(_) => "filename",
        }
    }
}

/// What a notice reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bounce {
    /// It failed for good.
    Failed,
    /// It is late.
    Delayed {
        /// The delay that made us write.
        delay: Duration,
        /// Lifetime of the reported envelope.
        ttl: Duration,
    },
    /// It was delivered, or handed to a server that sends no notices.
    Delivered {
        /// Whether it was relayed rather than delivered.
        relayed: bool,
    },
}

impl Bounce {
    /// The word of the envelope's text form.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed { .. } => "delayed",
            Self::Delivered { .. } => "delivered",
        }
    }
}

/// Persistent marks of an envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The client had authenticated, or submitted through the daemon itself.
    pub authenticated: bool,
    /// It is itself a notice of our bounce agent.
    pub bounce: bool,
    /// The destination came from expansion.
    pub internal: bool,
    /// Paused by the administrator.
    pub suspended: bool,
    /// The schedule went back in time: this may have been delivered before.
    pub maybe_duplicated: bool,
}

/// Delivery status notification parameters (RFC 3461).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dsn {
    /// NOTIFY; `None` if not given, which means failure and delay.
    pub notify: Option<Notify>,
    /// RET; `None` if not given.
    pub ret: Option<Ret>,
    /// ENVID, as received (xtext not decoded), or empty.
    pub envid: Box<str>,
    /// ORCPT, as received (`type;xtext`), or empty.
    pub orcpt: Box<str>,
}

/// When the sender wants to be told; all false is NEVER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// On delivery.
    pub success: bool,
    /// On failure.
    pub failure: bool,
    /// On delay.
    pub delay: bool,
}

/// How much of the message to return with a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Headers only.
    Headers,
}

impl Envelope {
    /// Longest error text kept, in octets; longer ones end in `...`.
    pub const ERRORLINE_MAX: usize = 2047;

    /// Who delivers it.
    pub fn agent(&self) -> Agent {
        match self.delivery {
            Delivery::Mta(_) => Agent::Mta,
            Delivery::Mda(_) => Agent::Mda,
            Delivery::Bounce(_) => Agent::Bounce,
        }
    }

    /// When it expires.
    pub fn expiry(&self) -> Timestamp {
        self.ctime.after(self.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_are_the_same_where_they_are_equal() {
        let host = |name: &str| RelayHost {
            scheme: Scheme::Smtp,
            label: "".into(),
            host: name.into(),
            port: 25,
        };
        let base = Relay::to(None);
        let with = |change: fn(&mut Relay)| {
            let mut relay = base.clone();
            change(&mut relay);
            relay
        };
        let relays = [
            base.clone(),
            Relay::to(Some(host("a.example"))),
            Relay::to(Some(host("b.example"))),
            with(|relay| relay.helo = "a".into()),
            with(|relay| relay.src = "a".into()),
            with(|relay| relay.src = "b".into()),
            with(|relay| relay.helo_src = "a".into()),
            with(|relay| relay.backup = Some("".into())),
            with(|relay| relay.security.auth = "a".into()),
            with(|relay| relay.security.pki = "a".into()),
            with(|relay| relay.security.ca = "a".into()),
            with(|relay| relay.security.ciphers = "a".into()),
            with(|relay| relay.security.protocols = "a".into()),
            with(|relay| relay.security.dane = Stance::Required),
            with(|relay| relay.security.mta_sts = Stance::Required),
        ];
        for one in &relays {
            for other in &relays {
                assert_eq!(one.is_same(other), one == other, "{one:?} {other:?}");
            }
        }
    }
}
