//! Octets of a file in blocks that copies share, so that thousands of images cost little.

use std::sync::Arc;

/// Octets of a block, and of a page of the cache.
pub(super) const BLOCK: usize = 4096;

/// The content of a file.
#[derive(Clone, Debug, Default)]
pub struct Content {
    blocks: Vec<Arc<[u8; BLOCK]>>,
    length: usize,
}

impl Content {
    /// Its length in octets.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no octets.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// All of it.
    pub fn octets(&self) -> Vec<u8> {
        let mut octets = vec![0; self.length];
        self.read(0, &mut octets);
        octets
    }

    /// Reads until `out` is full or the content ends; gives the octets read.
    pub(super) fn read(&self, offset: usize, out: &mut [u8]) -> usize {
        let end = self.length.min(offset + out.len());
        for (block, within, place) in parts(offset, end) {
            let length = place.len();
            out[place].copy_from_slice(&self.blocks[block][within..within + length]);
        }
        end.saturating_sub(offset)
    }

    /// Writes; what lies between the end and `offset` becomes zero.
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if end > self.length {
            self.resize(end);
        }
        for (block, within, place) in parts(offset, end) {
            let block = Arc::make_mut(&mut self.blocks[block]);
            block[within..within + place.len()].copy_from_slice(&data[place]);
        }
    }

    /// Makes it so long; what is added is zero.
    pub(super) fn resize(&mut self, length: usize) {
        let count = length.div_ceil(BLOCK);
        if count > self.blocks.len() {
            self.blocks.resize(count, Arc::new([0; BLOCK]));
        }
        self.blocks.truncate(count);
        if length < self.length && !length.is_multiple_of(BLOCK) {
            Arc::make_mut(&mut self.blocks[count - 1])[length % BLOCK..].fill(0);
        }
        self.length = length;
    }
}

/// The parts of `offset..end` within one block each: block, place in it, place from `offset` on.
fn parts(
    offset: usize,
    end: usize,
) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let within = at % BLOCK;
        let length = (BLOCK - within).min(end - at);
        let part = (at / BLOCK, within, at - offset..at - offset + length);
        at += length;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_reads_as_zero_when_it_comes_back() {
        let mut content = Content::default();
        content.write(4000, &[7; 200]);
        let copy = content.clone();
        content.resize(4090);
        content.resize(5000);
        let octets = content.octets();
        assert_eq!(octets[4000..4090], [7; 90]);
        assert!(octets[4090..].iter().all(|octet| *octet == 0));
        assert_eq!(copy.octets()[4000..], [7; 200]);
    }
}
