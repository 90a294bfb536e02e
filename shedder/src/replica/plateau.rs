//! The limit at which gaps became too long, remembered: growth slows down in front of it.
//!
//! Some engines have an edge: with one more sequence than their largest CUDA graph a step takes twice as long. A limit that
//! grows evenly runs over such an edge again and again, and every time the running answers of half a minute pay for it. So
//! the limit at which gaps last became too long is remembered, and near it growth is slowed, more with each time that it
//! was the same again. Time makes it bolder, because workloads change:
//!
//! ```text
//! beyond 0.93 of it:  growth · 0.3 · 0.3^(times that it was the same within a tenth, 0.02 at least) · 2^(seconds since / 20)
//! 5 % past it:        forgotten
//! ```
//!
//! The same shape as TCP CUBIC's plateau before the window at which packets were last lost (RFC 9438).
//!
//! Cost: O(1), nothing allocates.

use std::time::Duration;

/// Growth is slowed from this part of the limit on.
const NEAR: f64 = 0.93;
const SLOWER: f64 = 0.3;
const SLOWER_AGAIN: f64 = 0.3;
const SLOWEST_AGAIN: f64 = 0.02;
const AGAIN_MAX: u32 = 5;
/// Within so much of it, as a natural logarithm, it is the same edge.
const SAME: f64 = 0.1;
/// So much past it there was no edge.
const PAST: f64 = 1.05;
const BOLDER_S: f64 = 20.0;

#[derive(Debug, Clone, Copy)]
struct Edge {
    limit: f64,
    again: u32,
    at: Duration,
}

/// What is known of one replica's edge.
#[derive(Debug, Clone, Default)]
pub(super) struct Plateau {
    edge: Option<Edge>,
    /// The limit is being lowered: it is one excursion, however many steps it takes.
    lowering: bool,
}

impl Plateau {
    /// Gaps are too long at `limit`.
    pub(super) fn on_too_long(&mut self, now: Duration, limit: f64) {
        if std::mem::replace(&mut self.lowering, true) {
            return;
        }
        let edge = match self.edge {
            Some(edge) if (limit / edge.limit).ln().abs() < SAME => Edge {
                limit: f64::midpoint(edge.limit, limit),
                again: (edge.again + 1).min(AGAIN_MAX),
                at: now,
            },
            // Something else made gaps long far below it: it is believed a little less.
            Some(edge) if edge.again > 0 && limit < edge.limit => {
                Edge { again: edge.again - 1, at: now, ..edge }
            }
            _ => Edge { limit, again: 0, at: now },
        };
        self.edge = Some(edge);
    }

    /// The part of `step` by which `limit` may grow.
    pub(super) fn slowed(&mut self, now: Duration, limit: f64, step: f64) -> f64 {
        self.lowering = false;
        self.edge = self.edge.filter(|edge| limit <= PAST * edge.limit);
        let Some(edge) = self.edge.filter(|edge| limit + step > NEAR * edge.limit) else { return step };
        let again = SLOWER_AGAIN.powi(edge.again.cast_signed()).max(SLOWEST_AGAIN);
        let bolder = (now.saturating_sub(edge.at).as_secs_f64() / BOLDER_S).exp2();
        step * (SLOWER * again * bolder).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Grows from 30, and gaps are too long beyond 48: how often that happens in ten minutes.
    #[test]
    fn an_edge_is_run_over_less_and_less_often() {
        let (mut plateau, mut limit) = (Plateau::default(), 30.0);
        let mut over = Vec::new();
        for half_second in 0..1_200 {
            let now = Duration::from_millis(500 * half_second);
            if limit > 48.0 {
                plateau.on_too_long(now, limit);
                over.push(now);
                limit = 40.0;
            } else {
                limit += plateau.slowed(now, limit, 0.01 * limit + 0.5);
            }
        }

        let within = |from: u64| over.iter().filter(|&&now| now >= at(from) && now < at(from + 120)).count();
        assert!(within(0) > within(480), "{over:?}");
        assert!(over.len() < 25, "growing evenly it would be 70 times: {over:?}");
    }

    #[test]
    fn growth_is_free_far_from_it_and_past_it() {
        let mut plateau = Plateau::default();
        assert_eq!(plateau.slowed(at(0), 100.0, 1.5), 1.5);
        plateau.on_too_long(at(0), 100.0);

        assert_eq!(plateau.slowed(at(1), 80.0, 1.3), 1.3);
        assert!(plateau.slowed(at(1), 95.0, 1.5) < 0.5);
        assert_eq!(plateau.slowed(at(200), 99.0, 1.5), 1.5, "after minutes it is tried again");
        assert_eq!(plateau.slowed(at(201), 106.0, 1.5), 1.5);
        assert_eq!(plateau.slowed(at(202), 99.0, 1.5), 1.5, "and forgotten");
    }
}
