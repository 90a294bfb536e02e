//! What differs from engine to engine, beside what they call their load ([`metrics`]).
//!
//! | engine | priority in the body | request id | salt | stops when the client leaves | cached tokens in usage | seen in |
//! |---|---|---|---|---|---|---|
//! | vLLM | lower first, only with `--scheduling-policy priority` | header | yes | yes | with `--enable-prompt-tokens-details`; null is unknown | a run of 0.32 |
//! | SGLang | higher first, only with `--enable-priority-scheduling` | `rid` in the body | – | yes | with `--enable-cache-report` | its source |
//! | TGI | – | – | – | yes, not relied on | never | its source |
//! | llama.cpp | – | – | – | yes | always in current versions; of one choice and one prompt only | a run |
//! | Ollama | – | – | – | yes, not relied on | never | its source |
//! | LMDeploy, TensorRT-LLM, Dynamo | – | header | – | unknown | some | names in their documents, not run |
//! | anything else | – | header | – | unknown | unknown | – |
//!
//! Every engine gets the header `x-request-id`; whoever does not know it ignores it. A priority is only sent where
//! the operator says that the engine schedules by it: without that, vLLM answers any but 0 with an error, and SGLang
//! may abort. Withdrawing a request needs an engine that is *known* to stop, because one that computes on would make
//! a withdrawn request cost twice.

pub mod exposition;
pub mod metrics;
pub mod pages;
pub mod parameters;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shedder::Tier;

/// The software that a deployment's servers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// Text Generation Inference.
    Tgi,
    /// llama.cpp's server.
    Llamacpp,
    /// Ollama.
    Ollama,
    /// LMDeploy.
    Lmdeploy,
    /// TensorRT-LLM's server.
    Trtllm,
    /// NVIDIA Dynamo's frontend, with workers behind it.
    Dynamo,
    /// Anything else that speaks the OpenAI API; no metrics are read.
    #[default]
    Openai,
}

impl Engine {
    /// Where its Prometheus metrics are, if it has any.
    pub fn metrics_path(self) -> Option<&'static str> {
        match self {
            Self::Vllm | Self::Sglang | Self::Tgi | Self::Llamacpp | Self::Lmdeploy | Self::Dynamo => {
                Some("/metrics")
            }
            Self::Trtllm => Some("/prometheus/metrics"),
            Self::Ollama | Self::Openai => None,
        }
    }

    /// Its name in the config.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Tgi => "tgi",
            Self::Llamacpp => "llamacpp",
            Self::Ollama => "ollama",
            Self::Lmdeploy => "lmdeploy",
            Self::Trtllm => "trtllm",
            Self::Dynamo => "dynamo",
            Self::Openai => "openai",
        }
    }
}

/// Reports of the usage so far in the middle of a stream of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunningUsage {
    /// Not at all, or nobody knows: an engine that checks its members may answer an unknown one with 400.
    #[default]
    None,
    /// `usage` in each chunk, for `continuous_usage_stats` in `stream_options`.
    Continuous {
        /// Set where chunks have `"usage": null` without it, instead of none.
        null_without: bool,
    },
    /// `timings` in each chunk, for `timings_per_token`.
    Timings,
}

/// The numbers that an engine takes for the tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priorities {
    /// For priority.
    pub priority: i32,
    /// For regular.
    pub regular: i32,
    /// For flex.
    pub flex: i32,
}

impl Priorities {
    /// The number of `tier`.
    #[must_use]
    pub fn of(self, tier: Tier) -> i32 {
        match tier {
            Tier::Priority => self.priority,
            Tier::Regular => self.regular,
            Tier::Flex => self.flex,
        }
    }
}

impl Engine {
    /// The numbers for the `priority` of a body; `None` where the engine has no such thing.
    ///
    /// The one that comes first is the engine's own default, so that requests which reach it past this gateway
    /// count as priority and not the other way round.
    #[must_use]
    pub fn priorities(self) -> Option<Priorities> {
        match self {
            Engine::Vllm => Some(Priorities { priority: 0, regular: 1, flex: 2 }),
            Engine::Sglang => Some(Priorities { priority: 1, regular: 0, flex: -1 }),
            _ => None,
        }
    }

    /// The member of a body that takes our request id, where a header does not do.
    #[must_use]
    pub fn request_id_member(self) -> Option<&'static str> {
        match self {
            Engine::Sglang => Some("rid"),
            _ => None,
        }
    }

    /// Whether `cache_salt` in a body keeps accounts' cached prompts apart.
    #[must_use]
    pub fn takes_cache_salt(self) -> bool {
        matches!(self, Engine::Vllm)
    }

    /// Whether `usage` counts one choice of several and one prompt of several, instead of all. Seen in runs of
    /// llama.cpp: whole answers tell one, streams tell each when it ends.
    #[must_use]
    pub fn counts_one_choice(self) -> bool {
        matches!(self, Engine::Llamacpp)
    }

    /// Returns its way to report the usage so far in the middle of a stream of chunks. vLLM leaves
    /// members out that are not set, SGLang writes them as null.
    #[must_use]
    pub fn running_usage(self) -> RunningUsage {
        match self {
            Engine::Vllm => RunningUsage::Continuous { null_without: false },
            Engine::Sglang => RunningUsage::Continuous { null_without: true },
            Engine::Llamacpp => RunningUsage::Timings,
            _ => RunningUsage::None,
        }
    }

    /// Whether it is known to stop working on a request when the connection closes.
    #[must_use]
    pub fn aborts(self) -> bool {
        matches!(self, Engine::Vllm | Engine::Sglang | Engine::Llamacpp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Engines sort in opposite directions: the sign is mapped here and nowhere else.
    #[test]
    fn priority_comes_first_in_each_engines_own_direction() {
        let vllm = Engine::Vllm.priorities().unwrap();
        assert!(vllm.of(Tier::Priority) < vllm.of(Tier::Regular), "vLLM: lower first");
        let sglang = Engine::Sglang.priorities().unwrap();
        assert!(sglang.of(Tier::Priority) > sglang.of(Tier::Regular), "SGLang: higher first");
        assert_eq!(Engine::Llamacpp.priorities(), None);
    }

    #[test]
    fn case_r01_running_usage_is_asked_of_engines_that_are_known_to_have_it() {
        for engine in
            [Engine::Openai, Engine::Tgi, Engine::Ollama, Engine::Lmdeploy, Engine::Trtllm, Engine::Dynamo]
        {
            assert_eq!(engine.running_usage(), RunningUsage::None, "{engine:?}");
        }
        assert_eq!(Engine::Llamacpp.running_usage(), RunningUsage::Timings);
        assert!(matches!(Engine::Vllm.running_usage(), RunningUsage::Continuous { .. }));
    }
}
