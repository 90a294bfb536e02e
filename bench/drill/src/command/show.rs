//! The result in the terminal: the conditions, and where the report is.

use super::Output;
use crate::judge::percent;
use crate::report::figures::Figures;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

/// Prints what came out.
pub(super) fn result(figures: &Figures, written: &[PathBuf; 2], output: Output) {
    if output == Output::Json {
        said(&serde_json::to_string_pretty(figures).unwrap_or_default());
        return;
    }
    let color =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let [html, json] = written;
    said(&format!("{}report: {}, {}", text(figures, color), html.display(), json.display()));
}

/// Writes to standard output, with a line's end. Whoever reads only the beginning and closes the pipe has read enough.
pub(super) fn said(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.write_all(b"\n"));
}

fn text(figures: &Figures, color: bool) -> String {
    let paint =
        |code: u8, text: &str| if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let word = figures.verdict();
    let verdict = match word {
        "played" => word.to_owned(),
        _ => paint(if figures.passed { 32 } else { 31 }, word),
    };
    let mut lines =
        vec![format!("{}: {verdict} {}, {:.1} s", figures.title, figures.how.words, figures.how.took_s)];
    lines.extend(figures.ended_early.iter().map(|why| format!("  ended early: {why}")));
    lines.extend(figures.warnings.iter().map(|warning| format!("  {} {warning}", paint(33, "warning:"))));
    let width = |of: fn(&crate::judge::Judged) -> &str| {
        figures.checks.iter().map(|check| of(check).chars().count()).max().unwrap_or(0)
    };
    let (what, goal) = (width(|check| &check.what), width(|check| &check.goal));
    for check in &figures.checks {
        let word = if check.ok { paint(32, "ok   ") } else { paint(31, "short") };
        lines.push(format!("  {word}  {:what$}  {:>goal$}  {}", check.what, check.goal, check.figure));
    }
    for tier in figures.tiers.iter().filter(|tier| tier.offered > 0) {
        lines.push(format!(
            "  {:8}  {} offered, {} in SLO, {} late, {} × 429, {} × 503, {} left, {} broken; p99 first token {:.0} ms",
            tier.tier,
            tier.offered,
            percent(tier.attainment),
            tier.late,
            tier.limited,
            tier.shed,
            tier.left,
            tier.failed,
            tier.ttft_ms[2]
        ));
    }
    lines.push(format!(
        "  goodput   {:.1} requests/s, {:.0} tokens/s",
        figures.goodput_per_s, figures.goodput_tokens_per_s
    ));
    lines.extend(figures.conclusion.iter().map(|said| format!("  {said}")));
    lines.join("\n") + "\n"
}
