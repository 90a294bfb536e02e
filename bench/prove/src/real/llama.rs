//! A real llama-server instead of a simulated engine: four slots that it tells, four slots that nobody tells, and HAProxy,
//! which is told them by hand.
//!
//! The model has random weights: what it says is nonsense, how it says it is llama.cpp's. One engine has one
//! core, so the sides take turns, each with an engine of its own. How fast a machine is differs, so everything is in
//! multiples of what the engine does there with all slots busy: the load of its answers per second behind HAProxy at far more
//! than that, the service level of the time of an answer (four of them to the first token, or four slots could not take 0.8×
//! without refusing) and the pace of its tokens (four times, because a prompt that is computed holds up the others' tokens).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::haproxy::HaProxy;
use super::judge::{Requests, Tier};
use super::side::{PRIORITY_KEY, accounts, callers};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::harness::raw::Connection;
use crate::harness::tidegate::{Config, MODEL, Tidegate};
use engine::workload::{Arrivals, Size, Workload};
use kit::program::{Program, free_address};
use load::{End, LoadPlan, Mode, Slo, Stage};

pub(crate) const PROOF: Proof = Proof {
    id: "llama-real",
    what: "real time, before a real llama-server with 4 slots, told, not told, and HAProxy with maxconn 4: priority at 2×, 3×; goodput against HAProxy; refused at 0.8×",
    goal: "≥99 % each; ≥0.95 each; ≤1 %",
    quick_s: 0,
    full_s: 700,
    needs: "llama-server (tests/clients/llama/install.sh)",
    run,
};

/// Slots of the engine.
const SLOTS: u32 = 4;
const PROMPT_TOKENS: u32 = 16;
/// How long an answer takes with all slots busy, about: long beside what the gateway and the kernel take.
const ANSWER: Duration = Duration::from_millis(500);
/// The service level, in multiples of what is seen with all slots busy.
const SLO: u32 = 4;
/// Tokens of the answers with which the pace is found.
const TRIED_TOKENS: u32 = 32;
/// How often it is asked whether it has loaded its model, and at most how many times.
const LOOK: Duration = Duration::from_millis(100);
const LOADS_WITHIN: u32 = 600;
const ATTAINED_MIN: f64 = 0.99;
const GOODPUT_MIN: f64 = 0.95;
const REFUSED_MAX: f64 = 0.01;

/// Who stands in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Front {
    /// Tidegate, told what the engine is, so that it asks how many slots there are.
    Told,
    /// Tidegate, told that it is some engine with the OpenAI API.
    NotTold,
    /// HAProxy.
    HaProxy,
}

impl Front {
    const ALL: [Front; 3] = [Front::Told, Front::NotTold, Front::HaProxy];

    fn name(self) -> &'static str {
        match self {
            Front::Told => "slots told",
            Front::NotTold => "not told",
            Front::HaProxy => "HAProxy",
        }
    }

    fn slug(self) -> &'static str {
        match self {
            Front::Told => "told",
            Front::NotTold => "untold",
            Front::HaProxy => "haproxy",
        }
    }
}

/// What the engine does on this machine with all slots busy.
#[derive(Debug, Clone, Copy)]
struct Pace {
    answers_per_s: f64,
    output_tokens: u32,
    slo: (Duration, Duration),
}

/// What became of one load before one front.
#[derive(Debug)]
struct Course {
    load: f64,
    priority: f64,
    goodput_per_s: f64,
    refused: f64,
    failed: usize,
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    if setting.quick {
        // Beside other proofs on two cores its one core is not one.
        return Err(Trouble::Void(
            "the small size has none: a real engine needs a core of its own".to_owned(),
        ));
    }
    setting.block_on(async {
        let pace = find_pace(setting).await?;
        let mut courses = Vec::new();
        for front in Front::ALL {
            courses.push((front, play(setting, front, pace).await?));
        }
        Ok(judged(pace, &courses))
    })
}

fn judged(pace: Pace, courses: &[(Front, Vec<Course>)]) -> Finding {
    let haproxy = courses.iter().find(|(front, _)| *front == Front::HaProxy).map(|(_, courses)| courses);
    let beside = |course: &Course| {
        let other = haproxy.into_iter().flatten().find(|other| other.load == course.load);
        course.goodput_per_s / other.map_or(f64::NAN, |other| other.goodput_per_s)
    };
    let mut ok = true;
    let mut figures = Vec::new();
    for (front, courses) in courses {
        let mut told = Vec::new();
        for course in courses {
            let is_calm = course.load < 1.0;
            let holds = course.failed == 0
                && if is_calm {
                    course.refused <= REFUSED_MAX
                } else {
                    course.priority >= ATTAINED_MIN && beside(course) >= GOODPUT_MIN
                };
            ok &= holds || *front == Front::HaProxy;
            let Course { load, priority, refused, .. } = course;
            told.push(if is_calm {
                format!("{load}× refused {:.1} %, priority {:.1} %", 100.0 * refused, 100.0 * priority)
            } else {
                format!("{load}× priority {:.1} %, goodput {:.2}", 100.0 * priority, beside(course))
            });
        }
        figures.push(format!("{}: {}", front.name(), told.join(", ")));
    }
    let row = |(front, courses): &(Front, Vec<Course>)| {
        let rows: Vec<Value> = courses
            .iter()
            .map(|course| {
                json!({
                    "load": course.load, "priority": course.priority, "goodput_per_s": course.goodput_per_s,
                    "refused": course.refused, "failed": course.failed,
                })
            })
            .collect();
        json!({ "front": front.name(), "courses": rows })
    };
    Finding {
        figure: figures.join("; "),
        goal: PROOF.goal.to_owned(),
        ok,
        details: json!({
            "answers_per_s": pace.answers_per_s, "output_tokens": pace.output_tokens,
            "slo_ms": [pace.slo.0.as_millis() as u64, pace.slo.1.as_millis() as u64],
            "fronts": courses.iter().map(row).collect::<Vec<_>>(),
        }),
    }
}

/// Answers with all slots busy: first to find how many tokens take half a second, then how often they come.
async fn find_pace(setting: &Setting) -> Result<Pace, Trouble> {
    let (_engine, address) = start_engine(setting, "llama-pace").await?;
    let short = closed(address, TRIED_TOKENS).await?;
    let output_tokens = f64::from(TRIED_TOKENS) * ANSWER.as_secs_f64() / short.took.as_secs_f64();
    let output_tokens = (output_tokens as u32).clamp(8, 2_000);
    let found = closed(address, output_tokens).await?;
    let slo = (SLO * found.took, SLO * found.tpot.max(Duration::from_millis(1)));
    let (_haproxy, front) = start_haproxy(setting, "llama-pace", address).await?;
    let answers_per_s = saturated(front, found.per_s, output_tokens, slo).await?;
    Ok(Pace { answers_per_s, output_tokens, slo })
}

/// Answers per second under three times what it does alone: what else runs on the machine then takes its part.
async fn saturated(
    front: SocketAddr,
    alone_per_s: f64,
    output_tokens: u32,
    slo: (Duration, Duration),
) -> Result<f64, Trouble> {
    let arrivals = Arrivals { rate_per_s: 3.0 * alone_per_s, cv: 1.0 };
    let duration = Duration::from_secs(16);
    let stages = vec![Stage { arrivals, duration }];
    let plan = LoadPlan { mode: Mode::Open { stages }, ..plan(front, output_tokens, slo) };
    let outcomes = load::start(plan)?.report().await?.outcomes;
    let judged = Duration::from_secs(4)..duration;
    let ended = outcomes
        .iter()
        .filter(|one| one.end == End::Complete && judged.contains(&(one.due + one.total)))
        .count();
    Ok(ended as f64 / (judged.end - judged.start).as_secs_f64())
}

async fn start_haproxy(
    setting: &Setting,
    name: &str,
    engine: SocketAddr,
) -> Result<(Program, SocketAddr), Trouble> {
    let started = HaProxy::start(setting, name, &[engine], PRIORITY_KEY, SLOTS).await?;
    Ok((started.program, started.address))
}

/// What answers with all slots busy are like.
#[derive(Debug, Clone, Copy)]
struct Busy {
    per_s: f64,
    took: Duration,
    tpot: Duration,
}

async fn closed(engine: SocketAddr, output_tokens: u32) -> Result<Busy, Trouble> {
    let duration = Duration::from_secs(8);
    let plan = LoadPlan {
        mode: Mode::Closed { connections: SLOTS as usize, duration },
        ..plan(engine, output_tokens, (ANSWER, ANSWER))
    };
    let outcomes = load::start(plan)?.report().await?.outcomes;
    let whole: Vec<_> = outcomes.iter().filter(|outcome| outcome.end == End::Complete).collect();
    let mean = |of: &dyn Fn(&load::Outcome) -> f64| {
        let sum: f64 = whole.iter().map(|outcome| of(outcome)).sum();
        Duration::from_secs_f64(sum / whole.len().max(1) as f64)
    };
    // The engine closes a connection after some requests without a word, and the generator takes that for an answer that
    // broke off.
    if whole.len() < SLOTS as usize || whole.len() < outcomes.len() / 2 {
        let ends: BTreeSet<&End> = outcomes.iter().map(|outcome| &outcome.end).collect();
        return Err(Trouble::Unexpected(format!(
            "{} of {} answers of the llama-server are whole; they ended with {ends:?}",
            whole.len(),
            outcomes.len()
        )));
    }
    Ok(Busy {
        per_s: whole.len() as f64 / duration.as_secs_f64(),
        took: mean(&|outcome| outcome.latency.as_secs_f64()),
        tpot: mean(&|outcome| outcome.tpot.unwrap_or_default().as_secs_f64()),
    })
}

/// Loads one front with 0.8×, 2× and 3×, one after the other; each is judged without its first seconds.
async fn play(setting: &Setting, front: Front, pace: Pace) -> Result<Vec<Course>, Trouble> {
    const WARM_S: f64 = 20.0;
    const STAGE_S: f64 = 50.0;
    const SKIP_S: f64 = 5.0;
    let name = format!("llama-{}", front.slug());
    let (_engine, engine) = start_engine(setting, &name).await?;
    let (_program, address) = match front {
        Front::HaProxy => start_haproxy(setting, &name, engine).await?,
        Front::Told | Front::NotTold => {
            let (ttft, tpot) = (pace.slo.0.as_millis(), pace.slo.1.as_millis());
            let config = Config {
                accounts: accounts(),
                engine: if front == Front::Told { "llamacpp" } else { "openai" },
                deployment: format!(", slo: {{ ttft_ms: {ttft}, tpot_ms: {tpot} }}"),
                ..Config::limitless(vec![engine], 0)
            };
            let started = Tidegate::start(setting, &name, &config).await?;
            (started.program, started.address)
        }
    };
    let loads = [0.8, 2.0, 3.0];
    let stage = |(load, seconds): (f64, f64)| Stage {
        arrivals: Arrivals { rate_per_s: load * pace.answers_per_s, cv: 1.0 },
        duration: Duration::from_secs_f64(seconds),
    };
    let stages = [(0.8, WARM_S)].into_iter().chain(loads.map(|load| (load, STAGE_S))).map(stage);
    let plan = LoadPlan {
        mode: Mode::Open { stages: stages.collect() },
        ..plan(address, pace.output_tokens, pace.slo)
    };
    let is_priority: Vec<bool> = plan.callers.iter().map(|caller| caller.tier == "priority").collect();
    let report = load::start(plan)?.report().await?;
    if let Some(why) = report.bottleneck {
        return Err(Trouble::Void(format!("{}: {why}", front.name())));
    }
    let is_failure = |end: &End| !matches!(end, End::Complete | End::Refused);
    let failed = report.outcomes.iter().filter(|outcome| is_failure(&outcome.end)).count();
    let requests = Requests::new(report.outcomes, &is_priority);
    let course = |(number, load): (usize, f64)| {
        let (from, to) = (WARM_S + STAGE_S * number as f64 + SKIP_S, WARM_S + STAGE_S * (number + 1) as f64);
        let both = requests.within(Tier::Both, from, to);
        Course {
            load,
            priority: requests.within(Tier::Priority, from, to).attainment(),
            goodput_per_s: both.attained as f64 / (to - from),
            refused: both.refused as f64 / both.offered.max(1) as f64,
            failed,
        }
    };
    Ok(loads.into_iter().enumerate().map(course).collect())
}

fn plan(target: SocketAddr, output_tokens: u32, (ttft, tpot): (Duration, Duration)) -> LoadPlan {
    LoadPlan {
        model: MODEL.to_owned(),
        workload: Workload::Fixed(Size { prompt_tokens: PROMPT_TOKENS, output_tokens }),
        callers: callers(0.3),
        slo: Slo { ttft, tpot, prefill: None },
        check_text: false,
        seed: 4,
        timeout: Duration::from_secs(60),
        keep_outcomes: true,
        ..LoadPlan::to(target)
    }
}

/// Starts one with its model; both are where `tests/clients/llama/install.sh` puts them.
async fn start_engine(setting: &Setting, name: &str) -> Result<(Program, SocketAddr), Trouble> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/llama");
    let executable = folder.join("bin/llama-server");
    let model: PathBuf = folder.join("wide.gguf");
    if !executable.exists() || !model.exists() {
        return Err(Trouble::Missing("there is no llama-server: run tests/clients/llama/install.sh"));
    }
    let address = free_address()?;
    let port = address.port().to_string();
    let slots = SLOTS.to_string();
    let model = model.to_string_lossy().into_owned();
    let arguments = [
        "-m",
        &model,
        "--alias",
        MODEL,
        "--port",
        &port,
        "-c",
        "16384",
        "-np",
        &slots,
        "-t",
        "1",
        "--metrics",
        "--slots",
        "--jinja",
        "--ignore-eos",
    ];
    let mut program =
        Program::start(&executable, arguments, &setting.out.join(format!("{name}-engine.log")))?;
    program.listens(address).await?;
    for _ in 0..LOADS_WITHIN {
        let mut connection = Connection::open(address).await?;
        let asked = b"GET /health HTTP/1.1\r\nHost: engine\r\n\r\n";
        if connection.exchange(asked, |_| {}).await?.status == 200 {
            return Ok((program, address));
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(Trouble::Unexpected(format!("the llama-server did not load its model: {}", program.output()?)))
}
