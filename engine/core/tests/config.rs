//! Configurations, good and bad: what is understood, and what the administrator is told.
//!
//! Each `tests/config/good/*.conf` parses to the summary in the `.out` file beside it, each
//! `tests/config/bad/*.conf` fails with exactly that text. Files they name come from
//! `tests/config/files`. `UPDATE_EXPECT=1` writes the `.out` files anew.

#![expect(clippy::unwrap_used, reason = "this is a test, helpers included")]

use expect_test::expect_file;
use proptest::prelude::*;
use redspool_core::config::table::Table;
use redspool_core::config::{
    ActionKind, Config, Diagnostic, Input, LocalNames, Material, Severity, Unfit, parse,
};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config")
        .join(name)
}

fn load(path: &str) -> Result<String, String> {
    let file = folder("files").join(path.trim_start_matches('/'));
    std::fs::read_to_string(file).map_err(|_| "no such file".to_owned())
}

/// Paths that say so are faulty.
fn vet(material: Material<'_>) -> Result<(), Unfit> {
    let (Material::Chain(path) | Material::Authorities(path) | Material::Key { key: path, .. }) =
        material;
    if !path.contains("faulty") {
        return Ok(());
    }
    Err(Unfit {
        reason: "no such file".into(),
        help: "create it".into(),
    })
}

fn parse_file(path: &Path) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let input = Input {
        file: name,
        text: &std::fs::read_to_string(path).unwrap(),
        macros: &[("outside".into(), "from.command.line".into())],
        names: LocalNames {
            server: "mx.example.org".into(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
        },
    };
    parse(&input, &mut load, &mut vet)
}

fn configurations(kind: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(kind)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "conf"));
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn rendered(diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        let span = diagnostic.mark().span();
        assert!(diagnostic.mark().text().get(span).is_some());
        writeln!(out, "{}\n", diagnostic.render(false)).unwrap();
    }
    out
}

fn summary(config: &Config) -> String {
    let mut out = String::new();
    for listener in &config.listeners {
        writeln!(out, "{listener:?}").unwrap();
    }
    writeln!(out, "{:?}", config.socket).unwrap();
    for table in config.tables() {
        let shape = table.table().shape();
        let count = table.table().len();
        writeln!(
            out,
            "table {:?} {:?} {shape:?} {count}",
            table.name(),
            table.path()
        )
        .unwrap();
    }
    for pki in &config.pkis {
        writeln!(out, "{pki:?}").unwrap();
    }
    for authority in &config.authorities {
        writeln!(out, "{authority:?}").unwrap();
    }
    for action in config.actions() {
        let kind = match &action.kind {
            ActionKind::Local(local) => format!("{local:?}"),
            ActionKind::Relay(relay) => format!("{relay:?}"),
        };
        writeln!(out, "action {:?} {kind} {:?}", action.name, action.ttl).unwrap();
    }
    for rule in &config.rules {
        writeln!(out, "{rule:?}").unwrap();
    }
    writeln!(
        out,
        "{:?} {:?}",
        config.bounce_warn, config.subaddress_delimiter
    )
    .unwrap();
    out
}

#[test]
fn good_configurations_mean_what_they_say() {
    for path in configurations("good") {
        match parse_file(&path) {
            Ok((config, warnings)) => {
                let text = format!("{}{}", summary(&config), rendered(&warnings));
                expect_file![path.with_extension("out")].assert_eq(&text);
            }
            Err(faults) => panic!("{}\n{}", path.display(), rendered(&faults)),
        }
    }
}

#[test]
fn bad_configurations_are_refused_with_all_their_faults() {
    for path in configurations("bad") {
        let faults = parse_file(&path).expect_err(path.to_str().unwrap());
        assert!(faults.iter().any(|one| one.severity() == Severity::Error));
        expect_file![path.with_extension("out")].assert_eq(&rendered(&faults));
    }
}

fn parse_text(text: &str) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let input = Input {
        file: "smtpd.conf",
        text,
        macros: &[],
        names: LocalNames {
            server: "mx.example.org".into(),
            addresses: Vec::new(),
        },
    };
    parse(&input, &mut load, &mut vet)
}

#[test]
fn limits_of_the_file_replace_the_defaults() {
    let (config, _) = parse_file(&folder("good").join("site.conf")).unwrap();
    let limits = &config.limits;
    assert_eq!(limits.message_size, 50 << 20);
    assert_eq!((limits.recipients, limits.mails_per_session), (200, 50));
    assert_eq!((limits.inflight, limits.schedule_batch), (1000, 20));
    assert_eq!((limits.mda_sessions, limits.mda_task_lowat), (10, 5));
    assert_eq!(
        (limits.mta.deferred, limits.mta.connections_per_host),
        (200, 3)
    );
    assert_eq!(limits.mta.keepalive.as_secs(), 30);
    let slow = limits.mta_for("slow.example.net");
    assert_eq!(
        (slow.connections_per_host, slow.keepalive.as_secs()),
        (1, 30),
        "a domain begins with what holds for all"
    );
    assert_eq!((slow.inet4, slow.inet6), (true, false));
    assert_eq!(slow.delays(true).route.as_secs(), 0, "as it was set");
    assert_eq!(slow.delays(true).relay.as_secs(), 2, "the default by MX");
    assert_eq!(
        slow.delays(false).relay.as_secs(),
        0,
        "none for a smart host"
    );
    assert_eq!(limits.mta_for("example.net").connections_per_host, 3);
    assert_eq!(limits.queue_ttl.as_secs(), 5 * 86_400);
}

#[test]
fn a_table_is_replaced_only_by_one_that_suits_its_uses() {
    let (mut config, _) = parse_file(&folder("good").join("site.conf")).unwrap();
    let file = |text| Table::parse_file(text).unwrap();
    let value = |config: &Config| {
        let table = config.table_named("aliases").unwrap();
        table.table().value("root").map(str::to_owned)
    };
    assert!(config.replace_table("aliases", file("a\nb\n")).is_err());
    assert_eq!(value(&config).as_deref(), Some("bob"));
    assert_eq!(
        config.replace_table("aliases", file("root: alice\n")),
        Ok(true)
    );
    assert_eq!(value(&config).as_deref(), Some("alice"));
    assert_eq!(config.replace_table("none", file("")), Ok(false));
    assert_eq!(config.replace_table("", file("")), Ok(false));
}

#[test]
fn words_are_read_as_the_manual_says() {
    let last = "\nmatch from any for any reject";
    let tag = |text: &str| match parse_text(&format!("{text}{last}")) {
        Ok((config, _)) => config.listeners[0].tag.to_string(),
        Err(faults) => {
            let mut errors = faults.iter();
            let first = errors.find(|one| one.severity() == Severity::Error);
            first.unwrap().message().to_owned()
        }
    };
    let check = |text, want: &str| assert_eq!(tag(text), want, "{text}");
    check("listen on a tag b#c", "b");
    check("listen on a tag \"b#c\"", "b#c");
    check("listen \\\n on a tag b\\\nc", "bc");
    check("# comment \\\nlisten on x\nlisten on a tag b", "b");
    check("listen on a tag 'b\\'c\\d\"'", "b'c\\d\"");
    check("listen on a tag \"b\\\nc\nd\\ e\"", "bcd e");
    check("listen on a tag 4d", "4d");
    check("listen on a tag :b+c@d[e]", ":b+c@d[e]");
    check("listen on a tag \"local\"", "local");
    check("listen on a tag local", "unexpected `local`");
    check("listen on a tag LOCAL", "LOCAL");
    check("listen on a tag 4", "unexpected `4`");
    check("listen on a tag +b", "a word cannot begin with `+`");
    check("x = b\nlisten on a tag $x", "b");
    check("x = b\nlisten on a tag ${x}", "a macro has a name");
    check("x = b\nlisten on a tag c$x", "c$x");
    check("x = b\nlisten on a tag \"$x\"", "$x");
    check("x = b\nlisten on a tag $x/c", "b/c");
    check("x = b\nx = c\nlisten on a tag $x", "c");
    check("x = \"tag b\"\nlisten on a $x", "b");
    check("x = b\ny = $x\nlisten on a tag $y", "b");
    check(
        "x = '$y'\ny = b\nlisten on a tag $x",
        "a word cannot begin with `$`",
    );
    check(
        "x = 5\nlisten on a",
        "the value of a macro must be one word",
    );
    check("listen on a tag \"b", "a quote that is never closed");
    let long = format!("listen on a tag {}", "b".repeat(8096));
    check(&long, "a word of more than 8095 octets");
}

#[test]
fn faults_in_one_directive_leave_the_next_alone() {
    let faults = parse_text(
        "table a { b, c\nlisten on lo0 prot 25\nmatch from any for any action x\nmtch all\n",
    );
    let places: Vec<_> = faults
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        places,
        [
            "smtpd.conf:1: a brace that is never closed",
            "smtpd.conf:2: unexpected `prot`",
            "smtpd.conf:3: no action is named `x`",
            "smtpd.conf:4: unknown directive `mtch`",
        ]
    );
}

#[test]
fn files_that_include_each_other_again_and_again_come_to_an_end() {
    let text = "include a\ninclude a\nmatch from any for any reject";
    let input = Input {
        file: "main",
        text,
        macros: &[],
        names: LocalNames {
            server: "mx.example.org".into(),
            addresses: Vec::new(),
        },
    };
    let mut read = 0;
    let faults = parse(
        &input,
        &mut |path| {
            read += 1;
            let next = format!("{path}a");
            Ok(format!("include {next}\ninclude {next}\n"))
        },
        &mut vet,
    )
    .unwrap_err();
    assert_eq!(read, redspool_core::limits::Limits::default().config_files);
    assert!(
        faults
            .iter()
            .all(|one| one.message() == "too many included files")
    );
}

#[test]
fn an_unreadable_main_file_is_a_diagnostic_too() {
    let fault = Diagnostic::unreadable("/etc/smtpd.conf", "no such file");
    assert!(fault.render(false).contains("/etc/smtpd.conf"));
    assert!(fault.render(true).contains("no such file"));
}

/// Words of the grammar in any order come close to directives more often than letters do.
fn scraps() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "table",
        "listen on",
        "action",
        "match",
        "from any",
        "for local",
        "{",
        "}",
        "<a>",
        "a",
        "\"b c\"",
        "'",
        "\"",
        "\\",
        "\n",
        "\n",
        "#",
        "$a",
        "a = b",
        "=",
        "=>",
        ",",
        "!",
        "5",
        "4d",
        "relay",
        "host",
        "maildir",
        "alias",
        "port",
        "tag",
        "include \"/etc/mail/loop.conf\"",
        "queue ttl",
        "smtp limit",
        "max-rcpt",
        "mta limit",
        "reject",
        "src",
        "file:/etc/mail/odd",
        "regex",
        "tls",
        "auth",
        "\u{e9}",
        "(",
        "-",
        "%{x}",
        "mda",
        "\r\n",
        "\t",
        "\u{1f600}",
    ]);
    prop::collection::vec((words, prop::bool::ANY), 0..60).prop_map(|words| {
        let spaced = words
            .into_iter()
            .map(|(word, space)| format!("{word}{}", if space { " " } else { "" }));
        spaced.collect()
    })
}

fn assert_sound(text: &str) {
    let diagnostics = match parse_text(text) {
        Ok((_, warnings)) => warnings,
        Err(faults) => faults,
    };
    for one in diagnostics {
        for mark in std::iter::once(one.mark()).chain(one.related_mark()) {
            assert!(mark.text().get(mark.span()).is_some());
            assert!(mark.line() <= mark.text().lines().count() + 1);
        }
        assert!(!one.render(false).is_empty());
        assert!(!one.render(true).is_empty());
    }
}

proptest! {
    #[test]
    fn any_text_is_parsed_to_its_end(text in "(.|\n){0,300}") {
        assert_sound(&text);
    }

    #[test]
    fn any_scraps_of_the_grammar_are_parsed_to_their_end(text in scraps()) {
        assert_sound(&text);
    }
}
