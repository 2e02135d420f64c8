//! Chance that can be repeated.
//!
//! Guarantees: the same seed gives the same numbers in every version of this program, so that a seed kept as a
//! regression stays one. (`SplitMix64`, Steele, Lea and Flood, 2014.)

use std::time::Duration;

/// A source of numbers.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number().checked_rem(end).unwrap_or_default()
    }

    /// Whether something happens that happens so many times in a thousand.
    pub fn permille(&mut self, times: u64) -> bool {
        self.below(1_000) < times
    }

    /// A time between two others.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_millis()).unwrap_or(u64::MAX);
        least + Duration::from_millis(self.below(span.saturating_add(1)))
    }

    /// One of several; `None` of none.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let place = self.below(of.len() as u64);
        of.get(usize::try_from(place).unwrap_or_default())
    }

    /// Another source that does not depend on how much is taken from this one.
    #[must_use]
    pub fn branch(&self, label: u64) -> Self {
        Self(self.0.rotate_left(17) ^ label.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut chance = Chance::new(42);
        assert_eq!(chance.number(), 13_679_457_532_755_275_413);
        assert_eq!(chance.below(0), 0);
        assert!((0..100).all(|_| chance.below(7) < 7));
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(3));
        assert!((0..100).all(|_| (least..=most).contains(&chance.between(least, most))));
    }
}
