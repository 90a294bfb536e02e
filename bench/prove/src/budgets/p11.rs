//! P11: what a generated-tokens limit does to streaming traffic.

use std::ops::Range;

use serde_json::json;

use crate::harness::proof::{Finding, Proof, Setting, Trouble};

mod streaming;

use streaming::{Outcome, STREAMED, Traffic};

pub(crate) const PROOF: Proof = Proof {
    id: "P11",
    what: "the limit under streaming traffic: use at 2×, worst 60 s, false 429 at 0.8×",
    goal: "≥0.99; ≤1.05; 0",
    quick_s: 2,
    full_s: 20,
    needs: "",
    run,
};

const USE_MIN: f64 = 0.99;
const WORST_MAX: f64 = 1.05;

/// What is shown beside it and not judged: nobody knows how answers will be.
const OTHERS: [Traffic; 5] = [
    Traffic { name: "in one piece", whole: true, ..STREAMED },
    Traffic { name: "a quarter as long", length: 0.25, ..STREAMED },
    Traffic { name: "ten times as long", length: 10.0, ..STREAMED },
    Traffic { name: "100 tokens per second", token_ms: 10, ..STREAMED },
    Traffic { name: "first token after 2 s", first_token_ms: 2_000, ..STREAMED },
];

/// Minutes of traffic, warm-up included.
fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let minutes = setting.size(35, 245);
    let seeds = setting.seeds(setting.size(2, 6));
    let play = |traffic: Traffic, demand: f64, seeds: Range<u64>| -> Vec<Outcome> {
        seeds.map(|seed| streaming::run(traffic, seed, demand, minutes)).collect()
    };
    let (over, under) = (play(STREAMED, 2.0, seeds.clone()), play(STREAMED, 0.8, seeds.clone()));
    let (used, worst, falsely, offered) = summary(&over, &under);
    let sound = over.iter().chain(&under).all(|outcome| outcome.at_rest && outcome.worst_charged <= 1.0);
    let others = OTHERS.map(|traffic| {
        let (used, worst, falsely, offered) =
            summary(&play(traffic, 2.0, setting.seeds(1)), &play(traffic, 0.8, setting.seeds(1)));
        json!({ "answers": traffic.name, "use_at_2x": used, "worst_60s": worst,
            "refused_falsely_at_0.8x": falsely, "offered": offered })
    });
    let shown = |list: &[Outcome]| list.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>();
    Ok(Finding {
        figure: format!("{used:.3}; {worst:.3}; {falsely} of {offered}"),
        goal: PROOF.goal.to_owned(),
        ok: used >= USE_MIN && worst <= WORST_MAX && falsely == 0 && sound,
        details: json!({ "limit": streaming::LIMIT, "minutes": minutes, "first_seed": seeds.start, "at_2x": shown(&over),
            "at_0.8x": shown(&under), "others": others }),
    })
}

/// Mean use and worst minute above the limit; refused falsely of those offered below it.
fn summary(over: &[Outcome], under: &[Outcome]) -> (f64, f64, u64, u64) {
    let used = over.iter().map(|outcome| outcome.use_of_limit).sum::<f64>() / over.len().max(1) as f64;
    let worst = over.iter().map(|outcome| outcome.worst_minute).fold(0.0, f64::max);
    let falsely = under.iter().map(|outcome| outcome.refused_falsely).sum();
    (used, worst, falsely, under.iter().map(|outcome| outcome.offered).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two seeds of half an hour each.
    fn outcomes(traffic: Traffic, demand: f64) -> [Outcome; 2] {
        let outcomes = [1, 2].map(|seed| streaming::run(traffic, seed, demand, 35));
        assert!(
            outcomes.iter().all(|outcome| outcome.at_rest && outcome.worst_charged <= 1.0),
            "{outcomes:?}"
        );
        outcomes
    }

    #[test]
    fn p11_twice_the_demand_uses_the_limit_and_no_minute_is_far_over_it() {
        for outcome in outcomes(STREAMED, 2.0) {
            assert!(outcome.use_of_limit >= 0.99 && outcome.worst_minute <= 1.05, "{outcome:?}");
        }
    }

    #[test]
    fn p11_nobody_is_refused_falsely_below_the_limit() {
        for outcome in outcomes(STREAMED, 0.8) {
            assert_eq!(outcome.refused_falsely, 0, "{outcome:?}");
        }
    }

    /// Nothing is known of an answer in one piece until it is there.
    #[test]
    fn p11_answers_in_one_piece_use_most_of_the_limit_too() {
        let whole = Traffic { whole: true, ..STREAMED };
        for outcome in outcomes(whole, 2.0) {
            assert!(outcome.use_of_limit >= 0.93 && outcome.worst_minute <= 1.08, "{outcome:?}");
        }
    }
}
