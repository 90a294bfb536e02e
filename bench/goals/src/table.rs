//! The shipped policy beside the rules of others: on the same requests, in the same run, as a table and as pictures.
//!
//! | contender | what it is |
//! |---|---|
//! | shipped | the `shedder` crate with its defaults, and nothing told about the engines |
//! | no control | everything is sent at once |
//! | queue or memory | regular is refused while engines report five waiting requests or KV over 0.8, engines as they come |
//! | the same, 70 sequences | with the engines' own slots set by hand to what suits conversations on 8B-A100 |
//! | fixed 70, 60 s | 70 requests per replica by hand, strict priority, a minute's wait |
//! | fixed 70, 1.7 s | the same with the wait set by hand to what the service level leaves |
//! | the same, holdback | and the last 15 % of the places kept for priority |
//!
//! 70 is near the best number for the first setting and is what its operator would have found; on the others it shows
//! what a number by hand is worth on another engine. Read [`contenders`], then [`Table`], then `picture`.

mod picture;

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use shedder::Tier;

use super::in_parallel;
use drill::play::play;
use drill::policy::Policy;
use drill::run::Run;
use drill::scenario::{Incident, Scenario};
use drill::settings::Setting;

/// Requests per replica that suit conversations on 8B-A100.
const BY_HAND: u32 = 70;
/// What the service level leaves for waiting.
const WAIT_BY_HAND: Duration = Duration::from_millis(1_700);

/// One policy, and what its operator did to the engines for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Contender {
    /// In tables and pictures.
    pub name: &'static str,
    /// The policy.
    pub policy: Policy,
    /// The engines' slots, where they were set by hand.
    pub sequences_max: Option<u32>,
}

impl Contender {
    fn play(&self, mut scenario: Scenario) -> Run {
        if let Some(most) = self.sequences_max {
            let profile = &mut scenario.fleet_mut().profile;
            profile.sequences_max = most.min(profile.sequences_max);
        }
        play(&scenario, &self.policy)
    }
}

/// All of them, the shipped one first.
#[must_use]
pub fn contenders() -> Vec<Contender> {
    let fixed = |wait, regular| Policy::FixedConcurrency { places: BY_HAND, wait, regular };
    let of = |name, policy, sequences_max| Contender { name, policy, sequences_max };
    vec![
        of("shipped", Policy::Shipped, None),
        of("no control", Policy::NoControl, None),
        of("queue or memory", Policy::QueueOrMemory, None),
        of("queue or memory, 70 seqs", Policy::QueueOrMemory, Some(BY_HAND)),
        of("fixed 70, 60 s", fixed(Duration::from_secs(60), 1.0), None),
        of("fixed 70, 1.7 s", fixed(WAIT_BY_HAND, 1.0), None),
        of("fixed 70, 1.7 s, holdback", fixed(WAIT_BY_HAND, 0.85), None),
    ]
}

/// What one contender reached in one drill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Fleet and workload.
    pub setting: &'static str,
    /// Times the knee.
    pub load: f64,
    /// Variation of the arrivals.
    pub cv: f64,
    /// Who.
    pub contender: &'static str,
    /// Share of the offered priority requests within the service level.
    pub priority: f64,
    /// The same of regular ones.
    pub regular: f64,
    /// Requests within the service level per second, as a multiple of load 1.
    pub goodput: f64,
    /// Share of what was computed for requests that missed.
    pub in_vain: f64,
    /// Time to first token of priority, p99, seconds.
    pub priority_ttft_p99_s: f64,
}

/// Attainment over time in one incident.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timeline {
    /// What happens.
    pub what: &'static str,
    /// Who.
    pub contender: &'static str,
    /// When it happens, seconds.
    pub at_s: u64,
    /// Five seconds each: offered and met of priority, offered and met of regular.
    pub spans: Vec<[u32; 4]>,
}

/// Seconds of a span of a timeline.
pub const SPAN_S: usize = 5;
/// Where the story of a timeline begins, and where it ends.
const STORY_S: (u64, u64) = (80, 220);
const INCIDENT: Duration = Duration::from_secs(120);

/// How much is played.
#[derive(Debug, Clone, PartialEq)]
pub struct Extent {
    /// Loads of conversations.
    pub loads: Vec<f64>,
    /// Settings that are played at twice the knee.
    pub settings: Vec<Setting>,
    /// Seconds that each drill of conversations lasts; `None`: as its setting says.
    pub end_s: Option<u64>,
}

impl Extent {
    /// Everything.
    #[must_use]
    pub fn full() -> Self {
        let settings = Setting::OTHERS.to_vec();
        Self { loads: vec![0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0], settings, end_s: None }
    }

    /// What says most within seconds.
    #[must_use]
    pub fn quick() -> Self {
        Self { loads: vec![0.8, 2.0], settings: Vec::new(), end_s: Some(120) }
    }
}

/// All that was played.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// Conversations at each load, then bursts, then the other settings; contenders in their order.
    pub rows: Vec<Row>,
    /// A step of the load, and half of the fleet lost.
    pub timelines: Vec<Timeline>,
}

impl Table {
    /// Plays everything with one seed.
    #[must_use]
    pub fn play(extent: &Extent, seed: u64) -> Self {
        let chat = Setting { end_s: extent.end_s.unwrap_or(Setting::CHAT.end_s), ..Setting::CHAT };
        let even = extent.loads.iter().map(|&load| (chat, load, 1.0));
        let bursts = [0.8, 2.0].map(|load| (chat, load, 3.0));
        let others = extent.settings.iter().map(|&setting| (setting, 2.0, 1.0));
        let drills: Vec<(Setting, f64, f64)> = even.chain(bursts).chain(others).collect();
        let contenders = contenders();
        let played: Vec<(usize, &Contender)> = (0..drills.len())
            .flat_map(|drill| contenders.iter().map(move |contender| (drill, contender)))
            .collect();
        let rows = in_parallel(&played, |(drill, contender)| {
            drills.get(*drill).map(|&(setting, load, cv)| row(contender, setting, load, cv, seed))
        });
        let told: Vec<(&Contender, bool)> =
            contenders.iter().flat_map(|contender| [(contender, true), (contender, false)]).collect();
        let timelines = in_parallel(&told, |(contender, step)| timeline(contender, *step, seed));
        Self { rows: rows.into_iter().flatten().collect(), timelines }
    }

    /// The rows of conversations that come evenly, for the pictures.
    fn even(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.setting == Setting::CHAT.name && row.cv <= 1.0)
    }

    /// Attainment and goodput against offered load.
    #[must_use]
    pub fn overload_svg(&self) -> String {
        picture::overload(self)
    }

    /// A step and a lost half, second by second.
    #[must_use]
    pub fn timeline_svg(&self) -> String {
        picture::timeline(self)
    }

    /// The table for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut drill = None;
        for row in &self.rows {
            let this = (row.setting, row.load.to_bits(), row.cv.to_bits());
            if drill != Some(this) {
                drill = Some(this);
                // Writing into a string cannot fail; so below.
                let _ = writeln!(text, "\n{} at {}×, CV {}", row.setting, row.load, row.cv);
                let _ = writeln!(
                    text,
                    "  {:<26} {:>8} {:>8} {:>8} {:>8} {:>9}",
                    "", "priority", "regular", "goodput", "in vain", "TTFT p99"
                );
            }
            let Row { contender, priority, regular, goodput, in_vain, priority_ttft_p99_s, .. } = row;
            let _ = writeln!(
                text,
                "  {contender:<26} {priority:>8.4} {regular:>8.3} {goodput:>7.2}× {in_vain:>8.3} {priority_ttft_p99_s:>7.2} s"
            );
        }
        text
    }

    /// Drills in which another contender has a higher goodput than the shipped one by more than `margin`.
    #[must_use]
    pub fn beaten(&self, margin: f64) -> Vec<&Row> {
        let shipped = |row: &Row| {
            let same = |other: &&Row| {
                other.contender == "shipped"
                    && other.setting == row.setting
                    && other.load.total_cmp(&row.load).is_eq()
                    && other.cv.total_cmp(&row.cv).is_eq()
            };
            self.rows.iter().find(same).map_or(0.0, |row| row.goodput)
        };
        self.rows.iter().filter(|row| row.goodput > shipped(row) * (1.0 + margin)).collect()
    }
}

fn row(contender: &Contender, setting: Setting, load: f64, cv: f64, seed: u64) -> Row {
    let run = contender.play(setting.scenario(seed, load, cv));
    Row {
        setting: setting.name,
        load,
        cv,
        contender: contender.name,
        priority: run.attained(Tier::Priority),
        regular: run.attained(Tier::Regular),
        goodput: run.goodput() / setting.knee_per_s,
        in_vain: run.waste(),
        priority_ttft_p99_s: run.ttft(0.99, |ended| ended.tier == Tier::Priority).as_secs_f64(),
    }
}

fn timeline(contender: &Contender, step: bool, seed: u64) -> Timeline {
    let load = if step { 0.7 } else { 0.8 };
    let mut scenario = Setting::CHAT.scenario(seed, load, 1.0);
    scenario.end = Duration::from_secs(STORY_S.1);
    if step {
        scenario.sources.iter_mut().for_each(|source| source.steps = vec![(INCIDENT, 3.0 / load)]);
    } else {
        scenario.incidents = vec![(INCIDENT, Incident::Lost(0)), (INCIDENT, Incident::Lost(1))];
    }
    let run = contender.play(scenario);
    let [priority, regular] = [Tier::Priority, Tier::Regular].map(|tier| run.by_second(tier));
    let seconds: Vec<[u32; 4]> = priority
        .iter()
        .zip(&regular)
        .skip(STORY_S.0 as usize)
        .map(|(&(offered, met), &(offered_regular, met_regular))| {
            [offered, met, offered_regular, met_regular]
        })
        .collect();
    let sum = |span: &[[u32; 4]]| {
        let mut sums = [0; 4];
        for second in span {
            sums.iter_mut().zip(second).for_each(|(sum, count)| *sum += count);
        }
        sums
    };
    Timeline {
        what: if step { "load 0.7× → 3×" } else { "half of the fleet lost at 0.8×" },
        contender: contender.name,
        at_s: INCIDENT.as_secs() - STORY_S.0,
        spans: seconds.chunks(SPAN_S).map(sum).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of a small run, as people read them. They change when the policy does, and only then.
    #[test]
    fn a_small_run_as_people_read_it() {
        let extent = Extent { loads: vec![2.0], settings: Vec::new(), end_s: Some(90) };
        let table = Table::play(&extent, 1);
        insta::assert_snapshot!(table.text());
    }

    #[test]
    fn the_same_seed_gives_the_same_table_and_the_same_pictures() {
        let extent = Extent { loads: vec![0.8], settings: Vec::new(), end_s: Some(70) };
        let (once, twice) = (Table::play(&extent, 3), Table::play(&extent, 3));
        assert_eq!(once, twice);
        assert_eq!(once.overload_svg(), twice.overload_svg());
        assert_eq!(once.timeline_svg(), twice.timeline_svg());
    }
}
