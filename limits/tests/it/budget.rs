//! The life of a request: reserve, charge, settle, release.

use crate::common::*;
use limits::{Ask, Meter, PerMeter, Used};

#[test]
fn a_reservation_takes_room_in_all_three_meters_and_release_gives_all_of_it_back() {
    let mut budget = fixed([1_000, 500, 400], 1_000);
    let ask = Ask {
        prompt: 300,
        uncached_prompt: 200,
        max_generated: Some(50),
        choices: 2,
        usual_of_model: Some(200),
    };

    let reservation = budget.reserve(secs(0), &ask).unwrap();
    assert_eq!(budget.reserved(), PerMeter { prompt: 300, uncached_prompt: 200, generated: 100 });
    assert_eq!(
        budget.view(secs(0)).map(|v| v.remaining),
        PerMeter { prompt: 700, uncached_prompt: 300, generated: 300 }
    );

    budget.release(secs(1), reservation);
    assert_at_rest(&budget);
    assert_eq!(
        budget.view(secs(1)).map(|v| v.remaining),
        PerMeter { prompt: 1_000, uncached_prompt: 500, generated: 400 }
    );
}

#[test]
fn a_prompt_is_charged_once_at_its_first_token() {
    let mut budget = fixed([1_000; 3], 1_000);
    let mut reservation = budget.reserve(secs(0), &prompt(300)).unwrap();

    budget.charge_prompt(secs(2), &mut reservation);
    budget.charge_prompt(secs(3), &mut reservation);

    let view = budget.view(secs(3)).prompt;
    assert_eq!((view.used, view.reserved, view.remaining), (300, 0, 700));
    budget.settle(secs(4), reservation, &used(300, 0));
    assert_eq!(budget.view(secs(4)).prompt.used, 300);
    assert_at_rest(&budget);
}

#[test]
fn a_stream_uses_up_its_reserve_before_it_takes_more() {
    let mut budget = fixed([1_000; 3], 1_000);
    let mut reservation = budget.reserve(secs(0), &output(100)).unwrap();

    budget.charge_generated(secs(1), &mut reservation, 60);
    assert_eq!(budget.view(secs(1)).generated.remaining, 900, "60 used, 40 reserved");
    budget.charge_generated(secs(2), &mut reservation, 60);
    assert_eq!(budget.view(secs(2)).generated.remaining, 880, "120 used");

    settle_as_charged(&mut budget, secs(3), reservation);
    assert_eq!(budget.view(secs(3)).generated.remaining, 880);
    assert_at_rest(&budget);
}

/// The engine counts tokens, the gateway counted chunks: the engine is right.
#[test]
fn the_engines_usage_corrects_all_three_meters_in_both_directions() {
    for (prompt, uncached, generated) in [(250, 100, 90), (350, 300, 130), (0, 0, 0)] {
        let mut budget = fixed([1_000; 3], 1_000);
        let ask = Ask { prompt: 300, uncached_prompt: 200, max_generated: Some(100), ..Ask::default() };
        let mut reservation = budget.reserve(secs(0), &ask).unwrap();
        budget.charge_prompt(secs(1), &mut reservation);
        for second in 1..=11 {
            budget.charge_generated(secs(second), &mut reservation, 10);
        }

        let truth = Used { prompt, uncached_prompt: uncached, generated, finished: true };
        budget.settle(secs(12), reservation, &truth);

        let used = budget.view(secs(12)).map(|v| v.used + v.debt);
        assert_eq!(used, PerMeter { prompt, uncached_prompt: uncached, generated });
        assert_at_rest(&budget);
    }
}

/// A credit that comes when its charge has left the minute would be room out of nothing.
#[test]
fn a_late_credit_is_dropped_and_a_late_debit_is_charged_now() {
    let mut budget = fixed([1_000; 3], 1_000);
    let mut too_much = budget.reserve(secs(0), &prompt(400)).unwrap();
    budget.charge_prompt(secs(0), &mut too_much);
    let mut too_little = budget.reserve(secs(0), &prompt(400)).unwrap();
    budget.charge_prompt(secs(0), &mut too_little);
    spend_prompt(&mut budget, secs(70), 100);

    budget.settle(secs(71), too_much, &used(100, 0));
    assert_eq!(budget.view(secs(71)).prompt.used, 100, "the credit of 300 is dropped");

    budget.settle(secs(71), too_little, &used(450, 0));
    assert_eq!(budget.view(secs(71)).prompt.used, 150, "the debit of 50 is charged now");
}

#[test]
fn finished_answers_teach_what_is_usual_and_broken_ones_do_not() {
    let mut budget = fixed([10_000; 3], 10_000);
    let ask = Ask { choices: 2, usual_of_model: Some(500), ..Ask::default() };

    let reservation = budget.reserve(secs(0), &ask).unwrap();
    budget.settle(secs(1), reservation, &Used { generated: 30, finished: false, ..Used::default() });
    assert_eq!(budget.usual(), limits::USUAL_UNKNOWN);

    let reservation = budget.reserve(secs(0), &ask).unwrap();
    budget.settle(secs(1), reservation, &Used { generated: 2_000, finished: true, ..Used::default() });
    assert_eq!(budget.usual(), 550, "from the model's 500 a tenth of the way to 1000 per choice");
}

#[test]
fn the_meter_that_takes_longest_is_named() {
    let mut budget = fixed([1_000, 500, 400], 1_000);
    spend_prompt(&mut budget, secs(0), 450);
    spend_prompt(&mut budget, secs(30), 50);

    let refusal =
        budget.reserve(secs(40), &Ask { prompt: 600, uncached_prompt: 500, ..Ask::default() }).unwrap_err();

    assert_eq!(refusal.meter, Meter::UncachedPrompt, "prompt has room at 60 s, uncached prompt at 90 s");
    assert_eq!((refusal.limit, refusal.used, refusal.asked), (500, 500, 500));
    assert_eq!(refusal.retry_after, Some(ms(50_250)));
    assert_eq!(refusal.to_string(), "uncached-prompt tokens: limit 500 per minute, 500 used, 500 asked");
}
