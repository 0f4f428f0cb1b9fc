//! What each command does, and what becomes of the answers it waits for.

use super::trace::{self, Greeting};
use super::transaction::{Mail, Rcpt, Transaction};
use super::{
    Action, Arriving, Content, Ending, Incoming, Note, Pending, Phase, Recipient, Session, replies,
};
use crate::addr;
use crate::id::MessageId;
use crate::queue::Message;
use crate::reply::Reply;
use crate::smtp::data::{Data, Flaw};
use crate::smtp::extensions;
use crate::smtp::header::{Header, HeaderFlaw};
use crate::smtp::lines::{self, Malformed, Verb};
use crate::smtp::path;
use crate::time::Now;
use bytes::{Bytes, BytesMut};
use std::fmt::Write as _;
use std::mem;

impl Session {
    /// Carries out the command in `self.command`.
    pub(super) fn obey(&mut self, now: Now) {
        let line = self.command.clone();
        self.command = lines::loggable(line.clone(), self.offer().auth);
        let command = match lines::split(&line) {
            Ok(command) => command,
            Err(why) => {
                self.refuse(match why {
                    Malformed::Control => replies::control_character(),
                    Malformed::NotUtf8 => replies::not_utf8(),
                });
                return self.beware_of_chunk(&line);
            }
        };
        self.spoiled &= command.verb == Verb::Bdat;
        let argument = command.argument;
        let result = match command.verb {
            Verb::Mail => self.mail(argument),
            Verb::Rcpt => self.rcpt(argument),
            Verb::Data => self.data(argument, now),
            Verb::Rset => self.rset(argument),
            Verb::Ehlo => self.greet(argument, true),
            Verb::Helo => self.greet(argument, false),
            Verb::Starttls => self.starttls(argument),
            Verb::Auth => self.auth(argument),
            Verb::Quit => self.quit(argument),
            Verb::Help => self.help(argument),
            Verb::Vrfy => self.vrfy(argument),
            Verb::Noop => {
                self.say("250 2.0.0 Ok");
                Ok(())
            }
            Verb::NotOffered => Err(replies::not_offered()),
            Verb::Bdat => return self.bdat(argument, now),
            Verb::Http => Err(replies::http()),
            Verb::Unknown => Err(replies::unknown()),
        };
        if let Err(reply) = result {
            self.refuse(reply);
        }
    }

    fn greet(&mut self, name: &str, extended: bool) -> Result<(), Reply> {
        if self.greeting.is_some() {
            return Err(replies::already_greeted());
        }
        if name.is_empty() {
            return Err(replies::greeting_without_name());
        }
        if !lines::is_hostname(name) && !addr::is_literal(name) {
            return Err(replies::greeting_name());
        }
        let settings = &self.params.settings;
        let mut line = String::with_capacity(128);
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            "250{}{} Hello {name} {}, pleased to meet you",
            if extended { '-' } else { ' ' },
            settings.hostname,
            trace::bracketed(self.params.source),
        );
        self.greeting = Some(Greeting {
            helo: name.into(),
            extended,
        });
        self.say(&line);
        if extended {
            let mut lines = BytesMut::new();
            extensions::announce(&self.offer(), &mut lines);
            self.output.unsplit(lines);
        }
        Ok(())
    }

    fn mail(&mut self, argument: &str) -> Result<(), Reply> {
        if self.greeting.is_none() || !matches!(self.phase, Phase::Idle) {
            return Err(replies::not_now());
        }
        self.admits()?;
        if self.mails >= self.limits().mails_per_session {
            return Err(replies::too_many_mails());
        }
        let settings = &self.params.settings;
        let (path, parameters) = path::cut(argument, "FROM:").ok_or_else(replies::sender_syntax)?;
        let sender = path::address(path, &settings.hostname).ok_or_else(replies::sender_syntax)?;
        let parameters = extensions::mail(parameters, &self.offer())?;
        if !path.is_ascii() && !parameters.utf8 {
            return Err(replies::needs_utf8());
        }
        let octets = parameters.size.unwrap_or(0);
        self.phase = Phase::Reserving(Mail { sender, parameters });
        self.actions.push_back(Action::Reserve { octets });
        Ok(())
    }

    /// MAIL has its message-id.
    pub(super) fn open(&mut self, message: MessageId, mail: Mail) {
        self.phase = Phase::Open(Transaction::new(message, mail));
        self.say("250 2.0.0 Ok");
    }

    fn rcpt(&mut self, argument: &str) -> Result<(), Reply> {
        let Phase::Open(transaction) = &self.phase else {
            return Err(replies::not_now());
        };
        let settings = &self.params.settings;
        if transaction.rcpts() >= settings.limits.recipients {
            return Err(replies::too_many_rcpts());
        }
        let (path, parameters) = path::cut(argument, "TO:").ok_or_else(replies::rcpt_syntax)?;
        if !path.is_ascii() && !transaction.utf8 {
            return Err(replies::needs_utf8());
        }
        let address = path::address(path, &settings.hostname)
            .filter(|address| !address.is_null())
            .ok_or_else(replies::rcpt_syntax)?;
        let parameters = extensions::rcpt(parameters, &self.offer(), transaction.utf8)?;
        let expand = Action::Expand {
            sender: transaction.sender.clone(),
            rcpt: address.clone(),
        };
        if let Phase::Open(transaction) = mem::replace(&mut self.phase, Phase::Idle) {
            let rcpt = Rcpt {
                address,
                parameters,
            };
            self.phase = Phase::Expanding(transaction, rcpt);
            self.actions.push_back(expand);
        }
        Ok(())
    }

    /// It is known where RCPT leads.
    pub(super) fn expanded(
        &mut self,
        mut transaction: Transaction,
        rcpt: Rcpt,
        result: Result<Vec<Recipient>, Reply>,
    ) {
        match result {
            Ok(recipients) if !recipients.is_empty() => {
                transaction.accept(rcpt, recipients);
                self.phase = Phase::Open(transaction);
                self.say("250 2.1.5 Destination address valid: Recipient ok");
            }
            result => {
                self.phase = Phase::Open(transaction);
                self.refuse(result.err().unwrap_or_else(replies::no_destination));
            }
        }
    }

    fn data(&mut self, argument: &str, now: Now) -> Result<(), Reply> {
        if !argument.is_empty() {
            return Err(replies::no_argument());
        }
        let arriving = self.begin(now, 0)?;
        self.phase = Phase::Data(arriving);
        self.say("354 Enter mail, end with \".\" on a line by itself");
        Ok(())
    }

    /// Begins the message of the open transaction, of at least so many octets; the phase is idle
    /// then, and unchanged where there can be no message.
    pub(super) fn begin(&mut self, now: Now, octets: u64) -> Result<Box<Arriving>, Reply> {
        match (&self.phase, &self.greeting) {
            (Phase::Open(transaction), Some(_)) if transaction.rcpts() == 0 => {
                Err(replies::no_rcpt())
            }
            (Phase::Open(_), Some(greeting)) => {
                let Phase::Open(transaction) = mem::replace(&mut self.phase, Phase::Idle) else {
                    return Err(replies::not_now());
                };
                let limits = &self.params.settings.limits;
                let announced = transaction.size.unwrap_or(0).max(octets);
                let room = usize::try_from(announced).unwrap_or(usize::MAX);
                let room = room.min(limits.message_in_memory);
                let mut buffer = Vec::with_capacity(room.saturating_add(trace::TRACE_SIZE));
                trace::received(&self.params, greeting, &transaction, now.wall, &mut buffer);
                let completion = self.params.local.then(|| {
                    trace::completion(&self.params.settings.hostname, now.wall, &mut self.rng)
                });
                Ok(Box::new(Arriving {
                    transaction,
                    data: Data::new(buffer, Header::new(completion)),
                    since: now.mono,
                }))
            }
            _ => Err(replies::not_now()),
        }
    }

    /// The final dot is here.
    pub(super) fn dot(&mut self, now: Now, arriving: Arriving) {
        self.command = Bytes::from_static(b"DATA");
        // Where the message ended, and commands began, would be a matter of opinion.
        let doubtful = arriving.data.flaw() == Some(&Flaw::BareLineEnd);
        self.arrived(now, arriving);
        if doubtful {
            self.close(Ending::Error);
        }
    }

    /// The message is here.
    pub(super) fn arrived(&mut self, now: Now, arriving: Arriving) {
        let transaction = arriving.transaction;
        let arrived = match arriving.data.finish() {
            Ok(arrived) => arrived,
            Err(flaw) => return self.reject(&transaction, flaw),
        };
        let message = Message {
            id: transaction.message,
            size: arrived.size,
            ctime: now.wall,
            eight_bit: arrived.eight_bit,
            utf8: transaction.utf8 && arrived.utf8_header,
        };
        if arrived.spooled {
            if !arrived.rest.is_empty() {
                self.spooling += 1;
                self.actions.push_back(Action::Spool(arrived.rest));
            }
            self.phase = Phase::Spooling(transaction, message);
            self.commit_spooled();
        } else {
            self.commit(transaction, message, Content::Whole(arrived.rest));
        }
    }

    /// A piece is in the temporary file, or failed to get there.
    pub(super) fn spooled(&mut self, failure: Option<Reply>) {
        self.spooling = self.spooling.saturating_sub(1);
        match (&mut self.phase, failure) {
            (
                Phase::Data(arriving) | Phase::Chunk(arriving, _) | Phase::Chunks(arriving),
                Some(reply),
            ) => arriving.data.spool_failed(reply),
            (Phase::Spooling(..), Some(reply)) => {
                if let Phase::Spooling(transaction, _) = mem::replace(&mut self.phase, Phase::Idle)
                {
                    self.reject(&transaction, Flaw::Spool(reply));
                }
            }
            (Phase::Spooling(..), None) => self.commit_spooled(),
            _ => {}
        }
    }

    /// Commits a message from its temporary file, if that is complete.
    fn commit_spooled(&mut self) {
        if self.spooling > 0 {
            return;
        }
        if let Phase::Spooling(transaction, message) = mem::replace(&mut self.phase, Phase::Idle) {
            self.commit(transaction, message, Content::Spooled);
        }
    }

    fn commit(&mut self, transaction: Transaction, message: Message, content: Content) {
        let Some(greeting) = &self.greeting else {
            return;
        };
        let recipients = transaction.rcpts();
        let sender = transaction.sender.clone();
        let envelopes = transaction.envelopes(&self.params, greeting, message.ctime, &mut self.rng);
        self.phase = Phase::Committing(Box::new(Pending {
            message,
            recipients,
            sender,
            envelopes: envelopes
                .iter()
                .map(|envelope| (envelope.id, envelope.dest.clone()))
                .collect(),
            alone: false,
        }));
        self.actions.push_back(Action::Commit(Box::new(Incoming {
            message,
            envelopes,
            content,
        })));
    }

    /// The message is durable, and so may be acknowledged.
    pub(super) fn committed(&mut self, pending: Pending) {
        self.phase = Phase::Idle;
        self.mails += 1;
        self.say(&format!(
            "250 2.0.0 {} Message accepted for delivery",
            pending.message.id
        ));
        self.actions.push_back(Action::Log(Note::Message {
            message: pending.message.id,
            size: pending.message.size,
            recipients: pending.recipients,
            extended: self
                .greeting
                .as_ref()
                .is_some_and(|greeting| greeting.extended),
        }));
        for (envelope, dest) in pending.envelopes {
            self.actions.push_back(Action::Log(Note::Envelope {
                envelope,
                sender: pending.sender.clone(),
                dest,
            }));
        }
        if pending.alone {
            self.forsaken();
        }
    }

    /// The store has not taken the message.
    pub(super) fn commit_failed(&mut self, pending: &Pending, reply: Reply) {
        self.phase = Phase::Idle;
        self.refuse(reply);
        if pending.alone {
            self.forsaken();
        }
    }

    /// The client has gone while the store was busy: there is nobody to answer.
    pub(super) fn forsaken(&mut self) {
        self.output.clear();
        self.close(Ending::Disconnected);
    }

    /// Refuses a message after its final dot or a chunk; the phase is idle by then.
    pub(super) fn reject(&mut self, transaction: &Transaction, flaw: Flaw) {
        self.actions.push_back(Action::Discard(transaction.message));
        self.refuse(match flaw {
            Flaw::BareLineEnd => replies::bare_line_end(),
            Flaw::Nul => replies::nul(),
            Flaw::LongLine => replies::long_line(),
            Flaw::TooBig => replies::too_big(),
            Flaw::Spool(reply) => reply,
            Flaw::Header(HeaderFlaw::TooBig) => replies::header_too_big(),
            Flaw::Header(HeaderFlaw::Loop) => replies::routing_loop(),
            Flaw::Header(HeaderFlaw::Malformed) => replies::malformed(),
        });
    }

    /// Ends the transaction, if one is open, without a message.
    pub(super) fn forget(&mut self) {
        match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Open(transaction) => {
                self.actions.push_back(Action::Discard(transaction.message));
            }
            Phase::Chunks(arriving) => {
                let message = arriving.transaction.message;
                self.actions.push_back(Action::Discard(message));
            }
            phase => self.phase = phase,
        }
    }

    fn rset(&mut self, argument: &str) -> Result<(), Reply> {
        if !argument.is_empty() {
            return Err(replies::no_argument());
        }
        if self.greeting.is_none() {
            return Err(replies::not_now());
        }
        self.forget();
        self.say("250 2.0.0 Ok");
        Ok(())
    }

    fn quit(&mut self, argument: &str) -> Result<(), Reply> {
        if !argument.is_empty() {
            return Err(replies::no_argument());
        }
        self.say("221 2.0.0 Bye");
        self.close(Ending::Quit);
        Ok(())
    }

    fn help(&mut self, argument: &str) -> Result<(), Reply> {
        if !argument.is_empty() {
            return Err(replies::no_argument());
        }
        let offer = self.offer();
        let starttls = if offer.starttls { " STARTTLS" } else { "" };
        let auth = if offer.auth_open { " AUTH" } else { "" };
        self.say(&format!(
            "214-2.0.0 Commands: HELO EHLO{starttls}{auth} MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT"
        ));
        self.say("214 2.0.0 End of HELP info");
        Ok(())
    }

    /// VRFY tells nothing, and says so (RFC 5321 section 7.3).
    fn vrfy(&mut self, argument: &str) -> Result<(), Reply> {
        if argument.is_empty() {
            return Err(replies::argument_needed());
        }
        self.say("252 2.5.2 Cannot verify; send RCPT and see");
        Ok(())
    }
}
