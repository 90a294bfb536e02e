//! What an engine says it used, read with suspicion.
//!
//! Engines leave fields out, send `null`, and some report more cached tokens than the prompt has. Missing or
//! null cached tokens are *unknown*, not zero: then our own estimate counts. Numbers that cannot be are
//! clamped, and the answer is counted as anomalous so that operators see it.

use crate::answer::is_object;
use serde::Deserialize;

/// More tokens than this in one request are a fault of the engine's report, not a use: about a thousand
/// full windows of the largest models.
pub const TOKENS_MAX: u64 = 1 << 30;

/// Tokens of one request as the engine reports them, clamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub prompt: u64,
    /// Of these, served from the engine's prefix cache; `None`: the engine did not say.
    pub cached: Option<u64>,
    /// Generated tokens, reasoning included.
    pub generated: u64,
    /// Whether a number had to be clamped.
    pub anomalous: bool,
}

#[derive(Debug, Deserialize)]
struct RawUsage {
    prompt_tokens: Option<f64>,
    completion_tokens: Option<f64>,
    /// All that routes without output report, on some engines.
    total_tokens: Option<f64>,
    prompt_tokens_details: Option<RawDetails>,
    /// Some services put it at the top level.
    cached_tokens: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct RawDetails {
    cached_tokens: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct RawResponsesUsage {
    input_tokens: f64,
    output_tokens: Option<f64>,
    input_tokens_details: Option<RawDetails>,
}

impl Usage {
    /// Reads the `usage` object that most of OpenAI's APIs share. `None`: not an object of numbers.
    #[must_use]
    pub fn from_openai(json: &str) -> Option<Usage> {
        let raw: RawUsage = serde_json::from_str(json).ok().filter(|_| is_object(json))?;
        let generated = raw.completion_tokens.unwrap_or(0.0);
        let prompt = raw.prompt_tokens.or_else(|| raw.total_tokens.map(|total| total - generated))?;
        let cached =
            raw.prompt_tokens_details.and_then(|details| details.cached_tokens).or(raw.cached_tokens);
        Some(Usage::of(prompt, cached, generated))
    }

    /// Reads the `usage` object of the Responses API. `None`: not an object of numbers.
    #[must_use]
    pub fn from_responses(json: &str) -> Option<Usage> {
        let raw: RawResponsesUsage = serde_json::from_str(json).ok().filter(|_| is_object(json))?;
        let cached = raw.input_tokens_details.and_then(|details| details.cached_tokens);
        Some(Usage::of(raw.input_tokens, cached, raw.output_tokens.unwrap_or(0.0)))
    }

    /// Usage of these numbers, clamped.
    #[must_use]
    pub fn of(prompt: f64, cached: Option<f64>, generated: f64) -> Usage {
        let mut anomalous = false;
        let prompt = clamp(prompt, TOKENS_MAX, &mut anomalous);
        let generated = clamp(generated, TOKENS_MAX, &mut anomalous);
        let cached = cached.map(|cached| clamp(cached, prompt, &mut anomalous));
        Usage { prompt, cached, generated, anomalous }
    }
}

fn clamp(tokens: f64, max: u64, anomalous: &mut bool) -> u64 {
    let clamped = tokens.clamp(0.0, max as f64);
    *anomalous |= clamped != tokens || tokens.fract() != 0.0;
    clamped as u64
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
    fn report_a6_impossible_numbers_are_clamped_and_marked() {
        for (json, expected) in [
            (r#"{"prompt_tokens":9,"completion_tokens":-5,"cached_tokens":100}"#, (9, Some(9), 0)),
            (r#"{"prompt_tokens":-1,"completion_tokens":1e300}"#, (0, None, TOKENS_MAX)),
        ] {
            let usage = Usage::from_openai(json).unwrap();
            assert_eq!((usage.prompt, usage.cached, usage.generated), expected);
            assert!(usage.anomalous, "{json}");
        }
        assert_eq!(Usage::from_openai(r#"{"prompt_tokens":"9"}"#), None);
        assert_eq!(Usage::from_openai("[]"), None);
    }
}
