//! What a deployment's entry says to the shedder, for the gateway and for a drill of the same file.

use std::time::Duration;

use super::Deployment;

/// Time to the first token where only the time between tokens is promised, as the key's documentation has it.
const TTFT: Duration = Duration::from_secs(2);
/// The same of the time between tokens.
const TPOT: Duration = Duration::from_millis(100);

impl Deployment {
    /// The shedder's configuration.
    #[must_use]
    pub fn for_shedder(&self) -> shedder::Config {
        let slo = &self.slo;
        let has_slo = slo.ttft.is_some() || slo.tpot.is_some();
        shedder::Config {
            slo: has_slo
                .then(|| shedder::Slo { ttft: slo.ttft.unwrap_or(TTFT), tpot: slo.tpot.unwrap_or(TPOT) }),
            ceilings: self.ceilings.by_tier(),
            slots_max: self.slots_max,
            fixed_limit: self.limit.map(f64::from),
            step_budget: self.step_tokens,
            kv_tokens: self.kv_tokens,
            scrape_interval: self.scrape.interval,
            queue: shedder::QueueBounds {
                requests: self.queue.requests,
                tokens: self.queue.tokens,
                bytes: self.queue.bytes,
                ..shedder::QueueBounds::default()
            },
            aborts_on_disconnect: self.engine.aborts(),
            withdraw: self.withdraw,
            share_max: self.priority_share_max,
            regular_floor: self.regular_share_min,
            size_share_min: self.long_prompt_share_min,
            flex_wait: self.flex.unwrap_or_default().wait,
            ..shedder::Config::default()
        }
    }
}
