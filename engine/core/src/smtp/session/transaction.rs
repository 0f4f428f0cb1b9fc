//! A mail transaction: what MAIL and RCPT have said, and the envelopes that come of it.

use super::trace::Greeting;
use super::{Params, Recipient};
use crate::addr::Address;
use crate::envelope::{Attempts, Dsn, Envelope, Flags, Notify, Ret};
use crate::id::{EnvelopeId, MessageId};
use crate::rng::Rng;
use crate::smtp::extensions::{MailParameters, RcptParameters};
use crate::time::Timestamp;

/// MAIL, before it has a message-id.
pub(super) struct Mail {
    pub(super) sender: Address,
    pub(super) parameters: MailParameters,
}

/// RCPT, before it is known where it leads.
pub(super) struct Rcpt {
    pub(super) address: Address,
    pub(super) parameters: RcptParameters,
}

/// From MAIL to the final dot.
pub(super) struct Transaction {
    pub(super) message: MessageId,
    pub(super) sender: Address,
    /// Octets announced with SIZE.
    pub(super) size: Option<u64>,
    /// Whether MAIL had SMTPUTF8 (RFC 6531).
    pub(super) utf8: bool,
    ret: Option<Ret>,
    envid: Box<str>,
    rcpts: Vec<Accepted>,
}

/// A recipient that was accepted.
struct Accepted {
    address: Address,
    notify: Option<Notify>,
    orcpt: Box<str>,
    recipients: Vec<Recipient>,
}

impl Transaction {
    pub(super) fn new(message: MessageId, mail: Mail) -> Self {
        Self {
            message,
            sender: mail.sender,
            size: mail.parameters.size,
            utf8: mail.parameters.utf8,
            ret: mail.parameters.ret,
            envid: mail.parameters.envid,
            rcpts: Vec::new(),
        }
    }

    /// Adds a recipient, which leads to `recipients`.
    pub(super) fn accept(&mut self, rcpt: Rcpt, recipients: Vec<Recipient>) {
        self.rcpts.push(Accepted {
            address: rcpt.address,
            notify: rcpt.parameters.notify,
            orcpt: rcpt.parameters.orcpt,
            recipients,
        });
    }

    /// How many RCPT commands were accepted.
    pub(super) fn rcpts(&self) -> usize {
        self.rcpts.len()
    }

    /// The recipient, if there is just one: naming it to others then gives nobody away.
    pub(super) fn only_rcpt(&self) -> Option<&Address> {
        match self.rcpts.as_slice() {
            [only] => Some(&only.address),
            _ => None,
        }
    }

    /// The envelopes, one per delivery, their ids rising in the order of the recipients.
    pub(super) fn envelopes(
        self,
        params: &Params,
        greeting: &Greeting,
        at: Timestamp,
        rng: &mut Rng,
    ) -> Vec<Envelope> {
        let count = self.rcpts.iter().map(|rcpt| rcpt.recipients.len()).sum();
        let mut ids = draw(self.message, count, rng).into_iter();
        let mut envelopes = Vec::with_capacity(count);
        for rcpt in self.rcpts {
            for (recipient, id) in rcpt.recipients.into_iter().zip(ids.by_ref()) {
                envelopes.push(Envelope {
                    id,
                    action: recipient.action,
                    tag: params.tag.clone(),
                    delivery: recipient.delivery,
                    smtpname: params.settings.hostname.clone(),
                    helo: greeting.helo.clone(),
                    hostname: params.rdns.clone(),
                    username: params.username.clone(),
                    source: params.source,
                    sender: self.sender.clone(),
                    rcpt: rcpt.address.clone(),
                    dest: recipient.dest,
                    ctime: at,
                    last_try: Timestamp::EPOCH,
                    last_bounce: Timestamp::EPOCH,
                    ttl: recipient.ttl,
                    retry: 0,
                    flags: Flags {
                        authenticated: params.authenticated,
                        internal: recipient.internal,
                        ..Flags::default()
                    },
                    dsn: Dsn {
                        notify: rcpt.notify,
                        ret: self.ret,
                        envid: self.envid.clone(),
                        orcpt: rcpt.orcpt.clone(),
                    },
                    status: None,
                    errorline: Box::default(),
                    remote: "".into(),
                    attempts: Attempts::default(),
                });
            }
        }
        envelopes
    }
}

/// Draws `count` different envelope-ids of a message, in rising order.
fn draw(message: MessageId, count: usize, rng: &mut Rng) -> Vec<EnvelopeId> {
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        let missing = count.saturating_sub(ids.len());
        ids.extend((0..missing).map(|_| message.draw_envelope(rng)));
        ids.sort_unstable();
        ids.dedup();
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelope_ids_of_a_message_differ_and_rise() {
        let message = MessageId::new(7).unwrap();
        let ids = draw(message, 100_000, &mut Rng::new(1));
        assert_eq!(ids.len(), 100_000);
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!(ids.iter().all(|id| id.message() == message));
    }
}
