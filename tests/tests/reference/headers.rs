//! The headers of requests and answers, from the gateway's own list.

use super::markdown::{Page, code};
use gateway::downstream::headers::{ANSWERS, Carried, REQUESTS};

const ABOUT: &str = "
What is read of a request's header beside HTTP's own framing, and what an answer carries. Names are compared in any case. No
header changes the account, its tiers or its limits: those come from the key alone. Of a model server's answer nothing but
the content type is copied.";

/// The page.
pub(super) fn page() -> String {
    let mut page = Page::new("Headers");
    page.paragraph(ABOUT);
    page.heading(2, "Of requests");
    let rows: Vec<[String; 3]> =
        REQUESTS.iter().map(|one| [code(one.name), one.value.to_owned(), one.meaning.to_owned()]).collect();
    page.table(["header", "value", "meaning"], &rows);
    page.heading(2, "Of answers");
    let rows: Vec<[String; 4]> = ANSWERS
        .iter()
        .map(|one| [code(one.name), one.value.to_owned(), carried(one.carried), one.meaning.to_owned()])
        .collect();
    page.table(["header", "value", "on", "meaning"], &rows);
    page.text()
}

fn carried(on: Carried) -> String {
    match on {
        Carried::Always => "every answer".to_owned(),
        Carried::Limits => "every answer whose account and model are known".to_owned(),
        Carried::Anthropic => "the same, on Anthropic's routes".to_owned(),
        Carried::Refusals => "refusals".to_owned(),
        Carried::Streams => "streams".to_owned(),
        Carried::Configured => "every answer, where configured".to_owned(),
        Carried::Status(status) => format!("{status}"),
    }
}
