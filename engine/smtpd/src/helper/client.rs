//! The daemon's side of the helper: requests from any task, answers by number.
//!
//! Promises: any number of requests at a time; a job whose [`Running`] is dropped is killed.
//! Absent on purpose: a limit on jobs, which is the schedule's.
//! Fails: with [`HelperError`]. Once the helper is gone, every request fails and
//! [`Helper::gone`] returns; the daemon then has to stop.

use super::protocol::{self, Answer, Exit, Job, Program, Reply, Request, Verb};
use super::{Connection, HelperError, Identity};
use crate::log::Brief;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::{oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

/// A handle to the helper; clones share it.
#[derive(Clone, Debug)]
pub struct Helper {
    shared: Arc<Shared>,
    gone: watch::Receiver<bool>,
    _reader: Arc<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    identity: Identity,
    /// A socket of sequenced packets; to tokio that is much like one of datagrams.
    socket: UnixDatagram,
    waiting: Mutex<Waiting>,
}

type Answered = (Answer, Vec<OwnedFd>);

/// Requests that have no answer yet.
#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    /// `None` when the helper is gone.
    open: Option<BTreeMap<u64, oneshot::Sender<Answered>>>,
}

/// A program the helper is running. It is killed when this is dropped before its end.
#[derive(Debug)]
pub struct Running {
    id: u64,
    shared: Arc<Shared>,
    answer: oneshot::Receiver<Answered>,
    ended: bool,
}

impl Helper {
    /// Takes up the connection made by [`start`](super::start); within a tokio runtime.
    pub fn attach(connection: Connection) -> Result<Self, HelperError> {
        let socket = std::os::unix::net::UnixDatagram::from(connection.socket);
        socket.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            identity: connection.identity,
            socket: UnixDatagram::from_std(socket)?,
            waiting: Mutex::new(Waiting {
                last: 0,
                open: Some(BTreeMap::new()),
            }),
        });
        let (alive, gone) = watch::channel(false);
        let reader = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                shared.read().await;
                // Dropping the senders tells everyone who waits.
                shared.waiting.lock().open = None;
                alive.send_replace(true);
            }
        });
        Ok(Self {
            shared,
            gone,
            _reader: Arc::new(AbortOnDropHandle::new(reader)),
        })
    }

    /// Whose rights programs have.
    pub fn identity(&self) -> Identity {
        self.shared.identity
    }

    /// Starts a program. `stdin` are the reading end of a pipe and its writing end, which the
    /// helper holds open until [`Running::finish`].
    pub async fn run(
        &self,
        job: Job,
        stdin: [BorrowedFd<'_>; 2],
        output: BorrowedFd<'_>,
    ) -> Result<Running, HelperError> {
        let [reader, writer] = stdin;
        let (id, answer) = self.shared.open()?;
        let mut running = Running {
            id,
            shared: Arc::clone(&self.shared),
            answer,
            ended: false,
        };
        let verb = Verb::Run(job);
        let sent = self.shared.send(id, verb, &[reader, writer, output]).await;
        running.ended = sent.is_err();
        sent.map(|()| running)
    }

    /// Opens a listening socket, non-blocking; for ports below 1024.
    pub async fn bind(&self, address: SocketAddr) -> Result<TcpListener, HelperError> {
        match self.attached(Verb::Bind(address)).await? {
            (Answer::Bound, Some(listener)) => Ok(listener.into()),
            (answer, _) => Err(unexpected(answer)),
        }
    }

    /// Opens the private key of this number among those the helper was started with.
    pub async fn key(&self, number: usize) -> Result<File, HelperError> {
        match self.attached(Verb::Key(number)).await? {
            (Answer::Opened, Some(file)) => Ok(file.into()),
            (answer, _) => Err(unexpected(answer)),
        }
    }

    /// Asks for what is answered with a descriptor.
    async fn attached(&self, verb: Verb) -> Result<(Answer, Option<OwnedFd>), HelperError> {
        let (id, answer) = self.shared.open()?;
        let sent = self.shared.send(id, verb, &[]).await;
        if sent.is_err() {
            self.shared.forget(id);
        }
        sent?;
        let (answer, attached) = answer.await.map_err(|_| HelperError::Gone)?;
        Ok((answer, attached.into_iter().next()))
    }

    /// Waits until the helper is gone, which happens only by a fault.
    pub async fn gone(&self) {
        // An error means the reader was aborted, with the runtime.
        let _ = self.gone.clone().wait_for(|gone| *gone).await;
    }
}

impl Running {
    /// Says that all of the message is in the pipe and our writing end is closed: the program may
    /// see the end of its input.
    pub async fn finish(&self) -> Result<(), HelperError> {
        self.shared.send(self.id, Verb::Finish, &[]).await
    }

    /// Kills the program, whose end is still to be waited for.
    pub async fn stop(&self) -> Result<(), HelperError> {
        self.shared.send(self.id, Verb::Stop, &[]).await
    }

    /// Waits for the end of the program. Cancel-safe.
    pub async fn exited(&mut self) -> Result<Exit, HelperError> {
        let answer = (&mut self.answer).await;
        self.ended = true;
        match answer {
            Ok((Answer::Exited(exit), _)) => Ok(exit),
            Ok((answer, _)) => Err(unexpected(answer)),
            Err(_) => Err(HelperError::Gone),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.forget(self.id);
        if self.ended {
            return;
        }
        // The socket's buffer holds hundreds of these; if it is full all the same, the program
        // ends by its own time.
        let request = Request {
            id: self.id,
            verb: Verb::Stop,
        };
        let _ = protocol::send(&self.shared.socket, &request, &[]);
    }
}

impl Shared {
    /// Opens a request: its number, and where its answer will arrive.
    fn open(&self) -> Result<(u64, oneshot::Receiver<Answered>), HelperError> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.last += 1;
        let id = waiting.last;
        let open = waiting.open.as_mut().ok_or(HelperError::Gone)?;
        open.insert(id, sender);
        Ok((id, receiver))
    }

    /// Gives up waiting for an answer.
    fn forget(&self, id: u64) {
        if let Some(open) = self.waiting.lock().open.as_mut() {
            open.remove(&id);
        }
    }

    async fn send(
        &self,
        id: u64,
        verb: Verb,
        attached: &[BorrowedFd<'_>],
    ) -> Result<(), HelperError> {
        tracing::trace!(target: "trace::mproc", "smtpd -> helper: {id} {}", shown(&verb));
        let request = Request { id, verb };
        let send = || protocol::send(&self.socket, &request, attached);
        let sent = self.socket.async_io(Interest::WRITABLE, send).await;
        sent.map_err(|cause| match cause.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => HelperError::Gone,
            _ => HelperError::Io(cause.to_string()),
        })
    }

    /// Hands out answers until the helper is gone.
    async fn read(&self) {
        let receive = || protocol::receive::<Reply>(&self.socket);
        while let Ok(Some((reply, attached))) =
            self.socket.async_io(Interest::READABLE, receive).await
        {
            tracing::trace!(
                target: "trace::mproc", "helper -> smtpd: {} {}", reply.id, Brief(&reply.answer)
            );
            let mut waiting = self.waiting.lock();
            let asked = waiting
                .open
                .as_mut()
                .and_then(|open| open.remove(&reply.id));
            if let Some(asked) = asked {
                // Whoever asked may have gone away meanwhile.
                let _ = asked.send((reply.answer, attached));
            }
        }
    }
}

/// An order without what it hands to the program.
fn shown(verb: &Verb) -> String {
    match verb {
        Verb::Run(job) => {
            let program = match &job.program {
                Program::Mailbox { .. } => "mail-mbox",
                Program::File { .. } => "mail-mbox of a file",
                Program::Maildir { .. } => "mail-maildir",
                Program::Lmtp { .. } => "mail-lmtp",
                Program::Shell { .. } => "a shell command",
                Program::Password { .. } => "a check of a password",
                Program::Forward { .. } => "~/.forward",
            };
            format!("run {program} as uid {}", job.uid)
        }
        Verb::Finish => "finish".into(),
        Verb::Stop => "stop".into(),
        Verb::Bind(address) => format!("bind {address}"),
        Verb::Key(number) => format!("open key {number}"),
    }
}

fn unexpected(answer: Answer) -> HelperError {
    match answer {
        Answer::Refused(why) => HelperError::Refused(why),
        Answer::Failed(why) => HelperError::Io(why),
        Answer::Exited(_) | Answer::Bound | Answer::Opened => {
            HelperError::Io("answer to another question".into())
        }
    }
}
