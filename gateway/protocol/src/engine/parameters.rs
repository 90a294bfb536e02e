//! Parameters that no client should send to an engine, unless the operator says otherwise.
//!
//! An OpenAI-compatible server takes many more parameters than OpenAI's. A few of them act on the server instead of
//! on the answer: they name a host to fetch memory from, carry a program, choose a slot, unload the model, or jump
//! the queue that this gateway keeps. Those are refused or left out by default. Parameters that crash only some
//! versions are not here, because others need them: see `deploy/examples/engines.yaml` for penalties before vLLM
//! 0.20 (CVE-2026-44223) and grammars.

use super::Engine;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Bound;

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

/// A member that is written into the bodies of requests that generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its key.
    pub name: Box<str>,
    /// Its value, as JSON.
    pub json: Box<str>,
    /// In the place of what the client wrote; else only where it wrote nothing.
    pub always: bool,
}

/// What becomes of parameters, by key in lower case. A parameter that is not there goes to the engine as it came.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parameters {
    rules: BTreeMap<Box<str>, Rule>,
    writes: Vec<Write>,
    /// Whether any is about a member of an object in the body.
    has_dots: bool,
}

impl Parameters {
    /// The rules by their parameters' names, in lower case; with dots, of members of objects.
    #[must_use]
    pub fn new(rules: BTreeMap<Box<str>, Rule>) -> Self {
        let has_dots = rules.keys().any(|name| name.contains('.'));
        Parameters { rules, writes: Vec::new(), has_dots }
    }

    /// The same with members that are written into bodies.
    #[must_use]
    pub fn writing(self, writes: Vec<Write>) -> Self {
        Parameters { writes, ..self }
    }

    /// What is written into bodies, in the order of the config.
    #[must_use]
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// What becomes of `name`, in whichever case it is spelled: engines written in Go do not mind. O(log rules);
    /// allocates only for a name with capitals.
    #[must_use]
    pub fn rule(&self, name: &str) -> Option<Rule> {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.rules.get(name.to_ascii_lowercase().as_str()).copied();
        }
        self.rules.get(name).copied()
    }

    /// Whether there is a rule about what is inside of `name`. O(log rules), and at once where no rule has a dot.
    #[must_use]
    pub fn reaches_into(&self, name: &str) -> bool {
        if !self.has_dots {
            return false;
        }
        let inside = format!("{}.", name.to_ascii_lowercase());
        let from = (Bound::Included(inside.as_str()), Bound::Unbounded);
        self.rules.range::<str, _>(from).next().is_some_and(|(rule, _)| rule.starts_with(&inside))
    }

    /// As the admin API shows it: parameters by what becomes of them.
    #[must_use]
    pub fn shown(&self) -> Value {
        let of = |wanted: Rule| -> Vec<&str> {
            self.rules.iter().filter(|(_, rule)| **rule == wanted).map(|(name, _)| &**name).collect()
        };
        let caps = self.rules.iter().filter_map(|(name, rule)| match rule {
            Rule::Cap(most) => Some(json!({ "parameter": name, "at_most": most })),
            Rule::Deny | Rule::Strip => None,
        });
        let written = |always: bool| -> Vec<Value> {
            let chosen = self.writes.iter().filter(|write| write.always == always);
            let value = |write: &Write| serde_json::from_str::<Value>(&write.json).unwrap_or(Value::Null);
            chosen.map(|write| json!({ "parameter": write.name, "value": value(write) })).collect()
        };
        json!({
            "deny": of(Rule::Deny), "strip": of(Rule::Strip), "cap": caps.collect::<Vec<_>>(),
            "default": written(false), "set": written(true),
        })
    }

    /// Whether every parameter passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
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

static LLAMACPP: [Preset; 3] = [
    strip("id_slot", "chooses a slot, past the server's own choice of the best cached one"),
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
