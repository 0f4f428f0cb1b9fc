//! What holds for every stream of octets, and for every way of cutting it.

use crate::driver::{self, Driver, Seen, Taken};
use bytes::Bytes;
use proptest::prelude::*;
use redspool_core::id::MessageId;
use redspool_core::limits::Limits;
use redspool_core::smtp::Spoken;
use redspool_core::smtp::session::{Ending, Event, Note, Params, Verdict};
use std::time::Duration;

const ACCEPTED: &str = "Message accepted for delivery";

/// Everything a session did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) output: String,
    pub(crate) taken: Vec<Taken>,
    discarded: Vec<MessageId>,
    spoken: Vec<Spoken>,
    pub(crate) ending: Option<Ending>,
    pub(crate) notes: Vec<Note>,
}

/// Small enough for random streams to hit them.
fn limits() -> Limits {
    Limits {
        command_line: 60,
        text_line: 40,
        message_size: 200,
        message_in_memory: 64,
        header_size: 90,
        recipients: 3,
        mails_per_session: 3,
        errors_per_session: 6,
        received_fields: 2,
        ..Limits::default()
    }
}

/// Plays a stream, read in pieces of the given sizes, over and over, and answers at once: nobody
/// is refused but recipients whose local part starts with `no`, and every third commit.
fn play(stream: &[u8], steps: &[usize], limits: Limits, local: bool) -> Trace {
    let mut params = driver::params(limits);
    params.local = local;
    play_with(params, stream, steps)
}

/// The same for a session that begins in another way.
pub(crate) fn play_with(params: Params, stream: &[u8], steps: &[usize]) -> Trace {
    let mut driver = Driver::new(params, usize::MAX);
    driver.session.transcript().follow(true);
    let mut trace = Trace::default();
    let mut steps = steps.iter().cycle();
    let mut rest = stream;
    let mut number = 0;
    loop {
        while let Some(seen) = driver.seen.pop_front() {
            answer(&mut driver, &mut trace, &mut number, seen);
        }
        if rest.is_empty() || trace.ending.is_some() {
            break;
        }
        assert!(driver.session.wants_input(), "everything is answered");
        let step = steps.next().copied().unwrap_or(usize::MAX).max(1);
        let (piece, later) = rest.split_at(step.min(rest.len()));
        rest = later;
        driver.handle(Event::Received(Bytes::copy_from_slice(piece)));
    }
    trace.output = String::from_utf8(driver.output).unwrap();
    trace.notes = driver.notes.into();
    let transcript = driver.session.transcript();
    trace.spoken = std::iter::from_fn(|| transcript.take()).collect();
    trace
}

fn answer(driver: &mut Driver, trace: &mut Trace, number: &mut u32, seen: Seen) {
    match seen {
        Seen::Reserve => {
            *number += 1;
            driver.handle(Event::Reserved(MessageId::new(*number).unwrap()));
        }
        Seen::Expand(_, rcpt) if rcpt.local().starts_with("no") => {
            let reply = driver::reply("550 5.1.1 Invalid recipient");
            driver.handle(Event::Expanded(Err(reply)));
        }
        Seen::Expand(_, rcpt) => {
            let recipients = vec![driver::recipient(rcpt, false)];
            driver.handle(Event::Expanded(Ok(recipients)));
        }
        Seen::Commit(taken) => {
            trace.taken.push(taken);
            let said = String::from_utf8_lossy(&driver.output)
                .matches(ACCEPTED)
                .count();
            let refused = (trace.taken.len() - 1) / 3;
            assert!(said + refused < trace.taken.len(), "acknowledged too early");
            if trace.taken.len().is_multiple_of(3) {
                let reply = driver::reply("451 4.3.0 Local error");
                driver.handle(Event::CommitFailed(reply));
            } else {
                driver.handle(Event::Committed);
            }
        }
        Seen::StartTls => driver.handle(Event::Secured(driver::tls(false))),
        Seen::Authenticate(credentials) => {
            let known = *credentials.password == *b"right";
            let wait = Duration::ZERO;
            let verdict = if known {
                Verdict::Known
            } else {
                Verdict::Unknown { wait }
            };
            driver.handle(Event::Authenticated(verdict));
        }
        Seen::Discard(message) => trace.discarded.push(message),
        Seen::Close(ending) => trace.ending = Some(ending),
    }
}

/// Words streams are made of: whole commands, content, and the octets that matter.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => prop::sample::select(vec![
            "EHLO a.example\r\n", "MAIL FROM:<a@b>\r\n", "MAIL FROM:<> SIZE=100\r\n",
            "MAIL FROM:<a@b> SIZE=999\r\n", "RCPT TO:<c@d>\r\n", "RCPT TO:<no@d>\r\n",
            "RCPT TO:<e@f> NOTIFY=NEVER\r\n", "DATA\r\n", "RSET\r\n", "NOOP\r\n", "QUIT\r\n",
            "XYZZY\r\n", "VRFY x\r\n", "MAIL FROM:<\u{e9}@b> SMTPUTF8\r\n", "RCPT TO:<\u{e9}@d>\r\n",
        ]),
        6 => prop::sample::select(vec![
            ".\r\n", "\r\n.\r\n", "Received: x\r\n", "Bcc: x\r\n", "\r\n", " folded\r\n",
            "Subject: a subject of some length\r\n", "..stuffed\r\n", "no field\r\n",
            "a body of rather more octets than fit\r\n", "DATA\r\nA: b\r\n\r\nc\r\n.\r\n",
            "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
            "EHLO a\r\nMAIL FROM:<a@b> SMTPUTF8\r\nRCPT TO:<\u{e9}@d>\r\nDATA\r\n",
            "Subject: \u{e9}\r\n", "Bcc: \u{e9}\r\n", " \u{e9}\r\n",
        ]),
        4 => prop::sample::select(vec![
            "BDAT 6\r\nA: b\r\n", "BDAT 5\r\n\r\nx\r\n", "BDAT 4 LAST\r\nx\r\ny", "BDAT 0 LAST\r\n",
            "BDAT 0\r\n", "BDAT 3\r\n", "BDAT 40\r\n", "BDAT 100 LAST\r\n", "BDAT 999\r\n",
            "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 6\r\nA: b\r\n",
        ]),
        1 => prop::sample::select(vec![
            "\r", "\n", ".", "\r\n", "\n.\n", "\n.\r\n", "\r.\r\n", "\r\n.\n", "\r\n.\r\r\n",
            "\0", "\x7f", "x", "GET / HTTP/1.1\r\n", "BDAT 1\r\n", "BDAT x\r\n", "BDAT 9\n",
        ]),
    ];
    let octets = prop::collection::vec(any::<u8>(), 0..3);
    let piece = prop_oneof![30 => word.prop_map(|word| word.as_bytes().to_vec()), 1 => octets];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1_usize..40, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn cutting_the_stream_changes_nothing(stream in stream(), cuts in cuts(), local: bool) {
        let whole = play(&stream, &[usize::MAX], limits(), local);
        prop_assert_eq!(&play(&stream, &cuts, limits(), local), &whole);
        prop_assert_eq!(&play(&stream, &[1], limits(), local), &whole);
    }

    #[test]
    fn every_id_is_committed_or_discarded_once(stream in stream(), cuts in cuts()) {
        let trace = play(&stream, &cuts, limits(), false);
        let mut ids: Vec<_> = trace.taken.iter().map(|taken| taken.message.id).collect();
        ids.extend(&trace.discarded);
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        prop_assert_eq!(ids.len(), count);
        let said = trace.output.matches(ACCEPTED).count();
        prop_assert_eq!(said, trace.taken.len() - trace.taken.len() / 3);
    }

    #[test]
    fn any_octets_are_survived(octets in prop::collection::vec(any::<u8>(), 0..400), cuts in cuts()) {
        play(&octets, &cuts, limits(), false);
        let data = [OPENING.as_bytes(), &octets].concat();
        play(&data, &cuts, limits(), true);
    }

    #[test]
    fn content_arrives_octet_for_octet(lines in prop::collection::vec(any_line(), 0..30), cuts in cuts()) {
        let mut stream = OPENING.as_bytes().to_vec();
        let mut content = Vec::new();
        for line in &lines {
            if line.first() == Some(&b'.') {
                stream.push(b'.');
            }
            for text in [&mut stream, &mut content] {
                text.extend_from_slice(line);
                text.extend_from_slice(b"\r\n");
            }
        }
        stream.extend_from_slice(b".\r\n");
        for message_in_memory in [20, 1 << 20] {
            let limits = Limits { message_in_memory, ..Limits::default() };
            let trace = play(&stream, &cuts, limits, false);
            let taken = trace.taken.first().unwrap();
            prop_assert!(taken.content.ends_with(&content));
            prop_assert_eq!(taken.content.len(), TRACE + content.len());
            prop_assert_eq!(taken.message.eight_bit, !content.is_ascii());
            // Whoever traces the session sees the commands, and of the content its size.
            let heard: Vec<_> = trace.spoken.iter().filter_map(|spoken| match spoken {
                Spoken::Client(line) => Some(line.to_string()),
                Spoken::Content(octets) => Some(octets.to_string()),
                Spoken::Server(_) | Spoken::Judged { .. } => None,
            }).collect();
            let octets = stream.len() - OPENING.len();
            let said: Vec<_> = OPENING.lines().map(str::to_owned).collect();
            prop_assert_eq!(heard, [said, vec![octets.to_string()]].concat());
        }
    }

    /// However content comes, it is the same message, or none; and one chunk is refused as DATA is.
    #[test]
    fn chunks_make_the_message_that_data_makes(
        words in prop::collection::vec(content_word(), 0..12),
        sizes in prop::collection::vec(0_usize..20, 1..8),
        cuts in cuts(),
        local: bool,
    ) {
        let content = words.concat();
        let limits = || Limits { text_line: 1000, ..limits() };
        let by_data = play(&dotted(&content), &cuts, limits(), local);
        let whole = play(&chunked(&content, &[content.len()]), &cuts, limits(), local);
        let chunks = play(&chunked(&content, &sizes), &cuts, limits(), local);
        let messages = |trace: &Trace| {
            let taken = trace.taken.iter();
            let parts = taken.map(|taken| (taken.message, taken.envelopes.clone(), taken.content.clone()));
            parts.collect::<Vec<_>>()
        };
        prop_assert_eq!(messages(&whole), messages(&by_data));
        prop_assert_eq!(messages(&chunks), messages(&by_data));
        let last = |trace: &Trace| trace.output.lines().last().map(str::to_owned);
        prop_assert_eq!(last(&whole), last(&by_data));
    }

    /// A refused command leaves the session as it was: without it, everything else is the same.
    #[test]
    fn refused_commands_leave_no_trace(words in prop::collection::vec(command(), 0..25)) {
        let limits = || Limits { errors_per_session: 1000, ..limits() };
        let (all, accepted) = replay(&words, limits());
        let again = play(accepted.as_bytes(), &[usize::MAX], limits(), false);
        prop_assert_eq!(again.output, all.output);
        prop_assert_eq!(again.taken, all.taken);
        prop_assert_eq!(again.discarded, all.discarded);
    }
}

/// Lines, and what is none.
fn content_word() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        &b"Subject: x\r\n"[..],
        b"Received: x\r\n",
        b"Bcc: x\r\n",
        b"\r\n",
        b".\r\n",
        b"..\r\n",
        b"\xe9 text\r\n",
        b" a line of some length\r\n",
        b"text",
    ];
    let odd = [&b"\r"[..], b"\n", b"\0", b"\n.\r\n"];
    prop_oneof![
        20 => prop::sample::select(words.to_vec()),
        1 => prop::sample::select(odd.to_vec()),
    ]
    .prop_map(<[u8]>::to_vec)
}

/// A session that sends content by DATA.
fn dotted(content: &[u8]) -> Vec<u8> {
    let mut stream = OPENING.as_bytes().to_vec();
    for octet in content {
        if *octet == b'.' && stream.ends_with(b"\r\n") {
            stream.push(b'.');
        }
        stream.push(*octet);
    }
    if !stream.ends_with(b"\r\n") {
        stream.extend_from_slice(b"\r\n");
    }
    stream.extend_from_slice(b".\r\n");
    stream
}

/// A session that sends content in chunks of the given sizes, over and over.
fn chunked(content: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut stream = OPENING.as_bytes().to_vec();
    stream.truncate(stream.len() - "DATA\r\n".len());
    let mut rest = content;
    for (number, size) in sizes.iter().cycle().enumerate() {
        // Not all of them are empty.
        let size = (*size).max(number % 2).min(rest.len());
        let (chunk, behind) = rest.split_at(size);
        rest = behind;
        let last = if rest.is_empty() { " LAST" } else { "" };
        stream.extend_from_slice(format!("BDAT {}{last}\r\n", chunk.len()).as_bytes());
        stream.extend_from_slice(chunk);
        if rest.is_empty() {
            break;
        }
    }
    stream
}

const OPENING: &str = "EHLO a.example\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";

/// Octets of the trace field of a message after [`OPENING`].
const TRACE: usize = "Received: from a.example (client.example [192.0.2.1])\r\n\
    \tby mx.example (redspool) with ESMTP id 00000001\r\n\
    \tfor <c@d>;\r\n\
    \tMon, 23 Nov 2026 06:46:00 +0000 (UTC)\r\n"
    .len();

/// A line without CR, LF and NUL; dots are frequent.
fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![
        1 => Just(b'.'),
        3 => any::<u8>().prop_filter("ends a line", |octet| !b"\r\n\0".contains(octet)),
    ];
    prop::collection::vec(octet, 0..60)
}

fn command() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "EHLO a.example\r\n",
        "HELO a.example\r\n",
        "MAIL FROM:<a@b>\r\n",
        "MAIL FROM:<a@b> RET=FULL ENVID=x\r\n",
        "MAIL FROM:<a@b> SIZE=999\r\n",
        "MAIL FROM:<a@b> SMTPUTF8\r\n",
        "MAIL FROM:<\u{e9}@b> SMTPUTF8=\r\n",
        "RCPT TO:<\u{e9}@d>\r\n",
        "MAIL FROM:bad\r\n",
        "RCPT TO:<c@d>\r\n",
        "RCPT TO:<no@d>\r\n",
        "RCPT TO:<c@d> NOTIFY=NEVER\r\n",
        "RCPT TO:<c@d> NOTIFY=NEVER,DELAY\r\n",
        "DATA\r\n",
        "DATA x\r\n",
        "RSET\r\n",
        "NOOP\n",
        "VRFY\r\n",
        "AUTH PLAIN\r\n",
        "STARTTLS\r\n",
        "XYZZY\r\n",
    ])
    .prop_map(str::to_owned)
}

/// Plays commands one by one, each 354 with a message behind it. Gives what was done, the output
/// reduced to what answers the commands that were accepted, and those commands.
fn replay(words: &[String], limits: Limits) -> (Trace, String) {
    let mut driver = Driver::new(driver::params(limits), usize::MAX);
    let mut trace = Trace::default();
    let mut number = 0;
    let mut kept = String::new();
    let mut accepted = String::new();
    let mut answered = driver.output.len();
    kept.push_str(str::from_utf8(&driver.output).unwrap());
    let mut say = |trace: &mut Trace, text: &str| {
        driver.handle(Event::Received(Bytes::copy_from_slice(text.as_bytes())));
        while let Some(seen) = driver.seen.pop_front() {
            answer(&mut driver, trace, &mut number, seen);
        }
        let reply = String::from_utf8(driver.output[answered..].to_vec()).unwrap();
        answered = driver.output.len();
        reply
    };
    for word in words {
        let reply = say(&mut trace, word);
        if !reply.starts_with(['2', '3']) {
            continue;
        }
        kept.push_str(&reply);
        accepted.push_str(word);
        if reply.starts_with('3') {
            kept.push_str(&say(&mut trace, MESSAGE));
            accepted.push_str(MESSAGE);
        }
    }
    trace.output = kept;
    (trace, accepted)
}

const MESSAGE: &str = "A: b\r\n\r\nc\r\n.\r\n";

/// T10: every end of line, dot and end of line, at every chunk boundary. What counts as the end
/// of data is decided here by the definition.
#[test]
fn t10_only_crlf_dot_crlf_ends_data() {
    const ENDS: [&str; 5] = ["", "\r", "\n", "\r\n", "\r\r\n"];
    const DOTS: [&str; 5] = ["", ".", "..", ".\0", ".x"];
    let mut ended_early = 0;
    for before in ["", "text"] {
        for first in ENDS {
            for dot in DOTS {
                for last in ENDS {
                    let attempt = [before, first, dot, last].concat();
                    let data =
                        [&attempt, "MAIL FROM:<evil@b>\r\nRCPT TO:<x@y>\r\n\r\n.\r\n"].concat();
                    ended_early += usize::from(check_data(&data));
                }
            }
        }
    }
    // CR LF dot CR LF, behind text or nothing, with a CR too many before it or not; and dot CR LF
    // at the very start.
    assert_eq!(ended_early, 5);
}

/// Checks a stream that follows 354, which holds an end of data; says whether it was before the
/// end of the stream.
fn check_data(data: &str) -> bool {
    let with_start = ["\r\n", data].concat();
    let end = with_start.find("\r\n.\r\n").unwrap();
    let raw = &with_start[2..end + 2];
    let without_pairs = raw.replace("\r\n", "");
    let sound = !without_pairs.contains(['\r', '\n']);
    let lines = raw.split_inclusive('\n');
    let content: String = lines
        .map(|line| line.strip_prefix('.').unwrap_or(line))
        .collect();
    let stream = [OPENING, data].concat();
    for cut in OPENING.len()..stream.len() {
        let steps = [cut, stream.len()];
        let trace = play(stream.as_bytes(), &steps, Limits::default(), false);
        if !sound {
            assert_eq!(trace.taken, [], "{data:?} cut at {cut}");
            assert_eq!(trace.ending, Some(Ending::Error), "{data:?} cut at {cut}");
            assert!(
                trace
                    .output
                    .ends_with("554 5.6.0 Message refused: CR or LF alone in message\r\n")
            );
        } else if raw.contains('\0') {
            assert_eq!(trace.taken, [], "{data:?} cut at {cut}");
            assert!(
                trace
                    .output
                    .contains("554 5.6.0 Message refused: NUL in message\r\n")
            );
        } else {
            let taken = trace.taken.first().unwrap();
            let text = str::from_utf8(&taken.content).unwrap();
            assert_eq!(&text[TRACE..], content, "{data:?} cut at {cut}");
        }
    }
    end + 5 < with_start.len()
}
