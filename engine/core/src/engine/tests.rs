//! Envelopes and times to test with.

use crate::addr::Source;
use crate::envelope::{Attempts, Delivery, Dsn, Envelope, Flags, Relay};
use crate::id::MessageId;
use crate::time::{Now, Timestamp};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// The time at which tests begin.
#[expect(
    clippy::disallowed_methods,
    reason = "an instant can only be had from the clock"
)]
pub(crate) fn start() -> Now {
    Now {
        mono: Instant::now(),
        wall: Timestamp::from_secs(1_000_000),
    }
}

/// An envelope to be relayed to `rcpt@example.net`.
pub(crate) fn envelope(message: u32, low: u32) -> Envelope {
    let message = MessageId::new(message).unwrap();
    Envelope {
        id: message.envelope(NonZeroU32::new(low).unwrap()),
        action: "relay".into(),
        tag: "".into(),
        delivery: Delivery::Mta(Relay::to(None)),
        smtpname: "mx.example.org".into(),
        helo: "client".into(),
        hostname: "<unknown>".into(),
        username: "".into(),
        source: Source::Local,
        sender: "sender@example.org".parse().unwrap(),
        rcpt: "rcpt@example.net".parse().unwrap(),
        dest: "rcpt@example.net".parse().unwrap(),
        ctime: Timestamp::from_secs(1_000_000),
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
