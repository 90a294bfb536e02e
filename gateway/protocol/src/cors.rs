//! Pages of other origins: which may call from a browser, and what they may see of an answer.
//!
//! A browser asks first, without the key, whether a page may send what it wants to (the preflight), and shows the page an
//! answer only if the answer names its origin. Both follow the Fetch standard, section 3.2. Credentials are never
//! allowed: a key is a header that the page itself sets, so no cookie is needed, and none can be misused.
//!
//! What a page may send is not restricted: headers that are not known here have no effect, and SDKs send many.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// Whose pages may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// Everybody's.
    Any,
    /// Those of these origins, as browsers write them.
    Origins(Vec<Box<str>>),
}

/// Lines of an answer's head.
pub type Lines = Vec<(HeaderName, HeaderValue)>;

/// How long a browser may remember a preflight's answer: the longest that all of them do, two hours, in seconds.
const MAX_AGE_SECONDS: &str = "7200";
const VARY: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
const METHODS: &str = "GET, HEAD, POST";
/// Longest list of headers that is repeated to whoever asks for them, bytes.
const ASKED_BYTES_MAX: usize = 4 << 10;

/// What is allowed where a preflight asks for no header: what the SDKs send.
const HEADERS: &str = "authorization, content-type, accept, api-key, x-api-key, anthropic-version, anthropic-beta, \
    anthropic-dangerous-direct-browser-access, openai-beta, openai-organization, openai-project, idempotency-key, \
    x-stainless-arch, x-stainless-async, x-stainless-custom-poll-interval, x-stainless-helper, \
    x-stainless-helper-method, x-stainless-lang, x-stainless-os, x-stainless-package-version, \
    x-stainless-poll-helper, x-stainless-read-timeout, x-stainless-retry-count, x-stainless-runtime, \
    x-stainless-runtime-version, x-stainless-timeout, user-agent, x-request-id, x-session-affinity, \
    x-tidegate-ttft-deadline-ms, traceparent, tracestate";

/// What a page may see of an answer beyond what every page may: all that the answers here tell.
const EXPOSED: &str = "retry-after, retry-after-ms, x-should-retry, x-request-id, request-id, ratelimit, \
    ratelimit-policy, x-ratelimit-over-limit, x-ratelimit-limit-tokens-prompt, \
    x-ratelimit-limit-tokens-cache-adjusted-prompt, x-ratelimit-limit-tokens-generated, \
    x-ratelimit-remaining-tokens-prompt, x-ratelimit-remaining-tokens-cache-adjusted-prompt, \
    x-ratelimit-remaining-tokens-generated, anthropic-ratelimit-requests-limit, \
    anthropic-ratelimit-requests-remaining, anthropic-ratelimit-requests-reset, anthropic-ratelimit-tokens-limit, \
    anthropic-ratelimit-tokens-remaining, anthropic-ratelimit-tokens-reset, anthropic-ratelimit-input-tokens-limit, \
    anthropic-ratelimit-input-tokens-remaining, anthropic-ratelimit-input-tokens-reset, \
    anthropic-ratelimit-output-tokens-limit, anthropic-ratelimit-output-tokens-remaining, \
    anthropic-ratelimit-output-tokens-reset, x-tidegate-reason, x-tidegate-queue-ms, x-tidegate-deployment, \
    x-tidegate-replica, www-authenticate, allow, date";

/// What one request's answer says to the browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The value of `Access-Control-Allow-Origin`; `None`: a page of this origin may not call, or no page calls.
    origin: Option<HeaderValue>,
}

impl Grant {
    /// What `cors` grants to a request with these headers.
    #[must_use]
    pub fn to(cors: &Cors, headers: &HeaderMap) -> Grant {
        let asked = headers.get(header::ORIGIN);
        let origin = match cors {
            Cors::Any => asked.map(|_| HeaderValue::from_static("*")),
            Cors::Origins(known) => {
                asked.filter(|asked| known.iter().any(|one| one.as_bytes() == asked.as_bytes())).cloned()
            }
        };
        Grant { origin }
    }

    /// Whether the page's origin is listed.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.origin.is_some()
    }

    /// What an answer says.
    #[must_use]
    pub fn lines(&self) -> Lines {
        // The first also where nothing is granted: a cache must not give that answer to a page of another origin.
        let mut lines = vec![(header::VARY, HeaderValue::from_static("Origin"))];
        if let Some(origin) = &self.origin {
            lines.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
            lines.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED)));
        }
        lines
    }

    /// What the answer to a preflight says that has these headers.
    #[must_use]
    pub fn preflight(&self, asked: &HeaderMap) -> Lines {
        let mut lines = vec![(header::VARY, HeaderValue::from_static(VARY))];
        let Some(origin) = &self.origin else { return lines };
        let asked =
            asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).filter(|asked| are_names(asked.as_bytes()));
        let allowed = asked.cloned().unwrap_or(HeaderValue::from_static(HEADERS));
        lines.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
        lines.push((header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS)));
        lines.push((header::ACCESS_CONTROL_ALLOW_HEADERS, allowed));
        lines.push((header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECONDS)));
        lines
    }
}

/// Whether it is a list of names and nothing else.
fn are_names(list: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, \t".contains(byte);
    !list.trim_ascii().is_empty() && list.len() <= ASKED_BYTES_MAX && list.iter().all(is_name)
}

/// Whether a browser asks if a page may send a request.
#[must_use]
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn text<'a>(lines: &'a Lines, name: &str) -> &'a str {
        lines.iter().find(|(own, _)| own == name).map_or("-", |(_, value)| value.to_str().unwrap())
    }

    const PAGE: (&str, &str) = ("origin", "https://chat.example.org");

    fn listed() -> Cors {
        Cors::Origins(vec!["https://chat.example.org".into(), "http://localhost:3000".into()])
    }

    #[test]
    fn an_origin_is_granted_only_if_it_is_listed_exactly() {
        let granted =
            |cors: &Cors, origin: &'static str| Grant::to(cors, &headers(&[("origin", origin)])).origin;
        assert_eq!(granted(&listed(), PAGE.1).unwrap(), PAGE.1);
        for other in [
            "https://chat.example.org.evil.example",
            "https://evil.chat.example.org",
            "http://chat.example.org",
            "https://chat.example.org:8443",
            "HTTPS://chat.example.org",
            "null",
            "*",
            "",
        ] {
            assert_eq!(granted(&listed(), other), None, "{other}");
        }
        assert_eq!(granted(&Cors::Any, "https://anything.example").unwrap(), "*");
        assert_eq!(Grant::to(&Cors::Any, &headers(&[])).origin, None);
    }

    #[test]
    fn headers_that_are_asked_for_are_allowed_and_nothing_else_is_repeated() {
        let of = |asked: &'static str| {
            let lines = headers(&[PAGE, ("access-control-request-headers", asked)]);
            let head = Grant::to(&listed(), &lines).preflight(&lines);
            text(&head, "access-control-allow-headers").to_owned()
        };
        assert_eq!(
            of("authorization,x-stainless-lang,x-anything"),
            "authorization,x-stainless-lang,x-anything"
        );
        for odd in ["", "x-a\"b", "x-a;b", "x-a:b"] {
            assert_eq!(of(odd), HEADERS, "{odd}");
        }
    }

    #[test]
    fn credentials_are_never_allowed() {
        for cors in [listed(), Cors::Any] {
            let lines = headers(&[PAGE, ("access-control-request-method", "POST")]);
            let grant = Grant::to(&cors, &lines);
            for head in [grant.lines(), grant.preflight(&lines)] {
                assert_eq!(text(&head, "access-control-allow-credentials"), "-");
                assert!(text(&head, "vary").starts_with("Origin"));
            }
        }
    }
}
