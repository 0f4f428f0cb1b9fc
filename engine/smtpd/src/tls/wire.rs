//! A connection that begins in clear, or not, and may go over to TLS.
//!
//! Promises: once TLS was begun, no octet is read or written in clear again; where TLS ends, the
//! connection does.
//! Fails: with what the handshake failed of, in words for the log; the connection is gone then.

use super::suites::describe;
use redspool_core::smtp::Tls;
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
                let connection = stream.get_ref().1;
                // A certificate that is not good ends the handshake.
                let verified = connection.peer_certificates().is_some();
                let tls = describe(connection, verified);
                *self = Self::Secure(Box::new(stream));
                Ok(tls)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the handshake took too long".into()),
        }
    }
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
