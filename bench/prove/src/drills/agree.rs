//! AGREE: one scenario in virtual time and in real time gives the same figures, and an hour of virtual time is short.
//!
//! Virtual time has the policies and the engine model and nothing else; real time has the shipped gateway as a process,
//! engines behind sockets, and a clock. If the two agree, what is found in seconds holds on the real system. Both are
//! played by `tidegate drill`, from the same file.

use std::path::Path;

use serde_json::json;

use super::{apart, brief, number, play};
use crate::harness::proof::{Finding, Proof, Setting, Trouble, median};

pub(crate) const PROOF: Proof = Proof {
    id: "AGREE",
    what: "a drill in virtual and in real time: attainment, goodput; an hour of 4 replicas at 25/s in virtual time",
    goal: "≤2 points, ≤5 %; ≤20 s",
    quick_s: QUICK_S,
    full_s: 600,
    needs: "",
    run,
};

/// About what the quick size takes.
const QUICK_S: u32 = 18;
const POINTS_MAX: f64 = 2.0;
const GOODPUT_MAX: f64 = 5.0;
const HOUR_S_MAX: f64 = 20.0;
/// What the quick size, a few dozen requests on a busy machine, is judged by.
const QUICK_FACTOR: f64 = 10.0;

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let executable = setting.binaries().tidegate()?;
    let rounds = setting.size(1, 3);
    let (mut points, mut goodput, mut details) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 1..=rounds {
        let file = setting.out.join(format!("agree-{seed}.yaml"));
        std::fs::write(&file, scenario(setting, seed))?;
        let virtual_time = play(executable, &file, &setting.out, &["--virtual"])?;
        let real = play::<&str>(executable, &file, &setting.out, &[])?;
        let (off, percent) = apart(&virtual_time, &real);
        points.push(off);
        goodput.push(percent);
        details.push(json!({ "virtual": brief(&virtual_time), "real": brief(&real) }));
    }
    let hour_s = hour(setting, executable)?;
    let (points, goodput) = (median(&points), median(&goodput));
    let factor = setting.size(QUICK_FACTOR, 1.0);
    let wider = setting.size(format!(" (quick: ×{QUICK_FACTOR})"), String::new());
    Ok(Finding {
        figure: format!("{points:.1} points, {goodput:.1} %; {hour_s:.1} s"),
        goal: format!("{}{wider}", PROOF.goal),
        ok: points <= POINTS_MAX * factor && goodput <= GOODPUT_MAX * factor && hour_s <= HOUR_S_MAX,
        details: json!({ "rounds": details, "hour_s": hour_s }),
    })
}

/// Two replicas, from below their capacity to one and a half times as much.
fn scenario(setting: &Setting, seed: u32) -> String {
    let (duration, warm_up, step, drain) = setting.size((6, 1, 3, 20), (120, 20, 70, 30));
    format!(
        "drill: agree-{seed}\nseed: {seed}\nduration_s: {duration}\nwarm_up_s: {warm_up}\ndrain_s: {drain}\n\
         fleet: {{ replicas: 2 }}\naccounts: [{{ id: a, count: 5 }}]\n\
         traffic: [{{ name: t, accounts: a, rate_per_s: 9, priority: 0.3, load: [{{ at_s: {step}, factor: 2 }}] }}]\n"
    )
}

/// Seconds that an hour of four replicas at 25 requests per second takes.
fn hour(setting: &Setting, executable: &Path) -> Result<f64, Trouble> {
    let seconds = setting.size(120, 3600);
    let file = setting.out.join("hour.yaml");
    let text = format!(
        "drill: hour\nduration_s: {seconds}\naccounts: [{{ id: a, count: 40, zipf: 1 }}]\n\
         traffic: [{{ name: t, accounts: a, rate_per_s: 25, priority: 0.3 }}]\n"
    );
    std::fs::write(&file, text)?;
    let figures = play(executable, &file, &setting.out, &["--virtual"])?;
    Ok(number(&figures, "/how/took_s") * 3600.0 / f64::from(seconds))
}
