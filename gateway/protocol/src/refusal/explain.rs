//! Refusals that explain themselves: which meter or threshold, by how much, and what to do.

use super::{RETRY_AFTER_MAX, Reason, Refusal};
use limits::{Meter, RequestRefusal, RequestRefusalKind};
use shedder::{Binding, Rejection, Short, Tier};
use std::time::Duration;

/// The facts behind a refusal, for operators.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// A budget of tokens.
    Budget(limits::Refusal),
    /// Requests per minute, or at once.
    Requests(RequestRefusal),
    /// The deployment's load.
    Load(Rejection),
}

impl Why {
    /// What would have let the request in, in a sentence.
    #[must_use]
    pub fn would_have_helped(&self) -> String {
        match self {
            Why::Budget(refused) => {
                let room = refused.limit.saturating_sub(refused.used);
                let smaller = format!("asking for at most {room} {} tokens", refused.meter);
                match refused.retry_after {
                    Some(after) if room == 0 => later(after),
                    Some(after) => format!("{smaller}, or {}", later(after)),
                    None => format!("a ceiling of at least {}: no wait helps", refused.asked),
                }
            }
            Why::Requests(refused) => match refused.kind {
                RequestRefusalKind::Requests => {
                    let after = later(refused.retry_after.unwrap_or_default());
                    format!("{after}, or more than {} requests per minute", refused.limit)
                }
                RequestRefusalKind::Concurrency => {
                    format!("fewer than {} of the account's requests running", refused.limit)
                }
            },
            Why::Load(rejection) => load_that_fits(rejection),
        }
    }
}

/// In tenths, rounded up: a wait that is told as nothing would be no advice.
fn later(after: Duration) -> String {
    format!("the same {:.1} s later", (after.as_secs_f64() * 10.0).ceil().max(1.0) / 10.0)
}

fn load_that_fits(rejection: &Rejection) -> String {
    let (tier, most) = (rejection.tier.name(), rejection.predicted_wait_max.as_millis());
    match rejection.reason {
        shedder::Reason::Predicted => format!("a predicted wait of at most {most} ms for {tier}"),
        shedder::Reason::Saturated => {
            format!("a replica under {} % of its limit for {tier}", percent(rejection.ceiling))
        }
        shedder::Reason::QueueFull => format!("fewer than {} requests waiting", rejection.queued.max(1)),
        shedder::Reason::Displaced => {
            "no newcomer of a higher tier, or less waiting of its own account".to_owned()
        }
        shedder::Reason::QueueTimeout => {
            format!("a place within {} ms of waiting", rejection.waited.as_millis())
        }
        shedder::Reason::Deadline => "a later deadline of the client's own, or less load".to_owned(),
        shedder::Reason::Draining => "coming after the restart".to_owned(),
        shedder::Reason::NoReplica => "a replica in service".to_owned(),
    }
}

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

/// The same of a key's own budget inside its account's.
#[must_use]
pub fn key_budget(model: &str, (key, account): (&str, &str), refused: &limits::Refusal) -> Refusal {
    let refusal = budget(model, refused);
    let message = format!("Key `{key}` of account {account} is at a limit of its own. {}", refusal.message);
    Refusal { message, ..refusal }
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

/// No replica has the model: the config has it, so that clients are told by its public name.
#[must_use]
pub fn absent(model: &str, rejection: &Rejection) -> Refusal {
    let message = format!("No model server has the model `{model}` at the moment.");
    Refusal::new(Reason::ModelNotFound, message).param("model").why(Why::Load(*rejection))
}

/// The deployment is too busy: 503.
#[must_use]
pub fn shed(rejection: &Rejection) -> Refusal {
    let (reason, why) = match rejection.reason {
        shedder::Reason::Predicted => (Reason::ShedPredicted, predicted(rejection)),
        shedder::Reason::Saturated => (Reason::ShedSaturated, short_of(rejection)),
        shedder::Reason::QueueFull => {
            (Reason::QueueFull, format!("the queue is full ({} waiting)", rejection.queued))
        }
        shedder::Reason::Displaced => {
            (Reason::Displaced, "a request that ranks higher took this one's place in the queue".to_owned())
        }
        shedder::Reason::QueueTimeout => (
            Reason::QueueTimeout,
            format!(
                "within {} ms it did not change that {}",
                rejection.waited.as_millis(),
                short_of(rejection)
            ),
        ),
        shedder::Reason::Deadline => {
            (Reason::Deadline, "the request's own deadline cannot be met".to_owned())
        }
        shedder::Reason::Draining => (Reason::Draining, GOING_DOWN.to_owned()),
        shedder::Reason::NoReplica => (Reason::NoReplica, NONE_UP.to_owned()),
    };
    let message = format!("Service Overloaded: {why}. This is the service's load, not your limit.");
    Refusal::new(reason, message).retry(rejection.retry_after).why(Why::Load(*rejection))
}

/// What the model servers are short of for a tier.
fn short_of(rejection: &Rejection) -> String {
    shortage(rejection.tier, rejection.short.unwrap_or(Short::Places))
}

fn shortage(tier: Tier, short: Short) -> String {
    match short {
        Short::Prompts => {
            format!("the model servers still compute as many prompts as {tier} requests may wait for")
        }
        Short::Memory => "the model servers' memory for running answers is full".to_owned(),
        Short::Engine => "the model servers refuse more requests".to_owned(),
        Short::Places => format!("every place for {tier} requests on the model servers is taken"),
    }
}

const GOING_DOWN: &str = "the gateway is going down";
const NONE_UP: &str = "no model server is in service";

/// What keeps requests of a tier from a place at a moment, in the words in which they are refused for it. `ceiling`: how full
/// the model servers may be for the tier now, and as configured or set.
#[must_use]
pub fn binding(tier: Tier, binding: Binding, ceiling: (f64, f64)) -> String {
    match binding {
        Binding::Places => shortage(tier, Short::Places),
        Binding::Prompts => shortage(tier, Short::Prompts),
        Binding::Memory => shortage(tier, Short::Memory),
        Binding::Engine => shortage(tier, Short::Engine),
        Binding::HeadRoom => format!(
            "{tier} requests stop at {} % instead of {} %: the rest is kept for the tier above, which had to wait lately",
            percent(ceiling.0),
            percent(ceiling.1)
        ),
        Binding::TierAbove => "requests of the tier above wait, and go first".to_owned(),
        Binding::OtherReplicas => {
            "those that wait may not use the model servers that have room: these lack the model, or failed it"
                .to_owned()
        }
        Binding::NoReplica => NONE_UP.to_owned(),
        Binding::Draining => GOING_DOWN.to_owned(),
    }
}

/// A share as whole per cents; numbers with a fraction are several times as dear to write.
fn percent(share: f64) -> u64 {
    (100.0 * share).round() as u64
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_of_milliseconds_is_not_told_as_none() {
        let refused = RequestRefusal {
            kind: RequestRefusalKind::Requests,
            limit: 60,
            used: 60,
            retry_after: Some(Duration::from_millis(26)),
        };
        let told = Why::Requests(refused).would_have_helped();
        assert_eq!(told, "the same 0.1 s later, or more than 60 requests per minute");
    }

    /// Case O11: what binds is said in the words of the refusals that follow from it.
    #[test]
    fn case_o11_what_binds_is_said_as_refusals_say_it() {
        let rejection = |short| Rejection {
            reason: shedder::Reason::Saturated,
            tier: Tier::Regular,
            retry_after: None,
            predicted_wait: None,
            predicted_wait_max: Duration::ZERO,
            waited: Duration::ZERO,
            saturation: 0.5,
            ceiling: 0.35,
            queued: 0,
            absent: false,
            short: Some(short),
        };
        let pairs = [
            (Binding::Places, Short::Places),
            (Binding::Prompts, Short::Prompts),
            (Binding::Memory, Short::Memory),
            (Binding::Engine, Short::Engine),
        ];
        for (binds, short) in pairs {
            let words = binding(Tier::Regular, binds, (0.35, 0.85));
            assert!(shed(&rejection(short)).message.contains(&words), "{words}");
        }
        let kept = binding(Tier::Regular, Binding::HeadRoom, (0.35, 0.85));
        assert!(kept.starts_with("regular requests stop at 35 % instead of 85 %"), "{kept}");
        let all: std::collections::BTreeSet<String> =
            Binding::ALL.into_iter().map(|binds| binding(Tier::Regular, binds, (0.35, 0.85))).collect();
        assert_eq!(all.len(), Binding::ALL.len());
    }
}
