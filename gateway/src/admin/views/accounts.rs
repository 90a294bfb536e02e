//! Accounts: who may use what, and how much of it is in use.

use crate::clock;
use crate::state::gateway::Gateway;
use crate::state::{Account, Snapshot};
use config;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// Accounts on a page, at most.
pub(in crate::admin) const PAGE_MAX: usize = 1000;

/// A page of accounts.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct AccountPage {
    /// In the order of their ids.
    accounts: Vec<AccountState>,
    /// How many match in all.
    total: usize,
    /// What to give as `after` for the next page; null: this is the last.
    next: Option<Arc<str>>,
}

/// One account.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct AccountState {
    /// Its id.
    id: Arc<str>,
    /// `config` (declared in the file, not changed here) or `runtime` (made through this API).
    source: &'static str,
    /// Whether its keys are refused.
    disabled: bool,
    /// Whether an account of this id was made at run time too, and is out of force because the config declares it.
    overrides_runtime: bool,
    /// The first eight digits of each key's SHA-256: enough to tell keys apart.
    keys: Vec<String>,
    /// Those that end, after a rotation.
    ending_keys: Vec<EndingKey>,
    /// `1` to `4`, `unlimited` or `enterprise`.
    spending_tier: &'static str,
    /// Tiers that it may ask for.
    tiers: Vec<&'static str>,
    /// The tier of requests that name none.
    default_tier: &'static str,
    /// `downgrade` or `refuse`: what becomes of a request for a tier that it may not use.
    on_forbidden_tier: &'static str,
    /// Models that it may use; null: all.
    models: Option<Vec<Arc<str>>>,
    /// Limits of its own, as configured.
    limits: Vec<config::LimitOverride>,
    /// Its share of a contended queue.
    weight: f64,
    /// Requests in any minute.
    requests_per_minute: u32,
    /// Requests at once.
    concurrency: u32,
    /// Requests that it has now.
    live: u32,
}

/// A key that is still good beside a newer one.
#[derive(Debug, Serialize, JsonSchema)]
struct EndingKey {
    /// The first eight digits of its SHA-256.
    key: String,
    /// When it ends (RFC 3339).
    at: String,
}

/// Which accounts are asked for.
#[derive(Debug, Default)]
pub(in crate::admin) struct Wanted<'q> {
    /// Ids after this one.
    pub(in crate::admin) after: Option<&'q str>,
    /// Ids that contain this.
    pub(in crate::admin) containing: Option<&'q str>,
    /// At most so many.
    pub(in crate::admin) limit: usize,
}

/// A page of them. O(accounts).
pub(in crate::admin) fn accounts(gateway: &Gateway, snapshot: &Snapshot, wanted: &Wanted<'_>) -> AccountPage {
    let containing = wanted.containing.unwrap_or_default();
    let mut matching: Vec<&Arc<Account>> =
        snapshot.accounts.values().filter(|account| account.config.id.contains(containing)).collect();
    let total = matching.len();
    if let Some(after) = wanted.after {
        matching.retain(|account| &*account.config.id > after);
    }
    matching.sort_unstable_by(|a, b| a.config.id.cmp(&b.config.id));
    let more = matching.len() > wanted.limit;
    matching.truncate(wanted.limit);
    let next = matching.last().filter(|_| more).map(|account| Arc::clone(&account.config.id));
    AccountPage {
        accounts: matching.into_iter().map(|account| account_state(gateway, account)).collect(),
        total,
        next,
    }
}

/// One of them.
pub(in crate::admin) fn account_state(gateway: &Gateway, account: &Account) -> AccountState {
    let config = &account.config;
    let ending = if account.made { gateway.roster.ending(&config.id) } else { Vec::new() };
    let in_force = ending.into_iter().filter(|(key, _)| config.keys.contains(key));
    let tiers = [config::Tier::Priority, config::Tier::Regular];
    AccountState {
        id: Arc::clone(&config.id),
        source: if account.made { "runtime" } else { "config" },
        overrides_runtime: !account.made && gateway.roster.has(&config.id),
        disabled: config.disabled,
        keys: config.keys.iter().map(config::keys::Digest::short).collect(),
        ending_keys: in_force
            .map(|(key, at)| EndingKey { key: key.short(), at: clock::rfc3339(at) })
            .collect(),
        spending_tier: config.spending_tier.name(),
        tiers: tiers
            .into_iter()
            .filter(|tier| config.tiers.contains(*tier))
            .map(config::Tier::name)
            .collect(),
        default_tier: config.default_tier.name(),
        on_forbidden_tier: match config.on_forbidden_tier {
            config::OnForbiddenTier::Downgrade => "downgrade",
            config::OnForbiddenTier::Refuse => "refuse",
        },
        models: config.models.as_ref().map(|models| models.iter().cloned().collect()),
        limits: config.limits.clone(),
        weight: config.weight,
        requests_per_minute: config.requests_per_minute,
        concurrency: config.concurrency,
        live: account.meter.lock().live(),
    }
}
