//! What relaying is at: relays, routes, hosts, and what domains said last, one row each.
//!
//! A row holds dates, not waits, as all rows do. A listing is cut into pages by its rows: the last
//! row of a page says where the next page begins.

use crate::envelope::{Envelope, Relay, Security};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Which listing of the relaying agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MtaListing {
    /// Relays with their connectors, in order of their numbers.
    Relays,
    /// Routes, in order of source and target.
    Routes,
    /// Remote hosts, in order of their addresses.
    Hosts,
    /// The last status of recipient domains, in order of their names.
    HostStats,
    /// Sources and domains kept apart, in order.
    Blocked,
}

/// One row of a [`MtaListing`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MtaRow {
    /// Of [`MtaListing::Relays`].
    Relay(Box<RelayRow>),
    /// Of [`MtaListing::Routes`].
    Route(Box<RouteRow>),
    /// Of [`MtaListing::Hosts`].
    Host(HostRow),
    /// Of [`MtaListing::HostStats`].
    HostStat(HostStatRow),
    /// Of [`MtaListing::Blocked`].
    Blocked {
        /// Local address; the unspecified one is the system's choice.
        source: IpAddr,
        /// Domain in lower case; `*` is any.
        domain: String,
    },
}

/// A next hop with its policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayRow {
    /// Its number.
    pub id: u64,
    /// Domain, or the smart host's name.
    pub domain: String,
    /// Port of the smart host, unless it is that of SMTP.
    pub port: Option<u16>,
    /// Protocol, as in a relay URL.
    pub scheme: String,
    /// Whether the domain is a host, found without MX.
    pub as_host: bool,
    /// The exchanger whose part we play, or empty.
    pub backup: String,
    /// Local addresses: a table, or the addresses in braces; or empty.
    pub src: String,
    /// The table that gives the name for EHLO by the local address, or empty.
    pub helo_src: String,
    /// Name for EHLO, or empty for the server's own.
    pub helo: String,
    /// Label of the credentials in the table that `security` names, or empty.
    pub label: String,
    /// TLS and authentication.
    pub security: SecurityRow,
    /// What holds it in memory: connections, tasks, and a look-up that is out.
    pub refcount: u64,
    /// Messages waiting.
    pub tasks: u64,
    /// Connections.
    pub sessions: u64,
    /// When the last connection was opened.
    pub last_connect: Option<u64>,
    /// When it is looked at next, if it waits for a time.
    pub until: Option<u64>,
    /// What it waits for.
    pub waits: Vec<RelayWait>,
    /// Whether more envelopes for it are held.
    pub on_hold: bool,
    /// Its connectors, in order of their sources.
    pub connectors: Vec<ConnectorRow>,
}

/// Port that is not worth mentioning (RFC 5321 section 4.5.4.2).
const SMTP: u16 = 25;

impl RelayRow {
    /// The relay of an envelope as far as that says what it is; it is not in memory.
    pub fn at_rest(relay: &Relay, envelope: &Envelope) -> Self {
        let host = relay.host.as_ref();
        let domain = host.map_or(envelope.dest.domain(), |host| &host.host);
        Self::new(relay, domain.to_lowercase(), host.is_some())
    }

    /// A relay that has nothing to do.
    pub(crate) fn new(relay: &Relay, domain: String, as_host: bool) -> Self {
        let host = relay.host.as_ref();
        Self {
            id: 0,
            domain,
            port: host.map(|host| host.port).filter(|port| *port != SMTP),
            scheme: relay.scheme().word().into(),
            label: host.map_or("", |host| &*host.label).into(),
            security: (&relay.security).into(),
            as_host,
            backup: relay.backup.clone().unwrap_or_default().into(),
            src: relay.src.clone().into(),
            helo_src: relay.helo_src.clone().into(),
            helo: relay.helo.clone().into(),
            refcount: 0,
            tasks: 0,
            sessions: 0,
            last_connect: None,
            until: None,
            waits: Vec::new(),
            on_hold: false,
            connectors: Vec::new(),
        }
    }
}

/// How a relay's connections are secured, besides its protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityRow {
    /// The option `tls` with its words, or empty.
    pub tls: String,
    /// The table with the credentials, or empty.
    pub auth: String,
    /// The certificate to show, or empty.
    pub pki: String,
    /// The authorities to trust, or empty for those of the system.
    pub ca: String,
    /// Cipher suites, or empty for all.
    pub ciphers: String,
    /// Versions of TLS, or empty for all.
    pub protocols: String,
    /// The option `dane` without that word, or empty for `opportunistic`.
    pub dane: String,
    /// The same of `mta-sts`.
    pub mta_sts: String,
}

impl From<&Security> for SecurityRow {
    fn from(security: &Security) -> Self {
        Self {
            tls: security.tls.words().into(),
            auth: security.auth.clone().into(),
            pki: security.pki.clone().into(),
            ca: security.ca.clone().into(),
            ciphers: security.ciphers.clone().into(),
            protocols: security.protocols.clone().into(),
            dane: security.dane.word().into(),
            mta_sts: security.mta_sts.word().into(),
        }
    }
}

impl SecurityRow {
    /// Octets of its texts.
    fn weight(&self) -> usize {
        let texts = [
            &self.tls,
            &self.auth,
            &self.pki,
            &self.ca,
            &self.ciphers,
            &self.protocols,
            &self.dane,
            &self.mta_sts,
        ];
        texts
            .iter()
            .fold(0_usize, |sum, text| sum.saturating_add(text.len()))
    }
}

/// What a relay waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RelayWait {
    /// The DNS.
    Mx,
    /// A place or a time to connect.
    Connector,
}

/// A relay's way out through one local address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorRow {
    /// Local address; `None` if the system chooses.
    pub source: Option<IpAddr>,
    /// Connections.
    pub sessions: u64,
    /// When the last connection was opened.
    pub last_connect: Option<u64>,
    /// When it may connect next, if it waits for a time.
    pub until: Option<u64>,
    /// What keeps it from connecting.
    pub flags: Vec<ConnectorFlag>,
}

/// What keeps a connector from connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConnectorFlag {
    /// It was not tried yet.
    New,
    /// It waits for a place or a time.
    Wait,
    /// No address of the destination has the family it needs.
    ErrorFamily,
    /// Its source address cannot be determined.
    ErrorSource,
    /// The destination has no exchanger it may use.
    ErrorMx,
    /// All routes are disabled, for they could not be connected to.
    ErrorRouteNet,
    /// All routes are disabled, one for what its host said.
    ErrorRouteSmtp,
    /// The administrator paused it.
    ErrorBlocked,
    /// A host has as many connections as it may.
    LimitHost,
    /// A route has.
    LimitRoute,
    /// The source has.
    LimitSource,
    /// The relay has.
    LimitRelay,
    /// The connector has.
    LimitConnector,
    /// The domain has.
    LimitDomain,
}

/// A way from a source to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRow {
    /// Its number.
    pub id: u64,
    /// Local address; `None` if the system chooses.
    pub source: Option<IpAddr>,
    /// Address and port.
    pub target: SocketAddr,
    /// Name of the host, or empty.
    pub name: String,
    /// Whether nothing ever worked over it, or not since it was disabled.
    pub fresh: bool,
    /// Whether it is disabled.
    pub disabled: bool,
    /// Connections.
    pub sessions: u64,
    /// Failures that have not been forgiven.
    pub penalty: u64,
    /// When it is looked at next: to enable it, to forgive a failure, or to forget it.
    pub until: Option<u64>,
    /// Text of its last failure, or empty.
    pub failure: String,
    /// TLS of its last connection that became ready: version, cipher suite, bits and validity,
    /// joined by colons; or empty.
    pub tls: String,
}

/// A remote host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRow {
    /// Its address.
    pub address: IpAddr,
    /// The name under which it was found, or empty.
    pub name: String,
    /// Exchangers and routes it is part of.
    pub refcount: u64,
    /// Connections.
    pub sessions: u64,
    /// When the last connection was opened.
    pub last_connect: Option<u64>,
}

/// What a recipient domain said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatRow {
    /// In lower case.
    pub domain: String,
    /// When, in seconds since the epoch.
    pub at: u64,
    /// What was said, as received.
    pub text: String,
}

impl From<&(IpAddr, Box<str>)> for MtaRow {
    fn from((source, domain): &(IpAddr, Box<str>)) -> Self {
        Self::Blocked {
            source: *source,
            domain: domain.as_ref().into(),
        }
    }
}

impl MtaRow {
    /// Octets it may take on the wire, at most.
    pub(super) fn weight(&self) -> usize {
        // Numbers, enums and the lengths of the texts, each at its longest.
        const FIXED: usize = 200;
        const CONNECTOR: usize = 80;
        let texts = match self {
            Self::Relay(row) => {
                let connectors = row.connectors.len().saturating_mul(CONNECTOR);
                let start = connectors.saturating_add(row.security.weight());
                let named = [&row.backup, &row.src, &row.helo_src, &row.helo, &row.label];
                let texts = [&row.domain, &row.scheme].into_iter().chain(named);
                texts.fold(start, |sum, text| sum.saturating_add(text.len()))
            }
            Self::Route(row) => {
                let texts = [&row.name, &row.failure, &row.tls];
                texts
                    .iter()
                    .fold(0_usize, |sum, text| sum.saturating_add(text.len()))
            }
            Self::Host(row) => row.name.len(),
            Self::HostStat(row) => row.domain.len().saturating_add(row.text.len()),
            Self::Blocked { domain, .. } => domain.len(),
        };
        texts.saturating_add(FIXED)
    }
}
