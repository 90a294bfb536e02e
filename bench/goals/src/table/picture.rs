//! The table as pictures: what is reached against what is offered, and what an incident does.

use super::{Row, SPAN_S, Table, Timeline, contenders};
use drill::report::svg::{Anchor, Canvas, Panel, colour};

const LEFT: f64 = 64.0;
const TOP: f64 = 130.0;

/// Title, upper end of the axis, and what is drawn.
type Kind = (&'static str, f64, fn(&Row) -> f64);

/// The colour and the width of a contender's line.
fn stroke(contender: &str) -> (&'static str, f64) {
    match contender {
        "shipped" => (colour::FIRST, 3.0),
        "no control" => ("#57606a", 1.6),
        "queue or memory" => ("#d4a72c", 1.6),
        "queue or memory, 70 seqs" => ("#9a6700", 1.6),
        "fixed 70, 60 s" => ("#bc4c00", 1.6),
        "fixed 70, 1.7 s" => ("#8250df", 1.6),
        _ => ("#bf3989", 1.6),
    }
}

fn legend(canvas: &mut Canvas, y: f64) {
    for (number, contender) in contenders().iter().enumerate() {
        let (x, y) = (LEFT + 250.0 * (number % 4) as f64, y + 20.0 * (number / 4) as f64);
        let (ink, width) = stroke(contender.name);
        canvas.line((x, y - 4.0), (x + 22.0, y - 4.0), ink, width);
        canvas.text((x + 28.0, y), Anchor::Start, 12.0, colour::INK, contender.name);
    }
}

/// Labels below a panel.
fn across(canvas: &mut Canvas, panel: &Panel, ticks: &[(f64, String)], title: &str) {
    for (value, label) in ticks {
        let (x, y) = panel.place(*value, panel.y.0);
        canvas.line((x, y), (x, y + 4.0), colour::MUTED, 1.0);
        canvas.text((x, y + 17.0), Anchor::Middle, 11.0, colour::MUTED, label);
    }
    let (x, y) = panel.place(f64::midpoint(panel.x.0, panel.x.1), panel.y.0);
    canvas.text((x, y + 34.0), Anchor::Middle, 11.0, colour::MUTED, title);
}

fn percent(values: &[f64]) -> Vec<(f64, String)> {
    values.iter().map(|value| (*value, format!("{:.0} %", 100.0 * value))).collect()
}

/// Attainment of both tiers and goodput against offered load.
pub(super) fn overload(table: &Table) -> String {
    let (width, height) = (320.0, 260.0);
    let mut canvas = Canvas::new(LEFT + 3.0 * (width + 64.0), TOP + height + 56.0);
    canvas.text(
        (LEFT, 30.0),
        Anchor::Start,
        18.0,
        colour::INK,
        "Overload: conversations on four 8B-A100 replicas, 30 % priority",
    );
    let note = "within the service level: first token in 2 s, 100 ms per further one; a refusal is a miss; load 1× is what \
                the fleet serves without control";
    canvas.text((LEFT, 49.0), Anchor::Start, 12.0, colour::MUTED, note);
    legend(&mut canvas, 74.0);
    let most = table.even().map(|row| row.load).fold(1.0, f64::max);
    let least = table.even().map(|row| row.load).fold(most, f64::min).min(0.99 * most);
    let kinds: [Kind; 3] = [
        ("priority within the service level", 1.02, |row| row.priority),
        ("regular within the service level", 1.02, |row| row.regular),
        ("goodput, times load 1", 1.5, |row| row.goodput),
    ];
    for (number, (title, top, of)) in kinds.into_iter().enumerate() {
        let at = (LEFT + number as f64 * (width + 64.0), TOP);
        let panel = Panel { at, size: (width, height), x: (least, most), y: (0.0, top) };
        let ticks = if top > 1.2 {
            [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5].iter().map(|v| (*v, format!("{v:.2}"))).collect()
        } else {
            percent(&[0.0, 0.25, 0.5, 0.75, 1.0])
        };
        panel.grid(&mut canvas, &ticks);
        canvas.text((at.0, TOP - 6.0), Anchor::Start, 12.0, colour::INK, title);
        let loads = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0].into_iter().filter(|load| (least..=most).contains(load));
        let loads: Vec<(f64, String)> = loads.map(|load| (load, format!("{load}×"))).collect();
        across(&mut canvas, &panel, &loads, "offered load");
        for contender in contenders().iter().rev() {
            let rows = table.even().filter(|row| row.contender == contender.name);
            let points: Vec<(f64, f64)> = rows.map(|row| panel.place(row.load, of(row))).collect();
            let (ink, width) = stroke(contender.name);
            canvas.path(&points, ink, width);
        }
    }
    canvas.finish()
}

/// A row of panels for each contender, one for each incident.
pub(super) fn timeline(table: &Table) -> String {
    let (width, height, pitch) = (480.0, 84.0, 124.0);
    let rows = contenders().len() as f64;
    let mut canvas = Canvas::new(LEFT + 2.0 * (width + 72.0), TOP - 32.0 + rows * pitch + 30.0);
    let title = "What happens when: within the service level, by the time of arrival (five seconds each)";
    canvas.text((LEFT, 30.0), Anchor::Start, 18.0, colour::INK, title);
    canvas.line((LEFT, 52.0), (LEFT + 22.0, 52.0), colour::FIRST, 2.5);
    canvas.text((LEFT + 28.0, 56.0), Anchor::Start, 12.0, colour::INK, "priority");
    canvas.line((LEFT + 110.0, 52.0), (LEFT + 132.0, 52.0), colour::DOWN, 1.6);
    canvas.text((LEFT + 138.0, 56.0), Anchor::Start, 12.0, colour::INK, "regular");
    canvas.rect((LEFT + 220.0, 46.0), (22.0, 11.0), colour::SHADE);
    canvas.text((LEFT + 248.0, 56.0), Anchor::Start, 12.0, colour::INK, "overload");
    let note =
        "what ran on the lost half when it was lost is missed, so its last seconds before count against it";
    canvas.text((LEFT + 340.0, 56.0), Anchor::Start, 12.0, colour::MUTED, note);
    let whats = [0, 1].map(|column| table.timelines.get(column).map_or("", |timeline| timeline.what));
    for (column, what) in whats.into_iter().enumerate() {
        let x = LEFT + column as f64 * (width + 72.0);
        canvas.text((x, 82.0), Anchor::Start, 13.0, colour::INK, what);
        for (number, contender) in contenders().iter().enumerate() {
            let told = |other: &&Timeline| other.contender == contender.name && other.what == what;
            let Some(timeline) = table.timelines.iter().find(told) else { continue };
            let at = (x, TOP - 20.0 + number as f64 * pitch);
            story(&mut canvas, timeline, at, (width, height), number + 1 == contenders().len());
        }
    }
    canvas.finish()
}

fn story(canvas: &mut Canvas, timeline: &Timeline, at: (f64, f64), size: (f64, f64), last: bool) {
    let end = (timeline.spans.len() * SPAN_S) as f64;
    let panel = Panel { at, size, x: (0.0, end), y: (0.0, 1.02) };
    let from = panel.place(timeline.at_s as f64, 1.02);
    canvas.rect(from, (at.0 + size.0 - from.0, size.1), colour::SHADE);
    panel.grid(canvas, &percent(&[0.0, 0.5, 1.0]));
    canvas.text((at.0 + 4.0, at.1 - 5.0), Anchor::Start, 11.0, colour::MUTED, timeline.contender);
    for (of, ink, width) in [(2, colour::DOWN, 1.6), (0, colour::FIRST, 2.5)] {
        let share = |span: &[u32; 4]| {
            let [offered, met] = [of, of + 1].map(|n| span.get(n).copied().unwrap_or_default());
            (offered > 0).then(|| f64::from(met) / f64::from(offered))
        };
        let middle = |number: usize| (number * SPAN_S) as f64 + SPAN_S as f64 / 2.0;
        let points = timeline.spans.iter().enumerate();
        let points: Vec<(f64, f64)> =
            points.filter_map(|(number, span)| Some(panel.place(middle(number), share(span)?))).collect();
        canvas.path(&points, ink, width);
    }
    if last {
        let at_s = timeline.at_s as f64;
        let seconds = [-40.0, -20.0, 0.0, 20.0, 40.0, 60.0, 80.0, 100.0];
        let ticks: Vec<(f64, String)> = seconds
            .iter()
            .filter(|second| (0.0..=end).contains(&(**second + at_s)))
            .map(|second| (second + at_s, format!("{second:.0}")))
            .collect();
        across(canvas, &panel, &ticks, "seconds since the incident");
    }
}
