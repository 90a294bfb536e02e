//! `GET /v1/usage`: what this account used, to whoever has one of its keys. Not metered; it counts as a request per minute.

use crate::downstream::client::{Client, Stop};
use crate::proxy::models;
use crate::state::Account;
use crate::state::usage_page;
use crate::telemetry::usage_meter::UsageMeter;
use bytes::Bytes;
use http::HeaderValue;
use protocol::refusal::Refusal;
use std::sync::Arc;
use usage::report::Wanted;

/// Longest query that is read.
const QUERY_MAX: usize = 2_048;

/// Answers it.
///
/// # Errors
/// 404 where usage is not kept, 400 for a query that is not in order, or the client is gone.
pub(super) async fn answer(
    meter: Option<&Arc<UsageMeter>>,
    account: &Account,
    client: &mut Client<'_>,
) -> Result<(), Stop> {
    let meter = meter.ok_or_else(models::no_such_path)?;
    let query = client.session().req_header().uri.query().unwrap_or_default().to_owned();
    let wanted = wanted(&account.config.id, &query)?;
    // Rows of a year take some milliseconds, for which a thread of the request path is too good.
    let meter = Arc::clone(meter);
    let work = move || serde_json::to_vec(&usage_page::page(&meter, &wanted, false)).unwrap_or_default();
    let body = tokio::task::spawn_blocking(work).await.map_err(|_| Stop::Gone)?;
    client.answer(200, &HeaderValue::from_static("application/json"), Bytes::from(body)).await
}

/// What is asked for, of this account and no other.
fn wanted(account: &str, query: &str) -> Result<Wanted, Refusal> {
    if query.len() > QUERY_MAX {
        return Err(Refusal::bad(format!("The query has at most {QUERY_MAX} bytes.")));
    }
    let value = |name: &str| {
        query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then(|| models::decoded(&value.replace('+', " ")))
        })
    };
    let known = |name: &str| name == "account" || usage_page::NAMES.contains(&name);
    let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    if names.filter(|name| !name.is_empty()).any(|name| !known(name)) {
        let message = format!("The query may have: {}.", usage_page::NAMES.join(", "));
        return Err(Refusal::bad(message));
    }
    let wanted = usage_page::wanted(&value).map_err(Refusal::bad)?;
    if wanted.account.is_some_and(|other| other != account) {
        return Err(Refusal::bad("A key shows the usage of its own account only. Leave `account` out."));
    }
    Ok(Wanted { account: Some(account.to_owned()), ..wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_for_the_own_account_whatever_it_says() {
        for query in ["", "by=hour", "account=acme&from=2026-11", "model=a%2Fb&limit=5"] {
            assert_eq!(wanted("acme", query).unwrap().account.as_deref(), Some("acme"), "{query}");
        }
        assert_eq!(wanted("acme", "model=a%2Fb").unwrap().model.as_deref(), Some("a/b"));
        for query in
            ["account=bolt", "account=", "account=acme%00", "month=2026-11", "by=year", &"a".repeat(3_000)]
        {
            assert!(wanted("acme", query).is_err(), "{query}");
        }
    }
}
