//! What most tests begin with.

use redspool_tools::rig::{Daemon, Dialog, Mailbox, Reply, Rig, Sink};

/// Mail for local.example goes to Maildirs, the rest to a sink.
pub(crate) fn configuration(sink: &Sink) -> String {
    format!(
        "{}match from any for any action \"out\"\n",
        without_last(sink)
    )
}

/// The same, but nobody takes the rest.
pub(crate) fn without_last(sink: &Sink) -> String {
    format!(
        "table users {{ alice = \"@UID@:@GID@:@DIR@/home\", bob = \"@UID@:@GID@:@DIR@/home\" }}\n\
         listen on 127.0.0.1 port 0\n\
         action \"in\" maildir \"@DIR@/mail/%{{user.username}}\" userbase <users>\n\
         action \"out\" relay host {}\n\
         match from any for domain \"local.example\" action \"in\"\n",
        sink.url()
    )
}

/// A sink, a rig that sends to it, and a daemon on it.
pub(crate) fn started() -> (Sink, Rig, Daemon) {
    let sink = Sink::start();
    let rig = Rig::new(&configuration(&sink));
    let daemon = rig.start();
    (sink, rig, daemon)
}

/// The Maildir of a user, under watch.
pub(crate) fn mailbox(rig: &Rig, user: &str) -> Mailbox {
    Mailbox::new(&rig.path().join("mail").join(user))
}

/// A message with this subject.
pub(crate) fn message(subject: &str) -> Vec<u8> {
    format!(
        "From: sender@example.org\r\nTo: somebody@example.net\r\nSubject: {subject}\r\n\
         Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{subject}@example.org>\r\n\r\n\
         Hello.\r\n"
    )
    .into_bytes()
}

/// Sends a message and gives the last reply.
pub(crate) fn send(daemon: &Daemon, rcpt: &str, content: &[u8]) -> Reply {
    let mut dialog = Dialog::hello(daemon.address()).unwrap();
    let reply = dialog
        .submit("sender@example.org", &[rcpt], content)
        .unwrap();
    dialog.ask("QUIT").unwrap();
    reply
}

/// Sends a message that must be taken; gives its message-id.
pub(crate) fn queued(daemon: &Daemon, rcpt: &str, subject: &str) -> String {
    let reply = send(daemon, rcpt, &message(subject));
    assert_eq!(reply.code, 250, "{reply:?}");
    // 250 2.0.0 <msgid> Message accepted for delivery
    let text = reply.text();
    let id = text.split_whitespace().nth(1).unwrap_or_default();
    assert!(
        id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{text}"
    );
    id.to_owned()
}

/// Field `index` of a line of `show queue`.
pub(crate) fn field(line: &str, index: usize) -> &str {
    line.split('|')
        .nth(index)
        .unwrap_or_else(|| panic!("no field {index} in {line}"))
}

/// Fields of a line of `show queue`.
pub(crate) mod fields {
    pub(crate) const EVPID: usize = 0;
    pub(crate) const AGENT: usize = 2;
    pub(crate) const FLAGS: usize = 3;
    pub(crate) const SENDER: usize = 4;
    pub(crate) const RCPT: usize = 5;
    pub(crate) const ATTEMPTS: usize = 10;
    pub(crate) const RUNSTATE: usize = 11;
    pub(crate) const ERROR: usize = 13;
}
