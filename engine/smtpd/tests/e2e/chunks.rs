//! CHUNKING (RFC 3030): messages that come by BDAT, and go on, octet for octet.

use redspool_tools::rig::{Daemon, Dialog, Rig, Sink, until};

/// Relays everything to this host.
fn relaying(url: &str) -> (Rig, Daemon) {
    let rig = Rig::new(&format!(
        "listen on 127.0.0.1 port 0\n\
         action \"out\" relay host {url}\n\
         match from any for any action \"out\"\n"
    ));
    let daemon = rig.start();
    (rig, daemon)
}

/// What DATA would change on its way, for more than a session keeps in memory.
fn content() -> Vec<u8> {
    let mut content = b"From: a@b.example\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n\
        Message-ID: <1@b.example>\r\n\r\n"
        .to_vec();
    while content.len() < 600_000 {
        let number = content.len();
        content.extend_from_slice(format!("{number}\r\n.\r\n..\r\nQUIT\r\n").as_bytes());
        content.extend(0x80..=0xff_u8);
        content.extend_from_slice(b"\r\n");
    }
    content
}

/// A transaction in one go, its content in chunks of this size.
fn pipelined(content: &[u8], size: usize) -> Vec<u8> {
    let mut octets = b"MAIL FROM:<a@b.example> BODY=8BITMIME\r\nRCPT TO:<c@d.example>\r\n".to_vec();
    for chunk in content.chunks(size) {
        octets.extend_from_slice(format!("BDAT {}\r\n", chunk.len()).as_bytes());
        octets.extend_from_slice(chunk);
    }
    octets.extend_from_slice(b"BDAT 0 LAST\r\nNOOP\r\n");
    octets
}

#[test]
fn chunks_become_the_message_they_are_cut_from() {
    let sink = Sink::start();
    // From one daemon to the next it goes in chunks, too.
    let (next_rig, next) = relaying(&sink.url());
    let (rig, daemon) = relaying(&format!("smtp://{}", next.address()));
    let content = content();
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    for size in [content.len(), 7001] {
        dialog.send(&pipelined(&content, size)).unwrap();
        // MAIL, RCPT, the chunks, the last one, NOOP.
        for _ in 0..content.len().div_ceil(size) + 4 {
            let reply = dialog.reply().unwrap();
            assert_eq!(reply.code, 250, "{reply:?}");
        }
        let delivery = sink.next();
        assert!(delivery.content.ends_with(&content), "chunks of {size}");
        let added = delivery.content.len() - content.len();
        let head = String::from_utf8_lossy(&delivery.content[..added]).into_owned();
        assert_eq!(head.matches("Received: ").count(), 2, "{head}");
    }
    until("both queues are empty", || {
        (rig.queue().is_empty() && next_rig.queue().is_empty()).then_some(())
    });
}

#[test]
fn a_chunk_that_is_refused_is_no_command() {
    let sink = Sink::start();
    let (rig, daemon) = relaying(&sink.url());
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    let commands = b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n";
    let commands = commands.repeat(10_000);
    let mut octets = format!("BDAT {} LAST\r\n", commands.len()).into_bytes();
    octets.extend_from_slice(&commands);
    dialog.send(&octets).unwrap();
    assert_eq!(dialog.reply().unwrap().code, 503);
    assert_eq!(dialog.ask("NOOP").unwrap().code, 250);
    assert_eq!(rig.queue(), [""; 0]);
    // Nobody knows how long this one is.
    dialog.send(b"BDAT many\r\n").unwrap();
    let replies = dialog.rest().unwrap();
    let codes: Vec<_> = replies.iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [501]);
}
