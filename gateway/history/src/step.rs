//! One step of the axis: open while it is filled, closed as a [`Point`], kept in 104 bytes, and 36 more where flex was used.
//!
//! A closed step keeps numbers only: counts, the three quantiles of first tokens and of token gaps by tier, and what was
//! sampled. Quantiles are kept in 16 bits, to 1 part in 2,000.

use crate::histogram::{Histogram, of_ticks, ticks};
use shedder::{PerTier, Tier};
use std::num::NonZeroU32;
use std::time::Duration;

/// The quantiles that are kept.
pub const SHARES: [f64; 3] = [0.5, 0.95, 0.99];

/// Bits of a short number's mantissa, the leading one not counted.
const MANTISSA_BITS: u32 = 11;

/// A duration in 16 bits; 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Short(u16);

impl Short {
    fn of(value: Option<Duration>) -> Self {
        let Some(value) = value else { return Short(0) };
        let value = ticks(value).max(1);
        if value < 1 << MANTISSA_BITS {
            return Short(value as u16);
        }
        let shift = (value.ilog2() - MANTISSA_BITS).min(30);
        let mantissa = (value >> shift & ((1 << MANTISSA_BITS) - 1)) as u16;
        Short((shift as u16 + 1) << MANTISSA_BITS | mantissa)
    }

    fn value(self) -> Option<Duration> {
        let mantissa = u64::from(self.0 & ((1 << MANTISSA_BITS) - 1));
        match self.0 >> MANTISSA_BITS {
            0 if mantissa == 0 => None,
            0 => Some(of_ticks(mantissa)),
            exponent => Some(of_ticks((mantissa | 1 << MANTISSA_BITS) << (exponent - 1))),
        }
    }
}

/// Counts of a tier within a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierCounts {
    /// Requests that got a place.
    pub admitted: u32,
    /// Requests refused for a limit of their account: 429.
    pub limited: u32,
    /// Requests refused for load: 503.
    pub shed: u32,
    /// Answers that ended.
    pub answered: u32,
    /// Those of them within the service level.
    pub met: u32,
    /// The most that waited at a time.
    pub queued: u32,
}

/// Tokens of the requests that ended within a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Prompt tokens.
    pub prompt: u32,
    /// Those of them that the engine had cached.
    pub cached: u32,
    /// Generated tokens.
    pub generated: u32,
}

/// Durations of a tier: first tokens and token gaps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TierTimes {
    /// From arrival to the first token.
    pub first_token: Histogram,
    /// Between content chunks.
    pub gap: Histogram,
}

impl TierTimes {
    /// Adds what another one counted.
    pub fn add(&mut self, other: &TierTimes) {
        self.first_token.add(&other.first_token);
        self.gap.add(&other.gap);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.first_token.clear();
        self.gap.clear();
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first_token.total() == 0 && self.gap.total() == 0
    }
}

/// What is sampled of a deployment, about once a second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sampled {
    /// How full the least full replica in service is.
    pub saturation: f32,
    /// The sum of the concurrency limits of the replicas in service.
    pub limit: f32,
    /// Requests on its replicas.
    pub active: u32,
    /// Replicas in service.
    pub replicas_up: u16,
    /// All replicas.
    pub replicas: u16,
    /// How full a replica may be now, by tier.
    pub ceilings: PerTier<f32>,
}

/// The same as it is kept: shares in thousandths, and in hundredths.
#[derive(Debug, Clone, Copy, PartialEq)]
struct KeptSample {
    limit: f32,
    /// One more, so that none of all of it costs nothing.
    active: NonZeroU32,
    saturation_thousandths: u16,
    replicas_up: u16,
    replicas: u16,
    ceilings_hundredths: PerTier<u8>,
}

impl KeptSample {
    fn of(sampled: Sampled) -> Self {
        // What is out of range is at its end.
        KeptSample {
            limit: sampled.limit,
            active: NonZeroU32::MIN.saturating_add(sampled.active),
            saturation_thousandths: (sampled.saturation * 1e3).round() as u16,
            replicas_up: sampled.replicas_up,
            replicas: sampled.replicas,
            ceilings_hundredths: PerTier::from_fn(|tier| (sampled.ceilings[tier] * 1e2).round() as u8),
        }
    }

    fn sampled(self) -> Sampled {
        Sampled {
            limit: self.limit,
            active: self.active.get() - 1,
            saturation: f32::from(self.saturation_thousandths) / 1e3,
            replicas_up: self.replicas_up,
            replicas: self.replicas,
            ceilings: PerTier::from_fn(|tier| f32::from(self.ceilings_hundredths[tier]) / 1e2),
        }
    }
}

/// A closed step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// `None`: nothing was sampled, so nothing is known of this step.
    sampled: Option<KeptSample>,
    tokens: Tokens,
    tiers: PerTier<TierPoint>,
}

/// What is kept of a tier.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct TierPoint {
    counts: TierCounts,
    first_token: [Short; 3],
    gap: [Short; 3],
}

/// A closed step as it is kept: flex, which most deployments do not have, is kept beside it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Kept {
    sampled: Option<KeptSample>,
    tokens: Tokens,
    priority: TierPoint,
    regular: TierPoint,
}

impl Kept {
    /// The point, with flex where there was some.
    pub(crate) fn point(self, flex: Option<TierPoint>) -> Point {
        let Kept { sampled, tokens, priority, regular } = self;
        Point { sampled, tokens, tiers: PerTier { priority, regular, flex: flex.unwrap_or_default() } }
    }
}

impl Point {
    /// What was sampled: the mean saturation, and the last of the rest. `None`: the step passed without being recorded.
    #[must_use]
    pub fn sampled(&self) -> Option<Sampled> {
        self.sampled.map(KeptSample::sampled)
    }

    /// Whether anything is known of this step: it was sampled, or requests ended in it before its first sample.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.sampled.is_some() || self.tokens != Tokens::default() || self.tiers != PerTier::default()
    }

    /// As it is kept, and flex where there was some.
    pub(crate) fn kept(self) -> (Kept, Option<TierPoint>) {
        let Point { sampled, tokens, tiers: PerTier { priority, regular, flex } } = self;
        (Kept { sampled, tokens, priority, regular }, (flex != TierPoint::default()).then_some(flex))
    }

    /// Tokens of the requests that ended.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// What was counted of a tier.
    #[must_use]
    pub fn counts(&self, tier: Tier) -> TierCounts {
        self.tiers[tier].counts
    }

    /// The quantiles [`SHARES`] of the times to first tokens.
    #[must_use]
    pub fn first_token(&self, tier: Tier) -> [Option<Duration>; 3] {
        self.tiers[tier].first_token.map(Short::value)
    }

    /// The quantiles [`SHARES`] of token gaps.
    #[must_use]
    pub fn gap(&self, tier: Tier) -> [Option<Duration>; 3] {
        self.tiers[tier].gap.map(Short::value)
    }
}

/// A step that is being filled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Open {
    pub(crate) counts: PerTier<TierCounts>,
    pub(crate) tokens: Tokens,
    times: PerTier<TierTimes>,
    last: Sampled,
    saturations: f64,
    samples: u32,
}

impl Open {
    pub(crate) fn sample(&mut self, sampled: Sampled, queued: PerTier<u32>) {
        self.last = sampled;
        self.saturations += f64::from(sampled.saturation);
        self.samples += 1;
        for tier in Tier::ALL {
            let counts = &mut self.counts[tier];
            counts.queued = counts.queued.max(queued[tier]);
        }
    }

    pub(crate) fn add_times(&mut self, times: &PerTier<TierTimes>) {
        Tier::ALL.into_iter().for_each(|tier| self.times[tier].add(&times[tier]));
    }

    /// The point that it became; then it is empty.
    pub(crate) fn close(&mut self) -> Point {
        let of = |histogram: &Histogram| SHARES.map(|share| Short::of(histogram.quantile(share)));
        let mean = (self.saturations / f64::from(self.samples.max(1))) as f32;
        let point = Point {
            sampled: (self.samples > 0).then(|| KeptSample::of(Sampled { saturation: mean, ..self.last })),
            tokens: self.tokens,
            tiers: PerTier::from_fn(|tier| TierPoint {
                counts: self.counts[tier],
                first_token: of(&self.times[tier].first_token),
                gap: of(&self.times[tier].gap),
            }),
        };
        Tier::ALL.into_iter().for_each(|tier| self.times[tier].clear());
        (self.counts, self.tokens, self.saturations, self.samples) = Default::default();
        point
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_numbers_are_right_to_a_part_in_two_thousand() {
        for micros in [100_u64, 700, 204_700, 204_800, 250_000, 1_999_900, 61_234_500, 7_400_000_000] {
            let value = Duration::from_micros(micros);
            let told = Short::of(Some(value)).value().unwrap();
            let off = (told.as_secs_f64() - value.as_secs_f64()).abs();
            assert!(off <= value.as_secs_f64() / 2000.0, "{micros} µs came back as {told:?}");
        }
        assert_eq!(Short::of(None).value(), None);
        assert_eq!(Short::of(Some(Duration::ZERO)).value(), Some(Duration::from_micros(100)));
    }

    #[test]
    fn a_step_closes_with_means_last_values_and_peaks_and_begins_anew() {
        let mut open = Open::default();
        let queued = |regular| PerTier { regular, ..PerTier::default() };
        open.sample(Sampled { saturation: 0.5, limit: 64.0, ..Sampled::default() }, queued(7));
        let ceilings = PerTier { priority: 1.0, regular: 0.35, flex: 0.2 };
        open.sample(Sampled { saturation: 1.0, limit: 60.0, ceilings, ..Sampled::default() }, queued(2));
        open.counts.regular.admitted = 3;
        let mut times = PerTier::<TierTimes>::default();
        times.regular.first_token.record(Duration::from_millis(800), 1);
        open.add_times(&times);

        let point = open.close();

        let sampled = point.sampled().unwrap();
        assert_eq!((sampled.saturation, sampled.limit, sampled.ceilings.regular), (0.75, 60.0, 0.35));
        assert_eq!((point.counts(Tier::Regular).admitted, point.counts(Tier::Regular).queued), (3, 7));
        let told = point.first_token(Tier::Regular)[0].unwrap().as_millis();
        assert!((750..=850).contains(&told), "{told} ms");
        assert_eq!(point.first_token(Tier::Priority), [None; 3]);
        assert_eq!(open.close(), Point::default(), "nothing is left, and nothing was sampled");
    }

    #[test]
    fn a_point_is_small() {
        assert!(size_of::<Kept>() <= 104, "{}", size_of::<Kept>());
        assert!(size_of::<TierPoint>() <= 36, "{}", size_of::<TierPoint>());
    }
}
