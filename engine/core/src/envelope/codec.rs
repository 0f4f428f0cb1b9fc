//! The stored form of an envelope: a fixed part, then fields in a fixed order, each text with its
//! length in front. No delimiters, so no remote text can end a field early.
//!
//! Promises: [`Envelope::decode`] undoes [`Envelope::encode`] for whole seconds, the unit of all
//! our dates and lifetimes; it takes arbitrary octets, accepts one form only of every value, and
//! allocates no more than it is given.
//! Absent on purpose: the id (it is the record's key) and a checksum (the store's records carry
//! one).
//! Fails: with the name of the first field that makes no sense.

use super::{Agent, Attempts, Bounce, Delivery, Dsn, Envelope, Flags, Mda, Method, Notify, Relay};
use super::{RelayHost, Ret, Scheme, Security, Stance, TlsRule};
use crate::addr::{Address, Source};
use crate::id::EnvelopeId;
use crate::reply::{Class, Status};
use crate::time::Timestamp;
use std::ffi::OsStr;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// First octet of the stored form; another layout gets another number.
const VERSION: u8 = 1;

/// Why octets are not an envelope: the first field that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError(pub(super) &'static str);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an envelope: {}", self.0)
    }
}

impl std::error::Error for DecodeError {}

impl Envelope {
    /// Appends the stored form, without the id, to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fixed = Fixed {
            agent: self.agent(),
            flags: self.flags,
            retry: self.retry,
            ctime: self.ctime,
            ttl: self.ttl,
            last_bounce: self.last_bounce,
        };
        fixed.write(out);
        put_date(out, self.last_try);
        put_source(out, self.source);
        let attempts = self.attempts.octets();
        put_status(out, self.status, &self.remote, !attempts.is_empty());
        for text in [
            &self.action,
            &self.tag,
            &self.smtpname,
            &self.helo,
            &self.hostname,
            &self.username,
        ] {
            put_text(out, text);
        }
        for address in [&self.sender, &self.rcpt, &self.dest] {
            put_text(out, address.as_str());
        }
        put_dsn(out, &self.dsn);
        put_text(out, &self.errorline);
        match &self.delivery {
            Delivery::Mta(relay) => put_relay(out, relay),
            Delivery::Mda(mda) => put_mda(out, mda),
            Delivery::Bounce(bounce) => put_bounce(out, *bounce),
        }
        out.extend_from_slice(attempts);
    }

    /// Reads the stored form of envelope `id`; all of `octets` must belong to it.
    pub fn decode(id: EnvelopeId, octets: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input(octets);
        let fixed = Fixed::read(&mut input)?;
        let last_try = input.date("last-try")?;
        let source = source(&mut input)?;
        let (status, remote, tried) = status(&mut input)?;
        let action = input.text("action")?.into();
        let tag = input.text("tag")?.into();
        let smtpname = input.text("smtpname")?.into();
        let helo = input.text("helo")?.into();
        let hostname = input.text("hostname")?.into();
        let username = input.text("username")?.into();
        let sender = input.address("sender")?;
        let rcpt = input.address("rcpt")?;
        let dest = input.address("dest")?;
        let dsn = dsn(&mut input)?;
        let errorline = input.text("errorline")?;
        let delivery = match fixed.agent {
            Agent::Mta => Delivery::Mta(relay(&mut input)?),
            Agent::Mda => Delivery::Mda(mda(&mut input)?),
            Agent::Bounce => Delivery::Bounce(bounce(&mut input)?),
        };
        let attempts = if tried {
            Attempts::read(&mut input, (last_try, errorline))?
        } else {
            Attempts::default()
        };
        if !input.0.is_empty() {
            return Err(DecodeError("octets left over"));
        }
        Ok(Self {
            id,
            action,
            tag,
            delivery,
            smtpname,
            helo,
            hostname,
            username,
            source,
            sender,
            rcpt,
            dest,
            ctime: fixed.ctime,
            last_try,
            last_bounce: fixed.last_bounce,
            ttl: fixed.ttl,
            retry: fixed.retry,
            flags: fixed.flags,
            dsn,
            status,
            errorline: errorline.into(),
            remote,
            attempts,
        })
    }
}

/// The part at the start whose places never move: all that the schedule needs.
pub(crate) struct Fixed {
    pub(crate) agent: Agent,
    pub(crate) flags: Flags,
    pub(crate) retry: u16,
    pub(crate) ctime: Timestamp,
    pub(crate) ttl: Duration,
    pub(crate) last_bounce: Timestamp,
}

impl Fixed {
    /// Octets it takes.
    pub(crate) const LENGTH: usize = 29;

    /// Reads the fixed part of a stored envelope and leaves the rest alone.
    pub(crate) fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        Self::read(&mut Input(octets))
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.push(match self.agent {
            Agent::Mta => 1,
            Agent::Mda => 2,
            Agent::Bounce => 3,
        });
        let Flags {
            authenticated,
            bounce,
            internal,
            suspended,
            maybe_duplicated,
        } = self.flags;
        out.push(bits([
            authenticated,
            bounce,
            internal,
            suspended,
            maybe_duplicated,
        ]));
        out.extend_from_slice(&self.retry.to_le_bytes());
        put_date(out, self.ctime);
        put_duration(out, self.ttl);
        put_date(out, self.last_bounce);
    }

    fn read(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        if input.u8("version")? != VERSION {
            return Err(DecodeError("version"));
        }
        let agent = match input.u8("agent")? {
            1 => Agent::Mta,
            2 => Agent::Mda,
            3 => Agent::Bounce,
            _ => return Err(DecodeError("agent")),
        };
        let [authenticated, bounce, internal, suspended, maybe_duplicated] = input.bits("flags")?;
        Ok(Self {
            agent,
            flags: Flags {
                authenticated,
                bounce,
                internal,
                suspended,
                maybe_duplicated,
            },
            retry: input.u16("retry")?,
            ctime: input.date("ctime")?,
            ttl: input.duration("ttl")?,
            last_bounce: input.date("last-bounce")?,
        })
    }
}

/// The lowest bit is the first of `marks`.
pub(super) fn bits<const N: usize>(marks: [bool; N]) -> u8 {
    let mut bits = 0;
    for mark in marks.into_iter().rev() {
        bits = bits << 1 | u8::from(mark);
    }
    bits
}

fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    let length = u32::try_from(octets.len()).expect("no field of an envelope has 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(octets);
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_octets(out, text.as_bytes());
}

pub(super) fn put_date(out: &mut Vec<u8>, date: Timestamp) {
    out.extend_from_slice(&date.as_secs().to_le_bytes());
}

fn put_duration(out: &mut Vec<u8>, duration: Duration) {
    out.extend_from_slice(&duration.as_secs().to_le_bytes());
}

fn put_source(out: &mut Vec<u8>, source: Source) {
    match source {
        Source::Local => out.push(0),
        Source::Inet4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        Source::Inet6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
}

fn source(input: &mut Input<'_>) -> Result<Source, DecodeError> {
    match input.u8("source")? {
        0 => Ok(Source::Local),
        4 => Ok(Source::Inet4(Ipv4Addr::from(input.array::<4>("source")?))),
        6 => Ok(Source::Inet6(Ipv6Addr::from(input.array::<16>("source")?))),
        _ => Err(DecodeError("source")),
    }
}

/// Marks a status whose host follows; set in the octet of its class. One without a host has none
/// of this, as in the first layout.
const REMOTE: u8 = 0x80;

/// Marks the status of an envelope that has attempts, which end its stored form.
const TRIED: u8 = 0x40;

fn put_status(out: &mut Vec<u8>, status: Option<Status>, remote: &str, tried: bool) {
    let told = if remote.is_empty() { 0 } else { REMOTE };
    let mark = told | if tried { TRIED } else { 0 };
    match status {
        None => out.push(mark),
        Some(status) => {
            out.push(mark | status.class.digit());
            out.extend_from_slice(&status.subject.to_le_bytes());
            out.extend_from_slice(&status.detail.to_le_bytes());
        }
    }
    if !remote.is_empty() {
        put_text(out, remote);
    }
}

/// The status, the host, and whether attempts follow.
fn status(input: &mut Input<'_>) -> Result<(Option<Status>, Box<str>, bool), DecodeError> {
    let octet = input.u8("status")?;
    let status = match octet & !(REMOTE | TRIED) {
        0 => None,
        digit => {
            let class = Class::from_digit(digit).ok_or(DecodeError("status"))?;
            let subject = input.u16("status")?;
            Some(Status::new(class, subject, input.u16("status")?))
        }
    };
    let tried = octet & TRIED != 0;
    if octet & REMOTE == 0 {
        return Ok((status, Box::default(), tried));
    }
    match input.text("remote")? {
        "" => Err(DecodeError("remote")),
        remote => Ok((status, remote.into(), tried)),
    }
}

fn put_dsn(out: &mut Vec<u8>, dsn: &Dsn) {
    let notify = dsn.notify.map(|notify| {
        let Notify {
            success,
            failure,
            delay,
        } = notify;
        bits([true, success, failure, delay])
    });
    out.push(notify.unwrap_or(0));
    out.push(match dsn.ret {
        None => 0,
        Some(Ret::Full) => 1,
        Some(Ret::Headers) => 2,
    });
    put_text(out, &dsn.envid);
    put_text(out, &dsn.orcpt);
}

fn dsn(input: &mut Input<'_>) -> Result<Dsn, DecodeError> {
    let notify = match input.bits("dsn-notify")? {
        [true, success, failure, delay] => Some(Notify {
            success,
            failure,
            delay,
        }),
        [false, false, false, false] => None,
        [false, ..] => return Err(DecodeError("dsn-notify")),
    };
    let ret = match input.u8("dsn-ret")? {
        0 => None,
        1 => Some(Ret::Full),
        2 => Some(Ret::Headers),
        _ => return Err(DecodeError("dsn-ret")),
    };
    Ok(Dsn {
        notify,
        ret,
        envid: input.text("dsn-envid")?.into(),
        orcpt: input.text("dsn-orcpt")?.into(),
    })
}

/// Marks a relay whose options follow; set in the octet of its scheme.
const OPTIONS: u8 = 0x80;

/// Options of a relay: number and text, in order of the numbers, each only if it has a text; a zero
/// ends them. A relay without options has none of this, as in the first layout.
fn relay_options(relay: &Relay) -> impl Iterator<Item = (u8, &str)> {
    let backup = relay.backup.as_deref().unwrap_or_default();
    let label = relay.host.as_ref().map_or("", |host| &*host.label);
    let Security {
        tls,
        auth,
        pki,
        ca,
        ciphers,
        protocols,
        dane,
        mta_sts,
    } = &relay.security;
    let options = [
        (1, &*relay.src),
        (2, &*relay.helo_src),
        (3, backup),
        (4, label),
        (5, auth),
        (6, tls.words()),
        (7, pki),
        (8, ca),
        (9, ciphers),
        (10, protocols),
        (11, dane.word()),
        (12, mta_sts.word()),
    ];
    options.into_iter().filter(|(_, text)| !text.is_empty())
}

fn put_relay(out: &mut Vec<u8>, relay: &Relay) {
    put_text(out, &relay.helo);
    let mark = match relay_options(relay).next() {
        Some(_) => OPTIONS,
        None => 0,
    };
    match &relay.host {
        None => out.push(mark),
        Some(RelayHost {
            scheme, host, port, ..
        }) => {
            let scheme = match scheme {
                Scheme::Smtp => 1,
                Scheme::SmtpNoTls => 2,
                Scheme::Lmtp => 3,
                Scheme::SmtpTls => 4,
                Scheme::Smtps => 5,
            };
            out.push(mark | scheme);
            out.extend_from_slice(&port.to_le_bytes());
            put_text(out, host);
        }
    }
    for (number, text) in relay_options(relay) {
        out.push(number);
        put_text(out, text);
    }
    if mark == OPTIONS {
        out.push(0);
    }
}

fn relay(input: &mut Input<'_>) -> Result<Relay, DecodeError> {
    let helo = input.text("relay-helo")?.into();
    let octet = input.u8("relay-scheme")?;
    let scheme = match octet & !OPTIONS {
        0 => None,
        1 => Some(Scheme::Smtp),
        2 => Some(Scheme::SmtpNoTls),
        3 => Some(Scheme::Lmtp),
        4 => Some(Scheme::SmtpTls),
        5 => Some(Scheme::Smtps),
        _ => return Err(DecodeError("relay-scheme")),
    };
    let host = match scheme {
        None => None,
        Some(scheme) => {
            let port = input.u16("relay-port")?;
            let host = input.text("relay-host")?.into();
            let label = "".into();
            Some(RelayHost {
                scheme,
                label,
                host,
                port,
            })
        }
    };
    let mut relay = Relay {
        helo,
        ..Relay::to(host)
    };
    if octet & OPTIONS != 0 {
        let mut last = 0;
        loop {
            let number = input.u8("relay-option")?;
            if number == 0 && last > 0 {
                break;
            }
            if number <= last {
                return Err(DecodeError("relay-option"));
            }
            last = number;
            let text = input.text("relay-option")?;
            if text.is_empty() {
                return Err(DecodeError("relay-option"));
            }
            relay_option(&mut relay, number, text).ok_or(DecodeError("relay-option"))?;
        }
    }
    Ok(relay)
}

/// Sets an option of a relay; `None` if there is no such option.
fn relay_option(relay: &mut Relay, number: u8, text: &str) -> Option<()> {
    let security = &mut relay.security;
    match number {
        1 => relay.src = text.into(),
        2 => relay.helo_src = text.into(),
        3 => relay.backup = Some(text.into()),
        4 => relay.host.as_mut()?.label = text.into(),
        5 => security.auth = text.into(),
        6 => {
            let rules = [TlsRule::Verified, TlsRule::Unverified];
            security.tls = rules.into_iter().find(|rule| rule.words() == text)?;
        }
        7 => security.pki = text.into(),
        8 => security.ca = text.into(),
        9 => security.ciphers = text.into(),
        10 => security.protocols = text.into(),
        11 => security.dane = Stance::named(text)?,
        12 => security.mta_sts = Stance::named(text)?,
        _ => return None,
    }
    Some(())
}

fn put_mda(out: &mut Vec<u8>, mda: &Mda) {
    for text in [
        &mda.user,
        &mda.userbase,
        &mda.delivery_user,
        &mda.subaddress,
    ] {
        put_text(out, text);
    }
    match &mda.method {
        Method::Mbox => out.push(1),
        Method::Maildir { path } => {
            out.push(2);
            put_text(out, path);
        }
        Method::Lmtp { dest, rcpt_to } => {
            out.push(3);
            out.push(bits([*rcpt_to]));
            put_text(out, dest);
        }
        Method::Command(command) => {
            out.push(4);
            put_text(out, command);
        }
        Method::File(path) => {
            out.push(5);
            put_octets(out, path.as_os_str().as_bytes());
        }
    }
}

fn mda(input: &mut Input<'_>) -> Result<Mda, DecodeError> {
    let user = input.text("mda-user")?.into();
    let userbase = input.text("mda-userbase")?.into();
    let delivery_user = input.text("mda-delivery-user")?.into();
    let subaddress = input.text("mda-subaddress")?.into();
    let method = match input.u8("mda-method")? {
        1 => Method::Mbox,
        2 => Method::Maildir {
            path: input.text("mda-path")?.into(),
        },
        3 => {
            let [rcpt_to] = input.bits("mda-rcpt-to")?;
            let dest = input.text("mda-dest")?.into();
            Method::Lmtp { dest, rcpt_to }
        }
        4 => Method::Command(input.text("mda-exec")?.into()),
        5 => Method::File(PathBuf::from(OsStr::from_bytes(input.octets("mda-file")?))),
        _ => return Err(DecodeError("mda-method")),
    };
    Ok(Mda {
        method,
        user,
        userbase,
        delivery_user,
        subaddress,
    })
}

fn put_bounce(out: &mut Vec<u8>, bounce: Bounce) {
    match bounce {
        Bounce::Failed => out.push(1),
        Bounce::Delayed { delay, ttl } => {
            out.push(2);
            put_duration(out, delay);
            put_duration(out, ttl);
        }
        Bounce::Delivered { relayed } => {
            out.push(3);
            out.push(bits([relayed]));
        }
    }
}

fn bounce(input: &mut Input<'_>) -> Result<Bounce, DecodeError> {
    match input.u8("bounce-type")? {
        1 => Ok(Bounce::Failed),
        2 => Ok(Bounce::Delayed {
            delay: input.duration("bounce-delay")?,
            ttl: input.duration("bounce-ttl")?,
        }),
        3 => {
            let [relayed] = input.bits("bounce-relayed")?;
            Ok(Bounce::Delivered { relayed })
        }
        _ => Err(DecodeError("bounce-type")),
    }
}

/// What is left to read; every method names the field it reads for the error.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(DecodeError(field))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError(field))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(u8::from_le_bytes)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(super) fn date(&mut self, field: &'static str) -> Result<Timestamp, DecodeError> {
        self.u64(field).map(Timestamp::from_secs)
    }

    fn duration(&mut self, field: &'static str) -> Result<Duration, DecodeError> {
        self.u64(field).map(Duration::from_secs)
    }

    /// `N` marks from one octet whose other bits must be zero.
    pub(super) fn bits<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[bool; N], DecodeError> {
        let mut rest = self.u8(field)?;
        let marks = [(); N].map(|()| {
            let mark = rest & 1 == 1;
            rest >>= 1;
            mark
        });
        if rest == 0 {
            Ok(marks)
        } else {
            Err(DecodeError(field))
        }
    }

    fn octets(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.array(field).map(u32::from_le_bytes)?;
        let length = usize::try_from(length).map_err(|_| DecodeError(field))?;
        self.take(length, field)
    }

    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.octets(field)?).map_err(|_| DecodeError(field))
    }

    fn address(&mut self, field: &'static str) -> Result<Address, DecodeError> {
        self.text(field)?.parse().map_err(|_| DecodeError(field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Attempt, Via};
    use crate::id::SessionId;
    use expect_test::expect;
    use std::fmt::Write as _;

    fn envelope(delivery: Delivery) -> Envelope {
        Envelope {
            id: "8d3f01aa00000001".parse().unwrap(),
            action: "out".into(),
            tag: "".into(),
            delivery,
            smtpname: "mx".into(),
            helo: "h".into(),
            hostname: "<unknown>".into(),
            username: "".into(),
            source: Source::Inet4(Ipv4Addr::LOCALHOST),
            sender: Address::null(),
            rcpt: "a@b".parse().unwrap(),
            dest: "a@b".parse().unwrap(),
            ctime: Timestamp::from_secs(0x0102),
            last_try: Timestamp::EPOCH,
            last_bounce: Timestamp::EPOCH,
            ttl: Duration::from_secs(0x0304),
            retry: 5,
            flags: Flags {
                suspended: true,
                ..Flags::default()
            },
            dsn: Dsn {
                notify: Some(Notify {
                    success: true,
                    ..Notify::default()
                }),
                ..Dsn::default()
            },
            status: Some(Status::transient(7, 1)),
            errorline: "line\nbreak\0".into(),
            remote: "".into(),
            attempts: Attempts::default(),
        }
    }

    fn stored(envelope: &Envelope) -> Vec<u8> {
        let mut out = Vec::new();
        envelope.encode(&mut out);
        out
    }

    fn deliveries() -> Vec<Delivery> {
        let mda = |method| {
            Delivery::Mda(Mda {
                method,
                user: "u".into(),
                userbase: "".into(),
                delivery_user: "".into(),
                subaddress: "s".into(),
            })
        };
        vec![
            Delivery::Mta(Relay::to(None)),
            Delivery::Mta(Relay {
                helo: "me".into(),
                ..Relay::to(Some(RelayHost {
                    scheme: Scheme::Lmtp,
                    label: "".into(),
                    host: "h".into(),
                    port: 24,
                }))
            }),
            Delivery::Mta(Relay {
                src: "{::1}".into(),
                helo_src: "names".into(),
                backup: Some("mx2.example.org".into()),
                ..Relay::to(None)
            }),
            Delivery::Mta(Relay {
                src: "addresses".into(),
                ..Relay::to(Some(RelayHost {
                    scheme: Scheme::SmtpNoTls,
                    label: "".into(),
                    host: "h".into(),
                    port: 25,
                }))
            }),
            Delivery::Mta(Relay {
                security: Security {
                    tls: TlsRule::Unverified,
                    auth: "secrets".into(),
                    pki: "mx.example.org".into(),
                    ca: "private".into(),
                    ciphers: "HIGH".into(),
                    protocols: "tlsv1.3".into(),
                    dane: Stance::Opportunistic,
                    mta_sts: Stance::Never,
                },
                ..Relay::to(Some(RelayHost {
                    scheme: Scheme::SmtpTls,
                    label: "me".into(),
                    host: "h".into(),
                    port: 587,
                }))
            }),
            Delivery::Mta(Relay {
                security: Security {
                    tls: TlsRule::Verified,
                    dane: Stance::Required,
                    mta_sts: Stance::Required,
                    ..Security::default()
                },
                ..Relay::to(None)
            }),
            mda(Method::Mbox),
            mda(Method::Maildir { path: "~/M".into() }),
            mda(Method::Lmtp {
                dest: "/s".into(),
                rcpt_to: true,
            }),
            mda(Method::Command("exit 0".into())),
            mda(Method::File(OsStr::from_bytes(b"/\xff").into())),
            Delivery::Bounce(Bounce::Failed),
            Delivery::Bounce(Bounce::Delayed {
                delay: Duration::from_secs(1),
                ttl: Duration::from_secs(2),
            }),
            Delivery::Bounce(Bounce::Delivered { relayed: true }),
        ]
    }

    #[test]
    fn every_delivery_comes_back() {
        for envelope in envelopes() {
            assert_eq!(
                Envelope::decode(envelope.id, &stored(&envelope)),
                Ok(envelope)
            );
        }
    }

    /// Envelopes with every delivery, and with what is stored only where it is set.
    fn envelopes() -> Vec<Envelope> {
        let bounce = envelope(Delivery::Bounce(Bounce::Failed));
        let told = Envelope {
            remote: "mx.example.net".into(),
            ..bounce
        };
        let silent = Envelope {
            status: None,
            ..told.clone()
        };
        let mut tried = envelope(Delivery::Mta(Relay::to(None)));
        tried.attempts = Attempts::new(&attempts());
        let mut both = told.clone();
        both.attempts = tried.attempts.clone();
        let deliveries = deliveries().into_iter().map(envelope);
        deliveries.chain([told, silent, tried, both]).collect()
    }

    /// The last one says what the sample envelope has.
    fn attempts() -> [Attempt; 3] {
        let via = Via {
            session: SessionId(0xab),
            source: None,
            target: [192, 0, 2, 1].into(),
            name: "mx".into(),
            tls: "".into(),
        };
        let attempt = |began, via, text: &str| Attempt {
            began: Timestamp::from_secs(began),
            via,
            text: text.into(),
        };
        [
            attempt(1, None, "refused"),
            attempt(2, Some(via.clone()), "line\nbreak\0"),
            attempt(0, Some(via), "line\nbreak\0"),
        ]
    }

    /// 32 octets in a line.
    fn dump(octets: &[u8]) -> String {
        let mut dump = String::new();
        for line in octets.chunks(32) {
            for octet in line {
                write!(dump, "{octet:02x}").unwrap();
            }
            dump.push('\n');
        }
        dump
    }

    #[test]
    fn attempts_are_stored_only_if_there_are_some() {
        let mut envelope = envelope(Delivery::Bounce(Bounce::Failed));
        let plain = stored(&envelope);
        envelope.attempts = Attempts::new(&attempts());
        assert_eq!(envelope.tried(), attempts());
        let tried = stored(&envelope);
        // What was stored before there was this field is read as it was.
        let at = plain.iter().zip(&tried).position(|(a, b)| a != b).unwrap();
        assert_eq!((plain[at], tried[at]), (4, 4 | TRIED));
        assert_eq!(plain[at + 1..], tried[at + 1..plain.len()]);
        let dump = dump(&tried[plain.len()..]);
        expect![[r"
            0301ab000000000000000004c0000201020000006d7800000000070200000000
            000000ab000000000000000001000000000000000700000072656675736564
        "]]
        .assert_eq(&dump);
    }

    #[test]
    fn a_host_is_stored_only_if_there_is_one() {
        let [told, plain] = ["mx", ""].map(|remote| {
            let bounce = envelope(Delivery::Bounce(Bounce::Failed));
            stored(&Envelope {
                remote: remote.into(),
                ..bounce
            })
        });
        // What was stored before there was this field is read as it was.
        let at = plain.iter().zip(&told).position(|(a, b)| a != b).unwrap();
        assert_eq!((plain[at], told[at]), (4, 4 | REMOTE));
        assert_eq!(told[at + 5..at + 11], *b"\x02\0\0\0mx");
        let mut empty = told;
        empty[at + 5] = 0;
        empty.drain(at + 9..at + 11);
        let id = "8d3f01aa00000001".parse().unwrap();
        let why = Envelope::decode(id, &empty).unwrap_err();
        assert_eq!(why.to_string(), "not an envelope: remote");
    }

    #[test]
    fn no_part_of_an_envelope_is_an_envelope() {
        for envelope in envelopes() {
            let mut octets = stored(&envelope);
            for end in 0..octets.len() {
                assert!(
                    Envelope::decode(envelope.id, &octets[..end]).is_err(),
                    "{end}"
                );
            }
            octets.push(0);
            let why = Envelope::decode(envelope.id, &octets).unwrap_err();
            assert_eq!(why.to_string(), "not an envelope: octets left over");
        }
    }

    #[test]
    fn the_layout_is_that_of_version_1() {
        let octets = stored(&envelope(deliveries().remove(0)));
        let dump = dump(&octets);
        expect![[r"
            0101080500020100000000000004030000000000000000000000000000000000
            0000000000047f0000010407000100030000006f757400000000020000006d78
            0100000068090000003c756e6b6e6f776e3e0000000000000000030000006140
            6203000000614062030000000000000000000b0000006c696e650a627265616b
            000000000000
        "]]
        .assert_eq(&dump);
    }
}
