//! The control socket, from smtpctl's side.
//!
//! Promises: never waits longer than the time-out for anything, connecting included; every error
//! names the socket, the system's reason and what to do about it.
//! Absent on purpose: authority (the daemon knows our uid) and rendering.

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use redspool_core::control::frame::{self, FrameError};
use redspool_core::control::{Reply, Request};
use std::fmt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Octets read at a time.
const CHUNK: usize = 64 << 10;

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    path: PathBuf,
    timeout: Duration,
    frame_max: usize,
    /// Read, and not taken apart yet.
    buffer: Vec<u8>,
    /// Octets of the buffer that are taken apart already.
    taken: usize,
    /// Where the next octets are read into.
    chunk: Box<[u8]>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nobody listens on the socket.
    Down(PathBuf, io::Error),
    /// We may not connect.
    Forbidden(PathBuf, io::Error),
    /// Connecting failed otherwise.
    Connect(PathBuf, io::Error),
    /// There was no sign of life in this time.
    Silent(PathBuf, Duration),
    /// The daemon closed the connection.
    Closed,
    /// Reading failed otherwise.
    Read(io::Error),
    /// Writing failed.
    Write(io::Error),
    /// What was said makes no sense.
    Frame(FrameError),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(path, cause) => write!(
                f,
                "smtpd doesn't seem to be running: {}: {cause}",
                path.display()
            ),
            Self::Forbidden(path, cause) => write!(
                f,
                "cannot reach smtpd: {}: {cause}; run this as root or as the user smtpd runs as",
                path.display()
            ),
            Self::Connect(path, cause) => write!(
                f,
                "cannot reach smtpd: {}: {cause}; name its socket with --socket",
                path.display()
            ),
            Self::Silent(path, timeout) => write!(
                f,
                "smtpd does not answer: {}: nothing within {} s (ETIMEDOUT); look into its log, \
                 or wait longer with --timeout",
                path.display(),
                timeout.as_secs()
            ),
            Self::Closed => f.write_str("pipe closed"),
            Self::Read(cause) => write!(f, "read error: {cause}"),
            Self::Write(cause) => write!(f, "write error: {cause}"),
            Self::Frame(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for Trouble {}

impl Client {
    /// Connects. Frames may be `frame_max` octets long.
    pub(crate) fn connect(
        path: &Path,
        timeout: Duration,
        frame_max: usize,
    ) -> Result<Self, Trouble> {
        let stream = open(path, timeout).map_err(|cause| {
            let path = path.to_owned();
            match cause.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => Trouble::Down(path, cause),
                ErrorKind::PermissionDenied => Trouble::Forbidden(path, cause),
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Trouble::Silent(path, timeout),
                _ => Trouble::Connect(path, cause),
            }
        })?;
        Ok(Self {
            stream,
            path: path.to_owned(),
            timeout,
            frame_max,
            buffer: Vec::new(),
            taken: 0,
            chunk: vec![0; CHUNK].into(),
        })
    }

    /// Asks. Every reply, the last one included, is given to `each`, as long as it wants more.
    pub(crate) fn ask(
        &mut self,
        request: &Request,
        each: &mut dyn FnMut(Reply) -> bool,
    ) -> Result<(), Trouble> {
        let request = frame::encode(request, self.frame_max).map_err(Trouble::Frame)?;
        // A daemon with too many connections answers and closes before it has read the question:
        // what it said is worth more than the error of writing.
        let sent = self.stream.write_all(&request);
        loop {
            let reply = match (self.reply(), &sent) {
                (Err(Trouble::Closed), Err(cause)) if cause.kind() != ErrorKind::BrokenPipe => {
                    return Err(self.broken(Trouble::Write, cause));
                }
                (reply, _) => reply?,
            };
            let last = reply.is_last();
            if !each(reply) || last {
                return Ok(());
            }
        }
    }

    /// The connection itself, once the daemon has handed it over, and what was read of it beyond
    /// the last reply.
    pub(crate) fn into_stream(mut self) -> (Vec<u8>, UnixStream) {
        (
            self.buffer.split_off(self.taken.min(self.buffer.len())),
            self.stream,
        )
    }

    fn reply(&mut self) -> Result<Reply, Trouble> {
        loop {
            let unread = self.buffer.get(self.taken..).unwrap_or_default();
            let whole = frame::decode(unread, self.frame_max).map_err(Trouble::Frame)?;
            if let Some((reply, octets)) = whole {
                self.taken = self.taken.saturating_add(octets);
                return Ok(reply);
            }
            self.fill()?;
        }
    }

    /// Reads what there is, behind what is not taken apart yet.
    fn fill(&mut self) -> Result<(), Trouble> {
        self.buffer.drain(..self.taken.min(self.buffer.len()));
        self.taken = 0;
        let count = loop {
            match self.stream.read(&mut self.chunk) {
                Ok(0) => return Err(Trouble::Closed),
                Ok(count) => break count,
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.broken(Trouble::Read, &cause)),
            }
        };
        self.buffer
            .extend_from_slice(self.chunk.get(..count).unwrap_or_default());
        Ok(())
    }

    fn broken(&self, trouble: fn(io::Error) -> Trouble, cause: &io::Error) -> Trouble {
        match (cause.kind(), cause.raw_os_error()) {
            (ErrorKind::WouldBlock | ErrorKind::TimedOut, _) => {
                Trouble::Silent(self.path.clone(), self.timeout)
            }
            (_, Some(errno)) => trouble(io::Error::from_raw_os_error(errno)),
            (kind, None) => trouble(kind.into()),
        }
    }
}

/// Connects with a limit on how long that may take: a daemon that accepts nobody must not hold
/// us, and the standard library's connect waits for ever.
fn open(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let fd = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
    let limit = TimeVal::new(seconds, i64::from(timeout.subsec_micros()));
    setsockopt(&fd, sockopt::SendTimeout, &limit)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &limit)?;
    connect(fd.as_raw_fd(), &address)?;
    Ok(fd.into())
}
