//! Help at every level, made from the command table.

use crate::commands::{Command, Privilege};
use crate::options::Options;
use crate::parse::Node;
use std::fmt::Write as _;

/// Columns of a line of text.
const WIDTH: usize = 79;

/// What the words so far mean and what can follow.
pub(crate) fn text(node: &Node) -> String {
    let (path, commands) = (node.path(), node.commands());
    let mut help = match commands.as_slice() {
        [command] => one(command),
        several => {
            let blank = if path.is_empty() { "" } else { " " };
            let list = list(several);
            format!("Usage: smtpctl [options] {path}{blank}<command>\n\n{list}\n")
        }
    };
    if path.is_empty() {
        let hint = "Every word may be abbreviated as long as only one word begins so. `--help` \
                    after some words explains them, and the options of a command.";
        fill(&mut help, "", hint);
        help.push('\n');
    }
    help.push_str("Options:\n");
    let known = match commands.as_slice() {
        [command] => command.options,
        _ => &[],
    };
    help.push_str(&Options::help(known));
    help
}

/// Everything about a command.
fn one(command: &Command) -> String {
    let mut text = String::new();
    let mut label = "Usage: ";
    for pattern in command.patterns {
        let _ = writeln!(text, "{label}smtpctl [options] {pattern}");
        label = "       ";
    }
    text.push('\n');
    fill(&mut text, "", command.manual);
    let who = match command.privilege {
        Privilege::Owner => "For root and the user smtpd runs as.",
        Privilege::Operator => {
            "For root, the user smtpd runs as, and the group that `smtpd --operators` names."
        }
        Privilege::Anyone => "For everybody.",
    };
    fill(&mut text, "", who);
    text.push('\n');
    text
}

/// Every command with the first sentence about it.
fn list(commands: &[&Command]) -> String {
    let mut text = String::new();
    for command in commands {
        for pattern in command.patterns {
            text.push_str(pattern);
            text.push('\n');
        }
        let first = command.manual.split_inclusive(". ").next();
        fill(&mut text, "    ", first.unwrap_or_default().trim_end());
    }
    text
}

/// Appends `words` as lines that begin with `indent`.
fn fill(text: &mut String, indent: &str, words: &str) {
    let mut column = 0;
    for word in words.split(' ') {
        let end = column + 1 + word.len();
        if column == 0 || end > WIDTH {
            let line_end = if column == 0 { "" } else { "\n" };
            let _ = write!(text, "{line_end}{indent}{word}");
            column = indent.len() + word.len();
        } else {
            text.push(' ');
            text.push_str(word);
            column = end;
        }
    }
    text.push('\n');
}
