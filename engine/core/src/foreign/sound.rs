//! Whether an envelope that others wrote down is one we could have queued ourselves.

use super::{DATE_MAX, Flaw, NAME_MAX};
use crate::envelope::{Bounce, Delivery, Envelope, Mda, Method, Relay};
use crate::limits::Limits;
use crate::smtp::extensions::{is_orcpt, is_xtext};
use crate::tls::{Protocols, Suites};
use std::os::unix::ffi::OsStrExt as _;

/// Octets of a path or command.
const COMMAND_MAX: usize = 8095;

/// Checks what the types do not: that no text can end a line or an argument early, that dates are
/// dates, and that fields are not longer than they can be.
pub fn sound(envelope: &Envelope, limits: &Limits) -> Result<(), Flaw> {
    for (key, text) in [
        ("dispatcher", &envelope.action),
        ("tag", &envelope.tag),
        ("smtpname", &envelope.smtpname),
        ("helo", &envelope.helo),
        ("hostname", &envelope.hostname),
        ("username", &envelope.username),
    ] {
        plain(key, text, NAME_MAX)?;
    }
    for (key, address) in [("rcpt", &envelope.rcpt), ("dest", &envelope.dest)] {
        if address.is_null() {
            return Err(Flaw::new(key, "no recipient has the null address"));
        }
    }
    for (key, date) in [
        ("ctime", envelope.ctime),
        ("last-try", envelope.last_try),
        ("last-bounce", envelope.last_bounce),
    ] {
        if date.as_secs() > DATE_MAX {
            return Err(Flaw::new(key, "behind the year 9999"));
        }
    }
    lifetime("ttl", envelope.ttl.as_secs())?;
    if envelope.errorline.len() > Envelope::ERRORLINE_MAX {
        let why = format!("longer than {} octets", Envelope::ERRORLINE_MAX);
        return Err(Flaw::new("errorline", why));
    }
    plain("remote", &envelope.remote, NAME_MAX)?;
    for attempt in envelope.tried() {
        if attempt.began.as_secs() > DATE_MAX {
            return Err(Flaw::new("attempts", "behind the year 9999"));
        }
        if let Some(via) = attempt.via {
            plain("attempts", &via.name, NAME_MAX)?;
            plain("attempts", &via.tls, NAME_MAX)?;
        }
    }
    let dsn = &envelope.dsn;
    if dsn.envid.len() > limits.envid || !is_xtext(&dsn.envid) {
        return Err(Flaw::new(
            "dsn-envid",
            "not xtext (RFC 3461 section 4), or too long",
        ));
    }
    if dsn.orcpt.len() > limits.orcpt || !(dsn.orcpt.is_empty() || is_orcpt(&dsn.orcpt)) {
        let why = "not a type and xtext (RFC 3461 section 4.2), or too long";
        return Err(Flaw::new("dsn-orcpt", why));
    }
    match &envelope.delivery {
        Delivery::Mta(one) => relay(one),
        Delivery::Mda(one) => mda(one),
        Delivery::Bounce(Bounce::Delayed { delay, ttl }) => {
            lifetime("delay", delay.as_secs())?;
            lifetime("ttl", ttl.as_secs())
        }
        Delivery::Bounce(Bounce::Failed | Bounce::Delivered { .. }) => Ok(()),
    }
}

fn plain(key: &'static str, text: &str, most: usize) -> Result<(), Flaw> {
    if text.len() > most {
        return Err(Flaw::new(key, format!("longer than {most} octets")));
    }
    if text.chars().any(char::is_control) {
        return Err(Flaw::new(key, "it holds a control character"));
    }
    Ok(())
}

/// As [`plain`], and without blanks, for what becomes a word of a command.
fn word(key: &'static str, text: &str, most: usize) -> Result<(), Flaw> {
    plain(key, text, most)?;
    if text.contains(char::is_whitespace) {
        return Err(Flaw::new(key, "it holds a blank"));
    }
    Ok(())
}

/// 136 years are enough.
fn lifetime(key: &'static str, seconds: u64) -> Result<(), Flaw> {
    if seconds > u32::MAX.into() {
        return Err(Flaw::new(key, "longer than anything lives"));
    }
    Ok(())
}

fn relay(relay: &Relay) -> Result<(), Flaw> {
    if let Some(host) = &relay.host {
        word("host", &host.host, NAME_MAX)?;
        word("label", &host.label, NAME_MAX)?;
        if !relay.security.suits(host) {
            let why = "the host does not go with `tls` or without `auth`";
            return Err(Flaw::new("host", why));
        }
    }
    word("helo", &relay.helo, NAME_MAX)?;
    let security = &relay.security;
    for (key, text) in [
        ("auth", &security.auth),
        ("pki", &security.pki),
        ("ca", &security.ca),
    ] {
        plain(key, text, NAME_MAX)?;
    }
    if !security.ciphers.is_empty() && Suites::parse(&security.ciphers).is_err() {
        return Err(Flaw::new("ciphers", "no list of cipher suites"));
    }
    if !security.protocols.is_empty() && Protocols::parse(&security.protocols).is_err() {
        return Err(Flaw::new("protocols", "no list of versions of TLS"));
    }
    plain("src", &relay.src, COMMAND_MAX)?;
    plain("helo-src", &relay.helo_src, NAME_MAX)?;
    word(
        "backup",
        relay.backup.as_deref().unwrap_or_default(),
        NAME_MAX,
    )
}

fn mda(mda: &Mda) -> Result<(), Flaw> {
    for (key, text) in [
        ("user", &mda.user),
        ("userbase", &mda.userbase),
        ("delivery-user", &mda.delivery_user),
        ("subaddress", &mda.subaddress),
    ] {
        plain(key, text, NAME_MAX)?;
    }
    let program = matches!(mda.method, Method::Command(_) | Method::File(_));
    if program && mda.delivery_user.is_empty() && mda.user.eq_ignore_ascii_case("root") {
        return Err(Flaw::new(
            "user",
            "no command or file of an alias is run as root",
        ));
    }
    match &mda.method {
        Method::Mbox => Ok(()),
        Method::Maildir { path } => plain("path", path, COMMAND_MAX),
        Method::Lmtp { dest, .. } => word("dest", dest, COMMAND_MAX),
        // Tabs are common between the words of a command.
        Method::Command(command) => plain("command", &command.replace('\t', " "), COMMAND_MAX),
        Method::File(path) => {
            let octets = path.as_os_str().as_bytes();
            if octets.len() > COMMAND_MAX || octets.iter().any(u8::is_ascii_control) {
                return Err(Flaw::new(
                    "path",
                    "too long, or it holds a control character",
                ));
            }
            Ok(())
        }
    }
}
