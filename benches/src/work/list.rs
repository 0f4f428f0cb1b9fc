//! Reading all envelopes of a queue: by pages for a listing, by heads for the schedule.

use crate::queue::Listing;
use std::io;
use std::time::{Duration, Instant};

/// Envelopes of a page.
pub const PAGE: usize = 1000;

/// Lists everything, page by page; gives the count and the time.
pub fn pages(listing: &dyn Listing) -> io::Result<(u64, Duration)> {
    let start = Instant::now();
    let (mut count, mut after) = (0, None);
    loop {
        let page = listing.page(after, PAGE)?;
        let Some(last) = page.last() else {
            return Ok((count, start.elapsed()));
        };
        after = Some(last.id);
        count += page.len() as u64;
    }
}

/// Reads what the schedule needs of everything; gives the count and the time.
pub fn heads(listing: &dyn Listing) -> io::Result<(u64, Duration)> {
    let start = Instant::now();
    let mut count = 0;
    listing.walk(&mut |_| count += 1)?;
    Ok((count, start.elapsed()))
}
