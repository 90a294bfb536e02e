//! P14: where memory binds, engines hardly ever throw running work away.

use crate::{Case, Goal, Line, Shown, Size};
use drill::policy::Policy;
use drill::settings::Setting;

/// See the module.
pub(crate) const GOAL: Goal = Goal {
    id: "P14",
    what: "preemptions per dispatched request where memory binds",
    goal: "≤0.01",
    quick_s: 2,
    full_s: 20,
    show,
};

fn show(size: Size) -> Shown {
    let loads: &[f64] = size.of(&[1.5], &[1.0, 1.5, 2.0, 3.0]);
    let cases = Setting::named("reasoning").into_iter().flat_map(|setting| {
        loads.iter().flat_map(move |&load| {
            [(1.0, true), (3.0, true), (1.0, false)]
                .map(|(cv, scrape)| (Case::new(setting, load, cv), scrape))
        })
    });
    Shown::of(cases.map(|(case, scrape)| line(&case, scrape, size.seeds())).collect())
}

fn line(case: &Case, scrape: bool, seeds: &[u64]) -> Line {
    let runs = seeds.iter().map(|&seed| {
        let mut scenario = case.scenario(seed);
        if !scrape {
            scenario.fleet_mut().scrape = None;
        }
        drill::play::play(&scenario, &Policy::Shipped)
    });
    let pool = crate::Pool { runs: runs.collect() };
    let preemptions: u64 = pool.runs.iter().map(|run| run.preemptions).sum();
    let dispatched = |run: &drill::run::Run| run.ended.iter().filter(|ended| ended.ttft.is_some()).count();
    let requests: usize = pool.runs.iter().map(dispatched).sum();
    let per = preemptions as f64 / requests.max(1) as f64;
    let of = if scrape { "with engine metrics" } else { "without" };
    Line::at_most(case.name(), of, per, 0.01, pool.summary())
}
