//! What a deployment makes of a request's parameters: refused, left out, lowered, or written by us.
//!
//! Some parameters act on the server instead of on the answer, and some crash it: see `engine::parameters`. The
//! policy looks at the top-level members of a body as they came, in whichever case and however often they are
//! there, so that no spelling gets past it: engines written in Python take the last of two, those in Go any case.
//!
//! Cost: O(members · log rules); nothing is done for a deployment without rules.

use crate::config::Parameters;
use crate::engine::parameters::Rule;
use crate::refusal::Refusal;
use crate::request::call::Call;
use bytes::Bytes;
use std::fmt::Write as _;
use std::ops::Range;

/// Replacements in a body. They may be in any order; of two that overlap the one that begins first counts.
pub type Edits = Vec<(Range<usize>, Bytes)>;

/// What is written into a body for one deployment and attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written<'a> {
    /// The engine's number for the tier that serves.
    pub priority: Option<i32>,
    /// What keeps this account's cached prompts apart.
    pub cache_salt: Option<&'a str>,
    /// Our id under the engine's own key for it.
    pub request_id: Option<(&'static str, &'a str)>,
}

/// Whether the policy lets `call` pass.
///
/// # Errors
/// 400 that names the parameter.
pub fn check(policy: &Parameters, call: &Call) -> Result<(), Refusal> {
    if policy.is_empty() {
        return Ok(());
    }
    for parameter in &call.parameters {
        let name = parameter.name(&call.body);
        let value = call.body.get(parameter.value.clone()).unwrap_or_default();
        let refused = match policy.rule(name) {
            Some(Rule::Deny) if value != b"null" => "is not taken by this model's servers; leave it out",
            Some(Rule::Cap(_)) if value != b"null" && number(value).is_none() => "must be a number",
            _ => continue,
        };
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(Refusal::bad(format!("`{shown}` {refused}.")));
    }
    Ok(())
}

/// The edits that make the body of `call` fit for the engine. A body that [`check`] refuses is not to be sent.
#[must_use]
pub fn edits(policy: &Parameters, written: &Written<'_>, call: &Call) -> Edits {
    let mut edits = Edits::new();
    let ours = |name: &str| {
        (written.priority.is_some() && name.eq_ignore_ascii_case("priority"))
            || (written.cache_salt.is_some() && name.eq_ignore_ascii_case("cache_salt"))
            || written.request_id.is_some_and(|(key, _)| name.eq_ignore_ascii_case(key))
    };
    let mut kept_before = false;
    for (nth, parameter) in call.parameters.iter().enumerate() {
        let name = parameter.name(&call.body);
        let rule = if ours(name) { Some(Rule::Strip) } else { policy.rule(name) };
        match rule {
            Some(Rule::Strip | Rule::Deny) => {
                let at = member_with_comma(call, nth, kept_before);
                edits.push((at, Bytes::new()));
                continue;
            }
            Some(Rule::Cap(most)) => {
                let value = call.body.get(parameter.value.clone()).unwrap_or_default();
                if number(value).is_some_and(|value| value > most) {
                    edits.push((parameter.value.clone(), Bytes::from(most.to_string())));
                }
            }
            None => {}
        }
        kept_before = true;
    }
    if let Some(members) = members(written) {
        let after_brace = call.body.iter().position(|&byte| byte == b'{').map_or(0, |at| at + 1);
        edits.push((after_brace..after_brace, members));
    }
    edits
}

/// The `nth` member with the comma that goes with it: the one before it where a member before it stays, else the
/// one after it.
fn member_with_comma(call: &Call, nth: usize, kept_before: bool) -> Range<usize> {
    let Some(parameter) = call.parameters.get(nth) else { return 0..0 };
    let before = nth.checked_sub(1).and_then(|before| call.parameters.get(before));
    let after = call.parameters.get(nth + 1);
    match (before, after) {
        (Some(before), _) if kept_before => before.value.end..parameter.value.end,
        (_, Some(after)) => parameter.span().start..after.span().start,
        _ => parameter.span(),
    }
}

fn number(value: &[u8]) -> Option<f64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Our members, each with a comma behind it: `model` always follows.
fn members(written: &Written<'_>) -> Option<Bytes> {
    let mut members = String::new();
    if let Some(priority) = written.priority {
        let _ = write!(members, "\"priority\":{priority},");
    }
    if let Some(salt) = written.cache_salt {
        let _ = write!(members, "\"cache_salt\":\"{salt}\",");
    }
    if let Some((key, id)) = written.request_id {
        let _ = write!(members, "\"{key}\":\"{id}\",");
    }
    (!members.is_empty()).then(|| Bytes::from(members))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Api;
    use crate::config::Engine;
    use proptest::prelude::*;
    use serde_json::Value;

    fn call(body: &str) -> Call {
        Call::read(Api::Chat, Bytes::copy_from_slice(body.as_bytes()), 64).unwrap()
    }

    fn policy(engine: &str, rules: &str) -> Parameters {
        crate::config::tests::deployment(&format!("engine: {engine}, parameters: {rules}")).parameters.clone()
    }

    fn sent(policy: &Parameters, written: &Written<'_>, body: &str) -> String {
        let call = call(body);
        String::from_utf8(call.forwarded("m", edits(policy, written, &call)).concat()).unwrap()
    }

    #[test]
    fn stripped_members_leave_a_whole_body_wherever_they_are() {
        let policy = policy("openai", "{ strip: [a, b] }");
        for (body, left) in [
            (r#"{"a":1,"model":"m","messages":[]}"#, r#"{"model":"m","messages":[]}"#),
            (r#"{ "a" : {"x":[1,2]} , "b":2,"model":"m","messages":[]}"#, r#"{ "model":"m","messages":[]}"#),
            (r#"{"model":"m","a":1,"messages":[],"b":"}"}"#, r#"{"model":"m","messages":[]}"#),
            (r#"{"model":"m","messages":[],"b":1,"a":2}"#, r#"{"model":"m","messages":[]}"#),
            (r#"{"a":1,"model":"m","b":2,"messages":[],"a":3}"#, r#"{"model":"m","messages":[]}"#),
        ] {
            assert_eq!(sent(&policy, &Written::default(), body), left, "{body}");
        }
    }

    /// Threat S8: no spelling gets past the policy.
    #[test]
    fn threat_s8_no_spelling_of_a_parameter_gets_past() {
        let policy = policy("vllm", "{}");
        for key in ["priority", "Priority", "PRIORITY", r"\u0070riority", r"priorit\u0079"] {
            let body = format!(r#"{{"model":"m","{key}":-9,"messages":[],"{key}":-9}}"#);
            assert_eq!(sent(&policy, &Written::default(), &body), r#"{"model":"m","messages":[]}"#, "{key}");
        }
        for key in ["kv_transfer_params", "KV_Transfer_Params", r"kv_transfer\u005fparams"] {
            let call = call(&format!(r#"{{"model":"m","messages":[],"{key}":{{"remote_host":"x"}}}}"#));
            let refusal = check(&policy, &call).unwrap_err();
            assert!(refusal.message.contains("leave it out"), "{key}: {}", refusal.message);
        }
        assert_eq!(check(&policy, &call(r#"{"model":"m","messages":[],"chat_template":null}"#)), Ok(()));
    }

    #[test]
    fn larger_numbers_are_lowered_and_what_is_no_number_is_refused() {
        let policy = policy(
            "openai",
            "{ cap: [{ parameter: top_logprobs, at_most: 5 }, { parameter: temperature, at_most: 1.5 }] }",
        );
        let body = r#"{"model":"m","messages":[],"top_logprobs":20,"temperature":1.5}"#;
        assert_eq!(
            sent(&policy, &Written::default(), body),
            r#"{"model":"m","messages":[],"top_logprobs":5,"temperature":1.5}"#
        );
        for value in ["\"20\"", "[20]", "true"] {
            let call = call(&format!(r#"{{"model":"m","messages":[],"top_logprobs":{value}}}"#));
            assert!(check(&policy, &call).is_err(), "{value}: engines may read it as a number");
        }
        assert_eq!(check(&policy, &call(r#"{"model":"m","messages":[],"top_logprobs":null}"#)), Ok(()));
    }

    #[test]
    fn what_we_write_replaces_what_the_client_wrote() {
        let policy = policy("openai", "{}");
        let written =
            Written { priority: Some(1), cache_salt: Some("s"), request_id: Some(("rid", "req_1")) };
        let body = r#"{"priority":-5,"model":"m","Cache_Salt":"x","messages":[],"stream":true,"RID":"y"}"#;

        let sent: Value = serde_json::from_str(&sent(&policy, &written, body)).unwrap();

        let want = serde_json::json!({
            "priority": 1, "cache_salt": "s", "rid": "req_1", "model": "m", "messages": [], "stream": true,
            "stream_options": { "include_usage": true },
        });
        assert_eq!(sent, want);
    }

    #[test]
    fn a_rule_on_what_is_written_anyhow_is_one_edit() {
        // `fast` is rewritten, and here the whole member is taken out as well.
        let call = call(r#"{"model":"m","messages":[],"service_tier":"fast","x":1}"#);
        let edits = vec![(call.parameters[1].value.end..call.parameters[2].value.end, Bytes::new())];
        assert_eq!(call.forwarded("m", edits).concat(), br#"{"model":"m","messages":[],"x":1}"#);
    }

    proptest! {
        /// Whatever is stripped, the engine reads the rest exactly as it was.
        #[test]
        fn what_is_not_ruled_on_arrives_as_it_was(
            keys in proptest::collection::vec("[a-f]", 0..12),
            at in 0..12usize,
            strip in proptest::collection::btree_set("[a-f]", 0..5),
        ) {
            let mut members: Vec<String> = keys.iter().enumerate().map(|(n, key)| format!(" \"{key}{n}\" : [{n},\"{{\"]")).collect();
            members.insert(at.min(members.len()), r#""model":"m""#.to_owned());
            members.push(r#""messages":[]"#.to_owned());
            let body = format!("{{{}}}", members.join(" ,"));
            let gone = |key: &str| strip.contains(&key[..1]) && key != "model" && key != "messages";
            let names: Vec<String> = keys.iter().enumerate().map(|(n, key)| format!("{key}{n}")).filter(|key| gone(key)).collect();
            let policy = policy("openai", &format!("{{ strip: {names:?} }}"));

            let sent: Value = serde_json::from_str(&sent(&policy, &Written::default(), &body)).unwrap();

            let mut want: serde_json::Map<String, Value> = serde_json::from_str(&body).unwrap();
            want.retain(|key, _| !gone(key));
            prop_assert_eq!(sent, Value::Object(want));
        }
    }

    #[test]
    fn every_preset_has_a_reason_and_a_name_that_can_match() {
        for engine in [Engine::Vllm, Engine::Sglang, Engine::Llamacpp, Engine::Ollama, Engine::Dynamo] {
            for preset in engine.presets() {
                assert_eq!(preset.name, preset.name.to_ascii_lowercase());
                assert!(!preset.reason.is_empty());
            }
        }
    }
}
