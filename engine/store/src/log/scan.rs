//! The frames of a segment: one behind the other, damage between them, and where they end.
//!
//! Promises: a torn tail and damage in the middle are told apart. Whoever writes a group has synced
//! the one before; so a bad stretch is damage if a group begins behind it, and else the rest of a
//! group that nobody was told about.
//! Absent on purpose: what frames mean.
//! Fails: never.

use super::control::Controls;
use super::frame::{self, Frame, MAGIC};

/// What lies in a segment from some offset on.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Frame(usize, Frame<'a>),
    /// Octets that hold no frame, with frames behind them or where frames should be.
    Damaged(usize, &'a [u8]),
    /// What is there of a last group that was not written to its end. It was not answered, unless the
    /// disk has damaged it since.
    Torn(usize, &'a [u8]),
}

/// Shows what lies in `octets`, a stretch of segment `sequence` that begins between two frames.
/// `known` says that frames go on up to its end; else they may end before. `number` is the number of
/// the first frame. Gives where the frames end, and the number of the next.
pub(super) fn scan<'a>(
    octets: &'a [u8],
    sequence: u64,
    known: bool,
    mut number: u64,
    controls: Controls,
    visit: &mut dyn FnMut(Found<'a>),
) -> (usize, u64) {
    let mut offset = 0;
    let mut group = number;
    loop {
        let rest = octets.get(offset..).unwrap_or_default();
        if rest.is_empty() {
            return (offset, number);
        }
        // A frame with a number from before this position is left over from a group that failed.
        if let Some(frame) = frame::read(sequence, rest, controls)
            && frame.number >= number
        {
            visit(Found::Frame(offset, frame));
            offset += frame.len();
            (number, group) = (frame.number + 1, frame.group);
            continue;
        }
        let behind = behind(rest, sequence, number, known, controls);
        if let Some(Behind { first, .. }) = behind.filter(|behind| behind.later) {
            visit(Found::Damaged(
                offset,
                rest.get(..first).unwrap_or_default(),
            ));
            offset += first;
            continue;
        }
        if known {
            visit(Found::Damaged(offset, rest));
            return (octets.len(), number);
        }
        let torn = frame::torn(rest, number, group);
        let end = torn.max(behind.map(|behind| behind.end));
        if let Some(torn) = end.and_then(|end| rest.get(..end)) {
            visit(Found::Torn(offset, torn));
        }
        return (offset, number);
    }
}

/// Frames of this segment behind a bad stretch.
#[derive(Clone, Copy, Debug)]
struct Behind {
    /// Where the first of them begins.
    first: usize,
    /// Where the last one looked at ends.
    end: usize,
    /// They show that the bad stretch was complete once.
    later: bool,
}

/// What lies behind a bad stretch. If nobody knows whether the frames go on, a group has to begin there
/// or later to show anything.
fn behind(
    octets: &[u8],
    sequence: u64,
    number: u64,
    known: bool,
    controls: Controls,
) -> Option<Behind> {
    let mut found: Option<Behind> = None;
    let mut from = 1;
    while let Some(offset) = find(octets, from) {
        let rest = octets.get(offset..).unwrap_or_default();
        from = offset + 1;
        if frame::claimed(rest).is_none_or(|claimed| claimed < number) {
            continue;
        }
        if let Some(frame) = frame::read(sequence, rest, controls) {
            from = offset + frame.len();
            let behind = Behind {
                first: found.map_or(offset, |found| found.first),
                end: from,
                later: known || frame.group > number,
            };
            if behind.later {
                return Some(behind);
            }
            found = Some(behind);
        }
    }
    found
}

/// The next place of the magic from `from` on.
fn find(octets: &[u8], from: usize) -> Option<usize> {
    let found = memchr::memmem::find(octets.get(from..)?, &MAGIC)?;
    Some(from + found)
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Builder, Kind, Stamp};
    use super::*;

    fn frame_of(number: u64, group: u64) -> Vec<u8> {
        let mut frame = Builder::new(40);
        frame.push(&[7; 40]);
        let stamp = Stamp {
            sequence: 3,
            number,
            group,
        };
        frame.stamp(Kind::Transition, stamp, Controls::default());
        frame.octets().to_vec()
    }

    fn shown(octets: &[u8], known: bool) -> (Vec<String>, usize, u64) {
        let mut seen = Vec::new();
        let (end, number) = scan(octets, 3, known, 1, Controls::default(), &mut |found| {
            seen.push(match found {
                Found::Frame(_, frame) => frame.number.to_string(),
                Found::Damaged(_, octets) => format!("{} bad", octets.len()),
                Found::Torn(_, octets) => format!("{} torn", octets.len()),
            });
        });
        (seen, end, number)
    }

    /// Three frames, the second and third of one group, then zeros.
    fn log() -> (Vec<u8>, usize) {
        let frames = [frame_of(1, 1), frame_of(2, 2), frame_of(3, 2)].concat();
        let length = frames.len() / 3;
        let mut octets = frames;
        octets.resize(1000, 0);
        (octets, length)
    }

    #[test]
    fn frames_end_where_there_are_no_more() {
        let (octets, length) = log();
        let want = ["1", "2", "3"].map(str::to_owned).to_vec();
        assert_eq!(shown(&octets, false), (want.clone(), 3 * length, 4));
        assert_eq!(shown(&octets[..3 * length], true), (want, 3 * length, 4));
    }

    #[test]
    fn the_rest_of_the_last_group_is_a_torn_tail() {
        let (mut octets, length) = log();
        octets[length + 40] ^= 1;
        let torn = format!("{} torn", 2 * length);
        assert_eq!(shown(&octets, false), (vec!["1".into(), torn], length, 2));
    }

    #[test]
    fn no_flipped_bit_of_the_last_group_goes_unseen() {
        let (octets, length) = log();
        for bit in length * 8..3 * length * 8 {
            let mut flipped = octets.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (seen, ..) = shown(&flipped, false);
            let last = seen.last().expect("there are frames");
            assert!(last.ends_with("torn"), "bit {bit}: {seen:?}");
        }
    }

    #[test]
    fn the_next_group_of_an_earlier_life_is_no_torn_tail() {
        let (mut octets, length) = log();
        let older = Stamp {
            sequence: 2,
            number: 1,
            group: 1,
        };
        let mut frame = Builder::new(40);
        frame.push(&[7; 40]);
        frame.stamp(Kind::Transition, older, Controls::default());
        octets[3 * length..4 * length].copy_from_slice(frame.octets());
        let want = ["1", "2", "3"].map(str::to_owned).to_vec();
        assert_eq!(shown(&octets, false), (want, 3 * length, 4));
    }

    #[test]
    fn a_bad_frame_before_a_later_group_is_damage() {
        let (mut octets, length) = log();
        octets[40] ^= 1;
        let want = vec![format!("{length} bad"), "2".into(), "3".into()];
        assert_eq!(shown(&octets, false), (want, 3 * length, 4));
    }

    #[test]
    fn where_the_end_is_known_what_is_missing_is_damage() {
        let (mut octets, length) = log();
        octets[2 * length + 40] ^= 1;
        let want = vec!["1".into(), "2".into(), format!("{length} bad")];
        assert_eq!(shown(&octets[..3 * length], true), (want, 3 * length, 3));
    }

    #[test]
    fn frames_of_an_earlier_life_do_not_count() {
        let (mut octets, length) = log();
        octets[..length].copy_from_slice(&frame_of(9, 9)[..length]);
        octets[length..].fill(0);
        let (seen, _, number) = shown(&octets, false);
        assert_eq!((seen, number), (vec!["9".to_owned()], 10));
        octets[..length].fill(0);
        assert_eq!(shown(&octets, false), (vec![], 0, 1));
    }
}
