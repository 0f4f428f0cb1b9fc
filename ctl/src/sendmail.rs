//! sendmail: a program's message to the daemon, or parked until there is one.
//!
//! Promises: status 0 is said after the daemon has the message durably; without a daemon the
//! message is parked, durably, and the status is 75; otherwise nothing was taken. A line with a dot
//! never ends the input. `Bcc` is read for `-t`, kept where only the daemon reads it, and removed
//! by it.
//! Absent on purpose: a queue of its own, rights, and rewriting of what lies below the header.

use crate::client::{Client, Trouble};
use crate::console::Console;
use nix::unistd::{Uid, User, geteuid, getuid};
use redspool_core::control::paths::{self, Environment, Named, NoHome, Paths};
use redspool_core::control::submission::{
    Dialog, Draft, Envelope, OFFLINE, PARKED, Step, reply_line,
};
use redspool_core::control::{Reply, Request};
use redspool_core::limits::Limits;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

// sysexits(3).
const USAGE: u8 = 64;
const DATA: u8 = 65;
const NO_USER: u8 = 67;
const UNAVAILABLE: u8 = 69;
const SOFTWARE: u8 = 70;
const NO_INPUT: u8 = 66;
const TEMPORARY: u8 = 75;

const HELP: &str = "\
usage: sendmail [-tiv] [-f sender] [-F name] [--spool DIR] [--socket PATH] [--] recipient ...
  -t         take recipients from To, Cc and Bcc, too
  -f, -r     return path; <> for none
  -F         full name of the author, for a message without From
  -bs        speak SMTP on the standard input and output
  -bp        list the queue, as mailq does; -bi: see newaliases
  -i -oi ... known from other mail servers, and without effect
";

/// What to do.
enum Mode {
    Deliver,
    Smtp,
}

/// What the command line says.
struct Call {
    envelope: Envelope,
    named: Named,
    mode: Mode,
}

/// Reads the command line; an error is told with its status.
fn call(args: &[String]) -> Result<Call, (u8, String)> {
    let mut call = Call {
        envelope: Envelope::default(),
        named: Named::default(),
        mode: Mode::Deliver,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = |inline: &str| {
            let inline = Some(inline.to_owned()).filter(|inline| !inline.is_empty());
            let value = inline.or_else(|| args.next().cloned());
            value.ok_or_else(|| (USAGE, format!("{arg} needs a value; try --help")))
        };
        if let Some(long) = arg.strip_prefix("--") {
            match long.split_once('=').unwrap_or((long, "")) {
                ("", _) => {
                    call.envelope.rcpts.extend(args.by_ref().cloned());
                }
                ("spool", inline) => call.named.spool = Some(value(inline)?.into()),
                ("socket", inline) => call.named.socket = Some(value(inline)?.into()),
                _ => return Err((USAGE, format!("{arg}: no such option; try --help"))),
            }
            continue;
        }
        let Some(letters) = arg.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            call.envelope.rcpts.push(arg.clone());
            continue;
        };
        let mut chars = letters.chars();
        while let Some(letter) = chars.next() {
            let rest = chars.as_str();
            match letter {
                't' => call.envelope.header_rcpts = true,
                'i' | 'm' | 'n' | 'v' | 'U' | 'G' => continue,
                'f' | 'r' => call.envelope.sender = Some(value(rest)?),
                'F' => call.envelope.author = value(rest)?,
                'b' => match rest {
                    "m" => {}
                    "s" => call.mode = Mode::Smtp,
                    "v" => {
                        let why = "-bv: addresses are not verified without a message; send one, \
                                   or give RCPT to sendmail -bs";
                        return Err((UNAVAILABLE, why.into()));
                    }
                    _ => {
                        let why = format!("-b{rest}: not a mode of this sendmail; run smtpd");
                        return Err((USAGE, why));
                    }
                },
                // With their value in the same word, or none.
                'o' | 'e' | 'E' | 'q' | 'd' => {}
                'A' | 'B' | 'C' | 'h' | 'L' | 'N' | 'O' | 'p' | 'R' | 'V' | 'X' => {
                    value(rest)?;
                }
                _ => return Err((USAGE, format!("-{letter}: no such option; try --help"))),
            }
            break;
        }
    }
    let lists = std::mem::take(&mut call.envelope.rcpts);
    let rcpts = lists.iter().flat_map(|list| list.split(','));
    call.envelope.rcpts = rcpts
        .filter(|rcpt| !rcpt.is_empty())
        .map(str::to_owned)
        .collect();
    Ok(call)
}

/// Runs sendmail.
pub(crate) fn run(console: &mut Console, args: impl Iterator<Item = OsString>) {
    let args: Result<Vec<_>, _> = args.map(OsString::into_string).collect();
    let Ok(args) = args else {
        console.fail("an argument is not UTF-8");
        return console.end_with(USAGE);
    };
    if args.iter().any(|arg| arg == "--help") {
        return console.print(HELP.as_bytes());
    }
    if let [only] = args.as_slice()
        && only.starts_with("-q")
    {
        return console.remark("smtpd runs its queue by itself; smtpctl schedule all hurries it");
    }
    if let Err((status, why)) = call(&args).and_then(|call| serve(console, call)) {
        console.fail(&why);
        console.end_with(status);
    }
}

fn serve(console: &mut Console, call: Call) -> Result<(), (u8, String)> {
    let limits = Limits::default();
    let paths = places(&call.named).map_err(|error| (SOFTWARE, error.to_string()))?;
    let connect = || open(&paths.socket, &limits);
    match call.mode {
        Mode::Smtp => match connect() {
            Ok(connection) => converse(connection).map_err(|e| (TEMPORARY, e.to_string())),
            Err(trouble) => {
                console.print(b"421 4.3.2 Service not available, try again later\r\n");
                Err((TEMPORARY, trouble.to_string()))
            }
        },
        Mode::Deliver => {
            let draft = draft(call.envelope, &limits)?;
            match connect() {
                Ok(connection) => submit(connection, &draft, &limits),
                Err(trouble @ Trouble::Down(..)) => {
                    park(&paths.spool, &draft).map_err(|error| {
                        let spool = paths.spool.display();
                        (
                            TEMPORARY,
                            format!("{trouble}; nor can the message be parked: {spool}: {error}"),
                        )
                    })?;
                    console.remark(
                        "smtpd is not running: the message is parked, and is sent when it starts",
                    );
                    console.end_with(TEMPORARY);
                    Ok(())
                }
                Err(trouble) => Err((TEMPORARY, trouble.to_string())),
            }
        }
    }
}

/// Where the daemon is: the caller's own if there is one, else the system's.
pub(crate) fn places(named: &Named) -> Result<Paths, NoHome> {
    let environment = Environment::collect(std::env::var_os);
    let own = paths::resolve(geteuid().as_raw(), named, &environment)?;
    let anything = [&named.spool, &named.socket]
        .into_iter()
        .any(Option::is_some)
        || environment.spool.is_some()
        || environment.socket.is_some();
    if anything || own.spool.exists() {
        Ok(own)
    } else {
        paths::resolve(0, named, &environment)
    }
}

fn draft(mut envelope: Envelope, limits: &Limits) -> Result<Draft, (u8, String)> {
    if envelope.rcpts.is_empty() && !envelope.header_rcpts {
        return Err((USAGE, "no recipients: name them, or use -t".into()));
    }
    let user = User::from_uid(getuid()).ok().flatten();
    if envelope.author.is_empty() {
        let gecos = user
            .as_ref()
            .map(|user| user.gecos.to_string_lossy().into_owned());
        let gecos = gecos.unwrap_or_default();
        gecos
            .split(',')
            .next()
            .unwrap_or_default()
            .clone_into(&mut envelope.author);
    }
    envelope.user = user.map_or_else(|| uid_name(getuid()), |user| user.name);
    let mut raw = Vec::new();
    let most = limits.message_size.saturating_add(1);
    let read = io::stdin().lock().take(most).read_to_end(&mut raw);
    read.map_err(|error| (NO_INPUT, format!("standard input: {error}")))?;
    Draft::compose(envelope, &raw, limits).map_err(|error| (DATA, error.to_string()))
}

fn uid_name(uid: Uid) -> String {
    format!("uid{uid}")
}

/// A connection that an SMTP session answers on, and what of it was read already.
type Connection = (Vec<u8>, UnixStream);

fn open(socket: &Path, limits: &Limits) -> Result<Connection, Trouble> {
    let mut client = Client::connect(socket, Duration::from_secs(10), limits.control_frame)?;
    let mut refused = None;
    client.ask(&Request::Submit, &mut |reply| {
        if let Reply::Fail { reason } = reply {
            refused = Some(reason);
        }
        false
    })?;
    match refused {
        Some(reason) => Err(Trouble::Write(io::Error::other(reason))),
        None => Ok(client.into_stream()),
    }
}

fn submit((read, stream): Connection, draft: &Draft, limits: &Limits) -> Result<(), (u8, String)> {
    let broken = |error: io::Error| (TEMPORARY, format!("smtpd: {error}"));
    let wait = Some(limits.mta.dot_timeout);
    stream
        .set_read_timeout(wait)
        .and_then(|()| stream.set_write_timeout(wait))
        .map_err(broken)?;
    let mut writing = stream.try_clone().map_err(broken)?;
    let mut reading = BufReader::new(read.as_slice().chain(stream));
    let mut dialog = Dialog::new(draft);
    loop {
        let mut line = String::new();
        reading.read_line(&mut line).map_err(broken)?;
        let Some((code, last, text)) = reply_line(&line) else {
            return Err((TEMPORARY, "smtpd closed the session".into()));
        };
        if !last {
            continue;
        }
        match dialog.replied(code, text) {
            Step::Say(octets) => writing.write_all(&octets).map_err(broken)?,
            Step::Queued => return Ok(()),
            Step::Refused(code) => {
                let status = match code {
                    400..500 => TEMPORARY,
                    550 => NO_USER,
                    _ => UNAVAILABLE,
                };
                return Err((status, format!("command failed: {code} {text}")));
            }
        }
    }
}

/// Carries octets both ways until the daemon ends the session.
fn converse((read, mut stream): Connection) -> io::Result<()> {
    stream.set_read_timeout(None)?;
    let mut back = stream.try_clone()?;
    std::thread::spawn(move || {
        let copied = io::copy(&mut io::stdin().lock(), &mut back);
        // The other direction ends when the daemon sees this end.
        let _ = back.shutdown(std::net::Shutdown::Write);
        copied
    });
    let mut out = io::stdout().lock();
    out.write_all(&read)?;
    io::copy(&mut stream, &mut out)?;
    out.flush()
}

/// Writes the message into the directory for parked ones: whole and durable, or not at all.
fn park(spool: &Path, draft: &Draft) -> io::Result<()> {
    let directory = spool.join(OFFLINE);
    let number: u128 = rand::random();
    let passing = directory.join(format!("t.{number:032x}"));
    let parked = directory.join(format!("{PARKED}{number:032x}"));
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(&passing)?;
    let written = file
        .set_permissions(fs::Permissions::from_mode(0o640))
        .and_then(|()| file.write_all(&draft.parked()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&passing, &parked));
    if let Err(error) = written {
        let _ = fs::remove_file(&passing);
        return Err(error);
    }
    // A directory that may be written and not read cannot be opened to be synced: the whole disk
    // can.
    if let Ok(directory) = File::open(&directory) {
        return directory.sync_all();
    }
    nix::unistd::sync();
    Ok(())
}
