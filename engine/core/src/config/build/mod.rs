//! From directives to a configuration: names are resolved, values read, uses checked.
//!
//! Promises: goes on after a fault, so all faults are found; a name whose declaration is faulty
//! is not reported a second time where it is used.

mod delivery;
mod listener;
mod matching;
mod security;
mod setting;
mod trust;

use super::grammar::{self, Directive, Entry, TableArgument, TableSource, Unserved, Word};
use super::source::{Report, Span};
use super::statement::{self, Statement};
use super::token::{DIRECTIVES, Token};
use super::{
    Action, ActionId, Config, Diagnostic, Input, Loader, Material, NamedTable, Salvage,
    SocketListener, TableId, TlsMode, Vetter, unserved,
};
use crate::config::table::{Service, Shape, Table, TableFault};
use crate::limits::Limits;
use crate::tls::Suites;
use chumsky::Parser;
use chumsky::error::{RichPattern, RichReason};
use chumsky::input::Input as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use trust::Trust;

/// Parses, resolves and checks a whole configuration.
pub(super) fn build(
    input: &Input<'_>,
    load: Loader<'_>,
    vet: Vetter<'_>,
) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    built(input, load, vet).finish(input)
}

/// The same for what is sound of it.
pub(super) fn salvage(input: &Input<'_>, load: Loader<'_>) -> Salvage {
    // What certificates are worth is for those who use them.
    let mut vet = |_: Material<'_>| Ok(());
    let mut builder = built(input, load, &mut vet);
    let faulty = std::mem::take(&mut builder.faulty);
    let (config, report) = builder.assembled();
    Salvage {
        config,
        faulty,
        diagnostics: report.into_diagnostics(),
    }
}

fn built<'l>(input: &Input<'_>, load: Loader<'l>, vet: Vetter<'l>) -> Builder<'l> {
    let mut report = Report::default();
    let limits = Limits::default();
    let statements = statement::read(&mut report, input, &mut *load, limits.config_files);
    let mut builder = Builder {
        report,
        load,
        vet,
        config: Config {
            names: input.names.clone(),
            limits,
            listeners: Vec::new(),
            socket: SocketListener::default(),
            rules: Vec::new(),
            bounce_warn: vec![Duration::from_hours(4)],
            subaddress_delimiter: '+',
            pkis: Vec::new(),
            authorities: Vec::new(),
            actions: Vec::new(),
            tables: Vec::new(),
        },
        tables: Vec::new(),
        names: BTreeMap::new(),
        action_names: BTreeMap::new(),
        trust: Trust::default(),
        smtp_ciphers: None,
        broken: BTreeSet::new(),
        faulty: BTreeMap::new(),
        settings: BTreeMap::new(),
        matches: 0,
    };
    builder.directives(&statements);
    builder
}

/// A table while the configuration is being built.
struct Draft {
    named: Box<str>,
    declared: Span,
    /// Offset of its file's text, if it has one.
    file: Option<(Box<str>, usize)>,
    services: Vec<Service>,
    table: Table,
}

struct Builder<'l> {
    report: Report,
    load: Loader<'l>,
    vet: Vetter<'l>,
    config: Config,
    tables: Vec<Draft>,
    names: BTreeMap<Box<str>, TableId>,
    action_names: BTreeMap<Box<str>, (ActionId, Span)>,
    trust: Trust,
    /// Cipher suites of listeners that name none; `smtp ciphers`.
    smtp_ciphers: Option<Suites>,
    /// Names of tables, actions, pkis and authorities whose declaration is faulty.
    broken: BTreeSet<Box<str>>,
    /// Actions that must not be used, with what is wrong.
    faulty: BTreeMap<Box<str>, String>,
    /// Settings given so far, and where.
    settings: BTreeMap<&'static str, Span>,
    /// `match` lines seen, faulty ones included.
    matches: usize,
}

impl Builder<'_> {
    fn directives(&mut self, statements: &[Statement]) {
        let parser = grammar::directive();
        for statement in statements {
            if matches!(statement.tokens.first(), Some((Token::Keyword("match"), _))) {
                self.matches += 1;
            }
            if statement.spoiled {
                self.mark_broken(statement);
                self.note_faulty(statement, "its declaration cannot be read".into());
                continue;
            }
            let found = self.report.found();
            let end = statement.tokens.last().map_or(0, |(_, span)| span.end);
            let tokens = statement.tokens.as_slice();
            let input = tokens.map(Span::from(end..end), |(token, span)| (token, span));
            match parser.parse(input).into_result() {
                Ok(directive) => self.directive(directive),
                Err(faults) => {
                    self.mark_broken(statement);
                    for fault in &faults {
                        self.syntax(statement, fault);
                    }
                }
            }
            if let Some(fault) = self.report.error_since(found) {
                let why = format!("{}: {}", fault.place(), fault.message());
                self.note_faulty(statement, why);
            }
        }
    }

    fn directive(&mut self, directive: Directive) {
        match directive {
            Directive::Unserved(what) => self.unserved(what),
            Directive::Pki(name, parts) => self.pki(&name, parts),
            Directive::Authority(name, cert) => self.authority(&name, cert),
            Directive::Table(name, source) => self.table(&name, source),
            Directive::Listen(interface, options) => self.listen(&interface, options),
            Directive::ListenSocket(options) => self.listen_socket(options),
            Directive::Action(name, kind, ttl) => self.action(&name, kind, ttl.as_ref()),
            Directive::Match(span, options, verdict) => self.matching(span, options, &verdict),
            other => self.setting(other),
        }
    }

    /// Remembers why an action that a statement would have declared must not be used.
    fn note_faulty(&mut self, statement: &Statement, why: String) {
        if let [(Token::Keyword("action"), _), (name, _), ..] = statement.tokens.as_slice() {
            let name = match name {
                Token::Text(name) => name.clone(),
                other => other.to_string().trim_matches('`').into(),
            };
            self.faulty.entry(name).or_insert(why);
        }
    }

    fn finish(mut self, input: &Input<'_>) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
        if self.matches == 0 {
            let end = self.report.end_of(input.file);
            let fault = self
                .report
                .error(end, "there is no match rule", "the file ends here");
            fault.help(
                "no mail would ever be accepted: write at least \
                 match from local for any action NAME",
            );
        }
        self.settle_trust();
        for listener in &mut self.config.listeners {
            if listener.tls != TlsMode::Absent && listener.ciphers.is_none() {
                listener.ciphers.clone_from(&self.smtp_ciphers);
            }
        }
        let (config, report) = self.assembled();
        let failed = report.failed();
        let diagnostics = report.into_diagnostics();
        if failed {
            Err(diagnostics)
        } else {
            Ok((config, diagnostics))
        }
    }

    fn assembled(mut self) -> (Config, Report) {
        self.config.tables = self
            .tables
            .into_iter()
            .map(|draft| NamedTable {
                name: draft.named,
                path: draft.file.map(|(path, _)| path),
                services: draft.services,
                table: Arc::new(draft.table),
            })
            .collect();
        (self.config, self.report)
    }

    /// Remembers what a faulty directive would have declared.
    fn mark_broken(&mut self, statement: &Statement) {
        if let [
            (Token::Keyword("table" | "action" | "pki" | "ca"), _),
            (Token::Text(name), _),
            ..,
        ] = statement.tokens.as_slice()
        {
            self.broken.insert(name.clone());
        }
    }

    fn unserved(&mut self, what: Unserved) {
        self.unserved_with(what.word, what.span, unserved::advice(what.word));
    }

    fn unserved_with(&mut self, word: &str, span: Span, advice: &str) {
        let message = format!("`{word}` is not served by this version");
        self.report.error(span, message, "not served").help(advice);
    }

    /// Notes an option; reports it if it was given before.
    fn once<T>(&mut self, slot: &mut Option<(Span, T)>, word: &str, span: Span, value: T) {
        if let Some((first, _)) = slot {
            let message = format!("`{word}` is given twice");
            let mark = self.report.mark(*first, "first given here");
            let fault = self.report.error(span, message, "given again");
            fault.related(mark).help("keep one of the two");
        } else {
            *slot = Some((span, value));
        }
    }

    fn value_fault(&mut self, span: Span, fault: super::value::Fault) {
        self.report.error(span, fault.message, "").help(fault.help);
    }

    fn delay(&mut self, word: &Word) -> Option<Duration> {
        match super::value::delay(&word.text) {
            Ok(delay) => Some(delay),
            Err(fault) => {
                self.value_fault(word.span, fault);
                None
            }
        }
    }

    fn syntax(&mut self, statement: &Statement, fault: &grammar::Fault<'_>) {
        let span = *fault.span();
        let first = statement.tokens.first();
        if let Some((token, at)) = first.filter(|(_, at)| *at == span) {
            let word = match token {
                Token::Text(text) => Some(&**text),
                _ => None,
            };
            let message = format!("unknown directive {token}");
            let help = unknown_directive_help(word);
            self.report
                .error(*at, message, "expected a directive or a macro")
                .help(help);
            return;
        }
        let RichReason::ExpectedFound { expected, found } = fault.reason() else {
            self.report.error(span, fault.to_string(), "");
            return;
        };
        let expected = expectation(expected);
        let found = found.as_deref();
        let message = match found {
            Some(token) => format!("unexpected {token}"),
            None => "the directive ends too early".to_owned(),
        };
        let label = format!("expected {}", join(&expected));
        let help = found.and_then(|token| syntax_help(token, &expected));
        let diagnostic = self.report.error(span, message, label);
        if let Some(help) = help {
            diagnostic.help(help);
        }
    }

    fn table(&mut self, name: &Word, source: TableSource) {
        if let Some(old) = self.names.get(&name.text) {
            let first = self.tables.get(old.0).map(|draft| draft.declared);
            let message = format!("the table `{}` is declared twice", name.text);
            let mark = self
                .report
                .mark(first.unwrap_or(name.span), "first declared here");
            let fault = self.report.error(name.span, message, "declared again");
            fault.related(mark).help("give one of the two another name");
            return;
        }
        let made = match source {
            TableSource::Inline(span, entries) => {
                self.inline(span, &entries).map(|table| (None, table))
            }
            TableSource::File(path) => self
                .file_table(&path)
                .map(|(path, base, table)| (Some((path, base)), table)),
        };
        let Some((file, table)) = made else {
            self.broken.insert(name.text.clone());
            return;
        };
        let id = self.add_table(name.text.clone(), name.span, file, table);
        self.names.insert(name.text.clone(), id);
    }

    fn add_table(
        &mut self,
        named: Box<str>,
        declared: Span,
        file: Option<(Box<str>, usize)>,
        table: Table,
    ) -> TableId {
        self.tables.push(Draft {
            named,
            declared,
            file,
            services: Vec::new(),
            table,
        });
        TableId(self.tables.len() - 1)
    }

    fn file_table(&mut self, written: &Word) -> Option<(Box<str>, usize, Table)> {
        let path = match written.text.split_once(':') {
            Some(("file" | "static", path)) => path,
            Some((backend, _)) if !written.text.starts_with('/') => {
                let message = format!("table backend `{backend}` is not served by this version");
                let fault = self.report.error(written.span, message, "not served");
                fault.help("write the entries to a text file: file:/path");
                return None;
            }
            _ => &*written.text,
        };
        if path.is_empty() || (path == &*written.text && !path.starts_with('/')) {
            let fault = self
                .report
                .error(written.span, "not the path of a table", "");
            fault.help("write file:/path, or the entries in braces");
            return None;
        }
        let text = match (self.load)(path) {
            Ok(text) => text,
            Err(why) => {
                let message = format!("cannot read the table `{}`: {why}", path.escape_debug());
                let fault = self.report.error(written.span, message, "named here");
                fault.help("create the file, or make it readable; an empty file is a table, too");
                return None;
            }
        };
        let base = self.report.add_file(path, &text);
        match Table::parse_file(&text) {
            Ok(table) => Some((path.into(), base, table)),
            Err(fault) => {
                self.table_fault(&fault, base, &text, written.span);
                None
            }
        }
    }

    fn table_fault(&mut self, fault: &TableFault, base: usize, text: &str, declared: Span) {
        let range = if fault.span.is_empty() {
            line_range(text, fault.line)
        } else {
            fault.span.clone()
        };
        let span = Span::from(base + range.start..base + range.end);
        let mark = self.report.mark(declared, "declared here");
        let diagnostic = self.report.error(span, fault.reason.clone(), "");
        diagnostic.related(mark).help(
            "a list has one word a line, a mapping a key and a value; `# @list` makes a list",
        );
    }

    fn inline(&mut self, span: Span, entries: &[Entry]) -> Option<Table> {
        let mapping = entries.first().is_some_and(|entry| entry.value.is_some());
        for entry in entries {
            if entry.value.is_some() != mapping {
                let (label, help) = if mapping {
                    ("no value", "write key = value for every entry")
                } else {
                    (
                        "has a value",
                        "write keys only, or key = value for every entry",
                    )
                };
                let fault = self.report.error(
                    entry.key.span,
                    "a table is either a list or a mapping",
                    label,
                );
                fault.help(help);
                return None;
            }
        }
        if entries.is_empty() {
            let fault = self.report.error(span, "a table without entries", "empty");
            fault.help("write at least one entry; a table file may be empty");
            return None;
        }
        let keys = entries.iter().map(|entry| &*entry.key.text);
        let values = entries.iter().filter_map(|entry| entry.value.as_ref());
        Some(if mapping {
            Table::mapping(keys.zip(values.map(|value| &*value.text)))
        } else {
            Table::list(keys)
        })
    }

    /// The table an argument means, made fit for its use.
    fn argument(
        &mut self,
        argument: &TableArgument,
        service: Service,
        anonymous: &str,
    ) -> Option<TableId> {
        let (id, span) = match argument {
            TableArgument::Named(name) => {
                let Some(id) = self.names.get(&name.text) else {
                    self.unknown(name, "table", "declare it above: table NAME file:/path");
                    return None;
                };
                (*id, name.span)
            }
            TableArgument::Literal(word) => {
                let table = Table::list([&*word.text]);
                let id = self.add_table(anonymous.into(), word.span, None, table);
                (id, word.span)
            }
            TableArgument::Inline(span, entries) => {
                let table = self.inline(*span, entries)?;
                (self.add_table(anonymous.into(), *span, None, table), *span)
            }
        };
        self.serve(id, service, span).then_some(id)
    }

    fn serve(&mut self, id: TableId, service: Service, used: Span) -> bool {
        let Some(draft) = self.tables.get_mut(id.0) else {
            return false;
        };
        if draft.services.contains(&service) {
            return true;
        }
        let Err(fault) = draft.table.serve(service) else {
            draft.services.push(service);
            return true;
        };
        let (declared, file) = (draft.declared, draft.file.clone());
        let shape = draft.table.shape();
        match file {
            Some((path, _)) if fault.line > 0 && service == Service::Secret => {
                // The line itself is not shown: there are passwords in it.
                let message = format!("{}:{}: {}", path.escape_debug(), fault.line, fault.reason);
                let diagnostic = self.report.error(used, message, "used here");
                diagnostic.help(service_help(service, shape));
            }
            Some((_, base)) if fault.line > 0 => {
                let text = self.report.text(base);
                let range = line_range(&text, fault.line);
                let span = Span::from(base + range.start..base + range.end);
                let mark = self.report.mark(used, "used here");
                let diagnostic = self.report.error(span, fault.reason, "");
                diagnostic.related(mark).help(service_help(service, shape));
            }
            _ => {
                let mark = (declared != used).then(|| self.report.mark(declared, "declared here"));
                let diagnostic = self.report.error(used, fault.reason, "used here");
                diagnostic.help(service_help(service, shape));
                if let Some(mark) = mark {
                    diagnostic.related(mark);
                }
            }
        }
        false
    }

    fn unknown(&mut self, name: &Word, kind: &str, help: &str) {
        if self.broken.contains(&name.text) {
            return;
        }
        let message = format!("no {kind} is named `{}`", name.text.escape_debug());
        let fault = self
            .report
            .error(name.span, message, "not declared before this line");
        fault.help(help);
    }

    /// The action with this name.
    fn action_named(&mut self, name: &Word) -> Option<ActionId> {
        if let Some((id, _)) = self.action_names.get(&name.text) {
            return Some(*id);
        }
        self.unknown(
            name,
            "action",
            "declare it above: action NAME maildir, or action NAME relay",
        );
        None
    }

    fn add_action(&mut self, name: &Word, action: Action) {
        self.config.actions.push(action);
        let id = ActionId(self.config.actions.len() - 1);
        self.action_names.insert(name.text.clone(), (id, name.span));
    }
}

fn service_help(service: Service, shape: Shape) -> &'static str {
    match (service, shape) {
        (Service::Passwords, Shape::Mapping) => {
            "make one with smtpctl encrypt: bcrypt, yescrypt, SHA-256 and SHA-512 of crypt(3) are \
             known"
        }
        (Service::Alias | Service::Userinfo | Service::Passwords, Shape::List) => {
            "a mapping has a value for every key: in a file `key: value`, in braces key = value"
        }
        (Service::Secret, _) => {
            "a table of credentials maps labels to users with their passwords: label user:password"
        }
        (Service::Alias, Shape::Mapping) => "write the recipients into the table itself",
        (Service::Relayhost, Shape::Mapping) => "a list has one URL a line, without values",
        (Service::Userinfo, Shape::Mapping) => "write the value as uid:gid:/home/directory",
        (Service::Heloname, Shape::List) => {
            "a mapping has a value for every key: in a file `address name`, in braces \
             \"192.0.2.1\" = \"mx.example.org\""
        }
        (Service::Source, Shape::Mapping) => "a list has one address a line, without values",
        (Service::Source | Service::Heloname, _) => "write 192.0.2.1 or \"[2001:db8::1]\"",
        (Service::Netaddr, _) => "write 192.0.2.1, 192.0.2.0/24, \"[2001:db8::1]\" or local",
        _ => "write smtp://host or smtp://host:port",
    }
}

/// Octets of a line, from 1 on, without its line end.
fn line_range(text: &str, line: usize) -> std::ops::Range<usize> {
    let mut start = 0;
    for (number, content) in text.split_inclusive('\n').enumerate() {
        if number + 1 == line {
            return start..start + content.trim_end().len();
        }
        start += content.len();
    }
    0..0
}

/// How to mend what was found in place of what is expected.
fn syntax_help(found: &Token, expected: &[String]) -> Option<String> {
    let text_fits = expected.iter().any(|one| !one.starts_with('`'));
    match found {
        Token::Keyword(word) if text_fits && !expected.iter().any(|one| one == "end of line") => {
            Some(format!(
                "`{word}` is a reserved word: to use it as a name or value, write \"{word}\""
            ))
        }
        Token::Number(number) if expected.iter().any(|one| one.contains("delay")) => Some(format!(
            "a delay has a unit: {number}s, {number}m, {number}h or {number}d"
        )),
        Token::Number(number) if text_fits => Some(format!(
            "to use a number as a name or value, write \"{number}\""
        )),
        Token::Text(word) => {
            let words = expected.iter().filter(|one| one.starts_with('`'));
            let words: Vec<&str> = words.map(|one| one.trim_matches('`')).collect();
            nearest(word, &words).map(|near| format!("did you mean `{near}`?"))
        }
        _ => None,
    }
}

fn unknown_directive_help(word: Option<&str>) -> String {
    let legacy = match word {
        Some("accept" | "reject" | "deliver") => "action NAME ... and match ... action NAME",
        Some("expire") => "queue ttl 4d",
        Some("bounce-warn") => "bounce warn-interval 4h",
        Some("max-message-size") => "smtp max-message-size 35M",
        Some("max-mta-deferred") => "mta max-deferred 100",
        Some("subaddressing-delimiter") => "smtp sub-addr-delim \"+\"",
        Some("limit") => "smtp limit, mda limit, mta limit or scheduler limit",
        Some("ciphers") => "smtp ciphers",
        _ => "",
    };
    if !legacy.is_empty() {
        return format!("this is the grammar of OpenSMTPD before 6.4; today it is {legacy}");
    }
    if let Some(near) = word.and_then(|word| nearest(word, DIRECTIVES)) {
        return format!("did you mean `{near}`?");
    }
    format!(
        "directives are {}; a macro is name = \"value\"",
        DIRECTIVES.join(", ")
    )
}

/// The candidate that is at most two typing errors away.
fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let scored = candidates.iter().map(|one| (distance(word, one), *one));
    let best = scored.min_by_key(|(score, _)| *score)?;
    (best.0 <= 2 && best.0 < word.chars().count()).then_some(best.1)
}

/// Insertions, deletions and replacements between two words. Long words are not compared.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 32 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let replace = cell(&row, j) + usize::from(ca != *cb);
            let best = replace.min(cell(&row, j + 1) + 1).min(cell(&next, j) + 1);
            next.push(best);
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

/// What could have stood there, each once, words first.
fn expectation(expected: &[RichPattern<'_, Token>]) -> Vec<String> {
    let mut words: Vec<String> = expected
        .iter()
        .filter_map(|pattern| match pattern {
            RichPattern::Token(token) if **token == Token::Newline => None,
            RichPattern::Token(token) => Some(token.to_string()),
            RichPattern::Label(label) => Some(label.to_string()),
            RichPattern::EndOfInput => Some("end of line".to_owned()),
            _ => None,
        })
        .collect();
    words.sort_by_cached_key(|word| {
        let plain = word.trim_matches('`').to_owned();
        (word == "end of line", word.starts_with('`'), plain)
    });
    words.dedup();
    words
}

fn join(words: &[String]) -> String {
    match words {
        [] => "something else".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
