//! Proofs of drills: that virtual time says what real time does, on an operator's own config too, and what it costs.

pub(crate) mod agree;
pub(crate) mod calibrated;
pub(crate) mod configured;
pub(crate) mod cost;
pub(crate) mod handover;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::proof::Trouble;

/// What `tidegate drill` says of a scenario, played as `more` asks for.
fn play<S: AsRef<OsStr>>(executable: &Path, file: &Path, out: &Path, more: &[S]) -> Result<Value, Trouble> {
    let mut command = Command::new(executable);
    command.arg("drill").arg(file).args(["--output", "json"]).arg("--out").arg(out).args(more);
    let output = command.stdin(Stdio::null()).output()?;
    serde_json::from_slice(&output.stdout)
        .map_err(|_| Trouble::Unexpected(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn number(figures: &Value, path: &str) -> f64 {
    figures.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// By how many points the tiers' attainment differs at most, and by how many percent the goodput.
fn apart(expected: &Value, found: &Value) -> (f64, f64) {
    apart_on_average(&[(expected.clone(), found.clone())])
}

/// The same of several pairs of one scenario with other seeds: what one run is off by chance the next is off the other way.
fn apart_on_average(pairs: &[(Value, Value)]) -> (f64, f64) {
    let mean = |of: &dyn Fn(&Value) -> f64, found: bool| {
        let sum: f64 = pairs.iter().map(|pair| of(if found { &pair.1 } else { &pair.0 })).sum();
        sum / pairs.len().max(1) as f64
    };
    let off = |tier: usize| {
        let attained = move |figures: &Value| number(figures, &format!("/tiers/{tier}/attainment"));
        100.0 * (mean(&attained, false) - mean(&attained, true)).abs()
    };
    let goodput = |figures: &Value| number(figures, "/goodput_per_s");
    let expected = mean(&goodput, false);
    (off(0).max(off(1)), 100.0 * (expected - mean(&goodput, true)).abs() / expected)
}

fn brief(figures: &Value) -> Value {
    json!({ "tiers": figures.get("tiers"), "goodput_per_s": figures.get("goodput_per_s"), "how": figures.get("how") })
}
