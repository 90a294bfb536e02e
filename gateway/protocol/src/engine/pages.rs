//! What engines tell as JSON beside their metrics: what only a restart changes, and the load where metrics are off.
//!
//! | engine | what does not change | from | load without metrics | seen in |
//! |---|---|---|---|---|
//! | vLLM | context window by model | `/v1/models` | – (`/load` counts only with a flag, and is 0 without) | a run of 0.32 |
//! | SGLang | context window by model; places | `/v1/models`, `/v1/loads` | `/v1/loads` | its source, not run |
//! | TGI | context window, places, KV tokens | `/info` | – (its metrics are always on) | its source, not run |
//! | llama.cpp | context window of a slot, slots | `/props` | `/slots` | a run |
//! | Ollama | context window by loaded model | `/api/ps` | – | its source, not run |
//! | others | context window, where it is told | `/v1/models` | – | – |
//!
//! Pages are untrusted: typed, bounded by the client, and a number that cannot be is as good as none.

use serde::Deserialize;
use shedder::Scrape;

use crate::engine::Engine;
use std::collections::BTreeMap;

/// Models of which the window is remembered. A server has a handful; adapters count too.
pub const MODELS_MAX: usize = 256;

/// Context windows, tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    /// Of all models, where the engine says one number.
    pub all: Option<u32>,
    /// By the served model's name. At most [`MODELS_MAX`].
    pub by_model: BTreeMap<Box<str>, u32>,
}

impl Windows {
    /// The window of a served model; `None`: nothing told.
    #[must_use]
    pub fn of(&self, served_model: &str) -> Option<u32> {
        self.by_model.get(served_model).copied().or(self.all)
    }
}

/// Largest context window that is believed, tokens.
const WINDOW_MAX: u64 = 1_000_000_000;

/// What an engine told of what does not change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Requests that it computes at once.
    pub slots: Option<u32>,
    /// KV memory, tokens.
    pub kv_tokens: Option<u64>,
    /// Context windows.
    pub windows: Windows,
}

/// A path, and how its page is read.
type Page<T> = (&'static str, fn(&[u8]) -> Option<T>);

/// Pages of what does not change, each with its reader.
pub fn pages(engine: Engine) -> &'static [Page<Told>] {
    match engine {
        Engine::Sglang => &[("/v1/models", models), (LOADS, places_of_loads)],
        Engine::Tgi => &[("/info", info)],
        Engine::Llamacpp => &[("/props", props)],
        Engine::Ollama => &[("/api/ps", ps)],
        Engine::Vllm | Engine::Lmdeploy | Engine::Trtllm | Engine::Dynamo | Engine::Openai => {
            &[("/v1/models", models)]
        }
    }
}

/// The page that tells the load where there are no metrics.
pub fn load_page(engine: Engine) -> Option<Page<Scrape>> {
    match engine {
        Engine::Sglang => Some((LOADS, loads)),
        Engine::Llamacpp => Some(("/slots", slots)),
        _ => None,
    }
}

const LOADS: &str = "/v1/loads?include=core";

fn window(tokens: Option<u64>) -> Option<u32> {
    tokens.filter(|tokens| (1..=WINDOW_MAX).contains(tokens)).map(|tokens| tokens as u32)
}

fn positive(count: Option<u64>) -> Option<u32> {
    count.filter(|count| *count > 0).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

fn by_model<'a>(models: impl Iterator<Item = (&'a str, Option<u64>)>) -> Told {
    let known = models.filter_map(|(name, tokens)| Some((name.into(), window(tokens)?)));
    Told { windows: Windows { all: None, by_model: known.take(MODELS_MAX).collect() }, ..Told::default() }
}

fn models(page: &[u8]) -> Option<Told> {
    #[derive(Deserialize)]
    struct Models {
        data: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        id: String,
        max_model_len: Option<u64>,
    }
    let models: Models = serde_json::from_slice(page).ok()?;
    Some(by_model(models.data.iter().map(|model| (&*model.id, model.max_model_len))))
}

fn props(page: &[u8]) -> Option<Told> {
    #[derive(Deserialize)]
    struct Props {
        total_slots: Option<u64>,
        default_generation_settings: Option<Settings>,
    }
    #[derive(Deserialize)]
    struct Settings {
        n_ctx: Option<u64>,
    }
    let props: Props = serde_json::from_slice(page).ok()?;
    // Of one slot: the memory is divided among them.
    let all = window(props.default_generation_settings.and_then(|settings| settings.n_ctx));
    Some(Told {
        slots: positive(props.total_slots),
        windows: Windows { all, ..Windows::default() },
        kv_tokens: None,
    })
}

fn info(page: &[u8]) -> Option<Told> {
    #[derive(Deserialize)]
    struct Info {
        max_total_tokens: Option<u64>,
        max_batch_total_tokens: Option<u64>,
        max_concurrent_requests: Option<u64>,
    }
    let info: Info = serde_json::from_slice(page).ok()?;
    Some(Told {
        // Above it TGI answers 429.
        slots: positive(info.max_concurrent_requests),
        kv_tokens: info.max_batch_total_tokens.filter(|tokens| *tokens > 0),
        windows: Windows { all: window(info.max_total_tokens), ..Windows::default() },
    })
}

fn ps(page: &[u8]) -> Option<Told> {
    #[derive(Deserialize)]
    struct Ps {
        models: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        name: String,
        context_length: Option<u64>,
    }
    let ps: Ps = serde_json::from_slice(page).ok()?;
    Some(by_model(ps.models.iter().map(|model| (&*model.name, model.context_length))))
}

#[derive(Deserialize)]
struct Loads {
    loads: Vec<Load>,
}

/// One data-parallel rank.
#[derive(Deserialize)]
struct Load {
    num_running_reqs: Option<u64>,
    num_waiting_reqs: Option<u64>,
    token_usage: Option<f64>,
    max_total_num_tokens: Option<u64>,
    max_running_requests: Option<u64>,
}

fn sum(loads: &Loads, of: impl Fn(&Load) -> Option<u64>) -> Option<u64> {
    loads.loads.iter().filter_map(of).reduce(u64::saturating_add)
}

fn loads(page: &[u8]) -> Option<Scrape> {
    let loads: Loads = serde_json::from_slice(page).ok()?;
    let count = |of: fn(&Load) -> Option<u64>| sum(&loads, of).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let (running, waiting) = (count(|load| load.num_running_reqs), count(|load| load.num_waiting_reqs));
    let used = loads.loads.iter().filter_map(|load| load.token_usage);
    Some(Scrape {
        running: running.or(waiting.map(|_| 0))?,
        waiting: waiting.unwrap_or(0),
        // A request lands on one rank, and the fullest refuses first.
        kv_used: used.filter(|used| (0.0..=1.0).contains(used)).max_by(f64::total_cmp),
        kv_capacity_tokens: sum(&loads, |load| load.max_total_num_tokens).filter(|tokens| *tokens > 0),
        slots: positive(sum(&loads, |load| load.max_running_requests)),
        ..Scrape::default()
    })
}

fn places_of_loads(page: &[u8]) -> Option<Told> {
    loads(page).map(|load| Told { slots: load.slots, ..Told::default() })
}

fn slots(page: &[u8]) -> Option<Scrape> {
    #[derive(Deserialize)]
    struct Slot {
        is_processing: bool,
    }
    let slots: Vec<Slot> = serde_json::from_slice(page).ok()?;
    if slots.is_empty() {
        return None;
    }
    let busy = slots.iter().filter(|slot| slot.is_processing).count();
    Some(Scrape { running: busy as u32, slots: positive(Some(slots.len() as u64)), ..Scrape::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VLLM_MODELS: &[u8] = include_bytes!("fixtures/vllm-0.32.0-models.json");
    const LLAMACPP_PROPS: &[u8] = include_bytes!("fixtures/llamacpp-props.json");
    const LLAMACPP_SLOTS: &[u8] = include_bytes!("fixtures/llamacpp-slots.json");
    const LLAMACPP_MODELS: &[u8] = include_bytes!("fixtures/llamacpp-models.json");

    fn all(tokens: u32) -> Windows {
        Windows { all: Some(tokens), ..Windows::default() }
    }

    #[test]
    fn the_recorded_pages_of_llamacpp_tell_slots_window_and_load() {
        // Started with `-c 4096 -np 2`: a slot has half of it.
        assert_eq!(props(LLAMACPP_PROPS), Some(Told { slots: Some(2), kv_tokens: None, windows: all(2048) }));
        assert_eq!(slots(LLAMACPP_SLOTS), Some(Scrape { running: 1, slots: Some(2), ..Scrape::default() }));
        assert_eq!(
            models(LLAMACPP_MODELS),
            Some(Told::default()),
            "the window it was trained with is another"
        );
    }

    #[test]
    fn vllm_tells_the_window_of_each_model() {
        let told = models(VLLM_MODELS).unwrap();
        assert_eq!(told.windows.by_model.get("tiny"), Some(&1024));
    }

    #[test]
    fn the_other_engines_are_read_by_their_names() {
        let tgi = br#"{"model_id":"m","max_concurrent_requests":128,"max_input_tokens":4095,"max_total_tokens":4096,"max_batch_total_tokens":16000}"#;
        assert_eq!(info(tgi), Some(Told { slots: Some(128), kv_tokens: Some(16_000), windows: all(4096) }));
        let ollama = br#"{"models":[{"name":"llama3.2:3b","model":"llama3.2:3b","size_vram":1,"context_length":8192},{"name":"old"}]}"#;
        assert_eq!(
            ps(ollama).unwrap().windows.by_model.into_iter().collect::<Vec<_>>(),
            [("llama3.2:3b".into(), 8192)]
        );
    }

    #[test]
    fn the_ranks_of_sglang_are_added_up_and_the_fullest_counts() {
        let page = br#"{"timestamp":"t","loads":[
            {"dp_rank":0,"num_running_reqs":3,"num_waiting_reqs":1,"token_usage":0.25,"max_total_num_tokens":1000,"max_running_requests":16},
            {"dp_rank":1,"num_running_reqs":2,"num_waiting_reqs":0,"token_usage":0.75,"max_total_num_tokens":1000,"max_running_requests":16}]}"#;
        let want = Scrape {
            running: 5,
            waiting: 1,
            kv_used: Some(0.75),
            kv_capacity_tokens: Some(2000),
            slots: Some(32),
            ..Scrape::default()
        };
        assert_eq!(loads(page), Some(want));
        assert_eq!(places_of_loads(page).unwrap().slots, Some(32));
    }

    #[test]
    fn threat_f8_a_page_that_is_something_else_tells_nothing() {
        for page in [&b""[..], b"<html>", b"[]", b"{}", b"{\"loads\":[]}", b"{\"data\":3}", b"[{\"id\":1}]"] {
            for read in [models, info, props, ps, places_of_loads] {
                assert!(read(page).is_none_or(|told| told == Told::default()), "{page:?}");
            }
            assert_eq!((loads(page), slots(page)), (None, None), "{page:?}");
        }
        let absurd = br#"{"total_slots":99999999999,"default_generation_settings":{"n_ctx":0}}"#;
        assert_eq!(props(absurd), Some(Told { slots: Some(u32::MAX), ..Told::default() }));
        assert_eq!(
            models(br#"{"data":[{"id":"m","max_model_len":18446744073709551615}]}"#),
            Some(Told::default())
        );
    }
}
