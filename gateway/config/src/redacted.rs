//! The config as the admin API shows it: what is in force, without what could be misused.
//!
//! Secrets are not in it at all; digests of keys are cut to 8 digits, enough to tell keys apart.

use serde_json::{Value, json};

use crate::model::vocabulary_name;
use crate::{AccessLog, Account, Config, Cors, Deployment, Exact, Model, NamedKey};

/// The whole config in force, defaults filled in. Allocates in proportion to it.
pub fn redacted(config: &Config) -> Value {
    let Config { listen, admin, deployments, models, accounts, limits, state, usage, log, .. } = config;
    json!({
        "listen": {
            "address": listen.address.to_string(),
            "tls": listen.tls.as_ref().map(|tls| json!({
                "cert_file": tls.cert_file.display().to_string(),
                "key_file": tls.key_file.display().to_string(),
            })),
            "threads": listen.threads,
            "expose_upstream": listen.expose_upstream,
            "cors": match &listen.cors {
                None => Vec::new(),
                Some(Cors::Any) => vec!["*"],
                Some(Cors::Origins(origins)) => origins.iter().map(|origin| &**origin).collect(),
            },
            "proxies": listen.proxies,
            "limits": listen.limits,
            "shutdown": listen.shutdown,
        },
        "admin": {
            "address": admin.address.to_string(),
            "token": admin.token.map(|token| token.short()),
            "token_file": admin.token_file.as_ref().map(|path| path.display().to_string()),
            "read_token": admin.read_token.map(|token| token.short()),
            "read_token_file": admin.read_token_file.as_ref().map(|path| path.display().to_string()),
            "hosts": admin.hosts,
        },
        "deployments": deployments.iter().map(|one| deployment(one)).collect::<Vec<_>>(),
        "models": models.iter().map(|one| model(one)).collect::<Vec<_>>(),
        "accounts": accounts.iter().map(|one| account(one)).collect::<Vec<_>>(),
        "limits": limits,
        "state": {
            "dir": state.dir.as_ref().map(|path| path.display().to_string()),
            "interval_ms": millis(state.interval),
        },
        "usage": usage.map(|usage| json!({ "retention_days": usage.retention_days, "rows_max": usage.rows_max })),
        "log": {
            "level": log.level,
            "file": log.file.as_ref().map(|path| path.display().to_string()),
            "access": match &log.access {
                AccessLog::Stdout => "stdout".to_owned(),
                AccessLog::Off => "off".to_owned(),
                AccessLog::File(path) => path.display().to_string(),
            },
            "format": log.format,
            "client_address": log.client_address,
        },
    })
}

fn deployment(one: &Deployment) -> Value {
    json!({
        "name": one.name,
        "engine": one.engine,
        "replicas": one.replicas.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "dns": one.dns,
        "tls": {
            "ca_file": one.tls.ca_file.as_ref().map(|path| path.display().to_string()),
            "server_name": one.tls.server_name,
        },
        "slo": { "ttft_ms": one.slo.ttft.map(millis), "tpot_ms": one.slo.tpot.map(millis) },
        "limit": one.limit,
        "slots_max": one.slots_max,
        "context": one.context,
        "kv_tokens": one.kv_tokens,
        "step_tokens": one.step_tokens,
        "ceilings": one.ceilings,
        "flex": one.flex,
        "priority_share_max": one.priority_share_max,
        "regular_share_min": one.regular_share_min,
        "long_prompt_share_min": one.long_prompt_share_min,
        "queue": one.queue,
        "scrape": {
            "interval_ms": millis(one.scrape.interval),
            "timeout_ms": millis(one.scrape.timeout),
            "path": one.scrape.path,
        },
        "timeouts": one.timeouts,
        "api_key_file": one.api_key_file.as_ref().map(|path| path.display().to_string()),
        "withdraw": one.withdraw,
        "shared_prefixes": one.shared_prefixes,
        "engine_priority": one.engine_priority,
        "cache_salt": one.cache_salt,
        "parameters": one.parameters.shown(),
    })
}

fn model(one: &Model) -> Value {
    let routes = one.routes.iter().map(|route| {
        json!({
            "name": route.deployment.name,
            "tiers": route.tiers,
            "accounts": route.accounts,
            "weight": route.weight,
        })
    });
    json!({
        "name": one.name,
        "aliases": one.aliases,
        "deployments": routes.collect::<Vec<_>>(),
        "served_model": one.served_model,
        "size_class": one.size_class,
        "context": one.context,
        "default_output": one.default_output,
        "vocabulary": match &one.exact {
            Some(Exact::Vocabulary(vocabulary)) => Some(vocabulary_name(*vocabulary)),
            _ => None,
        },
        "tokenizer_file": match &one.exact {
            Some(Exact::File { path, .. }) => Some(path.display().to_string()),
            _ => None,
        },
        "weights": {
            "per_request": one.weights.per_request,
            "per_message": one.weights.per_message,
            "bytes_per_tool_token": one.weights.bytes_per_tool_token,
            "per_image": one.weights.per_image,
            "per_other_part": one.weights.per_other_part,
        },
    })
}

fn account(one: &Account) -> Value {
    let limits = one.limits.iter().map(
        |own| json!({ "model": own.model, "start": own.start, "floor": own.floor, "ceiling": own.ceiling }),
    );
    json!({
        "id": one.id,
        "keys": one.keys.iter().map(|key| key.short()).collect::<Vec<_>>(),
        "named_keys": one.named_keys.iter().map(|key| named_key(key)).collect::<Vec<_>>(),
        "spending_tier": one.spending_tier,
        "tiers": one.tiers,
        "default_tier": one.default_tier,
        "on_forbidden_tier": one.on_forbidden_tier,
        "limits": limits.collect::<Vec<_>>(),
        "weight": one.weight,
        "fair_by": one.fair_by,
        "requests_per_minute": one.requests_per_minute,
        "concurrency": one.concurrency,
        "models": one.models,
        "disabled": one.disabled,
    })
}

fn named_key(key: &NamedKey) -> Value {
    json!({
        "key": key.digest.short(),
        "name": key.name,
        "expires_ms": key.expires.map(millis),
        "disabled": key.disabled,
        "rights": key.rights,
    })
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
