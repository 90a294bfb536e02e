//! What Prometheus sees: names, labels from the config only, and who feeds them.
//!
//! Finished requests are counted on the accounting thread; gauges are read from the gates when `/metrics` is
//! asked. A label's value is always a name of the config or one of our own words; whatever a client invents is
//! `other`, so nobody can grow the number of series.

use crate::metric_table;
use crate::record::{CLIENT_GONE, Record};
use config::Tier;
use metrics::{Counter, Histogram, Label, SharedString, counter, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use protocol::attribution::KINDS;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Buckets for times to first token and whole requests, seconds. An answer that reasons for long may take an hour.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    600.0, 1_200.0, 1_800.0, 3_600.0,
];
/// Buckets for token gaps, seconds.
const GAPS: &[f64] = &[0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5];
/// Buckets for our own part, seconds.
const OVERHEAD: &[f64] = &[0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1];

/// A gauge that was not set for this long is no longer shown.
const GAUGE_IDLE: Duration = Duration::from_secs(300);

/// Installs the recorder of this process.
///
/// # Errors
/// When one is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(SECONDS)?
        .set_buckets_for_metric(Matcher::Full("tidegate_inter_token_seconds".to_owned()), GAPS)?
        .set_buckets_for_metric(Matcher::Full("tidegate_gateway_overhead_seconds".to_owned()), OVERHEAD)?
        // Series of accounts that are no longer among the busiest go away.
        .idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_IDLE))
        .install_recorder()?;
    metric_table::describe();
    connections::turned::known();
    Ok(handle)
}

/// Counts finished requests, on the accounting thread. Each series is looked up once and its handle kept: a
/// request then costs some map look-ups and atomic adds.
pub struct RequestMetrics {
    prometheus: Option<PrometheusHandle>,
    /// Bounded by models × tiers × statuses × reasons of the config and of ours.
    requests: HashMap<(Arc<str>, &'static str, u16, &'static str), Counter>,
    models: HashMap<(Arc<str>, &'static str), ModelSeries>,
    deployments: HashMap<(Arc<str>, &'static str), DeploymentSeries>,
    overhead: Histogram,
    other: Arc<str>,
}

impl std::fmt::Debug for RequestMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestMetrics").field("requests", &self.requests.len()).finish_non_exhaustive()
    }
}

struct ModelSeries {
    duration: Histogram,
    prompt: Counter,
    cached: Counter,
    generated: Counter,
    client_retries: Counter,
}

impl ModelSeries {
    fn new(model: &Arc<str>, tier: &'static str) -> Self {
        let by_tier = || vec![label("model", model), Label::from_static_parts("tier", tier)];
        let tokens = |kind: &'static str| {
            let mut labels = by_tier();
            labels.push(Label::from_static_parts("kind", kind));
            counter!("tidegate_tokens_total", labels)
        };
        ModelSeries {
            duration: histogram!("tidegate_request_duration_seconds", by_tier()),
            prompt: tokens("prompt"),
            cached: tokens("cached"),
            generated: tokens("generated"),
            client_retries: counter!("tidegate_client_retries_total", vec![label("model", model)]),
        }
    }
}

struct DeploymentSeries {
    queue: Histogram,
    first_token: Histogram,
    inter_token: Histogram,
    usage_missing: Counter,
    usage_anomalous: Counter,
    retries: Counter,
    withdrawn: Counter,
}

impl DeploymentSeries {
    fn new(deployment: &Arc<str>, tier: &'static str) -> Self {
        let by_tier = || vec![label("deployment", deployment), Label::from_static_parts("tier", tier)];
        let alone = || vec![label("deployment", deployment)];
        DeploymentSeries {
            queue: histogram!("tidegate_queue_seconds", by_tier()),
            first_token: histogram!("tidegate_time_to_first_token_seconds", by_tier()),
            inter_token: histogram!("tidegate_inter_token_seconds", alone()),
            usage_missing: counter!("tidegate_usage_missing_total", alone()),
            usage_anomalous: counter!("tidegate_usage_anomalous_total", alone()),
            retries: counter!("tidegate_retries_total", alone()),
            withdrawn: counter!("tidegate_withdrawn_total", alone()),
        }
    }
}

impl RequestMetrics {
    /// Counters of the installed recorder; `prometheus` is kept from growing.
    #[must_use]
    pub fn new(prometheus: Option<PrometheusHandle>) -> Self {
        RequestMetrics {
            prometheus,
            requests: HashMap::new(),
            models: HashMap::new(),
            deployments: HashMap::new(),
            overhead: histogram!("tidegate_gateway_overhead_seconds"),
            other: "other".into(),
        }
    }

    /// Counts one.
    pub fn count(&mut self, record: &Record) {
        let model = record.model.clone().unwrap_or_else(|| Arc::clone(&self.other));
        let tier = record.tier.map_or("none", Tier::name);
        let status = if record.client_gone { CLIENT_GONE } else { record.status };
        self.requests
            .entry((Arc::clone(&model), tier, status, record.reason))
            .or_insert_with(|| {
                counter!(
                    "tidegate_requests_total",
                    vec![
                        label("model", &model),
                        Label::from_static_parts("tier", tier),
                        Label::new("status", status.to_string()),
                        Label::from_static_parts("reason", record.reason),
                    ]
                )
            })
            .increment(1);
        let series =
            self.models.entry((Arc::clone(&model), tier)).or_insert_with(|| ModelSeries::new(&model, tier));
        series.duration.record(record.ended.saturating_sub(record.arrived));
        if record.client_retry > 0 {
            series.client_retries.increment(1);
        }
        if let Some(used) = record.used {
            series.prompt.increment(used.prompt);
            series.cached.increment(record.cached.unwrap_or(0));
            series.generated.increment(used.generated);
        }
        if let Some(deployment) = record.deployment.clone() {
            self.served(record, &deployment, tier);
        }
    }

    fn served(&mut self, record: &Record, deployment: &Arc<str>, tier: &'static str) {
        let series = self
            .deployments
            .entry((Arc::clone(deployment), tier))
            .or_insert_with(|| DeploymentSeries::new(deployment, tier));
        series.queue.record(record.queued);
        if let Some(first) = record.first_token {
            series.first_token.record(first.saturating_sub(record.arrived));
            let gaps = record.used.map_or(0, |used| used.generated).saturating_sub(1);
            if gaps > 0 {
                series.inter_token.record(record.ended.saturating_sub(first).as_secs_f64() / gaps as f64);
            }
        }
        if let Some(dispatched) = record.dispatched {
            self.overhead.record(dispatched.saturating_sub(record.arrived).saturating_sub(record.queued));
        }
        series.usage_missing.increment(u64::from(record.usage_missing));
        series.usage_anomalous.increment(u64::from(record.usage_anomalous));
        series.retries.increment(u64::from(record.retries));
        series.withdrawn.increment(u64::from(record.withdrawals));
        for (deployment, replica, kind) in &record.upstream_failures {
            upstream_errors(deployment, *replica, kind).increment(1);
        }
    }

    /// Lets the exporter fold the samples of histograms, which it otherwise keeps one by one until it is read.
    pub fn upkeep(&self) {
        if let Some(prometheus) = &self.prometheus {
            prometheus.run_upkeep();
        }
    }
}

fn label(key: &'static str, value: &Arc<str>) -> Label {
    Label::new(key, SharedString::from(Arc::clone(value)))
}

/// Models of which series stand at zero before their first request: a page of more would be mostly zeros.
const MODELS_AT_ZERO_MAX: usize = 200;
/// What becomes of requests often enough that its first time must not be missed: an increase from nothing is none for
/// Prometheus.
const OUTCOMES_AT_ZERO: [(&str, &str); 9] = [
    ("200", ""),
    ("429", "prompt_tokens_limited"),
    ("429", "uncached_prompt_tokens_limited"),
    ("429", "generated_tokens_limited"),
    ("429", "requests_limited"),
    ("429", "concurrency_limited"),
    ("502", "upstream_error"),
    ("503", "memory"),
    ("504", "upstream_timeout"),
];

/// Makes the series of a model known, at zero where nothing was counted yet. `nth`: its place in the config.
pub fn known_model(nth: usize, model: &config::Model) {
    if nth >= MODELS_AT_ZERO_MAX {
        return;
    }
    let (model, routes) = (&model.name, &model.routes);
    let is_offered = |tier: &Tier| *tier != Tier::Flex || routes.iter().any(|route| route.serves(*tier));
    counter!("tidegate_client_retries_total", vec![label("model", model)]).increment(0);
    for tier in Tier::ALL.into_iter().filter(is_offered).map(Tier::name) {
        let with = |more: Vec<Label>| {
            let of_model = vec![label("model", model), Label::from_static_parts("tier", tier)];
            of_model.into_iter().chain(more).collect::<Vec<_>>()
        };
        for (status, reason) in OUTCOMES_AT_ZERO {
            let outcome =
                vec![Label::from_static_parts("status", status), Label::from_static_parts("reason", reason)];
            counter!("tidegate_requests_total", with(outcome)).increment(0);
        }
        for kind in ["prompt", "cached", "generated"] {
            counter!("tidegate_tokens_total", with(vec![Label::from_static_parts("kind", kind)]))
                .increment(0);
        }
    }
}

/// Makes the series of a deployment and its replicas known.
pub fn known_deployment(deployment: &Arc<str>, replicas: impl Iterator<Item = u16>) {
    let alone = || vec![label("deployment", deployment)];
    for counted in [
        "tidegate_usage_missing_total",
        "tidegate_usage_anomalous_total",
        "tidegate_retries_total",
        "tidegate_withdrawn_total",
    ] {
        counter!(counted, alone()).increment(0);
    }
    for replica in replicas {
        for kind in KINDS {
            upstream_errors(deployment, replica, kind).increment(0);
        }
    }
}

/// Makes the series known that no config names.
pub fn known_process() {
    for meter in limits::Meter::ALL {
        for direction in ["up", "down"] {
            counter!("tidegate_limit_changes_total", "meter" => meter.name(), "direction" => direction)
                .increment(0);
        }
    }
}

fn upstream_errors(deployment: &Arc<str>, replica: u16, kind: &'static str) -> Counter {
    counter!(
        "tidegate_upstream_errors_total",
        vec![
            label("deployment", deployment),
            Label::new("replica", replica.to_string()),
            Label::from_static_parts("kind", kind),
        ]
    )
}

/// A limit moved.
pub fn limit_changed(change: &limits::LimitChange) {
    let direction = if change.to > change.from { "up" } else { "down" };
    counter!("tidegate_limit_changes_total", "meter" => change.meter.name(), "direction" => direction)
        .increment(1);
}
