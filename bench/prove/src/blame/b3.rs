//! B3: is what was computed charged, whatever the engine or the client does to hide it?
//!
//! As T2, with kinds that a simulated server does not have: text that a long `stop` holds back, deltas that nobody has
//! listed, whole answers without usage that can be used, answers that go on beyond their maximum; and clients that leave
//! each of them. The engine is a script that counts each token when it is generated; prompts and answers are prose,
//! counted by a real vocabulary.

mod engine;
mod kinds;
mod round;

use std::collections::BTreeMap;

use serde_json::json;

use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use kinds::{Bounds, KINDS, Kind};
use round::Sums;

pub(crate) const PROOF: Proof = Proof {
    id: "B3",
    what: "tokens booked by what a script computed: text held back, unknown deltas, no usable usage, no end, and leaving \
           in each",
    goal: "each within 0.99…1.01; whole answers without usage 0.9…1.05; one that is left 0.981…1.019, as T2 has it",
    quick_s: 6,
    full_s: 400,
    needs: "",
    run,
};

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let (rounds, requests) = setting.size((1, 8 * KINDS.len()), (32, 40 * KINDS.len()));
    let mut sums: BTreeMap<&'static str, Sums> = BTreeMap::new();
    setting.block_on(async {
        for number in 0..rounds {
            for (kind, of_round) in round::play(setting, requests, number).await? {
                sums.entry(kind).or_default().add(&of_round);
            }
        }
        Ok(())
    })?;
    let rows: Vec<(&Kind, Sums)> =
        KINDS.iter().map(|kind| (kind, sums.get(kind.name).copied().unwrap_or_default())).collect();
    // A small round has eight requests of a kind.
    let bounds = |kind: &Kind| setting.size(kind.within.in_small(), kind.within.bounds());
    let short: Vec<&(&Kind, Sums)> =
        rows.iter().filter(|(kind, sums)| !is_within(sums, &bounds(kind))).collect();
    let named: Vec<String> = short.iter().map(|(kind, sums)| shown(kind, sums)).collect();
    let held: Vec<&(&Kind, Sums)> =
        rows.iter().filter(|(kind, _)| kind.within == Bounds::Estimated).collect();
    let estimated: Vec<String> =
        held.iter().map(|(_, sums)| ratio(sums.booked_generated, sums.generated)).collect();
    Ok(Finding {
        figure: format!(
            "{} of {} kinds; whole answers without usage {}{}{}",
            rows.len() - short.len(),
            rows.len(),
            estimated.join(", "),
            if named.is_empty() { "" } else { "; not: " },
            named.join(", ")
        ),
        goal: if setting.quick { format!("{} (quick: wider)", PROOF.goal) } else { PROOF.goal.to_owned() },
        ok: short.is_empty(),
        details: json!({
            "requests": rounds as usize * requests,
            "kinds": rows.iter().map(|(kind, sums)| json!({
                "kind": kind.name, "requests": sums.requests, "taken": sums.taken,
                "prompt": { "booked": sums.booked_prompt, "computed": sums.prompt },
                "generated": { "booked": sums.booked_generated, "computed": sums.generated },
                "right": is_within(sums, &bounds(kind)),
            })).collect::<Vec<_>>(),
        }),
    })
}

fn is_within(sums: &Sums, bounds: &std::ops::RangeInclusive<f64>) -> bool {
    let meter =
        |booked: u64, computed: u64| computed > 0 && bounds.contains(&(booked as f64 / computed as f64));
    sums.taken > 0 && meter(sums.booked_prompt, sums.prompt) && meter(sums.booked_generated, sums.generated)
}

fn ratio(booked: u64, computed: u64) -> String {
    if computed == 0 {
        format!("{booked} for nothing")
    } else {
        format!("{:.3}", booked as f64 / computed as f64)
    }
}

fn shown(kind: &Kind, sums: &Sums) -> String {
    format!(
        "{} (prompt {}, generated {})",
        kind.name,
        ratio(sums.booked_prompt, sums.prompt),
        ratio(sums.booked_generated, sums.generated)
    )
}
