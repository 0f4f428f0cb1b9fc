//! smtpd(8) and smtpd.conf(5) name everything there is, and nothing else.

#![expect(
    clippy::unwrap_used,
    reason = "the configuration spares test functions, not their helpers"
)]

use clap::CommandFactory as _;
use redspool_core::config::reserved_words;
use redspool_smtpd::options::Options;
use redspool_tools::rig::tool;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn page(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

/// The words behind macros at the start of a line, as long as those are macros for what is typed.
fn typed<'p>(page: &'p str, macros: &[&str]) -> BTreeSet<&'p str> {
    let lines = page
        .lines()
        .filter(|line| macros.iter().any(|name| line.starts_with(name)));
    let letters = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    lines.flat_map(|line| line.split(letters)).collect()
}

#[test]
fn every_option_is_described_and_every_description_is_of_an_option() {
    let text = page("smtpd.8");
    let described: BTreeSet<_> = text
        .lines()
        .filter(|line| line.starts_with(".It Fl"))
        .flat_map(|line| line.split("Fl ").skip(1))
        .map(|rest| rest.split(' ').next().unwrap().to_owned())
        .collect();
    let mut known = BTreeSet::new();
    let mut command = Options::command();
    command.build();
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        known.extend(arg.get_short().map(String::from));
        known.extend(arg.get_long().map(|long| format!("-{long}")));
    }
    assert_eq!(described, known);
}

#[test]
fn every_variable_of_the_environment_is_described() {
    let text = page("smtpd.8");
    for arg in Options::command()
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
    {
        if let Some(variable) = arg.get_env() {
            let line = format!(".It Ev {}\n", variable.to_str().unwrap());
            assert!(text.contains(&line), "{line}");
        }
    }
}

#[test]
fn every_reserved_word_is_named() {
    let text = page("smtpd.conf.5");
    let named = typed(&text, &[".It ", ".Ic ", ".Cm "]);
    let missing: Vec<_> = reserved_words()
        .iter()
        .filter(|word| !named.contains(**word))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn pages_have_no_faults() {
    let Some(mandoc) = tool("mandoc", "mandoc") else {
        return;
    };
    for name in ["smtpd.8", "smtpd.conf.5"] {
        let output = Command::new(&mandoc)
            .args(["-T", "lint"])
            .arg(path(name))
            .output();
        let output = String::from_utf8(output.unwrap().stdout).unwrap();
        // Whether the other pages are installed is not their fault.
        let faults: Vec<_> = output
            .lines()
            .filter(|line| !line.contains("referenced manual not found"))
            .collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
