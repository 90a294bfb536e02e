//! Conditions that nothing can meet, found before anything is played.
//!
//! A drill of ten minutes that could never pass wastes ten minutes. Three things are certain beforehand: a condition
//! about requests that do not come, a goodput above what is offered, and an attainment whose tokens exceed what the
//! engines' arithmetic can compute at all. The bound on engines is generous: every step full, nothing ever waits.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use shedder::Tier;

use super::percent;
use crate::scenario::{Scenario, Source};
use crate::script::Drill;
use crate::script::check::{Check, Measure, Of};
use engine::profile::StepWork;

/// Requests drawn to learn a workload's mean.
const DRAWN: u32 = 4_000;

/// The conditions, by their number, that cannot be met, and why.
#[must_use]
pub fn hopeless(drill: &Drill) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (nth, check) in drill.checks.iter().enumerate() {
        found.extend(impossible(drill, check).map(|why| (nth, why)));
    }
    if let Some(why) = beyond_the_fleet(drill) {
        found.push(why);
    }
    found
}

fn impossible(drill: &Drill, Check { measure, of }: &Check) -> Option<String> {
    if let Some(tier) = of.tier.filter(|tier| !drill.offers(*tier)) {
        let name = tier.name();
        return Some(format!(
            "can never be judged: no traffic asks for {name}; set `priority` of some traffic"
        ));
    }
    let offered: f64 =
        drill.scenario.sources.iter().map(|source| expected(&drill.scenario, source, of)).sum();
    let seconds = window(&drill.scenario, of);
    match *measure {
        Measure::Goodput(min) if min > offered / seconds * 1.05 => Some(format!(
            "cannot pass: {min:.1} requests per second are wanted, and about {:.1} are offered",
            offered / seconds
        )),
        Measure::Recovery { after_s, within_s, .. }
            if after_s + within_s + 10.0 > drill.scenario.end.as_secs_f64() =>
        {
            Some(format!(
                "cannot pass: recovery is seen in windows of 10 s, and {after_s} s + {within_s} s + 10 s is after the end"
            ))
        }
        Measure::LimitedMin(_) if drill.scenario.budgets.is_empty() => {
            Some("cannot pass: no account has limits; give one some under accounts".to_owned())
        }
        _ => None,
    }
}

fn window(scenario: &Scenario, of: &Of) -> f64 {
    let from = of.from.unwrap_or(Duration::ZERO).max(scenario.warm_up);
    let until = of.until.unwrap_or(scenario.end).min(scenario.end);
    until.saturating_sub(from).as_secs_f64().max(1.0)
}

/// Requests that a source is expected to offer to a condition.
fn expected(scenario: &Scenario, source: &Source, of: &Of) -> f64 {
    let share = match of.tier {
        None => 1.0,
        Some(tier) => source.share(tier),
    };
    let from = of.from.unwrap_or(Duration::ZERO).max(scenario.warm_up);
    let until = of.until.unwrap_or(scenario.end).min(scenario.end);
    if let Some(trace) = &source.trace {
        return trace.asks.iter().filter(|ask| ask.at >= from && ask.at < until).count() as f64;
    }
    let mut sum = 0.0;
    for second in from.as_secs()..until.as_secs() {
        sum += source.rate_at(Duration::from_secs(second));
    }
    share * sum
}

/// Whether the attainments together need more arithmetic than there is.
fn beyond_the_fleet(drill: &Drill) -> Option<(usize, String)> {
    let scenario = &drill.scenario;
    if drill.may_share_prompts() {
        return None;
    }
    // Conditions about the whole drill and a whole tier, the strictest of each.
    let whole = |check: &&(usize, &Check)| {
        check.1.of.accounts.is_none() && check.1.of.from.is_none() && check.1.of.until.is_none()
    };
    let checks: Vec<(usize, &Check)> = drill.checks.iter().enumerate().collect();
    let wanted = |tier: Tier| {
        let of_tier =
            checks.iter().filter(whole).filter(|(_, check)| check.of.tier.is_none_or(|of| of == tier));
        let shares = of_tier.filter_map(|(nth, check)| match check.measure {
            Measure::Attainment(min) => Some((min, *nth)),
            _ => None,
        });
        shares.fold(
            (0.0, None),
            |best: (f64, Option<usize>), (min, nth)| if min > best.0 { (min, Some(nth)) } else { best },
        )
    };
    let (priority, regular) = (wanted(Tier::Priority), wanted(Tier::Regular));
    let nth = regular.1.or(priority.1)?;
    let tokens: f64 = scenario
        .sources
        .iter()
        .map(|source| {
            let share = source.share(Tier::Priority) * priority.0 + source.share(Tier::Regular) * regular.0;
            share * expected(scenario, source, &Of::default()) * mean_tokens(source)
        })
        .sum();
    let needed = tokens / window(scenario, &Of::default());
    let most = most_tokens_per_s(scenario);
    let drained = scenario.drain.as_secs_f64() / window(scenario, &Of::default());
    (needed > most * (1.0 + drained)).then(|| {
        let why = format!(
            "cannot pass: {} of priority and {} of regular need {needed:.0} tokens computed per second, and {} replicas \
             compute {most:.0} at most; offer less, ask for less, or add replicas",
            percent(priority.0),
            percent(regular.0),
            scenario.replicas()
        );
        (nth, why)
    })
}

/// Mean prompt and answer tokens.
fn mean_tokens(source: &Source) -> f64 {
    let tokens = |size: engine::workload::Size| f64::from(size.prompt_tokens) + f64::from(size.output_tokens);
    if let Some(trace) = &source.trace {
        return trace.asks.iter().map(|ask| tokens(ask.size)).sum::<f64>() / trace.asks.len().max(1) as f64;
    }
    let mut rng = SmallRng::seed_from_u64(1);
    (0..DRAWN).map(|_| tokens(source.workload.draw(&mut rng)).min(f64::from(source.context))).sum::<f64>()
        / f64::from(DRAWN)
}

/// Tokens that the engines compute per second if every step is full and no context is read.
fn most_tokens_per_s(scenario: &Scenario) -> f64 {
    let each = scenario.deployments.iter().map(|deployment| {
        let tokens = deployment.profile.step_tokens_max;
        let work = StepWork { tokens, sequences: 1, ..StepWork::default() };
        let step_s = deployment.profile.step_time(&work).as_secs_f64().max(1e-9);
        f64::from(tokens) / step_s * f64::from(deployment.replicas)
    });
    each.sum()
}
