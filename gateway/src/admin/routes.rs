//! What the admin listener answers, and who may change what.
//!
//! Reading is open on loopback, where only who is on the machine can ask; elsewhere it needs the token. A change
//! needs the token always, and a name of ours in `Host`, so that a web page cannot have an operator's browser
//! make it. Every change is written to the log.

use crate::admin::views;
use crate::clock;
use crate::config;
use crate::gateway::Gateway;
use crate::metrics::read_gauges;
use crate::overrides::Override;
use crate::state::Snapshot;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request};
use http_body_util::Full;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

pub(super) type Answer = Response<Full<Bytes>>;

/// Largest body of a change.
pub(super) const BODY_MAX: usize = 64 << 10;

const PATHS: &str = "No such path. There are /livez, /readyz, /metrics and, under /api/v1/: deployments, limits, \
                     accounts/{id}/limits, requests, config, invariants.\n";

/// Answers one request whose body, if it has one, was read.
pub(super) fn answer(
    gateway: &Arc<Gateway>,
    metrics: &PrometheusHandle,
    head: &request::Parts,
    body: &Bytes,
) -> Answer {
    match head.uri.path() {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" | "/healthz" if gateway.is_draining() => {
            text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        }
        "/readyz" | "/healthz" => text(StatusCode::OK, "ok\n"),
        path => {
            let snapshot = gateway.snapshot();
            not_permitted(&snapshot.config.admin, head)
                .unwrap_or_else(|| known(gateway, &snapshot, metrics, head, path, body))
        }
    }
}

fn known(
    gateway: &Arc<Gateway>,
    snapshot: &Snapshot,
    metrics: &PrometheusHandle,
    head: &request::Parts,
    path: &str,
    body: &Bytes,
) -> Answer {
    let account = path.strip_prefix("/api/v1/accounts/").and_then(|rest| rest.strip_suffix("/limits"));
    match (&head.method, path, account) {
        (&Method::GET, "/metrics", _) => {
            read_gauges(gateway, clock::now());
            let mut answer = text(StatusCode::OK, metrics.render());
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            answer.headers_mut().insert(header::CONTENT_TYPE, kind);
            answer
        }
        (&Method::GET, "/api/v1/invariants", _) => json(StatusCode::OK, &gateway.invariants()),
        (&Method::GET, "/api/v1/deployments", _) => json(StatusCode::OK, &views::deployments(snapshot)),
        (&Method::GET, "/api/v1/limits", _) => json(StatusCode::OK, &views::listed(gateway)),
        (&Method::GET, "/api/v1/requests", _) => json(StatusCode::OK, &views::refusals(gateway)),
        (&Method::GET, "/api/v1/config", _) => json(StatusCode::OK, &config::redacted(&snapshot.config)),
        (&Method::GET, _, Some(id)) => account_limits(gateway, snapshot, id, head.uri.query()),
        (&Method::PUT, _, Some(id)) => set_limits(gateway, snapshot, id, body),
        (&Method::GET | &Method::HEAD, ..) => text(StatusCode::NOT_FOUND, PATHS),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "This path does not take this method.\n"),
    }
}

/// Why the caller may not ask this; `None`: it may.
fn not_permitted(admin: &config::Admin, head: &request::Parts) -> Option<Answer> {
    if !host_is_ours(&head.headers, admin) {
        let message = "This Host is not one of the admin listener's names. Use its IP address, or add the name to admin.hosts.\n";
        return Some(text(StatusCode::FORBIDDEN, message));
    }
    let changes = !matches!(head.method, Method::GET | Method::HEAD);
    if !changes && admin.address.ip().is_loopback() {
        return None;
    }
    let Some(token) = &admin.token else {
        return Some(text(
            StatusCode::FORBIDDEN,
            "Changes need a token: set admin.token_file in the config.\n",
        ));
    };
    let presented = head
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    match presented {
        Some(presented) if crate::keys::Digest::of(presented.trim()).same(token) => None,
        _ => Some(text(StatusCode::UNAUTHORIZED, "Send the admin token as `Authorization: Bearer TOKEN`.\n")),
    }
}

/// An IP address, `localhost` or a configured name: a page of another site that resolves to us has none of these.
fn host_is_ours(headers: &HeaderMap, admin: &config::Admin) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.parse::<IpAddr>().is_ok() || admin.hosts.contains(&name)
}

fn account_limits(gateway: &Gateway, snapshot: &Snapshot, id: &str, query: Option<&str>) -> Answer {
    let only = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("model=")));
    match snapshot.accounts.get(id) {
        Some(account) => json(StatusCode::OK, &views::account_limits(gateway, snapshot, account, only)),
        None => text(StatusCode::NOT_FOUND, "No such account.\n"),
    }
}

/// What a change of limits says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// The model; absent: every model that the account may use.
    model: Option<String>,
    #[serde(default)]
    start: config::MetersFile,
    #[serde(default)]
    floor: config::MetersFile,
    #[serde(default)]
    ceiling: config::MetersFile,
}

fn set_limits(gateway: &Gateway, snapshot: &Snapshot, id: &str, body: &Bytes) -> Answer {
    let Some(account) = snapshot.accounts.get(id) else {
        return text(StatusCode::NOT_FOUND, "No such account.\n");
    };
    let change: Change = match serde_json::from_slice(body) {
        Ok(change) => change,
        Err(e) => return text(StatusCode::BAD_REQUEST, format!("The change could not be read: {e}.\n")),
    };
    let set = Override { start: change.start, floor: change.floor, ceiling: change.ceiling };
    let models: Vec<_> = snapshot
        .config
        .models
        .iter()
        .filter(|model| account.config.may_use(&model.name))
        .filter(|model| change.model.as_deref().is_none_or(|wanted| *wanted == *model.name))
        .collect();
    if models.is_empty() {
        return text(StatusCode::NOT_FOUND, "No such model for this account.\n");
    }
    for model in models {
        let configured = snapshot.config.limits.bounds(&account.config, model);
        if let Err(e) = gateway.registry.overrides().set(id, &model.name, configured, &set) {
            return text(StatusCode::UNPROCESSABLE_ENTITY, format!("{}: {e}.\n", model.name));
        }
        gateway.registry.reconfigure(&snapshot.config, &account.config, model);
        tracing::info!(target: "audit", account = id, model = &*model.name, change = ?set, "limits set");
    }
    json(StatusCode::OK, &views::account_limits(gateway, snapshot, account, change.model.as_deref()))
}

/// An answer in plain text.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
    body.push(b'\n');
    let mut answer = text(status, body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin(address: &str, token: Option<&str>) -> config::Admin {
        config::Admin {
            address: address.parse().unwrap(),
            token: token.map(crate::keys::Digest::of),
            token_file: None,
            hosts: vec!["ops.example".to_owned()],
        }
    }

    fn status(admin: &config::Admin, method: Method, host: &str, bearer: Option<&str>) -> u16 {
        let mut request =
            http::Request::builder().method(method).uri("/api/v1/limits").header(header::HOST, host);
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        not_permitted(admin, &head).map_or(200, |answer| answer.status().as_u16())
    }

    #[test]
    fn reading_is_open_on_loopback_and_a_change_always_needs_the_token() {
        let here = admin("127.0.0.1:9090", Some("secret"));
        assert_eq!(status(&here, Method::GET, "127.0.0.1:9090", None), 200);
        assert_eq!(status(&here, Method::PUT, "127.0.0.1:9090", None), 401);
        assert_eq!(status(&here, Method::PUT, "127.0.0.1:9090", Some("wrong")), 401);
        assert_eq!(status(&here, Method::PUT, "127.0.0.1:9090", Some("secret")), 200);
        let without = admin("127.0.0.1:9090", None);
        assert_eq!(status(&without, Method::PUT, "localhost", Some("secret")), 403);
        let outside = admin("10.0.0.5:9090", Some("secret"));
        assert_eq!(status(&outside, Method::GET, "10.0.0.5:9090", None), 401);
    }

    /// Threat S16: a page of another site that resolves to this listener.
    #[test]
    fn threat_s16_a_host_that_is_not_ours_is_refused() {
        let here = admin("127.0.0.1:9090", Some("secret"));
        assert_eq!(status(&here, Method::GET, "evil.example:9090", None), 403);
        assert_eq!(status(&here, Method::PUT, "evil.example:9090", Some("secret")), 403);
        for ours in ["localhost:9090", "LOCALHOST", "[::1]:9090", "ops.example", "127.0.0.1"] {
            assert_eq!(status(&here, Method::GET, ours, None), 200, "{ours}");
        }
    }
}
