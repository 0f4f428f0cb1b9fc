//! From the command line to the exit status.

use crate::client::{Client, Trouble};
use crate::commands::{self, Offline, Question, Service};
use crate::console::Console;
use crate::help;
use crate::offline;
use crate::options::Options;
use crate::parse::{self, Node, Parsed};
use crate::render::{Render, Renderer};
use crate::{rights, sendmail, tables};
use nix::unistd::geteuid;
use redspool_core::control::paths::{self, Environment, Paths};
use redspool_core::control::{Reply, Request};
use redspool_core::limits::Limits;
use redspool_core::queue::StoreError;
use redspool_core::time::Timestamp;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Instant, SystemTime};

/// The words were not a command.
const NOT_A_COMMAND: u8 = 255;

/// Runs the program that the first argument names, as `main` does.
pub fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let called = args.next().unwrap_or_else(|| "smtpctl".into());
    let name = Path::new(&called).file_name().unwrap_or(&called);
    let name = name.to_string_lossy().into_owned();
    let mut console = Console::new(name);
    let mut args = args.peekable();
    if matches!(console.name(), "sendmail" | "send-mail") {
        match args.peek().and_then(|arg| arg.to_str()) {
            Some(arg) if arg.starts_with("-bi") => tables::newaliases(&mut console),
            Some("-bp") => console = Console::new("mailq".into()),
            _ => sendmail::run(&mut console, &mut args),
        }
    }
    let options = match console.name() {
        "sendmail" | "send-mail" => return console.code(),
        "newaliases" => {
            tables::newaliases(&mut console);
            return console.code();
        }
        "makemap" => {
            tables::makemap(&mut console);
            return console.code();
        }
        "smtpctl" => Options::read(args),
        "mailq" => Options::read_known(args, commands::LISTING).map(Options::show_queue),
        _ => {
            console.fail("unsupported mode");
            return console.code();
        }
    };
    match options {
        Ok(options) => command(&mut console, &options),
        Err(error) => {
            console.fail(&format!("{error}; try --help"));
            console.end_with(NOT_A_COMMAND);
        }
    }
    console.code()
}

/// Reads the words and does what they say.
fn command(console: &mut Console, options: &Options) {
    if options.version {
        let version = concat!("redspool ", env!("CARGO_PKG_VERSION"), "\n");
        return console.print(version.as_bytes());
    }
    let parsed = if options.help {
        match Node::walk(&options.words) {
            Ok(node) => return console.print(help::text(&node).as_bytes()),
            Err(misfit) => Err(misfit),
        }
    } else {
        parse::parse(&options.words)
    };
    match parsed {
        Ok(parsed) => serve(console, options, &parsed),
        Err(misfit) => {
            let _ = write!(io::stderr(), "{misfit}");
            console.end_with(NOT_A_COMMAND);
        }
    }
}

fn serve(console: &mut Console, options: &Options, parsed: &Parsed) {
    if let Some(stranger) = options.stranger(parsed.command.options) {
        let owners = commands::with(stranger).join(", ");
        let path = &parsed.path;
        console.fail(&format!(
            "{path}: --{stranger} is not for this command, but for {owners}; try --help"
        ));
        return console.end_with(NOT_A_COMMAND);
    }
    match &parsed.command.service {
        Service::Ask(question) => ask(console, options, parsed, question),
        Service::Own(serve) => serve(console, options, parsed),
    }
}

/// Asks the daemon, or the store in its place.
fn ask(console: &mut Console, options: &Options, parsed: &Parsed, question: &Question) {
    let environment = Environment::collect(std::env::var_os);
    let paths = match paths::resolve(geteuid().as_raw(), &options.named(), &environment) {
        Ok(paths) => paths,
        Err(error) => return console.fail(&error.to_string()),
    };
    let request = match question.request.of(&parsed.args) {
        Ok(request) => options.narrowed(request),
        Err(lines) => return lines.iter().for_each(|line| console.fail(line)),
    };
    let mut renderer = Renderer::new(
        question.render,
        parsed.args.to_string(),
        now(),
        io::stdout().is_terminal(),
    );
    let limits = Limits::default();
    renderer = renderer
        .with_format(options.format())
        .with_selection(options.selection());
    if options.summary {
        renderer = renderer.with_summary(limits.summary_domains);
    }
    let asked = Client::connect(&paths.socket, options.timeout, limits.control_frame).and_then(
        |mut client| match question.render {
            Render::Digests => monitor(console, &mut client, &request, &mut renderer, options),
            _ => client.ask(&request, &mut |reply| show(console, &mut renderer, reply)),
        },
    );
    let Err(trouble) = asked else {
        return;
    };
    if question.offline == Offline::Changes && matches!(trouble, Trouble::Down(..)) {
        return match changed(&request, &trouble, &paths) {
            Ok(reply) => drop(show(console, &mut renderer, reply)),
            Err(reason) => console.fail(&reason),
        };
    }
    match store(console, question, &trouble, &paths) {
        Ok(store) => {
            let (reader, page) = (store.reader(), limits.listing_page);
            let now = Timestamp::from_secs(now());
            let read = offline::answer(&reader, &request, page, now, &mut |reply| {
                show(console, &mut renderer, reply)
            });
            if let Err(error) = read {
                console.fail(&format!("{}: {error}", paths.spool.display()));
            }
            // What opening it has set aside is in no listing.
            for finding in store.findings().all().iter().filter(|found| found.damage) {
                console.fail(&finding.to_string());
            }
        }
        Err(reason) => console.fail(&reason),
    }
}

/// Writes what a reply says; gives whether the next one is of use.
fn show(console: &mut Console, renderer: &mut Renderer, reply: Reply) -> bool {
    let written = renderer.reply(reply);
    console.print(&written.out);
    for line in &written.remarks {
        console.remark(line);
    }
    if written.failed {
        console.end_with(1);
    }
    !console.gone() && !written.enough
}

/// Carries a request out on the store of a stopped daemon.
fn changed(request: &Request, trouble: &Trouble, paths: &Paths) -> Result<Reply, String> {
    let spool = paths.spool.display();
    if paths.spool_assumed {
        return Err(format!(
            "{trouble}; name its spool with --spool to change that instead"
        ));
    }
    let reply = rights::changed(&paths.spool, |spool| {
        let mut store = redspool_store::stopped(spool)?;
        offline::change(&mut store, request)
    });
    reply.map_err(|error| {
        let advice = match error {
            StoreError::Locked { .. } => "stop that first, or name its socket with --socket",
            _ => "name it with --spool",
        };
        format!("{trouble}; nor can its store be changed: {spool}: {error}; {advice}")
    })
}

/// The store itself, if the command can do without a daemon and none answers; else the reason.
fn store(
    console: &Console,
    question: &Question,
    trouble: &Trouble,
    paths: &Paths,
) -> Result<redspool_store::Offline, String> {
    let down = matches!(trouble, Trouble::Down(..));
    let silent = matches!(trouble, Trouble::Silent(..)) && !console.printed();
    match (down, question.offline == Offline::Reads) {
        (true, false) => {
            return Err(format!(
                "{trouble}; start it, or name another with --socket or --spool"
            ));
        }
        (true, true) if paths.spool_assumed => {
            return Err(format!(
                "{trouble}; name its spool with --spool to read that instead"
            ));
        }
        (true, true) => {}
        // It runs and is stuck: what it has queued is worth seeing all the same.
        (false, true) if silent && !paths.spool_assumed => {
            console.remark(&format!("{trouble}; this is what its store holds"));
        }
        (false, _) => return Err(trouble.to_string()),
    }
    redspool_store::Offline::open(&paths.spool).map_err(|error| {
        let spool = paths.spool.display();
        format!("{trouble}; nor can its store be read: {spool}: {error}; name it with --spool")
    })
}

/// Asks for the numbers again and again.
fn monitor(
    console: &mut Console,
    client: &mut Client,
    request: &Request,
    renderer: &mut Renderer,
    options: &Options,
) -> Result<(), Trouble> {
    let mut left = options.count.unwrap_or(u64::MAX);
    let mut due = Instant::now();
    while left > 0 {
        client.ask(request, &mut |reply| show(console, renderer, reply))?;
        if !console.sound() {
            break;
        }
        left = left.saturating_sub(1);
        if left > 0 {
            // Paced by the clock, not by the answers; what was missed is not made up for.
            let now = Instant::now();
            due = due.checked_add(options.interval).unwrap_or(now).max(now);
            thread::sleep(due.saturating_duration_since(now));
        }
    }
    Ok(())
}

/// Seconds since the epoch.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
