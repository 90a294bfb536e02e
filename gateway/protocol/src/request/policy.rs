//! What a deployment makes of a request's parameters: refused, left out, lowered, or written by us.
//!
//! Some parameters act on the server instead of on the answer, and some crash it: see `engine::parameters`. The
//! policy looks at the members of a body as they came, in whichever case and however often they are there, so that no
//! spelling gets past it: engines written in Python take the last of two, those in Go any case. A rule whose name has
//! dots is about a member of an object in it: `sampling_params.n` about `n` in `sampling_params`.
//!
//! Cost: O(members · log rules); nothing is done for a deployment without rules, and no object is looked into without
//! a rule about what is in it.

use crate::engine::parameters::Parameters;
use crate::engine::parameters::{Rule, Write};
use crate::json::members::{self, Member, Parameter};
use crate::refusal::Refusal;
use crate::request::call::Call;
use bytes::Bytes;
use std::borrow::Cow;
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
    check_members(policy, &call.body(), "", &call.parameters)
}

/// The same for the members of one object; `prefix` is where it is, with a dot behind it.
fn check_members(
    policy: &Parameters,
    body: &[u8],
    prefix: &str,
    parameters: &[Parameter],
) -> Result<(), Refusal> {
    for parameter in parameters {
        let name = full_name(prefix, parameter.name(body));
        let value = body.get(parameter.value.clone()).unwrap_or_default();
        let refused = match policy.rule(&name) {
            Some(Rule::Deny) if value != b"null" => "is not taken by this model's servers; leave it out",
            Some(Rule::Cap(_)) if value != b"null" && number(value).is_none() => "must be a number",
            None if value.starts_with(b"{") && policy.reaches_into(&name) => {
                match members::inside(body, parameter.value.clone()) {
                    Some(inner) => {
                        check_members(policy, body, &format!("{name}."), &inner)?;
                        continue;
                    }
                    None => "has too many members",
                }
            }
            _ => continue,
        };
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(Refusal::bad(format!("`{shown}` {refused}.")));
    }
    Ok(())
}

fn full_name<'n>(prefix: &str, name: &'n str) -> Cow<'n, str> {
    if prefix.is_empty() { Cow::Borrowed(name) } else { Cow::Owned(format!("{prefix}{name}")) }
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
    let body = call.body();
    edit_members(policy, &ours, &body, "", &call.parameters, &mut edits);
    if let Some(members) = members(written, policy, call, &body) {
        let after_brace = body.iter().position(|&byte| byte == b'{').map_or(0, |at| at + 1);
        edits.push((after_brace..after_brace, members));
    }
    edits
}

/// The edits in one object; `prefix` is where it is, with a dot behind it. It recurses as deep as rules have dots.
fn edit_members(
    policy: &Parameters,
    ours: &dyn Fn(&str) -> bool,
    body: &[u8],
    prefix: &str,
    parameters: &[Parameter],
    edits: &mut Edits,
) {
    let mut kept_before = false;
    for (nth, parameter) in parameters.iter().enumerate() {
        let name = full_name(prefix, parameter.name(body));
        let value = body.get(parameter.value.clone()).unwrap_or_default();
        let rule = if ours(&name) { Some(Rule::Strip) } else { policy.rule(&name) };
        match rule {
            Some(Rule::Strip | Rule::Deny) => {
                edits.push((member_with_comma(parameters, nth, kept_before), Bytes::new()));
                continue;
            }
            Some(Rule::Cap(most)) if number(value).is_some_and(|value| value > most) => {
                edits.push((parameter.value.clone(), Bytes::from(most.to_string())));
            }
            None if value.starts_with(b"{") && policy.reaches_into(&name) => {
                let inner = members::inside(body, parameter.value.clone()).unwrap_or_default();
                edit_members(policy, &|_| false, body, &format!("{name}."), &inner, edits);
            }
            Some(Rule::Cap(_)) | None => {}
        }
        kept_before = true;
    }
}

/// The `nth` member with the comma that goes with it: the one before it where a member before it stays, else the
/// one after it.
fn member_with_comma(parameters: &[Parameter], nth: usize, kept_before: bool) -> Range<usize> {
    let Some(parameter) = parameters.get(nth) else { return 0..0 };
    let before = nth.checked_sub(1).and_then(|before| parameters.get(before));
    let after = parameters.get(nth + 1);
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
fn members(written: &Written<'_>, policy: &Parameters, call: &Call, body: &[u8]) -> Option<Bytes> {
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
    for write in policy.writes() {
        if is_written(write, call, body) {
            let _ = write!(members, "\"{}\":{},", write.name, write.json);
        }
    }
    (!members.is_empty()).then(|| Bytes::from(members))
}

/// Whether `write` goes into the body of `call`: of requests that generate, and of a largest answer only where the API has
/// that name and the request names none in any of its ways.
fn is_written(write: &Write, call: &Call, body: &[u8]) -> bool {
    let form = call.api.form();
    if !form.has_output {
        return false;
    }
    let is_named = |name: &str| name.eq_ignore_ascii_case(&write.name);
    let is_maximum = MAXIMA.iter().any(|member| is_named(member.name()));
    if is_maximum && !form.maxima.iter().any(|member| is_named(member.name())) {
        return false;
    }
    let is_there = is_maximum && call.max_tokens.is_some()
        || call.parameters.iter().any(|parameter| is_named(parameter.name(body)));
    write.always || !is_there
}

/// Every name of the largest answer, of all APIs.
const MAXIMA: [Member; 4] =
    [Member::MaxTokens, Member::MaxCompletionTokens, Member::MaxOutputTokens, Member::NPredict];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Api;
    use crate::engine::Engine;
    use proptest::prelude::*;
    use serde_json::Value;
    use shedder::Tier;

    fn call(body: &str) -> Call {
        Call::read(Api::Chat, Bytes::copy_from_slice(body.as_bytes()), 64).unwrap()
    }

    /// The engine's own rules, and these.
    fn policy(engine: Engine, rules: &[(&str, Rule)]) -> Parameters {
        let presets = engine.presets().iter().map(|preset| (preset.name.into(), preset.rule));
        Parameters::new(presets.chain(rules.iter().map(|(name, rule)| ((*name).into(), *rule))).collect())
    }

    fn sent(policy: &Parameters, written: &Written<'_>, body: &str) -> String {
        let call = call(body);
        String::from_utf8(
            call.forwarded("m", Engine::Openai, Tier::Regular, edits(policy, written, &call)).concat(),
        )
        .unwrap()
    }

    #[test]
    fn stripped_members_leave_a_whole_body_wherever_they_are() {
        let policy = policy(Engine::Openai, &[("a", Rule::Strip), ("b", Rule::Strip)]);
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
        let policy = policy(Engine::Vllm, &[]);
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
        let policy =
            policy(Engine::Openai, &[("top_logprobs", Rule::Cap(5.0)), ("temperature", Rule::Cap(1.5))]);
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
    fn rules_with_dots_are_about_members_of_objects() {
        let policy = policy(
            Engine::Openai,
            &[
                ("extra_body.priority", Rule::Strip),
                ("a.b.c", Rule::Strip),
                ("sampling_params.logits_processors", Rule::Deny),
                ("sampling_params.n", Rule::Cap(2.0)),
            ],
        );
        for (member, left) in [
            (r#""extra_body":{"priority":-1}"#, r#""extra_body":{}"#),
            (r#""Extra_Body":{"x":1,"PRIORITY":-1,"y":2}"#, r#""Extra_Body":{"x":1,"y":2}"#),
            (
                r#""extra_body":{"\u0070riority":1,"x":{"priority":2}}"#,
                r#""extra_body":{"x":{"priority":2}}"#,
            ),
            (
                r#""extra_body":{"priority":1},"extra_body":{"priority":2}"#,
                r#""extra_body":{},"extra_body":{}"#,
            ),
            (r#""a":{ "b" : { "c":1 , "d":2 } }"#, r#""a":{ "b" : { "d":2 } }"#),
            (r#""a":{"b":[{"c":1}]}"#, r#""a":{"b":[{"c":1}]}"#),
            (r#""sampling_params":{"n":9,"m":9}"#, r#""sampling_params":{"n":2,"m":9}"#),
            (r#""priority":1,"n":null,"c":3"#, r#""priority":1,"n":null,"c":3"#),
        ] {
            let (body, want) = (
                format!(r#"{{{member},"model":"m","messages":[]}}"#),
                format!(r#"{{{left},"model":"m","messages":[]}}"#),
            );
            assert_eq!(check(&policy, &call(&body)), Ok(()), "{body}");
            assert_eq!(sent(&policy, &Written::default(), &body), want, "{body}");
        }
        for member in [
            r#""sampling_params":{"x":1,"Logits_Processors":["p"]}"#.to_owned(),
            r#""sampling_params":{"n":"9"}"#.to_owned(),
            format!(r#""sampling_params":{{{}"y":1}}"#, r#""x":1,"#.repeat(300)),
        ] {
            let refusal =
                check(&policy, &call(&format!(r#"{{{member},"model":"m","messages":[]}}"#))).unwrap_err();
            assert!(refusal.message.starts_with("`sampling_params"), "{}", refusal.message);
        }
    }

    #[test]
    fn values_are_written_where_there_are_none_or_in_any_case() {
        let write = |name: &str, json: &str, always| Write { name: name.into(), json: json.into(), always };
        let policy = policy(Engine::Openai, &[("top_k", Rule::Strip)]).writing(vec![
            write("temperature", "0.7", false),
            write("max_tokens", "64", false),
            write("top_k", "[5]", true),
        ]);
        for (body, want) in [
            (
                r#"{"model":"m","messages":[]}"#,
                r#"{"temperature":0.7,"max_tokens":64,"top_k":[5],"model":"m","messages":[]}"#,
            ),
            (
                r#"{"Temperature":1,"model":"m","messages":[],"max_completion_tokens":9,"top_k":1}"#,
                r#"{"top_k":[5],"Temperature":1,"model":"m","messages":[],"max_completion_tokens":9}"#,
            ),
        ] {
            assert_eq!(sent(&policy, &Written::default(), body), want, "{body}");
        }
        let embed = Bytes::from_static(br#"{"model":"m","input":"x"}"#);
        let call = Call::read(Api::Embeddings, embed, 64).unwrap();
        assert_eq!(edits(&policy, &Written::default(), &call), Edits::new(), "nothing is generated");
        let responses = Bytes::from_static(br#"{"model":"m","input":"x"}"#);
        let call = Call::read(Api::Responses, responses, 64).unwrap();
        let sent =
            call.forwarded("m", Engine::Openai, Tier::Regular, edits(&policy, &Written::default(), &call));
        let sent = String::from_utf8(sent.concat()).unwrap();
        assert!(!sent.contains("max_tokens") && sent.contains("\"temperature\":0.7"), "{sent}");
    }

    #[test]
    fn what_we_write_replaces_what_the_client_wrote() {
        let policy = policy(Engine::Openai, &[]);
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
        assert_eq!(
            call.forwarded("m", Engine::Openai, Tier::Regular, edits).concat(),
            br#"{"model":"m","messages":[],"x":1}"#
        );
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
            let rules: Vec<(&str, Rule)> = names.iter().map(|name| (&**name, Rule::Strip)).collect();
            let policy = policy(Engine::Openai, &rules);

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
