//! Delivery to an LMTP server (RFC 2033).
//!
//! Promises: exit 0 only on a positive reply of the server for this recipient, after the content;
//! a connection that breaks, or a server that makes no sense, is temporary.
//! Absent on purpose: TLS and authentication; the server is local, or on a wire one trusts. The
//! session itself is the machine of [`redspool_core::smtp::client`]; here are its effects.
//! Fails: temporarily, or for good when the server says so.

use super::Fault;
use bytes::Bytes;
use redspool_core::addr::Address;
use redspool_core::envelope::TlsPolicy;
use redspool_core::id::MessageId;
use redspool_core::limits::MtaLimits;
use redspool_core::machine::Machine;
use redspool_core::queue::{Failure, Outcome};
use redspool_core::smtp::client::{Action, Client, Event, Params};
use redspool_core::smtp::{Transaction, TransactionRecipient};
use redspool_core::time::{Now, Timestamp};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Port of a destination that names none: that of mail.
const PORT: u16 = 25;

/// Octets read or sent at a time.
const PIECE: usize = 64 << 10;

/// Delivers `input`, in LF form, to the server at `dest` (`host`, `host:port`, `[v6]:port` or
/// `/socket`), from `sender` to `rcpt`.
pub fn deliver(
    input: &mut impl Read,
    dest: &str,
    sender: Address,
    rcpt: Address,
) -> Result<(), Fault> {
    let message = Spool::read(input)
        .map_err(|cause| Fault::temporary(format_args!("cannot keep the message: {cause}")))?;
    let limits = Arc::new(MtaLimits::default());
    let connection = connect(dest, &limits)
        .map_err(|cause| Fault::temporary(format_args!("cannot connect to {dest}: {cause}")))?;
    let id = MessageId::new(1).expect("1 is not 0");
    let transaction = Transaction {
        message: id,
        size: message.size,
        eight_bit: message.eight_bit,
        // What delivers locally is not told how the message came.
        utf8: false,
        sender,
        ret: None,
        envid: "".into(),
        recipients: vec![TransactionRecipient {
            envelope: id.envelope(NonZeroU32::MIN),
            dest: rcpt,
            notify: None,
            orcpt: "".into(),
        }],
    };
    let client = Client::new(Params {
        helo: "localhost".into(),
        lmtp: true,
        tls: TlsPolicy::Never,
        credentials: None,
        limits,
        peer: dest.into(),
    });
    let session = Session {
        client,
        connection,
        message,
        transaction: Some(transaction),
        outcome: None,
    };
    judge(session.run())
}

/// What the outcome means in exit codes.
fn judge(outcome: Outcome) -> Result<(), Fault> {
    match outcome {
        Outcome::Delivered { .. } => Ok(()),
        Outcome::TempFail(failure) => Err(Fault::temporary(failure.text)),
        Outcome::PermFail(failure) => Err(Fault::refused(failure.text)),
        Outcome::Loop => Err(Fault::refused("loop detected")),
    }
}

/// A message in CR LF form in a file without a name: its size and whether it is 8-bit must be
/// known before it is sent.
struct Spool {
    file: File,
    size: u64,
    eight_bit: bool,
}

impl Spool {
    fn read(input: &mut impl Read) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut spool = Self {
            file: rustix::fs::open(std::env::temp_dir(), flags, mode)?.into(),
            size: 0,
            eight_bit: false,
        };
        let mut writer = BufWriter::with_capacity(PIECE, &spool.file);
        let mut buffer = vec![0; PIECE];
        let mut last = b'\n';
        loop {
            let length = match input.read(&mut buffer) {
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                length => length?,
            };
            let Some(piece @ [.., end]) = buffer.get(..length) else {
                break;
            };
            last = *end;
            spool.eight_bit |= !piece.is_ascii();
            for line in piece.split_inclusive(|octet| *octet == b'\n') {
                match line {
                    [text @ .., b'\n'] => {
                        writer.write_all(text)?;
                        writer.write_all(b"\r\n")?;
                    }
                    text => writer.write_all(text)?,
                }
            }
        }
        if last != b'\n' {
            writer.write_all(b"\r\n")?;
        }
        writer.flush()?;
        drop(writer);
        spool.size = spool.file.metadata()?.len();
        Ok(spool)
    }

    /// Piece `index`, and whether it is the last one.
    fn piece(&self, index: u32) -> io::Result<(Bytes, bool)> {
        let start = u64::from(index).saturating_mul(PIECE as u64);
        let length = self.size.saturating_sub(start).min(PIECE as u64);
        let mut piece = vec![0; usize::try_from(length).unwrap_or(PIECE)];
        self.file.read_exact_at(&mut piece, start)?;
        Ok((piece.into(), start.saturating_add(length) >= self.size))
    }
}

/// A stream socket of either kind.
trait Stream: Read + Write {
    fn wait_at_most(&self, wait: Option<Duration>) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn wait_at_most(&self, wait: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(wait)?;
        self.set_write_timeout(wait)
    }
}

impl Stream for UnixStream {
    fn wait_at_most(&self, wait: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(wait)?;
        self.set_write_timeout(wait)
    }
}

fn connect(dest: &str, limits: &MtaLimits) -> io::Result<Box<dyn Stream>> {
    if dest.starts_with('/') {
        return Ok(Box::new(UnixStream::connect(Path::new(dest))?));
    }
    let (host, port) = split(dest);
    let mut failure = io::Error::other("the name has no address");
    for address in (host, port).to_socket_addrs()?.take(limits.addresses) {
        match TcpStream::connect_timeout(&address, limits.connect_timeout) {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(cause) => failure = cause,
        }
    }
    Err(failure)
}

/// Host and port of `host`, `host:port`, `v6`, `[v6]` or `[v6]:port`.
fn split(dest: &str) -> (&str, u16) {
    let (host, port) = match dest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match dest.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (dest, None),
        },
    };
    (
        host,
        port.and_then(|port| port.parse().ok()).unwrap_or(PORT),
    )
}

struct Session {
    client: Client,
    connection: Box<dyn Stream>,
    message: Spool,
    /// What to send, until it is handed over.
    transaction: Option<Transaction>,
    outcome: Option<Outcome>,
}

impl Session {
    fn run(mut self) -> Outcome {
        let mut event = Event::Connected;
        loop {
            self.client.handle(now(), event);
            while let Some(action) = self.client.poll() {
                if let Action::Close(failure) = action {
                    return self.outcome.unwrap_or_else(|| lost(failure));
                }
                if let Some(event) = self.act(action) {
                    self.client.handle(now(), event);
                }
            }
            event = self.wait();
        }
    }

    /// Carries out an action; gives what came of it at once, if anything.
    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Send(octets) => {
                let sent = self.wait_until_deadline();
                let sent = sent.and_then(|()| self.connection.write_all(&octets));
                sent.err()
                    .map(|cause| Event::Closed(Some(cause.to_string().into())))
            }
            Action::ReadBody(_, index) => Some(match self.message.piece(index) {
                Ok((bytes, last)) => Event::Body { bytes, last },
                Err(cause) => Event::BodyFailed(Failure {
                    status: None,
                    text: cause.to_string().into(),
                }),
            }),
            Action::Ready => Some(match self.transaction.take() {
                Some(transaction) => Event::Assigned(transaction),
                None => Event::QuitRequested,
            }),
            Action::Attempted(outcomes) => {
                self.outcome = outcomes.into_iter().next().map(|(_, outcome)| outcome);
                None
            }
            Action::SendHidden(_) | Action::StartTls | Action::Reconnect => {
                let text = "TLS and authentication are not for local servers";
                Some(Event::Closed(Some(text.into())))
            }
            // There is no other server to turn to; the end is the caller's.
            Action::Troubled(_) | Action::Close(_) => None,
        }
    }

    fn wait(&mut self) -> Event {
        let mut buffer = vec![0; PIECE];
        let read = self
            .wait_until_deadline()
            .and_then(|()| self.connection.read(&mut buffer));
        match read {
            Ok(0) => Event::Closed(None),
            Ok(length) => {
                buffer.truncate(length);
                Event::Received(buffer.into())
            }
            Err(cause) => match cause.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Event::TimedOut,
                io::ErrorKind::Interrupted => Event::Received(Bytes::new()),
                _ => Event::Closed(Some(cause.to_string().into())),
            },
        }
    }

    fn wait_until_deadline(&self) -> io::Result<()> {
        // Zero would mean to wait for ever.
        let least = Duration::from_millis(1);
        let wait = self.client.deadline().map(|deadline| {
            deadline
                .saturating_duration_since(Instant::now())
                .max(least)
        });
        self.connection.wait_at_most(wait)
    }
}

fn lost(failure: Option<Failure>) -> Outcome {
    Outcome::TempFail(failure.unwrap_or(Failure {
        status: None,
        text: "the server ended the session".into(),
    }))
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Now {
        mono: Instant::now(),
        wall: Timestamp::from_secs(since.unwrap_or_default().as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_taken_apart() {
        let check = |dest, host, port| assert_eq!(split(dest), (host, port), "{dest}");
        check("localhost", "localhost", 25);
        check("localhost:2424", "localhost", 2424);
        check("127.0.0.1:24", "127.0.0.1", 24);
        check("::1", "::1", 25);
        check("[::1]", "::1", 25);
        check("[::1]:24", "::1", 24);
    }

    #[test]
    fn the_message_is_kept_in_cr_lf_form() {
        let check = |text: &[u8], want: &[u8], eight_bit| {
            let spool = Spool::read(&mut &*text).unwrap();
            assert_eq!(
                spool.piece(0).unwrap(),
                (Bytes::copy_from_slice(want), true)
            );
            assert_eq!(spool.eight_bit, eight_bit);
        };
        check(b"", b"", false);
        check(b"a\n\n.\nb", b"a\r\n\r\n.\r\nb\r\n", false);
        check(b"\xe9\n", b"\xe9\r\n", true);
        let long = vec![b'x'; PIECE + 1];
        let spool = Spool::read(&mut long.as_slice()).unwrap();
        assert_eq!(spool.size, PIECE as u64 + 3);
        assert!(!spool.piece(0).unwrap().1);
        assert_eq!(
            spool.piece(1).unwrap(),
            (Bytes::from_static(b"x\r\n"), true)
        );
    }
}
