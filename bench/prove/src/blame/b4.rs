//! B4: do streams whose text is held back cost the others more than the same streams whose text flows?
//!
//! Two fleets of four simulated engines each, behind a gateway each, get the same requests of the same accounts at the
//! same moments. Beside them ten streams of one regular account, left after ten seconds and begun anew: on one side with
//! a long `stop`, for which every chunk of theirs comes with empty content, on the other without. What engines compute is
//! the same; only what the chunks say differs. A third side, without `stop` like the second, shows what chance does.

mod relay;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::fleet::{ask, set};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::harness::tidegate::{Admin, Config, MODEL, Tidegate};
use engine::profile::LLAMA_8B_A100;
use engine::server::{EngineServer, EngineServerConfig};
use engine::workload::{Arrivals, Size, Workload};
use load::{Caller, LoadPlan, Mode, Outcome, Retry, Slo, Stage, start};
use relay::Relay;
use tokio::task::JoinSet;

pub(crate) const PROOF: Proof = Proof {
    id: "B4",
    what: "others in time beside ten streams held back by a long `stop`, against the same streams without it",
    goal: "±0.1 points priority, ±1 regular",
    quick_s: 4,
    full_s: 360,
    needs: "",
    run,
};

const REPLICAS: usize = 4;
/// Streams of the one account at once.
const STREAMS: usize = 10;
/// After which each is left.
const LEFT_AFTER: Duration = Duration::from_secs(10);
/// After which one that was refused is asked for again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Different bodies of each.
const ROUNDS: u64 = 4;
/// Bytes of `stop`.
const STOP: usize = 50_000;
/// Accounts of the others.
const OTHERS: usize = 10;
/// Requests of others a second on each side: most of what four replicas can bear beside the streams.
const PER_S: f64 = 32.0;
const SECONDS: f64 = 320.0;
const SECONDS_QUICK: f64 = 3.0;
const PRIORITY_POINTS: f64 = 0.1;
const REGULAR_POINTS: f64 = 1.0;
/// The small size has some fifty requests of a tier: one of them is two points.
const REGULAR_POINTS_QUICK: f64 = 10.0;
const PRIORITY_POINTS_QUICK: f64 = 5.0;

/// A fleet with its gateway.
#[derive(Debug)]
struct Side {
    name: &'static str,
    stop: bool,
    gateway: Tidegate,
    engines: Vec<EngineServer>,
    _relays: Vec<Relay>,
}

/// What became of the others on a side.
#[derive(Debug, Default, Clone, Copy)]
struct Tier {
    offered: u64,
    attained: u64,
}

impl Tier {
    fn percent(self) -> f64 {
        100.0 * self.attained as f64 / self.offered.max(1) as f64
    }
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let played = setting.block_on(async {
        let sides = [
            Side::start(setting, "b4-held-back", true).await?,
            Side::start(setting, "b4-flowing", false).await?,
            Side::start(setting, "b4-flowing-too", false).await?,
        ];
        let [held, flowing, again] = &sides;
        let (held, flowing, again) =
            tokio::join!(held.play(setting), flowing.play(setting), again.play(setting));
        Ok([held?, flowing?, again?])
    })?;
    let [held, flowing, again] = &played;
    let points =
        |one: &Played, other: &Played, tier: fn(&Played) -> Tier| tier(one).percent() - tier(other).percent();
    let (priority, regular) = (|side: &Played| side.priority, |side: &Played| side.regular);
    let of_priority = points(held, flowing, priority);
    let of_regular = points(held, flowing, regular);
    let bounds =
        setting.size((PRIORITY_POINTS_QUICK, REGULAR_POINTS_QUICK), (PRIORITY_POINTS, REGULAR_POINTS));
    let charged = held.charged > 0 && held.charged as f64 >= 0.9 * flowing.charged as f64;
    let goal = if setting.quick {
        format!("{} (quick: ±{}, ±{})", PROOF.goal, bounds.0, bounds.1)
    } else {
        PROOF.goal.to_owned()
    };
    Ok(Finding {
        figure: format!(
            "{of_priority:+.2} and {of_regular:+.2} points (priority {:.2} %, regular {:.2} % beside streams that flow; by \
             chance {:+.2} and {:+.2}); {} requests a side; charged {} and {} tokens",
            flowing.priority.percent(),
            flowing.regular.percent(),
            points(again, flowing, priority),
            points(again, flowing, regular),
            held.priority.offered + held.regular.offered,
            held.charged,
            flowing.charged,
        ),
        goal,
        ok: of_priority.abs() <= bounds.0 && of_regular.abs() <= bounds.1 && charged,
        details: json!({ "sides": played.iter().map(|side| &side.details).collect::<Vec<_>>() }),
    })
}

/// What came of a side.
#[derive(Debug)]
struct Played {
    priority: Tier,
    regular: Tier,
    /// Tokens that the account of the streams was charged in the last minute.
    charged: u64,
    details: Value,
}

impl Side {
    async fn start(setting: &Setting, name: &'static str, stop: bool) -> Result<Self, Trouble> {
        let (mut engines, mut relays) = (Vec::new(), Vec::new());
        for _ in 0..REPLICAS {
            let config = EngineServerConfig { profile: LLAMA_8B_A100, ..EngineServerConfig::default() };
            let engine = EngineServer::start(config).await?;
            relays.push(Relay::start(engine.addr).await?);
            engines.push(engine);
        }
        let addresses: Vec<SocketAddr> = relays.iter().map(|relay| relay.addr).collect();
        let mut config = Config::limitless(addresses, 1 + OTHERS);
        for account in &mut config.accounts {
            account.more.push_str(", tiers: [priority, regular]");
        }
        let gateway = Tidegate::start(setting, name, &config).await?;
        Ok(Self { name, stop, gateway, engines, _relays: relays })
    }

    async fn play(&self, setting: &Setting) -> Result<Played, Trouble> {
        let seconds = setting.size(SECONDS_QUICK, SECONDS);
        let run = start(self.plan(seconds))?;
        let report = tokio::select! {
            report = run.report() => report?,
            () = self.streams() => return Err(Trouble::Unexpected("the streams ended".to_owned())),
        };
        if let Some(why) = report.bottleneck {
            return Err(Trouble::Void(format!("{}: {why}", self.name)));
        }
        let used = Admin::open(self.gateway.admin).await?.used("a0").await?;
        let tier = |priority: bool| {
            let of_tier = |outcome: &&Outcome| (outcome.caller < OTHERS) == priority;
            report.outcomes.iter().filter(of_tier).fold(Tier::default(), |tier, outcome| Tier {
                offered: tier.offered + 1,
                attained: tier.attained + u64::from(outcome.attained),
            })
        };
        let charged = used.get("generated").copied().unwrap_or(0);
        let generated: u64 = self.engines.iter().map(|engine| engine.totals().generated_tokens).sum();
        Ok(Played {
            priority: tier(true),
            regular: tier(false),
            charged,
            details: json!({
                "side": self.name, "tiers": report.tiers, "charged_in_the_last_minute": charged,
                "generated_by_the_engines": generated, "lag_ms": report.lag,
            }),
        })
    }

    /// The ten streams, without end.
    async fn streams(&self) {
        let mut running = JoinSet::new();
        for number in 0..STREAMS {
            let target = self.gateway.address;
            let bodies: Vec<String> = (0..ROUNDS).map(|round| self.body(number, round)).collect();
            running.spawn(async move {
                for body in bodies.into_iter().cycle() {
                    let request = ask(target, "/v1/chat/completions", "key-0".to_owned(), body);
                    // What becomes of it is the others' story; who is refused comes again a little later.
                    if tokio::time::timeout(LEFT_AFTER, request).await.is_ok() {
                        tokio::time::sleep(AGAIN_AFTER).await;
                    }
                }
            });
        }
        while running.join_next().await.is_some() {}
    }

    fn body(&self, number: usize, round: u64) -> String {
        let mut body = json!({
            "model": MODEL, "stream": true, "max_tokens": 4_000, "ignore_eos": true, "service_tier": "default",
            "messages": [{ "role": "user", "content": format!("{number}, {round}: tell of all tides") }],
        });
        if self.stop {
            set(&mut body, "stop", json!(["never said ".repeat(STOP / 11)]));
        }
        body.to_string()
    }

    fn plan(&self, seconds: f64) -> LoadPlan {
        let caller = |number: usize, tier: &str| Caller {
            tier: tier.to_owned(),
            key: Some(format!("key-{}", 1 + number % OTHERS)),
            service_tier: Some(if tier == "priority" { "priority" } else { "default" }.to_owned()),
            weight: 1.0,
        };
        let callers = (0..OTHERS).map(|number| caller(number, "priority"));
        let callers = callers.chain((0..OTHERS).map(|number| caller(number, "regular"))).collect();
        let stage = Stage {
            arrivals: Arrivals { rate_per_s: PER_S, cv: 1.0 },
            duration: Duration::from_secs_f64(seconds),
        };
        LoadPlan {
            mode: Mode::Open { stages: vec![stage] },
            workload: Workload::Fixed(Size { prompt_tokens: 1_000, output_tokens: 60 }),
            callers,
            slo: Slo {
                ttft: Duration::from_secs(2),
                tpot: Duration::from_millis(100),
                prefill: Some(LLAMA_8B_A100),
            },
            retry: Retry { attempts_max: 0, obedient: true },
            seed: 4,
            timeout: Duration::from_secs(120),
            keep_outcomes: true,
            ..LoadPlan::to(self.gateway.address)
        }
    }
}
