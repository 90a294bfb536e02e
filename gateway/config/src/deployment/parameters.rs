//! `deployments[].parameters`: which parameters of requests an engine may see.
//!
//! The engine's own list is the start (`engine::parameters`); `allow` takes names off it, `deny`, `strip` and `cap`
//! put names on; `default` and `set` write values. What decides about a request is written by the gateway and cannot be on the list.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::resolve::Resolver;
use crate::yaml::faults::{At, Shown};
use protocol::engine::Engine;
use protocol::engine::parameters::{Parameters, Rule, Write};
use serde_json::Value;

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
    /// Parameters that requests which generate get where they have none. A largest answer (`max_tokens` and its other names) only where a request names none. Default: none.
    #[schemars(length(max = 64))]
    default: Vec<WriteFile>,
    /// Parameters that requests which generate get in any case, whatever the client wrote. Default: none.
    #[schemars(length(max = 64))]
    set: Vec<WriteFile>,
}

/// Read by the gateway for what a request may cost: an engine that reads another value would compute more than is held for it.
const METERED: [&str; 4] = ["n", "best_of", "n_cmpl", "echo"];
/// The same of the largest answer, which may be given where a request names none: no more is computed then.
const MAXIMA: [&str; 4] = ["max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict"];

/// Written by the gateway itself where the deployment says so, and twice in a body they would contradict each other.
const OURS: [&str; 4] = ["priority", "cache_salt", "request_id", "rid"];

/// A parameter and a value.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct WriteFile {
    /// Its key, without dots: an object is written whole.
    #[schemars(required, length(min = 1, max = 128), extend("x-required" = true))]
    parameter: Option<String>,
    /// Its value as JSON, in quotes: `'0.7'`, `'"auto"'`, `'{"enable_thinking": false}'`.
    #[schemars(required, length(min = 1, max = 65_536), extend("x-required" = true))]
    json: Option<String>,
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
        let mut named: BTreeMap<String, &'static str> = BTreeMap::new();
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
        let writes = self.writes(&mut rules, named, at, resolver);
        Parameters::new(rules).writing(writes)
    }

    /// What is written into bodies. What is always written is no more the client's to write.
    fn writes(
        &self,
        rules: &mut BTreeMap<Box<str>, Rule>,
        mut named: BTreeMap<String, &'static str>,
        at: &At<'_>,
        resolver: &mut Resolver<'_>,
    ) -> Vec<Write> {
        let mut writes = Vec::new();
        for (list, always, files) in [("default", false, &self.default), ("set", true, &self.set)] {
            for (nth, file) in files.iter().enumerate() {
                let at = at.key(list);
                let at = at.item(nth);
                // What is missing was reported already.
                let (Some(name), Some(json)) = (file.parameter.as_deref(), &file.json) else { continue };
                let lower = name.to_ascii_lowercase();
                if let Some(fault) = unwritable(&lower, always, &named) {
                    resolver.fault(&at.key("parameter"), fault);
                    continue;
                }
                let value: Value = match serde_json::from_str(json) {
                    Ok(value) => value,
                    Err(e) => {
                        let fault = format!("is not JSON ({e}); a text needs its quotes, such as '\"auto\"'");
                        resolver.fault(&at.key("json"), fault);
                        continue;
                    }
                };
                if always {
                    rules.insert(lower.as_str().into(), Rule::Strip);
                }
                named.insert(lower, list);
                writes.push(Write { name: name.into(), json: value.to_string().into(), always });
            }
        }
        writes
    }
}

/// Why a parameter cannot be written.
fn unwritable(lower: &str, always: bool, named: &BTreeMap<String, &'static str>) -> Option<String> {
    if lower.contains('.') {
        return Some("has a dot; write the whole object".to_owned());
    }
    if !lower.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
        return Some("is no key: letters, digits, `_` and `-` are".to_owned());
    }
    if KEPT.contains(&lower) {
        return Some(format!("`{lower}` is what the request is; it cannot be written"));
    }
    if OURS.contains(&lower) {
        return Some(format!("`{lower}` is written by the gateway; see engine_priority and cache_salt"));
    }
    if METERED.contains(&lower) || (always && MAXIMA.contains(&lower)) {
        return Some(format!("`{lower}` decides what a request may cost; use `cap` to lower it"));
    }
    let other = named.get(lower).filter(|other| always || **other != "cap")?;
    Some(format!("`{}` is under `{other}` already; keep one", Shown(lower)))
}
