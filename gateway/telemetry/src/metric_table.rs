//! Every metric that the process exports: one table, from which `/metrics` is explained and the reference is made.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// The kinds of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It stands for a moment.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

impl Kind {
    /// Its name in the text format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says: the help line.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

/// All of them.
pub const METRICS: &[Metric] = &[
    counter(
        "tidegate_requests_total",
        &["model", "tier", "status", "reason"],
        "Finished requests by the status that the client was told and the reason of a refusal; 499: the client left.",
    ),
    histogram(
        "tidegate_request_duration_seconds",
        &["model", "tier"],
        "Request duration, from head to last byte.",
    ),
    histogram(
        "tidegate_time_to_first_token_seconds",
        &["deployment", "tier"],
        "Time from arrival to the first generated content of a stream.",
    ),
    histogram(
        "tidegate_inter_token_seconds",
        &["deployment"],
        "Mean time between tokens of a stream, one observation per stream.",
    ),
    histogram("tidegate_queue_seconds", &["deployment", "tier"], "Time spent waiting for a slot."),
    histogram(
        "tidegate_gateway_overhead_seconds",
        &[],
        "Time from arrival to dispatch spent in the gateway itself, queueing excluded.",
    ),
    gauge("tidegate_queue_depth", &["deployment", "tier"], "Requests waiting for a slot."),
    gauge("tidegate_inflight", &["deployment", "replica"], "Requests running on a replica."),
    gauge(
        "tidegate_concurrency_limit",
        &["deployment", "replica"],
        "Requests that a replica may run at once, as measured.",
    ),
    gauge("tidegate_saturation_ratio", &["deployment", "replica"], "How full a replica is; 1 is full."),
    gauge(
        "tidegate_replica_up",
        &["deployment", "replica"],
        "0 while a replica is down: it failed, and does not answer yet. 1 otherwise, also where an operator drained it.",
    ),
    gauge(
        "tidegate_replica_state",
        &["deployment", "replica", "state"],
        "1 for the state that a replica is in: serving, draining, drained or down.",
    ),
    counter(
        "tidegate_shed_total",
        &["deployment", "tier", "reason"],
        "Requests refused for load, by reason.",
    ),
    counter(
        "tidegate_regular_prompts_total",
        &["deployment", "length", "what"],
        "Regular requests offered and started, by length: a long prompt takes longer than one token may.",
    ),
    counter(
        "tidegate_withdrawn_total",
        &["deployment"],
        "Requests withdrawn from a replica before their first token, for a request of a higher tier.",
    ),
    counter(
        "tidegate_tokens_total",
        &["model", "tier", "kind"],
        "Tokens as charged: prompt, cached, generated.",
    ),
    gauge(
        "tidegate_limit_tokens_per_minute",
        &["account", "model", "meter"],
        "Token limits in force of the busiest accounts.",
    ),
    gauge(
        "tidegate_used_tokens_per_minute",
        &["account", "model", "meter"],
        "Tokens that the busiest accounts used in the last minute.",
    ),
    counter("tidegate_limit_changes_total", &["meter", "direction"], "Changes of token limits."),
    counter(
        "tidegate_upstream_errors_total",
        &["deployment", "replica", "kind"],
        "Failures of a replica before the first token; busy: its own 429 or 503.",
    ),
    counter(
        "tidegate_retries_total",
        &["deployment"],
        "Requests sent again to another replica or deployment.",
    ),
    counter("tidegate_client_retries_total", &["model"], "Requests that their client says are retries."),
    counter("tidegate_usage_missing_total", &["deployment"], "Responses without engine-reported usage."),
    counter(
        "tidegate_usage_anomalous_total",
        &["deployment"],
        "Responses with implausible engine-reported usage.",
    ),
    counter(
        "tidegate_scrape_failures_total",
        &["deployment", "replica"],
        "Failed readings of an engine's metrics.",
    ),
    gauge(
        "tidegate_scrape_age_seconds",
        &["deployment", "replica"],
        "Time since the last good reading of an engine's metrics.",
    ),
    counter(
        "tidegate_connections_refused_total",
        &["reason"],
        "Connections, HTTP/2 streams and web pages that were refused, or closed before a request, by reason.",
    ),
    counter(
        "tidegate_admin_refused_total",
        &["reason"],
        "Connections and requests that the admin listener gave up, by reason.",
    ),
    gauge(
        "tidegate_inflight_bytes",
        &[],
        "Bytes of requests and responses held, which listen.limits.inflight_bytes bounds.",
    ),
    gauge(
        "tidegate_accounts_in_doubt",
        &[],
        "Dynamic accounts out of force because a damaged line of their file may have changed them.",
    ),
    gauge("tidegate_keys_expiring_soon", &[], "Keys of accounts that will expire within 7 days."),
    counter(
        "tidegate_journal_errors_total",
        &["work"],
        "Failures to write budgets to the disk: append, they would be lost by a restart; rewrite, the file grows.",
    ),
    counter(
        "tidegate_access_log_dropped_total",
        &[],
        "Access log lines lost because the log was too slow or could not be written.",
    ),
    gauge("tidegate_usage_rows", &[], "Rows of usage in memory, which usage.rows_max bounds."),
    gauge("tidegate_usage_bytes", &[], "Bytes of usage on the disk."),
    gauge(
        "tidegate_usage_unwritten_requests",
        &[],
        "Requests whose usage is in memory and not yet on the disk; a killed process loses it.",
    ),
    gauge("tidegate_usage_last_write_seconds", &[], "Time since all usage was on the disk, in seconds."),
    gauge("tidegate_usage_damaged_lines", &[], "Lines of usage on the disk that could not be read."),
    counter("tidegate_usage_write_failures_total", &[], "Failures to write usage to the disk."),
    counter(
        "tidegate_usage_without_row_total",
        &[],
        "Requests summed in a usage row without an account because usage.rows_max was reached.",
    ),
    counter(
        "tidegate_log_dropped_total",
        &[],
        "Lines of the process's own log lost because its queue was full or they could not be written.",
    ),
    gauge("tidegate_config_last_reload_successful", &[], "Whether the last reload of the config succeeded."),
    gauge("tidegate_build_info", &["version"], "The running version; always 1."),
    counter("process_cpu_seconds_total", &[], "Total user and system CPU time spent in seconds."),
    gauge("process_resident_memory_bytes", &[], "Resident memory size in bytes."),
    gauge("process_virtual_memory_bytes", &[], "Virtual memory size in bytes."),
    gauge("process_open_fds", &[], "Number of open file descriptors."),
    gauge("process_max_fds", &[], "Maximum number of open file descriptors."),
    gauge("process_threads", &[], "Number of OS threads in the process."),
    gauge("process_start_time_seconds", &[], "Start time of the process since unix epoch in seconds."),
];

/// Explains all of them to the recorder.
pub(super) fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_the_conventions_and_stand_once() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
