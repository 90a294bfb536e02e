//! CORE2: a drill on an operator's own config says in virtual time what the very config does in real time.
//!
//! Two models on three deployments, one of which both spill over to; accounts with budgets that bind, with a tier of their own and
//! with many clients. Five scenarios: calm, a step to twice as much, a burst, a replica that dies, and clients that come back.

use std::path::Path;

use serde_json::{Value, json};

use super::{apart_on_average, brief, play};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};

pub(crate) const PROOF: Proof = Proof {
    id: "CORE2",
    what: "a config with two models, three deployments and budgets that bind, virtual and real, five scenarios, mean of two seeds: attainment, goodput",
    goal: "≤2 points, ≤3 %",
    quick_s: 0,
    full_s: 1_240,
    needs: "",
    run: |setting| agree(setting),
};

/// Each scenario is played with these.
const SEEDS: [u32; 2] = [7, 8];
const POINTS_MAX: f64 = 2.0;
const PERCENT_MAX: f64 = 3.0;

const CONFIG: &str = r#"
listen: { address: "127.0.0.1:8080" }
admin: { address: "127.0.0.1:9090" }
deployments:
  - name: small
    engine: vllm
    replicas: ["http://10.0.0.1:8000", "http://10.0.0.2:8000"]
    slo: { ttft_ms: 2000, tpot_ms: 100 }
  - name: large
    engine: vllm
    replicas: ["http://10.0.1.1:8000"]
    slo: { ttft_ms: 3000, tpot_ms: 120 }
    slots_max: 96
  - name: spill
    engine: vllm
    replicas: ["http://10.0.2.1:8000"]
    slo: { ttft_ms: 2000, tpot_ms: 100 }
    ceilings: { priority: 1.0, regular: 0.7 }
models:
  - name: fast
    size_class: small
    deployments: [{ name: small }, { name: spill, tiers: [priority] }]
  - name: deep
    size_class: small
    deployments: [{ name: large }, { name: spill }]
accounts:
  - id: acme
    keys: ["sha256:4f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a"]
    spending_tier: enterprise
    tiers: [priority, regular]
    weight: 2
    limits: [{ start: BIG, floor: BIG, ceiling: BIG }]
  - id: basic
    keys: ["sha256:5f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a"]
    spending_tier: enterprise
    limits: [{ start: BIG, floor: BIG, ceiling: BIG }]
  - id: bounded
    keys: ["sha256:6f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a"]
    spending_tier: enterprise
    requests_per_minute: 120
    limits: [{ start: TIGHT, floor: TIGHT, ceiling: TIGHT }]
limits: { policy: fixed }
"#;

const BIG: &str = "{ prompt: 400000000, uncached_prompt: 400000000, generated: 400000000 }";
const TIGHT: &str = "{ prompt: 120000, uncached_prompt: 120000, generated: 24000 }";

/// Name, load over time, more of every traffic, events.
const SCENARIOS: [(&str, &str, &str, &str); 5] = [
    ("calm", "[]", "", "[]"),
    ("step", "[{ at_s: 45, factor: 2.2 }]", "", "[]"),
    ("burst", "[{ at_s: 40, factor: 4, for_s: 12 }, { at_s: 75, factor: 3, for_s: 10 }]", "", "[]"),
    ("loss", "[]", "", "[{ at_s: 45, deployment: small, lose: 1, for_s: 30 }]"),
    ("returning", "[{ at_s: 40, factor: 2.5 }]", ", retry: { tries: 2 }", "[]"),
];

fn agree(setting: &Setting) -> Result<Finding, Trouble> {
    if setting.quick {
        return Err(Trouble::Void("the small size has none: five drills in real time".to_owned()));
    }
    let executable = setting.binaries().tidegate()?;
    let config = setting.out.join("core2.yaml");
    std::fs::write(&config, CONFIG.replace("BIG", BIG).replace("TIGHT", TIGHT))?;
    let mut worst = (0.0_f64, 0.0_f64);
    let (mut figures, mut details) = (Vec::new(), Vec::new());
    for (name, load, more, events) in SCENARIOS {
        let file = setting.out.join(format!("core2-{name}.yaml"));
        std::fs::write(&file, scenario(name, load, more, events))?;
        let on = |seed: u32, virtual_time: bool| {
            let mut arguments = vec!["--config".to_owned(), config.display().to_string()];
            arguments.extend(["--seed".to_owned(), seed.to_string()]);
            arguments.extend(virtual_time.then(|| "--virtual".to_owned()));
            play(executable, &file, Path::new(&setting.out), &arguments)
        };
        let pair = |seed| Ok((on(seed, true)?, on(seed, false)?));
        let pairs: Vec<(Value, Value)> = SEEDS.into_iter().map(pair).collect::<Result<_, Trouble>>()?;
        let (points, percent) = apart_on_average(&pairs);
        worst = (worst.0.max(points), worst.1.max(percent));
        figures.push(format!("{name} {points:.1}, {percent:.1} %"));
        let seeds =
            pairs.iter().map(|(expected, found)| json!({ "virtual": brief(expected), "real": brief(found) }));
        details.push(json!({ "scenario": name, "seeds": seeds.collect::<Vec<_>>() }));
    }
    Ok(Finding {
        figure: figures.join("; "),
        goal: PROOF.goal.to_owned(),
        ok: worst.0 <= POINTS_MAX && worst.1 <= PERCENT_MAX,
        details: json!({ "scenarios": details }),
    })
}

fn scenario(name: &str, load: &str, more: &str, events: &str) -> String {
    let traffic = |name: &str, account: &str, model: &str, rate: f64, priority: f64| {
        format!(
            "  - {{ name: {name}, accounts: {account}, model: {model}, rate_per_s: {rate}, priority: {priority}, \
             load: {load}{more} }}\n"
        )
    };
    format!(
        "drill: core2-{name}\nduration_s: 100\nwarm_up_s: 15\ndrain_s: 30\n\
         fleet: {{ profile: 8b-a100, deployments: [{{ name: large, profile: 70b-h100-tp4 }}] }}\n\
         accounts: [{{ id: acme }}, {{ id: basic, count: 4 }}, {{ id: bounded }}]\n\
         events: {events}\ntraffic:\n{}{}{}{}",
        traffic("chat", "acme", "fast", 4.0, 0.5),
        traffic("regular", "basic", "fast", 5.0, 0.0),
        traffic("deep", "basic", "deep", 4.0, 0.0),
        traffic("bounded", "bounded", "fast", 2.5, 0.0),
    )
}
