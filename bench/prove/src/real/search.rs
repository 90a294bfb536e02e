//! The numbers that have to be set by hand on the other sides, searched for in real time.
//!
//! HAProxy needs to be told how many requests an engine may have (`maxconn`), and the side whose limit is held how many
//! it is held at. Both are played at twice the knee with each of some values, in turn, both sides at once. The best
//! `maxconn` is the one with the highest goodput among those that keep priority in time, or the highest of all when none
//! does; the best held limit is the one with the highest goodput, for C* is about nothing else. What was found is used by
//! the proofs that follow in the same run; without this one they use what it found before.

use serde_json::json;

use super::haproxy;
use super::judge::Tier;
use super::play::{Distance, Drill, play};
use super::side::{Kind, Knobs};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};

pub(crate) const PROOF: Proof = Proof {
    id: "real-search",
    what: "real time: HAProxy's maxconn and the held limit with the most in time at 2×, for the proofs that follow",
    goal: "no value at the end of its range",
    quick_s: 14,
    full_s: 165,
    needs: haproxy::NEEDED,
    run: |setting| search(setting),
};

const SIDES: [Kind; 2] = [Kind::HaProxy, Kind::Held];
/// `maxconn`, held limit.
const FULL: [(u32, u32); 5] = [(48, 104), (56, 136), (64, 176), (72, 232), (80, 304)];
const QUICK: [(u32, u32); 2] = [(48, 104), (72, 176)];
const LOAD: f64 = 2.0;
/// A `maxconn` that serves less of priority than this is not one that anybody would set.
const PRIORITY_MIN: f64 = 0.995;

/// What one value came to on one side.
#[derive(Debug, Clone, Copy)]
struct Tried {
    value: u32,
    goodput: f64,
    priority: f64,
}

fn search(setting: &Setting) -> Result<Finding, Trouble> {
    let values = setting.size(&QUICK[..], &FULL[..]);
    let mut tried: [Vec<Tried>; 2] = [Vec::new(), Vec::new()];
    for &(places, held) in values {
        for (list, found) in tried.iter_mut().zip(at(setting, Knobs { places, held })?) {
            list.push(found);
        }
    }
    let [haproxy, held] = tried;
    let in_time: Vec<Tried> = haproxy.iter().copied().filter(|one| one.priority >= PRIORITY_MIN).collect();
    let places = best(if in_time.is_empty() { &haproxy } else { &in_time });
    let held_at = best(&held);
    let (Some(places), Some(held_at)) = (places, held_at) else {
        return Err(Trouble::Unexpected("nothing was tried".to_owned()));
    };
    // The small size is too short to choose by.
    if !setting.quick {
        let _ = super::Played::of(setting)?.knobs.set(Knobs { places: places.value, held: held_at.value });
    }
    let inside = |one: Tried, list: &[Tried]| {
        [list.first(), list.last()].iter().flatten().all(|end| end.value != one.value)
    };
    let row =
        |one: &Tried| json!({ "value": one.value, "goodput_per_s": one.goodput, "priority": one.priority });
    Ok(Finding {
        figure: format!(
            "maxconn {} ({:.1}/s in time, priority {:.2} %), held at {} ({:.1}/s, {:.2} %)",
            places.value,
            places.goodput,
            100.0 * places.priority,
            held_at.value,
            held_at.goodput,
            100.0 * held_at.priority
        ),
        goal: PROOF.goal.to_owned(),
        ok: setting.quick || inside(places, &haproxy) && inside(held_at, &held),
        details: json!({
            "haproxy": haproxy.iter().map(row).collect::<Vec<_>>(),
            "held": held.iter().map(row).collect::<Vec<_>>(),
        }),
    })
}

fn best(tried: &[Tried]) -> Option<Tried> {
    tried.iter().copied().max_by(|one, other| one.goodput.total_cmp(&other.goodput))
}

/// Both sides with these values.
fn at(setting: &Setting, knobs: Knobs) -> Result<[Tried; 2], Trouble> {
    let (warm_s, end_s) = setting.size((2.0, 6.0), (14.0, 30.0));
    let drill = Drill {
        name: "real-search",
        distance: Distance::Near,
        stages: vec![(LOAD, 1.0, end_s)],
        priority: 0.3,
        retries: 0,
        kill_at: None,
        watch_from: std::time::Duration::ZERO,
        knobs,
    };
    let courses = play(setting, &drill, &SIDES)?;
    let of = |kind: Kind| {
        let course = courses.iter().find(|course| course.kind == kind);
        let both = course.map(|course| course.requests.within(Tier::Both, warm_s, end_s));
        let priority = course.map(|course| course.requests.within(Tier::Priority, warm_s, end_s));
        Tried {
            value: if kind == Kind::HaProxy { knobs.places } else { knobs.held },
            goodput: both.map_or(0.0, |tally| tally.attained as f64 / (end_s - warm_s)),
            priority: priority.map_or(0.0, |tally| tally.attainment()),
        }
    };
    Ok([of(Kind::HaProxy), of(Kind::Held)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_has_the_most_in_time() {
        let tried = [(48, 20.0), (64, 25.0), (80, 24.0)].map(|(value, goodput)| Tried {
            value,
            goodput,
            priority: 1.0,
        });
        assert_eq!(best(&tried).map(|one| one.value), Some(64));
        assert!(best(&[]).is_none());
    }
}
