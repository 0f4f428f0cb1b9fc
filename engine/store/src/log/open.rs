//! Opening: what the disk holds becomes the index.
//!
//! What: every file that will be believed is synced and dropped from the cache; the database gives
//! the queue as of its last checkpoint; the log is replayed from there to its end.
//! Promises: a newer format is not modified. What does not agree is set aside with its message or
//! named in the findings; the rest is served. A database that is lost, unreadable or too old for
//! the log is built anew from the segments (`rebuild.rs`).
//! Absent on purpose: writing, but for a new or rebuilt database.
//! Fails: with `StoreError`.

use super::control::Controls;
use super::database::{self, Database, Known};
use super::findings::Findings;
use super::frame::HEAD;
use super::heads::{Heads, Segment};
use super::index::Index;
use super::place::{Place, Position};
use super::replay;
use super::rows::rows;
use super::scan::{Found, scan};
use super::segment::{self, HEADER, Use};
use super::shared::io_fault;
use super::table::Table;
use crate::media::{Media, MediaFile};
use redspool_core::queue::StoreError;
use redspool_core::time::Timestamp;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

/// The database file.
pub(super) const DATABASE: &str = crate::FILE_NAME;

/// The file that knows the last checkpoint independently of the database.
pub(super) const SIDE: &str = "queue.generation";

/// Octets of redb's page cache in a daemon.
pub(super) const CACHE: usize = 128 << 20;

/// Octets that are read ahead at a start, at most: of the database, and of segments.
pub(super) const AHEAD: u64 = 2 << 30;

/// What opening has found out.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) index: Index,
    pub(super) table: Table,
    pub(super) known: Known,
    pub(super) findings: Findings,
    /// The last hot segment and where its frames end.
    pub(super) last: Option<(u64, u32)>,
    /// The number of the next frame.
    pub(super) number: u64,
    /// Octets of log that were replayed.
    pub(super) tail: u64,
}

/// Whether the database goes with the log.
pub(super) enum Verdict {
    Sound(Box<Loaded>),
    /// It has to be built anew, for this reason.
    Rebuild(String),
}

/// After a failed sync the cache may show what the disk does not have. So: sync, which fails if the
/// file cannot be trusted, then drop the pages and read the disk.
pub(super) fn settle(file: &dyn MediaFile, controls: Controls) -> io::Result<()> {
    if controls.keep_cache {
        return Ok(());
    }
    file.sync()?;
    file.forget()
}

/// The date for what is found now; no caller can give it.
pub(super) fn today() -> Timestamp {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp::from_secs(now.as_secs())
}

/// The segments of a store, before anything else of it is opened.
#[derive(Debug)]
pub(super) struct Segments {
    pub(super) table: Table,
    pub(super) heads: Heads,
}

impl Segments {
    /// Reads the heads; `size` is that of new segments.
    pub(super) fn read(
        media: &Arc<dyn Media>,
        size: u32,
        prepare: &dyn Fn(&dyn MediaFile) -> io::Result<()>,
    ) -> Result<Self, StoreError> {
        let mut table = Table::new(Arc::clone(media), size);
        let heads = Heads::read(media, &mut table, prepare)?;
        Ok(Self { table, heads })
    }
}

/// Reads database and log.
pub(super) fn load(
    media: &dyn Media,
    database: &Database,
    segments: Segments,
    controls: Controls,
) -> Result<Verdict, StoreError> {
    let Segments {
        mut table,
        mut heads,
    } = segments;
    let mut findings = Findings::default();
    let known = match database.known() {
        Err(StoreError::Unreadable(why)) => return Ok(Verdict::Rebuild(why)),
        known => known?,
    };
    heads.adopt(known.position, &mut table, &mut findings, controls)?;
    let mut hot = heads.segments;
    hot.retain(|one| one.header.usage == Use::Hot);
    hot.sort_unstable_by_key(|one| one.header.sequence);
    let from = match start(&hot, known.position) {
        Ok(from) => from,
        Err(why) => return Ok(Verdict::Rebuild(why)),
    };
    hot.retain(|one| one.header.sequence >= from.sequence);
    for one in &hot {
        // The disk brings the log while the rows are taken over.
        let begin = if one.header.sequence == from.sequence {
            from.offset
        } else {
            u64::from(HEADER)
        };
        one.file.expect(begin..one.header.capacity.into());
    }
    for bare in heads.bare {
        bare.judge(from.number, &mut findings);
    }
    if let Some(older) = turned_back(media, known.generation)? {
        findings.went_back(older);
    }
    let mut loaded = Loaded {
        index: Index {
            paused: known.paused,
            blocks: Arc::clone(&known.blocks),
            epoch: known.epoch,
            ..Index::default()
        },
        table,
        known,
        findings,
        last: None,
        number: from.number,
        tail: 0,
    };
    match rows(database, &mut loaded) {
        Err(StoreError::Unreadable(why)) => return Ok(Verdict::Rebuild(why)),
        loaded => loaded?,
    }
    log(&hot, from, &mut loaded, controls)?;
    Ok(Verdict::Sound(Box::new(loaded)))
}

/// Where replay begins; an error if what the database needs is not there.
fn start(hot: &[Segment], position: Option<Position>) -> Result<Position, String> {
    let first = hot.first().map(|one| &one.header);
    match (position, first) {
        (Some(position), _) if position.sequence == 0 => Ok(position),
        (Some(position), _) => {
            if hot
                .iter()
                .any(|one| one.header.sequence == position.sequence)
            {
                return Ok(position);
            }
            Err("the log no longer begins where the database ends".into())
        }
        (None, Some(_)) if broken(hot) => {
            Err("it has nothing yet, but the log does not begin at its start".into())
        }
        (None, first) => Ok(Position {
            sequence: first.map_or(0, |first| first.sequence),
            offset: u64::from(HEADER),
            number: first.map_or(1, |first| first.number),
        }),
    }
}

/// Whether the hot segments are not the whole log from its first frame on.
fn broken(hot: &[Segment]) -> bool {
    let mut before = None;
    hot.iter().any(|one| {
        let previous = one.header.previous.map(|(sequence, _)| sequence);
        let broken = previous != before;
        before = Some(one.header.sequence);
        broken
    })
}

/// Says so if the database is older than the side file knows.
fn turned_back(media: &dyn Media, generation: u64) -> Result<Option<String>, StoreError> {
    let failed = |why: io::Error| io_fault(&why);
    let Some(file) = media.open(SIDE).map_err(failed)? else {
        return Ok(None);
    };
    let mut octets = vec![0; 512];
    let read = file.read(0, &mut octets).map_err(failed)?;
    octets.truncate(read);
    let length = crate::record::claimed(&octets).unwrap_or(0);
    let witness = octets.get(..length).map(Position::open);
    Ok(match witness {
        Some(Ok((_, newer))) if newer > generation => Some(format!(
            "the database is of checkpoint {generation}, but there was a checkpoint {newer}: it \
             has gone back in time; the log makes up for it"
        )),
        _ => None,
    })
}

/// Replays the log from `from` on.
fn log(
    hot: &[Segment],
    from: Position,
    loaded: &mut Loaded,
    controls: Controls,
) -> Result<(), StoreError> {
    for (place, one) in hot.iter().enumerate() {
        let next = hot.get(place + 1).map(|next| next.header);
        let end = next.and_then(|next| next.previous);
        if let Some((sequence, _)) = end
            && sequence != one.header.sequence
        {
            let what = format!(
                "a log segment between {} and its next is missing",
                segment::name(one.slot)
            );
            loaded.findings.note(what, []);
        }
        let end = end.filter(|(sequence, _)| *sequence == one.header.sequence);
        let end = end.map(|(_, end)| end);
        let begin = if one.header.sequence == from.sequence {
            u32::try_from(from.offset).unwrap_or(u32::MAX)
        } else {
            HEADER
        };
        let end = one.replay(begin, end, loaded, controls)?;
        loaded.last = Some((one.header.sequence, end));
        loaded.tail += u64::from(end.saturating_sub(begin));
    }
    Ok(())
}

impl Segment {
    /// Replays its frames from `begin` on; gives where they end.
    fn replay(
        &self,
        begin: u32,
        end: Option<u32>,
        loaded: &mut Loaded,
        controls: Controls,
    ) -> Result<u32, StoreError> {
        let octets = self.octets(begin, end, &mut loaded.findings)?;
        let at = |offset: usize| Place {
            slot: self.slot,
            offset: u32::try_from(offset).map_or(u32::MAX, |offset| begin.saturating_add(offset)),
        };
        let base = at(0);
        let generation = loaded.known.generation;
        let Loaded {
            index,
            table,
            findings,
            number,
            ..
        } = loaded;
        let sequence = self.header.sequence;
        let (stop, next) = scan(
            &octets,
            sequence,
            end.is_some(),
            *number,
            controls,
            &mut |found| {
                let delta = match found {
                    Found::Frame(offset, frame) => replay::frame(index, &frame, at(offset + HEAD)),
                    Found::Damaged(offset, octets) => {
                        let (delta, named) = replay::stretch(index, octets, at(offset), today());
                        let what = format!(
                            "{}: {} octets from {} on are damaged",
                            segment::name(self.slot),
                            octets.len(),
                            at(offset).offset
                        );
                        findings.note(what, named);
                        delta
                    }
                    Found::Torn(offset, octets) => {
                        let (_, named) = replay::stretch(index, octets, at(offset), today());
                        let what = format!(
                            "{}: the log ends at {} in a group that was not completed; nothing of \
                             it had been answered, unless the disk has lost it since",
                            segment::name(self.slot),
                            at(offset).offset
                        );
                        findings.ended(what, named);
                        return;
                    }
                };
                index.merge(delta, base, table, generation + 1);
            },
        );
        *number = next;
        Ok(at(stop).offset)
    }
}

/// Creates an empty database under another name and gives it its own when it is complete.
pub(super) fn create(media: &dyn Media) -> Result<(), StoreError> {
    let failed = |why: io::Error| io_fault(&why);
    let new = format!("{DATABASE}.new");
    let file = media.create(&new).map_err(failed)?;
    let handle = database::handle(media, &new, CACHE)?;
    database::initialise(&handle)?;
    handle.close();
    drop(handle);
    file.sync().map_err(failed)?;
    media.rename(&new, DATABASE).map_err(failed)?;
    media.sync_names().map_err(failed)
}
