//! What a budget tells about itself: refusals, and the state of each meter.

use std::time::Duration;

use crate::meter::Meter;

/// Why a request was not admitted. Nothing was reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The meter without room; of several the one that takes longest.
    pub meter: Meter,
    /// Its limit, in tokens per minute.
    pub limit: u64,
    /// Its tokens that are used, owed, and reserved for running requests or expected of them.
    pub used: u64,
    /// The tokens that this request asked of it.
    pub asked: u64,
    /// When this request will have room if nothing else comes and what running ones hold or are expected to generate is
    /// charged now: without jitter, and longer than a minute where a debt is. Exact for prompts; output may be admitted
    /// earlier, by the forecast. `None`: it can never fit, for it is larger than the ceiling.
    ///
    /// A request that waits as told is admitted if it is alone, unless the limit shrinks while it waits.
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Refusal { meter, limit, used, asked, .. } = self;
        write!(f, "{meter} tokens: limit {limit} per minute, {used} used, {asked} asked")
    }
}

/// The state of one meter. All amounts in tokens, of the last minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterView {
    /// The limit in force, in tokens per minute.
    pub limit: u64,
    /// The limit never shrinks below this.
    pub floor: u64,
    /// The limit never grows above this.
    pub ceiling: u64,
    /// Charged in the last minute: never more than the limit in force at the time.
    pub used: u64,
    /// Held for running requests.
    pub reserved: u64,
    /// Owed: charged, but not yet in any minute.
    pub debt: u64,
    /// What can still be asked for: `limit - used - reserved - debt`, not below 0.
    pub remaining: u64,
    /// When at least half of the limit will be free if nothing else comes; zero if it is.
    pub until_half: Duration,
}
