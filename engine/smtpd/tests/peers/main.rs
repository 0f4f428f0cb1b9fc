//! smtpd beside programs of other projects: Postfix and its load tools, Exim, OpenSMTPD, swaks, an LMTP
//! server in Python, and a DNS server.
//!
//! A tool that is missing fails the test when the environment has `CI`; elsewhere the test is left
//! out and says so. `.ci/run peers` installs them.

#![expect(
    clippy::unwrap_used,
    reason = "the configuration spares tests, not their helpers"
)]

mod dns;
mod lmtp;
mod notices;
mod postfix;
mod secured;
mod servers;
mod swaks;
mod transfer;

use redspool_tools::rig::{Mailbox, Rig, until};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Mail for local.example goes to Maildirs under `mail`, the rest where `out` says.
fn configuration(out: &str) -> String {
    format!(
        "table users {{ alice = \"@UID@:@GID@:@DIR@\", bob = \"@UID@:@GID@:@DIR@\" }}\n\
         listen on 127.0.0.1 port 0\n\
         action \"in\" maildir \"@DIR@/mail/%{{user.username}}\" userbase <users>\n\
         action \"out\" {out}\n\
         match from any for domain \"local.example\" action \"in\"\n\
         match from any for any action \"out\"\n"
    )
}

fn mailbox(rig: &Rig, user: &str) -> Mailbox {
    Mailbox::new(&rig.path().join("mail").join(user))
}

/// An address nobody listens on at the moment, for a program that cannot pick one itself.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap()
}

/// Waits until somebody listens.
fn listening(address: SocketAddr) {
    until("the peer listens", || {
        TcpStream::connect(address).ok().map(drop)
    });
}

/// Waits until nothing is queued.
fn drained(rig: &Rig) {
    until("the queue is empty", || {
        rig.queue().is_empty().then_some(())
    });
}
