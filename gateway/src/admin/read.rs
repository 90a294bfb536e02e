//! What the admin listener answers to who only looks.

use super::answer::{Answer, Refused, json, text, typed};
use super::call::Call;
use super::openapi;
use super::views::{accounts, deployments, limits, process, refusals};
use crate::admin::gauges::page;
use crate::clock;
use crate::telemetry::accounting::REFUSALS_MAX;
use http::StatusCode;

/// Accounts on a page when nobody says how many.
const PAGE: usize = 100;

pub(super) type Answered = Result<Answer, Refused>;

pub(super) fn livez(_: &Call<'_>) -> Answered {
    Ok(text(StatusCode::OK, "ok\n"))
}

pub(super) fn readyz(call: &Call<'_>) -> Answered {
    Ok(if call.gateway.is_draining() {
        text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        text(StatusCode::OK, "ok\n")
    })
}

pub(super) fn metrics(call: &Call<'_>) -> Answered {
    let page = page(call.gateway, call.metrics, clock::now());
    Ok(typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page))
}

pub(super) fn version(call: &Call<'_>) -> Answered {
    Ok(json(StatusCode::OK, &process::version(call.gateway)))
}

pub(super) fn openapi(_: &Call<'_>) -> Answered {
    Ok(json(StatusCode::OK, &*openapi::DOCUMENT))
}

pub(super) fn deployments(call: &Call<'_>) -> Answered {
    Ok(json(StatusCode::OK, &deployments::deployments(&call.snapshot)))
}

pub(super) fn deployment(call: &Call<'_>) -> Answered {
    let deployment = call.deployment()?;
    Ok(json(StatusCode::OK, &deployments::deployment_state(&call.snapshot, &deployment)))
}

pub(super) fn measured(call: &Call<'_>) -> Answered {
    let deployment = call.deployment()?;
    Ok(json(StatusCode::OK, &deployments::measured(&deployment)))
}

pub(super) fn accounts(call: &Call<'_>) -> Answered {
    let (after, containing) = (call.query("after"), call.query("containing"));
    let wanted = accounts::Wanted {
        after: after.as_deref(),
        containing: containing.as_deref(),
        limit: call.number("limit", PAGE, accounts::PAGE_MAX)?,
    };
    Ok(json(StatusCode::OK, &accounts::accounts(call.gateway, &call.snapshot, &wanted)))
}

pub(super) fn account(call: &Call<'_>) -> Answered {
    Ok(json(StatusCode::OK, &accounts::account_state(call.gateway, &*call.account()?)))
}

pub(super) fn account_limits(call: &Call<'_>) -> Answered {
    let (account, model) = (call.account()?, call.query("model"));
    let view = limits::account_limits(call.gateway, &call.snapshot, &account, model.as_deref());
    Ok(json(StatusCode::OK, &view))
}

pub(super) fn limits(call: &Call<'_>) -> Answered {
    let most = call.number("limit", PAGE, limits::LISTED_MAX)?;
    Ok(json(StatusCode::OK, &limits::listed(call.gateway, most)))
}

pub(super) fn requests(call: &Call<'_>) -> Answered {
    let most = call.number("limit", REFUSALS_MAX, REFUSALS_MAX)?;
    Ok(json(StatusCode::OK, &refusals::refusals(call.gateway, most)))
}

pub(super) fn config(call: &Call<'_>) -> Answered {
    Ok(json(StatusCode::OK, &config::redacted(&call.snapshot.config)))
}

pub(super) fn reload(call: &Call<'_>) -> Answered {
    Ok(json(StatusCode::OK, &process::reloads(call.gateway)))
}

pub(super) fn upgrade(call: &Call<'_>) -> Answered {
    Ok(json(StatusCode::OK, &process::upgrade(call.gateway)))
}

pub(super) fn log(_: &Call<'_>) -> Answered {
    Ok(json(StatusCode::OK, &process::log()))
}

pub(super) fn invariants(call: &Call<'_>) -> Answered {
    Ok(json(StatusCode::OK, &process::invariants(call.gateway)))
}
