//! One deployment over time: an hour in steps of five seconds, and a day in steps of a minute.
//!
//! Steps lie on multiples of their length since the epoch. What is recorded counts in the step that is open; a step closes
//! when a later moment is told. Steps that passed unrecorded are kept as such; a clock that goes back fills the open step.

use crate::step::{Kept, Open, Point, Sampled, TierPoint, TierTimes, Tokens};
use shedder::{PerTier, Tier};
use std::collections::VecDeque;
use std::time::Duration;

/// How fine the axis is, and how far back it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    /// Steps of five seconds for an hour.
    Fine,
    /// Steps of a minute for a day.
    Coarse,
}

impl Resolution {
    /// Both.
    pub const ALL: [Resolution; 2] = [Resolution::Fine, Resolution::Coarse];

    /// The length of a step, seconds.
    #[must_use]
    pub const fn step_s(self) -> u64 {
        match self {
            Resolution::Fine => 5,
            Resolution::Coarse => 60,
        }
    }

    /// Steps that are kept.
    #[must_use]
    pub const fn steps(self) -> usize {
        match self {
            Resolution::Fine => 720,
            Resolution::Coarse => 1_440,
        }
    }

    /// Its name in the admin API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Resolution::Fine => "5s",
            Resolution::Coarse => "1m",
        }
    }

    /// The resolution of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resolution| resolution.name() == name)
    }

    /// Bytes of a track of it.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.steps() * size_of::<Kept>() + size_of::<Open>()
    }
}

/// Counters of a deployment, which only grow while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests that got a place.
    pub admitted: PerTier<u64>,
    /// Requests refused for load.
    pub shed: PerTier<u64>,
}

impl Totals {
    /// Whether anything was counted.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Totals::default()
    }

    /// What came since `before`. A counter that fell began anew.
    fn since(&self, before: &Totals) -> Totals {
        let more = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        Totals {
            admitted: PerTier::from_fn(|tier| more(self.admitted[tier], before.admitted[tier])),
            shed: PerTier::from_fn(|tier| more(self.shed[tier], before.shed[tier])),
        }
    }
}

/// What is told of a deployment about once a second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sample {
    /// As it is now.
    pub sampled: Sampled,
    /// Requests that wait.
    pub queued: PerTier<u32>,
    /// Since it began.
    pub totals: Totals,
}

/// What is recorded of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was refused for a limit of its account.
    Limited,
    /// It was answered; whether within the service level.
    Answered {
        /// Whether it was.
        met: bool,
    },
    /// It ended otherwise: what it used counts, nothing else.
    Otherwise,
}

/// One resolution of a deployment.
#[derive(Debug, Clone)]
pub(crate) struct Track {
    resolution: Resolution,
    open: Box<Open>,
    /// The step that is open, counted since the epoch.
    slot: u64,
    /// Closed steps, the newest last: the one before `slot`.
    points: VecDeque<Kept>,
    /// Flex in as many steps, from the first on in which there was some.
    flex: Option<VecDeque<TierPoint>>,
}

impl Track {
    fn new(resolution: Resolution, now: Duration) -> Self {
        Track {
            resolution,
            open: Box::default(),
            slot: now.as_secs() / resolution.step_s(),
            points: VecDeque::with_capacity(resolution.steps()),
            flex: None,
        }
    }

    fn advance(&mut self, now: Duration) {
        let slot = now.as_secs() / self.resolution.step_s();
        if slot <= self.slot {
            return;
        }
        let closed = self.open.close();
        self.push(closed);
        let most = self.resolution.steps() as u64;
        // Steps that nobody recorded.
        (0..(slot - self.slot - 1).min(most)).for_each(|_| self.push(Point::default()));
        self.slot = slot;
    }

    fn push(&mut self, point: Point) {
        let steps = self.resolution.steps();
        let (kept, flex) = point.kept();
        if self.points.len() == steps {
            self.points.pop_front();
        }
        if flex.is_some() && self.flex.is_none() {
            let mut before = VecDeque::with_capacity(steps);
            before.resize(self.points.len(), TierPoint::default());
            self.flex = Some(before);
        }
        if let Some(all) = &mut self.flex {
            if all.len() == steps {
                all.pop_front();
            }
            all.push_back(flex.unwrap_or_default());
        }
        self.points.push_back(kept);
    }

    fn bytes(&self) -> usize {
        let flex = self.flex.as_ref().map_or(0, |_| self.resolution.steps() * size_of::<TierPoint>());
        self.resolution.bytes() + flex
    }

    /// The closed steps that began after `since`, with when, in seconds since the epoch.
    fn after(&self, since: u64) -> impl Iterator<Item = (u64, Point)> {
        let first = self.slot.saturating_sub(self.points.len() as u64);
        let steps = (first..).zip(self.points.iter().enumerate());
        let step_s = self.resolution.step_s();
        let point = move |nth: usize, kept: Kept| {
            kept.point(self.flex.as_ref().and_then(|flex| flex.get(nth)).copied())
        };
        steps
            .map(move |(slot, (nth, kept))| (slot * step_s, point(nth, *kept)))
            .filter(move |(begun, _)| *begun > since)
    }
}

/// One deployment.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    fine: Track,
    /// Given up first when there is no memory for more.
    coarse: Option<Track>,
    totals: Totals,
    /// When something was counted last.
    pub(crate) active: Duration,
}

impl Series {
    pub(crate) fn new(now: Duration, has_coarse: bool) -> Self {
        Series {
            fine: Track::new(Resolution::Fine, now),
            coarse: has_coarse.then(|| Track::new(Resolution::Coarse, now)),
            totals: Totals::default(),
            active: now,
        }
    }

    fn tracks(&mut self) -> impl Iterator<Item = &mut Track> {
        std::iter::once(&mut self.fine).chain(&mut self.coarse)
    }

    fn open(&mut self, now: Duration) -> impl Iterator<Item = &mut Open> {
        self.tracks().map(move |track| {
            track.advance(now);
            &mut *track.open
        })
    }

    pub(crate) fn sample(&mut self, now: Duration, sample: &Sample) {
        let more = sample.totals.since(&self.totals);
        self.totals = sample.totals;
        if !more.is_zero() {
            self.active = now;
        }
        for open in self.open(now) {
            open.sample(sample.sampled, sample.queued);
            for tier in Tier::ALL {
                let counts = &mut open.counts[tier];
                add(&mut counts.admitted, more.admitted[tier]);
                add(&mut counts.shed, more.shed[tier]);
            }
        }
    }

    pub(crate) fn add_times(&mut self, now: Duration, times: &PerTier<TierTimes>) {
        self.open(now).for_each(|open| open.add_times(times));
    }

    pub(crate) fn ended(&mut self, now: Duration, tier: Tier, ended: Ended, tokens: Tokens) {
        self.active = now;
        for open in self.open(now) {
            let counts = &mut open.counts[tier];
            match ended {
                Ended::Limited => add(&mut counts.limited, 1),
                Ended::Answered { met } => {
                    add(&mut counts.answered, 1);
                    add(&mut counts.met, u64::from(met));
                }
                Ended::Otherwise => {}
            }
            add(&mut open.tokens.prompt, tokens.prompt.into());
            add(&mut open.tokens.cached, tokens.cached.into());
            add(&mut open.tokens.generated, tokens.generated.into());
        }
    }

    pub(crate) fn has(&self, resolution: Resolution) -> bool {
        resolution == Resolution::Fine || self.coarse.is_some()
    }

    pub(crate) fn give_up_coarse(&mut self) {
        self.coarse = None;
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Series>() + self.fine.bytes() + self.coarse.as_ref().map_or(0, Track::bytes)
    }

    /// Bytes of a new one with or without a day.
    pub(crate) const fn bytes_of(has_coarse: bool) -> usize {
        let coarse = if has_coarse { Resolution::Coarse.bytes() } else { 0 };
        size_of::<Series>() + Resolution::Fine.bytes() + coarse
    }

    pub(crate) fn after(&self, resolution: Resolution, since: u64) -> Vec<(u64, Point)> {
        match resolution {
            Resolution::Fine => self.fine.after(since).collect(),
            Resolution::Coarse => self.coarse.iter().flat_map(|track| track.after(since)).collect(),
        }
    }
}

fn add(count: &mut u32, more: u64) {
    *count = count.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    /// A multiple of a minute.
    const NOON: u64 = 1_800_000_000;

    fn sample(admitted: u64) -> Sample {
        let totals =
            Totals { admitted: PerTier { regular: admitted, ..PerTier::default() }, ..Totals::default() };
        Sample { totals, ..Sample::default() }
    }

    fn admitted(series: &Series, resolution: Resolution) -> Vec<(u64, u32)> {
        let steps = series.after(resolution, 0).into_iter();
        steps.map(|(at, point)| (at - NOON, point.counts(Tier::Regular).admitted)).collect()
    }

    #[test]
    fn counters_become_steps_of_five_seconds_and_of_a_minute() {
        let mut series = Series::new(s(NOON), true);
        for second in 0..=120 {
            series.sample(s(NOON + second), &sample(2 * (second + 1)));
        }

        let fine = admitted(&series, Resolution::Fine);
        assert_eq!(fine.len(), 24, "the step that is open is not told");
        assert_eq!(fine[..2], [(0, 10), (5, 10)]);
        assert_eq!(admitted(&series, Resolution::Coarse), [(0, 120), (60, 120)]);
        assert_eq!(series.after(Resolution::Fine, NOON + 100).first().map(|(at, _)| at - NOON), Some(105));
    }

    #[test]
    fn an_hour_and_a_day_are_kept_and_no_more() {
        let mut series = Series::new(s(NOON), true);
        let end = NOON + 2 * 86_400;
        for now in (NOON..=end).step_by(5) {
            series.sample(s(now), &sample(now - NOON));
        }

        let (fine, coarse) = (series.after(Resolution::Fine, 0), series.after(Resolution::Coarse, 0));
        assert_eq!((fine.len(), coarse.len()), (720, 1_440));
        assert_eq!((fine[0].0, coarse[0].0), (end - 3_600, end - 86_400));
        assert_eq!(coarse[1_439].1.counts(Tier::Regular).admitted, 60);
    }

    #[test]
    fn what_nobody_recorded_is_a_gap_and_not_zero() {
        let mut series = Series::new(s(NOON), true);
        series.sample(s(NOON), &sample(1));
        series.sample(s(NOON + 17), &sample(2));
        series.sample(s(NOON + 20), &sample(3));

        let steps = series.after(Resolution::Fine, 0);
        let known: Vec<bool> = steps.iter().map(|(_, point)| point.sampled().is_some()).collect();
        assert_eq!(known, [true, false, false, true]);
        series.sample(s(NOON + 90_000), &sample(3));
        assert_eq!(series.after(Resolution::Fine, 0).len(), 720);
    }

    #[test]
    fn a_clock_that_goes_back_loses_nothing() {
        let mut series = Series::new(s(NOON), true);
        series.sample(s(NOON + 4), &sample(1));
        series.sample(s(NOON - 100), &sample(5));
        series.sample(s(NOON + 5), &sample(5));

        assert_eq!(admitted(&series, Resolution::Fine), [(0, 5)]);
    }

    #[test]
    fn a_counter_that_began_anew_counts_from_zero() {
        let mut series = Series::new(s(NOON), true);
        series.sample(s(NOON), &sample(100));
        series.sample(s(NOON + 1), &sample(3));
        series.sample(s(NOON + 5), &sample(3));

        assert_eq!(admitted(&series, Resolution::Fine), [(0, 103)]);
    }
}
