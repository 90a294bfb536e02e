//! B2: what one replica of four costs that has not got the model, answers 500 to everything, or has another key.
//!
//! Requests with bodies of their own come steadily, half of them streams. None may be lost; the replica must soon have
//! less than a twentieth of what is sent for that model, counted in every second; the operator must be told by a metric,
//! the log and an alert; and a model that the replica has must not notice.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::fleet::{Fleet, Got, Script, Sent, ask, paced, replicas_out};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::harness::tidegate::{Admin, Config, MODEL};
use engine::clock;
use kit::hostile::{Act, Asked, ordinary};

pub(crate) const PROOF: Proof = Proof {
    id: "B2",
    what: "a replica of four without the model, with 500 to all, with 401: requests lost; until it gets < 5 %; told by \
           metric, log, alert; its other models",
    goal: "0 of 10,000 each; ≤2 s; all three; untouched",
    quick_s: 6,
    full_s: 310,
    needs: "",
    run,
};

const PER_S: f64 = 100.0;
/// The small size is denser, so that it is shorter.
const PER_S_QUICK: f64 = 150.0;
const OTHER_MODEL_PER_S: f64 = 20.0;
const OTHER: &str = "sim-too";
const CHAT: &str = "/v1/chat/completions";
/// What an answer takes.
const TAKES: Duration = Duration::from_millis(30);
/// The replica that is at fault.
const BAD: usize = 0;
const REPLICAS: usize = 4;
/// Over which its share is taken.
const WINDOW: Duration = Duration::from_secs(1);
const SHARE_MAX: f64 = 0.05;
const QUIET_MAX: Duration = Duration::from_secs(2);
/// Failures a second above which the alert `TidegateUpstreamErrors` fires, when that holds for minutes. `TidegateModelMissing`
/// fires at any failure of the kind `absent` that comes again.
const ALERT_PER_S: f64 = 0.1;

/// A way to be at fault.
#[derive(Debug)]
struct Fault {
    name: &'static str,
    script: Script,
    /// Whether it serves its other models.
    serves_others: bool,
}

const FAULTS: [Fault; 3] = [
    Fault { name: "without the model", script: without_model, serves_others: true },
    Fault { name: "500", script: failing, serves_others: false },
    Fault { name: "401", script: locked, serves_others: false },
];

fn good(asked: &Asked) -> Vec<Act> {
    let mut acts = vec![Act::Pause(TAKES)];
    acts.extend(ordinary(asked));
    acts
}

fn without_model(asked: &Asked) -> Vec<Act> {
    if asked.json().get("model").and_then(Value::as_str) == Some(OTHER) {
        return good(asked);
    }
    let message = format!("The model `{MODEL}` does not exist.");
    let error =
        json!({ "object": "error", "message": message, "type": "NotFoundError", "param": null, "code": 404 });
    vec![Act::Json(404, error)]
}

fn failing(_: &Asked) -> Vec<Act> {
    let error =
        json!({ "code": 500, "message": "CUDA error: an illegal memory access", "type": "server_error" });
    vec![Act::Json(500, json!({ "error": error }))]
}

fn locked(_: &Asked) -> Vec<Act> {
    let error =
        json!({ "message": "Incorrect API key provided", "type": "invalid_request_error", "code": 401 });
    vec![Act::Json(401, json!({ "error": error }))]
}

/// What came of one fault.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    requests: u64,
    lost: u64,
    /// From the first request on; `None`: never.
    quiet: Option<Duration>,
    metric: bool,
    log: bool,
    /// `None`: too short a run to tell.
    alert: Option<bool>,
    /// Of the model that the replica has: lost, and the replica's share.
    others: Option<(u64, f64)>,
    details: Value,
}

impl Outcome {
    fn ok(&self) -> bool {
        let others = self.others.is_none_or(|(lost, share)| lost == 0 && share >= 0.5 / REPLICAS as f64);
        self.lost == 0
            && self.quiet.is_some_and(|quiet| quiet <= QUIET_MAX)
            && self.metric
            && self.log
            && self.alert != Some(false)
            && others
    }

    fn shown(&self) -> String {
        let quiet =
            self.quiet.map_or_else(|| "never".to_owned(), |quiet| format!("{:.2} s", quiet.as_secs_f64()));
        let told = [("metric", Some(self.metric)), ("log", Some(self.log)), ("alert", self.alert)];
        let untold: Vec<&str> =
            told.iter().filter(|(_, told)| *told == Some(false)).map(|(name, _)| *name).collect();
        let told = if untold.is_empty() { "told".to_owned() } else { format!("no {}", untold.join(", no ")) };
        let others = self.others.map_or_else(String::new, |(lost, share)| {
            format!(", its other model {lost} lost, {:.0} % on it", share * 100.0)
        });
        format!("{}: {} of {} lost, {quiet}, {told}{others}", self.name, self.lost, self.requests)
    }
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let mut outcomes = Vec::new();
    setting.block_on(async {
        for fault in &FAULTS {
            outcomes.push(play(setting, fault).await?);
        }
        Ok(())
    })?;
    let figures: Vec<String> = outcomes.iter().map(Outcome::shown).collect();
    Ok(Finding {
        figure: figures.join("; "),
        goal: PROOF.goal.to_owned(),
        ok: outcomes.iter().all(Outcome::ok),
        details: json!({ "faults": outcomes.iter().map(|outcome| &outcome.details).collect::<Vec<_>>() }),
    })
}

async fn play(setting: &Setting, fault: &Fault) -> Result<Outcome, Trouble> {
    let config = Config { more_models: vec![OTHER], ..Config::limitless(Vec::new(), 4) };
    let mut scripts: [Script; REPLICAS] = [good; REPLICAS];
    if let Some(bad) = scripts.get_mut(BAD) {
        *bad = fault.script;
    }
    let fleet = Fleet::start(setting, "b2", config, &scripts).await?;
    let target = fleet.gateway.address;
    let (per_s, count) = setting.size((PER_S_QUICK, 300), (PER_S, 10_000));
    let seconds = count as f64 / per_s;
    let began = clock::now();
    let requests =
        paced(per_s, count, |number| ask(target, CHAT, format!("key-{}", number % 4), body(MODEL, number)));
    let others = if fault.serves_others { (seconds * OTHER_MODEL_PER_S) as u64 } else { 0 };
    let others = paced(OTHER_MODEL_PER_S, others, |number| {
        ask(target, CHAT, format!("key-{}", number % 4), body(OTHER, number))
    });
    let half = async {
        tokio::time::sleep(Duration::from_secs_f64(seconds / 2.0)).await;
        fleet.failures().await
    };
    let (requests, others, half) = tokio::join!(requests, others, half);
    let after = fleet.failures().await?;
    let of_bad = |failures: &BTreeMap<(String, String), u64>| -> u64 {
        failures.iter().filter(|((replica, _), _)| *replica == BAD.to_string()).map(|(_, count)| count).sum()
    };
    let half = half?;
    let per_s_late = (of_bad(&after) - of_bad(&half)) as f64 / (seconds / 2.0);
    let absent = |failures: &BTreeMap<(String, String), u64>| {
        failures.get(&(BAD.to_string(), "absent".to_owned())).copied().unwrap_or(0)
    };
    let is_absent_late = absent(&after) > absent(&half);
    let out = replicas_out(&mut Admin::open(fleet.gateway.admin).await?).await?;
    let said = fleet.gateway.program.output()?;
    let lost = |all: &[Got]| all.iter().filter(|got| **got != Got::Served).count() as u64;
    let sent = fleet.sent();
    let of_model: Vec<&Sent> = sent.iter().filter(|sent| sent.model == MODEL).collect();
    let of_other: Vec<&Sent> = sent.iter().filter(|sent| sent.model == OTHER).collect();
    let quiet = quiet_from(&of_model, began);
    let outcome = Outcome {
        name: fault.name,
        requests: requests.len() as u64,
        lost: lost(&requests),
        quiet,
        metric: of_bad(&after) > 0,
        log: said.contains("a model server answered with an error"),
        alert: (!setting.quick).then_some(out.contains(&BAD) || per_s_late > ALERT_PER_S || is_absent_late),
        others: fault.serves_others.then(|| (lost(&others), share_of_bad(&of_other))),
        details: json!({
            "fault": fault.name, "requests": requests.len(), "lost": lost(&requests), "per_s": per_s,
            "sent": of_model.len(), "sent_to_it": of_model.iter().filter(|sent| sent.replica == BAD).count(),
            "quiet_from_s": quiet.map(|quiet| quiet.as_secs_f64()), "out_at_the_end": out,
            "failures": after.iter().map(|((replica, kind), count)| json!([replica, kind, count])).collect::<Vec<_>>(),
            "failures_per_s_in_the_second_half": per_s_late,
            "other_model": { "requests": others.len(), "lost": lost(&others), "share": share_of_bad(&of_other) },
        }),
    };
    Ok(outcome)
}

fn body(model: &str, number: u64) -> String {
    json!({
        "model": model, "user": format!("{model}-{number}"), "stream": number.is_multiple_of(2), "max_tokens": 16,
        "messages": [{ "role": "user", "content": format!("{number}: is the tide in?") }],
    })
    .to_string()
}

fn share_of_bad(sent: &[&Sent]) -> f64 {
    let to_it = sent.iter().filter(|sent| sent.replica == BAD).count();
    to_it as f64 / sent.len().max(1) as f64
}

/// The time from `began` after which no second has so much of the traffic for the bad replica. `None`: the last second
/// still has.
fn quiet_from(sent: &[&Sent], began: Duration) -> Option<Duration> {
    let mut quiet = Duration::ZERO;
    let mut first = 0;
    let mut to_it = 0usize;
    for (number, one) in sent.iter().enumerate() {
        to_it += usize::from(one.replica == BAD);
        while let Some(old) = sent.get(first).filter(|old| old.at + WINDOW < one.at) {
            to_it -= usize::from(old.replica == BAD);
            first += 1;
        }
        // One of few is no share.
        let all = number + 1 - first;
        if one.replica == BAD && to_it as f64 >= SHARE_MAX * all as f64 {
            quiet = one.at.saturating_sub(began);
        }
    }
    let end = sent.last()?.at.saturating_sub(began);
    (end >= quiet + WINDOW / 2).then_some(quiet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(ms: u64, replica: usize) -> Sent {
        Sent { at: Duration::from_millis(ms), replica, model: String::new(), user: String::new() }
    }

    #[test]
    fn it_is_quiet_after_the_last_second_with_a_twentieth_for_it() {
        let mut all: Vec<Sent> = (0..300).map(|number| sent(number * 10, 1)).collect();
        for at in [0, 10, 20, 40, 200] {
            all[at].replica = BAD;
        }
        let all: Vec<&Sent> = all.iter().collect();
        assert_eq!(quiet_from(&all, Duration::ZERO), Some(Duration::from_millis(400)), "the fifth of 41");
        let always: Vec<Sent> = (0..300).map(|number| sent(number * 10, (number % 4) as usize)).collect();
        assert_eq!(quiet_from(&always.iter().collect::<Vec<_>>(), Duration::ZERO), None);
    }
}
