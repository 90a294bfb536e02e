//! T2: is what the budgets were charged what the engine computed?
//!
//! Mixed requests, each kind from an account of its own, among them the ways in which clients try to be charged less:
//! leaving before usage comes, asking for no usage, several choices, strange maxima, other routes. Afterwards each
//! account's budget is compared with what the engine computed for it until it saw its client gone. A round ends within a
//! minute, so the sliding minute still holds everything; the full size plays many rounds, each with a new gateway that has
//! learned nothing yet.
//!
//! Requests are told apart by the id that the gateway gives them, which the engine keeps and the access log names.

mod kinds;
pub(crate) mod round;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Value, json};

use harness::proof;
use harness::proof::{Finding, Proof, Setting, Trouble};
use kinds::{KINDS, Kind};
use round::Sums;

pub(crate) const PROOF: Proof = Proof {
    id: "T2",
    what: "tokens booked by what the engine computed, per kind of request",
    goal: "each within 0.99…1.01",
    quick_s: 14,
    full_s: 400,
    needs: "",
    run,
};

/// Requests of a round.
const ROUND: usize = 3_000;
/// Booked by computed.
const WITHIN: RangeInclusive<f64> = 0.99..=1.01;
/// What a small round may be off by before it is news.
const NEAR: RangeInclusive<f64> = 0.93..=1.07;

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let rounds = setting.size(1, 34);
    let mut sums: BTreeMap<&'static str, Sums> = BTreeMap::new();
    setting.block_on(async {
        for number in 0..rounds {
            for (kind, of_round) in round::play(setting, ROUND, number).await? {
                sums.entry(kind).or_default().add(&of_round);
            }
        }
        Ok(())
    })?;
    let rows: Vec<(&Kind, Sums)> =
        KINDS.iter().map(|kind| (kind, sums.get(kind.name).copied().unwrap_or_default())).collect();
    let short: Vec<&(&Kind, Sums)> = rows.iter().filter(|(_, sums)| !is_right(sums)).collect();
    // A kind that is not known to fall short is news when it is well outside: a round has few requests of a kind.
    let as_known = short.iter().all(|(kind, sums)| kind.known.is_some() || is_within(sums, &NEAR));
    let total = rows.iter().fold(Sums::default(), |mut total, (_, sums)| {
        total.add(sums);
        total
    });
    let named: Vec<String> =
        short.iter().map(|(kind, sums)| format!("{} {}", kind.name, ratios(sums))).collect();
    Ok(Finding {
        figure: format!(
            "{} of {} kinds, all together {}{}{}",
            rows.len() - short.len(),
            rows.len(),
            ratios(&total),
            if short.is_empty() { "" } else { "; not: " },
            named.join(", ")
        ),
        goal: PROOF.goal.to_owned(),
        ok: short.is_empty(),
        details: json!({
            "requests": rounds as usize * ROUND, "kinds": rows.iter().map(shown).collect::<Vec<_>>(),
            proof::WORSE: !as_known,
        }),
    })
}

fn is_right(sums: &Sums) -> bool {
    is_within(sums, &WITHIN)
}

/// Both meters; what nothing was computed for must cost nothing.
fn is_within(sums: &Sums, bounds: &RangeInclusive<f64>) -> bool {
    let meter = |booked: u64, computed: u64| match computed {
        0 => booked == 0,
        computed => bounds.contains(&(booked as f64 / computed as f64)),
    };
    sums.requests > 0
        && meter(sums.booked_prompt, sums.prompt)
        && meter(sums.booked_generated, sums.generated)
}

fn ratios(sums: &Sums) -> String {
    let ratio = |booked: u64, computed: u64| match (booked, computed) {
        (0, 0) => "nothing".to_owned(),
        (booked, 0) => format!("{booked} for nothing"),
        (booked, computed) => format!("{:.3}", booked as f64 / computed as f64),
    };
    format!(
        "(prompt {}, generated {})",
        ratio(sums.booked_prompt, sums.prompt),
        ratio(sums.booked_generated, sums.generated)
    )
}

fn shown((kind, sums): &(&Kind, Sums)) -> Value {
    json!({
        "kind": kind.name, "evasion": kind.evasion, "requests": sums.requests, "taken": sums.taken,
        "prompt": { "booked": sums.booked_prompt, "computed": sums.prompt },
        "generated": { "booked": sums.booked_generated, "computed": sums.generated },
        "right": is_right(sums), "known": kind.known,
    })
}
