//! P4 and P6: from 0.7× to 3× at once, and back to 0.75×, while refused clients come back, as those of every SDK do.
//!
//! A client makes up to two further attempts, after the time that it was told, or half a second and then one where it
//! was told nothing. So the fleet is offered more than the stage says, and what was refused in the wave comes back when
//! it is over. A request attains from when it was first due, whatever its attempts.

use std::time::Duration;

use serde_json::{Value, json};

use super::judge::Tier;
use super::picture;
use super::play::{Course, Distance, Drill, play};
use super::side::Kind;
use super::table::{Goal, Row, Table, Unit, at_each_distance};
use crate::harness::proof::{Setting, Trouble};

/// In the small size regular must attain so much of what it attains beside: what a few seconds after a wave come to
/// depends on the machine, and both sides meet the same.
const SMALL_BESIDE_HAPROXY: f64 = 0.6;

const SIDES: [Kind; 2] = [Kind::Ours, Kind::HaProxy];

/// The figures; played once.
///
/// # Errors
/// As [`play`].
pub(super) fn played(setting: &Setting) -> Result<&Table, Trouble> {
    let played = super::Played::of(setting)?;
    match played.wave.get() {
        Some(table) => Ok(table),
        None => {
            let table = at_each_distance(setting, "real-wave", &SIDES, wave)?;
            Ok(played.wave.get_or_init(|| table))
        }
    }
}

fn wave(setting: &Setting, distance: Distance) -> Result<(Vec<Row>, Value), Trouble> {
    let (calm, high, after) = setting.size((2.0, 5.0, 9.0), (20.0, 45.0, 40.0));
    let first = setting.size(5.0, 30.0);
    let drill = Drill {
        name: "real-wave",
        distance,
        stages: vec![(0.7, 1.0, calm), (3.0, 1.0, high), (0.75, 1.0, after)],
        priority: 0.3,
        retries: 2,
        kill_at: None,
        watch_from: Duration::from_secs_f64(calm),
        knobs: super::Played::of(setting)?.knobs(),
    };
    let courses = play(setting, &drill, &SIDES)?;
    let (ebb, end) = (calm + high, calm + high + after);
    let each = |value: &dyn Fn(&Course) -> Option<f64>| courses.iter().map(value).collect::<Vec<_>>();
    let attained = |tier, from, to| each(&|course| Some(course.requests.within(tier, from, to).attainment()));
    let row = |id, what: &str, values, unit, goal| {
        let what = format!("{what}{}", distance.note());
        Row { id, what, values, unit, goal }
    };
    let mut rows = vec![
        row(
            "P4",
            "first refusal after the step",
            each(&|course| course.first_refusal.map(|after| after.as_secs_f64())),
            Unit::Seconds,
            // With short answers it takes longer until anything is short.
            Some((Goal::AtMost(1.0), Goal::AtMost(5.0))),
        ),
        row(
            "P4",
            "priority attainment in the first 30 s",
            attained(Tier::Priority, calm, calm + first),
            Unit::Share,
            Some((Goal::AtLeast(0.98), Goal::AtLeast(0.85))),
        ),
    ];
    if !setting.quick {
        let goal = Some((Goal::AtLeast(0.999), Goal::AtLeast(0.999)));
        let values = attained(Tier::Priority, calm + first, ebb);
        rows.push(row("P4", "priority attainment after", values, Unit::Share, goal));
    }
    let after_wave = attained(Tier::Regular, ebb, end);
    let beside = after_wave.get(1).copied().flatten().unwrap_or(0.0);
    rows.extend([
        row("P4", "regular attainment in the wave", attained(Tier::Regular, calm, ebb), Unit::Share, None),
        row(
            "P6",
            "both tiers attain 99 % again after the wave",
            each(&|course| course.requests.recovery(ebb, end)),
            Unit::Seconds,
            // In the few seconds of the small size nobody can tell.
            (!setting.quick).then_some((Goal::AtMost(10.0), Goal::AtMost(10.0))),
        ),
        row(
            "P6",
            "regular attainment after the wave",
            after_wave,
            Unit::Share,
            setting.quick.then_some((Goal::AtLeast(0.99), Goal::AtLeast(SMALL_BESIDE_HAPROXY * beside))),
        ),
    ]);
    let details = json!(courses.iter().map(|course| &course.details).collect::<Vec<_>>());
    let marks = [(calm, "3×"), (ebb, "0.75×")];
    let title = format!("From 0.7× to 3× and back to 0.75×, with clients that retry{}", distance.note());
    let picture = picture::course(&title, &courses, &marks);
    std::fs::write(setting.out.join(format!("real-wave{}.svg", distance.slug())), picture)?;
    Ok((rows, details))
}
