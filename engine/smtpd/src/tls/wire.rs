//! A connection that begins in clear, or not, and may go over to TLS.
//!
//! Promises: once TLS was begun, no octet is read or written in clear again; where TLS ends, the
//! connection does.
//! Fails: with what the handshake failed of, in words for the log; the connection is gone then.

use redspool_core::smtp::Tls;
use rustls::ProtocolVersion;
use rustls::server::ServerConnection;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// One end of a connection, ours being the server's.
pub(crate) enum Wire<S> {
    /// As it came.
    Clear(S),
    /// Over TLS.
    Secure(Box<TlsStream<S>>),
    /// The handshake failed.
    Gone,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Goes over to TLS.
    pub(crate) async fn secure(
        &mut self,
        acceptor: &TlsAcceptor,
        wait: Duration,
    ) -> Result<Tls, String> {
        let Self::Clear(stream) = std::mem::replace(self, Self::Gone) else {
            return Err("there is TLS already".into());
        };
        match tokio::time::timeout(wait, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let tls = describe(stream.get_ref().1);
                *self = Self::Secure(Box::new(stream));
                Ok(tls)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the handshake took too long".into()),
        }
    }
}

/// What a handshake has come to.
fn describe(connection: &ServerConnection) -> Tls {
    let suite = connection
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .unwrap_or_default();
    Tls {
        version: version(connection.protocol_version()).into(),
        cipher: openssl_name(suite).into(),
        bits: bits(suite),
        // A certificate that is not good ends the handshake.
        verified: connection.peer_certificates().is_some(),
    }
}

fn version(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "unknown",
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(context, octets),
            Self::Secure(stream) => Pin::new(stream).poll_write(context, octets),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(context),
            Self::Secure(stream) => Pin::new(stream).poll_flush(context),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
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
