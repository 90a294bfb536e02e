//! The report as one HTML file: nothing is fetched, so it can be mailed, archived and opened years later.
//!
//! The verdict comes first, then the conclusion in sentences, what was asked, then pictures, then tables, then the scenario itself. It is whole
//! without its script, which only shows values under the pointer. A policy in its head forbids every request.

use std::fmt::Write as _;

use super::chart::{Cdf, OverTime, Series, clock, escape, milliseconds, number};
use super::figures::{Bin, Event, Figures, Timeline};
use crate::judge::percent;
use shedder::Tier;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");
/// Colours of lines that have no meaning of their own, in order.
const COLOURS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Replicas beyond this many are drawn as their mean.
const REPLICAS_DRAWN: usize = 6;

/// Writes the page.
#[must_use]
pub fn page(figures: &Figures) -> String {
    let mut html = String::with_capacity(256 << 10);
    head(&mut html, figures);
    verdict(&mut html, figures);
    conclusion(&mut html, figures);
    tiles(&mut html, figures);
    checks(&mut html, figures);
    over_time(&mut html, figures);
    latencies(&mut html, figures);
    inside(&mut html, figures);
    people(&mut html, figures);
    foot(&mut html, figures);
    html
}

// Writing into a string cannot fail, so the results of `write!` are dropped here and below.

fn head(html: &mut String, figures: &Figures) {
    html.push_str(&opening(&figures.title, "Tidegate capacity drill"));
    if !figures.shows.is_empty() {
        let _ = write!(html, "<p class=\"shows\">{}</p>", escape(&figures.shows));
    }
}

/// The beginning of a page, to its heading.
pub(super) fn opening(title: &str, kind: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data: blob:\">\
         <link rel=\"icon\" href=\"data:,\"><title>{title} · Tidegate</title><style>{STYLE}</style></head><body><main>\
         <p class=\"muted\">{kind}</p><h1>{title}</h1>"
    )
}

/// The end of a page: its last words, and its figures as JSON for who wants to go on with them.
pub(super) fn closing(words: &str, json: &str) -> String {
    // In a script element only `</` could end the data.
    let json = json.replace("</", "<\\/");
    format!(
        "<footer>{words} Tidegate {}.</footer></main><script type=\"application/json\" id=\"figures\">{json}</script>\
         <script>{SCRIPT}</script></body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn verdict(html: &mut String, figures: &Figures) {
    let held = figures.checks.iter().filter(|check| check.ok).count();
    let (class, word) = match figures.verdict() {
        "failed" => ("no", "Failed"),
        "played" => ("", "Played"),
        _ => ("", "Passed"),
    };
    let conditions = match figures.checks.len() {
        0 => "no condition was set".to_owned(),
        all => format!("{held} of {all} conditions held"),
    };
    let early = figures
        .ended_early
        .as_deref()
        .map_or_else(String::new, |why| format!(" It ended early: {}.", escape(why)));
    let _ = write!(
        html,
        "<div class=\"verdict {class}\"><b>{word}</b><span>{conditions}.{early}<br><small>{} · {} · {} × {} · {} of load</small></span></div>",
        day(&figures.how.at),
        escape(&figures.how.words),
        figures.replicas,
        escape(&figures.profile),
        clock(figures.duration_s)
    );
    for warning in &figures.warnings {
        let _ = write!(html, "<p class=\"warn\">{}</p>", escape(warning));
    }
}

/// `2026-11-30 13:24 UTC` of RFC 3339, in an element that programs read, too.
pub(super) fn day(at: &str) -> String {
    let shown = at.get(..16).unwrap_or(at).replace('T', " ");
    format!("<time datetime=\"{}\">{} UTC</time>", escape(at), escape(&shown))
}

fn conclusion(html: &mut String, figures: &Figures) {
    html.push_str("<h2>Conclusion</h2><div class=\"words\">");
    for said in &figures.conclusion {
        let _ = write!(html, "<p>{}</p>", escape(said));
    }
    html.push_str("</div>");
}

/// The beginning of a table that may be wider than the screen: a keyboard reaches it, a screen reader names it.
pub(super) fn table(name: &str, heads: &[&str]) -> String {
    let name = escape(name);
    let mut html = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\"><table><thead><tr>"
    );
    for head in heads {
        // A header without words is none.
        let cell =
            if head.is_empty() { "<td></td>".to_owned() } else { format!("<th scope=\"col\">{head}</th>") };
        html.push_str(&cell);
    }
    html + "</tr></thead><tbody>"
}

/// Its end.
pub(super) const TABLE_END: &str = "</tbody></table></div>";

fn tiles(html: &mut String, figures: &Figures) {
    html.push_str("<div class=\"tiles\">");
    let mut tile = |class: &str, value: String, what: &str| {
        let _ = write!(html, "<div class=\"tile {class}\"><b>{value}</b><span>{what}</span></div>");
    };
    for tier in figures.tiers.iter().filter(|tier| tier.offered > 0) {
        let what = format!("{} served within the SLO", tier.tier);
        tile(tier.tier, percent(tier.attainment), &what);
    }
    let refused = |of: fn(&super::figures::TierFigures) -> u64| {
        let offered: u64 = figures.tiers.iter().map(|tier| tier.offered).sum();
        percent(figures.tiers.iter().map(of).sum::<u64>() as f64 / offered.max(1) as f64)
    };
    tile("", format!("{}/s", number(figures.goodput_per_s)), "goodput: requests within the SLO");
    tile("", number(figures.goodput_tokens_per_s), "output tokens per second within the SLO");
    tile("", refused(|tier| tier.shed), "refused for load (503)");
    tile("", refused(|tier| tier.limited), "over their own limit (429)");
    tile("", percent(figures.waste), "of the computing was for requests that missed");
    tile("", format!("{:.2}", figures.tries_per_request), "tries per request");
    html.push_str("</div>");
}

fn checks(html: &mut String, figures: &Figures) {
    if figures.checks.is_empty() {
        return;
    }
    html.push_str("<h2>Conditions</h2>");
    html.push_str(&table("Conditions", &["What had to hold", "Goal", "Figure", "Result"]));
    for check in &figures.checks {
        let (class, word) = if check.ok { ("ok", "held") } else { ("no", "did not") };
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{word}</td></tr>",
            escape(&check.what),
            escape(&check.goal),
            escape(&check.figure)
        );
    }
    html.push_str(TABLE_END);
}

/// What may come of a request: name, colour, how many per second.
type Kind = (&'static str, &'static str, fn(&Bin) -> f64);

fn over_time(html: &mut String, figures: &Figures) {
    html.push_str("<h2>What came of the requests</h2>");
    let Timeline { step_s, .. } = &figures.timeline;
    let kinds: [Kind; 5] = [
        ("served within the SLO", "met", |bin| bin.met),
        ("served late", "late", |bin| bin.late),
        ("429: over their own limit", "limited", |bin| bin.limited),
        ("503: refused for load", "shed", |bin| bin.shed),
        ("left or broken", "failed", |bin| bin.failed),
    ];
    for (tier, bins) in figures.timeline.tiers() {
        if bins.iter().all(|bin| bin.offered() == 0.0) {
            continue;
        }
        let mut series: Vec<Series> = Vec::new();
        for (name, class, of) in kinds {
            let values: Vec<f64> = bins.iter().map(of).collect();
            if values.iter().any(|value| *value > 0.0) {
                series.push(Series { name: name.to_owned(), class, values });
            }
        }
        let title = format!("{}: offered requests by what came of them", titled(tier));
        let chart = OverTime {
            title: &title,
            unit: "req/s",
            step_s: *step_s,
            series,
            events: &figures.events,
            stacked: true,
            top: None,
            mark: None,
        };
        html.push_str(&chart.html(&format!("offered-{tier}")));
    }
    events(html, &figures.events);
    attainment(html, figures);
}

fn events(html: &mut String, events: &[Event]) {
    if events.is_empty() {
        return;
    }
    html.push_str("<ol class=\"events\">");
    for event in events {
        let until = event.until_s.map_or_else(String::new, |until| format!(" until {}", clock(until)));
        let back = |what: &str, seconds: Option<f64>| match seconds {
            Some(seconds) if seconds < 1.0 => format!("{what} at once"),
            Some(seconds) => format!("{what} after {}", clock(seconds)),
            None => format!("{what} not before the end"),
        };
        let _ = write!(
            html,
            "<li>{}{until}: {} <span class=\"muted\">(99 % served again: {}, {})</span></li>",
            clock(event.at_s),
            escape(&event.label),
            back("priority", event.priority_recovered_s),
            back("all", event.all_recovered_s)
        );
    }
    html.push_str("</ol>");
}

fn attainment(html: &mut String, figures: &Figures) {
    let Timeline { step_s, .. } = &figures.timeline;
    let mut series = Vec::new();
    for (name, class, bins) in figures.timeline.tiers().map(|(tier, bins)| (tier.name(), tier.name(), bins)) {
        if bins.iter().any(|bin| bin.offered() > 0.0) {
            let share = |bin: &Bin| if bin.offered() > 0.0 { 100.0 * bin.met / bin.offered() } else { 100.0 };
            series.push(Series { name: name.to_owned(), class, values: bins.iter().map(share).collect() });
        }
    }
    let (step_s, events) = (*step_s, figures.events.as_slice());
    let title = "Attainment: share of the offered requests served within the SLO";
    let chart =
        OverTime { title, unit: "%", step_s, series, events, stacked: false, top: Some(100.0), mark: None };
    html.push_str(&chart.html("attainment"));
    let layer = |(tier, bins): (Tier, &[Bin])| Series {
        name: tier.name().to_owned(),
        class: tier.name(),
        values: bins.iter().map(|bin| bin.met).collect(),
    };
    let series =
        figures.timeline.tiers().into_iter().filter(|(tier, _)| shown(figures, *tier)).map(layer).collect();
    let title = "Goodput: requests served within the SLO";
    let chart =
        OverTime { title, unit: "req/s", step_s, series, events, stacked: true, top: None, mark: None };
    html.push_str(&chart.html("goodput"));
}

fn latencies(html: &mut String, figures: &Figures) {
    html.push_str("<h2>Latency</h2>");
    html.push_str(&table("Latency", &["Time", "p50", "p90", "p99", "p99.9"]));
    for tier in figures.tiers.iter().filter(|tier| tier.offered > 0) {
        for (what, values) in [("time to first token", tier.ttft_ms), ("time per further token", tier.gap_ms)]
        {
            let _ = write!(html, "<tr><td>{}, {what}</td>", tier.tier);
            for value in values {
                let _ = write!(html, "<td>{}</td>", milliseconds(value));
            }
            html.push_str("</tr>");
        }
    }
    html.push_str(TABLE_END);
    html.push_str("<div class=\"halves\">");
    for (of, title, bound_ms) in [
        ("ttft", "Time to first token: share of answers", figures.slo_ms[0]),
        ("token_gap", "Time per further token: share of answers", figures.slo_ms[1]),
    ] {
        let chosen = figures.distributions.iter().filter(|distribution| distribution.of == of);
        let lines: Vec<_> = chosen.map(|one| (one.tier, one.tier, one.points.as_slice())).collect();
        if !lines.is_empty() {
            html.push_str(&Cdf { title, lines, bound_ms }.html());
        }
    }
    html.push_str("</div>");
    let tails = Tier::ALL.map(Tier::name).into_iter().zip(&figures.timeline.ttft_p99_ms);
    let series = tails.filter(|(_, values)| values.iter().any(|value| *value > 0.0));
    let series: Vec<Series> = series
        .map(|(tier, values)| Series { name: format!("{tier} p99"), class: tier, values: values.clone() })
        .collect();
    let chart = OverTime {
        title: "Time to first token, 99th percentile",
        unit: "ms",
        step_s: figures.timeline.step_s,
        series,
        events: &figures.events,
        stacked: false,
        top: None,
        mark: Some((figures.slo_ms[0], "SLO")),
    };
    html.push_str(&chart.html("ttft"));
}

fn inside(html: &mut String, figures: &Figures) {
    let timeline = &figures.timeline;
    if timeline.inner.iter().all(|inner| inner.limit.is_empty()) {
        return;
    }
    html.push_str("<h2>Inside the gateway</h2>");
    let (step_s, events) = (timeline.step_s, figures.events.as_slice());
    let mut chart = |title: &str, unit: &str, series: Vec<Series>, stacked: bool, mark, id: &str| {
        let chart = OverTime { title, unit, step_s, series, events, stacked, top: None, mark };
        html.push_str(&chart.html(id));
    };
    let saturation = replicas(timeline, |inner| &inner.saturation);
    chart(
        "Saturation of each replica",
        "1 = at its limit",
        saturation,
        false,
        Some((1.0, "limit")),
        "saturation",
    );
    let limits = replicas(timeline, |inner| &inner.limit);
    chart("Limit of each replica: requests at once", "requests", limits, false, None, "limit");
    let queue = |(nth, tier): (usize, Tier)| Series {
        name: tier.name().to_owned(),
        class: tier.name(),
        values: timeline.inner.iter().map(|inner| inner.queued.get(nth).copied().unwrap_or(0.0)).collect(),
    };
    let tiers = Tier::ALL.into_iter().enumerate().filter(|(_, tier)| shown(figures, *tier));
    let queues = tiers.map(queue).collect();
    chart("Waiting requests", "requests", queues, true, None, "queue");
    for (nth, line) in timeline.budgets.iter().enumerate() {
        let title = format!("Budget of {}: {} tokens per minute", line.account, line.meter);
        let used = Series { name: "used".to_owned(), class: "a", values: line.used.clone() };
        let limit = Series { name: "limit".to_owned(), class: "ink", values: line.limit.clone() };
        chart(&title, "tokens/min", vec![used, limit], false, None, &format!("budget-{nth}"));
    }
}

/// Priority and regular are always shown, and flex where it was asked for.
fn shown(figures: &Figures, tier: Tier) -> bool {
    tier != Tier::Flex || figures.tiers.iter().any(|one| one.tier == tier.name() && one.offered > 0)
}

/// The tier at the beginning of a sentence.
pub(super) fn titled(tier: Tier) -> &'static str {
    match tier {
        Tier::Priority => "Priority",
        Tier::Regular => "Regular",
        Tier::Flex => "Flex",
    }
}

/// One line per replica, or one for the mean of many.
fn replicas(timeline: &Timeline, of: fn(&super::figures::Inner) -> &Vec<f64>) -> Vec<Series> {
    let count = timeline.inner.iter().map(|inner| of(inner).len()).max().unwrap_or(0);
    if count > REPLICAS_DRAWN {
        let mean = |inner: &super::figures::Inner| of(inner).iter().sum::<f64>() / count as f64;
        let values = timeline.inner.iter().map(mean).collect();
        return vec![Series { name: format!("mean of {count} replicas"), class: "a", values }];
    }
    let line = |nth: usize| Series {
        name: format!("replica {nth}"),
        class: COLOURS.get(nth).copied().unwrap_or("a"),
        values: timeline.inner.iter().map(|inner| of(inner).get(nth).copied().unwrap_or(0.0)).collect(),
    };
    (0..count).map(line).collect()
}

fn people(html: &mut String, figures: &Figures) {
    html.push_str("<h2>Who got what</h2>");
    let heads = ["Tier", "offered", "in SLO", "late", "429", "503", "left", "broken", "attainment"];
    html.push_str(&table("Who got what, by tier", &heads));
    for tier in figures.tiers.iter().filter(|tier| tier.offered > 0) {
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            tier.tier,
            tier.offered,
            tier.met,
            tier.late,
            tier.limited,
            tier.shed,
            tier.left,
            tier.failed,
            percent(tier.attainment)
        );
    }
    html.push_str(TABLE_END);
    let reasons: Vec<String> = figures
        .tiers
        .iter()
        .flat_map(|tier| {
            tier.reasons.iter().map(|(reason, count)| format!("{} {count} × {reason}", tier.tier))
        })
        .collect();
    if !reasons.is_empty() {
        let _ = write!(html, "<p class=\"muted\">Why 503: {}.</p>", escape(&reasons.join(", ")));
    }
    let _ = write!(
        html,
        "<p class=\"muted\">Priority refused for load while a regular request at least as large was started: {}. \
         Engine preemptions: {}.</p>",
        figures.out_of_order, figures.preemptions
    );
    for fairness in &figures.fairness {
        let _ = write!(
            html,
            "<p>Fairness between the {} accounts of <b>{}</b>: {:.3} <span class=\"muted\">(Jain's index of the tokens served; 1 is equal)</span></p>",
            fairness.count,
            escape(&fairness.accounts),
            fairness.jain
        );
    }
    let heads = ["Account", "offered", "in SLO", "429", "503", "tokens generated"];
    html.push_str(&table("Who got what, by account", &heads));
    for account in &figures.accounts {
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&account.account),
            account.offered,
            account.met,
            account.limited,
            account.shed,
            account.tokens
        );
    }
    html.push_str(TABLE_END);
}

fn foot(html: &mut String, figures: &Figures) {
    let _ = write!(
        html,
        "<h2>What was played</h2><p>{}, {}, in {}. <a class=\"noprint\" id=\"save\" download=\"{}.json\" href=\"#figures\">Figures as JSON</a></p>\
         <details open><summary>The scenario, word for word</summary><pre tabindex=\"0\" role=\"region\" aria-label=\"The scenario\">{}</pre></details>",
        day(&figures.how.at),
        escape(&figures.how.words),
        clock(figures.how.took_s.max(1.0)),
        escape(&figures.drill),
        escape(&figures.scenario)
    );
    let words = format!(
        "Attainment is over offered requests: whoever was refused was not served. SLO: first token within {} (the \
         prefill of the own prompt comes on top), then {} per token.",
        milliseconds(figures.slo_ms[0]),
        milliseconds(figures.slo_ms[1])
    );
    html.push_str(&closing(&words, &serde_json::to_string(figures).unwrap_or_default()));
}
