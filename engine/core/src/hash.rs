//! Hashing for maps that are looked up and never walked in an order that shows.
//!
//! Promises: no entropy of the process; the seed comes from whoever makes the map.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher as _};

/// For keys of ours: numbers we draw, words of the configuration.
pub(crate) type Fixed = BuildHasherDefault<DefaultHasher>;

/// For keys that strangers choose, such as domains: they cannot tell which ones collide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl BuildHasher for Seeded {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}
