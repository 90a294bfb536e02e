//! `week`: seven days of one account's limits as a picture, from the shipped crate in virtual time.
//!
//! The story: a product starts on Monday, its launch on Tuesday finds the model short of capacity from half past nine to half past eleven, and
//! its load moves elsewhere on Wednesday at midnight. A second account is tried out on Monday and then forgotten. So one
//! week shows every way in which a limit moves: growth, growth withheld, shrinking after three quiet days, and the return
//! to the start after 72 hours without traffic.

mod picture;
mod story;

use serde_json::{Value, json};

use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use story::Week;

pub(crate) const PROOF: Proof = Proof {
    id: "week",
    what: "seven days of adaptive limits as a picture: grown, withheld, shrunk, reset",
    goal: "each kind shown, growth while short 0, outside of floor and ceiling 0, the same bytes twice",
    quick_s: 1,
    full_s: 1,
    needs: "",
    run,
};

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let week = Week::play();
    let drawn = picture::draw(&week);
    let again = picture::draw(&Week::play()) == drawn;
    std::fs::write(setting.out.join("week.svg"), &drawn)?;
    let count = |reason: &str| week.changes().filter(|(_, change)| change.reason.name() == reason).count();
    let (grown, shrunk, idle) = (count("grown"), count("shrunk"), count("idle"));
    let while_short = week.grown_while_short();
    let (withheld, outside) = (week.withheld(), week.outside());
    let changes = week.changes().map(|(account, change)| {
        json!({
            "account": account, "hour": change.at.as_secs_f64() / 3600.0, "meter": change.meter.name(),
            "from": change.from, "to": change.to, "reason": change.reason.name(),
        })
    });
    let ok = grown > 0 && shrunk > 0 && idle > 0 && withheld > 0 && while_short == 0 && outside == 0 && again;
    Ok(Finding {
        figure: format!(
            "{grown} grown, {shrunk} shrunk, {idle} reset, {withheld} withheld; {while_short}; {outside}; {}",
            if again { "same" } else { "different" }
        ),
        goal: PROOF.goal.to_owned(),
        ok,
        details: json!({ "picture": "week.svg", "changes": changes.collect::<Vec<Value>>() }),
    })
}
