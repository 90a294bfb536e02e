//! What an engine says it used, read with suspicion.
//!
//! Engines leave fields out, send `null`, and some report more cached tokens than the prompt has. Missing or null cached
//! tokens are *unknown*, not zero: then our own estimate counts. Each number is read on its own: one that cannot be is
//! unknown like one that is missing, marks the usage as anomalous so that operators see it, and leaves the others as
//! they are.

use crate::answer::{Name, is_object};
use crate::json::members;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// More tokens than this in one request are a fault of the engine's report, not a use: about a thousand
/// full windows of the largest models.
pub const TOKENS_MAX: u64 = 1 << 30;

/// Tokens of one request as the engine reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Prompt tokens, cached ones included; 0 where the engine did not say, or said what cannot be.
    pub prompt: u64,
    /// Of these, served from the engine's prefix cache; `None`: the engine did not say.
    pub cached: Option<u64>,
    /// Generated tokens, reasoning included; 0 as with the prompt.
    pub generated: u64,
    /// Set where a number could not be.
    pub anomalous: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawUsage {
    prompt_tokens: Number,
    completion_tokens: Number,
    /// All that routes without output report, on some engines.
    total_tokens: Number,
    prompt_tokens_details: Details,
    /// Some services put it at the top level.
    cached_tokens: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawResponsesUsage {
    input_tokens: Number,
    output_tokens: Number,
    total_tokens: Number,
    input_tokens_details: Details,
}

/// llama.cpp's own report, which it may send with each token.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawTimings {
    cache_n: Number,
    prompt_n: Number,
    predicted_n: Number,
}

/// One number of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Number {
    /// It is missing, or null.
    #[default]
    Untold,
    /// Tokens.
    Told(u64),
    /// A value that cannot be tokens.
    Impossible,
}

impl Number {
    fn of(told: Option<u64>) -> Number {
        told.filter(|&tokens| tokens <= TOKENS_MAX).map_or(Number::Impossible, Number::Told)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor { is_nested: false })
    }
}

/// The cached tokens in an object of details.
#[derive(Debug, Clone, Copy, Default)]
struct Details(Number);

impl<'de> Deserialize<'de> for Details {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor { is_nested: true }).map(Details)
    }
}

/// Reads a number, or the one of the cached tokens in an object.
struct NumberVisitor {
    is_nested: bool,
}

impl<'de> Visitor<'de> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Number, E> {
        Ok(Number::Untold)
    }

    fn visit_u64<E>(self, tokens: u64) -> Result<Number, E> {
        Ok(if self.is_nested { Number::Impossible } else { Number::of(Some(tokens)) })
    }

    fn visit_i64<E>(self, _: i64) -> Result<Number, E> {
        Ok(Number::Impossible)
    }

    fn visit_f64<E>(self, tokens: f64) -> Result<Number, E> {
        let is_whole = tokens.fract() == 0.0 && tokens >= 0.0 && !self.is_nested;
        Ok(Number::of(is_whole.then_some(tokens as u64)))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Number, E> {
        Ok(Number::Impossible)
    }

    fn visit_str<E>(self, _: &str) -> Result<Number, E> {
        Ok(Number::Impossible)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Number, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Number::Impossible)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Number, A::Error> {
        let mut cached = if self.is_nested { Number::Untold } else { Number::Impossible };
        while let Some(key) = map.next_key::<Name<'_>>()? {
            if self.is_nested && key.0 == "cached_tokens" {
                cached = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(cached)
    }
}

/// Reads an object of numbers, also one in which a number is beyond what a float can be: nothing else is read of that.
pub(super) fn read_object<T: DeserializeOwned>(json: &str) -> Option<T> {
    if !is_object(json) {
        return None;
    }
    serde_json::from_str(json).ok().or_else(|| {
        let mut readable = String::from("{");
        for member in members::inside(json.as_bytes(), 0..json.len())? {
            let value = json.get(member.value.clone())?;
            let is_readable = serde_json::from_str::<serde_json::Value>(value).is_ok();
            let name = serde_json::to_string(member.name(json.as_bytes())).ok()?;
            let comma = if readable.len() > 1 { "," } else { "" };
            readable.extend([comma, name.as_str(), ":", if is_readable { value } else { "false" }]);
        }
        readable.push('}');
        serde_json::from_str(&readable).ok()
    })
}

/// Takes numbers and remembers whether all of them can be.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// Set where one cannot be.
    pub(super) anomalous: bool,
}

impl Numbers {
    /// The tokens that `number` tells; `None` where it tells none, or what cannot be.
    pub(super) fn tokens(&mut self, number: Number) -> Option<u64> {
        self.anomalous |= number == Number::Impossible;
        if let Number::Told(tokens) = number { Some(tokens) } else { None }
    }

    /// The usage of what was read; of prompt and generated tokens one that is unknown is the rest of the total.
    pub(super) fn usage(
        mut self,
        prompt: Option<u64>,
        cached: Option<u64>,
        generated: Option<u64>,
        total: Option<u64>,
    ) -> Usage {
        let rest = |known: Option<u64>| total.zip(known).map(|(total, known)| total.saturating_sub(known));
        let (prompt, generated) = match (prompt, generated) {
            (None, None) => (total, None),
            (prompt, generated) => (prompt.or_else(|| rest(generated)), generated.or_else(|| rest(prompt))),
        };
        let prompt = prompt.unwrap_or(0);
        self.anomalous |= prompt > 0 && cached.is_some_and(|cached| cached > prompt);
        // Of a prompt that is unknown no part is known.
        let cached = cached.filter(|_| prompt > 0).map(|cached| cached.min(prompt));
        Usage { prompt, cached, generated: generated.unwrap_or(0), anomalous: self.anomalous }
    }
}

impl Usage {
    /// Reads the `usage` object that most of OpenAI's APIs share. `None`: no object, or none with tokens in it.
    #[must_use]
    pub fn from_openai(json: &str) -> Option<Usage> {
        let raw: RawUsage = read_object(json)?;
        if [raw.prompt_tokens, raw.completion_tokens, raw.total_tokens] == [Number::Untold; 3] {
            return None;
        }
        let mut numbers = Numbers::default();
        let (prompt, generated) = (numbers.tokens(raw.prompt_tokens), numbers.tokens(raw.completion_tokens));
        let total = numbers.tokens(raw.total_tokens);
        let nested = numbers.tokens(raw.prompt_tokens_details.0);
        let cached = nested.or_else(|| numbers.tokens(raw.cached_tokens));
        Some(numbers.usage(prompt, cached, generated, total))
    }

    /// Reads the `usage` object of the Responses API. `None`: no object, or none with tokens in it.
    #[must_use]
    pub fn from_responses(json: &str) -> Option<Usage> {
        let raw: RawResponsesUsage = read_object(json)?;
        if [raw.input_tokens, raw.output_tokens, raw.total_tokens] == [Number::Untold; 3] {
            return None;
        }
        let mut numbers = Numbers::default();
        let (prompt, generated) = (numbers.tokens(raw.input_tokens), numbers.tokens(raw.output_tokens));
        let total = numbers.tokens(raw.total_tokens);
        let cached = numbers.tokens(raw.input_tokens_details.0);
        Some(numbers.usage(prompt, cached, generated, total))
    }

    /// Reads llama.cpp's `timings`, which count what was computed of the prompt and what was not apart. `None`: no
    /// object, or none with tokens in it.
    #[must_use]
    pub fn from_timings(json: &str) -> Option<Usage> {
        let raw: RawTimings = read_object(json)?;
        if [raw.prompt_n, raw.predicted_n] == [Number::Untold; 2] {
            return None;
        }
        let mut numbers = Numbers::default();
        let (computed, cached) = (numbers.tokens(raw.prompt_n), numbers.tokens(raw.cache_n));
        let generated = numbers.tokens(raw.predicted_n);
        let prompt = computed.map(|computed| computed.saturating_add(cached.unwrap_or(0)));
        Some(numbers.usage(prompt, cached, generated, None))
    }

    /// Returns the usage that is known after this report and one `before` in the same answer: what this one leaves out
    /// stays.
    #[must_use]
    pub fn after(self, before: Option<Usage>) -> Usage {
        let Some(before) = before else { return self };
        let told = |now: u64, before: u64| if now > 0 { now } else { before };
        let prompt = told(self.prompt, before.prompt);
        Usage {
            prompt,
            cached: self.cached.or(before.cached).map(|cached| cached.min(prompt)),
            generated: told(self.generated, before.generated),
            anomalous: self.anomalous || before.anomalous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_or_null_cached_tokens_are_unknown() {
        for details in
            ["", r#","prompt_tokens_details":null"#, r#","prompt_tokens_details":{"cached_tokens":null}"#]
        {
            let usage =
                Usage::from_openai(&format!(r#"{{"prompt_tokens":9,"completion_tokens":2{details}}}"#))
                    .unwrap();
            assert_eq!(usage, Usage { prompt: 9, cached: None, generated: 2, anomalous: false }, "{details}");
        }
    }

    #[test]
    fn cached_tokens_are_read_from_both_places() {
        let nested = Usage::from_openai(
            r#"{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":8}}"#,
        );
        let top = Usage::from_openai(r#"{"prompt_tokens":9,"completion_tokens":2,"cached_tokens":8}"#);
        assert_eq!(nested.unwrap().cached, Some(8));
        assert_eq!(top.unwrap().cached, Some(8));
    }

    #[test]
    fn each_api_names_its_tokens_in_its_own_way() {
        let pooled = Usage::from_openai(r#"{"total_tokens":17}"#).unwrap();
        assert_eq!((pooled.prompt, pooled.generated), (17, 0));
        let responses = Usage::from_responses(
            r#"{"input_tokens":9,"output_tokens":2,"input_tokens_details":{"cached_tokens":8},"total_tokens":11}"#,
        )
        .unwrap();
        assert_eq!((responses.prompt, responses.cached, responses.generated), (9, Some(8), 2));
        assert_eq!(Usage::from_responses("[1,2]"), None);
    }

    /// Report A6: cached beyond the prompt, negative, huge.
    #[test]
    fn report_a6_impossible_numbers_are_unknown_and_marked() {
        for (json, expected) in [
            (r#"{"prompt_tokens":9,"completion_tokens":-5,"cached_tokens":100}"#, (9, Some(9), 0)),
            (r#"{"prompt_tokens":-1,"completion_tokens":1e300}"#, (0, None, 0)),
        ] {
            let usage = Usage::from_openai(json).unwrap();
            assert_eq!((usage.prompt, usage.cached, usage.generated), expected);
            assert!(usage.anomalous, "{json}");
        }
        for nothing in ["[]", "{}", "null", "7", r#"{"requests":1}"#] {
            assert_eq!(Usage::from_openai(nothing), None, "{nothing}");
            assert_eq!(Usage::from_responses(nothing), None, "{nothing}");
            assert_eq!(Usage::from_timings(nothing), None, "{nothing}");
        }
    }

    /// One number that cannot be, of every kind and in every place: the others are read.
    #[test]
    fn case_r08_one_impossible_number_leaves_the_others() {
        for bad in ["-1", "9007199254740993", "1e300", "1e999", "1.5", "\"7\"", "true", "[]", "{}"] {
            let read = |prompt: &str, generated: &str, cached: &str| {
                let openai = format!(
                    r#"{{"prompt_tokens":{prompt},"completion_tokens":{generated},"prompt_tokens_details":{{"cached_tokens":{cached}}}}}"#
                );
                let responses = openai
                    .replace("prompt_tokens_details", "input_tokens_details")
                    .replace("prompt_tokens", "input_tokens")
                    .replace("completion_tokens", "output_tokens");
                let usage = Usage::from_openai(&openai).unwrap();
                assert_eq!(Usage::from_responses(&responses), Some(usage));
                assert!(usage.anomalous, "{openai}");
                (usage.prompt, usage.cached, usage.generated)
            };
            assert_eq!(read(bad, "3", "0"), (0, None, 3));
            assert_eq!(read("9", bad, "8"), (9, Some(8), 0));
            assert_eq!(read("9", "3", bad), (9, None, 3));
        }
        let odd =
            Usage::from_openai(r#"{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":7}"#);
        assert_eq!(odd, Some(Usage { prompt: 9, cached: None, generated: 3, anomalous: true }));
    }

    #[test]
    fn case_r08_a_number_that_cannot_be_is_the_rest_of_the_total() {
        let read = |json: &str| Usage::from_openai(json).map(|usage| (usage.prompt, usage.generated));
        assert_eq!(read(r#"{"prompt_tokens":-1,"completion_tokens":3,"total_tokens":12}"#), Some((9, 3)));
        assert_eq!(read(r#"{"prompt_tokens":9,"completion_tokens":"x","total_tokens":12}"#), Some((9, 3)));
        assert_eq!(read(r#"{"completion_tokens":3}"#), Some((0, 3)));
    }

    #[test]
    fn timings_of_llama_cpp_tell_the_prompt_in_two_parts() {
        let usage = Usage::from_timings(r#"{"cache_n":12,"prompt_n":1,"predicted_n":3,"prompt_ms":0.2}"#);
        assert_eq!(usage, Some(Usage { prompt: 13, cached: Some(12), generated: 3, anomalous: false }));
        let old = Usage::from_timings(r#"{"prompt_n":13,"predicted_n":3}"#);
        assert_eq!(old.map(|usage| (usage.prompt, usage.cached)), Some((13, None)));
    }

    #[test]
    fn a_later_report_keeps_what_it_leaves_out() {
        let running = Usage { prompt: 13, cached: None, generated: 2, anomalous: false };
        let last = Usage { prompt: 13, cached: Some(8), generated: 3, anomalous: false };
        assert_eq!(last.after(Some(running)), last);
        assert_eq!(running.after(Some(last)), Usage { generated: 2, ..last });
        assert_eq!(Usage::default().after(Some(last)), last);
        assert_eq!(last.after(None), last);
    }
}
