//! What shells offer with the scripts of `completions`.

use crate::place::{Place, program};
use redspool_tools::rig::tool;
use std::path::Path;
use std::process::Command;

/// What a shell prints that runs the script of `completions` and then `commands`.
fn run(shell: &Path, name: &str, args: &[&str], commands: &str) -> Vec<String> {
    let script = program("smtpctl").args(["completions", name]).output();
    let script = String::from_utf8(script.unwrap().stdout).unwrap();
    let output = Command::new(shell)
        .args(args)
        .arg("-c")
        .arg(format!("{script}\n{commands}"))
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(complaints, "", "{name} {commands}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(String::from).collect()
}

/// Lines typed so far, and what must be offered for the last word.
const OFFERS: [(&str, &str); 13] = [
    ("sp", "spf"),
    ("show ho", "hosts hoststats"),
    ("sh st", "stats status"),
    ("pau env ", "all"),
    ("pause mta from ::1 ", "for"),
    ("show queue ", ""),
    ("show queue 8d3f01aa ", ""),
    ("s q ", ""),
    ("--spool /x --timeout 3 log ", "brief verbose"),
    ("log --spool /x v", "verbose"),
    ("monitor --co", "--count"),
    ("encrypt --scheme y", "yescrypt"),
    ("show status --so", "--socket"),
];

fn check(offers: impl Fn(&str) -> Vec<String>) {
    for (typed, want) in OFFERS {
        let mut offered = offers(typed);
        offered.sort();
        assert_eq!(offered.join(" "), want, "{typed}");
    }
}

#[test]
fn bash_completes() {
    let Some(bash) = tool("bash", "bash") else {
        return;
    };
    check(|typed| {
        let words: Vec<_> = typed.split(' ').map(|word| format!("'{word}'")).collect();
        let (words, last) = (words.join(" "), words.len());
        let commands = format!(
            "COMP_WORDS=(smtpctl {words}); COMP_CWORD={last}; _smtpctl; echo \"${{COMPREPLY[@]}}\""
        );
        run(&bash, "bash", &["--norc"], &commands)
    });
    // bash takes the equals sign for a word.
    let commands = "COMP_WORDS=(smtpctl --scheme = y); COMP_CWORD=3; _smtpctl; \
                    echo ${COMPREPLY[@]}; complete -p smtpctl";
    let offered = run(&bash, "bash", &["--norc"], commands).join(" ");
    assert_eq!(offered, "yescrypt complete -F _smtpctl smtpctl");
}

#[test]
fn zsh_completes() {
    let Some(zsh) = tool("zsh", "zsh") else {
        return;
    };
    check(|typed| {
        let words: Vec<_> = typed.split(' ').map(|word| format!("'{word}'")).collect();
        let (words, current) = (words.join(" "), words.len() + 1);
        // Outside of its line editor, what is offered is not yet matched with what is typed.
        let commands = format!(
            "words=(smtpctl {words}); CURRENT={current}; \
             compadd() {{ shift; print -r -- ${{(M)@:#$words[CURRENT]*}} }}; _smtpctl"
        );
        run(&zsh, "zsh", &["-f"], &commands)
    });
}

#[test]
fn fish_completes() {
    let Some(fish) = tool("fish", "fish") else {
        return;
    };
    check(|typed| {
        let commands = format!("complete -C 'smtpctl {typed}' | string replace -r '\\t.*' ''");
        run(&fish, "fish", &["--no-config"], &commands)
    });
}

#[test]
fn other_shells_are_not_known() {
    let place = Place::new();
    let shown = place.smtpctl(&["completions", "tcsh"]);
    let want = "[stderr]\npossibilities are:\ncompletions bash\ncompletions zsh\n\
                completions fish\n[exit 255]\n";
    assert_eq!(shown, want);
}
