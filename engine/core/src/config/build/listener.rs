//! `listen on`.

use super::Builder;
use crate::config::grammar::{ListenOption, TableArgument, Word};
use crate::config::source::Span;
use crate::config::table::Service;
use crate::config::{Family, Interface, Listener, ListenerAuth, SocketListener, TlsMode, value};

/// Longest tag, in octets.
const TAG_MAX: usize = 32;

/// Certificates of one listener (spec/smtpd.md 1.2).
const PKIS_MAX: usize = 32;

/// Options while they are gathered, each with its place.
#[derive(Default)]
struct Options {
    inet4: Option<(Span, ())>,
    inet6: Option<(Span, ())>,
    port: Option<(Span, u16)>,
    tag: Option<(Span, Box<str>)>,
    hostname: Option<(Span, Box<str>)>,
    mask_source: Option<(Span, ())>,
    no_dsn: Option<(Span, ())>,
    tls: Option<(Span, TlsMode)>,
    verify: bool,
    pkis: Vec<Word>,
    authority: Option<(Span, Box<str>)>,
    auth: Option<(Span, ListenerAuth)>,
    received_auth: Option<(Span, ())>,
    protocols: Option<(Span, Word)>,
    ciphers: Option<(Span, Word)>,
    /// The port or another part was refused.
    faulty: bool,
}

impl Builder<'_> {
    pub(super) fn listen(&mut self, on: &Word, options: Vec<ListenOption>) {
        let mut options = self.listen_options(options);
        self.check_security(on, &mut options);
        let family = match (options.inet4, options.inet6) {
            (Some(_), None) => Some(Family::Inet4),
            (None, Some(_)) => Some(Family::Inet6),
            _ => None,
        };
        if options.faulty {
            return;
        }
        let interface = match plain_address(&on.text).parse() {
            Ok(ip) => Interface::Address(ip),
            Err(_) => Interface::Name(on.text.clone()),
        };
        let server = self.config.names.server.clone();
        let tls = options.tls.map_or(TlsMode::Absent, |(_, mode)| mode);
        let usual = if tls == TlsMode::Immediate { 465 } else { 25 };
        let word = |slot: Option<(Span, Word)>| slot.map(|(_, word)| word);
        let (protocols, ciphers) = (word(options.protocols), word(options.ciphers));
        let (protocols, ciphers) = self.suites(protocols.as_ref(), ciphers.as_ref());
        let listener = Listener {
            place: self.report.place(on.span),
            interface,
            family,
            port: options.port.map_or(usual, |(_, port)| port),
            tag: options.tag.map(|(_, tag)| tag).unwrap_or_default(),
            hostname: options.hostname.map_or(server, |(_, name)| name),
            mask_source: options.mask_source.is_some(),
            no_dsn: options.no_dsn.is_some(),
            tls,
            verify: options.verify,
            pkis: options.pkis.into_iter().map(|name| name.text).collect(),
            authority: options.authority.map(|(_, name)| name),
            protocols,
            ciphers,
            auth: options.auth.map(|(_, auth)| auth),
            received_auth: options.received_auth.is_some(),
        };
        let same = |old: &Listener| {
            old.interface == listener.interface
                && old.port == listener.port
                && old.family == listener.family
        };
        if let Some(old) = self.config.listeners.iter().find(|old| same(old)) {
            let message = format!("the same address and port as at {}", old.place);
            let fault = self.report.error(on.span, message, "listened on already");
            fault.help("choose another port, or remove one of the two lines");
            return;
        }
        self.config.listeners.push(listener);
    }

    /// Options that need each other.
    fn check_security(&mut self, on: &Word, options: &mut Options) {
        let mode = options.tls.map(|(span, mode)| (span, word_of(mode)));
        let mut fault = |span, message: String, label: &str, help: &str| {
            self.report.error(span, message, label).help(help);
            options.faulty = true;
        };
        match (mode, options.pkis.first()) {
            (Some((span, word)), None) => fault(
                span,
                format!("`{word}` without a certificate"),
                "needs a pki",
                "write pki NAME behind it, and above: pki NAME cert \"/path\" key \"/path\"",
            ),
            (None, Some(name)) => fault(
                name.span,
                "a pki without TLS".into(),
                "never shown to anybody",
                "write tls, tls-require or smtps as well, or remove it",
            ),
            _ => {}
        }
        if let (None, Some((span, _))) = (mode, options.auth) {
            fault(
                span,
                "authentication without TLS".into(),
                "passwords would pass in clear",
                "write tls-require pki NAME, or smtps pki NAME, before it",
            );
        }
        if let (Some((span, _)), false) = (&options.authority, options.verify) {
            let message = "a ca without `verify`";
            let warning = self.report.warning(*span, message, "never asked");
            warning.help("write tls-require verify or smtps verify, or remove it");
        }
        if let (Some((span, ())), None) = (options.received_auth, mode) {
            let message = "`received-auth` without TLS";
            let warning = self
                .report
                .warning(span, message, "never has anything to say");
            warning.help("remove it, or write tls, tls-require or smtps as well");
        }
        if options.pkis.len() > PKIS_MAX {
            let message = format!("more than {PKIS_MAX} certificates on one listener");
            let fault = self.report.error(on.span, message, "too many");
            fault.help("make certificates that hold several names");
            options.faulty = true;
        }
    }

    /// Notes one of the three kinds of TLS.
    fn tls_mode(&mut self, options: &mut Options, span: Span, mode: TlsMode) {
        if let Some((first, old)) = options.tls
            && old != mode
        {
            let (old, new) = (word_of(old), word_of(mode));
            let mark = self.report.mark(first, "first given here");
            let message = format!("`{new}` and `{old}` on one listener");
            let fault = self.report.error(span, message, "given as well");
            fault
                .related(mark)
                .help("keep one, or write two listen lines");
            options.faulty = true;
            return;
        }
        self.once(&mut options.tls, word_of(mode), span, mode);
    }

    fn listener_pki(&mut self, options: &mut Options, name: Word) {
        if self.pki_declared(&name) {
            options.pkis.push(name);
        } else {
            options.faulty = true;
        }
    }

    fn listener_authority(&mut self, options: &mut Options, span: Span, name: Word) {
        if self.authority_declared(&name) {
            self.once(&mut options.authority, "ca", span, name.text);
        } else {
            options.faulty = true;
        }
    }

    fn listener_auth(
        &mut self,
        options: &mut Options,
        span: Span,
        required: bool,
        users: Option<&TableArgument>,
    ) {
        let users = match users {
            None => None,
            Some(argument) => {
                let table = self.argument(argument, Service::Passwords, "");
                options.faulty |= table.is_none();
                table
            }
        };
        let auth = ListenerAuth { required, users };
        self.once(&mut options.auth, "auth", span, auth);
    }

    pub(super) fn listen_socket(&mut self, options: Vec<ListenOption>) {
        let options = self.listen_options(options);
        self.config.socket = SocketListener {
            tag: options.tag.map(|(_, tag)| tag).unwrap_or_default(),
            mask_source: options.mask_source.is_some(),
            no_dsn: options.no_dsn.is_some(),
        };
    }

    fn listen_options(&mut self, written: Vec<ListenOption>) -> Options {
        let mut options = Options::default();
        for option in written {
            match option {
                ListenOption::Inet4(span) => self.once(&mut options.inet4, "inet4", span, ()),
                ListenOption::Inet6(span) => self.once(&mut options.inet6, "inet6", span, ()),
                ListenOption::Port(span, word) => match value::listen_port(&word.text) {
                    Ok(port) => self.once(&mut options.port, "port", span, port),
                    Err(fault) => {
                        options.faulty = true;
                        self.value_fault(word.span, fault);
                    }
                },
                ListenOption::Tag(span, tag) => {
                    if tag.text.len() > TAG_MAX {
                        let message = format!("a tag of more than {TAG_MAX} octets");
                        let fault = self.report.error(tag.span, message, "too long");
                        fault.help("choose a shorter tag");
                    }
                    self.once(&mut options.tag, "tag", span, tag.text);
                }
                ListenOption::Hostname(span, name) => {
                    self.check_hostname(&name);
                    self.once(&mut options.hostname, "hostname", span, name.text);
                }
                ListenOption::MaskSource(span) => {
                    self.once(&mut options.mask_source, "mask-src", span, ());
                }
                ListenOption::NoDsn(span) => self.once(&mut options.no_dsn, "no-dsn", span, ()),
                ListenOption::Tls(span) => self.tls_mode(&mut options, span, TlsMode::Offered),
                ListenOption::TlsRequire(span, verify) => {
                    self.tls_mode(&mut options, span, TlsMode::Required);
                    options.verify |= verify;
                }
                ListenOption::Smtps(span, verify) => {
                    self.tls_mode(&mut options, span, TlsMode::Immediate);
                    options.verify |= verify;
                }
                ListenOption::Pki(name) => self.listener_pki(&mut options, name),
                ListenOption::Authority(span, name) => {
                    self.listener_authority(&mut options, span, name);
                }
                ListenOption::Auth(span, users) => {
                    self.listener_auth(&mut options, span, true, users.as_ref());
                }
                ListenOption::AuthOptional(span, users) => {
                    self.listener_auth(&mut options, span, false, users.as_ref());
                }
                ListenOption::ReceivedAuth(span) => {
                    self.once(&mut options.received_auth, "received-auth", span, ());
                }
                ListenOption::Protocols(list) => {
                    self.once(&mut options.protocols, "protocols", list.span, list);
                }
                ListenOption::Ciphers(list) => {
                    self.once(&mut options.ciphers, "ciphers", list.span, list);
                }
                ListenOption::Unserved(what) => {
                    options.faulty = true;
                    self.unserved(what);
                }
            }
        }
        options
    }

    pub(super) fn check_hostname(&mut self, name: &Word) {
        if !value::is_hostname(&name.text) {
            let message = format!("`{}` is not a host name", name.text.escape_debug());
            let fault = self.report.error(name.span, message, "");
            fault.help("write letters, digits and `-`, in parts separated by dots");
        }
    }
}

/// The word that asks for a kind of TLS.
const fn word_of(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Absent => "",
        TlsMode::Offered => "tls",
        TlsMode::Required => "tls-require",
        TlsMode::Immediate => "smtps",
    }
}

/// An address without the brackets or the tag of an SMTP literal.
fn plain_address(text: &str) -> &str {
    let inside = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let inside = inside.unwrap_or(text);
    inside.strip_prefix("IPv6:").unwrap_or(inside)
}
