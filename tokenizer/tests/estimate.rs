//! The estimator on hand-made requests: what it learns, what it refuses to learn, where it stops.

use proptest::prelude::*;
use tokenizer::{
    ACCOUNT_SAMPLES_MIN, BYTES_PER_TOKEN_MAX, Estimator, Features, TextScan, Weights, estimate, scan,
};

fn request(text: &str) -> Features {
    Features {
        text_bytes: text.len() as u64,
        text: Some(scan(text.as_bytes())),
        messages: 1,
        ..Features::default()
    }
}

const ENGLISH: &str =
    "The river was high after a week of rain, and the ferry did not run until the afternoon. ";
const CHINESE: &str = "下了一个星期的雨，河水涨得很高，渡船直到下午才重新开航。";

#[test]
fn a_new_estimator_is_near_but_not_certain() {
    let model = Estimator::new(Weights::default());

    let found = estimate(&model, None, &request(&ENGLISH.repeat(20)));

    // 20 × 20 words and signs by the o200k_base vocabulary, and the envelope.
    assert!((360..=480).contains(&found.tokens), "{found:?}");
    assert!(!found.certain);
}

#[test]
fn a_text_that_was_not_scanned_counts_as_prose() {
    let model = Estimator::new(Weights::default());
    let text = ENGLISH.repeat(20);
    let unscanned = Features { text: None, ..request(&text) };

    let (scanned, unscanned) = (model.tokens(&request(&text)), model.tokens(&unscanned));

    assert!(scanned.abs_diff(unscanned) * 10 <= scanned, "{scanned} and {unscanned}");
}

#[test]
fn it_learns_an_engine_that_counts_half_again_as_many() {
    let mut model = Estimator::new(Weights::default());
    for length in 1..=60 {
        let request = request(&ENGLISH.repeat(length));
        model.observe(&request, 12 + 29 * length as u32);
    }

    let found = estimate(&model, None, &request(&ENGLISH.repeat(100)));

    assert!(found.tokens.abs_diff(2_912) <= 40, "{found:?}");
    assert!(found.certain);
}

#[test]
fn an_account_tells_of_other_prompts_only_after_enough_requests() {
    let model = Estimator::new(Weights::default());
    let mut account = Estimator::seeded(&model);
    let asked = request(&ENGLISH.repeat(100));
    let before = estimate(&model, None, &asked);
    let doubled = |length: usize| {
        let features = request(&ENGLISH.repeat(length));
        let tokens = 2 * model.tokens(&features);
        (features, tokens)
    };
    for length in 1..ACCOUNT_SAMPLES_MIN as usize {
        let (features, tokens) = doubled(length);
        account.observe(&features, tokens);
    }
    assert_eq!(estimate(&model, Some(&account), &asked), before);

    let (features, tokens) = doubled(ACCOUNT_SAMPLES_MIN as usize);
    account.observe(&features, tokens);

    let after = estimate(&model, Some(&account), &asked);
    assert!(after.tokens > before.tokens * 18 / 10, "{after:?} after {before:?}");
}

#[test]
fn an_account_tells_of_like_prompts_from_the_first() {
    let model = Estimator::new(Weights::default());
    let mut account = Estimator::seeded(&model);
    let asked = |number: u32| request(&format!("{ENGLISH} Answer in {number} words."));

    account.observe(&asked(10), 57);

    assert!(estimate(&model, Some(&account), &asked(25)).tokens.abs_diff(57) <= 1);
}

/// The account's estimator knows English only; the model's learnt Chinese from others.
#[test]
fn an_account_that_turns_to_chinese_is_weighed_by_the_model() {
    let mut model = Estimator::new(Weights::default());
    let mut account = Estimator::seeded(&model);
    for length in 1..=100 {
        let (english, chinese) = (request(&ENGLISH.repeat(length)), request(&CHINESE.repeat(length)));
        model.observe(&english, 12 + 20 * length as u32);
        model.observe(&chinese, 12 + 40 * length as u32);
        account.observe(&english, 12 + 20 * length as u32);
    }

    let found = estimate(&model, Some(&account), &request(&CHINESE.repeat(50)));

    assert!(found.tokens.abs_diff(2_012) <= 60, "{found:?}");
}

#[test]
fn one_absurd_report_does_not_move_an_experienced_estimator() {
    let mut model = Estimator::new(Weights::default());
    let asked = request(&ENGLISH.repeat(50));
    for _ in 0..200 {
        model.observe(&asked, 1_000);
    }

    model.observe(&asked, 40_000);

    assert!(model.tokens(&asked).abs_diff(1_000) <= 20, "{}", model.tokens(&asked));
}

#[test]
fn images_and_tools_weigh_what_is_configured() {
    let weights = Weights { per_image: 300.0, bytes_per_tool_token: 5.0, ..Weights::default() };
    let model = Estimator::new(weights);
    let plain = Features { messages: 1, ..Features::default() };
    let rich = Features { images: 2, tool_bytes: 1_000, ..plain.clone() };

    assert_eq!(model.tokens(&rich) - model.tokens(&plain), 800);
}

proptest! {
    #[test]
    fn a_text_scanned_in_pieces_counts_as_the_whole(
        text in prop::collection::vec(any::<u8>(), 0..3_000), cuts in prop::collection::vec(0usize..3_000, 0..5)
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.sort_unstable();
        let mut pieces = TextScan::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            pieces.feed(text.get(from..cut).unwrap_or_default());
            from = cut;
        }

        prop_assert_eq!(pieces.classes(), scan(&text));
    }

    #[test]
    fn every_character_is_counted_once(text in "\\PC*") {
        let found = scan(text.as_bytes());

        let blanks = text.chars().filter(|c| " \t\r\n".contains(*c)).count();
        let sum = found.letters + found.digits + found.punctuation + found.latin + found.alphabets
            + found.abugidas + found.signs + found.han + found.hangul + found.astral;
        prop_assert_eq!(sum as usize + blanks, text.chars().count());
    }

    /// Whatever is reported, estimates stay finite and between their bounds.
    #[test]
    fn hostile_reports_leave_an_estimator_sane(
        reports in prop::collection::vec((any::<u32>(), 0usize..12, 0u32..5, any::<u32>()), 0..100)
    ) {
        let mut model = Estimator::new(Weights::default());
        for (tokens, length, images, tool_bytes) in reports {
            let text = if tokens % 2 == 0 { ENGLISH } else { CHINESE }.repeat(length);
            model.observe(&Features { images, tool_bytes: u64::from(tool_bytes), ..request(&text) }, tokens);
        }

        let asked = request(&ENGLISH.repeat(100));
        let tokens = model.tokens(&asked);
        prop_assert!(f64::from(tokens) >= (asked.text_bytes as f64 / BYTES_PER_TOKEN_MAX).floor());
        prop_assert!(u64::from(tokens) <= asked.text_bytes + 200);
        prop_assert_eq!(estimate(&model, Some(&model), &asked).tokens.max(1), estimate(&model, None, &asked).tokens.max(1));
    }
}
