//! Drills on the running config, in virtual time, started through the admin API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What can be drilled, and the last drills.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Drills {
    /// Whether one can be started at all.
    pub available: bool,
    /// Why not; null: one can.
    pub words: Option<String>,
    /// The longest time that one may take, seconds.
    pub seconds_max: u64,
    /// Scenarios that are made for the config in force.
    pub scenarios: Vec<DrillScenario>,
    /// The newest first, at most five; one that runs is among them.
    pub drills: Vec<DrillRun>,
}

/// A scenario that is made for the config in force.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DrillScenario {
    /// Its name, to start it by.
    pub name: Cow<'static, str>,
    /// For people.
    pub title: Cow<'static, str>,
    /// What it shows.
    pub shows: Cow<'static, str>,
}

/// One drill.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DrillRun {
    /// Its number.
    pub id: u64,
    /// Its scenario's name; `own`: the text came with it.
    pub scenario: String,
    /// For people.
    pub title: String,
    /// The model that is asked for; null: the scenario says.
    pub model: Option<String>,
    /// Whether its engines are as measured here.
    pub calibrated: bool,
    /// `running`, `passed`, `failed` (a condition did not hold), `broken` (it did not take place), `stopped` by an operator, or
    /// `timed_out`.
    pub state: Cow<'static, str>,
    /// In a sentence; of a broken one what it said.
    pub words: String,
    /// When it began, seconds since the epoch.
    pub started: f64,
    /// When it was over; null: it runs.
    pub ended: Option<f64>,
    /// How long it took, or has taken so far.
    pub took_seconds: f64,
    /// The first digits of the digest of the token of whoever started it.
    pub by: String,
    /// Whether there is a report.
    pub has_report: bool,
    /// The size of the report.
    pub report_bytes: usize,
    /// Its conditions, once it is over.
    pub checks: Vec<DrillCheck>,
}

/// A condition of a drill.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DrillCheck {
    /// Whether it held.
    pub ok: bool,
    /// What was to hold, and what came out.
    pub text: String,
}
