//! Draws charts as SVG text: rectangles, lines and words in the pixels of a canvas, and panels that map values to them.
//!
//! Only what the pictures of the proofs need. The same calls give the same bytes: coordinates have one decimal, nothing
//! is taken from the machine. Cost: O(what is drawn).

use std::fmt::Write as _;

/// Colours that stay apart on white, also for readers who do not see all of them.
pub mod colour {
    /// Words and axes.
    pub const INK: &str = "#24292f";
    /// Words of less weight.
    pub const MUTED: &str = "#6e7781";
    /// Grid lines.
    pub const GRID: &str = "#e4e7eb";
    /// What is shown first: a limit, our own figures.
    pub const FIRST: &str = "#0b5cad";
    /// What is compared with it: use, the others' figures.
    pub const SECOND: &str = "#9fc3e8";
    /// What went up.
    pub const UP: &str = "#1a7f37";
    /// What went down.
    pub const DOWN: &str = "#bc4c00";
    /// A time that is out of the ordinary.
    pub const SHADE: &str = "#fff1d6";
}

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// A picture under construction, pixels from the upper left corner.
#[derive(Debug, Clone)]
pub struct Canvas {
    width: f64,
    height: f64,
    body: String,
}

impl Canvas {
    /// An empty, white one.
    #[must_use]
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// A filled rectangle.
    pub fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
        let (width, height) = (width.max(0.0), height.max(0.0));
        // Writing into a string cannot fail; so below.
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}"/>"#
        );
    }

    /// A straight line.
    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), stroke: &str, width: f64) {
        let _ = writeln!(
            self.body,
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{stroke}" stroke-width="{width}"/>"#
        );
    }

    /// A line through points.
    pub fn path(&mut self, points: &[(f64, f64)], stroke: &str, width: f64) {
        let points = joined(points);
        let _ = writeln!(
            self.body,
            r#"<polyline points="{points}" fill="none" stroke="{stroke}" stroke-width="{width}" stroke-linejoin="round"/>"#
        );
    }

    /// A filled shape around points.
    pub fn shape(&mut self, points: &[(f64, f64)], fill: &str) {
        let points = joined(points);
        let _ = writeln!(self.body, r#"<polygon points="{points}" fill="{fill}"/>"#);
    }

    /// A line of words; `size` in pixels.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, size: f64, fill: &str, words: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">{words}</text>"#
        );
    }

    /// The whole file.
    #[must_use]
    pub fn finish(self) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             font-family=\"system-ui, 'DejaVu Sans', sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        )
    }
}

fn joined(points: &[(f64, f64)]) -> String {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    points.join(" ")
}

/// A part of a canvas with linear axes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Panel {
    /// Left upper corner, pixels.
    pub at: (f64, f64),
    /// Width and height, pixels.
    pub size: (f64, f64),
    /// Values at the left and at the right edge.
    pub x: (f64, f64),
    /// Values at the lower and at the upper edge.
    pub y: (f64, f64),
}

impl Panel {
    /// Where a point of values lies, pixels.
    #[must_use]
    pub fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let share = |value: f64, (from, to): (f64, f64)| (value - from) / (to - from);
        (self.at.0 + self.size.0 * share(x, self.x), self.at.1 + self.size.1 * (1.0 - share(y, self.y)))
    }

    /// Draws grid lines at these values of the vertical axis, with their labels.
    pub fn grid(&self, canvas: &mut Canvas, ticks: &[(f64, String)]) {
        for (value, label) in ticks {
            let (left, y) = self.place(self.x.0, *value);
            let (right, _) = self.place(self.x.1, *value);
            canvas.line((left, y), (right, y), colour::GRID, 1.0);
            canvas.text((left - 6.0, y + 4.0), Anchor::End, 11.0, colour::MUTED, label);
        }
    }
}

/// About `count` round values from 0 to `top`: multiples of 1, 2 or 5 times a power of ten.
#[must_use]
pub fn ticks(top: f64, count: u32) -> Vec<f64> {
    let rough = top / f64::from(count.max(1));
    let unit = 10.0_f64.powf(rough.max(f64::MIN_POSITIVE).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * unit).find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    (0..=count * 2).map(|number| f64::from(number) * step).take_while(|value| *value <= top).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_where_the_axes_say() {
        let panel = Panel { at: (10.0, 20.0), size: (100.0, 50.0), x: (0.0, 7.0), y: (0.0, 2.0) };
        assert_eq!(panel.place(0.0, 0.0), (10.0, 70.0));
        assert_eq!(panel.place(7.0, 2.0), (110.0, 20.0));
    }

    #[test]
    fn words_cannot_become_markup() {
        let mut canvas = Canvas::new(10.0, 10.0);
        canvas.text((0.0, 0.0), Anchor::Start, 10.0, colour::INK, "<a> & b");
        assert!(canvas.finish().contains("&lt;a&gt; &amp; b"));
    }

    #[test]
    fn ticks_are_round_and_end_below_the_top() {
        assert_eq!(ticks(1.2, 4), [0.0, 0.5, 1.0]);
        assert_eq!(ticks(36_000.0, 4), [0.0, 10_000.0, 20_000.0, 30_000.0]);
    }
}
