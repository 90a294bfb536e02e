//! What is between gateway and engines in a drill: a way each way, which may vary, and words that stay in their order.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

/// The ways between the gateway and the engines.
#[derive(Debug)]
pub(super) struct Network {
    way: Duration,
    /// Mean of what comes on top, exponentially distributed.
    jitter: Duration,
    /// When the last words of each replica reach the gateway; bounded by the replicas.
    last_heard: BTreeMap<u16, Duration>,
}

impl Network {
    pub(super) fn new(way: Duration, jitter: Duration) -> Self {
        Self { way, jitter, last_heard: BTreeMap::new() }
    }

    /// When something that is sent at `now` arrives.
    pub(super) fn arrival(&self, now: Duration, rng: &mut SmallRng) -> Duration {
        if self.jitter.is_zero() {
            return now + self.way;
        }
        now + self.way + self.jitter.mul_f64(-(1.0 - rng.random::<f64>()).ln())
    }

    /// When what `replica` says at `now` reaches the gateway: never before what it said earlier.
    pub(super) fn heard_at(&mut self, now: Duration, replica: u16, rng: &mut SmallRng) -> Duration {
        let at = self.arrival(now, rng);
        let last = self.last_heard.entry(replica).or_default();
        *last = at.max(*last);
        *last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn jitter_delays_and_never_reorders() {
        let mut network = Network::new(Duration::from_millis(10), Duration::from_millis(20));
        let mut rng = SmallRng::seed_from_u64(1);
        let (mut last, mut sum) = (Duration::ZERO, Duration::ZERO);
        for step in 0..10_000u32 {
            let now = Duration::from_millis(1) * step;
            let at = network.heard_at(now, 3, &mut rng);
            assert!(at >= last && at >= now + Duration::from_millis(10));
            last = at;
            sum += network.arrival(now, &mut rng) - now;
        }
        let mean = sum / 10_000;
        assert!((29..31).contains(&mean.as_millis()), "{mean:?}");
    }
}
