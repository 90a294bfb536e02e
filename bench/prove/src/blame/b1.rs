//! B1: what one account's broken requests cost the others.
//!
//! An engine refuses a request in twelve forms, or fails at it, on every replica alike; each form comes ten seconds long, 20
//! times a second, two minutes in all. Beside them others send ordinary requests, priority and regular, streams and whole
//! answers. All of it four times: the broken ones from one account or from twenty, with a `prompt_cache_key` that pins
//! them to one replica or without. None of the others' requests may be refused, fail or be sent twice because of it, no
//! replica may be out at any look, and no broken request is sent more than twice.

mod forms;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::fleet::{Fleet, Got, Script, ask, paced, replicas_out};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::harness::tidegate::{Admin, Config, MODEL};
use forms::FORMS;
use kit::hostile::{Act, Asked, ordinary};

pub(crate) const PROOF: Proof = Proof {
    id: "B1",
    what: "beside 12 forms of broken requests: others' requests refused, failed or sent twice; replicas out; a broken \
           one sent at most",
    goal: "0; 0; 2 times",
    quick_s: 7,
    full_s: 490,
    needs: "",
    run,
};

const REPLICAS: usize = 4;
const BROKEN_PER_S: f64 = 20.0;
const OTHERS_PER_S: f64 = 40.0;
/// Accounts of the others; those after them send what is broken.
const OTHERS: usize = 10;
const MANY: usize = 20;
/// How often it is looked which replicas are out.
const LOOK: Duration = Duration::from_millis(50);
/// What an ordinary answer takes.
const TAKES: Duration = Duration::from_millis(80);
const CHAT: &str = "/v1/chat/completions";

/// How the broken ones come.
#[derive(Debug, Clone, Copy)]
struct Variant {
    accounts: usize,
    pinned: bool,
}

/// What came of a variant.
#[derive(Debug, Default)]
struct Outcome {
    others: u64,
    refused: u64,
    failed: u64,
    sent_again: u64,
    broken: u64,
    broken_sent_max: u32,
    /// Broken ones that never reached an engine: then the variant shows nothing of them.
    broken_unsent: u64,
    /// Looks at which a replica was out.
    out: u64,
    looks: u64,
    details: Vec<Value>,
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let all = [(MANY, false), (1, true), (1, false), (MANY, true)];
    let mut total = Outcome::default();
    let mut details = Vec::new();
    setting.block_on(async {
        for (accounts, pinned) in all.into_iter().take(setting.size(2, 4)) {
            let variant = Variant { accounts, pinned };
            let outcome = play(setting, variant).await?;
            details.push(json!({
                "accounts": accounts, "pinned": pinned, "others": outcome.others, "refused": outcome.refused,
                "failed": outcome.failed, "sent_again": outcome.sent_again, "broken": outcome.broken,
                "broken_sent_max": outcome.broken_sent_max, "broken_unsent": outcome.broken_unsent,
                "looks": outcome.looks, "looks_with_a_replica_out": outcome.out, "forms": outcome.details,
            }));
            total.add(outcome);
        }
        Ok(())
    })?;
    let bad = total.refused + total.failed + total.sent_again;
    let ok = bad == 0 && total.out == 0 && total.broken_sent_max <= 2 && total.broken_unsent == 0;
    let unsent = match total.broken_unsent {
        0 => String::new(),
        some => format!(" ({some} never sent)"),
    };
    Ok(Finding {
        figure: format!(
            "{} refused, {} failed, {} sent twice of {}; out at {} of {} looks; {} times of {}{unsent}",
            total.refused,
            total.failed,
            total.sent_again,
            total.others,
            total.out,
            total.looks,
            total.broken_sent_max,
            total.broken,
        ),
        goal: PROOF.goal.to_owned(),
        ok,
        details: json!({ "variants": details }),
    })
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.others += other.others;
        self.refused += other.refused;
        self.failed += other.failed;
        self.sent_again += other.sent_again;
        self.broken += other.broken;
        self.broken_sent_max = self.broken_sent_max.max(other.broken_sent_max);
        self.broken_unsent += other.broken_unsent;
        self.out += other.out;
        self.looks += other.looks;
        self.details.extend(other.details);
    }
}

/// Number of the form and of the request, in the `user` of a broken one.
fn broken_of(user: &str) -> Option<(usize, u64)> {
    let (form, number) = user.strip_prefix("broken-")?.split_once('-')?;
    Some((form.parse().ok()?, number.parse().ok()?))
}

fn script(asked: &Asked) -> Vec<Act> {
    let body = asked.json();
    let user = body.get("user").and_then(Value::as_str).unwrap_or_default();
    let broken = broken_of(user).and_then(|(form, number)| Some((FORMS.get(form)?, number)));
    if let Some((form, number)) = broken {
        return (form.answer)(asked, number);
    }
    let mut acts = vec![Act::Pause(TAKES)];
    acts.extend(ordinary(asked));
    acts
}

async fn play(setting: &Setting, variant: Variant) -> Result<Outcome, Trouble> {
    let mut config = Config::limitless(Vec::new(), OTHERS + MANY);
    for account in &mut config.accounts {
        account.more.push_str(", tiers: [priority, regular]");
    }
    config.deployment = ", slo: { ttft_ms: 300, tpot_ms: 100 }, limit: 8".to_owned();
    let fleet = Fleet::start(setting, "b1", config, &[script as Script; REPLICAS]).await?;
    let mut outcome = Outcome::default();
    for at in 0..FORMS.len() {
        form(setting, &fleet, variant, at, &mut outcome).await?;
    }
    let times = fleet.times_sent();
    outcome.sent_again =
        times.iter().filter(|(user, times)| user.starts_with("other-") && **times > 1).count() as u64;
    outcome.broken_sent_max = times
        .iter()
        .filter(|(user, _)| user.starts_with("broken-"))
        .map(|(_, times)| *times)
        .max()
        .unwrap_or(0);
    let sent = times.keys().filter(|user| user.starts_with("broken-")).count() as u64;
    outcome.broken_unsent = outcome.broken.saturating_sub(sent);
    Ok(outcome)
}

/// Plays one form: the broken ones, the others beside them, and looks at the replicas.
async fn form(
    setting: &Setting,
    fleet: &Fleet,
    variant: Variant,
    at: usize,
    outcome: &mut Outcome,
) -> Result<(), Trouble> {
    let Some(form) = FORMS.get(at) else { return Ok(()) };
    let target = fleet.gateway.address;
    let before = fleet.failures().await?;
    let count = setting.size(5, 200);
    let broken = paced(BROKEN_PER_S, count, |number| {
        let key = format!("key-{}", OTHERS + number as usize % variant.accounts);
        ask(target, form.path, key, broken_body(form, at, number, variant.pinned))
    });
    let per_broken = OTHERS_PER_S / BROKEN_PER_S;
    let others = paced(OTHERS_PER_S, (count as f64 * per_broken) as u64, |number| {
        ask(target, CHAT, format!("key-{}", number as usize % OTHERS), other_body(at, number))
    });
    let (looks, out) = (Cell::new(0u64), Cell::new(0u64));
    let mut admin = Admin::open(fleet.gateway.admin).await?;
    let looking = async {
        loop {
            let absent = replicas_out(&mut admin).await?;
            looks.set(looks.get() + 1);
            out.set(out.get() + u64::from(!absent.is_empty()));
            tokio::time::sleep(LOOK).await;
        }
    };
    let both = async { tokio::join!(broken, others) };
    let (broken, others) = tokio::select! {
        both = both => both,
        ended = looking => return ended,
    };
    let mut told: BTreeMap<String, u32> = BTreeMap::new();
    for got in &broken {
        *told.entry(format!("{got:?}")).or_default() += 1;
    }
    let refused = others.iter().filter(|got| matches!(got, Got::Status(429 | 503))).count() as u64;
    let served = others.iter().filter(|got| **got == Got::Served).count() as u64;
    let failed = others.len() as u64 - served - refused;
    let after = fleet.failures().await?;
    let counted: u64 = after.values().sum::<u64>() - before.values().sum::<u64>();
    outcome.others += others.len() as u64;
    outcome.refused += refused;
    outcome.failed += failed;
    outcome.broken += broken.len() as u64;
    outcome.looks += looks.get();
    outcome.out += out.get();
    outcome.details.push(json!({
        "form": form.name, "broken": broken.len(), "told": told, "others": others.len(), "refused": refused,
        "failed": failed, "counted_against_replicas": counted, "looks_with_a_replica_out": out.get(),
    }));
    Ok(())
}

fn broken_body(form: &forms::Form, at: usize, number: u64, pinned: bool) -> String {
    let asks = match form.path {
        "/v1/responses" => json!({ "input": format!("{number}: is the tide in?"), "max_output_tokens": 16 }),
        _ => json!({
            "messages": [{ "role": "user", "content": format!("{number}: is the tide in?") }], "max_tokens": 16,
        }),
    };
    let own = json!({ "model": MODEL, "user": format!("broken-{at}-{number}"), "stream": form.stream });
    let key = if pinned { json!({ "prompt_cache_key": "pinned" }) } else { json!({}) };
    joined([own, asks, key])
}

/// Priority and regular in turn, and of each a stream and a whole answer in turn.
fn other_body(at: usize, number: u64) -> String {
    joined([json!({
        "model": MODEL, "user": format!("other-{at}-{number}"), "stream": (number / 2).is_multiple_of(2), "max_tokens": 16,
        "service_tier": if number.is_multiple_of(2) { "priority" } else { "default" },
        "messages": [{ "role": "user", "content": format!("{number}: is it out in the other harbour?") }],
    })])
}

fn joined<const N: usize>(parts: [Value; N]) -> String {
    let mut all = serde_json::Map::new();
    for part in parts {
        all.extend(part.as_object().cloned().unwrap_or_default());
    }
    Value::Object(all).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_request_names_its_form() {
        assert_eq!(broken_of("broken-11-42"), Some((11, 42)));
        assert_eq!(broken_of("other-1-2"), None);
        let body: Value = serde_json::from_str(&broken_body(&FORMS[3], 3, 7, true)).expect("JSON");
        assert_eq!(body["user"], "broken-3-7");
        assert_eq!((&body["stream"], &body["prompt_cache_key"]), (&json!(true), &json!("pinned")));
    }
}
