//! Sizes and counts as people write them: `10k`, `1m`.

/// Reads octets: a number, with `k` or `m` for 1,024 or its square.
pub fn octets(word: &str) -> Result<u64, String> {
    scaled(word, 1 << 10)
}

/// Reads a count: a number, with `k` or `m` for a thousand or a million.
pub fn count(word: &str) -> Result<u64, String> {
    scaled(word, 1000)
}

/// Octets in the form that is read.
pub fn octets_word(octets: u64) -> String {
    word(octets, 1 << 10)
}

/// A count in the form that is read.
pub fn count_word(count: u64) -> String {
    word(count, 1000)
}

fn scaled(word: &str, kilo: u64) -> Result<u64, String> {
    let lower = word.to_ascii_lowercase();
    let (digits, scale) = match lower.strip_suffix(['k', 'm']) {
        Some(digits) if lower.ends_with('k') => (digits, kilo),
        Some(digits) => (digits, kilo * kilo),
        None => (lower.as_str(), 1),
    };
    let number = digits.parse().ok().and_then(|n: u64| n.checked_mul(scale));
    number.ok_or_else(|| format!("not a number such as 64, 10k or 1m: {word}"))
}

fn word(number: u64, kilo: u64) -> String {
    let mega = kilo * kilo;
    if number >= mega && number.is_multiple_of(mega) {
        format!("{}m", number / mega)
    } else if number >= kilo && number.is_multiple_of(kilo) {
        format!("{}k", number / kilo)
    } else {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_go_both_ways() {
        let sizes = [
            ("0", 0),
            ("1k", 1024),
            ("1025", 1025),
            ("100k", 102_400),
            ("1m", 1 << 20),
        ];
        for (text, octets_read) in sizes {
            assert_eq!(octets(text), Ok(octets_read));
            assert_eq!(octets_word(octets_read), text);
        }
        for (text, read) in [("0", 0), ("100k", 100_000), ("10m", 10_000_000)] {
            assert_eq!(count(text), Ok(read));
            assert_eq!(count_word(read), text);
        }
        assert_eq!(count("1M"), Ok(1_000_000));
        for wrong in ["", "k", "1g", "-1", "99999999999999m", "1.5k"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
