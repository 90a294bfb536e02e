//! The estimator over sequences of observations: like prompts teach what they weigh, and harm nothing else.
//!
//! Estimators are used as a gateway uses them: one of the model that observes everything, and one of each account,
//! seeded from the model's when the account is first seen.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tokenizer::{Counter, Estimate, Estimator, Features, TextClasses, Vocabulary, Weights, estimate, scan};

/// What a gateway keeps for one model.
struct Gateway {
    model: Estimator,
    accounts: BTreeMap<u64, Estimator>,
}

impl Gateway {
    fn new() -> Self {
        Self { model: Estimator::new(Weights::default()), accounts: BTreeMap::new() }
    }

    fn estimate(&self, account: u64, features: &Features) -> Estimate {
        estimate(&self.model, self.accounts.get(&account), features)
    }

    fn tokens(&self, account: u64, features: &Features) -> u32 {
        self.estimate(account, features).tokens
    }

    fn observe(&mut self, account: u64, features: &Features, tokens: u32) {
        self.model.observe(features, tokens);
        let seed = Estimator::seeded(&self.model);
        self.accounts.entry(account).or_insert(seed).observe(features, tokens);
    }
}

/// A chat of one message, as it stands in a request.
fn chat(text: &str) -> Features {
    let messages = format!("[{{\"role\":\"user\",\"content\":\"{text}\"}}");
    Features {
        text_bytes: messages.len() as u64,
        text: Some(scan(messages.as_bytes())),
        messages: 1,
        ..Features::default()
    }
}

fn chat_with_image(text: &str) -> Features {
    Features { images: 1, ..chat(text) }
}

/// Tokens that the engine's template puts around a message.
const ENVELOPE: u32 = 11;

fn assert_near(found: u32, real: u32, share: f64, name: &str) {
    let off = f64::from(found.abs_diff(real));
    assert!(off <= (share * f64::from(real)).max(2.0), "{name}: {found} for {real}");
}

const ENGLISH: &str =
    "The river was high after a week of rain, and the ferry did not run until the afternoon. ";

/// 300 like prompts of 23 tokens, then others of 14.
fn after_like_prompts(account: u64) -> Gateway {
    let mut gateway = Gateway::new();
    for number in 0..300 {
        gateway.observe(account, &chat(&number.to_string()), 23);
    }
    gateway
}

#[test]
fn case_w01_like_prompts_do_not_make_the_estimate_diverge() {
    let mut gateway = after_like_prompts(1);
    let first = chat("tide 0");
    let mut off = gateway.tokens(1, &first).abs_diff(14);
    assert!(off <= Gateway::new().tokens(1, &first).abs_diff(14).max(2), "{off} tokens off before");
    for number in 0..100 {
        gateway.observe(1, &chat(&format!("tide {number}")), 14);
        let after = gateway.tokens(1, &first).abs_diff(14);
        assert!(after <= off, "{after} tokens off, after {off}, at {number}");
        off = after;
    }
    assert!(off <= 1, "{off} tokens off after 100");
    assert_near(gateway.tokens(1, &chat("7")), 23, 0.05, "the first");
}

/// Others get what a gateway would say that has seen nothing, or what is right to an eighth.
#[test]
fn case_w01_like_prompts_of_one_account_do_not_reach_the_others() {
    let engine = Counter::new(Vocabulary::Cl100kBase).unwrap();
    let real = |text: &str| engine.count(text) + ENVELOPE;
    let like = ["Write one short sentence about number N.", "tide N", "N", "request N of item N in list N"];
    for one in like {
        for two in like {
            let mut gateway = Gateway::new();
            for text in [one, two] {
                for number in 0..300 {
                    let text = text.replace('N', &number.to_string());
                    gateway.observe(1, &chat(&text), real(&text));
                }
            }
            for length in [1, 10, 100, 300] {
                let text = ENGLISH.repeat(length);
                let fresh = Gateway::new().tokens(2, &chat(&text)).abs_diff(real(&text));
                let found = gateway.tokens(2, &chat(&text));
                let allowed = fresh.max(real(&text) / 8).max(2);
                let off = found.abs_diff(real(&text));
                assert!(off <= allowed, "{one}, {two}, {length}: {off} tokens off, allowed {allowed}");
            }
        }
    }
}

#[test]
fn case_w02_a_picture_after_like_prompts_weighs_what_a_picture_weighs() {
    let mut gateway = after_like_prompts(1);
    for number in 0..300 {
        gateway.observe(1, &chat(&format!("tide {number}")), 14);
    }
    let sound = Features { other_parts: 1, ..chat("Describe it.") };
    for (part, name) in [(chat_with_image("Describe it."), "a picture"), (sound, "a sound")] {
        let fresh = Gateway::new().tokens(2, &part);
        for account in [1, 2] {
            assert_near(gateway.tokens(account, &part), fresh, 0.1, name);
        }
    }
}

/// Text teaches nothing of pictures, and pictures nothing of text.
#[test]
fn pictures_of_any_size_leave_text_alone() {
    let text = chat(&ENGLISH.repeat(40));
    let mut gateway = Gateway::new();
    let fresh = gateway.tokens(2, &text);
    for number in 0..300u32 {
        gateway.observe(1, &chat_with_image("Describe it."), 70 + number * 37 % 8_000);
    }

    assert_near(gateway.tokens(2, &text), fresh, 0.1, "text after pictures");
}

#[test]
fn an_account_that_was_seen_before_is_remembered_through_other_prompts() {
    let mut gateway = Gateway::new();
    let known = [("ping", 30), ("Count to 10.", 17), ("0 0 0 0 0 0 0 0", 40)];
    for (text, tokens) in known {
        for _ in 0..60 {
            gateway.observe(1, &chat(text), tokens);
        }
    }
    for number in 0..2_000usize {
        let text = ENGLISH.repeat(1 + number % 17);
        gateway.observe(1 + number as u64 % 2, &chat(&text), 900 + 20 * (number % 17) as u32);
    }

    for (text, tokens) in known {
        assert_near(gateway.tokens(1, &chat(text)), tokens, 0.05, text);
    }
}

#[test]
fn reports_that_cannot_be_teach_nothing() {
    let mut gateway = after_like_prompts(1);
    let asked = chat("7");
    for lie in [0, u32::MAX, 1_000_000, 5_000] {
        gateway.observe(1, &asked, lie);
        assert_near(gateway.tokens(1, &asked), 23, 0.05, "after a lie");
    }
}

/// Tokens that one shape has too many are its template's, and its template is that of others. Their text is not.
#[test]
fn a_lie_about_one_shape_does_not_double_another() {
    for tokens in [1, 2, 5, 60, 100, 400] {
        let mut gateway = Gateway::new();
        for _ in 0..1_000 {
            gateway.observe(1, &chat("tide 0"), tokens);
        }
        for length in [5, 50, 300] {
            let text = chat(&ENGLISH.repeat(length));
            let fresh = Gateway::new();
            let template = f64::from(tokens) - f64::from(fresh.tokens(1, &chat("tide 0")));
            let [found, fresh] = [&gateway, &fresh].map(|gateway| f64::from(gateway.tokens(2, &text)));
            let (low, high) = (0.67 * (fresh + template.min(0.0)), 1.5 * (fresh + template.max(0.0)));
            assert!((low..=high).contains(&found), "{tokens}: {found}, fresh {fresh}");
        }
    }
}

fn any_classes() -> impl Strategy<Value = (u64, TextClasses)> {
    let texts = prop_oneof![
        Just("tide "),
        Just(ENGLISH),
        Just("下了一个星期的雨，"),
        Just("if (a[i] != 0x7f) { return -1; }\n"),
        Just("{\"id\": 17, \"tags\": [null, true]},\n"),
        Just("\n\n    \t"),
        Just("Привет, мир! "),
        Just("🙂"),
        Just("한국어 "),
        Just("9876543210"),
        Just("_____"),
        Just("XYZ")
    ];
    prop::collection::vec((texts, 1usize..40), 0..3).prop_map(|parts| {
        let text: String = parts.into_iter().map(|(text, times)| text.repeat(times)).collect();
        (text.len() as u64, scan(text.as_bytes()))
    })
}

fn any_features() -> impl Strategy<Value = Features> {
    let counts = (0u32..4, prop_oneof![Just(0u64), 0u64..20_000], 0u32..3, 0u32..3);
    (any_classes(), counts).prop_map(|((text_bytes, text), (messages, tool_bytes, images, other_parts))| {
        Features { text_bytes, text: Some(text), messages, tool_bytes, images, other_parts }
    })
}

/// Tokens as truthful as a vocabulary can be, or anything at all.
fn any_tokens() -> impl Strategy<Value = u32> {
    prop_oneof![1u32..40, 1u32..3_000, 1u32..200_000, any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// The invariant: observing the same once more never leads away from it, whatever was observed before.
    #[test]
    fn like_observations_never_lead_away(
        shapes in prop::collection::vec(any_features(), 1..6),
        blocks in prop::collection::vec((0u64..3, any::<prop::sample::Index>(), any_tokens(), 1usize..60), 1..25),
    ) {
        let mut gateway = Gateway::new();
        for (account, shape, tokens, times) in blocks {
            let features = shape.get(&shapes);
            let mut off = gateway.tokens(account, features).abs_diff(tokens);
            let mut of_model = gateway.tokens(99, features).abs_diff(tokens);
            for time in 0..times {
                gateway.observe(account, features, tokens);
                let after = gateway.tokens(account, features).abs_diff(tokens);
                prop_assert!(after <= off, "{after} off after {off}, at {time} for {tokens}: {features:?}");
                off = after;
                let model = gateway.tokens(99, features).abs_diff(tokens);
                prop_assert!(model <= of_model, "model: {model} off after {of_model}, at {time} for {tokens}");
                of_model = model;
            }
        }
    }

    /// Whatever was observed, by whomever.
    #[test]
    fn estimates_are_bounded(
        blocks in prop::collection::vec((0u64..3, any_features(), any_tokens(), 1usize..40), 1..25),
        asked in any_features(),
    ) {
        let mut gateway = Gateway::new();
        for (account, features, tokens, times) in blocks {
            for _ in 0..times {
                gateway.observe(account, &features, tokens);
            }
        }
        let bytes = asked.text_bytes as f64;
        let rest = 8.0 + 4.0 * f64::from(asked.messages) + asked.tool_bytes as f64 / 3.9
            + 1_024.0 * f64::from(asked.images) + 500.0 * f64::from(asked.other_parts);
        for account in [0, 99] {
            let found = f64::from(gateway.tokens(account, &asked));
            prop_assert!(found >= (bytes / 12.0).floor() && found <= bytes + 10.0 * rest + 1.0, "{found}");
        }
    }

    /// One shape of one account, however often and with whatever count a vocabulary can have for it, moves others by
    /// not much more than it is off itself.
    #[test]
    fn one_shape_of_one_account_teaches_others_little(
        shape in any_features(), off in 0.3f64..3.0, times in 1usize..600, asked in any_features(),
    ) {
        let mut gateway = Gateway::new();
        let tokens = (f64::from(gateway.tokens(1, &shape)) * off).round().max(1.0);
        let fresh = f64::from(gateway.tokens(2, &asked));
        for _ in 0..times {
            gateway.observe(1, &shape, tokens as u32);
        }
        let found = f64::from(gateway.tokens(2, &asked));
        let (low, high) = (fresh * off.min(1.0) / 1.5 - 4.0, fresh * off.max(1.0) * 1.5 + 4.0);
        prop_assert!((low..=high).contains(&found), "{found}, fresh {fresh}, taught {off}");
    }
}
