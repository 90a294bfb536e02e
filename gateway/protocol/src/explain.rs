//! Refusals that explain themselves: which meter or threshold, by how much, and what to do.

pub use crate::cause::Why;

use crate::cause::percent;
use crate::refusal::{RETRY_AFTER_MAX, Reason, Refusal};
use limits::Meter;
use shedder::Rejection;
use std::time::Duration;

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
        Some(after) => format!("There will be room for it in {} s.", after.as_millis().div_ceil(1000)),
        None => "The request is larger than this limit can ever be: make it smaller.".to_owned(),
    };
    let message = format!(
        "The limit of {limit} {what} tokens per minute for `{model}` is reached: {used} used, {asked} asked. {advice}"
    );
    Refusal::new(reason, message).retry(retry_after).why(Why::Budget(*refused))
}

/// When a client that came too late shall try again: somebody else serves by then.
pub const ELSEWHERE_AFTER: Duration = Duration::from_secs(1);

/// What a stream is told that runs when the grace is over.
#[must_use]
pub fn out_of_time() -> Refusal {
    Refusal::new(
        Reason::Draining,
        "Service Overloaded: the gateway goes down, and the answer is longer than it can wait.",
    )
    .retry(Some(ELSEWHERE_AFTER))
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
                "{} % full, {tier} requests are let in up to {} %",
                percent(rejection.saturation),
                percent(rejection.ceiling)
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
    Refusal::new(reason, message).retry(rejection.retry_after).why(Why::Load(*rejection))
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
