//! Help at every level, made from the command table.

use crate::commands::{Command, Privilege};
use crate::options::Options;
use crate::parse::Node;
use std::fmt::Write as _;

/// Columns of a line of text.
const WIDTH: usize = 79;

/// What the words so far mean and what can follow.
pub(crate) fn text(node: &Node) -> String {
    let commands = node.commands();
    let body = match commands.as_slice() {
        [command] => one(command),
        several => list(several),
    };
    let path = match node.path() {
        path if path.is_empty() => String::new(),
        path => format!(" {path}"),
    };
    let more = if commands.len() > 1 { " <command>" } else { "" };
    let mut help = format!("Usage: smtpctl [options]{path}{more}\n\n{body}\n");
    if path.is_empty() {
        help.push_str(
            "Every word may be abbreviated as long as only one word begins so. \
             `--help` after\nsome words explains them.\n\n",
        );
    }
    help.push_str("Options:\n");
    help.push_str(&Options::help());
    help
}

/// Everything about a command.
fn one(command: &Command) -> String {
    let mut text = String::new();
    for pattern in command.patterns {
        text.push_str(pattern);
        text.push('\n');
    }
    fill(&mut text, "    ", command.manual);
    let who = match command.privilege {
        Privilege::Operator => "For root and the user smtpd runs as.",
        Privilege::Anyone => "For everybody.",
    };
    fill(&mut text, "    ", who);
    if command.service.is_none() {
        fill(&mut text, "    ", "Not served by this version.");
    }
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
        let mut first = first.unwrap_or_default().trim_end().to_owned();
        if command.service.is_none() {
            first.push_str(" (Not served by this version.)");
        }
        fill(&mut text, "    ", &first);
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
