//! What the shedder is told: requests, their progress, failures and engine metrics.

use std::time::Duration;

use crate::tier::Tier;

/// One request, from its offer to its end. Given by the shedder, never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One replica of the deployment. Given by the caller.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct ReplicaId(pub u16);

/// The prompt tokens of a request that have to be computed, by replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uncached {
    /// Tokens to compute on a replica that `best` does not name.
    pub elsewhere: u32,
    /// Up to three replicas that hold a longer part of the prompt, with the tokens to compute there.
    pub best: [Option<(ReplicaId, u32)>; 3],
}

impl Uncached {
    /// The same number of tokens on every replica.
    #[must_use]
    pub const fn everywhere(tokens: u32) -> Self {
        Self { elsewhere: tokens, best: [None; 3] }
    }

    /// Tokens to compute on `replica`.
    #[must_use]
    pub fn on(&self, replica: ReplicaId) -> u32 {
        self.best
            .iter()
            .flatten()
            .find(|(id, _)| *id == replica)
            .map_or(self.elsewhere, |&(_, tokens)| tokens)
    }

    /// Tokens to compute where the most is cached.
    #[must_use]
    pub fn least(&self) -> u32 {
        self.best.iter().flatten().map(|&(_, tokens)| tokens).fold(self.elsewhere, u32::min)
    }
}

/// A request that wants to be served.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer {
    /// The tier it asks for and may have.
    pub tier: Tier,
    /// Whose it is: the unit of fairness.
    pub account: u64,
    /// The end user, where the account is to be fair between those: requests of one account that wait take turns by user.
    /// `None`: in the order of arrival.
    pub user: Option<u64>,
    /// The account's weight inside its tier, usually 1. Not positive or not finite counts as 1.
    pub weight: f64,
    /// All prompt tokens, cached or not.
    pub prompt: u32,
    /// Prompt tokens to compute, by replica.
    pub uncached: Uncached,
    /// Tokens that it will probably generate: the account's usual answer, not `max_tokens`.
    pub expected_output: u32,
    /// Whether first token and token gaps will be seen.
    pub streaming: bool,
    /// `false` for embeddings, rerank and score: the answer's first byte is its end.
    pub has_output: bool,
    /// Bytes held while it waits.
    pub bytes: u64,
    /// When it was complete at the gateway: waiting counts from here.
    pub arrived: Duration,
    /// The client's own limit for the first token, absolute.
    pub deadline: Option<Duration>,
    /// The replica that served this session before: a hint, never a right.
    pub affinity: Option<ReplicaId>,
    /// A key of what a replica must have to serve it, such as a hash of model and route. 0: nothing special.
    pub needs: u64,
}

/// How a request ended that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Finished {
    /// Tokens generated, as the engine reports them, else as counted.
    pub generated: u32,
    /// Content chunks seen; 0 when not streaming.
    pub content_chunks: u32,
    /// Prompt tokens that the engine took from its cache. `None`: unknown, which is not zero.
    pub cached: Option<u32>,
    /// Non-streaming answers only: from dispatch to the complete answer.
    pub duration_of_answer: Option<Duration>,
}

/// Why a dispatched request did not get its first token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, unreachable, or not within the connect timeout.
    Connect,
    /// The connection broke.
    Reset,
    /// No first token within the timeout.
    Timeout,
    /// The engine answered 429, 503 or 529: back-pressure, not a fault.
    Busy {
        /// The engine's own `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The replica answered with an error of unknown cause, such as a 5xx with an error body: it is alive, and whether
    /// it or the request is broken shows only on another replica.
    Unexplained {
        /// A key of the request's body: the same for the same body.
        body: u64,
    },
    /// The replica lacks the model or the route that the request [needs](Offer::needs).
    Absent,
    /// The gateway's own bound, such as descriptors or memory: no fault of the replica.
    Ours,
}

/// One reading of an engine's own metrics. What an engine does not report is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Scrape {
    /// Requests that the engine is computing.
    pub running: u32,
    /// Requests that wait inside the engine.
    pub waiting: u32,
    /// KV memory in use, 0 … 1.
    pub kv_used: Option<f64>,
    /// KV memory in tokens.
    pub kv_capacity_tokens: Option<u64>,
    /// Preemptions since the engine started.
    pub preemptions_total: Option<u64>,
    /// The engine's number of slots (`max_num_seqs`, llama.cpp's parallel slots).
    pub slots: Option<u32>,
    /// Tokens per engine step (`max_num_batched_tokens`).
    pub step_budget: Option<u32>,
}

/// What one stream did since the last harvest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamProgress {
    /// The stream.
    pub id: RequestId,
    /// Content chunks since the last harvest.
    pub chunks: u32,
    /// Sum of the times between chunks, stamped when read from the engine, intervals with a blocked
    /// client write left out.
    pub gap_sum: Duration,
    /// How many gaps `gap_sum` has.
    pub gaps: u32,
}
