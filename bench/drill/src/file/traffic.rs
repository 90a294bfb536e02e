//! The traffic of a scenario file: rates that move, sizes, traces, and how clients behave.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::resolve::{Resolver, Step};
use super::{DrillFile, FormatFile, LoadFile, PromptsFile, TraceFile, TrafficFile, fleet};
use crate::scenario::fleet::{Deployment, Model};
use crate::scenario::trace::{self, Format, Trace};
use crate::scenario::{Accounts, Client, Prefixes, Retry, Senders, Source};
use crate::script::Group;
use engine::workload::Workload;

/// Names that an error lists.
const NAMES_MAX: usize = 20;
/// Requests that one drill may offer.
const REQUESTS_MAX: f64 = 20_000_000.0;

/// A source with its name.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) source: Source,
}

/// Deployments, models, and whether they are those of a config.
type Played<'a> = (&'a [Deployment], &'a [Model], bool);

pub(super) fn sources(file: &DrillFile, played: Played<'_>, resolver: &mut Resolver<'_>) -> Vec<Named> {
    let mut named: Vec<Named> = Vec::new();
    for (nth, file) in file.traffic.iter().flatten().enumerate() {
        let at = [Step::Key("traffic"), Step::Item(nth)];
        let name = file.name.clone().unwrap_or_default();
        if named.iter().any(|other| other.name == name) {
            let path = [at[0], at[1], Step::Key("name")];
            resolver.fault(&path, format!("another traffic is called `{name}` already; choose another"));
        }
        let source = source(file, &at, played, resolver);
        named.push(Named { name, source });
    }
    let end = resolver.end;
    let requests: f64 = named.iter().map(|named| offered(&named.source, end)).sum();
    // Whoever does not say how long is told that.
    if requests > REQUESTS_MAX && end < Duration::MAX {
        let message = format!(
            "offers about {requests:.0} requests, more than {REQUESTS_MAX:.0}; lower rates or shorten the drill"
        );
        resolver.fault(&[Step::Key("traffic")], message);
    }
    named
}

/// Requests that a source is expected to offer until `end`.
#[must_use]
pub fn offered(source: &Source, end: Duration) -> f64 {
    if let Some(trace) = &source.trace {
        return trace.asks.iter().filter(|ask| ask.at < end).count() as f64;
    }
    let mut sum = 0.0;
    let (mut from, mut factor) = (Duration::ZERO, 1.0);
    for (at, next) in source.steps.iter().copied().chain([(end, 0.0)]) {
        let until = at.min(end);
        sum += source.rate_per_s * factor * until.saturating_sub(from).as_secs_f64();
        (from, factor) = (until.max(from), next);
    }
    sum
}

/// The model that traffic asks for, and the largest prompt that all of its deployments take.
///
/// `names_models`: a trace does.
fn model(
    file: &TrafficFile,
    at: &[Step],
    ((deployments, models, configured), names_models): (Played<'_>, bool),
    resolver: &mut Resolver<'_>,
) -> (u16, u32) {
    let named = file.model.as_deref().map(|name| models.iter().position(|model| model.name == name));
    let index = match named {
        Some(_) if !configured => {
            resolver.fault(at, "is a model of a config; play the scenario with --config, or leave it out");
            0
        }
        Some(Some(index)) => index,
        None if models.len() == 1 || names_models => 0,
        Some(None) | None => {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).take(NAMES_MAX).collect();
            let what = file
                .model
                .as_deref()
                .map_or("has to be named".to_owned(), |name| format!("`{name}` is not one that is played"));
            let there_are = fleet::there_are(&names, resolver.places.models.as_deref());
            resolver.fault(at, format!("the model {what}; {there_are}"));
            0
        }
    };
    let routes = models.get(index).into_iter().flat_map(|model| &model.routes);
    let contexts =
        routes.filter_map(|route| Some(deployments.get(usize::from(route.deployment))?.profile.context));
    (index as u16, contexts.min().unwrap_or(u32::MAX))
}

fn source(file: &TrafficFile, at: &[Step; 2], played: Played<'_>, resolver: &mut Resolver<'_>) -> Source {
    let [list, entry] = *at;
    let key = |name: &'static str| [list, entry, Step::Key(name)];
    let trace = file.trace.as_ref().and_then(|file| read(file, at, played, resolver));
    let names_models = trace.as_ref().is_some_and(|trace| trace.asks.iter().all(|ask| ask.model.is_some()));
    let (model, context) = model(file, &key("model"), (played, names_models), resolver);
    if file.trace.is_some() {
        for (name, given) in
            [("rate_per_s", file.rate_per_s.is_some()), ("workload", file.workload.is_some())]
        {
            if given {
                resolver.fault(&key(name), "a trace says this already; remove one of the two");
            }
        }
        if !file.load.is_empty() {
            resolver.fault(&key("load"), "a trace has its own rate; use its `speed`");
        }
    } else if file.rate_per_s.is_none() {
        resolver.fault(at, "needs rate_per_s (requests per second) or a trace");
    }
    if file.each_account.is_some() {
        for (name, given) in [("cv", file.cv.is_some()), ("trace", file.trace.is_some())] {
            if given {
                resolver.fault(&key(name), "`each_account` says when requests come; remove one of the two");
            }
        }
    }
    let workload = file.workload.as_deref().unwrap_or("azure");
    let workload = workload.parse().unwrap_or_else(|error| {
        resolver.fault(&key("workload"), format!("{error}"));
        Workload::Azure
    });
    if let Workload::Fixed(size) = workload
        && size.prompt_tokens.saturating_add(size.output_tokens) > context
    {
        let message = format!("does not fit into the context window of {context} tokens");
        resolver.fault(&key("workload"), message);
    }
    if file.priority.unwrap_or(0.0) + file.flex.unwrap_or(0.0) > 1.0 {
        resolver
            .fault(&key("flex"), "is with `priority` more than all requests; together they are at most 1");
    }
    let retry = file.retry.as_ref();
    Source {
        rate_per_s: file.rate_per_s.unwrap_or(0.0),
        cv: file.cv.unwrap_or(1.0),
        senders: file.each_account.as_ref().map(|each| Senders {
            cv: each.cv.unwrap_or(4.0),
            length_spread: each.length_spread.unwrap_or(0.5),
        }),
        steps: steps(&file.load, at, resolver),
        model,
        accounts: group(file, trace.as_ref(), at, resolver),
        priority: file.priority.unwrap_or(0.0),
        flex: file.flex.unwrap_or(0.0),
        streaming: file.streaming.unwrap_or(1.0),
        workload,
        context,
        prefixes: file
            .prompts
            .as_ref()
            .map_or(Prefixes::None, |file| prefixes(file, &key("prompts"), resolver)),
        client: Client {
            retry: retry
                .map(|file| Retry { tries: file.tries.unwrap_or(2), obeys: file.obeys.unwrap_or(true) }),
            patience: file.patience_s.map(Duration::from_secs_f64),
        },
        trace: trace.map(Arc::new),
    }
}

/// Whose the requests are. The accounts of an access log that the scenario does not name become accounts without limit.
fn group(file: &TrafficFile, trace: Option<&Trace>, at: &[Step; 2], resolver: &mut Resolver<'_>) -> Accounts {
    let [list, entry] = *at;
    let named = trace.is_some_and(|trace| !trace.accounts.is_empty());
    let fallback = Accounts { first: 0, count: 1, zipf: 0.0 };
    let Some(id) = &file.accounts else {
        if !named {
            resolver.fault(at, "needs `accounts`: the id of those that send it");
        }
        return fallback;
    };
    match resolver.group(id) {
        Some(group) => Accounts { first: group.first, count: group.count, zipf: group.zipf },
        None => {
            let message = resolver.no_group(id);
            resolver.fault(&[list, entry, Step::Key("accounts")], message);
            fallback
        }
    }
}

fn read(file: &TraceFile, at: &[Step; 2], played: Played<'_>, resolver: &mut Resolver<'_>) -> Option<Trace> {
    let [list, entry] = *at;
    let path = [list, entry, Step::Key("trace"), Step::Key("file")];
    let name = file.file.as_deref()?;
    let format = match file.format? {
        FormatFile::Azure => Format::Azure,
        FormatFile::Mooncake => Format::Mooncake,
        FormatFile::AccessLog => Format::AccessLog,
    };
    let bytes = (resolver.read)(Path::new(name), trace::BYTES_MAX + 1);
    let text = match bytes.map(String::from_utf8) {
        Ok(Ok(text)) if text.len() <= trace::BYTES_MAX => text,
        Ok(Ok(_)) => {
            resolver.fault(&path, format!("is larger than {} bytes; cut it", trace::BYTES_MAX));
            return None;
        }
        Ok(Err(_)) => {
            resolver.fault(&path, "is not UTF-8 text; is it compressed?");
            return None;
        }
        Err(error) => {
            resolver.fault(&path, format!("`{name}` cannot be read: {error}"));
            return None;
        }
    };
    match Trace::read(&text, format, file.speed.unwrap_or(1.0)) {
        Ok(mut trace) => {
            number(&mut trace, resolver);
            number_models(&mut trace, played);
            if trace.asks.is_empty() {
                resolver.fault(&path, format!("`{name}` asks for no model that is played"));
            }
            Some(trace)
        }
        Err(error) => {
            resolver.fault(&path, format!("`{name}`, {error}"));
            None
        }
    }
}

/// Gives the models of a trace the numbers of the drill. What asks for a model that is not played is left out; where no
/// config says which there are, all ask for the one.
fn number_models(trace: &mut Trace, (_, models, configured): Played<'_>) {
    let numbers: Vec<Option<u16>> = trace
        .models
        .iter()
        .map(|name| models.iter().position(|model| model.name == *name).map(|index| index as u16))
        .collect();
    trace.asks.iter_mut().for_each(|ask| {
        ask.model = ask.model.filter(|_| configured);
    });
    trace.asks.retain_mut(|ask| match ask.model {
        None => true,
        Some(named) => {
            ask.model = numbers.get(usize::from(named)).copied().flatten();
            ask.model.is_some()
        }
    });
}

/// Gives the accounts of a trace the numbers of the drill.
fn number(trace: &mut Trace, resolver: &mut Resolver<'_>) {
    let mut numbers = Vec::with_capacity(trace.accounts.len());
    for id in &trace.accounts {
        let known = resolver.group(id).map(|group| group.first);
        numbers.push(known.unwrap_or_else(|| {
            let first = resolver.groups.last().map_or(0, |group| group.first + group.count);
            resolver.groups.push(Group { id: id.clone(), first, count: 1, zipf: 0.0, limits: None });
            first
        }));
    }
    for ask in &mut trace.asks {
        ask.account = ask.account.and_then(|account| numbers.get(account as usize).copied());
    }
}

fn prefixes(file: &PromptsFile, path: &[Step], resolver: &mut Resolver<'_>) -> Prefixes {
    let given = [file.system_prompts, file.pool, file.continued_percent].into_iter().flatten().count();
    if given != 1 {
        resolver.fault(path, "needs exactly one of system_prompts, pool and continued_percent");
    }
    if file.system_tokens.is_some() && file.system_prompts.is_none() {
        resolver.fault(path, "system_tokens says how long system_prompts are; how many are there?");
    }
    match (file.system_prompts, file.pool, file.continued_percent) {
        (Some(groups), ..) => Prefixes::System { groups, tokens: file.system_tokens.unwrap_or(1000) },
        (_, Some(prompts), _) => Prefixes::Pool { prompts },
        (.., Some(continued)) => Prefixes::Conversations { continued },
        _ => Prefixes::None,
    }
}

/// Steps, ramps and bursts as steps. A ramp takes one each second.
fn steps(load: &[LoadFile], at: &[Step; 2], resolver: &mut Resolver<'_>) -> Vec<(Duration, f64)> {
    let [list, entry] = *at;
    let mut steps = Vec::new();
    let (mut factor, mut free_from) = (1.0, 0.0);
    for (nth, change) in load.iter().enumerate() {
        let path = [list, entry, Step::Key("load"), Step::Item(nth)];
        let (from, to) = (change.at_s.unwrap_or(0.0), change.factor.unwrap_or(1.0));
        resolver.moment(&path, from);
        if from < free_from {
            resolver.fault(
                &path,
                format!("begins before the one above has ended, at {free_from} s; put them in order"),
            );
        }
        let over = change.over_s.unwrap_or(0.0);
        let whole = over.ceil().max(1.0);
        for second in 0..whole as u32 {
            let share = if over > 0.0 { (f64::from(second) + 0.5) / whole } else { 1.0 };
            let when = from + over * f64::from(second) / whole;
            steps.push((Duration::from_secs_f64(when), factor + (to - factor) * share));
        }
        steps.push((Duration::from_secs_f64(from + over), to));
        free_from = from + over;
        match change.for_s {
            Some(length) => {
                free_from += length;
                steps.push((Duration::from_secs_f64(free_from), factor));
            }
            None => factor = to,
        }
    }
    steps.dedup_by(|next, before| {
        next.0 == before.0 && {
            before.1 = next.1;
            true
        }
    });
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(at_s: f64, factor: f64, over_s: Option<f64>, for_s: Option<f64>) -> LoadFile {
        LoadFile { at_s: Some(at_s), factor: Some(factor), over_s, for_s }
    }

    fn compiled(load: &[LoadFile]) -> (Vec<(f64, f64)>, usize) {
        let read = |_: &Path, _: usize| Ok(Vec::new());
        let end = Duration::from_secs(100);
        let mut resolver =
            Resolver { read: &read, faults: Vec::new(), groups: Vec::new(), end, places: Default::default() };
        let steps = steps(load, &[Step::Key("traffic"), Step::Item(0)], &mut resolver);
        (steps.into_iter().map(|(at, factor)| (at.as_secs_f64(), factor)).collect(), resolver.faults.len())
    }

    #[test]
    fn a_burst_ends_where_it_began_and_a_step_stays() {
        let load = [
            change(10.0, 5.0, None, Some(2.0)),
            change(20.0, 3.0, None, None),
            change(30.0, 9.0, None, Some(1.0)),
        ];
        let expected = vec![(10.0, 5.0), (12.0, 1.0), (20.0, 3.0), (30.0, 9.0), (31.0, 3.0)];
        assert_eq!(compiled(&load), (expected, 0));
    }

    #[test]
    fn a_ramp_rises_every_second_and_ends_at_its_factor() {
        let expected = vec![(10.0, 1.5), (11.0, 2.5), (12.0, 3.0)];
        assert_eq!(compiled(&[change(10.0, 3.0, Some(2.0), None)]), (expected, 0));
    }

    #[test]
    fn changes_out_of_order_or_after_the_end_are_faults() {
        assert_eq!(compiled(&[change(10.0, 2.0, Some(10.0), None), change(15.0, 1.0, None, None)]).1, 1);
        assert_eq!(compiled(&[change(101.0, 2.0, None, None)]).1, 1);
    }

    #[test]
    fn what_is_offered_is_the_area_below_the_rate() {
        let source = Source {
            rate_per_s: 2.0,
            steps: vec![(Duration::from_secs(10), 3.0), (Duration::from_secs(20), 0.0)],
            ..crate::settings::Setting::CHAT.source(1.0)
        };
        assert_eq!(offered(&source, Duration::from_secs(15)), 2.0 * 10.0 + 6.0 * 5.0);
        assert_eq!(offered(&source, Duration::from_secs(50)), 2.0 * 10.0 + 6.0 * 10.0);
    }
}
