//! Budgets: limit, bounds, use, what comes next, how it came so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// The limits of one account.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AccountLimits {
    /// Its id.
    pub account: Arc<str>,
    /// `1` to `4`, `unlimited` or `enterprise`: sets the ceilings.
    pub spending_tier: Cow<'static, str>,
    /// By model, those that it may use.
    pub models: Vec<ModelLimits>,
}

/// The limits of one account on one model.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ModelLimits {
    /// The model's name.
    pub model: Arc<str>,
    /// Whether growth is frozen because the model is short.
    pub frozen: bool,
    /// `prompt`, `uncached-prompt` and `generated`.
    pub meters: Vec<MeterState>,
    /// How the limits moved.
    pub history: Vec<Change>,
}

/// One meter. Amounts in tokens, of the last minute.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MeterState {
    /// `prompt`, `uncached-prompt` or `generated`.
    pub meter: Cow<'static, str>,
    /// Tokens per minute in force.
    pub limit: u64,
    /// Below this it never shrinks.
    pub floor: u64,
    /// Above this it never grows.
    pub ceiling: u64,
    /// Charged in the last minute.
    pub used: u64,
    /// Held for running requests.
    pub reserved: u64,
    /// Owed from answers that were longer than what was left.
    pub debt: u64,
    /// What can still be asked for.
    pub remaining: u64,
    /// When at least half of the limit will be free, if nothing else comes.
    pub until_half_ms: u64,
    /// The next growth; null: it is at its ceiling.
    pub growth: Option<NextStep>,
    /// The next shrinking; null: it is at its floor.
    pub shrink: Option<NextStep>,
    /// The return to the starting limit without traffic.
    pub reset: Option<NextStep>,
}

/// A step that a limit may take.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct NextStep {
    /// The limit then, tokens per minute.
    pub to: u64,
    /// The use that decides, tokens: growth needs more, shrink less.
    pub threshold: Option<u64>,
    /// Not before this moment (RFC 3339).
    pub at: String,
}

/// A step that a limit took, or one of its bounds.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// When (RFC 3339).
    pub at: String,
    /// Which meter.
    pub meter: Cow<'static, str>,
    /// What moved: `limit` (the one in force), `start`, `floor` or `ceiling`.
    pub bound: Cow<'static, str>,
    /// Tokens per minute before.
    pub from: u64,
    /// Tokens per minute after.
    pub to: u64,
    /// Why: `grown`, `shrunk`, `idle`, `reconfigured` (by the config) or `operator`.
    pub reason: Cow<'static, str>,
    /// Of an operator's change the first digits of the SHA-256 of the token; else null.
    pub by: Option<String>,
}

/// Budgets in memory.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Budgets {
    /// The busiest first, at most 1,000.
    pub budgets: Vec<Listed>,
    /// How many there are in memory.
    pub total: usize,
}

/// One budget: three numbers each, of the meters `prompt`, `uncached-prompt` and `generated`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Listed {
    /// Whose.
    pub account: Arc<str>,
    /// On which model.
    pub model: Arc<str>,
    /// Tokens per minute in force.
    pub limits: [u64; 3],
    /// Charged in the last minute.
    pub used: [u64; 3],
    /// Owed.
    pub debt: [u64; 3],
}
