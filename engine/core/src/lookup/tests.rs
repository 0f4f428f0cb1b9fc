//! Rules and expansion, on configurations written as an administrator would.

use super::expand::{Directory, Forward, Question, Temporary, User, expand, immediate};
use super::rules::{Client, first_match};
use super::{Step, Trail};
use crate::addr::Source;
use crate::config::{Config, Input, LocalNames, Verdict, parse};
use crate::envelope::{Delivery, Method};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::IpAddr;

fn config(text: &str) -> Config {
    let input = Input {
        file: "smtpd.conf",
        text,
        macros: &[],
        names: LocalNames {
            server: "mx.example.org".into(),
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        },
    };
    match parse(&input, &mut |_| Err("no files here".into())) {
        Ok((config, _)) => config,
        Err(faults) => panic!(
            "{}",
            faults
                .iter()
                .map(|one| one.render(false))
                .collect::<String>()
        ),
    }
}

fn client(source: &str) -> Client {
    Client {
        source: source.parse::<IpAddr>().map_or(Source::Local, Source::from),
        tag: "".into(),
        helo: "client.example".into(),
        authenticated: source == "local",
        username: "".into(),
    }
}

fn question(source: &str, sender: &str, rcpt: &str) -> Question {
    Question {
        client: client(source),
        sender: sender.parse().unwrap(),
        rcpt: rcpt.parse().unwrap(),
        turn: 0,
    }
}

/// What a rule before `match from any for any action hit` says, as the only other one: `yes` if
/// it takes the recipient.
fn takes(criteria: &str, question: &Question) -> &'static str {
    let config = config(&format!("action hit relay\nmatch {criteria} action hit"));
    let Question {
        client,
        sender,
        rcpt,
        ..
    } = question;
    match first_match(&config, client, sender, rcpt) {
        Some(_) => "yes",
        None => "no",
    }
}

#[test]
fn criteria_hold_as_the_manual_says() {
    let check = |criteria: &str, source: &str, sender: &str, rcpt: &str, want: &str| {
        let got = takes(criteria, &question(source, sender, rcpt));
        assert_eq!(got, want, "match {criteria}: {source} {sender} {rcpt}");
    };
    let far = "198.51.100.7";
    for (source, want) in [
        ("local", "yes"),
        ("127.0.0.1", "yes"),
        ("::1", "yes"),
        ("192.0.2.1", "yes"),
        (far, "no"),
    ] {
        check("for any", source, "", "a@b", want);
        check("from local for any", source, "", "a@b", want);
        check("from any for any", source, "", "a@b", "yes");
    }
    check("!from local for any", far, "", "a@b", "yes");
    check("from socket for any", "local", "", "a@b", "yes");
    check("from socket for any", "127.0.0.1", "", "a@b", "no");
    let lan = "from src { \"198.51.100.0/24\", \"[2001:db8::]/32\" } for any";
    check(lan, far, "", "a@b", "yes");
    check(lan, "2001:db8::9", "", "a@b", "yes");
    check(lan, "192.0.2.1", "", "a@b", "no");
    check(lan, "local", "", "a@b", "no");
    for local in [
        "a@localhost",
        "a@MX.example.org",
        "a@[192.0.2.1]",
        "a@[IPv6:2001:db8::1]",
        "a@[127.0.0.1]",
    ] {
        check("from any", far, "", local, "yes");
        check("from any !for local", far, "", local, "no");
    }
    check("from any for local", far, "", "a@example.org", "no");
    check(
        "from any for domain \"*.org\"",
        far,
        "",
        "a@example.org",
        "yes",
    );
    check("from any for domain { b, c }", far, "", "a@d", "no");
    check("from any for rcpt-to \"a@b\"", far, "", "A+x@b", "yes");
    check("from any for rcpt-to \"a@b\"", far, "", "c@b", "no");
    check("from mail-from \"@b\" for any", far, "a@b", "x@y", "yes");
    check("!from mail-from \"@b\" for any", far, "a@b", "x@y", "no");
    check("!from mail-from \"@b\" for any", far, "", "x@y", "yes");
    check("from any helo \"*.example\" for any", far, "", "x@y", "yes");
    check("from any tag X for any", far, "", "x@y", "no");
    check("from any auth for any", far, "", "x@y", "no");
    check("from any !auth for any", far, "", "x@y", "yes");
    check("from auth for any", "local", "", "x@y", "yes");
}

#[test]
fn users_are_matched_by_name_or_address() {
    let mut question = question("198.51.100.7", "", "x@y");
    question.client.authenticated = true;
    question.client.username = "bob@example.org".into();
    question.client.tag = "SUBMIT".into();
    let check = |criteria, want| assert_eq!(takes(criteria, &question), want, "{criteria}");
    check("from auth \"bob@example.org\" for any", "yes");
    check("from auth \"@example.org\" for any", "yes");
    check("from auth alice for any", "no");
    check("from any auth { alice } for any", "no");
    check("from any tag SUBMIT for any", "yes");
    check("from any !tag { OTHER } for any", "yes");
}

#[test]
fn the_first_rule_that_matches_decides() {
    let config = config(
        "action a relay\nmatch from any for domain x reject\nmatch from any for any action a",
    );
    let verdict = |rcpt: &str| {
        let question = question("198.51.100.7", "", rcpt);
        first_match(&config, &question.client, &question.sender, &question.rcpt)
            .map(|rule| (rule.verdict, rule.place.line))
    };
    assert_eq!(verdict("a@x"), Some((Verdict::Reject, 2)));
    assert!(matches!(verdict("a@y"), Some((Verdict::Action(_), 3))));
}

/// Users by name with their forward files; `busy` cannot be looked up.
#[derive(Default)]
struct Users {
    forwards: BTreeMap<&'static str, Forward>,
    asked: usize,
}

impl Directory for Users {
    fn user(&mut self, name: &str) -> Result<Option<User>, Temporary> {
        self.asked += 1;
        let uid = match name {
            "root" => 0,
            "bob" => 1000,
            "alice" => 1001,
            "vmail" => 2000,
            "busy" => return Err(Temporary),
            _ => return Ok(None),
        };
        Ok(Some(User {
            name: name.into(),
            uid,
            gid: uid,
            home: format!("/home/{name}").into(),
        }))
    }

    fn unprivileged(&self) -> &'static str {
        "_smtpd"
    }

    fn forward(&mut self, user: &User) -> Forward {
        self.forwards
            .get(&*user.name)
            .cloned()
            .unwrap_or(Forward::Absent)
    }
}

fn show(config: &Config, users: &mut Users, rcpt: &str) -> String {
    let mut question = question("198.51.100.7", "s@remote.example", rcpt);
    question.turn = 1;
    let lines = match expand(config, users, &question, None) {
        Err(reply) => return format!("{rcpt}: {reply}\n"),
        Ok(all) => all.into_iter().map(|one| {
            let how = match &one.delivery {
                Delivery::Mta(relay) => format!(
                    "relay {}",
                    relay
                        .host
                        .as_ref()
                        .map_or("mx".into(), |host| host.host.clone())
                ),
                Delivery::Mda(mda) => {
                    let what = match &mda.method {
                        Method::File(path) => format!("file {}", path.display()),
                        Method::Command(command) => format!("command {command}"),
                        other => other.word().to_owned(),
                    };
                    let as_user = if mda.delivery_user.is_empty() {
                        ""
                    } else {
                        " as "
                    };
                    let tag = if mda.subaddress.is_empty() {
                        ""
                    } else {
                        " tag "
                    };
                    let base = if mda.userbase.is_empty() {
                        ""
                    } else {
                        " base "
                    };
                    format!(
                        "{what} {}{as_user}{}{tag}{}{base}{}",
                        mda.user, mda.delivery_user, mda.subaddress, mda.userbase
                    )
                }
                Delivery::Bounce(_) => "bounce".to_owned(),
            };
            let internal = if one.internal { " internal" } else { "" };
            format!("{rcpt}: {} {} {how}{internal}\n", one.dest, one.action)
        }),
    };
    lines.collect()
}

fn check(text: &str, forwards: &[(&'static str, &str)], rcpts: &[&str], want: &Expect) {
    let config = config(text);
    let mut users = Users::default();
    for (name, forward) in forwards {
        users
            .forwards
            .insert(name, Forward::Text((*forward).into()));
    }
    let got: String = rcpts
        .iter()
        .map(|rcpt| show(&config, &mut users, rcpt))
        .collect();
    want.assert_eq(&got);
}

#[test]
fn aliases_lead_to_users_addresses_files_and_commands() {
    check(
        "table aliases { postmaster = root, root = \"bob, alice@far.example\",
            team = \"bob, Alice, alice\", \"bob+list\" = alice,
            log = \"/var/log/mail\", prog = '\"|/bin/cat -n, x\"', bob2 = \"bob2, alice\",
            loop = pool, pool = loop, nobody = \"error:550 5.1.1 gone\",
            later = \":error:421 try later\", odd = \"a b\", remote = \"x@there.example\" }
         action in maildir alias <aliases>
         action out relay host { a.example, b.example } ttl 1h
         match from any for local action in
         match from local for domain \"*.example\" action out",
        &[],
        &[
            "bob@localhost",
            "BOB+Tag@localhost",
            "bob+list@localhost",
            "postmaster@localhost",
            "team@localhost",
            "log@localhost",
            "prog@localhost",
            "bob2@localhost",
            "loop@localhost",
            "nobody@localhost",
            "later@localhost",
            "odd@localhost",
            "remote@localhost",
            "x@there.example",
            "busy@localhost",
            "unknown@localhost",
        ],
        &expect![[r"
            bob@localhost: bob@localhost in maildir bob
            BOB+Tag@localhost: BOB+Tag@localhost in maildir bob tag tag
            bob+list@localhost: bob+list@localhost in maildir alice
            postmaster@localhost: postmaster@localhost in maildir bob
            postmaster@localhost: alice@far.example out relay b.example internal
            team@localhost: team@localhost in maildir bob
            team@localhost: team@localhost in maildir alice
            log@localhost: log@localhost in file /var/log/mail _smtpd
            prog@localhost: prog@localhost in command /bin/cat -n, x _smtpd
            bob2@localhost: 550 5.1.1 Invalid recipient: <bob2@localhost>
            loop@localhost: 524 5.2.4 Mailing list expansion problem: <loop@localhost>
            nobody@localhost: 550 5.1.1 gone: <nobody@localhost>
            later@localhost: 421 4.2.1 try later: <later@localhost>
            odd@localhost: 424 4.2.4 Mailing list expansion problem: <odd@localhost>
            remote@localhost: x@there.example out relay b.example internal
            x@there.example: 550 5.7.1 Invalid recipient: <x@there.example>
            busy@localhost: 451 4.3.0 Temporary failure: <busy@localhost>
            unknown@localhost: 550 5.1.1 Invalid recipient: <unknown@localhost>
        "]],
    );
}

#[test]
fn virtual_users_are_found_by_the_most_exact_key() {
    check(
        "table people { \"a+t@v.example\" = alice, \"a@v.example\" = bob,
            info = \"alice\", \"@v.example\" = vmail, \"b@w.example\" = \"c@v.example\" }
         action in lmtp \"/lmtp\" virtual <people>
         match from any for domain { v.example, w.example } action in",
        &[],
        &[
            "a+t@v.example",
            "A+x@V.example",
            "info@w.example",
            "any@v.example",
            "b@w.example",
            "other@w.example",
        ],
        &expect![[r"
            a+t@v.example: a+t@v.example in lmtp alice
            A+x@V.example: A+x@V.example in lmtp bob
            info@w.example: info@w.example in lmtp alice
            any@v.example: any@v.example in lmtp vmail
            b@w.example: c@v.example in lmtp vmail internal
            other@w.example: 524 5.2.4 Mailing list expansion problem: <other@w.example>
        "]],
    );
}

#[test]
fn forward_files_are_followed_once() {
    let text = "action in mbox\nmatch from any for local action in";
    check(
        text,
        &[("bob", "bob, alice\n# comment\n\"|/bin/x\"\n/tmp/f\n")],
        &["bob@localhost"],
        &expect![[r"
            bob@localhost: bob@localhost in mbox bob
            bob@localhost: bob@localhost in mbox alice
            bob@localhost: bob@localhost in command /bin/x bob
            bob@localhost: bob@localhost in file /tmp/f bob
        "]],
    );
    check(
        text,
        &[("bob", "alice"), ("alice", "bob")],
        &["bob@localhost"],
        &expect![[r"
            bob@localhost: 524 5.2.4 Mailing list expansion problem: <bob@localhost>
        "]],
    );
    check(
        text,
        &[("bob", " \n# nothing\n")],
        &["bob+x@localhost"],
        &expect![[r"
            bob+x@localhost: bob+x@localhost in mbox bob tag x
        "]],
    );
    check(
        text,
        &[("bob", ":include:/etc/passwd\n")],
        &["bob@localhost"],
        &expect![[r"
            bob@localhost: bob@localhost in mbox bob
        "]],
    );
    check(
        text,
        &[("bob", "a b c")],
        &["bob@localhost"],
        &expect![[r"
            bob@localhost: 424 4.2.4 Mailing list expansion problem: <bob@localhost>
        "]],
    );
    check(
        text,
        &[("bob", "x@far.example")],
        &["bob@localhost"],
        &expect![[r"
            bob@localhost: 550 5.7.1 Invalid recipient: <bob@localhost>
        "]],
    );
    check(
        text,
        &[("root", "|/bin/sh")],
        &["root@localhost"],
        &expect![[r"
            root@localhost: 424 4.2.4 Mailing list expansion problem: <root@localhost>
        "]],
    );
    let many: Vec<_> = (0..100).map(|n| format!("/tmp/{n}\n")).collect();
    let many = many.concat();
    check(
        text,
        &[("bob", &many)],
        &["bob@localhost"],
        &expect![[r"
        bob@localhost: 424 4.2.4 Mailing list expansion problem: <bob@localhost>
    "]],
    );
}

#[test]
fn what_cannot_be_read_decides_the_reply() {
    let config = config("action in mbox\nmatch from any for local action in");
    let mut got = String::new();
    for forward in [
        Forward::Absent,
        Forward::TooLarge,
        Forward::Temporary,
        Forward::Unsafe,
    ] {
        let mut users = Users::default();
        users.forwards.insert("bob", forward);
        got += &show(&config, &mut users, "bob@localhost");
    }
    expect![[r"
        bob@localhost: bob@localhost in mbox bob
        bob@localhost: 424 4.2.4 Mailing list expansion problem: <bob@localhost>
        bob@localhost: 451 4.3.0 Temporary failure: <bob@localhost>
        bob@localhost: 524 5.2.4 Mailing list expansion problem: <bob@localhost>
    "]]
    .assert_eq(&got);
}

#[test]
fn users_of_a_table_and_delivery_users() {
    check(
        "action in maildir \"/m/%{user.username}\" userbase { carol = \"1:2:/home/carol\" } \\
            user vmail alias { prog = \"|/bin/cat\" }
         match from any for local action in",
        &[("carol", "alice@far.example")],
        &["carol+x@localhost", "bob@localhost", "prog@localhost"],
        &expect![[r"
            carol+x@localhost: carol+x@localhost in maildir carol as vmail tag x base <in>
            bob@localhost: 550 5.1.1 Invalid recipient: <bob@localhost>
            prog@localhost: prog@localhost in command /bin/cat _smtpd as vmail
        "]],
    );
}

#[test]
fn depth_is_limited() {
    let chain: Vec<_> = (0..12).map(|n| format!("u{n} = u{}\n", n + 1)).collect();
    let chain = chain.concat();
    check(
        &format!(
            "action in mbox alias {{ {chain} u12 = bob }}\nmatch from any for local action in"
        ),
        &[],
        &["u5@localhost", "u4@localhost"],
        &expect![[r"
            u5@localhost: u5@localhost in mbox bob
            u4@localhost: 524 5.2.4 Mailing list expansion problem: <u4@localhost>
        "]],
    );
}

#[test]
fn relays_and_refusals_ask_nobody() {
    let config = config(
        "action in mbox\naction out relay\nmatch from any for local action in
         match from any for domain far.example action out",
    );
    let ask = |rcpt| immediate(&config, &question("198.51.100.7", "", rcpt), None);
    assert!(matches!(ask("x@far.example"), Some(Ok(all)) if all.len() == 1));
    assert!(matches!(ask("x@other.example"), Some(Err(reply)) if reply.code() == 550));
    assert!(ask("bob@localhost").is_none());
    let mut users = Users::default();
    show(&config, &mut users, "x@far.example");
    assert_eq!(users.asked, 0);
}

#[test]
fn the_trail_tells_visits_questions_and_decisions_in_order() {
    let config = config(
        "table ours { example.org }\naction in mbox alias { info = bob }\n\
         match from any for domain <ours> action in",
    );
    let trail = |rcpt: &str, most| {
        let question = question("198.51.100.7", "", rcpt);
        let trail = Trail::new(most);
        let _ = expand(&config, &mut Users::default(), &question, Some(&trail));
        let (steps, more) = trail.into_steps();
        let lines = steps.into_iter().map(|step| match step {
            Step::Visited { depth, item } => format!("{depth} {item}\n"),
            Step::Asked {
                service,
                table,
                key,
                value,
            } => format!("{service} <{table}> {key}: {value:?}\n"),
            Step::Ruled {
                dest,
                place,
                action,
            } => {
                let line = place.map_or(0, |place| place.line);
                format!("{dest:?} line {line} {action}\n")
            }
        });
        lines.collect::<String>() + if more { "...\n" } else { "" }
    };
    expect![[r#"
        0 address info@example.org
        domain <ours> example.org: Some("")
        <info@example.org> line 3 in
        1 user info
        alias <> info: Some("bob")
        2 user bob
        alias <> bob: None
        alias <> bob: None
    "#]]
    .assert_eq(&trail("info@example.org", 100));
    expect![[r"
        domain <ours> far.example: None
        ...
    "]]
    .assert_eq(&trail("x@far.example", 1));
}

proptest! {
    #[test]
    fn expansion_ends_whatever_aliases_say(
        edges in prop::collection::vec((0..8u8, 0..10u8), 0..40),
        start in 0..8u8,
    ) {
        let mut lists: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        for (from, to) in edges {
            let to = match to {
                8 => "bob".to_owned(),
                9 => "u1@localhost".to_owned(),
                to => format!("u{to}"),
            };
            lists.entry(from).or_default().push(to);
        }
        let entries: Vec<_> =
            lists.iter().map(|(from, to)| format!("u{from} = \"{}\"\n", to.join(","))).collect();
        let entries = entries.concat();
        let config = config(&format!(
            "action in mbox alias {{ x = x\n{entries} }}\nmatch from any for local action in"
        ));
        let mut users = Users::default();
        let question = question("198.51.100.7", "", &format!("u{start}@localhost"));
        if let Ok(all) = expand(&config, &mut users, &question, None) {
            prop_assert!(!all.is_empty());
            for (at, one) in all.iter().enumerate() {
                prop_assert!(!all[..at].contains(one), "twice: {one:?}");
            }
        }
    }
}
