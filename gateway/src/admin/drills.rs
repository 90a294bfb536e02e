//! Drills on the running config: asked for here, played by `drill_runner` in a process that gives way to everything.

use super::answer::{Refused, json, page, problem, sentence};
use super::call::Call;
use super::read::Answered;
use super::views::deployments::measured;
use bytes::Bytes;
use client::views::drills::{DrillRun, DrillScenario, Drills};
use drill_runner::child::Task;
use drill_runner::runner::{Order, SECONDS_MAX, StartError};
use drill_runner::scenarios::{SCENARIOS, Wish, scenario};
use history::events::{Kind, Subject};
use history::series::Resolution;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use shedder::Tier;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Characters of a scenario's own text.
const TEXT_MAX: usize = 32 << 10;
/// This program, also after its file was replaced by another version.
const PROGRAM: &str = "/proc/self/exe";

/// A drill to start: `scenario` or `yaml`, and the rest where it is to be otherwise.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DrillOrder {
    /// One of the scenarios that `GET /api/v1/drills` lists.
    #[schemars(length(min = 1, max = 60))]
    scenario: Option<String>,
    /// A scenario's own text, as `tidegate drill` reads it, without traces.
    #[schemars(length(min = 1, max = TEXT_MAX))]
    yaml: Option<String>,
    /// The model that is asked for. Default: the first of the config; with `yaml`: as that says.
    #[schemars(length(min = 1, max = 256))]
    model: Option<String>,
    /// Requests per second before anything happens. Default: the most that the model's first deployment was offered within the
    /// last hour; where that had no traffic, 5 for each replica.
    #[schemars(range(min = 0.5, max = 2000))]
    rate_per_s: Option<f64>,
    /// Model and hardware of the engines, as `tidegate engine --help` lists them. Default: `8b-a100`.
    #[schemars(length(min = 1, max = 60))]
    profile: Option<String>,
    /// Whether the engines are as they were measured here while they served, in place of a profile.
    calibrate: bool,
}

pub(super) fn list(call: &Call<'_>) -> Answered {
    Ok(json(StatusCode::OK, &drills(call)))
}

fn drills(call: &Call<'_>) -> Drills {
    let lack = file(call).err().map(|refused| refused.message().to_owned());
    let scenarios = SCENARIOS.iter().map(|scenario| DrillScenario {
        name: scenario.name.into(),
        title: scenario.title.into(),
        shows: scenario.shows.into(),
    });
    Drills {
        available: lack.is_none(),
        words: lack,
        seconds_max: SECONDS_MAX,
        scenarios: scenarios.collect(),
        drills: call.gateway.drills.all(),
    }
}

pub(super) fn get(call: &Call<'_>) -> Answered {
    let run = call.gateway.drills.get(id(call)?).ok_or_else(unknown)?;
    Ok(json(StatusCode::OK, &run))
}

pub(super) fn report(call: &Call<'_>) -> Answered {
    let id = id(call)?;
    let run = call.gateway.drills.get(id).ok_or_else(unknown)?;
    let report = call.gateway.drills.report(id).ok_or_else(|| {
        let message = format!("This drill has no report; it is {}.", run.state);
        problem(StatusCode::NOT_FOUND, "no_report", message)
    })?;
    Ok(page(Bytes::copy_from_slice(report.as_bytes())))
}

pub(super) fn remove(call: &Call<'_>) -> Answered {
    let id = id(call)?;
    if !call.gateway.drills.remove(id) {
        return Err(unknown());
    }
    tracing::info!(target: "audit", by = call.caller.token, drill = id, "drill stopped or forgotten");
    Ok(json(StatusCode::OK, &drills(call)))
}

pub(super) fn start(call: &Call<'_>) -> Answered {
    let wanted: DrillOrder = call.said()?;
    let config = file(call)?;
    let (name, title, text, model) = match (&wanted.scenario, &wanted.yaml) {
        (Some(name), None) => made(call, name, &wanted)?,
        (None, Some(text)) if (1..=TEXT_MAX).contains(&text.len()) => own(call, text, &wanted)?,
        (None, Some(_)) => return Err(bad(format!("`yaml` has from 1 to {TEXT_MAX} bytes."))),
        _ => return Err(bad("Say `scenario` or `yaml`, and not both.".to_owned())),
    };
    let measured = if wanted.calibrate { measured_of(call, model.as_deref()) } else { Vec::new() };
    let task = Task { program: PathBuf::from(PROGRAM), config, model, scenario: text, measured };
    let order = Order { scenario: name, title, by: call.caller.token.clone(), task };
    let recorder = Arc::clone(&call.gateway.accounts.recorder);
    let over = move |run: &DrillRun| {
        let words = format!("Drill {} ({}) is over: {}.", run.id, run.title, run.state);
        recorder.note(Kind::DrillEnded, Subject::PROCESS, &words, None);
    };
    let run = call.gateway.drills.start(order, over).map_err(|e| {
        let (status, code) = match e {
            StartError::Running(_) => (StatusCode::CONFLICT, "drill_running"),
            StartError::Thread(_) => (StatusCode::INTERNAL_SERVER_ERROR, "not_started"),
        };
        problem(status, code, format!("Not started: {e}."))
    })?;
    tracing::info!(target: "audit", by = call.caller.token, drill = run.id, scenario = run.scenario, "drill started");
    let words =
        format!("Drill {} was started: {}. It plays in virtual time and asks no replica.", run.id, run.title);
    call.note(Kind::DrillStarted, Subject::PROCESS, &words);
    Ok(json(StatusCode::OK, &run))
}

/// Name, title, text and model of what is played.
type Played = (String, String, String, Option<String>);

/// A scenario that is made for the config in force.
fn made(call: &Call<'_>, name: &str, wanted: &DrillOrder) -> Result<Played, Refused> {
    let config = &call.snapshot.config;
    let model = match wanted.model.as_deref() {
        Some(name) => config.model(name),
        None => config.models.first(),
    };
    let first = model.and_then(|model| model.routes.first());
    let wish = Wish {
        model: wanted.model.as_deref(),
        rate_per_s: wanted.rate_per_s,
        usual: first.and_then(|route| usual(call, &route.deployment.name)),
        profile: wanted.profile.as_deref(),
    };
    let (text, model) = scenario(name, config, wish).map_err(|lack| bad(sentence(&lack.to_string())))?;
    let title =
        SCENARIOS.iter().find(|scenario| scenario.name == name).map_or(name, |scenario| scenario.title);
    Ok((name.to_owned(), title.to_owned(), text, Some(model.name.to_string())))
}

/// A text that came with the question.
fn own(call: &Call<'_>, text: &str, wanted: &DrillOrder) -> Result<Played, Refused> {
    if let Some(model) = wanted.model.as_deref().filter(|model| call.snapshot.config.model(model).is_none()) {
        return Err(bad(format!("The config has no model `{model}`.")));
    }
    if wanted.rate_per_s.is_some() || wanted.profile.is_some() {
        return Err(bad("`rate_per_s` and `profile` stand in the text where there is one.".to_owned()));
    }
    Ok(("own".to_owned(), "A scenario of your own".to_owned(), text.to_owned(), wanted.model.clone()))
}

/// The most that a deployment was offered within the last hour, requests per second.
fn usual(call: &Call<'_>, deployment: &str) -> Option<f64> {
    let steps = call.gateway.accounts.recorder.steps(deployment, Resolution::Fine, 0).steps;
    let offered = steps.iter().map(|(_, point)| {
        let of = |tier| {
            let counts = point.counts(tier);
            u64::from(counts.admitted) + u64::from(counts.limited) + u64::from(counts.shed)
        };
        Tier::ALL.into_iter().map(of).sum::<u64>()
    });
    offered.max().map(|most| most as f64 / Resolution::Fine.step_s() as f64)
}

/// What was measured of the engines that serve `model`, or of all.
fn measured_of(call: &Call<'_>, model: Option<&str>) -> Vec<Value> {
    let config = &call.snapshot.config;
    let serves = |name: &str| {
        let routes = model.and_then(|model| config.model(model)).map(|model| &model.routes);
        routes.is_none_or(|routes| routes.iter().any(|route| &*route.deployment.name == name))
    };
    let all = call.snapshot.deployments.iter().filter(|deployment| serves(&deployment.config.name));
    all.filter_map(|deployment| serde_json::to_value(measured(deployment)).ok()).collect()
}

/// The file of the config in force.
fn file(call: &Call<'_>) -> Result<PathBuf, Refused> {
    call.gateway.reloader.file().map(Path::to_owned).ok_or_else(|| {
        let message = "This gateway's config is not from a file, and a drill reads that.";
        problem(StatusCode::CONFLICT, "no_file", message)
    })
}

fn id(call: &Call<'_>) -> Result<u64, Refused> {
    call.parameter(0).parse().map_err(|_| unknown())
}

fn unknown() -> Refused {
    let message = "There is no such drill any more; the last few are kept. `GET /api/v1/drills` lists them.";
    problem(StatusCode::NOT_FOUND, "no_such_drill", message)
}

fn bad(message: String) -> Refused {
    problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_drill", message)
}
