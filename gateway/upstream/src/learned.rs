//! What the engines of a deployment tell about themselves that does not change while they run.
//!
//! The context window: vLLM and SGLang say `max_model_len` for each model that they serve, llama.cpp and TGI one
//! for all. It is used where the config says none. Replicas should agree; where they do not, the largest counts,
//! because a prompt is refused as too long only where nobody could take it.

use arc_swap::ArcSwap;
use protocol::engine::pages::{MODELS_MAX, Windows};
use std::sync::Arc;

/// What is known so far; cheap to read.
#[derive(Debug, Default)]
pub struct Learned(ArcSwap<Windows>);

impl Learned {
    /// The context window of a served model; `None`: no replica told. O(log models).
    #[must_use]
    pub fn context(&self, served_model: &str) -> Option<u32> {
        self.0.load().of(served_model)
    }

    /// A replica told `windows`. Allocates only when they are news.
    pub fn windows(&self, windows: &Windows) {
        let known = self.0.load();
        let larger = |old: Option<u32>, new: u32| old.is_none_or(|old| new > old);
        let news = windows.all.is_some_and(|all| larger(known.all, all))
            || windows
                .by_model
                .iter()
                .any(|(name, window)| larger(known.by_model.get(name).copied(), *window));
        if !news {
            return;
        }
        let mut merged = Windows::clone(&known);
        merged.all = merged.all.max(windows.all);
        for (name, window) in &windows.by_model {
            if merged.by_model.len() < MODELS_MAX || merged.by_model.contains_key(name) {
                let own = merged.by_model.entry(name.clone()).or_default();
                *own = (*own).max(*window);
            }
        }
        self.0.store(Arc::new(merged));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(all: Option<u32>, models: &[(&str, u32)]) -> Windows {
        Windows { all, by_model: models.iter().map(|(name, window)| ((*name).into(), *window)).collect() }
    }

    #[test]
    fn the_largest_window_that_any_replica_told_counts() {
        let learned = Learned::default();
        assert_eq!(learned.context("m"), None, "nobody told yet: nothing is refused as too long");

        learned.windows(&windows(None, &[("m", 4096), ("n", 100)]));
        learned.windows(&windows(None, &[("m", 8192)]));
        learned.windows(&windows(None, &[("m", 2048)]));

        assert_eq!(
            (learned.context("m"), learned.context("n"), learned.context("x")),
            (Some(8192), Some(100), None)
        );
        learned.windows(&windows(Some(512), &[]));
        assert_eq!(learned.context("x"), Some(512));
    }

    #[test]
    fn an_engine_that_names_models_without_end_fills_no_memory() {
        let learned = Learned::default();
        for n in 0..2_000 {
            learned.windows(&windows(None, &[(&format!("m{n}"), 10)]));
        }
        assert_eq!(learned.0.load().by_model.len(), MODELS_MAX);
    }
}
