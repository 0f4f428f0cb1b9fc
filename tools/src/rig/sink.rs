//! A mail server that keeps what it is given and fails where it is told to.
//!
//! Promises: a delivery is recorded before its 250 is sent, so what was acknowledged is in the
//! books; faults apply to every later step of that kind until they are taken back.

use super::wait::PATIENCE;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A message as it arrived.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The sender of the transaction.
    pub sender: String,
    /// The recipients that were accepted.
    pub rcpts: Vec<String>,
    /// The content, dots unstuffed.
    pub content: Vec<u8>,
    /// When its final dot was read.
    pub at: Instant,
    /// The address it came from.
    pub client: SocketAddr,
    /// The client's name for itself.
    pub hello: String,
}

/// A step of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The greeting.
    Connect,
    /// EHLO or HELO.
    Hello,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The final dot.
    Dot,
}

/// What to do instead of accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This reply, without its line end.
    Reply(&'static str),
    /// Close the connection. At the dot: after the message was kept.
    HangUp,
    /// Accept, but this much later.
    After(Duration),
}

/// A step and what happens there, to one in `every` such steps.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Where.
    pub stage: Stage,
    /// What.
    pub answer: Answer,
    /// To each n-th step only; 1 for all.
    pub every: usize,
}

/// A running server. Stops accepting when dropped.
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    arrivals: Receiver<Delivery>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    steps: AtomicUsize,
    connections: AtomicUsize,
    fault: Mutex<Option<Fault>>,
}

impl Sink {
    /// Starts one on a free port of the loopback address.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let (sender, arrivals) = channel();
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                accepting.connections.fetch_add(1, Ordering::Relaxed);
                let (shared, sender) = (Arc::clone(&accepting), sender.clone());
                // A peer that breaks off is part of the tests, not an error.
                std::thread::spawn(move || shared.serve(&stream, &sender).ok());
            }
        });
        Self {
            address,
            shared,
            arrivals,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as smtpd.conf names a relay host.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// From now on this fault, or none.
    pub fn fail(&self, fault: Option<Fault>) {
        *self
            .shared
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// From now on this answer to all steps of a stage.
    pub fn answer(&self, stage: Stage, answer: Answer) {
        self.fail(Some(Fault {
            stage,
            answer,
            every: 1,
        }));
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Waits for the next delivery. Panics when none comes.
    pub fn next(&self) -> Delivery {
        self.next_within(PATIENCE).expect("a delivery was expected")
    }

    /// Waits for the next delivery for at most this long.
    pub fn next_within(&self, wait: Duration) -> Option<Delivery> {
        self.arrivals.recv_timeout(wait).ok()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    /// The answer to a step: the fault's if there is one and this step is its turn.
    fn verdict(&self, stage: Stage, usual: &'static str) -> io::Result<&'static str> {
        let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fault) = fault.filter(|fault| fault.stage == stage) else {
            return Ok(usual);
        };
        if !self
            .steps
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(fault.every)
        {
            return Ok(usual);
        }
        match fault.answer {
            Answer::Reply(reply) => Ok(reply),
            Answer::HangUp => Err(io::ErrorKind::ConnectionAborted.into()),
            Answer::After(wait) => {
                std::thread::park_timeout(wait);
                Ok(usual)
            }
        }
    }

    fn serve(&self, stream: &TcpStream, arrivals: &Sender<Delivery>) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut input = BufReader::new(stream);
        let mut output = stream;
        let mut say = |reply: &str| output.write_all(format!("{reply}\r\n").as_bytes());
        let (mut sender, mut rcpts) = (String::new(), Vec::new());
        let (client, mut hello) = (stream.peer_addr()?, String::new());
        say(self.verdict(Stage::Connect, "220 sink.example ESMTP")?)?;
        loop {
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            let verb = line
                .split([' ', ':'])
                .next()
                .unwrap_or_default()
                .to_ascii_uppercase();
            if let "EHLO" | "HELO" = verb.as_str() {
                line.split(' ')
                    .nth(1)
                    .unwrap_or_default()
                    .clone_into(&mut hello);
            }
            let reply = match verb.as_str() {
                "EHLO" => {
                    let hello = "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE";
                    self.verdict(Stage::Hello, hello)?
                }
                "HELO" => self.verdict(Stage::Hello, "250 sink.example")?,
                "MAIL" => {
                    sender = path(line);
                    rcpts.clear();
                    self.verdict(Stage::Mail, "250 2.1.0 Ok")?
                }
                "RCPT" => {
                    let reply = self.verdict(Stage::Rcpt, "250 2.1.5 Ok")?;
                    if reply.starts_with('2') {
                        rcpts.push(path(line));
                    }
                    reply
                }
                "DATA" if rcpts.is_empty() => "554 5.5.1 No recipients",
                "DATA" => {
                    let reply = self.verdict(Stage::Data, "354 Go on")?;
                    say(reply)?;
                    if reply.starts_with('3') {
                        let content = content(&mut input)?;
                        let (sender, rcpts) = (sender.clone(), std::mem::take(&mut rcpts));
                        let delivery = Delivery {
                            sender,
                            rcpts,
                            content,
                            at: Instant::now(),
                            client,
                            hello: hello.clone(),
                        };
                        let verdict = self.verdict(Stage::Dot, "250 2.0.0 Kept");
                        if verdict
                            .as_ref()
                            .map_or(true, |reply| reply.starts_with('2'))
                        {
                            // Nobody takes deliveries any more once the sink was dropped.
                            let _ = arrivals.send(delivery);
                        }
                        say(verdict?)?;
                    }
                    continue;
                }
                "RSET" | "NOOP" => "250 2.0.0 Ok",
                "QUIT" => {
                    say("221 2.0.0 Bye")?;
                    return Ok(());
                }
                _ => "502 5.5.1 What?",
            };
            say(reply)?;
        }
    }
}

/// What stands between the angle brackets of a line.
fn path(line: &str) -> String {
    let inside = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inside.map_or_else(String::new, |(path, _)| path.to_owned())
}

fn content(input: &mut impl io::BufRead) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let start = content.len();
        if input.read_until(b'\n', &mut content)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match content.get(start..) {
            Some(b".\r\n") => {
                content.truncate(start);
                return Ok(content);
            }
            Some([b'.', ..]) => {
                content.remove(start);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dialog;
    use super::*;

    #[test]
    fn content_arrives_as_it_was_given() {
        let sink = Sink::start();
        let mut dialog = Dialog::hello(sink.address()).unwrap();
        let content = b"Subject: x\r\n\r\n.\r\n..\r\n.a\r\n\xff\r\n";
        let reply = dialog
            .submit("a@b.example", &["c@d.example"], content)
            .unwrap();
        assert_eq!(reply.code, 250);
        let delivery = sink.next();
        assert_eq!(delivery.content, content);
        assert_eq!(
            (delivery.sender.as_str(), delivery.rcpts.len()),
            ("a@b.example", 1)
        );
    }

    #[test]
    fn a_refusal_keeps_nothing_and_a_hang_up_at_the_dot_keeps_the_message() {
        let sink = Sink::start();
        sink.answer(Stage::Dot, Answer::Reply("451 4.3.0 Later"));
        let mut dialog = Dialog::hello(sink.address()).unwrap();
        assert_eq!(
            dialog.submit("a@b", &["c@d"], b"one\r\n").unwrap().code,
            451
        );
        sink.answer(Stage::Dot, Answer::HangUp);
        assert!(dialog.submit("a@b", &["c@d"], b"two\r\n").is_err());
        assert_eq!(sink.next().content, b"two\r\n");
    }
}
