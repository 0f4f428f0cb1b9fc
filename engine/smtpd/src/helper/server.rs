//! The helper's side: one loop on one thread, over one socket and the processes it has started.
//!
//! Promises: runs only the programs of [`Program`], as a user who is not root but for the system
//! mailbox, the `.forward` of root and the check of a password; every request is checked before anything is done; no
//! program outlives its time, or the daemon. When the daemon is gone, everything that runs is
//! killed and the helper ends: a program never sees the end of a message that was not finished.
//! Absent on purpose: threads, tokio, TLS, name lookups on request, reading files on request: of
//! files, it opens the private keys it was started with.
//! Fails: a request that is not understood ends the helper, since only a daemon gone astray sends
//! one.

use super::protocol::{self, Answer, ENVIRONMENT, Exit, Job, Program, Reply, Request, Verb};
use super::{Identity, stage};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags};
use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Uid, User};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use std::collections::BTreeMap;
use std::ffi::{CString, NulError, OsString};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest life of a program, whatever the daemon says: a day is nobody's delivery.
const TIMEOUT_MAX: Duration = Duration::from_hours(24);

/// Octets of one path, name, command or value of the environment.
const TEXT_MAX: usize = 8 << 10;

/// Connections that wait to be accepted; the system has a bound of its own.
const BACKLOG: i32 = 1024;

/// What the helper is started with.
#[derive(Debug)]
struct Server {
    identity: Identity,
    /// Where the `mail-*` programs are.
    programs: PathBuf,
    /// Where system mailboxes are.
    mailboxes: PathBuf,
    /// Private keys the daemon may read again.
    keys: Vec<PathBuf>,
    /// Descriptors that whoever started the daemon left open; ours are all close-on-exec.
    inherited: Vec<RawFd>,
    /// The home of root, the only one whose `.forward` is read as root.
    root_home: Option<PathBuf>,
    running: BTreeMap<u64, Running>,
}

/// A program that was started.
#[derive(Debug)]
struct Running {
    pid: Pid,
    /// Readable when the process has ended.
    pidfd: OwnedFd,
    /// The writing end of its standard input, until all of the message is in it.
    keeper: Option<OwnedFd>,
    deadline: Option<Instant>,
    /// How we ended it, if we did.
    ended: Option<Exit>,
}

/// Runs the helper on `socket` until the daemon closes it. `arguments` are those of the program,
/// without its own name: the identity, the directory of the programs, that of the mailboxes, and
/// private keys.
pub fn main(socket: BorrowedFd, arguments: &[OsString]) -> io::Result<()> {
    let [identity, programs, mailboxes, keys @ ..] = arguments else {
        return Err(io::Error::other("smtpd-priv is run by smtpd alone"));
    };
    let identity = Identity::from_word(identity.to_str().unwrap_or_default())
        .ok_or_else(|| io::Error::other("unknown identity"))?;
    let root_home = match identity {
        Identity::Own => None,
        Identity::Recipient => User::from_uid(Uid::from_raw(0))?.map(|root| root.dir),
    };
    let mut server = Server {
        inherited: open_descriptors()?,
        identity,
        programs: programs.into(),
        mailboxes: mailboxes.into(),
        keys: keys.iter().map(PathBuf::from).collect(),
        root_home,
        running: BTreeMap::new(),
    };
    let served = server.serve(socket);
    for running in server.running.values() {
        running.kill();
    }
    served
}

impl Server {
    fn serve(&mut self, socket: BorrowedFd) -> io::Result<()> {
        loop {
            let (asked, ended) = self.wait(socket)?;
            for id in ended {
                self.reap(socket, id)?;
            }
            let now = Instant::now();
            for running in self.running.values_mut() {
                if running.deadline.is_some_and(|deadline| deadline <= now) {
                    running.end(Exit::TimedOut);
                }
            }
            if asked {
                match protocol::receive::<Request>(socket)? {
                    Some((request, attached)) => self.handle(socket, request, attached)?,
                    None => return Ok(()),
                }
            }
        }
    }

    /// Waits until the daemon has sent something, programs have ended, or one's time is over.
    fn wait(&self, socket: BorrowedFd) -> io::Result<(bool, Vec<u64>)> {
        let deadline = self.running.values().filter_map(|r| r.deadline).min();
        let timeout = deadline.map(|deadline| {
            // Rounded up, so that a wait never ends just before the deadline again and again.
            let wait =
                deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec::try_from(wait).unwrap_or(Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            })
        });
        let mut polled: Vec<_> = std::iter::once(socket)
            .chain(self.running.values().map(|running| running.pidfd.as_fd()))
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok((false, Vec::new())),
            polled => polled?,
        };
        let ready = |polled: &PollFd| !polled.revents().is_empty();
        let ended = self.running.keys().zip(polled.iter().skip(1));
        let ended = ended.filter(|(_, polled)| ready(polled)).map(|(id, _)| *id);
        Ok((polled.first().is_some_and(ready), ended.collect()))
    }

    fn reap(&mut self, socket: BorrowedFd, id: u64) -> io::Result<()> {
        let Some(running) = self.running.get(&id) else {
            return Ok(());
        };
        let Some((_, status)) = rustix::process::waitpid(Some(running.pid), WaitOptions::NOHANG)?
        else {
            return Ok(());
        };
        let exit = match (
            running.ended,
            status.exit_status(),
            status.terminating_signal(),
        ) {
            (Some(ended), ..) => ended,
            (None, Some(code), _) => Exit::Code(code),
            (None, None, signal) => Exit::Signal(signal.unwrap_or_default()),
        };
        self.running.remove(&id);
        answer(socket, id, Answer::Exited(exit), &[])
    }

    fn handle(
        &mut self,
        socket: BorrowedFd,
        request: Request,
        attached: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let id = request.id;
        match request.verb {
            Verb::Run(job) => {
                if self.running.contains_key(&id) {
                    return Err(io::Error::other("a number was used twice"));
                }
                match self.run(&job, attached) {
                    Ok(running) => {
                        self.running.insert(id, running);
                        Ok(())
                    }
                    Err(why) => answer(socket, id, why, &[]),
                }
            }
            Verb::Finish => {
                if let Some(running) = self.running.get_mut(&id) {
                    running.keeper = None;
                }
                Ok(())
            }
            Verb::Stop => {
                if let Some(running) = self.running.get_mut(&id) {
                    running.end(Exit::Stopped);
                }
                Ok(())
            }
            Verb::Key(number) => match self.key(number) {
                Ok(file) => answer(socket, id, Answer::Opened, &[file.as_fd()]),
                Err(why) => answer(socket, id, why, &[]),
            },
            Verb::Bind(address) => match self.bind(address) {
                Ok(listener) => answer(socket, id, Answer::Bound, &[listener.as_fd()]),
                Err(why) => answer(socket, id, why, &[]),
            },
        }
    }

    fn run(&self, job: &Job, attached: Vec<OwnedFd>) -> Result<Running, Answer> {
        let refuse = |why: &str| Answer::Refused(why.into());
        let Ok([stdin, keeper, output]) = <[OwnedFd; 3]>::try_from(attached) else {
            return Err(refuse("a job comes with three descriptors"));
        };
        self.check(job).map_err(refuse)?;
        if let (Identity::Recipient, Program::Mailbox { user }) = (self.identity, &job.program) {
            // If it cannot be made, the program will say why.
            let _ = make_mailbox(&self.mailboxes.join(user), job.uid, job.gid);
        }
        let failed = |cause: io::Error| Answer::Failed(cause.to_string());
        let arguments = self.arguments(job);
        let pid = spawn(&arguments, job, &stdin, &output, &self.inherited).map_err(failed)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|cause| {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            failed(cause.into())
        })?;
        Ok(Running {
            pid,
            pidfd,
            keeper: Some(keeper),
            deadline: Instant::now().checked_add(job.timeout.min(TIMEOUT_MAX)),
            ended: None,
        })
    }

    /// Says what is wrong with a job, if anything is.
    fn check(&self, job: &Job) -> Result<(), &'static str> {
        let sound = |text: &[u8]| text.len() <= TEXT_MAX && !text.contains(&0);
        let path = |path: &Path| path.is_absolute() && sound(path.as_os_str().as_bytes());
        let word = |text: &str| {
            !text.is_empty() && sound(text.as_bytes()) && !text.contains(|c: char| c.is_control())
        };
        let program = match &job.program {
            Program::Mailbox { user } | Program::Password { user } => {
                word(user) && !user.starts_with('.') && !user.contains('/')
            }
            Program::File { path: file } | Program::Maildir { path: file } => path(file),
            Program::Lmtp { dest, .. } => word(dest),
            Program::Shell { command } => sound(command.as_bytes()),
            Program::Forward { .. } => true,
        };
        let variable = |(name, value): &(String, String)| {
            ENVIRONMENT.contains(&name.as_str()) && sound(value.as_bytes())
        };
        if !program {
            return Err("unsound program");
        }
        if !path(&job.home) {
            return Err("unsound home directory");
        }
        if !job.environment.iter().all(variable) {
            return Err("unsound environment");
        }
        self.check_identity(job)
    }

    fn check_identity(&self, job: &Job) -> Result<(), &'static str> {
        let for_root = match job.program {
            Program::Mailbox { .. } | Program::Password { .. } => true,
            Program::Forward { .. } => Some(&job.home) == self.root_home.as_ref(),
            _ => false,
        };
        let is_root = job.uid == 0 || job.gid == 0;
        // -1 means "leave as it is" to the system calls.
        let is_none = job.uid == u32::MAX || job.gid == u32::MAX;
        match self.identity {
            Identity::Recipient if is_none => Err("no such user"),
            Identity::Recipient if is_root && !for_root => Err("root runs no programs"),
            _ => Ok(()),
        }
    }

    /// The arguments of the process that becomes the program.
    fn arguments(&self, job: &Job) -> Vec<OsString> {
        let tool = |name: &str| self.programs.join(name).into_os_string();
        let (verb, program): (_, Vec<OsString>) = match &job.program {
            Program::Mailbox { user } => (
                stage::EXECUTE,
                vec![tool("mail-mbox"), self.mailboxes.join(user).into()],
            ),
            Program::File { path } => (stage::EXECUTE, vec![tool("mail-mbox"), path.into()]),
            Program::Maildir { path } => (stage::EXECUTE, vec![tool("mail-maildir"), path.into()]),
            Program::Lmtp { dest, rcpt_to } => {
                let mut words = vec![tool("mail-lmtp"), dest.into()];
                words.extend(rcpt_to.then(|| "rcpt-to".into()));
                (stage::EXECUTE, words)
            }
            Program::Shell { command } => (
                stage::EXECUTE,
                vec!["/bin/sh".into(), "-c".into(), command.into()],
            ),
            Program::Password { user } => (stage::PASSWORD, vec![user.into()]),
            Program::Forward { limit } => (stage::FORWARD, vec![limit.to_string().into()]),
        };
        let identity = match self.identity {
            Identity::Own => "-".to_owned(),
            Identity::Recipient => format!("{}:{}", job.uid, job.gid),
        };
        ["smtpd-priv".into(), verb.into(), identity.into()]
            .into_iter()
            .chain([job.home.clone().into_os_string()])
            .chain(program)
            .collect()
    }

    fn key(&self, number: usize) -> Result<OwnedFd, Answer> {
        let path = self.keys.get(number);
        let path = path.ok_or_else(|| Answer::Refused("no such key".into()))?;
        // Neither a pipe nor a device may hold the helper up.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        opened.map_err(|cause| Answer::Failed(cause.to_string()))
    }

    fn bind(&self, address: SocketAddr) -> Result<OwnedFd, Answer> {
        if self.identity == Identity::Recipient && !(1..1024).contains(&address.port()) {
            return Err(Answer::Refused("not a privileged port".into()));
        }
        listen(address).map_err(|cause| Answer::Failed(cause.to_string()))
    }
}

impl Running {
    /// Kills its programs and notes why.
    fn end(&mut self, why: Exit) {
        self.deadline = None;
        self.ended.get_or_insert(why);
        self.kill();
    }

    /// Kills the session's process group; until there is one, the process alone.
    fn kill(&self) {
        // It is ours until it has been waited for, so nobody else can have its number.
        if rustix::process::kill_process_group(self.pid, Signal::KILL).is_err() {
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }
}

fn answer(socket: BorrowedFd, id: u64, answer: Answer, attached: &[BorrowedFd]) -> io::Result<()> {
    match protocol::send(socket, &Reply { id, answer }, attached) {
        // The next read will say so.
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        sent => sent,
    }
}

/// Starts this same program again as the process that becomes the user and then the program, with
/// every signal at its default and three descriptors.
fn spawn(
    arguments: &[OsString],
    job: &Job,
    stdin: &OwnedFd,
    output: &OwnedFd,
    unwanted: &[RawFd],
) -> io::Result<Pid> {
    let mut actions = PosixSpawnFileActions::init()?;
    for (descriptor, number) in [(stdin, 0), (output, 1), (output, 2)] {
        actions.add_dup2(descriptor.as_raw_fd(), number)?;
    }
    // After the others, whose numbers may be among these: the list holds one that was free again.
    for number in unwanted {
        actions.add_close(*number)?;
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK,
    )?;
    attributes.set_sigdefault(&SigSet::all())?;
    attributes.set_sigmask(&SigSet::empty())?;
    let arguments = arguments
        .iter()
        .map(|argument| CString::new(argument.as_bytes()))
        .collect::<Result<Vec<_>, NulError>>()?;
    let environment = job
        .environment
        .iter()
        .map(|(name, value)| {
            let pair = OsString::from(format!("{name}={value}"));
            CString::new(pair.into_vec())
        })
        .collect::<Result<Vec<_>, NulError>>()?;
    // Not by its path: the file may have been replaced by another version meanwhile.
    let pid = nix::spawn::posix_spawn(
        "/proc/self/exe",
        &actions,
        &attributes,
        &arguments,
        &environment,
    )?;
    Pid::from_raw(pid.as_raw()).ok_or_else(|| io::Error::other("no process number"))
}

/// The numbers of descriptors that are open, but for the first three; and that of the list itself.
fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        numbers.extend(number.filter(|number: &RawFd| *number > 2));
    }
    Ok(numbers)
}

/// Makes the mailbox of a user who may not create files in the mailbox directory.
fn make_mailbox(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    // Exclusive: neither a link nor a file that somebody has put there is followed or given away.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    nix::unistd::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    use socket2::{Domain, Protocol, Socket, Type};
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(program: Program) -> Job {
        Job {
            program,
            uid: 1000,
            gid: 1000,
            home: "/home/u".into(),
            environment: vec![("SENDER".into(), "a@b".into())],
            timeout: Duration::from_secs(1),
        }
    }

    fn server(identity: Identity) -> Server {
        Server {
            identity,
            inherited: Vec::new(),
            programs: "/lib".into(),
            mailboxes: "/mail".into(),
            keys: vec!["/proc/self/stat".into()],
            root_home: Some("/root".into()),
            running: BTreeMap::new(),
        }
    }

    fn mailbox(user: &str) -> Program {
        Program::Mailbox { user: user.into() }
    }

    fn shell(command: &str) -> Program {
        Program::Shell {
            command: command.into(),
        }
    }

    #[test]
    fn t32_root_runs_nothing_but_its_mailbox_and_forward() {
        let server = server(Identity::Recipient);
        let check = |uid, gid, home: &str, program, want| {
            let mut job = job(program);
            (job.uid, job.gid, job.home) = (uid, gid, home.into());
            assert_eq!(server.check(&job).is_ok(), want, "{job:?}");
        };
        let file = |path: &str| Program::File { path: path.into() };
        check(1000, 1000, "/home/u", shell("true"), true);
        check(0, 1000, "/home/u", shell("true"), false);
        check(1000, 0, "/home/u", shell("true"), false);
        check(u32::MAX, 1000, "/home/u", shell("true"), false);
        check(1000, u32::MAX, "/home/u", shell("true"), false);
        check(0, 0, "/root", mailbox("root"), true);
        check(0, 0, "/root", file("/etc/passwd"), false);
        check(0, 0, "/root", Program::Maildir { path: "/x".into() }, false);
        check(0, 0, "/root", Program::Forward { limit: 9 }, true);
        check(0, 0, "/", Program::Password { user: "u".into() }, true);
        check(0, 0, "/home/u", Program::Forward { limit: 9 }, false);
    }

    #[test]
    fn t7_unsound_texts_are_refused() {
        let server = server(Identity::Own);
        let check = |change: &dyn Fn(&mut Job), want| {
            let mut job = job(shell("true"));
            change(&mut job);
            assert_eq!(server.check(&job).is_ok(), want, "{job:?}");
        };
        check(&|_| {}, true);
        check(&|job| job.home = "home".into(), false);
        check(&|job| job.home = "/a\0b".into(), false);
        check(&|job| job.program = shell("a\0b"), false);
        check(&|job| job.program = shell(&"x".repeat(TEXT_MAX + 1)), false);
        for user in ["", ".", "..", "../x", "a/b", "a\nb"] {
            check(&|job| job.program = mailbox(user), false);
            let user = user.to_owned();
            check(
                &|job| job.program = Program::Password { user: user.clone() },
                false,
            );
        }
        let variable = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        check(&|job| job.environment = variable("LD_PRELOAD", "x"), false);
        check(&|job| job.environment = variable("SENDER", "a\0b"), false);
        let relative = Path::new("Maildir");
        check(
            &|job| {
                job.program = Program::Maildir {
                    path: relative.into(),
                }
            },
            false,
        );
    }

    #[test]
    fn keys_are_those_it_was_started_with() {
        let server = server(Identity::Recipient);
        assert!(server.key(0).is_ok());
        assert!(matches!(server.key(1), Err(Answer::Refused(_))));
    }

    #[test]
    fn no_shell_stands_before_a_built_in_method() {
        let server = server(Identity::Recipient);
        let check = |program, want: &[&str]| {
            assert_eq!(server.arguments(&job(program)), want);
        };
        let head = ["smtpd-priv", "execute", "1000:1000", "/home/u"];
        check(
            Program::Maildir {
                path: "/x/$(id)".into(),
            },
            &[&head[..], &["/lib/mail-maildir", "/x/$(id)"]].concat(),
        );
        check(
            mailbox("u"),
            &[&head[..], &["/lib/mail-mbox", "/mail/u"]].concat(),
        );
        check(
            Program::Lmtp {
                dest: "h:24".into(),
                rcpt_to: true,
            },
            &[&head[..], &["/lib/mail-lmtp", "h:24", "rcpt-to"]].concat(),
        );
        check(
            shell("exec x"),
            &[&head[..], &["/bin/sh", "-c", "exec x"]].concat(),
        );
    }
}
