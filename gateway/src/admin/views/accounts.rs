//! Accounts: who may use what, and how much of it is in use.

use crate::clock;
use crate::state::gateway::Gateway;
use crate::state::{Account, Snapshot};
use client::views::accounts::{AccountPage, AccountState, Changes, EndingKey, KeyState};
use config;
use std::borrow::Cow;
use std::sync::Arc;

/// Accounts on a page, at most.
pub(in crate::admin) const PAGE_MAX: usize = 1000;

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
    let in_force = ending.iter().filter(|(key, _)| config.keys.contains(key));
    let key_state = |key: &config::keys::Digest| KeyState {
        key: key.short(),
        ends: ending.iter().find(|(other, _)| other == key).map(|(_, at)| clock::rfc3339(*at)),
    };
    let tiers = [config::Tier::Priority, config::Tier::Regular];
    AccountState {
        id: Arc::clone(&config.id),
        source: if account.made { "runtime" } else { "config" }.into(),
        overrides_runtime: !account.made && gateway.roster.has(&config.id),
        disabled: config.disabled,
        keys: config.keys.iter().map(config::keys::Digest::short).collect(),
        ending_keys: in_force
            .map(|(key, at)| EndingKey { key: key.short(), at: clock::rfc3339(*at) })
            .collect(),
        key_list: config.keys.iter().map(key_state).collect(),
        changes: changes(gateway, account),
        spending_tier: config.spending_tier.name().into(),
        tiers: tiers
            .into_iter()
            .filter(|tier| config.tiers.contains(*tier))
            .map(|tier| Cow::Borrowed(tier.name()))
            .collect(),
        default_tier: config.default_tier.name().into(),
        on_forbidden_tier: match config.on_forbidden_tier {
            config::OnForbiddenTier::Downgrade => "downgrade",
            config::OnForbiddenTier::Refuse => "refuse",
        }
        .into(),
        models: config.models.as_ref().map(|models| models.iter().cloned().collect()),
        limits: config.limits.clone(),
        weight: config.weight,
        requests_per_minute: config.requests_per_minute,
        concurrency: config.concurrency,
        live: account.meter.lock().live(),
    }
}

/// Whether an account can be changed here, and why not.
fn changes(gateway: &Gateway, account: &Account) -> Changes {
    let words = if account.made {
        gateway.roster.closed().map(|why| format!("Accounts cannot be changed here: {why}."))
    } else {
        let file = gateway.reloader.file().map(|path| path.display().to_string());
        let file = file.unwrap_or_else(|| "the config that the program was started with".to_owned());
        Some(format!("The config declares this account: change it in {file} and reload."))
    };
    Changes { possible: words.is_none(), words }
}
