//! The cause of a refusal: the facts of the policy that refused, and what would have let the request in.

use limits::{RequestRefusal, RequestRefusalKind};
use shedder::Rejection;

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
                    Some(after) => format!("{smaller}, or the same {:.1} s later", after.as_secs_f64()),
                    None => format!("a ceiling of at least {}: no wait helps", refused.asked),
                }
            }
            Why::Requests(refused) => match refused.kind {
                RequestRefusalKind::Requests => {
                    let after = refused.retry_after.map_or(0.0, |after| after.as_secs_f64());
                    format!("the same {after:.1} s later, or more than {} requests per minute", refused.limit)
                }
                RequestRefusalKind::Concurrency => {
                    format!("fewer than {} of the account's requests running", refused.limit)
                }
            },
            Why::Load(rejection) => load_that_fits(rejection),
        }
    }
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

/// A share as whole per cents; numbers with a fraction are several times as dear to write.
pub(crate) fn percent(share: f64) -> u64 {
    (100.0 * share).round() as u64
}
