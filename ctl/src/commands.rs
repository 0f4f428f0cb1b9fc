//! Every command of smtpctl(8): its words, who may use it, its help, its request, its rendering.
//!
//! Promises: parser, abbreviation, the lists of possibilities and all help derive from
//! [`COMMANDS`]; the order of its rows is the order of every list.
//! Absent on purpose: doing anything.

use crate::completions;
use crate::console::Console;
use crate::encrypt;
use crate::options::Options;
use crate::parse::{Args, Parsed};
use crate::render::Render;
use crate::spf;
use crate::store;
use crate::transfer;
use redspool_core::control::{MtaListing, ProfileTopic, Request, Selector, Subsystem, TraceTopic};

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    /// Its forms. Words in angle brackets are values, typed by [`crate::parse::Kind`].
    pub(crate) patterns: &'static [&'static str],
    /// Who may use it. The daemon decides; this is for the help.
    pub(crate) privilege: Privilege,
    /// Whether the word `all` needs two of its letters: one slip of a finger must not reach
    /// everything queued.
    pub(crate) wary: bool,
    /// What it does. The first sentence stands alone in lists.
    pub(crate) manual: &'static str,
    /// The long options it knows beside those of every command.
    pub(crate) options: &'static [&'static str],
    /// How it is served.
    pub(crate) service: Service,
}

/// Who may use a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// Root, and the user the daemon runs as.
    Owner,
    /// They, and the members of the operator group.
    Operator,
    /// Anybody.
    Anyone,
}

/// How a command is served.
#[derive(Debug)]
pub(crate) enum Service {
    /// By the daemon.
    Ask(Question),
    /// By ourselves alone.
    Own(fn(&mut Console, &Options, &Parsed)),
}

/// A question to the daemon.
#[derive(Debug)]
pub(crate) struct Question {
    /// What to ask the daemon.
    pub(crate) request: Asked,
    /// What to make of the answer.
    pub(crate) render: Render,
    /// What it does when the daemon is not running.
    pub(crate) offline: Offline,
}

/// What a command does when the daemon is not running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offline {
    /// It says so.
    Fails,
    /// It reads the store itself.
    Reads,
    /// It changes the store itself.
    Changes,
}

/// How a question is made of the values of a command line.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Every value is a question.
    Any(fn(&Args) -> Request),
    /// Some are not; the error is for the user, line by line.
    Some(fn(&Args) -> Result<Request, [String; 2]>),
}

impl Asked {
    /// The question, or why there is none.
    pub(crate) fn of(&self, args: &Args) -> Result<Request, [String; 2]> {
        match self {
            Self::Any(make) => Ok(make(args)),
            Self::Some(make) => make(args),
        }
    }
}

/// The words of a command, and what the manual says.
struct Entry {
    patterns: &'static [&'static str],
    manual: &'static str,
}

impl Entry {
    const fn new(patterns: &'static [&'static str], manual: &'static str) -> Self {
        Self { patterns, manual }
    }

    /// Served by the daemon.
    const fn asks(self, request: fn(&Args) -> Request, render: Render) -> Command {
        self.asks_or(Offline::Fails, request, render)
    }

    /// Served by the daemon, if the values make sense.
    const fn asks_if(self, request: fn(&Args) -> Result<Request, [String; 2]>) -> Command {
        self.serves(Service::Ask(Question {
            request: Asked::Some(request),
            render: Render::Done,
            offline: Offline::Fails,
        }))
    }

    /// Served by the daemon, or from the store when there is none.
    const fn asks_or(
        self,
        offline: Offline,
        request: fn(&Args) -> Request,
        render: Render,
    ) -> Command {
        self.serves(Service::Ask(Question {
            request: Asked::Any(request),
            render,
            offline,
        }))
    }

    /// Served without the daemon.
    const fn does(self, serve: fn(&mut Console, &Options, &Parsed)) -> Command {
        self.serves(Service::Own(serve))
    }

    /// A command for the owner.
    const fn serves(self, service: Service) -> Command {
        Command {
            patterns: self.patterns,
            privilege: Privilege::Owner,
            wary: false,
            manual: self.manual,
            options: &[],
            service,
        }
    }
}

impl Command {
    const fn with(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    const fn wary(self) -> Self {
        Self { wary: true, ..self }
    }

    const fn for_operators(self) -> Self {
        let privilege = Privilege::Operator;
        Self { privilege, ..self }
    }

    const fn for_anyone(self) -> Self {
        let privilege = Privilege::Anyone;
        Self { privilege, ..self }
    }
}

const fn pause(subsystem: Subsystem, paused: bool) -> Request {
    Request::Pause { subsystem, paused }
}

const fn suspend(selector: Selector, suspended: bool) -> Request {
    Request::Suspend {
        selector,
        suspended,
    }
}

fn block(args: &Args, blocked: bool) -> Request {
    Request::Block {
        source: args.addr(),
        domain: args.text().unwrap_or_default().into(),
        blocked,
    }
}

fn trace(args: &Args, on: bool) -> Result<Request, [String; 2]> {
    let word = args.text().unwrap_or_default();
    let topic = TraceTopic::named(word);
    topic
        .map(|topic| Request::Trace { topic, on })
        .ok_or_else(|| {
            let known = TraceTopic::ALL.map(TraceTopic::word).join(", ");
            [
                format!("invalid trace keyword: {word}"),
                format!("there are {known}"),
            ]
        })
}

fn profile(args: &Args, on: bool) -> Result<Request, [String; 2]> {
    let word = args.text().unwrap_or_default();
    let topic = ProfileTopic::named(word);
    topic
        .map(|topic| Request::Profile { topic, on })
        .ok_or_else(|| {
            let known = ProfileTopic::ALL.map(ProfileTopic::word).join(", ");
            [
                format!("invalid profile keyword: {word}"),
                format!("there are {known}"),
            ]
        })
}

/// The commands that know a long option, each by the words it begins with.
pub(crate) fn with(option: &str) -> Vec<String> {
    let knowing = COMMANDS
        .iter()
        .filter(|command| command.options.contains(&option));
    let first = knowing.filter_map(|command| command.patterns.first());
    let words = first.map(|pattern| {
        let words = pattern.split(' ').take_while(|word| !word.starts_with('<'));
        words.collect::<Vec<_>>().join(" ")
    });
    let mut words: Vec<_> = words.collect();
    // Forms of one command stand one behind the other.
    words.dedup();
    words
}

/// The options of `show queue`.
pub(crate) const LISTING: &[&str] = &[
    "json", "csv", "summary", "sender", "rcpt", "domain", "error", "older", "newer", "state",
    "type", "tag", "limit",
];

/// The options of what changes envelopes.
const CHANGES: &[&str] = &[
    "sender", "rcpt", "domain", "error", "older", "newer", "state", "type", "tag", "limit",
    "dry-run",
];

/// The options of `remove`.
const REMOVAL: &[&str] = &[
    "sender", "rcpt", "domain", "error", "older", "newer", "state", "type", "tag", "limit",
    "dry-run", "now",
];

const fn undo(selector: Selector, last: bool) -> Request {
    Request::Undo {
        selector,
        last,
        dry_run: false,
    }
}

/// The commands, in the order of every list.
pub(crate) static COMMANDS: &[Command] = &[
    Entry::new(
        &["discover <evpid>", "discover <msgid>", "discover all"],
        "Make the schedule notice envelopes that were put into the store by other means. \
         Envelopes it knows already are left alone. `all` picks up the messages that sendmail has \
         parked, too.",
    )
    .asks(
        |args| Request::Discover(args.selector()),
        Render::Affected("discovered"),
    ),
    Entry::new(
        &["pause mta"],
        "Start no more transfers to other hosts. Those running go on; new mail is still taken \
         and waits. Lasts over a restart, until `resume mta`.",
    )
    .asks(|_| pause(Subsystem::Mta, true), Render::Done),
    Entry::new(
        &["pause mta from <addr> for <str>"],
        "Start no more transfers from one local address to one domain, or to one smart host by its \
         name; `*` is any. Mail that has no other address to go from fails for now. Addresses are \
         those that `src` of smtpd.conf(5) names; `0.0.0.0` stands for the system's choice. Lasts \
         until `resume mta from`, also over a restart.",
    )
    .asks(|args| block(args, true), Render::Done),
    Entry::new(
        &[
            "pause envelope <evpid>",
            "pause envelope <msgid>",
            "pause envelope all",
        ],
        "Attempt no delivery of an envelope, of all envelopes of a message, or of any envelope. \
         A running attempt goes on. Lasts over a restart, until `resume envelope`. Options \
         narrow this down as for `show queue`.",
    )
    .asks(
        |args| suspend(args.selector(), true),
        Render::Affected("paused"),
    )
    .with(CHANGES),
    Entry::new(
        &["pause mda"],
        "Start no more local deliveries. Those running go on; new mail is still taken and waits. \
         Lasts over a restart, until `resume mda`.",
    )
    .asks(|_| pause(Subsystem::Mda, true), Render::Done),
    Entry::new(
        &["pause smtp"],
        "Accept no more SMTP connections. Sessions that are open go on. Lasts over a restart, \
         until `resume smtp`.",
    )
    .asks(|_| pause(Subsystem::Smtp, true), Render::Done),
    Entry::new(&["resume mta"], "Start transfers to other hosts again.")
        .asks(|_| pause(Subsystem::Mta, false), Render::Done),
    Entry::new(
        &["resume mta from <addr> for <str>"],
        "Start transfers from one local address to one domain again.",
    )
    .asks(|args| block(args, false), Render::Done),
    Entry::new(
        &[
            "resume envelope <evpid>",
            "resume envelope <msgid>",
            "resume envelope all",
        ],
        "Deliver paused envelopes again, each when it is due. Options narrow this down as for \
         `show queue`.",
    )
    .asks(
        |args| suspend(args.selector(), false),
        Render::Affected("resumed"),
    )
    .with(CHANGES),
    Entry::new(&["resume mda"], "Start local deliveries again.")
        .asks(|_| pause(Subsystem::Mda, false), Render::Done),
    Entry::new(
        &["resume route <routeid>"],
        "Use a disabled route again at once, and forget its penalty. Numbers of routes: `show \
         routes`.",
    )
    .asks(|args| Request::ResumeRoute(args.route()), Render::Done),
    Entry::new(&["resume smtp"], "Accept SMTP connections again.")
        .asks(|_| pause(Subsystem::Smtp, false), Render::Done),
    Entry::new(
        &["show mta paused"],
        "List what `pause mta from` has paused. Works while smtpd is not running, too.",
    )
    .asks_or(
        Offline::Reads,
        |_| Request::ShowMta(MtaListing::Blocked),
        Render::Mta(MtaListing::Blocked),
    )
    .for_operators()
    .with(&["json", "csv"]),
    Entry::new(
        &["show envelope <evpid>"],
        "Print everything that is stored about an envelope, one `key: value` per line. What is \
         not printable is escaped as vis(3) does, a backslash is doubled. Works while smtpd is \
         not running, too.",
    )
    .asks_or(
        Offline::Reads,
        |args| Request::ShowEnvelope(args.evpid()),
        Render::Record,
    )
    .for_operators()
    .with(&["json"]),
    Entry::new(
        &["show hoststats"],
        "List recipient domains with the date (UNIX time) and text of their last reply, separated \
         by `|`. In the text, unprintable octets are escaped as vis(3) does. A domain is forgotten \
         four hours after its last reply.",
    )
    .asks(|_| Request::ShowMta(MtaListing::HostStats), Render::Mta(MtaListing::HostStats))
    .for_operators()
    .with(&["json", "csv"]),
    Entry::new(
        &["show message <msgid>", "show message <evpid>"],
        "Print the content of a message. On a terminal, what is not printable is escaped. Works \
         while smtpd is not running, too.",
    )
    .asks_or(
        Offline::Reads,
        |args| Request::ShowMessage(args.msgid()),
        Render::Content,
    ),
    Entry::new(
        &["show queue", "show queue <msgid>", "show queue <evpid>"],
        "List what is queued, one envelope per line, in order of ids. The fourteen fields are \
         separated by `|`: envelope-id, address family of the client, type, flags, sender, \
         recipient, destination, creation, expiration, last attempt (UNIX times), attempts, run \
         state, seconds until due or since the attempt began, error. In the error, unprintable \
         octets are escaped as vis(3) does; in addresses, `|` is shown as `\\174`. Works while \
         smtpd is not running, too; the run state is `offline` then. Options select envelopes: \
         what they ask for must all hold, and of an option that is given several times, one. \
         `--summary` counts what is selected by domain and by age in minutes, as qshape(1) \
         does.",
    )
    .asks_or(
        Offline::Reads,
        |args| Request::ShowQueue(args.selector()),
        Render::Listing,
    )
    .for_operators()
    .with(LISTING),
    Entry::new(
        &["show hosts"],
        "List the remote hosts in memory: address, name, what refers to it, connections, time since \
         the last connect. A host is listed while a domain in use has it as exchanger, or a route \
         leads to it.",
    )
    .asks(|_| Request::ShowMta(MtaListing::Hosts), Render::Mta(MtaListing::Hosts))
    .for_operators()
    .with(&["json", "csv"]),
    Entry::new(
        &["show relays"],
        "List the relays in memory, each with its connectors. A relay is a domain or smart host \
         with the options of its action: `ntask` messages wait for it, over `nconn` connections; \
         `timeout` is the time until it is looked at again; `wait` says for what: `MX` for the \
         DNS, `connector` for a place or a time to connect; with `ONHOLD`, more mail for it is \
         held. A connector is a local address the relay connects from, `[]` if the system chooses \
         it, with what keeps it from connecting: `WAIT`, the limit that is reached (`LIMIT_HOST` \
         and others), or why it cannot (`ERROR_ROUTE_NET` and others).",
    )
    .asks(|_| Request::ShowMta(MtaListing::Relays), Render::Mta(MtaListing::Relays))
    .for_operators()
    .with(&["json", "csv"]),
    Entry::new(
        &["show routes"],
        "List the routes in memory. A route is a way from a local address to a host. Its flags are \
         `N` for new (nothing has worked over it yet), `D` for disabled, `Q` for kept until its \
         time is over; `penalty` counts its failures, `timeout` is the time until it is enabled, or \
         forgiven one of them.",
    )
    .asks(|_| Request::ShowMta(MtaListing::Routes), Render::Mta(MtaListing::Routes))
    .for_operators()
    .with(&["json", "csv"]),
    Entry::new(
        &["show stats"],
        "Print the counters, one `key=value` per line, in order of keys. A counter is listed \
         after its first change.",
    )
    .asks(|_| Request::ShowStats, Render::Stats)
    .for_operators()
    .with(&["json", "csv"]),
    Entry::new(
        &["show status"],
        "Print which subsystems are running and which are paused.",
    )
    .asks(|_| Request::ShowStatus, Render::Status)
    .for_operators()
    .with(&["json"]),
    Entry::new(
        &["show trash", "show trash <msgid>", "show trash <evpid>"],
        "List what `remove` has taken out of the queue and `undo` can bring back, in the form of \
         `show queue`. The run state is `trash`; the seconds are those until it is gone for good, \
         at the latest. Works while smtpd is not running, too. Options select envelopes as for \
         `show queue`.",
    )
    .asks_or(
        Offline::Reads,
        |args| Request::ShowTrash(args.selector()),
        Render::Listing,
    )
    .for_operators()
    .with(LISTING),
    Entry::new(&["log brief"], "Log what operators need to know.")
        .asks(|_| Request::Log { verbose: false }, Render::Done),
    Entry::new(&["log verbose"], "Log what developers need to know, too.")
        .asks(|_| Request::Log { verbose: true }, Render::Done),
    Entry::new(
        &["monitor"],
        "Print a line of numbers every second: SMTP clients now, connected, disconnected; \
         envelopes now, enqueued, dequeued; deliveries that succeeded, failed for now, failed \
         for good, looped; envelopes expired, removed, bounced. The first line counts from the \
         start of smtpd, the others from the line before. `--interval` and `--count` set the \
         pace and the number of lines.",
    )
    .asks(|_| Request::Monitor, Render::Digests)
    .for_operators()
    .with(&["interval", "count", "json", "csv"]),
    Entry::new(
        &["profile <str>"],
        "Log how long things take, in seconds, until `unprofile`. `queue`: every group of \
         transitions the store commits, every checkpoint and every read, as `profile-queue: \
         operation seconds`. `imsg`: every request of this command and every event of the engine, \
         as `profile-imsg: process peer message octets seconds`; what does not leave the process \
         has no octets.",
    )
    .asks_if(|args| profile(args, true)),
    Entry::new(
        &["remove <evpid>", "remove <msgid>", "remove all"],
        "Take an envelope, all envelopes of a message, or all envelopes out of the queue, \
         without telling the sender. They go to the trash, where they stay for a day, or as long \
         as `queue trash-ttl` of smtpd.conf(5) says and there is room; `undo` brings them back. \
         With `--now` they are gone for good, and so are those of the trash that are named by an \
         id; so is what is in the corrupt bucket. A running attempt goes on and may still deliver. \
         Options narrow this down as for `show queue`; `--dry-run` shows what would go.",
    )
    .asks(
        |args| Request::Remove(args.selector()),
        Render::Affected("removed"),
    )
    .with(REMOVAL)
    .wary(),
    Entry::new(
        &["schedule <msgid>", "schedule <evpid>", "schedule all"],
        "Make an envelope, all envelopes of a message, or all envelopes due now. Those in flight \
         are left alone. Options narrow this down as for `show queue`.",
    )
    .asks(
        |args| Request::Schedule(args.selector()),
        Render::Affected("scheduled"),
    )
    .with(CHANGES)
    .wary(),
    Entry::new(
        &["trace <str>"],
        "Log what a subsystem does, one event per line, until `untrace`. Content of messages and \
         credentials are never logged. `imsg`: requests and replies of the control socket, events \
         of the engine. `io`: octets read and written on connections. `smtp`: the dialogue with \
         clients. `filters`: what was decided about each command of a client. `mta`: sessions with \
         other hosts and their dialogue. `bounce`: notices to senders. `scheduler`: what the \
         schedule learns of envelopes and does with them. `expand`: from recipients to \
         deliveries. `lookup`: questions to tables, to the users of the system and to the DNS. \
         `stat`: changes of the counters of `show stats`. `rules`: which line of smtpd.conf(5) \
         took a recipient. `mproc`: orders to the helper process that runs local deliveries. \
         `all`: all of these.",
    )
    .asks_if(|args| trace(args, true)),
    Entry::new(
        &["uncorrupt <msgid>"],
        "Bring a message back from the corrupt bucket, if all of it proves sound now, and queue it. \
         A message gets there when something of it is found damaged. Works while smtpd is not \
         running, too.",
    )
    .asks_or(
        Offline::Changes,
        |args| Request::Uncorrupt(args.msgid()),
        Render::Done,
    ),
    Entry::new(&["unprofile <str>"], "Stop what `profile` began.")
        .asks_if(|args| profile(args, false)),
    Entry::new(
        &["untrace <str>"],
        "Stop what `trace` began; `untrace all` stops every trace.",
    )
    .asks_if(|args| trace(args, false)),
    Entry::new(
        &["update table <str>"],
        "Read the file of a table again. If it cannot be used, the old contents stay, and file, \
         line and reason are told. A table that is written in smtpd.conf(5) itself stays as it \
         is.",
    )
    .asks(
        |args| Request::UpdateTable(args.text().unwrap_or_default().into()),
        Render::Done,
    ),
    Entry::new(
        &["encrypt", "encrypt <str>"],
        "Print the hash of a password for a credentials table. Without an argument, hash each \
         line of the standard input; on a terminal, ask for one password without showing it. An \
         argument can be seen by others while the command runs. `--scheme` chooses the kind of \
         hash.",
    )
    .does(encrypt::serve)
    .with(&["scheme"])
    .for_anyone(),
    Entry::new(
        &["spf walk"],
        "Print the networks that the SPF records of domains allow. The domains are read from the \
         standard input, one per line. Networks come in the order of the records, each once; \
         what cannot be followed is told on the standard error, and makes the status 1. With \
         `--json`, one object per domain: `domain`, `networks`, `errors`.",
    )
    .does(spf::serve)
    .with(&["json", "resolver"])
    .for_anyone(),
    Entry::new(
        &["explain <evpid>"],
        "Say on one screen where an envelope is and why it is not moving: whether it or its agent is \
         paused, whether it is held, when its next attempt is due, and the limits in force with their \
         numbers; how many attempts failed, and of the last ones when each began, which addresses it \
         went between, with which TLS, and what was said; and for mail to other hosts the relay, \
         its routes with their penalties and when they end, and the hosts it does not use for a while \
         because they did not prove what TLS options, TLSA records or a policy ask for. An \
         envelope keeps its last attempts, up to 16 in 2 KiB; `--json` has all of them. Works \
         while smtpd is not running, too, without limits and routes, which the store does not know.",
    )
    .asks_or(
        Offline::Reads,
        |args| Request::Explain(args.evpid()),
        Render::Explanation,
    )
    .for_operators()
    .with(&["json"]),
    Entry::new(
        &["undo", "undo last"],
        "Bring back what was removed last: all of one `remove`, or of those within one second. It is \
         queued as it was, with its attempts, its dates and its last error. `--dry-run` shows what \
         would come back. Works while smtpd is not running, too.",
    )
    .asks_or(
        Offline::Changes,
        |_| undo(Selector::All, true),
        Render::Affected("restored"),
    )
    .with(&["dry-run"]),
    Entry::new(
        &["undo <evpid>", "undo <msgid>", "undo all"],
        "Bring an envelope, all envelopes of a message, or everything back from the trash, as `undo \
         last` does. Works while smtpd is not running, too.",
    )
    .asks_or(
        Offline::Changes,
        |args| undo(args.selector(), false),
        Render::Affected("restored"),
    )
    .with(&["dry-run"])
    .wary(),
    Entry::new(
        &["store check"],
        "Read every record and every content in the spool and prove it; nothing is written, and a \
         daemon may run. What is damaged is told, then what there is. The status is 0 if all is \
         sound, 1 if something is damaged, 2 if the store cannot be read. With `--json`, one \
         object.",
    )
    .does(store::serve)
    .with(&["json"]),
    Entry::new(
        &["store rebuild"],
        "Build the database of a stopped daemon anew from the log. The old one is kept under \
         another name. What is queued is marked, for it may have been delivered before.",
    )
    .does(store::serve),
    Entry::new(
        &["store compact"],
        "Move together what is queued in the spool of a stopped daemon, and give the disk back \
         that nothing needs.",
    )
    .does(store::serve),
    Entry::new(
        &["store import <dir>"],
        "Take the mail of another server into the spool of a stopped daemon: from a spool of \
         OpenSMTPD (the directory that holds `queue`; envelopes of version 2 and 3, compressed or \
         encrypted ones, too), or from what `store export` has written. Stop that server first; \
         nothing is changed there. Everything that is known of an envelope stays as it was: \
         ids, dates, attempts, failures, lifetime, what the sender wants to be told. Version 3 \
         only names the action; `-f` names the smtpd.conf that says what it does, which may be \
         faulty elsewhere. What cannot be imported is told with its path and the reason, and stays \
         where it is. An import may be stopped at any moment: run again, it passes over what came \
         in before, even if that was delivered since. `queue.imports` in the spool knows what did; \
         remove it to forget. `--dry-run` tells what would come. The status is 0 if everything came in, 1 if \
         something did not, 2 if nothing more could be done.",
    )
    .does(transfer::import)
    .with(&["json", "dry-run", "config", "key"]),
    Entry::new(
        &["store export <dir>"],
        "Write everything that is queued into a new or empty directory: each content as \
         `messages/MSGID.eml`, octet for octet, and the envelopes into `envelopes.jsonl`, one JSON \
         object per line behind one that names the form. A daemon may run; then all that is queued \
         from beginning to end is there, and what leaves meanwhile may be missing. The list has its \
         name once everything is on the disk. `store import` reads it back. The status is 0 if all \
         is there, 1 if something is damaged and missing, 2 if it could not be done.",
    )
    .does(transfer::export)
    .with(&["json"]),
    Entry::new(
        &["completions bash", "completions zsh", "completions fish"],
        "Print a script with which a shell completes the words of this command. For bash: \
         `source <(smtpctl completions bash)`; for zsh: a file `_smtpctl` in a directory of \
         `fpath`; for fish: `smtpctl completions fish | source`.",
    )
    .does(completions::serve)
    .for_anyone(),
];

#[cfg(test)]
mod tests {
    use super::*;
    use redspool_core::control::Right;

    #[test]
    fn the_help_names_those_whom_the_daemon_serves() {
        for command in COMMANDS {
            let Service::Ask(question) = &command.service else {
                continue;
            };
            let privilege = match question.request.of(&Args::default()) {
                Ok(request) => match request.right() {
                    Right::Submit => Privilege::Anyone,
                    Right::Look => Privilege::Operator,
                    Right::Control => Privilege::Owner,
                },
                Err(_) => Privilege::Owner,
            };
            assert_eq!(command.privilege, privilege, "{:?}", command.patterns);
        }
    }
}
