//! What accounts used, by hour, day or month: requests and tokens as charged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// Rows of usage, in the order of time, account, key, model and tier.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct UsagePage {
    /// The first moment that is told of (RFC 3339, UTC).
    pub from: String,
    /// The first moment after it; null: there is no end.
    pub to: Option<String>,
    /// The length of the time that a row is of: `hour`, `day` or `month`, in UTC. A request is of the hour in which it ended.
    pub by: Cow<'static, str>,
    /// One for each time, account, key, model and tier with a request.
    pub rows: Vec<UsageRow>,
    /// What to give as `after` for the next page; null: this is the last.
    pub next: Option<String>,
    /// The sum of all rows that match, of all pages.
    pub total: UsageTotals,
    /// Whether all that is kept is in it. False while the process reads its files, and while one that handed over to it has
    /// requests: they are told once it has ended.
    pub complete: bool,
    /// How long an hour is kept, days.
    pub retention_days: u32,
    /// How the gateway keeps it; null for customers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<UsageKept>,
}

/// One row.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct UsageRow {
    /// When the time of the row begins (RFC 3339, UTC).
    pub time: String,
    /// The account; null: requests of accounts for whose rows there was no room.
    pub account: Option<Arc<str>>,
    /// Its key, by the first 8 hexadecimal digits of the key's SHA-256, as in the access log.
    pub key: Option<String>,
    /// The model; null: none of the account's was asked for, as by a `GET`.
    pub model: Option<Arc<str>>,
    /// The tier in which the requests were served, or else offered; null: it did not come to that.
    pub tier: Option<Cow<'static, str>>,
    /// What was used.
    #[serde(flatten)]
    pub totals: UsageTotals,
}

/// Requests and tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageTotals {
    /// Requests with a key of the account, however they ended.
    pub requests: u64,
    /// Of them answered with a status 2xx; streams that broke are none of them.
    pub answered: u64,
    /// Of them refused with a 429.
    pub refused_429: u64,
    /// Of them refused with a 503.
    pub refused_503: u64,
    /// Prompt tokens as charged.
    pub prompt_tokens: u64,
    /// Of them found in an engine's cache, as far as engines tell.
    pub cached_tokens: u64,
    /// Of them charged to the uncached-prompt meter.
    pub uncached_tokens: u64,
    /// Generated tokens as charged.
    pub generated_tokens: u64,
}

/// How usage is kept.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct UsageKept {
    /// Rows in memory.
    pub rows: u64,
    /// How many there may be.
    pub rows_max: u64,
    /// Requests since the start that are in a row without an account, because there was no room.
    pub without_row: u64,
    /// Requests that are in memory and not yet on the disk; a killed process loses them.
    pub unwritten_requests: u64,
    /// How long ago all was on the disk, seconds.
    pub last_write_seconds: f64,
    /// Times since the start that writing failed.
    pub write_failures: u64,
    /// Lines on the disk that could not be read.
    pub damaged_lines: u64,
    /// Bytes on the disk.
    pub bytes: u64,
}
