//! The traffic of the week, and what the limits make of it.

use std::time::Duration;

use limits::{Ask, Budget, BudgetConfig, ChangeReason, LimitChange, Meter, PerMeter, START, Used};

/// Minutes of the week.
pub(super) const MINUTES: u64 = 7 * 24 * 60;
/// Minutes that one point of the picture stands for.
pub(super) const STEP: u64 = 15;
/// Requests per minute: each has a twelfth of the minute's tokens.
const REQUESTS: u64 = 12;
const DAY: u64 = 24 * 60;
/// How far the limits may grow: three times the start.
const CEILINGS: PerMeter<u64> =
    PerMeter { prompt: 10_800_000, uncached_prompt: 2_700_000, generated: 108_000 };
/// Tuesday, half past nine to half past eleven: the model is short.
pub(super) const SHORT: std::ops::Range<u64> = DAY + 9 * 60 + 30..DAY + 11 * 60 + 30;
/// From here on the product is elsewhere.
pub(super) const MOVED: u64 = 2 * DAY;
/// From here on the second account is forgotten.
const FORGOTTEN: u64 = 18 * 60;

/// One account's week.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Account {
    pub(super) name: &'static str,
    pub(super) config: BudgetConfig,
    /// The most tokens used in a minute, by step.
    pub(super) used: Vec<PerMeter<u64>>,
    /// The limits at the end of each step.
    pub(super) limits: Vec<PerMeter<u64>>,
    /// All changes, oldest first.
    pub(super) changes: Vec<LimitChange>,
}

/// Both accounts' week.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Week {
    pub(super) product: Account,
    pub(super) trial: Account,
}

impl Week {
    /// Plays all of it. Deterministic.
    pub(super) fn play() -> Self {
        Self {
            product: Account::play("the product", product),
            trial: Account::play(
                "the trial",
                |minute| if minute < FORGOTTEN { product(minute) } else { 0.0 },
            ),
        }
    }

    /// All changes of both, with the account's name.
    pub(super) fn changes(&self) -> impl Iterator<Item = (&'static str, &LimitChange)> {
        [&self.product, &self.trial]
            .into_iter()
            .flat_map(|account| account.changes.iter().map(|change| (account.name, change)))
    }

    /// Limits that grew although the model was short.
    pub(super) fn grown_while_short(&self) -> usize {
        let grown = |change: &&LimitChange| {
            // The change at the very minute in which the shortage begins was decided before it.
            let minute = change.at.as_secs() / 60;
            change.reason == ChangeReason::Grown && minute > SHORT.start && SHORT.contains(&minute)
        };
        self.product.changes.iter().filter(grown).count()
    }

    /// Steps within the shortage in which a limit would have grown: well used, and below its ceiling.
    pub(super) fn withheld(&self) -> usize {
        let of_step = |step: usize| {
            let (Some(used), Some(limits)) = (self.product.used.get(step), self.product.limits.get(step))
            else {
                return 0;
            };
            let withheld = |(meter, limit): &(Meter, &u64)| {
                used.get(*meter) * 2 > **limit && **limit < self.product.config.bounds.get(*meter).ceiling
            };
            limits.iter().filter(withheld).count()
        };
        ((SHORT.start / STEP) as usize..(SHORT.end / STEP) as usize).map(of_step).sum()
    }

    /// Limits under their floor or above their ceiling.
    pub(super) fn outside(&self) -> usize {
        let of = |account: &Account| {
            let outside = |limits: &&PerMeter<u64>| {
                let within = |(meter, limit): (Meter, &u64)| {
                    let bounds = account.config.bounds.get(meter);
                    (bounds.floor..=bounds.ceiling).contains(limit)
                };
                !limits.iter().all(within)
            };
            account.limits.iter().filter(outside).count()
        };
        of(&self.product) + of(&self.trial)
    }
}

/// Demand in multiples of the starting limits.
fn product(minute: u64) -> f64 {
    let (day, of_day) = (minute / DAY, (minute % DAY) as f64);
    // Office hours from eight to eighteen, a little at night.
    let hours = ((of_day - 8.0 * 60.0) / (10.0 * 60.0)).clamp(0.0, 1.0);
    let office = (hours * std::f64::consts::PI).sin().powi(2);
    let peak = match day {
        0 => 0.9,
        1 => 3.0,
        _ => 0.2,
    };
    peak * (0.04 + office)
}

impl Account {
    fn play(name: &'static str, demand: impl Fn(u64) -> f64) -> Self {
        let config = BudgetConfig::published(START, CEILINGS);
        let mut budget = Budget::new(Duration::ZERO, config);
        let (mut used, mut limits, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        let mut most = PerMeter::<u64>::default();
        for minute in 0..MINUTES {
            let start = at(minute);
            budget.set_frozen(start, SHORT.contains(&minute));
            for request in 0..REQUESTS {
                let now = start + Duration::from_secs(60 * request / REQUESTS);
                spend(&mut budget, now, demand(minute) / REQUESTS as f64);
            }
            let view = budget.view(start + Duration::from_millis(59_900));
            changes.extend(budget.take_changes());
            most = PerMeter::from_fn(|meter| view.get(meter).used.max(*most.get(meter)));
            if (minute + 1).is_multiple_of(STEP) {
                used.push(std::mem::take(&mut most));
                limits.push(view.map(|view| view.limit));
            }
        }
        Self { name, config, used, limits, changes }
    }
}

fn at(minute: u64) -> Duration {
    Duration::from_secs(60 * minute)
}

/// One request with this share of the starting limits; a refused one is gone. Two thirds of the prompts are cached.
fn spend(budget: &mut Budget, now: Duration, share: f64) {
    let of = |meter: Meter, part: f64| (*START.get(meter) as f64 * share * part) as u64;
    let (prompt, generated) = (of(Meter::Prompt, 0.9), of(Meter::Generated, 1.0));
    let uncached_prompt = of(Meter::UncachedPrompt, 1.1).min(prompt);
    if prompt == 0 {
        return;
    }
    let ask =
        Ask { prompt, uncached_prompt, max_generated: Some(generated), choices: 1, usual_of_model: None };
    if let Ok(mut reservation) = budget.reserve(now, &ask) {
        budget.charge_prompt(now, &mut reservation);
        budget.charge_generated(now, &mut reservation, generated);
        budget.settle(now, reservation, &Used { prompt, uncached_prompt, generated, finished: true });
    }
}
