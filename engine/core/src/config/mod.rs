//! smtpd.conf: what the administrator has written, checked and ready for use.
//!
//! What: [`parse`] turns text in the action/match grammar (spec/smtpd.md 1) into a [`Config`].
//! Promises: all faults are found in one pass, each with its line, the word underlined and a
//! sentence how to mend it; nothing that is written is silently ignored, so what this version
//! does not serve is refused by name.
//! Absent on purpose: files (a loader is handed in, and a vetter for those of TLS), resolving
//! interface and host names.
//! Fails: with the list of [`Diagnostic`]s.

pub mod format;
pub mod table;

mod build;
pub mod crypt;
mod diagnostic;
mod grammar;
mod source;
mod statement;
mod token;
mod unserved;
mod value;

pub use diagnostic::{Diagnostic, Mark, Place, Severity};
pub use token::reserved_words;

use crate::envelope::{Method, RelayHost, Security};
use crate::limits::Limits;
use crate::tls::{Protocols, Suites};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use table::{Service, Table, TableFault};

/// Reads a file named in the configuration: its text, or why it cannot be read.
pub type Loader<'l> = &'l mut dyn FnMut(&str) -> Result<String, String>;

/// Looks at files of TLS before anything uses them, or says why they cannot be used.
pub type Vetter<'v> = &'v mut dyn FnMut(Material<'_>) -> Result<(), Unfit>;

/// Files of TLS that the configuration names, by their paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Material<'m> {
    /// The certificate of a `pki`, with those that lead to its authority.
    Chain(&'m str),
    /// The private key of a `pki`, which must be that of its certificate. Asked for only when
    /// nothing is wrong with the chain.
    Key {
        /// The certificate.
        cert: &'m str,
        /// The key.
        key: &'m str,
    },
    /// The certificates of a `ca`.
    Authorities(&'m str),
}

/// Why files of TLS cannot be used. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What is wrong, such as `no such file`.
    pub reason: String,
    /// How to mend it.
    pub help: String,
}

/// What to parse.
#[derive(Debug)]
pub struct Input<'a> {
    /// Name of the main file, for diagnostics.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
    /// Macros of the command line (`-D name=value`); they win over those of the file.
    pub macros: &'a [(String, String)],
    /// The names this host goes by.
    pub names: LocalNames,
}

/// The names and addresses this host goes by; `from local` and `for local` are made of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalNames {
    /// The server's name, in greetings and notices.
    pub server: Box<str>,
    /// Addresses of all interfaces.
    pub addresses: Vec<IpAddr>,
}

/// A configuration that can be used. Put it into an `Arc` to share it; cloning shares the tables.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who we are.
    pub names: LocalNames,
    /// All limits, with those of the file in place.
    pub limits: Limits,
    /// Where to listen, in the order of the file.
    pub listeners: Vec<Listener>,
    /// What holds for mail that comes through the local socket.
    pub socket: SocketListener,
    /// In the order of the file: the first that matches decides.
    pub rules: Vec<Rule>,
    /// Delays after which the sender is told that mail is late, in the order of the file.
    pub bounce_warn: Vec<Duration>,
    /// Character between a user and a sub-address.
    pub subaddress_delimiter: char,
    /// Certificates and keys, in order of their names.
    pub pkis: Vec<Pki>,
    /// Authorities to trust instead of the system's, in order of their names.
    pub authorities: Vec<Authority>,
    actions: Vec<Action>,
    tables: Vec<NamedTable>,
}

/// Which action of a [`Config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActionId(usize);

/// Which table of a [`Config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableId(usize);

/// A certificate with its key, the `pki` lines of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pki {
    /// Name in lower case: a host name, or `*`.
    pub name: Box<str>,
    /// Path of the certificate, as it was written.
    pub cert: Box<str>,
    /// Path of the private key, as it was written.
    pub key: Box<str>,
}

/// Authorities whose certificates are trusted, a `ca` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Name in lower case: a host name, or `*`.
    pub name: Box<str>,
    /// Path of their certificates, as it was written.
    pub cert: Box<str>,
}

/// A `listen on` line for an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it was written, for what goes wrong when it is opened.
    pub place: Place,
    /// What to listen on.
    pub interface: Interface,
    /// Address family, if only one is wanted.
    pub family: Option<Family>,
    /// TCP port.
    pub port: u16,
    /// Tag of its sessions, or empty.
    pub tag: Box<str>,
    /// Name in greetings.
    pub hostname: Box<str>,
    /// Leave the client out of `Received`.
    pub mask_source: bool,
    /// Do not offer DSN (RFC 3461).
    pub no_dsn: bool,
    /// Whether and when there is TLS.
    pub tls: TlsMode,
    /// Clients must show a certificate that is good.
    pub verify: bool,
    /// Names of the `pki` to show to clients, the first one for those who ask for no name; at
    /// least one with TLS, none without.
    pub pkis: Vec<Box<str>>,
    /// Name of the `ca` for clients' certificates; the system's authorities if none.
    pub authority: Option<Box<str>>,
    /// Versions of TLS that are spoken, if not all we have.
    pub protocols: Option<Protocols>,
    /// Cipher suites that are used, if not all we have.
    pub ciphers: Option<Suites>,
    /// Whether clients can, or must, authenticate; with TLS only.
    pub auth: Option<ListenerAuth>,
    /// Say in `Received` who has authenticated.
    pub received_auth: bool,
}

/// When a listener has TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    Absent,
    /// When a client asks for it with STARTTLS; `tls`.
    Offered,
    /// The same, and before any mail; `tls-require`.
    Required,
    /// From the first octet; `smtps`.
    Immediate,
}

/// How clients of a listener authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerAuth {
    /// Whether mail is refused before.
    pub required: bool,
    /// Their hashed passwords; those of the system's users if none.
    pub users: Option<TableId>,
}

/// The `listen on socket` line, or its defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketListener {
    /// Tag of its sessions, or empty.
    pub tag: Box<str>,
    /// Leave the client out of `Received`.
    pub mask_source: bool,
    /// Do not offer DSN (RFC 3461).
    pub no_dsn: bool,
}

/// What a listener is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// An address.
    Address(IpAddr),
    /// An interface or a group of them, else a host name, all of whose addresses are meant.
    Name(Box<str>),
}

/// Address family of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 only.
    Inet4,
    /// IPv6 only.
    Inet6,
}

/// A named way to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Its name.
    pub name: Box<str>,
    /// What it does.
    pub kind: ActionKind,
    /// Life of its envelopes, if it is not that of `queue ttl`.
    pub ttl: Option<Duration>,
}

/// What an action does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// Delivers here.
    Local(Local),
    /// Sends to another host.
    Relay(RelayAction),
}

/// Options of a local action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// How to deliver to a user.
    pub method: Method,
    /// Where recipients become others before a user is looked up.
    pub rewriting: Rewriting,
    /// Who the users are, if not those of the system.
    pub userbase: Option<TableId>,
    /// Whom to deliver as, instead of the user.
    pub user: Option<Box<str>>,
}

/// How a local action turns recipients into others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewriting {
    /// Not at all.
    None,
    /// By aliases of the user part; others stay as they are.
    Alias(TableId),
    /// By virtual users and domains; others do not exist.
    Virtual(TableId),
}

/// Options of a relay action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayAction {
    /// Whom to hand mail to.
    pub host: NextHop,
    /// Name for EHLO; empty for the server's own.
    pub helo: Box<str>,
    /// Local addresses, as [`Relay::src`](crate::envelope::Relay::src) has them.
    pub src: Box<str>,
    /// Name of the table that gives the name for EHLO by the local address, or empty.
    pub helo_src: Box<str>,
    /// The exchanger whose part we play.
    pub backup: Option<Box<str>>,
    /// TLS and authentication.
    pub security: Security,
}

/// Whom a relay action hands mail to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// The mail exchangers of the destination's domain.
    Mx,
    /// One smart host.
    Host(RelayHost),
    /// The smart hosts of a table, in turn.
    Table(TableId),
}

/// A `match` line. All its criteria must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it was written.
    pub place: Place,
    /// Where mail comes from.
    pub from: Criterion<Origin>,
    /// Where it goes.
    pub to: Criterion<Destination>,
    /// Tag of the listener.
    pub tag: Option<Criterion<TableId>>,
    /// Name the client gave.
    pub helo: Option<Criterion<TableId>>,
    /// Whether the client speaks TLS.
    pub tls: Option<Criterion<()>>,
    /// Whether the client has authenticated, and as whom.
    pub auth: Option<Criterion<Option<TableId>>>,
    /// Return path.
    pub sender: Option<Criterion<TableId>>,
    /// Recipient.
    pub rcpt: Option<Criterion<TableId>>,
    /// What to do.
    pub verdict: Verdict,
}

/// A question that must be answered with yes, or with no if it is negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Criterion<T> {
    /// Written with `!`.
    pub negated: bool,
    /// What is asked.
    pub what: T,
}

/// Where mail comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Anywhere.
    Any,
    /// This host: the local socket, or one of its own addresses.
    Local,
    /// The local socket.
    Socket,
    /// An address in the table.
    Source(TableId),
}

/// Where mail goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Anywhere.
    Any,
    /// A name of this host.
    Local,
    /// A domain in the table.
    Domain(TableId),
}

/// What a rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Deliver by this action.
    Action(ActionId),
    /// Refuse the recipient.
    Reject,
}

/// A table with its name and uses.
#[derive(Clone, Debug)]
pub struct NamedTable {
    name: Box<str>,
    path: Option<Box<str>>,
    services: Vec<Service>,
    table: Arc<Table>,
}

impl NamedTable {
    /// Its name; empty for one that was written in place.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file it was read from, if it was.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Whether it is used, and so fit, for this.
    pub fn serves(&self, service: Service) -> bool {
        self.services.contains(&service)
    }

    /// Its content.
    pub fn table(&self) -> &Table {
        &self.table
    }
}

/// What can be used of a configuration, whatever else is wrong with it.
#[derive(Clone, Debug)]
pub struct Salvage {
    /// Actions, tables and limits; those that are faulty may be missing or incomplete.
    pub config: Config,
    /// Names of faulty actions, each with its first fault in one sentence.
    pub faulty: BTreeMap<Box<str>, String>,
    /// All faults and warnings, in the order of the files.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a configuration for its actions, which need not all be sound: for mail that was queued
/// under the configuration of another server.
pub fn salvage(input: &Input<'_>, load: Loader<'_>) -> Salvage {
    build::salvage(input, load)
}

/// Reads a relay URL, `[scheme://]host[:port]`; the error says what is wrong in one sentence.
pub(crate) fn relay_url(url: &str) -> Result<RelayHost, String> {
    value::relay_url(url).map_err(|fault| fault.message)
}

/// Checks the destination of an LMTP delivery; the error says what is wrong in one sentence.
pub(crate) fn lmtp_destination(dest: &str) -> Result<(), String> {
    value::lmtp_destination(dest).map_err(|fault| fault.message)
}

/// Whether a text has the form of a host name (RFC 1123 section 2.1).
pub(crate) fn is_hostname(text: &str) -> bool {
    value::is_hostname(text)
}

/// Parses a configuration. The first list holds warnings only, the second at least one error.
pub fn parse(
    input: &Input<'_>,
    load: Loader<'_>,
    vet: Vetter<'_>,
) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    build::build(input, load, vet)
}

impl Config {
    /// The table an id stands for.
    pub fn table(&self, id: TableId) -> &Table {
        let found = self.tables.get(id.0);
        &found.expect("ids are made with their configuration").table
    }

    /// The action an id stands for.
    pub fn action(&self, id: ActionId) -> &Action {
        let found = self.actions.get(id.0);
        found.expect("ids are made with their configuration")
    }

    /// All actions, in the order of the file.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// All tables, in the order of the file; those written in place have no name.
    pub fn tables(&self) -> &[NamedTable] {
        &self.tables
    }

    /// The name of a table, as `envelope::Mda::userbase` records it.
    pub fn table_name(&self, id: TableId) -> &str {
        self.tables.get(id.0).map_or("", NamedTable::name)
    }

    /// The tables that relays may name with `src`, with their addresses.
    pub fn sources(&self) -> BTreeMap<Box<str>, Vec<IpAddr>> {
        let serving = |table: &&NamedTable| table.services.contains(&Service::Source);
        let tables = self.tables.iter().filter(serving);
        tables
            .map(|named| (named.name.clone(), named.table.addresses().to_vec()))
            .collect()
    }

    /// The certificate and key with this name, in any case, if there is one.
    pub fn pki_named(&self, name: &str) -> Option<&Pki> {
        let named = |pki: &&Pki| pki.name.eq_ignore_ascii_case(name);
        self.pkis.iter().find(named)
    }

    /// The authorities with this name, in any case, if there are any.
    pub fn authority_named(&self, name: &str) -> Option<&Authority> {
        let named = |ca: &&Authority| ca.name.eq_ignore_ascii_case(name);
        self.authorities.iter().find(named)
    }

    /// The table with this name, if there is one.
    pub fn table_named(&self, name: &str) -> Option<&NamedTable> {
        let named = |table: &&NamedTable| !name.is_empty() && *table.name == *name;
        self.tables.iter().find(named)
    }

    /// Puts new content into a table, if it suits all uses of the old one; else nothing changes.
    /// False if no table has this name.
    pub fn replace_table(&mut self, name: &str, mut table: Table) -> Result<bool, TableFault> {
        let named = |old: &&mut NamedTable| !name.is_empty() && *old.name == *name;
        let Some(old) = self.tables.iter_mut().find(named) else {
            return Ok(false);
        };
        for service in &old.services {
            table.serve(*service)?;
        }
        old.table = Arc::new(table);
        Ok(true)
    }
}
