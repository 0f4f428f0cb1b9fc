//! `smtpctl store export`, and what `store import` makes of it.

use crate::import::Elsewhere;
use crate::offline::filled;
use crate::place::{Place, program};
use bytes::Bytes;
use expect_test::expect;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redspool_core::addr::Address;
use redspool_core::envelope::{Attempts, Delivery, Envelope, Mda, Method, Relay, TlsRule};
use redspool_core::id::MessageId;
use redspool_core::queue::{
    Body, Message, Reader as _, Selector, Store as _, Submission, Transition,
};
use redspool_core::time::Timestamp;
use redspool_proptests::mail;
use redspool_store::{LogStore, Offline};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::time::Duration;

#[test]
fn a_store_becomes_files_whoever_has_it_open() {
    let (place, target) = (Place::new(), Elsewhere::new());
    let store = filled(place.path());
    let out = target.arg("out");
    let export = |name: &str| target.smtpctl(&place, &["store", "export", &target.arg(name)]);
    expect![[r"
        2 messages, 3 envelopes, 48 octets exported
        0 faults
        [exit 0]
    "]]
    .assert_eq(&export("out"));
    drop(store);
    let list = fs::read_to_string(Path::new(&out).join("envelopes.jsonl")).unwrap();
    let lines: Vec<_> = list.lines().collect();
    expect![[r#"{"format":"redspool-export","version":1}"#]].assert_eq(lines[0]);
    expect![[r#"{"id":"0253f95600000001","message-size":24,"message-ctime":1795335656,"message-eight-bit":false,"message-xxh3":"71540da8c1c9e51d","dispatcher":"out","tag":"TAG0253f956","smtpname":"mx.example.org","helo":"client.example.net","hostname":"<unknown>","username":"","sockaddr":"127.0.0.1","sender":"sender@example.org","rcpt":"a@dead.example","dest":"a@dead.example","ctime":1795335656,"last-try":0,"last-bounce":0,"ttl":345600,"retry":0,"authenticated":false,"bounce":false,"internal":false,"suspended":false,"maybe-duplicated":false,"dsn-notify":null,"dsn-ret":null,"dsn-envid":"","dsn-orcpt":"","status":null,"errorline":"","delivery":{"type":"mta","host":null,"helo":"","src":"","helo-src":"","backup":null,"tls":"","auth":"","pki":"","ca":"","ciphers":"","protocols":"","dane":"","mta-sts":""}}"#]].assert_eq(lines[1]);
    assert_eq!(lines.len(), 4);
    let content = fs::read(Path::new(&out).join("messages/7c84c730.eml")).unwrap();
    assert_eq!(content, b"Subject: test\r\n\r\nhello\r\n");
    expect![[r"
        [stderr]
        smtpctl: SRC/out: not empty: name a directory that is, or a new one
        [exit 2]
    "]]
    .assert_eq(&export("out"));
    fs::create_dir(target.path().join("empty")).unwrap();
    assert!(export("empty").ends_with("0 faults\n[exit 0]\n"));
    let mut command = program("smtpctl");
    command.arg("--spool").arg(place.path().join("missing"));
    command.args(["store", "export", &target.arg("never")]);
    expect![[r"
        [stderr]
        smtpctl: DIR/missing: there is no store here; name it with --spool
        [exit 2]
    "]]
    .assert_eq(&place.shown(&mut command));
    assert!(!target.path().join("never").exists());
}

#[test]
fn an_export_that_was_changed_is_told() {
    let (place, target) = (Place::new(), Elsewhere::new());
    drop(filled(place.path()));
    let out = target.arg("out");
    target.smtpctl(&place, &["store", "export", &out]);
    let list = Path::new(&out).join("envelopes.jsonl");
    let text = fs::read_to_string(&list).unwrap();
    let import = || {
        let empty = Place::new();
        target.smtpctl(&empty, &["store", "import", &out])
    };
    let content = Path::new(&out).join("messages/0253f956.eml");
    fs::write(&content, "Subject: tost\r\n\r\nhello\r\n").unwrap();
    let shown = import();
    let want = "fault: SRC/out/messages/0253f956.eml: it is not what was exported: 24 octets \
                instead of 24, or changed ones\n1 messages, 2 envelopes, 48 octets";
    let want = want.replace("48", "24");
    assert!(
        shown.starts_with(&want) && shown.ends_with("[exit 1]\n"),
        "{shown}"
    );
    let hostile = text.replacen("client.example.net", "client\\r\\nRCPT TO:<x@y>", 1);
    let hostile = hostile.replacen("\"retry\":0", "\"retry\":0,\"more\":1", 2);
    let hostile = hostile
        .replacen("\"more\":1,", "", 1)
        .replacen(",\"more\":1", "", 1);
    fs::write(&list, hostile).unwrap();
    let shown = import();
    let want = "fault: SRC/out/envelopes.jsonl: line 2: helo: it holds a control character\n";
    assert!(shown.contains(want), "{shown}");
    let other = text.replacen("\"version\":1", "\"version\":9", 1);
    fs::write(&list, other).unwrap();
    let shown = import();
    let want = "fault: SRC/out/envelopes.jsonl: version 9 of the form is not known to this program, \
                which reads 1\n0 messages";
    assert!(shown.starts_with(want), "{shown}");
    fs::rename(&list, Path::new(&out).join("envelopes.jsonl.part")).unwrap();
    expect![[r"
        [stderr]
        smtpctl: SRC/out: the export was not completed; make it again
        [exit 2]
    "]]
    .assert_eq(&import());
}

#[test]
fn what_is_damaged_stays_behind() {
    let (place, target) = (Place::new(), Elsewhere::new());
    drop(filled(place.path()));
    let log = place.path().join("log.00000001");
    let mut octets = fs::read(&log).unwrap();
    // In the content of the first message of the log.
    octets[4096 + 32 + 64 + 24] ^= 1;
    fs::write(&log, octets).unwrap();
    expect![[r"
        fault: message 7c84c730: content record does not match its checksum
        1 messages, 1 envelopes, 24 octets exported
        1 faults
        [exit 1]
    "]]
    .assert_eq(&target.smtpctl(&place, &["store", "export", &target.arg("out")]));
    assert!(!target.path().join("out/messages/7c84c730.eml").exists());
}

/// An envelope with fields as the daemon itself would accept them.
fn tame(mut envelope: Envelope) -> Envelope {
    let plain = |text: &mut Box<str>| {
        *text = text.chars().filter(|c| !c.is_control()).collect();
    };
    let word = |text: &mut Box<str>| {
        *text = text
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '.')
            .collect();
    };
    let date = |date: &mut Timestamp| {
        *date = Timestamp::from_secs(date.as_secs() % 253_402_300_799);
    };
    let life = |life: &mut Duration| *life = Duration::from_secs(life.as_secs() >> 32);
    for text in [
        &mut envelope.action,
        &mut envelope.tag,
        &mut envelope.smtpname,
        &mut envelope.helo,
        &mut envelope.hostname,
        &mut envelope.username,
        &mut envelope.remote,
    ] {
        plain(text);
    }
    for address in [&mut envelope.rcpt, &mut envelope.dest] {
        if address.is_null() {
            *address = Address::from_parts("u", "example.org").unwrap();
        }
    }
    let mut tried = envelope.tried();
    for attempt in &mut tried {
        date(&mut attempt.began);
        if let Some(via) = &mut attempt.via {
            plain(&mut via.name);
            plain(&mut via.tls);
        }
    }
    envelope.attempts = Attempts::new(&tried);
    date(&mut envelope.ctime);
    date(&mut envelope.last_try);
    date(&mut envelope.last_bounce);
    life(&mut envelope.ttl);
    word(&mut envelope.dsn.envid);
    word(&mut envelope.dsn.orcpt);
    if !envelope.dsn.orcpt.is_empty() {
        envelope.dsn.orcpt = format!("rfc822;{}", envelope.dsn.orcpt).into();
    }
    match &mut envelope.delivery {
        Delivery::Mta(Relay {
            host,
            helo,
            src,
            helo_src,
            backup,
            security,
        }) => {
            for name in [&mut security.auth, &mut security.pki, &mut security.ca] {
                plain(name);
            }
            if !security.ciphers.is_empty() {
                security.ciphers = "HIGH".into();
            }
            if !security.protocols.is_empty() {
                security.protocols = "all".into();
            }
            if let Some(host) = host {
                word(&mut host.host);
                word(&mut host.label);
                if !security.suits(host) {
                    host.label = "".into();
                    security.tls = TlsRule::Scheme;
                }
            }
            word(helo);
            plain(src);
            plain(helo_src);
            if let Some(name) = backup {
                word(name);
            }
            *backup = backup.take().filter(|name| !name.is_empty());
        }
        Delivery::Mda(Mda {
            method,
            user,
            userbase,
            delivery_user,
            subaddress,
        }) => {
            [user, userbase, delivery_user, subaddress]
                .into_iter()
                .for_each(plain);
            match method {
                Method::Mbox => {}
                Method::Maildir { path: text } | Method::Command(text) => plain(text),
                Method::Lmtp { dest, .. } => word(dest),
                Method::File(path) => {
                    let octets = path.as_os_str().as_bytes().iter();
                    let sound = octets.copied().filter(|octet| !octet.is_ascii_control());
                    *path = OsString::from_vec(sound.collect()).into();
                }
            }
        }
        Delivery::Bounce(redspool_core::envelope::Bounce::Delayed { delay, ttl }) => {
            life(delay);
            life(ttl);
        }
        Delivery::Bounce(_) => {}
    }
    envelope
}

type Mail = BTreeMap<MessageId, (Message, Vec<u8>, Vec<Envelope>)>;

/// Everything in a store.
fn everything(spool: &Path) -> Mail {
    let reader = Offline::open(spool).unwrap().reader();
    let mut mail = Mail::new();
    for envelope in reader.page(Selector::All, None, 10_000).unwrap() {
        let envelope = envelope.unwrap();
        let id = envelope.id.message();
        let one = mail.entry(id).or_insert_with(|| {
            let pieces = (0..).map_while(|index| reader.body(id, index).unwrap());
            let content = pieces.flat_map(|piece| piece.to_vec()).collect();
            (reader.message(id).unwrap().unwrap(), content, Vec::new())
        });
        one.2.push(envelope);
    }
    mail
}

/// Whatever is exported and imported into an empty store is what it was, content and envelopes.
#[test]
fn what_goes_out_comes_back_the_same() {
    let mail = vec(
        (
            any::<u32>(),
            vec(mail::any_envelope(), 1..4),
            // Some larger than what fits the log itself.
            prop_oneof![0usize..200, Just(300_000)],
            any::<(u32, bool, bool)>(),
        ),
        1..6,
    );
    let mut runner = TestRunner::new(Config::with_cases(12));
    let outcome = runner.run(&mail, |messages| {
        let (from, to, target) = (Place::new(), Place::new(), Elsewhere::new());
        let mut store = LogStore::open(from.path()).unwrap();
        for (number, envelopes, length, (ctime, eight_bit, utf8)) in messages {
            let id = MessageId::new(number).unwrap_or(MessageId::MIN);
            let mut content = mail::content(id, length).to_vec();
            content.retain(|octet| !octet.is_ascii_control());
            content.extend_from_slice(b"\r\n");
            let envelopes = (1..).zip(envelopes).map(|(low, envelope)| Envelope {
                id: mail::envelope_id(id, low),
                ..tame(envelope)
            });
            let submission = Submission {
                message: Message {
                    id,
                    size: content.len() as u64,
                    ctime: Timestamp::from_secs(ctime.into()),
                    eight_bit,
                    utf8,
                },
                body: Body::Whole(Bytes::from(content)),
                envelopes: envelopes.collect(),
            };
            // The same id twice is refused, which is as good.
            let prepared = store.prepare(Transition::Submit(submission)).unwrap();
            store.commit(vec![prepared]).unwrap();
        }
        drop(store);
        let out = target.arg("out");
        let exported = target.smtpctl(&from, &["store", "export", &out]);
        prop_assert!(exported.ends_with("[exit 0]\n"), "{}", exported);
        let imported = target.smtpctl(&to, &["store", "import", &out]);
        prop_assert!(imported.ends_with("[exit 0]\n"), "{}", imported);
        prop_assert_eq!(everything(from.path()), everything(to.path()));
        Ok(())
    });
    outcome.unwrap();
}
