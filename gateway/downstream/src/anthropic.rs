//! The limits as Anthropic's clients read them: `anthropic-ratelimit-*`.
//!
//! | theirs | ours |
//! |---|---|
//! | `requests` | the account's requests per minute |
//! | `input-tokens` | uncached prompt tokens: cached ones do not count there either |
//! | `output-tokens` | generated tokens |
//! | `tokens` | whichever of our three meters has the smallest share left |
//!
//! Amounts are tokens per minute. A reset is a time in RFC 3339: when at least half of the limit is free again, as `t`
//! of `RateLimit` says it.

use http::HeaderName;
use limits::{MeterView, PerMeter, RequestsView};
use pingora::http::ResponseHeader;
use process::clock;
use std::time::Duration;

/// Limit, remaining, reset.
type Names = [HeaderName; 3];

const REQUESTS: Names = [
    HeaderName::from_static("anthropic-ratelimit-requests-limit"),
    HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
    HeaderName::from_static("anthropic-ratelimit-requests-reset"),
];
const INPUT: Names = [
    HeaderName::from_static("anthropic-ratelimit-input-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-input-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-input-tokens-reset"),
];
const OUTPUT: Names = [
    HeaderName::from_static("anthropic-ratelimit-output-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-output-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-output-tokens-reset"),
];
const TOKENS: Names = [
    HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
];

/// Writes what is known of the limits.
///
/// # Errors
/// When a value is no header value.
pub fn write_limits(
    head: &mut ResponseHeader,
    meters: Option<&PerMeter<MeterView>>,
    requests: Option<&RequestsView>,
) -> pingora::Result<()> {
    let wall = clock::wall();
    if let Some(requests) = requests {
        write(head, &REQUESTS, (requests.limit, requests.remaining, requests.until_half), wall)?;
    }
    let Some(meters) = meters else { return Ok(()) };
    write(head, &INPUT, amounts(&meters.uncached_prompt), wall)?;
    write(head, &OUTPUT, amounts(&meters.generated), wall)?;
    let scarcest = meters
        .iter()
        .map(|(_, view)| view)
        .min_by_key(|view| u128::from(view.remaining) * 1_000_000 / u128::from(view.limit.max(1)));
    if let Some(view) = scarcest {
        write(head, &TOKENS, amounts(view), wall)?;
    }
    Ok(())
}

fn amounts(view: &MeterView) -> (u64, u64, Duration) {
    (view.limit, view.remaining, view.until_half)
}

fn write(
    head: &mut ResponseHeader,
    [limit_name, remaining_name, reset_name]: &Names,
    (limit, remaining, until): (u64, u64, Duration),
    wall: Duration,
) -> pingora::Result<()> {
    head.insert_header(limit_name, limit.to_string())?;
    head.insert_header(remaining_name, remaining.min(limit).to_string())?;
    // Whole seconds, rounded up: then it is not too early.
    let at = Duration::from_secs((wall + until).as_millis().div_ceil(1000) as u64);
    head.insert_header(reset_name, clock::rfc3339(at))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(limit: u64, remaining: u64) -> MeterView {
        MeterView {
            limit,
            floor: limit,
            ceiling: limit,
            used: limit - remaining,
            reserved: 0,
            debt: 0,
            remaining,
            until_half: Duration::ZERO,
        }
    }

    #[test]
    fn each_of_their_limits_is_one_of_ours_and_tokens_the_scarcest() {
        let meters = PerMeter {
            prompt: view(3_600_000, 3_000_000),
            uncached_prompt: view(900_000, 800_000),
            generated: view(36_000, 9_000),
        };
        let requests = RequestsView { limit: 600, remaining: 599, until_half: Duration::ZERO };
        let mut head = ResponseHeader::build_no_case(200, None).unwrap();

        write_limits(&mut head, Some(&meters), Some(&requests)).unwrap();

        let text =
            |name: &str| head.headers.get(format!("anthropic-ratelimit-{name}")).unwrap().to_str().unwrap();
        assert_eq!((text("input-tokens-limit"), text("input-tokens-remaining")), ("900000", "800000"));
        assert_eq!((text("output-tokens-limit"), text("output-tokens-remaining")), ("36000", "9000"));
        assert_eq!((text("tokens-limit"), text("tokens-remaining")), ("36000", "9000"));
        assert_eq!((text("requests-limit"), text("requests-remaining")), ("600", "599"));
        assert!(text("tokens-reset").ends_with("Z") && text("tokens-reset").contains('T'));
    }
}
