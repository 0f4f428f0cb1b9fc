//! Certificates, keys and authorities from files, checked when the configuration is.
//!
//! Promises: nothing is used that was not read whole and parsed; a key is taken only with the mode
//! and owner the manual asks for, and only if it is that of its certificate.
//! Fails: with an [`Unfit`] that says what is wrong with which file and how to mend it.

use super::provider;
use redspool_core::config::{Authority, Material, Pki, Unfit};
use redspool_core::limits::Limits;
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bits a key file may have: all for its owner, reading for its group.
const KEY_MODE: u32 = 0o740;
/// Bits a certificate file may have: writing is for its owner alone.
const CERT_MODE: u32 = 0o755;

/// What a configuration names, ready for use, by the paths as they were written.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pairs: BTreeMap<(Box<str>, Box<str>), Arc<CertifiedKey>>,
    authorities: BTreeMap<Box<str>, Arc<RootCertStore>>,
}

impl Loaded {
    /// The certificate and key of a `pki` of the same configuration.
    pub fn pair(&self, pki: &Pki) -> Option<Arc<CertifiedKey>> {
        let paths = (pki.cert.clone(), pki.key.clone());
        self.pairs.get(&paths).map(Arc::clone)
    }

    /// The certificates of a `ca` of the same configuration.
    pub fn authorities(&self, authority: &Authority) -> Option<Arc<RootCertStore>> {
        self.authorities.get(&authority.cert).map(Arc::clone)
    }
}

/// Reads what a configuration names while it is parsed.
pub(crate) struct Reader<'r> {
    directory: &'r Path,
    /// What is in force: a key that only root can read stays as it was read at the start.
    before: &'r Loaded,
    /// Keys that only root can read and that were opened for us, by their whole paths.
    lent: BTreeMap<PathBuf, File>,
    provider: Arc<CryptoProvider>,
    chains: BTreeMap<Box<str>, Vec<CertificateDer<'static>>>,
    loaded: Loaded,
}

impl<'r> Reader<'r> {
    /// Reads files below `directory`, unless their paths are absolute.
    pub(crate) fn new(
        directory: &'r Path,
        before: &'r Loaded,
        lent: BTreeMap<PathBuf, File>,
    ) -> Self {
        Self {
            directory,
            before,
            lent,
            provider: provider(),
            chains: BTreeMap::new(),
            loaded: Loaded::default(),
        }
    }

    /// What was read.
    pub(crate) fn finish(self) -> Loaded {
        self.loaded
    }

    /// Reads and checks.
    pub(crate) fn vet(&mut self, material: Material<'_>) -> Result<(), Unfit> {
        match material {
            Material::Chain(path) => {
                let chain = certificates(&self.directory.join(path))?;
                self.chains.insert(path.into(), chain);
                Ok(())
            }
            Material::Key { cert, key } => self.key(cert, key),
            Material::Authorities(path) => self.authorities(path),
        }
    }

    fn key(&mut self, cert: &str, path: &str) -> Result<(), Unfit> {
        let paths = (Box::from(cert), Box::from(path));
        let text = match self.key_text(&self.directory.join(path)) {
            Err(Unread::Forbidden(unfit)) => {
                let Some(pair) = self.before.pairs.get(&paths) else {
                    return Err(unfit);
                };
                tracing::warn!(
                    "tls key={} not read again: {}; key and certificate stay as they are",
                    crate::log::Shown(path),
                    unfit.reason
                );
                self.loaded.pairs.insert(paths, Arc::clone(pair));
                return Ok(());
            }
            Err(Unread::Unfit(unfit)) => return Err(unfit),
            Ok(text) => text,
        };
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            unfit(
                "there is no private key in PEM form in it",
                "name the file with BEGIN PRIVATE KEY; take a passphrase off with openssl pkey",
            )
        })?;
        let key = self.provider.key_provider.load_private_key(key);
        let key = key.map_err(|error| {
            unfit(
                format!("its key cannot be used: {error}"),
                "use an RSA key of 2048 bits or more, or an ECDSA or Ed25519 key",
            )
        })?;
        let chain = self.chains.get(cert).cloned().unwrap_or_default();
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => {
                return Err(unfit(
                    format!("it is not the key of the certificate `{cert}`"),
                    "name the key that the certificate was made for",
                ));
            }
        }
        self.loaded.pairs.insert(paths, Arc::new(pair));
        Ok(())
    }

    /// The text of a key: of its file, or of the one that was opened for us.
    fn key_text(&mut self, path: &Path) -> Result<Vec<u8>, Unread> {
        let text = read(path, KEY_MODE, "key");
        let whole = std::path::absolute(path).unwrap_or_default();
        match (text, self.lent.remove(&whole)) {
            (Err(Unread::Forbidden(_)), Some(file)) => {
                checked(
                    &file.metadata().map_err(|error| unreadable(&error))?,
                    path,
                    KEY_MODE,
                    "key",
                )?;
                contents(file).map_err(|error| unreadable(&error))
            }
            (text, _) => text,
        }
    }

    fn authorities(&mut self, path: &str) -> Result<(), Unfit> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.directory.join(path))? {
            roots.add(certificate).map_err(|error| {
                unfit(
                    format!("a certificate in it cannot be used: {error}"),
                    "name a file with certificates of authorities in PEM form",
                )
            })?;
        }
        self.loaded.authorities.insert(path.into(), Arc::new(roots));
        Ok(())
    }
}

/// The certificates of a file; at least one, and all of them parse.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    const HELP: &str = "name a file with one or more BEGIN CERTIFICATE parts";
    let text = match read(path, CERT_MODE, "certificate") {
        Ok(text) => text,
        Err(Unread::Forbidden(unfit) | Unread::Unfit(unfit)) => return Err(unfit),
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| unfit(format!("not PEM: {error}"), HELP))?;
    if found.is_empty() {
        return Err(unfit("there is no certificate in PEM form in it", HELP));
    }
    for certificate in &found {
        ParsedCertificate::try_from(certificate)
            .map_err(|error| unfit(format!("not a certificate: {error}"), HELP))?;
    }
    Ok(found)
}

/// Why a file was not read.
enum Unread {
    /// We lack the right to read it.
    Forbidden(Unfit),
    /// Another reason.
    Unfit(Unfit),
}

/// The whole of a file that has at most these bits in its mode, and belongs to root or to us.
fn read(path: &Path, mode: u32, what: &str) -> Result<Vec<u8>, Unread> {
    checked(
        &std::fs::metadata(path).map_err(|error| unreadable(&error))?,
        path,
        mode,
        what,
    )?;
    File::open(path)
        .and_then(contents)
        .map_err(|error| unreadable(&error))
}

fn unreadable(error: &std::io::Error) -> Unread {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            let help = "start smtpd as root, or let its user read the file";
            Unread::Forbidden(unfit(error.to_string(), help))
        }
        _ => Unread::Unfit(unfit(error.to_string(), "name a file that can be read")),
    }
}

/// Looks at a file's kind, owner, mode and size.
fn checked(about: &Metadata, path: &Path, mode: u32, what: &str) -> Result<(), Unread> {
    let refused = |reason: String, help: String| Err(Unread::Unfit(Unfit { reason, help }));
    if !about.is_file() {
        let help = format!("name the file that holds the {what}");
        return refused("not a regular file".into(), help);
    }
    let own = nix::unistd::geteuid().as_raw();
    if about.uid() != 0 && about.uid() != own {
        let path = path.display();
        let reason = format!("its owner is neither root nor the user of smtpd (uid {own})");
        return refused(reason, format!("chown root {path}"));
    }
    let bits = about.mode() & 0o777;
    if bits & !mode != 0 {
        let path = path.display();
        let reason = format!("its mode {bits:04o} is too open: at most {mode:04o}");
        return refused(reason, format!("chmod {:04o} {path}", bits & mode));
    }
    let most = most();
    if about.len() > most {
        let help = format!("name the file that holds the {what}");
        return refused(format!("larger than {most} octets"), help);
    }
    Ok(())
}

/// Most octets of a file.
fn most() -> u64 {
    u64::try_from(Limits::default().table_size).unwrap_or(u64::MAX)
}

fn contents(file: File) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(most()).read_to_end(&mut text)?;
    Ok(text)
}

fn unfit(reason: impl Into<String>, help: impl Into<String>) -> Unfit {
    Unfit {
        reason: reason.into(),
        help: help.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;

    struct Files {
        directory: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let files = Self { directory };
            for name in ["one", "other"] {
                let Made { cert, signing_key } =
                    generate_simple_self_signed(vec![format!("{name}.example")]).unwrap();
                files.put(&format!("{name}.crt"), &cert.pem(), 0o644);
                files.put(&format!("{name}.key"), &signing_key.serialize_pem(), 0o600);
            }
            files
        }

        fn put(&self, name: &str, text: &str, mode: u32) {
            let path = self.directory.path().join(name);
            write(&path, text).unwrap();
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }

        fn mode(&self, name: &str, mode: u32) {
            let path = self.directory.path().join(name);
            set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }

        /// Reads a pair; gives the reason if it cannot be used.
        fn pair(&self, cert: &str, key: &str) -> Result<(), String> {
            let before = Loaded::default();
            let mut reader = Reader::new(self.directory.path(), &before, BTreeMap::new());
            let read = reader
                .vet(Material::Chain(cert))
                .and_then(|()| reader.vet(Material::Key { cert, key }));
            read.map_err(|unfit| unfit.reason)
        }
    }

    fn check(result: Result<(), String>, part: &str) {
        let reason = result.unwrap_err();
        assert!(reason.contains(part), "{reason:?} does not say {part:?}");
    }

    #[test]
    fn a_pair_is_a_certificate_and_its_key() {
        let files = Files::new();
        assert_eq!(files.pair("one.crt", "one.key"), Ok(()));
        check(
            files.pair("one.crt", "other.key"),
            "not the key of the certificate `one.crt`",
        );
        check(files.pair("one.key", "one.key"), "no certificate");
        files.put("empty.key", "", 0o600);
        check(files.pair("one.crt", "empty.key"), "no private key");
        check(files.pair("none.crt", "one.key"), "No such file");
        check(files.pair("one.crt", "none.key"), "No such file");
        check(files.pair(".", "one.key"), "not a regular file");
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let files = Files::new();
        let part = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        files.put("bad.crt", part, 0o644);
        check(files.pair("bad.crt", "one.key"), "not a certificate");
        files.put("cut.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n", 0o644);
        check(files.pair("cut.crt", "one.key"), "not PEM");
    }

    #[test]
    fn modes_are_bounded() {
        let files = Files::new();
        for mode in [0o400, 0o600, 0o640, 0o740] {
            files.mode("one.key", mode);
            assert_eq!(files.pair("one.crt", "one.key"), Ok(()), "{mode:o}");
        }
        for mode in [0o644, 0o660, 0o604] {
            files.mode("one.key", mode);
            check(files.pair("one.crt", "one.key"), "too open: at most 0740");
        }
        files.mode("one.crt", 0o664);
        check(files.pair("one.crt", "one.key"), "too open: at most 0755");
    }

    #[test]
    fn authorities_are_certificates() {
        let files = Files::new();
        let before = Loaded::default();
        let mut reader = Reader::new(files.directory.path(), &before, BTreeMap::new());
        assert_eq!(reader.vet(Material::Authorities("one.crt")), Ok(()));
        assert!(reader.vet(Material::Authorities("one.key")).is_err());
        let authority = Authority {
            name: "x".into(),
            cert: "one.crt".into(),
        };
        let loaded = reader.finish();
        assert_eq!(loaded.authorities(&authority).unwrap().len(), 1);
    }
}
