//! One transaction of an outgoing session: MAIL, RCPT, DATA or BDAT, content, and who got what.
//!
//! Promises: one outcome per recipient, decided by the reply that concerns it and never changed
//! afterwards; content is sent only while a recipient is accepted. Replies are matched to commands
//! in the order sent, whether pipelined (RFC 2920) or not. When content goes by BDAT is said at
//! [`Attempt::may_use_chunks`].

use super::chunks::Chunks;
use super::command;
use super::extensions::Extensions;
use super::pump::{Pump, Unclean};
use super::reply::ServerReply;
use crate::id::{EnvelopeId, MessageId};
use crate::limits::MtaLimits;
use crate::queue::{Failure, Outcome};
use crate::reply::Status;
use crate::smtp::Transaction;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// A transaction on its way.
#[derive(Debug)]
pub(super) struct Attempt {
    transaction: Transaction,
    extensions: Extensions,
    lmtp: bool,
    limits: Arc<MtaLimits>,
    /// One per recipient; `None` while open.
    outcomes: Vec<Option<Outcome>>,
    /// Recipients that want the content, in order.
    accepted: Vec<usize>,
    /// Recipients refused in a row, over all transactions of the session.
    refused: usize,
    unsent: VecDeque<Command>,
    awaited: VecDeque<Command>,
    content: Content,
    /// Content goes by BDAT.
    chunked: bool,
    /// The first piece, read but not sent, or only its first octets; and whether it is the last.
    held: Option<(Bytes, bool)>,
}

/// What is sent and answered.
#[derive(Clone, Copy, Debug)]
enum Command {
    Mail,
    Rcpt(usize),
    Data,
    /// The dot of a content that nobody wants.
    LoneDot,
    /// The first chunk, of so many octets, in the place of DATA.
    FirstChunk(usize),
    /// Before a new beginning with DATA, because that chunk was refused.
    Reset {
        again: bool,
    },
    /// A chunk that others follow.
    Chunk,
    /// The dot or the last chunk, which ends the content; answered once.
    End,
    /// The same, answered for this recipient (RFC 2033 section 4.2).
    EndFor(usize),
}

#[derive(Debug)]
enum Content {
    Unasked,
    /// Piece `index` is being read.
    Reading {
        index: u32,
        form: Form,
    },
    /// Piece `index` is read once fewer chunks are unanswered.
    Held {
        index: u32,
        chunks: Chunks,
    },
    Sent,
}

/// What content looks like on the wire.
#[derive(Debug)]
enum Form {
    Dots(Pump),
    Chunks(Chunks),
    /// That is decided by the first piece.
    Undecided,
}

/// What the session must do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Wait for a reply.
    Wait,
    /// Send these commands.
    Commands(Bytes),
    /// Read this piece of the content.
    Content(MessageId, u32),
    /// Go on with the piece that is [held](Attempt::take_held).
    Held,
    /// The peer broke the protocol.
    Violation(&'static str),
    /// All is decided and nothing was sent.
    Unused,
    /// All is decided; the content was sent.
    Sent,
    /// All is decided; no content was sent, and the server has to forget the transaction.
    Refused,
}

impl Attempt {
    /// A transaction not begun, after `refused` refusals in a row.
    pub(super) fn new(
        transaction: Transaction,
        extensions: &Extensions,
        lmtp: bool,
        refused: usize,
        limits: Arc<MtaLimits>,
    ) -> Self {
        Self {
            outcomes: vec![None; transaction.recipients.len()],
            transaction,
            extensions: extensions.clone(),
            lmtp,
            limits,
            accepted: Vec::new(),
            refused,
            unsent: VecDeque::new(),
            awaited: VecDeque::new(),
            content: Content::Unasked,
            chunked: false,
            held: None,
        }
    }

    /// Refuses what this server cannot take, then sends the first commands.
    pub(super) fn begin(&mut self) -> Step {
        if let Some(failure) = self.unfit() {
            self.decide_open(&Outcome::PermFail(failure));
        }
        let recipients = self.transaction.recipients.iter().zip(&mut self.outcomes);
        for (recipient, outcome) in recipients {
            if outcome.is_none() && !recipient.dest.is_ascii() && !self.extensions.utf8 {
                let text = "address is not ASCII and the server does not offer SMTPUTF8";
                *outcome = Some(Outcome::PermFail(international(text)));
            }
        }
        if !self.is_wanted() {
            return Step::Unused;
        }
        self.address();
        if self.may_use_chunks() {
            return self.read(0, Form::Undecided);
        }
        self.unsent.push_back(Command::Data);
        self.next()
    }

    /// Lines up what comes before the content.
    fn address(&mut self) {
        let open = self.outcomes.iter().enumerate();
        let open = open.filter(|(_, outcome)| outcome.is_none());
        self.unsent = open.map(|(i, _)| Command::Rcpt(i)).collect();
        self.unsent.push_front(Command::Mail);
    }

    /// Whether content goes by BDAT (RFC 3030) instead of DATA: wherever the server offers CHUNKING
    /// and PIPELINING, has not refused the command on this connection, and the content begins with
    /// a header field, as mail does.
    ///
    /// It is the safer way: a length says where content ends, so that no server and no proxy in
    /// front of it can take octets of a message for its end and for commands behind it, and nothing
    /// is altered, not even dots. It is as fast: what goes along with MAIL and RCPT in the place of
    /// DATA is a chunk with nothing but the name of the first field. The rest follows when a
    /// recipient and that chunk were accepted, all of it without waiting.
    ///
    /// That first chunk is also why no message can ever be read as commands by a server that offers
    /// CHUNKING and does not know BDAT, as behind some proxies: it says so while it has only that
    /// name, which is no command, and gets DATA from then on. An empty chunk would do, but Postfix
    /// refuses one (`551 5.7.1 Null BDAT request`). Without PIPELINING the first chunk would be a
    /// wait more than DATA, so DATA it is.
    fn may_use_chunks(&self) -> bool {
        self.extensions.chunking && self.extensions.pipelining
    }

    /// Decides how content goes, by its first piece, and sends the first commands.
    fn open(&mut self, piece: (Bytes, bool)) -> Step {
        let first = field_name(&piece.0).filter(|octets| *octets <= self.limits.chunk);
        self.chunked = first.is_some();
        let command = first.map_or(Command::Data, Command::FirstChunk);
        self.unsent.push_back(command);
        self.held = Some(piece);
        self.next()
    }

    /// Why this message cannot go to this server at all.
    fn unfit(&self) -> Option<Failure> {
        let message = &self.transaction;
        if message.eight_bit && !self.extensions.eight_bit {
            let text = "message has 8-bit content and the server does not offer 8BITMIME";
            return Some(Failure::new(Status::permanent(6, 3), text));
        }
        if let Some(most) = self.extensions.size
            && message.size > most
        {
            let size = message.size;
            let text =
                format!("message of {size} octets is larger than the server's limit of {most}");
            return Some(Failure::new(Status::permanent(3, 4), text));
        }
        if self.extensions.utf8 {
            return None;
        }
        if !message.sender.is_ascii() {
            let text = "sender address is not ASCII and the server does not offer SMTPUTF8";
            return Some(international(text));
        }
        let text = "message has a header in UTF-8 and the server does not offer SMTPUTF8";
        message.utf8.then(|| international(text))
    }

    /// Whether MAIL needs SMTPUTF8 (RFC 6531 section 3.4): only where something is not ASCII, so
    /// that no other mail depends on it further on.
    fn needs_utf8(&self) -> bool {
        let message = &self.transaction;
        let rcpts = message.recipients.iter().zip(&self.outcomes);
        let mut open = rcpts.filter(|(_, outcome)| outcome.is_none());
        message.utf8
            || !message.sender.is_ascii()
            || open.any(|(recipient, _)| !recipient.dest.is_ascii())
    }

    /// Whether this reply to the oldest command that has none refuses MAIL for now.
    pub(super) fn is_turned_away(&self, reply: &ServerReply) -> bool {
        matches!(self.awaited.front(), Some(Command::Mail)) && reply.code() / 100 == 4
    }

    /// Notes a reply to the oldest command that has none.
    pub(super) fn replied(&mut self, reply: &ServerReply) -> Step {
        match self.awaited.pop_front() {
            Some(Command::Mail) if !reply.is_positive() => {
                self.decide_open(&reply.outcome());
                self.unsent.clear();
            }
            Some(Command::Rcpt(index)) => self.rcpt_replied(index, reply),
            Some(Command::Data) => return self.data_replied(reply),
            Some(Command::FirstChunk(_) | Command::Chunk) if reply.is_intermediate() => {
                // Whether the server now reads content or commands is anybody's guess.
                return Step::Violation("BDAT answered with a go-ahead");
            }
            Some(Command::FirstChunk(octets)) => return self.first_chunk_replied(octets, reply),
            Some(Command::Reset { again }) => return self.reset_replied(again, reply),
            Some(Command::Chunk) if !reply.is_positive() => {
                self.decide_open(&reply.outcome());
            }
            Some(Command::End) => {
                let outcome = self.final_outcome(reply);
                self.decide_open(&outcome);
            }
            Some(Command::EndFor(index)) => {
                let outcome = self.final_outcome(reply);
                self.decide(index, outcome);
            }
            Some(Command::Mail | Command::LoneDot | Command::Chunk) | None => {}
        }
        self.next()
    }

    fn rcpt_replied(&mut self, index: usize, reply: &ServerReply) {
        if !self.is_open(index) {
            // MAIL was refused; this reply only says so again.
            return;
        }
        if reply.is_positive() {
            self.refused = 0;
            self.accepted.push(index);
            return;
        }
        self.refused = self.refused.saturating_add(1);
        self.decide(index, reply.outcome());
        if self.refused >= self.limits.failures_per_session {
            self.spare_unsent();
        }
    }

    /// Gives up on recipients the server has not heard of yet; those it has accepted go on.
    fn spare_unsent(&mut self) {
        let text = "too many recipients refused in a row by this server";
        let outcome = Outcome::TempFail(Failure::new(Status::transient(5, 3), text));
        for command in std::mem::take(&mut self.unsent) {
            match command {
                Command::Rcpt(index) => self.decide(index, outcome.clone()),
                _ => self.unsent.push_back(command),
            }
        }
    }

    fn data_replied(&mut self, reply: &ServerReply) -> Step {
        if reply.is_positive() {
            // Whether the server now reads content or commands is anybody's guess.
            return Step::Violation("DATA answered with success");
        }
        if !reply.is_intermediate() {
            self.decide_open(&reply.outcome());
            return self.next();
        }
        if self.accepted.is_empty() {
            // RFC 2920 section 3.1: the server waits for content although it took no recipient.
            self.awaited.push_back(Command::LoneDot);
            return Step::Commands(Bytes::from_static(b".\r\n"));
        }
        self.read(0, Form::Dots(Pump::default()))
    }

    fn first_chunk_replied(&mut self, octets: usize, reply: &ServerReply) -> Step {
        if self.accepted.is_empty() {
            return self.next();
        }
        if reply.is_positive() {
            if let Some((bytes, _)) = &mut self.held {
                *bytes = bytes.slice(octets.min(bytes.len())..);
            }
            return self.read(0, Form::Chunks(Chunks::within_line()));
        }
        if is_about_command(reply.code()) {
            self.extensions.chunking = false;
            self.chunked = false;
            self.accepted.clear();
            self.unsent.push_back(Command::Reset { again: false });
        } else {
            self.decide_open(&reply.outcome());
        }
        self.next()
    }

    /// The transaction begins anew. A server that does not know BDAT has the name of a field in its
    /// line, and refuses that together with the first RSET.
    fn reset_replied(&mut self, again: bool, reply: &ServerReply) -> Step {
        if reply.is_positive() {
            self.address();
            self.unsent.push_back(Command::Data);
        } else if again || reply.code() / 100 != 5 {
            return Step::Violation("RSET refused");
        } else {
            self.unsent.push_back(Command::Reset { again: true });
        }
        self.next()
    }

    /// Asks for a piece of content, unless it is here.
    fn read(&mut self, index: u32, form: Form) -> Step {
        self.content = Content::Reading { index, form };
        if self.held.is_some() {
            Step::Held
        } else {
            Step::Content(self.transaction.message, index)
        }
    }

    /// The piece that was read before its time.
    pub(super) fn take_held(&mut self) -> Option<(Bytes, bool)> {
        self.held.take()
    }

    /// What the reply to the final dot means (rule D2).
    fn final_outcome(&self, reply: &ServerReply) -> Outcome {
        if reply.is_positive() {
            Outcome::Delivered {
                text: reply.text(),
                notifies: self.extensions.dsn,
            }
        } else {
            reply.outcome()
        }
    }

    /// Sends the next commands, or ends the transaction when none is left.
    fn next(&mut self) -> Step {
        if let Content::Held { index, chunks } = &self.content {
            let (index, chunks) = (*index, *chunks);
            if !self.is_wanted() {
                self.content = Content::Unasked;
            } else if self.awaited.len() < self.limits.chunks_unanswered {
                return self.read(index, Form::Chunks(chunks));
            } else {
                self.content = Content::Held { index, chunks };
            }
        }
        if !self.awaited.is_empty() || self.is_reading() {
            return Step::Wait;
        }
        let content_next = matches!(
            self.unsent.front(),
            Some(Command::Data | Command::FirstChunk(_))
        );
        if content_next && self.accepted.is_empty() {
            self.unsent.clear();
        }
        let mut commands = Vec::new();
        while let Some(command) = self.unsent.pop_front() {
            self.write(command, &mut commands);
            self.awaited.push_back(command);
            if !self.extensions.pipelining {
                break;
            }
        }
        match self.content {
            _ if !commands.is_empty() => Step::Commands(commands.into()),
            // RFC 3030 section 2: where a chunk was refused, only RSET makes a new beginning.
            Content::Sent if self.chunked && !self.all_have_it() => Step::Refused,
            Content::Sent => Step::Sent,
            _ => Step::Refused,
        }
    }

    fn write(&self, command: Command, out: &mut Vec<u8>) {
        match command {
            Command::Mail => {
                command::mail(&self.transaction, self.needs_utf8(), &self.extensions, out);
            }
            Command::Rcpt(index) => {
                if let Some(recipient) = self.transaction.recipients.get(index) {
                    command::rcpt(recipient, &self.extensions, out);
                }
            }
            Command::Data => out.extend_from_slice(b"DATA\r\n"),
            Command::FirstChunk(octets) => {
                let name = self
                    .held
                    .as_ref()
                    .and_then(|(bytes, _)| bytes.get(..octets));
                out.extend_from_slice(format!("BDAT {octets}\r\n").as_bytes());
                out.extend_from_slice(name.unwrap_or_default());
            }
            Command::Reset { .. } => out.extend_from_slice(b"RSET\r\n"),
            // Written along with what they follow.
            Command::LoneDot | Command::Chunk | Command::End | Command::EndFor(_) => {}
        }
    }

    /// Takes a piece of content; gives what to write and what to do then.
    pub(super) fn content(
        &mut self,
        bytes: Bytes,
        last: bool,
    ) -> Result<(Vec<Bytes>, Step), Unclean> {
        let mut pieces = Vec::new();
        let wanted = self.is_wanted();
        match std::mem::replace(&mut self.content, Content::Unasked) {
            // A chunk before this piece was refused while it was being read.
            Content::Reading { .. } if !wanted => {}
            Content::Reading {
                form: Form::Undecided,
                ..
            } => return Ok((pieces, self.open((bytes, last)))),
            Content::Reading { index, form } => {
                self.write_content(index, form, (bytes, last), &mut pieces)?;
            }
            other => self.content = other,
        }
        if let Content::Reading { index, .. } = self.content {
            return Ok((pieces, Step::Content(self.transaction.message, index)));
        }
        Ok((pieces, self.next()))
    }

    /// Brings a piece into its form, and notes which replies are awaited for it.
    fn write_content(
        &mut self,
        index: u32,
        form: Form,
        (bytes, last): (Bytes, bool),
        out: &mut Vec<Bytes>,
    ) -> Result<(), Unclean> {
        let index = index.saturating_add(1);
        match form {
            Form::Dots(mut pump) if last => pump.end(bytes, out)?,
            Form::Dots(mut pump) => {
                pump.piece(bytes, out)?;
                let form = Form::Dots(pump);
                self.content = Content::Reading { index, form };
            }
            Form::Undecided => {}
            Form::Chunks(mut chunks) => {
                chunks.piece(&bytes, last, self.limits.chunk, out)?;
                let more = out.len().saturating_sub(usize::from(last));
                self.awaited
                    .extend(std::iter::repeat_n(Command::Chunk, more));
                if !last {
                    self.content = Content::Held { index, chunks };
                }
            }
        }
        if last {
            self.content = Content::Sent;
            if self.lmtp {
                let accepted = self.accepted.iter().copied();
                self.awaited.extend(accepted.map(Command::EndFor));
            } else {
                self.awaited.push_back(Command::End);
            }
        }
        Ok(())
    }

    /// Decides everything that is still open.
    pub(super) fn decide_open(&mut self, outcome: &Outcome) {
        for open in self.outcomes.iter_mut().filter(|open| open.is_none()) {
            *open = Some(outcome.clone());
        }
    }

    fn decide(&mut self, index: usize, outcome: Outcome) {
        if let Some(open @ None) = self.outcomes.get_mut(index) {
            *open = Some(outcome);
        }
    }

    /// Whether the content can still become somebody's.
    fn is_wanted(&self) -> bool {
        self.outcomes.iter().any(Option::is_none)
    }

    /// Whether all recipients that were accepted got the message.
    fn all_have_it(&self) -> bool {
        let delivered = |index: &usize| {
            let outcome = self.outcomes.get(*index);
            matches!(outcome, Some(Some(Outcome::Delivered { .. })))
        };
        self.accepted.iter().all(delivered)
    }

    fn is_open(&self, index: usize) -> bool {
        matches!(self.outcomes.get(index), Some(None))
    }

    /// Replies the server owes us.
    pub(super) fn outstanding(&self) -> usize {
        self.awaited.len()
    }

    /// What the server owes us next.
    pub(super) fn awaited(&self) -> Option<&'static str> {
        self.awaited.front().map(|command| match command {
            Command::Mail => "the reply to MAIL",
            Command::Rcpt(_) => "the reply to RCPT",
            Command::Data => "the reply to DATA",
            Command::FirstChunk(_) | Command::Chunk => "the reply to BDAT",
            Command::Reset { .. } => "the reply to RSET",
            Command::End | Command::EndFor(_) if self.chunked => "the reply to the last chunk",
            Command::LoneDot | Command::End | Command::EndFor(_) => "the reply to the final dot",
        })
    }

    /// Whether pieces of content are chunks, each behind its command.
    pub(super) fn writes_chunks(&self) -> bool {
        let chunks = matches!(
            &self.content,
            Content::Reading {
                form: Form::Chunks(_),
                ..
            }
        );
        chunks && self.is_wanted()
    }

    /// Whether the piece that is asked for decides what form content has.
    pub(super) fn is_undecided(&self) -> bool {
        matches!(
            &self.content,
            Content::Reading {
                form: Form::Undecided,
                ..
            }
        )
    }

    /// Whether the server still counts as one that knows BDAT, if it has offered CHUNKING.
    pub(super) fn knows_chunks(&self) -> bool {
        self.extensions.chunking
    }

    /// Whether a piece of content has been asked for.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.content, Content::Reading { .. })
    }

    /// Whether the end of the content was sent, so that the message may arrive whatever we hear.
    pub(super) fn is_sent(&self) -> bool {
        matches!(self.content, Content::Sent)
    }

    /// Recipients refused in a row, up to now.
    pub(super) fn refused(&self) -> usize {
        self.refused
    }

    /// Whether any recipient got the message.
    pub(super) fn has_success(&self) -> bool {
        let delivered = |outcome: &Option<_>| matches!(outcome, Some(Outcome::Delivered { .. }));
        self.outcomes.iter().any(delivered)
    }

    /// The outcomes, one per recipient. What nobody decided failed for now.
    pub(super) fn into_outcomes(self) -> Vec<(EnvelopeId, Outcome)> {
        let undecided = || {
            let text = "the session ended before the recipient was tried";
            Outcome::TempFail(Failure::new(Status::transient(4, 0), text))
        };
        let recipients = self.transaction.recipients.iter().zip(self.outcomes);
        recipients
            .map(|(recipient, outcome)| (recipient.envelope, outcome.unwrap_or_else(undecided)))
            .collect()
    }
}

/// Whether this reply to the first chunk, which has recipients and no content to speak of, is about
/// BDAT and not about the message. By RFC 5321 section 4.2: 500, 502 and 504 are said of what is not
/// known, 501 and 503 of how and when it came. 551 is for recipients that are elsewhere; Postfix
/// says it of a chunk that it does not like. The others (550, 552, 554) are about policy, size and
/// content, of which DATA would hear no better.
fn is_about_command(code: u16) -> bool {
    matches!(code, 500..=504 | 551)
}

/// How long the name of the header field is with which content begins, the colon included.
fn field_name(content: &[u8]) -> Option<usize> {
    let end = content
        .iter()
        .position(|octet| !octet.is_ascii_graphic() || *octet == b':')?;
    (end > 0 && content.get(end) == Some(&b':')).then_some(end.saturating_add(1))
}

/// RFC 6531 section 3.4: what needs SMTPUTF8 cannot go to a server without it, and is not altered.
fn international(text: &str) -> Failure {
    Failure::new(Status::permanent(6, 7), text)
}
