//! Mail that another server has queued: the envelope files of OpenSMTPD, formats 2 and 3.
//!
//! Promises: a file becomes a sound envelope, with all it says about attempts, times, failures and
//! notices, or is refused with what is wrong and where; whatever is in it, no field can end a line,
//! a command or a path early. [`sound`] asks the same of
//! envelopes that were written down in a form of our own. What it asks for and we do not serve is refused by name.
//! Absent on purpose: reading files, decrypting and decompressing; contents.
//! Fails: with [`Flaw`].

mod fields;
mod sound;
mod text;

pub use sound::sound;

use crate::addr::{Address, Source};
use crate::config::Salvage;
use crate::envelope::{Attempts, Bounce, Delivery, Dsn, Envelope, Flags, Notify, Ret};
use crate::id::EnvelopeId;
use crate::limits::Limits;
use crate::reply::{Class, Status};
use crate::smtp::extensions::{is_orcpt, is_xtext};
use crate::time::Timestamp;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use text::Fields;

/// Octets of a name: a tag, a host, a user.
const NAME_MAX: usize = 255;

/// The last second of the year 9999: a later date is a slip, and cannot be shown.
const DATE_MAX: u64 = 253_402_300_799;

/// Why a file is not taken over: the field or line, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// A key of the file, or `line 3`.
    pub place: String,
    /// What is wrong, in one sentence.
    pub why: String,
}

impl Flaw {
    fn new(place: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            why: why.into(),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

impl std::error::Error for Flaw {}

/// Where the parameters of actions come from, which format 3 only names.
#[derive(Clone, Copy, Debug)]
pub struct Actions<'a> {
    /// The configuration, if one is given.
    pub salvage: Option<&'a Salvage>,
    /// The limits in force without one.
    pub limits: &'a Limits,
    /// Chooses among smart hosts of a table: count up by one per envelope.
    pub turn: u64,
}

impl Actions<'_> {
    fn limits(&self) -> &Limits {
        self.salvage
            .map_or(self.limits, |salvage| &salvage.config.limits)
    }
}

/// Format of an envelope file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// 2018 and before: says how to deliver.
    Two,
    /// Names an action.
    Three,
}

/// Reads the envelope file of envelope `id`: `key: value` lines as OpenSMTPD writes them, decrypted
/// and decompressed.
pub fn envelope(id: EnvelopeId, file: &[u8], actions: Actions<'_>) -> Result<Envelope, Flaw> {
    let fields = Fields::parse(file)?;
    let format = fields.format;
    let action: Box<str> = match format {
        Format::Two => Box::default(),
        Format::Three => fields.needed("dispatcher", NAME_MAX)?.into(),
    };
    let (delivery, ttl) = delivery(&fields, &action, actions)?;
    Ok(Envelope {
        id,
        tag: fields.name("tag")?.into(),
        smtpname: fields.needed("smtpname", NAME_MAX)?.into(),
        helo: fields.needed("helo", NAME_MAX)?.into(),
        hostname: fields.needed("hostname", NAME_MAX)?.into(),
        username: fields.name("username")?.into(),
        source: source(&fields)?,
        sender: address(&fields, "sender")?,
        rcpt: recipient(&fields, "rcpt")?,
        dest: recipient(&fields, "dest")?,
        ctime: match date(&fields, "ctime")? {
            Timestamp::EPOCH => return Err(Flaw::new("ctime", "missing, or zero")),
            ctime => ctime,
        },
        last_try: date(&fields, "last-try")?,
        last_bounce: date(&fields, "last-bounce")?,
        ttl,
        retry: fields.number("retry", u16::MAX.into()).map(narrow)?,
        flags: flags(&fields)?,
        dsn: dsn(&fields, actions.limits())?,
        status: status(&fields)?,
        errorline: errorline(&fields),
        remote: "".into(),
        attempts: Attempts::default(),
        action: match &delivery {
            Delivery::Mda(mda) if format == Format::Two => mda.method.word().into(),
            Delivery::Mta(_) if format == Format::Two => "relay".into(),
            Delivery::Bounce(_) if format == Format::Two => "bounce".into(),
            _ => action,
        },
        delivery,
    })
}

/// Who delivers, and how long it may take.
fn delivery(
    fields: &Fields<'_>,
    action: &str,
    actions: Actions<'_>,
) -> Result<(Delivery, Duration), Flaw> {
    let life = match fields.format {
        Format::Two => "expire",
        Format::Three => "ttl",
    };
    // The reference's int; 68 years.
    let seconds = fields.number(life, u32::MAX.into())?;
    let given = (seconds > 0).then(|| Duration::from_secs(seconds));
    let limits = actions.limits();
    let kind = fields.needed("type", NAME_MAX)?;
    if kind == "bounce" {
        // It goes to the sender, whatever action it was for.
        let ttl = given.unwrap_or(limits.bounce_ttl);
        return Ok((Delivery::Bounce(bounce(fields)?), ttl));
    }
    let (delivery, ttl) = match (kind, fields.format) {
        ("mta", Format::Two) => (Delivery::Mta(fields::relay(fields, actions)?), None),
        ("mda", Format::Two) => (Delivery::Mda(fields::mda(fields, actions)?), None),
        ("mta" | "mda", Format::Three) => fields::by_action(fields, kind, action, actions)?,
        (other, _) => {
            let why = format!("`{}` is none of mda, mta, bounce", other.escape_debug());
            return Err(Flaw::new("type", why));
        }
    };
    Ok((delivery, given.or(ttl).unwrap_or(limits.queue_ttl)))
}

fn bounce(fields: &Fields<'_>) -> Result<Bounce, Flaw> {
    let life = match fields.format {
        Format::Two => "bounce-expire",
        Format::Three => "bounce-ttl",
    };
    let seconds = |key| fields.number(key, u32::MAX.into()).map(Duration::from_secs);
    match fields.needed("bounce-type", NAME_MAX)? {
        "failed" | "error" => Ok(Bounce::Failed),
        "delayed" | "warn" => Ok(Bounce::Delayed {
            delay: seconds("bounce-delay")?,
            ttl: seconds(life)?,
        }),
        // Which of the two it was is not written there; the mail did leave for another host if it
        // was not for a user here, and that is not known any more either.
        "delivered" | "dsn" => Ok(Bounce::Delivered { relayed: false }),
        other => {
            let why = format!(
                "`{}` is none of failed, delayed, delivered",
                other.escape_debug()
            );
            Err(Flaw::new("bounce-type", why))
        }
    }
}

fn narrow(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn source(fields: &Fields<'_>) -> Result<Source, Flaw> {
    let text = fields.needed("sockaddr", NAME_MAX)?;
    if text == "local" {
        return Ok(Source::Local);
    }
    let inside = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let inet6 = text.strip_prefix("IPv6:").or(inside);
    // The scope is of the other machine.
    let inet6 = inet6.map(|text| text.split_once('%').map_or(text, |(ip, _)| ip));
    match inet6 {
        Some(text) => text.parse::<Ipv6Addr>().ok().map(Source::Inet6),
        None => text.parse::<Ipv4Addr>().ok().map(Source::Inet4),
    }
    .ok_or_else(|| Flaw::new("sockaddr", "neither `local` nor an address"))
}

fn address(fields: &Fields<'_>, key: &'static str) -> Result<Address, Flaw> {
    match fields.text(key, 2 * NAME_MAX + 1)? {
        "@" => Ok(Address::null()),
        "" => Err(Flaw::new(key, "missing")),
        text => {
            let parsed: Result<Address, _> = text.parse();
            parsed.map_err(|why| Flaw::new(key, why.to_string()))
        }
    }
}

fn recipient(fields: &Fields<'_>, key: &'static str) -> Result<Address, Flaw> {
    let address = address(fields, key)?;
    if address.is_null() {
        return Err(Flaw::new(key, "no recipient has the null address"));
    }
    Ok(address)
}

fn date(fields: &Fields<'_>, key: &'static str) -> Result<Timestamp, Flaw> {
    fields.number(key, DATE_MAX).map(Timestamp::from_secs)
}

fn flags(fields: &Fields<'_>) -> Result<Flags, Flaw> {
    let mut flags = Flags::default();
    let words = fields.text("flags", NAME_MAX)?.split([' ', ',', '|']);
    for word in words.filter(|word| !word.is_empty()) {
        match word {
            "authenticated" => flags.authenticated = true,
            "bounce" => flags.bounce = true,
            "internal" => flags.internal = true,
            "enqueued" => {}
            other => {
                let why = format!("unknown flag `{}`", other.escape_debug());
                return Err(Flaw::new("flags", why));
            }
        }
    }
    Ok(flags)
}

fn dsn(fields: &Fields<'_>, limits: &Limits) -> Result<Dsn, Flaw> {
    let notify = match fields.number("dsn-notify", 15)? {
        0 => None,
        8 => Some(Notify::default()),
        bits if bits > 8 => {
            return Err(Flaw::new(
                "dsn-notify",
                "NEVER cannot be combined with others",
            ));
        }
        bits => Some(Notify {
            success: bits & 1 != 0,
            failure: bits & 2 != 0,
            delay: bits & 4 != 0,
        }),
    };
    let ret = match fields.text("dsn-ret", NAME_MAX)? {
        "" => None,
        full if full.eq_ignore_ascii_case("FULL") => Some(Ret::Full),
        headers if headers.eq_ignore_ascii_case("HDRS") => Some(Ret::Headers),
        _ => return Err(Flaw::new("dsn-ret", "neither FULL nor HDRS")),
    };
    let envid = fields.text("dsn-envid", limits.envid)?;
    if !is_xtext(envid) {
        return Err(Flaw::new("dsn-envid", "not xtext (RFC 3461 section 4)"));
    }
    let orcpt = fields.text("dsn-orcpt", limits.orcpt)?;
    if !orcpt.is_empty() && !is_orcpt(orcpt) {
        let why = "not a type and xtext (RFC 3461 section 4.2)";
        return Err(Flaw::new("dsn-orcpt", why));
    }
    Ok(Dsn {
        notify,
        ret,
        envid: envid.into(),
        orcpt: orcpt.into(),
    })
}

/// Class, and the subject times ten plus the detail.
fn status(fields: &Fields<'_>) -> Result<Option<Status>, Flaw> {
    let class = narrow(fields.number("esc-class", u8::MAX.into())?);
    let code = narrow(fields.number("esc-code", u8::MAX.into())?);
    if class == 0 {
        return Ok(None);
    }
    let class = u8::try_from(class).ok().and_then(Class::from_digit);
    let class = class.ok_or_else(|| Flaw::new("esc-class", "none of 2, 4, 5"))?;
    Ok(Some(Status::new(class, code / 10, code % 10)))
}

/// What a remote server said; its octets are kept as far as they are text.
fn errorline(fields: &Fields<'_>) -> Box<str> {
    let text = String::from_utf8_lossy(fields.octets("errorline"));
    let mut end = text.len().min(Envelope::ERRORLINE_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}

#[cfg(test)]
mod tests;
