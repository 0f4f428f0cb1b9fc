//! smtpctl(8) and mailq(8), in mdoc(7), from the command table and the options.
//!
//! Promises: every command and every option is in smtpctl(8), with the words of the help; nothing
//! is in it that is not there. The pages in this folder are compared with these (`tests/pages.rs`).
//! Absent on purpose: rendering, which is man(1)'s.

use crate::commands::{COMMANDS, Command, Privilege};
use crate::options::{self, Known, ValueKind};
use crate::render::{DIGEST_NAMES, FIELDS, STATUS_NAMES, SUMMARY_NAMES, mta_names};
use redspool_core::control::MtaListing;
use std::fmt::Write as _;

/// The date on the pages; set when their wording changes.
const DATE: &str = "November 27, 2026";
/// Columns of a line of source.
const WIDTH: usize = 78;

/// smtpctl(8).
pub fn smtpctl() -> String {
    let mut page = Page::new("SMTPCTL", "smtpctl", "show and steer the queue of smtpd");
    page.lines(&[
        ".Sh SYNOPSIS",
        ".Nm",
        ".Op Ar option ...",
        ".Ar command",
        ".Sh DESCRIPTION",
    ]);
    page.words(
        "smtpctl shows what `smtpd` has queued and does, and steers it. It asks the daemon over \
         its control socket. The commands that say so read the queue themselves while the \
         daemon is not running, and change nothing.",
    );
    page.lines(&[".Pp"]);
    page.words(
        "Every word of a command may be abbreviated as long as only one possible word begins so; \
         a whole word wins. An empty word stands for nothing. For `remove` and `schedule`, `all` \
         needs two of its letters. If the words are not a command, what would have been possible \
         is listed.",
    );
    page.lines(&[".Pp"]);
    page.words("Options may stand before, between or behind the words. Every command knows these:");
    let options = options::known();
    let (general, special): (Vec<_>, Vec<_>) = options.into_iter().partition(|known| known.general);
    page.options(general.iter());
    page.lines(&[".Ss Commands"]);
    page.words(
        "An envelope is named by the 16 hexadecimal digits of its number, a message by its 8; \
         where both are possible, a message stands for all its envelopes.",
    );
    page.lines(&[".Pp"]);
    page.words(
        "smtpd serves root, and the user it runs as if it was not started by root. Operators are \
         the members of the group that its option `--operators` names. What is for them, and what \
         is for everybody, is said with the command; of a change of envelopes, `--dry-run` is for \
         operators, too.",
    );
    page.lines(&[".Bl -tag -width Ds"]);
    for command in COMMANDS {
        page.command(command, &special);
    }
    page.lines(&[".El"]);
    page.records();
    page.places();
    page.lines(&[".Sh EXIT STATUS", ".Bl -tag -width Ds", ".It 0"]);
    page.words("Done; also if nothing was there to be listed or changed.");
    page.lines(&[".It 1"]);
    page.words("Something failed, and the standard error says what.");
    page.lines(&[".It 141"]);
    page.words("Whoever read the output has closed it.");
    page.lines(&[".It 255"]);
    page.words("The words are not a command, or an option does not fit it.");
    page.lines(&[".El", ".Sh EXAMPLES"]);
    page.words("Everything that is queued, then everything about one envelope:");
    page.example(&[
        "smtpctl show queue",
        "smtpctl show envelope 8d3f01aa00000001",
    ]);
    page.words("What waits for one domain because of greylisting, and what waits at all:");
    page.example(&[
        "smtpctl show queue --domain example.org --error 451",
        "smtpctl show queue --summary",
    ]);
    page.words("The queue of a daemon that is stopped or has crashed:");
    page.example(&["smtpctl --spool /var/spool/redspool show queue"]);
    page.lines(&[
        ".Sh SEE ALSO",
        ".Xr crypt 3 ,",
        ".Xr vis 3 ,",
        ".Xr smtpd.conf 5 ,",
        ".Xr mailq 8 ,",
        ".Xr smtpd 8",
    ]);
    page.text
}

/// mailq(8).
pub fn mailq() -> String {
    let mut page = Page::new("MAILQ", "mailq", "list the mail queue");
    page.lines(&[
        ".Sh SYNOPSIS",
        ".Nm",
        ".Op Ar option ...",
        ".Sh DESCRIPTION",
    ]);
    page.words("mailq lists what is queued, as `smtpctl show queue` does.");
    page.lines(&["See", ".Xr smtpctl 8", "for the fields of a line.", ".Pp"]);
    page.words(
        "It knows the long options of that command. Everything else on its command line is \
         passed over, so that it can be called as the mailq of other mail servers is.",
    );
    page.places();
    page.lines(&[".Sh EXIT STATUS"]);
    page.words("As of `smtpctl show queue`.");
    page.lines(&[".Sh SEE ALSO", ".Xr smtpctl 8 ,", ".Xr smtpd 8"]);
    page.text
}

/// The source of a page.
struct Page {
    name: &'static str,
    text: String,
}

impl Page {
    fn new(title: &str, name: &'static str, what: &str) -> Self {
        let text = format!(
            ".\\\" Made from the command table; CONTRIBUTING.md says how.\n.Dd {DATE}\n\
             .Dt {title} 8\n.Os\n.Sh NAME\n.Nm {name}\n.Nd {what}\n"
        );
        Self { name, text }
    }

    fn lines(&mut self, lines: &[&str]) {
        for line in lines {
            self.text.push_str(line);
            self.text.push('\n');
        }
    }

    /// Sentences, each on lines of its own. What is in backquotes is literal.
    fn words(&mut self, text: &str) {
        for (at, part) in text.split('`').enumerate() {
            if at % 2 == 1 {
                let _ = write!(self.text, "\n.Ql {}", literal(part));
                continue;
            }
            // What follows a literal without a blank belongs to its line.
            let glued = part.find(' ').unwrap_or(part.len());
            let (glued, rest) = if at == 0 {
                ("", part)
            } else {
                part.split_at(glued)
            };
            for mark in glued.chars() {
                let _ = write!(self.text, " {mark}");
            }
            self.sentences(rest);
        }
        self.text.push('\n');
        self.tidy();
    }

    fn sentences(&mut self, text: &str) {
        let text = text.trim_start();
        if text.is_empty() {
            return;
        }
        self.text.push('\n');
        let mut column = 0usize;
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            if word == self.name {
                self.text.push_str("\n.Nm\n");
                column = 0;
                continue;
            }
            let word = escaped(word);
            if column > 0 && column.saturating_add(word.len()) >= WIDTH {
                self.text.push('\n');
                column = 0;
            }
            if column > 0 {
                self.text.push(' ');
            }
            self.text.push_str(&word);
            column = column.saturating_add(word.len()).saturating_add(1);
            if word.ends_with(['.', '?']) {
                self.text.push('\n');
                column = 0;
            }
        }
    }

    /// No blank line, and none that ends in a blank.
    fn tidy(&mut self) {
        let lines: Vec<_> = self.text.lines().map(str::trim_end).collect();
        let lines = lines.into_iter().filter(|line| !line.is_empty());
        self.text = lines.fold(String::new(), |text, line| text + line + "\n");
    }

    fn options<'a>(&mut self, options: impl Iterator<Item = &'a Known>) {
        self.lines(&[".Bl -tag -width Ds"]);
        for known in options {
            let mut line = String::from(".It ");
            if let Some(short) = known.short {
                let _ = write!(line, "Fl {short} , ");
            }
            let _ = write!(line, "Fl -{}", known.long);
            if let Some(value) = &known.placeholder {
                let _ = write!(line, " Ar {}", value.to_lowercase());
            }
            self.lines(&[&line]);
            let mut help = format!("{}.", known.help);
            if let ValueKind::OneOf(words) = &known.value {
                let _ = write!(help, " One of `{}`.", words.join("`, `"));
            }
            if let Some(default) = &known.default {
                let _ = write!(help, " Default: {default}.");
            }
            self.words(&help);
        }
        self.lines(&[".El"]);
    }

    fn command(&mut self, command: &Command, special: &[Known]) {
        for pattern in command.patterns {
            let mut line = String::from(".It");
            let mut macro_before = "";
            for token in pattern.split(' ') {
                let (macro_now, word) = match token.strip_prefix('<') {
                    Some(value) => ("Ar", value.trim_end_matches('>')),
                    None => ("Cm", token),
                };
                if macro_now != macro_before {
                    let _ = write!(line, " {macro_now}");
                }
                let _ = write!(line, " {word}");
                macro_before = macro_now;
            }
            self.lines(&[&line]);
        }
        self.words(command.manual);
        match command.privilege {
            Privilege::Owner => {}
            Privilege::Operator => self.words("For operators, too."),
            Privilege::Anyone => self.words("For everybody."),
        }
        let own = special
            .iter()
            .filter(|known| command.options.contains(&known.long.as_str()));
        if !command.options.is_empty() {
            self.options(own);
        }
    }

    /// What the forms for programs hold.
    fn records(&mut self) {
        self.lines(&[".Ss Forms for programs"]);
        self.words(
            "With `--json`, each record is an object on a line of its own; with `--csv`, a line \
             of names comes first, then a line per record, with quotes as in RFC 4180. The names \
             stay; new ones may be added at the end. Dates are in seconds since the epoch. What \
             is not there is `null` in JSON and nothing in CSV. Lists are arrays in JSON, and \
             words with blanks between in CSV. Control characters are escaped as JSON does, and \
             in CSV as vis(3) does. Damaged messages are told on the standard error, as always.",
        );
        self.lines(&[".Pp"]);
        self.words("The records of `show queue` have these fields:");
        self.lines(&[".Bl -tag -width Ds"]);
        for field in FIELDS {
            self.lines(&[&format!(".It Cm {}", field.name)]);
            self.words(&format!("{}.", field.what));
        }
        self.lines(&[".El", ".Pp"]);
        self.words(&format!(
            "Those of `show queue --summary`: `{}`. An age is the number of envelopes that are \
             not as old as so many minutes, and not in a column before. The first record is the \
             sum, and has no domain; the last one has the domain `*` if there were too many \
             domains to tell apart.",
            SUMMARY_NAMES.join("`, `")
        ));
        self.lines(&[".Pp"]);
        self.words(&format!(
            "Those of `monitor`: `{}`.",
            DIGEST_NAMES.join("`, `")
        ));
        self.lines(&[".Pp"]);
        self.words(
            "`show stats` is one object with the counters as names; in CSV, a line of `key` and \
             `value` per counter. `show envelope` has the keys and values of its lines. `spf walk` has \
             `domain`, `networks` and `errors`.",
        );
        self.words(&format!(
            "`show status` has `{}`: the first three are `running` or `paused`, `queue` is `sound`, \
             `short` or `down`, for so many seconds.",
            STATUS_NAMES.join("`, `")
        ));
        for (command, listing) in [
            ("show relays", MtaListing::Relays),
            ("show routes", MtaListing::Routes),
            ("show hosts", MtaListing::Hosts),
            ("show hoststats", MtaListing::HostStats),
            ("show mta paused", MtaListing::Blocked),
        ] {
            let names = mta_names(listing).join("`, `");
            self.words(&format!("`{command}` has `{names}`."));
        }
    }

    fn places(&mut self) {
        self.lines(&[
            ".Sh ENVIRONMENT",
            ".Bl -tag -width Ds",
            ".It Ev REDSPOOL_SPOOL",
        ]);
        self.words("The spool, if no option names one.");
        self.lines(&[".It Ev REDSPOOL_SOCKET"]);
        self.words("The control socket, if no option names one.");
        if self.name == "smtpctl" {
            self.lines(&[".It Ev REDSPOOL_RESOLVER"]);
            self.words("The DNS server that `spf walk` asks, if no option names one.");
        }
        self.lines(&[".El", ".Sh FILES", ".Bl -tag -width Ds"]);
        self.lines(&[".It Pa /var/run/redspool.sock"]);
        self.words("Control socket of a daemon that root has started.");
        self.lines(&[".It Pa /var/spool/redspool"]);
        self.words("Its spool.");
        self.lines(&[".El"]);
    }

    fn example(&mut self, commands: &[&str]) {
        self.lines(&[".Bd -literal -offset indent"]);
        for command in commands {
            let _ = writeln!(self.text, "# {command}");
        }
        self.lines(&[".Ed"]);
    }
}

/// A word of text that no line can take for a request.
fn escaped(word: &str) -> String {
    let word = word.replace('\\', "\\e");
    if word.starts_with(['.', '\'']) {
        format!("\\&{word}")
    } else {
        word
    }
}

/// The words of a literal as arguments of a macro.
fn literal(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\e"))
}
