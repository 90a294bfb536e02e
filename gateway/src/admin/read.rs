//! What the admin listener answers to who only looks.

use super::answer::{Answer, Refused, compact, json, problem, text, typed};
use super::call::Call;
use super::openapi;
use super::views::{accounts, deployments, history, limits, process, refusals};
use crate::admin::gauges::page;
use crate::clock;
use crate::state::usage_page;
use crate::telemetry::accounting::REFUSALS_MAX;
use ::history::events::EVENTS_MAX;
use ::history::groups::MINUTES_MAX;
use ::history::series::Resolution;
use http::StatusCode;

/// Accounts on a page when nobody says how many.
const PAGE: usize = 100;

/// Refusals that are listed when nobody says how many.
const REFUSALS: usize = 200;
/// Groups of them that are listed, and at most.
const GROUPS: usize = 100;
pub(super) const GROUPS_LISTED_MAX: usize = 500;
/// The highest status that may be asked for.
pub(super) const STATUS_MAX: usize = 599;
/// Tiers, orders of deployments, and resolutions by name.
pub(super) const TIERS: &[&str] = &["priority", "regular", "flex"];
pub(super) const ORDERS: &[&str] = &["config", "trouble"];
pub(super) const RESOLUTIONS: &[&str] = &["5s", "1m"];

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
    let (after, containing) = (call.query("after"), call.query("containing"));
    let limit = call.query("limit").map(|_| call.number("limit", 0, deployments::PAGE_MAX)).transpose()?;
    let wanted = deployments::Wanted {
        after: after.as_deref(),
        containing: containing.as_deref(),
        limit,
        by_trouble: call.one_of("order", ORDERS)?.as_deref() == Some("trouble"),
    };
    Ok(json(StatusCode::OK, &deployments::deployments(&call.snapshot, &wanted)))
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
    let most = call.number("limit", REFUSALS, REFUSALS_MAX)?;
    let wanted = refusals::Wanted { id: call.query("id"), ..refused(call)? };
    Ok(json(StatusCode::OK, &refusals::refusals(call.gateway, &wanted, most)))
}

pub(super) fn request_groups(call: &Call<'_>) -> Answered {
    let minutes = call.number("minutes", MINUTES_MAX, MINUTES_MAX)?;
    let most = call.number("limit", GROUPS, GROUPS_LISTED_MAX)?;
    let recorder = &call.gateway.accounts.recorder;
    Ok(json(StatusCode::OK, &refusals::groups(recorder, &refused(call)?, minutes, most)))
}

/// Which refusals the query asks for.
fn refused(call: &Call<'_>) -> Result<refusals::Wanted, Refused> {
    let status = call.query("status").map(|_| call.number("status", 0, STATUS_MAX)).transpose()?;
    Ok(refusals::Wanted {
        account: call.query("account"),
        model: call.query("model"),
        deployment: call.query("deployment"),
        reason: call.query("reason"),
        tier: call.one_of("tier", TIERS)?,
        status: status.and_then(|status| u16::try_from(status).ok()),
        id: None,
    })
}

pub(super) fn history(call: &Call<'_>) -> Answered {
    let deployment = match call.query("deployment") {
        Some(name) => call.deployment_named(&name)?,
        None => {
            let message = "Say of which `deployment`; `GET /api/v1/deployments` lists them.";
            return Err(problem(StatusCode::BAD_REQUEST, "bad_query", message));
        }
    };
    let resolution = call.one_of("resolution", RESOLUTIONS)?;
    let resolution = resolution.and_then(|name| Resolution::named(&name)).unwrap_or(Resolution::Fine);
    let since = call.moment("since")?.as_secs();
    let recorder = &call.gateway.accounts.recorder;
    Ok(compact(&history::history(recorder, &deployment, resolution, since)))
}

pub(super) fn events(call: &Call<'_>) -> Answered {
    let (since, most) = (call.moment("since")?, call.number("limit", EVENTS_MAX, EVENTS_MAX)?);
    let deployment = call.query("deployment");
    let recorder = &call.gateway.accounts.recorder;
    Ok(json(StatusCode::OK, &history::events(recorder, since, deployment.as_deref(), most)))
}

pub(super) fn usage(call: &Call<'_>) -> Answered {
    let Some(meter) = &call.gateway.accounts.usage else {
        let message =
            "This gateway keeps no usage. Set `usage: {}` in its config, with `state.dir`, and restart it.";
        return Err(problem(StatusCode::NOT_FOUND, "usage_is_off", message));
    };
    let wanted = usage_page::wanted(&|name| call.query(name))
        .map_err(|message| problem(StatusCode::BAD_REQUEST, "bad_query", message))?;
    Ok(json(StatusCode::OK, &usage_page::page(meter, &wanted, true)))
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
