//! One connection to the control socket: its place, its requests, its replies.
//!
//! Promises: connections are bounded, per user and over all, and the owner always gets in; a
//! message that has begun must end soon, a reader who stops is given up; bad input is answered
//! with what is wrong, and ends this connection and nothing else.
//! Absent on purpose: what requests mean, and who may ask what.

use crate::access::{Access, Caller};
use crate::log::Brief;
use bytes::{Buf as _, BytesMut};
use parking_lot::Mutex;
use redspool_core::control::frame::FrameError;
use redspool_core::control::{Reply, Request, frame};
use redspool_core::limits::Limits;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Wait for the next request of a client, and for it to take an answer.
const IDLE: Duration = Duration::from_mins(10);

/// Connections per user, so that no user can shut the others out.
#[derive(Default)]
pub(crate) struct Users(Mutex<HashMap<u32, usize>>);

/// A place taken; given back when dropped.
pub(crate) struct Connected {
    users: Arc<Users>,
    uid: u32,
}

impl Users {
    /// Takes a place for a user, or says why there is none.
    pub(crate) fn connect(
        self: &Arc<Self>,
        uid: u32,
        access: &Access,
        limits: &Limits,
    ) -> Result<Connected, &'static str> {
        let mut users = self.0.lock();
        let of = |(user, count): (&u32, &usize)| if access.is_owner(*user) { 0 } else { *count };
        let others: usize = users.iter().map(of).sum();
        if !access.is_owner(uid) && others >= limits.control_connections {
            return Err("too many connections to the control socket");
        }
        let count = users.entry(uid).or_default();
        if *count >= limits.control_connections_per_user {
            return Err("too many connections of this user to the control socket");
        }
        *count += 1;
        Ok(Connected {
            users: Arc::clone(self),
            uid,
        })
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut users = self.users.0.lock();
        if let Some(count) = users.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.uid);
            }
        }
    }
}

/// A connection, and how to answer on it.
pub(crate) struct Peer {
    stream: UnixStream,
    caller: Caller,
    limit: usize,
    timeout: Duration,
    buffer: BytesMut,
}

impl Peer {
    /// A connection of this caller.
    pub(crate) fn new(stream: UnixStream, caller: Caller, limits: &Limits) -> Self {
        Self {
            stream,
            caller,
            limit: limits.control_frame,
            timeout: limits.control_message_timeout,
            buffer: BytesMut::new(),
        }
    }

    /// Octets of a frame, at most.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Who is there.
    pub(crate) fn caller(&self) -> Caller {
        self.caller
    }

    /// Whether nothing was said behind the last request.
    pub(crate) fn is_silent(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The connection itself, for another protocol.
    pub(crate) fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// The next request and its octets; `None` once the client is gone.
    pub(crate) async fn next(&mut self) -> io::Result<Option<(Request, usize)>> {
        let received = receive(&mut self.stream, &mut self.buffer, self.limit, self.timeout).await;
        let uid = self.caller.uid;
        match received {
            Ok(Some((request, octets))) => {
                tracing::trace!(target: "trace::io", "control uid={uid} read {octets}");
                tracing::trace!(target: "trace::imsg", "control <- uid {uid}: {}", Brief(&request));
                Ok(Some((request, octets)))
            }
            Ok(None) => Ok(None),
            Err(Broken::Frame(error)) => {
                let reason = error.to_string();
                self.send(&Reply::Fail { reason }).await?;
                Err(io::Error::other(error))
            }
            Err(Broken::Io(error)) => Err(error),
        }
    }

    /// Waits for work to be done, and says every `interval` meanwhile that it is under way, so that
    /// the client need not take us for dead.
    pub(crate) async fn patiently(
        &mut self,
        interval: Duration,
        work: impl Future<Output = Reply>,
    ) -> io::Result<Reply> {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(interval, work.as_mut()).await {
                Ok(reply) => return Ok(reply),
                Err(_) => self.send(&Reply::Working).await?,
            }
        }
    }

    /// Sends a reply, or a part of one.
    pub(crate) async fn send(&mut self, reply: &Reply) -> io::Result<()> {
        let uid = self.caller.uid;
        let frame = frame::encode(reply, self.limit).map_err(io::Error::other)?;
        tracing::trace!(target: "trace::imsg", "control -> uid {uid}: {}", shown(reply));
        tracing::trace!(target: "trace::io", "control uid={uid} write {}", frame.len());
        match tokio::time::timeout(IDLE, self.stream.write_all(&frame)).await {
            Ok(written) => written,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// A reply without the content of messages, and lists by their length.
fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Piece(octets) => format!("Piece ({} octets)", octets.len()),
        Reply::EnvelopeRows(rows) => format!("EnvelopeRows ({})", rows.len()),
        Reply::MtaRows(rows) => format!("MtaRows ({})", rows.len()),
        other => Brief(other).to_string(),
    }
}

/// Why there is no request.
#[derive(Debug)]
enum Broken {
    /// What came is no frame.
    Frame(FrameError),
    /// Nothing came any more, or not in time.
    Io(io::Error),
}

/// Reads until a request is whole. What has begun must end within `timeout`.
async fn receive<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    limit: usize,
    timeout: Duration,
) -> Result<Option<(Request, usize)>, Broken> {
    let mut begun = None;
    loop {
        if let Some((request, octets)) = frame::decode(buffer, limit).map_err(Broken::Frame)? {
            buffer.advance(octets);
            return Ok(Some((request, octets)));
        }
        let wait = if buffer.is_empty() {
            IDLE
        } else {
            timeout.saturating_sub(begun.get_or_insert_with(Instant::now).elapsed())
        };
        match tokio::time::timeout(wait, stream.read_buf(buffer)).await {
            Ok(Ok(0)) if buffer.is_empty() => return Ok(None),
            Ok(Ok(0)) => return Err(Broken::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Broken::Io(error)),
            Err(_) => return Err(Broken::Io(io::ErrorKind::TimedOut.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access {
            owner: 990,
            operators: None,
        }
    }

    #[test]
    fn the_owner_gets_in_when_strangers_have_taken_every_place() {
        let users = Arc::new(Users::default());
        let limits = Limits {
            control_connections_per_user: 2,
            control_connections: 3,
            ..Limits::default()
        };
        let connect = |uid| users.connect(uid, &access(), &limits);
        let taken: Vec<_> = [1000, 1000, 1001].map(connect).into_iter().collect();
        assert!(taken.iter().all(Result::is_ok));
        let refused = |uid| connect(uid).err();
        assert_eq!(
            refused(1002),
            Some("too many connections to the control socket")
        );
        let owners: Vec<_> = [0, 0, 990, 990].map(connect).into_iter().collect();
        assert!(owners.iter().all(Result::is_ok));
        assert_eq!(
            refused(0),
            Some("too many connections of this user to the control socket")
        );
        drop(taken);
        assert_eq!(refused(1002), None);
        drop(owners);
        assert!(users.0.lock().is_empty());
    }

    async fn received(octets: &[u8], ended: bool) -> Result<Option<(Request, usize)>, Broken> {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(octets).await.unwrap();
        let kept = (!ended).then_some(theirs);
        let mut buffer = BytesMut::new();
        let wait = Duration::from_millis(1);
        let received = receive(&mut ours, &mut buffer, 100, wait).await;
        drop(kept);
        received
    }

    #[tokio::test]
    async fn a_message_that_does_not_end_is_given_up() {
        let whole = frame::encode(&Request::ShowStatus, 100).unwrap();
        let got = received(&whole, false).await.unwrap();
        assert_eq!(got, Some((Request::ShowStatus, whole.len())));
        for end in 1..whole.len() {
            let Err(Broken::Io(error)) = received(&whole[..end], false).await else {
                panic!("{end} octets are no message");
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{end}");
            let Err(Broken::Io(error)) = received(&whole[..end], true).await else {
                panic!("{end} octets are no message");
            };
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{end}");
        }
        assert!(received(&[], true).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_no_message_is_told_at_once() {
        for octets in [
            &[255; 8][..],
            &[0, 0, 0, 0],
            &[2, 0, 0, 0, frame::VERSION + 1, 3],
            &[3, 0, 0, 0, frame::VERSION, 255, 255],
        ] {
            let received = received(octets, false).await;
            assert!(matches!(received, Err(Broken::Frame(_))), "{octets:?}");
        }
    }

    #[tokio::test]
    async fn long_work_gives_signs_of_life() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let caller = Caller { uid: 0, gid: 0 };
        let mut peer = Peer::new(ours, caller, &Limits::default());
        let (done, wait) = tokio::sync::oneshot::channel();
        let client = tokio::spawn(async move {
            let want = frame::encode(&Reply::Working, 100).unwrap();
            let mut got = vec![0; want.len()];
            theirs.read_exact(&mut got).await.unwrap();
            assert_eq!(got, want);
            done.send(()).unwrap();
            theirs
        });
        let work = async {
            wait.await.unwrap();
            Reply::Done
        };
        let reply = peer.patiently(Duration::from_millis(1), work).await;
        assert_eq!(reply.unwrap(), Reply::Done);
        client.await.unwrap();
    }

    #[test]
    fn content_is_not_shown() {
        let piece = Reply::Piece(b"secret".to_vec());
        assert_eq!(shown(&piece), "Piece (6 octets)");
        assert_eq!(shown(&Reply::Done), "Done");
    }
}
