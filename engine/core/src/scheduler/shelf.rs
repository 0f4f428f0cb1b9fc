//! A sorted collection that spends almost nothing per element.
//!
//! What: elements in order of their keys, in blocks of a few hundred; a key is found by binary
//! search over the first keys of the blocks, which lie side by side, then inside one. Promises: each key once; inserting and removing move
//! at most one block; blocks stay at least a quarter full on average, so an element costs one to
//! two times its own size (a `BTreeMap` filled in ascending order costs more and is never denser).
//! Absent on purpose: concurrency, iteration while changing.

/// Elements of a block: one block of the largest elements is 6 KiB, cheap to move.
const BLOCK: usize = 256;

/// What a [`Shelf`] sorts its elements by.
pub(super) trait Keyed: Copy {
    /// The key.
    type Key: Ord + Copy;

    /// The key of this element.
    fn key(&self) -> Self::Key;
}

/// A sorted collection.
#[derive(Debug)]
pub(super) struct Shelf<T: Keyed> {
    blocks: Vec<Vec<T>>,
    /// The first key of each block.
    firsts: Vec<T::Key>,
    len: usize,
}

impl<T: Keyed> Shelf<T> {
    /// An empty collection.
    pub(super) const fn new() -> Self {
        Self {
            blocks: Vec::new(),
            firsts: Vec::new(),
            len: 0,
        }
    }

    /// How many elements there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The block in which `key` is or belongs.
    fn block_of(&self, key: T::Key) -> usize {
        let after = self.firsts.partition_point(|first| *first <= key);
        after.saturating_sub(1)
    }

    fn position(&self, key: T::Key) -> (usize, Result<usize, usize>) {
        let index = self.block_of(key);
        let block = self.blocks.get(index).map_or(&[][..], Vec::as_slice);
        (index, block.binary_search_by_key(&key, Keyed::key))
    }

    /// The element with this key.
    pub(super) fn get(&self, key: T::Key) -> Option<&T> {
        let (index, place) = self.position(key);
        self.blocks.get(index)?.get(place.ok()?)
    }

    /// The element with this key, to be changed in anything but its key.
    pub(super) fn get_mut(&mut self, key: T::Key) -> Option<&mut T> {
        let (index, place) = self.position(key);
        self.blocks.get_mut(index)?.get_mut(place.ok()?)
    }

    /// Adds an element; says whether its key was new. If it was not, nothing changes.
    pub(super) fn insert(&mut self, element: T) -> bool {
        let (mut index, Err(mut place)) = self.position(element.key()) else {
            return false;
        };
        let last = index + 1 >= self.blocks.len();
        // In ascending order, as at start-up, blocks are left full.
        let behind = last && place == BLOCK;
        if !behind && self.is_full(index) && self.spread(index) {
            // Somewhere in the two blocks, both of which have room now.
            let (block, Ok(at) | Err(at)) = self.position(element.key());
            (index, place) = (block, at);
        }
        self.len += 1;
        if place == 0
            && let Some(first) = self.firsts.get_mut(index)
        {
            *first = element.key();
        }
        let Some(block) = self.blocks.get_mut(index) else {
            self.append(element);
            return true;
        };
        if block.len() < BLOCK {
            block.insert(place, element);
        } else if behind {
            self.append(element);
        } else {
            let mut upper = Vec::with_capacity(BLOCK);
            upper.extend(block.drain(BLOCK / 2..));
            if place <= BLOCK / 2 {
                block.insert(place, element);
            } else {
                upper.insert(place - BLOCK / 2, element);
            }
            let first = upper.first().map_or(element.key(), Keyed::key);
            self.firsts.insert(index + 1, first);
            self.blocks.insert(index + 1, upper);
        }
        true
    }

    fn is_full(&self, index: usize) -> bool {
        self.blocks
            .get(index)
            .is_some_and(|block| block.len() >= BLOCK)
    }

    /// Evens a full block out with a neighbour that has room; says whether there was one.
    fn spread(&mut self, index: usize) -> bool {
        let room = |other: &Vec<T>| BLOCK.saturating_sub(other.len()) > BLOCK / 8;
        let neighbours = [Some(index + 1), index.checked_sub(1)];
        let roomy = neighbours.into_iter().flatten();
        let mut roomy = roomy.filter(|other| self.blocks.get(*other).is_some_and(room));
        let Some(other) = roomy.next() else {
            return false;
        };
        let lower = index.min(other);
        let Some([low, high]) = self.blocks.get_mut(lower..lower + 2) else {
            return false;
        };
        let half = usize::midpoint(low.len(), high.len());
        if low.len() > half {
            high.splice(0..0, low.drain(half..));
        } else {
            low.extend(high.drain(..half - low.len()));
        }
        for at in [lower, lower + 1] {
            let first = self.blocks.get(at).and_then(|block| block.first());
            if let (Some(first), Some(known)) = (first, self.firsts.get_mut(at)) {
                *known = first.key();
            }
        }
        true
    }

    /// Adds the highest element in a block of its own.
    fn append(&mut self, element: T) {
        self.firsts.push(element.key());
        self.blocks.push(block_of_one(element));
    }

    /// Takes the element with this key out.
    pub(super) fn remove(&mut self, key: T::Key) -> Option<T> {
        let (index, place) = self.position(key);
        let block = self.blocks.get_mut(index)?;
        let element = block.remove(place.ok()?);
        self.len -= 1;
        if let (Some(first), Some(new)) = (self.firsts.get_mut(index), block.first()) {
            *first = new.key();
        }
        self.tidy(index);
        Some(element)
    }

    /// The element with the lowest key.
    pub(super) fn first(&self) -> Option<&T> {
        self.blocks.first()?.first()
    }

    /// The elements with keys from `first` to `last`, in order.
    pub(super) fn range(&self, first: T::Key, last: T::Key) -> impl Iterator<Item = &T> {
        let start = self.block_of(first);
        let blocks = self.blocks.get(start..).unwrap_or_default();
        blocks
            .iter()
            .flatten()
            .skip_while(move |element| element.key() < first)
            .take_while(move |element| element.key() <= last)
    }

    /// Whether there is an element with a key from `first` to `last`.
    pub(super) fn has_any(&self, first: T::Key, last: T::Key) -> bool {
        let (index, place) = self.position(first);
        let (Ok(at) | Err(at)) = place;
        let here = self.blocks.get(index).and_then(|block| block.get(at));
        let next = || self.blocks.get(index + 1)?.first();
        let next = here.or_else(next);
        next.is_some_and(|element| element.key() <= last)
    }

    /// All elements, in order, to be changed in anything but their keys.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.blocks.iter_mut().flatten()
    }

    /// All elements, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten()
    }

    /// Drops an empty block, and joins one that has become small with a neighbour.
    fn tidy(&mut self, index: usize) {
        if self.blocks.get(index).is_some_and(Vec::is_empty) {
            self.blocks.remove(index);
            self.firsts.remove(index);
        } else if !self.join(index) && index > 0 {
            self.join(index - 1);
        }
    }

    /// Joins a block with the next one if both are small; says whether it did.
    fn join(&mut self, index: usize) -> bool {
        let len_of = |index: usize| self.blocks.get(index).map_or(BLOCK, Vec::len);
        if len_of(index) + len_of(index + 1) > BLOCK / 2 {
            return false;
        }
        let upper = self.blocks.remove(index + 1);
        self.firsts.remove(index + 1);
        if let Some(block) = self.blocks.get_mut(index) {
            block.extend(upper);
        }
        true
    }
}

/// A block with room for all it may ever hold, so that it never grows.
fn block_of_one<T>(element: T) -> Vec<T> {
    let mut block = Vec::with_capacity(BLOCK);
    block.push(element);
    block
}

#[cfg(test)]
impl<T: Keyed> Shelf<T> {
    /// Memory used, in octets.
    pub(super) fn octets(&self) -> usize {
        let elements: usize = self.blocks.iter().map(Vec::capacity).sum();
        let blocks = self.blocks.capacity() * size_of::<Vec<T>>();
        elements * size_of::<T>() + blocks + self.firsts.capacity() * size_of::<T::Key>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    impl Keyed for u32 {
        type Key = u32;

        fn key(&self) -> u32 {
            *self
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_set(steps in vec((any::<bool>(), 0..3000u32), 0..6000)) {
            let (mut shelf, mut model) = (Shelf::new(), BTreeSet::new());
            for (insert, key) in steps {
                if insert {
                    prop_assert_eq!(shelf.insert(key), model.insert(key));
                } else {
                    prop_assert_eq!(shelf.remove(key), model.take(&key));
                }
                prop_assert_eq!(shelf.len(), model.len());
                prop_assert_eq!(shelf.first(), model.first());
                let firsts = shelf.blocks.iter().map(|block| block.first());
                prop_assert!(firsts.eq(shelf.firsts.iter().map(Some)));
            }
            prop_assert!(shelf.iter().eq(&model));
            prop_assert!(shelf.range(500, 900).eq(model.range(500..=900)));
            for first in 0..3000 {
                let any = model.range(first..=first + 2).next().is_some();
                prop_assert_eq!(shelf.has_any(first, first + 2), any);
            }
        }
    }

    #[test]
    fn blocks_filled_in_order_are_full() {
        let mut shelf = Shelf::new();
        for key in 0..10_000u32 {
            shelf.insert(key);
        }
        assert_eq!(shelf.blocks.len(), 10_000usize.div_ceil(BLOCK));
    }

    #[test]
    fn blocks_filled_in_any_order_are_four_fifths_full() {
        let (mut shelf, mut rng) = (Shelf::new(), crate::rng::Rng::new(7));
        while shelf.len() < 100_000 {
            shelf.insert(u32::try_from(rng.below(1 << 32)).unwrap());
        }
        let room = shelf.blocks.len() * BLOCK;
        assert!(shelf.len() * 5 >= room * 4, "{} of {room}", shelf.len());
    }

    #[test]
    fn blocks_do_not_stay_almost_empty() {
        let mut shelf = Shelf::new();
        for key in 0..10_000u32 {
            shelf.insert(key);
        }
        for key in (0..10_000u32).filter(|key| key % 20 != 0) {
            shelf.remove(key);
        }
        assert_eq!(shelf.len(), 500);
        assert!(shelf.blocks.len() <= 8, "{} blocks", shelf.blocks.len());
    }
}
