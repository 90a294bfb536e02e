//! `tidegate requests`: the last refusals, and why each was refused.

use super::{AdminArguments, CommandError, at, cell, header_row, rows, show_value};
use clap::Args;
use serde_json::{Value, json};

/// Arguments of `tidegate requests`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate requests\n  tidegate requests --account acme --reason shed-saturated\n  \
                        tidegate requests --id req_0123456789abcdef0123456789abcdef\n  tidegate requests -o json\n\n\
                        The last 200 answers 429, 502, 503 and 504, the newest first. All requests are in the access log."
)]
pub struct RequestsArguments {
    /// Of this account.
    #[arg(long)]
    account: Option<String>,
    /// For this model.
    #[arg(long)]
    model: Option<String>,
    /// With this reason, as in x-tidegate-reason.
    #[arg(long)]
    reason: Option<String>,
    /// With this status.
    #[arg(long)]
    status: Option<u16>,
    /// The one with this id, as in x-request-id, in full.
    #[arg(long, value_name = "REQUEST_ID")]
    id: Option<String>,
    /// So many.
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=200))]
    limit: u64,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Runs the command; what is to be printed.
///
/// # Errors
/// The gateway does not answer or refuses, or has no refusal of that id.
pub fn run(arguments: &RequestsArguments) -> Result<String, CommandError> {
    let mut all: Value = super::get(&arguments.admin, "/api/v1/requests")?;
    if let Some(list) = all.get_mut("refusals").and_then(Value::as_array_mut) {
        list.retain(|refusal| arguments.wants(refusal));
        list.truncate(arguments.limit as usize);
    }
    match (&arguments.id, rows(at(&all, "refusals"))) {
        (Some(id), []) => Err(CommandError::Failed(format!(
            "no refusal `{id}` among the last 200; older ones, and requests that were answered, are in the access log"
        ))),
        (Some(_), [one, ..]) => Ok(show_value(&arguments.admin, one, in_full)),
        (None, _) => Ok(show_value(&arguments.admin, &all, table)),
    }
}

impl RequestsArguments {
    fn wants(&self, refusal: &Value) -> bool {
        let is = |key: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| at(refusal, key).as_str() == Some(wanted))
        };
        is("account", &self.account)
            && is("model", &self.model)
            && is("reason", &self.reason)
            && is("request_id", &self.id)
            && self.status.is_none_or(|status| *at(refusal, "status") == json!(status))
    }
}

const COLUMNS: [(&str, &str); 9] = [
    ("time", "time"),
    ("status", "status"),
    ("reason", "reason"),
    ("account", "account"),
    ("model", "model"),
    ("tier", "tier"),
    ("deployment", "deployment"),
    ("waited ms", "queue_ms"),
    ("request id", "request_id"),
];

fn table(value: &Value) -> Vec<Vec<String>> {
    let mut table = vec![header_row(&COLUMNS.map(|(name, _)| name))];
    table.extend(
        rows(at(value, "refusals"))
            .iter()
            .map(|refusal| COLUMNS.map(|(_, key)| cell(at(refusal, key))).to_vec()),
    );
    if table.len() == 1 {
        return vec![vec!["no refusals".to_owned()]];
    }
    table
}

/// One refusal, a line for each thing that is known of it.
fn in_full(refusal: &Value) -> Vec<Vec<String>> {
    let mut table: Vec<Vec<String>> =
        COLUMNS.iter().map(|(name, key)| vec![(*name).to_owned(), cell(at(refusal, key))]).collect();
    for (name, key) in [("message", "message"), ("what would have helped", "would_have_helped")] {
        table.push(vec![name.to_owned(), cell(at(refusal, key))]);
    }
    for part in ["budget", "load"] {
        for (key, value) in at(refusal, part).as_object().into_iter().flatten() {
            table.push(vec![format!("{part}: {}", key.replace('_', " ")), cell(value)]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_row_and_in_full_a_page() {
        let one = json!({ "time": "t", "status": 429, "reason": "requests_limited", "account": "acme", "request_id": "req_1",
            "queue_ms": 3, "would_have_helped": "less", "budget": { "meter": "requests", "over_by": 1 }, "load": null });
        let rows = table(&json!({ "refusals": [one] }));
        assert_eq!(rows[1], ["t", "429", "requests_limited", "acme", "-", "-", "-", "3", "req_1"]);
        let page = super::super::aligned(&in_full(&one));
        assert!(
            page.contains("what would have helped  less") && page.contains("budget: over by         1"),
            "{page}"
        );
        assert_eq!(table(&json!({ "refusals": [] })), [["no refusals"]]);
    }
}
