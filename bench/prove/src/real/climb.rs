//! P1 and P2: load climbs from 0.8× to 3×, then comes in bursts; then a flood of ten times what fits.
//!
//! C* is the goodput of the same program with its limit held at the best number. Each stage is judged without its first
//! seconds, in which what is under way is still that of the stage before.

use std::time::Duration;

use serde_json::{Value, json};

use super::judge::{Tally, Tier};
use super::picture;
use super::play::{Course, Distance, Drill, play};
use super::side::Kind;
use super::table::{Goal, Row, Table, Unit, at_each_distance};
use crate::harness::proof::{Setting, Trouble};

const SIDES: [Kind; 3] = [Kind::Ours, Kind::HaProxy, Kind::Held];

/// A stage of which something is claimed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage {
    load: f64,
    cv: f64,
    /// Of priority attainment.
    priority: Option<f64>,
    /// Of goodput against C*.
    goodput: bool,
}

impl Stage {
    /// As `3× CV 3`.
    pub(super) fn name(&self) -> String {
        let Self { load, cv, .. } = self;
        if *cv > 1.0 { format!("{load}× CV {cv}") } else { format!("{load}×") }
    }
}

const FULL: [Stage; 5] = [
    Stage { load: 1.2, cv: 1.0, priority: None, goodput: true },
    Stage { load: 1.5, cv: 1.0, priority: None, goodput: true },
    Stage { load: 2.0, cv: 1.0, priority: Some(0.999), goodput: true },
    Stage { load: 3.0, cv: 1.0, priority: Some(0.995), goodput: true },
    Stage { load: 3.0, cv: 3.0, priority: Some(0.97), goodput: false },
];
const QUICK: [Stage; 1] = [Stage { load: 2.0, cv: 1.0, priority: Some(0.999), goodput: true }];

/// What the small size is judged by: of its fifty priority requests, and of goodput over seconds.
const PRIORITY_QUICK: f64 = 0.85;
const GOODPUT_MIN: f64 = 0.95;
const GOODPUT_QUICK: f64 = 0.7;
/// 10× with 8 % priority.
const FLOOD_MIN: f64 = 0.99;

/// The figures; played once.
///
/// # Errors
/// As [`play`].
pub(super) fn played(setting: &Setting) -> Result<&Table, Trouble> {
    let played = super::Played::of(setting)?;
    match played.climb.get() {
        Some(table) => Ok(table),
        None => {
            let table = at_each_distance(setting, "real-climb", &SIDES, climb)?;
            Ok(played.climb.get_or_init(|| table))
        }
    }
}

fn climb(setting: &Setting, distance: Distance) -> Result<(Vec<Row>, Value), Trouble> {
    let (warm_s, stage_s, skip_s) = setting.size((3.0, 7.0, 1.5), (15.0, 30.0, 5.0));
    let stages = if setting.quick { &QUICK[..] } else { &FULL[..] };
    let climb = Drill {
        name: "real-climb",
        distance,
        stages: [(0.8, 1.0, warm_s)]
            .into_iter()
            .chain(stages.iter().map(|s| (s.load, s.cv, stage_s)))
            .collect(),
        priority: 0.3,
        retries: 0,
        kill_at: None,
        watch_from: Duration::from_secs_f64(warm_s),
        knobs: super::Played::of(setting)?.knobs(),
    };
    let courses = play(setting, &climb, &SIDES)?;
    let windows: Vec<(Stage, f64, f64)> = stages
        .iter()
        .enumerate()
        .map(|(number, stage)| {
            let from = warm_s + stage_s * number as f64;
            (*stage, from + skip_s, from + stage_s)
        })
        .collect();
    let mut rows: Vec<Row> =
        windows.iter().flat_map(|window| of_stage(&courses, *window, distance)).collect();
    let mut details = vec![json!(courses.iter().map(|course| &course.details).collect::<Vec<_>>())];
    if !setting.quick {
        let flood = Drill {
            name: "real-flood",
            stages: vec![(0.8, 1.0, 10.0), (10.0, 1.0, 20.0)],
            priority: 0.08,
            ..climb
        };
        let flooded = play(setting, &flood, &SIDES[..2])?;
        let value = |course: &Course| Some(course.requests.within(Tier::Priority, 12.0, 30.0).attainment());
        rows.push(Row {
            id: "P1",
            what: format!("priority attainment at 10×, 8 % priority{}", distance.note()),
            values: flooded.iter().map(value).chain([None]).collect(),
            unit: Unit::Share,
            goal: Some((Goal::AtLeast(FLOOD_MIN), Goal::AtLeast(FLOOD_MIN))),
        });
        details.push(json!(flooded.iter().map(|course| &course.details).collect::<Vec<_>>()));
    }
    let picture = picture::climb(&courses, &windows);
    std::fs::write(setting.out.join(format!("real-climb{}.svg", distance.slug())), picture)?;
    Ok((rows, json!(details)))
}

fn of_stage(courses: &[Course], (stage, from, to): (Stage, f64, f64), distance: Distance) -> Vec<Row> {
    let name = format!("{}{}", stage.name(), distance.note());
    let each = |value: &dyn Fn(&Course) -> f64| courses.iter().map(|course| Some(value(course))).collect();
    let tally = |course: &Course, tier: Tier| -> Tally { course.requests.within(tier, from, to) };
    let goodput = |course: &Course| tally(course, Tier::Both).attained as f64 / (to - from);
    let held = courses.iter().find(|course| course.kind == Kind::Held).map_or(f64::NAN, goodput);
    let row = |id, what: String, values: Vec<Option<f64>>, unit, goal| Row { id, what, values, unit, goal };
    let bound = |full: f64, quick: f64| (Goal::AtLeast(full), Goal::AtLeast(quick));
    vec![
        row(
            "P1",
            format!("priority attainment at {name}"),
            each(&|course| tally(course, Tier::Priority).attainment()),
            Unit::Share,
            stage.priority.map(|least| bound(least, PRIORITY_QUICK)),
        ),
        row(
            "P1",
            format!("regular attainment at {name}"),
            each(&|course| tally(course, Tier::Regular).attainment()),
            Unit::Share,
            None,
        ),
        row(
            "P2",
            format!("goodput at {name}, against the limit held"),
            each(&|course| goodput(course) / held),
            Unit::Number,
            stage.goodput.then(|| bound(GOODPUT_MIN, GOODPUT_QUICK)),
        ),
        row("P2", format!("goodput at {name}, requests per second"), each(&goodput), Unit::Number, None),
        row(
            "P2",
            format!("goodput at {name}, tokens per second"),
            each(&|course| tally(course, Tier::Both).tokens as f64 / (to - from)),
            Unit::Number,
            None,
        ),
        row(
            "P2",
            format!("refused at {name}"),
            each(&|course| {
                let tally = tally(course, Tier::Both);
                tally.refused as f64 / tally.offered.max(1) as f64
            }),
            Unit::Share,
            None,
        ),
    ]
}
