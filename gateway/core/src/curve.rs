//! How long the steps of an engine take by how many streams it has, measured while it serves.
//!
//! Every 250 ms it is seen of each replica how many streams had tokens, how long they waited for them, and how many prompt
//! tokens were computed meanwhile. A continuously batching engine gives each stream a token per step, and computes prompts
//! in the same steps; so over such an interval
//!
//! ```text
//! T = steps · s(n) + P · p          T: seconds, n: streams, P: prompt tokens, p: seconds per prompt token
//! ```
//!
//! The sums are kept by n, in classes that are 15 % wide, and the older fade: by half in ten minutes of seconds seen in that
//! class. What the curve is the reader fits: it is what a simulated engine needs to be like this one.
//!
//! Cost: O(1), 1.7 KB, no map.

use std::time::Duration;

/// Classes of streams: up to more than a thousand.
const CLASSES: usize = 52;
/// How much wider each is than the one before.
const WIDER: f64 = 1.15;
/// Seconds seen in a class after which what was seen before counts half.
const HALF_S: f64 = 600.0;

/// What was seen of a replica in one interval.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Seen {
    /// Streams that had tokens.
    pub streams: u32,
    /// Chunks after the first of all of them.
    pub gaps: u64,
    /// Time between those, summed over the streams.
    pub gap_sum: Duration,
    /// Prompt tokens whose first token came.
    pub prompt_tokens: u64,
}

/// The sums of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AtLoad {
    /// Mean number of streams.
    pub streams: f64,
    /// Seconds seen.
    pub seconds: f64,
    /// Steps in them.
    pub steps: f64,
    /// Prompt tokens computed in them.
    pub prompt_tokens: f64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Curve {
    classes: [AtLoad; CLASSES],
}

impl Default for Curve {
    fn default() -> Self {
        Curve { classes: [AtLoad::default(); CLASSES] }
    }
}

impl Curve {
    /// An interval was seen. O(1).
    pub fn add(&mut self, seen: Seen) {
        if seen.streams == 0 || seen.gaps == 0 {
            return;
        }
        let streams = f64::from(seen.streams);
        let seconds = seen.gap_sum.as_secs_f64() / streams;
        let class = (streams.ln() / WIDER.ln()) as usize;
        let Some(sums) = self.classes.get_mut(class.min(CLASSES - 1)) else { return };
        let keep = (-seconds / HALF_S).exp2();
        let all = keep * sums.seconds + seconds;
        sums.streams =
            if all > 0.0 { (keep * sums.seconds * sums.streams + seconds * streams) / all } else { streams };
        sums.seconds = all;
        sums.steps = keep * sums.steps + seen.gaps as f64 / streams;
        sums.prompt_tokens = keep * sums.prompt_tokens + seen.prompt_tokens as f64;
    }

    /// The classes of which anything was seen, by streams.
    pub fn at_loads(&self) -> impl Iterator<Item = &AtLoad> {
        self.classes.iter().filter(|class| class.steps > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_by_how_many_streams_share_them() {
        let mut curve = Curve::default();
        for streams in [1_u32, 8, 64] {
            // 10 ms and 0.1 ms for each stream; a quarter of a second each.
            let step = 0.010 + 0.0001 * f64::from(streams);
            for _ in 0..40 {
                let steps = (0.25 / step) as u64;
                let gaps = steps * u64::from(streams);
                let gap_sum = Duration::from_secs_f64(gaps as f64 * step);
                curve.add(Seen { streams, gaps, gap_sum, prompt_tokens: 5 });
            }
        }

        let seen: Vec<AtLoad> = curve.at_loads().copied().collect();
        assert_eq!(seen.len(), 3);
        for (at, streams) in seen.iter().zip([1.0, 8.0, 64.0]) {
            assert!((at.streams - streams).abs() < 1e-9, "{at:?}");
            assert!((at.seconds / at.steps - 0.010 - 0.0001 * streams).abs() < 1e-6, "{at:?}");
            assert!((at.prompt_tokens - 200.0).abs() < 5.0, "{at:?}");
        }
    }

    #[test]
    fn absurd_intervals_stay_finite() {
        let mut curve = Curve::default();
        for seen in [
            Seen::default(),
            Seen { streams: u32::MAX, gaps: u64::MAX, gap_sum: Duration::MAX, prompt_tokens: u64::MAX },
            Seen { streams: 1, gaps: 1, gap_sum: Duration::ZERO, prompt_tokens: 0 },
        ] {
            curve.add(seen);
        }
        assert!(
            curve
                .at_loads()
                .all(|at| at.streams.is_finite() && at.seconds.is_finite() && at.steps.is_finite())
        );
    }
}
