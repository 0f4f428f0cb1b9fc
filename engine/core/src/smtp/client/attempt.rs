//! One transaction of an outgoing session: MAIL, RCPT, DATA, content, and who got what.
//!
//! Promises: one outcome per recipient, decided by the reply that concerns it and never changed
//! afterwards; content is sent only while a recipient is accepted. Replies are matched to commands
//! in the order sent, whether pipelined (RFC 2920) or not.

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

/// A transaction on its way.
#[derive(Debug)]
pub(super) struct Attempt {
    transaction: Transaction,
    extensions: Extensions,
    lmtp: bool,
    /// One per recipient; `None` while open.
    outcomes: Vec<Option<Outcome>>,
    /// Recipients that want the content, in order.
    accepted: Vec<usize>,
    /// Recipients refused in a row, over all transactions of the session.
    refused: usize,
    unsent: VecDeque<Command>,
    awaited: VecDeque<Command>,
    content: Content,
}

/// What is sent and answered.
#[derive(Clone, Copy, Debug)]
enum Command {
    Mail,
    Rcpt(usize),
    Data,
    /// The dot of a content that nobody wants.
    LoneDot,
    /// The dot that ends the content, answered once.
    Dot,
    /// The same, answered for this recipient (RFC 2033 section 4.2).
    DotFor(usize),
}

#[derive(Debug)]
enum Content {
    Unasked,
    /// Piece `index` is being read.
    Reading {
        index: u32,
        pump: Pump,
    },
    Sent,
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
    ) -> Self {
        Self {
            outcomes: vec![None; transaction.recipients.len()],
            transaction,
            extensions: extensions.clone(),
            lmtp,
            accepted: Vec::new(),
            refused,
            unsent: VecDeque::new(),
            awaited: VecDeque::new(),
            content: Content::Unasked,
        }
    }

    /// Refuses what this server cannot take, then sends the first commands.
    pub(super) fn begin(&mut self) -> Step {
        if let Some(failure) = self.unfit() {
            self.decide_open(&Outcome::PermFail(failure));
        }
        let recipients = self.transaction.recipients.iter().zip(&mut self.outcomes);
        for (recipient, outcome) in recipients {
            if outcome.is_none() && !recipient.dest.is_ascii() {
                *outcome = Some(Outcome::PermFail(international()));
            }
        }
        let open = self.outcomes.iter().enumerate();
        let open = open.filter(|(_, outcome)| outcome.is_none());
        let commands: VecDeque<_> = open.map(|(i, _)| Command::Rcpt(i)).collect();
        if commands.is_empty() {
            return Step::Unused;
        }
        self.unsent = commands;
        self.unsent.push_front(Command::Mail);
        self.unsent.push_back(Command::Data);
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
        (!message.sender.is_ascii()).then(international)
    }

    /// Whether this reply to the oldest command that has none refuses MAIL for now.
    pub(super) fn is_turned_away(&self, reply: &ServerReply) -> bool {
        matches!(self.awaited.front(), Some(Command::Mail)) && reply.code() / 100 == 4
    }

    /// Notes a reply to the oldest command that has none.
    pub(super) fn replied(&mut self, reply: &ServerReply, limits: &MtaLimits) -> Step {
        match self.awaited.pop_front() {
            Some(Command::Mail) if !reply.is_positive() => {
                self.decide_open(&reply.outcome());
                self.unsent.clear();
            }
            Some(Command::Rcpt(index)) => self.rcpt_replied(index, reply, limits),
            Some(Command::Data) => return self.data_replied(reply),
            Some(Command::Dot) => {
                let outcome = self.final_outcome(reply);
                self.decide_open(&outcome);
            }
            Some(Command::DotFor(index)) => {
                let outcome = self.final_outcome(reply);
                self.decide(index, outcome);
            }
            Some(Command::Mail | Command::LoneDot) | None => {}
        }
        self.next()
    }

    fn rcpt_replied(&mut self, index: usize, reply: &ServerReply, limits: &MtaLimits) {
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
        if self.refused >= limits.failures_per_session {
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
        self.content = Content::Reading {
            index: 0,
            pump: Pump::default(),
        };
        Step::Content(self.transaction.message, 0)
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
        if !self.awaited.is_empty() {
            return Step::Wait;
        }
        if matches!(self.unsent.front(), Some(Command::Data)) && self.accepted.is_empty() {
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
            Content::Sent => Step::Sent,
            _ => Step::Refused,
        }
    }

    fn write(&self, command: Command, out: &mut Vec<u8>) {
        match command {
            Command::Mail => command::mail(&self.transaction, &self.extensions, out),
            Command::Rcpt(index) => {
                if let Some(recipient) = self.transaction.recipients.get(index) {
                    command::rcpt(recipient, &self.extensions, out);
                }
            }
            Command::Data => out.extend_from_slice(b"DATA\r\n"),
            Command::LoneDot | Command::Dot | Command::DotFor(_) => {
                out.extend_from_slice(b".\r\n");
            }
        }
    }

    /// Takes a piece of content; gives what to write and what to do then.
    pub(super) fn content(
        &mut self,
        bytes: Bytes,
        last: bool,
    ) -> Result<(Vec<Bytes>, Step), Unclean> {
        let Content::Reading { index, pump } = &mut self.content else {
            return Ok((Vec::new(), Step::Wait));
        };
        let mut pieces = Vec::new();
        if !last {
            pump.piece(bytes, &mut pieces)?;
            *index = index.saturating_add(1);
            return Ok((pieces, Step::Content(self.transaction.message, *index)));
        }
        pump.end(bytes, &mut pieces)?;
        self.content = Content::Sent;
        if self.lmtp {
            let accepted = self.accepted.iter().copied();
            self.awaited.extend(accepted.map(Command::DotFor));
        } else {
            self.awaited.push_back(Command::Dot);
        }
        Ok((pieces, Step::Wait))
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
            Command::LoneDot | Command::Dot | Command::DotFor(_) => "the reply to the final dot",
        })
    }

    /// Whether a piece of content has been asked for.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.content, Content::Reading { .. })
    }

    /// Whether the final dot was sent, so that the message may arrive whatever we hear.
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

/// RFC 6531: an address beyond ASCII needs SMTPUTF8, which we do not speak.
fn international() -> Failure {
    let text = "address is not ASCII and SMTPUTF8 is not supported";
    Failure::new(Status::permanent(6, 7), text)
}
