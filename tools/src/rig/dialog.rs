//! A mail client that says what the test wants, well-formed or not.

use super::wait::PATIENCE;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};

/// A reply of a server: its code and the text of each of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The texts, without code and line end.
    pub lines: Vec<String>,
}

impl Reply {
    /// All texts, one a line.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// Whether the server took it (2xx, 3xx).
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }
}

/// A connection to an SMTP server.
pub struct Dialog {
    input: BufReader<TcpStream>,
    output: TcpStream,
}

impl Dialog {
    /// Connects and reads the greeting.
    pub fn open(server: SocketAddr) -> io::Result<(Self, Reply)> {
        let output = TcpStream::connect_timeout(&server, PATIENCE)?;
        output.set_read_timeout(Some(PATIENCE))?;
        output.set_write_timeout(Some(PATIENCE))?;
        output.set_nodelay(true)?;
        let mut dialog = Self {
            input: BufReader::new(output.try_clone()?),
            output,
        };
        let greeting = dialog.reply()?;
        Ok((dialog, greeting))
    }

    /// Connects, reads the greeting and says EHLO; anything but 2xx is an error.
    pub fn hello(server: SocketAddr) -> io::Result<Self> {
        let (mut dialog, greeting) = Self::open(server)?;
        let reply = dialog.ask("EHLO client.example")?;
        if greeting.is_positive() && reply.is_positive() {
            Ok(dialog)
        } else {
            Err(io::Error::other(format!("{greeting:?} {reply:?}")))
        }
    }

    /// Sends octets as they are.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.output.write_all(octets)
    }

    /// Reads one reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.input.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let text = line.trim_end_matches(['\r', '\n']);
            let code = text.get(..3).and_then(|code| code.parse().ok());
            let code = code.ok_or_else(|| io::Error::other(format!("not a reply: {text:?}")))?;
            lines.push(text.get(4..).unwrap_or_default().to_owned());
            if text.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// Sends a line and reads the reply.
    pub fn ask(&mut self, line: &str) -> io::Result<Reply> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Submits a message whose lines end in CR LF. Gives the reply to the final dot, or the first
    /// refusal before it, after which the transaction is reset.
    pub fn submit(&mut self, sender: &str, rcpts: &[&str], content: &[u8]) -> io::Result<Reply> {
        let mut commands = vec![format!("MAIL FROM:<{sender}>")];
        commands.extend(rcpts.iter().map(|rcpt| format!("RCPT TO:<{rcpt}>")));
        commands.push("DATA".into());
        for command in &commands {
            let reply = self.ask(command)?;
            if !reply.is_positive() {
                self.ask("RSET")?;
                return Ok(reply);
            }
        }
        self.send(&stuffed(content))?;
        self.reply()
    }

    /// Reads until the server closes; gives what it still said.
    pub fn rest(&mut self) -> io::Result<Vec<Reply>> {
        let mut replies = Vec::new();
        loop {
            match self.reply() {
                Ok(reply) => replies.push(reply),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(replies),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Content as it goes over the wire: dots doubled at the start of a line, the final dot added.
fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + 64);
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_at_line_starts_are_doubled() {
        assert_eq!(stuffed(b"a\r\n.\r\n..b.\r\n"), b"a\r\n..\r\n...b.\r\n.\r\n");
        assert_eq!(stuffed(b""), b".\r\n");
    }
}
