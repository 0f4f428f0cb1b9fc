//! Mail as it comes from clients, and the notices the daemon makes.

use super::disk::Write;
use super::plan::{Domain, Fate, LIFE};
use super::world::{Step, World};
use crate::mail;
use redspool_core::addr::Address;
use redspool_core::bounce::{self, Report};
use redspool_core::envelope::{Dsn, Envelope, Flags};
use redspool_core::id::MessageId;
use redspool_core::queue::{Body, Message, Reader as _, Submission};
use std::time::Duration;

impl World {
    /// A notice is made of these bounce envelopes, and written.
    pub(super) fn report(&mut self, group: &[Envelope]) {
        let Some(first) = group.first() else { return };
        let reader = self.disk.reader();
        let facts = reader.message(first.id.message()).ok().flatten();
        let original = crate::books::body(&reader, first.id.message()).unwrap_or_default();
        let report = Report {
            envelopes: group,
            arrived: facts.map_or(first.ctime, |facts| facts.ctime),
            original: &original,
            complete: true,
            utf8: facts.is_some_and(|facts| facts.utf8),
            now: self.now().wall,
        };
        let content = bounce::notice(&report, &self.limits, &mut self.rng).unwrap_or_default();
        let domain = first.sender.domain();
        let number = self.scene.domains.iter().position(|d| &*d.name == domain);
        let number = number.expect("senders have domains");
        let message = self.draw();
        let notice = Envelope {
            sender: Address::null(),
            flags: Flags {
                bounce: true,
                ..Flags::default()
            },
            ..self.envelope(message, number, first.sender.clone(), LIFE)
        };
        let reported = group.iter().map(|envelope| envelope.id).collect();
        let notice = self.submission(message, content, vec![notice]);
        self.write(Write::Notify { notice, reported });
    }

    fn draw(&mut self) -> MessageId {
        loop {
            if let Some(id) = self.ids.draw(&mut self.rng) {
                return id;
            }
            self.ids.advance();
        }
    }

    /// An envelope for an address of a domain.
    fn envelope(
        &mut self,
        message: MessageId,
        domain: usize,
        dest: Address,
        ttl: Duration,
    ) -> Envelope {
        Envelope {
            id: message.draw_envelope(&mut self.rng),
            delivery: self.scene.domains[domain].delivery.clone(),
            rcpt: dest.clone(),
            dest,
            ctime: self.now().wall,
            ttl,
            ..mail::envelope(message, 1)
        }
    }

    fn submission(&self, id: MessageId, content: Vec<u8>, envelopes: Vec<Envelope>) -> Submission {
        Submission {
            message: Message {
                id,
                size: content.len() as u64,
                ctime: self.now().wall,
                eight_bit: !content.is_ascii(),
                utf8: false,
            },
            body: Body::Whole(content.into()),
            envelopes,
        }
    }

    pub(super) fn next_mail(&mut self) {
        if let Some(mail) = self.mail.as_slice().first() {
            self.agenda.add(mail.at.max(self.elapsed), Step::Mail);
        }
    }

    pub(super) fn mail_comes(&mut self) {
        if self.engine.is_none() {
            // Nobody is there: the client tries again in a minute.
            return self
                .agenda
                .add(self.elapsed + Duration::from_mins(1), Step::Mail);
        }
        let Some(mail) = self.mail.next() else { return };
        let message = self.draw();
        let sender = match mail.sender {
            Some(number) => self.address("s", number),
            None => Address::null(),
        };
        let mut envelopes: Vec<Envelope> = Vec::new();
        for (index, number) in mail.rcpts.iter().enumerate() {
            let dest = self.address(&format!("r{index}-"), *number);
            let envelope = Envelope {
                sender: sender.clone(),
                dsn: Dsn {
                    notify: mail.notify,
                    ..Dsn::default()
                },
                ..self.envelope(message, *number, dest, mail.ttl)
            };
            if envelopes.iter().all(|other| other.id != envelope.id) {
                envelopes.push(envelope);
            }
        }
        let content = content(message, mail.size);
        let submission = self.submission(message, content, envelopes);
        self.write(Write::Submit(submission));
        self.next_mail();
    }

    fn address(&self, local: &str, domain: usize) -> Address {
        let name = &self.scene.domains[domain].name;
        format!("{local}{domain}@{name}")
            .parse()
            .expect("it is an address")
    }

    /// The fate of mail for an address.
    pub(super) fn fate(&self, dest: &Address) -> Fate {
        let named = |domain: &&Domain| &*domain.name == dest.domain();
        self.scene
            .domains
            .iter()
            .find(named)
            .map_or(Fate::Nowhere, |domain| domain.fate)
    }
}

/// Content of about so many octets that only this message has.
fn content(message: MessageId, octets: usize) -> Vec<u8> {
    let mut content = format!("Subject: {message}\r\n\r\n");
    let mut number = 0;
    while content.len() < octets {
        let dots = ".".repeat(number % 4);
        let line = format!("{dots}line {number} of {message}\r\n");
        content.push_str(&line);
        number += 1;
    }
    content.into_bytes()
}
