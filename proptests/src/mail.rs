//! Sample mail for the suites, and random envelopes for the codec.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use redspool_core::addr::{Address, Source};
use redspool_core::envelope::{
    Attempt, Attempts, Bounce, Delivery, Dsn, Envelope, Flags, Mda, Method, Notify, Relay,
    RelayHost, Ret, Scheme, Security, Stance, TlsRule, Via,
};
use redspool_core::id::{EnvelopeId, Epoch, MessageId, SessionId};
use redspool_core::queue::{Body, Message, Pieces, StoreError, Submission};
use redspool_core::reply::{Class, Status};
use redspool_core::time::Timestamp;
use std::ffi::OsString;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// Message `number` of the samples; they lie in several id epochs, which follow one another as those
/// that a daemon uses.
pub fn message(number: u32) -> MessageId {
    let upper = u16::try_from(1 + number / 2).expect("samples are few");
    let from = (u32::from(upper) << 16) + number % 2 * 0x8000;
    let ids = (from + 1..).filter_map(MessageId::new);
    let mut ids = ids.filter(|id| Epoch::of(*id) == Epoch::new(upper));
    ids.next().expect("every upper half has its share of ids")
}

/// Envelope `low` of a message; not zero.
pub fn envelope_id(message: MessageId, low: u32) -> EnvelopeId {
    message.envelope(NonZeroU32::new(low).expect("no envelope has the lower half 0"))
}

/// A sample envelope.
pub fn envelope(message: MessageId, low: u32) -> Envelope {
    let rcpt = format!("user{low}@example.org");
    let rcpt: Address = rcpt.parse().expect("a valid address");
    Envelope {
        id: envelope_id(message, low),
        action: "outbound".into(),
        tag: "".into(),
        delivery: Delivery::Mta(Relay::to(None)),
        smtpname: "mx.example.com".into(),
        helo: "client.example.net".into(),
        hostname: "<unknown>".into(),
        username: "".into(),
        source: Source::Local,
        sender: "sender@example.net".parse().expect("a valid address"),
        dest: rcpt.clone(),
        rcpt,
        ctime: Timestamp::from_secs(1_700_000_000),
        last_try: Timestamp::EPOCH,
        last_bounce: Timestamp::EPOCH,
        ttl: Duration::from_hours(96),
        retry: 0,
        flags: Flags::default(),
        dsn: Dsn::default(),
        status: None,
        errorline: "".into(),
        remote: "".into(),
        attempts: Attempts::default(),
    }
}

/// A bounce envelope, as a settlement creates it.
pub fn bounce(message: MessageId, low: u32) -> Envelope {
    Envelope {
        delivery: Delivery::Bounce(Bounce::Failed),
        ..envelope(message, low)
    }
}

/// `length` octets that tell which message they are of, and where in it.
pub fn content(message: MessageId, length: usize) -> Bytes {
    let line = |number: usize| format!("{message} line {number}\r\n").into_bytes();
    let octets = (0..).flat_map(line).take(length);
    octets.collect()
}

/// What a sample attempt went over.
pub fn via() -> Via {
    Via {
        session: SessionId(7),
        source: None,
        target: [192, 0, 2, 1].into(),
        name: "mx.example.org".into(),
        tls: "TLSv1.3:TLS_AES_256_GCM_SHA384:256:valid".into(),
    }
}

/// A sample submission with recipients 1 to `recipients`.
pub fn submission(message: MessageId, recipients: u32, body: Body) -> Submission {
    Submission {
        message: Message {
            id: message,
            size: 0,
            ctime: Timestamp::from_secs(1_700_000_000),
            eight_bit: message.get() & 1 != 0,
            utf8: message.get() & 2 != 0,
        },
        body,
        envelopes: (1..=recipients).map(|low| envelope(message, low)).collect(),
    }
}

/// A content that comes in pieces of `size` octets and ends, maybe, in an error.
pub fn pieces(content: Bytes, size: usize, end: Option<StoreError>) -> Body {
    Body::Pieces(Box::new(Cut { content, size, end }))
}

struct Cut {
    content: Bytes,
    size: usize,
    end: Option<StoreError>,
}

impl Pieces for Cut {
    fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.content.is_empty() {
            return self.end.take().map_or(Ok(None), Err);
        }
        let length = self.size.min(self.content.len());
        Ok(Some(self.content.split_to(length)))
    }

    fn length(&self) -> u64 {
        self.content.len() as u64
    }
}

/// Any envelope there can be.
pub fn any_envelope() -> impl Strategy<Value = Envelope> {
    let id = (any::<u32>(), any::<NonZeroU32>()).prop_map(|(message, low)| {
        let message = MessageId::new(message).unwrap_or(MessageId::MIN);
        message.envelope(low)
    });
    let names = (text(), text(), text(), text(), text(), text());
    let addresses = (any_address(), any_address(), any_address(), any_source());
    let times = (date(), date(), date(), duration(), any::<u16>());
    let status = option::of(any_status());
    let attempts = vec(any_attempt(), 0..20);
    let rest = (any_flags(), any_dsn(), status, text(), text(), attempts);
    (id, any_delivery(), names, addresses, times, rest).prop_map(
        |(id, delivery, names, addresses, times, rest)| {
            let (action, tag, smtpname, helo, hostname, username) = names;
            let (sender, rcpt, dest, source) = addresses;
            let (ctime, last_try, last_bounce, ttl, retry) = times;
            let (flags, dsn, status, errorline, remote, tried) = rest;
            let attempts = Attempts::new(&tried);
            let last = tried.into_iter().next_back();
            let (last_try, errorline) =
                last.map_or((last_try, errorline), |last| (last.began, last.text));
            Envelope {
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
                ctime,
                last_try,
                last_bounce,
                ttl,
                retry,
                flags,
                dsn,
                status,
                errorline,
                remote,
                attempts,
            }
        },
    )
}

/// Text as remote hosts send it: anything but invalid UTF-8.
fn text() -> impl Strategy<Value = Box<str>> {
    prop_oneof![
        Just(String::new()),
        "[a-z0-9.]{1,12}",
        vec(any::<char>(), 0..40).prop_map(String::from_iter),
    ]
    .prop_map(String::into_boxed_str)
}

/// Few hosts and texts, as those that attempts repeat.
fn any_attempt() -> impl Strategy<Value = Attempt> {
    let said = prop_oneof![Just("".into()), Just("451".into()), text()];
    let ip = || {
        prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
            Just([192, 0, 2, 1].into()),
        ]
    };
    let name = prop_oneof![Just("mx.example.org".into()), text()];
    let other = (any::<u64>(), option::of(ip()), ip(), name, text());
    let other = other.prop_map(|(session, source, target, name, tls)| Via {
        session: SessionId(session),
        source,
        target,
        name,
        tls,
    });
    let via = option::of(prop_oneof![Just(via()), other]);
    (date(), via, said).prop_map(|(began, via, text)| Attempt { began, via, text })
}

fn any_address() -> impl Strategy<Value = Address> {
    let parse = |text: String| text.parse().expect("a valid address");
    prop_oneof![
        Just(Address::null()),
        "[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,10}@[a-z0-9]{1,10}(\\.[a-z]{2,5}){0,2}".prop_map(parse),
        "\"[a-z @,|:;]{1,8}\"@[a-z]{1,8}\\.org".prop_map(parse),
        Just(parse("u@[IPv6:2001:db8::1]".into())),
    ]
}

fn any_source() -> impl Strategy<Value = Source> {
    prop_oneof![
        Just(Source::Local),
        any::<[u8; 4]>().prop_map(|ip| Source::Inet4(ip.into())),
        any::<[u8; 16]>().prop_map(|ip| Source::Inet6(ip.into())),
    ]
}

fn date() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_secs)
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_secs)
}

fn any_flags() -> impl Strategy<Value = Flags> {
    any::<[bool; 5]>().prop_map(|marks| {
        let [authenticated, bounce, internal, suspended, maybe_duplicated] = marks;
        Flags {
            authenticated,
            bounce,
            internal,
            suspended,
            maybe_duplicated,
        }
    })
}

fn any_dsn() -> impl Strategy<Value = Dsn> {
    let notify = any::<[bool; 3]>().prop_map(|[success, failure, delay]| Notify {
        success,
        failure,
        delay,
    });
    let ret = prop_oneof![Just(Ret::Full), Just(Ret::Headers)];
    (option::of(notify), option::of(ret), text(), text()).prop_map(|(notify, ret, envid, orcpt)| {
        Dsn {
            notify,
            ret,
            envid,
            orcpt,
        }
    })
}

fn any_status() -> impl Strategy<Value = Status> {
    let class = prop_oneof![
        Just(Class::Success),
        Just(Class::Transient),
        Just(Class::Permanent)
    ];
    (class, any::<u16>(), any::<u16>())
        .prop_map(|(class, subject, detail)| Status::new(class, subject, detail))
}

fn any_delivery() -> impl Strategy<Value = Delivery> {
    let scheme = prop_oneof![
        Just(Scheme::Smtp),
        Just(Scheme::SmtpNoTls),
        Just(Scheme::Lmtp),
        Just(Scheme::SmtpTls),
        Just(Scheme::Smtps),
    ];
    let host =
        (scheme, text(), text(), any::<u16>()).prop_map(|(scheme, label, host, port)| RelayHost {
            scheme,
            label,
            host,
            port,
        });
    let rule = prop_oneof![
        Just(TlsRule::Scheme),
        Just(TlsRule::Verified),
        Just(TlsRule::Unverified),
    ];
    let stance = prop_oneof![
        Just(Stance::Opportunistic),
        Just(Stance::Never),
        Just(Stance::Required),
    ];
    let stances = [stance.clone(), stance];
    let security = (rule, text(), text(), text(), text(), text(), stances).prop_map(
        |(tls, auth, pki, ca, ciphers, protocols, [dane, mta_sts])| Security {
            tls,
            auth,
            pki,
            ca,
            ciphers,
            protocols,
            dane,
            mta_sts,
        },
    );
    let options = (text(), text(), text(), text(), security);
    let relay = (option::of(host), options).prop_map(|(host, options)| {
        let (helo, src, helo_src, backup, security) = options;
        let backup: Box<str> = backup;
        Relay {
            host,
            helo,
            src,
            helo_src,
            backup: Some(backup).filter(|name| !name.is_empty()),
            security,
        }
    });
    let method = prop_oneof![
        Just(Method::Mbox),
        text().prop_map(|path| Method::Maildir { path }),
        (text(), any::<bool>()).prop_map(|(dest, rcpt_to)| Method::Lmtp { dest, rcpt_to }),
        text().prop_map(Method::Command),
        vec(any::<u8>(), 0..20).prop_map(|path| Method::File(OsString::from_vec(path).into())),
    ];
    let mda = (method, text(), text(), text(), text()).prop_map(
        |(method, user, userbase, delivery_user, subaddress)| Mda {
            method,
            user,
            userbase,
            delivery_user,
            subaddress,
        },
    );
    let bounce = prop_oneof![
        Just(Bounce::Failed),
        (duration(), duration()).prop_map(|(delay, ttl)| Bounce::Delayed { delay, ttl }),
        any::<bool>().prop_map(|relayed| Bounce::Delivered { relayed }),
    ];
    prop_oneof![
        relay.prop_map(Delivery::Mta),
        mda.prop_map(Delivery::Mda),
        bounce.prop_map(Delivery::Bounce),
    ]
}
