//! Messages that sendmail has parked while no daemon ran: each gets into the queue once.
//!
//! Promises: before a parked message can be committed, its file is renamed to carry the message-id
//! it will have, durably; after the commit the file is removed, durably, before the schedule
//! learns of the message. So when we are killed between, a claimed file whose id is in the store
//! is a copy (nothing of it can have been delivered) and goes, and one whose id is not there was
//! never committed and is taken again. A file is read through a handle that followed no link, must
//! be regular and have one name, and its owner is who submits.
//! Absent on purpose: privileges; the directory's group may read what others park.
//! Fails: a message that is refused stays where it is, and the log says why; it is tried again at
//! the next start or `discover all`, one that is put off after a minute.

use crate::control::read;
use crate::daemon::Shared;
use crate::discover::orphans;
use crate::privileges::make_directory;
use crate::session;
use redspool_core::control::submission::{Dialog, Draft, OFFLINE, PARKED, Step, reply_line};
use redspool_core::id::MessageId;
use redspool_core::queue::{Selector, StoreError};
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream,
};
use tokio::sync::watch;

/// Octets between a parked message's dialog and its session.
const PIPE: usize = 64 << 10;

/// The directory of parked messages.
pub(crate) struct Offline {
    path: PathBuf,
    directory: Arc<File>,
    /// Names that were refused for good since the start; not tried again by themselves.
    refused: BTreeSet<String>,
}

impl Offline {
    /// Opens it, and makes it if it is missing.
    pub(crate) fn open(spool: &Path) -> io::Result<Self> {
        let path = spool.join(OFFLINE);
        make_directory(&path)?;
        Ok(Self {
            directory: Arc::new(File::open(&path)?),
            path,
            refused: BTreeSet::new(),
        })
    }
}

/// A parked message on its way into the queue.
pub(crate) struct Claim {
    directory: Arc<File>,
    name: String,
}

impl Claim {
    /// Marks the file with the id the message will have.
    pub(crate) async fn take(&mut self, id: MessageId) -> Result<MessageId, StoreError> {
        let claimed = format!("{}.{id}", self.name);
        let (directory, from, to) = (
            Arc::clone(&self.directory),
            self.name.clone(),
            claimed.clone(),
        );
        let renamed = tokio::task::spawn_blocking(move || rename(&directory, &from, &to));
        match renamed.await {
            Ok(Ok(())) => {
                self.name = claimed;
                Ok(id)
            }
            Ok(Err(error)) => Err(StoreError::Io(error.to_string())),
            Err(error) => Err(StoreError::Io(error.to_string())),
        }
    }

    /// Removes the file, whose message is durable; says whether that is durable, too.
    pub(crate) fn finish(self) -> bool {
        match remove(&self.directory, &self.name) {
            Ok(()) => true,
            Err(error) => {
                let name = &self.name;
                tracing::error!("parked message {name} cannot be removed, it waits: {error}");
                false
            }
        }
    }
}

fn rename(directory: &File, from: &str, to: &str) -> io::Result<()> {
    renameat(directory, from, directory, to)?;
    directory.sync_all()
}

fn remove(directory: &File, name: &str) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => directory.sync_all(),
        Err(error) => Err(error.into()),
    }
}

/// The name of a parked message without its claim, and the id it was claimed for.
fn parts(name: &str) -> Option<(&str, Option<MessageId>)> {
    let digits = name.strip_prefix(PARKED)?;
    let (digits, id) = match digits.split_once('.') {
        Some((digits, id)) => (digits, Some(id.parse().ok()?)),
        None => (digits, None),
    };
    let known = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    known.then_some((name.get(..PARKED.len().saturating_add(32))?, id))
}

/// The names of parked messages, in order.
fn names(path: &Path, most: usize) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)?.take(most) {
        let name = entry?.file_name();
        names.extend(
            name.to_str()
                .filter(|name| parts(name).is_some())
                .map(str::to_owned),
        );
    }
    names.sort();
    Ok(names)
}

/// Reads a parked message and who has parked it.
fn load(shared: &Shared, directory: &File, name: &str) -> io::Result<(Draft, u32)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    let facts = file.metadata()?;
    let limits = shared.limits();
    let most = limits.message_size.saturating_add(limits.parked_head);
    if !facts.is_file() || facts.nlink() != 1 {
        return Err(io::Error::other("not a regular file with one name"));
    }
    if facts.len() > most {
        return Err(io::Error::other(format!("more than {most} octets")));
    }
    let mut octets = Vec::new();
    file.take(most).read_to_end(&mut octets)?;
    let draft = Draft::parse(&octets, &limits).map_err(io::Error::other)?;
    Ok((draft, facts.uid()))
}

/// Ends the claims of a process that was killed. Gives the ids of messages that are in the store
/// and may not be scheduled.
pub(crate) async fn settle_claims(shared: &Arc<Shared>) -> Result<Vec<MessageId>, StoreError> {
    let offline = shared.offline.lock().await;
    claims(shared, &offline).await
}

async fn claims(shared: &Arc<Shared>, offline: &Offline) -> Result<Vec<MessageId>, StoreError> {
    let (path, directory) = (offline.path.clone(), Arc::clone(&offline.directory));
    let most = shared.limits().parked_pass;
    let settle = move |reader: &dyn redspool_core::queue::Reader| {
        let told = |error: io::Error| StoreError::Io(format!("{}: {error}", path.display()));
        let mut queued = Vec::new();
        for name in names(&path, most).map_err(told)? {
            let Some((plain, Some(id))) = parts(&name) else {
                continue;
            };
            if reader.exists(id)? {
                remove(&directory, &name).map_err(told)?;
                queued.push(id);
            } else {
                rename(&directory, &name, plain).map_err(told)?;
            }
        }
        Ok(queued)
    };
    read(shared, settle).await
}

/// Picks parked messages up at once, and then now and then until `stop` turns true.
pub(crate) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = collect(&shared, false) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        tokio::select! {
            () = tokio::time::sleep(shared.limits().parked_interval) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Submits what is parked, one after the other, and says how many messages it were. `again`: those
/// that were refused, too.
pub(crate) async fn collect(shared: &Arc<Shared>, again: bool) -> u64 {
    let mut offline = shared.offline.lock().await;
    match pass(shared, &mut offline, again).await {
        Ok(count) => count,
        Err(error) => {
            tracing::error!("parked messages wait: {error}");
            0
        }
    }
}

async fn pass(shared: &Arc<Shared>, offline: &mut Offline, again: bool) -> Result<u64, StoreError> {
    for id in claims(shared, offline).await? {
        orphans(shared, Selector::Message(id)).await?;
    }
    if again {
        offline.refused.clear();
    }
    let (path, most) = (offline.path.clone(), shared.limits().parked_pass);
    let listed = read(shared, move |_| {
        names(&path, most).map_err(|error| StoreError::Io(error.to_string()))
    });
    let mut count = 0_u64;
    for name in listed.await? {
        if *shared.smtp_paused.borrow() || *shared.stopping.borrow() {
            break;
        }
        if offline.refused.contains(&name) {
            continue;
        }
        match submit(shared, &offline.directory, &name).await {
            Ok(()) => count = count.saturating_add(1),
            Err(Refused { why, for_good }) => {
                tracing::warn!("parked message {name} is not queued: {why}");
                if for_good {
                    offline.refused.insert(name);
                }
            }
        }
    }
    Ok(count)
}

struct Refused {
    why: String,
    for_good: bool,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self {
            why: error.to_string(),
            for_good: false,
        }
    }
}

/// Submits one message through a session of its own.
async fn submit(shared: &Arc<Shared>, directory: &Arc<File>, name: &str) -> Result<(), Refused> {
    let loading = (Arc::clone(shared), Arc::clone(directory), name.to_owned());
    let loaded = tokio::task::spawn_blocking(move || {
        let (shared, directory, name) = loading;
        load(&shared, &directory, &name)
    });
    let (draft, uid) = loaded
        .await
        .map_err(io::Error::other)?
        .map_err(|error| Refused {
            why: error.to_string(),
            for_good: true,
        })?;
    let Some(place) = shared.places.take_local() else {
        return Err(io::Error::other("too many sessions").into());
    };
    let claim = Claim {
        directory: Arc::clone(directory),
        name: name.to_owned(),
    };
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let session = session::run_local(Arc::clone(shared), uid, theirs, Some(claim), place);
    let (said, ()) = tokio::join!(say(shared, &draft, ours), session);
    let text = said?;
    tracing::info!("parked message {name} uid={uid} queued reply=\"{text}\"");
    Ok(())
}

/// Says the message to the session; gives its last reply.
async fn say(shared: &Shared, draft: &Draft, stream: DuplexStream) -> Result<String, Refused> {
    let line_most = u64::try_from(shared.limits().mta.reply_line).unwrap_or(u64::MAX);
    let mut dialog = Dialog::new(draft);
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if (&mut stream).take(line_most).read_line(&mut line).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let Some((code, last, text)) = reply_line(&line) else {
            return Err(io::Error::from(io::ErrorKind::InvalidData).into());
        };
        if !last {
            continue;
        }
        match dialog.replied(code, text) {
            Step::Say(octets) => stream.write_all(&octets).await?,
            Step::Queued => return Ok(text.to_owned()),
            Step::Refused(code) => {
                return Err(Refused {
                    why: format!("{code} {text}"),
                    for_good: (500..600).contains(&code),
                });
            }
        }
    }
}
