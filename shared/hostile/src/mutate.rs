//! A small mutator, for tests that run everywhere. The fuzzer has a better one, which learns.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Makes inputs from seeds.
#[derive(Debug)]
pub struct Mutator {
    rng: SmallRng,
}

impl Mutator {
    /// The same seed makes the same inputs.
    pub fn new(seed: u64) -> Self {
        Self { rng: SmallRng::seed_from_u64(seed) }
    }

    /// Changes `bytes` in one to four places; may borrow from `other`.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..self.rng.random_range(1..=4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.rng.random_range(0..bytes.len());
            let end = (at + self.rng.random_range(1..=64)).min(bytes.len());
            match self.rng.random_range(0..10) {
                0..3 => bytes[at] ^= 1 << self.rng.random_range(0..8u8),
                3 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.rng.random_range(0..5)],
                4 => self.number(bytes, at),
                5 => drop(bytes.drain(at..end)),
                6 => bytes.extend_from_within(at..end),
                7 => bytes.truncate(at),
                8 => {
                    let copied = bytes[at..end].to_vec();
                    bytes.splice(at..at, copied);
                }
                _ => {
                    let from = self.rng.random_range(0..=other.len());
                    let to = (from + (end - at)).min(other.len());
                    bytes.splice(at..end, other[from..to].iter().copied());
                }
            }
        }
    }

    /// Puts an integer that programs count wrong with.
    fn number(&mut self, bytes: &mut [u8], at: usize) {
        let numbers = [0, 1, 15, 16, 17, 255, 1 << 15, u64::from(u32::MAX), 1 << 31, 1 << 62, u64::MAX - 15, u64::MAX];
        let number = numbers[self.rng.random_range(0..numbers.len())].to_le_bytes();
        let width = [1, 2, 4, 8][self.rng.random_range(0..4)].min(bytes.len() - at);
        bytes[at..at + width].copy_from_slice(&number[..width]);
    }
}
