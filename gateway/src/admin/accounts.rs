//! Changes of accounts made at run time: what an operator may say, and what is answered.
//!
//! A key is made here and is in the one answer that made it; what is kept of it is its digest. An account of the
//! config is not changed here: 409 says so.

use super::answer::{Refused, json, problem, sentence};
use super::call::Call;
use super::read::Answered;
use super::views::accounts::account_state;
use crate::clock;
use crate::state::journal::FolderKept;
use client::views::accounts::AccountState;
use config::keys::{Digest, NewKey};
use config::{FairBy, KeyLimit, OnForbiddenTier, SpendingTier, Tier};
use history::events::{Kind, Subject};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;
use store::dynamic_accounts::RosterError;

/// The longest time that an old key is good beside a new one: a quarter.
const OVERLAP_SECONDS_MAX: u32 = 90 * 86_400;

/// What an account may do. What is absent stays as it is, in a new account as the config's defaults are.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AccountChange {
    /// Whether its keys are refused. Requests that run are not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled: Option<bool>,
    /// How much the customer spends, which sets the ceilings of its limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    spending_tier: Option<SpendingTier>,
    /// Tiers that it may ask for; regular is always among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    tiers: Option<Vec<Tier>>,
    /// The tier of requests that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    default_tier: Option<Tier>,
    /// What happens to requests for a tier that it may not use.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_forbidden_tier: Option<OnForbiddenTier>,
    /// Models that it may use; null: all.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    models: Option<Option<Vec<String>>>,
    /// Its share of a contended queue, relative to other accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 1000.0))]
    weight: Option<f64>,
    /// Which of its own waiting requests is next.
    #[serde(skip_serializing_if = "Option::is_none")]
    fair_by: Option<FairBy>,
    /// Requests in any minute, refused ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    requests_per_minute: Option<u32>,
    /// Requests at once, waiting ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    concurrency: Option<u32>,
}

/// `null` is something else than nothing.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl AccountChange {
    fn fields(&self) -> Result<Map<String, Value>, Refused> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => Ok(fields),
            _ => Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_account", "The change cannot be used.")),
        }
    }
}

/// An account to make.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAccount {
    /// Its id: letters, digits and `-._:@`; appears in metrics.
    #[schemars(length(min = 1, max = 128))]
    id: String,
    /// Digests of keys that were made elsewhere (`tidegate keys new` prints them). Absent: a key is made here, and shown
    /// in the answer, once.
    #[schemars(length(min = 1, max = 64))]
    keys: Option<Vec<String>>,
    /// What it may do.
    #[serde(default)]
    account: AccountChange,
}

/// A new key, in the place of those that are there or beside them: one of the two is said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyChange {
    /// How long the keys that are there stay good: 0 ends them at once, as after a leak; a day lets a customer change
    /// over. Where `key` has a name, the key of that name alone is replaced, by one with the same rights.
    #[schemars(range(min = 0, max = OVERLAP_SECONDS_MAX))]
    overlap_seconds: Option<u32>,
    /// True: the keys that are there stay.
    #[serde(default)]
    keep_others: bool,
    /// The new key's name, its end, and what it may do inside the account. Absent: it has no name, and may do what the
    /// account may. Of one that replaces another only the name and the end are said.
    key: Option<KeyFields>,
}

/// A key's name, its end, and what it may do inside its account. What is absent stays as it is, in a new key as the config's
/// defaults are; null puts the default in force.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct KeyFields {
    /// Its name: letters, digits and `-._:@`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = config::KEY_NAME_MAX))]
    name: Option<String>,
    /// From when on it is refused (RFC 3339); null: never.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    expires: Option<Option<String>>,
    /// Whether it is refused for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled: Option<bool>,
    /// Models of the account that it may use; null: all of them.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    models: Option<Option<Vec<String>>>,
    /// Tiers of the account that it may ask for; null: all of them.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<Tier>>")]
    tiers: Option<Option<Vec<Tier>>>,
    /// The tier of its requests that name none; null: the account's, where it may use that.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Tier>")]
    default_tier: Option<Option<Tier>>,
    /// Its part of each of the account's limits in force, from 0.001 to 1; null: none.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    share: Option<Option<f64>>,
    /// Limits of its own inside the account's, tokens per minute, for one model or for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    limits: Option<Vec<KeyLimit>>,
    /// Requests in any minute; null: the account's alone.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u32>")]
    requests_per_minute: Option<Option<u32>>,
    /// Requests at once; null: the account's alone.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u32>")]
    concurrency: Option<Option<u32>>,
}

impl KeyFields {
    fn fields(&self) -> Result<Map<String, Value>, Refused> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => Ok(fields),
            _ => Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_key", "The change cannot be used.")),
        }
    }

    /// Whether anything is said but the name and the end.
    fn has_rights(&self) -> bool {
        let KeyFields { name: _, expires: _, disabled, models, tiers, default_tier, share, limits, .. } =
            self;
        let requests = self.requests_per_minute.is_some() || self.concurrency.is_some();
        let tokens = share.is_some() || limits.is_some();
        disabled.is_some()
            || models.is_some()
            || tiers.is_some()
            || default_tier.is_some()
            || tokens
            || requests
    }
}

/// An account as it is now, and its new key if one was made.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ChangedAccount {
    /// The account.
    account: AccountState,
    /// The new key, here and never again; null: none was made.
    key: Option<String>,
}

/// What was removed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RemovedAccount {
    /// The id of the account that is gone.
    removed: String,
}

pub(super) fn create(call: &Call<'_>) -> Answered {
    let new: NewAccount = call.said()?;
    let (key, digests) = match &new.keys {
        Some(texts) => {
            let digests: Result<Vec<Digest>, _> = texts.iter().map(|text| Digest::parse(text)).collect();
            let wrong = |e: config::keys::DigestError| {
                problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_account", format!("keys: each {e}"))
            };
            (None, digests.map_err(wrong)?)
        }
        None => {
            let key = new_key()?;
            (Some(key.key), vec![key.digest])
        }
    };
    let _kept = stays(call)?;
    call.gateway
        .roster
        .create(&call.gateway.snapshot().config, &new.id, new.account.fields()?, &digests)
        .map_err(refused)?;
    let keys: Vec<String> = digests.iter().map(Digest::short).collect();
    let (by, id, change) = (&call.caller.token, &*new.id, &new.account);
    tracing::info!(target: "audit", by, account = id, keys = keys.join(","), ?change, "account made");
    call.note(Kind::AccountMade, Subject::account(id), &format!("The account {id} was made."));
    changed(call, &new.id, key)
}

pub(super) fn change(call: &Call<'_>) -> Answered {
    let (id, change) = (call.parameter(0), call.said::<AccountChange>()?);
    let fields = change.fields()?;
    if fields.is_empty() {
        let message = "Name at least one field to change; `/api/v1/openapi.json` lists them.";
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "no_change", message));
    }
    let names: Vec<String> = fields.keys().cloned().collect();
    let _kept = stays(call)?;
    call.gateway.roster.change(&call.gateway.snapshot().config, id, fields).map_err(refused)?;
    tracing::info!(target: "audit", by = call.caller.token, account = id, ?change, "account changed");
    let words = match change.disabled {
        Some(true) => format!("The account {id} was disabled; its keys are refused."),
        Some(false) => format!("The account {id} was enabled; its keys are good again."),
        None => format!("The account {id} was changed: {}.", names.join(", ")),
    };
    call.note(Kind::AccountChanged, Subject::account(id), &words);
    changed(call, id, None)
}

pub(super) fn new_key_of(call: &Call<'_>) -> Answered {
    match call.said::<KeyChange>()? {
        KeyChange { overlap_seconds: Some(overlap), keep_others: false, key }
            if overlap <= OVERLAP_SECONDS_MAX =>
        {
            match key {
                None => rotate(call, overlap),
                Some(key) => replace_key(call, overlap, &key),
            }
        }
        KeyChange { overlap_seconds: None, keep_others: true, key } => {
            add_key(call, &key.unwrap_or_default())
        }
        _ => {
            let message = format!(
                "Say what becomes of the keys that are there: `overlap_seconds` from 0 to {OVERLAP_SECONDS_MAX}, or `keep_others`: true, and not both."
            );
            Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_overlap", message))
        }
    }
}

fn add_key(call: &Call<'_>, fields: &KeyFields) -> Answered {
    let (id, new) = (call.parameter(0), new_key()?);
    let _kept = stays(call)?;
    let snapshot = call.gateway.snapshot();
    let said = fields.fields()?;
    call.gateway.roster.add_key(&snapshot.config, id, new.digest, said, clock::wall()).map_err(refused)?;
    let (by, key, name) = (&call.caller.token, new.digest.short(), fields.name.as_deref().unwrap_or("-"));
    tracing::info!(target: "audit", by, account = id, key, name, ?fields, "key made");
    let called = fields.name.as_ref().map_or(String::new(), |name| format!(" called {name}"));
    let words = format!("{id} got another key{called}, {key}…; the others stay.");
    call.note(Kind::KeyMade, Subject::account(id), &words);
    changed(call, id, Some(new.key))
}

/// A key in the place of the one of its name.
fn replace_key(call: &Call<'_>, overlap: u32, fields: &KeyFields) -> Answered {
    let id = call.parameter(0);
    let name = match fields.name.as_deref() {
        Some(name) if !fields.has_rights() => name,
        _ => {
            let message = "Name the key to replace in `key.name`, and say nothing else of it but `expires`: the new one has its rights. `PATCH` on the key changes those.";
            return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_key", message));
        }
    };
    let (new, overlap) = (new_key()?, Duration::from_secs(overlap.into()));
    let _kept = stays(call)?;
    let snapshot = call.gateway.snapshot();
    let ends = call
        .gateway
        .roster
        .replace_key(&snapshot.config, id, (name, new.digest), fields.fields()?, overlap, clock::wall())
        .map_err(refused)?;
    let (by, key, old_end) = (&call.caller.token, new.digest.short(), clock::rfc3339(ends));
    tracing::info!(target: "audit", by, account = id, name, key, old_end, "key replaced");
    let words = format!("The key {name} of {id} was replaced by {key}…; the old one ends at {old_end}.");
    call.note(Kind::KeysRotated, Subject::account(id), &words);
    changed(call, id, Some(new.key))
}

pub(super) fn change_key(call: &Call<'_>) -> Answered {
    let (id, short, change) = (call.parameter(0), call.parameter(1), call.said::<KeyFields>()?);
    let fields = change.fields()?;
    if fields.is_empty() {
        let message = "Name at least one field to change; `/api/v1/openapi.json` lists them.";
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "no_change", message));
    }
    let _kept = stays(call)?;
    let snapshot = call.gateway.snapshot();
    let roster = &call.gateway.roster;
    let key =
        roster.change_key(&snapshot.config, id, short, &fields, clock::wall()).map_err(refused)?.short();
    tracing::info!(target: "audit", by = call.caller.token, account = id, key, ?change, "key changed");
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    let words = format!("The key {key}… of {id} was changed: {}.", names.join(", "));
    call.note(Kind::AccountChanged, Subject::account(id), &words);
    changed(call, id, None)
}

pub(super) fn end_key(call: &Call<'_>) -> Answered {
    let (id, short) = (call.parameter(0), call.parameter(1));
    let _kept = stays(call)?;
    let snapshot = call.gateway.snapshot();
    let ended = call.gateway.roster.end_key(&snapshot.config, id, short, clock::wall()).map_err(refused)?;
    let (by, key) = (&call.caller.token, ended.short());
    tracing::info!(target: "audit", by, account = id, key, "key ended");
    call.note(Kind::KeyEnded, Subject::account(id), &format!("The key {key}… of {id} was ended."));
    changed(call, id, None)
}

fn rotate(call: &Call<'_>, overlap: u32) -> Answered {
    let (id, new) = (call.parameter(0), new_key()?);
    let _kept = stays(call)?;
    let ends = call
        .gateway
        .roster
        .rotate(
            &call.gateway.snapshot().config,
            id,
            new.digest,
            Duration::from_secs(u64::from(overlap)),
            clock::wall(),
        )
        .map_err(refused)?;
    let (by, key, old_end) = (&call.caller.token, new.digest.short(), clock::rfc3339(ends));
    tracing::info!(target: "audit", by, account = id, key, old_end, "keys rotated");
    let words = format!("{id} got a new key, {key}…; the others end at {old_end}.");
    call.note(Kind::KeysRotated, Subject::account(id), &words);
    changed(call, id, Some(new.key))
}

pub(super) fn remove(call: &Call<'_>) -> Answered {
    let id = call.parameter(0);
    let _kept = stays(call)?;
    call.gateway.roster.remove(&call.gateway.snapshot().config, id).map_err(refused)?;
    call.gateway.accounts_changed(None);
    if call.gateway.snapshot().account(id).is_none() {
        call.gateway.registry.forget_account(id);
    }
    tracing::info!(target: "audit", by = call.caller.token, account = id, "account removed");
    call.note(Kind::AccountRemoved, Subject::account(id), &format!("The account {id} was removed."));
    Ok(json(StatusCode::OK, &RemovedAccount { removed: id.to_owned() }))
}

/// On its way out, another process may have read the state folder already; until then it is kept for the change.
fn stays<'c>(call: &'c Call<'_>) -> Result<Option<FolderKept<'c>>, Refused> {
    if call.gateway.is_draining() {
        let message =
            "This process is on its way out and takes no changes of accounts; ask the one that follows it.";
        return Err(problem(StatusCode::CONFLICT, "draining", message));
    }
    call.keep_folder()
}

fn new_key() -> Result<NewKey, Refused> {
    NewKey::from_os().map_err(|e| {
        let message = format!("The operating system gave no randomness: {e}.");
        problem(StatusCode::INTERNAL_SERVER_ERROR, "no_randomness", message)
    })
}

/// Puts the change in force and shows it.
fn changed(call: &Call<'_>, id: &str, key: Option<String>) -> Answered {
    call.gateway.accounts_changed(Some(id));
    let account = call.gateway.snapshot().account(id).ok_or_else(|| {
        let message = "The account was saved, but a reload has just put another in its place.";
        problem(StatusCode::CONFLICT, "declared_in_config", message)
    })?;
    Ok(json(StatusCode::OK, &ChangedAccount { account: account_state(call.gateway, &account), key }))
}

fn refused(e: RosterError) -> Refused {
    let (status, code) = match e {
        RosterError::NoFolder => (StatusCode::CONFLICT, "no_state_dir"),
        RosterError::InDoubt => (StatusCode::CONFLICT, "account_in_doubt"),
        RosterError::Damaged(_) => (StatusCode::CONFLICT, "accounts_damaged"),
        RosterError::Declared => (StatusCode::CONFLICT, "declared_in_config"),
        RosterError::Exists => (StatusCode::CONFLICT, "account_exists"),
        RosterError::Unknown => (StatusCode::NOT_FOUND, "no_such_account"),
        RosterError::UnknownKey | RosterError::UnknownName => (StatusCode::NOT_FOUND, "no_such_key"),
        RosterError::NameTaken => (StatusCode::CONFLICT, "name_taken"),
        RosterError::LastKey => (StatusCode::CONFLICT, "last_key"),
        RosterError::KeyTaken(_) => (StatusCode::CONFLICT, "key_taken"),
        RosterError::TooMany => (StatusCode::CONFLICT, "too_many_accounts"),
        RosterError::Faults(_) => (StatusCode::UNPROCESSABLE_ENTITY, "bad_account"),
        RosterError::NotSaved(_) => (StatusCode::INTERNAL_SERVER_ERROR, "not_saved"),
    };
    problem(status, code, sentence(&e.to_string()))
}
