//! The demo's screen: redrawn on a terminal, one line now and then where a program reads it.

use super::tide::Phase;
use engine::clock;
use load::{LiveTier, LoadRun};
use shedder::Snapshot;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Where nobody watches, one line in so many frames.
const PLAIN_EVERY: u32 = 10;
/// Width of a bar, characters.
const BAR: usize = 24;

/// The screen.
pub(super) struct View {
    address: SocketAddr,
    admin: SocketAddr,
    key: &'static str,
    /// Whether keys do something.
    keys: bool,
    terminal: bool,
    color: bool,
    frames: u32,
    last: Vec<Counts>,
    last_at: Duration,
}

/// One tier's counters at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    offered: u64,
    completed: u64,
    attained: u64,
    budget: u64,
    load: u64,
    failed: u64,
    ttft_us: u64,
    ttft_count: u64,
}

impl Counts {
    fn of(tier: &LiveTier) -> Self {
        Counts {
            offered: tier.offered.load(Relaxed),
            completed: tier.completed.load(Relaxed),
            attained: tier.attained.load(Relaxed),
            budget: tier.refused_429.load(Relaxed),
            load: tier.refused_503.load(Relaxed),
            failed: tier.failed.load(Relaxed),
            ttft_us: tier.ttft_us.load(Relaxed),
            ttft_count: tier.ttft_count.load(Relaxed),
        }
    }

    fn since(self, last: Self) -> Self {
        Counts {
            offered: self.offered - last.offered,
            completed: self.completed - last.completed,
            attained: self.attained - last.attained,
            budget: self.budget - last.budget,
            load: self.load - last.load,
            failed: self.failed - last.failed,
            ttft_us: self.ttft_us - last.ttft_us,
            ttft_count: self.ttft_count - last.ttft_count,
        }
    }

    fn ttft_ms(self) -> u64 {
        self.ttft_us / self.ttft_count.max(1) / 1000
    }
}

impl View {
    /// A screen for a gateway at `address` that `key` opens.
    pub(super) fn new(address: SocketAddr, admin: SocketAddr, key: &'static str, keys: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let color = terminal && std::env::var_os("NO_COLOR").is_none();
        let mut view = View {
            address,
            admin,
            key,
            keys,
            terminal,
            color,
            frames: 0,
            last: Vec::new(),
            last_at: clock::now(),
        };
        view.print(&view.intro());
        view
    }

    fn intro(&self) -> String {
        let (address, admin, key, token) = (self.address, self.admin, self.key, super::ADMIN_TOKEN);
        format!(
            "tidegate demo: 4 simulated replicas of an 8B model, three customers, traffic that rises and falls\n\
             listening on http://{address}\nadmin on http://{admin}  (/metrics, /readyz, /api/v1/openapi.json)\n\
             console at http://{admin}/  (to change something there: the token {token})\n\n\
             Try it while it runs:\n  \
             curl -i http://{address}/v1/chat/completions -H 'Authorization: Bearer {key}' \\\n    \
             -H 'Content-Type: application/json' \\\n    \
             -d '{{\"model\":\"demo-8b\",\"service_tier\":\"priority\",\"max_tokens\":20,\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}'\n  \
             curl -s http://{admin}/metrics | grep ^tidegate_\n\n"
        )
    }

    /// Draws one frame, or counts it where nobody watches.
    pub(super) fn draw(&mut self, look: &dyn Fn() -> Snapshot, loads: &[LoadRun], phase: Phase) {
        self.frames += 1;
        if !self.terminal && !self.frames.is_multiple_of(PLAIN_EVERY) {
            return;
        }
        let now = clock::now();
        let seconds = now.saturating_sub(self.last_at).as_secs_f64().max(1e-3);
        let tiers = loads.iter().flat_map(|load| &load.live.tiers);
        let counts: Vec<(String, Counts)> = tiers.map(|tier| (tier.name.clone(), Counts::of(tier))).collect();
        let state = look();
        let rates: Vec<(String, Counts, Counts)> = counts
            .iter()
            .enumerate()
            .map(|(at, (name, now))| {
                let before = self.last.get(at).copied().unwrap_or_default();
                (name.clone(), now.since(before), *now)
            })
            .collect();
        let text = if self.terminal {
            screen(self.color, &self.intro(), phase, &rates, seconds, &state) + &self.help()
        } else {
            line(phase, &rates, seconds, &state)
        };
        self.print(&text);
        // Rates are over two seconds, so that a single request does not make the numbers jump.
        if seconds >= 2.0 || !self.terminal {
            self.last = counts.iter().map(|(_, counts)| *counts).collect();
            self.last_at = now;
        }
    }

    /// What can be pressed.
    fn help(&self) -> String {
        let keys = [
            ("l", "lose a replica"),
            ("d", "double regular"),
            ("p", "priority surge"),
            ("r", "recover"),
            ("q", "quit"),
        ];
        let keys: Vec<String> =
            keys.iter().map(|(key, what)| format!("[{}] {what}", bold(self.color, key))).collect();
        let keys = if self.keys { format!("{}\x1b[K\n", keys.join("  ")) } else { String::new() };
        format!("{keys}429: the customer's own budget   503: our load   Ctrl-C ends the demo\x1b[K\n\x1b[J")
    }

    fn print(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}

fn line(phase: Phase, rates: &[(String, Counts, Counts)], seconds: f64, state: &Snapshot) -> String {
    let mut text = format!("{:<10} {:.1}x  saturation {:.2}", phase.name, phase.load, state.saturation);
    for (name, rate, _) in rates {
        let per_s = |count: u64| count as f64 / seconds;
        let _ = write!(
            text,
            " | {name} {:.0}/s 200 {:.0} 429 {:.0} 503 {:.0} ttft {} ms",
            per_s(rate.offered),
            per_s(rate.completed),
            per_s(rate.budget),
            per_s(rate.load),
            rate.ttft_ms()
        );
    }
    text + "\n"
}

fn screen(
    color: bool,
    intro: &str,
    phase: Phase,
    rates: &[(String, Counts, Counts)],
    seconds: f64,
    state: &Snapshot,
) -> String {
    // Home, then each line cleared to its end: no flicker.
    let mut text = String::from("\x1b[H");
    text.push_str(intro);
    let _ = writeln!(text, "{}  offered load {:.1} x capacity", bold(color, phase.name), phase.load);
    let _ = writeln!(text);
    let _ = writeln!(
        text,
        "{:<10}{:>10}{:>9}{:>9}{:>9}{:>9}{:>11}{:>13}",
        "tier", "offered/s", "200/s", "429/s", "503/s", "failed", "TTFT ms", "in SLO, all"
    );
    for (name, rate, all) in rates {
        let per_s = |count: u64| count as f64 / seconds;
        let share = 100.0 * all.attained as f64 / (all.completed + all.load + all.failed).max(1) as f64;
        let _ = writeln!(
            text,
            "{name:<10}{:>10.1}{}{}{}{:>9}{:>11}{share:>12.1}%",
            per_s(rate.offered),
            tint(color, 32, per_s(rate.completed)),
            tint(color, 33, per_s(rate.budget)),
            tint(color, 31, per_s(rate.load)),
            all.failed,
            rate.ttft_ms(),
        );
    }
    let _ = writeln!(text);
    for replica in &state.replicas {
        let _ = writeln!(
            text,
            "replica {}  {}  {:>5.2}  {:>3} of {:>3.0} streams  {:>6} prompt tokens ahead{}",
            replica.id.0,
            bar(color, replica.saturation),
            replica.saturation,
            replica.active,
            replica.limit,
            replica.backlog_tokens,
            if replica.healthy { "" } else { "  out of service" },
        );
    }
    let _ = writeln!(
        text,
        "\nqueue     priority {:>4}   regular {:>4}        open for: {}",
        state.queue.priority.requests,
        state.queue.regular.requests,
        match (state.open.priority, state.open.regular) {
            (true, true) => "priority and regular",
            (true, false) => "priority only",
            _ => "nobody: what comes waits or is shed",
        }
    );
    let _ = writeln!(text);
    text.replace('\n', "\x1b[K\n")
}

fn tint(color: bool, code: u8, value: f64) -> String {
    let number = format!("{value:>9.1}");
    if color && value > 0.0 { format!("\x1b[{code}m{number}\x1b[0m") } else { number }
}

fn bold(color: bool, text: &str) -> String {
    if color { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// A tide gauge: how full, with the mark above which regular requests stay out.
fn bar(color: bool, full: f64) -> String {
    let filled = (full.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    let mark = (0.85 * BAR as f64) as usize;
    let cells: String = (0..BAR)
        .map(|at| match (at < filled, at == mark) {
            (true, _) => '█',
            (false, true) => '┊',
            (false, false) => '·',
        })
        .collect();
    let code = if full >= 1.0 {
        31
    } else if full >= 0.85 {
        33
    } else {
        36
    };
    if color { format!("\x1b[{code}m{cells}\x1b[0m") } else { cells }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gauge_fills_with_saturation_and_marks_regulars_ceiling() {
        assert_eq!(bar(false, 0.0), "····················┊···");
        assert_eq!(bar(false, 0.5), "████████████········┊···");
        assert_eq!(bar(false, 7.0), "█".repeat(BAR));
    }

    #[test]
    fn rates_are_differences() {
        let before = Counts { offered: 10, ttft_us: 1000, ttft_count: 1, ..Counts::default() };
        let now = Counts { offered: 15, ttft_us: 9000, ttft_count: 3, ..Counts::default() };
        let rate = now.since(before);
        assert_eq!((rate.offered, rate.ttft_ms()), (5, 4));
    }
}
