//! The extensions we offer, and the parameters of MAIL and RCPT that come with them.
//!
//! What: one table, from which the EHLO reply and the list of parameters that are understood
//! both follow.
//! Promises: a parameter is accepted only if its extension is offered, and only once; ENVID and
//! ORCPT are kept as received, but for the 7-bit form of ORCPT (RFC 6533), and decode to text
//! without CR, LF or NUL.
//! Values are read by smtp-proto; its known traps are closed here: keywords it takes though we
//! do not offer them, sizes of twenty digits and more, NEVER among other words.

use super::sasl;
use super::session::{Offer, Settings};
use crate::addr;
use crate::envelope::{Notify, Ret};
use crate::limits::Limits;
use crate::reply::{Reply, Status};
use bytes::BytesMut;
use smtp_proto::request::parser::Rfc5321Parser;
use smtp_proto::{
    MAIL_BODY_BINARYMIME, MAIL_RET_FULL, MAIL_RET_HDRS, RCPT_NOTIFY_DELAY, RCPT_NOTIFY_FAILURE,
    RCPT_NOTIFY_NEVER, RCPT_NOTIFY_SUCCESS,
};
use std::borrow::Cow;

/// An extension of SMTP: one line of the EHLO reply.
struct Extension {
    keyword: &'static str,
    /// Whether it is offered, to this client at this time.
    offered: fn(&Offer<'_>) -> bool,
    /// Whether its parameters are understood.
    understood: fn(&Offer<'_>) -> bool,
    /// What stands behind the keyword.
    argument: fn(&Settings) -> Option<Cow<'static, str>>,
    /// Parameters of MAIL it brings.
    mail: &'static [&'static str],
    /// Parameters of RCPT it brings.
    rcpt: &'static [&'static str],
}

const fn plain(keyword: &'static str) -> Extension {
    Extension {
        keyword,
        offered: |_| true,
        understood: |_| true,
        argument: |_| None,
        mail: &[],
        rcpt: &[],
    }
}

const EXTENSIONS: [Extension; 10] = [
    plain("PIPELINING"),
    Extension {
        argument: |settings| Some(settings.limits.message_size.to_string().into()),
        mail: &["SIZE"],
        ..plain("SIZE")
    },
    Extension {
        mail: &["BODY"],
        ..plain("8BITMIME")
    },
    Extension {
        mail: &["SMTPUTF8"],
        ..plain("SMTPUTF8")
    },
    plain("CHUNKING"),
    plain("ENHANCEDSTATUSCODES"),
    Extension {
        offered: |offer| offer.settings.dsn,
        understood: |offer| offer.settings.dsn,
        mail: &["RET", "ENVID"],
        rcpt: &["NOTIFY", "ORCPT"],
        ..plain("DSN")
    },
    Extension {
        offered: |offer| offer.starttls,
        ..plain("STARTTLS")
    },
    Extension {
        offered: |offer| offer.auth_open,
        understood: |offer| offer.auth,
        argument: |_| Some(sasl::MECHANISMS.into()),
        mail: &["AUTH"],
        ..plain("AUTH")
    },
    plain("HELP"),
];

/// Appends the extensions that are offered, one line of a 250 reply each.
pub(super) fn announce(offer: &Offer<'_>, out: &mut BytesMut) {
    let mut offered = EXTENSIONS
        .iter()
        .filter(|extension| (extension.offered)(offer))
        .peekable();
    while let Some(extension) = offered.next() {
        let separator = if offered.peek().is_some() { '-' } else { ' ' };
        let line = match (extension.argument)(offer.settings) {
            Some(argument) => format!("250{separator}{} {argument}\r\n", extension.keyword),
            None => format!("250{separator}{}\r\n", extension.keyword),
        };
        out.extend_from_slice(line.as_bytes());
    }
}

/// Parameters of MAIL.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MailParameters {
    /// Octets the client is going to send, if it says so.
    pub(super) size: Option<u64>,
    pub(super) ret: Option<Ret>,
    /// As received, or empty.
    pub(super) envid: Box<str>,
    /// Whether addresses and header fields may be in UTF-8 (RFC 6531).
    pub(super) utf8: bool,
}

/// Parameters of RCPT.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RcptParameters {
    pub(super) notify: Option<Notify>,
    /// As received, in ASCII, or empty.
    pub(super) orcpt: Box<str>,
}

/// Reads what stands behind the path of MAIL.
pub(super) fn mail(text: &str, offer: &Offer<'_>) -> Result<MailParameters, Reply> {
    if text.is_empty() {
        return Ok(MailParameters::default());
    }
    let known = |extension: &Extension| extension.mail;
    let words = Words::new(text, offer, known, false)?;
    let limits = &offer.settings.limits;
    let envid = words.xtext("ENVID", limits.envid)?;
    // Who the message is from by the client's account: nobody here asks for it.
    words.xtext("AUTH", limits.command_line)?;
    // The parser's number starts again when it overflows; no size of 20 digits is acceptable
    // anyway (RFC 1870 section 3 allows that many).
    if let Some(size) = words.value("SIZE")
        && size.len() > 19
    {
        return Err(if size.bytes().all(|octet| octet.is_ascii_digit()) {
            too_big()
        } else {
            invalid("SIZE")
        });
    }
    let line = words.line();
    let read = Rfc5321Parser::new(&mut line.as_bytes().iter())
        .mail_from_parameters(Cow::Borrowed(""))
        .map_err(|error| refusal(&error))?;
    if read.flags & MAIL_BODY_BINARYMIME != 0 {
        return Err(invalid("BODY"));
    }
    let size = words.value("SIZE").and(u64::try_from(read.size).ok());
    if size.is_some_and(|size| size > limits.message_size) {
        return Err(too_big());
    }
    let ret = match read.flags & (MAIL_RET_FULL | MAIL_RET_HDRS) {
        MAIL_RET_FULL => Some(Ret::Full),
        MAIL_RET_HDRS => Some(Ret::Headers),
        _ => None,
    };
    Ok(MailParameters {
        size,
        ret,
        envid: envid.into(),
        utf8: words.value("SMTPUTF8").is_some(),
    })
}

/// Reads what stands behind the path of RCPT; `utf8` if MAIL had SMTPUTF8.
pub(super) fn rcpt(text: &str, offer: &Offer<'_>, utf8: bool) -> Result<RcptParameters, Reply> {
    if text.is_empty() {
        return Ok(RcptParameters::default());
    }
    let known = |extension: &Extension| extension.rcpt;
    let words = Words::new(text, offer, known, utf8)?;
    let orcpt = words.orcpt(&offer.settings.limits)?;
    let line = words.line();
    let read = Rfc5321Parser::new(&mut line.as_bytes().iter())
        .rcpt_to_parameters(Cow::Borrowed(""))
        .map_err(|error| refusal(&error))?;
    let has = |flag| read.flags & flag != 0;
    let notify = Notify {
        success: has(RCPT_NOTIFY_SUCCESS),
        failure: has(RCPT_NOTIFY_FAILURE),
        delay: has(RCPT_NOTIFY_DELAY),
    };
    if has(RCPT_NOTIFY_NEVER) && notify != Notify::default() {
        return Err(Reply::new(
            553,
            Some(Status::permanent(5, 4)),
            "Invalid command arguments: NOTIFY=NEVER cannot be combined",
        ));
    }
    Ok(RcptParameters {
        notify: words.value("NOTIFY").map(|_| notify),
        orcpt,
    })
}

/// Parameters as written: every one known, none twice.
struct Words<'a> {
    words: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    fn new(
        text: &'a str,
        offer: &Offer<'_>,
        known: fn(&Extension) -> &'static [&'static str],
        utf8: bool,
    ) -> Result<Self, Reply> {
        let mut words: Vec<(&str, &str)> = Vec::new();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let (keyword, value) = word.split_once('=').unwrap_or((word, ""));
            let offered = EXTENSIONS
                .iter()
                .filter(|extension| (extension.understood)(offer))
                .flat_map(known)
                .any(|name| name.eq_ignore_ascii_case(keyword));
            if !offered {
                return Err(unsupported(keyword));
            }
            // RFC 6531 section 3.4: SMTPUTF8 has no value. Every other keyword needs one, and the
            // parser reads on behind an empty one.
            let lawful = match keyword.to_ascii_uppercase().as_str() {
                "SMTPUTF8" => !word.contains('='),
                "ORCPT" if utf8 => !value.is_empty(),
                _ => !value.is_empty() && value.is_ascii(),
            };
            let again = words
                .iter()
                .any(|(earlier, _)| earlier.eq_ignore_ascii_case(keyword));
            if again || !lawful {
                return Err(invalid(keyword));
            }
            words.push((keyword, value));
        }
        Ok(Self { words })
    }

    fn value(&self, keyword: &str) -> Option<&'a str> {
        self.words
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(keyword))
            .map(|&(_, value)| value)
    }

    /// A value in xtext (RFC 3461 section 4), as received; empty if not given.
    fn xtext(&self, keyword: &str, limit: usize) -> Result<&'a str, Reply> {
        let value = self.value(keyword).unwrap_or_default();
        if value.len() > limit || !is_xtext(value) {
            return Err(invalid(keyword));
        }
        Ok(value)
    }

    /// ORCPT, `type;xtext`, as received; empty if not given. The type `utf-8` can have its address
    /// in UTF-8 (RFC 6533 section 3, unitext), which becomes the 7-bit form that every server takes.
    fn orcpt(&self, limits: &Limits) -> Result<Box<str>, Reply> {
        let value = self.value("ORCPT").unwrap_or_default();
        let ascii = match value.split_once(';') {
            Some((kind, address)) if kind.eq_ignore_ascii_case("utf-8") => {
                let address = addr::embedded(address, |c| !c.is_ascii() && !c.is_control());
                format!("{kind};{address}")
            }
            _ => value.into(),
        };
        if (ascii.is_empty() || is_orcpt(&ascii)) && ascii.len() <= limits.orcpt {
            Ok(ascii.into())
        } else {
            Err(invalid("ORCPT"))
        }
    }

    /// The parameters as the parser wants them. It knows no ORCPT but that of RFC 822 addresses,
    /// and less of AUTH than it may hold; those that are here have been checked already, as has
    /// SMTPUTF8.
    fn line(&self) -> String {
        let mut line = String::new();
        for (keyword, value) in &self.words {
            let checked = ["ORCPT", "AUTH", "SMTPUTF8"];
            if !checked
                .iter()
                .any(|name| keyword.eq_ignore_ascii_case(name))
            {
                line.extend([" ", keyword, "=", value]);
            }
        }
        line.push_str("\r\n");
        line
    }
}

/// Whether a text can be the value of ORCPT (RFC 3461 section 4.2): `type;xtext`.
pub(crate) fn is_orcpt(text: &str) -> bool {
    text.split_once(';').is_some_and(|(kind, address)| {
        !kind.is_empty()
            && kind
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
            && !address.is_empty()
            && is_xtext(address)
    })
}

/// Whether a text is xtext that decodes to neither CR nor LF nor NUL, which would end lines of
/// notices and of other servers' replies.
pub(crate) fn is_xtext(text: &str) -> bool {
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'+' => {
                let digits = (octets.next(), octets.next());
                let (Some(high), Some(low)) = digits else {
                    return false;
                };
                let hex = |digit: u8| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit);
                let breaks = matches!([high, low], [b'0', b'0' | b'A' | b'D']);
                if !hex(high) || !hex(low) || breaks {
                    return false;
                }
            }
            b'=' => return false,
            b'!'..=b'~' => {}
            _ => return false,
        }
    }
    true
}

fn too_big() -> Reply {
    Reply::new(
        552,
        Some(Status::permanent(3, 4)),
        "Message too big for system: Message size exceeds fixed limit",
    )
}

fn invalid(keyword: &str) -> Reply {
    Reply::new(
        501,
        Some(Status::permanent(5, 4)),
        format!(
            "Invalid command arguments: Bad parameter {}",
            shown(keyword)
        ),
    )
}

fn unsupported(keyword: &str) -> Reply {
    Reply::new(
        555,
        Some(Status::permanent(5, 4)),
        format!(
            "Invalid command arguments: Unsupported option {}",
            shown(keyword)
        ),
    )
}

/// As much of a client's word as a reply line has room for.
fn shown(keyword: &str) -> String {
    let printable = |c: &char| c.is_ascii_graphic();
    keyword.chars().filter(printable).take(32).collect()
}

fn refusal(error: &smtp_proto::Error) -> Reply {
    match error {
        smtp_proto::Error::InvalidParameter { param } => invalid(param),
        smtp_proto::Error::UnsupportedParameter { param } => unsupported(param),
        _ => Reply::new(
            501,
            Some(Status::permanent(5, 4)),
            "Invalid command arguments: Syntax error",
        ),
    }
}
