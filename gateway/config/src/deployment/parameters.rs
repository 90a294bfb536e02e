//! `deployments[].parameters`: which parameters of requests an engine may see.
//!
//! The engine's own list is the start (`engine::parameters`); `allow` takes names off it, `deny`, `strip` and `cap`
//! put names on. What decides about a request is written by the gateway and cannot be on the list.

use std::collections::BTreeMap;
use std::ops::Bound;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::deployment::Engine;
use super::faults::{At, Shown};
use super::resolve::Resolver;
use crate::engine::parameters::Rule;

/// Written by the gateway, or the request itself: without them it would be another request.
const KEPT: [&str; 11] = [
    "model",
    "stream",
    "stream_options",
    "messages",
    "prompt",
    "input",
    "query",
    "documents",
    "text_1",
    "text_2",
    "service_tier",
];

/// What becomes of parameters, by key in lower case. A parameter that is not there goes to the engine as it came.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parameters {
    rules: BTreeMap<Box<str>, Rule>,
    /// Whether any is about a member of an object in the body.
    has_dots: bool,
}

impl Parameters {
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
        json!({ "deny": of(Rule::Deny), "strip": of(Rule::Strip), "cap": caps.collect::<Vec<_>>() })
    }

    /// Whether every parameter passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// Which parameters of requests the servers may see. Names are keys of the body, in any case; with dots, of objects in it: `sampling_params.n`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ParametersFile {
    /// Parameters that pass although the engine's own list denies or strips them. Default: none.
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)))]
    allow: Vec<String>,
    /// Parameters with which a request is refused (400): those that crash or harm the version that runs. Default: the engine's own list, such as `kv_transfer_params` for vllm.
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)))]
    deny: Vec<String>,
    /// Parameters that are left out. Default: the engine's own list, such as `priority` for vllm.
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)))]
    strip: Vec<String>,
    /// Parameters with their largest numbers: a larger one becomes that one. Default: none.
    #[schemars(length(max = 256))]
    cap: Vec<CapFile>,
}

/// A parameter and its largest number.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct CapFile {
    /// Its key.
    #[schemars(required, length(min = 1, max = 128), extend("x-required" = true))]
    parameter: Option<String>,
    /// The largest number that the servers get.
    #[schemars(required, range(min = -1e15, max = 1e15), extend("x-required" = true))]
    at_most: Option<f64>,
}

impl ParametersFile {
    pub(crate) fn resolve(self, engine: Engine, at: &At<'_>, resolver: &mut Resolver<'_>) -> Parameters {
        let mut rules: BTreeMap<Box<str>, Rule> =
            engine.presets().iter().map(|preset| (preset.name.into(), preset.rule)).collect();
        let allow_at = at.key("allow");
        for (nth, name) in self.allow.iter().enumerate() {
            if rules.remove(name.to_ascii_lowercase().as_str()).is_none() {
                let fault = format!(
                    "`{}` passes already: {} has no default for it; remove it here",
                    Shown(name),
                    engine.name()
                );
                resolver.fault(&allow_at.item(nth), fault);
            }
        }
        let mut named: BTreeMap<String, &str> = BTreeMap::new();
        let mut put = |name: &str, rule: Rule, list: &'static str, at: &At<'_>| {
            let name = name.to_ascii_lowercase();
            if KEPT.contains(&name.split('.').next().unwrap_or_default()) {
                return resolver.fault(at, format!("`{name}` is what the request is; it cannot be ruled on"));
            }
            if let Some(other) = named.get(&name) {
                let fault = format!("`{}` is under `{other}` already; keep one", Shown(&name));
                return resolver.fault(at, fault);
            }
            rules.insert(name.as_str().into(), rule);
            named.insert(name, list);
        };
        let (deny_at, strip_at, cap_at) = (at.key("deny"), at.key("strip"), at.key("cap"));
        for (nth, name) in self.deny.iter().enumerate() {
            put(name, Rule::Deny, "deny", &deny_at.item(nth));
        }
        for (nth, name) in self.strip.iter().enumerate() {
            put(name, Rule::Strip, "strip", &strip_at.item(nth));
        }
        for (nth, cap) in self.cap.iter().enumerate() {
            // What is missing was reported already.
            if let (Some(name), Some(most)) = (cap.parameter.as_deref(), cap.at_most) {
                put(name, Rule::Cap(most), "cap", &cap_at.item(nth).key("parameter"));
            }
        }
        let has_dots = rules.keys().any(|name| name.contains('.'));
        Parameters { rules, has_dots }
    }
}
