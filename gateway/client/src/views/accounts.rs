//! Accounts: who may use what, and how much of it is in use.

use config::{KeyLimit, LimitOverride};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// A page of accounts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AccountPage {
    /// In the order of their ids.
    pub accounts: Vec<AccountState>,
    /// How many match in all.
    pub total: usize,
    /// What to give as `after` for the next page; null: this is the last.
    pub next: Option<Arc<str>>,
}

/// One account.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AccountState {
    /// Its id.
    pub id: Arc<str>,
    /// `config` (declared in the file, not changed here) or `runtime` (made through this API).
    pub source: Cow<'static, str>,
    /// Whether its keys are refused.
    pub disabled: bool,
    /// Whether an account of this id was made at run time too, and is out of force because the config declares it.
    pub overrides_runtime: bool,
    /// The first eight digits of each key's SHA-256: enough to tell keys apart.
    pub keys: Vec<String>,
    /// Those that end, after a rotation.
    pub ending_keys: Vec<EndingKey>,
    /// All its keys in force, with when each ends.
    #[serde(default)]
    pub key_list: Vec<KeyState>,
    /// Whether it can be changed here.
    #[serde(default)]
    pub changes: Changes,
    /// `1` to `4`, `unlimited` or `enterprise`.
    pub spending_tier: Cow<'static, str>,
    /// Tiers that it may ask for.
    pub tiers: Vec<Cow<'static, str>>,
    /// The tier of requests that name none.
    pub default_tier: Cow<'static, str>,
    /// `downgrade` or `refuse`: what becomes of a request for a tier that it may not use.
    pub on_forbidden_tier: Cow<'static, str>,
    /// Models that it may use; null: all.
    pub models: Option<Vec<Arc<str>>>,
    /// Limits of its own, as configured.
    pub limits: Vec<LimitOverride>,
    /// Its share of a contended queue.
    pub weight: f64,
    /// `arrival` or `user`: which of its own waiting requests is next.
    #[serde(default)]
    pub fair_by: Cow<'static, str>,
    /// Requests in any minute.
    pub requests_per_minute: u32,
    /// Requests at once.
    pub concurrency: u32,
    /// Requests that it has now.
    pub live: u32,
}

/// A key in force.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct KeyState {
    /// The first eight digits of its SHA-256.
    pub key: String,
    /// When it ends after a rotation (RFC 3339); null: it stays.
    pub ends: Option<String>,
    /// Its name; null: it has none, may do what the account may, and nothing below applies.
    #[serde(default)]
    pub name: Option<Arc<str>>,
    /// From when on it is refused (RFC 3339); null: never.
    #[serde(default)]
    pub expires: Option<String>,
    /// `good`, `expires_soon` (within 7 days), `expired` or `disabled`.
    #[serde(default)]
    pub state: Cow<'static, str>,
    /// The minute in which it was last used (RFC 3339); null: never, as far as is known.
    #[serde(default)]
    pub last_used: Option<String>,
    /// Models of the account that it may use; null: all of them.
    #[serde(default)]
    pub models: Option<Vec<Arc<str>>>,
    /// Tiers that it may ask for.
    #[serde(default)]
    pub tiers: Vec<Cow<'static, str>>,
    /// The tier of its requests that name none.
    #[serde(default)]
    pub default_tier: Cow<'static, str>,
    /// Its part of each of the account's limits in force; null: none.
    #[serde(default)]
    pub share: Option<f64>,
    /// Limits of its own, tokens per minute, as configured.
    #[serde(default)]
    pub limits: Vec<KeyLimit>,
    /// Requests in any minute; null: the account's alone.
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
    /// Requests at once; null: the account's alone.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// Requests that it has now, where it has limits for them.
    #[serde(default)]
    pub live: Option<u32>,
    /// Its use and limits on each model on which it was used lately and has limits of its own.
    #[serde(default)]
    pub budgets: Vec<KeyBudget>,
}

/// What a key used of its own limits on a model in the last minute; tokens, in the order prompt, uncached prompt, generated.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct KeyBudget {
    /// The model's name.
    pub model: Arc<str>,
    /// Tokens per minute in force.
    pub limits: [u64; 3],
    /// Charged in the last minute.
    pub used: [u64; 3],
}

/// Whether an account can be changed through this API.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// Whether it can.
    pub possible: bool,
    /// Why not, and what to do; null: it can.
    pub words: Option<String>,
}

/// A key that is still good beside a newer one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EndingKey {
    /// The first eight digits of its SHA-256.
    pub key: String,
    /// When it ends (RFC 3339).
    pub at: String,
}
