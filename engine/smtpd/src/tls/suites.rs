//! Versions and cipher suites: which of them a configuration leaves, and what a handshake came to.

use redspool_core::smtp::Tls;
use redspool_core::tls::{Protocols, Suites};
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{CommonState, ProtocolVersion, SupportedProtocolVersion};

/// The provider with these cipher suites alone.
pub(super) fn limited(provider: &CryptoProvider, suites: &Suites) -> CryptoProvider {
    let mut limited = CryptoProvider::clone(provider);
    let kept = &mut limited.cipher_suites;
    kept.retain(|suite| {
        let name = suite.suite().as_str();
        name.is_some_and(|name| suites.contains(name))
    });
    limited
}

/// Versions of TLS as the library has them.
pub(super) fn versions(protocols: Protocols) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(protocols.tls13, &TLS13), (protocols.tls12, &TLS12)];
    let kept = all.into_iter().filter(|(wanted, _)| *wanted);
    kept.map(|(_, version)| version).collect()
}

/// What a handshake has come to.
pub(super) fn describe(connection: &CommonState, verified: bool) -> Tls {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "unknown",
    };
    let suite = connection.negotiated_cipher_suite();
    let suite = suite.and_then(|suite| suite.suite().as_str());
    let suite = suite.unwrap_or("unknown");
    Tls {
        version: version.into(),
        cipher: openssl_name(suite).into(),
        bits: bits(suite),
        verified,
    }
}

/// The name OpenSSL has for a suite, which is what readers of logs know.
fn openssl_name(suite: &str) -> String {
    match suite.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => suite
            .trim_start_matches("TLS_")
            .replace("_WITH_", "_")
            .replace("AES_", "AES")
            .replace("POLY1305_SHA256", "POLY1305")
            .replace('_', "-"),
    }
}

/// Bits of the key of a suite's cipher.
fn bits(suite: &str) -> u16 {
    if suite.contains("AES_128") { 128 } else { 256 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_the_names_that_logs_know() {
        let check = |suite, name, size| {
            assert_eq!((openssl_name(suite).as_str(), bits(suite)), (name, size));
        };
        check("TLS13_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", 256);
        check(
            "TLS13_CHACHA20_POLY1305_SHA256",
            "TLS_CHACHA20_POLY1305_SHA256",
            256,
        );
        check(
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            128,
        );
        check(
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            "ECDHE-RSA-CHACHA20-POLY1305",
            256,
        );
    }
}
