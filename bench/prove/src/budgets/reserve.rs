//! `reserve`: how much of its limit does an account get, and how far does it overshoot, by the way in which output is
//! reserved? One table and one picture, in virtual time, all policies with the same requests.
//!
//! An answer's length is unknown when it is admitted. Reserving the maximum that clients name refuses requests that
//! would have fitted; charging afterwards lets everything in that comes before the first bill.

mod policies;
mod traffic;

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use drill::report::svg::{Anchor, Canvas, colour};
use policies::{ChargeAfterwards, ReserveMaximum, ReserveMean, Shipped};
use traffic::Outcome;

pub(crate) const PROOF: Proof = Proof {
    id: "reserve",
    what: "ways to reserve output: refused although it fits at 0.8×, worst 60 s at 2×",
    goal: "fewer than reserving the maximum; lower than charging afterwards",
    quick_s: 2,
    full_s: 10,
    needs: "",
    run,
};

/// Load, as a multiple of the limit.
const DEMANDS: [f64; 3] = [0.8, 0.95, 2.0];

type Play = fn(u64, f64, u64) -> Outcome;

/// Each policy and how it is played; the last is ours.
const POLICIES: [(&str, Play); 4] = [
    ("reserve the maximum", |seed, demand, minutes| {
        traffic::run(ReserveMaximum::new(), seed, demand, minutes)
    }),
    ("reserve the mean", |seed, demand, minutes| traffic::run(ReserveMean::new(), seed, demand, minutes)),
    ("charge afterwards", |seed, demand, minutes| {
        traffic::run(ChargeAfterwards::new(), seed, demand, minutes)
    }),
    ("tidegate", |seed, demand, minutes| traffic::run(Shipped::new(), seed, demand, minutes)),
];

/// A policy's outcomes, one per demand.
struct Row {
    name: &'static str,
    outcomes: [Outcome; DEMANDS.len()],
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let (minutes, seeds) = setting.size((35, 1), (185, 3));
    let rows: Vec<Row> = POLICIES
        .iter()
        .map(|&(name, play)| Row {
            name,
            outcomes: DEMANDS
                .map(|demand| mean(setting.seeds(seeds).map(|seed| play(seed, demand, minutes)).collect())),
        })
        .collect();
    std::fs::write(setting.out.join("reserve.txt"), table(&rows))?;
    let picture = setting.out.join("reserve.svg");
    std::fs::write(&picture, draw(&rows))?;
    let of =
        |name: &str| rows.iter().find(|row| row.name == name).map(|row| row.outcomes).unwrap_or_default();
    let ([ours_under, _, ours_over], [maximum, ..], [.., afterwards]) =
        (of("tidegate"), of("reserve the maximum"), of("charge afterwards"));
    let percent = |share: f64| share * 100.0;
    Ok(Finding {
        figure: format!(
            "{:.2} % (maximum: {:.2} %); {:.2}× (afterwards: {:.2}×); use {:.2}",
            percent(ours_under.refused_falsely),
            percent(maximum.refused_falsely),
            ours_over.worst_minute,
            afterwards.worst_minute,
            ours_over.used
        ),
        goal: PROOF.goal.to_owned(),
        ok: ours_under.refused_falsely < maximum.refused_falsely
            && ours_over.worst_minute < afterwards.worst_minute,
        details: json!({
            "minutes": minutes, "seeds": seeds, "limit": traffic::LIMIT, "demands": DEMANDS,
            "rows": rows.iter().map(shown).collect::<Vec<_>>(),
            "table": "reserve.txt", "picture": "reserve.svg",
        }),
    })
}

/// Means over the seeds; of the worst minute the worst.
fn mean(outcomes: Vec<Outcome>) -> Outcome {
    let count = outcomes.len().max(1) as f64;
    outcomes.iter().fold(Outcome::default(), |sum, one| Outcome {
        used: sum.used + one.used / count,
        worst_minute: sum.worst_minute.max(one.worst_minute),
        refused: sum.refused + one.refused / count,
        refused_falsely: sum.refused_falsely + one.refused_falsely / count,
    })
}

fn shown(row: &Row) -> Value {
    let outcomes = row.outcomes.iter().zip(DEMANDS).map(|(outcome, demand)| {
        json!({
            "demand": demand, "use": outcome.used, "worst_60s": outcome.worst_minute,
            "refused": outcome.refused, "refused_falsely": outcome.refused_falsely,
        })
    });
    json!({ "policy": row.name, "outcomes": outcomes.collect::<Vec<_>>() })
}

fn table(rows: &[Row]) -> String {
    let mut text =
        "policy               demand   use  worst 60 s  refused  of them although it would have fitted\n"
            .to_owned();
    for row in rows {
        for (outcome, demand) in row.outcomes.iter().zip(DEMANDS) {
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "{:<20} {demand:>5.2}×  {:.2}  {:>9.2}×  {:>5.1} %  {:>5.2} %",
                row.name,
                outcome.used,
                outcome.worst_minute,
                outcome.refused * 100.0,
                outcome.refused_falsely * 100.0
            );
        }
    }
    text
}

/// One group of bars per question, one bar per policy.
fn draw(rows: &[Row]) -> String {
    type Question = (&'static str, &'static str, fn(&Row) -> f64, f64, fn(f64) -> String);
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let times = |share: f64| format!("{share:.2}×");
    let questions: [Question; 3] = [
        (
            "Refused although it would have fitted",
            "demand 0.8 × the limit",
            |row| row.outcomes.first().map_or(0.0, |outcome| outcome.refused_falsely),
            0.0,
            percent,
        ),
        (
            "Use of the limit",
            "demand 2 × the limit",
            |row| row.outcomes.last().map_or(0.0, |outcome| outcome.used),
            1.0,
            times,
        ),
        (
            "Most tokens in any 60 s",
            "demand 2 × the limit",
            |row| row.outcomes.last().map_or(0.0, |outcome| outcome.worst_minute),
            1.0,
            times,
        ),
    ];
    let mut canvas = Canvas::new(960.0, 250.0);
    let title = "A limit of 36,000 generated tokens per minute, by how output is reserved";
    canvas.text((24.0, 30.0), Anchor::Start, 16.0, colour::INK, title);
    for (number, (question, setting, value, ideal, label)) in questions.iter().enumerate() {
        let left = 170.0 + 262.0 * number as f64;
        canvas.text((left, 64.0), Anchor::Start, 12.0, colour::INK, question);
        canvas.text((left, 80.0), Anchor::Start, 11.0, colour::MUTED, setting);
        let longest = rows.iter().map(value).fold(*ideal, f64::max).max(f64::MIN_POSITIVE);
        let scale = 180.0 / longest;
        for (place, row) in rows.iter().enumerate() {
            let y = 94.0 + 32.0 * place as f64;
            let fill = if row.name == "tidegate" { colour::FIRST } else { colour::SECOND };
            canvas.rect((left, y), (value(row) * scale, 20.0), fill);
            let end = left + value(row).max(*ideal) * scale + 6.0;
            canvas.text((end, y + 14.0), Anchor::Start, 11.0, colour::INK, &label(value(row)));
        }
        if *ideal > 0.0 {
            let x = left + ideal * scale;
            canvas.line((x, 88.0), (x, 216.0), colour::INK, 1.0);
            canvas.text((x, 230.0), Anchor::Middle, 11.0, colour::MUTED, "the limit");
        }
    }
    for (place, row) in rows.iter().enumerate() {
        let at = (158.0, 108.0 + 32.0 * place as f64);
        canvas.text(at, Anchor::End, 12.0, colour::INK, row.name);
    }
    canvas.finish()
}
