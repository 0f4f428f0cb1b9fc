//! The pages in this folder are those that the command table makes.

use expect_test::expect_file;
use redspool_tools::rig::tool;
use std::path::Path;
use std::process::Command;

const AGAIN: &str = "UPDATE_EXPECT=1 cargo test -p redspool-ctl --test pages";

fn same(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    expect_file![path].assert_eq(made);
}

#[test]
fn pages_are_those_of_the_command_table() {
    eprintln!("after a change of the table: {AGAIN}");
    same("smtpctl.8", &redspool_ctl::smtpctl_page());
    same("mailq.8", &redspool_ctl::mailq_page());
}

#[test]
fn pages_have_no_faults() {
    let Some(mandoc) = tool("mandoc", "mandoc") else {
        return;
    };
    for name in ["smtpctl.8", "mailq.8"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let output = Command::new(&mandoc)
            .args(["-T", "lint"])
            .arg(path)
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
