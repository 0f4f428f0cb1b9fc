//! An envelope as a line of `envelopes.jsonl`.
//!
//! What: the names here are the documented form, version 1 (`ctl/export.md`); a line of another
//! version has another head.
//! Promises: what is written is read back the same; what is read is as sound as what the daemon
//! itself would have queued, or refused.
//! Fails: with a reason.

use redspool_core::addr::{Address, Source};
use redspool_core::envelope::{
    Attempt, Attempts, Bounce, Delivery, Dsn, Envelope, Flags, Mda, Method, Notify, Relay,
    RelayHost, Ret, Scheme, Security, Stance, TlsRule, Via,
};
use redspool_core::foreign;
use redspool_core::id::{EnvelopeId, SessionId};
use redspool_core::limits::Limits;
use redspool_core::queue::Message;
use redspool_core::reply::{Class, Status};
use redspool_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::time::Duration;

/// The first line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    format: String,
    version: u32,
}

const FORMAT: &str = "redspool-export";
const VERSION: u32 = 1;

impl Head {
    /// That of this version.
    pub(super) fn current() -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
        }
    }

    /// Reads the first line of a list.
    pub(super) fn check(line: &[u8]) -> Result<(), String> {
        let head: Self = serde_json::from_slice(line)
            .map_err(|_| format!("it does not begin with the format line of {FORMAT}"))?;
        if head == Self::current() {
            return Ok(());
        }
        Err(format!(
            "version {} of the form is not known to this program, which reads {VERSION}",
            head.version
        ))
    }
}

/// An envelope, and what there is to know about its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Line {
    id: String,
    message_size: u64,
    message_ctime: u64,
    message_eight_bit: bool,
    /// Left out if false, as it was before there was such mail.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    message_utf8: bool,
    message_xxh3: String,
    dispatcher: String,
    tag: String,
    smtpname: String,
    helo: String,
    hostname: String,
    username: String,
    sockaddr: String,
    sender: String,
    rcpt: String,
    dest: String,
    ctime: u64,
    last_try: u64,
    last_bounce: u64,
    ttl: u64,
    retry: u16,
    authenticated: bool,
    bounce: bool,
    internal: bool,
    suspended: bool,
    maybe_duplicated: bool,
    dsn_notify: Option<Notices>,
    dsn_ret: Option<Return>,
    dsn_envid: String,
    dsn_orcpt: String,
    status: Option<Code>,
    errorline: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    remote: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<Tried>,
    delivery: Way,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tried {
    began: u64,
    via: Option<Connection>,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Connection {
    session: String,
    source: Option<IpAddr>,
    target: IpAddr,
    name: String,
    tls: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Notices {
    success: bool,
    failure: bool,
    delay: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Return {
    Full,
    Headers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Code {
    class: u8,
    subject: u16,
    detail: u16,
}

#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, while its line is read or written"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
enum Way {
    Mta {
        host: Option<Host>,
        helo: String,
        src: String,
        helo_src: String,
        backup: Option<String>,
        /// The words of smtpd.conf(5): nothing, `tls` or `tls no-verify`.
        tls: String,
        auth: String,
        pki: String,
        ca: String,
        ciphers: String,
        protocols: String,
        /// The word of smtpd.conf(5), or nothing for `opportunistic`.
        #[serde(default)]
        dane: String,
        #[serde(default)]
        mta_sts: String,
    },
    Mda {
        method: How,
        user: String,
        userbase: String,
        delivery_user: String,
        subaddress: String,
    },
    Bounce {
        about: About,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    scheme: String,
    label: String,
    name: String,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "name",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
enum How {
    Mbox {},
    Maildir {
        path: String,
    },
    Lmtp {
        dest: String,
        rcpt_to: bool,
    },
    Mda {
        command: String,
    },
    Filename {
        path: String,
    },
    /// A path that is not UTF-8, in hex digits.
    FilenameHex {
        path: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
enum About {
    Failed {},
    Delayed { delay: u64, ttl: u64 },
    Delivered { relayed: bool },
}

impl Line {
    /// The line of an envelope of `message`, whose content has the digest.
    pub(super) fn new(envelope: &Envelope, message: &Message, digest: u64) -> Self {
        let (flags, dsn) = (envelope.flags, &envelope.dsn);
        Self {
            id: envelope.id.to_string(),
            message_size: message.size,
            message_ctime: message.ctime.as_secs(),
            message_eight_bit: message.eight_bit,
            message_utf8: message.utf8,
            message_xxh3: format!("{digest:016x}"),
            dispatcher: envelope.action.to_string(),
            tag: envelope.tag.to_string(),
            smtpname: envelope.smtpname.to_string(),
            helo: envelope.helo.to_string(),
            hostname: envelope.hostname.to_string(),
            username: envelope.username.to_string(),
            sockaddr: envelope.source.to_string(),
            sender: envelope.sender.as_str().to_owned(),
            rcpt: envelope.rcpt.as_str().to_owned(),
            dest: envelope.dest.as_str().to_owned(),
            ctime: envelope.ctime.as_secs(),
            last_try: envelope.last_try.as_secs(),
            last_bounce: envelope.last_bounce.as_secs(),
            ttl: envelope.ttl.as_secs(),
            retry: envelope.retry,
            authenticated: flags.authenticated,
            bounce: flags.bounce,
            internal: flags.internal,
            suspended: flags.suspended,
            maybe_duplicated: flags.maybe_duplicated,
            dsn_notify: dsn.notify.map(|notify| Notices {
                success: notify.success,
                failure: notify.failure,
                delay: notify.delay,
            }),
            dsn_ret: dsn.ret.map(|ret| match ret {
                Ret::Full => Return::Full,
                Ret::Headers => Return::Headers,
            }),
            dsn_envid: dsn.envid.to_string(),
            dsn_orcpt: dsn.orcpt.to_string(),
            status: envelope.status.map(|status| Code {
                class: status.class.digit(),
                subject: status.subject,
                detail: status.detail,
            }),
            errorline: envelope.errorline.to_string(),
            remote: envelope.remote.to_string(),
            attempts: envelope.tried().into_iter().map(Tried::new).collect(),
            delivery: Way::new(&envelope.delivery),
        }
    }

    /// Appends it to a list.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), String> {
        serde_json::to_writer(&mut *out, self).map_err(|error| error.to_string())?;
        out.push(b'\n');
        Ok(())
    }

    /// Reads a line of a list.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }

    /// The digest of the message's content.
    pub(super) fn digest(&self) -> Result<u64, String> {
        digits_of(&self.message_xxh3).ok_or_else(|| "message-xxh3: not 16 hex digits".into())
    }

    /// What is said about its message.
    pub(super) fn message(&self) -> Result<Message, String> {
        let id: EnvelopeId = self.id()?;
        Ok(Message {
            id: id.message(),
            size: self.message_size,
            ctime: Timestamp::from_secs(self.message_ctime),
            eight_bit: self.message_eight_bit,
            utf8: self.message_utf8,
        })
    }

    fn id(&self) -> Result<EnvelopeId, String> {
        self.id.parse().map_err(|error| format!("id: {error}"))
    }

    /// The envelope, if it is sound.
    pub(super) fn envelope(self, limits: &Limits) -> Result<Envelope, String> {
        let envelope = self.decoded()?;
        foreign::sound(&envelope, limits).map_err(|flaw| flaw.to_string())?;
        Ok(envelope)
    }

    /// What the line says, sound or not.
    fn decoded(self) -> Result<Envelope, String> {
        let attempts = attempts(&self)?;
        Ok(Envelope {
            id: self.id()?,
            action: self.dispatcher.into(),
            tag: self.tag.into(),
            delivery: self.delivery.delivery()?,
            smtpname: self.smtpname.into(),
            helo: self.helo.into(),
            hostname: self.hostname.into(),
            username: self.username.into(),
            source: source(&self.sockaddr)?,
            sender: address("sender", &self.sender)?,
            rcpt: address("rcpt", &self.rcpt)?,
            dest: address("dest", &self.dest)?,
            ctime: Timestamp::from_secs(self.ctime),
            last_try: Timestamp::from_secs(self.last_try),
            last_bounce: Timestamp::from_secs(self.last_bounce),
            ttl: Duration::from_secs(self.ttl),
            retry: self.retry,
            flags: Flags {
                authenticated: self.authenticated,
                bounce: self.bounce,
                internal: self.internal,
                suspended: self.suspended,
                maybe_duplicated: self.maybe_duplicated,
            },
            dsn: Dsn {
                notify: self.dsn_notify.map(|notify| Notify {
                    success: notify.success,
                    failure: notify.failure,
                    delay: notify.delay,
                }),
                ret: self.dsn_ret.map(|ret| match ret {
                    Return::Full => Ret::Full,
                    Return::Headers => Ret::Headers,
                }),
                envid: self.dsn_envid.into(),
                orcpt: self.dsn_orcpt.into(),
            },
            status: match self.status {
                None => None,
                Some(code) => {
                    let class = Class::from_digit(code.class);
                    let class = class.ok_or("status: the class is none of 2, 4, 5")?;
                    Some(Status::new(class, code.subject, code.detail))
                }
            },
            errorline: self.errorline.into(),
            remote: self.remote.into(),
            attempts,
        })
    }
}

/// The attempts; what an envelope keeps of the last one is said twice.
fn attempts(line: &Line) -> Result<Attempts, String> {
    let last = line.attempts.last();
    if last.is_some_and(|last| (last.began, &last.text) != (line.last_try, &line.errorline)) {
        return Err("attempts: the last one is not that of last-try and errorline".into());
    }
    let tried = line.attempts.iter().map(Tried::attempt);
    Ok(Attempts::new(&tried.collect::<Result<Vec<_>, _>>()?))
}

impl Tried {
    fn new(attempt: Attempt) -> Self {
        Self {
            began: attempt.began.as_secs(),
            via: attempt.via.map(|via| Connection {
                session: format!("{:016x}", via.session.0),
                source: via.source,
                target: via.target,
                name: via.name.into(),
                tls: via.tls.into(),
            }),
            text: attempt.text.into(),
        }
    }

    fn attempt(&self) -> Result<Attempt, String> {
        Ok(Attempt {
            began: Timestamp::from_secs(self.began),
            via: self.via.as_ref().map(Connection::via).transpose()?,
            text: self.text.as_str().into(),
        })
    }
}

impl Connection {
    fn via(&self) -> Result<Via, String> {
        let session = digits_of(&self.session).ok_or("attempts: session: not 16 hex digits")?;
        Ok(Via {
            session: SessionId(session),
            source: self.source,
            target: self.target,
            name: self.name.as_str().into(),
            tls: self.tls.as_str().into(),
        })
    }
}

fn digits_of(text: &str) -> Option<u64> {
    let digits = Some(text).filter(|text| text.len() == 16);
    digits.and_then(|text| u64::from_str_radix(text, 16).ok())
}

fn source(text: &str) -> Result<Source, String> {
    if text == "local" {
        return Ok(Source::Local);
    }
    let inside = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let ip: Option<IpAddr> = inside.unwrap_or(text).parse().ok();
    match ip {
        Some(IpAddr::V4(ip)) => Ok(Source::Inet4(ip)),
        Some(IpAddr::V6(ip)) => Ok(Source::Inet6(ip)),
        None => Err("sockaddr: neither `local` nor an address".into()),
    }
}

fn address(name: &str, text: &str) -> Result<Address, String> {
    text.parse().map_err(|error| format!("{name}: {error}"))
}

impl Way {
    fn new(delivery: &Delivery) -> Self {
        match delivery {
            Delivery::Mta(relay) => Self::Mta {
                host: relay.host.as_ref().map(|host| Host {
                    scheme: host.scheme.word().into(),
                    label: host.label.to_string(),
                    name: host.host.to_string(),
                    port: host.port,
                }),
                helo: relay.helo.to_string(),
                src: relay.src.to_string(),
                helo_src: relay.helo_src.to_string(),
                backup: relay.backup.as_ref().map(ToString::to_string),
                tls: relay.security.tls.words().into(),
                auth: relay.security.auth.to_string(),
                pki: relay.security.pki.to_string(),
                ca: relay.security.ca.to_string(),
                ciphers: relay.security.ciphers.to_string(),
                protocols: relay.security.protocols.to_string(),
                dane: relay.security.dane.word().into(),
                mta_sts: relay.security.mta_sts.word().into(),
            },
            Delivery::Mda(mda) => Self::Mda {
                method: How::new(&mda.method),
                user: mda.user.to_string(),
                userbase: mda.userbase.to_string(),
                delivery_user: mda.delivery_user.to_string(),
                subaddress: mda.subaddress.to_string(),
            },
            Delivery::Bounce(bounce) => Self::Bounce {
                about: match bounce {
                    Bounce::Failed => About::Failed {},
                    Bounce::Delayed { delay, ttl } => About::Delayed {
                        delay: delay.as_secs(),
                        ttl: ttl.as_secs(),
                    },
                    Bounce::Delivered { relayed } => About::Delivered { relayed: *relayed },
                },
            },
        }
    }

    fn delivery(self) -> Result<Delivery, String> {
        Ok(match self {
            Self::Mta {
                host,
                helo,
                src,
                helo_src,
                backup,
                tls,
                auth,
                pki,
                ca,
                ciphers,
                protocols,
                dane,
                mta_sts,
            } => Delivery::Mta(Relay {
                host: host.map(Host::relay).transpose()?,
                helo: helo.into(),
                src: src.into(),
                helo_src: helo_src.into(),
                backup: backup.map(Into::into),
                security: Security {
                    tls: rule(&tls)?,
                    auth: auth.into(),
                    pki: pki.into(),
                    ca: ca.into(),
                    ciphers: ciphers.into(),
                    protocols: protocols.into(),
                    dane: stance("dane", &dane)?,
                    mta_sts: stance("mta-sts", &mta_sts)?,
                },
            }),
            Self::Mda {
                method,
                user,
                userbase,
                delivery_user,
                subaddress,
            } => Delivery::Mda(Mda {
                method: method.method()?,
                user: user.into(),
                userbase: userbase.into(),
                delivery_user: delivery_user.into(),
                subaddress: subaddress.into(),
            }),
            Self::Bounce { about } => Delivery::Bounce(match about {
                About::Failed {} => Bounce::Failed,
                About::Delayed { delay, ttl } => Bounce::Delayed {
                    delay: Duration::from_secs(delay),
                    ttl: Duration::from_secs(ttl),
                },
                About::Delivered { relayed } => Bounce::Delivered { relayed },
            }),
        })
    }
}

fn rule(words: &str) -> Result<TlsRule, String> {
    [TlsRule::Scheme, TlsRule::Verified, TlsRule::Unverified]
        .into_iter()
        .find(|rule| rule.words() == words)
        .ok_or_else(|| format!("tls: unknown rule `{}`", words.escape_debug()))
}

fn stance(option: &str, word: &str) -> Result<Stance, String> {
    Stance::named(word).ok_or_else(|| format!("{option}: unknown rule `{}`", word.escape_debug()))
}

impl Host {
    fn relay(self) -> Result<RelayHost, String> {
        let schemes = [
            Scheme::Smtp,
            Scheme::SmtpNoTls,
            Scheme::Lmtp,
            Scheme::SmtpTls,
            Scheme::Smtps,
        ];
        let scheme = schemes
            .into_iter()
            .find(|scheme| scheme.word() == self.scheme);
        Ok(RelayHost {
            scheme: scheme
                .ok_or_else(|| format!("host: unknown scheme `{}`", self.scheme.escape_debug()))?,
            label: self.label.into(),
            host: self.name.into(),
            port: self.port,
        })
    }
}

impl How {
    fn new(method: &Method) -> Self {
        match method {
            Method::Mbox => Self::Mbox {},
            Method::Maildir { path } => Self::Maildir {
                path: path.to_string(),
            },
            Method::Lmtp { dest, rcpt_to } => Self::Lmtp {
                dest: dest.to_string(),
                rcpt_to: *rcpt_to,
            },
            Method::Command(command) => Self::Mda {
                command: command.to_string(),
            },
            Method::File(path) => match path.to_str() {
                Some(path) => Self::Filename { path: path.into() },
                None => Self::FilenameHex {
                    path: digits(path.as_os_str().as_bytes()),
                },
            },
        }
    }

    fn method(self) -> Result<Method, String> {
        Ok(match self {
            Self::Mbox {} => Method::Mbox,
            Self::Maildir { path } => Method::Maildir { path: path.into() },
            Self::Lmtp { dest, rcpt_to } => Method::Lmtp {
                dest: dest.into(),
                rcpt_to,
            },
            Self::Mda { command } => Method::Command(command.into()),
            Self::Filename { path } => Method::File(path.into()),
            Self::FilenameHex { path } => {
                let octets = hex(&path).ok_or("method: the path is not hex digits")?;
                Method::File(PathBuf::from(OsString::from_vec(octets)))
            }
        })
    }
}

fn digits(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        // Writing to a string does not fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        let digit = |octet: Option<&u8>| char::from(*octet?).to_digit(16);
        let value = digit(pair.first())? * 16 + digit(pair.get(1))?;
        u8::try_from(value).ok()
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redspool_proptests::mail;

    proptest! {
        #[test]
        fn every_envelope_comes_back(
            envelope in mail::any_envelope(),
            facts in any::<(u64, u64, bool, bool, u64)>(),
        ) {
            let (size, ctime, eight_bit, utf8, digest) = facts;
            let message = Message {
                id: envelope.id.message(),
                size,
                ctime: Timestamp::from_secs(ctime),
                eight_bit,
                utf8,
            };
            let mut line = Vec::new();
            Line::new(&envelope, &message, digest).write(&mut line).unwrap();
            prop_assert_eq!(line.iter().position(|octet| *octet == b'\n'), Some(line.len() - 1));
            let read = Line::parse(&line).unwrap();
            prop_assert_eq!(read.message(), Ok(message));
            prop_assert_eq!(read.digest(), Ok(digest));
            prop_assert_eq!(read.decoded(), Ok(envelope));
        }

        #[test]
        fn any_line_is_read_or_refused(
            envelope in mail::any_envelope(),
            at in any::<prop::sample::Index>(),
            octet in any::<u8>(),
        ) {
            let message = mail::submission(envelope.id.message(), 1, redspool_core::queue::Body::Whole("".into())).message;
            let mut line = Vec::new();
            Line::new(&envelope, &message, 0).write(&mut line).unwrap();
            let at = at.index(line.len());
            line[at] = octet;
            let limits = Limits::default();
            if let Ok(read) = Line::parse(&line).and_then(|line| line.envelope(&limits)) {
                prop_assert_eq!(foreign::sound(&read, &limits), Ok(()));
            }
        }
    }
}
