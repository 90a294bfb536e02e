//! What real engines do besides computing steps: everything in which they differ from a first-come, first-served batch
//! whose only delay is its work.
//!
//! Plain data; [`model`](crate::model) acts on it. Nothing here is known to whoever stands before the engine: it has to be
//! found out, or borne.
//!
//! | member | what it stands for |
//! |---|---|
//! | `speed` | another card, or a part of one: 0.3 of an A100 is about an L4 |
//! | `lag` | a busy API server, a tokenizer, a proxy before the engine: before the scheduler knows of a request |
//! | `some_lag` | the same for some requests: pictures that are decoded, adapters that are loaded, grammars that are compiled |
//! | `api_us_per_token`, `api_us_per_event` | one thread that parses prompts and writes events, one after the other |
//! | `transfer_us_per_token` | prefill and decode on different cards: the KV of a prompt travels before its first token |
//! | `way_ms` | another region: requests come and events arrive so much later |
//! | `pause` | garbage collection, a checkpoint, a neighbour: no step ends in that time |
//! | `stall` | some steps take longer |
//! | `graph_sequences`, `eager` | CUDA graphs: a batch is padded up to the next captured size, and one that is larger than all of them runs without |
//! | `order`, `prefill_first` | which prompt is next, and whether answers wait for it |
//! | `acceptance` | speculative decoding that guesses right that often |
//! | `steps_per_event` | engines that tell tokens of several steps at once |
//! | `any_order` | engines that tell the tokens of one step in another order than that of the requests: by slot, by batch |
//!
//! Random draws are functions of what they are for (a request, a step), so that the same calls give the same events.

mod list;

use std::time::Duration;

pub use list::BehaviourError;

use crate::text::mix;

/// See the module. [`Behaviour::PLAIN`] is an engine that does nothing of all that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Behaviour {
    /// Share of the profile's speed, greater than 0.
    pub speed: f64,
    /// Before the scheduler knows of a request, beside the profile's own time in the API server.
    pub lag: Lag,
    /// The same for this share of the requests, 0 … 1, on top.
    pub some_lag: (f64, Lag),
    /// Microseconds of the API server's one thread for each token of a prompt.
    pub api_us_per_token: f64,
    /// Microseconds of it for each event.
    pub api_us_per_event: f64,
    /// Microseconds between the end of a prompt's computation and its first token, for each of its tokens.
    pub transfer_us_per_token: f64,
    /// Milliseconds of network before it, each way, for whoever has no transport of its own that has them.
    pub way_ms: f64,
    /// The whole engine stands still.
    pub pause: Option<Pause>,
    /// This share of the steps, 0 … 1, takes so many milliseconds longer.
    pub stall: (f64, f64),
    /// Decoding sequences are padded up to a multiple of this. 0 and 1: not at all.
    pub graph_sequences: u32,
    /// From more than so many sequences on, a step takes so many times as long.
    pub eager: Option<(u32, f64)>,
    /// Which waiting prompt is next.
    pub order: Order,
    /// While a prompt can be computed no answer goes on.
    pub prefill_first: bool,
    /// Probability that a drafted token is right, 0 … 1, where the profile decodes several at once.
    pub acceptance: f64,
    /// Tokens are told after so many steps, the first and the last at once. At least 1.
    pub steps_per_event: u32,
    /// The tokens of one step are told in any order.
    pub any_order: bool,
}

/// A delay: its mean and how it varies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lag {
    /// Milliseconds.
    pub mean_ms: f64,
    /// Coefficient of variation of a lognormal distribution; 0: always the mean.
    pub cv: f64,
}

/// A standstill that comes again and again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pause {
    /// Milliseconds from the beginning of one to that of the next; the first comes after so long.
    pub every_ms: f64,
    /// Milliseconds that it lasts, less than `every_ms`.
    pub ms: f64,
}

/// Which waiting prompt an engine takes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The one that came first.
    #[default]
    FirstCome,
    /// The one that came last.
    LastCome,
    /// Any.
    Random,
}

impl Lag {
    /// No delay.
    pub const NONE: Self = Self { mean_ms: 0.0, cv: 0.0 };

    /// The delay of what `key` stands for.
    #[must_use]
    pub fn draw(&self, key: u64) -> Duration {
        if self.mean_ms <= 0.0 {
            return Duration::ZERO;
        }
        let ms = if self.cv > 0.0 {
            // A lognormal distribution with that mean: sigma² = ln(1 + cv²), mu = ln(mean) − sigma² / 2.
            let variance = self.cv.mul_add(self.cv, 1.0).ln();
            self.mean_ms * (variance.sqrt() * normal(key) - variance / 2.0).exp()
        } else {
            self.mean_ms
        };
        Duration::from_nanos((ms * 1e6) as u64)
    }
}

impl Behaviour {
    /// Nothing but steps.
    pub const PLAIN: Self = Self {
        speed: 1.0,
        lag: Lag::NONE,
        some_lag: (0.0, Lag::NONE),
        api_us_per_token: 0.0,
        api_us_per_event: 0.0,
        transfer_us_per_token: 0.0,
        way_ms: 0.0,
        pause: None,
        stall: (0.0, 0.0),
        graph_sequences: 0,
        eager: None,
        order: Order::FirstCome,
        prefill_first: false,
        acceptance: 1.0,
        steps_per_event: 1,
        any_order: false,
    };

    /// Whether events reach the outside later than they happen.
    #[must_use]
    pub fn delays_events(&self) -> bool {
        self.api_us_per_event > 0.0 || self.transfer_us_per_token > 0.0 || self.way_ms > 0.0
    }

    /// The delay before the scheduler of the request that `key` stands for.
    #[must_use]
    pub fn lag_of(&self, key: u64) -> Duration {
        let (share, some) = self.some_lag;
        let extra =
            if uniform(mix(key ^ 0xA11)) < share { some.draw(mix(key ^ 0xB22)) } else { Duration::ZERO };
        self.lag.draw(mix(key ^ 0xC33)) + extra
    }

    /// How much longer the step of that number takes.
    #[must_use]
    pub fn stall_of(&self, step: u64) -> Duration {
        let (share, ms) = self.stall;
        if uniform(mix(step ^ 0xD44)) < share {
            Duration::from_nanos((ms * 1e6) as u64)
        } else {
            Duration::ZERO
        }
    }

    /// When a step ends that begins at `now` and takes `work`: no time passes during a pause.
    #[must_use]
    pub fn end_of(&self, now: Duration, work: Duration) -> Duration {
        let Some(Pause { every_ms, ms }) = self.pause else { return now + work };
        let (every, length) = (millis(every_ms), millis(ms));
        if every.is_zero() || length >= every {
            return now + work;
        }
        let (mut at, mut left) = (now, work);
        loop {
            let round = (at.as_nanos() / every.as_nanos()) as u32;
            let began = every * round;
            if round > 0 && at < began + length {
                at = began + length;
            }
            let next = began + every;
            if at + left <= next {
                return at + left;
            }
            left -= next - at;
            at = next;
        }
    }

    /// Tokens that a decoding sequence gains of `drafted` ones: the first is always right, and each further one while all
    /// before it were.
    #[must_use]
    pub fn accepted(&self, drafted: u32, key: u64) -> u32 {
        if self.acceptance >= 1.0 {
            return drafted;
        }
        let right =
            (1..drafted).take_while(|nth| uniform(mix(key ^ u64::from(*nth))) < self.acceptance).count();
        (1 + right as u32).min(drafted)
    }

    /// Decoding sequences that a step computes for `sequences`.
    #[must_use]
    pub fn padded(&self, sequences: u32) -> u32 {
        if self.graph_sequences > 1 { sequences.next_multiple_of(self.graph_sequences) } else { sequences }
    }

    /// How many times as long a step with so many sequences takes.
    #[must_use]
    pub fn eager_factor(&self, sequences: u32) -> f64 {
        self.eager.filter(|(most, _)| sequences > *most).map_or(1.0, |(_, factor)| factor)
    }
}

fn millis(ms: f64) -> Duration {
    Duration::from_nanos((ms.max(0.0) * 1e6) as u64)
}

/// 0 ≤ x < 1.
fn uniform(key: u64) -> f64 {
    (key >> 11) as f64 / (1u64 << 53) as f64
}

/// A standard normal number, by Box and Muller.
fn normal(key: u64) -> f64 {
    let (first, second) = (uniform(mix(key)), uniform(mix(key ^ 0xE55)));
    (-2.0 * (1.0 - first).ln()).sqrt() * (std::f64::consts::TAU * second).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_lag_has_the_mean_and_the_variation_that_it_is_given() {
        let lag = Lag { mean_ms: 300.0, cv: 0.5 };
        let draws: Vec<f64> = (0..100_000).map(|key| lag.draw(mix(key)).as_secs_f64() * 1e3).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!((mean - 300.0).abs() < 3.0, "{mean}");
        assert!((variance.sqrt() / mean - 0.5).abs() < 0.02, "{}", variance.sqrt() / mean);
        assert_eq!(Lag { mean_ms: 300.0, cv: 0.0 }.draw(7), ms(300));
    }

    #[test]
    fn some_requests_lag_as_often_as_they_should() {
        let behaviour = Behaviour { some_lag: (0.4, Lag { mean_ms: 500.0, cv: 0.0 }), ..Behaviour::PLAIN };
        let late = (0..10_000).filter(|key| behaviour.lag_of(*key) == ms(500)).count();
        assert!((3_800..4_200).contains(&late), "{late}");
    }

    #[test]
    fn no_time_passes_during_a_pause() {
        let behaviour = Behaviour { pause: Some(Pause { every_ms: 1_000.0, ms: 300.0 }), ..Behaviour::PLAIN };
        assert_eq!(behaviour.end_of(ms(100), ms(50)), ms(150), "before the first one");
        assert_eq!(behaviour.end_of(ms(980), ms(50)), ms(1_330), "a step is interrupted");
        assert_eq!(behaviour.end_of(ms(1_100), ms(50)), ms(1_350), "one that would begin in it");
        assert_eq!(behaviour.end_of(ms(1_300), ms(1_000)), ms(2_600), "one that meets the next");
        assert_eq!(Behaviour::PLAIN.end_of(ms(1_100), ms(50)), ms(1_150));
    }

    #[test]
    fn drafts_are_accepted_one_after_the_other() {
        let behaviour = Behaviour { acceptance: 0.7, ..Behaviour::PLAIN };
        let sum: u32 = (0..10_000).map(|key| behaviour.accepted(4, mix(key))).sum();
        // 1 + 0.7 + 0.49 + 0.343
        assert!((f64::from(sum) / 1e4 - 2.533).abs() < 0.05, "{sum}");
        assert_eq!(Behaviour::PLAIN.accepted(4, 1), 4);
    }

    #[test]
    fn batches_are_padded_and_the_largest_run_without_a_graph() {
        let behaviour = Behaviour { graph_sequences: 8, eager: Some((64, 1.5)), ..Behaviour::PLAIN };
        assert_eq!([0, 1, 8, 9].map(|n| behaviour.padded(n)), [0, 8, 8, 16]);
        assert_eq!([64, 65].map(|n| behaviour.eager_factor(n)), [1.0, 1.5]);
    }
}
