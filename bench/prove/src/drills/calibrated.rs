//! CORE3: a drill that is calibrated from a running gateway foretells what that gateway does.
//!
//! The fleet is unlike every profile: another speed, a lag before every prompt, and steps that take longer from a size of batch
//! on. The gateway serves it for some minutes at varying load; then `tidegate drill --calibrate` asks it what its engines are
//! like, plays three loads in virtual time, and the same three are played live.

use std::time::Duration;

use serde_json::json;

use super::{apart, brief, play};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::harness::tidegate::{AccountLines, Config, MODEL, TOKEN, Tidegate};
use drill::settings;
use engine::behaviour::{Behaviour, Lag};
use engine::profile::LLAMA_8B_A100;
use engine::server::{EngineServer, EngineServerConfig};
use engine::workload::{Arrivals, Workload};
use load::{Caller, LoadPlan, Mode, Stage};

pub(crate) const PROOF: Proof = Proof {
    id: "CORE3",
    what: "a drill calibrated from a gateway before engines unlike every profile, against the same played live at 0.8×, 1.5×, 2.5×",
    goal: "≤3 points, ≤7 %",
    quick_s: 0,
    full_s: 720,
    needs: "",
    run: |setting| calibrated(setting),
};

const POINTS_MAX: f64 = 3.0;
const PERCENT_MAX: f64 = 7.0;
const REPLICAS: usize = 2;
const LOADS: [f64; 3] = [0.8, 1.5, 2.5];
const KEY: &str = "tg-core3";

/// Slower than any of them, farther away, and with an edge.
const ODD: Behaviour = Behaviour {
    speed: 0.6,
    lag: Lag { mean_ms: 120.0, cv: 0.2 },
    eager: Some((40, 1.5)),
    ..Behaviour::PLAIN
};

fn calibrated(setting: &Setting) -> Result<Finding, Trouble> {
    if setting.quick {
        return Err(Trouble::Void("the small size has none: a gateway has to serve for minutes".to_owned()));
    }
    let odd = settings::Setting { replicas: REPLICAS as u16, behaviour: ODD, ..settings::Setting::CHAT };
    let knee_per_s = settings::knee(&odd, 1.0, 14.0, &[1]);
    let executable = setting.binaries().tidegate()?.to_owned();
    setting.block_on(async {
        let mut engines = Vec::new();
        for seed in 0..REPLICAS {
            let profile = odd.engine();
            let config = EngineServerConfig { profile, seed: seed as u64, ..EngineServerConfig::default() };
            engines.push(EngineServer::start(config).await?);
        }
        let addresses = engines.iter().map(|engine| engine.addr).collect();
        let limitless = Config::limitless(addresses, 1);
        let more = limitless.accounts.first().map(|account| account.more.clone()).unwrap_or_default();
        let account =
            AccountLines { key: KEY.to_owned(), more: format!("{more}, tiers: [priority, regular]") };
        let config = Config { accounts: vec![account], ..limitless };
        let gateway = Tidegate::start(setting, "core3", &config).await?;
        teach(&gateway, knee_per_s).await?;
        let token_file = setting.out.join("core3-token");
        std::fs::write(&token_file, TOKEN)?;
        let written = setting.out.join("core3.yaml");
        let (mut figures, mut details, mut worst) = (Vec::new(), Vec::new(), (0.0_f64, 0.0_f64));
        let mut files = Vec::new();
        for load in LOADS {
            let file = setting.out.join(format!("core3-{load}.yaml"));
            std::fs::write(&file, scenario(load, load * knee_per_s))?;
            let on = |path: &std::path::Path| path.display().to_string();
            let asked = [
                "--virtual".to_owned(),
                "--config".to_owned(),
                on(&written),
                "--calibrate".to_owned(),
                gateway.admin.to_string(),
                "--token-file".to_owned(),
                on(&token_file),
            ];
            // What is foretold, before anything of it is played.
            files.push((load, file.clone(), play(&executable, &file, &setting.out, &asked)?));
        }
        for (load, file, expected) in files {
            let (program, out) = (executable.clone(), setting.out.clone());
            let live = [
                "--target".to_owned(),
                format!("http://{}", gateway.address),
                "--key".to_owned(),
                KEY.to_owned(),
                "--model".to_owned(),
                MODEL.to_owned(),
            ];
            // The engines are on this runtime's threads; a drill is a process of its own.
            let found = tokio::task::spawn_blocking(move || play(&program, &file, &out, &live))
                .await
                .map_err(|e| Trouble::Unexpected(e.to_string()))??;
            let (points, percent) = apart(&expected, &found);
            worst = (worst.0.max(points), worst.1.max(percent));
            figures.push(format!("{load}× {points:.1}, {percent:.1} %"));
            details.push(json!({ "load": load, "foretold": brief(&expected), "live": brief(&found) }));
        }
        Ok(Finding {
            figure: figures.join("; "),
            goal: PROOF.goal.to_owned(),
            ok: worst.0 <= POINTS_MAX && worst.1 <= PERCENT_MAX,
            details: json!({ "knee_per_s": knee_per_s, "loads": details, "base": LLAMA_8B_A100.name }),
        })
    })
}

/// Serves from a tenth of the knee to more than all of it, for three minutes.
async fn teach(gateway: &Tidegate, knee_per_s: f64) -> Result<(), Trouble> {
    let stage = |load: f64| Stage {
        arrivals: Arrivals { rate_per_s: load * knee_per_s, cv: 1.0 },
        duration: Duration::from_secs(22),
    };
    let caller = |tier: &str, weight| Caller {
        tier: tier.to_owned(),
        key: Some(KEY.to_owned()),
        service_tier: Some(tier.to_owned()),
        weight,
    };
    let plan = LoadPlan {
        mode: Mode::Open { stages: [0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.4, 0.6].map(stage).to_vec() },
        workload: Workload::Azure,
        callers: vec![caller("priority", 0.3), caller("regular", 0.7)],
        seed: 11,
        timeout: Duration::from_secs(120),
        ..LoadPlan::to(gateway.address)
    };
    load::start(plan)?.report().await?;
    Ok(())
}

fn scenario(load: f64, rate_per_s: f64) -> String {
    format!(
        "drill: core3-{}\nseed: 5\nduration_s: 130\nwarm_up_s: 20\ndrain_s: 30\n\
         accounts: [{{ id: a0 }}]\n\
         traffic: [{{ name: t, accounts: a0, rate_per_s: {rate_per_s:.3}, priority: 0.3 }}]\n",
        (load * 10.0) as u32
    )
}
