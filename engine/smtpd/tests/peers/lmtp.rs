//! An LMTP server of another make: aiosmtpd's.

use super::{drained, free_address, listening};
use redspool_tools::rig::{Dialog, Mailbox, Peer, Rig, missing, until};
use std::path::Path;
use std::process::{Command, Stdio};

/// Keeps mail in a Maildir; bob is refused for good, carol for now.
const SERVER: &str = "
import sys, asyncio
from aiosmtpd.lmtp import LMTP
from aiosmtpd.handlers import Mailbox
class Handler(Mailbox):
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith('bob'): return '550 5.1.1 no bob here'
        if address.startswith('carol'): return '451 4.2.1 carol is away'
        envelope.rcpt_tos.append(address)
        return '250 2.1.5 fine'
host, port, path = sys.argv[1:4]
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
handler = Handler(path)
loop.run_until_complete(loop.create_server(lambda: LMTP(handler, loop=loop), host, int(port)))
loop.run_forever()
";

/// Debian's Python, which has Debian's modules.
pub(super) const PYTHON: &str = "/usr/bin/python3";

pub(super) fn has_aiosmtpd() -> bool {
    let mut command = Command::new(PYTHON);
    command
        .args(["-c", "import aiosmtpd.lmtp"])
        .stderr(Stdio::null());
    let found = command.status().is_ok_and(|status| status.success());
    if !found {
        missing("aiosmtpd", "python3-aiosmtpd");
    }
    found
}

fn server(address: std::net::SocketAddr, directory: &Path) -> Peer {
    let mut command = Command::new(PYTHON);
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    command.args(["-c", SERVER, &host, &port, "lmtp"]);
    let peer = Peer::start(&mut command, directory);
    listening(address);
    peer
}

#[test]
fn an_lmtp_server_takes_refuses_and_puts_off() {
    if !has_aiosmtpd() {
        return;
    }
    let address = free_address();
    let rig = Rig::new(&format!(
        "table users {{ alice = \"@UID@:@GID@:@DIR@\", bob = \"@UID@:@GID@:@DIR@\", \
         carol = \"@UID@:@GID@:@DIR@\", dave = \"@UID@:@GID@:@DIR@\" }}\n\
         listen on 127.0.0.1 port 0\n\
         action \"lmtp\" lmtp \"{address}\" userbase <users>\n\
         action \"reports\" maildir \"@DIR@/reports\" userbase <users>\n\
         match from any for domain \"local.example\" action \"lmtp\"\n\
         match from any for domain \"reports.example\" action \"reports\"\n"
    ));
    let lmtp = Mailbox::new(&rig.path().join("lmtp"));
    let reports = Mailbox::new(&rig.path().join("reports"));
    let _server = server(address, rig.path());
    let daemon = rig.start();

    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    let rcpts = [
        "alice@local.example",
        "bob@local.example",
        "carol@local.example",
    ];
    let content = b"Subject: by lmtp\r\n\r\n.\r\n..text\r\n";
    let reply = dialog
        .submit("dave@reports.example", &rcpts, content)
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");

    let text = lmtp.one();
    assert!(
        text.replace("\r\n", "\n").ends_with("\n\n.\n..text\n"),
        "{text}"
    );
    let report = reports.one();
    assert!(report.contains("550 5.1.1 no bob here"), "{report}");
    assert!(!report.contains("carol"), "{report}");
    let line = until("carol has been tried", || {
        let mut queue = rig.queue();
        let line = queue.pop()?;
        (queue.is_empty() && line.contains("451 4.2.1 carol is away")).then_some(line)
    });
    assert!(
        line.contains("carol@local.example") && line.contains("|pending|"),
        "{line}"
    );
    rig.show(&["remove", "all"]);
    drained(&rig);
}
