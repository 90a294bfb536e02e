//! What an engine says it used, read with suspicion.
//!
//! Engines leave fields out, send `null`, and some report more cached tokens than the prompt has. Missing or
//! null cached tokens are *unknown*, not zero: then our own estimate counts. Numbers that cannot be are
//! clamped, and the answer is marked so that operators see it.

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
    prompt_tokens_details: Option<RawDetails>,
    /// Some services put it at the top level.
    cached_tokens: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct RawDetails {
    cached_tokens: Option<f64>,
}

impl Usage {
    /// Reads the `usage` object of OpenAI's chat and completions APIs. `None`: not an object of numbers.
    #[must_use]
    pub fn from_openai(json: &str) -> Option<Usage> {
        let raw: RawUsage = serde_json::from_str(json).ok()?;
        let mut anomalous = false;
        let prompt = clamp(raw.prompt_tokens?, TOKENS_MAX, &mut anomalous);
        let generated = clamp(raw.completion_tokens.unwrap_or(0.0), TOKENS_MAX, &mut anomalous);
        let cached = raw
            .prompt_tokens_details
            .and_then(|details| details.cached_tokens)
            .or(raw.cached_tokens)
            .map(|cached| clamp(cached, prompt, &mut anomalous));
        Some(Usage { prompt, cached, generated, anomalous })
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
