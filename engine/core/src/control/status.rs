//! What `show status` shows.

use crate::queue;
use serde::{Deserialize, Serialize};

/// How the daemon is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRow {
    /// No local delivery is started.
    pub mda_paused: bool,
    /// No relaying is started.
    pub mta_paused: bool,
    /// No SMTP connection is accepted.
    pub smtp_paused: bool,
    /// How the queue's store is.
    pub queue: QueueState,
    /// Messages in the corrupt bucket.
    pub corrupt: u64,
    /// What the last opening of the store found.
    pub opening: OpeningRow,
}

/// How the queue's store is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueState {
    /// It takes mail.
    #[default]
    Sound,
    /// New mail is put off, for disk space is short; what is queued goes on.
    Short {
        /// For so many seconds.
        seconds: u64,
        /// The space, if it is known.
        space: Option<SpaceRow>,
    },
    /// It failed and is being opened anew; nothing goes on.
    Down {
        /// For so many seconds.
        seconds: u64,
        /// The last error.
        reason: String,
    },
}

/// Space of the queue's file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceRow {
    /// Octets free.
    pub free: u64,
    /// Octets that have to stay free.
    pub reserve: u64,
    /// Files that can be made.
    pub files: u64,
    /// Files that it must be possible to make.
    pub files_reserve: u64,
}

/// What opening the store found that is not as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpeningRow {
    /// Things that are damaged; the log has them one by one.
    pub damage: u32,
    /// The database was older than the last checkpoint: something put an old copy there, or the
    /// disk lost writes that it had confirmed.
    pub back_in_time: bool,
}

impl From<queue::Paused> for StatusRow {
    fn from(paused: queue::Paused) -> Self {
        Self {
            mda_paused: paused.mda,
            mta_paused: paused.mta,
            smtp_paused: paused.smtp,
            ..Self::default()
        }
    }
}
