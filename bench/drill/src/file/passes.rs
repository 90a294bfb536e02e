//! The conditions of a scenario file.

use super::resolve::{Resolver, Step};
use super::{DrillFile, PassFile};
use crate::script::check::{Check, Measure, Of};

pub(super) fn checks(file: &DrillFile, resolver: &mut Resolver<'_>) -> Vec<Check> {
    let entries = file.pass.iter().enumerate();
    entries.filter_map(|(nth, entry)| check(entry, &[Step::Key("pass"), Step::Item(nth)], resolver)).collect()
}

fn check(entry: &PassFile, path: &[Step; 2], resolver: &mut Resolver<'_>) -> Option<Check> {
    let Some(measure) = measure(entry) else {
        let what = "needs exactly one measure: attainment, goodput_per_s, shed_max, shed_min, shed_order, recovery_s, \
                    limited_max, limited_min, ttft_ms, token_gap_ms, fairness, waste, tries_per_request or limit_growth";
        resolver.fault(path, what);
        return None;
    };
    if entry.recovery_s.is_some() && entry.after_s.is_none() {
        resolver.fault(path, "recovery_s needs after_s: from when does recovery count?");
    }
    let accounts = match entry.accounts.as_deref().map(|id| (id, resolver.group(id).cloned())) {
        None => None,
        Some((_, Some(group))) => Some((group.first, group.count)),
        Some((id, None)) => {
            let message = resolver.no_group(id);
            resolver.fault(&[path[0], path[1], Step::Key("accounts")], message);
            None
        }
    };
    if matches!(measure, Measure::Fairness(_) | Measure::LimitGrowth(_)) && entry.accounts.is_none() {
        resolver.fault(path, "needs `accounts`: the id of those that are meant");
    }
    if let (Measure::LimitGrowth(_), Some(group)) =
        (measure, entry.accounts.as_deref().and_then(|id| resolver.group(id)))
        && group.limits.is_none()
    {
        resolver.fault(path, "these accounts have no limits; give them some under accounts");
    }
    let from = entry.from_s.map(|at| resolver.moment(&[path[0], path[1], Step::Key("from_s")], at));
    let until = entry.until_s.map(|at| resolver.moment(&[path[0], path[1], Step::Key("until_s")], at));
    if let (Some(from), Some(until)) = (from, until)
        && from >= until
    {
        resolver.fault(path, "from_s must be before until_s");
    }
    let group = entry.accounts.clone();
    let of = Of { tier: entry.tier.map(Into::into), accounts, group, from, until };
    Some(Check { measure, of })
}

/// What is measured; `None` unless it is exactly one thing.
fn measure(entry: &PassFile) -> Option<Measure> {
    let percentile = entry.percentile.unwrap_or(99.0) / 100.0;
    let recovery = entry.recovery_s.map(|within_s| Measure::Recovery {
        within_s,
        after_s: entry.after_s.unwrap_or(0.0),
        attainment: entry.attainment.unwrap_or(0.99),
    });
    // The attainment of a recovery is part of it.
    let attainment = entry.attainment.filter(|_| entry.recovery_s.is_none()).map(Measure::Attainment);
    let all = [
        attainment,
        recovery,
        entry.goodput_per_s.map(Measure::Goodput),
        entry.shed_max.map(Measure::ShedMax),
        entry.shed_min.map(Measure::ShedMin),
        entry.shed_order.filter(|wanted| *wanted).map(|_| Measure::ShedOrder),
        entry.limited_max.map(Measure::LimitedMax),
        entry.limited_min.map(Measure::LimitedMin),
        entry.ttft_ms.map(|max_ms| Measure::Ttft { percentile, max_ms }),
        entry.token_gap_ms.map(|max_ms| Measure::TokenGap { percentile, max_ms }),
        entry.fairness.map(Measure::Fairness),
        entry.waste.map(Measure::Waste),
        entry.tries_per_request.map(Measure::Tries),
        entry.limit_growth.map(Measure::LimitGrowth),
    ];
    let mut given = all.into_iter().flatten();
    let first = given.next()?;
    given.next().is_none().then_some(first)
}
