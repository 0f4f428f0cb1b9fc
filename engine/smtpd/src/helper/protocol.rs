//! What the daemon and its helper say to each other: one datagram a request or answer, with the
//! descriptors it needs attached.
//!
//! Promises: a datagram holds exactly one value, at most [`DATAGRAM_MAX`] octets and
//! [`DESCRIPTORS_MAX`] descriptors; anything else is an error of the connection. Received
//! descriptors are close-on-exec.
//! Absent on purpose: anything remote. Addresses of mail appear as values of the environment of a
//! [`Job`] and nowhere else.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// Octets of a datagram: well above a command (2 KiB) with its environment.
pub const DATAGRAM_MAX: usize = 32 << 10;

/// Descriptors of a datagram: a job takes three.
pub const DESCRIPTORS_MAX: usize = 3;

/// A request of the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Number for the answer, or the number of the job that is meant.
    pub id: u64,
    /// What to do.
    pub verb: Verb,
}

/// What the helper can do.
#[derive(Debug, Serialize, Deserialize)]
pub enum Verb {
    /// Run a program; answered when it has ended. Comes with three descriptors: standard input,
    /// the writing end of that same pipe, and the output.
    ///
    /// The helper keeps the writing end open until [`Verb::Finish`], so that a program never takes
    /// the death of the daemon for the end of the message.
    Run(Job),
    /// All of the message is in the pipe of this job.
    Finish,
    /// Kill the programs of this job.
    Stop,
    /// Open a listening TCP socket; answered with it.
    Bind(SocketAddr),
    /// Open the private key of this number among those the helper was started with; answered with
    /// it.
    Key(usize),
}

/// A program to run, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Which program.
    pub program: Program,
    /// The user to run as.
    pub uid: u32,
    /// The only group to run with.
    pub gid: u32,
    /// Directory to run in; `/` if it cannot be entered.
    pub home: PathBuf,
    /// The whole environment, in the names of [`ENVIRONMENT`].
    pub environment: Vec<(String, String)>,
    /// Life of the program; after it, its process group is killed.
    pub timeout: Duration,
}

/// The programs there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// `mail-mbox` on the system mailbox of a user.
    Mailbox {
        /// Name of the user.
        user: String,
    },
    /// `mail-mbox` on a file.
    File {
        /// Absolute path.
        path: PathBuf,
    },
    /// `mail-maildir`.
    Maildir {
        /// Absolute path.
        path: PathBuf,
    },
    /// `mail-lmtp`.
    Lmtp {
        /// `host:port`, or an absolute path.
        dest: String,
        /// Whether RCPT is the full address instead of the user name.
        rcpt_to: bool,
    },
    /// `/bin/sh -c`.
    Shell {
        /// The command line.
        command: String,
    },
    /// Ask whether standard input is the password of a user of the system, as root (see
    /// [`super::password`]).
    Password {
        /// Name of the user.
        user: String,
    },
    /// Print `.forward` in the home directory (see [`super::forward`]).
    Forward {
        /// Most octets to print.
        limit: usize,
    },
}

/// Names a program may find in its environment (spec/smtpd.md 5.5).
pub const ENVIRONMENT: [&str; 11] = [
    "PATH",
    "SHELL",
    "HOME",
    "LOGNAME",
    "USER",
    "SENDER",
    "RECIPIENT",
    "ORIGINAL_RECIPIENT",
    "DOMAIN",
    "LOCAL",
    "EXTENSION",
];

/// An answer of the helper.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    /// Number of the request.
    pub id: u64,
    /// What came of it.
    pub answer: Answer,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The program has ended.
    Exited(Exit),
    /// The socket is attached.
    Bound,
    /// The file is attached.
    Opened,
    /// It could not be done now: the system's reason.
    Failed(String),
    /// It will never be done: what is wrong with the request.
    Refused(String),
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Killed, because its time was over.
    TimedOut,
    /// Killed, because the daemon asked for it.
    Stopped,
}

/// Sends one value.
pub fn send(socket: impl AsFd, value: &impl Serialize, attached: &[BorrowedFd]) -> io::Result<()> {
    let datagram = postcard::to_stdvec(value).map_err(io::Error::other)?;
    if datagram.len() > DATAGRAM_MAX || attached.len() > DESCRIPTORS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !attached.is_empty() && !control.push(SendAncillaryMessage::ScmRights(attached)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let pieces = [IoSlice::new(&datagram)];
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &pieces, &mut control, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one value with its descriptors; `None` if the other side is gone.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut datagram = vec![0; DATAGRAM_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut datagram)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    });
    let received = match received {
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        received => received?,
    };
    let mut attached = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            attached.extend(descriptors);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let datagram = datagram.get(..received.bytes).unwrap_or_default();
    match postcard::take_from_bytes(datagram) {
        Ok((value, [])) => Ok(Some((value, attached))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};

    fn pair() -> (OwnedFd, OwnedFd) {
        rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap()
    }

    #[test]
    fn values_arrive_with_their_descriptors_close_on_exec() {
        let (here, there) = pair();
        let (reader, writer) = io::pipe().unwrap();
        let request = Request {
            id: 7,
            verb: Verb::Finish,
        };
        send(&here, &request, &[reader.as_fd(), writer.as_fd()]).unwrap();
        let (request, attached) = receive::<Request>(&there).unwrap().unwrap();
        assert!(matches!(
            request,
            Request {
                id: 7,
                verb: Verb::Finish
            }
        ));
        assert_eq!(attached.len(), 2);
        for descriptor in &attached {
            let flags = rustix::io::fcntl_getfd(descriptor).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn what_is_not_exactly_one_value_is_an_error() {
        let (here, there) = pair();
        let good = postcard::to_stdvec(&Reply {
            id: 1,
            answer: Answer::Bound,
        })
        .unwrap();
        let mut long = good.clone();
        long.push(0);
        let short = &good[..good.len() - 1];
        for datagram in [short, &long, &[0xff; 64], &vec![0; DATAGRAM_MAX + 1]] {
            rustix::io::write(&here, datagram).unwrap();
            let kind = receive::<Reply>(&there).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::InvalidData);
        }
        drop(here);
        assert!(receive::<Reply>(&there).unwrap().is_none());
    }
}
