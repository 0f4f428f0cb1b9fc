//! A server that takes mail with TLS and AUTH only, with Python's TLS, which is OpenSSL's.

use super::lmtp::{PYTHON, has_aiosmtpd};
use super::transfer::{awkward, large, send};
use super::{drained, free_address, listening};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use redspool_tools::rig::{Dialog, Mailbox, Peer, Rig, until};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Keeps mail in a Maildir, octet by octet. Takes one user, by the mechanism it is told.
const SERVER: &str = "
import sys, asyncio, os, ssl
from aiosmtpd.smtp import SMTP, AuthResult
class Keeper:
    kept = 0
    async def handle_DATA(self, server, session, envelope):
        self.kept += 1
        path = f'kept/tmp/{self.kept}'
        with open(path, 'wb') as file: file.write(envelope.content)
        os.rename(path, f'kept/new/{self.kept}')
        return '250 2.0.0 kept'
host, port, mechanism = sys.argv[1:4]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain('server.crt', 'server.key')
def judge(server, session, envelope, mechanism, data):
    right = data.login == b'me@us.example' and data.password == b'correct horse'
    return AuthResult(success=right, handled=False)
other = {'PLAIN': 'LOGIN', 'LOGIN': 'PLAIN'}[mechanism]
def serve():
    return SMTP(handler, loop=loop, tls_context=context, require_starttls=True,
                authenticator=judge, auth_required=True, auth_exclude_mechanism=[other])
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
handler = Keeper()
loop.run_until_complete(loop.create_server(serve, host, int(port)))
loop.run_forever()
";

/// Writes an authority, and a certificate it has made for the loopback address and peer.example.
pub(super) fn certify(directory: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate whose issuer has its own name for self-signed.
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, "the authority");
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let names = ["127.0.0.1", "peer.example"].map(str::to_owned);
    let params = CertificateParams::new(names).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    fs::write(directory.join("server.crt"), certificate.pem()).unwrap();
    let path = directory.join("server.key");
    fs::write(&path, key.serialize_pem()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn relay_with(mechanism: &str, secret: &str) -> Option<(Rig, Peer)> {
    if !has_aiosmtpd() {
        return None;
    }
    let address = free_address();
    let rig = Rig::new(&format!(
        "ca private cert \"ca.pem\"\n\
         table secrets {{ lbl = \"{secret}\" }}\n\
         listen on 127.0.0.1 port 0\n\
         action \"out\" relay host smtp+tls://lbl@{address} ca private auth <secrets>\n\
         match from any for any action \"out\"\n"
    ));
    certify(rig.path());
    let mut command = Command::new(PYTHON);
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    command.args(["-c", SERVER, &host, &port, mechanism]);
    let peer = Peer::start(&mut command, rig.path());
    listening(address);
    Some((rig, peer))
}

#[test]
fn mail_goes_to_a_server_that_insists_on_tls_and_auth() {
    for mechanism in ["PLAIN", "LOGIN"] {
        let Some((rig, _peer)) = relay_with(mechanism, "me@us.example:correct horse") else {
            return;
        };
        let kept = Mailbox::new(&rig.path().join("kept"));
        let daemon = rig.start();
        for (count, content) in (1..).zip([awkward(), large(300_000)]) {
            send(daemon.address(), &["b@far.example"], &content);
            let messages = kept.wait(count);
            let longest = messages.iter().max_by_key(|message| message.len());
            assert!(longest.unwrap().ends_with(&content));
        }
        drained(&rig);
        daemon.logged("mta tls ciphers=TLSv1.3:TLS_");
        daemon.logged("mta cert-check result=\"valid\"");
    }
}

#[test]
fn a_wrong_password_delays_mail() {
    let Some((rig, _peer)) = relay_with("PLAIN", "me@us.example:wrong horse") else {
        return;
    };
    let daemon = rig.start();
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    let reply = dialog.submit(
        "a@us.example",
        &["b@far.example"],
        b"Subject: x\r\n\r\nx\r\n",
    );
    assert_eq!(reply.unwrap().code, 250);
    until("the attempt fails", || {
        let queue = rig.queue();
        queue.first()?.contains("|535 5.7.8 ").then_some(())
    });
}
