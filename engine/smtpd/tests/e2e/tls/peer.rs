//! A mail server with TLS that says how each message came.

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How long a message may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the server behaves.
#[derive(Clone)]
pub(super) struct Manners {
    /// How to have TLS; none if it does not.
    pub tls: Option<Arc<ServerConfig>>,
    /// From the first octet on.
    pub immediate: bool,
    /// Answers STARTTLS with 220 and then talks nonsense.
    pub broken: bool,
    /// The mechanisms of AUTH it offers within TLS, or none.
    pub auth: &'static str,
    /// What it answers to credentials.
    pub verdict: &'static str,
    /// What it says in the same breath as the go-ahead for TLS.
    pub injected: &'static str,
    /// What it answers to RCPT.
    pub rcpt: &'static str,
}

impl Manners {
    /// STARTTLS with this certificate.
    pub(super) fn starttls(tls: Arc<ServerConfig>) -> Self {
        Self {
            tls: Some(tls),
            immediate: false,
            broken: false,
            auth: "",
            verdict: "235 2.7.0 Welcome",
            injected: "",
            rcpt: "250 2.1.5 Ok",
        }
    }

    /// No TLS at all.
    pub(super) fn clear() -> Self {
        Self {
            tls: None,
            immediate: false,
            broken: false,
            auth: "",
            verdict: "",
            injected: "",
            rcpt: "250 2.1.5 Ok",
        }
    }
}

/// A message, and how it came.
#[derive(Debug)]
pub(super) struct Arrival {
    pub content: String,
    pub secured: bool,
    /// The name the client asked for.
    pub asked: Option<String>,
    /// Whether the client showed a certificate that the authority vouches for.
    pub certified: bool,
    /// What the client authenticated with, as it came.
    pub auth: Vec<String>,
}

/// A running server. Stops accepting when dropped.
pub(super) struct Peer {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    arrivals: Receiver<Arrival>,
}

impl Peer {
    pub(super) fn start(manners: Manners) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0), manners)
    }

    pub(super) fn start_at(address: (Ipv4Addr, u16), manners: Manners) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let (sender, arrivals) = channel();
        let flag = Arc::clone(&stopped);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if flag.load(Ordering::Relaxed) {
                    return;
                }
                let (manners, sender) = (manners.clone(), sender.clone());
                // A peer that breaks off is part of the tests, not an error.
                std::thread::spawn(move || serve(stream?, &manners, &sender));
            }
        });
        Self {
            address,
            stopped,
            arrivals,
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Waits for the next message. Panics when none comes.
    pub(super) fn next(&self) -> Arrival {
        let arrived = self.arrivals.recv_timeout(PATIENCE);
        arrived.expect("a message was expected")
    }

    /// Whether no message has come so far.
    pub(super) fn is_empty(&self) -> bool {
        self.arrivals.try_recv().is_err()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

/// What is known about a connection.
#[derive(Default)]
struct Known {
    secured: bool,
    asked: Option<String>,
    certified: bool,
    auth: Vec<String>,
}

fn serve(stream: TcpStream, manners: &Manners, arrivals: &Sender<Arrival>) -> io::Result<()> {
    match &manners.tls {
        Some(tls) if manners.immediate => secure(stream, tls, true, manners, arrivals),
        _ => {
            let mut talk = BufReader::new(stream);
            say(&mut talk, "220 peer.example ESMTP")?;
            if !converse(&mut talk, &mut Known::default(), manners, arrivals)? {
                return Ok(());
            }
            let mut stream = talk.into_inner();
            match &manners.tls {
                Some(tls) if !manners.broken => secure(stream, tls, false, manners, arrivals),
                _ => stream.write_all(b"this is not TLS at all\r\n"),
            }
        }
    }
}

fn secure(
    mut stream: TcpStream,
    tls: &Arc<ServerConfig>,
    greets: bool,
    manners: &Manners,
    arrivals: &Sender<Arrival>,
) -> io::Result<()> {
    let mut connection = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let mut known = Known {
        secured: true,
        asked: connection.server_name().map(str::to_owned),
        certified: connection.peer_certificates().is_some(),
        auth: Vec::new(),
    };
    let mut talk = BufReader::new(StreamOwned::new(connection, stream));
    if greets {
        say(&mut talk, "220 peer.example ESMTP")?;
    }
    converse(&mut talk, &mut known, manners, arrivals).map(drop)
}

fn say<S: Read + Write>(talk: &mut BufReader<S>, reply: &str) -> io::Result<()> {
    let stream = talk.get_mut();
    stream.write_all(format!("{reply}\r\n").as_bytes())?;
    stream.flush()
}

fn hear<S: Read>(talk: &mut BufReader<S>) -> io::Result<String> {
    let mut line = String::new();
    if talk.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

/// Talks until the client leaves, or TLS is to begin; says whether it is.
fn converse<S: Read + Write>(
    talk: &mut BufReader<S>,
    known: &mut Known,
    manners: &Manners,
    arrivals: &Sender<Arrival>,
) -> io::Result<bool> {
    loop {
        let line = hear(talk)?;
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        match verb {
            "EHLO" => {
                let mut lines = vec!["peer.example".to_owned(), "8BITMIME".to_owned()];
                if !known.secured && (manners.tls.is_some() || manners.broken) {
                    lines.push("STARTTLS".into());
                }
                if known.secured && !manners.auth.is_empty() {
                    lines.push(format!("AUTH {}", manners.auth));
                }
                let last = lines.pop().unwrap_or_default();
                for line in lines {
                    say(talk, &format!("250-{line}"))?;
                }
                say(talk, &format!("250 {last}"))?;
            }
            "STARTTLS" => {
                say(talk, &format!("220 Go ahead{}", manners.injected))?;
                return Ok(true);
            }
            "AUTH" => {
                known.auth.push(line.clone());
                if line == "AUTH LOGIN" {
                    for question in ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"] {
                        say(talk, question)?;
                        let answer = hear(talk)?;
                        known.auth.push(answer);
                    }
                }
                say(talk, manners.verdict)?;
            }
            "RCPT" => say(talk, manners.rcpt)?,
            "DATA" => {
                say(talk, "354 Go on")?;
                let mut content = String::new();
                loop {
                    let line = hear(talk)?;
                    if line == "." {
                        break;
                    }
                    content.push_str(&line);
                    content.push('\n');
                }
                let arrival = Arrival {
                    content,
                    secured: known.secured,
                    asked: known.asked.clone(),
                    certified: known.certified,
                    auth: known.auth.clone(),
                };
                // Nobody takes messages any more once the peer was dropped.
                let _ = arrivals.send(arrival);
                say(talk, "250 2.0.0 Kept")?;
            }
            "QUIT" => {
                say(talk, "221 2.0.0 Bye")?;
                return Ok(false);
            }
            _ => say(talk, "250 2.0.0 Ok")?,
        }
    }
}
