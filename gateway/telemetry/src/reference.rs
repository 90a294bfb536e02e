//! What the process writes, for the reference: every field of its logs and every metric, as rows of text.

use crate::fields::FIELDS;
use crate::metric_table::METRICS;
use process::logging;

/// One thing that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// `text`, `number`, `decimal` or `flag`, with `?` where it may be null; of a metric `counter`, `gauge`, `histogram`.
    pub shape: &'static str,
    /// The unit of a field, empty where it has none; the labels of a metric.
    pub unit: String,
    /// What it says.
    pub about: &'static str,
}

/// The fields of a line of the access log, in their order.
#[must_use]
pub fn access_log() -> Vec<Row> {
    let rows = FIELDS.iter().map(|field| Row {
        name: field.name,
        shape: field.shape,
        unit: field.unit.to_owned(),
        about: field.about,
    });
    rows.collect()
}

/// The fields of a line of the process's own log.
#[must_use]
pub fn process_log() -> Vec<Row> {
    let rows =
        logging::FIELDS.iter().map(|&(name, shape, about)| Row { name, shape, unit: String::new(), about });
    rows.collect()
}

/// The metrics, in the order of the table.
#[must_use]
pub fn metrics() -> Vec<Row> {
    let rows = METRICS.iter().map(|metric| Row {
        name: metric.name,
        shape: metric.kind.name(),
        unit: metric.labels.join(", "),
        about: metric.help,
    });
    rows.collect()
}
