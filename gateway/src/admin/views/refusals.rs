//! The last refusals, each explaining itself: which meter or threshold, by how much, what would have let it in.

use super::millis;
use crate::clock;
use crate::state::gateway::Gateway;
use crate::telemetry::record::Record;
use config;
use protocol::explain::Why;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// The last refusals.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct Refusals {
    /// The newest first, at most 200: answers 429, 502, 503 and 504.
    refusals: Vec<Refused>,
}

/// One refusal.
#[derive(Debug, Serialize, JsonSchema)]
struct Refused {
    /// When the request arrived (RFC 3339).
    time: String,
    /// The id that the client was told.
    request_id: String,
    /// Whose request.
    account: Option<Arc<str>>,
    /// For which model.
    model: Option<Arc<str>>,
    /// In which tier.
    tier: Option<&'static str>,
    /// The deployment that had no place for it, or failed it; null: it never asked one.
    deployment: Option<Arc<str>>,
    /// The status that was told.
    status: u16,
    /// The reason that was told in `x-tidegate-reason`.
    reason: &'static str,
    /// The sentence that was told.
    message: Option<String>,
    /// How long it had waited here.
    queue_ms: u64,
    /// Its prompt as weighed, tokens.
    prompt_tokens: u32,
    /// The budget that was spent; null: it was not a budget.
    budget: Option<BudgetWhy>,
    /// The load that was too much; null: it was not the load.
    load: Option<LoadWhy>,
    /// What would have let it in, in a sentence.
    would_have_helped: Option<String>,
}

/// A budget that refused.
#[derive(Debug, Serialize, JsonSchema)]
struct BudgetWhy {
    /// `prompt`, `uncached-prompt`, `generated`, `requests` or `concurrency`.
    meter: &'static str,
    /// Its limit: tokens or requests per minute, or requests at once.
    limit: u64,
    /// What counted against it.
    used: u64,
    /// What the request asked for.
    asked: u64,
    /// By how much that is too much.
    over_by: u64,
    /// After how long there would have been room; null: never.
    room_after_ms: Option<u64>,
}

/// A load that refused.
#[derive(Debug, Serialize, JsonSchema)]
struct LoadWhy {
    /// The wait that was predicted.
    predicted_wait_ms: Option<u64>,
    /// The longest predicted wait with which it would have been let in.
    predicted_wait_max_ms: u64,
    /// How full the least full replica in service was.
    saturation: f64,
    /// The saturation at which its tier closes.
    ceiling: f64,
    /// Requests of its tier and above that waited.
    queued: u32,
    /// When the client was told to come back; null: coming back cannot help.
    retry_after_ms: Option<u64>,
}

/// The last refusals, at most `most`.
pub(in crate::admin) fn refusals(gateway: &Gateway, most: usize) -> Refusals {
    Refusals { refusals: gateway.accounts.last_refusals().into_iter().take(most).map(refused).collect() }
}

fn refused(record: Record) -> Refused {
    Refused {
        time: clock::rfc3339(record.arrived_wall),
        request_id: record.id,
        account: record.account,
        model: record.model,
        tier: record.tier.map(config::Tier::name),
        deployment: record.deployment.or(record.offered_to),
        status: record.status,
        reason: record.reason,
        message: record.message,
        queue_ms: millis(record.queued),
        prompt_tokens: record.weighed_prompt,
        budget: record.why.as_deref().and_then(budget_why),
        load: record.why.as_deref().and_then(load_why),
        would_have_helped: record.why.as_deref().map(Why::would_have_helped),
    }
}

fn budget_why(why: &Why) -> Option<BudgetWhy> {
    let (meter, limit, used, asked, after) = match why {
        Why::Budget(refused) => {
            (refused.meter.name(), refused.limit, refused.used, refused.asked, refused.retry_after)
        }
        Why::Requests(refused) => {
            let meter = match refused.kind {
                limits::RequestRefusalKind::Requests => "requests",
                limits::RequestRefusalKind::Concurrency => "concurrency",
            };
            (meter, refused.limit, refused.used, 1, refused.retry_after)
        }
        Why::Load(_) => return None,
    };
    let over_by = (used + asked).saturating_sub(limit);
    Some(BudgetWhy { meter, limit, used, asked, over_by, room_after_ms: after.map(millis) })
}

fn load_why(why: &Why) -> Option<LoadWhy> {
    let Why::Load(rejection) = why else { return None };
    Some(LoadWhy {
        predicted_wait_ms: rejection.predicted_wait.map(millis),
        predicted_wait_max_ms: millis(rejection.predicted_wait_max),
        saturation: rejection.saturation,
        ceiling: rejection.ceiling,
        queued: rejection.queued,
        retry_after_ms: rejection.retry_after.map(millis),
    })
}
