//! What opening a store found that is not as it should be, for the log and for people.

use redspool_core::id::MessageId;
use std::fmt;

/// Everything that was found, in the order it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    found: Vec<Finding>,
    back_in_time: bool,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What and where, in one sentence.
    pub what: String,
    /// Messages that are concerned, as far as known.
    pub messages: Vec<MessageId>,
    /// Whether it is damage; else it is what a crash leaves behind.
    pub damage: bool,
}

impl Findings {
    /// Notes damage.
    pub(super) fn note(&mut self, what: String, messages: impl IntoIterator<Item = MessageId>) {
        self.found.push(Finding {
            what,
            messages: messages.into_iter().collect(),
            damage: true,
        });
    }

    /// Notes a message that was set aside.
    pub(super) fn set_aside(&mut self, message: MessageId, reason: &str) {
        self.note(format!("message {message} is damaged: {reason}"), [message]);
    }

    /// Notes that the database is older than it should be.
    pub(super) fn went_back(&mut self, what: String) {
        self.back_in_time = true;
        self.note(what, []);
    }

    /// Notes how the log ended.
    pub(super) fn ended(&mut self, what: String, messages: impl IntoIterator<Item = MessageId>) {
        self.found.push(Finding {
            what,
            messages: messages.into_iter().collect(),
            damage: false,
        });
    }

    /// All of them.
    pub fn all(&self) -> &[Finding] {
        &self.found
    }

    /// Whether the database was older than the last checkpoint. The log makes up for one
    /// checkpoint; else the database is built anew, with marks for what may come twice.
    pub fn back_in_time(&self) -> bool {
        self.back_in_time
    }

    /// Whether anything is damaged.
    pub fn damage(&self) -> bool {
        self.found.iter().any(|finding| finding.damage)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let [one] = self.messages[..]
            && self.what.contains(&one.to_string())
        {
            return Ok(());
        }
        for (index, message) in self.messages.iter().enumerate() {
            let lead = if index == 0 {
                "; messages concerned: "
            } else {
                " "
            };
            write!(f, "{lead}{message}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.found {
            writeln!(f, "{finding}")?;
        }
        Ok(())
    }
}
