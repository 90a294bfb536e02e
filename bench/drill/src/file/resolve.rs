//! From what a scenario file says to a drill that can be played; every fault on the way with the path of its key.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use limits::{AdaptiveRule, Bounds, BudgetConfig, PerMeter, Policy, START, TOKENS_PER_MINUTE_MAX};

use super::{AccountFile, DrillFile, GrowthFile, Layout, LimitsFile, events, fleet, passes, traffic};
use crate::judge;
use crate::scenario::fleet::{Model, Spending};
use crate::scenario::{NETWORK, SHED_SHARE_MAX, SHUTDOWN, Scenario};
use crate::script::{Drill, Group};

/// How long a drill may last: a week.
const END_MAX: Duration = Duration::from_secs(604_800);

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
    pub(super) places: fleet::Places,
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
        if self.groups.is_empty() {
            return format!("no entry of accounts has the id `{id}`; add one under `accounts`");
        }
        let ids: Vec<&str> = self.groups.iter().map(|group| group.id.as_str()).collect();
        format!("no entry of accounts has the id `{id}`; there are: {}", ids.join(", "))
    }
}

/// Turns a file into a drill, on the deployments and models of `layout` where there is one. `text` is the file itself, for
/// the report.
///
/// # Errors
/// Every fault, and conditions that cannot be met whatever happens.
pub fn resolve(
    file: &DrillFile,
    text: &str,
    read: ReadTrace<'_>,
    layout: Option<&Layout>,
) -> Result<Drill, Vec<Fault>> {
    let seconds = |given: Option<f64>, usual: f64| Duration::from_secs_f64(given.unwrap_or(usual).max(0.0));
    let recorded = file.traffic.iter().flatten().all(|traffic| traffic.trace.is_some());
    // Until the traces are read nothing comes after their end.
    let end = file.duration_s.map_or(Duration::MAX, |given| seconds(Some(given), 1.0));
    let places = layout.map(|layout| layout.places.clone()).unwrap_or_default();
    let mut resolver = Resolver { read, faults: Vec::new(), groups: Vec::new(), end, places };
    if file.duration_s.is_none() && !recorded {
        let message = "needs duration_s: how long requests arrive, in seconds; only recorded requests say it themselves";
        resolver.fault(&[], message);
    }
    let (deployments, paces) = fleet::deployments(file, layout, &mut resolver);
    let models = layout.map_or_else(|| vec![Model::only()], |layout| layout.models.clone());
    let mut budgets = Vec::new();
    accounts(file.accounts.as_deref().unwrap_or_default(), &mut budgets, &mut resolver);
    let mut sources = traffic::sources(file, (&deployments, &models, layout.is_some()), &mut resolver);
    if file.duration_s.is_none() {
        resolver.end = recorded_end(&sources, &mut resolver);
    }
    let end = resolver.end;
    let warm_up = seconds(file.warm_up_s, 0.0);
    if warm_up >= end {
        let message =
            format!("must be shorter than the drill's {} s, or nothing is judged", end.as_secs_f64());
        resolver.fault(&[Step::Key("warm_up_s")], message);
    }
    let (mut incidents, marks) = events::incidents(file, &deployments, &mut sources, &mut resolver);
    incidents.splice(..0, paces);
    let checks = passes::checks(file, &mut resolver);
    let scenario = Scenario {
        seed: file.seed.unwrap_or(1),
        deployments,
        models,
        sources: sources.iter().map(|named| named.source.clone()).collect(),
        budgets,
        requests: Vec::new(),
        shed_share_max: SHED_SHARE_MAX,
        shutdown: SHUTDOWN,
        weights: Vec::new(),
        incidents,
        warm_up,
        end,
        drain: seconds(file.drain_s, 60.0),
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
        written_groups: file.accounts.as_ref().map_or(0, Vec::len),
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

/// Until when recorded requests come, in whole seconds.
fn recorded_end(sources: &[traffic::Named], resolver: &mut Resolver<'_>) -> Duration {
    let traces = sources.iter().filter_map(|named| named.source.trace.as_ref());
    let last = traces.flat_map(|trace| &trace.asks).map(|ask| ask.at).max().unwrap_or_default();
    let end = Duration::from_secs(last.as_secs() + 1);
    if end > END_MAX {
        let message = format!(
            "lasts {} s, more than {} s; say a shorter duration_s, or play it faster with `speed`",
            end.as_secs(),
            END_MAX.as_secs()
        );
        resolver.fault(&[Step::Key("traffic")], message);
    }
    end.min(END_MAX)
}

fn accounts(files: &[AccountFile], budgets: &mut Vec<Spending>, resolver: &mut Resolver<'_>) {
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
        budgets.extend(limits.into_iter().flat_map(|budget| {
            (first..first + count).map(move |account| Spending { account, model: 0, budget })
        }));
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
