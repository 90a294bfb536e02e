//! What the admin listener answers.

use crate::clock;
use crate::gateway::Gateway;
use crate::metrics::read_gauges;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use std::sync::Arc;

type Answer = Response<Full<Bytes>>;

/// Answers one request.
#[must_use]
pub(super) fn answer(
    gateway: &Arc<Gateway>,
    metrics: &PrometheusHandle,
    request: &Request<Incoming>,
) -> Answer {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" | "/healthz" if gateway.is_draining() => {
            text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        }
        "/readyz" | "/healthz" => text(StatusCode::OK, "ok\n"),
        "/metrics" => {
            read_gauges(gateway, clock::now());
            let mut answer = text(StatusCode::OK, metrics.render());
            answer.headers_mut().insert(
                header::CONTENT_TYPE,
                http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
            );
            answer
        }
        "/api/v1/invariants" => json(&gateway.invariants()),
        _ => text(
            StatusCode::NOT_FOUND,
            "No such path. /livez, /readyz, /metrics and /api/v1/invariants are served here.\n",
        ),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn json(value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec_pretty(value).unwrap_or_default();
    let mut answer = text(StatusCode::OK, body);
    answer.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}
