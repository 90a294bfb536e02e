//! `/metrics` with vLLM's names, so that a scraper cannot tell the difference.

use std::fmt::Write;

use crate::model::{Counters, Gauges};
use crate::profile::Profile;

/// What the metrics page shows, taken at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Snapshot {
    pub(crate) gauges: Gauges,
    pub(crate) counters: Counters,
    pub(crate) rejections: u64,
}

/// The page in the Prometheus text format.
pub(crate) fn page(model: &str, profile: &Profile, snapshot: &Snapshot) -> String {
    let model = model.chars().filter(|c| !matches!(c, '"' | '\\' | '\n')).collect();
    let mut page = Page { model, text: String::with_capacity(8192) };
    gauges(&mut page, &snapshot.gauges);
    counters(&mut page, &snapshot.counters);
    let Page { model, mut text } = page;
    let _ = writeln!(
        text,
        "# TYPE vllm:admission_rejections_total counter\n\
         vllm:admission_rejections_total{{model_name=\"{model}\",reason=\"max_num_queued_reqs\"}} {}.0\n\
         # TYPE vllm:cache_config_info gauge\n\
         vllm:cache_config_info{{block_size=\"{}\",cache_dtype=\"auto\",enable_prefix_caching=\"{}\",engine=\"0\",\
         num_gpu_blocks=\"{}\"}} 1.0",
        snapshot.rejections,
        profile.block_tokens,
        if profile.prefix_cache { "True" } else { "False" },
        profile.blocks(),
    );
    text
}

struct Page {
    model: String,
    text: String,
}

impl Page {
    /// One family. `series`: labels with a comma after each, and the value.
    fn family(&mut self, name: &str, kind: &str, help: &str, series: &[(&str, f64)]) {
        let Self { model, text } = self;
        let _ = writeln!(text, "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}");
        for (labels, value) in series {
            let _ = writeln!(text, "vllm:{name}{{engine=\"0\",{labels}model_name=\"{model}\"}} {value:?}");
        }
        if kind != "counter" {
            return;
        }
        // The Python client writes when each counter began: a trap for parsers that go by the beginning of a name.
        let family = name.trim_end_matches("_total");
        let _ = writeln!(text, "# TYPE vllm:{family}_created gauge");
        for (labels, _) in series {
            let _ = writeln!(
                text,
                "vllm:{family}_created{{engine=\"0\",{labels}model_name=\"{model}\"}} 1.79532e+09"
            );
        }
    }
}

fn gauges(page: &mut Page, gauges: &Gauges) {
    let (running, waiting) = (f64::from(gauges.running), f64::from(gauges.waiting));
    page.family("num_requests_running", "gauge", "Requests in model execution batches.", &[("", running)]);
    page.family("num_requests_waiting", "gauge", "Requests waiting to be processed.", &[("", waiting)]);
    let by_reason = [("reason=\"capacity\",", waiting), ("reason=\"deferred\",", 0.0)];
    page.family("num_requests_waiting_by_reason", "gauge", "Waiting requests by reason.", &by_reason);
    page.family(
        "kv_cache_usage_perc",
        "gauge",
        "KV cache usage. 1 means 100 percent.",
        &[("", gauges.kv_usage)],
    );
}

fn counters(page: &mut Page, counters: &Counters) {
    for (name, help, value) in [
        (
            "prefix_cache_queries_total",
            "Prompt tokens looked up in the prefix cache.",
            counters.prompt_tokens,
        ),
        ("prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", counters.cached_tokens),
        ("num_preemptions_total", "Preemptions.", counters.preemptions),
        ("prompt_tokens_total", "Prompt tokens processed.", counters.prompt_tokens),
        ("prompt_tokens_cached_total", "Prompt tokens from a cache.", counters.cached_tokens),
        ("generation_tokens_total", "Generation tokens processed.", counters.generated_tokens),
    ] {
        page.family(name, "counter", help, &[("", value as f64)]);
    }
    let fresh = (counters.prompt_tokens - counters.cached_tokens) as f64;
    page.family(
        "prompt_tokens_by_source_total",
        "counter",
        "Prompt tokens by source.",
        &[
            ("source=\"local_compute\",", fresh),
            ("source=\"local_cache_hit\",", counters.cached_tokens as f64),
            ("source=\"external_kv_transfer\",", 0.0),
        ],
    );
    page.family(
        "request_success_total",
        "counter",
        "Requests that ended.",
        &[
            ("finished_reason=\"stop\",", 0.0),
            ("finished_reason=\"length\",", counters.finished as f64),
            ("finished_reason=\"abort\",", 0.0),
        ],
    );
}
