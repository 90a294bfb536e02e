//! The runs as pictures: attainment second by second, and by load.

use super::climb::Stage;
use super::judge::Tier;
use super::play::Course;
use super::side::Kind;
use drill::report::svg::{Anchor, Canvas, Panel, colour};

const LEFT: f64 = 64.0;
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 150.0;
const PITCH: f64 = 210.0;
const TOP: f64 = 96.0;

fn colour_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Ours => colour::FIRST,
        Kind::HaProxy => colour::DOWN,
        Kind::Held => colour::UP,
    }
}

fn canvas(title: &str, courses: &[Course], panels: f64) -> Canvas {
    let mut canvas = Canvas::new(LEFT + WIDTH + 24.0, TOP + PITCH * panels);
    canvas.text((LEFT, 30.0), Anchor::Start, 18.0, colour::INK, title);
    for (number, course) in courses.iter().enumerate() {
        let x = LEFT + 140.0 * number as f64;
        canvas.line((x, 52.0), (x + 24.0, 52.0), colour_of(course.kind), 2.5);
        canvas.text((x + 30.0, 56.0), Anchor::Start, 12.0, colour::INK, course.kind.name());
    }
    canvas
}

fn panel(canvas: &mut Canvas, number: f64, title: &str, x: (f64, f64), y: (f64, f64)) -> Panel {
    let panel = Panel { at: (LEFT, TOP + PITCH * number), size: (WIDTH, HEIGHT), x, y };
    canvas.text((LEFT, panel.at.1 - 8.0), Anchor::Start, 13.0, colour::INK, title);
    panel
}

fn percent(canvas: &mut Canvas, panel: &Panel) {
    panel.grid(canvas, &[0.0, 0.25, 0.5, 0.75, 1.0].map(|share| (share, format!("{:.0} %", 100.0 * share))));
}

/// Attainment of both tiers over time, each point over the two seconds around it; `marks` are moments with a name.
pub(super) fn course(title: &str, courses: &[Course], marks: &[(f64, &str)]) -> String {
    let mut canvas = canvas(title, courses, 2.0);
    let end = courses.iter().map(|course| course.requests.length()).fold(1.0, f64::max);
    let tiers = [
        (Tier::Priority, "attainment of priority requests by when they were due, seconds"),
        (Tier::Regular, "of regular requests"),
    ];
    for (number, (tier, title)) in tiers.into_iter().enumerate() {
        let panel = panel(&mut canvas, number as f64, title, (0.0, end), (0.0, 1.0));
        percent(&mut canvas, &panel);
        for (at, name) in marks {
            let (x, y) = panel.place(*at, 0.0);
            canvas.line((x, y), (x, panel.at.1), colour::MUTED, 1.0);
            canvas.text((x + 4.0, y + 30.0), Anchor::Start, 11.0, colour::MUTED, name);
        }
        let mut second = 0.0;
        while second <= end {
            let (x, y) = panel.place(second, 0.0);
            canvas.text((x, y + 16.0), Anchor::Middle, 11.0, colour::MUTED, &format!("{second:.0}"));
            second += 10.0;
        }
        for course in courses {
            let at = |half: u32| f64::from(half) / 2.0;
            let point = |half: u32| {
                let share = course.requests.within(tier, at(half) - 1.0, at(half) + 1.0).attainment();
                panel.place(at(half), share)
            };
            let points: Vec<(f64, f64)> = (2..(2.0 * end) as u32).map(point).collect();
            canvas.path(&points, colour_of(course.kind), 1.8);
        }
    }
    canvas.finish()
}

/// Attainment of both tiers and goodput, by load.
pub(super) fn climb(courses: &[Course], windows: &[(Stage, f64, f64)]) -> String {
    let mut canvas = canvas("In real time, by load in multiples of the knee", courses, 3.0);
    let goodput = |course: &Course, from: f64, to: f64| {
        course.requests.within(Tier::Both, from, to).attained as f64 / (to - from)
    };
    let each = || courses.iter().flat_map(|course| windows.iter().map(move |window| (course, window)));
    let most = each().map(|(course, (_, from, to))| goodput(course, *from, *to)).fold(1.0, f64::max);
    let panels = [
        ("attainment of priority requests", 1.0),
        ("of regular requests", 1.0),
        ("goodput, requests per second", 1.1 * most),
    ];
    for (number, (title, top)) in panels.into_iter().enumerate() {
        let panel = panel(&mut canvas, number as f64, title, (-0.5, windows.len() as f64 - 0.5), (0.0, top));
        if number < 2 {
            percent(&mut canvas, &panel);
        } else {
            let labels =
                [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| (share * top, format!("{:.0}", share * top)));
            panel.grid(&mut canvas, &labels);
        }
        for (place, (stage, ..)) in windows.iter().enumerate() {
            let (x, y) = panel.place(place as f64, 0.0);
            canvas.text((x, y + 16.0), Anchor::Middle, 11.0, colour::MUTED, &stage.name());
        }
        for (course, (place, (_, from, to))) in
            courses.iter().flat_map(|course| windows.iter().enumerate().map(move |window| (course, window)))
        {
            let value = match number {
                0 => course.requests.within(Tier::Priority, *from, *to).attainment(),
                1 => course.requests.within(Tier::Regular, *from, *to).attainment(),
                _ => goodput(course, *from, *to),
            };
            bar(&mut canvas, &panel, courses, course, place as f64, value);
        }
    }
    canvas.finish()
}

/// One side's bar at a place.
fn bar(canvas: &mut Canvas, panel: &Panel, courses: &[Course], course: &Course, place: f64, value: f64) {
    let count = courses.len() as f64;
    let index = courses.iter().position(|other| other.kind == course.kind).unwrap_or(0) as f64;
    let width = 0.7 / count;
    let left = place - 0.35 + width * index;
    let (x0, y0) = panel.place(left, value);
    let (x1, y1) = panel.place(left + width * 0.9, 0.0);
    canvas.rect((x0, y0), (x1 - x0, y1 - y0), colour_of(course.kind));
}
