//! Certificates made for one test: an authority of its own, and hosts with and without faults.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData as _,
    date_time_ymd,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// An authority nobody else knows, and a directory for the files of those it vouches for.
pub(super) struct Authority {
    directory: TempDir,
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A host's certificate and key.
pub(super) struct Pair {
    certificate: Certificate,
    key: KeyPair,
}

impl Pair {
    /// Its public key, as certificates hold it.
    pub(super) fn spki(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            directory,
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// The file with its certificate.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate for a name or address.
    pub(super) fn vouch(&self, name: &str) -> Pair {
        self.sign(&CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    /// One whose time is over.
    pub(super) fn vouch_in_the_past(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate, key }
    }

    /// The line of smtpd.conf that names the authority `private`.
    pub(super) fn line(&self) -> String {
        format!("ca private cert \"{}\"\n", self.path().display())
    }

    /// Writes a pair into files; gives the line of smtpd.conf that names them.
    pub(super) fn pki(&self, name: &str, pair: &Pair) -> String {
        let cert = self.file(&format!("{name}.crt"), &pair.certificate.pem(), 0o644);
        let key = self.file(&format!("{name}.key"), &pair.key.serialize_pem(), 0o600);
        let (cert, key) = (cert.display(), key.display());
        format!("pki {name} cert \"{cert}\" key \"{key}\"\n")
    }

    pub(super) fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.directory.path().join(name);
        write(&path, text).unwrap();
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Its public key, as certificates hold it.
    pub(super) fn spki(&self) -> Vec<u8> {
        self.issuer.key().subject_public_key_info()
    }

    /// A server with this certificate, which shows the authority's, too; it asks clients for theirs, and takes none as well.
    pub(super) fn server(
        &self,
        pair: &Pair,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .unwrap();
        let chain = vec![
            pair.certificate.der().clone(),
            self.certificate.der().clone(),
        ];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key);
        Arc::new(config.unwrap())
    }
}
