//! A Maildir that tells when mail arrives.

use super::wait::PATIENCE;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A Maildir under watch.
pub struct Mailbox {
    path: PathBuf,
    watch: Inotify,
}

impl Mailbox {
    /// Makes the Maildir if it is missing and watches it.
    pub fn new(path: &Path) -> Self {
        for part in ["tmp", "new", "cur"] {
            fs::create_dir_all(path.join(part)).expect("a Maildir can be made");
        }
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let watch = Inotify::init(flags).expect("a directory can be watched");
        let events = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
        watch
            .add_watch(&path.join("new"), events)
            .expect("a directory can be watched");
        Self {
            path: path.to_owned(),
            watch,
        }
    }

    /// The new messages there are now.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(self.path.join("new")).expect("a Maildir can be read");
        let read = |entry: std::io::Result<fs::DirEntry>| fs::read(entry.ok()?.path()).ok();
        entries.filter_map(read).collect()
    }

    /// Waits until there are at least `count` new messages, and returns all.
    pub fn wait(&self, count: usize) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let messages = self.messages();
            if messages.len() >= count {
                return messages;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let here = messages.len();
            assert!(
                !left.is_zero(),
                "{here} of {count} messages in {}",
                self.path.display()
            );
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let _ = poll(
                &mut [PollFd::new(self.watch.as_fd(), PollFlags::POLLIN)],
                timeout,
            );
            // Only the wake-up matters; which file it was, the listing tells.
            match self.watch.read_events() {
                Ok(_) | Err(Errno::EAGAIN) => {}
                Err(error) => panic!("watching {}: {error}", self.path.display()),
            }
        }
    }

    /// Waits for one message and returns it as text.
    pub fn one(&self) -> String {
        let mut messages = self.wait(1);
        assert_eq!(messages.len(), 1, "one message was expected");
        String::from_utf8(messages.remove(0)).expect("test messages are text")
    }
}
