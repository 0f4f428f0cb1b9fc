//! What is told of a transfer while it goes on, and at its end.

use crate::console::Console;
use crate::escape;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::Path;

/// Messages between two looks at the progress bar's clock.
const STEP: u64 = 64;

/// Messages, envelopes and octets of content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) messages: u64,
    pub(super) envelopes: u64,
    pub(super) octets: u64,
}

impl Count {
    pub(super) fn add(&mut self, envelopes: usize, octets: u64) {
        self.messages += 1;
        self.envelopes += envelopes as u64;
        self.octets += octets;
    }

    pub(super) fn text(self, what: &str) -> String {
        let Self {
            messages,
            envelopes,
            octets,
        } = self;
        format!("{messages} messages, {envelopes} envelopes, {octets} octets {what}\n")
    }

    pub(super) fn described(self) -> serde_json::Value {
        json!({
            "messages": self.messages,
            "envelopes": self.envelopes,
            "octets": self.octets,
        })
    }
}

/// The way to whoever looks on.
pub(super) struct Report<'c> {
    console: &'c mut Console,
    json: bool,
    /// On the standard error, and only if that is a terminal.
    bar: ProgressBar,
    seen: u64,
    /// Faults told so far.
    pub(super) faults: u64,
}

impl<'c> Report<'c> {
    pub(super) fn new(console: &'c mut Console, json: bool) -> Self {
        let style = ProgressStyle::with_template("{bar:40} {msg} messages, {eta} left");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self {
            console,
            json,
            bar: ProgressBar::new(0).with_style(style),
            seen: 0,
            faults: 0,
        }
    }

    /// One more message is done, `done` of `total` parts of the way.
    pub(super) fn progress(&mut self, done: u64, total: u64) {
        self.seen += 1;
        if self.seen.is_multiple_of(STEP) {
            self.bar.set_length(total);
            self.bar.set_position(done);
            self.bar.set_message(self.seen.to_string());
        }
    }

    /// Something is left behind.
    pub(super) fn fault(&mut self, path: &Path, reason: &str) {
        self.faults += 1;
        self.console.end_with(1);
        self.line("fault", path, reason);
    }

    /// Something worth knowing.
    pub(super) fn note(&mut self, path: &Path, text: &str) {
        self.line("note", path, text);
    }

    fn line(&mut self, kind: &str, path: &Path, text: &str) {
        let path = path.to_string_lossy();
        let mut line = Vec::new();
        if self.json {
            let object = json!({kind: {"path": path, "reason": text}});
            line.extend_from_slice(object.to_string().as_bytes());
        } else {
            line.extend_from_slice(format!("{kind}: ").as_bytes());
            escape::printable(&path, &mut line);
            line.extend_from_slice(b": ");
            escape::printable(text, &mut line);
        }
        line.push(b'\n');
        let console = &mut *self.console;
        self.bar.suspend(|| console.print(&line));
    }

    /// Whether nobody reads what is told any more.
    pub(super) fn gone(&self) -> bool {
        self.console.gone()
    }

    /// The last words.
    pub(super) fn end(self, text: &str, object: &serde_json::Value) {
        self.bar.finish_and_clear();
        if self.json {
            self.console.print(format!("{object}\n").as_bytes());
        } else {
            self.console.print(text.as_bytes());
        }
    }

    /// It ends before its end.
    pub(super) fn fail(self, why: &str, status: u8) {
        self.bar.finish_and_clear();
        self.console.fail(why);
        self.console.end_with(status);
    }
}
