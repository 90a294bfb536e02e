//! How long a replica keeps what it has cached, learnt from what it reports.
//!
//! An engine's cache is bounded and drops what was used longest ago. Its size is often unknown, and shared
//! with running requests. But under a steady load such a cache has one characteristic lifetime: what was used
//! within it is there, what was not is gone (H. Che, Y. Tung, Z. Wang, 2002). We measure age by the tokens that the
//! replica was given since, so that a pause does not age anything, and learn the lifetime from each answer:
//!
//! ```text
//! all that the replica had seen of a prompt was cached  : lifetime >= age of the deepest block of it
//! only c of e tokens were                               : lifetime <= that age - (e - c)
//! ```
//!
//! A lifetime that contradicts such a bound moves by [`STEP`] of the distance towards it. The second bound holds
//! because an engine drops a prompt from its end: what lies deeper by one token counts as older by one token.
//!
//! # Guarantees
//!
//! - A replica that was never seen to drop anything is believed to keep everything.
//! - O(1), no allocation. Ages wrap after 2³² units of 16 tokens; knowledge does not live so long.

use super::bytes::{NoExport, Reader, Writer};

/// Tokens per unit of age.
const UNIT_TOKENS: u32 = 16;

/// Part of the distance to a contradicting bound that one observation is worth.
const STEP: f64 = 0.3;

/// Growth per answer that confirmed an age near the lifetime: else it could only be found too short by chance.
const GROWTH: f64 = 1.01;

/// An age from which a confirmed hit says something: this part of the lifetime.
const NEAR: f64 = 0.8;

/// Reported over expected tokens from which all was cached, and below which some was dropped. What lies between
/// is within what bytes tell of tokens where a match ends inside of an earlier prompt.
const HIT: f64 = 0.9;
const MISS: f64 = 0.5;

/// Tokens expected below which a report tells nothing: blocks, templates and guesses are as large.
const EXPECTED_MIN: u32 = 128;

/// The cache of one replica, as far as it is known from outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifetime {
    /// Counts restarts, so that what was seen before one is not believed after it.
    pub(crate) generation: u16,
    given_tokens: u64,
    /// Age in units beyond which nothing is believed to be cached; `None`: nothing was seen to be dropped.
    units_max: Option<f64>,
}

impl Lifetime {
    /// What is known, for another process.
    pub(crate) fn export(&self, to: &mut Writer) {
        to.u16(self.generation);
        to.u64(self.given_tokens);
        to.u64(self.units_max.unwrap_or(f64::NAN).to_bits());
    }

    /// The same, read again.
    pub(crate) fn import(from: &mut Reader<'_>) -> Result<Self, NoExport> {
        let (generation, given_tokens) = (from.u16()?, from.u64()?);
        let units_max = Some(f64::from_bits(from.u64()?)).filter(|units| units.is_finite() && *units >= 0.0);
        Ok(Self { generation, given_tokens, units_max })
    }

    /// The replica was given so many tokens more.
    pub(crate) fn give(&mut self, tokens: u32) {
        self.given_tokens = self.given_tokens.wrapping_add(u64::from(tokens));
    }

    /// The stamp of a block that has `deeper_tokens` of its prompt behind it.
    pub(crate) fn stamp(&self, deeper_tokens: u32) -> u32 {
        (self.given_tokens.wrapping_add(u64::from(deeper_tokens)) / u64::from(UNIT_TOKENS)) as u32
    }

    /// Units since a stamp; a stamp that lies ahead, of a block near the start of a prompt, is new.
    pub(crate) fn age(&self, stamp: u32) -> u32 {
        let age = self.stamp(0).wrapping_sub(stamp);
        if age > u32::MAX / 2 { 0 } else { age }
    }

    pub(crate) fn believes(&self, age: u32) -> bool {
        self.units_max.is_none_or(|max| f64::from(age) <= max)
    }

    /// Learns that of `expected` tokens, the deepest of this age, `cached` were there.
    pub(crate) fn observe(&mut self, age: u32, expected: u32, cached: u32) {
        if expected < EXPECTED_MIN {
            return;
        }
        let age = f64::from(age);
        let share = f64::from(cached) / f64::from(expected);
        if share >= HIT {
            self.units_max = self.units_max.map(|max| match age {
                age if age > max => max + STEP * (age - max),
                age if age > NEAR * max => max * GROWTH,
                _ => max,
            });
        } else if share < MISS {
            let bound = (age - f64::from(expected.saturating_sub(cached)) / f64::from(UNIT_TOKENS)).max(1.0);
            let max = self.units_max.unwrap_or(bound);
            self.units_max = Some(max - STEP * (max - bound).max(0.0));
        }
    }

    /// The replica was restarted: nothing is cached, and its lifetime may be another.
    pub(crate) fn forget(&mut self) {
        *self = Self { generation: self.generation.wrapping_add(1), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_believed_until_something_was_dropped() {
        let mut lifetime = Lifetime::default();
        lifetime.give(1_000_000);
        assert!(lifetime.believes(lifetime.age(0)));

        lifetime.observe(1_000, 4_000, 0);

        assert!(!lifetime.believes(1_000));
        assert!(lifetime.believes(750), "what lay 4,000 tokens before the end was dropped last");
    }

    #[test]
    fn it_settles_where_hits_and_misses_meet() {
        let mut lifetime = Lifetime::default();
        for round in 0..200u32 {
            let age = 100 + round * 37 % 1_000;
            lifetime.observe(age, 1_600, if age <= 600 { 1_600 } else { 0 });
        }

        assert!(lifetime.believes(450));
        assert!(!lifetime.believes(750));
    }

    #[test]
    fn a_block_near_the_start_of_a_prompt_is_younger() {
        let mut lifetime = Lifetime::default();
        lifetime.give(16_000);
        let (shallow, deep) = (lifetime.stamp(8_000), lifetime.stamp(0));

        lifetime.give(16_000);

        assert_eq!(lifetime.age(deep), 1_000);
        assert_eq!(lifetime.age(shallow), 500);
    }
}
