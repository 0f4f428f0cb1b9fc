//! Seeded randomness: the only kind there is in core.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::num::NonZeroU32;

/// A generator seeded at construction; the same seed gives the same numbers.
#[derive(Debug)]
pub struct Rng(StdRng);

impl Rng {
    /// A generator whose whole future follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A number of 16 bits.
    pub fn u16(&mut self) -> u16 {
        self.0.random()
    }

    /// A number of 64 bits, for session ids and MIME boundaries.
    pub fn u64(&mut self) -> u64 {
        self.0.random()
    }

    /// A number of 32 bits that is not zero.
    pub fn nonzero_u32(&mut self) -> NonZeroU32 {
        loop {
            if let Some(number) = NonZeroU32::new(self.0.random()) {
                return number;
            }
        }
    }

    /// A number below `bound`; 0 if the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            self.0.random_range(0..bound)
        }
    }
}
