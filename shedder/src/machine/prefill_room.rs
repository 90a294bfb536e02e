//! Replicas that are kept free of large regular prompts, learnt from how long priority waits for prompts to be computed.
//!
//! Prompts are paced, so a priority request may find every replica at work on a regular prompt, and wait although there
//! are places. How long priority waited for that, as a part of the TTFT target, is the measure: in every half second the
//! worst wait over 15 % of the target adds a tenth of itself to the part of the replicas that is kept, and otherwise
//! that part fades: by half in 35 s while more comes than can be computed, else in 7 s. While more comes than can be
//! computed, a regular prompt of more than half a pace starts only if so many *other* replicas compute none. Smaller ones
//! go on: they are over before the next priority request feels them.
//!
//! With one replica nothing can be kept, and nothing is. When the load falls nothing is kept either, whatever was learnt:
//! it would delay what there is room for, and refuse it in the end.
//!
//! Worth, four replicas: 3 % more goodput at twice the load and 8 % at three times, because small prompts fill the steps
//! that large ones would have taken whole; priority's misses at three times the load fall by a fifth, and with long
//! context by a quarter. See `TRIED.md`.

use std::time::Duration;

const STEP: Duration = Duration::from_millis(500);
/// Waits under this part of the TTFT target are what pacing costs at any load.
const USUAL: f64 = 0.15;
const GAIN: f64 = 0.1;
const MOST: f64 = 0.85;
/// While more comes than can be computed, and otherwise: then what is kept would only delay what there is room for.
const FADE_PRESSED_S: f64 = 50.0;
const FADE_S: f64 = 10.0;
/// Less is no reason to keep anything.
const LEAST: f64 = 0.02;

/// The part of the replicas that is kept.
#[derive(Debug, Clone)]
pub(super) struct PrefillRoom {
    part: f64,
    worst: f64,
    stepped: Duration,
    pressed: bool,
}

impl PrefillRoom {
    pub(super) fn new(now: Duration) -> Self {
        Self { part: 0.0, worst: 0.0, stepped: now, pressed: false }
    }

    /// A priority request waited for this part of the TTFT target until a prompt could start; 1 when it was refused.
    pub(super) fn on_waited(&mut self, share: f64) {
        self.worst = self.worst.max(share.min(1.0));
    }

    /// One step, when one is due; `pressed`: more prompts come than can be computed.
    pub(super) fn step(&mut self, now: Duration, pressed: bool) {
        self.pressed = pressed;
        if now.saturating_sub(self.stepped) < STEP {
            return;
        }
        self.stepped = now;
        let worst = std::mem::take(&mut self.worst);
        self.part = if worst > USUAL {
            (self.part + GAIN * worst).min(MOST)
        } else {
            let fade_s = if pressed { FADE_PRESSED_S } else { FADE_S };
            self.part * (-STEP.as_secs_f64() / fade_s).exp()
        };
    }

    /// How many of `replicas` have to be free of prompts beside the one that takes another.
    pub(super) fn kept(&self, replicas: usize) -> usize {
        if self.part < LEAST || !self.pressed {
            return 0;
        }
        ((self.part * replicas as f64).ceil() as usize).min(replicas.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stepped(room: &mut PrefillRoom, (from, steps): (u64, u64), waited: f64, pressed: bool) {
        for n in 1..=steps {
            room.on_waited(waited);
            room.step(Duration::from_millis(from + 500 * n), pressed);
        }
    }

    #[test]
    fn long_waits_of_priority_keep_replicas_and_their_end_gives_them_back() {
        let mut room = PrefillRoom::new(Duration::ZERO);

        stepped(&mut room, (0, 100), 0.1, true);
        assert_eq!(room.kept(4), 0, "what pacing costs at any load");
        stepped(&mut room, (50_000, 1), 0.5, true);
        assert_eq!(room.kept(4), 1);
        stepped(&mut room, (51_000, 100), 1.0, true);
        assert_eq!(
            (room.kept(4), room.kept(1)),
            (3, 0),
            "one is always left to regular, a single one always"
        );
        stepped(&mut room, (102_000, 20), 0.0, true);
        assert_eq!(room.kept(4), 3, "slowly while the load lasts");
        stepped(&mut room, (112_000, 1), 0.0, false);
        assert_eq!(room.kept(4), 0, "and nothing when it is over");
    }
}
