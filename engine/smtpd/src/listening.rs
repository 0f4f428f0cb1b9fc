//! From the `listen on` lines of smtpd.conf to bound sockets.

use crate::accounts::Accounts;
use crate::addresses;
use crate::helper::Helper;
use crate::listener::{Listener, bind};
use crate::session::Listening;
use crate::tls::{self, Loaded};
use arc_swap::ArcSwap;
use redspool_core::config::{self, Config, Family, Interface};
use redspool_core::config::{ListenerAuth, TlsMode};
use redspool_core::limits::Limits;
use redspool_core::smtp::session::{Auth, Settings, Starttls};
use std::net::SocketAddr;
use std::sync::Arc;

/// Name of the software in banners and trace fields.
const SOFTWARE: &str = "redspool";

/// An address to listen on, with what its sessions are to know.
pub struct Endpoint {
    /// Where.
    pub address: SocketAddr,
    /// What they are to know.
    pub listening: Listening,
    /// The line that asks for it, as `file:line`.
    pub place: String,
}

/// The addresses a configuration asks to listen on, with what it names for TLS. Fails with the
/// line and the reason.
pub fn endpoints(config: &Config, loaded: &Loaded) -> Result<Vec<Endpoint>, String> {
    let limits = Arc::new(config.limits.clone());
    let mut endpoints = Vec::new();
    for line in &config.listeners {
        let place = format!("{}:{}", line.place.file, line.place.line);
        let acceptor = if line.tls == TlsMode::Absent {
            None
        } else {
            let made = tls::acceptor(line, config, loaded);
            Some(made.map_err(|why| format!("{place}: {why}"))?)
        };
        let users = line.auth.map(|auth| Accounts::of(auth, config));
        let addresses = match &line.interface {
            Interface::Address(address) => vec![*address],
            Interface::Name(name) => {
                addresses::of(name).map_err(|why| format!("{place}: listen on {name}: {why}"))?
            }
        };
        for address in addresses {
            let wanted = match line.family {
                None => true,
                Some(Family::Inet4) => address.is_ipv4(),
                Some(Family::Inet6) => address.is_ipv6(),
            };
            if wanted {
                endpoints.push(Endpoint {
                    address: SocketAddr::new(address, line.port),
                    listening: Listening {
                        settings: settings(line, &limits),
                        tag: line.tag.clone(),
                        local: address.is_loopback(),
                        tls: acceptor.clone(),
                        smtps: line.tls == TlsMode::Immediate,
                        users: users.clone(),
                    },
                    place: place.clone(),
                });
            }
        }
    }
    Ok(endpoints)
}

fn settings(line: &config::Listener, limits: &Arc<Limits>) -> Arc<Settings> {
    Arc::new(Settings {
        limits: Arc::clone(limits),
        hostname: line.hostname.clone(),
        software: SOFTWARE.into(),
        dsn: !line.no_dsn,
        mask_source: line.mask_source,
        starttls: match line.tls {
            TlsMode::Absent | TlsMode::Immediate => Starttls::Absent,
            TlsMode::Offered => Starttls::Offered,
            TlsMode::Required => Starttls::Required,
        },
        auth: match line.auth {
            None => Auth::Absent,
            Some(ListenerAuth { required: true, .. }) => Auth::Required,
            Some(ListenerAuth { .. }) => Auth::Optional,
        },
        received_auth: line.received_auth,
    })
}

/// What sessions of this host's own programs are to know.
pub fn socket(config: &Config) -> Listening {
    Listening {
        settings: Arc::new(Settings {
            limits: Arc::new(config.limits.clone()),
            hostname: config.names.server.clone(),
            software: SOFTWARE.into(),
            dsn: !config.socket.no_dsn,
            mask_source: config.socket.mask_source,
            starttls: Starttls::Absent,
            auth: Auth::Absent,
            received_auth: false,
        }),
        tag: config.socket.tag.clone(),
        local: true,
        tls: None,
        smtps: false,
        users: None,
    }
}

/// Refuses listeners whose clients are users of the system, if we may not look at those users'
/// passwords. Fails with the line.
pub fn refuse_system_accounts(config: &Config) -> Result<(), String> {
    let asks = |line: &&config::Listener| line.auth.is_some_and(|auth| auth.users.is_none());
    match config.listeners.iter().find(asks) {
        None => Ok(()),
        Some(line) => Err(format!(
            "{}:{}: auth without a table asks for passwords of the system's users, which only \
             root may check: start smtpd as root, or write auth <TABLE> with users and what \
             smtpctl encrypt makes of their passwords",
            line.place.file, line.place.line
        )),
    }
}

/// Binds all addresses of a configuration. Fails with the line, the address and the reason.
pub fn open(config: &Config, loaded: &Loaded) -> Result<Vec<Listener>, String> {
    endpoints(config, loaded)?
        .into_iter()
        .map(open_one)
        .collect()
}

/// Binds one address, with the rights the daemon started with.
fn open_one(endpoint: Endpoint) -> Result<Listener, String> {
    let bound = bind(endpoint.address);
    listener(endpoint, bound)
}

/// Binds one address when the daemon runs: the helper does it if the daemon may not any more.
pub async fn open_later(endpoint: Endpoint, helper: &Helper) -> Result<Listener, String> {
    let bound = match bind(endpoint.address) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => helper
            .bind(endpoint.address)
            .await
            .map_err(std::io::Error::other),
        bound => bound,
    };
    listener(endpoint, bound)
}

fn listener(
    endpoint: Endpoint,
    bound: std::io::Result<std::net::TcpListener>,
) -> Result<Listener, String> {
    let Endpoint {
        address,
        listening,
        place,
    } = endpoint;
    let socket = bound.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "; another program listens there: stop it, or write another port"
            }
            std::io::ErrorKind::PermissionDenied => {
                "; ports below 1024 are for root: start as root, or write a port above 1023"
            }
            _ => "",
        };
        format!("{place}: cannot listen on {address}: {error}{hint}")
    })?;
    Ok(Listener {
        address,
        socket,
        listening: Arc::new(ArcSwap::from_pointee(listening)),
    })
}
