//! Every field of the logs, with its shape, unit and meaning, from the gateway's own tables.

use super::markdown::{Page, code};
use gateway::telemetry::reference::{self, Row};

const ABOUT: &str = "
One line for each request, to `log.access` (standard output by default). Prompts, answers and keys are never in it. Refused
requests have a line too; probes, preflights and the admin listener have none. A shape with `?` may be `null`.

```sh
jq -c 'select(.status == 503) | [.time, .account, .model, .tier, .reason]' access.log
```";

const OWN: &str = "
What the process itself has to say goes to standard output, or where the config says.";

/// The page.
pub(super) fn page() -> String {
    let mut page = Page::new("Access log");
    page.paragraph(ABOUT);
    table(&mut page, reference::access_log());
    let own = reference::process_log();
    if !own.is_empty() {
        page.heading(2, "The process's own log").paragraph(OWN);
        table(&mut page, own);
    }
    page.text()
}

fn table(page: &mut Page, rows: Vec<Row>) {
    let rows: Vec<[String; 4]> = rows
        .into_iter()
        .map(|row| [code(row.name), row.shape.to_owned(), row.unit, row.about.to_owned()])
        .collect();
    page.table(["field", "shape", "unit", "meaning"], &rows);
}
