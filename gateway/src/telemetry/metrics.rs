//! What Prometheus sees: names, labels from the config only, and who feeds them.
//!
//! Finished requests are counted on the accounting thread; gauges are read from the gates when `/metrics` is
//! asked. A label's value is always a name of the config or one of our own words; whatever a client invents is
//! `other`, so nobody can grow the number of series.

use crate::telemetry::record::{CLIENT_GONE, Record};
use config::Tier;
use metrics::{
    Counter, Histogram, Label, SharedString, counter, describe_counter, describe_gauge, describe_histogram,
    histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Buckets for times to first token and whole requests, seconds.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
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
    describe();
    describe_process();
    connections::turned::describe();
    Ok(handle)
}

fn describe() {
    describe_counter!(
        "tidegate_requests_total",
        "Requests by the status that was told and the reason of a refusal."
    );
    describe_histogram!("tidegate_request_duration_seconds", "From head to last byte.");
    describe_histogram!(
        "tidegate_time_to_first_token_seconds",
        "From arrival to the first generated content."
    );
    describe_histogram!("tidegate_inter_token_seconds", "Mean time between content chunks of a stream.");
    describe_histogram!("tidegate_queue_seconds", "Time spent waiting for a place.");
    describe_histogram!("tidegate_gateway_overhead_seconds", "Arrival to dispatch, waiting left out.");
    describe_counter!("tidegate_shed_total", "Requests refused for load.");
    describe_counter!(
        "tidegate_regular_prompts_total",
        "Regular requests offered and started, by length: long prompts take longer than one token may."
    );
    describe_counter!("tidegate_withdrawn_total", "Requests taken back before their first token.");
    describe_counter!("tidegate_tokens_total", "Tokens as settled, by kind.");
    describe_counter!("tidegate_upstream_errors_total", "Failures of replicas before the first token.");
    describe_counter!("tidegate_retries_total", "Requests sent to another replica.");
    describe_counter!("tidegate_client_retries_total", "Requests that the client says are retries.");
    describe_counter!("tidegate_usage_missing_total", "Answers without the engine's usage.");
    describe_counter!(
        "tidegate_usage_anomalous_total",
        "Answers whose usage, as the engine tells it, cannot be."
    );
    describe_counter!("tidegate_limit_changes_total", "Limits that moved, by meter and direction.");
    describe_gauge!("tidegate_limit_tokens_per_minute", "Limits of the busiest accounts, tokens per minute.");
    describe_gauge!(
        "tidegate_used_tokens_per_minute",
        "Use of the busiest accounts in the last minute, tokens."
    );
    describe_gauge!("tidegate_queue_depth", "Requests that wait.");
    describe_gauge!("tidegate_inflight", "Requests on a replica.");
    describe_gauge!("tidegate_concurrency_limit", "Requests that a replica may hold.");
    describe_counter!("tidegate_scrape_failures_total", "Readings of an engine's metrics that failed.");
    describe_gauge!(
        "tidegate_scrape_age_seconds",
        "Time since the last good reading of an engine's metrics."
    );
    describe_gauge!("tidegate_saturation_ratio", "How full a replica is; 1 is full.");
    describe_gauge!(
        "tidegate_replica_up",
        "Whether a replica is in service: 0 once it failed, until it answers again."
    );
    describe_counter!(
        "tidegate_log_dropped_total",
        "Lines of the process's own log that nobody read in time."
    );
    describe_gauge!("tidegate_build_info", "The version that runs; always 1.");
    describe_gauge!(
        "tidegate_config_last_reload_successful",
        "Whether the last change of the config was taken."
    );
    describe_counter!(
        "tidegate_access_log_dropped_total",
        "Requests without a line in the access log and in metrics, because the log was too slow."
    );
}

fn describe_process() {
    describe_counter!(
        "tidegate_admin_refused_total",
        "Connections and requests that the admin listener gave up, by reason."
    );
    describe_gauge!(
        "tidegate_inflight_bytes",
        "Bytes of requests and answers that are held, as `listen.limits.inflight_bytes` bounds them."
    );
    describe_gauge!(
        "tidegate_accounts_in_doubt",
        "Dynamic accounts out of force because a damaged line of their file may have changed them."
    );
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
            counter!(
                "tidegate_upstream_errors_total",
                vec![
                    label("deployment", deployment),
                    Label::new("replica", replica.to_string()),
                    Label::from_static_parts("kind", kind),
                ]
            )
            .increment(1);
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

/// A limit moved.
pub fn limit_changed(change: &limits::LimitChange) {
    let direction = if change.to > change.from { "up" } else { "down" };
    counter!("tidegate_limit_changes_total", "meter" => change.meter.name(), "direction" => direction)
        .increment(1);
}
