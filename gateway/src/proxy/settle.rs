//! The end of an answered request: what it used, as [`gateway_core::settlement`] decides, and what everyone learns from it.
//! Nobody learns from what cannot be.

use crate::clock;
use crate::proxy::pipeline::Request;
use crate::proxy::relay::Answered;
use crate::telemetry::record::Record;
use crate::upstream::admission::Place;
use crate::upstream::deployment::Deployment;
use gateway_core::settlement::{self, Possible, Told, Weighed};
use limits::Used;
use protocol::answer::text;
use protocol::answer::usage::Usage;
use shedder::Finished;

/// The answer came to its own end: budget and place are settled, and the averages learn.
pub fn answered(
    request: &Request<'_>,
    deployment: &Deployment,
    place: Place,
    answered: &Answered,
    record: &mut Record,
) {
    let told = answered.usage.map(|usage| of_all(request, deployment, usage, answered));
    let answered = &Answered { usage: believed(request, told, answered, record), ..*answered };
    let used = charge(request, answered, true, record);
    let cached = answered.usage.and_then(|usage| usage.cached);
    if let Some(usage) = answered.usage {
        learn(request, deployment, usage.prompt, usage.generated, answered.chunks);
        prompt_is_cached(request, deployment, &place, Some(usage.prompt).filter(|&tokens| tokens > 0));
        deployment.bytes_per_token.learn(|average| average.after(answered.text_bytes, usage.generated));
        let replica = place.permit().replica.0;
        deployment.prefixes.record_answer(&request.weight, replica, usage.generated, usage.cached);
    }
    let now = clock::now();
    place.finish(&Finished {
        generated: used.generated.min(u64::from(u32::MAX)) as u32,
        content_chunks: answered.chunks,
        cached: cached.map(|cached| cached.min(u64::from(u32::MAX)) as u32),
        duration_of_answer: (!request.call.stream).then(|| now.saturating_sub(record.dispatched_at())),
    });
}

/// The usage of all choices and prompts, where the engine tells that of one: what was counted of a stream; of a whole
/// answer as much for each, because nothing else is known.
fn of_all(request: &Request<'_>, deployment: &Deployment, usage: Usage, answered: &Answered) -> Usage {
    let call = request.call;
    if !deployment.config.engine.counts_one_choice() || call.choices < 2 || !call.api.form().has_output {
        return usage;
    }
    let all = if call.stream {
        u64::from(answered.chunks)
    } else {
        usage.generated.saturating_mul(call.choices.into())
    };
    let weighed = if call.prompts.count > 1 { u64::from(request.weight.prompt) } else { 0 };
    Usage { generated: usage.generated.max(all), prompt: usage.prompt.max(weighed), ..usage }
}

/// The answer broke off after its first token: the budget is settled by what was proven. The place is the
/// caller's to end.
pub fn broken_off(request: &Request<'_>, answered: &Answered, record: &mut Record) {
    let answered = &Answered { usage: believed(request, answered.usage, answered, record), ..*answered };
    charge(request, answered, false, record);
}

/// What the engine told, if it can be; the record is marked where something in it cannot.
fn believed(
    request: &Request<'_>,
    told: Option<Usage>,
    answered: &Answered,
    record: &mut Record,
) -> Option<Usage> {
    let counted = counted(answered, request.live.ledger().prompt().tokens_per_chunk);
    let possible = possible(request);
    let believed = told.and_then(|usage| {
        let told = possible.of(told_by(&usage), counted);
        let Told { prompt, cached, generated } = told;
        told.is_any().then_some(Usage { prompt, cached, generated, ..usage })
    });
    record.usage_anomalous =
        told.is_some_and(|usage| usage.anomalous || usage.prompt == 0) || believed != told;
    believed
}

/// The client left before anything of the answer was seen. If it was to come as a whole, the engine generated until then, and
/// nobody knows how much: the `chunks` that one answer of it has by the pace of the others are charged. The place is the
/// caller's to end.
pub fn left_unseen(request: &Request<'_>, chunks: Option<f64>, record: &mut Record) {
    let now = weighed_now(request);
    let call = request.call;
    let tokens_per_chunk = request.live.ledger().prompt().tokens_per_chunk;
    let tokens = chunks.filter(|_| call.api.form().has_output).unwrap_or(0.0) * tokens_per_chunk;
    // Rounded down: what was not seen is not charged in doubt.
    let each = call.max_tokens.map_or(tokens, |max| tokens.min(max.into())).floor();
    let generated = settlement::of_choices(each, call.choices, request.model.usual.get().tokens());
    let used = Used { prompt: now.prompt, uncached_prompt: now.uncached, generated, finished: false };
    request.live.ledger().settle(&used);
    record.used(&used, None, true);
}

/// The prompt as weighed at admission.
fn weighed(request: &Request<'_>) -> Weighed {
    request.live.ledger().prompt().weighed()
}

/// The prompt by what was learnt since it was admitted: without the engine's usage its weight is final, and a process that
/// has just started knows much more when a client leaves than when it came.
fn weighed_now(request: &Request<'_>) -> Weighed {
    let weighed = weighed(request);
    let weight = &request.weight;
    match weight.features.as_ref().filter(|_| weight.text.is_none()) {
        Some(features) => {
            weighed.anew(request.model.weigher.tokens(request.account.number, features).tokens.into())
        }
        None => weighed,
    }
}

fn charge(request: &Request<'_>, answered: &Answered, finished: bool, record: &mut Record) -> Used {
    let answer = settlement::Answer {
        told: answered.usage.map(|usage| told_by(&usage)),
        counted: counted(answered, request.live.ledger().prompt().tokens_per_chunk),
        runs: answered.running.is_some(),
        finished,
    };
    let used = answer.used(weighed(request), weighed_now(request));
    // An answer without output teaches nothing of how long answers are.
    let used = Used { finished: used.finished && request.call.api.form().has_output, ..used };
    request.live.ledger().settle(&used);
    record.finish_reason = answered.finish;
    record.used(&used, answered.usage.and_then(|usage| usage.cached), answered.usage.is_none());
    used
}

fn told_by(usage: &Usage) -> Told {
    Told { prompt: usage.prompt, cached: usage.cached, generated: usage.generated }
}

/// Generated tokens as counted here: what the engine told while it generated, else its chunks, or the text of a whole answer
/// by the bytes that a token of this deployment usually has.
fn counted(answered: &Answered, tokens_per_chunk: f64) -> u64 {
    if let Some(running) = answered.running {
        return running;
    }
    if answered.text_bytes > 0 {
        return text::estimated_tokens(answered.text_bytes, answered.bytes_per_token);
    }
    (f64::from(answered.chunks) * tokens_per_chunk).round() as u64
}

fn possible(request: &Request<'_>) -> Possible {
    let call = request.call;
    Possible {
        prompt_max: call.prompt_tokens_max(),
        images: request.weight.features.as_ref().map_or(0, |features| u64::from(features.images)),
        max_tokens: call.max_tokens.map(u64::from),
        choices: call.choices.into(),
    }
}

fn learn(request: &Request<'_>, deployment: &Deployment, prompt: u64, generated: u64, chunks: u32) {
    // 0 is a number that was not told, or cannot be.
    if let Some(features) = request.weight.features.as_ref().filter(|_| prompt > 0) {
        request.model.weigher.learn(request.account.number, features, prompt);
    }
    if let (Some(counter), Some(text), true) =
        (request.model.weigher.exact(), &request.weight.text, prompt > 0)
    {
        counter.learn(text, prompt);
    }
    if request.call.api.form().has_output && generated > 0 {
        let each = generated / u64::from(request.call.choices.max(1));
        request.model.usual.learn(|average| average.after(each));
    }
    deployment.tokens_per_chunk.learn(|average| average.after(generated, chunks));
}

/// The place's replica has this prompt in its cache from now on; `tokens` once they are counted.
pub fn prompt_is_cached(request: &Request<'_>, deployment: &Deployment, place: &Place, tokens: Option<u64>) {
    let replica = place.permit().replica.0;
    deployment.prefixes.record(clock::now(), &request.weight.keys, replica, tokens);
}
