//! From the `listen on` lines of smtpd.conf to bound sockets.

use crate::addresses;
use crate::helper::Helper;
use crate::listener::{Listener, bind};
use crate::session::Listening;
use arc_swap::ArcSwap;
use redspool_core::config::{self, Config, Family, Interface};
use redspool_core::limits::Limits;
use redspool_core::smtp::session::Settings;
use std::net::{IpAddr, SocketAddr};
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

/// The addresses a configuration asks to listen on. Fails with the line and the reason.
pub fn endpoints(config: &Config) -> Result<Vec<Endpoint>, String> {
    let limits = Arc::new(config.limits.clone());
    let mut endpoints = Vec::new();
    for line in &config.listeners {
        let place = format!("{}:{}", line.place.file, line.place.line);
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
                    listening: listening(line, address, &limits),
                    place: place.clone(),
                });
            }
        }
    }
    Ok(endpoints)
}

fn listening(line: &config::Listener, address: IpAddr, limits: &Arc<Limits>) -> Listening {
    let settings = Settings {
        limits: Arc::clone(limits),
        hostname: line.hostname.clone(),
        software: SOFTWARE.into(),
        dsn: !line.no_dsn,
        mask_source: line.mask_source,
    };
    Listening {
        settings: Arc::new(settings),
        tag: line.tag.clone(),
        local: address.is_loopback(),
    }
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
        }),
        tag: config.socket.tag.clone(),
        local: true,
    }
}

/// Binds all addresses of a configuration. Fails with the line, the address and the reason.
pub fn open(config: &Config) -> Result<Vec<Listener>, String> {
    endpoints(config)?.into_iter().map(open_one).collect()
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
