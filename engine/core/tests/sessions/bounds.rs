//! What a session holds, and when it asks for more.

use crate::driver::{self, Driver, Seen};
use bytes::Bytes;
use redspool_core::id::MessageId;
use redspool_core::limits::Limits;
use redspool_core::machine::Machine;
use redspool_core::smtp::session::{Action, Event, Session};

const BATCH: &str =
    "EHLO a.example\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n";

/// Answers everything up to 354.
fn open(driver: &mut Driver) {
    begin(driver, BATCH);
}

/// Answers everything up to the content.
fn begin(driver: &mut Driver, batch: &str) {
    driver.handle(Event::Received(Bytes::copy_from_slice(batch.as_bytes())));
    driver.handle(Event::Reserved(MessageId::new(1).unwrap()));
    for _ in 0..2 {
        let Some(Seen::Expand(_, rcpt)) = driver.seen.pop_back() else {
            panic!("no recipient: {:?}", driver.seen);
        };
        let recipients = vec![driver::recipient(rcpt, false)];
        driver.handle(Event::Expanded(Ok(recipients)));
    }
    driver.seen.clear();
}

#[test]
fn replies_of_a_batch_are_sent_together() {
    let mut driver = Driver::new(driver::params(Limits::default()), usize::MAX);
    let banner = driver.sends;
    open(&mut driver);
    assert!(driver.output.ends_with(b"on a line by itself\r\n"));
    assert_eq!(driver.sends - banner, 1);
}

#[test]
fn pipelined_input_is_not_read_while_an_answer_is_awaited() {
    let limits = Limits::default();
    let command_line = limits.command_line;
    let mut driver = Driver::new(driver::params(limits), usize::MAX);
    let start = Bytes::from_static(b"EHLO a.example\r\nMAIL FROM:<a@b>\r\n");
    driver.handle(Event::Received(start));
    assert_eq!(driver.seen, [Seen::Reserve]);
    assert!(driver.session.wants_input());
    let more = Bytes::from("NOOP\r\n".repeat(command_line.div_ceil(6)));
    driver.handle(Event::Received(more));
    assert!(!driver.session.wants_input());
    driver.handle(Event::Reserved(MessageId::new(1).unwrap()));
    assert!(driver.session.wants_input());
    let replies = String::from_utf8(driver.output).unwrap();
    assert_eq!(
        replies.matches("250 2.0.0 Ok\r\n").count(),
        1 + command_line.div_ceil(6)
    );
}

/// The actions a session has for us; none of them is answered.
fn drain(session: &mut Session) -> Vec<Action> {
    std::iter::from_fn(|| session.poll()).collect()
}

/// Plays a large message against a temporary file that answers late, or never.
fn pieces(session: &mut Session, now: redspool_core::time::Now, count: usize) -> usize {
    let line = "x".repeat(998) + "\r\n";
    let piece = Bytes::from(line.repeat(16));
    let mut most = 0;
    for _ in 0..count {
        if !session.wants_input() {
            break;
        }
        session.handle(now, Event::Received(piece.clone()));
        for action in drain(session) {
            if let Action::Spool(octets) = action {
                most = most.max(octets.len());
            }
        }
    }
    most
}

#[test]
fn a_slow_temporary_file_stops_the_reading() {
    let mut driver = Driver::new(driver::params(Limits::default()), usize::MAX);
    open(&mut driver);
    driver.handle(Event::Received(Bytes::from_static(b"\r\n")));
    let now = driver.now;
    let session = &mut driver.session;
    let largest = pieces(session, now, 1000);
    assert!(!session.wants_input(), "two pieces are on their way");
    assert!(largest <= Limits::default().message_in_memory + 17_000);
    session.handle(now, Event::Spooled);
    assert!(session.wants_input());
    session.handle(now, Event::Received(Bytes::from_static(b".\r\n")));
    assert!(
        drain(session)
            .iter()
            .all(|action| !matches!(action, Action::Commit(_)))
    );
    session.handle(now, Event::Spooled);
    session.handle(now, Event::Spooled);
    let done = drain(session);
    assert!(matches!(done.as_slice(), [Action::Commit(_)]), "{done:?}");
}

#[test]
fn a_slow_temporary_file_stops_the_reading_of_chunks() {
    let mut driver = Driver::new(driver::params(Limits::default()), usize::MAX);
    begin(&mut driver, &BATCH.replace("DATA", "BDAT 30000000"));
    driver.handle(Event::Received(Bytes::from_static(b"\r\n")));
    let now = driver.now;
    let session = &mut driver.session;
    let largest = pieces(session, now, 1000);
    assert!(!session.wants_input(), "two pieces are on their way");
    assert!(largest <= Limits::default().message_in_memory + 17_000);
    session.handle(now, Event::Spooled);
    assert!(session.wants_input());
}

#[test]
fn a_chunk_that_is_too_big_is_not_stored() {
    let limits = Limits {
        message_size: 10_000_000,
        ..Limits::default()
    };
    let mut driver = Driver::new(driver::params(limits), usize::MAX);
    begin(&mut driver, &BATCH.replace("DATA", "BDAT 16000000 LAST"));
    let now = driver.now;
    let session = &mut driver.session;
    // It ends within the time the client is given, not within a size.
    assert_eq!(
        pieces(session, now, 999),
        0,
        "nothing reaches the temporary file"
    );
    assert!(session.deadline().is_some());
    session.handle(now, Event::Received(Bytes::from(vec![b'x'; 16_000])));
    let done = drain(session);
    assert!(matches!(done.first(), Some(Action::Discard(_))), "{done:?}");
}

#[test]
fn a_message_that_is_too_big_is_not_stored() {
    let limits = Limits {
        message_size: 10_000,
        ..Limits::default()
    };
    let mut driver = Driver::new(driver::params(limits), usize::MAX);
    open(&mut driver);
    let now = driver.now;
    let session = &mut driver.session;
    assert_eq!(
        pieces(session, now, 1000),
        0,
        "nothing reaches the temporary file"
    );
    session.handle(now, Event::Received(Bytes::from_static(b".\r\n")));
    let done = drain(session);
    assert!(matches!(done.first(), Some(Action::Discard(_))), "{done:?}");
}
