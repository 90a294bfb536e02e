//! What engines say of themselves: metrics, slots, context windows.

use protocol::engine::{Engine, metrics, pages};

const ENGINES: [Engine; 9] = [
    Engine::Vllm,
    Engine::Sglang,
    Engine::Tgi,
    Engine::Llamacpp,
    Engine::Ollama,
    Engine::Lmdeploy,
    Engine::Trtllm,
    Engine::Dynamo,
    Engine::Openai,
];

/// One page, read as that of each engine.
pub fn all(bytes: &[u8]) {
    for engine in ENGINES {
        if let Ok(scrape) = metrics::row(engine).read(bytes) {
            assert!(scrape.kv_used.is_none_or(|used| (0.0..=1.0).contains(&used)), "{scrape:?}");
            assert!(scrape.slots != Some(0) && scrape.step_budget != Some(0), "{scrape:?}");
        }
        for (path, read) in pages::pages(engine) {
            if let Some(told) = read(bytes) {
                assert!(told.windows.by_model.len() <= pages::MODELS_MAX, "{path}");
            }
        }
        if let Some((_, read)) = pages::load_page(engine) {
            let _ = read(bytes);
        }
    }
}
