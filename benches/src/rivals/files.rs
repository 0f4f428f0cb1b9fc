//! A queue of files, whatever its layout: whoever hands in a message writes its files, as the process
//! of a client does in a mail server; a few threads do the calls of the attempts beside them.

use super::pool::Pool;
use crate::mail::{End, Mail};
use crate::queue::{Done, Queue};
use redspool_core::queue::Submission;
use std::io;
use std::sync::Arc;

/// How a mail server lays out its queue.
pub(super) trait Layout: Send + Sync + 'static {
    /// Makes a message durable.
    fn submit(&self, submission: &Submission) -> io::Result<()>;

    /// Notes the end of an attempt; as the models do it, nothing is synced.
    fn settle(&self, mail: Mail, end: End) -> io::Result<()>;

    /// Reads envelopes and content; gives the octets of the content.
    fn load(&self, mail: Mail) -> io::Result<u64>;
}

/// Threads for attempts.
const AGENTS: usize = 8;

pub(super) struct Files<L> {
    layout: Arc<L>,
    agents: Pool,
}

impl<L: Layout> Files<L> {
    pub(super) fn start(layout: L) -> io::Result<Box<dyn Queue>> {
        Ok(Box::new(Self {
            layout: Arc::new(layout),
            agents: Pool::start(AGENTS)?,
        }))
    }
}

impl<L: Layout> Queue for Files<L> {
    fn submit(&self, submission: Submission, done: Done) {
        done(self.layout.submit(&submission));
    }

    fn settle(&self, mail: Mail, end: End, done: Done) {
        let layout = Arc::clone(&self.layout);
        self.agents.run(move || done(layout.settle(mail, end)));
    }

    fn load(&self, mail: Mail) -> io::Result<u64> {
        self.layout.load(mail)
    }
}
