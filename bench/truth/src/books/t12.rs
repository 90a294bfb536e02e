//! T12: what a killed gateway forgets of its budgets.
//!
//! A client spends steadily, the budget's use is read every few milliseconds, and at a drawn moment the gateway is killed
//! with `SIGKILL`. The restarted one, on the same state folder, must know of all use but that of the last second. The
//! sliding minute does not lose anything of itself: each life of the account is shorter than a minute. Then the journal
//! is damaged in every way, and the gateway must start, say so, and serve.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use engine::clock;
use harness::contest::instant_engine;
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::raw::Connection;
use harness::tidegate::{Admin, Config, MODEL, Tidegate, chat};

pub(crate) const PROOF: Proof = Proof {
    id: "T12",
    what: "killed and restarted: use forgotten, and starts with a damaged journal",
    goal: "≤1 s worth; 4 of 4 start, say so and serve",
    quick_s: 4,
    full_s: 50,
    needs: "",
    run,
};

/// The journal is written once a second; writing it and reading the use take their time too.
const FORGOTTEN_MAX_S: f64 = 1.0;
/// The same in quick size, on a machine that does other work as well.
const FORGOTTEN_QUICK_S: f64 = 1.5;
const KEY: &str = "key-0";

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let engine = instant_engine().await?;
        let folder = setting.out.join("t12-state");
        let mut config = Config::limitless(vec![engine.addr], 1);
        config.state = Some(folder.clone());
        let (lives, mut forgotten) = (setting.size(2, 20), Vec::new());
        for life in 0..lives {
            let _ = fs::remove_dir_all(&folder);
            // Anywhere between two writes.
            let length = Duration::from_millis(1_300 + 370 * life % 1_000);
            forgotten.push(forgotten_after(setting, &config, length).await?);
        }
        let damaged = damaged(setting, &config, &folder.join("budgets.journal")).await?;
        let good = damaged.iter().filter(|(_, good)| *good).count();
        let worst = forgotten.iter().copied().fold(0.0, f64::max);
        let bound = setting.size(FORGOTTEN_QUICK_S, FORGOTTEN_MAX_S);
        Ok(Finding {
            figure: format!(
                "{worst:.2} s worth at most, {lives} times killed; {good} of {} start",
                damaged.len()
            ),
            goal: format!("≤{bound} s worth; all start, say so and serve"),
            ok: worst <= bound && good == damaged.len(),
            details: json!({
                "forgotten_s": forgotten,
                "damaged": damaged.iter().map(|(how, good)| json!([how, good])).collect::<Vec<Value>>(),
            }),
        })
    })
}

/// Seconds of use that are gone after a kill: the time from when the use was last as low as it is after the restart.
async fn forgotten_after(setting: &Setting, config: &Config, length: Duration) -> Result<f64, Trouble> {
    let gateway = Tidegate::start(setting, "t12", config).await?;
    let mut customer = Connection::open(gateway.address).await?;
    let mut admin = Admin::open(gateway.admin).await?;
    let (began, mut seen) = (clock::now(), Vec::new());
    while clock::now() < began + length {
        spend(&mut customer).await?;
        seen.push((clock::now(), prompt(&mut admin).await?));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let killed = clock::now();
    kill(Pid::from_raw(gateway.program.pid().cast_signed()), Signal::SIGKILL)
        .map_err(|e| Trouble::Unexpected(e.to_string()))?;
    drop(gateway);
    let again = Tidegate::start(setting, "t12", config).await?;
    let left = prompt(&mut Admin::open(again.admin).await?).await?;
    let known = seen.iter().rev().find(|(_, used)| *used <= left).map_or(began, |(at, _)| *at);
    Ok((killed - known).as_secs_f64())
}

async fn spend(customer: &mut Connection) -> Result<(), Trouble> {
    let body = format!(
        "{{\"model\":\"{MODEL}\",\"max_tokens\":3,\"messages\":[{{\"role\":\"user\",\"content\":\"tide after tide\"}}]}}"
    );
    let answer = customer.exchange(&chat(KEY, &body), |_| ()).await?;
    if answer.status != 200 {
        return Err(Trouble::Unexpected(format!("status {}", answer.status)));
    }
    Ok(())
}

async fn prompt(admin: &mut Admin) -> Result<u64, Trouble> {
    Ok(admin.used("a0").await?.get("prompt").copied().unwrap_or(0))
}

/// Each way in which a journal was damaged, and whether the gateway started, said so and served.
async fn damaged(
    setting: &Setting,
    config: &Config,
    journal: &Path,
) -> Result<Vec<(&'static str, bool)>, Trouble> {
    type Damage = fn(&mut Vec<u8>);
    let ways: [(&str, Damage); 4] = [
        ("torn in the last record", |bytes| bytes.truncate(bytes.len().saturating_sub(7))),
        ("a bit flipped in the middle", |bytes| {
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
        }),
        ("another file", |bytes| *bytes = b"this is no journal, it is a letter\n".repeat(50)),
        ("another version", |bytes| {
            if let Some(byte) = bytes.get_mut(8) {
                *byte = 99;
            }
        }),
    ];
    let good = fs::read(journal)?;
    let mut outcomes = Vec::new();
    for (how, damage) in ways {
        let mut bytes = good.clone();
        damage(&mut bytes);
        fs::write(journal, bytes)?;
        let gateway = Tidegate::start(setting, "t12-damaged", config).await?;
        let said = gateway.program.output()?.contains("budgets.journal");
        let serves = spend(&mut Connection::open(gateway.address).await?).await.is_ok();
        outcomes.push((how, said && serves));
    }
    Ok(outcomes)
}
