//! What listeners need to do TLS: certificates by the name a client asks for, and whose
//! certificates clients must show.
//!
//! Promises: a client that asks for a name no certificate has gets the first one, as one that asks
//! for none; a session is resumed at the listener where it began, and nowhere else; with `verify`,
//! no session begins without a good certificate.
//! Fails: with what is wrong, for the line that asks for it.

use super::suites::{limited, versions};
use super::{Loaded, provider};
use redspool_core::config::{Config, Listener};
use rustls::client::verify_server_name;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Makes what a listener with TLS needs.
pub(crate) fn acceptor(
    listener: &Listener,
    config: &Config,
    loaded: &Loaded,
) -> Result<TlsAcceptor, String> {
    let mut pairs = Vec::new();
    for name in &listener.pkis {
        let pair = config.pki_named(name).and_then(|pki| loaded.pair(pki));
        let pair = pair.ok_or_else(|| format!("the pki {name} is not loaded"))?;
        pairs.push((name.clone(), pair));
    }
    let cryptography = match &listener.ciphers {
        Some(suites) => Arc::new(limited(&provider(), suites)),
        None => provider(),
    };
    let builder = ServerConfig::builder_with_provider(cryptography)
        .with_protocol_versions(&versions(listener.protocols.unwrap_or_default()))
        .map_err(|error| error.to_string())?;
    let builder = if listener.verify {
        let roots = roots(listener, config, loaded)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| format!("cannot verify clients: {error}"))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let certificates = Certificates { pairs };
    let made = builder.with_cert_resolver(Arc::new(certificates));
    Ok(TlsAcceptor::from(Arc::new(made)))
}

/// The authorities of clients' certificates: those of `ca`, or the system's.
fn roots(
    listener: &Listener,
    config: &Config,
    loaded: &Loaded,
) -> Result<Arc<RootCertStore>, String> {
    if let Some(name) = &listener.authority {
        let authority = config.authority_named(name);
        let found = authority.and_then(|authority| loaded.authorities(authority));
        return found.ok_or_else(|| format!("the ca {name} is not loaded"));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(
            "the system has no certificates of authorities: install them (on Debian, the \
             package ca-certificates), or name some with ca"
                .into(),
        );
    }
    Ok(Arc::new(roots))
}

/// The certificates of a listener, each with the name of its `pki`; at least one.
#[derive(Debug)]
struct Certificates {
    pairs: Vec<(Box<str>, Arc<CertifiedKey>)>,
}

impl Certificates {
    /// The one for a name: that of the `pki` of this name, else one that holds the name, else the
    /// first.
    fn choose(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let same = |(pki, _): &&(Box<str>, _)| pki.eq_ignore_ascii_case(name);
            let holding = |(_, pair): &&(_, Arc<CertifiedKey>)| holds(pair, name);
            let pairs = || self.pairs.iter();
            pairs().find(same).or_else(|| pairs().find(holding))
        });
        named.or(self.pairs.first()).map(|(_, pair)| pair)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name()).map(Arc::clone)
    }
}

/// Whether a certificate is for this name.
fn holds(pair: &CertifiedKey, name: &str) -> bool {
    let certificate = pair.end_entity_cert().and_then(ParsedCertificate::try_from);
    match (certificate, ServerName::try_from(name)) {
        (Ok(certificate), Ok(name)) => verify_server_name(&certificate, &name).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_pki_types::PrivateKeyDer;

    fn pair(names: &[&str]) -> Arc<CertifiedKey> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let key = provider().key_provider.load_private_key(key).unwrap();
        Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], key))
    }

    #[test]
    fn a_client_gets_the_certificate_it_asks_for() {
        let certificates = Certificates {
            pairs: vec![
                ("first".into(), pair(&["mx.example.org"])),
                ("wild".into(), pair(&["*.example.net"])),
                ("named.example".into(), pair(&["other.example"])),
            ],
        };
        let check = |name: Option<&str>, want: &str| {
            let chosen = certificates.choose(name).unwrap();
            let same = |(_, pair): &&(_, Arc<CertifiedKey>)| Arc::ptr_eq(pair, chosen);
            let (found, _) = certificates.pairs.iter().find(same).unwrap();
            assert_eq!(&**found, want, "{name:?}");
        };
        check(None, "first");
        check(Some("nobody.example"), "first");
        check(Some("mx.example.net"), "wild");
        check(Some("a.mx.example.net"), "first");
        check(Some("Named.Example"), "named.example");
        check(Some("other.example"), "named.example");
    }
}
