//! What every answer carries: ids, limits, retry advice; and how heads are written.
//!
//! The client gets headers from a fixed list only. Nothing of an engine's head is copied but the content type,
//! so no engine's secret or framing can leak through.

use crate::anthropic;
use crate::values::Values;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use limits::{MeterView, PerMeter, RequestsView};
use pingora::http::ResponseHeader;
use process::entropy;
use protocol::api::Family;
use protocol::cors::{Grant, Lines};
use protocol::error;
use protocol::refusal::{RETRY_AFTER_MAX, Reason, Refusal, Retry};
use std::time::Duration;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_SHORT: HeaderName = HeaderName::from_static("request-id");
const QUEUE_MS: HeaderName = HeaderName::from_static("x-tidegate-queue-ms");
const REASON: HeaderName = HeaderName::from_static("x-tidegate-reason");
const DEPLOYMENT: HeaderName = HeaderName::from_static("x-tidegate-deployment");
const REPLICA: HeaderName = HeaderName::from_static("x-tidegate-replica");
const OVER_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-over-limit");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// nginx, and what took it over, would gather a stream into blocks otherwise.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Headers of an ordinary answer.
const HEADERS: usize = 20;
const LIMITS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens-prompt"),
    HeaderName::from_static("x-ratelimit-limit-tokens-cache-adjusted-prompt"),
    HeaderName::from_static("x-ratelimit-limit-tokens-generated"),
];
const REMAINING: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-remaining-tokens-prompt"),
    HeaderName::from_static("x-ratelimit-remaining-tokens-cache-adjusted-prompt"),
    HeaderName::from_static("x-ratelimit-remaining-tokens-generated"),
];

/// What is known of a request that its answer's head shows.
#[derive(Debug)]
pub struct Envelope {
    /// Whose habits the client knows.
    pub family: Family,
    /// Our id of the request.
    pub id: HeaderValue,
    /// The meters after this request's reservation, as soon as account and model are known.
    pub meters: Option<PerMeter<MeterView>>,
    /// The account's requests of the last minute, as soon as the account is known.
    pub requests: Option<RequestsView>,
    /// Time spent waiting here, all waits summed.
    pub queued: Duration,
    /// Deployment and replica, when the configuration shows them.
    pub served_by: Option<(String, String)>,
    /// What is said to a browser, where pages of other origins may call at all.
    pub cors: Option<Grant>,
}

impl Envelope {
    /// The envelope of a new request.
    #[must_use]
    pub fn new(family: Family) -> Self {
        Envelope {
            family,
            id: new_id(),
            meters: None,
            requests: None,
            queued: Duration::ZERO,
            served_by: None,
            cors: None,
        }
    }

    /// The id as text.
    #[must_use]
    pub fn id_text(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    fn write(&self, head: &mut ResponseHeader, values: &mut Values) -> pingora::Result<()> {
        head.insert_header(REQUEST_ID, &self.id)?;
        head.insert_header(REQUEST_ID_SHORT, &self.id)?;
        head.insert_header(QUEUE_MS, values.number(self.queued.as_millis() as u64).take())?;
        if let Some(meters) = &self.meters {
            write_limits(head, values, meters)?;
        }
        if self.family == Family::Anthropic {
            anthropic::write_limits(head, self.meters.as_ref(), self.requests.as_ref())?;
        }
        if let Some((deployment, replica)) = &self.served_by {
            head.insert_header(DEPLOYMENT, deployment.as_str())?;
            head.insert_header(REPLICA, replica.as_str())?;
        }
        for (name, value) in self.cors.iter().flat_map(Grant::lines) {
            head.append_header(name, value)?;
        }
        Ok(())
    }
}

/// `req_` and 128 random bits in hexadecimal digits.
fn new_id() -> HeaderValue {
    let bits = (u128::from(entropy::bits()) << 64) | u128::from(entropy::bits());
    let mut id = *b"req_00000000000000000000000000000000";
    for (place, digit) in id.iter_mut().rev().zip(0..32_u32) {
        *place = char::from_digit((bits >> (4 * digit) & 0xf) as u32, 16).map_or(b'0', |digit| digit as u8);
    }
    HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static("req_0"))
}

/// The limit headers. Limits and what remains in tokens per second, rounded down; the structured fields in
/// tokens per minute and exact.
fn write_limits(
    head: &mut ResponseHeader,
    values: &mut Values,
    meters: &PerMeter<MeterView>,
) -> pingora::Result<()> {
    for (((_, view), limit), remaining) in meters.iter().zip(LIMITS).zip(REMAINING) {
        head.insert_header(limit, values.number(view.limit / 60).take())?;
        head.insert_header(remaining, values.number(view.remaining / 60).take())?;
    }
    let mut separator = "\"";
    for (meter, view) in meters.iter() {
        values.text(separator).text(meter.name()).text("\";q=").number(view.limit).text(";qu=\"token\";w=60");
        separator = ", \"";
    }
    head.insert_header(POLICY, values.take())?;
    separator = "\"";
    for (meter, view) in meters.iter() {
        let seconds = view.until_half.as_millis().div_ceil(1000) as u64;
        values
            .text(separator)
            .text(meter.name())
            .text("\";r=")
            .number(view.remaining)
            .text(";t=")
            .number(seconds);
        separator = ", \"";
    }
    head.insert_header(RATE_LIMIT, values.take())?;
    Ok(())
}

/// The head of an answer with a known length.
///
/// # Errors
/// When a value is no header value.
pub fn answer_head(
    envelope: &Envelope,
    status: u16,
    content_type: &HeaderValue,
    length: usize,
) -> pingora::Result<ResponseHeader> {
    written_head(envelope, &mut Values::default(), status, content_type, length)
}

fn written_head(
    envelope: &Envelope,
    values: &mut Values,
    status: u16,
    content_type: &HeaderValue,
    length: usize,
) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build_no_case(status, Some(HEADERS))?;
    head.insert_header(header::CONTENT_TYPE, content_type)?;
    head.insert_header(header::CONTENT_LENGTH, values.number(length as u64).take())?;
    envelope.write(&mut head, values)?;
    Ok(head)
}

/// The head of a stream.
///
/// # Errors
/// When a value is no header value.
pub fn stream_head(envelope: &Envelope, chunked: bool) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build_no_case(200, Some(HEADERS))?;
    head.insert_header(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")?;
    head.insert_header(header::CACHE_CONTROL, "no-cache")?;
    head.insert_header(X_ACCEL_BUFFERING, "no")?;
    if chunked {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    envelope.write(&mut head, &mut Values::default())?;
    Ok(head)
}

/// The head of a whole answer whose length is not known yet.
///
/// # Errors
/// When a value is no header value.
pub fn open_head(envelope: &Envelope, chunked: bool) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build_no_case(200, Some(HEADERS))?;
    head.insert_header(header::CONTENT_TYPE, "application/json")?;
    if chunked {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    envelope.write(&mut head, &mut Values::default())?;
    Ok(head)
}

/// The head of an answer to a preflight: nothing but what the browser asked for.
///
/// # Errors
/// When a value is no header value.
pub fn preflight_head(lines: Lines) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build(204, Some(HEADERS))?;
    for (name, value) in lines {
        head.append_header(name, value)?;
    }
    Ok(head)
}

/// Head and body of a refusal.
///
/// # Errors
/// When a value is no header value.
pub fn refusal(envelope: &Envelope, refusal: &Refusal) -> pingora::Result<(ResponseHeader, Bytes)> {
    let body = error::body(envelope.family, refusal, envelope.id_text());
    let json = HeaderValue::from_static("application/json");
    let mut values = Values::default();
    let mut head = written_head(envelope, &mut values, refusal.status(), &json, body.len())?;
    head.insert_header(REASON, refusal.reason.name())?;
    match refusal.reason {
        Reason::Unauthenticated => head.insert_header(header::WWW_AUTHENTICATE, "Bearer")?,
        Reason::MethodNotAllowed(allowed) => head.insert_header(header::ALLOW, allowed)?,
        reason if reason.status() == 429 => head.insert_header(OVER_LIMIT, "yes")?,
        _ => {}
    }
    write_retry(&mut head, &mut values, refusal.reason, refusal.retry)?;
    Ok((head, body))
}

fn write_retry(
    head: &mut ResponseHeader,
    values: &mut Values,
    reason: Reason,
    retry: Retry,
) -> pingora::Result<()> {
    match retry {
        Retry::NotApplicable => {}
        Retry::Never => head.insert_header(SHOULD_RETRY, "false")?,
        Retry::Late(wait) => write_wait(head, values, wait, "false")?,
        Retry::After(wait) => {
            let wait = entropy::spread_up(wait, reason.retry_spread(), RETRY_AFTER_MAX);
            write_wait(head, values, wait, "true")?;
        }
    }
    Ok(())
}

/// Both units, rounded up: what is told suffices.
fn write_wait(
    head: &mut ResponseHeader,
    values: &mut Values,
    wait: Duration,
    should_retry: &'static str,
) -> pingora::Result<()> {
    // Zero would be read as no value at all.
    let milliseconds = wait.as_nanos().div_ceil(1_000_000).max(1) as u64;
    head.insert_header(RETRY_AFTER_MS, values.number(milliseconds).take())?;
    head.insert_header(header::RETRY_AFTER, values.number(milliseconds.div_ceil(1000)).take())?;
    head.insert_header(SHOULD_RETRY, should_retry)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use limits::{Ask, Budget, BudgetConfig, Policy, Used};
    use proptest::prelude::*;

    fn view(limit: u64, remaining: u64, until_half_ms: u64) -> MeterView {
        MeterView {
            limit,
            floor: limit,
            ceiling: limit,
            used: limit - remaining,
            reserved: 0,
            debt: 0,
            remaining,
            until_half: Duration::from_millis(until_half_ms),
        }
    }

    fn envelope() -> Envelope {
        Envelope {
            meters: Some(PerMeter {
                prompt: view(3_600_000, 3_599_999, 0),
                uncached_prompt: view(900_000, 900_000, 0),
                generated: view(36_000, 59, 2_001),
            }),
            ..Envelope::new(Family::OpenAi)
        }
    }

    fn text<'a>(head: &'a ResponseHeader, name: &str) -> &'a str {
        head.headers.get(name).map_or("-", |value| value.to_str().unwrap())
    }

    #[test]
    fn an_id_is_128_bits_in_hexadecimal_and_never_the_same() {
        let (first, second) = (new_id(), new_id());
        assert_ne!(first, second);
        let digits = first.to_str().unwrap().strip_prefix("req_").unwrap().to_owned();
        assert_eq!(digits.len(), 32);
        assert!(digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{digits}");
    }

    #[test]
    fn limits_are_per_second_and_the_structured_fields_per_minute() {
        let head = answer_head(&envelope(), 200, &HeaderValue::from_static("application/json"), 2).unwrap();
        assert_eq!(text(&head, "x-ratelimit-limit-tokens-prompt"), "60000");
        assert_eq!(text(&head, "x-ratelimit-limit-tokens-cache-adjusted-prompt"), "15000");
        assert_eq!(text(&head, "x-ratelimit-limit-tokens-generated"), "600");
        assert_eq!(text(&head, "x-ratelimit-remaining-tokens-prompt"), "59999");
        assert_eq!(text(&head, "x-ratelimit-remaining-tokens-generated"), "0");
        assert_eq!(
            text(&head, "ratelimit-policy"),
            r#""prompt";q=3600000;qu="token";w=60, "uncached-prompt";q=900000;qu="token";w=60, "generated";q=36000;qu="token";w=60"#
        );
        assert_eq!(
            text(&head, "ratelimit"),
            r#""prompt";r=3599999;t=0, "uncached-prompt";r=900000;t=0, "generated";r=59;t=3"#
        );
    }

    #[test]
    fn a_429_and_a_503_say_when_to_come_back_in_both_units() {
        for reason in [Reason::GeneratedTokensLimited, Reason::QueueFull] {
            let told = Refusal::new(reason, "x").retry(Some(Duration::from_secs(4)));
            let (head, _) = refusal(&envelope(), &told).unwrap();
            let ms: u64 = text(&head, "retry-after-ms").parse().unwrap();
            let s: u64 = text(&head, "retry-after").parse().unwrap();
            assert_eq!(s, ms.div_ceil(1000));
            assert_eq!(text(&head, "x-should-retry"), "true");
            assert_eq!(text(&head, "x-tidegate-reason"), reason.name());
            assert_eq!(
                text(&head, "x-ratelimit-over-limit"),
                if reason.status() == 429 { "yes" } else { "-" }
            );
        }
    }

    #[test]
    fn where_no_retry_helps_no_time_is_told() {
        let never = Refusal::new(Reason::PromptTokensLimited, "x").retry(None);
        let (head, _) = refusal(&envelope(), &never).unwrap();
        assert_eq!(text(&head, "retry-after"), "-");
        assert_eq!(text(&head, "retry-after-ms"), "-");
        assert_eq!(text(&head, "x-should-retry"), "false");
    }

    /// Case O03: 90 of 100 tokens are used at once, and 90 are asked for: there is room after the minute and a slot.
    #[test]
    fn case_o03_a_wait_that_is_longer_than_a_minute_is_told_as_it_is() {
        let late =
            Refusal::new(Reason::GeneratedTokensLimited, "x").retry(Some(Duration::from_micros(60_080_001)));
        let (head, _) = refusal(&envelope(), &late).unwrap();

        assert_eq!((text(&head, "retry-after-ms"), text(&head, "retry-after")), ("60081", "61"));
        assert_eq!(text(&head, "x-should-retry"), "false", "no client waits so long by itself");
    }

    proptest! {
        /// Case O03: whoever is alone and waits as the header says is admitted, whatever was used before and when.
        #[test]
        fn case_o03_what_is_told_always_suffices(
            used in proptest::collection::vec((0_u64..20_000, 0_u64..130, 0_u64..130), 0..8),
            (prompt, generated, later_us) in (0_u64..=100, 0_u64..=100, 0_u64..1_000_000),
        ) {
            let bounds = PerMeter::from_fn(|_| limits::Bounds::fixed(100).unwrap());
            let config = BudgetConfig { policy: Policy::Fixed, bounds };
            let mut now = Duration::from_millis(12_345);
            let mut budget = Budget::new(now, config);
            for (wait, prompt, generated) in used {
                now += Duration::from_millis(wait);
                let ask = Ask { prompt: prompt.min(100), max_generated: Some(generated), ..Ask::default() };
                if let Ok(held) = budget.reserve(now, &ask) {
                    let used = Used { prompt, uncached_prompt: prompt, generated, finished: true };
                    budget.settle(now, held, &used);
                }
            }
            now += Duration::from_micros(later_us);
            let ask = Ask { prompt, max_generated: Some(generated), ..Ask::default() };
            let Err(refused) = budget.reserve(now, &ask) else { return Ok(()) };
            let (head, _) = super::refusal(&envelope(), &protocol::explain::budget("m", &refused)).unwrap();

            let told: u64 = text(&head, "retry-after-ms").parse().unwrap();
            let seconds: u64 = text(&head, "retry-after").parse().unwrap();
            let bound = refused.retry_after.unwrap();
            prop_assert!(Duration::from_millis(told) >= bound, "{told} ms are told of {bound:?}");
            prop_assert!(seconds * 1000 >= told && seconds <= told.div_ceil(1000));
            prop_assert_eq!(text(&head, "x-should-retry"), if bound > RETRY_AFTER_MAX { "false" } else { "true" });
            prop_assert!(told <= 60_000 || Duration::from_millis(told) < bound + Duration::from_millis(1));
            let again = budget.reserve(now + Duration::from_millis(told), &ask);
            prop_assert!(again.is_ok(), "waited {told} ms: {:?}", again.unwrap_err());
        }
    }
}
