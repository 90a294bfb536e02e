//! What one engine step costs on given hardware, and how much the engine takes on at once.
//!
//! A continuously batching engine works in steps. A step costs the reading of all weights or the arithmetic of
//! its tokens, whichever is more (a smooth maximum of both), plus the reading of the context of every decoding
//! sequence, plus the attention of prefill chunks, which grows with the square of their length:
//!
//! ```text
//! step_ms = sqrt(w² + (k·n)²) + kappa·C + quad·q + c0 + c1·S + allreduce(n)
//!
//! n   tokens computed in the step          C   context tokens of the decoding sequences
//! S   sequences in the step                q   sum over prefill chunks of c·(past + c/2)
//! ```
//!
//! `w` and `k` were fitted to published per-layer profiles of the named models (largest relative error between
//! 8 % and 24 % over 1 … 8192 tokens), `kappa` assumes 51 to 60 % of the peak memory bandwidth, `quad` 40 % of the
//! peak arithmetic. Capacity is 0.9 × memory − weights − activations, at 131,072 bytes of KV per token (8B) and
//! 327,680 (70B). `quad` of the two 70B H100 rows has no measurement behind it: it is the A100 value scaled as the
//! 8B rows scale. The checked result: 8B on one A100 with conversation lengths has its knee at 6.4 requests/s.
//!
//! The last three profiles are not predictions of a product: `instant` costs nothing, `8b-a100-kv60k` runs out of
//! KV before it runs out of anything else, `llamacpp-4` has four slots and a small batch.

use std::time::Duration;

use crate::behaviour::Behaviour;

/// Tokens of one step, added up while it is scheduled.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepWork {
    /// Tokens computed, decode and prefill.
    pub tokens: u32,
    /// Sequences taking part.
    pub sequences: u32,
    /// Of them, those that decode.
    pub decoding: u32,
    /// Context tokens of the decoding sequences.
    pub context_tokens: u64,
    /// Sum over prefill chunks of `c·(past + c/2)`.
    pub attention_pairs: f64,
}

/// The cost of a step and the bounds of a batch. Plain numbers; see the module for the formula.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// As given on the command line.
    pub name: &'static str,
    /// `w`: milliseconds to read the weights once.
    pub weights_ms: f64,
    /// `k`: milliseconds of arithmetic per token.
    pub token_ms: f64,
    /// `kappa`: microseconds per context token of a decoding sequence.
    pub context_us: f64,
    /// `quad`: milliseconds per pair of tokens in a prefill chunk's attention.
    pub pair_ms: f64,
    /// `c0`: fixed milliseconds per step.
    pub step_ms: f64,
    /// `c1`: milliseconds per sequence.
    pub sequence_ms: f64,
    /// Milliseconds of all-reduce at 1, 64, 512 and 2048 tokens, over all layers. Zero without tensor parallelism.
    pub allreduce_ms: [f64; 4],
    /// Time in the API server before a request reaches the scheduler.
    pub api_ms: f64,
    /// KV cache, tokens.
    pub kv_tokens: u32,
    /// Tokens per KV block.
    pub block_tokens: u32,
    /// Most tokens in one step.
    pub step_tokens_max: u32,
    /// Most sequences running at once.
    pub sequences_max: u32,
    /// Whether it tells that number to who asks, as llama.cpp does (`/props`, `/slots`) and vLLM does not.
    pub tells_slots: bool,
    /// Tokens that a decoding sequence gains per step: 1, or more with speculative decoding.
    pub decode_tokens: u32,
    /// Whether full prompt blocks are kept and shared.
    pub prefix_cache: bool,
    /// Default context window, tokens.
    pub context: u32,
    /// What it does besides computing steps.
    pub behaviour: Behaviour,
}

const A100_70B_ALLREDUCE: [f64; 4] = [0.026 * 160.0, 0.064 * 160.0, 0.155 * 160.0, 0.41 * 160.0];
const H100_70B_ALLREDUCE: [f64; 4] = [0.029 * 160.0, 0.034 * 160.0, 0.074 * 160.0, 0.196 * 160.0];

/// Llama-3-8B on one A100 with 80 GB: the profile that the drills use unless they say otherwise.
pub const LLAMA_8B_A100: Profile = Profile {
    name: "8b-a100",
    weights_ms: 10.4,
    token_ms: 0.071,
    context_us: 0.107,
    pair_ms: 4.2e-6,
    step_ms: 2.0,
    sequence_ms: 0.0044,
    allreduce_ms: [0.0; 4],
    api_ms: 15.6,
    kv_tokens: 421_000,
    block_tokens: 16,
    step_tokens_max: 2048,
    sequences_max: 256,
    tells_slots: false,
    decode_tokens: 1,
    prefix_cache: true,
    context: 131_072,
    behaviour: Behaviour::PLAIN,
};

/// Answers at once: what a gateway costs shows best in front of an engine that costs nothing.
pub const INSTANT: Profile = Profile {
    name: "instant",
    weights_ms: 0.0,
    token_ms: 0.0,
    context_us: 0.0,
    pair_ms: 0.0,
    step_ms: 0.0,
    sequence_ms: 0.0,
    api_ms: 0.0,
    kv_tokens: 1 << 30,
    step_tokens_max: 1 << 30,
    sequences_max: 1 << 20,
    decode_tokens: 1 << 20,
    prefix_cache: false,
    context: 1 << 27,
    ..LLAMA_8B_A100
};

/// All profiles, in the order in which `--help` lists them.
pub const PROFILES: [Profile; 10] = [
    LLAMA_8B_A100,
    Profile {
        name: "8b-a100-tp2",
        weights_ms: 5.9,
        token_ms: 0.037,
        context_us: 0.054,
        pair_ms: 2.1e-6,
        step_ms: 2.2,
        kv_tokens: 980_000,
        ..LLAMA_8B_A100
    },
    Profile {
        name: "8b-h100",
        weights_ms: 7.0,
        token_ms: 0.027,
        context_us: 0.070,
        pair_ms: 1.2e-6,
        step_ms: 1.5,
        step_tokens_max: 8192,
        sequences_max: 1024,
        ..LLAMA_8B_A100
    },
    Profile {
        name: "70b-a100-tp4",
        weights_ms: 25.8,
        token_ms: 0.169,
        context_us: 0.067,
        pair_ms: 1.7e-5 / 4.0,
        step_ms: 3.0,
        allreduce_ms: A100_70B_ALLREDUCE,
        kv_tokens: 487_000,
        ..LLAMA_8B_A100
    },
    Profile {
        name: "70b-a100-tp8",
        weights_ms: 15.5,
        token_ms: 0.095,
        context_us: 0.033,
        pair_ms: 1.7e-5 / 8.0,
        step_ms: 3.0,
        allreduce_ms: A100_70B_ALLREDUCE,
        kv_tokens: 1_420_000,
        ..LLAMA_8B_A100
    },
    Profile {
        name: "70b-h100-tp4",
        weights_ms: 16.6,
        token_ms: 0.064,
        context_us: 0.041,
        pair_ms: 1.2e-6,
        allreduce_ms: H100_70B_ALLREDUCE,
        kv_tokens: 487_000,
        step_tokens_max: 8192,
        sequences_max: 1024,
        ..LLAMA_8B_A100
    },
    Profile {
        name: "70b-h100-tp8",
        weights_ms: 9.8,
        token_ms: 0.038,
        context_us: 0.020,
        pair_ms: 0.6e-6,
        allreduce_ms: H100_70B_ALLREDUCE,
        kv_tokens: 1_420_000,
        step_tokens_max: 8192,
        sequences_max: 1024,
        ..LLAMA_8B_A100
    },
    INSTANT,
    Profile { name: "8b-a100-kv60k", kv_tokens: 60_000, context: 32_768, ..LLAMA_8B_A100 },
    Profile {
        name: "llamacpp-4",
        weights_ms: 20.0,
        token_ms: 0.4,
        context_us: 0.4,
        pair_ms: 2.0e-5,
        step_ms: 1.0,
        api_ms: 2.0,
        kv_tokens: 32_768,
        step_tokens_max: 512,
        sequences_max: 4,
        tells_slots: true,
        context: 8192,
        ..LLAMA_8B_A100
    },
];

impl Profile {
    /// The profile of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        PROFILES.iter().find(|profile| profile.name == name).cloned()
    }

    /// Whether every step costs nothing.
    #[must_use]
    pub fn is_instant(&self) -> bool {
        self.weights_ms == 0.0 && self.token_ms == 0.0 && self.step_ms == 0.0
    }

    /// KV blocks in all.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.kv_tokens / self.block_tokens.max(1)
    }

    /// How long a step with this work takes, pauses and stalls apart. O(1).
    #[must_use]
    pub fn step_time(&self, work: &StepWork) -> Duration {
        let padding = self.behaviour.padded(work.decoding) - work.decoding;
        let arithmetic_ms = self.token_ms * f64::from(work.tokens + padding);
        let ms = self.weights_ms.hypot(arithmetic_ms)
            + self.context_us * 1e-3 * work.context_tokens as f64
            + self.pair_ms * work.attention_pairs
            + self.step_ms
            + self.sequence_ms * f64::from(work.sequences)
            + self.allreduce(f64::from(work.tokens + padding));
        let slower = self.behaviour.eager_factor(work.sequences) / self.behaviour.speed.max(0.01);
        Duration::from_nanos((ms * slower * 1e6) as u64)
    }

    /// The smallest time to the first token of a prompt on this engine when it is idle.
    #[must_use]
    pub fn idle_prefill(&self, prompt_tokens: u32) -> Duration {
        let mut total = Duration::from_nanos((self.api_ms * 1e6) as u64);
        let mut past = 0;
        while past < prompt_tokens {
            let chunk = (prompt_tokens - past).min(self.step_tokens_max.max(1));
            let pairs = f64::from(chunk) * (f64::from(past) + f64::from(chunk) / 2.0);
            total += self.step_time(&StepWork {
                tokens: chunk,
                sequences: 1,
                decoding: 0,
                context_tokens: 0,
                attention_pairs: pairs,
            });
            past += chunk;
        }
        total
    }

    /// Linear between the measured points, and beyond the last one with its slope.
    fn allreduce(&self, tokens: f64) -> f64 {
        const TOKENS: [f64; 4] = [1.0, 64.0, 512.0, 2048.0];
        let [a, b, c, d] = self.allreduce_ms;
        let [t0, t1, t2, t3] = TOKENS;
        let between = |lo: f64, hi: f64, from: f64, to: f64| lo + (hi - lo) * (tokens - from) / (to - from);
        if tokens <= t1 {
            between(a, b, t0, t1).max(0.0)
        } else if tokens <= t2 {
            between(b, c, t1, t2)
        } else {
            between(c, d, t2, t3)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_8b_decode_step_of_64_sequences_costs_what_the_fit_says() {
        let work = StepWork {
            tokens: 64,
            sequences: 64,
            decoding: 64,
            context_tokens: 64 * 1000,
            attention_pairs: 0.0,
        };

        let ms = LLAMA_8B_A100.step_time(&work).as_secs_f64() * 1e3;

        let by_hand =
            (10.4_f64.powi(2) + (0.071_f64 * 64.0).powi(2)).sqrt() + 0.107 * 64.0 + 2.0 + 0.0044 * 64.0;
        assert!((ms - by_hand).abs() < 1e-3, "{ms} against {by_hand}");
    }

    #[test]
    fn an_8192_token_prompt_is_prefilled_in_four_chunks() {
        let whole = LLAMA_8B_A100.idle_prefill(8192).as_secs_f64() * 1e3;
        let by_hand =
            15.6 + 4.0 * (10.4_f64.hypot(0.071 * 2048.0) + 2.0 + 0.0044) + 4.2e-6 * 8192.0 * 8192.0 / 2.0;
        assert!((whole - by_hand).abs() < 1e-2, "{whole} against {by_hand}");
    }

    #[test]
    fn names_are_unique_and_found() {
        for profile in &PROFILES {
            assert_eq!(Profile::named(profile.name).as_ref(), Some(profile));
        }
    }
}
