//! The headers of requests and answers, from the gateway's own list.

use super::markdown::{Page, code};
use gateway::downstream::respond::{self, Envelope};
use http::HeaderMap;
use limits::{MeterView, PerMeter, RequestsView};
use protocol::api::Family;
use protocol::cors::{Cors, Grant};
use protocol::headers::{ANSWERS, Carried, REQUESTS};
use protocol::refusal::{Reason, Refusal};
use std::collections::BTreeSet;
use std::time::Duration;

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

fn full(family: Family) -> Envelope {
    let view = MeterView {
        limit: 60,
        floor: 60,
        ceiling: 60,
        used: 0,
        reserved: 0,
        debt: 0,
        remaining: 60,
        until_half: Duration::ZERO,
    };
    let mut asked = HeaderMap::new();
    asked.insert("origin", "https://chat.example.org".parse().unwrap());
    Envelope {
        meters: Some(PerMeter { prompt: view, uncached_prompt: view, generated: view }),
        requests: Some(RequestsView { limit: 1, remaining: 1, until_half: Duration::ZERO }),
        served_by: Some(("llama".to_owned(), "0".to_owned())),
        cors: Some(Grant::to(&Cors::Any, &asked)),
        ..Envelope::new(family)
    }
}

/// Names of the framing that each HTTP answer has.
const FRAMING: [&str; 3] = ["content-type", "content-length", "transfer-encoding"];

#[test]
fn the_list_has_every_header_that_an_answer_can_have_and_no_other() {
    let mut seen = BTreeSet::new();
    for family in [Family::OpenAi, Family::Anthropic] {
        let mut heads = vec![respond::stream_head(&full(family), true).unwrap()];
        for reason in Reason::ALL {
            let refusal = Refusal::new(reason, "").retry(Some(Duration::from_secs(1)));
            heads.push(respond::refusal(&full(family), &refusal).unwrap().0);
        }
        seen.extend(heads.iter().flat_map(|head| head.headers.keys()).map(|name| name.as_str().to_owned()));
    }

    let listed: BTreeSet<String> = ANSWERS.iter().map(|header| header.name.to_owned()).collect();
    let seen: BTreeSet<String> = seen.into_iter().filter(|name| !FRAMING.contains(&name.as_str())).collect();
    assert_eq!(listed, seen);
    assert_eq!(listed.len(), ANSWERS.len(), "a header is listed twice");
}
