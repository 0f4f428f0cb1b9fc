//! What holds whatever the server says.

use super::{message, start, transaction};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use redspool_core::envelope::TlsPolicy;
use redspool_core::limits::MtaLimits;
use redspool_core::machine::Machine;
use redspool_core::queue::{Failure, Outcome};
use redspool_core::reply::Status;
use redspool_core::smtp::client::{Action, Client, Event, Params};
use std::sync::Arc;
use std::time::Duration;

const RECIPIENTS: [&str; 3] = ["a@example.net", "b@example.net", "c@example.net"];

fn client(lmtp: bool) -> Client {
    secured_client(lmtp, TlsPolicy::Never)
}

fn secured_client(lmtp: bool, tls: TlsPolicy) -> Client {
    Client::new(Params {
        helo: "us.example".into(),
        lmtp,
        tls,
        credentials: tls.is_required().then(|| super::secret("me:word")),
        limits: Arc::new(MtaLimits {
            failures_per_session: 4,
            tries_per_session: 3,
            mails_per_session: 3,
            reply_lines: 8,
            reply_line: 64,
            ..MtaLimits::default()
        }),
        peer: "peer".into(),
    })
}

/// Octets of a server that may mean well, or not.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let line = select(vec![
        "220 mx",
        "250 ok",
        "250-mx",
        "250 PIPELINING",
        "250-PIPELINING",
        "250-CHUNKING",
        "502 what",
        "551 what",
        "354 go",
        "421 bye",
        "450 no",
        "550 5.1.1 no",
        "250",
        "25",
        "999 x",
        "221 bye",
        "",
        "250ok",
        "250 SIZE 10",
        "250 STARTTLS",
        "250-STARTTLS",
        "250 AUTH PLAIN LOGIN",
        "235 welcome",
        "334 ",
    ]);
    let lines = vec(line, 1..4).prop_map(|lines| {
        let lines = lines.iter().map(|line| format!("{line}\r\n"));
        lines.collect::<String>().into_bytes()
    });
    prop_oneof![8 => lines, 1 => vec(any::<u8>(), 0..80)]
}

fn event() -> impl Strategy<Value = Option<Event>> {
    let body = (vec(select(b"a.\r\n".to_vec()), 0..6), any::<bool>());
    prop_oneof![
        1 => Just(Some(Event::Connected)),
        12 => input().prop_map(|bytes| Some(Event::Received(bytes.into()))),
        4 => (0..=3usize).prop_map(|n| {
            Some(Event::Assigned(transaction("s@example.org", &RECIPIENTS[..n])))
        }),
        3 => body.prop_map(|(bytes, last)| Some(Event::Body { bytes: bytes.into(), last })),
        3 => Just(Some(Event::Body { bytes: Bytes::from_static(b"x\r\n"), last: true })),
        1 => Just(Some(Event::BodyFailed(Failure::new(Status::transient(3, 0), "disk")))),
        2 => Just(Some(Event::Secured)),
        1 => Just(Some(Event::Unsecured("no".into()))),
        1 => Just(Some(Event::QuitRequested)),
        // None: time passes to the deadline.
        1 => Just(None),
    ]
}

fn policy() -> impl Strategy<Value = TlsPolicy> {
    select(vec![
        TlsPolicy::Never,
        TlsPolicy::Opportunistic,
        TlsPolicy::Required { verify: true },
        TlsPolicy::Immediate { verify: false },
    ])
}

fn offers() -> impl Strategy<Value = Offers> {
    select(vec![
        Offers::Nothing,
        Offers::Pipelining,
        Offers::Chunking,
        Offers::Unknown,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_recipient_has_one_outcome_whatever_happens(
        lmtp in any::<bool>(),
        tls in policy(),
        events in vec(event(), 0..60),
    ) {
        let mut now = start();
        let (mut shaking, mut secured) = (false, false);
        let mut client = secured_client(lmtp, tls);
        let mut assigned = 0;
        let mut outcomes = 0;
        let mut closes = 0;
        let mut reading = None;
        // The start is honest more often than chance would make it.
        let greeting = Some(Event::Received(Bytes::from_static(b"220 mx\r\n")));
        let start = [Some(Event::Connected), greeting];
        // A session that shakes hands when it is closed connects anew; that fails, too.
        let end = || Some(Event::Closed(None));
        for event in start.into_iter().chain(events).chain([end(), end()]) {
            let event = event.unwrap_or_else(|| {
                now.mono += Duration::from_mins(11);
                Event::TimedOut
            });
            if let Event::Assigned(transaction) = &event {
                assigned += transaction.recipients.len();
            }
            if matches!(event, Event::Secured) && shaking {
                secured = true;
            }
            shaking &= !matches!(event, Event::Secured | Event::Unsecured(_) | Event::TimedOut);
            client.handle(now, event);
            while let Some(action) = client.poll() {
                match action {
                    Action::Attempted(list) => outcomes += list.len(),
                    Action::Close(_) => closes += 1,
                    Action::Troubled(_) => {}
                    Action::StartTls => {
                        prop_assert!(tls != TlsPolicy::Never && !secured);
                        shaking = true;
                    }
                    Action::Reconnect => {
                        prop_assert_eq!(tls, TlsPolicy::Opportunistic);
                    }
                    Action::SendHidden(_) => {
                        prop_assert!(secured, "a password in clear text");
                    }
                    Action::ReadBody(id, index) => {
                        prop_assert_eq!(id, message());
                        prop_assert!(index == 0 || reading == index.checked_sub(1));
                        reading = Some(index);
                    }
                    Action::Ready => {
                        prop_assert!(secured || !tls.is_required(), "ready without TLS");
                        prop_assert_eq!(assigned, outcomes);
                    }
                    Action::Send(bytes) => {
                        prop_assert_eq!(closes, 0, "sent {:?} after the end", bytes);
                    }
                }
            }
        }
        prop_assert_eq!(closes, 1);
        prop_assert_eq!(assigned, outcomes);
        prop_assert_eq!(client.deadline(), None);
    }

    #[test]
    fn the_cut_of_replies_makes_no_difference(
        lmtp in any::<bool>(),
        codes in vec(select(vec![250, 250, 250, 250, 354, 450, 550, 551]), 64),
        offers in offers(),
        cuts in vec(1..20usize, 1..40),
    ) {
        let whole = Server::new(codes.clone(), offers, vec![usize::MAX]).serve(client(lmtp));
        let cut = Server::new(codes, offers, cuts).serve(client(lmtp));
        prop_assert_eq!(whole, cut);
    }

    /// Rule D2, told by a server that keeps its own books.
    #[test]
    fn success_is_what_the_server_has_confirmed(
        lmtp in any::<bool>(),
        codes in vec(select(vec![250, 250, 250, 354, 450, 502, 503, 550]), 64),
        offers in offers(),
    ) {
        let mut server = Server::new(codes, offers, vec![usize::MAX]);
        let (actions, _) = server.serve(client(lmtp));
        let outcomes = actions.iter().filter_map(|action| match action {
            Action::Attempted(outcomes) => Some(outcomes),
            _ => None,
        });
        let delivered = |(_, outcome): &&(_, Outcome)| matches!(outcome, Outcome::Delivered { .. });
        let delivered = outcomes.flatten().filter(delivered).count();
        prop_assert_eq!(delivered, server.confirmed);
    }
}

/// What a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offers {
    Nothing,
    Pipelining,
    /// PIPELINING, too.
    Chunking,
    /// The same, but it does not know BDAT.
    Unknown,
}

/// A server in step with the session: one reply per command, with codes given in advance.
struct Server {
    codes: Vec<u16>,
    offers: Offers,
    cuts: Vec<usize>,
    lmtp: bool,
    /// The start of a line.
    line: String,
    /// Recipients taken in this transaction.
    accepted: usize,
    in_mail: bool,
    in_data: bool,
    /// A chunk was refused.
    spoiled: bool,
    /// Recipients whose message was confirmed.
    confirmed: usize,
}

impl Server {
    fn new(codes: Vec<u16>, offers: Offers, cuts: Vec<usize>) -> Self {
        Self {
            codes,
            offers,
            cuts,
            lmtp: false,
            line: String::new(),
            accepted: 0,
            in_mail: false,
            in_data: false,
            spoiled: false,
            confirmed: 0,
        }
    }

    /// Serves a session until it is over; gives its actions and all it sent.
    fn serve(&mut self, mut client: Client) -> (Vec<Action>, Vec<u8>) {
        let now = start();
        let mut actions = Vec::new();
        let mut sent = Vec::new();
        client.handle(now, Event::Connected);
        let mut replies = b"220 mx\r\n".to_vec();
        loop {
            let mut octets = &replies[..];
            while !octets.is_empty() {
                let cut = self.cuts[0].min(octets.len());
                self.cuts.rotate_left(1);
                let (piece, rest) = octets.split_at(cut);
                client.handle(now, Event::Received(Bytes::copy_from_slice(piece)));
                octets = rest;
            }
            replies.clear();
            while let Some(action) = client.poll() {
                match &action {
                    Action::Send(bytes) => {
                        sent.extend_from_slice(bytes);
                        self.commands(bytes, &mut replies);
                        continue;
                    }
                    Action::ReadBody(_, index) => {
                        let bytes = Bytes::from_static(b"Subject: x\r\n");
                        let last = *index == 1;
                        client.handle(now, Event::Body { bytes, last });
                    }
                    Action::Ready => {
                        let transaction = transaction("s@example.org", &RECIPIENTS);
                        client.handle(now, Event::Assigned(transaction));
                    }
                    Action::Attempted(_) | Action::Troubled(_) | Action::Close(_) => {}
                    Action::SendHidden(_) | Action::StartTls | Action::Reconnect => {
                        panic!("{action:?} where TLS was ruled out")
                    }
                }
                actions.push(action);
            }
            if matches!(actions.last(), Some(Action::Close(_))) {
                return (actions, sent);
            }
            assert!(!replies.is_empty(), "the session waits for nothing");
        }
    }

    fn commands(&mut self, bytes: &[u8], replies: &mut Vec<u8>) {
        let mut input = std::mem::take(&mut self.line);
        input.push_str(str::from_utf8(bytes).unwrap());
        let mut rest = input.as_str();
        while let Some(end) = rest.find("\r\n") {
            let (line, behind) = rest.split_at(end + 2);
            rest = behind;
            if self.in_data {
                if line == ".\r\n" {
                    self.in_data = false;
                    self.in_mail = false;
                    self.ended(replies);
                }
            } else if let Some(words) = line.strip_prefix("BDAT ")
                && self.offers == Offers::Chunking
            {
                let mut words = words.split_whitespace();
                let octets: usize = words.next().unwrap().parse().unwrap();
                rest = &rest[octets..];
                self.chunk(words.next().is_some(), replies);
            } else {
                self.command(line, replies);
            }
        }
        assert!(rest.is_empty() || rest == "Subject:", "what is {rest}?");
        rest.clone_into(&mut self.line);
    }

    fn command(&mut self, line: &str, replies: &mut Vec<u8>) {
        let code = self.code();
        self.lmtp |= line.starts_with("LHLO");
        match &line[..4] {
            "EHLO" | "LHLO" => replies.extend(match self.offers {
                Offers::Nothing => &b"250 mx\r\n"[..],
                Offers::Pipelining => b"250-mx\r\n250 PIPELINING\r\n",
                Offers::Chunking | Offers::Unknown => {
                    b"250-mx\r\n250-CHUNKING\r\n250 PIPELINING\r\n"
                }
            }),
            "HELO" => replies.extend(b"250 mx\r\n"),
            "RSET" => {
                self.in_mail = false;
                replies.extend(b"250 mx\r\n");
            }
            "QUIT" => replies.extend(b"221 bye\r\n"),
            // The chunk and what is sent behind it.
            "BDAT" | "Subj" => replies.extend(b"500 5.5.1 what?\r\n"),
            "MAIL" if !self.in_mail => {
                self.accepted = 0;
                self.spoiled = false;
                self.in_mail = code == 250;
                reply(code, replies);
            }
            "RCPT" if self.in_mail => {
                self.accepted += usize::from(code == 250);
                reply(code, replies);
            }
            "DATA" if self.in_mail => {
                // 354 without a recipient happens too.
                let code = if code == 250 { 354 } else { code };
                self.in_data = code == 354;
                self.in_mail = self.in_data;
                reply(code, replies);
            }
            _ => replies.extend(b"503 5.5.1 need MAIL\r\n"),
        }
    }

    /// A chunk was read.
    fn chunk(&mut self, last: bool, replies: &mut Vec<u8>) {
        if !self.in_mail || self.accepted == 0 {
            return replies.extend(b"503 5.5.1 need RCPT\r\n");
        }
        if last && !self.spoiled {
            // RFC 3030 section 2: after a refusal, nothing but RSET.
            self.in_mail = !self.ended(replies);
            self.spoiled = self.in_mail;
            return;
        }
        let code = if self.spoiled { 503 } else { self.code() };
        self.spoiled |= code != 250;
        let count = if last && self.lmtp { self.accepted } else { 1 };
        (0..count).for_each(|_| reply(code, replies));
    }

    /// The content has ended. Gives whether all is well.
    fn ended(&mut self, replies: &mut Vec<u8>) -> bool {
        let (count, each) = if self.lmtp && self.accepted > 0 {
            (self.accepted, 1)
        } else {
            (1, self.accepted)
        };
        let mut success = true;
        for _ in 0..count {
            let code = self.code();
            success &= code == 250;
            self.confirmed += if code == 250 { each } else { 0 };
            reply(code, replies);
        }
        success
    }

    fn code(&mut self) -> u16 {
        self.codes.rotate_left(1);
        self.codes[0]
    }
}

fn reply(code: u16, replies: &mut Vec<u8>) {
    replies.extend(format!("{code}-5.7.1 one\r\n{code} 5.7.1 two\r\n").into_bytes());
}
