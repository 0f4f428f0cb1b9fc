//! The privileged helper: a small process beside the daemon that starts delivery programs as their
//! users, reads `~/.forward` as its user, checks passwords of the system, and opens low ports and
//! the private keys it was started with.
//!
//! Promises: started before any thread; afterwards the daemon can be no one but its own user.
//! All deliveries go through it, also when the daemon has no privileges to separate: then it runs
//! everything as the daemon's own user ([`Identity::Own`]).
//! Absent on purpose: the daemon's side of a delivery (see [`mda`](crate::mda)).
//! Fails: [`StartError`] before the daemon serves anyone; [`HelperError`] later.

pub mod client;
pub mod forward;
pub mod password;
pub mod protocol;
pub mod server;
pub mod stage;

pub use self::client::{Helper, Running};
pub use self::forward::Forward;

use crate::users::{User, is_name};
use nix::unistd::Uid;
use redspool_core::smtp::Credentials;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Name of the helper's program; it lies beside the daemon's.
pub const PROGRAM: &str = "smtpd-priv";

/// Where the system keeps mailboxes (FHS 5.11).
pub const MAILBOXES: &str = "/var/mail";

/// Life of the process that reads a `~/.forward`: a recipient waits for it in the SMTP dialogue.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(30);

/// Life of the process that checks a password, for the same reason.
const PASSWORD_TIMEOUT: Duration = Duration::from_secs(30);

/// Octets in which such a process says why it has nothing to print: a path and an error of the
/// system.
const REASON_MAX: usize = 8 << 10;

/// Whose rights programs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The daemon's own, whoever the recipient is: the daemon was not started as root, or is to
    /// stay root.
    Own,
    /// The recipient's, or those of the action's `user`.
    Recipient,
}

impl Identity {
    const fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Recipient => "recipient",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Own, Self::Recipient]
            .into_iter()
            .find(|identity| identity.word() == word)
    }
}

/// How to start the helper.
#[derive(Clone, Debug)]
pub struct Options {
    /// The helper's program. The `mail-*` programs lie beside it.
    pub program: PathBuf,
    /// Whose rights programs have.
    pub identity: Identity,
    /// Where system mailboxes are.
    pub mailboxes: PathBuf,
    /// Private keys the daemon may read again later, whoever it has become.
    pub keys: Vec<PathBuf>,
}

impl Options {
    /// The helper beside the program that is running, and the system's mailboxes.
    pub fn new(identity: Identity) -> io::Result<Self> {
        let daemon = std::env::current_exe()?;
        Ok(Self {
            program: daemon.with_file_name(PROGRAM),
            identity,
            mailboxes: MAILBOXES.into(),
            keys: Vec::new(),
        })
    }
}

/// A helper that was started, before there is a runtime to speak with it.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    identity: Identity,
    /// Its process.
    pub pid: u32,
}

/// Why the helper could not be started, or the privileges not be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Why the helper did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperError {
    /// It is not running any more.
    Gone,
    /// The system refused.
    Io(String),
    /// The helper refused: it never will.
    Refused(String),
}

impl fmt::Display for HelperError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the privileged helper is gone"),
            Self::Io(why) => write!(f, "{why}"),
            Self::Refused(why) => write!(f, "refused by the privileged helper: {why}"),
        }
    }
}

impl std::error::Error for HelperError {}

impl From<io::Error> for HelperError {
    fn from(cause: io::Error) -> Self {
        Self::Io(cause.to_string())
    }
}

/// Starts the helper. Call it before there is any thread.
pub fn start(options: &Options) -> Result<Connection, StartError> {
    let failed = |cause: io::Error| {
        let program = options.program.display();
        StartError(match cause.kind() {
            io::ErrorKind::NotFound => {
                format!("{program} is missing: it belongs beside smtpd, with the mail-* programs")
            }
            _ => format!("cannot start {program}: {cause}"),
        })
    };
    let (here, there) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|cause| failed(cause.into()))?;
    let programs = options.program.parent().unwrap_or(Path::new("/"));
    let helper = Command::new(&options.program)
        .args(["serve", options.identity.word()])
        .args([programs, &options.mailboxes])
        .args(&options.keys)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(there))
        .stdout(Stdio::null())
        // What a terminal sends to the daemon's group is for the daemon to decide.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    Ok(Connection {
        socket: here,
        identity: options.identity,
        pid: helper.id(),
    })
}

/// Starts the helper with the rights of root, then becomes `user` for good: groups, group and
/// user changed and verified, and no program executed later can gain a privilege. Call it before
/// there is any thread, and after everything was opened that `user` may not.
pub fn start_as_root(user: &str, options: &Options) -> Result<Connection, StartError> {
    let found = nix::unistd::User::from_name(user)
        .map_err(|cause| StartError(format!("cannot look up user {user}: {cause}")))?
        .ok_or_else(|| StartError(format!("user {user} does not exist: create it")))?;
    if found.uid.is_root() {
        return Err(StartError(format!(
            "user {user} is root: the daemon needs a user of its own"
        )));
    }
    if !Uid::effective().is_root() {
        return Err(StartError("only root can become another user".into()));
    }
    let connection = start(options)?;
    stage::become_user(found.uid, found.gid)
        .map_err(|fault| StartError(format!("cannot become user {user}: {fault}")))?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|cause| StartError(format!("cannot give up privileges: {cause}")))?;
    Ok(connection)
}

impl Helper {
    /// Reads the `~/.forward` of a user, at most `limit` octets.
    pub async fn forward(&self, user: &User, limit: usize) -> Forward {
        let job = protocol::Job {
            program: protocol::Program::Forward { limit },
            uid: user.uid,
            gid: user.gid,
            home: user.home.clone(),
            environment: Vec::new(),
            timeout: FORWARD_TIMEOUT,
        };
        let most = limit.saturating_add(REASON_MAX);
        match self.capture(job, b"", most).await {
            Ok((exit, output)) => Forward::from_exit(exit, output),
            Err(why) => Forward::Temporary(why.to_string()),
        }
    }

    /// Whether a password is that of a user of the system. Fails with the reason.
    pub async fn password(&self, credentials: Credentials) -> Result<bool, String> {
        if !is_name(&credentials.username) {
            return Ok(false);
        }
        let job = protocol::Job {
            program: protocol::Program::Password {
                user: credentials.username.into(),
            },
            uid: 0,
            gid: 0,
            home: "/".into(),
            environment: Vec::new(),
            timeout: PASSWORD_TIMEOUT,
        };
        let ended = self.capture(job, &credentials.password, REASON_MAX).await;
        let (exit, output) = ended.map_err(|why| why.to_string())?;
        password::from_exit(exit, &output)
    }

    /// Runs a program on a little input, less than a pipe holds, and gathers up to `most` octets of
    /// its output.
    async fn capture(
        &self,
        job: protocol::Job,
        input: &[u8],
        most: usize,
    ) -> Result<(protocol::Exit, Vec<u8>), HelperError> {
        use std::io::Write as _;
        use tokio::io::AsyncReadExt;
        let (stdin, mut writer) = io::pipe()?;
        writer.write_all(input)?;
        let (output, child_output) = io::pipe()?;
        let mut running = self
            .run(job, [stdin.as_fd(), writer.as_fd()], child_output.as_fd())
            .await?;
        drop((stdin, writer, child_output));
        running.finish().await?;
        rustix::io::ioctl_fionbio(&output, true).map_err(io::Error::from)?;
        let output = tokio::net::unix::pipe::Receiver::from_owned_fd(output.into())?;
        let mut text = Vec::new();
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        output.take(most).read_to_end(&mut text).await?;
        Ok((running.exited().await?, text))
    }
}

/// The last line of a program's output that is not blank, with control characters and octets
/// above 127 escaped as vis(3) does, in at most 255 octets.
pub(crate) fn last_line(output: &[u8]) -> Option<String> {
    const MOST: usize = 255;
    let mut lines = output.rsplit(|octet| *octet == b'\n');
    let line = lines.find(|line| !line.trim_ascii().is_empty())?;
    let mut text = String::new();
    for octet in line.trim_ascii() {
        let shown = vis(*octet);
        if text.len() + shown.len() > MOST {
            break;
        }
        text.push_str(&shown);
    }
    Some(text)
}

/// One octet as vis(3) without options shows it (spec/smtpctl.md 3.4).
fn vis(octet: u8) -> String {
    let control = |octet: u8| char::from(octet ^ 0x40);
    match octet {
        b'\\' => "\\\\".into(),
        b'\t' | b' '..=b'~' => char::from(octet).to_string(),
        0..=0x1f | 0x7f => format!("\\^{}", control(octet)),
        0xa0 => "\\240".into(),
        0x80..=0x9f | 0xff => format!("\\M^{}", control(octet & 0x7f)),
        0xa1..=0xfe => format!("\\M-{}", char::from(octet & 0x7f)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_says_something_is_escaped() {
        let check = |output: &[u8], want: Option<&str>| {
            assert_eq!(last_line(output).as_deref(), want);
        };
        check(b"", None);
        check(b"\n \n\r\n", None);
        check(b"one\ntwo", Some("two"));
        check(b"one\ntwo\r\n\n", Some("two"));
        check(b"a|\"b\"\\ \x1b[1m\x7f", Some("a|\"b\"\\\\ \\^[[1m\\^?"));
        check(b"\xc3\xa9 \x80\xa0\xff", Some("\\M-C\\M-) \\M^@\\240\\M^?"));
        let long = last_line(&[0xff; 1000]).unwrap();
        assert_eq!(long.len(), 252, "cut between two escapes");
    }
}
