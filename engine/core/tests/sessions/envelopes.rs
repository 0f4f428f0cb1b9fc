//! What a transaction leaves in its envelopes.

use crate::driver::{self, Driver, Seen, Taken};
use bytes::Bytes;
use redspool_core::addr::Address;
use redspool_core::envelope::{Attempts, Dsn, Envelope, Flags, Notify, Ret};
use redspool_core::id::MessageId;
use redspool_core::limits::Limits;
use redspool_core::smtp::session::Event;
use redspool_core::time::Timestamp;
use std::time::Duration;

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// Plays a transaction whose second recipient leads to two others.
fn taken() -> Taken {
    let mut params = driver::params(Limits::default());
    params.tag = "T1".into();
    params.authenticated = true;
    params.username = "alice".into();
    let mut driver = Driver::new(params, usize::MAX);
    driver.handle(Event::Received(Bytes::from_static(
        b"EHLO c.example\r\n\
          MAIL FROM:<a@example.org> RET=HDRS ENVID=x+2By BODY=8BITMIME\r\n\
          RCPT TO:<b@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B@example.net\r\n\
          RCPT TO:<list@example.net> NOTIFY=NEVER\r\n\
          DATA\r\n",
    )));
    driver.handle(Event::Reserved(MessageId::new(7).unwrap()));
    let direct = driver::recipient(address("b@example.net"), false);
    driver.handle(Event::Expanded(Ok(vec![direct])));
    let member = |dest| driver::recipient(address(dest), true);
    let list = vec![member("c@example.com"), member("d@example.com")];
    driver.handle(Event::Expanded(Ok(list)));
    driver.wait(Duration::from_secs(5));
    driver.handle(Event::Received(Bytes::from_static(
        b"\r\nd\xe9j\xe0 vu\r\n.\r\n",
    )));
    match driver.seen.pop_back() {
        Some(Seen::Commit(taken)) => taken,
        seen => panic!("no message: {seen:?}"),
    }
}

#[test]
fn envelopes_say_all_there_is_to_know() {
    let taken = taken();
    assert!(taken.message.eight_bit);
    let accepted = Timestamp::from_secs(driver::START + 5);
    assert_eq!(taken.message.ctime, accepted);
    let [first, second, third] = taken.envelopes.as_slice() else {
        panic!("three envelopes");
    };
    assert!(first.id < second.id && second.id < third.id);
    let want = Envelope {
        id: first.id,
        action: "relay".into(),
        tag: "T1".into(),
        delivery: driver::recipient(Address::null(), false).delivery,
        smtpname: "mx.example".into(),
        helo: "c.example".into(),
        hostname: "client.example".into(),
        username: "alice".into(),
        source: driver::params(Limits::default()).source,
        sender: address("a@example.org"),
        rcpt: address("b@example.net"),
        dest: address("b@example.net"),
        ctime: accepted,
        last_try: Timestamp::EPOCH,
        last_bounce: Timestamp::EPOCH,
        ttl: Duration::from_hours(96),
        retry: 0,
        flags: Flags {
            authenticated: true,
            ..Flags::default()
        },
        dsn: Dsn {
            notify: Some(Notify {
                success: true,
                failure: false,
                delay: true,
            }),
            ret: Some(Ret::Headers),
            envid: "x+2By".into(),
            orcpt: "rfc822;B@example.net".into(),
        },
        status: None,
        errorline: "".into(),
        remote: "".into(),
        attempts: Attempts::default(),
    };
    assert_eq!(*first, want);
    let member = Envelope {
        id: third.id,
        rcpt: address("list@example.net"),
        dest: address("d@example.com"),
        flags: Flags {
            internal: true,
            ..want.flags
        },
        dsn: Dsn {
            notify: Some(Notify::default()),
            orcpt: "".into(),
            ..want.dsn.clone()
        },
        ..want
    };
    assert_eq!(*third, member);
    assert_eq!(second.dest, address("c@example.com"));
}
