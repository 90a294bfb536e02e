//! CORE4: what an hour of virtual time costs, of a small fleet and of a large one with many accounts that have budgets.

use serde_json::json;

use super::{number, play};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};

pub(crate) const PROOF: Proof = Proof {
    id: "CORE4",
    what: "processor time of an hour of 4 replicas at 25/s; of 64 replicas at 400/s with 1,000 accounts that have budgets",
    goal: "≤2 s; ≤60 s",
    quick_s: 4,
    full_s: 90,
    needs: "",
    run: |setting| cost(setting),
};

const SMALL_MAX_S: f64 = 2.0;
const LARGE_MAX_S: f64 = 60.0;
/// What the quick size, on a busy machine of unknown speed, is judged by.
const QUICK_FACTOR: f64 = 6.0;

fn cost(setting: &Setting) -> Result<Finding, Trouble> {
    let small = hour(setting, "small", (4, 25.0), "{ id: a, count: 40, zipf: 1 }")?;
    let budget = "limits: { prompt: 3600000, uncached_prompt: 900000, generated: 360000 }";
    let large = hour(setting, "large", (64, 400.0), &format!("{{ id: a, count: 1000, zipf: 1, {budget} }}"))?;
    let factor = setting.size(QUICK_FACTOR, 1.0);
    let wider = setting.size(format!(" (quick: ×{QUICK_FACTOR})"), String::new());
    Ok(Finding {
        figure: format!("{small:.1} s; {large:.1} s"),
        goal: format!("{}{wider}", PROOF.goal),
        ok: small <= SMALL_MAX_S * factor && large <= LARGE_MAX_S * factor,
        details: json!({ "small_s": small, "large_s": large }),
    })
}

/// Seconds that an hour takes; a drill in virtual time has one thread that never waits.
fn hour(setting: &Setting, name: &str, (replicas, rate): (u32, f64), accounts: &str) -> Result<f64, Trouble> {
    let seconds = setting.size(if replicas > 8 { 60 } else { 600 }, 3600);
    let file = setting.out.join(format!("core4-{name}.yaml"));
    let text = format!(
        "drill: core4-{name}\nduration_s: {seconds}\nfleet: {{ replicas: {replicas} }}\naccounts: [{accounts}]\n\
         traffic: [{{ name: t, accounts: a, rate_per_s: {rate}, priority: 0.3 }}]\n"
    );
    std::fs::write(&file, text)?;
    let figures = play(setting.binaries().tidegate()?, &file, &setting.out, &["--virtual"])?;
    Ok(number(&figures, "/how/took_s") * 3600.0 / f64::from(seconds))
}
