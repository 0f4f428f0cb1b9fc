//! Drives an outgoing session: one socket, one machine, orders from the engine.
//!
//! Promises: one `Disconnected` per session, after all outcomes; every wait has a deadline;
//! content passes through in pieces.
//! Absent on purpose: every rule of SMTP (core's `smtp::client`).

use crate::clock::now;
use crate::daemon::Shared;
use crate::inflight::Flight;
use crate::trace;
use bytes::{Bytes, BytesMut};
use redspool_core::engine::{Event as EngineEvent, SessionId};
use redspool_core::envelope::{Relay, Scheme};
use redspool_core::id::MessageId;
use redspool_core::machine::Machine as _;
use redspool_core::queue::{Failure, StoreError};
use redspool_core::reply::Status;
use redspool_core::smtp::Transaction;
use redspool_core::smtp::client::{Action, Client, Event, Params};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

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
    pub relay: Relay,
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
    let failure = match connect(&shared, &call).await {
        Ok(stream) => {
            tracing::info!("{:016x} mta connected", session.0);
            let source = stream.local_addr().ok().map(|address| address.ip());
            let machine = Client::new(params(&shared, &call, source));
            let reading = BytesMut::with_capacity(READ_BUFFER);
            let orders = Some(orders);
            let talk = Talk {
                shared: &shared,
                session,
                machine,
                stream,
                orders,
                reading,
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

fn params(shared: &Shared, call: &Call, source: Option<IpAddr>) -> Params {
    let config = shared.config.load();
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
    Params {
        helo,
        lmtp: is_lmtp(&call.relay),
        limits: Arc::new(config.limits.mta_for(&call.domain).clone()),
        peer: format!("{} ({})", call.target.ip(), call.host).into(),
    }
}

fn is_lmtp(relay: &Relay) -> bool {
    relay
        .host
        .as_ref()
        .is_some_and(|host| host.scheme == Scheme::Lmtp)
}

async fn connect(shared: &Shared, call: &Call) -> Result<TcpStream, Failure> {
    let mut target = call.target;
    if call.relay.host.is_none() {
        target.set_port(shared.mx_port);
    }
    let scheme = if is_lmtp(&call.relay) { "lmtp" } else { "smtp" };
    tracing::info!(
        "{:016x} mta connecting address={scheme}://{target} host={}",
        call.session.0,
        crate::log::Shown(&call.host)
    );
    let wait = shared.limits().mta.connect_timeout;
    let why = match tokio::time::timeout(wait, open(call.source, target)).await {
        Ok(Ok(stream)) => {
            // Commands are answered one by one: waiting to fill a segment only delays.
            let _ = stream.set_nodelay(true);
            return Ok(stream);
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

/// A conversation under way.
struct Talk<'a> {
    shared: &'a Arc<Shared>,
    session: SessionId,
    machine: Client,
    stream: TcpStream,
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
            trace::Outgoing(self.session.0).print(self.machine.transcript());
        }
    }

    async fn next(&mut self) -> Event {
        let deadline = self.machine.deadline();
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
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
            read = self.stream.read_buf(&mut self.reading) => match read {
                Ok(0) => {
                    tracing::trace!(target: "trace::io", "{:016x} mta closed", self.session.0);
                    Event::Closed(None)
                }
                Ok(read) => {
                    tracing::trace!(target: "trace::io", "{:016x} mta read {read}", self.session.0);
                    Event::Received(self.reading.split().freeze())
                }
                Err(error) => {
                    tracing::trace!(
                        target: "trace::io", "{:016x} mta failed: {error}", self.session.0
                    );
                    Event::Closed(Some(error.to_string().into()))
                }
            },
            () = late => {
                tracing::trace!(target: "trace::io", "{:016x} mta timed out", self.session.0);
                Event::TimedOut
            }
        }
    }

    async fn carry_out(&mut self, action: Action) {
        match action {
            Action::Send(bytes) => {
                if let Err(why) = self.send(&bytes).await {
                    self.hand_over(Event::Closed(Some(why)));
                }
            }
            Action::ReadBody(message, index) => {
                let event = self.read_body(message, index).await;
                self.hand_over(event);
            }
            Action::Ready => {
                self.shared
                    .engine
                    .tell(EngineEvent::Ready(self.session))
                    .await;
            }
            Action::Troubled(failure) => {
                let session = self.session;
                self.shared
                    .engine
                    .tell(EngineEvent::Troubled { session, failure })
                    .await;
            }
            Action::Attempted(outcomes) => {
                self.flight = None;
                let session = self.session;
                self.shared
                    .engine
                    .tell(EngineEvent::Attempted { session, outcomes })
                    .await;
            }
            Action::Close(_) => {}
        }
    }

    async fn send(&mut self, bytes: &Bytes) -> Result<(), Box<str>> {
        tracing::trace!(target: "trace::io", "{:016x} mta write {}", self.session.0, bytes.len());
        let wait = self.shared.limits().mta.reply_timeout;
        match tokio::time::timeout(wait, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string().into()),
            Err(_) => Err("timed out while sending".into()),
        }
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
