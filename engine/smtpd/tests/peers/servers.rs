//! Whole mail servers of other projects, each in a copy of the root that `.ci/run peers` unpacks
//! below the target directory. Nothing of the system is read or written.

use super::free_address;
use super::secured::certify;
use redspool_tools::rig::{Mailbox, Peer, missing, program, until};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Keeps all mail in a Maildir, refuses bob, puts carol off until the file `/tmp/open` exists.
const EXIM: &str = "
primary_hostname = peer.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = @PORT@ : @TLSPORT@
daemon_startup_retries = 0
tls_on_connect_ports = @TLSPORT@
tls_advertise_hosts = *
tls_certificate = /etc/server.crt
tls_privatekey = /etc/server.key
acl_smtp_rcpt = recipient
acl_smtp_data = content
dsn_advertise_hosts = *
host_lookup =
rfc1413_hosts =
never_users =
keep_environment =
log_file_path = /var/log/exim4/%slog
notifier_socket =
begin acl
recipient:
  deny local_parts = bob
    message = 550 5.1.1 no bob here
  defer local_parts = carol
    condition = ${if !exists{/tmp/open}}
    message = 451 4.7.1 greylisted
  accept
content:
  accept
begin routers
next:
  driver = manualroute
  domains = next.example
  transport = next
  route_list = * 127.0.0.1 byname
  self = send
kept:
  driver = accept
  transport = kept
begin transports
next:
  driver = smtp
  port = @NEXT@
  allow_localhost = true
  hosts_try_prdr =
kept:
  driver = appendfile
  directory = /home/alice/kept
  maildir_format
  user = alice
begin retry
";

/// Keeps all mail in a Maildir, refuses bob; knows DSN on the first port only. Without TLS:
/// Debian 12's version, in this root, ended every handshake with `missing private key`.
const OPENSMTPD: &str = "
table all { \"@\" = \"alice\" }
table bob { \"bob@far.example\" }
listen on 127.0.0.1 port @PORT@ hostname peer.example
listen on 127.0.0.1 port @TLSPORT@ hostname peer.example no-dsn
action \"next\" relay host smtp://127.0.0.1:@NEXT@
action \"kept\" maildir \"/home/alice/kept\" virtual <all>
match from any for rcpt-to <bob> reject
match from any for domain \"next.example\" action \"next\"
match from any for any action \"kept\"
";

/// A running mail server. Ended, and its files removed, when dropped.
pub(super) struct Server {
    /// Where it offers what it can.
    pub(super) address: SocketAddr,
    /// Exim: where it speaks TLS from the first octet on. OpenSMTPD: where it does not know DSN.
    pub(super) second: SocketAddr,
    /// What it has kept.
    pub(super) kept: Mailbox,
    // Ends before its directory goes.
    _peer: Peer,
    root: TempDir,
}

impl Server {
    /// Exim. Mail for next.example it relays to `next`.
    pub(super) fn exim(next: Option<SocketAddr>) -> Option<Self> {
        let command = ["/usr/sbin/exim4", "-bdf"];
        Self::start("exim4", "etc/exim4/exim4.conf", EXIM, &command, next)
    }

    /// OpenSMTPD. Mail for next.example it relays to `next`.
    pub(super) fn opensmtpd(next: Option<SocketAddr>) -> Option<Self> {
        let command = ["/usr/sbin/smtpd", "-d"];
        Self::start("opensmtpd", "etc/smtpd.conf", OPENSMTPD, &command, next)
    }

    /// The certificate of the authority that vouches for it.
    pub(super) fn authority(&self) -> PathBuf {
        self.root.path().join("root/etc/ca.pem")
    }

    /// Takes mail for carol from now on.
    pub(super) fn open(&self) {
        fs::write(self.root.path().join("root/tmp/open"), "").unwrap();
    }

    fn start(
        name: &str,
        config: &str,
        text: &str,
        command: &[&str],
        next: Option<SocketAddr>,
    ) -> Option<Self> {
        // A port that was free may be taken before the server binds it.
        const TRIES: usize = 5;
        let directory = copy(name)?;
        let root = directory.path().join("root");
        for file in ["server.crt", "server.key", "ca.pem"] {
            assert!(!root.join("etc").join(file).exists(), "{file} is shared");
        }
        certify(&root.join("etc"));
        secure_key(name, &root.join("etc/server.key"));
        let kept = Mailbox::new(&root.join("home/alice/kept"));
        for part in ["", "tmp", "new", "cur"] {
            let alice = Some(1001);
            chown(root.join("home/alice/kept").join(part), alice, alice).unwrap();
        }
        for _ in 0..TRIES {
            let (address, second) = (free_address(), free_address());
            let text = text
                .replace("@PORT@", &address.port().to_string())
                .replace("@TLSPORT@", &second.port().to_string())
                .replace("@NEXT@", &next.map_or(9, |next| next.port()).to_string());
            rewrite(&root.join(config), &text);
            let mut chroot = Command::new("/usr/sbin/chroot");
            chroot.arg(&root).args(command);
            let mut peer = Peer::start(&mut chroot, &root);
            let up = until("the server listens", || {
                let connects = [address, second].map(|at| TcpStream::connect(at).is_ok());
                let ended = peer.has_ended();
                (ended || connects == [true, true]).then_some(!ended)
            });
            if up {
                return Some(Self {
                    address,
                    second,
                    kept,
                    _peer: peer,
                    root: directory,
                });
            }
        }
        panic!("{name} ended {TRIES} times instead of starting");
    }
}

/// A copy of the unpacked root whose files are links, or nothing where it is missing or we may not
/// change root.
fn copy(name: &str) -> Option<TempDir> {
    let peers = program("smtpd").ancestors().nth(2)?.join("peers");
    let original = peers.join("root");
    if !original.is_dir() || !nix::unistd::geteuid().is_root() {
        missing(name, "nothing; run `.ci/run peers` and the tests as root");
        return None;
    }
    let directory = tempfile::Builder::new()
        .prefix("running")
        .tempdir_in(&peers)
        .unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let status = Command::new("cp")
        .arg("-al")
        .arg(&original)
        .arg(directory.path().join("root"))
        .status()
        .unwrap();
    assert!(status.success(), "cp: {status}");
    Some(directory)
}

/// Exim reads the key as its own user, OpenSMTPD insists on root's.
fn secure_key(name: &str, key: &Path) {
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = if name == "exim4" { 991 } else { 0 };
    chown(key, Some(owner), Some(owner)).unwrap();
}

/// Writes a file anew: the old one may be a link to the original's.
fn rewrite(path: &Path, text: &str) {
    if path.exists() {
        fs::remove_file(path).unwrap();
    }
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}
