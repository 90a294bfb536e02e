//! Parameters that no client should send to an engine, unless the operator says otherwise.
//!
//! An OpenAI-compatible server takes many more parameters than OpenAI's. A few of them act on the server instead of
//! on the answer: they name a host to fetch memory from, carry a program, choose a slot, unload the model, or jump
//! the queue that this gateway keeps. Those are refused or left out by default. Parameters that crash only some
//! versions are not here, because others need them: see `deploy/examples/engines.yaml` for penalties before vLLM
//! 0.20 (CVE-2026-44223) and grammars.

use crate::config::Engine;

/// What becomes of a parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// The request is refused with 400: without it the answer would be another.
    Deny,
    /// It is left out, silently: the answer is the same without it.
    Strip,
    /// A larger number becomes this one.
    Cap(f64),
}

/// A parameter with what becomes of it and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// Its key, in lower case.
    pub name: &'static str,
    /// What becomes of it.
    pub rule: Rule,
    /// Why.
    pub reason: &'static str,
}

const fn deny(name: &'static str, reason: &'static str) -> Preset {
    Preset { name, rule: Rule::Deny, reason }
}

const fn strip(name: &'static str, reason: &'static str) -> Preset {
    Preset { name, rule: Rule::Strip, reason }
}

const JUMPS: &str = "overtakes others inside the engine; tiers are the gateway's";
const SALT: &str = "chooses whose cached prompts are met; that is the deployment's `cache_salt`";
const ID: &str = "ids are the gateway's; one that is in use already is an error in the engine";
const FETCHES: &str = "names a host that the engine fetches memory from or sends it to";
const PLACES: &str = "chooses a place inside the engine, past its own balancing";

static VLLM: [Preset; 6] = [
    strip("priority", JUMPS),
    strip("cache_salt", SALT),
    strip("request_id", ID),
    deny("kv_transfer_params", FETCHES),
    deny("chat_template", "is a program that the server runs: a loop in it stops everybody"),
    deny("mm_processor_kwargs", "goes into the image processor's code unchecked: some values end the engine"),
];

static SGLANG: [Preset; 13] = [
    strip("priority", JUMPS),
    strip("rid", ID),
    strip("cache_salt", SALT),
    strip("extra_key", SALT),
    deny("bootstrap_host", FETCHES),
    deny("bootstrap_port", FETCHES),
    deny("bootstrap_room", FETCHES),
    strip("data_parallel_rank", PLACES),
    strip("routed_dp_rank", PLACES),
    strip("disagg_prefill_dp_rank", PLACES),
    deny("custom_logit_processor", "is a serialised program"),
    deny("lora_path", "names an adapter by its path on the server"),
    deny("return_hidden_states", "returns megabytes for each token"),
];

static LLAMACPP: [Preset; 4] = [
    strip("id_slot", "chooses a slot, past the server's own choice of the best cached one"),
    strip("n_predict", "overrules max_tokens, which is what is reserved and counted"),
    strip("n_cmpl", "another name of n; answers that are not counted"),
    strip("return_progress", "adds events that are no part of OpenAI's API to the stream"),
];

static OLLAMA: [Preset; 1] = [strip("keep_alive", "0 unloads the model for everybody")];

static LMDEPLOY: [Preset; 2] = [strip("session_id", ID), deny("migration_request", FETCHES)];

static TRTLLM: [Preset; 1] = [deny("disaggregated_params", FETCHES)];

static DYNAMO: [Preset; 1] = [strip("nvext", PLACES)];

impl Engine {
    /// What becomes of which parameters by default.
    #[must_use]
    pub fn presets(self) -> &'static [Preset] {
        match self {
            Engine::Vllm => &VLLM,
            Engine::Sglang => &SGLANG,
            Engine::Llamacpp => &LLAMACPP,
            Engine::Ollama => &OLLAMA,
            Engine::Lmdeploy => &LMDEPLOY,
            Engine::Trtllm => &TRTLLM,
            Engine::Dynamo => &DYNAMO,
            // Nothing is known of the one, and nothing that hurts of the other.
            Engine::Openai | Engine::Tgi => &[],
        }
    }
}
