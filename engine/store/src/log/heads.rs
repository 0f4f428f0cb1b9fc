//! The segments that lie on the disk, as their heads describe them.
//!
//! Promises: a head that is damaged costs nothing that can be told without it. The sequence number
//! of a hot segment is found out from its neighbours and proven by its first frame.
//! Absent on purpose: what is in the segments.
//! Fails: with the media's errors, and `Version` for a head of another format.

use super::control::Controls;
use super::findings::Findings;
use super::frame::{self, HEAD};
use super::place::Position;
use super::segment::{self, HEADER, Header, Use};
use super::shared::io_fault;
use super::table::Table;
use crate::media::{Media, MediaFile};
use crate::record::Damage;
use redspool_core::queue::{Paused, StoreError};
use std::io;
use std::sync::Arc;

/// Lives that may have begun after the last one whose head can be read.
const LATER: u64 = 8;

/// A segment whose head can be read, or could be found out.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) slot: u32,
    pub(super) file: Arc<dyn MediaFile>,
    pub(super) header: Header,
}

/// A segment whose head cannot be read.
#[derive(Debug)]
pub(super) struct Bare {
    slot: u32,
    file: Arc<dyn MediaFile>,
    capacity: u32,
    why: Damage,
    /// The number its first frame claims.
    first: Option<u64>,
}

/// All segments.
#[derive(Debug, Default)]
pub(super) struct Heads {
    pub(super) segments: Vec<Segment>,
    pub(super) bare: Vec<Bare>,
}

impl Heads {
    /// Reads the heads of all segment files.
    pub(super) fn read(
        media: &Arc<dyn Media>,
        table: &mut Table,
        prepare: &dyn Fn(&dyn MediaFile) -> io::Result<()>,
    ) -> Result<Self, StoreError> {
        let failed = |why: io::Error| io_fault(&why);
        let mut heads = Self::default();
        let mut names = media.names().map_err(failed)?;
        names.sort_unstable();
        for slot in names.iter().filter_map(|name| segment::slot_of(name)) {
            let Some(file) = media.open(&segment::name(slot)).map_err(failed)? else {
                continue;
            };
            prepare(&*file).map_err(failed)?;
            let mut octets = vec![0; HEADER as usize + HEAD];
            let read = file.read(0, &mut octets).map_err(failed)?;
            octets.truncate(read);
            let length = file.length().map_err(failed)?;
            let capacity = u32::try_from(length).unwrap_or(u32::MAX);
            let header = Header::open(slot, &octets);
            let header = match header {
                Ok(Err(found)) => {
                    let known = segment::FORMAT;
                    return Err(StoreError::Version { found, known });
                }
                Ok(Ok(header)) => Ok(header),
                Err(why) => Err(why),
            };
            table.add(slot, Arc::clone(&file), capacity, header.as_ref().ok());
            match header {
                Ok(header) => heads.segments.push(Segment { slot, file, header }),
                // One that was never used is all zeros.
                Err(_) if octets.iter().all(|octet| *octet == 0) => {}
                Err(why) => heads.bare.push(Bare {
                    slot,
                    file,
                    capacity,
                    why,
                    first: octets.get(HEADER as usize..).and_then(frame::claimed),
                }),
            }
        }
        Ok(heads)
    }

    /// Finds out what hot segments without a head are.
    pub(super) fn adopt(
        &mut self,
        position: Option<Position>,
        table: &mut Table,
        findings: &mut Findings,
        controls: Controls,
    ) -> Result<(), StoreError> {
        let known = |sequence: u64| {
            let mut segments = self.segments.iter();
            segments.any(|one| one.header.sequence == sequence)
        };
        let last = self.segments.iter().map(|one| one.header.sequence).max();
        let last = last.unwrap_or(0);
        let previous = self.segments.iter().filter_map(|one| one.header.previous);
        let mut candidates: Vec<u64> = previous.map(|(sequence, _)| sequence).collect();
        candidates.extend(position.map(|position| position.sequence));
        candidates.extend(last + 1..=last + LATER);
        candidates.retain(|sequence| *sequence != 0 && !known(*sequence));
        for bare in std::mem::take(&mut self.bare) {
            match bare.proven(&candidates, controls)? {
                Some(header) => {
                    findings.note(
                        format!(
                            "{}: {}; it is known all the same",
                            segment::name(bare.slot),
                            bare.why.0
                        ),
                        [],
                    );
                    table.add(
                        bare.slot,
                        Arc::clone(&bare.file),
                        bare.capacity,
                        Some(&header),
                    );
                    self.segments.push(Segment {
                        slot: bare.slot,
                        file: bare.file,
                        header,
                    });
                }
                None => self.bare.push(bare),
            }
        }
        Ok(())
    }
}

impl Bare {
    /// The head with the sequence number that proves the first frame.
    fn proven(&self, candidates: &[u64], controls: Controls) -> Result<Option<Header>, StoreError> {
        if self.first.is_none() {
            return Ok(None);
        }
        let length = self.capacity.saturating_sub(HEADER) as usize;
        let mut octets = vec![0; length];
        let read = self.file.read(u64::from(HEADER), &mut octets);
        octets.truncate(read.map_err(|why| io_fault(&why))?);
        let proven = candidates.iter().find_map(|sequence| {
            let frame = frame::read(*sequence, &octets, controls)?;
            (frame.kind == frame::Kind::Transition).then_some(Header {
                usage: Use::Hot,
                sequence: *sequence,
                capacity: self.capacity,
                previous: None,
                number: frame.number,
                paused: Paused::default(),
                epoch: None,
            })
        });
        Ok(proven)
    }

    /// Says what is lost, if anything is: frames from number `next` on are not in the database.
    /// A head that was not written to its end has none behind it, for it is synced before.
    pub(super) fn judge(self, next: u64, findings: &mut Findings) {
        let what = format!("{}: {}", segment::name(self.slot), self.why.0);
        match self.first {
            Some(first) if first >= next => findings.note(what, []),
            _ => findings.ended(what, []),
        }
    }
}

impl Segment {
    /// All octets from `begin` up to `end`, or to the end of the file. What cannot be read is zero,
    /// with a finding.
    pub(super) fn octets(
        &self,
        begin: u32,
        end: Option<u32>,
        findings: &mut Findings,
    ) -> Result<Vec<u8>, StoreError> {
        let end = end.unwrap_or(self.header.capacity).max(begin);
        let mut octets = vec![0; (end - begin) as usize];
        let read = self.file.read(u64::from(begin), &mut octets);
        let read = read.map_err(|why| io_fault(&why))?;
        if read < octets.len() {
            findings.note(
                format!("{}: the file is cut short", segment::name(self.slot)),
                [],
            );
        }
        Ok(octets)
    }
}
