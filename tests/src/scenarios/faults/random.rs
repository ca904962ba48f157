//! Random numbers that a seed repeats (SplitMix64, Steele and others 2014): which fault comes when.

use std::ops::Range;

/// A generator. The same seed gives the same numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another generator, whose numbers do not depend on how many are drawn from this one.
    #[must_use]
    pub fn split(&self, number: u64) -> Self {
        let mut other = Self(self.0 ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        other.next();
        other
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of a range; its start where it is empty.
    pub fn within(&mut self, range: Range<usize>) -> usize {
        let length = range.end.saturating_sub(range.start).max(1) as u64;
        range.start + usize::try_from(self.next() % length).unwrap_or(0)
    }

    /// True once in `among` times.
    pub fn one_in(&mut self, among: usize) -> bool {
        self.within(0..among) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_repeat_with_their_seed_and_cover_their_range() {
        let drawn = |seed| {
            let mut random = Random::new(seed);
            (0..200).map(|_| random.within(3..13)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        assert!((3..13).all(|number| drawn(7).contains(&number)));
        assert_eq!(Random::new(1).within(5..5), 5);
    }
}
