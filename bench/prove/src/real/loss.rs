//! P5: half of the replicas are killed at 0.8×, which leaves what is 1.6× for the others.

use std::time::Duration;

use serde_json::{Value, json};

use super::judge::Tier;
use super::picture;
use super::play::{Course, Distance, Drill, play};
use super::side::Kind;
use super::table::{Goal, Row, Table, Unit, at_each_distance};
use crate::harness::proof::{Setting, Trouble};

const SIDES: [Kind; 2] = [Kind::Ours, Kind::HaProxy];

/// From then on after the kill new priority requests have to be served.
const PAUSE_S: f64 = 2.0;

/// The figures.
///
/// # Errors
/// As [`play`].
pub(super) fn played(setting: &Setting) -> Result<Table, Trouble> {
    at_each_distance(setting, "real-loss", &SIDES, loss)
}

fn loss(setting: &Setting, distance: Distance) -> Result<(Vec<Row>, Value), Trouble> {
    let (calm, after) = setting.size((3.0, 5.0), (20.0, 35.0));
    let drill = Drill {
        name: "real-loss",
        distance,
        stages: vec![(0.8, 1.0, calm + after)],
        priority: 0.3,
        retries: 0,
        kill_at: Some(Duration::from_secs_f64(calm)),
        watch_from: Duration::from_secs_f64(calm),
        knobs: super::Played::of(setting)?.knobs(),
    };
    let courses = play(setting, &drill, &SIDES)?;
    let end = calm + after;
    let attained = |tier, from: f64, to: f64| -> Vec<Option<f64>> {
        let value = |course: &Course| Some(course.requests.within(tier, from, to).attainment());
        courses.iter().map(value).collect()
    };
    let row = |what: &str, values, goal| Row {
        id: "P5",
        what: format!("{what}{}", distance.note()),
        values,
        unit: Unit::Share,
        goal,
    };
    let rows = vec![
        row(
            "priority attainment from 2 s after the kill",
            attained(Tier::Priority, calm + PAUSE_S, end),
            Some((Goal::AtLeast(0.99), Goal::AtLeast(0.75))),
        ),
        row(
            "priority attainment in the 2 s after the kill",
            attained(Tier::Priority, calm, calm + PAUSE_S),
            None,
        ),
        row("regular attainment from 2 s after the kill", attained(Tier::Regular, calm + PAUSE_S, end), None),
    ];
    let details = json!(courses.iter().map(|course| &course.details).collect::<Vec<_>>());
    let title = format!("Half of the replicas killed at 0.8×{}", distance.note());
    let picture = picture::course(&title, &courses, &[(calm, "killed")]);
    std::fs::write(setting.out.join(format!("real-loss{}.svg", distance.slug())), picture)?;
    Ok((rows, details))
}
