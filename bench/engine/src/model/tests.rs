//! What the scheduler promises, step by step and under random load.

use proptest::prelude::*;

use super::*;
use crate::behaviour::{Behaviour, Lag, Pause};
use crate::profile::{INSTANT, LLAMA_8B_A100};

/// 16-token blocks, 40 of them, 64 tokens and 4 sequences per step, no time in the API server.
fn small() -> Profile {
    Profile { api_ms: 0.0, kv_tokens: 640, step_tokens_max: 64, sequences_max: 4, ..LLAMA_8B_A100 }
}

fn request(id: u64, prompt_tokens: u32, output_tokens: u32) -> EngineRequest {
    EngineRequest { id, prompt_tokens, output_tokens, block_hashes: Vec::new() }
}

/// A prompt whose blocks are those of `family`.
fn shared(id: u64, family: u64, prompt_tokens: u32, output_tokens: u32) -> EngineRequest {
    let block_hashes = (0..u64::from(prompt_tokens / 16)).map(|block| family * 1000 + block).collect();
    EngineRequest { id, prompt_tokens, output_tokens, block_hashes }
}

/// Makes one step; its events.
fn step(engine: &mut EngineModel) -> Vec<Event> {
    let mut events = Vec::new();
    if let Some(at) = engine.next_step_at() {
        engine.step(at, &mut events);
    }
    events
}

/// Makes steps until nothing is left; all events.
fn drain(engine: &mut EngineModel) -> Vec<Event> {
    let mut events = Vec::new();
    let mut steps = 0;
    while let Some(at) = engine.next_step_at() {
        engine.step(at, &mut events);
        steps += 1;
        assert!(steps < 100_000, "the engine never comes to rest");
    }
    events
}

fn tokens_of(events: &[Event], of: u64) -> u32 {
    events
        .iter()
        .map(|event| {
            if let Event::Token { id, n } = event
                && *id == of
            {
                *n
            } else {
                0
            }
        })
        .sum()
}

#[test]
fn a_long_prompt_is_prefilled_in_chunks_of_the_step_budget() {
    let mut engine = EngineModel::new(small());
    engine.submit(Duration::ZERO, request(1, 150, 2)).expect("it fits");

    step(&mut engine); // begins 64
    step(&mut engine); // 64 done, begins 64
    step(&mut engine); // 128 done, begins 22
    let first = step(&mut engine);
    let second = step(&mut engine);

    assert_eq!(first, [Event::Token { id: 1, n: 1 }]);
    assert_eq!(second[0], Event::Token { id: 1, n: 1 });
    let usage = Usage { prompt_tokens: 150, cached_tokens: 0, completion_tokens: 2, prefill_tokens: 150 };
    assert_eq!(second[1], Event::Finished { id: 1, usage });
    assert_eq!(engine.counters().steps, 4);
}

#[test]
fn decoding_requests_go_before_prefill_and_share_its_steps() {
    let mut engine = EngineModel::new(small());
    engine.submit(Duration::ZERO, request(1, 10, 20)).expect("it fits");
    step(&mut engine);
    step(&mut engine); // 1 has its first token
    engine.submit(engine.next_step_at().expect("a step"), request(2, 100, 1)).expect("it fits");

    step(&mut engine); // begins: 1 token of 1, 63 of 2
    step(&mut engine); // begins: 1 token of 1, 37 of 2
    let events = step(&mut engine);

    assert_eq!(tokens_of(&events, 1), 1);
    assert_eq!(tokens_of(&events, 2), 1, "100 tokens are 63 + 37");
}

#[test]
fn the_time_of_a_step_is_the_profiles() {
    let mut engine = EngineModel::new(LLAMA_8B_A100);
    engine.submit(Duration::ZERO, request(1, 1155, 1)).expect("it fits");

    let events = drain(&mut engine);

    assert_eq!(events.len(), 2);
    let expected = LLAMA_8B_A100.idle_prefill(1155) - Duration::from_nanos(15_600_000);
    assert_eq!(engine.counters().busy, expected);
}

#[test]
fn the_last_admitted_is_preempted_and_comes_back_first() {
    let mut engine = EngineModel::new(small());
    for id in 1..=3 {
        engine.submit(Duration::ZERO, request(id, 200, 150)).expect("it fits");
    }

    let events = drain(&mut engine);

    let preempted: Vec<u64> = events
        .iter()
        .filter_map(|event| if let Event::Preempted { id } = event { Some(*id) } else { None })
        .collect();
    assert!(!preempted.is_empty(), "3 x 350 tokens do not fit into 640");
    assert!(!preempted.contains(&1), "the first is never the last while others run");
    for id in 1..=3 {
        assert_eq!(tokens_of(&events, id), 150, "nothing is delivered twice");
    }
    let counters = engine.counters();
    assert_eq!(counters.preemptions, preempted.len() as u64);
    assert!(counters.prefill_tokens > 600, "a preempted request computes again");
    assert_eq!(counters.prompt_tokens, 600);
}

#[test]
fn nothing_is_admitted_in_a_step_that_preempted() {
    let mut engine = EngineModel::new(Profile { step_tokens_max: 1000, ..small() });
    engine.submit(Duration::ZERO, request(1, 300, 100)).expect("it fits");
    engine.submit(Duration::ZERO, request(2, 300, 100)).expect("it fits");
    let mut events = step(&mut engine);
    while !events.iter().any(|event| matches!(event, Event::Preempted { .. })) {
        events = step(&mut engine);
    }
    let before = engine.gauges();

    assert_eq!((before.running, before.waiting), (1, 1), "room for 300 tokens was freed, and not given away");
}

#[test]
fn a_cached_prefix_is_not_computed_but_its_last_token_is() {
    let mut engine = EngineModel::new(small());
    engine.submit(Duration::ZERO, shared(1, 7, 64, 1)).expect("it fits");
    drain(&mut engine);

    engine.submit(Duration::ZERO, shared(2, 7, 64, 1)).expect("it fits");
    let events = drain(&mut engine);

    let usage = Usage { prompt_tokens: 64, cached_tokens: 48, completion_tokens: 1, prefill_tokens: 16 };
    assert_eq!(
        events.last(),
        Some(&Event::Finished { id: 2, usage }),
        "the fourth block is computed for its last token"
    );
    assert_eq!(engine.counters().prefill_tokens, 64 + 16);
}

#[test]
fn a_full_cache_forgets_the_end_of_a_prompt_before_its_beginning() {
    let mut engine = EngineModel::new(small());
    engine.submit(Duration::ZERO, shared(1, 1, 320, 1)).expect("it fits");
    drain(&mut engine);
    engine.submit(Duration::ZERO, shared(2, 2, 480, 1)).expect("it fits");
    drain(&mut engine);

    engine.submit(Duration::ZERO, shared(3, 1, 320, 1)).expect("it fits");
    let events = drain(&mut engine);

    let Some(Event::Finished { usage, .. }) = events.last() else { panic!("it finishes") };
    assert_eq!(usage.cached_tokens, 160, "40 blocks less 30 of the second leave the first ten");
}

#[test]
fn four_tokens_per_step_arrive_as_four() {
    let mut engine = EngineModel::new(Profile { decode_tokens: 4, ..small() });
    engine.submit(Duration::ZERO, request(1, 10, 10)).expect("it fits");

    let events = drain(&mut engine);

    let chunks: Vec<u32> = events
        .iter()
        .filter_map(|event| if let Event::Token { n, .. } = event { Some(*n) } else { None })
        .collect();
    assert_eq!(chunks, [1, 4, 4, 1]);
}

#[test]
fn an_instant_engine_answers_in_the_same_moment() {
    let mut engine = EngineModel::new(INSTANT);
    let now = Duration::from_secs(5);
    engine.submit(now, request(1, 1000, 300)).expect("it fits");
    let mut events = Vec::new();

    while let Some(at) = engine.next_step_at() {
        assert_eq!(at, now);
        engine.step(at, &mut events);
    }

    assert_eq!(tokens_of(&events, 1), 300);
}

#[test]
fn an_aborted_request_leaves_nothing_behind_wherever_it_was() {
    let mut engine = EngineModel::new(Profile { api_ms: 5.0, ..small() });
    for id in 1..=6 {
        engine.submit(Duration::ZERO, request(id, 100, 50)).expect("it fits");
    }
    for _ in 0..6 {
        step(&mut engine);
    }
    let now = engine.next_step_at().expect("a step");
    engine.submit(now, request(7, 10, 1)).expect("it fits");

    let running = engine.abort(now, 1).expect("it runs");
    let waiting = engine.abort(now, 6).expect("it waits");
    let arriving = engine.abort(now, 7).expect("it arrives");

    assert!(running.completion_tokens > 0);
    assert_eq!((waiting.prefill_tokens, arriving.prefill_tokens), (0, 0));
    assert_eq!(engine.abort(now, 1), None, "only once");
    let events = drain(&mut engine);
    assert_eq!(tokens_of(&events, 1), 0, "nobody is there to receive it");
    let counters = engine.counters();
    assert_eq!((counters.aborted, counters.finished), (3, 4));
    assert_eq!(counters.aborted_generated_tokens, u64::from(running.completion_tokens));
}

#[test]
fn what_can_never_fit_is_refused_and_so_is_one_too_many() {
    let mut engine = EngineModel::with_requests_max(small(), 2);

    assert_eq!(
        engine.submit(Duration::ZERO, request(1, 600, 41)),
        Err(Refusal::TooLarge { tokens: 641, kv_tokens: 640 })
    );
    engine.submit(Duration::ZERO, request(2, 600, 40)).expect("exactly fits");
    engine.submit(Duration::ZERO, request(3, 1, 1)).expect("the second");
    assert_eq!(engine.submit(Duration::ZERO, request(4, 1, 1)), Err(Refusal::Busy { requests: 2 }));
}

#[derive(Debug, Clone)]
enum Act {
    Submit { family: u64, prompt: u32, output: u32 },
    Abort { nth: usize },
    Step,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (0..4_u64, 1..300_u32, 1..80_u32).prop_map(|(family, prompt, output)| Act::Submit { family, prompt, output }),
        1 => (0..20_usize).prop_map(|nth| Act::Abort { nth }),
        8 => Just(Act::Step),
    ];
    prop::collection::vec(act, 1..150)
}

proptest! {
    /// Whatever comes in which order: each request gets exactly its tokens or was aborted, the books add up, every
    /// block comes back, and a second run is the same run.
    #[test]
    fn tokens_and_blocks_are_conserved(acts in acts()) {
        let first = play(&acts)?;
        prop_assert_eq!(first, play(&acts)?);
    }
}

fn play(acts: &[Act]) -> Result<(Vec<Event>, Counters), TestCaseError> {
    let mut engine = EngineModel::new(small());
    let mut events = Vec::new();
    let mut outputs: Vec<(u64, u32)> = Vec::new();
    let mut aborted: Vec<(u64, Usage)> = Vec::new();
    let mut now = Duration::ZERO;
    for (id, act) in (0..).zip(acts) {
        match act {
            Act::Submit { family, prompt, output } => {
                engine.submit(now, shared(id, *family, *prompt, *output)).expect("at most 380 tokens");
                outputs.push((id, *output));
            }
            Act::Abort { nth } => {
                if let Some((id, _)) = outputs.get(*nth) {
                    aborted.extend(engine.abort(now, *id).map(|usage| (*id, usage)));
                }
            }
            Act::Step => {
                now = engine.next_step_at().unwrap_or(now).max(now);
                engine.step(now, &mut events);
            }
        }
    }
    events.extend(drain(&mut engine));

    let mut expected =
        Counters { steps: engine.counters().steps, busy: engine.counters().busy, ..Counters::default() };
    for (id, output) in &outputs {
        let delivered = tokens_of(&events, *id);
        let finished = events.iter().find_map(|event| match event {
            Event::Finished { id: of, usage } if of == id => Some(*usage),
            _ => None,
        });
        match (finished, aborted.iter().find(|(of, _)| of == id)) {
            (Some(usage), None) => {
                prop_assert_eq!(delivered, *output);
                prop_assert_eq!(usage.completion_tokens, *output);
                // A preempted request may find on its return what another one computed meanwhile.
                if !events.contains(&Event::Preempted { id: *id }) {
                    prop_assert_eq!(
                        usage.prefill_tokens,
                        u64::from(usage.prompt_tokens - usage.cached_tokens)
                    );
                }
                expected.finished += 1;
                expected.prefill_tokens += usage.prefill_tokens;
            }
            (None, Some((_, usage))) => {
                prop_assert_eq!(delivered, usage.completion_tokens);
                expected.aborted += 1;
                expected.aborted_generated_tokens += u64::from(delivered);
            }
            other => prop_assert!(false, "request {} ended as {:?}", id, other),
        }
        expected.generated_tokens += u64::from(delivered);
    }
    let counters = engine.counters();
    prop_assert_eq!(counters.finished, expected.finished);
    prop_assert_eq!(counters.aborted, expected.aborted);
    prop_assert_eq!(counters.generated_tokens, expected.generated_tokens);
    prop_assert_eq!(counters.aborted_generated_tokens, expected.aborted_generated_tokens);
    prop_assert_eq!(counters.prefill_tokens, expected.prefill_tokens + counters.aborted_prefill_tokens);
    prop_assert_eq!(engine.gauges(), Gauges::default(), "everything came back");
    Ok((events, counters))
}

/// The moments at which somebody hears of `of`, in ms, and how many tokens each time.
fn heard(engine: &mut EngineModel, of: u64) -> Vec<(f64, u32)> {
    let mut heard = Vec::new();
    let mut events = Vec::new();
    while let Some(at) = engine.next_step_at() {
        engine.step(at, &mut events);
        for event in events.drain(..) {
            if let Event::Token { id, n } = event
                && id == of
            {
                heard.push((at.as_secs_f64() * 1e3, n));
            }
        }
    }
    heard
}

fn behaving(behaviour: Behaviour) -> EngineModel {
    EngineModel::new(Profile { behaviour, ..LLAMA_8B_A100 })
}

/// The first token of a lone request, ms.
fn first_of(behaviour: Behaviour, prompt: u32) -> f64 {
    let mut engine = behaving(behaviour);
    engine.submit(Duration::ZERO, request(1, prompt, 3)).expect("it fits");
    heard(&mut engine, 1)[0].0
}

#[test]
fn lag_transfer_and_way_delay_a_first_token_and_speed_stretches_it() {
    let plain = first_of(Behaviour::PLAIN, 1_000);
    let lag = Lag { mean_ms: 300.0, cv: 0.0 };
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 0.01, "{found}, {expected}");

    close(first_of(Behaviour { lag, ..Behaviour::PLAIN }, 1_000), plain + 300.0);
    close(first_of(Behaviour { transfer_us_per_token: 50.0, ..Behaviour::PLAIN }, 1_000), plain + 50.0);
    close(first_of(Behaviour { way_ms: 100.0, ..Behaviour::PLAIN }, 1_000), plain + 200.0);
    close(first_of(Behaviour { api_us_per_token: 20.0, ..Behaviour::PLAIN }, 1_000), plain + 20.0);
    let api = LLAMA_8B_A100.api_ms;
    close(first_of(Behaviour { speed: 0.5, ..Behaviour::PLAIN }, 1_000) - api, 2.0 * (plain - api));
}

/// Later events of a request stay as far behind as the first: nothing overtakes.
#[test]
fn delayed_events_keep_their_order_and_their_gaps() {
    let gaps = |behaviour| {
        let mut engine = behaving(behaviour);
        engine.submit(Duration::ZERO, request(1, 1_000, 20)).expect("it fits");
        engine.submit(Duration::ZERO, request(2, 10, 20)).expect("it fits");
        let heard = heard(&mut engine, 1);
        heard.windows(2).map(|pair| pair[1].0 - pair[0].0).collect::<Vec<_>>()
    };
    let plain = gaps(Behaviour::PLAIN);
    let delayed = gaps(Behaviour { transfer_us_per_token: 200.0, way_ms: 30.0, ..Behaviour::PLAIN });
    assert_eq!(plain.len(), 19);
    assert!(plain.iter().zip(&delayed).all(|(a, b)| (a - b).abs() < 0.01), "{plain:?} {delayed:?}");
}

#[test]
fn tokens_of_several_steps_come_at_once_but_for_the_first_and_the_last() {
    let mut engine = behaving(Behaviour { steps_per_event: 4, ..Behaviour::PLAIN });
    engine.submit(Duration::ZERO, request(1, 10, 10)).expect("it fits");
    let tokens: Vec<u32> = heard(&mut engine, 1).into_iter().map(|(_, n)| n).collect();
    assert_eq!(tokens, [1, 4, 4, 1]);
}

#[test]
fn with_prompts_first_no_answer_goes_on_while_one_is_computed() {
    let run = |prefill_first| {
        let behaviour = Behaviour { prefill_first, ..Behaviour::PLAIN };
        let mut engine = EngineModel::new(Profile { behaviour, ..small() });
        engine.submit(Duration::ZERO, request(1, 10, 20)).expect("it fits");
        step(&mut engine);
        step(&mut engine); // 1 has its first token
        engine.submit(engine.next_step_at().expect("a step"), request(2, 150, 1)).expect("it fits");
        step(&mut engine); // what was begun before
        tokens_of(&[step(&mut engine), step(&mut engine)].concat(), 1)
    };
    assert_eq!((run(false), run(true)), (2, 0));
}

#[test]
fn the_order_inside_is_the_one_that_was_asked_for() {
    let order_of = |order| {
        let behaviour = Behaviour { order, ..Behaviour::PLAIN };
        let mut engine = EngineModel::new(Profile { behaviour, sequences_max: 1, ..small() });
        for id in 1..=8 {
            engine.submit(Duration::ZERO, request(id, 10, 2)).expect("it fits");
        }
        let ended = drain(&mut engine).into_iter();
        ended
            .filter_map(|event| if let Event::Finished { id, .. } = event { Some(id) } else { None })
            .collect::<Vec<_>>()
    };
    assert_eq!(order_of(Order::FirstCome), (1..=8).collect::<Vec<_>>());
    assert_eq!(order_of(Order::LastCome), (1..=8).rev().collect::<Vec<_>>());
    let random = order_of(Order::Random);
    assert_eq!(random.len(), 8, "everybody is served");
    assert!(random != order_of(Order::FirstCome) && random != order_of(Order::LastCome), "{random:?}");
}

#[test]
fn a_draft_that_is_wrong_is_computed_and_not_told() {
    let behaviour = Behaviour { acceptance: 0.5, ..Behaviour::PLAIN };
    let mut engine = EngineModel::new(Profile { behaviour, decode_tokens: 4, ..LLAMA_8B_A100 });
    engine.submit(Duration::ZERO, request(1, 10, 400)).expect("it fits");
    let heard = heard(&mut engine, 1);
    assert_eq!(heard.iter().map(|(_, n)| n).sum::<u32>(), 400);
    // 1 + 0.5 + 0.25 + 0.125 tokens a step.
    let per_step = 400.0 / heard.len() as f64;
    assert!((1.7..2.05).contains(&per_step), "{per_step}");
}

/// Of eight prompts that are computed in one step, some are told before one that came earlier, and each as often as plainly.
#[test]
fn the_tokens_of_one_step_come_in_any_order() {
    let firsts = |any_order: bool| {
        let mut engine = behaving(Behaviour { any_order, ..Behaviour::PLAIN });
        for id in 1..=8 {
            engine.submit(Duration::ZERO, request(id, 20, 3)).expect("room");
        }
        let events = drain(&mut engine);
        let tokens: Vec<u64> = events
            .iter()
            .filter_map(|event| match event {
                Event::Token { id, .. } => Some(*id),
                _ => None,
            })
            .collect();
        assert_eq!(tokens.len(), 24);
        tokens[..8].to_vec()
    };
    assert_eq!(firsts(false), (1..=8).collect::<Vec<_>>());
    let mut mixed = firsts(true);
    assert_ne!(mixed, (1..=8).collect::<Vec<_>>());
    mixed.sort_unstable();
    assert_eq!(mixed, (1..=8).collect::<Vec<_>>());
}

proptest! {
    /// Whatever an engine does besides, everybody is told all tokens, once, and in order of their own.
    #[test]
    fn oddities_lose_nothing(
        requests in prop::collection::vec((1u32..300, 1u32..60, 0u64..400), 1..20),
        (speed, lag, share, order) in (0.1f64..3.0, 0.0f64..500.0, 0.0f64..1.0, 0u8..3),
        (pause, stall, graph, eager) in (0.0f64..400.0, 0.0f64..0.5, 0u32..9, 1u32..6),
        (prefill_first, any_order, acceptance, steps, transfer)
            in (any::<bool>(), any::<bool>(), 0.0f64..1.0, 1u32..6, 0.0f64..100.0),
    ) {
        let behaviour = Behaviour {
            speed,
            lag: Lag { mean_ms: lag, cv: 0.7 },
            some_lag: (share, Lag { mean_ms: 200.0, cv: 0.0 }),
            api_us_per_token: 30.0,
            api_us_per_event: 40.0,
            transfer_us_per_token: transfer,
            way_ms: 20.0,
            pause: Some(Pause { every_ms: 500.0, ms: pause }),
            stall: (stall, 50.0),
            graph_sequences: graph,
            eager: Some((eager, 1.5)),
            order: [Order::FirstCome, Order::LastCome, Order::Random][usize::from(order)],
            prefill_first,
            acceptance,
            steps_per_event: steps,
            any_order,
        };
        let mut engine = EngineModel::new(Profile { behaviour, decode_tokens: 3, ..small() });
        let mut events = Vec::new();
        for (id, (prompt, output, after)) in (1u64..).zip(&requests) {
            let at = Duration::from_millis(*after);
            while let Some(due) = engine.next_step_at().filter(|due| *due < at) {
                engine.step(due, &mut events);
            }
            let _ = engine.submit(at, request(id, *prompt, *output));
        }
        events.extend(drain(&mut engine));
        let finished = events.iter().filter(|event| matches!(event, Event::Finished { .. })).count() as u64;
        prop_assert_eq!(finished, engine.counters().finished);
        for (id, (prompt, output, _)) in (1u64..).zip(&requests) {
            let fits = (prompt + output).div_ceil(16) <= 40;
            prop_assert_eq!(tokens_of(&events, id), if fits { *output } else { 0 });
        }
    }
}
