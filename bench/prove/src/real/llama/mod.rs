//! Real llama-servers instead of simulated engines: four slots that they tell, four slots that nobody tells, and HAProxy,
//! which is told them by hand.
//!
//! The model has random weights: what it says is nonsense, how it says it is llama.cpp's. An engine has one thread, on a core
//! of its own, so the sides take turns, each with engines of its own. How fast a machine is differs, so everything is in
//! multiples of what the engines do there with all slots busy: the load of their answers per second behind HAProxy at far more
//! than that, the service level of the time of an answer (four of them to the first token, or four slots could not take 0.8×
//! without refusing) and the pace of its tokens (four times, because a prompt that is computed holds up the others' tokens).

mod climb;
mod loss;
mod wave;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::haproxy::HaProxy;
use super::judge::Requests;
use super::play::{LOOK, refused};
use super::side::{PRIORITY_KEY, accounts, callers};
use crate::harness::proof::{Setting, Trouble};
use crate::harness::raw::Connection;
use crate::harness::tidegate::{Config, MODEL, Tidegate};
use engine::clock;
use engine::workload::{Arrivals, Size, Workload};
use kit::process;
use kit::program::{Program, free_address};
use load::{End, LoadPlan, LoadRun, Mode, Retry, Slo, Stage};

pub(crate) use climb::PROOF as CLIMB;
pub(crate) use loss::PROOF as LOSS;
pub(crate) use wave::PROOF as WAVE;

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
const ASK: Duration = Duration::from_millis(100);
const LOADS_WITHIN: u32 = 600;
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

/// What engines do on this machine with all slots busy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Of all of them.
    answers_per_s: f64,
    output_tokens: u32,
    slo: (Duration, Duration),
}

impl Pace {
    fn told(&self) -> Value {
        json!({
            "answers_per_s": self.answers_per_s, "output_tokens": self.output_tokens,
            "slo_ms": [self.slo.0.as_millis() as u64, self.slo.1.as_millis() as u64],
        })
    }
}

/// What so many engines do; of one it is found once in a run.
async fn pace_of(setting: &Setting, engines: usize) -> Result<Pace, Trouble> {
    if setting.quick {
        // Beside other proofs on two cores its one core is not one.
        return Err(Trouble::Void(
            "the small size has none: a real engine needs a core of its own".to_owned(),
        ));
    }
    let known = &super::Played::of(setting)?.llama;
    match known.get() {
        Some(pace) if engines == 1 => Ok(*pace),
        _ => {
            let pace = find_pace(setting, engines).await?;
            Ok(if engines == 1 { *known.get_or_init(|| pace) } else { pace })
        }
    }
}

/// Answers with all slots of one engine busy: first to find how many tokens take half a second, then how long they take.
/// Then how often they come with all slots of all engines busy.
async fn find_pace(setting: &Setting, engines: usize) -> Result<Pace, Trouble> {
    let (_engines, addresses) = start_engines(setting, "llama-pace", engines).await?;
    let address = *addresses.first().ok_or(Trouble::Missing("there is no engine"))?;
    let short = closed(address, TRIED_TOKENS).await?;
    let output_tokens = f64::from(TRIED_TOKENS) * ANSWER.as_secs_f64() / short.took.as_secs_f64();
    let output_tokens = (output_tokens as u32).clamp(8, 2_000);
    let found = closed(address, output_tokens).await?;
    let slo = (SLO * found.took, SLO * found.tpot.max(Duration::from_millis(1)));
    let (_haproxy, front) = start_haproxy(setting, "llama-pace", &addresses).await?;
    let answers_per_s = saturated(front, found.per_s * engines as f64, output_tokens, slo).await?;
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
    engines: &[SocketAddr],
) -> Result<(Program, SocketAddr), Trouble> {
    let started = HaProxy::start(setting, name, engines, PRIORITY_KEY, SLOTS).await?;
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

/// Engines and what stands in front of them, running. Dropping it ends both.
#[derive(Debug)]
struct Fleet {
    front: Front,
    address: SocketAddr,
    engines: Vec<Program>,
    _program: Program,
}

impl Fleet {
    /// Starts so many engines, then `front`.
    async fn start(
        setting: &Setting,
        name: &str,
        front: Front,
        engines: usize,
        pace: Pace,
    ) -> Result<Self, Trouble> {
        let name = format!("{name}-{}", front.slug());
        let (engines, addresses) = start_engines(setting, &name, engines).await?;
        let (program, address) = match front {
            Front::HaProxy => start_haproxy(setting, &name, &addresses).await?,
            Front::Told | Front::NotTold => {
                let (ttft, tpot) = (pace.slo.0.as_millis(), pace.slo.1.as_millis());
                let config = Config {
                    accounts: accounts(),
                    engine: if front == Front::Told { "llamacpp" } else { "openai" },
                    deployment: format!(", slo: {{ ttft_ms: {ttft}, tpot_ms: {tpot} }}"),
                    ..Config::limitless(addresses, 0)
                };
                let started = Tidegate::start(setting, &name, &config).await?;
                (started.program, started.address)
            }
        };
        Ok(Self { front, address, engines, _program: program })
    }
}

/// What a fleet is loaded with.
#[derive(Debug)]
struct Load {
    /// Load in multiples of what the engines do, and seconds.
    stages: Vec<(f64, f64)>,
    /// Further attempts of refused clients.
    retries: u32,
    /// From when on the first refusal is looked for, seconds.
    watch_from: f64,
    /// When the first engine is killed.
    kill_at: Option<Duration>,
}

/// What became of it.
#[derive(Debug)]
struct Played {
    requests: Requests,
    /// After `watch_from`.
    first_refusal: Option<Duration>,
    /// Neither whole nor refused.
    failed: usize,
}

/// Loads a fleet, and ends it.
async fn played(load: &Load, mut fleet: Fleet, pace: Pace) -> Result<Played, Trouble> {
    let stage = |&(load, seconds): &(f64, f64)| Stage {
        arrivals: Arrivals { rate_per_s: load * pace.answers_per_s, cv: 1.0 },
        duration: Duration::from_secs_f64(seconds),
    };
    let plan = LoadPlan {
        mode: Mode::Open { stages: load.stages.iter().map(stage).collect() },
        retry: Retry { attempts_max: load.retries, obedient: true },
        ..plan(fleet.address, pace.output_tokens, pace.slo)
    };
    let is_priority: Vec<bool> = plan.callers.iter().map(|caller| caller.tier == "priority").collect();
    let run = load::start(plan)?;
    let first_refusal = watch(load, &mut fleet, &run).await;
    let report = run.report().await?;
    if let Some(why) = report.bottleneck {
        return Err(Trouble::Void(format!("{}: {why}", fleet.front.name())));
    }
    let is_failure = |end: &End| !matches!(end, End::Complete | End::Refused);
    let failed = report.outcomes.iter().filter(|outcome| is_failure(&outcome.end)).count();
    Ok(Played { requests: Requests::new(report.outcomes, &is_priority), first_refusal, failed })
}

/// Kills the first engine when it is due, and notes the first refusal.
async fn watch(load: &Load, fleet: &mut Fleet, run: &LoadRun) -> Option<Duration> {
    let began = clock::now();
    let length = Duration::from_secs_f64(load.stages.iter().map(|(_, seconds)| seconds).sum());
    let watch_from = Duration::from_secs_f64(load.watch_from);
    let mut kill_at = load.kill_at;
    let (mut before, mut first) = (None, None);
    loop {
        let at = clock::now() - began;
        if kill_at.is_some_and(|due| at >= due) {
            kill_at = None;
            fleet.engines.drain(..1).for_each(|mut engine| engine.kill());
        }
        if at >= watch_from {
            let before = *before.get_or_insert_with(|| refused(&run.live));
            if first.is_none() && refused(&run.live) > before {
                first = Some(at - watch_from);
            }
        }
        if at >= length {
            return first;
        }
        tokio::time::sleep(LOOK).await;
    }
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

/// Starts so many, each on a core of its own.
async fn start_engines(
    setting: &Setting,
    name: &str,
    count: usize,
) -> Result<(Vec<Program>, Vec<SocketAddr>), Trouble> {
    let (mut engines, mut addresses) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for number in 0..count {
        let (engine, address) = start_engine(setting, &format!("{name}-{number}")).await?;
        process::pin(engine.pid(), number % process::cores())?;
        engines.push(engine);
        addresses.push(address);
    }
    Ok((engines, addresses))
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
        tokio::time::sleep(ASK).await;
    }
    Err(Trouble::Unexpected(format!("the llama-server did not load its model: {}", program.output()?)))
}
