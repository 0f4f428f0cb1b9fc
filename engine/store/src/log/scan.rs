//! The frames of a segment: one behind the other, damage between them, and where they end.
//!
//! Promises: a torn tail and damage in the middle are told apart. Whoever writes a group has synced
//! the one before; so a bad stretch is damage if a group begins behind it, and else the rest of a
//! group that nobody was told about.
//! Absent on purpose: what frames mean.
//! Fails: never.

use super::control::Controls;
use super::frame::{self, Frame, HEAD, MAGIC};

/// What lies in a segment from some offset on.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Frame(usize, Frame<'a>),
    /// Octets that hold no frame, with frames behind them or where frames should be.
    Damaged(usize, &'a [u8]),
    /// Records of a frame that was not written to its end. Its group was not answered, unless the
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
            number = frame.number + 1;
            continue;
        }
        match next(rest, sequence, number, known, controls) {
            Some(skipped) => {
                visit(Found::Damaged(
                    offset,
                    rest.get(..skipped).unwrap_or_default(),
                ));
                offset += skipped;
            }
            None if known => {
                visit(Found::Damaged(offset, rest));
                return (octets.len(), number);
            }
            None => {
                if let Some(records) = frame::torn(rest, number) {
                    visit(Found::Torn(offset + HEAD, records));
                }
                return (offset, number);
            }
        }
    }
}

/// Where the next frame of this segment begins behind a bad stretch. If nobody knows whether the
/// frames go on, a group has to begin there or later.
fn next(
    octets: &[u8],
    sequence: u64,
    number: u64,
    known: bool,
    controls: Controls,
) -> Option<usize> {
    let mut first = None;
    let mut from = 1;
    while let Some(offset) = find(octets, from) {
        let rest = octets.get(offset..).unwrap_or_default();
        from = offset + 1;
        if frame::claimed(rest).is_none_or(|claimed| claimed < number) {
            continue;
        }
        if let Some(frame) = frame::read(sequence, rest, controls) {
            let first = *first.get_or_insert(offset);
            if known || frame.group > number {
                return Some(first);
            }
            from = offset + frame.len();
        }
    }
    None
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
        assert_eq!(
            shown(&octets, false),
            (vec!["1".into(), "40 torn".into()], length, 2)
        );
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
