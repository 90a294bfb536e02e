//! Answers to requests that read and generate nothing: embeddings, rerank, score, token counts.

use std::fmt::Write;

use super::answer::{Reported, json};
use super::fault::Fault;
use super::wire::Api;

/// Numbers in an embedding: enough to be one.
const DIMENSIONS: usize = 8;

/// What was asked.
#[derive(Debug)]
pub(super) struct Pooled {
    pub(super) api: Api,
    pub(super) model: String,
    pub(super) prompt_tokens: u32,
    /// Texts to embed, or to compare.
    pub(super) texts: usize,
}

impl Pooled {
    pub(super) fn body(&self, fault: &Fault) -> String {
        if self.api == Api::CountTokens {
            return format!("{{\"input_tokens\":{}}}", self.prompt_tokens);
        }
        let mut items = String::new();
        for index in 0..self.texts {
            if index > 0 {
                items.push(',');
            }
            let score = 1.0 / (index + 1) as f64;
            let _ = match self.api {
                Api::Rerank => write!(items, "{{\"index\":{index},\"relevance_score\":{score}}}"),
                Api::Score => write!(items, "{{\"index\":{index},\"object\":\"score\",\"score\":{score}}}"),
                _ => write!(
                    items,
                    "{{\"index\":{index},\"object\":\"embedding\",\"embedding\":{:?}}}",
                    [score; DIMENSIONS]
                ),
            };
        }
        let list = if self.api == Api::Rerank { "results" } else { "data" };
        let mut body = format!(
            "{{\"id\":\"pool-sim\",\"object\":\"list\",\"model\":{},\"{list}\":[{items}]",
            json(&self.model)
        );
        if !fault.no_usage {
            let prompt = i64::from(self.prompt_tokens);
            let usage = Reported { prompt, completion: 0, cached: None }.under(fault);
            let total = usage.prompt.saturating_add(usage.completion);
            let _ =
                write!(body, ",\"usage\":{{\"prompt_tokens\":{},\"total_tokens\":{total}}}", usage.prompt);
        }
        body.push('}');
        body
    }
}
