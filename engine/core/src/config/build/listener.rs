//! `listen on`.

use super::Builder;
use crate::config::grammar::{ListenOption, Word};
use crate::config::source::Span;
use crate::config::unserved::Part;
use crate::config::{Family, Interface, Listener, SocketListener, value};

/// Longest tag, in octets.
const TAG_MAX: usize = 32;

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
    /// The port or another part was refused.
    faulty: bool,
}

impl Builder<'_> {
    pub(super) fn listen(&mut self, on: &Word, options: Vec<ListenOption>) {
        let options = self.listen_options(options);
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
        let listener = Listener {
            place: self.report.place(on.span),
            interface,
            family,
            port: options.port.map_or(25, |(_, port)| port),
            tag: options.tag.map(|(_, tag)| tag).unwrap_or_default(),
            hostname: options.hostname.map_or(server, |(_, name)| name),
            mask_source: options.mask_source.is_some(),
            no_dsn: options.no_dsn.is_some(),
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
                ListenOption::Unserved(what) => {
                    options.faulty = true;
                    self.unserved(Part::Listener, what);
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

/// An address without the brackets or the tag of an SMTP literal.
fn plain_address(text: &str) -> &str {
    let inside = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let inside = inside.unwrap_or(text);
    inside.strip_prefix("IPv6:").unwrap_or(inside)
}
