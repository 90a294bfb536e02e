//! What the demo shows: on a terminal a screen that fits it, elsewhere one line now and then.

use super::layout::{Line, Rank, Size, frame};
use super::rates::Tier;
use super::tide::Phase;
use shedder::{ReplicaSnapshot, Snapshot};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// Widths of a gauge, characters: in 80 columns, and at most.
const GAUGE_MIN: usize = 20;
const GAUGE_MAX: usize = 40;
/// Columns of a replica's line beside its gauge.
const BESIDE_GAUGE: usize = 60;
/// Styles.
const BOLD: u8 = 1;
const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const CYAN: u8 = 36;
/// What can be pressed.
const KEYS: [(&str, &str); 5] = [
    ("l", "lose a replica"),
    ("d", "double regular"),
    ("p", "priority surge"),
    ("r", "recover"),
    ("q", "quit"),
];

/// Where the demo is to be reached, and what of it there is to see.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// Where customers connect.
    pub(super) address: SocketAddr,
    /// Where operators do.
    pub(super) admin: SocketAddr,
    /// A customer's key.
    pub(super) key: &'static str,
    /// The operator's token.
    pub(super) token: &'static str,
    /// Whether keys do something.
    pub(super) has_keys: bool,
    /// Whether colours are wanted.
    pub(super) color: bool,
}

/// One moment of the demo.
pub(super) struct Moment<'a> {
    pub(super) phase: Phase,
    pub(super) tiers: &'a [Tier],
    pub(super) state: &'a Snapshot,
}

impl View {
    /// What is said once where lines are printed.
    pub(super) fn intro(&self) -> String {
        let (address, admin, token) = (self.address, self.admin, self.token);
        format!(
            "tidegate demo: 4 simulated replicas of an 8B model, three customers, traffic that rises and falls\n\
             listening on http://{address}\nadmin on http://{admin}  (/metrics, /readyz, /api/v1/openapi.json)\n\
             console at http://{admin}/  (to change something there: the token {token})\n\n\
             Try it while it runs:\n{}\n\n",
            self.examples().map(|line| format!("  {line}")).join("\n"),
        )
    }

    /// Lines to copy into another terminal.
    fn examples(&self) -> [String; 5] {
        let (address, admin, key) = (self.address, self.admin, self.key);
        [
            format!("curl -i http://{address}/v1/chat/completions \\"),
            format!("  -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\"),
            "  -d '{\"model\":\"demo-8b\",\"service_tier\":\"priority\",\"max_tokens\":20,".to_owned(),
            "       \"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}'".to_owned(),
            format!("curl -s http://{admin}/metrics | grep ^tidegate_"),
        ]
    }

    /// The screen.
    pub(super) fn screen(&self, moment: &Moment<'_>, size: Size) -> String {
        let Moment { phase, tiers, state } = moment;
        let blank = || Line::new(Rank::Blank);
        let mut lines = vec![
            Line::new(Rank::Needed)
                .text("tidegate demo   ")
                .styled(BOLD, phase.name)
                .text(format!("   offered load {:.1} x capacity", phase.load)),
            Line::new(Rank::Explains).text(format!("gateway http://{}/v1   key {}", self.address, self.key)),
            Line::new(Rank::Explains)
                .text(format!("console http://{}/     token {}", self.admin, self.token)),
            blank(),
        ];
        lines.extend(tiers_table(tiers));
        lines.push(blank());
        let gauge = size.columns.saturating_sub(BESIDE_GAUGE).clamp(GAUGE_MIN, GAUGE_MAX);
        let stop = state.ceilings.regular;
        lines.extend(state.replicas.iter().map(|one| replica(one, stop, gauge)));
        lines.push(queue(state));
        lines.push(blank());
        lines.extend(self.examples().map(|line| Line::new(Rank::Extra).text(line)));
        lines.push(blank());
        let legend = "429: the customer's own budget   503: our load   Ctrl-C ends the demo";
        lines.push(Line::new(Rank::Explains).text(legend));
        if self.has_keys {
            lines.push(KEYS.iter().fold(Line::new(Rank::Needed), |line, (key, what)| {
                line.styled(BOLD, *key).text(format!(" {what}   "))
            }));
        }
        frame(lines, size, self.color)
    }

    /// What is left on the terminal when the demo is over.
    pub(super) fn summary(&self, tiers: &[Tier]) -> String {
        let mut text = "tidegate demo is over".to_owned();
        for tier in tiers {
            // Writing into a string cannot fail; so below.
            let _ = write!(
                text,
                "\n  {:<10}{:>6.1} % of {} served within the SLO, {} x 429, {} x 503",
                tier.name,
                tier.in_all.in_slo_percent(),
                tier.in_all.offered,
                tier.in_all.budget,
                tier.in_all.load,
            );
        }
        text + "\n"
    }
}

/// The moment in one line.
pub(super) fn line(moment: &Moment<'_>) -> String {
    let Moment { phase, tiers, state } = moment;
    let mut text = format!("{:<10} {:.1}x  saturation {:.2}", phase.name, phase.load, state.saturation);
    for tier in *tiers {
        let _ = write!(
            text,
            " | {} {:.0}/s 200 {:.0} 429 {:.0} 503 {:.0} ttft {} ms",
            tier.name,
            tier.per_s(tier.lately.offered),
            tier.per_s(tier.lately.completed),
            tier.per_s(tier.lately.budget),
            tier.per_s(tier.lately.load),
            tier.lately.ttft_ms()
        );
    }
    text + "\n"
}

fn tiers_table(tiers: &[Tier]) -> Vec<Line> {
    let heading = format!(
        "{:<10}{:>9}{:>9}{:>9}{:>9}{:>8}{:>10}{:>12}",
        "tier", "offered/s", "200/s", "429/s", "503/s", "failed", "TTFT ms", "in SLO, all"
    );
    let mut lines = vec![Line::new(Rank::Explains).text(heading)];
    lines.extend(tiers.iter().map(|tier| {
        let Tier { name, lately, in_all, .. } = tier;
        let rate = |line: Line, style, count| match tier.per_s(count) {
            value if value > 0.0 => line.styled(style, format!("{value:>9.1}")),
            value => line.text(format!("{value:>9.1}")),
        };
        let mut line = Line::new(Rank::Needed).text(format!("{name:<10}{:>9.1}", tier.per_s(lately.offered)));
        line = rate(line, GREEN, lately.completed);
        line = rate(line, YELLOW, lately.budget);
        line = rate(line, RED, lately.load);
        let (failed, ttft_ms) = (in_all.failed, lately.ttft_ms());
        line.text(format!("{failed:>8}{ttft_ms:>10}{:>10.1} %", in_all.in_slo_percent()))
    }));
    lines
}

fn replica(one: &ReplicaSnapshot, stop: f64, width: usize) -> Line {
    let style = match one.saturation {
        full if full >= 1.0 => RED,
        full if full >= stop => YELLOW,
        _ => CYAN,
    };
    let line = Line::new(Rank::Needed)
        .text(format!("replica {}  ", one.id.0))
        .styled(style, gauge(one.saturation, stop, width));
    if one.drained {
        return line.text(match one.active {
            0 => "  drained".to_owned(),
            active => format!("  draining, {active} requests run"),
        });
    }
    if !one.healthy {
        return line.text("  down");
    }
    line.text(format!(
        "  {:>5.2}  {:>3} of {:>3.0} requests  {:>6} tokens ahead",
        one.saturation, one.active, one.limit, one.backlog_tokens
    ))
}

/// How full, with a mark where regular requests stop now.
fn gauge(full: f64, stop: f64, width: usize) -> String {
    let filled = (full.clamp(0.0, 1.0) * width as f64).round() as usize;
    let mark = (stop.clamp(0.0, 1.0) * width as f64) as usize;
    let cell = |at| match (at < filled, at == mark) {
        (true, _) => '█',
        (false, true) => '┊',
        (false, false) => '·',
    };
    (0..width).map(cell).collect()
}

fn queue(state: &Snapshot) -> Line {
    let stop = 100.0 * state.ceilings.regular;
    let open = match (state.open.priority, state.open.regular) {
        (true, true) => format!("regular is let in below {stop:.0} %"),
        (true, false) => format!("regular waits: above {stop:.0} %"),
        _ => "full: what comes waits or is shed".to_owned(),
    };
    let waiting = [&state.queue.priority, &state.queue.regular].map(|queue| queue.requests);
    Line::new(Rank::Needed)
        .text(format!("waiting    priority {:>4}   regular {:>4}   {open}", waiting[0], waiting[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::Counts;
    use shedder::ReplicaId;

    fn view(color: bool) -> View {
        let [address, admin] = ["127.0.0.1:65535"; 2].map(|text| text.parse().unwrap());
        View { address, admin, key: "tg-demo-acme", token: "tg-demo-admin", has_keys: true, color }
    }

    fn state() -> Snapshot {
        let replica = |id| ReplicaSnapshot {
            id: ReplicaId(id),
            active: 128,
            limit: 256.0,
            saturation: 1.25,
            backlog_tokens: 123_456,
            healthy: true,
            ..ReplicaSnapshot::default()
        };
        let mut state = Snapshot { replicas: (0..4).map(replica).collect(), ..Snapshot::default() };
        state.ceilings.regular = 0.85;
        state.open.priority = true;
        state
    }

    fn shown(size: Size, color: bool) -> String {
        let tier = |name: &str| {
            let lately = Counts { offered: 1000, completed: 500, load: 400, ..Counts::default() };
            Tier { name: name.to_owned(), lately, in_all: lately, seconds: 2.0 }
        };
        let (tiers, state) = (["priority", "regular", "trial"].map(tier), state());
        let phase = Phase { name: "priority surge", load: 12.3, priority_per_s: 1.0, regular_per_s: 1.0 };
        view(color).screen(&Moment { phase, tiers: &tiers, state: &state }, size)
    }

    /// The rows of a screen without colours.
    fn rows(screen: &str) -> Vec<&str> {
        screen.split("\x1b[K").skip(1).map(|row| row.split('\x1b').next().unwrap()).collect()
    }

    #[test]
    fn everything_fits_into_eighty_columns_and_twenty_four_lines() {
        let (screen, whole) =
            (shown(Size { columns: 80, rows: 24 }, false), shown(Size { columns: 139, rows: 99 }, false));

        assert_eq!(rows(&screen).len(), rows(&whole).len(), "a line is left out");
        // The gauges take what is there.
        let longer = |row: &&str| row.chars().count() > 80 && !row.starts_with("replica");
        assert_eq!(rows(&whole).into_iter().find(longer), None);
        let replicas: Vec<usize> = rows(&screen)
            .iter()
            .filter(|row| row.starts_with("replica"))
            .map(|row| row.chars().count())
            .collect();
        assert!(replicas.len() == 4 && replicas.iter().all(|width| *width <= 80), "{replicas:?}");
        for what in
            ["priority surge", "123456 tokens ahead", "tg-demo-admin", "quit", "above 85 %", "curl -i"]
        {
            assert!(screen.contains(what), "{what}: {screen}");
        }
    }

    #[test]
    fn a_small_terminal_shows_tiers_and_replicas_first() {
        let screen = shown(Size { columns: 40, rows: 10 }, false);

        let rows = rows(&screen);
        assert!(rows.len() <= 10 && rows.iter().all(|row| row.chars().count() <= 40), "{screen}");
        for what in ["priority ", "trial", "replica 0", "replica 3", "waiting"] {
            assert!(screen.contains(what), "{what}: {screen}");
        }
        for size in [(1, 1), (0, 0), (200, 3)].map(|(columns, rows)| Size { columns, rows }) {
            shown(size, true);
        }
    }

    #[test]
    fn without_colours_there_are_none() {
        let size = Size { columns: 120, rows: 40 };

        for style in [BOLD, RED].map(|style| format!("\x1b[{style}m")) {
            assert!(shown(size, true).contains(&style) && !shown(size, false).contains(&style));
        }
    }

    #[test]
    fn the_gauge_fills_with_saturation_and_marks_where_regular_stops_now() {
        assert_eq!(gauge(0.0, 0.85, 20), "·················┊··");
        assert_eq!(gauge(0.5, 0.85, 20), "██████████·······┊··");
        assert_eq!(gauge(0.0, 0.35, 20), "·······┊············");
        assert_eq!(gauge(7.0, 0.85, 20), "█".repeat(20));
    }

    #[test]
    fn replicas_out_of_service_say_why() {
        let words = |one: &ReplicaSnapshot| {
            let size = Size { columns: 80, rows: 1 };
            frame(vec![replica(one, 0.85, 20)], size, false)
        };

        assert!(words(&ReplicaSnapshot::default()).ends_with("  down"));
        assert!(
            words(&ReplicaSnapshot { drained: true, ..ReplicaSnapshot::default() }).ends_with("  drained")
        );
    }
}
