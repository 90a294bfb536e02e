//! `accounts[].keys`: a digest, or a digest with a name and what its holder may do inside the account.
//!
//! What a key may is never more than what its account may: a key's models and tiers are among the account's, and its limits
//! lie inside the account's, whatever is written here.
//!
//! ```text
//! limit of a key = min(own limit, share * the account's limit in force)     per meter; what is not set does not bind
//! ```
//!
//! Entries of one name are one key that is being replaced: they have the same rights, and share their limits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::limits::{PerMeter, TOKENS_PER_MINUTE_MAX};
use chrono::DateTime;
use gateway_core::tiers::Entitled;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::accounts::account::{self, Account, Known};
use crate::keys::Digest;
use crate::resolve::Resolver;
use crate::tier::{Tier, Tiers};
use crate::yaml::faults::{At, Shown};

/// Longest name of a key, characters.
pub const KEY_NAME_MAX: usize = 64;

/// A key with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedKey {
    /// Its digest, which is among the account's keys too.
    pub digest: Digest,
    /// Its name inside the account; appears in the access log and in refusals.
    pub name: Arc<str>,
    /// From when on it is refused, wall time since the epoch.
    pub expires: Option<Duration>,
    /// Whether it is refused for now.
    pub disabled: bool,
    /// What it may do.
    pub rights: KeyRights,
}

/// What a key may do inside its account.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct KeyRights {
    /// Models, by their names (not aliases); `None` is all of the account's.
    pub models: Option<BTreeSet<Arc<str>>>,
    /// Tiers; `None` is all of the account's. Regular is always in it.
    pub tiers: Option<Tiers>,
    /// The tier of requests that name none; `None` is the account's, where the key has it.
    pub default_tier: Option<Tier>,
    /// Its part of the account's limits in force.
    pub share: Option<f64>,
    /// Limits of its own.
    pub limits: Vec<KeyLimit>,
    /// Requests in any minute.
    pub requests_per_minute: Option<u32>,
    /// Requests at once.
    pub concurrency: Option<u32>,
}

/// Limits of a key for one model or for all, tokens per minute.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyLimit {
    /// The model's name or alias. Default: every model that has no entry of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(min = 1, max = 256))]
    pub model: Option<Arc<str>>,
    /// Every input token, cached or not. Default: none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = TOKENS_PER_MINUTE_MAX))]
    pub prompt: Option<u64>,
    /// Input tokens that were not cached. Default: none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = TOKENS_PER_MINUTE_MAX))]
    pub uncached_prompt: Option<u64>,
    /// Output tokens, reasoning included. Default: none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = TOKENS_PER_MINUTE_MAX))]
    pub generated: Option<u64>,
}

impl NamedKey {
    /// Whether its time is over at `wall`.
    #[must_use]
    pub fn has_expired(&self, wall: Duration) -> bool {
        self.expires.is_some_and(|at| at <= wall)
    }

    /// Whether it may use a model of its account, by the model's own name. O(log models).
    #[must_use]
    pub fn may_use(&self, model: &str) -> bool {
        self.rights.models.as_ref().is_none_or(|models| models.contains(model))
    }

    /// The tiers that it may use: those of its account that it has.
    #[must_use]
    pub fn tiers(&self, account: &Account) -> Tiers {
        match self.rights.tiers {
            Some(own) => own.and(account.tiers).with(Tier::Regular),
            None => account.tiers,
        }
    }

    /// In which tiers its requests may be served.
    #[must_use]
    pub fn entitled(&self, account: &Account) -> Entitled {
        let tiers = self.tiers(account);
        let wanted = self.rights.default_tier.unwrap_or(account.default_tier);
        let default = if tiers.contains(wanted) { wanted } else { Tier::Regular };
        Entitled {
            priority: tiers.contains(Tier::Priority),
            flex: tiers.contains(Tier::Flex),
            default: default.into(),
            ..account.entitled()
        }
    }

    /// Its limits on a model while these are the account's in force; `None`: none of its own.
    #[must_use]
    pub fn limits(&self, model: &str, of_account: &PerMeter<u64>) -> Option<PerMeter<u64>> {
        let entry =
            |wanted: Option<&str>| self.rights.limits.iter().find(|own| own.model.as_deref() == wanted);
        let own = entry(Some(model)).or_else(|| entry(None));
        if own.is_none() && self.rights.share.is_none() {
            return None;
        }
        let own = own.map_or(PerMeter::default(), |own| PerMeter {
            prompt: own.prompt,
            uncached_prompt: own.uncached_prompt,
            generated: own.generated,
        });
        let share = self.rights.share.unwrap_or(1.0);
        Some(PerMeter::from_fn(|meter| {
            let part = (*of_account.get(meter) as f64 * share) as u64;
            own.get(meter).map_or(part, |own| own.min(part)).max(1)
        }))
    }

    /// Whether it has limits of its own on a model. O(its limits).
    #[must_use]
    pub fn is_limited(&self, model: &str) -> bool {
        let is_for = |own: &KeyLimit| own.model.as_deref().is_none_or(|name| name == model);
        self.rights.share.is_some() || self.rights.limits.iter().any(is_for)
    }
}

/// A key of an account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum KeyFile {
    /// Its digest: it may do what its account may.
    Digest(#[schemars(length(min = 1, max = 512), extend("x-secret" = true))] String),
    /// Its digest with a name, and what it may do.
    Named(Box<NamedKeyFile>),
}

/// A key with a name, and what it may do inside its account.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NamedKeyFile {
    /// The key's digest: `sha256:` and 64 hexadecimal digits, as `tidegate keys new` prints it.
    #[schemars(required, length(min = 1, max = 512), extend("x-secret" = true, "x-required" = true))]
    key: Option<String>,
    /// A name of letters, digits and `-._:@` inside the account, for the access log, refusals and limits. Entries of one name are one key that is being replaced: they have the same rights and share their limits.
    #[schemars(required, length(min = 1, max = KEY_NAME_MAX), extend("x-required" = true))]
    name: Option<String>,
    /// From when on it is refused (RFC 3339), such as `2026-12-31T00:00:00Z`. Default: never.
    #[schemars(length(min = 1, max = 64))]
    expires: Option<String>,
    /// Models of the account that it may use. Default: all of them.
    #[schemars(length(min = 1, max = 10_000), inner(length(min = 1, max = 256)))]
    models: Option<Vec<String>>,
    /// Tiers of the account that it may ask for. Default: all of them; regular itself needs no permission.
    #[schemars(length(min = 1, max = 8))]
    tiers: Option<Vec<Tier>>,
    /// The tier of its requests that name none. Default: the account's, where the key may use it.
    default_tier: Option<Tier>,
    /// Its part of each of the account's limits in force, which it follows as they move. Default: no limit of its own.
    #[schemars(range(min = 0.001, max = 1.0))]
    share: Option<f64>,
    /// Limits of its own inside the account's, for one model or for all.
    #[schemars(length(max = 1000))]
    limits: Vec<KeyLimit>,
    /// Requests in any minute, of the account's. Default: the account's alone.
    #[schemars(range(min = 1, max = 100_000_000))]
    requests_per_minute: Option<u32>,
    /// Requests at once, of the account's. Default: the account's alone.
    #[schemars(range(min = 1, max = 1_000_000))]
    concurrency: Option<u32>,
    /// Whether it is refused for now. Default false.
    disabled: bool,
}

/// The digests of an account's keys, and those of them that have a name.
pub(crate) fn resolve(
    files: Vec<KeyFile>,
    (account, nth): (&Account, usize),
    at: &At<'_>,
    known: &mut Known<'_>,
    resolver: &mut Resolver<'_>,
) -> (Vec<Digest>, Vec<Arc<NamedKey>>) {
    let (mut digests, mut named) = (Vec::with_capacity(files.len()), Vec::<(usize, Arc<NamedKey>)>::new());
    for (place, file) in files.into_iter().enumerate() {
        let at = at.item(place);
        match file {
            KeyFile::Digest(text) if text.is_empty() => {}
            KeyFile::Digest(text) => digests.extend(account::key(&text, nth, &at, known, resolver)),
            KeyFile::Named(file) => {
                let text = file.key.clone().unwrap_or_default();
                let digest = (!text.is_empty())
                    .then(|| account::key(&text, nth, &at.key("key"), known, resolver))
                    .flatten();
                let key = file.resolve(digest, account, &at, known, resolver);
                let Some(key) = key else { continue };
                one_key(&key, &named, &at, resolver);
                digests.push(key.digest);
                named.push((place, Arc::new(key)));
            }
        }
    }
    (digests, named.into_iter().map(|(_, key)| key).collect())
}

/// Entries of one name share their limits, so they must have the same.
fn one_key(key: &NamedKey, others: &[(usize, Arc<NamedKey>)], at: &At<'_>, resolver: &mut Resolver<'_>) {
    let other = others.iter().find(|(_, other)| other.name == key.name && other.rights != key.rights);
    if let Some((place, _)) = other {
        let fault = format!(
            "`{}` is the name of keys[{place}] already, which may do something else; give both the same rights if one replaces the other, or another name",
            key.name
        );
        resolver.fault(&at.key("name"), fault);
    }
}

impl NamedKeyFile {
    /// `None` without a digest or a name; the fault was noted.
    fn resolve(
        self,
        digest: Option<Digest>,
        account: &Account,
        at: &At<'_>,
        known: &Known<'_>,
        resolver: &mut Resolver<'_>,
    ) -> Option<NamedKey> {
        let name: Arc<str> = self.name.unwrap_or_default().into();
        resolver.name(&at.key("name"), &name, "-._:@");
        let expires = self.expires.and_then(|text| moment(&text, &at.key("expires"), resolver));
        let models = self.models.map(|names| own_models(&names, account, &at.key("models"), known, resolver));
        let tiers = self.tiers.map(|tiers| own_tiers(&tiers, account, &at.key("tiers"), resolver));
        if let Some(tier) = self.default_tier.filter(|tier| !tiers.unwrap_or(account.tiers).contains(*tier)) {
            let fault =
                format!("`{}` is not among the tiers that the key may use; add it there", tier.name());
            resolver.fault(&at.key("default_tier"), fault);
        }
        let rights = KeyRights {
            models,
            tiers,
            default_tier: self.default_tier,
            share: self.share,
            limits: own_limits(self.limits, &at.key("limits"), known, resolver),
            requests_per_minute: self.requests_per_minute,
            concurrency: self.concurrency,
        };
        let key = NamedKey { digest: digest?, name, expires, disabled: self.disabled, rights };
        (!key.name.is_empty()).then_some(key)
    }
}

fn moment(text: &str, at: &At<'_>, resolver: &mut Resolver<'_>) -> Option<Duration> {
    let read = DateTime::parse_from_rfc3339(text).ok();
    let since = read.and_then(|time| u64::try_from(time.timestamp_millis()).ok()).map(Duration::from_millis);
    if since.is_none() {
        let fault = format!(
            "must be a time with its zone (RFC 3339) such as 2026-12-31T00:00:00Z, is {}",
            Shown(text)
        );
        resolver.fault(at, fault);
    }
    since
}

fn own_models(
    names: &[String],
    account: &Account,
    at: &At<'_>,
    known: &Known<'_>,
    resolver: &mut Resolver<'_>,
) -> BTreeSet<Arc<str>> {
    let mut models = BTreeSet::new();
    for (nth, name) in names.iter().enumerate() {
        let at = at.item(nth);
        let Some(model) = account::model(name, &at, known, resolver) else { continue };
        if account.may_use(&model) {
            models.insert(model);
        } else {
            let fault = format!(
                "`{}` is not among the account's models, and what the account may not use no key of it may; add it there, or take it out here",
                Shown(name)
            );
            resolver.fault(&at, fault);
        }
    }
    models
}

fn own_tiers(tiers: &[Tier], account: &Account, at: &At<'_>, resolver: &mut Resolver<'_>) -> Tiers {
    for tier in tiers.iter().filter(|tier| !account.tiers.contains(**tier)) {
        let fault = format!(
            "`{}` is not among the account's tiers, and what the account may not use no key of it may; add it there, or take it out here",
            tier.name()
        );
        resolver.fault(at, fault);
    }
    Tiers::of(tiers).with(Tier::Regular)
}

fn own_limits(
    files: Vec<KeyLimit>,
    at: &At<'_>,
    known: &Known<'_>,
    resolver: &mut Resolver<'_>,
) -> Vec<KeyLimit> {
    let mut list: Vec<KeyLimit> = Vec::with_capacity(files.len());
    for (nth, file) in files.into_iter().enumerate() {
        let at = at.item(nth);
        let model = match file.model.as_deref() {
            None if resolver.is_faulty(&at.key("model")) => continue,
            None => None,
            Some(name) => match account::model(name, &at.key("model"), known, resolver) {
                None => continue,
                found => found,
            },
        };
        if list.iter().any(|other| other.model == model) {
            let what = model.as_deref().map_or("every model".to_owned(), |name| format!("`{}`", Shown(name)));
            resolver.fault(&at, format!("is a second entry for {what}; keep one"));
        }
        // One that is written and wrong was told of already.
        let is_said =
            ["prompt", "uncached_prompt", "generated"].iter().any(|meter| resolver.is_faulty(&at.key(meter)));
        if !is_said {
            resolver.fault(&at, "limits nothing; name at least one of prompt, uncached_prompt and generated");
        }
        list.push(KeyLimit { model, ..file });
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(share: Option<f64>, limits: Vec<KeyLimit>) -> NamedKey {
        let rights = KeyRights { share, limits, ..KeyRights::default() };
        NamedKey { digest: Digest::of("k"), name: "ci".into(), expires: None, disabled: false, rights }
    }

    #[test]
    fn a_keys_limit_is_the_narrower_of_its_own_and_its_share_of_the_accounts() {
        let account = PerMeter { prompt: 1_000, uncached_prompt: 400, generated: 10 };
        let own = |model: Option<&str>, generated| KeyLimit {
            model: model.map(Into::into),
            generated: Some(generated),
            ..KeyLimit::default()
        };
        for (what, key, model, expected) in [
            ("none", key(None, vec![]), "m", None),
            ("a share", key(Some(0.25), vec![]), "m", Some([250, 100, 2])),
            ("one meter of its own", key(None, vec![own(None, 7)]), "m", Some([1_000, 400, 7])),
            ("more than the account has", key(None, vec![own(None, 70)]), "m", Some([1_000, 400, 10])),
            ("both", key(Some(0.5), vec![own(None, 7)]), "m", Some([500, 200, 5])),
            (
                "the model's entry first",
                key(None, vec![own(None, 7), own(Some("m"), 3)]),
                "m",
                Some([1_000, 400, 3]),
            ),
            ("another model", key(None, vec![own(Some("n"), 3)]), "m", None),
            ("never nothing at all", key(Some(0.001), vec![]), "m", Some([1, 1, 1])),
        ] {
            let expected = expected.map(|[prompt, uncached_prompt, generated]| PerMeter {
                prompt,
                uncached_prompt,
                generated,
            });
            assert_eq!(key.limits(model, &account), expected, "{what}");
            assert_eq!(key.is_limited(model), expected.is_some(), "{what}");
        }
    }
}
