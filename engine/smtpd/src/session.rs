//! Drives an incoming session: one socket, one machine, answers from the store and the rules.
//!
//! Promises: a commit that was asked for reaches the schedule, whatever happens to the client
//! meanwhile; every wait has a deadline; content beyond memory goes to a nameless file.
//! Absent on purpose: every rule of SMTP (core's `smtp::session`).

use crate::accounts::Accounts;
use crate::clock::now;
use crate::daemon::Shared;
use crate::listener::Place;
use crate::listening;
use crate::log::{Shown, Word};
use crate::offline::Claim;
use crate::recipients;
use crate::replies;
use crate::spoolfile::SpoolFile;
use crate::tls::Wire;
use crate::trace;
use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use redspool_core::addr::Source;
use redspool_core::engine::Event as EngineEvent;
use redspool_core::lookup::Client;
use redspool_core::machine::Machine as _;
use redspool_core::queue::{Body, Receipt, Scheduled, StoreError, Submission, Transition};
use redspool_core::reply::Reply;
use redspool_core::smtp::Credentials;
use redspool_core::smtp::session::{
    Action, Content, Ending, Event, Incoming, Note, Params, Session, Settings, Verdict,
};
use redspool_store::Room;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;

/// Octets read from a client at a time.
const READ_BUFFER: usize = 16 << 10;

/// What the sessions of a listener have in common; replaced when the configuration is re-read.
pub struct Listening {
    /// For the machine.
    pub settings: Arc<Settings>,
    /// Tag of the listener, or empty.
    pub tag: Box<str>,
    /// Whether it is bound to a loopback address: its messages are completed.
    pub local: bool,
    /// How it does TLS, if it does.
    pub tls: Option<TlsAcceptor>,
    /// Whether TLS begins with the connection; `smtps`.
    pub smtps: bool,
    /// Whose passwords are asked for, if any.
    pub users: Option<Accounts>,
}

/// Serves one client.
pub(crate) async fn run(
    shared: Arc<Shared>,
    listening: Arc<ArcSwap<Listening>>,
    stream: TcpStream,
    client: IpAddr,
    _place: Place,
) {
    // Replies are small and awaited: waiting to fill a segment only delays.
    let _ = stream.set_nodelay(true);
    let source = Source::from(client);
    let rdns = shared.resolver.reverse(client).await;
    let listening = listening.load_full();
    let number = shared.draw();
    shared.counters.smtp_opened(source);
    tracing::info!(
        "{number:016x} smtp connected address={source} host={}",
        Shown(&rdns)
    );
    let mut wire = Wire::Clear(stream);
    let mut tls = None;
    if let (true, Some(acceptor)) = (listening.smtps, &listening.tls) {
        match wire
            .secure(acceptor, listening.settings.limits.tls_handshake)
            .await
        {
            Ok(made) => tls = Some(made),
            Err(why) => {
                shared.counters.smtp_closed();
                tracing::info!("{number:016x} smtp tls-error reason=\"{}\"", Shown(&why));
                let ending = Ending::Disconnected.word();
                return tracing::info!("{number:016x} smtp disconnected reason={ending}");
            }
        }
        shared.counters.tls_opened(true);
    }
    let params = Params {
        settings: Arc::clone(&listening.settings),
        tag: listening.tag.clone(),
        source,
        rdns: rdns.into(),
        local: listening.local,
        tls,
        authenticated: false,
        username: "".into(),
        number,
        seed: shared.draw(),
    };
    serve(&shared, params, wire, Some(&listening), None).await;
}

/// Serves a client on this host, who came through the control socket or parked its message.
pub(crate) async fn run_local<S: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared>,
    uid: u32,
    stream: S,
    parked: Option<Claim>,
    _place: Place,
) {
    let listening = listening::socket(&shared.config.load());
    let found = tokio::task::spawn_blocking(move || {
        nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid))
    });
    let user = found.await.ok().and_then(Result::ok).flatten();
    let number = shared.draw();
    shared.counters.smtp_opened(Source::Local);
    tracing::info!("{number:016x} smtp connected address=local uid={uid}");
    let params = Params {
        rdns: listening.settings.hostname.clone(),
        settings: listening.settings,
        tag: listening.tag,
        source: Source::Local,
        local: true,
        tls: None,
        authenticated: true,
        username: user
            .map_or_else(|| uid.to_string(), |user| user.name)
            .into(),
        number,
        seed: shared.draw(),
    };
    serve(&shared, params, Wire::Clear(stream), None, parked).await;
}

/// Drives a session to its end.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Arc<Shared>,
    params: Params,
    stream: Wire<S>,
    listening: Option<&Listening>,
    parked: Option<Claim>,
) {
    let number = params.number;
    let immediate = params.tls.is_some();
    let client = Client {
        source: params.source,
        tag: params.tag.clone(),
        helo: "".into(),
        secure: immediate,
        authenticated: params.authenticated,
        username: params.username.clone(),
    };
    let mut serving = Serving {
        shared,
        number,
        client,
        machine: Session::new(params, now()),
        stream,
        listening,
        stopping: shared.stopping.subscribe(),
        reading: BytesMut::with_capacity(READ_BUFFER),
        file: None,
        room: None,
        parked,
    };
    let ending = serving.run().await;
    if serving.machine.is_secure() {
        shared.counters.tls_closed(immediate);
    }
    shared.counters.smtp_closed();
    tracing::info!("{number:016x} smtp disconnected reason={}", ending.word());
}

struct Serving<'a, S> {
    shared: &'a Arc<Shared>,
    number: u64,
    client: Client,
    machine: Session,
    stream: Wire<S>,
    /// Where the client connected; none for programs of this host.
    listening: Option<&'a Listening>,
    stopping: watch::Receiver<bool>,
    reading: BytesMut,
    file: Option<SpoolFile>,
    /// What is promised to the message that arrives.
    room: Option<Room>,
    /// The parked message that is submitted here.
    parked: Option<Claim>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Serving<'_, S> {
    async fn run(&mut self) -> Ending {
        let sleep = tokio::time::sleep_until(Instant::now().into());
        tokio::pin!(sleep);
        let mut stopped = false;
        loop {
            while let Some(action) = self.machine.poll() {
                if let Action::Close(ending) = action {
                    // A client that does not read would keep us from saying goodbye over TLS.
                    let wait = self.shared.limits().tls_handshake;
                    let _ = tokio::time::timeout(wait, self.stream.shutdown()).await;
                    return ending;
                }
                self.carry_out(action).await;
            }
            let event = self.next(sleep.as_mut(), &mut stopped).await;
            self.hand_over(event);
        }
    }

    fn hand_over(&mut self, event: Event) {
        let traced = trace::Incoming::follow(self.machine.transcript());
        self.machine.handle(now(), event);
        if traced {
            trace::Incoming(self.number).print(self.machine.transcript());
        }
    }

    async fn next(&mut self, mut sleep: std::pin::Pin<&mut Sleep>, stopped: &mut bool) -> Event {
        let deadline = self.machine.deadline().map(tokio::time::Instant::from);
        if let Some(deadline) = deadline
            && sleep.deadline() != deadline
        {
            sleep.as_mut().reset(deadline);
        }
        let wants_input = self.machine.wants_input();
        self.reading.reserve(READ_BUFFER);
        tokio::select! {
            biased;
            read = self.stream.read_buf(&mut self.reading), if wants_input => match read {
                Ok(read) if read > 0 => {
                    tracing::trace!(target: "trace::io", "{:016x} smtp read {read}", self.number);
                    Event::Received(self.reading.split().freeze())
                }
                ended => {
                    tracing::trace!(target: "trace::io", "{:016x} smtp closed {ended:?}", self.number);
                    Event::Closed
                }
            },
            _ = self.stopping.wait_for(|stopping| *stopping), if !*stopped => {
                *stopped = true;
                Event::Stopping
            }
            () = sleep, if deadline.is_some() => {
                tracing::trace!(target: "trace::io", "{:016x} smtp timed out", self.number);
                Event::TimedOut
            }
            else => Event::Closed,
        }
    }

    async fn carry_out(&mut self, action: Action) {
        match action {
            Action::Send(octets) => self.send(&octets).await,
            Action::StartTls => {
                let event = self.start_tls().await;
                self.hand_over(event);
            }
            Action::Authenticate(credentials) => {
                let verdict = self.authenticate(credentials).await;
                self.hand_over(Event::Authenticated(verdict));
            }
            Action::Reserve { octets } => {
                let room = self.shared.queue.room(octets);
                let drawn = room.and_then(|room| {
                    self.room = Some(room);
                    self.shared.ids.draw()
                });
                let claimed = match (drawn, &mut self.parked) {
                    (Ok(id), Some(parked)) => parked.take(id).await,
                    (drawn, _) => drawn,
                };
                let event = match claimed {
                    Ok(id) => Event::Reserved(id),
                    Err(error) => Event::ReserveFailed(replies::for_store(&error)),
                };
                self.hand_over(event);
            }
            Action::Expand { sender, rcpt } => {
                let mut client = self.client.clone();
                client.helo = self.machine.helo().into();
                client.secure = self.machine.is_secure();
                if let Some(user) = self.machine.user() {
                    client.authenticated = true;
                    client.username = user.into();
                }
                let expanded = recipients::expand(self.shared, client, sender, rcpt).await;
                self.hand_over(Event::Expanded(expanded));
            }
            Action::Spool(octets) => {
                let event = self.spool(octets).await;
                self.hand_over(event);
            }
            Action::Commit(incoming) => {
                let event = self.commit(*incoming).await;
                if let (Some(room), Event::Committed) = (self.room.take(), &event) {
                    room.spend();
                }
                self.hand_over(event);
            }
            Action::Discard(_) => (self.file, self.room) = (None, None),
            Action::Log(note) => self.note(&note),
            Action::Close(_) => {}
        }
    }

    async fn send(&mut self, octets: &Bytes) {
        trace::Incoming(self.number).replies(octets);
        tracing::trace!(target: "trace::io", "{:016x} smtp write {}", self.number, octets.len());
        let wait = self.shared.limits().session_timeout;
        let written = async {
            self.stream.write_all(octets).await?;
            // Over TLS, what is written may wait for more.
            self.stream.flush().await
        };
        let event = match tokio::time::timeout(wait, written).await {
            Ok(Ok(())) => return,
            Ok(Err(_)) => Event::Closed,
            Err(_) => Event::TimedOut,
        };
        self.hand_over(event);
    }

    async fn start_tls(&mut self) -> Event {
        let Some(acceptor) = self.listening.and_then(|listening| listening.tls.as_ref()) else {
            return Event::Closed;
        };
        let wait = self.shared.limits().tls_handshake;
        match self.stream.secure(acceptor, wait).await {
            Ok(tls) => {
                self.shared.counters.tls_opened(false);
                Event::Secured(tls)
            }
            Err(why) => {
                let (number, why) = (self.number, Shown(&why));
                tracing::info!("{number:016x} smtp tls-error reason=\"{why}\"");
                Event::Closed
            }
        }
    }

    async fn authenticate(&self, credentials: Credentials) -> Verdict {
        let username = credentials.username.clone();
        let admitted = match self
            .listening
            .and_then(|listening| listening.users.as_ref())
        {
            Some(users) => users.admit(self.shared, credentials).await,
            None => Ok(false),
        };
        let source = self.client.source;
        match admitted {
            Ok(true) => {
                self.shared.guesses.lock().right(source, &username);
                Verdict::Known
            }
            Ok(false) => {
                let limits = self.shared.limits();
                let mut guesses = self.shared.guesses.lock();
                let wait = guesses.wrong(now().mono, source, &username, &limits);
                Verdict::Unknown { wait }
            }
            Err(why) => {
                tracing::warn!("{:016x} smtp password not checked: {why}", self.number);
                Verdict::Failed(replies::not_checked())
            }
        }
    }

    /// Appends to the temporary file, which is made with the first piece.
    async fn spool(&mut self, octets: Bytes) -> Event {
        if let Some(room) = &mut self.room {
            room.fill(octets.len() as u64);
        }
        let file = self.file.take();
        let (directory, name) = (self.shared.spool.clone(), self.shared.draw());
        let written = tokio::task::spawn_blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => SpoolFile::create(&directory, name)?,
            };
            file.write(&octets)?;
            Ok::<_, std::io::Error>(file)
        });
        match written.await {
            Ok(Ok(file)) => {
                self.file = Some(file);
                Event::Spooled
            }
            Ok(Err(error)) => {
                tracing::error!("{:016x} smtp temporary file failed: {error}", self.number);
                Event::SpoolFailed(replies::for_io(&error))
            }
            Err(error) => {
                Event::SpoolFailed(replies::for_store(&StoreError::Io(error.to_string())))
            }
        }
    }

    /// Hands the message to the store and waits for it. The schedule learns of it from the
    /// store's own thread, so it does so even if this task is gone.
    async fn commit(&mut self, incoming: Incoming) -> Event {
        let scheduled: Vec<_> = incoming.envelopes.iter().map(Scheduled::from).collect();
        let body = match (incoming.content, self.file.take()) {
            (Content::Whole(octets), _) => Ok(Body::Whole(octets)),
            (Content::Spooled, Some(file)) => file
                .pieces(Bytes::new())
                .map(|pieces| Body::Pieces(Box::new(pieces))),
            (Content::Spooled, None) => Err(std::io::ErrorKind::NotFound.into()),
        };
        let body = match body {
            Ok(body) => body,
            Err(error) => return Event::CommitFailed(replies::for_io(&error)),
        };
        let large = matches!(body, Body::Pieces(_));
        let submission = Submission {
            message: incoming.message,
            body,
            envelopes: incoming.envelopes,
        };
        let (done, wait) = oneshot::channel();
        let parked = self.parked.take();
        let (engine, queue) = (self.shared.engine.clone(), self.shared.queue.clone());
        let counting = Arc::clone(self.shared);
        let hand_in = move || {
            let incoming = scheduled.len();
            counting.counters.incoming(incoming);
            queue.commit(Transition::Submit(submission), move |receipt| {
                counting.counters.arrived(incoming);
                // Nobody delivers it while its parked copy could be taken for another message.
                let unparked = receipt == Ok(Receipt::Done) && parked.is_none_or(Claim::finish);
                if unparked {
                    engine.tell_blocking(EngineEvent::Queued(scheduled));
                }
                let _ = done.send(receipt);
            });
        };
        // Preparing a large one reads its file.
        if large {
            let _ = tokio::task::spawn_blocking(hand_in).await;
        } else {
            hand_in();
        }
        match wait.await.unwrap_or(Err(StoreError::Poisoned)) {
            Ok(Receipt::Done) => Event::Committed,
            Ok(_) => {
                tracing::error!("{:016x} smtp message id in use", self.number);
                Event::CommitFailed(replies::for_store(&StoreError::Poisoned))
            }
            Err(error) => {
                tracing::error!("{:016x} smtp message not queued: {error}", self.number);
                Event::CommitFailed(replies::for_store(&error))
            }
        }
    }

    fn note(&self, note: &Note) {
        let number = self.number;
        match note {
            Note::Message {
                message,
                size,
                recipients,
                extended,
            } => {
                let protocol = if *extended { "ESMTP" } else { "SMTP" };
                tracing::info!(
                    "{number:016x} smtp message msgid={message} size={size} nrcpt={recipients} \
                     proto={protocol}"
                );
            }
            Note::Envelope {
                envelope,
                sender,
                dest,
            } => tracing::info!(
                "{number:016x} smtp envelope evpid={envelope} from=<{}> to=<{}>",
                sender.as_str(),
                dest.as_str()
            ),
            Note::Tls(tls) => tracing::info!("{number:016x} smtp tls ciphers={tls}"),
            Note::Authentication { username, result } => tracing::info!(
                "{number:016x} smtp authentication user={} result={}",
                Word(username),
                result.word()
            ),
            Note::FailedCommand { command, reply } => tracing::info!(
                "{number:016x} smtp failed-command command=\"{}\" result=\"{}\"",
                command.escape_ascii(),
                Shown(&reply_text(reply))
            ),
        }
    }
}

fn reply_text(reply: &Reply) -> String {
    reply.to_string()
}
