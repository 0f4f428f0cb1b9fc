//! Mail from this host's own programs: what sendmail makes of its input, how it is parked while
//! there is no daemon, and how it is said to one.
//!
//! Promises: an address that is carried here has no control character and is a valid one; content
//! has CR LF line ends; [`Draft::parse`] refuses whatever [`Draft::parked`] has not written whole.
//! Absent on purpose: files, sockets, and `Bcc`, `Date` and `Message-ID`, which the session
//! completes for local clients.

use crate::addr::Address;
use crate::limits::Limits;
use mail_parser::MessageParser;
use std::fmt::{self, Write as _};

/// Directory of the spool in which messages are parked.
pub const OFFLINE: &str = "offline";

/// How the name of a parked message begins; 32 hexadecimal digits follow.
pub const PARKED: &str = "m.";

/// First line of a parked message; the number goes up with its form.
const MAGIC: &str = "redspool-parked 1";

/// A message that is to be submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Return path, without brackets; empty for none; the daemon completes a bare local part.
    pub sender: Box<str>,
    /// Recipients, in the same form; at least one.
    pub rcpts: Vec<Box<str>>,
    /// Full name for a `From` field, if the content has none.
    pub author: Option<Box<str>>,
    /// Header section and text, CR LF line ends, not dot-stuffed.
    pub content: Vec<u8>,
}

/// What the command line says of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// `-f`: return path.
    pub sender: Option<String>,
    /// Who is the sender if neither `-f` nor the header says so.
    pub user: String,
    /// `-F`: full name of the author.
    pub author: String,
    /// Recipients.
    pub rcpts: Vec<String>,
    /// `-t`: those of `To`, `Cc` and `Bcc`, too.
    pub header_rcpts: bool,
}

/// Why there is no draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DraftError {
    /// Not an address, and why.
    Address(String),
    /// Nobody to send it to.
    NoRecipient,
    /// More recipients than this.
    TooManyRecipients(usize),
    /// More octets than this.
    TooBig(u64),
    /// A carriage return or NUL inside this line.
    Octet(usize),
    /// It is not a parked message, or not all of it; what is missing.
    NotParked(&'static str),
}

impl fmt::Display for DraftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(why) => write!(f, "not an address: {why}"),
            Self::NoRecipient => f.write_str("no recipients"),
            Self::TooManyRecipients(most) => write!(f, "more than {most} recipients"),
            Self::TooBig(most) => write!(f, "the message has more than {most} octets"),
            Self::Octet(line) => write!(
                f,
                "line {line} of the message holds a carriage return or NUL: encode it"
            ),
            Self::NotParked(what) => write!(f, "not a parked message: {what}"),
        }
    }
}

impl std::error::Error for DraftError {}

impl Draft {
    /// Makes a draft of what a program wrote to sendmail; lines may end with LF.
    pub fn compose(envelope: Envelope, raw: &[u8], limits: &Limits) -> Result<Self, DraftError> {
        let content = lines(raw, limits)?;
        let header = header_end(&content);
        let fields = MessageParser::default().parse_headers(content.get(..header).unwrap_or(&[]));
        let mut rcpts = envelope.rcpts;
        let mut from = None;
        let mut has_from = false;
        for (name, value) in fields
            .iter()
            .flat_map(mail_parser::Message::headers)
            .map(|header| (header.name(), header.value()))
        {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let Some(addresses) = value.as_address() else {
                continue;
            };
            // A bare local part is read as a name.
            let mut listed = addresses
                .iter()
                .filter_map(|one| one.address().or_else(|| one.name()));
            if is("From") {
                has_from = true;
                from = from.or_else(|| listed.next().map(str::to_owned));
            } else if envelope.header_rcpts && (is("To") || is("Cc") || is("Bcc")) {
                rcpts.extend(listed.map(str::to_owned));
            }
        }
        let sender = envelope.sender.or(from).unwrap_or(envelope.user);
        let mut draft = Self {
            sender: path(&sender)?,
            rcpts: Vec::new(),
            author: (!has_from).then(|| envelope.author.into()),
            content,
        };
        for rcpt in &rcpts {
            let rcpt = path(rcpt)?;
            if rcpt.is_empty() {
                return Err(DraftError::Address("an empty recipient".into()));
            }
            if !draft.rcpts.contains(&rcpt) {
                draft.rcpts.push(rcpt);
            }
            if draft.rcpts.len() > limits.recipients {
                return Err(DraftError::TooManyRecipients(limits.recipients));
            }
        }
        if draft.rcpts.is_empty() {
            return Err(DraftError::NoRecipient);
        }
        Ok(draft)
    }

    /// The octets of a file that holds the draft: lines of words, an empty line, the content.
    pub fn parked(&self) -> Vec<u8> {
        let mut head = format!("{MAGIC}\nfrom <{}>\n", self.sender);
        for rcpt in &self.rcpts {
            let _ = writeln!(head, "rcpt <{rcpt}>");
        }
        if let Some(author) = &self.author {
            let _ = writeln!(head, "author {}", printable(author));
        }
        let _ = write!(head, "octets {}\n\n", self.content.len());
        let mut file = head.into_bytes();
        file.extend_from_slice(&self.content);
        file
    }

    /// Reads a parked draft. Whoever may park may have written anything.
    pub fn parse(file: &[u8], limits: &Limits) -> Result<Self, DraftError> {
        let mut rest = file;
        let mut next = || {
            let end = rest.iter().position(|&octet| octet == b'\n')?;
            let (line, after) = rest.split_at_checked(end)?;
            rest = after.get(1..)?;
            std::str::from_utf8(line).ok()
        };
        if next() != Some(MAGIC) {
            return Err(DraftError::NotParked("the first line is another one"));
        }
        let (mut sender, mut rcpts, mut author) = (None, Vec::new(), None);
        let octets = loop {
            let line = next().ok_or(DraftError::NotParked("the head ends early"))?;
            let (word, value) = line.split_once(' ').unwrap_or((line, ""));
            let address = value.strip_prefix('<').and_then(|v| v.strip_suffix('>'));
            match (word, address) {
                ("from", Some(address)) => sender = Some(path(address)?),
                ("rcpt", Some(address)) if rcpts.len() < limits.recipients => {
                    rcpts.push(path(address)?);
                }
                ("rcpt", Some(_)) => {
                    return Err(DraftError::TooManyRecipients(limits.recipients));
                }
                ("author", _) => author = Some(printable(value).into()),
                ("octets", _) => break value.parse::<usize>().ok(),
                _ => return Err(DraftError::NotParked("a word of the head is unknown")),
            }
        };
        if next() != Some("") || octets != Some(rest.len()) {
            return Err(DraftError::NotParked("its length is another one"));
        }
        match (sender, rcpts.is_empty()) {
            (Some(sender), false) => Ok(Self {
                sender,
                rcpts,
                author,
                content: lines(rest, limits)?,
            }),
            (None, _) => Err(DraftError::NotParked("it names no sender")),
            (_, true) => Err(DraftError::NoRecipient),
        }
    }

    /// The content as it follows the reply to DATA, final dot included. `hostname` completes the
    /// author's address.
    fn data(&self, hostname: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.content.len().saturating_add(256));
        if let Some(author) = self.author.as_deref().filter(|_| !self.sender.is_empty()) {
            let at = if self.sender.contains('@') { "" } else { "@" };
            let domain = if at.is_empty() { "" } else { hostname };
            let mut field = String::from("From: ");
            if !author.is_empty() && author.is_ascii() {
                let quoted = author.replace('\\', "\\\\").replace('"', "\\\"");
                let _ = write!(field, "\"{quoted}\" ");
            }
            let _ = write!(field, "<{}{at}{domain}>\r\n", self.sender);
            out.extend_from_slice(field.as_bytes());
        }
        for line in self.content.split_inclusive(|&octet| octet == b'\n') {
            if line.starts_with(b".") {
                out.push(b'.');
            }
            out.extend_from_slice(line);
        }
        out.extend_from_slice(b".\r\n");
        out
    }
}

/// An address without brackets: a valid one, a bare local part, or nothing.
fn path(text: &str) -> Result<Box<str>, DraftError> {
    let text = text.trim();
    let bare = text.strip_prefix('<').and_then(|t| t.strip_suffix('>'));
    let text = bare.unwrap_or(text);
    let read = match text.rsplit_once('@') {
        Some((_, domain)) if !domain.ends_with('"') => text.parse(),
        _ if text.is_empty() => Ok(Address::null()),
        _ => Address::from_parts(text, "localhost"),
    };
    match read {
        Ok(_) => Ok(text.into()),
        Err(why) => Err(DraftError::Address(why.to_string())),
    }
}

/// A name without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Brings lines to CR LF form; drops an mbox separator; sees to it that there is a header section.
fn lines(raw: &[u8], limits: &Limits) -> Result<Vec<u8>, DraftError> {
    let most = usize::try_from(limits.message_size).unwrap_or(usize::MAX);
    if raw.len() > most {
        return Err(DraftError::TooBig(limits.message_size));
    }
    let mut content = Vec::with_capacity(raw.len().saturating_add(raw.len() / 32));
    let mut in_header = true;
    let mut first = true;
    for (at, line) in raw.split_inclusive(|&octet| octet == b'\n').enumerate() {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().any(|octet| matches!(octet, b'\r' | 0)) {
            return Err(DraftError::Octet(at.saturating_add(1)));
        }
        if at == 0 && line.starts_with(b"From ") {
            continue;
        }
        if in_header
            && !(is_field(line)
                || (!first && line.starts_with(b" "))
                || (!first && line.starts_with(b"\t")))
        {
            in_header = false;
            if !line.is_empty() {
                content.extend_from_slice(b"\r\n");
            }
        }
        first = false;
        content.extend_from_slice(line);
        content.extend_from_slice(b"\r\n");
    }
    Ok(content)
}

/// Whether a line begins a header field (RFC 5322 section 2.2).
fn is_field(line: &[u8]) -> bool {
    let name = line.split(|&octet| octet == b':').next().unwrap_or(line);
    let name = name.trim_ascii_end();
    name.len() < line.len() && !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

/// Where the header section ends, its empty line included.
fn header_end(content: &[u8]) -> usize {
    if content.starts_with(b"\r\n") {
        return 0;
    }
    let end = content.windows(4).position(|octets| octets == b"\r\n\r\n");
    end.map_or(content.len(), |end| end.saturating_add(4))
}

/// What a client says next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These octets.
    Say(Vec<u8>),
    /// Nothing: the message is queued.
    Queued,
    /// Nothing: it is refused, with this code.
    Refused(u16),
}

/// How a draft is said to a daemon: give it every reply, do as it says.
#[derive(Debug)]
pub struct Dialog<'a> {
    draft: &'a Draft,
    stage: Stage,
    hostname: String,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Banner,
    Hello,
    Mail,
    Rcpt(usize),
    Data,
    Dot,
}

impl<'a> Dialog<'a> {
    /// A dialog that begins with the daemon's banner.
    pub fn new(draft: &'a Draft) -> Self {
        Self {
            draft,
            stage: Stage::Banner,
            hostname: String::new(),
        }
    }

    /// What to do about a reply, of which `text` is the last line without its code.
    pub fn replied(&mut self, code: u16, text: &str) -> Step {
        let wanted = if matches!(self.stage, Stage::Data) {
            3
        } else {
            2
        };
        if code / 100 != wanted {
            return Step::Refused(code);
        }
        let (stage, line) = match self.stage {
            Stage::Banner => {
                text.split(' ')
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut self.hostname);
                (Stage::Hello, format!("EHLO {}", self.hostname))
            }
            Stage::Hello => (Stage::Mail, self.mail()),
            Stage::Mail => self.rcpt(0),
            Stage::Rcpt(at) => self.rcpt(at.saturating_add(1)),
            Stage::Data => {
                self.stage = Stage::Dot;
                return Step::Say(self.draft.data(&self.hostname));
            }
            Stage::Dot => return Step::Queued,
        };
        self.stage = stage;
        Step::Say(format!("{line}\r\n").into_bytes())
    }

    /// MAIL, with SMTPUTF8 (RFC 6531) if an address needs it. Programs that write header fields
    /// in UTF-8 without such an address have always done so: their mail goes to all servers.
    fn mail(&self) -> String {
        let mut addresses = self.draft.rcpts.iter().chain([&self.draft.sender]);
        let utf8 = addresses.any(|address| !address.is_ascii());
        let parameter = if utf8 { " SMTPUTF8" } else { "" };
        format!("MAIL FROM:<{}>{parameter}", self.draft.sender)
    }

    fn rcpt(&self, at: usize) -> (Stage, String) {
        match self.draft.rcpts.get(at) {
            Some(rcpt) => (Stage::Rcpt(at), format!("RCPT TO:<{rcpt}>")),
            None => (Stage::Data, "DATA".into()),
        }
    }
}

/// Takes a reply apart: its code, whether it is the last line, its text.
pub fn reply_line(line: &str) -> Option<(u16, bool, &str)> {
    let line = line.trim_end_matches(['\r', '\n']);
    let code = line.get(..3)?.parse().ok()?;
    match line.as_bytes().get(3) {
        Some(b'-') => Some((code, false, line.get(4..)?)),
        Some(b' ') => Some((code, true, line.get(4..)?)),
        None => Some((code, true, "")),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compose(envelope: Envelope, raw: &str) -> Result<Draft, DraftError> {
        Draft::compose(envelope, raw.as_bytes(), &Limits::default())
    }

    fn by_header() -> Envelope {
        Envelope {
            user: "joe".into(),
            header_rcpts: true,
            ..Envelope::default()
        }
    }

    #[test]
    fn recipients_come_from_the_header_each_once() {
        let raw = "To: A <a@example.org>, b\nCc: a@example.org\nBcc: c@example.org\n\nhi\n";
        let draft = compose(by_header(), raw).unwrap();
        let rcpts: Vec<_> = draft.rcpts.iter().map(|rcpt| &**rcpt).collect();
        assert_eq!(rcpts, ["a@example.org", "b", "c@example.org"]);
        assert_eq!(&*draft.sender, "joe");
        assert_eq!(
            compose(by_header(), "Subject: x\n\n"),
            Err(DraftError::NoRecipient)
        );
    }

    #[test]
    fn text_without_a_header_gets_an_empty_one() {
        let envelope = Envelope {
            rcpts: vec!["a@b".into()],
            ..by_header()
        };
        let draft = compose(envelope.clone(), "hello\n.\nworld").unwrap();
        assert_eq!(draft.content, b"\r\nhello\r\n.\r\nworld\r\n");
        assert!(draft.data("h").ends_with(b"\r\n..\r\nworld\r\n.\r\n"));
        assert_eq!(compose(envelope, "a: b\rc\n"), Err(DraftError::Octet(1)));
    }

    #[test]
    fn addresses_with_line_ends_are_refused() {
        for bad in ["a@b\nRCPT TO:<x@y>", "a b@c@d", "a@b>", "\0"] {
            let rcpts = vec![bad.into()];
            let envelope = Envelope {
                rcpts,
                ..by_header()
            };
            assert!(
                matches!(compose(envelope, "\n"), Err(DraftError::Address(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn what_is_parked_comes_back_whole_or_not_at_all() {
        let raw = "Subject: x\nBcc: hidden@example.org\n\nhi\n";
        let draft = compose(by_header(), raw).unwrap();
        let file = draft.parked();
        let limits = Limits::default();
        assert_eq!(Draft::parse(&file, &limits), Ok(draft));
        for end in 0..file.len() {
            assert!(Draft::parse(&file[..end], &limits).is_err(), "{end}");
        }
    }

    #[test]
    fn addresses_in_utf8_take_smtputf8() {
        let mail = |raw: &str| {
            let draft = compose(by_header(), raw).unwrap();
            let mut dialog = Dialog::new(&draft);
            dialog.replied(220, "mx ESMTP x");
            match dialog.replied(250, "") {
                Step::Say(line) => String::from_utf8(line).unwrap(),
                step => panic!("{step:?}"),
            }
        };
        let plain = "To: a@b\nSubject: gr\u{fc}n\n\nhi\n";
        assert_eq!(mail(plain), "MAIL FROM:<joe>\r\n");
        let rcpt = "To: a@b, \u{fc}@b\n\nhi\n";
        assert_eq!(mail(rcpt), "MAIL FROM:<joe> SMTPUTF8\r\n");
        let sender = "From: \u{fc}@b\nTo: a@b\n\nhi\n";
        assert_eq!(mail(sender), "MAIL FROM:<\u{fc}@b> SMTPUTF8\r\n");
    }

    #[test]
    fn one_refusal_ends_the_dialog() {
        let draft = compose(by_header(), "To: a@b, c@d\n\nhi\n").unwrap();
        let mut dialog = Dialog::new(&draft);
        let say = |line: &str| Step::Say(format!("{line}\r\n").into_bytes());
        assert_eq!(dialog.replied(220, "mx ESMTP x"), say("EHLO mx"));
        assert_eq!(dialog.replied(250, ""), say("MAIL FROM:<joe>"));
        assert_eq!(dialog.replied(250, ""), say("RCPT TO:<a@b>"));
        assert_eq!(dialog.replied(250, ""), say("RCPT TO:<c@d>"));
        assert_eq!(dialog.replied(550, "no"), Step::Refused(550));
    }
}
