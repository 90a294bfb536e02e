//! Every reason of a refusal, from the type that has them.

use super::markdown::{Page, code};
use protocol::refusal::Reason;
use std::collections::BTreeSet;

const ABOUT: &str = "
What a client gets instead of an answer. The reason is in the header `x-tidegate-reason`, in the access log (`reason`) and
in the label `reason` of `tidegate_requests_total`. The body has the shape of the API that was asked: `error.type` and
`error.code` for OpenAI's, `error.type` for Anthropic's (there `error.details.error_code` has the code).

`429` is always a limit of the account, `503` is always load or an outage here. An engine's own 429, 503 or 529 never
reaches a client: the request is tried elsewhere, or becomes a `503`. [What a client should do](../customers.md) at each.
An engine's 400, 413 and 422 keep their status, words, code and parameter.";

const OWN: &str = "
One status is in log and metrics only: `499`, the client left before it was answered.";

/// The page.
pub(super) fn page() -> String {
    let mut page = Page::new("Refusals");
    page.paragraph(ABOUT);
    let statuses: BTreeSet<u16> = Reason::ALL.into_iter().map(Reason::status).collect();
    for status in statuses {
        page.heading(2, &status.to_string());
        let reasons = Reason::ALL.into_iter().filter(|reason| reason.status() == status);
        let rows: Vec<[String; 5]> = reasons
            .map(|reason| {
                [
                    code(reason.name()),
                    code(reason.openai_type()),
                    code(reason.openai_code()),
                    code(reason.anthropic_type()),
                    reason.meaning().to_owned(),
                ]
            })
            .collect();
        page.table(
            ["`x-tidegate-reason`", "`error.type`", "`error.code`", "Anthropic's `error.type`", "meaning"],
            &rows,
        );
    }
    page.paragraph(OWN);
    page.text()
}
