//! Certificates held against TLSA records (RFC 6698, RFC 7671, RFC 7672 section 3.2).
//!
//! Promises: a handshake succeeds only if the server holds the key of a certificate that a record
//! names, or that an authority which a record names has signed for one of the names expected.
//! Absent on purpose: which records count (core's `dane`), authorities of the system.
//! Fails: with the text for the log and the envelope.

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use redspool_core::dane::Tlsa;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use std::sync::Arc;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// DANE-TA.
const AUTHORITY: u8 = 2;
/// DANE-EE.
const SERVER: u8 = 3;

/// Judges the certificate of one host.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) provider: Arc<CryptoProvider>,
    /// Only usable ones.
    pub(super) records: Vec<Tlsa>,
    /// Other names that do as well as the host's: the domain whose exchanger it securely is.
    pub(super) names: Vec<ServerName<'static>>,
}

impl Judge {
    fn of_usage(&self, usage: u8) -> impl Iterator<Item = &Tlsa> {
        self.records
            .iter()
            .filter(move |record| record.usage == usage)
    }

    /// Whether an authority that a record names vouches for the certificate and a name. It is one
    /// that the server shows, or one that a record holds as a whole (RFC 7671 section 5.2).
    fn has_authority(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), String> {
        let held = self
            .of_usage(AUTHORITY)
            .filter(|record| (record.selector, record.matching) == (0, 0));
        let held: Vec<_> = held
            .map(|record| CertificateDer::from(&*record.data))
            .collect();
        let named = |shown: &&CertificateDer<'_>| {
            let mut records = self.of_usage(AUTHORITY);
            records.any(|record| matches(record, shown))
        };
        let anchors = rest.iter().filter(named).chain(&held);
        let anchors: Vec<TrustAnchor<'_>> = anchors
            .filter_map(|shown| anchor_from_trusted_cert(shown).ok())
            .collect();
        if anchors.is_empty() {
            return Err("the certificate matches no TLSA record".into());
        }
        let leaf = EndEntityCert::try_from(first).map_err(|error| error.to_string())?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let usage = KeyUsage::server_auth();
        leaf.verify_for_usage(algorithms, &anchors, rest, now, usage, None, None)
            .map_err(|error| format!("not of the authority that TLSA records name: {error}"))?;
        let mut names = self.names.iter().chain([name]);
        if names.any(|name| leaf.verify_is_valid_for_subject_name(name).is_ok()) {
            return Ok(());
        }
        Err("the certificate is for other names than the host's".into())
    }
}

/// Whether a record names this certificate.
fn matches(record: &Tlsa, certificate: &CertificateDer<'_>) -> bool {
    let key;
    let part: &[u8] = if record.selector == 0 {
        certificate
    } else {
        match EndEntityCert::try_from(certificate) {
            Ok(read) => key = read.subject_public_key_info(),
            Err(_) => return false,
        }
        &key
    };
    match record.matching {
        0 => part == &*record.data,
        1 => digest(&SHA256, part).as_ref() == &*record.data,
        2 => digest(&SHA512, part).as_ref() == &*record.data,
        _ => false,
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // Names and dates of a server that is named itself are in the DNS, not in the certificate
        // (RFC 7672 section 3.1.1).
        let mut of_server = self.of_usage(SERVER);
        if of_server.any(|record| matches(record, first)) {
            return Ok(ServerCertVerified::assertion());
        }
        self.has_authority(first, rest, name, now)
            .map(|()| ServerCertVerified::assertion())
            .map_err(rustls::Error::General)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
