//! Options of the command line. They may stand before, between or behind the words.
//!
//! clap takes them off and writes their help; the words are left to [`crate::parse`], whose rules
//! (exact before abbreviated, lists of possibilities) clap does not know.

use crate::encrypt::Scheme;
use crate::render::{self, Format};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, CommandFactory as _, FromArgMatches as _, Id, Parser, ValueHint};
use redspool_core::control::paths::Named;
use redspool_core::control::{
    AddressPattern, Age, Agent, ErrorPattern, NamePattern, Request, Selection, State, Verb,
};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A day: a longer wait is a slip.
const TIMEOUT_MOST: u64 = 86_400;
/// Five minutes: smtpd hangs up on connections that are idle for longer than twice that.
const INTERVAL_MOST: u64 = 300;

/// What the options say.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "smtpctl",
    disable_help_flag = true,
    disable_version_flag = true
)]
#[group(skip)]
pub(crate) struct Options {
    /// Control socket of smtpd. Default: REDSPOOL_SOCKET; smtpd.sock in a spool that was named;
    /// /var/run/redspool.sock for root; redspool/smtpd.sock in XDG_RUNTIME_DIR, XDG_DATA_HOME or
    /// ~/.local/share for others
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) socket: Option<PathBuf>,

    /// Spool of smtpd; its daemon is the one that is asked, unless --socket names another.
    /// Default: REDSPOOL_SPOOL; /var/spool/redspool for root; redspool/spool in XDG_DATA_HOME or
    /// ~/.local/share for others
    #[arg(short = 'q', long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) spool: Option<PathBuf>,

    /// Longest wait for a sign of life of smtpd
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds::<TIMEOUT_MOST>)]
    pub(crate) timeout: Duration,

    /// Time between two lines
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds::<INTERVAL_MOST>)]
    pub(crate) interval: Duration,

    /// Lines to print before it ends
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,

    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,

    /// Comma-separated values, with a line of names first
    #[arg(long, conflicts_with = "json")]
    csv: bool,

    /// Count by domain and age instead of listing
    #[arg(long)]
    pub(crate) summary: bool,

    /// With this return path: user@domain, @domain or user, * for any part; @ for none
    #[arg(long, value_name = "ADDRESS")]
    sender: Vec<AddressPattern>,

    /// With this recipient, before or after expansion
    #[arg(long, value_name = "ADDRESS")]
    rcpt: Vec<AddressPattern>,

    /// To this domain, * for any part
    #[arg(long, value_name = "NAME")]
    domain: Vec<NamePattern>,

    /// Whose last failure has this code, such as 451 or 4.7.1, or this text in it
    #[arg(long, value_name = "TEXT")]
    error: Vec<ErrorPattern>,

    /// Accepted longer ago than this, such as 30m, 2h, 4d or 1d12h
    #[arg(long, value_name = "AGE")]
    older: Option<Age>,

    /// Accepted not longer ago than this
    #[arg(long, value_name = "AGE")]
    newer: Option<Age>,

    /// At this run state, or with this flag
    #[arg(
        long,
        value_name = "STATE",
        value_delimiter = ',',
        value_parser = words(State::ALL, State::word)
    )]
    state: Vec<State>,

    /// For this agent
    #[arg(
        long = "type",
        id = "type",
        value_name = "TYPE",
        value_delimiter = ',',
        value_parser = words([Agent::Mta, Agent::Mda, Agent::Bounce], render::agent)
    )]
    agent: Vec<Agent>,

    /// From a listener with this tag, * for any part
    #[arg(long, value_name = "NAME")]
    tag: Vec<NamePattern>,

    /// The first so many of these
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Show what would be hit, and do nothing
    #[arg(long, id = "dry-run")]
    pub(crate) dry_run: bool,

    /// For good, and not into the trash
    #[arg(long)]
    now: bool,

    /// Ask this DNS server instead of the system's; environment: REDSPOOL_RESOLVER
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "REDSPOOL_RESOLVER",
        hide_env = true
    )]
    pub(crate) resolver: Option<SocketAddr>,

    /// The smtpd.conf under which the mail was queued: envelopes of format 3 only name their action
    #[arg(short = 'f', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,

    /// The file with the key of an encrypted spool, the 32 characters behind `queue encryption`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,

    /// Kind of hash
    #[arg(long, value_name = "SCHEME", value_enum, default_value = "bcrypt")]
    pub(crate) scheme: Scheme,

    /// Explain the words so far, and what can follow
    #[arg(short, long)]
    pub(crate) help: bool,

    /// Print the version
    #[arg(short = 'V', long)]
    pub(crate) version: bool,

    /// What is left: the command
    #[arg(hide = true)]
    pub(crate) words: Vec<String>,

    /// The long names of the options that were given.
    #[arg(skip)]
    given: Vec<String>,
}

/// The options of every command; what else there is, a row of the command table names.
const GENERAL: [&str; 5] = ["socket", "spool", "timeout", "help", "version"];

impl Options {
    /// Reads the arguments, the program's name not among them. The error is one line.
    pub(crate) fn read(args: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let name = std::iter::once(OsString::from("smtpctl"));
        let read = Self::command().try_get_matches_from(name.chain(args));
        let read = read.and_then(|matches| {
            let given = |id: &&str| {
                let source = matches.value_source(id);
                source == Some(ValueSource::CommandLine) && *id != "words"
            };
            let ids = matches.ids().map(Id::as_str).filter(given);
            let given = ids.map(str::to_owned).collect();
            let options = Self::from_arg_matches(&matches)?;
            Ok(Self { given, ..options })
        });
        read.map_err(|error| {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        })
    }

    /// An option that was given, and is none of the general ones nor of `known`.
    pub(crate) fn stranger(&self, known: &[&str]) -> Option<&str> {
        let stranger = self.given.iter().find(|name| !is_known(name, known));
        stranger.map(String::as_str)
    }

    /// Reads the long options among the general ones and `wanted`, and passes over the rest:
    /// whoever calls mailq with the options of another mailq wants the listing.
    pub(crate) fn read_known(
        args: impl Iterator<Item = OsString>,
        wanted: &[&str],
    ) -> Result<Self, String> {
        let options = known();
        let mut taken = Vec::new();
        let mut value_next = false;
        for arg in args {
            let text = arg.to_str().unwrap_or_default();
            let (name, value) = text.split_once('=').unzip();
            let long = name.unwrap_or(text).strip_prefix("--");
            let option = options.iter().find(|option| {
                Some(option.long.as_str()) == long && is_known(&option.long, wanted)
            });
            if value_next || option.is_some() {
                let valued = option.is_some_and(|option| !matches!(option.value, ValueKind::None));
                value_next = !value_next && valued && value.is_none();
                taken.push(arg);
            }
        }
        Self::read(taken.into_iter())
    }

    /// The form for programs, if one is wanted.
    pub(crate) fn format(&self) -> Option<Format> {
        match (self.json, self.csv) {
            (true, _) => Some(Format::Json),
            (false, true) => Some(Format::Csv),
            (false, false) => None,
        }
    }

    /// The request for those envelopes only that are meant.
    pub(crate) fn narrowed(&self, request: Request) -> Request {
        let selection = self.selection();
        let request = match request {
            Request::Remove(selector) if self.now => Request::RemoveNow(selector),
            Request::Undo { selector, last, .. } => Request::Undo {
                selector,
                last,
                dry_run: self.dry_run,
            },
            other => other,
        };
        if selection == Selection::default() && !self.dry_run {
            return request;
        }
        let (verb, selector) = match request {
            Request::Schedule(selector) => (Verb::Schedule, selector),
            Request::Remove(selector) => (Verb::Remove, selector),
            Request::RemoveNow(selector) => (Verb::RemoveNow, selector),
            Request::Suspend {
                selector,
                suspended: true,
            } => (Verb::Suspend, selector),
            Request::Suspend { selector, .. } => (Verb::Resume, selector),
            other => return other,
        };
        Request::Select {
            verb,
            selector,
            selection: Box::new(selection),
            dry_run: self.dry_run,
        }
    }

    /// Which envelopes are meant.
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            senders: self.sender.clone(),
            rcpts: self.rcpt.clone(),
            domains: self.domain.clone(),
            errors: self.error.clone(),
            older: self.older,
            newer: self.newer,
            states: self.state.clone(),
            agents: self.agent.clone(),
            tags: self.tag.clone(),
            limit: self.limit,
        }
    }

    /// What mailq does.
    pub(crate) fn show_queue(self) -> Self {
        let words = vec!["show".into(), "queue".into()];
        Self { words, ..self }
    }

    /// What the options name.
    pub(crate) fn named(&self) -> Named {
        Named {
            spool: self.spool.clone(),
            socket: self.socket.clone(),
        }
    }

    /// The part of the help that explains the general options and those of `known`.
    pub(crate) fn help(known: &[&str]) -> String {
        let command = Self::command().help_template("{options}").term_width(79);
        let mut command = command.mut_args(|arg| {
            let shown = is_known(arg.get_id().as_str(), known);
            arg.hide(!shown)
        });
        command.render_help().to_string()
    }
}

/// What there is to know about an option.
#[derive(Debug)]
pub(crate) struct Known {
    /// The name behind two dashes.
    pub(crate) long: String,
    /// The letter behind one.
    pub(crate) short: Option<char>,
    /// Whether every command knows it.
    pub(crate) general: bool,
    /// What stands for its value in text, if it has one.
    pub(crate) placeholder: Option<String>,
    pub(crate) value: ValueKind,
    /// Its value if it is not given.
    pub(crate) default: Option<String>,
    /// What it does.
    pub(crate) help: String,
}

/// What the value of an option can be.
#[derive(Debug)]
pub(crate) enum ValueKind {
    /// There is none.
    None,
    /// Anything.
    Free,
    /// A file or directory.
    File,
    /// One of these words.
    OneOf(Vec<String>),
}

/// All options, in the order of the help.
pub(crate) fn known() -> Vec<Known> {
    let command = Options::command();
    let options = command.get_arguments().filter_map(|arg| {
        let long = arg.get_long()?.to_owned();
        let general = GENERAL.contains(&long.as_str());
        let placeholder = arg.get_value_names().unwrap_or_default().first();
        let value = value_kind(arg);
        let valued = !matches!(value, ValueKind::None);
        let default = arg.get_default_values().first().filter(|_| valued);
        Some(Known {
            long,
            short: arg.get_short(),
            general,
            placeholder: placeholder.filter(|_| valued).map(ToString::to_string),
            value,
            default: default.map(|value| value.to_string_lossy().into_owned()),
            help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
        })
    });
    options.collect()
}

fn value_kind(arg: &Arg) -> ValueKind {
    if !arg.get_action().takes_values() {
        return ValueKind::None;
    }
    let words: Vec<_> = arg
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect();
    match arg.get_value_hint() {
        _ if !words.is_empty() => ValueKind::OneOf(words),
        ValueHint::FilePath | ValueHint::DirPath => ValueKind::File,
        _ => ValueKind::Free,
    }
}

fn is_known(name: &str, known: &[&str]) -> bool {
    GENERAL.contains(&name) || known.contains(&name)
}

/// One of some things, by its word.
fn words<T: Copy + Send + Sync + 'static, const COUNT: usize>(
    things: [T; COUNT],
    word: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(things.map(word)).try_map(move |given| {
        let found = things.into_iter().find(|thing| word(*thing) == given);
        found.ok_or("not one of the words")
    })
}

fn seconds<const MOST: u64>(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (1..=MOST).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("expected whole seconds from 1 to {MOST}")),
    }
}
