//! From many readings to one figure.
//!
//! Promises: a figure is a reading that was made, or lies between the two in the middle; no mean
//! hides a slow one. Ratios are of readings of the same round, so what disturbs a round disturbs
//! both.

use std::time::Duration;

/// The wait that `share` of 1,000 waits do not exceed (nearest rank); `None` without any.
pub fn percentile(waits: &mut [Duration], share: usize) -> Option<Duration> {
    let rank = (waits.len() * share).div_ceil(1000).max(1);
    if rank > waits.len() {
        return None;
    }
    let (_, wait, _) = waits.select_nth_unstable(rank - 1);
    Some(*wait)
}

/// The reading in the middle; between the two in the middle of an even number. `None` without any.
pub fn median(readings: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut readings: Vec<_> = readings.into_iter().collect();
    readings.sort_unstable_by(f64::total_cmp);
    let upper = *readings.get(readings.len() / 2)?;
    if readings.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *readings.get(readings.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

/// The median of what one is to the other, round by round.
pub fn ratio(one: &[f64], other: &[f64]) -> Option<f64> {
    let rounds = one.iter().zip(other);
    median(rounds.filter(|(_, b)| **b > 0.0).map(|(a, b)| a / b))
}

/// A count as a number to calculate with.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures are shown with three digits"
)]
pub fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(list: &[u64]) -> Vec<Duration> {
        list.iter().map(|n| Duration::from_micros(*n)).collect()
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut waits = micros(&(1..=200).rev().collect::<Vec<_>>());
        let mut at = |share| percentile(&mut waits, share).unwrap().as_micros();
        assert_eq!((at(500), at(990), at(1000), at(0)), (100, 198, 200, 1));
        assert_eq!(
            percentile(&mut micros(&[7]), 990),
            Some(Duration::from_micros(7))
        );
        assert_eq!(percentile(&mut [], 500), None);
    }

    #[test]
    fn a_median_is_no_mean() {
        assert_eq!(median([1.0, 1000.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 1000.0]), Some(3.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The third round was disturbed for both.
        assert_eq!(ratio(&[20.0, 22.0, 2.0], &[10.0, 11.0, 1.0]), Some(2.0));
        // What did not move is compared with nothing.
        assert_eq!(ratio(&[20.0, 6.0], &[0.0, 2.0]), Some(3.0));
        assert_eq!(ratio(&[20.0], &[]), None);
    }
}
