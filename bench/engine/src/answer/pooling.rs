//! Answers to requests that read and generate nothing: embeddings, rerank, score, token counts.
//!
//! A vector and a score are functions of the texts that were read, so that a client can tell two answers apart.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Reported, json};
use crate::fault::Fault;
use crate::text::mix;
use crate::wire::{Api, Pool, Pooled};

/// Numbers in an embedding, unless the request says how many: enough to be one.
const DIMENSIONS: usize = 8;
/// Most that a request may ask for.
pub(crate) const DIMENSIONS_MAX: usize = 8_192;

/// What was asked.
pub(crate) struct Pooling {
    pub(crate) api: Api,
    pub(crate) model: String,
    pub(crate) pool: Pool,
    /// Only so many of the best results.
    pub(crate) top: Option<usize>,
    /// Numbers in an embedding.
    pub(crate) dimensions: Option<usize>,
    /// Numbers as their bytes, as OpenAI's SDKs ask for them.
    pub(crate) base64: bool,
}

impl Pooling {
    pub(crate) fn body(&self, fault: &Fault) -> String {
        if self.api == Api::CountTokens {
            return format!("{{\"input_tokens\":{}}}", self.pool.tokens);
        }
        let items = match self.api {
            Api::Rerank => self.ranked(),
            Api::Score => self.listed(|index, item| {
                format!("{{\"index\":{index},\"object\":\"score\",\"score\":{}}}", score(item.seed))
            }),
            _ => self.listed(|index, item| {
                let embedding = self.embedding(item.seed);
                format!("{{\"index\":{index},\"object\":\"embedding\",\"embedding\":{embedding}}}")
            }),
        };
        let list = if self.api == Api::Rerank { "results" } else { "data" };
        let mut body = format!(
            "{{\"id\":\"pool-sim\",\"object\":\"list\",\"model\":{},\"{list}\":[{}]",
            json(&self.model),
            items.join(",")
        );
        if !fault.no_usage {
            let prompt = i64::from(self.pool.tokens);
            let usage = Reported { prompt, ..Reported::default() }.under(fault);
            let total = usage.prompt.saturating_add(usage.completion);
            let _ =
                write!(body, ",\"usage\":{{\"prompt_tokens\":{},\"total_tokens\":{total}}}", usage.prompt);
        }
        body.push('}');
        body
    }

    fn listed(&self, shown: impl Fn(usize, &Pooled) -> String) -> Vec<String> {
        self.pool.items.iter().enumerate().map(|(index, item)| shown(index, item)).collect()
    }

    /// The best first.
    fn ranked(&self) -> Vec<String> {
        let mut items: Vec<(usize, &Pooled)> = self.pool.items.iter().enumerate().collect();
        items.sort_by(|(_, a), (_, b)| score(b.seed).total_cmp(&score(a.seed)));
        items.truncate(self.top.unwrap_or(usize::MAX));
        let shown = |(index, item): (usize, &Pooled)| {
            let (text, score) = (json(&item.text), score(item.seed));
            format!("{{\"index\":{index},\"document\":{{\"text\":{text}}},\"relevance_score\":{score}}}")
        };
        items.into_iter().map(shown).collect()
    }

    fn embedding(&self, seed: u64) -> String {
        let numbers =
            (0..self.dimensions.unwrap_or(DIMENSIONS) as u64).map(|at| score(mix(seed ^ mix(at))) as f32);
        if self.base64 {
            let bytes: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
            return format!("\"{}\"", BASE64.encode(bytes));
        }
        format!("{:?}", numbers.collect::<Vec<_>>())
    }
}

/// A number from 0 to 1.
fn score(seed: u64) -> f64 {
    (mix(seed) >> 11) as f64 / (1_u64 << 53) as f64
}
