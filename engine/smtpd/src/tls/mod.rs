//! TLS: one provider of cryptography, and the files the configuration names.
//!
//! Promises: no process-wide default is used, every configuration names its provider; keys leave
//! this module only as objects that sign.

pub mod client;

mod dane;
mod loaded;
mod server;
mod suites;
mod wire;

pub use loaded::Loaded;
pub(crate) use loaded::Reader;
pub(crate) use server::acceptor;
pub(crate) use wire::Wire;

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// The provider of all cryptography of TLS.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
