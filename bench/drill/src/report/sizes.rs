//! How many replicas for which attainment, as a page of the same kind as a drill's report.

use std::fmt::Write as _;

use super::chart::{escape, number};
use super::page::{TABLE_END, closing, day, opening, table};
use crate::judge::percent;
use crate::sizing::{Answer, Row, Sizing, Whose};

/// Writes the page.
#[must_use]
pub fn sizes(title: &str, words: &str, sizing: &Sizing, scenario: &str, at: &str) -> String {
    let mut html = opening(&format!("How many replicas: {title}"), "Tidegate capacity plan");
    // Writing into a string cannot fail.
    let _ = write!(html, "<p class=\"shows\">{}</p><p class=\"muted\">{}</p>", escape(words), day(at));
    html.push_str("<h2>Conclusion</h2><div class=\"words\">");
    for said in conclusion(sizing) {
        let _ = write!(html, "<p>{}</p>", escape(&said));
    }
    html.push_str("</div><div class=\"tiles\">");
    for answer in &sizing.answers {
        let _ =
            write!(html, "<div class=\"tile\"><b>{}</b><span>{}</span></div>", found(answer), goal(answer));
    }
    html.push_str("</div>");
    html.push_str(&chart(&sizing.rows));
    html.push_str("<h2>Sizes that were played</h2>");
    let heads = ["Replicas", "priority", "regular", "all", "goodput", "p99 first token"];
    html.push_str(&table("Sizes that were played", &heads));
    for row in &sizing.rows {
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}/s</td><td>{:.0} ms</td></tr>",
            row.replicas,
            percent(row.priority),
            percent(row.regular),
            percent(row.all),
            number(row.goodput_per_s),
            row.ttft_p99_ms
        );
    }
    let _ = write!(
        html,
        "{TABLE_END}<h2>What was played</h2><p>In virtual time: the shipped policies before simulated engines.</p>\
         <pre tabindex=\"0\" role=\"region\" aria-label=\"The scenario\">{}</pre>",
        escape(scenario)
    );
    let words = "Attainment is over offered requests: whoever was refused was not served.";
    html.push_str(&closing(words, &serde_json::to_string(sizing).unwrap_or_default()));
    html
}

/// What was found, and how, in sentences.
#[must_use]
pub fn conclusion(sizing: &Sizing) -> Vec<String> {
    let answers: Vec<String> = sizing
        .answers
        .iter()
        .map(|answer| match answer.replicas {
            Some(1) => format!("1 replica suffices {}", goal(answer)),
            Some(replicas) => format!("{replicas} replicas suffice {}", goal(answer)),
            None => format!("no number of replicas that was tried suffices {}", goal(answer)),
        })
        .collect();
    let sizes: Vec<String> = sizing.rows.iter().map(|row| row.replicas.to_string()).collect();
    let mut first = answers.join("; ");
    if let Some(letter) = first.get_mut(..1) {
        letter.make_ascii_uppercase();
    }
    let how = format!(
        "Found by playing the same traffic in virtual time, on simulated engines, with each of these numbers of replicas: {}.",
        sizes.join(", ")
    );
    if sizing.rows.is_empty() { Vec::new() } else { vec![format!("{first}."), how] }
}

/// `5 replicas`.
#[must_use]
pub fn found(answer: &Answer) -> String {
    match answer.replicas {
        Some(1) => "1 replica".to_owned(),
        Some(replicas) => format!("{replicas} replicas"),
        None => "not reached".to_owned(),
    }
}

/// `for 99 % of all`.
#[must_use]
pub fn goal(answer: &Answer) -> String {
    let whose = if answer.whose == Whose::All { "all requests" } else { "priority" };
    format!("for {} of {whose}", percent(answer.attainment))
}

/// A line: its colour, its values.
type Line = (&'static str, fn(&Row) -> f64);

/// Attainment over replicas.
fn chart(rows: &[Row]) -> String {
    let (width, height, left, low, high) = (400.0, 240.0, 46.0, 208.0, 18.0);
    let last = rows.last().map_or(1.0, |row| f64::from(row.replicas));
    let first = rows.first().map_or(0.0, |row| f64::from(row.replicas));
    let x = |replicas: f64| left + (width - left - 14.0) * (replicas - first) / (last - first).max(1.0);
    let y = |share: f64| low - (low - high) * share;
    let mut svg = format!(
        "<figure class=\"plan\"><figcaption>Attainment by number of replicas</figcaption><svg class=\"chart both\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"Attainment by number of replicas\">"
    );
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let _ = write!(svg, "<path class=\"grid\" d=\"M{left} {:.1}H{}\"/>", y(share), width - 14.0);
        let _ = write!(
            svg,
            "<text class=\"axis end\" x=\"{}\" y=\"{:.1}\">{:.0} %</text>",
            left - 5.0,
            y(share) + 3.5,
            share * 100.0
        );
    }
    for row in rows {
        let at = x(f64::from(row.replicas));
        let _ = write!(
            svg,
            "<text class=\"axis mid\" x=\"{at:.1}\" y=\"{}\">{}</text>",
            height - 10.0,
            row.replicas
        );
    }
    let lines: [Line; 3] =
        [("regular", |row| row.regular), ("priority", |row| row.priority), ("ink", |row| row.all)];
    for (class, of) in lines {
        let points: Vec<String> =
            rows.iter().map(|row| format!("{:.1} {:.1}", x(f64::from(row.replicas)), y(of(row)))).collect();
        let _ = write!(svg, "<path class=\"line {class}\" d=\"M{}\"/>", points.join("L"));
    }
    svg.push_str("</svg><ul class=\"legend\"><li><i class=\"priority\"></i>priority</li><li><i class=\"regular\"></i>regular</li><li><i class=\"ink\"></i>all</li></ul></figure>");
    svg
}
