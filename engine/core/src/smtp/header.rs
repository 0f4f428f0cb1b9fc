//! The header section of a message on its way in: loops, and completion for our own clients.
//!
//! What: counts `Received` fields and looks for octets above 127; for local clients removes `Bcc` and adds `Date` and
//! `Message-ID` where they are missing (RFC 6409 section 8), and insists on a well-formed header
//! section.
//! Promises: not one octet of a relayed message is changed; linear in the size of the header.
//! The section ends at the empty line, or at the first line that cannot be a field.

use crate::limits::Limits;

/// What is wrong with a header section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFlaw {
    /// It is larger than `Limits::header_size`.
    TooBig,
    /// The message has been through more hosts than `Limits::received_fields`.
    Loop,
    /// A line that is no field; only local clients must know better.
    Malformed,
}

/// Fields a local client's message gets if it lacks them, with their line ends.
pub(super) struct Completion {
    pub(super) date: String,
    pub(super) message_id: String,
}

/// How far the header section is read. Positions are those of the buffer it lies in.
pub(super) struct Header {
    start: usize,
    /// Start of the line being read.
    line: usize,
    /// End of what was searched for the end of that line.
    searched: usize,
    open: bool,
    received: usize,
    fields: usize,
    has_date: bool,
    has_message_id: bool,
    /// Whether there are octets above 127 in what stays.
    eight_bit: bool,
    /// Start of the `Bcc` field being read.
    bcc: Option<usize>,
    completion: Option<Completion>,
}

impl Header {
    /// A header section to be looked through, and completed if `completion` is given.
    pub(super) fn new(completion: Option<Completion>) -> Self {
        Self {
            start: 0,
            line: 0,
            searched: 0,
            open: true,
            received: 0,
            fields: 0,
            has_date: false,
            has_message_id: false,
            eight_bit: false,
            bcc: None,
            completion,
        }
    }

    /// The same, at `start` of its buffer.
    pub(super) fn starting_at(self, start: usize) -> Self {
        Self {
            start,
            line: start,
            searched: start,
            ..self
        }
    }

    /// Whether more lines may belong to it.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether its lines so far hold octets above 127, which takes SMTPUTF8 (RFC 6532).
    pub(super) fn is_eight_bit(&self) -> bool {
        self.eight_bit
    }

    /// Reads the lines that are complete within the first `settled` octets of the buffer.
    pub(super) fn read(
        &mut self,
        buffer: &mut Vec<u8>,
        settled: usize,
        limits: &Limits,
    ) -> Result<(), HeaderFlaw> {
        let mut settled = settled;
        while self.open {
            let unread = buffer.get(self.searched..settled).unwrap_or_default();
            let Some(end) = unread.iter().position(|&octet| octet == b'\n') else {
                self.searched = settled;
                break;
            };
            let next = self.searched + end + 1;
            let before = buffer.len();
            self.line(buffer, next, limits)?;
            self.within(limits)?;
            // Completion changes the length of the buffer.
            settled = (settled + buffer.len()).saturating_sub(before);
        }
        Ok(())
    }

    /// The content is at its end; so is the header section.
    pub(super) fn finish(&mut self, buffer: &mut Vec<u8>) {
        if self.open {
            self.close(buffer);
        }
    }

    fn within(&self, limits: &Limits) -> Result<(), HeaderFlaw> {
        if self.line.saturating_sub(self.start) > limits.header_size {
            return Err(HeaderFlaw::TooBig);
        }
        Ok(())
    }

    /// Reads the line that ends before `next`.
    fn line(
        &mut self,
        buffer: &mut Vec<u8>,
        next: usize,
        limits: &Limits,
    ) -> Result<(), HeaderFlaw> {
        let line = buffer.get(self.line..next).unwrap_or_default();
        let eight_bit = !line.is_ascii();
        match classify(line) {
            Kind::Continuation if self.fields > 0 => {
                self.eight_bit |= eight_bit && self.bcc.is_none();
            }
            Kind::Field(name) => {
                self.fields += 1;
                let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
                let (bcc, received) = (is("Bcc"), is("Received"));
                self.has_date |= is("Date");
                self.has_message_id |= is("Message-ID");
                self.received += usize::from(received);
                if self.received > limits.received_fields {
                    return Err(HeaderFlaw::Loop);
                }
                let next = self.drop_bcc(buffer, next);
                self.bcc = (bcc && self.completion.is_some()).then_some(self.line);
                self.eight_bit |= eight_bit && self.bcc.is_none();
                self.line = next;
                self.searched = next;
                return Ok(());
            }
            Kind::Empty => {
                self.close(buffer);
                return Ok(());
            }
            Kind::Continuation | Kind::Other => {
                if self.completion.is_some() {
                    return Err(HeaderFlaw::Malformed);
                }
                self.close(buffer);
                return Ok(());
            }
        }
        self.line = next;
        self.searched = next;
        Ok(())
    }

    /// Cuts the `Bcc` field out that ends where the current line starts; gives the new place of
    /// `position`, which lies behind it.
    fn drop_bcc(&mut self, buffer: &mut Vec<u8>, position: usize) -> usize {
        let Some(start) = self.bcc.take() else {
            return position;
        };
        let cut = self.line.saturating_sub(start);
        buffer.drain(start..self.line);
        self.line = start;
        position.saturating_sub(cut)
    }

    /// Ends the section at the start of the current line, and completes it.
    fn close(&mut self, buffer: &mut Vec<u8>) {
        self.open = false;
        self.drop_bcc(buffer, 0);
        if let Some(completion) = self.completion.take() {
            let missing = [
                (self.has_date, completion.date),
                (self.has_message_id, completion.message_id),
            ];
            for (present, field) in missing {
                if !present {
                    buffer.splice(self.line..self.line, field.bytes());
                    self.line += field.len();
                }
            }
        }
    }
}

enum Kind<'a> {
    Empty,
    /// It begins with a blank.
    Continuation,
    /// A field of this name.
    Field(&'a [u8]),
    Other,
}

fn classify(line: &[u8]) -> Kind<'_> {
    match line {
        b"\r\n" => Kind::Empty,
        [b' ' | b'\t', ..] => Kind::Continuation,
        _ => {
            let colon = line.iter().position(|&octet| octet == b':');
            let name = colon
                .and_then(|colon| line.get(..colon))
                .unwrap_or_default();
            // Blanks before the colon are obsolete, not unknown (RFC 5322 section 4.5).
            let name = name.trim_ascii_end();
            if !name.is_empty() && name.iter().all(u8::is_ascii_graphic) {
                Kind::Field(name)
            } else {
                Kind::Other
            }
        }
    }
}
