//! Whole mail servers of other projects: Postfix as it is installed, with a configuration and a queue
//! of its own; the others each in a copy of the root that `.ci/run peers` unpacks below the target
//! directory. Nothing of the system is written.

use super::free_address;
use super::secured::certify;
use redspool_tools::rig::{Mailbox, Peer, missing, program, tool, until};
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

/// Keeps all mail in a Maildir, refuses bob; knows DSN on the first port only. The second one offers
/// STARTTLS, and every handshake fails: Debian 12's OpenSMTPD 6.8 keeps its keys in another process,
/// for which it hooks into RSA and ECDSA as OpenSSL 3 does not allow any more (`missing private key`,
/// with either kind of key, with TLS 1.2 and 1.3). As a client it speaks TLS.
const OPENSMTPD: &str = "
pki peer.example cert \"/etc/server.crt\"
pki peer.example key \"/etc/server.key\"
table all { \"@\" = \"alice\" }
table bob { \"bob@far.example\" }
listen on 127.0.0.1 port @PORT@ hostname peer.example
listen on 127.0.0.1 port @TLSPORT@ tls pki peer.example hostname peer.example no-dsn
action \"next\" relay host smtp://127.0.0.1:@NEXT@ @TLS@
action \"kept\" maildir \"/home/alice/kept\" virtual <all>
match from any for rcpt-to <bob> reject
match from any for domain \"next.example\" action \"next\"
match from any for any action \"kept\"
";

/// Keeps all mail in a Maildir, refuses bob. Names and passwords are asked on the third port only,
/// and needed there.
const POSTFIX: &str = "
compatibility_level = 3.6
queue_directory = @DIR@/spool
data_directory = @DIR@/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = peer.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
maillog_file = @DIR@/log
maillog_file_prefixes = @DIR@
smtp_dns_support_level = disabled
smtpd_recipient_restrictions =
  check_recipient_access inline:{ {bob@far.example = 550 5.1.1 no bob here} },
  permit_mynetworks, reject
transport_maps = inline:{ {next.example = smtp:[127.0.0.1]:@NEXT@} }
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:kept/
virtual_mailbox_base = @DIR@
virtual_uid_maps = static:1001
virtual_gid_maps = static:1001
smtpd_tls_security_level = may
smtpd_tls_chain_files = @DIR@/server.key, @DIR@/server.crt
smtpd_tls_received_header = yes
smtp_tls_security_level = @TLS@
smtp_tls_CAfile = @DIR@/next.pem
smtp_tls_secure_cert_match = peer.example
";

/// Postfix's services in the place of the one for port 25.
const POSTFIX_SERVICES: &str = "
127.0.0.1:@PORT@ inet n - n - - smtpd
127.0.0.1:@TLSPORT@ inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
127.0.0.1:@THIRD@ inet n - n - - smtpd -o smtpd_tls_security_level=encrypt \
-o smtpd_sasl_auth_enable=yes -o smtpd_client_restrictions=permit_sasl_authenticated,reject
";

/// Cyrus SASL for Postfix: passwords in a database of its own.
const SASL: &str = "
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: @DIR@/sasldb
mech_list: PLAIN LOGIN
";

/// Where a server relays mail for next.example.
pub(super) struct Next<'a> {
    pub(super) address: SocketAddr,
    /// With TLS only, and with a certificate by this authority for 127.0.0.1 or peer.example.
    pub(super) authority: Option<&'a Path>,
}

/// A running mail server. Ended, and its files removed, when dropped.
pub(super) struct Server {
    /// Where it offers what it can.
    pub(super) address: SocketAddr,
    /// Exim, Postfix: where it speaks TLS from the first octet on. OpenSMTPD: where it does not know
    /// DSN, and its handshakes fail.
    pub(super) second: SocketAddr,
    /// Postfix: where it insists on TLS and on `me@peer.example` with the password `correct horse`.
    pub(super) third: SocketAddr,
    /// What it has kept.
    pub(super) kept: Mailbox,
    // Ends before its directory goes.
    _peer: Peer,
    root: PathBuf,
    log: &'static str,
    _directory: TempDir,
}

impl Server {
    /// Exim. Mail for next.example it relays to `next`.
    pub(super) fn exim(next: Option<&Next>) -> Option<Self> {
        let directory = copy("exim4")?;
        let root = directory.path().join("root");
        // The others write to the original's.
        let log = "var/log/exim4/mainlog";
        fs::remove_file(root.join(log)).unwrap();
        let key = root.join("etc/server.key");
        certify(&root.join("etc"));
        chown(&key, Some(991), Some(991)).unwrap();
        let kept = maildir(&root.join("home/alice/kept"));
        let mut chroot = Command::new("/usr/sbin/chroot");
        chroot.arg(&root).args(["/usr/sbin/exim4", "-bdf"]);
        let files = [("etc/exim4/exim4.conf", EXIM)];
        Some(Self::start(
            chroot,
            (directory, root),
            &files,
            next,
            kept,
            log,
        ))
    }

    /// OpenSMTPD. Mail for next.example it relays to `next`.
    pub(super) fn opensmtpd(next: Option<&Next>) -> Option<Self> {
        let directory = copy("opensmtpd")?;
        let root = directory.path().join("root");
        certify(&root.join("etc"));
        if let Some(authority) = next.and_then(|next| next.authority) {
            let authorities = root.join("etc/ssl/certs/ca-certificates.crt");
            fs::copy(authority, authorities).unwrap();
        }
        let kept = maildir(&root.join("home/alice/kept"));
        let mut chroot = Command::new("/usr/sbin/chroot");
        chroot.arg(&root).args(["/usr/sbin/smtpd", "-d"]);
        let tls = if next.is_some_and(|next| next.authority.is_some()) {
            "tls"
        } else {
            ""
        };
        let text = OPENSMTPD.replace("@TLS@", tls);
        let files = [("etc/smtpd.conf", text.as_str())];
        Some(Self::start(
            chroot,
            (directory, root),
            &files,
            next,
            kept,
            "",
        ))
    }

    /// Postfix. Mail for next.example it relays to `next`.
    pub(super) fn postfix(next: Option<&Next>) -> Option<Self> {
        let postfix = tool("postfix", "postfix")?;
        let saslpasswd = tool("saslpasswd2", "sasl2-bin")?;
        if !nix::unistd::geteuid().is_root() {
            missing("postfix", "nothing; run the tests as root");
            return None;
        }
        let directory = tempfile::Builder::new().prefix("postfix").tempdir();
        let directory = directory.unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = directory.path().to_owned();
        for part in ["etc/sasl", "spool", "data"] {
            fs::create_dir_all(root.join(part)).unwrap();
        }
        certify(&root);
        let owner = nix::unistd::User::from_name("postfix").unwrap().unwrap();
        let owner = Some(owner.uid.as_raw());
        chown(root.join("data"), owner, None).unwrap();
        password(&saslpasswd, &root.join("sasldb"));
        chown(root.join("sasldb"), owner, None).unwrap();
        let authority = next.and_then(|next| next.authority);
        if let Some(authority) = authority {
            fs::copy(authority, root.join("next.pem")).unwrap();
        }
        let here = |text: &str| text.replace("@DIR@", root.to_str().unwrap());
        let tls = if authority.is_some() {
            "secure"
        } else {
            "none"
        };
        let main = here(POSTFIX).replace("@TLS@", tls);
        let files = [
            ("etc/main.cf", main.as_str()),
            ("etc/master.cf", &services()),
            ("etc/sasl/smtpd.conf", &here(SASL)),
        ];
        for (name, text) in files {
            fs::write(root.join(name), text).unwrap();
        }
        let etc = root.join("etc");
        // Makes the directories of the queue.
        let mut check = Command::new(postfix);
        let status = check.arg("-c").arg(&etc).arg("check").status().unwrap();
        assert!(status.success(), "postfix check: {status}");
        let kept = maildir(&root.join("kept"));
        let mut master = Command::new("/usr/lib/postfix/sbin/master");
        master.arg("-s").arg("-c").arg(&etc);
        Some(Self::start(
            master,
            (directory, root),
            &files,
            next,
            kept,
            "log",
        ))
    }

    /// The certificate of the authority that vouches for it.
    pub(super) fn authority(&self) -> PathBuf {
        let etc = self.root.join("etc/ca.pem");
        if etc.exists() {
            etc
        } else {
            self.root.join("ca.pem")
        }
    }

    /// Takes mail for carol from now on.
    pub(super) fn open(&self) {
        fs::write(self.root.join("tmp/open"), "").unwrap();
    }

    /// Waits until a line of its log holds all of these words, for so many lines.
    pub(super) fn logged(&self, words: &[&str], lines: usize) {
        until("a server has written its log", || {
            let log = fs::read_to_string(self.root.join(self.log)).ok()?;
            let named = |line: &&str| words.iter().all(|word| line.contains(word));
            (log.lines().filter(named).count() >= lines).then_some(())
        });
    }

    fn start(
        mut command: Command,
        (directory, root): (TempDir, PathBuf),
        files: &[(&str, &str)],
        next: Option<&Next>,
        kept: Mailbox,
        log: &'static str,
    ) -> Self {
        // A port that was free may be taken before the server binds it.
        const TRIES: usize = 5;
        for _ in 0..TRIES {
            let [address, second, third] = [free_address(), free_address(), free_address()];
            for (name, text) in files {
                let text = text
                    .replace("@PORT@", &address.port().to_string())
                    .replace("@TLSPORT@", &second.port().to_string())
                    .replace("@THIRD@", &third.port().to_string())
                    .replace(
                        "@NEXT@",
                        &next.map_or(9, |next| next.address.port()).to_string(),
                    );
                rewrite(&root.join(name), &text);
            }
            let mut peer = Peer::start(&mut command, &root);
            let up = until("the server listens", || {
                let connects = [address, second].map(|at| TcpStream::connect(at).is_ok());
                let ended = peer.has_ended();
                (ended || connects == [true, true]).then_some(!ended)
            });
            if up {
                return Self {
                    address,
                    second,
                    third,
                    kept,
                    _peer: peer,
                    root,
                    log,
                    _directory: directory,
                };
            }
        }
        panic!("{command:?} ended {TRIES} times instead of starting");
    }
}

/// A Maildir of alice's.
fn maildir(path: &Path) -> Mailbox {
    let kept = Mailbox::new(path);
    for part in ["", "tmp", "new", "cur"] {
        chown(path.join(part), Some(1001), Some(1001)).unwrap();
    }
    kept
}

/// The services of Postfix, none of them in a root of its own.
fn services() -> String {
    let usual = fs::read_to_string("/usr/share/postfix/master.cf.dist").unwrap();
    let mut text = String::new();
    for line in usual.lines() {
        let mut words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["smtp", "inet", ..] => text.push_str(POSTFIX_SERVICES),
            [_, "unix" | "fifo" | "inet", ..] if !line.starts_with('#') => {
                words[4] = "n";
                text.push_str(&words.join(" "));
                text.push('\n');
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

/// Makes a database of passwords with one user.
fn password(program: &Path, database: &Path) {
    let mut command = Command::new(program);
    command.args(["-p", "-c", "-u", "peer.example", "-f"]);
    command.arg(database).arg("me").stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"correct horse").unwrap();
    drop(input);
    let status = child.wait().unwrap();
    assert!(status.success(), "saslpasswd2: {status}");
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

/// Writes a file anew: the old one may be a link to the original's.
fn rewrite(path: &Path, text: &str) {
    if path.exists() {
        fs::remove_file(path).unwrap();
    }
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}
