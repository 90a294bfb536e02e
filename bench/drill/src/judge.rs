//! Whether what a drill has to show was shown, condition by condition, and which conditions nothing could ever meet.
//!
//! Attainment is over what is *offered*, try by try: whoever was refused was not served. Recovery is the first moment
//! from which on every window of ten seconds attains; so a dip that comes back later counts against it.

mod hopeless;

use std::time::Duration;

use crate::run::{Ended, Outcome, Run};
use crate::script::Drill;
use crate::script::check::{Check, Measure, Of};

pub use hopeless::hopeless;

/// The windows that recovery looks at.
const RECOVERY_WINDOW_S: usize = 10;

/// A condition and what came out.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Judged {
    /// What was to hold.
    pub what: String,
    /// The bound.
    pub goal: String,
    /// The figure.
    pub figure: String,
    /// Whether it held.
    pub ok: bool,
}

/// Judges all conditions of a drill.
#[must_use]
pub fn judge(drill: &Drill, run: &Run) -> Vec<Judged> {
    drill.checks.iter().map(|check| check.judge(run)).collect()
}

impl Check {
    fn judge(&self, run: &Run) -> Judged {
        let of = |ended: &Ended| self.of.takes(ended);
        let share = |chosen: fn(&Ended) -> bool| {
            let (all, _) = run.count(of);
            run.count(|ended| of(ended) && chosen(ended)).0 as f64 / all.max(1) as f64
        };
        let shed: fn(&Ended) -> bool = |ended| matches!(ended.outcome, Outcome::Shed(_));
        let limited: fn(&Ended) -> bool = |ended| matches!(ended.outcome, Outcome::Limited(_));
        match self.measure {
            Measure::Attainment(min) => self.at_least("served within the SLO", run.attained_of(of), min),
            Measure::ShedMax(max) => self.at_most("refused for load (503)", share(shed), max),
            Measure::ShedMin(min) => self.at_least("refused for load (503)", share(shed), min),
            Measure::LimitedMax(max) => self.at_most("over their own limit (429)", share(limited), max),
            Measure::LimitedMin(min) => self.at_least("over their own limit (429)", share(limited), min),
            Measure::Waste(max) => self.at_most("work for requests that missed", run.waste(), max),
            Measure::Goodput(min) => {
                let figure = run.count(of).1 as f64 / self.seconds(run);
                self.judged("goodput", format!("≥ {min:.1}/s"), format!("{figure:.1}/s"), figure >= min)
            }
            Measure::ShedOrder => {
                let figure = format!("{} out of order", run.inversions);
                self.judged("regular is refused before priority", "0".to_owned(), figure, run.inversions == 0)
            }
            Measure::Recovery { within_s, after_s, attainment } => {
                let figure = recovery_s(run, &self.of, after_s, attainment);
                let shown = figure.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds:.0} s"));
                let what = format!("back to {} after {after_s} s", percent(attainment));
                self.judged(
                    &what,
                    format!("≤ {within_s:.0} s"),
                    shown,
                    figure.is_some_and(|figure| figure <= within_s),
                )
            }
            Measure::Ttft { percentile, max_ms } => {
                self.time("time to first token", percentile, run.ttft(percentile, of), max_ms)
            }
            Measure::TokenGap { percentile, max_ms } => {
                self.time("mean time between tokens", percentile, run.tpot(percentile, of), max_ms)
            }
            Measure::Fairness(min) => {
                let figure = jain(run, &self.of);
                self.judged(
                    "Jain's index of tokens served",
                    format!("≥ {min:.3}"),
                    format!("{figure:.3}"),
                    figure >= min,
                )
            }
            Measure::Tries(max) => {
                let figure = tries_per_request(run);
                self.judged("tries per request", format!("≤ {max:.2}"), format!("{figure:.2}"), figure <= max)
            }
            Measure::LimitGrowth(min) => {
                let figure = limit_growth(run, &self.of);
                self.judged(
                    "growth of the generated-token limit",
                    format!("≥ ×{min:.2}"),
                    format!("×{figure:.2}"),
                    figure >= min,
                )
            }
        }
    }

    fn judged(&self, what: &str, goal: String, figure: String, ok: bool) -> Judged {
        Judged { what: format!("{what}{}", self.of.words()), goal, figure, ok }
    }

    fn at_least(&self, what: &str, figure: f64, min: f64) -> Judged {
        self.judged(what, format!("≥ {}", percent(min)), percent(figure), figure >= min)
    }

    fn at_most(&self, what: &str, figure: f64, max: f64) -> Judged {
        self.judged(what, format!("≤ {}", percent(max)), percent(figure), figure <= max)
    }

    fn time(&self, what: &str, percentile: f64, figure: Duration, max_ms: f64) -> Judged {
        let ms = figure.as_secs_f64() * 1e3;
        let what = format!("p{} {what}", (percentile * 1e3).round() / 10.0);
        self.judged(&what, format!("≤ {max_ms:.0} ms"), format!("{ms:.0} ms"), ms <= max_ms)
    }

    /// The seconds in which the chosen requests may arrive.
    fn seconds(&self, run: &Run) -> f64 {
        let (from, until) = run.judged_between();
        let from = self.of.from.map_or(from, |given| given.max(from));
        let until = self.of.until.map_or(until, |given| given.min(until));
        until.saturating_sub(from).as_secs_f64().max(1e-9)
    }
}

/// `99.87 %`, with as many digits as make a difference.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let far_from_ends = (1.0..99.0).contains(&percent);
    let text = if far_from_ends { format!("{percent:.1}") } else { format!("{percent:.2}") };
    let short =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text.as_str() };
    format!("{short} %")
}

/// Tries per request: 1 when nobody came back.
#[must_use]
pub fn tries_per_request(run: &Run) -> f64 {
    let (tries, _) = run.count(|_| true);
    let (firsts, _) = run.count(|ended| ended.number == 0);
    tries as f64 / firsts.max(1) as f64
}

/// Seconds from `after_s` until every window of ten seconds attains; `None`: that never came.
#[must_use]
pub fn recovery_s(run: &Run, of: &Of, after_s: f64, attainment: f64) -> Option<f64> {
    let end = run.judged_between().1.as_secs() as usize;
    let mut seconds = vec![(0_u64, 0_u64); end];
    for ended in run.ended.iter().filter(|ended| of.takes(ended)) {
        if let Some((offered, met)) = seconds.get_mut(ended.tried.as_secs() as usize) {
            *offered += 1;
            *met += u64::from(ended.is_met());
        }
    }
    let after = after_s.ceil() as usize;
    let last = end.checked_sub(RECOVERY_WINDOW_S)?;
    let attains = |from: usize| {
        let window = seconds.iter().skip(from).take(RECOVERY_WINDOW_S);
        let (offered, met) = window.fold((0, 0), |sum, second| (sum.0 + second.0, sum.1 + second.1));
        met as f64 >= attainment * offered as f64
    };
    let from = (after..=last).rev().take_while(|from| attains(*from)).last()?;
    Some((from - after) as f64)
}

/// Jain's index of the weighted tokens (uncached prompt, answer twice) that the accounts were served.
#[must_use]
pub fn jain(run: &Run, of: &Of) -> f64 {
    let Some((first, count)) = of.accounts else { return 1.0 };
    let mut served = vec![0.0; count as usize];
    for ended in run.judged().filter(|ended| of.takes(ended) && ended.tokens > 0) {
        if let Some(sum) = served.get_mut((ended.account - first) as usize) {
            let uncached = ended.size.prompt_tokens.saturating_sub(ended.cached);
            *sum += f64::from(uncached) + 2.0 * f64::from(ended.tokens);
        }
    }
    let (sum, squares) = served.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    if squares > 0.0 { sum * sum / (f64::from(count) * squares) } else { 1.0 }
}

/// How many times where it began the generated-token limit ends: the least of the accounts.
fn limit_growth(run: &Run, of: &Of) -> f64 {
    let limits = |inside: Option<&crate::policy::Inside>| -> Vec<f64> {
        let budgets = inside.map_or(&[][..], |inside| inside.budgets.as_slice()).iter();
        let (first, count) = of.accounts.unwrap_or_default();
        let chosen = budgets.filter(|budget| (first..first + count).contains(&budget.account));
        chosen.map(|budget| budget.limit[2] as f64).collect()
    };
    let (begin, end) = (limits(run.inside.first()), limits(run.inside.last()));
    let growth = begin.iter().zip(&end).map(|(begin, end)| end / begin.max(1.0));
    growth.fold(f64::INFINITY, f64::min).min(1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_have_the_digits_that_matter() {
        assert_eq!(percent(0.9987), "99.87 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.5), "50 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.333_3), "33.3 %");
    }
}
