//! Accounts: who may use what, and how much of it is in use.

use crate::accounts::budget::BudgetCell;
use crate::clock;
use crate::state::gateway::Gateway;
use crate::state::key_expiry::SOON;
use crate::state::keys::Key;
use crate::state::{Account, Snapshot};
use client::views::accounts::{AccountPage, AccountState, Changes, EndingKey, KeyBudget, KeyState};
use config;
use limits::{Meter, MeterView};
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
        ..account.named_key(key).map_or_else(unnamed, |key| named(key))
    };
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
        tiers: tier_names(config.tiers),
        default_tier: config.default_tier.name().into(),
        on_forbidden_tier: match config.on_forbidden_tier {
            config::OnForbiddenTier::Downgrade => "downgrade",
            config::OnForbiddenTier::Refuse => "refuse",
        }
        .into(),
        models: config.models.as_ref().map(|models| models.iter().cloned().collect()),
        limits: config.limits.clone(),
        weight: config.weight,
        fair_by: config.fair_by.name().into(),
        requests_per_minute: config.requests_per_minute,
        concurrency: config.concurrency,
        live: account.meter.lock().live(),
    }
}

/// What is told of a key without a name.
fn unnamed() -> KeyState {
    KeyState { state: "good".into(), ..KeyState::default() }
}

/// What is told of a key with a name.
fn named(key: &Key) -> KeyState {
    let (config, rights, now) = (&*key.config, &key.config.rights, clock::wall());
    let state = match config {
        _ if config.has_expired(now) => "expired",
        _ if config.disabled => "disabled",
        _ if config.has_expired(now + SOON) => "expires_soon",
        _ => "good",
    };
    KeyState {
        name: Some(Arc::clone(&config.name)),
        expires: config.expires.map(clock::rfc3339),
        state: state.into(),
        last_used: key.used.wall().map(clock::rfc3339),
        models: rights.models.as_ref().map(|models| models.iter().cloned().collect()),
        tiers: tier_names(key.tiers),
        default_tier: config::Tier::from(key.entitled.default).name().into(),
        share: rights.share,
        limits: rights.limits.clone(),
        requests_per_minute: rights.requests_per_minute,
        concurrency: rights.concurrency,
        live: key.meter.as_ref().map(|meter| meter.lock().live()),
        budgets: key.budgets_in_memory().iter().map(|cell| budget(cell)).collect(),
        ..KeyState::default()
    }
}

fn budget(cell: &BudgetCell) -> KeyBudget {
    let view = cell.view();
    let of = |part: fn(&MeterView) -> u64| Meter::ALL.map(|meter| part(view.get(meter)));
    KeyBudget {
        model: Arc::clone(&cell.model),
        limits: of(|meter| meter.limit),
        used: of(|meter| meter.used),
    }
}

fn tier_names(tiers: config::Tiers) -> Vec<Cow<'static, str>> {
    let all = config::Tier::ALL.into_iter().filter(|tier| tiers.contains(*tier));
    all.map(|tier| Cow::Borrowed(tier.name())).collect()
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
