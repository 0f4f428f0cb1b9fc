//! TLS of outgoing sessions: what a relay asks for, the handshake, what the certificate proves.
//!
//! Promises: a relay that verifies talks to nobody whose certificate does not lead to an authority
//! it trusts, or does not bear the host's name; one that does not verify takes any certificate and
//! says what that was worth.
//! Absent on purpose: whether TLS is asked for, and what follows on a failure (core's
//! `smtp::client`).
//! Fails: with the text for the log and the envelope.

use super::dane::Judge;
use super::suites::{describe, limited, versions};
use super::{Loaded, provider};
use parking_lot::Mutex;
use redspool_core::config::Config;
use redspool_core::dane::Tlsa;
use redspool_core::envelope::{Relay, Security, Stance, TlsRule};
use redspool_core::tls::{Protocols, Suites};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use ureq::tls::RootCerts;

/// Configurations kept at a time; each is one combination of options of an action.
const KEPT: usize = 64;

/// What decides how a client behaves: whether it verifies, and its options.
type Key = (bool, Security);

/// A client, and what its servers are held against.
#[derive(Clone)]
struct Client {
    config: Arc<ClientConfig>,
    /// None if there is no authority to trust.
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

/// Clients for all relays of one configuration.
pub struct Clients {
    provider: Arc<CryptoProvider>,
    /// The system's authorities.
    native: Arc<RootCertStore>,
    /// The same as they were read.
    authorities: Vec<CertificateDer<'static>>,
    made: Mutex<BTreeMap<Key, Client>>,
}

/// A connection with TLS, and what it is worth.
pub(crate) struct Secured {
    pub stream: TlsStream<TcpStream>,
    /// Version, cipher suite and its bits, as `TLSv1.3:TLS_AES_256_GCM_SHA384:256`.
    pub ciphers: String,
    /// What the certificate proves.
    pub proof: Proof,
}

/// What a server's certificate proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// That it is the host the DNS names, by a TLSA record.
    Dane,
    /// The host's name, by an authority.
    Valid,
    /// Nothing.
    Unverified,
}

impl Proof {
    /// The word of the log.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Dane => "dane",
            Self::Valid => "valid",
            Self::Unverified => "unverified",
        }
    }
}

/// Whom a connection is to.
pub(crate) struct Peer<'p> {
    /// The name to ask for: the host's, or the one its TLSA records are of (RFC 7672 section 8.1).
    pub name: &'p str,
    /// The domain whose exchanger it is.
    pub domain: &'p str,
    /// Its usable TLSA records; if there is none, authorities count.
    pub records: &'p [Tlsa],
    /// Whether authorities must vouch for it.
    pub verify: bool,
}

impl Clients {
    /// Reads the system's authorities.
    pub fn new() -> Self {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!("tls authorities of the system: {error}");
        }
        let mut native = RootCertStore::empty();
        let (_, unusable) = native.add_parsable_certificates(found.certs.iter().cloned());
        if unusable > 0 {
            tracing::debug!("tls authorities of the system: {unusable} cannot be used");
        }
        Self {
            provider: provider(),
            native: Arc::new(native),
            authorities: found.certs,
            made: Mutex::default(),
        }
    }

    /// The system's authorities, for HTTPS.
    pub(crate) fn authorities(&self) -> RootCerts {
        let read = self.authorities.iter();
        read.map(|read| ureq::tls::Certificate::from_der(read).to_owned())
            .into()
    }

    /// Shakes hands with a host, as the relay's options say.
    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        peer: Peer<'_>,
        relay: &Relay,
        files: (&Config, &Loaded),
    ) -> Result<Secured, String> {
        let name = ServerName::try_from(peer.name.to_owned())
            .map_err(|_| format!("`{}` is not a name to verify", peer.name.escape_debug()))?;
        let by_dane = !peer.records.is_empty();
        let client = if by_dane {
            let names = ServerName::try_from(peer.domain.to_owned()).into_iter();
            let judge = Judge {
                provider: Arc::clone(&self.provider),
                records: peer.records.to_vec(),
                names: names.collect(),
            };
            Client {
                config: self.config(Arc::new(judge), &relay.security, files)?,
                verifier: None,
            }
        } else {
            self.client(relay, peer.verify, files)?
        };
        let connector = TlsConnector::from(Arc::clone(&client.config));
        let stream = connector.connect(name.clone(), stream).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let (_, connection) = stream.get_ref();
        let proof = match (connection.peer_certificates(), &client.verifier) {
            (Some([first, rest @ ..]), Some(verifier)) => {
                let at = UnixTime::now();
                let proof = verifier.verify_server_cert(first, rest, &name, &[], at);
                if proof.is_ok() {
                    Proof::Valid
                } else {
                    Proof::Unverified
                }
            }
            _ if by_dane => Proof::Dane,
            _ => Proof::Unverified,
        };
        let ciphers = describe(connection, proof != Proof::Unverified).to_string();
        Ok(Secured {
            stream,
            ciphers,
            proof,
        })
    }

    /// The client for a relay, made if it is not there.
    fn client(
        &self,
        relay: &Relay,
        verify: bool,
        files: (&Config, &Loaded),
    ) -> Result<Client, String> {
        let security = Security {
            tls: TlsRule::Scheme,
            dane: Stance::default(),
            mta_sts: Stance::default(),
            auth: Box::default(),
            ..relay.security.clone()
        };
        let key = (verify, security);
        if let Some(client) = self.made.lock().get(&key) {
            return Ok(client.clone());
        }
        let client = self.make(&key, files)?;
        let mut made = self.made.lock();
        if made.len() >= KEPT {
            made.clear();
        }
        made.insert(key, client.clone());
        Ok(client)
    }

    fn make(&self, key: &Key, (config, loaded): (&Config, &Loaded)) -> Result<Client, String> {
        let (verifies, security) = key;
        let roots = match &*security.ca {
            "" => Arc::clone(&self.native),
            name => {
                let found = config.authority_named(name);
                let found = found.and_then(|authority| loaded.authorities(authority));
                found.ok_or_else(|| format!("the configuration has no ca `{name}` any more"))?
            }
        };
        let builder =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider)).build();
        let verifier = builder.ok();
        let judge: Arc<dyn ServerCertVerifier> = match (&verifier, verifies) {
            (Some(verifier), true) => Arc::clone(verifier) as _,
            (None, true) => return Err("there is no authority to verify with".into()),
            (_, false) => Arc::new(AnyCertificate(Arc::clone(&self.provider))),
        };
        Ok(Client {
            config: self.config(judge, security, (config, loaded))?,
            verifier,
        })
    }

    /// A client with a relay's options, and a judge of certificates.
    fn config(
        &self,
        judge: Arc<dyn ServerCertVerifier>,
        security: &Security,
        (config, loaded): (&Config, &Loaded),
    ) -> Result<Arc<ClientConfig>, String> {
        let provider = match &*security.ciphers {
            "" => Arc::clone(&self.provider),
            list => Arc::new(limited(&self.provider, &Suites::parse(list)?)),
        };
        let protocols = match &*security.protocols {
            "" => Protocols::default(),
            list => Protocols::parse(list)?,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions(protocols))
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(judge);
        let config = match &*security.pki {
            "" => builder.with_no_client_auth(),
            name => {
                let pair = config.pki_named(name).and_then(|pki| loaded.pair(pki));
                let missing = || format!("the configuration has no pki `{name}` any more");
                let pair = SingleCertAndKey::from(pair.ok_or_else(missing)?);
                builder.with_client_cert_resolver(Arc::new(pair))
            }
        };
        Ok(Arc::new(config))
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes whatever a server shows, for mail that would go in clear text otherwise. Signatures are
/// not checked either: a certificate that nobody vouches for proves nothing with them.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
