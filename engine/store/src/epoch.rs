//! Which of two id epochs is the later one, on a counter that wraps.

/// The later of the epoch stored so far and one just seen. Stragglers of the epoch before do not
/// turn the counter back.
pub(crate) fn later(stored: Option<u16>, seen: u16) -> u16 {
    match stored {
        Some(stored) if seen.wrapping_sub(stored) >= 0x8000 => stored,
        _ => seen,
    }
}

#[cfg(test)]
mod tests {
    use super::later;

    #[test]
    fn the_counter_wraps_and_never_turns_back() {
        assert_eq!(later(None, 9), 9);
        assert_eq!(later(Some(9), 9), 9);
        assert_eq!(later(Some(9), 10), 10);
        assert_eq!(later(Some(9), 8), 9);
        assert_eq!(later(Some(0xffff), 0), 0);
        assert_eq!(later(Some(0), 0xffff), 0);
    }
}
