//! Charts as inline SVG. Colours are classes, so that the page's style decides them, by day, by night and in print.
//!
//! Each chart is drawn twice, wide and narrow: text that is scaled down with a picture cannot be read on a phone. The
//! style shows the one that fits. The same figures give the same bytes.

use std::fmt::Write as _;

use super::figures::Event;
use super::svg::ticks;

/// How wide a chart is drawn, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Wide,
    Narrow,
}

/// One line or one layer.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// In the legend.
    pub(super) name: String,
    /// Its colour: a class of the style.
    pub(super) class: &'static str,
    /// Its values, one per bin.
    pub(super) values: Vec<f64>,
}

/// A chart over time.
#[derive(Debug)]
pub(super) struct OverTime<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    pub(super) step_s: f64,
    pub(super) series: Vec<Series>,
    pub(super) events: &'a [Event],
    /// Layers on each other, or lines.
    pub(super) stacked: bool,
    /// The top of the axis, where it is given.
    pub(super) top: Option<f64>,
    /// A line across, with its name.
    pub(super) mark: Option<(f64, &'a str)>,
}

struct Frame {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    fn new(width: Width) -> Self {
        let (width, height) = if width == Width::Wide { (860.0, 230.0) } else { (380.0, 220.0) };
        Self { width, height, left: 46.0, right: 10.0, top: 18.0, bottom: 24.0 }
    }

    fn x(&self, share: f64) -> f64 {
        self.left + (self.width - self.left - self.right) * share
    }

    fn y(&self, share: f64) -> f64 {
        self.height - self.bottom - (self.height - self.top - self.bottom) * share
    }

    fn open(&self, svg: &mut String, title: &str, class: &str) {
        let (width, height) = (self.width, self.height);
        // Writing into a string cannot fail; so below.
        let _ = write!(
            svg,
            "<svg class=\"chart {class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
            escape(title)
        );
    }

    /// Horizontal lines with their values.
    fn grid(&self, svg: &mut String, top: f64, unit: &str) {
        for value in ticks(top, 4) {
            let y = self.y(value / top);
            let (left, right) = (self.x(0.0), self.x(1.0));
            let _ = write!(svg, "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
            let _ = write!(
                svg,
                "<text class=\"axis end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                left - 5.0,
                y + 3.5,
                number(value)
            );
        }
        let _ = write!(svg, "<text class=\"axis\" x=\"2\" y=\"10\">{}</text>", escape(unit));
    }

    fn time_axis(&self, svg: &mut String, seconds: f64, width: Width) {
        let count = if width == Width::Wide { 8 } else { 4 };
        for value in time_ticks(seconds, count) {
            let x = self.x(value / seconds);
            let anchor = if value + seconds * 0.03 > seconds { "end" } else { "mid" };
            let y = self.height - 8.0;
            let _ = write!(
                svg,
                "<text class=\"axis {anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
                clock(value)
            );
        }
    }

    fn events(&self, svg: &mut String, events: &[Event], seconds: f64) {
        for (nth, event) in events.iter().enumerate().filter(|(_, event)| event.at_s <= seconds) {
            let x = self.x(event.at_s / seconds);
            let (low, high) = (self.y(0.0), self.y(1.0));
            if let Some(until) = event.until_s {
                let width = self.x((until / seconds).min(1.0)) - x;
                let _ = write!(
                    svg,
                    "<rect class=\"span\" x=\"{x:.1}\" y=\"{high:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
                    low - high
                );
            }
            let _ = write!(svg, "<path class=\"event\" d=\"M{x:.1} {low:.1}V{high:.1}\"/>");
            let _ = write!(
                svg,
                "<text class=\"event mid\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                high - 4.0,
                nth + 1
            );
        }
    }
}

/// Round times: multiples of what people count in.
fn time_ticks(seconds: f64, count: usize) -> Vec<f64> {
    const STEPS: [f64; 14] =
        [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0];
    let step =
        STEPS.into_iter().find(|step| seconds / step <= count as f64).unwrap_or(seconds / count as f64);
    (0..=count).map(|nth| nth as f64 * step).take_while(|value| *value <= seconds).collect()
}

/// `45 s`, `2:30`, `1:00:00`.
pub(super) fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest} s"),
        (0, _) => format!("{minutes}:{rest:02}"),
        _ => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}

/// A number as short as it can be understood.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{}M", trimmed(value / 1e6, 2)),
        size if size >= 1e4 => format!("{}k", trimmed(value / 1e3, 1)),
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => trimmed(value, 1),
        _ => trimmed(value, 3),
    }
}

fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl OverTime<'_> {
    /// The chart with its heading and legend, ready for the page. `id` is unique in the page.
    pub(super) fn html(&self, id: &str) -> String {
        let mut html = String::new();
        let _ = write!(html, "<figure id=\"{id}\"><figcaption>{}</figcaption>", escape(self.title));
        let hover = serde_json::json!({
            "step": self.step_s,
            "unit": self.unit,
            "series": self.series.iter().map(|series| {
                let values: Vec<f64> = series.values.iter().map(|value| (value * 100.0).round() / 100.0).collect();
                serde_json::json!({ "name": series.name, "class": series.class, "values": values })
            }).collect::<Vec<_>>(),
        });
        let _ = write!(html, "<div class=\"plot\" data-hover=\"{}\">", escape(&hover.to_string()));
        html.push_str(&self.svg(Width::Wide));
        html.push_str(&self.svg(Width::Narrow));
        html.push_str("</div>");
        html.push_str(&legend(self.series.iter().map(|series| (series.name.as_str(), series.class))));
        html.push_str("</figure>");
        html
    }

    fn svg(&self, width: Width) -> String {
        let frame = Frame::new(width);
        let mut svg = String::new();
        frame.open(&mut svg, self.title, if width == Width::Wide { "wide" } else { "narrow" });
        let bins = self.series.first().map_or(0, |series| series.values.len());
        let seconds = (bins as f64 * self.step_s).max(1.0);
        let top = self.top.unwrap_or_else(|| self.highest(bins) * 1.05).max(1e-9);
        frame.grid(&mut svg, top, self.unit);
        frame.time_axis(&mut svg, seconds, width);
        if self.stacked {
            self.layers(&mut svg, &frame, bins, top)
        } else {
            self.lines(&mut svg, &frame, bins, top)
        }
        if let Some((value, name)) = self.mark.filter(|(value, _)| *value <= top) {
            let (y, left, right) = (frame.y(value / top), frame.x(0.0), frame.x(1.0));
            let _ = write!(svg, "<path class=\"bound\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
            let _ = write!(
                svg,
                "<text class=\"bound end\" x=\"{right:.1}\" y=\"{:.1}\">{}</text>",
                y - 4.0,
                escape(name)
            );
        }
        frame.events(&mut svg, self.events, seconds);
        svg.push_str("<path class=\"cursor\" d=\"\"/></svg>");
        svg
    }

    fn highest(&self, bins: usize) -> f64 {
        let at = |bin: usize| {
            let values = self.series.iter().map(|series| series.values.get(bin).copied().unwrap_or(0.0));
            if self.stacked { values.sum() } else { values.fold(0.0, f64::max) }
        };
        let highest = (0..bins).map(at).fold(0.0, f64::max);
        if highest > 0.0 { highest } else { 1.0 }
    }

    /// Steps, one bin after the other, each series on those before.
    fn layers(&self, svg: &mut String, frame: &Frame, bins: usize, top: f64) {
        let mut floor = vec![0.0; bins];
        for series in &self.series {
            let (mut upper, mut lower) = (String::new(), String::new());
            for bin in 0..bins {
                let base: f64 = floor.get(bin).copied().unwrap_or(0.0);
                let ceiling = base + series.values.get(bin).copied().unwrap_or(0.0);
                let (left, right) =
                    (frame.x(bin as f64 / bins as f64), frame.x((bin + 1) as f64 / bins as f64));
                let (y, y_base) = (frame.y((ceiling / top).min(1.0)), frame.y((base / top).min(1.0)));
                let _ = write!(upper, "L{left:.1} {y:.1}L{right:.1} {y:.1}");
                lower.insert_str(0, &format!("L{right:.1} {y_base:.1}L{left:.1} {y_base:.1}"));
                if let Some(floor) = floor.get_mut(bin) {
                    *floor = ceiling;
                }
            }
            if series.values.iter().any(|value| *value > 0.0) {
                let outline = format!("{upper}{lower}");
                let path = outline.strip_prefix('L').unwrap_or(&outline);
                let _ = write!(svg, "<path class=\"area {}\" d=\"M{path}Z\"/>", series.class);
            }
        }
    }

    fn lines(&self, svg: &mut String, frame: &Frame, bins: usize, top: f64) {
        for series in &self.series {
            let mut path = String::new();
            for (bin, value) in series.values.iter().enumerate() {
                let x = frame.x((bin as f64 + 0.5) / bins.max(1) as f64);
                let y = frame.y((value / top).clamp(0.0, 1.0));
                let _ = write!(path, "{}{x:.1} {y:.1}", if bin == 0 { 'M' } else { 'L' });
            }
            let _ = write!(svg, "<path class=\"line {}\" d=\"{path}\"/>", series.class);
        }
    }
}

fn legend<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    for (name, class) in entries {
        let _ = write!(html, "<li><i class=\"{class}\"></i>{}</li>", escape(name));
    }
    html.push_str("</ul>");
    html
}

/// A line of it: name, colour, points.
type CdfLine<'a> = (&'a str, &'static str, &'a [(f64, f64)]);

/// A distribution in a chart: milliseconds on a logarithmic axis, shares from 0 to 1.
#[derive(Debug)]
pub(super) struct Cdf<'a> {
    pub(super) title: &'a str,
    /// Name, colour, points.
    pub(super) lines: Vec<CdfLine<'a>>,
    /// The service level, ms.
    pub(super) bound_ms: f64,
}

impl Cdf<'_> {
    pub(super) fn html(&self) -> String {
        let mut html = format!(
            "<figure class=\"half\"><figcaption>{}</figcaption><div class=\"plot\">",
            escape(self.title)
        );
        html.push_str(&self.svg());
        html.push_str("</div>");
        html.push_str(&legend(self.lines.iter().map(|(name, class, _)| (*name, *class))));
        html.push_str("</figure>");
        html
    }

    fn svg(&self) -> String {
        let frame = Frame::new(Width::Narrow);
        let mut svg = String::new();
        frame.open(&mut svg, self.title, "both");
        let all = || self.lines.iter().flat_map(|(_, _, points)| points.iter().map(|(ms, _)| ms.max(1.0)));
        let low = all().fold(self.bound_ms, f64::min).max(1.0).log10().floor();
        let high = all().fold(self.bound_ms, f64::max).log10().ceil().max(low + 1.0);
        let x = |ms: f64| frame.x((ms.max(1.0).log10() - low) / (high - low));
        for (share, label) in [(0.0, "0"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %")] {
            let (y, left, right) = (frame.y(share), frame.x(0.0), frame.x(1.0));
            let _ = write!(svg, "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
            let _ = write!(
                svg,
                "<text class=\"axis end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                left - 5.0,
                y + 3.5
            );
        }
        for power in low as i32..=high as i32 {
            let at = x(10.0_f64.powi(power));
            let anchor = if power == high as i32 { "end" } else { "mid" };
            let _ =
                write!(svg, "<path class=\"grid\" d=\"M{at:.1} {:.1}V{:.1}\"/>", frame.y(0.0), frame.y(1.0));
            let label = milliseconds(10.0_f64.powi(power));
            let _ = write!(
                svg,
                "<text class=\"axis {anchor}\" x=\"{at:.1}\" y=\"{:.1}\">{label}</text>",
                frame.height - 8.0
            );
        }
        for (_, class, points) in &self.lines {
            let mut path = String::new();
            for (nth, (ms, share)) in points.iter().enumerate() {
                let _ =
                    write!(path, "{}{:.1} {:.1}", if nth == 0 { 'M' } else { 'L' }, x(*ms), frame.y(*share));
            }
            let _ = write!(svg, "<path class=\"line {class}\" d=\"{path}\"/>");
        }
        let at = x(self.bound_ms);
        let _ = write!(svg, "<path class=\"bound\" d=\"M{at:.1} {:.1}V{:.1}\"/>", frame.y(0.0), frame.y(1.0));
        let _ = write!(
            svg,
            "<text class=\"bound mid\" x=\"{at:.1}\" y=\"10\">SLO {}</text>",
            milliseconds(self.bound_ms)
        );
        svg.push_str("</svg>");
        svg
    }
}

/// `250 ms`, `2 s`.
pub(super) fn milliseconds(ms: f64) -> String {
    if ms >= 1000.0 { format!("{} s", trimmed(ms / 1e3, 2)) } else { format!("{} ms", number(ms)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(stacked: bool) -> OverTime<'static> {
        let series = |name: &str, class, values: &[f64]| Series {
            name: name.to_owned(),
            class,
            values: values.to_vec(),
        };
        OverTime {
            title: "a <b>",
            unit: "req/s",
            step_s: 10.0,
            series: vec![series("one", "met", &[1.0, 2.0]), series("two", "shed", &[3.0, 0.0])],
            events: &[],
            stacked,
            top: None,
            mark: None,
        }
    }

    #[test]
    fn layers_stand_on_each_other_and_lines_do_not() {
        assert!((chart(true).highest(2) - 4.0).abs() < 1e-9);
        assert!((chart(false).highest(2) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn words_cannot_become_markup() {
        let html = chart(true).html("x");
        assert!(html.contains("a &lt;b&gt;") && !html.contains("<b>"));
        assert!(html.contains("data-hover=\"{&quot;"), "values are data, not script");
    }

    #[test]
    fn numbers_and_times_are_short() {
        let numbers = [0.0, 0.25, 3.5, 250.0, 36_000.0, 2_160_000.0].map(number);
        assert_eq!(numbers, ["0", "0.25", "3.5", "250", "36k", "2.16M"]);
        assert_eq!([45.0, 150.0, 3600.0].map(clock), ["45 s", "2:30", "1:00:00"]);
        assert_eq!([80.0, 2000.0].map(milliseconds), ["80 ms", "2 s"]);
    }

    #[test]
    fn time_is_divided_as_people_do() {
        assert_eq!(time_ticks(240.0, 8), [0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0, 240.0]);
    }
}
