//! The end of an answered request: what it used, and what everyone learns from it.
//!
//! Total prompt and generated tokens are the engine's own. Uncached tokens are the smaller of what the engine
//! had to compute and what the best replica would have had to: our routing never costs the account. Where the
//! engine says nothing of its cache, our own estimate counts; where it says nothing at all, or what cannot be, what was
//! weighed and counted. Nobody learns from what cannot be.

use crate::accounts::budget::Prompt;
use crate::clock;
use crate::proxy::pipeline::Request;
use crate::proxy::relay::Answered;
use crate::telemetry::record::Record;
use crate::upstream::admission::Place;
use crate::upstream::deployment::Deployment;
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
        deployment.bytes_per_token.learn(answered.text_bytes, usage.generated);
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
    let believed = told
        .map(|usage| possible(request, usage, counted))
        .filter(|usage| usage.prompt > 0 || usage.generated > 0);
    record.usage_anomalous =
        told.is_some_and(|usage| usage.anomalous || usage.prompt == 0) || believed != told;
    believed
}

/// The client left before anything of the answer was seen. If it was to come as a whole, the engine generated until then, and
/// nobody knows how much: the `chunks` that one answer of it has by the pace of the others are charged. The place is the
/// caller's to end.
pub fn left_unseen(request: &Request<'_>, chunks: Option<f64>, record: &mut Record) {
    let weighed = weighed_now(request);
    let call = request.call;
    let tokens = chunks.filter(|_| call.api.form().has_output).unwrap_or(0.0) * weighed.tokens_per_chunk;
    // Rounded down: what was not seen is not charged in doubt.
    let each = call.max_tokens.map_or(tokens, |max| tokens.min(max.into())).floor();
    let generated = of_choices(each, call.choices, request.model.usual.tokens());
    let used = Used { prompt: weighed.tokens, uncached_prompt: weighed.uncached, generated, finished: false };
    request.live.ledger().settle(&used);
    record.used(&used, None, true);
}

/// Tokens of all choices, where the longest has `longest` and still grows. The others may have ended: of answers that are
/// `usual` tokens long in the mean, and end at any moment as likely as at any other, so many were made by then.
fn of_choices(longest: f64, choices: u32, usual: u64) -> u64 {
    let usual = usual.max(1) as f64;
    let other = usual * (1.0 - (-longest / usual).exp());
    let others = choices.max(1) - 1;
    // A float beyond the range of an integer becomes its largest value.
    (longest + f64::from(others) * other).round() as u64
}

/// The prompt by what was learnt since it was admitted: without the engine's usage its weight is final, and a process that
/// has just started knows much more when a client leaves than when it came.
fn weighed_now(request: &Request<'_>) -> Prompt {
    let weighed = request.live.ledger().prompt();
    let weight = &request.weight;
    let Some(features) = weight.features.as_ref().filter(|_| weight.text.is_none()) else { return weighed };
    let tokens = u64::from(request.model.weigher.tokens(request.account.number, features).tokens);
    let hit = weighed.tokens.saturating_sub(weighed.uncached);
    Prompt { tokens, uncached: tokens.saturating_sub(hit), ..weighed }
}

fn charge(request: &Request<'_>, answered: &Answered, finished: bool, record: &mut Record) -> Used {
    let weighed = request.live.ledger().prompt();
    let hit = weighed.tokens.saturating_sub(weighed.uncached);
    let counted = counted(answered, weighed.tokens_per_chunk);
    let used = match answered.usage {
        Some(usage) => {
            // There is no prompt without a token.
            let prompt = if usage.prompt == 0 { weighed.tokens } else { usage.prompt };
            let by_us = prompt.saturating_sub(hit);
            let cached = usage.cached.filter(|_| usage.prompt > 0);
            let uncached = cached.map_or(by_us, |cached| by_us.min(prompt.saturating_sub(cached)));
            let generated = generated(answered, &usage, counted, finished);
            Used { prompt, uncached_prompt: uncached, generated, finished }
        }
        None => {
            let Prompt { tokens, uncached, .. } = weighed_now(request);
            Used { prompt: tokens, uncached_prompt: uncached, generated: counted, finished }
        }
    };
    // An answer without output teaches nothing of how long answers are.
    let used = Used { finished: used.finished && request.call.api.form().has_output, ..used };
    request.live.ledger().settle(&used);
    record.used(&used, answered.usage.and_then(|usage| usage.cached), answered.usage.is_none());
    used
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

/// Generated tokens: what the engine says, where it says it of the whole answer or of each chunk. Some tell in the middle
/// of a stream only what the prompt cost, with a zero for the rest: then what was counted counts, and an answer with
/// content has not generated nothing.
fn generated(answered: &Answered, usage: &Usage, counted: u64, finished: bool) -> u64 {
    let is_told = (finished || answered.running.is_some()) && usage.generated > 0;
    if is_told { usage.generated } else { usage.generated.max(counted) }
}

/// Template and tools that an engine adds to a prompt, tokens; generous.
const TEMPLATE_TOKENS_MAX: u64 = 16_384;

/// Tokens that one answer may have where the request names no maximum: more than any model's context today.
const GENERATED_MAX: u64 = 1 << 20;

/// The engine's numbers as far as they can be: a token has a byte at least, or an image behind it. One absurd report
/// must not put an account days into debt. A number that cannot be does not throw the others away: it counts as untold,
/// which is 0. Beside a prompt that cannot be, the answer's number is believed only if it is near the `counted` one.
fn possible(request: &Request<'_>, usage: Usage, counted: u64) -> Usage {
    let call = request.call;
    let images = request.weight.features.as_ref().map_or(0, |features| u64::from(features.images));
    let prompt_max = call.prompt_tokens_max() + TEMPLATE_TOKENS_MAX * (1 + images);
    let is_prompt = usage.prompt <= prompt_max;
    let each = call.max_tokens.map_or(GENERATED_MAX, u64::from);
    let near = if is_prompt { u64::MAX } else { counted.saturating_mul(4).saturating_add(1_024) };
    let generated_max =
        each.saturating_mul(call.choices.into()).saturating_add(TEMPLATE_TOKENS_MAX).min(near);
    Usage {
        prompt: if is_prompt { usage.prompt } else { 0 },
        cached: usage.cached.filter(|_| is_prompt),
        generated: if usage.generated <= generated_max { usage.generated } else { 0 },
        ..usage
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
        request.model.usual.learn(generated / u64::from(request.call.choices.max(1)));
    }
    deployment.tokens_per_chunk.learn(generated, chunks);
}

/// The place's replica has this prompt in its cache from now on; `tokens` once they are counted.
pub fn prompt_is_cached(request: &Request<'_>, deployment: &Deployment, place: &Place, tokens: Option<u64>) {
    let replica = place.permit().replica.0;
    deployment.prefixes.record(clock::now(), &request.weight.keys, replica, tokens);
}

#[cfg(test)]
mod tests {
    use super::of_choices;

    #[test]
    fn choices_that_may_have_ended_count_for_less_than_the_one_that_grows() {
        assert_eq!(of_choices(20.4, 1, 5), 20);
        assert_eq!(of_choices(20.0, 3, 1_000_000), 60, "nothing ends so early");
        assert_eq!(of_choices(100.0, 3, 10), 120, "the others ended after ten");
        assert_eq!(of_choices(0.0, 3, 0), 0);
    }
}
