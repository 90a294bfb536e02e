//! From what a scenario file says to a drill that can be played; every fault on the way with the path of its key.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use limits::{AdaptiveRule, Bounds, BudgetConfig, PerMeter, Policy, START, TOKENS_PER_MINUTE_MAX};

use super::{AccountFile, DrillFile, Fleet, GrowthFile, LimitsFile, behaviour, events, passes, traffic};
use crate::judge;
use crate::scenario::{Incident, NETWORK, SHED_SHARE_MAX, Scenario, Slo};
use crate::script::{Drill, Group};
use engine::profile::{LLAMA_8B_A100, PROFILES, Profile};

/// One step of a path into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A key of a mapping.
    Key(&'static str),
    /// An entry of a list, from 0.
    Item(usize),
}

/// Something that is wrong in a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub path: Vec<Step>,
    /// What, and what to do about it.
    pub message: String,
}

/// Reads a file that a scenario names, and at most so many bytes of it.
pub type ReadTrace<'a> = &'a dyn Fn(&Path, usize) -> io::Result<Vec<u8>>;

/// What is known while a file is resolved.
pub(super) struct Resolver<'a> {
    pub(super) read: ReadTrace<'a>,
    pub(super) faults: Vec<Fault>,
    pub(super) groups: Vec<Group>,
    pub(super) end: Duration,
}

impl Resolver<'_> {
    pub(super) fn fault(&mut self, path: &[Step], message: impl Into<String>) {
        self.faults.push(Fault { path: path.to_vec(), message: message.into() });
    }

    /// A time within the drill.
    pub(super) fn moment(&mut self, path: &[Step], seconds: f64) -> Duration {
        let at = Duration::from_secs_f64(seconds.max(0.0));
        if at > self.end {
            let end = self.end.as_secs_f64();
            self.fault(
                path,
                format!("comes after the end: the drill lasts {end} s; move it or raise duration_s"),
            );
        }
        at
    }

    pub(super) fn group(&self, id: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == id)
    }

    /// `none is called …`, with the names that there are.
    pub(super) fn no_group(&self, id: &str) -> String {
        let ids: Vec<&str> = self.groups.iter().map(|group| group.id.as_str()).collect();
        format!("no entry of accounts has the id `{id}`; there are: {}", ids.join(", "))
    }
}

/// Turns a file into a drill. `text` is the file itself, for the report.
///
/// # Errors
/// Every fault, and conditions that cannot be met whatever happens.
pub fn resolve(file: &DrillFile, text: &str, read: ReadTrace<'_>) -> Result<Drill, Vec<Fault>> {
    let seconds = |given: Option<f64>, usual: f64| Duration::from_secs_f64(given.unwrap_or(usual).max(0.0));
    let end = seconds(file.duration_s, 1.0);
    let mut resolver = Resolver { read, faults: Vec::new(), groups: Vec::new(), end };
    let warm_up = seconds(file.warm_up_s, 0.0);
    if warm_up >= end {
        resolver.fault(&[Step::Key("warm_up_s")], "must be shorter than duration_s, or nothing is judged");
    }
    let profile = profile(&file.fleet, &mut resolver);
    let replicas = file.fleet.replicas.unwrap_or(4);
    let mut budgets = Vec::new();
    accounts(file.accounts.as_deref().unwrap_or_default(), &mut budgets, &mut resolver);
    let mut sources = traffic::sources(file, profile.context, &mut resolver);
    let (mut incidents, marks) = events::incidents(file, replicas, &mut sources, &mut resolver);
    incidents.splice(..0, paces(&file.fleet, replicas, &mut resolver));
    let checks = passes::checks(file, &mut resolver);
    let slo = Slo {
        ttft: Duration::from_secs_f64(file.slo.ttft_ms.unwrap_or(2000.0) / 1e3),
        tpot: Duration::from_secs_f64(file.slo.tpot_ms.unwrap_or(100.0) / 1e3),
    };
    let scrape_s = file.fleet.scrape_s.unwrap_or(1.0);
    let scenario = Scenario {
        seed: file.seed.unwrap_or(1),
        profile,
        replicas,
        slo,
        sources: sources.iter().map(|named| named.source.clone()).collect(),
        budgets,
        shed_share_max: SHED_SHARE_MAX,
        weights: Vec::new(),
        incidents,
        warm_up,
        end,
        drain: seconds(file.drain_s, 60.0),
        scrape: (scrape_s > 0.0).then(|| Duration::from_secs_f64(scrape_s.max(0.1))),
        network: file.fleet.network_ms.map_or(NETWORK, |ms| Duration::from_secs_f64(ms.max(0.0) / 1e3)),
        jitter: Duration::from_secs_f64(file.fleet.jitter_ms.unwrap_or_default().max(0.0) / 1e3),
        only: None,
        reports_cached: true,
    };
    let name = file.drill.clone().unwrap_or_default();
    let drill = Drill {
        title: file.title.clone().unwrap_or_else(|| name.clone()),
        shows: file.shows.clone().unwrap_or_default().trim().to_owned(),
        name,
        scenario,
        groups: resolver.groups.clone(),
        sources: sources.into_iter().map(|named| named.name).collect(),
        marks,
        checks,
        stop_below: file.stop.priority_below,
        text: text.to_owned(),
    };
    if resolver.faults.is_empty() {
        let hopeless = judge::hopeless(&drill).into_iter();
        let path = |nth| vec![Step::Key("pass"), Step::Item(nth)];
        resolver.faults.extend(hopeless.map(|(nth, message)| Fault { path: path(nth), message }));
    }
    if resolver.faults.is_empty() { Ok(drill) } else { Err(resolver.faults) }
}

fn profile(fleet: &Fleet, resolver: &mut Resolver<'_>) -> Profile {
    let name = fleet.profile.as_deref().unwrap_or(LLAMA_8B_A100.name);
    let mut profile = Profile::named(name).unwrap_or_else(|| {
        let names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
        let message = format!("no profile is called `{name}`; there are: {}", names.join(", "));
        resolver.fault(&[Step::Key("fleet"), Step::Key("profile")], message);
        LLAMA_8B_A100
    });
    profile.kv_tokens = fleet.kv_tokens.unwrap_or(profile.kv_tokens);
    profile.context = fleet.context.unwrap_or(profile.context).min(profile.kv_tokens);
    if let Some(file) = &fleet.behaviour {
        behaviour::apply(file, &mut profile, resolver);
    }
    profile
}

/// The speeds of the replicas, as what happens to them in the first moment.
fn paces(fleet: &Fleet, replicas: u16, resolver: &mut Resolver<'_>) -> Vec<(Duration, Incident)> {
    if fleet.speeds.len() > usize::from(replicas) {
        let message = format!(
            "has {} speeds for {replicas} replicas; leave some out or raise replicas",
            fleet.speeds.len()
        );
        resolver.fault(&[Step::Key("fleet"), Step::Key("speeds")], message);
    }
    let percent = |speed: f64| (speed * 100.0).round().clamp(1.0, 10_000.0) as u16;
    let speeds = fleet.speeds.iter().cycle().zip(0..replicas);
    speeds.map(|(speed, replica)| (Duration::ZERO, Incident::Pace(replica, percent(*speed)))).collect()
}

fn accounts(files: &[AccountFile], budgets: &mut Vec<(u32, BudgetConfig)>, resolver: &mut Resolver<'_>) {
    let mut first_use: BTreeMap<&str, usize> = BTreeMap::new();
    let mut first = 0;
    for (nth, file) in files.iter().enumerate() {
        let id = file.id.as_deref().unwrap_or_default();
        if let Some(before) = first_use.insert(id, nth) {
            let path = [Step::Key("accounts"), Step::Item(nth), Step::Key("id")];
            resolver.fault(&path, format!("accounts[{before}] has the same id; choose another"));
        }
        let count = file.count.unwrap_or(1);
        let limits = file.limits.as_ref().map(|limits| budget(limits, nth, resolver));
        budgets
            .extend(limits.into_iter().flat_map(|limits| (first..first + count).map(move |n| (n, limits))));
        let zipf = file.zipf.unwrap_or(0.0);
        resolver.groups.push(Group { id: id.to_owned(), first, count, zipf, limits });
        first += count;
    }
}

fn budget(file: &LimitsFile, nth: usize, resolver: &mut Resolver<'_>) -> BudgetConfig {
    let starts = PerMeter {
        prompt: file.prompt.unwrap_or(START.prompt),
        uncached_prompt: file.uncached_prompt.unwrap_or(START.uncached_prompt),
        generated: file.generated.unwrap_or(START.generated),
    };
    if starts.uncached_prompt > starts.prompt && file.uncached_prompt.is_some() {
        let path =
            [Step::Key("accounts"), Step::Item(nth), Step::Key("limits"), Step::Key("uncached_prompt")];
        resolver.fault(&path, "is more than prompt, of which it is a part; it could never bind");
    }
    let factor = file.ceiling_factor.unwrap_or(60);
    let grows = file.growth == Some(GrowthFile::Published);
    let ceiling =
        |start: u64| if grows { start.saturating_mul(factor).min(TOKENS_PER_MINUTE_MAX) } else { start };
    BudgetConfig {
        policy: if grows { Policy::Published(AdaptiveRule::default()) } else { Policy::Fixed },
        bounds: starts.map(|start| Bounds { start, floor: start, ceiling: ceiling(start) }),
    }
}
