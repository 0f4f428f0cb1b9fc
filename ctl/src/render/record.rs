//! `show envelope`: `key: value` lines in the order of the reference's envelope files, version 3.
//!
//! The keys `mda-method`, `mda-buffer`, `mda-usertable`, `mda-delivery-user`, `mta-relay` and
//! `mta-relay-heloname` are those of its version 2, because our envelopes, too, carry how they
//! are delivered. `mda-rcpt-to`, `bounce-relayed`, `suspended` and `maybe-duplicated` are ours.

use super::cell::{self, Cell, Format};
use super::listing::{agent, or_null};
use crate::escape;
use redspool_core::control::{BounceKind, DeliveryRecord, EnvelopeRecord, NotifyRow};

/// All lines of an envelope.
pub(super) fn lines(envelope: &EnvelopeRecord, out: &mut Vec<u8>) {
    for (key, cell) in cells(envelope) {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b": ");
        match cell {
            Cell::Text(text) => escape::value(&text, out),
            Cell::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Cell::Words(words) => out.extend_from_slice(words.join(" ").as_bytes()),
            Cell::Flag(flag) => out.extend_from_slice(flag.to_string().as_bytes()),
            Cell::Records(_) | Cell::None => {}
        }
        out.push(b'\n');
    }
}

/// The same for programs, with the keys as names.
pub(super) fn record(envelope: &EnvelopeRecord, format: Format, out: &mut Vec<u8>) {
    cell::record(format, cells(envelope), out);
}

fn cells(envelope: &EnvelopeRecord) -> Vec<(&'static str, Cell)> {
    let mut lines = Lines(Vec::new());
    origin(envelope, &mut lines);
    progress(envelope, &mut lines);
    dsn(envelope, &mut lines);
    delivery(&envelope.delivery, &mut lines);
    lines.mark("suspended", envelope.suspended);
    lines.mark("maybe-duplicated", envelope.maybe_duplicated);
    lines.0
}

struct Lines(Vec<(&'static str, Cell)>);

impl Lines {
    fn text(&mut self, key: &'static str, value: &str) {
        self.0.push((key, value.into()));
    }

    fn text_if_set(&mut self, key: &'static str, value: &str) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    fn number(&mut self, key: &'static str, value: u64) {
        self.0.push((key, value.into()));
    }

    fn mark(&mut self, key: &'static str, set: bool) {
        if set {
            self.text(key, "yes");
        }
    }
}

fn origin(envelope: &EnvelopeRecord, lines: &mut Lines) {
    lines.text("version", "3");
    lines.text("dispatcher", &envelope.action);
    lines.text_if_set("tag", &envelope.tag);
    lines.text("type", agent(envelope.agent));
    lines.text("smtpname", &envelope.smtpname);
    lines.text("helo", &envelope.helo);
    lines.text("hostname", &envelope.hostname);
    lines.text_if_set("username", &envelope.username);
    lines.text_if_set("errorline", &envelope.errorline);
    lines.text_if_set("remote", &envelope.remote);
    lines.text("sockaddr", &envelope.sockaddr);
    lines.text("sender", or_null(&envelope.sender));
    lines.text("rcpt", or_null(&envelope.rcpt));
    lines.text("dest", or_null(&envelope.dest));
}

fn progress(envelope: &EnvelopeRecord, lines: &mut Lines) {
    lines.number("ctime", envelope.ctime);
    lines.number("last-try", envelope.last_try);
    lines.number("last-bounce", envelope.last_bounce);
    lines.number("ttl", envelope.ttl);
    lines.number("retry", envelope.retry.into());
    let flags = [
        (envelope.authenticated, "authenticated"),
        (envelope.bounce, "bounce"),
        (envelope.internal, "internal"),
    ];
    let set = flags
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, word)| word.to_owned());
    let set: Vec<_> = set.collect();
    if !set.is_empty() {
        lines.0.push(("flags", Cell::Words(set)));
    }
}

fn dsn(envelope: &EnvelopeRecord, lines: &mut Lines) {
    lines.number("dsn-notify", envelope.dsn_notify.map_or(0, notify_bits));
    if let Some(full) = envelope.dsn_ret_full {
        lines.text("dsn-ret", if full { "FULL" } else { "HDRS" });
    }
    lines.text_if_set("dsn-envid", &envelope.dsn_envid);
    lines.text_if_set("dsn-orcpt", &envelope.dsn_orcpt);
    if let Some(status) = envelope.status {
        lines.number("esc-class", status.class.into());
        let code = u64::from(status.subject) * 10 + u64::from(status.detail);
        lines.number("esc-code", code);
    }
}

/// 1 SUCCESS, 2 FAILURE, 4 DELAY, 8 NEVER.
fn notify_bits(notify: NotifyRow) -> u64 {
    match u64::from(notify.success) | u64::from(notify.failure) << 1 | u64::from(notify.delay) << 2
    {
        0 => 8,
        bits => bits,
    }
}

fn delivery(delivery: &DeliveryRecord, lines: &mut Lines) {
    match delivery {
        DeliveryRecord::Mta {
            relay,
            helo,
            src,
            helo_src,
            backup,
            security,
        } => {
            lines.text_if_set("mta-relay", relay.as_deref().unwrap_or_default());
            lines.text_if_set("mta-relay-heloname", helo);
            lines.text_if_set("mta-relay-source", src);
            lines.text_if_set("mta-relay-helotable", helo_src);
            lines.text_if_set("mta-relay-backup", backup);
            lines.text_if_set("mta-relay-flags", &security.tls);
            lines.text_if_set("mta-relay-auth", &security.auth);
            lines.text_if_set("mta-relay-cert", &security.pki);
            lines.text_if_set("mta-relay-ca", &security.ca);
            lines.text_if_set("mta-relay-ciphers", &security.ciphers);
            lines.text_if_set("mta-relay-protocols", &security.protocols);
            lines.text_if_set("mta-relay-dane", &security.dane);
            lines.text_if_set("mta-relay-mta-sts", &security.mta_sts);
        }
        DeliveryRecord::Mda {
            method,
            argument,
            rcpt_to,
            user,
            userbase,
            delivery_user,
            subaddress,
        } => {
            let command = method == "mda";
            if command {
                lines.text("mda-exec", argument);
            }
            lines.text_if_set("mda-subaddress", subaddress);
            lines.text("mda-user", user);
            lines.text("mda-method", method);
            if !command {
                lines.text_if_set("mda-buffer", argument);
            }
            lines.text_if_set("mda-usertable", userbase);
            lines.text_if_set("mda-delivery-user", delivery_user);
            lines.mark("mda-rcpt-to", *rcpt_to);
        }
        DeliveryRecord::Bounce(BounceKind::Failed) => lines.text("bounce-type", "failed"),
        DeliveryRecord::Bounce(BounceKind::Delayed { delay, ttl }) => {
            lines.number("bounce-ttl", *ttl);
            lines.number("bounce-delay", *delay);
            lines.text("bounce-type", "delayed");
        }
        DeliveryRecord::Bounce(BounceKind::Delivered { relayed }) => {
            lines.text("bounce-type", "delivered");
            lines.mark("bounce-relayed", *relayed);
        }
    }
}
