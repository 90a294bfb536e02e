//! The conclusion of a drill in plain sentences: what happened, when, and what would have sufficed.
//!
//! Made of the figures alone, so the same figures say the same. A tier was short where less than `SHORT` of what came
//! within ten seconds, and within its accounts' own limits, was served within the service level.

use super::chart::clock;
use super::figures::{Bin, Event, Figures, TierFigures};
use super::page::titled;
use crate::judge::percent;
use crate::sizing::enough::{Enough, GOAL, Tried};

/// A tier is short below this share.
const SHORT: f64 = 0.95;
/// Shares are of so many seconds at least: single requests are no period.
const WINDOW_S: f64 = 10.0;
/// Periods that are told of a tier.
const PERIODS_MAX: usize = 2;
/// An event is told with a period that begins at most so long after it.
const AFTER_S: f64 = 30.0;

/// Says it, a sentence or two in each paragraph.
#[must_use]
pub fn conclusion(figures: &Figures) -> Vec<String> {
    let mut said = vec![conditions(figures), requests(figures)];
    said.extend(periods(figures));
    said.extend(figures.enough.as_ref().map(|enough| sufficed(figures.replicas, enough)));
    said.retain(|text| !text.is_empty());
    said
}

fn conditions(figures: &Figures) -> String {
    if let Some(why) = &figures.ended_early {
        return format!("The drill ended before its time: {why}.");
    }
    let missed: Vec<String> = figures
        .checks
        .iter()
        .filter(|check| !check.ok)
        .map(|check| format!("“{}” was {}, and had to be {}", check.what, check.figure, check.goal))
        .collect();
    match (figures.checks.len(), missed.len()) {
        (0, _) => "No condition was set, so nothing could fail.".to_owned(),
        (1, 0) => "The one condition held.".to_owned(),
        (all, 0) => format!("All {all} conditions held."),
        (1, _) => format!("The one condition did not hold: {}.", missed.join("; ")),
        (all, short) => format!("{short} of {all} conditions did not hold: {}.", missed.join("; ")),
    }
}

fn requests(figures: &Figures) -> String {
    let tiers = || figures.tiers.iter().filter(|tier| tier.offered > 0);
    let sum = |of: fn(&TierFigures) -> u64| tiers().map(of).sum::<u64>();
    let offered = sum(|tier| tier.offered);
    if offered == 0 {
        return "No request was judged.".to_owned();
    }
    let each: Vec<String> =
        tiers().map(|tier| format!("{} {}", tier.tier, percent(tier.attainment))).collect();
    let each = if each.len() > 1 { format!(" ({})", each.join(", ")) } else { String::new() };
    let missed = [
        (sum(|tier| tier.shed), "refused for load (503)"),
        (sum(|tier| tier.limited), "refused over their accounts' own limits (429)"),
        (sum(|tier| tier.late), "served late"),
        (sum(|tier| tier.left), "given up by their clients"),
        (sum(|tier| tier.failed), "broken or cut off"),
    ];
    let missed: Vec<String> = missed
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", count_of(*count)))
        .collect();
    let missed =
        if missed.is_empty() { String::new() } else { format!("; the others: {}", missed.join(", ")) };
    let met = percent(sum(|tier| tier.met) as f64 / offered as f64);
    format!("Of {} requests {met} were served within the SLO{each}{missed}.", count_of(offered))
}

/// `12,345`.
fn count_of(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in which a tier was short: bins, and the share that was served in them.
#[derive(Debug, PartialEq)]
struct Period {
    from_s: f64,
    until_s: f64,
    served: f64,
}

fn periods(figures: &Figures) -> Vec<String> {
    let timeline = &figures.timeline;
    let mut said = Vec::new();
    for (tier, bins) in timeline.tiers() {
        let tier = titled(tier);
        let skipped = (figures.warm_up_s / timeline.step_s).ceil() as usize;
        let judged = bins.get(skipped..).unwrap_or_default();
        if judged.iter().all(|bin| wanted(bin) == 0.0) {
            continue;
        }
        let mut periods = short(judged, timeline.step_s, skipped as f64 * timeline.step_s);
        periods.sort_by(|a, b| (b.until_s - b.from_s).total_cmp(&(a.until_s - a.from_s)));
        let more = periods.len().saturating_sub(PERIODS_MAX);
        periods.truncate(PERIODS_MAX);
        periods.sort_by(|a, b| a.from_s.total_cmp(&b.from_s));
        let each: Vec<String> = periods.iter().map(|period| told(period, &figures.events)).collect();
        let rest = match more {
            0 => String::new(),
            1 => ", and once for a shorter time".to_owned(),
            more => format!(", and {more} times for a shorter time"),
        };
        said.push(match each.is_empty() {
            true => format!("{tier} requests were never short: of those that came within ten seconds at least {} were always served.", percent(SHORT)),
            false => format!("{tier} requests were short {}{rest}.", each.join(" and ")),
        });
    }
    said
}

/// Requests per second that had to be served.
fn wanted(bin: &Bin) -> f64 {
    bin.offered() - bin.limited
}

/// The periods in which the windows around each bin fall short. `begin_s`: when the first bin begins.
fn short(bins: &[Bin], step_s: f64, begin_s: f64) -> Vec<Period> {
    let reach = ((WINDOW_S / step_s / 2.0).floor()) as usize;
    let sums =
        |bins: &[Bin]| bins.iter().fold((0.0, 0.0), |(met, all), bin| (met + bin.met, all + wanted(bin)));
    let is_short = |nth: usize| {
        let window =
            bins.get(nth.saturating_sub(reach)..(nth + reach + 1).min(bins.len())).unwrap_or_default();
        let (met, all) = sums(window);
        // What borders on a period without being short itself is none of it.
        let here = bins.get(nth).is_some_and(|bin| bin.met < SHORT * wanted(bin) || wanted(bin) == 0.0);
        met < SHORT * all && here
    };
    let mut periods = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    let close = |(from, last): (usize, usize)| {
        let (met, all) = sums(bins.get(from..=last).unwrap_or_default());
        let at = |nth: usize| begin_s + nth as f64 * step_s;
        Period { from_s: at(from), until_s: at(last + 1), served: if all > 0.0 { met / all } else { 1.0 } }
    };
    for nth in (0..bins.len()).filter(|nth| is_short(*nth)) {
        open = match open {
            // A moment's relief ends no period.
            Some((from, last)) if nth - last <= 2 * reach + 1 => Some((from, nth)),
            before => {
                periods.extend(before.map(close));
                Some((nth, nth))
            }
        };
    }
    periods.extend(open.map(close));
    periods
}

fn told(period: &Period, events: &[Event]) -> String {
    let before = |event: &&Event| event.at_s <= period.from_s + 1.0 && period.from_s - event.at_s <= AFTER_S;
    let after = events.iter().rev().find(before).map_or_else(String::new, |event| {
        let seconds = (period.from_s - event.at_s).max(0.0);
        let when = if seconds < 1.0 { "at once".to_owned() } else { format!("{} later", clock(seconds)) };
        format!(" (“{}” was at {}, this began {when})", event.label, clock(event.at_s))
    });
    let served = percent(period.served);
    format!("from {} to {}{after}, when {served} were served", clock(period.from_s), clock(period.until_s))
}

fn sufficed(replicas: u16, enough: &Enough) -> String {
    let goal = percent(GOAL);
    let of = |count: u16| if count == 1 { "1 replica".to_owned() } else { format!("{count} replicas") };
    match enough {
        Enough::Already(share) => format!(
            "{} sufficed: {} of what came within its accounts' limits was served, and {goal} is what this looks for.",
            of(replicas),
            percent(*share)
        ),
        Enough::Replicas(enough, tried) => format!(
            "{} in place of {replicas} would have sufficed to serve {goal} of what came within its accounts' limits. {}",
            of(*enough),
            how(tried)
        ),
        Enough::NotReached(tried) => format!(
            "No number of replicas that was tried serves {goal} of what came within its accounts' limits: what missed is not a \
             matter of replicas alone. {}",
            how(tried)
        ),
        Enough::NotSearched(why) => format!("What would have sufficed was not looked for: {why}."),
    }
}

fn how(tried: &[Tried]) -> String {
    let each: Vec<String> =
        tried.iter().map(|one| format!("{} with {}", percent(one.served), one.replicas)).collect();
    format!(
        "Found by playing the same traffic and events in virtual time, on simulated engines, with other numbers of replicas: {}.",
        each.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bins(shares: &[f64]) -> Vec<Bin> {
        shares.iter().map(|met| Bin { met: 10.0 * met, shed: 10.0 * (1.0 - met), ..Bin::default() }).collect()
    }

    #[test]
    fn a_period_is_as_long_as_the_shortage_and_a_single_miss_is_none() {
        let mut shares = [1.0; 60];
        shares[5] = 0.8;
        shares[20..32].fill(0.5);
        shares[34..40].fill(0.5);

        let periods = short(&bins(&shares), 1.0, 100.0);

        let [period] = periods.as_slice() else { panic!("{periods:?}") };
        assert_eq!((period.from_s, period.until_s), (120.0, 140.0));
        assert!((period.served - 0.55).abs() < 1e-9, "{period:?}");
        assert!(short(&bins(&[1.0; 30]), 2.0, 0.0).is_empty());
    }

    #[test]
    fn requests_over_their_own_limit_are_no_shortage() {
        let limited = vec![Bin { met: 1.0, limited: 9.0, ..Bin::default() }; 30];

        assert!(short(&limited, 1.0, 0.0).is_empty());
    }

    #[test]
    fn a_period_names_the_event_that_it_follows() {
        let event = |at_s: f64, label: &str| Event {
            at_s,
            until_s: None,
            label: label.to_owned(),
            priority_recovered_s: None,
            all_recovered_s: None,
        };
        let events = [event(10.0, "early"), event(60.0, "replica 0 is lost"), event(200.0, "late")];
        let period = |from_s| Period { from_s, until_s: from_s + 20.0, served: 0.4 };

        let told = [62.0, 120.0].map(|from_s| told(&period(from_s), &events));

        assert_eq!(
            told[0],
            "from 1:02 to 1:22 (“replica 0 is lost” was at 1:00, this began 2 s later), when 40 % were served"
        );
        assert_eq!(told[1], "from 2:00 to 2:20, when 40 % were served");
    }

    #[test]
    fn counts_have_commas() {
        assert_eq!([7, 999, 1000, 1_234_567].map(count_of), ["7", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn what_would_have_sufficed_says_how_it_was_found() {
        let tried = vec![Tried { replicas: 6, served: 0.98 }, Tried { replicas: 8, served: 0.999 }];

        let said = sufficed(4, &Enough::Replicas(8, tried));

        assert!(said.starts_with("8 replicas in place of 4 would have sufficed to serve 99"), "{said}");
        assert!(
            said.contains("virtual time") && said.contains("with 6") && said.contains("with 8"),
            "{said}"
        );
    }
}
