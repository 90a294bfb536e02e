//! B5: estimates over blocks of like prompts, in any order, of any account, on any engine.
//!
//! Each of 20 shapes of prompts comes once in each order, as a block of 20 to 500 requests of one of four accounts; the
//! engine's vocabulary, its chat template and the size of its pictures are drawn for each order. Before every request it
//! is estimated, afterwards the engine's count is observed, as the gateway does. After every block all shapes of all
//! accounts are estimated, and those of an account that never sends anything.

mod blocks;
mod shapes;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use blocks::{Figures, Judged};

pub(crate) const PROOF: Proof = Proof {
    id: "B5",
    what: "estimates over blocks of like prompts: blocks beyond 5 % or 2 tokens after 50; those seen before outside of \
           0.67 to 1.5 times and 4 tokens; orders in which new ones are worse than a fresh estimator's",
    goal: "0; 0; 0",
    quick_s: 5,
    full_s: 480,
    needs: "",
    run,
};

/// The texts of the shapes are the same every time; orders, blocks and engines are not.
const TEXTS: u64 = 7;
const ORDERS: u64 = 10_000;
const ORDERS_QUICK: u64 = 150;

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let vocabularies = [
        tiktoken_rs::o200k_base_singleton(),
        tiktoken_rs::cl100k_base_singleton(),
        tiktoken_rs::p50k_base_singleton(),
    ];
    let shapes = shapes::shapes(vocabularies, &mut SmallRng::seed_from_u64(TEXTS));
    let mut figures = Figures::default();
    let (mut orders, mut worse) = (0u64, 0u64);
    for seed in setting.seeds(setting.size(ORDERS_QUICK, ORDERS)) {
        let order = blocks::play(&shapes, seed);
        let [learnt, fresh] = order.unseen.means();
        worse += u64::from(learnt > fresh);
        orders += 1;
        figures.join(&order);
    }
    let Figures { blocks, taught, seen, unseen } = &figures;
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let of = |judged: &Judged| {
        let [mean, _] = judged.means();
        percent(mean)
    };
    let [_, fresh] = unseen.means();
    let single = |judged: &Judged| judged.outside as f64 / judged.estimates.max(1) as f64;
    let whole = [blocks, taught, seen, unseen].iter().all(|judged| judged.estimates > 0);
    Ok(Finding {
        figure: format!(
            "{} of {}, mean error {} (single requests beyond: {:.4} %); {} of {}; {worse} of {orders}, mean error {} \
             against {} of a fresh one (single ones worse than it by more than 5 % or 2 tokens: {})",
            blocks.outside,
            blocks.estimates,
            of(taught),
            single(taught) * 100.0,
            seen.outside,
            seen.estimates,
            of(unseen),
            percent(fresh),
            percent(single(unseen)),
        ),
        goal: PROOF.goal.to_owned(),
        ok: blocks.outside == 0 && seen.outside == 0 && worse == 0 && whole,
        details: json!({
            "orders": orders, "orders_worse_than_fresh": worse, "blocks": shown(blocks),
            "requests_after_50": shown(taught), "seen_before": shown(seen), "new": shown(unseen),
        }),
    })
}

fn shown(judged: &Judged) -> Value {
    let [mean, fresh] = judged.means();
    json!({
        "estimates": judged.estimates, "outside": judged.outside, "mean_error": mean, "mean_error_of_a_fresh_one": fresh,
        "worst_beyond_what_is_allowed": judged.worst, "worst_shape": judged.worst_shape,
    })
}
