//! Drives an outgoing session: one socket, one machine, orders from the engine.
//!
//! Promises: one `Disconnected` per session, after all outcomes; every wait has a deadline;
//! content passes through in pieces.
//! Absent on purpose: every rule of SMTP (core's `smtp::client`).

use crate::clock::now;
use crate::daemon::Shared;
use crate::inflight::Flight;
use crate::resolver::ascii;
use crate::tls::client::{Peer, Proof, Secured};
use crate::trace;
use bytes::{Bytes, BytesMut};
use redspool_core::dane::{self, Demand, Tlsa};
use redspool_core::engine::{Event as EngineEvent, SessionId};
use redspool_core::envelope::{Relay, Scheme};
use redspool_core::id::MessageId;
use redspool_core::machine::Machine as _;
use redspool_core::queue::{Failure, StoreError};
use redspool_core::reply::Status;
use redspool_core::smtp::Transaction;
use redspool_core::smtp::client::{Action, Client, Event, Params};
use redspool_core::sts::{self, Ruling};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout, timeout_at};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// Room for what a peer says in one go.
const READ_BUFFER: usize = 4096;

/// Whom to call.
pub(crate) struct Call {
    /// Number for the events.
    pub session: SessionId,
    /// Local address; `None` if the system chooses.
    pub source: Option<IpAddr>,
    /// Where to.
    pub target: SocketAddr,
    /// Name of the host, for the log.
    pub host: Box<str>,
    /// Whose limits hold: the domain, or the smart host's name.
    pub domain: Box<str>,
    /// Protocol and names to use.
    pub relay: Arc<Relay>,
}

/// What the engine wants of a session that is ready.
pub(crate) enum Order {
    /// Send a message.
    Transfer(Transaction),
    /// Say goodbye.
    Quit,
}

/// Calls, sends what is ordered, and reports how it went.
pub(crate) async fn run(shared: Arc<Shared>, call: Call, orders: mpsc::Receiver<Order>) {
    let session = call.session;
    let failure = match begin(&shared, &call).await {
        Ok((stream, params, terms)) => {
            let Terms {
                name,
                records,
                ruling,
            } = terms;
            let talk = Talk {
                shared: &shared,
                call: &call,
                verify: params.tls.verifies(),
                machine: Client::new(params),
                name,
                records,
                ruling,
                proof: None,
                stream: Some(Either::Left(stream)),
                orders: Some(orders),
                reading: BytesMut::with_capacity(READ_BUFFER),
                left: 0,
                flight: None,
            };
            talk.run().await
        }
        Err(failure) => Some(failure),
    };
    if let Some(failure) = &failure {
        tracing::info!(
            "{:016x} mta error reason=\"{}\"",
            session.0,
            crate::log::Shown(&failure.text)
        );
    }
    shared
        .engine
        .tell(EngineEvent::Disconnected { session, failure })
        .await;
}

/// What the host must prove.
struct Terms {
    /// The name its certificate is to be for.
    name: Box<str>,
    /// TLSA records that its certificate must match, if there are any.
    records: Vec<Tlsa>,
    /// What the policy of the domain asks for.
    ruling: Ruling,
}

/// Connects, and finds what the session needs to know.
async fn begin(shared: &Shared, call: &Call) -> Result<(TcpStream, Params, Terms), Failure> {
    let Demand { tls, records, name } = by_dane(shared, call).await?;
    // RFC 8461 section 2: where TLSA records prove the host, no policy has a say.
    let ruling = if records.is_empty() {
        by_policy(shared, call).await?
    } else {
        Ruling::Free
    };
    let (stream, source) = connect(shared, call).await?;
    let params = Params {
        tls: ruling.tls(tls),
        ..params(shared, call, source)?
    };
    let terms = Terms {
        name,
        records,
        ruling,
    };
    Ok((stream, params, terms))
}

/// What the connection must be, by the relay's options and what the DNS says of the host.
async fn by_dane(shared: &Shared, call: &Call) -> Result<Demand, Failure> {
    if !dane::applies(&call.relay) {
        return Ok(Demand::plain(&call.relay, &call.host));
    }
    let mut target = call.target;
    target.set_port(shared.mx_port);
    let limits = shared.limits();
    let (wait, dane) = (limits.mta.reply_timeout, limits.dane);
    let asked = shared
        .dnssec
        .tlsa(&call.domain, &call.host, target, dane.retry);
    let found = timeout(wait, asked).await;
    let found = found.unwrap_or_else(|_| dane::Found::Failed("the DNS does not answer".into()));
    dane::demand(&call.relay, &call.host, found, &dane)
}

/// What the policy of the domain asks of the connection.
async fn by_policy(shared: &Shared, call: &Call) -> Result<Ruling, Failure> {
    if !sts::applies(&call.relay) {
        return Ok(Ruling::Free);
    }
    let found = shared.policies.find(shared, &call.domain).await;
    let ruling = sts::rule(&call.relay, &call.domain, &ascii(&call.host), &found)?;
    if ruling == Ruling::Enforced {
        tracing::info!("{:016x} mta mta-sts mode=enforce", call.session.0);
    }
    Ok(ruling)
}

fn params(shared: &Shared, call: &Call, source: Option<IpAddr>) -> Result<Params, Failure> {
    let config = shared.config.load();
    let credentials = match call.relay.credentials() {
        None => None,
        Some((name, label)) => {
            let table = config.table_named(name);
            let secret = table.and_then(|named| named.table().secret(label));
            let missing = || {
                let text = format!("no credentials for `{label}` in the table `{name}`");
                Failure::new(Status::transient(3, 5), text)
            };
            Some(secret.ok_or_else(missing)?)
        }
    };
    let table = config.table_named(&call.relay.helo_src);
    let by_source = source.zip(table).and_then(|(source, table)| {
        let name = table.table().heloname(source.to_canonical());
        name.map(Box::from)
    });
    let helo = if let Some(name) = by_source {
        name
    } else if call.relay.helo.is_empty() {
        config.names.server.clone()
    } else {
        call.relay.helo.clone()
    };
    Ok(Params {
        helo,
        lmtp: call.relay.scheme() == Scheme::Lmtp,
        tls: call.relay.tls(),
        credentials,
        limits: Arc::new(config.limits.mta_for(&call.domain).clone()),
        peer: format!("{} ({})", call.target.ip(), call.host).into(),
    })
}

/// Connects, and tells the engine from which local address.
async fn connect(shared: &Shared, call: &Call) -> Result<(TcpStream, Option<IpAddr>), Failure> {
    let mut target = call.target;
    if call.relay.host.is_none() {
        target.set_port(shared.mx_port);
    }
    let scheme = call.relay.scheme().word();
    tracing::info!(
        "{:016x} mta connecting address={scheme}://{target} host={}",
        call.session.0,
        crate::log::Shown(&call.host)
    );
    let wait = shared.limits().mta.connect_timeout;
    let why = match timeout(wait, open(call.source, target)).await {
        Ok(Ok(stream)) => {
            // Commands are answered one by one: waiting to fill a segment only delays.
            let _ = stream.set_nodelay(true);
            tracing::info!("{:016x} mta connected", call.session.0);
            let source = stream.local_addr().ok().map(|address| address.ip());
            if let Some(source) = source {
                let session = call.session;
                let event = EngineEvent::Connected { session, source };
                shared.engine.tell(event).await;
            }
            return Ok((stream, source));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "connection timed out".into(),
    };
    Err(Failure::new(
        Status::transient(4, 1),
        format!("Network error: {target}: {why}"),
    ))
}

/// Connects, from a certain local address if one is given.
async fn open(source: Option<IpAddr>, target: SocketAddr) -> io::Result<TcpStream> {
    let Some(source) = source else {
        return TcpStream::connect(target).await;
    };
    let socket = match source {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    let bound = socket.bind(SocketAddr::new(source, 0));
    bound.map_err(|error| {
        let text = format!("cannot connect from {source}: {error}");
        io::Error::new(error.kind(), text)
    })?;
    socket.connect(target).await
}

/// A connection, in clear text or with TLS.
type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// A conversation under way.
struct Talk<'a> {
    shared: &'a Arc<Shared>,
    call: &'a Call,
    machine: Client,
    /// Gone after a handshake that failed, until there is another one.
    stream: Option<Stream>,
    /// The name the host's certificate is to be for.
    name: Box<str>,
    /// TLSA records that the host's certificate must match, if there are any.
    records: Vec<Tlsa>,
    /// What the policy of the domain asks for.
    ruling: Ruling,
    /// Whether authorities must vouch for the host.
    verify: bool,
    /// What its certificate proves, once there is TLS.
    proof: Option<Proof>,
    /// Gone once the engine is.
    orders: Option<mpsc::Receiver<Order>>,
    reading: BytesMut,
    /// Octets of the message at hand that were not read yet.
    left: u64,
    /// Notes which message that is.
    flight: Option<Flight>,
}

impl Talk<'_> {
    async fn run(mut self) -> Option<Failure> {
        self.hand_over(Event::Connected);
        loop {
            while let Some(action) = self.machine.poll() {
                if let Action::Close(failure) = action {
                    return failure;
                }
                self.carry_out(action).await;
            }
            let event = self.next().await;
            self.hand_over(event);
        }
    }

    fn hand_over(&mut self, event: Event) {
        let traced = trace::Outgoing::follow(self.machine.transcript());
        self.machine.handle(now(), event);
        if traced {
            trace::Outgoing(self.call.session.0).print(self.machine.transcript());
        }
    }

    async fn next(&mut self) -> Event {
        let deadline = self.machine.deadline();
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let order = async {
            match &mut self.orders {
                Some(orders) => orders.recv().await,
                None => std::future::pending().await,
            }
        };
        self.reading.reserve(READ_BUFFER);
        let read = async {
            match &mut self.stream {
                Some(stream) => stream.read_buf(&mut self.reading).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            order = order => match order {
                Some(Order::Transfer(transaction)) => {
                    self.left = transaction.size;
                    self.flight = Some(self.shared.inflight.begin(transaction.message));
                    Event::Assigned(transaction)
                }
                Some(Order::Quit) => Event::QuitRequested,
                None => {
                    self.orders = None;
                    Event::QuitRequested
                }
            },
            read = read => match read {
                Ok(0) => {
                    tracing::trace!(target: "trace::io", "{:016x} mta closed", self.call.session.0);
                    Event::Closed(None)
                }
                Ok(read) => {
                    tracing::trace!(target: "trace::io", "{:016x} mta read {read}", self.call.session.0);
                    Event::Received(self.reading.split().freeze())
                }
                Err(error) => {
                    tracing::trace!(
                        target: "trace::io", "{:016x} mta failed: {error}", self.call.session.0
                    );
                    Event::Closed(Some(error.to_string().into()))
                }
            },
            () = late => {
                tracing::trace!(target: "trace::io", "{:016x} mta timed out", self.call.session.0);
                Event::TimedOut
            }
        }
    }

    async fn carry_out(&mut self, action: Action) {
        let session = self.call.session;
        match action {
            Action::Send(bytes) => self.send(&bytes).await,
            Action::SendHidden(hidden) => self.send(hidden.reveal()).await,
            Action::StartTls => self.start_tls().await,
            Action::Reconnect => self.reconnect().await,
            Action::ReadBody(message, index) => {
                let event = self.read_body(message, index).await;
                self.hand_over(event);
            }
            Action::Ready => {
                self.try_out();
                self.shared.engine.tell(EngineEvent::Ready(session)).await;
            }
            Action::Troubled(failure) => {
                self.shared
                    .engine
                    .tell(EngineEvent::Troubled { session, failure })
                    .await;
            }
            Action::Attempted(outcomes) => {
                self.flight = None;
                self.shared
                    .engine
                    .tell(EngineEvent::Attempted { session, outcomes })
                    .await;
            }
            Action::Close(_) => {}
        }
    }

    async fn send(&mut self, bytes: &Bytes) {
        let session = self.call.session.0;
        tracing::trace!(target: "trace::io", "{session:016x} mta write {}", bytes.len());
        let wait = self.shared.limits().mta.reply_timeout;
        let Some(stream) = &mut self.stream else {
            return;
        };
        let written = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        let why = match timeout(wait, written).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "timed out while sending".into(),
        };
        self.hand_over(Event::Closed(Some(why.into())));
    }

    /// Shakes hands, and tells the engine what the connection is worth.
    async fn start_tls(&mut self) {
        let (shared, call) = (self.shared, self.call);
        let Some(Either::Left(stream)) = self.stream.take() else {
            return self.hand_over(Event::Unsecured("the connection is gone".into()));
        };
        self.reading.clear();
        let clients = shared.tls_clients.load_full();
        let (config, loaded) = (shared.config.load_full(), shared.tls.load_full());
        let files = (&*config, &*loaded);
        let peer = Peer {
            name: &self.name,
            domain: &call.domain,
            records: &self.records,
            verify: self.verify,
        };
        let shaken = clients.handshake(stream, peer, &call.relay, files);
        let secured = match self.machine.deadline() {
            Some(deadline) => timeout_at(deadline.into(), shaken).await,
            None => Ok(shaken.await),
        };
        let event = match secured {
            Ok(Ok(secured)) => self.secured(secured).await,
            Ok(Err(why)) => self.unsecured(why),
            Err(_) => self.unsecured("timed out".into()),
        };
        self.hand_over(event);
    }

    async fn secured(&mut self, secured: Secured) -> Event {
        let Secured {
            stream,
            ciphers,
            proof,
        } = secured;
        let session = self.call.session;
        let result = match (proof, self.ruling) {
            (Proof::Valid, Ruling::Enforced) => "mta-sts",
            _ => proof.word(),
        };
        self.proof = Some(proof);
        tracing::info!("{:016x} mta tls ciphers={ciphers}", session.0);
        tracing::info!("{:016x} mta cert-check result=\"{result}\"", session.0);
        self.stream = Some(Either::Right(stream));
        let tls = format!("{ciphers}:{result}").into();
        let event = EngineEvent::Secured { session, tls };
        self.shared.engine.tell(event).await;
        Event::Secured
    }

    /// Tells once what the policy would have said that is tried out.
    fn try_out(&mut self) {
        let ruling = std::mem::replace(&mut self.ruling, Ruling::Free);
        let proven = self.proof.is_some_and(|proof| proof != Proof::Unverified);
        if let Some(fault) = ruling.fault(self.proof.is_some(), proven) {
            tracing::warn!(
                "{:016x} mta mta-sts mode=testing host={} would-fail=\"{fault}\"",
                self.call.session.0,
                crate::log::Shown(&self.call.host)
            );
        }
    }

    fn unsecured(&self, why: String) -> Event {
        let shown = crate::log::Shown(&why);
        tracing::info!(
            "{:016x} mta tls failed reason=\"{shown}\"",
            self.call.session.0
        );
        Event::Unsecured(why.into())
    }

    async fn reconnect(&mut self) {
        self.reading.clear();
        self.stream = None;
        let event = match connect(self.shared, self.call).await {
            Ok((stream, _)) => {
                self.stream = Some(Either::Left(stream));
                Event::Connected
            }
            Err(failure) => Event::Closed(Some(failure.text)),
        };
        self.hand_over(event);
    }

    async fn read_body(&mut self, message: MessageId, index: u32) -> Event {
        let shared = Arc::clone(self.shared);
        let read = tokio::task::spawn_blocking(move || shared.queue.reader().body(message, index));
        let failed = |text: String| Event::BodyFailed(Failure::new(Status::transient(3, 0), text));
        match read.await {
            Ok(Ok(Some(bytes))) => {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Event::Body {
                    bytes,
                    last: self.left == 0,
                }
            }
            Ok(Ok(None)) if self.left == 0 => Event::Body {
                bytes: Bytes::new(),
                last: true,
            },
            Ok(Ok(None)) => failed("content is shorter than it should be, or was removed".into()),
            Ok(Err(error)) => {
                if let StoreError::Corrupt { reason, .. } = &error {
                    crate::drivers::set_aside(self.shared, message, reason);
                }
                failed(format!("content cannot be read: {error}"))
            }
            Err(error) => failed(error.to_string()),
        }
    }
}
