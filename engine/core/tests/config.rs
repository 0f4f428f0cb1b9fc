//! Configurations, good and bad: what is understood, and what the administrator is told.
//!
//! Each `tests/config/good/*.conf` parses to the summary in the `.out` file beside it, each
//! `tests/config/bad/*.conf` fails with exactly that text. Files they name come from
//! `tests/config/files`. `UPDATE_EXPECT=1` writes the `.out` files anew.

use expect_test::expect_file;
use redspool_core::config::{ActionKind, Config, Diagnostic, Input, LocalNames, Severity, parse};
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
    parse(&input, &mut load)
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
