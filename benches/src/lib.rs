//! Workloads, and the layouts of other mail servers to compare with.
//!
//! What: [`Mailbag`] makes mail to submit, [`closed_loop`] lets so many clients wait at a time, and
//! [`FilePerMessage`] and [`FilePerEnvelope`] keep a queue in files as others do.
//! Promises: each baseline makes durable what its model's promise would need, and no more; all run
//! on the same disk in the same run.
//! Absent on purpose: rival databases.

use bytes::Bytes;
use redspool_core::addr::Source;
use redspool_core::envelope::{Delivery, Dsn, Envelope, Flags, Relay};
use redspool_core::id::{MessageId, MessageIds};
use redspool_core::queue::{Body, Message, Submission};
use redspool_core::rng::Rng;
use redspool_core::time::Timestamp;
use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A directory for a benchmark's files on the disk the build is on; `/tmp` may be memory.
pub fn scratch() -> io::Result<TempDir> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    fs::create_dir_all(&target)?;
    tempfile::tempdir_in(target)
}

/// Mail to submit: ids as the daemon draws them, one recipient, a body of so many octets.
#[derive(Debug)]
pub struct Mailbag {
    ids: Mutex<(MessageIds, Rng)>,
    body: Bytes,
}

impl Mailbag {
    /// Mail with bodies of `size` octets.
    pub fn new(size: usize) -> Self {
        let line = b"The quick brown fox jumps over the lazy dog and thinks nothing of it.\r\n";
        Self {
            ids: Mutex::new((MessageIds::new(1), Rng::new(1))),
            body: line.iter().copied().cycle().take(size).collect(),
        }
    }

    /// The body all of it has.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The next message-id.
    pub fn id(&self) -> MessageId {
        let mut guard = self.ids.lock().expect("no holder panics");
        let (ids, rng) = &mut *guard;
        loop {
            match ids.draw(rng) {
                Some(id) => return id,
                None => ids.advance(),
            }
        }
    }

    /// The next submission.
    pub fn submission(&self) -> Submission {
        let id = self.id();
        Submission {
            message: Message {
                id,
                size: self.body.len() as u64,
                ctime: Timestamp::from_secs(1_700_000_000),
                eight_bit: false,
            },
            body: Body::Whole(self.body.clone()),
            envelopes: vec![envelope(id)],
        }
    }
}

/// The envelope of a message of the bag.
pub fn envelope(message: MessageId) -> Envelope {
    let rcpt: redspool_core::addr::Address =
        "recipient@example.org".parse().expect("a valid address");
    Envelope {
        id: message.envelope(NonZeroU32::MIN),
        action: "outbound".into(),
        tag: "".into(),
        delivery: Delivery::Mta(Relay {
            host: None,
            helo: "".into(),
        }),
        smtpname: "mx.example.com".into(),
        helo: "client.example.net".into(),
        hostname: "client.example.net".into(),
        username: "".into(),
        source: Source::Inet4([192, 0, 2, 1].into()),
        sender: "sender@example.net".parse().expect("a valid address"),
        dest: rcpt.clone(),
        rcpt,
        ctime: Timestamp::from_secs(1_700_000_000),
        last_try: Timestamp::EPOCH,
        last_bounce: Timestamp::EPOCH,
        ttl: Duration::from_hours(96),
        retry: 0,
        flags: Flags::default(),
        dsn: Dsn::default(),
        status: None,
        errorline: "".into(),
    }
}

/// Lets `waiting` clients do `count` pieces of work, each one after the other, and gives the time
/// for all.
pub fn closed_loop(waiting: usize, count: u64, work: impl Fn() + Sync) -> Duration {
    let left = AtomicU64::new(count);
    let client = || {
        let take = |left: u64| left.checked_sub(1);
        while left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
        {
            work();
        }
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..waiting {
            scope.spawn(client);
        }
    });
    start.elapsed()
}

/// One file per message, as Postfix keeps its queue: written and synced under a temporary name,
/// renamed, and the directory synced.
#[derive(Debug)]
pub struct FilePerMessage {
    incoming: PathBuf,
    queue: PathBuf,
}

impl FilePerMessage {
    /// An empty queue below `spool`.
    pub fn new(spool: &Path) -> io::Result<Self> {
        let layout = Self {
            incoming: spool.join("incoming"),
            queue: spool.join("queue"),
        };
        fs::create_dir(&layout.incoming)?;
        fs::create_dir(&layout.queue)?;
        Ok(layout)
    }

    /// Makes a message durable.
    pub fn submit(&self, id: MessageId, body: &[u8]) -> io::Result<()> {
        let name = id.to_string();
        let new = self.incoming.join(&name);
        let mut content = Vec::with_capacity(body.len() + 512);
        envelope(id).encode(&mut content);
        content.extend_from_slice(body);
        write_synced(&new, &content)?;
        fs::rename(&new, self.queue.join(&name))?;
        File::open(&self.queue)?.sync_all()
    }

    /// Forgets a delivered message; nothing is synced.
    pub fn settle(&self, id: MessageId) -> io::Result<()> {
        fs::remove_file(self.queue.join(id.to_string()))
    }
}

/// A directory per message with a file for the message and one per envelope, as OpenSMTPD keeps
/// its queue, synced as it would have to be for the same promise.
#[derive(Debug)]
pub struct FilePerEnvelope {
    incoming: PathBuf,
    queue: PathBuf,
}

impl FilePerEnvelope {
    /// An empty queue below `spool`.
    pub fn new(spool: &Path) -> io::Result<Self> {
        let FilePerMessage { incoming, queue } = FilePerMessage::new(spool)?;
        Ok(Self { incoming, queue })
    }

    fn bucket(&self, id: MessageId) -> PathBuf {
        self.queue.join(format!("{:02x}", id.get() >> 24))
    }

    /// Makes a message durable.
    pub fn submit(&self, id: MessageId, body: &[u8]) -> io::Result<()> {
        let new = self.incoming.join(id.to_string());
        fs::create_dir(&new)?;
        let envelope = envelope(id);
        let mut content = Vec::with_capacity(512);
        envelope.encode(&mut content);
        write_synced(&new.join("message"), body)?;
        write_synced(&new.join(envelope.id.to_string()), &content)?;
        File::open(&new)?.sync_all()?;
        let bucket = self.bucket(id);
        match fs::create_dir(&bucket) {
            Err(why) if why.kind() != io::ErrorKind::AlreadyExists => return Err(why),
            _ => {}
        }
        fs::rename(&new, bucket.join(id.to_string()))?;
        File::open(&bucket)?.sync_all()
    }

    /// Forgets a delivered message; nothing is synced.
    pub fn settle(&self, id: MessageId) -> io::Result<()> {
        let message = self.bucket(id).join(id.to_string());
        fs::remove_file(message.join(envelope(id).id.to_string()))?;
        fs::remove_file(message.join("message"))?;
        fs::remove_dir(message)
    }
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_layouts_end_empty() {
        let spool = scratch().unwrap();
        let (one, two) = (spool.path().join("1"), spool.path().join("2"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        let mail = Mailbag::new(1024);
        let id = mail.id();
        let postfix = FilePerMessage::new(&one).unwrap();
        postfix.submit(id, mail.body()).unwrap();
        assert!(one.join("queue").join(id.to_string()).exists());
        postfix.settle(id).unwrap();
        assert_eq!(fs::read_dir(one.join("queue")).unwrap().count(), 0);
        let opensmtpd = FilePerEnvelope::new(&two).unwrap();
        opensmtpd.submit(id, mail.body()).unwrap();
        opensmtpd.settle(id).unwrap();
        let bucket = opensmtpd.bucket(id);
        assert_eq!(fs::read_dir(bucket).unwrap().count(), 0);
    }

    #[test]
    fn a_closed_loop_does_all_the_work() {
        let done = AtomicU64::new(0);
        closed_loop(7, 1_000, || {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 1_000);
    }
}
