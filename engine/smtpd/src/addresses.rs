//! What the addresses in smtpd.conf mean on this machine: interfaces, names, and our own ones.

use nix::ifaddrs::getifaddrs;
use std::net::{IpAddr, ToSocketAddrs as _};

/// The addresses a `listen on` word stands for: an interface's, the literal's, or the host's, tried
/// in this order. Fails with the reason if it stands for none.
pub fn of(word: &str) -> Result<Vec<IpAddr>, String> {
    let interfaces = interfaces();
    let own: Vec<_> = interfaces
        .iter()
        .filter(|(name, _)| name == word)
        .map(|(_, address)| *address)
        .collect();
    if !own.is_empty() {
        return Ok(own);
    }
    let literal = word.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = literal.trim_start_matches("IPv6:").parse() {
        return Ok(vec![address]);
    }
    let found = (word, 0).to_socket_addrs();
    let found = found.map_err(|error| format!("neither an interface nor a known host: {error}"))?;
    let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    Ok(addresses)
}

/// Every address of this machine.
pub fn own() -> Vec<IpAddr> {
    interfaces()
        .into_iter()
        .map(|(_, address)| address)
        .collect()
}

/// The name of this machine in mail: the first line of the `mailname` file, else the host name.
pub fn server_name() -> String {
    let named = ["/etc/mail/mailname", "/etc/mailname"]
        .into_iter()
        .find_map(|path| {
            let text = std::fs::read_to_string(path).ok()?;
            let name = text.lines().next()?.trim().to_owned();
            (!name.is_empty()).then_some(name)
        });
    let host = || {
        nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
    };
    named
        .or_else(host)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".into())
}

fn interfaces() -> Vec<(String, IpAddr)> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            let v6 = || address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
            Some((interface.interface_name, v4.or_else(v6)?))
        })
        .collect()
}
