//! TLS and AUTH of the listeners, seen by a client with the same library and by one that cheats.

use super::setup::mailbox;
use nix::sys::signal::Signal;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use redspool_tools::rig::{Daemon, Dialog, Rig};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::fs::{Permissions, read, set_permissions, write};
use std::io::{self, BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a reply.
const PATIENCE: Duration = Duration::from_secs(30);

/// `alice` and `secret`.
const ALICE: &str = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.pIKrLVkBX9/OvQMSygY1pWEVn72t6na";

/// Two pairs of the rig and their authority, a listener with these options, and rules that take
/// what has TLS and a user, or has a good certificate.
fn rig(options: &str) -> Rig {
    let rig = Rig::new(&configuration(options));
    let directory = rig.path();
    let authority = authority(directory);
    for name in ["mx.example.org", "other.example"] {
        pair(directory, name, &authority);
    }
    rig
}

fn configuration(options: &str) -> String {
    format!(
        "pki mx.example.org cert \"@DIR@/mx.example.org.crt\" key \"@DIR@/mx.example.org.key\"\n\
         pki other.example cert \"@DIR@/other.example.crt\" key \"@DIR@/other.example.key\"\n\
         ca own cert \"@DIR@/ca.crt\"\n\
         table users {{ alice = \"@UID@:@GID@:@DIR@\" }}\n\
         table passwords {{ alice = \"{ALICE}\" }}\n\
         listen on 127.0.0.1 port 0 {options}\n\
         action \"in\" maildir \"@DIR@/mail/%{{user.username}}\" userbase <users>\n\
         match tls from any auth for domain \"auth.example\" action \"in\"\n\
         match tls from any for domain \"tls.example\" action \"in\"\n\
         match !tls from any for domain \"clear.example\" action \"in\"\n"
    )
}

/// A new authority, in a file.
fn authority(directory: &Path) -> CertifiedIssuer<'static, KeyPair> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, key).unwrap();
    write(directory.join("ca.crt"), authority.pem()).unwrap();
    authority
}

/// A certificate for this name, for either end of a connection, with its key.
fn pair(directory: &Path, name: &str, authority: &CertifiedIssuer<'_, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.signed_by(&key, authority).unwrap();
    write(directory.join(format!("{name}.crt")), certificate.pem()).unwrap();
    let path = directory.join(format!("{name}.key"));
    write(&path, key.serialize_pem()).unwrap();
    set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&read(path).unwrap()).unwrap()
}

/// A client that trusts the rig's authority, and shows the certificate of this name.
fn client(rig: &Rig, shown: Option<&str>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&rig.path().join("ca.crt"))).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match shown {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain = vec![certificate(&rig.path().join(format!("{name}.crt")))];
            let key = read(rig.path().join(format!("{name}.key"))).unwrap();
            let key = PrivateKeyDer::from_pem_slice(&key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

/// One session of a client, in clear or over TLS.
struct Talk<S> {
    stream: BufReader<S>,
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

impl<S: io::Read + io::Write> Talk<S> {
    /// Sends a line, unless it is empty, and gives the last line of the reply, as far as it came.
    fn ask(&mut self, line: &str) -> io::Result<String> {
        if !line.is_empty() {
            let stream = self.stream.get_mut();
            stream.write_all(format!("{line}\r\n").as_bytes())?;
            stream.flush()?;
        }
        loop {
            let mut reply = String::new();
            self.stream.read_line(&mut reply)?;
            if !reply.ends_with('\n') {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if reply.get(3..4) != Some("-") {
                return Ok(reply.trim_end().to_owned());
            }
        }
    }

    /// Asks for each line in turn, and compares how the replies begin.
    fn hold(&mut self, lines: &[(&str, &str)]) {
        for (line, want) in lines {
            let reply = self.ask(line).unwrap();
            assert!(reply.starts_with(want), "{line}: {reply}");
        }
    }
}

fn connect(daemon: &Daemon) -> TcpStream {
    let stream = TcpStream::connect(daemon.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn clear(daemon: &Daemon) -> Talk<TcpStream> {
    let mut talk = Talk {
        stream: BufReader::new(connect(daemon)),
    };
    talk.hold(&[("", "220 "), ("EHLO client.example", "250 ")]);
    talk
}

/// Goes over to TLS, and asks for a server of this name.
fn secured(stream: TcpStream, config: Arc<ClientConfig>, name: &str) -> Talk<Secure> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(config, name).unwrap();
    Talk {
        stream: BufReader::new(StreamOwned::new(connection, stream)),
    }
}

/// The certificate the server has shown.
fn shown(talk: &Talk<Secure>) -> Option<CertificateDer<'static>> {
    let certificates = talk.stream.get_ref().conn.peer_certificates();
    Some(certificates?.first()?.clone().into_owned())
}

/// A session with STARTTLS, greeted again.
fn upgraded(daemon: &Daemon, config: Arc<ClientConfig>) -> Talk<Secure> {
    let mut talk = clear(daemon);
    talk.hold(&[("STARTTLS", "220 ")]);
    let mut talk = secured(talk.stream.into_inner(), config, "mx.example.org");
    talk.hold(&[("EHLO client.example", "250 ")]);
    talk
}

const MESSAGE: &str = "Subject: x\r\n\r\nhi\r\n.";

#[test]
fn a_submission_needs_tls_and_a_password_and_says_so_in_received() {
    let rig = rig("tls-require pki mx.example.org auth <passwords> received-auth");
    let daemon = rig.start();
    let mut talk = clear(&daemon);
    talk.hold(&[
        ("MAIL FROM:<a@b>", "530 5.7.0 Must issue a STARTTLS"),
        ("AUTH PLAIN AGFsaWNlAHNlY3JldA==", "538 5.7.11 "),
    ]);
    let mut talk = upgraded(&daemon, client(&rig, None));
    talk.hold(&[
        ("MAIL FROM:<a@b>", "530 5.7.0 Authentication required"),
        ("AUTH PLAIN AGFsaWNlAHdyb25n", "535 5.7.8 "),
        ("AUTH PLAIN AG5vYm9keQBzZWNyZXQ=", "535 5.7.8 "),
        ("AUTH PLAIN AGFsaWNlAHNlY3JldA==", "235 2.7.0 "),
        ("MAIL FROM:<a@b> AUTH=<>", "250 "),
        ("RCPT TO:<alice@auth.example>", "250 "),
        ("RCPT TO:<alice@clear.example>", "550 "),
        ("DATA", "354 "),
        (MESSAGE, "250 2.0.0 "),
        ("QUIT", "221 "),
    ]);
    let content = mailbox(&rig, "alice").one();
    let trace = " (TLSv1.3:TLS_AES_256_GCM_SHA384:256:NO) auth=yes user=alice";
    assert!(content.contains("with ESMTPSA id "), "{content}");
    assert!(content.contains(trace), "{content}");
    daemon.logged("smtp tls ciphers=TLSv1.3:TLS_AES_256_GCM_SHA384:256");
    daemon.logged("smtp authentication user=alice result=permfail");
    daemon.logged("smtp authentication user=nobody result=permfail");
    daemon.logged("smtp authentication user=alice result=ok");
    let log = daemon.log();
    assert!(!log.contains("AGFsaWNl"), "a password is in the log: {log}");
    assert!(rig.show(&["show", "stats"]).contains("smtp.tls="));
}

#[test]
fn a_table_of_passwords_in_clear_is_refused_without_showing_them() {
    let rig = rig("tls-require pki mx.example.org auth { alice = \"open sesame\" }");
    let refused = rig.start_in_vain();
    assert!(
        refused.stderr.contains("is not a hashed password"),
        "{refused:?}"
    );
}

#[test]
fn smtps_speaks_tls_from_the_first_octet() {
    let rig = rig("smtps pki mx.example.org auth-optional <passwords>");
    let daemon = rig.start();
    let mut talk = secured(connect(&daemon), client(&rig, None), "mx.example.org");
    talk.hold(&[
        ("", "220 "),
        ("EHLO client.example", "250 "),
        ("STARTTLS", "503 5.5.1 "),
        ("MAIL FROM:<a@b>", "250 "),
        ("RCPT TO:<alice@auth.example>", "550 "),
        ("RCPT TO:<alice@tls.example>", "250 "),
    ]);
    assert!(rig.show(&["show", "stats"]).contains("smtp.smtps=1\n"));
    // In clear there is nothing to be had.
    let mut talk = Talk {
        stream: BufReader::new(connect(&daemon)),
    };
    assert!(talk.ask("EHLO client.example").is_err());
    daemon.logged("smtp tls-error reason=");
}

#[test]
fn clients_choose_among_certificates_by_name() {
    let rig = rig("smtps pki mx.example.org pki other.example");
    let daemon = rig.start();
    for name in ["mx.example.org", "other.example"] {
        let mut talk = secured(connect(&daemon), client(&rig, None), name);
        talk.hold(&[("", "220 ")]);
        let want = certificate(&rig.path().join(format!("{name}.crt")));
        assert_eq!(shown(&talk), Some(want), "{name}");
    }
}

#[test]
fn verify_lets_nobody_in_without_a_good_certificate() {
    let rig = rig("tls-require verify pki mx.example.org ca own");
    let daemon = rig.start();
    let mut talk = clear(&daemon);
    talk.hold(&[("STARTTLS", "220 ")]);
    let stream = talk.stream.into_inner();
    let mut talk = secured(stream, client(&rig, None), "mx.example.org");
    assert!(talk.ask("EHLO client.example").is_err());
    daemon.logged("smtp tls-error reason=\"peer sent no certificates\"");
    let mut talk = upgraded(&daemon, client(&rig, Some("other.example")));
    talk.hold(&[
        ("MAIL FROM:<a@b>", "250 "),
        ("RCPT TO:<alice@tls.example>", "250 "),
        ("DATA", "354 "),
        (MESSAGE, "250 2.0.0 "),
    ]);
    let content = mailbox(&rig, "alice").one();
    assert!(content.contains("with ESMTPS id "), "{content}");
    assert!(content.contains(":256:YES)"), "{content}");
}

#[test]
fn t12_nothing_said_in_clear_is_heard_over_tls() {
    let rig = rig("tls pki mx.example.org");
    let daemon = rig.start();
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    dialog.send(b"STARTTLS\r\nMAIL FROM:<a@b>\r\n").unwrap();
    let replies = dialog.rest().unwrap();
    let codes: Vec<_> = replies.iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [554], "{replies:?}");
    // Behind the reply it is taken for the handshake, and is none.
    let mut talk = clear(&daemon);
    talk.hold(&[("STARTTLS", "220 ")]);
    assert!(talk.ask("MAIL FROM:<a@b>").is_err());
    daemon.logged("smtp tls-error reason=");
}

#[test]
fn a_new_certificate_is_shown_after_sighup() {
    let rig = rig("smtps pki mx.example.org");
    let daemon = rig.start();
    let now = || {
        let mut talk = secured(connect(&daemon), client(&rig, None), "mx.example.org");
        talk.hold(&[("", "220 ")]);
        shown(&talk).unwrap()
    };
    let old = now();
    pair(rig.path(), "mx.example.org", &authority(rig.path()));
    daemon.signal(Signal::SIGHUP);
    daemon.logged("configuration reloaded");
    let new = now();
    assert_ne!(new, old);
    assert_eq!(new, certificate(&rig.path().join("mx.example.org.crt")));
}
