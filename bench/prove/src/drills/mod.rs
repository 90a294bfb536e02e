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
    let attained = |figures: &Value, tier: usize| number(figures, &format!("/tiers/{tier}/attainment"));
    let off = |tier| 100.0 * (attained(expected, tier) - attained(found, tier)).abs();
    let goodput = |figures: &Value| number(figures, "/goodput_per_s");
    let percent = 100.0 * (goodput(expected) - goodput(found)).abs() / goodput(expected);
    (off(0).max(off(1)), percent)
}

fn brief(figures: &Value) -> Value {
    json!({ "tiers": figures.get("tiers"), "goodput_per_s": figures.get("goodput_per_s"), "how": figures.get("how") })
}
