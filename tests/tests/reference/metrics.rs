//! Every metric with its kind, labels and meaning, from the gateway's own table.

use super::markdown::{Page, code};
use gateway::telemetry::reference;

const ABOUT: &str = "
What `GET /metrics` on the admin listener answers, in Prometheus' text format. Labels have values of the config and of the
lists below only: a name that a client made up is `other`, so no client can add a series.";

/// What the labels' values are.
const VALUES: &[(&str, &str)] = &[
    ("account", "the id of an account; the 50 budgets that are used most"),
    ("deployment", "a name of `deployments`"),
    ("direction", "`up`, `down`"),
    (
        "kind",
        "of tokens: `prompt`, `cached`, `generated`; of upstream errors: `connect`, `reset`, `timeout`, `busy` (it refused for load), `absent` (it lacks the model or route), `unexplained`",
    ),
    ("length", "`short`, `long`: whether the prompt takes the engine longer than one token may"),
    ("meter", "`prompt`, `uncached-prompt`, `generated`"),
    ("model", "a name of `models`, or `other`"),
    (
        "reason",
        "of requests: empty, or a [reason](refusals.md); of `tidegate_shed_total`: those of a 503 for load; of connections: [the list](../running.md#connections); of the admin listener: `gave_way`, `busy`, `body_time`, `body_size`, `unread`",
    ),
    ("replica", "the number of a replica, from 0, as `tidegate deployments` shows it"),
    ("state", "`serving`, `draining`, `drained`, `down`"),
    ("status", "the HTTP status that was told; `499`: the client left first"),
    ("tier", "`priority`, `regular`; `none` where the request ended before its tier was known"),
    ("version", "the version that runs"),
    ("what", "`offered`, `started`"),
    ("work", "`append`, `rewrite`"),
];

/// The page.
pub(super) fn page() -> String {
    let mut page = Page::new("Metrics");
    page.paragraph(ABOUT);
    let rows: Vec<[String; 4]> = reference::metrics()
        .into_iter()
        .map(|row| {
            let labels: Vec<String> = labels(&row.unit).map(code).collect();
            [code(row.name), row.shape.to_owned(), labels.join(", "), row.about.to_owned()]
        })
        .collect();
    page.table(["metric", "kind", "labels", "meaning"], &rows);
    page.heading(2, "Labels");
    let used = |label: &str| reference::metrics().iter().any(|row| labels(&row.unit).any(|one| one == label));
    let rows: Vec<[String; 2]> = VALUES
        .iter()
        .filter(|(label, _)| used(label))
        .map(|(label, values)| [code(label), (*values).to_owned()])
        .collect();
    page.table(["label", "values"], &rows);
    page.text()
}

fn labels(list: &str) -> impl Iterator<Item = &str> {
    list.split(", ").filter(|label| !label.is_empty())
}

#[test]
fn the_values_of_every_label_are_told() {
    for row in reference::metrics() {
        for label in labels(&row.unit) {
            assert!(
                VALUES.iter().any(|(known, _)| *known == label),
                "{label} of {} is not explained",
                row.name
            );
        }
    }
}
