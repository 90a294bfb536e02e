//! C9: what exact counting costs beyond the crate that counts, and how fast an estimate is.

use std::hint::black_box;
use std::time::Duration;

use serde_json::json;
use tokenizer::{Counter, Estimator, Features, Vocabulary, Weights, estimate, scan};

use crate::harness::contest::words;
use crate::harness::proof::{Finding, Proof, RatioBound, Setting, Trouble, median};
use engine::clock;

pub(crate) const PROOF: Proof = Proof {
    id: "C9",
    what: "exact count against tiktoken-rs itself; the estimate over 400 KB",
    goal: "≤1.1; ≥1 GB/s",
    quick_s: 3,
    full_s: 15,
    needs: "",
    run,
};

const BOUND: RatioBound = RatioBound { full: 1.1, quick: 1.5 };
const GB_PER_S_MIN: f64 = 1.0;
/// Under a debug-quick run on a busy machine.
const GB_PER_S_MIN_QUICK: f64 = 0.25;
const EXACT_BYTES: usize = 4_096;
const ESTIMATE_BYTES: usize = 400_000;

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let counter = Counter::new(Vocabulary::O200kBase).map_err(|e| Trouble::Unexpected(e.to_string()))?;
    let direct = tiktoken_rs::o200k_base().map_err(|e| Trouble::Unexpected(e.to_string()))?;
    let text = words(EXACT_BYTES, 9);
    if counter.count(&text) as usize != direct.count_ordinary(&text) {
        return Err(Trouble::Unexpected("the counts differ".to_owned()));
    }
    let rounds = setting.size(20, 60);
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let our = time(200, || u64::from(counter.count(black_box(&text))));
        let their = time(200, || direct.count_ordinary(black_box(&text)) as u64);
        ours.push(our);
        theirs.push(their);
        ratios.push(our / their);
    }
    let long = words(ESTIMATE_BYTES, 10);
    let estimator = Estimator::new(Weights::default());
    let speeds: Vec<f64> = (0..rounds)
        .map(|_| ESTIMATE_BYTES as f64 / 1e3 / time(50, || estimated(&estimator, black_box(&long))))
        .collect();
    let (ratio, speed) = (median(&ratios), median(&speeds));
    let (goal, exact_ok) = BOUND.judge(setting.quick, ratio);
    let speed_min = setting.size(GB_PER_S_MIN_QUICK, GB_PER_S_MIN);
    let wider = setting.size(format!(" (quick: ≥{GB_PER_S_MIN_QUICK})"), String::new());
    Ok(Finding {
        figure: format!("{ratio:.3}× ({:.0} µs for 4 KB); {speed:.2} GB/s", median(&ours)),
        goal: format!("{goal}; ≥{GB_PER_S_MIN} GB/s{wider}"),
        ok: exact_ok && speed >= speed_min,
        details: json!({ "ratio": ratio, "ours_us": median(&ours), "direct_us": median(&theirs), "estimate_gb_per_s": speed }),
    })
}

fn estimated(estimator: &Estimator, text: &str) -> u64 {
    let features = Features {
        text_bytes: text.len() as u64,
        text: Some(scan(text.as_bytes())),
        messages: 1,
        ..Features::default()
    };
    u64::from(estimate(estimator, None, &features).tokens)
}

/// Microseconds for one call.
fn time(calls: u32, mut work: impl FnMut() -> u64) -> f64 {
    let began = clock::now();
    for _ in 0..calls {
        black_box(work());
    }
    let took: Duration = clock::now() - began;
    took.as_secs_f64() * 1e6 / f64::from(calls)
}
