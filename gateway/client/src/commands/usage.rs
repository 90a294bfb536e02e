//! `tidegate usage`: what accounts used, as a table, as JSON, or as CSV for whoever writes the bills.

use super::{AdminArguments, CommandError, Connected, aligned, cell, header_row};
use crate::api::segment;
use crate::views::usage::{UsagePage, UsageRow, UsageTotals};
use clap::{Args, ValueEnum};
use serde_json::json;

/// Rows that one call asks for: the most that the API gives.
const PAGE: usize = 10_000;
/// Rows that are shown at most: each has some 300 bytes here.
const ROWS_MAX: usize = 2_000_000;

/// Arguments of `tidegate usage`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate usage\n  tidegate usage --month 2026-11 -o csv > november.csv\n  \
                        tidegate usage --day 2026-11-30 --by hour --account acme\n  tidegate usage --from 2026-11-01 --to 2026-11-08 -o json\n\n\
                        Needs `usage` in the gateway's config. All times are UTC, tokens are as charged. A request is of the hour in which it ended.\n\
                        Without a time: this month. Without --by: one row for the month, or for each hour of a --day."
)]
pub struct UsageArguments {
    /// A whole month, such as 2026-11.
    #[arg(long, value_name = "YYYY-MM", conflicts_with_all = ["day", "from", "to"])]
    month: Option<String>,
    /// A whole day, such as 2026-11-30.
    #[arg(long, value_name = "YYYY-MM-DD", conflicts_with_all = ["from", "to"])]
    day: Option<String>,
    /// From the begin of this month, day or hour on, such as 2026-11-01 or 2026-11-01T14.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to the begin of this month, day or hour.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// A row for each of these.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Of this account.
    #[arg(long)]
    account: Option<String>,
    /// Of this key: the first 8 hexadecimal digits of its SHA-256, as `tidegate accounts show` lists them.
    #[arg(long)]
    key: Option<String>,
    /// For this model.
    #[arg(long)]
    model: Option<String>,
    /// In this tier.
    #[arg(long)]
    tier: Option<String>,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Hour,
    Day,
    Month,
}

/// Runs the command; what is to be printed.
///
/// # Errors
/// It was called wrongly, or the gateway does not answer, refuses, or keeps no usage.
pub fn run(arguments: &UsageArguments) -> Result<String, CommandError> {
    let connected = Connected::for_rows(&arguments.admin)?;
    let path = arguments.path()?;
    let mut whole: UsagePage = connected.read(&path)?;
    while let Some(next) = whole.next.take() {
        if whole.rows.len() >= ROWS_MAX {
            let message =
                format!("more than {ROWS_MAX} rows; ask for a shorter time, one account, or --by month");
            return Err(CommandError::Failed(message));
        }
        let page: UsagePage = connected.read(&format!("{path}&after={next}"))?;
        whole.rows.extend(page.rows);
        whole.next = page.next;
        whole.total = page.total;
        whole.complete &= page.complete;
    }
    if arguments.admin.is_csv() {
        return Ok(csv(&whole));
    }
    if arguments.admin.is_json() {
        let text = serde_json::to_string_pretty(&whole);
        return text.map_err(|e| CommandError::Failed(format!("the answer cannot be shown: {e}")));
    }
    Ok(aligned(&table(&whole)).trim_end().to_owned())
}

impl UsageArguments {
    /// The question to the API, without a page.
    fn path(&self) -> Result<String, CommandError> {
        let (from, to) = match (&self.month, &self.day) {
            (Some(month), _) => span(month, "--month", 7)?,
            (None, Some(day)) => span(day, "--day", 10)?,
            (None, None) => (self.from.clone(), self.to.clone()),
        };
        let by = self.by.unwrap_or(if self.day.is_some() { By::Hour } else { By::Month });
        let by = match by {
            By::Hour => "hour",
            By::Day => "day",
            By::Month => "month",
        };
        let mut path = format!("/api/v1/usage?limit={PAGE}&by={by}");
        for (name, value) in [
            ("from", &from),
            ("to", &to),
            ("account", &self.account),
            ("key", &self.key),
            ("model", &self.model),
            ("tier", &self.tier),
        ] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", segment(value)));
            }
        }
        Ok(path)
    }
}

/// A month or a day as its begin and that of the next one.
fn span(text: &str, option: &str, length: usize) -> Result<(Option<String>, Option<String>), CommandError> {
    let found = usage::calendar::parse(text).filter(|_| text.len() == length);
    let (from, to) = found.ok_or_else(|| {
        let example = if length == 7 { "a month such as 2026-11" } else { "a day such as 2026-11-30" };
        CommandError::Usage(format!("{option} {text}: is not {example}"))
    })?;
    let text = |hour| Some(usage::calendar::text(hour));
    Ok((text(from), text(to)))
}

const NAMES: [&str; 13] = [
    "time",
    "account",
    "key",
    "model",
    "tier",
    "requests",
    "answered",
    "refused_429",
    "refused_503",
    "prompt_tokens",
    "cached_tokens",
    "uncached_tokens",
    "generated_tokens",
];

fn texts(row: &UsageRow) -> [Option<&str>; 5] {
    [Some(&row.time), row.account.as_deref(), row.key.as_deref(), row.model.as_deref(), row.tier.as_deref()]
}

fn numbers(of: &UsageTotals) -> [u64; 8] {
    [
        of.requests,
        of.answered,
        of.refused_429,
        of.refused_503,
        of.prompt_tokens,
        of.cached_tokens,
        of.uncached_tokens,
        of.generated_tokens,
    ]
}

fn table(page: &UsagePage) -> Vec<Vec<String>> {
    let mut table = vec![header_row(&NAMES.map(|name| name.trim_end_matches("_tokens")))];
    for row in &page.rows {
        let texts = texts(row).map(|text| text.unwrap_or("-").to_owned());
        table
            .push(texts.into_iter().chain(numbers(&row.totals).map(|number| cell(&json!(number)))).collect());
    }
    if page.rows.is_empty() {
        return vec![vec![format!("no usage from {} on", page.from)]];
    }
    let total = numbers(&page.total).map(|number| cell(&json!(number)));
    let name = ["total", "", "", "", ""].map(str::to_owned);
    table.push(name.into_iter().chain(total).collect());
    if !page.complete {
        table.push(vec![
            "Not all: the gateway reads its files, or the process before it still answers requests; ask again later."
                .to_owned(),
        ]);
    }
    table
}

/// By RFC 4180, a row for each of the answer and none for the sum. What is absent is empty.
fn csv(page: &UsagePage) -> String {
    let mut lines = vec![NAMES.join(",")];
    for row in &page.rows {
        let texts = texts(row).map(|text| quoted(text.unwrap_or_default()));
        let numbers = numbers(&row.totals).map(|number| number.to_string());
        lines.push(texts.into_iter().chain(numbers).collect::<Vec<_>>().join(","));
    }
    lines.join("\n")
}

/// A field of CSV. One that a spreadsheet would take for a formula begins with an apostrophe there.
fn quoted(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> UsagePage {
        let totals =
            UsageTotals { requests: 1_200, answered: 1_100, generated_tokens: 5, ..UsageTotals::default() };
        let row = UsageRow {
            time: "2026-11-01T00:00:00Z".into(),
            account: Some("a,\"b".into()),
            key: None,
            model: Some("=m".into()),
            tier: Some("regular".into()),
            totals,
        };
        UsagePage {
            from: "2026-11-01T00:00:00Z".into(),
            to: None,
            by: "month".into(),
            rows: vec![row],
            next: None,
            total: totals,
            complete: false,
            retention_days: 400,
            kept: None,
        }
    }

    #[test]
    fn rows_are_a_table_with_their_sum_and_csv_without() {
        let text = aligned(&table(&page()));
        assert!(text.contains("1,200") && text.contains("total ") && text.contains("Not all"), "{text}");
        assert_eq!(
            csv(&page()).lines().nth(1).unwrap(),
            "2026-11-01T00:00:00Z,\"a,\"\"b\",,'=m,regular,1200,1100,0,0,0,0,0,5"
        );
        assert!(csv(&page()).starts_with("time,account,key,model,tier,requests,"));
        let none = UsagePage { rows: Vec::new(), ..page() };
        assert_eq!(table(&none), [["no usage from 2026-11-01T00:00:00Z on"]]);
    }

    #[test]
    fn a_month_or_a_day_is_a_time() {
        let (from, to) = span("2026-12", "--month", 7).unwrap();
        assert_eq!(
            (from.as_deref(), to.as_deref()),
            (Some("2026-12-01T00:00:00Z"), Some("2027-01-01T00:00:00Z"))
        );
        assert_eq!(span("2026-11-30", "--day", 10).unwrap().1.as_deref(), Some("2026-12-01T00:00:00Z"));
        for wrong in ["2026-13", "2026-11-30", "november"] {
            assert!(matches!(span(wrong, "--month", 7), Err(CommandError::Usage(_))), "{wrong}");
        }
    }
}
