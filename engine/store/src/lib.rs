//! Every durable byte of redspool.
//!
//! What: the stores behind `redspool_core::queue::Store`: [`MemStore`], the executable
//! specification, and [`RedbStore`], one redb database; [`GroupCommit`], the one thread that writes
//! to either; and [`Offline`], which reads the store of a stopped or crashed daemon.
//! Promises: what is acknowledged is on the disk; what is read has proven itself; a damaged record
//! costs its message and no other. DESIGN.md has the format and the argument.
//! Absent on purpose: tokio, clocks for scheduling, any rule of mail. No other crate names redb.

mod blocks;
mod directory;
mod group;
mod lock;
mod log;
mod media;
mod mem;
mod overlay;
mod record;
mod redb;
mod room;
mod timing;
mod wary;

pub use ::redb::StorageBackend;
pub use group::{GroupCommit, Health, QueueHandle, State};
pub use log::{Compacted, Report, check, compact, rebuild, stopped, watch};
pub use log::{ContentDigest, Imported, Importer, Incoming, Ready};
pub use log::{
    Controls, Finding, Findings, Held, LogPrepared, LogPreparer, LogReader, LogStore, Offline,
    Options,
};
pub use media::{Directory, Media, MediaFile};
pub use mem::{MemPreparer, MemReader, MemStore};
pub use redb::{Prepared, RedbPreparer, RedbReader, RedbStore};
pub use room::Room;

/// Name of the database inside the spool directory.
pub const FILE_NAME: &str = "queue.redb";

/// Name of the lock file inside the spool directory; it holds the process id of the holder.
pub const LOCK_NAME: &str = "queue.lock";
