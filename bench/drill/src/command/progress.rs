//! How far a drill is, in one line that is drawn over itself. On a terminal only: piped, it says nothing.

use crate::run::{Outcome, Run};
use engine::clock;
use shedder::PerTier;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// Drawn at most so often.
const FRAME: Duration = Duration::from_millis(100);
/// Characters of the bar.
const BAR: usize = 22;

/// The line.
pub(super) struct Progress {
    name: String,
    end: Duration,
    terminal: bool,
    color: bool,
    drawn: Option<Duration>,
    /// Ended tries that are counted already.
    counted: usize,
    /// Tries and those within the service level.
    tiers: PerTier<(u64, u64)>,
    shed: u64,
    limited: u64,
}

impl Progress {
    pub(super) fn new(name: &str, end: Duration) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            name: name.to_owned(),
            end,
            terminal,
            color: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            drawn: None,
            counted: 0,
            tiers: PerTier::default(),
            shed: 0,
            limited: 0,
        }
    }

    /// Draws the line, if it is time.
    pub(super) fn show(&mut self, now: Duration, run: &Run) {
        let wall = clock::now();
        if !self.terminal || self.drawn.is_some_and(|drawn| wall.saturating_sub(drawn) < FRAME) {
            return;
        }
        self.drawn = Some(wall);
        for ended in run.ended.iter().skip(self.counted) {
            let (offered, met) = &mut self.tiers[ended.tier];
            *offered += 1;
            *met += u64::from(ended.is_met());
            self.shed += u64::from(matches!(ended.outcome, Outcome::Shed(_)));
            self.limited += u64::from(matches!(ended.outcome, Outcome::Limited(_)));
        }
        self.counted = run.ended.len();
        let line = self.line(now);
        // A terminal that is gone is nobody's loss.
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        let _ = std::io::stderr().flush();
    }

    fn line(&self, now: Duration) -> String {
        let share = (now.as_secs_f64() / self.end.as_secs_f64().max(1e-9)).min(1.0);
        let filled = (share * BAR as f64).round() as usize;
        let bar: String = (0..BAR).map(|at| if at < filled { '█' } else { '·' }).collect();
        let paint =
            |code: u8, text: String| if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text };
        let attained = |(offered, met): (u64, u64)| 100.0 * met as f64 / offered.max(1) as f64;
        let PerTier { priority, regular, flex } = self.tiers;
        let flex = if flex.0 > 0 { format!("  flex {:.0} %", attained(flex)) } else { String::new() };
        format!(
            "{}  {} {:>3.0} %  {:.0} s  priority {}  regular {:.0} %{flex}  503 {}  429 {}",
            self.name,
            paint(36, bar),
            share * 100.0,
            now.as_secs_f64(),
            paint(if attained(priority) >= 99.0 { 32 } else { 31 }, format!("{:.1} %", attained(priority))),
            attained(regular),
            self.shed,
            self.limited
        )
    }

    /// Says what takes its time.
    pub(super) fn note(&self, what: &str) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K{}  {what} …", self.name);
            let _ = std::io::stderr().flush();
        }
    }

    /// Clears the line.
    pub(super) fn end(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
            let _ = std::io::stderr().flush();
        }
    }
}
