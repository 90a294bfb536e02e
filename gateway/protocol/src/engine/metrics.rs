//! What each engine calls its load: one row of names per engine, and how its series become one reading.
//!
//! | engine | requests | KV use | KV tokens | preemptions | slots, step | names seen in |
//! |---|---|---|---|---|---|---|
//! | vLLM | yes | yes, old name too | `cache_config_info` | yes | – | a run of 0.32 |
//! | SGLang | yes | yes | yes | retractions | – | its source, not run |
//! | TGI | yes | – | – | – | – | its source, not run |
//! | llama.cpp | yes | – | – | – | slots, from `/props` (`told`) | a run |
//! | LMDeploy | yes | yes | – | – | – | its source, not run |
//! | Dynamo | yes, of its frontend | – | – | – | – | its documents, not run |
//! | TensorRT-LLM | yes | yes | blocks × tokens | – | both | its documents, not run |
//! | Ollama, others | – | – | – | – | – | they have no page |
//!
//! An engine writes a series per engine rank, and sometimes a copy per tensor-parallel rank of the same numbers.
//! So series are grouped by model, engine and data-parallel rank; inside a group the largest counts, and groups are
//! added up. The largest is also the total where SGLang writes a series per priority beside the one of all. KV use is the largest of all: a request lands on one rank, and the fullest refuses first. A value that
//! cannot be (not finite, negative, a share over 1) is as good as none.

use std::collections::HashMap;

use shedder::Scrape;

use super::exposition::{PageError, Sample, samples};
use crate::engine::Engine;

/// An engine's names.
#[derive(Debug)]
pub struct Row {
    engine: Engine,
    /// Answers without computing anything; 503 while the engine loads or is dead.
    pub health: &'static str,
    running: &'static [&'static str],
    waiting: &'static [&'static str],
    /// A share, 0 … 1.
    kv_used: &'static [&'static str],
    capacity: &'static [Capacity],
    preemptions: &'static [&'static str],
    slots: &'static [&'static str],
    step_budget: &'static [&'static str],
}

/// How KV memory in tokens is told. Of several ways the first that the page has counts.
#[derive(Debug)]
enum Capacity {
    /// A series whose value it is.
    Value(&'static str),
    /// The product of labels of one series.
    Labels(&'static str, &'static [&'static str]),
    /// Blocks, and tokens per block.
    Blocks(&'static str, &'static str),
}

/// Nothing but a route that any OpenAI-compatible server has.
const PLAIN: Row = Row {
    engine: Engine::Openai,
    health: "/v1/models",
    running: &[],
    waiting: &[],
    kv_used: &[],
    capacity: &[],
    preemptions: &[],
    slots: &[],
    step_budget: &[],
};

static ROWS: [Row; 9] = [
    Row {
        engine: Engine::Vllm,
        health: "/health",
        running: &["vllm:num_requests_running"],
        waiting: &["vllm:num_requests_waiting"],
        kv_used: &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"],
        capacity: &[
            // What hybrid models really hold; blocks × size would be too much there. Only new versions tell it.
            Capacity::Labels("vllm:cache_config_info", &["kv_cache_size_tokens"]),
            Capacity::Labels("vllm:cache_config_info", &["block_size", "num_gpu_blocks"]),
        ],
        preemptions: &["vllm:num_preemptions_total"],
        ..PLAIN
    },
    Row {
        engine: Engine::Sglang,
        health: "/health",
        running: &["sglang:num_running_reqs"],
        waiting: &["sglang:num_queue_reqs"],
        kv_used: &["sglang:token_usage"],
        capacity: &[
            Capacity::Value("sglang:max_total_num_tokens"),
            Capacity::Labels("sglang:cache_config_info", &["page_size", "num_pages"]),
        ],
        preemptions: &["sglang:num_retracted_requests_total"],
        ..PLAIN
    },
    Row {
        engine: Engine::Tgi,
        health: "/health",
        running: &["tgi_batch_current_size"],
        waiting: &["tgi_queue_size"],
        ..PLAIN
    },
    Row {
        engine: Engine::Llamacpp,
        health: "/health",
        running: &["llamacpp:requests_processing"],
        waiting: &["llamacpp:requests_deferred"],
        ..PLAIN
    },
    Row {
        engine: Engine::Lmdeploy,
        health: "/health",
        running: &["lmdeploy:num_requests_running"],
        waiting: &["lmdeploy:num_requests_waiting"],
        kv_used: &["lmdeploy:gpu_cache_usage_perc"],
        ..PLAIN
    },
    Row {
        engine: Engine::Trtllm,
        health: "/health",
        running: &["trtllm_num_requests_running"],
        waiting: &["trtllm_num_requests_waiting"],
        kv_used: &["trtllm_kv_cache_utilization"],
        capacity: &[Capacity::Blocks("trtllm_kv_cache_max_blocks", "trtllm_kv_cache_tokens_per_block")],
        slots: &["trtllm_max_batch_size_static"],
        step_budget: &["trtllm_max_num_tokens_runtime"],
        ..PLAIN
    },
    Row {
        engine: Engine::Dynamo,
        health: "/health",
        // The frontend counts what it has sent to workers as in flight; its own waiting is beside it.
        running: &["dynamo_frontend_inflight_requests"],
        waiting: &["dynamo_frontend_queued_requests"],
        ..PLAIN
    },
    Row { engine: Engine::Ollama, health: "/api/version", ..PLAIN },
    PLAIN,
];

/// The row of `engine`.
pub fn row(engine: Engine) -> &'static Row {
    ROWS.iter().find(|row| row.engine == engine).unwrap_or(&PLAIN)
}

impl Row {
    /// The load that `page` tells. An engine without names of its own, whose operator set a path nevertheless, may
    /// show those of any other: names do not collide. O(page).
    pub fn read(&self, page: &[u8]) -> Result<Scrape, PageError> {
        if self.has_names() {
            return self.read_own(page);
        }
        let own = |row: &Row| match row.read_own(page) {
            Err(PageError::Foreign) => None,
            read => Some(read),
        };
        ROWS.iter().filter(|row| row.has_names()).find_map(own).unwrap_or(Err(PageError::Foreign))
    }

    fn has_names(&self) -> bool {
        !self.running.is_empty()
    }

    fn read_own(&self, page: &[u8]) -> Result<Scrape, PageError> {
        let found: Vec<Sample<'_>> = samples(page, |name| self.names().any(|known| known == name))?.collect();
        let sum = |names: &[&str]| first(names, |name| total(named(&found, name)));
        let (running, waiting) = (sum(self.running), sum(self.waiting));
        let kv_used = first(self.kv_used, |name| most(named(&found, name).filter(|used| used.1 <= 1.0)));
        if running.is_none() && waiting.is_none() && kv_used.is_none() {
            return Err(PageError::Foreign);
        }
        let positive = |value: &f64| *value >= 1.0;
        Ok(Scrape {
            running: running.unwrap_or(0.0) as u32,
            waiting: waiting.unwrap_or(0.0) as u32,
            kv_used,
            kv_capacity_tokens: self.kv_capacity(&found).filter(positive).map(|tokens| tokens as u64),
            preemptions_total: sum(self.preemptions).map(|count| count as u64),
            slots: sum(self.slots).filter(positive).map(|slots| slots as u32),
            step_budget: first(self.step_budget, |name| most(named(&found, name)))
                .filter(positive)
                .map(|tokens| tokens as u32),
        })
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        let lists =
            [self.running, self.waiting, self.kv_used, self.preemptions, self.slots, self.step_budget];
        let of_capacity = self.capacity.iter().flat_map(|capacity| match *capacity {
            Capacity::Value(name) | Capacity::Labels(name, _) => [name, name],
            Capacity::Blocks(blocks, tokens) => [blocks, tokens],
        });
        lists.into_iter().flatten().copied().chain(of_capacity)
    }

    fn kv_capacity(&self, found: &[Sample<'_>]) -> Option<f64> {
        self.capacity.iter().find_map(|capacity| match *capacity {
            Capacity::Value(name) => total(named(found, name)),
            Capacity::Labels(name, labels) => {
                total(found.iter().filter(|s| s.name == name).filter_map(|s| {
                    let factors = labels.iter().map(|label| s.label_number(label));
                    Some((rank(s), factors.product::<Option<f64>>()?))
                }))
            }
            Capacity::Blocks(blocks, tokens) => {
                Some(total(named(found, blocks))? * most(named(found, tokens))?)
            }
        })
    }
}

/// What tells engines apart that count for themselves.
type Rank<'a> = [&'a str; 4];

fn rank<'a>(sample: &Sample<'a>) -> Rank<'a> {
    ["model_name", "engine", "dp_rank", "model"].map(|label| sample.label(label).unwrap_or_default())
}

fn named<'s, 'a>(found: &'s [Sample<'a>], name: &'s str) -> impl Iterator<Item = (Rank<'a>, f64)> + 's {
    found.iter().filter(move |sample| sample.name == name).map(|sample| (rank(sample), sample.value))
}

fn first(names: &[&str], read: impl FnMut(&&str) -> Option<f64>) -> Option<f64> {
    names.iter().find_map(read)
}

fn is_count(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// The sum over ranks of the largest copy.
fn total<'a>(values: impl Iterator<Item = (Rank<'a>, f64)>) -> Option<f64> {
    let mut ranks: HashMap<Rank<'a>, f64> = HashMap::new();
    for (rank, value) in values.filter(|(_, value)| is_count(*value)) {
        let largest = ranks.entry(rank).or_default();
        *largest = largest.max(value);
    }
    (!ranks.is_empty()).then(|| ranks.values().sum())
}

/// The largest of all.
fn most<'a>(values: impl Iterator<Item = (Rank<'a>, f64)>) -> Option<f64> {
    values.map(|(_, value)| value).filter(|value| is_count(*value)).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VLLM: &str = include_str!("fixtures/vllm-0.32.0-metrics.txt");
    const LLAMACPP: &str = include_str!("fixtures/llamacpp-metrics.txt");

    fn read(engine: Engine, page: &str) -> Scrape {
        row(engine).read(page.as_bytes()).unwrap()
    }

    fn with(page: &str, from: &str, to: &str) -> String {
        assert!(page.contains(from), "{from}");
        page.replace(from, to)
    }

    #[test]
    fn the_recorded_page_of_vllm_tells_load_memory_and_preemptions() {
        let page = with(
            VLLM,
            "vllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 0.0",
            "vllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 4.0",
        );
        let page = with(
            &page,
            "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"tiny\"} 0.0",
            "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"tiny\"} 0.25",
        );

        let scrape = read(Engine::Vllm, &page);

        let want = Scrape {
            running: 4,
            waiting: 0,
            kv_used: Some(0.25),
            kv_capacity_tokens: Some(128 * 8192),
            // The `_created` series beside it says 1.79e9.
            preemptions_total: Some(0),
            slots: None,
            step_budget: None,
        };
        assert_eq!(scrape, want);
    }

    #[test]
    fn the_recorded_page_of_llamacpp_tells_load_alone() {
        let page = with(LLAMACPP, "llamacpp:requests_deferred 0", "llamacpp:requests_deferred 3");

        assert_eq!(read(Engine::Llamacpp, &page), Scrape { waiting: 3, ..Scrape::default() });
    }

    #[test]
    fn older_vllm_has_another_name_for_memory_and_only_blocks() {
        let page = "vllm:num_requests_running 1\nvllm:gpu_cache_usage_perc 0.5\n\
                    vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"573\",num_gpu_blocks_override=\"None\"} 1.0";

        let scrape = read(Engine::Vllm, page);

        assert_eq!((scrape.kv_used, scrape.kv_capacity_tokens), (Some(0.5), Some(9168)));
    }

    #[test]
    fn ranks_are_added_up_and_the_fullest_memory_counts() {
        let page = "vllm:num_requests_running{engine=\"0\"} 3\nvllm:num_requests_running{engine=\"1\"} 4\n\
                    vllm:kv_cache_usage_perc{engine=\"0\"} 0.9\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.1\n\
                    vllm:cache_config_info{engine=\"0\",block_size=\"16\",num_gpu_blocks=\"10\"} 1\n\
                    vllm:cache_config_info{engine=\"1\",block_size=\"16\",num_gpu_blocks=\"20\"} 1\n";

        let scrape = read(Engine::Vllm, page);

        assert_eq!((scrape.running, scrape.kv_used, scrape.kv_capacity_tokens), (7, Some(0.9), Some(480)));
    }

    #[test]
    fn copies_of_tensor_parallel_ranks_count_once_and_priorities_not_twice() {
        let page = "sglang:num_running_reqs{dp_rank=\"0\",tp_rank=\"0\",priority=\"\"} 5\n\
                    sglang:num_running_reqs{dp_rank=\"0\",tp_rank=\"0\",priority=\"9\"} 2\n\
                    sglang:num_running_reqs{dp_rank=\"0\",tp_rank=\"1\",priority=\"\"} 5\n\
                    sglang:num_running_reqs{dp_rank=\"1\",tp_rank=\"2\"} 1\n\
                    sglang:token_usage 0.75\nsglang:max_total_num_tokens{tp_rank=\"0\"} 471258.0\n\
                    sglang:max_total_num_tokens{tp_rank=\"1\"} 471258.0\n\
                    sglang:num_retracted_requests_total{tp_rank=\"0\"} 6\nsglang:num_retracted_reqs 1";

        let scrape = read(Engine::Sglang, page);

        assert_eq!((scrape.running, scrape.kv_used), (6, Some(0.75)));
        assert_eq!((scrape.kv_capacity_tokens, scrape.preemptions_total), (Some(471_258), Some(6)));
    }

    #[test]
    fn the_other_engines_are_read_by_their_names() {
        let tgi = read(
            Engine::Tgi,
            "tgi_batch_current_size 8\ntgi_batch_current_max_tokens 2048\ntgi_queue_size 7",
        );
        let lmdeploy = read(
            Engine::Lmdeploy,
            "lmdeploy:num_requests_running{engine=\"0\"} 2\nlmdeploy:num_requests_waiting 1\nlmdeploy:gpu_cache_usage_perc 0.4",
        );
        let trtllm = read(
            Engine::Trtllm,
            "trtllm_num_requests_running 2\ntrtllm_kv_cache_utilization 0.5\ntrtllm_kv_cache_max_blocks 100\n\
             trtllm_kv_cache_tokens_per_block 32\ntrtllm_max_batch_size_static 64\ntrtllm_max_num_tokens_runtime 8192",
        );

        assert_eq!(tgi, Scrape { running: 8, waiting: 7, ..Scrape::default() });
        assert_eq!(lmdeploy, Scrape { running: 2, waiting: 1, kv_used: Some(0.4), ..Scrape::default() });
        assert_eq!(
            (trtllm.kv_capacity_tokens, trtllm.slots, trtllm.step_budget),
            (Some(3200), Some(64), Some(8192))
        );
    }

    #[test]
    fn a_page_is_known_by_its_names_where_the_config_names_no_engine() {
        assert_eq!(read(Engine::Openai, "tgi_queue_size 7").waiting, 7);
        assert_eq!(row(Engine::Openai).read(b"up 1"), Err(PageError::Foreign));
    }

    #[test]
    fn threat_f8_a_page_without_a_known_name_is_no_reading() {
        for page in ["", "<html>busy</html>", "python_info 1", "vllm:num_requests_running NaN", LLAMACPP] {
            assert_eq!(row(Engine::Vllm).read(page.as_bytes()), Err(PageError::Foreign), "{page}");
        }
        assert_eq!(row(Engine::Openai).read(&[0xff]), Err(PageError::NotText));
    }

    #[test]
    fn what_cannot_be_is_unknown() {
        let page = "vllm:num_requests_running -1\nvllm:num_requests_waiting 1e300\nvllm:kv_cache_usage_perc 42\n\
                    vllm:num_preemptions_total +Inf\n\
                    vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"None\",kv_cache_size_tokens=\"0\"} 1";

        let scrape = read(Engine::Vllm, page);

        assert_eq!((scrape.running, scrape.waiting), (0, u32::MAX), "saturated, not wrapped");
        assert_eq!((scrape.kv_used, scrape.kv_capacity_tokens, scrape.preemptions_total), (None, None, None));
    }

    proptest! {
        /// threat_f8: a page out of an engine's own names with any labels and values gives a sane reading or none.
        #[test]
        fn any_page_gives_a_sane_reading_or_none(
            lines in proptest::collection::vec(
                ("(vllm:(num_requests_(running|waiting)|kv_cache_usage_perc|cache_config_info)|sglang:token_usage)",
                 "(\\{(engine|num_gpu_blocks|block_size)=\"(-?[0-9]{1,30}|NaN|inf)\"\\})?",
                 "(-?[0-9]{1,3}(\\.[0-9]+)?(e[0-9]{1,3})?|NaN|[+-]Inf)"), 0..20),
        ) {
            let page: String =
                lines.iter().map(|(name, labels, value)| format!("{name}{labels} {value}\n")).collect();

            for engine in [Engine::Vllm, Engine::Sglang, Engine::Openai] {
                if let Ok(scrape) = row(engine).read(page.as_bytes()) {
                    prop_assert!(scrape.kv_used.is_none_or(|used| (0.0..=1.0).contains(&used)));
                    prop_assert!(scrape.kv_capacity_tokens != Some(0));
                }
            }
        }
    }
}
