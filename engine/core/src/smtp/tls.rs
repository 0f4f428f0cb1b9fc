//! What is known of a connection's TLS, as the log and trace fields show it.

use std::fmt;

/// A TLS connection. Shown as `TLSv1.3:TLS_AES_256_GCM_SHA384:256`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Version, as in `TLSv1.3`.
    pub version: Box<str>,
    /// Cipher suite, by the name OpenSSL gives it.
    pub cipher: Box<str>,
    /// Bits of the cipher's key.
    pub bits: u16,
    /// Whether the peer has shown a certificate, and it was found good.
    pub verified: bool,
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.version, self.cipher, self.bits)
    }
}
