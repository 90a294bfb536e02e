//! Refusals that explain themselves: which meter or threshold, by how much, and what to do.

use crate::refusal::{RETRY_AFTER_MAX, Reason, Refusal};
use limits::Meter;
use shedder::Rejection;

/// A budget is spent: 429.
#[must_use]
pub fn budget(model: &str, refused: &limits::Refusal) -> Refusal {
    let limits::Refusal { meter, limit, used, asked, retry_after } = *refused;
    let (reason, what) = match meter {
        Meter::Prompt => (Reason::PromptTokensLimited, "prompt"),
        Meter::UncachedPrompt => (Reason::UncachedPromptTokensLimited, "uncached prompt"),
        Meter::Generated => (Reason::GeneratedTokensLimited, "generated"),
    };
    let advice = match retry_after {
        Some(after) if after <= RETRY_AFTER_MAX => "Retry after the time in `retry-after`.".to_owned(),
        Some(after) => format!("There will be room for it in {:.0} s.", after.as_secs_f64().ceil()),
        None => "The request is larger than this limit can ever be: make it smaller.".to_owned(),
    };
    let message = format!(
        "The limit of {limit} {what} tokens per minute for `{model}` is reached: {used} used, {asked} asked. {advice}"
    );
    Refusal::new(reason, message).retry(retry_after)
}

/// The deployment is too busy: 503.
#[must_use]
pub fn shed(rejection: &Rejection) -> Refusal {
    let tier = rejection.tier.name();
    let (reason, why) = match rejection.reason {
        shedder::Reason::Predicted => (Reason::ShedPredicted, predicted(rejection)),
        shedder::Reason::Saturated => (
            Reason::ShedSaturated,
            format!(
                "{:.0} % full, {tier} requests are let in up to {:.0} %",
                100.0 * rejection.saturation,
                100.0 * rejection.ceiling
            ),
        ),
        shedder::Reason::QueueFull => {
            (Reason::QueueFull, format!("the queue is full ({} waiting)", rejection.queued))
        }
        shedder::Reason::Displaced => {
            (Reason::Displaced, "a request that ranks higher took this one's place in the queue".to_owned())
        }
        shedder::Reason::QueueTimeout => {
            (Reason::QueueTimeout, format!("no place came free in {} ms", rejection.waited.as_millis()))
        }
        shedder::Reason::Deadline => {
            (Reason::Deadline, "the request's own deadline cannot be met".to_owned())
        }
        shedder::Reason::Draining => (Reason::Draining, "the gateway is going down".to_owned()),
        shedder::Reason::NoReplica => (Reason::NoReplica, "no model server is up".to_owned()),
    };
    let message = format!("Service Overloaded: {why}. This is the service's load, not your limit.");
    Refusal::new(reason, message).retry(rejection.retry_after)
}

fn predicted(rejection: &Rejection) -> String {
    let wait = rejection.predicted_wait.unwrap_or_default().as_millis();
    let most = rejection.predicted_wait_max.as_millis();
    format!("a {} request would wait {wait} ms, more than {most} ms", rejection.tier.name())
}

/// An upstream's overload that no replica could take over: 503, as if it were our own.
#[must_use]
pub fn upstream_busy() -> Refusal {
    Refusal::new(
        Reason::ShedSaturated,
        "Service Overloaded: the model servers are busy. This is the service's load, not your limit.",
    )
    .retry(Some(std::time::Duration::from_secs(2)))
}
