//! What `trace` and `profile` of smtpctl(8) speak of.
//!
//! What: the words of the command line, as values for requests and for the log.
//! Promises: [`TraceTopic::ALL`] and [`ProfileTopic::ALL`] hold every word once, in the order of
//! the manual.
//! Absent on purpose: what is printed; the drivers of smtpd know.

use serde::{Deserialize, Serialize};

/// A subsystem whose work can be traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TraceTopic {
    /// Messages between smtpctl and smtpd, and what the engine is told.
    Imsg,
    /// Octets read and written on every connection.
    Io,
    /// SMTP with clients, line by line.
    Smtp,
    /// What was decided about each command of a client.
    Filters,
    /// SMTP with other hosts, line by line, and what sessions there are told.
    Mta,
    /// Notices to senders.
    Bounce,
    /// What the schedule is told, and what it wants done.
    Scheduler,
    /// From a recipient to its deliveries.
    Expand,
    /// Questions to tables, to the users of the system and to the DNS.
    Lookup,
    /// Every change of a counter of `show stats`.
    Stat,
    /// Which `match` line took a recipient.
    Rules,
    /// Orders to the helper that runs deliveries, and its answers.
    Mproc,
    /// All of these.
    All,
}

impl TraceTopic {
    /// Every topic, in the order of the manual.
    pub const ALL: [Self; 13] = [
        Self::Imsg,
        Self::Io,
        Self::Smtp,
        Self::Filters,
        Self::Mta,
        Self::Bounce,
        Self::Scheduler,
        Self::Expand,
        Self::Lookup,
        Self::Stat,
        Self::Rules,
        Self::Mproc,
        Self::All,
    ];

    /// The word of the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Imsg => "imsg",
            Self::Io => "io",
            Self::Smtp => "smtp",
            Self::Filters => "filters",
            Self::Mta => "mta",
            Self::Bounce => "bounce",
            Self::Scheduler => "scheduler",
            Self::Expand => "expand",
            Self::Lookup => "lookup",
            Self::Stat => "stat",
            Self::Rules => "rules",
            Self::Mproc => "mproc",
            Self::All => "all",
        }
    }

    /// The topic of a word, which must be written in full.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.word() == word)
    }

    /// The single topics this one stands for.
    pub fn each(self) -> impl Iterator<Item = Self> {
        let single = |topic: &Self| *topic != Self::All;
        let wanted = move |topic: &Self| self == Self::All || *topic == self;
        Self::ALL.into_iter().filter(single).filter(wanted)
    }
}

/// Work that can be timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProfileTopic {
    /// What the store does.
    Queue,
    /// Requests of smtpctl and events of the engine.
    Imsg,
}

impl ProfileTopic {
    /// Every topic.
    pub const ALL: [Self; 2] = [Self::Queue, Self::Imsg];

    /// The word of the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Imsg => "imsg",
        }
    }

    /// The topic of a word, which must be written in full.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_their_topics_in_full_only() {
        for topic in TraceTopic::ALL {
            assert_eq!(TraceTopic::named(topic.word()), Some(topic));
        }
        for topic in ProfileTopic::ALL {
            assert_eq!(ProfileTopic::named(topic.word()), Some(topic));
        }
        for word in ["", "i", "SMTP", "smtp ", "verbose"] {
            assert_eq!(TraceTopic::named(word), None, "{word:?}");
            assert_eq!(ProfileTopic::named(word), None, "{word:?}");
        }
    }

    #[test]
    fn all_stands_for_every_other_topic() {
        let all: Vec<_> = TraceTopic::All.each().collect();
        assert_eq!(all.len(), TraceTopic::ALL.len() - 1);
        assert!(!all.contains(&TraceTopic::All));
        let one: Vec<_> = TraceTopic::Mta.each().collect();
        assert_eq!(one, [TraceTopic::Mta]);
    }
}
