//! The last refusals, each explaining itself: which meter or threshold, by how much, what would have let it in.

use super::millis;
use crate::clock;
use crate::state::gateway::Gateway;
use crate::telemetry::record::Record;
use client::views::refusals::{BudgetWhy, LoadWhy, Refusals, Refused};
use protocol::explain::Why;

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
        tier: record.tier.map(|tier| tier.name().into()),
        deployment: record.deployment.or(record.offered_to),
        status: record.status,
        reason: record.reason.into(),
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
    Some(BudgetWhy { meter: meter.into(), limit, used, asked, over_by, room_after_ms: after.map(millis) })
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
