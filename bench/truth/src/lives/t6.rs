//! T6: a stream that broke looks broken.
//!
//! After its first tokens each of 500 streams, of all four shapes in turn, is reset, cut, ended by an error event, or ended
//! without its last event. A client must be able to tell: by an error event, or by an answer whose framing does not end.

use std::collections::BTreeMap;

use serde_json::json;

use harness::contest::instant_engine;
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::raw::Connection;
use harness::tidegate::{Config, MODEL, Tidegate, post};

pub(crate) const PROOF: Proof = Proof {
    id: "T6",
    what: "broken streams (reset, cut, in-stream error, no end) that look broken",
    goal: "500 of 500",
    quick_s: 5,
    full_s: 10,
    needs: "",
    run,
};

const STREAMS: u32 = 500;

/// The APIs that stream: a path, and a request's members that are its own.
const SHAPES: [(&str, &str); 4] = [
    ("/v1/chat/completions", "\"max_tokens\":20,\"messages\":[{\"role\":\"user\",\"content\":\"break\"}]"),
    ("/v1/completions", "\"max_tokens\":20,\"prompt\":\"break\""),
    ("/v1/responses", "\"max_output_tokens\":20,\"input\":\"break\""),
    ("/v1/messages", "\"max_tokens\":20,\"messages\":[{\"role\":\"user\",\"content\":\"break\"}]"),
];

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let engine = instant_engine().await?;
        let config = Config::limitless(vec![engine.addr], 1);
        let gateway = Tidegate::start(setting, "t6", &config).await?;
        let mut looks: BTreeMap<String, BTreeMap<&str, u32>> = BTreeMap::new();
        for number in 0..STREAMS {
            let at = 1 + number % 7;
            let (kind, fault) = match number % 4 {
                0 => ("reset", format!("reset={at}")),
                1 => ("cut", format!("cut={at}")),
                2 => ("in-stream error", format!("stream-error={at}")),
                _ => ("no end", format!("ends={at}")),
            };
            let shape = SHAPES.get(number as usize / 4 % SHAPES.len()).copied().unwrap_or_default();
            let look = look(&gateway, shape, &fault).await?;
            *looks.entry(format!("{} {kind}", shape.0)).or_default().entry(look).or_default() += 1;
        }
        let whole: u32 = looks.values().filter_map(|kind| kind.get(WHOLE)).sum();
        let visible = STREAMS - whole;
        Ok(Finding {
            figure: format!("{visible} of {STREAMS}{}", missed(&looks)),
            goal: PROOF.goal.to_owned(),
            ok: visible == STREAMS,
            details: json!({ "streams": STREAMS, "looks": looks }),
        })
    })
}

/// A stream that nobody can tell from a good one.
const WHOLE: &str = "whole";

fn missed(looks: &BTreeMap<String, BTreeMap<&str, u32>>) -> String {
    let kinds: Vec<&str> =
        looks.iter().filter(|(_, kind)| kind.contains_key(WHOLE)).map(|(kind, _)| kind.as_str()).collect();
    if kinds.is_empty() { String::new() } else { format!(" (whole: {})", kinds.join(", ")) }
}

/// How one broken stream looks to its client.
async fn look(gateway: &Tidegate, (path, asks): (&str, &str), fault: &str) -> Result<&'static str, Trouble> {
    let body = format!(
        "{{\"model\":\"{MODEL}\",\"stream\":true,\"ignore_eos\":true,\"user\":\"sim:gap=1ms,{fault}\",{asks}}}"
    );
    let mut connection = Connection::open(gateway.address).await?;
    let mut text = Vec::new();
    let answer =
        connection.exchange(&post(path, "key-0", &body), |piece| text.extend_from_slice(piece)).await;
    let error = [&b"\"error\":{"[..], b"\"type\":\"error\""]
        .iter()
        .any(|mark| memchr::memmem::find(&text, mark).is_some());
    match answer {
        Ok(answer) if answer.status != 200 => Err(Trouble::Unexpected(format!("status {}", answer.status))),
        Ok(_) if error => Ok("error event, clean end"),
        Ok(_) => Ok(WHOLE),
        Err(_) if error => Ok("error event, unclean end"),
        Err(_) => Ok("unclean end"),
    }
}
