//! `table`: the shipped policy beside the rules of others, as a table, as JSON and as pictures from the same run.
//!
//! `prove load` plays all load goals and this: the table ends with every line of the goals that the same folder holds.

use std::fmt::Write as _;
use std::io::Write as _;

use goals::GOALS;
use goals::table::{Extent, Table};
use serde_json::{Value, json};

use crate::harness::proof::{Finding, Proof, Setting, Trouble};

/// A rival whose goodput is higher by less than this has the same.
const MARGIN: f64 = 0.01;

pub(crate) const PROOF: Proof = Proof {
    id: "table",
    what: "the shipped policy beside the rules of others: drills in which a rule has more goodput",
    goal: "0; pictures drawn",
    quick_s: 2,
    full_s: 120,
    needs: "",
    run,
};

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let table = Table::play(&setting.size(Extent::quick(), Extent::full()), 1);
    let text = format!("{}\n{}", table.text(), goals(setting));
    for (name, bytes) in [
        ("table.txt", &text),
        ("overload.svg", &table.overload_svg()),
        ("timeline.svg", &table.timeline_svg()),
    ] {
        std::fs::write(setting.out.join(name), bytes)?;
    }
    writeln!(std::io::stdout(), "{text}")?;
    let beaten = table.beaten(MARGIN);
    let by: Vec<String> =
        beaten.iter().map(|row| format!("{} {}× by {}", row.setting, row.load, row.contender)).collect();
    Ok(Finding {
        figure: if by.is_empty() { "0".to_owned() } else { format!("{}: {}", by.len(), by.join(", ")) },
        goal: PROOF.goal.to_owned(),
        ok: by.is_empty(),
        details: json!({ "pictures": ["overload.svg", "timeline.svg"], "text": "table.txt", "table": table }),
    })
}

/// Every line of the load goals that were shown into the same folder.
fn goals(setting: &Setting) -> String {
    let mut text = String::new();
    for goal in &GOALS {
        let Ok(bytes) = std::fs::read(setting.out.join(format!("{}.json", goal.id.to_lowercase()))) else {
            continue;
        };
        let Ok(shown) = serde_json::from_slice::<Value>(&bytes) else { continue };
        let size = shown.get("size").and_then(Value::as_str).unwrap_or_default();
        // Writing into a string cannot fail; so below.
        let _ = writeln!(text, "{}: {} ({size} size)", goal.id, goal.what);
        let lines = shown.pointer("/details/lines").and_then(Value::as_array);
        for line in lines.into_iter().flatten() {
            let word = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
            let figure = |name: &str| line.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
            let flag = |name: &str| line.get(name).and_then(Value::as_bool).unwrap_or_default();
            let bound = if flag("at_most") { "≤" } else { "≥" };
            let verdict = if flag("ok") { "ok" } else { "short" };
            let (case, of) = (word("case"), word("of"));
            let _ = writeln!(
                text,
                "  {case:<56} {of:<24} {:>9.4} {bound} {:<6} {verdict}",
                figure("figure"),
                figure("goal")
            );
        }
    }
    text
}
