//! Accepts connections and starts a session for each.
//!
//! Promises: never more sessions than the limits allow, over all and per client; an accept that
//! fails is tried again after a pause, not in a spin; `pause smtp` leaves clients in the backlog.

use crate::daemon::Shared;
use crate::session;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections the kernel holds for us while we are busy or paused.
const BACKLOG: i32 = 1024;

/// Pause after a failed accept: descriptors may be free again then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket with the settings of its `listen` directive.
pub struct Listener {
    /// The address as configured.
    pub address: SocketAddr,
    /// The listening socket, not blocking.
    pub socket: std::net::TcpListener,
    /// What its sessions are to know.
    pub listening: Arc<ArcSwap<session::Listening>>,
}

/// Binds a listening socket. Fails with what the system said; the caller knows which directive.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The places sessions take: over all, and per client address.
pub struct Places {
    all: Arc<Semaphore>,
    size: usize,
    per_client: usize,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// A place taken; given back when dropped.
pub struct Place {
    places: Arc<Places>,
    /// None for programs of this host, which are counted per user elsewhere.
    client: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// Places for `all` sessions, `per_client` of them for one address.
    pub fn new(all: usize, per_client: usize) -> Arc<Self> {
        let size = all.min(Semaphore::MAX_PERMITS);
        let all = Arc::new(Semaphore::new(size));
        Arc::new(Self {
            all,
            size,
            per_client,
            clients: Mutex::default(),
        })
    }

    /// Waits until no session is left, once nobody accepts any more.
    pub async fn emptied(&self) {
        let all = u32::try_from(self.size).unwrap_or(u32::MAX);
        let _ = self.all.acquire_many(all).await;
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.all).acquire_owned().await.ok()
    }

    fn take(self: &Arc<Self>, client: IpAddr, permit: OwnedSemaphorePermit) -> Option<Place> {
        let mut clients = self.clients.lock();
        let taken = clients.entry(client).or_default();
        if *taken >= self.per_client {
            return None;
        }
        *taken += 1;
        Some(Place {
            places: Arc::clone(self),
            client: Some(client),
            _permit: permit,
        })
    }

    /// A place for a program of this host, if there is one left.
    pub fn take_local(self: &Arc<Self>) -> Option<Place> {
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Place {
            places: Arc::clone(self),
            client: None,
            _permit: permit,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(client) = self.client else {
            return;
        };
        let mut clients = self.places.clients.lock();
        if let Some(taken) = clients.get_mut(&client) {
            *taken -= 1;
            if *taken == 0 {
                clients.remove(&client);
            }
        }
    }
}

/// Accepts until `stop` turns true. Returns at once then; running sessions go on.
pub async fn run(shared: Arc<Shared>, listener: Listener, mut stop: watch::Receiver<bool>) {
    let socket = match TcpListener::from_std(listener.socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!("smtp listener failed: {error}");
            return;
        }
    };
    let mut paused = shared.smtp_paused.subscribe();
    let accept = async {
        loop {
            if paused.wait_for(|paused| !paused).await.is_err() {
                return;
            }
            let Some(permit) = shared.places.permit().await else {
                return;
            };
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                _ = paused.wait_for(|paused| *paused) => continue,
            };
            match accepted {
                Ok((stream, peer)) => admit(&shared, &listener.listening, permit, stream, peer),
                Err(error) => {
                    tracing::warn!("smtp accept failed: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

fn admit(
    shared: &Arc<Shared>,
    listening: &Arc<ArcSwap<session::Listening>>,
    permit: OwnedSemaphorePermit,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let client = peer.ip().to_canonical();
    if let Some(place) = shared.places.take(client, permit) {
        let (shared, listening) = (Arc::clone(shared), Arc::clone(listening));
        tokio::spawn(session::run(shared, listening, stream, client, place));
    } else {
        tracing::info!("smtp refused address={client} reason=\"too many connections\"");
    }
}
