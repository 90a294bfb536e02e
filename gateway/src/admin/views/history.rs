//! A deployment over time in columns, and events on the same axis.

use crate::clock;
use crate::telemetry::recorder::{Promise, Recorder};
use crate::upstream::deployment::Deployment;
use client::views::events::{EventList, EventState};
use client::views::history::{Column, History, Quantiles, Slo, TierHistory, TokensPerSecond};
use history::events::Event;
use history::series::Resolution;
use history::step::{Point, Sampled, TierCounts};
use shedder::Tier;
use std::sync::Arc;
use std::time::Duration;

/// The steps of a deployment that began after `since`, seconds since the epoch.
pub(in crate::admin) fn history(
    recorder: &Recorder,
    deployment: &Deployment,
    resolution: Resolution,
    since: u64,
) -> History {
    let name = &deployment.config.name;
    let steps = recorder.steps(name, resolution, since);
    let (time, points): (Vec<u64>, Vec<Point>) = steps.steps.into_iter().unzip();
    let step_s = resolution.step_s();
    let sampled = |of: fn(&Sampled) -> f32| -> Column<f64> {
        points.iter().map(|point| point.sampled().map(|sampled| rounded(of(&sampled).into(), 1e3))).collect()
    };
    let per_second = |of: fn(&Point) -> u32| -> Column<f64> {
        let rate = |point: &Point| rounded(f64::from(of(point)) / step_s as f64, 10.0);
        points.iter().map(|point| point.is_known().then(|| rate(point))).collect()
    };
    History {
        deployment: Arc::clone(name),
        resolution: resolution.name().into(),
        step_seconds: step_s,
        keeps_seconds: step_s * resolution.steps() as u64,
        now: rounded(clock::wall().as_secs_f64(), 1e3),
        complete: steps.is_kept,
        slo: slo(recorder.promise(name)),
        saturation: sampled(|sampled| sampled.saturation),
        limit: sampled(|sampled| sampled.limit),
        active: points.iter().map(|point| point.sampled().map(|sampled| sampled.active)).collect(),
        replicas_up: points.iter().map(|point| point.sampled().map(|sampled| sampled.replicas_up)).collect(),
        replicas: points.iter().map(|point| point.sampled().map(|sampled| sampled.replicas)).collect(),
        tokens_per_second: TokensPerSecond {
            prompt: per_second(|point| point.tokens().prompt),
            cached: per_second(|point| point.tokens().cached),
            generated: per_second(|point| point.tokens().generated),
        },
        tiers: deployment.config.tiers().map(|tier| tier_history(tier, &points)).collect(),
        time,
    }
}

fn tier_history(tier: Tier, points: &[Point]) -> TierHistory {
    let counted = |of: fn(&TierCounts) -> u32| -> Column<u32> {
        points.iter().map(|point| point.is_known().then(|| of(&point.counts(tier)))).collect()
    };
    let attained = |point: &Point| {
        let TierCounts { answered, met, .. } = point.counts(tier);
        (answered > 0).then(|| rounded(f64::from(met) / f64::from(answered), 1e4))
    };
    let ceiling = |point: &Point| point.sampled().map(|sampled| rounded(sampled.ceilings[tier].into(), 1e2));
    TierHistory {
        tier: tier.name().into(),
        offered: counted(|counts| counts.admitted.saturating_add(counts.limited).saturating_add(counts.shed)),
        admitted: counted(|counts| counts.admitted),
        limited: counted(|counts| counts.limited),
        shed: counted(|counts| counts.shed),
        queued: counted(|counts| counts.queued),
        ceiling_in_force: points.iter().map(ceiling).collect(),
        ttft_ms: quantiles(points, |point| point.first_token(tier)),
        gap_ms: quantiles(points, |point| point.gap(tier)),
        answered: counted(|counts| counts.answered),
        met: counted(|counts| counts.met),
        attainment: points.iter().map(attained).collect(),
    }
}

fn quantiles(points: &[Point], of: impl Fn(&Point) -> [Option<Duration>; 3]) -> Quantiles {
    let mut told = Quantiles::default();
    for point in points {
        let [p50, p95, p99] = of(point).map(|time| time.map(|time| rounded(time.as_secs_f64() * 1e3, 10.0)));
        told.p50.push(p50);
        told.p95.push(p95);
        told.p99.push(p99);
    }
    told
}

fn slo(promise: Option<Promise>) -> Slo {
    let unknown =
        Promise { ttft: shedder::TTFT_DEFAULT, ttft_from: "default", tpot: None, tpot_from: "learned" };
    let promise = promise.unwrap_or(unknown);
    let ms = |time: Duration| rounded(time.as_secs_f64() * 1e3, 10.0);
    Slo {
        ttft_ms: ms(promise.ttft),
        ttft_from: promise.ttft_from.into(),
        tpot_ms: promise.tpot.map(ms),
        tpot_from: promise.tpot_from.into(),
    }
}

/// So many parts of one are told: more digits would be noise, and most of the page.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// Events after a moment.
pub(in crate::admin) fn events(
    recorder: &Recorder,
    since: Duration,
    deployment: Option<&str>,
    most: usize,
) -> EventList {
    let (events, dropped) = recorder.events(since, deployment, most);
    EventList { events: events.into_iter().map(event).collect(), dropped }
}

fn event(event: Event) -> EventState {
    EventState {
        id: event.id,
        time: rounded(event.at.as_secs_f64(), 1e3),
        at: clock::rfc3339(event.at),
        kind: event.kind.name().into(),
        deployment: event.subject.deployment,
        replica: event.subject.replica,
        account: event.subject.account,
        model: event.subject.model,
        words: event.words,
        by: event.by,
    }
}
