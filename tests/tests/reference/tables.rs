//! Every field of the access log and every metric, as rows of text; `tests/handbook` compares them with what a gateway writes.

/// One thing that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Its name.
    pub(super) name: &'static str,
    /// The shape of a value; of a metric `counter`, `gauge`, `histogram`.
    pub(super) shape: &'static str,
    /// The unit of a field, empty where it has none; the labels of a metric.
    pub(super) unit: String,
    /// What it says.
    pub(super) about: &'static str,
}

fn rows(table: &[(&'static str, &'static str, &'static str, &'static str)]) -> Vec<Row> {
    let row = |&(name, shape, unit, about): &(&'static str, &'static str, &'static str, &'static str)| Row {
        name,
        shape,
        unit: unit.to_owned(),
        about,
    };
    table.iter().map(row).collect()
}

/// The fields of a line of the access log, in their order.
pub(super) fn access_log() -> Vec<Row> {
    rows(FIELDS)
}

/// The fields of a line of the process's own log.
pub(super) fn process_log() -> Vec<Row> {
    Vec::new()
}

/// The metrics.
pub(super) fn metrics() -> Vec<Row> {
    rows(METRICS)
}

const FIELDS: &[(&str, &str, &str, &str)] = &[
    ("time", "text", "", "When the header of the request was read."),
    ("msg", "text", "", "Tells the line from those of the process's own log."),
    ("request_id", "text", "", "The gateway's id, as in `x-request-id` of the answer."),
    (
        "client_address",
        "text?",
        "",
        "The client's, as a listed proxy tells it, cut as `log.client_address` says.",
    ),
    ("client_request_id", "text?", "", "The client's own `x-request-id`."),
    ("traceparent", "text?", "", "The client's, where it is well formed."),
    ("account", "text?", "", "The id of the account; `null` where the key was not known."),
    ("model", "text?", "", "The model's own name, also where an alias was asked for."),
    ("api", "text?", "", "The API that was asked, by its path."),
    ("tier", "text?", "", "The tier in which the request was offered to a deployment."),
    ("stream", "flag", "", "Whether a stream was asked for."),
    ("status", "number", "", "What the client was told. A stream that broke after its header has 200."),
    ("reason", "text?", "", "The [reason](refusals.md) of a refusal."),
    (
        "deployment",
        "text?",
        "",
        "Where it was served; without a replica, where it waited or was refused for load.",
    ),
    ("replica", "number?", "", "The replica that served it."),
    ("body_bytes", "number", "bytes", "The size of the request's body."),
    (
        "weighed_prompt_tokens",
        "number",
        "tokens",
        "The prompt as the gateway weighed it before it was served.",
    ),
    ("prompt_tokens", "number?", "tokens", "The prompt as it was charged."),
    ("cached_tokens", "number?", "tokens", "Prompt tokens that the model server had cached, as it says."),
    ("uncached_tokens", "number?", "tokens", "Prompt tokens that were charged as not cached."),
    ("generated_tokens", "number?", "tokens", "Generated tokens as they were charged."),
    ("usage_missing", "flag", "", "The model server told no usage, or none that can be."),
    ("queue_ms", "decimal", "ms", "Time in the gateway's queue, all waits summed."),
    ("ttft_ms", "decimal?", "ms", "From arrival to the first token; `null` where none came."),
    ("total_ms", "decimal", "ms", "From arrival to the end."),
    ("retries", "number", "", "Attempts after the first."),
    ("withdrawals", "number", "", "Times that it was taken back from a replica for a priority request."),
    ("client_retry", "number", "", "How often the client says that it had tried before."),
    ("client_gone", "flag", "", "The client left before the end."),
];

const METRICS: &[(&str, &str, &str, &str)] = &[
    (
        "tidegate_requests_total",
        "counter",
        "model, tier, status, reason",
        "Requests by the status that was told and the reason of a refusal.",
    ),
    ("tidegate_request_duration_seconds", "histogram", "model, tier", "From head to last byte."),
    (
        "tidegate_time_to_first_token_seconds",
        "histogram",
        "deployment, tier",
        "From arrival to the first generated content.",
    ),
    (
        "tidegate_inter_token_seconds",
        "histogram",
        "deployment",
        "Mean time between content chunks of a stream.",
    ),
    ("tidegate_queue_seconds", "histogram", "deployment, tier", "Time spent waiting for a place."),
    ("tidegate_gateway_overhead_seconds", "histogram", "", "Arrival to dispatch, waiting left out."),
    ("tidegate_shed_total", "counter", "deployment, tier, reason", "Requests refused for load."),
    (
        "tidegate_regular_prompts_total",
        "counter",
        "deployment, length, what",
        "Regular requests offered and started, by length: long prompts take longer than one token may.",
    ),
    ("tidegate_withdrawn_total", "counter", "deployment", "Requests taken back before their first token."),
    ("tidegate_tokens_total", "counter", "model, tier, kind", "Tokens as settled, by kind."),
    (
        "tidegate_upstream_errors_total",
        "counter",
        "deployment, replica, kind",
        "Failures of replicas before the first token.",
    ),
    ("tidegate_retries_total", "counter", "deployment", "Requests sent to another replica."),
    ("tidegate_client_retries_total", "counter", "model", "Requests that the client says are retries."),
    ("tidegate_usage_missing_total", "counter", "deployment", "Answers without the engine's usage."),
    (
        "tidegate_usage_anomalous_total",
        "counter",
        "deployment",
        "Answers whose usage, as the engine tells it, cannot be.",
    ),
    (
        "tidegate_limit_changes_total",
        "counter",
        "meter, direction",
        "Limits that moved, by meter and direction.",
    ),
    (
        "tidegate_limit_tokens_per_minute",
        "gauge",
        "account, model, meter",
        "Limits of the busiest accounts, tokens per minute.",
    ),
    (
        "tidegate_used_tokens_per_minute",
        "gauge",
        "account, model, meter",
        "Use of the busiest accounts in the last minute, tokens.",
    ),
    ("tidegate_queue_depth", "gauge", "deployment, tier", "Requests that wait."),
    ("tidegate_inflight", "gauge", "deployment, replica", "Requests on a replica."),
    ("tidegate_concurrency_limit", "gauge", "deployment, replica", "Requests that a replica may hold."),
    (
        "tidegate_scrape_failures_total",
        "counter",
        "deployment, replica",
        "Readings of an engine's metrics that failed.",
    ),
    (
        "tidegate_scrape_age_seconds",
        "gauge",
        "deployment, replica",
        "Time since the last good reading of an engine's metrics.",
    ),
    ("tidegate_saturation_ratio", "gauge", "deployment, replica", "How full a replica is; 1 is full."),
    (
        "tidegate_replica_up",
        "gauge",
        "deployment, replica",
        "Whether a replica is in service: 0 once it failed, until it answers again.",
    ),
    ("tidegate_log_dropped_total", "counter", "", "Lines of the process's own log that nobody read in time."),
    ("tidegate_build_info", "gauge", "version", "The version that runs; always 1."),
    (
        "tidegate_config_last_reload_successful",
        "gauge",
        "",
        "Whether the last change of the config was taken.",
    ),
    (
        "tidegate_access_log_dropped_total",
        "counter",
        "",
        "Requests without a line in the access log and in metrics, because the log was too slow.",
    ),
    (
        "tidegate_admin_refused_total",
        "counter",
        "reason",
        "Connections and requests that the admin listener gave up, by reason.",
    ),
    (
        "tidegate_inflight_bytes",
        "gauge",
        "",
        "Bytes of requests and answers that are held, as `listen.limits.inflight_bytes` bounds them.",
    ),
    (
        "tidegate_accounts_in_doubt",
        "gauge",
        "",
        "Dynamic accounts out of force because a damaged line of their file may have changed them.",
    ),
    (
        "tidegate_journal_errors_total",
        "counter",
        "work",
        "Failures to write budgets to the disk: append, they would be lost by a restart; rewrite, the file grows.",
    ),
    (
        "tidegate_connections_refused_total",
        "counter",
        "reason",
        "Connections, HTTP/2 streams and web pages that were refused, or closed before a request, by reason.",
    ),
];
