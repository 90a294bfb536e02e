//! The week drawn: one panel per meter, one for the account that was forgotten, an arrow for each change.

use std::time::Duration;

use limits::{ChangeReason, LimitChange, Meter};

use super::story::{Account, MINUTES, MOVED, SHORT, STEP, Week};
use drill::report::svg::{Anchor, Canvas, Panel, colour, ticks};

const LEFT: f64 = 76.0;
const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 150.0;
const PITCH: f64 = 200.0;
const TOP: f64 = 116.0;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// Growths that follow each other within this share one label.
const RUN: Duration = Duration::from_secs(2 * 3600);

/// The whole picture.
pub(super) fn draw(week: &Week) -> String {
    let mut canvas = Canvas::new(LEFT + WIDTH + 24.0, TOP + 4.0 * PITCH + 8.0);
    let title = "Seven days of adaptive limits (spending tier 1, medium model)";
    canvas.text((LEFT, 32.0), Anchor::Start, 18.0, colour::INK, title);
    legend(&mut canvas);
    let panels = [
        (&week.product, Meter::Prompt, "prompt tokens per minute"),
        (&week.product, Meter::UncachedPrompt, "uncached prompt tokens per minute"),
        (&week.product, Meter::Generated, "generated tokens per minute"),
        (
            &week.trial,
            Meter::Generated,
            "generated tokens per minute, of an account that is forgotten on Monday",
        ),
    ];
    for (number, (account, meter, title)) in panels.into_iter().enumerate() {
        let top = TOP + PITCH * number as f64;
        panel(&mut canvas, account, meter, title, top, std::ptr::eq(account, &raw const week.product));
    }
    canvas.finish()
}

fn legend(canvas: &mut Canvas) {
    let y = 62.0;
    let mut word = |x: f64, text: &str| canvas.text((x, y), Anchor::Start, 12.0, colour::INK, text);
    word(LEFT + 26.0, "limit");
    word(LEFT + 106.0, "busiest minute of each quarter of an hour");
    word(LEFT + 394.0, "grown by a quarter");
    word(LEFT + 534.0, "shrunk by a fifth");
    word(LEFT + 664.0, "back at the start");
    word(LEFT + 806.0, "the model is short: no growth");
    canvas.line((LEFT, y - 4.0), (LEFT + 20.0, y - 4.0), colour::FIRST, 2.0);
    canvas.rect((LEFT + 80.0, y - 10.0), (20.0, 11.0), colour::SECOND);
    arrow(canvas, (LEFT + 386.0, y - 1.0), ChangeReason::Grown);
    arrow(canvas, (LEFT + 526.0, y - 7.0), ChangeReason::Shrunk);
    arrow(canvas, (LEFT + 656.0, y - 4.0), ChangeReason::Idle);
    canvas.rect((LEFT + 780.0, y - 10.0), (20.0, 11.0), colour::SHADE);
}

fn panel(canvas: &mut Canvas, account: &Account, meter: Meter, title: &str, top: f64, told: bool) {
    let most = |values: &[limits::PerMeter<u64>]| values.iter().map(|value| *value.get(meter)).max();
    let most = most(&account.limits).max(most(&account.used)).unwrap_or(1) as f64;
    let panel =
        Panel { at: (LEFT, top), size: (WIDTH, HEIGHT), x: (0.0, MINUTES as f64), y: (0.0, most * 1.25) };
    canvas.text((LEFT, top - 10.0), Anchor::Start, 12.0, colour::INK, title);
    if told {
        let (from, _) = panel.place(SHORT.start as f64, 0.0);
        let (to, _) = panel.place(SHORT.end as f64, 0.0);
        canvas.rect((from, top), (to - from, HEIGHT), colour::SHADE);
    }
    let labels: Vec<(f64, String)> = ticks(panel.y.1, 4).into_iter().map(|at| (at, short(at))).collect();
    panel.grid(canvas, &labels);
    days(canvas, &panel);
    use_of(canvas, &panel, account, meter);
    limit_of(canvas, &panel, account, meter);
    if told {
        let (x, y) = panel.place(MOVED as f64, panel.y.1);
        canvas.text((x + 4.0, y + 12.0), Anchor::Start, 11.0, colour::MUTED, "the load moves elsewhere");
    }
    changes(canvas, &panel, account, meter);
}

fn days(canvas: &mut Canvas, panel: &Panel) {
    for (number, name) in DAYS.iter().enumerate() {
        let (x, bottom) = panel.place(number as f64 * 1440.0, 0.0);
        canvas.line((x, panel.at.1), (x, bottom), colour::GRID, 1.0);
        canvas.text((x + WIDTH / 14.0, bottom + 16.0), Anchor::Middle, 11.0, colour::MUTED, name);
    }
}

fn use_of(canvas: &mut Canvas, panel: &Panel, account: &Account, meter: Meter) {
    let mut shape = vec![panel.place(0.0, 0.0)];
    for (number, used) in account.used.iter().enumerate() {
        let (from, to) = (number as f64 * STEP as f64, (number + 1) as f64 * STEP as f64);
        shape.push(panel.place(from, *used.get(meter) as f64));
        shape.push(panel.place(to, *used.get(meter) as f64));
    }
    shape.push(panel.place(MINUTES as f64, 0.0));
    canvas.shape(&shape, colour::SECOND);
}

/// The limit as steps, exactly where it changed.
fn limit_of(canvas: &mut Canvas, panel: &Panel, account: &Account, meter: Meter) {
    let mut limit = account.config.bounds.get(meter).start as f64;
    let mut line = vec![panel.place(0.0, limit)];
    for change in of(account, meter) {
        line.push(panel.place(minute(change), limit));
        limit = change.to as f64;
        line.push(panel.place(minute(change), limit));
    }
    line.push(panel.place(MINUTES as f64, limit));
    canvas.path(&line, colour::FIRST, 2.0);
}

/// Arrows at each change, words at the last of a run.
fn changes(canvas: &mut Canvas, panel: &Panel, account: &Account, meter: Meter) {
    let all: Vec<&LimitChange> = of(account, meter).collect();
    let mut run = 0;
    for (number, change) in all.iter().enumerate() {
        let (x, y) = panel.place(minute(change), change.to as f64);
        arrow(canvas, (x, y - 7.0), change.reason);
        run += 1;
        let goes_on =
            |next: &&LimitChange| next.reason == change.reason && next.at.saturating_sub(change.at) <= RUN;
        if all.get(number + 1).is_some_and(goes_on) {
            continue;
        }
        let words = match change.reason {
            ChangeReason::Grown if run > 1 => format!("{run} × to {}", short(change.to as f64)),
            _ => format!("to {}", short(change.to as f64)),
        };
        let fill = fill_of(change.reason);
        // At the right edge there is room only on the other side.
        let (at, anchor) = if x > LEFT + WIDTH - 60.0 {
            ((x - 7.0, y + 8.0), Anchor::End)
        } else {
            ((x + 7.0, y - 8.0), Anchor::Start)
        };
        canvas.text(at, anchor, 11.0, fill, &words);
        run = 0;
    }
}

fn fill_of(reason: ChangeReason) -> &'static str {
    match reason {
        ChangeReason::Grown => colour::UP,
        ChangeReason::Shrunk => colour::DOWN,
        ChangeReason::Idle | ChangeReason::Reconfigured => colour::INK,
    }
}

/// Up, down, or a square for a return to the start.
fn arrow(canvas: &mut Canvas, (x, y): (f64, f64), reason: ChangeReason) {
    let fill = fill_of(reason);
    match reason {
        ChangeReason::Grown => canvas.shape(&[(x - 4.0, y), (x + 4.0, y), (x, y - 7.0)], fill),
        ChangeReason::Shrunk => canvas.shape(&[(x - 4.0, y), (x + 4.0, y), (x, y + 7.0)], fill),
        ChangeReason::Idle | ChangeReason::Reconfigured => {
            canvas.rect((x - 4.0, y - 4.0), (8.0, 8.0), fill);
        }
    }
}

fn of(account: &Account, meter: Meter) -> impl Iterator<Item = &LimitChange> {
    account.changes.iter().filter(move |change| change.meter == meter)
}

fn minute(change: &LimitChange) -> f64 {
    change.at.as_secs_f64() / 60.0
}

/// 36k, 4.5M.
fn short(tokens: f64) -> String {
    let trimmed = |value: f64, unit: &str| {
        let text = format!("{value:.1}");
        format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match tokens {
        tokens if tokens >= 1e6 => trimmed(tokens / 1e6, "M"),
        tokens if tokens >= 1e3 => trimmed(tokens / 1e3, "k"),
        tokens => trimmed(tokens, ""),
    }
}
