//! The last refusals: which meter or threshold, by how much, what would have let it in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// The last refusals.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Refusals {
    /// The newest first: answers 429, 502, 503 and 504.
    pub refusals: Vec<Refused>,
    /// How many of those that are kept match.
    #[serde(default)]
    pub matching: usize,
    /// How many are kept at most.
    #[serde(default)]
    pub kept_max: usize,
}

/// One refusal.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// When the request arrived (RFC 3339).
    pub time: String,
    /// The id that the client was told.
    pub request_id: String,
    /// The client's own id, if it sent one.
    #[serde(default)]
    pub client_request_id: Option<String>,
    /// Whose request.
    pub account: Option<Arc<str>>,
    /// For which model.
    pub model: Option<Arc<str>>,
    /// In which tier.
    pub tier: Option<Cow<'static, str>>,
    /// The deployment that had no place for it, or failed it; null: it never asked one.
    pub deployment: Option<Arc<str>>,
    /// The status that was told.
    pub status: u16,
    /// The reason that was told in `x-tidegate-reason`.
    pub reason: Cow<'static, str>,
    /// The sentence that was told.
    pub message: Option<String>,
    /// How long it had waited here.
    pub queue_ms: u64,
    /// Its prompt as weighed, tokens.
    pub prompt_tokens: u32,
    /// The budget that was spent; null: it was not a budget.
    pub budget: Option<BudgetWhy>,
    /// The load that was too much; null: it was not the load.
    pub load: Option<LoadWhy>,
    /// What would have let it in, in a sentence.
    pub would_have_helped: Option<String>,
}

/// A budget that refused.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BudgetWhy {
    /// `prompt`, `uncached-prompt`, `generated`, `requests` or `concurrency`.
    pub meter: Cow<'static, str>,
    /// Its limit: tokens or requests per minute, or requests at once.
    pub limit: u64,
    /// What counted against it.
    pub used: u64,
    /// What the request asked for.
    pub asked: u64,
    /// By how much that is too much.
    pub over_by: u64,
    /// After how long there would have been room; null: never.
    pub room_after_ms: Option<u64>,
}

/// A load that refused.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LoadWhy {
    /// The wait that was predicted.
    pub predicted_wait_ms: Option<u64>,
    /// The longest predicted wait with which it would have been let in.
    pub predicted_wait_max_ms: u64,
    /// How full the least full replica in service was.
    pub saturation: f64,
    /// The saturation at which its tier closes.
    pub ceiling: f64,
    /// Requests of its tier and above that waited.
    pub queued: u32,
    /// When the client was told to come back; null: coming back cannot help.
    pub retry_after_ms: Option<u64>,
}

/// Refused requests in groups.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RefusalGroups {
    /// How far back, minutes; the running one is among them.
    pub minutes: usize,
    /// All requests that match.
    pub total: u64,
    /// Refused requests of groups that had to make room for others: which match is not known.
    pub others: u64,
    /// By account, reason and status, the most requests first.
    pub groups: Vec<RefusalGroup>,
}

/// Refused requests of an account for one reason.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RefusalGroup {
    /// Whose; null: no account was known.
    pub account: Option<Arc<str>>,
    /// The reason that was told in `x-tidegate-reason`.
    pub reason: Cow<'static, str>,
    /// The status that was told.
    pub status: u16,
    /// Requests.
    pub count: u64,
    /// When the last one was refused (RFC 3339).
    pub last: String,
    /// Its id.
    pub last_request_id: String,
    /// The sentence that was told then.
    pub last_message: Option<String>,
    /// For which models.
    pub models: Vec<Arc<str>>,
    /// At which deployments.
    pub deployments: Vec<Arc<str>>,
    /// In which tiers.
    pub tiers: Vec<Cow<'static, str>>,
    /// By minute, the oldest first.
    pub by_minute: Vec<u64>,
}
