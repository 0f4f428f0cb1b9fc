//! Which points of the space of submissions are measured.

/// One point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Octets of a message.
    pub size: u64,
    /// Recipients of a message.
    pub recipients: u32,
    /// Messages that wait at a time.
    pub waiting: usize,
}

/// The point that others are compared with.
const MIDDLE: Point = Point {
    size: 10 << 10,
    recipients: 1,
    waiting: 64,
};

const SIZES: &[u64] = &[1 << 10, 10 << 10, 100 << 10, 1 << 20];
const RECIPIENTS: &[u32] = &[1, 10, 100];
const WAITING: &[usize] = &[1, 8, 64, 256];

/// Every size with every number of recipients with every number waiting.
pub fn every() -> Vec<Point> {
    product(SIZES, RECIPIENTS, WAITING)
}

/// Size, recipients and clients varied one at a time, and many recipients with few clients.
pub fn around() -> Vec<Point> {
    let mut points = product(SIZES, &[MIDDLE.recipients], &[MIDDLE.waiting]);
    points.extend(product(&[MIDDLE.size], &[10, 100], &[MIDDLE.waiting]));
    points.extend(product(&[MIDDLE.size], &[MIDDLE.recipients], &[1, 8, 256]));
    points.extend(product(&[MIDDLE.size], &[100], &[16]));
    points
}

/// Small mail, few clients and many.
pub fn few() -> Vec<Point> {
    product(
        &[1 << 10, MIDDLE.size],
        &[MIDDLE.recipients],
        &[1, MIDDLE.waiting],
    )
}

/// All combinations of what was asked for; what was not asked for is as in the middle.
pub fn asked(sizes: &[u64], recipients: &[u32], waiting: &[usize]) -> Vec<Point> {
    product(
        or_middle(sizes, &[MIDDLE.size]),
        or_middle(recipients, &[MIDDLE.recipients]),
        or_middle(waiting, &[MIDDLE.waiting]),
    )
}

/// Of these points, those at which whole lives are measured when nothing special is asked for.
pub fn lives(mut points: Vec<Point>) -> Vec<Point> {
    points.retain(|point| {
        point.recipients == MIDDLE.recipients
            && point.waiting == MIDDLE.waiting
            && point.size <= MIDDLE.size
    });
    points
}

fn or_middle<'a, T>(asked: &'a [T], middle: &'a [T]) -> &'a [T] {
    if asked.is_empty() { middle } else { asked }
}

fn product(sizes: &[u64], recipients: &[u32], waiting: &[usize]) -> Vec<Point> {
    let mut points = Vec::new();
    for &size in sizes {
        for &recipients in recipients {
            points.extend(waiting.iter().map(|&waiting| Point {
                size,
                recipients,
                waiting,
            }));
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_there_once() {
        assert_eq!(every().len(), 4 * 3 * 4);
        for points in [every(), around(), few()] {
            assert!(points.contains(&MIDDLE));
            for (at, point) in points.iter().enumerate() {
                assert!(!points[..at].contains(point), "{point:?}");
            }
        }
    }

    #[test]
    fn what_is_not_asked_for_is_as_in_the_middle() {
        assert_eq!(asked(&[], &[], &[]), [MIDDLE]);
        let two = [7, 8].map(|recipients| Point {
            recipients,
            ..MIDDLE
        });
        assert_eq!(asked(&[], &[7, 8], &[]), two);
        assert_eq!(lives([&two[..], &[MIDDLE]].concat()), [MIDDLE]);
    }
}
