//! `action`: local deliveries and relays.

use super::Builder;
use super::security::Draft;
use crate::config::grammar::{self, LocalOption, RelayOption, TableArgument, Word};
use crate::config::source::Span;
use crate::config::table::Service;
use crate::config::{
    Action, ActionKind, Local, NextHop, RelayAction, Rewriting, TableId, format, value,
};
use crate::envelope::Method;
use std::net::IpAddr;

impl Builder<'_> {
    pub(super) fn action(&mut self, name: &Word, kind: grammar::ActionKind, ttl: Option<&Word>) {
        if let Some((_, first)) = self.action_names.get(&name.text) {
            let mark = self.report.mark(*first, "first declared here");
            let message = format!("the action `{}` is declared twice", name.text);
            let fault = self.report.error(name.span, message, "declared again");
            fault.related(mark).help("give one of the two another name");
            return;
        }
        let kind = match kind {
            grammar::ActionKind::Local(method, options) => {
                self.local(name, method, options).map(ActionKind::Local)
            }
            grammar::ActionKind::Relay(options) => self.relay(name, options).map(ActionKind::Relay),
        };
        let ttl = ttl.map(|word| self.delay(word));
        let Some(kind) = kind else {
            self.broken.insert(name.text.clone());
            return;
        };
        let action = Action {
            name: name.text.clone(),
            kind,
            ttl: ttl.flatten(),
        };
        self.add_action(name, action);
    }

    fn local(
        &mut self,
        name: &Word,
        method: grammar::Method,
        options: Vec<LocalOption>,
    ) -> Option<Local> {
        let mbox = match &method {
            grammar::Method::Mbox(span) => Some(*span),
            _ => None,
        };
        let method = self.method(method);
        let mut alias = None;
        let mut virtuals = None;
        let mut userbase = None;
        let mut user = None;
        for option in options {
            match option {
                LocalOption::Alias(span, table) => {
                    let table = self.argument(&table, Service::Alias, "");
                    self.once(&mut alias, "alias", span, table);
                }
                LocalOption::Virtual(span, table) => {
                    let table = self.argument(&table, Service::Alias, "");
                    self.once(&mut virtuals, "virtual", span, table);
                }
                LocalOption::Userbase(span, table) => {
                    // Envelopes name their userbase, so one written in place needs a name, too.
                    let table =
                        self.argument(&table, Service::Userinfo, &format!("<{}>", name.text));
                    self.once(&mut userbase, "userbase", span, table);
                }
                LocalOption::User(span, word) => {
                    if let Some(mbox) = mbox {
                        let mark = self.report.mark(mbox, "mbox delivers as the recipient");
                        let message = "`user` cannot be used with mbox";
                        let fault = self.report.error(span, message, "");
                        fault.related(mark).help("remove it, or use maildir or mda");
                    }
                    self.once(&mut user, "user", span, word.text);
                }
                LocalOption::Unserved(what) => self.unserved(what),
            }
        }
        Some(Local {
            method: method?,
            rewriting: self.rewriting(alias, virtuals)?,
            userbase: match userbase {
                Some((_, table)) => Some(table?),
                None => None,
            },
            user: user.map(|(_, user)| user),
        })
    }

    fn rewriting(
        &mut self,
        alias: Option<(Span, Option<TableId>)>,
        virtuals: Option<(Span, Option<TableId>)>,
    ) -> Option<Rewriting> {
        match (alias, virtuals) {
            (None, None) => Some(Rewriting::None),
            (Some((_, table)), None) => Some(Rewriting::Alias(table?)),
            (None, Some((_, table))) => Some(Rewriting::Virtual(table?)),
            (Some((first, _)), Some((second, _))) => {
                let mark = self.report.mark(first, "the other one");
                let message = "`alias` and `virtual` exclude each other";
                let fault = self.report.error(second, message, "one too many");
                fault
                    .related(mark)
                    .help("write two actions, and match to choose one");
                None
            }
        }
    }

    fn method(&mut self, method: grammar::Method) -> Option<Method> {
        match method {
            grammar::Method::Mbox(_) => Some(Method::Mbox),
            grammar::Method::Maildir(path, junk) => {
                if let Some(junk) = junk {
                    self.unserved(junk);
                }
                let path = match path {
                    Some(path) => self.template(path)?,
                    None => "~/Maildir".into(),
                };
                Some(Method::Maildir { path })
            }
            grammar::Method::Lmtp(dest, rcpt_to) => match value::lmtp_destination(&dest.text) {
                Ok(()) => Some(Method::Lmtp {
                    dest: dest.text,
                    rcpt_to,
                }),
                Err(fault) => {
                    self.value_fault(dest.span, fault);
                    None
                }
            },
            grammar::Method::Mda(command) => self.template(command).map(Method::Command),
            grammar::Method::Unserved(what) => {
                self.unserved(what);
                None
            }
        }
    }

    /// A path or command whose format specifiers are sound.
    fn template(&mut self, word: Word) -> Option<Box<str>> {
        match format::check(&word.text) {
            Ok(()) => Some(word.text),
            Err(why) => {
                let fault = self.report.error(word.span, why.to_string(), "");
                fault.help(
                    "specifiers are %{sender}, %{rcpt} and %{dest}, each with .user or .domain, \
                     %{user.username}, %{user.directory} and %{mbox.from}; a plain % is %%",
                );
                None
            }
        }
    }

    fn relay(&mut self, name: &Word, options: Vec<RelayOption>) -> Option<RelayAction> {
        let mut security = Draft::default();
        let mut host = None;
        let mut helo = None;
        let mut src = None;
        let mut helo_src = None;
        let mut backup = None;
        for option in options {
            match option {
                RelayOption::Host(span, table) => {
                    let hop = self.next_hop(&table);
                    self.once(&mut host, "host", span, hop);
                }
                RelayOption::Helo(span, name) => {
                    self.check_hostname(&name);
                    self.once(&mut helo, "helo", span, name.text);
                }
                RelayOption::Src(span, table) => {
                    let sources = self.sources(&table);
                    self.once(&mut src, "src", span, sources);
                }
                RelayOption::HeloSrc(span, table) => {
                    // Envelopes name their table, so one written in place needs a name, too.
                    let anonymous = format!("<{}:helo-src>", name.text);
                    let table = self.argument(&table, Service::Heloname, &anonymous);
                    self.once(&mut helo_src, "helo-src", span, table);
                }
                RelayOption::Backup(span, exchanger) => {
                    if let Some(exchanger) = &exchanger {
                        self.check_hostname(exchanger);
                    }
                    let exchanger = exchanger.map(|word| word.text);
                    self.once(&mut backup, "backup", span, exchanger);
                }
                RelayOption::Unserved(what) => self.unserved(what),
                other => self.secure(&mut security, name, other),
            }
        }
        if let (Some((first, _)), Some((second, _))) = (&host, &backup) {
            let mark = self.report.mark(*first, "the other one");
            let message = "`host` and `backup` exclude each other";
            let fault = self.report.error(*second, message, "one too many");
            fault
                .related(mark)
                .help("a smart host has no exchangers to be the backup of: remove one of the two");
        }
        let own = self.config.names.server.clone();
        let helo_src = match helo_src {
            Some((_, table)) => self.tables.get(table?.0).map(|draft| draft.named.clone()),
            None => None,
        };
        let (span, hop) = match host {
            Some((span, hop)) => (Some(span), hop),
            None => (None, Some(NextHop::Mx)),
        };
        let security = self.security(security, span, hop.as_ref());
        Some(RelayAction {
            host: hop?,
            security: security?,
            helo: helo.map(|(_, name)| name).unwrap_or_default(),
            src: match src {
                Some((_, sources)) => sources?,
                None => Box::default(),
            },
            helo_src: helo_src.unwrap_or_default(),
            backup: backup.map(|(_, name)| name.unwrap_or(own)),
        })
    }

    /// Local addresses: the name of a table, or what was written in place, in braces.
    fn sources(&mut self, argument: &TableArgument) -> Option<Box<str>> {
        let id = self.argument(argument, Service::Source, "")?;
        let draft = self.tables.get(id.0)?;
        if let TableArgument::Named(name) = argument {
            return Some(name.text.clone());
        }
        let list = draft.table.addresses().iter().map(IpAddr::to_string);
        let list: Vec<_> = list.collect();
        Some(format!("{{{}}}", list.join(",")).into())
    }

    fn next_hop(&mut self, argument: &TableArgument) -> Option<NextHop> {
        let TableArgument::Literal(url) = argument else {
            let table = self.argument(argument, Service::Relayhost, "");
            return table.map(NextHop::Table);
        };
        match value::relay_url(&url.text) {
            Ok(host) => Some(NextHop::Host(host)),
            Err(fault) => {
                self.value_fault(url.span, fault);
                None
            }
        }
    }
}
