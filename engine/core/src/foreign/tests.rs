//! Files of both formats, sound and not.

use super::*;
use crate::config::{Input, LocalNames, salvage};
use crate::envelope::{Attempts, Mda, Method, Relay, RelayHost, Scheme};

const ID: &str = "f56d8356e919d799";

const CONF: &str = "\
table hosts { \"smtp://a.example\", \"smtp://b.example:2525\" }
action \"outbound\" relay
action \"smarthost\" relay host smtp://127.0.0.20:2526 helo helo.example.org
action \"turns\" relay host <hosts>
action \"secret\" relay srs
action \"local\" maildir \"~/Mail\" user vmail
action \"short\" mbox ttl 1h
match from any for any action \"outbound\"
";

fn configuration(text: &str) -> Salvage {
    let input = Input {
        file: "smtpd.conf",
        text,
        macros: &[],
        names: LocalNames {
            server: "mx.example.org".into(),
            addresses: Vec::new(),
        },
    };
    salvage(&input, &mut |_| Err("there are no files".into()))
}

fn read_with(conf: Option<&str>, text: &str) -> Result<Envelope, Flaw> {
    let salvage = conf.map(configuration);
    let actions = Actions {
        salvage: salvage.as_ref(),
        limits: &Limits::default(),
        turn: 1,
    };
    envelope(ID.parse().unwrap(), text.as_bytes(), actions)
}

/// A file of format 3; a later line for the same key counts.
fn three(more: &str) -> String {
    format!(
        "version: 3\ndispatcher: outbound\ntag: T1\ntype: mta\nsmtpname: mx.example.org\n\
         helo: client.example\nhostname: localhost\nerrorline: Network error\n\
         sockaddr: [::1]\nsender: @\nrcpt: list@example.org\ndest: x@dead.example\n\
         ctime: 1795336978\nlast-try: 1795337000\nlast-bounce: 7\nttl: 0\nretry: 3\n\
         flags: authenticated|internal enqueued\ndsn-notify: 7\ndsn-ret: HDRS\n\
         dsn-envid: QQ314159\ndsn-orcpt: rfc822;Orig@dead.example\nesc-class: 4\n\
         esc-code: 47\n{more}"
    )
}

fn two(more: &str) -> String {
    format!(
        "version: 2\ntype: mta\nsmtpname: mx.example.org\nhelo: client.example\n\
         hostname: localhost\nsockaddr: IPv6:::1\nsender: sender@example.org\n\
         rcpt: a@smart.example\ndest: a@smart.example\nctime: 1795336828\nlast-try: 0\n\
         last-bounce: 0\nexpire: 345601\nretry: 1\ndsn-notify: 0\n{more}"
    )
}

fn read(text: &str) -> Envelope {
    read_with(Some(CONF), text).unwrap()
}

/// Place and reason of what is refused.
fn refused(conf: Option<&str>, text: &str) -> String {
    read_with(conf, text).unwrap_err().to_string()
}

#[test]
fn all_that_a_file_says_is_kept() {
    let want = Envelope {
        id: ID.parse().unwrap(),
        action: "outbound".into(),
        tag: "T1".into(),
        delivery: Delivery::Mta(Relay::to(None)),
        smtpname: "mx.example.org".into(),
        helo: "client.example".into(),
        hostname: "localhost".into(),
        username: "submit".into(),
        source: Source::Inet6(Ipv6Addr::LOCALHOST),
        sender: Address::null(),
        rcpt: "list@example.org".parse().unwrap(),
        dest: "x@dead.example".parse().unwrap(),
        ctime: Timestamp::from_secs(1_795_336_978),
        last_try: Timestamp::from_secs(1_795_337_000),
        last_bounce: Timestamp::from_secs(7),
        ttl: Duration::from_hours(96),
        retry: 3,
        flags: Flags {
            authenticated: true,
            internal: true,
            ..Flags::default()
        },
        dsn: Dsn {
            notify: Some(Notify {
                success: true,
                failure: true,
                delay: true,
            }),
            ret: Some(Ret::Headers),
            envid: "QQ314159".into(),
            orcpt: "rfc822;Orig@dead.example".into(),
        },
        status: Some(Status::new(Class::from_digit(4).unwrap(), 4, 7)),
        errorline: "Network error".into(),
        remote: "".into(),
        attempts: Attempts::default(),
    };
    assert_eq!(read(&three("username: submit\n")), want);
    let life = |text: &str| read(text).ttl.as_secs();
    assert_eq!(life(&three("ttl: 60\n")), 60);
    assert_eq!(life(&two("")), 345_601);
    assert_eq!(
        life(&three("type: mda\nmda-user: u\ndispatcher: short\n")),
        3600
    );
}

#[test]
fn actions_give_what_format_3_leaves_out() {
    let relay = |dispatcher: &str| {
        let text = three(&format!("dispatcher: {dispatcher}\n"));
        match read(&text).delivery {
            Delivery::Mta(relay) => relay,
            other => panic!("{other:?}"),
        }
    };
    let host = |host: &str, port| RelayHost {
        label: "".into(),
        scheme: Scheme::Smtp,
        host: host.into(),
        port,
    };
    assert_eq!(relay("outbound"), Relay::to(None));
    let smart = Relay {
        helo: "helo.example.org".into(),
        ..Relay::to(Some(host("127.0.0.20", 2526)))
    };
    assert_eq!(relay("smarthost"), smart);
    assert_eq!(relay("turns"), Relay::to(Some(host("b.example", 2525))));
    let local = |more: &str| {
        let text = three(&format!(
            "type: mda\ndispatcher: local\nmda-user: u\n{more}"
        ));
        match read(&text).delivery {
            Delivery::Mda(mda) => mda,
            other => panic!("{other:?}"),
        }
    };
    let mda = Mda {
        method: Method::Maildir {
            path: "~/Mail".into(),
        },
        user: "u".into(),
        userbase: "".into(),
        delivery_user: "vmail".into(),
        subaddress: "tag".into(),
    };
    assert_eq!(local("mda-subaddress: tag\n"), mda);
    assert_eq!(
        local("mda-exec: exit 75\n").method,
        Method::Command("exit 75".into())
    );
    let file = "mda-exec: /usr/libexec/mail.mboxfile -f %{mbox.from} /home/a b/mbox\n";
    assert_eq!(local(file).method, Method::File("/home/a b/mbox".into()));
}

#[test]
fn format_2_says_itself_how_to_deliver() {
    let delivery = |more: &str| read_with(None, &two(more)).unwrap().delivery;
    let relay = |more: &str| match delivery(more) {
        Delivery::Mta(relay) => relay,
        other => panic!("{other:?}"),
    };
    assert_eq!(relay(""), Relay::to(None));
    let host = relay("mta-relay: smtp+tls://[IPv6:::1]:26\n").host.unwrap();
    assert_eq!((&*host.host, host.port), ("::1", 26));
    let backup = relay("mta-relay: backup://mx.example.org\n").backup;
    assert_eq!(backup.as_deref(), Some("mx.example.org"));
    let method = |more: &str| {
        let more = format!("type: mda\nmda-user: u\nmda-usertable: <getpwnam>\n{more}");
        match delivery(&more) {
            Delivery::Mda(mda) => mda.method,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(method("mda-method: mbox\n"), Method::Mbox);
    let maildir = Method::Maildir {
        path: "/a/100%%".into(),
    };
    assert_eq!(
        method("mda-method: maildir\nmda-buffer: /a/100%\n"),
        maildir
    );
    let command = "mda-method: mda\nmda-buffer: echo %s\n";
    assert_eq!(method(command), Method::Command("echo %%s".into()));
    let lmtp = Method::Lmtp {
        dest: "127.0.0.1:2424".into(),
        rcpt_to: true,
    };
    let text = "mda-method: lmtp\nmda-buffer: 127.0.0.1:2424 rcpt-to\n";
    assert_eq!(method(text), lmtp);
    let file = "mda-method: filename\nmda-buffer: /x/%y\n";
    assert_eq!(method(file), Method::File("/x/%y".into()));
}

#[test]
fn notices_need_no_action() {
    let bounce = |text: &str| {
        let envelope = read_with(None, text).unwrap();
        (envelope.delivery, envelope.ttl.as_secs())
    };
    let failed = Delivery::Bounce(Bounce::Failed);
    let text = three("type: bounce\ndispatcher: gone\nbounce-type: failed\nttl: 604800\n");
    assert_eq!(bounce(&text), (failed.clone(), 604_800));
    let text = two("type: bounce\nbounce-type: error\nexpire: 0\n");
    assert_eq!(bounce(&text), (failed, 604_800));
    let late = Delivery::Bounce(Bounce::Delayed {
        delay: Duration::from_hours(4),
        ttl: Duration::from_hours(96),
    });
    let text = "type: bounce\nbounce-type: warn\nbounce-delay: 14400\nbounce-expire: 345600\n";
    assert_eq!(bounce(&two(text)).0, late);
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    let check = |conf, text: String, want: &str| {
        let why = refused(conf, &text);
        assert!(why.contains(want), "{why}");
    };
    check(None, three(""), "name it with -f FILE");
    let conf = Some(CONF);
    check(conf, three("dispatcher: gone\n"), "no action `gone`");
    check(
        conf,
        three("dispatcher: secret\n"),
        "`secret` cannot be used: smtpd.conf:5: `srs` is not served",
    );
    check(conf, three("dispatcher: local\n"), "delivers here");
    check(conf, three("type: mda\nmda-user: u\n"), "`outbound` relays");
    check(
        conf,
        two("mta-relay: tls://a.example\n"),
        "unknown scheme `tls`",
    );
    check(conf, two("mta-relay-flags: verify tls\n"), "asks for TLS");
    check(conf, two("mta-relay-auth: creds\n"), "authentication");
    check(conf, two("mta-relay-source: <dynamic:6>\n"), "is unknown");
    check(conf, two("mta-relay-source: hosts\n"), "no configuration");
}

#[test]
fn hostile_text_is_refused_with_its_place() {
    for (more, want) in [
        ("helo: a\0b\n", "helo: it holds a control character"),
        ("helo: a\r\n", "helo: it holds a control character"),
        ("helo:\n", "helo: missing"),
        ("rcpt: a@b.c>\n", "rcpt: "),
        ("dest: @\n", "dest: no recipient has the null address"),
        ("dsn-envid: a b\n", "dsn-envid: not xtext"),
        ("dsn-orcpt: rfc822;a+0D+0Ab\n", "dsn-orcpt: not a type"),
        ("dsn-notify: 9\n", "dsn-notify: NEVER"),
        ("dsn-notify: 300\n", "dsn-notify: larger than 15"),
        ("retry: 65536\n", "retry: larger than 65535"),
        ("ctime: -5\n", "ctime: not a number"),
        ("ctime: 0\n", "ctime: missing, or zero"),
        ("ctime: 99999999999999999999\n", "ctime: larger than"),
        ("esc-class: 3\n", "esc-class: none of"),
        ("type: mta \n", "type: `mta ` is none"),
        ("type: MTA\n", "type: `MTA` is none"),
        ("sockaddr: 300.1.1.1\n", "sockaddr: neither"),
        ("flags: root\n", "flags: unknown flag `root`"),
        ("bogus: 1\n", "line 25: unknown key `bogus`"),
        ("\n", "line 25: no `key: value`"),
        ("tag: x", "line 25: it does not end"),
        ("expire: 1\n", "expire: not a key of this version"),
        ("version: 4\n", "version: `4` is neither"),
        (
            "type: mda\ndispatcher: local\nmda-user: ../x\n",
            "mda-user: not the name",
        ),
        (
            "type: mda\ndispatcher: local\nmda-user: root\nmda-exec: id\n",
            "mda-exec: a command is not run as root",
        ),
        (
            "type: mda\ndispatcher: local\nmda-user: u\nmda-exec: %{nope}\n",
            "mda-exec: ",
        ),
    ] {
        let why = refused(Some(CONF), &three(more));
        assert!(why.starts_with(want), "{more:?}: {why}");
    }
    assert!(refused(None, "").starts_with("version: missing"));
}

#[test]
fn an_error_text_may_hold_anything() {
    let mut text = three("").into_bytes();
    text.extend_from_slice(b"errorline: 451 | try\\later \x01 caf\xe9\n");
    let salvage = configuration(CONF);
    let actions = Actions {
        salvage: Some(&salvage),
        limits: &Limits::default(),
        turn: 0,
    };
    let read = envelope(ID.parse().unwrap(), &text, actions).unwrap();
    assert_eq!(&*read.errorline, "451 | try\\later \u{1} caf\u{fffd}");
    let long = format!("errorline: {}\n", "\u{e9}".repeat(2000));
    let read = self::read(&three(&long));
    assert_eq!(read.errorline.len(), 2046);
}

#[test]
fn what_was_written_down_must_be_sound() {
    let limits = Limits::default();
    let check = |change: &dyn Fn(&mut Envelope), want: &str| {
        let mut envelope = read(&three("type: mda\nmda-user: u\ndispatcher: local\n"));
        assert_eq!(sound(&envelope, &limits), Ok(()));
        change(&mut envelope);
        let why = sound(&envelope, &limits).unwrap_err().to_string();
        assert!(why.starts_with(want), "{why}");
    };
    let delivery = |method: Method, user: &str| {
        Delivery::Mda(Mda {
            method,
            user: user.into(),
            userbase: "".into(),
            delivery_user: "".into(),
            subaddress: "".into(),
        })
    };
    check(&|one| one.helo = "a\r\nRCPT".into(), "helo: it holds");
    check(
        &|one| one.tag = "x".repeat(256).into(),
        "tag: longer than 255",
    );
    check(&|one| one.rcpt = Address::null(), "rcpt: no recipient");
    check(&|one| one.dsn.envid = "a b".into(), "dsn-envid: not xtext");
    check(&|one| one.dsn.orcpt = "x".into(), "dsn-orcpt: not a type");
    check(&|one| one.ttl = Duration::MAX, "ttl: longer");
    check(
        &|one| one.ctime = Timestamp::from_secs(u64::MAX),
        "ctime: behind the year",
    );
    check(
        &|one| one.errorline = "x".repeat(2048).into(),
        "errorline: longer than 2047",
    );
    let relay = |helo: &str| {
        Delivery::Mta(Relay {
            helo: helo.into(),
            ..Relay::to(None)
        })
    };
    check(&|one| one.delivery = relay("a b"), "helo: it holds a blank");
    check(
        &|one| one.delivery = delivery(Method::Command("id".into()), "root"),
        "user: no command",
    );
    check(
        &|one| one.delivery = delivery(Method::Command("a\nb".into()), "u"),
        "command: it holds",
    );
    check(
        &|one| one.delivery = delivery(Method::File("/a\nb".into()), "u"),
        "path: too long, or",
    );
    check(
        &|one| {
            one.delivery = Delivery::Bounce(Bounce::Delayed {
                delay: Duration::MAX,
                ttl: Duration::ZERO,
            });
        },
        "delay: longer",
    );
}

proptest::proptest! {
    #[test]
    fn any_file_is_read_or_refused(file in proptest::collection::vec(proptest::num::u8::ANY, 0..300), at in 0usize..600) {
        let mut text = two("").into_bytes();
        let at = at.min(text.len());
        text.splice(at..at, file);
        let limits = Limits::default();
        let actions = Actions { salvage: None, limits: &limits, turn: 0 };
        if let Ok(read) = envelope(ID.parse().unwrap(), &text, actions) {
            proptest::prop_assert!(!read.helo.contains('\n'));
        }
    }
}
