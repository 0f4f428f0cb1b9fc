//! The grammar: words of the command line against the patterns of the command table.
//!
//! Promises: an exact word or a value wins over an abbreviation, in the order of the table; an
//! abbreviation must be the beginning of one possible word only; an empty word is nothing at all,
//! not even a text. What is listed as possible is possible.
//! Absent on purpose: options, which are taken off before, and what commands do.
//! Fails: with [`Misfit`], which says what would have been possible instead.

use crate::commands::{COMMANDS, Command};
use redspool_core::control::Selector;
use redspool_core::id::{EnvelopeId, MessageId};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The type of a value in a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `<evpid>`: 16 hex digits.
    Evpid,
    /// `<msgid>`: 8 hex digits.
    Msgid,
    /// `<routeid>`: decimal, from 1.
    Routeid,
    /// `<str>`: anything but nothing.
    Str,
    /// `<dir>`: a directory.
    Dir,
    /// `<addr>`: IPv4, or IPv6 without brackets, with an optional `%scope`.
    Addr,
}

/// A value of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Evpid(EnvelopeId),
    Msgid(MessageId),
    Route(u64),
    Text(String),
    Addr(IpAddr),
}

/// One word of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Word(&'static str),
    Value(Kind),
}

/// A command line that is a command.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) command: &'static Command,
    /// Its words in full.
    pub(crate) path: String,
    pub(crate) args: Args,
}

/// The values of a command line, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Args(Vec<Value>);

/// Why words are not a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// They could go on like this.
    Possibilities(Vec<String>),
    /// There are too many of them.
    TooMany,
}

/// A place in the grammar: what the words so far can still become.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    forms: Vec<Form>,
    path: Vec<Token>,
    args: Args,
}

/// A pattern of the table, taken apart.
#[derive(Clone, Debug)]
struct Form {
    command: &'static Command,
    tokens: Vec<Token>,
}

impl Args {
    /// What the command is about: the id that was given, or everything.
    pub(crate) fn selector(&self) -> Selector {
        match self.0.as_slice() {
            [Value::Evpid(id)] => Selector::Envelope(id.get()),
            [Value::Msgid(id)] => Selector::Message(id.get()),
            _ => Selector::All,
        }
    }

    /// The envelope that was given; 0, which names nothing, if none was.
    pub(crate) fn evpid(&self) -> u64 {
        match self.0.as_slice() {
            [Value::Evpid(id)] => id.get(),
            _ => 0,
        }
    }

    /// The message that was given, or whose envelope was given; 0 if none was.
    pub(crate) fn msgid(&self) -> u32 {
        match self.0.as_slice() {
            [Value::Evpid(id)] => id.message().get(),
            [Value::Msgid(id)] => id.get(),
            _ => 0,
        }
    }

    /// The route that was given; 0, which names nothing, if none was.
    pub(crate) fn route(&self) -> u64 {
        match self.0.as_slice() {
            [Value::Route(id)] => *id,
            _ => 0,
        }
    }

    /// The address that was given; the unspecified one if none was.
    pub(crate) fn addr(&self) -> IpAddr {
        let addr = self.0.iter().find_map(|value| match value {
            Value::Addr(addr) => Some(*addr),
            _ => None,
        });
        addr.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
    }

    /// The text that was given, if one was.
    pub(crate) fn text(&self) -> Option<&str> {
        self.0.iter().find_map(|value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }
}

impl fmt::Display for Args {
    /// What an error says about the id that was given: `message 8d3f01aa`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [Value::Evpid(id)] => write!(f, "envelope {id}"),
            [Value::Msgid(id)] => write!(f, "message {id}"),
            _ => f.write_str("envelope"),
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => f.write_str("invalid command\n"),
            Self::Possibilities(lines) => {
                f.write_str("possibilities are:\n")?;
                lines.iter().try_for_each(|line| writeln!(f, "{line}"))
            }
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Word(word) => word,
            Self::Value(Kind::Evpid) => "<evpid>",
            Self::Value(Kind::Msgid) => "<msgid>",
            Self::Value(Kind::Routeid) => "<routeid>",
            Self::Value(Kind::Str) => "<str>",
            Self::Value(Kind::Dir) => "<dir>",
            Self::Value(Kind::Addr) => "<addr>",
        })
    }
}

impl Token {
    fn new(word: &'static str) -> Self {
        match word {
            "<evpid>" => Self::Value(Kind::Evpid),
            "<msgid>" => Self::Value(Kind::Msgid),
            "<routeid>" => Self::Value(Kind::Routeid),
            "<str>" => Self::Value(Kind::Str),
            "<dir>" => Self::Value(Kind::Dir),
            "<addr>" => Self::Value(Kind::Addr),
            word => Self::Word(word),
        }
    }

    /// This token and its value, if `word` stands for it unabbreviated.
    fn accept(self, word: &str) -> Option<(Self, Option<Value>)> {
        match self {
            Self::Word(token) => (token == word).then_some((self, None)),
            Self::Value(kind) => kind.read(word).map(|value| (self, Some(value))),
        }
    }
}

impl Kind {
    fn read(self, word: &str) -> Option<Value> {
        match self {
            Self::Evpid => word.parse().ok().map(Value::Evpid),
            Self::Msgid => word.parse().ok().map(Value::Msgid),
            Self::Routeid => {
                let id = word.parse::<i64>().ok().filter(|id| *id > 0)?;
                u64::try_from(id).ok().map(Value::Route)
            }
            Self::Str | Self::Dir => Some(Value::Text(word.to_owned())),
            Self::Addr => {
                let (ip, scope) = word.split_once('%').unzip();
                if scope == Some("") {
                    return None;
                }
                // Mail does not go out from addresses of one link alone, so a scope tells nothing.
                let inet6 = || ip.unwrap_or(word).parse::<Ipv6Addr>().map(IpAddr::V6);
                let address = word
                    .parse::<Ipv4Addr>()
                    .map(IpAddr::V4)
                    .or_else(|_| inet6());
                address.ok().map(Value::Addr)
            }
        }
    }
}

impl Node {
    /// The start: everything is possible.
    pub(crate) fn root() -> Self {
        let forms = COMMANDS.iter().flat_map(|command| {
            command.patterns.iter().map(move |pattern| Form {
                command,
                tokens: pattern.split(' ').map(Token::new).collect(),
            })
        });
        Self {
            forms: forms.collect(),
            path: Vec::new(),
            args: Args::default(),
        }
    }

    /// Where `words` lead.
    pub(crate) fn walk(words: &[String]) -> Result<Self, Misfit> {
        words
            .iter()
            .try_fold(Self::root(), |node, word| node.step(word))
    }

    /// The command that is complete here, if one is.
    pub(crate) fn complete(&self) -> Option<&'static Command> {
        let form = self
            .forms
            .iter()
            .find(|form| form.tokens.len() == self.path.len())?;
        Some(form.command)
    }

    /// The commands that are still possible, in the order of the table.
    pub(crate) fn commands(&self) -> Vec<&'static Command> {
        let mut commands: Vec<&'static Command> = Vec::new();
        for form in &self.forms {
            if !commands
                .iter()
                .any(|command| std::ptr::eq(*command, form.command))
            {
                commands.push(form.command);
            }
        }
        commands
    }

    /// The accepted words in full.
    pub(crate) fn path(&self) -> String {
        let words: Vec<_> = self.path.iter().map(Token::to_string).collect();
        words.join(" ")
    }

    /// One word further.
    fn step(self, word: &str) -> Result<Self, Misfit> {
        let children = self.children();
        if children.is_empty() {
            return Err(Misfit::TooMany);
        }
        if word.is_empty() {
            return Err(self.misfit());
        }
        let exact = children.iter().find_map(|token| token.accept(word));
        if let Some((token, value)) = exact {
            return Ok(self.follow(token, value));
        }
        let mut longer = children.iter().filter(|token| match token {
            Token::Word(full) => full.starts_with(word) && !self.too_short(full, word),
            Token::Value(_) => false,
        });
        match (longer.next(), longer.next()) {
            (Some(&token), None) => Ok(self.follow(token, None)),
            _ => Err(self.misfit()),
        }
    }

    /// Whether one letter is not enough for `all` here.
    fn too_short(&self, full: &str, word: &str) -> bool {
        full == "all" && word.len() < 2 && self.forms.iter().any(|form| form.command.wary)
    }

    /// What can come next, each once, in the order of the table.
    fn children(&self) -> Vec<Token> {
        let mut children = Vec::new();
        for form in &self.forms {
            if let Some(&token) = form.tokens.get(self.path.len())
                && !children.contains(&token)
            {
                children.push(token);
            }
        }
        children
    }

    fn follow(mut self, token: Token, value: Option<Value>) -> Self {
        let depth = self.path.len();
        self.forms
            .retain(|form| form.tokens.get(depth) == Some(&token));
        self.path.push(token);
        self.args.0.extend(value);
        self
    }

    fn misfit(&self) -> Misfit {
        let path = self.path();
        let line = |child: Token| match path.as_str() {
            "" => child.to_string(),
            path => format!("{path} {child}"),
        };
        Misfit::Possibilities(self.children().into_iter().map(line).collect())
    }
}

/// Reads a whole command.
pub(crate) fn parse(words: &[String]) -> Result<Parsed, Misfit> {
    let node = Node::walk(words)?;
    match node.complete() {
        Some(command) => Ok(Parsed {
            command,
            path: node.path(),
            args: node.args,
        }),
        None => Err(node.misfit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &[&str]) -> Result<Parsed, Misfit> {
        let words: Vec<_> = line.iter().copied().map(String::from).collect();
        parse(&words)
    }

    /// `line` is a command; `want` are its words in full.
    fn accepts(line: &str, want: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match read(&words) {
            Ok(parsed) => assert_eq!(parsed.path, want, "{line}"),
            Err(misfit) => panic!("{line}: {misfit}"),
        }
    }

    /// `line` is no command; `want` is what is possible after the words understood.
    fn refuses(line: &str, want: &str) {
        let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let words = words
            .iter()
            .map(|&word| if word == "''" { "" } else { word });
        let words: Vec<_> = words.collect();
        match read(&words) {
            Ok(parsed) => panic!("{line}: is {}", parsed.path),
            Err(misfit) => assert_eq!(misfit.to_string(), want, "{line}"),
        }
    }

    const TOP: &str = "possibilities are:\ndiscover\npause\nresume\nshow\nlog\nmonitor\nprofile\n\
        remove\nschedule\ntrace\nuncorrupt\nunprofile\nuntrace\nupdate\nencrypt\nspf\nexplain\nundo\nstore\ncompletions\n";
    const SHOW: &str = "possibilities are:\nshow mta\nshow envelope\nshow hoststats\n\
        show message\nshow queue\nshow hosts\nshow relays\nshow routes\nshow stats\nshow status\n\
        show trash\n";
    const PAUSE: &str = "possibilities are:\npause mta\npause envelope\npause mda\npause smtp\n";
    const PAUSE_ENVELOPE: &str = "possibilities are:\npause envelope <evpid>\n\
        pause envelope <msgid>\npause envelope all\n";
    const RESUME_ROUTE: &str = "possibilities are:\nresume route <routeid>\n";
    const SHOW_QUEUE: &str = "possibilities are:\nshow queue <msgid>\nshow queue <evpid>\n";
    const SHOW_ENVELOPE: &str = "possibilities are:\nshow envelope <evpid>\n";
    const SHOW_MESSAGE: &str = "possibilities are:\nshow message <msgid>\nshow message <evpid>\n";
    const REMOVE: &str = "possibilities are:\nremove <evpid>\nremove <msgid>\nremove all\n";
    const SCHEDULE: &str = "possibilities are:\nschedule <msgid>\nschedule <evpid>\nschedule all\n";
    const DISCOVER: &str = "possibilities are:\ndiscover <evpid>\ndiscover <msgid>\n\
        discover all\n";
    const LOG: &str = "possibilities are:\nlog brief\nlog verbose\n";
    const TOO_MANY: &str = "invalid command\n";

    #[test]
    fn words_that_lead_nowhere_show_what_is_possible() {
        for line in ["", "foo", "''", "s", "p", "u", "un", "mailq", "-x"] {
            refuses(line, TOP);
        }
        for line in ["show", "sh", "sh r", "sh h", "sh host", "sh m", "show ''"] {
            refuses(line, SHOW);
        }
        for line in ["pa", "pause", "pause m"] {
            refuses(line, PAUSE);
        }
        for line in ["pause env", "pa env xyz", "pause envelope ''"] {
            refuses(line, PAUSE_ENVELOPE);
        }
        for line in [
            "resume route",
            "resume route 0",
            "resume route abc",
            "resume route -1",
        ] {
            refuses(line, RESUME_ROUTE);
        }
        refuses("unp", "possibilities are:\nunprofile <str>\n");
        refuses("trace", "possibilities are:\ntrace <str>\n");
        refuses("update", "possibilities are:\nupdate table\n");
        refuses("update table", "possibilities are:\nupdate table <str>\n");
        refuses("spf", "possibilities are:\nspf walk\n");
        refuses(
            "pause mta from 127.0.0.1",
            "possibilities are:\npause mta from <addr> for\n",
        );
        for line in ["log", "log x"] {
            refuses(line, LOG);
        }
        for line in ["discover", "discover xyz"] {
            refuses(line, DISCOVER);
        }
    }

    #[test]
    fn too_many_words_are_an_invalid_command() {
        for line in [
            "show queue 12345678 extra",
            "spf walk extra",
            "encrypt a b",
            "monitor ''",
        ] {
            refuses(line, TOO_MANY);
        }
    }

    #[test]
    fn ids_are_told_by_their_length_and_have_no_zero_half() {
        for line in [
            "show queue extra",
            "show queue 1234567",
            "show queue 00000000",
            "show queue 000000001dc53ae5",
        ] {
            refuses(line, SHOW_QUEUE);
        }
        for line in [
            "show envelope",
            "show envelope 1234",
            "show envelope 12345678",
            "show envelope 0000000000000000",
            "show envelope 1dc53ae500000000",
            "show envelope 0x123456789abcde",
        ] {
            refuses(line, SHOW_ENVELOPE);
        }
        for line in ["show message", "show message zzzzzzzz"] {
            refuses(line, SHOW_MESSAGE);
        }
        for line in [
            "remove 1234567",
            "remove 123456789",
            "remove 000000001dc53ae5",
        ] {
            refuses(line, REMOVE);
        }
        accepts("show envelope DEADBEEFDEADBEEF", "show envelope <evpid>");
        accepts("show queue 0123456789abcdef", "show queue <evpid>");
        accepts("show message 1dc53ae51dc53ae5", "show message <evpid>");
        accepts("remove 1dc53ae5", "remove <msgid>");
    }

    #[test]
    fn a_whole_word_wins_and_a_unique_beginning_is_enough() {
        accepts("show hosts", "show hosts");
        accepts("sh ro", "show routes");
        accepts("show rou", "show routes");
        accepts("pause mt", "pause mta");
        accepts("pa env al", "pause envelope all");
        accepts("pau env 8d3f01aa", "pause envelope <msgid>");
        accepts("res e a", "resume envelope all");
        accepts("unc 12345678", "uncorrupt <msgid>");
        accepts("und", "undo");
        accepts("undo l", "undo last");
        accepts("undo 12345678", "undo <msgid>");
        accepts("sh t", "show trash");
    }

    #[test]
    fn values_are_typed() {
        accepts(
            "pause mta from 127.0.0.1 for x",
            "pause mta from <addr> for <str>",
        );
        accepts(
            "pause mta from ::1 for x",
            "pause mta from <addr> for <str>",
        );
        accepts(
            "pause mta from fe80::1%em0 for x",
            "pause mta from <addr> for <str>",
        );
        for addr in ["localhost", "[::1]", "127.0.0.1%em0", "fe80::1%"] {
            let line = format!("pause mta from {addr} for x");
            refuses(&line, "possibilities are:\npause mta from <addr>\n");
        }
        accepts("en x", "encrypt <str>");
        accepts("resume route 99", "resume route <routeid>");
    }

    #[test]
    fn a_slip_does_not_reach_the_whole_queue() {
        for line in [
            "remove",
            "remove ''",
            "remove a",
            "remove xyz",
            "remove allx",
        ] {
            refuses(line, REMOVE);
        }
        for line in ["schedule", "schedule ''", "schedule a"] {
            refuses(line, SCHEDULE);
        }
        accepts("remove all", "remove all");
        accepts("remove al", "remove all");
        accepts("sch al", "schedule all");
        accepts("pause envelope a", "pause envelope all");
    }

    #[test]
    fn every_beginning_leads_where_only_one_word_begins_so() {
        let mut beginnings = 0;
        for command in COMMANDS {
            for pattern in command.patterns {
                let words: Vec<_> = pattern.split(' ').map(value).collect();
                for at in 0..words.len() {
                    let node = Node::walk(&words[..at]).unwrap();
                    let full = pattern.split(' ').nth(at).unwrap();
                    if full.starts_with('<') {
                        continue;
                    }
                    for end in 1..=full.len() {
                        let beginning = &full[..end];
                        let words: Vec<_> = node.children();
                        let words = words.iter().filter_map(|token| match token {
                            Token::Word(word) if word.starts_with(beginning) => Some(*word),
                            _ => None,
                        });
                        let words: Vec<_> = words.collect();
                        let slip = full == "all" && end == 1 && command.wary;
                        let want = match words.as_slice() {
                            words if words.contains(&beginning) => Some(beginning),
                            [word] if !slip => Some(*word),
                            _ => None,
                        };
                        let path = node.clone().step(beginning).map(|node| node.path());
                        let path = path.unwrap_or_default();
                        let got = path.split(' ').nth(at).filter(|word| !word.is_empty());
                        // What is no word there can be a value.
                        let value = got.is_some_and(|got| got.starts_with('<'));
                        assert!(got == want || value, "{pattern}: {beginning}: {path}");
                        beginnings += 1;
                    }
                }
            }
        }
        assert!(beginnings > 300, "{beginnings}");
    }

    /// A word that fits this word of a pattern.
    fn value(word: &str) -> String {
        match word {
            "<evpid>" => "8d3f01aa00000001".to_owned(),
            "<msgid>" => "8d3f01aa".to_owned(),
            "<routeid>" => "1".to_owned(),
            "<addr>" => "::1".to_owned(),
            word => word.to_owned(),
        }
    }

    #[test]
    fn what_is_listed_as_possible_is_possible() {
        for command in COMMANDS {
            for pattern in command.patterns {
                let words: Vec<_> = pattern.split(' ').map(value).collect();
                let parsed = parse(&words).unwrap();
                assert!(std::ptr::eq(parsed.command, command), "{pattern}");
                assert_eq!(parsed.path, *pattern);
            }
        }
    }
}
