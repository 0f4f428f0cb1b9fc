//! A database built anew from what the segments hold.
//!
//! What: all frames of all segments, in the order of their numbers, replayed from nothing.
//! Promises: every queued message is found, for each lies whole in some segment: where it arrived,
//! or where it was moved with its envelopes. What might have been delivered already, because the
//! log that said so was used again, is marked as maybe duplicated. The old database stays under
//! another name.
//! Absent on purpose: trusting anything that does not prove itself.
//! Fails: with `StoreError` when the disk does.

use super::control::Controls;
use super::database::Known;
use super::draft::Draft;
use super::findings::Findings;
use super::frame::{HEAD, Kind};
use super::heads::Segment;
use super::index::{Bucket, Index};
use super::open::{DATABASE, Loaded, Segments, today};
use super::place::Place;
use super::replay;
use super::scan::{Found, scan};
use super::segment::{self, HEADER, Use};
use super::shared::{io_fault, record_at};
use super::slots::Marks;
use super::table::Table;
use crate::media::Media;
use crate::record::Row;
use redspool_core::id::Epoch;
use redspool_core::queue::StoreError;
use std::io;

/// Where a frame lies.
struct Lying {
    /// Copies come after the frames whose effect they include.
    number: u64,
    copy: bool,
    segment: usize,
    offset: usize,
    length: usize,
    /// A stretch that holds no whole frame.
    damaged: bool,
}

/// Gives the old database another name, if there is one.
pub(super) fn put_away(media: &dyn Media) -> Result<(), StoreError> {
    let failed = |why: io::Error| io_fault(&why);
    let names = media.names().map_err(failed)?;
    if !names.iter().any(|name| name == DATABASE) {
        return Ok(());
    }
    let free = (1..).map(|number| format!("{DATABASE}.damaged-{number}"));
    let mut free = free.filter(|name| !names.contains(name));
    let name = free.next().ok_or(StoreError::Full)?;
    media.rename(DATABASE, &name).map_err(failed)?;
    media.sync_names().map_err(failed)
}

/// Reads all segments.
pub(super) fn rebuild(
    segments: Segments,
    why: &str,
    controls: Controls,
) -> Result<Loaded, StoreError> {
    let Segments {
        mut table,
        mut heads,
    } = segments;
    let mut findings = Findings::default();
    findings.note(
        format!("the database was built anew from the log ({why}); what is queued may have been delivered before"),
        [],
    );
    heads.adopt(None, &mut table, &mut findings, controls)?;
    for bare in heads.bare {
        bare.judge(0, &mut findings);
    }
    let mut found = heads.segments;
    found.sort_unstable_by_key(|one| one.header.sequence);
    let mut lying = Vec::new();
    let mut number = 1;
    let mut last = None;
    let mut index = Index::default();
    for (place, one) in found.iter().enumerate() {
        if one.header.usage == Use::Extents {
            continue;
        }
        let end = end_of(one, &found);
        let octets = one.octets(HEADER, end, &mut findings)?;
        let hot = one.header.usage == Use::Hot;
        let first = if hot { one.header.number } else { 0 };
        let mut offsets = Vec::new();
        let (stop, next) = frames(&octets, one, end.is_some(), first, controls, &mut offsets);
        for mut one in offsets {
            one.segment = place;
            one.offset += HEADER as usize;
            lying.push(one);
        }
        number = number.max(next);
        if hot {
            let stop = u32::try_from(stop).map_or(u32::MAX, |stop| stop.saturating_add(HEADER));
            last = Some((one.header.sequence, stop));
            index.paused = one.header.paused;
        }
        if let Some(seen) = one.header.epoch {
            index.epoch = Some(Epoch::later(index.epoch, seen));
        }
    }
    lying.sort_by_key(|one| (one.number, one.copy));
    for one in lying {
        let Some(segment) = found.get(one.segment) else {
            continue;
        };
        let mut octets = vec![0; one.length];
        let read = segment.file.read(one.offset as u64, &mut octets);
        octets.truncate(read.map_err(|why| io_fault(&why))?);
        let at = Place {
            slot: segment.slot,
            offset: u32::try_from(one.offset).unwrap_or(u32::MAX),
        };
        let delta = if one.damaged {
            let (delta, named) = replay::stretch(&index, &octets, at, today());
            let what = format!(
                "{}: {} octets from {} on are damaged",
                segment::name(segment.slot),
                one.length,
                one.offset
            );
            findings.note(what, named);
            delta
        } else {
            match super::frame::read(segment.header.sequence, &octets, controls) {
                Some(frame) => replay::frame(&index, &frame, at.plus(HEAD)),
                None => continue,
            }
        };
        index.merge(delta, at, &mut table, 1);
    }
    judge(&mut index, &mut table);
    let trashed = index.trash.state().envelopes;
    if trashed > 0 {
        let what = format!(
            "{trashed} envelopes are in the trash; the log cannot tell of all whether they had been \
             brought back"
        );
        findings.note(what, []);
    }
    Ok(Loaded {
        index,
        table,
        known: Known::default(),
        findings,
        last,
        number,
        tail: 0,
    })
}

/// Where the frames of a hot segment end, if its successor is there to say so.
fn end_of(one: &Segment, all: &[Segment]) -> Option<u32> {
    let ends = all.iter().filter_map(|other| other.header.previous);
    let mut ends = ends.filter(|(sequence, _)| *sequence == one.header.sequence);
    ends.next()
        .map(|(_, end)| end)
        .filter(|_| one.header.usage == Use::Hot)
}

/// The frames of a segment and the damage between them.
fn frames(
    octets: &[u8],
    segment: &Segment,
    known: bool,
    first: u64,
    controls: Controls,
    lying: &mut Vec<Lying>,
) -> (usize, u64) {
    let mut number = first;
    // Frames of a cold segment have the number of the log at their time, each the same as or
    // more than the one before; so they are read one by one.
    if segment.header.usage == Use::Cold {
        let mut offset = 0;
        while let Some(frame) = super::frame::read(
            segment.header.sequence,
            octets.get(offset..).unwrap_or_default(),
            controls,
        ) {
            lying.push(Lying {
                number: frame.number,
                copy: frame.kind == Kind::Copy,
                segment: 0,
                offset,
                length: frame.len(),
                damaged: false,
            });
            offset += frame.len();
            number = number.max(frame.number);
        }
        return (offset, number);
    }
    scan(
        octets,
        segment.header.sequence,
        known,
        first,
        controls,
        &mut |found| match found {
            Found::Frame(offset, frame) => {
                number = frame.number;
                lying.push(Lying {
                    number,
                    copy: false,
                    segment: 0,
                    offset,
                    length: frame.len(),
                    damaged: false,
                });
            }
            Found::Damaged(offset, octets) => lying.push(Lying {
                number: number + 1,
                copy: false,
                segment: 0,
                offset,
                length: octets.len(),
                damaged: true,
            }),
            Found::Torn(..) => {}
        },
    )
}

/// What is in the trash gets there now: should the log that said it came back have been used again,
/// there is time to find out.
fn keep_trash(index: &mut Index) {
    let now = today();
    for (id, entry) in &index.messages {
        let trashed = entry.slots.ids(*id).filter(|(_, marks)| marks.trashed);
        for (envelope, _) in trashed {
            index.trash.note(envelope, now);
        }
    }
    index.recount();
}

/// Marks every envelope, and sets messages aside whose own record does not prove itself where it
/// should be: its segment has been used again.
fn judge(index: &mut Index, table: &mut Table) {
    let mut draft = Draft::new(index);
    for (id, entry) in &index.messages {
        for (envelope, marks) in entry.slots.ids(*id) {
            draft.mark(
                envelope,
                Marks {
                    duplicated: true,
                    ..marks
                },
            );
        }
    }
    let delta = draft.finish();
    index.merge(delta, Place { slot: 0, offset: 0 }, table, 1);
    let lost: Vec<_> = index
        .messages
        .iter()
        .filter_map(|(id, entry)| {
            let file = table.file(entry.at.slot).map(|(file, _)| file);
            let record = file.map(|file| record_at(&*file, entry.at.offset));
            match record {
                Some(Ok(Ok(record))) if Row::open(*id, &record).is_ok() => None,
                _ => Some(*id),
            }
        })
        .collect();
    for id in lost {
        if let Some(entry) = index.messages.remove(&id) {
            index.changes.buckets.insert(id);
            let bucket = Bucket {
                entry,
                reason: "its content is not where the log says".into(),
                at: today(),
            };
            index.corrupt.insert(id, bucket);
        }
    }
    keep_trash(index);
    for id in index.messages.keys() {
        index.epoch = Some(Epoch::later(index.epoch, Epoch::of(*id)));
    }
}
